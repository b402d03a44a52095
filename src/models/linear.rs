//! Linear regression: a number, by least squares.
//!
//! [`super::least_squares`] fits it; numbers are standardised for that and coefficients told in their own units. With a penalty it is ridge
//! regression (Hoerl & Kennard, 1970), the lasso (Tibshirani, 1996) or between them.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::{ArrayRef, Float64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, FieldRef, Schema};

use crate::error::{Error, Result};
use crate::features::encode::{Encoder, EncoderOptions, Scaling};
use crate::models::attribution::{Attributions, explained_fields};
use crate::models::design::{CATEGORY_ENCODING, Coding, FIT_INTERCEPT};
use crate::models::normal_equations::{design_names, encoder_names, redundancy};
use crate::models::predictor::LinearPredictor;
use crate::models::regression::{self, LABEL, Targets};
use crate::models::terms::Expansion;
use crate::models::{
    Artefact, FEATURES, FeatureColumn, FitContext, Fitted, ID, L1, Model, ModelType, Parts, Pass, Roles, Rows,
    TrainingInfo, field, least_squares,
};
use crate::options::{OptionKind, OptionSpec, Options};

const NAME: &str = "LINEAR_REG";

/// Linear regression as a model type; see the [module](self).
#[derive(Debug, Clone, Copy)]
pub struct LinearRegression;

/// The penalty of least squares.
pub(super) const RIDGE: OptionSpec = OptionSpec {
    name: "l2",
    aliases: &["l2_reg"],
    kind: OptionKind::Float {
        min: 0.0,
        max: f64::MAX,
    },
    default: "0.0",
    help: "Penalty ½·l2·‖β‖² on the coefficients of standardised numbers and categories, beside half the sum of squared errors.",
};

static OPTIONS: &[OptionSpec] = &[LABEL, ID, FEATURES, RIDGE, L1, FIT_INTERCEPT, CATEGORY_ENCODING];

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
        regression::roles(NAME, schema, options)
    }

    fn fit(&self, rows: &dyn Rows, roles: &Roles, options: &Options, context: &FitContext<'_>) -> Result<Fitted> {
        context.observer.started("linear regression", rows.row_count(), 1);
        fit(LINEAR, rows, roles, options, context)
    }

    fn load(&self, artefact: &Artefact) -> Result<Arc<dyn Model>> {
        load(LINEAR, artefact)
    }
}

/// What a linear regression is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// What begins messages.
    pub(super) verb: &'static str,
    pub(super) model_type: &'static str,
    /// The powers and products that stand in the place of numbers, if any do.
    pub(super) expansion: Option<Expansion>,
}

const LINEAR: Kind = Kind {
    verb: NAME,
    model_type: "linear_reg",
    expansion: None,
};

/// Fits a regression of this kind.
///
/// # Errors
/// Rows that cannot be learned from, too many terms, too little memory, or cancellation.
pub(super) fn fit(
    kind: Kind,
    rows: &dyn Rows,
    roles: &Roles,
    options: &Options,
    context: &FitContext<'_>,
) -> Result<Fitted> {
    let begun = Instant::now();
    let targets = Targets::read(kind.verb, rows, roles, context)?;
    let encoding = EncoderOptions {
        scaling: Scaling::PopulationDeviation,
        center: true,
        max_categories: 1_000,
    };
    let (encoder, mut notices) = Encoder::learn(rows, &roles.features, &encoding, context)?;
    let coding = Coding::of(options);
    let encoder = coding.encoder(encoder);
    let terms = kind.expansion.map(|e| e.terms(kind.verb, &encoder)).transpose()?;
    let mut block = encoder.encode_rows::<f64>(rows, &roles.features, context)?;
    let mut names = encoder_names(&encoder);
    if let Some(terms) = &terms {
        block = terms.expand_rows(block, context)?;
        names = design_names(terms.names(&encoder).into_iter(), &encoder);
    }
    let (l1, l2) = (options.float("l1", 0.0), options.float("l2", 0.0));
    let found = least_squares::fit(kind.verb, &block, &targets, coding, (l1, l2), context)?;
    notices.extend(redundancy(&found.redundant, &names, (l1, l2)));
    let learned_from = |row: usize| targets.weights[row] > 0.0;
    let columns = (&encoder, terms.as_ref());
    let attributions = Attributions::of(columns, &block, &found.coefficients, &learned_from, context);
    let count = targets.count();
    let pass = Pass {
        loss: Some(found.squared_errors / count),
        duration_ms: begun.elapsed().as_secs_f64() * 1e3,
        ..Pass::default()
    };
    context.observer.pass(&pass);
    notices.iter().for_each(|notice| context.observer.notice(notice));
    let predictor = LinearPredictor::with_terms(Arc::new(encoder), terms, found.coefficients, found.standard_errors);
    Ok(Fitted {
        model: Arc::new(LinearModel {
            predictor: predictor.explained(Some(attributions)),
            kind,
            label: targets.name,
            l1,
            l2,
            freedom: Some(found.freedom),
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

/// Reads back what the model of a fit of this kind stored.
///
/// # Errors
/// An artefact that is none.
pub(super) fn load(kind: Kind, artefact: &Artefact) -> Result<Arc<dyn Model>> {
    let encoder = Encoder::from_artefact(artefact)?;
    let terms = kind.expansion.map(|e| e.terms(kind.verb, &encoder)).transpose()?;
    Ok(Arc::new(LinearModel {
        predictor: LinearPredictor::with_encoder(artefact, encoder, terms)?,
        kind,
        label: artefact.setting("label")?,
        l1: artefact.optional("l1")?.unwrap_or(0.0),
        l2: artefact.setting("l2")?,
        freedom: artefact.setting("degrees_of_freedom").ok(),
    }))
}

/// A trained regression.
#[derive(Debug)]
struct LinearModel {
    predictor: LinearPredictor,
    kind: Kind,
    label: String,
    l1: f64,
    l2: f64,
    /// Rows less parameters, of Student's t; none in models that were stored before it was kept.
    freedom: Option<f64>,
}

impl Model for LinearModel {
    fn model_type(&self) -> &'static str {
        self.kind.model_type
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
        (word == "EVALUATE").then(regression::evaluation_fields)
    }

    fn assess(&self, _word: &str, rows: &dyn Rows, _options: &Options, stop: &dyn Fn() -> bool) -> Result<RecordBatch> {
        let predict = |columns: &[ArrayRef]| self.predictor.sums(columns);
        regression::evaluate(&self.label, self.feature_columns().len(), &predict, rows, stop)
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
            "GLOBAL_EXPLAIN" if options.bool("class_level_explain", false) => Err(Error::request(format!(
                "ML.GLOBAL_EXPLAIN: option 'class_level_explain' is for classifiers, and this is a {}; leave it out",
                self.kind.model_type
            ))),
            "GLOBAL_EXPLAIN" => self.predictor.global_explanation().map(Some),
            _ => Ok(None),
        }
    }

    fn parts(&self) -> Result<Parts> {
        let mut settings = serde_json::Map::new();
        settings.insert("label".into(), self.label.clone().into());
        settings.insert("l1".into(), self.l1.into());
        settings.insert("l2".into(), self.l2.into());
        if let Some(expansion) = self.kind.expansion {
            settings.insert("degree".into(), expansion.degree.into());
            settings.insert("interactions".into(), expansion.interactions.into());
        }
        if let Some(freedom) = self.freedom {
            settings.insert("degrees_of_freedom".into(), freedom.into());
        }
        Ok(Parts {
            tables: self.predictor.to_tables()?,
            settings,
        })
    }
}
