//! From the columns of a query to the features of a stored model.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::scalar::match_columns;
use crate::error::Result;
use crate::sql::relation::columns_of;
use crate::store::LoadedModel;

/// A query whose rows a model is to see.
pub(crate) struct ModelInputs {
    /// The query.
    pub plan: LogicalPlan,
    /// The query's own columns, by their names.
    pub columns: SchemaRef,
    /// The model's features over `plan`, in the model's order.
    pub features: Vec<Expr>,
}

impl ModelInputs {
    /// The inputs of `loaded` among the columns of `plan`, matched by name.
    ///
    /// # Errors
    /// A column is missing or of another kind than in training.
    pub(crate) fn of(function: &str, loaded: &Arc<LoadedModel>, plan: LogicalPlan) -> Result<Self> {
        let columns = columns_of(function, &plan)?;
        let given: Vec<_> = columns
            .fields()
            .iter()
            .map(|f| (f.name().clone(), Some(f.data_type().clone())))
            .collect();
        let used = match_columns(function, &loaded.manifest.name, loaded.model.feature_columns(), &given)?;
        let features = used.into_iter().map(|i| column(&plan, i)).collect();
        Ok(Self {
            plan,
            columns,
            features,
        })
    }

    /// Column `i` of the query.
    pub(crate) fn column(&self, i: usize) -> Expr {
        column(&self.plan, i)
    }
}

fn column(plan: &LogicalPlan, i: usize) -> Expr {
    Expr::Column(plan.schema().qualified_field(i).into())
}
