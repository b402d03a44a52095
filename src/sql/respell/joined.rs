//! Arrays of a table that are unnested further on in the same FROM, `FROM t JOIN u USING (k), UNNEST(t.arr) AS x`.
//!
//! DataFusion takes no column of another table there. So the table itself is written with a row for each element, as
//! [`crate::sql::statement`] does where the array is named right after its table:
//! `FROM (SELECT *, unnest(t.arr) AS x FROM t) AS t JOIN u USING (k)`. An array of structs written out becomes VALUES, whose
//! columns are the fields.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, Expr, Ident, Join, JoinConstraint, JoinOperator, Parens, Query, Select, SelectItem,
    SetExpr, Subscript, TableAlias, TableAliasColumnDef, TableFactor, TableWithJoins, Value, Values, VisitMut,
    VisitorMut, visit_expressions,
};

use super::select::{folded, parsed_query, relation_name};

/// The columns of tables, both in lower case.
pub(crate) type Columns = BTreeMap<String, BTreeSet<String>>;

/// The name of an element that has none.
const ELEMENT: &str = "element";

/// Where a table stands in FROM: the item, and the join of it, if it is joined.
type Place = (usize, Option<usize>);

/// Writes the tables of a SELECT with a row for each element of the arrays that are unnested beside them, and arrays of
/// structs as rows.
pub(crate) fn spread(select: &mut Select, columns: &Columns) {
    // Each turn takes one UNNEST out of the list.
    while let Some((unnest, table)) = found(select, columns) {
        if move_into(select, unnest, table).is_none() {
            return;
        }
    }
    let whole = names_alone(select);
    for table in &mut select.from {
        let factors = std::iter::once(&mut table.relation).chain(table.joins.iter_mut().map(|j| &mut j.relation));
        for factor in factors {
            if let Some(rows) = rows_of_structs(factor, &whole) {
                *factor = rows;
            }
        }
    }
}

fn factor(select: &Select, place: Place) -> Option<&TableFactor> {
    let table = select.from.get(place.0)?;
    match place.1 {
        None => Some(&table.relation),
        Some(join) => table.joins.get(join).map(|j| &j.relation),
    }
}

fn factor_mut(select: &mut Select, place: Place) -> Option<&mut TableFactor> {
    let table = select.from.get_mut(place.0)?;
    match place.1 {
        None => Some(&mut table.relation),
        Some(join) => table.joins.get_mut(join).map(|j| &mut j.relation),
    }
}

/// All places in FROM, in order.
fn places(select: &Select) -> Vec<Place> {
    let of_item = |(i, table): (usize, &TableWithJoins)| {
        let joins = table.joins.len();
        std::iter::once((i, None)).chain((0..joins).map(move |j| (i, Some(j))))
    };
    select.from.iter().enumerate().flat_map(of_item).collect()
}

/// The arrays that a table in FROM is, and the names of its columns: those of UNNEST, or `t.arr` of a table before.
fn arrays(factor: &TableFactor, before: &[String]) -> Option<(Vec<Expr>, Option<Ident>, Vec<Ident>)> {
    match factor {
        TableFactor::UNNEST {
            alias,
            array_exprs,
            with_offset: false,
            with_ordinality: false,
            ..
        } => {
            let names = alias
                .iter()
                .flat_map(|a| a.columns.iter().map(|c| c.name.clone()))
                .collect();
            Some((array_exprs.clone(), alias.as_ref().map(|a| a.name.clone()), names))
        }
        TableFactor::Table {
            name,
            alias,
            args: None,
            ..
        } => {
            let parts: Option<Vec<Ident>> = name.0.iter().map(|p| p.as_ident().cloned()).collect();
            let parts = parts.filter(|p| p.len() > 1)?;
            let of_table = parts.first().is_some_and(|first| before.contains(&folded(first)));
            let own = alias.as_ref().map_or(parts.last(), |a| Some(&a.name)).cloned();
            of_table.then(|| (vec![Expr::CompoundIdentifier(parts)], own, vec![]))
        }
        _ => None,
    }
}

/// The first table that is an array of one before it, and that one.
fn found(select: &Select, columns: &Columns) -> Option<(Place, Place)> {
    let mut before: Vec<(String, Place)> = vec![];
    for place in places(select) {
        let factor = factor(select, place)?;
        let names: Vec<String> = before.iter().map(|(name, _)| name.clone()).collect();
        if let Some((arrays, ..)) = arrays(factor, &names)
            && let Some(table) = arrays.first().and_then(|a| source(select, a, &before, columns))
            && is_spreadable(select, place, table)
        {
            return Some((place, table));
        }
        if let Some(name) = relation_name(factor) {
            before.push((name, place));
        }
    }
    None
}

/// The table that an array's first column is of.
fn source(select: &Select, array: &Expr, before: &[(String, Place)], columns: &Columns) -> Option<Place> {
    let mut first = None;
    let _ = visit_expressions(array, |e| {
        match e {
            Expr::Identifier(ident) => first = Some((folded(ident), false)),
            Expr::CompoundIdentifier(parts) => first = parts.first().map(|p| (folded(p), true)),
            _ => return ControlFlow::Continue(()),
        }
        ControlFlow::Break(())
    });
    let (name, _) = first?;
    if let Some((_, place)) = before.iter().find(|(table, _)| *table == name) {
        return Some(*place);
    }
    let has = |place: &Place| match factor(select, *place) {
        Some(TableFactor::Table { name: table, .. }) => {
            let table = table
                .0
                .last()
                .and_then(|p| p.as_ident())
                .map(|i| i.value.to_lowercase());
            let known = table.and_then(|t| columns.get(&t));
            known.is_some_and(|c| c.contains(&name.to_lowercase()))
        }
        Some(TableFactor::Derived { subquery, .. }) => gives(subquery, &name),
        _ => false,
    };
    let mut with: Vec<Place> = before.iter().map(|(_, place)| *place).filter(has).collect();
    if with.is_empty() && before.len() == 1 {
        with = before.iter().map(|(_, place)| *place).collect();
    }
    match with.as_slice() {
        [only] => Some(*only),
        _ => None,
    }
}

/// Whether a query names a column so.
fn gives(query: &Query, name: &str) -> bool {
    named_columns(query).any(|column| column == name)
}

/// The names that a query gives its columns itself.
pub(crate) fn named_columns(query: &Query) -> impl Iterator<Item = String> {
    let projection = match query.body.as_ref() {
        SetExpr::Select(select) => select.projection.as_slice(),
        _ => &[],
    };
    projection.iter().filter_map(|item| match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
        SelectItem::UnnamedExpr(Expr::Identifier(ident)) => Some(folded(ident)),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last().map(folded),
        _ => None,
    })
}

fn is_left(join: &Join) -> bool {
    matches!(join.join_operator, JoinOperator::Left(_) | JoinOperator::LeftOuter(_))
}

/// Whether the rows of a table may be multiplied where it stands: no outer join before the UNNEST makes NULLs of them.
fn is_spreadable(select: &Select, unnest: Place, table: Place) -> bool {
    let Some(from) = select.from.get(table.0) else {
        return false;
    };
    let is_inner = |join: &Join| {
        matches!(
            join.join_operator,
            JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_)
        )
    };
    let after = table.1.map_or(0, |j| j + 1);
    let end = if unnest.0 == table.0 {
        unnest.1.unwrap_or(0)
    } else {
        from.joins.len()
    };
    let later = from.joins.get(after..end).unwrap_or_default();
    let joined = unnest.1.and_then(|j| select.from.get(unnest.0)?.joins.get(j));
    let keeps_rows = joined.is_some_and(is_left);
    let own = table
        .1
        .and_then(|j| from.joins.get(j))
        .is_none_or(|j| is_inner(j) || keeps_rows && is_left(j));
    let is_true = |c: &JoinConstraint| match c {
        JoinConstraint::None => true,
        JoinConstraint::On(Expr::Value(value)) => value.value == Value::Boolean(true),
        _ => false,
    };
    let by_itself = match joined.map(|j| &j.join_operator) {
        None => true,
        Some(JoinOperator::Join(c) | JoinOperator::Inner(c) | JoinOperator::CrossJoin(c)) => {
            is_true(c) || matches!(c, JoinConstraint::On(_))
        }
        Some(JoinOperator::Left(c) | JoinOperator::LeftOuter(c)) => is_true(c),
        Some(_) => false,
    };
    let follows = select.from.get(unnest.0).is_some_and(|f| f.joins.is_empty());
    let in_reach = unnest.1.is_some() || follows || unnest.0 == table.0 + 1;
    own && by_itself && in_reach && later.iter().all(|j| is_inner(j) || is_left(j))
}

/// Takes an UNNEST out of FROM, and writes its table with its elements.
fn move_into(select: &mut Select, unnest: Place, table: Place) -> Option<()> {
    let before: Vec<String> = places(select)
        .into_iter()
        .filter_map(|p| factor(select, p).and_then(relation_name))
        .collect();
    let (exprs, own, names) = arrays(factor(select, unnest)?, &before)?;
    let joined = unnest.1.and_then(|j| select.from.get(unnest.0)?.joins.get(j));
    let keeps_rows = joined.is_some_and(is_left);
    let own = own.unwrap_or_else(|| Ident::with_quote('"', ELEMENT));
    let first = exprs.first()?.clone();
    let spread = exprs.iter().enumerate().map(|(i, array)| {
        let name = names.get(i).unwrap_or(&own);
        match keeps_rows {
            true => format!("unnest(CASE WHEN cardinality({first}) > 0 THEN {array} ELSE [NULL] END) AS {name}"),
            false => format!("unnest({array}) AS {name}"),
        }
    });
    let spread: Vec<String> = spread.collect();
    let mut query = parsed_query(&format!("SELECT *, {} FROM t", spread.join(", ")))?;
    let name = relation_name(factor(select, table)?)?;
    let SetExpr::Select(inner) = query.body.as_mut() else {
        return None;
    };
    let target = factor_mut(select, table)?;
    inner.from.first_mut()?.relation = target.clone();
    *target = TableFactor::Derived {
        lateral: false,
        subquery: Box::new(query),
        alias: Some(alias(Ident::with_quote('"', name), vec![])),
        sample: None,
    };
    remove(select, unnest);
    Some(())
}

fn remove(select: &mut Select, unnest: Place) {
    let (item, join) = unnest;
    match join {
        Some(join) => {
            let Some(from) = select.from.get_mut(item).filter(|f| join < f.joins.len()) else {
                return;
            };
            let gone = from.joins.remove(join);
            if let JoinOperator::Join(JoinConstraint::On(condition))
            | JoinOperator::Inner(JoinConstraint::On(condition))
            | JoinOperator::CrossJoin(JoinConstraint::On(condition)) = gone.join_operator
            {
                let condition = Expr::Nested(Box::new(condition));
                select.selection = Some(match select.selection.take() {
                    Some(other) => Expr::BinaryOp {
                        left: Box::new(condition),
                        op: BinaryOperator::And,
                        right: Box::new(Expr::Nested(Box::new(other))),
                    },
                    None => condition,
                });
            }
        }
        None if item < select.from.len() => {
            let gone = select.from.remove(item);
            if let Some(last) = item.checked_sub(1).and_then(|i| select.from.get_mut(i)) {
                last.joins.extend(gone.joins);
            }
        }
        None => {}
    }
}

fn alias(name: Ident, columns: Vec<Ident>) -> TableAlias {
    TableAlias {
        explicit: true,
        name,
        columns: columns
            .into_iter()
            .map(|name| TableAliasColumnDef { name, data_type: None })
            .collect(),
        at: None,
    }
}

/// Writes the fields of elements without a name of their own, `SELECT key FROM t, UNNEST(params)`, as steps into them.
pub(crate) fn name_fields(select: &mut Select, fields: &BTreeSet<String>) {
    let is_element = |item: &SelectItem| matches!(item, SelectItem::ExprWithAlias { alias, .. } if alias.quote_style.is_some() && alias.value == ELEMENT);
    let has_element = |factor: &TableFactor| match factor {
        TableFactor::Derived { subquery, .. } => match subquery.body.as_ref() {
            SetExpr::Select(inner) => inner.projection.iter().any(is_element),
            _ => false,
        },
        _ => false,
    };
    let of_table = |t: &TableWithJoins| has_element(&t.relation) || t.joins.iter().any(|j| has_element(&j.relation));
    if fields.is_empty() || !select.from.iter().any(of_table) {
        return;
    }
    let mut steps = Steps(fields);
    let parts = [&mut select.selection, &mut select.having, &mut select.qualify];
    // No visit ends early.
    for expr in parts.into_iter().flatten() {
        let _ = expr.visit(&mut steps);
    }
    let _ = select.projection.visit(&mut steps);
    let _ = select.group_by.visit(&mut steps);
}

struct Steps<'a>(&'a BTreeSet<String>);

impl VisitorMut for Steps<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let parts = match &*expr {
            Expr::Identifier(ident) => std::slice::from_ref(ident),
            Expr::CompoundIdentifier(parts) => parts.as_slice(),
            _ => return ControlFlow::Continue(()),
        };
        if parts.first().is_some_and(|p| self.0.contains(&p.value.to_lowercase())) {
            let access = |field: &Ident| {
                let index = Expr::value(Value::SingleQuotedString(folded(field)));
                AccessExpr::Subscript(Subscript::Index { index })
            };
            *expr = Expr::CompoundFieldAccess {
                root: Box::new(Expr::Identifier(Ident::with_quote('"', ELEMENT))),
                access_chain: parts.iter().map(access).collect(),
            };
        }
        ControlFlow::Continue(())
    }
}

/// The names that stand alone in a SELECT, as values.
fn names_alone(select: &Select) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let _ = visit_expressions(select, |e| {
        if let Expr::Identifier(ident) = e {
            names.insert(folded(ident));
        }
        ControlFlow::<()>::Continue(())
    });
    names
}

/// `UNNEST([STRUCT(1 AS a, 'x' AS b), (2, 'y')])` as VALUES with the columns a and b; none where the whole struct is asked
/// for by its name.
fn rows_of_structs(factor: &TableFactor, whole: &BTreeSet<String>) -> Option<TableFactor> {
    let TableFactor::UNNEST {
        alias: given,
        array_exprs,
        with_offset: false,
        with_ordinality: false,
        ..
    } = factor
    else {
        return None;
    };
    let [Expr::Array(array)] = array_exprs.as_slice() else {
        return None;
    };
    let name = given.as_ref().map(|a| a.name.clone());
    if name.as_ref().is_some_and(|n| whole.contains(&folded(n))) {
        return None;
    }
    let Expr::Struct { values, fields } = array.elem.first()? else {
        return None;
    };
    if !fields.is_empty() {
        return None;
    }
    let columns: Vec<Ident> = values
        .iter()
        .map(|value| match value {
            Expr::Named { name, .. } => Some(name.clone()),
            Expr::Identifier(ident) => Some(ident.clone()),
            _ => None,
        })
        .collect::<Option<_>>()?;
    let plain = |value: &Expr| match value {
        Expr::Named { expr, .. } => (**expr).clone(),
        other => other.clone(),
    };
    let row = |item: &Expr| match item {
        Expr::Struct { values, .. } | Expr::Tuple(values) if values.len() == columns.len() => {
            Some(values.iter().map(plain).collect::<Vec<_>>())
        }
        _ => None,
    };
    let rows: Vec<Vec<Expr>> = array.elem.iter().map(row).collect::<Option<_>>()?;
    let mut query = parsed_query("VALUES (1)")?;
    let SetExpr::Values(Values { rows: written, .. }) = query.body.as_mut() else {
        return None;
    };
    let first = written.first()?.clone();
    *written = rows
        .into_iter()
        .map(|content| Parens {
            content,
            ..first.clone()
        })
        .collect();
    let name = name.unwrap_or_else(|| Ident::with_quote('"', ELEMENT));
    Some(TableFactor::Derived {
        lateral: false,
        subquery: Box::new(query),
        alias: Some(alias(name, columns)),
        sample: None,
    })
}
