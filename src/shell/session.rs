//! The session behind the shell: memory, stores, settings, and the tables of a lake.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::catalog::{DynamicFileSchemaProvider, MemorySchemaProvider};
use datafusion::common::plan_datafusion_err;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::arguments::SessionArguments;
use super::lake::Locations;
use super::stores::Stores;
use crate::models::Observer;

/// Where models are kept if nothing else is said, from the current folder.
const STORE: &str = ".dfml/models";

/// Consumers of memory that an error names when the limit is reached.
const CONSUMERS_NAMED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(2);

/// A session with everything that the shell has and a plain one has not: files by their location, stores from the
/// environment, a memory limit, models in a folder, and an observer of fits.
///
/// # Errors
/// A variable `DATAFUSION_*` of the environment or the place for models makes no sense.
pub(super) async fn context(arguments: &SessionArguments, observer: Arc<dyn Observer>) -> Result<SessionContext> {
    let mut config = SessionConfig::from_env()?
        .with_information_schema(true)
        .set_bool("datafusion.sql_parser.collect_spans", true);
    if let Some(threads) = arguments.threads {
        config = config.with_target_partitions(usize::from(threads));
    }
    // Listings are not kept: another program may add files, and so may COPY.
    let mut runtime = RuntimeEnvBuilder::new()
        .with_object_store_registry(Arc::new(Stores::default()))
        .with_object_list_cache_limit(0);
    if let Some(bytes) = arguments.memory_limit {
        runtime = runtime.with_memory_pool(Arc::new(TrackConsumersPool::new(
            FairSpillPool::new(bytes),
            CONSUMERS_NAMED,
        )));
    }
    let ctx = SessionContext::new_with_config_rt(config, runtime.build_arc()?);
    let (catalog, schema) = {
        let state = ctx.state();
        let options = &state.config_options().catalog;
        (options.default_catalog.clone(), options.default_schema.clone())
    };
    let catalog = ctx
        .catalog(&catalog)
        .ok_or_else(|| plan_datafusion_err!("there is no catalog '{catalog}'"))?;
    let tables = DynamicFileSchemaProvider::new(Arc::new(MemorySchemaProvider::new()), Arc::new(Locations::new(&ctx)));
    catalog.register_schema(&schema, Arc::new(tables))?;

    crate::register_all(&ctx)?;
    crate::observe(&ctx, observer)?;
    let store = arguments
        .store
        .clone()
        .or_else(|| std::env::var("DFML_STORE").ok())
        .filter(|s| !s.is_empty());
    let store = absolute(&store.unwrap_or_else(|| STORE.into()))?;
    ctx.sql(&format!("SET ml.store = '{}'", store.replace('\'', "''")))
        .await?;
    Ok(ctx)
}

/// A folder with its whole path, so that the store stays where it is; a URL, and the word for none, as they are.
fn absolute(store: &str) -> Result<String> {
    if store.contains("://") || store.eq_ignore_ascii_case("memory") {
        return Ok(store.to_string());
    }
    Ok(std::path::absolute(Path::new(store))?.to_string_lossy().into_owned())
}

/// Where the history of typed statements is kept: `DFML_HISTORY`, else the XDG folder for state, else the home folder.
pub(super) fn history_file() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(file) = variable("DFML_HISTORY") {
        return Some(file);
    }
    if let Some(state) = variable("XDG_STATE_HOME") {
        return Some(state.join("dfml").join("history"));
    }
    variable("HOME")
        .or_else(|| variable("USERPROFILE"))
        .map(|home| home.join(".dfml_history"))
}

/// Whether colours are wanted on a stream that is, or is not, a terminal.
pub(super) fn colours(is_terminal: bool) -> bool {
    is_terminal
        && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::env::var_os("TERM").is_none_or(|v| v != "dumb")
}

/// A line on standard error. That nobody reads it is no reason to stop.
pub(super) fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
