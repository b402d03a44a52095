//! The physical operator of every relation over a query: one child, and what is done with its rows.

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
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
    SendableRecordBatchStream,
};

/// What is done with the rows of a child.
pub(crate) trait Operation: fmt::Debug + Send + Sync {
    /// The operator's name in EXPLAIN.
    fn name(&self) -> &'static str;
    /// What EXPLAIN tells besides.
    fn about(&self) -> String;
    /// The columns that come of it.
    fn schema(&self) -> SchemaRef;
    /// How many partitions come of a child of so many.
    fn partitions(&self, child: usize) -> usize;
    /// Whether rows come while the child is read, or when all of it was.
    fn emission(&self) -> EmissionType;
    /// The same over another child, whose rows were not seen yet.
    fn renewed(self: Arc<Self>) -> Arc<dyn Operation>;
    /// The rows of one partition.
    ///
    /// # Errors
    /// The child cannot be executed.
    fn execute(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<SendableRecordBatchStream>;
}

/// An operation over a child.
#[derive(Debug)]
pub(crate) struct OperationExec {
    input: Arc<dyn ExecutionPlan>,
    operation: Arc<dyn Operation>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl OperationExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, operation: Arc<dyn Operation>) -> Self {
        let partitions = operation.partitions(input.output_partitioning().partition_count());
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(operation.schema()),
            Partitioning::UnknownPartitioning(partitions),
            operation.emission(),
            Boundedness::Bounded,
        ));
        Self {
            input,
            operation,
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl DisplayAs for OperationExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation.name(), self.operation.about())
    }
}

impl ExecutionPlan for OperationExec {
    fn name(&self) -> &str {
        self.operation.name()
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
            Some(input) if children.is_empty() => Ok(Arc::new(Self::new(input, Arc::clone(&self.operation).renewed()))),
            _ => internal_err!("{} has one child", self.name()),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.operation.execute(&self.input, partition, context, &self.metrics)
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
