//! The way in for functions in FROM: a planner that is asked for every table factor and answers for ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::{DataFusionError, TableReference};
use datafusion::datasource::{TableProvider, provider_as_source};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast;

use super::arguments::Arguments;
use super::dialect::is_function;
use super::functions::{RELATION_FUNCTIONS, RelationFunction};
use crate::error::{Error, Result, list, nearest};
use crate::session::Session;
use crate::settings::Settings;

/// What planning a relation may use.
pub(crate) struct PlanContext<'a> {
    pub session: Arc<Session>,
    pub settings: Settings,
    /// DataFusion's own planner.
    pub planner: &'a mut dyn RelationPlannerContext,
}

/// Answers for `KMEANS_SEGMENT(…)`, `ML.TRAIN(…)` and their like in FROM.
#[derive(Debug)]
pub(crate) struct FunctionPlanner {
    pub session: Arc<Session>,
}

impl RelationPlanner for FunctionPlanner {
    fn plan_relation(
        &self,
        relation: ast::TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning, DataFusionError> {
        let name = match &relation {
            ast::TableFactor::Table {
                name, args: Some(_), ..
            } => name,
            ast::TableFactor::Function { name, .. } => name,
            _ => return Ok(RelationPlanning::Original(Box::new(relation))),
        };
        let Some(function) = find(name)? else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let (args, alias) = match relation {
            ast::TableFactor::Table {
                args: Some(args),
                alias,
                sample,
                with_ordinality,
                ..
            } => {
                if sample.is_some() || with_ordinality {
                    return Err(Error::request(format!(
                        "{} takes neither TABLESAMPLE nor WITH ORDINALITY; put it in a subquery and write that there",
                        function.name()
                    ))
                    .into());
                }
                (args.args, alias)
            }
            ast::TableFactor::Function { args, alias, .. } => (args, alias),
            other => return Ok(RelationPlanning::Original(Box::new(other))),
        };
        let arguments = Arguments::plan(function.name(), args, context)?;
        let mut plan_context = PlanContext {
            session: Arc::clone(&self.session),
            settings: Session::settings_in(context.context_provider().options()),
            planner: context,
        };
        let plan = function.plan(arguments, &mut plan_context)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

/// The function of this name, in any case; none if the name is not ours.
fn find(name: &ast::ObjectName) -> Result<Option<&'static dyn RelationFunction>> {
    let parts: Vec<&str> = name
        .0
        .iter()
        .filter_map(|part| part.as_ident().map(|ident| ident.value.as_str()))
        .collect();
    let written = parts.join(".");
    if let Some(function) = RELATION_FUNCTIONS
        .iter()
        .find(|f| f.name().eq_ignore_ascii_case(&written))
    {
        return Ok(Some(function.as_ref()));
    }
    if parts.len() == 2 && parts[0].eq_ignore_ascii_case("ml") {
        let names = || {
            RELATION_FUNCTIONS
                .iter()
                .map(|f| f.name())
                .filter(|n| n.starts_with("ML."))
        };
        if is_function(&written) {
            return Err(Error::request(format!(
                "{} is a function of BigQuery ML that is not here; the functions are {}",
                written.to_uppercase(),
                list(names(), 40)
            )));
        }
        let hint = nearest(&written, names())
            .map(|n| format!("did you mean {n}? "))
            .unwrap_or_default();
        return Err(Error::request(format!(
            "there is no relation function {written}; {hint}the functions are {}",
            list(names(), 40)
        )));
    }
    Ok(None)
}

/// A scan of one of our providers, named as the function is.
///
/// DataFusion takes two scans of one name and one schema for the same relation, and merges subqueries that differ in nothing
/// else; so each call has a name of its own beneath the one that the query sees.
pub(crate) fn scan(function: &str, provider: Arc<dyn TableProvider>) -> Result<LogicalPlan> {
    static CALLS: AtomicU64 = AtomicU64::new(1);
    let name = function.rsplit('.').next().unwrap_or(function).to_lowercase();
    let unique = format!("{name}#{}", CALLS.fetch_add(1, Ordering::Relaxed));
    let scan = LogicalPlanBuilder::scan(TableReference::bare(unique), provider_as_source(provider), None)?;
    Ok(scan.alias(name)?.build()?)
}

/// The columns of a query, by their own names.
///
/// # Errors
/// Two columns have one name.
pub(crate) fn columns_of(function: &str, plan: &LogicalPlan) -> Result<SchemaRef> {
    let schema = Arc::new(Schema::new(
        plan.schema()
            .fields()
            .iter()
            .map(|f| f.as_ref().clone().with_nullable(true))
            .collect::<Vec<_>>(),
    ));
    let mut names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|w| w[0] == w[1]) {
        return Err(Error::request(format!(
            "{function}: two columns of the query are called '{}'; give each a name of its own with AS",
            pair[0]
        )));
    }
    Ok(schema)
}

/// That none of the columns that a function adds is among the query's.
///
/// # Errors
/// One is, by name.
pub(crate) fn check_new_columns(function: &str, columns: &Schema, added: &[FieldRef]) -> Result<()> {
    match added
        .iter()
        .find(|f| columns.fields().iter().any(|c| c.name() == f.name()))
    {
        None => Ok(()),
        Some(field) => Err(Error::request(format!(
            "{function} adds a column '{0}', and the query has one of that name already; rename it with AS",
            field.name()
        ))),
    }
}

/// Only these columns of a query.
pub(crate) fn keep_columns(plan: LogicalPlan, columns: &[usize]) -> Result<LogicalPlan, DataFusionError> {
    let exprs: Vec<_> = columns
        .iter()
        .map(|i| {
            datafusion::logical_expr::Expr::Column(datafusion::common::Column::from(plan.schema().qualified_field(*i)))
        })
        .collect();
    LogicalPlanBuilder::from(plan).project(exprs)?.build()
}
