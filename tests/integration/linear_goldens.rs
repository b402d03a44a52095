//! Linear and logistic regression, many classes, principal components and their metrics: what statsmodels and scikit-learn say
//! (`tests/goldens/make_linear.py`), reached through SQL.

use std::collections::BTreeMap;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::prelude::SessionContext;
use serde_json::Value;

use crate::goldens::{context, expected, number, rows};

const FEATURES: &str = "area, age, distance, town, style";
const TOLERANCE: f64 = 1e-6;
/// Coefficients of less than this count as 0.
const NOTHING: f64 = 1e-8;

const REGRESSION: [&str; 6] = [
    "mean_absolute_error",
    "mean_squared_error",
    "mean_squared_log_error",
    "median_absolute_error",
    "r2_score",
    "explained_variance",
];
const CLASSIFICATION: [&str; 6] = ["precision", "recall", "accuracy", "f1_score", "log_loss", "roc_auc"];

/// By a millionth of the value, or `nothing` beside it.
#[track_caller]
fn close(what: &str, got: f64, wanted: f64, nothing: f64) {
    assert!(
        (got - wanted).abs() <= TOLERANCE * wanted.abs() + nothing,
        "{what} is {got}, and {wanted} is expected"
    );
}

/// Input and category (empty for a number), and its value; none for NULL.
type Named = BTreeMap<(String, String), Option<f64>>;

/// What the script writes as `{"area": 1, "town": {"east": 2}}`.
fn named(value: &Value) -> Named {
    let mut out = Named::new();
    for (input, value) in value.as_object().unwrap() {
        match value {
            Value::Object(categories) => {
                for (category, value) in categories {
                    out.insert((input.clone(), category.clone()), value.as_f64());
                }
            }
            value => {
                out.insert((input.clone(), String::new()), value.as_f64());
            }
        }
    }
    assert!(!out.is_empty());
    out
}

#[track_caller]
fn same(what: &str, got: &Named, wanted: &Named, nothing: f64) {
    assert_eq!(
        got.keys().collect::<Vec<_>>(),
        wanted.keys().collect::<Vec<_>>(),
        "{what}: the inputs"
    );
    for (name, wanted) in wanted {
        let what = format!("{what} of {} {}", name.0, name.1);
        match (got[name], wanted) {
            (Some(got), Some(wanted)) => close(&what, got, *wanted, nothing),
            (got, wanted) => assert_eq!(got, *wanted, "{what}"),
        }
    }
}

/// A query's rows as text; NULL is the empty text.
async fn texts(ctx: &SessionContext, sql: &str) -> Vec<Vec<String>> {
    let mut out = vec![];
    for batch in ctx.sql(sql).await.unwrap().collect().await.unwrap() {
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|c| cast(c, &DataType::Utf8).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            out.push(
                columns
                    .iter()
                    .map(|c| c.as_string::<i32>())
                    .map(|c| if c.is_null(row) { "" } else { c.value(row) }.to_string())
                    .collect(),
            );
        }
    }
    out
}

/// A query's rows: input, category and values; one table for each value.
async fn tables<const N: usize>(ctx: &SessionContext, sql: &str) -> [Named; N] {
    let mut out = [const { Named::new() }; N];
    for row in texts(ctx, sql).await {
        for (table, value) in out.iter_mut().zip(&row[2..]) {
            let before = table.insert((row[0].clone(), row[1].clone()), value.parse().ok());
            assert_eq!(before, None, "{} {} comes once", row[0], row[1]);
        }
    }
    out
}

/// `ML.WEIGHTS` with a row for each category, of those rows that the filter wants.
async fn weights(ctx: &SessionContext, model: &str, standardize: bool, filter: &str) -> Named {
    let source = format!("ML.WEIGHTS('{model}', standardize => {standardize}) WHERE {filter}");
    let sql = format!(
        "SELECT processed_input, CAST(NULL AS VARCHAR), weight FROM {source} AND array_length(category_weights) = 0 UNION ALL \
         SELECT processed_input, c['category'], c['weight'] FROM (SELECT processed_input, unnest(category_weights) AS c FROM {source} \
         AND array_length(category_weights) > 0)"
    );
    let [found] = tables(ctx, &sql).await;
    found
}

async fn same_weights(ctx: &SessionContext, model: &str, wanted: &Value) {
    for (units, standardize) in [("original", false), ("standardized", true)] {
        let got = weights(ctx, model, standardize, "true").await;
        same(&format!("the {units} weight"), &got, &named(&wanted[units]), NOTHING);
    }
}

/// Errors and p-values; those of the intercept are known only for standardised numbers.
async fn same_errors(ctx: &SessionContext, model: &str, wanted: &Value, options: &str, p_values: &str) {
    for (units, standardize) in [("original", false), ("standardized", true)] {
        let sql = format!(
            "SELECT processed_input, category, weight, standard_error, p_value \
             FROM ML.ADVANCED_WEIGHTS('{model}', standardize => {standardize}{options})"
        );
        let [weight, error, p_value] = tables(ctx, &sql).await;
        same("the weight", &weight, &named(&wanted[units]), NOTHING);
        same(
            &format!("the {units} standard error"),
            &error,
            &named(&wanted["standard_error"][units]),
            0.0,
        );
        let mut wanted = named(&wanted[p_values]);
        if !standardize {
            wanted.insert(("__INTERCEPT__".into(), String::new()), None);
        }
        // However small, p-values are compared by their size.
        same(&format!("the {units} p-value"), &p_value, &wanted, 1e-300);
    }
}

async fn same_metrics(ctx: &SessionContext, names: &[&str], call: &str, wanted: &Value) {
    let got = rows(ctx, &format!("SELECT {} FROM ML.EVALUATE({call})", names.join(", "))).await;
    assert_eq!(got.len(), 1);
    for (name, got) in names.iter().zip(&got[0]) {
        close(
            &format!("{name} of {call}"),
            *got,
            number(wanted, &format!("/{name}")),
            1e-9,
        );
    }
}

/// Two numbers: rows, and the greatest difference.
#[track_caller]
fn none_is_off(what: &str, got: &[f64], count: f64) {
    assert_eq!(got[0], count, "{what}: rows");
    assert!(got[1] <= TOLERANCE, "{what}: a row is off by {}", got[1]);
}

/// Trains on the rows that are not held out and have a label.
async fn train(ctx: &SessionContext, kind: &str, label: &str, options: &str) {
    let sql = format!(
        "SELECT iteration FROM ML.TRAIN('m', (SELECT {FEATURES}, {label} FROM houses WHERE NOT held AND {label} IS NOT NULL), \
         model_type => '{kind}', label => '{label}', {options})"
    );
    rows(ctx, &sql).await;
}

/// Predictions of all rows, those without a label and of an unseen category among them.
async fn same_prices(ctx: &SessionContext, column: &str) {
    let sql = format!(
        "SELECT count(predicted_price), max(abs(predicted_price - {column}) / abs({column})) \
         FROM ML.PREDICT('m', (SELECT * FROM houses)) p JOIN houses_expected e ON p.id = e.id"
    );
    none_is_off(column, &rows(ctx, &sql).await[0], 300.0);
}

/// The probabilities of each class; `columns` has a column, or a formula, for each.
async fn same_probabilities(ctx: &SessionContext, label: &str, columns: &[(&str, String)]) {
    let cases: String = columns
        .iter()
        .map(|(class, column)| format!("WHEN '{class}' THEN {column} "))
        .collect();
    let sql = format!(
        "SELECT count(c), max(abs(c['prob'] - CASE c['label'] {cases} END) / CASE c['label'] {cases} END) FROM \
         (SELECT id, unnest(predicted_{label}_probs) AS c FROM ML.PREDICT('m', (SELECT * FROM houses))) p \
         JOIN houses_expected e ON p.id = e.id"
    );
    none_is_off(
        &format!("probabilities of {label}"),
        &rows(ctx, &sql).await[0],
        300.0 * columns.len() as f64,
    );
}

async fn same_sold(ctx: &SessionContext, column: &str) {
    same_probabilities(
        ctx,
        "sold",
        &[("yes", column.to_string()), ("no", format!("(1 - {column})"))],
    )
    .await;
}

async fn houses() -> (SessionContext, Value) {
    (context(&["houses", "houses_expected"]).await, expected("houses.json"))
}

// ------------------------------------------------------------------------------------------------ linear regression

#[tokio::test(flavor = "multi_thread")]
async fn least_squares_equal_statsmodels() {
    let (ctx, wanted) = houses().await;
    let wanted = &wanted["linear"]["ols"];
    train(&ctx, "linear_reg", "price", "l2 => 0").await;
    same_weights(&ctx, "m", wanted).await;
    same_prices(&ctx, "ols").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_and_p_values_of_least_squares_equal_statsmodels() {
    let (ctx, wanted) = houses().await;
    train(&ctx, "linear_reg", "price", "l2 => 0").await;
    same_errors(&ctx, "m", &wanted["linear"]["ols"], "", "p_normal").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p_values_of_the_t_distribution_equal_statsmodels() {
    let (ctx, wanted) = houses().await;
    train(&ctx, "linear_reg", "price", "l2 => 0").await;
    same_errors(&ctx, "m", &wanted["linear"]["ols"], ", distribution => 't'", "p_t").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_a_regression_equal_scikit_learn() {
    let (ctx, wanted) = houses().await;
    let wanted = &wanted["linear"]["ols"];
    train(&ctx, "linear_reg", "price", "l2 => 0").await;
    for (rows, condition) in [("train", "NOT held"), ("held", "held")] {
        let call = format!("'m', (SELECT * FROM houses WHERE {condition})");
        same_metrics(&ctx, &REGRESSION, &call, &wanted[rows]).await;
    }
    same_metrics(&ctx, &REGRESSION, "'m'", &wanted["train"]).await;
}

/// The same rows are learned from, and judge, where a column says which.
#[tokio::test(flavor = "multi_thread")]
async fn a_split_by_a_column_equals_statsmodels() {
    let (ctx, wanted) = houses().await;
    let wanted = &wanted["linear"]["ols"];
    rows(
        &ctx,
        &format!(
            "SELECT iteration FROM ML.TRAIN('m', (SELECT {FEATURES}, price, held FROM houses WHERE price IS NOT NULL), \
             model_type => 'linear_reg', label => 'price', data_split_method => 'custom', data_split_col => 'held')"
        ),
    )
    .await;
    same_weights(&ctx, "m", wanted).await;
    same_metrics(&ctx, &REGRESSION, "'m'", &wanted["held"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ridge_regression_equals_scikit_learn() {
    let (ctx, wanted) = houses().await;
    let wanted = &wanted["linear"]["ridge"];
    train(&ctx, "linear_reg", "price", &format!("l2 => {}", wanted["l2"])).await;
    same_weights(&ctx, "m", wanted).await;
    same_prices(&ctx, "ridge").await;
    for (rows, condition) in [("train", "NOT held"), ("held", "held")] {
        let call = format!("'m', (SELECT * FROM houses WHERE {condition})");
        same_metrics(&ctx, &REGRESSION, &call, &wanted[rows]).await;
    }
}

/// Neither to coefficients, nor to means, deviations and categories of the features.
#[tokio::test(flavor = "multi_thread")]
async fn rows_without_a_price_add_nothing() {
    let (ctx, wanted) = houses().await;
    for (name, l2) in [("ols", 0), ("ridge", 3)] {
        rows(
            &ctx,
            &format!(
                "SELECT iteration FROM ML.TRAIN('m', (SELECT {FEATURES}, price FROM houses WHERE NOT held OR price IS NULL), \
                 model_type => 'linear_reg', label => 'price', l2 => {l2})"
            ),
        )
        .await;
        same_weights(&ctx, "m", &wanted["linear"][name]).await;
        same_prices(&ctx, name).await;
        if l2 == 0 {
            same_errors(&ctx, "m", &wanted["linear"][name], "", "p_normal").await;
        }
    }
}

/// What an L1 penalty leaves. Without an L2 penalty beside it an even number of categories may move together against the intercept;
/// the predictions, the other coefficients and the sum of absolute values are certain even so.
async fn same_sparse_weights(ctx: &SessionContext, wanted: &Value) {
    let got = weights(ctx, "m", true, "true").await;
    let standardized = named(&wanted["standardized"]);
    let intercept = ("__INTERCEPT__".to_string(), String::new());
    let sum: f64 = got
        .iter()
        .filter(|(name, _)| **name != intercept)
        .map(|(_, v)| v.unwrap().abs())
        .sum();
    close(
        "the sum of absolute weights",
        sum,
        number(wanted, "/absolute_sum"),
        NOTHING,
    );
    let certain = |name: &(String, String)| wanted["l2"] != 0.0 || (*name != intercept && name.0 != "town");
    for (name, wanted) in standardized.iter().filter(|(name, _)| certain(name)) {
        let (got, wanted) = (got[name].unwrap(), wanted.unwrap());
        if wanted == 0.0 {
            assert_eq!(got, 0.0, "the weight of {name:?}");
        } else {
            close(&format!("the weight of {name:?}"), got, wanted, NOTHING);
        }
    }
    if wanted["l2"] != 0.0 {
        same_weights(ctx, "m", wanted).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn elastic_nets_equal_scikit_learn() {
    let (ctx, wanted) = houses().await;
    for name in ["lasso", "lasso_weak", "elastic_net", "elastic_net_strong"] {
        let wanted = &wanted["linear"][name];
        let options = format!("l1 => {}, l2 => {}", wanted["l1"], wanted["l2"]);
        train(&ctx, "linear_reg", "price", &options).await;
        same_sparse_weights(&ctx, wanted).await;
        same_prices(&ctx, name).await;
    }
}

// ------------------------------------------------------------------------------------------------ logistic regression

#[tokio::test(flavor = "multi_thread")]
async fn logistic_regression_equals_statsmodels() {
    let (ctx, wanted) = houses().await;
    let wanted = &wanted["logistic"]["plain"];
    train(&ctx, "logistic_reg", "sold", "l2 => 0").await;
    same_weights(&ctx, "m", wanted).await;
    same_errors(&ctx, "m", wanted, "", "p_normal").await;
    same_sold(&ctx, "sold").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_two_classes_equal_scikit_learn() {
    let (ctx, wanted) = houses().await;
    let wanted = &wanted["logistic"]["plain"];
    train(&ctx, "logistic_reg", "sold", "l2 => 0").await;
    for threshold in ["0.5", "0.3"] {
        for (rows, condition) in [("train", "NOT held"), ("held", "held")] {
            let call = format!("'m', (SELECT * FROM houses WHERE {condition}), threshold => {threshold}");
            same_metrics(&ctx, &CLASSIFICATION, &call, &wanted[format!("{rows}_at_{threshold}")]).await;
        }
    }
    same_metrics(&ctx, &CLASSIFICATION, "'m'", &wanted["train_at_0.5"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ridge_logistic_regression_equals_scikit_learn() {
    let (ctx, wanted) = houses().await;
    let wanted = &wanted["logistic"]["ridge"];
    train(&ctx, "logistic_reg", "sold", &format!("l2 => {}", wanted["l2"])).await;
    same_weights(&ctx, "m", wanted).await;
    same_sold(&ctx, "sold_ridge").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_without_a_class_add_nothing() {
    let (ctx, wanted) = houses().await;
    for (name, column, l2) in [("plain", "sold", 0), ("ridge", "sold_ridge", 3)] {
        rows(
            &ctx,
            &format!(
                "SELECT iteration FROM ML.TRAIN('m', (SELECT {FEATURES}, sold FROM houses WHERE NOT held OR sold IS NULL), \
                 model_type => 'logistic_reg', label => 'sold', l2 => {l2})"
            ),
        )
        .await;
        same_weights(&ctx, "m", &wanted["logistic"][name]).await;
        same_sold(&ctx, column).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sparse_logistic_regression_equals_scikit_learn() {
    let (ctx, wanted) = houses().await;
    for name in ["lasso", "elastic_net"] {
        let wanted = &wanted["logistic"][name];
        let options = format!("l1 => {}, l2 => {}", wanted["l1"], wanted["l2"]);
        train(&ctx, "logistic_reg", "sold", &options).await;
        same_sparse_weights(&ctx, wanted).await;
        same_sold(&ctx, &format!("sold_{name}")).await;
    }
}

// ------------------------------------------------------------------------------------------------------- many classes

const KINDS: [&str; 4] = ["cabin", "flat", "house", "villa"];

async fn same_kinds(ctx: &SessionContext, penalty: &str, wanted: &Value) {
    let columns = KINDS.map(|kind| (kind, format!("kind_{penalty}_{kind}")));
    same_probabilities(ctx, "kind", &columns).await;
    let names: Vec<&str> = columns.iter().map(|(_, column)| column.as_str()).collect();
    let cases: String = columns
        .iter()
        .map(|(class, column)| format!("WHEN '{class}' THEN {column} "))
        .collect();
    let best = rows(
        ctx,
        &format!(
            "SELECT count(predicted_kind), count(*) FILTER (WHERE CASE predicted_kind {cases} END = greatest({})) \
             FROM ML.PREDICT('m', (SELECT * FROM houses)) p JOIN houses_expected e ON p.id = e.id",
            names.join(", ")
        ),
    )
    .await;
    assert_eq!(best[0], [300.0, 300.0], "the predicted kind is the likeliest");
    for (rows, condition) in [("train", "NOT held"), ("held", "held")] {
        let call = format!("'m', (SELECT * FROM houses WHERE {condition})");
        same_metrics(ctx, &CLASSIFICATION, &call, &wanted[rows]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_classes_under_a_penalty_equal_scikit_learn() {
    let (ctx, wanted) = houses().await;
    let wanted = &wanted["many_classes"]["ridge"];
    train(&ctx, "logistic_reg", "kind", &format!("l2 => {}", wanted["l2"])).await;
    same_kinds(&ctx, "ridge", wanted).await;
    for kind in KINDS {
        for (units, standardize) in [("original", false), ("standardized", true)] {
            let got = weights(&ctx, "m", standardize, &format!("class_label = '{kind}'")).await;
            let wanted = named(&wanted["weights"][kind][units]);
            same(&format!("the {units} weight for {kind}"), &got, &wanted, NOTHING);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_classes_without_a_penalty_equal_statsmodels() {
    let (ctx, wanted) = houses().await;
    train(&ctx, "logistic_reg", "kind", "l2 => 0").await;
    same_kinds(&ctx, "plain", &wanted["many_classes"]["plain"]).await;
}

// ------------------------------------------------------------------------------------------------ principal components

/// 1 or −1, whichever turns one list into the other: a component has no sign.
fn sign(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
    pairs.map(|(a, b)| a * b).sum::<f64>().signum()
}

async fn same_components(name: &str, features: &str, options: &str) {
    let (ctx, wanted) = houses().await;
    let wanted = &wanted["pca"][name];
    rows(
        &ctx,
        &format!(
            "SELECT iteration FROM ML.TRAIN('m', (SELECT {features} FROM houses WHERE NOT held), model_type => 'pca', \
             num_principal_components => 3, {options})"
        ),
    )
    .await;
    let columns = [
        "eigenvalue",
        "explained_variance_ratio",
        "cumulative_explained_variance_ratio",
    ];
    let info = rows(
        &ctx,
        &format!(
            "SELECT principal_component_id, {} FROM ML.PRINCIPAL_COMPONENT_INFO('m') ORDER BY principal_component_id",
            columns.join(", ")
        ),
    )
    .await;
    assert_eq!(info.len(), 3);
    for (i, row) in info.iter().enumerate() {
        assert_eq!(row[0], i as f64);
        for (column, got) in ["eigenvalues", columns[1], columns[2]].iter().zip(&row[1..]) {
            close(column, *got, number(wanted, &format!("/{column}/{i}")), 0.0);
        }
    }
    let total = rows(&ctx, "SELECT total_explained_variance_ratio FROM ML.EVALUATE('m')").await;
    let all = number(wanted, "/cumulative_explained_variance_ratio/2");
    close("the total ratio", total[0][0], all, 0.0);

    for i in 0..3 {
        let source = format!("ML.PRINCIPAL_COMPONENTS('m') WHERE principal_component_id = {i}");
        let sql = format!(
            "SELECT feature, CAST(NULL AS VARCHAR), numerical_value FROM {source} AND numerical_value IS NOT NULL UNION ALL \
             SELECT feature, c['category'], c['value'] FROM (SELECT feature, unnest(categorical_value) AS c FROM {source} \
             AND numerical_value IS NULL)"
        );
        let [got] = tables(&ctx, &sql).await;
        let mut loadings = named(&wanted["loadings"][i]);
        let turn = sign(got.iter().map(|(name, v)| (v.unwrap(), loadings[name].unwrap())));
        loadings.values_mut().for_each(|v| *v = v.map(|v| v * turn));
        // A component's length is 1.
        same(&format!("component {i}"), &got, &loadings, 1e-8);
        // Every row lies along it as the script says, with one sign for all.
        let column = format!("pca_{name}_{}", i + 1);
        let sql = format!(
            "SELECT principal_component_{}, {column} FROM ML.PREDICT('m', (SELECT * FROM houses)) p \
             JOIN houses_expected e ON p.id = e.id",
            i + 1
        );
        let got = rows(&ctx, &sql).await;
        assert_eq!(got.len(), 300);
        let widest = got.iter().map(|row| row[1].abs()).fold(0.0, f64::max);
        for row in &got {
            close(&column, row[0], row[1] * turn, TOLERANCE * widest);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn principal_components_of_standardised_numbers_and_categories_equal_numpy() {
    same_components("scaled", FEATURES, "scale_features => true").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn principal_components_in_the_units_of_the_data_equal_numpy() {
    same_components("unscaled", FEATURES, "scale_features => false").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn principal_components_of_numbers_equal_scikit_learn() {
    same_components("numbers", "area, age, distance", "scale_features => true").await;
}
