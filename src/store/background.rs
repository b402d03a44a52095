//! The one runtime on which all input and output of model stores runs.
//!
//! A query plans on threads that may block (a scalar function cannot await the model that it needs), and an HTTP
//! connection is driven by the runtime that opened it. With a runtime of the store's own, no connection ever waits for
//! a thread that waits for the connection.

use std::future::Future;
use std::io;
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};

use tokio::runtime::{Builder, Handle};
use tokio::task::{JoinError, JoinHandle};

use crate::error::{Error, Result};

const THREAD_NAME: &str = "datafusion-ml-store";

static RUNTIME: Mutex<Option<Handle>> = Mutex::new(None);

/// The runtime, started when it is first asked for.
fn handle() -> Result<Handle> {
    let mut runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*runtime {
        return Ok(handle.clone());
    }
    let handle = start().map_err(|e| {
        Error::store("the thread of the model store cannot be started; let the process have more threads")
            .with_source(e)
    })?;
    *runtime = Some(handle.clone());
    Ok(handle)
}

/// One thread drives every connection; what computes goes through [`compute`].
fn start() -> io::Result<Handle> {
    let (started, answer) = sync_channel(1);
    std::thread::Builder::new().name(THREAD_NAME.into()).spawn(move || {
        match Builder::new_current_thread()
            .thread_name(THREAD_NAME)
            .enable_all()
            .build()
        {
            Ok(runtime) => {
                let _ = started.send(Ok(runtime.handle().clone()));
                runtime.block_on(std::future::pending::<()>());
            }
            Err(e) => {
                let _ = started.send(Err(e));
            }
        }
    })?;
    answer
        .recv()
        .unwrap_or_else(|_| Err(io::Error::other("the thread ended at once")))
}

fn stopped(e: JoinError) -> Error {
    Error::store("the model store stopped in the middle of its work; try again").with_source(e)
}

/// Runs `task` there and awaits it; if the caller is dropped, the task is too.
pub(super) async fn run<T: Send + 'static>(task: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let mut task = AbortOnDrop(handle()?.spawn(task));
    (&mut task.0).await.unwrap_or_else(|e| Err(stopped(e)))
}

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs `task` there and blocks the calling thread, which may belong to a runtime or to none, until it is done.
pub(super) fn wait<T: Send + 'static>(task: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let (done, answer) = sync_channel(1);
    handle()?.spawn(async move {
        let _ = done.send(task.await);
    });
    answer.recv().unwrap_or_else(|_| {
        Err(Error::store(
            "the model store stopped in the middle of its work; try again",
        ))
    })
}

/// Runs what computes rather than waits beside the thread that drives the connections. Only from within a task.
pub(super) async fn compute<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(stopped(e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_outside_and_inside_of_any_runtime() {
        assert_eq!(wait(async { Ok(1) }).unwrap(), 1);
        for runtime in [
            Builder::new_current_thread().build(),
            Builder::new_multi_thread().worker_threads(1).build(),
        ] {
            let runtime = runtime.unwrap();
            assert_eq!(runtime.block_on(async { wait(compute(|| Ok(2))) }).unwrap(), 2);
            assert_eq!(runtime.block_on(run(async { Ok(3) })).unwrap(), 3);
        }
    }

    #[test]
    fn a_panic_there_is_an_error_here() {
        assert!(wait::<()>(async { panic!("as the test wants") }).is_err());
        assert!(wait::<()>(compute(|| panic!("as the test wants"))).is_err());
        assert_eq!(wait(async { Ok(1) }).unwrap(), 1);
    }
}
