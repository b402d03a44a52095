//! Columns without a name are called `f0_`, `f1_`, … as in BigQuery, counted over those that have none.
//!
//! Only queries that give rows to someone are looked at: not those that stand for a value, as in `x IN (SELECT …)`.

use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Ident, OrderByKind, Query, Select, SelectItem, SetExpr,
    Statement as SqlStatement, TableFactor, TableWithJoins,
};

use super::select::folded;

/// Names the columns of a statement's queries.
pub(crate) fn name_columns(statement: &mut Statement) {
    match statement {
        Statement::Statement(inner) => match inner.as_mut() {
            SqlStatement::Query(inner) => query(inner),
            SqlStatement::CreateTable(create) => create.query.iter_mut().for_each(|q| query(q)),
            SqlStatement::CreateView(create) => query(&mut create.query),
            _ => {}
        },
        Statement::CopyTo(copy) => {
            if let CopyToSource::Query(inner) = &mut copy.source {
                query(inner);
            }
        }
        Statement::Explain(explain) => name_columns(&mut explain.statement),
        Statement::CreateExternalTable(_) | Statement::Reset(_) => {}
    }
}

fn query(of: &mut Query) {
    for table in of.with.iter_mut().flat_map(|with| &mut with.cte_tables) {
        query(&mut table.query);
    }
    let named = body(&mut of.body);
    // Rows that differ are ordered by what they show, so by the name that it has now.
    if let Some(OrderByKind::Expressions(orders)) = of.order_by.as_mut().map(|order| &mut order.kind) {
        for order in orders {
            if let Some((_, name)) = named.iter().find(|(expr, _)| *expr == order.expr) {
                order.expr = Expr::Identifier(name.clone());
            }
        }
    }
}

/// Names the columns; those of SELECT DISTINCT, with their names.
fn body(of: &mut SetExpr) -> Vec<(Expr, Ident)> {
    match of {
        SetExpr::Select(inner) => {
            let named = select(inner);
            return if inner.distinct.is_some() { named } else { vec![] };
        }
        SetExpr::Query(inner) => query(inner),
        SetExpr::SetOperation { left, right, .. } => {
            body(left);
            body(right);
        }
        _ => {}
    }
    vec![]
}

fn select(of: &mut Select) -> Vec<(Expr, Ident)> {
    of.from.iter_mut().for_each(table);
    let taken: Vec<String> = of.projection.iter().filter_map(own_name).collect();
    let mut named = vec![];
    let mut count = 0usize;
    for item in &mut of.projection {
        let SelectItem::UnnamedExpr(expr) = item else { continue };
        if has_name(expr) {
            continue;
        }
        let mut name = format!("f{count}_");
        while taken.contains(&name) {
            count += 1;
            name = format!("f{count}_");
        }
        count += 1;
        let alias = Ident::new(name);
        named.push((expr.clone(), alias.clone()));
        *item = SelectItem::ExprWithAlias {
            expr: expr.clone(),
            alias,
        };
    }
    named
}

fn table(of: &mut TableWithJoins) {
    factor(&mut of.relation);
    of.joins.iter_mut().for_each(|join| factor(&mut join.relation));
}

fn factor(of: &mut TableFactor) {
    match of {
        TableFactor::Derived { subquery, .. } => query(subquery),
        TableFactor::NestedJoin { table_with_joins, .. } => table(table_with_joins),
        TableFactor::Table { args: Some(args), .. } => args.args.iter_mut().for_each(argument),
        TableFactor::Function { args, .. } => args.iter_mut().for_each(argument),
        _ => {}
    }
}

/// A query that a function such as ML.TRAIN takes its rows from.
fn argument(of: &mut FunctionArg) {
    let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = of else {
        return;
    };
    let mut expr = expr;
    while let Expr::Nested(inner) = expr {
        expr = inner;
    }
    if let Expr::Subquery(inner) = expr {
        query(inner);
    }
}

fn own_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
        SelectItem::UnnamedExpr(Expr::Identifier(ident)) => Some(folded(ident)),
        _ => None,
    }
}

/// Whether an expression is a column or a field, and so is called as that.
fn has_name(expr: &Expr) -> bool {
    match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => true,
        Expr::Nested(inner) => has_name(inner),
        // It makes several columns of a struct.
        Expr::Function(call) => call.name.to_string().eq_ignore_ascii_case("unnest"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;

    #[test]
    fn only_what_has_no_name_is_counted() {
        let pairs = [
            (
                "SELECT a, a + 1, b AS c, t.d, COUNT(*), (e) FROM t",
                "SELECT a, a + 1 AS f0_, b AS c, t.d, COUNT(*) AS f1_, (e) FROM t",
            ),
            ("SELECT 1 AS f0_, 2, 3", "SELECT 1 AS f0_, 2 AS f1_, 3 AS f2_"),
            (
                "WITH q AS (SELECT 1) SELECT * FROM q JOIN (SELECT 2) AS r ON TRUE WHERE a IN (SELECT 3)",
                "WITH q AS (SELECT 1 AS f0_) SELECT * FROM q JOIN (SELECT 2 AS f0_) AS r ON true WHERE a IN (SELECT 3)",
            ),
            (
                "SELECT * FROM ML.TRAIN('m', (SELECT a + 1, b FROM t), k => 2)",
                "SELECT * FROM ML.TRAIN('m', (SELECT a + 1 AS f0_, b FROM t), k => 2)",
            ),
            (
                "SELECT DISTINCT a + 1 FROM t ORDER BY a + 1 DESC",
                "SELECT DISTINCT a + 1 AS f0_ FROM t ORDER BY f0_ DESC",
            ),
            (
                "SELECT a + 1 FROM t UNION ALL (SELECT 2)",
                "SELECT a + 1 AS f0_ FROM t UNION ALL (SELECT 2 AS f0_)",
            ),
            (
                "CREATE TABLE u AS SELECT COUNT(*) FROM t",
                "CREATE TABLE u AS SELECT COUNT(*) AS f0_ FROM t",
            ),
            ("INSERT INTO u SELECT 1", "INSERT INTO u SELECT 1"),
        ];
        for (sql, expected) in pairs {
            let mut statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
            name_columns(&mut statement);
            assert_eq!(statement.to_string(), expected);
        }
    }
}
