//! Statements on a table of arrays and structs, with what GoogleSQL's reference says of them.

use super::*;

/// Four rows: the third has empty arrays, the fourth is NULL but for its key.
const TABLE: &str = "CREATE TABLE t AS
    SELECT 1 AS k, [10, 20, 30] AS arr, ['a', 'b'] AS tags,
        [STRUCT('x' AS name, 5 AS qty), STRUCT('y' AS name, 7 AS qty)] AS items, STRUCT(3 AS f, 'q' AS g) AS s
    UNION ALL SELECT 2, [20], ['c'], [STRUCT('z' AS name, 1 AS qty)], STRUCT(4 AS f, 'r' AS g)
    UNION ALL SELECT 3, CAST([] AS ARRAY<INT64>), [], [], STRUCT(1 AS f, 'p' AS g)
    UNION ALL SELECT 4, NULL, NULL, NULL, NULL";

async fn all(cases: &[(&str, &str)]) {
    let ctx = context();
    rows(&ctx, TABLE).await.unwrap();
    let mut failed = vec![];
    for (query, expected) in cases {
        match rows(&ctx, query).await {
            Ok(told) if told == *expected => {}
            Ok(told) => failed.push(format!("{query}\n  gave {told}, not {expected}")),
            Err(error) => failed.push(format!("{query}\n  {error}")),
        }
    }
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

/// Arrays in FROM, and values among their elements.
#[tokio::test]
async fn arrays_in_from() {
    all(&[
        ("SELECT 2 IN UNNEST([1,2])", "true"),
        ("SELECT 5 NOT IN UNNEST([1,2])", "true"),
        ("SELECT NOT 5 IN UNNEST([1,2])", "true"),
        ("SELECT 3 IN UNNEST([1,NULL]) IS NULL", "true"),
        ("SELECT 3 IN UNNEST(CAST([] AS ARRAY<INT64>))", "false"),
        ("SELECT k, 20 IN UNNEST(arr) FROM t ORDER BY k", "1|true\n2|true\n3|false\n4|false"),
        ("SELECT k FROM t WHERE 20 IN UNNEST(arr) ORDER BY k", "1\n2"),
        ("SELECT k FROM t WHERE 20 NOT IN UNNEST(arr) ORDER BY k", "3\n4"),
        ("SELECT k FROM t WHERE k IN UNNEST([1,3]) ORDER BY k", "1\n3"),
        ("SELECT k FROM t WHERE k IN UNNEST(GENERATE_ARRAY(3,9)) ORDER BY k", "3\n4"),
        ("SELECT x, pos FROM UNNEST(['a','b']) AS x WITH OFFSET AS pos ORDER BY pos", "a|0\nb|1"),
        ("SELECT x, offset FROM UNNEST(['a','b']) AS x WITH OFFSET ORDER BY offset", "a|0\nb|1"),
        ("SELECT x, off FROM UNNEST(['a','b']) x WITH OFFSET off ORDER BY off", "a|0\nb|1"),
        ("SELECT k, x, pos FROM t, UNNEST(arr) AS x WITH OFFSET AS pos ORDER BY k, pos", "1|10|0\n1|20|1\n1|30|2\n2|20|0"),
        ("SELECT k, x, offset FROM t, UNNEST(arr) AS x WITH OFFSET ORDER BY k, offset", "1|10|0\n1|20|1\n1|30|2\n2|20|0"),
        ("SELECT k, x, pos FROM t CROSS JOIN UNNEST(t.arr) AS x WITH OFFSET pos WHERE pos > 0 ORDER BY k, pos", "1|20|1\n1|30|2"),
        ("SELECT k, x, pos FROM t LEFT JOIN UNNEST(arr) AS x WITH OFFSET pos ORDER BY k, pos", "1|10|0\n1|20|1\n1|30|2\n2|20|0\n3|NULL|NULL\n4|NULL|NULL"),
        ("SELECT k, name, qty FROM t, UNNEST(items) ORDER BY k, name", "1|x|5\n1|y|7\n2|z|1"),
        ("SELECT k, i.name FROM t, t.items AS i ORDER BY k, i.name", "1|x\n1|y\n2|z"),
        ("SELECT COUNT(*) FROM t, UNNEST(arr)", "4"),
        ("SELECT u.k, x FROM t AS u JOIN (SELECT 1 AS k) AS v USING (k), UNNEST(u.arr) AS x ORDER BY x", "1|10\n1|20\n1|30"),
        ("SELECT u.k, x FROM t AS u JOIN (SELECT 1 AS kk) AS v ON u.k = v.kk CROSS JOIN UNNEST(u.arr) AS x ORDER BY x", "1|10\n1|20\n1|30"),
        ("SELECT a.k, x FROM t AS a, (SELECT 2 AS z) AS b, UNNEST(a.arr) AS x WHERE a.k = b.z", "2|20"),
        ("SELECT name, qty FROM UNNEST([STRUCT('a' AS name, 1 AS qty), STRUCT('b', 2)]) ORDER BY qty", "a|1\nb|2"),
        ("SELECT name FROM UNNEST([STRUCT('a' AS name, 1 AS qty)]) WHERE qty = 1", "a"),
        ("SELECT * FROM UNNEST([STRUCT('a' AS name, 1 AS qty)])", "a|1"),
        ("SELECT k, qty FROM t, UNNEST(items) WHERE name = 'y'", "1|7"),
        ("SELECT k, i.qty FROM t CROSS JOIN UNNEST(items) AS i WHERE i.name IN UNNEST(tags) OR i.qty IN UNNEST([1])", "2|1"),
        ("SELECT u.k, x, pos FROM t AS u JOIN (SELECT 1 AS k) AS v USING (k), UNNEST(u.arr) AS x WITH OFFSET AS pos ORDER BY pos DESC LIMIT 1 OFFSET 1", "1|20|1"),
        ("SELECT v.z, x FROM (SELECT 1 AS z) AS v LEFT JOIN t AS u ON u.k = v.z LEFT JOIN UNNEST(u.arr) AS x ORDER BY x", "1|10\n1|20\n1|30"),
        ("SELECT COUNT(*) FROM t AS a JOIN t AS b ON a.k = b.k JOIN UNNEST(a.arr) AS x ON x > 15", "3"),
        ("WITH q AS (SELECT k, arr AS list FROM t) SELECT q.k, COUNT(*) FROM q JOIN t USING (k) CROSS JOIN UNNEST(list) AS x GROUP BY k ORDER BY k", "1|3\n2|1"),
        ("SELECT 3 NOT IN UNNEST([1, NULL]) IS NULL", "true"),
        ("SELECT name, SUM(qty) AS n FROM t, UNNEST(items) GROUP BY name ORDER BY name", "x|5\ny|7\nz|1"),
        ("SELECT [1,2,3][1]", "2"),
    ])
    .await;
}

/// Subqueries over the elements of arrays, and arrays of what queries give.
#[tokio::test]
async fn queries_over_arrays() {
    all(&[
        ("SELECT k, (SELECT SUM(x) FROM UNNEST(arr) AS x) FROM t ORDER BY k", "1|60\n2|20\n3|NULL\n4|NULL"),
        ("SELECT k, (SELECT AVG(x) FROM UNNEST(arr) AS x) FROM t ORDER BY k", "1|20.0\n2|20.0\n3|NULL\n4|NULL"),
        ("SELECT k, (SELECT COUNT(x) FROM UNNEST(arr) AS x) FROM t ORDER BY k", "1|3\n2|1\n3|0\n4|0"),
        ("SELECT k, (SELECT COUNTIF(x > 15) FROM UNNEST(arr) AS x) FROM t ORDER BY k", "1|2\n2|1\n3|0\n4|0"),
        ("SELECT k, TO_JSON_STRING(ARRAY(SELECT x + 1 FROM UNNEST(arr) AS x)) FROM t ORDER BY k", "1|[11,21,31]\n2|[21]\n3|[]\n4|[]"),
        ("SELECT k, ARRAY_LENGTH(ARRAY(SELECT x FROM UNNEST(arr) AS x WHERE x > 15)) FROM t ORDER BY k", "1|2\n2|1\n3|0\n4|0"),
        ("SELECT k, (SELECT ARRAY_AGG(x) FROM UNNEST(arr) AS x WHERE x > 25) IS NULL FROM t ORDER BY k", "1|false\n2|true\n3|true\n4|true"),
        ("SELECT k, (SELECT x FROM UNNEST(arr) AS x LIMIT 0) IS NULL FROM t ORDER BY k", "1|true\n2|true\n3|true\n4|true"),
        ("SELECT k, (SELECT qty + k FROM UNNEST(items) WHERE name = 'y') FROM t ORDER BY k", "1|8\n2|NULL\n3|NULL\n4|NULL"),
        ("SELECT k, (SELECT name FROM UNNEST(items) WHERE qty > k + 5) FROM t ORDER BY k", "1|y\n2|NULL\n3|NULL\n4|NULL"),
        ("SELECT k, EXISTS(SELECT 1 FROM UNNEST(items) WHERE qty > k + 5) FROM t ORDER BY k", "1|true\n2|false\n3|false\n4|false"),
        ("SELECT k, TO_JSON_STRING(ARRAY(SELECT x FROM UNNEST(arr) AS x ORDER BY x DESC)) FROM t ORDER BY k", "1|[30,20,10]\n2|[20]\n3|[]\n4|[]"),
        ("SELECT k, TO_JSON_STRING(ARRAY(SELECT x FROM UNNEST(arr) AS x ORDER BY x DESC LIMIT 2)) FROM t ORDER BY k", "1|[30,20]\n2|[20]\n3|[]\n4|[]"),
        ("SELECT k, TO_JSON_STRING(ARRAY(SELECT x FROM UNNEST(arr) AS x LIMIT 2)) FROM t ORDER BY k", "1|[10,20]\n2|[20]\n3|[]\n4|[]"),
        ("SELECT k, (SELECT x FROM UNNEST(arr) AS x ORDER BY x DESC LIMIT 1) FROM t ORDER BY k", "1|30\n2|20\n3|NULL\n4|NULL"),
        ("SELECT k, (SELECT STRING_AGG(y, '-') FROM UNNEST(tags) AS y) FROM t ORDER BY k", "1|a-b\n2|c\n3|NULL\n4|NULL"),
        ("SELECT k, (SELECT STRING_AGG(name) FROM UNNEST(items)) FROM t ORDER BY k", "1|x,y\n2|z\n3|NULL\n4|NULL"),
        ("SELECT k, (SELECT SUM(qty) FROM UNNEST(items) WHERE name <> 'x') FROM t ORDER BY k", "1|7\n2|1\n3|NULL\n4|NULL"),
        ("SELECT k, TO_JSON_STRING(ARRAY(SELECT AS STRUCT name, qty * 2 AS q FROM UNNEST(items))) FROM t ORDER BY k", "1|[{\"name\":\"x\",\"q\":10},{\"name\":\"y\",\"q\":14}]\n2|[{\"name\":\"z\",\"q\":2}]\n3|[]\n4|[]"),
        ("SELECT k, TO_JSON_STRING(ARRAY(SELECT DISTINCT x FROM UNNEST(arr) AS x)) FROM t ORDER BY k LIMIT 1", "1|[10,20,30]"),
        ("SELECT k, (SELECT MAX(x) - MIN(x) FROM UNNEST(arr) AS x) FROM t ORDER BY k", "1|20\n2|0\n3|NULL\n4|NULL"),
        ("SELECT k, TO_JSON_STRING(ARRAY(SELECT x FROM UNNEST(arr) AS x WITH OFFSET o WHERE o > 0)) FROM t ORDER BY k", "1|[20,30]\n2|[]\n3|[]\n4|[]"),
        ("SELECT TO_JSON_STRING(ARRAY(SELECT x * 2 FROM UNNEST([1,2,3]) AS x))", "[2,4,6]"),
        ("SELECT TO_JSON_STRING(ARRAY(SELECT x FROM UNNEST([3,1,2]) AS x ORDER BY x))", "[1,2,3]"),
        ("SELECT TO_JSON_STRING(ARRAY(SELECT 1 UNION ALL SELECT 2))", "[1,2]"),
        ("SELECT ARRAY_LENGTH(ARRAY(SELECT x FROM UNNEST([1,2]) AS x WHERE x > 5))", "0"),
        ("SELECT ARRAY_LENGTH(ARRAY(SELECT k FROM t))", "4"),
        ("SELECT k, (SELECT AS STRUCT SUM(x) AS total, COUNT(*) AS n FROM UNNEST(arr) AS x).total FROM t ORDER BY k", "1|60\n2|20\n3|NULL\n4|NULL"),
        ("SELECT ARRAY(SELECT AS STRUCT k, s.f FROM t WHERE k < 3 ORDER BY k)[OFFSET(1)].f", "4"),
        ("SELECT TO_JSON_STRING(ARRAY(SELECT k FROM t ORDER BY k DESC))", "[4,3,2,1]"),
        ("SELECT TO_JSON_STRING(ARRAY(SELECT k FROM t ORDER BY k DESC LIMIT 2))", "[4,3]"),
        ("SELECT TO_JSON_STRING(ARRAY(SELECT k FROM t WHERE k > 9))", "[]"),
        ("SELECT COUNT(*) FROM (SELECT AS STRUCT 1 AS a, 2 AS b)", "1"),
        ("SELECT k, (SELECT SUM(qty) * k FROM UNNEST(items)) FROM t ORDER BY k", "1|12\n2|2\n3|NULL\n4|NULL"),
        ("SELECT k, (SELECT COUNT(DISTINCT x > 15) FROM UNNEST(arr) AS x) FROM t ORDER BY k", "1|2\n2|1\n3|0\n4|0"),
        ("SELECT k, (SELECT STRING_AGG(y, '-' ORDER BY y DESC) FROM UNNEST(tags) AS y) FROM t ORDER BY k", "1|b-a\n2|c\n3|NULL\n4|NULL"),
        ("SELECT k, (SELECT LOGICAL_OR(x > 25) FROM UNNEST(arr) AS x) FROM t ORDER BY k", "1|true\n2|false\n3|NULL\n4|NULL"),
        ("SELECT k, (SELECT SUM(x) / COUNT(*) FROM UNNEST(arr) AS x WHERE x > 15) FROM t WHERE k < 3 ORDER BY k", "1|25.0\n2|20.0"),
        ("SELECT k, (SELECT x FROM UNNEST(arr) AS x WITH OFFSET AS o WHERE o = k) FROM t ORDER BY k", "1|20\n2|NULL\n3|NULL\n4|NULL"),
        ("SELECT k, (SELECT name FROM UNNEST(items) WITH OFFSET AS o ORDER BY o DESC LIMIT 1) FROM t ORDER BY k", "1|y\n2|z\n3|NULL\n4|NULL"),
        ("SELECT k, (SELECT MAX(t.k + qty) FROM UNNEST(items)) FROM t ORDER BY k", "1|8\n2|3\n3|NULL\n4|NULL"),
        ("WITH q AS (SELECT k AS id, items AS list FROM t) SELECT id, (SELECT SUM(qty + id) FROM UNNEST(list)) FROM q ORDER BY id", "1|14\n2|3\n3|NULL\n4|NULL"),
    ])
    .await;
}

/// Times of day, and what is now in a zone.
#[tokio::test]
async fn times_and_zones() {
    all(&[
        ("SELECT CURRENT_DATE('America/New_York') >= DATE '2020-01-01'", "true"),
        ("SELECT CURRENT_DATE(\"UTC\") = CURRENT_DATE()", "true"),
        ("SELECT DATE_DIFF(CURRENT_DATE('Pacific/Kiritimati'), CURRENT_DATE('Etc/GMT+12'), DAY) >= 1", "true"),
        ("SELECT CURRENT_DATETIME() > DATETIME '2020-01-01'", "true"),
        ("SELECT CURRENT_DATETIME('Asia/Tokyo') > CURRENT_DATETIME()", "true"),
        ("SELECT CURRENT_DATETIME > DATETIME '2020-01-01'", "true"),
        ("SELECT CURRENT_TIME('Asia/Tokyo') IS NOT NULL", "true"),
        ("SELECT TIME_TRUNC(TIME '15:30:00', HOUR)", "15:00:00"),
        ("SELECT TIME_ADD(TIME '15:30:00', INTERVAL 10 MINUTE)", "15:40:00"),
        ("SELECT TIME_ADD(TIME '23:30:00', INTERVAL 1 HOUR)", "00:30:00"),
        ("SELECT TIME_SUB(TIME '15:30:00', INTERVAL 10 MINUTE)", "15:20:00"),
        ("SELECT GENERATE_TIMESTAMP_ARRAY(TIMESTAMP '2016-10-05 00:00:00', TIMESTAMP '2016-10-05 00:00:02', INTERVAL 1 SECOND) IS NOT NULL", "true"),
        ("SELECT TIME_ADD(TIME '00:10:00', INTERVAL -3 HOUR)", "21:10:00"),
        ("SELECT TIME_TRUNC(TIME '15:30:45', MINUTE)", "15:30:00"),
        ("SELECT ARRAY_LENGTH(GENERATE_TIMESTAMP_ARRAY(TIMESTAMP '2016-10-05 00:00:00', TIMESTAMP '2016-10-05 00:00:02', INTERVAL 1 SECOND))", "3"),
    ])
    .await;
}

/// Aggregates in GoogleSQL's words, and the order of NULLs.
#[tokio::test]
async fn aggregates_and_order() {
    all(&[
        ("SELECT DISTINCT PERCENTILE_DISC(x, 0.5) OVER () FROM UNNEST(['c', NULL, 'b', 'a']) AS x", "b"),
        ("SELECT DISTINCT PERCENTILE_DISC(x, 0) OVER () FROM UNNEST(['c', NULL, 'b', 'a']) AS x", "a"),
        ("SELECT DISTINCT PERCENTILE_DISC(x, 1) OVER () FROM UNNEST(['c', NULL, 'b', 'a']) AS x", "c"),
        ("SELECT PERCENTILE_DISC(x, 0.5) IS NULL FROM UNNEST([NULL, CAST(NULL AS INT64)]) AS x", "true"),
        ("SELECT DISTINCT k, PERCENTILE_DISC(x, 0.4 IGNORE NULLS) OVER (PARTITION BY k) FROM t, UNNEST(arr) AS x ORDER BY k", "1|20\n2|20"),
        ("SELECT DISTINCT PERCENTILE_CONT(x, 0.5) OVER () FROM UNNEST([0, 3, NULL, 1, 2]) AS x", "1.5"),
        ("SELECT ANY_VALUE(x HAVING MAX y) FROM (SELECT 'a' AS x, 1 AS y UNION ALL SELECT 'b', 2)", "b"),
        ("SELECT MAX_BY(x, y) FROM (SELECT 'a' AS x, 1 AS y UNION ALL SELECT 'b', 2)", "b"),
        ("SELECT MIN_BY(x, y) FROM (SELECT 'a' AS x, 1 AS y UNION ALL SELECT 'b', 2)", "a"),
        ("SELECT STRING_AGG(DISTINCT x, ',' ORDER BY x LIMIT 1) FROM UNNEST(['b','a','a']) AS x", "a"),
        ("SELECT STRING_AGG(x LIMIT 1) FROM UNNEST(['a']) AS x", "a"),
        ("SELECT DISTINCT s.f FROM t WHERE k < 4 ORDER BY s.f", "1\n3\n4"),
        ("SELECT DISTINCT t.s.g FROM t WHERE k < 4 ORDER BY t.s.g DESC", "r\nq\np"),
        ("SELECT ARRAY_CONCAT_AGG(x) IS NOT NULL FROM (SELECT [1] AS x UNION ALL SELECT [2])", "true"),
        ("SELECT x, SUM(n) FROM (SELECT 'a' AS x, 1 AS n UNION ALL SELECT 'b', 2) GROUP BY ROLLUP(x) ORDER BY x", "NULL|3\na|1\nb|2"),
        ("SELECT x FROM UNNEST([1,NULL,2]) AS x ORDER BY x", "NULL\n1\n2"),
        ("SELECT x FROM UNNEST([1,NULL,2]) AS x ORDER BY x DESC", "2\n1\nNULL"),
        ("SELECT AS STRUCT 1 AS a, 2 AS b", "1|2"),
    ])
    .await;
}

/// Texts, bytes, JSON, and whole rows.
#[tokio::test]
async fn texts_bytes_and_rows() {
    all(&[
        (
            "SELECT TO_HEX(SHA1('Hello World'))",
            "0a4d55a8d778e5022fab701977c5d840bbc486d0",
        ),
        ("SELECT TO_BASE64(b'\\377\\340')", "/+A="),
        ("SELECT TO_BASE64(MD5('Hello World'))", "sQqNsWTgdUEFt6mb5y4/5Q=="),
        ("SELECT TO_HEX(FROM_BASE64('/+A='))", "ffe0"),
        ("SELECT TO_HEX(FROM_HEX('00010203aaeeefff'))", "00010203aaeeefff"),
        (
            "SELECT TO_JSON_STRING(t) FROM (SELECT 1 AS id, 'a' AS b) AS t",
            "{\"id\":1,\"b\":\"a\"}",
        ),
        (
            "WITH q AS (SELECT 1 AS id, [10,20] AS c) SELECT TO_JSON_STRING(q) FROM q",
            "{\"id\":1,\"c\":[10,20]}",
        ),
        (
            "WITH q AS (SELECT 1 AS id, [10,20] AS c) SELECT FARM_FINGERPRINT(TO_JSON_STRING(q)) IS NULL FROM q",
            "false",
        ),
        ("SELECT INITCAP('Apples1oranges2pears', '12')", "Apples1Oranges2Pears"),
        ("SELECT SOUNDEX('Ashcraft')", "A261"),
        ("SELECT SAFE.MOD(5, 0) IS NULL", "true"),
        ("SELECT SAFE.SAFE_DIVIDE(1, 0) IS NULL", "true"),
        ("SELECT INSTR('banana', 'an', 3)", "4"),
        ("SELECT INSTR('banana', 'an', 1, 2)", "4"),
        ("SELECT INSTR('helloooo', 'oo', -1, 1)", "7"),
        ("SELECT UNICODE('âbcd')", "226"),
        ("SELECT EDIT_DISTANCE('a', 'aa')", "1"),
        ("SELECT JSON_EXTRACT_SCALAR('{\"a\":\"b\"}', '$.a')", "b"),
        ("SELECT JSON_VALUE('{\"a\":{\"b\":\"c\"}}', '$.a.b')", "c"),
        ("SELECT JSON_QUERY('{\"a\":{\"b\":\"c\"}}', '$.a')", "{\"b\":\"c\"}"),
        ("SELECT EUCLIDEAN_DISTANCE([1.0, 2.0], [3.0, 4.0]) > 2.8", "true"),
        ("SELECT [1,2,3][1]", "2"),
        ("SELECT INITCAP(\"it's a test\")", "It's A Test"),
        (
            "SELECT COUNT(*) FROM t AS r WHERE MOD(ABS(FARM_FINGERPRINT(TO_JSON_STRING(r))), 10) < 10",
            "4",
        ),
        ("SELECT JSON_VALUE_ARRAY('{\"f\":[\"a\",1]}', '$.f')[OFFSET(1)]", "1"),
        (
            "SELECT JSON_VALUE('{\"a b\":{\"c\":null}}', \"$['a b'].c\") IS NULL",
            "true",
        ),
        ("SELECT JSON_EXTRACT('[1,{\"z\":2}]', '$[1].z')", "2"),
        ("SELECT JSON_VALUE('no json', '$.a') IS NULL", "true"),
        (
            "SELECT TO_JSON_STRING(t) FROM t WHERE k = 3",
            "{\"k\":3,\"arr\":[],\"tags\":[],\"items\":[],\"s\":{\"f\":1,\"g\":\"p\"}}",
        ),
        (
            "SELECT TO_JSON_STRING(a) FROM (SELECT 1 AS x) AS a JOIN (SELECT 2 AS y) AS b ON TRUE",
            "{\"x\":1}",
        ),
        (
            "SELECT TO_JSON_STRING(r) FROM (SELECT 1 AS x) AS r GROUP BY r.x",
            "{\"x\":1}",
        ),
    ])
    .await;
}

/// Columns of a result are called as they are written, whatever the case of the columns that they are of.
#[tokio::test]
async fn names_of_results() {
    let ctx = context();
    rows(&ctx, "CREATE TABLE visits AS SELECT 1 AS `userId`, 2 AS n")
        .await
        .unwrap();
    for (query, expected) in [
        (
            "SELECT userid AS UserID, N AS Total, n + 1 AS Next FROM visits",
            "UserID|Total|Next",
        ),
        (
            "SELECT USERID AS USERID, * EXCEPT (userid) FROM visits ORDER BY userid",
            "USERID|n",
        ),
        (
            "SELECT *, n * 2 AS Twice FROM visits ORDER BY twice LIMIT 1",
            "userId|n|Twice",
        ),
        ("SELECT Q.Big FROM (SELECT n AS big FROM visits) AS q", "big"),
    ] {
        let mut frames = crate::sql(&ctx, query).unwrap();
        let frame = frames.next().await.unwrap().unwrap();
        let names: Vec<String> = frame.schema().fields().iter().map(|f| f.name().clone()).collect();
        assert_eq!(names.join("|"), expected, "{query}");
        assert_eq!(frame.collect().await.unwrap()[0].num_rows(), 1);
    }
}

#[tokio::test]
async fn what_is_no_argument() {
    refused(&[
        ("PERCENTILE_DISC(x, 1.5) FROM UNNEST([1]) AS x", "from 0 to 1, not 1.5"),
        (
            "PERCENTILE_CONT(x, 0.5 RESPECT NULLS) OVER () FROM UNNEST([1]) AS x",
            "write it without RESPECT NULLS",
        ),
        ("TIME_TRUNC(TIME '10:00:00', DAY)", "a time has no part DAY"),
        ("FROM_BASE64('a')", "'a' is no base64"),
        ("FROM_HEX('0g')", "'0g' is no hexadecimal digits"),
        ("JSON_VALUE('{}', 'a')", "'a' is no path into JSON"),
        ("INSTR('a', 'a', 0)", "positions are counted from 1"),
        ("TO_JSON_STRING(u) FROM (SELECT 1 AS x) AS t", "u"),
        (
            "GENERATE_TIMESTAMP_ARRAY(TIMESTAMP '2020-01-01', TIMESTAMP '2020-02-01', INTERVAL 1 MONTH)",
            "of a DAY or less",
        ),
    ])
    .await;
}

#[tokio::test]
async fn hashes_and_codes_of_every_length() {
    let ctx = context();
    // 55, 56 and 64 bytes are where SHA-1's padding takes another block.
    for (length, digest) in [
        (0, "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
        (55, "c1c8bbdc22796e28c0e15163d20899b65621d65a"),
        (56, "c2db330f6083854c99d4b5bfb6e8f29f201be699"),
        (64, "0098ba824b5c16427bd7a1122a5a442a25ec644d"),
    ] {
        let told = rows(&ctx, &format!("SELECT TO_HEX(SHA1(REPEAT('a', {length})))")).await;
        assert_eq!(told.unwrap(), digest, "{length}");
    }
    for length in 0..9 {
        let text = &"abcdefghi"[..length];
        let told = rows(
            &ctx,
            &format!("SELECT CAST(FROM_BASE64(TO_BASE64('{text}')) AS STRING) = '{text}'"),
        )
        .await;
        assert_eq!(told.unwrap(), "true", "{length}");
    }
}
