//! What all functions of GoogleSQL share: their arguments' kinds, NULLs, and the words of their errors.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Date32Type, Field, Float64Type, Int64Type, TimeUnit};
use datafusion::arrow::datatypes::{Time64MicrosecondType, TimestampMicrosecondType};
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::Error;

/// What an argument may be, and what it is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A text, as Utf8.
    Text,
    /// A whole number, as Int64.
    Int,
    /// Any number, as Float64.
    Float,
    /// A date, as Date32; a timestamp or a text is read as one.
    Date,
    /// A timestamp in microseconds without a zone, in UTC; a date or a text is read as one.
    Moment,
    /// A date as Date32 or a timestamp in microseconds, with its zone; a text is read as a date.
    DateOr,
    /// A timestamp in microseconds, with its zone; a date or a text is read as one.
    Zoned,
    /// A time of day, as Time64 in microseconds.
    Time,
    /// Bytes, as Binary; a text is its UTF-8.
    Bytes,
    /// Anything, as it is.
    Any,
}

/// Microseconds without a zone.
pub(super) const MOMENT: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

impl Kind {
    /// The type that an argument of `given` is cast to; none if it is of no such kind.
    fn takes(self, given: &DataType) -> Option<DataType> {
        use DataType::{
            Binary, Boolean, Date32, Date64, Dictionary, Float64, Int64, Null, Time32, Time64, Timestamp, Utf8,
        };
        if let Dictionary(_, value) = given
            && self != Kind::Any
        {
            return self.takes(value);
        }
        let (is_text, is_date) = (given.is_string() || *given == Null, matches!(given, Date32 | Date64));
        let zoned = || match given {
            Timestamp(_, zone) => Some(Timestamp(TimeUnit::Microsecond, zone.clone())),
            _ => None,
        };
        match self {
            Kind::Text => is_text.then_some(Utf8),
            Kind::Int => (given.is_integer() || *given == Null).then_some(Int64),
            Kind::Float => (given.is_numeric() || *given == Null).then_some(Float64),
            Kind::Date => (is_text || is_date || zoned().is_some()).then_some(Date32),
            Kind::Moment => (is_text || is_date || zoned().is_some()).then_some(MOMENT),
            Kind::DateOr => (is_text || is_date).then_some(Date32).or_else(zoned),
            Kind::Zoned => (is_text || is_date).then_some(MOMENT).or_else(zoned),
            Kind::Time => {
                let fits = is_text || matches!(given, Time32(_) | Time64(_)) || zoned().is_some();
                fits.then_some(Time64(TimeUnit::Microsecond))
            }
            Kind::Bytes => (is_text || given.is_binary()).then_some(Binary),
            Kind::Any if *given == Null => Some(Boolean),
            Kind::Any => Some(given.clone()),
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Kind::Text => "a text",
            Kind::Int => "a whole number",
            Kind::Float => "a number",
            Kind::Date => "a date",
            Kind::Moment => "a timestamp",
            Kind::DateOr | Kind::Zoned => "a date or a timestamp",
            Kind::Time => "a time",
            Kind::Bytes => "bytes or a text",
            Kind::Any => "a value",
        }
    }
}

/// How the type of the result follows from the types of the arguments, after they are cast.
pub(super) type Returns = fn(&[DataType]) -> DataFusionResult<DataType>;

/// What arguments of these types are cast to, where it is not one by one.
pub(super) type Unify = fn(&'static str, &[DataType]) -> DataFusionResult<Vec<DataType>>;

/// A scalar function of GoogleSQL: its help, its types and what it does.
pub(super) struct Spec {
    /// The name in GoogleSQL, as help and errors write it.
    pub title: &'static str,
    /// The name that it is registered as: another one where DataFusion has a function of that name with another meaning.
    pub name: &'static str,
    /// How it is written.
    pub syntax: &'static str,
    /// What it does, in one sentence.
    pub summary: &'static str,
    /// A statement in BigQuery's dialect that works as it stands.
    pub example: &'static str,
    /// What the arguments are.
    pub takes: &'static [Kind],
    /// How many of them must be there.
    pub least: usize,
    /// Whether the last one may be repeated.
    pub repeats: bool,
    /// Casts that depend on all arguments.
    pub unify: Option<Unify>,
    /// The type that it is a mere cast to, for an argument of a type, so that the planner sees through it.
    pub plain: Option<fn(&DataType) -> Option<DataType>>,
    /// The type of the result.
    pub returns: Returns,
    /// The values of a batch.
    pub eval: fn(&Call<'_>) -> DataFusionResult<ArrayRef>,
}

impl Spec {
    /// The function as DataFusion takes it.
    pub(super) fn udf(&'static self) -> ScalarUDF {
        ScalarUDF::from(Function {
            spec: self,
            signature: Signature::user_defined(Volatility::Immutable),
        })
    }
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A [`Spec`] among DataFusion's functions.
#[derive(Debug)]
struct Function {
    spec: &'static Spec,
    signature: Signature,
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.spec.name == other.spec.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.spec.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.spec.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        let Spec {
            title, syntax, takes, ..
        } = *self.spec;
        let most = if self.spec.repeats { usize::MAX } else { takes.len() };
        if given.len() < self.spec.least || given.len() > most {
            let count = given.len();
            let s = if count == 1 { "" } else { "s" };
            return Err(Error::request(format!("{title} was given {count} argument{s}; write {syntax}")).into());
        }
        let cast_to: Vec<DataType> = given
            .iter()
            .enumerate()
            .map(|(i, given)| {
                let kind = takes.get(i).or(takes.last()).copied().unwrap_or(Kind::Any);
                kind.takes(given).ok_or_else(|| {
                    Error::request(format!(
                        "argument {} of {title} is of the type {given}, but has to be {}; write {syntax}",
                        i + 1,
                        kind.describe()
                    ))
                    .into()
                })
            })
            .collect::<DataFusionResult<_>>()?;
        match self.spec.unify {
            Some(unify) => unify(title, given),
            None => Ok(cast_to),
        }
    }

    fn return_type(&self, given: &[DataType]) -> DataFusionResult<DataType> {
        (self.spec.returns)(given)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> DataFusionResult<ExprSimplifyResult> {
        let (Some(plain), [arg]) = (self.spec.plain, args.as_slice()) else {
            return Ok(ExprSimplifyResult::Original(args));
        };
        Ok(match plain(&info.get_data_type(arg)?) {
            Some(to) => ExprSimplifyResult::Simplified(Expr::Cast(Cast::new(Box::new(arg.clone()), to))),
            None => ExprSimplifyResult::Original(args),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let call = Call {
            title: self.spec.title,
            rows: arrays.first().map_or(1, |a| a.len()),
            arrays: &arrays,
            returns: args.return_field.data_type(),
        };
        let mut values = (self.spec.eval)(&call)?;
        if values.data_type() != call.returns {
            values = cast(&values, call.returns)?;
        }
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?));
        }
        Ok(ColumnarValue::Array(values))
    }
}

/// The arguments of a function, for the rows of a batch.
pub(super) struct Call<'a> {
    /// The function's name in GoogleSQL.
    pub title: &'static str,
    /// How many rows there are.
    pub rows: usize,
    /// The arguments, cast to what the function takes.
    pub arrays: &'a [ArrayRef],
    /// The type of the result.
    pub returns: &'a DataType,
}

impl Call<'_> {
    /// How many arguments were given.
    pub(super) fn len(&self) -> usize {
        self.arrays.len()
    }

    /// Texts.
    pub(super) fn text(&self, i: usize) -> &StringArray {
        self.arrays[i].as_string::<i32>()
    }

    /// Whole numbers.
    pub(super) fn int(&self, i: usize) -> &Int64Array {
        self.arrays[i].as_primitive::<Int64Type>()
    }

    /// Numbers.
    pub(super) fn float(&self, i: usize) -> &Float64Array {
        self.arrays[i].as_primitive::<Float64Type>()
    }

    /// Dates, in days from 1970.
    pub(super) fn date(&self, i: usize) -> &Date32Array {
        self.arrays[i].as_primitive::<Date32Type>()
    }

    /// Timestamps, in microseconds from 1970.
    pub(super) fn moment(&self, i: usize) -> &TimestampMicrosecondArray {
        self.arrays[i].as_primitive::<TimestampMicrosecondType>()
    }

    /// Times of day, in microseconds.
    pub(super) fn time(&self, i: usize) -> &datafusion::arrow::array::Time64MicrosecondArray {
        self.arrays[i].as_primitive::<Time64MicrosecondType>()
    }

    /// Whether argument `i` holds dates.
    pub(super) fn is_date(&self, i: usize) -> bool {
        *self.arrays[i].data_type() == DataType::Date32
    }

    /// Whether an argument is NULL in a row.
    pub(super) fn has_null(&self, row: usize) -> bool {
        self.arrays.iter().any(|a| a.is_null(row))
    }

    /// The values of each row without a NULL among the arguments; the others are NULL.
    pub(super) fn map<T, A>(
        &self,
        mut value: impl FnMut(usize) -> DataFusionResult<Option<T>>,
    ) -> DataFusionResult<ArrayRef>
    where
        A: Array + FromIterator<Option<T>> + 'static,
    {
        let values: A = (0..self.rows)
            .map(|row| if self.has_null(row) { Ok(None) } else { value(row) })
            .collect::<DataFusionResult<_>>()?;
        Ok(Arc::new(values))
    }

    /// An error of a value.
    pub(super) fn wrong(&self, message: impl fmt::Display) -> datafusion::common::DataFusionError {
        Error::data(format!("{}: {message}", self.title)).into()
    }
}

/// A list of `item`.
pub(super) fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

macro_rules! returns {
    ($name:ident, $type:expr) => {
        pub(super) fn $name(_: &[DataType]) -> DataFusionResult<DataType> {
            Ok($type)
        }
    };
}

returns!(returns_text, DataType::Utf8);
returns!(returns_int, DataType::Int64);
returns!(returns_float, DataType::Float64);
returns!(returns_bool, DataType::Boolean);
returns!(returns_bytes, DataType::Binary);
returns!(returns_date, DataType::Date32);
returns!(returns_moment, MOMENT);
returns!(returns_time, DataType::Time64(TimeUnit::Microsecond));
returns!(returns_texts, list_of(DataType::Utf8));

/// The type of the first argument.
pub(super) fn returns_first(given: &[DataType]) -> DataFusionResult<DataType> {
    Ok(given.first().cloned().unwrap_or(DataType::Null))
}

/// All numbers as Int64 if all are whole, else as Float64.
pub(super) fn same_number(title: &'static str, given: &[DataType]) -> DataFusionResult<Vec<DataType>> {
    let whole = given.iter().all(|t| t.is_integer() || *t == DataType::Null);
    if let Some(other) = given.iter().find(|t| !t.is_numeric() && **t != DataType::Null) {
        return Err(Error::request(format!(
            "{title} takes numbers, but was given {other}; cast it to a number"
        ))
        .into());
    }
    let to = if whole { DataType::Int64 } else { DataType::Float64 };
    Ok(vec![to; given.len()])
}

/// What functions mostly have in common; a [`Spec`] says the rest.
pub(super) const BASE: Spec = Spec {
    title: "",
    name: "",
    syntax: "",
    summary: "",
    example: "",
    takes: &[],
    least: 1,
    repeats: false,
    unify: None,
    plain: None,
    returns: returns_text,
    eval: |call| Err(call.wrong("it is not defined")),
};
