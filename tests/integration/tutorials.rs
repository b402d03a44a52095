//! Scripts in the manner of public tutorials and repositories, in the spelling of BigQuery: each statement is to run as it
//! stands, on generated tables with the schemas of well-known public data sets.
//!
//! A file of `tests/tutorials` is a tutorial; its statements stand apart by empty lines. `tables.sql` makes the tables.

use std::fs;
use std::path::{Path, PathBuf};

use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_ml::register_all;
use futures::StreamExt;

/// Runs a text; the number of rows that its last statement gives.
async fn run(ctx: &SessionContext, text: &str) -> Result<usize, String> {
    let mut frames = datafusion_ml::sql(ctx, text).map_err(|e| e.to_string())?;
    let mut rows = 0;
    while let Some(frame) = frames.next().await {
        let batches = frame.map_err(|e| e.to_string())?.collect().await;
        rows = batches.map_err(|e| e.to_string())?.iter().map(|b| b.num_rows()).sum();
    }
    Ok(rows)
}

async fn context(tables: &str) -> SessionContext {
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    register_all(&ctx).unwrap();
    run(&ctx, tables).await.unwrap();
    run(&ctx, "SET datafusion.sql_parser.dialect = 'bigquery'")
        .await
        .unwrap();
    ctx
}

/// The statements of a script: each may be a few with semicolons between them.
fn statements(script: &str) -> Vec<&str> {
    script.split("\n\n").map(str::trim).filter(|s| !s.is_empty()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_of_every_tutorial_gives_rows() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tutorials");
    let tables = fs::read_to_string(folder.join("tables.sql")).unwrap();
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.retain(|f| !f.ends_with("tables.sql"));
    files.sort();
    let exports = tempfile::tempdir().unwrap();
    let ctx = context(&tables).await;
    let (mut passed, mut failed) = (0, vec![]);
    for file in files {
        let tutorial = file.file_stem().unwrap().to_string_lossy().into_owned();
        let script = fs::read_to_string(&file).unwrap();
        for statement in statements(&script) {
            let text = statement.replace("{folder}", &exports.path().display().to_string());
            match run(&ctx, &text).await {
                Ok(rows) if rows > 0 => passed += 1,
                Ok(_) => failed.push(format!("{tutorial}: no rows from\n{statement}")),
                Err(error) => failed.push(format!("{tutorial}: {error}\nfrom\n{statement}")),
            }
        }
    }
    let all = passed + failed.len();
    println!("tutorials: {passed} of {all} statements passed");
    assert!(
        all >= 100 && failed.is_empty(),
        "{passed} of {all} passed; those that failed:\n{}",
        failed.join("\n\n")
    );
}
