//! Tables of files: those of a folder, each under its name, and any other by its location.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::catalog::{TableProvider, UrlTableFactory};
use datafusion::common::{TableReference, plan_datafusion_err, plan_err};
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::prelude::SessionContext;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use url::Url;

/// A kind of file that can be a table: the extensions of its files, and DataFusion's name for the format.
const KINDS: &[(&str, &str)] = &[
    ("parquet", "parquet"),
    ("csv", "csv"),
    ("tsv", "csv"),
    ("json", "json"),
    ("ndjson", "json"),
    ("jsonl", "json"),
];

const COMPRESSIONS: &[&str] = &["gz", "bz2", "xz", "zst"];

/// What a file's name says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileName {
    /// The name without the extension.
    stem: String,
    /// The extension as written, compression too, with its dot: `.csv.gz`.
    extension: String,
    /// As in [`KINDS`], in lower case.
    kind: &'static str,
    format: &'static str,
    compression: Option<String>,
}

impl FileName {
    /// None for a file that is no table.
    fn of(name: &str) -> Option<Self> {
        let (mut rest, mut last) = name.rsplit_once('.')?;
        let compression = COMPRESSIONS
            .iter()
            .find(|c| c.eq_ignore_ascii_case(last))
            .map(|c| (*c).to_string());
        if compression.is_some() {
            (rest, last) = rest.rsplit_once('.')?;
        }
        let &(kind, format) = KINDS.iter().find(|(k, _)| k.eq_ignore_ascii_case(last))?;
        Some(Self {
            stem: rest.to_string(),
            extension: name[rest.len()..].to_string(),
            kind,
            format,
            compression,
        })
    }
}

fn is_hidden(name: &str) -> bool {
    name.starts_with(['.', '_'])
}

/// A name as SQL writes it without quotes: lower case, with `_` for whatever an identifier cannot hold.
fn table_name(stem: &str) -> String {
    let mut name: String = stem
        .to_lowercase()
        .chars()
        .map(|c| if c.is_alphanumeric() || c == '_' { c } else { '_' })
        .collect();
    if name.chars().next().is_none_or(|c| c.is_numeric()) {
        name.insert(0, '_');
    }
    name
}

/// What became of a folder's entries.
#[derive(Debug, Default)]
pub(super) struct Lake {
    /// The tables, in order of their names.
    pub(super) tables: Vec<String>,
    /// What could not be read, a sentence each.
    pub(super) warnings: Vec<String>,
}

struct Entry {
    /// As it is called in messages.
    label: String,
    /// The name to make a table's name of.
    stem: String,
    url: Url,
}

/// Makes every folder and file of `location` a table of the session.
///
/// # Errors
/// There is no such location, or it cannot be listed. What is wrong with one entry is a warning.
pub(super) async fn register(ctx: &SessionContext, location: &str) -> Result<Lake> {
    let mut lake = Lake::default();
    let mut entries = if location.contains("://") {
        remote_entries(ctx, location).await?
    } else {
        local_entries(Path::new(location), &mut lake.warnings)?
    };
    entries.sort_by(|a, b| a.label.cmp(&b.label));
    let state = ctx.state();
    let mut tables = futures::stream::iter(entries)
        .map(|entry| {
            let state = &state;
            async move {
                let table = match ListingTableUrl::try_new(entry.url.clone(), None) {
                    Ok(url) => open(state, url).await,
                    Err(e) => Err(e),
                };
                (entry, table)
            }
        })
        .buffered(16);
    let mut taken: HashMap<String, String> = HashMap::new();
    while let Some((entry, table)) = tables.next().await {
        let name = table_name(&entry.stem);
        let table = match table {
            Ok(Some(table)) => table,
            Ok(None) => continue,
            Err(e) => {
                let reason = super::failure::sentence(&e);
                lake.warnings
                    .push(format!("'{}' is left out, as it cannot be read: {reason}", entry.label));
                continue;
            }
        };
        if let Some(other) = taken.get(&name) {
            lake.warnings.push(format!(
                "'{}' is left out, as '{other}' already is table {name}; rename one of them",
                entry.label
            ));
            continue;
        }
        ctx.register_table(TableReference::bare(name.as_str()), table)?;
        taken.insert(name.clone(), entry.label);
        lake.tables.push(name);
    }
    lake.tables.sort();
    Ok(lake)
}

fn local_entries(location: &Path, warnings: &mut Vec<String>) -> Result<Vec<Entry>> {
    let shown = location.display();
    let absolute = std::path::absolute(location)?;
    let metadata = std::fs::metadata(&absolute)
        .map_err(|_| plan_datafusion_err!("there is no folder '{shown}'; name the folder that holds the tables"))?;
    let file_url = |path: &Path, folder: bool| {
        let url = if folder {
            Url::from_directory_path(path)
        } else {
            Url::from_file_path(path)
        };
        url.map_err(|()| plan_datafusion_err!("'{}' is no path that can be read", path.display()))
    };
    let own_name = absolute
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_else(|| "lake".into());
    if metadata.is_file() {
        let Some(file) = FileName::of(&own_name) else {
            return plan_err!(
                "'{shown}' is no Parquet, CSV or JSON file by its name; name the folder that holds the tables"
            );
        };
        return Ok(vec![Entry {
            stem: file.stem,
            url: file_url(&absolute, false)?,
            label: own_name,
        }]);
    }
    let listing = std::fs::read_dir(&absolute)
        .map_err(|e| plan_datafusion_err!("the folder '{shown}' cannot be listed ({e})"))?;
    let mut entries = vec![];
    for entry in listing {
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(e) => {
                warnings.push(format!("an entry of '{shown}' is left out, as it cannot be read ({e})"));
                continue;
            }
        };
        let Some(name) = path.file_name().and_then(|n| n.to_str()).map(str::to_string) else {
            warnings.push(format!("'{}' is left out, as its name is no text", path.display()));
            continue;
        };
        if is_hidden(&name) {
            continue;
        }
        let folder = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.is_dir(),
            Err(e) => {
                if FileName::of(&name).is_some() {
                    warnings.push(format!("'{name}' is left out, as it cannot be read ({e})"));
                }
                continue;
            }
        };
        if folder && name.contains('=') {
            // The folder itself is a partitioned table.
            return Ok(vec![Entry {
                stem: own_name.clone(),
                url: file_url(&absolute, true)?,
                label: own_name,
            }]);
        }
        if let Some(stem) = stem_of(&name, folder) {
            entries.push(Entry {
                stem,
                url: file_url(&path, folder)?,
                label: name,
            });
        }
    }
    Ok(entries)
}

async fn remote_entries(ctx: &SessionContext, location: &str) -> Result<Vec<Entry>> {
    let own_name = location
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or("lake")
        .to_string();
    if let Some(file) = FileName::of(&own_name) {
        let url = ListingTableUrl::parse(location)?.get_url().clone();
        return Ok(vec![Entry {
            stem: file.stem,
            url,
            label: own_name,
        }]);
    }
    let root = ListingTableUrl::parse(format!("{}/", location.trim_end_matches('/')))?;
    let store = ctx.runtime_env().object_store(&root)?;
    let listing = store
        .list_with_delimiter(Some(root.prefix()))
        .await
        .map_err(|e| plan_datafusion_err!("'{location}' cannot be listed: {e}"))?;
    let folders = listing.common_prefixes.into_iter().map(|p| (p, true));
    let files = listing.objects.into_iter().map(|o| (o.location, false));
    let mut entries = vec![];
    for (path, folder) in folders.chain(files) {
        let Some(name) = path.filename().map(str::to_string) else {
            continue;
        };
        if folder && name.contains('=') {
            return Ok(vec![Entry {
                stem: own_name.clone(),
                url: root.get_url().clone(),
                label: own_name,
            }]);
        }
        if is_hidden(&name) {
            continue;
        }
        if let Some(stem) = stem_of(&name, folder) {
            let mut url = root.get_url().clone();
            if let Ok(mut segments) = url.path_segments_mut() {
                segments.pop_if_empty().push(&name);
                if folder {
                    segments.push("");
                }
            }
            entries.push(Entry { stem, url, label: name });
        }
    }
    if entries.is_empty() {
        return plan_err!("'{location}' holds no folder and no Parquet, CSV or JSON file");
    }
    Ok(entries)
}

/// A folder called `orders.parquet`, as Spark writes, is table `orders` too.
fn stem_of(name: &str, folder: bool) -> Option<String> {
    match FileName::of(name) {
        Some(file) => Some(file.stem),
        None => folder.then(|| name.to_string()),
    }
}

/// The values of one partition column, as far as they tell its type.
struct PartitionColumn {
    name: String,
    whole_numbers: bool,
    dates: bool,
}

impl PartitionColumn {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_string(),
            whole_numbers: true,
            dates: true,
        }
    }

    fn see(&mut self, value: &str) {
        // Only as SQL would print them: `month=01` found by `month = 1` would be looked for in a folder `month=1`.
        self.whole_numbers &= value.parse::<i64>().is_ok_and(|n| n.to_string() == value);
        self.dates &= value.len() == 10
            && chrono::NaiveDate::parse_from_str(value, "%Y-%m-%d").is_ok_and(|d| d.to_string() == value);
    }

    fn data_type(&self) -> DataType {
        if self.whole_numbers {
            DataType::Int64
        } else if self.dates {
            DataType::Date32
        } else {
            DataType::Dictionary(Box::new(DataType::UInt16), Box::new(DataType::Utf8))
        }
    }
}

/// The table of a location: one file, or all files of the kind that comes first in a folder and its `key=value` subfolders.
/// None where there is no file of a kind that can be read.
///
/// # Errors
/// The store or a file cannot be read, or the subfolders differ in their keys.
pub(super) async fn open(state: &SessionState, url: ListingTableUrl) -> Result<Option<Arc<dyn TableProvider>>> {
    let store = state.runtime_env().object_store(&url)?;
    let mut chosen: Option<(FileName, ObjectMeta)> = None;
    let mut partitions: Option<Vec<PartitionColumn>> = None;
    let mut files = url.list_all_files(state, store.as_ref(), "").await?;
    while let Some(file) = files.try_next().await? {
        let Some(segments) = url.strip_prefix(&file.location) else {
            continue;
        };
        let mut segments: Vec<&str> = segments.collect();
        segments.pop();
        let Some(name) = file.location.filename() else { continue };
        if is_hidden(name) || segments.iter().any(|s| is_hidden(s)) {
            continue;
        }
        let Some(file_name) = FileName::of(name) else { continue };
        let pairs: Vec<(&str, &str)> = segments.iter().filter_map(|s| s.split_once('=')).collect();
        let columns = partitions.get_or_insert_with(|| pairs.iter().map(|(k, _)| PartitionColumn::new(k)).collect());
        if columns.len() != pairs.len() || columns.iter().zip(&pairs).any(|(c, (k, _))| c.name != *k) {
            return plan_err!(
                "its subfolders differ in their keys ('{}' is not like those before it)",
                segments.join("/")
            );
        }
        for (column, (_, value)) in columns.iter_mut().zip(&pairs) {
            column.see(value);
        }
        let rank = |f: &FileName| KINDS.iter().position(|(k, _)| *k == f.kind);
        if chosen.as_ref().is_none_or(|(best, _)| rank(&file_name) < rank(best)) {
            chosen = Some((file_name, file));
        }
    }
    drop(files);
    let Some((file, meta)) = chosen else { return Ok(None) };

    let mut options: HashMap<String, String> = HashMap::new();
    if file.kind == "tsv" {
        options.insert("format.delimiter".into(), "\t".into());
    }
    if let Some(compression) = &file.compression {
        options.insert("format.compression".into(), compression.clone());
    } else if file.format == "json" && is_json_array(store.as_ref(), &meta).await? {
        options.insert("format.newline_delimited".into(), "false".into());
    }
    let format = state
        .get_file_format_factory(file.format)
        .ok_or_else(|| plan_datafusion_err!("files of the format {} cannot be read here", file.format))?
        .create(state, &options)?;
    let partitions: Vec<(String, DataType)> = partitions
        .unwrap_or_default()
        .into_iter()
        .map(|c| (c.name.clone(), c.data_type()))
        .collect();
    let options = ListingOptions::new(format)
        .with_file_extension(file.extension)
        .with_table_partition_cols(partitions.clone());
    let schema = options.infer_schema(state, &url).await?;
    // Some writers keep the partition's column in the files as well.
    let own: Vec<_> = schema
        .fields()
        .iter()
        .filter(|f| !partitions.iter().any(|(name, _)| name == f.name()))
        .cloned()
        .collect();
    let schema = Arc::new(Schema::new_with_metadata(own, schema.metadata().clone()));
    let config = ListingTableConfig::new(url)
        .with_listing_options(options)
        .with_schema(schema);
    let table = ListingTable::try_new(config)?.with_cache(state.runtime_env().cache_manager.get_file_statistic_cache());
    Ok(Some(Arc::new(table)))
}

async fn is_json_array(store: &dyn ObjectStore, file: &ObjectMeta) -> Result<bool> {
    if file.size == 0 {
        return Ok(false);
    }
    let head = store.get_range(&file.location, 0..file.size.min(256)).await?;
    let text = String::from_utf8_lossy(&head);
    Ok(text.trim_start_matches('\u{feff}').trim_start().starts_with('['))
}

/// Makes a table of whatever name is a location: `FROM 'sales/2024.parquet'`, `FROM 's3://bucket/sales/'`.
pub(super) struct Locations {
    /// The session's state now; none once the session is gone.
    state: Box<dyn Fn() -> Option<SessionState> + Send + Sync>,
}

impl fmt::Debug for Locations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locations").finish_non_exhaustive()
    }
}

impl Locations {
    /// Locations for the tables of `ctx`.
    pub(super) fn new(ctx: &SessionContext) -> Self {
        let state = ctx.state_weak_ref();
        Self {
            state: Box::new(move || state.upgrade().map(|s| s.read().clone())),
        }
    }
}

#[async_trait]
impl UrlTableFactory for Locations {
    async fn try_new(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let written_as_location = name.contains(['/', '\\', '.', '*']);
        // A plain name may be a folder here, or just a table that does not exist.
        if !written_as_location && !Path::new(name).is_dir() {
            return Ok(None);
        }
        let Some(state) = (self.state)() else { return Ok(None) };
        let remote = name.contains("://");
        let folder = remote && !name.ends_with('/') && !name.starts_with("http") && FileName::of(name).is_none();
        let url = if folder {
            ListingTableUrl::parse(format!("{name}/"))
        } else {
            ListingTableUrl::parse(name)
        };
        match url {
            Ok(url) => match open(&state, url).await {
                Ok(None) if written_as_location => {
                    let here = std::env::current_dir()
                        .map(|d| d.display().to_string())
                        .unwrap_or_default();
                    let place = if remote {
                        String::new()
                    } else {
                        format!(" (looked for from {here})")
                    };
                    plan_err!("there is no Parquet, CSV or JSON file at '{name}'{place}")
                }
                Err(_) if !written_as_location => Ok(None),
                result => result,
            },
            Err(_) if !remote => Ok(None),
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names() {
        let file = FileName::of("Orders 2024.CSV.gz").expect("a table");
        assert_eq!(
            (file.stem.as_str(), file.extension.as_str()),
            ("Orders 2024", ".CSV.gz")
        );
        assert_eq!(
            (file.kind, file.format, file.compression.as_deref()),
            ("csv", "csv", Some("gz"))
        );
        assert_eq!(FileName::of("a.b.parquet").map(|f| f.stem), Some("a.b".into()));
        assert_eq!(FileName::of("README.md"), None);
        assert_eq!(FileName::of("parquet"), None);
        assert_eq!(FileName::of("a.gz"), None);
    }

    #[test]
    fn table_names_need_no_quotes() {
        assert_eq!(table_name("Orders 2024-01"), "orders_2024_01");
        assert_eq!(table_name("2024"), "_2024");
        assert_eq!(table_name(""), "_");
        assert_eq!(table_name("Größe"), "größe");
    }

    #[test]
    fn partition_types() {
        let type_of = |values: &[&str]| {
            let mut column = PartitionColumn::new("p");
            values.iter().for_each(|v| column.see(v));
            column.data_type()
        };
        assert_eq!(type_of(&["2023", "2024"]), DataType::Int64);
        assert_eq!(type_of(&["2024-01-31"]), DataType::Date32);
        assert!(matches!(type_of(&["2024-01"]), DataType::Dictionary(_, _)));
        assert!(matches!(type_of(&["01", "02"]), DataType::Dictionary(_, _)));
        assert!(matches!(
            type_of(&["1", "__HIVE_DEFAULT_PARTITION__"]),
            DataType::Dictionary(_, _)
        ));
    }
}
