//! How models with different types or options compare on the same folds of a query's rows.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use datafusion::arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::TaskContext;

use super::answer::Question;
use super::collect::CollectedRows;
use super::fit::FitJob;
use crate::error::Result;
use crate::metrics::spread::{mean, sample_deviation};
use crate::models::Evaluation;

/// A model that takes part.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    /// Its column in the answer.
    pub name: String,
    /// How it is fitted: over all columns of the input.
    pub job: FitJob,
}

/// Which models are compared, and on how many folds.
#[derive(Debug, Clone)]
pub(crate) struct CompareJob {
    pub candidates: Vec<Candidate>,
    pub folds: usize,
    /// The columns of the input.
    pub columns: SchemaRef,
    /// The columns that are wanted of the answer, by index; all without.
    pub kept: Option<Vec<usize>>,
    /// Their schema.
    pub schema: SchemaRef,
    /// The schema of the whole answer: the metric, the statistic, then a column for each candidate.
    pub whole: SchemaRef,
}

/// What one candidate gave: each metric's name, with its values over the folds.
struct Judged {
    metrics: Vec<(String, Vec<f64>)>,
    duration_ms: f64,
}

impl Judged {
    fn of(names: Vec<String>, folds: &[Evaluation], duration_ms: f64) -> Self {
        let known = |at: usize| {
            folds
                .iter()
                .filter_map(|f| f.metrics.get(at).copied().flatten())
                .collect()
        };
        Self {
            metrics: names
                .into_iter()
                .enumerate()
                .map(|(at, name)| (name, known(at)))
                .collect(),
            duration_ms,
        }
    }

    /// The mean of a metric over the folds, or its sample deviation.
    fn value(&self, metric: &str, deviation: bool) -> Option<f64> {
        let (_, values) = self.metrics.iter().find(|(name, _)| name == metric)?;
        if deviation {
            sample_deviation(values)
        } else {
            mean(values)
        }
    }
}

impl Question for CompareJob {
    fn name(&self) -> &'static str {
        "CompareExec"
    }

    fn function(&self) -> String {
        "ML.COMPARE".into()
    }

    fn about(&self) -> String {
        let names: Vec<&str> = self.candidates.iter().map(|c| c.name.as_str()).collect();
        format!("{} on {} folds", names.join(", "), self.folds)
    }

    fn columns(&self) -> SchemaRef {
        Arc::clone(&self.columns)
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn kept(&self) -> Option<&[usize]> {
        self.kept.as_deref()
    }

    fn answer(&self, rows: &CollectedRows, task: &TaskContext, cancel: &AtomicBool) -> Result<RecordBatch> {
        let mut judged = vec![];
        for candidate in &self.candidates {
            let begun = Instant::now();
            let (names, folds) = candidate
                .job
                .learn(task, cancel, |learning| learning.judged_by_folds(rows, self.folds))?;
            judged.push(Judged::of(names, &folds, begun.elapsed().as_secs_f64() * 1e3));
        }
        // Every metric that one of them has, in the order in which they have them.
        let mut metrics: Vec<&String> = vec![];
        for (name, _) in judged.iter().flat_map(|j| &j.metrics) {
            if !metrics.contains(&name) {
                metrics.push(name);
            }
        }
        let rows: Vec<(&str, bool)> = metrics
            .iter()
            .flat_map(|m| [(m.as_str(), false), (m.as_str(), true)])
            .collect();
        let labels = rows.iter().map(|(metric, _)| *metric).chain(["duration_ms"]);
        let statistics = rows
            .iter()
            .map(|(_, deviation)| if *deviation { "stddev" } else { "mean" })
            .chain(["total"]);
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(labels)),
            Arc::new(StringArray::from_iter_values(statistics)),
        ];
        for j in &judged {
            let values = rows.iter().map(|(metric, deviation)| j.value(metric, *deviation));
            columns.push(Arc::new(values.chain([Some(j.duration_ms)]).collect::<Float64Array>()));
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.whole), columns)?)
    }
}
