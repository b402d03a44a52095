//! GoogleSQL's spelling.

use super::*;

#[track_caller]
fn each(pairs: &[(&str, &str)]) {
    for (written, lowered) in pairs {
        assert_eq!(google(written), *lowered);
    }
}

#[test]
fn strings() {
    each(&[
        (r#"SELECT "a", "it's", 'b'"#, "SELECT 'a', 'it''s', 'b'"),
        (r#"SELECT "say \"hi\"\n", 'it\'s'"#, "SELECT 'say \"hi\"\n', 'it''s'"),
        (r#"SELECT r"\d+", R'a\'b'"#, r"SELECT '\d+', 'a\''b'"),
        ("SELECT \"\"\"two\n\"lines\" \"\"\"", "SELECT 'two\n\"lines\" '"),
        (r#"SELECT "\x41\u00e9\101\\""#, "SELECT 'AéA\\'"),
        (r#"SELECT b"\x00z", rb'\x'"#, "SELECT X'007A', X'5C78'"),
        (
            "SELECT '# no `comment` -- here', \"a;b\"",
            "SELECT '# no `comment` -- here', 'a;b'",
        ),
        ("SELECT DATE \"2016-08-01\"", "SELECT DATE '2016-08-01'"),
    ]);
}

#[test]
fn names_in_backquotes() {
    each(&[
        (
            "SELECT `fullVisitorId` FROM `bigquery-public-data.google_analytics_sample.ga_sessions_*` AS s",
            "SELECT \"fullVisitorId\" FROM \"bigquery-public-data\".\"google_analytics_sample\".\"ga_sessions_*\" AS s",
        ),
        (
            "SELECT * FROM `my-project`.ds.`t`",
            "SELECT * FROM \"my-project\".ds.\"t\"",
        ),
        (
            "SELECT * FROM `example.com:proj.ds.t`",
            "SELECT * FROM \"example.com:proj\".\"ds\".\"t\"",
        ),
        ("SELECT `a\"b`", "SELECT \"a\"\"b\""),
        (
            "SELECT a - b FROM my-project.austin.trips t JOIN my-project.austin.stations s ON t.a-s.b > 0",
            "SELECT a - b FROM \"my-project\".austin.trips t JOIN \"my-project\".austin.stations s ON t.a-s.b > 0",
        ),
        (
            "SELECT EXTRACT(YEAR FROM t.a-t.b) FROM t",
            "SELECT EXTRACT(YEAR FROM t.a-t.b) FROM t",
        ),
    ]);
}

#[test]
fn comments_and_trailing_commas() {
    each(&[
        (
            "SELECT a, # first\n b, /* last /* */\nFROM t # end",
            "SELECT a, -- first\n b /* last / * */\nFROM t -- end",
        ),
        (
            "SELECT (SELECT 1 AS x,), f(a), FROM t",
            "SELECT (SELECT 1 AS x), f(a) FROM t",
        ),
        (
            "WITH p AS (SELECT a, FROM t) SELECT a, b,",
            "WITH p AS (SELECT a FROM t) SELECT a, b",
        ),
        ("SELECT a, UNION ALL SELECT b", "SELECT a UNION ALL SELECT b"),
        (
            "SELECT * EXCEPT (a, b) REPLACE (c + 1 AS c) FROM births",
            "SELECT * EXCEPT (a, b) REPLACE (c + 1 AS c) FROM births",
        ),
    ]);
}

#[test]
fn indexes_of_arrays() {
    each(&[
        (
            "SELECT hits[OFFSET(0)], hits[safe_offset(2)]",
            "SELECT hits[1], hits[3]",
        ),
        ("SELECT hits[ORDINAL(1)], h[SAFE_ORDINAL(n)]", "SELECT hits[1], h[n]"),
        (
            "SELECT a[OFFSET(n)], a[OFFSET(n - 1)]",
            "SELECT a[n + 1], a[(n - 1) + 1]",
        ),
        (
            "SELECT predicted_label_probs[OFFSET(0)].prob, SPLIT(s, \"/\")[SAFE_OFFSET(1)] FROM p LIMIT 5 OFFSET 2",
            "SELECT predicted_label_probs[1]['prob'], SPLIT(s, '/')[2] FROM p LIMIT 5 OFFSET 2",
        ),
        (
            "SELECT ARRAY<STRING>[\"a\", 'b'], ARRAY<STRUCT<a INT64>>[]",
            "SELECT ['a', 'b'], []",
        ),
    ]);
}

#[test]
fn casts_and_types() {
    each(&[
        (
            "SELECT CAST(a AS STRING), cast(b as int64), CAST(c AS FLOAT64), CAST(d AS BOOL), CAST(e AS BYTES)",
            "SELECT CAST(a AS VARCHAR), cast(b as BIGINT), CAST(c AS DOUBLE), CAST(d AS BOOLEAN), CAST(e AS BYTEA)",
        ),
        (
            "SELECT CAST(a AS NUMERIC), CAST(a AS NUMERIC(10, 2)), CAST(t AS DATETIME), CAST(t AS DATE)",
            "SELECT CAST(a AS DECIMAL(38, 9)), CAST(a AS DECIMAL(10, 2)), CAST(t AS TIMESTAMP), CAST(t AS DATE)",
        ),
        (
            "SELECT SAFE_CAST(CAST(\"1\" AS INT64) AS FLOAT64), CAST([1] AS ARRAY<INT64>)",
            "SELECT TRY_CAST(CAST('1' AS BIGINT) AS DOUBLE), CAST([1] AS ARRAY<BIGINT>)",
        ),
        ("SELECT string, int64 FROM t", "SELECT string, int64 FROM t"),
        (
            "SELECT SAFE.LOG(x), SAFE.Parse_Date(\"%F\", d)",
            "SELECT safe_log(x), safe_parse_date('%F', d)",
        ),
        ("SELECT 0xFF, 1e3, .5", "SELECT 255, 1e3, .5"),
    ]);
}

#[test]
fn parts_of_dates() {
    each(&[
        (
            "SELECT EXTRACT(DAYOFWEEK FROM pickup) AS d, EXTRACT(HOUR FROM pickup) AS h FROM trips",
            "SELECT (CAST(date_part('dow', pickup) AS BIGINT) + 1) AS d, EXTRACT(HOUR FROM pickup) AS h FROM trips",
        ),
        (
            "SELECT EXTRACT(dayofweek FROM CAST(s AS DATETIME))",
            "SELECT (CAST(date_part('dow', CAST(s AS TIMESTAMP)) AS BIGINT) + 1)",
        ),
        (
            "SELECT EXTRACT(DAYOFYEAR FROM d), EXTRACT(DATE FROM t)",
            "SELECT CAST(date_part('doy', d) AS BIGINT), CAST(t AS DATE)",
        ),
        (
            "SELECT EXTRACT(WEEK FROM d)",
            "SELECT ((CAST(date_part('doy', d) AS BIGINT) + 6 - CAST(date_part('dow', d) AS BIGINT)) / 7)",
        ),
        (
            "SELECT DATE_DIFF(a, b, DAY), TIMESTAMP_DIFF(a,b,second), DATE_DIFF(a, b, WEEK(MONDAY))",
            "SELECT DATE_DIFF(a, b, 'DAY'), TIMESTAMP_DIFF(a,b,'SECOND'), DATE_DIFF(a, b, 'WEEK(MONDAY)')",
        ),
        (
            "SELECT TIMESTAMP_TRUNC(t, HOUR, \"UTC\"), DATE_TRUNC(d, MONTH), LAST_DAY(d, YEAR)",
            "SELECT TIMESTAMP_TRUNC(t, 'HOUR', 'UTC'), CAST(date_trunc('month', d) AS DATE), LAST_DAY(d, 'YEAR')",
        ),
        (
            "SELECT DATE_DIFF(day, b, c), day FROM t",
            "SELECT DATE_DIFF(day, b, c), day FROM t",
        ),
    ]);
}

#[test]
fn conditions() {
    each(&[
        (
            "SELECT IF(a > 1, 'x', \"y\") AS c",
            "SELECT CASE WHEN a > 1 THEN 'x' ELSE 'y' END AS c",
        ),
        (
            "SELECT IF(totals.transactions IS NULL, 0, IF(b, 1, 2)) AS label",
            "SELECT CASE WHEN totals.transactions IS NULL THEN 0 ELSE CASE WHEN b THEN 1 ELSE 2 END END AS label",
        ),
        (
            "SELECT IF(a, -- yes\n b, c # no\n)",
            "SELECT CASE WHEN a THEN  -- yes\n b ELSE  c -- no\n END",
        ),
        (
            "SELECT IF(a, b, c)[OFFSET(0)]",
            "SELECT (CASE WHEN a THEN b ELSE c END)[1]",
        ),
        (
            "SELECT COUNTIF(x > 3), COUNT(*)",
            "SELECT COUNT(*) FILTER (WHERE x > 3), COUNT(*)",
        ),
        (
            "SELECT COUNTIF(x) OVER (PARTITION BY u)",
            "SELECT COUNT(CASE WHEN x THEN 1 END) OVER (PARTITION BY u)",
        ),
        (
            "CREATE TABLE IF NOT EXISTS t (a INT)",
            "CREATE TABLE IF NOT EXISTS t (a INT)",
        ),
    ]);
}

#[test]
fn a_model_of_taxi_rides() {
    let text = r##"
#standardSQL
CREATE OR REPLACE MODEL `my-project.taxi.fare`
TRANSFORM (
  * EXCEPT (pickup_datetime, tolls),
  ML.FEATURE_CROSS(STRUCT(CAST(EXTRACT(DAYOFWEEK FROM pickup_datetime) AS STRING) AS dow)) AS day_hr, # crossed
  IF(passengers > 4, "many", "few") AS party,
)
OPTIONS (input_label_cols=["fare"], model_type="linear_reg", l2_reg=0.1) AS
SELECT
  (tolls + fare_amount) AS fare,
  pickup_datetime, tolls,
  passengers, -- how many
FROM `nyc-tlc.yellow.trips`
WHERE MOD(ABS(FARM_FINGERPRINT(CAST(pickup_datetime AS STRING))), 1000) = 1;
"##;
    assert_eq!(
        script(text),
        [
            "SELECT * FROM ML.TRAIN('my-project.taxi.fare', (SELECT\n  (tolls + fare_amount) AS fare,\n  pickup_datetime, tolls,\n  \
          passengers -- how many\nFROM \"nyc-tlc\".\"yellow\".\"trips\"\nWHERE \
          ((ABS(FARM_FINGERPRINT(CAST(pickup_datetime AS VARCHAR)))) % (1000)) = 1), model_type => 'linear_reg', \
          input_label_cols => ['fare'], l2_reg => 0.1, transform => '* EXCEPT (pickup_datetime, tolls),\n  \
          ML.FEATURE_CROSS(STRUCT(CAST((CAST(date_part(''dow'', pickup_datetime) AS BIGINT) + 1) AS VARCHAR) AS dow)) AS day_hr, \
          -- crossed\n  CASE WHEN passengers > 4 THEN ''many'' ELSE ''few'' END AS party')"
        ]
    );
}

#[test]
fn none_of_it_without_the_dialect() {
    let text = "SELECT IF(a, b, c), \"Col\", `x.y`, COUNTIF(z), CAST(a AS STRING), a[OFFSET(0)], SAFE.f(x), EXTRACT(DAYOFWEEK FROM d), #x, 0xFF, E'\\';' FROM t";
    match &read(text, false)[..] {
        [Statement::Plain(sql)] => assert!(sql.text == text && sql.is_verbatim()),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        generic("CREATE MODEL m OPTIONS (a = \"x\") AS SELECT \"Age\", `b.c` FROM \"T\""),
        "SELECT * FROM ML.TRAIN('m', (SELECT \"Age\", `b.c` FROM \"T\"), a => 'x')"
    );
}

#[test]
fn functions_that_are_operators_here() {
    each(&[
        ("SELECT MOD(trip_id, 5) = 0", "SELECT ((trip_id) % (5)) = 0"),
        (
            "SELECT SAFE_DIVIDE(tips, COUNTIF(paid)) FROM t",
            "SELECT (CAST((tips) AS DOUBLE) / nullif(CAST((COUNT(*) FILTER (WHERE paid)) AS DOUBLE), 0)) FROM t",
        ),
        ("SELECT MOD(a)", "SELECT MOD(a)"),
    ]);
}
