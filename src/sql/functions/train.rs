//! `FROM ML.TRAIN('model', (query), model_type => 'kmeans', …)`: trains when it runs, never when it is planned.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::Session as CatalogSession;
use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;

use super::RelationFunction;
use super::source::Source;
use super::tuning::{self, TUNING_OPTIONS};
use super::verb::{project, renumber, used_columns};
use crate::error::{Error, Result, list};
use crate::exec::{Fit, FitJob, OperationExec, TrainOutput, Tuning, training_info_schema};
use crate::models::split::{SPLIT_OPTIONS, Split};
use crate::models::{
    FEATURE_TYPES, FEATURES, FeatureKind, ID, MODELS, Model, ModelType, Roles, WARM_START, model_type,
};
use crate::options::{OptionKind, OptionSpec, Options, Value};
use crate::session::Session;
use crate::sql::arguments::Arguments;
use crate::sql::functions::table::{OverQuery, scan_of};
use crate::sql::help::{Form, Topic};
use crate::sql::relation::{PlanContext, keep_columns};
use crate::store::check_name;

const NAME: &str = "ML.TRAIN";

const MODEL_TYPE: OptionSpec = OptionSpec {
    name: "model_type",
    aliases: &[],
    kind: OptionKind::Any("the name of a model type"),
    default: "",
    help: "Which kind of model; its own options follow.",
};

const TRANSFORM: OptionSpec = OptionSpec {
    name: "transform",
    aliases: &[],
    kind: OptionKind::Any("the text of a select list"),
    default: "none",
    help: "What TRANSFORM has in CREATE MODEL: the columns to learn from, made of the query's; what its functions learn is stored in the \
           model and applied at prediction.",
};

/// `ML.TRAIN`.
pub(crate) struct Train;

impl RelationFunction for Train {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, mut arguments: Arguments, context: &mut PlanContext<'_>) -> Result<LogicalPlan> {
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
        let at = arguments
            .named
            .iter()
            .position(|(n, _)| n.eq_ignore_ascii_case(TRANSFORM.name));
        let transform = match at.map(|i| arguments.named.remove(i).1) {
            None => None,
            Some(Value::Text(text)) => Some(text),
            Some(_) => {
                return Err(Error::request(format!(
                    "{NAME}: option 'transform' takes {}; write transform => 'age, label'",
                    TRANSFORM.kind.describe()
                )));
            }
        };
        let of = |specs: &[OptionSpec], named: Vec<(String, Value)>| -> (Vec<_>, Vec<_>) {
            named
                .into_iter()
                .partition(|(name, _)| specs.iter().any(|o| o.answers_to(name)))
        };
        let (of_split, rest) = of(SPLIT_OPTIONS, arguments.named);
        let (of_tuning, mut of_model) = of(TUNING_OPTIONS, rest);
        let tuning = Options::parse(NAME, TUNING_OPTIONS, of_tuning)?;
        let tuning = tuning::take(model_type, &mut of_model, &tuning)?;
        if let Some(tuning) = &tuning {
            // A required option may be what is searched: the first candidate stands for all in what is checked here.
            for hyperparameter in &tuning.hyperparameters {
                of_model.push((hyperparameter.name.into(), hyperparameter.first()));
            }
        }
        if let Some((name, _)) = of_model.iter().find(|(name, _)| !takes(model_type, name)) {
            let others: Vec<&str> = MODELS.iter().filter(|m| takes(**m, name)).map(|m| m.name()).collect();
            if !others.is_empty() {
                return Err(Error::request(format!(
                    "{NAME}: option '{name}' is of {}, and this is a {}; leave it out",
                    list(others, 10),
                    model_type.name()
                )));
            }
        }
        let mut options = Options::parse(NAME, model_type.options(), of_model)?;
        let split = Options::parse(NAME, SPLIT_OPTIONS, of_split)?;
        let folds = split
            .get("cross_validate")
            .map(|_| split.int("cross_validate", 0) as usize);
        if folds.is_some() && split.text("data_split_method").is_some_and(|m| m != "no_split") {
            return Err(Error::request(format!(
                "{NAME}: options 'cross_validate' and 'data_split_method' are both given; cross-validation holds out every row once"
            )));
        }
        if split.text("data_split_col").is_some() && !matches!(split.text("data_split_method"), Some("custom" | "seq"))
        {
            return Err(Error::request(format!(
                "{NAME}: option 'data_split_col' is of data_split_method 'custom' or 'seq'; give that too"
            )));
        }
        let source = Source::plan(input, transform.as_deref(), split.text("data_split_col"), context)?;
        let columns = source.seen();
        if transform.is_none() && model_type.needs_transform() {
            return Err(Error::request(format!(
                "{NAME}: a {} model is what TRANSFORM makes; write TRANSFORM (…) before OPTIONS, or transform => '…'",
                model_type.name()
            )));
        }
        // Such as an array of structs, which would be left out in silence.
        if transform.is_some()
            && !model_type.needs_transform()
            && let Some(field) = columns
                .fields()
                .iter()
                .find(|f| FeatureKind::of(f.data_type()).is_none())
        {
            return Err(Error::request(format!(
                "{NAME}: TRANSFORM makes column '{}' of type {}, which no model learns from; make it {FEATURE_TYPES}",
                field.name(),
                field.data_type()
            )));
        }
        let split = Split::of(NAME, &split, tuning.is_some(), &source.columns)?;
        if let Some(column) = split.and_then(|s| s.column())
            && model_type.options().iter().any(|o| o.name == ID.name)
        {
            // What splits the rows is no feature.
            let name = source.columns.field(column).name();
            if let Some(field) = columns.fields().iter().find(|f| f.name().eq_ignore_ascii_case(name)) {
                let mut ids: Vec<Value> = options
                    .texts(ID.name)
                    .unwrap_or_default()
                    .into_iter()
                    .map(|name| Value::Text(name.into()))
                    .collect();
                ids.push(Value::Text(field.name().clone()));
                options = options.with(ID.name, Value::List(ids));
            }
        }
        let roles = model_type.roles(&columns, &options)?;
        let relation = TrainRelation {
            notices: left_out(model_type, &columns, &options),
            session: Arc::clone(&context.session),
            name,
            model_type,
            options,
            roles,
            split,
            folds,
            tuning,
            source,
        };
        scan_of(NAME, relation)
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
            options: [&[MODEL_TYPE, TRANSFORM], SPLIT_OPTIONS, TUNING_OPTIONS].concat(),
            example: "SELECT * FROM ML.TRAIN('segments', (SELECT * FROM rfm), model_type => 'kmeans', k => 4, id => 'customer_id')"
                .into(),
        }]
    }
}

/// Whether a model type has an option of that name.
fn takes(model_type: &dyn ModelType, name: &str) -> bool {
    model_type.options().iter().any(|o| o.answers_to(name))
}

/// The same columns, texts as dictionaries: rows are kept in a fraction of the memory, and read faster.
fn compact(schema: &Schema) -> SchemaRef {
    let is_text = |t: &DataType| matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let fields = schema.fields().iter().map(|field| {
        if !is_text(field.data_type()) {
            return Arc::clone(field);
        }
        let keys = DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8));
        Arc::new(field.as_ref().clone().with_data_type(keys))
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Every option that a statement may give a model of some type.
pub(crate) fn statement_options() -> Vec<OptionSpec> {
    let of_types = MODELS.iter().flat_map(|m| m.options());
    [MODEL_TYPE, TRANSFORM]
        .iter()
        .chain(SPLIT_OPTIONS)
        .chain(TUNING_OPTIONS)
        .chain(of_types)
        .copied()
        .collect()
}

#[derive(Debug)]
struct TrainRelation {
    session: Arc<Session>,
    name: String,
    model_type: &'static dyn ModelType,
    options: Options,
    roles: Roles,
    split: Option<Split>,
    folds: Option<usize>,
    tuning: Option<Tuning>,
    source: Source,
    /// What the user should know of the request.
    notices: Vec<String>,
}

impl TrainRelation {
    /// The stored model to go on from, if that is asked for.
    async fn start(&self) -> Result<Option<Arc<dyn Model>>> {
        if !self.options.bool(WARM_START, false) {
            return Ok(None);
        }
        let store = self.session.store(&self.session.settings())?;
        if store.latest_version(&self.name).await?.is_none() {
            return Err(Error::request(format!(
                "{NAME}: warm_start goes on from the stored model '{}', and there is none; train it first without warm_start",
                self.name
            )));
        }
        let model = store.load(&self.name, None).await?.model;
        if model.model_type() != self.model_type.name() {
            return Err(Error::request(format!(
                "{NAME}: warm_start goes on from the stored model '{}', which is a {} and not a {}; leave warm_start out",
                self.name,
                model.model_type(),
                self.model_type.name()
            )));
        }
        Ok(Some(model))
    }
}

/// Of each column that the user did not choose and that no model learns from, that it is left out.
fn left_out(model_type: &dyn ModelType, columns: &Schema, options: &Options) -> Vec<String> {
    let takes_all =
        model_type.options().iter().any(|o| o.name == FEATURES.name) && options.texts(FEATURES.name).is_none();
    let ids = options.texts(ID.name).unwrap_or_default();
    let unfit = columns
        .fields()
        .iter()
        .filter(|f| takes_all && FeatureKind::of(f.data_type()).is_none() && !ids.contains(&f.name().as_str()));
    unfit
        .map(|f| {
            format!(
                "column '{}' of type {} cannot be a feature and was left out; cast it to {FEATURE_TYPES}",
                f.name(),
                f.data_type()
            )
        })
        .collect()
}

#[async_trait]
impl OverQuery for TrainRelation {
    fn schema(&self) -> SchemaRef {
        training_info_schema()
    }

    async fn plan(&self, state: &dyn CatalogSession, wanted: &[usize]) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let all = training_info_schema();
        let (kept, roles) = match &self.source.transform {
            // Everything that TRANSFORM reads is kept, and what it makes plays the parts.
            Some(_) => ((0..self.source.columns.fields().len()).collect(), self.roles.clone()),
            None => {
                let mut kept = used_columns(&self.roles);
                kept.extend(self.split.and_then(|s| s.column()));
                kept.sort_unstable();
                kept.dedup();
                let roles = renumber(&self.roles, &kept);
                (kept, roles)
            }
        };
        let input = state
            .create_physical_plan(&keep_columns(self.source.plan.clone(), &kept)?)
            .await?;
        let job = FitJob {
            session: Arc::clone(&self.session),
            model_type: self.model_type,
            options: self.model_type.stored_fit_options(&self.options),
            roles,
            schema: match &self.source.transform {
                // Its expressions are planned over the types of the query.
                Some(_) => project(&self.source.columns, &kept),
                None => compact(&project(&self.source.columns, &kept)),
            },
            split: self
                .split
                .map(|s| s.at(|column| kept.iter().position(|k| *k == column).unwrap_or(column))),
            transform: self.source.transform.clone(),
            folds: self.folds,
            tuning: self.tuning.clone(),
            judge: true,
            start: self.start().await?,
            notices: self.notices.clone(),
        };
        let schema = project(&all, wanted);
        let output = TrainOutput {
            model: self.name.clone(),
            options: self.options.clone(),
            columns: wanted.to_vec(),
        };
        Ok(Arc::new(OperationExec::new(
            input,
            Arc::new(Fit::new(job, Arc::new(output), schema)),
        )))
    }
}
