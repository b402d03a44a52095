//! Arithmetic where GoogleSQL's differs from DataFusion's: errors in place of infinities, and the types of results.

use std::cmp::Ordering;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, make_comparator,
};
use datafusion::arrow::compute::kernels::{cmp, zip::zip};
use datafusion::arrow::compute::{SortOptions, and, cast, is_not_null, not, nullif};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, i256};
use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::type_coercion::binary::type_union_resolution;

use super::function::{
    BASE, Call, Kind, Spec, list_of, returns_bool, returns_first, returns_float, returns_int, same_number,
};
use crate::error::Error;

/// BigQuery's NUMERIC.
const NUMERIC: DataType = DataType::Decimal128(38, 9);

const OF_FLOAT: Spec = Spec {
    takes: &[Kind::Float],
    returns: returns_float,
    ..BASE
};

const SAFE: Spec = Spec {
    summary: "A sum that is NULL where it would be out of range.",
    takes: &[Kind::Any, Kind::Any],
    least: 2,
    unify: Some(same_number),
    returns: returns_first,
    ..BASE
};

pub(super) const ALL: &[Spec] = &[
    Spec {
        title: "LOG",
        name: "google_log",
        syntax: "LOG(x [, base])",
        summary: "The logarithm of x, natural if there is no base; an error for x of 0 or less.",
        example: "SELECT LOG(100.0, 10.0)",
        takes: &[Kind::Float, Kind::Float],
        eval: log,
        ..OF_FLOAT
    },
    Spec {
        title: "LN",
        name: "google_ln",
        syntax: "LN(x)",
        summary: "The natural logarithm; an error for x of 0 or less.",
        example: "SELECT SAFE.LN(0)",
        eval: |call| each(call, |call, x| positive(call, x).map(f64::ln)),
        ..OF_FLOAT
    },
    Spec {
        title: "LOG10",
        name: "google_log10",
        syntax: "LOG10(x)",
        summary: "The logarithm to the base of 10; an error for x of 0 or less.",
        example: "SELECT LOG10(100)",
        eval: |call| each(call, |call, x| positive(call, x).map(f64::log10)),
        ..OF_FLOAT
    },
    Spec {
        title: "SQRT",
        name: "google_sqrt",
        syntax: "SQRT(x)",
        summary: "The square root; an error for x below 0.",
        example: "SELECT SQRT(25.0)",
        eval: |call| {
            each(call, |call, x| match x < 0.0 {
                true => Err(call.wrong(format!("{x} has no square root; write SAFE.SQRT(…) for NULL"))),
                false => Ok(x.sqrt()),
            })
        },
        ..OF_FLOAT
    },
    Spec {
        title: "POW",
        name: "google_pow",
        syntax: "POW(x, y), POWER(x, y)",
        summary: "x to the power of y, as FLOAT64; an error where there is none.",
        example: "SELECT POW(2.0, 3.0)",
        takes: &[Kind::Float, Kind::Float],
        least: 2,
        eval: pow,
        ..OF_FLOAT
    },
    Spec {
        title: "IEEE_DIVIDE",
        name: "ieee_divide",
        syntax: "IEEE_DIVIDE(x, y)",
        summary: "x / y, which is infinite or NaN where y is 0.",
        example: "SELECT IEEE_DIVIDE(20.0, 4.0)",
        takes: &[Kind::Float, Kind::Float],
        least: 2,
        eval: |call| call.map::<_, Float64Array>(|row| Ok(Some(call.float(0).value(row) / call.float(1).value(row)))),
        ..OF_FLOAT
    },
    Spec {
        title: "X / Y",
        name: "google_divide",
        syntax: "x / y",
        summary: "A quotient: FLOAT64 of whole numbers too, NUMERIC of NUMERICs, and an error where y is 0.",
        example: "SELECT 1 / 4",
        takes: &[Kind::Any, Kind::Any],
        least: 2,
        unify: Some(quotient),
        returns: returns_first,
        eval: divide,
        ..BASE
    },
    Spec {
        title: "DIV",
        name: "div",
        syntax: "DIV(x, y)",
        summary: "The whole part of x / y.",
        example: "SELECT DIV(12, -7)",
        takes: &[Kind::Any, Kind::Any],
        least: 2,
        unify: Some(same_number),
        returns: returns_first,
        eval: div,
        ..BASE
    },
    Spec {
        title: "SAFE_ADD",
        name: "safe_add",
        syntax: "SAFE_ADD(x, y)",
        example: "SELECT SAFE_ADD(9223372036854775807, 1)",
        eval: |call| checked(call, i64::checked_add, |x, y| x + y),
        ..SAFE
    },
    Spec {
        title: "SAFE_SUBTRACT",
        name: "safe_subtract",
        syntax: "SAFE_SUBTRACT(x, y)",
        summary: "A difference that is NULL where it would be out of range.",
        example: "SELECT SAFE_SUBTRACT(5, 4)",
        eval: |call| checked(call, i64::checked_sub, |x, y| x - y),
        ..SAFE
    },
    Spec {
        title: "SAFE_MULTIPLY",
        name: "safe_multiply",
        syntax: "SAFE_MULTIPLY(x, y)",
        summary: "A product that is NULL where it would be out of range.",
        example: "SELECT SAFE_MULTIPLY(20, 4)",
        eval: |call| checked(call, i64::checked_mul, |x, y| x * y),
        ..SAFE
    },
    Spec {
        title: "SAFE_NEGATE",
        name: "safe_negate",
        syntax: "SAFE_NEGATE(x)",
        summary: "-x, or NULL where it would be out of range.",
        example: "SELECT SAFE_NEGATE(1)",
        takes: &[Kind::Any],
        least: 1,
        eval: |call| match call.arrays[0].data_type() {
            DataType::Int64 => call.map::<_, Int64Array>(|row| Ok(call.int(0).value(row).checked_neg())),
            _ => call.map::<_, Float64Array>(|row| Ok(Some(-call.float(0).value(row)))),
        },
        ..SAFE
    },
    Spec {
        title: "SIGN",
        name: "sign",
        syntax: "SIGN(x)",
        summary: "-1, 0 or 1: the sign of a number.",
        example: "SELECT SIGN(-25)",
        takes: &[Kind::Any],
        unify: Some(same_number),
        returns: returns_first,
        eval: |call| match call.arrays[0].data_type() {
            DataType::Int64 => call.map::<_, Int64Array>(|row| Ok(Some(call.int(0).value(row).signum()))),
            _ => each(call, |_, x| Ok(if x == 0.0 || x.is_nan() { x } else { x.signum() })),
        },
        ..BASE
    },
    Spec {
        title: "IS_INF",
        name: "is_inf",
        syntax: "IS_INF(x)",
        summary: "Whether a number is infinite.",
        example: "SELECT IS_INF(25)",
        takes: &[Kind::Float],
        returns: returns_bool,
        eval: |call| call.map::<_, BooleanArray>(|row| Ok(Some(call.float(0).value(row).is_infinite()))),
        ..BASE
    },
    Spec {
        title: "IS_NAN",
        name: "is_nan",
        syntax: "IS_NAN(x)",
        summary: "Whether a number is NaN.",
        example: "SELECT IS_NAN(25)",
        takes: &[Kind::Float],
        returns: returns_bool,
        eval: |call| call.map::<_, BooleanArray>(|row| Ok(Some(call.float(0).value(row).is_nan()))),
        ..BASE
    },
    Spec {
        title: "GREATEST",
        name: "google_greatest",
        syntax: "GREATEST(x, …)",
        summary: "The greatest of its arguments; NULL if one of them is.",
        example: "SELECT GREATEST(3, 5, 1)",
        takes: &[Kind::Any],
        repeats: true,
        unify: Some(same_type),
        returns: returns_first,
        eval: |call| extreme(call, true),
        ..BASE
    },
    Spec {
        title: "LEAST",
        name: "google_least",
        syntax: "LEAST(x, …)",
        summary: "The least of its arguments; NULL if one of them is.",
        example: "SELECT LEAST(3, 5, 1)",
        takes: &[Kind::Any],
        repeats: true,
        unify: Some(same_type),
        returns: returns_first,
        eval: |call| extreme(call, false),
        ..BASE
    },
    Spec {
        title: "RANGE_BUCKET",
        name: "range_bucket",
        syntax: "RANGE_BUCKET(value, boundaries)",
        summary: "How many of the boundaries, which are an ascending array, are no greater than a value.",
        example: "SELECT RANGE_BUCKET(20, [0, 10, 20, 30, 40])",
        takes: &[Kind::Any, Kind::Any],
        least: 2,
        unify: Some(value_and_list),
        returns: returns_int,
        eval: range_bucket,
        ..BASE
    },
    Spec {
        title: "CAST(… AS INT64)",
        name: "google_int64",
        syntax: "CAST(value AS INT64)",
        summary: "A whole number: the nearest to a fraction, and a half away from zero.",
        example: "SELECT CAST(-1.5 AS INT64)",
        takes: &[Kind::Any],
        plain: Some(|given| given.is_integer().then_some(DataType::Int64)),
        returns: returns_int,
        eval: int64,
        ..BASE
    },
];

fn each(call: &Call<'_>, value: fn(&Call<'_>, f64) -> DataFusionResult<f64>) -> DataFusionResult<ArrayRef> {
    call.map::<_, Float64Array>(|row| value(call, call.float(0).value(row)).map(Some))
}

fn positive(call: &Call<'_>, x: f64) -> DataFusionResult<f64> {
    if x <= 0.0 {
        return Err(call.wrong(format!("{x} has no logarithm; write SAFE.{}(…) for NULL", call.title)));
    }
    Ok(x)
}

fn log(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    if call.len() == 1 {
        return each(call, |call, x| positive(call, x).map(f64::ln));
    }
    call.map::<_, Float64Array>(|row| {
        let (x, base) = (
            positive(call, call.float(0).value(row))?,
            positive(call, call.float(1).value(row))?,
        );
        #[expect(clippy::float_cmp)]
        if base == 1.0 {
            return Err(call.wrong("there is no logarithm to the base of 1; write SAFE.LOG(…) for NULL"));
        }
        // These bases have functions that are exact for their powers.
        #[expect(clippy::float_cmp)]
        Ok(Some(if base == 10.0 {
            x.log10()
        } else if base == 2.0 {
            x.log2()
        } else {
            x.ln() / base.ln()
        }))
    })
}

fn pow(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    call.map::<_, Float64Array>(|row| {
        let (x, y) = (call.float(0).value(row), call.float(1).value(row));
        let power = libm::pow(x, y);
        let finite = x.is_finite() && y.is_finite();
        if finite && !power.is_finite() {
            return Err(call.wrong(format!(
                "{x} to the power of {y} is no number; write SAFE.POW(…) for NULL"
            )));
        }
        Ok(Some(power))
    })
}

/// The types that are divided: NUMERIC if a decimal is there and no float, else FLOAT64.
fn quotient(_: &'static str, given: &[DataType]) -> DataFusionResult<Vec<DataType>> {
    let to = |given: &DataType| match given {
        DataType::Decimal128(_, scale) | DataType::Decimal64(_, scale) | DataType::Decimal32(_, scale)
            if *scale <= 9 =>
        {
            Ok(Some(NUMERIC))
        }
        t if t.is_integer() || *t == DataType::Null => Ok(None),
        t if t.is_numeric() => Ok(Some(DataType::Float64)),
        other => Err(Error::request(format!(
            "a value of the type {other} cannot be divided; cast it to a number"
        ))),
    };
    let types: Vec<Option<DataType>> = given.iter().map(to).collect::<Result<_, _>>()?;
    let exact = types.contains(&Some(NUMERIC)) && !types.contains(&Some(DataType::Float64));
    Ok(vec![if exact { NUMERIC } else { DataType::Float64 }; given.len()])
}

fn by_zero(call: &Call<'_>, x: impl std::fmt::Display) -> datafusion::common::DataFusionError {
    call.wrong(format!("division by zero: {x} / 0; write SAFE_DIVIDE(x, y) for NULL"))
}

fn divide(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    if *call.arrays[0].data_type() != NUMERIC {
        return call.map::<_, Float64Array>(|row| {
            let (x, y) = (call.float(0).value(row), call.float(1).value(row));
            if y == 0.0 {
                Err(by_zero(call, x))
            } else {
                Ok(Some(x / y))
            }
        });
    }
    let (x, y) = (
        call.arrays[0].as_primitive::<Decimal128Type>(),
        call.arrays[1].as_primitive::<Decimal128Type>(),
    );
    let quotients = call.map::<_, Decimal128Array>(|row| {
        if y.value(row) == 0 {
            return Err(by_zero(call, x.value_as_string(row)));
        }
        // Two digits of the scale are lost in the quotient, and a half is rounded away from zero.
        let (scaled, by) = (
            i256::from_i128(x.value(row)) * i256::from_i128(1_000_000_000),
            i256::from_i128(y.value(row)),
        );
        let (whole, rest) = (scaled / by, scaled % by);
        let two = i256::from_i128(2);
        let away = if rest.wrapping_abs() * two >= by.wrapping_abs() {
            (scaled.signum() * by.signum()).to_i128()
        } else {
            Some(0)
        };
        let rounded = whole
            .to_i128()
            .zip(away)
            .and_then(|(whole, away)| whole.checked_add(away));
        rounded
            .map(Some)
            .ok_or_else(|| call.wrong("the quotient is out of the range of NUMERIC; cast its parts to FLOAT64"))
    })?;
    Ok(Arc::new(
        quotients
            .as_primitive::<Decimal128Type>()
            .clone()
            .with_data_type(NUMERIC),
    ))
}

fn div(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    if *call.arrays[0].data_type() != DataType::Int64 {
        return call.map::<_, Float64Array>(|row| {
            let (x, y) = (call.float(0).value(row), call.float(1).value(row));
            if y == 0.0 {
                Err(by_zero(call, x))
            } else {
                Ok(Some((x / y).trunc()))
            }
        });
    }
    call.map::<_, Int64Array>(|row| {
        let (x, y) = (call.int(0).value(row), call.int(1).value(row));
        match x.checked_div(y) {
            None if y == 0 => Err(by_zero(call, x)),
            None => Err(call.wrong(format!(
                "{x} / {y} is out of the range of INT64; write SAFE.DIV(…) for NULL"
            ))),
            whole => Ok(whole),
        }
    })
}

fn checked(
    call: &Call<'_>,
    whole: fn(i64, i64) -> Option<i64>,
    float: fn(f64, f64) -> f64,
) -> DataFusionResult<ArrayRef> {
    if *call.arrays[0].data_type() == DataType::Int64 {
        return call.map::<_, Int64Array>(|row| Ok(whole(call.int(0).value(row), call.int(1).value(row))));
    }
    call.map::<_, Float64Array>(|row| {
        let (x, y) = (call.float(0).value(row), call.float(1).value(row));
        let result = float(x, y);
        Ok(Some(result).filter(|r| r.is_finite() || !x.is_finite() || !y.is_finite()))
    })
}

/// All arguments as the type that holds them all.
fn same_type(title: &'static str, given: &[DataType]) -> DataFusionResult<Vec<DataType>> {
    let common = type_union_resolution(given)
        .ok_or_else(|| Error::request(format!("{title} takes values of one type; cast them to it")))?;
    // An array of the type Null has no row that is NULL.
    let common = if common == DataType::Null {
        DataType::Boolean
    } else {
        common
    };
    Ok(vec![common; given.len()])
}

pub(super) fn value_and_list(title: &'static str, given: &[DataType]) -> DataFusionResult<Vec<DataType>> {
    let [
        value,
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _),
    ] = given
    else {
        return Err(Error::request(format!(
            "{title} takes a value and an array; write {title}(value, [0, 10, 20])"
        ))
        .into());
    };
    let common = same_type(title, &[value.clone(), item.data_type().clone()])?.swap_remove(0);
    Ok(vec![common.clone(), list_of(common)])
}

fn extreme(call: &Call<'_>, greatest: bool) -> DataFusionResult<ArrayRef> {
    let mut best = Arc::clone(&call.arrays[0]);
    let mut present = is_not_null(&best)?;
    for other in &call.arrays[1..] {
        present = and(&present, &is_not_null(other)?)?;
        let mut better = if greatest {
            cmp::gt(other, &best)?
        } else {
            cmp::lt(other, &best)?
        };
        if let (false, Some(numbers)) = (greatest, other.as_primitive_opt::<Float64Type>()) {
            // NaN is sorted behind all numbers, but is the result wherever it is an argument.
            let found = best.as_primitive::<Float64Type>();
            better = better
                .iter()
                .zip(numbers)
                .zip(found)
                .map(|((b, n), f)| Some(!f?.is_nan() && (b? || n?.is_nan())))
                .collect();
        }
        best = zip(&better, other, &best)?;
    }
    Ok(nullif(&best, &not(&present)?)?)
}

fn range_bucket(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    let lists = call.arrays[1].as_list::<i32>();
    let compare = make_comparator(call.arrays[0].as_ref(), lists.values().as_ref(), SortOptions::default())?;
    let place = |row: usize| usize::try_from(lists.value_offsets()[row]).unwrap_or(0);
    call.map::<_, Int64Array>(|row| {
        let mut below = 0;
        for item in place(row)..place(row + 1) {
            if lists.values().is_null(item) {
                return Err(call.wrong("a boundary is NULL; write numbers only"));
            }
            if compare(row, item) == Ordering::Less {
                break;
            }
            below += 1;
        }
        Ok(Some(below))
    })
}

/// The whole number that a text writes, in decimal or hexadecimal digits.
fn parsed(text: &str) -> Option<i64> {
    let text = text.trim();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) if hex.starts_with(|c: char| c.is_ascii_hexdigit()) => {
            i64::from_str_radix(&format!("{sign}{hex}"), 16).ok()
        }
        None if digits.starts_with(|c: char| c.is_ascii_digit()) => format!("{sign}{digits}").parse().ok(),
        _ => None,
    }
}

fn int64(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    let values = &call.arrays[0];
    match values.data_type() {
        t if t.is_floating() => {
            let numbers = cast(values, &DataType::Float64)?;
            let numbers = numbers.as_primitive::<Float64Type>();
            call.map::<_, Int64Array>(|row| {
                let (given, rounded) = (numbers.value(row), numbers.value(row).round());
                // 2^63 is the first number beyond.
                if !(-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&rounded) {
                    return Err(call.wrong(format!(
                        "{given} is out of the range of INT64; write SAFE_CAST(… AS INT64) for NULL"
                    )));
                }
                #[expect(clippy::cast_possible_truncation)]
                Ok(Some(rounded as i64))
            })
        }
        t if t.is_string() => {
            let texts = cast(values, &DataType::Utf8)?;
            let texts = texts.as_string::<i32>();
            call.map::<_, Int64Array>(|row| {
                let text = texts.value(row);
                let number = parsed(text);
                number.map(Some).ok_or_else(|| {
                    call.wrong(format!(
                        "'{text}' is no whole number; write SAFE_CAST(… AS INT64) for NULL"
                    ))
                })
            })
        }
        DataType::Decimal128(..) => {
            let rounded = cast(values, &DataType::Decimal128(38, 0))?;
            let rounded = rounded.as_primitive::<Decimal128Type>();
            call.map::<_, Int64Array>(|row| {
                let number = rounded.value(row);
                let fits = i64::try_from(number).map(Some);
                fits.map_err(|_| {
                    call.wrong(format!(
                        "{number} is out of the range of INT64; write SAFE_CAST(… AS INT64) for NULL"
                    ))
                })
            })
        }
        _ => Ok(Arc::new(
            cast(values, &DataType::Int64)?.as_primitive::<Int64Type>().clone(),
        )),
    }
}
