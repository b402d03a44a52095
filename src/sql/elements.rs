//! Subqueries over the elements of an array, `(SELECT p.prob FROM UNNEST(probs) AS p WHERE p.label = 1)`.
//!
//! DataFusion runs none whose array is a column of the query around it, so they are written as functions of the array:
//! `array_transform(array_filter(probs, p -> p['label'] = 1), p -> p['prob'])[1]`, unless the array is NULL.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    AccessExpr, CaseWhen, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    GroupByExpr, Ident, LambdaFunction, LambdaFunctionParameter, LambdaSyntax, LimitClause, ObjectName,
    OneOrManyWithParens, Query, Select, SelectItem, SetExpr, Subscript, TableFactor, Value, VisitMut, VisitorMut,
    visit_expressions,
};

use super::select::folded;

/// Aggregates that have no function of an array here; a subquery with one stays as it is.
const AGGREGATES: &[&str] = &[
    "any_value",
    "array_agg",
    "avg",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "max",
    "min",
    "stddev",
    "string_agg",
    "sum",
    "approx_quantiles",
    "var_samp",
];

/// Writes subqueries over the elements of arrays as functions.
pub(crate) struct ElementQueries;

impl VisitorMut for ElementQueries {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let written = match expr {
            Expr::Subquery(query) => Elements::of(query).and_then(|e| e.value()),
            Expr::Exists { subquery, negated } => Elements::of(subquery).map(|e| e.exist(*negated)),
            Expr::Function(call) if is_called(call, "array") => match &call.args {
                FunctionArguments::Subquery(query) if query.limit_clause.is_none() => {
                    Elements::of(query).and_then(|e| e.items())
                }
                _ => None,
            },
            _ => None,
        };
        if let Some(written) = written {
            *expr = written;
        }
        ControlFlow::Continue(())
    }
}

/// `SELECT item FROM UNNEST(array) AS name WHERE condition`.
struct Elements {
    array: Expr,
    name: Ident,
    condition: Option<Expr>,
    item: Option<Expr>,
}

impl Elements {
    /// What a query takes of an array, if it is one over an array's elements that functions can do.
    fn of(query: &Query) -> Option<Self> {
        let SetExpr::Select(select) = query.body.as_ref() else {
            return None;
        };
        let limited = match &query.limit_clause {
            None => false,
            Some(LimitClause::LimitOffset {
                offset: None, limit_by, ..
            }) => !limit_by.is_empty(),
            Some(_) => true,
        };
        if query.with.is_some() || query.order_by.is_some() || query.fetch.is_some() || limited || !is_plain(select) {
            return None;
        }
        let [from] = select.from.as_slice() else { return None };
        let TableFactor::UNNEST {
            alias,
            array_exprs,
            with_offset: false,
            with_ordinality: false,
            ..
        } = &from.relation
        else {
            return None;
        };
        let [array] = array_exprs.as_slice() else { return None };
        if !from.joins.is_empty() || alias.as_ref().is_some_and(|a| a.columns.len() > 1) {
            return None;
        }
        if alias.is_some() && !has_column(array) {
            return None;
        }
        let name = match alias {
            Some(alias) => alias.columns.first().map_or(&alias.name, |column| &column.name).clone(),
            None => Ident::with_quote('"', "element"),
        };
        let item = match select.projection.as_slice() {
            [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] => Some(item.clone()),
            [SelectItem::Wildcard(_)] => None,
            _ => return None,
        };
        let mut elements = Self {
            array: array.clone(),
            name,
            condition: select.selection.clone(),
            item,
        };
        elements.find_fields();
        Some(elements)
    }

    /// Names of fields as accesses to them. A name alone is a field where nothing is said of the element by its own name.
    fn find_fields(&mut self) {
        let name = folded(&self.name);
        let is_own = |expr: &Expr| match expr {
            Expr::Identifier(ident) => folded(ident) == name,
            Expr::CompoundIdentifier(parts) => parts.first().is_some_and(|p| folded(p) == name),
            _ => false,
        };
        let named = [&self.condition, &self.item]
            .into_iter()
            .flatten()
            .any(|expr| contains(expr, &is_own));
        let mut fields = Fields {
            name: self.name.clone(),
            bare: !named,
        };
        for expr in [&mut self.condition, &mut self.item].into_iter().flatten() {
            // No visit ends early.
            let _ = expr.visit(&mut fields);
        }
    }

    fn lambda(&self, body: Expr) -> Expr {
        Expr::Lambda(LambdaFunction {
            params: OneOrManyWithParens::One(LambdaFunctionParameter {
                name: self.name.clone(),
                data_type: None,
            }),
            body: Box::new(body),
            syntax: LambdaSyntax::Arrow,
        })
    }

    /// The elements that the condition holds for.
    fn kept(&self) -> Expr {
        match &self.condition {
            None => self.array.clone(),
            Some(condition) => call("array_filter", vec![self.array.clone(), self.lambda(condition.clone())]),
        }
    }

    /// What a function gives of an array that is not NULL. So the array is named twice, which keeps DataFusion from moving
    /// what computes it into one projection with the function: the place of a lambda's parameter would no longer be right.
    fn of_array(&self, result: Expr) -> Expr {
        Expr::Case {
            case_token: AttachedToken::empty(),
            end_token: AttachedToken::empty(),
            operand: None,
            conditions: vec![CaseWhen {
                condition: Expr::IsNotNull(Box::new(self.array.clone())),
                result,
            }],
            else_result: None,
        }
    }

    /// What `item` is for each of them.
    fn each(&self, item: &Expr) -> Option<Expr> {
        let is_aggregate =
            |expr: &Expr| matches!(expr, Expr::Function(f) if AGGREGATES.iter().any(|a| is_called(f, a)));
        if contains(item, &is_aggregate) {
            return None;
        }
        if matches!(item, Expr::Identifier(ident) if folded(ident) == folded(&self.name)) {
            return Some(self.kept());
        }
        Some(call("array_transform", vec![self.kept(), self.lambda(item.clone())]))
    }

    /// `ARRAY(SELECT …)`.
    fn items(&self) -> Option<Expr> {
        match &self.item {
            Some(item) => self.each(item).map(|e| self.of_array(e)),
            None => Some(self.of_array(self.kept())),
        }
    }

    /// `(SELECT …)`.
    fn value(&self) -> Option<Expr> {
        let item = self.item.as_ref()?;
        if let Expr::Function(function) = item
            && let FunctionArguments::List(list) = &function.args
            && function.over.is_none()
            && function.filter.is_none()
            && list.duplicate_treatment.is_none()
            && list.clauses.is_empty()
            && let [FunctionArg::Unnamed(argument)] = list.args.as_slice()
        {
            match argument {
                FunctionArgExpr::Expr(of) if is_called(function, "max") => {
                    return Some(self.of_array(call("array_max", vec![self.each(of)?])));
                }
                FunctionArgExpr::Expr(of) if is_called(function, "min") => {
                    return Some(self.of_array(call("array_min", vec![self.each(of)?])));
                }
                FunctionArgExpr::Expr(of) if is_called(function, "array_agg") => {
                    return Some(self.of_array(self.each(of)?));
                }
                FunctionArgExpr::Wildcard if is_called(function, "count") => return Some(self.count()),
                _ => {}
            }
        }
        let first = Subscript::Index { index: number("1") };
        Some(self.of_array(Expr::CompoundFieldAccess {
            root: Box::new(self.each(item)?),
            access_chain: vec![AccessExpr::Subscript(first)],
        }))
    }

    /// How many elements the condition holds for.
    fn count(&self) -> Expr {
        let length = call("google_array_length", vec![self.kept()]);
        call("coalesce", vec![self.of_array(length), number("0")])
    }

    /// `EXISTS (SELECT …)`.
    fn exist(&self, negated: bool) -> Expr {
        Expr::InList {
            expr: Box::new(self.count()),
            list: vec![number("0")],
            negated: !negated,
        }
    }
}

/// Whether a SELECT has neither groups nor windows nor DISTINCT.
fn is_plain(select: &Select) -> bool {
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(by, with) if by.is_empty() && with.is_empty());
    select.distinct.is_none() && select.having.is_none() && select.qualify.is_none() && select.top.is_none() && !grouped
}

/// Writes names of fields as accesses to them.
struct Fields {
    name: Ident,
    /// Whether a name alone is a field's.
    bare: bool,
}

impl VisitorMut for Fields {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let is_own = |ident: &Ident| folded(ident) == folded(&self.name);
        let fields = match expr {
            Expr::CompoundIdentifier(parts) => match parts.split_first() {
                Some((first, fields)) if is_own(first) => Some(fields),
                _ => self.bare.then_some(parts.as_slice()),
            },
            Expr::Identifier(ident) if self.bare && !is_own(ident) => Some(std::slice::from_ref(ident)),
            _ => None,
        };
        if let Some(fields) = fields {
            let access = |field: &Ident| {
                let index = Expr::value(Value::SingleQuotedString(folded(field)));
                AccessExpr::Subscript(Subscript::Index { index })
            };
            *expr = Expr::CompoundFieldAccess {
                root: Box::new(Expr::Identifier(self.name.clone())),
                access_chain: fields.iter().map(access).collect(),
            };
        }
        ControlFlow::Continue(())
    }
}

/// Whether an expression is such a one, or has one in it.
fn contains(expr: &Expr, is: &dyn Fn(&Expr) -> bool) -> bool {
    visit_expressions(expr, |e| {
        if is(e) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })
    .is_break()
}

fn has_column(expr: &Expr) -> bool {
    contains(expr, &|e| {
        matches!(e, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
    })
}

fn is_called(function: &Function, name: &str) -> bool {
    function.name.to_string().eq_ignore_ascii_case(name)
}

fn number(digits: &str) -> Expr {
    Expr::value(Value::Number(digits.into(), false))
}

fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    let args = arguments
        .into_iter()
        .map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e)))
        .collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;
    use crate::sql::select::visit;

    #[test]
    fn queries_over_elements_are_functions() {
        let pairs = [
            (
                "(SELECT p.prob FROM UNNEST(probs) AS p(p) WHERE p.label = 1 LIMIT 1)",
                "array_transform(array_filter(probs, p -> p['label'] = 1), p -> p['prob'])[1]",
            ),
            (
                "(SELECT prob FROM UNNEST(t.probs) WHERE label = 'a')",
                "array_transform(array_filter(t.probs, \"element\" -> \"element\"['label'] = 'a'), \"element\" -> \"element\"['prob'])[1]",
            ),
            (
                "(SELECT MAX(p.prob) FROM UNNEST(probs) AS p)",
                "array_max(array_transform(probs, p -> p['prob']))",
            ),
            (
                "(SELECT COUNT(*) FROM UNNEST(hits) AS h WHERE h > least)",
                "coalesce(google_array_length(array_filter(hits, h -> h > least)), 0)",
            ),
            (
                "ARRAY(SELECT x * 2 FROM UNNEST(xs) AS x)",
                "array_transform(xs, x -> x * 2)",
            ),
            (
                "(SELECT value.int_value FROM UNNEST(params) AS q WHERE key = 'a')",
                "array_transform(array_filter(params, q -> q['key'] = 'a'), q -> q['value']['int_value'])[1]",
            ),
            // What has no such form stays.
            (
                "(SELECT SUM(x) FROM UNNEST(xs) AS x)",
                "(SELECT SUM(x) FROM UNNEST(xs) AS x)",
            ),
            (
                "(SELECT MAX(x) FROM UNNEST([1, 2]) AS x)",
                "(SELECT MAX(x) FROM UNNEST([1, 2]) AS x)",
            ),
            (
                "(SELECT x FROM UNNEST(xs) AS x ORDER BY x)",
                "(SELECT x FROM UNNEST(xs) AS x ORDER BY x)",
            ),
        ];
        for (sql, expected) in pairs {
            let mut statement = DFParser::parse_sql(&format!("SELECT {sql} FROM t"))
                .unwrap()
                .pop_front()
                .unwrap();
            visit(&mut statement, &mut ElementQueries);
            // Each is for an array that is not NULL.
            let array =
                ["probs", "t.probs", "hits", "xs", "params"].map(|a| format!("CASE WHEN {a} IS NOT NULL THEN "));
            let written = array
                .iter()
                .fold(statement.to_string(), |sql, case| sql.replace(case, ""));
            assert_eq!(written.replace(" END", ""), format!("SELECT {expected} FROM t"));
        }
    }
}
