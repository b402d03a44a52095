//! Combinations of a struct's fields: products of numbers, pairs of categories.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, StringBuilder, StringViewArray, StructArray, new_null_array,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::kernels::numeric::mul;
use datafusion::arrow::datatypes::{DataType, Field, Fields, Float64Type};
use hashbrown::HashSet;

use super::arguments::Arguments;
use super::learned::Learned;
use super::{FeatureFunction, Planned};
use crate::error::{Error, Result};
use crate::features::columns::{first, is_number, is_text_like, numbers, texts};

pub(crate) static POLYNOMIAL_EXPAND: FeatureFunction = FeatureFunction {
    name: "POLYNOMIAL_EXPAND",
    summary: "All products of a struct's numbers up to a degree, the numbers themselves included: f1, f1_f1, f1_f2, f2, … A NULL makes the \
              products that it is in NULL.",
    syntax: "ML.POLYNOMIAL_EXPAND(STRUCT(f1, f2, …) [, degree = 2])",
    example: "SELECT ML.POLYNOMIAL_EXPAND(STRUCT(2 AS f1, 3 AS f2)) AS expanded",
    is_learned: false,
    column_count: 1,
    required_parameters: 0,
    parameters: 1,
    plan: plan_expand,
};

pub(crate) static FEATURE_CROSS: FeatureFunction = FeatureFunction {
    name: "FEATURE_CROSS",
    summary: "All combinations of two or more of a struct's categories up to a degree, each as one category 'a_b'. A NULL makes the \
              combinations that it is in NULL.",
    syntax: "ML.FEATURE_CROSS(STRUCT(s1, s2, …) [, degree = 2])",
    example: "SELECT ML.FEATURE_CROSS(STRUCT('a' AS f1, 'b' AS f2, 'c' AS f3)) AS crossed",
    is_learned: false,
    column_count: 1,
    required_parameters: 0,
    parameters: 1,
    plan: plan_cross,
};

/// The most fields that a struct may have.
const MOST_FIELDS: usize = 10;

/// The combinations of `count` fields up to `degree` of them, as BigQuery orders them: each is followed by its extensions.
fn combinations(count: usize, degree: usize, with_repetition: bool) -> Vec<Vec<usize>> {
    fn extend(prefix: &[usize], count: usize, degree: usize, step: usize, out: &mut Vec<Vec<usize>>) {
        let first = prefix.last().map_or(0, |last| last + step);
        for field in first..count {
            let mut next = prefix.to_vec();
            next.push(field);
            out.push(next.clone());
            if next.len() < degree {
                extend(&next, count, degree, step, out);
            }
        }
    }
    let mut out = vec![];
    extend(&[], count, degree, usize::from(!with_repetition), &mut out);
    out
}

/// The function's fields, and which of the struct's each is made of.
#[derive(Debug)]
struct Combinations {
    fields: Fields,
    parts: Vec<Vec<usize>>,
    /// How many fields the struct has.
    width: usize,
}

fn plan(arguments: &Arguments<'_>, wanted: &str, takes: fn(&DataType) -> bool) -> Result<Fields> {
    let column = arguments.column(0);
    let DataType::Struct(fields) = column else {
        return Err(arguments.error(format!("argument 1 is {column}, and must be a struct of {wanted}")));
    };
    if fields.is_empty() || fields.len() > MOST_FIELDS {
        return Err(arguments.error(format!(
            "the struct has {} fields, and may have 1 to {MOST_FIELDS}",
            fields.len()
        )));
    }
    if let Some(field) = fields.iter().find(|f| !takes(f.data_type())) {
        return Err(arguments.error(format!(
            "field '{}' is {}, and the struct must be of {wanted}",
            field.name(),
            field.data_type()
        )));
    }
    let mut names = HashSet::new();
    if let Some(field) = fields.iter().find(|f| !names.insert(f.name())) {
        return Err(arguments.error(format!(
            "two fields of the struct have the name '{}'; give one another (STRUCT(x AS a, …))",
            field.name()
        )));
    }
    Ok(fields.clone())
}

impl Combinations {
    fn new(arguments: &Arguments<'_>, fields: &Fields, parts: Vec<Vec<usize>>, t: DataType) -> Result<Self> {
        let mut names = HashSet::new();
        let mut out = vec![];
        for fields_of in &parts {
            let words: Vec<&str> = fields_of
                .iter()
                .filter_map(|i| fields.get(*i))
                .map(|f| f.name().as_str())
                .collect();
            let name = words.join("_");
            if !names.insert(name.clone()) {
                return Err(arguments.error(format!(
                    "two results would have the name '{name}'; give the struct's fields other names (STRUCT(x AS a, …))"
                )));
            }
            out.push(Field::new(name, t.clone(), true));
        }
        Ok(Self {
            fields: out.into(),
            parts,
            width: fields.len(),
        })
    }

    /// The struct of a batch, the same as was planned.
    fn fields_of<'a>(&self, name: &str, columns: &'a [ArrayRef]) -> Result<&'a StructArray> {
        let column = first(name, columns)?;
        match column.as_struct_opt() {
            Some(fields) if fields.num_columns() == self.width => Ok(fields),
            _ => Err(Error::request(format!(
                "ML.{name}: argument 1 was a struct of {} fields when planned, and is {}",
                self.width,
                column.data_type()
            ))),
        }
    }

    fn finish(&self, columns: Vec<ArrayRef>, nulls: Option<NullBuffer>, rows: usize) -> Result<ArrayRef> {
        let out = StructArray::try_new_with_length(self.fields.clone(), columns, nulls, rows)?;
        Ok(Arc::new(out))
    }
}

#[derive(Debug)]
struct Expand(Combinations);

fn plan_expand(arguments: &Arguments<'_>) -> Result<Box<dyn Planned>> {
    let fields = plan(arguments, "numbers", is_number)?;
    let degree = arguments.integer(0, "degree", 2, 1, 4)?;
    let parts = combinations(fields.len(), degree.unsigned_abs() as usize, true);
    Combinations::new(arguments, &fields, parts, DataType::Float64).map(|c| Box::new(Expand(c)) as _)
}

impl Planned for Expand {
    fn data_type(&self) -> DataType {
        DataType::Struct(self.0.fields.clone())
    }

    fn apply(&self, columns: &[ArrayRef], _: Option<&Learned>) -> Result<ArrayRef> {
        let fields = self.0.fields_of(POLYNOMIAL_EXPAND.name, columns)?;
        let inputs: Vec<Float64Array> = fields.columns().iter().map(numbers).collect::<Result<_>>()?;
        // A combination's prefix stands somewhere before it: one product each.
        let mut products: Vec<Float64Array> = Vec::with_capacity(self.0.parts.len());
        let mut path: Vec<usize> = vec![];
        for part in &self.0.parts {
            path.truncate(part.len() - 1);
            let factor = part.last().and_then(|i| inputs.get(*i));
            let prefix = path.last().and_then(|i| products.get(*i));
            let product = match (prefix, factor) {
                (_, None) => Float64Array::new_null(fields.len()),
                (None, Some(factor)) => factor.clone(),
                (Some(prefix), Some(factor)) => mul(prefix, factor)?.as_primitive::<Float64Type>().clone(),
            };
            path.push(products.len());
            products.push(product);
        }
        let products = products.into_iter().map(|p| Arc::new(p) as ArrayRef).collect();
        self.0.finish(products, fields.nulls().cloned(), fields.len())
    }
}

#[derive(Debug)]
struct Cross(Combinations);

fn plan_cross(arguments: &Arguments<'_>) -> Result<Box<dyn Planned>> {
    let fields = plan(arguments, "categories (text)", is_text_like)?;
    if fields.len() < 2 {
        return Err(arguments.error("the struct has 1 field, and must have 2 or more to cross"));
    }
    let degree = arguments.integer(0, "degree", 2, 2, 4)?;
    let mut parts = combinations(fields.len(), degree.unsigned_abs() as usize, false);
    parts.retain(|part| part.len() > 1);
    Combinations::new(arguments, &fields, parts, DataType::Utf8).map(|c| Box::new(Cross(c)) as _)
}

fn cross(inputs: &[&StringViewArray], rows: usize) -> ArrayRef {
    if inputs.is_empty() {
        return new_null_array(&DataType::Utf8, rows);
    }
    let mut out = StringBuilder::with_capacity(rows, rows * 16);
    let mut text = String::new();
    for row in 0..rows {
        if inputs.iter().any(|input| input.is_null(row)) {
            out.append_null();
            continue;
        }
        text.clear();
        for (i, input) in inputs.iter().enumerate() {
            if i > 0 {
                text.push('_');
            }
            text.push_str(input.value(row));
        }
        out.append_value(&text);
    }
    Arc::new(out.finish())
}

impl Planned for Cross {
    fn data_type(&self) -> DataType {
        DataType::Struct(self.0.fields.clone())
    }

    fn apply(&self, columns: &[ArrayRef], _: Option<&Learned>) -> Result<ArrayRef> {
        let fields = self.0.fields_of(FEATURE_CROSS.name, columns)?;
        let inputs: Vec<StringViewArray> = fields.columns().iter().map(texts).collect::<Result<_>>()?;
        let crossed = self.0.parts.iter().map(|part| {
            let inputs: Vec<&StringViewArray> = part.iter().filter_map(|i| inputs.get(*i)).collect();
            cross(&inputs, fields.len())
        });
        self.0.finish(crossed.collect(), fields.nulls().cloned(), fields.len())
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use datafusion::arrow::array::{BooleanArray, Int64Array};

    use super::super::Constant;
    use super::super::testing::*;
    use super::*;

    fn record(fields: &[(&str, ArrayRef)]) -> ArrayRef {
        let fields = fields.iter().map(|(name, column)| {
            let field = Field::new(*name, column.data_type().clone(), true);
            (Arc::new(field), column.clone())
        });
        Arc::new(StructArray::from(fields.collect::<Vec<_>>()))
    }

    fn names(array: &ArrayRef) -> Vec<&str> {
        array.as_struct().column_names()
    }

    fn degree(d: i64) -> [Constant; 1] {
        [Constant::Int(d)]
    }

    #[test]
    fn published_polynomial_expand() {
        let two: ArrayRef = Arc::new(Int64Array::from(vec![2]));
        let column = record(&[("f1", two), ("f2", doubles([3.0]))]);
        let values = run(&POLYNOMIAL_EXPAND, from_ref(&column), &[]).unwrap();
        assert_eq!(names(&values), ["f1", "f1_f1", "f1_f2", "f2", "f2_f2"]);
        let numbers: Vec<Option<f64>> = values.as_struct().columns().iter().flat_map(as_doubles).collect();
        assert_eq!(numbers, [2.0, 4.0, 6.0, 3.0, 9.0].map(Some));
        let values = run(&POLYNOMIAL_EXPAND, from_ref(&column), &degree(3)).unwrap();
        let wanted = [
            "f1", "f1_f1", "f1_f1_f1", "f1_f1_f2", "f1_f2", "f1_f2_f2", "f2", "f2_f2", "f2_f2_f2",
        ];
        assert_eq!(names(&values), wanted);
        let numbers: Vec<Option<f64>> = values.as_struct().columns().iter().flat_map(as_doubles).collect();
        assert_eq!(numbers, [2.0, 4.0, 8.0, 12.0, 6.0, 18.0, 3.0, 9.0, 27.0].map(Some));
        assert_eq!(
            names(&run(&POLYNOMIAL_EXPAND, &[column], &degree(1)).unwrap()),
            ["f1", "f2"]
        );
    }

    #[test]
    fn published_feature_cross() {
        let column = record(&[("f1", words(["a"])), ("f2", words(["b"])), ("f3", words(["c"]))]);
        let values = run(&FEATURE_CROSS, from_ref(&column), &[]).unwrap();
        assert_eq!(names(&values), ["f1_f2", "f1_f3", "f2_f3"]);
        let texts: Vec<Option<&str>> = values.as_struct().columns().iter().flat_map(as_words).collect();
        assert_eq!(texts, ["a_b", "a_c", "b_c"].map(Some));
        let values = run(&FEATURE_CROSS, &[column], &degree(3)).unwrap();
        assert_eq!(names(&values), ["f1_f2", "f1_f2_f3", "f1_f3", "f2_f3"]);
    }

    #[test]
    fn null_spreads_to_what_it_is_part_of() {
        let column = record(&[("a", doubles([Some(2.0), None])), ("b", doubles([None, Some(3.0)]))]);
        let values = run(&POLYNOMIAL_EXPAND, &[column], &[]).unwrap();
        let row: Vec<Option<f64>> = values.as_struct().columns().iter().map(|c| as_doubles(c)[0]).collect();
        assert_eq!(row, [Some(2.0), Some(4.0), None, None, None]);
        let yes: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), None]));
        let day: ArrayRef = Arc::new(Int64Array::from(vec![7, 8]));
        let values = run(&FEATURE_CROSS, &[record(&[("yes", yes), ("day", day)])], &[]).unwrap();
        assert_eq!(as_words(values.as_struct().column(0)), [Some("true_7"), None]);

        let fields = Fields::from(vec![Field::new("a", DataType::Float64, true)]);
        let nulls = NullBuffer::from(vec![false, true]);
        let whole: ArrayRef = Arc::new(StructArray::new(fields, vec![doubles([1.0, 2.0])], Some(nulls)));
        let values = run(&POLYNOMIAL_EXPAND, &[whole], &[]).unwrap();
        assert!(values.is_null(0) && values.is_valid(1));
    }

    #[test]
    fn the_widest_struct_expands() {
        let name: Vec<String> = (0..10).map(|i| format!("f{i}")).collect();
        let fields: Vec<(&str, ArrayRef)> = name.iter().map(|n| (n.as_str(), doubles([2.0]))).collect();
        let values = run(&POLYNOMIAL_EXPAND, &[record(&fields)], &degree(4)).unwrap();
        let values = values.as_struct();
        // Monomials of degree 1 to 4 of 10 variables.
        assert_eq!(values.num_columns(), 1000);
        for (field, column) in values.fields().iter().zip(values.columns()) {
            let factors = field.name().split('_').count() as i32;
            assert_eq!(as_doubles(column), [Some(2f64.powi(factors))]);
        }
    }

    #[test]
    fn bad_arguments() {
        let of = |fields: &[(&str, DataType)]| {
            let fields = fields.iter().map(|(name, t)| Field::new(*name, t.clone(), true));
            DataType::Struct(fields.collect())
        };
        let text = || DataType::Utf8;
        let number = || DataType::Int64;
        let eleven: Vec<(&str, DataType)> = "abcdefghijk"
            .split("")
            .filter(|n| !n.is_empty())
            .map(|n| (n, number()))
            .collect();
        for (t, said) in [
            (number(), "argument 1 is Int64, and must be a struct of numbers"),
            (of(&eleven), "the struct has 11 fields, and may have 1 to 10"),
            (of(&[]), "the struct has 0 fields"),
            (
                of(&[("a", number()), ("b", text())]),
                "field 'b' is Utf8, and the struct must be of numbers",
            ),
            (
                of(&[("a", number()), ("a", number())]),
                "two fields of the struct have the name 'a'",
            ),
            (
                of(&[("a", number()), ("a_a", number())]),
                "two results would have the name 'a_a'",
            ),
        ] {
            let error = refusal(&POLYNOMIAL_EXPAND, &[t], &[]);
            assert!(error.contains(said), "{error}");
        }
        let error = refusal(&POLYNOMIAL_EXPAND, &[of(&[("a", number())])], &degree(5));
        assert!(
            error.contains("degree must be a whole number from 1 to 4, not 5"),
            "{error}"
        );
        let error = refusal(&FEATURE_CROSS, &[of(&[("a", text())])], &[]);
        assert!(error.contains("must have 2 or more to cross"), "{error}");
        let error = refusal(&FEATURE_CROSS, &[of(&[("a", text()), ("b", DataType::Float64)])], &[]);
        assert!(
            error.contains("field 'b' is Float64, and the struct must be of categories (text)"),
            "{error}"
        );
        let error = refusal(&FEATURE_CROSS, &[of(&[("a", text()), ("b", text())])], &degree(1));
        assert!(
            error.contains("degree must be a whole number from 2 to 4, not 1"),
            "{error}"
        );
    }
}
