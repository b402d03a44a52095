//! Pieces of JSON in texts: JSON_VALUE and its like.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, ListBuilder, StringArray, StringBuilder};
use datafusion::common::Result as DataFusionResult;
use serde_json::Value;

use super::function::{BASE, Call, Kind, Spec, returns_texts};
use crate::error::Error;

const SCALAR: Spec = Spec {
    title: "JSON_VALUE",
    name: "json_value",
    syntax: "JSON_VALUE(json [, path])",
    summary: "The text, number or boolean at a path of a JSON text, as a text; NULL where there is none.",
    example: "SELECT JSON_VALUE('{\"name\": \"Jakob\", \"age\": 6}', '$.age')",
    takes: &[Kind::Text, Kind::Text],
    eval: |call| each(call, scalar),
    ..BASE
};

const PIECE: Spec = Spec {
    title: "JSON_QUERY",
    name: "json_query",
    syntax: "JSON_QUERY(json [, path])",
    summary: "What is at a path of a JSON text, as JSON; NULL where there is nothing.",
    example: "SELECT JSON_QUERY('{\"class\": {\"students\": [{\"name\": \"Jane\"}]}}', '$.class.students[0]')",
    eval: |call| each(call, piece),
    ..SCALAR
};

const SCALARS: Spec = Spec {
    title: "JSON_VALUE_ARRAY",
    name: "json_value_array",
    syntax: "JSON_VALUE_ARRAY(json [, path])",
    summary: "The texts, numbers and booleans of an array at a path of a JSON text, as texts; NULL where there is none.",
    example: "SELECT JSON_VALUE_ARRAY('{\"fruits\": [\"apple\", \"banana\"]}', '$.fruits')",
    returns: returns_texts,
    eval: |call| items(call, scalar),
    ..SCALAR
};

const PIECES: Spec = Spec {
    title: "JSON_QUERY_ARRAY",
    name: "json_query_array",
    syntax: "JSON_QUERY_ARRAY(json [, path])",
    summary: "The elements of an array at a path of a JSON text, as JSON; NULL where there is none.",
    example: "SELECT JSON_QUERY_ARRAY('[{\"a\": 1}, {\"a\": 2}]')",
    returns: returns_texts,
    eval: |call| items(call, piece),
    ..SCALAR
};

pub(super) const ALL: &[Spec] = &[
    SCALAR,
    Spec {
        title: "JSON_EXTRACT_SCALAR",
        name: "json_extract_scalar",
        syntax: "JSON_EXTRACT_SCALAR(json [, path])",
        example: "SELECT JSON_EXTRACT_SCALAR('{\"a.b\": {\"c\": \"world\"}}', \"$['a.b'].c\")",
        ..SCALAR
    },
    PIECE,
    Spec {
        title: "JSON_EXTRACT",
        name: "json_extract",
        syntax: "JSON_EXTRACT(json [, path])",
        example: "SELECT JSON_EXTRACT('{\"class\": {\"students\": []}}', '$.class')",
        ..PIECE
    },
    SCALARS,
    Spec {
        title: "JSON_EXTRACT_STRING_ARRAY",
        name: "json_extract_string_array",
        syntax: "JSON_EXTRACT_STRING_ARRAY(json [, path])",
        example: "SELECT JSON_EXTRACT_STRING_ARRAY('[\"apples\", \"oranges\"]')",
        ..SCALARS
    },
    PIECES,
    Spec {
        title: "JSON_EXTRACT_ARRAY",
        name: "json_extract_array",
        syntax: "JSON_EXTRACT_ARRAY(json [, path])",
        example: "SELECT JSON_EXTRACT_ARRAY('[1, 2, 3]')",
        ..PIECES
    },
];

/// A step of a path.
enum Step {
    Key(String),
    Place(usize),
}

/// The steps of a JSONPath: `$.a['b c'][0]`.
fn steps(path: &str) -> DataFusionResult<Vec<Step>> {
    let wrong = || {
        Error::data(format!(
            "'{path}' is no path into JSON; write one such as '$.a.b[0]' or \"$['a b']\""
        ))
    };
    let mut rest = path.trim().strip_prefix('$').ok_or_else(wrong)?;
    let mut steps = vec![];
    while !rest.is_empty() {
        if let Some(name) = rest.strip_prefix('.') {
            let end = name.find(['.', '[']).unwrap_or(name.len());
            let (key, after) = name.split_at(end);
            if key.is_empty() {
                return Err(wrong().into());
            }
            steps.push(Step::Key(key.trim_matches('"').into()));
            rest = after;
        } else if let Some(inside) = rest.strip_prefix('[') {
            let quote = inside.chars().next().filter(|c| matches!(c, '\'' | '"'));
            let (step, after) = match quote {
                Some(quote) => {
                    let (key, after) = inside[1..].split_once(quote).ok_or_else(wrong)?;
                    (Step::Key(key.into()), after.strip_prefix(']').ok_or_else(wrong)?)
                }
                None => {
                    let (place, after) = inside.split_once(']').ok_or_else(wrong)?;
                    (Step::Place(place.trim().parse().map_err(|_| wrong())?), after)
                }
            };
            steps.push(step);
            rest = after;
        } else {
            return Err(wrong().into());
        }
    }
    Ok(steps)
}

/// What is at the path of a row; none in what is no JSON.
fn found(call: &Call<'_>, row: usize) -> DataFusionResult<Option<Value>> {
    let steps = steps(if call.len() > 1 { call.text(1).value(row) } else { "$" })?;
    let Ok(value) = serde_json::from_str::<Value>(call.text(0).value(row)) else {
        return Ok(None);
    };
    let at = steps.iter().try_fold(&value, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Place(place) => value.get(place),
    });
    Ok(at.cloned())
}

/// A text without its quotes, a number or a boolean.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn piece(value: &Value) -> Option<String> {
    (!value.is_null()).then(|| value.to_string())
}

fn each(call: &Call<'_>, print: fn(&Value) -> Option<String>) -> DataFusionResult<ArrayRef> {
    call.map::<_, StringArray>(|row| Ok(found(call, row)?.as_ref().and_then(print)))
}

fn items(call: &Call<'_>, print: fn(&Value) -> Option<String>) -> DataFusionResult<ArrayRef> {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in 0..call.rows {
        let value = if call.has_null(row) { None } else { found(call, row)? };
        let Some(Value::Array(values)) = value else {
            lists.append_null();
            continue;
        };
        for value in &values {
            lists.values().append_option(print(value));
        }
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}
