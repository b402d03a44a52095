//! Splitting, what stays as it was, and where things are from.

use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::super::lexer::{Kind, Spelling};
use super::super::tokens::Tokens;
use super::*;

fn plain(text: &str, bigquery: bool) -> Vec<String> {
    read(text, bigquery)
        .into_iter()
        .map(|s| match s {
            Statement::Plain(sql) => sql.text,
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn semicolons_within_quotes_comments_and_brackets_end_nothing() {
    for text in [
        "SELECT ';'; SELECT 2",
        "SELECT 'it''s; so'; x",
        "SELECT \"a;b\"\"c;\"; x",
        "SELECT 1 -- one; two\n, 2; x",
        "SELECT /* ; /* ; */ ; */ 1; x",
        "SELECT $$;'$$; x",
        "SELECT $a$;$$;$a$; x",
        "SELECT E'\\';'; x",
        "SELECT '\\'; x",
        "SELECT r'\\'; x",
        "SELECT q'[;']'; x",
        "SELECT (1;2); x",
        "SELECT $1; x",
    ] {
        let found = plain(text, false);
        assert_eq!(found.len(), 2, "{text}: {found:?}");
        assert_eq!(found.join(";"), text);
    }
    assert_eq!(plain("SELECT \"a;\\\"\" # ;\n; SELECT '''x';'''", true).len(), 2);
    assert!(plain(" ; ;\n-- nothing\n;", false).is_empty());
    assert!(plain("", true).is_empty());
}

/// Statements that DataFusion runs, one of each kind and of each way to quote.
const PLAIN: &[&str] = &[
    "SELECT species, avg(body_mass_g) FROM penguins GROUP BY species ORDER BY 2 DESC LIMIT 5 OFFSET 2",
    "  -- a comment first\nSELECT 1 /* and last */  ",
    "SELECT \"Customer ID\", `Order No` FROM \"My Table\" AS \"t\"",
    "SELECT # FROM t",
    "SELECT a # b FROM t",
    "SELECT arr[1], arr[2:3], s['field'], {'a': 1} FROM t",
    "SELECT 'it''s', E'a\\'b', X'00FF', b'01', N'n', U&'\\0041', $$body$$, $tag$ ; $tag$",
    "SELECT CASE WHEN if THEN countif ELSE safe END FROM t",
    "SELECT CAST(a AS STRING), a::INT, TRY_CAST(b AS DOUBLE), EXTRACT(DOW FROM ts), date_trunc('month', d) FROM t",
    "SET datafusion.execution.batch_size = 8192",
    "SHOW TABLES",
    "SHOW ALL",
    "DESCRIBE penguins",
    "EXPLAIN ANALYZE SELECT * FROM t",
    "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 's3://lake/t/' OPTIONS ('a.b' 'c')",
    "COPY (SELECT * FROM t) TO 'x.csv' STORED AS CSV OPTIONS ('format.delimiter' ';')",
    "INSERT INTO t VALUES (1, 'a;b'), (2, NULL)",
    "PREPARE p AS SELECT $1 + $2",
    "SELECT * FROM ML.PREDICT('m', (SELECT * FROM t), threshold => 0.5)",
    "SELECT * FROM KMEANS_SEGMENT((SELECT * FROM t), k => 4)",
    "SELECT * FROM ML.TRAIN('m', (SELECT * FROM t), model_type => 'kmeans')",
    "WITH model AS (SELECT 1 AS options) SELECT options FROM model",
    "SELECT '\n\r\n', '🦀' AS \"é\"\r\n",
    "SELECT 'never closed",
    "SELECT (1, [2}",
    "TABLE t",
    "@#$%^&*",
];

#[test]
fn plain_sql_comes_back_byte_for_byte() {
    for text in PLAIN {
        assert_eq!(plain(text, false), [*text]);
    }
    let closed: Vec<&str> = PLAIN
        .iter()
        .copied()
        .filter(|t| !t.contains("never") && !t.contains("[2}"))
        .collect();
    let all = closed.join(";\n");
    let expected: Vec<String> = closed
        .iter()
        .enumerate()
        .map(|(i, t)| format!("{}{t}", if i > 0 { "\n" } else { "" }))
        .collect();
    assert_eq!(plain(&all, false), expected);
}

/// Texts made of the pieces that quoting is about, in an order that repeats from run to run.
fn jumble(seed: u64) -> String {
    const PIECES: &[&str] = &[
        "'",
        "''",
        "\"",
        "`",
        "\\",
        "--",
        "\n",
        "/*",
        "*/",
        "#",
        "$",
        "$$",
        "$a$",
        ";",
        "(",
        ")",
        "[",
        "]",
        ",",
        ".",
        "a",
        "E'",
        "r'",
        "R\"",
        "b'",
        "x'",
        "n'",
        "u&'",
        "q'[",
        "]'",
        " ",
        "1",
        ".5",
        "0x1",
        "é",
        "ML.PREDICT(",
        "MODEL m",
        "TABLE t",
        "CREATE MODEL ",
        "OPTIONS (",
        "AS SELECT ",
        "DECLARE x DEFAULT ",
        "SET x = ",
        "IF(",
        "CAST(",
        " AS ",
        "STRUCT(",
        "ARRAY<",
        "EXTRACT(",
        "WEEK FROM ",
        "OFFSET(",
        "DROP MODEL ",
        "SHOW MODELS ",
        "LIKE ",
        "x",
        "@",
        "-",
        "=",
        "HPARAM_RANGE(",
        "r\"\"\"",
        "SAFE.f(",
        "COUNTIF(",
        "DATE_DIFF(",
        "DAY",
        "EXPORT MODEL ",
        "uri",
        "TRANSFORM(",
        "EXPLAIN ",
    ];
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    (0..next() % 24).map(|_| PIECES[next() % PIECES.len()]).collect()
}

#[test]
fn nothing_panics_and_tokens_lose_nothing() {
    for seed in 0..20_000 {
        let text = jumble(seed);
        for bigquery in [false, true] {
            let spelling = if bigquery { Spelling::Google } else { Spelling::Generic };
            let tokens = Tokens::new(&text, spelling);
            let joined: String = (0..tokens.all.len()).map(|i| tokens.of(i)).collect();
            assert_eq!(joined, text);
            match parse(&text, bigquery) {
                Ok(found) => found.iter().for_each(|s| {
                    if let Statement::Plain(sql) = s {
                        for at in 0..=sql.text.len() {
                            assert!(sql.origin(at) <= text.len());
                        }
                    }
                }),
                Err(e) => {
                    assert!(!e.message.is_empty());
                    caret(&text, e.span);
                    assert!(e.span.start <= e.span.end && e.span.end <= text.len(), "{text}: {e:?}");
                }
            }
        }
    }
}

/// Where DataFusion's own tokenizer sees a semicolon, so do we, and no others.
#[test]
fn semicolons_are_those_of_the_parser() {
    let mut compared = 0;
    for seed in 0..30_000 {
        let text = jumble(seed);
        let Ok(theirs) = Tokenizer::new(&GenericDialect, &text).tokenize() else {
            continue;
        };
        let tokens = Tokens::new(&text, Spelling::Generic);
        if text.contains("OPTIONS") {
            continue;
        }
        let ours = (0..tokens.all.len())
            .filter(|i| tokens.kind(*i) == Some(Kind::Symbol) && tokens.of(*i) == ";")
            .count();
        assert_eq!(
            ours,
            theirs.iter().filter(|t| **t == Token::SemiColon).count(),
            "{text}"
        );
        compared += 1;
    }
    assert!(compared > 3_000, "{compared}");
}

#[test]
fn positions_lead_back() {
    let text = "SELECT 1;\nSELECT IF(a, \"é\", oops)\n  + z FROM `p.t`";
    match &read(text, true)[1] {
        Statement::Plain(sql) => {
            assert_eq!(
                sql.text,
                "\nSELECT CASE WHEN a THEN 'é' ELSE oops END\n  + z FROM \"p\".\"t\""
            );
            for word in ["oops", "z FROM", "FROM"] {
                let at = sql.text.find(word).unwrap();
                assert_eq!(sql.origin(at), text.rfind(word).unwrap(), "{word}");
            }
            assert_eq!(sql.origin(sql.text.find("CASE").unwrap()), text.find("IF").unwrap());
            assert_eq!(sql.origin_of_line(3, 5), text.find("z FROM").unwrap());
            assert_eq!(sql.origin_of_line(2, 34), text.find("oops").unwrap());
            assert_eq!(sql.origin_of_line(99, 99), sql.origin(sql.text.len()));
            assert!(!sql.is_verbatim());
        }
        other => panic!("{other:?}"),
    }
    let text = "CREATE MODEL m OPTIONS (k = 4) AS (SELECT colour FROM t)";
    let form = create(text, false).function_form(&[]);
    assert_eq!(
        form.origin(form.text.find("colour").unwrap()),
        text.find("colour").unwrap()
    );
    assert_eq!(form.origin(form.text.find("4").unwrap()), text.find('4').unwrap());
}
