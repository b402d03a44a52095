//! The input's rows again, with what the fitted model says of each.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::fit::FitResult;
use super::plan::{FitOutput, OutputContext};
use crate::models::Rows;

/// A column of the output.
#[derive(Debug, Clone, Copy)]
pub(crate) enum OutputColumn {
    /// Column `.0` of the input.
    Input(usize),
    /// Column `.0` of what the verb adds.
    Verb(usize),
}

/// As many partitions as the input, each with its own rows in its own order.
#[derive(Debug)]
pub(crate) struct ScoreOutput {
    pub columns: Vec<OutputColumn>,
}

impl FitOutput for ScoreOutput {
    fn name(&self) -> &'static str {
        "FitScoreExec"
    }

    fn partitions(&self, input: usize) -> usize {
        input
    }

    fn batches(
        &self,
        result: Arc<FitResult>,
        partition: usize,
        context: &OutputContext,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        let columns = self.columns.clone();
        let features = context.job.roles.features.clone();
        let schema = Arc::clone(&context.schema);
        let baseline = context.baseline.clone();
        futures::stream::iter(result.rows.partition(partition))
            .map(move |index| {
                let timer = baseline.elapsed_compute().timer();
                let batch = score_batch(&result, index, &features, &columns, &schema);
                timer.done();
                if let Ok(batch) = &batch {
                    baseline.output_rows().add(batch.num_rows());
                }
                batch
            })
            .boxed()
    }
}

fn score_batch(
    result: &FitResult,
    index: usize,
    features: &[usize],
    columns: &[OutputColumn],
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let batch = result.rows.batch(index)?;
    let added: Vec<ArrayRef> = if !columns.iter().any(|c| matches!(c, OutputColumn::Verb(_))) {
        vec![]
    } else if let Some(scores) = &result.fitted.row_scores {
        let first = result.rows.first_row(index);
        vec![Arc::new(Float64Array::from(
            scores[first..first + batch.num_rows()].to_vec(),
        ))]
    } else {
        let columns: Vec<ArrayRef> = features.iter().map(|i| Arc::clone(batch.column(*i))).collect();
        result.fitted.model.verb_columns(&columns)?
    };
    let columns = columns
        .iter()
        .map(|column| match column {
            OutputColumn::Input(i) => Arc::clone(batch.column(*i)),
            OutputColumn::Verb(i) => Arc::clone(&added[*i]),
        })
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(
        Arc::clone(schema),
        columns,
        &options,
    )?)
}
