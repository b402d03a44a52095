//! The tables of the demo lake: their columns, and rows made into batches.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int16Array, Int32Array, Int64Array,
    RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::shop::{
    ACQUISITION, CATEGORIES, CHANNELS, COUNTRIES, DEVICES, Event, KINDS, LATE_DAYS, Order, Outcome, PAYMENTS, Product,
    Profile, Review, TIERS,
};
use crate::error::Result;

/// The tables, and the truth, which is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Customers,
    Products,
    Orders,
    OrderItems,
    Events,
    Reviews,
    Truth,
}

impl Table {
    pub(super) const ALL: [Table; 7] = [
        Table::Customers,
        Table::Products,
        Table::Orders,
        Table::OrderItems,
        Table::Events,
        Table::Reviews,
        Table::Truth,
    ];

    /// Its folder within the lake, with a slash between parts.
    pub(super) fn folder(self) -> &'static str {
        match self {
            Table::Customers => "customers",
            Table::Products => "products",
            Table::Orders => "orders",
            Table::OrderItems => "order_items",
            Table::Events => "events",
            Table::Reviews => "reviews",
            Table::Truth => "_truth/customers",
        }
    }

    /// Whether it has a folder a month.
    pub(super) fn by_month(self) -> bool {
        matches!(self, Table::Orders | Table::OrderItems | Table::Events)
    }

    /// Its columns. Only keys and what every row has are not nullable.
    pub(super) fn schema(self) -> SchemaRef {
        let required = |name: &str, t: DataType| Field::new(name, t, false);
        let optional = |name: &str, t: DataType| Field::new(name, t, true);
        let money = DataType::Decimal128(10, 2);
        let moment = DataType::Timestamp(TimeUnit::Microsecond, None);
        use DataType::{Boolean, Date32, Float64, Int16, Int32, Int64, Utf8};
        Arc::new(Schema::new(match self {
            Table::Customers => vec![
                required("customer_id", Int64),
                required("name", Utf8),
                optional("email", Utf8),
                optional("phone", Utf8),
                required("country", Utf8),
                optional("city", Utf8),
                required("signup_date", Date32),
                optional("birth_year", Int16),
                optional("acquisition_channel", Utf8),
                required("newsletter", Boolean),
                optional("loyalty_tier", Utf8),
                optional("churned", Boolean),
            ],
            Table::Products => vec![
                required("product_id", Int64),
                required("name", Utf8),
                required("category", Utf8),
                required("brand", Utf8),
                required("price", money.clone()),
                required("cost", money),
                optional("launched", Date32),
            ],
            Table::Orders => vec![
                required("order_id", Int64),
                required("customer_id", Int64),
                required("ordered_at", moment),
                required("channel", Utf8),
                optional("payment", Utf8),
                required("shipping", Float64),
                required("discount", Float64),
                required("total", Float64),
                optional("delivery_days", Int32),
                optional("late", Boolean),
            ],
            Table::OrderItems => vec![
                required("order_id", Int64),
                required("customer_id", Int64),
                required("product_id", Int64),
                required("quantity", Int32),
                required("unit_price", Float64),
            ],
            Table::Events => vec![
                required("ts", moment),
                optional("customer_id", Int64),
                optional("product_id", Int64),
                required("kind", Utf8),
                optional("device", Utf8),
            ],
            Table::Reviews => vec![
                required("review_id", Int64),
                required("customer_id", Int64),
                required("product_id", Int64),
                optional("rating", Int32),
                required("created_at", moment),
                optional("text", Utf8),
            ],
            Table::Truth => vec![
                required("customer_id", Int64),
                required("kind", Utf8),
                required("monthly_orders", Float64),
                required("taste_1", Utf8),
                optional("taste_2", Utf8),
                optional("taste_3", Utf8),
                optional("left_on", Date32),
            ],
        }))
    }

    fn batch(self, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
        Ok(RecordBatch::try_new(self.schema(), columns)?)
    }
}

// One helper a type: `of(rows, |row| …)` is a column.

fn int64<T>(rows: &[T], of: impl Fn(&T) -> i64) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(rows.iter().map(of)))
}

fn int64_or_null<T>(rows: &[T], of: impl Fn(&T) -> Option<i64>) -> ArrayRef {
    Arc::new(rows.iter().map(of).collect::<Int64Array>())
}

fn int32_or_null<T>(rows: &[T], of: impl Fn(&T) -> Option<i32>) -> ArrayRef {
    Arc::new(rows.iter().map(of).collect::<Int32Array>())
}

fn float<T>(rows: &[T], of: impl Fn(&T) -> f64) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values(rows.iter().map(of)))
}

fn boolean<T>(rows: &[T], of: impl Fn(&T) -> Option<bool>) -> ArrayRef {
    Arc::new(rows.iter().map(of).collect::<BooleanArray>())
}

fn text<'a, T>(rows: &'a [T], of: impl Fn(&'a T) -> Option<&'a str>) -> ArrayRef {
    Arc::new(rows.iter().map(of).collect::<StringArray>())
}

fn date<T>(rows: &[T], of: impl Fn(&T) -> Option<i32>) -> ArrayRef {
    Arc::new(rows.iter().map(of).collect::<Date32Array>())
}

/// Of seconds since 1970-01-01.
fn moment<T>(rows: &[T], of: impl Fn(&T) -> i64) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(
        rows.iter().map(|r| of(r) * 1_000_000),
    ))
}

fn money<T>(rows: &[T], cents: impl Fn(&T) -> i64) -> Result<ArrayRef> {
    let values = Decimal128Array::from_iter_values(rows.iter().map(|r| i128::from(cents(r))));
    Ok(Arc::new(values.with_precision_and_scale(10, 2)?))
}

fn euros(cents: i64) -> f64 {
    cents as f64 / 100.0
}

/// Products, of which the first has the number `start` (from 0). Identifiers are numbers from 1.
pub(super) fn products(rows: &[Product], start: usize) -> Result<RecordBatch> {
    Table::Products.batch(vec![
        Arc::new(Int64Array::from_iter_values(
            (0..rows.len()).map(|i| product_id((start + i) as u32)),
        )),
        text(rows, |p| Some(&p.name)),
        text(rows, |p| Some(CATEGORIES[p.category].0)),
        text(rows, |p| Some(CATEGORIES[p.category].3[p.brand])),
        money(rows, |p| p.price_cents)?,
        money(rows, |p| p.cost_cents)?,
        date(rows, |p| p.launched),
    ])
}

fn product_id(number: u32) -> i64 {
    i64::from(number) + 1
}

/// What the shop knows of its customers.
pub(super) fn customers(rows: &[(Profile, Outcome)]) -> Result<RecordBatch> {
    Table::Customers.batch(vec![
        int64(rows, |(p, _)| p.id),
        text(rows, |(p, _)| Some(&p.name)),
        text(rows, |(p, _)| p.email.as_deref()),
        text(rows, |(p, _)| p.phone.as_deref()),
        text(rows, |(p, _)| Some(COUNTRIES[p.country].0)),
        text(rows, |(p, _)| p.city),
        date(rows, |(p, _)| Some(p.signup)),
        Arc::new(
            rows.iter()
                .map(|(p, _)| p.birth_year.and_then(|y| i16::try_from(y).ok()))
                .collect::<Int16Array>(),
        ),
        text(rows, |(p, _)| p.acquisition.map(|a| ACQUISITION[a])),
        boolean(rows, |(p, _)| Some(p.newsletter)),
        text(rows, |(p, _)| p.tier.map(|t| TIERS[t])),
        boolean(rows, |(_, o)| o.churned),
    ])
}

/// What it does not know of them.
pub(super) fn truth(rows: &[(Profile, Outcome)]) -> Result<RecordBatch> {
    let taste = |n: usize| text(rows, move |(p, _)| p.tastes.get(n).map(|t| CATEGORIES[t.category].0));
    Table::Truth.batch(vec![
        int64(rows, |(p, _)| p.id),
        text(rows, |(p, _)| Some(KINDS[p.kind].name)),
        float(rows, |(p, _)| p.monthly_orders),
        taste(0),
        taste(1),
        taste(2),
        date(rows, |(_, o)| o.left),
    ])
}

fn ids(first: i64, count: usize) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(first..first + count as i64))
}

/// Orders, numbered from `first_id`.
pub(super) fn orders(rows: &[Order], first_id: i64) -> Result<RecordBatch> {
    Table::Orders.batch(vec![
        ids(first_id, rows.len()),
        int64(rows, |o| o.customer),
        moment(rows, |o| o.at),
        text(rows, |o| Some(CHANNELS[o.channel])),
        text(rows, |o| o.payment.map(|p| PAYMENTS[p])),
        float(rows, |o| euros(o.shipping_cents)),
        float(rows, |o| euros(o.discount_cents)),
        float(rows, |o| euros(o.total_cents)),
        int32_or_null(rows, |o| o.delivery_days),
        boolean(rows, |o| o.delivery_days.map(|d| d > LATE_DAYS)),
    ])
}

/// The lines of orders that are numbered from `first_id`.
pub(super) fn order_items(orders: &[Order], first_id: i64) -> Result<RecordBatch> {
    let rows: Vec<_> = orders
        .iter()
        .zip(first_id..)
        .flat_map(|(o, id)| o.items.iter().map(move |i| (id, o.customer, i)))
        .collect();
    Table::OrderItems.batch(vec![
        int64(&rows, |(id, _, _)| *id),
        int64(&rows, |(_, customer, _)| *customer),
        int64(&rows, |(_, _, i)| product_id(i.product)),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|(_, _, i)| i.quantity))),
        float(&rows, |(_, _, i)| euros(i.unit_cents)),
    ])
}

/// Events on the site.
pub(super) fn events(rows: &[Event]) -> Result<RecordBatch> {
    Table::Events.batch(vec![
        moment(rows, |e| e.at),
        int64_or_null(rows, |e| e.customer),
        int64_or_null(rows, |e| e.product.map(product_id)),
        text(rows, |e| Some(e.kind.name())),
        text(rows, |e| e.device.map(|d| DEVICES[usize::from(d)])),
    ])
}

/// Reviews, numbered from `first_id`.
pub(super) fn reviews(rows: &[Review], first_id: i64) -> Result<RecordBatch> {
    Table::Reviews.batch(vec![
        ids(first_id, rows.len()),
        int64(rows, |r| r.customer),
        int64(rows, |r| product_id(r.product)),
        int32_or_null(rows, |r| r.rating),
        moment(rows, |r| r.at),
        text(rows, |r| r.text),
    ])
}
