//! The tree against scipy's, against the definition of each linkage, and against itself on more threads.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::chain::{self, Clusters};
use super::*;

const ALL: [Linkage; 4] = [Linkage::Ward, Linkage::Average, Linkage::Complete, Linkage::Single];

fn pool(threads: usize) -> ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

/// Numbers of [-1, 1).
fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..count)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / (1u64 << 23) as f32) - 1.0
        })
        .collect()
}

fn tree(values: &[f32], dimension: usize, weights: Option<&[u64]>, linkage: Linkage) -> Vec<Merge> {
    let points = Points {
        values,
        dimension,
        weights,
    };
    linkage_f32(&points, linkage, &pool(2), &|| false).unwrap()
}

fn is_close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-5 * a.abs().max(b.abs())
}

/// A section of `tests/goldens/linkage.csv`; the script beside it says what its lines are.
#[derive(Default)]
struct Golden {
    dimension: usize,
    weights: Vec<u64>,
    values: Vec<f32>,
    heights: Vec<(Linkage, Vec<f64>)>,
    cuts: Vec<(Linkage, usize, Vec<u32>)>,
}

fn goldens() -> Vec<Golden> {
    fn numbers<T: std::str::FromStr<Err: std::fmt::Debug>>(fields: &[&str]) -> Vec<T> {
        fields.iter().map(|f| f.parse().unwrap()).collect()
    }
    let linkage = |name: &str| match name {
        "ward" => Linkage::Ward,
        "average" => Linkage::Average,
        "complete" => Linkage::Complete,
        "single" => Linkage::Single,
        other => panic!("{other}"),
    };
    let mut goldens: Vec<Golden> = vec![];
    for line in include_str!("../../../tests/goldens/linkage.csv").lines() {
        let fields: Vec<&str> = line.split(',').collect();
        if fields[0] == "data" {
            goldens.push(Golden {
                dimension: fields[2].parse().unwrap(),
                ..Golden::default()
            });
            continue;
        }
        let golden = goldens.last_mut().unwrap();
        match fields[0] {
            "point" => {
                golden.weights.push(fields[1].parse().unwrap());
                golden.values.extend(numbers::<f32>(&fields[2..]));
            }
            "heights" => golden.heights.push((linkage(fields[1]), numbers(&fields[2..]))),
            "cut" => golden
                .cuts
                .push((linkage(fields[1]), fields[2].parse().unwrap(), numbers(&fields[3..]))),
            other => panic!("{other}"),
        }
    }
    goldens
}

#[test]
fn the_same_as_scipy() {
    let goldens = goldens();
    assert_eq!(goldens.len(), 3);
    for golden in &goldens {
        let (values, d, weights) = (&golden.values, golden.dimension, Some(&golden.weights[..]));
        assert_eq!(golden.heights.len(), 4);
        for (linkage, heights) in &golden.heights {
            let merges = tree(values, d, weights, *linkage);
            assert_eq!(merges.len(), heights.len());
            for (merge, height) in merges.iter().zip(heights) {
                assert!(is_close(merge.height, *height), "{linkage:?}: {merge:?} {height}");
            }
            assert_eq!(merges.last().unwrap().size, golden.weights.iter().sum::<u64>());
        }
        for (linkage, k, labels) in &golden.cuts {
            let merges = tree(values, d, weights, *linkage);
            assert_eq!(cut(&merges, golden.weights.len(), *k), *labels, "{linkage:?} {k}");
        }
    }
    assert_eq!(goldens.iter().map(|g| g.cuts.len()).sum::<usize>(), 40);
}

/// The distance of two clusters by the definition of the linkage. A cluster is its points.
fn defined(points: &Points<'_>, a: &[usize], b: &[usize], linkage: Linkage) -> f64 {
    let d = points.dimension;
    let value = |p: usize, k: usize| f64::from(points.values[p * d + k]);
    let weight = |p: usize| points.weights.map_or(1.0, |w| w[p] as f64);
    let total = |c: &[usize]| c.iter().map(|p| weight(*p)).sum::<f64>();
    if linkage == Linkage::Ward {
        let mean = |c: &[usize], k: usize| c.iter().map(|p| weight(*p) * value(*p, k)).sum::<f64>() / total(c);
        let square: f64 = (0..d).map(|k| (mean(a, k) - mean(b, k)).powi(2)).sum();
        return (2.0 * total(a) * total(b) / (total(a) + total(b)) * square).sqrt();
    }
    let (mut sum, mut most, mut least) = (0.0, 0f64, f64::INFINITY);
    for p in a {
        for q in b {
            let square: f64 = (0..d).map(|k| (value(*p, k) - value(*q, k)).powi(2)).sum();
            sum += weight(*p) * weight(*q) * square.sqrt();
            most = most.max(square.sqrt());
            least = least.min(square.sqrt());
        }
    }
    match linkage {
        Linkage::Average => sum / (total(a) * total(b)),
        Linkage::Complete => most,
        _ => least,
    }
}

/// Replays the merges: each is of two clusters that are there, of all the closest, at their height, with their rows. Holds
/// however ties are broken.
fn check_by_definition(points: &Points<'_>, linkage: Linkage, merges: &[Merge]) {
    let n = points.count();
    let scale: f64 = points.values.iter().fold(1e-30, |m: f64, v| m.max(f64::from(v.abs())));
    let mut clusters: Vec<Option<Vec<usize>>> = (0..n).map(|i| Some(vec![i])).collect();
    assert_eq!(merges.len(), n - 1);
    let mut last = 0.0;
    for merge in merges {
        assert!(
            merge.left < merge.right && merge.height >= last,
            "{merge:?} after {last}"
        );
        last = merge.height;
        let there: Vec<&Vec<usize>> = clusters.iter().flatten().collect();
        let mut least = f64::INFINITY;
        for (i, a) in there.iter().enumerate() {
            for b in &there[..i] {
                least = least.min(defined(points, a, b, linkage));
            }
        }
        let a = clusters[merge.left as usize].take().unwrap();
        let b = clusters[merge.right as usize].take().unwrap();
        let height = defined(points, &a, &b, linkage);
        let tolerance = 1e-6 * height + 1e-7 * scale;
        assert!(
            (height - merge.height).abs() <= tolerance,
            "{linkage:?} {merge:?} {height}"
        );
        assert!(height <= least + tolerance, "{linkage:?} {merge:?} {least}");
        let both = [a, b].concat();
        assert_eq!(both.iter().map(|p| points.weight(*p)).sum::<u64>(), merge.size);
        clusters.push(Some(both));
    }
}

#[test]
fn each_merge_is_of_the_closest_by_definition() {
    for (n, d, seed) in [(2, 1, 1), (3, 2, 2), (33, 1, 3), (40, 5, 4), (70, 3, 5)] {
        let values = noise(n * d, seed);
        let weights: Vec<u64> = noise(n, seed + 50).iter().map(|v| 1 + (v.abs() * 9.0) as u64).collect();
        for weights in [None, Some(&weights[..])] {
            let points = Points {
                values: &values,
                dimension: d,
                weights,
            };
            for linkage in ALL {
                check_by_definition(&points, linkage, &tree(&values, d, weights, linkage));
            }
        }
    }
}

#[test]
fn ties_are_merged_by_definition_too() {
    // A lattice, whose distances nearly all tie, and a line of equal steps with every point twice.
    let lattice: Vec<f32> = (0..81).flat_map(|i| [(i % 9) as f32, (i / 9) as f32]).collect();
    let line: Vec<f32> = (0..60).flat_map(|i| [(i / 2) as f32 * 0.1, 0.0]).collect();
    let weights = [3u64; 81];
    for values in [&lattice, &line] {
        for weights in [None, Some(&weights[..values.len() / 2])] {
            let points = Points {
                values,
                dimension: 2,
                weights,
            };
            for linkage in ALL {
                check_by_definition(&points, linkage, &tree(values, 2, weights, linkage));
            }
        }
    }
}

#[test]
fn ties_go_by_the_smallest_point() {
    for linkage in ALL {
        // Two pairs at the same distance, far apart.
        let merges = tree(&[10.0, 0.0, 11.0, 1.0], 1, None, linkage);
        let pairs: Vec<(u32, u32)> = merges.iter().map(|m| (m.left, m.right)).collect();
        assert_eq!(pairs, [(0, 2), (1, 3), (4, 5)], "{linkage:?}");
        // Both neighbours are as near.
        let merges = tree(&[1.0, 0.0, 2.0], 1, None, linkage);
        assert_eq!((merges[0].left, merges[0].right), (0, 1), "{linkage:?}");
    }
}

#[test]
fn a_weight_is_as_many_rows() {
    let (n, d) = (50, 3);
    let values = noise(n * d, 8);
    let weights: Vec<u64> = (0..n as u64).map(|i| 1 + i * i % 5).collect();
    let mut rows = vec![];
    for (row, weight) in values.chunks(d).zip(&weights) {
        (0..*weight).for_each(|_| rows.extend_from_slice(row));
    }
    for linkage in ALL {
        let (weighted, repeated) = (tree(&values, d, Some(&weights), linkage), tree(&rows, d, None, linkage));
        let (zeros, rest) = repeated.split_at(rows.len() / d - n);
        assert!(zeros.iter().all(|m| m.height == 0.0));
        for (a, b) in weighted.iter().zip(rest) {
            assert!(
                is_close(a.height, b.height) && a.size == b.size,
                "{linkage:?} {a:?} {b:?}"
            );
        }
    }
}

#[test]
fn threads_change_nothing() {
    // Enough for several tasks of each search: numbers for the centroids, points for the triangle.
    for (n, d, linkages) in [(1500, 128, &ALL[..]), (4500, 2, &ALL[1..3])] {
        let values = noise(n * d, 21);
        let points = Points {
            values: &values,
            dimension: d,
            weights: None,
        };
        for linkage in linkages {
            let one = linkage_f32(&points, *linkage, &pool(1), &|| false).unwrap();
            assert_eq!(one.len(), n - 1);
            assert_eq!(
                one,
                linkage_f32(&points, *linkage, &pool(3), &|| false).unwrap(),
                "{linkage:?} {n}"
            );
        }
    }
}

#[test]
fn the_order_of_points_moves_no_height() {
    let (n, d) = (90, 4);
    let values = noise(n * d, 31);
    let reversed: Vec<f32> = values.chunks(d).rev().flatten().copied().collect();
    for linkage in ALL {
        let (merges, others) = (tree(&values, d, None, linkage), tree(&reversed, d, None, linkage));
        for (a, b) in merges.iter().zip(&others) {
            assert!(
                is_close(a.height, b.height) && a.size == b.size,
                "{linkage:?} {a:?} {b:?}"
            );
        }
    }
}

#[test]
fn few_points_and_equal_points() {
    for linkage in ALL {
        assert!(tree(&[], 3, None, linkage).is_empty());
        assert!(tree(&[], 0, None, linkage).is_empty());
        assert!(tree(&[1.0, 2.0], 2, None, linkage).is_empty());
        let two = tree(&[0.0, 0.0, 3.0, 4.0], 2, None, linkage);
        let expected = Merge {
            left: 0,
            right: 1,
            height: 5.0,
            size: 2,
        };
        assert_eq!(two, [expected], "{linkage:?}");
        let equal = [0.1f32; 300];
        let merges = tree(&equal, 3, None, linkage);
        assert_eq!(merges.len(), 99);
        assert!(merges.iter().all(|m| m.height == 0.0), "{linkage:?}");
        assert_eq!(merges.last().map(|m| m.size), Some(100));
        for k in [1, 2, 57, 100] {
            assert_eq!(cut(&merges, 100, k).iter().max(), Some(&(k as u32 - 1)));
        }
    }
    assert_eq!(cut(&[], 0, 3), [0u32; 0]);
    assert_eq!(cut(&[], 1, 3), [0]);
}

#[test]
fn a_weighted_pair_is_at_wards_height() {
    let merges = tree(&[0.0, 3.0], 1, Some(&[2, 6]), Linkage::Ward);
    assert!(is_close(merges[0].height, (2.0f64 * 2.0 * 6.0 / 8.0).sqrt() * 3.0));
    assert_eq!(merges[0].size, 8);
}

#[test]
fn a_cut_numbers_clusters_by_their_first_points() {
    let merges = tree(&[10.0, 0.0, 10.5, 0.2, 50.0], 1, None, Linkage::Average);
    assert_eq!(cut(&merges, 5, 0), [0, 0, 0, 0, 0]);
    assert_eq!(cut(&merges, 5, 1), [0, 0, 0, 0, 0]);
    assert_eq!(cut(&merges, 5, 2), [0, 0, 0, 0, 1]);
    assert_eq!(cut(&merges, 5, 3), [0, 1, 0, 1, 2]);
    assert_eq!(cut(&merges, 5, 4), [0, 1, 2, 1, 3]);
    assert_eq!(cut(&merges, 5, 9), [0, 1, 2, 3, 4]);
}

#[test]
fn cancellation_ends_it_within_a_few_hundred_steps() {
    let n = 600;
    let values = noise(n * 2, 41);
    let points = Points {
        values: &values,
        dimension: 2,
        weights: None,
    };
    for linkage in ALL {
        for after in [0, 5, n / 2] {
            let asked = AtomicUsize::new(0);
            let cancelled = || asked.fetch_add(1, Ordering::Relaxed) >= after;
            assert!(
                linkage_f32(&points, linkage, &pool(2), &cancelled).is_none(),
                "{linkage:?}"
            );
            // Threads that were at it ask once more each.
            assert!(asked.load(Ordering::Relaxed) <= after + 4, "{linkage:?}");
        }
        let asked = AtomicUsize::new(0);
        let never = || asked.fetch_add(1, Ordering::Relaxed) == usize::MAX;
        assert!(linkage_f32(&points, linkage, &pool(2), &never).is_some());
        assert!(asked.load(Ordering::Relaxed) >= n - 1, "{linkage:?}");
    }
}

#[test]
fn numbers_at_the_ends_of_f32_and_none_at_all_end_too() {
    let mut values = noise(200, 51);
    values[3] = f32::MAX;
    values[10] = -f32::MAX;
    values[11] = f32::MIN_POSITIVE;
    for linkage in ALL {
        let merges = tree(&values, 2, None, linkage);
        assert_eq!(merges.len(), 99);
        assert!(merges.iter().all(|m| m.height.is_finite()), "{linkage:?}");
    }
    values[20] = f32::NAN;
    values[21] = f32::INFINITY;
    values[40] = f32::NEG_INFINITY;
    for linkage in ALL {
        assert_eq!(tree(&values, 2, None, linkage).len(), 99, "{linkage:?}");
        assert_eq!(tree(&[f32::NAN; 50], 1, None, linkage).len(), 49, "{linkage:?}");
    }
}

/// Clusters whose distances are any numbers, new ones after each merge: the chain must end all the same.
struct Unruly {
    seed: u64,
    /// How many merges each went through; none once it is gone.
    merges: Vec<Option<u64>>,
}

impl Clusters for Unruly {
    fn point_count(&self) -> usize {
        self.merges.len()
    }

    fn nearest(&self, of: u32) -> (f64, u32) {
        let state = |i: usize| self.merges[i].map(|m| m << 32 | i as u64);
        let tip = state(of as usize).expect("asked of a cluster that is gone");
        let distance = |other: u64| f64::from(noise(3, self.seed ^ (tip.min(other) * 31 + tip.max(other)))[2]) + 1.0;
        (0..self.merges.len())
            .filter(|i| *i != of as usize)
            .filter_map(|i| Some((distance(state(i)?), i as u32)))
            .min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)))
            .unwrap()
    }

    fn merge(&mut self, into: u32, from: u32) {
        assert!(into < from && self.merges[from as usize].take().is_some());
        *self.merges[into as usize].as_mut().unwrap() += 1;
    }

    fn height(&self, distance: f64) -> f64 {
        distance
    }
}

#[test]
fn the_chain_ends_even_if_merges_bring_clusters_closer() {
    for seed in 0..100 {
        let merges = vec![Some(0); 40];
        let joins = chain::joins(Unruly { seed, merges }, &|| false).unwrap();
        assert_eq!(joins.len(), 39);
        let mut heights = vec![0f64; 40];
        for join in joins {
            assert!(join.height >= heights[join.a as usize].max(heights[join.b as usize]));
            heights[join.a as usize] = join.height;
        }
    }
}

/// Clusters as plain vectors of (weight, mean), none once gone.
struct Plain(Vec<Option<(f64, [f64; 2])>>);

impl Plain {
    fn nearest(&self, of: u32) -> (f64, u32) {
        let (weight, tip) = self.0[of as usize].unwrap();
        let distance =
            |(w, c): (f64, [f64; 2])| ((c[0] - tip[0]).powi(2) + (c[1] - tip[1]).powi(2)) / (1.0 / weight + 1.0 / w);
        (0..self.0.len())
            .filter(|i| *i != of as usize)
            .filter_map(|i| Some((distance(self.0[i]?), i as u32)))
            .min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)))
            .unwrap()
    }

    fn merge(&mut self, into: u32, from: u32) {
        let ((v, x), (w, y)) = (self.0[into as usize].unwrap(), self.0[from as usize].take().unwrap());
        self.0[into as usize] = Some((v + w, [0, 1].map(|k| (v * x[k] + w * y[k]) / (v + w))));
    }
}

#[test]
fn the_nearest_of_centroids_is_the_least_distance_and_then_the_least_name() {
    let lattice: Vec<f32> = (0..225).flat_map(|i| [(i % 15) as f32, (i / 15) as f32]).collect();
    let points = Points {
        values: &lattice,
        dimension: 2,
        weights: None,
    };
    let mut centroids = ward::Centroids::new(&points);
    let mut plain = Plain(
        lattice
            .chunks(2)
            .map(|p| Some((1.0, [f64::from(p[0]), f64::from(p[1])])))
            .collect(),
    );
    // Merges in no order, so that names and places part.
    let mut there: Vec<u32> = (0..225).collect();
    for step in 0..220usize {
        for of in &there {
            assert_eq!(centroids.nearest(*of), plain.nearest(*of), "{step} {of}");
        }
        let a = there.remove(step * 7 % there.len());
        let at = step * 3 % there.len();
        let b = there[at];
        there[at] = a.min(b);
        centroids.merge(a.min(b), a.max(b));
        plain.merge(a.min(b), a.max(b));
    }
}

#[test]
fn bytes_grow_with_the_points_and_never_overflow() {
    assert!(bytes(20_000, 8, Linkage::Average) >= 20_000 * 19_999 / 2 * 4);
    assert!(bytes(20_000, 8, Linkage::Ward) < 10_000_000);
    assert_eq!(bytes(usize::MAX, usize::MAX, Linkage::Complete), usize::MAX);
}
