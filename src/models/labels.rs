//! Labels: the values that classes are told apart by, whatever the column's type, and how much each counts.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, Scalar, UInt32Array};
use datafusion::arrow::compute::kernels::cmp::eq;
use datafusion::arrow::compute::{cast, concat, concat_batches, is_null, or_kleene, take};
use datafusion::arrow::datatypes::{
    DataType, Decimal32Type, Decimal64Type, Decimal128Type, Field, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Schema, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use datafusion::arrow::util::display::array_value_to_string;
use rayon::prelude::*;

use crate::error::{Error, Result, list};
use crate::features::encode::table_column;
use crate::models::{Artefact, FitContext, Parts, Rows};
use crate::options::{Options, Value};

/// The class of a row whose label is NULL.
pub(super) const NO_LABEL: u8 = u8::MAX;
/// The most classes that a model may have, as in BigQuery ML.
pub(super) const MAX_CLASSES: usize = 50;
/// How many values of a label are told apart, to count them.
const MAX_VALUES: usize = 250;
/// How many values of a label are named.
const MAX_NAMED: usize = 5;

/// How much each class counts.
pub(super) enum ClassWeights {
    Equal,
    Balanced,
    Given(Vec<(Value, f64)>),
}

/// The class weights that the options ask for.
pub(super) fn class_weights(verb: &str, options: &Options) -> Result<ClassWeights> {
    let auto = options.bool("auto_class_weights", false);
    let refuse = || {
        Err(Error::request(format!(
            "{verb}: option 'class_weights' takes 'balanced', or a positive weight for each label such as {{'Yes': 2.0, 'No': 1.0}}"
        )))
    };
    let Some(value) = options.get("class_weights") else {
        return Ok(if auto {
            ClassWeights::Balanced
        } else {
            ClassWeights::Equal
        });
    };
    if auto {
        return Err(Error::request(format!(
            "{verb}: options 'class_weights' and 'auto_class_weights' are both given; give one of them"
        )));
    }
    let mut given = vec![];
    match value {
        Value::Text(word) if word.eq_ignore_ascii_case("balanced") => return Ok(ClassWeights::Balanced),
        Value::Struct(weights) => {
            given.extend(
                weights
                    .iter()
                    .map(|(label, weight)| (Value::Text(label.clone()), weight.as_f64())),
            );
        }
        // BigQuery ML's form: [STRUCT('Yes', 2.0), …]; the fields stand in the order of their names.
        Value::List(items) => {
            for item in items {
                match item {
                    Value::Struct(pair) if pair.len() == 2 => {
                        let mut fields = pair.values();
                        if let (Some(label), Some(weight)) = (fields.next(), fields.next()) {
                            given.push((label.clone(), weight.as_f64()));
                        }
                    }
                    Value::Struct(pairs) => {
                        given.extend(
                            pairs
                                .iter()
                                .map(|(label, weight)| (Value::Text(label.clone()), weight.as_f64())),
                        );
                    }
                    Value::List(pair) => match &pair[..] {
                        [label, weight] => given.push((label.clone(), weight.as_f64())),
                        _ => return refuse(),
                    },
                    _ => return refuse(),
                }
            }
        }
        _ => return refuse(),
    }
    let checked: Option<Vec<(Value, f64)>> = given
        .into_iter()
        .map(|(label, weight)| weight.filter(|w| w.is_finite() && *w > 0.0).map(|w| (label, w)))
        .collect();
    match checked {
        Some(weights) if !weights.is_empty() => Ok(ClassWeights::Given(weights)),
        _ => refuse(),
    }
}

pub(super) fn can_be_label(data_type: &DataType) -> bool {
    match data_type {
        DataType::Boolean | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, value) => !matches!(value.as_ref(), DataType::Dictionary(_, _)) && can_be_label(value),
        t => t.is_numeric(),
    }
}

/// A label's value, to be compared: those of one column are all of one kind.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
enum LabelValue {
    Bool(bool),
    /// A whole number, or a decimal without its point.
    Int(i128),
    Float(f64),
    Text(String),
}

/// The label's values in a batch, each with a row that has it, and the index of each row's value.
struct BatchLabels {
    values: Vec<(LabelValue, usize)>,
    rows: Vec<u8>,
}

/// Tells values apart, at most [`MAX_VALUES`] of them; rows with others count as the last.
fn tell_apart<T>(
    row_count: usize,
    get: impl Fn(usize) -> Option<T>,
    same: impl Fn(&T, &LabelValue) -> bool,
    own: impl Fn(T) -> LabelValue,
) -> BatchLabels {
    let mut values: Vec<(LabelValue, usize)> = vec![];
    let rows = (0..row_count)
        .map(|row| {
            let Some(value) = get(row) else { return NO_LABEL };
            let index = values.iter().position(|(v, _)| same(&value, v)).unwrap_or_else(|| {
                if values.len() < MAX_VALUES {
                    values.push((own(value), row));
                }
                values.len() - 1
            });
            index as u8
        })
        .collect();
    BatchLabels { values, rows }
}

/// The column with dictionaries unpacked.
pub(super) fn plain_label(array: &ArrayRef) -> Result<ArrayRef> {
    Ok(match array.data_type() {
        DataType::Dictionary(_, value) => cast(array, value)?,
        _ => Arc::clone(array),
    })
}

fn batch_labels(array: &ArrayRef) -> Result<BatchLabels> {
    let n = array.len();
    macro_rules! integers {
        ($type:ty) => {{
            let array = array.as_primitive::<$type>();
            let get = |row| array.is_valid(row).then(|| i128::from(array.value(row)));
            tell_apart(n, get, |v, known| *known == LabelValue::Int(*v), LabelValue::Int)
        }};
    }
    macro_rules! texts {
        ($array:expr) => {{
            let array = $array;
            let get = |row| array.is_valid(row).then(|| array.value(row));
            let same = |v: &&str, known: &LabelValue| matches!(known, LabelValue::Text(t) if t == v);
            tell_apart(n, get, same, |v| LabelValue::Text(v.to_string()))
        }};
    }
    Ok(match array.data_type() {
        DataType::Boolean => {
            let array = array.as_boolean();
            let get = |row| array.is_valid(row).then(|| array.value(row));
            tell_apart(n, get, |v, known| *known == LabelValue::Bool(*v), LabelValue::Bool)
        }
        DataType::Utf8 => texts!(array.as_string::<i32>()),
        DataType::LargeUtf8 => texts!(array.as_string::<i64>()),
        DataType::Utf8View => texts!(array.as_string_view()),
        DataType::Int8 => integers!(Int8Type),
        DataType::Int16 => integers!(Int16Type),
        DataType::Int32 => integers!(Int32Type),
        DataType::Int64 => integers!(Int64Type),
        DataType::UInt8 => integers!(UInt8Type),
        DataType::UInt16 => integers!(UInt16Type),
        DataType::UInt32 => integers!(UInt32Type),
        DataType::UInt64 => integers!(UInt64Type),
        DataType::Decimal32(_, _) => integers!(Decimal32Type),
        DataType::Decimal64(_, _) => integers!(Decimal64Type),
        DataType::Decimal128(_, _) => {
            let array = array.as_primitive::<Decimal128Type>();
            let get = |row| array.is_valid(row).then(|| array.value(row));
            tell_apart(n, get, |v, known| *known == LabelValue::Int(*v), LabelValue::Int)
        }
        _ => {
            let array = cast(array, &DataType::Float64)?;
            let array = array.as_primitive::<Float64Type>();
            // Adding 0 makes -0 and 0 one; a NaN or infinity is no label.
            let get = |row| {
                array
                    .is_valid(row)
                    .then(|| array.value(row) + 0.0)
                    .filter(|v| v.is_finite())
            };
            tell_apart(n, get, |v, known| *known == LabelValue::Float(*v), LabelValue::Float)
        }
    })
}

/// The values of a label: the classes.
#[derive(Debug, Clone)]
pub(super) struct Labels {
    /// The label column's name.
    pub(super) name: String,
    /// The values in the column's type (dictionaries unpacked), ascending.
    pub(super) values: ArrayRef,
}

impl Labels {
    /// Reads the label of every row: its values, at least two and at most `most`, and for each row the index of its value, [`NO_LABEL`]
    /// for NULL.
    pub(super) fn read(
        verb: &str,
        rows: &dyn Rows,
        column: usize,
        most: usize,
        context: &FitContext<'_>,
    ) -> Result<(Self, Vec<u8>)> {
        let name = rows.schema().field(column).name().clone();
        context.memory.take(2 * rows.row_count(), "the labels")?;
        let of_batch = |index: usize| -> Result<(BatchLabels, Vec<ArrayRef>)> {
            context.check_cancelled()?;
            let array = plain_label(rows.batch(index)?.column(column))?;
            let labels = batch_labels(&array)?;
            // A copy of the value: a slice would hold on to the whole column.
            let owned = |(_, row): &(LabelValue, usize)| take(&array, &UInt32Array::from(vec![*row as u32]), None);
            let arrays = labels
                .values
                .iter()
                .map(owned)
                .collect::<std::result::Result<Vec<_>, _>>()?;
            Ok((labels, arrays))
        };
        let batches: Vec<Result<(BatchLabels, Vec<ArrayRef>)>> = context
            .compute
            .pool
            .install(|| (0..rows.batch_count()).into_par_iter().map(of_batch).collect());
        let mut values: Vec<(LabelValue, ArrayRef)> = vec![];
        let mut batch_rows = vec![];
        for batch in batches {
            let (batch, arrays) = batch?;
            let mut here = vec![];
            for ((value, _), array) in batch.values.into_iter().zip(arrays) {
                let known = values.iter().position(|(v, _)| *v == value);
                here.push(known.unwrap_or(values.len()));
                // With more than are told apart there is no model, and all that is left is to say so.
                if known.is_none() && values.len() < MAX_VALUES {
                    values.push((value, array));
                }
            }
            batch_rows.push((batch.rows, here));
        }
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|a, b| {
            values[*a]
                .0
                .partial_cmp(&values[*b].0)
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        let arrays: Vec<&dyn Array> = order.iter().map(|i| values[*i].1.as_ref()).collect();
        check_count(verb, &name, &arrays, most)?;
        let values_column = match concat(&arrays)? {
            // Views would hold on to the text of whole batches.
            views if views.data_type() == &DataType::Utf8View => Arc::new(views.as_string_view().gc()) as ArrayRef,
            other => other,
        };
        let mut class_of = vec![NO_LABEL; values.len()];
        for (class, value) in order.iter().enumerate() {
            class_of[*value] = class as u8;
        }
        let mut classes = Vec::with_capacity(rows.row_count());
        for (codes, here) in batch_rows {
            let of_code: Vec<u8> = here.into_iter().map(|value| class_of[value]).collect();
            classes.extend(
                codes
                    .into_iter()
                    .map(|c| of_code.get(usize::from(c)).copied().unwrap_or(NO_LABEL)),
            );
        }
        let labels = Self {
            name,
            values: values_column,
        };
        Ok((labels, classes))
    }

    /// How many classes there are.
    pub(super) fn count(&self) -> usize {
        self.values.len()
    }

    /// The values as text.
    pub(super) fn texts(&self) -> Result<Vec<String>> {
        (0..self.count())
            .map(|i| Ok(array_value_to_string(&self.values, i)?))
            .collect()
    }

    /// Which of the values a constant means: as it is written, or as a number or boolean of the same value.
    pub(super) fn find(&self, value: &Value) -> Result<Option<usize>> {
        let texts = self.texts()?;
        let wanted = match value {
            Value::Text(t) => t.clone(),
            other => other.to_string(),
        };
        let exact = texts.iter().position(|t| *t == wanted);
        let loose = || {
            texts
                .iter()
                .position(|t| match (t.parse::<f64>(), wanted.parse::<f64>()) {
                    (Ok(a), Ok(b)) => a == b,
                    _ => self.values.data_type() == &DataType::Boolean && t.eq_ignore_ascii_case(&wanted),
                })
        };
        Ok(exact.or_else(loose))
    }

    /// How much a row of each class counts, given how many rows each has.
    pub(super) fn weights(&self, verb: &str, options: &Options, row_counts: &[usize]) -> Result<Vec<f64>> {
        let mut weights = vec![1.0; self.count()];
        match class_weights(verb, options)? {
            ClassWeights::Equal => {}
            ClassWeights::Balanced => {
                let total = row_counts.iter().sum::<usize>() as f64;
                for (weight, n) in weights.iter_mut().zip(row_counts) {
                    *weight = total / (self.count() as f64 * *n as f64);
                }
            }
            ClassWeights::Given(given) => {
                for (label, weight) in &given {
                    let Some(index) = self.find(label)? else {
                        return Err(Error::data(format!(
                            "{verb}: option 'class_weights' names {label}, which is no value of label '{}'; it has {}",
                            self.name,
                            list(self.texts()?, MAX_CLASSES)
                        )));
                    };
                    weights[index] = *weight;
                }
            }
        }
        Ok(weights)
    }

    /// The values at these positions.
    pub(super) fn column(&self, positions: impl Iterator<Item = u32>) -> Result<ArrayRef> {
        Ok(take(&self.values, &UInt32Array::from_iter_values(positions), None)?)
    }

    /// The rows of a table of each class, one below the other, each with its class in a first column that is named like the label.
    pub(super) fn by_class(&self, tables: &[RecordBatch]) -> Result<RecordBatch> {
        let Some(first) = tables.first() else {
            return Ok(RecordBatch::new_empty(Arc::new(Schema::empty())));
        };
        let all = concat_batches(&first.schema(), tables)?;
        let classes = (0u32..)
            .zip(tables)
            .flat_map(|(class, t)| std::iter::repeat_n(class, t.num_rows()));
        let mut columns = vec![(self.name.clone(), self.column(classes)?)];
        let names = all.schema();
        let names = names.fields().iter().map(|f| f.name().clone());
        columns.extend(names.zip(all.columns().iter().cloned()));
        Ok(RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, array)| (name, array, true)),
        )?)
    }

    /// Which rows of a column of labels have one of the values, or none at all.
    pub(super) fn known(&self, column: &ArrayRef) -> Result<BooleanArray> {
        let labels = cast(&plain_label(column)?, self.values.data_type())?;
        let mut known = is_null(&labels)?;
        for class in 0..self.count() {
            // NULL compared with anything is NULL, and known already.
            known = or_kleene(&known, &eq(&labels, &Scalar::new(self.values.slice(class, 1)))?)?;
        }
        Ok(known)
    }

    /// The class of each row of a column of labels: none where it is NULL. `function` names the caller in messages.
    ///
    /// # Errors
    /// A label that is none of the values.
    pub(super) fn classes_of(&self, function: &str, column: &ArrayRef) -> Result<Vec<Option<usize>>> {
        let labels = cast(&plain_label(column)?, self.values.data_type())?;
        let is: Vec<BooleanArray> = (0..self.count())
            .map(|class| eq(&labels, &Scalar::new(self.values.slice(class, 1))))
            .collect::<std::result::Result<_, _>>()?;
        (0..labels.len())
            .map(|row| {
                if labels.is_null(row) {
                    return Ok(None);
                }
                match is.iter().position(|is| is.value(row)) {
                    Some(class) => Ok(Some(class)),
                    None => Err(Error::data(format!(
                        "{function}: label '{}' is '{}' in a row, and the model knows {}; leave such rows out",
                        self.name,
                        array_value_to_string(&labels, row)?,
                        list(self.texts()?, MAX_CLASSES)
                    ))),
                }
            })
            .collect()
    }

    /// Adds the label's name and values to what a model stores.
    pub(super) fn store(&self, parts: &mut Parts) -> Result<()> {
        let field = Field::new("label", self.values.data_type().clone(), true);
        let table = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::clone(&self.values)])?;
        parts.tables.push(("labels".into(), table));
        parts.settings.insert("label".into(), self.name.clone().into());
        let data_type = self.values.data_type().to_string();
        parts.settings.insert("label_type".into(), data_type.into());
        Ok(())
    }

    /// Reads back what [`Labels::store`] added.
    pub(super) fn from_artefact(artefact: &Artefact) -> Result<Self> {
        let name: String = artefact.setting("label")?;
        let type_name: String = artefact.setting("label_type")?;
        let data_type: DataType = type_name
            .parse()
            .map_err(|_| artefact.corrupt(format!("its label's type '{type_name}' is unknown")))?;
        let values = table_column(artefact, artefact.table("labels")?, "label", &data_type)?;
        if !(2..=MAX_CLASSES).contains(&values.len()) || values.null_count() > 0 {
            return Err(artefact.corrupt("its label has not two to fifty values"));
        }
        Ok(Self { name, values })
    }
}

/// An error unless there are at least two values and at most `most`.
fn check_count(verb: &str, name: &str, values: &[&dyn Array], most: usize) -> Result<()> {
    let texts = |n: usize| {
        values
            .iter()
            .take(n)
            .map(|a| Ok(array_value_to_string(*a, 0)?))
            .collect::<Result<Vec<_>>>()
    };
    let more = if values.len() > MAX_NAMED { " among others" } else { "" };
    match values.len() {
        0 => Err(Error::data(format!(
            "{verb}: label '{name}' is NULL in every row; at least two rows need one to learn from"
        ))),
        1 => Err(Error::data(format!(
            "{verb}: label '{name}' has only the value {}; two are needed to learn from",
            list(texts(1)?, 1)
        ))),
        n if n <= most => Ok(()),
        _ if most == 2 => Err(Error::data(format!(
            "{verb}: label '{name}' has more than two values ({}{more}); make it a condition, such as {name} = {} AS {name}",
            list(texts(MAX_NAMED)?, MAX_NAMED),
            list(texts(1)?, 1)
        ))),
        n => Err(Error::data(format!(
            "{verb}: label '{name}' has {}{n} values ({}{more}), and a model tells {most} apart at most; put the rare ones together with CASE, \
             or use linear_reg if it is an amount",
            if n >= MAX_VALUES { "at least " } else { "" },
            list(texts(MAX_NAMED)?, MAX_NAMED),
        ))),
    }
}
