//! The physical operator of every relation that reads its input once and then gives one batch: how good a model is, how models compare.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use datafusion::arrow::array::RecordBatch;
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
use crate::models::Rows;

/// What is asked of the rows of a query.
pub(crate) trait Question: fmt::Debug + Send + Sync {
    /// The operator's name in EXPLAIN.
    fn name(&self) -> &'static str;
    /// The function as errors name it.
    fn function(&self) -> String;
    /// What EXPLAIN tells besides.
    fn about(&self) -> String;
    /// The columns of the input, as planned.
    fn columns(&self) -> SchemaRef;
    /// The columns of the answer.
    fn schema(&self) -> SchemaRef;
    /// Which of them are wanted, by index; all without.
    fn kept(&self) -> Option<&[usize]>;
    /// The answer, of all columns. Once `cancel` is set nobody waits for it.
    ///
    /// # Errors
    /// There is no row, or the rows are not what the question takes.
    fn answer(
        &self,
        rows: &CollectedRows,
        task: &TaskContext,
        cancel: &AtomicBool,
    ) -> crate::error::Result<RecordBatch>;
}

/// Reads its child once and gives the answer.
#[derive(Debug)]
pub(crate) struct AnswerExec {
    input: Arc<dyn ExecutionPlan>,
    question: Arc<dyn Question>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl AnswerExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, question: Arc<dyn Question>) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(question.schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        ));
        Self {
            input,
            question,
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl DisplayAs for AnswerExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.question.name(), self.question.about())
    }
}

impl ExecutionPlan for AnswerExec {
    fn name(&self) -> &str {
        self.question.name()
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
            Some(input) if children.is_empty() => Ok(Arc::new(Self::new(input, Arc::clone(&self.question)))),
            _ => internal_err!("{} has one child", self.name()),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (input, question) = (Arc::clone(&self.input), Arc::clone(&self.question));
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let schema = self.question.schema();
        let answer = async move {
            let rows = CollectedRows::read(&input, question.columns(), &context).await?;
            let cancel = Arc::new(AtomicBool::new(false));
            let guard = CancelOnDrop(Arc::clone(&cancel));
            let task = tokio::task::spawn_blocking(move || -> crate::error::Result<RecordBatch> {
                if rows.row_count() == 0 {
                    return Err(crate::error::Error::data(format!(
                        "{}: the query gives no rows; there is nothing to judge the model by",
                        question.function()
                    )));
                }
                let answer = question.answer(&rows, &context, &cancel)?;
                Ok(match question.kept() {
                    Some(kept) => answer.project(kept)?,
                    None => answer,
                })
            });
            let batch = task
                .await
                .map_err(|e| DataFusionError::Execution(format!("the answer ended abnormally: {e}")))??;
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
