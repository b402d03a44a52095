//! `FROM ML.TRAIN('model', (query), model_type => 'kmeans', …)`: trains when it runs, never when it is planned.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session as CatalogSession;
use datafusion::common::Result as DataFusionResult;
use datafusion::datasource::{TableProvider, TableType};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;

use super::RelationFunction;
use super::verb::{project, renumber, used_columns};
use crate::error::{Error, Result, list};
use crate::exec::{FitExec, FitJob, TrainOutput, training_info_schema};
use crate::models::split::{SPLIT_OPTIONS, Split};
use crate::models::{ID, MODELS, ModelType, Roles, model_type};
use crate::options::{OptionKind, OptionSpec, Options, Value};
use crate::session::Session;
use crate::sql::arguments::Arguments;
use crate::sql::help::{Form, Topic};
use crate::sql::relation::{PlanContext, columns_of, keep_columns, scan};
use crate::store::check_name;

const NAME: &str = "ML.TRAIN";

const MODEL_TYPE: OptionSpec = OptionSpec {
    name: "model_type",
    aliases: &[],
    kind: OptionKind::Any("the name of a model type"),
    default: "",
    help: "Which kind of model; its own options follow.",
};

/// `ML.TRAIN`.
pub(crate) struct Train;

impl RelationFunction for Train {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, mut arguments: Arguments, context: &PlanContext) -> Result<LogicalPlan> {
        let (name, input) = arguments.model_and_query()?;
        let name = check_name(&name)?;
        // A store that cannot be is known before a row is read.
        context.session.store(&context.settings)?;
        let at = arguments
            .named
            .iter()
            .position(|(n, _)| n.eq_ignore_ascii_case(MODEL_TYPE.name));
        let model_type = match at.map(|i| arguments.named.remove(i).1) {
            Some(Value::Text(word)) => model_type(&word)?,
            _ => {
                return Err(Error::request(format!(
                    "{NAME} needs the option 'model_type', one of {}; write model_type => '{}'",
                    list(MODELS.iter().map(|m| m.name()), 20),
                    MODELS[0].name()
                )));
            }
        };
        let (of_split, of_model): (Vec<_>, Vec<_>) = arguments
            .named
            .into_iter()
            .partition(|(name, _)| SPLIT_OPTIONS.iter().any(|o| o.answers_to(name)));
        let mut options = Options::parse(NAME, model_type.options(), of_model)?;
        let columns = columns_of(NAME, &input)?;
        let split = Split::of(NAME, &Options::parse(NAME, SPLIT_OPTIONS, of_split)?, &columns)?;
        if let Some(column) = split.and_then(|s| s.column())
            && model_type.options().iter().any(|o| o.name == ID.name)
        {
            // What splits the rows is no feature.
            let mut ids: Vec<Value> = options
                .texts(ID.name)
                .unwrap_or_default()
                .into_iter()
                .map(|name| Value::Text(name.into()))
                .collect();
            ids.push(Value::Text(columns.field(column).name().clone()));
            options = options.with(ID.name, Value::List(ids));
        }
        let roles = model_type.roles(&columns, &options)?;
        let table = TrainTable {
            session: Arc::clone(&context.session),
            name,
            model_type,
            options,
            roles,
            split,
            input,
            columns,
        };
        scan(NAME, Arc::new(table))
    }

    fn topics(&self) -> Vec<Topic> {
        let without_verb = MODELS.iter().filter(|m| m.verb() == "ML.PREDICT");
        let their_options =
            without_verb.map(|m| format!("{} takes {}", m.name(), list(m.options().iter().map(|o| o.name), 40)));
        let their_options: Vec<String> = their_options.collect();
        vec![Topic {
            name: NAME.into(),
            form: Form::Relation,
            syntax: "FROM ML.TRAIN('model', (query), model_type => 'kmeans', option => value, …)".into(),
            summary: format!(
                "Trains a model and stores it as a new version in ml.store; gives a row for each pass. It trains when the statement runs, \
                 never when it is planned or explained. Each model type has the options of its verb; {}.",
                their_options.join("; ")
            ),
            options: [&[MODEL_TYPE], SPLIT_OPTIONS].concat(),
            example: "SELECT * FROM ML.TRAIN('segments', (SELECT * FROM rfm), model_type => 'kmeans', k => 4, id => 'customer_id')"
                .into(),
        }]
    }
}

#[derive(Debug)]
struct TrainTable {
    session: Arc<Session>,
    name: String,
    model_type: &'static dyn ModelType,
    options: Options,
    roles: Roles,
    split: Option<Split>,
    input: LogicalPlan,
    columns: SchemaRef,
}

#[async_trait]
impl TableProvider for TrainTable {
    fn schema(&self) -> SchemaRef {
        training_info_schema()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn CatalogSession,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let all = training_info_schema();
        let columns: Vec<usize> = match projection {
            Some(p) => p.clone(),
            None => (0..all.fields().len()).collect(),
        };
        let mut kept = used_columns(&self.roles);
        kept.extend(self.split.and_then(|s| s.column()));
        kept.sort_unstable();
        kept.dedup();
        let input = state
            .create_physical_plan(&keep_columns(self.input.clone(), &kept)?)
            .await?;
        let job = FitJob {
            session: Arc::clone(&self.session),
            model_type: self.model_type,
            options: self.model_type.stored_fit_options(&self.options),
            roles: renumber(&self.roles, &kept),
            schema: project(&self.columns, &kept),
            split: self
                .split
                .map(|s| s.at(|column| kept.iter().position(|k| *k == column).unwrap_or(column))),
            judge: true,
        };
        let schema = project(&all, &columns);
        Ok(Arc::new(FitExec::new(
            input,
            job,
            Arc::new(TrainOutput {
                model: self.name.clone(),
                options: self.options.clone(),
                columns,
            }),
            schema,
        )))
    }
}
