//! What fits over its child, once, and gives an output made of the result.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::execution_plan::EmissionType;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use futures::TryStreamExt;
use futures::stream::BoxStream;

use super::fit::{FitJob, FitResult, Once};
use super::operator::Operation;

/// What a relation makes of a fit.
pub(crate) trait FitOutput: fmt::Debug + Send + Sync {
    /// The operator's name in EXPLAIN.
    fn name(&self) -> &'static str;
    /// How many partitions come of an input of so many.
    fn partitions(&self, input: usize) -> usize;
    /// The batches of one partition.
    fn batches(
        &self,
        result: Arc<FitResult>,
        partition: usize,
        context: &OutputContext,
    ) -> BoxStream<'static, Result<datafusion::arrow::array::RecordBatch>>;
}

/// What an output may use.
pub(crate) struct OutputContext {
    pub job: FitJob,
    pub schema: SchemaRef,
    pub task: Arc<TaskContext>,
    pub baseline: BaselineMetrics,
    pub metrics: ExecutionPlanMetricsSet,
}

/// Fits over its child, once, then gives its output.
#[derive(Debug)]
pub(crate) struct Fit {
    job: FitJob,
    output: Arc<dyn FitOutput>,
    schema: SchemaRef,
    fit: Arc<Once<FitResult>>,
}

impl Fit {
    /// Of an output with these columns.
    pub(crate) fn new(job: FitJob, output: Arc<dyn FitOutput>, schema: SchemaRef) -> Self {
        Self {
            job,
            output,
            schema,
            fit: Arc::new(Once::new()),
        }
    }
}

impl Operation for Fit {
    fn name(&self) -> &'static str {
        self.output.name()
    }

    fn about(&self) -> String {
        let mut about = format!("model_type={}", self.job.model_type.name());
        for (name, value) in self.job.options.iter() {
            about += &format!(", {name}={value}");
        }
        // EXPLAIN ANALYZE shows the plan after it ran.
        if let Some(result) = self.fit.result() {
            about += &format!(", device={}", result.device);
        }
        about
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn partitions(&self, child: usize) -> usize {
        self.output.partitions(child)
    }

    fn emission(&self) -> EmissionType {
        EmissionType::Final
    }

    fn renewed(self: Arc<Self>) -> Arc<dyn Operation> {
        Arc::new(Self::new(
            self.job.clone(),
            Arc::clone(&self.output),
            Arc::clone(&self.schema),
        ))
    }

    fn execute(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<SendableRecordBatchStream> {
        let schema = Arc::clone(&self.schema);
        let fit = Arc::clone(&self.fit);
        let (job, input) = (self.job.clone(), Arc::clone(input));
        let output = Arc::clone(&self.output);
        let output_context = OutputContext {
            job: job.clone(),
            schema: Arc::clone(&schema),
            task: Arc::clone(&context),
            baseline: BaselineMetrics::new(metrics, partition),
            metrics: metrics.clone(),
        };
        let metrics = metrics.clone();
        let stream = futures::stream::once(async move {
            let result = fit.get(move || job.run(input, context, metrics)).await?;
            Ok::<_, datafusion::common::DataFusionError>(output.batches(result, partition, &output_context))
        })
        .try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }
}
