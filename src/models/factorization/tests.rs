use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Float64Array, Int8Array, Int32Array, RecordBatch, StringArray,
    StringViewArray, UInt64Array,
};
use datafusion::arrow::datatypes::Int32Type;
use serde_json::json;

use super::*;
use crate::error::ErrorKind;
use crate::kernels::compute::Compute;
use crate::metrics::ranking;
use crate::models::{
    MemoryBudget, MemoryRows, Observer, Parts, Pass, RecommendContext, Recommendations, Silent, UnlimitedMemory,
};
use crate::options::Value;

pub(super) fn options(named: &[(&str, Value)]) -> Options {
    try_options(named).unwrap()
}

fn try_options(named: &[(&str, Value)]) -> Result<Options> {
    Options::parse(
        VERB,
        OPTIONS,
        named.iter().map(|(k, v)| (k.to_string(), v.clone())).collect(),
    )
}

pub(super) fn text(value: &str) -> Value {
    Value::Text(value.into())
}

/// The usual options, then these.
pub(super) fn usual(more: &[(&str, Value)]) -> Options {
    let mut named = vec![("user", text("u")), ("item", text("i"))];
    named.extend(more.iter().cloned());
    options(&named)
}

pub(super) fn rows(columns: &[(&str, ArrayRef)]) -> MemoryRows {
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.iter().map(|(n, c)| (*n, Arc::clone(c), true))).unwrap();
    MemoryRows::new(batch.schema(), vec![batch])
}

pub(super) fn fit_with(
    rows: &MemoryRows,
    options: &Options,
    threads: usize,
    memory: &dyn MemoryBudget,
) -> Result<Fitted> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let cancel = AtomicBool::new(false);
    let context = FitContext {
        compute: &Compute::cpu(&pool, &cancel),
        seed: 42,
        observer: &Silent,
        memory,
        start: None,
    };
    let roles = Factorization.roles(&rows.schema(), options)?;
    Factorization.fit(rows, &roles, options, &context)
}

pub(super) fn fit(rows: &MemoryRows, options: &Options) -> Fitted {
    fit_with(rows, options, 2, &UnlimitedMemory).unwrap()
}

pub(super) fn recommend(model: &dyn Model, users: &ArrayRef, n: usize, exclude_seen: bool) -> Recommendations {
    let cancel = AtomicBool::new(false);
    let context = RecommendContext {
        pool: None,
        cancel: &cancel,
    };
    model
        .recommender()
        .unwrap()
        .recommend(users, n, exclude_seen, &context)
        .unwrap()
}

pub(super) fn integers(values: &[i32]) -> ArrayRef {
    Arc::new(Int32Array::from(values.to_vec()))
}

pub(super) fn doubles(values: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

/// Two tastes: users 0..10 have items 0..6, users 10..20 items 6..12, each but two; item 12 is everybody's.
pub(super) fn two_tastes() -> (Vec<i32>, Vec<i32>) {
    let (mut users, mut items) = (vec![], vec![]);
    for user in 0..20 {
        let first = if user < 10 { 0 } else { 6 };
        for item in first..first + 6 {
            if (item + user) % 6 > 1 {
                users.push(user);
                items.push(item);
            }
        }
        users.push(user);
        items.push(12);
    }
    (users, items)
}

fn both_methods() -> [Options; 2] {
    [
        usual(&[("factors", Value::Int(4))]),
        usual(&[("method", text("ease")), ("l2", Value::Float(1.0))]),
    ]
}

pub(super) fn reload(model: &dyn Model) -> Result<Arc<dyn Model>> {
    reload_changed(model, |_| {})
}

fn reload_changed(model: &dyn Model, change: impl FnOnce(&mut Parts)) -> Result<Arc<dyn Model>> {
    let mut parts = model.parts()?;
    change(&mut parts);
    Factorization.load(&Artefact {
        name: "taste".into(),
        features: model.feature_columns().to_vec(),
        options: Options::default(),
        parts,
    })
}

#[test]
fn recommends_what_others_of_the_same_taste_have() {
    let (users, items) = two_tastes();
    let rows = rows(&[("u", integers(&users)), ("i", integers(&items))]);
    for options in both_methods() {
        let model = fit(&rows, &options).model;
        let ranked = recommend(model.as_ref(), &integers(&(0..20).collect::<Vec<_>>()), 2, true);
        assert_eq!(ranked.offsets, (0..=20).map(|u| u * 2).collect::<Vec<_>>());
        let ranked_items = ranked.items.as_primitive::<Int32Type>();
        for user in 0..20 {
            for r in user * 2..user * 2 + 2 {
                let item = ranked_items.value(r);
                assert_eq!(item / 6, user as i32 / 10, "user {user} of {options:?} got {item}");
                assert!(!(0..users.len()).any(|e| users[e] == user as i32 && items[e] == item));
            }
            assert!(ranked.scores[user * 2] >= ranked.scores[user * 2 + 1]);
        }
        // With what they have, everything is ranked.
        assert_eq!(recommend(model.as_ref(), &integers(&[3]), 99, false).items.len(), 13);
    }
}

#[test]
fn unknown_users_get_the_popular_items() {
    let rows = rows(&[
        ("u", integers(&[1, 2, 3, 1, 2, 3, 1])),
        ("i", integers(&[7, 7, 7, 5, 5, 4, 9])),
    ]);
    for options in both_methods() {
        let model = fit(&rows, &options).model;
        let users: ArrayRef = Arc::new(Int32Array::from(vec![Some(99), Some(1), None]));
        let ranked = recommend(model.as_ref(), &users, 3, true);
        let items = ranked.items.as_primitive::<Int32Type>();
        assert_eq!(items.values()[..3], [7, 5, 4]);
        assert_eq!(ranked.scores[..3], [3.0, 2.0, 1.0]);
        // User 1 has all but one; NULL is nobody.
        assert_eq!(ranked.offsets, [0, 3, 4, 7]);
        assert_eq!(items.value(3), 4);
        assert_eq!(items.values()[4..], [7, 5, 4]);
    }
}

#[test]
fn any_integer_or_text_keeps_its_type() {
    let number = |i: usize| -> ArrayRef { Arc::new(Int8Array::from(vec![Some(i as i8), Some(-3), Some(4)])) };
    let columns: Vec<ArrayRef> = vec![
        number(3),
        Arc::new(UInt64Array::from(vec![u64::MAX, 3, 4])),
        Arc::new(StringArray::from(vec!["b", "a", "ü"])),
        Arc::new(StringViewArray::from(vec![
            "b",
            "a",
            "a long text that is no inline view",
        ])),
        Arc::new(vec!["x", "y", "z"].into_iter().collect::<DictionaryArray<Int32Type>>()),
    ];
    for users in &columns {
        for items in &columns {
            let rows = rows(&[("u", Arc::clone(users)), ("i", Arc::clone(items))]);
            let model = fit(&rows, &usual(&[("factors", Value::Int(2))])).model;
            let recommender = model.recommender().unwrap();
            assert_eq!(*recommender.user_field().data_type(), value_type(users.data_type()));
            assert_eq!(*recommender.item_field().data_type(), value_type(items.data_type()));
            let ranked = recommend(model.as_ref(), users, 5, false);
            assert_eq!(*ranked.items.data_type(), value_type(items.data_type()));
            assert_eq!(ranked.items.len(), 9);
            let score = model.score(&[Arc::clone(users), Arc::clone(items)]).unwrap();
            assert_eq!(score.null_count(), 0);
            let again = reload(model.as_ref()).unwrap();
            assert_eq!(again.feature_columns(), model.feature_columns());
            assert_eq!(&score, &again.score(&[Arc::clone(users), Arc::clone(items)]).unwrap());
        }
    }
    // Signed numbers are in their order, and text that is a number finds it.
    let rows = rows(&[("u", number(3)), ("i", number(3))]);
    let model = fit(&rows, &usual(&[])).model;
    let sorted = model.recommender().unwrap().users();
    assert_eq!(
        sorted.as_primitive::<datafusion::arrow::datatypes::Int8Type>().values()[..],
        [-3, 3, 4]
    );
    let asked: ArrayRef = Arc::new(StringArray::from(vec!["4", "no number"]));
    let score = model.score(&[asked, integers(&[4, 4])]).unwrap();
    assert_eq!((score.is_valid(0), score.is_valid(1)), (true, false));
}

#[test]
fn drops_what_says_nothing_and_counts_it() {
    let users: ArrayRef = Arc::new(Int32Array::from(vec![
        Some(1),
        None,
        Some(1),
        Some(2),
        Some(2),
        Some(2),
        Some(2),
        Some(8),
    ]));
    let items: ArrayRef = Arc::new(Int32Array::from(vec![
        Some(1),
        Some(1),
        None,
        Some(2),
        Some(3),
        Some(3),
        Some(3),
        Some(9),
    ]));
    let ratings: ArrayRef = Arc::new(Float64Array::from(vec![
        Some(1.0),
        Some(1.0),
        Some(1.0),
        Some(2.0),
        Some(0.0),
        None,
        Some(f64::NAN),
        Some(f64::INFINITY),
    ]));
    let rows = rows(&[("u", users), ("i", items), ("r", ratings)]);
    let fitted = fit(&rows, &usual(&[("rating", text("r"))]));
    assert_eq!(fitted.info.row_count, 2);
    assert_eq!(
        fitted.info.notices,
        [
            "2 row(s) with a NULL user or item were dropped",
            "4 row(s) without a positive, finite rating were dropped"
        ]
    );
    // Items 3 and 9 have nobody left, user 8 nothing.
    assert_eq!(
        recommend(fitted.model.as_ref(), &integers(&[5]), 99, true)
            .items
            .as_primitive::<Int32Type>()
            .values()[..],
        [1, 2]
    );
    assert_eq!(fitted.model.recommender().unwrap().users().len(), 2);
    assert_eq!(fitted.model.predict_fields()[0].name(), "predicted_r_confidence");
}

#[test]
fn nothing_left_is_an_error() {
    let rows = rows(&[("u", integers(&[1])), ("i", integers(&[1])), ("r", doubles(&[-1.0]))]);
    let error = fit_with(&rows, &usual(&[("rating", text("r"))]), 1, &UnlimitedMemory).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.to_string().contains("a positive, finite rating"), "{error}");
}

/// The tables of a model, to compare two to the bit.
pub(super) fn stored(fitted: &Fitted) -> Vec<(String, RecordBatch)> {
    fitted.model.parts().unwrap().tables
}

#[test]
fn order_batches_and_threads_change_nothing() {
    let (users, items) = two_tastes();
    let ratings: Vec<f64> = (0..users.len()).map(|i| 0.1 + (i % 7) as f64 / 3.0).collect();
    // Each pair twice, with another rating.
    let twice = |v: &[i32]| [v, v].concat();
    let (users, items) = (twice(&users), twice(&items));
    let ratings = [&ratings[..], &ratings.iter().map(|r| r * 0.7).collect::<Vec<_>>()[..]].concat();
    let ordered = rows(&[
        ("u", integers(&users)),
        ("i", integers(&items)),
        ("r", doubles(&ratings)),
    ]);
    let order: Vec<usize> = (0..users.len()).map(|i| i * 37 % users.len()).collect();
    assert_eq!(order.iter().collect::<HashSet<_>>().len(), users.len());
    let pick = |range: std::ops::Range<usize>| {
        let order = &order[range];
        let columns: [(&str, ArrayRef); 3] = [
            ("u", integers(&order.iter().map(|i| users[*i]).collect::<Vec<_>>())),
            ("i", integers(&order.iter().map(|i| items[*i]).collect::<Vec<_>>())),
            ("r", doubles(&order.iter().map(|i| ratings[*i]).collect::<Vec<_>>())),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true))).unwrap()
    };
    let batches = vec![pick(0..10), pick(10..11), pick(11..users.len())];
    let shuffled = MemoryRows::new(batches[0].schema(), batches);
    for method in ["als", "ease"] {
        let options = usual(&[("rating", text("r")), ("method", text(method))]);
        let first = fit_with(&ordered, &options, 1, &UnlimitedMemory).unwrap();
        for threads in [2, 7] {
            let other = fit_with(&shuffled, &options, threads, &UnlimitedMemory).unwrap();
            assert_eq!(stored(&first), stored(&other), "{method}");
            let losses = |f: &Fitted| f.info.passes.iter().map(|p| p.loss).collect::<Vec<_>>();
            assert_eq!(losses(&first), losses(&other));
        }
    }
}

#[test]
fn a_stored_model_scores_the_same() {
    let (users, items) = two_tastes();
    let rows = rows(&[("u", integers(&users)), ("i", integers(&items))]);
    for options in both_methods() {
        let model = fit(&rows, &options).model;
        let again = reload(model.as_ref()).unwrap();
        let everybody = integers(&(-1..22).collect::<Vec<_>>());
        for exclude_seen in [true, false] {
            let (a, b) = (
                recommend(model.as_ref(), &everybody, 13, exclude_seen),
                recommend(again.as_ref(), &everybody, 13, exclude_seen),
            );
            assert_eq!((a.offsets, a.scores), (b.offsets, b.scores));
            assert_eq!(&a.items, &b.items);
        }
        // Scores of pairs are those of rankings, and NULL for strangers.
        let ranked = recommend(again.as_ref(), &integers(&[4]), 13, false);
        let same: ArrayRef = integers(&[4; 13]);
        let scores = model.score(&[same, Arc::clone(&ranked.items)]).unwrap();
        let scores = scores.as_primitive::<datafusion::arrow::datatypes::Float64Type>();
        for (r, score) in ranked.scores.iter().enumerate() {
            assert_eq!(score.to_bits(), scores.value(r).to_bits());
        }
        let strangers = model.score(&[integers(&[-1, 4, 4]), integers(&[1, 99, 1])]).unwrap();
        assert_eq!(
            (0..3).map(|r| strangers.is_null(r)).collect::<Vec<_>>(),
            [true, true, false]
        );
    }
}

#[test]
fn corrupt_parts_are_errors() {
    let (users, items) = two_tastes();
    let ones = doubles(&vec![1.0; users.len()]);
    let rows = rows(&[("u", integers(&users)), ("i", integers(&items)), ("r", ones)]);
    let refused = |model: &dyn Model, what: &str, change: &dyn Fn(&mut Parts)| {
        let error = reload_changed(model, |parts| change(parts)).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Model, "{what}");
        assert!(
            error.to_string().starts_with("model 'taste' is corrupt: "),
            "{what}: {error}"
        );
    };
    let explicit = usual(&[("rating", text("r")), ("feedback_type", text("explicit"))]);
    for options in both_methods().into_iter().chain([explicit]) {
        let model = fit(&rows, &options).model;
        let tables = model.parts().unwrap().tables.len();
        for t in 0..tables {
            refused(model.as_ref(), "a missing part", &|p| drop(p.tables.remove(t)));
            refused(model.as_ref(), "a missing column", &|p| {
                p.tables[t].1.remove_column(0);
            });
            if t != 2 {
                // Fewer interactions are still interactions; the store's checksums find that.
                refused(model.as_ref(), "a missing row", &|p| {
                    p.tables[t].1 = p.tables[t].1.slice(1, p.tables[t].1.num_rows() - 1);
                });
            }
        }
        refused(model.as_ref(), "no method", &|p| drop(p.settings.remove("method")));
        refused(model.as_ref(), "another method", &|p| {
            drop(p.settings.insert("method".into(), json!("magic")))
        });
        refused(model.as_ref(), "no order", &|p| {
            let ids = integers(&vec![1; p.tables[0].1.num_rows()]);
            let mut columns = p.tables[0].1.columns().to_vec();
            columns[0] = ids;
            p.tables[0].1 = RecordBatch::try_new(p.tables[0].1.schema(), columns).unwrap();
        });
    }
}

#[test]
fn requests_that_cannot_be() {
    let schema = rows(&[
        ("u", integers(&[1])),
        ("i", integers(&[1])),
        ("d", doubles(&[1.0])),
        ("t", Arc::new(StringArray::from(vec!["x"]))),
    ])
    .schema();
    let message = |named: &[(&str, Value)]| {
        let result = try_options(named).and_then(|o| Factorization.roles(&schema, &o));
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Request);
        error.to_string()
    };
    let (u, i) = (("user", text("u")), ("item", text("i")));
    assert!(message(std::slice::from_ref(&u)).contains("needs the option 'item'"));
    assert!(message(&[u.clone(), ("item", text("ii"))]).contains("did you mean 'i'?"));
    assert!(message(&[("user", text("d")), i.clone()]).contains("CAST(d AS BIGINT)"));
    assert!(message(&[u.clone(), ("item", text("u"))]).contains("at once"));
    assert!(message(&[u.clone(), i.clone(), ("rating", text("i"))]).contains("at once"));
    assert!(message(&[u.clone(), i.clone(), ("rating", text("t"))]).contains("must be a number"));
    assert!(message(&[u.clone(), i.clone(), ("factors", Value::Int(0))]).contains("1,024"));
    assert!(
        message(&[
            u.clone(),
            i.clone(),
            ("method", text("ease")),
            ("factors", Value::Int(3))
        ])
        .contains("means nothing")
    );
    assert!(message(&[u.clone(), i.clone(), ("method", text("ease")), ("l2", Value::Int(0))]).contains("above 0"));
    let zero = [("alpha", Value::Int(0)), ("unobserved_weight", Value::Int(0))];
    assert!(message(&[&[u.clone(), i.clone()][..], &zero].concat()).contains("any weight"));
    let alias = options(&[
        ("USER_COL", text("U")),
        ("item_col", text("i")),
        ("rating_col", text("d")),
    ]);
    let roles = Factorization.roles(&schema, &alias).unwrap();
    assert_eq!((roles.user, roles.item, roles.rating), (Some(0), Some(1), Some(2)));
}

#[test]
fn columns_of_another_kind_are_refused() {
    let model = fit(&rows(&[("u", integers(&[1])), ("i", integers(&[1]))]), &usual(&[])).model;
    assert!(model.score(&[doubles(&[1.0]), integers(&[1])]).is_err());
    assert!(model.score(&[integers(&[1])]).is_err());
}

#[test]
fn extreme_ratings_and_options_stay_finite() {
    let rows = rows(&[
        ("u", integers(&[1, 1, 2, 3])),
        ("i", integers(&[1, 2, 2, 3])),
        ("r", doubles(&[1e300, 1e-300, 5.0, 1e12])),
    ]);
    for more in [
        vec![],
        vec![("l2", Value::Float(0.0)), ("unobserved_weight", Value::Float(0.0))],
        vec![
            ("alpha", Value::Float(1e12)),
            ("factors", Value::Int(1024)),
            ("iterations", Value::Int(2)),
        ],
        vec![("alpha", Value::Float(0.0))],
        vec![("l2", Value::Float(1e12))],
        vec![
            ("frequency_exponent", Value::Float(0.0)),
            ("unobserved_weight", Value::Float(1.0)),
        ],
    ] {
        let mut named = vec![("rating", text("r"))];
        named.extend(more);
        let fitted = fit(&rows, &usual(&named));
        let ranked = recommend(fitted.model.as_ref(), &integers(&[1, 2, 3]), 9, false);
        assert!(ranked.scores.iter().all(|s| s.is_finite()), "{named:?}: {ranked:?}");
        assert!(
            fitted.info.passes.iter().all(|p| p.loss.is_some_and(f64::is_finite)),
            "{named:?}"
        );
    }
}

#[test]
fn the_loss_falls() {
    let (users, items) = two_tastes();
    let fitted = fit(
        &rows(&[("u", integers(&users)), ("i", integers(&items))]),
        &both_methods()[0],
    );
    assert_eq!(fitted.info.passes.len(), 15);
    for pair in fitted.info.passes.windows(2) {
        assert!(pair[1].loss.unwrap() <= pair[0].loss.unwrap() * (1.0 + 1e-5));
        assert_eq!(pair[1].iteration, pair[0].iteration + 1);
    }
}

#[test]
fn ease_is_its_closed_form() {
    // XᵀX + I = [[3, 1], [1, 2]]; P = [[.4, -.2], [-.2, .6]]; B = [[0, .2/.6], [.2/.4, 0]].
    let rows = rows(&[("u", integers(&[1, 2, 2])), ("i", integers(&[1, 1, 2]))]);
    let fitted = fit(&rows, &usual(&[("method", text("ease")), ("l2", Value::Float(1.0))]));
    let ranked = recommend(fitted.model.as_ref(), &integers(&[1, 2]), 2, false);
    let expected = [1.0 / 3.0, 0.0, 0.5, 1.0 / 3.0];
    for (score, expected) in ranked.scores.iter().zip(expected) {
        assert!((score - expected).abs() < 1e-6, "{ranked:?}");
    }
    assert_eq!(ranked.items.as_primitive::<Int32Type>().values()[..], [2, 1, 1, 2]);
    // ‖X − XB‖² + ‖B‖² over three pairs.
    let direct = (1.0f64 + (1.0 / 3.0f64).powi(2) + 0.25 + (2.0 / 3.0f64).powi(2) + 1.0 / 9.0 + 0.25) / 3.0;
    assert!((fitted.info.passes[0].loss.unwrap() - direct).abs() < 1e-12);
}

#[test]
fn asks_for_memory_and_can_be_cancelled() {
    struct Stingy;
    impl MemoryBudget for Stingy {
        fn take(&self, _bytes: usize, what: &str) -> Result<()> {
            Err(Error::memory(format!("no memory for {what}")))
        }
    }
    let rows = rows(&[("u", integers(&[1, 2])), ("i", integers(&[1, 1]))]);
    assert_eq!(
        fit_with(&rows, &usual(&[]), 1, &Stingy).unwrap_err().kind(),
        ErrorKind::Memory
    );

    /// Cancels after the first pass.
    #[derive(Debug)]
    struct Impatient(Arc<AtomicBool>, Mutex<usize>);
    impl Observer for Impatient {
        fn pass(&self, _pass: &Pass) {
            *self.1.lock().unwrap() += 1;
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let cancel = Arc::new(AtomicBool::new(false));
    let observer = Impatient(Arc::clone(&cancel), Mutex::new(0));
    let context = FitContext {
        compute: &Compute::cpu(&pool, &cancel),
        seed: 1,
        observer: &observer,
        memory: &UnlimitedMemory,
        start: None,
    };
    let options = usual(&[]);
    let roles = Factorization.roles(&rows.schema(), &options).unwrap();
    let error = Factorization.fit(&rows, &roles, &options, &context).unwrap_err();
    assert_eq!((error.kind(), *observer.1.lock().unwrap()), (ErrorKind::Cancelled, 1));
}

#[test]
fn popularity_is_the_baseline_of_recall() {
    let (users, items) = two_tastes();
    let model = fit(
        &rows(&[("u", integers(&users)), ("i", integers(&items))]),
        &both_methods()[0],
    )
    .model;
    // What is left of a user's taste is found before the rest.
    let ranked = recommend(model.as_ref(), &integers(&[0]), 2, true);
    let found: Vec<i32> = ranked.items.as_primitive::<Int32Type>().values().to_vec();
    assert_eq!(ranking::recall_at_k(&found, &HashSet::from([0, 1]), 2), Some(1.0));
}
