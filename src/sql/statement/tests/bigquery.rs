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
        ("SELECT DATETIME \"2016-08-01\"", "SELECT TIMESTAMP '2016-08-01'"),
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
            "SELECT google_string(a), google_int64(b), CAST(c AS DOUBLE), CAST(d AS BOOLEAN), CAST(e AS BYTEA)",
        ),
        (
            "SELECT CAST(a AS NUMERIC), CAST(a AS NUMERIC(10, 2)), CAST(t AS DATETIME), CAST(t AS DATE)",
            "SELECT CAST(a AS DECIMAL(38, 9)), CAST(a AS DECIMAL(10, 2)), CAST(t AS TIMESTAMP), CAST(t AS DATE)",
        ),
        (
            "SELECT SAFE_CAST(CAST(\"1\" AS INT64) AS FLOAT64), CAST([1] AS ARRAY<INT64>)",
            "SELECT TRY_CAST(google_int64('1') AS DOUBLE), CAST([1] AS ARRAY<BIGINT>)",
        ),
        ("SELECT string, int64 FROM t", "SELECT string, int64 FROM t"),
        (
            "SELECT SAFE.LOG(x), SAFE.Parse_Date(\"%F\", d)",
            "SELECT google_safe(google_log(x)), google_safe(Parse_Date('%F', d))",
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
            "SELECT TIMESTAMP_TRUNC(t, 'HOUR', 'UTC'), google_date_trunc(d, 'MONTH'), LAST_DAY(d, 'YEAR')",
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
          ((ABS(FARM_FINGERPRINT(google_string(pickup_datetime)))) % (1000)) = 1), model_type => 'linear_reg', \
          input_label_cols => ['fare'], l2_reg => 0.1, transform => '* EXCEPT (pickup_datetime, tolls),\n  \
          ML.FEATURE_CROSS(STRUCT(google_string((CAST(date_part(''dow'', pickup_datetime) AS BIGINT) + 1)) AS dow)) AS day_hr, \
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

#[test]
fn functions_of_another_name() {
    each(&[
        (
            "SELECT SAFE_CAST(a AS STRING), safe_cast(a AS int64), CAST(a AS STRING(10))",
            "SELECT google_safe(google_string(a)), google_safe(google_int64(a)), CAST(a AS VARCHAR(10))",
        ),
        (
            "SELECT LOG(a, 2), Concat(a, \"b\"), t.log, DATE(a), DATE '2020-01-01', SUBSTR(a FROM 2)",
            "SELECT google_log(a, 2), google_concat(a, 'b'), t.log, google_date(a), DATE '2020-01-01', SUBSTR(a FROM 2)",
        ),
        (
            "SELECT DATE_ADD(d, INTERVAL n + 1 DAY), DATE_SUB(CURRENT_DATE(), INTERVAL 1 YEAR), TIMESTAMP_ADD(t, interval 5 minute)",
            "SELECT DATE_ADD(d, n + 1, 'DAY'), DATE_SUB(CURRENT_DATE(), 1, 'YEAR'), TIMESTAMP_ADD(t, 5, 'MINUTE')",
        ),
        (
            "SELECT EXTRACT(HOUR FROM t AT TIME ZONE \"Asia/Tokyo\"), EXTRACT(WEEK(MONDAY) FROM d), EXTRACT(DATE FROM t AT TIME ZONE z)",
            "SELECT google_extract(t, 'HOUR', 'Asia/Tokyo'), google_extract(d, 'WEEK(MONDAY)'), google_date(t, z)",
        ),
        (
            "SELECT STRING_AGG(a), STRING_AGG(DISTINCT a ORDER BY b), STRING_AGG(a, '-'), APPROX_COUNT_DISTINCT(a)",
            "SELECT STRING_AGG(a, ','), STRING_AGG(DISTINCT a, ',' ORDER BY b), STRING_AGG(a, '-'), COUNT(DISTINCT a)",
        ),
        (
            "SELECT x FROM t, UNNEST(t.arr) AS x JOIN UNNEST([1]) y ON x = y WHERE a",
            "SELECT x FROM (SELECT *, unnest(t.arr) AS x FROM t AS t) AS t JOIN UNNEST([1]) y(y) ON x = y WHERE a",
        ),
        (
            "SELECT x FROM UNNEST([1]) AS x(v), UNNEST(a), t",
            "SELECT x FROM UNNEST([1]) AS x(v), UNNEST(a), t",
        ),
    ]);
}

#[test]
fn arrays_of_calls_and_queries() {
    each(&[
        (
            "SELECT c.weight FROM ML.WEIGHTS(MODEL m), UNNEST(category_weights) AS c",
            "SELECT c.weight FROM (SELECT *, unnest(category_weights) AS c FROM ML.WEIGHTS('m') AS WEIGHTS) AS WEIGHTS",
        ),
        (
            "SELECT x FROM (SELECT a FROM t) AS q CROSS JOIN UNNEST(q.a) AS x WHERE x > 1",
            "SELECT x FROM (SELECT *, unnest(q.a) AS x FROM (SELECT a FROM t) AS q) AS q WHERE x > 1",
        ),
        (
            "SELECT x FROM t LEFT JOIN UNNEST(a) AS x ON TRUE WHERE b",
            "SELECT x FROM (SELECT *, unnest(CASE WHEN cardinality(a) > 0 THEN a ELSE [NULL] END) AS x FROM t AS t) AS t WHERE b",
        ),
        (
            "SELECT x FROM (SELECT a FROM t), UNNEST(a) AS x",
            "SELECT x FROM (SELECT a FROM t), UNNEST(a) AS x(x)",
        ),
        (
            "SELECT ARRAY_AGG(STRUCT(a, b) ORDER BY c DESC LIMIT 5), ARRAY_AGG(a) FROM t",
            "SELECT array_slice(ARRAY_AGG(STRUCT(a, b) ORDER BY c DESC), 1, 5), ARRAY_AGG(a) FROM t",
        ),
    ]);
}

#[test]
fn places_of_elements() {
    each(&[
        (
            "SELECT x, pos FROM UNNEST([3]) AS x WITH OFFSET AS pos",
            "SELECT x, pos FROM UNNEST([3], range(0, google_array_length([3]))) AS x(x, pos)",
        ),
        (
            "SELECT x, offset FROM UNNEST([3]) x WITH OFFSET ORDER BY offset LIMIT 5 OFFSET 2",
            "SELECT x, \"offset\" FROM UNNEST([3], range(0, google_array_length([3]))) x(x, \"offset\") ORDER BY \"offset\" LIMIT 5 OFFSET 2",
        ),
        (
            "SELECT x FROM t, UNNEST(a) AS x WITH OFFSET p, UNNEST(b)",
            "SELECT x FROM (SELECT * EXCEPT (\"element_2\"), \"element_2\".* FROM (SELECT *, unnest(b) AS \"element_2\" FROM \
             (SELECT *, unnest(a) AS x, unnest(range(0, google_array_length(a))) AS p FROM t AS t) AS t) AS t) AS t",
        ),
        (
            "SELECT a[1], f(x)[n], [1, 2], t.b[0].c",
            "SELECT a[2], f(x)[(n) + 1], [1, 2], t.b[1]['c']",
        ),
        (
            "SELECT ARRAY(SELECT AS STRUCT a, t.b, c + 1 AS d FROM t) FROM (SELECT AS STRUCT 1 AS a)",
            "SELECT ARRAY(SELECT STRUCT(a AS a, t.b AS b, c + 1 AS d) FROM t) FROM (SELECT 1 AS a)",
        ),
    ]);
}

#[test]
fn aggregates_in_other_words() {
    each(&[
        (
            "SELECT MAX_BY(x, y), ANY_VALUE(x HAVING MIN y), ANY_VALUE(x)",
            "SELECT first_value(x ORDER BY y DESC) FILTER (WHERE (y) IS NOT NULL), first_value(x ORDER BY y) FILTER (WHERE (y) IS NOT NULL), ANY_VALUE(x)",
        ),
        (
            "SELECT STRING_AGG(x, '-' ORDER BY y LIMIT 2)",
            "SELECT array_to_string(array_slice(ARRAY_AGG(x IGNORE NULLS ORDER BY y), 1, 2), '-')",
        ),
        (
            "SELECT PERCENTILE_CONT(x, 0.5 IGNORE NULLS) OVER (PARTITION BY k)",
            "SELECT PERCENTILE_CONT(x, 0.5) OVER (PARTITION BY k)",
        ),
        (
            "SELECT CURRENT_DATE('UTC'), CURRENT_DATE(), CURRENT_DATETIME, current_datetime()",
            "SELECT google_date(now(), 'UTC'), CURRENT_DATE(), google_datetime(now()), google_datetime(now())",
        ),
        (
            "SELECT TO_JSON_STRING(t), TO_JSON_STRING(x) FROM t, UNNEST(t.a) AS x",
            "SELECT TO_JSON_STRING(t.*), TO_JSON_STRING(x) FROM (SELECT *, unnest(t.a) AS x FROM t AS t) AS t",
        ),
        ("SELECT SAFE.MOD(a, b)", "SELECT ((a) % nullif(b, 0))"),
    ]);
}

#[test]
fn words_that_are_columns_in_googlesql() {
    each(&[(
        "SELECT user, t.user, top, Top AS TOP FROM t WHERE user > 1",
        "SELECT \"user\", t.user, \"top\", \"top\" AS \"top\" FROM t WHERE \"user\" > 1",
    )]);
    assert_eq!(google("DECLARE user INT64 DEFAULT 3; SELECT user").trim(), "SELECT (3)");
}

#[test]
fn quotients() {
    each(&[
        ("SELECT a / b", "SELECT google_divide(a, b)"),
        ("SELECT a/b/c", "SELECT google_divide(google_divide(a, b), c)"),
        (
            "SELECT (a+b)/c, f(x)/y.z",
            "SELECT google_divide((a+b), c), google_divide(f(x), y.z)",
        ),
        (
            "SELECT -a/b, a / -b",
            "SELECT -google_divide(a, b), google_divide(a, -b)",
        ),
        ("SELECT a*b/c", "SELECT google_divide(a*b, c)"),
        ("SELECT a / b * c + d", "SELECT google_divide(a, b) * c + d"),
        ("SELECT a - b / c AS d", "SELECT a - google_divide(b, c) AS d"),
        (
            "SELECT count(*)/sum(x) FROM t",
            "SELECT google_divide(count(*), sum(x)) FROM t",
        ),
        (
            "SELECT CASE WHEN a / 2 > 1 THEN b ELSE CASE c WHEN 1 THEN 2 END END / x",
            "SELECT google_divide(CASE WHEN google_divide(a, 2) > 1 THEN b ELSE CASE c WHEN 1 THEN 2 END END, x)",
        ),
        (
            "SELECT sum(x) OVER (PARTITION BY k) / y, SUM(x) OVER w / 2 FROM t",
            "SELECT google_divide(sum(x) OVER (PARTITION BY k), y), google_divide(SUM(x) OVER w, 2) FROM t",
        ),
        (
            "SELECT a FROM t WHERE NOT a / b > 1 AND (c + 1) / d IN (1 / 2) ORDER BY a / b DESC",
            "SELECT a FROM t WHERE NOT google_divide(a, b) > 1 AND google_divide((c + 1), d) IN (google_divide(1, 2)) ORDER BY google_divide(a, b) DESC",
        ),
        (
            "SELECT DISTINCT a / b, `c d` / `t`.`e`",
            "SELECT DISTINCT google_divide(a, b), google_divide(\"c d\", \"t\".\"e\")",
        ),
        (
            "SELECT SAFE.LOG(a / b) / a[OFFSET(0)], ML.STANDARD_SCALER(a / b) OVER () FROM t",
            "SELECT google_divide(google_safe(google_log(google_divide(a, b))), a[1]), ML.STANDARD_SCALER(google_divide(a, b)) OVER () FROM t",
        ),
        ("SELECT * EXCEPT (a), t.* FROM t", "SELECT * EXCEPT (a), t.* FROM t"),
        (
            "SELECT a, -- x / y\n b /* c / d */ FROM t",
            "SELECT a, -- x / y\n b /* c / d */ FROM t",
        ),
        ("SELECT LEFT(a, 2) / 2", "SELECT google_divide(LEFT(a, 2), 2)"),
    ]);
}
