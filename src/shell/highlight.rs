//! Colours for SQL as it is typed.

use super::completion::KEYWORDS;
use super::lexer::{Kind, tokens};

const KEYWORD: &str = "\x1b[1;34m";
const FUNCTION: &str = "\x1b[33m";
const TEXT: &str = "\x1b[32m";
const NUMBER: &str = "\x1b[36m";
const DIM: &str = "\x1b[2m";
const END: &str = "\x1b[0m";

/// The text with its keywords, functions, strings, numbers and comments in colour.
pub(super) fn highlight(text: &str) -> String {
    if text.starts_with('\\') {
        return text.to_string();
    }
    let all = tokens(text);
    let mut out = String::with_capacity(text.len() * 2);
    for (i, token) in all.iter().enumerate() {
        let own = token.of(text);
        let calls = all[i + 1..]
            .iter()
            .find(|t| t.kind != Kind::Space)
            .is_some_and(|t| t.of(text) == "(");
        let colour = match token.kind {
            Kind::Word if KEYWORDS.binary_search(&own.to_uppercase().as_str()).is_ok() => KEYWORD,
            Kind::Word if calls => FUNCTION,
            Kind::Text => TEXT,
            Kind::Number => NUMBER,
            Kind::Comment => DIM,
            _ => "",
        };
        if colour.is_empty() {
            out.push_str(own);
        } else {
            out.push_str(colour);
            out.push_str(own);
            out.push_str(END);
        }
    }
    out
}

/// The text, faint.
pub(super) fn dim(text: &str) -> String {
    format!("{DIM}{text}{END}")
}

/// The text, bold.
pub(super) fn bold(text: &str) -> String {
    format!("\x1b[1m{text}{END}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_sorted_for_the_search() {
        assert!(KEYWORDS.is_sorted());
    }

    #[test]
    fn each_kind_has_its_colour() {
        assert_eq!(
            highlight("select count(*), 'a', 1 FROM t -- x"),
            format!(
                "{KEYWORD}select{END} {FUNCTION}count{END}(*), {TEXT}'a'{END}, {NUMBER}1{END} {KEYWORD}FROM{END} t {DIM}-- x{END}"
            )
        );
    }
}
