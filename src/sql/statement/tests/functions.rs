//! MODEL and TABLE among arguments, in any statement.

use super::*;

#[test]
fn models_tables_and_structs() {
    for (written, lowered) in [
        (
            "SELECT * FROM ML.PREDICT(MODEL `ds.churn`, TABLE customers)",
            "SELECT * FROM ML.PREDICT('ds.churn', (SELECT * FROM customers))",
        ),
        (
            "SELECT * FROM ML.PREDICT(MODEL churn, (SELECT * FROM customers), STRUCT(0.3 AS threshold, TRUE AS keep))",
            "SELECT * FROM ML.PREDICT('churn', (SELECT * FROM customers), threshold => 0.3, keep => TRUE)",
        ),
        ("SELECT * FROM ML.EVALUATE(MODEL m)", "SELECT * FROM ML.EVALUATE('m')"),
        (
            "SELECT * FROM ml.global_explain(model m, struct(true as class_level_explain))",
            "SELECT * FROM ml.global_explain('m', class_level_explain => true)",
        ),
        ("SELECT * FROM ML.WEIGHTS(MODEL m@2)", "SELECT * FROM ML.WEIGHTS('m@2')"),
        (
            "SELECT * FROM ML.PREDICT(MODEL my-project.ds.m, TABLE my-project.ds.t)",
            "SELECT * FROM ML.PREDICT('my-project.ds.m', (SELECT * FROM \"my-project\".ds.t))",
        ),
        (
            "SELECT * FROM ML.PREDICT(MODEL m, TABLE `Odd Name`)",
            "SELECT * FROM ML.PREDICT('m', (SELECT * FROM `Odd Name`))",
        ),
        (
            "SELECT * FROM ML.RECOMMEND(MODEL films, TABLE viewers, STRUCT([1, 2] AS ids, \"x\" AS tag))",
            "SELECT * FROM ML.RECOMMEND('films', (SELECT * FROM viewers), ids => [1, 2], tag => 'x')",
        ),
        (
            "SELECT * FROM ML.EVALUATE(MODEL m, ((SELECT 1 AS a) UNION ALL (SELECT 2)))",
            "SELECT * FROM ML.EVALUATE('m', (SELECT * FROM ((SELECT 1 AS a) UNION ALL (SELECT 2))))",
        ),
        (
            "SELECT * FROM ML.PREDICT('m', TABLE t, threshold => 0.5)",
            "SELECT * FROM ML.PREDICT('m', (SELECT * FROM t), threshold => 0.5)",
        ),
    ] {
        assert_eq!(generic(written), lowered);
    }
}

#[test]
fn verbs_take_tables() {
    assert_eq!(
        generic("SELECT * FROM KMEANS_SEGMENT(TABLE lake.rfm, k => 4) s"),
        "SELECT * FROM KMEANS_SEGMENT((SELECT * FROM lake.rfm), k => 4) s"
    );
    assert_eq!(
        generic("SELECT * FROM churn_score(TABLE t), recommend(TABLE r, user => 'u')"),
        "SELECT * FROM churn_score((SELECT * FROM t)), recommend((SELECT * FROM r), user => 'u')"
    );
}

#[test]
fn in_every_kind_of_statement() {
    let (call, lowered) = ("ML.PREDICT(MODEL m, TABLE t)", "ML.PREDICT('m', (SELECT * FROM t))");
    for around in [
        "WITH p AS (SELECT * FROM $) SELECT * FROM p WHERE a = 'ML.PREDICT(MODEL m, TABLE t)' -- ML.PREDICT(MODEL m, TABLE t)",
        "CREATE VIEW v AS SELECT * FROM $",
        "CREATE TABLE s AS SELECT * FROM $",
        "EXPLAIN SELECT * FROM $",
        "INSERT INTO s SELECT * FROM $",
    ] {
        assert_eq!(generic(&around.replace('$', call)), around.replace('$', lowered));
    }
    let copy = "COPY (SELECT * FROM $) TO 'x.parquet' STORED AS PARQUET";
    match &read(&copy.replace('$', call), false)[0] {
        Statement::Plain(sql) => assert_eq!(sql.text, copy.replace('$', lowered)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn calls_within_calls_and_within_the_query_of_a_model() {
    assert_eq!(
        generic(
            "SELECT * FROM ML.EVALUATE(MODEL a, (SELECT * FROM ML.PREDICT(MODEL b, (SELECT * FROM ML.TRANSFORM(MODEL c, TABLE t)))))"
        ),
        "SELECT * FROM ML.EVALUATE('a', (SELECT * FROM ML.PREDICT('b', (SELECT * FROM ML.TRANSFORM('c', (SELECT * FROM t))))))"
    );
    assert_eq!(
        generic("CREATE MODEL m AS SELECT * FROM ML.PREDICT(MODEL seg, TABLE rides)"),
        "SELECT * FROM ML.TRAIN('m', (SELECT * FROM ML.PREDICT('seg', (SELECT * FROM rides))))"
    );
}

#[test]
fn comments_between_arguments_survive() {
    assert_eq!(
        generic("SELECT * FROM ML.PREDICT( -- which\n  MODEL m /* here */,\n  TABLE t -- what\n)"),
        "SELECT * FROM ML.PREDICT( -- which\n  'm' /* here */,\n  (SELECT * FROM t) -- what\n)"
    );
}

#[test]
fn columns_called_model_or_table_stay_columns() {
    for text in [
        "SELECT ML.STANDARD_SCALER(model) OVER () FROM cars",
        "SELECT ml.f(model, struct(1 as a)), other.ml.f(model) FROM cars",
        "SELECT f(MODEL m)",
        "SELECT recommend(model, 3) FROM cars",
    ] {
        assert_eq!(generic_text(text), text);
    }
}

/// Without asking whether DataFusion's parser takes it.
fn generic_text(text: &str) -> String {
    match read(text, false).remove(0) {
        Statement::Plain(sql) => sql.text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn in_bigquery_names_are_split_and_quoted() {
    assert_eq!(
        google("SELECT * FROM ML.PREDICT(MODEL `p-1.ds.m`, TABLE `p-1.ds.t`, STRUCT(\"x\" AS `tag`))"),
        "SELECT * FROM ML.PREDICT('p-1.ds.m', (SELECT * FROM \"p-1\".\"ds\".\"t\"), \"tag\" => 'x')"
    );
}
