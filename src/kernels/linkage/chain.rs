//! The chain of nearest neighbours: from any cluster to its nearest, to that one's nearest and so on, until two are each
//! other's nearest and are merged. For these linkages a merge brings no two clusters closer, so the rest of the chain holds.

use super::Join;

/// Clusters that tell which is nearest. Each is named by its smallest point.
pub(super) trait Clusters {
    /// How many points there are.
    fn point_count(&self) -> usize;

    /// The least (distance, name) of the other clusters; there is one. The distance is the same to the bit either way round.
    fn nearest(&self, of: u32) -> (f64, u32);

    /// Makes `from` part of `into`, a smaller name.
    fn merge(&mut self, into: u32, from: u32);

    /// The height of a merge at a distance, growing with it.
    fn height(&self, distance: f64) -> f64;
}

/// All joins, those that make a cluster before the one that uses it and no higher. None once `cancelled`.
pub(super) fn joins(mut clusters: impl Clusters, cancelled: &(dyn Fn() -> bool + Sync)) -> Option<Vec<Join>> {
    let n = clusters.point_count();
    let mut joins: Vec<Join> = Vec::with_capacity(n.saturating_sub(1));
    let mut heights = vec![0f64; n];
    let mut is_alive = vec![true; n];
    let mut chain = Chain::new(n);
    let mut first = 0;
    while joins.len() + 1 < n {
        if cancelled() {
            return None;
        }
        let (before, tip) = match chain.links.last() {
            Some(link) => *link,
            None => {
                while !is_alive[first] {
                    first += 1;
                }
                chain.push(f64::INFINITY, first as u32);
                (f64::INFINITY, first as u32)
            }
        };
        let (distance, nearest) = clusters.nearest(tip);
        if distance < before {
            chain.push(distance, nearest);
            continue;
        }
        // The cluster before is as near as any.
        let Some((a, b)) = chain.pop_pair() else { break };
        let (into, from) = (a.min(b), a.max(b));
        clusters.merge(into, from);
        is_alive[from as usize] = false;
        // Rounding must not put a merge below those that made its clusters.
        let height = clusters
            .height(before)
            .max(heights[into as usize])
            .max(heights[from as usize]);
        heights[into as usize] = height;
        joins.push(Join {
            a: into,
            b: from,
            height,
        });
    }
    Some(joins)
}

/// Clusters, each the nearest of the one before it, with the distance from that one.
struct Chain {
    links: Vec<(f64, u32)>,
    is_linked: Vec<bool>,
}

impl Chain {
    fn new(n: usize) -> Self {
        Self {
            links: vec![],
            is_linked: vec![false; n],
        }
    }

    /// Adds the nearest of the last cluster. One that is there already means that rounding brought clusters closer in a
    /// merge: the chain begins anew at that cluster, and cannot come back before the next merge.
    fn push(&mut self, distance: f64, cluster: u32) {
        let is_linked = self.is_linked[cluster as usize];
        if is_linked {
            for (_, linked) in self.links.drain(..) {
                self.is_linked[linked as usize] = false;
            }
        }
        self.is_linked[cluster as usize] = true;
        self.links
            .push((if is_linked { f64::INFINITY } else { distance }, cluster));
    }

    /// Takes the last two clusters.
    fn pop_pair(&mut self) -> Option<(u32, u32)> {
        let ((_, a), (_, b)) = (self.links.pop()?, self.links.pop()?);
        self.is_linked[a as usize] = false;
        self.is_linked[b as usize] = false;
        Some((a, b))
    }
}
