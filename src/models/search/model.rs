//! Model-based search: the next point is the one from which a Gaussian process expects the most improvement (Jones, Schonlau & Welch, 1998,
//! "Efficient Global Optimization of Expensive Black-Box Functions").
//!
//! Chosen over tree-structured Parzen estimators (Bergstra et al., 2011) because budgets are small, 10 to 100 trials: those look at each
//! hyperparameter alone and need some ten to twenty trials before their densities tell anything, whereas a process uses the distances
//! between all scored points from the fourth trial on. Its cost, which grows with the cube of the trials, is milliseconds for a hundred.

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::gaussian_process::Process;
use super::space::Space;

/// Points by chance among which the best is looked for, and points near good ones, per round.
const DRAWN: usize = 400;
const NEAR: usize = 60;
/// How far "near" reaches along an axis, round by round.
const REACHES: [f64; 5] = [0.2, 0.1, 0.04, 0.015, 0.005];

/// The improvement that counts as none, as a share of the scores' standard deviation. Without it trials go into the last digits of a peak
/// that may not be the highest.
const WORTHWHILE: f64 = 0.01;

/// What is known when a point is to be proposed.
pub(super) struct Known<'a> {
    /// Points and their scores; none for a trial that failed.
    pub(super) scored: &'a [(&'a [f64], Option<f64>)],
    /// Points whose trials are under way.
    pub(super) pending: &'a [&'a [f64]],
}

/// The point to try next. None where nothing can be learned from the scores: there are none, or all are the same.
///
/// `fresh` tells whether a point was never tried; only such are proposed.
pub(super) fn propose(space: &Space, known: &Known<'_>, fresh: impl Fn(&[f64]) -> bool, seed: u64) -> Option<Vec<f64>> {
    let scores = level(&known.scored.iter().map(|(_, score)| *score).collect::<Vec<_>>())?;
    let places: Vec<Vec<f64>> = known.scored.iter().map(|(point, _)| space.places(point)).collect();
    let pending: Vec<Vec<f64>> = known.pending.iter().map(|point| space.places(point)).collect();
    let unordered: Vec<bool> = (0..space.width()).map(|axis| space.unordered(axis)).collect();
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    let process = Process::fit(&places, &scores, &unordered, rng.random())?.expecting(&pending, &scores)?;
    // What is expected of the scored points, not the scores: of noisy ones the best is mostly luck.
    let goal = places
        .iter()
        .map(|places| process.predict(places).0)
        .fold(f64::NEG_INFINITY, f64::max);
    let promise = |point: &[f64]| {
        let (mean, deviation) = process.predict(&space.places(point));
        log_improvement((mean - goal - WORTHWHILE) / deviation) + deviation.ln()
    };

    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    let mut leaders: Vec<(f64, Vec<f64>)> = Vec::new();
    let consider = |point: Vec<f64>, leaders: &mut Vec<(f64, Vec<f64>)>| {
        if fresh(&point) {
            let promise = promise(&point);
            if promise.is_finite() {
                leaders.push((promise, point));
            }
        }
    };
    for _ in 0..DRAWN {
        consider(space.draw(&mut rng), &mut leaders);
    }
    for i in 0..NEAR {
        let Some((point, _)) = order
            .get(i % order.len().min(3))
            .and_then(|&best| known.scored.get(best))
        else {
            break;
        };
        consider(
            space.near(point, REACHES[i % REACHES.len()], 0.7, &mut rng),
            &mut leaders,
        );
    }
    for reach in REACHES {
        // Equal ones keep the order in which they were drawn: the sort is stable.
        leaders.sort_by(|a, b| b.0.total_cmp(&a.0));
        leaders.truncate(4);
        let bases = leaders.clone();
        for i in 0..NEAR {
            let Some((_, base)) = bases.get(i % bases.len().max(1)) else {
                break;
            };
            consider(space.near(base, reach, 0.6, &mut rng), &mut leaders);
        }
    }
    leaders
        .into_iter()
        .reduce(|best, other| if other.0 > best.0 { other } else { best })
        .map(|(_, point)| point)
}

/// Scores made fit for a process: a mean of 0 and a variance of 1, failed trials as bad as the worst, and no score so bad that it hides the
/// differences between the good ones. None if all are the same.
///
/// Those worse than the median are drawn up to where the normal distribution, with the better half's spread, has their rank, if they are
/// below it: a learning rate that diverged says "bad", however many digits its loss has.
fn level(scores: &[Option<f64>]) -> Option<Vec<f64>> {
    let mut sorted: Vec<f64> = scores.iter().flatten().copied().collect();
    sorted.sort_by(f64::total_cmp);
    let (worst, best) = (*sorted.first()?, *sorted.last()?);
    if best == worst {
        return None;
    }
    let median = sorted[sorted.len() / 2];
    // A quarter of each, since differences of scores near the greatest number are not finite. By the better half's extent, lest one score
    // far below make all others the same.
    let quarters = |a: f64, b: f64| a / 4.0 - b / 4.0;
    let extent = if best > median {
        quarters(best, median)
    } else {
        quarters(median, worst)
    };
    let from_median = |score: f64| quarters(score, median) / extent.max(f64::MIN_POSITIVE);
    let better: Vec<f64> = sorted
        .iter()
        .map(|&score| from_median(score))
        .filter(|&above| above > 0.0)
        .collect();
    let spread = (better.iter().map(|above| above * above).sum::<f64>() / better.len().max(1) as f64).sqrt();
    let drawn_up = |score: f64| {
        let below = from_median(score);
        let rank = sorted.partition_point(|&other| other < score) as f64 + 0.5;
        // Without a better half there is no spread to measure by.
        if below < 0.0 && spread > 0.0 {
            below.max(spread * quantile(rank / sorted.len() as f64))
        } else {
            below
        }
    };
    let bottom = drawn_up(worst);
    let levelled: Vec<f64> = scores.iter().map(|score| score.map_or(bottom, drawn_up)).collect();
    let count = levelled.len() as f64;
    let mean = levelled.iter().sum::<f64>() / count;
    let deviation = (levelled.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / count).sqrt();
    (deviation > 0.0 && deviation.is_finite())
        .then(|| levelled.iter().map(|score| (score - mean) / deviation).collect())
}

/// The logarithm of the improvement that a standard normal score promises over a goal `z` below its mean: of `φ(z) + z Φ(z)`.
///
/// By its logarithm because far below the goal the improvement itself is 0 to a computer, and yet some places are better than others.
fn log_improvement(z: f64) -> f64 {
    let log_density = -0.5 * z * z - 0.5 * (2.0 * std::f64::consts::PI).ln();
    if z > -6.0 {
        return (log_density.exp() + z * normal(z)).ln();
    }
    // 1 + z Φ/φ would cancel; its own series does not.
    let square = 1.0 / (z * z);
    log_density + (square * (1.0 - square * (3.0 - square * (15.0 - square * (105.0 - square * 945.0))))).ln()
}

/// The standard normal distribution `Φ`, good to fourteen digits between −6 and 6 and to its absolute value beyond.
fn normal(z: f64) -> f64 {
    if z.abs() > 8.0 {
        return if z > 0.0 { 1.0 } else { 0.0 };
    }
    // Φ(z) = ½ + φ(z) (z + z³/3 + z⁵/15 + …): all terms of one sign.
    let (mut term, mut sum, mut odd) = (z, z, 1.0);
    while term.abs() > 1e-17 * sum.abs() {
        odd += 2.0;
        term *= z * z / odd;
        sum += term;
    }
    0.5 + sum * (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// Where `Φ` is `share`.
fn quantile(share: f64) -> f64 {
    let (mut low, mut high) = (-8.0, 8.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if normal(middle) < share {
            low = middle
        } else {
            high = middle
        }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_distribution_has_its_known_values() {
        for (z, share) in [
            (0.0, 0.5),
            (1.0, 0.841_344_746_068_542_9),
            (-1.959_963_984_540_054, 0.025),
            (-5.0, 2.866_515_718_791_939e-7),
        ] {
            assert!((normal(z) - share).abs() < 1e-14, "{z}: {}", normal(z));
        }
        assert!((quantile(0.975) - 1.959_963_984_540_054).abs() < 1e-10);
    }

    #[test]
    fn improvement_is_smooth_and_rising() {
        assert!((log_improvement(0.0).exp() - 0.398_942_280_401_432_7).abs() < 1e-14);
        let values: Vec<f64> = (0..6000)
            .map(|i| log_improvement(-50.0 + f64::from(i) * 0.01))
            .collect();
        assert!(values.iter().all(|value| value.is_finite()));
        assert!(values.windows(2).all(|w| w[0] < w[1] && w[1] - w[0] < 0.6));
        // The two formulas meet.
        assert!((log_improvement(-6.0 + 1e-9) - log_improvement(-6.0 - 1e-9)).abs() < 1e-3);
    }

    #[test]
    fn scores_are_levelled_in_their_order() {
        let levelled = level(&[
            Some(1.0),
            Some(-1e300),
            Some(3.0),
            None,
            Some(2.0),
            Some(-5.0),
            Some(2.5),
        ])
        .expect("not all the same");
        assert_eq!(levelled[1], levelled[3]);
        let order = [1, 5, 0, 4, 6, 2];
        assert!(
            order.windows(2).all(|w| levelled[w[0]] < levelled[w[1]]),
            "{levelled:?}"
        );
        assert!((levelled.iter().sum::<f64>()).abs() < 1e-9);
        // The loss of 300 digits is no reason to see the others as one.
        assert!(levelled[2] - levelled[0] > 0.5, "{levelled:?}");
    }

    #[test]
    fn scores_that_say_nothing() {
        assert_eq!(level(&[]), None);
        assert_eq!(level(&[None, None]), None);
        assert_eq!(level(&[Some(0.5), Some(0.5), None]), None);
        assert!(level(&[Some(f64::MAX), Some(-f64::MAX)]).is_some());
    }
}
