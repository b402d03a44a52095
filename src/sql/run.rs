//! Runs texts with several statements, those of BigQuery ML among them: each is lowered onto a function, or done at once.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::common::DataFusionError;
use datafusion::common::config::Dialect;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{DataFrame, SessionContext};
use futures::stream::{self, BoxStream, StreamExt};

use super::dialect::is_model_type;
use super::faults::{placed, pointed, shown};
use super::help::{Form, Topic};
use super::respell;
use super::statement::{
    AlterModel, CreateModel, DescribeModel, DropModel, ExportModel, ModelRef, Sql, Statement, SyntaxError, Variables,
    parse_after,
};
use crate::error::{Error, Result, list};
use crate::models::MODELS;
use crate::session::Session;

/// The help on each statement, in the order in which help lists them.
pub(crate) fn topics() -> Vec<Topic> {
    let topic = |name: &str, syntax: &str, summary: &str, example: &str| Topic {
        name: name.into(),
        form: Form::Statement,
        syntax: syntax.into(),
        summary: summary.into(),
        options: vec![],
        example: example.into(),
    };
    let without: Vec<&str> = WITHOUT_EFFECT.iter().map(|(name, _)| *name).collect();
    vec![
        topic(
            "CREATE MODEL",
            "CREATE [OR REPLACE] MODEL [IF NOT EXISTS] name [TRANSFORM (select list)] OPTIONS (model_type = '…', option = value, …) AS query",
            &format!(
                "Trains a model and stores it, as ML.TRAIN does, and gives its training information. The options are those of the model \
                 type's verb, by either of their names. What TRANSFORM makes of the query is learned from, and is made again at \
                 prediction. A logistic regression has no penalty unless l2_reg says so, and k-means stops early, after at most 20 passes. \
                 Taken without effect where the model type has no such option: {}.",
                without.join(", ")
            ),
            "CREATE OR REPLACE MODEL churn OPTIONS (model_type = 'logistic_reg', input_label_cols = ['churned']) AS SELECT * FROM customers",
        ),
        topic(
            "ALTER MODEL",
            "ALTER MODEL [IF EXISTS] name SET OPTIONS (description = '…', friendly_name = '…', labels = […])",
            "Sets what DESCRIBE MODEL says of a model; stores that as a new version.",
            "ALTER MODEL churn SET OPTIONS (description = 'who leaves, weekly')",
        ),
        topic(
            "DROP MODEL",
            "DROP MODEL [IF EXISTS] name",
            "Removes a model with all its versions, or one version: DROP MODEL name@1.",
            "DROP MODEL IF EXISTS churn",
        ),
        topic(
            "EXPORT MODEL",
            "EXPORT MODEL name OPTIONS (uri = '…' [, trial_id = 3])",
            "Copies a model to another store: a folder, or an s3://, gs:// or az:// URL. Of a search: with the models of all trials, or as a \
             model of its own that of one trial.",
            "EXPORT MODEL churn OPTIONS (uri = '/tmp/models')",
        ),
        topic(
            "SHOW MODELS",
            "SHOW MODELS [LIKE 'pattern']",
            "The models in ml.store: the rows of ml.models.",
            "SHOW MODELS LIKE 'churn%'",
        ),
        topic(
            "DESCRIBE MODEL",
            "DESCRIBE MODEL name",
            "What a stored model says of itself: version, features, options, notices.",
            "DESCRIBE MODEL churn",
        ),
        topic(
            "DECLARE",
            "DECLARE name [, …] [type] [DEFAULT value]; SET name = value",
            "Variables of a script, where datafusion.sql_parser.dialect is 'bigquery': later statements get the value in the name's place.",
            "DECLARE segments INT64 DEFAULT 4",
        ),
    ]
}

/// Options of BigQuery ML that change nothing here, and why: they are taken, and said to be without effect, for model types that have
/// no such option of their own.
pub(crate) const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("model_registry", "models are kept in ml.store"),
    ("vertex_ai_model_id", "models are kept in ml.store"),
    ("vertex_ai_model_version_aliases", "models are kept in ml.store"),
    ("kms_key_name", "the store's own encryption applies"),
    ("enable_global_explain", "ML.GLOBAL_EXPLAIN always has it"),
    ("max_iterations", "fits run to the optimum"),
    ("optimize_strategy", "fits run to the optimum"),
    ("learn_rate_strategy", "fits run to the optimum"),
    ("learn_rate", "fits run to the optimum"),
    ("ls_init_learn_rate", "fits run to the optimum"),
    ("early_stop", "fits run to the optimum"),
    ("warm_start", "fits run to the optimum"),
    ("min_rel_progress", "fits run to the optimum"),
    (
        "calculate_p_values",
        "ML.ADVANCED_WEIGHTS has them of every fit without a penalty",
    ),
];

/// The statements of a text, run one after another: the result of each, when it is asked for. Takes all of DataFusion's SQL,
/// `CREATE [OR REPLACE] MODEL`, `DROP MODEL`, `EXPORT MODEL`, `SHOW MODELS`, `DESCRIBE MODEL`, and `MODEL m` and `TABLE t` as arguments
/// of functions; GoogleSQL's spelling where `datafusion.sql_parser.dialect` is `bigquery`.
///
/// A model statement has run when its result comes; a query runs when its frame is collected. The stream ends with the first error.
///
/// # Errors
/// The text cannot be read; the error shows the line and points at the fault. Nothing has run then.
pub fn sql(
    ctx: &SessionContext,
    text: &str,
) -> Result<BoxStream<'static, Result<DataFrame, DataFusionError>>, DataFusionError> {
    let statements = read(ctx, text, &mut Variables::default()).map_err(|e| shown(pointed(text, &e), text))?;
    let ctx = ctx.clone();
    let begin = statements.into_iter();
    let text: Arc<str> = text.into();
    Ok(
        stream::try_unfold((ctx, begin, text), |(ctx, mut left, text)| async move {
            let Some(statement) = left.next() else {
                return Ok(None);
            };
            // DataFusion's own places are in a statement as it was given.
            let is_verbatim = matches!(&statement, Statement::Plain(sql) if sql.is_verbatim());
            let frame = match run(&ctx, statement, &text).await {
                Err(e) if !is_verbatim => return Err(shown(e, &text)),
                other => other?,
            };
            Ok(Some((frame, (ctx, left, text))))
        })
        .boxed(),
    )
}

/// The statements of a text, in the spelling that the context's settings say, with the variables of the texts before it.
pub(crate) fn read(ctx: &SessionContext, text: &str, variables: &mut Variables) -> Result<Vec<Statement>, SyntaxError> {
    let state = ctx.state_ref();
    let bigquery = state.read().config_options().sql_parser.dialect == Dialect::BigQuery;
    parse_after(text, bigquery, variables)
}

/// The plan of a statement of `text` that is DataFusion's own.
pub(crate) async fn plan_sql(ctx: &SessionContext, sql: &Sql, text: &str) -> Result<LogicalPlan, DataFusionError> {
    plan(ctx, &sql.text).await.map_err(|e| placed(e, sql, text))
}

/// The plan of SQL as [`parse_after`] writes it: in the generic dialect where the session's is BigQuery's, else as the session has it.
async fn plan(ctx: &SessionContext, sql: &str) -> Result<LogicalPlan, DataFusionError> {
    let state = ctx.state();
    let dialect = state.config_options().sql_parser.dialect;
    if dialect == Dialect::BigQuery {
        return respell::plan(ctx, state, sql).await;
    }
    let statement = state.sql_to_statement(sql, &dialect)?;
    state.statement_to_plan(statement).await
}

/// Runs a statement of `text`; a query is only planned.
pub(crate) async fn run(ctx: &SessionContext, statement: Statement, text: &str) -> Result<DataFrame, DataFusionError> {
    match statement {
        Statement::Plain(sql) => {
            let plan = plan_sql(ctx, &sql, text).await?;
            ctx.execute_logical_plan(plan).await
        }
        Statement::ShowModels(show) => {
            let plan = plan(ctx, &show.function_form().text).await?;
            ctx.execute_logical_plan(plan).await
        }
        Statement::CreateModel(create) => create_model(ctx, create, text).await,
        Statement::DropModel(drop) => drop_model(ctx, &drop).await,
        Statement::DescribeModel(describe) => describe_model(ctx, &describe).await,
        Statement::ExportModel(export) => export_model(ctx, &export).await,
        Statement::AlterModel(alter) => alter_model(ctx, &alter).await,
    }
}

fn session(ctx: &SessionContext) -> Result<(Arc<Session>, crate::settings::Settings)> {
    let session = Session::of(ctx)
        .ok_or_else(|| Error::request("call register_all on this context before it runs statements about models"))?;
    let settings = session.settings();
    Ok((session, settings))
}

/// A model's name and the version that is meant, if one is.
fn named(model: &ModelRef) -> Result<(String, Option<u64>)> {
    let text = model.text();
    let (name, version) = crate::session::split_version(&text)?;
    Ok((name.to_string(), version))
}

/// A result of one row.
fn answer(ctx: &SessionContext, columns: Vec<(&str, ArrayRef)>) -> Result<DataFrame, DataFusionError> {
    let batch = RecordBatch::try_from_iter(columns)?;
    ctx.read_table(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
}

fn text(value: impl Into<String>) -> ArrayRef {
    Arc::new(StringArray::from(vec![value.into()]))
}

/// An error of ML.TRAIN under the name of the statement that the user wrote.
fn as_statement(error: DataFusionError) -> DataFusionError {
    match error {
        DataFusionError::Plan(message) => match message.strip_prefix("ML.TRAIN") {
            Some(rest) => DataFusionError::Plan(format!("CREATE MODEL{rest}")),
            None => DataFusionError::Plan(message),
        },
        other => other,
    }
}

async fn create_model(
    ctx: &SessionContext,
    mut create: CreateModel,
    statement: &str,
) -> Result<DataFrame, DataFusionError> {
    let (session, settings) = session(ctx)?;
    let name = create.model.text();
    if !create.or_replace && session.store(&settings)?.latest_version(&name).await?.is_some() {
        if create.if_not_exists {
            return answer(
                ctx,
                vec![(
                    "notice",
                    text(format!("model '{name}' exists already; nothing was trained")),
                )],
            );
        }
        return Err(Error::request(format!(
            "model '{name}' exists already; write CREATE OR REPLACE MODEL for a new version of it"
        ))
        .into());
    }
    let given_type = create.option("model_type");
    if let Some(option) = given_type.filter(|o| o.value.text().is_none()) {
        let message = "the option model_type takes a model type in quotes, such as 'kmeans'";
        let fault = SyntaxError::new(option.value_span, message);
        return Err(pointed(statement, &fault));
    }
    let Some(kind) = given_type.and_then(|o| o.value.text()) else {
        return Err(Error::request(format!(
            "CREATE MODEL {name} needs the option model_type, one of {}; write OPTIONS (model_type = 'kmeans', …)",
            list(MODELS.iter().map(|m| m.name()), 20)
        ))
        .into());
    };
    let kind = match crate::models::model_type(&kind) {
        Err(_) if is_model_type(&kind) => {
            return Err(Error::request(format!(
                "{} is a model type of BigQuery ML that is not here; the model types are {}",
                kind.to_uppercase(),
                list(MODELS.iter().map(|m| m.name()), 20)
            ))
            .into());
        }
        found => found?,
    };
    let observer = session.observer();
    create.options.retain(|option| {
        let is_own = kind.options().iter().any(|own| own.answers_to(&option.name));
        let without = WITHOUT_EFFECT
            .iter()
            .find(|(name, _)| !is_own && option.name.eq_ignore_ascii_case(name));
        if let Some((name, why)) = without {
            observer.notice(&format!("option {name} has no effect here: {why}"));
        }
        without.is_none()
    });
    // BigQuery ML's defaults where they are not those of the verbs.
    let given = |option: &str| {
        let spec = kind.options().iter().find(|spec| spec.name == option)?;
        create.options.iter().find(|o| spec.answers_to(&o.name))
    };
    let text_of = |option: &str| given(option).and_then(|o| o.value.text());
    let mut defaults: Vec<(&str, &str)> = kind
        .statement_defaults()
        .iter()
        .copied()
        .filter(|(option, _)| given(option).is_none() && kind.statement_default_applies(option, &text_of))
        .collect();
    let splits = ["data_split_method", "cross_validate"]
        .iter()
        .any(|o| create.option(o).is_some());
    if !splits && kind.options().iter().any(|o| o.name == "label") {
        defaults.push(("data_split_method", "'auto_split'"));
    }
    let form = create.function_form(&defaults);
    let plan = plan_sql(ctx, &form, statement).await.map_err(as_statement)?;
    let batches = ctx.execute_logical_plan(plan).await?.collect().await?;
    let schema = crate::exec::training_info_schema();
    ctx.read_table(Arc::new(MemTable::try_new(schema, vec![batches])?))
}

/// What ALTER MODEL sets, which says something of a model and changes nothing about it.
const PROPERTIES: [&str; 3] = ["description", "friendly_name", "labels"];

/// Stores the newest version once more, with other properties: a version never changes.
async fn alter_model(ctx: &SessionContext, alter: &AlterModel) -> Result<DataFrame, DataFusionError> {
    let (session, settings) = session(ctx)?;
    let store = session.store(&settings)?;
    let (name, version) = named(&alter.model)?;
    if version.is_some() {
        return Err(Error::request(format!(
            "ALTER MODEL makes a new version of '{name}' from its newest; write it without @"
        ))
        .into());
    }
    if alter.if_exists && store.latest_version(&name).await?.is_none() {
        return answer(
            ctx,
            vec![(
                "notice",
                text(format!("there is no model '{name}'; nothing was changed")),
            )],
        );
    }
    let loaded = store.load(&name, None).await?;
    let manifest = &loaded.manifest;
    let mut training = manifest.training.clone();
    for option in &alter.options {
        let known = PROPERTIES.iter().find(|p| option.name.eq_ignore_ascii_case(p));
        let Some(property) = known else {
            return Err(Error::request(format!(
                "ALTER MODEL cannot set '{}', it sets {}; to change how a model is trained write CREATE OR REPLACE MODEL",
                option.name,
                list(PROPERTIES, 5)
            ))
            .into());
        };
        let value = option.value.text().unwrap_or_else(|| option.value.sql());
        training.properties.insert((*property).into(), value);
    }
    let trials = store.trials_of(&loaded).await?;
    let version = store
        .save_search(&name, loaded.model.as_ref(), &manifest.options, &training, trials)
        .await?;
    answer(
        ctx,
        vec![
            ("model", text(name)),
            ("version", Arc::new(Int64Array::from(vec![version as i64]))),
        ],
    )
}

async fn drop_model(ctx: &SessionContext, drop: &DropModel) -> Result<DataFrame, DataFusionError> {
    let (session, settings) = session(ctx)?;
    let (name, version) = named(&drop.model)?;
    let removed = session.store(&settings)?.remove(&name, version).await?;
    if removed == 0 && !drop.if_exists {
        // Says what there is.
        session.store(&settings)?.load(&name, version).await?;
    }
    answer(
        ctx,
        vec![
            ("model", text(name)),
            ("removed_versions", Arc::new(Int64Array::from(vec![removed as i64]))),
        ],
    )
}

async fn export_model(ctx: &SessionContext, export: &ExportModel) -> Result<DataFrame, DataFusionError> {
    let (session, settings) = session(ctx)?;
    let (name, version) = named(&export.model)?;
    let store = session.store(&settings)?;
    let trial = exported_trial(export)?;
    let loaded = store.load_trial(&name, version, trial).await?;
    let elsewhere = crate::settings::Settings {
        store: export.uri.clone(),
        ..settings
    };
    let manifest = &loaded.manifest;
    let mut training = manifest.training.clone();
    let trials = match trial {
        // A model like one that no search gave.
        Some(_) => {
            training.trials.clear();
            Arc::default()
        }
        None => store.trials_of(&loaded).await?,
    };
    let version = session
        .store(&elsewhere)?
        .save_search(&name, loaded.model.as_ref(), &manifest.options, &training, trials)
        .await?;
    answer(
        ctx,
        vec![
            ("model", text(name)),
            ("uri", text(export.uri.clone())),
            ("version", Arc::new(Int64Array::from(vec![version as i64]))),
        ],
    )
}

/// The trial whose model is to be exported, if one is named.
fn exported_trial(export: &ExportModel) -> Result<Option<u64>, DataFusionError> {
    let named = export.options.iter().find(|o| o.name.eq_ignore_ascii_case("trial_id"));
    let Some(option) = named else {
        return Ok(None);
    };
    match option.value.sql().parse() {
        Ok(id) => Ok(Some(id)),
        Err(_) => Err(Error::request(format!(
            "EXPORT MODEL: option 'trial_id' takes the number of a trial, from 1, not {}; ML.TRIAL_INFO lists them",
            option.value.sql()
        ))
        .into()),
    }
}

/// What a model's manifest says, a row for each property.
async fn describe_model(ctx: &SessionContext, describe: &DescribeModel) -> Result<DataFrame, DataFusionError> {
    let (session, settings) = session(ctx)?;
    let store = session.store(&settings)?;
    let (name, version) = named(&describe.model)?;
    let loaded = store.load(&name, version).await?;
    let m = &loaded.manifest;
    let mut rows = vec![
        ("name".to_string(), m.name.clone()),
        ("version".into(), m.version.to_string()),
        ("model_type".into(), m.model_type.clone()),
        ("created_at".into(), m.created_at.to_rfc3339()),
        ("row_count".into(), m.training.row_count.to_string()),
    ];
    rows.extend(
        m.features
            .iter()
            .map(|f| (format!("feature {}", f.name), f.data_type.clone())),
    );
    rows.extend(
        m.options
            .iter()
            .map(|(name, value)| (format!("option {name}"), value.to_string())),
    );
    if let Some(best) = m.trial() {
        let kept: Vec<String> = m.trial_ids().iter().map(u64::to_string).collect();
        rows.push(("optimal trial".into(), best.to_string()));
        rows.push(("trials with a model".into(), kept.join(", ")));
    }
    rows.extend(m.training.properties.clone());
    rows.extend(m.training.notices.iter().map(|n| ("notice".to_string(), n.clone())));
    let (properties, values): (Vec<String>, Vec<String>) = rows.into_iter().unzip();
    answer(
        ctx,
        vec![
            ("property", Arc::new(StringArray::from(properties))),
            ("value", Arc::new(StringArray::from(values))),
        ],
    )
}
