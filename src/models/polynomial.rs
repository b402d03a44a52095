//! Polynomial regression: a number, by least squares over powers and products of the numeric features.
//!
//! It is the linear regression of [`super::linear`] over the columns of [`super::terms`]: numbers are standardised first, then multiplied.
//! Categories and timestamps are as there. What a product adds to a prediction counts for its factors in equal shares, `a^2*b` for a twice.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;

use crate::error::Result;
use crate::models::design::{CATEGORY_ENCODING, FIT_INTERCEPT};
use crate::models::linear::{self, RIDGE};
use crate::models::regression::{self, LABEL};
use crate::models::terms::{DEGREE, Expansion, INTERACTIONS};
use crate::models::{Artefact, FEATURES, FitContext, Fitted, ID, L1, Model, ModelType, Roles, Rows};
use crate::options::{OptionSpec, Options};

const NAME: &str = "POLYNOMIAL_REG";
const TYPE: &str = "polynomial_reg";

/// Polynomial regression as a model type; see the [module](self).
#[derive(Debug, Clone, Copy)]
pub struct PolynomialRegression;

static OPTIONS: &[OptionSpec] = &[
    LABEL,
    ID,
    FEATURES,
    DEGREE,
    INTERACTIONS,
    RIDGE,
    L1,
    FIT_INTERCEPT,
    CATEGORY_ENCODING,
];

impl ModelType for PolynomialRegression {
    fn name(&self) -> &'static str {
        TYPE
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["polynomial", "polynomial_regression"]
    }

    fn verb(&self) -> &'static str {
        "ML.PREDICT"
    }

    fn summary(&self) -> &'static str {
        "A number by least squares over powers and products of the features that are numbers (each standardised first), with a ridge or lasso \
         penalty if asked for. ML.WEIGHTS names them as in a^2*b, in the units of the features, or of standardised numbers."
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
        context.observer.started("polynomial regression", rows.row_count(), 1);
        let kind = linear::Kind {
            verb: NAME,
            model_type: TYPE,
            expansion: Some(Expansion::of(options)),
        };
        linear::fit(kind, rows, roles, options, context)
    }

    fn load(&self, artefact: &Artefact) -> Result<Arc<dyn Model>> {
        let degree: usize = artefact.setting("degree")?;
        if !(1..=5).contains(&degree) {
            return Err(artefact.corrupt("its degree is not from 1 to 5"));
        }
        let kind = linear::Kind {
            verb: NAME,
            model_type: TYPE,
            expansion: Some(Expansion {
                degree,
                interactions: artefact.setting("interactions")?,
            }),
        };
        linear::load(kind, artefact)
    }
}
