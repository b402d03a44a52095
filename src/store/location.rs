//! Where a model store is: a folder, or a URL of an object store.

use std::env;
use std::path::{Component, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use url::Url;

use crate::error::{Error, Result};

/// An object store and the place of the models in it.
pub(super) struct Place {
    pub store: Arc<dyn ObjectStore>,
    pub prefix: Path,
    /// How messages name it.
    pub shown: String,
}

const WHAT_TO_USE: &str = "use a folder, or a file://, s3://, gs:// or az:// URL";

fn unknown(location: &str) -> Error {
    Error::request(format!("unknown model store '{location}': {WHAT_TO_USE}"))
}

/// The place that `location` names; nothing is created or asked there. `registered` has the first say on URLs that are
/// not of files.
pub(super) fn open(location: &str, registered: &dyn Fn(&Url) -> Option<Arc<dyn ObjectStore>>) -> Result<Place> {
    let location = location.trim();
    if !is_url(location) {
        return folder(absolute(location)?, location);
    }
    let url = Url::parse(location).map_err(|_| unknown(location))?;
    if url.scheme() == "file" {
        return folder(url.to_file_path().map_err(|()| unknown(location))?, location);
    }
    let shown = without_password(&url);
    if let Some(store) = registered(&url) {
        let prefix = Path::from_url_path(url.path()).map_err(|_| unknown(&shown))?;
        return Ok(Place { store, prefix, shown });
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(unknown(&shown));
    }
    let (store, prefix) = cloud(&url, &shown)?;
    Ok(Place { store, prefix, shown })
}

/// Whether it is a URL. `C:\models` is not.
fn is_url(location: &str) -> bool {
    location.split_once(':').is_some_and(|(scheme, rest)| {
        let plain = scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        scheme.len() > 1 && plain && (rest.starts_with("//") || scheme.eq_ignore_ascii_case("file"))
    })
}

fn without_password(url: &Url) -> String {
    let mut shown = url.clone();
    if shown.password().is_some() && shown.set_password(None).is_err() {
        return format!("{}://…", url.scheme());
    }
    shown.to_string()
}

/// The folder need not exist: it is empty until something is stored, and made then.
fn folder(path: PathBuf, shown: &str) -> Result<Place> {
    let prefix = Path::from_absolute_path(&path)
        .map_err(|e| Error::request(format!("'{shown}' cannot be a model store; {WHAT_TO_USE}")).with_source(e))?;
    Ok(Place {
        store: Arc::new(LocalFileSystem::new()),
        prefix,
        shown: shown.into(),
    })
}

/// The absolute path, without `.` and `..`, which object stores do not have.
fn absolute(folder: &str) -> Result<PathBuf> {
    let home = || {
        folder
            .strip_prefix("~/")
            .and_then(|rest| Some(env::home_dir()?.join(rest)))
    };
    let path = match home() {
        Some(path) => path,
        None => env::current_dir()
            .map_err(|e| {
                Error::store(format!(
                    "the folder '{folder}' cannot be found, because the current folder is gone; name it by its absolute path"
                ))
                .with_source(e)
            })?
            .join(folder),
    };
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => {
                plain.push(other);
                // `link/..` is where the link leads, one up.
                if plain.is_symlink()
                    && let Ok(real) = plain.canonicalize()
                {
                    plain = real;
                }
            }
        }
    }
    Ok(plain)
}

#[cfg(feature = "cloud")]
fn cloud(url: &Url, shown: &str) -> Result<(Arc<dyn ObjectStore>, Path)> {
    use object_store::aws::AmazonS3Builder;
    use object_store::azure::MicrosoftAzureBuilder;
    use object_store::gcp::GoogleCloudStorageBuilder;
    use object_store::http::HttpBuilder;
    use object_store::{ClientOptions, ObjectStoreScheme};

    let (scheme, prefix) = ObjectStoreScheme::parse(url).map_err(|_| unknown(shown))?;
    let store: object_store::Result<Arc<dyn ObjectStore>> = match scheme {
        ObjectStoreScheme::AmazonS3 => AmazonS3Builder::from_env()
            .with_url(url.as_str())
            .build()
            .map(|s| Arc::new(s) as _),
        ObjectStoreScheme::GoogleCloudStorage => GoogleCloudStorageBuilder::from_env()
            .with_url(url.as_str())
            .build()
            .map(|s| Arc::new(s) as _),
        ObjectStoreScheme::MicrosoftAzure => MicrosoftAzureBuilder::from_env()
            .with_url(url.as_str())
            .build()
            .map(|s| Arc::new(s) as _),
        ObjectStoreScheme::Http => HttpBuilder::new()
            .with_url(&url[..url::Position::BeforePath])
            .with_client_options(ClientOptions::new().with_allow_http(url.scheme() == "http"))
            .build()
            .map(|s| Arc::new(s) as _),
        _ => return Err(unknown(shown)),
    };
    let store = store.map_err(|e| {
        Error::store(format!(
            "the model store '{shown}' cannot be opened; check its variables in the environment"
        ))
        .with_source(e)
    })?;
    Ok((store, prefix))
}

#[cfg(not(feature = "cloud"))]
fn cloud(url: &Url, shown: &str) -> Result<(Arc<dyn ObjectStore>, Path)> {
    match url.scheme() {
        "s3" | "s3a" | "gs" | "az" | "adl" | "azure" | "abfs" | "abfss" | "http" | "https" => {
            Err(Error::request(format!(
                "the model store '{shown}' needs the feature 'cloud' of datafusion-ml; build with it, or register an object store \
             for this URL"
            )))
        }
        _ => Err(unknown(shown)),
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    fn place(location: &str) -> Result<Place> {
        open(location, &|_| None)
    }

    #[test]
    fn folders_by_path_and_by_url() {
        let here = Path::from_absolute_path(env::current_dir().unwrap()).unwrap();
        assert_eq!(place("./models").unwrap().prefix.to_string(), format!("{here}/models"));
        assert_eq!(
            place("a/../.dfml/models/").unwrap().prefix.to_string(),
            format!("{here}/.dfml/models")
        );
        assert_eq!(place(".").unwrap().prefix, here);
        assert_eq!(place("file:///tmp/a%20b").unwrap().prefix.to_string(), "tmp/a b");
        assert_eq!(place("/tmp/modèles #1").unwrap().prefix.to_string(), "tmp/modèles #1");
        assert_eq!(place("./models").unwrap().shown, "./models");
    }

    #[test]
    fn unknown_stores_are_named() {
        let message = |l: &str| place(l).err().unwrap().to_string();
        assert_eq!(
            message("foo://bar/models"),
            "unknown model store 'foo://bar/models': use a folder, or a file://, s3://, gs:// or az:// URL"
        );
        assert!(message("s3://").contains("unknown model store"));
        assert!(!message("foo://me:secret@host/a").contains("secret"));
        assert!(!is_url(r"C:\models") && !is_url("C:/models") && is_url("file:/models"));
    }

    #[test]
    fn registered_stores_come_first() {
        let place = open("foo://bucket/a%20b/c/", &|url| {
            (url.scheme() == "foo").then(|| Arc::new(InMemory::new()) as _)
        })
        .unwrap();
        assert_eq!(place.prefix.to_string(), "a b/c");
    }
}
