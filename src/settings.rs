//! The settings of a session: `SET ml.device = 'cpu'` and its siblings.

use std::any::Any;

use datafusion::common::DataFusionError;
use datafusion::common::config::{ConfigEntry, ConfigExtension, ExtensionOptions};

use crate::device::{Offer, Preference};
use crate::error::{Error, Result, list, nearest};

/// Where models are kept when nothing else is said: in the session's memory.
pub const IN_MEMORY: &str = "memory";

/// The settings under `ml.`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Settings {
    /// Which device runs the kernels.
    pub device: Preference,
    /// How many bytes of a card's memory are used at most; 0 stands for nine tenths of it.
    pub gpu_memory_limit: usize,
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
            device: Preference::Auto,
            gpu_memory_limit: 0,
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
        accepts: "'auto', 'cpu' or 'cuda'",
        default: "'auto'",
        help: "Which device runs the kernels: under 'auto' an NVIDIA card does where it is there and worth it; ml.devices tells what \
               there is.",
    },
    SettingSpec {
        name: "ml.gpu_memory_limit",
        accepts: "'auto' or a size such as '500M' or '8G'",
        default: "'auto'",
        help: "How much of a card's memory is used at most; 'auto' is nine tenths of it.",
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
                "auto" => self.device = Preference::Auto,
                "cpu" => self.device = Preference::Cpu,
                "cuda" => match Offer::of_this_machine().reason() {
                    None => self.device = Preference::Cuda,
                    Some(reason) => {
                        return Err(Error::request(format!(
                            "setting 'ml.device' cannot be 'cuda': {reason}; use 'auto' or 'cpu'"
                        )));
                    }
                },
                _ => return refuse(spec),
            },
            "ml.gpu_memory_limit" => match bytes(value) {
                Some(bytes) => self.gpu_memory_limit = bytes,
                None => return refuse(spec),
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

/// A size in bytes, with or without a unit; 0 for `auto`, none for anything else.
fn bytes(value: &str) -> Option<usize> {
    let value = value.trim().to_uppercase();
    if value == "AUTO" {
        return Some(0);
    }
    let value = value.trim_end_matches('B').trim_end_matches('I');
    let (number, unit) = match value.char_indices().last()? {
        (at, 'K') => (&value[..at], 1usize << 10),
        (at, 'M') => (&value[..at], 1 << 20),
        (at, 'G') => (&value[..at], 1 << 30),
        _ => (value, 1),
    };
    let number: f64 = number.trim().parse().ok()?;
    let bytes = number * unit as f64;
    (1.0..1e15).contains(&bytes).then_some(bytes as usize)
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
            match self.device {
                Preference::Auto => "auto",
                Preference::Cpu => "cpu",
                Preference::Cuda => "cuda",
            }
            .into(),
            match self.gpu_memory_limit {
                0 => "auto".into(),
                bytes => bytes.to_string(),
            },
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
        assert!(message(s.assign("device", "tpu")).contains("'ml.device' takes 'auto', 'cpu' or 'cuda'"));
        if Offer::of_this_machine().reason().is_some() {
            assert!(message(s.assign("device", "cuda")).starts_with("setting 'ml.device' cannot be 'cuda': "));
        }
        assert!(message(s.assign("gpu_memory_limit", "lots")).contains("a size such as '500M'"));
        for (text, expected) in [("500M", 500 << 20), ("1.5 GiB", 3 << 29), ("auto", 0), ("4096", 4096)] {
            s.assign("gpu_memory_limit", text).unwrap();
            assert_eq!(s.gpu_memory_limit, expected);
        }
        assert!(message(s.assign("gpu_memory_limit", "-1G")).contains("not '-1G'"));
        assert!(message(s.assign("seeed", "1")).contains("did you mean 'ml.seed'?"));
        assert!(message(s.assign("seed", "-1")).contains("not '-1'"));
        s.assign("seed", "7").unwrap();
        assert_eq!(s.seed, 7);
    }
}
