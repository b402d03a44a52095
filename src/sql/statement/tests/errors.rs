//! What is said of faults, and where.

use super::*;

#[track_caller]
fn error(text: &str, message: &str, place: &str) {
    for bigquery in [false, true] {
        assert_eq!(fails(text, bigquery), (message.into(), place.into()), "{text}");
    }
}

#[test]
fn create_model() {
    error(
        "CREATE MODEL m OPTIONS (model_type = 'pca')",
        "CREATE MODEL m has no query to learn from; end it with AS SELECT …",
        ")",
    );
    error(
        "CREATE MODEL m AS ;SELECT 1",
        "the query after AS is empty; write AS SELECT … FROM …",
        "AS",
    );
    error(
        "CREATE MODEL m AS ( )",
        "the query after AS is empty; write AS SELECT … FROM …",
        "AS",
    );
    error(
        "CREATE MODEL m AS SLECT 1",
        "'SLECT' begins no query after AS; did you mean SELECT?",
        "SLECT",
    );
    error(
        "CREATE MODEL m SELECT 1",
        "AS is missing before 'SELECT'; write AS SELECT …",
        "SELECT",
    );
    error(
        "CREATE MODEL m OPTOINS (a = 1) AS SELECT 1",
        "'OPTOINS' begins no clause of CREATE MODEL; did you mean OPTIONS?",
        "OPTOINS",
    );
    error(
        "CREATE MODEL m CLUSTER BY x AS SELECT 1",
        "'CLUSTER' begins no clause of CREATE MODEL; write TRANSFORM (…), OPTIONS (…) or AS SELECT …",
        "CLUSTER",
    );
    error(
        "CREATE MODEL m OPTIONS (a = 1) OPTIONS (b = 2) AS SELECT 1",
        "OPTIONS is given twice; put all of it in the first one's brackets",
        "OPTIONS",
    );
    error(
        "CREATE MODEL m TRANSFORM () AS SELECT 1",
        "TRANSFORM lists no column; write TRANSFORM (*), or leave it out",
        "TRANSFORM",
    );
    error(
        "CREATE MODEL m OPTIONS AS SELECT 1",
        "OPTIONS takes a list in brackets; write OPTIONS (name = value, …)",
        "OPTIONS",
    );
    error(
        "CREATE OR REPLACE MODEL IF NOT EXISTS m AS SELECT 1",
        "OR REPLACE and IF NOT EXISTS exclude each other; write one of them",
        "IF NOT EXISTS",
    );
    error(
        "CREATE MODEL m@2 AS SELECT 1",
        "CREATE MODEL makes the next version by itself; write m without @2",
        "m@2",
    );
    error(
        "CREATE MODEL m REMOTE WITH CONNECTION c",
        "REMOTE is of remote and imported models, which cannot be used here; train one with AS SELECT …",
        "REMOTE",
    );
}

#[test]
fn names() {
    error(
        "CREATE MODEL OPTIONS (a = 1) AS SELECT 1",
        "CREATE MODEL names no model; write CREATE MODEL name …",
        "OPTIONS",
    );
    error(
        "CREATE MODEL AS SELECT 1",
        "CREATE MODEL names no model; write CREATE MODEL name …",
        "AS",
    );
    error(
        "DROP MODEL",
        "DROP MODEL names no model; write DROP MODEL name …",
        "MODEL",
    );
    error(
        "ALTER MODEL SET OPTIONS (a = 1)",
        "ALTER MODEL names no model; write ALTER MODEL name …",
        "SET",
    );
    error(
        "DROP MODEL ds.",
        "'ds.' ends with a dot; write the rest of the name",
        "",
    );
    error(
        "DROP MODEL a.b.c.d",
        "the model's name 'a.b.c.d' has 4 parts; write at most three, project.dataset.model",
        "a.b.c.d",
    );
    error(
        "DROP MODEL `a..b`",
        "a part of the model's name 'a..b' is empty; write project.dataset.model, or only model",
        "`a..b`",
    );
    error("DROP MODEL m@", "no version follows 'm@'; write m@1, or only m", "m@");
    error(
        "DROP MODEL a, b",
        "',' stands after the end of the statement; write DROP MODEL name",
        ",",
    );
}

#[test]
fn options() {
    error(
        "CREATE MODEL m OPTIONS (num_clusters 4) AS SELECT 1",
        "'=' is missing between the option 'num_clusters' and its value, where '4' stands; write num_clusters = value",
        "4",
    );
    error(
        "CREATE MODEL m OPTIONS (k => 4) AS SELECT 1",
        "'=' is missing between the option 'k' and its value, where '=>' stands; write k = value",
        "=",
    );
    error(
        "CREATE MODEL m OPTIONS (k) AS SELECT 1",
        "the option 'k' has no value; write k = value",
        "k",
    );
    error(
        "CREATE MODEL m OPTIONS (k = ) AS SELECT 1",
        "the option 'k' has no value; write k = value",
        "=",
    );
    error(
        "CREATE MODEL m OPTIONS (k = 1, K = 2) AS SELECT 1",
        "the option 'K' is given twice; give it once",
        "K",
    );
    error(
        "CREATE MODEL m OPTIONS (3 = 1) AS SELECT 1",
        "'3' is no name of an option; write name = value",
        "3",
    );
    error(
        "CREATE MODEL m OPTIONS (a = HPARAM_RANGE(1)) AS SELECT 1",
        "HPARAM_RANGE takes two bounds; write HPARAM_RANGE(0.1, 1.0)",
        "HPARAM_RANGE(1)",
    );
    error(
        "CREATE MODEL m OPTIONS (a = 'x\\y') AS SELECT 1",
        "GoogleSQL knows no escape '\\y'; write \\\\ for a backslash, or r'…' for a raw string",
        "'x\\y'",
    );
    error(
        "EXPORT MODEL m OPTIONS (trial_id = 2)",
        "EXPORT MODEL does not say where to; write EXPORT MODEL name OPTIONS (uri = 'folder')",
        "OPTIONS",
    );
    error(
        "EXPORT MODEL m",
        "OPTIONS is missing here; write EXPORT MODEL name OPTIONS (uri = 'folder')",
        "m",
    );
    error(
        "ALTER MODEL m OPTIONS (a = 1)",
        "SET OPTIONS is missing before 'OPTIONS'; write ALTER MODEL name SET OPTIONS (name = value)",
        "OPTIONS",
    );
    error(
        "SHOW MODELS LIKE x",
        "a pattern in quotes is missing before 'x'; write SHOW MODELS LIKE 'churn%'",
        "x",
    );
}

#[test]
fn what_is_never_closed() {
    error(
        "CREATE MODEL m OPTIONS (a = [1, 2) AS SELECT 1",
        "this '(' is never closed; end it with ')'",
        "(",
    );
    error(
        "CREATE MODEL m AS SELECT (1",
        "this '(' is never closed; end it with ')'",
        "(",
    );
    error(
        "CREATE MODEL m AS SELECT 1)",
        "this ')' closes nothing; remove it, or open its bracket",
        ")",
    );
    error(
        "CREATE MODEL m OPTIONS (a = 'x) AS\nSELECT 1",
        "this string is never closed; end it with '",
        "'x) AS",
    );
    error(
        "CREATE MODEL m OPTIONS (a = \"\"\"x) AS\nSELECT 1",
        "this string is never closed; end it with \"\"\"",
        "\"\"\"x) AS",
    );
    error("DROP MODEL `m", "this quoted name is never closed; end it with `", "`m");
    error(
        "DROP MODEL m /* x",
        "this comment is never closed; end it with */",
        "/* x",
    );
    error(
        "SELECT * FROM ML.PREDICT(MODEL m, TABLE t",
        "this '(' is never closed; end it with ')'",
        "(",
    );
    assert_eq!(
        fails("SELECT \"a", true).0,
        "this string is never closed; end it with \""
    );
    assert!(parse("SELECT 'a; SELECT (", false).is_ok());
}

#[test]
fn calls() {
    error(
        "SELECT * FROM ML.PREDICT(MODEL m, TABLE t, STRUCT(0.3))",
        "'0.3' has no name in this STRUCT; write it with one, as in STRUCT(0.3 AS threshold)",
        "0.3",
    );
    error(
        "SELECT * FROM ML.PREDICT(MODEL m, SELECT * FROM t)",
        "a query as an argument stands in brackets; write (SELECT …)",
        "SELECT",
    );
    error(
        "SELECT * FROM ML.PREDICT(MODEL m TABLE t)",
        "'TABLE' stands after the name of a model; end the argument with a comma or a bracket",
        "TABLE",
    );
    error(
        "SELECT * FROM ML.PREDICT(MODEL m,, TABLE t)",
        "an argument is missing here; remove the comma, or write the argument",
        ",",
    );
}

#[test]
fn deep_calls_are_an_error_and_no_crash() {
    let text = format!("SELECT {}1{}", "IF(a, b, ".repeat(5000), ")".repeat(5000));
    assert!(fails(&text, true).0.contains("nested more than"));
    let deep = format!(
        "CREATE MODEL m OPTIONS (a = {}{}) AS SELECT 1",
        "[".repeat(5000),
        "]".repeat(5000)
    );
    assert!(fails(&deep, false).0.contains("nested more than"));
    let calls = format!(
        "SELECT * FROM {}t{}",
        "ML.PREDICT(MODEL m, (SELECT * FROM ".repeat(5000),
        "))".repeat(5000)
    );
    assert!(fails(&calls, false).0.contains("nested more than"));
}

#[test]
fn carets() {
    let text = "CREATE MODEL m\n\tOPTIONS (k 4)\nAS SELECT 1";
    let e = parse(text, false).unwrap_err();
    assert_eq!(caret(text, e.span), "\tOPTIONS (k 4)\n\t           ^");
    assert_eq!(
        caret("DROP MODEL é@", Span::new(11, 14)),
        "DROP MODEL é@\n           ^^"
    );
    assert_eq!(caret("abc", Span::new(90, 99)), "abc\n   ^");
    assert_eq!(caret("é", Span::new(1, 1)), "é\n^");
    assert_eq!(caret("", Span::new(0, 0)), "\n^");
    assert_eq!(caret("a\nbc\nd", Span::new(3, 6)), "bc\n ^");
}
