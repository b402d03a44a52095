//! The pairs of the users, or of the items, of a query with all of the other side: streams, a few thousand pairs at a time.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::execution_plan::EmissionType;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use futures::TryStreamExt;

use super::operator::Operation;
use crate::error::Error;
use crate::models::{Given, PairOptions, Recommender};
use crate::store::LoadedModel;

/// What is asked of which model.
#[derive(Debug, Clone)]
pub(crate) struct PairsJob {
    pub loaded: Arc<LoadedModel>,
    pub given: Given,
    pub options: PairOptions,
    /// The column of the input that has the users or items.
    pub id: usize,
    /// What the output has, in order.
    pub columns: Vec<PairColumn>,
    pub schema: SchemaRef,
}

/// A column of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PairColumn {
    /// Column `.0` of the input.
    Input(usize),
    /// The value that is filled in.
    Partner,
    /// What the model says of the pair.
    Score,
}

/// As many partitions as its child, each with the pairs of its rows in their order.
impl Operation for PairsJob {
    fn name(&self) -> &'static str {
        "PairsExec"
    }

    fn about(&self) -> String {
        let manifest = &self.loaded.manifest;
        let top = self.options.top_k.map(|k| format!(", top_k={k}")).unwrap_or_default();
        format!("{}@{}{top}", manifest.name, manifest.version)
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn partitions(&self, child: usize) -> usize {
        child
    }

    fn emission(&self) -> EmissionType {
        EmissionType::Incremental
    }

    fn renewed(self: Arc<Self>) -> Arc<dyn Operation> {
        self
    }

    fn execute(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<SendableRecordBatchStream> {
        let input = input.execute(partition, Arc::clone(&context))?;
        let rows_at_once = context.session_config().batch_size().max(1);
        let baseline = BaselineMetrics::new(metrics, partition);
        let job = Arc::new(self.clone());
        let pairs = input
            .map_ok(move |batch| {
                let pieces = Pieces::new(Arc::clone(&job), batch, rows_at_once);
                let baseline = baseline.clone();
                futures::stream::iter(pieces).inspect_ok(move |batch| baseline.output_rows().add(batch.num_rows()))
            })
            .try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), pairs)))
    }
}

/// The output of one batch of input, a piece at a time: nothing is worked out before it is asked for.
struct Pieces {
    job: Arc<PairsJob>,
    batch: RecordBatch,
    rows_at_once: usize,
    /// Rows of `batch` that are done.
    done: usize,
    /// Pairs that were found and not given yet.
    left: Option<RecordBatch>,
}

impl Pieces {
    fn new(job: Arc<PairsJob>, batch: RecordBatch, rows_at_once: usize) -> Self {
        Self {
            job,
            batch,
            rows_at_once,
            done: 0,
            left: None,
        }
    }

    fn recommender(&self) -> crate::error::Result<&dyn Recommender> {
        let recommender = self.job.loaded.model.recommender();
        recommender.ok_or_else(|| Error::request("the model ranks no items"))
    }

    /// The pairs of the next rows: so many rows as give about [`Pieces::rows_at_once`], one at least.
    fn find(&mut self) -> Result<RecordBatch> {
        let job = &self.job;
        let recommender = self.recommender()?;
        let others = match job.given {
            Given::User => recommender.items().len(),
            Given::Item => recommender.users().len(),
        };
        let each = job.options.top_k.unwrap_or(others).min(others).max(1);
        let rows = (self.rows_at_once / each).clamp(1, self.batch.num_rows() - self.done);
        let some = self.batch.slice(self.done, rows);
        let pairs = recommender.pairs(job.given, some.column(job.id), job.options)?;
        let scores: ArrayRef = Arc::new(pairs.scores);
        let columns = job
            .columns
            .iter()
            .map(|column| {
                Ok(match column {
                    PairColumn::Input(i) => take(some.column(*i), &pairs.rows, None)?,
                    PairColumn::Partner => Arc::clone(&pairs.partners),
                    PairColumn::Score => Arc::clone(&scores),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(pairs.rows.len()));
        self.done += rows;
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.job.schema),
            columns,
            &options,
        )?)
    }
}

impl Iterator for Pieces {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(left) = self.left.take() {
                let rows = left.num_rows().min(self.rows_at_once);
                if rows < left.num_rows() {
                    self.left = Some(left.slice(rows, left.num_rows() - rows));
                }
                if rows > 0 {
                    return Some(Ok(left.slice(0, rows)));
                }
            }
            if self.done >= self.batch.num_rows() {
                return None;
            }
            match self.find() {
                Ok(found) => self.left = Some(found),
                Err(error) => {
                    self.done = self.batch.num_rows();
                    return Some(Err(error));
                }
            }
        }
    }
}
