//! Explicit feedback, pairs, judgements and tables.

use std::collections::BTreeMap;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int32Array, RecordBatch, StringArray, UInt32Array,
};
use datafusion::arrow::datatypes::{Float64Type, Int32Type, Int64Type};

use super::tests::{
    doubles, fit, fit_with, integers, options, recommend, reload, rows, stored, text, two_tastes, usual,
};
use super::*;
use crate::error::ErrorKind;
use crate::models::{Fitted, Given, MemoryRows, Model, PairOptions, Rows, UnlimitedMemory};
use crate::options::Value;

fn explicit(more: &[(&str, Value)]) -> Options {
    let mut named = vec![("rating", text("r")), ("feedback_type", text("explicit"))];
    named.extend(more.iter().cloned());
    usual(&named)
}

/// Users, items and ratings of the golden file: those to learn from, those held out.
fn golden() -> [(Vec<i32>, Vec<i32>, Vec<f64>); 2] {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/ratings.csv");
    let mut both = [(vec![], vec![], vec![]), (vec![], vec![], vec![])];
    for line in std::fs::read_to_string(path).unwrap().lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let (users, items, ratings) = &mut both[usize::from(cells[3] == "true")];
        users.push(cells[0].parse().unwrap());
        items.push(cells[1].parse().unwrap());
        ratings.push(cells[2].parse().unwrap());
    }
    both
}

fn rated((users, items, ratings): &(Vec<i32>, Vec<i32>, Vec<f64>)) -> MemoryRows {
    rows(&[("u", integers(users)), ("i", integers(items)), ("r", doubles(ratings))])
}

fn scores(model: &dyn Model, users: &[i32], items: &[i32]) -> Float64Array {
    let scores = model.score(&[integers(users), integers(items)]).unwrap();
    scores.as_primitive::<Float64Type>().clone()
}

fn metrics(model: &dyn Model, rows: &MemoryRows) -> BTreeMap<String, f64> {
    let batch = model.assess("EVALUATE", rows, &Options::default(), &|| false).unwrap();
    let fields = model.assess_fields("EVALUATE").unwrap();
    assert_eq!(batch.num_rows(), 1);
    let value = |i: usize| batch.column(i).as_primitive::<Float64Type>().value(0);
    fields
        .iter()
        .enumerate()
        .map(|(i, f)| (f.name().clone(), value(i)))
        .collect()
}

#[test]
fn held_out_errors_are_those_of_the_reference() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/ratings.json");
    let wanted: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let [train, held_out] = golden();
    assert_eq!(train.0.len() as u64, wanted["train"].as_u64().unwrap());
    let (train, held_out) = (rated(&train), rated(&held_out));
    for (name, case) in wanted["reference"].as_object().unwrap() {
        let number = |what: &str| case[what].as_f64().unwrap();
        // What 'default' has is what no option gives.
        let named = match name.as_str() {
            "default" => vec![],
            _ => vec![
                ("factors", Value::Float(number("factors"))),
                ("l2", Value::Float(number("l2"))),
                ("frequency_exponent", Value::Float(number("frequency_exponent"))),
            ],
        };
        let mut errors: Vec<f64> = (0..5)
            .map(|seed| {
                let named = [&named[..], &[("seed", Value::Int(seed))]].concat();
                let model = fit(&train, &explicit(&named)).model;
                metrics(model.as_ref(), &held_out)["mean_squared_error"].sqrt()
            })
            .collect();
        errors.sort_unstable_by(f64::total_cmp);
        let (got, wanted) = (errors[2], number("rmse"));
        assert!(
            (got / wanted - 1.0).abs() < 0.01,
            "{name}: {got}, and the reference has {wanted}"
        );
    }
}

#[test]
fn the_loss_is_the_objective_and_falls() {
    let [train, _] = golden();
    let (l2, exponent) = (0.7, 0.5);
    let named = [
        ("factors", Value::Int(3)),
        ("l2", Value::Float(l2)),
        ("frequency_exponent", Value::Float(exponent)),
        ("iterations", Value::Int(8)),
    ];
    let fitted = fit(&rated(&train), &explicit(&named));
    let losses: Vec<f64> = fitted.info.passes.iter().map(|p| p.loss.unwrap()).collect();
    assert_eq!(losses.len(), 8);
    assert!(losses.windows(2).all(|w| w[1] <= w[0] * (1.0 + 1e-5)), "{losses:?}");
    // From the tables: Σ (r − r̂)² + l2 Σ n^ν (‖factors‖² + intercept²).
    let predicted = scores(fitted.model.as_ref(), &train.0, &train.1);
    let mut loss: f64 = train
        .2
        .iter()
        .zip(predicted.values())
        .map(|(r, p)| (r - p).powi(2))
        .sum();
    let weights = fitted.model.describe("WEIGHTS", &Options::default()).unwrap().unwrap();
    for row in 0..weights.num_rows() - 1 {
        let of = |column: usize| weights.column(column).as_string::<i32>().value(row).to_string();
        let ids = if of(0) == "u" { &train.0 } else { &train.1 };
        let count = ids.iter().filter(|id| id.to_string() == of(1)).count() as f64;
        let factors = weights.column(2).as_list::<i32>().value(row);
        let factors = factors.as_struct().column(1).as_primitive::<Float64Type>().clone();
        let intercept = weights.column(3).as_primitive::<Float64Type>().value(row);
        let squares: f64 = factors.values().iter().map(|v| v * v).sum();
        loss += l2 * count.powf(exponent) * (squares + intercept * intercept);
    }
    let told = losses[7] * train.2.len() as f64;
    assert!((told / loss - 1.0).abs() < 1e-4, "{told} {loss}");
}

#[test]
fn a_strong_penalty_leaves_the_mean() {
    let rows = rated(&(vec![1, 1, 2], vec![1, 2, 2], vec![-1.0, 0.0, 4.0]));
    let model = fit(&rows, &explicit(&[("l2", Value::Float(1e9))])).model;
    for score in scores(model.as_ref(), &[1, 1, 2], &[1, 2, 1]).iter() {
        assert!((score.unwrap() - 1.0).abs() < 1e-6);
    }
    // The penalty of biases alone, by hand: one user and one item of one rating each.
    let rows = rated(&(vec![1, 2], vec![1, 2], vec![2.0, 4.0]));
    let named = [
        ("l2", Value::Float(1.0)),
        ("iterations", Value::Int(500)),
        ("factors", Value::Int(1)),
    ];
    let model = fit(&rows, &explicit(&named)).model;
    // Biases b of user and item alike: (1 − 2b)² + 2b², so b = 1/3 of the distance from the mean of 3.
    let score = scores(model.as_ref(), &[1, 2], &[1, 2]);
    assert!((score.value(0) - (3.0 - 2.0 / 3.0)).abs() < 1e-3, "{score:?}");
    assert!((score.value(1) - (3.0 + 2.0 / 3.0)).abs() < 1e-3, "{score:?}");
}

#[test]
fn repeated_ratings_are_averaged_and_any_finite_number_is_one() {
    let repeated = rated(&(
        vec![1, 1, 2, 2, 3, 3],
        vec![1, 1, 1, 2, 2, 9],
        vec![5.0, 2.0, -1.0, 0.0, f64::NAN, f64::INFINITY],
    ));
    let once = rated(&(vec![1, 2, 2], vec![1, 1, 2], vec![3.5, -1.0, 0.0]));
    let named = [("factors", Value::Int(2)), ("l2", Value::Float(0.1))];
    let (repeated, once) = (fit(&repeated, &explicit(&named)), fit(&once, &explicit(&named)));
    assert_eq!(stored(&repeated), stored(&once));
    assert_eq!(repeated.info.notices, ["2 row(s) without a finite rating were dropped"]);
    // User 3 and item 9 have no rating: they do not appear.
    let recommender = repeated.model.recommender().unwrap();
    assert_eq!((recommender.users().len(), recommender.items().len()), (2, 2));
}

#[test]
fn strangers_have_the_bias_of_whoever_is_known() {
    let [train, _] = golden();
    let model = fit(&rated(&train), &explicit(&[])).model;
    assert_eq!(model.predict_fields()[0].name(), "predicted_r");
    let weights = model.describe("WEIGHTS", &Options::default()).unwrap().unwrap();
    let intercept = |input: &str, feature: &str| {
        let find = |row: &usize| {
            let at = |column: usize| weights.column(column).as_string::<i32>();
            at(0).is_valid(*row) && at(0).value(*row) == input && at(1).value(*row) == feature
        };
        let row = (0..weights.num_rows()).find(find).unwrap();
        weights.column(3).as_primitive::<Float64Type>().value(row)
    };
    let last = weights.num_rows() - 1;
    assert_eq!(weights.column(1).as_string::<i32>().value(last), "global__INTERCEPT__");
    assert!(weights.column(0).is_null(last) && weights.column(2).is_null(last));
    let mean = weights.column(3).as_primitive::<Float64Type>().value(last);
    let expected = train.2.iter().sum::<f64>() / train.2.len() as f64;
    assert!((mean - expected).abs() < 1e-12);
    let asked: ArrayRef = Arc::new(Int32Array::from(vec![Some(-1), Some(7), Some(-1), None]));
    let got = model.score(&[asked, integers(&[5, -5, -5, 5])]).unwrap();
    let got = got.as_primitive::<Float64Type>();
    let (user, item) = (intercept("u", "7"), intercept("i", "5"));
    assert_eq!(
        got.iter().collect::<Option<Vec<_>>>().unwrap(),
        [mean + item, mean + user, mean, mean + item]
    );
    // Rankings: by the items' biases.
    let ranked = recommend(model.as_ref(), &integers(&[-1]), 200, true);
    assert!(ranked.scores.windows(2).all(|w| w[0] >= w[1]));
    let items = ranked.items.as_primitive::<Int32Type>();
    let place = items.values().iter().position(|i| *i == 5).unwrap();
    assert_eq!(ranked.scores[place], mean + item);
}

#[test]
fn rankings_and_pairs_say_what_scores_say() {
    let [train, _] = golden();
    let (users, items) = two_tastes();
    let bought = rows(&[("u", integers(&users)), ("i", integers(&items))]);
    let models = [
        fit(&rated(&train), &explicit(&[("factors", Value::Int(5))])).model,
        fit(&bought, &usual(&[("factors", Value::Int(4))])).model,
        fit(&bought, &usual(&[("method", text("ease"))])).model,
    ];
    for model in models {
        let recommender = model.recommender().unwrap();
        let (all_users, all_items) = (recommender.users(), recommender.items());
        for (given, others) in [(Given::User, &all_items), (Given::Item, &all_users)] {
            let asked: ArrayRef = Arc::new(Int32Array::from(vec![Some(3), Some(-9), None, Some(12)]));
            let pairs = |top_k, exclude_seen| {
                let options = PairOptions { top_k, exclude_seen };
                recommender.pairs(given, &asked, options).unwrap()
            };
            let all = pairs(None, false);
            assert_eq!(all.rows.len(), 4 * others.len());
            assert_eq!(&all.partners.slice(0, others.len()), others);
            let ids = datafusion::arrow::compute::take(&asked, &all.rows, None).unwrap();
            let columns = match given {
                Given::User => [ids, Arc::clone(&all.partners)],
                Given::Item => [Arc::clone(&all.partners), ids],
            };
            assert_eq!(
                model.score(&columns).unwrap().as_primitive::<Float64Type>(),
                &all.scores
            );
            // The best of them are the first when they are sorted.
            let best = pairs(Some(3), false);
            for row in [0, 3u32] {
                let of = |p: &crate::models::Pairs| -> Vec<f64> {
                    let at = (0..p.rows.len()).filter(|at| p.rows.value(*at) == row);
                    at.map(|at| p.scores.value(at)).collect()
                };
                let mut sorted = of(&all);
                sorted.sort_by(|a, b| b.total_cmp(a));
                assert_eq!(of(&best), sorted[..3]);
            }
            // What was in training is left out, and nothing else.
            let fresh = pairs(None, true);
            let left_out = pairs(None, false).rows.len() - fresh.rows.len();
            let is_seen = |user: i32, item: i32| {
                let (users, items) = if model.label().is_some() {
                    (&train.0, &train.1)
                } else {
                    (&users, &items)
                };
                users.iter().zip(items).any(|pair| pair == (&user, &item))
            };
            let partners = fresh.partners.as_primitive::<Int32Type>();
            let mut seen = 0;
            for row in [3, 12] {
                for other in others.as_primitive::<Int32Type>().values() {
                    seen += usize::from(match given {
                        Given::User => is_seen(row, *other),
                        Given::Item => is_seen(*other, row),
                    });
                }
            }
            assert_eq!(left_out, seen);
            for at in 0..partners.len() {
                let row = asked.as_primitive::<Int32Type>();
                let index = fresh.rows.value(at) as usize;
                if row.is_valid(index) {
                    let (user, item) = match given {
                        Given::User => (row.value(index), partners.value(at)),
                        Given::Item => (partners.value(at), row.value(index)),
                    };
                    assert!(!is_seen(user, item));
                }
            }
        }
        // Nobody is sure of an unknown user's pairs, unless by biases.
        let unknown = recommender.pairs(
            Given::User,
            &integers(&[-9]),
            PairOptions {
                top_k: Some(2),
                exclude_seen: true,
            },
        );
        assert_eq!(
            unknown.unwrap().scores.null_count(),
            if model.label().is_some() { 0 } else { 2 }
        );
    }
}

#[test]
fn order_batches_and_threads_change_nothing() {
    let [train, held_out] = golden();
    let ordered = rated(&train);
    let batch = ordered.batch(0).unwrap();
    let order: UInt32Array = (0..batch.num_rows())
        .map(|i| (i * 1009 % batch.num_rows()) as u32)
        .collect();
    let shuffled = datafusion::arrow::compute::take_record_batch(&batch, &order).unwrap();
    let parts = vec![
        shuffled.slice(0, 100),
        shuffled.slice(100, 1),
        shuffled.slice(101, batch.num_rows() - 101),
    ];
    let shuffled = MemoryRows::new(batch.schema(), parts);
    let options = explicit(&[("iterations", Value::Int(3))]);
    let first = fit_with(&ordered, &options, 1, &UnlimitedMemory).unwrap();
    let losses = |f: &Fitted| f.info.passes.iter().map(|p| p.loss).collect::<Vec<_>>();
    for threads in [2, 5] {
        let other = fit_with(&shuffled, &options, threads, &UnlimitedMemory).unwrap();
        assert_eq!(stored(&first), stored(&other));
        assert_eq!(losses(&first), losses(&other));
    }
    assert_eq!(
        metrics(first.model.as_ref(), &ordered),
        metrics(first.model.as_ref(), &shuffled)
    );
    // A judgement of implicit feedback too, and repeated pairs there.
    let (users, items): (Vec<i32>, Vec<i32>) = (held_out.0.repeat(2), held_out.1.repeat(2));
    let ratings: Vec<f64> = (0..users.len()).map(|i| 0.1 + (i % 5) as f64 / 3.0).collect();
    let forwards = rated(&(users.clone(), items.clone(), ratings.clone()));
    let reverse = |v: &[i32]| v.iter().rev().copied().collect::<Vec<_>>();
    let backwards = rated(&(
        reverse(&users),
        reverse(&items),
        ratings.iter().rev().copied().collect(),
    ));
    let model = fit(&forwards, &usual(&[("rating", text("r")), ("factors", Value::Int(4))])).model;
    assert_eq!(metrics(model.as_ref(), &forwards), metrics(model.as_ref(), &backwards));
}

#[test]
fn a_stored_model_is_the_same() {
    let [train, held_out] = golden();
    let model = fit(&rated(&train), &explicit(&[])).model;
    let again = reload(model.as_ref()).unwrap();
    assert_eq!(
        scores(model.as_ref(), &held_out.0, &held_out.1),
        scores(again.as_ref(), &held_out.0, &held_out.1)
    );
    for word in ["WEIGHTS", "GENERATE_EMBEDDING"] {
        let table = |model: &Arc<dyn Model>| model.describe(word, &Options::default()).unwrap().unwrap();
        assert_eq!(table(&model), table(&again));
    }
    assert_eq!((model.label(), again.label()), (Some("r"), Some("r")));
    assert_eq!(model.predict_fields(), again.predict_fields());
    let everybody = model.recommender().unwrap().users();
    let (a, b) = (
        recommend(model.as_ref(), &everybody, 5, true),
        recommend(again.as_ref(), &everybody, 5, true),
    );
    assert_eq!((a.offsets, a.scores), (b.offsets, b.scores));
}

#[test]
fn tables_say_what_the_model_is() {
    let (users, items) = two_tastes();
    let bought = rows(&[("u", integers(&users)), ("i", integers(&items))]);
    let model = fit(&bought, &usual(&[("factors", Value::Int(4))])).model;
    let weights = model.describe("WEIGHTS", &Options::default()).unwrap().unwrap();
    assert_eq!(weights.num_rows(), 20 + 13 + 1);
    let names: Vec<_> = weights.schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["processed_input", "feature", "factor_weights", "intercept"]);
    let intercepts = weights.column(3).as_primitive::<Float64Type>();
    assert!(intercepts.values().iter().all(|v| *v == 0.0));
    let factors = |row: usize| {
        let list = weights.column(2).as_list::<i32>().value(row);
        assert_eq!(
            list.as_struct().column(0).as_primitive::<Int64Type>().values()[..],
            [1, 2, 3, 4]
        );
        list.as_struct().column(1).as_primitive::<Float64Type>().clone()
    };
    let (user, item) = (factors(4), factors(20 + 7));
    let product: f64 = user.values().iter().zip(item.values()).map(|(a, b)| a * b).sum();
    assert!((product - scores(model.as_ref(), &[4], &[7]).value(0)).abs() < 1e-6);
    let feature = weights.column(1).as_string::<i32>();
    assert_eq!((feature.value(4), feature.value(27)), ("4", "7"));
    // The same as one list, the intercept last.
    let embedded = model
        .describe("GENERATE_EMBEDDING", &Options::default())
        .unwrap()
        .unwrap();
    assert_eq!(embedded.num_rows(), 33);
    let list = embedded.column(0).as_list::<i32>().value(27);
    let list = list.as_primitive::<Float64Type>();
    assert_eq!((&list.values()[..4], list.value(4)), (&item.values()[..], 0.0));
    assert!(embedded.column(1).as_string::<i32>().iter().all(|s| s == Some("")));
    assert_eq!(embedded.column(2).as_string::<i32>().value(27), "i");
    // `ease` has no factors.
    let ease = fit(&bought, &usual(&[("method", text("ease"))])).model;
    assert!(ease.describe("WEIGHTS", &Options::default()).unwrap().is_none());
    let standardize = options(&[("user", text("u")), ("item", text("i"))]).with("standardize", Value::Bool(true));
    assert!(model.describe("WEIGHTS", &standardize).is_err());
}

#[test]
fn implicit_feedback_is_judged_by_rankings() {
    let (users, items) = two_tastes();
    let bought = rows(&[("u", integers(&users)), ("i", integers(&items))]);
    for options in [
        usual(&[("factors", Value::Int(4))]),
        usual(&[("method", text("ease")), ("l2", Value::Float(1.0))]),
    ] {
        let model = fit(&bought, &options).model;
        let own = metrics(model.as_ref(), &bought);
        assert_eq!(own.len(), 4);
        let precision = own["mean_average_precision"];
        assert!(precision > 0.9 && precision <= 1.0, "{own:?}");
        assert!(
            own["average_rank"] < 0.3 && own["normalized_discounted_cumulative_gain"] > 0.9,
            "{own:?}"
        );
        // What is left of a user's taste, which no user had in training: found first.
        let left = rows(&[("u", integers(&[0, 0, 77])), ("i", integers(&[0, 1, 0]))]);
        let held_out = metrics(model.as_ref(), &left);
        assert_eq!(held_out["mean_average_precision"], 1.0);
        assert_eq!(held_out["normalized_discounted_cumulative_gain"], 1.0);
        // Two of eight candidates, the first two: (0 + 1/7) / 2.
        assert!((held_out["average_rank"] - 0.5 / 7.0).abs() < 1e-12, "{held_out:?}");
        let strangers = rows(&[("u", integers(&[77])), ("i", integers(&[0]))]);
        let error = model
            .assess("EVALUATE", &strangers, &Options::default(), &|| false)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        let stopped = model
            .assess("EVALUATE", &bought, &Options::default(), &|| true)
            .unwrap_err();
        assert_eq!(stopped.kind(), ErrorKind::Cancelled);
        assert!(model.judge(&bought, &|| false).unwrap().is_some());
    }
}

#[test]
fn errors_of_ratings_are_those_of_a_regression() {
    let [train, held_out] = golden();
    let model = fit(
        &rated(&train),
        &explicit(&[("l2", Value::Float(2.0)), ("factors", Value::Int(4))]),
    )
    .model;
    let got = metrics(model.as_ref(), &rated(&held_out));
    let predicted = scores(model.as_ref(), &held_out.0, &held_out.1);
    let errors = held_out.2.iter().zip(predicted.values()).map(|(r, p)| r - p);
    let count = held_out.2.len() as f64;
    let squares = errors.clone().map(|e| e * e).sum::<f64>() / count;
    assert!((got["mean_squared_error"] - squares).abs() < 1e-9);
    assert!((got["mean_absolute_error"] - errors.map(f64::abs).sum::<f64>() / count).abs() < 1e-9);
    assert!(got["r2_score"] > 0.6 && got["explained_variance"] >= got["r2_score"]);
    // Rows without a rating judge nothing.
    let none: ArrayRef = Arc::new(Float64Array::from(vec![None, None]));
    let unrated = rows(&[("u", integers(&[1, 2])), ("i", integers(&[1, 2])), ("r", none)]);
    let error = model
        .assess("EVALUATE", &unrated, &Options::default(), &|| false)
        .unwrap_err();
    assert!(
        error.to_string().contains("no row has a finite rating ('r')"),
        "{error}"
    );
}

#[test]
fn automatic_factors_follow_the_rows() {
    assert_eq!(options::Factors::Auto.count(1), 2);
    assert_eq!(options::Factors::Auto.count(1000), 10);
    assert_eq!(options::Factors::Auto.count(u64::MAX), 64);
    let (users, items) = two_tastes();
    let bought = rows(&[("u", integers(&users)), ("i", integers(&items))]);
    let model = fit(&bought, &usual(&[("factors", text("AUTO"))])).model;
    let embedded = model
        .describe("GENERATE_EMBEDDING", &Options::default())
        .unwrap()
        .unwrap();
    // log2 of 100 rows is 6.6.
    assert_eq!(users.len(), 100);
    assert_eq!(embedded.column(0).as_list::<i32>().value_length(0), 7 + 1);
}

#[test]
fn extreme_ratings_stay_finite() {
    let extreme = rated(&(vec![1, 1, 2, 3], vec![1, 2, 2, 3], vec![1e300, -1e300, 5.0, 1e-300]));
    for more in [
        vec![],
        vec![("l2", Value::Float(0.0))],
        vec![("factors", Value::Int(64)), ("iterations", Value::Int(2))],
    ] {
        let fitted = fit(&extreme, &explicit(&more));
        let scores = scores(fitted.model.as_ref(), &[1, 2, 3, 9], &[3, 1, 1, 9]);
        assert!(scores.values().iter().all(|s| s.is_finite()), "{more:?} {scores:?}");
        assert!(fitted.info.passes.iter().all(|p| p.loss.is_some_and(f64::is_finite)));
    }
}

#[test]
fn requests_that_cannot_be() {
    let schema = rated(&(vec![1], vec![1], vec![1.0])).schema();
    let message = |named: &[(&str, Value)]| {
        let error = Factorization.roles(&schema, &explicit(named)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Request);
        error.to_string()
    };
    assert!(message(&[("alpha", Value::Int(40))]).contains("'alpha' means nothing to explicit feedback"));
    assert!(message(&[("method", text("ease"))]).contains("implicit feedback only"));
    assert!(message(&[("factors", text("many"))]).contains("or 'auto', not 'many'"));
    assert!(message(&[("factors", Value::Float(2.5))]).contains("whole number"));
    let without = usual(&[("feedback_type", text("explicit"))]);
    let error = Factorization.roles(&schema, &without).unwrap_err().to_string();
    assert!(error.contains("explicit feedback needs the option 'rating'"), "{error}");
}

#[test]
fn statement_defaults_go_with_what_is_given() {
    let applied = |given: &[(&str, &str)]| -> Vec<&str> {
        let find = |name: &str| given.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_string());
        let all = Factorization.statement_defaults().iter();
        let applies =
            all.filter(|(name, _)| find(name).is_none() && Factorization.statement_default_applies(name, &find));
        applies.map(|(name, _)| *name).collect()
    };
    assert_eq!(applied(&[]), ["feedback_type", "user", "item", "rating"]);
    assert_eq!(
        applied(&[("feedback_type", "EXPLICIT"), ("user", "u")]),
        ["item", "rating"]
    );
    assert_eq!(applied(&[("method", "ease")]), ["user", "item", "rating"]);
    let implicit = applied(&[("feedback_type", "implicit")]);
    assert_eq!(implicit.len(), Factorization.statement_defaults().len() - 1);
    // Every default is an option's value.
    let schema = RecordBatch::try_from_iter([
        ("user", integers(&[1])),
        ("item", Arc::new(StringArray::from(vec!["a"])) as ArrayRef),
        ("rating", doubles(&[1.0])),
    ])
    .unwrap()
    .schema();
    let named = Factorization.statement_defaults().iter().map(|(name, value)| {
        let value = match value.parse::<f64>() {
            Ok(number) => Value::Float(number),
            Err(_) => text(value.trim_matches('\'')),
        };
        (
            *name,
            if *name == "feedback_type" {
                text("implicit")
            } else {
                value
            },
        )
    });
    let roles = Factorization
        .roles(&schema, &options(&named.collect::<Vec<_>>()))
        .unwrap();
    assert_eq!((roles.user, roles.item, roles.rating), (Some(0), Some(1), Some(2)));
}
