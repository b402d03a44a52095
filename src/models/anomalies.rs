//! What counts as anomalous: how far a row is from what a model was trained on, beside how far the training rows are.
//!
//! The threshold of a contamination c is the (1 − c) quantile of the training rows' scores: the score of rank ⌈(1 − c)·n⌉ of n. A row
//! is anomalous if its score is above it, so that of the training rows a share of at most c is. The scores from the median up are kept
//! with the model, all of them where there are at most [`MAX_SCORES`] and as many evenly spaced ranks otherwise: of between two ranks
//! the higher decides, which leaves out less than one row in 20,000.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::features::encode::table_column;
use crate::models::Artefact;
use crate::options::Options;

/// How many scores are kept at most.
const MAX_SCORES: usize = 10_001;

/// The part of a model that holds the scores.
const TABLE: &str = "anomaly_scores";

/// The upper half of the training rows' scores.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Thresholds {
    /// From 1, ascending; the last is the number of rows.
    ranks: Vec<i64>,
    /// The score of each of these ranks.
    scores: Vec<f64>,
}

impl Thresholds {
    /// What to keep of these scores, of which there is at least one.
    pub(super) fn of(mut scores: Vec<f64>, pool: &rayon::ThreadPool) -> Self {
        pool.install(|| scores.par_sort_unstable_by(f64::total_cmp));
        let lowest = scores.len().div_ceil(2).max(1);
        let above = scores.len().saturating_sub(lowest);
        let kept = (above + 1).min(MAX_SCORES);
        let ranks: Vec<usize> = match kept {
            1 => vec![lowest],
            _ => (0..kept)
                .map(|i| lowest + ((i as u128 * above as u128) / (kept as u128 - 1)) as usize)
                .collect(),
        };
        Self {
            scores: ranks.iter().filter_map(|r| scores.get(r - 1).copied()).collect(),
            ranks: ranks.into_iter().map(|r| r as i64).collect(),
        }
    }

    /// The score above which a row is anomalous.
    fn at(&self, contamination: f64) -> f64 {
        let count = self.ranks.last().copied().unwrap_or(0) as f64;
        // A little less, so that what rounding added to a whole number does not count as one more.
        let rank = ((1.0 - contamination) * count * (1.0 - 1e-12)).ceil() as i64;
        let at = self.ranks.partition_point(|r| *r < rank);
        self.scores
            .get(at)
            .or(self.scores.last())
            .copied()
            .unwrap_or(f64::INFINITY)
    }

    /// Which of these scores are anomalous, at the option `contamination`.
    pub(super) fn flags(&self, scores: &[f64], options: &Options) -> ArrayRef {
        let threshold = self.at(options.float("contamination", 0.0));
        Arc::new(BooleanArray::from_iter(scores.iter().map(|s| Some(*s > threshold))))
    }

    /// The table that [`Thresholds::from_artefact`] reads back.
    pub(super) fn to_table(&self) -> Result<(String, RecordBatch)> {
        let columns: [(&str, ArrayRef); 2] = [
            ("rank", Arc::new(Int64Array::from(self.ranks.clone()))),
            ("score", Arc::new(Float64Array::from(self.scores.clone()))),
        ];
        Ok((TABLE.into(), RecordBatch::try_from_iter(columns)?))
    }

    /// What [`Thresholds::to_table`] gave; none in a model that was stored without.
    pub(super) fn from_artefact(artefact: &Artefact) -> Result<Option<Self>> {
        if !artefact.parts.tables.iter().any(|(name, _)| name == TABLE) {
            return Ok(None);
        }
        let table = artefact.table(TABLE)?;
        let ranks = table_column(artefact, table, "rank", &DataType::Int64)?;
        let scores = table_column(artefact, table, "score", &DataType::Float64)?;
        let (ranks, scores) = (ranks.as_primitive::<Int64Type>(), scores.as_primitive::<Float64Type>());
        if ranks.is_empty()
            || ranks.null_count() + scores.null_count() > 0
            || ranks.values().windows(2).any(|w| w[0] >= w[1])
            || scores.values().windows(2).any(|w| w[0].total_cmp(&w[1]).is_gt())
        {
            return Err(artefact.corrupt(format!("its part '{TABLE}' is not in order")));
        }
        Ok(Some(Self {
            ranks: ranks.values().to_vec(),
            scores: scores.values().to_vec(),
        }))
    }
}

/// The error that says that a model was stored without the scores of its training rows.
pub(super) fn without_scores() -> Error {
    Error::model(
        "ML.DETECT_ANOMALIES: this model was stored without the scores of its training rows, so nothing says what is far; train it again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Value;

    fn thresholds(scores: Vec<f64>) -> Thresholds {
        Thresholds::of(scores, &rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap())
    }

    fn flagged(thresholds: &Thresholds, scores: &[f64], contamination: f64) -> usize {
        let options = Options::default().with("contamination", Value::Float(contamination));
        thresholds.flags(scores, &options).as_boolean().true_count()
    }

    #[test]
    fn a_share_of_the_training_rows_is_anomalous() {
        for count in [1usize, 2, 3, 10, 37, 1000, 20_000, 50_001] {
            let scores: Vec<f64> = (0..count).map(|i| ((i * 7919) % count) as f64).collect();
            let t = thresholds(scores.clone());
            for c in [0.0, 0.001, 0.01, 0.02, 0.1, 0.25, 0.3, 0.5] {
                let (found, most) = (flagged(&t, &scores, c), c * count as f64 + 1e-9);
                assert!(found as f64 <= most, "{count} {c}: {found}");
                let slack = if count <= 20_000 {
                    1.0
                } else {
                    1.0 + count as f64 / 20_000.0
                };
                assert!(found as f64 > most - slack, "{count} {c}: {found}");
            }
        }
    }

    #[test]
    fn the_median_and_the_largest_are_the_ends() {
        let t = thresholds((1..=100).map(f64::from).collect());
        assert_eq!(
            (t.at(0.5), t.at(0.0), t.at(0.1), t.scores.len()),
            (50.0, 100.0, 90.0, 51)
        );
        let many = thresholds((1..=1_000_000).map(f64::from).collect());
        assert_eq!((many.at(0.5), many.at(0.0), many.scores.len()), (5e5, 1e6, MAX_SCORES));
        assert_eq!(many.at(0.25), 750_000.0);
    }
}
