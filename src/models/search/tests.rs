//! Whole searches.

use std::collections::HashSet;
use std::f64::consts::PI;

use super::*;

const ALGORITHMS: [Algorithm; 3] = [Algorithm::Grid, Algorithm::Random, Algorithm::Model];

fn range(low: f64, high: f64) -> Domain {
    Domain::Range {
        low,
        high,
        integer: false,
        log: false,
    }
}

fn log_range(low: f64, high: f64) -> Domain {
    Domain::Range {
        low,
        high,
        integer: false,
        log: true,
    }
}

fn whole(low: f64, high: f64) -> Domain {
    Domain::Range {
        low,
        high,
        integer: true,
        log: false,
    }
}

/// Searches to the end, one trial at a time.
fn run(
    domains: &[Domain],
    algorithm: Algorithm,
    trials: usize,
    seed: u64,
    score: impl Fn(&[f64]) -> Option<f64>,
) -> Vec<Outcome> {
    let mut search = Search::new(domains.to_vec(), algorithm, trials, seed);
    let mut outcomes = Vec::new();
    while let Some(point) = search.next(&outcomes) {
        let score = score(&point);
        outcomes.push(Outcome { point, score });
        assert!(outcomes.len() <= trials, "more trials than asked for");
    }
    outcomes
}

fn bits(outcomes: &[Outcome]) -> Vec<Key> {
    outcomes.iter().map(|outcome| key(&outcome.point)).collect()
}

fn distinct(outcomes: &[Outcome]) -> usize {
    bits(outcomes).into_iter().collect::<HashSet<_>>().len()
}

/// A function to be searched: its name, its domains, its lowest value and itself.
type Function = (&'static str, Vec<Domain>, f64, fn(&[f64]) -> f64);

fn functions() -> [Function; 3] {
    [
        // A learning rate and a penalty, best at 3e-3 and 0.1.
        (
            "quadratic",
            vec![log_range(1e-5, 1.0), log_range(0.0, 20.0)],
            0.0,
            |p| (p[0].log10() + 2.5).powi(2) + 0.3 * (p[1].max(1e-6).log10() + 1.0).powi(2),
        ),
        ("branin", vec![range(-5.0, 10.0), range(0.0, 15.0)], 0.397_887, |p| {
            let (x, y) = (p[0], p[1]);
            let bend = y - 5.1 / (4.0 * PI * PI) * x * x + 5.0 / PI * x - 6.0;
            bend * bend + 10.0 * (1.0 - 1.0 / (8.0 * PI)) * x.cos() + 10.0
        }),
        // Like boosted trees: a kind of tree, a depth, a learning rate whose best value depends on the depth.
        (
            "mixed",
            vec![Domain::Candidates(4), whole(1.0, 20.0), log_range(1e-3, 1.0)],
            0.0,
            |p| {
                let kind = [1.0, 0.0, 0.4, 2.0][p[0] as usize];
                let rate = p[2].log10() + 1.0 + 0.05 * (p[1] - 7.0);
                kind + 0.02 * (p[1] - 7.0).powi(2) + 2.0 * rate * rate
            },
        ),
    ]
}

/// How far the best of so many trials is above the lowest value, for each seed.
fn regrets(function: &Function, algorithm: Algorithm, trials: usize, seeds: u64) -> Vec<f64> {
    let (_, domains, lowest, f) = function;
    (0..seeds)
        .map(|seed| {
            let outcomes = run(domains, algorithm, trials, seed, |point| Some(-f(point)));
            let best = outcomes
                .iter()
                .filter_map(|outcome| outcome.score)
                .fold(f64::NEG_INFINITY, f64::max);
            -best - lowest
        })
        .collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn model_beats_random() {
    for function in functions() {
        let random = mean(&regrets(&function, Algorithm::Random, 30, 50));
        let model = mean(&regrets(&function, Algorithm::Model, 30, 50));
        assert!(
            5.0 * model < random,
            "{}: {model} against {random} by chance",
            function.0
        );
    }
}

#[test]
fn same_seed_and_outcomes_same_points() {
    for function in functions() {
        for algorithm in ALGORITHMS {
            let search = |seed| {
                bits(&run(&function.1, algorithm, 20, seed, |point| {
                    Some(-(function.3)(point))
                }))
            };
            assert_eq!(search(7), search(7), "{algorithm:?}");
            if algorithm != Algorithm::Grid {
                assert_ne!(search(7), search(8), "{algorithm:?}");
            }
        }
    }
}

#[test]
fn order_of_outcomes_does_not_matter() {
    let [function, ..] = functions();
    let next = |reversed: bool| {
        let mut search = Search::new(function.1.clone(), Algorithm::Model, 30, 5);
        let points: Vec<Vec<f64>> = (0..10).filter_map(|_| search.next(&[])).collect();
        let mut outcomes: Vec<Outcome> = points
            .into_iter()
            .map(|point| Outcome {
                score: Some(-(function.3)(&point)),
                point,
            })
            .collect();
        if reversed {
            outcomes.reverse();
        }
        search.next(&outcomes).map(|point| key(&point))
    };
    assert!(next(false).is_some());
    assert_eq!(next(false), next(true));
}

#[test]
fn a_search_taken_up_again_goes_on_alike() {
    let [function, ..] = functions();
    for algorithm in ALGORITHMS {
        let all = run(&function.1, algorithm, 20, 3, |point| Some(-(function.3)(point)));
        let mut again = Search::new(function.1.clone(), algorithm, 20, 3);
        let next = again.next(&all[..4]);
        assert_eq!(next.as_deref().map(key), Some(key(&all[4].point)), "{algorithm:?}");
        let mut done = Search::new(function.1.clone(), algorithm, all.len(), 3);
        assert_eq!(done.next(&all), None);
    }
}

#[test]
fn trials_side_by_side_differ() {
    let [_, branin, _] = functions();
    let mut search = Search::new(branin.1.clone(), Algorithm::Model, 40, 1);
    let mut outcomes: Vec<Outcome> = Vec::new();
    for _ in 0..10 {
        let points: Vec<Vec<f64>> = (0..4).filter_map(|_| search.next(&outcomes)).collect();
        assert_eq!(points.len(), 4);
        // Points of one round are not huddled together: that would waste all but one.
        for (i, a) in points.iter().enumerate() {
            assert!(
                points[..i]
                    .iter()
                    .all(|b| (a[0] - b[0]).abs() + (a[1] - b[1]).abs() > 1e-3),
                "{points:?}"
            );
        }
        outcomes.extend(points.into_iter().map(|point| Outcome {
            score: Some(-(branin.3)(&point)),
            point,
        }));
    }
    let best = outcomes
        .iter()
        .filter_map(|outcome| outcome.score)
        .fold(f64::NEG_INFINITY, f64::max);
    assert!(-best - branin.2 < 0.5, "{best}");
    assert_eq!(search.next(&outcomes), None);
}

#[test]
fn points_stay_within_bounds() {
    let domains = [
        log_range(0.0, 20.0),
        log_range(1e-4, 0.3),
        range(-1.0, 1.0),
        whole(-2.0, 3.0),
        Domain::Candidates(3),
    ];
    for algorithm in ALGORITHMS {
        // Rising towards the upper ends: the model presses against them.
        let outcomes = run(&domains, algorithm, 60, 11, |p| Some(p.iter().sum()));
        // A grid of two levels and three candidates has 48 points; no third level fits.
        let expected = if algorithm == Algorithm::Grid { 48 } else { 60 };
        assert_eq!(
            (outcomes.len(), distinct(&outcomes)),
            (expected, expected),
            "{algorithm:?}"
        );
        for Outcome { point, .. } in &outcomes {
            assert_eq!(point.len(), 5);
            assert!(
                point[0] == 0.0 || (2e-5 * (1.0 - 1e-9)..=20.0).contains(&point[0]),
                "{point:?}"
            );
            assert!(
                (1e-4..=0.3).contains(&point[1]) && (-1.0..=1.0).contains(&point[2]),
                "{point:?}"
            );
            assert!((-2.0..=3.0).contains(&point[3]) && point[3].fract() == 0.0, "{point:?}");
            assert!((0.0..=2.0).contains(&point[4]) && point[4].fract() == 0.0, "{point:?}");
        }
        assert!(
            outcomes.iter().any(|outcome| outcome.point[0] == 0.0),
            "{algorithm:?} never tried 0"
        );
    }
}

#[test]
fn whole_numbers_reach_both_ends_and_no_point_comes_twice() {
    for algorithm in ALGORITHMS {
        let outcomes = run(&[whole(3.0, 12.0)], algorithm, 100, 2, |p| Some(-(p[0] - 6.0).abs()));
        let mut values: Vec<f64> = outcomes.iter().map(|outcome| outcome.point[0]).collect();
        values.sort_by(f64::total_cmp);
        assert_eq!(values, (3..=12).map(f64::from).collect::<Vec<_>>(), "{algorithm:?}");

        let log = Domain::Range {
            low: 0.0,
            high: 1000.0,
            integer: true,
            log: true,
        };
        let outcomes = run(&[log, Domain::Candidates(2)], algorithm, 100, 2, |p| Some(p[0]));
        assert_eq!((outcomes.len(), distinct(&outcomes)), (100, 100), "{algorithm:?}");
        let reached = |end: f64| outcomes.iter().any(|outcome| outcome.point[0] == end);
        assert!(reached(0.0), "{algorithm:?}");
        // One whole number of a thousand need not be met by chance.
        assert!(reached(1000.0) || algorithm == Algorithm::Random, "{algorithm:?}");
    }
}

#[test]
fn small_spaces_are_used_up() {
    let domains = [Domain::Candidates(3), whole(1.0, 4.0), Domain::Candidates(1)];
    for algorithm in ALGORITHMS {
        let outcomes = run(&domains, algorithm, 100, 9, |p| Some(p[0] * p[1]));
        assert_eq!((outcomes.len(), distinct(&outcomes)), (12, 12), "{algorithm:?}");
    }
}

#[test]
fn failed_trials_do_not_stop_it() {
    let [function, ..] = functions();
    for algorithm in ALGORITHMS {
        for failure in [None, Some(f64::NAN), Some(f64::NEG_INFINITY)] {
            assert_eq!(
                run(&function.1, algorithm, 15, 4, |_| failure).len(),
                15,
                "{algorithm:?}"
            );
        }
    }
    // Where learning rates above 0.01 fail, the model learns to stay below.
    let score = |p: &[f64]| (p[0] <= 0.01).then(|| -(function.3)(p));
    let outcomes = run(&function.1, Algorithm::Model, 30, 4, score);
    let late_failures = outcomes[15..].iter().filter(|outcome| outcome.score.is_none()).count();
    assert!(late_failures <= 5, "{late_failures} of the last 15 failed");
    let best = outcomes
        .iter()
        .filter_map(|outcome| outcome.score)
        .fold(f64::NEG_INFINITY, f64::max);
    assert!(best > -0.2, "{best}");
}

#[test]
fn scores_that_are_all_the_same() {
    let [function, ..] = functions();
    for algorithm in ALGORITHMS {
        let outcomes = run(&function.1, algorithm, 25, 6, |_| Some(0.5));
        assert_eq!((outcomes.len(), distinct(&outcomes)), (25, 25), "{algorithm:?}");
    }
}

#[test]
fn nothing_to_choose() {
    for algorithm in ALGORITHMS {
        for (domains, expected) in [
            (vec![Domain::Candidates(1)], vec![0.0]),
            (vec![range(2.0, 2.0)], vec![2.0]),
            (vec![], vec![]),
        ] {
            let outcomes = run(&domains, algorithm, 10, 1, |_| Some(1.0));
            assert_eq!(outcomes.len(), 1, "{algorithm:?} {domains:?}");
            assert_eq!(outcomes[0].point, expected);
        }
        assert_eq!(
            Search::new(vec![Domain::Candidates(0), range(0.0, 1.0)], algorithm, 10, 1).next(&[]),
            None
        );
        assert_eq!(run(&[range(0.0, 1.0)], algorithm, 1, 1, |_| Some(1.0)).len(), 1);
    }
}

#[test]
fn strange_outcomes_are_passed_over() {
    let strange = [
        Outcome {
            point: vec![1.0],
            score: Some(1.0),
        },
        Outcome {
            point: vec![f64::NAN, 1e300],
            score: Some(-f64::MAX),
        },
        Outcome {
            point: vec![0.1, 0.1],
            score: Some(f64::MAX),
        },
        Outcome {
            point: vec![0.2, 0.1],
            score: Some(0.0),
        },
    ];
    for algorithm in ALGORITHMS {
        let mut search = Search::new(vec![range(0.0, 1.0); 2], algorithm, 10, 1);
        for _ in 0..7 {
            assert!(
                search
                    .next(&strange)
                    .is_some_and(|p| p.iter().all(|v| (0.0..=1.0).contains(v))),
                "{algorithm:?}"
            );
        }
    }
}
