//! How good a factorization is on rows: `ML.EVALUATE`.
//!
//! Explicit feedback: the metrics of a regression over the rows that have a rating, those of unknown users and items by what is known.
//!
//! Implicit feedback: for each known user of the rows all items are ranked, but for those that the user had in training and not in the
//! rows; the *right* items are those of the rows (ratings of a pair added up, as in training). On the training rows themselves this ranks
//! every item, on held-out rows what the user did not have yet. Of these rankings:
//!
//! - `mean_average_precision`: the mean over users of the mean, over their right items, of the share of right items down to that one.
//! - `mean_squared_error`: the mean over all ranked pairs of the squared distance of the confidence from 1 for a right item and from 0 for
//!   any other.
//! - `normalized_discounted_cumulative_gain`: the mean over users of `Σ rating / log2(rank + 1)` over that of the best order.
//! - `average_rank`: the mean, weighted by ratings, of the right items' places as shares of the ranking: 0 is the first, 1 the last (Hu et
//!   al. 2008, `rank̄`); half is chance.
//!
//! BigQuery ML documents the names of these four and no formulas; its reference says of the errors that they are over preferences of 1 and
//! 0, of the gain that it is measured by the ratings, and of the rank that it is Hu's.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, Float64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, FieldRef, Schema};

use super::VERB;
use super::interactions::{Feedback, UNKNOWN, numbers};
use super::model::FactorizationModel;
use crate::error::{Error, Result};
use crate::metrics::regression::Regression;
use crate::models::{Rows, field};

const EXPLICIT: [&str; 6] = [
    "mean_absolute_error",
    "mean_squared_error",
    "mean_squared_log_error",
    "median_absolute_error",
    "r2_score",
    "explained_variance",
];
const IMPLICIT: [&str; 4] = [
    "mean_average_precision",
    "mean_squared_error",
    "normalized_discounted_cumulative_gain",
    "average_rank",
];

/// A row: the codes of its user and item, and its rating.
type Row = (u32, u32, f64);

impl FactorizationModel {
    /// The columns of `ML.EVALUATE`.
    pub(super) fn metric_fields(&self, word: &str) -> Option<Vec<FieldRef>> {
        let names: &[&str] = if self.ratings().is_some() { &EXPLICIT } else { &IMPLICIT };
        (word == "EVALUATE").then(|| names.iter().map(|name| field(*name, DataType::Float64)).collect())
    }

    /// The metrics on rows: users, items, and ratings if the model has a rating column. Rankings are those of `most_users` at most, evenly
    /// spread over the users.
    ///
    /// # Errors
    /// No row to judge by, or cancellation.
    pub(super) fn metrics(
        &self,
        word: &str,
        rows: &dyn Rows,
        most_users: Option<usize>,
        stop: &dyn Fn() -> bool,
    ) -> Result<RecordBatch> {
        let feedback = if self.ratings().is_some() {
            Feedback::Explicit
        } else {
            Feedback::Implicit
        };
        let mut read = self.read(feedback, rows, stop)?;
        // The order of the rows is not to change a bit of the sums.
        read.sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2)));
        let metrics = match feedback {
            Feedback::Explicit => self.errors(word, &read)?,
            Feedback::Implicit => self.rankings(word, &read, most_users, stop)?.to_vec(),
        };
        let columns = metrics
            .into_iter()
            .map(|m| Arc::new(Float64Array::from(vec![m])) as ArrayRef);
        let fields = self.metric_fields("EVALUATE").unwrap_or_default();
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.collect())?)
    }

    fn read(&self, feedback: Feedback, rows: &dyn Rows, stop: &dyn Fn() -> bool) -> Result<Vec<Row>> {
        let mut read = vec![];
        for index in 0..rows.batch_count() {
            if stop() {
                return Err(Error::cancelled());
            }
            let batch = rows.batch(index)?;
            let Some((columns, rating)) = batch.columns().split_at_checked(2) else {
                return Err(Error::request("a factorization is judged by users and items"));
            };
            let (users, items) = self.codes(columns)?;
            let ratings = rating.first().map(|column| numbers(VERB, column)).transpose()?;
            for (row, (user, item)) in users.into_iter().zip(items).enumerate() {
                let rating = match &ratings {
                    Some(r) if r.is_null(row) => f64::NAN,
                    Some(r) => r.value(row),
                    None => 1.0,
                };
                if feedback.takes(rating) {
                    read.push((user, item, rating));
                }
            }
        }
        Ok(read)
    }

    fn errors(&self, word: &str, rows: &[Row]) -> Result<Vec<Option<f64>>> {
        let labels: Vec<f64> = rows.iter().map(|row| row.2).collect();
        let predictions: Vec<f64> = rows.iter().filter_map(|row| self.any_score(row.0, row.1)).collect();
        let m = Regression::of(&labels, &predictions).ok_or_else(|| {
            Error::data(format!(
                "ML.{word}: no row has a finite rating ('{}'); at least one needs one to judge the model by",
                self.rating.name
            ))
        })?;
        Ok(vec![
            Some(m.mean_absolute_error),
            Some(m.mean_squared_error),
            m.mean_squared_log_error,
            Some(m.median_absolute_error),
            m.r2_score,
            m.explained_variance,
        ])
    }

    fn rankings(
        &self,
        word: &str,
        rows: &[Row],
        most_users: Option<usize>,
        stop: &dyn Fn() -> bool,
    ) -> Result<[Option<f64>; 4]> {
        let known: Vec<Row> = rows
            .iter()
            .copied()
            .filter(|row| row.0 != UNKNOWN && row.1 != UNKNOWN)
            .collect();
        let users: Vec<&[Row]> = known.chunk_by(|a, b| a.0 == b.0).collect();
        if users.is_empty() {
            return Err(Error::data(format!(
                "ML.{word}: no row has a user and an item that the model knows, and a positive rating; there is nothing to judge it by"
            )));
        }
        let wanted = most_users.unwrap_or(users.len()).min(users.len());
        let mut sums = Sums::default();
        let mut scores = vec![];
        for at in 0..wanted {
            if stop() {
                return Err(Error::cancelled());
            }
            let rows = users[at * users.len() / wanted];
            self.item_scores(rows[0].0, &mut scores);
            sums.add(&right_items(rows), &scores, self.seen.of(rows[0].0 as usize));
        }
        Ok(sums.metrics())
    }
}

/// The items of one user's sorted rows, each once, with the sum of its ratings.
fn right_items(rows: &[Row]) -> Vec<(u32, f64)> {
    let items = rows.chunk_by(|a, b| a.1 == b.1);
    items
        .map(|same| (same[0].1, same.iter().map(|row| row.2).sum()))
        .collect()
}

/// What rankings of users add up to.
#[derive(Debug, Default)]
struct Sums {
    users: f64,
    precision: f64,
    gain: f64,
    pairs: f64,
    squares: f64,
    ratings: f64,
    ranks: f64,
}

impl Sums {
    /// Adds a user: the right items, ascending, with their ratings; the scores of all items; and the items that are ranked only if they
    /// are right, ascending.
    fn add(&mut self, right: &[(u32, f64)], scores: &[f32], seen: &[u32]) {
        // Best first, equal scores by item: as rankings go.
        let better = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        let mut order: Vec<(f32, u32, f64)> = right
            .iter()
            .map(|(item, rating)| (scores[*item as usize], *item, *rating))
            .collect();
        order.sort_unstable_by(|a, b| better(&(a.0, a.1), &(b.0, b.1)));
        // How many other items stand directly before each right one.
        let mut before = vec![0usize; order.len() + 1];
        let mut others = 0usize;
        for (item, score) in (0u32..).zip(scores) {
            let is_right = right.binary_search_by_key(&item, |r| r.0).is_ok();
            if !is_right && seen.binary_search(&item).is_ok() {
                continue;
            }
            let wanted = f64::from(u8::from(is_right));
            self.squares += (wanted - f64::from(*score)).powi(2);
            if !is_right {
                let place = order.partition_point(|r| better(&(r.0, r.1), &(*score, item)).is_lt());
                before[place] += 1;
                others += 1;
            }
        }
        let ranked = order.len() + others;
        let (mut passed, mut precision, mut gain) = (0, 0.0, 0.0);
        for (at, ((_, _, rating), before)) in order.iter().zip(&before).enumerate() {
            passed += before;
            let rank = at + passed;
            precision += (at + 1) as f64 / (rank + 1) as f64;
            gain += rating / ((rank + 2) as f64).log2();
            self.ranks += rating * rank as f64 / (ranked - 1).max(1) as f64;
            self.ratings += rating;
        }
        let mut ideal: Vec<f64> = order.iter().map(|r| r.2).collect();
        ideal.sort_unstable_by(|a, b| b.total_cmp(a));
        let best: f64 = ideal
            .iter()
            .zip(2u32..)
            .map(|(rating, place)| rating / f64::from(place).log2())
            .sum();
        self.users += 1.0;
        self.precision += precision / order.len() as f64;
        self.gain += gain / best;
        self.pairs += ranked as f64;
    }

    fn metrics(&self) -> [Option<f64>; 4] {
        [
            Some(self.precision / self.users),
            Some(self.squares / self.pairs),
            Some(self.gain / self.users),
            Some(self.ranks / self.ratings),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rankings_by_hand() {
        // Items by score: 2 (.9), 0 (.8), 4 (.8), 1 (.3), 3 (.1). Right: 0 (rating 1) and 3 (rating 3). Item 1 is left out.
        let scores = [0.8, 0.3, 0.9, 0.1, 0.8];
        let mut sums = Sums::default();
        sums.add(&[(0, 1.0), (3, 3.0)], &scores, &[0, 1]);
        let [precision, squares, gain, rank] = sums.metrics().map(Option::unwrap);
        // Ranks, from 1: item 0 is the second of four, item 3 the last.
        assert!((precision - (1.0 / 2.0 + 2.0 / 4.0) / 2.0).abs() < 1e-12);
        let expected = (0.2f64.powi(2) + 0.9f64.powi(2) + 0.9f64.powi(2) + 0.8f64.powi(2)) / 4.0;
        assert!((squares - expected).abs() < 1e-7, "{squares} {expected}");
        let got = 1.0 / 3f64.log2() + 3.0 / 5f64.log2();
        assert!((gain - got / (3.0 + 1.0 / 3f64.log2())).abs() < 1e-12);
        assert!((rank - (1.0 / 3.0 + 3.0 * 1.0) / 4.0).abs() < 1e-12);
    }

    #[test]
    fn a_perfect_ranking() {
        let mut sums = Sums::default();
        sums.add(&[(0, 2.0), (1, 1.0)], &[1.0, 1.0, 0.0], &[]);
        let [precision, squares, gain, rank] = sums.metrics().map(Option::unwrap);
        assert_eq!((precision, squares, gain), (1.0, 0.0, 1.0));
        assert!((rank - 0.5 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn one_item_alone_is_no_division_by_zero() {
        let mut sums = Sums::default();
        sums.add(&[(0, 2.0)], &[0.5], &[0]);
        assert_eq!(sums.metrics(), [Some(1.0), Some(0.25), Some(1.0), Some(0.0)]);
    }
}
