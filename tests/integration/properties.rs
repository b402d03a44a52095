//! Properties that hold for every model: the same model whatever the partitions, threads and order of the rows; scores that
//! survive storing to the bit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use datafusion::arrow::array::{
    Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, UInt64Array, as_primitive_array,
};
use datafusion::arrow::compute::{cast, concat_batches, take_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Schema};
use datafusion_ml::device::Preference;
use datafusion_ml::device::testing::{cards, offer_of};
use datafusion_ml::kernels::compute::Compute;
use datafusion_ml::models::{
    FitContext, Fitted, MODELS, MemoryRows, ModelType, Parts, RecommendContext, Roles, Silent, UnlimitedMemory,
};
use datafusion_ml::options::{Options, Value};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// Rows that every model type can learn from: two clouds, a label, users and items, with NULLs anywhere.
fn table(rows: usize) -> RecordBatch {
    let mut state = 12345u64;
    let mut next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as f64 / (1u64 << 31) as f64
    };
    let (mut x, mut y, mut c, mut label, mut user, mut item) = (vec![], vec![], vec![], vec![], vec![], vec![]);
    for i in 0..rows {
        let side = next() < 0.4;
        let base = if side { 3.0 } else { -1.0 };
        x.push((i % 17 != 0).then(|| base + next() * 2.0));
        y.push((i % 23 != 0).then(|| 1.7e9 + base * 1e5 + next() * 3e5));
        c.push((i % 13 != 0).then(|| format!("c{}", (next() * if side { 3.0 } else { 6.0 }) as u32)));
        label.push((i % 19 != 0).then(|| {
            if next() < if side { 0.75 } else { 0.2 } {
                "Yes"
            } else {
                "No"
            }
        }));
        user.push((i % 29 != 0).then(|| (next() * 80.0) as i64));
        item.push((i % 31 != 0).then(|| format!("i{}", (next() * next() * 40.0) as u32)));
    }
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("x", Arc::new(Float64Array::from(x))),
        ("y", Arc::new(Float64Array::from(y))),
        ("c", Arc::new(StringArray::from(c))),
        ("label", Arc::new(StringArray::from(label))),
        ("user", Arc::new(Int64Array::from(user))),
        ("item", Arc::new(StringArray::from(item))),
    ];
    let schema = Schema::new(
        columns
            .iter()
            .map(|(n, a)| Field::new(*n, a.data_type().clone(), true))
            .collect::<Vec<_>>(),
    );
    RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|(_, a)| a).collect()).unwrap()
}

/// The types that learn from features: a transform alone has none.
fn models() -> impl Iterator<Item = &'static &'static dyn ModelType> {
    MODELS.iter().filter(|m| !m.needs_transform())
}

fn options_of(model_type: &dyn ModelType) -> Options {
    let text = |t: &str| Value::Text(t.into());
    let features = (
        "features".to_string(),
        Value::List(vec![text("x"), text("y"), text("c")]),
    );
    let named = match model_type.name() {
        "kmeans" => vec![("k".into(), Value::Int(4)), features],
        "logistic_reg" => vec![("label".into(), text("label")), features],
        "linear_reg" | "polynomial_reg" => vec![
            ("label".into(), text("y")),
            ("features".into(), Value::List(vec![text("x"), text("c")])),
        ],
        "matrix_factorization" => {
            vec![
                ("user".into(), text("user")),
                ("item".into(), text("item")),
                ("factors".into(), Value::Int(8)),
            ]
        }
        "pca" => vec![("num_principal_components".into(), Value::Int(3)), features],
        // Few enough that the larger tables are summed up in micro-clusters.
        "hierarchical" => vec![
            ("num_clusters".into(), Value::Int(4)),
            ("max_exact_rows".into(), Value::Int(1000)),
            features,
        ],
        other => panic!("say how to fit a {other} here, so that it is tested like the others"),
    };
    Options::parse("test", model_type.options(), named).unwrap()
}

/// Fits over `batch` cut into `parts` batches, with as many threads.
fn fit(model_type: &dyn ModelType, batch: &RecordBatch, parts: usize) -> Fitted {
    let step = batch.num_rows().div_ceil(parts);
    let batches = (0..batch.num_rows())
        .step_by(step)
        .map(|at| batch.slice(at, step.min(batch.num_rows() - at)))
        .collect();
    let rows = MemoryRows::new(batch.schema(), batches);
    let options = options_of(model_type);
    let roles = model_type.roles(&batch.schema(), &options).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(parts).build().unwrap();
    let cancel = AtomicBool::new(false);
    fit_by(model_type, &rows, &roles, &options, &Compute::cpu(&pool, &cancel))
}

fn fit_by(
    model_type: &dyn ModelType,
    rows: &MemoryRows,
    roles: &Roles,
    options: &Options,
    compute: &Compute<'_>,
) -> Fitted {
    let context = FitContext {
        compute,
        seed: 42,
        observer: &Silent,
        memory: &UnlimitedMemory,
        start: None,
    };
    model_type.fit(rows, roles, options, &context).unwrap()
}

/// Every number of a model's parts, by table and column.
fn parameters(parts: &Parts) -> BTreeMap<String, Vec<f64>> {
    fn numbers(name: String, array: &ArrayRef, out: &mut BTreeMap<String, Vec<f64>>) {
        match array.data_type() {
            DataType::Float64 => {
                let a = as_primitive_array::<Float64Type>(array);
                out.insert(
                    name,
                    (0..a.len())
                        .map(|i| if a.is_null(i) { -7.0 } else { a.value(i) })
                        .collect(),
                );
            }
            DataType::Float32 => {
                let a = as_primitive_array::<Float32Type>(array);
                out.insert(name, a.values().iter().map(|v| f64::from(*v)).collect());
            }
            t if t.is_integer() => numbers(name, &cast(array, &DataType::Float64).unwrap(), out),
            DataType::FixedSizeList(_, _) => {
                let list = array
                    .as_any()
                    .downcast_ref::<datafusion::arrow::array::FixedSizeListArray>()
                    .unwrap();
                numbers(format!("{name}[]"), list.values(), out);
            }
            DataType::List(_) => {
                let list = array
                    .as_any()
                    .downcast_ref::<datafusion::arrow::array::ListArray>()
                    .unwrap();
                numbers(format!("{name}[]"), list.values(), out);
            }
            _ => {}
        }
    }
    let mut out = BTreeMap::new();
    for (table, batch) in &parts.tables {
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            numbers(format!("{table}.{}", field.name()), column, &mut out);
        }
    }
    out
}

fn assert_same_parameters(name: &str, a: &Fitted, b: &Fitted) {
    assert_near_parameters(name, a, b, 1e-9);
}

fn assert_near_parameters(name: &str, a: &Fitted, b: &Fitted, tolerance: f64) {
    let (a, b) = (
        parameters(&a.model.parts().unwrap()),
        parameters(&b.model.parts().unwrap()),
    );
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    assert!(
        a.values().map(Vec::len).sum::<usize>() > 4,
        "{name} has parameters to compare"
    );
    for (key, left) in &a {
        let right = &b[key];
        assert_eq!(left.len(), right.len(), "{name}: {key}");
        for (l, r) in left.iter().zip(right) {
            assert!(
                (l - r).abs() <= tolerance * l.abs().max(1.0),
                "{name}: {key}: {l} and {r}"
            );
        }
    }
}

fn score_columns(fitted: &Fitted, batch: &RecordBatch) -> Vec<ArrayRef> {
    let columns: Vec<ArrayRef> = fitted
        .model
        .feature_columns()
        .iter()
        .map(|c| Arc::clone(batch.column_by_name(&c.name).unwrap()))
        .collect();
    fitted.model.verb_columns(&columns).unwrap()
}

#[test]
fn partitions_and_threads_change_nothing() {
    let batch = table(5000);
    for model_type in models() {
        let one = fit(*model_type, &batch, 1);
        for parts in [2, 7] {
            let other = fit(*model_type, &batch, parts);
            assert_same_parameters(model_type.name(), &one, &other);
            assert_eq!(
                score_columns(&one, &batch)[0].to_data(),
                score_columns(&other, &batch)[0].to_data()
            );
        }
    }
}

/// On cards whose kernels are the CUDA sources, run on the CPU, and their twins in Rust.
#[test]
fn a_card_gives_the_model_that_the_threads_give() {
    let batch = table(3000);
    let rows = MemoryRows::new(batch.schema(), vec![batch.clone()]);
    for model_type in models() {
        let options = options_of(*model_type);
        let roles = model_type.roles(&batch.schema(), &options).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let cancel = AtomicBool::new(false);
        let host = fit_by(*model_type, &rows, &roles, &options, &Compute::cpu(&pool, &cancel));
        for (card, driver) in cards(1 << 30) {
            let offer = offer_of(&driver);
            let compute = Compute::with_card(&pool, &cancel, Preference::Cuda, &offer, 0);
            let fitted = fit_by(*model_type, &rows, &roles, &options, &compute);
            let name = format!("{} by {card}", model_type.name());
            assert!(
                compute.was_served() && compute.notices().is_empty(),
                "{name}: {:?}",
                compute.notices()
            );
            assert_near_parameters(&name, &host, &fitted, 1e-5);
        }
    }
}

#[test]
fn the_order_of_the_rows_changes_nothing() {
    let batch = table(5000);
    for model_type in models() {
        let one = fit(*model_type, &batch, 2);
        for seed in 0..3 {
            let mut order: Vec<u64> = (0..batch.num_rows() as u64).collect();
            order.shuffle(&mut StdRng::seed_from_u64(seed));
            let shuffled = take_record_batch(&batch, &UInt64Array::from(order.clone())).unwrap();
            let other = fit(*model_type, &shuffled, 3);
            assert_same_parameters(model_type.name(), &one, &other);
            if model_type.name() == "kmeans" {
                assert_eq!(
                    score_columns(&one, &batch)[0].to_data(),
                    score_columns(&other, &batch)[0].to_data()
                );
            }
            if let (Some(a), Some(b)) = (&one.row_scores, &other.row_scores) {
                for (at, row) in order.iter().enumerate() {
                    assert!(
                        (a[*row as usize] - b[at]).abs() < 1e-9,
                        "out-of-fold scores move with their rows"
                    );
                }
            }
        }
    }
}

#[test]
fn another_seed_may_give_another_model_and_the_same_seed_does_not() {
    let batch = table(2000);
    for model_type in models() {
        assert_same_parameters(
            model_type.name(),
            &fit(*model_type, &batch, 2),
            &fit(*model_type, &batch, 2),
        );
    }
}

#[test]
fn scores_of_a_batch_are_those_of_its_rows() {
    // A row's score depends neither on its neighbours nor on where a batch begins.
    let batch = table(1000);
    for model_type in models() {
        let fitted = fit(*model_type, &batch, 2);
        let whole = score_columns(&fitted, &batch);
        let pieces: Vec<RecordBatch> = [(0, 1), (1, 332), (333, 667)]
            .into_iter()
            .map(|(at, n)| {
                let columns = score_columns(&fitted, &batch.slice(at, n));
                let fields: Vec<Field> = columns
                    .iter()
                    .enumerate()
                    .map(|(i, c)| Field::new(format!("{i}"), c.data_type().clone(), true))
                    .collect();
                RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
            })
            .collect();
        let joined = concat_batches(&pieces[0].schema(), &pieces).unwrap();
        for (a, b) in whole.iter().zip(joined.columns()) {
            assert_eq!(a.to_data(), b.to_data(), "{}", model_type.name());
        }
    }
}

#[test]
fn unseen_and_null_values_score() {
    let batch = table(1000);
    let odd = RecordBatch::try_new(
        batch.schema(),
        vec![
            Arc::new(Float64Array::from(vec![
                None,
                Some(f64::NAN),
                Some(f64::INFINITY),
                Some(-1e300),
            ])),
            Arc::new(Float64Array::from(vec![
                None,
                Some(f64::NEG_INFINITY),
                Some(0.0),
                Some(1e300),
            ])),
            Arc::new(StringArray::from(vec![None, Some("unseen"), Some(""), Some("c1")])),
            Arc::new(StringArray::from(vec![None::<&str>; 4])),
            Arc::new(Int64Array::from(vec![None, Some(-1), Some(i64::MAX), Some(1)])),
            Arc::new(StringArray::from(vec![None, Some("unseen"), Some(""), Some("i1")])),
        ],
    )
    .unwrap();
    for model_type in models() {
        let fitted = fit(*model_type, &batch, 2);
        for column in score_columns(&fitted, &odd) {
            assert_eq!(column.len(), 4, "{}", model_type.name());
        }
        if let Some(recommender) = fitted.model.recommender() {
            let cancel = AtomicBool::new(false);
            let context = RecommendContext {
                pool: None,
                cancel: &cancel,
            };
            let ranked = recommender.recommend(odd.column(4), 5, true, &context).unwrap();
            assert_eq!(ranked.offsets, [0, 5, 10, 15, 20]);
        } else {
            assert_eq!(score_columns(&fitted, &odd)[0].null_count(), 0, "{}", model_type.name());
        }
    }
}

#[test]
fn a_cancelled_fit_ends() {
    let batch = table(1000);
    for model_type in models() {
        let options = options_of(*model_type);
        let roles = model_type.roles(&batch.schema(), &options).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let cancel = AtomicBool::new(true);
        let context = FitContext {
            compute: &Compute::cpu(&pool, &cancel),
            seed: 1,
            observer: &Silent,
            memory: &UnlimitedMemory,
            start: None,
        };
        let rows = MemoryRows::new(batch.schema(), vec![batch.clone()]);
        let error = model_type.fit(&rows, &roles, &options, &context).unwrap_err();
        assert_eq!(
            error.kind(),
            datafusion_ml::ErrorKind::Cancelled,
            "{}",
            model_type.name()
        );
    }
}
