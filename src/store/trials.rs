//! The models of a search's other trials: stored beside the one that is kept, in the folder of its version, each with a manifest of its own.
//!
//! Nobody who reads the model reads them: its manifest only names their manifests.

use std::io::Write;
use std::sync::Arc;

use datafusion::execution::SpillFile;
use object_store::path::PathPart;
use object_store::{ObjectStoreExt, PutPayload};
use uuid::Uuid;

use super::artefact::{EncodedPart, Kept, Manifest, TrialFile, finite, now};
use super::{FORMAT_VERSION, Inner, LoadedModel, ModelStore, background, check_name};
use crate::error::{Error, Result};
use crate::models::{Model, Parts, TrainingInfo};
use crate::options::Options;

/// The model of a trial as it is to be stored: encoded, in memory or elsewhere.
#[derive(Debug)]
pub(crate) struct TrialModel {
    /// Which trial, from 1.
    pub trial_id: u64,
    manifest: Manifest,
    parts: Vec<EncodedPart>,
}

impl TrialModel {
    /// The model that trial `trial_id` gave. What all trials share, such as TRANSFORM, is left out of `info`.
    ///
    /// # Errors
    /// The model cannot be encoded.
    pub(crate) fn new(trial_id: u64, model: &dyn Model, info: &TrainingInfo) -> Result<Self> {
        let Parts { tables, settings } = model.parts()?;
        let parts = tables
            .iter()
            .map(|(name, table)| EncodedPart::new(&format!("trial-{trial_id}-{name}"), table))
            .collect::<Result<Vec<_>>>()?;
        let names = tables.into_iter().map(|(name, _)| name);
        let manifest = Manifest {
            format_version: FORMAT_VERSION,
            library_version: env!("CARGO_PKG_VERSION").into(),
            name: String::new(),
            version: 0,
            model_type: model.model_type().into(),
            created_at: now(),
            features: model.feature_columns().to_vec(),
            options: Options::default(),
            settings,
            training: finite(info),
            parts: vec![],
            trial_id: Some(trial_id),
            trials: vec![],
            checksum: String::new(),
        };
        let parts = names.zip(parts).map(|(name, part)| part.named(name)).collect();
        Ok(Self {
            trial_id,
            manifest,
            parts,
        })
    }

    /// How many bytes of memory its files take.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.parts.iter().map(EncodedPart::memory_bytes).sum()
    }

    /// Moves its files from memory to files that `create` makes.
    ///
    /// # Errors
    /// A file cannot be made or written.
    pub(crate) fn spill(
        &mut self,
        create: &dyn Fn() -> datafusion::common::Result<Arc<dyn SpillFile>>,
    ) -> datafusion::common::Result<()> {
        for part in &mut self.parts {
            let Kept::Memory(payload) = &part.kept else {
                continue;
            };
            let file = create()?;
            let mut writer = file.open_writer()?;
            for bytes in payload {
                writer.write_all(bytes)?;
            }
            writer.finish()?;
            part.kept = Kept::Disk(file, payload.content_length());
        }
        Ok(())
    }
}

impl ModelStore {
    /// As [`ModelStore::save`], with the models of the other trials of the search that gave this one.
    ///
    /// # Errors
    /// As [`ModelStore::save`].
    pub(crate) async fn save_search(
        &self,
        name: &str,
        model: &dyn Model,
        options: &Options,
        info: &TrainingInfo,
        trials: Arc<Vec<TrialModel>>,
    ) -> Result<u64> {
        let Parts { tables, settings } = model.parts()?;
        let manifest = Manifest {
            format_version: FORMAT_VERSION,
            library_version: env!("CARGO_PKG_VERSION").into(),
            name: check_name(name)?,
            version: 0,
            model_type: model.model_type().into(),
            created_at: now(),
            features: model.feature_columns().to_vec(),
            options: options.clone(),
            settings,
            training: finite(info),
            parts: vec![],
            trial_id: None,
            trials: vec![],
            checksum: String::new(),
        };
        let inner = Arc::clone(&self.inner);
        background::run(async move { inner.save(manifest, tables, &trials).await }).await
    }

    /// Reads the model of a trial: of that version of a search's model, or the newest. Without a trial, the model itself.
    ///
    /// # Errors
    /// As [`ModelStore::load`]; there is no such trial, or it left no model.
    pub(crate) async fn load_trial(&self, name: &str, version: Option<u64>, trial: Option<u64>) -> Result<LoadedModel> {
        let name = check_name(name)?;
        let inner = Arc::clone(&self.inner);
        background::run(async move {
            let found = inner.find(&name, version).await?;
            inner.read_model(&name, found.version, trial).await
        })
        .await
    }

    /// The models of the other trials beside a model of this store, to be stored again. Their files are read as they are written.
    ///
    /// # Errors
    /// A manifest cannot be read.
    pub(crate) async fn trials_of(&self, loaded: &LoadedModel) -> Result<Arc<Vec<TrialModel>>> {
        let manifest = loaded.manifest.clone();
        let inner = Arc::clone(&self.inner);
        background::run(async move {
            let mut trials = vec![];
            for file in &manifest.trials {
                let own = inner
                    .read_manifest(&manifest.name, manifest.version, &file.file)
                    .await?;
                let parts = own
                    .parts
                    .iter()
                    .map(|part| {
                        let path = inner.part_path(&manifest.name, manifest.version, part)?;
                        Ok(EncodedPart::stored(part, file.trial_id, Arc::clone(&inner.store), path))
                    })
                    .collect::<Result<Vec<_>>>()?;
                trials.push(TrialModel {
                    trial_id: file.trial_id,
                    manifest: Manifest { parts: vec![], ..own },
                    parts,
                });
            }
            Ok(Arc::new(trials))
        })
        .await
    }
}

impl Inner {
    /// The manifest of a trial's model, with what it shares with the model of the search, whose manifest is `main`. None: they are the same.
    pub(super) async fn trial_manifest(&self, main: &Manifest, trial: u64) -> Result<Option<Manifest>> {
        let (name, known) = (&main.name, &main.training.trials);
        if known.is_empty() {
            return Err(Error::request(format!(
                "no options of model '{name}' were searched, so that it has no trials; leave trial_id out"
            )));
        }
        let Some(told) = trial.checked_sub(1).and_then(|at| known.get(at as usize)) else {
            return Err(Error::request(format!(
                "model '{name}' has no trial {trial}; it has 1 to {}",
                known.len()
            )));
        };
        if told.is_optimal {
            return Ok(None);
        }
        let Some(file) = main.trials.iter().find(|t| t.trial_id == trial) else {
            let why = match &told.error {
                Some(error) => format!("it failed: {error}"),
                None => "it was not kept".into(),
            };
            let others: Vec<String> = main.trial_ids().iter().map(u64::to_string).collect();
            return Err(Error::request(format!(
                "trial {trial} of model '{name}' has no model, because {why}; take one of {}",
                others.join(", ")
            )));
        };
        let mut own = self.read_manifest(name, main.version, &file.file).await?;
        own.training.transform = main.training.transform.clone();
        own.training.features = main.training.features.clone();
        own.training.properties = main.training.properties.clone();
        Ok(Some(own))
    }

    /// Writes the models of trials into the folder of a version; `written` gets the files.
    pub(super) async fn write_trials(
        &self,
        main: &mut Manifest,
        trials: &[TrialModel],
        written: &mut Vec<object_store::path::Path>,
    ) -> Result<()> {
        let folder = self.version_folder(&main.name, main.version)?;
        main.trials.clear();
        for trial in trials {
            let mut manifest = Manifest {
                name: main.name.clone(),
                version: main.version,
                parts: trial.parts.iter().map(EncodedPart::entry).collect(),
                ..trial.manifest.clone()
            };
            let chosen = trial
                .trial_id
                .checked_sub(1)
                .and_then(|at| main.training.trials.get(at as usize));
            manifest.options = chosen
                .iter()
                .flat_map(|t| t.options.iter())
                .fold(main.options.clone(), |all, (name, value)| all.with(name, value.clone()));
            self.write_parts(&manifest, &trial.parts, written).await?;
            let file = format!("trial-{}-{}.json", trial.trial_id, Uuid::new_v4());
            let path = folder.clone().join(PathPart::from(file.as_str()));
            written.push(path.clone());
            self.store
                .put(&path, PutPayload::from(manifest.to_file()?))
                .await
                .map_err(|e| self.unwritten(&main.name, e))?;
            main.trials.push(TrialFile {
                trial_id: trial.trial_id,
                file,
            });
        }
        Ok(())
    }
}
