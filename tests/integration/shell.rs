//! The program `dfml` as a process: in scripts, and at a terminal.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// `dfml` in a folder, with nothing of the machine's own settings.
pub fn dfml(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dfml"));
    command
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env("DFML_HISTORY", folder.join("history"));
    for name in [
        "DFML_STORE",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT",
        "DATAFUSION_EXECUTION_TARGET_PARTITIONS",
    ] {
        command.env_remove(name);
    }
    command
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    dfml(folder).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Standard output of a run that must go well.
fn answer(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    assert!(output.status.success(), "{arguments:?} failed: {}", err(&output));
    out(&output)
}

const TEN_CUSTOMERS: &str = "CREATE TABLE customers AS SELECT * FROM (VALUES \
    (1, .2, .3), (2, .3, .4), (3, .1, .2), (4, .4, .5), (5, .2, .3), \
    (6, .5, .6), (7, .3, .4), (8, .1, .2), (9, .4, .5), (10, .2, .3)) AS t(customer_id, recency, frequency)";

#[test]
fn formats() {
    let folder = folder();
    let print = |format: &str| {
        answer(
            folder.path(),
            &[
                "-q",
                "--format",
                format,
                "-c",
                "SELECT 1 AS n, 0.5 AS x, 'a|b' AS t, NULL AS e",
            ],
        )
    };
    assert_eq!(print("csv"), "n,x,t,e\n1,0.5,a|b,\n");
    assert_eq!(print("json"), "[{\"n\":1,\"x\":0.5,\"t\":\"a|b\",\"e\":null}]\n");
    assert_eq!(print("ndjson"), "{\"n\":1,\"x\":0.5,\"t\":\"a|b\",\"e\":null}\n");
    assert_eq!(
        print("markdown"),
        "|   n |   x | t    | e    |\n| --: | --: | ---- | ---- |\n|   1 | 0.5 | a\\|b | NULL |\n"
    );
    assert_eq!(
        print("table"),
        "┌───┬─────┬─────┬──────┐\n│ n │   x │ t   │ e    │\n├───┼─────┼─────┼──────┤\n│ 1 │ 0.5 │ a|b │ NULL │\n└───┴─────┴─────┴──────┘\n"
    );
}

#[test]
fn model_statements() {
    let folder = folder();
    let create = "CREATE MODEL segments OPTIONS (model_type = 'kmeans', num_clusters = 2) AS SELECT recency, frequency FROM customers";
    let script = format!("{TEN_CUSTOMERS}; {create}; SHOW MODELS");
    let shown = answer(folder.path(), &["-q", "--format", "csv", "-c", &script]);
    assert!(shown.starts_with("training_run,iteration,loss,"), "{shown}");
    assert!(
        shown.lines().last().unwrap().starts_with("segments,1,kmeans,"),
        "{shown}"
    );
    // The next run finds it, and the statement's help.
    let told = answer(
        folder.path(),
        &[
            "-q",
            "--format",
            "csv",
            "-c",
            "SELECT count(*) FROM ML.CENTROIDS(MODEL segments); DROP MODEL segments",
        ],
    );
    assert_eq!(told, "count(*)\n4\nmodel,removed_versions\nsegments,1\n");
    assert!(answer(folder.path(), &["-q", "-c", "\\h CREATE MODEL"]).contains("OPTIONS (model_type = "));
    let output = run(
        folder.path(),
        &["-q", "-c", "CREATE MODEL m OPTION (k = 2) AS SELECT 1 AS a"],
    );
    let error = err(&output);
    assert!(
        !output.status.success() && error.contains("OPTIONS") && error.contains("^^^"),
        "{error}"
    );
}

#[test]
fn lists_and_structs_in_every_format() {
    let folder = folder();
    let sql = "SELECT [1, 2] AS l, named_struct('a', 1) AS s";
    let print = |format: &str| answer(folder.path(), &["-q", "--format", format, "-c", sql]);
    assert_eq!(print("csv"), "l,s\n\"[1,2]\",\"{\"\"a\"\":1}\"\n");
    assert_eq!(print("ndjson"), "{\"l\":[1,2],\"s\":{\"a\":1}}\n");
    assert!(print("table").contains("[1, 2]"));
}

#[test]
fn commands_and_files_share_a_session_and_keep_their_order() {
    let folder = folder();
    std::fs::write(
        folder.path().join("a.sql"),
        "INSERT INTO t VALUES (2); -- ';'\nSELECT count(*) AS a FROM t",
    )
    .unwrap();
    let text = answer(
        folder.path(),
        &[
            "-q",
            "--format",
            "csv",
            "-c",
            "CREATE TABLE t AS VALUES (1)",
            "-f",
            "a.sql",
            "-c",
            "SELECT max(column1) AS b FROM t;",
        ],
    );
    assert_eq!(text, "a\n2\nb\n2\n");
}

#[test]
fn variables_live_from_statement_to_statement() {
    let folder = folder();
    std::fs::write(folder.path().join("more.sql"), "SET low = low + 1;\nSELECT low AS low;").unwrap();
    let script = "SET datafusion.sql_parser.dialect = 'bigquery'; DECLARE low INT64 DEFAULT 3; SELECT low AS low;";
    let printed = answer(
        folder.path(),
        &[
            "-c",
            script,
            "-f",
            "more.sql",
            "-c",
            "SELECT low + 10 AS low",
            "--format",
            "csv",
        ],
    );
    assert_eq!(printed, "low\n3\nlow\n4\nlow\n14\n");
}

#[test]
fn statements_without_a_result_print_nothing() {
    let folder = folder();
    let sql = "SET ml.seed = 7; CREATE TABLE t AS VALUES (1); CREATE VIEW v AS SELECT * FROM t; INSERT INTO t VALUES (2); \
               COPY t TO 'out.parquet'; DROP VIEW v; ; -- and a comment";
    let output = run(folder.path(), &["-c", sql]);
    assert!(output.status.success(), "{}", err(&output));
    assert_eq!(out(&output), "");
    assert!(err(&output).contains("2 rows written in "), "{}", err(&output));
    assert!(folder.path().join("out.parquet").exists());
}

#[test]
fn timing_is_told_on_standard_error_unless_quiet() {
    let folder = folder();
    let output = run(folder.path(), &["-c", "SELECT * FROM (VALUES (1), (2))"]);
    assert!(err(&output).starts_with("2 rows in 0."), "{}", err(&output));
    let output = run(folder.path(), &["-q", "-c", "SELECT * FROM (VALUES (1), (2))"]);
    assert_eq!(err(&output), "");
}

#[test]
fn the_first_error_ends_the_run() {
    let folder = folder();
    let output = run(
        folder.path(),
        &[
            "-q",
            "--format",
            "csv",
            "-c",
            "SELECT 1 AS a; SELECT 2 FORM t; SELECT 3 AS c",
            "-c",
            "SELECT 4 AS d",
        ],
    );
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(out(&output), "a\n1\n");
    let text = err(&output);
    assert!(text.starts_with("error: "), "{text}");
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[test]
fn the_caret_stands_under_the_fault() {
    let folder = folder();
    std::fs::write(folder.path().join("a.sql"), "SELECT 1;\n\nSELECT 1,\n  2 3 4;\n").unwrap();
    let text = err(&run(folder.path(), &["-q", "-f", "a.sql"]));
    assert!(text.contains("\n  a.sql:4:   2 3 4;\n               ^"), "{text}");

    let sql = "SELECT a, coutry FROM (SELECT 1 AS a, 2 AS country)";
    let text = err(&run(folder.path(), &["-q", "-c", sql]));
    assert!(text.contains(&format!("\n  {sql}\n            ^^^^^^")), "{text}");
}

#[test]
fn command_line_errors() {
    let folder = folder();
    let output = run(folder.path(), &["--format", "xml", "-c", "SELECT 1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("ndjson"), "{}", err(&output));

    for (arguments, part) in [
        (&["-f", "missing.sql"][..], "the file 'missing.sql' cannot be read"),
        (&["nowhere", "-c", "SELECT 1"][..], "there is no folder 'nowhere'"),
        (
            &["ftp://example.com/lake", "-c", "SELECT 1"][..],
            "there is no store for 'ftp://'",
        ),
    ] {
        let output = run(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(err(&output).contains(part), "{arguments:?}: {}", err(&output));
        assert_eq!(err(&output).lines().count(), 1, "{}", err(&output));
        assert_eq!(out(&output), "");
    }
}

#[test]
fn help_and_version() {
    let folder = folder();
    let text = answer(folder.path(), &["--help"]);
    for part in [
        "Machine learning on customers",
        "--format",
        "--memory-limit",
        "demo",
        "DFML_STORE",
        "Examples:",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!(
        answer(folder.path(), &["--version"]),
        format!("dfml {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn statements_from_standard_input() {
    let folder = folder();
    let mut child = dfml(folder.path())
        .args(["-q", "--format", "csv"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"CREATE TABLE t AS VALUES (5);\nSELECT column1 AS x FROM t")
        .unwrap();
    assert_eq!(out(&child.wait_with_output().unwrap()), "x\n5\n");
}

#[test]
fn rows_left_out_of_a_table_are_counted() {
    let folder = folder();
    let sql = "SELECT value FROM generate_series(1, 1250) ORDER BY value";
    let text = answer(folder.path(), &["-q", "-c", sql]);
    assert!(text.contains("│   100 │") && !text.contains("│   101 │"), "{text}");
    assert!(
        text.ends_with("… and 1,150 more rows (--max-rows 0 shows all)\n"),
        "{text}"
    );
    assert!(answer(folder.path(), &["-q", "--max-rows", "0", "-c", sql]).contains("│  1250 │"));
}

#[test]
fn a_reader_that_leaves_ends_the_run_quietly() {
    let folder = folder();
    // More rows than would ever be printed, or fit in memory.
    let mut child = dfml(folder.path())
        .args([
            "-q",
            "--format",
            "csv",
            "-c",
            "SELECT value, value * 2 AS twice FROM generate_series(1, 1000000000000)",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "value,twice\n");
    drop(reader);
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(told, "");
    assert!(child.wait().unwrap().success());
}

/// A lake with one of each: folders and files, partitions, collisions and broken files.
fn lake(folder: &Path) {
    std::fs::create_dir_all(folder.join("lake/.models")).unwrap();
    std::fs::create_dir_all(folder.join("lake/_temporary")).unwrap();
    std::fs::create_dir_all(folder.join("lake/notes")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.join("lake").join(name), text).unwrap();
    write("notes/README.md", "nothing to query");
    write("Web Visits.csv", "id,page\n1,home\n2,cart\n");
    write("prices.tsv", "item\tprice\na\t1.5\n");
    write("reviews.json", "{\"stars\": 5}\n{\"stars\": 3}\n");
    write("stores.json", "[{\"city\": \"Ulm\"}, {\"city\": \"Linz\"}]\n");
    write("clicks.ndjson", "{\"n\": 1}\n");
    write("orders.csv", "left,out\n1,2\n");
    write("broken.parquet", "this is no Parquet");
    write(".hidden.csv", "a\n1\n");
    write("_hidden.csv", "a\n1\n");
    let copy = "COPY (SELECT i, 2023 + i % 2 AS year, CASE WHEN i % 3 = 0 THEN '01' ELSE '02' END AS month \
                FROM (SELECT value AS i FROM generate_series(1, 6))) \
                TO 'lake/orders/' STORED AS PARQUET PARTITIONED BY (year, month); \
                COPY (VALUES (1), (2), (3)) TO 'lake/plain.parquet'";
    answer(folder, &["-q", "-c", copy]);
}

#[test]
fn every_folder_and_file_is_a_table() {
    let folder = folder();
    lake(folder.path());
    let output = run(
        folder.path(),
        &[
            "lake",
            "--format",
            "csv",
            "-c",
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1",
        ],
    );
    assert_eq!(
        out(&output),
        "table_name\nclicks\norders\nplain\nprices\nreviews\nstores\nweb_visits\n"
    );
    let told = err(&output);
    assert!(told.contains("warning: 'broken.parquet' is left out"), "{told}");
    assert!(
        told.contains("warning: 'orders.csv' is left out, as 'orders' already is table orders"),
        "{told}"
    );
    assert!(!told.contains("hidden") && !told.contains("notes"), "{told}");

    let one = |sql: &str| answer(folder.path(), &["lake", "-q", "--format", "csv", "-c", sql]);
    assert_eq!(one("SELECT page FROM web_visits WHERE id = 2"), "page\ncart\n");
    assert_eq!(one("SELECT price * 2 AS p FROM prices"), "p\n3.0\n");
    assert_eq!(one("SELECT sum(stars) AS s FROM reviews"), "s\n8\n");
    assert_eq!(one("SELECT city FROM stores ORDER BY city"), "city\nLinz\nUlm\n");
    assert_eq!(one("SELECT count(*) AS n FROM plain"), "n\n3\n");
}

#[test]
fn partitions_are_columns() {
    let folder = folder();
    lake(folder.path());
    let one = |sql: &str| answer(folder.path(), &["lake", "-q", "--format", "csv", "-c", sql]);
    assert_eq!(
        one("SELECT i, month FROM orders WHERE year = 2024 ORDER BY i"),
        "i,month\n1,02\n3,01\n5,02\n"
    );
    assert_eq!(one("SELECT count(*) AS n FROM orders WHERE month = '01'"), "n\n2\n");
    assert!(one("\\d orders").contains("year,Int64"), "{}", one("\\d orders"));
    // A folder that is partitioned itself is one table, and a file alone is one too.
    assert_eq!(
        answer(
            folder.path(),
            &[
                "lake/orders",
                "-q",
                "--format",
                "csv",
                "-c",
                "SELECT count(*) AS n FROM orders"
            ]
        ),
        "n\n6\n"
    );
    assert_eq!(
        answer(
            folder.path(),
            &[
                "lake/plain.parquet",
                "-q",
                "--format",
                "csv",
                "-c",
                "SELECT count(*) AS n FROM plain"
            ]
        ),
        "n\n3\n"
    );
}

#[test]
fn files_by_their_location() {
    let folder = folder();
    lake(folder.path());
    let one = |sql: &str| answer(folder.path(), &["-q", "--format", "csv", "-c", sql]);
    assert_eq!(one("SELECT count(*) AS n FROM 'lake/plain.parquet'"), "n\n3\n");
    assert_eq!(one("SELECT count(*) AS n FROM 'lake/orders/'"), "n\n6\n");
    assert_eq!(one("SELECT count(*) AS n FROM 'lake/*.tsv'"), "n\n1\n");
    let file = folder.path().join("lake/plain.parquet");
    assert_eq!(
        one(&format!("SELECT count(*) AS n FROM '{}'", file.display())),
        "n\n3\n"
    );
    // Files that were written after the folder was listed once are found.
    assert_eq!(
        one(
            "SELECT count(*) AS n FROM 'lake/plain.parquet'; COPY (VALUES (1), (2)) TO 'new/a.parquet'; \
             SELECT count(*) AS n FROM 'new/'; COPY (VALUES (3)) TO 'new/b.parquet'; SELECT count(*) AS n FROM 'new/'"
        ),
        "n\n3\nn\n2\nn\n3\n"
    );

    let output = run(folder.path(), &["-q", "-c", "SELECT * FROM 'lake/plane.parquet'"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        err(&output).contains("there is no Parquet, CSV or JSON file at 'lake/plane.parquet'"),
        "{}",
        err(&output)
    );
}

#[test]
fn files_over_http() {
    use axum::Router;
    use axum::http::{HeaderMap, StatusCode, header};
    use axum::response::IntoResponse;
    use axum::routing::get;

    const TEXT: &str = "a,b\n1,x\n2,y\n";

    async fn serve(headers: HeaderMap) -> impl IntoResponse {
        let range = headers
            .get(header::RANGE)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.strip_prefix("bytes="));
        let Some((from, to)) = range.and_then(|r| r.split_once('-')) else {
            return (StatusCode::OK, HeaderMap::new(), TEXT.to_string());
        };
        let from: usize = from.parse().unwrap();
        let to = to.parse::<usize>().map_or(TEXT.len(), |to| (to + 1).min(TEXT.len()));
        let mut headers = HeaderMap::new();
        let value = format!("bytes {from}-{}/{}", to - 1, TEXT.len());
        headers.insert(header::CONTENT_RANGE, value.parse().unwrap());
        (StatusCode::PARTIAL_CONTENT, headers, TEXT[from..to].to_string())
    }

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move { axum::serve(listener, Router::new().route("/data/t.csv", get(serve))).await });

    let folder = folder();
    let sql = format!("SELECT a, b FROM 'http://{address}/data/t.csv' ORDER BY a");
    assert_eq!(
        answer(folder.path(), &["-q", "--format", "csv", "-c", &sql]),
        "a,b\n1,x\n2,y\n"
    );
    let sql = format!("SELECT * FROM 'http://{address}/data/missing.csv'");
    assert_eq!(run(folder.path(), &["-q", "-c", &sql]).status.code(), Some(1));
}

#[test]
fn lakes_and_models_on_s3() {
    use crate::s3_server::{ACCESS_KEY, BUCKET, SECRET_KEY, start};

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (endpoint, _objects) = runtime.block_on(start());
    let folder = folder();
    let on_s3 = |arguments: &[&str]| {
        let mut command = dfml(folder.path());
        command
            .args(["-q", "--format", "csv"])
            .args(arguments)
            .stdin(Stdio::null());
        for (name, value) in [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ALLOW_HTTP", "true"),
        ] {
            command.env(name, value);
        }
        command.output().unwrap()
    };
    let one = |arguments: &[&str]| {
        let output = on_s3(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", err(&output));
        out(&output)
    };
    let root = format!("s3://{BUCKET}/shop");
    let write = format!(
        "COPY (SELECT value AS n, value % 2 AS odd FROM generate_series(1, 10)) \
         TO '{root}/orders/' STORED AS PARQUET PARTITIONED BY (odd); \
         COPY (VALUES (7)) TO '{root}/prices.csv' STORED AS CSV"
    );
    assert_eq!(one(&["-c", &write]), "");
    assert_eq!(
        one(&["-c", &format!("SELECT sum(n) AS s FROM '{root}/orders/' WHERE odd = 1")]),
        "s\n25\n"
    );
    assert_eq!(
        one(&["-c", &format!("SELECT count(*) AS n FROM '{root}/orders'")]),
        "n\n10\n"
    );
    let external = format!(
        "CREATE EXTERNAL TABLE prices STORED AS CSV LOCATION '{root}/prices.csv'; SELECT column1 AS p FROM prices"
    );
    assert_eq!(one(&["-c", &external]), "p\n7\n");
    assert_eq!(
        one(&[
            &root,
            "-c",
            "SELECT (SELECT count(*) FROM orders) + (SELECT max(column1) FROM prices) AS n"
        ]),
        "n\n17\n"
    );

    let store = format!("s3://{BUCKET}/models");
    let train = "SELECT count(*) > 0 AS trained FROM ML.TRAIN('segments', (SELECT recency, frequency FROM customers), \
                 model_type => 'kmeans', k => 3)";
    assert_eq!(
        one(&["--store", &store, "-c", TEN_CUSTOMERS, "-c", train]),
        "trained\ntrue\n"
    );
    assert_eq!(
        one(&["--store", &store, "-c", "SELECT name FROM ml.models"]),
        "name\nsegments\n"
    );

    let output = on_s3(&["-c", &format!("SELECT * FROM '{root}/nothing.parquet'")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        err(&output).contains("there is no Parquet, CSV or JSON file at 's3://"),
        "{}",
        err(&output)
    );
}

#[test]
fn models_last_in_a_folder_that_is_made_when_it_is_needed() {
    let folder = folder();
    answer(folder.path(), &["-q", "-c", "SELECT * FROM ml.models"]);
    assert!(!folder.path().join(".dfml").exists());

    let train = "SELECT * FROM ML.TRAIN('segments', (SELECT recency, frequency FROM customers), \
                 model_type => 'kmeans', k => 3)";
    answer(folder.path(), &["-q", "-c", TEN_CUSTOMERS, "-c", train]);
    assert!(folder.path().join(".dfml/models/segments").is_dir());
    let score = "SELECT count(DISTINCT KMEANS_SEGMENT('segments', recency, frequency)) AS n FROM customers";
    let text = answer(
        folder.path(),
        &["-q", "--format", "csv", "-c", TEN_CUSTOMERS, "-c", score],
    );
    assert_eq!(text, "n\n3\n");

    answer(
        folder.path(),
        &["-q", "--store", "elsewhere", "-c", TEN_CUSTOMERS, "-c", train],
    );
    assert!(folder.path().join("elsewhere/segments").is_dir());
    let output = dfml(folder.path())
        .args(["-q", "--format", "csv", "-c", "SELECT name FROM ml.models"])
        .env("DFML_STORE", folder.path().join("elsewhere"))
        .output()
        .unwrap();
    assert_eq!(out(&output), "name\nsegments\n", "{}", err(&output));
}

#[test]
fn notices_go_to_standard_error_unless_quiet() {
    let folder = folder();
    // Five distinct rows.
    let fit = "SELECT count(*) AS n FROM KMEANS_SEGMENT((SELECT * FROM customers), k => 8, id => 'customer_id')";
    let output = run(folder.path(), &["--format", "csv", "-c", TEN_CUSTOMERS, "-c", fit]);
    assert_eq!(out(&output), "n\n10\n", "{}", err(&output));
    assert!(err(&output).contains("notice: "), "{}", err(&output));
    let output = run(
        folder.path(),
        &["-q", "--format", "csv", "-c", TEN_CUSTOMERS, "-c", fit],
    );
    assert_eq!(err(&output), "");
}

#[test]
fn commands_of_the_shell_work_in_scripts() {
    let folder = folder();
    lake(folder.path());
    let print = |command: &str| answer(folder.path(), &["lake", "-q", "--format", "csv", "-c", command]);
    assert!(print("\\d").contains("web_visits,\"id, page\""), "{}", print("\\d"));
    assert!(print("\\d").contains("ml.models,"));
    assert_eq!(
        print("\\d web_visits"),
        "column,type,nullable\nid,Int64,yes\npage,Utf8View,yes\n"
            .replace("Utf8View", text_type(&print("\\d web_visits")))
    );
    assert!(print("\\h").contains("KMEANS_SEGMENT"));
    let help = print("\\h kmeans_segment");
    assert!(help.contains("starts") && help.contains("Example:"), "{help}");
    assert_eq!(
        print("\\format json\nSELECT 1 AS a;\n\\format csv\nSELECT 2 AS a;"),
        "[{\"a\":1}]\na\n2\n"
    );

    for (command, part) in [
        ("\\d web_visit", "did you mean web_visits?"),
        (
            "SELECT * FROM web_visit",
            "there is no table 'web_visit'; did you mean web_visits?",
        ),
        ("\\h KMEANS_SEGMENTS", "did you mean KMEANS_SEGMENT?"),
        ("\\timming", "did you mean \\timing?"),
        ("\\format xml", "not 'xml'"),
    ] {
        let output = run(folder.path(), &["lake", "-q", "-c", command]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(err(&output).contains(part), "{command}: {}", err(&output));
    }
}

/// Which of the text types DataFusion reads CSV as.
fn text_type(description: &str) -> &'static str {
    if description.contains("Utf8View") {
        "Utf8View"
    } else {
        "Utf8"
    }
}

#[test]
fn queries_past_the_memory_limit_spill_or_say_so() {
    let folder = folder();
    let sql = "SELECT count(*) AS n FROM (SELECT value, row_number() OVER (ORDER BY value % 1000, value) AS r \
               FROM generate_series(1, 3000000))";
    let output = run(
        folder.path(),
        &[
            "-q",
            "--format",
            "csv",
            "--threads",
            "2",
            "--memory-limit",
            "64MB",
            "-c",
            sql,
        ],
    );
    assert!(output.status.success(), "{}", err(&output));
    assert_eq!(out(&output), "n\n3000000\n");
    let output = run(folder.path(), &["-q", "--memory-limit", "lots", "-c", sql]);
    assert_eq!(output.status.code(), Some(2));
}

#[cfg(unix)]
mod terminal {
    use std::path::Path;
    use std::time::Duration;

    use rexpect::process::WaitStatus;
    use rexpect::reader::Options;
    use rexpect::session::{PtySession, spawn_with_options};

    use super::{TEN_CUSTOMERS, answer, dfml, folder};

    const PATIENCE_MS: u64 = 60_000;

    fn open(folder: &Path, arguments: &[&str]) -> PtySession {
        let mut command = dfml(folder);
        command.args(arguments).env("TERM", "xterm");
        let options = Options::new()
            .timeout_ms(Some(PATIENCE_MS))
            .strip_ansi_escape_codes(true);
        let mut session = spawn_with_options(command, options).unwrap();
        session.exp_string("dfml> ").unwrap();
        session
    }

    fn enter(session: &mut PtySession, line: &str) {
        session.send(line).unwrap();
        session.send("\r").unwrap();
        session.flush().unwrap();
    }

    fn leave(mut session: PtySession) {
        session.send_control('d').unwrap();
        session.exp_eof().unwrap();
        assert!(matches!(session.process().wait().unwrap(), WaitStatus::Exited(_, 0)));
    }

    #[test]
    fn statements_may_run_over_lines_and_errors_keep_the_session() {
        let folder = folder();
        let mut session = open(folder.path(), &[]);
        enter(&mut session, "SELECT 40 +");
        enter(&mut session, "2 AS answer;");
        session.exp_string("     42 ").unwrap();
        session.exp_string("1 row in ").unwrap();
        session.exp_string("dfml> ").unwrap();
        enter(&mut session, "SELECT nothing;");
        session.exp_string("error: ").unwrap();
        session.exp_string("dfml> ").unwrap();
        enter(&mut session, "SELECT 6 * 7 + 1;");
        session.exp_string(" 43 ").unwrap();
        session.exp_string("dfml> ").unwrap();
        enter(&mut session, "\\timing");
        session.exp_string("timing is off").unwrap();
        session.exp_string("dfml> ").unwrap();
        enter(&mut session, "\\d nothing");
        session.exp_string("there is no table 'nothing'").unwrap();
        session.exp_string("dfml> ").unwrap();
        leave(session);
    }

    #[test]
    fn control_c_stops_the_query_and_keeps_the_session() {
        let folder = folder();
        let mut session = open(folder.path(), &[]);
        enter(&mut session, "CREATE TABLE t AS VALUES (17);");
        session.exp_string("done in ").unwrap();
        session.exp_string("dfml> ").unwrap();
        enter(
            &mut session,
            "SELECT sum(value % 7) FROM generate_series(1, 1000000000000);",
        );
        std::thread::sleep(Duration::from_millis(1000));
        session.send_control('c').unwrap();
        session.exp_string("cancelled").unwrap();
        session.exp_string("dfml> ").unwrap();
        enter(&mut session, "SELECT column1 + 5 AS kept FROM t;");
        session.exp_string(" 22 ").unwrap();
        session.exp_string("dfml> ").unwrap();
        // At the prompt it clears what is typed.
        session.send("SELECT oops").unwrap();
        session.send_control('c').unwrap();
        session.exp_string("dfml> ").unwrap();
        enter(&mut session, "SELECT column1 + 6 AS kept FROM t;");
        session.exp_string(" 23 ").unwrap();
        session.exp_string("dfml> ").unwrap();
        leave(session);
    }

    #[test]
    fn words_complete() {
        let folder = folder();
        let train = "SELECT * FROM ML.TRAIN('segments', (SELECT recency, frequency FROM customers), \
                     model_type => 'kmeans', k => 3)";
        answer(folder.path(), &["-q", "-c", TEN_CUSTOMERS, "-c", train]);
        let mut session = open(folder.path(), &["-q"]);
        enter(&mut session, &format!("{TEN_CUSTOMERS};"));
        session.exp_string("dfml> ").unwrap();
        // A keyword, a table and a column, a model.
        enter(&mut session, "SEL\t 1 + 70 AS n;");
        session.exp_string(" 71 ").unwrap();
        session.exp_string("dfml> ").unwrap();
        enter(&mut session, "SELECT 60 + max(custo\t_id) AS n FROM custom\t;");
        session.exp_string(" 70 ").unwrap();
        session.exp_string("dfml> ").unwrap();
        enter(
            &mut session,
            "SELECT 80 + count(DISTINCT KMEANS_SEGMENT('seg\t, recency, frequency)) AS n FROM customers;",
        );
        session.exp_string(" 83 ").unwrap();
        session.exp_string("dfml> ").unwrap();
        leave(session);
    }

    #[test]
    fn history_lasts() {
        let folder = folder();
        let mut session = open(folder.path(), &["-q"]);
        enter(&mut session, "SELECT 900 + 99 AS n;");
        session.exp_string(" 999 ").unwrap();
        session.exp_string("dfml> ").unwrap();
        enter(&mut session, "\\q");
        session.exp_eof().unwrap();
        assert!(folder.path().join("history").is_file());
        let mut session = open(folder.path(), &["-q"]);
        // Up twice: past the command that left.
        session.send("\x1b[A").unwrap();
        session.flush().unwrap();
        session.exp_string("\\q").unwrap();
        session.send("\x1b[A").unwrap();
        session.flush().unwrap();
        session.exp_string("900 + 99").unwrap();
        enter(&mut session, "");
        session.exp_string(" 999 ").unwrap();
        session.exp_string("dfml> ").unwrap();
        leave(session);
    }

    #[test]
    fn a_fit_shows_its_progress() {
        let folder = folder();
        let mut session = open(folder.path(), &[]);
        enter(
            &mut session,
            "SELECT count(*) + 5 AS n FROM KMEANS_SEGMENT((SELECT random() AS a, random() AS b, random() AS c \
             FROM generate_series(1, 200000)), k => 12, starts => 2, max_iterations => 40, tolerance => 0);",
        );
        session.exp_regex(r"200,000 rows \[[=> ]+\] pass \d+ of \d+").unwrap();
        session.exp_string(" 200005 ").unwrap();
        session.exp_string("dfml> ").unwrap();
        leave(session);
    }
}
