//! A machine with a card, as SQL sees it. The card is one for tests: its kernels run on the CPU (`device::testing`).
#![allow(clippy::unwrap_used)]

use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_ml::device::Offer;
use datafusion_ml::device::testing::{HostDriver, OneCard, twin};
use datafusion_ml::register_all;

/// The machine's one card. Tests that have it fail run alone, behind this lock.
static CARD: LazyLock<Arc<HostDriver>> = LazyLock::new(|| {
    let driver = twin(1 << 30);
    Offer::pretend(Box::new(OneCard(Arc::clone(&driver))));
    driver
});

static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn context(device: &str) -> SessionContext {
    LazyLock::force(&CARD);
    let config = SessionConfig::new()
        .with_target_partitions(2)
        .with_information_schema(true);
    let ctx = SessionContext::new_with_config(config);
    register_all(&ctx).unwrap();
    run(&ctx, &format!("SET ml.device = '{device}'")).await;
    ctx
}

async fn run(ctx: &SessionContext, sql: &str) -> String {
    let batches = ctx.sql(sql).await.unwrap().collect().await.unwrap();
    pretty_format_batches(&batches).unwrap().to_string()
}

const SHOP: &str = "SELECT value AS id, sin(value) AS a, cos(value * 1.3) AS b, value % 7 = 0 AS vip, \
                    CASE WHEN value % 5 = 0 THEN NULL ELSE sin(value) + cos(value * 7) > 0.3 END AS churned, \
                    value % 90 AS customer, CAST(abs(sin(value * 1.7)) * 40 AS BIGINT) AS product FROM generate_series(1, 3000)";

fn queries() -> [String; 3] {
    [
        format!(
            "SELECT segment, count(*) AS n, sum(id) AS ids, round(max(segment_distance), 6) AS far \
             FROM KMEANS_SEGMENT(({SHOP}), k => 5, features => ['a', 'b', 'vip']) GROUP BY segment ORDER BY segment"
        ),
        format!(
            "SELECT id, round(churn_score, 8) AS score FROM CHURN_SCORE(({SHOP}), label => 'churned', \
             features => ['a', 'b', 'vip']) ORDER BY id LIMIT 50"
        ),
        format!(
            "SELECT customer, product, rank, round(score, 3) AS score FROM RECOMMEND(({SHOP}), user => 'customer', \
             item => 'product', n => 3, factors => 8) ORDER BY customer, rank LIMIT 30"
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_gives_the_results_of_the_cpu() {
    let _alone = ONE_AT_A_TIME.lock().await;
    for sql in queries() {
        let launches = CARD.launch_count();
        let cpu = run(&context("cpu").await, &sql).await;
        assert_eq!(CARD.launch_count(), launches);
        assert_eq!(run(&context("cuda").await, &sql).await, cpu);
        assert!(CARD.launch_count() > launches, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_devices_are_listed() {
    let ctx = context("auto").await;
    let list = run(
        &ctx,
        "SELECT device, memory_bytes, used, reason, description FROM ml.devices",
    )
    .await;
    assert!(list.contains("cuda:0 | 1073741824   | true "), "{list}");
    assert!(list.contains("3 multiprocessors of architecture 9.0"), "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_analyze_shows_the_device_and_what_it_moved() {
    let _alone = ONE_AT_A_TIME.lock().await;
    for sql in queries() {
        let analysed = format!("EXPLAIN ANALYZE {sql}");
        let plan = run(&context("cuda").await, &analysed).await;
        for part in [
            "device=cuda",
            "gpu_uploaded_bytes=",
            "gpu_downloaded_bytes=",
            "gpu_kernel_time=",
        ] {
            assert!(plan.contains(part), "{part} is not in {plan}");
        }
        let plan = run(&context("cpu").await, &analysed).await;
        assert!(plan.contains("device=cpu") && !plan.contains("gpu_"), "{plan}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_work_stays_on_the_cpu_under_auto() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let launches = CARD.launch_count();
    for sql in queries() {
        run(&context("auto").await, &sql).await;
    }
    assert_eq!(CARD.launch_count(), launches);
}

async fn notices(ctx: &SessionContext) -> String {
    let train =
        format!("SELECT count(*) FROM ML.TRAIN('m', ({SHOP}), model_type => 'kmeans', k => 4, features => ['a', 'b'])");
    run(ctx, &train).await;
    run(ctx, "SELECT notice FROM ML.TRAINING_INFO('m') WHERE notice IS NOT NULL").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_fails_is_told_and_the_cpu_goes_on() {
    let _alone = ONE_AT_A_TIME.lock().await;
    CARD.faults.launch.store(5, Ordering::Relaxed);
    let told = notices(&context("cuda").await).await;
    assert!(told.contains("k-means runs on the CPU: the launch failed"), "{told}");
    let ctx = context("cuda").await;
    run(&ctx, "SET ml.gpu_memory_limit = '1K'").await;
    let told = notices(&ctx).await;
    assert!(
        told.contains("k-means runs on the CPU:") && told.contains("would pass ml.gpu_memory_limit"),
        "{told}"
    );
    let told = notices(&context("cuda").await).await;
    assert!(!told.contains("CPU"), "{told}");
}
