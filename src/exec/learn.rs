//! From the rows of a query to a fitted model: what is held out, TRANSFORM, cross-validation, the search for options, and how good the
//! model is in the end.

use std::sync::Arc;

use datafusion::arrow::array::BooleanArray;
use datafusion::arrow::compute::{is_null, or};
use datafusion::execution::SpillFile;

use super::fit::FitJob;
use super::judge::{Strangers, without};
use super::train::with_found;
use super::trials::KeptTrials;
use crate::error::{Error, Result};
use crate::features::statistics;
use crate::models::split::HeldOut;
use crate::models::transform::Transform;
use crate::models::{Evaluation, FitContext, Fitted, MemoryBudget, Rows};
use crate::options::Options;

/// A fit over rows that are read, with what it may use.
pub(crate) struct Learning<'a> {
    pub job: &'a FitJob,
    pub context: &'a FitContext<'a>,
    /// A budget of its own for each trial and fold.
    pub budget: &'a dyn Fn() -> Box<dyn MemoryBudget>,
    /// A temporary file.
    pub temporary: &'a dyn Fn() -> datafusion::common::Result<Arc<dyn SpillFile>>,
}

/// The rows that a model learns from, judged by others.
pub(super) struct Split<'a> {
    /// All rows, as the model sees them.
    pub seen: &'a dyn Rows,
    /// Those that trials are compared by, and a model is judged by where none are kept for a test.
    pub eval: Option<&'a [BooleanArray]>,
    /// Those that are kept for the last judgement.
    pub test: Option<&'a [BooleanArray]>,
    /// Both: those that teach nothing.
    pub held_out: Option<&'a [BooleanArray]>,
}

impl<'a> Split<'a> {
    /// Rows of which those that are marked are held out.
    pub(super) fn held_out(seen: &'a dyn Rows, marks: &'a [BooleanArray]) -> Self {
        Self {
            seen,
            eval: Some(marks),
            test: None,
            held_out: Some(marks),
        }
    }

    /// The rows that the model is judged by in the end; all without.
    pub(super) fn judges(&self) -> Option<&'a [BooleanArray]> {
        self.test.or(self.eval)
    }
}

/// The places of all columns.
pub(super) fn every(rows: &dyn Rows) -> Vec<usize> {
    (0..rows.schema().fields().len()).collect()
}

impl Learning<'_> {
    /// Fits, and finds out how good the model is if the job says so. Of a search: the best trial's model, and those of the others.
    ///
    /// # Errors
    /// As [`ModelType::fit`](crate::models::ModelType::fit); no row is left to learn from.
    pub(crate) fn run(&self, rows: &dyn Rows) -> Result<(Fitted, KeptTrials)> {
        let parts = match &self.job.split {
            Some(split) => split.held_out(rows)?,
            None => HeldOut::default(),
        };
        let held_out = parts.all()?;
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
                let learned_from = without(rows, marks)?;
                let (list, exprs) = job.learn(&learned_from, &|| self.context.compute.is_cancelled())?;
                stored = Some(list);
                transformed = job.rows(&exprs, rows)?;
                &transformed
            }
        };
        let split = Split {
            seen,
            eval: parts.eval.as_deref(),
            test: parts.test.as_deref(),
            held_out: marks,
        };
        let (mut fitted, trials) = match &self.job.tuning {
            Some(tuning) => self.best_trial(tuning, &split)?,
            None => {
                let fitted = self.with_budget(|context| self.fit(&split, &self.job.options, context))?;
                (fitted, KeptTrials::default())
            }
        };
        self.tell(&mut fitted, &split, stored)?;
        Ok((fitted, trials))
    }

    /// How good models of the other folds are on each of `count` folds: the names of the metrics, and the folds.
    ///
    /// # Errors
    /// As [`Learning::run`].
    pub(crate) fn judged_by_folds(&self, rows: &dyn Rows, count: usize) -> Result<(Vec<String>, Vec<Evaluation>)> {
        let (mut names, mut strangers) = (vec![], Strangers::default());
        let found = self.over_folds(rows, &self.job.options, count, &mut strangers, &mut |model| {
            let fields = model.assess_fields("EVALUATE").unwrap_or_default();
            names = fields.iter().map(|f| f.name().clone()).collect();
        })?;
        self.tell_notice(&mut vec![], self.notice_of(&strangers, rows));
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
        let learned_from = without(split.seen, left_out.as_deref())?;
        let columns = fitted.model.feature_columns();
        fitted.info.features = self.with_budget(|context| statistics::of_rows(&learned_from, columns, context))?;
        let mut strangers = Strangers::default();
        if let Some(count) = self.job.folds {
            let options = with_found(self.job.options.clone(), &fitted.info);
            fitted.info.folds = self.cross_validate(split.seen, &options, count, &mut strangers)?;
        }
        // A search has judged its trials.
        if self.job.tuning.is_none() {
            fitted.info.evaluation = self.judge(fitted.model.as_ref(), split.seen, split.judges(), &mut strangers)?;
            if fitted.info.evaluation.is_some() {
                fitted.info.judgements = self.judgements(fitted.model.as_ref(), split)?;
            }
        }
        if let Some(evaluation) = fitted.info.evaluation.as_ref().filter(|e| e.held_out) {
            let fields = fitted.model.assess_fields("EVALUATE").unwrap_or_default();
            let place = |name: &str| fields.iter().position(|f| f.name() == name);
            let loss = place("log_loss").or_else(|| place("mean_squared_error"));
            fitted.info.eval_loss = loss.and_then(|at| evaluation.metrics.get(at).copied().flatten());
        }
        self.tell_notice(&mut fitted.info.notices, self.notice_of(&strangers, split.seen));
        Ok(())
    }

    /// What is said of rows that were left out of a judgement.
    pub(super) fn notice_of(&self, strangers: &Strangers, seen: &dyn Rows) -> Option<String> {
        let schema = seen.schema();
        strangers.notice(schema.field(self.job.roles.label?).name())
    }

    /// Which rows teach nothing: those that are held out and, for a model that is stored, those without a label. The verbs score rows
    /// without a label too, so that there they count.
    fn left_out(&self, seen: &dyn Rows, held_out: Option<&[BooleanArray]>) -> Result<Option<Vec<BooleanArray>>> {
        match self.job.roles.label.filter(|_| self.job.judge) {
            Some(label) => without_label(seen, label, held_out),
            None => Ok(held_out.map(<[_]>::to_vec)),
        }
    }

    pub(super) fn fit(&self, split: &Split<'_>, options: &Options, context: &FitContext<'_>) -> Result<Fitted> {
        let fit = |rows: &dyn Rows| self.job.model_type.fit(rows, &self.job.roles, options, context);
        match self.left_out(split.seen, split.held_out)? {
            Some(marks) => fit(&without(split.seen, Some(&marks))?),
            None => fit(split.seen),
        }
    }

    /// The same context, with memory of its own.
    pub(super) fn with_budget<T>(&self, work: impl FnOnce(&FitContext<'_>) -> Result<T>) -> Result<T> {
        let budget = (self.budget)();
        work(&FitContext {
            compute: self.context.compute,
            seed: self.context.seed,
            observer: self.context.observer,
            memory: budget.as_ref(),
            start: self.context.start,
        })
    }
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
