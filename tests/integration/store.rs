//! Models that last: to the bit, on every kind of store, whoever else writes or dies.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::FieldRef;
use datafusion_ml::error::{ErrorKind, Result as MlResult};
use datafusion_ml::kernels::compute::Compute;
use datafusion_ml::models::{
    FeatureColumn, FitContext, MODELS, MemoryRows, Model, ModelType, Parts, RecommendContext, Silent, TrainingInfo,
    UnlimitedMemory,
};
use datafusion_ml::options::{Options, Value};
use datafusion_ml::store::{LoadedModel, ModelCache, ModelStore};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

#[cfg(feature = "cloud")]
use crate::s3_server;

/// A model with the rows it was trained on.
struct Trained {
    what: String,
    model: Arc<dyn Model>,
    options: Options,
    info: TrainingInfo,
    rows: RecordBatch,
}

/// 90 customers: two numbers with NULLs, a text with NULLs, a label.
fn customers() -> RecordBatch {
    let mut random = StdRng::seed_from_u64(7);
    let mut columns: [Vec<Option<f64>>; 2] = Default::default();
    let (mut plans, mut churned) = (vec![], vec![]);
    for i in 0..90 {
        let kind = f64::from(i % 3);
        columns[0].push((i % 11 != 0).then(|| 10.0 * kind + random.random::<f64>()));
        columns[1].push((i % 13 != 0).then(|| 100.0 / (1.0 + kind) + random.random::<f64>()));
        plans.push((i % 7 != 0).then_some(["basic", "plus", "pro"][(i / 3 % 3) as usize]));
        churned.push(if random.random::<f64>() < 0.2 + 0.3 * kind {
            "yes"
        } else {
            "no"
        });
    }
    let [tenure, spend] = columns.map(|c| Arc::new(Float64Array::from(c)) as ArrayRef);
    RecordBatch::try_from_iter_with_nullable([
        ("tenure", tenure, true),
        ("spend", spend, true),
        ("plan", Arc::new(StringArray::from(plans)) as ArrayRef, true),
        ("churned", Arc::new(StringArray::from(churned)) as ArrayRef, true),
    ])
    .unwrap()
}

/// 40 users with 6 of 25 items each.
fn baskets() -> RecordBatch {
    let mut random = StdRng::seed_from_u64(8);
    let (mut users, mut items, mut counts) = (vec![], vec![], vec![]);
    for user in 0..40i64 {
        let mut basket = BTreeSet::new();
        while basket.len() < 6 {
            basket.insert((user % 5) * 5 + random.random_range(0..7));
        }
        for item in basket {
            users.push(user);
            items.push(format!("item-{}", item % 25));
            counts.push(f64::from(random.random_range(1..4)));
        }
    }
    RecordBatch::try_from_iter_with_nullable([
        ("customer", Arc::new(Int64Array::from(users)) as ArrayRef, true),
        ("product", Arc::new(StringArray::from(items)) as ArrayRef, true),
        ("quantity", Arc::new(Float64Array::from(counts)) as ArrayRef, true),
    ])
    .unwrap()
}

fn train(kind: &dyn ModelType, rows: &RecordBatch, named: &[(&str, Value)]) -> Trained {
    let named: Vec<(String, Value)> = named.iter().map(|(k, v)| ((*k).to_string(), v.clone())).collect();
    let what = format!("{} {named:?}", kind.name());
    let options = Options::parse(kind.name(), kind.options(), named).unwrap();
    let options = kind.stored_fit_options(&options);
    let roles = kind.roles(&rows.schema(), &options).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let cancel = AtomicBool::new(false);
    let context = FitContext {
        compute: &Compute::cpu(&pool, &cancel),
        seed: 42,
        observer: &Silent,
        memory: &UnlimitedMemory,
        start: None,
    };
    let fitted = kind
        .fit(
            &MemoryRows::new(rows.schema(), vec![rows.clone()]),
            &roles,
            &options,
            &context,
        )
        .unwrap();
    Trained {
        what,
        model: fitted.model,
        options,
        info: fitted.info,
        rows: rows.clone(),
    }
}

/// At least one model of each type.
static TRAINED: LazyLock<Vec<Trained>> = LazyLock::new(|| {
    let text = |t: &str| Value::Text(t.into());
    let mut all = vec![];
    for kind in MODELS.iter().filter(|m| !m.needs_transform()) {
        match kind.name() {
            "kmeans" => {
                all.push(train(
                    *kind,
                    &customers(),
                    &[("k", Value::Int(3)), ("id", text("churned"))],
                ));
            }
            "logistic_reg" => all.push(train(
                *kind,
                &customers(),
                &[("label", text("churned")), ("l2", Value::Float(0.3))],
            )),
            "pca" => all.push(train(
                *kind,
                &customers(),
                &[("pca_explained_variance_ratio", Value::Float(0.8))],
            )),
            "linear_reg" | "polynomial_reg" => all.push(train(*kind, &customers(), &[("label", text("spend"))])),
            "hierarchical" => {
                let columns = [("k", Value::Int(3)), ("id", text("churned"))];
                all.push(train(*kind, &customers(), &columns));
                let micro = [("linkage", text("single")), ("max_exact_rows", Value::Int(40))];
                all.push(train(*kind, &customers(), &[&columns[..], &micro[..]].concat()));
            }
            "matrix_factorization" => {
                let columns = [
                    ("user", text("customer")),
                    ("item", text("product")),
                    ("rating", text("quantity")),
                ];
                let als = [("factors", Value::Int(8)), ("iterations", Value::Int(3))];
                all.push(train(*kind, &baskets(), &[&columns[..], &als[..]].concat()));
                all.push(train(
                    *kind,
                    &baskets(),
                    &[&columns[..], &[("method", text("ease"))][..]].concat(),
                ));
            }
            name => panic!("{name}: a model type without a model here; train one"),
        }
    }
    all
});

fn kmeans() -> &'static Trained {
    TRAINED.iter().find(|t| t.model.model_type() == "kmeans").unwrap()
}

async fn save(store: &ModelStore, name: &str, trained: &Trained) -> MlResult<u64> {
    store
        .save(name, trained.model.as_ref(), &trained.options, &trained.info)
        .await
}

/// The model that was read is the one that was trained, and scores its rows the same, to the bit.
fn assert_same(trained: &Trained, loaded: &LoadedModel) {
    let (old, new, what) = (&trained.model, &loaded.model, &trained.what);
    assert_eq!(loaded.manifest.model_type, old.model_type(), "{what}");
    assert_eq!(loaded.manifest.options, trained.options, "{what}");
    assert_eq!(loaded.manifest.training.row_count, trained.info.row_count, "{what}");
    assert_eq!(
        loaded.manifest.training.passes.len(),
        trained.info.passes.len(),
        "{what}"
    );
    assert_eq!(new.feature_columns(), old.feature_columns(), "{what}");
    let (old_parts, new_parts) = (old.parts().unwrap(), new.parts().unwrap());
    assert_eq!(new_parts.settings, old_parts.settings, "{what}");
    assert_eq!(new_parts.tables, old_parts.tables, "{what}");
    if let (Some(old), Some(new)) = (old.recommender(), new.recommender()) {
        let users = old.users();
        assert_eq!(&new.users(), &users, "{what}");
        let cancel = AtomicBool::new(false);
        let context = RecommendContext {
            pool: None,
            cancel: &cancel,
        };
        let [old, new] = [old, new].map(|r| r.recommend(&users, 5, true, &context).unwrap());
        let bits = |scores: &[f64]| scores.iter().map(|s| s.to_bits()).collect::<Vec<_>>();
        assert_eq!(
            (&new.offsets, &new.items, bits(&new.scores)),
            (&old.offsets, &old.items, bits(&old.scores)),
            "{what}"
        );
    } else {
        let columns: Vec<ArrayRef> = old
            .feature_columns()
            .iter()
            .map(|f: &FeatureColumn| Arc::clone(trained.rows.column_by_name(&f.name).unwrap()))
            .collect();
        assert_eq!(
            new.verb_columns(&columns).unwrap(),
            old.verb_columns(&columns).unwrap(),
            "{what}"
        );
        assert_eq!(&new.score(&columns).unwrap(), &old.score(&columns).unwrap(), "{what}");
    }
}

#[cfg(feature = "cloud")]
fn s3(endpoint: &str, prefix: &str) -> ModelStore {
    ModelStore::new(
        s3_bucket(endpoint),
        Path::from(prefix),
        format!("s3://{}/{prefix}", s3_server::BUCKET),
    )
}

#[cfg(feature = "cloud")]
fn s3_bucket(endpoint: &str) -> Arc<dyn ObjectStore> {
    Arc::new(
        object_store::aws::AmazonS3Builder::new()
            .with_endpoint(endpoint)
            .with_bucket_name(s3_server::BUCKET)
            .with_access_key_id(s3_server::ACCESS_KEY)
            .with_secret_access_key(s3_server::SECRET_KEY)
            .with_allow_http(true)
            .build()
            .unwrap(),
    )
}

fn folder(path: &std::path::Path) -> ModelStore {
    ModelStore::open(path.to_str().unwrap(), &|_| None).unwrap()
}

/// `open` opens the same store anew each time.
async fn comes_back(open: impl Fn() -> ModelStore) {
    for (i, trained) in TRAINED.iter().enumerate() {
        let name = format!("Model_{i}.Ämter");
        assert_eq!(save(&open(), &name, trained).await.unwrap(), 1);
        let loaded = open().load(&name.to_uppercase(), None).await.unwrap();
        assert_same(trained, &loaded);
        assert_eq!(
            (loaded.manifest.name.as_str(), loaded.manifest.version),
            (name.to_lowercase().as_str(), 1)
        );
        assert_eq!(save(&open(), &name, trained).await.unwrap(), 2);
        assert_same(trained, &open().load_blocking(&name, Some(1)).unwrap());
        assert_eq!(open().latest_version(&name).await.unwrap(), Some(2));
    }
    let newest = open().list().await.unwrap();
    assert_eq!(newest.len(), TRAINED.len());
    assert!(
        newest
            .iter()
            .all(|e| e.version == 2 && e.manifest.as_ref().is_ok_and(|m| m.version == 2))
    );
    assert_eq!(open().list_versions().await.unwrap().len(), 2 * TRAINED.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_model_comes_back_to_the_bit_from_memory() {
    let store = ModelStore::in_memory();
    comes_back(|| store.clone()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_model_comes_back_to_the_bit_from_a_folder() {
    let parent = tempfile::tempdir().unwrap();
    comes_back(|| folder(&parent.path().join("new/models #1"))).await;
}

#[cfg(feature = "cloud")]
#[tokio::test(flavor = "multi_thread")]
async fn every_model_comes_back_to_the_bit_from_s3() {
    let (endpoint, _folder) = s3_server::start().await;
    comes_back(|| s3(&endpoint, "some/models")).await;
}

/// A function that cannot await may be called on the only thread of a runtime, whose connections must not be needed.
#[cfg(feature = "cloud")]
#[tokio::test]
async fn loading_may_block_the_only_thread_of_a_runtime() {
    let (endpoint, _folder) = s3_server::start().await;
    let (store, cache) = (s3(&endpoint, ""), ModelCache::default());
    save(&store, "m", kmeans()).await.unwrap();
    assert_same(kmeans(), &store.load("m", None).await.unwrap());
    assert_same(kmeans(), &store.load_blocking("m", None).unwrap());
    assert_same(kmeans(), &cache.get(&store, "m", None).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_not_there_is_empty_and_reading_does_not_make_it() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("models");
    let store = folder(&path);
    assert!(store.list().await.unwrap().is_empty());
    assert_eq!(store.latest_version("m").await.unwrap(), None);
    let message = store.load("m", None).await.unwrap_err().to_string();
    assert!(
        message.starts_with("there is no model 'm'; the store '") && message.contains("is empty"),
        "{message}"
    );
    assert!(!path.exists());
}

async fn writers_at_once(open: impl Fn() -> ModelStore) {
    let writers: Vec<_> = (0..8)
        .map(|i| {
            let (store, trained) = (open(), &TRAINED[i % TRAINED.len()]);
            tokio::spawn(async move { (save(&store, "shared", trained).await.unwrap(), i) })
        })
        .collect();
    let mut versions = vec![];
    for writer in writers {
        versions.push(writer.await.unwrap());
    }
    versions.sort_unstable();
    assert_eq!(
        versions.iter().map(|(v, _)| *v).collect::<Vec<_>>(),
        (1..=8).collect::<Vec<_>>()
    );
    for (version, writer) in versions {
        assert_same(
            &TRAINED[writer % TRAINED.len()],
            &open().load("shared", Some(version)).await.unwrap(),
        );
    }
}

/// Every file belongs to a manifest.
async fn assert_no_file_is_left_over(store: &dyn ObjectStore) {
    let files: Vec<Path> = store.list(None).map(|m| m.unwrap().location).collect().await;
    let mut named = BTreeSet::new();
    for manifest in files.iter().filter(|f| f.filename() == Some("manifest.json")) {
        let bytes = store.get(manifest).await.unwrap().bytes().await.unwrap();
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        named.insert(manifest.clone());
        for part in json["parts"].as_array().unwrap() {
            named.insert(
                Path::parse(format!(
                    "{}/{}",
                    manifest.parent().unwrap(),
                    part["file"].as_str().unwrap()
                ))
                .unwrap(),
            );
        }
    }
    assert_eq!(files.into_iter().collect::<BTreeSet<_>>(), named);
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_writers_make_eight_versions_in_memory() {
    let memory = Arc::new(InMemory::new());
    writers_at_once(|| ModelStore::new(Arc::clone(&memory) as _, Path::default(), "here")).await;
    assert_no_file_is_left_over(&memory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_writers_make_eight_versions_in_a_folder() {
    let parent = tempfile::tempdir().unwrap();
    writers_at_once(|| folder(parent.path())).await;
    assert_no_file_is_left_over(&object_store::local::LocalFileSystem::new_with_prefix(parent.path()).unwrap()).await;
}

#[cfg(feature = "cloud")]
#[tokio::test(flavor = "multi_thread")]
async fn eight_writers_make_eight_versions_on_s3() {
    let (endpoint, _folder) = s3_server::start().await;
    writers_at_once(|| s3(&endpoint, "models")).await;
    assert_no_file_is_left_over(&s3_bucket(&endpoint)).await;
}

/// What goes wrong in a [`Faulty`] store.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// The writer dies before this put: nothing of it is done, nor anything after it.
    DieAt(usize),
    /// This put is done, and its answer lost.
    LoseAnswerAt(usize),
}

/// A store over `inner` where something goes wrong at a put, counted from 0.
#[derive(Debug)]
struct Faulty {
    inner: Arc<InMemory>,
    fault: Fault,
    puts: AtomicUsize,
}

fn fault() -> object_store::Error {
    object_store::Error::Generic {
        store: "test",
        source: "as the test wants".into(),
    }
}

impl Faulty {
    fn store(inner: &Arc<InMemory>, fault: Fault) -> ModelStore {
        let faulty = Faulty {
            inner: Arc::clone(inner),
            fault,
            puts: AtomicUsize::new(0),
        };
        ModelStore::new(Arc::new(faulty), Path::default(), "a faulty store")
    }

    fn alive(&self) -> object_store::Result<()> {
        match self.fault {
            Fault::DieAt(at) if self.puts.load(Ordering::SeqCst) > at => Err(fault()),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        let put = self.puts.fetch_add(1, Ordering::SeqCst);
        self.alive()?;
        let result = self.inner.put_opts(at, payload, options).await?;
        match self.fault {
            Fault::LoseAnswerAt(lost) if put == lost => Err(fault()),
            _ => Ok(result),
        }
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.alive()?;
        self.inner.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.alive()?;
        self.inner.get_opts(at, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        match self.alive() {
            Ok(()) => self.inner.delete_stream(paths),
            Err(e) => stream::once(async move { Err(e) }).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        match self.alive() {
            Ok(()) => self.inner.list(prefix),
            Err(e) => stream::once(async move { Err(e) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.alive()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.alive()?;
        self.inner.copy_opts(from, to, options).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_dies_anywhere_leaves_what_was() {
    for trained in TRAINED.iter() {
        let puts = trained.model.parts().unwrap().tables.len() + 1;
        for at in 0..=puts {
            let memory = Arc::new(InMemory::new());
            let sound = ModelStore::new(Arc::clone(&memory) as _, Path::default(), "here");
            save(&sound, "m", kmeans()).await.unwrap();
            let result = save(&Faulty::store(&memory, Fault::DieAt(at)), "m", trained).await;
            if at == puts {
                assert_eq!(result.unwrap(), 2);
                continue;
            }
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Store, "{error}");
            assert!(
                error
                    .to_string()
                    .contains("model 'm' cannot be stored in the store 'a faulty store'"),
                "{error}"
            );

            assert_eq!(sound.latest_version("m").await.unwrap(), Some(1));
            assert_same(kmeans(), &sound.load("m", None).await.unwrap());
            assert_eq!(sound.list_versions().await.unwrap().len(), 1);
            assert!(
                sound
                    .load("m", Some(2))
                    .await
                    .unwrap_err()
                    .to_string()
                    .contains("has no version 2; it has 1")
            );
            assert_eq!(save(&sound, "m", trained).await.unwrap(), 2);
            assert_same(trained, &sound.load("m", None).await.unwrap());
            assert_same(kmeans(), &sound.load("m", Some(1)).await.unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_of_which_only_parts_are_there_is_no_model() {
    let memory = Arc::new(InMemory::new());
    let parts = kmeans().model.parts().unwrap().tables.len();
    save(&Faulty::store(&memory, Fault::DieAt(parts)), "m", kmeans())
        .await
        .unwrap_err();
    let sound = ModelStore::new(memory, Path::default(), "here");
    assert_eq!(sound.latest_version("m").await.unwrap(), None);
    assert!(sound.list().await.unwrap().is_empty());
    assert!(
        sound
            .load("m", None)
            .await
            .unwrap_err()
            .to_string()
            .starts_with("there is no model 'm'")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_the_commit_loses_no_model_and_makes_no_second_one() {
    let memory = Arc::new(InMemory::new());
    let parts = kmeans().model.parts().unwrap().tables.len();
    assert_eq!(
        save(&Faulty::store(&memory, Fault::LoseAnswerAt(parts)), "m", kmeans())
            .await
            .unwrap(),
        1
    );
    let sound = ModelStore::new(Arc::clone(&memory) as _, Path::default(), "here");
    assert_same(kmeans(), &sound.load("m", None).await.unwrap());
    assert_eq!(sound.list_versions().await.unwrap().len(), 1);
    assert_no_file_is_left_over(&memory).await;
}

/// The files of a store, and what is in them.
async fn files(store: &dyn ObjectStore) -> Vec<(Path, Vec<u8>)> {
    let paths: Vec<Path> = store.list(None).map(|m| m.unwrap().location).collect().await;
    let mut files = vec![];
    for path in paths {
        let bytes = store.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
        files.push((path, bytes));
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_or_changed_file_is_told_wherever_it_is() {
    for trained in TRAINED.iter() {
        let memory = Arc::new(InMemory::new());
        let store = ModelStore::new(Arc::clone(&memory) as _, Path::default(), "here");
        save(&store, "churn", trained).await.unwrap();
        for (path, sound) in files(&memory).await {
            let step = (sound.len() / 150).max(1);
            for at in (0..sound.len()).step_by(step) {
                let mut flipped = sound.clone();
                flipped[at] ^= 1 << (at % 8);
                for bad in [flipped, sound[..at].to_vec()] {
                    memory.put(&path, bad.into()).await.unwrap();
                    let error = store.load("churn", None).await.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Model, "{path} at {at}: {error}");
                    let message = error.to_string();
                    assert!(message.contains("model 'churn'"), "{path} at {at}: {message}");
                    let newer = message.contains("newer version");
                    assert!(
                        newer || message.contains("is corrupt: its file '"),
                        "{path} at {at}: {message}"
                    );
                }
            }
            memory.put(&path, sound.into()).await.unwrap();
        }
        assert_same(trained, &store.load("churn", None).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_version_says_what_to_do_and_stands_in_nobodys_way() {
    let parent = tempfile::tempdir().unwrap();
    let store = folder(parent.path());
    save(&store, "churn", kmeans()).await.unwrap();
    save(&store, "churn", kmeans()).await.unwrap();
    save(&store, "other", kmeans()).await.unwrap();
    let version = parent.path().join("churn/000002");
    let part = std::fs::read_dir(&version)
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.extension().unwrap() == "parquet")
        .unwrap();
    let file = part.file_name().unwrap().to_str().unwrap();

    std::fs::write(&part, b"PAR1").unwrap();
    let message = store.load("churn", None).await.unwrap_err().to_string();
    assert!(
        message.starts_with(&format!(
            "model 'churn' (version 2) is corrupt: its file '{file}' has 4 bytes where "
        )),
        "{message}"
    );
    let advice = format!(
        "; train it again, or remove '{}' to go back to the version before it",
        version.display()
    );
    assert!(message.ends_with(&advice), "{message}");
    std::fs::remove_file(&part).unwrap();
    let message = store.load("churn", None).await.unwrap_err().to_string();
    assert!(
        message.contains(&format!("its file '{file}' is missing; train it again")),
        "{message}"
    );

    let manifest = version.join("manifest.json");
    std::fs::write(&manifest, b"{\"format_version\": 1").unwrap();
    let message = store.load("churn", None).await.unwrap_err().to_string();
    assert!(
        message.contains("its file 'manifest.json' is cut short or changed"),
        "{message}"
    );
    let listed = store.list().await.unwrap();
    let seen: Vec<_> = listed
        .iter()
        .map(|e| (e.name.as_str(), e.version, e.manifest.is_ok()))
        .collect();
    assert_eq!(seen, [("churn", 2, false), ("other", 1, true)]);

    assert_same(kmeans(), &store.load("churn", Some(1)).await.unwrap());
    assert_eq!(save(&store, "churn", kmeans()).await.unwrap(), 3);
    assert_same(kmeans(), &store.load("churn", None).await.unwrap());
    std::fs::remove_dir_all(parent.path().join("churn/000003")).unwrap();
    std::fs::remove_dir_all(&version).unwrap();
    assert_eq!(store.load("churn", None).await.unwrap().manifest.version, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_of_a_newer_format_says_so() {
    let parent = tempfile::tempdir().unwrap();
    let store = folder(parent.path());
    save(&store, "x", kmeans()).await.unwrap();
    let manifest = parent.path().join("x/000001/manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(
        &manifest,
        text.replace("\"format_version\": 1", "\"format_version\": 2"),
    )
    .unwrap();
    let error = store.load("x", None).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (
            ErrorKind::Model,
            "model 'x' was written by a newer version of datafusion-ml (format 2; this one reads up to 1); upgrade \
             datafusion-ml to use it"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_model_lists_those_that_there_are() {
    let store = ModelStore::in_memory();
    save(&store, "churn", kmeans()).await.unwrap();
    save(&store, "segments", kmeans()).await.unwrap();
    let error = store.load("chrun", None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Model);
    assert_eq!(
        error.to_string(),
        "there is no model 'chrun'; did you mean 'churn'? the store in memory has 'churn' and 'segments'"
    );
    let message = store.load("churn", Some(7)).await.unwrap_err().to_string();
    assert_eq!(message, "model 'churn' has no version 7; it has 1");
    let message = store.load("zebra", Some(7)).await.unwrap_err().to_string();
    assert_eq!(
        message,
        "there is no model 'zebra'; the store in memory has 'churn' and 'segments'"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_none_reach_no_store() {
    let parent = tempfile::tempdir().unwrap();
    let store = folder(&parent.path().join("models"));
    for name in ["../x", "", "a/b", "..", ".hidden", "a b", "C:\\x"] {
        for error in [
            save(&store, name, kmeans()).await.unwrap_err(),
            store.load(name, None).await.unwrap_err(),
            store.load_blocking(name, None).unwrap_err(),
            store.latest_version(name).await.unwrap_err(),
            ModelCache::default().get(&store, name, None).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Request);
            assert!(
                error
                    .to_string()
                    .contains("is no plain model name; use letters, digits"),
                "{error}"
            );
        }
    }
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
}

#[test]
fn an_unknown_store_is_named() {
    let error = ModelStore::open("foo://bar", &|_| None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Request);
    assert_eq!(
        error.to_string(),
        "unknown model store 'foo://bar': use a folder, or a file://, s3://, gs:// or az:// URL"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_store_serves_its_scheme() {
    let memory = Arc::new(InMemory::new());
    let open = || {
        ModelStore::open("foo://bucket/models/", &|url| {
            (url.scheme() == "foo").then(|| Arc::clone(&memory) as _)
        })
        .unwrap()
    };
    save(&open(), "m", kmeans()).await.unwrap();
    assert_same(kmeans(), &open().load("m", None).await.unwrap());
    assert!(
        files(&memory)
            .await
            .iter()
            .all(|(path, _)| path.as_ref().starts_with("models/m/000001/"))
    );
}

#[cfg(feature = "cloud")]
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_is_told() {
    let (endpoint, folder) = s3_server::start().await;
    let store = s3(&endpoint, "models");
    std::fs::remove_dir(folder.path().join(s3_server::BUCKET)).unwrap();
    for error in [
        store.load("m", None).await.unwrap_err(),
        save(&store, "m", kmeans()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Store);
        assert!(error.message().contains("the store 's3://lake/models'"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_loaded_is_kept_until_there_is_something_newer() {
    let parent = tempfile::tempdir().unwrap();
    let (store, cache) = (folder(parent.path()), ModelCache::default());
    save(&store, "m", kmeans()).await.unwrap();
    let first = cache.get(&store, "M", None).unwrap();
    assert!(Arc::ptr_eq(
        &first,
        &cache.get_async(&store, "m", Some(1)).await.unwrap()
    ));

    let elsewhere = folder(parent.path());
    save(&elsewhere, "m", kmeans()).await.unwrap();
    let second = cache.get(&store, "m", None).unwrap();
    assert_eq!((first.manifest.version, second.manifest.version), (1, 2));
    assert!(Arc::ptr_eq(&first, &cache.get(&store, "m", Some(1)).unwrap()));

    // The same number, but another model.
    std::fs::remove_dir_all(parent.path().join("m")).unwrap();
    assert!(cache.get(&store, "m", None).is_err());
    let churn = TRAINED.iter().find(|t| t.model.model_type() != "kmeans").unwrap();
    save(&elsewhere, "m", churn).await.unwrap();
    assert_same(churn, &cache.get(&store, "m", None).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_threads_that_want_a_model_read_it_once() {
    let store = ModelStore::in_memory();
    save(&store, "m", kmeans()).await.unwrap();
    let cache = ModelCache::default();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (store, cache) = (store.clone(), cache.clone());
            std::thread::spawn(move || cache.get(&store, "m", None).unwrap())
        })
        .collect();
    let models: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    assert!(models.iter().all(|m| Arc::ptr_eq(m, &models[0])));
}

/// A model whose part is longer than what goes up in one piece. It only writes.
#[derive(Debug)]
struct Long;

impl Model for Long {
    fn model_type(&self) -> &'static str {
        "kmeans"
    }
    fn feature_columns(&self) -> &[FeatureColumn] {
        &[]
    }
    fn verb_fields(&self) -> Vec<FieldRef> {
        vec![]
    }
    fn verb_columns(&self, _columns: &[ArrayRef]) -> MlResult<Vec<ArrayRef>> {
        Ok(vec![])
    }
    fn predict_fields(&self) -> Vec<FieldRef> {
        vec![]
    }
    fn predict_columns(&self, _columns: &[ArrayRef], _options: &Options) -> MlResult<Vec<ArrayRef>> {
        Ok(vec![])
    }
    fn parts(&self) -> MlResult<Parts> {
        let mut random = StdRng::seed_from_u64(9);
        let noise = Int64Array::from_iter_values((0..2_500_000).map(|_| random.random::<i64>()));
        let table = RecordBatch::try_from_iter([("noise", Arc::new(noise) as ArrayRef)])?;
        Ok(Parts {
            tables: vec![("noise".into(), table)],
            settings: Default::default(),
        })
    }
}

async fn long_parts_go_up(store: Arc<dyn ObjectStore>) {
    let models = ModelStore::new(Arc::clone(&store), Path::default(), "here");
    models
        .save("long", &Long, &Options::default(), &TrainingInfo::default())
        .await
        .unwrap();
    let manifest = models.list().await.unwrap().swap_remove(0).manifest.unwrap();
    let part = &manifest.parts[0];
    assert!(part.byte_count > 16 << 20 && part.row_count == 2_500_000);
    let bytes = store
        .get(&Path::from(format!("long/000001/{}", part.file)))
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    assert_eq!(
        (bytes.len() as u64, format!("{:x}", Sha256::digest(&bytes))),
        (part.byte_count, part.sha256.clone())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn long_parts_go_up_in_pieces() {
    let parent = tempfile::tempdir().unwrap();
    long_parts_go_up(Arc::new(
        object_store::local::LocalFileSystem::new_with_prefix(parent.path()).unwrap(),
    ))
    .await;
}

#[cfg(feature = "cloud")]
#[tokio::test(flavor = "multi_thread")]
async fn long_parts_go_up_in_pieces_to_s3() {
    let (endpoint, _folder) = s3_server::start().await;
    long_parts_go_up(s3_bucket(&endpoint)).await;
}
