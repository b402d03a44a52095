//! `FROM ML.FEATURE_INFO('model')`: the training rows of each feature of a stored model.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::datasource::MemTable;
use datafusion::logical_expr::LogicalPlan;

use super::RelationFunction;
use crate::error::{Error, Result};
use crate::features::FeatureStatistics;
use crate::options::Options;
use crate::sql::arguments::Arguments;
use crate::sql::help::{Form, Topic};
use crate::sql::relation::{PlanContext, scan};

const NAME: &str = "ML.FEATURE_INFO";

/// `ML.FEATURE_INFO`.
pub(crate) struct FeatureInfo;

impl RelationFunction for FeatureInfo {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, mut arguments: Arguments, context: &mut PlanContext<'_>) -> Result<LogicalPlan> {
        let name = arguments.one_model()?;
        Options::parse(NAME, [], arguments.named)?;
        let loaded = context.session.model(&context.settings, &name)?;
        let known = &loaded.manifest.training.features;
        if known.is_empty() && !loaded.manifest.features.is_empty() {
            return Err(Error::request(format!(
                "{NAME}: model '{name}' was stored by an earlier version, without what its features were; train it again"
            )));
        }
        let floats = |value: fn(&FeatureStatistics) -> Option<f64>| -> ArrayRef {
            Arc::new(Float64Array::from_iter(known.iter().map(value)))
        };
        let integers = |value: fn(&FeatureStatistics) -> Option<u64>| -> ArrayRef {
            Arc::new(Int64Array::from_iter(known.iter().map(|f| value(f).map(|v| v as i64))))
        };
        let columns: Vec<(&str, ArrayRef)> = vec![
            (
                "input",
                Arc::new(StringArray::from_iter_values(known.iter().map(|f| &f.name))),
            ),
            ("min", floats(|f| f.min)),
            ("max", floats(|f| f.max)),
            ("mean", floats(|f| f.mean)),
            ("median", floats(|f| f.median)),
            ("stddev", floats(|f| f.deviation)),
            ("category_count", integers(|f| f.category_count)),
            ("null_count", integers(|f| Some(f.null_count))),
            ("dimension", integers(|f| f.dimension)),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true)))?;
        scan(NAME, Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
    }

    fn topics(&self) -> Vec<Topic> {
        vec![Topic {
            name: NAME.into(),
            form: Form::Model,
            syntax: format!("FROM {NAME}('model')"),
            summary: "The rows that a stored model was trained on, feature by feature: a number's range, mean, median and deviation; how many \
                      categories and NULLs."
                .into(),
            options: vec![],
            example: "SELECT * FROM ML.FEATURE_INFO('churn')".into(),
        }]
    }
}
