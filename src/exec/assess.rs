//! How good a stored model is on the rows of a query: reads them once, then asks the model.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream,
};

use super::collect::CollectedRows;
use super::fit::CancelOnDrop;
use crate::error::Error;
use crate::models::Rows;
use crate::options::Options;
use crate::store::LoadedModel;

/// What is asked of which model.
#[derive(Debug, Clone)]
pub(crate) struct AssessJob {
    pub loaded: Arc<LoadedModel>,
    /// The function's last word, such as `EVALUATE`.
    pub word: &'static str,
    pub options: Options,
    /// The columns of the input: the model's features in its order, then its label if it has one.
    pub columns: SchemaRef,
    /// The columns that are wanted of the answer, by index; all without.
    pub kept: Option<Vec<usize>>,
    /// Their schema.
    pub schema: SchemaRef,
}

/// Reads its child once and gives the model's answer.
#[derive(Debug)]
pub(crate) struct AssessExec {
    input: Arc<dyn ExecutionPlan>,
    job: AssessJob,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl AssessExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, job: AssessJob) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&job.schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
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

impl DisplayAs for AssessExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let manifest = &self.job.loaded.manifest;
        write!(
            f,
            "AssessExec: {} of {}@{}",
            self.job.word, manifest.name, manifest.version
        )
    }
}

impl ExecutionPlan for AssessExec {
    fn name(&self) -> &str {
        "AssessExec"
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
            _ => internal_err!("AssessExec has one child"),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (input, job) = (Arc::clone(&self.input), self.job.clone());
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let schema = Arc::clone(&self.job.schema);
        let answer = async move {
            let rows = CollectedRows::read(&input, Arc::clone(&job.columns), &context).await?;
            let cancel = Arc::new(AtomicBool::new(false));
            let guard = CancelOnDrop(Arc::clone(&cancel));
            let task = tokio::task::spawn_blocking(move || {
                if rows.row_count() == 0 {
                    return Err(Error::data(format!(
                        "ML.{}: the query gives no rows; there is nothing to judge the model by",
                        job.word
                    )));
                }
                let stop = || cancel.load(Ordering::Relaxed);
                let answer = job.loaded.model.assess(job.word, &rows, &job.options, &stop)?;
                Ok(match &job.kept {
                    Some(kept) => answer.project(kept)?,
                    None => answer,
                })
            });
            let batch = task
                .await
                .map_err(|e| DataFusionError::Execution(format!("the assessment ended abnormally: {e}")))??;
            drop(guard);
            baseline.output_rows().add(batch.num_rows());
            Ok(batch)
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            schema,
            futures::stream::once(answer),
        )))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
