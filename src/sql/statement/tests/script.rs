//! Variables.

use super::*;

#[test]
fn declare_and_set() {
    assert_eq!(
        script(
            "DECLARE k INT64 DEFAULT 3; DECLARE city STRING DEFAULT \"Austin\"; DECLARE low, high FLOAT64;\n\
             SET low = 1; SET high = low + 0.5;\n\
             CREATE MODEL m OPTIONS (num_clusters = k) AS SELECT * FROM rides WHERE city_name = city AND miles BETWEEN low AND HIGH;\n\
             SET k = k + 1; SELECT k;"
        ),
        [
            "SELECT * FROM ML.TRAIN('m', (SELECT * FROM rides WHERE city_name = ('Austin') AND miles BETWEEN \
             (CAST(1 AS DOUBLE)) AND (CAST((CAST(1 AS DOUBLE)) + 0.5 AS DOUBLE))), num_clusters => (3))",
            "SELECT (CAST((3) + 1 AS BIGINT))",
        ]
    );
}

#[test]
fn names_that_are_no_variables_stay() {
    assert_eq!(
        script(
            "DECLARE n DEFAULT 2; SELECT t.n, n.x, n(1), f(n => 1), 1 AS n, COUNT(*) n, @n, 'n', `n`, [n] FROM n JOIN n; \
             SELECT * EXCEPT (n) FROM t; SELECT EXTRACT(YEAR FROM n); SET datafusion.execution.batch_size = 5"
        ),
        [
            "SELECT t.n, n.x, n(1), f(n => 1), 1 AS n, COUNT(*) n, @n, 'n', \"n\", [(2)] FROM n JOIN n",
            "SELECT * EXCEPT (n) FROM t",
            "SELECT EXTRACT(YEAR FROM (2))",
            "SET datafusion.execution.batch_size = 5",
        ]
    );
}

#[test]
fn variables_without_a_value_are_null() {
    assert_eq!(script("DECLARE d DATE; SELECT d"), ["SELECT (CAST(NULL AS DATE))"]);
}

#[test]
fn faults_of_scripts() {
    assert_eq!(
        fails("DECLARE ; SELECT 1", true).0,
        "DECLARE names no variable here; write DECLARE name INT64 DEFAULT 3"
    );
    assert_eq!(
        fails("DECLARE x; SELECT 1", true).0,
        "DECLARE gives neither a type nor a value; write DECLARE name INT64 DEFAULT 3"
    );
    assert_eq!(
        fails("DECLARE x INT64; SET x = ;", true),
        ("no value follows '='; write one".into(), "=".into())
    );
    let doubling = format!("DECLARE x DEFAULT 'ab';{} SELECT x", "SET x = CONCAT(x, x);".repeat(60));
    assert!(fails(&doubling, true).0.starts_with("this value is longer than"));
}

#[test]
fn without_the_dialect_declare_is_not_ours() {
    let found = read("DECLARE x INT64 DEFAULT 3; SET x = 4; SELECT x", false);
    assert!(
        found
            .iter()
            .all(|s| matches!(s, Statement::Plain(sql) if sql.is_verbatim()))
    );
}
