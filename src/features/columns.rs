//! Columns of whatever type brought to one form: doubles, text views, lists with wide offsets.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, LargeListArray, ListArray, StringViewArray, StructArray,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Fields, Float64Type, Int64Type};

use crate::error::{Error, Result};

/// What a dictionary stands for.
fn plain(t: &DataType) -> &DataType {
    match t {
        DataType::Dictionary(_, value) => value,
        other => other,
    }
}

/// Numbers of any kind, or NULL throughout.
pub(crate) fn is_number(t: &DataType) -> bool {
    let t = plain(t);
    t.is_numeric() || t == &DataType::Null
}

/// Text of any kind, or NULL throughout.
pub(crate) fn is_text(t: &DataType) -> bool {
    matches!(
        plain(t),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null
    )
}

/// Text, and what has one way to be printed: whole numbers, booleans and dates.
pub(crate) fn is_text_like(t: &DataType) -> bool {
    let p = plain(t);
    is_text(t) || p.is_integer() || matches!(p, DataType::Boolean | DataType::Date32)
}

/// The type of a list's elements; NULL where the whole column is.
pub(crate) fn list_item(t: &DataType) -> Option<&DataType> {
    match t {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => Some(item.data_type()),
        DataType::Null => Some(t),
        _ => None,
    }
}

/// A function's first column.
pub(crate) fn first<'a>(name: &str, columns: &'a [ArrayRef]) -> Result<&'a ArrayRef> {
    columns
        .first()
        .ok_or_else(|| Error::request(format!("ML.{name} was given no column; give it one")))
}

/// A column as doubles.
pub(crate) fn numbers(array: &ArrayRef) -> Result<Float64Array> {
    Ok(cast(array, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

/// A column as whole numbers.
pub(crate) fn integers(array: &ArrayRef) -> Result<Int64Array> {
    Ok(cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

/// A column as text.
pub(crate) fn texts(array: &ArrayRef) -> Result<StringViewArray> {
    let array = match array.data_type() {
        DataType::Dictionary(_, value) if !is_text(value) => cast(array, value)?,
        _ => array.clone(),
    };
    let array = if is_text(array.data_type()) {
        array
    } else {
        cast(&array, &DataType::Utf8)?
    };
    Ok(cast(&array, &DataType::Utf8View)?.as_string_view().clone())
}

/// A column of lists: `offsets[row]..offsets[row + 1]` are the row's elements.
#[derive(Debug)]
pub(crate) struct Lists {
    offsets: OffsetBuffer<i64>,
    /// The elements of all rows, and perhaps some of none.
    pub(crate) values: ArrayRef,
    pub(crate) nulls: Option<NullBuffer>,
}

impl Lists {
    pub(crate) fn new(array: &ArrayRef) -> Result<Self> {
        let item = list_item(array.data_type()).cloned().unwrap_or(DataType::Null);
        let wide = DataType::LargeList(Arc::new(Field::new_list_field(item, true)));
        let array: LargeListArray = cast(array, &wide)?.as_list::<i64>().clone();
        let (_, offsets, values, nulls) = array.into_parts();
        Ok(Self { offsets, values, nulls })
    }

    pub(crate) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Where the row's elements are in `values`; `None` for NULL.
    pub(crate) fn row(&self, row: usize) -> Option<std::ops::Range<usize>> {
        if self.nulls.as_ref().is_some_and(|n| n.is_null(row)) {
            return None;
        }
        let (start, end) = (self.offsets[row] as usize, self.offsets[row + 1] as usize);
        Some(start..end)
    }
}

/// Lists of numbers.
#[derive(Debug)]
pub(crate) struct NumberLists {
    lists: Lists,
    values: Float64Array,
}

impl NumberLists {
    pub(crate) fn new(array: &ArrayRef) -> Result<Self> {
        let lists = Lists::new(array)?;
        let values = numbers(&lists.values)?;
        Ok(Self { lists, values })
    }

    pub(crate) fn len(&self) -> usize {
        self.lists.len()
    }

    /// The row's numbers; `None` for NULL and for a list with a NULL in it.
    pub(crate) fn row(&self, row: usize) -> Option<&[f64]> {
        let range = self.lists.row(row)?;
        let unknown = self.values.nulls().is_some_and(|n| range.clone().any(|i| n.is_null(i)));
        if unknown { None } else { self.values.values().get(range) }
    }
}

/// `LIST<t>`.
pub(crate) fn list_of(t: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(t, true)))
}

/// The fields of an encoder's elements.
fn hot_fields() -> Fields {
    Fields::from(vec![
        Field::new("index", DataType::Int64, true),
        Field::new("value", DataType::Float64, true),
    ])
}

/// `LIST<STRUCT<index, value>>`, what encoders give.
pub(crate) fn hot_type() -> DataType {
    list_of(DataType::Struct(hot_fields()))
}

/// An encoder's column from the elements of all rows and where each row's begin.
pub(crate) fn hot_lists(indices: Vec<i64>, values: Vec<f64>, offsets: OffsetBuffer<i32>) -> Result<ArrayRef> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(indices)),
        Arc::new(Float64Array::from(values)),
    ];
    let elements = StructArray::try_new(hot_fields(), columns, None)?;
    let item = Arc::new(Field::new_list_field(DataType::Struct(hot_fields()), true));
    Ok(Arc::new(ListArray::try_new(item, offsets, Arc::new(elements), None)?))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{DictionaryArray, FixedSizeListArray, StringArray, new_null_array};
    use datafusion::arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn every_number_and_text_type_is_read() {
        let ints: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        for t in [
            DataType::Int8,
            DataType::UInt64,
            DataType::Float16,
            DataType::Float32,
            DataType::Decimal128(9, 2),
            DataType::Decimal256(40, 2),
        ] {
            let column = cast(&ints, &t).unwrap();
            assert!(is_number(&t), "{t}");
            assert_eq!(
                numbers(&column).unwrap(),
                Float64Array::from(vec![Some(1.0), None]),
                "{t}"
            );
        }
        let words: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), None]));
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        for t in [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View, dictionary] {
            let column = cast(&words, &t).unwrap();
            assert!(is_text(&t), "{t}");
            assert_eq!(
                texts(&column).unwrap(),
                StringViewArray::from(vec![Some("x"), None]),
                "{t}"
            );
        }
        let printed = texts(&ints).unwrap();
        assert_eq!(printed, StringViewArray::from(vec![Some("1"), None]));
        let codes: DictionaryArray<Int32Type> =
            DictionaryArray::new(vec![0, 0].into(), Arc::new(Int64Array::from(vec![7])));
        let codes: ArrayRef = Arc::new(codes);
        assert_eq!(texts(&codes).unwrap(), StringViewArray::from(vec!["7", "7"]));
        assert_eq!(numbers(&codes).unwrap(), Float64Array::from(vec![7.0, 7.0]));
        let nothing = new_null_array(&DataType::Null, 2);
        assert_eq!(texts(&nothing).unwrap().null_count(), 2);
        assert_eq!(numbers(&nothing).unwrap().null_count(), 2);
        assert_eq!(NumberLists::new(&nothing).unwrap().row(1), None);
    }

    #[test]
    fn every_list_type_is_read_and_slices_too() {
        let rows = vec![
            Some(vec![Some(1), Some(2)]),
            None,
            Some(vec![Some(3), None]),
            Some(vec![Some(4), Some(5)]),
        ];
        let small: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(rows.clone()));
        let large: ArrayRef = Arc::new(LargeListArray::from_iter_primitive::<Int64Type, _, _>(rows.clone()));
        let fixed: ArrayRef = Arc::new(FixedSizeListArray::from_iter_primitive::<Int64Type, _, _>(rows, 2));
        for array in [small, large, fixed] {
            let lists = NumberLists::new(&array.slice(1, 3)).unwrap();
            assert_eq!(lists.len(), 3);
            assert_eq!((lists.row(0), lists.row(1)), (None, None));
            assert_eq!(lists.row(2), Some(&[4.0, 5.0][..]), "{}", array.data_type());
        }
    }
}
