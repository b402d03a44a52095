//! `FROM ML.EVALUATE('model' [, (query)])`, `ML.CONFUSION_MATRIX(…)`, `ML.ROC_CURVE(…)`: how good a stored model is.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::catalog::Session as CatalogSession;
use datafusion::common::Result as DataFusionResult;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::ExecutionPlan;

use super::RelationFunction;
use super::inputs::{ModelInputs, model_options};
use super::trials::{self, TRIAL_ID};
use crate::error::{Error, Result, list};
use crate::exec::{Answer, AssessJob, OperationExec};
use crate::metrics::spread::{mean, sample_deviation};
use crate::models::{ASSESSMENTS, Assessment, Evaluation, Model, Trial, field};
use crate::sql::arguments::Arguments;
use crate::sql::functions::table::{OverQuery, scan_of};
use crate::sql::help::{Form, Topic};
use crate::sql::relation::{PlanContext, scan};

/// A function of [`ASSESSMENTS`].
pub(crate) struct Assess(pub &'static Assessment);

impl RelationFunction for Assess {
    fn name(&self) -> &'static str {
        self.0.function
    }

    fn plan(&self, mut arguments: Arguments, context: &mut PlanContext<'_>) -> Result<LogicalPlan> {
        let Assessment {
            word,
            function,
            options,
            ..
        } = self.0;
        let trial = trials::take(&mut arguments)?;
        if *word == "ROC_CURVE" {
            arguments.name_last("thresholds");
        }
        if arguments.positional_count() == 1 {
            return match *word {
                "EVALUATE" => own_evaluation(arguments, trial, context),
                _ => own_judgement(word, arguments, trial, context),
            };
        }
        let (name, input) = arguments.model_and_query()?;
        let loaded = context.session.trial_model(&context.settings, &name, trial)?;
        let model = &loaded.model;
        let Some(fields) = model.assess_fields(word) else {
            return Err(says_nothing(function, &name, model.as_ref()));
        };
        let options = model_options(function, options, arguments.named, &name, &loaded)?;
        let inputs = ModelInputs::of(function, &loaded, input, context)?;
        let mut used = inputs.features.clone();
        let mut names: Vec<String> = model.feature_columns().iter().map(|c| c.name.clone()).collect();
        if let Some(label) = model.label() {
            used.push(inputs.label(function, label)?);
            names.push(label.into());
        }
        let expected = model.feature_columns().iter().map(|c| c.data_type.parse().ok());
        let kept = used
            .iter()
            .zip(expected.chain([None]))
            .zip(&names)
            .map(|((expr, expected), name)| {
                let data_type = match (inputs.type_of(expr)?, expected) {
                    // A column of NULLs alone takes the type of training.
                    (DataType::Null, Some(data_type)) => data_type,
                    (given, _) => given,
                };
                Ok(Field::new(name, data_type, true))
            })
            .collect::<Result<Vec<_>>>()?;
        let exprs = used.into_iter().zip(&names).map(|(e, name)| e.alias(name));
        let input = LogicalPlanBuilder::from(inputs.plan.clone()).project(exprs)?.build()?;
        let job = AssessJob {
            word,
            options,
            columns: Arc::new(Schema::new(kept)),
            schema: Arc::new(Schema::new(fields)),
            kept: None,
            loaded: Arc::clone(&loaded),
        };
        let relation = AssessRelation { input, job };
        trials::with_trial_column(scan_of(function, relation)?, &loaded)
    }

    fn topics(&self) -> Vec<Topic> {
        let about = self.0;
        vec![Topic {
            name: about.function.into(),
            form: Form::Model,
            syntax: format!("FROM {}('model', (query) [, option => value])", about.function),
            summary: about.summary.into(),
            options: [about.options, &[TRIAL_ID]].concat(),
            example: about.example.into(),
        }]
    }
}

/// The error where a function has nothing to say of a model.
fn says_nothing(function: &str, name: &str, model: &dyn Model) -> Error {
    let others = ASSESSMENTS.iter().filter(|a| model.assess_fields(a.word).is_some());
    let others: Vec<&str> = others.map(|a| a.function).collect();
    let hint = if others.is_empty() {
        "nothing of this kind does yet".into()
    } else {
        let does = if others.len() == 1 { "does" } else { "do" };
        format!("{} {does}", list(others, 10))
    };
    Error::request(format!(
        "{function} says nothing of model '{name}', which is a {}; {hint}",
        model.kind()
    ))
}

/// A column of an answer.
type Column = (FieldRef, ArrayRef);
/// The metrics of one judgement, none where one is not defined.
type Metrics = Vec<Option<f64>>;

/// `ML.EVALUATE('model')`: what was found out when the model was trained.
fn own_evaluation(mut arguments: Arguments, trial: Option<u64>, context: &mut PlanContext<'_>) -> Result<LogicalPlan> {
    let function = arguments.function;
    let name = arguments.one_model()?;
    needs_rows(function, &name, &arguments)?;
    let loaded = context.session.model(&context.settings, &name)?;
    let training = &loaded.manifest.training;
    let fields = loaded.model.assess_fields("EVALUATE").unwrap_or_default();
    let own = training.evaluation.as_ref().map(|e| e.metrics.clone());
    if trial.is_some() {
        // Says what is wrong with one that is none.
        context.session.trial_model(&context.settings, &name, trial)?;
    }
    // Under a search every trial is told, under cross-validation every fold.
    let (mut columns, rows): (Vec<Column>, Vec<Metrics>) = if !training.trials.is_empty() {
        let tested = training.trials.iter().any(|t| t.test.is_some());
        let judged = |t: &Trial| if tested { t.test.clone() } else { t.evaluation.clone() };
        let judged: Vec<_> = training
            .trials
            .iter()
            .zip(1i64..)
            .filter(|(_, id)| trial.is_none_or(|wanted| *id as u64 == wanted))
            .filter_map(|(t, id)| Some((id, judged(t)?)))
            .collect();
        let ids = Int64Array::from_iter_values(judged.iter().map(|(id, _)| *id));
        (
            vec![(field("trial_id", DataType::Int64), Arc::new(ids))],
            judged.into_iter().map(|(_, e)| e.metrics).collect(),
        )
    } else if !training.folds.is_empty() {
        let mut names: Vec<String> = (1..=training.folds.len()).map(|fold| fold.to_string()).collect();
        names.extend(["mean".into(), "stddev".into()]);
        let mut rows: Vec<Metrics> = training.folds.iter().map(|f| f.metrics.clone()).collect();
        rows.extend(mean_and_deviation(&training.folds));
        (
            vec![(field("fold", DataType::Utf8), Arc::new(StringArray::from(names)))],
            rows,
        )
    } else {
        (vec![], own.or_else(|| loaded.model.own_metrics()).into_iter().collect())
    };
    if rows.is_empty() || fields.is_empty() || rows.iter().any(|r| r.len() != fields.len()) {
        return Err(Error::request(format!(
            "{function}: nothing is stored of how good model '{name}' is; say by which rows to judge it: {function}('{name}', (SELECT …))"
        )));
    }
    for (at, field) in fields.into_iter().enumerate() {
        let values = Float64Array::from_iter(rows.iter().map(|r| r[at]));
        columns.push((field, Arc::new(values)));
    }
    let (fields, arrays): (Vec<FieldRef>, Vec<ArrayRef>) = columns.into_iter().unzip();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)?;
    scan(function, Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
}

/// That what was found out at training is not told by other options than then.
///
/// # Errors
/// There are some.
fn needs_rows(function: &str, name: &str, arguments: &Arguments) -> Result<()> {
    match arguments.named.first() {
        None => Ok(()),
        Some((option, _)) => Err(Error::request(format!(
            "{function}: option '{option}' needs rows; say by which to judge model '{name}': {function}('{name}', (SELECT …), {option} => …)"
        ))),
    }
}

/// `ML.CONFUSION_MATRIX('model')` and its like: what was found out when the model was trained.
fn own_judgement(
    word: &str,
    mut arguments: Arguments,
    trial: Option<u64>,
    context: &mut PlanContext<'_>,
) -> Result<LogicalPlan> {
    let function = arguments.function;
    let name = arguments.one_model()?;
    let of_rows = |why: &str| {
        Error::request(format!(
            "{function}: {why}; say by which rows to judge model '{name}': {function}('{name}', (SELECT …))"
        ))
    };
    needs_rows(function, &name, &arguments)?;
    let loaded = context.session.trial_model(&context.settings, &name, trial)?;
    if loaded.model.assess_fields(word).is_none() {
        return Err(says_nothing(function, &name, loaded.model.as_ref()));
    }
    let known = loaded.manifest.training.judgements.get(word);
    let (Some(columns), Some(fields)) = (known, loaded.model.assess_fields(word)) else {
        return Err(of_rows("nothing of this is stored with the model"));
    };
    if columns.len() != fields.len() {
        return Err(of_rows("what is stored with the model cannot be read"));
    }
    let arrays = columns
        .iter()
        .zip(&fields)
        .map(|(column, field)| {
            let texts: ArrayRef = Arc::new(column.iter().map(Option::as_deref).collect::<StringArray>());
            Ok(cast(&texts, field.data_type())?)
        })
        .collect::<Result<Vec<_>>>()?;
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)?;
    let plan = scan(function, Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))?;
    trials::with_trial_column(plan, &loaded)
}

/// The mean of each metric over folds, and its sample deviation.
fn mean_and_deviation(folds: &[Evaluation]) -> [Metrics; 2] {
    let width = folds.first().map_or(0, |f| f.metrics.len());
    let known = |i: usize| -> Vec<f64> {
        folds
            .iter()
            .filter_map(|f| f.metrics.get(i).copied().flatten())
            .collect()
    };
    [
        (0..width).map(|i| mean(&known(i))).collect(),
        (0..width).map(|i| sample_deviation(&known(i))).collect(),
    ]
}

#[derive(Debug)]
struct AssessRelation {
    input: LogicalPlan,
    job: AssessJob,
}

#[async_trait]
impl OverQuery for AssessRelation {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.job.schema)
    }

    async fn plan(&self, state: &dyn CatalogSession, wanted: &[usize]) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let input = state.create_physical_plan(&self.input).await?;
        let mut job = self.job.clone();
        job.schema = Arc::new(job.schema.project(wanted)?);
        job.kept = Some(wanted.to_vec());
        Ok(Arc::new(OperationExec::new(input, Arc::new(Answer(Arc::new(job))))))
    }
}
