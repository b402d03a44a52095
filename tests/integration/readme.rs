//! The README's reference is the help's text. `UPDATE_README=1 cargo test readme` writes it.

use datafusion_ml::sql::help;

const BEGIN: &str = "<!-- reference: begin; written by `UPDATE_README=1 cargo test readme` -->\n";
const END: &str = "<!-- reference: end -->\n";

#[test]
fn the_reference_is_what_the_code_says() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let begin = text
        .find(BEGIN)
        .expect("the README has the mark where the reference begins")
        + BEGIN.len();
    let end = text
        .find(END)
        .expect("the README has the mark where the reference ends");
    let wanted = format!("\n{}\n", help::markdown());
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(&path, format!("{}{wanted}{}", &text[..begin], &text[end..])).unwrap();
    } else {
        assert!(
            text[begin..end] == wanted,
            "the README's reference is old: UPDATE_README=1 cargo test readme"
        );
    }
}
