//! What `CREATE MODEL` asks of k-means: rows to start from, stopping early, a number of segments, anomalies.

use datafusion::arrow::array::{BooleanArray, StringArray};

use super::tests::{distances, fit_with, number, options, sample, segments, shuffled};
use super::*;

fn marks(rows: usize, marked: &[usize]) -> ArrayRef {
    // What is not marked is FALSE or NULL.
    let mark = |row: usize| match marked.contains(&row) {
        true => Some(true),
        false => (!row.is_multiple_of(2)).then_some(false),
    };
    Arc::new((0..rows).map(mark).collect::<BooleanArray>())
}

fn named(word: &str) -> Value {
    Value::Text(word.into())
}

#[test]
fn marked_rows_are_where_centroids_begin() {
    let first = [0.2, 0.3, 0.1, 0.4, 0.2, 0.5, 0.3, 0.1, 0.4, 0.2];
    let mut columns: Vec<ArrayRef> = (0..5).map(|i| number(first.map(|x| x + f64::from(i) / 10.0))).collect();
    columns.push(marks(10, &[0, 1, 2]));
    for k in [None, Some(3)] {
        let mut given = vec![
            ("standardize", Value::Bool(false)),
            ("kmeans_init_method", named("CUSTOM")),
            ("kmeans_init_col", named("f5")),
        ];
        given.extend(k.map(|k| ("num_clusters", Value::Int(k))));
        for seed in [None, Some(4), Some(5)] {
            let columns = seed.map_or(columns.clone(), |s| shuffled(&columns, s));
            let (model, info) = fit_with(&columns, &options(&given), 2).unwrap();
            assert_eq!((model.feature_columns().len(), info.notices.len()), (5, 0));
            let centroids = model.centroids(false);
            assert_eq!(centroids.iter().map(|c| c.size).collect::<Vec<_>>(), [5, 3, 2]);
            for (c, x) in centroids.iter().zip([0.38, 0.2, 0.1]) {
                assert!((c.numbers[0].1 - x).abs() < 1e-7, "{c:?}");
            }
        }
    }
    // One pass from the two extremes gives the means of the halves.
    let halves = [number([0.0, 1.0, 2.0, 10.0, 12.0, 14.0]), marks(6, &[0, 5])];
    let given = options(&[
        ("init_col", named("f1")),
        ("max_iterations", Value::Int(1)),
        ("standardize", Value::Bool(false)),
    ]);
    let (model, _) = fit_with(&halves, &given, 1).unwrap();
    let at: Vec<f64> = model.centroids(false).iter().map(|c| c.numbers[0].1).collect();
    assert!((at[0] - 1.0).abs() < 1e-6 && (at[1] - 12.0).abs() < 1e-6, "{at:?}");
}

#[test]
fn marks_that_do_not_fit_are_refused() {
    let columns = |marked: &[usize]| [number([1.0, 2.0, 3.0, 4.0]), marks(4, marked)];
    let error =
        |columns: &[ArrayRef], given: &[(&str, Value)]| fit_with(columns, &options(given), 1).unwrap_err().to_string();
    let col = ("init_col", named("f1"));
    let three = error(&columns(&[0, 1]), &[("k", Value::Int(3)), col.clone()]);
    assert!(
        three.contains("TRUE in 2 rows") && three.contains("exactly 3"),
        "{three}"
    );
    assert!(error(&columns(&[]), std::slice::from_ref(&col)).contains("TRUE in 0 rows"));
    assert!(error(&columns(&[1]), &[("init", named("custom"))]).contains("needs the option 'init_col'"));
    let two = error(&columns(&[1]), &[("init", named("random")), col.clone()]);
    assert!(two.contains("goes with init => 'custom', not 'random'"), "{two}");
    let text: [ArrayRef; 2] = [number([1.0, 2.0]), Arc::new(StringArray::from(vec!["a", "b"]))];
    assert!(error(&text, &[col]).contains("of type Utf8"));
    let warm = error(&columns(&[1]), &[("warm_start", Value::Bool(true))]);
    assert!(warm.contains("goes on from a stored model"), "{warm}");
}

#[test]
fn rows_say_how_many_segments() {
    for (rows, expected) in [(5, 2), (300, 2), (400, 3), (5000, 4)] {
        let (model, _) = fit_with(&sample(rows, 3), &options(&[]), 2).unwrap();
        assert_eq!(model.ids.len(), expected, "{rows}");
    }
    let lists = Value::List([1.0, 2.0, 9.0].map(|x| Value::List(vec![Value::Float(x)])).to_vec());
    let (model, _) = fit_with(&[number([1.0, 2.0, 9.0, 9.5])], &options(&[("init", lists)]), 1).unwrap();
    assert_eq!(model.ids.len(), 3);
    // The verb still wants to be told.
    let error = Options::parse(VERB, KMeans.verb_options(), vec![])
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "KMEANS_SEGMENT needs the option 'k', a whole number from 1 to 65,535; write k => …"
    );
}

#[test]
fn too_little_progress_stops_a_fit() {
    let columns = sample(5_000, 2);
    let losses = |more: &[(&str, Value)]| -> Vec<f64> {
        let mut given = vec![
            ("k", Value::Int(9)),
            ("init", named("random")),
            ("tolerance", Value::Int(0)),
        ];
        given.extend_from_slice(more);
        let (_, info) = fit_with(&columns, &options(&given), 2).unwrap();
        info.passes.iter().filter_map(|p| p.loss).collect()
    };
    let all = losses(&[]);
    for least in [0.001, 0.01, 0.1] {
        let progress = |w: &[f64]| (w[0] - w[1]) / w[0];
        let expected = 2 + all.windows(2).position(|w| progress(w) < least).unwrap();
        assert!(expected < all.len(), "{least}: {all:?}");
        let stopped = losses(&[("min_rel_progress", Value::Float(least))]);
        assert_eq!(stopped.len(), expected);
        // The last loss is that of the final centroids.
        assert_eq!(stopped[..expected - 1], all[..expected - 1]);
        let both = [
            ("early_stop", Value::Bool(false)),
            ("min_rel_progress", Value::Float(least)),
        ];
        assert_eq!(losses(&both), all);
    }
    assert_eq!(
        losses(&[("early_stop", Value::Bool(true))]),
        losses(&[("min_rel_progress", Value::Float(0.01))])
    );
    assert_eq!(
        losses(&[("early_stop", Value::Bool(true)), ("max_iterations", Value::Int(2))]).len(),
        2
    );
}

#[test]
fn a_share_of_the_training_rows_is_anomalous() {
    let columns = sample(3_000, 5);
    for distance in ["euclidean", "cosine"] {
        let given = options(&[("k", Value::Int(5)), ("distance", named(distance))]);
        let (without, _) = fit_with(&columns, &given, 2).unwrap();
        let contamination = |c: f64| Options::default().with("contamination", Value::Float(c));
        let error = without
            .row_columns("DETECT_ANOMALIES", &columns, &contamination(0.1))
            .unwrap_err();
        assert!(error.to_string().contains("train it again"), "{error}");

        let (model, _) = fit_with(&columns, &KMeans.stored_fit_options(&given), 2).unwrap();
        let artefact = Artefact {
            name: "m".into(),
            features: model.feature_columns().to_vec(),
            options: given,
            parts: model.parts().unwrap(),
        };
        let loaded = KMeans.load(&artefact).unwrap();
        for c in [0.0, 0.01, 0.1, 0.5] {
            let found = loaded
                .row_columns("DETECT_ANOMALIES", &columns, &contamination(c))
                .unwrap();
            assert_eq!(found[0].as_boolean().true_count(), (c * 3_000.0f64).round() as usize);
            let normalized = found[1].as_primitive::<Float64Type>();
            let ids = found[2].as_primitive::<Int64Type>();
            assert_eq!(ids.values().to_vec(), segments(&model, &columns));
            for (row, far) in distances(&model, &columns).iter().enumerate() {
                let radius = model.centroids(false)[ids.value(row) as usize - 1].radius;
                assert!((normalized.value(row) * radius - far).abs() < 1e-12);
            }
            for (array, field) in found.iter().zip(loaded.row_fields("DETECT_ANOMALIES").unwrap()) {
                assert_eq!(array.data_type(), field.data_type());
            }
        }
    }
}

#[test]
fn rows_at_their_centroid_are_no_anomalies() {
    let columns = [number([1.0, 1.0, 1.0, 8.0])];
    let given = options(&[("k", Value::Int(2)), ("standardize", Value::Bool(false))]);
    let (model, _) = fit_with(&columns, &KMeans.stored_fit_options(&given), 1).unwrap();
    let asked = Options::default().with("contamination", Value::Float(0.25));
    let found = model
        .row_columns("DETECT_ANOMALIES", &[number([1.0, 8.0, 8.5])], &asked)
        .unwrap();
    let normalized = found[1].as_primitive::<Float64Type>().values();
    assert_eq!(normalized[..], [0.0, 0.0, f64::INFINITY]);
    assert!(found[0].as_boolean().iter().eq([Some(false), Some(false), Some(true)]));
}
