//! The options by which a model's own options are searched: `HPARAM_RANGE`, `HPARAM_CANDIDATES`, `NUM_TRIALS`, …

use crate::error::{Error, Result};
use crate::exec::{Hyperparameter, Tuning};
use crate::models::ModelType;
use crate::models::search::{Algorithm, Domain};
use crate::options::{OptionKind, OptionSpec, Options, Value};
use crate::sql::arguments::{HPARAM_CANDIDATES, HPARAM_RANGE};

const NAME: &str = "ML.TRAIN";

/// The options of a search.
pub(crate) static TUNING_OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "num_trials",
        aliases: &[],
        kind: OptionKind::Int { min: 1, max: 100 },
        default: "10",
        help: "How many trials a search makes of options that are HPARAM_RANGE(low, high) or HPARAM_CANDIDATES([…]). Every trial's model is \
               stored; the best one's serves where no trial_id is named.",
    },
    OptionSpec {
        name: "max_parallel_trials",
        aliases: &[],
        kind: OptionKind::Int { min: 1, max: 100 },
        default: "1",
        help: "Taken and without effect: each trial runs on all threads.",
    },
    OptionSpec {
        name: "hparam_tuning_algorithm",
        aliases: &[],
        kind: OptionKind::Choice(&["vizier_default", "random_search", "grid_search"]),
        default: "'vizier_default'",
        help: "How trials are chosen: by a model of the trials before (a Gaussian process and the expected improvement, Jones et al. 1998), by chance, or along a grid.",
    },
    OptionSpec {
        name: "hparam_tuning_objectives",
        aliases: &[],
        kind: OptionKind::Any("the name of a metric of ML.EVALUATE, or a list of one"),
        default: "roc_auc, r2_score, davies_bouldin_index or mean_squared_error, by the model",
        help: "The metric that trials are compared by, on what data_split_method holds out for it, or by five folds where nothing is.",
    },
];

/// Takes what is to be searched out of `named`. None if nothing is.
///
/// # Errors
/// A range or candidates that the option does not take, or options of a search without anything to search.
pub(crate) fn take(
    model_type: &'static dyn ModelType,
    named: &mut Vec<(String, Value)>,
    tuning: &Options,
) -> Result<Option<Tuning>> {
    let mut hyperparameters = vec![];
    let mut kept = vec![];
    for (name, value) in named.drain(..) {
        match searched(&value) {
            None => kept.push((name, value)),
            Some((word, values)) => hyperparameters.push(hyperparameter(model_type, &name, word, values)?),
        }
    }
    *named = kept;
    if hyperparameters.is_empty() {
        return match tuning.iter().next() {
            Some((option, _)) => Err(Error::request(format!(
                "{NAME}: option '{option}' is of a search, and no option is searched; give one HPARAM_RANGE(low, high) or HPARAM_CANDIDATES([…])"
            ))),
            None => Ok(None),
        };
    }
    let objective = match tuning.get("hparam_tuning_objectives") {
        None => None,
        Some(Value::Text(name)) => Some(name.clone()),
        Some(Value::List(names)) => match names.as_slice() {
            [Value::Text(name)] => Some(name.clone()),
            _ => {
                return Err(Error::request(format!(
                    "{NAME}: option 'hparam_tuning_objectives' takes one metric, such as ['roc_auc']"
                )));
            }
        },
        Some(other) => {
            return Err(Error::request(format!(
                "{NAME}: option 'hparam_tuning_objectives' takes the name of a metric, not {other}"
            )));
        }
    };
    Ok(Some(Tuning {
        hyperparameters,
        algorithm: match tuning.text("hparam_tuning_algorithm") {
            Some("random_search") => Algorithm::Random,
            Some("grid_search") => Algorithm::Grid,
            _ => Algorithm::Model,
        },
        trial_count: tuning.int("num_trials", 10) as usize,
        objective,
    }))
}

/// The word and the values of an option that is to be searched.
fn searched(value: &Value) -> Option<(&'static str, &[Value])> {
    let Value::Struct(fields) = value else {
        return None;
    };
    [HPARAM_RANGE, HPARAM_CANDIDATES]
        .into_iter()
        .find_map(|word| match fields.get(word) {
            Some(Value::List(values)) => Some((word, values.as_slice())),
            _ => None,
        })
}

fn hyperparameter(
    model_type: &'static dyn ModelType,
    name: &str,
    word: &str,
    values: &[Value],
) -> Result<Hyperparameter> {
    let spec = model_type.options().iter().find(|o| o.answers_to(name));
    let Some(spec) = spec else {
        // Says what there is.
        Options::parse(NAME, model_type.options(), vec![(name.to_string(), Value::Null)])?;
        return Err(Error::request(format!("{NAME} has no option '{name}'")));
    };
    if matches!(spec.kind, OptionKind::Column | OptionKind::Columns) {
        return Err(Error::request(format!(
            "{NAME}: option '{name}' chooses columns, which a search does not; give it one value, or compare models with ML.COMPARE"
        )));
    }
    // Each value as the option itself would take it.
    let checked = values
        .iter()
        .map(|v| {
            let given = Options::parse(
                NAME,
                std::slice::from_ref(spec),
                vec![(spec.name.to_string(), v.clone())],
            )?;
            Ok(given.get(spec.name).cloned().unwrap_or(Value::Null))
        })
        .collect::<Result<Vec<Value>>>()?;
    if word == HPARAM_CANDIDATES {
        let inner = match checked.as_slice() {
            [] => Err(Error::request(format!(
                "{NAME}: HPARAM_CANDIDATES of option '{name}' lists nothing; write HPARAM_CANDIDATES([a, b])"
            ))),
            all => Ok(all.to_vec()),
        }?;
        return Ok(Hyperparameter {
            name: spec.name,
            domain: Domain::Candidates(inner.len()),
            candidates: inner,
        });
    }
    let bounds: Vec<f64> = checked.iter().filter_map(Value::as_f64).collect();
    let (integer, log) = match spec.kind {
        OptionKind::Int { .. } => (true, false),
        // What has no upper bound is searched by its order of magnitude.
        OptionKind::Float { min, max } => (false, min >= 0.0 && max > 1e6),
        _ => {
            return Err(Error::request(format!(
                "{NAME}: option '{name}' takes no range; list what to try with HPARAM_CANDIDATES([…])"
            )));
        }
    };
    match bounds.as_slice() {
        [low, high] if low < high && checked.len() == 2 => Ok(Hyperparameter {
            name: spec.name,
            domain: Domain::Range {
                low: *low,
                high: *high,
                integer,
                log,
            },
            candidates: vec![],
        }),
        _ => Err(Error::request(format!(
            "{NAME}: HPARAM_RANGE of option '{name}' takes two numbers, the lower first; write HPARAM_RANGE(0.1, 10)"
        ))),
    }
}
