//! What k-means finds, and that neither threads nor the order of the rows show.

use std::sync::atomic::AtomicBool;

use datafusion::arrow::array::StringArray;

use super::*;
use crate::kernels::compute::Compute;
use crate::models::{Silent, UnlimitedMemory};

pub(super) fn number(values: impl IntoIterator<Item = f64>) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values(values))
}

pub(super) fn options(named: &[(&str, Value)]) -> Options {
    Options::parse(
        VERB,
        OPTIONS,
        named.iter().map(|(k, v)| (k.to_string(), v.clone())).collect(),
    )
    .unwrap()
}

pub(super) fn fit_with(columns: &[ArrayRef], options: &Options, threads: usize) -> Result<(KMeansModel, TrainingInfo)> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let cancel = AtomicBool::new(false);
    let context = FitContext {
        compute: &Compute::cpu(&pool, &cancel),
        seed: 42,
        observer: &Silent,
        memory: &UnlimitedMemory,
        start: None,
    };
    let fields: Vec<Field> = columns
        .iter()
        .enumerate()
        .map(|(i, c)| Field::new(format!("f{i}"), c.data_type().clone(), true))
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns.to_vec())?;
    let roles = KMeans.roles(&schema, options)?;
    fit(&MemoryRows::new(schema, vec![batch]), &roles, options, &context)
}

pub(super) fn segments(model: &KMeansModel, columns: &[ArrayRef]) -> Vec<i64> {
    model
        .score(columns)
        .unwrap()
        .as_primitive::<Int64Type>()
        .values()
        .to_vec()
}

pub(super) fn distances(model: &KMeansModel, columns: &[ArrayRef]) -> Vec<f64> {
    model.verb_columns(columns).unwrap()[1]
        .as_primitive::<Float64Type>()
        .values()
        .to_vec()
}

fn random(seed: u64) -> Pcg64 {
    Pcg64::seed_from_u64(seed)
}

/// Five columns: three numbers around some centres, one constant, one text.
pub(super) fn sample(rows: usize, seed: u64) -> Vec<ArrayRef> {
    let mut random = random(seed);
    let mut numbers = vec![vec![]; 3];
    let mut texts = vec![];
    for _ in 0..rows {
        let group = random.random_range(0..4);
        for (i, n) in numbers.iter_mut().enumerate() {
            let noise: f64 = (0..4).map(|_| random.random::<f64>() - 0.5).sum();
            n.push(f64::from(group * (i as i32 + 1)) * 3.0 + noise);
        }
        texts.push(if random.random::<f64>() < 0.1 {
            None
        } else {
            Some(["a", "b", "c"][(group as usize + random.random_range(0..2)) % 3])
        });
    }
    let mut columns: Vec<ArrayRef> = numbers.into_iter().map(number).collect();
    columns.push(number(vec![7.0; rows]));
    columns.push(Arc::new(StringArray::from(texts)));
    columns
}

pub(super) fn shuffled(columns: &[ArrayRef], seed: u64) -> Vec<ArrayRef> {
    let mut random = random(seed);
    let mut order: Vec<u32> = (0..columns[0].len() as u32).collect();
    for i in (1..order.len()).rev() {
        order.swap(i, random.random_range(0..=i));
    }
    let order = datafusion::arrow::array::UInt32Array::from(order);
    columns
        .iter()
        .map(|c| datafusion::arrow::compute::take(c, &order, None).unwrap())
        .collect()
}

#[test]
fn ten_customers_from_the_first_three_rows() {
    let first = [0.2, 0.3, 0.1, 0.4, 0.2, 0.5, 0.3, 0.1, 0.4, 0.2];
    let tenth = |x: f64, i: usize| (x * 10.0 + i as f64).round() / 10.0;
    let columns: Vec<ArrayRef> = (0..5).map(|i| number(first.map(|x| tenth(x, i)))).collect();
    let rows = (0..3)
        .map(|r| Value::List((0..5).map(|i| Value::Float(tenth(first[r], i))).collect()))
        .collect();
    let options = options(&[
        ("k", Value::Int(3)),
        ("standardize", Value::Bool(false)),
        ("init", Value::List(rows)),
    ]);
    let (model, info) = fit_with(&columns, &options, 1).unwrap();
    assert_eq!(segments(&model, &columns), [2, 1, 3, 1, 2, 1, 1, 3, 1, 2]);
    assert!(info.notices.is_empty());
    let centroids = model.centroids(false);
    assert_eq!(centroids.iter().map(|c| c.size).collect::<Vec<_>>(), [5, 3, 2]);
    for (c, x) in centroids.iter().zip([0.38, 0.2, 0.1]) {
        assert!((c.numbers[0].1 - x).abs() < 1e-7, "{c:?}");
    }
}

#[test]
fn neither_threads_nor_the_order_of_rows_show() {
    let columns = sample(30_000, 1);
    for distance in ["euclidean", "cosine"] {
        let options = options(&[("k", Value::Int(6)), ("distance", Value::Text(distance.into()))]);
        let (model, info) = fit_with(&columns, &options, 1).unwrap();
        assert_eq!(model.sizes.iter().sum::<i64>(), 30_000);
        for (threads, columns) in [(2, columns.clone()), (7, shuffled(&columns, 5))] {
            let (other, _) = fit_with(&columns, &options, threads).unwrap();
            let pairs = other.centroids.values().iter().zip(model.centroids.values());
            assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-9));
            assert_eq!(segments(&other, &columns), segments(&model, &columns));
        }
        let inertia: f64 = distances(&model, &columns).iter().map(|d| d * d).sum();
        let loss = info.passes.last().and_then(|p| p.loss).unwrap();
        assert!(
            (inertia / 30_000.0 - loss).abs() < 1e-12 * loss.max(1.0),
            "{inertia} {loss}"
        );
        let clusters = &info.passes.last().unwrap().clusters;
        let mut sizes = vec![0; 6];
        segments(&model, &columns)
            .iter()
            .for_each(|s| sizes[*s as usize - 1] += 1);
        assert_eq!(clusters.iter().map(|c| c.2).collect::<Vec<i64>>(), sizes);
        assert!(sizes.windows(2).all(|w| w[0] >= w[1]));
    }
}

#[test]
fn losses_of_the_passes_never_rise() {
    let columns = sample(5_000, 2);
    for distance in ["euclidean", "cosine"] {
        let options = options(&[
            ("k", Value::Int(9)),
            ("init", Value::Text("Random".into())),
            ("starts", Value::Int(3)),
            ("tolerance", Value::Int(0)),
            ("distance", Value::Text(distance.into())),
        ]);
        let (model, info) = fit_with(&columns, &options, 2).unwrap();
        for run in 0..3 {
            let losses: Vec<f64> = info
                .passes
                .iter()
                .filter(|p| p.training_run == run)
                .filter_map(|p| p.loss)
                .collect();
            assert!(
                losses.len() > 2 && losses.windows(2).all(|w| w[1] <= w[0] * (1.0 + 1e-9)),
                "{losses:?}"
            );
            assert!(model.mean_squared_distance() <= losses[losses.len() - 1]);
        }
    }
}

#[test]
fn fewer_distinct_rows_than_k_are_fewer_segments_and_a_notice() {
    let columns = [
        number([1.0, 2.0, 1.0, 3.0, 1.0, 2.0]),
        number([0.1, 0.2, 0.1, 0.3, 0.1, 0.2]),
    ];
    for init in ["kmeans++", "random"] {
        let options = options(&[("k", Value::Int(5)), ("init", Value::Text(init.into()))]);
        let (model, info) = fit_with(&columns, &options, 1).unwrap();
        assert_eq!(segments(&model, &columns), [1, 2, 1, 3, 1, 2]);
        assert_eq!(
            info.notices,
            ["the rows have only 3 distinct combinations of features, so there are 3 segments instead of 5"]
        );
        assert!(distances(&model, &columns).iter().all(|d| *d < 1e-7));
    }
    let given = Value::List(
        (0..4)
            .map(|_| Value::List(vec![Value::Int(1), Value::Float(0.1)]))
            .collect(),
    );
    let (model, info) = fit_with(&columns, &options(&[("k", Value::Int(4)), ("init", given)]), 1).unwrap();
    assert_eq!(
        (segments(&model, &columns), info.notices.len()),
        (vec![1, 2, 1, 3, 1, 2], 1)
    );
}

#[test]
fn an_empty_cluster_gets_the_farthest_row() {
    let columns = [number([0.0, 0.1, 0.2, 10.0, 10.1, 50.0])];
    let far = |x: f64| Value::List(vec![Value::Float(x)]);
    let given = Value::List(vec![far(0.0), far(10.0), far(-900.0)]);
    let options = options(&[
        ("k", Value::Int(3)),
        ("init", given),
        ("standardize", Value::Bool(false)),
    ]);
    let (model, _) = fit_with(&columns, &options, 1).unwrap();
    assert_eq!(segments(&model, &columns), [1, 1, 1, 2, 2, 3]);
}

#[test]
fn cosine_knows_directions_alone() {
    let columns = [
        number([1.0, 2.0, 300.0, 0.0, 0.0, 0.0]),
        number([0.0, 0.0, 0.0, 1.0, 70.0, 0.0]),
    ];
    let options = options(&[
        ("k", Value::Int(4)),
        ("distance", Value::Text("cosine".into())),
        ("standardize", Value::Bool(false)),
    ]);
    let (model, info) = fit_with(&columns, &options, 1).unwrap();
    let (found, far) = (segments(&model, &columns), distances(&model, &columns));
    assert_eq!((found[0], found[1], found[3]), (found[2], found[2], found[4]));
    assert_ne!(found[0], found[3]);
    assert!(far[..5].iter().all(|d| *d < 1e-7), "{far:?}");
    assert_eq!(far[5], 1.0);
    assert_eq!((model.ids.len(), info.notices.len()), (2, 1));
}

#[test]
fn a_stored_model_scores_the_same_to_the_bit() {
    let columns = sample(2_000, 3);
    for distance in ["euclidean", "cosine"] {
        let options = options(&[("k", Value::Int(7)), ("distance", Value::Text(distance.into()))]);
        let (model, _) = fit_with(&columns, &options, 2).unwrap();
        let mut artefact = Artefact {
            name: "m".into(),
            features: model.feature_columns().to_vec(),
            options: options.clone(),
            parts: model.parts().unwrap(),
        };
        let loaded = KMeans.load(&artefact).unwrap();
        assert_eq!(
            &loaded.verb_columns(&columns).unwrap(),
            &model.verb_columns(&columns).unwrap()
        );
        let none = Options::default();
        let predicted = model.predict_columns(&columns, &none).unwrap();
        assert_eq!(&loaded.predict_columns(&columns, &none).unwrap(), &predicted);
        for (array, field) in predicted.iter().zip(model.predict_fields()) {
            assert_eq!(array.data_type(), field.data_type());
        }
        let lists = predicted[1].as_list::<i32>();
        for (row, d) in distances(&model, &columns).iter().enumerate() {
            let list = lists.value(row);
            let near = list.as_struct();
            let ids = near.column(0).as_primitive::<Int64Type>();
            let far = near.column(1).as_primitive::<Float64Type>();
            assert_eq!(
                (ids.len(), ids.value(0), far.value(0)),
                (5, segments(&model, &columns)[row], *d)
            );
            assert!(far.values().windows(2).all(|w| w[0] <= w[1] * (1.0 + 1e-6)));
        }
        artefact.parts.tables.retain(|(name, _)| name != "centroids");
        let error = KMeans.load(&artefact).unwrap_err().to_string();
        assert!(error.contains("its part 'centroids' is missing"), "{error}");
    }
}

#[test]
fn null_and_unseen_values_are_scored() {
    let columns = sample(500, 4);
    let (model, _) = fit_with(&columns, &options(&[("k", Value::Int(3))]), 1).unwrap();
    let mut odd: Vec<ArrayRef> = (0..4)
        .map(|_| Arc::new(Float64Array::from(vec![None, Some(f64::NAN)])) as ArrayRef)
        .collect();
    odd.push(Arc::new(StringArray::from(vec![None, Some("never seen")])));
    assert!(segments(&model, &odd).iter().all(|s| (1..=3).contains(s)));
    assert!(distances(&model, &odd).iter().all(|d| d.is_finite()));
}

#[test]
fn far_from_zero_without_standardising() {
    let mut random = random(6);
    let x: Vec<f64> = (0..1000)
        .map(|i| 1e9 + f64::from(i % 4) * 10.0 + random.random::<f64>())
        .collect();
    let columns = [number(x)];
    let (model, _) = fit_with(
        &columns,
        &options(&[("k", Value::Int(4)), ("standardize", Value::Bool(false))]),
        2,
    )
    .unwrap();
    assert_eq!(model.sizes, [250; 4]);
    assert!(model.mean_squared_distance() < 0.1);
    // Equal sizes: numbered by centroid.
    let at: Vec<f64> = model.centroids(false).iter().map(|c| c.numbers[0].1 - 1e9).collect();
    assert!(
        at.windows(2).all(|w| w[0] < w[1]) && (at[0] - 0.5).abs() < 0.1,
        "{at:?}"
    );
}

#[test]
fn many_clusters_are_seeded_from_a_sample() {
    let mut random = random(7);
    let columns: Vec<ArrayRef> = (0..2)
        .map(|_| number((0..70_000).map(|_| random.random::<f64>())))
        .collect();
    let options = options(&[("k", Value::Int(150)), ("max_iterations", Value::Int(3))]);
    let (model, info) = fit_with(&columns, &options, 2).unwrap();
    assert_eq!((model.ids.len(), info.notices.len()), (150, 0));
}

#[test]
fn cancellation_stops_the_fit() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let cancel = AtomicBool::new(true);
    let context = FitContext {
        compute: &Compute::cpu(&pool, &cancel),
        seed: 1,
        observer: &Silent,
        memory: &UnlimitedMemory,
        start: None,
    };
    let error = fit_arrays(
        &[number([1.0, 2.0])],
        &["a".into()],
        &options(&[("k", Value::Int(2))]),
        &context,
    )
    .unwrap_err();
    assert_eq!(error.kind(), crate::error::ErrorKind::Cancelled);
}

#[test]
fn given_centroids_are_checked_when_planned() {
    let schema = Schema::new(vec![
        Field::new("a", DataType::Float64, true),
        Field::new("b", DataType::Int32, true),
    ]);
    let row = |values: &[f64]| Value::List(values.iter().map(|v| Value::Float(*v)).collect());
    let check = |init: Value| {
        let options = options(&[("k", Value::Int(2)), ("init", init)]);
        KMeans.roles(&schema, &options).map(|_| ()).map_err(|e| e.to_string())
    };
    assert_eq!(check(Value::List(vec![row(&[1.0, 2.0]), row(&[3.0, 4.0])])), Ok(()));
    let message = |init: Value| check(init).unwrap_err();
    assert!(message(Value::List(vec![row(&[1.0, 2.0])])).contains("lists 1 centroids but k is 2"));
    assert!(
        message(Value::List(vec![row(&[1.0, 2.0]), row(&[3.0])]))
            .contains("centroid 2 of option 'init' has 1 numbers, not 2")
    );
    assert!(message(Value::List(vec![row(&[1.0, 2.0]), Value::Int(3)])).contains("is a whole number, not a list"));
    assert!(message(Value::Text("kmean".into())).contains("did you mean 'kmeans++'?"));
    let text = Schema::new(vec![Field::new("a", DataType::Utf8, true)]);
    let named = options(&[("k", Value::Int(1)), ("init", Value::List(vec![row(&[1.0])]))]);
    let error = KMeans.roles(&text, &named).unwrap_err().to_string();
    assert!(error.contains("column 'a' is of type Utf8"), "{error}");
}
