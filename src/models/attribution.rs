//! How much each feature adds to a linear predictor: exact Shapley values, which for a linear model are each feature's part of the sum
//! less its mean over the training rows (Lundberg & Lee, *A Unified Approach to Interpreting Model Predictions*, 2017). A product's part is
//! shared equally by its factors.

use std::slice::from_ref;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, AsArray, Float64Array, ListArray, RecordBatch, StringArray, StructArray, UInt32Array,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, FieldRef, Fields, Float64Type};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::features::encode::{Encoder, table_column};
use crate::kernels::block::Block;
use crate::models::terms::Terms;
use crate::models::{Artefact, FitContext, field};

/// The table that holds them in an artefact.
const TABLE: &str = "attributions";

/// Rows that a thread takes at a time; fixed, so that sums do not depend on the number of threads.
const CHUNK: usize = 4096;

/// What explaining a linear predictor takes besides its coefficients.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Attributions {
    /// The mean of each feature's part of the sum over the training rows, by feature.
    means: Vec<f64>,
    /// The mean of what each feature adds to or takes from it, in absolute value.
    importance: Vec<f64>,
}

/// Which feature each column of the design `[numbers…, 1, categories…]` belongs to; none for the intercept.
fn features_of_design(encoder: &Encoder) -> Vec<Option<usize>> {
    let mut of: Vec<Option<usize>> = encoder.numbers().iter().map(|n| Some(n.source)).collect();
    of.push(None);
    for column in encoder.codes() {
        of.extend(std::iter::repeat_n(Some(column.source), column.level_count() as usize));
    }
    of
}

impl Attributions {
    /// Of the rows of `block` for which `counts` is true, by coefficients of its design; with `terms`, those are in the place of numbers.
    pub(super) fn of(
        (encoder, terms): (&Encoder, Option<&Terms>),
        block: &Block<f64>,
        coefficients: &[f64],
        counts: &(dyn Fn(usize) -> bool + Sync),
        context: &FitContext<'_>,
    ) -> Self {
        let feature_count = encoder.feature_columns().len();
        let parts = Parts::new((encoder, terms), block, coefficients);
        let chunks = block.row_count.div_ceil(CHUNK);
        let sum_up = |each: &(dyn Fn(f64, usize) -> f64 + Sync)| -> (Vec<f64>, f64) {
            let of_chunk = |chunk: usize| {
                let (mut sums, mut rows) = (vec![0.0; feature_count], 0.0);
                let mut added = vec![0.0; feature_count];
                for row in chunk * CHUNK..((chunk + 1) * CHUNK).min(block.row_count) {
                    if !counts(row) {
                        continue;
                    }
                    parts.of_row(row, &mut added);
                    rows += 1.0;
                    for (feature, (sum, part)) in sums.iter_mut().zip(&added).enumerate() {
                        *sum += each(*part, feature);
                    }
                }
                (sums, rows)
            };
            let found: Vec<(Vec<f64>, f64)> = context
                .compute
                .pool
                .install(|| (0..chunks).into_par_iter().map(of_chunk).collect());
            found
                .into_iter()
                .fold((vec![0.0; feature_count], 0.0), |mut all, part| {
                    all.0.iter_mut().zip(part.0).for_each(|(a, p)| *a += p);
                    (all.0, all.1 + part.1)
                })
        };
        let mean =
            |(sums, rows): (Vec<f64>, f64)| -> Vec<f64> { sums.into_iter().map(|s| s / f64::max(rows, 1.0)).collect() };
        let means = mean(sum_up(&|part, _| part));
        let importance = mean(sum_up(&|part, feature| (part - means[feature]).abs()));
        Self { means, importance }
    }

    /// What the predictor gives on average over the training rows, given its intercept.
    pub(super) fn baseline(&self, intercept: f64) -> f64 {
        intercept + self.means.iter().sum::<f64>()
    }

    /// The table of an artefact.
    pub(super) fn to_table(&self, encoder: &Encoder) -> Result<(String, RecordBatch)> {
        let names = encoder.feature_columns().iter().map(|f| &f.name);
        let columns: [(&str, ArrayRef); 3] = [
            ("feature", Arc::new(StringArray::from_iter_values(names))),
            ("mean", Arc::new(Float64Array::from(self.means.clone()))),
            ("importance", Arc::new(Float64Array::from(self.importance.clone()))),
        ];
        Ok((TABLE.into(), RecordBatch::try_from_iter(columns)?))
    }

    /// The table of an artefact of several classes, class by class.
    pub(super) fn several_to_table(all: &[&Self], encoder: &Encoder) -> Result<(String, RecordBatch)> {
        let features = encoder.feature_columns();
        let classes = (0..all.len() as u32).flat_map(|class| features.iter().map(move |_| class));
        // Arrow wants to know how many there are.
        let names: Vec<&String> = all.iter().flat_map(|_| features.iter().map(|f| &f.name)).collect();
        let means = all.iter().flat_map(|a| a.means.iter().copied());
        let importance = all.iter().flat_map(|a| a.importance.iter().copied());
        let columns: [(&str, ArrayRef); 4] = [
            ("class", Arc::new(UInt32Array::from_iter_values(classes))),
            ("feature", Arc::new(StringArray::from_iter_values(names))),
            ("mean", Arc::new(Float64Array::from_iter_values(means))),
            ("importance", Arc::new(Float64Array::from_iter_values(importance))),
        ];
        Ok((TABLE.into(), RecordBatch::try_from_iter(columns)?))
    }

    /// Reads back what [`Attributions::to_table`] gave; none of models that were stored before there was such a table.
    pub(super) fn from_artefact(artefact: &Artefact) -> Result<Option<Self>> {
        Ok(Self::several_from_artefact(artefact, 1)?.pop())
    }

    /// Reads back what [`Attributions::several_to_table`] gave for so many classes; nothing of models that were stored before there was such
    /// a table.
    pub(super) fn several_from_artefact(artefact: &Artefact, classes: usize) -> Result<Vec<Self>> {
        let Ok(table) = artefact.table(TABLE) else {
            return Ok(vec![]);
        };
        let numbers = |name: &str| table_column(artefact, table, name, &DataType::Float64);
        let (means, importance) = (numbers("mean")?, numbers("importance")?);
        let (means, importance) = (
            means.as_primitive::<Float64Type>().values(),
            importance.as_primitive::<Float64Type>().values(),
        );
        let feature_count = artefact.features.len();
        if feature_count == 0 || means.len() != feature_count * classes {
            return Err(artefact.corrupt("its attributions do not fit its features"));
        }
        let of_class = |(means, importance): (&[f64], &[f64])| Self {
            means: means.to_vec(),
            importance: importance.to_vec(),
        };
        let pairs = means
            .chunks_exact(feature_count)
            .zip(importance.chunks_exact(feature_count));
        Ok(pairs.map(of_class).collect())
    }

    /// `ML.GLOBAL_EXPLAIN`: the features with the mean of what each adds or takes, largest first.
    pub(super) fn global(&self, encoder: &Encoder) -> Result<RecordBatch> {
        Self::global_of(from_ref(&self), encoder)
    }

    /// `ML.GLOBAL_EXPLAIN` of several classes together: the mean over the classes.
    pub(super) fn global_of(all: &[&Self], encoder: &Encoder) -> Result<RecordBatch> {
        let mean = |feature: usize| all.iter().map(|a| a.importance[feature]).sum::<f64>() / all.len().max(1) as f64;
        let importance: Vec<f64> = (0..encoder.feature_columns().len()).map(mean).collect();
        let order = largest_first(&importance, usize::MAX);
        let names = order.iter().map(|f| &encoder.feature_columns()[*f].name);
        let columns: [(&str, ArrayRef); 2] = [
            ("feature", Arc::new(StringArray::from_iter_values(names))),
            (
                "attribution",
                Arc::new(Float64Array::from_iter_values(order.iter().map(|f| importance[*f]))),
            ),
        ];
        Ok(RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, array)| (name, array, true)),
        )?)
    }

    /// `top_feature_attributions` of rows: for each the `top` features that add or take most, largest first. Each row is explained by one
    /// of several predictors, `of_row`.
    pub(super) fn lists(
        (encoder, terms): (&Encoder, Option<&Terms>),
        predictors: &[(&Self, &[f64])],
        of_row: &dyn Fn(usize) -> usize,
        columns: &[ArrayRef],
        top: usize,
    ) -> Result<ArrayRef> {
        let mut block = encoder.encode::<f64>(columns)?;
        if let Some(terms) = terms {
            block = terms.expand(block);
        }
        let parts: Vec<Parts<'_>> = predictors
            .iter()
            .map(|(_, coefficients)| Parts::new((encoder, terms), &block, coefficients))
            .collect();
        let used = used_features(encoder);
        let mut added = vec![0.0; encoder.feature_columns().len()];
        let (mut names, mut values, mut lengths) = (vec![], vec![], vec![]);
        for row in 0..block.row_count {
            let predictor = of_row(row);
            parts[predictor].of_row(row, &mut added);
            let means = &predictors[predictor].0.means;
            added.iter_mut().zip(means).for_each(|(part, mean)| *part -= mean);
            let order = largest_first(&added, usize::MAX);
            let listed = order.into_iter().filter(|f| used[*f]).take(top);
            let before = names.len();
            for feature in listed {
                names.push(encoder.feature_columns()[feature].name.as_str());
                values.push(added[feature]);
            }
            lengths.push(names.len() - before);
        }
        let arrays: Vec<ArrayRef> = vec![Arc::new(StringArray::from(names)), Arc::new(Float64Array::from(values))];
        Ok(Arc::new(ListArray::try_new(
            field("item", DataType::Struct(attribution_fields())),
            OffsetBuffer::from_lengths(lengths),
            Arc::new(StructArray::try_new(attribution_fields(), arrays, None)?),
            None,
        )?))
    }
}

/// The error where a model was stored without them.
pub(super) fn missing(word: &str) -> Error {
    Error::request(format!(
        "ML.{word}: this model was stored by an earlier version, without what explains it; train it again"
    ))
}

fn attribution_fields() -> Fields {
    Fields::from(vec![
        field("feature", DataType::Utf8),
        field("attribution", DataType::Float64),
    ])
}

/// The columns of `ML.EXPLAIN_PREDICT` after the predicted ones.
pub(super) fn explained_fields() -> Vec<FieldRef> {
    let item = field("item", DataType::Struct(attribution_fields()));
    let mut fields = vec![field("top_feature_attributions", DataType::List(item))];
    fields.extend(
        ["baseline_prediction_value", "prediction_value", "approximation_error"].map(|n| field(n, DataType::Float64)),
    );
    fields
}

/// Features that are learned from: all but those that are NULL in every row.
fn used_features(encoder: &Encoder) -> Vec<bool> {
    let mut used = vec![false; encoder.feature_columns().len()];
    for feature in features_of_design(encoder).into_iter().flatten() {
        used[feature] = true;
    }
    used
}

/// The places of the `top` largest values, by absolute value; of equals the first.
fn largest_first(values: &[f64], top: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].abs().total_cmp(&values[*a].abs()));
    order.truncate(top);
    order
}

/// Each feature's part of a row's sum.
struct Parts<'a> {
    block: &'a Block<f64>,
    coefficients: &'a [f64],
    /// A number's place, a feature that it comes from, and that feature's share of it.
    shares: Vec<(usize, usize, f64)>,
    code_sources: Vec<usize>,
    /// Where each code column's coefficients begin.
    offsets: Vec<usize>,
}

impl<'a> Parts<'a> {
    fn new((encoder, terms): (&Encoder, Option<&Terms>), block: &'a Block<f64>, coefficients: &'a [f64]) -> Self {
        let mut offsets = vec![];
        let mut at = block.number_count + 1;
        let source = |number: usize| encoder.numbers()[number].source;
        let mut shares = vec![];
        for place in 0..block.number_count {
            let numbers = terms.map_or_else(|| vec![place], |terms| terms.numbers(place));
            shares.extend(numbers.iter().map(|n| (place, source(*n), 1.0 / numbers.len() as f64)));
        }
        for column in encoder.codes() {
            offsets.push(at);
            at += column.level_count() as usize;
        }
        Self {
            block,
            coefficients,
            shares,
            code_sources: encoder.codes().iter().map(|c| c.source).collect(),
            offsets,
        }
    }

    /// Writes row `row`'s parts; a category that was never seen adds nothing.
    fn of_row(&self, row: usize, parts: &mut [f64]) {
        parts.fill(0.0);
        let numbers = self.block.row_numbers(row);
        for (place, source, share) in &self.shares {
            parts[*source] += share * (numbers[*place] * self.coefficients[*place]);
        }
        let codes = self.block.row_codes(row).iter().zip(&self.block.levels);
        for (((code, levels), offset), source) in codes.zip(&self.offsets).zip(&self.code_sources) {
            if code < levels {
                parts[*source] += self.coefficients[offset + *code as usize];
            }
        }
    }
}
