//! The arguments of a call: types of columns, values of parameters, and errors that say what the function takes.

use std::fmt;

use datafusion::arrow::datatypes::DataType;

use super::FeatureFunction;
use crate::error::{Error, Result, list};
use crate::features::columns::{is_number, is_text_like, list_item};

/// A literal argument.
#[derive(Debug, Clone, PartialEq)]
pub enum Constant {
    /// NULL of any type.
    Null,
    /// TRUE or FALSE.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number, infinities included.
    Float(f64),
    /// A text.
    Text(String),
    /// An array.
    List(Vec<Constant>),
}

impl Constant {
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Self::Int(v) => Some(*v as f64),
            Self::Float(v) => Some(*v),
            _ => None,
        }
    }

    fn integer(&self) -> Option<i64> {
        match self {
            Self::Int(v) => Some(*v),
            // `3.0` is as good as `3`; 2^53 bounds what a double tells apart.
            Self::Float(v) if v.fract() == 0.0 && v.abs() <= 9_007_199_254_740_992.0 => Some(*v as i64),
            _ => None,
        }
    }
}

impl fmt::Display for Constant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Bool(v) => f.write_str(if *v { "TRUE" } else { "FALSE" }),
            Self::Int(v) => write!(f, "{v}"),
            Self::Float(v) => write!(f, "{v:?}"),
            Self::Text(v) => write!(f, "'{v}'"),
            Self::List(values) => {
                // The first few are enough to know which array is meant.
                const SHOWN: usize = 8;
                let shown: Vec<String> = values.iter().take(SHOWN).map(ToString::to_string).collect();
                let more = if values.len() > SHOWN { ", …" } else { "" };
                write!(f, "[{}{more}]", shown.join(", "))
            }
        }
    }
}

/// A call's arguments, counted and sorted into columns and parameters.
#[derive(Debug)]
pub(crate) struct Arguments<'a> {
    function: &'static FeatureFunction,
    columns: &'a [DataType],
    parameters: Vec<&'a Constant>,
}

impl<'a> Arguments<'a> {
    pub(crate) fn new(
        function: &'static FeatureFunction,
        types: &'a [DataType],
        constants: &'a [Option<Constant>],
    ) -> Result<Self> {
        let mut arguments = Self {
            function,
            columns: &[],
            parameters: vec![],
        };
        let least = function.column_count + function.required_parameters;
        let most = function.column_count + function.parameters;
        if types.len() < least || types.len() > most {
            let takes = match (least, most) {
                (1, 1) => "1 argument".to_string(),
                (a, b) if a == b => format!("{a} arguments"),
                (a, b) => format!("{a} to {b} arguments"),
            };
            return Err(arguments.error(format!("takes {takes}, not {}", types.len())));
        }
        let (columns, rest) = types.split_at(function.column_count);
        arguments.columns = columns;
        for i in function.column_count..function.column_count + rest.len() {
            match constants.get(i).and_then(Option::as_ref) {
                Some(constant) => arguments.parameters.push(constant),
                None => {
                    return Err(
                        arguments.error(format!("argument {} must be a constant, the same for all rows", i + 1))
                    );
                }
            }
        }
        Ok(arguments)
    }

    /// An error that ends in how the function is written.
    pub(crate) fn error(&self, what: impl fmt::Display) -> Error {
        Error::request(format!(
            "ML.{}: {what}; write {}",
            self.function.name, self.function.syntax
        ))
    }

    /// The function's name, for errors at run time.
    pub(crate) fn name(&self) -> &'static str {
        self.function.name
    }

    /// The type of a column.
    pub(crate) fn column(&self, index: usize) -> &'a DataType {
        self.columns.get(index).unwrap_or(&DataType::Null)
    }

    fn wrong_column(&self, index: usize, wanted: &str, instead: &str) -> Error {
        self.error(format!(
            "argument {} is {}, and must be {wanted}{instead}",
            index + 1,
            self.column(index)
        ))
    }

    /// A column must hold numbers.
    pub(crate) fn number_column(&self, index: usize) -> Result<()> {
        if is_number(self.column(index)) {
            return Ok(());
        }
        Err(self.wrong_column(index, "a number", " (CAST(… AS FLOAT64) makes one)"))
    }

    /// A column must hold text, or what prints as such: whole numbers, booleans, dates.
    pub(crate) fn text_column(&self, index: usize) -> Result<()> {
        if is_text_like(self.column(index)) {
            return Ok(());
        }
        Err(self.wrong_column(index, "text", " (CAST(… AS STRING) makes it so)"))
    }

    /// A column must hold arrays of numbers.
    pub(crate) fn number_lists(&self, index: usize) -> Result<()> {
        match list_item(self.column(index)) {
            Some(item) if is_number(item) => Ok(()),
            _ => Err(self.wrong_column(index, "an array of numbers", "")),
        }
    }

    /// A column must hold arrays of text.
    pub(crate) fn text_lists(&self, index: usize) -> Result<()> {
        match list_item(self.column(index)) {
            Some(item) if is_text_like(item) => Ok(()),
            _ => Err(self.wrong_column(index, "an array of texts", "")),
        }
    }

    /// How an error names a parameter that is not as it should be.
    pub(crate) fn wrong(&self, name: &str, value: &Constant, wanted: &str) -> Error {
        self.error(format!("{name} must be {wanted}, not {value}"))
    }

    /// A parameter by its place after the columns; `None` if it is left out.
    pub(crate) fn parameter(&self, index: usize) -> Option<&'a Constant> {
        self.parameters.get(index).copied()
    }

    /// A parameter that must be given.
    pub(crate) fn required(&self, index: usize, name: &str) -> Result<&'a Constant> {
        // `new` counted them; a function whose table entry is wrong would end here.
        self.parameter(index)
            .ok_or_else(|| self.error(format!("{name} is missing")))
    }

    /// A whole number in a range.
    pub(crate) fn integer(&self, index: usize, name: &str, default: i64, low: i64, high: i64) -> Result<i64> {
        let Some(value) = self.parameter(index) else {
            return Ok(default);
        };
        match value.integer() {
            Some(v) if (low..=high).contains(&v) => Ok(v),
            _ if high == i64::MAX => Err(self.wrong(name, value, &format!("a whole number of at least {low}"))),
            _ => Err(self.wrong(name, value, &format!("a whole number from {low} to {high}"))),
        }
    }

    /// TRUE or FALSE.
    pub(crate) fn boolean(&self, index: usize, name: &str, default: bool) -> Result<bool> {
        match self.parameter(index) {
            None => Ok(default),
            Some(Constant::Bool(v)) => Ok(*v),
            Some(value) => Err(self.wrong(name, value, "TRUE or FALSE")),
        }
    }

    /// One of a few words, in any case.
    pub(crate) fn choice<T: Copy>(
        &self,
        index: usize,
        name: &str,
        choices: &[(&'static str, T)],
        default: T,
    ) -> Result<T> {
        let Some(value) = self.parameter(index) else {
            return Ok(default);
        };
        if let Constant::Text(text) = value
            && let Some((_, choice)) = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text))
        {
            return Ok(*choice);
        }
        let words = list(choices.iter().map(|(word, _)| *word), 20);
        Err(self.wrong(name, value, &format!("one of {words}")))
    }

    /// The degree of a p-norm: 0, or at least 1, or infinite.
    pub(crate) fn degree(&self, index: usize, name: &str, default: f64) -> Result<f64> {
        let Some(value) = self.parameter(index) else {
            return Ok(default);
        };
        match value.number() {
            Some(p) if p == 0.0 || p >= 1.0 => Ok(p),
            _ => Err(self.wrong(name, value, "0, or a number of at least 1, or CAST('+INF' AS FLOAT64)")),
        }
    }

    /// An array of numbers.
    pub(crate) fn numbers(&self, index: usize, name: &str) -> Result<Option<Vec<f64>>> {
        let Some(value) = self.parameter(index) else {
            return Ok(None);
        };
        let numbers = match value {
            Constant::List(values) => values.iter().map(Constant::number).collect::<Option<Vec<f64>>>(),
            _ => None,
        };
        match numbers {
            Some(numbers) => Ok(Some(numbers)),
            None => Err(self.wrong(name, value, "an array of numbers")),
        }
    }
}
