//! Ward's clusters: centroids and weights, from which a distance is computed when it is asked for.

use rayon::prelude::*;

use super::Points;
use super::chain::Clusters;
use super::panels::{Nearest, PANEL, Panels, least};

/// Multiply-adds that make a task: less is not worth waking a thread for.
const TASK: usize = 1 << 17;

/// Clusters by their centroids. The distance is the increase of the sum of squares if two were merged.
pub(super) struct Centroids {
    centroids: Panels,
    weights: Vec<f64>,
    /// `1 / weight`, whose sum divides a squared distance: one division where the product over the sum takes two steps more.
    inverses: Vec<f64>,
    names: Vec<u32>,
    positions: Vec<u32>,
    /// The largest inverse of all.
    most: f64,
}

impl Centroids {
    pub(super) fn new(points: &Points<'_>) -> Self {
        let n = points.count();
        let weights: Vec<f64> = (0..n).map(|i| points.weight(i) as f64).collect();
        let inverses: Vec<f64> = weights.iter().map(|w| 1.0 / w).collect();
        Self {
            centroids: Panels::new(points.values, points.dimension),
            most: inverses.iter().copied().fold(0.0, f64::max),
            weights,
            inverses,
            names: (0..n as u32).collect(),
            positions: (0..n as u32).collect(),
        }
    }

    fn nearest_of_panels(&self, panels: std::ops::Range<usize>, tip: usize, centroid: &[f64]) -> Nearest {
        let inverse = self.inverses[tip];
        let mut best = Nearest::NONE;
        for panel in panels {
            let squares = self.centroids.squares(panel, centroid);
            // No cluster of the panel is nearer than this, rounding included: division is monotone.
            if least(&squares) / (inverse + self.most) > best.distance {
                continue;
            }
            let first = panel * PANEL;
            let others = self.inverses[first..].iter().zip(&self.names[first..]);
            for (i, (square, (other, name))) in squares.iter().zip(others).enumerate() {
                if first + i != tip {
                    best.offer(square / (inverse + other), *name, first + i);
                }
            }
        }
        best
    }
}

impl Clusters for Centroids {
    fn point_count(&self) -> usize {
        self.positions.len()
    }

    fn nearest(&self, of: u32) -> (f64, u32) {
        let tip = self.positions[of as usize] as usize;
        let centroid = self.centroids.point(tip);
        let panels = self.centroids.panel_count();
        let per_task = (TASK / (PANEL * self.centroids.dimension())).max(1);
        let best = if panels <= per_task {
            self.nearest_of_panels(0..panels, tip, &centroid)
        } else {
            (0..panels.div_ceil(per_task))
                .into_par_iter()
                .map(|task| {
                    let first = task * per_task;
                    self.nearest_of_panels(first..(first + per_task).min(panels), tip, &centroid)
                })
                .reduce(|| Nearest::NONE, Nearest::or)
        };
        (best.distance, best.name)
    }

    fn merge(&mut self, into: u32, from: u32) {
        let (a, b) = (
            self.positions[into as usize] as usize,
            self.positions[from as usize] as usize,
        );
        let (a_weight, b_weight) = (self.weights[a], self.weights[b]);
        let weight = a_weight + b_weight;
        let mean: Vec<f64> = self
            .centroids
            .point(a)
            .iter()
            .zip(self.centroids.point(b))
            .map(|(x, y)| (a_weight * x + b_weight * y) / weight)
            .collect();
        self.centroids.set(a, mean);
        self.weights[a] = weight;
        self.inverses[a] = 1.0 / weight;
        self.centroids.swap_remove(b);
        self.weights.swap_remove(b);
        self.inverses.swap_remove(b);
        self.names.swap_remove(b);
        if let Some(moved) = self.names.get(b) {
            self.positions[*moved as usize] = b as u32;
        }
    }

    fn height(&self, distance: f64) -> f64 {
        (2.0 * distance).sqrt()
    }
}
