//! A small HTTP service around a session: it trains on demand and scores a customer given as JSON.
//!
//! ```sh
//! cargo run --example service -- 127.0.0.1:8080            # over a table `customers` made up here
//! cargo run --example service -- 127.0.0.1:8080 lake       # over the Parquet and CSV files of a folder
//!
//! curl -X POST localhost:8080/train/churn -d '{"table": "customers", "label": "churned", "id": ["customer_id"]}'
//! curl -X POST localhost:8080/score/churn -d '{"tenure": 3, "spend": 80.5, "plan": "basic"}'
//! curl localhost:8080/models
//! ```
//!
//! Nothing that a client sends becomes SQL unchecked: tables must exist, texts are quoted, and a customer is a record batch
//! to which the scoring function is applied without SQL.

use std::path::Path;
use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::{PathRejection, StringRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, NullArray, RecordBatch, RecordBatchOptions, StringArray,
};
use datafusion::arrow::datatypes::{Field, Float64Type, Int64Type, Schema};
use datafusion::error::DataFusionError;
use datafusion::execution::FunctionRegistry;
use datafusion::prelude::{CsvReadOptions, ParquetReadOptions, SessionContext, col, ident, lit};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What went wrong, as a client sees it.
struct Failure {
    status: StatusCode,
    message: String,
}

impl Failure {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.message }))).into_response()
    }
}

impl From<DataFusionError> for Failure {
    fn from(e: DataFusionError) -> Self {
        let status = match e.find_root() {
            // What can be known before a row is read, and what was asked of rows that cannot give it.
            DataFusionError::Plan(_) | DataFusionError::SchemaError(..) => StatusCode::BAD_REQUEST,
            DataFusionError::Execution(_) => StatusCode::UNPROCESSABLE_ENTITY,
            DataFusionError::ResourcesExhausted(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, e.strip_backtrace())
    }
}

impl From<PathRejection> for Failure {
    fn from(e: PathRejection) -> Self {
        Self::new(e.status(), e.body_text())
    }
}

impl From<StringRejection> for Failure {
    fn from(e: StringRejection) -> Self {
        Self::new(e.status(), e.body_text())
    }
}

type Answer = Result<Json<Value>, Failure>;
type Name = Result<axum::extract::Path<String>, PathRejection>;
type Body = Result<String, StringRejection>;

/// What `POST /train/{name}` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrainRequest {
    /// The table to learn from.
    table: String,
    /// The column that says who left.
    label: String,
    /// Columns that are no features.
    #[serde(default)]
    id: Vec<String>,
    /// The penalty, if not the default.
    l2: Option<f64>,
}

fn parse<'a, T: Deserialize<'a>>(body: &'a str) -> Result<T, Failure> {
    serde_json::from_str(body).map_err(|e| {
        Failure::new(
            StatusCode::BAD_REQUEST,
            format!("the body is not what is expected: {e}"),
        )
    })
}

fn text_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The newest version of a model, whose name may say a version (`churn@1`); none if there is no such model.
async fn model_version(ctx: &SessionContext, name: &str) -> Result<Option<i64>, DataFusionError> {
    let name = name.split('@').next().unwrap_or_default().to_lowercase();
    let models = ctx.table("ml.models").await?.filter(col("name").eq(lit(name)))?;
    let batches = models.select(vec![col("version")])?.collect().await?;
    Ok(batches
        .iter()
        .flat_map(|b| b.column(0).as_primitive::<Int64Type>().iter().flatten())
        .max())
}

/// `POST /train/{name}`: trains a churn model; its version, passes and notices.
async fn train(State(ctx): State<SessionContext>, name: Name, body: Body) -> Answer {
    let (axum::extract::Path(name), body) = (name?, body?);
    let request: TrainRequest = parse(&body)?;
    if !ctx.table_exist(identifier(&request.table))? {
        return Err(Failure::new(
            StatusCode::NOT_FOUND,
            format!("there is no table '{}'", request.table),
        ));
    }
    let mut options = format!("label => {}", text_literal(&request.label));
    if !request.id.is_empty() {
        let ids: Vec<String> = request.id.iter().map(|id| text_literal(id)).collect();
        options += &format!(", id => [{}]", ids.join(", "));
    }
    if let Some(l2) = request.l2 {
        options += &format!(", l2 => {l2}");
    }
    let sql = format!(
        "SELECT loss, notice FROM ML.TRAIN({}, (SELECT * FROM {}), model_type => 'logistic_reg', {options})",
        text_literal(&name),
        identifier(&request.table)
    );
    let passes = ctx.sql(&sql).await?.collect().await?;
    let losses = passes
        .iter()
        .flat_map(|b| b.column(0).as_primitive::<Float64Type>().iter().flatten());
    let notices = passes
        .iter()
        .flat_map(|b| b.column(1).as_string::<i32>().iter().flatten());
    Ok(Json(json!({
        "model": name,
        "version": model_version(&ctx, &name).await?,
        "passes": passes.iter().map(RecordBatch::num_rows).sum::<usize>(),
        "loss": losses.last(),
        "notices": notices.collect::<Vec<_>>(),
    })))
}

/// A customer as a batch of one row: a column for each member.
fn customer_batch(customer: &Map<String, Value>) -> Result<RecordBatch, Failure> {
    let (mut fields, mut columns) = (vec![], vec![]);
    for (name, value) in customer {
        let column: ArrayRef = match value {
            Value::Null => Arc::new(NullArray::new(1)),
            Value::Bool(b) => Arc::new(BooleanArray::from(vec![*b])),
            Value::Number(n) => Arc::new(Float64Array::from(vec![n.as_f64()])),
            Value::String(s) => Arc::new(StringArray::from(vec![s.as_str()])),
            Value::Array(_) | Value::Object(_) => {
                let message = format!("'{name}' is no single value; give a number, a string, true, false or null");
                return Err(Failure::new(StatusCode::BAD_REQUEST, message));
            }
        };
        fields.push(Field::new(name, column.data_type().clone(), true));
        columns.push(column);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(|e| DataFusionError::from(e).into())
}

/// `POST /score/{name}`: the probability that this customer leaves.
async fn score(State(ctx): State<SessionContext>, name: Name, body: Body) -> Answer {
    let (axum::extract::Path(name), body) = (name?, body?);
    let customer: Map<String, Value> = parse(&body)?;
    if model_version(&ctx, &name).await?.is_none() {
        let message = format!("there is no model '{name}'; train it with POST /train/{name}");
        return Err(Failure::new(StatusCode::NOT_FOUND, message));
    }
    let batch = customer_batch(&customer)?;
    let mut arguments = vec![lit(name)];
    arguments.extend(customer.keys().map(ident));
    let churn_score = ctx.udf("churn_score")?.call(arguments);
    let scored = ctx.read_batch(batch)?.select(vec![churn_score])?.collect().await?;
    let score = scored
        .iter()
        .flat_map(|b| b.column(0).as_primitive::<Float64Type>().iter())
        .next()
        .flatten();
    Ok(Json(json!({ "churn_score": score })))
}

/// `GET /models`: what is trained.
async fn models(State(ctx): State<SessionContext>) -> Answer {
    let batches = ctx
        .sql("SELECT name, version, features FROM ml.models ORDER BY name")
        .await?
        .collect()
        .await?;
    let mut out = vec![];
    for batch in &batches {
        let (name, features) = (batch.column(0).as_string::<i32>(), batch.column(2).as_string::<i32>());
        let version = batch.column(1).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            out.push(json!({
                "model": name.value(row),
                "version": version.value(row),
                "features": features.is_valid(row).then(|| features.value(row)),
            }));
        }
    }
    Ok(Json(Value::Array(out)))
}

async fn unknown_path() -> Failure {
    Failure::new(
        StatusCode::NOT_FOUND,
        "there is nothing at this path; there are POST /train/{name}, POST /score/{name} and GET /models",
    )
}

async fn wrong_method() -> Failure {
    Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path takes another method; train and score take POST, models takes GET",
    )
}

/// A session over the files of a folder, or over a table of its own.
async fn session(folder: Option<&str>) -> Result<SessionContext, DataFusionError> {
    let ctx = SessionContext::new();
    datafusion_ml::register_all(&ctx)?;
    let Some(folder) = folder else {
        ctx.sql(
            "CREATE TABLE customers AS
             SELECT i AS customer_id, tenure, 20.0 + i * 37 % 90 AS spend, CASE WHEN i % 3 = 0 THEN 'premium' WHEN i % 11 = 0 THEN NULL ELSE 'basic' END AS plan,
                    CASE WHEN i * 31 % 100 < 70 - tenure THEN 'Yes' ELSE 'No' END AS churned
             FROM (SELECT value AS i, value * 17 % 60 AS tenure FROM generate_series(1, 2000))",
        )
        .await?
        .collect()
        .await?;
        return Ok(ctx);
    };
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let (Some(name), Some(location)) = (path.file_stem().and_then(|s| s.to_str()), path.to_str()) else {
            continue;
        };
        match path.extension().and_then(|e| e.to_str()) {
            Some("parquet") => {
                ctx.register_parquet(identifier(name), location, ParquetReadOptions::default())
                    .await?
            }
            Some("csv") => {
                ctx.register_csv(identifier(name), location, CsvReadOptions::new())
                    .await?
            }
            _ => {}
        }
    }
    Ok(ctx)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".into());
    let folder = arguments.next();
    if let Some(folder) = &folder
        && !Path::new(folder).is_dir()
    {
        return Err(format!("'{folder}' is no folder").into());
    }
    let app = Router::new()
        .route("/train/{name}", post(train))
        .route("/score/{name}", post(score))
        .route("/models", get(models))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(session(folder.as_deref()).await?);
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
