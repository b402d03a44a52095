//! What columns are encoded to.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use datafusion::arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Float64Array,
    Int32Array, Int64Array, LargeListArray, LargeStringArray, ListBuilder, RecordBatch, StringArray, StringBuilder,
    StringViewArray, Time32SecondArray, Time64MicrosecondArray, TimestampMicrosecondArray, TimestampNanosecondArray,
    UInt8Array,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int8Type};

use super::*;
use crate::features::columns::hot_lists;
use crate::kernels::compute::Compute;
use crate::models::{Artefact, MemoryRows, Parts, Silent, UnlimitedMemory};
use crate::options::Options;

const STANDARD: EncoderOptions = EncoderOptions {
    scaling: Scaling::PopulationDeviation,
    center: true,
    max_categories: 1_000,
};

fn rows(columns: Vec<(&str, ArrayRef)>, batch_rows: usize) -> MemoryRows {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap();
    let starts = (0..batch.num_rows()).step_by(batch_rows);
    let batches = starts
        .map(|s| batch.slice(s, batch_rows.min(batch.num_rows() - s)))
        .collect();
    MemoryRows::new(batch.schema(), batches)
}

fn learn(rows: &MemoryRows, options: &EncoderOptions, threads: usize) -> Result<(Encoder, Vec<String>, Block<f64>)> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let cancel = AtomicBool::new(false);
    let context = FitContext {
        compute: &Compute::cpu(&pool, &cancel),
        seed: 1,
        observer: &Silent,
        memory: &UnlimitedMemory,
        start: None,
    };
    let features: Vec<usize> = (0..rows.schema().fields().len()).collect();
    let (encoder, notices) = Encoder::learn(rows, &features, options, &context)?;
    let block = encoder.encode_rows(rows, &features, &context)?;
    let hashes = encoder.row_hashes(rows, &features, 1, &context)?;
    assert_eq!(hashes.len(), block.row_count);
    Ok((encoder, notices, block))
}

fn reload(encoder: &Encoder) -> Result<Encoder> {
    Encoder::from_artefact(&Artefact {
        name: "m".into(),
        features: encoder.feature_columns().to_vec(),
        options: Options::default(),
        parts: Parts {
            tables: encoder.to_tables()?,
            ..Parts::default()
        },
    })
}

#[test]
fn numbers_of_every_type_are_standardised() {
    let wanted = [-1.224_744_871_391_589, 0.0, 1.224_744_871_391_589, 0.0];
    let float32: ArrayRef = Arc::new(Float32Array::from(vec![
        Some(1.0),
        Some(2.0),
        Some(3.0),
        Some(f32::NAN),
    ]));
    let int64: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(2), Some(3), None]));
    let small: ArrayRef = Arc::new(UInt8Array::from(vec![Some(1), Some(2), Some(3), None]));
    let decimal = Decimal128Array::from(vec![Some(100), Some(200), Some(300), None]);
    let decimal: ArrayRef = Arc::new(decimal.with_precision_and_scale(10, 2).unwrap());
    let keys = datafusion::arrow::array::Int8Array::from(vec![Some(0), Some(1), Some(2), None]);
    let dictionary: ArrayRef = Arc::new(DictionaryArray::<Int8Type>::new(
        keys,
        Arc::new(Int32Array::from(vec![1, 2, 3])),
    ));
    let half = cast(&int64, &DataType::Float16).unwrap();
    let columns = vec![
        ("f", float32),
        ("i", int64),
        ("u", small),
        ("d", decimal),
        ("k", dictionary),
        ("h", half),
    ];
    let (encoder, notices, block) = learn(&rows(columns, 3), &STANDARD, 2).unwrap();
    assert_eq!(notices, ["1 infinite or NaN value of column 'f' was treated as NULL"]);
    assert_eq!(encoder.numbers().len(), 6);
    for (row, wanted) in wanted.iter().enumerate() {
        for x in block.row_numbers(row) {
            assert!((x - wanted).abs() < 1e-11, "row {row}: {x}");
        }
    }
    assert_eq!(reload(&encoder).unwrap(), encoder);
}

#[test]
fn scaling_can_be_left_out() {
    let x: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), Some(5.0), None]));
    let input = rows(vec![("x", x)], 2);
    let options = EncoderOptions {
        scaling: Scaling::None,
        center: false,
        max_categories: 9,
    };
    assert_eq!(learn(&input, &options, 1).unwrap().2.numbers, [1.0, 5.0, 3.0]);
    assert_eq!(
        learn(
            &input,
            &EncoderOptions {
                center: true,
                ..options
            },
            1
        )
        .unwrap()
        .2
        .numbers,
        [-2.0, 2.0, 0.0]
    );
    let sample = EncoderOptions {
        scaling: Scaling::SampleDeviation,
        ..options
    };
    let (encoder, _, _) = learn(&input, &sample, 1).unwrap();
    assert!((encoder.numbers()[0].scale - 8f64.sqrt()).abs() < 1e-11);
}

#[test]
fn categories_of_every_type_have_codes() {
    let texts = [
        Some("b"),
        None,
        Some("a"),
        Some("a value too long for a view"),
        Some("b"),
    ];
    let plain: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
    let large: ArrayRef = Arc::new(LargeStringArray::from(texts.to_vec()));
    let view: ArrayRef = Arc::new(StringViewArray::from(texts.to_vec()));
    let dictionary: ArrayRef = Arc::new(texts.into_iter().collect::<DictionaryArray<Int8Type>>());
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![
        Some(true),
        None,
        Some(false),
        Some(true),
        Some(true),
    ]));
    let days: ArrayRef = Arc::new(Date32Array::from(vec![Some(0), None, Some(19_782), Some(0), Some(-1)]));
    let milliseconds = cast(&days, &DataType::Date64).unwrap();
    let columns = vec![
        ("s", plain.clone()),
        ("l", large),
        ("v", view.clone()),
        ("k", dictionary.clone()),
        ("f", flags),
        ("d", days),
        ("m", milliseconds),
    ];
    for (batch_rows, threads) in [(5, 1), (2, 3)] {
        let (encoder, notices, block) = learn(&rows(columns.clone(), batch_rows), &STANDARD, threads).unwrap();
        assert!(notices.is_empty());
        assert_eq!(encoder.levels(), [4, 4, 4, 4, 3, 4, 4]);
        assert_eq!(encoder.codes()[4].categories, ["false", "true"]);
        assert_eq!(
            encoder.codes()[5].categories,
            ["1969-12-31", "1970-01-01", "2024-02-29"]
        );
        assert_eq!(encoder.codes()[5].category(3), Some("_null_filler"));
        let wanted = [
            [2, 2, 2, 2, 1, 1, 1],
            [3, 3, 3, 3, 2, 3, 3],
            [0, 0, 0, 0, 0, 2, 2],
            [1, 1, 1, 1, 1, 1, 1],
            [2, 2, 2, 2, 1, 0, 0],
        ];
        for (row, wanted) in wanted.iter().enumerate() {
            assert_eq!(block.row_codes(row), wanted);
        }
        assert_eq!(reload(&encoder).unwrap(), encoder);
    }
    // Any of the text types serves at scoring, and what was never seen has the code beyond the last.
    let (encoder, _, _) = learn(&rows(vec![("s", plain)], 9), &STANDARD, 1).unwrap();
    for array in [view, dictionary] {
        assert_eq!(encoder.encode::<f32>(&[array]).unwrap().codes, [2, 3, 0, 1, 2]);
    }
    let unseen: ArrayRef = Arc::new(StringViewArray::from(vec!["zzz"]));
    assert_eq!(encoder.encode::<f32>(&[unseen]).unwrap().codes, [4]);
    let nothing = datafusion::arrow::array::new_null_array(&DataType::Null, 2);
    assert_eq!(encoder.encode::<f32>(&[nothing]).unwrap().codes, [3, 3]);
    let wrong: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    assert_eq!(
        encoder.encode::<f32>(&[wrong]).unwrap_err().to_string(),
        "feature 's' was Utf8 in training, text, a boolean, a date, a time or bytes, and is Int64 here; cast it"
    );
}

#[test]
fn timestamps_are_seconds_and_parts() {
    let seconds = [Some(1_709_251_199), None, Some(-1)];
    let microseconds: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter(
        seconds.map(|s: Option<i64>| s.map(|s| s * 1_000_000 + 7)),
    ));
    let nanoseconds: ArrayRef = Arc::new(
        TimestampNanosecondArray::from_iter(seconds.map(|s: Option<i64>| s.map(|s| s * 1_000_000_000)))
            .with_timezone("+02:00"),
    );
    let options = EncoderOptions {
        scaling: Scaling::None,
        center: false,
        max_categories: 1_000,
    };
    let (encoder, _, block) = learn(&rows(vec![("t", microseconds), ("z", nanoseconds)], 2), &options, 1).unwrap();
    assert!((block.numbers[0] - 1_709_251_199.000_007).abs() < 1e-6);
    assert_eq!(block.numbers[5], -1.0);
    let names: Vec<&str> = encoder.codes().iter().take(7).map(|c| c.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "_TS_DOM_t",
            "_TS_DOW_t",
            "_TS_MOY_t",
            "_TS_HOD_t",
            "_TS_MOH_t",
            "_TS_WOY_t",
            "_TS_YEAR_t"
        ]
    );
    assert_eq!(encoder.codes()[5].categories, ["8", "52"]);
    assert_eq!(encoder.codes()[6].categories, ["1969", "2024"]);
    assert_eq!(block.row_codes(0), [0, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1]);
    assert_eq!(block.row_codes(1), [2, 2, 2, 1, 1, 2, 2, 2, 2, 2, 1, 1, 2, 2]);
    assert_eq!(reload(&encoder).unwrap(), encoder);
}

#[test]
fn too_many_categories_leave_the_most_frequent() {
    let names: Vec<String> = (0..2_600)
        .map(|i| format!("name {:04}", i % 1_300))
        .chain(["name 0700".into()])
        .collect();
    let array: ArrayRef = Arc::new(StringViewArray::from_iter_values(&names));
    let (encoder, notices, block) = learn(&rows(vec![("n", array)], 100), &STANDARD, 3).unwrap();
    assert_eq!(
        notices,
        ["column 'n' has 1,300 distinct values; the 1,000 most frequent were kept and the others count as one"]
    );
    let column = &encoder.codes()[0];
    assert_eq!(
        (column.level_count(), column.other_code, column.null_code),
        (1_001, Some(1_000), None)
    );
    assert_eq!(column.categories.last().map(String::as_str), Some("name 0999"));
    assert_eq!(
        (block.codes[999], block.codes[1_000], block.codes[1_299]),
        (999, 1_000, 1_000)
    );
    assert_eq!(reload(&encoder).unwrap(), encoder);
}

#[test]
fn columns_of_nulls_are_left_out() {
    let nulls: ArrayRef = Arc::new(Float64Array::from(vec![None, Some(f64::INFINITY)]));
    let blanks: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>, None]));
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![None, None]));
    let x: ArrayRef = Arc::new(Int64Array::from(vec![4, 4]));
    let all = vec![("a", nulls), ("b", blanks), ("t", times)];
    assert_eq!(
        learn(&rows(all.clone(), 9), &STANDARD, 1).unwrap_err().to_string(),
        "every feature is NULL in every row ('a', 'b' and 't'); at least one needs values to learn from"
    );
    let mut some = all;
    some.push(("x", x));
    let (encoder, notices, block) = learn(&rows(some, 9), &STANDARD, 1).unwrap();
    assert_eq!(notices.len(), 4);
    assert_eq!((encoder.numbers().len(), encoder.codes().len()), (1, 0));
    assert_eq!((encoder.numbers()[0].source, encoder.numbers()[0].scale), (3, 1.0));
    assert_eq!(block.numbers, [0.0, 0.0]);
}

#[test]
fn order_and_threads_do_not_show() {
    let x: Vec<Option<f64>> = (0..3_000u32)
        .map(|i| (i % 11 > 0).then(|| f64::from(i.wrapping_mul(2_654_435_761)) * 1e-3 + 1e6))
        .collect();
    let mut back = x.clone();
    back.reverse();
    let of = |x: Vec<Option<f64>>, batch_rows, threads| {
        let array: ArrayRef = Arc::new(Float64Array::from(x));
        learn(&rows(vec![("x", array)], batch_rows), &STANDARD, threads)
            .unwrap()
            .0
    };
    let one = of(x.clone(), 3_000, 1);
    assert_eq!(one, of(x, 77, 7));
    assert_eq!(one, of(back, 501, 2));
}

#[test]
fn lists_are_numbers_of_their_elements() {
    let numbers: ArrayRef = Arc::new(LargeListArray::from_iter_primitive::<Float64Type, _, _>(vec![
        Some(vec![Some(1.0), Some(10.0)]),
        None,
        Some(vec![Some(3.0), None, Some(7.0)]),
        Some(vec![]),
    ]));
    let mut texts = ListBuilder::new(StringBuilder::new());
    texts.append_value([Some("b"), Some("a"), Some("b")]);
    texts.append_value([None, Some("c")]);
    texts.append_null();
    texts.append_value([Some("a")]);
    let texts: ArrayRef = Arc::new(texts.finish());
    let options = EncoderOptions {
        scaling: Scaling::None,
        center: false,
        max_categories: 9,
    };
    for batch_rows in [1, 3, 4] {
        let columns = vec![("n", numbers.clone()), ("t", texts.clone())];
        let (encoder, notices, block) = learn(&rows(columns, batch_rows), &options, 2).unwrap();
        assert_eq!(
            notices,
            ["column 'n' has arrays of 0 to 3 elements; where one is missing it counts as NULL"]
        );
        let names: Vec<String> = encoder.numbers().iter().map(NumberColumn::full_name).collect();
        assert_eq!(names, ["n[0]", "n[1]", "n[2]", "t[a]", "t[b]", "t[c]"]);
        // Means stand where an array has no element, 0 where a row has not a category.
        assert_eq!(block.row_numbers(0), [1.0, 10.0, 7.0, 1.0, 1.0, 0.0]);
        assert_eq!(block.row_numbers(1), [2.0, 10.0, 7.0, 0.0, 0.0, 1.0]);
        assert_eq!(block.row_numbers(2), [3.0, 10.0, 7.0, 0.0, 0.0, 0.0]);
        assert_eq!(block.row_numbers(3), [2.0, 10.0, 7.0, 1.0, 0.0, 0.0]);
        assert_eq!(reload(&encoder).unwrap(), encoder);
        let sliced = [numbers.slice(2, 2), texts.slice(2, 2)];
        assert_eq!(encoder.encode::<f64>(&sliced).unwrap().numbers, block.numbers[12..]);
    }
    let few = EncoderOptions {
        max_categories: 1,
        ..options
    };
    let (encoder, notices, block) = learn(&rows(vec![("t", texts)], 4), &few, 1).unwrap();
    assert_eq!(
        notices,
        ["column 't' has 3 distinct values; the 1 most frequent were kept and the others were left out"]
    );
    // Two of each; of equals the first is kept.
    assert_eq!(encoder.numbers()[0].element.as_deref(), Some("a"));
    assert_eq!(block.numbers, [1.0, 0.0, 0.0, 1.0]);
}

#[test]
fn single_indices_are_categories() {
    let of = |rows: &[&[(i64, f64)]]| -> ArrayRef {
        let elements: Vec<(i64, f64)> = rows.iter().flat_map(|r| r.iter().copied()).collect();
        let (indices, values) = elements.iter().copied().unzip();
        let offsets = OffsetBuffer::from_lengths(rows.iter().map(|r| r.len()));
        hot_lists(indices, values, offsets).unwrap()
    };
    let single = of(&[&[(7, 1.0)], &[(0, 1.0)], &[(7, 1.0)]]);
    let (encoder, _, block) = learn(&rows(vec![("x", single)], 2), &STANDARD, 2).unwrap();
    assert_eq!(encoder.codes()[0].categories, ["0", "7"]);
    assert_eq!((block.codes, block.number_count), (vec![1, 0, 1], 0));
    assert_eq!(reload(&encoder).unwrap(), encoder);
    // None at all, another value, another index.
    let other = of(&[&[], &[(7, 0.5)], &[(3, 1.0)], &[(0, 1.0)]]);
    assert_eq!(encoder.encode::<f64>(&[other]).unwrap().codes, [2, 2, 2, 0]);
    let several = of(&[&[(0, 1.0), (7, 1.0)]]);
    assert_eq!(
        encoder
            .encode::<f64>(std::slice::from_ref(&several))
            .unwrap_err()
            .to_string(),
        "an array of column 'x' has 2 elements, and each had one in training; encode it as there, with ML.ONE_HOT_ENCODER"
    );
    let mixed = of(&[&[(7, 2.0), (7, 1.0)], &[(0, 1.0)]]);
    let (encoder, _, block) = learn(&rows(vec![("x", mixed)], 2), &STANDARD, 2).unwrap();
    assert_eq!((encoder.numbers().len(), encoder.codes().len()), (2, 0));
    assert_eq!(block.numbers, [0.0, 3.0, 1.0, 0.0]);
    assert_eq!(encoder.encode::<f64>(&[several]).unwrap().numbers, [1.0, 1.0]);
}

#[test]
fn times_and_bytes_are_categories() {
    let times: ArrayRef = Arc::new(Time64MicrosecondArray::from(vec![
        Some(3_600_000_000),
        None,
        Some(1_500_000),
        Some(3_600_000_000),
    ]));
    let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![
        Some(&b"\xff\x00"[..]),
        Some(b"a"),
        None,
        Some(b"a"),
    ]));
    let (encoder, notices, block) = learn(&rows(vec![("t", times), ("b", bytes.clone())], 3), &STANDARD, 2).unwrap();
    assert!(notices.is_empty());
    assert_eq!(encoder.codes()[0].categories, ["00:00:01.500", "01:00:00"]);
    assert_eq!(encoder.codes()[1].categories, ["61", "ff00"]);
    assert_eq!(block.codes, [1, 1, 2, 0, 0, 2, 1, 0]);
    // Of another width, and held in a dictionary.
    let seconds: ArrayRef = Arc::new(Time32SecondArray::from(vec![3_600]));
    let keys = datafusion::arrow::array::Int8Array::from(vec![1]);
    let held: ArrayRef = Arc::new(DictionaryArray::<Int8Type>::new(keys, bytes));
    assert_eq!(encoder.encode::<f64>(&[seconds, held]).unwrap().codes, [1, 0]);
}
