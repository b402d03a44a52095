//! Grid search: a few levels of each hyperparameter, and an order to try their combinations in.

use std::collections::HashSet;

use super::space::Space;

/// The points of a grid of at most `budget` trials, in the order in which to try them.
///
/// A hyperparameter of candidates has them all as levels; a range has two levels, its ends, and as many more, evenly between them, as the
/// budget lets all ranges have in turn. A grid that is still too large is tried in part: see [`spread`].
pub(super) fn points(space: &Space, budget: usize) -> Vec<Vec<f64>> {
    let levels = levels(space, budget);
    spread(&levels.iter().map(Vec::len).collect::<Vec<_>>(), budget)
        .into_iter()
        .map(|choice| {
            choice
                .iter()
                .zip(&levels)
                .filter_map(|(&i, values)| values.get(i).copied())
                .collect()
        })
        .collect()
}

/// The levels of each hyperparameter.
fn levels(space: &Space, budget: usize) -> Vec<Vec<f64>> {
    // More levels than trials are of no use.
    let most = |axis: usize| {
        space
            .values(axis)
            .map_or(budget, |count| usize::try_from(count).unwrap_or(budget).min(budget))
    };
    let mut counts: Vec<usize> = (0..space.width())
        .map(|axis| match (space.unordered(axis), space.values(axis)) {
            (true, Some(count)) => usize::try_from(count).unwrap_or(usize::MAX),
            (_, Some(1)) => 1,
            _ => 2,
        })
        .collect();
    // The range with the fewest levels is raised first, the leftmost of those; one that does not fit is left where it is.
    let mut raisable: Vec<usize> = (0..space.width()).filter(|&axis| !space.unordered(axis)).collect();
    while let Some(&axis) = raisable.iter().min_by_key(|&&axis| (counts[axis], axis)) {
        counts[axis] += 1;
        if counts[axis] > most(axis) || combinations(&counts) > budget as u128 {
            counts[axis] -= 1;
            raisable.retain(|&other| other != axis);
        }
    }
    counts
        .iter()
        .enumerate()
        .map(|(axis, &count)| space.ladder(axis, count))
        .collect()
}

fn combinations(counts: &[usize]) -> u128 {
    counts
        .iter()
        .fold(1, |product: u128, &count| product.saturating_mul(count as u128))
}

/// Combinations of so many levels each, all different: all of them, or `budget` of them that are well spread.
///
/// Each next one takes, from left to right, the level that was used least so far; of those, the one that met the levels already taken to
/// its left least often; of those, the lowest. So every level is used as often as any other, give or take one, and pairs of levels nearly
/// so, whatever part of the grid is tried.
fn spread(counts: &[usize], budget: usize) -> Vec<Vec<usize>> {
    let all = combinations(counts);
    let wanted = usize::try_from(all).unwrap_or(budget).min(budget);
    let mut chosen: Vec<Vec<usize>> = Vec::with_capacity(wanted);
    let mut seen: HashSet<Vec<usize>> = HashSet::with_capacity(wanted);
    while chosen.len() < wanted {
        let mut next: Vec<usize> = Vec::with_capacity(counts.len());
        for (axis, &count) in counts.iter().enumerate() {
            // Of more levels than trials the first unused one is as good as any.
            let tried = count.min(chosen.len() + 1);
            let (mut used, mut met) = (vec![0usize; tried], vec![0usize; tried]);
            for past in &chosen {
                let level = past[axis];
                if level < tried {
                    used[level] += 1;
                    met[level] += next.iter().zip(past).filter(|(a, b)| a == b).count();
                }
            }
            next.push((0..tried).min_by_key(|&level| (used[level], met[level])).unwrap_or(0));
        }
        while seen.contains(&next) {
            successor(&mut next, counts);
        }
        seen.insert(next.clone());
        chosen.push(next);
    }
    chosen
}

/// The next combination in counting order; after the last the first.
fn successor(combination: &mut [usize], counts: &[usize]) {
    for (level, &count) in combination.iter_mut().zip(counts).rev() {
        *level += 1;
        if *level < count {
            return;
        }
        *level = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::super::Domain;
    use super::*;

    fn range(low: f64, high: f64, integer: bool, log: bool) -> Domain {
        Domain::Range {
            low,
            high,
            integer,
            log,
        }
    }

    fn sorted(mut points: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
        points.sort_by(|a, b| a.partial_cmp(b).expect("no NaN"));
        points
    }

    #[test]
    fn all_of_a_grid_that_fits() {
        let space = Space::new(&[range(0.0, 1.0, false, false), Domain::Candidates(3)]);
        let expected: Vec<Vec<f64>> = [0.0, 0.5, 1.0]
            .iter()
            .flat_map(|&x| (0..3).map(move |c| vec![x, f64::from(c)]))
            .collect();
        assert_eq!(sorted(points(&space, 10)), expected);
        assert_eq!(points(&Space::new(&[range(1.0, 4.0, true, false)]), 100).len(), 4);
    }

    #[test]
    fn ranges_share_the_budget() {
        let space = Space::new(&[range(0.0, 1.0, false, false); 3]);
        // 3 · 3 · 2: neither a fourth level nor a third of the last range fits 20.
        assert_eq!(levels(&space, 20).iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 2]);
        let mixed = Space::new(&[range(1.0, 2.0, true, false), range(1e-3, 10.0, false, true)]);
        // The small range keeps its two values, the other gets the rest: its powers of ten.
        let ladder = &levels(&mixed, 10)[1];
        assert_eq!(ladder.len(), 5);
        assert!(
            ladder
                .iter()
                .zip([1e-3, 1e-2, 0.1, 1.0, 10.0])
                .all(|(a, b)| (a / b - 1.0).abs() < 1e-12)
        );
    }

    #[test]
    fn part_of_a_large_grid_is_balanced() {
        let space = Space::new(&[[range(0.0, 1.0, false, false); 20].as_slice(), &[Domain::Candidates(7)]].concat());
        let some = points(&space, 40);
        assert_eq!(some.len(), 40);
        assert_eq!(
            some.iter()
                .map(|p| p.iter().map(|v| v.to_bits()).collect::<Vec<_>>())
                .collect::<HashSet<_>>()
                .len(),
            40
        );
        for axis in 0..20 {
            assert_eq!(some.iter().filter(|p| p[axis] == 1.0).count(), 20, "axis {axis}");
        }
        for candidate in 0..7 {
            let uses = some.iter().filter(|p| p[20] == f64::from(candidate)).count();
            assert!((5..=6).contains(&uses), "{candidate}: {uses}");
        }
        // Any two of the first five ranges show all four combinations of their ends.
        for a in 0..5 {
            for b in 0..a {
                let pairs: HashSet<_> = some.iter().map(|p| (p[a] as u8, p[b] as u8)).collect();
                assert_eq!(pairs.len(), 4, "{a} and {b}");
            }
        }
    }

    #[test]
    fn more_candidates_than_trials() {
        let some = points(&Space::new(&[Domain::Candidates(200)]), 100);
        assert_eq!(some.len(), 100);
        assert_eq!(points(&Space::new(&[Domain::Candidates(0)]), 5).len(), 0);
    }
}
