//! What a tree begins with: distinct rows, or micro-clusters of them.

use crate::kernels::assign::{Centroids, Metric};
use crate::kernels::block::Block;
use crate::models::kmeans::Run;

/// Points that stand for rows.
#[derive(Debug)]
pub(super) struct Leaves {
    /// Where they are, in the order by which ties are decided.
    pub(super) points: Centroids,
    /// How many rows each stands for.
    pub(super) weights: Vec<u64>,
    /// The leaf of each row.
    pub(super) of_rows: Vec<u32>,
}

impl Leaves {
    /// Equal rows as one leaf. Rows are in the order of their content: equal ones are neighbours.
    pub(super) fn distinct(block: &Block<f32>) -> Self {
        let offsets = block.code_offsets();
        let (mut values, mut weights, mut of_rows) = (vec![], vec![], Vec::with_capacity(block.row_count));
        for row in 0..block.row_count {
            let is_another = row == 0
                || block.row_numbers(row) != block.row_numbers(row - 1)
                || block.row_codes(row) != block.row_codes(row - 1);
            if is_another {
                push_point(block, row, &offsets, &mut values);
                weights.push(0);
            }
            if let Some(weight) = weights.last_mut() {
                *weight += 1;
            }
            of_rows.push(weights.len() as u32 - 1);
        }
        let (numbers, levels) = (block.number_count, &block.levels);
        Self {
            points: Centroids::new(Metric::Euclidean, weights.len(), numbers, levels, values),
            weights,
            of_rows,
        }
    }

    /// A leaf for each cluster.
    pub(super) fn of_run(run: Run) -> Self {
        Self {
            points: run.centroids,
            weights: run.rows.iter().map(|n| *n as u64).collect(),
            of_rows: run.labels,
        }
    }

    /// Bytes that so many leaves of the rows of `block` take.
    pub(super) fn bytes(count: usize, block: &Block<f32>) -> usize {
        // Coordinates in f64, in f32 for the kernels that compare with rows, and in f32 for the tree.
        let per_leaf = block.width().saturating_mul(size_of::<f64>() + 2 * size_of::<f32>());
        count
            .saturating_mul(per_leaf + 64)
            .saturating_add(block.row_count * size_of::<u32>())
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.weights.len()
    }

    /// The coordinates as the tree takes them.
    pub(super) fn values_f32(&self) -> Vec<f32> {
        self.points.values().iter().map(|x| *x as f32).collect()
    }
}

/// Row `row` as coordinates, categories one-hot.
fn push_point(block: &Block<f32>, row: usize, offsets: &[usize], into: &mut Vec<f64>) {
    let begin = into.len();
    into.extend(block.row_numbers(row).iter().map(|x| f64::from(*x)));
    into.resize(begin + block.width(), 0.0);
    for ((code, level), offset) in block.row_codes(row).iter().zip(&block.levels).zip(offsets) {
        if code < level {
            into[begin + offset + *code as usize] = 1.0;
        }
    }
}
