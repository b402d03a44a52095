//! Structs whose fields have the names that BigQuery gives them: those of the columns in `STRUCT(a, t.b)`, those of the first
//! struct in an array, and those that `STRUCT<a INT64>(1)` says.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, Array, ArrayElemTypeDef, CastKind, DataType, Expr, Ident, StructField, Subscript, Value, VisitorMut,
};

use super::definitions::google_type;
use super::select::folded;

/// Names the fields of structs.
pub(crate) struct FieldNames;

impl VisitorMut for FieldNames {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Struct { values, fields } if fields.is_empty() => name_columns(values),
            Expr::Struct { values, fields } if fields.len() == values.len() => {
                let values = std::mem::take(values);
                let fields = std::mem::take(fields);
                *expr = with_types(values, &fields);
            }
            Expr::Array(array) => name_alike(array),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// `STRUCT(a, t.b, 1 AS c)` as `STRUCT(a AS a, t.b AS b, 1 AS c)`.
fn name_columns(values: &mut [Expr]) {
    let mut taken: Vec<String> = values
        .iter()
        .filter_map(|value| match value {
            Expr::Named { name, .. } => Some(name.value.to_lowercase()),
            _ => None,
        })
        .collect();
    for value in values {
        let Some(name) = name_of(value).filter(|name| !taken.contains(&name.to_lowercase())) else {
            continue;
        };
        taken.push(name.to_lowercase());
        *value = named(value.clone(), &name);
    }
}

fn named(value: Expr, name: &str) -> Expr {
    Expr::Named {
        expr: Box::new(value),
        name: Ident::with_quote('"', name),
    }
}

/// What a column or a field is called.
fn name_of(value: &Expr) -> Option<String> {
    match value {
        Expr::Identifier(name) => Some(folded(name)),
        Expr::CompoundIdentifier(names) => names.last().map(folded),
        Expr::Nested(inner) => name_of(inner),
        Expr::CompoundFieldAccess { access_chain, .. } => match access_chain.last()? {
            AccessExpr::Dot(Expr::Identifier(name)) => Some(folded(name)),
            AccessExpr::Subscript(Subscript::Index {
                index: Expr::Value(value),
            }) => match &value.value {
                Value::SingleQuotedString(name) => Some(name.clone()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

/// Names the fields of all structs in an array as those of the first.
fn name_alike(array: &mut Array) {
    let Some((Expr::Struct { values: first, .. }, others)) = array.elem.split_first_mut() else {
        return;
    };
    let names: Vec<Option<String>> = first
        .iter()
        .map(|value| match value {
            Expr::Named { name, .. } => Some(name.value.clone()),
            _ => None,
        })
        .collect();
    if names.iter().all(Option::is_none) {
        return;
    }
    for other in others {
        let (Expr::Struct { values, .. } | Expr::Tuple(values)) = other else {
            continue;
        };
        if values.len() != names.len() {
            continue;
        }
        let renamed = std::mem::take(values).into_iter().zip(&names).map(|(value, name)| {
            let inner = match value {
                Expr::Named { expr, .. } if name.is_some() => *expr,
                other => other,
            };
            match name {
                Some(name) => named(inner, name),
                None => inner,
            }
        });
        *other = Expr::Struct {
            values: renamed.collect(),
            fields: vec![],
        };
    }
}

/// A struct whose fields have these names and types.
fn with_types(values: Vec<Expr>, fields: &[StructField]) -> Expr {
    let typed = values.into_iter().zip(fields).map(|(value, field)| {
        let inner = match value {
            Expr::Named { expr, .. } => *expr,
            other => other,
        };
        let inner = with_type(inner, &field.field_type);
        match &field.field_name {
            Some(name) => named(inner, &name.value),
            None => inner,
        }
    });
    Expr::Struct {
        values: typed.collect(),
        fields: vec![],
    }
}

fn with_type(value: Expr, data_type: &DataType) -> Expr {
    match (value, data_type) {
        (Expr::Struct { values, .. } | Expr::Tuple(values), DataType::Struct(fields, _))
            if values.len() == fields.len() =>
        {
            with_types(values, fields)
        }
        (Expr::Array(array), DataType::Array(ArrayElemTypeDef::AngleBracket(item))) if !array.elem.is_empty() => {
            Expr::Array(Array {
                elem: array.elem.into_iter().map(|e| with_type(e, item)).collect(),
                ..array
            })
        }
        (value, data_type) => {
            let mut data_type = data_type.clone();
            google_type(&mut data_type);
            Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(value),
                data_type,
                array: false,
                format: None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;
    use crate::sql::respell::select::visit;

    #[test]
    fn fields_have_names() {
        let pairs = [
            (
                "STRUCT(k, t.V, 1 AS c, d[1]['e'])",
                "STRUCT(k AS \"k\", t.V AS \"v\", 1 AS c, d[1]['e'] AS \"e\")",
            ),
            // A name that is taken stays with the first.
            ("STRUCT(a, b.a)", "STRUCT(a AS \"a\", b.a)"),
            (
                "[STRUCT(1 AS x, 'a' AS y), STRUCT(2, 'b'), (3, 'c')]",
                "[STRUCT(1 AS x, 'a' AS y), STRUCT(2 AS \"x\", 'b' AS \"y\"), STRUCT(3 AS \"x\", 'c' AS \"y\")]",
            ),
            (
                "STRUCT<a INT64, b ARRAY<STRUCT<c STRING>>>(1, [('x')])",
                "STRUCT(CAST(1 AS BIGINT) AS \"a\", [CAST(('x') AS STRUCT<c VARCHAR>)] AS \"b\")",
            ),
            ("STRUCT(1, 2)", "STRUCT(1, 2)"),
        ];
        for (sql, expected) in pairs {
            let mut statement = DFParser::parse_sql(&format!("SELECT {sql}"))
                .unwrap()
                .pop_front()
                .unwrap();
            visit(&mut statement, &mut FieldNames);
            assert_eq!(statement.to_string(), format!("SELECT {expected}"));
        }
    }
}
