//! The arguments of a relation function: queries, constants, and options by name.

use datafusion::common::{DFSchema, DataFusionError};
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::sqlparser::ast;

use crate::error::{Error, Result};
use crate::options::{Value, value_of};

/// What stands between the brackets of a relation function.
#[derive(Debug)]
pub(crate) struct Arguments {
    /// The function as errors name it.
    pub function: &'static str,
    positional: Vec<Argument>,
    /// Options by name, as written.
    pub named: Vec<(String, Value)>,
}

#[derive(Debug)]
enum Argument {
    Query(Box<LogicalPlan>),
    Constant(Value),
}

impl Arguments {
    /// Plans the queries and evaluates the constants.
    pub(crate) fn plan(
        function: &'static str,
        args: Vec<ast::FunctionArg>,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<Self, DataFusionError> {
        let mut out = Self {
            function,
            positional: vec![],
            named: vec![],
        };
        for arg in args {
            match arg {
                ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(e)) => {
                    // BigQuery ML puts the options of some functions before the query.
                    if !out.named.is_empty() && subquery(&e).is_none() {
                        return Err(Error::request(format!(
                            "{function}: '{e}' stands after options by name; put it before them, or give it a name with =>"
                        ))
                        .into());
                    }
                    let argument = match subquery(&e) {
                        Some(query) => Argument::Query(Box::new(plan_query(query, context)?)),
                        None => Argument::Constant(constant(function, None, e, context)?),
                    };
                    out.positional.push(argument);
                }
                ast::FunctionArg::Named {
                    name,
                    arg: ast::FunctionArgExpr::Expr(e),
                    ..
                } => {
                    let value = constant(function, Some(&name.value), e, context)?;
                    out.named.push((name.value, value));
                }
                ast::FunctionArg::ExprNamed {
                    name,
                    arg: ast::FunctionArgExpr::Expr(e),
                    ..
                } => {
                    let name = match name {
                        ast::Expr::Identifier(ident) => ident.value,
                        other => other.to_string(),
                    };
                    let value = constant(function, Some(&name), e, context)?;
                    out.named.push((name, value));
                }
                other => {
                    return Err(Error::request(format!(
                        "{function} does not take '{other}'; it takes a query in brackets, (SELECT …), and options, name => value"
                    ))
                    .into());
                }
            }
        }
        Ok(out)
    }

    /// The positional arguments, if they are one query.
    pub(crate) fn one_query(&mut self) -> Result<LogicalPlan> {
        match (self.positional.len(), self.positional.pop()) {
            (1, Some(Argument::Query(q))) => Ok(*q),
            _ => Err(Error::request(format!(
                "{0} takes a query in double brackets and then options by name: {0}((SELECT …), name => value)",
                self.function
            ))),
        }
    }

    /// The positional arguments, if they are a model's name and a query.
    pub(crate) fn model_and_query(&mut self) -> Result<(String, LogicalPlan)> {
        if let (2, Some(Argument::Query(q))) = (self.positional.len(), self.positional.pop())
            && let Some(Argument::Constant(Value::Text(name))) = self.positional.pop()
        {
            return Ok((name, *q));
        }
        Err(Error::request(format!(
            "{0} takes a model's name, a query in brackets and then options by name: {0}('model', (SELECT …), name => value)",
            self.function
        )))
    }

    /// Takes the constant after the query, if there is one, for the option `name`, as BigQuery ML has some.
    pub(crate) fn name_last(&mut self, name: &str) {
        if let [_, Argument::Query(_), Argument::Constant(value)] = self.positional.as_slice() {
            self.named.push((name.to_string(), value.clone()));
            self.positional.pop();
        }
    }

    /// How many positional arguments there are.
    pub(crate) fn positional_count(&self) -> usize {
        self.positional.len()
    }

    /// The positional arguments, if they are one model's name.
    pub(crate) fn one_model(&mut self) -> Result<String> {
        match (self.positional.len(), self.positional.pop()) {
            (1, Some(Argument::Constant(Value::Text(name)))) => Ok(name),
            _ => Err(Error::request(format!(
                "{0} takes a model's name: {0}('model')",
                self.function
            ))),
        }
    }

    /// Whether the first argument is a constant, as a model's name is.
    pub(crate) fn starts_with_constant(&self) -> bool {
        matches!(self.positional.first(), Some(Argument::Constant(_)))
    }
}

/// The query inside brackets, if it is one.
fn subquery(e: &ast::Expr) -> Option<Box<ast::Query>> {
    match e {
        ast::Expr::Subquery(query) => Some(query.clone()),
        ast::Expr::Nested(inner) => subquery(inner),
        _ => None,
    }
}

/// As a derived table, so that common table expressions and outer names resolve.
fn plan_query(
    query: Box<ast::Query>,
    context: &mut dyn RelationPlannerContext,
) -> Result<LogicalPlan, DataFusionError> {
    context.plan(ast::TableFactor::Derived {
        lateral: false,
        subquery: query,
        alias: None,
        sample: None,
    })
}

/// What an option is called that is searched between two bounds.
pub(crate) const HPARAM_RANGE: &str = "hparam_range";
/// What an option is called that is searched among values.
pub(crate) const HPARAM_CANDIDATES: &str = "hparam_candidates";

/// The arguments of `HPARAM_RANGE(low, high)` or of `HPARAM_CANDIDATES([…])`, with the word.
fn searched(e: &ast::Expr) -> Option<(&'static str, Vec<ast::Expr>)> {
    let ast::Expr::Function(call) = e else {
        return None;
    };
    let name = call.name.to_string();
    let word = [HPARAM_RANGE, HPARAM_CANDIDATES]
        .into_iter()
        .find(|w| name.eq_ignore_ascii_case(w))?;
    let ast::FunctionArguments::List(list) = &call.args else {
        return None;
    };
    let arguments = list
        .args
        .iter()
        .map(|a| match a {
            ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(e)) => Some(e.clone()),
            _ => None,
        })
        .collect::<Option<Vec<_>>>()?;
    Some((word, arguments))
}

fn constant(
    function: &str,
    option: Option<&str>,
    e: ast::Expr,
    context: &mut dyn RelationPlannerContext,
) -> Result<Value> {
    if let Some((word, arguments)) = searched(&e) {
        let mut values = arguments
            .into_iter()
            .map(|a| constant(function, option, a, context))
            .collect::<Result<Vec<_>>>()?;
        // The candidates are one list.
        if let (HPARAM_CANDIDATES, [Value::List(_)]) = (word, values.as_slice())
            && let Some(Value::List(candidates)) = values.pop()
        {
            values = candidates;
        }
        return Ok(Value::Struct([(word.to_string(), Value::List(values))].into()));
    }
    let text = e.to_string();
    let refuse = || match option {
        Some(name) => Error::request(format!(
            "{function}: option '{name}' takes a constant, not '{text}'; write a number, a 'string', a list or a struct"
        )),
        None => Error::request(format!(
            "{function}: '{text}' is neither a query in brackets nor a constant; write (SELECT * FROM {text}) for a table"
        )),
    };
    if subquery(&e).is_some() {
        return Err(refuse());
    }
    let expr = context.sql_to_expr(e, &DFSchema::empty()).map_err(|_| refuse())?;
    let simplifier = ExprSimplifier::new(SimplifyContext::default());
    let expr = simplifier
        .coerce(expr, &DFSchema::empty())
        .and_then(|e| simplifier.simplify(e))
        .map_err(|_| refuse())?;
    match expr {
        Expr::Literal(scalar, _) => value_of(&scalar).ok_or_else(refuse),
        _ => Err(refuse()),
    }
}
