//! A linear predictor over encoded columns: coefficients, what they add up to for rows, and how tables show them. Linear and logistic models
//! share it; a model of many classes has one for each.

use std::slice::from_ref;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, ListArray, RecordBatch, StringArray, StructArray, UInt32Array,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Field, Fields, Float64Type, Schema};

use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::error::Result;
use crate::features::NumberColumn;
use crate::features::encode::{Encoder, table_column};
use crate::features::values::CHUNK;
use crate::models::attribution::{Attributions, missing};
use crate::models::terms::Terms;
use crate::models::{Artefact, FeatureColumn, field};

/// Coefficients over the columns of an encoder.
#[derive(Debug)]
pub(super) struct LinearPredictor {
    encoder: Arc<Encoder>,
    /// What stands in the place of the encoder's numbers, if not they themselves.
    terms: Option<Terms>,
    /// One for each column of the design: numbers, the intercept, categories.
    coefficients: Vec<f64>,
    /// None for columns that take no part in the fit.
    standard_errors: Option<Vec<Option<f64>>>,
    /// What each code column's codes add; the last entry, 0, is for unseen categories.
    tables: Vec<Vec<f64>>,
    /// What explains predictions; none in models that were stored before there was such a thing.
    attributions: Option<Attributions>,
}

impl LinearPredictor {
    /// Coefficients, one for each column of the design, with their standard errors where they are known.
    pub(super) fn new(
        encoder: Arc<Encoder>,
        coefficients: Vec<f64>,
        standard_errors: Option<Vec<Option<f64>>>,
    ) -> Self {
        Self::with_terms(encoder, None, coefficients, standard_errors)
    }

    /// The same over the columns of an encoder with `terms`, if any, in the place of its numbers.
    pub(super) fn with_terms(
        encoder: Arc<Encoder>,
        terms: Option<Terms>,
        coefficients: Vec<f64>,
        standard_errors: Option<Vec<Option<f64>>>,
    ) -> Self {
        let mut tables = vec![];
        let mut at = number_count(&encoder, terms.as_ref()) + 1;
        for levels in encoder.levels() {
            let mut table = coefficients[at..at + levels as usize].to_vec();
            table.push(0.0);
            tables.push(table);
            at += levels as usize;
        }
        Self {
            encoder,
            terms,
            coefficients,
            standard_errors,
            tables,
            attributions: None,
        }
    }

    /// The same predictor, able to explain itself.
    pub(super) fn explained(mut self, attributions: Option<Attributions>) -> Self {
        self.attributions = attributions;
        self
    }

    /// Reads back what [`LinearPredictor::to_tables`] gave of a predictor of plain numbers.
    pub(super) fn from_artefact(artefact: &Artefact) -> Result<Self> {
        Self::with_encoder(artefact, Encoder::from_artefact(artefact)?, None)
    }

    /// The same, given the encoder and the terms.
    pub(super) fn with_encoder(artefact: &Artefact, encoder: Encoder, terms: Option<Terms>) -> Result<Self> {
        let table = artefact.table("coefficients")?;
        let coefficients = table_column(artefact, table, "coefficient", &DataType::Float64)?;
        let errors = table_column(artefact, table, "standard_error", &DataType::Float64)?;
        let (coefficients, errors) = (
            coefficients.as_primitive::<Float64Type>(),
            errors.as_primitive::<Float64Type>(),
        );
        let numbers = number_count(&encoder, terms.as_ref());
        let width = numbers + 1 + encoder.levels().iter().map(|l| *l as usize).sum::<usize>();
        if coefficients.len() != width || coefficients.null_count() > 0 {
            return Err(artefact.corrupt("its coefficients do not fit its features"));
        }
        // The table has the intercept first, the design has it after the numbers.
        let mut standard_errors: Vec<Option<f64>> = errors.iter().collect();
        standard_errors[..=numbers].rotate_left(1);
        let standard_errors = (errors.null_count() < errors.len()).then_some(standard_errors);
        let mut coefficients = coefficients.values().to_vec();
        coefficients[..=numbers].rotate_left(1);
        let attributions = Attributions::from_artefact(artefact)?;
        Ok(Self::with_terms(Arc::new(encoder), terms, coefficients, standard_errors).explained(attributions))
    }

    /// The columns that it is fed with.
    pub(super) fn feature_columns(&self) -> &[FeatureColumn] {
        self.encoder.feature_columns()
    }

    /// The linear predictor of each row, summed column by column without encoding the rows.
    pub(super) fn sums(&self, columns: &[ArrayRef]) -> Result<Vec<f64>> {
        if let Some(terms) = &self.terms {
            return self.expanded_sums(terms, columns);
        }
        Ok(Self::sums_of(from_ref(self), columns)?.pop().unwrap_or_default())
    }

    /// The linear predictors of each row by several models of one encoder, the columns read once.
    pub(super) fn sums_of(predictors: &[Self], columns: &[ArrayRef]) -> Result<Vec<Vec<f64>>> {
        let Some(first) = predictors.first() else {
            return Ok(vec![]);
        };
        let row_count = columns.first().map_or(0, |c| c.len());
        let numbers = first.encoder.numbers();
        let intercept = |p: &Self| vec![p.coefficients[numbers.len()]; row_count];
        let mut sums: Vec<Vec<f64>> = predictors.iter().map(intercept).collect();
        let mut reader = first.encoder.reader(columns)?;
        let mut buffer = [0.0; CHUNK];
        for start in (0..row_count).step_by(CHUNK) {
            let end = (start + CHUNK).min(row_count);
            let values = &mut buffer[..end - start];
            for (j, number) in numbers.iter().enumerate() {
                reader.numbers(j, start, values);
                for (predictor, sums) in predictors.iter().zip(&mut sums) {
                    add_number(number, predictor.coefficients[j], values, &mut sums[start..end]);
                }
            }
            reader.codes(start, end - start, |j, codes| {
                for (predictor, sums) in predictors.iter().zip(&mut sums) {
                    let table = &predictor.tables[j];
                    for (sum, code) in sums[start..end].iter_mut().zip(codes) {
                        *sum += table[*code as usize];
                    }
                }
            });
        }
        Ok(sums)
    }

    /// The linear predictor of each row by powers and products.
    fn expanded_sums(&self, terms: &Terms, columns: &[ArrayRef]) -> Result<Vec<f64>> {
        let block = self.encoder.encode::<f64>(columns)?;
        let mut values = vec![0.0; terms.count()];
        let of_row = |row: usize| {
            terms.values(block.row_numbers(row), &mut values);
            let products = values.iter().zip(&self.coefficients);
            // Bounded, so that no sum is NaN.
            let of_numbers: f64 = products.map(|(v, c)| (v * c).clamp(-1e100, 1e100)).sum();
            let codes = block.row_codes(row).iter().zip(&self.tables);
            let of_codes: f64 = codes.map(|(code, table)| table[*code as usize]).sum();
            self.coefficients[terms.count()] + of_numbers + of_codes
        };
        Ok((0..block.row_count).map(of_row).collect())
    }

    /// How many numbers the design has.
    fn number_count(&self) -> usize {
        number_count(&self.encoder, self.terms.as_ref())
    }

    /// What the numbers of the design are called.
    fn number_names(&self) -> Vec<String> {
        match &self.terms {
            Some(terms) => terms.names(&self.encoder),
            None => self.encoder.numbers().iter().map(|n| n.name.clone()).collect(),
        }
    }

    /// Which element of a list each number of the design is, if it is one.
    fn elements(&self) -> Vec<Option<&str>> {
        let numbers = self.encoder.numbers();
        let element = |place: usize| match &self.terms {
            None => numbers[place].element.as_deref(),
            Some(terms) => match terms.numbers(place)[..] {
                [number] => numbers[number].element.as_deref(),
                _ => None,
            },
        };
        (0..self.number_count()).map(element).collect()
    }

    /// Each coefficient's feature and category, the intercept first, as people read it.
    fn coefficient_names(&self) -> Vec<(String, Option<&str>)> {
        let mut names: Vec<(String, Option<&str>)> = vec![(INTERCEPT.into(), None)];
        names.extend(self.number_names().into_iter().zip(self.elements()));
        for column in self.encoder.codes() {
            names.extend((0..column.level_count()).map(|code| (column.name.clone(), column.category(code))));
        }
        names
    }

    /// Values of the design's columns in the order of [`LinearPredictor::coefficient_names`].
    fn table_order<T: Copy>(&self, values: &[T]) -> Vec<T> {
        let mut values = values.to_vec();
        values[..=self.number_count()].rotate_right(1);
        values
    }

    /// The encoder's tables, and one of the coefficients.
    pub(super) fn to_tables(&self) -> Result<Vec<(String, RecordBatch)>> {
        let names = self.coefficient_names();
        let errors = match &self.standard_errors {
            Some(errors) => Float64Array::from(self.table_order(errors)),
            None => Float64Array::from(vec![None; self.coefficients.len()]),
        };
        let coefficients = RecordBatch::try_new(
            Arc::new(Schema::new(vec![
                Field::new("feature", DataType::Utf8, false),
                Field::new("category", DataType::Utf8, true),
                Field::new("coefficient", DataType::Float64, false),
                Field::new("standard_error", DataType::Float64, true),
            ])),
            vec![
                Arc::new(StringArray::from_iter_values(names.iter().map(|(name, _)| name))),
                Arc::new(names.iter().map(|(_, category)| *category).collect::<StringArray>()),
                Arc::new(Float64Array::from(self.table_order(&self.coefficients))),
                Arc::new(errors),
            ],
        )?;
        let mut tables = self.encoder.to_tables()?;
        tables.push(("coefficients".into(), coefficients));
        if let Some(attributions) = &self.attributions {
            tables.push(attributions.to_table(&self.encoder)?);
        }
        Ok(tables)
    }

    /// `ML.GLOBAL_EXPLAIN`.
    pub(super) fn global_explanation(&self) -> Result<RecordBatch> {
        match &self.attributions {
            Some(attributions) => attributions.global(&self.encoder),
            None => Err(missing("GLOBAL_EXPLAIN")),
        }
    }

    /// The columns of [`explained_fields`](super::attribution::explained_fields) for rows whose linear predictor is `sums`.
    pub(super) fn explanation(&self, columns: &[ArrayRef], sums: Vec<f64>, top: usize) -> Result<Vec<ArrayRef>> {
        let Some(attributions) = &self.attributions else {
            return Err(missing("EXPLAIN_PREDICT"));
        };
        let baseline = attributions.baseline(self.coefficients[self.number_count()]);
        let constant = |value: f64| -> ArrayRef { Arc::new(Float64Array::from_value(value, sums.len())) };
        Ok(vec![
            Attributions::lists(
                (&self.encoder, self.terms.as_ref()),
                &[(attributions, &self.coefficients)],
                &|_| 0,
                columns,
                top,
            )?,
            constant(baseline),
            // Nothing is approximated.
            Arc::new(Float64Array::from(sums.clone())),
            constant(0.0),
        ])
    }
}

/// The predictors of several classes, which share an encoder.
impl LinearPredictor {
    /// The encoder's tables, and one of the coefficients of all classes, class by class.
    pub(super) fn tables_of(predictors: &[Self]) -> Result<Vec<(String, RecordBatch)>> {
        let Some(first) = predictors.first() else {
            return Ok(vec![]);
        };
        let names = first.coefficient_names();
        let repeated: Vec<_> = predictors.iter().flat_map(|_| &names).collect();
        let classes = (0..predictors.len() as u32).flat_map(|class| names.iter().map(move |_| class));
        let coefficients = predictors.iter().flat_map(|p| p.table_order(&p.coefficients));
        let table = RecordBatch::try_new(
            Arc::new(Schema::new(vec![
                Field::new("class", DataType::UInt32, false),
                Field::new("feature", DataType::Utf8, false),
                Field::new("category", DataType::Utf8, true),
                Field::new("coefficient", DataType::Float64, false),
            ])),
            vec![
                Arc::new(UInt32Array::from_iter_values(classes)),
                Arc::new(StringArray::from_iter_values(repeated.iter().map(|(name, _)| name))),
                Arc::new(repeated.iter().map(|(_, category)| *category).collect::<StringArray>()),
                Arc::new(Float64Array::from_iter_values(coefficients)),
            ],
        )?;
        let mut tables = first.encoder.to_tables()?;
        tables.push(("coefficients".into(), table));
        if let Some(attributions) = Self::attributions_of(predictors) {
            tables.push(Attributions::several_to_table(&attributions, &first.encoder)?);
        }
        Ok(tables)
    }

    /// The attributions of every class; none in models that were stored before there were such.
    fn attributions_of(predictors: &[Self]) -> Option<Vec<&Attributions>> {
        predictors.iter().map(|p| p.attributions.as_ref()).collect()
    }

    /// The coefficients of each class, with what the classes have in common taken out of each column: the predictors then add up to 0
    /// whatever rule decided between equal models.
    fn centred(predictors: &[Self]) -> Vec<Vec<f64>> {
        let width = predictors.first().map_or(0, |p| p.coefficients.len());
        let mean =
            |i: usize| predictors.iter().map(|p| p.coefficients[i]).sum::<f64>() / predictors.len().max(1) as f64;
        let means: Vec<f64> = (0..width).map(mean).collect();
        let of_class = |p: &Self| p.coefficients.iter().zip(&means).map(|(c, mean)| c - mean).collect();
        predictors.iter().map(of_class).collect()
    }

    /// `ML.GLOBAL_EXPLAIN` of all classes together.
    pub(super) fn global_explanation_of(predictors: &[Self]) -> Result<RecordBatch> {
        match (Self::attributions_of(predictors), predictors.first()) {
            (Some(attributions), Some(first)) => Attributions::global_of(&attributions, &first.encoder),
            _ => Err(missing("GLOBAL_EXPLAIN")),
        }
    }

    /// The columns of [`explained_fields`](super::attribution::explained_fields) for rows, each by the centred predictor of its class in
    /// `classes`.
    pub(super) fn class_explanation(
        predictors: &[Self],
        columns: &[ArrayRef],
        classes: &[usize],
        top: usize,
    ) -> Result<Vec<ArrayRef>> {
        let (Some(attributions), Some(first)) = (Self::attributions_of(predictors), predictors.first()) else {
            return Err(missing("EXPLAIN_PREDICT"));
        };
        let centred = Self::centred(predictors);
        let explained: Vec<(&Attributions, &[f64])> = attributions
            .iter()
            .copied()
            .zip(centred.iter().map(Vec::as_slice))
            .collect();
        let intercept = first.encoder.numbers().len();
        let baselines: Vec<f64> = explained.iter().map(|(a, c)| a.baseline(c[intercept])).collect();
        let sums = Self::sums_of(predictors, columns)?;
        let prediction = |(row, class): (usize, &usize)| {
            sums[*class][row] - sums.iter().map(|s| s[row]).sum::<f64>() / sums.len() as f64
        };
        let predictions = classes.iter().enumerate().map(prediction);
        Ok(vec![
            Attributions::lists((&first.encoder, None), &explained, &|row| classes[row], columns, top)?,
            Arc::new(Float64Array::from_iter_values(classes.iter().map(|c| baselines[*c]))),
            Arc::new(Float64Array::from_iter_values(predictions)),
            // Nothing is approximated.
            Arc::new(Float64Array::from_value(0.0, classes.len())),
        ])
    }

    /// Reads back what [`LinearPredictor::tables_of`] gave for so many classes.
    pub(super) fn several_from_artefact(artefact: &Artefact, classes: usize) -> Result<Vec<Self>> {
        let encoder = Arc::new(Encoder::from_artefact(artefact)?);
        let table = artefact.table("coefficients")?;
        let coefficients = table_column(artefact, table, "coefficient", &DataType::Float64)?;
        let coefficients = coefficients.as_primitive::<Float64Type>();
        let numbers = encoder.numbers().len();
        let width = numbers + 1 + encoder.levels().iter().map(|l| *l as usize).sum::<usize>();
        if coefficients.len() != width * classes || coefficients.null_count() > 0 {
            return Err(artefact.corrupt("its coefficients do not fit its features and classes"));
        }
        let of_class = |values: &[f64]| {
            let mut values = values.to_vec();
            values[..=numbers].rotate_left(1);
            Self::new(Arc::clone(&encoder), values, None)
        };
        let mut predictors: Vec<Self> = coefficients.values().chunks_exact(width).map(of_class).collect();
        let attributions = Attributions::several_from_artefact(artefact, classes)?;
        for (predictor, attributions) in predictors.iter_mut().zip(attributions) {
            predictor.attributions = Some(attributions);
        }
        Ok(predictors)
    }

    /// `ML.WEIGHTS` of several classes: the rows of each, with its name.
    pub(super) fn class_weight_table(predictors: &[Self], names: &[String], standardize: bool) -> Result<RecordBatch> {
        let tables = predictors
            .iter()
            .zip(names)
            .map(|(predictor, name)| {
                let table = predictor.weight_table(standardize)?;
                let label = StringArray::from_iter_values(std::iter::repeat_n(name, table.num_rows()));
                let mut columns: Vec<(String, ArrayRef)> = vec![];
                for (field, column) in table.schema().fields().iter().zip(table.columns()) {
                    columns.push((field.name().clone(), Arc::clone(column)));
                }
                columns.push(("class_label".into(), Arc::new(label)));
                let named = columns.into_iter().map(|(name, column)| (name, column, true));
                Ok(RecordBatch::try_from_iter_with_nullable(named)?)
            })
            .collect::<Result<Vec<_>>>()?;
        match tables.first() {
            Some(first) => Ok(concat_batches(&first.schema(), &tables)?),
            None => Ok(RecordBatch::new_empty(Arc::new(Schema::empty()))),
        }
    }
}

/// How many numbers a design has: an encoder's, or terms in their place.
fn number_count(encoder: &Encoder, terms: Option<&Terms>) -> usize {
    terms.map_or(encoder.numbers().len(), Terms::count)
}

/// A coefficient as tables show it.
struct Weight {
    /// The input: a number, a column of categories, or [`INTERCEPT`].
    input: String,
    category: Option<String>,
    weight: f64,
    standard_error: Option<f64>,
}

/// What BigQuery ML calls the intercept among the inputs.
const INTERCEPT: &str = "__INTERCEPT__";

impl LinearPredictor {
    /// Every coefficient, the intercept last: in the units of the features, or of standardised numbers.
    fn weights(&self, standardize: bool) -> Vec<Weight> {
        let error = |at: usize| self.standard_errors.as_ref().and_then(|errors| errors[at]);
        let count = self.number_count();
        let mut values = self.coefficients[..=count].to_vec();
        // The errors of what is moved to the units of the features would need the covariances: the intercept's, and those of terms that
        // other terms hold.
        let mut errors: Vec<Option<f64>> = (0..=count).map(error).collect();
        if !standardize {
            self.to_units(&mut values, &mut errors);
        }
        let weight = |((input, element), (weight, standard_error)): ((String, Option<&str>), _)| Weight {
            input,
            category: element.map(str::to_string),
            weight,
            standard_error,
        };
        let of_numbers = values.iter().copied().zip(errors.iter().copied());
        let named = self.number_names().into_iter().zip(self.elements());
        let mut weights: Vec<Weight> = named.zip(of_numbers).map(weight).collect();
        let mut at = count + 1;
        for column in self.encoder.codes() {
            for code in 0..column.level_count() {
                weights.push(Weight {
                    input: column.name.clone(),
                    category: Some(column.category(code).unwrap_or_default().to_string()),
                    weight: self.coefficients[at],
                    standard_error: error(at),
                });
                at += 1;
            }
        }
        weights.push(weight(((INTERCEPT.into(), None), (values[count], errors[count]))));
        weights
    }

    /// Turns coefficients of encoded numbers and of the intercept into those of the features as they are, and takes the errors away that are
    /// no more known.
    fn to_units(&self, values: &mut [f64], errors: &mut [Option<f64>]) {
        let numbers = self.encoder.numbers();
        let count = self.number_count();
        let places = self.terms.as_ref().map(Terms::places);
        let of_encoded = values.to_vec();
        values[..count].fill(0.0);
        errors[count] = None;
        for place in 0..count {
            let factors = self
                .terms
                .as_ref()
                .map_or_else(|| vec![place], |terms| terms.numbers(place));
            let scale: f64 = factors.iter().map(|j| numbers[*j].scale).product();
            let weight = of_encoded[place] / scale;
            errors[place] = errors[place].map(|e| e / scale);
            // (x − shift) · (y − shift) …, multiplied out: each factor is the number or what is taken from it.
            for kept in 0..1usize << factors.len() {
                let (mut product, mut of) = (weight, vec![]);
                for (bit, j) in factors.iter().enumerate() {
                    if kept >> bit & 1 == 1 {
                        of.push(*j);
                    } else {
                        product *= -numbers[*j].shift;
                    }
                }
                let to = match (&places, of.is_empty()) {
                    (_, true) => Some(count),
                    (Some(places), false) => places.get(&of).copied(),
                    (None, false) => Some(place),
                };
                if let Some(to) = to {
                    values[to] += product;
                    if to != place && product != 0.0 {
                        errors[to] = None;
                    }
                }
            }
        }
    }

    /// `ML.WEIGHTS`: a row for each input, the categories of a column in a list, which is empty for a number.
    pub(super) fn weight_table(&self, standardize: bool) -> Result<RecordBatch> {
        let (mut inputs, mut numbers, mut lengths) = (vec![], vec![], vec![]);
        let (mut categories, mut values) = (vec![], vec![]);
        let weights = self.weights(standardize);
        // A timestamp is a number and several columns of categories; each has a name of its own.
        for run in weights.chunk_by(|a, b| a.category.is_some() && b.category.is_some() && a.input == b.input) {
            let has_categories = run[0].category.is_some();
            inputs.push(run[0].input.clone());
            numbers.push((!has_categories).then_some(run[0].weight));
            lengths.push(if has_categories { run.len() } else { 0 });
            for weight in run {
                if let Some(category) = &weight.category {
                    categories.push(category.clone());
                    values.push(weight.weight);
                }
            }
        }
        let fields = Fields::from(vec![
            field("category", DataType::Utf8),
            field("weight", DataType::Float64),
        ]);
        let values: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(categories)),
            Arc::new(Float64Array::from(values)),
        ];
        let lists = ListArray::try_new(
            field("item", DataType::Struct(fields.clone())),
            OffsetBuffer::from_lengths(lengths),
            Arc::new(StructArray::try_new(fields, values, None)?),
            None,
        )?;
        let columns: [(&str, ArrayRef); 3] = [
            ("processed_input", Arc::new(StringArray::from(inputs))),
            ("weight", Arc::new(Float64Array::from(numbers))),
            ("category_weights", Arc::new(lists)),
        ];
        Ok(RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, array)| (name, array, true)),
        )?)
    }

    /// `ML.ADVANCED_WEIGHTS`: a row for each number and category. P-values are of the normal distribution, or of Student's t with
    /// that many degrees of freedom.
    pub(super) fn advanced_weight_table(&self, standardize: bool, freedom: Option<f64>) -> Result<RecordBatch> {
        let weights = self.weights(standardize);
        // Twice the distribution's upper tail.
        let p_value = |w: &Weight| {
            let z = w.weight.abs() / w.standard_error.filter(|e| *e > 0.0)?;
            match freedom {
                None => Some(libm::erfc(z / std::f64::consts::SQRT_2)),
                Some(freedom) => Some(2.0 * StudentsT::new(0.0, 1.0, freedom).ok()?.sf(z)),
            }
        };
        let columns: [(&str, ArrayRef); 5] = [
            (
                "processed_input",
                Arc::new(StringArray::from_iter_values(weights.iter().map(|w| &w.input))),
            ),
            (
                "category",
                Arc::new(weights.iter().map(|w| w.category.as_ref()).collect::<StringArray>()),
            ),
            (
                "weight",
                Arc::new(Float64Array::from_iter_values(weights.iter().map(|w| w.weight))),
            ),
            (
                "standard_error",
                Arc::new(weights.iter().map(|w| w.standard_error).collect::<Float64Array>()),
            ),
            (
                "p_value",
                Arc::new(weights.iter().map(p_value).collect::<Float64Array>()),
            ),
        ];
        Ok(RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, array)| (name, array, true)),
        )?)
    }
}

/// Adds coefficient × (value − shift) / scale to each sum; the mean stands for a missing value. Bounded, so that no sum is NaN.
#[inline]
fn add_number(number: &NumberColumn, coefficient: f64, values: &[f64], sums: &mut [f64]) {
    let (weight, shift) = (coefficient / number.scale, number.shift);
    let missing = weight * (number.mean - shift);
    for (sum, v) in sums.iter_mut().zip(values) {
        *sum += if v.is_nan() {
            missing
        } else {
            (weight * (v - shift)).clamp(-1e100, 1e100)
        };
    }
}
