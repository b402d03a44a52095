//! The table of a relation over a query: planned physically when it is scanned, and the query with it.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session as CatalogSession;
use datafusion::common::Result;
use datafusion::datasource::{TableProvider, TableType};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;

use crate::sql::relation::scan;

/// A relation over a query.
#[async_trait]
pub(crate) trait OverQuery: Debug + Send + Sync {
    /// All of its columns.
    fn schema(&self) -> SchemaRef;

    /// The operator that gives these of its columns.
    ///
    /// # Errors
    /// The query cannot be planned.
    async fn plan(&self, state: &dyn CatalogSession, wanted: &[usize]) -> Result<Arc<dyn ExecutionPlan>>;
}

/// The plan of a call of `function` that is a relation over a query.
///
/// # Errors
/// DataFusion refuses the table.
pub(crate) fn scan_of(function: &str, relation: impl OverQuery + 'static) -> crate::error::Result<LogicalPlan> {
    scan(function, Arc::new(QueryTable(relation)))
}

/// Its table.
#[derive(Debug)]
struct QueryTable<R>(R);

#[async_trait]
impl<R: OverQuery + 'static> TableProvider for QueryTable<R> {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn CatalogSession,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let wanted: Vec<usize> = match projection {
            Some(wanted) => wanted.clone(),
            None => (0..self.0.schema().fields().len()).collect(),
        };
        self.0.plan(state, &wanted).await
    }
}
