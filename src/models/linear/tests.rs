use std::sync::atomic::AtomicBool;

use datafusion::arrow::array::{AsArray, StringArray};
use datafusion::arrow::datatypes::Float64Type;

use super::*;
use crate::kernels::compute::Compute;
use crate::models::{MemoryRows, Silent, UnlimitedMemory};
use crate::options::Value;

fn rows(columns: Vec<(&str, ArrayRef)>) -> MemoryRows {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap();
    let starts = (0..batch.num_rows()).step_by(7);
    let batches = starts.map(|s| batch.slice(s, 7.min(batch.num_rows() - s))).collect();
    MemoryRows::new(batch.schema(), batches)
}

fn fit(columns: Vec<(&str, ArrayRef)>, named: &[(&str, Value)]) -> Fitted {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let cancel = AtomicBool::new(false);
    let context = FitContext {
        compute: &Compute::cpu(&pool, &cancel),
        seed: 42,
        observer: &Silent,
        memory: &UnlimitedMemory,
        start: None,
    };
    let label = ("label".to_string(), Value::Text("t".into()));
    let named = named.iter().map(|(k, v)| (k.to_string(), v.clone())).chain([label]);
    let options = Options::parse(NAME, OPTIONS, named.collect()).unwrap();
    let rows = rows(columns);
    let roles = LinearRegression.roles(&rows.schema(), &options).unwrap();
    LinearRegression.fit(&rows, &roles, &options, &context).unwrap()
}

const COUNT: usize = 30;

fn numbers(of: impl Fn(usize) -> f64) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values((0..COUNT).map(of)))
}

fn a(i: usize) -> f64 {
    (i * 7 % 11) as f64 / 2.0 + 1.0
}

fn b(i: usize) -> f64 {
    (i * 13 % 17) as f64 - 4.0
}

/// Thirty rows; numpy computed the golden values from the same ones. Green is the most frequent, and x is as frequent as y.
fn columns(names: &[&'static str]) -> Vec<(&'static str, ArrayRef)> {
    let c = |i: usize| if (i * i).is_multiple_of(3) { "red" } else { "green" };
    let d = |i: usize| if (i * 5 / 3).is_multiple_of(2) { "x" } else { "y" };
    let t = |i: usize| {
        let of_c = if c(i) == "red" { 4.0 } else { 0.0 };
        let of_d = if d(i) == "y" { -2.0 } else { 0.0 };
        3.0 * a(i) - 1.25 * b(i) + (i * 29 % 10) as f64 / 3.0 + of_c + of_d + 2.0
    };
    let texts = |of: &dyn Fn(usize) -> &'static str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values((0..COUNT).map(of)))
    };
    let all = [
        ("a", numbers(a)),
        ("b", numbers(b)),
        ("c", texts(&c)),
        ("d", texts(&d)),
        ("t", numbers(t)),
    ];
    all.into_iter().filter(|(name, _)| names.contains(name)).collect()
}

fn features(columns: &[(&str, ArrayRef)]) -> Vec<ArrayRef> {
    let features = columns.iter().filter(|(name, _)| *name != "t");
    features.map(|(_, array)| Arc::clone(array)).collect()
}

fn predictions(model: &Arc<dyn Model>, columns: &[(&str, ArrayRef)]) -> Vec<f64> {
    let predicted = model.verb_columns(&features(columns)).unwrap();
    predicted[0].as_primitive::<Float64Type>().values().to_vec()
}

/// The weights and errors in the order of ML.ADVANCED_WEIGHTS, the intercept last.
fn weights(model: &Arc<dyn Model>, standardize: bool) -> (Vec<f64>, Vec<Option<f64>>) {
    let spec = crate::models::DESCRIPTIONS
        .iter()
        .find(|d| d.word == "ADVANCED_WEIGHTS");
    let named = [("standardize".to_string(), Value::Bool(standardize))].into();
    let options = Options::parse("test", spec.unwrap().options, named).unwrap();
    let table = model.describe("ADVANCED_WEIGHTS", &options).unwrap().unwrap();
    let column = |name: &str| -> Vec<Option<f64>> {
        let column = table.column_by_name(name).unwrap();
        column.as_primitive::<Float64Type>().iter().collect()
    };
    let weights = column("weight").into_iter().flatten().collect();
    (weights, column("standard_error"))
}

fn assert_near(got: &[f64], wanted: &[f64]) {
    assert_eq!(got.len(), wanted.len(), "{got:?}");
    let near = got
        .iter()
        .zip(wanted)
        .all(|(g, w)| (g - w).abs() < 1e-9 * w.abs().max(1.0));
    assert!(near, "{got:?} is not {wanted:?}");
}

fn assert_errors(got: &[Option<f64>], wanted: &[Option<f64>]) {
    assert_eq!(got.len(), wanted.len(), "{got:?}");
    let near = |(g, w): (&Option<f64>, &Option<f64>)| match (g, w) {
        (Some(g), Some(w)) => (g - w).abs() < 1e-9,
        (None, None) => true,
        _ => false,
    };
    assert!(got.iter().zip(wanted).all(near), "{got:?} is not {wanted:?}");
}

fn no_intercept() -> (&'static str, Value) {
    ("fit_intercept", Value::Bool(false))
}

fn dummy() -> (&'static str, Value) {
    ("category_encoding_method", Value::Text("DUMMY_ENCODING".into()))
}

#[test]
fn without_an_intercept_it_is_least_squares_through_nothing() {
    let fitted = fit(columns(&["a", "b", "t"]), &[no_intercept()]);
    let (found, errors) = weights(&fitted.model, false);
    assert_near(&found, &[3.843_920_510_605_191_2, -1.185_563_024_037_4, 0.0]);
    assert_errors(
        &errors,
        &[Some(0.161_347_743_767_586_9), Some(0.101_606_415_091_632_82), None],
    );
    let column: ArrayRef = Arc::new(Float64Array::from(vec![0.0]));
    let zero = vec![Arc::clone(&column), column];
    let at_zero = fitted.model.verb_columns(&zero).unwrap();
    assert_eq!(at_zero[0].as_primitive::<Float64Type>().value(0), 0.0);
}

#[test]
fn without_an_intercept_the_first_categories_stand_for_it() {
    let input = columns(&["a", "b", "c", "d", "t"]);
    let fitted = fit(input.clone(), &[no_intercept()]);
    let wanted = [
        15.338_991_361_512_104,
        3.877_346_235_654_204,
        2.812_452_874_484_165_5,
        22.242_646_572_497_783,
        19.080_615_703_568_83,
        -2.927_124_437_385_658_4,
    ];
    assert_near(&predictions(&fitted.model, &input)[..6], &wanted);
    assert!(fitted.info.notices.is_empty(), "{:?}", fitted.info.notices);
    let (found, errors) = weights(&fitted.model, false);
    let of_d = 0.959_119_504_761_540_1;
    let wanted = [
        2.996_311_007_618_486,
        -1.231_932_163_516_732_2,
        2.440_455_677_783_152,
        6.455_832_195_065_152,
        of_d,
        -of_d,
        0.0,
    ];
    assert_near(&found, &wanted);
    let wanted = [
        0.122_114_497_947_574_74,
        0.039_801_971_714_457_915,
        0.518_082_595_888_384_7,
        0.581_982_192_190_852_7,
        0.196_661_867_928_781_43,
        0.196_661_867_928_781_43,
    ];
    assert_errors(&errors, &[&wanted.map(Some)[..], &[None]].concat());
    // With one, the predictions are the same.
    assert_near(
        &predictions(&fit(input.clone(), &[]).model, &input),
        &predictions(&fitted.model, &input),
    );
}

#[test]
fn dummies_are_beside_the_most_frequent_category() {
    let input = columns(&["a", "b", "c", "d", "t"]);
    let fitted = fit(input.clone(), &[dummy()]);
    assert_near(
        &predictions(&fit(input.clone(), &[]).model, &input),
        &predictions(&fitted.model, &input),
    );
    assert!(fitted.info.notices.is_empty(), "{:?}", fitted.info.notices);
    let (found, errors) = weights(&fitted.model, false);
    let wanted = [
        2.996_311_007_618_487_6,
        -1.231_932_163_516_732_6,
        0.0,
        4.015_376_517_281_993,
        0.0,
        -1.918_239_009_523_078_6,
        3.399_575_182_544_686,
    ];
    assert_near(&found, &wanted);
    assert!(found[2] == 0.0 && found[4] == 0.0);
    let (red, y) = (0.406_021_101_967_622_6, 0.393_323_735_857_563);
    let wanted = [
        Some(0.122_114_497_947_574_76),
        Some(0.039_801_971_714_457_92),
        None,
        Some(red),
        None,
        Some(y),
        None,
    ];
    assert_errors(&errors, &wanted);
    // A penalty is on what they are beside it.
    let fitted = fit(input.clone(), &[dummy(), ("l2", Value::Float(3.0))]);
    let (found, errors) = weights(&fitted.model, true);
    let wanted = [
        4.353_313_533_815_935,
        -5.580_865_368_087_322,
        0.0,
        2.864_392_722_736_731_4,
        0.0,
        -1.383_621_936_026_834,
        9.503_680_060_434_506,
    ];
    assert_near(&found, &wanted);
    assert!(errors.iter().all(Option::is_none));
    // So is the lasso's, which leaves the same ones out.
    let (found, _) = weights(&fit(input, &[dummy(), ("l1", Value::Float(1e-9))]).model, false);
    assert!((found[3] - 4.015_376_517_281_993).abs() < 1e-7 && found[2] == 0.0 && found[4] == 0.0);
}

#[test]
fn neither_intercept_nor_another_category_leaves_nothing() {
    let c: ArrayRef = Arc::new(StringArray::from(vec!["one"; COUNT]));
    let t = columns(&["t"]).remove(0);
    let fitted = fit(vec![("c", c), t], &[no_intercept(), dummy()]);
    assert_eq!(weights(&fitted.model, false).0, [0.0, 0.0]);
}

#[test]
fn what_takes_no_part_leaves_the_others_their_errors() {
    let plain = fit(columns(&["a", "b", "c", "t"]), &[]);
    let (wanted, wanted_errors) = weights(&plain.model, true);
    let mut input = columns(&["a", "b", "c", "t"]);
    input.insert(2, ("twice", numbers(|i| 3.0 - 2.0 * a(i))));
    let fitted = fit(input, &[]);
    assert_eq!(fitted.info.notices.len(), 1, "{:?}", fitted.info.notices);
    let (mut found, mut errors) = weights(&fitted.model, true);
    assert_eq!((found.remove(2), errors.remove(2)), (0.0, None));
    assert_near(&found, &wanted);
    assert_errors(&errors, &wanted_errors);
    // The same categories twice: the second column says nothing.
    let mut input = columns(&["a", "b", "c", "t"]);
    input.insert(3, ("again", Arc::clone(&input[2].1)));
    let (found, errors) = weights(&fit(input, &[]).model, true);
    assert_near(&found[..4], &wanted[..4]);
    assert!(found[4].abs() + found[5].abs() < 1e-12);
    assert_errors(&errors[..4], &wanted_errors[..4]);
    // A category that only rows without a label have.
    let c = columns(&["c"]).remove(0).1;
    let rare = c.as_string::<i32>().iter().enumerate();
    let rare: StringArray = rare.map(|(i, c)| if i == 3 { Some("blue") } else { c }).collect();
    let without = |columns: Vec<(&'static str, ArrayRef)>| -> Vec<(&'static str, ArrayRef)> {
        let empty = |array: &ArrayRef| -> ArrayRef {
            let values = array.as_primitive::<Float64Type>().iter().enumerate();
            Arc::new(values.map(|(i, v)| v.filter(|_| i != 3)).collect::<Float64Array>())
        };
        let of = |(name, array): (&'static str, ArrayRef)| match name {
            "t" => (name, empty(&array)),
            _ => (name, array),
        };
        columns.into_iter().map(of).collect()
    };
    let plain = fit(without(columns(&["a", "c", "t"])), &[]);
    let (_, wanted_errors) = weights(&plain.model, true);
    let mut input = without(columns(&["a", "c", "t"]));
    input[1].1 = Arc::new(rare);
    let (found, errors) = weights(&fit(input, &[]).model, true);
    assert_eq!(found[1], 0.0);
    let wanted = [&wanted_errors[..1], &[None], &wanted_errors[1..]].concat();
    assert_errors(&errors, &wanted);
}

#[test]
fn errors_that_are_missing_come_back_missing() {
    let input = columns(&["a", "b", "c", "d", "t"]);
    for named in [vec![dummy()], vec![no_intercept()], vec![("l2", Value::Float(1.0))]] {
        let fitted = fit(input.clone(), &named);
        let artefact = Artefact {
            name: "m".into(),
            features: fitted.model.feature_columns().to_vec(),
            options: Options::default(),
            parts: fitted.model.parts().unwrap(),
        };
        let model = LinearRegression.load(&artefact).unwrap();
        assert_eq!(weights(&model, false), weights(&fitted.model, false));
        assert_eq!(predictions(&model, &input), predictions(&fitted.model, &input));
    }
}
