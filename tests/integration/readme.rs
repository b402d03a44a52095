//! The README's reference and its table of the dialect are the code's text. `UPDATE_README=1 cargo test readme` writes them.

use datafusion_ml::sql::{dialect, help};

/// What stands between two marks is `wanted`; written there under `UPDATE_README`.
fn is_between(begin: &str, end: &str, wanted: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let from = text.find(begin).expect("the README has the mark where the part begins") + begin.len();
    let to = text.find(end).expect("the README has the mark where the part ends");
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(&path, format!("{}{wanted}{}", &text[..from], &text[to..])).unwrap();
    } else {
        assert!(
            text[from..to] == *wanted,
            "the README is old after '{}': UPDATE_README=1 cargo test readme",
            begin.trim()
        );
    }
}

#[test]
fn the_readme_is_what_the_code_says() {
    is_between(
        "<!-- dialect: begin; written by `UPDATE_README=1 cargo test readme` -->\n",
        "<!-- dialect: end -->\n",
        &format!("\n{}\n", dialect::markdown()),
    );
    is_between(
        "<!-- reference: begin; written by `UPDATE_README=1 cargo test readme` -->\n",
        "<!-- reference: end -->\n",
        &format!("\n{}\n", help::markdown()),
    );
}
