//! The rows that a model is trained on: a query, and what TRANSFORM makes of its columns.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};

use crate::error::{Error, Result};
use crate::exec::{FeatureCall, TransformColumn, TransformJob};
use crate::sql::relation::{PlanContext, columns_of, keep_columns};
use crate::sql::transform;

const NAME: &str = "ML.TRAIN";

/// A query to learn from.
#[derive(Debug)]
pub(crate) struct Source {
    /// The query.
    pub plan: LogicalPlan,
    /// Its columns, by their own names.
    pub columns: SchemaRef,
    /// What is made of them before a model sees them.
    pub transform: Option<TransformJob>,
}

impl Source {
    /// A query, its columns as they are or as the select list `list` makes them. A column that only TRANSFORM makes and that is to
    /// split the rows is added to the query.
    ///
    /// # Errors
    /// The list cannot be read or planned.
    pub(crate) fn plan(
        input: LogicalPlan,
        list: Option<&str>,
        split_column: Option<&str>,
        context: &mut PlanContext<'_>,
    ) -> Result<Self> {
        let columns = columns_of(NAME, &input)?;
        let Some(list) = list else {
            return Self::flat(input);
        };
        let list = transform::read(NAME, list, &columns)?;
        let mut made = vec![];
        for (item, entry) in list.items.iter().enumerate() {
            let expr = transform::plan(NAME, entry, input.schema(), context.planner)?;
            made.push(TransformColumn {
                name: entry.name.clone(),
                item,
                expr,
            });
        }
        let input = with_split(input, split_column, &made)?;
        let made = transform::flattened(made, input.schema())?;
        let kept = read_columns(&input, &made, split_column)?;
        let plan = keep_columns(input, &kept)?;
        let schema: DFSchema = plan.schema().as_ref().clone();
        Ok(Self {
            columns: columns_of(NAME, &plan)?,
            transform: Some(TransformJob::new(list, made, schema)?),
            plan,
        })
    }

    /// A query whose structs are taken apart.
    fn flat(input: LogicalPlan) -> Result<Self> {
        let plan = if transform::has_structs(&input) {
            let columns = transform::plain_columns(&input)?;
            let exprs: Vec<Expr> = columns.into_iter().map(|c| c.expr.alias(c.name)).collect();
            LogicalPlanBuilder::from(input).project(exprs)?.build()?
        } else {
            input
        };
        Ok(Self {
            columns: columns_of(NAME, &plan)?,
            transform: None,
            plan,
        })
    }

    /// The columns that the model sees.
    pub(crate) fn seen(&self) -> SchemaRef {
        match &self.transform {
            Some(job) => Arc::clone(&job.schema),
            None => Arc::clone(&self.columns),
        }
    }
}

/// The query with the column that splits its rows, if only TRANSFORM makes that.
fn with_split(input: LogicalPlan, split_column: Option<&str>, made: &[TransformColumn]) -> Result<LogicalPlan> {
    let Some(name) = split_column else {
        return Ok(input);
    };
    let same = |n: &str| n.eq_ignore_ascii_case(name);
    let own = input.schema().fields().iter().any(|f| same(f.name()));
    let Some(column) = made.iter().find(|c| same(&c.name)).filter(|_| !own) else {
        return Ok(input);
    };
    if column
        .expr
        .exists(|e| Ok(FeatureCall::of(e).is_some_and(|(call, _)| call.open().is_some())))?
    {
        return Err(Error::request(format!(
            "{NAME}: data_split_col '{name}' is learned from the rows that it would split; take a column of the query"
        )));
    }
    let all = input
        .schema()
        .iter()
        .map(|(qualifier, field)| Expr::Column((qualifier, field).into()));
    let exprs: Vec<Expr> = all.chain([column.expr.clone().alias(&column.name)]).collect();
    Ok(LogicalPlanBuilder::from(input).project(exprs)?.build()?)
}

/// The columns of a query that expressions read, and the one that splits the rows.
fn read_columns(input: &LogicalPlan, made: &[TransformColumn], split_column: Option<&str>) -> Result<Vec<usize>> {
    let schema = input.schema();
    let mut kept = BTreeSet::new();
    for column in made {
        column.expr.apply(|e| {
            if let Expr::Column(c) = e {
                kept.insert(schema.index_of_column(c)?);
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    if let Some(name) = split_column {
        kept.extend(schema.fields().iter().position(|f| f.name().eq_ignore_ascii_case(name)));
    }
    // Rows are counted by a column.
    if kept.is_empty() && !schema.fields().is_empty() {
        kept.insert(0);
    }
    Ok(kept.into_iter().collect())
}
