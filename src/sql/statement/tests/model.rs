//! The model statements.

use crate::sql::statement::options::OptionValue;

use super::*;

#[test]
fn a_model_of_sessions() {
    assert_eq!(
        generic(
            "CREATE OR REPLACE MODEL `shop.purchase`\nOPTIONS (model_type='LOGISTIC_REG', input_label_cols=['bought'])\nAS\nSELECT device, pageviews, bought FROM sessions"
        ),
        "SELECT * FROM ML.TRAIN('shop.purchase', (SELECT device, pageviews, bought FROM sessions), \
         model_type => 'LOGISTIC_REG', input_label_cols => ['bought'])"
    );
}

#[test]
fn the_type_comes_first_and_options_are_optional() {
    assert_eq!(
        generic(
            "create model if not exists stations options(num_clusters = 4, MODEL_TYPE = 'kmeans') as select * from bikeshare"
        ),
        "SELECT * FROM ML.TRAIN('stations', (select * from bikeshare), MODEL_TYPE => 'kmeans', num_clusters => 4)"
    );
    assert_eq!(
        generic("CREATE MODEL m AS SELECT 1 AS label"),
        "SELECT * FROM ML.TRAIN('m', (SELECT 1 AS label))"
    );
}

#[test]
fn what_stands_before_the_name_is_kept() {
    let text = "CREATE MODEL IF NOT EXISTS `census`.income OPTIONS(model_type = 'linear_reg') AS SELECT 1";
    let created = create(text, false);
    assert!(created.if_not_exists && !created.or_replace);
    assert_eq!(created.model.name, "census.income");
    assert_eq!(
        &text[created.model.span.start..created.model.span.end],
        "`census`.income"
    );
    let option = created.option("MODEL_TYPE").unwrap();
    assert_eq!(&text[option.value_span.start..option.value_span.end], "'linear_reg'");
    assert_eq!(&text[option.name_span.start..option.name_span.end], "model_type");
    assert_eq!(&text[created.query.span.start..created.query.span.end], "SELECT 1");
    assert!(create("CREATE OR REPLACE MODEL m AS SELECT 1", false).or_replace);
}

#[test]
fn transform_before_or_after_options() {
    let expected = "SELECT * FROM ML.TRAIN('taxi', (SELECT * FROM trips), model_type => 'linear_reg', \
                    transform => '* EXCEPT (pickup), ML.BUCKETIZE(miles, [1, 5]) AS far, ''x'' AS tag')";
    let transform = "TRANSFORM (* EXCEPT (pickup), ML.BUCKETIZE(miles, [1, 5]) AS far, 'x' AS tag)";
    let options = "OPTIONS (model_type = 'linear_reg')";
    for clauses in [format!("{transform} {options}"), format!("{options}\n{transform}")] {
        assert_eq!(
            generic(&format!("CREATE MODEL taxi {clauses} AS SELECT * FROM trips")),
            expected
        );
    }
}

#[test]
fn queries_in_brackets_and_with_common_tables() {
    assert_eq!(
        generic("CREATE MODEL m OPTIONS(model_type='pca') AS ( /* all */ (SELECT * FROM penguins) ) -- end"),
        "SELECT * FROM ML.TRAIN('m', (SELECT * FROM penguins), model_type => 'pca')"
    );
    assert_eq!(
        generic("CREATE MODEL m AS WITH p AS (SELECT * FROM penguins) SELECT * FROM p;"),
        "SELECT * FROM ML.TRAIN('m', (WITH p AS (SELECT * FROM penguins) SELECT * FROM p))"
    );
    assert_eq!(
        generic("CREATE MODEL m AS (SELECT 1 AS a) UNION ALL (SELECT 2)"),
        "SELECT * FROM ML.TRAIN('m', (SELECT * FROM ((SELECT 1 AS a) UNION ALL (SELECT 2))))"
    );
}

#[test]
fn options_are_googlesql_in_any_dialect() {
    let text = r##"CREATE MODEL natality OPTIONS (
        model_type = "linear_reg", # what it is
        input_label_cols = ["weight_pounds"],
        note = 'it\'s "fine"', raw = r'\d+', long = '''a 'b'
c''', triple = """x"y""", l1_reg = .5, l2_reg = -1., n = +3, early_stop = TRUE, nothing = NULL,
    ) AS SELECT "weight_pounds" FROM births"##;
    assert_eq!(
        generic(text),
        "SELECT * FROM ML.TRAIN('natality', (SELECT \"weight_pounds\" FROM births), model_type => 'linear_reg', \
         input_label_cols => ['weight_pounds'], note => 'it''s \"fine\"', raw => '\\d+', long => 'a ''b''\nc', \
         triple => 'x\"y', l1_reg => 0.5, l2_reg => -1.0, n => 3, early_stop => TRUE, nothing => NULL)"
    );
}

#[test]
fn arrays_and_structs() {
    assert_eq!(
        generic(
            "CREATE MODEL m OPTIONS (class_weights = [STRUCT('yes', .2), ('no', 0.8)], \
             w = STRUCT('a' AS label, 0.2 AS weight), half = STRUCT(1, 2 AS b), typed = STRUCT<s STRING, f FLOAT64>('a', 1.5), \
             cols = ARRAY['a'], more = ARRAY<STRING>['a', \"b\"], none = [], deep = [[1, 2], [3]]) AS SELECT 1"
        ),
        "SELECT * FROM ML.TRAIN('m', (SELECT 1), class_weights => [struct('yes', 0.2), struct('no', 0.8)], \
         w => named_struct('label', 'a', 'weight', 0.2), half => named_struct('c0', 1, 'b', 2), typed => struct('a', 1.5), \
         cols => ['a'], more => ['a', 'b'], none => [], deep => [[1, 2], [3]])"
    );
}

#[test]
fn searches_for_hyperparameters_keep_their_shape() {
    let created = create(
        "CREATE MODEL m OPTIONS (num_trials = 8, l2_reg = HPARAM_RANGE(0, 1.5), \
         optimizer = hparam_candidates(['adam', \"sgd\"])) AS SELECT 1",
        false,
    );
    assert_eq!(
        created.option("l2_reg").unwrap().value,
        OptionValue::Range {
            low: "0".into(),
            high: "1.5".into()
        }
    );
    assert_eq!(
        created.option("optimizer").unwrap().value,
        OptionValue::Candidates(vec!["'adam'".into(), "'sgd'".into()])
    );
    assert_eq!(
        created.function_form(&[]).text,
        "SELECT * FROM ML.TRAIN('m', (SELECT 1), num_trials => 8, l2_reg => HPARAM_RANGE(0, 1.5), \
         optimizer => HPARAM_CANDIDATES(['adam', 'sgd']))"
    );
}

#[test]
fn other_expressions_pass_as_they_are() {
    assert_eq!(
        generic("CREATE MODEL m OPTIONS (k = 2 + 1, d = DATE \"2020-01-01\", s = CONCAT('a', \"b\")) AS SELECT 1"),
        "SELECT * FROM ML.TRAIN('m', (SELECT 1), k => 2 + 1, d => DATE '2020-01-01', s => google_concat('a', 'b'))"
    );
}

#[test]
fn names_of_models() {
    for (written, name) in [
        ("m", "m"),
        ("ds.m", "ds.m"),
        ("`my-project.ds.m`", "my-project.ds.m"),
        ("`my-project`.ds.`2020_model`", "my-project.ds.2020_model"),
        ("`my-project.ds`.m", "my-project.ds.m"),
        ("my-project.ds.m", "my-project.ds.m"),
        ("a-b-1.ds.2m", "a-b-1.ds.2m"),
        ("\"Quoted\"", "Quoted"),
        ("'text'", "text"),
    ] {
        for bigquery in [false, true] {
            let created = create(&format!("CREATE MODEL {written} AS SELECT 1"), bigquery);
            assert_eq!(created.model.text(), name, "{written}");
            let created = create(
                &format!("CREATE MODEL {written}OPTIONS() AS SELECT 1")
                    .replace("mOPT", "m OPT")
                    .replace("_modelOPT", "_model OPT"),
                bigquery,
            );
            assert_eq!(created.model.text(), name, "{written}");
        }
    }
}

#[test]
fn drop_alter_export() {
    let text = "DROP MODEL IF EXISTS `p-1.ds.m@3`; drop model m; DROP MODEL ds.m@7";
    let dropped: Vec<_> = read(text, false)
        .into_iter()
        .map(|s| match s {
            Statement::DropModel(d) => (
                d.model.name,
                d.model.version,
                d.if_exists,
                text[d.span.start..d.span.end].to_string(),
            ),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        dropped,
        [
            (
                "p-1.ds.m".to_string(),
                Some("3".to_string()),
                true,
                "DROP MODEL IF EXISTS `p-1.ds.m@3`".to_string()
            ),
            ("m".into(), None, false, "drop model m".into()),
            ("ds.m".into(), Some("7".into()), false, "DROP MODEL ds.m@7".into()),
        ]
    );
    match read(
        "ALTER MODEL IF EXISTS m SET OPTIONS (description = \"for Q3\", labels = [('team', 'web')])",
        false,
    )
    .remove(0)
    {
        Statement::AlterModel(a) => {
            assert!(a.if_exists);
            assert_eq!(a.options[0].value.text().as_deref(), Some("for Q3"));
            assert_eq!(a.options[1].value.sql(), "[struct('team', 'web')]");
        }
        other => panic!("{other:?}"),
    }
    match read(
        "EXPORT MODEL `ds.m` OPTIONS (uri = \"gs://lake/it's\", trial_id = 2)",
        false,
    )
    .remove(0)
    {
        Statement::ExportModel(e) => {
            assert_eq!((e.model.name.as_str(), e.uri.as_str()), ("ds.m", "gs://lake/it's"));
            assert_eq!(e.options[1].value.sql(), "2");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn show_and_describe() {
    assert_eq!(generic("SHOW MODELS"), "SELECT * FROM ml.models ORDER BY name, version");
    assert_eq!(
        generic("show models like 'Churn''s%';"),
        "SELECT * FROM ml.models WHERE name LIKE 'churn''s%' ORDER BY name, version"
    );
    assert_eq!(
        google("SHOW MODELS LIKE \"churn%\""),
        "SELECT * FROM ml.models WHERE name LIKE 'churn%' ORDER BY name, version"
    );
    for text in ["DESCRIBE MODEL ds.m", "desc model `ds.m`", "DESC MODEL ds . m"] {
        match parse(text, false).map(|mut s| s.remove(0)) {
            Ok(Statement::DescribeModel(d)) => assert_eq!(d.model.name, "ds.m"),
            other => assert!(text.contains(" . "), "{other:?}"),
        }
    }
}

#[test]
fn explain_of_training() {
    assert_eq!(
        generic("EXPLAIN ANALYZE CREATE MODEL m OPTIONS (model_type = \"pca\") AS SELECT * FROM penguins"),
        "EXPLAIN ANALYZE SELECT * FROM ML.TRAIN('m', (SELECT * FROM penguins), model_type => 'pca')"
    );
}

#[test]
fn tables_called_model_stay_tables() {
    for text in [
        "DESCRIBE model",
        "DESC model",
        "DESCRIBE model.t",
        "SHOW model",
        "CREATE TABLE model (model INT)",
        "DROP TABLE model",
        "SELECT model FROM model",
    ] {
        match read(text, false).remove(0) {
            Statement::Plain(sql) => assert!(sql.is_verbatim() && sql.text == text, "{sql:?}"),
            other => panic!("{other:?}"),
        }
    }
}
