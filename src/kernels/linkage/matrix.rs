//! The distances of all clusters, in a triangle of f32. A merge replaces two clusters' distances by one's.
//!
//! The last cluster takes the place of one that is gone, so that the triangle stays dense and shrinks.

use std::ops::Range;

use rayon::prelude::*;

use super::Points;
use super::chain::Clusters;
use super::panels::{Nearest, PANEL, Panels};

/// Distances that make a task: less is not worth waking a thread for.
const TASK: usize = 4096;

/// What the distance from a merged cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Combine {
    /// The mean of the distances from its parts, by their weights.
    Mean,
    /// The larger of the distances from its parts.
    Largest,
}

/// Clusters by their distances.
pub(super) struct Distances {
    /// Row by row: that of position `i` has its distances from the positions below.
    triangle: Vec<f32>,
    combine: Combine,
    weights: Vec<f64>,
    names: Vec<u32>,
    positions: Vec<u32>,
    /// A merged cluster's distances.
    merged: Vec<f32>,
}

/// Where the row of `position` begins.
fn row(position: usize) -> usize {
    position * position.saturating_sub(1) / 2
}

impl Distances {
    /// The distances of all points. None once `cancelled`.
    pub(super) fn new(points: &Points<'_>, combine: Combine, cancelled: &(dyn Fn() -> bool + Sync)) -> Option<Self> {
        let n = points.count();
        let panels = Panels::new(points.values, points.dimension);
        let mut triangle = vec![0f32; row(n)];
        let mut rows: Vec<&mut [f32]> = Vec::with_capacity(n);
        let mut rest = &mut triangle[..];
        for i in 0..n {
            let (row, after) = rest.split_at_mut(i);
            rows.push(row);
            rest = after;
        }
        rows.into_par_iter().enumerate().try_for_each(|(i, row)| {
            let point = panels.point(i);
            for (panel, to) in row.chunks_mut(PANEL).enumerate() {
                for (distance, square) in to.iter_mut().zip(panels.squares(panel, &point)) {
                    // `min` drops NaN and infinity, with which nothing would be nearest.
                    *distance = (square.sqrt() as f32).min(f32::MAX);
                }
            }
            (!cancelled()).then_some(())
        })?;
        Some(Self {
            triangle,
            combine,
            weights: (0..n).map(|i| points.weight(i) as f64).collect(),
            names: (0..n as u32).collect(),
            positions: (0..n as u32).collect(),
            merged: vec![0f32; n],
        })
    }

    fn get(&self, a: usize, b: usize) -> f32 {
        self.triangle[row(a.max(b)) + a.min(b)]
    }

    /// The nearest of `others` to `tip`.
    fn nearest_of(&self, tip: usize, others: Range<usize>) -> Nearest {
        let mut best = Nearest::NONE;
        let below = others.start.min(tip)..others.end.min(tip);
        let distances = &self.triangle[row(tip) + below.start..row(tip) + below.end];
        for (position, distance) in below.zip(distances) {
            let distance = f64::from(*distance);
            if distance <= best.distance {
                best.offer(distance, self.names[position], position);
            }
        }
        for position in others.start.max(tip + 1)..others.end {
            let distance = f64::from(self.triangle[row(position) + tip]);
            if distance <= best.distance {
                best.offer(distance, self.names[position], position);
            }
        }
        best
    }

    /// Writes `self.merged` as the distances of `a`; that of `a` itself is not read.
    fn write_merged(&mut self, a: usize) {
        let (below, above) = self.merged.split_at(a);
        self.triangle[row(a)..row(a) + a].copy_from_slice(below);
        let count = self.names.len();
        for (position, distance) in (a + 1..count).zip(above.iter().skip(1)) {
            self.triangle[row(position) + a] = *distance;
        }
    }

    /// Removes `b`; the last cluster takes its place.
    fn swap_remove(&mut self, b: usize) {
        let last = self.names.len() - 1;
        if b != last {
            let from = row(last);
            self.triangle.copy_within(from..from + b, row(b));
            for position in b + 1..last {
                self.triangle[row(position) + b] = self.triangle[from + position];
            }
        }
        self.weights.swap_remove(b);
        self.names.swap_remove(b);
        if let Some(moved) = self.names.get(b) {
            self.positions[*moved as usize] = b as u32;
        }
    }
}

impl Clusters for Distances {
    fn point_count(&self) -> usize {
        self.positions.len()
    }

    fn nearest(&self, of: u32) -> (f64, u32) {
        let tip = self.positions[of as usize] as usize;
        let count = self.names.len();
        let best = if count <= TASK {
            self.nearest_of(tip, 0..count)
        } else {
            (0..count.div_ceil(TASK))
                .into_par_iter()
                .map(|task| self.nearest_of(tip, task * TASK..((task + 1) * TASK).min(count)))
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
        let mut merged = std::mem::take(&mut self.merged);
        merged.truncate(self.names.len());
        let combine = |(position, to): (usize, &mut f32)| {
            if position == a || position == b {
                return;
            }
            let (x, y) = (self.get(a, position), self.get(b, position));
            *to = match self.combine {
                // Rounded to f32 it is between the two, so that nothing comes closer than a part of it was.
                Combine::Mean => ((a_weight * f64::from(x) + b_weight * f64::from(y)) / weight) as f32,
                Combine::Largest => x.max(y),
            };
        };
        merged.par_iter_mut().enumerate().with_min_len(TASK).for_each(combine);
        self.merged = merged;
        self.write_merged(a);
        self.weights[a] = weight;
        self.swap_remove(b);
    }

    fn height(&self, distance: f64) -> f64 {
        distance
    }
}
