//! `FROM ML.TRIAL_INFO('model')`: the trials of the search behind a stored model.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, StructArray,
};
use datafusion::arrow::datatypes::FieldRef;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::LogicalPlan;

use super::RelationFunction;
use crate::error::{Error, Result};
use crate::models::Trial;
use crate::options::Options;
use crate::sql::arguments::Arguments;
use crate::sql::help::{Form, Topic};
use crate::sql::relation::{PlanContext, scan};

const NAME: &str = "ML.TRIAL_INFO";

/// `ML.TRIAL_INFO`.
pub(crate) struct TrialInfo;

impl RelationFunction for TrialInfo {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, mut arguments: Arguments, context: &mut PlanContext<'_>) -> Result<LogicalPlan> {
        let name = arguments.one_model()?;
        Options::parse(NAME, [], arguments.named)?;
        let loaded = context.session.model(&context.settings, &name)?;
        let trials = &loaded.manifest.training.trials;
        if trials.is_empty() {
            return Err(Error::request(format!(
                "{NAME}: no options of model '{name}' were searched; train it with HPARAM_RANGE or HPARAM_CANDIDATES"
            )));
        }
        let fields = loaded.model.assess_fields("EVALUATE").unwrap_or_default();
        let text = |of: &dyn Fn(&Trial) -> Option<String>| -> ArrayRef {
            Arc::new(trials.iter().map(of).collect::<StringArray>())
        };
        let mut columns: Vec<(String, ArrayRef)> = vec![
            (
                "trial_id".into(),
                Arc::new(Int64Array::from_iter_values(1..=trials.len() as i64)),
            ),
            (
                "hyperparameters".into(),
                text(&|t| {
                    let all: Vec<String> = t
                        .options
                        .iter()
                        .map(|(name, value)| format!("{name} => {value}"))
                        .collect();
                    Some(all.join(", "))
                }),
            ),
        ];
        let metrics: Vec<(FieldRef, ArrayRef)> = fields
            .into_iter()
            .enumerate()
            .map(|(at, field)| {
                let values = trials
                    .iter()
                    .map(|t| t.evaluation.as_ref().and_then(|e| e.metrics.get(at).copied().flatten()));
                (field, Arc::new(values.collect::<Float64Array>()) as ArrayRef)
            })
            .collect();
        if !metrics.is_empty() {
            let metrics = Arc::new(StructArray::from(metrics));
            columns.push(("hparam_tuning_evaluation_metrics".into(), metrics));
        }
        columns.push((
            "training_loss".into(),
            Arc::new(trials.iter().map(|t| t.loss).collect::<Float64Array>()),
        ));
        let status = |t: &Trial| Some(if t.error.is_some() { "FAILED" } else { "SUCCEEDED" }.to_string());
        columns.push(("status".into(), text(&status)));
        columns.push(("error_message".into(), text(&|t| t.error.clone())));
        columns.push((
            "is_optimal".into(),
            Arc::new(trials.iter().map(|t| Some(t.is_optimal)).collect::<BooleanArray>()),
        ));
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true)))?;
        scan(NAME, Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
    }

    fn topics(&self) -> Vec<Topic> {
        vec![Topic {
            name: NAME.into(),
            form: Form::Model,
            syntax: format!("FROM {NAME}('model')"),
            summary: "The trials of the search for a model's options: what each took, how good its model was, and which one was kept.".into(),
            options: vec![],
            example: "SELECT * FROM ML.TRIAL_INFO('churn')".into(),
        }]
    }
}
