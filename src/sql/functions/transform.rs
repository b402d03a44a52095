//! `FROM ML.TRANSFORM('model', (query))`: what a model's TRANSFORM makes of a query.

use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};

use super::RelationFunction;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::sql::arguments::Arguments;
use crate::sql::help::{Form, Topic};
use crate::sql::relation::{PlanContext, columns_of};
use crate::sql::transform;

const NAME: &str = "ML.TRANSFORM";

/// `ML.TRANSFORM`.
pub(crate) struct TransformFunction;

impl RelationFunction for TransformFunction {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, mut arguments: Arguments, context: &mut PlanContext<'_>) -> Result<LogicalPlan> {
        let (name, input) = arguments.model_and_query()?;
        Options::parse(NAME, [], arguments.named)?;
        let loaded = context.session.model(&context.settings, &name)?;
        let Some(list) = &loaded.manifest.training.transform else {
            return Err(Error::request(format!(
                "{NAME}: model '{name}' was trained without TRANSFORM; its features are columns of the query as they are"
            )));
        };
        columns_of(NAME, &input)?;
        let (made, missing) = transform::applied(NAME, list, &input, context.planner)?;
        // The label, which a query for prediction does not have, is no feature; all else must be there.
        let label = loaded.model.label().unwrap_or_default();
        if let Some((_, error)) = missing.into_iter().find(|(n, _)| !n.eq_ignore_ascii_case(label)) {
            return Err(error);
        }
        let exprs: Vec<Expr> = made.into_iter().map(|c| c.expr.alias(c.name)).collect();
        Ok(LogicalPlanBuilder::from(input)
            .project(exprs)?
            .alias("transform")?
            .build()?)
    }

    fn topics(&self) -> Vec<Topic> {
        vec![Topic {
            name: NAME.into(),
            form: Form::Model,
            syntax: format!("FROM {NAME}('model', (query))"),
            summary: "What the TRANSFORM of a stored model makes of each row of a query, by what it learned from the training rows.".into(),
            options: vec![],
            example: "SELECT * FROM ML.TRANSFORM('scaled', (SELECT * FROM customers))".into(),
        }]
    }
}
