//! The best items of every user that the fit saw.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use datafusion::arrow::array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch, UInt64Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{DataFusionError, Result};
use futures::StreamExt;
use futures::stream::BoxStream;

use super::CancelOnDrop;
use super::fit::FitResult;
use super::plan::{FitOutput, OutputContext};
use crate::error::Error;
use crate::models::{RecommendContext, Recommendations};

/// Users that are ranked at once: enough to keep the threads busy, few enough to cancel soon.
const USERS_AT_ONCE: usize = 2048;

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
        let (n, exclude_seen, columns) = (self.item_count, self.exclude_seen, self.columns.clone());
        let (schema, baseline) = (Arc::clone(&context.schema), context.baseline.clone());
        let begins: Vec<usize> = (0..users.len()).step_by(USERS_AT_ONCE).collect();
        futures::stream::iter(begins)
            .then(move |begin| {
                let _keep = &guard;
                let (result, pool, cancel) = (Arc::clone(&result), Arc::clone(&pool), Arc::clone(&cancel));
                let users = users.slice(begin, USERS_AT_ONCE.min(users.len() - begin));
                let (schema, columns, baseline) = (Arc::clone(&schema), columns.clone(), baseline.clone());
                async move {
                    let task = tokio::task::spawn_blocking(move || {
                        let context = RecommendContext {
                            pool: Some(pool.as_ref()),
                            cancel: cancel.as_ref(),
                        };
                        match result.fitted.model.recommender() {
                            Some(recommender) => {
                                let ranked = recommender.recommend(&users, n, exclude_seen, &context)?;
                                flatten(&users, ranked)
                            }
                            None => Err(Error::request("the model ranks no items")),
                        }
                    });
                    let all = task.await.map_err(|e| DataFusionError::Execution(e.to_string()))??;
                    let wanted = columns.iter().map(|i| Arc::clone(&all[*i])).collect();
                    let rows = all[0].len();
                    baseline.output_rows().add(rows);
                    let options = datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
                    Ok(RecordBatch::try_new_with_options(schema, wanted, &options)?)
                }
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
