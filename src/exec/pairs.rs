//! The pairs of the users, or of the items, of a query with all of the other side: streams, a few thousand pairs at a time.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
    SendableRecordBatchStream,
};
use futures::TryStreamExt;

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
#[derive(Debug)]
pub(crate) struct PairsExec {
    input: Arc<dyn ExecutionPlan>,
    job: PairsJob,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl PairsExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, job: PairsJob) -> Self {
        let partitions = input.output_partitioning().partition_count();
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&job.schema)),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        Self {
            input,
            job,
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl DisplayAs for PairsExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let manifest = &self.job.loaded.manifest;
        write!(f, "PairsExec: {}@{}", manifest.name, manifest.version)?;
        if let Some(k) = self.job.options.top_k {
            write!(f, ", top_k={k}")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for PairsExec {
    fn name(&self) -> &str {
        "PairsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.pop() {
            Some(input) if children.is_empty() => Ok(Arc::new(Self::new(input, self.job.clone()))),
            _ => internal_err!("PairsExec has one child"),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let rows_at_once = context.session_config().batch_size().max(1);
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let job = Arc::new(self.job.clone());
        let pairs = input
            .map_ok(move |batch| {
                let pieces = Pieces::new(Arc::clone(&job), batch, rows_at_once);
                let baseline = baseline.clone();
                futures::stream::iter(pieces).inspect_ok(move |batch| baseline.output_rows().add(batch.num_rows()))
            })
            .try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), pairs)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
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
