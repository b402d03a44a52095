//! The settings of a session: `SET ml.device = 'cpu'` and its siblings.

use std::any::Any;

use datafusion::common::DataFusionError;
use datafusion::common::config::{ConfigEntry, ConfigExtension, ExtensionOptions};

use crate::device::NO_CUDA;
use crate::error::{Error, Result, list, nearest};

/// Where models are kept when nothing else is said: in the session's memory.
pub const IN_MEMORY: &str = "memory";

/// The settings under `ml.`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Settings {
    /// Which device runs the kernels: `auto` or `cpu`.
    pub device: String,
    /// The seed where a statement gives none.
    pub seed: u64,
    /// Where models are kept: `memory`, a folder, or an object store URL.
    pub store: String,
    /// How many threads a fit uses; 0 means as many as `datafusion.execution.target_partitions`.
    pub threads: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            device: "auto".into(),
            seed: 42,
            store: IN_MEMORY.into(),
            threads: 0,
        }
    }
}

/// A setting's name, default and help.
#[derive(Debug, Clone, Copy)]
pub struct SettingSpec {
    /// The full name, such as `ml.seed`.
    pub name: &'static str,
    /// What it accepts.
    pub accepts: &'static str,
    /// The default.
    pub default: &'static str,
    /// One sentence of help.
    pub help: &'static str,
}

/// Every setting.
pub const SETTINGS: &[SettingSpec] = &[
    SettingSpec {
        name: "ml.device",
        accepts: "'auto' or 'cpu' ('cuda' once this library has CUDA kernels)",
        default: "'auto'",
        help: "Which device runs the kernels.",
    },
    SettingSpec {
        name: "ml.seed",
        accepts: "a whole number of at least 0",
        default: "42",
        help: "The seed where a statement gives none: the same data and seed give the same model.",
    },
    SettingSpec {
        name: "ml.store",
        accepts: "'memory', a folder, or a file://, s3://, gs:// or az:// URL",
        default: "'memory' ('.dfml/models' in the shell)",
        help: "Where models are kept.",
    },
    SettingSpec {
        name: "ml.threads",
        accepts: "a whole number from 0 to 1,024",
        default: "0",
        help: "How many threads a fit uses; 0 means as many as datafusion.execution.target_partitions.",
    },
];

impl Settings {
    fn assign(&mut self, key: &str, value: &str) -> Result<()> {
        let refuse = |spec: &SettingSpec| {
            Err(Error::request(format!(
                "setting '{}' takes {}, not '{value}'",
                spec.name, spec.accepts
            )))
        };
        let Some(spec) = SETTINGS.iter().find(|s| s.name[3..].eq_ignore_ascii_case(key)) else {
            let names = SETTINGS.iter().map(|s| s.name);
            let full = format!("ml.{key}");
            let hint = match nearest(&full, names.clone()) {
                Some(near) => format!("did you mean '{near}'?"),
                None => format!("the settings are {}", list(names, 20)),
            };
            return Err(Error::request(format!("there is no setting '{full}'; {hint}")));
        };
        match spec.name {
            "ml.device" => match value.to_lowercase().as_str() {
                word @ ("auto" | "cpu") => self.device = word.into(),
                "cuda" => {
                    return Err(Error::request(format!(
                        "setting 'ml.device' cannot be 'cuda': {NO_CUDA}"
                    )));
                }
                _ => return refuse(spec),
            },
            "ml.seed" => match value.parse::<u64>() {
                Ok(seed) if i64::try_from(seed).is_ok() => self.seed = seed,
                _ => return refuse(spec),
            },
            "ml.store" => match value.trim() {
                "" => return refuse(spec),
                location => self.store = location.into(),
            },
            _ => match value.parse() {
                Ok(threads) if threads <= 1024 => self.threads = threads,
                _ => return refuse(spec),
            },
        }
        Ok(())
    }
}

impl ConfigExtension for Settings {
    const PREFIX: &'static str = "ml";
}

impl ExtensionOptions for Settings {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), DataFusionError> {
        Ok(self.assign(key, value)?)
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        let values = [
            self.device.clone(),
            self.seed.to_string(),
            self.store.clone(),
            self.threads.to_string(),
        ];
        SETTINGS
            .iter()
            .zip(values)
            .map(|(spec, value)| ConfigEntry {
                key: spec.name.into(),
                value: Some(value),
                description: spec.help,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_values_and_names_are_named() {
        let mut s = Settings::default();
        let message = |e: Result<()>| e.unwrap_err().to_string();
        assert!(message(s.assign("device", "tpu")).contains("'ml.device' takes 'auto' or 'cpu'"));
        assert!(message(s.assign("device", "cuda")).contains("no CUDA kernels"));
        assert!(message(s.assign("seeed", "1")).contains("did you mean 'ml.seed'?"));
        assert!(message(s.assign("seed", "-1")).contains("not '-1'"));
        s.assign("seed", "7").unwrap();
        assert_eq!(s.seed, 7);
    }
}
