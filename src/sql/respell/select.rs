//! What GoogleSQL says of a SELECT in fewer words than DataFusion: a field of a struct is called as the field, queries in FROM
//! need no names, however many there are, and NULLs come before all other values.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{
    AccessExpr, Expr, FunctionArgumentClause, FunctionArguments, Ident, Join, JoinConstraint, JoinOperator,
    NamedWindowDefinition, NamedWindowExpr, ObjectName, OrderByExpr, OrderByKind, Query, Select, SelectItem, SetExpr,
    Subscript, TableAlias, TableFactor, TableWithJoins, Value, VisitMut, VisitorMut, WindowType,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::joined::{Columns, name_fields, named_columns, spread};
use super::names::Names;

/// Walks over a statement with a visitor that never ends early.
pub(crate) fn visit(statement: &mut Statement, visitor: &mut impl VisitorMut<Break = ()>) {
    let _ = match statement {
        Statement::Statement(inner) => inner.visit(visitor),
        Statement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => query.visit(visitor),
            CopyToSource::Relation(_) => ControlFlow::Continue(()),
        },
        Statement::Explain(explain) => {
            visit(&mut explain.statement, visitor);
            ControlFlow::Continue(())
        }
        Statement::CreateExternalTable(_) | Statement::Reset(_) => ControlFlow::Continue(()),
    };
}

/// Names what a statement leaves without a name.
#[derive(Default)]
pub(crate) struct Namer {
    queries: usize,
    /// The columns of tables.
    columns: Columns,
    /// Fields of structs that are no columns of tables.
    fields: BTreeSet<String>,
}

impl VisitorMut for Namer {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        for table in query.with.iter().flat_map(|with| &with.cte_tables) {
            let columns = self.columns.entry(table.alias.name.value.to_lowercase()).or_default();
            columns.extend(named_columns(&table.query).map(|name| name.to_lowercase()));
        }
        if let Some(OrderByKind::Expressions(keys)) = query.order_by.as_mut().map(|by| &mut by.kind) {
            put_nulls_first(keys);
        }
        ControlFlow::Continue(())
    }

    /// `SELECT DISTINCT s.f … ORDER BY s.f` is ordered by the column that its select list makes, which has a name by now.
    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let SetExpr::Select(select) = query.body.as_ref()
            && select.distinct.is_some()
            && let Some(OrderByKind::Expressions(keys)) = query.order_by.as_mut().map(|by| &mut by.kind)
        {
            for key in keys {
                let made = select.projection.iter().find_map(|item| match item {
                    SelectItem::ExprWithAlias { expr, alias } if *expr == key.expr => Some(alias.clone()),
                    _ => None,
                });
                if let Some(alias) = made {
                    key.expr = Expr::Identifier(alias);
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::Function(function) = expr else {
            return ControlFlow::Continue(());
        };
        if let Some(WindowType::WindowSpec(window)) = &mut function.over {
            put_nulls_first(&mut window.order_by);
        }
        put_nulls_first(&mut function.within_group);
        if let FunctionArguments::List(list) = &mut function.args {
            for clause in &mut list.clauses {
                if let FunctionArgumentClause::OrderBy(keys) = clause {
                    put_nulls_first(keys);
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        spread(select, &self.columns);
        name_fields(select, &self.fields);
        for NamedWindowDefinition(_, window) in &mut select.named_window {
            if let NamedWindowExpr::WindowSpec(window) = window {
                put_nulls_first(&mut window.order_by);
            }
        }
        if leaves_out_of_join(select) {
            self.nest(select);
        }
        let mut factors: Vec<&mut TableFactor> = vec![];
        for table in &mut select.from {
            factors.push(&mut table.relation);
            factors.extend(table.joins.iter_mut().map(|join| &mut join.relation));
        }
        let is_alone = factors.len() == 1;
        let mut relations = vec![];
        for factor in factors {
            if let TableFactor::Derived { alias, .. } = factor
                && alias.is_none()
                && !is_alone
            {
                *alias = Some(self.alias());
            }
            relations.extend(relation_name(factor));
        }
        let mut taken: Vec<String> = select.projection.iter().filter_map(own_name).collect();
        for item in &mut select.projection {
            let SelectItem::UnnamedExpr(expr) = item else { continue };
            let Some(alias) = field_name(expr, &relations).filter(|a| !taken.contains(&folded(a))) else {
                continue;
            };
            taken.push(folded(&alias));
            *item = SelectItem::ExprWithAlias {
                expr: expr.clone(),
                alias,
            };
        }
        ControlFlow::Continue(())
    }
}

/// NULL is the least value there is, where nothing else is said.
fn put_nulls_first(keys: &mut [OrderByExpr]) {
    for OrderByExpr { options, .. } in keys {
        options.nulls_first.get_or_insert(options.asc != Some(false));
    }
}

impl Namer {
    /// For a statement about tables with these names.
    pub(crate) fn new(names: &Names) -> Self {
        Self {
            queries: 0,
            columns: names.by_table().clone(),
            fields: names.fields().difference(names.top()).cloned().collect(),
        }
    }

    /// A name for a query that has none.
    fn alias(&mut self) -> TableAlias {
        self.queries += 1;
        TableAlias {
            explicit: true,
            name: Ident::with_quote('"', format!("query_{}", self.queries)),
            columns: vec![],
            at: None,
        }
    }

    /// Writes `SELECT * EXCEPT (a) FROM …` as `SELECT * EXCEPT (a) FROM (SELECT * FROM …)`.
    fn nest(&mut self, select: &mut Select) {
        let Some(mut outer) = parsed_query("SELECT * FROM (SELECT 1)") else {
            return;
        };
        let SetExpr::Select(mut body) = *outer.body.clone() else {
            return;
        };
        std::mem::swap(&mut body.projection, &mut select.projection);
        // Of what is left, not of all columns.
        std::mem::swap(&mut body.distinct, &mut select.distinct);
        std::mem::swap(select, &mut body);
        // What was the statement's own is now the inner query.
        *outer.body = SetExpr::Select(body);
        if let [TableWithJoins { relation, .. }] = select.from.as_mut_slice()
            && let TableFactor::Derived { subquery, alias, .. } = relation
        {
            *alias = Some(self.alias());
            **subquery = outer;
        }
    }
}

/// A query that is written here.
pub(crate) fn parsed_query(sql: &str) -> Option<Query> {
    let mut parser = Parser::new(&GenericDialect {}).try_with_sql(sql).ok()?;
    parser.parse_query().ok().map(|query| *query)
}

/// Whether a select list is `* EXCEPT (…)` of tables that are joined by USING, where DataFusion finds the common columns twice.
fn leaves_out_of_join(select: &Select) -> bool {
    let [SelectItem::Wildcard(options)] = select.projection.as_slice() else {
        return false;
    };
    let is_using = |join: &Join| match &join.join_operator {
        JoinOperator::Join(c)
        | JoinOperator::Inner(c)
        | JoinOperator::Left(c)
        | JoinOperator::LeftOuter(c)
        | JoinOperator::Right(c)
        | JoinOperator::RightOuter(c)
        | JoinOperator::FullOuter(c) => matches!(c, JoinConstraint::Using(_)),
        _ => false,
    };
    options.opt_except.is_some() && select.from.iter().flat_map(|t| &t.joins).any(is_using)
}

/// A name as DataFusion has it.
pub(crate) fn folded(ident: &Ident) -> String {
    match ident.quote_style {
        None => ident.value.to_lowercase(),
        Some(_) => ident.value.clone(),
    }
}

/// What columns are qualified by that come from the relations of a SELECT.
pub(crate) fn relation_names(select: &Select) -> Vec<String> {
    let joined = select.from.iter().flat_map(|t| t.joins.iter().map(|j| &j.relation));
    let first = select.from.iter().map(|t| &t.relation);
    first.chain(joined).filter_map(relation_name).collect()
}

/// What columns are qualified by that come from a relation.
pub(crate) fn relation_name(factor: &TableFactor) -> Option<String> {
    let last = |name: &ObjectName| name.0.last().and_then(|part| part.as_ident()).map(folded);
    match factor {
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::Function { alias: Some(alias), .. } => Some(folded(&alias.name)),
        TableFactor::Table { name, .. } | TableFactor::Function { name, .. } => last(name),
        _ => None,
    }
}

/// The name that an item of a select list has already.
fn own_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
        SelectItem::UnnamedExpr(Expr::Identifier(ident)) => Some(folded(ident)),
        _ => None,
    }
}

/// The field that an expression takes out of a struct, as its last step. A column of one of the relations is none.
fn field_name(expr: &Expr, relations: &[String]) -> Option<Ident> {
    match expr {
        Expr::CompoundIdentifier(parts) => {
            let [.., of, field] = parts.as_slice() else { return None };
            (!relations.contains(&folded(of))).then(|| field.clone())
        }
        Expr::CompoundFieldAccess { access_chain, .. } => match access_chain.last()? {
            AccessExpr::Dot(Expr::Identifier(field)) => Some(field.clone()),
            AccessExpr::Subscript(Subscript::Index {
                index: Expr::Value(value),
            }) => match &value.value {
                Value::SingleQuotedString(field) => Some(Ident::with_quote('"', field)),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;

    #[test]
    fn fields_are_called_as_fields_and_queries_are_told_apart() {
        let pairs = [
            (
                "SELECT device.browser, t.a, t.device.os, x[1]['prob'], x[1] FROM d.t",
                "SELECT device.browser AS browser, t.a, t.device.os AS os, x[1]['prob'] AS \"prob\", x[1] FROM d.t",
            ),
            (
                "SELECT s.a, u.b FROM t AS S JOIN u ON TRUE",
                "SELECT s.a, u.b FROM t AS S JOIN u ON true",
            ),
            // A name that is taken stays with the one that has it.
            ("SELECT s.a, a, v.b, w.b FROM t", "SELECT s.a, a, v.b AS b, w.b FROM t"),
            ("SELECT * FROM (SELECT 1)", "SELECT * FROM (SELECT 1)"),
            (
                "SELECT * FROM (SELECT d.a FROM t) JOIN (SELECT 2) USING (a)",
                "SELECT * FROM (SELECT d.a AS a FROM t) AS \"query_1\" JOIN (SELECT 2) AS \"query_2\" USING(a)",
            ),
        ];
        let pairs = pairs.into_iter().chain([(
            "SELECT * EXCEPT (a) FROM t JOIN u USING (a) WHERE t.b > 1",
            "SELECT * EXCEPT (a) FROM (SELECT * FROM t JOIN u USING(a) WHERE t.b > 1) AS \"query_1\"",
        )]);
        for (sql, expected) in pairs {
            let mut statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
            visit(&mut statement, &mut Namer::default());
            assert_eq!(statement.to_string(), expected);
        }
    }
}
