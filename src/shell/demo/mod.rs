//! The demo lake: the Parquet files of a shop that never was, with a truth behind them for models to find.
//!
//! [`write`] makes it, ten thousand customers at a time, each a pure function of the seed and of the customer's number: the same scale
//! and seed give the same bytes, and a lake of a hundred times the size takes a hundred times as long and no more memory.
//!
//! # The files
//! | folder | a row is | columns |
//! |---|---|---|
//! | `customers/` | a customer | customer_id, name, email, phone, country, city, signup_date, birth_year, acquisition_channel, newsletter, loyalty_tier, churned |
//! | `products/` | a product | product_id, name, category, brand, price, cost, launched |
//! | `orders/month=2024-01/` … | an order | order_id, customer_id, ordered_at, channel, payment, shipping, discount, total, delivery_days, late |
//! | `order_items/month=…/` | a line of an order | order_id, customer_id, product_id, quantity, unit_price |
//! | `events/month=…/` | an event on the site | ts, customer_id, product_id, kind, device |
//! | `reviews/` | a review | review_id, customer_id, product_id, rating, created_at, text |
//! | `_truth/customers/` | a customer | customer_id, kind, monthly_orders, taste_1, taste_2, taste_3, left_on |
//!
//! There are NULLs where a real shop has them: the age, telephone or city that nobody asked for, the visitor who had not
//! logged in, the delivery time of what was bought in the store. At scale 1 there are 10,000 customers, 800 products and about
//! 130,000 orders from January 2024 to December 2025.
//!
//! # The truth
//! - **Kinds of customer**, four of them: *regulars* order often and middling baskets; *bargain hunters* order monthly, little,
//!   and with discount codes; *big baskets* come every other month for a lot; *window shoppers* look and seldom buy. Within a
//!   kind the rate of orders varies (gamma, coefficient of variation one third).
//! - **Tastes**: a customer likes one to three of the eight categories, and a brand within each. Four lines of a basket in five
//!   come from these; within a shelf, the n-th product sells in proportion to (n + 2)^-0.8.
//! - **Churn**: each month a customer may leave for good. The log-odds begin at the kind's own and rise by 1.7 with each unit of
//!   *trouble* (a late parcel and a call for support are 0.8 each; two fifths of all trouble are forgotten each month) and fall with
//!   years since the sign-up and for readers of the newsletter. The records hold what happened, never the odds.
//! - **churned** is true where there is no order in the last 90 days of the lake (from 2025-10-03), false where there is one, and
//!   NULL for whoever had not ordered before them. It is a fact about those 90 days: features that are to predict it must
//!   look at what came before.
//!
//! `_truth/` is no table (names that begin with an underscore are none); it is there for tests.

mod shop;
mod tables;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::error::{Error, Result};
use shop::{History, MONTHS, Shop, month_name};
use tables::Table;

/// Customers at scale 1.
const CUSTOMERS: f64 = 10_000.0;
/// Products at scale 1; a shop's range grows more slowly than its customers, by the power 0.3.
const PRODUCTS: f64 = 800.0;
/// Customers whose history is in memory at once; it goes into a row group of each file.
const CHUNK_CUSTOMERS: u64 = 10_000;
/// After so many chunks new files are begun, so that neither files nor the memory for their footers grow without bound.
const CHUNKS_PER_FILE: u64 = 10;
/// Rows of a record batch.
const BATCH_ROWS: usize = 8_192;
/// Identifiers of customers stay within what DOUBLE holds exactly, and a lake within what a disk does.
const MAX_SCALE: f64 = 100_000.0;

/// Writes the lake of a shop of this scale (1: 10,000 customers, about 130,000 orders, 10 MB) and seed into the folder `dir`,
/// which is created if need be. `progress` is told now and then how far it is, in words.
///
/// The bytes depend on the scale and the seed alone. Memory does not grow with the scale, but for the list of products: it holds
/// the history of 10,000 customers at a time.
///
/// # Errors
/// A scale that is not above 0 or is beyond 100,000; a folder that already holds a table of the lake; a disk that refuses.
pub fn write(dir: &Path, scale: f64, seed: u64, progress: &mut dyn FnMut(&str)) -> Result<()> {
    if !(scale > 0.0 && scale <= MAX_SCALE) {
        return Err(Error::request(format!(
            "the scale of the demo lake is a number above 0 and up to 100,000, not {scale}"
        )));
    }
    for table in Table::ALL {
        let path = dir.join(table.folder());
        if path.exists() {
            return Err(Error::request(format!(
                "'{}' is already there; name another folder for the demo lake, or remove it",
                path.display()
            )));
        }
    }
    let customer_count = ((CUSTOMERS * scale).round() as u64).max(1);
    let product_count = ((PRODUCTS * scale.powf(0.3)).round() as usize).max(40);
    let shop = Shop::new(seed, product_count);
    let mut lake = Lake::new(dir);
    lake.begin()?;
    lake.append(Table::Products, None, product_count, |rows| {
        tables::products(&shop.products[rows.clone()], rows.start)
    })?;
    let chunk_count = customer_count.div_ceil(CHUNK_CUSTOMERS);
    let (mut order_count, mut review_count) = (0, 0);
    let mut history = History::default();
    for chunk in 0..chunk_count {
        let numbers = chunk * CHUNK_CUSTOMERS..((chunk + 1) * CHUNK_CUSTOMERS).min(customer_count);
        let end = numbers.end;
        history.clear();
        let customers: Vec<_> = numbers
            .map(|number| {
                let profile = shop.profile(number);
                let outcome = shop.simulate(&profile, &mut history);
                (profile, outcome)
            })
            .collect();
        history.sort();
        lake.append(Table::Customers, None, customers.len(), |rows| {
            tables::customers(&customers[rows])
        })?;
        lake.append(Table::Truth, None, customers.len(), |rows| {
            tables::truth(&customers[rows])
        })?;
        for month in 0..MONTHS {
            let rows = history.orders_of(month);
            let (orders, first_id) = (&history.orders[rows.clone()], order_count + rows.start as i64 + 1);
            let id_of = |row: usize| first_id + row as i64;
            let part = Some(month);
            lake.append(Table::Orders, part, orders.len(), |r| {
                tables::orders(&orders[r.clone()], id_of(r.start))
            })?;
            lake.append(Table::OrderItems, part, orders.len(), |r| {
                tables::order_items(&orders[r.clone()], id_of(r.start))
            })?;
            let events = &history.events[history.events_of(month)];
            lake.append(Table::Events, part, events.len(), |r| tables::events(&events[r]))?;
        }
        let reviews = &history.reviews;
        lake.append(Table::Reviews, None, reviews.len(), |r| {
            tables::reviews(&reviews[r.clone()], review_count + r.start as i64 + 1)
        })?;
        order_count += history.orders.len() as i64;
        review_count += history.reviews.len() as i64;
        if (chunk + 1) % CHUNKS_PER_FILE == 0 && end < customer_count {
            lake.end_files()?;
            progress(&format!(
                "{end} of {customer_count} customers, {order_count} orders so far"
            ));
        }
    }
    lake.end_files()?;
    progress(&format!(
        "a lake of {customer_count} customers, {product_count} products and {order_count} orders: {:.1} MB in {} files",
        lake.byte_count as f64 / 1e6,
        lake.file_count
    ));
    Ok(())
}

/// Files that are being written.
struct Lake<'a> {
    dir: &'a Path,
    /// By folder below `dir`: a file each.
    open: BTreeMap<PathBuf, ArrowWriter<File>>,
    /// How many files of each folder are complete.
    generation: usize,
    byte_count: u64,
    file_count: u64,
}

impl<'a> Lake<'a> {
    fn new(dir: &'a Path) -> Self {
        Self {
            dir,
            open: BTreeMap::new(),
            generation: 0,
            byte_count: 0,
            file_count: 0,
        }
    }

    /// Begins a file in every folder, so that each table is there however few rows it gets.
    fn begin(&mut self) -> Result<()> {
        for table in Table::ALL {
            let months = if table.by_month() {
                (0..MONTHS).map(Some).collect()
            } else {
                vec![None]
            };
            for month in months {
                self.writer(table, month)?;
            }
        }
        Ok(())
    }

    fn writer(&mut self, table: Table, month: Option<usize>) -> Result<&mut ArrowWriter<File>> {
        let mut folder = PathBuf::from(table.folder());
        if let Some(month) = month {
            folder.push(format!("month={}", month_name(month)));
        }
        if !self.open.contains_key(&folder) {
            let writer = create(&self.dir.join(&folder), self.generation, table.schema())?;
            self.file_count += 1;
            self.open.insert(folder.clone(), writer);
        }
        self.open
            .get_mut(&folder)
            .ok_or_else(|| Error::store(format!("the file in '{}' is not open", folder.display())))
    }

    /// Appends `row_count` rows, batch by batch as `batch` makes them, as a row group: nothing of them stays in memory.
    fn append(
        &mut self,
        table: Table,
        month: Option<usize>,
        row_count: usize,
        batch: impl Fn(std::ops::Range<usize>) -> Result<RecordBatch>,
    ) -> Result<()> {
        if row_count == 0 {
            return Ok(());
        }
        let writer = self.writer(table, month)?;
        let refused = |e: ParquetError| cannot_write(Path::new(table.folder()), e);
        for start in (0..row_count).step_by(BATCH_ROWS) {
            let batch = batch(start..(start + BATCH_ROWS).min(row_count))?;
            writer.write(&batch).map_err(refused)?;
        }
        writer.flush().map_err(refused)
    }

    fn end_files(&mut self) -> Result<()> {
        for (folder, mut writer) in std::mem::take(&mut self.open) {
            writer.finish().map_err(|e| cannot_write(&folder, e))?;
            self.byte_count += writer.bytes_written() as u64;
        }
        self.generation += 1;
        Ok(())
    }
}

fn create(folder: &Path, generation: usize, schema: SchemaRef) -> Result<ArrowWriter<File>> {
    std::fs::create_dir_all(folder).map_err(|e| cannot_write(folder, e))?;
    let path = folder.join(format!("part-{generation:04}.parquet"));
    let file = File::create(&path).map_err(|e| cannot_write(&path, e))?;
    // A column of a row group is a page or two: an index of pages would tell no more than the row group's own statistics.
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .build();
    ArrowWriter::try_new(file, schema, Some(properties)).map_err(|e| cannot_write(&path, e))
}

fn cannot_write(path: &Path, e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::store(format!(
        "'{}' of the demo lake cannot be written; see that there is room and permission",
        path.display()
    ))
    .with_source(e)
}

#[cfg(test)]
mod tests {
    use super::shop::{END_DAY, EventKind, FIRST_DAY, KINDS, Profile, month_of, month_start};
    use super::*;

    fn simulated(seed: u64, count: u64) -> (Vec<Profile>, History) {
        let (shop, mut history) = (Shop::new(seed, 800), History::default());
        let profiles: Vec<Profile> = (0..count).map(|n| shop.profile(n)).collect();
        for profile in &profiles {
            shop.simulate(profile, &mut history);
        }
        history.sort();
        (profiles, history)
    }

    #[test]
    fn the_calendar_has_731_days_in_24_months() {
        assert_eq!(month_start(MONTHS), END_DAY);
        assert_eq!(
            (month_name(0), month_name(23)),
            ("2024-01".to_string(), "2025-12".to_string())
        );
        assert_eq!(
            (month_of(FIRST_DAY), month_of(FIRST_DAY + 31), month_of(END_DAY - 1)),
            (0, 1, 23)
        );
        assert_eq!(month_start(12), FIRST_DAY + 366);
    }

    #[test]
    fn a_customer_depends_on_nobody_else() {
        let (_, all) = simulated(42, 30);
        let shop = Shop::new(42, 800);
        let mut alone = History::default();
        shop.simulate(&shop.profile(17), &mut alone);
        alone.sort();
        let of_all: Vec<_> = all
            .orders
            .iter()
            .filter(|o| o.customer == 18)
            .map(|o| (o.at, o.total_cents))
            .collect();
        assert_eq!(
            of_all,
            alone.orders.iter().map(|o| (o.at, o.total_cents)).collect::<Vec<_>>()
        );
        assert!(!of_all.is_empty());
    }

    #[test]
    fn rows_lie_within_the_months_in_order_of_time() {
        let (_, history) = simulated(7, 500);
        let mut seen = (0, 0);
        for month in 0..MONTHS {
            let (orders, events) = (history.orders_of(month), history.events_of(month));
            assert_eq!((orders.start, events.start), seen);
            assert!(!orders.is_empty() && !events.is_empty());
            let within = |at: i64| month_of((at / 86_400) as i32) == month;
            assert!(history.orders[orders.clone()].iter().all(|o| within(o.at)));
            assert!(history.events[events.clone()].iter().all(|e| within(e.at)));
            seen = (orders.end, events.end);
        }
        assert_eq!(seen, (history.orders.len(), history.events.len()));
        assert!(history.orders.windows(2).all(|w| w[0].at <= w[1].at));
    }

    #[test]
    fn kinds_differ_as_documented() {
        let (profiles, history) = simulated(42, 3000);
        let mean = |kind: usize, of: &dyn Fn(&shop::Order) -> f64| {
            let of_kind = history
                .orders
                .iter()
                .filter(|o| profiles[o.customer as usize - 1].kind == kind);
            let values: Vec<f64> = of_kind.map(of).collect();
            (
                values.len() as f64 / profiles.iter().filter(|p| p.kind == kind).count() as f64,
                values.iter().sum::<f64>() / values.len() as f64,
            )
        };
        assert_eq!(
            KINDS.map(|k| k.name),
            ["regular", "bargain_hunter", "big_basket", "window_shopper"]
        );
        let totals = [0, 1, 2, 3].map(|kind| mean(kind, &|o| o.total_cents as f64 / 100.0));
        assert!(totals[0].0 > 1.5 * totals[1].0 && totals[1].0 > totals[2].0 && totals[2].0 > 2.0 * totals[3].0);
        assert!(totals[2].1 > 3.0 * totals[0].1 && totals[0].1 > 1.5 * totals[1].1);
        let discounted = [0, 1, 2].map(|kind| mean(kind, &|o| f64::from(o.discount_cents > 0)).1);
        assert!(discounted[1] > 0.65 && discounted[0] < 0.2 && discounted[2] < 0.2);
    }

    #[test]
    fn money_adds_up() {
        let (_, history) = simulated(3, 200);
        for order in &history.orders {
            let items: i64 = order.items.iter().map(|i| i64::from(i.quantity) * i.unit_cents).sum();
            assert_eq!(order.total_cents, items - order.discount_cents + order.shipping_cents);
            assert!(order.total_cents > 0 && !order.items.is_empty());
        }
        assert!(history.events.iter().any(|e| e.kind == EventKind::Support));
    }

    #[test]
    fn a_scale_that_is_none_is_refused() {
        for scale in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
            let error = write(Path::new("nowhere"), scale, 1, &mut |_| ()).unwrap_err();
            assert!(error.to_string().starts_with("the scale of the demo lake"), "{error}");
        }
    }
}
