//! Where centroids begin that are given: as rows, as numbers, or by the model of before.

use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;

use super::{KMeansModel, lexicographic, normalise, point};
use crate::error::Result;
use crate::features::{Block, Encoder};
use crate::kernels::assign::Metric;
use crate::models::{FitContext, Rows};

/// The rows in which a boolean column is TRUE.
pub(super) fn marked_rows(rows: &dyn Rows, column: usize, context: &FitContext<'_>) -> Result<Vec<usize>> {
    let (mut marked, mut first) = (vec![], 0);
    for index in 0..rows.batch_count() {
        context.check_cancelled()?;
        let batch = rows.batch(index)?;
        let marks = cast(batch.column(column), &DataType::Boolean)?;
        let is_marked = marks
            .as_boolean()
            .iter()
            .enumerate()
            .filter(|(_, mark)| *mark == Some(true));
        marked.extend(is_marked.map(|(row, _)| first + row));
        first += batch.num_rows();
    }
    Ok(marked)
}

/// Rows as coordinates, ordered by them, so that nothing depends on how the rows came.
pub(super) fn start_points(block: &Block<f32>, metric: Metric, rows: &[usize]) -> Vec<f64> {
    let of_row = |row: &usize| {
        let mut values = vec![];
        point(block, metric, *row, &mut values);
        values
    };
    let mut points: Vec<Vec<f64>> = rows.iter().map(of_row).collect();
    points.sort_by(|a, b| lexicographic(a, b));
    points.concat()
}

/// Centroids in the units of the features as coordinates of encoded rows.
pub(super) fn encode_given(encoder: &Encoder, block: &Block<f32>, metric: Metric, rows: &[Vec<f64>]) -> Vec<f64> {
    let mut values = Vec::with_capacity(rows.len() * block.width());
    for row in rows {
        let begin = values.len();
        values.extend(encoder.numbers().iter().map(|n| (row[n.source] - n.shift) / n.scale));
        values.resize(begin + block.width(), 0.0);
        if metric == Metric::Cosine {
            normalise(&mut values[begin..]);
        }
    }
    values
}

impl KMeansModel {
    /// The centroids as coordinates of rows that another encoder of the same features encodes. A category that this model did not know is at 0.
    pub(super) fn encoded_by(&self, encoder: &Encoder) -> Vec<f64> {
        let (own, other) = (self.encoder.numbers(), encoder.numbers());
        let (own_levels, levels) = (self.encoder.levels(), encoder.levels());
        let width = other.len() + levels.iter().map(|l| *l as usize).sum::<usize>();
        let mut values = vec![];
        for row in (0..self.ids.len()).map(|j| self.centroids.row(j)) {
            let begin = values.len();
            for number in other {
                let found = own
                    .iter()
                    .position(|n| n.name == number.name && n.element == number.element);
                values.push(match found {
                    Some(j) => (row[j] * own[j].scale + own[j].shift - number.shift) / number.scale,
                    None => number.imputed(),
                });
            }
            values.resize(begin + width, 0.0);
            let mut at = begin + other.len();
            for (column, count) in encoder.codes().iter().zip(&levels) {
                let mut own_at = own.len();
                for (own_column, own_count) in self.encoder.codes().iter().zip(&own_levels) {
                    if own_column.name == column.name {
                        for code in 0..*own_count {
                            let same = (0..*count).find(|c| column.category(*c) == own_column.category(code));
                            if let Some(same) = same {
                                values[at + same as usize] = row[own_at + code as usize];
                            }
                        }
                    }
                    own_at += *own_count as usize;
                }
                at += *count as usize;
            }
            if self.metric == Metric::Cosine {
                normalise(&mut values[begin..]);
            }
        }
        values
    }
}
