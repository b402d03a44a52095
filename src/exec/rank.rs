//! The best items of every user that the fit saw.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use datafusion::arrow::array::{
    Array, ArrayRef, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, UInt64Array,
};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{DataFusionError, Result};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::mpsc;

use super::CancelOnDrop;
use super::fit::{FitResult, tell_device};
use super::plan::{FitOutput, OutputContext};
use crate::error::Error;
use crate::models::Recommendations;
use crate::session::Session;

/// Batches that may wait to be read.
const BATCHES_AHEAD: usize = 2;

/// One partition: each user's items, best first, users ascending.
#[derive(Debug)]
pub(crate) struct RankOutput {
    pub item_count: usize,
    pub exclude_seen: bool,
    /// The indices of [`recommendation_fields`] that are wanted.
    pub columns: Vec<usize>,
}

/// The columns of a ranking: user, item, rank (from 1), score.
pub(crate) fn recommendation_fields(user: &FieldRef, item: &FieldRef) -> Vec<FieldRef> {
    vec![
        Arc::clone(user),
        Arc::clone(item),
        crate::models::field("rank", DataType::Int64),
        crate::models::field("score", DataType::Float64),
    ]
}

impl FitOutput for RankOutput {
    fn name(&self) -> &'static str {
        "FitRecommendExec"
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
        let users = match result.fitted.model.recommender() {
            Some(recommender) => recommender.users(),
            None => {
                let error = Error::request(format!("{} ranks no items", context.job.model_type.name()));
                return futures::stream::once(async move { Err(error.into()) }).boxed();
            }
        };
        let pool = match context.job.session.pool(context.job.threads(&context.task)) {
            Ok(pool) => pool,
            Err(error) => return futures::stream::once(async move { Err(error.into()) }).boxed(),
        };
        let cancel = Arc::new(AtomicBool::new(false));
        let guard = CancelOnDrop(Arc::clone(&cancel));
        let settings = Session::settings_in(context.task.session_config().options());
        let (n, exclude_seen, columns) = (self.item_count, self.exclude_seen, self.columns.clone());
        let (schema, baseline, metrics) = (
            Arc::clone(&context.schema),
            context.baseline.clone(),
            context.metrics.clone(),
        );
        let observer = context.job.session.observer();
        // One task for all users, so that what a card was given stays there; it waits while nobody reads.
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        let task = tokio::task::spawn_blocking(move || -> crate::error::Result<()> {
            let Some(recommender) = result.fitted.model.recommender() else {
                return Err(Error::request("the model ranks no items"));
            };
            let compute = Session::compute(&pool, &cancel, &settings);
            recommender.recommend_all(&users, n, exclude_seen, &compute, &mut |users, ranked| {
                let all = flatten(&users, ranked)?;
                let rows = all[0].len();
                let wanted = columns.iter().map(|i| Arc::clone(&all[*i])).collect();
                let options = RecordBatchOptions::new().with_row_count(Some(rows));
                let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), wanted, &options)?;
                baseline.output_rows().add(rows);
                Ok(sender.blocking_send(batch).is_ok())
            })?;
            compute.notices().iter().for_each(|notice| observer.notice(notice));
            tell_device(&compute, &metrics);
            Ok(())
        });
        let begin = (receiver, Some(task), guard);
        futures::stream::unfold(begin, |(mut receiver, mut task, guard)| async move {
            if let Some(batch) = receiver.recv().await {
                return Some((Ok(batch), (receiver, task, guard)));
            }
            // The end, or an error: the task knows.
            let failed = match task.take()?.await {
                Ok(Ok(())) => return None,
                Ok(Err(error)) => error.into(),
                Err(error) => DataFusionError::Execution(format!("the ranking ended abnormally: {error}")),
            };
            Some((Err(failed), (receiver, None, guard)))
        })
        .boxed()
    }
}

/// The columns of [`recommendation_fields`], a row for each pair.
fn flatten(users: &ArrayRef, ranked: Recommendations) -> crate::error::Result<Vec<ArrayRef>> {
    let mut user = Vec::with_capacity(ranked.scores.len());
    let mut rank = Vec::with_capacity(ranked.scores.len());
    for (i, bounds) in ranked.offsets.windows(2).enumerate() {
        for r in 0..bounds[1] - bounds[0] {
            user.push(i as u64);
            rank.push(r as i64 + 1);
        }
    }
    Ok(vec![
        take(users, &UInt64Array::from(user), None)?,
        ranked.items,
        Arc::new(Int64Array::from(rank)),
        Arc::new(Float64Array::from(ranked.scores)),
    ])
}
