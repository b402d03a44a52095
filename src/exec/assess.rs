//! How good a stored model is on the rows of a query.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::TaskContext;

use super::answer::Question;
use super::collect::CollectedRows;
use crate::error::Result;
use crate::options::Options;
use crate::store::LoadedModel;

/// What is asked of which model.
#[derive(Debug, Clone)]
pub(crate) struct AssessJob {
    pub loaded: Arc<LoadedModel>,
    /// The function's last word, such as `EVALUATE`.
    pub word: &'static str,
    pub options: Options,
    /// The columns of the input: the model's features in its order, then its label if it has one.
    pub columns: SchemaRef,
    /// The columns that are wanted of the answer, by index; all without.
    pub kept: Option<Vec<usize>>,
    /// Their schema.
    pub schema: SchemaRef,
}

impl Question for AssessJob {
    fn name(&self) -> &'static str {
        "AssessExec"
    }

    fn function(&self) -> String {
        format!("ML.{}", self.word)
    }

    fn about(&self) -> String {
        let manifest = &self.loaded.manifest;
        format!("{} of {}@{}", self.word, manifest.name, manifest.version)
    }

    fn columns(&self) -> SchemaRef {
        Arc::clone(&self.columns)
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn kept(&self) -> Option<&[usize]> {
        self.kept.as_deref()
    }

    fn answer(&self, rows: &CollectedRows, _task: &TaskContext, cancel: &AtomicBool) -> Result<RecordBatch> {
        let stop = || cancel.load(Ordering::Relaxed);
        self.loaded.model.assess(self.word, rows, &self.options, &stop)
    }
}
