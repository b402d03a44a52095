//! The options of k-means, and what they come to.

use std::any::Any;
use std::sync::LazyLock;

use datafusion::arrow::datatypes::{DataType, Schema};

use super::{KMeansModel, VERB};
use crate::error::{Error, Result, list, nearest};
use crate::kernels::assign::Metric;
use crate::models::{FEATURES, FeatureKind, ID, Model, SEED, WARM_START, column_index};
use crate::options::{OptionKind, OptionSpec, Options, Value};

/// The most segments that there can be.
const MAX_K: i64 = 65_535;

/// The option of a fit that has a stored model keep what is needed to tell anomalies; no option of a statement.
pub(super) const KEEP_SCORES: &str = "keep_scores";

const K: OptionSpec = OptionSpec {
    name: "k",
    aliases: &["num_clusters"],
    kind: OptionKind::Int { min: 1, max: MAX_K },
    default: "the logarithm of the number of rows to base 10, at least 2",
    help: "How many segments; there are fewer where there are fewer distinct rows.",
};

pub(super) static OPTIONS: &[OptionSpec] = &[
    K,
    ID,
    FEATURES,
    OptionSpec {
        name: "standardize",
        aliases: &["standardize_features"],
        kind: OptionKind::Bool,
        default: "true",
        help: "Whether numbers are divided by their sample deviation, so that each counts alike.",
    },
    OptionSpec {
        name: "init",
        aliases: &["kmeans_init_method"],
        kind: OptionKind::Any("'kmeans++', 'random', 'custom' or a list of k lists of numbers"),
        default: "'kmeans++'",
        help: "Where centroids begin: greedy k-means++, random rows, the rows that init_col marks, or centroids in the units and order of the features, which must then all be numbers.",
    },
    OptionSpec {
        name: "init_col",
        aliases: &["kmeans_init_col"],
        kind: OptionKind::Column,
        default: "none",
        help: "A boolean column that is TRUE in the k rows to start from, and no feature; ML.TRAIN counts them where k is not given.",
    },
    OptionSpec {
        name: "starts",
        aliases: &[],
        kind: OptionKind::Int { min: 1, max: 10_000 },
        default: "1",
        help: "How many times to start anew; the start with the least inertia is kept.",
    },
    OptionSpec {
        name: "max_iterations",
        aliases: &[],
        kind: OptionKind::Int { min: 1, max: 1_000_000 },
        default: "100",
        help: "At most so many passes a start; 20 in CREATE MODEL.",
    },
    OptionSpec {
        name: "tolerance",
        aliases: &[],
        kind: OptionKind::Float {
            min: 0.0,
            max: f64::MAX,
        },
        default: "0.0001",
        help: "Stops once the centroids' squared shift is at most this times the mean variance of the encoded columns; 0: once no row changes.",
    },
    OptionSpec {
        name: "early_stop",
        aliases: &[],
        kind: OptionKind::Bool,
        default: "whether min_rel_progress is given",
        help: "Whether to stop after a pass that lowers the loss by less than min_rel_progress; true in CREATE MODEL.",
    },
    OptionSpec {
        name: "min_rel_progress",
        aliases: &[],
        kind: OptionKind::Float { min: 0.0, max: 1.0 },
        default: "0.01",
        help: "The share of the loss that a pass must take away, under early_stop, for there to be another.",
    },
    OptionSpec {
        name: WARM_START,
        aliases: &[],
        kind: OptionKind::Bool,
        default: "false",
        help: "Whether to begin at the centroids of the stored model of the same name, whose segments keep their numbers: in ML.TRAIN and \
               CREATE OR REPLACE MODEL.",
    },
    OptionSpec {
        name: "distance",
        aliases: &["distance_type"],
        kind: OptionKind::Choice(&["euclidean", "cosine"]),
        default: "'euclidean'",
        help: "What near means: euclidean, or cosine, √(1 − cos).",
    },
    SEED,
];

/// The options of the verb, which wants to be told how many segments to make.
pub(super) static VERB_OPTIONS: LazyLock<Vec<OptionSpec>> = LazyLock::new(|| {
    let of_verb = |spec: &OptionSpec| match spec.name {
        "k" => OptionSpec {
            default: "",
            help: "How many segments; there are fewer where there are fewer distinct rows. ML.TRAIN and CREATE MODEL do without: the logarithm of the number of rows to base 10, at least 2.",
            ..*spec
        },
        _ => *spec,
    };
    OPTIONS.iter().map(of_verb).collect()
});

/// Where centroids begin.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Init {
    PlusPlus,
    Random,
    /// At the rows in which this column is TRUE.
    Marked(usize),
    /// In the units of the features.
    Given(Vec<Vec<f64>>),
}

/// The options, checked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings {
    /// How many segments, if that was said.
    k: Option<usize>,
    pub(super) standardize: bool,
    pub(super) init: Init,
    /// Whether to go on from a model instead.
    warm: bool,
    /// The features' names.
    features: Vec<String>,
    pub(super) starts: usize,
    pub(super) max_iterations: usize,
    pub(super) tolerance: f64,
    /// The share of the loss that a pass must take away for there to be another.
    pub(super) min_progress: Option<f64>,
    pub(super) metric: Metric,
}

impl Settings {
    /// `features` and `start` are columns of `schema`; `start` is the one of the option `init_col`.
    pub(super) fn read(options: &Options, schema: &Schema, features: &[usize], start: Option<usize>) -> Result<Self> {
        let warm = options.bool(WARM_START, false);
        if warm && (options.get("init").is_some() || start.is_some()) {
            return Err(Error::request(format!(
                "{VERB}: warm_start begins at the centroids of the model of before, and init says where to begin; leave one out"
            )));
        }
        let k = options.get("k").map(|_| options.int("k", 0));
        if let Some(k) = k
            && !(1..=MAX_K).contains(&k)
        {
            return Err(Error::request(format!(
                "{VERB} needs the option 'k', a whole number from 1 to 65,535; write k => …"
            )));
        }
        let init = read_init(options, k, schema, features, start)?;
        // Where a start is given, it leads to the same end however often one begins from it.
        let starts = if warm || matches!(init, Init::Given(_) | Init::Marked(_)) {
            1
        } else {
            options.int("starts", 1).max(1) as usize
        };
        let stops_early = options.bool("early_stop", options.get("min_rel_progress").is_some());
        Ok(Self {
            k: k.map(|k| k as usize),
            standardize: options.bool("standardize", true),
            init,
            warm,
            features: features.iter().map(|i| schema.field(*i).name().clone()).collect(),
            starts,
            max_iterations: options.int("max_iterations", 100).max(1) as usize,
            tolerance: options.float("tolerance", 1e-4),
            min_progress: stops_early.then(|| options.float("min_rel_progress", 0.01)),
            metric: match options.text("distance") {
                Some("cosine") => Metric::Cosine,
                _ => Metric::Euclidean,
            },
        })
    }

    /// The model to go on from, if that is asked for.
    ///
    /// # Errors
    /// There is none, or it is one of other features, of another distance or of another k.
    pub(super) fn go_on_from<'a>(&self, start: Option<&'a dyn Model>) -> Result<Option<&'a KMeansModel>> {
        if !self.warm {
            return Ok(None);
        }
        let Some(model) = start.and_then(|model| (model as &dyn Any).downcast_ref::<KMeansModel>()) else {
            return Err(Error::request(format!(
                "{VERB}: warm_start goes on from a stored model, which ML.TRAIN and CREATE MODEL have by its name; leave it out here"
            )));
        };
        let refuse = |what: String| {
            Err(Error::request(format!(
                "{VERB}: warm_start goes on from a model {what}; ask for the same here, or leave warm_start out"
            )))
        };
        let own: Vec<&str> = model.feature_columns().iter().map(|c| c.name.as_str()).collect();
        let same = |name: &str| self.features.iter().any(|f| f == name);
        if own.len() != self.features.len() || !own.iter().all(|name| same(name)) {
            return refuse(format!("of the features {}", list(own, 20)));
        }
        if let Some(k) = self.k.filter(|k| *k != model.ids.len()) {
            return refuse(format!("of {} segments, not {k}", model.ids.len()));
        }
        if model.metric != self.metric {
            return refuse("of another distance".into());
        }
        Ok(Some(model))
    }

    /// How many segments to make of so many rows, of which `marked` are marked to start from.
    ///
    /// # Errors
    /// Other than k rows are marked.
    pub(super) fn segment_count(&self, row_count: usize, marked: usize) -> Result<usize> {
        match (&self.init, self.k) {
            (Init::Marked(_), k) if marked == 0 || k.is_some_and(|k| k != marked) => Err(Error::data(format!(
                "{VERB}: the column of init_col is TRUE in {marked} rows; it must be so in exactly {} to start from",
                k.map_or("as many rows as there are to be segments".into(), |k| k.to_string())
            ))),
            (Init::Marked(_), _) => Ok(marked),
            (_, Some(k)) => Ok(k),
            (Init::Given(rows), None) => Ok(rows.len()),
            (_, None) => Ok(((row_count.max(1) as f64).log10().round() as usize).max(2)),
        }
    }
}

/// The column of the option `init_col`, which is no feature.
///
/// # Errors
/// There is none of that name, or it is not boolean.
pub(super) fn start_column(options: &Options, schema: &Schema) -> Result<Option<usize>> {
    let Some(name) = options.text("init_col") else {
        return Ok(None);
    };
    let index = column_index(VERB, schema, name)?;
    let data_type = schema.field(index).data_type();
    if data_type != &DataType::Boolean {
        return Err(Error::request(format!(
            "{VERB}: column '{name}' of init_col is of type {data_type}; it takes a boolean that is TRUE in the rows to start from"
        )));
    }
    Ok(Some(index))
}

fn read_init(
    options: &Options,
    k: Option<i64>,
    schema: &Schema,
    features: &[usize],
    start: Option<usize>,
) -> Result<Init> {
    let custom = |word: &str| word.eq_ignore_ascii_case("custom");
    let init = match (options.get("init"), start) {
        (None, Some(column)) => Init::Marked(column),
        (Some(Value::Text(word)), Some(column)) if custom(word) => Init::Marked(column),
        (Some(Value::Text(word)), None) if custom(word) => {
            return Err(Error::request(format!(
                "{VERB}: init => 'custom' needs the option 'init_col', the name of a boolean column; write init_col => …"
            )));
        }
        (Some(other), Some(_)) => {
            return Err(Error::request(format!(
                "{VERB}: init_col goes with init => 'custom', not {}; leave one of them out",
                if matches!(other, Value::Text(_)) {
                    other.to_string()
                } else {
                    other.kind_name().into()
                }
            )));
        }
        (None, None) => Init::PlusPlus,
        (Some(Value::Text(word)), _) if word.eq_ignore_ascii_case("kmeans++") => Init::PlusPlus,
        (Some(Value::Text(word)), _) if word.eq_ignore_ascii_case("random") => Init::Random,
        (Some(Value::List(rows)), _) => Init::Given(given_centroids(rows, k, schema, features)?),
        (Some(other), _) => {
            let hint = match other {
                Value::Text(word) => {
                    nearest(word, ["kmeans++", "random", "custom"]).map(|w| format!("; did you mean '{w}'?"))
                }
                _ => None,
            };
            return Err(Error::request(format!(
                "{VERB}: option 'init' takes 'kmeans++', 'random', 'custom' or a list of k lists of numbers, not {other}{}",
                hint.unwrap_or_default()
            )));
        }
    };
    Ok(init)
}

/// The centroids that the option `init` lists, in the units of the features.
fn given_centroids(rows: &[Value], k: Option<i64>, schema: &Schema, features: &[usize]) -> Result<Vec<Vec<f64>>> {
    if let Some(other) = features
        .iter()
        .map(|i| schema.field(*i))
        .find(|f| FeatureKind::of(f.data_type()) != Some(FeatureKind::Number))
    {
        return Err(Error::request(format!(
            "{VERB}: option 'init' lists centroids, which takes numbers as features, but column '{}' is of type {}; \
             leave it out of features or start from 'kmeans++'",
            other.name(),
            other.data_type()
        )));
    }
    if let Some(k) = k
        && rows.len() as i64 != k
    {
        return Err(Error::request(format!(
            "{VERB}: option 'init' lists {} centroids but k is {k}; give one list of numbers for each segment",
            rows.len()
        )));
    }
    if rows.is_empty() {
        return Err(Error::request(format!(
            "{VERB}: option 'init' lists no centroid; give one list of numbers for each segment"
        )));
    }
    let names: Vec<&str> = features.iter().map(|i| schema.field(*i).name().as_str()).collect();
    let read = |(index, row): (usize, &Value)| {
        let wrong = |what: String| {
            Error::request(format!(
                "{VERB}: centroid {} of option 'init' {what}; give one number for each of the features {}",
                index + 1,
                names.join(", ")
            ))
        };
        let Value::List(values) = row else {
            return Err(wrong(format!("is {}, not a list", row.kind_name())));
        };
        if values.len() != names.len() {
            return Err(wrong(format!("has {} numbers, not {}", values.len(), names.len())));
        }
        let number = |v: &Value| {
            v.as_f64()
                .filter(|x| x.is_finite())
                .ok_or_else(|| wrong(format!("contains {v}, which is no number")))
        };
        values.iter().map(number).collect()
    };
    rows.iter().enumerate().map(read).collect()
}
