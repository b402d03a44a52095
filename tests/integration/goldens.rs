//! Numbers that other programs worked out (`tests/goldens/make.py`), reached through SQL.

use std::collections::BTreeMap;
use std::path::PathBuf;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::prelude::{CsvReadOptions, SessionConfig, SessionContext};
use datafusion_ml::register_all;
use serde_json::Value;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

/// What `make.py` expects.
pub(crate) fn expected(file: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder().join(file)).unwrap()).unwrap()
}

pub(crate) fn number(value: &Value, path: &str) -> f64 {
    value
        .pointer(path)
        .and_then(Value::as_f64)
        .unwrap_or_else(|| panic!("{path} is a number"))
}

/// A session with these files as tables of their names.
pub(crate) async fn context(tables: &[&str]) -> SessionContext {
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    register_all(&ctx).unwrap();
    for table in tables {
        let path = folder().join(format!("{table}.csv"));
        ctx.register_csv(*table, path.to_str().unwrap(), CsvReadOptions::new())
            .await
            .unwrap();
    }
    ctx
}

/// A query's rows, every column as a number; NULL is NaN.
pub(crate) async fn rows(ctx: &SessionContext, sql: &str) -> Vec<Vec<f64>> {
    let batches = ctx.sql(sql).await.unwrap().collect().await.unwrap();
    let mut out = vec![];
    for batch in &batches {
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|c| cast(c, &DataType::Float64).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            let value = |c: &std::sync::Arc<dyn Array>| {
                if c.is_null(row) {
                    f64::NAN
                } else {
                    c.as_primitive::<Float64Type>().value(row)
                }
            };
            out.push(columns.iter().map(value).collect());
        }
    }
    out
}

async fn one(ctx: &SessionContext, sql: &str) -> f64 {
    rows(ctx, sql).await[0][0]
}

#[track_caller]
fn near(what: &str, got: f64, wanted: f64, tolerance: f64) {
    assert!(
        (got - wanted).abs() <= tolerance * wanted.abs().max(1.0),
        "{what} is {got}, and {wanted} is expected"
    );
}

/// `[[1.0, 2.0], …]` as SQL writes it.
fn list_of_lists(value: &Value) -> String {
    let rows: Vec<String> = value
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let cells: Vec<String> = row
                .as_array()
                .unwrap()
                .iter()
                .map(|v| v.as_f64().unwrap().to_string())
                .collect();
            format!("[{}]", cells.join(", "))
        })
        .collect();
    format!("[{}]", rows.join(", "))
}

/// Segments of scikit-learn, from the same first centroids: every label, every distance, inertia and centroids.
async fn segments(scaled: bool) {
    let wanted = expected("segments.json");
    let ctx = context(&["segments", "segments_expected"]).await;
    let init = list_of_lists(&wanted["init"]);
    let prefix = if scaled { "scaled" } else { "raw" };
    ctx.sql(&format!(
        "CREATE TABLE result AS SELECT * FROM KMEANS_SEGMENT((SELECT id, a, b, c, d FROM segments), k => 4, id => 'id', \
         standardize => {scaled}, init => {init}, max_iterations => 1000, tolerance => 0)"
    ))
    .await
    .unwrap()
    .collect()
    .await
    .unwrap();
    let got = &rows(
        &ctx,
        &format!(
            "SELECT count(*), count(*) FILTER (WHERE segment <> {prefix}_segment), sum(power(segment_distance, 2)), \
             max(abs(segment_distance - {prefix}_distance)) \
             FROM result JOIN segments_expected USING (id)"
        ),
    )
    .await[0];
    assert_eq!(
        (got[0], got[1]),
        (300.0, 0.0),
        "rows, and rows in another segment than scikit-learn's"
    );
    near(
        "the inertia",
        got[2],
        number(&wanted, &format!("/{prefix}/inertia")),
        1e-6,
    );
    // Encoded numbers are f32: their rounding is in proportion to the spread of the data, which is about 100 in its own units.
    let spread = if scaled { 1.0 } else { 100.0 };
    assert!(got[3] <= 1e-6 * spread, "a distance is off by {}", got[3]);
    let centroids = rows(
        &ctx,
        "SELECT avg(a), avg(b), avg(c), avg(d) FROM result GROUP BY segment ORDER BY segment",
    )
    .await;
    for (i, centroid) in centroids.iter().enumerate() {
        for (j, value) in centroid.iter().enumerate() {
            let wanted = number(&wanted, &format!("/{prefix}/centroids/{i}/{j}"));
            near(&format!("number {j} of centroid {i}"), *value, wanted, 1e-6);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kmeans_in_the_units_of_the_data_equals_scikit_learn() {
    segments(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kmeans_standardised_by_the_sample_deviation_equals_scikit_learn() {
    segments(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_kmeans_model_segments_as_scikit_learn_predicts() {
    let wanted = expected("segments.json");
    let ctx = context(&["segments", "segments_expected"]).await;
    let init = list_of_lists(&wanted["init"]);
    rows(
        &ctx,
        &format!(
            "SELECT loss FROM ML.TRAIN('s', (SELECT * FROM segments), model_type => 'kmeans', k => 4, id => 'id', init => {init}, \
             max_iterations => 1000, tolerance => 0)"
        ),
    )
    .await;
    let differing = one(
        &ctx,
        "SELECT count(*) FILTER (WHERE KMEANS_SEGMENT('s', a, b, c, d) <> scaled_segment) \
         FROM segments JOIN segments_expected USING (id)",
    )
    .await;
    assert_eq!(differing, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn cosine_kmeans_equals_spherical_kmeans() {
    let wanted = expected("segments.json");
    let ctx = context(&["segments", "segments_expected"]).await;
    // The rows the golden started from, in the units of this query.
    let scale = [8.0, 512.0, 16.0, 8.0];
    let init: Vec<Vec<f64>> = wanted["init"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            row.as_array()
                .unwrap()
                .iter()
                .zip(scale)
                .map(|(v, s)| v.as_f64().unwrap() / s)
                .collect()
        })
        .collect();
    let init = list_of_lists(&serde_json::to_value(init).unwrap());
    let got = &rows(
        &ctx,
        &format!(
            "SELECT count(*), count(*) FILTER (WHERE segment <> cosine_segment), sum(power(segment_distance, 2)), \
             max(abs(segment_distance - cosine_distance)) FROM KMEANS_SEGMENT(\
               (SELECT id, a / 8 AS a, b / 512 AS b, c / 16 AS c, d / 8 AS d FROM segments), k => 4, id => 'id', \
               distance => 'cosine', standardize => false, init => {init}, max_iterations => 1000, tolerance => 0) \
             JOIN segments_expected USING (id)"
        ),
    )
    .await[0];
    assert_eq!((got[0], got[1]), (300.0, 0.0));
    near(
        "the sum of squared distances",
        got[2],
        number(&wanted, "/cosine/inertia"),
        1e-6,
    );
    assert!(got[3] <= 1e-6, "a distance is off by {}", got[3]);
}

const CHURN_FEATURES: &str = "tenure, spend, visits, plan, region, autopay";

async fn train_churn(ctx: &SessionContext, options: &str) {
    rows(
        ctx,
        &format!(
            "SELECT iteration FROM ML.TRAIN('churn', (SELECT {CHURN_FEATURES}, churned FROM churn), \
             model_type => 'logistic_reg', label => 'churned', {options})"
        ),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logistic_probabilities_equal_scikit_learn() {
    let ctx = context(&["churn", "churn_expected"]).await;
    for (column, options) in [
        ("ridge", "l2 => 1"),
        ("strong", "l2 => 25"),
        ("balanced", "l2 => 1, class_weights => 'balanced'"),
    ] {
        train_churn(&ctx, options).await;
        let off = &rows(
            &ctx,
            &format!(
                "SELECT count(*), max(abs(CHURN_SCORE('churn', {CHURN_FEATURES}) - {column})) \
                 FROM churn JOIN churn_expected USING (id)"
            ),
        )
        .await[0];
        assert_eq!(off[0], 500.0);
        assert!(off[1] <= 1e-6, "with {options} a probability is off by {}", off[1]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_loss_and_auc_in_sql_equal_scikit_learn() {
    let wanted = expected("churn.json");
    let ctx = context(&["churn"]).await;
    train_churn(&ctx, "l2 => 1").await;
    let got = &rows(
        &ctx,
        &format!(
            "WITH scored AS (SELECT CHURN_SCORE('churn', {CHURN_FEATURES}) AS p, churned = 'Yes' AS y FROM churn), \
             ranked AS (SELECT p, y, rank() OVER (ORDER BY p) + (count(*) OVER (PARTITION BY p) - 1) / 2.0 AS place FROM scored) \
             SELECT avg(-ln(CASE WHEN y THEN p ELSE 1 - p END)), \
                    (sum(place) FILTER (WHERE y) - count(*) FILTER (WHERE y) * (count(*) FILTER (WHERE y) + 1) / 2.0) \
                    / (count(*) FILTER (WHERE y) * count(*) FILTER (WHERE NOT y)) FROM ranked"
        ),
    )
    .await[0];
    near("the log loss", got[0], number(&wanted, "/ridge/log_loss"), 1e-6);
    near("the AUC", got[1], number(&wanted, "/ridge/auc"), 1e-9);
}

/// Without a penalty the logit is linear in the numbers as they are: four rows give all coefficients.
#[tokio::test(flavor = "multi_thread")]
async fn unpenalised_coefficients_equal_scikit_learn() {
    let wanted = expected("churn.json");
    let ctx = context(&["churn"]).await;
    rows(
        &ctx,
        "SELECT iteration FROM ML.TRAIN('plain', (SELECT coalesce(tenure, 0) AS tenure, coalesce(spend, 0) AS spend, visits, churned \
         FROM churn), model_type => 'logistic_reg', label => 'churned', l2 => 0)",
    )
    .await;
    let logits: Vec<f64> = rows(
        &ctx,
        "SELECT ln(p / (1 - p)) FROM (SELECT probe, CHURN_SCORE('plain', tenure, spend, visits) AS p FROM \
         (VALUES (0, 0.0, 0.0, 0), (1, 1.0, 0.0, 0), (2, 0.0, 1.0, 0), (3, 0.0, 0.0, 1)) AS t(probe, tenure, spend, visits)) \
         ORDER BY probe",
    )
    .await
    .into_iter()
    .map(|row| row[0])
    .collect();
    near(
        "the intercept",
        logits[0],
        number(&wanted, "/unpenalised/intercept"),
        1e-6,
    );
    for (i, feature) in ["tenure", "spend", "visits"].into_iter().enumerate() {
        let slope = logits[i + 1] - logits[0];
        near(
            feature,
            slope,
            number(&wanted, &format!("/unpenalised/{feature}")),
            1e-6,
        );
    }
}

/// The best items of the users that `wanted` lists: the same items in the same order, with the same scores.
async fn same_ranking(options: &str, wanted: &Value, tolerance: f64) {
    let ctx = context(&["tastes"]).await;
    let got = rows(
        &ctx,
        &format!(
            "SELECT user_id, item_id, score FROM RECOMMEND((SELECT * FROM tastes), user => 'user_id', item => 'item_id', n => 10, \
             {options}) ORDER BY user_id, rank"
        ),
    )
    .await;
    let mut by_user: BTreeMap<i64, Vec<(i64, f64)>> = BTreeMap::new();
    for row in got {
        by_user.entry(row[0] as i64).or_default().push((row[1] as i64, row[2]));
    }
    assert_eq!(by_user.len(), 200);
    for (user, items) in wanted.as_object().unwrap() {
        let got = &by_user[&user.parse().unwrap()];
        for (rank, entry) in items.as_array().unwrap().iter().enumerate() {
            let (item, score) = (entry[0].as_i64().unwrap(), entry[1].as_f64().unwrap());
            assert_eq!(got[rank].0, item, "rank {rank} of user {user}");
            near(
                &format!("the score of item {item} for user {user}"),
                got[rank].1,
                score,
                tolerance,
            );
        }
    }
}

/// With one factor the optimum does not depend on the start, so that it shows the loss itself: confidence, unobserved
/// weight, regularisation and its scaling. Factors are f32.
#[tokio::test(flavor = "multi_thread")]
async fn alternating_least_squares_reach_the_optimum_that_numpy_reaches() {
    let wanted = expected("tastes.json");
    let options = &wanted["fixed_point"]["options"];
    let value = |name: &str| options[name].to_string();
    let options = format!(
        "method => 'als', rating => 'quantity', iterations => 200, factors => {}, alpha => {}, l2 => {}, \
         unobserved_weight => {}, frequency_exponent => {}",
        value("factors"),
        value("alpha"),
        value("l2"),
        value("unobserved_weight"),
        value("frequency_exponent")
    );
    same_ranking(&options, &wanted["fixed_point"]["top"], 2e-5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ease_equals_its_closed_form() {
    let wanted = expected("tastes.json");
    let options = format!("method => 'ease', l2 => {}", wanted["ease"]["l2"]);
    same_ranking(&options, &wanted["ease"]["top"], 1e-6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recommendations_find_planted_tastes_as_well_as_implicit() {
    let wanted = expected("tastes.json");
    let ctx = context(&["tastes", "tastes_held_out"]).await;
    let options = &wanted["implicit_options"];
    let recall = |options: String| {
        let ctx = ctx.clone();
        async move {
            let sql = format!(
                "WITH best AS (SELECT user_id, item_id FROM RECOMMEND((SELECT * FROM tastes), user => 'user_id', item => 'item_id', \
                               n => 5, {options})), \
                 hits AS (SELECT t.user_id, count(*) AS truth, count(b.item_id) AS hit FROM tastes_held_out t \
                          LEFT JOIN best b ON b.user_id = t.user_id AND b.item_id = t.item_id GROUP BY t.user_id) \
                 SELECT avg(CAST(hit AS DOUBLE) / truth) FROM hits"
            );
            one(&ctx, &sql).await
        }
    };
    let als = recall(format!("method => 'als', factors => {}", options["factors"])).await;
    let implicit = number(&wanted, "/recall_at_5/implicit");
    assert!(
        als >= implicit - 0.01,
        "recall@5 is {als}, and implicit at its best reaches {implicit}"
    );
    let ease = recall(format!("method => 'ease', l2 => {}", wanted["ease"]["l2"])).await;
    near("recall@5 of EASE", ease, number(&wanted, "/recall_at_5/ease"), 1e-9);
    assert!(als > number(&wanted, "/recall_at_5/popularity") + 0.1);
}
