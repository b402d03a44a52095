//! The option `trial_id` of the functions that take a model: which trial's model of a search is meant.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};

use crate::error::{Error, Result};
use crate::models::field;
use crate::options::{OptionKind, OptionSpec, Value};
use crate::sql::arguments::Arguments;
use crate::sql::relation::PlanContext;
use crate::store::LoadedModel;

/// The name of the option, and of the column that tells it.
const TRIAL: &str = "trial_id";

/// The option, for functions that use one model.
pub(crate) const TRIAL_ID: OptionSpec = OptionSpec {
    name: TRIAL,
    aliases: &[],
    kind: OptionKind::Int { min: 1, max: 100 },
    default: "the optimal trial",
    help: "Of a model whose options were searched: the trial whose model is used, as ML.TRIAL_INFO numbers them.",
};

/// The option, for functions that tell of a model.
pub(crate) const TRIAL_IDS: OptionSpec = OptionSpec {
    default: "every trial",
    help: "Of a model whose options were searched: the trial whose model is told of, as ML.TRIAL_INFO numbers them.",
    ..TRIAL_ID
};

/// Takes the option out of a call's arguments.
///
/// # Errors
/// It is no whole number from 1, or given twice.
pub(crate) fn take(arguments: &mut Arguments) -> Result<Option<u64>> {
    let is_trial = |(name, _): &(String, Value)| name.eq_ignore_ascii_case(TRIAL);
    let Some(at) = arguments.named.iter().position(is_trial) else {
        return Ok(None);
    };
    let (_, value) = arguments.named.remove(at);
    let function = arguments.function;
    if arguments.named.iter().any(is_trial) {
        return Err(Error::request(format!(
            "{function}: option '{TRIAL}' is given twice; give it once"
        )));
    }
    match value {
        Value::Int(id) if id >= 1 => Ok(Some(id as u64)),
        other => Err(Error::request(format!(
            "{function}: option '{TRIAL}' takes the number of a trial, from 1, not {other}; ML.TRIAL_INFO lists them"
        ))),
    }
}

/// The model of that trial, or those of all trials; of a model whose options were not searched, the model alone.
///
/// # Errors
/// There is no such model or trial, or the trial left no model.
pub(crate) fn models(name: &str, trial: Option<u64>, context: &PlanContext<'_>) -> Result<Vec<Arc<LoadedModel>>> {
    let load = |name: &str, trial| context.session.trial_model(&context.settings, name, trial);
    if trial.is_some() {
        return Ok(vec![load(name, trial)?]);
    }
    let main = load(name, None)?;
    let best = main.manifest.trial();
    if best.is_none() {
        return Ok(vec![main]);
    }
    // Of one version, whatever is stored meanwhile.
    let version = format!("{}@{}", main.manifest.name, main.manifest.version);
    let ids = main.manifest.trial_ids();
    ids.into_iter()
        .map(|id| match Some(id) == best {
            true => Ok(Arc::clone(&main)),
            false => load(&version, Some(id)),
        })
        .collect()
}

/// The tables of models, one below the other, each with its trial in front, if they are of trials.
///
/// # Errors
/// The tables have not the same columns.
pub(crate) fn stacked(tables: Vec<(Arc<LoadedModel>, RecordBatch)>) -> Result<RecordBatch> {
    let tables = tables
        .into_iter()
        .map(|(loaded, table)| match loaded.manifest.trial() {
            Some(id) => with_trial(id, &table),
            None => Ok(table),
        })
        .collect::<Result<Vec<_>>>()?;
    let Some(first) = tables.first() else {
        return Ok(RecordBatch::new_empty(Arc::new(Schema::empty())));
    };
    Ok(concat_batches(&first.schema(), &tables)?)
}

/// A table with a trial in front.
///
/// # Errors
/// Arrow refuses.
pub(crate) fn with_trial(id: u64, table: &RecordBatch) -> Result<RecordBatch> {
    let ids: ArrayRef = Arc::new(Int64Array::from_value(id as i64, table.num_rows()));
    let schema = table.schema();
    let fields: Vec<FieldRef> = std::iter::once(field(TRIAL, DataType::Int64))
        .chain(schema.fields().iter().cloned())
        .collect();
    let columns = std::iter::once(ids).chain(table.columns().iter().cloned()).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// A relation with the trial of its model in front, if the model is of one.
///
/// # Errors
/// DataFusion refuses.
pub(crate) fn with_trial_column(plan: LogicalPlan, loaded: &LoadedModel) -> Result<LogicalPlan> {
    let Some(id) = loaded.manifest.trial() else {
        return Ok(plan);
    };
    let own = plan.schema().columns().into_iter().map(Expr::Column);
    let exprs: Vec<Expr> = std::iter::once(lit(id as i64).alias(TRIAL)).chain(own).collect();
    Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use datafusion::prelude::{SessionConfig, SessionContext};
    use futures::StreamExt;

    use crate::register_all;

    fn context(runtime: RuntimeEnvBuilder) -> SessionContext {
        let mut config = SessionConfig::new().with_target_partitions(2);
        config.options_mut().sql_parser.collect_spans = true;
        let ctx = SessionContext::new_with_config_rt(config, runtime.build_arc().unwrap());
        register_all(&ctx).unwrap();
        ctx
    }

    /// The last result of a script, as text.
    async fn run(ctx: &SessionContext, script: &str) -> Result<String, String> {
        let mut frames = crate::sql(ctx, script).map_err(|e| e.to_string())?;
        let mut last = String::new();
        while let Some(frame) = frames.next().await {
            let batches = frame.map_err(|e| e.to_string())?.collect().await;
            last = pretty_format_batches(&batches.map_err(|e| e.to_string())?)
                .unwrap()
                .to_string();
        }
        Ok(last)
    }

    const SEARCH: &str = "CREATE TABLE t AS SELECT (value * 37) % 101 AS a, 2.0 * ((value * 37) % 101) + sin(value) AS label \
         FROM generate_series(1, 600);
         CREATE MODEL m OPTIONS (model_type = 'linear_reg', l2_reg = HPARAM_CANDIDATES([1e6, 0.0, 100.0]), num_trials = 3, \
         hparam_tuning_algorithm = 'grid_search') AS SELECT * FROM t;";

    /// The trial of whose model each weight is, and the weight.
    async fn weights(ctx: &SessionContext) -> String {
        let all = "SELECT trial_id, weight FROM ML.WEIGHTS('m') WHERE processed_input = 'a' ORDER BY trial_id";
        run(ctx, all).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn each_trial_predicts_by_its_own_model_wherever_it_is_stored() {
        let ctx = context(RuntimeEnvBuilder::new());
        run(&ctx, SEARCH).await.unwrap();
        let sums = |trial: &str| {
            format!(
                "SELECT round(sum(predicted_label)) AS s, round(avg(predicted_label), 1) AS m FROM ML.PREDICT(MODEL m, TABLE t{trial})"
            )
        };
        let mut told = vec![];
        for trial in [
            "",
            ", STRUCT(1 AS trial_id)",
            ", STRUCT(2 AS trial_id)",
            ", STRUCT(3 AS trial_id)",
        ] {
            told.push(run(&ctx, &sums(trial)).await.unwrap());
        }
        // The one without a penalty is the best, which serves where no trial is named.
        assert_eq!(told[0], told[2]);
        let all = weights(&ctx).await;
        assert_eq!(all.matches("\n| ").count(), 3 + 1, "{all}");

        // A copy has them too, and so has a model with another description.
        let folder = tempfile::tempdir().unwrap();
        let uri = folder.path().display().to_string();
        run(&ctx, "ALTER MODEL m SET OPTIONS (description = 'x')")
            .await
            .unwrap();
        assert_eq!(weights(&ctx).await, all);
        run(&ctx, &format!("EXPORT MODEL m OPTIONS (uri = '{uri}/all')"))
            .await
            .unwrap();
        run(
            &ctx,
            &format!("EXPORT MODEL m OPTIONS (uri = '{uri}/one', trial_id = 1)"),
        )
        .await
        .unwrap();
        run(&ctx, &format!("SET ml.store = '{uri}/all'")).await.unwrap();
        assert_eq!(weights(&ctx).await, all);
        let described = run(&ctx, "DESCRIBE MODEL m").await.unwrap();
        assert!(described.contains("1, 2, 3"), "{described}");
        let third = run(&ctx, &sums(", STRUCT(3 AS trial_id)")).await.unwrap();
        assert_eq!(third, told[3]);
        run(&ctx, &format!("SET ml.store = '{uri}/one'")).await.unwrap();
        assert_eq!(run(&ctx, &sums("")).await.unwrap(), told[1]);
        let error = run(&ctx, &sums(", STRUCT(3 AS trial_id)")).await.unwrap_err();
        assert!(error.contains("no options of model 'm' were searched"), "{error}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_trial_whose_file_is_gone_is_told_and_the_model_still_serves() {
        let ctx = context(RuntimeEnvBuilder::new());
        let folder = tempfile::tempdir().unwrap();
        let uri = folder.path().display().to_string();
        run(&ctx, &format!("SET ml.store = '{uri}'")).await.unwrap();
        run(&ctx, SEARCH).await.unwrap();
        for file in std::fs::read_dir(folder.path().join("m/000001")).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with("trial-1-") && name.ends_with(".json") {
                std::fs::remove_file(path).unwrap();
            }
        }
        let error = run(&ctx, "SELECT * FROM ML.WEIGHTS('m', trial_id => 1)")
            .await
            .unwrap_err();
        assert!(error.contains("is corrupt: its file 'trial-1-"), "{error}");
        run(&ctx, "SELECT * FROM ML.PREDICT(MODEL m, TABLE t)").await.unwrap();
        // What is removed is removed whole.
        run(&ctx, "DROP MODEL m").await.unwrap();
        let version = folder.path().join("m/000001");
        assert!(!version.exists() || std::fs::read_dir(version).unwrap().next().is_none());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn large_models_wait_on_disk() {
        let factors = "CREATE TABLE r AS SELECT value % 40000 AS user, (value * 7919) % 997 AS item, 1.0 + (value * 31) % 5 AS rating \
             FROM generate_series(1, 44000);
             CREATE MODEL m OPTIONS (model_type = 'matrix_factorization', user_col = 'user', item_col = 'item', rating_col = 'rating', \
             num_factors = 12, max_iterations = 1, l2_reg = HPARAM_CANDIDATES([1.0, 5.0]), num_trials = 2, \
             hparam_tuning_algorithm = 'grid_search', data_split_method = 'random') AS SELECT * FROM r";
        let recommended = "SELECT count(*) AS n, count(predicted_rating) AS k FROM ML.RECOMMEND('m', (SELECT 5 AS user), trial_id => ";
        let ctx = context(RuntimeEnvBuilder::new());
        let folder = tempfile::tempdir().unwrap();
        let uri = folder.path().display().to_string();
        run(&ctx, &format!("SET ml.store = '{uri}'")).await.unwrap();
        run(&ctx, factors).await.unwrap();
        let files = std::fs::read_dir(folder.path().join("m/000001"))
            .unwrap()
            .map(|f| f.unwrap());
        let of_trial = files.filter(|f| f.file_name().to_string_lossy().starts_with("trial-"));
        let bytes: u64 = of_trial.map(|f| f.metadata().unwrap().len()).sum();
        assert!(bytes > 1 << 20, "{bytes} bytes would wait in memory");
        for trial in 1..=2 {
            let told = run(&ctx, &format!("{recommended}{trial})")).await.unwrap();
            assert!(told.contains("| 997 | 997 |"), "{told}");
        }
        // Where nothing may be written, they wait in memory.
        let nowhere = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
        let ctx = context(RuntimeEnvBuilder::new().with_disk_manager_builder(nowhere));
        run(&ctx, factors).await.unwrap();
        run(&ctx, &format!("{recommended}1)")).await.unwrap();
    }

    #[derive(Debug, Default)]
    struct Heard(std::sync::Mutex<Vec<String>>);

    impl crate::models::Observer for Heard {
        fn notice(&self, notice: &str) {
            self.0.lock().unwrap().push(notice.into());
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn rows_that_judge_nothing_are_told_once() {
        let ctx = context(RuntimeEnvBuilder::new());
        let heard = std::sync::Arc::new(Heard::default());
        crate::observe(&ctx, heard.clone()).unwrap();
        let told = || {
            let all = std::mem::take(&mut *heard.0.lock().unwrap());
            all.into_iter()
                .filter(|n| n.contains("left out of the judgement"))
                .count()
        };
        let rows = "CREATE TABLE t AS SELECT (value * 37) % 101 AS a, CASE WHEN value = 5 THEN 'odd' WHEN value = 9 THEN 'rare' \
             WHEN (value * 37) % 101 > 60 THEN 'big' WHEN (value * 37) % 101 > 30 THEN 'middle' ELSE 'small' END AS label, \
             CASE value % 4 WHEN 0 THEN 'TEST' WHEN 1 THEN 'EVAL' ELSE 'TRAIN' END AS part FROM generate_series(1, 400)";
        run(&ctx, rows).await.unwrap();
        let search = "CREATE MODEL m OPTIONS (model_type = 'logistic_reg', l2_reg = HPARAM_CANDIDATES([0.1, 1.0, 10.0]), num_trials = 3, \
             data_split_method = 'custom', data_split_col = 'part') AS SELECT * FROM t";
        run(&ctx, search).await.unwrap();
        assert_eq!(told(), 1);
        let notice = "SELECT count(DISTINCT trial_id) AS n FROM ML.TRAINING_INFO('m') WHERE notice LIKE '%2 rows that were%(''odd'' and ''rare'')%'";
        let all = run(&ctx, notice).await.unwrap();
        assert!(
            all.contains("| 3 |"),
            "{all}\n{}",
            run(&ctx, "SELECT trial_id, iteration, notice FROM ML.TRAINING_INFO('m')")
                .await
                .unwrap()
        );
        let compare = "SELECT * FROM ML.COMPARE((SELECT a, label FROM t), label => 'label', models => ['logistic_reg'], folds => 3)";
        run(&ctx, compare).await.unwrap();
        assert_eq!(told(), 1);
    }
}
