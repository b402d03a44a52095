//! Linkage: the tree of an agglomerative clustering, whose two closest clusters are merged until one is left.
//!
//! Three ways, each exact and of `n²` steps:
//!
//! - Ward needs the clusters' centroids alone, and follows chains of nearest neighbours (Müllner, "Modern hierarchical,
//!   agglomerative clustering algorithms", 2011) in the memory of the points.
//! - Single linkage is the minimum spanning tree, by Prim's algorithm, in the memory of the points.
//! - Average and complete linkage follow the same chains, over a triangle of all distances in f32.
//!
//! Every nearest neighbour is the least of (distance, smallest member), which is the same however the search is split, so the
//! threads don't change a bit.

mod chain;
mod matrix;
mod panels;
mod single;
#[cfg(test)]
mod tests;
mod ward;

use rayon::ThreadPool;

use self::matrix::Combine;

/// How far apart two clusters are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Linkage {
    /// The increase of the sum of squares if they were merged: `√(2·a·b/(a+b))` times the distance of their centroids, for
    /// clusters of `a` and `b` rows. The distance, for two rows.
    Ward,
    /// The mean distance of their rows.
    Average,
    /// The distance of their farthest rows.
    Complete,
    /// The distance of their closest rows.
    Single,
}

/// What is clustered. The distance is Euclidean.
#[derive(Debug, Clone, Copy)]
pub struct Points<'a> {
    /// The points: points × [`Points::dimension`], row-major, fewer than 2³¹. All finite: anything else makes a tree that
    /// means nothing.
    pub values: &'a [f32],
    /// How many numbers a point.
    pub dimension: usize,
    /// How many rows each point stands for, at least 1, one number a point; none if each stands for itself.
    pub weights: Option<&'a [u64]>,
}

impl Points<'_> {
    /// How many points there are.
    pub fn count(&self) -> usize {
        self.values.len() / self.dimension.max(1)
    }

    fn weight(&self, point: usize) -> u64 {
        self.weights.map_or(1, |w| w[point].max(1))
    }
}

/// Two clusters that become one. Clusters below the number of points are the points themselves; merge `i` makes the cluster
/// `points + i`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Merge {
    /// The cluster of the smaller number.
    pub left: u32,
    /// The cluster of the larger number.
    pub right: u32,
    /// How far apart they were.
    pub height: f64,
    /// How many rows they have together: the sum of the points' weights.
    pub size: u64,
}

/// Clusters that become one, each named by one of its points.
#[derive(Debug, Clone, Copy)]
struct Join {
    a: u32,
    b: u32,
    height: f64,
}

/// Bytes that [`linkage_f32`] takes for `n` points of `d` numbers, its result included.
pub fn bytes(n: usize, d: usize, linkage: Linkage) -> usize {
    let pairs = n.saturating_mul(n.saturating_sub(1)) / 2;
    let distances = match linkage {
        Linkage::Average | Linkage::Complete => pairs.saturating_mul(size_of::<f32>()),
        Linkage::Ward | Linkage::Single => 0,
    };
    // Beside the coordinates in f64: joins, merges, their order, weights, chain and positions.
    let per_point = d.saturating_mul(size_of::<f64>()).saturating_add(160);
    n.saturating_mul(per_point).saturating_add(distances)
}

/// The merges of `points` until one cluster is left, by height: one fewer than points. Equally close clusters go by their
/// smallest points, so the order of the points matters where distances tie. None once `cancelled` says so, which is asked
/// before every step, from one thread or several.
///
/// Repeating a point as often as its weight says makes the same tree, above merges at height 0. Heights are exact to f64's
/// rounding for Ward and single linkage, to f32's for average and complete linkage.
pub fn linkage_f32(
    points: &Points<'_>,
    linkage: Linkage,
    pool: &ThreadPool,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Option<Vec<Merge>> {
    let joins = pool.install(|| match linkage {
        Linkage::Ward => chain::joins(ward::Centroids::new(points), cancelled),
        Linkage::Average => chain::joins(matrix::Distances::new(points, Combine::Mean, cancelled)?, cancelled),
        Linkage::Complete => chain::joins(matrix::Distances::new(points, Combine::Largest, cancelled)?, cancelled),
        Linkage::Single => single::joins(points, cancelled),
    })?;
    Some(merges(points, joins))
}

/// Sorts joins by height and numbers the clusters they make. Joins of the same height keep their order: those that make a
/// cluster come before the one that uses it.
fn merges(points: &Points<'_>, mut joins: Vec<Join>) -> Vec<Merge> {
    let n = points.count();
    joins.sort_by(|x, y| x.height.total_cmp(&y.height));
    let mut roots: Vec<u32> = (0..n as u32).collect();
    // By root: the cluster's number and its rows.
    let mut clusters: Vec<(u32, u64)> = (0..n).map(|i| (i as u32, points.weight(i))).collect();
    let mut merges = Vec::with_capacity(joins.len());
    for (i, join) in joins.iter().enumerate() {
        let (a, b) = (root(&mut roots, join.a), root(&mut roots, join.b));
        let ((x, x_size), (y, y_size)) = (clusters[a as usize], clusters[b as usize]);
        let merge = Merge {
            left: x.min(y),
            right: x.max(y),
            height: join.height,
            size: x_size.saturating_add(y_size),
        };
        let (low, high) = (a.min(b), a.max(b));
        roots[high as usize] = low;
        clusters[low as usize] = ((n + i) as u32, merge.size);
        merges.push(merge);
    }
    merges
}

/// The root of `point`, which all points on the way come closer to.
fn root(roots: &mut [u32], mut point: u32) -> u32 {
    while roots[point as usize] != point {
        let parent = roots[roots[point as usize] as usize];
        roots[point as usize] = parent;
        point = parent;
    }
    point
}

/// The cluster of each of `n` points if there are `k`, numbered in the order of their first points. `merges` are those of
/// [`linkage_f32`]; a `k` beyond `1..=n` is the nearest of these. Where merges tie in height, those that come first are done.
pub fn cut(merges: &[Merge], n: usize, k: usize) -> Vec<u32> {
    let done = &merges[..n.saturating_sub(k.max(1)).min(merges.len())];
    // From the last merge down, so that a cluster's own top is known before its parts ask for it.
    let mut tops: Vec<u32> = (0..(n + done.len()) as u32).collect();
    for (i, merge) in done.iter().enumerate().rev() {
        let top = tops[n + i];
        tops[merge.left as usize] = top;
        tops[merge.right as usize] = top;
    }
    let mut labels = vec![u32::MAX; tops.len()];
    let mut next = 0;
    tops.iter()
        .take(n)
        .map(|top| {
            let label = &mut labels[*top as usize];
            if *label == u32::MAX {
                *label = next;
                next += 1;
            }
            *label
        })
        .collect()
}
