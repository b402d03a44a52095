//! The tables of the schema `ml`: what is trained, the devices, every function and its options.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::{MemorySchemaProvider, Session as CatalogSession};
use datafusion::common::Result as DataFusionResult;
use datafusion::datasource::{MemTable, TableProvider, TableType};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;

use super::help::{Form, topics};
use crate::device::Offer;
use crate::error::{Error, Result};
use crate::session::Session;

/// Registers the schema `ml` in the default catalog.
pub(crate) fn register(ctx: &SessionContext, session: &Arc<Session>) -> Result<()> {
    let options = ctx.copied_config();
    let name = &options.options().catalog.default_catalog;
    let catalog = ctx.catalog(name).ok_or_else(|| {
        Error::request(format!(
            "the context has no catalog '{name}' to put the schema 'ml' into"
        ))
    })?;
    let schema = match catalog.schema("ml") {
        Some(schema) => schema,
        None => {
            let schema = Arc::new(MemorySchemaProvider::new());
            catalog.register_schema("ml", Arc::clone(&schema) as _)?;
            schema
        }
    };
    for kind in [Kind::Models, Kind::Devices, Kind::Functions, Kind::Options] {
        let table = Arc::new(SystemTable {
            kind,
            session: Arc::clone(session),
            schema: kind.schema(),
        });
        if schema.table_exist(kind.name()) {
            schema.deregister_table(kind.name())?;
        }
        schema.register_table(kind.name().into(), table)?;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Models,
    Devices,
    Functions,
    Options,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Models => "models",
            Kind::Devices => "devices",
            Kind::Functions => "functions",
            Kind::Options => "options",
        }
    }

    fn schema(self) -> SchemaRef {
        let text = |name: &str| Field::new(name, DataType::Utf8, true);
        let fields = match self {
            Kind::Models => vec![
                text("name"),
                Field::new("version", DataType::Int64, true),
                text("model_type"),
                text("verb"),
                Field::new(
                    "created_at",
                    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
                    true,
                ),
                Field::new("row_count", DataType::Int64, true),
                text("features"),
                text("options"),
                text("notices"),
                text("error"),
            ],
            Kind::Devices => {
                vec![
                    text("device"),
                    text("description"),
                    Field::new("memory_bytes", DataType::Int64, true),
                    Field::new("used", DataType::Boolean, true),
                    text("reason"),
                ]
            }
            Kind::Functions => ["name", "form", "syntax", "description", "arguments", "example"]
                .map(text)
                .to_vec(),
            Kind::Options => ["function", "option", "aliases", "accepts", "default", "description"]
                .map(text)
                .to_vec(),
        };
        Arc::new(Schema::new(fields))
    }
}

/// A table whose rows are made when it is scanned.
#[derive(Debug)]
struct SystemTable {
    kind: Kind,
    session: Arc<Session>,
    schema: SchemaRef,
}

#[async_trait]
impl TableProvider for SystemTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn CatalogSession,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let columns = match self.kind {
            Kind::Models => self.models(state).await?,
            Kind::Devices => device_columns(),
            Kind::Functions => function_columns(),
            Kind::Options => option_columns(),
        };
        let batch = RecordBatch::try_new(self.schema(), columns)?;
        MemTable::try_new(self.schema(), vec![vec![batch]])?
            .scan(state, projection, filters, limit)
            .await
    }
}

fn texts<T: Into<Option<String>>>(values: impl IntoIterator<Item = T>) -> ArrayRef {
    Arc::new(StringArray::from_iter(values.into_iter().map(Into::into)))
}

impl SystemTable {
    async fn models(&self, state: &dyn CatalogSession) -> Result<Vec<ArrayRef>> {
        let settings = Session::settings_in(state.config().options());
        let entries = self.session.store(&settings)?.list().await?;
        let of = |f: &dyn Fn(&crate::store::Manifest) -> Option<String>| {
            texts(entries.iter().map(|e| e.manifest.as_ref().ok().and_then(f)))
        };
        let created = entries
            .iter()
            .map(|e| e.manifest.as_ref().ok().map(|m| m.created_at.timestamp_micros()));
        Ok(vec![
            texts(entries.iter().map(|e| Some(e.name.clone()))),
            Arc::new(Int64Array::from_iter_values(entries.iter().map(|e| e.version as i64))),
            of(&|m| Some(m.model_type.clone())),
            of(&|m| {
                crate::models::model_type(&m.model_type)
                    .ok()
                    .map(|t| t.verb().to_string())
            }),
            Arc::new(TimestampMicrosecondArray::from_iter(created).with_timezone("UTC")),
            Arc::new(Int64Array::from_iter(
                entries
                    .iter()
                    .map(|e| e.manifest.as_ref().ok().map(|m| m.training.row_count as i64)),
            )),
            of(&|m| {
                Some(
                    m.features
                        .iter()
                        .map(|f| f.name.as_str())
                        .collect::<Vec<_>>()
                        .join(", "),
                )
            }),
            of(&|m| {
                Some(
                    m.options
                        .iter()
                        .map(|(k, v)| format!("{k} => {v}"))
                        .collect::<Vec<_>>()
                        .join(", "),
                )
            }),
            of(&|m| (!m.training.notices.is_empty()).then(|| m.training.notices.join("; "))),
            texts(
                entries
                    .iter()
                    .map(|e| e.manifest.as_ref().err().map(ToString::to_string)),
            ),
        ])
    }
}

fn device_columns() -> Vec<ArrayRef> {
    let all = Offer::of_this_machine().devices();
    vec![
        texts(all.iter().map(|d| d.name.clone())),
        texts(all.iter().map(|d| d.description.clone())),
        Arc::new(Int64Array::from_iter(
            all.iter().map(|d| d.memory_bytes.and_then(|b| i64::try_from(b).ok())),
        )),
        Arc::new(BooleanArray::from_iter(all.iter().map(|d| Some(d.used)))),
        texts(all.iter().map(|d| (!d.reason.is_empty()).then(|| d.reason.clone()))),
    ]
}

fn function_columns() -> Vec<ArrayRef> {
    let all: Vec<_> = topics().into_iter().filter(|t| t.form != Form::Setting).collect();
    vec![
        texts(all.iter().map(|t| t.name.clone())),
        texts(all.iter().map(|t| t.form.word().to_string())),
        texts(all.iter().map(|t| t.syntax.clone())),
        texts(all.iter().map(|t| t.summary.clone())),
        texts(all.iter().map(|t| {
            let names: Vec<_> = t.options.iter().map(|o| o.name).collect();
            (!names.is_empty()).then(|| names.join(", "))
        })),
        texts(all.iter().map(|t| t.example.clone())),
    ]
}

fn option_columns() -> Vec<ArrayRef> {
    let all: Vec<_> = topics()
        .into_iter()
        .flat_map(|t| t.options.clone().into_iter().map(move |o| (t.name.clone(), o)))
        .collect();
    vec![
        texts(all.iter().map(|(f, _)| f.clone())),
        texts(all.iter().map(|(_, o)| o.name.to_string())),
        texts(
            all.iter()
                .map(|(_, o)| (!o.aliases.is_empty()).then(|| o.aliases.join(", "))),
        ),
        texts(all.iter().map(|(_, o)| o.kind.describe())),
        texts(
            all.iter()
                .map(|(_, o)| (!o.default.is_empty()).then(|| o.default.to_string())),
        ),
        texts(all.iter().map(|(_, o)| o.help.to_string())),
    ]
}
