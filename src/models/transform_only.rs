//! A model that is its TRANSFORM and nothing else: features made once, the same wherever they are needed.

use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{FieldRef, Schema};

use crate::error::Result;
use crate::models::{Artefact, FeatureColumn, FitContext, Fitted, Model, ModelType, Parts, Roles, Rows, TrainingInfo};
use crate::options::{OptionSpec, Options};

const NAME: &str = "transform_only";

/// The model type `transform_only`; see the [module](self).
#[derive(Debug, Clone, Copy)]
pub struct TransformOnly;

impl ModelType for TransformOnly {
    fn name(&self) -> &'static str {
        NAME
    }

    fn verb(&self) -> &'static str {
        "ML.TRANSFORM"
    }

    fn summary(&self) -> &'static str {
        "What TRANSFORM makes of a query, learned from its rows and stored, with no model behind it."
    }

    fn options(&self) -> &'static [OptionSpec] {
        &[]
    }

    fn needs_transform(&self) -> bool {
        true
    }

    fn roles(&self, _schema: &Schema, _options: &Options) -> Result<Roles> {
        Ok(Roles::default())
    }

    fn fit(&self, rows: &dyn Rows, _roles: &Roles, _options: &Options, context: &FitContext<'_>) -> Result<Fitted> {
        context.observer.started("transform", rows.row_count(), 1);
        Ok(Fitted {
            model: Arc::new(TransformOnlyModel),
            info: TrainingInfo {
                row_count: rows.row_count() as u64,
                ..TrainingInfo::default()
            },
            row_scores: None,
        })
    }

    fn load(&self, _artefact: &Artefact) -> Result<Arc<dyn Model>> {
        Ok(Arc::new(TransformOnlyModel))
    }
}

/// All that there is to it stands in the training information.
#[derive(Debug)]
struct TransformOnlyModel;

impl Model for TransformOnlyModel {
    fn model_type(&self) -> &'static str {
        NAME
    }

    fn feature_columns(&self) -> &[FeatureColumn] {
        &[]
    }

    fn verb_fields(&self) -> Vec<FieldRef> {
        vec![]
    }

    fn verb_columns(&self, _columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        Ok(vec![])
    }

    fn predict_fields(&self) -> Vec<FieldRef> {
        vec![]
    }

    fn predict_columns(&self, _columns: &[ArrayRef], _options: &Options) -> Result<Vec<ArrayRef>> {
        Ok(vec![])
    }

    fn row_fields(&self, _word: &str) -> Option<Vec<FieldRef>> {
        None
    }

    fn parts(&self) -> Result<Parts> {
        Ok(Parts::default())
    }
}
