//! Principal components against what can be worked out by hand or from the rows themselves.

use std::sync::atomic::AtomicBool;

use datafusion::arrow::array::{BooleanArray, Int64Array};
use datafusion::arrow::datatypes::Field;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;

use super::*;
use crate::kernels::compute::Compute;
use crate::models::{MemoryRows, Silent, UnlimitedMemory};
use crate::options::Value;

fn number(values: impl IntoIterator<Item = f64>) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values(values))
}

fn options(named: &[(&str, Value)]) -> Options {
    let named = named.iter().map(|(n, v)| ((*n).to_string(), v.clone())).collect();
    Options::parse("test", OPTIONS, named).unwrap()
}

fn rows_of(columns: &[ArrayRef]) -> MemoryRows {
    let names = (0..columns.len()).map(|i| format!("f{i}"));
    let fields: Vec<Field> = names
        .zip(columns)
        .map(|(n, c)| Field::new(n, c.data_type().clone(), true))
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns.to_vec()).unwrap();
    MemoryRows::new(schema, vec![batch])
}

fn fit(columns: &[ArrayRef], named: &[(&str, Value)]) -> Result<Fitted> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let cancel = AtomicBool::new(false);
    let context = FitContext {
        compute: &Compute::cpu(&pool, &cancel),
        seed: 1,
        observer: &Silent,
        memory: &UnlimitedMemory,
        start: None,
    };
    let rows = rows_of(columns);
    let options = options(named);
    let roles = Pca.roles(&rows.schema(), &options)?;
    Pca.fit(&rows, &roles, &options, &context)
}

fn floats(array: &ArrayRef) -> Vec<f64> {
    array.as_primitive::<Float64Type>().values().to_vec()
}

fn info(model: &dyn Model) -> [Vec<f64>; 3] {
    let table = model
        .describe("PRINCIPAL_COMPONENT_INFO", &Options::default())
        .unwrap()
        .unwrap();
    let ids = table
        .column(0)
        .as_primitive::<datafusion::arrow::datatypes::Int64Type>();
    assert!(ids.values().iter().copied().eq(0..table.num_rows() as i64));
    [1, 2, 3].map(|i| floats(table.column(i)))
}

/// Three numbers, some of them missing, and a category, some of them missing.
fn sample(rows: usize) -> Vec<ArrayRef> {
    let mut random = Pcg64::seed_from_u64(9);
    let (mut a, mut b, mut c, mut d) = (vec![], vec![], vec![], vec![]);
    for i in 0..rows {
        let x: f64 = random.random::<f64>() - 0.5;
        let y: f64 = random.random::<f64>() - 0.5;
        a.push((i % 11 != 0).then_some(1e6 + 40.0 * x));
        b.push((i % 13 != 0).then_some(3.0 * x + y));
        c.push(Some(random.random::<f64>() * 0.01));
        d.push((i % 7 != 0).then(|| ["red", "green", "blue"][usize::from(y > 0.1) + usize::from(x > 0.2)]));
    }
    vec![
        Arc::new(Float64Array::from(a)),
        Arc::new(Float64Array::from(b)),
        Arc::new(Float64Array::from(c)),
        Arc::new(StringArray::from(d)),
    ]
}

#[test]
fn two_columns_by_hand() {
    // Centred: (−2, −1, 3) and (−1, 0, 1): the second moment is [[7, 2.5], [2.5, 1]].
    let columns = [number([0.0, 1.0, 5.0]), number([10.0, 11.0, 12.0])];
    let fitted = fit(&columns, &[("scale_features", Value::Bool(false))]).unwrap();
    let [values, ratios, cumulative] = info(fitted.model.as_ref());
    let half = (9.0 + 6.25f64).sqrt();
    for (value, expected) in values.iter().zip([4.0 + half, 4.0 - half]) {
        assert!((value - expected).abs() < 1e-10, "{values:?}");
    }
    assert!((ratios[0] - (4.0 + half) / 8.0).abs() < 1e-10 && (cumulative[1] - 1.0).abs() < 1e-12);
    let predicted = fitted.model.predict_columns(&columns, &Options::default()).unwrap();
    // Along (7 − λ₂, 2.5), which points up in its larger entry.
    let (x, y) = (7.0 - values[1], 2.5);
    let length = (x * x + y * y).sqrt();
    for (row, (a, b)) in [(-2.0, -1.0), (-1.0, 0.0), (3.0, 1.0)].into_iter().enumerate() {
        assert!((floats(&predicted[0])[row] - (a * x + b * y) / length).abs() < 1e-9);
    }
    let scaled = fit(&columns, &[]).unwrap();
    let [values, ..] = info(scaled.model.as_ref());
    // Of two standardised columns the eigenvalues are 1 ± their correlation.
    let correlation = 2.5 / 7f64.sqrt();
    assert!((values[0] - 1.0 - correlation).abs() < 1e-9 && (values[1] - 1.0 + correlation).abs() < 1e-9);
}

#[test]
fn the_second_moment_of_a_component_is_its_eigenvalue() {
    let columns = sample(3000);
    let fitted = fit(&columns, &[]).unwrap();
    let [values, ..] = info(fitted.model.as_ref());
    // Three numbers and four categories: NULL is one. None of them is centred, so all seven directions count.
    assert_eq!(values.len(), 7);
    let predicted = fitted.model.predict_columns(&columns, &Options::default()).unwrap();
    let predicted: Vec<Vec<f64>> = predicted.iter().map(floats).collect();
    for (i, a) in predicted.iter().enumerate() {
        for (j, b) in predicted.iter().enumerate() {
            let moment: f64 = a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>() / 2999.0;
            let expected = if i == j { values[i] } else { 0.0 };
            assert!(
                (moment - expected).abs() < 1e-9 * values[0],
                "{i} {j}: {moment} {expected}"
            );
        }
    }
    // The numbers are standardised, and each row has one category of the column.
    let total: f64 = values.iter().sum();
    let number = |i: usize| {
        let [nulls, count] = [columns[i].null_count() as f64, 3000.0 - columns[i].null_count() as f64];
        (count - 1.0) / (count + nulls - 1.0)
    };
    let expected = number(0) + number(1) + number(2) + 3000.0 / 2999.0;
    assert!((total - expected).abs() < 1e-9, "{total} {expected}");
    assert_eq!(fitted.model.own_metrics().unwrap().len(), 1);
}

#[test]
fn options_say_how_many_components_are_kept() {
    let columns = sample(2000);
    let all = info(fit(&columns, &[]).unwrap().model.as_ref());
    let two = fit(&columns, &[("num_principal_components", Value::Int(2))]).unwrap();
    assert_eq!(info(two.model.as_ref())[0], all[0][..2]);
    assert!(two.info.notices.is_empty());
    for share in [0.0, 0.3, 0.5, 0.9, 0.999, 1.0] {
        let fitted = fit(&columns, &[("pca_explained_variance_ratio", Value::Float(share))]).unwrap();
        let [_, _, cumulative] = info(fitted.model.as_ref());
        let kept = cumulative.len();
        assert!(cumulative[kept - 1] >= share - 1e-9);
        assert!(kept == 1 || cumulative[kept - 2] < share, "{share}: {cumulative:?}");
    }
    let many = fit(
        &columns,
        &[
            ("num_principal_components", Value::Int(30)),
            ("pca_solver", Value::Text("full".into())),
        ],
    )
    .unwrap();
    assert_eq!(
        many.info.notices,
        [
            "num_principal_components is 30, but the rows differ in fewer directions; there are as many components as directions, 7"
        ]
    );
    let both = [
        ("num_principal_components", Value::Int(2)),
        ("pca_explained_variance_ratio", Value::Float(0.5)),
    ];
    let error = fit(&columns, &both).unwrap_err().to_string();
    assert!(error.contains("give one of them"), "{error}");
}

#[test]
fn what_is_left_of_a_row_is_what_rebuilding_it_misses() {
    let columns = sample(1500);
    let fitted = fit(&columns, &[("num_principal_components", Value::Int(3))]).unwrap();
    let contamination = |c: f64| Options::default().with("contamination", Value::Float(c));
    let found = fitted
        .model
        .row_columns("DETECT_ANOMALIES", &columns, &contamination(0.04))
        .unwrap();
    let errors = floats(&found[1]);
    assert_eq!(found[0].as_boolean().true_count(), 60);
    assert_eq!(fitted.info.passes[0].loss, Some(errors.iter().sum::<f64>() / 1500.0));

    // Rebuilt in encoded space from the components and their values.
    let artefact = artefact(fitted.model.as_ref());
    let model = PcaModel::from_artefact(&artefact).unwrap();
    let block = model.encoder.encode::<f64>(&columns).unwrap();
    let values: Vec<Vec<f64>> = model.verb_columns(&columns).unwrap().iter().map(floats).collect();
    for row in 0..1500 {
        let mut encoded = block.row_numbers(row).to_vec();
        encoded.extend((0..4).map(|code| f64::from(u8::from(block.row_codes(row)[0] == code))));
        let rebuilt = |i: usize| -> f64 {
            model
                .components
                .iter()
                .zip(&values)
                .map(|(c, v)| c.vector[i] * v[row])
                .sum()
        };
        let missed: f64 = (0..7).map(|i| (encoded[i] - rebuilt(i)).powi(2)).sum();
        assert!((errors[row] - missed / 4.0).abs() < 1e-12, "{row}");
    }
    let share = fitted
        .model
        .assess("EVALUATE", &rows_of(&columns), &Options::default(), &|| false)
        .unwrap();
    let own = fitted.model.own_metrics().unwrap()[0].unwrap();
    assert!((floats(share.column(0))[0] - own).abs() < 1e-10);
}

fn artefact(model: &dyn Model) -> Artefact {
    Artefact {
        name: "m".into(),
        features: model.feature_columns().to_vec(),
        options: Options::default(),
        parts: model.parts().unwrap(),
    }
}

#[test]
fn a_stored_model_says_the_same() {
    let columns = sample(700);
    let fitted = fit(&columns, &[("num_principal_components", Value::Int(4))]).unwrap();
    let mut artefact = artefact(fitted.model.as_ref());
    let loaded = Pca.load(&artefact).unwrap();
    let options = Options::default().with("contamination", Value::Float(0.1));
    for word in ["PREDICT", "DETECT_ANOMALIES", "GENERATE_EMBEDDING"] {
        let answer = fitted.model.row_columns(word, &columns, &options).unwrap();
        assert_eq!(&loaded.row_columns(word, &columns, &options).unwrap(), &answer);
        let fields = loaded.row_fields(word).unwrap();
        assert_eq!(fields.len(), answer.len());
        for (array, field) in answer.iter().zip(fields) {
            assert_eq!(array.data_type(), field.data_type());
        }
    }
    assert!(loaded.row_fields("EXPLAIN_PREDICT").is_none());
    let embedded = loaded.row_columns("GENERATE_EMBEDDING", &columns, &options).unwrap();
    let predicted = loaded.predict_columns(&columns, &options).unwrap();
    let row = embedded[0].as_list::<i32>().value(69);
    let expected: Vec<f64> = predicted.iter().map(|c| floats(c)[69]).collect();
    assert_eq!(floats(&row), expected);
    for word in ["PRINCIPAL_COMPONENTS", "PRINCIPAL_COMPONENT_INFO"] {
        let none = Options::default();
        assert_eq!(
            loaded.describe(word, &none).unwrap(),
            fitted.model.describe(word, &none).unwrap()
        );
    }
    artefact.parts.tables.retain(|(name, _)| name != "anomaly_scores");
    let error = Pca
        .load(&artefact)
        .unwrap()
        .row_columns("DETECT_ANOMALIES", &columns, &options)
        .unwrap_err();
    assert!(error.to_string().contains("train it again"), "{error}");
    artefact.parts.tables.retain(|(name, _)| name != "components");
    let error = Pca.load(&artefact).unwrap_err().to_string();
    assert!(error.contains("its part 'components' is missing"), "{error}");
}

#[test]
fn the_order_of_the_rows_shows_nowhere() {
    // Three columns of categories, whose ones add up to the same: directions in which no row differs.
    let mut random = Pcg64::seed_from_u64(3);
    let mut draw = |n: usize| -> Vec<String> { (0..900).map(|_| format!("c{}", random.random_range(0..n))).collect() };
    let texts = [draw(3), draw(4), draw(2)];
    let column = |t: &Vec<String>| -> ArrayRef { Arc::new(StringArray::from_iter_values(t)) };
    let columns: Vec<ArrayRef> = texts.iter().map(column).collect();
    let reversed: Vec<ArrayRef> = texts
        .iter()
        .map(|t| column(&t.iter().rev().cloned().collect()))
        .collect();
    let (one, other) = (fit(&columns, &[]).unwrap(), fit(&reversed, &[]).unwrap());
    assert_eq!(info(one.model.as_ref())[0].len(), 9 - 2);
    let entries = |fitted: &Fitted| {
        let parts = fitted.model.parts().unwrap();
        let table = parts
            .tables
            .iter()
            .find(|(n, _)| n == "components")
            .map(|(_, t)| t.clone())
            .unwrap();
        floats(table.column(1).as_list::<i32>().values())
    };
    for (a, b) in entries(&one).iter().zip(entries(&other)) {
        assert!((a - b).abs() < 1e-9);
    }
}

#[test]
fn rows_that_do_not_differ_are_refused() {
    let error = |columns: &[ArrayRef]| fit(columns, &[]).unwrap_err().to_string();
    assert!(error(&[number([1.0])]).contains("at least two rows"));
    assert!(error(&[number([4.0, 4.0, 4.0])]).contains("the same value in all rows"));
    let wide: ArrayRef = Arc::new(Int64Array::from_iter_values(0..3));
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]));
    // Odd values are scored all the same.
    let fitted = fit(&[wide, flags], &[]).unwrap();
    let odd: Vec<ArrayRef> = vec![
        Arc::new(Float64Array::from(vec![None, Some(f64::NAN), Some(1e300)])),
        Arc::new(BooleanArray::from(vec![None, Some(true), Some(true)])),
    ];
    let options = Options::default().with("contamination", Value::Float(0.0));
    let found = fitted.model.row_columns("DETECT_ANOMALIES", &odd, &options).unwrap();
    assert!(floats(&found[1]).iter().all(|e| e.is_finite()));
}
