//! Fitting inside a query: reads the input once, then runs the model on threads of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};

use super::collect::CollectedRows;
use super::learn::Learning;
use super::transform::TransformJob;
use super::trials::{KeptTrials, Tuning};
use crate::error::Error;
use crate::kernels::compute::Compute;
use crate::models::split::Split;
use crate::models::{FitContext, Fitted, MemoryBudget, Model, ModelType, Roles, Rows};
use crate::options::Options;
use crate::session::Session;

/// What is to be fitted, over which columns.
#[derive(Debug, Clone)]
pub(crate) struct FitJob {
    pub session: Arc<Session>,
    pub model_type: &'static dyn ModelType,
    pub options: Options,
    pub roles: Roles,
    /// The columns of the input, as planned.
    pub schema: SchemaRef,
    /// Which rows are held out of the fit, to judge the model by; its column is one of `schema`.
    pub split: Option<Split>,
    /// What is made of those columns before the model sees them; `roles` are of what it makes.
    pub transform: Option<TransformJob>,
    /// In how many folds the model is judged, besides.
    pub folds: Option<usize>,
    /// The options that are searched for.
    pub tuning: Option<Tuning>,
    /// Whether the model is judged after the fit: by the rows held out, or by its own.
    pub judge: bool,
    /// A stored model of the same type to go on from.
    pub start: Option<Arc<dyn Model>>,
    /// What the user should know of the request, a sentence each; stored with the model.
    pub notices: Vec<String>,
}

/// The rows that were read and what was learned from them.
pub(crate) struct FitResult {
    pub rows: CollectedRows,
    pub fitted: Fitted,
    /// The models of a search's other trials.
    pub trials: KeptTrials,
    /// The device that did the heavy work.
    pub device: &'static str,
}

/// Writes what a card moved and did into an operator's metrics; gives the device's name.
pub(crate) fn tell_device(compute: &Compute<'_>, metrics: &ExecutionPlanMetricsSet) -> &'static str {
    if !compute.was_served() {
        return "cpu";
    }
    let usage = compute.usage();
    let moved = [
        ("gpu_uploaded_bytes", &usage.uploaded_bytes),
        ("gpu_downloaded_bytes", &usage.downloaded_bytes),
    ];
    for (name, bytes) in moved {
        MetricBuilder::new(metrics)
            .global_counter(name)
            .add(bytes.load(Ordering::Relaxed) as usize);
    }
    MetricBuilder::new(metrics)
        .subset_time("gpu_kernel_time", 0)
        .add_duration(Duration::from_nanos(usage.kernel_ns.load(Ordering::Relaxed)));
    "cuda"
}

/// Sets a flag when it is dropped: dropping a query's stream does not stop a thread, this does.
pub(crate) struct CancelOnDrop(pub Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Tells an observer that a fit ended, however it did.
struct FinishOnDrop(Arc<dyn crate::models::Observer>);

impl Drop for FinishOnDrop {
    fn drop(&mut self) {
        self.0.finished();
    }
}

struct PoolBudget {
    reservation: MemoryReservation,
}

impl MemoryBudget for PoolBudget {
    fn take(&self, bytes: usize, what: &str) -> crate::error::Result<()> {
        self.reservation.try_grow(bytes).map_err(|e| {
            Error::memory(format!(
                "{what} needs {} more than the memory limit leaves; raise the limit, or read fewer rows or columns",
                megabytes(bytes)
            ))
            .with_source(e)
        })
    }
}

pub(crate) fn megabytes(bytes: usize) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

impl FitJob {
    pub(crate) fn threads(&self, context: &TaskContext) -> usize {
        let settings = Session::settings_in(context.session_config().options());
        match settings.threads {
            0 => context.session_config().target_partitions().max(1),
            n => n,
        }
    }

    /// Gives `work` what a fit may use: threads, a card, memory within the query's limit, and whom to tell.
    ///
    /// # Errors
    /// There are no threads to be had, and those of `work`.
    pub(crate) fn learn<T>(
        &self,
        context: &TaskContext,
        cancel: &AtomicBool,
        work: impl FnOnce(&Learning<'_>) -> crate::error::Result<T>,
    ) -> crate::error::Result<T> {
        let pool = self.session.pool(self.threads(context))?;
        let settings = Session::settings_in(context.session_config().options());
        let consumer = MemoryConsumer::new(format!("datafusion-ml {}", self.model_type.name()));
        let budget = || -> Box<dyn MemoryBudget> {
            Box::new(PoolBudget {
                reservation: consumer.clone_with_new_id().register(context.memory_pool()),
            })
        };
        let observer = self.session.observer();
        let _finish = FinishOnDrop(Arc::clone(&observer));
        let own = budget();
        let compute = Session::compute(&pool, cancel, &settings);
        let fit_context = FitContext {
            compute: &compute,
            seed: u64::try_from(self.options.int("seed", -1)).unwrap_or(settings.seed),
            observer: observer.as_ref(),
            memory: own.as_ref(),
            start: self.start.as_deref(),
        };
        work(&Learning {
            job: self,
            context: &fit_context,
            budget: &budget,
            temporary: &|| {
                let disk = &context.runtime_env().disk_manager;
                disk.create_tmp_file("keeping the model of a trial")
            },
        })
    }

    /// Reads `input` and fits. Dropping the future cancels the fit.
    pub(crate) async fn run(
        self,
        input: Arc<dyn ExecutionPlan>,
        context: Arc<TaskContext>,
        metrics: ExecutionPlanMetricsSet,
    ) -> Result<FitResult> {
        let rows = CollectedRows::read(&input, Arc::clone(&self.schema), &context).await?;
        MetricBuilder::new(&metrics)
            .global_counter("fit_rows")
            .add(rows.row_count());
        MetricBuilder::new(&metrics)
            .global_counter("spilled_bytes")
            .add(rows.spilled_bytes);
        let fit_time = MetricBuilder::new(&metrics).subset_time("fit_time", 0);
        let passes = MetricBuilder::new(&metrics).global_counter("passes");

        let told = metrics.clone();
        let cancel = Arc::new(AtomicBool::new(false));
        let guard = CancelOnDrop(Arc::clone(&cancel));
        let task = tokio::task::spawn_blocking(move || -> crate::error::Result<FitResult> {
            if rows.row_count() == 0 {
                return Err(Error::data(format!(
                    "{}: the query gives no rows; there is nothing to learn from",
                    if self.judge { "ML.TRAIN" } else { self.model_type.verb() }
                )));
            }
            let (fitted, trials, device) = self.learn(&context, &cancel, |learning| {
                let (mut fitted, trials) = learning.run(&rows)?;
                let compute = learning.context.compute;
                for notice in compute.notices() {
                    learning.context.observer.notice(&notice);
                    fitted.info.notices.push(notice);
                }
                Ok((fitted, trials, tell_device(compute, &told)))
            })?;
            Ok(FitResult {
                rows,
                fitted,
                trials,
                device,
            })
        });
        let started = Instant::now();
        let result = task
            .await
            .map_err(|e| DataFusionError::Execution(format!("the fit ended abnormally: {e}")))??;
        drop(guard);
        fit_time.add_duration(started.elapsed());
        passes.add(result.fitted.info.passes.len());
        Ok(result)
    }
}

type SharedFit<T> = Shared<BoxFuture<'static, std::result::Result<Arc<T>, Arc<DataFusionError>>>>;

/// Work that several output partitions wait for and that is done once. It stops when all who wait are gone.
pub(crate) struct Once<T> {
    state: std::sync::Mutex<OnceState<T>>,
}

enum OnceState<T> {
    Idle,
    Running(WeakShared<BoxFuture<'static, std::result::Result<Arc<T>, Arc<DataFusionError>>>>),
    Done(std::result::Result<Arc<T>, Arc<DataFusionError>>),
}

impl<T> std::fmt::Debug for Once<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Once").finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Once<T> {
    pub(crate) fn new() -> Self {
        Self {
            state: std::sync::Mutex::new(OnceState::Idle),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, OnceState<T>> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The result, if it is there.
    pub(crate) fn result(&self) -> Option<Arc<T>> {
        match &*self.lock() {
            OnceState::Done(Ok(result)) => Some(Arc::clone(result)),
            _ => None,
        }
    }

    /// The result of `work`, which the first caller starts.
    pub(crate) async fn get<F>(self: Arc<Self>, work: impl FnOnce() -> F + Send) -> Result<Arc<T>>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let shared: SharedFit<T> = {
            let mut state = self.lock();
            let running = match &*state {
                OnceState::Done(result) => return result.clone().map_err(DataFusionError::Shared),
                OnceState::Running(weak) => weak.upgrade(),
                OnceState::Idle => None,
            };
            match running {
                Some(shared) => shared,
                None => {
                    let future = work();
                    let shared = async move { future.await.map(Arc::new).map_err(Arc::new) }
                        .boxed()
                        .shared();
                    if let Some(weak) = shared.downgrade() {
                        *state = OnceState::Running(weak);
                    }
                    shared
                }
            }
        };
        let result = shared.await;
        *self.lock() = OnceState::Done(result.clone());
        result.map_err(DataFusionError::Shared)
    }
}
