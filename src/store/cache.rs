//! Models that were loaded a short while ago.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

use super::{LoadedModel, ModelStore, Stamp, background, check_name};
use crate::error::Result;

/// At most so many models are kept …
const MAX_MODELS: usize = 64;

/// … whose files are at most so long together. The last one used stays, however long it is.
const MAX_BYTES: u64 = 1 << 30;

/// Loaded models, the least recently used of them dropped first.
///
/// Which version of a model is the newest is asked of the store each time; a version is read once, by however many
/// threads ask for it. A clone shares what is kept.
#[derive(Debug, Clone, Default)]
pub struct ModelCache {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Key, Entry>,
    /// Counts the uses.
    clock: u64,
}

/// The stamp tells a version from another that took its number, after a folder was removed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    store_id: u64,
    name: String,
    version: u64,
    stamp: Stamp,
    /// Which trial of a search, if one was named.
    trial: Option<u64>,
}

#[derive(Debug)]
struct Entry {
    model: Arc<OnceCell<Arc<LoadedModel>>>,
    last_used: u64,
}

impl ModelCache {
    /// The model `name` of `store`: that version, or the newest. Blocks the calling thread, within a runtime or without.
    ///
    /// # Errors
    /// As [`ModelStore::load`].
    pub fn get(&self, store: &ModelStore, name: &str, version: Option<u64>) -> Result<Arc<LoadedModel>> {
        let name = check_name(name)?;
        background::wait(self.clone().fetch(store.clone(), name, version, None))
    }

    /// As [`ModelCache::get`], without blocking.
    ///
    /// # Errors
    /// As [`ModelStore::load`].
    pub async fn get_async(&self, store: &ModelStore, name: &str, version: Option<u64>) -> Result<Arc<LoadedModel>> {
        let name = check_name(name)?;
        background::run(self.clone().fetch(store.clone(), name, version, None)).await
    }

    /// As [`ModelCache::get`], of the model of one trial of a search.
    ///
    /// # Errors
    /// As [`ModelStore::load`]; there is no such trial, or it left no model.
    pub(crate) fn get_trial(
        &self,
        store: &ModelStore,
        name: &str,
        version: Option<u64>,
        trial: u64,
    ) -> Result<Arc<LoadedModel>> {
        let name = check_name(name)?;
        background::wait(self.clone().fetch(store.clone(), name, version, Some(trial)))
    }

    async fn fetch(
        self,
        store: ModelStore,
        name: String,
        version: Option<u64>,
        trial: Option<u64>,
    ) -> Result<Arc<LoadedModel>> {
        let found = store.inner.find(&name, version).await?;
        let key = Key {
            store_id: store.inner.id,
            name,
            version: found.version,
            stamp: found.stamp,
            trial,
        };
        let cell = self.cell(&key);
        let model = cell
            .get_or_try_init(|| async {
                let model = store.inner.read_model(&key.name, key.version, key.trial);
                model.await.map(Arc::new)
            })
            .await
            .map(Arc::clone);
        self.trim();
        model
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The map is whole between statements, so a panic elsewhere spoils nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cell(&self, key: &Key) -> Arc<OnceCell<Arc<LoadedModel>>> {
        let mut state = self.state();
        state.clock += 1;
        let now = state.clock;
        let entry = state.entries.entry(key.clone()).or_insert_with(|| Entry {
            model: Arc::default(),
            last_used: now,
        });
        entry.last_used = now;
        Arc::clone(&entry.model)
    }

    fn trim(&self) {
        let mut state = self.state();
        let mut by_use: Vec<(u64, u64, Key)> = state
            .entries
            .iter()
            .map(|(key, entry)| {
                let bytes = entry
                    .model
                    .get()
                    .map_or(0, |m| m.manifest.parts.iter().map(|p| p.byte_count).sum());
                (entry.last_used, bytes, key.clone())
            })
            .collect();
        by_use.sort_unstable_by_key(|(last_used, ..)| std::cmp::Reverse(*last_used));
        let mut total = 0u64;
        for (i, (_, bytes, key)) in by_use.into_iter().enumerate() {
            total = total.saturating_add(bytes);
            if i >= MAX_MODELS || (i > 0 && total > MAX_BYTES) {
                state.entries.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let cache = ModelCache::default();
        let key = |version| Key {
            store_id: 0,
            name: "m".into(),
            version,
            stamp: Stamp::default(),
            trial: None,
        };
        for version in 0..MAX_MODELS as u64 + 1 {
            cache.cell(&key(version));
            cache.cell(&key(0));
            cache.trim();
        }
        let kept: Vec<bool> = (0..3).map(|v| cache.state().entries.contains_key(&key(v))).collect();
        assert_eq!(
            (kept, cache.state().entries.len()),
            (vec![true, false, true], MAX_MODELS)
        );
    }
}
