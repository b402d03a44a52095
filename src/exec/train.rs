//! Stores the fitted model and gives its training information.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Float64Array, Float64Builder, Int64Array, Int64Builder, ListBuilder, RecordBatch, StringArray,
    StructBuilder,
};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result};
use futures::StreamExt;
use futures::stream::BoxStream;

use super::fit::FitResult;
use super::plan::{FitOutput, OutputContext};
use crate::models::TrainingInfo;
use crate::options::Options;
use crate::session::Session;

/// One partition: a row for each pass.
#[derive(Debug)]
pub(crate) struct TrainOutput {
    pub model: String,
    /// The options as the user gave them, which are stored.
    pub options: Options,
    /// The indices of [`training_info_schema`] that are wanted.
    pub columns: Vec<usize>,
}

impl FitOutput for TrainOutput {
    fn name(&self) -> &'static str {
        "TrainExec"
    }

    fn partitions(&self, _input: usize) -> usize {
        1
    }

    fn batches(
        &self,
        result: Arc<FitResult>,
        _partition: usize,
        context: &OutputContext,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        let (model, options, columns) = (self.model.clone(), self.options.clone(), self.columns.clone());
        let job = context.job.clone();
        let baseline = context.baseline.clone();
        let settings = Session::settings_in(context.task.session_config().options());
        futures::stream::once(async move {
            let store = job.session.store(&settings)?;
            store
                .save_search(
                    &model,
                    result.fitted.model.as_ref(),
                    &with_found(options, &result.fitted.info),
                    &result.fitted.info,
                    Arc::clone(&result.trials.models),
                )
                .await?;
            let batch = training_info_batch(&result.fitted.info)?
                .project(&columns)
                .map_err(DataFusionError::from)?;
            baseline.output_rows().add(batch.num_rows());
            Ok(batch)
        })
        .boxed()
    }
}

/// The options with those that a search chose.
pub(crate) fn with_found(options: Options, info: &TrainingInfo) -> Options {
    let best = info.trials.iter().find(|t| t.is_optimal);
    let found = best.map(|t| t.options.clone()).unwrap_or_default();
    found
        .iter()
        .fold(options, |options, (name, value)| options.with(name, value.clone()))
}

fn cluster_fields() -> Fields {
    Fields::from(vec![
        Field::new("centroid_id", DataType::Int64, true),
        Field::new("cluster_radius", DataType::Float64, true),
        Field::new("cluster_size", DataType::Int64, true),
    ])
}

/// The columns of the training information: BigQuery ML's, and the notices, which stand in the last row.
pub(crate) fn training_info_schema() -> SchemaRef {
    let list = DataType::List(Arc::new(Field::new("item", DataType::Struct(cluster_fields()), true)));
    Arc::new(Schema::new(vec![
        Field::new("training_run", DataType::Int64, true),
        Field::new("iteration", DataType::Int64, true),
        Field::new("loss", DataType::Float64, true),
        Field::new("eval_loss", DataType::Float64, true),
        Field::new("learning_rate", DataType::Float64, true),
        Field::new("duration_ms", DataType::Float64, true),
        Field::new("cluster_info", list, true),
        Field::new("notice", DataType::Utf8, true),
    ]))
}

/// The training information as a table.
pub(crate) fn training_info_batch(info: &TrainingInfo) -> crate::error::Result<RecordBatch> {
    let passes = &info.passes;
    // A fit without passes, such as a closed form, still tells its notices.
    let rows = passes.len().max(usize::from(!info.notices.is_empty()));
    let ints = |f: &dyn Fn(&crate::models::Pass) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter((0..rows).map(|i| passes.get(i).map(f))))
    };
    let mut clusters = ListBuilder::new(StructBuilder::from_fields(cluster_fields(), 0));
    for i in 0..rows {
        let ids = passes.get(i).map(|p| p.clusters.as_slice()).unwrap_or_default();
        for (id, radius, size) in ids {
            let entry = clusters.values();
            if let Some(b) = entry.field_builder::<Int64Builder>(0) {
                b.append_value(*id);
            }
            if let Some(b) = entry.field_builder::<Float64Builder>(1) {
                b.append_value(*radius);
            }
            if let Some(b) = entry.field_builder::<Int64Builder>(2) {
                b.append_value(*size);
            }
            entry.append(true);
        }
        clusters.append(true);
    }
    let notice = (!info.notices.is_empty()).then(|| info.notices.join("; "));
    let none: ArrayRef = Arc::new(Float64Array::from(vec![None; rows]));
    let columns: Vec<ArrayRef> = vec![
        ints(&|p| p.training_run),
        ints(&|p| p.iteration),
        Arc::new(Float64Array::from_iter(
            (0..rows).map(|i| passes.get(i).and_then(|p| p.loss)),
        )),
        Arc::new(Float64Array::from_iter(
            (0..rows).map(|i| info.eval_loss.filter(|_| i + 1 == passes.len())),
        )),
        none,
        Arc::new(Float64Array::from_iter(
            (0..rows).map(|i| passes.get(i).map(|p| p.duration_ms)),
        )),
        Arc::new(clusters.finish()),
        Arc::new(StringArray::from_iter(
            (0..rows).map(|i| if i + 1 == rows { notice.clone() } else { None }),
        )),
    ];
    Ok(RecordBatch::try_new(training_info_schema(), columns)?)
}
