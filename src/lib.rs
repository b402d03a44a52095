//! Machine learning on customers, in SQL, over Parquet lakes: an extension of Apache DataFusion.
//!
//! One call, [`register_all`], puts `KMEANS_SEGMENT`, `CHURN_SCORE`, `RECOMMEND`, `ML.TRAIN`, `ML.PREDICT`, the tables of
//! the schema `ml` and the settings under `ml.` on a [`SessionContext`].
//!
//! # The map
//! Data flows one way: a query's rows ([`models::Rows`]) → encoded blocks ([`features`]) → a model's passes over them
//! ([`models`], with the heavy work in [`kernels`]) → an artefact in the store ([`store`]); and back out: artefact → scores,
//! batch by batch, inside the query. A layer uses only those below it:
//!
//! | room | what it is for |
//! |---|---|
//! | `shell`, `src/bin` | the program `dfml` (feature `shell`) |
//! | [`sql`] | the relation planner, functions, tables and help; knows no algorithm |
//! | `exec` | physical operators: read once, fit, score, rank, train; memory, spilling, cancellation |
//! | [`models`] | one file a model: options, fit, score, artefact; knows no plan. A new model is a file and a line in [`models::MODELS`] |
//! | [`features`] | Arrow columns to encoded blocks |
//! | [`metrics`] | how good a model is |
//! | [`store`] | artefacts on object stores |
//! | [`kernels`] | assign, gram, factor, inverse, linkage, top-k, on threads or on a card; a crate of its own in `src/kernels`, so that it is always fully optimised |
//! | [`device`] | cards: finding one, its memory, compiling for it (`src/kernels/device`) |
//! | [`options`], [`settings`], [`error`] | what a user may say, and what is said to a user |
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod error;
mod exec;
pub mod features;
pub mod metrics;
pub mod models;
pub mod options;
mod session;
pub mod settings;
#[cfg(feature = "shell")]
pub mod shell;
pub mod sql;
pub mod store;

use std::sync::Arc;

use datafusion::common::DataFusionError;
use datafusion::prelude::SessionContext;

/// The heavy work: assign, gram, factor, inverse, linkage, top-k.
pub use datafusion_ml_kernels as kernels;
/// What kernels run on.
pub use datafusion_ml_kernels::device;
pub use error::{Error, ErrorKind};

/// Registers every function, table and setting on a context that is already built. Calling it again changes nothing.
///
/// # Errors
/// The context's default catalog does not take the schema `ml`.
pub fn register_all(ctx: &SessionContext) -> Result<(), DataFusionError> {
    Ok(sql::register(ctx)?)
}

/// Runs a text of several statements, those of BigQuery ML among them.
pub use sql::sql;

/// Sets who is told what fits of this context do: passes, notices, the end.
///
/// # Errors
/// [`register_all`] was not called on the context.
pub fn observe(ctx: &SessionContext, observer: Arc<dyn models::Observer>) -> Result<(), DataFusionError> {
    match session::Session::of(ctx) {
        Some(session) => {
            session.set_observer(observer);
            Ok(())
        }
        None => Err(Error::request("call register_all on this context before observe").into()),
    }
}
