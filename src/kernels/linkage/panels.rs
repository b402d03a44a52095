//! Points laid out for the distances of many to one: panels of 32 points, dimension by dimension, in f64.

use crate::cpu::has_avx2_fma;

/// Points of a panel: 32 sums are 8 of AVX2's 16 registers.
pub(super) const PANEL: usize = 32;

/// Points in panels. The last panel is filled up with points that are infinitely far.
pub(super) struct Panels {
    count: usize,
    dimension: usize,
    values: Vec<f64>,
    has_avx2: bool,
}

impl Panels {
    /// Lays out `points`: points × `dimension`, row-major.
    pub(super) fn new(points: &[f32], dimension: usize) -> Self {
        let dimension = dimension.max(1);
        let count = points.len() / dimension;
        let mut values = vec![f64::INFINITY; count.div_ceil(PANEL) * PANEL * dimension];
        for (panel, rows) in values
            .chunks_exact_mut(PANEL * dimension)
            .zip(points.chunks(PANEL * dimension))
        {
            for (i, row) in rows.chunks_exact(dimension).enumerate() {
                for (k, v) in row.iter().enumerate() {
                    panel[k * PANEL + i] = f64::from(*v);
                }
            }
        }
        Self {
            count,
            dimension,
            values,
            has_avx2: has_avx2_fma(),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn dimension(&self) -> usize {
        self.dimension
    }

    /// Panels that have points.
    pub(super) fn panel_count(&self) -> usize {
        self.count.div_ceil(PANEL)
    }

    fn at(&self, point: usize, k: usize) -> usize {
        (point / PANEL * self.dimension + k) * PANEL + point % PANEL
    }

    /// A point's numbers.
    pub(super) fn point(&self, point: usize) -> Vec<f64> {
        (0..self.dimension).map(|k| self.values[self.at(point, k)]).collect()
    }

    /// Changes a point's numbers.
    pub(super) fn set(&mut self, point: usize, numbers: impl IntoIterator<Item = f64>) {
        for (k, v) in (0..self.dimension).zip(numbers) {
            let at = self.at(point, k);
            self.values[at] = v;
        }
    }

    /// Removes a point; the last one takes its place.
    pub(super) fn swap_remove(&mut self, point: usize) {
        let last = self.count - 1;
        for k in 0..self.dimension {
            let from = self.at(last, k);
            let to = self.at(point, k);
            self.values[to] = self.values[from];
            self.values[from] = f64::INFINITY;
        }
        self.count = last;
    }

    /// The squared distances of a panel's points from `point`.
    pub(super) fn squares(&self, panel: usize, point: &[f64]) -> [f64; PANEL] {
        let size = self.dimension * PANEL;
        let values = &self.values[panel * size..(panel + 1) * size];
        let mut sums = [0f64; PANEL];
        #[cfg(target_arch = "x86_64")]
        if self.has_avx2 {
            // SAFETY: AVX2 was found.
            unsafe { add_squares_avx2(values, point, &mut sums) };
            return sums;
        }
        add_squares(values, point, &mut sums);
        sums
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn add_squares_avx2(values: &[f64], point: &[f64], sums: &mut [f64; PANEL]) {
    add_squares(values, point, sums);
}

/// Without fused multiply-add, so that every processor merges the same clusters.
#[inline(always)]
fn add_squares(values: &[f64], point: &[f64], sums: &mut [f64; PANEL]) {
    let mut local = *sums;
    for (lane, x) in values.chunks_exact(PANEL).zip(point) {
        for (sum, v) in local.iter_mut().zip(lane) {
            let difference = v - x;
            *sum += difference * difference;
        }
    }
    *sums = local;
}

/// The least of the panel's numbers; NaN is none.
pub(super) fn least(numbers: &[f64; PANEL]) -> f64 {
    // Four at a time, which the compiler makes registers of.
    let mut lanes = [f64::INFINITY; 4];
    for four in numbers.chunks_exact(4) {
        for (lane, v) in lanes.iter_mut().zip(four) {
            *lane = if *v < *lane { *v } else { *lane };
        }
    }
    lanes.iter().fold(f64::INFINITY, |a, b| a.min(*b))
}

/// The nearest so far: the least (distance, name). A distance that is no number is the largest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nearest {
    pub(super) distance: f64,
    pub(super) name: u32,
    /// Where the one of that name is.
    pub(super) position: usize,
}

impl Nearest {
    /// Farther than anything.
    pub(super) const NONE: Self = Self {
        distance: f64::INFINITY,
        name: u32::MAX,
        position: usize::MAX,
    };

    #[inline]
    pub(super) fn offer(&mut self, distance: f64, name: u32, position: usize) {
        // Never as far as `NONE`, which is no cluster; `min` drops NaN.
        let distance = distance.min(f64::MAX);
        if distance < self.distance || (distance == self.distance && name < self.name) {
            *self = Self {
                distance,
                name,
                position,
            };
        }
    }

    pub(super) fn or(mut self, other: Self) -> Self {
        if other.position != usize::MAX {
            self.offer(other.distance, other.name, other.position);
        }
        self
    }
}
