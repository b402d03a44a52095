//! `ML.DISTANCE`: how far two vectors are from one another.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, StringViewArray};
use datafusion::arrow::datatypes::DataType;
use hashbrown::HashMap;

use super::arguments::Arguments;
use super::learned::Learned;
use super::vectors::norm;
use super::{FeatureFunction, Planned};
use crate::error::{Error, Result};
use crate::features::columns::{Lists, NumberLists, integers, is_number, is_text, list_item, numbers, texts};

pub(crate) static DISTANCE: FeatureFunction = FeatureFunction {
    name: "DISTANCE",
    summary: "The distance of two vectors, arrays of numbers or of STRUCT(identifier, number). NULL gives NULL, and so does the cosine of a \
              vector of zeros.",
    syntax: "ML.DISTANCE(vector1, vector2 [, type = 'EUCLIDEAN' | 'MANHATTAN' | 'COSINE'])",
    example: "SELECT ML.DISTANCE([4.1, 0.5, 1.0], [3.0, 0.0, 2.5], 'COSINE') AS distance",
    is_learned: false,
    column_count: 2,
    required_parameters: 0,
    parameters: 1,
    plan: plan_distance,
};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Metric {
    Euclidean,
    Manhattan,
    Cosine,
}

const METRICS: &[(&str, Metric)] = &[
    ("EUCLIDEAN", Metric::Euclidean),
    ("MANHATTAN", Metric::Manhattan),
    ("COSINE", Metric::Cosine),
];

/// How a vector is written.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Shape {
    Numbers,
    /// Pairs whose first is a whole number.
    Numbered,
    /// Pairs whose first is a text.
    Named,
    /// NULL in every row.
    Unknown,
}

fn shape(t: &DataType) -> Option<Shape> {
    match list_item(t)? {
        DataType::Null if t == &DataType::Null => Some(Shape::Unknown),
        item if is_number(item) => Some(Shape::Numbers),
        DataType::Struct(fields) => match &fields[..] {
            [key, value] if !is_number(value.data_type()) || key.data_type() == &DataType::Null => None,
            [key, _] if key.data_type().is_integer() => Some(Shape::Numbered),
            [key, _] if is_text(key.data_type()) => Some(Shape::Named),
            _ => None,
        },
        _ => None,
    }
}

/// `None` where it is not known: a vector of zeros has no angle.
fn distance(a: &[f64], b: &[f64], metric: Metric) -> Option<f64> {
    let differences = || a.iter().zip(b).map(|(a, b)| a - b);
    match metric {
        Metric::Manhattan => Some(differences().map(f64::abs).sum()),
        Metric::Euclidean => Some(norm(&differences().collect::<Vec<f64>>(), 2.0)),
        Metric::Cosine => {
            let (length_a, length_b) = (norm(a, 2.0), norm(b, 2.0));
            if length_a == 0.0 || length_b == 0.0 {
                return None;
            }
            let cosine: f64 = a.iter().zip(b).map(|(a, b)| (a / length_a) * (b / length_b)).sum();
            Some(1.0 - cosine.clamp(-1.0, 1.0))
        }
    }
}

#[derive(Debug)]
struct Distance {
    metric: Metric,
    shape: Shape,
}

fn plan_distance(arguments: &Arguments<'_>) -> Result<Box<dyn Planned>> {
    let mut shapes = [Shape::Unknown; 2];
    for (i, shape_of) in shapes.iter_mut().enumerate() {
        let t = arguments.column(i);
        *shape_of = shape(t).ok_or_else(|| {
            arguments.error(format!(
                "argument {} is {t}, and must be an array of numbers, or of STRUCT(identifier, number)",
                i + 1
            ))
        })?;
    }
    let shape = match shapes {
        [Shape::Unknown, other] | [other, Shape::Unknown] => other,
        [a, b] if a == b => a,
        _ => {
            return Err(arguments.error(format!(
                "both vectors must be of the same kind, and are {} and {}",
                arguments.column(0),
                arguments.column(1)
            )));
        }
    };
    let metric = arguments.choice(0, "type", METRICS, Metric::Euclidean)?;
    Ok(Box::new(Distance { metric, shape }))
}

impl Distance {
    fn of_numbers(&self, a: &ArrayRef, b: &ArrayRef) -> Result<Float64Array> {
        let (a, b) = (NumberLists::new(a)?, NumberLists::new(b)?);
        (0..a.len())
            .map(|row| {
                let (Some(a), Some(b)) = (a.row(row), b.row(row)) else {
                    return Ok(None);
                };
                if a.len() != b.len() {
                    return Err(Error::data(format!(
                        "ML.DISTANCE: vectors of {} and {} numbers cannot be compared; both must have the same length",
                        a.len(),
                        b.len()
                    )));
                }
                Ok(distance(a, b, self.metric))
            })
            .collect()
    }

    fn of_pairs<'a>(&self, a: &'a Pairs, b: &'a Pairs) -> Result<Float64Array> {
        let mut places: HashMap<&'a str, usize> = HashMap::new();
        (0..a.lists.len())
            .map(|row| {
                // A dimension that a vector does not name is 0 there.
                places.clear();
                let (Some(mut x), Some(mut y)) = (a.read(row, &mut places)?, b.read(row, &mut places)?) else {
                    return Ok(None);
                };
                x.resize(places.len(), 0.0);
                y.resize(places.len(), 0.0);
                Ok(distance(&x, &y, self.metric))
            })
            .collect()
    }
}

/// Vectors of identifiers and numbers.
struct Pairs {
    lists: Lists,
    keys: StringViewArray,
    values: Float64Array,
}

impl Pairs {
    fn new(column: &ArrayRef, shape: Shape) -> Result<Self> {
        let lists = Lists::new(column)?;
        let (keys, values) = match lists.values.as_struct_opt() {
            Some(pairs) if pairs.num_columns() == 2 => {
                let keys = pairs.column(0);
                let keys = match shape {
                    // One way to print a number, whatever its width: 7, not 007.
                    Shape::Numbered => texts(&(Arc::new(integers(keys)?) as ArrayRef))?,
                    _ => texts(keys)?,
                };
                (keys, numbers(pairs.column(1))?)
            }
            _ => (
                StringViewArray::new_null(lists.values.len()),
                Float64Array::new_null(lists.values.len()),
            ),
        };
        Ok(Self { lists, keys, values })
    }

    /// The row's numbers at the places of their identifiers, new places for those not met; `None` if any part is NULL.
    fn read<'a>(&'a self, row: usize, places: &mut HashMap<&'a str, usize>) -> Result<Option<Vec<f64>>> {
        let Some(range) = self.lists.row(row) else {
            return Ok(None);
        };
        let mut out: Vec<Option<f64>> = vec![None; places.len()];
        for i in range {
            if self.lists.values.is_null(i) || self.keys.is_null(i) || self.values.is_null(i) {
                return Ok(None);
            }
            let key = self.keys.value(i);
            let next = places.len();
            let place = *places.entry(key).or_insert(next);
            if out.len() <= place {
                out.resize(place + 1, None);
            }
            match out.get_mut(place) {
                Some(slot @ None) => *slot = Some(self.values.value(i)),
                _ => {
                    return Err(Error::data(format!(
                        "ML.DISTANCE: a vector names the dimension '{key}' twice; each may be named once"
                    )));
                }
            }
        }
        Ok(Some(out.into_iter().map(|v| v.unwrap_or(0.0)).collect()))
    }
}

impl Planned for Distance {
    fn data_type(&self) -> DataType {
        DataType::Float64
    }

    fn apply(&self, columns: &[ArrayRef], _: Option<&Learned>) -> Result<ArrayRef> {
        let [a, b] = columns else {
            return Err(Error::request(
                "ML.DISTANCE was not given two columns; give it two vectors",
            ));
        };
        let distances = match self.shape {
            Shape::Unknown => Float64Array::new_null(a.len()),
            Shape::Numbers => self.of_numbers(a, b)?,
            Shape::Numbered | Shape::Named => {
                self.of_pairs(&Pairs::new(a, self.shape)?, &Pairs::new(b, self.shape)?)?
            }
        };
        Ok(Arc::new(distances))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, LargeListArray, ListArray, StringArray, StructArray, new_null_array};
    use datafusion::arrow::buffer::OffsetBuffer;
    use datafusion::arrow::datatypes::{Field, Float64Type};

    use super::super::testing::*;
    use super::*;
    use crate::features::columns::list_of;

    fn vectors(rows: &[Option<&[Option<f64>]>]) -> ArrayRef {
        let rows = rows.iter().map(|row| row.map(|row| row.iter().copied()));
        Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(rows))
    }

    fn vector(row: &[f64]) -> ArrayRef {
        let row: Vec<Option<f64>> = row.iter().copied().map(Some).collect();
        vectors(&[Some(&row)])
    }

    fn between(a: &[f64], b: &[f64], metric: &str) -> Option<f64> {
        as_doubles(&run(&DISTANCE, &[vector(a), vector(b)], &[text(metric)]).unwrap())[0]
    }

    #[test]
    fn distances_of_dense_vectors() {
        let (a, b) = ([4.1, 0.5, 1.0], [3.0, 0.0, 2.5]);
        let close = |metric, wanted: f64| (between(&a, &b, metric).unwrap() - wanted).abs() < 1e-14;
        assert!(close("EUCLIDEAN", 3.71f64.sqrt()) && close("manhattan", 3.1));
        assert!(close("COSINE", 1.0 - 14.8 / (18.06f64 * 15.25).sqrt()));
        let values = run(&DISTANCE, &[vector(&a), vector(&b)], &[]).unwrap();
        assert!((as_doubles(&values)[0].unwrap() - 3.71f64.sqrt()).abs() < 1e-14);
        assert_eq!(between(&[0.0], &[1.0], "COSINE"), None);
        assert_eq!(between(&[2.0], &[1.0], "COSINE"), Some(0.0));
        assert_eq!(between(&[], &[], "EUCLIDEAN"), Some(0.0));
    }

    #[test]
    fn null_gives_null_and_unequal_lengths_an_error() {
        let a = vectors(&[None, Some(&[Some(1.0)]), Some(&[None])]);
        let b = vectors(&[Some(&[Some(1.0)]), None, Some(&[Some(1.0)])]);
        assert_eq!(as_doubles(&run(&DISTANCE, &[a.clone(), b], &[]).unwrap()), [None; 3]);
        let nothing = new_null_array(&DataType::Null, 3);
        assert_eq!(
            as_doubles(&run(&DISTANCE, &[a, nothing.clone()], &[]).unwrap()),
            [None; 3]
        );
        assert_eq!(
            as_doubles(&run(&DISTANCE, &[nothing.clone(), nothing], &[]).unwrap()),
            [None; 3]
        );
        let error = run(&DISTANCE, &[vector(&[1.0]), vector(&[1.0, 2.0])], &[])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("vectors of 1 and 2 numbers cannot be compared"),
            "{error}"
        );
        let large: ArrayRef = Arc::new(LargeListArray::from_iter_primitive::<Float64Type, _, _>([Some([
            Some(4.0),
        ])]));
        assert_eq!(
            as_doubles(&run(&DISTANCE, &[large, vector(&[1.0])], &[]).unwrap()),
            [Some(3.0)]
        );
    }

    fn pairs(keys: ArrayRef, values: &[f64]) -> ArrayRef {
        let values: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
        let field = |name, column: &ArrayRef| Arc::new(Field::new(name, column.data_type().clone(), true));
        let pairs = StructArray::from(vec![
            (field("k", &keys), keys.clone()),
            (field("v", &values), values.clone()),
        ]);
        let item = Arc::new(Field::new_list_field(pairs.data_type().clone(), true));
        Arc::new(ListArray::new(
            item,
            OffsetBuffer::from_lengths([keys.len()]),
            Arc::new(pairs),
            None,
        ))
    }

    fn names(keys: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(keys.to_vec()))
    }

    #[test]
    fn pairs_are_matched_by_identifier() {
        let a = pairs(names(&["a", "b", "c"]), &[4.1, 0.5, 1.0]);
        let b = pairs(names(&["c", "a", "d"]), &[2.5, 3.0, 2.0]);
        let found = as_doubles(&run(&DISTANCE, &[a.clone(), b.clone()], &[text("MANHATTAN")]).unwrap())[0].unwrap();
        assert!((found - (1.1 + 0.5 + 1.5 + 2.0)).abs() < 1e-14, "{found}");
        let a64 = pairs(Arc::new(Int64Array::from(vec![7, 8])), &[1.0, 2.0]);
        let b64 = pairs(Arc::new(Int64Array::from(vec![8, 7])), &[2.0, 1.0]);
        assert_eq!(
            as_doubles(&run(&DISTANCE, &[a64.clone(), b64], &[]).unwrap()),
            [Some(0.0)]
        );
        let twice = pairs(names(&["a", "a"]), &[1.0, 2.0]);
        let error = run(&DISTANCE, &[b, twice], &[]).unwrap_err().to_string();
        assert!(error.contains("names the dimension 'a' twice"), "{error}");
        let error = run(&DISTANCE, &[a, a64], &[]).unwrap_err().to_string();
        assert!(error.contains("both vectors must be of the same kind"), "{error}");
    }

    #[test]
    fn bad_arguments() {
        let numbers = list_of(DataType::Float64);
        let error = refusal(&DISTANCE, &[numbers.clone(), numbers.clone()], &[text("CHEBYSHEV")]);
        assert!(
            error.contains("type must be one of 'EUCLIDEAN', 'MANHATTAN' and 'COSINE', not 'CHEBYSHEV'"),
            "{error}"
        );
        let error = refusal(&DISTANCE, &[numbers, DataType::Utf8], &[]);
        assert!(
            error.contains("argument 2 is Utf8, and must be an array of numbers"),
            "{error}"
        );
    }
}
