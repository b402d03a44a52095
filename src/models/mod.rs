//! The models: one file each, one line each in [`MODELS`].
//!
//! A [`ModelType`] checks options against a query's columns, fits, and reads a stored artefact back; what it
//! fits is a [`Model`], which scores batches of columns. Neither knows a plan: registration, help, tests and
//! benchmarks walk [`MODELS`].

mod anomalies;
mod attribution;
mod coordinates;
mod design;
mod eigen;
mod elastic_net;
pub mod factorization;
mod feature_values;
pub mod hierarchical;
pub mod kmeans;
mod labels;
mod least_squares;
pub mod linear;
pub mod logistic;
mod multiclass;
mod multinomial;
mod normal_equations;
pub mod pca;
pub mod polynomial;
mod predictor;
mod regression;
pub mod search;
pub mod split;
mod terms;
pub mod transform;
pub mod transform_only;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use datafusion::arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, UInt32Array};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, list, nearest};
use crate::features::FeatureStatistics;
use crate::features::lists::list_kind;
use crate::kernels::compute::Compute;
use crate::options::{OptionKind, OptionSpec, Options};

/// Every model type, in the order in which help lists them.
pub static MODELS: &[&dyn ModelType] = &[
    &kmeans::KMeans,
    &logistic::LogisticRegression,
    &linear::LinearRegression,
    &polynomial::PolynomialRegression,
    &factorization::Factorization,
    &hierarchical::Hierarchical,
    &pca::Pca,
    &transform_only::TransformOnly,
];

/// The model type that answers to `name` (`model_type => name`), in any case.
///
/// # Errors
/// No such model type, with those that there are.
pub fn model_type(name: &str) -> Result<&'static dyn ModelType> {
    let answers = |m: &&&dyn ModelType| {
        m.name().eq_ignore_ascii_case(name) || m.aliases().iter().any(|a| a.eq_ignore_ascii_case(name))
    };
    MODELS.iter().find(answers).copied().ok_or_else(|| {
        let hint = nearest(name, MODELS.iter().map(|m| m.name()))
            .map(|n| format!("did you mean '{n}'? "))
            .unwrap_or_default();
        Error::request(format!(
            "there is no model_type '{name}'; {hint}the model types are {}",
            list(MODELS.iter().map(|m| m.name()), 20)
        ))
    })
}

/// A function that tells what a model of some types is made of: `ML.CENTROIDS`, `ML.WEIGHTS`, …
#[derive(Debug)]
pub struct Description {
    /// Its last word, such as `CENTROIDS`.
    pub word: &'static str,
    /// Its name, such as `ML.CENTROIDS`.
    pub function: &'static str,
    /// What it gives, in a sentence.
    pub summary: &'static str,
    /// Its options.
    pub options: &'static [OptionSpec],
    /// A statement that works as it stands, given the model.
    pub example: &'static str,
}

/// A function that tells how good a stored model is on the rows of a query: `ML.EVALUATE`, `ML.ROC_CURVE`, …
#[derive(Debug)]
pub struct Assessment {
    /// Its last word, such as `EVALUATE`.
    pub word: &'static str,
    /// Its name, such as `ML.EVALUATE`.
    pub function: &'static str,
    /// What it gives, in a sentence.
    pub summary: &'static str,
    /// Its options.
    pub options: &'static [OptionSpec],
    /// A statement that works as it stands, given the model and the table.
    pub example: &'static str,
}

static THRESHOLD: &[OptionSpec] = &[OptionSpec {
    name: "threshold",
    aliases: &[],
    kind: OptionKind::Float { min: 0.0, max: 1.0 },
    default: "0.5",
    help: "From which probability on the positive class counts as predicted.",
}];

static THRESHOLDS: &[OptionSpec] = &[OptionSpec {
    name: "thresholds",
    aliases: &[],
    kind: OptionKind::Any("a list of numbers from 0 to 1"),
    default: "the percentiles of the probabilities",
    help: "The thresholds to give a row each.",
}];

/// Every [`Assessment`], in the order in which help lists them.
pub static ASSESSMENTS: &[Assessment] = &[
    Assessment {
        word: "EVALUATE",
        function: "ML.EVALUATE",
        summary: "How good a stored model is on the rows of a query: precision, recall, accuracy, f1_score, log_loss and roc_auc of a \
                  classifier; davies_bouldin_index and mean_squared_distance of clusters; errors of a factorization of explicit feedback, \
                  mean_average_precision, mean_squared_error, normalized_discounted_cumulative_gain and average_rank of implicit feedback; \
                  total_explained_variance_ratio of principal components. Rows whose label is NULL are left out. Without a query: what was \
                  found out at training, in a row for each fold or for each trial of a search; held-out rows whose label no row that was \
                  learned from has are left out of that, and a notice says how many.",
        options: THRESHOLD,
        example: "SELECT * FROM ML.EVALUATE('churn', (SELECT * FROM customers))",
    },
    Assessment {
        word: "CONFUSION_MATRIX",
        function: "ML.CONFUSION_MATRIX",
        summary: "How often a classifier predicted what: a row for each label of the query's rows, a column for each predicted one.",
        options: THRESHOLD,
        example: "SELECT * FROM ML.CONFUSION_MATRIX('churn', (SELECT * FROM customers), threshold => 0.3)",
    },
    Assessment {
        word: "ROC_CURVE",
        function: "ML.ROC_CURVE",
        summary: "Recall and false positive rate of a classifier of two classes at each threshold, with the counts behind them.",
        options: THRESHOLDS,
        example: "SELECT * FROM ML.ROC_CURVE('churn', (SELECT * FROM customers), thresholds => [0.1, 0.5, 0.9])",
    },
];

/// A function that says something of each row of a query by a stored model: `ML.PREDICT`, `ML.EXPLAIN_PREDICT`, …
#[derive(Debug)]
pub struct RowFunction {
    /// Its last word, such as `PREDICT`.
    pub word: &'static str,
    /// Its name, such as `ML.PREDICT`.
    pub function: &'static str,
    /// What it gives, in a sentence.
    pub summary: &'static str,
    /// Its options, of whatever model.
    pub options: &'static [OptionSpec],
    /// A statement that works as it stands, given the model and the table.
    pub example: &'static str,
}

/// Every [`RowFunction`], in the order in which help lists them.
pub static ROW_FUNCTIONS: &[RowFunction] = &[
    RowFunction {
        word: "PREDICT",
        function: "ML.PREDICT",
        summary: "What a stored model says of each row of a query: BigQuery ML's columns for its type, then the query's.",
        options: THRESHOLD,
        example: "SELECT * FROM ML.PREDICT('churn', (SELECT * FROM customers), threshold => 0.3)",
    },
    RowFunction {
        word: "EXPLAIN_PREDICT",
        function: "ML.EXPLAIN_PREDICT",
        summary: "What a linear model predicts for each row of a query and how much each feature adds to it, beside the prediction at the \
                  features' means: exact, largest first. A classifier's attributions are in log odds; of more than two classes they are of the \
                  predicted class, in logarithms beside the mean of the classes.",
        options: TOP_K_FEATURES,
        example: "SELECT * FROM ML.EXPLAIN_PREDICT('churn', (SELECT * FROM customers), top_k_features => 3)",
    },
    RowFunction {
        word: "DETECT_ANOMALIES",
        function: "ML.DETECT_ANOMALIES",
        summary: "Which rows of a query are far from what the model was trained on: further than all but a share `contamination` of the \
                  training rows.",
        options: CONTAMINATION,
        example: "SELECT * FROM ML.DETECT_ANOMALIES('segments', (SELECT * FROM rfm), contamination => 0.02)",
    },
    RowFunction {
        word: "GENERATE_EMBEDDING",
        function: "ML.GENERATE_EMBEDDING",
        summary: "Each row of a query as a list of numbers, by principal components. Of a factorization, without a query: the factors of \
                  each user and item.",
        options: &[],
        example: "SELECT * FROM ML.GENERATE_EMBEDDING('components', (SELECT * FROM customers))",
    },
];

static TOP_K_FEATURES: &[OptionSpec] = &[
    OptionSpec {
        name: "top_k_features",
        aliases: &[],
        kind: OptionKind::Int { min: 1, max: i64::MAX },
        default: "5",
        help: "How many features are listed for a row.",
    },
    OptionSpec {
        name: "threshold",
        aliases: &[],
        kind: OptionKind::Float { min: 0.0, max: 1.0 },
        default: "0.5",
        help: "From which probability on the positive class is predicted.",
    },
];

static CONTAMINATION: &[OptionSpec] = &[OptionSpec {
    name: "contamination",
    aliases: &[],
    kind: OptionKind::Float { min: 0.0, max: 0.5 },
    default: "",
    help: "The share of the training rows that counts as anomalous.",
}];

static STANDARDIZE: &[OptionSpec] = &[OptionSpec {
    name: "standardize",
    aliases: &[],
    kind: OptionKind::Bool,
    default: "false",
    help: "Weights of standardised numbers instead of those in the units of the features.",
}];

static STANDARDIZED_CENTROIDS: &[OptionSpec] = &[OptionSpec {
    help: "Numbers as they were standardised, or divided by the deviation for the cosine distance, instead of in the units of the features.",
    ..STANDARDIZE[0]
}];

static ADVANCED: &[OptionSpec] = &[
    STANDARDIZE[0],
    OptionSpec {
        name: "distribution",
        aliases: &[],
        kind: OptionKind::Choice(&["normal", "t"]),
        default: "'normal'",
        help: "The distribution that p-values are of: the normal, as in BigQuery ML, or for linear_reg Student's t.",
    },
];

static CLASS_LEVEL: &[OptionSpec] = &[OptionSpec {
    name: "class_level_explain",
    aliases: &[],
    kind: OptionKind::Bool,
    default: "false",
    help: "Whether a classifier's attributions are told for each class.",
}];

/// Every [`Description`], in the order in which help lists them.
pub static DESCRIPTIONS: &[Description] = &[
    Description {
        word: "CENTROIDS",
        function: "ML.CENTROIDS",
        summary: "The centroids of a k-means or hierarchical model, a row for each feature: numbers in the feature's units, categories with their shares.",
        options: STANDARDIZED_CENTROIDS,
        example: "SELECT * FROM ML.CENTROIDS('segments')",
    },
    Description {
        word: "MERGES",
        function: "ML.MERGES",
        summary: "The tree of a hierarchical model, a row for each merge, the closest first: the two clusters that became one, how far apart \
                  they were, the rows that they have together, and the cluster of the cut that they are in (NULL above the cut). The n leaves \
                  are clusters 1 to n; merge i makes cluster n + i.",
        options: &[],
        example: "SELECT * FROM ML.MERGES('groups') ORDER BY height DESC LIMIT 10",
    },
    Description {
        word: "WEIGHTS",
        function: "ML.WEIGHTS",
        summary: "The weights of a linear model, a row for each feature: a number's weight in its own units, or the weights of a column's \
                  categories. Of more than two classes, a row for each class, too. Of a factorization: the factors and the intercept of each \
                  user and item, and the mean rating as global__INTERCEPT__ (0 for implicit feedback).",
        options: STANDARDIZE,
        example: "SELECT * FROM ML.WEIGHTS('churn')",
    },
    Description {
        word: "ADVANCED_WEIGHTS",
        function: "ML.ADVANCED_WEIGHTS",
        summary: "The weights of a linear model with their standard errors and p-values (of the normal distribution), a row for each \
                  number and each category. Fits with a penalty or class weights have no errors, nor has a column that took no part in the fit.",
        options: ADVANCED,
        example: "SELECT * FROM ML.ADVANCED_WEIGHTS('churn') ORDER BY p_value",
    },
    Description {
        word: "GLOBAL_EXPLAIN",
        function: "ML.GLOBAL_EXPLAIN",
        summary: "How much each feature moves a linear model's predictions: the mean, over the training rows, of what it adds or takes \
                  beside its mean. A classifier's attributions are in log odds; of more than two classes, in logarithms beside the mean of the \
                  classes, and the mean over them unless class_level_explain asks for each.",
        options: CLASS_LEVEL,
        example: "SELECT * FROM ML.GLOBAL_EXPLAIN('churn')",
    },
    Description {
        word: "PRINCIPAL_COMPONENTS",
        function: "ML.PRINCIPAL_COMPONENTS",
        summary: "The principal components of a model, numbered from 0, a row for each feature: a number's entry, or those of a column's \
                  categories.",
        options: &[],
        example: "SELECT * FROM ML.PRINCIPAL_COMPONENTS('components')",
    },
    Description {
        word: "PRINCIPAL_COMPONENT_INFO",
        function: "ML.PRINCIPAL_COMPONENT_INFO",
        summary: "What each principal component of a model explains: its eigenvalue, its share of all variance, and the sum of the shares \
                  up to it.",
        options: &[],
        example: "SELECT * FROM ML.PRINCIPAL_COMPONENT_INFO('components')",
    },
];

/// A kind of model: its name, options, and how it is fitted and read back.
pub trait ModelType: Debug + Send + Sync {
    /// Its `model_type` in SQL, such as `kmeans`.
    fn name(&self) -> &'static str;

    /// BigQuery ML's and other names for it.
    fn aliases(&self) -> &'static [&'static str] {
        &[]
    }

    /// The verb that fits and uses it, such as `KMEANS_SEGMENT`.
    fn verb(&self) -> &'static str;

    /// What it does, in a sentence or two, with its source.
    fn summary(&self) -> &'static str;

    /// Its options, those that name columns included.
    fn options(&self) -> &'static [OptionSpec];

    /// The options of the verb's relation form, which may ask for one that a fit to be stored does without.
    fn verb_options(&self) -> &'static [OptionSpec] {
        self.options()
    }

    /// The columns that the verb's relation form adds to a query's rows; none for a verb that ranks items instead.
    fn verb_fields(&self) -> Vec<FieldRef> {
        vec![]
    }

    /// The options of a fit whose model is to be stored: without what only the verb's relation form needs, such as
    /// cross-fitting, and with what only a stored model does.
    fn stored_fit_options(&self, options: &Options) -> Options {
        options.clone()
    }

    /// Whether a model of this type is nothing without TRANSFORM.
    fn needs_transform(&self) -> bool {
        false
    }

    /// Options, as SQL writes them, that `CREATE MODEL` sets where they are not given: BigQuery ML's defaults where the verb has others.
    fn statement_defaults(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// Whether one of [`ModelType::statement_defaults`] makes sense beside the options of the statement: `given` is the text of an option
    /// that was given.
    fn statement_default_applies(&self, _option: &str, _given: &dyn Fn(&str) -> Option<String>) -> bool {
        true
    }

    /// Which column plays which part, and whether the options make sense for these columns. Called when a
    /// statement is planned, so that what can be known is known before a row is read.
    ///
    /// # Errors
    /// A missing column (with the nearest name), a label that is a feature, no feature left.
    fn roles(&self, schema: &Schema, options: &Options) -> Result<Roles>;

    /// Learns from rows. `roles` is what [`ModelType::roles`] gave for `rows.schema()`.
    ///
    /// # Errors
    /// Rows that cannot be learned from, too little memory, or cancellation.
    fn fit(&self, rows: &dyn Rows, roles: &Roles, options: &Options, context: &FitContext<'_>) -> Result<Fitted>;

    /// Reads a model back from what [`Model::parts`] gave.
    ///
    /// # Errors
    /// Parts that are missing or do not fit each other.
    fn load(&self, artefact: &Artefact) -> Result<Arc<dyn Model>>;
}

/// Indices of a query's columns by the part they play.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Roles {
    /// What is learned from.
    pub features: Vec<usize>,
    /// What is learned.
    pub label: Option<usize>,
    /// Who, in recommendation.
    pub user: Option<usize>,
    /// What, in recommendation.
    pub item: Option<usize>,
    /// How much, in recommendation; every row counts 1 without.
    pub rating: Option<usize>,
    /// TRUE marks the rows that a fit starts from, in k-means.
    pub start: Option<usize>,
}

/// Rows of a query that can be read again, batch by batch, in an order that does not change.
pub trait Rows: Send + Sync {
    /// The columns.
    fn schema(&self) -> SchemaRef;
    /// How many batches there are.
    fn batch_count(&self) -> usize;
    /// How many rows batch `index` has.
    fn batch_rows(&self, index: usize) -> usize;
    /// Batch `index`, from memory or from where it was spilled. May be called from several threads.
    ///
    /// # Errors
    /// The spilled batch cannot be read.
    fn batch(&self, index: usize) -> Result<RecordBatch>;
    /// How many rows there are in all.
    fn row_count(&self) -> usize {
        (0..self.batch_count()).map(|i| self.batch_rows(i)).sum()
    }
}

/// Batches in memory.
#[derive(Debug, Clone)]
pub struct MemoryRows {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

impl MemoryRows {
    /// Rows of these batches, which all have this schema.
    pub fn new(schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        Self { schema, batches }
    }
}

impl Rows for MemoryRows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
    fn batch_count(&self) -> usize {
        self.batches.len()
    }
    fn batch_rows(&self, index: usize) -> usize {
        self.batches[index].num_rows()
    }
    fn batch(&self, index: usize) -> Result<RecordBatch> {
        Ok(self.batches[index].clone())
    }
}

/// What a fit may use, and whom it tells.
pub struct FitContext<'a> {
    /// What kernels run on; the result does not depend on how many threads there are. Its flag is set when the query was
    /// cancelled.
    pub compute: &'a Compute<'a>,
    /// The seed of everything random.
    pub seed: u64,
    /// Told after each pass.
    pub observer: &'a dyn Observer,
    /// Asked before memory is taken for blocks.
    pub memory: &'a dyn MemoryBudget,
    /// A stored model of the same type to go on from, where the option `warm_start` asks for one.
    pub start: Option<&'a dyn Model>,
}

impl FitContext<'_> {
    /// An error once the query was cancelled: asked between passes and within long ones.
    ///
    /// # Errors
    /// The query was cancelled.
    pub fn check_cancelled(&self) -> Result<()> {
        if self.compute.is_cancelled() {
            Err(Error::cancelled())
        } else {
            Ok(())
        }
    }
}

/// Grants memory within the session's limit.
pub trait MemoryBudget: Send + Sync {
    /// Takes `bytes` more; they are given back when the fit ends.
    ///
    /// # Errors
    /// The limit would be passed; the message says by what (`what`) and what to do.
    fn take(&self, bytes: usize, what: &str) -> Result<()>;
}

/// Grants everything.
#[derive(Debug, Clone, Copy)]
pub struct UnlimitedMemory;

impl MemoryBudget for UnlimitedMemory {
    fn take(&self, _bytes: usize, _what: &str) -> Result<()> {
        Ok(())
    }
}

/// Told what a fit does while it does it. Methods must return quickly.
pub trait Observer: Debug + Send + Sync {
    /// A fit begins over so many rows, with at most so many passes.
    fn started(&self, _what: &str, _row_count: usize, _max_passes: usize) {}
    /// A pass ended.
    fn pass(&self, _pass: &Pass) {}
    /// Something that the user should know: a fallback, dropped rows, fewer segments than asked for.
    fn notice(&self, _notice: &str) {}
    /// The fit ended, well or not.
    fn finished(&self) {}
}

/// Hears nothing.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Observer for Silent {}

/// One pass over the rows: a row of the training information.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pass {
    /// Which run: which start of k-means, 0 otherwise.
    pub training_run: i64,
    /// Which pass of the run, from 0.
    pub iteration: i64,
    /// The loss after the pass, as the model defines it.
    pub loss: Option<f64>,
    /// How long the pass took, in milliseconds.
    pub duration_ms: f64,
    /// k-means: (centroid_id, root-mean-square radius, rows) of each cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<(i64, f64, i64)>,
}

/// What a fit has to tell besides the model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainingInfo {
    /// The passes, in order.
    pub passes: Vec<Pass>,
    /// The loss of the rows that were held out, after the last pass: their mean squared error, or the mean of their log loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_loss: Option<f64>,
    /// What the user should know, a sentence each.
    pub notices: Vec<String>,
    /// How many rows were learned from.
    pub row_count: u64,
    /// How good the model was after training, if that was found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<Evaluation>,
    /// What the features were, column by column.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<FeatureStatistics>,
    /// How a query's columns become the features, if TRANSFORM says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform: Option<transform::Transform>,
    /// What the functions beside `ML.EVALUATE` tell of the rows that judged the model: by their last word, columns of values as texts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub judgements: BTreeMap<String, Vec<Vec<Option<String>>>>,
    /// How good models of the other folds were on each, under cross-validation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folds: Vec<Evaluation>,
    /// The trials of a search for options, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trials: Vec<Trial>,
    /// What people say of the model, such as its description.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
}

/// What `ML.EVALUATE` tells of a model without other rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// How many rows it was judged by.
    pub row_count: u64,
    /// Whether they were held out; otherwise they are those that it was trained on.
    pub held_out: bool,
    /// The metrics, in the order of [`Model::assess_fields`]; one that is not defined for the rows is none.
    pub metrics: Vec<Option<f64>>,
}

/// A trial of a search for options.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The options that the search chose.
    pub options: Options,
    /// How good the model was beside those of the other trials, unless it failed.
    pub evaluation: Option<Evaluation>,
    /// How good it was on the rows that are kept for a test, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Evaluation>,
    /// The loss after its last pass.
    pub loss: Option<f64>,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// Whether it is the one that was kept.
    pub is_optimal: bool,
}

/// What a fit gives.
#[derive(Debug)]
pub struct Fitted {
    /// The model.
    pub model: Arc<dyn Model>,
    /// Passes and notices.
    pub info: TrainingInfo,
    /// The verb's score of each row of the fit, in the order of [`Rows`], where it is not what
    /// [`Model::verb_columns`] would give: the out-of-fold scores of `CHURN_SCORE`.
    pub row_scores: Option<Vec<f64>>,
}

/// A column that a model expects: matched by name, cast if need be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureColumn {
    /// Its name in the training query.
    pub name: String,
    /// Its type there, as Arrow writes it.
    pub data_type: String,
    /// What the model makes of it.
    pub kind: FeatureKind,
}

/// What a model makes of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureKind {
    /// A number.
    Number,
    /// A category: text, boolean, date, time of day or bytes.
    Category,
    /// A timestamp: epoch seconds, and categories of its parts.
    Timestamp,
    /// An identifier of a user or an item.
    Identifier,
    /// An array of numbers: each position is a number.
    Numbers,
    /// An array of categories: each is a number, 1 where the array has it.
    Categories,
    /// An array of (index, value): each index is a number.
    Sparse,
}

impl FeatureKind {
    /// The kind of feature that a column of this type is, if it can be one.
    pub fn of(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            t if t.is_numeric() => FeatureKind::Number,
            DataType::Boolean
            | DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Date32
            | DataType::Date64
            | DataType::Time32(_)
            | DataType::Time64(_)
            | DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => FeatureKind::Category,
            DataType::Timestamp(_, _) => FeatureKind::Timestamp,
            DataType::Dictionary(_, value) => return Self::of(value),
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                return list_kind(item.data_type());
            }
            _ => return None,
        })
    }
}

/// A trained model.
pub trait Model: Any + Debug + Send + Sync {
    /// Its type's name, such as `kmeans`.
    fn model_type(&self) -> &'static str;

    /// What messages call it: its type, and what sets it apart from others of that type.
    fn kind(&self) -> String {
        self.model_type().into()
    }

    /// The columns it expects, in the order in which it expects them.
    fn feature_columns(&self) -> &[FeatureColumn];

    /// The columns that the verb's relation form adds. The first is what the scalar form returns; a model that the verb cannot use has
    /// none.
    fn verb_fields(&self) -> Vec<FieldRef>;

    /// The verb's columns for these feature columns (one array for each of [`Model::feature_columns`], of any type
    /// that is a feature of the same kind).
    ///
    /// # Errors
    /// A column of another kind than the model was trained with.
    fn verb_columns(&self, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>>;

    /// The scalar form alone: the first of [`Model::verb_columns`].
    ///
    /// # Errors
    /// As [`Model::verb_columns`].
    fn score(&self, columns: &[ArrayRef]) -> Result<ArrayRef> {
        Ok(self.verb_columns(columns)?.swap_remove(0))
    }

    /// The columns that `ML.PREDICT` adds (BigQuery ML's names and types).
    fn predict_fields(&self) -> Vec<FieldRef>;

    /// The columns of `ML.PREDICT`; `options` are those of the [`RowFunction`].
    ///
    /// # Errors
    /// As [`Model::verb_columns`].
    fn predict_columns(&self, columns: &[ArrayRef], options: &Options) -> Result<Vec<ArrayRef>>;

    /// Whether the model takes the option `threshold`, as classifiers of two classes do.
    fn takes_threshold(&self) -> bool {
        false
    }

    /// The columns that a function of [`ROW_FUNCTIONS`] adds, by its last word; none for a word that says nothing of models of
    /// its type.
    fn row_fields(&self, word: &str) -> Option<Vec<FieldRef>> {
        (word == "PREDICT").then(|| self.predict_fields())
    }

    /// The columns of a function of [`ROW_FUNCTIONS`] for which [`Model::row_fields`] gives fields; `options` are those of the
    /// function.
    ///
    /// # Errors
    /// As [`Model::verb_columns`], or what the function needs is not stored.
    fn row_columns(&self, _word: &str, columns: &[ArrayRef], options: &Options) -> Result<Vec<ArrayRef>> {
        self.predict_columns(columns, options)
    }

    /// What is to be stored: named tables, numbers in f64 so that they come back to the bit.
    ///
    /// # Errors
    /// Arrow refuses.
    fn parts(&self) -> Result<Parts>;

    /// The table that a function such as `ML.CENTROIDS` gives of this model, by the function's last word; none for a word that
    /// says nothing of models of its type. `options` are those of [`Description::options`].
    ///
    /// # Errors
    /// Arrow refuses.
    fn describe(&self, _word: &str, _options: &Options) -> Result<Option<RecordBatch>> {
        Ok(None)
    }

    /// The label that the model predicts, if it does: the column that a judgement needs besides the features.
    fn label(&self) -> Option<&str> {
        None
    }

    /// Which of these labels the model can be judged by, NULL among them; none: all of them. A classifier knows those that a row had which
    /// it learned from.
    ///
    /// # Errors
    /// The column is of another type than the label of training.
    fn known_labels(&self, _labels: &ArrayRef) -> Result<Option<BooleanArray>> {
        Ok(None)
    }

    /// The columns that a function such as `ML.EVALUATE` gives of this model, by the function's last word; none for a word that
    /// says nothing of models of its type.
    fn assess_fields(&self, _word: &str) -> Option<Vec<FieldRef>> {
        None
    }

    /// How good the model is on rows: its features in its order, then its label if it has one. `options` are those of the
    /// [`Assessment`]; once `stop` is true nobody waits for the answer.
    ///
    /// # Errors
    /// Labels that the model does not know, no row with a label, or cancellation.
    fn assess(
        &self,
        word: &str,
        _rows: &dyn Rows,
        _options: &Options,
        _stop: &dyn Fn() -> bool,
    ) -> Result<RecordBatch> {
        Err(Error::request(format!("ML.{word} says nothing of models of this type")))
    }

    /// What is stored after a fit of how good the model is: as [`Model::assess`] of `ML.EVALUATE`, by rows that were held out or by those
    /// of the fit; none for models that have no label to compare with.
    ///
    /// # Errors
    /// As [`Model::assess`].
    fn judge(&self, rows: &dyn Rows, stop: &dyn Fn() -> bool) -> Result<Option<RecordBatch>> {
        match self.label() {
            Some(_) => self.assess("EVALUATE", rows, &Options::default(), stop).map(Some),
            None => Ok(None),
        }
    }

    /// The metrics of `ML.EVALUATE` that the model knows of its own training rows.
    fn own_metrics(&self) -> Option<Vec<Option<f64>>> {
        None
    }

    /// The model as a recommender, if it is one.
    fn recommender(&self) -> Option<&dyn Recommender> {
        None
    }
}

/// A model that ranks items for users.
pub trait Recommender: Send + Sync {
    /// The user column of the training query: name and type.
    fn user_field(&self) -> FieldRef;
    /// The item column of the training query: name and type.
    fn item_field(&self) -> FieldRef;
    /// All users of the training rows, ascending.
    fn users(&self) -> ArrayRef;
    /// All items of the training rows, ascending.
    fn items(&self) -> ArrayRef;
    /// The pairs of each of `ids`, which are users or items as `given` says, with all values of the other kind or the best of them: what
    /// `ML.PREDICT` says of each. A score is NULL where that would be.
    ///
    /// # Errors
    /// The column is neither integer nor text.
    fn pairs(&self, given: Given, ids: &ArrayRef, options: PairOptions) -> Result<Pairs>;
    /// The `n` best items for each of `users` (a column of integers or text): those that they already have are left out if
    /// `exclude_seen`. An unknown or NULL user gets the popular items.
    ///
    /// # Errors
    /// The column is neither integer nor text, or the query was cancelled.
    fn recommend(
        &self,
        users: &ArrayRef,
        n: usize,
        exclude_seen: bool,
        context: &RecommendContext<'_>,
    ) -> Result<Recommendations>;
    /// As [`Recommender::recommend`] for very many users: `each` gets some of them and their recommendations, in order, until it
    /// says false.
    ///
    /// # Errors
    /// As [`Recommender::recommend`], and those of `each`.
    fn recommend_all(
        &self,
        users: &ArrayRef,
        n: usize,
        exclude_seen: bool,
        compute: &Compute<'_>,
        each: &mut dyn FnMut(ArrayRef, Recommendations) -> Result<bool>,
    ) -> Result<()>;
}

/// Which side of a pair is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// Users; the items are filled in.
    User,
    /// Items; the users are filled in.
    Item,
}

/// Which pairs are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PairOptions {
    /// So many for each value that is given, the best first; all, in the order of the others' values, without.
    pub top_k: Option<usize>,
    /// Whether pairs of the training rows are left out.
    pub exclude_seen: bool,
}

/// Pairs with their scores.
#[derive(Debug, Clone)]
pub struct Pairs {
    /// The row of the value that was given, ascending.
    pub rows: UInt32Array,
    /// The other value.
    pub partners: ArrayRef,
    /// The score; NULL for a stranger of implicit feedback.
    pub scores: Float64Array,
}

/// What ranking may use.
pub struct RecommendContext<'a> {
    /// The threads; none: the caller's alone.
    pub pool: Option<&'a rayon::ThreadPool>,
    /// Set when the query was cancelled.
    pub cancel: &'a AtomicBool,
}

/// Ranked items of a batch of users, best first; user `i` has rows `offsets[i]..offsets[i + 1]`.
#[derive(Debug, Clone)]
pub struct Recommendations {
    /// Where each user's items begin and end: users + 1 numbers.
    pub offsets: Vec<usize>,
    /// The items, in the type of [`Recommender::item_field`].
    pub items: ArrayRef,
    /// The scores, comparable within a user.
    pub scores: Vec<f64>,
}

/// What a model stores: named tables, and a few words of its own.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// Tables: each becomes a Parquet file of its name.
    pub tables: Vec<(String, RecordBatch)>,
    /// Small settings that are no table, for the manifest.
    pub settings: serde_json::Map<String, serde_json::Value>,
}

/// A stored model as it was read: its manifest's words and its tables.
#[derive(Debug, Clone)]
pub struct Artefact {
    /// The model's name, for messages.
    pub name: String,
    /// The columns it expects.
    pub features: Vec<FeatureColumn>,
    /// The options it was trained with.
    pub options: Options,
    /// [`Parts::tables`] and [`Parts::settings`].
    pub parts: Parts,
}

impl Artefact {
    /// The table `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn table(&self, name: &str) -> Result<&RecordBatch> {
        self.parts
            .tables
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, t)| t)
            .ok_or_else(|| self.corrupt(format!("its part '{name}' is missing")))
    }

    /// The setting `name`, read as `T`.
    ///
    /// # Errors
    /// There is none, or it is no `T`.
    pub fn setting<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Result<T> {
        let value = self
            .parts
            .settings
            .get(name)
            .ok_or_else(|| self.corrupt(format!("its setting '{name}' is missing")))?;
        T::deserialize(value).map_err(|e| {
            self.corrupt(format!("its setting '{name}' cannot be read"))
                .with_source(e)
        })
    }

    /// The setting `name`, read as `T`, or none where models of before had none.
    ///
    /// # Errors
    /// It is no `T`.
    pub fn optional<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Result<Option<T>> {
        if self.parts.settings.contains_key(name) {
            self.setting(name).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The error that says that this model is corrupt, and why.
    pub fn corrupt(&self, why: impl std::fmt::Display) -> Error {
        Error::model(format!(
            "model '{}' is corrupt: {why}; train it again or remove this version",
            self.name
        ))
    }
}

/// Options that every model over feature columns shares.
pub const ID: OptionSpec = OptionSpec {
    name: "id",
    aliases: &["id_col", "id_cols"],
    kind: OptionKind::Columns,
    default: "none",
    help: "Columns that identify a row and are no features.",
};

/// See [`ID`].
pub const FEATURES: OptionSpec = OptionSpec {
    name: "features",
    aliases: &["feature_cols"],
    kind: OptionKind::Columns,
    default: "every column that can be one",
    help: "The columns to learn from; by default every number, boolean, text, date and timestamp that plays no other part.",
};

/// What linear models share.
pub const L1: OptionSpec = OptionSpec {
    name: "l1",
    aliases: &["l1_reg"],
    kind: OptionKind::Float {
        min: 0.0,
        max: f64::MAX,
    },
    default: "0.0",
    help: "Penalty l1·‖β‖₁ on the same coefficients, which makes some of them exactly 0.",
};

/// See [`ID`].
pub const SEED: OptionSpec = OptionSpec {
    name: "seed",
    aliases: &[],
    kind: OptionKind::Int { min: 0, max: i64::MAX },
    default: "ml.seed",
    help: "Seed of everything random: the same data and seed give the same model.",
};

/// The index of column `name`, as written or in any case.
///
/// # Errors
/// There is none (with the nearest name), or several differ in case alone.
pub fn column_index(function: &str, schema: &Schema, name: &str) -> Result<usize> {
    if let Some((i, _)) = schema.fields().iter().enumerate().find(|(_, f)| f.name() == name) {
        return Ok(i);
    }
    let matches: Vec<usize> = (0..schema.fields().len())
        .filter(|i| schema.field(*i).name().eq_ignore_ascii_case(name))
        .collect();
    match matches[..] {
        [i] => Ok(i),
        [] => {
            let names = || schema.fields().iter().map(|f| f.name().as_str());
            let hint = match nearest(name, names()) {
                Some(near) => format!("did you mean '{near}'?"),
                None => format!("it has {}", list(names(), 20)),
            };
            Err(Error::request(format!(
                "{function}: the query has no column '{name}'; {hint}"
            )))
        }
        _ => Err(Error::request(format!(
            "{function}: several columns are called '{name}' but for their case; give each its own name"
        ))),
    }
}

/// The option that asks to go on from the stored model of the same name.
pub(crate) const WARM_START: &str = "warm_start";

/// What can be a feature, as messages say it.
pub(crate) const FEATURE_TYPES: &str = "a number, text, boolean, date or timestamp, or an array of numbers or texts";

/// The feature columns of a query under the options `id` and `features`; `taken` are columns with other parts, each with the
/// name of that part.
///
/// # Errors
/// A missing column, one that cannot be a feature, one that already plays a part, or none left.
pub fn feature_roles(
    function: &str,
    schema: &Schema,
    options: &Options,
    taken: &[(usize, &str)],
) -> Result<Vec<usize>> {
    let mut taken = taken.to_vec();
    for name in options.texts("id").unwrap_or_default() {
        taken.push((column_index(function, schema, name)?, "id"));
    }
    let features = if let Some(names) = options.texts("features") {
        let mut chosen = vec![];
        for name in names {
            let i = column_index(function, schema, name)?;
            let field = schema.field(i);
            if let Some((_, part)) = taken.iter().find(|(t, _)| *t == i) {
                return Err(Error::request(format!(
                    "{function}: column '{name}' is the {part} and a feature at once; take it out of features or name another {part}"
                )));
            }
            if FeatureKind::of(field.data_type()).is_none() {
                return Err(Error::request(format!(
                    "{function}: column '{name}' of type {} cannot be a feature; cast it to {FEATURE_TYPES}",
                    field.data_type()
                )));
            }
            if !chosen.contains(&i) {
                chosen.push(i);
            }
        }
        chosen
    } else {
        (0..schema.fields().len())
            .filter(|i| !taken.iter().any(|(t, _)| t == i) && FeatureKind::of(schema.field(*i).data_type()).is_some())
            .collect()
    };
    if features.is_empty() {
        return Err(Error::request(format!(
            "{function}: no feature is left; the query needs at least one column besides the others that is {FEATURE_TYPES}"
        )));
    }
    let mut names: Vec<&str> = features.iter().map(|i| schema.field(*i).name().as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|w| w[0] == w[1]) {
        return Err(Error::request(format!(
            "{function}: two columns are called '{}'; give each a name of its own with AS",
            pair[0]
        )));
    }
    Ok(features)
}

/// Feature columns as a model stores them.
pub fn feature_columns(schema: &Schema, features: &[usize]) -> Vec<FeatureColumn> {
    features
        .iter()
        .filter_map(|i| {
            let field = schema.field(*i);
            let kind = FeatureKind::of(field.data_type())?;
            // Dictionaries are a way of holding values, not a type of them.
            let data_type = match field.data_type() {
                DataType::Dictionary(_, value) => value,
                other => other,
            };
            Some(FeatureColumn {
                name: field.name().clone(),
                data_type: data_type.to_string(),
                kind,
            })
        })
        .collect()
}

/// A nullable field.
pub(crate) fn field(name: impl Into<String>, data_type: DataType) -> FieldRef {
    Arc::new(Field::new(name, data_type, true))
}
