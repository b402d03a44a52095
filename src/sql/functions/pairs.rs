//! `FROM ML.RECOMMEND('model' [, (query)])`: what a factorization says of pairs of users and items, BigQuery ML's way.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::catalog::Session as CatalogSession;
use datafusion::common::Result as DataFusionResult;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::ExecutionPlan;

use super::RelationFunction;
use super::inputs::ModelInputs;
use super::rows::answer_rows;
use super::trials::{self, TRIAL_ID};
use crate::error::{Error, Result, list};
use crate::exec::{OperationExec, PairColumn, PairsJob};
use crate::models::{Given, PairOptions, Recommender, column_index};
use crate::options::{OptionKind, OptionSpec, Options};
use crate::sql::arguments::Arguments;
use crate::sql::functions::table::{OverQuery, scan_of};
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

    fn plan(&self, mut arguments: Arguments, context: &mut PlanContext<'_>) -> Result<LogicalPlan> {
        let trial = trials::take(&mut arguments)?;
        let (name, input) = match arguments.positional_count() {
            1 => (arguments.one_model()?, None),
            _ => {
                let (name, input) = arguments.model_and_query()?;
                (name, Some(input))
            }
        };
        let loaded = context.session.trial_model(&context.settings, &name, trial)?;
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
            (Some(user), Some(item)) if options.iter().next().is_none() => {
                plan_given(input, (user, item), &loaded, context)
            }
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
            syntax: "FROM ML.RECOMMEND('model' [, (query)] [, top_k => 10] [, exclude_seen => true] [, trial_id => 3])".into(),
            summary: "What a stored factorization predicts for pairs of users and items: those of the query, or where it has users alone each \
                      with every item, where it has items alone each with every user, and without a query all pairs. Of strangers explicit \
                      feedback says the mean rating with the bias of whichever is known, implicit feedback NULL."
                .into(),
            options: [OPTIONS, &[TRIAL_ID]].concat(),
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
fn plan_given(
    input: LogicalPlan,
    (user, item): (usize, usize),
    loaded: &Arc<LoadedModel>,
    context: &mut PlanContext<'_>,
) -> Result<LogicalPlan> {
    const WORD: &str = "PREDICT";
    let inputs = ModelInputs::of(NAME, loaded, input, context)?;
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
    scan_of(NAME, PairsRelation { input, job })
}

#[derive(Debug)]
struct PairsRelation {
    input: LogicalPlan,
    job: PairsJob,
}

#[async_trait]
impl OverQuery for PairsRelation {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.job.schema)
    }

    async fn plan(&self, state: &dyn CatalogSession, wanted: &[usize]) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let input = state.create_physical_plan(&self.input).await?;
        let mut job = self.job.clone();
        job.schema = Arc::new(job.schema.project(wanted)?);
        job.columns = wanted.iter().map(|i| self.job.columns[*i]).collect();
        Ok(Arc::new(OperationExec::new(input, Arc::new(job))))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::prelude::{SessionConfig, SessionContext};
    use futures::StreamExt;

    /// Runs a script in BigQuery's spelling; gives the last statement's result as text.
    async fn run(ctx: &SessionContext, script: &str) -> Result<String, String> {
        let mut frames = crate::sql::sql(ctx, script).map_err(|e| e.to_string())?;
        let mut last = String::new();
        while let Some(frame) = frames.next().await {
            let batches = frame.map_err(|e| e.to_string())?.collect().await;
            let batches = batches.map_err(|e| e.to_string())?;
            last = pretty_format_batches(&batches).map_err(|e| e.to_string())?.to_string();
        }
        Ok(last)
    }

    async fn context() -> SessionContext {
        // Small batches, so that the pairs of one user are several.
        let mut config = SessionConfig::new().with_target_partitions(3).with_batch_size(7);
        config
            .options_mut()
            .set("datafusion.sql_parser.dialect", "bigquery")
            .unwrap();
        let ctx = SessionContext::new_with_config(config);
        crate::register_all(&ctx).unwrap();
        let stars = "CREATE TABLE stars AS SELECT u AS `user`, i AS item, 3 + sin(u) + cos(i * 2) AS rating, u + i AS place \
                     FROM generate_series(1, 30) AS users(u), generate_series(1, 20) AS items(i) WHERE MOD(u + i, 3) > 0";
        run(&ctx, stars).await.unwrap();
        ctx
    }

    #[tokio::test]
    async fn create_model_has_the_defaults_of_bigquery() {
        let ctx = context().await;
        let create = "CREATE OR REPLACE MODEL m.stars OPTIONS (model_type = 'matrix_factorization'";
        run(&ctx, &format!("{create}) AS SELECT `user`, item, rating FROM stars"))
            .await
            .unwrap();
        let told = run(&ctx, "DESCRIBE MODEL m.stars").await.unwrap();
        for option in ["feedback_type", "user", "item", "rating"] {
            assert!(told.contains(&format!("option {option} ")), "{told}");
        }
        assert!(told.contains("'explicit'") && !told.contains("option alpha"), "{told}");
        let passes = run(
            &ctx,
            "SELECT count(*) AS n, count(loss) AS l FROM ML.TRAINING_INFO(MODEL m.stars)",
        )
        .await;
        assert!(passes.unwrap().contains("| 20 | 20 |"));
        // 400 rows: log2 is 8.6.
        let width = "SELECT max(array_length(factor_weights)) AS n FROM ML.WEIGHTS(MODEL m.stars)";
        let width = run(&ctx, width).await.unwrap();
        assert!(width.contains("| 9 |"), "{width}");
        let implicit = format!("{create}, feedback_type = 'implicit') AS SELECT `user`, item, rating FROM stars");
        run(&ctx, &implicit).await.unwrap();
        let told = run(&ctx, "DESCRIBE MODEL m.stars").await.unwrap();
        let words = told.split_whitespace().collect::<Vec<_>>().join(" ");
        for option in [
            "alpha | 40 |",
            "unobserved_weight | 1 |",
            "frequency_exponent | 0 |",
            "l2 | 1 |",
        ] {
            assert!(words.contains(&format!("option {option}")), "{told}");
        }
        run(
            &ctx,
            &format!("{create}, feedback_type = 'implicit', method = 'ease') AS SELECT `user`, item FROM stars"),
        )
        .await
        .unwrap_err();
        run(
            &ctx,
            &format!("{create}, method = 'ease') AS SELECT `user`, item, rating FROM stars"),
        )
        .await
        .unwrap();
        let error = run(&ctx, &format!("{create}) AS SELECT `user`, item FROM stars"))
            .await
            .unwrap_err();
        assert!(error.contains("no column 'rating'"), "{error}");
    }

    #[tokio::test]
    async fn pairs_come_in_small_batches_whatever_the_partitions() {
        let ctx = context().await;
        let create = "CREATE MODEL m.pairs OPTIONS (model_type = 'matrix_factorization', data_split_method = 'seq', data_split_col = 'place') AS \
                      SELECT `user`, item, rating, place FROM stars";
        run(&ctx, create).await.unwrap();
        let frame = ctx.sql("SELECT * FROM ML.RECOMMEND('m.pairs')").await.unwrap();
        let batches = frame.collect().await.unwrap();
        assert!(batches.iter().all(|b| (1..=7).contains(&b.num_rows())));
        assert_eq!(batches.iter().map(|b| b.num_rows()).sum::<usize>(), 600);
        let names: Vec<_> = batches[0].schema().fields().iter().map(|f| f.name().clone()).collect();
        assert_eq!(names, ["user", "item", "predicted_rating"]);
        let users = "SELECT count(*) AS n, count(DISTINCT `user`) AS u FROM ML.RECOMMEND(MODEL m.pairs, (SELECT DISTINCT item FROM stars), \
                     STRUCT(4 AS top_k, TRUE AS exclude_seen))";
        let told = run(&ctx, users).await.unwrap();
        assert!(told.contains("| 80 |"), "{told}");
        // The table has both columns; its others follow.
        let frame = ctx
            .sql("SELECT * FROM ML.RECOMMEND('m.pairs', (SELECT * FROM stars))")
            .await
            .unwrap();
        let names: Vec<_> = frame.schema().fields().iter().map(|f| f.name().clone()).collect();
        assert_eq!(names, ["user", "item", "predicted_rating", "rating", "place"]);
        // Dropped half-way: nothing is left waiting.
        let mut stream = ctx
            .sql("SELECT * FROM ML.RECOMMEND('m.pairs')")
            .await
            .unwrap()
            .execute_stream()
            .await
            .unwrap();
        assert!(stream.next().await.unwrap().unwrap().num_rows() > 0);
        drop(stream);
        let held = run(&ctx, "SELECT r2_score > 0.5 AS good FROM ML.EVALUATE(MODEL m.pairs)")
            .await
            .unwrap();
        assert!(held.contains("true"), "{held}");
    }
}
