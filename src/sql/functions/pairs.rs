//! `FROM ML.RECOMMEND('model' [, (query)])`: what a factorization says of pairs of users and items, BigQuery ML's way.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::catalog::Session as CatalogSession;
use datafusion::common::Result as DataFusionResult;
use datafusion::datasource::{MemTable, TableProvider, TableType};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::ExecutionPlan;

use super::RelationFunction;
use super::inputs::ModelInputs;
use super::rows::answer_rows;
use crate::error::{Error, Result, list};
use crate::exec::{PairColumn, PairsExec, PairsJob};
use crate::models::{Given, PairOptions, Recommender, column_index};
use crate::options::{OptionKind, OptionSpec, Options};
use crate::sql::arguments::Arguments;
use crate::sql::help::{Form, Topic};
use crate::sql::relation::{PlanContext, check_new_columns, columns_of, scan};
use crate::store::LoadedModel;

const NAME: &str = "ML.RECOMMEND";

/// Users of a model that are read at a time where no query says which: few, so that several partitions share them.
const USERS_AT_ONCE: usize = 256;

static OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "top_k",
        aliases: &["n"],
        kind: OptionKind::Int { min: 1, max: i64::MAX },
        default: "all",
        help: "So many items for each user, the best first (or users for each item).",
    },
    OptionSpec {
        name: "exclude_seen",
        aliases: &[],
        kind: OptionKind::Bool,
        default: "false",
        help: "Whether pairs that the model was trained on are left out.",
    },
];

/// `ML.RECOMMEND`.
pub(crate) struct Recommendations;

impl RelationFunction for Recommendations {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, mut arguments: Arguments, context: &PlanContext) -> Result<LogicalPlan> {
        let (name, input) = match arguments.positional_count() {
            1 => (arguments.one_model()?, None),
            _ => {
                let (name, input) = arguments.model_and_query()?;
                (name, Some(input))
            }
        };
        let loaded = context.session.model(&context.settings, &name)?;
        let options = Options::parse(NAME, OPTIONS, arguments.named)?;
        let pair_options = PairOptions {
            top_k: options.get("top_k").map(|_| options.int("top_k", 1).max(1) as usize),
            exclude_seen: options.bool("exclude_seen", false),
        };
        let Some(recommender) = loaded.model.recommender() else {
            return Err(Error::request(format!(
                "{NAME} says nothing of model '{name}', which is a {}; it takes a factorization",
                loaded.model.model_type()
            )));
        };
        let (user, item) = (recommender.user_field(), recommender.item_field());
        let Some(input) = input else {
            return plan_partners(all_users(recommender)?, 0, Given::User, &loaded, pair_options);
        };
        let columns = columns_of(NAME, &input)?;
        let position = |field: &FieldRef| match has_column(&columns, field.name()) {
            true => column_index(NAME, &columns, field.name()).map(Some),
            false => Ok(None),
        };
        match (position(&user)?, position(&item)?) {
            (Some(user), Some(item)) if options.iter().next().is_none() => plan_given(input, user, item, &loaded),
            (Some(_), Some(_)) => Err(Error::request(format!(
                "{NAME}: the query gives both '{}' and '{}', so there is nothing to choose from; leave top_k and exclude_seen out, or one of \
                 the columns",
                user.name(),
                item.name()
            ))),
            (Some(id), None) => plan_partners(input, id, Given::User, &loaded, pair_options),
            (None, Some(id)) => plan_partners(input, id, Given::Item, &loaded, pair_options),
            (None, None) => Err(Error::request(format!(
                "{NAME}: the query has neither the user column '{}' nor the item column '{}' of model '{name}'; it has {}",
                user.name(),
                item.name(),
                list(columns.fields().iter().map(|f| f.name()), 20)
            ))),
        }
    }

    fn topics(&self) -> Vec<Topic> {
        vec![Topic {
            name: NAME.into(),
            form: Form::Model,
            syntax: "FROM ML.RECOMMEND('model' [, (query)] [, top_k => 10] [, exclude_seen => true])".into(),
            summary: "What a stored factorization predicts for pairs of users and items: those of the query, or where it has users alone each \
                      with every item, where it has items alone each with every user, and without a query all pairs. Of strangers explicit \
                      feedback says the mean rating with the bias of whichever is known, implicit feedback NULL."
                .into(),
            options: OPTIONS.to_vec(),
            example: "SELECT * FROM ML.RECOMMEND('taste', (SELECT customer_id FROM customers), top_k => 5, exclude_seen => true)".into(),
        }]
    }
}

fn has_column(columns: &Schema, name: &str) -> bool {
    columns.fields().iter().any(|f| f.name().eq_ignore_ascii_case(name))
}

/// The users of a model as a relation.
fn all_users(recommender: &dyn Recommender) -> Result<LogicalPlan> {
    let users = recommender.users();
    let field = recommender.user_field();
    let schema = Arc::new(Schema::new(vec![field]));
    let batches = (0..users.len())
        .step_by(USERS_AT_ONCE)
        .map(|at| {
            let some = users.slice(at, USERS_AT_ONCE.min(users.len() - at));
            Ok(RecordBatch::try_new(Arc::clone(&schema), vec![some])?)
        })
        .collect::<Result<Vec<_>>>()?;
    scan(NAME, Arc::new(MemTable::try_new(schema, vec![batches])?))
}

/// Each row of `input` as a pair: the user, the item, the prediction, the other columns.
fn plan_given(input: LogicalPlan, user: usize, item: usize, loaded: &Arc<LoadedModel>) -> Result<LogicalPlan> {
    const WORD: &str = "PREDICT";
    let inputs = ModelInputs::of(NAME, loaded, input)?;
    let added = loaded.model.predict_fields();
    check_new_columns(NAME, &inputs.columns, &added)?;
    let width = inputs.columns.fields().len();
    let plan = answer_rows(WORD, loaded, inputs, &added, &Options::default())?;
    // The answer stands before the query's columns.
    let first = [added.len() + user, added.len() + item, 0];
    let others = (0..width).filter(|i| *i != user && *i != item).map(|i| added.len() + i);
    let columns: Vec<Expr> = first
        .into_iter()
        .chain(others)
        .map(|i| Expr::Column(plan.schema().qualified_field(i).into()))
        .collect();
    Ok(LogicalPlanBuilder::from(plan)
        .project(columns)?
        .alias("recommend")?
        .build()?)
}

/// Each row of `input` with every value of the other side.
fn plan_partners(
    input: LogicalPlan,
    id: usize,
    given: Given,
    loaded: &Arc<LoadedModel>,
    options: PairOptions,
) -> Result<LogicalPlan> {
    let columns = columns_of(NAME, &input)?;
    let Some(recommender) = loaded.model.recommender() else {
        return Err(Error::request(format!("{NAME}: the model ranks no items")));
    };
    let partner = match given {
        Given::User => recommender.item_field(),
        Given::Item => recommender.user_field(),
    };
    let score = loaded.model.predict_fields().swap_remove(0);
    let id_field = columns.field(id);
    let identifies = match id_field.data_type() {
        DataType::Dictionary(_, value) => value.is_integer() || value.is_string(),
        other => other.is_integer() || other.is_string() || other.is_null(),
    };
    if !identifies {
        return Err(Error::request(format!(
            "{NAME}: column '{}' of type {} cannot identify anything; cast it to an integer or text",
            id_field.name(),
            id_field.data_type()
        )));
    }
    check_new_columns(NAME, &columns, &[Arc::clone(&partner), Arc::clone(&score)])?;
    let id_column = (Arc::clone(&columns.fields()[id]), PairColumn::Input(id));
    let partner = (partner, PairColumn::Partner);
    let mut output = match given {
        Given::User => vec![id_column, partner],
        Given::Item => vec![partner, id_column],
    };
    output.push((score, PairColumn::Score));
    let others = (0..columns.fields().len()).filter(|i| *i != id);
    output.extend(others.map(|i| (Arc::clone(&columns.fields()[i]), PairColumn::Input(i))));
    let (fields, columns): (Vec<FieldRef>, Vec<PairColumn>) = output.into_iter().unzip();
    let job = PairsJob {
        loaded: Arc::clone(loaded),
        given,
        options,
        id,
        columns,
        schema: Arc::new(Schema::new(fields)),
    };
    scan(NAME, Arc::new(PairsTable { input, job }))
}

#[derive(Debug)]
struct PairsTable {
    input: LogicalPlan,
    job: PairsJob,
}

#[async_trait]
impl TableProvider for PairsTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.job.schema)
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
        let input = state.create_physical_plan(&self.input).await?;
        let mut job = self.job.clone();
        if let Some(kept) = projection {
            job.schema = Arc::new(job.schema.project(kept)?);
            job.columns = kept.iter().map(|i| self.job.columns[*i]).collect();
        }
        Ok(Arc::new(PairsExec::new(input, job)))
    }
}
