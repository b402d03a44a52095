//! The files of a stored model: a manifest in JSON and a Parquet file for each of its tables.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::execution::SpillFile;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::properties::WriterProperties;
use datafusion::parquet::file::reader::ChunkReader;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, PutPayloadMut};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::features::FeatureStatistics;
use crate::models::{Evaluation, FeatureColumn, Pass, TrainingInfo, Trial};
use crate::options::Options;

/// The format of stored models that this library writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// The manifest's file name.
pub(super) const MANIFEST_FILE: &str = "manifest.json";

/// What a stored model says of itself: `manifest.json`, written last, once all its parts are there.
///
/// Within a format, fields may be added; readers pass over those that they do not know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format of the artefact, [`FORMAT_VERSION`] when it is written.
    pub format_version: u32,
    /// The version of the library that wrote it.
    pub library_version: String,
    /// The model's name.
    pub name: String,
    /// Which version of the model this is, from 1.
    pub version: u64,
    /// The model type's name, such as `kmeans`.
    pub model_type: String,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
    /// The columns that the model expects.
    pub features: Vec<FeatureColumn>,
    /// The options it was trained with.
    pub options: Options,
    /// [`Parts::settings`](crate::models::Parts::settings).
    pub settings: Map<String, Value>,
    /// Passes, notices and rows of the training.
    pub training: TrainingInfo,
    /// The files of [`Parts::tables`](crate::models::Parts::tables).
    pub parts: Vec<PartFile>,
    /// Which trial of a search this is the model of, if it is not the one that was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_id: Option<u64>,
    /// The manifests of the models of a search's other trials.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trials: Vec<TrialFile>,
    /// SHA-256 of the manifest file, in hexadecimal, taken with 64 zeros in this place.
    pub checksum: String,
}

/// A Parquet file beside the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartFile {
    /// The table's name.
    pub name: String,
    /// The file's name.
    pub file: String,
    /// How many rows it has.
    pub row_count: u64,
    /// How long it is.
    pub byte_count: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
}

/// The manifest of a trial's model, beside that of the search's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialFile {
    /// Which trial, from 1.
    pub trial_id: u64,
    /// The file's name.
    pub file: String,
}

/// Why a manifest cannot be used.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// It has this format, which is newer than [`FORMAT_VERSION`].
    Newer(u64),
    /// It is not what was written, for this reason.
    Corrupt(String),
}

fn hex_sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

const NO_CHECKSUM: &str = "0000000000000000000000000000000000000000000000000000000000000000";

fn checksum_field(checksum: &str) -> String {
    format!("\"checksum\": \"{checksum}\"")
}

/// The milliseconds of now, which JSON gives back as they are.
pub(super) fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(3)
}

fn finite_metrics(evaluation: &Evaluation) -> Evaluation {
    Evaluation {
        metrics: evaluation.metrics.iter().map(|m| m.filter(|m| m.is_finite())).collect(),
        ..evaluation.clone()
    }
}

/// The same information without NaN and infinities, which JSON cannot hold.
pub(super) fn finite(info: &TrainingInfo) -> TrainingInfo {
    let zero = |v: f64| if v.is_finite() { v } else { 0.0 };
    let passes = info.passes.iter().map(|p| Pass {
        loss: p.loss.filter(|l| l.is_finite()),
        duration_ms: zero(p.duration_ms),
        clusters: p
            .clusters
            .iter()
            .map(|(id, radius, rows)| (*id, zero(*radius), *rows))
            .collect(),
        ..p.clone()
    });
    TrainingInfo {
        passes: passes.collect(),
        eval_loss: info.eval_loss.filter(|l| l.is_finite()),
        notices: info.notices.clone(),
        row_count: info.row_count,
        evaluation: info.evaluation.as_ref().map(finite_metrics),
        judgements: info.judgements.clone(),
        folds: info.folds.iter().map(finite_metrics).collect(),
        trials: info
            .trials
            .iter()
            .map(|t| Trial {
                evaluation: t.evaluation.as_ref().map(finite_metrics),
                test: t.test.as_ref().map(finite_metrics),
                loss: t.loss.filter(|l| l.is_finite()),
                ..t.clone()
            })
            .collect(),
        features: info
            .features
            .iter()
            .map(|f| FeatureStatistics {
                min: f.min.filter(|v| v.is_finite()),
                max: f.max.filter(|v| v.is_finite()),
                mean: f.mean.filter(|v| v.is_finite()),
                median: f.median.filter(|v| v.is_finite()),
                deviation: f.deviation.filter(|v| v.is_finite()),
                ..f.clone()
            })
            .collect(),
        transform: info.transform.clone(),
        properties: info.properties.clone(),
    }
}

impl Manifest {
    /// The trial that it is the model of, if options were searched.
    pub fn trial(&self) -> Option<u64> {
        let optimal = || self.training.trials.iter().position(|t| t.is_optimal);
        self.trial_id.or_else(|| optimal().map(|at| at as u64 + 1))
    }

    /// The trials of a search that left a model, ascending.
    pub fn trial_ids(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = self.trials.iter().map(|t| t.trial_id).chain(self.trial()).collect();
        ids.sort_unstable();
        ids
    }

    /// The file, and the manifest as it is read back from it.
    ///
    /// # Errors
    /// The options or settings hold a number that JSON cannot: nothing is stored that does not come back as it was.
    pub(super) fn to_file(&self) -> Result<Vec<u8>> {
        let refuse = |why: String| {
            Error::model(format!(
                "model '{}' cannot be stored: {why}; train it with other options, or report this as a fault of datafusion-ml",
                self.name
            ))
        };
        let blank = Manifest {
            checksum: NO_CHECKSUM.into(),
            ..self.clone()
        };
        let mut text =
            serde_json::to_string_pretty(&blank).map_err(|e| refuse(format!("its manifest is no JSON ({e})")))?;
        text.push('\n');
        let checksum = hex_sha256(text.as_bytes());
        let field = checksum_field(NO_CHECKSUM);
        let at = text
            .rfind(&field)
            .ok_or_else(|| refuse("its manifest has no place for a checksum".into()))?;
        text.replace_range(at..at + field.len(), &checksum_field(&checksum));
        match Manifest::from_file(text.as_bytes()) {
            Ok(mut read) => {
                read.checksum = NO_CHECKSUM.into();
                if read == blank {
                    Ok(text.into_bytes())
                } else {
                    Err(refuse(
                        "its options or settings hold a number that is not finite".into(),
                    ))
                }
            }
            Err(Unreadable::Corrupt(why)) => Err(refuse(format!("its manifest {why}"))),
            Err(Unreadable::Newer(format)) => Err(refuse(format!("its manifest has format {format}"))),
        }
    }

    /// The manifest in a file.
    ///
    /// # Errors
    /// It is of a newer format, or not as it was written.
    pub(super) fn from_file(bytes: &[u8]) -> Result<Manifest, Unreadable> {
        let corrupt = |why: &str| Unreadable::Corrupt(why.into());
        let text = std::str::from_utf8(bytes).map_err(|_| corrupt("is no text"))?;
        let value = parse_json(text).map_err(|_| corrupt("is cut short or changed: it is no JSON"))?;
        // Before the checksum: a newer format may have another.
        match value.get("format_version").and_then(Value::as_u64) {
            Some(format) if format > u64::from(FORMAT_VERSION) => return Err(Unreadable::Newer(format)),
            Some(1..) => {}
            _ => return Err(corrupt("has no format_version")),
        }
        let checksum = value
            .get("checksum")
            .and_then(Value::as_str)
            .ok_or_else(|| corrupt("has no checksum"))?;
        let field = checksum_field(checksum);
        let at = text.rfind(&field).ok_or_else(|| corrupt("does not fit its checksum"))?;
        let blank = format!(
            "{}{}{}",
            &text[..at],
            checksum_field(NO_CHECKSUM),
            &text[at + field.len()..]
        );
        if hex_sha256(blank.as_bytes()) != checksum {
            return Err(corrupt("does not fit its checksum"));
        }
        Manifest::deserialize(value).map_err(|e| Unreadable::Corrupt(format!("has a field that cannot be read ({e})")))
    }
}

/// What stands before a fraction that goes through `serde_json` as a string, as JSON writes it and as it is read.
const FRACTION: (&str, &str) = ("\\u0000fraction:", "\0fraction:");

/// JSON, its numbers to the bit. `serde_json` may read a fraction one unit in the last place off unless its feature
/// `float_roundtrip` is on, which every program that embeds this library would pay for; so fractions go through it as
/// strings, and become numbers by the standard library's exact reading.
fn parse_json(text: &str) -> serde_json::Result<Value> {
    if text.contains(FRACTION.0) {
        // A string of the document itself looks like one of ours: better a rounded number than a string turned number.
        return serde_json::from_str(text);
    }
    let mut value = serde_json::from_str(&mark_fractions(text))?;
    restore_fractions(&mut value);
    Ok(value)
}

fn mark_fractions(text: &str) -> String {
    let mut marked = String::with_capacity(text.len() * 2);
    let (mut at, bytes) = (0, text.as_bytes());
    while at < bytes.len() {
        let begin = at;
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at = (at + 1).min(bytes.len());
                marked.push_str(&text[begin..at]);
            }
            b'-' | b'0'..=b'9' => {
                while at < bytes.len() && matches!(bytes[at], b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E') {
                    at += 1;
                }
                let token = &text[begin..at];
                let fraction = token.contains(['.', 'e', 'E']);
                if fraction && token.parse::<f64>().is_ok_and(f64::is_finite) {
                    marked.push('"');
                    marked.push_str(FRACTION.0);
                    marked.push_str(token);
                    marked.push('"');
                } else {
                    marked.push_str(token);
                }
            }
            _ => {
                at += 1;
                while at < bytes.len() && !matches!(bytes[at], b'"' | b'-' | b'0'..=b'9') {
                    at += 1;
                }
                marked.push_str(&text[begin..at]);
            }
        }
    }
    marked
}

fn restore_fractions(value: &mut Value) {
    match value {
        Value::String(text) => {
            let number = text
                .strip_prefix(FRACTION.1)
                .and_then(|t| t.parse().ok())
                .and_then(Number::from_f64);
            if let Some(number) = number {
                *value = Value::Number(number);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(restore_fractions),
        Value::Object(values) => values.values_mut().for_each(restore_fractions),
        _ => {}
    }
}

/// Where a file is until it is stored.
pub(super) enum Kept {
    Memory(PutPayload),
    /// A temporary file of so many bytes.
    Disk(Arc<dyn SpillFile>, usize),
    /// A file of a store, of so many bytes.
    Stored(Arc<dyn ObjectStore>, Path, usize),
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (place, bytes) = match self {
            Kept::Memory(payload) => ("Memory", payload.content_length()),
            Kept::Disk(_, bytes) => ("Disk", *bytes),
            Kept::Stored(_, _, bytes) => ("Stored", *bytes),
        };
        f.debug_tuple(place).field(&bytes).finish()
    }
}

/// A table as a Parquet file, to be stored under a name that no other writer will choose.
#[derive(Debug)]
pub(super) struct EncodedPart {
    name: String,
    /// What the file's name begins with.
    stem: String,
    row_count: u64,
    sha256: String,
    /// The file.
    pub kept: Kept,
}

impl EncodedPart {
    pub(super) fn new(name: &str, table: &RecordBatch) -> Result<Self> {
        encode(table)
            .map(|bytes| Self {
                name: name.into(),
                stem: name.into(),
                row_count: table.num_rows() as u64,
                sha256: hex_sha256(&bytes),
                kept: Kept::Memory(bytes.into()),
            })
            .map_err(|e| {
                Error::model(format!(
                    "the model's part '{name}' cannot be written as Parquet; report this as a fault of datafusion-ml"
                ))
                .with_source(e)
            })
    }

    /// A part of trial `trial` as it is stored at `path`.
    pub(super) fn stored(part: &PartFile, trial: u64, store: Arc<dyn ObjectStore>, path: Path) -> Self {
        Self {
            name: part.name.clone(),
            stem: format!("trial-{trial}-{}", part.name),
            row_count: part.row_count,
            sha256: part.sha256.clone(),
            kept: Kept::Stored(store, path, usize::try_from(part.byte_count).unwrap_or(usize::MAX)),
        }
    }

    /// The same file for a table of another name.
    pub(super) fn named(self, name: String) -> Self {
        Self { name, ..self }
    }

    /// How much memory it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        match &self.kept {
            Kept::Memory(payload) => payload.content_length(),
            Kept::Disk(..) | Kept::Stored(..) => 0,
        }
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// They cannot be read from where they are.
    pub(super) async fn payload(&self) -> object_store::Result<PutPayload> {
        match &self.kept {
            Kept::Memory(payload) => Ok(payload.clone()),
            Kept::Stored(store, path, _) => Ok(store.get(path).await?.bytes().await?.into()),
            Kept::Disk(file, _) => {
                let unread = |source: Box<dyn std::error::Error + Send + Sync>| object_store::Error::Generic {
                    store: "temporary file",
                    source,
                };
                let mut pieces = file.read_stream().map_err(|e| unread(e.into()))?;
                let mut bytes = PutPayloadMut::new();
                while let Some(piece) = pieces.next().await {
                    bytes.push(piece.map_err(|e| unread(e.into()))?);
                }
                Ok(bytes.freeze())
            }
        }
    }

    /// Its entry in the manifest, with a fresh file name.
    pub(super) fn entry(&self) -> PartFile {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
        let stem: String = self.stem.chars().map(plain).collect();
        let byte_count = match &self.kept {
            Kept::Memory(payload) => payload.content_length(),
            Kept::Disk(_, bytes) | Kept::Stored(_, _, bytes) => *bytes,
        };
        PartFile {
            name: self.name.clone(),
            file: format!("{stem}-{}.parquet", Uuid::new_v4()),
            row_count: self.row_count,
            byte_count: byte_count as u64,
            sha256: self.sha256.clone(),
        }
    }
}

fn encode(table: &RecordBatch) -> Result<Vec<u8>, ParquetError> {
    // Nearly all values of a model are different, so dictionaries would only be built to be given up.
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(false)
        .build();
    let mut bytes = vec![];
    let mut writer = ArrowWriter::try_new(&mut bytes, table.schema(), Some(properties))?;
    writer.write(table)?;
    writer.close()?;
    Ok(bytes)
}

/// The table of a part, or why the file is not what was written.
pub(super) fn decode_part<B: ChunkReader + AsRef<[u8]> + 'static>(
    part: &PartFile,
    bytes: B,
) -> Result<RecordBatch, String> {
    let byte_count = bytes.as_ref().len() as u64;
    if byte_count != part.byte_count {
        return Err(format!("has {byte_count} bytes where {} were written", part.byte_count));
    }
    if hex_sha256(bytes.as_ref()) != part.sha256 {
        return Err("does not fit its checksum".into());
    }
    let table = decode(bytes).map_err(|e| format!("cannot be read as Parquet ({e})"))?;
    if table.num_rows() as u64 != part.row_count {
        return Err(format!(
            "has {} rows where {} were written",
            table.num_rows(),
            part.row_count
        ));
    }
    Ok(table)
}

fn decode<B: ChunkReader + 'static>(bytes: B) -> Result<RecordBatch, ParquetError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    let schema = builder.schema().clone();
    let row_count = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
    if row_count == 0 {
        return Ok(RecordBatch::new_empty(schema));
    }
    let mut batches = builder
        .with_batch_size(row_count)
        .build()?
        .collect::<Result<Vec<_>, _>>()?;
    match batches.len() {
        1 => Ok(batches.swap_remove(0)),
        _ => Ok(concat_batches(&schema, &batches)?),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{
        ArrayRef, FixedSizeListArray, Float32Array, Float64Array, Int64Array, ListArray, StringArray, StructArray,
    };
    use datafusion::arrow::buffer::OffsetBuffer;
    use datafusion::arrow::datatypes::{DataType, Field, Fields};
    use rand::{Rng, SeedableRng};
    use serde_json::json;

    use super::*;
    use crate::models::FeatureKind;
    use crate::options::Value as OptionValue;

    fn manifest() -> Manifest {
        let mut settings = Map::new();
        settings.insert("quote".into(), json!("a \"b\" \\ 1.5 \u{1F600}"));
        settings.insert(
            "numbers".into(),
            json!([0.1, -0.0, 1e300, 5e-324, 7, -7, u64::MAX, 1.7976931348623157e308]),
        );
        Manifest {
            format_version: FORMAT_VERSION,
            library_version: "0.0.0".into(),
            name: "churn".into(),
            version: 3,
            model_type: "kmeans".into(),
            created_at: now(),
            features: vec![FeatureColumn {
                name: "a".into(),
                data_type: "Float64".into(),
                kind: FeatureKind::Number,
            }],
            options: Options::default()
                .with("k", OptionValue::Int(3))
                .with("l2", OptionValue::Float(3.0)),
            settings,
            training: TrainingInfo {
                passes: vec![Pass {
                    loss: Some(0.3),
                    ..Pass::default()
                }],
                notices: vec![],
                row_count: 9,
                evaluation: Some(Evaluation {
                    row_count: 3,
                    held_out: true,
                    metrics: vec![Some(0.25), None],
                }),
                ..TrainingInfo::default()
            },
            parts: vec![],
            trial_id: None,
            trials: vec![],
            checksum: String::new(),
        }
    }

    fn memory(part: &EncodedPart) -> &PutPayload {
        match &part.kept {
            Kept::Memory(payload) => payload,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_manifest_comes_back_to_the_bit() {
        let mut random = rand::rngs::StdRng::seed_from_u64(1);
        let mut m = manifest();
        let bits: Vec<f64> = std::iter::repeat_with(|| f64::from_bits(random.random()))
            .filter(|v| v.is_finite())
            .take(20_000)
            .collect();
        m.settings.insert("random".into(), json!(bits));
        let read = Manifest::from_file(&m.to_file().unwrap()).unwrap();
        for name in ["random", "numbers"] {
            let numbers = |m: &Manifest| -> Vec<u64> {
                m.settings[name]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|v| v.as_f64().unwrap().to_bits())
                    .collect()
            };
            assert_eq!(numbers(&read), numbers(&m));
        }
        assert_eq!(
            Manifest {
                checksum: String::new(),
                ..read
            },
            m
        );
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        let file = manifest().to_file().unwrap();
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut bad = file.clone();
                bad[at] ^= 1 << bit;
                assert!(Manifest::from_file(&bad).is_err(), "byte {at}, bit {bit}");
            }
            assert!(Manifest::from_file(&file[..at]).is_err(), "cut at {at}");
        }
        assert!(Manifest::from_file(&[&file[..], b" "].concat()).is_err());
    }

    #[test]
    fn unknown_fields_are_passed_over_and_newer_formats_are_told() {
        let text = String::from_utf8(manifest().to_file().unwrap()).unwrap();
        let checksum = manifest_checksum(&text);
        let more = text
            .replacen("{\n", "{\n  \"colour\": {\"r\": 0.5},\n", 1)
            .replace(&checksum, NO_CHECKSUM);
        let more = more.replace(NO_CHECKSUM, &hex_sha256(more.as_bytes()));
        assert_eq!(Manifest::from_file(more.as_bytes()).unwrap().name, "churn");
        let newer = text.replace("\"format_version\": 1", "\"format_version\": 2");
        assert!(matches!(
            Manifest::from_file(newer.as_bytes()),
            Err(Unreadable::Newer(2))
        ));
    }

    fn manifest_checksum(text: &str) -> String {
        serde_json::from_str::<Value>(text).unwrap()["checksum"]
            .as_str()
            .unwrap()
            .into()
    }

    #[test]
    fn what_json_cannot_hold_is_refused_or_left_out() {
        let mut m = manifest();
        m.options = m.options.with("l2", OptionValue::Float(f64::INFINITY));
        assert!(m.to_file().unwrap_err().to_string().contains("not finite"));
        let pass = Pass {
            loss: Some(f64::NAN),
            duration_ms: f64::NAN,
            clusters: vec![(1, f64::NAN, 1)],
            ..Pass::default()
        };
        let info = finite(&TrainingInfo {
            passes: vec![pass],
            ..TrainingInfo::default()
        });
        assert_eq!(
            (
                info.passes[0].loss,
                info.passes[0].duration_ms,
                info.passes[0].clusters[0].1
            ),
            (None, 0.0, 0.0)
        );
    }

    #[test]
    fn tables_come_back_to_the_bit() {
        let doubles = Float64Array::from(vec![
            Some(f64::from_bits(0x7ff8_0000_0000_0001)),
            Some(-0.0),
            None,
            Some(0.0),
        ]);
        let singles: ArrayRef = Arc::new(Float32Array::from_iter_values((0..8).map(|i| 0.1 * i as f32)));
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        let fixed = FixedSizeListArray::try_new(item, 2, singles, None).unwrap();
        let fields = Fields::from(vec![
            Field::new("name", DataType::Utf8, true),
            Field::new("count", DataType::Int64, true),
        ]);
        let structs = StructArray::new(
            fields.clone(),
            vec![
                Arc::new(StringArray::from(vec![Some("a"), None, Some("")])),
                Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(1), None])),
            ],
            None,
        );
        let lists = ListArray::new(
            Arc::new(Field::new("item", DataType::Struct(fields), true)),
            OffsetBuffer::from_lengths([2, 0, 1, 0]),
            Arc::new(structs),
            None,
        );
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("doubles", Arc::new(doubles)),
            ("fixed", Arc::new(fixed)),
            ("lists", Arc::new(lists)),
        ];
        let table = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
        for table in [table.clone(), table.slice(1, 2), table.slice(0, 0)] {
            let encoded = EncodedPart::new("t", &table).unwrap();
            let bytes: Vec<u8> = memory(&encoded).iter().flat_map(|b| b.iter().copied()).collect();
            let payload = PutPayload::from(bytes).into_iter().next().unwrap();
            assert_eq!(decode_part(&encoded.entry(), payload).unwrap(), table);
        }
    }

    #[test]
    fn a_cut_or_changed_part_is_told() {
        let table =
            RecordBatch::try_from_iter([("a", Arc::new(Int64Array::from_iter_values(0..100)) as ArrayRef)]).unwrap();
        let encoded = EncodedPart::new("t", &table).unwrap();
        let (entry, bytes) = (encoded.entry(), memory(&encoded).iter().next().unwrap().clone());
        assert!(
            decode_part(&entry, bytes.slice(..bytes.len() - 1))
                .unwrap_err()
                .contains("bytes where")
        );
        assert!(
            decode_part(
                &PartFile {
                    sha256: NO_CHECKSUM.into(),
                    ..entry.clone()
                },
                bytes.clone()
            )
            .is_err()
        );
        assert!(
            decode_part(&PartFile { row_count: 99, ..entry }, bytes)
                .unwrap_err()
                .contains("100 rows where 99")
        );
    }
}
