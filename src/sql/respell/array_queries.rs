//! Queries in expressions that are about arrays: `ARRAY(SELECT …)`, those over the elements of an array, and
//! `x IN UNNEST(array)`.
//!
//! `ARRAY(SELECT …)` over tables is ARRAY_AGG in a query around it; [`super::elements`] writes the others.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArgumentClause, FunctionArguments, Query, Select, SelectItem, SetExpr, TableFactor, UnaryOperator,
    VisitorMut,
};

use super::elements::{Elements, call, is_called, is_plain, order};
use super::names::Names;
use super::select::{parsed_query, relation_name, visit};

/// Writes subqueries over the elements of arrays as functions.
#[derive(Default)]
pub(crate) struct ElementQueries {
    /// Names that were looked for among the fields of an element in vain, in lower case.
    outer: BTreeSet<String>,
    /// Names of fields of structs, in lower case.
    fields: BTreeSet<String>,
    /// Names of tables and queries, in lower case.
    relations: BTreeSet<String>,
}

impl ElementQueries {
    /// For a statement about tables with these names.
    pub(crate) fn new(names: &Names, statement: &mut Statement) -> Self {
        let mut known = Self {
            outer: names.outer().clone(),
            fields: names.fields().clone(),
            relations: BTreeSet::new(),
        };
        visit(statement, &mut Collector(&mut known));
        known
    }

    /// Whether a name without a qualifier, in a subquery over elements, is a column of a query around it.
    pub(super) fn is_outer(&self, name: &str) -> bool {
        self.outer.contains(name)
    }

    /// Whether a name before a dot is that of a table.
    pub(super) fn is_relation(&self, name: &str) -> bool {
        self.relations.contains(name) && !self.fields.contains(name)
    }
}

/// Collects the names that a statement itself gives.
struct Collector<'a>(&'a mut ElementQueries);

impl VisitorMut for Collector<'_> {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for table in &select.from {
            let factors = std::iter::once(&table.relation).chain(table.joins.iter().map(|j| &j.relation));
            let names = factors.filter_map(relation_name).map(|name| name.to_lowercase());
            self.0.relations.extend(names);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Named { name, .. } = expr {
            self.0.fields.insert(name.value.to_lowercase());
        }
        ControlFlow::Continue(())
    }
}

impl VisitorMut for ElementQueries {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let written = match expr {
            Expr::Subquery(query) => Elements::of(query, self, false).and_then(|e| e.value()),
            Expr::Exists { subquery, negated } => Elements::of(subquery, self, false).and_then(|e| e.exist(*negated)),
            Expr::Function(function) if is_called(function, "array") => match &function.args {
                FunctionArguments::Subquery(query) => Elements::of(query, self, true)
                    .and_then(|e| e.items())
                    .or_else(|| collected(query)),
                _ => None,
            },
            Expr::InUnnest {
                expr,
                array_expr,
                negated,
            } => Some(in_unnest(expr, array_expr, *negated)),
            _ => None,
        };
        if let Some(written) = written {
            *expr = written;
        }
        ControlFlow::Continue(())
    }
}

/// `expr IN UNNEST(array)`.
fn in_unnest(expr: &Expr, array: &Expr, negated: bool) -> Expr {
    match array {
        Expr::Array(values) if !values.elem.is_empty() => Expr::InList {
            expr: Box::new(expr.clone()),
            list: values.elem.clone(),
            negated,
        },
        _ => {
            let found = call("google_in_unnest", vec![expr.clone(), array.clone()]);
            if !negated {
                return found;
            }
            let expr = Box::new(found);
            Expr::Nested(Box::new(Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr,
            }))
        }
    }
}

/// `ARRAY(SELECT …)` over tables: what the query gives, in its order, as one array.
fn collected(query: &Query) -> Option<Expr> {
    let mut outer = parsed_query("SELECT array_agg(\"item\") FROM (SELECT 1) AS \"array_query\"(\"item\")")?;
    let mut inner = query.clone();
    let mut in_place = None;
    if let (SetExpr::Select(select), None, None) = (query.body.as_ref(), &query.limit_clause, &query.fetch)
        && let Some(keys) = order(query)
        && !keys.is_empty()
        && is_plain(select, false)
        && let [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] =
            select.projection.as_slice()
    {
        // A query in FROM has no order, so that the aggregate has it.
        let mut aggregate = call("array_agg", vec![item.clone()]);
        if let Expr::Function(function) = &mut aggregate
            && let FunctionArguments::List(list) = &mut function.args
        {
            list.clauses.push(FunctionArgumentClause::OrderBy(keys.to_vec()));
        }
        let mut select = select.clone();
        select.projection = vec![SelectItem::UnnamedExpr(aggregate)];
        inner.body = Box::new(SetExpr::Select(select));
        inner.order_by = None;
        in_place = Some(inner.clone());
    }
    if let Some(query) = in_place {
        return Some(call("google_array", vec![Expr::Subquery(Box::new(query))]));
    }
    let SetExpr::Select(select) = outer.body.as_mut() else {
        return None;
    };
    let TableFactor::Derived { subquery, .. } = &mut select.from.first_mut()?.relation else {
        return None;
    };
    **subquery = inner;
    Some(call("google_array", vec![Expr::Subquery(Box::new(outer))]))
}
