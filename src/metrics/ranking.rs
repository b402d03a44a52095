//! How good a ranking is: what came of a user's first items, given what they turned out to want.
//!
//! Each function takes one user's ranking, best first, and the set of items that would have been right, in any order and of
//! any type; [`mean`] averages users. A user without any right item has no measure and is left out.

use std::collections::HashSet;
use std::hash::Hash;

/// The share of the right items that are among the first `k`; between 0 and 1.
pub fn recall_at_k<T: Eq + Hash>(ranked: &[T], relevant: &HashSet<T>, k: usize) -> Option<f64> {
    (!relevant.is_empty()).then(|| hits(ranked, relevant, k) as f64 / relevant.len() as f64)
}

/// The share of the first `k` that are right; between 0 and 1. A ranking shorter than `k` counts as if wrong items followed.
pub fn precision_at_k<T: Eq + Hash>(ranked: &[T], relevant: &HashSet<T>, k: usize) -> Option<f64> {
    (!relevant.is_empty() && k > 0).then(|| hits(ranked, relevant, k) as f64 / k as f64)
}

/// 1 if a right item is among the first `k`, 0 otherwise.
pub fn hit_rate_at_k<T: Eq + Hash>(ranked: &[T], relevant: &HashSet<T>, k: usize) -> Option<f64> {
    (!relevant.is_empty()).then(|| if hits(ranked, relevant, k) > 0 { 1.0 } else { 0.0 })
}

/// Normalised discounted cumulative gain of the first `k`: a right item at rank `r` is worth `1 / log2(r + 1)`, and the sum is
/// divided by that of the best possible ranking (Järvelin and Kekäläinen 2002); between 0 and 1.
pub fn ndcg_at_k<T: Eq + Hash>(ranked: &[T], relevant: &HashSet<T>, k: usize) -> Option<f64> {
    let worth = |rank: usize| 1.0 / ((rank + 2) as f64).log2();
    let best: f64 = (0..relevant.len().min(k)).map(worth).sum();
    let gained: f64 = right_ranks(ranked, relevant, k).map(worth).sum();
    (best > 0.0).then(|| gained / best)
}

/// Average precision of the first `k`: the mean, over the right items that could be found, of the precision at the rank of each
/// that was; between 0 and 1. Its mean over users is MAP@k.
pub fn average_precision_at_k<T: Eq + Hash>(ranked: &[T], relevant: &HashSet<T>, k: usize) -> Option<f64> {
    let possible = relevant.len().min(k);
    let sum: f64 = right_ranks(ranked, relevant, k)
        .enumerate()
        .map(|(found, rank)| (found + 1) as f64 / (rank + 1) as f64)
        .sum();
    (possible > 0).then(|| sum / possible as f64)
}

/// One over the rank of the first right item, 0 if there is none; between 0 and 1. Its mean over users is the MRR.
pub fn reciprocal_rank<T: Eq + Hash>(ranked: &[T], relevant: &HashSet<T>) -> Option<f64> {
    let first = right_ranks(ranked, relevant, ranked.len()).next();
    (!relevant.is_empty()).then(|| first.map_or(0.0, |rank| 1.0 / (rank + 1) as f64))
}

/// The mean of users' measures, those without one left out; nothing if none has one.
pub fn mean(measures: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0u64);
    for measure in measures.into_iter().flatten() {
        sum += measure;
        count += 1;
    }
    (count > 0).then(|| sum / count as f64)
}

/// The ranks, from 0, of the right items among the first `k`. An item that stands twice counts where it stands first.
fn right_ranks<'a, T: Eq + Hash>(
    ranked: &'a [T],
    relevant: &'a HashSet<T>,
    k: usize,
) -> impl Iterator<Item = usize> + 'a {
    let mut found = HashSet::new();
    let first = &ranked[..k.min(ranked.len())];
    first
        .iter()
        .enumerate()
        .filter(move |(_, item)| relevant.contains(item) && found.insert(*item))
        .map(|(rank, _)| rank)
}

fn hits<T: Eq + Hash>(ranked: &[T], relevant: &HashSet<T>, k: usize) -> usize {
    right_ranks(ranked, relevant, k).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(items: &[u32]) -> HashSet<u32> {
        items.iter().copied().collect()
    }

    fn near(a: Option<f64>, b: f64) {
        assert!(a.is_some_and(|a| (a - b).abs() < 1e-12), "{a:?} is not {b}");
    }

    #[test]
    fn counts_hits() {
        let ranked = [5, 1, 9, 3];
        near(recall_at_k(&ranked, &set(&[1, 3, 7]), 3), 1.0 / 3.0);
        near(recall_at_k(&ranked, &set(&[1, 3, 7]), 10), 2.0 / 3.0);
        near(precision_at_k(&ranked, &set(&[1, 3, 7]), 4), 0.5);
        near(precision_at_k(&ranked, &set(&[1, 3, 7]), 10), 0.2);
        near(hit_rate_at_k(&ranked, &set(&[3]), 3), 0.0);
        near(hit_rate_at_k(&ranked, &set(&[3]), 4), 1.0);
        near(recall_at_k(&[1, 1, 1], &set(&[1, 2]), 3), 0.5);
    }

    #[test]
    fn weighs_ranks() {
        let ranked = [5, 1, 9, 3];
        let relevant = set(&[1, 3, 7]);
        let best = 1.0 + 1.0 / 3f64.log2() + 0.5;
        near(
            ndcg_at_k(&ranked, &relevant, 4),
            (1.0 / 3f64.log2() + 1.0 / 5f64.log2()) / best,
        );
        near(average_precision_at_k(&ranked, &relevant, 4), (0.5 + 0.5) / 3.0);
        near(reciprocal_rank(&ranked, &relevant), 0.5);
        near(reciprocal_rank(&ranked, &set(&[8])), 0.0);
        near(ndcg_at_k(&[1, 2], &set(&[1, 2]), 2), 1.0);
    }

    #[test]
    fn nothing_to_find_is_no_measure() {
        let none = set(&[]);
        for measure in [
            recall_at_k(&[1], &none, 1),
            precision_at_k(&[1], &none, 1),
            hit_rate_at_k(&[1], &none, 1),
            ndcg_at_k(&[1], &none, 1),
            average_precision_at_k(&[1], &none, 1),
            reciprocal_rank(&[1], &none),
            ndcg_at_k(&[1], &set(&[1]), 0),
        ] {
            assert_eq!(measure, None);
        }
        near(mean([Some(1.0), None, Some(0.0)]), 0.5);
        assert_eq!(mean([None]), None);
    }
}
