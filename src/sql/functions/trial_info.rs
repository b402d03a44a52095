//! `FROM ML.TRIAL_INFO('model')`: the trials of the search behind a stored model.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, StructArray,
};
use datafusion::arrow::datatypes::FieldRef;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::LogicalPlan;

use super::RelationFunction;
use crate::error::{Error, Result};
use crate::models::{Trial, field, model_type};
use crate::options::{OptionKind, OptionSpec, Options, Value};
use crate::sql::arguments::Arguments;
use crate::sql::help::{Form, Topic};
use crate::sql::relation::{PlanContext, scan};

const NAME: &str = "ML.TRIAL_INFO";

/// Metrics of `ML.EVALUATE` that are a loss, the first of which a model has being its own.
const LOSSES: [&str; 3] = ["log_loss", "mean_squared_error", "mean_squared_distance"];

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
        let options = model_type(loaded.model.model_type())?.options();
        let fields = loaded.model.assess_fields("EVALUATE").unwrap_or_default();
        let text = |of: &dyn Fn(&Trial) -> Option<String>| -> ArrayRef {
            Arc::new(trials.iter().map(of).collect::<StringArray>())
        };
        let mut columns: Vec<(String, ArrayRef)> = vec![
            (
                "trial_id".into(),
                Arc::new(Int64Array::from_iter_values(1..=trials.len() as i64)),
            ),
            ("hyperparameters".into(), hyperparameters(trials, options)),
        ];
        let losses = LOSSES
            .iter()
            .find_map(|loss| fields.iter().position(|f| f.name() == loss));
        let metric = |t: &Trial, at: usize| t.evaluation.as_ref().and_then(|e| e.metrics.get(at).copied().flatten());
        let metrics: Vec<(FieldRef, ArrayRef)> = fields
            .into_iter()
            .enumerate()
            .map(|(at, field)| {
                let values = trials.iter().map(|t| metric(t, at));
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
        columns.push((
            "eval_loss".into(),
            Arc::new(
                trials
                    .iter()
                    .map(|t| losses.and_then(|at| metric(t, at)))
                    .collect::<Float64Array>(),
            ),
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
            summary: "The trials of the search for a model's options: what each took, how good its model was on the rows that trials are \
                      compared by, its loss on those it learned from (as the model defines it) and on those (log_loss, mean_squared_error or \
                      mean_squared_distance), and which one is the model where no trial_id is given."
                .into(),
            options: vec![],
            example: "SELECT * FROM ML.TRIAL_INFO('churn')".into(),
        }]
    }
}

/// What each trial took: a field for each option that was searched, of the type of its values.
fn hyperparameters(trials: &[Trial], options: &[OptionSpec]) -> ArrayRef {
    let names: BTreeSet<&str> = trials
        .iter()
        .flat_map(|t| t.options.iter().map(|(name, _)| name))
        .collect();
    let fields: Vec<(FieldRef, ArrayRef)> = names
        .into_iter()
        .map(|name| {
            let values: Vec<&Value> = trials
                .iter()
                .map(|t| t.options.get(name).unwrap_or(&Value::Null))
                .collect();
            let kind = options.iter().find(|o| o.name == name).map(|o| o.kind);
            let column = values_column(&values, matches!(kind, Some(OptionKind::Float { .. })));
            (field(name, column.data_type().clone()), column)
        })
        .collect();
    Arc::new(StructArray::from(fields))
}

/// Values as a column: numbers if they are to be, integers, booleans, or texts where they are of several kinds.
fn values_column(values: &[&Value], numbers: bool) -> ArrayRef {
    let all = |fits: fn(&Value) -> bool| values.iter().all(|v| matches!(v, Value::Null) || fits(v));
    if !numbers && all(|v| matches!(v, Value::Int(_))) {
        return Arc::new(Int64Array::from_iter(values.iter().map(|v| match v {
            Value::Int(i) => Some(*i),
            _ => None,
        })));
    }
    if all(|v| matches!(v, Value::Int(_) | Value::Float(_))) {
        return Arc::new(Float64Array::from_iter(values.iter().map(|v| v.as_f64())));
    }
    if all(|v| matches!(v, Value::Bool(_))) {
        return Arc::new(BooleanArray::from_iter(values.iter().map(|v| match v {
            Value::Bool(b) => Some(*b),
            _ => None,
        })));
    }
    Arc::new(StringArray::from_iter(values.iter().map(|v| match v {
        Value::Null => None,
        Value::Text(text) => Some(text.clone()),
        other => Some(other.to_string()),
    })))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::DataType;

    use super::*;

    #[test]
    fn values_have_the_type_that_holds_them_all() {
        let of = |values: &[Value]| {
            values_column(&values.iter().collect::<Vec<_>>(), false)
                .data_type()
                .clone()
        };
        assert_eq!(of(&[Value::Int(1), Value::Null]), DataType::Int64);
        assert_eq!(of(&[Value::Int(1), Value::Float(0.5)]), DataType::Float64);
        assert_eq!(of(&[Value::Bool(true)]), DataType::Boolean);
        let mixed = values_column(&[&Value::Text("a".into()), &Value::Int(3)], false);
        let number = values_column(&[&Value::Int(3)], true);
        assert_eq!(number.data_type(), &DataType::Float64);
        let mixed = mixed.as_any().downcast_ref::<StringArray>().unwrap();
        assert_eq!((mixed.value(0), mixed.value(1)), ("a", "3"));
    }
}
