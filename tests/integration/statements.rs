//! The statements of BigQuery ML, from CREATE MODEL to what is asked of a model, and scripts in its spelling.

use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_ml::register_all;
use futures::StreamExt;

fn context(dialect: &str) -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(2);
    config
        .options_mut()
        .set("datafusion.sql_parser.dialect", dialect)
        .unwrap();
    config.options_mut().sql_parser.collect_spans = true;
    let ctx = SessionContext::new_with_config(config);
    register_all(&ctx).unwrap();
    ctx
}

/// Runs a script; gives the last statement's result, as text.
async fn run(ctx: &SessionContext, script: &str) -> Result<String, String> {
    let mut frames = datafusion_ml::sql(ctx, script).map_err(|e| e.to_string())?;
    let mut last = String::new();
    while let Some(frame) = frames.next().await {
        let batches = frame
            .map_err(|e| e.to_string())?
            .collect()
            .await
            .map_err(|e| e.to_string())?;
        last = pretty_format_batches(&batches).unwrap().to_string();
    }
    Ok(last)
}

const PENGUINS: &str = "CREATE TABLE penguins AS SELECT \
     CASE WHEN value % 3 = 0 THEN 'Gentoo' ELSE 'Adelie' END AS species, \
     CASE WHEN value % 11 = 0 THEN NULL WHEN value % 2 = 0 THEN 'MALE' ELSE 'FEMALE' END AS sex, \
     180 + (value * 7) % 40 + CASE WHEN value % 3 = 0 THEN 20 ELSE 0 END AS flipper_length_mm, \
     3000.0 + (value * 13) % 900 + CASE WHEN value % 3 = 0 THEN 900 ELSE 0 END AS body_mass_g, \
     value AS id FROM generate_series(1, 400);";

#[tokio::test(flavor = "multi_thread")]
async fn a_script_from_create_model_to_weights() {
    let ctx = context("generic");
    let script = format!(
        "{PENGUINS}
         CREATE OR REPLACE MODEL bqml.species_model
         OPTIONS (model_type = 'LOGISTIC_REG', input_label_cols = ['species'], l2_reg = 1, model_registry = 'vertex_ai')
         AS SELECT species, sex, flipper_length_mm, body_mass_g FROM penguins WHERE id <= 300;
         SELECT predicted_species, count(*) AS n FROM ML.PREDICT(MODEL bqml.species_model, (SELECT * FROM penguins WHERE id > 300))
         GROUP BY predicted_species ORDER BY predicted_species"
    );
    let told = run(&ctx, &script).await.unwrap();
    assert!(
        told.contains("| Adelie            |") && told.contains("| Gentoo            |"),
        "{told}"
    );
    let told = run(&ctx, "SELECT accuracy > 0.9 AS good FROM ML.EVALUATE(MODEL bqml.species_model, TABLE penguins, STRUCT(0.4 AS threshold))")
        .await
        .unwrap();
    assert!(told.contains("true"), "{told}");
    let told = run(
        &ctx,
        "SELECT count(*) AS n FROM ML.WEIGHTS(MODEL bqml.species_model, STRUCT(TRUE AS standardize))",
    )
    .await
    .unwrap();
    assert!(told.contains("| 4 |"), "{told}");
}

/// Where CREATE MODEL has other defaults than ML.TRAIN, and options without effect that one type takes all the same.
#[tokio::test(flavor = "multi_thread")]
async fn k_means_stops_early_in_a_statement_alone() {
    let ctx = context("generic");
    let rows = "CREATE TABLE dots AS SELECT sin(value * 1.7) + value % 5 AS x, cos(value * 0.9) * (value % 3) AS y FROM generate_series(1, 4000)";
    run(&ctx, rows).await.unwrap();
    let passes = async |options: &str| {
        let create = format!(
            "CREATE OR REPLACE MODEL dots OPTIONS (model_type = 'kmeans', num_clusters = 9{options}) AS SELECT x, y FROM dots"
        );
        let told = run(&ctx, &create).await.unwrap();
        told.lines().filter(|l| l.starts_with("| 0 ")).count()
    };
    let (early, all) = (
        passes("").await,
        passes(", early_stop = FALSE, max_iterations = 100").await,
    );
    assert!(early < all && early <= 20, "{early} {all}");
    assert_eq!(passes(", early_stop = FALSE, max_iterations = 3").await, 3);
    let told = run(
        &ctx,
        "SELECT count(*) AS n FROM ML.TRAIN('dots', (SELECT x, y FROM dots), model_type => 'kmeans', k => 9)",
    )
    .await
    .unwrap();
    assert!(told.contains(&format!("| {all} ")), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_shown_described_exported_and_dropped() {
    let ctx = context("generic");
    let create = "MODEL groups OPTIONS (model_type = \"kmeans\", num_clusters = 2, standardize_features = TRUE) AS SELECT flipper_length_mm, body_mass_g FROM penguins";
    run(&ctx, &format!("{PENGUINS} CREATE {create}")).await.unwrap();
    let error = run(&ctx, &format!("CREATE {create}")).await.unwrap_err();
    assert!(
        error.contains("model 'groups' exists already; write CREATE OR REPLACE MODEL"),
        "{error}"
    );
    let told = run(
        &ctx,
        &create.replace("MODEL groups", "CREATE MODEL IF NOT EXISTS groups"),
    )
    .await
    .unwrap();
    assert!(told.contains("nothing was trained"), "{told}");
    run(&ctx, &format!("CREATE OR REPLACE {create}")).await.unwrap();
    let told = run(&ctx, "SHOW MODELS LIKE 'gr%'").await.unwrap();
    assert!(told.contains("groups | 2 "), "{told}");
    let told = run(&ctx, "DESCRIBE MODEL groups@1").await.unwrap();
    for part in ["| version ", "| 1 ", "option k", "feature body_mass_g"] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    run(&ctx, "ALTER MODEL groups SET OPTIONS (description = 'who is big')")
        .await
        .unwrap();
    let told = run(&ctx, "DESCRIBE MODEL groups").await.unwrap();
    for part in ["| 3 ", "| description ", "who is big"] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    let error = run(&ctx, "ALTER MODEL groups SET OPTIONS (k = 3)").await.unwrap_err();
    assert!(error.contains("ALTER MODEL cannot set 'k'"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let uri = folder.path().display().to_string();
    run(&ctx, &format!("EXPORT MODEL groups OPTIONS (uri = '{uri}')"))
        .await
        .unwrap();
    assert!(folder.path().join("groups").join("000001").is_dir());
    let told = run(
        &ctx,
        &format!("SET ml.store = '{uri}'; SELECT count(*) AS n FROM ML.CENTROIDS(MODEL groups)"),
    )
    .await
    .unwrap();
    assert!(told.contains("| 4 |"), "{told}");
    run(&ctx, "SET ml.store = 'memory'").await.unwrap();
    let told = run(&ctx, "DROP MODEL groups").await.unwrap();
    assert!(told.contains("| groups | 3 "), "{told}");
    let error = run(&ctx, "DROP MODEL groups").await.unwrap_err();
    assert!(error.contains("there is no model 'groups'"), "{error}");
    run(&ctx, "DROP MODEL IF EXISTS groups").await.unwrap();
    let error = run(&ctx, "SELECT * FROM ML.CENTROIDS('groups')").await.unwrap_err();
    assert!(error.contains("there is no model 'groups'"), "{error}");
}

/// What public tutorials look like, on tables with their schemas: each is to run as it stands.
#[tokio::test(flavor = "multi_thread")]
async fn scripts_in_the_spelling_of_bigquery() {
    let tables = "CREATE TABLE sessions AS SELECT value AS visit_id, CASE WHEN value % 3 = 0 THEN 'iOS' ELSE 'Android' END AS os, \
                  value % 2 = 0 AS is_mobile, value % 40 AS pageviews, (value * 7) % 13 + value % 40 > 25 AS bought, \
                  to_timestamp(1500000000 + value * 4000) AS started FROM generate_series(1, 500); \
                  CREATE TABLE trips AS SELECT value AS trip_id, 2 + value % 9 AS miles, value % 5 AS station, to_timestamp(1400000000 + value * 3000) AS pickup, \
                  CASE WHEN (value * 11) % 7 + value % 9 > 8 THEN 'tip' ELSE 'none' END AS tipped FROM generate_series(1, 500); \
                  CREATE TABLE ratings AS SELECT value % 50 AS user_id, CAST(abs(sin(value * 1.7)) * 30 AS BIGINT) AS movie_id, 1.0 + value % 5 AS rating \
                  FROM generate_series(1, 1500)";
    let scripts = [
        // Web analytics: a label by IF, backticks, comments, EXCEPT, a trailing comma.
        "#standardSQL
         CREATE OR REPLACE MODEL `demo.purchase` OPTIONS(model_type=\"logistic_reg\", labels=['label']) AS
         SELECT IF(bought, 1, 0) AS label, os, is_mobile, pageviews, # what they saw
         FROM `sessions` WHERE visit_id < 400",
        "SELECT visit_id, predicted_label, predicted_label_probs[OFFSET(0)].prob AS p
         FROM ML.PREDICT(MODEL `demo.purchase`, (SELECT * EXCEPT (bought) FROM sessions)) ORDER BY p DESC LIMIT 5",
        "SELECT * FROM ML.ROC_CURVE(MODEL `demo.purchase`, (SELECT IF(bought, 1, 0) AS label, * FROM sessions))",
        // Taxi: parts of a timestamp, a safe division, a declared variable.
        "DECLARE cutoff INT64 DEFAULT 400;
         CREATE OR REPLACE MODEL taxi.tip OPTIONS(model_type='logistic_reg', input_label_cols=['tipped'], auto_class_weights=TRUE) AS
         SELECT tipped, miles, CAST(station AS STRING) AS station, EXTRACT(DAYOFWEEK FROM pickup) AS day, EXTRACT(HOUR FROM pickup) AS hour
         FROM trips WHERE MOD(ABS(FARM_FINGERPRINT(CAST(trip_id AS STRING))), 10) < 8 AND trip_id <= cutoff;
         SELECT * FROM ML.CONFUSION_MATRIX(MODEL taxi.tip, (SELECT tipped, miles, CAST(station AS STRING) AS station,
           EXTRACT(DAYOFWEEK FROM pickup) AS day, EXTRACT(HOUR FROM pickup) AS hour FROM trips WHERE trip_id > cutoff))",
        "SELECT accuracy, roc_auc FROM ML.EVALUATE(MODEL taxi.tip)",
        "CREATE OR REPLACE MODEL taxi.tip2 OPTIONS(model_type='logistic_reg', input_label_cols=['tipped'], data_split_method='CUSTOM',
           data_split_col='held') AS SELECT tipped, miles, MOD(trip_id, 5) = 0 AS held FROM trips",
        // Clusters of stations.
        "CREATE OR REPLACE MODEL bike.stations OPTIONS(model_type='kmeans', num_clusters=3, standardize_features = true) AS
         WITH s AS (SELECT station, AVG(miles) AS distance, COUNT(*) AS trips, COUNTIF(tipped = \"tip\") AS tips FROM trips GROUP BY station)
         SELECT * EXCEPT(station) FROM s",
        "SELECT centroid_id, feature, numerical_value FROM ML.CENTROIDS(MODEL bike.stations) ORDER BY centroid_id, feature",
        "SELECT * FROM ML.TRAINING_INFO(MODEL bike.stations)",
        "SELECT is_anomaly, normalized_distance, centroid_id FROM ML.DETECT_ANOMALIES(MODEL bike.stations, STRUCT(0.1 AS contamination),
           (SELECT 1.5 AS distance, 3 AS trips, 1 AS tips UNION ALL SELECT 90.0, 900, 2))",
        "CREATE OR REPLACE MODEL bike.three OPTIONS(model_type='kmeans', kmeans_init_method='CUSTOM', kmeans_init_col='first',
           distance_type='EUCLIDEAN', max_iterations=5, early_stop=FALSE, min_rel_progress=0.05, warm_start=FALSE) AS
         SELECT miles, trip_id < 3 AS first FROM trips",
        "CREATE OR REPLACE MODEL bike.some OPTIONS(model_type='kmeans') AS SELECT miles, tipped FROM trips",
        // Components of trips.
        "CREATE OR REPLACE MODEL taxi.components OPTIONS(model_type='PCA', num_principal_components=2, scale_features=FALSE,
           pca_solver='FULL') AS SELECT miles, tipped, EXTRACT(HOUR FROM pickup) AS hour FROM trips",
        "SELECT * FROM ML.PRINCIPAL_COMPONENTS(MODEL taxi.components) ORDER BY principal_component_id, feature",
        "SELECT * FROM ML.PRINCIPAL_COMPONENT_INFO(MODEL taxi.components)",
        "SELECT total_explained_variance_ratio FROM ML.EVALUATE(MODEL taxi.components)",
        "SELECT * FROM ML.PREDICT(MODEL taxi.components, (SELECT miles, tipped, EXTRACT(HOUR FROM pickup) AS hour FROM trips))",
        "SELECT * FROM ML.DETECT_ANOMALIES(MODEL taxi.components, STRUCT(0.05 AS contamination), (SELECT miles, tipped, EXTRACT(HOUR FROM pickup) AS hour FROM trips))",
        "SELECT ml_generate_embedding_result FROM ML.GENERATE_EMBEDDING(MODEL taxi.components, (SELECT miles, tipped, EXTRACT(HOUR FROM pickup) AS hour FROM trips))",
        // Fares: a number.
        "CREATE OR REPLACE MODEL taxi.miles OPTIONS(model_type='linear_reg', input_label_cols=['miles'], optimize_strategy='NORMAL_EQUATION', warm_start=TRUE) AS
         SELECT miles, tipped, EXTRACT(HOUR FROM pickup) AS hour FROM trips",
        "SELECT * FROM ML.EVALUATE(MODEL taxi.miles, (SELECT miles, tipped, EXTRACT(HOUR FROM pickup) AS hour FROM trips))",
        "SELECT processed_input, weight, p_value FROM ML.ADVANCED_WEIGHTS(MODEL taxi.miles)",
        // Functions of GoogleSQL: points, safe calls, pieces of a text, whole numbers divided, a hash of a timestamp.
        "CREATE OR REPLACE MODEL taxi.far OPTIONS(model_type='linear_reg', input_label_cols=['far']) AS
         SELECT ST_Distance(ST_GeogPoint(-73.9 - miles / 100, 40.7), ST_GeogPoint(-73.9, 40.7)) AS far,
           SAFE.LOG(miles - 2) AS log_miles, SPLIT(CONCAT(tipped, '/', station), '/')[OFFSET(1)] AS place,
           DATE_DIFF(DATE(pickup), DATE '2014-01-01', WEEK(MONDAY)) AS week, station / 5 AS share
         FROM trips WHERE MOD(ABS(FARM_FINGERPRINT(CAST(pickup AS STRING))), 10) < 8",
        "SELECT FORMAT_TIMESTAMP('%Y-%m', pickup) AS month, APPROX_QUANTILES(miles, 4)[OFFSET(2)] AS middle,
           COUNTIF(tipped = 'tip') / COUNT(*) AS tipping, TO_JSON_STRING(STRUCT(MAX(miles) AS most)) AS most
         FROM trips GROUP BY month ORDER BY month",
        "SELECT x, TIMESTAMP_DIFF(TIMESTAMP '2020-01-02', TIMESTAMP '2020-01-01', HOUR) AS hours FROM UNNEST(GENERATE_ARRAY(0, 1, 0.25)) AS x",
        // Ratings.
        "CREATE OR REPLACE MODEL films.taste OPTIONS(model_type='matrix_factorization', feedback_type='implicit', user_col='user_id',
           item_col='movie_id', rating_col='rating', num_factors=8) AS SELECT user_id, movie_id, rating FROM ratings",
        "SELECT * FROM RECOMMEND(MODEL films.taste, (SELECT DISTINCT user_id FROM ratings WHERE user_id < 3), n => 3)",
        "CREATE OR REPLACE MODEL films.stars OPTIONS(model_type='matrix_factorization', user_col='user_id', item_col='movie_id', l2_reg=9.83,
           num_factors=34) AS SELECT user_id, movie_id, rating FROM ratings",
        "SELECT * FROM ML.EVALUATE(MODEL films.stars)",
        "SELECT * FROM ML.EVALUATE(MODEL films.taste, TABLE ratings)",
        "SELECT user_id, movie_id, predicted_rating FROM ML.RECOMMEND(MODEL films.stars, (SELECT 7 AS user_id)) ORDER BY predicted_rating DESC LIMIT 5",
        "SELECT movie_id, predicted_rating_confidence FROM ML.RECOMMEND(MODEL films.taste, STRUCT(3 AS top_k))",
        "SELECT feature, factor_weights, intercept FROM ML.WEIGHTS(MODEL films.stars) WHERE feature != 'global__INTERCEPT__'",
        "SELECT feature, ml_generate_embedding_result FROM ML.GENERATE_EMBEDDING(MODEL films.stars) WHERE processed_input = 'movie_id'",
    ];
    let ctx = context("generic");
    run(&ctx, tables).await.unwrap();
    run(&ctx, "SET datafusion.sql_parser.dialect = 'bigquery'")
        .await
        .unwrap();
    let mut failed = vec![];
    for script in scripts {
        match run(&ctx, script).await {
            Ok(told) if told.lines().count() > 4 => {}
            Ok(told) => failed.push(format!("{script}\n  gave nothing: {told}")),
            Err(error) => failed.push(format!("{script}\n  {error}")),
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {} failed:\n{}",
        failed.len(),
        scripts.len(),
        failed.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_pointed_at() {
    let ctx = context("generic");
    let cases = [
        ("CREATE MODEL m OPTIONS (model_type 'kmeans') AS SELECT 1 AS a", "^"),
        ("CREATE MODEL m OPTIONS (model_type = 'kmeans')", "AS"),
        (
            "CREATE MODEL m OPTIONS (k = 3) AS SELECT 1 AS a",
            "needs the option model_type, one of 'kmeans'",
        ),
        (
            "CREATE MODEL m OPTIONS (model_type = 'kmean', k = 3) AS SELECT 1 AS a",
            "did you mean 'kmeans'?",
        ),
        (
            "CREATE MODEL m OPTIONS (model_type = 'kmeans', num_cluster = 3) AS SELECT 1 AS a",
            "did you mean 'num_clusters'?",
        ),
        (
            "CREATE MODEL m OPTIONS (model_type = kmeans) AS SELECT 1 AS a",
            "takes a model type in quotes",
        ),
        (
            "CREATE MODEL m OPTIONS (model_type = 'kmeans' num_clusters = 3) AS SELECT 1 AS a",
            "a comma is missing before 'num_clusters'",
        ),
        (
            "CREATE MODEL m OPTIONS (model_type = 'kmeans', num_clusters = 0) AS SELECT 1 AS a",
            "CREATE MODEL: option 'num_clusters' takes a whole number from 1",
        ),
        (
            "CREATE MODEL m OPTIONS (model_type = 'linear_reg', input_label_cols = ['a', 'b']) AS SELECT 1 AS a, 2 AS b",
            "option 'input_label_cols' takes one column, not 2; name one",
        ),
        (
            "CREATE MODEL m OPTIONS (model_type = 'boosted_tree_classifier') AS SELECT 1 AS a",
            "BOOSTED_TREE_CLASSIFIER is a model type of BigQuery ML that is not here",
        ),
        (
            "SELECT * FROM ML.FORECAST(MODEL m)",
            "ML.FORECAST is a function of BigQuery ML that is not here",
        ),
        ("ALTER MODEL m SET OPTIONS (description = 'x')", "there is no model 'm'"),
        (
            "CREATE MODEL m TRANSFORM (a + 1 AS b, c AS b) OPTIONS (model_type = 'kmeans', k = 2) AS SELECT 1 AS a, 2 AS c",
            "TRANSFORM makes two columns 'b'",
        ),
    ];
    for (script, expected) in cases {
        let error = run(&ctx, script).await.unwrap_err();
        assert!(error.contains(expected), "{script}: {error}");
    }
    // A fault behind a rewritten call is shown where the user wrote it.
    for script in [
        "CREATE TABLE t AS SELECT 1 AS a; SELECT nothing_such FROM KMEANS_SEGMENT(TABLE t, k => 1)",
        "CREATE MODEL m\nOPTIONS (model_type = 'kmeans',\n num_clusters = 2)\nAS\nSELECT a,\n  nothing_such,\n  1 AS b\nFROM t",
        "CREATE MODEL m\nOPTIONS (model_type = 'kmeans')\nAS SELECT a\n  b nothing_such FROM t",
    ] {
        let error = run(&ctx, script).await.unwrap_err();
        let lines: Vec<&str> = error.lines().collect();
        let (line, under) = (lines[lines.len() - 2], lines[lines.len() - 1]);
        assert_eq!(line.find("nothing_such"), under.find('^'), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_sql_stays_as_it_is() {
    let ctx = context("generic");
    let told = run(
        &ctx,
        "SELECT \"a\", 'it''s' AS b, \"model\" FROM (SELECT 1 AS \"a\", 2 AS model)",
    )
    .await
    .unwrap();
    assert!(told.contains("it's"), "{told}");
    let told = run(
        &ctx,
        "SET datafusion.execution.batch_size = 100; SELECT count(*) AS n FROM generate_series(1, 10)",
    )
    .await
    .unwrap();
    assert!(told.contains("| 10 |"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn null_is_the_least_value_in_the_spelling_of_bigquery() {
    let script = "SELECT x FROM (SELECT 1 AS x UNION ALL SELECT NULL UNION ALL SELECT 2) ORDER BY x DESC LIMIT 1";
    let ranked = "SELECT x FROM (SELECT x, ROW_NUMBER() OVER (ORDER BY x) AS n FROM (SELECT 1 AS x UNION ALL SELECT NULL)) WHERE n = 2";
    for (dialect, first, second) in [("bigquery", "| 2 |", "| 1 |"), ("generic", "|   |", "|   |")] {
        let ctx = context(dialect);
        let told = run(&ctx, script).await.unwrap();
        assert!(told.contains(first), "{dialect}: {told}");
        let told = run(&ctx, ranked).await.unwrap();
        assert!(told.contains(second), "{dialect}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loss_of_held_out_rows_is_told() {
    let ctx = context("bigquery");
    let script = format!(
        "{PENGUINS} CREATE MODEL m OPTIONS (model_type = 'linear_reg', input_label_cols = ['body_mass_g'],
           data_split_method = 'RANDOM', data_split_eval_fraction = 0.25) AS SELECT * FROM penguins;
         SELECT abs(t.eval_loss - e.mean_squared_error) < 1e-9 AND t.eval_loss <> t.loss AS told
         FROM ML.TRAINING_INFO(MODEL m) AS t CROSS JOIN ML.EVALUATE(MODEL m) AS e"
    );
    let told = run(&ctx, &script).await.unwrap();
    assert!(told.contains("| true |"), "{told}");
}

/// A tutorial's script as it stands: a public table, a dataset that nothing made, and what comes out of it.
#[tokio::test(flavor = "multi_thread")]
async fn tables_of_a_tutorial_need_neither_project_nor_dataset() {
    let ctx = context("bigquery");
    let script = format!(
        "{PENGUINS}
         CREATE OR REPLACE MODEL `bqml_tutorial.penguins_model` OPTIONS (model_type = 'linear_reg', input_label_cols = ['body_mass_g'])
         AS SELECT species, flipper_length_mm / 10, flipper_length_mm * id, body_mass_g FROM `bigquery-public-data.ml_datasets.penguins` WHERE body_mass_g IS NOT NULL;
         CREATE OR REPLACE TABLE `my-project.bqml_tutorial.scored` PARTITION BY species OPTIONS (description = \"scores\") AS
         SELECT species, AVG(predicted_body_mass_g) FROM ML.PREDICT(MODEL `bqml_tutorial.penguins_model`,
           (SELECT *, flipper_length_mm / 10 AS f0_, flipper_length_mm * id AS f1_ FROM `bigquery-public-data.ml_datasets.PENGUINS`)) GROUP BY species;
         CREATE VIEW bqml_tutorial.best AS SELECT STRUCT(species, f0_) AS s FROM `my-project.bqml_tutorial.scored`;
         SELECT s.* EXCEPT (f0_), COUNT(*) FROM bqml_tutorial.best GROUP BY 1 ORDER BY species"
    );
    let told = run(&ctx, &script).await.unwrap();
    for part in ["| species | f0_ |", "| Adelie  | 1   |", "| Gentoo  | 1   |"] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    let told = run(
        &ctx,
        "SELECT processed_input FROM ML.WEIGHTS(MODEL bqml_tutorial.penguins_model) ORDER BY processed_input",
    )
    .await
    .unwrap();
    assert!(told.contains("| f0_ ") && told.contains("| f1_ "), "{told}");
    let told = run(
        &ctx,
        "SELECT accuracy FROM ML.EVALUATE(MODEL bqml_tutorial.nothing, TABLE `a.b.penguins`)",
    )
    .await
    .unwrap_err();
    assert!(told.contains("bqml_tutorial.nothing"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_and_structs_in_the_spelling_of_bigquery() {
    let ctx = context("bigquery");
    let cases = [
        (
            "WITH t AS (SELECT x FROM UNNEST(GENERATE_ARRAY(1, 10000)) AS x) SELECT COUNT(*) BETWEEN 300 AND 700 FROM t TABLESAMPLE SYSTEM (5 PERCENT)",
            "| true |",
        ),
        (
            "SELECT ARRAY_AGG(STRUCT(k, v))[OFFSET(0)].v FROM (SELECT 'a' AS k, 3 AS v)",
            "| 3 |",
        ),
        (
            "SELECT ARRAY<STRUCT<x INT64, y STRING>>[(1, 'a'), (2, 'b')][OFFSET(1)].y",
            "| b |",
        ),
        (
            "SELECT [STRUCT(1 AS x, 'a' AS y), STRUCT(2, 'b')][OFFSET(1)].y",
            "| b |",
        ),
        ("SELECT STRUCT<a INT64, b STRING>(1, 'z').b", "| z |"),
        (
            "WITH ga AS (SELECT STRUCT(3 AS visits, 4 AS hits) AS totals, 'u' AS id) SELECT id, totals.* EXCEPT (visits), totals.hits + 1 FROM ga",
            "| id | hits | f0_ |",
        ),
    ];
    for (script, expected) in cases {
        let told = run(&ctx, script).await.map_err(|e| format!("{script}: {e}")).unwrap();
        assert!(told.contains(expected), "{script}: {told}");
    }
    let error = run(&ctx, "SELECT 1; BEGIN TRANSACTION; SELECT 2").await.unwrap_err();
    assert!(
        error.contains(
            "each statement is done at once\nSELECT 1; BEGIN TRANSACTION; SELECT 2\n          ^^^^^^^^^^^^^^^^^"
        ),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn elements_of_arrays_give_their_fields() {
    let ctx = context("bigquery");
    let table = "CREATE TABLE t AS SELECT 'a' AS k, 7 AS n, [STRUCT('x' AS label, 0.25 AS prob), STRUCT('y' AS label, 0.75 AS prob)] AS arr, [1, 2] AS numbers;";
    run(&ctx, table).await.unwrap();
    for (script, expected) in [
        // Without a name their fields are columns.
        (
            "SELECT k, label, prob FROM t, UNNEST(arr) WHERE prob > 0.5",
            "| a | y     | 0.75 |",
        ),
        ("SELECT COUNT(*) AS c FROM t CROSS JOIN UNNEST(numbers)", "| 2 |"),
        (
            "SELECT K, Label FROM T, UNNEST(ARR) ORDER BY Prob LIMIT 1",
            "| a | x     |",
        ),
        (
            "SELECT * EXCEPT (arr, numbers, n) FROM t, UNNEST(arr) ORDER BY prob LIMIT 1",
            "| a | x     | 0.25 |",
        ),
        // A name that is the column's hides the column.
        (
            "SELECT k, arr.label FROM t, UNNEST(arr) AS arr WHERE arr.prob < 0.5",
            "| a | x     |",
        ),
        (
            "SELECT t.k, arr.label FROM t, UNNEST(t.arr) AS arr WHERE arr.prob < 0.5",
            "| a | x     |",
        ),
        (
            "SELECT p.* FROM t, UNNEST(arr) AS p WHERE p.prob < 0.5",
            "| x     | 0.25 |",
        ),
        // An array that a query gives.
        (
            "SELECT label, prob FROM UNNEST((SELECT arr FROM t WHERE n = 7)) WHERE prob > 0.5",
            "| y     | 0.75 |",
        ),
        (
            "SELECT p.label FROM UNNEST((SELECT arr FROM t)) AS p ORDER BY p.prob DESC LIMIT 1",
            "| y     |",
        ),
        // A variable of an element's name is hidden by it.
        (
            "DECLARE x INT64 DEFAULT 9; SELECT SUM(x) AS s FROM t, UNNEST(numbers) AS x",
            "| 3 |",
        ),
    ] {
        match run(&ctx, script).await {
            Ok(told) => assert!(told.contains(expected), "{script}: {told}"),
            Err(error) => panic!("{script}: {error}"),
        }
    }
}
