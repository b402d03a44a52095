//! The library inside a program: register it on a session, query, and read the batches.
//!
//! ```sh
//! cargo run --example embed
//! ```

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{Float64Type, Int64Type};
use datafusion::error::{DataFusionError, Result};
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;

/// Customers as a program may have them in memory: three kinds, of whom those on a monthly plan with few orders tend to leave.
fn customers() -> Result<RecordBatch> {
    let count = 600i64;
    // A number from 0 to 1 that looks random and never changes.
    let noise = |row: i64, salt: i64| {
        let mixed = ((4 * row + salt) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed >> 40) as f64 / (1u64 << 24) as f64
    };
    let kind = |row: i64| row % 3;
    let orders = |row: i64| (2 + 9 * kind(row)) as f64 + (4.0 * noise(row, 1)).floor();
    let spend = |row: i64| orders(row) * (20.0 + 15.0 * noise(row, 2));
    let monthly = |row: i64| noise(row, 3) < 0.5;
    let churned = |row: i64| {
        let risk = 0.1 + 0.3 * f64::from(u8::from(monthly(row))) + 0.3 * f64::from(u8::from(orders(row) < 6.0));
        noise(row, 0) < risk
    };
    let plan = |row| if monthly(row) { "monthly" } else { "yearly" };
    RecordBatch::try_from_iter([
        (
            "customer_id",
            Arc::new(Int64Array::from_iter_values(1..=count)) as ArrayRef,
        ),
        (
            "orders",
            Arc::new(Float64Array::from_iter_values((1..=count).map(orders))) as ArrayRef,
        ),
        (
            "spend",
            Arc::new(Float64Array::from_iter_values((1..=count).map(spend))) as ArrayRef,
        ),
        (
            "plan",
            Arc::new(StringArray::from_iter_values((1..=count).map(plan))) as ArrayRef,
        ),
        (
            "churned",
            Arc::new(BooleanArray::from_iter((1..=count).map(|row| Some(churned(row))))) as ArrayRef,
        ),
    ])
    .map_err(DataFusionError::from)
}

#[tokio::main]
async fn main() -> Result<()> {
    let ctx = SessionContext::new();
    datafusion_ml::register_all(&ctx)?;
    ctx.register_batch("customers", customers()?)?;

    // Fit and assign in one statement, and go on in SQL: a profile of each segment.
    let profile = ctx
        .sql(
            "SELECT segment, count(*) AS customers, avg(orders) AS orders, avg(spend) AS spend
             FROM KMEANS_SEGMENT((SELECT customer_id, orders, spend FROM customers), k => 3, id => 'customer_id')
             GROUP BY segment ORDER BY segment",
        )
        .await?
        .collect()
        .await?;
    for batch in &profile {
        let (segment, customers) = (
            batch.column(0).as_primitive::<Int64Type>(),
            batch.column(1).as_primitive::<Int64Type>(),
        );
        let (orders, spend) = (
            batch.column(2).as_primitive::<Float64Type>(),
            batch.column(3).as_primitive::<Float64Type>(),
        );
        for row in 0..batch.num_rows() {
            println!(
                "segment {}: {} customers, {:.1} orders and {:.0} spent on average",
                segment.value(row),
                customers.value(row),
                orders.value(row),
                spend.value(row)
            );
        }
    }

    // Train once; the statement gives a row for each pass.
    let passes = ctx
        .sql(
            "SELECT * FROM ML.TRAIN('churn', (SELECT * FROM customers), model_type => 'logistic_reg',
                                    label => 'churned', id => 'customer_id')",
        )
        .await?
        .collect()
        .await?;
    println!(
        "the model was trained in {} passes",
        passes.iter().map(RecordBatch::num_rows).sum::<usize>()
    );

    // Score by the stored model, batch by batch: a result of any size needs the memory of one batch.
    let mut scores = ctx
        .sql("SELECT customer_id, CHURN_SCORE('churn', orders, spend, plan) AS risk FROM customers ORDER BY risk DESC, customer_id LIMIT 3")
        .await?
        .execute_stream()
        .await?;
    while let Some(batch) = scores.try_next().await? {
        let (id, risk) = (
            batch.column(0).as_primitive::<Int64Type>(),
            batch.column(1).as_primitive::<Float64Type>(),
        );
        for row in 0..batch.num_rows() {
            println!(
                "customer {} leaves with a probability of {:.2}",
                id.value(row),
                risk.value(row)
            );
        }
    }
    Ok(())
}
