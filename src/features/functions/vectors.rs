//! Arrays of numbers as vectors: norms, and vectors of length 1.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Float64Builder, ListBuilder};
use datafusion::arrow::datatypes::DataType;

use super::arguments::Arguments;
use super::learned::Learned;
use super::{FeatureFunction, Planned};
use crate::error::Result;
use crate::features::columns::{NumberLists, first, list_of};

pub(crate) static NORMALIZER: FeatureFunction = FeatureFunction {
    name: "NORMALIZER",
    summary: "Divides the numbers of an array by their p-norm, by default the Euclidean length. An array that is NULL or holds one gives NULL.",
    syntax: "ML.NORMALIZER(array [, p = 2])",
    example: "SELECT ML.NORMALIZER([4.0, 1.0, 2.0, 2.0, 0.0]) AS normalized",
    is_learned: false,
    column_count: 1,
    required_parameters: 0,
    parameters: 1,
    plan: plan_normalizer,
};

pub(crate) static LP_NORM: FeatureFunction = FeatureFunction {
    name: "LP_NORM",
    summary: "The p-norm of an array of numbers: 1 is Manhattan, 2 Euclidean, infinity the greatest magnitude, 0 counts what is not 0.",
    syntax: "ML.LP_NORM(array, degree)",
    example: "SELECT ML.LP_NORM([4.1, 0.5, 1.0], 2.0) AS norm",
    is_learned: false,
    column_count: 1,
    required_parameters: 1,
    parameters: 1,
    plan: plan_norm,
};

/// `(Σ|v|ᵖ)^(1/p)`; with 0, how many are not 0.
pub(crate) fn norm(values: &[f64], p: f64) -> f64 {
    let sum_of_powers = |scale: f64| -> f64 {
        values
            .iter()
            .map(|v| {
                let v = (v / scale).abs();
                if p == 1.0 {
                    v
                } else if p == 2.0 {
                    v * v
                } else {
                    v.powf(p)
                }
            })
            .sum()
    };
    let root = |sum: f64| {
        if p == 1.0 {
            sum
        } else if p == 2.0 {
            sum.sqrt()
        } else {
            sum.powf(p.recip())
        }
    };
    // Not `f64::max`, which forgets NaN.
    let largest = values
        .iter()
        .map(|v| v.abs())
        .fold(0.0, |a: f64, b| if a > b || a.is_nan() { a } else { b });
    if p == 0.0 {
        return values.iter().filter(|v| **v != 0.0).count() as f64;
    }
    if p.is_infinite() || largest == 0.0 || !largest.is_finite() {
        return largest;
    }
    let sum = sum_of_powers(1.0);
    if sum.is_normal() {
        root(sum)
    } else {
        // The powers are out of range; those of the shares of the largest are not.
        largest * root(sum_of_powers(largest))
    }
}

#[derive(Debug)]
struct Normalizer {
    p: f64,
}

fn plan_normalizer(arguments: &Arguments<'_>) -> Result<Box<dyn Planned>> {
    arguments.number_lists(0)?;
    let p = arguments.degree(0, "p", 2.0)?;
    Ok(Box::new(Normalizer { p }))
}

impl Planned for Normalizer {
    fn data_type(&self) -> DataType {
        list_of(DataType::Float64)
    }

    fn apply(&self, columns: &[ArrayRef], _: Option<&Learned>) -> Result<ArrayRef> {
        let column = first(NORMALIZER.name, columns)?;
        let lists = NumberLists::new(column)?;
        let mut out = ListBuilder::new(Float64Builder::new());
        for row in 0..lists.len() {
            let values = lists.row(row);
            if let Some(values) = values {
                let norm = norm(values, self.p);
                // A vector of zeros has no direction and stays.
                let divisor = if norm == 0.0 { 1.0 } else { norm };
                values.iter().for_each(|v| out.values().append_value(v / divisor));
            }
            out.append(values.is_some());
        }
        Ok(Arc::new(out.finish()))
    }
}

#[derive(Debug)]
struct Norm {
    p: f64,
}

fn plan_norm(arguments: &Arguments<'_>) -> Result<Box<dyn Planned>> {
    arguments.number_lists(0)?;
    let p = arguments.degree(0, "degree", 2.0)?;
    Ok(Box::new(Norm { p }))
}

impl Planned for Norm {
    fn data_type(&self) -> DataType {
        DataType::Float64
    }

    fn apply(&self, columns: &[ArrayRef], _: Option<&Learned>) -> Result<ArrayRef> {
        let column = first(LP_NORM.name, columns)?;
        let lists = NumberLists::new(column)?;
        let norms: Float64Array = (0..lists.len())
            .map(|row| Some(norm(lists.row(row)?, self.p)))
            .collect();
        Ok(Arc::new(norms))
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use datafusion::arrow::array::{Array, AsArray, ListArray};
    use datafusion::arrow::datatypes::Float64Type;

    use super::super::Constant;
    use super::super::testing::*;
    use super::*;

    const INFINITE: Constant = Constant::Float(f64::INFINITY);

    fn vectors(rows: &[Option<&[Option<f64>]>]) -> ArrayRef {
        let rows = rows.iter().map(|row| row.map(|row| row.iter().copied()));
        Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(rows))
    }

    fn vector(row: &[f64]) -> ArrayRef {
        let row: Vec<Option<f64>> = row.iter().copied().map(Some).collect();
        vectors(&[Some(&row)])
    }

    fn normalized(row: &[f64], parameters: &[Constant]) -> Vec<f64> {
        let values = run(&NORMALIZER, &[vector(row)], parameters).unwrap();
        as_doubles(&values.as_list::<i32>().value(0))
            .into_iter()
            .flatten()
            .collect()
    }

    fn length(row: &[f64], p: f64) -> f64 {
        as_doubles(&run(&LP_NORM, &[vector(row)], &[Constant::Float(p)]).unwrap())[0].unwrap()
    }

    #[test]
    fn published_normalizer_and_other_norms() {
        let five = [4.0, 1.0, 2.0, 2.0, 0.0];
        assert_eq!(normalized(&five, &[]), [0.8, 0.2, 0.4, 0.4, 0.0]);
        assert_eq!(normalized(&five, &[Constant::Int(0)]), [1.0, 0.25, 0.5, 0.5, 0.0]);
        assert_eq!(normalized(&[-4.0, 1.0], &[INFINITE]), [-1.0, 0.25]);
        assert_eq!(normalized(&[3.0, -1.0], &[Constant::Float(1.0)]), [0.75, -0.25]);
        assert_eq!(normalized(&[0.0, 0.0], &[]), [0.0, 0.0]);
        assert_eq!(normalized(&[], &[]), [] as [f64; 0]);
        // Lengths whose squares are out of range.
        for unit in [1e200, 1e-200] {
            let found = normalized(&[3.0 * unit, 4.0 * unit], &[]);
            assert!(
                (found[0] - 0.6).abs() < 1e-15 && (found[1] - 0.8).abs() < 1e-15,
                "{found:?}"
            );
        }
        let values = run(&NORMALIZER, &[vectors(&[None, Some(&[Some(1.0), None])])], &[]).unwrap();
        assert_eq!(values.null_count(), 2);
    }

    #[test]
    fn norms() {
        assert!((length(&[4.1, 0.5, 1.0], 2.0) - 18.06f64.sqrt()).abs() < 1e-15);
        assert_eq!(length(&[3.0, -4.0], 1.0), 7.0);
        assert_eq!(length(&[3.0, -4.0], f64::INFINITY), 4.0);
        assert_eq!(length(&[3.0, 0.0, -4.0], 0.0), 2.0);
        assert!((length(&[1.0, 2.0, 2.0], 3.0) - 17f64.cbrt()).abs() < 1e-15);
        assert_eq!(length(&[], 2.0), 0.0);
        assert!(length(&[1.0, f64::NAN], 2.0).is_nan() && length(&[f64::NAN, 1.0], f64::INFINITY).is_nan());
        assert_eq!(length(&[1.0, f64::INFINITY], 2.0), f64::INFINITY);
        let values = run(&LP_NORM, &[vectors(&[None, Some(&[None])])], &[Constant::Int(2)]).unwrap();
        assert_eq!(as_doubles(&values), [None, None]);
    }

    #[test]
    fn bad_arguments() {
        let numbers = list_of(DataType::Float64);
        let error = refusal(&NORMALIZER, &[DataType::Float64], &[]);
        assert!(
            error.contains("argument 1 is Float64, and must be an array of numbers"),
            "{error}"
        );
        for wrong in [
            Constant::Float(0.5),
            Constant::Int(-1),
            Constant::Float(f64::NAN),
            text("2"),
            Constant::Null,
        ] {
            let error = refusal(&NORMALIZER, from_ref(&numbers), from_ref(&wrong));
            assert!(error.contains("p must be 0, or a number of at least 1"), "{error}");
            let error = refusal(&LP_NORM, from_ref(&numbers), &[wrong]);
            assert!(error.contains("degree must be 0, or a number of at least 1"), "{error}");
        }
    }
}
