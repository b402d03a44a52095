//! Options by name: what a model or function accepts, checked once, in one place.
//!
//! A specification ([`OptionSpec`]) drives the checks, the error messages, `ml.functions`, the shell's
//! `\h` and the README's reference.

use std::collections::BTreeMap;

use datafusion::arrow::array::Array;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, list, nearest};

/// A constant that a statement gave: an option's value or a function's argument.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// NULL.
    Null,
    /// TRUE or FALSE.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A string.
    Text(String),
    /// `[a, b, …]`.
    List(Vec<Value>),
    /// `STRUCT(…)` or `{'name': value}`.
    Struct(BTreeMap<String, Value>),
}

impl Value {
    /// What the value is, for error messages.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Value::Null => "NULL",
            Value::Bool(_) => "a boolean",
            Value::Int(_) => "a whole number",
            Value::Float(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Struct(_) => "a struct",
        }
    }

    /// The number, if it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Int(v) => Some(*v as f64),
            Value::Float(v) => Some(*v),
            _ => None,
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Null => f.write_str("NULL"),
            Value::Bool(v) => write!(f, "{v}"),
            Value::Int(v) => write!(f, "{v}"),
            Value::Float(v) => write!(f, "{v}"),
            Value::Text(v) => write!(f, "'{v}'"),
            Value::List(v) => {
                let parts: Vec<String> = v.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", parts.join(", "))
            }
            Value::Struct(v) => {
                let parts: Vec<String> = v.iter().map(|(k, v)| format!("{k}: {v}")).collect();
                write!(f, "{{{}}}", parts.join(", "))
            }
        }
    }
}

/// What an option accepts.
#[derive(Debug, Clone, Copy)]
pub enum OptionKind {
    /// TRUE or FALSE.
    Bool,
    /// A whole number within these bounds, both included.
    Int {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// A number within these bounds, both included.
    Float {
        /// Smallest value.
        min: f64,
        /// Largest value.
        max: f64,
    },
    /// One of these words, in any case.
    Choice(&'static [&'static str]),
    /// A string, or a value whose form the model checks.
    Any(&'static str),
    /// The name of a column of the query.
    Column,
    /// The name of a column of the query, or a list of names.
    Columns,
}

impl OptionKind {
    /// What the option accepts, in words.
    pub fn describe(&self) -> String {
        match self {
            OptionKind::Bool => "true or false".into(),
            OptionKind::Int { min, max } if *max == i64::MAX => format!("a whole number of at least {min}"),
            OptionKind::Int { min, max } => format!("a whole number from {min} to {}", with_commas(*max)),
            OptionKind::Float { min, max } if *max == f64::MAX => format!("a number of at least {min}"),
            OptionKind::Float { min, max } => format!("a number from {min} to {max}"),
            OptionKind::Choice(words) => format!("one of {}", list(words.iter(), 20)),
            OptionKind::Any(what) => (*what).into(),
            OptionKind::Column => "the name of a column".into(),
            OptionKind::Columns => "the name of a column, or a list of names".into(),
        }
    }
}

fn with_commas(n: i64) -> String {
    let digits = n.abs().to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    if n < 0 { format!("-{out}") } else { out }
}

/// One option: its names, what it accepts, its default and what it means.
#[derive(Debug, Clone, Copy)]
pub struct OptionSpec {
    /// The short name that the verbs use.
    pub name: &'static str,
    /// BigQuery ML's names for the same option.
    pub aliases: &'static [&'static str],
    /// What it accepts.
    pub kind: OptionKind,
    /// The default as the help prints it; "" where the option is required.
    pub default: &'static str,
    /// One sentence of help.
    pub help: &'static str,
}

impl OptionSpec {
    /// Whether this is the option of that name, by either of its names and in any case.
    pub fn answers_to(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name) || self.aliases.iter().any(|a| a.eq_ignore_ascii_case(name))
    }

    /// The value as the option takes it; `name` is the one that the user wrote.
    fn check(&self, function: &str, name: &str, value: Value) -> Result<Value> {
        let refuse = |value: &Value| {
            Err(Error::request(format!(
                "{function}: option '{name}' takes {}, not {}",
                self.kind.describe(),
                match value {
                    Value::Text(_) | Value::Int(_) | Value::Float(_) | Value::Bool(_) | Value::Null =>
                        value.to_string(),
                    _ => value.kind_name().to_string(),
                }
            )))
        };
        match (&self.kind, value) {
            (_, v @ Value::Null) => refuse(&v),
            (OptionKind::Bool, v @ Value::Bool(_)) => Ok(v),
            (OptionKind::Int { min, max }, Value::Int(v)) if (*min..=*max).contains(&v) => Ok(Value::Int(v)),
            (OptionKind::Int { min, max }, Value::Float(v))
                if v.fract() == 0.0 && v >= *min as f64 && v <= *max as f64 && v.abs() < 9e15 =>
            {
                Ok(Value::Int(v as i64))
            }
            (OptionKind::Float { min, max }, v @ (Value::Int(_) | Value::Float(_))) => match v.as_f64() {
                Some(x) if x >= *min && x <= *max => Ok(Value::Float(x)),
                _ => refuse(&v),
            },
            (OptionKind::Choice(words), Value::Text(v)) => match words.iter().find(|w| w.eq_ignore_ascii_case(&v)) {
                Some(w) => Ok(Value::Text((*w).to_string())),
                None => {
                    let hint = nearest(&v, words.iter().copied())
                        .map(|w| format!("; did you mean '{w}'?"))
                        .unwrap_or_default();
                    Err(Error::request(format!(
                        "{function}: option '{name}' takes {}, not '{v}'{hint}",
                        self.kind.describe()
                    )))
                }
            },
            (OptionKind::Any(_), v) => Ok(v),
            (OptionKind::Column, v @ Value::Text(_)) => Ok(v),
            (OptionKind::Column, Value::List(mut v)) if v.len() == 1 && matches!(v[0], Value::Text(_)) => {
                Ok(v.remove(0))
            }
            (OptionKind::Columns, v @ Value::Text(_)) => Ok(Value::List(vec![v])),
            (OptionKind::Columns, Value::List(v)) if v.iter().all(|v| matches!(v, Value::Text(_))) => {
                Ok(Value::List(v))
            }
            (OptionKind::Column, Value::List(v)) if v.len() > 1 => Err(Error::request(format!(
                "{function}: option '{name}' takes one column, not {}; name one",
                v.len()
            ))),
            (_, v) => refuse(&v),
        }
    }
}

/// Options that were given, checked against their specifications.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Options {
    given: BTreeMap<String, Value>,
}

impl Options {
    /// Checks `named` values against `specs`. `function` names the caller in error messages.
    ///
    /// # Errors
    /// An unknown option (with the nearest name), one given twice, or a value that it does not take.
    pub fn parse<'a>(
        function: &str,
        specs: impl IntoIterator<Item = &'a OptionSpec> + Clone,
        named: Vec<(String, Value)>,
    ) -> Result<Self> {
        let mut given = BTreeMap::new();
        for (name, value) in named {
            let Some(spec) = specs.clone().into_iter().find(|s| s.answers_to(&name)) else {
                let known: Vec<&str> = specs
                    .clone()
                    .into_iter()
                    .flat_map(|s| std::iter::once(s.name).chain(s.aliases.iter().copied()))
                    .collect();
                let hint = match nearest(&name, known) {
                    Some(near) => format!("did you mean '{near}'?"),
                    None => format!("it takes {}", list(specs.clone().into_iter().map(|s| s.name), 40)),
                };
                return Err(Error::request(format!("{function} has no option '{name}'; {hint}")));
            };
            let value = spec.check(function, &name, value)?;
            if given.insert(spec.name.to_string(), value).is_some() {
                return Err(Error::request(format!(
                    "{function}: option '{}' is given twice{}; give it once",
                    spec.name,
                    if name.eq_ignore_ascii_case(spec.name) {
                        String::new()
                    } else {
                        format!(", once as '{name}'")
                    }
                )));
            }
        }
        for spec in specs {
            if spec.default.is_empty() && !given.contains_key(spec.name) {
                return Err(Error::request(format!(
                    "{function} needs the option '{}', {}; write {} => …",
                    spec.name,
                    spec.kind.describe(),
                    spec.name
                )));
            }
        }
        Ok(Self { given })
    }

    /// The value given for an option, if any.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.given.get(name)
    }

    /// A whole number, or its default.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        match self.given.get(name) {
            Some(Value::Int(v)) => *v,
            _ => default,
        }
    }

    /// A number, or its default.
    pub fn float(&self, name: &str, default: f64) -> f64 {
        self.given.get(name).and_then(Value::as_f64).unwrap_or(default)
    }

    /// A boolean, or its default.
    pub fn bool(&self, name: &str, default: bool) -> bool {
        match self.given.get(name) {
            Some(Value::Bool(v)) => *v,
            _ => default,
        }
    }

    /// A string, if given.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.given.get(name) {
            Some(Value::Text(v)) => Some(v),
            _ => None,
        }
    }

    /// A list of strings, if given.
    pub fn texts(&self, name: &str) -> Option<Vec<&str>> {
        match self.given.get(name) {
            Some(Value::List(v)) => Some(
                v.iter()
                    .filter_map(|v| match v {
                        Value::Text(v) => Some(v.as_str()),
                        _ => None,
                    })
                    .collect(),
            ),
            _ => None,
        }
    }

    /// The same options, one of them set to another value.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.given.insert(name.to_string(), value);
        self
    }

    /// All that was given, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.given.iter().map(|(k, v)| (k.as_str(), v))
    }
}

/// A scalar as an option's value; none for types that no option takes.
pub(crate) fn value_of(scalar: &ScalarValue) -> Option<Value> {
    if scalar.is_null() {
        return Some(Value::Null);
    }
    Some(match scalar {
        ScalarValue::Boolean(Some(v)) => Value::Bool(*v),
        ScalarValue::Utf8(Some(v)) | ScalarValue::LargeUtf8(Some(v)) | ScalarValue::Utf8View(Some(v)) => {
            Value::Text(v.clone())
        }
        ScalarValue::Dictionary(_, inner) => value_of(inner)?,
        ScalarValue::List(list) => values(&list.value(0))?,
        ScalarValue::LargeList(list) => values(&list.value(0))?,
        ScalarValue::FixedSizeList(list) => values(&list.value(0))?,
        ScalarValue::Struct(array) => Value::Struct(
            array
                .column_names()
                .iter()
                .zip(array.columns())
                .map(|(name, column)| {
                    Some((
                        (*name).to_string(),
                        value_of(&ScalarValue::try_from_array(column, 0).ok()?)?,
                    ))
                })
                .collect::<Option<_>>()?,
        ),
        other if other.data_type().is_integer() => {
            let wide = other.cast_to(&DataType::Int64).ok()?;
            match wide {
                ScalarValue::Int64(Some(v)) => Value::Int(v),
                _ => return None,
            }
        }
        other if other.data_type().is_numeric() => match other.cast_to(&DataType::Float64).ok()? {
            ScalarValue::Float64(Some(v)) => Value::Float(v),
            _ => return None,
        },
        _ => return None,
    })
}

fn values(array: &dyn Array) -> Option<Value> {
    (0..array.len())
        .map(|i| value_of(&ScalarValue::try_from_array(array, i).ok()?))
        .collect::<Option<Vec<_>>>()
        .map(Value::List)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: &[OptionSpec] = &[
        OptionSpec {
            name: "k",
            aliases: &["num_clusters"],
            kind: OptionKind::Int { min: 1, max: 65_535 },
            default: "",
            help: "clusters",
        },
        OptionSpec {
            name: "init",
            aliases: &[],
            kind: OptionKind::Choice(&["kmeans++", "random"]),
            default: "'kmeans++'",
            help: "",
        },
        OptionSpec {
            name: "id",
            aliases: &[],
            kind: OptionKind::Columns,
            default: "none",
            help: "",
        },
    ];

    fn parse(named: &[(&str, Value)]) -> Result<Options> {
        Options::parse(
            "F",
            SPECS,
            named.iter().map(|(k, v)| (k.to_string(), v.clone())).collect(),
        )
    }

    #[test]
    fn names_in_any_case_and_by_alias() {
        assert_eq!(parse(&[("NUM_clusters", Value::Int(3))]).unwrap().int("k", 0), 3);
        let o = parse(&[("K", Value::Float(3.0)), ("ID", Value::Text("a".into()))]).unwrap();
        assert_eq!((o.int("k", 0), o.texts("id")), (3, Some(vec!["a"])));
    }

    #[test]
    fn errors_say_what_to_do() {
        let message = |named: &[(&str, Value)]| parse(named).unwrap_err().to_string();
        assert_eq!(
            message(&[("k", Value::Int(0))]),
            "F: option 'k' takes a whole number from 1 to 65,535, not 0"
        );
        assert_eq!(
            message(&[("k", Value::Null)]),
            "F: option 'k' takes a whole number from 1 to 65,535, not NULL"
        );
        assert_eq!(
            message(&[("k", Value::Int(2)), ("ini", Value::Null)]),
            "F has no option 'ini'; did you mean 'init'?"
        );
        assert_eq!(
            message(&[("k", Value::Int(2)), ("init", Value::Text("kmean".into()))]),
            "F: option 'init' takes one of 'kmeans++' and 'random', not 'kmean'; did you mean 'kmeans++'?"
        );
        assert_eq!(
            message(&[]),
            "F needs the option 'k', a whole number from 1 to 65,535; write k => …"
        );
        assert_eq!(
            message(&[("k", Value::Int(1)), ("num_clusters", Value::Int(1))]),
            "F: option 'k' is given twice, once as 'num_clusters'; give it once"
        );
    }
}
