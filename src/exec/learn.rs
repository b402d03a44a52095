//! From the rows of a query to a fitted model: what is held out, TRANSFORM, cross-validation, the search for options, and how good the
//! model is in the end.

use std::collections::BTreeMap;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use datafusion::arrow::compute::{cast, is_null, or};
use datafusion::arrow::datatypes::{DataType, Float64Type};

use super::fit::FitJob;
use super::train::with_found;
use crate::error::{Error, ErrorKind, Result};
use crate::features::statistics;
use crate::metrics::spread::mean;
use crate::models::search::{Algorithm, Domain, Outcome, Search};
use crate::models::split::{SelectedRows, folds};
use crate::models::transform::Transform;
use crate::models::{ASSESSMENTS, Evaluation, FitContext, Fitted, MemoryBudget, Model, Rows, Trial};
use crate::options::{Options, Value};

/// Folds that judge a trial where no row is held out.
const TRIAL_FOLDS: usize = 5;

/// Beyond so many rows, none of them held out, only what `ML.EVALUATE` tells is found out after a fit.
const MOST_JUDGED: usize = 100_000;

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

/// A fit over rows that are read, with what it may use.
pub(crate) struct Learning<'a> {
    pub job: &'a FitJob,
    pub context: &'a FitContext<'a>,
    /// A budget of its own for each trial and fold.
    pub budget: &'a dyn Fn() -> Box<dyn MemoryBudget>,
}

/// The rows that a model learns from, judged by others.
struct Split<'a> {
    /// All rows, as the model sees them.
    seen: &'a dyn Rows,
    /// Those that are held out.
    held_out: Option<&'a [BooleanArray]>,
}

fn every(rows: &dyn Rows) -> Vec<usize> {
    (0..rows.schema().fields().len()).collect()
}

impl Learning<'_> {
    /// Fits, and finds out how good the model is if the job says so.
    ///
    /// # Errors
    /// As [`ModelType::fit`](crate::models::ModelType::fit); no row is left to learn from.
    pub(crate) fn run(&self, rows: &dyn Rows) -> Result<Fitted> {
        let held_out = match &self.job.split {
            Some(split) => split.held_out(rows)?,
            None => None,
        };
        let marks = held_out.as_deref();
        if marks.is_some_and(|m| m.iter().all(|m| m.true_count() == m.len())) {
            return Err(Error::data(
                "every row is held out to judge the model by; leave some to learn from",
            ));
        }
        let (stored, transformed);
        let seen: &dyn Rows = match &self.job.transform {
            None => {
                stored = None;
                rows
            }
            Some(job) => {
                // What is held out teaches nothing.
                let learned_from = SelectedRows::new(rows, marks, false, every(rows))?;
                let (list, exprs) = job.learn(&learned_from, &|| self.context.compute.is_cancelled())?;
                stored = Some(list);
                transformed = job.rows(&exprs, rows)?;
                &transformed
            }
        };
        let split = Split { seen, held_out: marks };
        let mut fitted = match &self.job.tuning {
            Some(tuning) => self.best_trial(tuning, &split)?,
            None => self.with_budget(|context| self.fit(&split, &self.job.options, context))?,
        };
        self.tell(&mut fitted, &split, stored)?;
        Ok(fitted)
    }

    /// How good models of the other folds are on each of `count` folds: the names of the metrics, and the folds.
    ///
    /// # Errors
    /// As [`Learning::run`].
    pub(crate) fn judged_by_folds(&self, rows: &dyn Rows, count: usize) -> Result<(Vec<String>, Vec<Evaluation>)> {
        let mut names = vec![];
        let found = self.over_folds(rows, &self.job.options, count, &mut |model| {
            let fields = model.assess_fields("EVALUATE").unwrap_or_default();
            names = fields.iter().map(|f| f.name().clone()).collect();
        })?;
        Ok((names, found))
    }

    /// Adds to a fit's information what a stored model tells of itself.
    fn tell(&self, fitted: &mut Fitted, split: &Split<'_>, transform: Option<Transform>) -> Result<()> {
        fitted.info.transform = transform;
        if !self.job.judge {
            return Ok(());
        }
        for notice in &self.job.notices {
            self.context.observer.notice(notice);
            fitted.info.notices.push(notice.clone());
        }
        let left_out = self.left_out(split.seen, split.held_out)?;
        let learned_from = SelectedRows::new(split.seen, left_out.as_deref(), false, every(split.seen))?;
        let columns = fitted.model.feature_columns();
        fitted.info.features = self.with_budget(|context| statistics::of_rows(&learned_from, columns, context))?;
        if let Some(count) = self.job.folds {
            let options = with_found(self.job.options.clone(), &fitted.info);
            fitted.info.folds = self.cross_validate(split.seen, &options, count)?;
        }
        fitted.info.evaluation = self.judge(fitted.model.as_ref(), split.seen, split.held_out)?;
        if let Some(evaluation) = fitted.info.evaluation.as_ref().filter(|e| e.held_out) {
            let fields = fitted.model.assess_fields("EVALUATE").unwrap_or_default();
            let place = |name: &str| fields.iter().position(|f| f.name() == name);
            let loss = place("log_loss").or_else(|| place("mean_squared_error"));
            fitted.info.eval_loss = loss.and_then(|at| evaluation.metrics.get(at).copied().flatten());
        }
        if fitted.info.evaluation.is_some() {
            fitted.info.judgements = self.judgements(fitted.model.as_ref(), split)?;
        }
        Ok(())
    }

    /// What the functions beside `ML.EVALUATE` tell of the rows that judge a model, unless those are all of many rows.
    fn judgements(&self, model: &dyn Model, split: &Split<'_>) -> Result<BTreeMap<String, Vec<Vec<Option<String>>>>> {
        let mut found = BTreeMap::new();
        if split.held_out.is_none() && split.seen.row_count() > MOST_JUDGED {
            return Ok(found);
        }
        let judged_by = judged_rows(model, split.seen, split.held_out)?;
        let stop = || self.context.compute.is_cancelled();
        for word in ASSESSMENTS.iter().map(|a| a.word).filter(|w| *w != "EVALUATE") {
            if model.assess_fields(word).is_none() {
                continue;
            }
            match model.assess(word, &judged_by, &Options::default(), &stop) {
                Ok(answer) => {
                    let columns = answer.columns().iter().map(texts).collect::<Result<Vec<_>>>()?;
                    found.insert(word.to_string(), columns);
                }
                // Such as a curve of rows of one class.
                Err(e) if e.kind() == ErrorKind::Data || e.kind() == ErrorKind::Request => {}
                Err(e) => return Err(e),
            }
        }
        Ok(found)
    }

    /// Which rows teach nothing: those that are held out and, for a model that is stored, those without a label. The verbs score rows
    /// without a label too, so that there they count.
    fn left_out(&self, seen: &dyn Rows, held_out: Option<&[BooleanArray]>) -> Result<Option<Vec<BooleanArray>>> {
        match self.job.roles.label.filter(|_| self.job.judge) {
            Some(label) => without_label(seen, label, held_out),
            None => Ok(held_out.map(<[_]>::to_vec)),
        }
    }

    fn fit(&self, split: &Split<'_>, options: &Options, context: &FitContext<'_>) -> Result<Fitted> {
        let fit = |rows: &dyn Rows| self.job.model_type.fit(rows, &self.job.roles, options, context);
        match self.left_out(split.seen, split.held_out)? {
            Some(marks) => fit(&SelectedRows::new(split.seen, Some(&marks), false, every(split.seen))?),
            None => fit(split.seen),
        }
    }

    /// The same context, with memory of its own.
    fn with_budget<T>(&self, work: impl FnOnce(&FitContext<'_>) -> Result<T>) -> Result<T> {
        let budget = (self.budget)();
        work(&FitContext {
            compute: self.context.compute,
            seed: self.context.seed,
            observer: self.context.observer,
            memory: budget.as_ref(),
            start: self.context.start,
        })
    }

    /// How good models of the other folds are on each of `count` folds.
    fn cross_validate(&self, seen: &dyn Rows, options: &Options, count: usize) -> Result<Vec<Evaluation>> {
        self.over_folds(seen, options, count, &mut |_| {})
    }

    /// As [`Learning::cross_validate`], and shows each model.
    fn over_folds(
        &self,
        seen: &dyn Rows,
        options: &Options,
        count: usize,
        show: &mut dyn FnMut(&dyn Model),
    ) -> Result<Vec<Evaluation>> {
        let mut found = vec![];
        for (at, fold) in folds(seen, count)?.iter().enumerate() {
            let split = Split {
                seen,
                held_out: Some(fold),
            };
            let fitted = self.with_budget(|context| self.fit(&split, options, context))?;
            show(fitted.model.as_ref());
            let evaluation = self
                .judgement(fitted.model.as_ref(), seen, Some(fold))?
                .ok_or_else(|| {
                    Error::data(format!(
                        "fold {} of {count} has no row that could judge a {}; take fewer folds or more rows",
                        at + 1,
                        self.job.model_type.name()
                    ))
                })?;
            found.push(evaluation);
        }
        Ok(found)
    }

    /// Tries options; the fit of the best.
    fn best_trial(&self, tuning: &Tuning, split: &Split<'_>) -> Result<Fitted> {
        let domains = tuning.hyperparameters.iter().map(|h| h.domain).collect();
        let mut search = Search::new(domains, tuning.algorithm, tuning.trial_count, self.context.seed);
        let (mut outcomes, mut trials): (Vec<Outcome>, Vec<Trial>) = (vec![], vec![]);
        let mut best: Option<(f64, usize, Fitted)> = None;
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
                Ok((fitted, evaluation)) => {
                    score = objective(fitted.model.as_ref(), &evaluation, tuning.objective.as_deref())?;
                    trial.loss = fitted.info.passes.last().and_then(|p| p.loss);
                    trial.evaluation = Some(evaluation);
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
        Ok(fitted)
    }

    /// A model with these options and how good it is: by what is held out, or else by cross-validation.
    fn trial(&self, options: &Options, split: &Split<'_>, context: &FitContext<'_>) -> Result<(Fitted, Evaluation)> {
        let fitted = self.fit(split, options, context)?;
        let evaluation = match split.held_out {
            Some(_) => self.judgement(fitted.model.as_ref(), split.seen, split.held_out)?,
            None => mean_of(&self.cross_validate(split.seen, options, TRIAL_FOLDS)?),
        };
        let evaluation = evaluation.ok_or_else(|| {
            Error::data(format!(
                "the rows that are held out cannot judge a {}; hold out others",
                self.job.model_type.name()
            ))
        })?;
        Ok((fitted, evaluation))
    }

    /// As [`Learning::judgement`]; rows that cannot judge, such as held-out ones without a label, do not undo a fit.
    fn judge(
        &self,
        model: &dyn Model,
        rows: &dyn Rows,
        held_out: Option<&[BooleanArray]>,
    ) -> Result<Option<Evaluation>> {
        match self.judgement(model, rows, held_out) {
            Err(e) if e.kind() == ErrorKind::Data => Ok(None),
            other => other,
        }
    }

    /// How good a model is on the rows that are marked, or on all of them; none for models that are not judged.
    fn judgement(
        &self,
        model: &dyn Model,
        rows: &dyn Rows,
        held_out: Option<&[BooleanArray]>,
    ) -> Result<Option<Evaluation>> {
        let Some(fields) = model.assess_fields("EVALUATE") else {
            return Ok(None);
        };
        let judged_by = judged_rows(model, rows, held_out)?;
        let stop = || self.context.compute.is_cancelled();
        let of_rows = self.job.tuning.is_some() || self.job.folds.is_some();
        let answer = if of_rows {
            model
                .assess("EVALUATE", &judged_by, &Options::default(), &stop)
                .map(Some)
        } else {
            model.judge(&judged_by, &stop)
        };
        let Some(answer) = answer? else {
            return Ok(None);
        };
        let metric = |i: usize| {
            let column = answer.column(i).as_primitive_opt::<Float64Type>()?;
            column.is_valid(0).then(|| column.value(0))
        };
        Ok(Some(Evaluation {
            row_count: judged_by.row_count() as u64,
            held_out: held_out.is_some(),
            metrics: (0..fields.len()).map(metric).collect(),
        }))
    }
}

/// The rows that are marked, or all, with the columns that a model is judged by.
fn judged_rows<'a>(
    model: &dyn Model,
    rows: &'a dyn Rows,
    held_out: Option<&[BooleanArray]>,
) -> Result<SelectedRows<'a>> {
    let schema = rows.schema();
    let columns = model
        .feature_columns()
        .iter()
        .map(|c| c.name.as_str())
        .chain(model.label())
        .map(|name| crate::models::column_index("ML.TRAIN", &schema, name))
        .collect::<Result<Vec<_>>>()?;
    SelectedRows::new(rows, held_out, true, columns)
}

/// The values of a column as texts, from which a cast gives them back.
fn texts(column: &ArrayRef) -> Result<Vec<Option<String>>> {
    let texts = cast(column, &DataType::Utf8)?;
    Ok(texts.as_string::<i32>().iter().map(|t| t.map(str::to_string)).collect())
}

/// For each batch, which rows teach nothing: those that are held out, and those without a label, unless no row has one. None if all
/// rows do.
fn without_label(
    rows: &dyn Rows,
    label: usize,
    held_out: Option<&[BooleanArray]>,
) -> Result<Option<Vec<BooleanArray>>> {
    let mut without = vec![];
    let (mut some, mut all) = (false, true);
    for index in 0..rows.batch_count() {
        let nulls = is_null(rows.batch(index)?.column(label))?;
        some |= nulls.true_count() > 0;
        all &= nulls.true_count() == nulls.len();
        without.push(match held_out {
            Some(marks) => or(&nulls, &marks[index])?,
            None => nulls,
        });
    }
    // A label that is never there is for the model to tell.
    Ok(if some && !all {
        Some(without)
    } else {
        held_out.map(<[_]>::to_vec)
    })
}

/// The mean of each metric over folds; one that a fold does not define is left out of it.
pub(crate) fn mean_of(folds: &[Evaluation]) -> Option<Evaluation> {
    let width = folds.first()?.metrics.len();
    let mean_of_metric = |i: usize| {
        let known: Vec<f64> = folds
            .iter()
            .filter_map(|f| f.metrics.get(i).copied().flatten())
            .collect();
        mean(&known)
    };
    Some(Evaluation {
        row_count: folds.iter().map(|f| f.row_count).sum(),
        held_out: true,
        metrics: (0..width).map(mean_of_metric).collect(),
    })
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
