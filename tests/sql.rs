//! SQL behaviour: every `tests/sql/*.slt` is a test of its name; tests on real data run where `ML_TEST_DATA` names their
//! folder, and are listed as ignored elsewhere.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "real/mod.rs"]
mod real;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::DataFusionError;
use datafusion::prelude::{SessionConfig, SessionContext};
use libtest_mimic::{Arguments, Trial};
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};

struct Database(SessionContext);

#[async_trait]
impl AsyncDB for Database {
    type Error = DataFusionError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, DataFusionError> {
        let frame = self.0.sql(sql).await?;
        let width = frame.schema().fields().len();
        let batches = frame.collect().await?;
        if width == 0 {
            return Ok(DBOutput::StatementComplete(0));
        }
        let format = FormatOptions::default().with_null("NULL").with_display_error(true);
        let mut rows = vec![];
        for batch in &batches {
            let columns = batch
                .columns()
                .iter()
                .map(|c| ArrayFormatter::try_new(c, &format))
                .collect::<Result<Vec<_>, _>>()?;
            for row in 0..batch.num_rows() {
                rows.push(
                    columns
                        .iter()
                        .map(|c| match c.value(row).to_string() {
                            s if s.is_empty() => "(empty)".into(),
                            s => s,
                        })
                        .collect(),
                );
            }
        }
        Ok(DBOutput::Rows {
            types: vec![DefaultColumnType::Text; width],
            rows,
        })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "datafusion-ml"
    }
}

fn run_file(path: &Path) -> Result<(), String> {
    let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let mut runner = Runner::new(|| async {
            let config = SessionConfig::new()
                .with_target_partitions(3)
                .with_information_schema(true);
            let ctx = SessionContext::new_with_config(config);
            datafusion_ml::register_all(&ctx)?;
            datafusion_ml::register_all(&ctx)?;
            Ok(Database(ctx))
        });
        runner
            .run_file_async(path)
            .await
            .map_err(|e| e.display(false).to_string())
    })
}

fn main() {
    let arguments = Arguments::from_args();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("tests/sql is there")
        .map(|entry| entry.expect("its entries can be read").path())
        .filter(|path| path.extension().is_some_and(|e| e == "slt"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "there are no .slt files in {}", folder.display());
    let mut tests: Vec<Trial> = files
        .into_iter()
        .map(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            Trial::test(format!("sql::{name}"), move || run_file(&path).map_err(Into::into))
        })
        .collect();
    let without_data = std::env::var_os("ML_TEST_DATA").is_none();
    for (name, test) in real::cases() {
        tests.push(
            Trial::test(format!("real_data::{name}"), move || test().map_err(Into::into))
                .with_ignored_flag(without_data),
        );
    }
    libtest_mimic::run(&arguments, tests).exit();
}
