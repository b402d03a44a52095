//! Models that last: a folder for each version of each model, on any object store.
//!
//! ```text
//! <store>/<name>/<version>/<part>-<uuid>.parquet     the model's tables
//! <store>/<name>/<version>/trial-<n>-<uuid>.json     the model of another trial of a search: a manifest, its tables beside it
//! <store>/<name>/<version>/manifest.json             written last, and only where there is none: the commit
//! ```
//!
//! A version without a manifest does not exist, so a writer that is killed anywhere leaves the versions before it as
//! they were. Of two writers that want the same version, the store lets one put the manifest; the other writes its
//! parts again under the next version. Checksums of the manifest and of every part tell a file that was cut or changed.

mod artefact;
mod background;
mod cache;
mod location;
mod trials;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::memory::InMemory;
use object_store::path::{Path, PathPart};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload, WriteMultipart};
use url::Url;

use crate::error::{Error, Result, list, nearest};
use crate::models::{Artefact, Model, Parts, TrainingInfo, model_type};
use crate::options::Options;

pub use artefact::{FORMAT_VERSION, Manifest, PartFile, TrialFile};
pub use cache::ModelCache;
pub(crate) use trials::TrialModel;

use artefact::{EncodedPart, MANIFEST_FILE, Unreadable, decode_part};

/// The location of a store in memory.
const MEMORY: &str = "memory";

/// At most so many bytes in a name, so that it is a file name everywhere.
const MAX_NAME_BYTES: usize = 200;

/// A file longer than this goes up in pieces of this length, so that a slow line loses a piece, not the file.
const PIECE_BYTES: usize = 8 << 20;

/// So many pieces of a file, or files of a model, are on their way at once.
const CONCURRENT: usize = 4;

/// How often a manifest is put again where the store refuses it and yet has none.
const COMMIT_ATTEMPTS: u32 = 5;

/// The plain form of a model's name: lower case, one to three parts joined by dots, each of letters, digits, `_` and `-`.
///
/// # Errors
/// It is no plain name.
pub fn check_name(name: &str) -> Result<String> {
    let lower = name.to_lowercase();
    let plain = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    if lower.len() > MAX_NAME_BYTES {
        let begin: String = name.chars().take(20).collect();
        return Err(Error::request(format!(
            "'{}…' is too long for a model name; use at most {MAX_NAME_BYTES} bytes",
            begin.escape_debug()
        )));
    }
    if lower.split('.').count() > 3 || !lower.split('.').all(plain) {
        return Err(Error::request(format!(
            "'{}' is no plain model name; use letters, digits, _ and -, with up to three parts joined by dots",
            name.escape_debug()
        )));
    }
    Ok(lower)
}

/// A model as it was read back.
#[derive(Debug, Clone)]
pub struct LoadedModel {
    /// What it says of itself.
    pub manifest: Manifest,
    /// The model.
    pub model: Arc<dyn Model>,
}

/// A version of a model in a listing.
#[derive(Debug)]
pub struct ModelEntry {
    /// The model's name.
    pub name: String,
    /// The version.
    pub version: u64,
    /// What it says of itself, or why that cannot be read.
    pub manifest: Result<Manifest>,
}

/// Where models are kept. A clone is the same store.
#[derive(Clone)]
pub struct ModelStore {
    inner: Arc<Inner>,
}

impl fmt::Debug for ModelStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ModelStore").field(&self.inner.location).finish()
    }
}

struct Inner {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    location: String,
    /// Tells stores apart that are shown alike, such as two in memory.
    id: u64,
}

/// What tells a manifest from another at the same place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Stamp {
    e_tag: Option<String>,
    modified_us: i64,
    byte_count: u64,
}

impl From<ObjectMeta> for Stamp {
    fn from(meta: ObjectMeta) -> Self {
        Self {
            e_tag: meta.e_tag,
            modified_us: meta.last_modified.timestamp_micros(),
            byte_count: meta.size,
        }
    }
}

/// A version whose manifest is there.
#[derive(Debug)]
struct Found {
    version: u64,
    stamp: Stamp,
}

impl ModelStore {
    /// An empty store in this process's memory.
    pub fn in_memory() -> Self {
        Self::new(Arc::new(InMemory::new()), Path::default(), MEMORY)
    }

    /// The store at `location`: `memory`, a folder, or a `file://`, `s3://`, `gs://`, `az://`, `abfss://` or `https://`
    /// URL. Nothing is asked there yet, and a folder that does not exist is an empty store.
    ///
    /// URLs that are not of files are looked up with `registered` first. A cloud's store that it does not have is built
    /// from the environment (`AWS_…`, `GOOGLE_…`, `AZURE_…`) if the feature `cloud` is on.
    ///
    /// # Errors
    /// The location is unknown, or its store cannot be built.
    pub fn open(location: &str, registered: &dyn Fn(&Url) -> Option<Arc<dyn ObjectStore>>) -> Result<Self> {
        if location.trim().is_empty() || location.trim().eq_ignore_ascii_case(MEMORY) {
            return Ok(Self::in_memory());
        }
        let place = location::open(location, registered)?;
        Ok(Self::new(place.store, place.prefix, place.shown))
    }

    /// The store under `prefix` of an object store, which must support [`PutMode::Create`]; `location` is how messages
    /// name it.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path, location: impl Into<String>) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Self {
            inner: Arc::new(Inner {
                store,
                prefix,
                location: location.into(),
                id,
            }),
        }
    }

    /// How messages name it.
    pub fn location(&self) -> &str {
        &self.inner.location
    }

    /// Stores a model as a new version of `name`, and gives the version's number.
    ///
    /// # Errors
    /// The name is not plain, or the store refuses; what was stored before is as it was.
    pub async fn save(&self, name: &str, model: &dyn Model, options: &Options, info: &TrainingInfo) -> Result<u64> {
        self.save_search(name, model, options, info, Arc::default()).await
    }

    /// Reads a model: that version of it, or the newest.
    ///
    /// # Errors
    /// The name is not plain; there is no such model (with those that there are) or version; it is corrupt or of a newer
    /// format; or the store does not answer.
    pub async fn load(&self, name: &str, version: Option<u64>) -> Result<LoadedModel> {
        let name = check_name(name)?;
        self.load_trial(&name, version, None).await
    }

    /// As [`ModelStore::load`], for callers that cannot await: it blocks the calling thread, within a runtime or without.
    ///
    /// # Errors
    /// As [`ModelStore::load`].
    pub fn load_blocking(&self, name: &str, version: Option<u64>) -> Result<Arc<LoadedModel>> {
        let name = check_name(name)?;
        let inner = Arc::clone(&self.inner);
        background::wait(async move {
            let found = inner.find(&name, version).await?;
            inner.read_model(&name, found.version, None).await.map(Arc::new)
        })
    }

    /// The newest version of a model; none if there is no such model.
    ///
    /// # Errors
    /// The name is not plain, or the store does not answer.
    pub async fn latest_version(&self, name: &str) -> Result<Option<u64>> {
        let name = check_name(name)?;
        let inner = Arc::clone(&self.inner);
        background::run(async move { Ok(inner.newest(&name).await?.map(|f| f.version)) }).await
    }

    /// Removes a model, all its versions or that one, and gives how many there were. The oldest goes first, and of each its manifest:
    /// whoever reads meanwhile, or after a removal that was cut short, finds whole versions only.
    ///
    /// # Errors
    /// The name is not plain, or the store refuses; some versions may be gone by then.
    pub async fn remove(&self, name: &str, version: Option<u64>) -> Result<u64> {
        let name = check_name(name)?;
        let inner = Arc::clone(&self.inner);
        background::run(async move { inner.remove_model(&name, version).await }).await
    }

    /// The newest version of each model, by name. One that cannot be read is listed with the reason.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn list(&self) -> Result<Vec<ModelEntry>> {
        let inner = Arc::clone(&self.inner);
        background::run(async move { inner.list(false).await }).await
    }

    /// Every version of each model, by name and version. One that cannot be read is listed with the reason.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn list_versions(&self) -> Result<Vec<ModelEntry>> {
        let inner = Arc::clone(&self.inner);
        background::run(async move { inner.list(true).await }).await
    }
}

/// The number of a version's folder, if it is one as [`version_folder_name`] writes it.
fn parse_version(folder: &str) -> Option<u64> {
    folder
        .parse()
        .ok()
        .filter(|v| *v > 0 && version_folder_name(*v) == folder)
}

/// Padded, so that listings sort by version.
fn version_folder_name(version: u64) -> String {
    format!("{version:06}")
}

impl Inner {
    // Places and messages.

    fn model_folder(&self, name: &str) -> Result<Path> {
        // Parsed, not converted: a conversion would write letters outside ASCII as percent signs and numbers.
        let part = PathPart::parse(name)
            .map_err(|e| Error::request(format!("'{name}' is no plain model name")).with_source(e))?;
        Ok(self.prefix.clone().join(part))
    }

    fn version_folder(&self, name: &str, version: u64) -> Result<Path> {
        Ok(self.model_folder(name)?.join(version_folder_name(version)))
    }

    fn manifest_path(&self, name: &str, version: u64) -> Result<Path> {
        Ok(self.version_folder(name, version)?.join(MANIFEST_FILE))
    }

    /// The store, as messages name it.
    fn shown(&self) -> String {
        if self.location == MEMORY {
            "the store in memory".into()
        } else {
            format!("the store '{}'", self.location)
        }
    }

    fn shown_folder(&self, name: &str, version: u64) -> String {
        format!(
            "{}/{name}/{}",
            self.location.trim_end_matches('/'),
            version_folder_name(version)
        )
    }

    fn unread(&self, e: object_store::Error) -> Error {
        Error::store(format!(
            "{} cannot be read; check that it exists and that you may read it",
            self.shown()
        ))
        .with_source(e)
    }

    fn unwritten(&self, name: &str, e: object_store::Error) -> Error {
        let why = match e {
            object_store::Error::NotSupported { .. } | object_store::Error::NotImplemented { .. } => {
                "it cannot put a file only where there is none, which keeps writers apart; use a folder, S3, Google Cloud \
                 Storage or Azure"
            }
            _ => "check that it exists and that you may write there",
        };
        Error::store(format!("model '{name}' cannot be stored in {}: {why}", self.shown())).with_source(e)
    }

    fn corrupt(&self, name: &str, version: u64, file: &str, why: &str) -> Error {
        let folder = self.shown_folder(name, version);
        let back = if version > 1 {
            " to go back to the version before it"
        } else {
            ""
        };
        Error::model(format!(
            "model '{name}' (version {version}) is corrupt: its file '{file}' {why}; train it again, or remove '{folder}'{back}"
        ))
    }

    async fn missing(&self, name: &str) -> Error {
        let names = match self.names().await {
            Ok(names) => names,
            Err(e) => return e,
        };
        let shown = self.shown();
        if names.is_empty() {
            return Error::model(format!(
                "there is no model '{name}'; {shown} is empty: train one with ML.TRAIN('{name}', …) or set ml.store"
            ));
        }
        let hint = nearest(name, names.iter().map(String::as_str))
            .map(|n| format!("did you mean '{n}'? "))
            .unwrap_or_default();
        Error::model(format!(
            "there is no model '{name}'; {hint}{shown} has {}",
            list(&names, 20)
        ))
    }

    async fn missing_version(&self, name: &str, version: u64) -> Error {
        match self.committed_versions(name).await {
            Err(e) => e,
            Ok(versions) if versions.is_empty() => self.missing(name).await,
            Ok(versions) => {
                let words: Vec<String> = versions
                    .iter()
                    .rev()
                    .take(10)
                    .rev()
                    .map(|f| f.version.to_string())
                    .collect();
                let have = if versions.len() > words.len() {
                    "its newest are"
                } else {
                    "it has"
                };
                Error::model(format!(
                    "model '{name}' has no version {version}; {have} {}",
                    words.join(", ")
                ))
            }
        }
    }

    // Removing.

    async fn remove_model(&self, name: &str, version: Option<u64>) -> Result<u64> {
        let unremoved = |e: object_store::Error| {
            Error::store(format!(
                "model '{name}' cannot be removed from {}; check that you may delete there",
                self.shown()
            ))
            .with_source(e)
        };
        let mut removed = 0;
        for folder in self.version_folders(name).await? {
            if version.is_some_and(|v| v != folder) {
                continue;
            }
            removed += u64::from(self.committed(name, folder).await?.is_some());
            match self.store.delete(&self.manifest_path(name, folder)?).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(unremoved(e)),
            }
            let prefix = self.version_folder(name, folder)?;
            let parts: Vec<_> = self
                .store
                .list(Some(&prefix))
                .try_collect()
                .await
                .map_err(|e| self.unread(e))?;
            for part in parts {
                match self.store.delete(&part.location).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(e) => return Err(unremoved(e)),
                }
            }
        }
        Ok(removed)
    }

    // Reading.

    /// The names of folders under `folder`.
    async fn folders(&self, folder: &Path) -> Result<Vec<String>> {
        let prefix = (!folder.is_root()).then_some(folder);
        let listing = self
            .store
            .list_with_delimiter(prefix)
            .await
            .map_err(|e| self.unread(e))?;
        Ok(listing
            .common_prefixes
            .iter()
            .filter_map(|p| p.filename().map(String::from))
            .collect())
    }

    /// The numbers of a model's versions, ascending, with those that were never completed.
    async fn version_folders(&self, name: &str) -> Result<Vec<u64>> {
        let mut versions: Vec<u64> = self
            .folders(&self.model_folder(name)?)
            .await?
            .iter()
            .filter_map(|f| parse_version(f))
            .collect();
        versions.sort_unstable();
        Ok(versions)
    }

    /// The version, if its manifest is there.
    async fn committed(&self, name: &str, version: u64) -> Result<Option<Found>> {
        match self.store.head(&self.manifest_path(name, version)?).await {
            Ok(meta) => Ok(Some(Found {
                version,
                stamp: meta.into(),
            })),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.unread(e)),
        }
    }

    async fn committed_versions(&self, name: &str) -> Result<Vec<Found>> {
        let asked: Vec<_> = self
            .version_folders(name)
            .await?
            .into_iter()
            .map(|v| self.committed(name, v))
            .collect();
        let found: Vec<Option<Found>> = stream::iter(asked).buffered(CONCURRENT).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn newest(&self, name: &str) -> Result<Option<Found>> {
        for version in self.version_folders(name).await?.into_iter().rev() {
            if let Some(found) = self.committed(name, version).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The models that have a version, by name.
    async fn names(&self) -> Result<Vec<String>> {
        let mut names = self.folders(&self.prefix).await?;
        // Other folders may lie beside the models'.
        names.retain(|n| check_name(n).is_ok_and(|plain| plain == *n));
        names.sort_unstable();
        let asked: Vec<_> = names.iter().map(|n| self.newest(n)).collect();
        let found: Vec<Option<Found>> = stream::iter(asked).buffered(CONCURRENT).try_collect().await?;
        Ok(names
            .into_iter()
            .zip(found)
            .filter_map(|(name, found)| found.map(|_| name))
            .collect())
    }

    /// That version, or the newest.
    async fn find(&self, name: &str, version: Option<u64>) -> Result<Found> {
        match version {
            None => match self.newest(name).await? {
                Some(found) => Ok(found),
                None => Err(self.missing(name).await),
            },
            Some(version) => match self.committed(name, version).await? {
                Some(found) => Ok(found),
                None => Err(self.missing_version(name, version).await),
            },
        }
    }

    /// The manifest `file` of a version: the model's own, or that of a trial's model.
    async fn read_manifest(&self, name: &str, version: u64, file: &str) -> Result<Manifest> {
        let corrupt = |why: &str| self.corrupt(name, version, file, why);
        let part = PathPart::parse(file).map_err(|_| corrupt("has a name that is none"))?;
        let bytes = match self.store.get(&self.version_folder(name, version)?.join(part)).await {
            Ok(answer) => answer.bytes().await.map_err(|e| self.unread(e))?,
            Err(object_store::Error::NotFound { .. }) if file != MANIFEST_FILE => return Err(corrupt("is missing")),
            Err(object_store::Error::NotFound { .. }) => return Err(self.missing_version(name, version).await),
            Err(e) => return Err(self.unread(e)),
        };
        match Manifest::from_file(&bytes) {
            // The folder says what the model is called: whoever copies one renames the model.
            Ok(manifest) => Ok(Manifest {
                name: name.into(),
                version,
                ..manifest
            }),
            Err(Unreadable::Corrupt(why)) => Err(corrupt(&why)),
            Err(Unreadable::Newer(format)) => Err(Error::model(format!(
                "model '{name}' was written by a newer version of datafusion-ml (format {format}; this one reads up to \
                 {FORMAT_VERSION}); upgrade datafusion-ml to use it"
            ))),
        }
    }

    fn part_path(&self, name: &str, version: u64, part: &PartFile) -> Result<Path> {
        let file = PathPart::parse(&part.file)
            .map_err(|_| self.corrupt(name, version, &part.file, "has a name that is none"))?;
        Ok(self.version_folder(name, version)?.join(file))
    }

    async fn read_part(&self, name: &str, version: u64, part: &PartFile) -> Result<(String, RecordBatch)> {
        let corrupt = |why: &str| self.corrupt(name, version, &part.file, why);
        let bytes = match self.store.get(&self.part_path(name, version, part)?).await {
            Ok(answer) => answer.bytes().await.map_err(|e| self.unread(e))?,
            Err(object_store::Error::NotFound { .. }) => return Err(corrupt("is missing")),
            Err(e) => return Err(self.unread(e)),
        };
        let expected = part.clone();
        let table = background::compute(move || Ok(decode_part(&expected, bytes)))
            .await?
            .map_err(|why| corrupt(&why))?;
        Ok((part.name.clone(), table))
    }

    /// Reads a version of a model, or the model of one of its trials.
    async fn read_model(&self, name: &str, version: u64, trial: Option<u64>) -> Result<LoadedModel> {
        let mut manifest = self.read_manifest(name, version, MANIFEST_FILE).await?;
        if let Some(trial) = trial
            && let Some(own) = self.trial_manifest(&manifest, trial).await?
        {
            manifest = own;
        }
        let kind = model_type(&manifest.model_type).map_err(|_| {
            Error::model(format!(
                "model '{name}' is of type '{}', which this version of datafusion-ml does not know; upgrade datafusion-ml to \
                 use it",
                manifest.model_type
            ))
        })?;
        let asked: Vec<_> = manifest
            .parts
            .iter()
            .map(|part| self.read_part(name, version, part))
            .collect();
        let tables = stream::iter(asked).buffered(CONCURRENT).try_collect().await?;
        let artefact = Artefact {
            name: name.into(),
            features: manifest.features.clone(),
            options: manifest.options.clone(),
            parts: Parts {
                tables,
                settings: manifest.settings.clone(),
            },
        };
        let model = background::compute(move || kind.load(&artefact)).await?;
        Ok(LoadedModel { manifest, model })
    }

    async fn entry(&self, name: &str, version: u64) -> ModelEntry {
        ModelEntry {
            name: name.into(),
            version,
            manifest: self.read_manifest(name, version, MANIFEST_FILE).await,
        }
    }

    async fn list(&self, every_version: bool) -> Result<Vec<ModelEntry>> {
        let mut found = vec![];
        for name in self.names().await? {
            let versions = if every_version {
                self.committed_versions(&name).await?
            } else {
                self.newest(&name).await?.into_iter().collect()
            };
            found.extend(versions.into_iter().map(|f| (name.clone(), f.version)));
        }
        let asked: Vec<_> = found.iter().map(|(name, version)| self.entry(name, *version)).collect();
        Ok(stream::iter(asked).buffered(CONCURRENT).collect().await)
    }

    // Writing.

    async fn save(
        &self,
        mut manifest: Manifest,
        tables: Vec<(String, RecordBatch)>,
        trials: &[TrialModel],
    ) -> Result<u64> {
        let parts: Vec<EncodedPart> = background::compute(move || {
            tables
                .iter()
                .map(|(name, table)| EncodedPart::new(name, table))
                .collect()
        })
        .await?;
        loop {
            let newest = self.newest(&manifest.name).await?.map_or(0, |f| f.version);
            // After a lost race, never the same version again, whatever the listing says.
            manifest.version = newest.max(manifest.version) + 1;
            manifest.parts = parts.iter().map(EncodedPart::entry).collect();
            if self.write_version(&mut manifest, &parts, trials).await? {
                return Ok(manifest.version);
            }
        }
    }

    /// Writes the trials' models and the parts, then the manifest. False: another writer has the version, and nothing of ours is left.
    async fn write_version(
        &self,
        manifest: &mut Manifest,
        parts: &[EncodedPart],
        trials: &[TrialModel],
    ) -> Result<bool> {
        let folder = self.version_folder(&manifest.name, manifest.version)?;
        // What cannot be written is known before anything is.
        manifest.to_file()?;
        let mut written = vec![];
        let before = async {
            self.write_trials(manifest, trials, &mut written).await?;
            self.write_parts(manifest, parts, &mut written).await?;
            manifest.to_file()
        };
        let file = match before.await {
            Ok(file) => file,
            Err(e) => {
                self.remove(written).await;
                return Err(e);
            }
        };
        match self.commit(&folder.join(MANIFEST_FILE), file).await {
            Ok(true) => Ok(true),
            Ok(false) => {
                self.remove(written).await;
                Ok(false)
            }
            // The manifest may be there, or come to be, without our knowing: its parts must stay.
            Err(e) => Err(self.unwritten(&manifest.name, e)),
        }
    }

    /// Writes the parts of a manifest; `written` gets the files.
    async fn write_parts(&self, manifest: &Manifest, parts: &[EncodedPart], written: &mut Vec<Path>) -> Result<()> {
        let folder = self.version_folder(&manifest.name, manifest.version)?;
        for (entry, part) in manifest.parts.iter().zip(parts) {
            let path = folder.clone().join(entry.file.as_str());
            written.push(path.clone());
            let put = async { self.put_part(&path, &part.payload().await?).await };
            put.await.map_err(|e| self.unwritten(&manifest.name, e))?;
        }
        Ok(())
    }

    async fn put_part(&self, path: &Path, payload: &PutPayload) -> object_store::Result<()> {
        if payload.content_length() <= PIECE_BYTES {
            self.store.put(path, payload.clone()).await?;
            return Ok(());
        }
        let mut upload = WriteMultipart::new_with_chunk_size(self.store.put_multipart(path).await?, PIECE_BYTES);
        for chunk in payload.iter() {
            let mut rest = chunk.clone();
            while !rest.is_empty() {
                if let Err(e) = upload.wait_for_capacity(CONCURRENT).await {
                    // The error to report is the first one.
                    let _ = upload.abort().await;
                    return Err(e);
                }
                upload.put(rest.split_to(rest.len().min(PIECE_BYTES)));
            }
        }
        upload.finish().await?;
        Ok(())
    }

    /// Puts the manifest where there is none. False: another one is there.
    async fn commit(&self, path: &Path, file: Vec<u8>) -> object_store::Result<bool> {
        let payload = PutPayload::from(file.clone());
        for attempt in 0..COMMIT_ATTEMPTS {
            let Err(refusal) = self.store.put_opts(path, payload.clone(), PutMode::Create.into()).await else {
                return Ok(true);
            };
            // Where the answer to a put was lost, the manifest that is there now may be ours.
            let there = match self.store.get(path).await {
                Ok(answer) => answer.bytes().await,
                Err(e) => Err(e),
            };
            match (there, &refusal) {
                (Ok(there), _) => return Ok(there == file),
                // S3 may refuse every one of several puts at one instant.
                (Err(object_store::Error::NotFound { .. }), object_store::Error::AlreadyExists { .. }) => {
                    tokio::time::sleep(Duration::from_millis(20 << attempt)).await;
                }
                _ => return Err(refusal),
            }
        }
        Ok(false)
    }

    /// Removes files that no manifest names. What cannot be removed does no harm.
    async fn remove(&self, paths: Vec<Path>) {
        for path in paths {
            if let Err(e) = self.store.delete(&path).await
                && !matches!(e, object_store::Error::NotFound { .. })
            {
                log::warn!(
                    "'{path}' in {} belongs to no model and could not be removed: {e}",
                    self.shown()
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_in_lower_case() {
        for (given, plain) in [
            ("Churn", "churn"),
            ("a.b.C", "a.b.c"),
            ("rfm_2024-q1", "rfm_2024-q1"),
            ("Größe", "größe"),
            ("000001", "000001"),
        ] {
            assert_eq!(check_name(given).unwrap(), plain);
        }
    }

    #[test]
    fn other_names_are_refused() {
        let bad = [
            "", ".", "..", "../x", ".x", "x.", "a..b", "a.b.c.d", "a/b", "a\\b", "a b", "a\0", "a%2e", "a:b", "~",
            "a\n",
        ];
        for name in bad {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert_eq!(
            check_name("../x").unwrap_err().to_string(),
            "'../x' is no plain model name; use letters, digits, _ and -, with up to three parts joined by dots"
        );
        assert!(check_name(&"x".repeat(200)).is_ok());
        assert!(
            check_name(&"x".repeat(201))
                .unwrap_err()
                .to_string()
                .contains("too long")
        );
        assert!(!check_name("a\n").unwrap_err().to_string().contains('\n'));
    }

    #[test]
    fn version_folders_sort_and_come_back() {
        assert_eq!(version_folder_name(7), "000007");
        for version in [1, 42, 999_999, 1_000_000, u64::MAX] {
            assert_eq!(parse_version(&version_folder_name(version)), Some(version));
        }
        for other in ["0", "1", "000000", "0000001", "+00001", "manifest.json", "00001x"] {
            assert_eq!(parse_version(other), None);
        }
    }
}
