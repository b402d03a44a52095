//! The select list of TRANSFORM: read, its wildcards written out, and planned over the columns of a query.

use std::ops::ControlFlow;

use datafusion::arrow::datatypes::{DataType, FieldRef, Fields, Schema};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::sql::sqlparser::ast::{
    self, ExcludeSelectItem, Ident, SelectItem, WildcardAdditionalOptions, visit_expressions_mut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::functions::feature::{is_learned, mark};
use super::respell::Names;
use crate::error::{Error, Result, list};
use crate::exec::{TransformColumn, settle_with};
use crate::models::transform::{Transform, TransformItem};

/// Reads a select list over a query with these columns. Wildcards become the columns that they stand for, so that what is stored
/// does not depend on the columns of later queries.
///
/// # Errors
/// The list cannot be read, or names a column that the query does not have in EXCEPT or REPLACE.
pub(crate) fn read(function: &str, text: &str, columns: &Schema) -> Result<Transform> {
    let refuse = |why: String| {
        Error::request(format!(
            "{function}: TRANSFORM cannot be read: {why}; it takes a select list, such as TRANSFORM (age, ML.STANDARD_SCALER(income) OVER () AS income, label)"
        ))
    };
    let mut parser = parser(text, columns.fields()).map_err(|e| refuse(e.to_string()))?;
    let found = parser.parse_projection().map_err(|e| refuse(e.to_string()))?;
    if parser.peek_token().token != Token::EOF {
        return Err(refuse(format!("'{}' stands after its end", parser.peek_token().token)));
    }
    let mut items = vec![];
    let mut unnamed = 0;
    let mut add = |name: String, expr: ast::Expr| {
        items.push(TransformItem {
            name,
            expression: expr.to_string(),
            learned: vec![],
        });
    };
    for item in found {
        match unqualified(item, columns) {
            SelectItem::ExprWithAlias { expr, alias } => add(normal(&alias), expr),
            SelectItem::UnnamedExpr(expr) => {
                let name = match &expr {
                    ast::Expr::Identifier(ident) => normal(ident),
                    ast::Expr::CompoundIdentifier(parts) => parts.last().map(normal).unwrap_or_default(),
                    _ => {
                        // As BigQuery names them.
                        unnamed += 1;
                        format!("f{}_", unnamed - 1)
                    }
                };
                add(name, expr);
            }
            SelectItem::Wildcard(options) => {
                for (name, expr) in wildcard(function, options, columns)? {
                    add(name, expr);
                }
            }
            other => return Err(refuse(format!("'{other}' is neither an expression nor *"))),
        }
    }
    let mut names: Vec<String> = items.iter().map(|i| i.name.to_lowercase()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|w| w[0] == w[1]) {
        return Err(Error::request(format!(
            "{function}: TRANSFORM makes two columns '{}'; give each a name of its own with AS, or take one out of * with EXCEPT",
            pair[0]
        )));
    }
    Ok(Transform { items })
}

/// A parser of a text over these columns, whose names it has in any case.
fn parser(text: &str, columns: &Fields) -> Result<Parser<'static>, ParserError> {
    let mut tokens = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location()?;
    let mut names = Names::default();
    names.add(columns);
    names.respell(&mut tokens);
    Ok(Parser::new(&GenericDialect {}).with_tokens_with_locations(tokens))
}

/// An item whose columns are named without the table that they were of in training: later queries have others.
fn unqualified(mut item: SelectItem, columns: &Schema) -> SelectItem {
    let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = &mut item else {
        return item;
    };
    let is_column = |name: &Ident| columns.fields().iter().any(|f| *f.name() == normal(name));
    let _ = visit_expressions_mut(expr, |e| {
        if let ast::Expr::CompoundIdentifier(parts) = e
            && let [table, column] = parts.as_slice()
            && !is_column(table)
            && is_column(column)
        {
            *e = ast::Expr::Identifier(column.clone());
        }
        ControlFlow::<()>::Continue(())
    });
    item
}

/// A name as DataFusion writes it: in lower case unless quoted.
fn normal(ident: &Ident) -> String {
    match ident.quote_style {
        None => ident.value.to_lowercase(),
        Some(_) => ident.value.clone(),
    }
}

/// The columns that `*` stands for.
fn wildcard(function: &str, options: WildcardAdditionalOptions, columns: &Schema) -> Result<Vec<(String, ast::Expr)>> {
    let mut left_out: Vec<String> = vec![];
    if let Some(except) = options.opt_except {
        left_out.push(normal(&except.first_element));
        left_out.extend(except.additional_elements.iter().map(normal));
    }
    let last = |name: &ast::ObjectName| name.0.last().and_then(|p| p.as_ident()).map(normal);
    match options.opt_exclude {
        Some(ExcludeSelectItem::Single(name)) => left_out.extend(last(&name)),
        Some(ExcludeSelectItem::Multiple(names)) => left_out.extend(names.iter().filter_map(last)),
        None => {}
    }
    let mut replaced: Vec<(String, ast::Expr)> = options
        .opt_replace
        .into_iter()
        .flat_map(|r| r.items)
        .map(|e| (normal(&e.column_name), e.expr))
        .collect();
    let known = |name: &String| columns.fields().iter().any(|f| f.name().eq_ignore_ascii_case(name));
    let unknown = left_out
        .iter()
        .chain(replaced.iter().map(|(name, _)| name))
        .find(|n| !known(n));
    if let Some(name) = unknown {
        return Err(Error::request(format!(
            "{function}: the query has no column '{name}' that * in TRANSFORM could leave out or replace; it has {}",
            list(columns.fields().iter().map(|f| f.name()), 20)
        )));
    }
    let mut found = vec![];
    for field in columns.fields() {
        let name = field.name();
        if left_out.iter().any(|l| l.eq_ignore_ascii_case(name)) {
            continue;
        }
        let own = ast::Expr::Identifier(Ident::with_quote('"', name.clone()));
        let at = replaced.iter().position(|(r, _)| r.eq_ignore_ascii_case(name));
        let expr = at.map_or(own, |at| replaced.swap_remove(at).1);
        found.push((name.clone(), expr));
    }
    Ok(found)
}

/// Plans one item over a query's columns. Its learned calls stay open: what they learned is put in when rows are there.
///
/// # Errors
/// It names a column that is not there, or DataFusion cannot plan it.
pub(crate) fn plan(
    function: &str,
    item: &TransformItem,
    schema: &DFSchema,
    planner: &mut dyn RelationPlannerContext,
) -> Result<Expr> {
    let mut parsed = parser(&item.expression, schema.fields())
        .and_then(|mut p| p.parse_expr())
        .map_err(|e| {
            Error::request(format!(
                "{function}: '{}' in TRANSFORM cannot be read: {e}",
                item.expression
            ))
        })?;
    let mut number = 0;
    let visited: ControlFlow<Error> = visit_expressions_mut(&mut parsed, |expr| {
        let ast::Expr::Function(call) = expr else {
            return ControlFlow::Continue(());
        };
        if !is_learned(&call.name.to_string()) {
            return ControlFlow::Continue(());
        }
        let plain = match call.over.take() {
            Some(ast::WindowType::WindowSpec(w)) => {
                w.partition_by.is_empty() && w.order_by.is_empty() && w.window_frame.is_none()
            }
            Some(ast::WindowType::NamedWindow(_)) => false,
            None => false,
        };
        if !plain {
            return ControlFlow::Break(Error::request(format!(
                "{function}: {0} in TRANSFORM learns from all training rows; write {0}(…) OVER ()",
                call.name
            )));
        }
        if let ast::FunctionArguments::List(arguments) = &mut call.args {
            let marker = ast::Expr::value(ast::Value::SingleQuotedString(mark(number)));
            let marker = ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(marker));
            arguments.args.insert(0, marker);
            number += 1;
        }
        ControlFlow::Continue(())
    });
    if let ControlFlow::Break(error) = visited {
        return Err(error);
    }
    planner.sql_to_expr(parsed, schema).map_err(|e| {
        // Its place is one in the list, not in the statement.
        let mut error = &e;
        while let DataFusionError::Diagnostic(_, inner) = error {
            error = inner;
        }
        Error::request(format!(
            "{function}: '{}' in TRANSFORM: {}",
            item.expression,
            error.message()
        ))
    })
}

/// The same columns, each field of a struct a column of its own: `{struct}_{field}`, as BigQuery ML names them.
///
/// # Errors
/// An expression has no type over these columns.
pub(crate) fn flattened(columns: Vec<TransformColumn>, schema: &DFSchema) -> Result<Vec<TransformColumn>> {
    let mut out = vec![];
    let mut left: Vec<TransformColumn> = columns.into_iter().rev().collect();
    while let Some(item) = left.pop() {
        match item.expr.get_type(schema)? {
            DataType::Struct(fields) => left.extend(fields.iter().rev().map(|field| TransformColumn {
                name: format!("{}_{}", item.name, field.name()),
                item: item.item,
                expr: get_field(item.expr.clone(), field.name().as_str()),
            })),
            _ => out.push(item),
        }
    }
    Ok(out)
}

/// The columns of a query as features see them: as they are, but the fields of structs each by itself.
///
/// # Errors
/// As [`flattened`].
pub(crate) fn plain_columns(plan: &LogicalPlan) -> Result<Vec<TransformColumn>> {
    let columns = plan
        .schema()
        .iter()
        .enumerate()
        .map(|(item, (qualifier, field))| TransformColumn {
            name: field.name().clone(),
            item,
            expr: Expr::Column((qualifier, field).into()),
        });
    flattened(columns.collect(), plan.schema())
}

/// Whether a query has columns that are structs.
pub(crate) fn has_structs(plan: &LogicalPlan) -> bool {
    let is_struct = |f: &FieldRef| matches!(f.data_type(), DataType::Struct(_));
    plan.schema().fields().iter().any(is_struct)
}

/// An item that a query cannot serve, by its name, and why.
pub(crate) type Missing = (String, Error);

/// What a stored transform makes of a query's columns. An item that names a column which the query lacks, as the label is lacking at
/// prediction, is left out and told as an error of its own.
///
/// # Errors
/// What a call learned cannot be read.
pub(crate) fn applied(
    function: &str,
    transform: &Transform,
    plan: &LogicalPlan,
    planner: &mut dyn RelationPlannerContext,
) -> Result<(Vec<TransformColumn>, Vec<Missing>)> {
    let (mut columns, mut missing) = (vec![], vec![]);
    for (at, item) in transform.items.iter().enumerate() {
        match self::plan(function, item, plan.schema(), planner) {
            Ok(expr) => columns.push(TransformColumn {
                name: item.name.clone(),
                item: at,
                expr: settle_with(&expr, &|number| item.learned.get(number))?,
            }),
            Err(error) => missing.push((item.name.clone(), error)),
        }
    }
    Ok((columns, missing))
}
