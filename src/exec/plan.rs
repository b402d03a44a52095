//! The physical operator of every relation that fits: one child, fitted once, and an output made of the result.

use std::fmt;
use std::sync::Arc;

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
use futures::stream::BoxStream;

use super::fit::{FitJob, FitResult, Once};

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
pub(crate) struct FitExec {
    input: Arc<dyn ExecutionPlan>,
    job: FitJob,
    output: Arc<dyn FitOutput>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    fit: Arc<Once<FitResult>>,
}

impl FitExec {
    pub(crate) fn new(
        input: Arc<dyn ExecutionPlan>,
        job: FitJob,
        output: Arc<dyn FitOutput>,
        schema: SchemaRef,
    ) -> Self {
        let partitions = output.partitions(input.output_partitioning().partition_count());
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Final,
            Boundedness::Bounded,
        ));
        let metrics = ExecutionPlanMetricsSet::new();
        Self {
            input,
            job,
            output,
            properties,
            metrics,
            fit: Arc::new(Once::new()),
        }
    }
}

impl DisplayAs for FitExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: model_type={}", self.output.name(), self.job.model_type.name())?;
        for (name, value) in self.job.options.iter() {
            write!(f, ", {name}={value}")?;
        }
        // EXPLAIN ANALYZE shows the plan after it ran.
        if let Some(result) = self.fit.result() {
            write!(f, ", device={}", result.device)?;
        }
        Ok(())
    }
}

impl ExecutionPlan for FitExec {
    fn name(&self) -> &str {
        self.output.name()
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
            Some(input) if children.is_empty() => Ok(Arc::new(Self::new(
                input,
                self.job.clone(),
                Arc::clone(&self.output),
                self.schema(),
            ))),
            _ => internal_err!("{} has one child", self.name()),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = self.schema();
        let fit = Arc::clone(&self.fit);
        let (job, input, metrics) = (self.job.clone(), Arc::clone(&self.input), self.metrics.clone());
        let output = Arc::clone(&self.output);
        let output_context = OutputContext {
            job: job.clone(),
            schema: Arc::clone(&schema),
            task: Arc::clone(&context),
            baseline: BaselineMetrics::new(&self.metrics, partition),
            metrics: self.metrics.clone(),
        };
        let stream = futures::stream::once(async move {
            let result = fit.get(move || job.run(input, context, metrics)).await?;
            Ok::<_, datafusion::common::DataFusionError>(output.batches(result, partition, &output_context))
        })
        .try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
