//! Single linkage: the edges of the minimum spanning tree, which Prim's algorithm finds one nearest point at a time.

use rayon::prelude::*;

use super::panels::{Nearest, PANEL, Panels, least};
use super::{Join, Points};

/// Multiply-adds that make a task: less is not worth waking a thread for.
const TASK: usize = 1 << 17;

/// The edges in the order in which they are found. None once `cancelled`.
pub(super) fn joins(points: &Points<'_>, cancelled: &(dyn Fn() -> bool + Sync)) -> Option<Vec<Join>> {
    let n = points.count();
    let mut outside = Outside::new(points);
    let mut joins = Vec::with_capacity(n.saturating_sub(1));
    let mut next = Nearest {
        distance: 0.0,
        name: 0,
        position: 0,
    };
    while joins.len() + 1 < n {
        if cancelled() {
            return None;
        }
        let centre = outside.remove(next.position);
        next = outside.approach(next.name, &centre);
        joins.push(Join {
            a: outside.sides[next.position],
            b: next.name,
            height: next.distance.sqrt(),
        });
    }
    Some(joins)
}

/// The points that the tree does not have yet.
struct Outside {
    points: Panels,
    names: Vec<u32>,
    /// The squared distance from the tree, in whole panels.
    squares: Vec<f64>,
    /// The point of the tree at that distance.
    sides: Vec<u32>,
}

impl Outside {
    fn new(points: &Points<'_>) -> Self {
        let panels = Panels::new(points.values, points.dimension);
        let size = panels.panel_count() * PANEL;
        Self {
            names: (0..panels.count() as u32).collect(),
            squares: vec![f64::INFINITY; size],
            sides: vec![0; size],
            points: panels,
        }
    }

    /// Takes a point out; the last one takes its place. Its numbers.
    fn remove(&mut self, position: usize) -> Vec<f64> {
        let point = self.points.point(position);
        let last = self.names.len() - 1;
        self.points.swap_remove(position);
        self.names.swap_remove(position);
        self.squares[position] = self.squares[last];
        self.sides[position] = self.sides[last];
        self.squares[last] = f64::INFINITY;
        point
    }

    /// Tells all of a new point in the tree. The nearest to the tree then.
    fn approach(&mut self, side: u32, point: &[f64]) -> Nearest {
        let panels = self.points.panel_count();
        let per_task = (TASK / (PANEL * self.points.dimension())).max(1);
        let (points, names) = (&self.points, &self.names);
        let task = |(task, (squares, sides)): (usize, (&mut [f64], &mut [u32]))| {
            let mut best = Nearest::NONE;
            let first = task * per_task;
            let lanes = squares.chunks_exact_mut(PANEL).zip(sides.chunks_exact_mut(PANEL));
            for (panel, (squares, sides)) in (first..panels).zip(lanes) {
                let new = points.squares(panel, point);
                approach_panel(&new, side, squares, sides);
                offer_panel(squares, &names[panel * PANEL..], panel * PANEL, &mut best);
            }
            best
        };
        let size = panels * PANEL;
        let (squares, sides) = (&mut self.squares[..size], &mut self.sides[..size]);
        if panels <= per_task {
            return task((0, (squares, sides)));
        }
        squares
            .par_chunks_mut(per_task * PANEL)
            .zip(sides.par_chunks_mut(per_task * PANEL))
            .enumerate()
            .map(task)
            .reduce(|| Nearest::NONE, Nearest::or)
    }
}

/// Keeps the nearer of each point's old and new side; the old one where both are as near.
fn approach_panel(new: &[f64; PANEL], side: u32, squares: &mut [f64], sides: &mut [u32]) {
    for ((square, old), new) in squares.iter_mut().zip(sides).zip(new) {
        let is_nearer = *new < *square;
        *square = if is_nearer { *new } else { *square };
        *old = if is_nearer { side } else { *old };
    }
}

fn offer_panel(squares: &[f64], names: &[u32], first: usize, best: &mut Nearest) {
    let is_near = squares.first_chunk().is_none_or(|s| least(s) <= best.distance);
    if is_near {
        for (i, (square, name)) in squares.iter().zip(names).enumerate() {
            best.offer(*square, *name, first + i);
        }
    }
}
