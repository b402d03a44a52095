//! The clusters against scipy's, against the rows' order, and through storage.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, UInt32Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;

use super::*;
use crate::kernels::compute::Compute;
use crate::models::{MemoryBudget, MemoryRows, Silent, UnlimitedMemory};
use crate::options::Value;

const LINKAGES: [&str; 4] = ["ward", "average", "complete", "single"];

fn number(values: impl IntoIterator<Item = f64>) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values(values))
}

fn text(word: &str) -> Value {
    Value::Text(word.into())
}

fn options(named: &[(&str, Value)]) -> Options {
    let named = named.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
    Options::parse(NAME, OPTIONS, named).unwrap()
}

fn rows_of(columns: &[ArrayRef], batch_rows: usize) -> MemoryRows {
    let of = |(i, c): (usize, &ArrayRef)| Field::new(format!("f{i}"), c.data_type().clone(), true);
    let schema = Arc::new(Schema::new(columns.iter().enumerate().map(of).collect::<Vec<_>>()));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns.to_vec()).unwrap();
    let batches = (0..batch.num_rows())
        .step_by(batch_rows)
        .map(|at| batch.slice(at, batch_rows.min(batch.num_rows() - at)))
        .collect();
    MemoryRows::new(schema, batches)
}

fn fit_within(
    columns: &[ArrayRef],
    options: &Options,
    (threads, batch_rows): (usize, usize),
    memory: &dyn MemoryBudget,
) -> Result<(HierarchicalModel, TrainingInfo)> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let cancel = AtomicBool::new(false);
    let context = FitContext {
        compute: &Compute::cpu(&pool, &cancel),
        seed: 42,
        observer: &Silent,
        memory,
        start: None,
    };
    let rows = rows_of(columns, batch_rows);
    let roles = Hierarchical.roles(&rows.schema(), options)?;
    fit(&rows, &roles.features, options, &context)
}

fn fit_with(columns: &[ArrayRef], options: &Options) -> (HierarchicalModel, TrainingInfo) {
    fit_within(columns, options, (2, 1 << 20), &UnlimitedMemory).unwrap()
}

fn ids(model: &HierarchicalModel, columns: &[ArrayRef]) -> Vec<i64> {
    let scores = model.score(columns).unwrap();
    scores.as_primitive::<Int64Type>().values().to_vec()
}

/// Labels in the order in which they are first seen.
fn by_first<T: PartialEq + Copy>(labels: &[T]) -> Vec<usize> {
    let mut seen: Vec<T> = vec![];
    let mut number = |label: &T| {
        seen.iter().position(|s| s == label).unwrap_or_else(|| {
            seen.push(*label);
            seen.len() - 1
        })
    };
    labels.iter().map(&mut number).collect()
}

fn merges(model: &HierarchicalModel) -> RecordBatch {
    model.describe("MERGES", &Options::default()).unwrap().unwrap()
}

fn doubles(batch: &RecordBatch, name: &str) -> Vec<f64> {
    let column = batch.column_by_name(name).unwrap();
    column.as_primitive::<Float64Type>().values().to_vec()
}

fn whole(batch: &RecordBatch, name: &str) -> Vec<Option<i64>> {
    let column = batch.column_by_name(name).unwrap();
    column.as_primitive::<Int64Type>().iter().collect()
}

/// Four numbers around one of five centres and a text, some of them NULL, and some rows twice.
fn sample(rows: usize, seed: u64) -> Vec<ArrayRef> {
    let mut random = Pcg64::seed_from_u64(seed);
    let (mut numbers, mut texts) = (vec![vec![]; 4], vec![]);
    for row in 0..rows {
        let group = random.random_range(0..5u32);
        for (i, n) in numbers.iter_mut().enumerate() {
            let noise: f64 = (0..3).map(|_| random.random::<f64>() - 0.5).sum();
            n.push((row % 31 != i).then_some(f64::from(group * (i as u32 + 1) % 7) * 3.0 + noise));
        }
        texts.push((row % 17 != 0).then_some(["a", "b", "c"][(group as usize + random.random_range(0..2)) % 3]));
    }
    let twice: UInt32Array = (0..rows as u32).chain(0..rows as u32 / 10).collect();
    let mut columns: Vec<ArrayRef> = numbers
        .into_iter()
        .map(|n| Arc::new(Float64Array::from(n)) as ArrayRef)
        .collect();
    columns.push(Arc::new(StringArray::from(texts)));
    columns.iter().map(|c| take(c, &twice, None).unwrap()).collect()
}

#[test]
fn the_clusters_of_scipy() {
    let golden = include_str!("../../../tests/goldens/linkage.csv");
    let (mut columns, mut cuts) = (vec![vec![]; 3], 0);
    // Where each point stands first among the rows.
    let mut firsts = vec![];
    let mut heights: Vec<f64> = vec![];
    for line in golden.lines() {
        let fields: Vec<&str> = line.split(',').collect();
        match fields[0] {
            "data" => {
                firsts.clear();
                columns = vec![vec![]; fields[2].parse().unwrap()];
            }
            "point" => {
                firsts.push(columns[0].len());
                for _ in 0..fields[1].parse::<usize>().unwrap() {
                    for (column, value) in columns.iter_mut().zip(&fields[2..]) {
                        column.push(value.parse::<f64>().unwrap());
                    }
                }
            }
            "heights" => heights = fields[2..].iter().map(|h| h.parse().unwrap()).collect(),
            _ => {
                let arrays: Vec<ArrayRef> = columns.iter().cloned().map(number).collect();
                let options = options(&[
                    ("standardize", Value::Bool(false)),
                    ("linkage", text(fields[1])),
                    ("k", Value::Int(fields[2].parse().unwrap())),
                ]);
                let (model, info) = fit_with(&arrays, &options);
                assert!(info.notices.is_empty(), "{:?}", info.notices);
                let found = ids(&model, &arrays);
                let of_points: Vec<i64> = firsts.iter().map(|row| found[*row]).collect();
                let wanted: Vec<usize> = fields[3..].iter().map(|c| c.parse().unwrap()).collect();
                assert_eq!(by_first(&of_points), wanted, "{} {}", fields[1], fields[2]);
                for (a, b) in doubles(&merges(&model), "height").iter().zip(&heights) {
                    assert!((a - b).abs() <= 1e-5 * b, "{} {a} {b}", fields[1]);
                }
                cuts += 1;
            }
        }
    }
    assert_eq!(cuts, 40);
}

#[test]
fn neither_threads_nor_batches_nor_the_order_of_rows_show() {
    let columns = sample(700, 1);
    let count = columns[0].len();
    let mut order: Vec<u32> = (0..count as u32).collect();
    order.shuffle(&mut Pcg64::seed_from_u64(3));
    let order = UInt32Array::from(order);
    let shuffled: Vec<ArrayRef> = columns.iter().map(|c| take(c, &order, None).unwrap()).collect();
    // Exact, and by micro-clusters.
    for max_exact_rows in [20_000, 100] {
        for linkage in LINKAGES {
            let options = options(&[
                ("linkage", text(linkage)),
                ("num_clusters", Value::Int(6)),
                ("max_exact_rows", Value::Int(max_exact_rows)),
            ]);
            let (model, info) = fit_within(&columns, &options, (1, 5000), &UnlimitedMemory).unwrap();
            let found = ids(&model, &columns);
            assert_eq!(
                info.notices.iter().any(|n| n.contains("in 100 micro-clusters")),
                max_exact_rows == 100
            );
            for (columns, how) in [(&columns, (7, 64)), (&shuffled, (3, 333))] {
                let (other, _) = fit_within(columns, &options, how, &UnlimitedMemory).unwrap();
                assert_eq!(merges(&other), merges(&model), "{linkage} {max_exact_rows}");
                assert_eq!(ids(&other, &self::sample(700, 1)), found);
            }
            // The largest first, and as many rows as the training information says.
            let sizes: Vec<i64> = info.passes[0].clusters.iter().map(|c| c.2).collect();
            let counted: Vec<i64> = (1..=6)
                .map(|id| found.iter().filter(|f| **f == id).count() as i64)
                .collect();
            assert_eq!(sizes, counted, "{linkage} {max_exact_rows}");
            assert!(sizes.windows(2).all(|w| w[0] >= w[1]));
        }
    }
}

#[test]
fn training_rows_get_their_own_cluster_whatever_its_shape() {
    // Two rings around one centre, which only single linkage tells apart, and no centroid does.
    let ring = |radius: f64, n: usize| {
        (0..n).map(move |i| {
            let angle = i as f64 / n as f64 * std::f64::consts::TAU;
            (radius * angle.cos(), radius * angle.sin())
        })
    };
    let points: Vec<(f64, f64)> = ring(1.0, 60).chain(ring(5.0, 300)).collect();
    let columns = [number(points.iter().map(|p| p.0)), number(points.iter().map(|p| p.1))];
    let options = options(&[("linkage", text("single")), ("k", Value::Int(2))]);
    let (model, info) = fit_with(&columns, &options);
    let found = ids(&model, &columns);
    assert!(found[..60].iter().all(|id| *id == 2) && found[60..].iter().all(|id| *id == 1));
    // New rows near a ring are its, though both centroids are in the middle.
    assert_eq!(
        ids(&model, &[number([1.1, 4.9, -4.5]), number([0.1, 0.2, -1.0])]),
        [2, 1, 1]
    );
    let rows = rows_of(&columns, 100);
    let judged = model.assess("EVALUATE", &rows, &Options::default(), &|| false).unwrap();
    let loss = info.passes[0].loss.unwrap();
    assert!((doubles(&judged, "mean_squared_distance")[0] - loss).abs() < 1e-9 * loss);
    let own = model.own_metrics().unwrap();
    assert!((own[1].unwrap() - loss).abs() < 1e-12 * loss);
    assert!((own[0].unwrap() / doubles(&judged, "davies_bouldin_index")[0] - 1.0).abs() < 1e-9);
}

#[test]
fn micro_clusters_give_blobs_that_are_apart() {
    let mut random = Pcg64::seed_from_u64(9);
    let centres = [(0.0, 0.0), (40.0, 5.0), (-10.0, 60.0)];
    // 15,000, 10,000 and 5,000 rows.
    let of_row = |row: usize| [0, 0, 0, 1, 1, 2][row % 6];
    let (mut x, mut y) = (vec![], vec![]);
    for row in 0..30_000 {
        let centre = centres[of_row(row)];
        let mut noise = || (0..4).map(|_| random.random::<f64>() - 0.5).sum::<f64>();
        x.push(centre.0 + noise());
        y.push(centre.1 + noise());
    }
    let columns = [number(x), number(y)];
    for linkage in LINKAGES {
        let options = options(&[("linkage", text(linkage)), ("k", Value::Int(3))]);
        let (model, info) = fit_with(&columns, &options);
        assert_eq!(
            info.notices,
            [
                "the 30,000 distinct rows are more than max_exact_rows, 20,000: they were summed up in 2,000 micro-clusters, and the tree \
              is theirs"
            ]
        );
        let found = ids(&model, &columns);
        let is_right = |(row, id): (usize, &i64)| *id as usize == of_row(row) + 1;
        assert!(found.iter().enumerate().all(is_right), "{linkage}");
        let tree = merges(&model);
        assert_eq!(tree.num_rows(), 1999);
        assert_eq!(whole(&tree, "row_count").last().unwrap(), &Some(30_000));
    }
}

#[test]
fn the_merges_are_a_tree_whose_cut_is_the_clusters() {
    let columns = sample(200, 5);
    let (model, _) = fit_with(&columns, &options(&[("k", Value::Int(4))]));
    let tree = merges(&model);
    let count = tree.num_rows() as i64;
    let leaves = count + 1;
    let numbers: Vec<i64> = whole(&tree, "merge").into_iter().flatten().collect();
    assert_eq!(numbers, (1..=count).collect::<Vec<_>>());
    let (left, right) = (whole(&tree, "left_id"), whole(&tree, "right_id"));
    let mut used: Vec<i64> = left.iter().chain(&right).copied().flatten().collect();
    used.sort_unstable();
    assert_eq!(
        used,
        (1..=2 * leaves - 2).collect::<Vec<_>>(),
        "all but the root are merged once"
    );
    assert!(doubles(&tree, "height").windows(2).all(|w| w[0] <= w[1]));
    assert_eq!(whole(&tree, "row_count").last().unwrap(), &Some(220));
    let clusters = whole(&tree, "centroid_id");
    let (within, above) = clusters.split_at(clusters.len() - 3);
    assert!(within.iter().all(|id| id.is_some_and(|id| (1..=4).contains(&id))));
    assert!(above.iter().all(Option::is_none));
    // The last merge within a cluster has all its rows.
    let found = ids(&model, &columns);
    for id in 1..=4 {
        let last = within.iter().rposition(|i| *i == Some(id)).unwrap();
        let size = found.iter().filter(|f| **f == id).count() as i64;
        assert_eq!(whole(&tree, "row_count")[last], Some(size), "{id}");
    }
}

#[test]
fn a_stored_model_is_the_same_to_the_bit() {
    let columns = sample(400, 7);
    for max_exact_rows in [20_000, 50] {
        let options = options(&[
            ("linkage", text("average")),
            ("max_exact_rows", Value::Int(max_exact_rows)),
        ]);
        let (model, _) = fit_with(&columns, &options);
        let mut artefact = Artefact {
            name: "m".into(),
            features: model.feature_columns().to_vec(),
            options,
            parts: model.parts().unwrap(),
        };
        let loaded = Hierarchical.load(&artefact).unwrap();
        let none = Options::default();
        let predicted = model.predict_columns(&columns, &none).unwrap();
        assert_eq!(loaded.predict_columns(&columns, &none).unwrap(), predicted);
        for (array, field) in predicted.iter().zip(model.predict_fields()) {
            assert_eq!(array.data_type(), field.data_type());
        }
        assert_eq!(
            loaded.score(&columns).unwrap().as_primitive::<Int64Type>(),
            predicted[0].as_primitive::<Int64Type>()
        );
        for word in ["MERGES", "CENTROIDS"] {
            assert_eq!(
                loaded.describe(word, &none).unwrap(),
                model.describe(word, &none).unwrap()
            );
        }
        assert_eq!(model.describe("WEIGHTS", &none).unwrap(), None);
        assert_eq!(loaded.parts().unwrap().tables, artefact.parts.tables);

        let (_, tree) = artefact.parts.tables.iter_mut().find(|(n, _)| n == "merges").unwrap();
        *tree = tree.slice(1, tree.num_rows() - 1);
        let error = Hierarchical.load(&artefact).unwrap_err().to_string();
        assert!(error.contains("its merges are no tree of its"), "{error}");
        artefact.parts.tables.retain(|(name, _)| name != "leaves");
        let error = Hierarchical.load(&artefact).unwrap_err().to_string();
        assert!(error.contains("its part 'leaves' is missing"), "{error}");
    }
}

#[test]
fn a_merge_that_uses_a_cluster_twice_is_corrupt() {
    let columns = [number([0.0, 1.0, 5.0, 9.0])];
    let (model, _) = fit_with(&columns, &options(&[("k", Value::Int(2))]));
    let parts = model.parts().unwrap();
    for (left, right) in [([1, 1, 6], [2, 3, 4]), ([1, 3, 7], [2, 4, 5]), ([0, 3, 5], [2, 4, 6])] {
        let mut artefact = Artefact {
            name: "m".into(),
            features: model.feature_columns().to_vec(),
            options: Options::default(),
            parts: parts.clone(),
        };
        let (_, tree) = artefact.parts.tables.iter_mut().find(|(n, _)| n == "merges").unwrap();
        let mut changed = tree.columns().to_vec();
        changed[0] = Arc::new(datafusion::arrow::array::Int64Array::from(left.to_vec()));
        changed[1] = Arc::new(datafusion::arrow::array::Int64Array::from(right.to_vec()));
        *tree = RecordBatch::try_new(tree.schema(), changed).unwrap();
        let error = Hierarchical.load(&artefact).unwrap_err().to_string();
        assert!(error.contains("no tree of its 4 leaves"), "{error}");
    }
}

#[test]
fn null_and_unseen_values_get_a_cluster() {
    let columns = sample(300, 4);
    let (model, _) = fit_with(&columns, &Options::default());
    let mut odd: Vec<ArrayRef> = (0..4)
        .map(|_| {
            Arc::new(Float64Array::from(vec![
                None,
                Some(f64::NAN),
                Some(f64::INFINITY),
                Some(-1e300),
            ])) as ArrayRef
        })
        .collect();
    odd.push(Arc::new(StringArray::from(vec![
        None,
        Some("never seen"),
        Some("a"),
        Some(""),
    ])));
    let predicted = model.predict_columns(&odd, &Options::default()).unwrap();
    let found = predicted[0].as_primitive::<Int64Type>();
    assert!(found.null_count() == 0 && found.values().iter().all(|id| (1..=8).contains(id)));
    let lists = predicted[1].as_list::<i32>();
    for row in 0..4 {
        let near = lists.value(row);
        let distances = near.as_struct().column(1).as_primitive::<Float64Type>().clone();
        assert_eq!(distances.len(), 5);
        assert!(distances.values().windows(2).all(|w| w[0] <= w[1] * (1.0 + 1e-6)));
    }
}

#[test]
fn few_distinct_rows_are_few_clusters_and_a_notice() {
    let columns = [number([1.0, 2.0, 1.0, 3.0, 1.0, 2.0])];
    for linkage in LINKAGES {
        let (model, info) = fit_with(&columns, &options(&[("linkage", text(linkage))]));
        assert_eq!(ids(&model, &columns), [1, 2, 1, 3, 1, 2]);
        assert_eq!(
            info.notices,
            ["the rows have only 3 distinct combinations of features, so there are 3 clusters instead of 8"]
        );
        assert_eq!(info.passes[0].loss, Some(0.0));
    }
    // One row alone has no merge.
    let (model, _) = fit_with(&[number([5.0])], &options(&[("k", Value::Int(1))]));
    assert_eq!((ids(&model, &[number([7.0])]), merges(&model).num_rows()), (vec![1], 0));
    let artefact = Artefact {
        name: "m".into(),
        features: model.feature_columns().to_vec(),
        options: Options::default(),
        parts: model.parts().unwrap(),
    };
    assert_eq!(
        Hierarchical.load(&artefact).unwrap().parts().unwrap().tables,
        artefact.parts.tables
    );
}

#[test]
fn options_that_make_no_sense_are_refused_when_planned() {
    let schema = Schema::new(vec![Field::new("a", DataType::Float64, true)]);
    let refused = |named: &[(&str, Value)]| Hierarchical.roles(&schema, &options(named)).unwrap_err().to_string();
    let message = refused(&[("k", Value::Int(9)), ("max_exact_rows", Value::Int(5))]);
    assert!(message.contains("write max_exact_rows => 9 or more"), "{message}");
    let message = refused(&[("id", Value::List(vec![text("a")]))]);
    assert!(message.contains("HIERARCHICAL: no feature is left"), "{message}");
    let parsed = |name: &str, value: Value| {
        let parsed = Options::parse(NAME, OPTIONS, vec![(name.to_string(), value)]);
        parsed.unwrap_err().to_string()
    };
    let message = parsed("linkage", text("wards"));
    assert!(message.contains("did you mean 'ward'?"), "{message}");
    let message = parsed("num_clusters", Value::Int(0));
    assert!(message.contains("from 1 to 10,000"), "{message}");
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Float64, true)]));
    let none = MemoryRows::new(schema, vec![]);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let cancel = AtomicBool::new(false);
    let context = FitContext {
        compute: &Compute::cpu(&pool, &cancel),
        seed: 1,
        observer: &Silent,
        memory: &UnlimitedMemory,
        start: None,
    };
    let error = fit(&none, &[0], &Options::default(), &context).unwrap_err();
    assert!(error.to_string().contains("the query gives no rows"), "{error}");
}

/// Grants so many bytes.
struct Limit(Mutex<usize>);

impl MemoryBudget for Limit {
    fn take(&self, bytes: usize, what: &str) -> Result<()> {
        let mut left = self.0.lock().unwrap();
        *left = left
            .checked_sub(bytes)
            .ok_or_else(|| Error::memory(format!("{what} is too much")))?;
        Ok(())
    }
}

#[test]
fn a_tree_of_pairs_that_does_not_fit_says_what_does() {
    let mut random = Pcg64::seed_from_u64(2);
    let columns = [number((0..3000).map(|_| random.random::<f64>()))];
    let fit = |named: &[(&str, Value)]| {
        let limit = Limit(Mutex::new(8_000_000));
        fit_within(&columns, &options(named), (2, 1000), &limit)
    };
    for linkage in ["average", "complete"] {
        let error = fit(&[("linkage", text(linkage))]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Memory);
        let message = error.to_string();
        assert!(
            message
                .starts_with("HIERARCHICAL: the tree of 3,000 leaves needs 18.5 MB, more than the memory limit leaves")
                && message.contains("write linkage => 'ward', which keeps none, or a max_exact_rows below 3,000"),
            "{message}"
        );
    }
    assert!(fit(&[("linkage", text("ward"))]).is_ok());
    let few = [("linkage", text("average")), ("max_exact_rows", Value::Int(500))];
    assert!(fit(&few).is_ok());
}

#[test]
fn cancellation_ends_the_tree() {
    let columns = [number((0..50).map(f64::from))];
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let cancel = AtomicBool::new(false);
    let compute = Compute::cpu(&pool, &cancel);
    let context = FitContext {
        compute: &compute,
        seed: 1,
        observer: &Silent,
        memory: &UnlimitedMemory,
        start: None,
    };
    let rows = rows_of(&columns, 50);
    let settings = Settings::read(&Options::default()).unwrap();
    let encoding = EncoderOptions {
        scaling: Scaling::None,
        center: true,
        max_categories: 10,
    };
    let (encoder, _) = Encoder::learn(&rows, &[0], &encoding, &context).unwrap();
    let leaves = Leaves::distinct(&encoder.encode_rows::<f32>(&rows, &[0], &context).unwrap());
    assert_eq!(tree(&leaves, &settings, &context).unwrap().len(), 49);
    cancel.store(true, std::sync::atomic::Ordering::Relaxed);
    let error = tree(&leaves, &settings, &context).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}
