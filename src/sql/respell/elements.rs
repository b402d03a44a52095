//! Subqueries over the elements of an array, `(SELECT p.prob FROM UNNEST(probs) AS p WHERE p.label = 1)`.
//!
//! DataFusion runs none whose array is a column of the query around it, so they are written as functions of the array:
//! `array_transform(array_filter(probs, p -> p['label'] = 1), p -> p['prob'])[1]`, unless the array is NULL. Aggregates over
//! elements are functions of the array too, `google_elements_sum(array_transform(…))`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    AccessExpr, CaseWhen, Distinct, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentClause, FunctionArgumentList, FunctionArguments, GroupByExpr, Ident, LambdaFunction,
    LambdaFunctionParameter, LambdaSyntax, LimitClause, ObjectName, OneOrManyWithParens, OrderByExpr, OrderByKind,
    Query, Select, SelectItem, SetExpr, Subscript, TableFactor, Value, VisitMut, VisitorMut, visit_expressions,
};

use super::array_queries::ElementQueries;
use super::select::folded;
use crate::sql::google::over_elements;

/// `SELECT item FROM UNNEST(array) AS name WHERE condition ORDER BY keys LIMIT most`.
pub(super) struct Elements<'a> {
    known: &'a ElementQueries,
    array: Expr,
    name: Ident,
    /// The names of an element and of its place, where WITH OFFSET is there.
    places: Option<(Ident, Ident)>,
    condition: Option<Expr>,
    item: Option<Expr>,
    distinct: bool,
    keys: Vec<(Expr, bool)>,
    most: Option<u64>,
    /// Whether a name alone is a field's.
    bare: bool,
}

impl<'a> Elements<'a> {
    /// What a query takes of an array, if it is one over an array's elements that functions can do. One over an array
    /// without columns is left to DataFusion, unless `always`.
    pub(super) fn of(query: &Query, known: &'a ElementQueries, always: bool) -> Option<Self> {
        let SetExpr::Select(select) = query.body.as_ref() else {
            return None;
        };
        let most = match &query.limit_clause {
            None => None,
            Some(LimitClause::LimitOffset {
                limit,
                offset: None,
                limit_by,
            }) if limit_by.is_empty() => limit.as_ref().map(whole_number).map_or(Some(None), |n| n.map(Some))?,
            Some(_) => return None,
        };
        if query.with.is_some() || query.fetch.is_some() || !is_plain(select, true) {
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
        let array = array_exprs.first()?;
        let columns = alias.iter().flat_map(|a| &a.columns).map(|c| &c.name);
        let columns: Vec<&Ident> = columns.collect();
        let places = match (array_exprs.len(), columns.as_slice()) {
            (1, [] | [_]) => None,
            (2, [element, place]) => Some(((*element).clone(), (*place).clone())),
            _ => return None,
        };
        if !from.joins.is_empty() || alias.is_some() && !always && !has_column(array) {
            return None;
        }
        let own = Ident::with_quote('"', "element");
        let (array, name) = match (&places, alias) {
            (Some(_), _) => (call("google_with_offset", vec![array.clone()]), own),
            (None, Some(alias)) => (array.clone(), columns.first().map_or(&alias.name, |c| c).clone()),
            (None, None) => (array.clone(), own),
        };
        let item = match select.projection.as_slice() {
            [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] => Some(item.clone()),
            [SelectItem::Wildcard(_)] if places.is_none() => None,
            _ => return None,
        };
        let alias = match select.projection.as_slice() {
            [SelectItem::ExprWithAlias { alias, .. }] => Some(folded(alias)),
            _ => None,
        };
        let keys = order(query)?.iter().map(|key| {
            let descending = key.options.asc == Some(false);
            let usual = key.options.nulls_first.is_none_or(|first| first != descending);
            let of_item = matches!(&key.expr, Expr::Identifier(ident) if Some(folded(ident)) == alias);
            let expr = match &item {
                Some(item) if of_item => item.clone(),
                _ => key.expr.clone(),
            };
            usual.then_some((expr, descending))
        });
        let keys: Option<Vec<_>> = keys.collect();
        let mut elements = Self {
            known,
            array,
            name,
            places,
            condition: select.selection.clone(),
            item,
            distinct: select.distinct.is_some(),
            keys: keys?,
            most,
            bare: false,
        };
        elements.find_fields();
        Some(elements)
    }

    /// Finds whether a name alone is a field: where nothing is said of the element by its own name.
    fn find_fields(&mut self) {
        let own: Vec<String> = match &self.places {
            Some((element, _)) => vec![folded(element)],
            None => vec![folded(&self.name)],
        };
        let is_own = |expr: &Expr| match expr {
            Expr::Identifier(ident) => own.contains(&folded(ident)),
            Expr::CompoundIdentifier(parts) => parts.first().is_some_and(|p| own.contains(&folded(p))),
            _ => false,
        };
        self.bare = ![&self.condition, &self.item]
            .into_iter()
            .flatten()
            .any(|expr| contains(expr, &is_own));
    }

    /// What is said of an element, as a function of it: names of fields are accesses to them.
    fn lambda(&self, body: &Expr) -> Expr {
        Expr::Lambda(LambdaFunction {
            params: OneOrManyWithParens::One(LambdaFunctionParameter {
                name: self.name.clone(),
                data_type: None,
            }),
            body: Box::new(self.of_element(body)),
            syntax: LambdaSyntax::Arrow,
        })
    }

    fn of_element(&self, expr: &Expr) -> Expr {
        let mut expr = expr.clone();
        // No visit ends early.
        let _ = expr.visit(&mut Fields(self));
        expr
    }

    /// The elements that the condition, and one more, hold for.
    fn kept(&self, filter: Option<&Expr>) -> Expr {
        [self.condition.as_ref(), filter]
            .into_iter()
            .flatten()
            .fold(self.array.clone(), |array, condition| {
                call("array_filter", vec![array, self.lambda(condition)])
            })
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

    /// What `item` is for each of the kept elements.
    fn each(&self, item: &Expr, filter: Option<&Expr>) -> Expr {
        if self.places.is_none() && matches!(item, Expr::Identifier(ident) if folded(ident) == folded(&self.name)) {
            return self.kept(filter);
        }
        call("array_transform", vec![self.kept(filter), self.lambda(item)])
    }

    /// What `item` is for each of them, in the order of keys.
    fn ordered(&self, item: &Expr, keys: &[(Expr, bool)], filter: Option<&Expr>) -> Expr {
        let items = self.each(item, filter);
        if keys.is_empty() {
            return items;
        }
        let mut arguments = vec![items];
        for (key, descending) in keys {
            arguments.push(self.each(key, filter));
            let direction = if *descending { "DESC" } else { "ASC" };
            arguments.push(Expr::value(Value::SingleQuotedString(direction.into())));
        }
        call("google_array_sorted", arguments)
    }

    /// The items of the query, without its LIMIT.
    fn all(&self, item: &Expr) -> Expr {
        let items = self.ordered(item, &self.keys, None);
        if self.distinct {
            call("array_distinct", vec![items])
        } else {
            items
        }
    }

    /// `ARRAY(SELECT …)`: never NULL.
    pub(super) fn items(&self) -> Option<Expr> {
        let own = Expr::Identifier(self.name.clone());
        let item = self.item.as_ref().unwrap_or(&own);
        if is_aggregated(item) {
            return None;
        }
        let mut items = self.all(item);
        if let Some(most) = self.most {
            items = call("array_slice", vec![items, number("1"), number(&most.to_string())]);
        }
        Some(call("google_array", vec![self.of_array(items)]))
    }

    /// `(SELECT …)`.
    pub(super) fn value(&self) -> Option<Expr> {
        let item = self.item.as_ref()?;
        if self.most == Some(0) {
            return Some(Expr::value(Value::Null));
        }
        if is_aggregated(item) {
            return self.aggregated(item);
        }
        let first = Subscript::Index { index: number("1") };
        Some(self.of_array(Expr::CompoundFieldAccess {
            root: Box::new(self.all(item)),
            access_chain: vec![AccessExpr::Subscript(first)],
        }))
    }

    /// An expression of aggregates over the elements.
    fn aggregated(&self, item: &Expr) -> Option<Expr> {
        if self.distinct || contains(item, &|e| matches!(e, Expr::Subquery(_) | Expr::Exists { .. })) {
            return None;
        }
        let mut item = item.clone();
        let mut aggregates = Aggregates(self);
        match item.visit(&mut aggregates) {
            ControlFlow::Continue(()) => Some(item),
            ControlFlow::Break(()) => None,
        }
    }

    /// One aggregate over the elements.
    fn aggregate(&self, function: &Function) -> Option<Expr> {
        let FunctionArguments::List(list) = &function.args else {
            return None;
        };
        if function.over.is_some() || function.null_treatment.is_some() || !function.within_group.is_empty() {
            return None;
        }
        let name = over_elements(&function.name.to_string())?;
        let filter = function.filter.as_deref();
        let mut keys = vec![];
        for clause in &list.clauses {
            match clause {
                FunctionArgumentClause::OrderBy(by) => {
                    keys.extend(by.iter().map(|k| (k.expr.clone(), k.options.asc == Some(false))));
                }
                _ => return None,
            }
        }
        let mut arguments = list.args.iter().map(|argument| match argument {
            FunctionArg::Unnamed(argument) => Some(argument),
            _ => None,
        });
        let is_count = is_called(function, "count");
        let result = match arguments.next()?? {
            FunctionArgExpr::Wildcard if is_count => call("google_array_length", vec![self.kept(filter)]),
            FunctionArgExpr::Expr(argument) => {
                let mut items = self.ordered(argument, &keys, filter);
                if list.duplicate_treatment == Some(DuplicateTreatment::Distinct) {
                    items = call("array_distinct", vec![items]);
                }
                let mut all = vec![items];
                for other in arguments {
                    match other? {
                        FunctionArgExpr::Expr(other) => all.push(other.clone()),
                        _ => return None,
                    }
                }
                call(&name, all)
            }
            _ => return None,
        };
        let result = self.of_array(result);
        Some(match is_count {
            true => call("coalesce", vec![result, number("0")]),
            false => result,
        })
    }

    /// `EXISTS (SELECT …)`. A query of aggregates always has a row.
    pub(super) fn exist(&self, negated: bool) -> Option<Expr> {
        if self.item.as_ref().is_some_and(is_aggregated) || self.most == Some(0) {
            return None;
        }
        let count = self.of_array(call("google_array_length", vec![self.kept(None)]));
        Some(Expr::InList {
            expr: Box::new(call("coalesce", vec![count, number("0")])),
            list: vec![number("0")],
            negated: !negated,
        })
    }
}

/// The keys of a query's order; none if it is not one of expressions.
pub(super) fn order(query: &Query) -> Option<&[OrderByExpr]> {
    match query.order_by.as_ref().map(|by| &by.kind) {
        None => Some(&[]),
        Some(OrderByKind::Expressions(keys)) => Some(keys),
        Some(OrderByKind::All(_)) => None,
    }
}

/// Whether a SELECT has neither groups nor windows, nor, unless it may, DISTINCT.
pub(super) fn is_plain(select: &Select, may_be_distinct: bool) -> bool {
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(by, with) if by.is_empty() && with.is_empty());
    let distinct = match &select.distinct {
        None => false,
        Some(Distinct::Distinct) => !may_be_distinct,
        Some(_) => true,
    };
    !distinct && select.having.is_none() && select.qualify.is_none() && select.top.is_none() && !grouped
}

/// Whether an item is one of all elements: it has an aggregate in it.
fn is_aggregated(item: &Expr) -> bool {
    contains(
        item,
        &|e| matches!(e, Expr::Function(f) if over_elements(&f.name.to_string()).is_some() || is_other_aggregate(f)),
    )
}

/// Aggregates that have no function of an array here; a subquery with one stays as it is.
fn is_other_aggregate(function: &Function) -> bool {
    [
        "corr",
        "approx_quantiles",
        "approx_top_count",
        "bit_and",
        "bit_or",
        "bit_xor",
    ]
    .iter()
    .any(|name| is_called(function, name))
}

/// Writes aggregates over elements as functions of the array; ends where one has no such form.
struct Aggregates<'a>(&'a Elements<'a>);

impl VisitorMut for Aggregates<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::Function(function) = expr else {
            return ControlFlow::Continue(());
        };
        if is_other_aggregate(function) {
            return ControlFlow::Break(());
        }
        if over_elements(&function.name.to_string()).is_none() {
            return ControlFlow::Continue(());
        }
        match self.0.aggregate(function) {
            Some(written) => {
                *expr = written;
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        }
    }
}

/// Writes names of fields as accesses to them.
struct Fields<'a>(&'a Elements<'a>);

impl Fields<'_> {
    /// The fields that a name of parts steps through, from the element; none if it is of a query around.
    fn path<'p>(&self, parts: &'p [Ident]) -> Option<(Option<&'static str>, &'p [Ident])> {
        let Elements {
            known,
            places,
            name,
            bare,
            ..
        } = self.0;
        let (first, rest) = parts.split_first()?;
        match places {
            Some((element, _)) if folded(first) == folded(element) => return Some((Some("value"), rest)),
            Some((_, place)) if folded(first) == folded(place) && rest.is_empty() => {
                return Some((Some("offset"), rest));
            }
            None if folded(first) == folded(name) => return Some((None, rest)),
            _ => {}
        }
        let lower = first.value.to_lowercase();
        let is_outer = if rest.is_empty() {
            known.is_outer(&lower)
        } else {
            known.is_relation(&lower) || known.is_outer(&lower)
        };
        let value = places.as_ref().map(|_| "value");
        (*bare && !is_outer).then_some((value, parts))
    }
}

impl VisitorMut for Fields<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let path = match &*expr {
            Expr::CompoundIdentifier(parts) => self.path(parts),
            Expr::Identifier(ident) => self.path(std::slice::from_ref(ident)),
            _ => None,
        };
        let Some((first, fields)) = path else {
            return ControlFlow::Continue(());
        };
        if first.is_none() && fields.is_empty() {
            return ControlFlow::Continue(());
        }
        let access = |field: String| {
            let index = Expr::value(Value::SingleQuotedString(field));
            AccessExpr::Subscript(Subscript::Index { index })
        };
        let steps = first.map(str::to_string).into_iter().chain(fields.iter().map(folded));
        *expr = Expr::CompoundFieldAccess {
            root: Box::new(Expr::Identifier(self.0.name.clone())),
            access_chain: steps.map(access).collect(),
        };
        ControlFlow::Continue(())
    }
}

/// The number that an expression is, if it is a whole one.
fn whole_number(expr: &Expr) -> Option<u64> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => digits.to_string().parse().ok(),
            _ => None,
        },
        _ => None,
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

pub(super) fn is_called(function: &Function, name: &str) -> bool {
    function.name.to_string().eq_ignore_ascii_case(name)
}

fn number(digits: &str) -> Expr {
    Expr::value(Value::Number(digits.into(), false))
}

pub(super) fn call(name: &str, arguments: Vec<Expr>) -> Expr {
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

    use crate::sql::respell::array_queries::ElementQueries;
    use crate::sql::respell::select::visit;

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
                "google_elements_max(array_transform(probs, p -> p['prob']))",
            ),
            (
                "(SELECT COUNT(*) FROM UNNEST(hits) AS h WHERE h > least)",
                "coalesce(google_array_length(array_filter(hits, h -> h > least)), 0)",
            ),
            (
                "ARRAY(SELECT x * 2 FROM UNNEST(xs) AS x)",
                "google_array(array_transform(xs, x -> x * 2))",
            ),
            (
                "(SELECT value.int_value FROM UNNEST(params) AS q WHERE key = 'a')",
                "array_transform(array_filter(params, q -> q['key'] = 'a'), q -> q['value']['int_value'])[1]",
            ),
            (
                "(SELECT SUM(x) / COUNT(*) FROM UNNEST(xs) AS x)",
                "google_elements_sum(xs) / coalesce(google_array_length(xs), 0)",
            ),
            (
                "(SELECT x FROM UNNEST(xs) AS x ORDER BY x DESC LIMIT 1)",
                "google_array_sorted(xs, xs, 'DESC')[1]",
            ),
            (
                "(SELECT COUNT(DISTINCT v) FILTER (WHERE v > 1) FROM UNNEST(params))",
                "coalesce(google_elements_count(array_distinct(array_transform(array_filter(params, \"element\" -> \"element\"['v'] > 1), \"element\" -> \"element\"['v']))), 0)",
            ),
            ("x IN UNNEST([1, 2])", "x IN (1, 2)"),
            ("x NOT IN UNNEST(xs)", "(NOT google_in_unnest(x, xs))"),
            // What has no such form stays.
            (
                "(SELECT CORR(x, x) FROM UNNEST(xs) AS x)",
                "(SELECT CORR(x, x) FROM UNNEST(xs) AS x)",
            ),
            (
                "(SELECT MAX(x) FROM UNNEST([1, 2]) AS x)",
                "(SELECT MAX(x) FROM UNNEST([1, 2]) AS x)",
            ),
        ];
        for (sql, expected) in pairs {
            let mut statement = DFParser::parse_sql(&format!("SELECT {sql} FROM t"))
                .unwrap()
                .pop_front()
                .unwrap();
            visit(&mut statement, &mut ElementQueries::default());
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
