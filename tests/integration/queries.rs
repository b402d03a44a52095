//! What a query may count on: memory limits, spilling, cancellation, metrics, observers, several contexts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::execution::memory_pool::{FairSpillPool, GreedyMemoryPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_ml::models::{Observer, Pass};
use datafusion_ml::{observe, register_all};

fn context(partitions: usize) -> SessionContext {
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(partitions));
    register_all(&ctx).unwrap();
    ctx
}

async fn text(ctx: &SessionContext, sql: &str) -> String {
    let batches = ctx.sql(sql).await.unwrap().collect().await.unwrap();
    pretty_format_batches(&batches).unwrap().to_string()
}

async fn error(ctx: &SessionContext, sql: &str) -> String {
    match ctx.sql(sql).await {
        Err(e) => e.to_string(),
        Ok(frame) => frame.collect().await.unwrap_err().to_string(),
    }
}

const ROWS: &str = "SELECT value AS id, sin(value) AS a, cos(value * 1.3) AS b, repeat('padding ', 12) || value AS note \
                    FROM generate_series(1, 60000)";

fn segments(order: &str) -> String {
    format!(
        "SELECT segment, count(*) AS n, sum(id) AS ids FROM KMEANS_SEGMENT((SELECT * FROM ({ROWS}) {order}), k => 5, \
         features => ['a', 'b']) GROUP BY segment ORDER BY segment"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_and_order_give_the_same_segments() {
    let one = text(&context(1), &segments("")).await;
    for partitions in [2, 7] {
        assert_eq!(one, text(&context(partitions), &segments("")).await);
        assert_eq!(one, text(&context(partitions), &segments("ORDER BY a")).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_memory_limit_rows_spill_and_the_result_is_the_same() {
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(8_000_000)))
        .build_arc()
        .unwrap();
    let config = SessionConfig::new().with_target_partitions(2);
    let small = SessionContext::new_with_config_rt(config, runtime);
    register_all(&small).unwrap();
    let sql = format!(
        "SELECT count(*), sum(length(note)), count(DISTINCT segment) FROM KMEANS_SEGMENT(({ROWS}), k => 5, features => ['a', 'b'])"
    );
    let plan = text(&small, &format!("EXPLAIN ANALYZE {sql}")).await;
    let spilled = plan.split("spilled_bytes=").nth(1).unwrap();
    assert!(!spilled.starts_with("0,") && !spilled.starts_with("0]"), "{plan}");
    assert_eq!(text(&small, &sql).await, text(&context(2), &sql).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_little_memory_is_a_clear_error() {
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(300_000)))
        .build_arc()
        .unwrap();
    let ctx = SessionContext::new_with_config_rt(SessionConfig::new().with_target_partitions(2), runtime);
    register_all(&ctx).unwrap();
    let message = error(
        &ctx,
        "SELECT KMEANS_SEGMENT(3, sin(value)) OVER () FROM generate_series(1, 100000)",
    )
    .await;
    assert!(
        message.contains("use the relation form, FROM KMEANS_SEGMENT((SELECT …), k => …)"),
        "{message}"
    );
    let message = error(
        &ctx,
        "SELECT sum(segment) FROM KMEANS_SEGMENT((SELECT sin(value) AS x FROM generate_series(1, 500000)), k => 3)",
    )
    .await;
    assert!(message.contains("memory limit"), "{message}");
    assert!(
        text(&ctx, "SELECT count(*) FROM KMEANS_SEGMENT((SELECT 1.0 AS x), k => 1)")
            .await
            .contains("| 1 ")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_analyze_shows_rows_passes_and_time() {
    let plan = text(&context(2), &format!("EXPLAIN ANALYZE {}", segments(""))).await;
    for word in [
        "FitScoreExec: model_type=kmeans",
        "fit_rows=60",
        "passes=",
        "fit_time=",
        "k=5",
    ] {
        assert!(plan.contains(word), "{word} is missing in {plan}");
    }
}

#[derive(Debug, Default)]
struct Counting {
    started: AtomicUsize,
    passes: AtomicUsize,
    finished: AtomicUsize,
    notices: Mutex<Vec<String>>,
}

impl Observer for Counting {
    fn started(&self, _what: &str, _row_count: usize, _max_passes: usize) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }
    fn pass(&self, _pass: &Pass) {
        self.passes.fetch_add(1, Ordering::Relaxed);
    }
    fn notice(&self, notice: &str) {
        self.notices.lock().unwrap().push(notice.into());
    }
    fn finished(&self) {
        self.finished.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observer_is_told_and_planning_trains_nothing() {
    let ctx = context(2);
    let observer = Arc::new(Counting::default());
    observe(&ctx, Arc::clone(&observer) as _).unwrap();
    let train = "SELECT * FROM ML.TRAIN('m', (SELECT value % 3 AS x FROM generate_series(1, 9)), model_type => 'kmeans', k => 5)";
    text(&ctx, &format!("EXPLAIN {train}")).await;
    ctx.sql(train).await.unwrap().create_physical_plan().await.unwrap();
    assert_eq!(observer.started.load(Ordering::Relaxed), 0);
    text(&ctx, train).await;
    assert_eq!(observer.started.load(Ordering::Relaxed), 1);
    assert!(observer.passes.load(Ordering::Relaxed) >= 1);
    assert_eq!(observer.finished.load(Ordering::Relaxed), 1);
    let notices = observer.notices.lock().unwrap().clone();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(notices[0].contains("3"), "{notices:?}");
    assert!(observe(&SessionContext::new(), observer).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_query_stops_its_fit() {
    let ctx = context(2);
    let observer = Arc::new(Counting::default());
    observe(&ctx, Arc::clone(&observer) as _).unwrap();
    // Thousands of passes that never converge: minutes, if they were not stopped.
    let sql = "SELECT count(*) FROM KMEANS_SEGMENT((SELECT sin(value) AS a, cos(value * 1.7) AS b, sin(value * 0.3) AS c \
               FROM generate_series(1, 400000)), k => 300, init => 'random', max_iterations => 100000, starts => 1000, tolerance => 0)";
    let running = tokio::time::timeout(Duration::from_secs(4), ctx.sql(sql).await.unwrap().collect()).await;
    assert!(running.is_err(), "the fit takes longer than the time it is given");
    let begin = Instant::now();
    while observer.finished.load(Ordering::Relaxed) < observer.started.load(Ordering::Relaxed).min(1) {
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "the fit goes on after its query is gone"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(text(&ctx, "SELECT 1 AS one").await.contains("one"));
}

#[tokio::test]
async fn a_single_threaded_runtime_will_do() {
    let ctx = context(1);
    text(
        &ctx,
        "SELECT * FROM ML.TRAIN('m', (SELECT value AS x FROM generate_series(1, 9)), model_type => 'kmeans', k => 2)",
    )
    .await;
    let scored = text(
        &ctx,
        "SELECT count(KMEANS_SEGMENT('m', x)) FROM (SELECT value AS x FROM generate_series(1, 9)) AS t",
    )
    .await;
    assert!(scored.contains("| 9 "), "{scored}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_models_serves_another_session_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let set = format!("SET ml.store = '{}'", folder.path().join("models").display());
    let first = context(3);
    text(&first, &set).await;
    let train =
        format!("SELECT * FROM ML.TRAIN('s', ({ROWS}), model_type => 'kmeans', k => 4, features => ['a', 'b'])");
    text(&first, &train).await;
    let train = "SELECT * FROM ML.TRAIN('c', (SELECT sin(value) AS a, value % 3 AS y FROM generate_series(1, 900) WHERE value % 3 < 2), model_type => 'logistic_reg', label => 'y')";
    text(&first, train).await;
    let score = format!(
        "SELECT sum(KMEANS_SEGMENT('s', a, b) * id), sum(CHURN_SCORE('c', a)), max(CHURN_SCORE('c', a)) FROM ({ROWS})"
    );
    let second = context(3);
    text(&second, &set).await;
    let max = format!(
        "SELECT max(CHURN_SCORE('c', a)), min(CHURN_SCORE('c', a)), sum(KMEANS_SEGMENT('s', a, b) * id) FROM ({ROWS})"
    );
    assert_eq!(text(&first, &max).await, text(&second, &max).await);
    assert!(text(&second, &score).await.contains('|'));
    let folders = text(&second, "SELECT name, version FROM ml.models ORDER BY name").await;
    assert!(folders.contains("| c ") && folders.contains("| s "), "{folders}");
}
