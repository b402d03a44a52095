//! `SELECT s.*`, and `s.* EXCEPT (a)`, where s is a struct: its fields as columns, as in the tables of Google Analytics.
//!
//! What fields there are only planning tells, so the struct alone is planned, as a column of a query with the same FROM.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::arrow::datatypes::DataType;
use datafusion::execution::SessionState;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    AccessExpr, Cte, ExceptSelectItem, Expr, Ident, Query, Select, SelectItem, SelectItemQualifiedWildcardKind,
    SetExpr, Statement as SqlStatement, Subscript, Value, VisitorMut, WildcardAdditionalOptions, With,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::select::{folded, relation_names, visit};

/// So often are stars looked for, for one may stand in a query that another reads.
const MAX_ROUNDS: usize = 8;

/// Writes the stars of structs as their fields. One that is none, or cannot be planned, stays for the planner to tell.
pub(crate) async fn expand_structs(
    state: &SessionState,
    statement: &mut Statement,
    respell: &(dyn Fn(&mut Statement) + Send + Sync),
) {
    for _ in 0..MAX_ROUNDS {
        let mut stars = Stars::default();
        visit(statement, &mut stars);
        let mut expanded = BTreeMap::new();
        for (place, (star, is_element)) in stars.found.into_iter().enumerate() {
            let mut probe = Statement::Statement(Box::new(SqlStatement::Query(Box::new(star))));
            respell(&mut probe);
            let planned = state.statement_to_plan(probe).await.ok();
            let first = planned.and_then(|p| p.schema().fields().first().cloned());
            match first.as_ref().map(|f| f.data_type()) {
                Some(DataType::Struct(fields)) => {
                    expanded.insert(place, fields.iter().map(|f| f.name().clone()).collect());
                }
                // An element of an array of no structs is a column itself.
                _ if is_element => {
                    expanded.insert(place, vec![]);
                }
                _ => {}
            }
        }
        if expanded.is_empty() {
            return;
        }
        let mut stars = Stars {
            expanded,
            ..Stars::default()
        };
        visit(statement, &mut stars);
    }
}

/// The queries of WITH that are being visited, and how many of them are behind.
struct Scope {
    queries: Vec<Cte>,
    behind: usize,
}

/// Finds the stars of what is no table, or writes those whose fields are known.
#[derive(Default)]
struct Stars {
    scopes: Vec<Scope>,
    /// A query for each, that gives the struct alone, and whether it is an element that has no name of its own.
    found: Vec<(Query, bool)>,
    /// The fields of those that are structs, by their place in the order of the visit.
    expanded: BTreeMap<usize, Vec<String>>,
    seen: usize,
}

impl VisitorMut for Stars {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let queries = query.with.as_ref().map(|with| with.cte_tables.clone());
        self.scopes.push(Scope {
            queries: queries.unwrap_or_default(),
            behind: 0,
        });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.scopes.pop();
        // The queries of WITH are visited before the query that has them.
        if let Some(scope) = self.scopes.last_mut()
            && scope.behind < scope.queries.len()
        {
            scope.behind += 1;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let relations = relation_names(select);
        let mut items = Vec::with_capacity(select.projection.len());
        for item in std::mem::take(&mut select.projection) {
            let of = struct_of(&item, &relations);
            let (Some(of), SelectItem::QualifiedWildcard(_, options)) = (of, &item) else {
                items.push(item);
                continue;
            };
            match self.expanded.get(&self.seen) {
                Some(fields) if fields.is_empty() => items.push(SelectItem::UnnamedExpr(of)),
                Some(fields) => items.extend(columns(&of, fields, options)),
                None => {
                    let is_element = is_element(&of);
                    self.found
                        .extend(self.alone(select, of).map(|query| (query, is_element)));
                    items.push(item);
                }
            }
            self.seen += 1;
        }
        select.projection = items;
        ControlFlow::Continue(())
    }
}

impl Stars {
    /// `WITH … SELECT struct FROM …`.
    fn alone(&self, select: &Select, of: Expr) -> Option<Query> {
        let mut query = Parser::new(&GenericDialect {})
            .try_with_sql("SELECT 1")
            .and_then(|mut p| p.parse_query())
            .ok()?;
        let SetExpr::Select(body) = query.body.as_mut() else {
            return None;
        };
        body.from.clone_from(&select.from);
        body.projection = vec![SelectItem::UnnamedExpr(of)];
        let behind = self.scopes.iter().flat_map(|s| s.queries.iter().take(s.behind));
        let cte_tables: Vec<Cte> = behind.cloned().collect();
        query.with = (!cte_tables.is_empty()).then(|| With {
            with_token: AttachedToken::empty(),
            recursive: false,
            cte_tables,
        });
        Some(*query)
    }
}

/// Whether this is what an element of an array is called that has no name of its own.
fn is_element(of: &Expr) -> bool {
    let Expr::Identifier(ident) = of else {
        return false;
    };
    let number = ident.value.strip_prefix("element");
    number.is_some_and(|n| n.is_empty() || n.strip_prefix('_').is_some_and(|n| n.parse::<u32>().is_ok()))
}

/// What stands before the star, if it is not one of the tables.
fn struct_of(item: &SelectItem, relations: &[String]) -> Option<Expr> {
    let SelectItem::QualifiedWildcard(of, _) = item else {
        return None;
    };
    let name = match of {
        SelectItemQualifiedWildcardKind::Expr(expr) => return Some(expr.clone()),
        SelectItemQualifiedWildcardKind::ObjectName(name) => name,
    };
    let idents: Vec<Ident> = name.0.iter().map(|p| p.as_ident().cloned()).collect::<Option<_>>()?;
    match idents.as_slice() {
        [.., last] if relations.contains(&folded(last)) => None,
        [only] => Some(Expr::Identifier(only.clone())),
        _ => Some(Expr::CompoundIdentifier(idents)),
    }
}

/// A column for each field that is not left out.
fn columns(of: &Expr, fields: &[String], options: &WildcardAdditionalOptions) -> Vec<SelectItem> {
    let without: Vec<&Ident> = match &options.opt_except {
        Some(ExceptSelectItem {
            first_element,
            additional_elements,
        }) => std::iter::once(first_element).chain(additional_elements).collect(),
        None => vec![],
    };
    let same = |a: &Ident, field: &str| a.value.to_lowercase() == field.to_lowercase();
    let kept = fields.iter().filter(|field| !without.iter().any(|w| same(w, field)));
    let column = |field: &String| {
        let replaced = options.opt_replace.as_ref().and_then(|replace| {
            let found = replace.items.iter().find(|r| same(&r.column_name, field))?;
            Some(found.expr.clone())
        });
        let access = Expr::CompoundFieldAccess {
            root: Box::new(of.clone()),
            access_chain: vec![AccessExpr::Subscript(Subscript::Index {
                index: Expr::value(Value::SingleQuotedString(field.clone())),
            })],
        };
        SelectItem::ExprWithAlias {
            expr: replaced.unwrap_or(access),
            alias: Ident::with_quote('"', field),
        }
    };
    kept.map(column).collect()
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;
    use datafusion::sql::parser::DFParser;

    use super::*;

    #[tokio::test]
    async fn stars_of_structs_are_their_fields() {
        let ctx = SessionContext::new();
        ctx.sql("CREATE TABLE t AS SELECT 1 AS a, named_struct('x', 1, 'Y', named_struct('z', 2)) AS s")
            .await
            .unwrap();
        let pairs = [
            (
                "SELECT a, s.* FROM t",
                "SELECT a, s['x'] AS \"x\", s['Y'] AS \"Y\" FROM t",
            ),
            (
                "SELECT u.s.* EXCEPT (y) FROM t AS u",
                "SELECT u.s['x'] AS \"x\" FROM t AS u",
            ),
            (
                "SELECT s.* REPLACE (3 AS x) FROM t",
                "SELECT 3 AS \"x\", s['Y'] AS \"Y\" FROM t",
            ),
            (
                "WITH t AS (SELECT s.* FROM t), v AS (SELECT \"Y\".* FROM t) SELECT v.* FROM v",
                "WITH t AS (SELECT s['x'] AS \"x\", s['Y'] AS \"Y\" FROM t), v AS (SELECT \"Y\"['z'] AS \"z\" FROM t) SELECT v.* FROM v",
            ),
            // What is no struct stays as it is.
            ("SELECT t.*, a.*, no.* FROM t", "SELECT t.*, a.*, no.* FROM t"),
        ];
        for (sql, expected) in pairs {
            let mut statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
            expand_structs(&ctx.state(), &mut statement, &|_| {}).await;
            assert_eq!(statement.to_string(), expected);
        }
    }
}
