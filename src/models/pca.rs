//! Principal components: the directions in which rows differ most.
//!
//! **Method.** Numbers are centred (NULL becomes the mean) and divided by their sample deviation, categories one-hot and *not* centred,
//! as BigQuery ML has it. The second moment XᵀX / (n − 1) of the encoded rows is summed in one pass ([`crate::kernels::gram`]); its
//! eigenvectors are the components and its eigenvalues what they explain. All solvers are this exact one.
//!
//! **Same rows, same components:** of each component the entry of largest magnitude is positive, and where eigenvalues coincide the
//! basis follows the order of the columns ([`super::eigen`]). Directions in which no row differs are no components: there may be fewer
//! than were asked for.
//!
//! **Reconstruction error.** What the components leave of a row is its squared length less the squares of its components: exact to
//! about 14 digits of the former. Summed over the encoded columns and divided by the number of *input* columns it is BigQuery ML's
//! `mean_squared_error`.
//!
//! Reference: Jolliffe (2002), *Principal Component Analysis*.

use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, FieldRef, Float64Type, Schema};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::features::encode::{Encoder, EncoderOptions, Scaling, table_column};
use crate::features::values::CHUNK;
use crate::kernels::gram::{self, Gram, design_width, pass_bytes};
use crate::models::anomalies::{Thresholds, without_scores};
use crate::models::eigen::{Eigen, eigen_bytes, eigenvectors};
use crate::models::feature_values::{FeatureValues, feature_value_table};
use crate::models::{
    Artefact, FEATURES, FeatureColumn, FitContext, Fitted, ID, Model, ModelType, Parts, Pass, Roles, Rows,
    TrainingInfo, feature_roles, field,
};
use crate::options::{OptionKind, OptionSpec, Options};

const NAME: &str = "PCA";

/// Encoded columns that there can be: the time of the eigenvectors grows with the cube of it.
const MAX_WIDTH: usize = 4_096;

/// Categories that a column keeps; the others count as one.
const MAX_CATEGORIES: usize = 1_000;

/// What is less, as a share of a row's squared length, is rounding of 0.
const NOISE: f64 = 1e-14;

/// Principal components as a model type; see the [module](self).
#[derive(Debug, Clone, Copy)]
pub struct Pca;

static OPTIONS: &[OptionSpec] = &[
    ID,
    FEATURES,
    OptionSpec {
        name: "num_principal_components",
        aliases: &["components"],
        kind: OptionKind::Int { min: 1, max: 65_535 },
        default: "all",
        help: "How many components to keep; there are fewer where the rows differ in fewer directions.",
    },
    OptionSpec {
        name: "pca_explained_variance_ratio",
        aliases: &["explained_variance_ratio"],
        kind: OptionKind::Float { min: 0.0, max: 1.0 },
        default: "none",
        help: "Keeps as many components as together explain at least this share; instead of num_principal_components.",
    },
    OptionSpec {
        name: "scale_features",
        aliases: &[],
        kind: OptionKind::Bool,
        default: "true",
        help: "Whether numbers are divided by their sample deviation, so that each counts alike.",
    },
    OptionSpec {
        name: "pca_solver",
        aliases: &[],
        kind: OptionKind::Choice(&["FULL", "RANDOMIZED", "AUTO"]),
        default: "'AUTO'",
        help: "Taken for BigQuery ML's sake: the components are exact whichever it is.",
    },
];

impl ModelType for Pca {
    fn name(&self) -> &'static str {
        "pca"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["principal_components"]
    }

    fn verb(&self) -> &'static str {
        "ML.PREDICT"
    }

    fn summary(&self) -> &'static str {
        "Principal components: the directions in which rows differ most, by the exact eigenvectors of their second moment. Of each the \
         entry of largest magnitude is positive. The training loss is the mean of the rows' mean_squared_error."
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn roles(&self, schema: &Schema, options: &Options) -> Result<Roles> {
        if options.get("num_principal_components").is_some() && options.get("pca_explained_variance_ratio").is_some() {
            return Err(Error::request(format!(
                "{NAME}: num_principal_components and pca_explained_variance_ratio both say how many components to keep; give one of them"
            )));
        }
        Ok(Roles {
            features: feature_roles(NAME, schema, options, &[])?,
            ..Roles::default()
        })
    }

    fn fit(&self, rows: &dyn Rows, roles: &Roles, options: &Options, context: &FitContext<'_>) -> Result<Fitted> {
        context.observer.started("principal components", rows.row_count(), 1);
        let begun = Instant::now();
        let scaling = if options.bool("scale_features", true) {
            Scaling::SampleDeviation
        } else {
            Scaling::None
        };
        let encoding = EncoderOptions {
            scaling,
            center: true,
            max_categories: MAX_CATEGORIES,
        };
        let (encoder, mut notices) = Encoder::learn(rows, &roles.features, &encoding, context)?;
        if rows.row_count() < 2 {
            return Err(Error::data(format!(
                "{NAME}: one row does not differ from any other; principal components need at least two rows"
            )));
        }
        let moment = second_moment(&encoder, rows, &roles.features, context)?;
        let total_variance: f64 = (0..moment.width).map(|i| moment.matrix[i * moment.width + i]).sum();
        context.check_cancelled()?;
        let Some(mut components) = eigenvectors(&moment.matrix, moment.width) else {
            return Err(Error::data(format!(
                "{NAME}: the features' values are too large to be multiplied; divide them in the query, or write scale_features => true"
            )));
        };
        if components.is_empty() {
            return Err(Error::data(format!(
                "{NAME}: every feature has the same value in all rows; at least one must differ"
            )));
        }
        let found = components.len();
        components.truncate(kept_count(&components, total_variance, options));
        let wanted = options.int("num_principal_components", 0);
        if wanted > found as i64 {
            notices.push(format!(
                "num_principal_components is {wanted}, but the rows differ in fewer directions; there are as many components as directions, {found}"
            ));
        }

        let mut model = PcaModel::new(encoder, components, total_variance, None);
        let scores = model.training_scores(rows, &roles.features, context)?;
        let pass = Pass {
            loss: Some(scores.iter().sum::<f64>() / scores.len() as f64),
            duration_ms: begun.elapsed().as_secs_f64() * 1e3,
            ..Pass::default()
        };
        model.thresholds = Some(Thresholds::of(scores, context.compute.pool));
        context.observer.pass(&pass);
        notices.iter().for_each(|notice| context.observer.notice(notice));
        Ok(Fitted {
            model: Arc::new(model),
            info: TrainingInfo {
                passes: vec![pass],
                notices,
                row_count: rows.row_count() as u64,
                ..TrainingInfo::default()
            },
            row_scores: None,
        })
    }

    fn load(&self, artefact: &Artefact) -> Result<Arc<dyn Model>> {
        Ok(Arc::new(PcaModel::from_artefact(artefact)?))
    }
}

/// XᵀX / (n − 1) of the encoded rows, numbers and then categories.
fn second_moment(encoder: &Encoder, rows: &dyn Rows, features: &[usize], context: &FitContext<'_>) -> Result<Gram> {
    let width = encoder.numbers().len() + encoder.levels().iter().map(|l| *l as usize).sum::<usize>();
    if width > MAX_WIDTH {
        return Err(Error::data(format!(
            "{NAME}: the features make {width} columns, one for each number and category; there can be {MAX_WIDTH}, so leave out columns of \
             many categories"
        )));
    }
    let block = encoder.encode_rows::<f64>(rows, features, context)?;
    let design = design_width(&block);
    let bytes = pass_bytes(block.row_count, design) + eigen_bytes(design);
    context.memory.take(bytes, "the second moment of the features")?;
    let sums = gram::Rows::new(&block, &[], 1, context.compute).weighted(None, None)?;
    // The design has an intercept after the numbers, which is no feature.
    let columns: Vec<usize> = (0..design).filter(|i| *i != block.number_count).collect();
    let share = 1.0 / (block.row_count as f64 - 1.0);
    let mut matrix = Vec::with_capacity(width * width);
    for i in &columns {
        matrix.extend(columns.iter().map(|j| sums.matrix[i * design + j] * share));
    }
    Ok(Gram {
        width,
        matrix,
        vector: vec![],
    })
}

/// How many components the options keep.
fn kept_count(components: &[Eigen], total_variance: f64, options: &Options) -> usize {
    if options.get("pca_explained_variance_ratio").is_none() {
        return options.int("num_principal_components", i64::MAX).max(1) as usize;
    }
    // A little less, so that rounding does not ask for one more.
    let wanted = options.float("pca_explained_variance_ratio", 1.0) * total_variance * (1.0 - 1e-12);
    let mut explained = 0.0;
    for (i, component) in components.iter().enumerate() {
        explained += component.value;
        if explained >= wanted {
            return i + 1;
        }
    }
    components.len()
}

/// Trained principal components.
#[derive(Debug)]
struct PcaModel {
    encoder: Encoder,
    /// The largest eigenvalue first.
    components: Vec<Eigen>,
    /// The trace of the second moment: what all components together would explain.
    total_variance: f64,
    /// For each code column and component, what each code adds; the last entry, 0, is for unseen categories.
    tables: Vec<Vec<Vec<f64>>>,
    thresholds: Option<Thresholds>,
}

/// Rows in the directions of the components.
struct Projected {
    /// Each component's values of the rows.
    components: Vec<Vec<f64>>,
    /// Each row's squared length.
    squares: Vec<f64>,
}

impl Projected {
    /// What the components leave of each row's squared length.
    fn residuals(&self) -> Vec<f64> {
        let mut left = self.squares.clone();
        for values in &self.components {
            for (left, v) in left.iter_mut().zip(values) {
                *left -= v * v;
            }
        }
        for (left, square) in left.iter_mut().zip(&self.squares) {
            if *left <= NOISE * square {
                *left = 0.0;
            }
        }
        left
    }
}

impl PcaModel {
    fn new(encoder: Encoder, components: Vec<Eigen>, total_variance: f64, thresholds: Option<Thresholds>) -> Self {
        let mut at = encoder.numbers().len();
        let mut tables = vec![];
        for levels in encoder.levels() {
            let end = at + levels as usize;
            let of_component = |c: &Eigen| c.vector[at..end].iter().copied().chain([0.0]).collect();
            tables.push(components.iter().map(of_component).collect());
            at = end;
        }
        Self {
            encoder,
            components,
            total_variance,
            tables,
            thresholds,
        }
    }

    /// The rows of these feature columns, summed column by column without encoding them.
    fn project(&self, columns: &[ArrayRef]) -> Result<Projected> {
        let row_count = columns.first().map_or(0, |c| c.len());
        let mut out = Projected {
            components: vec![vec![0.0; row_count]; self.components.len()],
            squares: vec![0.0; row_count],
        };
        let levels = self.encoder.levels();
        let mut reader = self.encoder.reader(columns)?;
        let mut buffer = [0.0; CHUNK];
        for start in (0..row_count).step_by(CHUNK) {
            let end = (start + CHUNK).min(row_count);
            let values = &mut buffer[..end - start];
            for (j, number) in self.encoder.numbers().iter().enumerate() {
                reader.numbers(j, start, values);
                let imputed = number.imputed();
                for v in values.iter_mut() {
                    // Bounded, so that no square is infinite.
                    *v = if v.is_nan() {
                        imputed
                    } else {
                        (*v - number.shift) / number.scale
                    }
                    .clamp(-1e100, 1e100);
                }
                for (square, v) in out.squares[start..end].iter_mut().zip(values.iter()) {
                    *square += v * v;
                }
                for (component, sums) in self.components.iter().zip(&mut out.components) {
                    let weight = component.vector[j];
                    for (sum, v) in sums[start..end].iter_mut().zip(values.iter()) {
                        *sum += weight * v;
                    }
                }
            }
            reader.codes(start, end - start, |j, codes| {
                for (square, code) in out.squares[start..end].iter_mut().zip(codes) {
                    *square += f64::from(u8::from(*code < levels[j]));
                }
                for (table, sums) in self.tables[j].iter().zip(&mut out.components) {
                    for (sum, code) in sums[start..end].iter_mut().zip(codes) {
                        *sum += table[*code as usize];
                    }
                }
            });
        }
        Ok(out)
    }

    /// The `mean_squared_error` of each row.
    fn scores(&self, columns: &[ArrayRef]) -> Result<Vec<f64>> {
        let inputs = self.feature_columns().len().max(1) as f64;
        let mut scores = self.project(columns)?.residuals();
        scores.iter_mut().for_each(|s| *s /= inputs);
        Ok(scores)
    }

    /// [`PcaModel::scores`] of all training rows.
    fn training_scores(&self, rows: &dyn Rows, features: &[usize], context: &FitContext<'_>) -> Result<Vec<f64>> {
        let widest = (0..rows.batch_count()).map(|i| rows.batch_rows(i)).max().unwrap_or(0);
        let in_work = widest * (self.components.len() + 2) * context.compute.pool.current_num_threads();
        let bytes = (2 * rows.row_count() + in_work) * size_of::<f64>();
        context.memory.take(bytes, "the errors of the rows")?;
        let of_batch = |index: usize| -> Result<Vec<f64>> {
            context.check_cancelled()?;
            let batch = rows.batch(index)?;
            let columns: Vec<ArrayRef> = features.iter().map(|i| Arc::clone(batch.column(*i))).collect();
            self.scores(&columns)
        };
        let parts: Vec<Vec<f64>> = context.compute.pool.install(|| {
            (0..rows.batch_count())
                .into_par_iter()
                .map(of_batch)
                .collect::<Result<_>>()
        })?;
        Ok(parts.concat())
    }

    /// The share of all variance that the components explain.
    fn explained_variance_ratio(&self) -> f64 {
        self.components.iter().map(|c| c.value).sum::<f64>() / self.total_variance
    }

    /// `ML.PRINCIPAL_COMPONENTS`.
    fn component_table(&self) -> Result<RecordBatch> {
        let of =
            |(id, component): (i64, &Eigen)| FeatureValues::of(id, &self.encoder, &component.vector, |_, value| value);
        feature_value_table("principal_component_id", (0..).zip(&self.components).map(of).collect())
    }

    /// `ML.PRINCIPAL_COMPONENT_INFO`.
    fn component_info(&self) -> Result<RecordBatch> {
        let values: Vec<f64> = self.components.iter().map(|c| c.value).collect();
        let ratios: Vec<f64> = values.iter().map(|v| v / self.total_variance).collect();
        let cumulative = ratios.iter().scan(0.0, |sum, r| {
            *sum += r;
            Some(*sum)
        });
        let cumulative: Vec<f64> = cumulative.collect();
        let columns: [(&str, ArrayRef); 4] = [
            (
                "principal_component_id",
                Arc::new(Int64Array::from_iter_values(0..values.len() as i64)),
            ),
            ("eigenvalue", Arc::new(Float64Array::from(values))),
            ("explained_variance_ratio", Arc::new(Float64Array::from(ratios))),
            (
                "cumulative_explained_variance_ratio",
                Arc::new(Float64Array::from(cumulative)),
            ),
        ];
        Ok(RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, array)| (name, array, true)),
        )?)
    }

    /// The columns of `ML.GENERATE_EMBEDDING`: each row's components as a list, and what went wrong, which is nothing.
    fn embeddings(&self, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        let projected = self.project(columns)?;
        let (count, row_count) = (self.components.len(), projected.squares.len());
        let mut values = Vec::with_capacity(count * row_count);
        for row in 0..row_count {
            values.extend(projected.components.iter().map(|c| c[row]));
        }
        let lists = ListArray::try_new(
            field("item", DataType::Float64),
            OffsetBuffer::from_lengths(std::iter::repeat_n(count, row_count)),
            Arc::new(Float64Array::from(values)),
            None,
        )?;
        let status = StringArray::from_iter_values(std::iter::repeat_n("", row_count));
        Ok(vec![Arc::new(lists), Arc::new(status)])
    }

    fn from_artefact(artefact: &Artefact) -> Result<Self> {
        let encoder = Encoder::from_artefact(artefact)?;
        let width = encoder.numbers().len() + encoder.levels().iter().map(|l| *l as usize).sum::<usize>();
        let table = artefact.table("components")?;
        let values = table_column(artefact, table, "eigenvalue", &DataType::Float64)?;
        let list = DataType::List(field("item", DataType::Float64));
        let vectors = table_column(artefact, table, "coordinates", &list)?;
        let (values, vectors) = (values.as_primitive::<Float64Type>(), vectors.as_list::<i32>());
        if values.is_empty() || values.null_count() + vectors.null_count() > 0 {
            return Err(artefact.corrupt("it has no principal components"));
        }
        let mut components = vec![];
        for (id, value) in values.values().iter().enumerate() {
            let vector = vectors.value(id);
            let vector = vector.as_primitive::<Float64Type>();
            if vector.len() != width || vector.null_count() > 0 || vector.values().iter().any(|v| !v.is_finite()) {
                return Err(artefact.corrupt(format!("principal component {id} does not have {width} coordinates")));
            }
            components.push(Eigen {
                value: *value,
                vector: vector.values().to_vec(),
            });
        }
        let total_variance = artefact.setting("total_variance")?;
        let thresholds = Thresholds::from_artefact(artefact)?;
        Ok(Self::new(encoder, components, total_variance, thresholds))
    }
}

impl Model for PcaModel {
    fn model_type(&self) -> &'static str {
        Pca.name()
    }

    fn feature_columns(&self) -> &[FeatureColumn] {
        self.encoder.feature_columns()
    }

    fn verb_fields(&self) -> Vec<FieldRef> {
        self.predict_fields()
    }

    fn verb_columns(&self, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        let of_component = |values: Vec<f64>| -> ArrayRef { Arc::new(Float64Array::from(values)) };
        Ok(self
            .project(columns)?
            .components
            .into_iter()
            .map(of_component)
            .collect())
    }

    fn predict_fields(&self) -> Vec<FieldRef> {
        (1..=self.components.len())
            .map(|i| field(format!("principal_component_{i}"), DataType::Float64))
            .collect()
    }

    fn predict_columns(&self, columns: &[ArrayRef], _options: &Options) -> Result<Vec<ArrayRef>> {
        self.verb_columns(columns)
    }

    fn row_fields(&self, word: &str) -> Option<Vec<FieldRef>> {
        match word {
            "PREDICT" => Some(self.predict_fields()),
            "DETECT_ANOMALIES" => Some(vec![
                field("is_anomaly", DataType::Boolean),
                field("mean_squared_error", DataType::Float64),
            ]),
            "GENERATE_EMBEDDING" => Some(vec![
                field(
                    "ml_generate_embedding_result",
                    DataType::List(field("item", DataType::Float64)),
                ),
                field("ml_generate_embedding_status", DataType::Utf8),
            ]),
            _ => None,
        }
    }

    fn row_columns(&self, word: &str, columns: &[ArrayRef], options: &Options) -> Result<Vec<ArrayRef>> {
        match word {
            "DETECT_ANOMALIES" => {
                let thresholds = self.thresholds.as_ref().ok_or_else(without_scores)?;
                let scores = self.scores(columns)?;
                let flags = thresholds.flags(&scores, options);
                Ok(vec![flags, Arc::new(Float64Array::from(scores))])
            }
            "GENERATE_EMBEDDING" => self.embeddings(columns),
            _ => self.verb_columns(columns),
        }
    }

    fn assess_fields(&self, word: &str) -> Option<Vec<FieldRef>> {
        (word == "EVALUATE").then(|| vec![field("total_explained_variance_ratio", DataType::Float64)])
    }

    /// The share of the rows' second moment that the components explain; none where that is 0.
    fn assess(&self, word: &str, rows: &dyn Rows, _options: &Options, stop: &dyn Fn() -> bool) -> Result<RecordBatch> {
        let (mut total, mut left) = (0.0, 0.0);
        for index in 0..rows.batch_count() {
            if stop() {
                return Err(Error::cancelled());
            }
            let projected = self.project(rows.batch(index)?.columns())?;
            total += projected.squares.iter().sum::<f64>();
            left += projected.residuals().iter().sum::<f64>();
        }
        let share = (total > 0.0).then(|| 1.0 - left / total);
        let fields = self.assess_fields(word).unwrap_or_default();
        let columns: Vec<ArrayRef> = vec![Arc::new(Float64Array::from(vec![share]))];
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }

    fn own_metrics(&self) -> Option<Vec<Option<f64>>> {
        Some(vec![Some(self.explained_variance_ratio())])
    }

    fn describe(&self, word: &str, _options: &Options) -> Result<Option<RecordBatch>> {
        match word {
            "PRINCIPAL_COMPONENTS" => self.component_table().map(Some),
            "PRINCIPAL_COMPONENT_INFO" => self.component_info().map(Some),
            _ => Ok(None),
        }
    }

    fn parts(&self) -> Result<Parts> {
        let vectors: Vec<f64> = self.components.iter().flat_map(|c| &c.vector).copied().collect();
        let coordinates = ListArray::try_new(
            field("item", DataType::Float64),
            OffsetBuffer::from_lengths(self.components.iter().map(|c| c.vector.len())),
            Arc::new(Float64Array::from(vectors)),
            None,
        )?;
        let columns: [(&str, ArrayRef); 2] = [
            (
                "eigenvalue",
                Arc::new(Float64Array::from_iter_values(self.components.iter().map(|c| c.value))),
            ),
            ("coordinates", Arc::new(coordinates)),
        ];
        let mut tables = self.encoder.to_tables()?;
        tables.push(("components".into(), RecordBatch::try_from_iter(columns)?));
        if let Some(thresholds) = &self.thresholds {
            tables.push(thresholds.to_table()?);
        }
        let mut settings = serde_json::Map::new();
        settings.insert("total_variance".into(), self.total_variance.into());
        Ok(Parts { tables, settings })
    }
}

#[cfg(test)]
mod tests;
