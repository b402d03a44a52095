//! The search for a model's options: a trial for each choice of them, and which one is the best.

use std::sync::Arc;

use super::fit::megabytes;
use super::judge::{Strangers, mean_of, without};
use super::learn::{Learning, Split};
use crate::error::{Error, ErrorKind, Result};
use crate::models::search::{Algorithm, Domain, Outcome, Search};
use crate::models::{Evaluation, FitContext, Fitted, MemoryBudget, Model, Trial};
use crate::options::{Options, Value};
use crate::store::TrialModel;

/// Folds that judge a trial where no row is held out.
const TRIAL_FOLDS: usize = 5;

/// A trial's model of so many bytes or fewer, as it is stored, waits in memory …
const SMALL_MODEL_BYTES: usize = 1 << 20;
/// … as long as all that wait there have so many together: the fits that follow need the memory.
const MOST_WAITING_BYTES: usize = 16 << 20;

/// An option that is searched for.
#[derive(Debug, Clone)]
pub(crate) struct Hyperparameter {
    /// The option's name.
    pub name: &'static str,
    /// What it may be.
    pub domain: Domain,
    /// The values of [`Domain::Candidates`].
    pub candidates: Vec<Value>,
}

impl Hyperparameter {
    /// One of the values that it may have.
    pub(crate) fn first(&self) -> Value {
        match self.domain {
            Domain::Range { low, .. } => self.value(low),
            Domain::Candidates(_) => self.value(0.0),
        }
    }

    /// The value of a point's coordinate.
    fn value(&self, coordinate: f64) -> Value {
        match self.domain {
            Domain::Candidates(_) => self.candidates.get(coordinate as usize).cloned().unwrap_or(Value::Null),
            Domain::Range { integer: true, .. } => Value::Int(coordinate as i64),
            Domain::Range { .. } => Value::Float(coordinate),
        }
    }
}

/// A search for options.
#[derive(Debug, Clone)]
pub(crate) struct Tuning {
    pub hyperparameters: Vec<Hyperparameter>,
    pub algorithm: Algorithm,
    pub trial_count: usize,
    /// The metric to go by, as the user named it; the model's own choice without.
    pub objective: Option<String>,
}

/// The models of a search's trials but the best: what is small in memory, as far as the limit allows, and all else in temporary files.
#[derive(Default)]
pub(crate) struct KeptTrials {
    pub models: Arc<Vec<TrialModel>>,
    /// What they take of the query's memory.
    _memory: Option<Box<dyn MemoryBudget>>,
}

/// Keeps the models of trials as they come.
struct Keeper<'a> {
    learning: &'a Learning<'a>,
    models: Vec<TrialModel>,
    /// Bytes of the models that wait in memory.
    waiting: usize,
    memory: Box<dyn MemoryBudget>,
}

impl Keeper<'_> {
    /// Keeps the model of trial `trial_id`. Why it could not: no temporary file could be written, and memory is short.
    fn keep(&mut self, trial_id: u64, fitted: &Fitted) -> Result<Option<String>> {
        let mut model = TrialModel::new(trial_id, fitted.model.as_ref(), &fitted.info)?;
        let bytes = model.memory_bytes();
        let small = bytes <= SMALL_MODEL_BYTES && self.waiting + bytes <= MOST_WAITING_BYTES;
        if small && self.waits_in_memory(bytes) {
            self.models.push(model);
            return Ok(None);
        }
        Ok(match model.spill(self.learning.temporary) {
            Ok(()) => {
                self.models.push(model);
                None
            }
            Err(_) if !small && self.waits_in_memory(bytes) => {
                self.models.push(model);
                None
            }
            Err(e) => Some(format!(
                "the model of trial {trial_id} is not kept: it takes {} that the memory limit does not leave, and no temporary file can be \
                 written ({e})",
                megabytes(bytes)
            )),
        })
    }

    /// Takes so many bytes of the query's memory; false where there are not so many.
    fn waits_in_memory(&mut self, bytes: usize) -> bool {
        let granted = self.memory.take(bytes, "the model of a trial").is_ok();
        self.waiting += if granted { bytes } else { 0 };
        granted
    }

    /// All but the best.
    fn finish(mut self, best: u64) -> KeptTrials {
        self.models.retain(|m| m.trial_id != best);
        KeptTrials {
            models: Arc::new(self.models),
            _memory: Some(self.memory),
        }
    }
}

impl Learning<'_> {
    /// Tries options; the fit of the best.
    ///
    /// # Errors
    /// No trial gave a model that could be judged; what is no fault of the rows, such as too little memory.
    pub(super) fn best_trial(&self, tuning: &Tuning, split: &Split<'_>) -> Result<(Fitted, KeptTrials)> {
        let domains = tuning.hyperparameters.iter().map(|h| h.domain).collect();
        let mut search = Search::new(domains, tuning.algorithm, tuning.trial_count, self.context.seed);
        let (mut outcomes, mut trials): (Vec<Outcome>, Vec<Trial>) = (vec![], vec![]);
        let mut best: Option<(f64, usize, Fitted)> = None;
        let (mut told, mut notices) = (vec![], vec![]);
        let mut keeper = Keeper {
            learning: self,
            models: vec![],
            waiting: 0,
            memory: (self.budget)(),
        };
        while let Some(point) = search.next(&outcomes) {
            self.context.check_cancelled()?;
            let mut options = self.job.options.clone();
            let mut chosen = Options::default();
            for (hyperparameter, coordinate) in tuning.hyperparameters.iter().zip(&point) {
                let value = hyperparameter.value(*coordinate);
                chosen = chosen.with(hyperparameter.name, value.clone());
                options = options.with(hyperparameter.name, value);
            }
            let mut trial = Trial {
                options: chosen,
                ..Trial::default()
            };
            let mut score = None;
            match self.with_budget(|context| self.trial(&options, split, context)) {
                Ok((fitted, evaluation, said)) => {
                    score = objective(fitted.model.as_ref(), &evaluation, tuning.objective.as_deref())?;
                    trial.loss = fitted.info.passes.last().and_then(|p| p.loss);
                    trial.test = fitted.info.evaluation.clone().filter(|_| split.test.is_some());
                    trial.evaluation = Some(evaluation);
                    // What is said of the rows is the same of every trial.
                    for notice in said {
                        self.tell_notice(&mut told, Some(notice));
                    }
                    let unkept = keeper.keep(trials.len() as u64 + 1, &fitted)?;
                    self.tell_notice(&mut notices, unkept);
                    if let Some(score) = score
                        && best.as_ref().is_none_or(|(b, ..)| score > *b)
                    {
                        best = Some((score, trials.len(), fitted));
                    }
                }
                Err(e) if e.kind() == ErrorKind::Data => trial.error = Some(e.to_string()),
                Err(e) => return Err(e),
            }
            outcomes.push(Outcome { point, score });
            trials.push(trial);
        }
        let Some((_, at, mut fitted)) = best else {
            let why = trials.into_iter().find_map(|t| t.error);
            return Err(Error::data(format!(
                "no trial gave a model that could be judged{}",
                why.map(|w| format!("; the first said: {w}")).unwrap_or_default()
            )));
        };
        if let Some(trial) = trials.get_mut(at) {
            trial.is_optimal = true;
        }
        fitted.info.trials = trials;
        fitted.info.notices.extend(notices);
        Ok((fitted, keeper.finish(at as u64 + 1)))
    }

    /// A model with these options, which knows how good it is in the end, and how good it is beside the other trials: by what is held out,
    /// or else by cross-validation. Then what is to be said of the rows that judged it.
    fn trial(
        &self,
        options: &Options,
        split: &Split<'_>,
        context: &FitContext<'_>,
    ) -> Result<(Fitted, Evaluation, Vec<String>)> {
        let mut fitted = self.fit(split, options, context)?;
        let mut strangers = Strangers::default();
        let evaluation = match split.eval {
            Some(_) => self.judgement(fitted.model.as_ref(), split.seen, split.eval, &mut strangers)?,
            None => {
                let rest = without(split.seen, split.test)?;
                mean_of(&self.cross_validate(&rest, options, TRIAL_FOLDS, &mut strangers)?)
            }
        };
        let evaluation = evaluation.ok_or_else(|| {
            Error::data(format!(
                "the rows that are held out cannot judge a {}; hold out others",
                self.job.model_type.name()
            ))
        })?;
        let mut notices: Vec<String> = self.notice_of(&strangers, split.seen).into_iter().collect();
        fitted.info.evaluation = match split.test {
            Some(_) => {
                let mut strangers = Strangers::default();
                let tested = self.judge(fitted.model.as_ref(), split.seen, split.test, &mut strangers)?;
                notices.extend(self.notice_of(&strangers, split.seen));
                tested
            }
            None => Some(evaluation.clone()),
        };
        fitted.info.judgements = self.judgements(fitted.model.as_ref(), split)?;
        fitted.info.notices.extend(notices.iter().cloned());
        Ok((fitted, evaluation, notices))
    }
}

/// Metrics of `ML.EVALUATE` that a search goes by where the user names none, the first that the model has.
const OBJECTIVES: [&str; 6] = [
    "roc_auc",
    "r2_score",
    "mean_average_precision",
    "davies_bouldin_index",
    "total_explained_variance_ratio",
    "mean_squared_error",
];

/// Whether a metric is the better the less it is.
fn is_loss(metric: &str) -> bool {
    [
        "error",
        "loss",
        "davies_bouldin_index",
        "mean_squared_distance",
        "average_rank",
    ]
    .iter()
    .any(|word| metric.contains(word))
}

/// How good a trial is, more being better; none where the metric is not defined.
///
/// # Errors
/// The model has no such metric.
fn objective(model: &dyn Model, evaluation: &Evaluation, wanted: Option<&str>) -> Result<Option<f64>> {
    let fields = model.assess_fields("EVALUATE").unwrap_or_default();
    let place = |name: &str| fields.iter().position(|f| f.name().eq_ignore_ascii_case(name));
    let found = match wanted {
        Some(name) => place(name),
        None => OBJECTIVES.iter().find_map(|name| place(name)),
    };
    let Some(at) = found else {
        return Err(Error::request(format!(
            "a {} has no metric '{}' to search by; it has {}",
            model.model_type(),
            wanted.unwrap_or_default(),
            crate::error::list(fields.iter().map(|f| f.name()), 20)
        )));
    };
    let sign = if is_loss(fields[at].name()) { -1.0 } else { 1.0 };
    Ok(evaluation.metrics.get(at).copied().flatten().map(|m| sign * m))
}
