//! Which parts of BigQuery ML's dialect are here, by what is registered and nothing else: a table for the README.

use super::functions::train::statement_options;
use super::help::{find, topics};
use super::run::WITHOUT_EFFECT;
use crate::models::{MODELS, model_type};

/// BigQuery ML's statements.
const STATEMENTS: &[&str] = &["CREATE MODEL", "ALTER MODEL", "DROP MODEL", "EXPORT MODEL", "DECLARE"];

/// Its model types that are trained where the data are.
const MODEL_TYPES: &[&str] = &[
    "LINEAR_REG",
    "LOGISTIC_REG",
    "KMEANS",
    "MATRIX_FACTORIZATION",
    "PCA",
    "TRANSFORM_ONLY",
    "BOOSTED_TREE_CLASSIFIER",
    "BOOSTED_TREE_REGRESSOR",
    "RANDOM_FOREST_CLASSIFIER",
    "RANDOM_FOREST_REGRESSOR",
    "ARIMA_PLUS",
    "ARIMA_PLUS_XREG",
    "AUTOENCODER",
    "DNN_CLASSIFIER",
    "DNN_REGRESSOR",
    "DNN_LINEAR_COMBINED_CLASSIFIER",
    "DNN_LINEAR_COMBINED_REGRESSOR",
    "CONTRIBUTION_ANALYSIS",
];

/// Its functions of those model types, and of features.
const FUNCTIONS: &[&str] = &[
    "ML.PREDICT",
    "ML.EVALUATE",
    "ML.EXPLAIN_PREDICT",
    "ML.GLOBAL_EXPLAIN",
    "ML.CONFUSION_MATRIX",
    "ML.ROC_CURVE",
    "ML.WEIGHTS",
    "ML.ADVANCED_WEIGHTS",
    "ML.FEATURE_INFO",
    "ML.TRAINING_INFO",
    "ML.TRIAL_INFO",
    "ML.CENTROIDS",
    "ML.DETECT_ANOMALIES",
    "ML.RECOMMEND",
    "ML.GENERATE_EMBEDDING",
    "ML.PRINCIPAL_COMPONENTS",
    "ML.PRINCIPAL_COMPONENT_INFO",
    "ML.RECONSTRUCTION_LOSS",
    "ML.FEATURE_IMPORTANCE",
    "ML.TRANSFORM",
    "ML.FORECAST",
    "ML.EXPLAIN_FORECAST",
    "ML.ARIMA_EVALUATE",
    "ML.ARIMA_COEFFICIENTS",
    "ML.DESCRIBE_DATA",
    "ML.VALIDATE_DATA_SKEW",
    "ML.VALIDATE_DATA_DRIFT",
    "ML.BUCKETIZE",
    "ML.QUANTILE_BUCKETIZE",
    "ML.HASH_BUCKETIZE",
    "ML.FEATURE_CROSS",
    "ML.POLYNOMIAL_EXPAND",
    "ML.STANDARD_SCALER",
    "ML.MIN_MAX_SCALER",
    "ML.MAX_ABS_SCALER",
    "ML.ROBUST_SCALER",
    "ML.NORMALIZER",
    "ML.IMPUTER",
    "ML.LABEL_ENCODER",
    "ML.ONE_HOT_ENCODER",
    "ML.MULTI_HOT_ENCODER",
    "ML.NGRAMS",
    "ML.DISTANCE",
    "ML.LP_NORM",
    "ML.TF_IDF",
    "ML.BAG_OF_WORDS",
];

/// Its options of those model types that are of no tree, network or series.
const OPTIONS: &[&str] = &[
    "INPUT_LABEL_COLS",
    "MAX_ITERATIONS",
    "EARLY_STOP",
    "MIN_REL_PROGRESS",
    "L1_REG",
    "L2_REG",
    "OPTIMIZE_STRATEGY",
    "LEARN_RATE_STRATEGY",
    "LEARN_RATE",
    "LS_INIT_LEARN_RATE",
    "FIT_INTERCEPT",
    "CALCULATE_P_VALUES",
    "CATEGORY_ENCODING_METHOD",
    "CLASS_WEIGHTS",
    "AUTO_CLASS_WEIGHTS",
    "ENABLE_GLOBAL_EXPLAIN",
    "WARM_START",
    "NUM_CLUSTERS",
    "KMEANS_INIT_METHOD",
    "KMEANS_INIT_COL",
    "DISTANCE_TYPE",
    "STANDARDIZE_FEATURES",
    "FEEDBACK_TYPE",
    "NUM_FACTORS",
    "USER_COL",
    "ITEM_COL",
    "RATING_COL",
    "WALS_ALPHA",
    "NUM_PRINCIPAL_COMPONENTS",
    "PCA_EXPLAINED_VARIANCE_RATIO",
    "SCALE_FEATURES",
    "PCA_SOLVER",
    "DATA_SPLIT_METHOD",
    "DATA_SPLIT_EVAL_FRACTION",
    "DATA_SPLIT_TEST_FRACTION",
    "DATA_SPLIT_COL",
    "NUM_TRIALS",
    "MAX_PARALLEL_TRIALS",
    "HPARAM_TUNING_ALGORITHM",
    "HPARAM_TUNING_OBJECTIVES",
    "MODEL_REGISTRY",
    "VERTEX_AI_MODEL_ID",
    "KMS_KEY_NAME",
];

/// Whether BigQuery ML has a function of this name, such as `ML.FORECAST`.
pub(crate) fn is_function(name: &str) -> bool {
    FUNCTIONS.iter().any(|f| f.eq_ignore_ascii_case(name))
}

/// Whether BigQuery ML has a model type of this name.
pub(crate) fn is_model_type(name: &str) -> bool {
    MODEL_TYPES.iter().any(|t| t.eq_ignore_ascii_case(name))
}

/// The table, in Markdown: for each kind of thing what is in, what is not, and what is there beside.
pub fn markdown() -> String {
    let mut out = String::from("| | in | not in | beside |\n|---|---|---|---|\n");
    let row = |what: &str, theirs: &[&str], is_in: &dyn Fn(&str) -> bool, ours: Vec<String>| {
        let of = |wanted: bool| -> String {
            let names: Vec<&str> = theirs.iter().copied().filter(|n| is_in(n) == wanted).collect();
            names.join(", ").replace("ML.", "")
        };
        format!("| {what} | {} | {} | {} |\n", of(true), of(false), ours.join(", "))
    };
    let has_topic = |name: &str| find(name).is_ok();
    let other_statements = topics()
        .into_iter()
        .filter(|t| t.form == super::help::Form::Statement && !STATEMENTS.contains(&t.name.as_str()))
        .map(|t| t.name);
    out += &row("statements", STATEMENTS, &has_topic, other_statements.collect());
    let has_type = |name: &str| model_type(name).is_ok();
    let other_types = MODELS
        .iter()
        .map(|m| m.name().to_uppercase())
        .filter(|m| !MODEL_TYPES.contains(&m.as_str()));
    out += &row("model types", MODEL_TYPES, &has_type, other_types.collect());
    let mut other_functions: Vec<String> = topics()
        .into_iter()
        .map(|t| t.name)
        .filter(|n| n.starts_with("ML.") && !FUNCTIONS.contains(&n.as_str()))
        .map(|n| n.trim_start_matches("ML.").to_string())
        .collect();
    other_functions.dedup();
    out += &row("functions `ML.…`", FUNCTIONS, &has_topic, other_functions);
    let known = statement_options();
    let has_option = |name: &str| {
        known.iter().any(|o| o.answers_to(name)) || WITHOUT_EFFECT.iter().any(|(o, _)| o.eq_ignore_ascii_case(name))
    };
    out += &row("options", OPTIONS, &has_option, vec!["in the reference below".into()]);
    let without: Vec<String> = WITHOUT_EFFECT.iter().map(|(o, _)| o.to_uppercase()).collect();
    out += &format!("\nTaken and told to be without effect: {}.\n", without.join(", "));
    out
}
