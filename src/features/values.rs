//! Columns read chunk by chunk, whatever their type: as numbers, as epoch seconds, as keys into a table of categories.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringViewArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

use crate::error::{Error, Result};
use crate::models::{FeatureColumn, FeatureKind};

/// How many rows are read at a time: small enough for the first cache, large enough to forget the dispatch.
pub(crate) const CHUNK: usize = 512;

/// What [`NumberReader::read_seconds`] writes for NULL.
pub(crate) const NULL_SECONDS: i64 = i64::MIN;

/// The column at `array` is of another kind than `feature` was in training.
pub(crate) fn misfit(array: &ArrayRef, feature: &FeatureColumn) -> Error {
    let wanted = match feature.kind {
        FeatureKind::Number => "a number",
        FeatureKind::Category => "text, a boolean, a date, a time or bytes",
        FeatureKind::Timestamp => "a timestamp",
        FeatureKind::Identifier => "an identifier",
        FeatureKind::Numbers => "an array of numbers",
        FeatureKind::Categories => "an array of text, booleans or dates",
        FeatureKind::Sparse => "an array of (index, value)",
    };
    Error::request(format!(
        "feature '{}' was {} in training, {wanted}, and is {} here; cast it",
        feature.name,
        feature.data_type,
        array.data_type()
    ))
}

/// A column of numbers, or of timestamps as epoch seconds.
#[derive(Debug)]
pub(crate) struct NumberReader {
    /// `None`: NULL in every row.
    array: Option<ArrayRef>,
}

impl NumberReader {
    /// # Errors
    /// The column is of another kind than the feature.
    pub(crate) fn new(array: &ArrayRef, feature: &FeatureColumn) -> Result<Self> {
        if array.data_type() == &DataType::Null {
            return Ok(Self { array: None });
        }
        let kind = FeatureKind::of(array.data_type());
        if kind != Some(feature.kind) || !matches!(kind, Some(FeatureKind::Number | FeatureKind::Timestamp)) {
            return Err(misfit(array, feature));
        }
        Self::of(array)
    }

    /// A reader of any number or timestamp column.
    ///
    /// # Errors
    /// The column is neither.
    pub(crate) fn of(array: &ArrayRef) -> Result<Self> {
        let array = match array.data_type() {
            DataType::Dictionary(_, value) => cast(array, value)?,
            _ => array.clone(),
        };
        // Rare types take the detour over f64 in one go.
        let array = match array.data_type() {
            DataType::Float16 | DataType::Decimal256(_, _) => cast(&array, &DataType::Float64)?,
            t if t.is_numeric() || matches!(t, DataType::Timestamp(_, _)) => array,
            t => {
                return Err(Error::request(format!(
                    "a column of type {t} is no number; cast it to DOUBLE"
                )));
            }
        };
        Ok(Self { array: Some(array) })
    }

    /// How many rows are NULL.
    pub(crate) fn null_count(&self, rows: usize) -> usize {
        self.array.as_ref().map_or(rows, |a| a.null_count())
    }

    /// Rows `start..start + out.len()`; NaN where the value is NULL, NaN or infinite.
    pub(crate) fn read(&self, start: usize, out: &mut [f64]) {
        let Some(array) = &self.array else {
            out.fill(f64::NAN);
            return;
        };
        let end = start + out.len();
        macro_rules! fill {
            ($type:ty, |$v:ident| $convert:expr) => {
                for (o, $v) in out
                    .iter_mut()
                    .zip(&array.as_primitive::<$type>().values()[start..end])
                {
                    let $v = *$v;
                    *o = $convert;
                }
            };
        }
        match array.data_type() {
            DataType::Int8 => fill!(Int8Type, |v| f64::from(v)),
            DataType::Int16 => fill!(Int16Type, |v| f64::from(v)),
            DataType::Int32 => fill!(Int32Type, |v| f64::from(v)),
            DataType::Int64 => fill!(Int64Type, |v| v as f64),
            DataType::UInt8 => fill!(UInt8Type, |v| f64::from(v)),
            DataType::UInt16 => fill!(UInt16Type, |v| f64::from(v)),
            DataType::UInt32 => fill!(UInt32Type, |v| f64::from(v)),
            DataType::UInt64 => fill!(UInt64Type, |v| v as f64),
            DataType::Float32 => fill!(Float32Type, |v| if v.is_finite() { f64::from(v) } else { f64::NAN }),
            DataType::Float64 => fill!(Float64Type, |v| if v.is_finite() { v } else { f64::NAN }),
            DataType::Decimal32(_, scale) => {
                let unit = 10f64.powi(i32::from(*scale));
                fill!(Decimal32Type, |v| f64::from(v) / unit);
            }
            DataType::Decimal64(_, scale) => {
                let unit = 10f64.powi(i32::from(*scale));
                fill!(Decimal64Type, |v| v as f64 / unit);
            }
            DataType::Decimal128(_, scale) => {
                let unit = 10f64.powi(i32::from(*scale));
                fill!(Decimal128Type, |v| v as f64 / unit);
            }
            DataType::Timestamp(TimeUnit::Second, _) => fill!(TimestampSecondType, |v| v as f64),
            DataType::Timestamp(TimeUnit::Millisecond, _) => fill!(TimestampMillisecondType, |v| v as f64 / 1e3),
            DataType::Timestamp(TimeUnit::Microsecond, _) => fill!(TimestampMicrosecondType, |v| v as f64 / 1e6),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => fill!(TimestampNanosecondType, |v| v as f64 / 1e9),
            // `of` lets no other type in.
            _ => out.fill(f64::NAN),
        }
        if let Some(nulls) = array.nulls().filter(|n| n.null_count() > 0) {
            for (i, o) in out.iter_mut().enumerate() {
                if nulls.is_null(start + i) {
                    *o = f64::NAN;
                }
            }
        }
    }

    /// Rows `start..start + out.len()` of a timestamp column as whole epoch seconds, rounded down; [`NULL_SECONDS`] for NULL.
    pub(crate) fn read_seconds(&self, start: usize, out: &mut [i64]) {
        let Some(array) = &self.array else {
            out.fill(NULL_SECONDS);
            return;
        };
        let end = start + out.len();
        macro_rules! fill {
            ($type:ty, $unit:expr) => {
                for (o, v) in out
                    .iter_mut()
                    .zip(&array.as_primitive::<$type>().values()[start..end])
                {
                    *o = v.div_euclid($unit);
                }
            };
        }
        match array.data_type() {
            DataType::Timestamp(TimeUnit::Second, _) => fill!(TimestampSecondType, 1),
            DataType::Timestamp(TimeUnit::Millisecond, _) => fill!(TimestampMillisecondType, 1_000),
            DataType::Timestamp(TimeUnit::Microsecond, _) => fill!(TimestampMicrosecondType, 1_000_000),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => fill!(TimestampNanosecondType, 1_000_000_000),
            _ => out.fill(NULL_SECONDS),
        }
        if let Some(nulls) = array.nulls().filter(|n| n.null_count() > 0) {
            for (i, o) in out.iter_mut().enumerate() {
                if nulls.is_null(start + i) {
                    *o = NULL_SECONDS;
                }
            }
        }
    }
}

/// A category as it stands in a column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Category<'a> {
    Null,
    Text(&'a str),
    Bool(bool),
    /// A date: days since 1970-01-01.
    Day(i64),
}

/// A column of categories whose rows are looked up, each at most once a distinct value where that can be told cheaply.
#[derive(Debug)]
pub(crate) struct CategoryReader {
    column: CategoryColumn,
    /// Dictionaries: what the look-up gave for each value, then for NULL. Filled on first use.
    dictionary: Vec<u32>,
    /// String views: what the look-up gave for recent views. Within one array, equal views are equal strings.
    recent: Vec<(u128, u32)>,
}

#[derive(Debug)]
enum CategoryColumn {
    Null,
    Plain(ArrayRef),
    /// `keys[row]` is an index of `values`; `values.len()` stands for NULL.
    Dictionary {
        keys: Vec<u32>,
        values: ArrayRef,
    },
}

/// No string view: its length, the low 32 bits, is more than any string has.
const NO_VIEW: u128 = u128::MAX;
const RECENT_BITS: u32 = 8;

fn recent_slot(view: u128) -> usize {
    let folded = (view as u64) ^ ((view >> 64) as u64).rotate_left(29);
    (folded.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - RECENT_BITS)) as usize
}

impl CategoryReader {
    /// # Errors
    /// The column is of another kind than the feature.
    pub(crate) fn new(array: &ArrayRef, feature: &FeatureColumn) -> Result<Self> {
        let column = match array.data_type() {
            DataType::Null => CategoryColumn::Null,
            t if FeatureKind::of(t) != Some(FeatureKind::Category) => return Err(misfit(array, feature)),
            DataType::Dictionary(_, value) => {
                let dictionary = array.as_any_dictionary();
                let values = dictionary.values();
                if values.is_empty() {
                    CategoryColumn::Null
                } else if matches!(value.as_ref(), DataType::Dictionary(_, _)) {
                    return Err(misfit(array, feature));
                } else {
                    let mut keys: Vec<u32> = dictionary.normalized_keys().into_iter().map(|k| k as u32).collect();
                    if let Some(nulls) = dictionary.keys().nulls() {
                        for (row, key) in keys.iter_mut().enumerate() {
                            if nulls.is_null(row) {
                                *key = values.len() as u32;
                            }
                        }
                    }
                    CategoryColumn::Dictionary {
                        keys,
                        values: as_category(values)?,
                    }
                }
            }
            _ => CategoryColumn::Plain(as_category(array)?),
        };
        Ok(Self {
            column,
            dictionary: vec![],
            recent: vec![],
        })
    }

    /// Writes `look_up(value)` for rows `start..start + out.len()`. The same function must be given each time: what it gave is
    /// remembered.
    pub(crate) fn read(&mut self, start: usize, out: &mut [u32], mut look_up: impl FnMut(Category<'_>) -> u32) {
        match &self.column {
            CategoryColumn::Null => {
                let code = look_up(Category::Null);
                out.fill(code);
            }
            CategoryColumn::Plain(array) => read_plain(array, start, out, &mut self.recent, &mut look_up),
            CategoryColumn::Dictionary { keys, values } => {
                if self.dictionary.is_empty() {
                    self.dictionary = vec![0; values.len() + 1];
                    read_plain(
                        values,
                        0,
                        &mut self.dictionary[..values.len()],
                        &mut self.recent,
                        &mut look_up,
                    );
                    self.dictionary[values.len()] = look_up(Category::Null);
                }
                for (o, key) in out.iter_mut().zip(&keys[start..]) {
                    *o = self.dictionary[*key as usize];
                }
            }
        }
    }
}

/// A column of a type that [`read_plain`] reads: times of day and bytes as text, bytes in hexadecimal digits.
fn as_category(array: &ArrayRef) -> Result<ArrayRef> {
    Ok(match array.data_type() {
        DataType::Time32(_) | DataType::Time64(_) => cast(array, &DataType::Utf8View)?,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            let bytes = cast(array, &DataType::LargeBinary)?;
            let digits = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
            let texts = bytes.as_binary::<i64>().iter().map(|b| b.map(digits));
            Arc::new(texts.collect::<StringViewArray>())
        }
        _ => array.clone(),
    })
}

fn read_plain(
    array: &ArrayRef,
    start: usize,
    out: &mut [u32],
    recent: &mut Vec<(u128, u32)>,
    look_up: &mut impl FnMut(Category<'_>) -> u32,
) {
    let end = start + out.len();
    let nulls = array.nulls().filter(|n| n.null_count() > 0);
    macro_rules! fill {
        (|$row:ident| $value:expr) => {
            match nulls {
                None => {
                    for (o, $row) in out.iter_mut().zip(start..end) {
                        *o = $value;
                    }
                }
                Some(nulls) => {
                    for (o, $row) in out.iter_mut().zip(start..end) {
                        *o = if nulls.is_null($row) {
                            look_up(Category::Null)
                        } else {
                            $value
                        };
                    }
                }
            }
        };
    }
    match array.data_type() {
        DataType::Utf8 => {
            let array = array.as_string::<i32>();
            fill!(|row| look_up(Category::Text(array.value(row))));
        }
        DataType::LargeUtf8 => {
            let array = array.as_string::<i64>();
            fill!(|row| look_up(Category::Text(array.value(row))));
        }
        DataType::Utf8View => {
            let array = array.as_string_view();
            let views = array.views();
            if recent.is_empty() {
                *recent = vec![(NO_VIEW, 0); 1 << RECENT_BITS];
            }
            fill!(|row| {
                let view = views[row];
                let slot = &mut recent[recent_slot(view)];
                if slot.0 != view {
                    *slot = (view, look_up(Category::Text(array.value(row))));
                }
                slot.1
            });
        }
        DataType::Boolean => {
            let values = array.as_boolean().values();
            let (no, yes) = (look_up(Category::Bool(false)), look_up(Category::Bool(true)));
            fill!(|row| if values.value(row) { yes } else { no });
        }
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>().values();
            let mut last = None;
            fill!(|row| remembered(&mut last, i64::from(days[row]), |d| look_up(Category::Day(d))));
        }
        DataType::Date64 => {
            let milliseconds = array.as_primitive::<Date64Type>().values();
            let mut last = None;
            fill!(
                |row| remembered(&mut last, milliseconds[row].div_euclid(86_400_000), |d| look_up(
                    Category::Day(d)
                ))
            );
        }
        // `CategoryReader::new` lets no other type in.
        _ => {
            let code = look_up(Category::Null);
            out.fill(code);
        }
    }
}

/// Dates often repeat row after row.
fn remembered(last: &mut Option<(i64, u32)>, day: i64, look_up: impl FnOnce(i64) -> u32) -> u32 {
    match last {
        Some((d, code)) if *d == day => *code,
        _ => {
            let code = look_up(day);
            *last = Some((day, code));
            code
        }
    }
}
