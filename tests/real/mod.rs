//! Tests on real data, in the folder that `ML_TEST_DATA` names: how good the models are, against figures of other programs,
//! which were published with the data or come from `peers.py` beside this file.

use std::future::Future;
use std::path::PathBuf;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Schema};
use datafusion::error::DataFusionError;
use datafusion::prelude::{CsvReadOptions, JsonReadOptions, ParquetReadOptions, SessionConfig, SessionContext};

type Outcome = Result<(), String>;

/// A test's name and body.
type Case = (&'static str, fn() -> Outcome);

/// Every test by its name.
pub fn cases() -> Vec<Case> {
    vec![
        ("online_retail_rfm_in_one_statement", || run(rfm_in_one_statement())),
        ("online_retail_rfm_with_one_start", || run(rfm_with_one_start())),
        ("telco_churn_out_of_fold", || run(telco_out_of_fold())),
        ("telco_churn_with_a_stored_model", || run(telco_stored())),
        ("online_retail_baskets_popularity", || run(baskets_popularity())),
        ("online_retail_baskets_als", || run(baskets("method => 'als'", 0.100))),
        ("online_retail_baskets_ease", || run(baskets("method => 'ease'", 0.109))),
        ("penguins_with_nulls", || run(penguins())),
        ("cdnow_churn", || run(cdnow_churn())),
    ]
}

fn run(test: impl Future<Output = Result<(), DataFusionError>>) -> Outcome {
    let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
    runtime.block_on(test).map_err(|e| e.strip_backtrace())
}

fn path(file: &str) -> Result<String, DataFusionError> {
    let folder = std::env::var_os("ML_TEST_DATA")
        .ok_or_else(|| DataFusionError::Execution("ML_TEST_DATA names no folder".into()))?;
    Ok(PathBuf::from(folder).join(file).to_string_lossy().into_owned())
}

fn context() -> Result<SessionContext, DataFusionError> {
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    datafusion_ml::register_all(&ctx)?;
    Ok(ctx)
}

/// A query's rows, every column as a number; NULL is NaN.
async fn rows(ctx: &SessionContext, sql: &str) -> Result<Vec<Vec<f64>>, DataFusionError> {
    let mut out = vec![];
    for batch in ctx.sql(sql).await?.collect().await? {
        let columns = batch
            .columns()
            .iter()
            .map(|c| cast(c, &DataType::Float64))
            .collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let value = |i: usize| {
                let c = columns[i].as_primitive::<Float64Type>();
                if c.is_null(row) { f64::NAN } else { c.value(row) }
            };
            out.push((0..columns.len()).map(value).collect());
        }
    }
    Ok(out)
}

async fn one_row(ctx: &SessionContext, sql: &str) -> Result<Vec<f64>, DataFusionError> {
    rows(ctx, sql)
        .await?
        .into_iter()
        .next()
        .ok_or_else(|| DataFusionError::Execution(format!("no row: {sql}")))
}

fn check(holds: bool, message: impl FnOnce() -> String) -> Result<(), DataFusionError> {
    if holds {
        Ok(())
    } else {
        Err(DataFusionError::Execution(message()))
    }
}

/// Says what was measured, so that `cargo test --test sql real_data` repeats the README's figures.
fn figure(what: impl std::fmt::Display) {
    println!("figure: {what}");
}

// ------------------------------------------------------------------------------------------------------ segmentation

/// Recency, frequency and monetary value of every known customer, on a logarithmic scale.
const RFM: &str = r#"
    SELECT "CustomerID", ln(1 + recency) AS recency, ln(1 + frequency) AS frequency, ln(1 + monetary) AS monetary
    FROM (
        SELECT "CustomerID",
               (date_part('epoch', TIMESTAMP '2011-12-10 00:00:00') - date_part('epoch', date_trunc('day', max("InvoiceDate")))) / 86400.0 AS recency,
               count(DISTINCT "InvoiceNo") AS frequency,
               sum("Quantity" * "UnitPrice") AS monetary
        FROM retail
        WHERE "CustomerID" IS NOT NULL AND "Quantity" > 0 AND "UnitPrice" > 0
        GROUP BY "CustomerID")"#;

/// (k, best of 50 runs, median of one run) of scikit-learn, whose features have population deviation 1.
const SCIKIT_LEARN: [(u32, f64, f64); 4] = [
    (3, 4856.34, 4857.21),
    (4, 3924.55, 3924.91),
    (5, 3268.02, 3269.22),
    (8, 2325.54, 2335.99),
];

async fn retail() -> Result<SessionContext, DataFusionError> {
    let ctx = context()?;
    ctx.register_parquet("retail", path("online_retail.parquet")?, ParquetReadOptions::default())
        .await?;
    Ok(ctx)
}

/// The inertia over features of population deviation 1: ours have sample deviation 1.
async fn inertia(ctx: &SessionContext, input: &str, options: &str) -> Result<f64, DataFusionError> {
    let sql = format!(
        "SELECT count(*), sum(power(segment_distance, 2)) FROM KMEANS_SEGMENT(({input}), id => 'CustomerID', {options})"
    );
    let row = one_row(ctx, &sql).await?;
    check(row[0] == 4338.0, || {
        format!("{} customers have a segment, not 4,338", row[0])
    })?;
    Ok(row[1] * row[0] / (row[0] - 1.0))
}

async fn rfm_in_one_statement() -> Result<(), DataFusionError> {
    let ctx = retail().await?;
    for (k, best, _) in SCIKIT_LEARN {
        let got = inertia(&ctx, RFM, &format!("k => {k}, starts => 10")).await?;
        figure(format_args!(
            "online_retail, k = {k}, 10 starts: inertia {got:.2}; scikit-learn's best of 50 {best}"
        ));
        check(got <= 1.005 * best, || {
            format!("k = {k}: the inertia is {got}, and scikit-learn's best is {best}")
        })?;
        check(got >= 0.999 * best, || {
            format!("k = {k}: {got} is too good to be the same data as {best}")
        })?;
    }
    Ok(())
}

async fn rfm_with_one_start() -> Result<(), DataFusionError> {
    let ctx = retail().await?;
    ctx.sql(&format!("CREATE TABLE rfm AS {RFM}")).await?.collect().await?;
    for (k, _, median) in SCIKIT_LEARN {
        let mut got = vec![];
        for seed in 0..21 {
            got.push(inertia(&ctx, "SELECT * FROM rfm", &format!("k => {k}, seed => {seed}")).await?);
        }
        got.sort_by(f64::total_cmp);
        figure(format_args!(
            "online_retail, k = {k}, median of 21 seeds: inertia {:.2}; scikit-learn's median {median}",
            got[10]
        ));
        check(got[10] <= 1.01 * median, || {
            format!(
                "k = {k}: the median inertia is {}, and scikit-learn's is {median}",
                got[10]
            )
        })?;
    }
    Ok(())
}

async fn penguins() -> Result<(), DataFusionError> {
    let ctx = context()?;
    let options = JsonReadOptions::default().file_extension(".jsonl");
    ctx.register_json("penguins", path("penguins.jsonl")?, options).await?;
    let sql = "WITH s AS (SELECT * FROM KMEANS_SEGMENT((SELECT * FROM penguins), k => 3, starts => 10, \
                 features => ['culmen_length_mm', 'culmen_depth_mm', 'flipper_length_mm', 'body_mass_g'])), \
               cells AS (SELECT segment, species, count(*) AS n FROM s GROUP BY segment, species), \
               largest AS (SELECT segment, max(n) AS n FROM cells GROUP BY segment) \
               SELECT (SELECT count(*) FROM s WHERE segment BETWEEN 1 AND 3), (SELECT sum(n) FROM largest), \
                      (SELECT sum(power(segment_distance, 2)) FROM s)";
    let row = one_row(&ctx, sql).await?;
    check(row[0] == 344.0, || format!("{} of 344 penguins have a segment", row[0]))?;
    // scikit-learn: 313 of them are in a segment where their species is the most frequent, with an inertia of 383.10.
    check(row[1] >= 305.0, || {
        format!("{} penguins are with their species", row[1])
    })?;
    // That is of columns whose two NULLs were imputed before they were scaled: the deviation here is over 342 rows, not 344.
    let inertia = 383.1024 * 341.0 / 343.0;
    check((row[2] / inertia - 1.0).abs() < 0.005, || {
        format!("the inertia is {}", row[2])
    })?;
    // With text columns among the features too, NULLs anywhere do not matter.
    let all = one_row(
        &ctx,
        "SELECT count(segment) FROM KMEANS_SEGMENT((SELECT * FROM penguins), k => 3, id => 'species')",
    )
    .await?;
    check(all[0] == 344.0, || format!("{} of 344 penguins have a segment", all[0]))
}

// ------------------------------------------------------------------------------------------------------------- churn

/// Area under the ROC curve and log loss of (probability, truth).
fn quality(scored: &[Vec<f64>]) -> (f64, f64) {
    let mut order: Vec<(f64, f64)> = scored.iter().map(|r| (r[0], r[1])).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let positives: f64 = order.iter().map(|r| r.1).sum();
    let negatives = order.len() as f64 - positives;
    let (mut ranks, mut begin) = (0.0, 0);
    while begin < order.len() {
        let end = begin + order[begin..].iter().take_while(|r| r.0 == order[begin].0).count();
        let rank = (begin + 1 + end) as f64 / 2.0;
        ranks += rank * order[begin..end].iter().map(|r| r.1).sum::<f64>();
        begin = end;
    }
    let auc = (ranks - positives * (positives + 1.0) / 2.0) / (positives * negatives);
    let loss = order
        .iter()
        .map(|(p, y)| -(if *y == 1.0 { *p } else { 1.0 - p }).ln())
        .sum::<f64>();
    (auc, loss / order.len() as f64)
}

/// `TotalCharges` is blank for customers of the first month, so that the file's column is text.
const TELCO: &str = r#"SELECT * REPLACE (TRY_CAST("TotalCharges" AS DOUBLE) AS "TotalCharges") FROM telco"#;

async fn telco() -> Result<SessionContext, DataFusionError> {
    let ctx = context()?;
    ctx.register_csv("telco", path("telco_churn.csv")?, CsvReadOptions::new())
        .await?;
    Ok(ctx)
}

async fn telco_out_of_fold() -> Result<(), DataFusionError> {
    let ctx = telco().await?;
    let sql = format!(
        r#"SELECT churn_score, CASE WHEN "Churn" = 'Yes' THEN 1 ELSE 0 END
           FROM CHURN_SCORE(({TELCO}), label => 'Churn', id => 'customerID')"#
    );
    let scored = rows(&ctx, &sql).await?;
    check(scored.len() == 7043, || {
        format!("{} customers have a score", scored.len())
    })?;
    let (auc, loss) = quality(&scored);
    figure(format_args!(
        "telco_churn, out of fold: AUC {auc:.4}, log loss {loss:.4}"
    ));
    check(auc >= 0.844 && loss <= 0.419, || {
        format!("AUC {auc:.4} (0.844 at least), log loss {loss:.4} (0.419 at most)")
    })?;
    // Out of fold: better than this would mean that a customer's own label was seen.
    check(auc < 0.8475 && loss > 0.414, || {
        format!("AUC {auc:.4} and log loss {loss:.4} are too good")
    })
}

async fn telco_stored() -> Result<(), DataFusionError> {
    let ctx = telco().await?;
    let train = format!(
        "SELECT loss FROM ML.TRAIN('churn', ({TELCO}), model_type => 'logistic_reg', label => 'Churn', id => 'customerID')"
    );
    check(!rows(&ctx, &train).await?.is_empty(), || {
        "training gave no information".into()
    })?;
    let columns: Vec<String> = ctx
        .sql(TELCO)
        .await?
        .schema()
        .fields()
        .iter()
        .map(|f| f.name().clone())
        .filter(|n| n != "Churn" && n != "customerID")
        .map(|n| format!("\"{n}\""))
        .collect();
    let sql = format!(
        r#"SELECT CHURN_SCORE('churn', {}), CASE WHEN "Churn" = 'Yes' THEN 1 ELSE 0 END FROM ({TELCO})"#,
        columns.join(", ")
    );
    let scored = rows(&ctx, &sql).await?;
    check(scored.len() == 7043, || {
        format!("{} customers have a score", scored.len())
    })?;
    let (auc, loss) = quality(&scored);
    check((0.846..0.852).contains(&auc) && (0.40..0.418).contains(&loss), || {
        format!("in-sample AUC {auc:.4} and log loss {loss:.4} are not what scikit-learn gives, 0.848 and 0.414")
    })
}

/// Customers of three quarters: who does not come back in the next three?
async fn cdnow_churn() -> Result<(), DataFusionError> {
    let ctx = context()?;
    // Fixed width: a line is one column.
    let schema = Schema::new(vec![Field::new("line", DataType::Utf8, true)]);
    let options = CsvReadOptions::new()
        .has_header(true)
        .delimiter(b'|')
        .file_extension(".txt")
        .schema(&schema);
    ctx.register_csv("cdnow", path("cdnow.txt")?, options).await?;
    let sql = "WITH purchases AS (
            SELECT substr(line, 2, 5) AS customer,
                   CAST(substr(line, 8, 4) || '-' || substr(line, 12, 2) || '-' || substr(line, 14, 2) AS DATE) AS day,
                   CAST(trim(substr(line, 19)) AS DOUBLE) AS dollars
            FROM cdnow),
        dated AS (SELECT *, date_part('epoch', DATE '1997-10-01') / 86400 - date_part('epoch', day) / 86400 AS days_ago FROM purchases),
        customers AS (
            SELECT customer,
                   ln(1 + min(days_ago) FILTER (WHERE days_ago > 0)) AS recency,
                   ln(1 + count(*) FILTER (WHERE days_ago > 0)) AS frequency,
                   ln(1 + coalesce(sum(dollars) FILTER (WHERE days_ago > 0), 0)) AS monetary,
                   min(days_ago) > 0 AS churned
            FROM dated GROUP BY customer)
        SELECT churn_score, CASE WHEN churned THEN 1 ELSE 0 END
        FROM CHURN_SCORE((SELECT * FROM customers), label => 'churned', id => 'customer')";
    let scored = rows(&ctx, sql).await?;
    check(scored.len() == 23_570, || {
        format!("{} customers have a score", scored.len())
    })?;
    let (auc, loss) = quality(&scored);
    figure(format_args!("cdnow, out of fold: AUC {auc:.4}, log loss {loss:.4}"));
    // scikit-learn, five folds: 0.7699 and 0.4946.
    check(auc >= 0.768 && loss <= 0.496, || {
        format!("AUC {auc:.4} (0.768 at least), log loss {loss:.4} (0.496 at most)")
    })
}

// --------------------------------------------------------------------------------------------------- recommendations

/// `basket`: what each customer had before their last invoice; `truth`: what was new to them in it.
const BASKETS: [&str; 4] = [
    r#"CREATE TABLE lines AS SELECT CAST("CustomerID" AS BIGINT) AS customer, "InvoiceNo" AS invoice, "StockCode" AS item, "InvoiceDate" AS time
       FROM retail WHERE "CustomerID" IS NOT NULL AND "Quantity" > 0"#,
    "CREATE TABLE invoices AS
       SELECT customer, invoice, row_number() OVER (PARTITION BY customer ORDER BY time DESC, invoice) AS latest, count(*) OVER (PARTITION BY customer) AS invoice_count
       FROM (SELECT customer, invoice, max(time) AS time FROM lines GROUP BY customer, invoice)",
    "CREATE TABLE basket AS
       SELECT DISTINCT lines.customer, lines.item FROM lines JOIN invoices ON lines.customer = invoices.customer AND lines.invoice = invoices.invoice
       WHERE latest > 1 OR invoice_count = 1",
    "CREATE TABLE truth AS
       SELECT lines.customer, lines.item FROM lines JOIN invoices ON lines.customer = invoices.customer AND lines.invoice = invoices.invoice
       WHERE latest = 1 AND invoice_count > 1
       EXCEPT SELECT customer, item FROM basket",
];

/// Recall@20 of `best(customer, item)`, averaged over the customers.
const RECALL: &str = "SELECT count(*), avg(CAST(hit AS DOUBLE) / size) FROM (
    SELECT truth.customer, count(*) AS size, count(best.item) AS hit
    FROM truth LEFT JOIN best ON best.customer = truth.customer AND best.item = truth.item GROUP BY truth.customer)";

async fn basket_tables() -> Result<SessionContext, DataFusionError> {
    let ctx = retail().await?;
    for sql in BASKETS {
        ctx.sql(sql).await?.collect().await?;
    }
    Ok(ctx)
}

async fn recall(ctx: &SessionContext, best: &str) -> Result<f64, DataFusionError> {
    let row = one_row(ctx, &format!("WITH {best} {RECALL}")).await?;
    check(row[0] == 2502.0, || {
        format!("{} customers are in the truth, not 2,502", row[0])
    })?;
    Ok(row[1])
}

/// What needs no model: that its figure comes out right shows that the protocol is the same.
async fn baskets_popularity() -> Result<(), DataFusionError> {
    let ctx = basket_tables().await?;
    let best =
        "popular AS (SELECT item, row_number() OVER (ORDER BY count(*) DESC, item) AS place FROM basket GROUP BY item),
        size AS (SELECT customer, count(*) AS had FROM basket GROUP BY customer),
        unseen AS (
            SELECT size.customer, popular.item, row_number() OVER (PARTITION BY size.customer ORDER BY place) AS place
            FROM size JOIN popular ON popular.place <= size.had + 20
            LEFT ANTI JOIN basket ON basket.customer = size.customer AND basket.item = popular.item),
        best AS (SELECT customer, item FROM unseen WHERE place <= 20)";
    let got = recall(&ctx, best).await?;
    figure(format_args!("online_retail baskets, popular items: Recall@20 {got:.4}"));
    check((got - 0.0429).abs() < 0.0003, || {
        format!("Recall@20 of the popular items is {got:.4}, not 0.0429")
    })
}

async fn baskets(options: &str, at_least: f64) -> Result<(), DataFusionError> {
    let ctx = basket_tables().await?;
    let best = format!(
        "best AS (SELECT customer, item FROM RECOMMEND((SELECT customer, item FROM basket), user => 'customer', item => 'item', n => 20, {options}))"
    );
    let got = recall(&ctx, &best).await?;
    figure(format_args!("online_retail baskets, {options}: Recall@20 {got:.4}"));
    check(got >= at_least, || {
        format!("Recall@20 with {options} is {got:.4}, and {at_least} is asked for")
    })
}
