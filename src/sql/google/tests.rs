//! The published examples of GoogleSQL's reference, in BigQuery's dialect, and what is at the edges of them.

use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::Result as DataFusionResult;
use datafusion::execution::FunctionRegistry;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;

use super::{aggregates, functions, topics};

mod queries;

fn context() -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(2);
    let options = config.options_mut();
    options.set("datafusion.sql_parser.dialect", "bigquery").unwrap();
    let ctx = SessionContext::new_with_config(config);
    crate::register_all(&ctx).unwrap();
    ctx
}

/// The rows of the last statement, a line each, with bars between columns.
async fn rows(ctx: &SessionContext, sql: &str) -> DataFusionResult<String> {
    let mut frames = crate::sql(ctx, sql)?;
    let mut last = vec![];
    while let Some(frame) = frames.next().await {
        last = frame?.collect().await?;
    }
    let format = FormatOptions::default().with_null("NULL").with_display_error(true);
    let mut lines = vec![];
    for batch in &last {
        let columns = batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &format));
        let columns: Vec<_> = columns.collect::<Result<_, _>>()?;
        for row in 0..batch.num_rows() {
            let values: Vec<String> = columns.iter().map(|c| c.value(row).to_string()).collect();
            lines.push(values.join("|"));
        }
    }
    Ok(lines.join("\n"))
}

/// Each expression with its value, both as a constant and, in a second column, for a batch of several rows.
async fn each(cases: &[(&str, &str)]) {
    let ctx = context();
    let mut failed = vec![];
    for (expression, expected) in cases {
        let once = rows(&ctx, &format!("SELECT {expression}")).await;
        let thrice = rows(
            &ctx,
            &format!("SELECT {expression} FROM UNNEST([1, 2, 3]) AS row_number WHERE row_number < 3"),
        )
        .await;
        let expected_twice = format!("{expected}\n{expected}");
        match (once, thrice) {
            (Ok(once), Ok(twice)) if once == *expected && twice == expected_twice => {}
            (Ok(once), Ok(twice)) => failed.push(format!("{expression}\n  gave {once} and {twice}, not {expected}")),
            (Err(e), _) | (_, Err(e)) => failed.push(format!("{expression}\n  {e}")),
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {} failed:\n{}",
        failed.len(),
        cases.len(),
        failed.join("\n")
    );
}

/// Each expression with words of its error.
async fn refused(cases: &[(&str, &str)]) {
    let ctx = context();
    for (expression, words) in cases {
        match rows(&ctx, &format!("SELECT {expression}")).await {
            Ok(value) => panic!("{expression} gave {value}"),
            Err(error) => assert!(error.to_string().contains(words), "{expression}: {error}"),
        }
    }
}

#[tokio::test]
async fn casts_to_string() {
    each(&[
        (
            "CAST(TIMESTAMP '2015-01-01 00:00:00' AS STRING)",
            "2015-01-01 00:00:00+00",
        ),
        (
            "CAST(TIMESTAMP '2015-01-01 12:34:56.789' AS STRING)",
            "2015-01-01 12:34:56.789+00",
        ),
        (
            "CAST(TIMESTAMP '2015-01-01 12:34:56.100200' AS STRING)",
            "2015-01-01 12:34:56.100200+00",
        ),
        (
            "CAST(TIMESTAMP '1969-12-31 23:59:59.5' AS STRING)",
            "1969-12-31 23:59:59.500+00",
        ),
        ("CAST(DATE '2015-01-01' AS STRING)", "2015-01-01"),
        ("CAST(TIME(15, 30, 0) AS STRING)", "15:30:00"),
        ("CAST(1.0 AS STRING)", "1"),
        ("CAST(0.1 AS STRING)", "0.1"),
        ("CAST(-1.5e20 AS STRING)", "-1.5e+20"),
        ("CAST(42 AS STRING)", "42"),
        ("CAST(1 = 1 AS STRING)", "true"),
        ("CAST(NULL AS STRING)", "NULL"),
        ("CAST(b'abc' AS STRING)", "abc"),
        ("SAFE_CAST(b'\\xff' AS STRING)", "NULL"),
        ("CAST(CAST(1.50 AS NUMERIC) AS STRING)", "1.5"),
        (
            "STRING(TIMESTAMP '2008-12-25 15:30:00+00', 'America/Los_Angeles')",
            "2008-12-25 07:30:00-08",
        ),
        ("CAST(EXTRACT(DAYOFWEEK FROM DATE '2013-12-25') AS STRING)", "4"),
        // FarmHash of exactly this text, as BigQuery gives it.
        (
            "FARM_FINGERPRINT(CAST(TIMESTAMP '2015-01-01' AS STRING)) = FARM_FINGERPRINT('2015-01-01 00:00:00+00')",
            "true",
        ),
        ("FARM_FINGERPRINT('hello')", "-5436999610281751320"),
    ])
    .await;
}

#[tokio::test]
async fn casts_to_int64() {
    each(&[
        ("CAST(1.5 AS INT64)", "2"),
        ("CAST(-0.5 AS INT64)", "-1"),
        ("CAST('0x87a' AS INT64)", "2170"),
        ("CAST(' 12 ' AS INT64)", "12"),
        ("SAFE_CAST('apple' AS INT64)", "NULL"),
        ("CAST(TRUE AS INT64)", "1"),
        ("CAST(CAST(2.5 AS NUMERIC) AS INT64)", "3"),
        ("SAFE_CAST(1e30 AS INT64)", "NULL"),
    ])
    .await;
    refused(&[
        ("CAST('apple' AS INT64)", "'apple' is no whole number"),
        ("CAST(1e30 AS INT64)", "out of the range of INT64"),
    ])
    .await;
}

#[tokio::test]
async fn texts() {
    each(&[
        ("CONCAT('T.P.', ' ', 'Bar')", "T.P. Bar"),
        ("CONCAT('a', NULL)", "NULL"),
        ("CONCAT('a', 1, '_', 2.5)", "a1_2.5"),
        ("SUBSTR('apple', 2)", "pple"),
        ("SUBSTR('apple', 2, 2)", "pp"),
        ("SUBSTR('apple', -2)", "le"),
        ("SUBSTR('apple', -10, 2)", "ap"),
        ("SUBSTR('apple', 0, 2)", "ap"),
        ("SUBSTRING('banana', 123)", ""),
        ("SAFE.SUBSTR('foo', 0, -2)", "NULL"),
        ("CONTAINS_SUBSTR('the blue house', 'Blue house')", "true"),
        ("CONTAINS_SUBSTR('the red house', 'blue')", "false"),
        ("CONTAINS_SUBSTR(123, '23')", "true"),
        (
            "REGEXP_CONTAINS('foo@example.com', r'@[a-zA-Z0-9-]+\\.[a-zA-Z0-9-.]+')",
            "true",
        ),
        (
            "REGEXP_CONTAINS('www.example.net', r'@[a-zA-Z0-9-]+\\.[a-zA-Z0-9-.]+')",
            "false",
        ),
        ("REGEXP_EXTRACT('foo@example.com', r'^[a-zA-Z0-9_.+-]+')", "foo"),
        (
            "REGEXP_EXTRACT('foo@example.com', r'^[a-zA-Z0-9_.+-]+@[a-zA-Z0-9-]+\\.([a-zA-Z0-9-.]+$)')",
            "com",
        ),
        ("REGEXP_EXTRACT('Hello Helloo and Hellooo', 'H?ello+', 1, 2)", "Helloo"),
        ("REGEXP_EXTRACT('Hello Helloo and Hellooo', 'H?ello+', 3)", "Helloo"),
        ("REGEXP_EXTRACT('Hello', 'x')", "NULL"),
        ("REGEXP_EXTRACT_ALL('Try `f(x)` or `g(x)`', '`(.+?)`')", "[f(x), g(x)]"),
        (
            "REGEXP_REPLACE('# Heading', r'^# ([a-zA-Z0-9\\s]+$)', '<h1>\\\\1</h1>')",
            "<h1>Heading</h1>",
        ),
        ("REGEXP_REPLACE('a1b2', '[0-9]', '$')", "a$b$"),
        ("TO_HEX(MD5('Hello World'))", "b10a8db164e0754105b7a99be72e3fe5"),
        (
            "TO_HEX(SHA256('abc'))",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        ("TO_HEX(b'\\x00\\x01\\xff')", "0001ff"),
        ("BYTE_LENGTH('щит')", "6"),
        ("LENGTH('щит')", "3"),
        ("STARTS_WITH('foo', 'f')", "true"),
        ("ENDS_WITH('apple', 'e')", "true"),
        ("INITCAP('hello world')", "Hello World"),
        ("LPAD('abc', 5, 'd')", "ddabc"),
        ("RPAD('abc', 5, 'd')", "abcdd"),
        ("IFNULL(NULL, 'x')", "x"),
        ("NULLIF('x', 'x')", "NULL"),
    ])
    .await;
    refused(&[
        ("SUBSTR('foo', 0, -2)", "SUBSTR: a length of -2 is below 0"),
        ("REGEXP_CONTAINS('a', '(')", "'(' is no regular expression"),
        ("REGEXP_EXTRACT('a', '(a)(b)')", "more than one group"),
        (
            "REGEXP_CONTAINS('a')",
            "REGEXP_CONTAINS was given 1 argument; write REGEXP_CONTAINS(text, regexp)",
        ),
        (
            "SUBSTR(5, 1)",
            "argument 1 of SUBSTR is of the type Int64, but has to be a text",
        ),
    ])
    .await;
}

#[tokio::test]
async fn formats_like_printf() {
    each(&[
        (
            "FORMAT('date: %s!', FORMAT_DATE('%B %d, %Y', DATE '2015-01-02'))",
            "date: January 02, 2015!",
        ),
        ("FORMAT('%d', 10)", "10"),
        (
            "FORMAT('|%10d|%-5d|%05d|%+d', 11, 12, 13, 14)",
            "|        11|12   |00013|+14",
        ),
        ("FORMAT(\"%'d\", 123456789)", "123,456,789"),
        ("FORMAT('-%s-', 'abcd efg')", "-abcd efg-"),
        ("FORMAT('%f %E', 1.1, 2.2)", "1.100000 2.200000E+00"),
        ("FORMAT('%.2f%%', 12.345)", "12.35%"),
        ("FORMAT('%x %X %o', 255, 255, 8)", "ff FF 10"),
        ("FORMAT('%t %T', 1.0, 'a\"b')", "1.0 \"a\\\"b\""),
        (
            "FORMAT('%t', TIMESTAMP '2015-09-01 12:34:56')",
            "2015-09-01 12:34:56+00",
        ),
        ("FORMAT('%T', DATE '2015-09-01')", "DATE \"2015-09-01\""),
        ("FORMAT('%s', NULL)", "NULL"),
        ("FORMAT('%*d', 5, 1)", "    1"),
        ("FORMAT('%g', 0.00001)", "1e-05"),
        ("SAFE.FORMAT('%d', 'x')", "NULL"),
    ])
    .await;
    refused(&[
        ("FORMAT('%d', 'x')", "%d in '%d' does not fit its value"),
        ("FORMAT('%d %d', 1)", "more elements than there are values"),
        ("FORMAT('%d', 1, 2)", "fewer elements"),
        ("FORMAT('%99999999999d', 1)", "more than 10000 characters"),
    ])
    .await;
}

#[tokio::test]
async fn json() {
    each(&[
        (
            "TO_JSON_STRING(STRUCT(1 AS id, [10, 20] AS coordinates))",
            "{\"id\":1,\"coordinates\":[10,20]}",
        ),
        (
            "TO_JSON_STRING(STRUCT('a\"b' AS s, 1.0 AS f, TRUE AS b))",
            "{\"s\":\"a\\\"b\",\"f\":1,\"b\":true}",
        ),
        ("TO_JSON_STRING(DATE '2017-03-06')", "\"2017-03-06\""),
        (
            "TO_JSON_STRING(TIMESTAMP '2017-03-06 12:34:56.789')",
            "\"2017-03-06T12:34:56.789Z\"",
        ),
        ("TO_JSON_STRING(9007199254740993)", "\"9007199254740993\""),
        ("TO_JSON_STRING(NULL)", "null"),
        ("TO_JSON_STRING('<b>')", "\"\\u003cb>\""),
        ("TO_JSON_STRING(IEEE_DIVIDE(1, 0))", "\"Infinity\""),
    ])
    .await;
}

#[tokio::test]
async fn dates() {
    each(&[
        ("DATE_DIFF(DATE '2010-07-07', DATE '2008-12-25', DAY)", "559"),
        ("DATE_DIFF(DATE '2017-10-15', DATE '2017-10-14', DAY)", "1"),
        ("DATE_DIFF(DATE '2017-10-15', DATE '2017-10-14', WEEK)", "1"),
        ("DATE_DIFF(DATE '2017-12-30', DATE '2014-12-30', YEAR)", "3"),
        ("DATE_DIFF(DATE '2017-12-30', DATE '2014-12-30', ISOYEAR)", "2"),
        ("DATE_DIFF(DATE '2017-12-18', DATE '2017-12-17', WEEK)", "0"),
        ("DATE_DIFF(DATE '2017-12-18', DATE '2017-12-17', WEEK(MONDAY))", "1"),
        ("DATE_DIFF(DATE '2017-12-18', DATE '2017-12-17', ISOWEEK)", "1"),
        ("DATE_DIFF(DATE '2017-10-01', DATE '2017-09-30', QUARTER)", "1"),
        ("DATE_DIFF(DATE '1969-12-28', DATE '1970-01-04', WEEK)", "-1"),
        ("DATE_DIFF('2010-07-07', '2008-12-25', MONTH)", "19"),
        ("DATE_DIFF(NULL, DATE '2008-12-25', DAY)", "NULL"),
        (
            "DATETIME_DIFF(DATETIME '2010-07-07 10:20:00', DATETIME '2008-12-25 15:30:00', DAY)",
            "559",
        ),
        (
            "DATETIME_DIFF(DATETIME '2017-10-15 00:00:00', DATETIME '2017-10-14 00:00:00', WEEK)",
            "1",
        ),
        (
            "DATETIME_DIFF(DATETIME '2018-01-01 00:00:00', DATETIME '2017-12-31 23:59:59', HOUR)",
            "1",
        ),
        (
            "TIMESTAMP_DIFF(TIMESTAMP '2010-07-07 10:20:00+00', TIMESTAMP '2008-12-25 15:30:00+00', HOUR)",
            "13410",
        ),
        (
            "TIMESTAMP_DIFF(TIMESTAMP '2018-08-14', TIMESTAMP '2018-10-14', DAY)",
            "-61",
        ),
        (
            "TIMESTAMP_DIFF('2001-02-01 01:00:00', '2001-02-01 00:00:01', HOUR)",
            "0",
        ),
        ("TIME_DIFF(TIME '15:30:00', TIME '14:35:00', MINUTE)", "55"),
        ("DATE_ADD(DATE '2008-12-25', INTERVAL 5 DAY)", "2008-12-30"),
        ("DATE_ADD(DATE '2024-01-31', INTERVAL 1 MONTH)", "2024-02-29"),
        ("DATE_SUB(DATE '2008-12-25', INTERVAL 5 DAY)", "2008-12-20"),
        ("DATE_SUB(DATE '2008-12-25', INTERVAL 2 * 2 QUARTER)", "2007-12-25"),
        (
            "DATETIME_ADD(DATETIME '2008-12-25 15:30:00', INTERVAL 10 MINUTE)",
            "2008-12-25T15:40:00",
        ),
        (
            "TIMESTAMP_SUB(TIMESTAMP '2008-12-25 15:30:00', INTERVAL 10 MINUTE)",
            "2008-12-25T15:20:00",
        ),
        ("DATE_TRUNC(DATE '2008-12-25', MONTH)", "2008-12-01"),
        ("DATE_TRUNC(DATE '2017-11-05', WEEK(MONDAY))", "2017-10-30"),
        ("DATE_TRUNC(DATE '2015-06-15', ISOYEAR)", "2014-12-29"),
        ("DATE_TRUNC(DATE '2017-11-05', WEEK)", "2017-11-05"),
        (
            "DATETIME_TRUNC(DATETIME '2008-12-25 15:30:00', DAY)",
            "2008-12-25T00:00:00",
        ),
        (
            "TIMESTAMP_TRUNC(TIMESTAMP '2008-12-25 15:30:00+00', DAY, 'UTC')",
            "2008-12-25T00:00:00",
        ),
        (
            "TIMESTAMP_TRUNC(TIMESTAMP '2008-12-25 15:30:00+00', DAY, 'America/Los_Angeles')",
            "2008-12-25T08:00:00",
        ),
        ("LAST_DAY(DATE '2008-11-25')", "2008-11-30"),
        ("LAST_DAY(DATE '2008-11-10', WEEK(MONDAY))", "2008-11-16"),
        ("EXTRACT(WEEK(MONDAY) FROM DATE '2017-11-05')", "44"),
        ("EXTRACT(ISOYEAR FROM DATE '2005-01-01')", "2004"),
        ("EXTRACT(MILLISECOND FROM TIMESTAMP '2005-01-03 12:34:56.789')", "789"),
        (
            "EXTRACT(HOUR FROM TIMESTAMP '2008-12-25 05:30:00+00' AT TIME ZONE 'America/Los_Angeles')",
            "21",
        ),
        (
            "EXTRACT(DATE FROM TIMESTAMP '2008-12-25 05:30:00+00' AT TIME ZONE 'America/Los_Angeles')",
            "2008-12-24",
        ),
        ("EXTRACT(DAYOFWEEK FROM TIMESTAMP '2008-12-25 05:30:00+00')", "5"),
        ("DATE(2016, 12, 25)", "2016-12-25"),
        ("DATE(DATETIME '2016-12-25 23:59:59')", "2016-12-25"),
        (
            "DATE(TIMESTAMP '2016-12-25 05:30:00+07', 'America/Los_Angeles')",
            "2016-12-24",
        ),
        ("DATETIME(2008, 12, 25, 5, 30, 0)", "2008-12-25T05:30:00"),
        ("DATETIME(DATE '2008-12-25', TIME '05:30:00')", "2008-12-25T05:30:00"),
        (
            "DATETIME(TIMESTAMP '2008-12-25 05:30:00+00', 'America/Los_Angeles')",
            "2008-12-24T21:30:00",
        ),
        (
            "TIMESTAMP('2008-12-25 15:30:00', 'America/Los_Angeles')",
            "2008-12-25T23:30:00",
        ),
        ("TIMESTAMP('2008-12-25 15:30:00+00')", "2008-12-25T15:30:00"),
        ("TIMESTAMP(DATE '2008-12-25')", "2008-12-25T00:00:00"),
        ("TIME(15, 30, 0)", "15:30:00"),
        ("UNIX_SECONDS(TIMESTAMP '1970-01-01 00:00:01.8+00')", "1"),
        ("UNIX_SECONDS(TIMESTAMP '1969-12-31 23:59:59.5+00')", "-1"),
        ("UNIX_MILLIS(TIMESTAMP '2008-12-25 15:30:00+00')", "1230219000000"),
        ("UNIX_DATE(DATE '2008-12-25')", "14238"),
        ("TIMESTAMP_SECONDS(1230219000)", "2008-12-25T15:30:00"),
        ("TIMESTAMP_MILLIS(1230219000000)", "2008-12-25T15:30:00"),
        ("DATE_FROM_UNIX_DATE(14238)", "2008-12-25"),
        ("DATE_DIFF(CURRENT_DATE(), CURRENT_DATE(), DAY)", "0"),
        (
            "TIMESTAMP_DIFF(CURRENT_TIMESTAMP(), TIMESTAMP '2020-01-01', DAY) > 0",
            "true",
        ),
        ("DATE_ADD(DATE '2008-12-25', INTERVAL 1 DAY) < CURRENT_DATE()", "true"),
    ])
    .await;
    refused(&[
        ("DATE(2016, 2, 30)", "there is no date 2016-02-30"),
        (
            "DATE_ADD(DATE '2016-01-01', INTERVAL 1 HOUR)",
            "a date has no part HOUR",
        ),
        ("DATE_ADD(DATE '9999-01-01', INTERVAL 1 YEAR)", "out of range"),
        (
            "TIMESTAMP_DIFF(TIMESTAMP '2016-01-01', TIMESTAMP '2015-01-01', MONTH)",
            "it takes no part MONTH",
        ),
        (
            "DATE_DIFF(DATE '2016-01-01', DATE '2015-01-01', 'DAYS')",
            "there is no part of a date 'DAYS'",
        ),
        (
            "DATE(TIMESTAMP '2016-12-25', 'Mars/Base')",
            "there is no time zone 'Mars/Base'",
        ),
        (
            "DATE_DIFF(5, DATE '2015-01-01', DAY)",
            "argument 1 of DATE_DIFF is of the type Int64",
        ),
    ])
    .await;
}

#[tokio::test]
async fn dates_as_texts() {
    each(&[
        ("FORMAT_DATE('%x', DATE '2008-12-25')", "12/25/08"),
        ("FORMAT_DATE('%b-%d-%Y', DATE '2008-12-25')", "Dec-25-2008"),
        ("FORMAT_DATE('%A', DATE '2008-12-25')", "Thursday"),
        (
            "FORMAT_TIMESTAMP('%c', TIMESTAMP '2050-12-25 15:30:55+00', 'UTC')",
            "Sun Dec 25 15:30:55 2050",
        ),
        (
            "FORMAT_TIMESTAMP('%Y-%m-%dT%H:%M:%SZ', TIMESTAMP '2050-12-25 15:30:55', 'UTC')",
            "2050-12-25T15:30:55Z",
        ),
        ("FORMAT_DATETIME('%b %Y', DATETIME '2008-12-25 15:30:00')", "Dec 2008"),
        ("FORMAT_TIME('%R', TIME '15:30:00')", "15:30"),
        ("PARSE_DATE('%F', '2000-12-30')", "2000-12-30"),
        ("PARSE_DATE('%Y%m%d', '20081225')", "2008-12-25"),
        (
            "PARSE_DATETIME('%m/%d/%Y %I:%M:%S %p', '8/30/2018 2:23:38 pm')",
            "2018-08-30T14:23:38",
        ),
        (
            "PARSE_TIMESTAMP('%c', 'Thu Dec 25 07:30:00 2008')",
            "2008-12-25T07:30:00",
        ),
        (
            "PARSE_TIMESTAMP('%F %T', '2008-12-25 07:30:00', 'America/Los_Angeles')",
            "2008-12-25T15:30:00",
        ),
        (
            "PARSE_TIMESTAMP('%FT%T%Ez', '2008-12-25T07:30:00+02:00')",
            "2008-12-25T05:30:00",
        ),
        ("PARSE_TIME('%H', '15')", "15:00:00"),
        ("SAFE.PARSE_DATE('%Y%m%d', '20081325')", "NULL"),
    ])
    .await;
    refused(&[(
        "PARSE_DATE('%Y%m%d', 'x')",
        "'x' is not written as the pattern '%Y%m%d' says; write SAFE.PARSE_DATE(…) for NULL",
    )])
    .await;
}

#[tokio::test]
async fn arrays() {
    each(&[
        ("GENERATE_ARRAY(1, 5)", "[1, 2, 3, 4, 5]"),
        ("GENERATE_ARRAY(0, 10, 3)", "[0, 3, 6, 9]"),
        ("GENERATE_ARRAY(10, 0, -3)", "[10, 7, 4, 1]"),
        ("GENERATE_ARRAY(4, 4, 10)", "[4]"),
        ("GENERATE_ARRAY(10, 0, 3)", "[]"),
        ("GENERATE_ARRAY(5, NULL, 1)", "NULL"),
        (
            "GENERATE_ARRAY(0, 1, 0.1)",
            "[0.0, 0.1, 0.2, 0.30000000000000004, 0.4, 0.5, 0.6000000000000001, 0.7000000000000001, 0.8, 0.9, 1.0]",
        ),
        (
            "GENERATE_DATE_ARRAY('2016-10-05', '2016-10-08')",
            "[2016-10-05, 2016-10-06, 2016-10-07, 2016-10-08]",
        ),
        (
            "GENERATE_DATE_ARRAY('2016-01-31', '2016-04-30', INTERVAL 1 MONTH)",
            "[2016-01-31, 2016-02-29, 2016-03-31, 2016-04-30]",
        ),
        (
            "GENERATE_DATE_ARRAY('2016-10-08', '2016-10-05', INTERVAL -2 DAY)",
            "[2016-10-08, 2016-10-06]",
        ),
        ("SPLIT('b,a,c')", "[b, a, c]"),
        ("SPLIT('a b c', ' ')[OFFSET(1)]", "b"),
        ("SPLIT('a/b', '/')[SAFE_OFFSET(5)]", "NULL"),
        ("SPLIT('', ',')", "[]"),
        ("SPLIT('abc', '')", "[a, b, c]"),
        ("SPLIT(NULL)", "NULL"),
        ("ARRAY_LENGTH(SPLIT('', ','))", "1"),
        ("ARRAY_LENGTH([1, 2, 3])", "3"),
        ("ARRAY_CONCAT([1, 2], [3, 4], [5, 6])", "[1, 2, 3, 4, 5, 6]"),
        ("ARRAY_CONCAT([1], NULL)", "NULL"),
        ("ARRAY_REVERSE([1, 2, 3])", "[3, 2, 1]"),
        ("ARRAY_TO_STRING(['coffee', 'tea', 'milk'], '--')", "coffee--tea--milk"),
        (
            "ARRAY_TO_STRING(['cake', 'pie', NULL], '--', 'MISSING')",
            "cake--pie--MISSING",
        ),
        ("ARRAY_TO_STRING(['cake', 'pie', NULL], '--')", "cake--pie"),
        ("RANGE_BUCKET(20, [0, 10, 20, 30, 40])", "3"),
        ("RANGE_BUCKET(25, [0, 10, 20, 30, 40])", "3"),
        ("RANGE_BUCKET(-10, [5, 6])", "0"),
        ("RANGE_BUCKET(1.5, [0, 1, 2])", "2"),
    ])
    .await;
    refused(&[
        ("GENERATE_ARRAY(1, 5, 0)", "a step of 0 leads nowhere"),
        ("GENERATE_ARRAY(1, 100000000000)", "more than 1048576 elements"),
        ("GENERATE_ARRAY(0.0, 1e9, 0.1)", "more than 1048576 elements"),
        ("ARRAY_LENGTH('a')", "ARRAY_LENGTH takes arrays"),
    ])
    .await;
}

#[tokio::test]
async fn geography() {
    each(&[
        (
            "ST_ASTEXT(ST_GEOGPOINT(-122.35022, 47.649154))",
            "POINT(-122.35022 47.649154)",
        ),
        (
            "ST_AsText(ST_SnapToGrid(ST_GeogPoint(-74.0059, 40.7128), 0.1))",
            "POINT(-74 40.7)",
        ),
        ("CONCAT(ST_GEOGPOINT(1, 2), '')", "POINT(1 2)"),
        ("ST_X(ST_GEOGPOINT(-122.35, 47.62))", "-122.35"),
        ("ST_Y(ST_GEOGFROMTEXT('POINT(-122.35 47.62)'))", "47.62"),
        // A quarter of the way round, and all of half.
        (
            "ROUND(ST_DISTANCE(ST_GEOGPOINT(0, 0), ST_GEOGPOINT(90, 0)), 3)",
            "10007559.106",
        ),
        (
            "ROUND(ST_DISTANCE(ST_GEOGPOINT(0, 90), ST_GEOGPOINT(0, -90)), 3)",
            "20015118.212",
        ),
        ("ST_DISTANCE(ST_GEOGPOINT(5, 5), ST_GEOGPOINT(5, 5))", "0.0"),
        ("ST_DISTANCE(ST_GEOGPOINT(NULL, 5), ST_GEOGPOINT(5, 5))", "NULL"),
        ("ST_DISTANCE(NULL, ST_GEOGPOINT(5, 5))", "NULL"),
        ("ST_DWITHIN(ST_GEOGPOINT(0, 0), ST_GEOGPOINT(0, 1), 112000)", "true"),
        ("ST_X(ST_GEOGPOINT(190, 0))", "-170.0"),
        ("SAFE.ST_GEOGPOINT(0, 91) IS NULL", "true"),
        ("ST_ASTEXT(NULL)", "NULL"),
    ])
    .await;
    refused(&[
        (
            "ST_GEOGPOINT(47, -122)",
            "there is no point at the longitude 47 and latitude -122",
        ),
        ("ST_DISTANCE(1, 2)", "ST_DISTANCE takes points"),
        ("ST_SNAPTOGRID(ST_GEOGPOINT(0, 0), 0)", "a grid of 0 degrees"),
    ])
    .await;
}

#[tokio::test]
async fn maths() {
    each(&[
        ("LOG(100.0, 10.0)", "2.0"),
        ("LOG(8, 2)", "3.0"),
        ("LOG(1.0)", "0.0"),
        ("LN(1.0)", "0.0"),
        ("LOG10(100.0)", "2.0"),
        ("SAFE.LN(0)", "NULL"),
        ("SAFE.LOG(-1)", "NULL"),
        ("SAFE.LOG(10, 1)", "NULL"),
        ("SAFE.SQRT(-1)", "NULL"),
        ("SQRT(25.0)", "5.0"),
        ("POW(2.0, 3)", "8.0"),
        ("POW(2, 3)", "8.0"),
        ("SAFE.POW(0, -1)", "NULL"),
        ("DIV(20, 4)", "5"),
        ("DIV(12, -7)", "-1"),
        ("SAFE.DIV(20, 0)", "NULL"),
        ("MOD(25, 12)", "1"),
        ("IEEE_DIVIDE(25.0, 0.0)", "inf"),
        ("SAFE_DIVIDE(20, 4)", "5.0"),
        ("SAFE_DIVIDE(0, 20)", "0.0"),
        ("SAFE_ADD(5, 4)", "9"),
        ("SAFE_ADD(9223372036854775807, 1)", "NULL"),
        ("SAFE_SUBTRACT(5, 4)", "1"),
        ("SAFE_MULTIPLY(20, 4.5)", "90.0"),
        ("SAFE_NEGATE(+1)", "-1"),
        ("SIGN(25)", "1"),
        ("SIGN(-25.5)", "-1.0"),
        ("ROUND(2.5)", "3.0"),
        ("ROUND(-2.5)", "-3.0"),
        ("ROUND(123.7, -1)", "120.0"),
        ("TRUNC(2.8)", "2.0"),
        ("TRUNC(-2.3)", "-2.0"),
        ("CEILING(2.1)", "3.0"),
        ("GREATEST(3, 5, 1)", "5"),
        ("GREATEST(3, NULL)", "NULL"),
        ("LEAST(3, 5.5, 1)", "1.0"),
        ("LEAST('b', 'a')", "a"),
        ("IS_NAN(LEAST(1.0, IEEE_DIVIDE(0, 0)))", "true"),
        ("RAND() < 1", "true"),
        ("IS_INF(IEEE_DIVIDE(1, 0))", "true"),
    ])
    .await;
    refused(&[
        ("LN(0)", "LN: 0 has no logarithm; write SAFE.LN(…) for NULL"),
        ("SQRT(-1)", "-1 has no square root"),
        ("POW(0, -1)", "0 to the power of -1 is no number"),
        ("DIV(1, 0)", "division by zero"),
        ("SIGN('a')", "SIGN takes numbers"),
    ])
    .await;
}

#[tokio::test]
async fn division() {
    each(&[
        ("1 / 4", "0.25"),
        ("7 / 2 / 7", "0.5"),
        ("(1 + 2) / 2", "1.5"),
        ("-1 / 2", "-0.5"),
        ("3 * 3 / 2", "4.5"),
        ("3 / 2 * 2", "3.0"),
        ("1 + 3 / 2 - 1", "1.5"),
        ("CASE WHEN TRUE THEN 1 ELSE 2 END / 2", "0.5"),
        ("IF(1 / 2 > 0, 1 / 2, 3)", "0.5"),
        ("ABS(-3) / ABS(2)", "1.5"),
        ("[3, 4][OFFSET(0)] / 2", "1.5"),
        ("1.5 / 3", "0.5"),
        ("CAST(1 AS NUMERIC) / 3", "0.333333333"),
        ("CAST(2 AS NUMERIC) / 3", "0.666666667"),
        ("CAST(-2 AS NUMERIC) / CAST(3 AS NUMERIC)", "-0.666666667"),
        ("1 / NULL", "NULL"),
        ("NULL / 0", "NULL"),
        ("NOT 1 / 2 > 1", "true"),
        ("5 /* half */ / 2", "2.5"),
    ])
    .await;
    refused(&[("1 / 0", "division by zero: 1 / 0; write SAFE_DIVIDE(x, y) for NULL")]).await;
    let ctx = context();
    let told = rows(
        &ctx,
        "SELECT COUNT(*) / SUM(x), SUM(x) / COUNT(*) FROM UNNEST([1, 2, 3, 4]) AS x; \
         SELECT x, SUM(x) OVER () / x FROM UNNEST([1, 4]) AS x ORDER BY x / 2",
    );
    assert_eq!(told.await.unwrap(), "1|5.0\n4|1.25");
}

#[tokio::test]
async fn safe_of_some_rows() {
    let ctx = context();
    let told = rows(
        &ctx,
        "SELECT x, SAFE.LN(x) IS NULL, SAFE.SUBSTR('abc', 1, x) FROM UNNEST([-1, 0, 1, 2]) AS x ORDER BY x",
    )
    .await;
    assert_eq!(told.unwrap(), "-1|true|NULL\n0|true|\n1|false|a\n2|false|ab");
    let told = rows(
        &ctx,
        "SELECT COUNT(*) FROM UNNEST([-1, 0, 1, 2]) AS x WHERE SAFE.LN(x) >= 0",
    )
    .await;
    assert_eq!(told.unwrap(), "2");
    // An error of the argument is none of SAFE's.
    assert!(rows(&ctx, "SELECT SAFE.LN(SQRT(-1))").await.is_err());
    let error = rows(&ctx, "SELECT SAFE.COUNTIF(x > 1) FROM UNNEST([1]) AS x")
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("SAFE stands before a scalar function"),
        "{error}"
    );
}

#[tokio::test]
async fn aggregates_of_all_rows() {
    let ctx = context();
    let numbers = "FROM UNNEST([NULL, 1, 1, 1, 4, 5, 6, 7, 8, 9, 10]) AS x";
    for (expression, expected) in [
        ("APPROX_QUANTILES(x, 2)", "[1, 5, 10]"),
        ("APPROX_QUANTILES(x, 100)[OFFSET(90)]", "9"),
        ("APPROX_QUANTILES(DISTINCT x, 2)", "[1, 6, 10]"),
        ("APPROX_QUANTILES(CAST(NULL AS INT64), 2)", "NULL"),
        (
            "APPROX_TOP_COUNT(x, 2)",
            "[{value: 1, count: 3}, {value: NULL, count: 1}]",
        ),
        ("APPROX_COUNT_DISTINCT(x)", "8"),
        ("COUNTIF(x = 1)", "3"),
        ("LOGICAL_AND(x > 0)", "true"),
        ("LOGICAL_OR(x > 9)", "true"),
        ("ANY_VALUE(x) > 0", "true"),
        ("ROUND(VARIANCE(x), 3)", "11.511"),
        ("ROUND(STDDEV(x), 3) = ROUND(STDDEV_SAMP(x), 3)", "true"),
        ("ROUND(CORR(x, 2 * x), 3)", "1.0"),
        ("STRING_AGG(CAST(x AS STRING) ORDER BY x)", "1,1,1,4,5,6,7,8,9,10"),
        (
            "STRING_AGG(CAST(x AS STRING), '-' ORDER BY x DESC)",
            "10-9-8-7-6-5-4-1-1-1",
        ),
    ] {
        let told = rows(&ctx, &format!("SELECT {expression} {numbers}")).await;
        assert_eq!(
            told.unwrap_or_else(|e| panic!("{expression}: {e}")),
            expected,
            "{expression}"
        );
    }
    let told = rows(
        &ctx,
        "SELECT MOD(x, 2) AS odd, APPROX_QUANTILES(x, 1) FROM UNNEST(GENERATE_ARRAY(1, 9)) AS x GROUP BY odd ORDER BY odd",
    );
    assert_eq!(told.await.unwrap(), "0|[2, 8]\n1|[1, 9]");
    let error = rows(&ctx, &format!("SELECT APPROX_QUANTILES(x, 0) {numbers}"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("has to be from 1"), "{error}");
}

#[tokio::test]
async fn rows_of_arrays() {
    let ctx = context();
    for (query, expected) in [
        ("SELECT x FROM UNNEST([3, 1]) x ORDER BY x", "1\n3"),
        ("SELECT SUM(x) FROM UNNEST(GENERATE_ARRAY(1, 3)) AS x", "6"),
        (
            "WITH t AS (SELECT 'k' AS k, [1, 2] AS arr) SELECT k, x FROM t, UNNEST(arr) AS x ORDER BY x",
            "k|1\nk|2",
        ),
        (
            "WITH t AS (SELECT 1 AS k, [1, 2] AS arr UNION ALL SELECT 2, []) SELECT u.k, x FROM t AS u CROSS JOIN UNNEST(u.arr) x WHERE u.k < 3 ORDER BY x",
            "1|1\n1|2",
        ),
        (
            "WITH t AS (SELECT [STRUCT(1 AS page), STRUCT(2 AS page)] AS hits, 'a b' AS s) SELECT h.page, w FROM t, UNNEST(hits) AS h, UNNEST(SPLIT(s, ' ')) AS w ORDER BY h.page, w",
            "1|a\n1|b\n2|a\n2|b",
        ),
    ] {
        let told = rows(&ctx, query).await;
        assert_eq!(told.unwrap_or_else(|e| panic!("{query}: {e}")), expected, "{query}");
    }
}

#[tokio::test]
async fn examples_of_the_help_run() {
    let ctx = context();
    let all = topics();
    assert_eq!(all.len(), functions().count() + aggregates::ALL.len() + 1);
    for topic in all {
        let told = rows(&ctx, &topic.example).await;
        assert!(told.is_ok(), "{}: {}\n{told:?}", topic.name, topic.example);
        assert!(topic.summary.ends_with('.') && topic.syntax.len() > 2, "{topic:?}");
    }
}

#[test]
fn no_function_of_datafusion_is_replaced() {
    let plain = SessionContext::new();
    for function in functions() {
        assert!(plain.udf(function.name).is_err(), "DataFusion has {}", function.name);
    }
    for function in aggregates::ALL {
        assert!(plain.udaf(function.name).is_err(), "DataFusion has {}", function.name);
    }
    let mut names: Vec<_> = functions().map(|f| f.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}
