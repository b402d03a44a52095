//! `CREATE TABLE`, `CREATE VIEW` and `CREATE SCHEMA` as BigQuery writes them: its names of types, clauses that change nothing
//! here, and datasets and projects that are made on the way.

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::catalog::{MemoryCatalogProvider, MemorySchemaProvider};
use datafusion::common::{DataFusionError, TableReference};
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, ColumnOption, CreateTable, CreateTableOptions, CreateView, DataType, ExactNumberInfo, ObjectName,
    Statement, TimezoneInfo, VisitorMut,
};

use crate::session::Session;

/// Writes definitions as DataFusion has them, and keeps what is to be told of that.
#[derive(Default)]
pub(crate) struct Definitions {
    notices: Vec<String>,
}

impl Definitions {
    /// Tells which clauses have no effect.
    pub(crate) fn tell(&self, ctx: &SessionContext) {
        if let Some(session) = Session::of(ctx) {
            self.notices.iter().for_each(|notice| session.notice_once(notice));
        }
    }

    fn without_effect(&mut self, clauses: &[&str], what: &str, name: &ObjectName) {
        let clauses = match clauses {
            [] => return,
            [one] => format!("{one} has"),
            [most @ .., last] => format!("{} and {last} have", most.join(", ")),
        };
        let notice = format!("{clauses} no effect on {what} '{name}': it is kept in memory, for this session");
        if !self.notices.contains(&notice) {
            self.notices.push(notice);
        }
    }

    fn table(&mut self, create: &mut CreateTable) {
        let mut clauses = vec![];
        let mut given = |is: bool, clause: &'static str| {
            if is {
                clauses.push(clause);
            }
        };
        given(std::mem::take(&mut create.temporary), "TEMP");
        given(create.partition_by.take().is_some(), "PARTITION BY");
        given(create.cluster_by.take().is_some(), "CLUSTER BY");
        given(take_options(&mut create.table_options), "OPTIONS");
        // BigQuery checks no keys either.
        given(!std::mem::take(&mut create.constraints).is_empty(), "a key");
        for column in &mut create.columns {
            google_type(&mut column.data_type);
            let before = column.options.len();
            column
                .options
                .retain(|option| !matches!(option.option, ColumnOption::Options(_)));
            given(column.options.len() < before, "OPTIONS of a column");
        }
        clauses.dedup();
        self.without_effect(&clauses, "table", &create.name);
    }

    fn view(&mut self, create: &mut CreateView) {
        let mut clauses = vec![];
        if std::mem::take(&mut create.temporary) {
            clauses.push("TEMP");
        }
        if take_options(&mut create.options) {
            clauses.push("OPTIONS");
        }
        for column in &mut create.columns {
            column.options = None;
        }
        self.without_effect(&clauses, "view", &create.name);
    }
}

impl VisitorMut for Definitions {
    type Break = ();

    fn pre_visit_statement(&mut self, statement: &mut Statement) -> ControlFlow<()> {
        match statement {
            Statement::CreateTable(create) => self.table(create),
            Statement::CreateView(create) => self.view(create),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Takes `OPTIONS (…)` away; whether it was there.
fn take_options(options: &mut CreateTableOptions) -> bool {
    let is_given = matches!(options, CreateTableOptions::Options(_));
    if is_given {
        *options = CreateTableOptions::None;
    }
    is_given
}

/// Writes a type of BigQuery as DataFusion's.
pub(crate) fn google_type(data_type: &mut DataType) {
    let exact = |precision, scale| DataType::Decimal(ExactNumberInfo::PrecisionAndScale(precision, scale));
    let plain = |info: &ExactNumberInfo| matches!(info, ExactNumberInfo::None);
    let written = match data_type {
        DataType::Int64
        | DataType::Int(None)
        | DataType::Integer(None)
        | DataType::SmallInt(None)
        | DataType::TinyInt(None) => DataType::BigInt(None),
        DataType::Float64 => DataType::Double(ExactNumberInfo::None),
        DataType::Bool => DataType::Boolean,
        DataType::String(_) => DataType::Varchar(None),
        DataType::Bytes(_) => DataType::Bytea,
        DataType::Numeric(info) | DataType::Decimal(info) if plain(info) => exact(38, 9),
        DataType::BigNumeric(info) | DataType::BigDecimal(info) if plain(info) => exact(76, 38),
        DataType::Numeric(info) | DataType::BigNumeric(info) | DataType::BigDecimal(info) => DataType::Decimal(*info),
        DataType::Datetime(_) => DataType::Timestamp(None, TimezoneInfo::None),
        DataType::JSON => DataType::Varchar(None),
        DataType::Custom(name, _) if name.to_string().eq_ignore_ascii_case("BYTEINT") => DataType::BigInt(None),
        DataType::Array(
            ArrayElemTypeDef::AngleBracket(item)
            | ArrayElemTypeDef::SquareBracket(item, _)
            | ArrayElemTypeDef::Parenthesis(item),
        ) => return google_type(item),
        DataType::Struct(fields, _) => {
            return fields.iter_mut().for_each(|field| {
                field.options = None;
                google_type(&mut field.field_type);
            });
        }
        _ => return,
    };
    *data_type = written;
}

/// Makes the catalog and the schema of what a plan creates, in memory, where they are not there: BigQuery's scripts take
/// their datasets for granted, and models need none.
///
/// # Errors
/// The session's catalog takes no schema.
pub(crate) fn make_places(ctx: &SessionContext, plan: &mut LogicalPlan) -> Result<(), DataFusionError> {
    let LogicalPlan::Ddl(definition) = plan else {
        return Ok(());
    };
    match definition {
        DdlStatement::CreateMemoryTable(create) => make_place(ctx, &create.name),
        DdlStatement::CreateView(create) => make_place(ctx, &create.name),
        DdlStatement::CreateExternalTable(create) => make_place(ctx, &create.name),
        DdlStatement::CreateCatalogSchema(create) => {
            let (catalog, schema) = match create.schema_name.rsplit_once('.') {
                Some((catalog, schema)) => (catalog.to_string(), schema.to_string()),
                None => (default_names(ctx).0, create.schema_name.clone()),
            };
            if ctx.catalog(&catalog).is_none() {
                ctx.register_catalog(catalog.as_str(), Arc::new(MemoryCatalogProvider::new()));
            }
            if let Some(session) = Session::of(ctx) {
                // It was made for a table before it was made for itself.
                create.if_not_exists |= session.is_implied(&catalog, &schema);
                session.set_implied(&catalog, &schema, false);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn make_place(ctx: &SessionContext, name: &TableReference) -> Result<(), DataFusionError> {
    let (catalog, schema) = default_names(ctx);
    let resolved = name.clone().resolve(&catalog, &schema);
    let provider = match ctx.catalog(&resolved.catalog) {
        Some(provider) => provider,
        None => {
            let provider = Arc::new(MemoryCatalogProvider::new());
            ctx.register_catalog(resolved.catalog.as_ref(), provider.clone());
            provider
        }
    };
    if provider.schema(&resolved.schema).is_none() {
        provider.register_schema(&resolved.schema, Arc::new(MemorySchemaProvider::new()))?;
        if let Some(session) = Session::of(ctx) {
            session.set_implied(&resolved.catalog, &resolved.schema, true);
        }
    }
    Ok(())
}

/// The catalog and the schema of names that have none.
fn default_names(ctx: &SessionContext) -> (String, String) {
    let state = ctx.state_ref();
    let state = state.read();
    let options = &state.config_options().catalog;
    (options.default_catalog.clone(), options.default_schema.clone())
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionConfig;
    use datafusion::sql::parser::DFParser;
    use futures::StreamExt;

    use super::*;
    use crate::sql::respell::select::visit;

    #[test]
    fn types_and_clauses() {
        let pairs = [
            (
                "CREATE TABLE t (id INT64 NOT NULL OPTIONS (description = 'a'), s STRING(10), f FLOAT64 DEFAULT 1.5, b BOOL, y BYTES)",
                "CREATE TABLE t (id BIGINT NOT NULL, s VARCHAR, f DOUBLE DEFAULT 1.5, b BOOLEAN, y BYTEA)",
                "OPTIONS of a column has no effect on table 't': it is kept in memory, for this session",
            ),
            (
                "CREATE TEMP TABLE t (d DATE, ts TIMESTAMP, dt DATETIME, n NUMERIC, m NUMERIC(5, 2), a ARRAY<STRING>, st STRUCT<x INT64, y ARRAY<FLOAT64>>)
                   PARTITION BY d CLUSTER BY n, m OPTIONS (description = 'a')",
                "CREATE TABLE t (d DATE, ts TIMESTAMP, dt TIMESTAMP, n DECIMAL(38,9), m DECIMAL(5,2), a ARRAY<VARCHAR>, st STRUCT<x BIGINT, y ARRAY<DOUBLE>>)",
                "TEMP, PARTITION BY, CLUSTER BY and OPTIONS have no effect on table 't': it is kept in memory, for this session",
            ),
            (
                "CREATE VIEW v OPTIONS (description = 'a') AS SELECT 1",
                "CREATE VIEW v AS SELECT 1",
                "OPTIONS has no effect on view 'v': it is kept in memory, for this session",
            ),
        ];
        for (sql, expected, notice) in pairs {
            let mut statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
            let mut definitions = Definitions::default();
            visit(&mut statement, &mut definitions);
            assert_eq!(statement.to_string(), expected);
            assert_eq!(definitions.notices, [notice]);
        }
    }

    #[tokio::test]
    async fn datasets_and_projects_are_made_on_the_way() {
        let mut config = SessionConfig::new();
        config
            .options_mut()
            .set("datafusion.sql_parser.dialect", "bigquery")
            .unwrap();
        let ctx = SessionContext::new_with_config(config);
        crate::register_all(&ctx).unwrap();
        let script = "CREATE TABLE ds.t AS SELECT 1 AS a;
            CREATE VIEW `my-project.ds2.v` AS SELECT * FROM ds.t;
            CREATE TABLE `my-project`.ds2.u (a INT64);
            INSERT INTO `my-project.ds2.u` SELECT a + 1 FROM `my-project.ds2.v`;
            CREATE SCHEMA IF NOT EXISTS `other-project.d` OPTIONS (location = 'EU');
            CREATE SCHEMA ds;
            CREATE TEMP TABLE w (a INT64 NOT NULL, s ARRAY<STRING>, st STRUCT<x INT64, y STRING>, n NUMERIC, d DATE, ts TIMESTAMP);
            INSERT INTO w VALUES (1, ['a'], STRUCT(3 AS x, 'b' AS y), 1.5, DATE '2020-01-01', TIMESTAMP '2020-01-01 00:00:00');
            SELECT w.a + u.a AS sum FROM w CROSS JOIN ds2.u";
        let mut frames = crate::sql(&ctx, script).unwrap();
        let mut rows = vec![];
        while let Some(frame) = frames.next().await {
            rows = frame.unwrap().collect().await.unwrap();
        }
        let told = format!("{:?}", rows[0].column(0));
        assert!(told.contains("3,"), "{told}");
        assert!(ctx.catalog("other-project").unwrap().schema("d").is_some());
        // Other dialects are as they were.
        let generic = SessionContext::new();
        crate::register_all(&generic).unwrap();
        let mut frames = crate::sql(&generic, "CREATE TABLE ds.t AS SELECT 1 AS a").unwrap();
        let told = frames.next().await.unwrap().unwrap_err().to_string();
        assert!(told.contains("ds"), "{told}");
    }
}
