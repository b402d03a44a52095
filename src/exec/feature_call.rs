//! A feature function as a scalar function over batches: `ML.BUCKETIZE(age, [18, 65])`, and with what it learned,
//! `ML.STANDARD_SCALER(income)`.

use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, new_empty_array};
use datafusion::arrow::compute::{cast, concat};
use datafusion::arrow::datatypes::{DataType, FieldRef, Int32Type};
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::{Error, Result};
use crate::features::functions::{Constant, FeatureFunction, Learned, Learner};
use crate::models::field;
use crate::options::{Value, value_of};

/// What was learned, with the text that it was read from.
type Known = (String, Arc<Learned>);

/// What a call of a learned function goes by.
#[derive(Debug, Clone)]
enum State {
    /// The function learns nothing.
    None,
    /// It will learn from the training rows; its number among the calls of its expression.
    Open(usize),
    /// What it learned.
    Settled(Arc<Learned>, serde_json::Value),
    /// Its first argument, the same text in every row of a window.
    Argument,
}

/// A feature function with what it goes by.
#[derive(Debug, Clone)]
pub(crate) struct FeatureCall {
    function: &'static FeatureFunction,
    state: State,
    signature: Signature,
    /// What was read last of [`State::Argument`].
    last: Arc<Mutex<Option<Known>>>,
}

impl FeatureCall {
    fn new(function: &'static FeatureFunction, state: State) -> Self {
        Self {
            function,
            state,
            signature: Signature::variadic_any(Volatility::Immutable),
            last: Arc::default(),
        }
    }

    /// A call of a function that learns nothing.
    pub(crate) fn stateless(function: &'static FeatureFunction) -> Self {
        Self::new(function, State::None)
    }

    /// Call number `number` of an expression of TRANSFORM, which learns when the model is trained.
    pub(crate) fn to_learn(function: &'static FeatureFunction, number: usize) -> Self {
        Self::new(function, State::Open(number))
    }

    /// A call whose first argument is what was learned, as JSON.
    pub(crate) fn of_argument(function: &'static FeatureFunction) -> Self {
        Self::new(function, State::Argument)
    }

    /// The call that an expression is, with its arguments, if it is one.
    pub(crate) fn of(expr: &Expr) -> Option<(&Self, &[Expr])> {
        match expr {
            Expr::ScalarFunction(f) => Some((f.func.inner().downcast_ref::<Self>()?, &f.args)),
            _ => None,
        }
    }

    /// The number of a call that has yet to learn.
    pub(crate) fn open(&self) -> Option<usize> {
        match self.state {
            State::Open(number) => Some(number),
            _ => None,
        }
    }

    /// The same call with what it learned.
    ///
    /// # Errors
    /// That is not what the function learns.
    pub(crate) fn settled(&self, value: &serde_json::Value) -> Result<Self> {
        let learned = Arc::new(Learned::from_json(value)?);
        Ok(Self::new(self.function, State::Settled(learned, value.clone())))
    }

    pub(crate) fn into_udf(self) -> ScalarUDF {
        ScalarUDF::from(self)
    }

    /// A learner for arguments of these types.
    ///
    /// # Errors
    /// The function does not take them.
    pub(crate) fn learner(&self, types: &[DataType], arguments: &[Expr]) -> Result<Box<dyn Learner>> {
        let constants: Vec<Option<Constant>> = arguments
            .iter()
            .map(|a| match a {
                Expr::Literal(scalar, _) => constant(scalar),
                _ => None,
            })
            .collect();
        learner(self.function, types, &constants)
    }

    /// What is before the function's own arguments.
    fn leading(&self) -> usize {
        usize::from(matches!(self.state, State::Argument))
    }

    /// What was learned, run by run of the rows that share it: each window has its own.
    fn read_argument(&self, array: &ArrayRef) -> Result<Vec<(Range<usize>, Arc<Learned>)>> {
        let mut runs = vec![];
        if let Some(texts) = array.as_dictionary_opt::<Int32Type>() {
            // One copy for all rows: written out, it could fill the memory.
            let values = cast(texts.values(), &DataType::Utf8)?;
            let values = values.as_string::<i32>();
            let keys = texts.keys();
            let key = |row: usize| keys.is_valid(row).then(|| keys.value(row) as usize);
            let mut start = 0;
            while start < keys.len() {
                let end = (start..keys.len()).find(|row| key(*row) != key(start));
                let end = end.unwrap_or(keys.len());
                let text = key(start).filter(|k| values.is_valid(*k)).map(|k| values.value(k));
                runs.push((start..end, self.read(text.unwrap_or("null"))?));
                start = end;
            }
            return Ok(runs);
        }
        let texts = cast(array, &DataType::Utf8)?;
        let texts = texts.as_string::<i32>();
        let mut start = 0;
        while start < texts.len() {
            let value = |row: usize| texts.is_valid(row).then(|| texts.value(row));
            let end = (start..texts.len()).find(|row| value(*row) != value(start));
            let end = end.unwrap_or(texts.len());
            runs.push((start..end, self.read(value(start).unwrap_or("null"))?));
            start = end;
        }
        Ok(runs)
    }

    fn read(&self, text: &str) -> Result<Arc<Learned>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, learned)) = last.as_ref()
            && known == text
        {
            return Ok(Arc::clone(learned));
        }
        let value = serde_json::from_str(text).map_err(|e| {
            Error::data(format!(
                "ML.{}: what it learned cannot be read ({e})",
                self.function.name
            ))
        })?;
        let learned = Arc::new(Learned::from_json(&value)?);
        *last = Some((text.to_string(), Arc::clone(&learned)));
        Ok(learned)
    }
}

/// A scalar as a function's parameter; none for types that no parameter has.
pub(crate) fn constant(scalar: &ScalarValue) -> Option<Constant> {
    fn of(value: Value) -> Option<Constant> {
        Some(match value {
            Value::Null => Constant::Null,
            Value::Bool(v) => Constant::Bool(v),
            Value::Int(v) => Constant::Int(v),
            Value::Float(v) => Constant::Float(v),
            Value::Text(v) => Constant::Text(v),
            Value::List(values) => Constant::List(values.into_iter().map(of).collect::<Option<_>>()?),
            Value::Struct(_) => return None,
        })
    }
    of(value_of(scalar)?)
}

/// A learner of a function's call.
///
/// # Errors
/// The function does not take these arguments, or learns nothing.
pub(crate) fn learner(
    function: &'static FeatureFunction,
    types: &[DataType],
    constants: &[Option<Constant>],
) -> Result<Box<dyn Learner>> {
    let learner = function.plan(types, constants)?.learner();
    learner.ok_or_else(|| Error::request(format!("ML.{} learns nothing; write it without OVER", function.name)))
}

impl PartialEq for FeatureCall {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.state, &other.state) {
            (State::None, State::None) | (State::Argument, State::Argument) => true,
            (State::Open(a), State::Open(b)) => a == b,
            (State::Settled(_, a), State::Settled(_, b)) => a == b,
            _ => false,
        };
        same && self.function.name == other.function.name
    }
}

impl Eq for FeatureCall {}

impl Hash for FeatureCall {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
        std::mem::discriminant(&self.state).hash(state);
    }
}

impl ScalarUDFImpl for FeatureCall {
    fn name(&self) -> &str {
        self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DataFusionResult<DataType> {
        Err(Error::request(format!(
            "ML.{} needs its constants to know its type",
            self.function.name
        ))
        .into())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        let skip = self.leading();
        let types: Vec<DataType> = args.arg_fields[skip..].iter().map(|f| f.data_type().clone()).collect();
        let constants: Vec<Option<Constant>> = args.scalar_arguments[skip..]
            .iter()
            .map(|s| s.and_then(constant))
            .collect();
        let planned = self.function.plan(&types, &constants)?;
        Ok(field(self.function.name, planned.data_type()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let given = &args.args[self.leading()..];
        let constants: Vec<Option<Constant>> = given
            .iter()
            .map(|a| match a {
                ColumnarValue::Scalar(s) => constant(s),
                ColumnarValue::Array(_) => None,
            })
            .collect();
        let types: Vec<DataType> = given.iter().map(ColumnarValue::data_type).collect();
        let planned = self.function.plan(&types, &constants)?;
        let learned = match &self.state {
            State::None | State::Argument => None,
            State::Settled(learned, _) => Some(Arc::clone(learned)),
            State::Open(_) => {
                return Err(Error::request(format!(
                    "ML.{0} learns from all rows; write ML.{0}(…) OVER ()",
                    self.function.name
                ))
                .into());
            }
        };
        if args.number_rows == 0 {
            return Ok(ColumnarValue::Array(new_empty_array(&planned.data_type())));
        }
        let columns = given
            .iter()
            .take(self.function.column_count)
            .map(|a| a.to_array(args.number_rows))
            .collect::<DataFusionResult<Vec<_>>>()?;
        if matches!(self.state, State::Argument) {
            let runs = self.read_argument(&args.args[0].to_array(args.number_rows)?)?;
            let answers = runs
                .into_iter()
                .map(|(run, learned)| {
                    let rows: Vec<ArrayRef> = columns.iter().map(|c| c.slice(run.start, run.len())).collect();
                    planned.apply(&rows, Some(&learned))
                })
                .collect::<Result<Vec<_>>>()?;
            let answers: Vec<&dyn Array> = answers.iter().map(AsRef::as_ref).collect();
            return Ok(ColumnarValue::Array(concat(&answers)?));
        }
        Ok(ColumnarValue::Array(planned.apply(&columns, learned.as_deref())?))
    }
}
