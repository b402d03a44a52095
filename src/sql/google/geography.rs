//! Points on the sphere. A geography is a struct of `x`, the longitude, and `y`, the latitude, in degrees.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanBufferBuilder, Float64Array, StringArray, StructArray,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{DataType, Field, Fields, Float64Type};
use datafusion::common::Result as DataFusionResult;

use super::function::{Call, Kind, Spec, returns_bool, returns_float, returns_text};
use super::print::general;
use crate::error::Error;

/// The radius of the sphere that BigQuery measures on, in metres.
const RADIUS: f64 = 6_371_010.0;

const BASE: Spec = Spec {
    title: "ST_GEOGPOINT",
    name: "st_geogpoint",
    syntax: "ST_GEOGPOINT(longitude, latitude)",
    summary: "A point of two numbers in degrees; here a struct of x and y.",
    example: "SELECT ST_GEOGPOINT(-122.35, 47.62)",
    takes: &[Kind::Float, Kind::Float],
    least: 2,
    returns: returns_point,
    eval: point,
    ..super::function::BASE
};

const OF_ONE: Spec = Spec {
    takes: &[Kind::Any],
    least: 1,
    unify: Some(points),
    returns: returns_float,
    ..BASE
};

pub(super) const ALL: &[Spec] = &[
    BASE,
    Spec {
        title: "ST_DISTANCE",
        name: "st_distance",
        syntax: "ST_DISTANCE(point, point)",
        summary: "The shortest way between two points on a sphere of 6371010 metres' radius, in metres.",
        example: "SELECT ST_DISTANCE(ST_GEOGPOINT(-73.99, 40.73), ST_GEOGPOINT(-73.78, 40.64))",
        takes: &[Kind::Any, Kind::Any],
        least: 2,
        eval: distance,
        ..OF_ONE
    },
    Spec {
        title: "ST_DWITHIN",
        name: "st_dwithin",
        syntax: "ST_DWITHIN(point, point, metres)",
        summary: "Whether two points are no further apart than so many metres.",
        example: "SELECT ST_DWITHIN(ST_GEOGPOINT(-73.99, 40.73), ST_GEOGPOINT(-73.78, 40.64), 30000)",
        takes: &[Kind::Any, Kind::Any, Kind::Float],
        least: 3,
        returns: returns_bool,
        eval: within,
        ..OF_ONE
    },
    Spec {
        title: "ST_X",
        name: "st_x",
        syntax: "ST_X(point)",
        summary: "A point's longitude in degrees.",
        example: "SELECT ST_X(ST_GEOGPOINT(-122.35, 47.62))",
        eval: |call| Ok(Arc::new(coordinates(call, 0).0)),
        ..OF_ONE
    },
    Spec {
        title: "ST_Y",
        name: "st_y",
        syntax: "ST_Y(point)",
        summary: "A point's latitude in degrees.",
        example: "SELECT ST_Y(ST_GEOGPOINT(-122.35, 47.62))",
        eval: |call| Ok(Arc::new(coordinates(call, 0).1)),
        ..OF_ONE
    },
    Spec {
        title: "ST_ASTEXT",
        name: "st_astext",
        syntax: "ST_ASTEXT(point)",
        summary: "A point in well-known text.",
        example: "SELECT ST_ASTEXT(ST_GEOGPOINT(-122.35, 47.62))",
        returns: returns_text,
        eval: text_of_points,
        ..OF_ONE
    },
    Spec {
        title: "ST_SNAPTOGRID",
        name: "st_snaptogrid",
        syntax: "ST_SNAPTOGRID(point, degrees)",
        summary: "The nearest point of a grid whose lines are so many degrees apart.",
        example: "SELECT ST_ASTEXT(ST_SNAPTOGRID(ST_GEOGPOINT(-122.3467, 47.6254), 0.1))",
        takes: &[Kind::Any, Kind::Float],
        least: 2,
        returns: returns_point,
        eval: snapped,
        ..OF_ONE
    },
    Spec {
        title: "ST_GEOGFROMTEXT",
        name: "st_geogfromtext",
        syntax: "ST_GEOGFROMTEXT(text)",
        summary: "The point of a well-known text; other shapes are not known here.",
        example: "SELECT ST_X(ST_GEOGFROMTEXT('POINT(-122.35 47.62)'))",
        takes: &[Kind::Text],
        least: 1,
        eval: from_text,
        ..BASE
    },
];

fn fields() -> Fields {
    Fields::from(vec![
        Field::new("x", DataType::Float64, true),
        Field::new("y", DataType::Float64, true),
    ])
}

#[expect(clippy::unnecessary_wraps)]
fn returns_point(_: &[DataType]) -> DataFusionResult<DataType> {
    Ok(DataType::Struct(fields()))
}

/// Whether values of a type are points.
pub(super) fn is_point(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Struct(fields)
        if fields.len() == 2 && fields[0].name() == "x" && fields[1].name() == "y" && fields.iter().all(|f| f.data_type().is_floating()))
}

/// Arguments that are points, but for the numbers behind them.
fn points(title: &'static str, given: &[DataType]) -> DataFusionResult<Vec<DataType>> {
    let point = |(i, given): (usize, &DataType)| match given {
        // The last of two or three is a number of metres or degrees.
        other if i > 0 && other.is_numeric() => Ok(DataType::Float64),
        DataType::Null => Ok(DataType::Struct(fields())),
        other if is_point(other) => Ok(DataType::Struct(fields())),
        other => Err(Error::request(format!(
            "{title} takes points, but was given {other}; write ST_GEOGPOINT(longitude, latitude)"
        ))
        .into()),
    };
    given.iter().enumerate().map(point).collect()
}

/// The longitudes and latitudes of points, NULL where the point is.
fn coordinates(call: &Call<'_>, i: usize) -> (Float64Array, Float64Array) {
    let points = call.arrays[i].as_struct();
    let of = |column: usize| -> Float64Array {
        let values = points.column(column).as_primitive::<Float64Type>();
        values
            .iter()
            .enumerate()
            .map(|(row, v)| v.filter(|_| points.is_valid(row)))
            .collect()
    };
    (of(0), of(1))
}

/// Points of their coordinates, NULL without one.
fn assembled(coordinates: impl Iterator<Item = Option<(f64, f64)>>) -> StructArray {
    let (mut x, mut y, mut valid) = (vec![], vec![], BooleanBufferBuilder::new(0));
    for point in coordinates {
        valid.append(point.is_some());
        let (longitude, latitude) = point.unwrap_or_default();
        x.push(longitude);
        y.push(latitude);
    }
    let columns: Vec<ArrayRef> = vec![Arc::new(Float64Array::from(x)), Arc::new(Float64Array::from(y))];
    StructArray::new(fields(), columns, Some(NullBuffer::new(valid.finish())))
}

fn point(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    let (x, y) = (call.float(0), call.float(1));
    let checked = |row: usize| {
        if call.has_null(row) {
            return Ok(None);
        }
        let (x, y) = (x.value(row), y.value(row));
        if !x.is_finite() || !(-90.0..=90.0).contains(&y) {
            return Err(call.wrong(format!("there is no point at the longitude {x} and latitude {y}; write the longitude first, and latitudes from -90 to 90")));
        }
        // Longitudes go round the sphere.
        let round = if (-180.0..=180.0).contains(&x) {
            x
        } else {
            (x + 180.0).rem_euclid(360.0) - 180.0
        };
        Ok(Some((round, y)))
    };
    let points: Vec<_> = (0..call.rows).map(checked).collect::<DataFusionResult<_>>()?;
    Ok(Arc::new(assembled(points.into_iter())))
}

/// The metres between points, NULL where one is.
fn metres(call: &Call<'_>) -> Vec<Option<f64>> {
    let ((x1, y1), (x2, y2)) = (coordinates(call, 0), coordinates(call, 1));
    let unit = |x: f64, y: f64| {
        let (x, y) = (x.to_radians(), y.to_radians());
        [libm::cos(y) * libm::cos(x), libm::cos(y) * libm::sin(x), libm::sin(y)]
    };
    let between = |row: usize| {
        if x1.is_null(row) || y1.is_null(row) || x2.is_null(row) || y2.is_null(row) {
            return None;
        }
        let (a, b) = (unit(x1.value(row), y1.value(row)), unit(x2.value(row), y2.value(row)));
        // The angle by both its sine and cosine is exact for near points and for opposite ones.
        let cross = [
            a[1] * b[2] - a[2] * b[1],
            a[2] * b[0] - a[0] * b[2],
            a[0] * b[1] - a[1] * b[0],
        ];
        let sine = cross.iter().map(|c| c * c).sum::<f64>().sqrt();
        let cosine: f64 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
        Some(RADIUS * libm::atan2(sine, cosine))
    };
    (0..call.rows).map(between).collect()
}

#[expect(clippy::unnecessary_wraps)]
fn distance(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    Ok(Arc::new(Float64Array::from(metres(call))))
}

fn within(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    let metres = metres(call);
    call.map::<_, datafusion::arrow::array::BooleanArray>(|row| Ok(metres[row].map(|m| m <= call.float(2).value(row))))
}

/// Points in well-known text.
#[expect(clippy::unnecessary_wraps)]
pub(super) fn text_of_points(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    let (x, y) = coordinates(call, 0);
    let text = |(x, y): (Option<f64>, Option<f64>)| Some(format!("POINT({} {})", general(x?, 15), general(y?, 15)));
    let texts: StringArray = x.iter().zip(&y).map(text).collect();
    Ok(Arc::new(texts))
}

fn snapped(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    let (x, y) = coordinates(call, 0);
    let snap = |row: usize| {
        if x.is_null(row) || y.is_null(row) || call.has_null(row) {
            return Ok(None);
        }
        let size = call.float(1).value(row);
        if size.is_nan() || size <= 0.0 {
            return Err(call.wrong(format!("a grid of {size} degrees has no lines; write a number above 0")));
        }
        let to_line = |v: f64| (v / size).round() * size;
        Ok(Some((to_line(x.value(row)), to_line(y.value(row)))))
    };
    let points: Vec<_> = (0..call.rows).map(snap).collect::<DataFusionResult<_>>()?;
    Ok(Arc::new(assembled(points.into_iter())))
}

fn from_text(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    let read = |row: usize| {
        if call.has_null(row) {
            return Ok(None);
        }
        let text = call.text(0).value(row);
        let inner = text.trim().to_uppercase();
        let inner = inner.strip_prefix("POINT").map(str::trim);
        let inner = inner
            .and_then(|t| t.strip_prefix('('))
            .and_then(|t| t.strip_suffix(')'));
        let numbers: Vec<f64> = inner
            .unwrap_or_default()
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        match numbers.as_slice() {
            [x, y] => Ok(Some((*x, *y))),
            _ => Err(call.wrong(format!(
                "'{text}' is no point; write one such as 'POINT(-122.35 47.62)'"
            ))),
        }
    };
    let points: Vec<_> = (0..call.rows).map(read).collect::<DataFusionResult<_>>()?;
    Ok(Arc::new(assembled(points.into_iter())))
}
