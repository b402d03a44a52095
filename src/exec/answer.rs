//! What reads its input once and then gives one batch: how good a model is, how models compare.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::execution_plan::EmissionType;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};

use super::collect::CollectedRows;
use super::fit::CancelOnDrop;
use super::operator::Operation;
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
pub(crate) struct Answer(pub Arc<dyn Question>);

impl Operation for Answer {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn about(&self) -> String {
        self.0.about()
    }

    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn partitions(&self, _child: usize) -> usize {
        1
    }

    fn emission(&self) -> EmissionType {
        EmissionType::Final
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
        let (input, question) = (Arc::clone(input), Arc::clone(&self.0));
        let baseline = BaselineMetrics::new(metrics, partition);
        let schema = self.0.schema();
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
}
