//! Object stores that are built when a location first names them, from what the environment says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::common::plan_datafusion_err;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreRegistry;
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::{ClientOptions, ObjectStore, parse_url_opts};
use url::{Position, Url};

/// Variables of the environment with these beginnings configure stores.
const PREFIXES: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// Finds a registered store, or builds one for `s3://`, `gs://`, `az://`, `abfss://`, `http://` and `https://`.
#[derive(Debug, Default)]
pub(super) struct Stores {
    stores: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
}

/// What tells one store from another: everything before the path.
fn key(url: &Url) -> String {
    url[..Position::BeforePath].to_string()
}

impl Stores {
    fn build(url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let root = Url::parse(&format!("{}/", key(url)))
            .map_err(|e| plan_datafusion_err!("'{url}' is no location that can be read ({e})"))?;
        let failed = |e: object_store::Error| {
            plan_datafusion_err!("the store of '{root}' cannot be opened: {e}; check its variables in the environment")
        };
        match url.scheme() {
            "file" => Ok(Arc::new(LocalFileSystem::new())),
            // Not `parse_url_opts`, which takes some https hosts for a cloud's own protocol and then wants credentials.
            "http" | "https" => {
                let options = ClientOptions::new().with_allow_http(url.scheme() == "http");
                let store = HttpBuilder::new()
                    .with_url(key(url))
                    .with_client_options(options)
                    .build();
                Ok(Arc::new(store.map_err(failed)?))
            }
            "s3" | "s3a" | "gs" | "az" | "adl" | "azure" | "abfs" | "abfss" => {
                let options = std::env::vars_os().filter_map(|(name, value)| {
                    let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
                    PREFIXES
                        .iter()
                        .any(|p| name.starts_with(p))
                        .then(|| (name.to_ascii_lowercase(), value))
                });
                let (store, _) = parse_url_opts(&root, options).map_err(failed)?;
                Ok(Arc::from(store))
            }
            other => Err(plan_datafusion_err!(
                "there is no store for '{other}://'; use a path, or s3://, gs://, az://, abfss:// or https://"
            )),
        }
    }
}

impl ObjectStoreRegistry for Stores {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.stores
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key(url), store)
    }

    fn deregister_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        self.stores
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&key(url))
            .ok_or_else(|| plan_datafusion_err!("there is no store for '{url}'"))
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key(url);
        if let Some(store) = stores.get(&key) {
            return Ok(Arc::clone(store));
        }
        let store = Self::build(url)?;
        stores.insert(key, Arc::clone(&store));
        Ok(store)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL")
    }

    #[test]
    fn one_store_for_each_authority() {
        let stores = Stores::default();
        let store = |text: &str| stores.get_store(&url(text)).expect("a store");
        assert!(Arc::ptr_eq(
            &store("https://example.com/a.csv"),
            &store("https://example.com/b.csv")
        ));
        assert!(!Arc::ptr_eq(
            &store("https://example.com/a.csv"),
            &store("https://example.org/a.csv")
        ));
        assert!(Arc::ptr_eq(&store("file:///a"), &store("file:///b")));
    }

    #[test]
    fn an_unknown_scheme_says_which_there_are() {
        let message = Stores::default()
            .get_store(&url("ftp://example.com/a"))
            .expect_err("no ftp")
            .to_string();
        assert!(
            message.contains("there is no store for 'ftp://'") && message.contains("s3://"),
            "{message}"
        );
    }
}
