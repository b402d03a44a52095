//! What one session shares: its in-memory models, loaded models, threads, and who is told of fits.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::common::config::ConfigOptions;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::SessionContext;

use crate::device::Offer;
use crate::error::{Error, Result};
use crate::kernels::compute::Compute;
use crate::models::{Observer, Silent};
use crate::settings::{IN_MEMORY, Settings};
use crate::store::{LoadedModel, ModelCache, ModelStore};

/// What the functions of one session share. Kept as an extension of the session's configuration.
pub(crate) struct Session {
    runtime: Arc<RuntimeEnv>,
    /// The session's settings as they are now; none once the session is gone.
    current_settings: Box<dyn Fn() -> Option<Settings> + Send + Sync>,
    last_settings: Mutex<Settings>,
    in_memory: ModelStore,
    stores: Mutex<HashMap<String, ModelStore>>,
    models: ModelCache,
    pools: Mutex<HashMap<usize, Arc<rayon::ThreadPool>>>,
    observer: Mutex<Arc<dyn Observer>>,
    /// Notices that are told only once.
    told: Mutex<HashSet<String>>,
    /// Catalog and schema of those that were made because a table of theirs was.
    implied: Mutex<HashSet<(String, String)>>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these mutexes guard is whole after every statement, so a panic elsewhere spoils nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    pub(crate) fn new(ctx: &SessionContext) -> Self {
        let state = Arc::downgrade(&ctx.state_ref());
        Self {
            runtime: ctx.runtime_env(),
            current_settings: Box::new(move || {
                state
                    .upgrade()
                    .and_then(|s| s.read().config_options().extensions.get::<Settings>().cloned())
            }),
            last_settings: Mutex::default(),
            in_memory: ModelStore::in_memory(),
            stores: Mutex::default(),
            models: ModelCache::default(),
            pools: Mutex::default(),
            observer: Mutex::new(Arc::new(Silent)),
            told: Mutex::default(),
            implied: Mutex::default(),
        }
    }

    /// The session of a context, if the library is registered there.
    pub(crate) fn of(ctx: &SessionContext) -> Option<Arc<Session>> {
        ctx.state_ref().read().config().get_extension::<Session>()
    }

    pub(crate) fn runtime(&self) -> &Arc<RuntimeEnv> {
        &self.runtime
    }

    /// The settings in a query's own configuration.
    pub(crate) fn settings_in(options: &ConfigOptions) -> Settings {
        options.extensions.get::<Settings>().cloned().unwrap_or_default()
    }

    /// The session's settings now, for the functions that see no configuration; the last that were seen once the
    /// context itself is gone.
    pub(crate) fn settings(&self) -> Settings {
        let mut last = lock(&self.last_settings);
        if let Some(settings) = (self.current_settings)() {
            *last = settings;
        }
        last.clone()
    }

    /// The model store that the settings name.
    pub(crate) fn store(&self, settings: &Settings) -> Result<ModelStore> {
        if settings.store.eq_ignore_ascii_case(IN_MEMORY) {
            return Ok(self.in_memory.clone());
        }
        let mut stores = lock(&self.stores);
        if let Some(store) = stores.get(&settings.store) {
            return Ok(store.clone());
        }
        let registry = Arc::clone(&self.runtime.object_store_registry);
        let store = ModelStore::open(&settings.store, &|url| registry.get_store(url).ok())?;
        stores.insert(settings.store.clone(), store.clone());
        Ok(store)
    }

    /// The newest version of a model, or the one that `name@version` says. Blocks the caller, never a runtime that the
    /// store needs.
    pub(crate) fn model(&self, settings: &Settings, name: &str) -> Result<Arc<LoadedModel>> {
        let (name, version) = split_version(name)?;
        self.models.get(&self.store(settings)?, name, version)
    }

    /// As [`Session::model`], or the model of that trial of the search which gave it.
    ///
    /// # Errors
    /// There is no such model or trial, or the trial left no model.
    pub(crate) fn trial_model(&self, settings: &Settings, name: &str, trial: Option<u64>) -> Result<Arc<LoadedModel>> {
        let Some(trial) = trial else {
            return self.model(settings, name);
        };
        let (name, version) = split_version(name)?;
        self.models.get_trial(&self.store(settings)?, name, version, trial)
    }

    /// Threads for fits and rankings.
    pub(crate) fn pool(&self, threads: usize) -> Result<Arc<rayon::ThreadPool>> {
        let mut pools = lock(&self.pools);
        if let Some(pool) = pools.get(&threads) {
            return Ok(Arc::clone(pool));
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("datafusion-ml-{i}"))
            .build()
            .map_err(|e| {
                Error::memory(format!("{threads} threads cannot be started; set ml.threads lower")).with_source(e)
            })?;
        let pool = Arc::new(pool);
        pools.insert(threads, Arc::clone(&pool));
        Ok(pool)
    }

    /// What kernels run on, as the settings say.
    pub(crate) fn compute<'a>(pool: &'a rayon::ThreadPool, cancel: &'a AtomicBool, settings: &Settings) -> Compute<'a> {
        Compute::with_card(
            pool,
            cancel,
            settings.device,
            Offer::of_this_machine(),
            settings.gpu_memory_limit,
        )
    }

    pub(crate) fn observer(&self) -> Arc<dyn Observer> {
        Arc::clone(&lock(&self.observer))
    }

    /// Tells a notice, unless it was told before.
    pub(crate) fn notice_once(&self, notice: &str) {
        if lock(&self.told).insert(notice.to_string()) {
            self.observer().notice(notice);
        }
    }

    /// Says that a schema is only there because a table was made in it, or that it was made for itself.
    pub(crate) fn set_implied(&self, catalog: &str, schema: &str, implied: bool) {
        let place = (catalog.to_string(), schema.to_string());
        let mut places = lock(&self.implied);
        if implied {
            places.insert(place);
        } else {
            places.remove(&place);
        }
    }

    /// Whether a schema is only there because a table was made in it.
    pub(crate) fn is_implied(&self, catalog: &str, schema: &str) -> bool {
        lock(&self.implied).contains(&(catalog.to_string(), schema.to_string()))
    }

    pub(crate) fn set_observer(&self, observer: Arc<dyn Observer>) {
        *lock(&self.observer) = observer;
    }
}

/// The name and version of `name` or `name@version`.
pub(crate) fn split_version(name: &str) -> Result<(&str, Option<u64>)> {
    match name.split_once('@') {
        None => Ok((name, None)),
        Some((model, version)) => match version.parse() {
            Ok(v) => Ok((model, Some(v))),
            Err(_) => Err(Error::request(format!(
                "'{name}' names no version of a model; write '{model}@1', or '{model}' for the newest"
            ))),
        },
    }
}
