//! `FROM ML.COMPARE((query), label => 'churned', models => ['logistic_reg', …])`: models side by side, on the same folds.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::Session as CatalogSession;
use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;

use super::RelationFunction;
use super::source::Source;
use crate::error::{Error, Result, list};
use crate::exec::{Answer, Candidate, CompareJob, FitJob, OperationExec};
use crate::models::{FEATURES, ID, MODELS, SEED, field, model_type};
use crate::options::{OptionKind, OptionSpec, Options, Value};
use crate::sql::arguments::Arguments;
use crate::sql::functions::table::{OverQuery, scan_of};
use crate::sql::help::{Form, Topic};
use crate::sql::relation::PlanContext;

const NAME: &str = "ML.COMPARE";

static OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "models",
        aliases: &[],
        kind: OptionKind::Any(
            "a list of model types, or their options by names of your own: {'plain': {'model_type': 'logistic_reg', 'l2': 1.0}}",
        ),
        default: "",
        help: "The models to compare.",
    },
    OptionSpec {
        name: "label",
        aliases: &["input_label_cols", "labels", "label_col"],
        kind: OptionKind::Column,
        default: "none",
        help: "The column to predict, of every model that predicts one.",
    },
    OptionSpec {
        name: "folds",
        aliases: &["cross_validate"],
        kind: OptionKind::Int { min: 2, max: 100 },
        default: "5",
        help: "In how many folds: each is judged by models of the others.",
    },
    ID,
    FEATURES,
    SEED,
];

/// `ML.COMPARE`.
pub(crate) struct Compare;

impl RelationFunction for Compare {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, mut arguments: Arguments, context: &mut PlanContext<'_>) -> Result<LogicalPlan> {
        let input = arguments.one_query()?;
        let given = Options::parse(NAME, OPTIONS, arguments.named)?;
        let source = Source::plan(input, None, None, context)?;
        let mut candidates = vec![];
        for (name, options) in models(&given)? {
            if candidates
                .iter()
                .any(|c: &Candidate| c.name.eq_ignore_ascii_case(&name))
            {
                return Err(Error::request(format!(
                    "{NAME}: two models are called '{name}'; name them apart: models => {{'a': {{'model_type': …}}, 'b': …}}"
                )));
            }
            let job = job(&name, options, &given, &source, context)?;
            candidates.push(Candidate { name, job });
        }
        let mut fields = vec![field("metric", DataType::Utf8), field("statistic", DataType::Utf8)];
        fields.extend(candidates.iter().map(|c| field(&c.name, DataType::Float64)));
        let schema = Arc::new(Schema::new(fields));
        let job = CompareJob {
            candidates,
            folds: given.int("folds", 5) as usize,
            columns: Arc::clone(&source.columns),
            kept: None,
            whole: Arc::clone(&schema),
            schema,
        };
        scan_of(
            NAME,
            CompareRelation {
                input: source.plan,
                job,
            },
        )
    }

    fn topics(&self) -> Vec<Topic> {
        vec![Topic {
            name: NAME.into(),
            form: Form::Relation,
            syntax: format!("FROM {NAME}((query), label => 'churned', models => ['logistic_reg', …] [, folds => 5])"),
            summary: "Models side by side: each metric of ML.EVALUATE, its mean and deviation over the same folds, a column for each model, and \
                      how long each took. Nothing is stored. Rows of a fold whose label no other fold has are left out of its judgement; a notice \
                      says how many."
                .into(),
            options: OPTIONS.to_vec(),
            example: "SELECT * FROM ML.COMPARE((SELECT * FROM customers), label => 'churned', id => 'customer_id', models => {'plain': {'model_type': \
                      'logistic_reg', 'l2': 0.0}, 'ridge': {'model_type': 'logistic_reg', 'l2': 10.0}})"
                .into(),
        }]
    }
}

/// Options by their names.
type Named = Vec<(String, Value)>;

/// The models by their names, each with its options.
fn models(given: &Options) -> Result<Vec<(String, Named)>> {
    let refuse = |value: &Value| {
        Error::request(format!(
            "{NAME}: option 'models' takes {}, not {value}",
            OPTIONS[0].kind.describe()
        ))
    };
    let of_type = |name: &str| vec![("model_type".to_string(), Value::Text(name.to_string()))];
    let found = match given.get("models") {
        Some(Value::List(names)) => names
            .iter()
            .map(|v| match v {
                Value::Text(name) => Ok((name.clone(), of_type(name))),
                other => Err(refuse(other)),
            })
            .collect::<Result<Vec<_>>>()?,
        Some(Value::Struct(by_name)) => by_name
            .iter()
            .map(|(name, v)| match v {
                Value::Struct(options) => Ok((
                    name.clone(),
                    options.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
                )),
                Value::Text(kind) => Ok((name.clone(), of_type(kind))),
                other => Err(refuse(other)),
            })
            .collect::<Result<Vec<_>>>()?,
        Some(other) => return Err(refuse(other)),
        None => vec![],
    };
    if found.is_empty() {
        return Err(Error::request(format!(
            "{NAME}: option 'models' names no model; list some"
        )));
    }
    Ok(found)
}

/// How one of the models is fitted over the columns of the query.
fn job(
    name: &str,
    mut options: Vec<(String, Value)>,
    given: &Options,
    source: &Source,
    context: &PlanContext<'_>,
) -> Result<FitJob> {
    let at = options.iter().position(|(k, _)| k.eq_ignore_ascii_case("model_type"));
    let Some(Value::Text(kind)) = at.map(|i| options.remove(i).1) else {
        return Err(Error::request(format!(
            "{NAME}: model '{name}' has no model_type; it is one of {}",
            list(MODELS.iter().map(|m| m.name()), 20)
        )));
    };
    let model_type = model_type(&kind)?;
    if model_type.needs_transform() {
        return Err(Error::request(format!(
            "{NAME}: a {} model predicts nothing that could be compared; leave it out",
            model_type.name()
        )));
    }
    // What is said once is said of all that take it.
    for shared in ["label", ID.name, FEATURES.name, SEED.name] {
        let Some(spec) = model_type.options().iter().find(|o| o.name == shared) else {
            continue;
        };
        if let Some(value) = given.get(shared)
            && !options.iter().any(|(k, _)| spec.answers_to(k))
        {
            options.push((shared.into(), value.clone()));
        }
    }
    let options = Options::parse(NAME, model_type.options(), options)?;
    let roles = model_type.roles(&source.columns, &options)?;
    Ok(FitJob {
        session: Arc::clone(&context.session),
        model_type,
        options: model_type.stored_fit_options(&options),
        roles,
        schema: Arc::clone(&source.columns),
        split: None,
        transform: None,
        folds: Some(given.int("folds", 5) as usize),
        tuning: None,
        judge: true,
        start: None,
        notices: vec![],
    })
}

#[derive(Debug)]
struct CompareRelation {
    input: LogicalPlan,
    job: CompareJob,
}

#[async_trait]
impl OverQuery for CompareRelation {
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
