//! Linear regression: a number, by least squares.
//!
//! The normal equations of all rows are summed in one pass ([`crate::kernels::gram`]) and solved by Cholesky's method, with one step of
//! refinement; numbers are standardised for that and coefficients told in their own units. With a penalty it is ridge regression
//! (Hoerl & Kennard, 1970), the lasso (Tibshirani, 1996) or between them. Standard errors are those of ordinary least squares, `σ²(XᵀX)⁻¹` with σ² over the degrees of freedom.

use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, FieldRef, Float64Type, Schema};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::features::encode::{Encoder, EncoderOptions, Scaling};
use crate::kernels::gram::{self, Gram, design_width, linear_predictor_f64, pass_bytes};
use crate::metrics::regression::Regression;
use crate::models::attribution::{Attributions, explained_fields};
use crate::models::normal_equations::{Penalty, constraints, elimination_order, redundancy, redundant_columns};
use crate::models::predictor::LinearPredictor;
use crate::models::{
    Artefact, FEATURES, FeatureColumn, FitContext, Fitted, ID, L1, Model, ModelType, Parts, Pass, Roles, Rows,
    TrainingInfo, column_index, feature_roles, field,
};
use crate::options::{OptionKind, OptionSpec, Options};

const NAME: &str = "LINEAR_REG";

/// Rows that a thread scores at a time.
const CHUNK: usize = 4096;

/// Linear regression as a model type; see the [module](self).
#[derive(Debug, Clone, Copy)]
pub struct LinearRegression;

static OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "label",
        aliases: &["input_label_cols", "labels", "label_col"],
        kind: OptionKind::Column,
        default: "",
        help: "The number to predict; rows where it is NULL are left out.",
    },
    ID,
    FEATURES,
    OptionSpec {
        name: "l2",
        aliases: &["l2_reg"],
        kind: OptionKind::Float {
            min: 0.0,
            max: f64::MAX,
        },
        default: "0.0",
        help: "Penalty ½·l2·‖β‖² on the coefficients of standardised numbers and categories, beside half the sum of squared errors.",
    },
    L1,
];

impl ModelType for LinearRegression {
    fn name(&self) -> &'static str {
        "linear_reg"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["linear", "linear_regression"]
    }

    fn verb(&self) -> &'static str {
        "ML.PREDICT"
    }

    fn summary(&self) -> &'static str {
        "A number by linear least squares, with a ridge or lasso penalty if asked for."
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn statement_defaults(&self) -> &'static [(&'static str, &'static str)] {
        &[("label", "'label'")]
    }

    fn roles(&self, schema: &Schema, options: &Options) -> Result<Roles> {
        let Some(name) = options.text("label") else {
            return Err(Error::request(format!(
                "{NAME} needs the option 'label', the name of a column; write label => …"
            )));
        };
        let label = column_index(NAME, schema, name)?;
        let data_type = schema.field(label).data_type();
        if !data_type.is_numeric() {
            return Err(Error::request(format!(
                "{NAME}: column '{name}' of type {data_type} cannot be a label; it takes a number (for classes use logistic_reg)"
            )));
        }
        let features = feature_roles(NAME, schema, options, &[(label, "label")])?;
        Ok(Roles {
            features,
            label: Some(label),
            ..Roles::default()
        })
    }

    fn fit(&self, rows: &dyn Rows, roles: &Roles, options: &Options, context: &FitContext<'_>) -> Result<Fitted> {
        let Some(label) = roles.label else {
            return Err(Error::request(format!(
                "{NAME} needs the option 'label', the name of a column; write label => …"
            )));
        };
        context.observer.started("linear regression", rows.row_count(), 1);
        let begun = Instant::now();
        let name = rows.schema().field(label).name().clone();
        context.memory.take(24 * rows.row_count(), "the labels")?;
        let (mut targets, weights) = read_labels(rows, label, context)?;
        let count: f64 = weights.iter().sum();
        // Around their mean: sums of large numbers that differ little would keep few of the digits that matter.
        let mean = targets.iter().sum::<f64>() / count.max(1.0);
        targets.iter_mut().for_each(|t| *t -= mean);
        if count == 0.0 {
            return Err(Error::data(format!(
                "{NAME}: label '{name}' is NULL in every row; at least one row needs one to learn from"
            )));
        }
        let encoding = EncoderOptions {
            scaling: Scaling::PopulationDeviation,
            center: true,
            max_categories: 1_000,
        };
        let (encoder, mut notices) = Encoder::learn(rows, &roles.features, &encoding, context)?;
        let block = encoder.encode_rows::<f64>(rows, &roles.features, context)?;
        let width = design_width(&block);
        let bytes = pass_bytes(block.row_count, width) + 3 * width * width * size_of::<f64>();
        context.memory.take(bytes, "the Gram matrix of the features")?;

        let sums = gram::Rows::new(&block, &[], 1, context.compute).weighted(Some(&weights), Some(&targets))?;
        let (l1, l2) = (options.float("l1", 0.0), options.float("l2", 0.0));
        // Whether anything else than the penalties decides between equal solutions.
        let free = l1 == 0.0 && l2 == 0.0;
        let held = constraints(&block, &sums);
        let redundant = redundant_columns(&sums, block.number_count, &held);
        let dropped: &[usize] = if free { &redundant } else { &[] };
        let penalty = Penalty {
            l1,
            l2,
            intercept: block.number_count,
            constraints: if free { &held } else { &[] },
            active: elimination_order(width, block.number_count, dropped),
        };
        let solution = solve(&penalty, &sums, &|| context.compute.is_cancelled());
        context.check_cancelled()?;
        let Some(coefficients) = solution else {
            return Err(Error::data(format!(
                "{NAME}: the normal equations cannot be solved; give it a penalty, l2 => 1"
            )));
        };
        notices.extend(redundancy(&redundant, &encoder, (l1, l2)));
        // Summed from the errors themselves: from the sums alone, little would be left of a good fit's.
        let of_chunk = |chunk: usize| -> f64 {
            (chunk * CHUNK..((chunk + 1) * CHUNK).min(block.row_count))
                .map(|row| weights[row] * (targets[row] - linear_predictor_f64(&block, &coefficients, row)).powi(2))
                .sum()
        };
        let chunks = block.row_count.div_ceil(CHUNK);
        let parts: Vec<f64> = context
            .compute
            .pool
            .install(|| (0..chunks).into_par_iter().map(of_chunk).collect());
        let squared_errors: f64 = parts.iter().sum();
        // The categories' sums to 0 take a degree of freedom back that one-hot columns seem to have.
        let parameters = penalty.active.len() - held.len();
        let freedom = count - parameters as f64;
        let standard_errors = (free && freedom > 0.0)
            .then(|| penalty.standard_errors(&sums, width))
            .flatten()
            .map(|errors| {
                let deviation = (squared_errors / freedom).sqrt();
                errors.into_iter().map(|e| e * deviation).collect()
            });

        let mut coefficients = coefficients;
        coefficients[block.number_count] += mean;
        let learned_from = |row: usize| weights[row] > 0.0;
        let attributions = Attributions::of(&encoder, &block, &coefficients, &learned_from, context);
        let pass = Pass {
            loss: Some(squared_errors / count),
            duration_ms: begun.elapsed().as_secs_f64() * 1e3,
            ..Pass::default()
        };
        context.observer.pass(&pass);
        notices.iter().for_each(|notice| context.observer.notice(notice));
        Ok(Fitted {
            model: Arc::new(LinearModel {
                predictor: LinearPredictor::new(Arc::new(encoder), coefficients, standard_errors)
                    .explained(Some(attributions)),
                label: name,
                l1,
                l2,
                freedom: Some(freedom),
            }),
            info: TrainingInfo {
                passes: vec![pass],
                notices,
                row_count: count as u64,
                ..TrainingInfo::default()
            },
            row_scores: None,
        })
    }

    fn load(&self, artefact: &Artefact) -> Result<Arc<dyn Model>> {
        Ok(Arc::new(LinearModel {
            predictor: LinearPredictor::from_artefact(artefact)?,
            label: artefact.setting("label")?,
            l1: artefact.optional("l1")?.unwrap_or(0.0),
            l2: artefact.setting("l2")?,
            freedom: artefact.setting("degrees_of_freedom").ok(),
        }))
    }
}

/// The label of each row and its weight: 1, or 0 for a row without a label.
fn read_labels(rows: &dyn Rows, label: usize, context: &FitContext<'_>) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut targets, mut weights) = (
        Vec::with_capacity(rows.row_count()),
        Vec::with_capacity(rows.row_count()),
    );
    for index in 0..rows.batch_count() {
        context.check_cancelled()?;
        for value in label_values(rows.batch(index)?.column(label))? {
            targets.push(value.unwrap_or(0.0));
            weights.push(if value.is_some() { 1.0 } else { 0.0 });
        }
    }
    Ok((targets, weights))
}

/// A label's numbers; NULL, NaN and infinity are none.
fn label_values(column: &ArrayRef) -> Result<Vec<Option<f64>>> {
    let numbers = cast(column, &DataType::Float64)?;
    let numbers = numbers.as_primitive::<Float64Type>();
    Ok(numbers.iter().map(|v| v.filter(|v| v.is_finite())).collect())
}

/// The coefficients at which the penalised sum of squares is least.
fn solve(penalty: &Penalty<'_>, sums: &Gram, stop: &dyn Fn() -> bool) -> Option<Vec<f64>> {
    let width = sums.width;
    let mut coefficients = vec![0.0; width];
    // The second round takes out what rounding left in the first.
    for _ in 0..2 {
        let gradient = (0..width).map(|i| {
            let row = &sums.matrix[i * width..(i + 1) * width];
            row.iter().zip(&coefficients).map(|(g, c)| g * c).sum::<f64>() - sums.vector[i]
        });
        let at = Gram {
            vector: gradient.collect(),
            matrix: sums.matrix.clone(),
            width,
        };
        let step = penalty.step(&at, &coefficients, stop)?;
        coefficients.iter_mut().zip(&step).for_each(|(c, s)| *c -= s);
    }
    Some(coefficients)
}

/// A trained linear regression.
#[derive(Debug)]
struct LinearModel {
    predictor: LinearPredictor,
    label: String,
    l1: f64,
    l2: f64,
    /// Rows less parameters, of Student's t; none in models that were stored before it was kept.
    freedom: Option<f64>,
}

impl Model for LinearModel {
    fn model_type(&self) -> &'static str {
        LinearRegression.name()
    }

    fn feature_columns(&self) -> &[FeatureColumn] {
        self.predictor.feature_columns()
    }

    fn verb_fields(&self) -> Vec<FieldRef> {
        self.predict_fields()
    }

    fn verb_columns(&self, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        Ok(vec![Arc::new(Float64Array::from(self.predictor.sums(columns)?))])
    }

    fn predict_fields(&self) -> Vec<FieldRef> {
        vec![field(format!("predicted_{}", self.label), DataType::Float64)]
    }

    fn predict_columns(&self, columns: &[ArrayRef], _options: &Options) -> Result<Vec<ArrayRef>> {
        self.verb_columns(columns)
    }

    fn row_fields(&self, word: &str) -> Option<Vec<FieldRef>> {
        let mut fields = self.predict_fields();
        match word {
            "PREDICT" => {}
            "EXPLAIN_PREDICT" => fields.extend(explained_fields()),
            _ => return None,
        }
        Some(fields)
    }

    fn row_columns(&self, word: &str, columns: &[ArrayRef], options: &Options) -> Result<Vec<ArrayRef>> {
        let mut answer = self.predict_columns(columns, options)?;
        if word == "EXPLAIN_PREDICT" {
            let top = options.int("top_k_features", 5) as usize;
            answer.extend(
                self.predictor
                    .explanation(columns, self.predictor.sums(columns)?, top)?,
            );
        }
        Ok(answer)
    }

    fn label(&self) -> Option<&str> {
        Some(&self.label)
    }

    fn assess_fields(&self, word: &str) -> Option<Vec<FieldRef>> {
        (word == "EVALUATE").then(|| {
            [
                "mean_absolute_error",
                "mean_squared_error",
                "mean_squared_log_error",
                "median_absolute_error",
                "r2_score",
                "explained_variance",
            ]
            .map(|name| field(name, DataType::Float64))
            .to_vec()
        })
    }

    fn assess(&self, word: &str, rows: &dyn Rows, _options: &Options, stop: &dyn Fn() -> bool) -> Result<RecordBatch> {
        let feature_count = self.feature_columns().len();
        let (mut labels, mut predictions) = (vec![], vec![]);
        for index in 0..rows.batch_count() {
            if stop() {
                return Err(Error::cancelled());
            }
            let batch = rows.batch(index)?;
            let predicted = self.predictor.sums(&batch.columns()[..feature_count])?;
            for (label, prediction) in label_values(batch.column(feature_count))?.into_iter().zip(predicted) {
                if let Some(label) = label {
                    labels.push(label);
                    predictions.push(prediction);
                }
            }
        }
        let Some(m) = Regression::of(&labels, &predictions) else {
            return Err(Error::data(format!(
                "ML.{word}: label '{}' is NULL in every row; at least one row needs one to judge the model by",
                self.label
            )));
        };
        let columns = [
            Some(m.mean_absolute_error),
            Some(m.mean_squared_error),
            m.mean_squared_log_error,
            Some(m.median_absolute_error),
            m.r2_score,
            m.explained_variance,
        ]
        .map(|v| -> ArrayRef { Arc::new(Float64Array::from(vec![v])) });
        let fields = self.assess_fields(word).unwrap_or_default();
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.to_vec())?)
    }

    fn describe(&self, word: &str, options: &Options) -> Result<Option<RecordBatch>> {
        let standardize = options.bool("standardize", false);
        match word {
            "WEIGHTS" => self.predictor.weight_table(standardize).map(Some),
            "ADVANCED_WEIGHTS" => {
                let freedom = match options.text("distribution") {
                    Some("t") => Some(self.freedom.ok_or_else(|| {
                        Error::request(
                            "ML.ADVANCED_WEIGHTS: this model was stored by an earlier version, without its degrees of freedom; train it again",
                        )
                    })?),
                    _ => None,
                };
                self.predictor.advanced_weight_table(standardize, freedom).map(Some)
            }
            "GLOBAL_EXPLAIN" if options.bool("class_level_explain", false) => Err(Error::request(
                "ML.GLOBAL_EXPLAIN: option 'class_level_explain' is for classifiers, and this is a linear_reg; leave it out",
            )),
            "GLOBAL_EXPLAIN" => self.predictor.global_explanation().map(Some),
            _ => Ok(None),
        }
    }

    fn parts(&self) -> Result<Parts> {
        let mut settings = serde_json::Map::new();
        settings.insert("label".into(), self.label.clone().into());
        settings.insert("l1".into(), self.l1.into());
        settings.insert("l2".into(), self.l2.into());
        if let Some(freedom) = self.freedom {
            settings.insert("degrees_of_freedom".into(), freedom.into());
        }
        Ok(Parts {
            tables: self.predictor.to_tables()?,
            settings,
        })
    }
}
