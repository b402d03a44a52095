//! From the columns of a query to the features of a stored model.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};

use super::scalar::match_columns;
use crate::error::{Error, Result};
use crate::exec::TransformColumn;
use crate::models::column_index;
use crate::options::{OptionSpec, Options, Value};
use crate::sql::relation::{PlanContext, columns_of};
use crate::sql::transform;
use crate::store::LoadedModel;

/// The options of a function over a model.
///
/// # Errors
/// An option that the function does not have, or that this model does not take.
pub(crate) fn model_options(
    function: &str,
    specs: &[OptionSpec],
    named: Vec<(String, Value)>,
    name: &str,
    loaded: &LoadedModel,
) -> Result<Options> {
    let is_threshold = |o: &OptionSpec| o.name == "threshold";
    let has_none = !loaded.model.takes_threshold() && specs.iter().any(is_threshold);
    if has_none && named.iter().any(|(option, _)| option.eq_ignore_ascii_case("threshold")) {
        return Err(Error::request(format!(
            "{function}: option 'threshold' is for classifiers of two classes, and model '{name}' is a {}; leave it out",
            loaded.model.kind()
        )));
    }
    Options::parse(function, specs.iter().filter(|o| !has_none || !is_threshold(o)), named)
}

/// A query whose rows a model is to see.
pub(crate) struct ModelInputs {
    /// The query.
    pub plan: LogicalPlan,
    /// The query's own columns, by their names.
    pub columns: SchemaRef,
    /// The model's features over `plan`, in the model's order.
    pub features: Vec<Expr>,
    /// What the model's TRANSFORM makes of the query, or its columns as they are.
    made: Vec<TransformColumn>,
    /// Items of TRANSFORM that the query cannot serve, and why.
    missing: Vec<transform::Missing>,
}

impl ModelInputs {
    /// The inputs of `loaded` among the columns of `plan`, through the model's TRANSFORM, matched by name.
    ///
    /// # Errors
    /// A column is missing or of another kind than in training.
    pub(crate) fn of(
        function: &str,
        loaded: &Arc<LoadedModel>,
        plan: LogicalPlan,
        context: &mut PlanContext<'_>,
    ) -> Result<Self> {
        let columns = columns_of(function, &plan)?;
        let (made, mut missing) = match &loaded.manifest.training.transform {
            Some(list) => {
                let (made, missing) = transform::applied(function, list, &plan, context.planner)?;
                (transform::flattened(made, plan.schema())?, missing)
            }
            None => (transform::plain_columns(&plan)?, vec![]),
        };
        let given = made
            .iter()
            .map(|c| Ok((c.name.clone(), Some(c.expr.get_type(plan.schema())?))))
            .collect::<Result<Vec<_>>>()?;
        let expected = loaded.model.feature_columns();
        let used = match_columns(function, &loaded.manifest.name, expected, &given).map_err(|error| {
            // An item of TRANSFORM that failed says better what is missing.
            let made_of = |item: &str| {
                expected.iter().any(|f| {
                    !given.iter().any(|(n, _)| n.eq_ignore_ascii_case(&f.name))
                        && (f.name == item || f.name.starts_with(&format!("{item}_")))
                })
            };
            match missing.iter().position(|(item, _)| made_of(item)) {
                Some(at) => missing.swap_remove(at).1,
                None => error,
            }
        })?;
        let features = used.into_iter().map(|i| made[i].expr.clone()).collect();
        Ok(Self {
            plan,
            columns,
            features,
            made,
            missing,
        })
    }

    /// Column `i` of the query.
    pub(crate) fn column(&self, i: usize) -> Expr {
        Expr::Column(self.plan.schema().qualified_field(i).into())
    }

    /// The label, by its name.
    ///
    /// # Errors
    /// The query has none, or TRANSFORM cannot make it of the query's columns.
    pub(crate) fn label(&self, function: &str, name: &str) -> Result<Expr> {
        let same = |n: &str| n.eq_ignore_ascii_case(name);
        if let Some(made) = self.made.iter().find(|c| same(&c.name)) {
            return Ok(made.expr.clone());
        }
        if let Some((_, why)) = self.missing.iter().find(|(n, _)| same(n)) {
            return Err(Error::request(format!(
                "{function}: the label '{name}' cannot be made: {why}"
            )));
        }
        Ok(self.column(column_index(function, &self.columns, name)?))
    }

    /// The type of an expression over the query.
    ///
    /// # Errors
    /// DataFusion finds none.
    pub(crate) fn type_of(&self, expr: &Expr) -> Result<DataType> {
        Ok(expr.get_type(self.plan.schema())?)
    }
}
