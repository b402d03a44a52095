use std::sync::atomic::AtomicBool;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::Float64Type;

use super::*;
use crate::error::Error;
use crate::kernels::compute::Compute;
use crate::models::{DESCRIPTIONS, MemoryBudget, MemoryRows, ROW_FUNCTIONS, Silent, UnlimitedMemory};
use crate::options::Value;

type Columns = Vec<(&'static str, ArrayRef)>;

fn fit_within(memory: &dyn MemoryBudget, columns: &Columns, named: &[(&str, Value)], threads: usize) -> Result<Fitted> {
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.iter().map(|(n, a)| (*n, Arc::clone(a), true))).unwrap();
    let starts = (0..batch.num_rows()).step_by(7);
    let batches = starts.map(|s| batch.slice(s, 7.min(batch.num_rows() - s))).collect();
    let rows = MemoryRows::new(batch.schema(), batches);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let cancel = AtomicBool::new(false);
    let context = FitContext {
        compute: &Compute::cpu(&pool, &cancel),
        seed: 42,
        observer: &Silent,
        memory,
        start: None,
    };
    let label = ("label".to_string(), Value::Text("t".into()));
    let named = named.iter().map(|(k, v)| (k.to_string(), v.clone())).chain([label]);
    let options = Options::parse(NAME, OPTIONS, named.collect()).unwrap();
    let roles = PolynomialRegression.roles(&rows.schema(), &options).unwrap();
    PolynomialRegression.fit(&rows, &roles, &options, &context)
}

fn fit(columns: &Columns, named: &[(&str, Value)]) -> Fitted {
    fit_within(&UnlimitedMemory, columns, named, 2).unwrap()
}

fn numbers(of: impl Fn(usize) -> f64) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values((0..30).map(of)))
}

fn a(i: usize) -> f64 {
    (i * 7 % 11) as f64 / 2.0 + 1.0
}

fn b(i: usize) -> f64 {
    (i * 13 % 17) as f64 - 4.0
}

fn c(i: usize) -> &'static str {
    if i.is_multiple_of(3) { "red" } else { "green" }
}

/// Thirty rows; scikit-learn computed the golden values from the same ones.
fn columns() -> Columns {
    let t = |i: usize| {
        let (a, b) = (a(i), b(i));
        let wave = (i as f64 * 1.7).sin() * 2.0;
        0.5 * a * a * b - a * b + b * b / 3.0 + wave + if c(i) == "red" { 4.0 } else { 0.0 }
    };
    vec![
        ("a", numbers(a)),
        ("b", numbers(b)),
        ("c", Arc::new(StringArray::from_iter_values((0..30).map(c)))),
        ("t", numbers(t)),
    ]
}

fn features(columns: &Columns) -> Vec<ArrayRef> {
    let features = columns.iter().filter(|(name, _)| *name != "t");
    features.map(|(_, array)| Arc::clone(array)).collect()
}

fn floats(array: &ArrayRef) -> Vec<f64> {
    array.as_primitive::<Float64Type>().values().to_vec()
}

fn predictions(model: &Arc<dyn Model>, columns: &Columns) -> Vec<f64> {
    floats(&model.verb_columns(&features(columns)).unwrap()[0])
}

/// ML.ADVANCED_WEIGHTS: names, weights, errors.
fn weights(model: &Arc<dyn Model>, standardize: bool) -> Vec<(String, f64, Option<f64>)> {
    let spec = DESCRIPTIONS.iter().find(|d| d.word == "ADVANCED_WEIGHTS").unwrap();
    let named = [("standardize".to_string(), Value::Bool(standardize))].into();
    let options = Options::parse("test", spec.options, named).unwrap();
    let table = model.describe("ADVANCED_WEIGHTS", &options).unwrap().unwrap();
    let names = table.column(0).as_string::<i32>();
    let values = floats(table.column(2));
    let errors = table.column(3).as_primitive::<Float64Type>();
    (0..table.num_rows())
        .map(|i| (names.value(i).to_string(), values[i], errors.iter().nth(i).flatten()))
        .collect()
}

fn assert_near(got: &[f64], wanted: &[f64], tolerance: f64) {
    assert_eq!(got.len(), wanted.len(), "{got:?}");
    let near = got
        .iter()
        .zip(wanted)
        .all(|(g, w)| (g - w).abs() < tolerance * w.abs().max(1.0));
    assert!(near, "{got:?} is not {wanted:?}");
}

fn degree(degree: i64) -> (&'static str, Value) {
    ("degree", Value::Int(degree))
}

fn no_interactions() -> (&'static str, Value) {
    ("interactions", Value::Bool(false))
}

#[test]
fn predictions_are_scikit_learns() {
    let line = [
        -29.587_079_116_900_91,
        61.699_465_790_525_92,
        23.213_549_287_157_7,
        35.630_421_535_163_15,
    ];
    let golden: [(i64, bool, [f64; 4]); 6] = [
        (1, true, line),
        (1, false, line),
        (
            2,
            true,
            [
                19.725_864_565_914_456,
                80.608_717_479_715_65,
                14.755_337_323_848_048,
                18.788_234_619_735_498,
            ],
        ),
        (
            3,
            true,
            [
                11.709_377_737_811_622,
                78.195_697_041_557_37,
                11.550_601_863_793_423,
                14.597_231_772_758_331,
            ],
        ),
        (
            2,
            false,
            [
                -17.538_069_854_737_95,
                61.129_099_545_808_89,
                15.992_343_513_411_416,
                36.762_971_428_643_65,
            ],
        ),
        (
            3,
            false,
            [
                -10.691_942_138_911_376,
                67.774_275_264_361_26,
                12.651_179_097_606_075,
                28.875_161_889_217_946,
            ],
        ),
    ];
    let input = columns();
    for (of, together, wanted) in golden {
        let fitted = fit(&input, &[degree(of), ("interactions", Value::Bool(together))]);
        assert_near(&predictions(&fitted.model, &input)[..4], &wanted, 1e-9);
        assert!(fitted.info.notices.is_empty(), "{:?}", fitted.info.notices);
    }
    let plain = vec![input[0].clone(), input[1].clone(), input[3].clone()];
    let fitted = fit(&plain, &[("l2", Value::Float(2.5))]);
    let wanted = [
        17.973_638_646_874_527,
        77.331_971,
        17.366_115_911_070_73,
        16.388_517_139_717_454,
    ];
    assert_near(&predictions(&fitted.model, &plain)[..4], &wanted, 1e-7);
    let found: Vec<f64> = weights(&fitted.model, true).into_iter().map(|(_, w, _)| w).collect();
    assert_near(
        &found[..5],
        &[12.860_507_4, 28.809_779_74, 2.581_215_85, 17.443_048_19, 5.529_435_21],
        1e-7,
    );
}

#[test]
fn weights_in_units_are_the_polynomial() {
    let mut input = columns();
    let t = |i: usize| {
        let (a, b) = (a(i), b(i));
        2.0 + 0.25 * a - b + 0.5 * a * a * b - 0.125 * b * b * b + 3.0 * a * b
    };
    input[3].1 = numbers(t);
    input.remove(2);
    let fitted = fit(&input, &[degree(3)]);
    let found = weights(&fitted.model, false);
    let wanted = [
        ("a", 0.25),
        ("b", -1.0),
        ("a^2", 0.0),
        ("a*b", 3.0),
        ("b^2", 0.0),
        ("a^3", 0.0),
        ("a^2*b", 0.5),
        ("a*b^2", 0.0),
        ("b^3", -0.125),
        ("__INTERCEPT__", 2.0),
    ];
    assert_eq!(found.len(), wanted.len());
    for ((name, weight, error), (wanted_name, wanted)) in found.iter().zip(wanted) {
        assert_eq!(name, wanted_name);
        assert!((weight - wanted).abs() < 1e-9, "{name}: {weight}");
        // Only what no other term holds has an error that a scale gives.
        assert_eq!(
            error.is_some(),
            name.contains("^3") || name.contains("a^2*b") || name.contains("a*b^2")
        );
    }
    assert!(weights(&fitted.model, true).iter().all(|(_, _, error)| error.is_some()));
    // Nothing is moved without an intercept: all have one, but the intercept that is none.
    let through = weights(
        &fit(&input, &[degree(2), ("fit_intercept", Value::Bool(false))]).model,
        false,
    );
    let last = through.len() - 1;
    assert!(
        through
            .iter()
            .enumerate()
            .all(|(i, (_, _, error))| error.is_some() == (i < last))
    );
    assert_eq!(through[last].1, 0.0);
    let names: Vec<String> = weights(&fit(&input, &[degree(2), no_interactions()]).model, false)
        .into_iter()
        .map(|(name, _, _)| name)
        .collect();
    assert_eq!(names, ["a", "b", "a^2", "b^2", "__INTERCEPT__"]);
}

#[test]
fn explanations_add_up() {
    let mut input = columns();
    input[0].1 = Arc::new((0..30).map(|i| (i % 8 != 3).then(|| a(i))).collect::<Float64Array>());
    let fitted = fit(&input, &[degree(3)]);
    let spec = ROW_FUNCTIONS.iter().find(|f| f.word == "EXPLAIN_PREDICT").unwrap();
    let options = Options::parse("test", spec.options, [].into()).unwrap();
    let answer = fitted
        .model
        .row_columns("EXPLAIN_PREDICT", &features(&input), &options)
        .unwrap();
    let predicted = floats(&answer[0]);
    let mean = predicted.iter().sum::<f64>() / 30.0;
    let lists = answer[1].as_list::<i32>();
    for (row, predicted) in predicted.iter().enumerate() {
        let list = lists.value(row);
        assert_eq!(list.len(), 3);
        let sum: f64 = floats(list.as_struct().column(1)).iter().sum();
        assert!((floats(&answer[2])[row] - mean).abs() < 1e-9);
        assert!((mean + sum - predicted).abs() < 1e-9);
        assert_eq!(floats(&answer[3])[row], *predicted);
    }
    let global = fitted
        .model
        .describe("GLOBAL_EXPLAIN", &Options::default())
        .unwrap()
        .unwrap();
    assert_eq!(global.num_rows(), 3);
    // One product alone is shared by its factors.
    let input: Columns = vec![
        ("a", numbers(|i| f64::from(i % 2 == 0) * 2.0 - 1.0)),
        ("b", numbers(|i| f64::from(i % 3 == 0))),
        (
            "t",
            numbers(|i| (f64::from(i % 2 == 0) * 2.0 - 1.0) * (f64::from(i % 3 == 0) - 1.0 / 3.0)),
        ),
    ];
    let fitted = fit(&input, &[]);
    let global = fitted
        .model
        .describe("GLOBAL_EXPLAIN", &Options::default())
        .unwrap()
        .unwrap();
    let shares = floats(global.column(1));
    assert!((shares[0] - shares[1]).abs() < 1e-9 && shares[0] > 0.1, "{shares:?}");
}

#[test]
fn stored_models_say_the_same() {
    let input = columns();
    for named in [
        vec![degree(3)],
        vec![degree(2), no_interactions(), ("l1", Value::Float(0.5))],
    ] {
        let fitted = fit(&input, &named);
        let artefact = Artefact {
            name: "m".into(),
            features: fitted.model.feature_columns().to_vec(),
            options: Options::default(),
            parts: fitted.model.parts().unwrap(),
        };
        let loaded = PolynomialRegression.load(&artefact).unwrap();
        assert_eq!(loaded.model_type(), "polynomial_reg");
        assert_eq!(predictions(&loaded, &input), predictions(&fitted.model, &input));
        assert_eq!(weights(&loaded, false), weights(&fitted.model, false));
        let global = |model: &Arc<dyn Model>| model.describe("GLOBAL_EXPLAIN", &Options::default()).unwrap();
        assert_eq!(global(&loaded), global(&fitted.model));
        let mut torn = artefact;
        torn.parts.settings.insert("degree".into(), 4.into());
        assert!(
            PolynomialRegression
                .load(&torn)
                .unwrap_err()
                .to_string()
                .contains("do not fit its features")
        );
        torn.parts.settings.insert("degree".into(), 9.into());
        assert!(
            PolynomialRegression
                .load(&torn)
                .unwrap_err()
                .to_string()
                .contains("its degree is not from 1 to 5")
        );
    }
}

#[test]
fn threads_do_not_show() {
    let input = columns();
    let one = fit_within(&UnlimitedMemory, &input, &[degree(3)], 1).unwrap();
    let five = fit_within(&UnlimitedMemory, &input, &[degree(3)], 5).unwrap();
    assert_eq!(weights(&one.model, false), weights(&five.model, false));
}

#[test]
fn powers_that_say_nothing_new_are_told() {
    let mut input = columns();
    input[1].1 = numbers(|i| f64::from(i % 2 == 0));
    let fitted = fit(&input, &[]);
    assert_eq!(
        fitted.info.notices,
        ["constant or a linear combination of other columns: 'b^2'; their coefficients are 0"]
    );
}

#[test]
fn too_many_columns_are_refused() {
    let names: Vec<String> = (0..40).map(|j| format!("x{j}")).collect();
    let mut input: Columns = vec![("t", numbers(a))];
    for name in &names {
        let j = name.len() + input.len();
        input.push((
            Box::leak(name.clone().into_boxed_str()),
            numbers(move |i| ((i * j) % 13) as f64),
        ));
    }
    assert_eq!(
        fit_within(&UnlimitedMemory, &input, &[degree(5)], 1)
            .unwrap_err()
            .to_string(),
        "POLYNOMIAL_REG: degree 5 of 40 numbers makes 1,221,758 columns, and a fit takes 20,000 at most; write a lower degree, \
         interactions => false, or fewer features"
    );
    #[derive(Debug)]
    struct Little;
    impl MemoryBudget for Little {
        fn take(&self, bytes: usize, what: &str) -> Result<()> {
            match bytes {
                0..100_000 => Ok(()),
                _ => Err(Error::data(format!("no room for {what}"))),
            }
        }
    }
    let told = fit_within(&Little, &input, &[], 1).unwrap_err().to_string();
    assert_eq!(told, "no room for the powers and products of the numbers");
}
