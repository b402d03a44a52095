//! Statements and clauses of GoogleSQL that are not taken here: what to write instead, in place of what a parser would say.

use std::ops::Range;

use super::lexer::Kind;
use super::source::{Span, SyntaxError};
use super::tokens::Tokens;

/// A statement by its first words, what it is called, and what to write instead.
struct Refused {
    words: &'static [&'static str],
    name: &'static str,
    instead: &'static str,
}

const fn refused(words: &'static [&'static str], name: &'static str, instead: &'static str) -> Refused {
    Refused { words, name, instead }
}

const ROUNDS: &str =
    "write the statement for each round, or one query over all of them: … FROM UNNEST(GENERATE_ARRAY(1, 10)) AS i";
const CHOICE: &str = "write the statement that is to run, or choose within a query: SELECT IF(condition, a, b)";
const BLOCK: &str = "write its statements one after another, without BEGIN and END";
const NO_TRANSACTION: &str = "leave it out: each statement is done at once";

const STATEMENTS: &[Refused] = &[
    refused(&["BEGIN", "TRANSACTION"], "BEGIN TRANSACTION", NO_TRANSACTION),
    refused(&["BEGIN"], "BEGIN … END", BLOCK),
    refused(&["END", "IF"], "IF … THEN", CHOICE),
    refused(&["END", "WHILE"], "WHILE", ROUNDS),
    refused(&["END", "LOOP"], "LOOP", ROUNDS),
    refused(&["END", "FOR"], "FOR … IN", ROUNDS),
    refused(&["END", "REPEAT"], "REPEAT", ROUNDS),
    refused(&["END"], "BEGIN … END", BLOCK),
    refused(&["COMMIT"], "COMMIT", NO_TRANSACTION),
    refused(&["ROLLBACK"], "ROLLBACK", NO_TRANSACTION),
    refused(&["IF"], "IF … THEN", CHOICE),
    refused(&["ELSE"], "IF … THEN", CHOICE),
    refused(&["ELSEIF"], "IF … THEN", CHOICE),
    refused(&["WHILE"], "WHILE", ROUNDS),
    refused(&["LOOP"], "LOOP", ROUNDS),
    refused(&["REPEAT"], "REPEAT", ROUNDS),
    refused(&["FOR"], "FOR … IN", ROUNDS),
    refused(
        &["EXECUTE", "IMMEDIATE"],
        "EXECUTE IMMEDIATE",
        "write the statement itself; the variables of DECLARE stand for their values in it",
    ),
    refused(
        &["CREATE", "PROCEDURE"],
        "CREATE PROCEDURE",
        "write its statements where it is called",
    ),
    refused(&["CALL"], "CALL", "write the statements of the procedure"),
    refused(
        &["EXPORT", "DATA"],
        "EXPORT DATA",
        "write COPY (SELECT …) TO 'file.parquet'",
    ),
    refused(
        &["LOAD", "DATA"],
        "LOAD DATA",
        "write CREATE EXTERNAL TABLE name STORED AS PARQUET LOCATION 'file.parquet'",
    ),
    refused(
        &["MERGE"],
        "MERGE",
        "write CREATE OR REPLACE TABLE name AS SELECT … over the old rows, LEFT JOIN and UNION ALL of the new ones",
    ),
    refused(
        &["ASSERT"],
        "ASSERT",
        "write a query that fails: SELECT 1 / IF(condition, 1, 0)",
    ),
];

const FUNCTION: Refused = refused(
    &["CREATE", "FUNCTION"],
    "CREATE FUNCTION",
    "write its expression where it is called, or compute it once in a query of WITH",
);
const PIVOT: &str = "write a column for each value: MAX(IF(k = 'a', x, NULL)) AS a, … GROUP BY the others";
const UNPIVOT: &str =
    "write a row for each column: … CROSS JOIN UNNEST([STRUCT('a' AS name, a AS value), STRUCT('b', b)])";

/// Says what is not taken of a statement.
///
/// # Errors
/// It is one of those that are not.
pub(super) fn check(tokens: &Tokens<'_>, range: &Range<usize>) -> Result<(), SyntaxError> {
    let words = first_words(tokens, range);
    let begins =
        |with: &[&str]| with.len() <= words.len() && with.iter().zip(&words).all(|(word, i)| tokens.is_word(*i, word));
    let found = STATEMENTS.iter().find(|s| begins(s.words));
    let function = (begins(FUNCTION.words) && tokens.last_word(range, "AS").is_some()).then_some(&FUNCTION);
    if let Some(statement) = found.or(function)
        && let Some((first, last)) = words.first().zip(words.get(statement.words.len() - 1))
    {
        let span = Span::new(tokens.span(*first).start, tokens.span(*last).end);
        return Err(not_taken(span, statement.name, statement.instead));
    }
    for i in range.clone() {
        let (name, instead) = match () {
            () if tokens.is_word(i, "PIVOT") => ("PIVOT", PIVOT),
            () if tokens.is_word(i, "UNPIVOT") => ("UNPIVOT", UNPIVOT),
            () => continue,
        };
        if is_pivot(tokens, i, range.end) {
            return Err(not_taken(tokens.span(i), name, instead));
        }
    }
    Ok(())
}

fn not_taken(span: Span, name: &str, instead: &str) -> SyntaxError {
    SyntaxError::new(span, format!("{name} is not taken here; {instead}"))
}

/// The first words of a statement, without those that say how it makes something.
fn first_words(tokens: &Tokens<'_>, range: &Range<usize>) -> Vec<usize> {
    let mut words = vec![];
    let mut i = tokens.skip(range.start, range.end);
    while words.len() < 2 && i < range.end && tokens.kind(i) == Some(Kind::Word) {
        let is_manner = tokens.is_any_word(i, &["OR", "REPLACE", "TEMP", "TEMPORARY", "AGGREGATE", "TABLE"]);
        if words.is_empty() || !is_manner {
            words.push(i);
        }
        i = tokens.skip(i + 1, range.end);
    }
    words
}

/// Whether the word at `i` is the operator after a table, `PIVOT (SUM(x) FOR k IN ('a', 'b'))`.
fn is_pivot(tokens: &Tokens<'_>, i: usize, end: usize) -> bool {
    let is_after_table = tokens
        .before(i)
        .is_some_and(|b| matches!(tokens.kind(b), Some(Kind::Word | Kind::Quoted)) || tokens.is_symbol(b, ")"));
    let mut open = tokens.skip(i + 1, end);
    // UNPIVOT INCLUDE NULLS (…)
    while tokens.is_any_word(open, &["INCLUDE", "EXCLUDE", "NULLS"]) {
        open = tokens.skip(open + 1, end);
    }
    let Some(close) = tokens.partner(open).filter(|_| tokens.is_symbol(open, "(")) else {
        return false;
    };
    is_after_table && tokens.last_word(&(open + 1..close), "FOR").is_some()
}

#[cfg(test)]
mod tests {
    use crate::sql::statement::parse;

    #[test]
    fn what_is_not_taken_says_what_to_write() {
        let cases = [
            (
                "BEGIN SELECT 1",
                "BEGIN … END is not taken here; write its statements",
                "BEGIN",
            ),
            (
                "BEGIN TRANSACTION",
                "each statement is done at once",
                "BEGIN TRANSACTION",
            ),
            ("IF x > 1 THEN SELECT 1", "IF(condition, a, b)", "IF"),
            ("  FOR r IN (SELECT 1) DO SELECT r", "GENERATE_ARRAY", "FOR"),
            ("WHILE TRUE DO SELECT 1", "GENERATE_ARRAY", "WHILE"),
            ("LOOP SELECT 1", "GENERATE_ARRAY", "LOOP"),
            (
                "EXECUTE IMMEDIATE 'SELECT 1'",
                "the statement itself",
                "EXECUTE IMMEDIATE",
            ),
            (
                "CREATE OR REPLACE TEMP FUNCTION f(x FLOAT64) AS (x * x)",
                "write its expression",
                "CREATE OR REPLACE TEMP FUNCTION",
            ),
            (
                "EXPORT DATA OPTIONS (uri = 'a') AS SELECT 1",
                "COPY (SELECT …) TO",
                "EXPORT DATA",
            ),
            (
                "MERGE t USING s ON t.a = s.a WHEN MATCHED THEN DELETE",
                "LEFT JOIN",
                "MERGE",
            ),
            (
                "SELECT * FROM t PIVOT(SUM(a) FOR k IN ('x', 'y'))",
                "GROUP BY the others",
                "PIVOT",
            ),
            (
                "SELECT * FROM (SELECT 1 AS a) UNPIVOT INCLUDE NULLS (v FOR k IN (a, b))",
                "CROSS JOIN UNNEST",
                "UNPIVOT",
            ),
        ];
        for (text, message, place) in cases {
            let error = parse(text, true).unwrap_err();
            assert!(error.message.contains(message), "{text}: {error}");
            assert_eq!(&text[error.span.start..error.span.end], place);
            // Other dialects go to DataFusion untouched.
            assert!(parse(text, false).is_ok(), "{text}");
        }
        for text in [
            "SELECT IF(a, b, c) FROM pivot",
            "SELECT begin, pivot FROM t",
            "EXECUTE prepared(1)",
            "CREATE FUNCTION f(BIGINT) RETURNS BIGINT RETURN $1 + 1",
            "CREATE OR REPLACE TABLE merge AS SELECT 1",
        ] {
            assert!(parse(text, true).is_ok(), "{text}");
        }
    }
}
