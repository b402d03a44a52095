use std::sync::atomic::AtomicBool;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
};
use datafusion::arrow::datatypes::{DataType, Float64Type};

use super::*;
use crate::features::encode::{EncoderOptions, Scaling, mix};
use crate::kernels::compute::Compute;
use crate::models::design::Coding;
use crate::models::logistic::LogisticRegression;
use crate::models::{Artefact, MemoryRows, ModelType, Rows, Silent, UnlimitedMemory};
use crate::options::{Options, Value};

fn rows(columns: Vec<(&str, ArrayRef)>, batch_rows: usize) -> MemoryRows {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap();
    let starts = (0..batch.num_rows()).step_by(batch_rows);
    let batches = starts
        .map(|s| batch.slice(s, batch_rows.min(batch.num_rows() - s)))
        .collect();
    MemoryRows::new(batch.schema(), batches)
}

fn with_context<T>(threads: usize, run: impl FnOnce(&FitContext<'_>) -> T) -> T {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let cancel = AtomicBool::new(false);
    run(&FitContext {
        compute: &Compute::cpu(&pool, &cancel),
        seed: 42,
        observer: &Silent,
        memory: &UnlimitedMemory,
        start: None,
    })
}

fn fit_on(rows: &MemoryRows, named: &[(&str, Value)], threads: usize) -> Result<Fitted> {
    let named = named.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
    let model_type = LogisticRegression;
    let options = model_type.stored_fit_options(&Options::parse("LOGISTIC_REG", model_type.options(), named)?);
    let roles = model_type.roles(&rows.schema(), &options)?;
    with_context(threads, |context| model_type.fit(rows, &roles, &options, context))
}

fn text(word: &str) -> Value {
    Value::Text(word.into())
}

fn label() -> (&'static str, Value) {
    ("label", text("kind"))
}

fn number(name: &'static str, value: f64) -> (&'static str, Value) {
    (name, Value::Float(value))
}

/// Visits of four kinds, which overlap; some kinds, numbers and categories are NULL.
fn visits(order: impl Iterator<Item = usize> + Clone) -> Vec<(&'static str, ArrayRef)> {
    let noise = |i: usize, a: u64| (mix(a, i as u64) >> 40) as f64 / f64::from(1u32 << 24);
    let kind = move |i: usize| {
        let at = (0.7 * noise(i, 37) + 0.6 * noise(i, 53) + 0.5 * noise(i, 71) + 2.6 * noise(i, 89)) as usize;
        (i % 29 != 7).then(|| ["bar", "café", "deli", "eatery"][at.min(3)])
    };
    let x = move |i: usize| (i % 31 != 3).then(|| 10.0 + 3.0 * noise(i, 37));
    let y = move |i: usize| Some(noise(i, 53) * 5.0 - 1.0);
    let part = move |i: usize| (i % 17 != 5).then(|| ["north", "south", "west"][(2.9 * noise(i, 71)) as usize]);
    vec![
        ("kind", Arc::new(order.clone().map(kind).collect::<StringArray>())),
        ("x", Arc::new(order.clone().map(x).collect::<Float64Array>())),
        ("y", Arc::new(order.clone().map(y).collect::<Float64Array>())),
        ("part", Arc::new(order.map(part).collect::<StringArray>())),
    ]
}

fn features(columns: &[(&str, ArrayRef)]) -> Vec<ArrayRef> {
    columns[1..].iter().map(|(_, a)| Arc::clone(a)).collect()
}

/// The coefficients class by class, the intercept first.
fn coefficients(fitted: &Fitted) -> Vec<f64> {
    let parts = fitted.model.parts().unwrap();
    let (_, table) = parts.tables.iter().find(|(n, _)| n == "coefficients").unwrap();
    let column = table.column_by_name("coefficient").unwrap();
    column.as_primitive::<Float64Type>().values().to_vec()
}

/// What [`visits`] are encoded to, with everything that a solver needs.
fn encoded(
    count: usize,
    weights: &[f64],
    settings: &Settings,
    method: Method,
    run: impl FnOnce(&mut Solver<'_>, Solution),
) {
    let columns = visits(0..count);
    let rows = rows(columns, 97);
    with_context(2, |context| {
        let (_, classes) = Labels::read("F", &rows, 0, 50, context).unwrap();
        let encoding = EncoderOptions {
            scaling: Scaling::PopulationDeviation,
            center: true,
            max_categories: 1_000,
        };
        let (encoder, _) = Encoder::learn(&rows, &[1, 2, 3], &encoding, context).unwrap();
        let block = encoder.encode_rows::<f64>(&rows, &[1, 2, 3], context).unwrap();
        let data = Data {
            block: &block,
            classes: &classes,
            class_weights: weights,
        };
        let mut solver = Solver::new(&data, settings, method, context).unwrap();
        let solution = solver.solve(settings).unwrap();
        run(&mut solver, solution);
    });
}

fn settings(l1: f64, l2: f64) -> Settings {
    Settings {
        l1,
        l2,
        coding: Coding::of(&Options::default()),
        max_iterations: 60,
        tolerance: 1e-8,
    }
}

/// How far the conditions of an optimum are missed, over the coefficients of all classes.
fn violation(solver: &mut Solver<'_>, solution: &Solution, l1: f64, l2: f64) -> f64 {
    let pass = solver.pass(&solution.coefficients).unwrap();
    let classes = solver.classes();
    let intercept = solver.intercept();
    let missed = |(i, (c, g)): (usize, (&f64, &f64))| {
        if i / classes == intercept {
            g.abs()
        } else if *c == 0.0 {
            (g.abs() - l1).max(0.0)
        } else {
            (g + l2 * c + l1 * c.signum()).abs()
        }
    };
    let pairs = solution.coefficients.iter().zip(&pass.gradient).enumerate();
    pairs.map(missed).fold(0.0, f64::max)
}

#[test]
fn every_method_ends_at_an_optimum() {
    let weights = [1.0, 0.5, 2.0, 1.25];
    for (l1, l2) in [(0.0, 1.0), (0.0, 0.0), (0.0, 30.0), (2.0, 0.0), (5.0, 3.0), (60.0, 0.0)] {
        let mut found: Vec<Vec<f64>> = vec![];
        for method in [Method::Full, Method::Conjugate, Method::Bound] {
            if (method == Method::Conjugate) == (l1 > 0.0) && method != Method::Full {
                continue;
            }
            encoded(900, &weights, &settings(l1, l2), method, |solver, solution| {
                assert!(
                    solution.converged && solution.separation == Separation::None,
                    "{method:?} {l1} {l2}: {:?} {:?} {:?}",
                    solution.separation,
                    solution.coefficients,
                    solver.passes.iter().map(|p| p.loss).collect::<Vec<_>>()
                );
                let missed = violation(solver, &solution, l1, l2);
                assert!(missed < 1e-5, "{method:?} {l1} {l2}: {missed}");
                for of_column in solution.coefficients.chunks_exact(4) {
                    let sum: f64 = of_column.iter().sum();
                    assert!(l1 > 0.0 || sum.abs() < 1e-9, "{method:?} {l1} {l2}: {sum}");
                }
                let intercepts: f64 = solution.coefficients[8..12].iter().sum();
                assert!(intercepts.abs() < 1e-9, "{method:?} {l1} {l2}: {intercepts}");
                if l1 == 0.0 && l2 == 0.0 {
                    for k in 0..4 {
                        let of_part: f64 = solver.of_class(&solution.coefficients, k)[3..].iter().sum();
                        assert!(of_part.abs() < 1e-9, "{method:?}: {of_part}");
                    }
                }
                let zeros = solution.coefficients.iter().filter(|c| **c == 0.0).count();
                assert!(l1 == 0.0 || zeros > 0, "{method:?} {l1} {l2}");
                found.push(solution.coefficients);
            });
        }
        assert_eq!(found.len(), 2);
        // Without l2, only what the rows are predicted to be is determined under l1.
        if l1 == 0.0 || l2 > 0.0 {
            let apart = found[0]
                .iter()
                .zip(&found[1])
                .fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
            assert!(apart < 1e-6, "{l1} {l2}: {apart}");
        }
    }
}

/// The forty customers of the two-class tests, of three kinds.
#[test]
fn coefficients_are_scikit_learns() {
    let x = |i: usize| ((i * 7) % 11) as f64;
    let kind = |i: usize| ["a", "b", "c"][(((i * 7) % 11 + (i * 29) % 10) / 7).min(2)];
    let plan = |i: usize| ["basic", "plus", "pro"][(i * 5) % 3];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("kind", Arc::new(StringArray::from_iter_values((0..40).map(kind)))),
        ("x1", Arc::new(Float64Array::from_iter_values((0..40).map(x)))),
        (
            "x2",
            Arc::new(Float64Array::from_iter_values(
                (0..40).map(|i| ((i * 13) % 17) as f64 / 4.0),
            )),
        ),
        ("plan", Arc::new(StringArray::from_iter_values((0..40).map(plan)))),
    ];
    let input = rows(columns, 7);
    let close = |found: Vec<f64>, wanted: &[f64], tolerance: f64| {
        assert_eq!(found.len(), wanted.len());
        assert!(
            found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < tolerance),
            "{found:?} {wanted:?}"
        );
    };
    let fitted = fit_on(&input, &[label()], 2).unwrap();
    #[rustfmt::skip]
    let wanted = [
        -0.366_457_599_276_162_95, -1.277_032_131_184_948_4, -0.324_825_687_273_161_63,
        -0.022_786_050_882_645_24, -0.044_621_961_940_253_57, 0.067_408_012_822_898_99,
        1.113_705_717_149_321_7, -0.114_847_211_687_011_98, 0.102_502_831_019_989_96,
        0.083_864_508_781_871_4, 0.084_621_436_966_732_05, -0.168_485_945_748_603_12,
        -0.747_248_117_873_158_6, 1.391_879_342_871_959_4, 0.222_322_856_253_171_77,
        -0.061_078_457_899_225_88, -0.039_999_475_026_477_99, 0.101_077_932_925_704_72,
    ];
    close(coefficients(&fitted), &wanted, 1e-9);
    let sparse = fit_on(&input, &[label(), number("l1", 0.5), number("l2", 0.2)], 2).unwrap();
    #[rustfmt::skip]
    let wanted = [
        -0.388_089_974_268_268_6, -1.308_884_464_207_207_7, -0.392_797_971_308_123_66, 0.0, 0.0, 0.0,
        1.262_155_916_627_458_3, 0.0, 0.0, 0.0, 0.0, -0.212_085_352_692_299_53,
        -0.874_065_942_359_189_8, 1.751_407_852_589_625_5, 0.058_533_964_153_318_78, 0.0, 0.0, 0.0,
    ];
    close(coefficients(&sparse), &wanted, 1e-6);
}

#[test]
fn enough_l1_leaves_the_intercepts() {
    encoded(900, &[1.0; 4], &settings(1e6, 0.0), Method::Full, |solver, solution| {
        let start = solver.start();
        assert!(
            solution
                .coefficients
                .iter()
                .zip(&start)
                .all(|(a, b)| (a - b).abs() < 1e-9)
        );
    });
}

/// Two classes with l2 are the two-class model with half of it: the classes' coefficients are b and −b, and the penalty on both is
/// that of ½ · (l2 / 2) · ‖2b‖².
#[test]
fn two_classes_are_the_two_class_model_with_half_the_penalty() {
    let columns = visits(0..500);
    let kinds = columns[0].1.as_string::<i32>();
    let two: BooleanArray = kinds.iter().map(|k| k.map(|k| k < "d")).collect();
    let mut table = columns.clone();
    table[0].1 = Arc::new(two.clone());
    let fitted = fit_on(&rows(table, 97), &[label(), number("l2", 1.5)], 2).unwrap();
    let wanted = coefficients(&fitted);
    let classes: Vec<u8> = two.iter().map(|v| v.map_or(255, u8::from)).collect();
    encoded(500, &[1.0; 4], &settings(0.0, 1.0), Method::Full, |solver, _| {
        let data = Data {
            block: solver.rows.block,
            classes: &classes,
            class_weights: &[1.0; 2],
        };
        for method in [Method::Full, Method::Conjugate] {
            let mut solver = Solver::new(&data, &settings(0.0, 3.0), method, solver.context).unwrap();
            let solution = solver.solve(&settings(0.0, 3.0)).unwrap();
            let mut ones = solver.of_class(&solution.coefficients, 1);
            ones[..3].rotate_right(1);
            for (one, wanted) in ones.iter().zip(&wanted) {
                assert!((2.0 * one - wanted).abs() < 1e-7, "{one} {wanted}");
            }
        }
    });
}

#[test]
fn order_batches_and_threads_do_not_show() {
    for named in [vec![label()], vec![label(), number("l1", 3.0)]] {
        let one = fit_on(&rows(visits(0..5_000), 5_000), &named, 1).unwrap();
        for (threads, batch_rows) in [(2, 433), (7, 61)] {
            let other = fit_on(&rows(visits(0..5_000), batch_rows), &named, threads).unwrap();
            assert_eq!(coefficients(&one), coefficients(&other));
        }
        let order = (0..5_000).map(|i| (i * 777 + 5) % 5_000);
        let shuffled = fit_on(&rows(visits(order), 1_000), &named, 2).unwrap();
        let (a, b) = (coefficients(&one), coefficients(&shuffled));
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-8), "{a:?} {b:?}");
    }
}

#[test]
fn rows_without_a_label_are_left_out_and_unseen_categories_add_nothing() {
    let columns = visits(0..800);
    let fitted = fit_on(&rows(columns.clone(), 97), &[label()], 2).unwrap();
    let labelled: Vec<usize> = (0..800).filter(|i| i % 29 != 7).collect();
    assert_eq!(fitted.info.row_count, labelled.len() as u64);
    let first_loss = fitted.info.passes.first().and_then(|p| p.loss).unwrap();
    assert!(
        first_loss < 4f64.ln() && fitted.info.passes.len() < 12,
        "{:?}",
        fitted.info.passes
    );

    let strange: Vec<ArrayRef> = vec![
        Arc::new(Float64Array::from(vec![11.0, 11.0])),
        Arc::new(Float64Array::from(vec![0.5, 0.5])),
        Arc::new(StringArray::from(vec!["east", "north"])),
    ];
    let predicted = fitted.model.predict_columns(&strange, &Options::default()).unwrap();
    let lists = predicted[1].as_list::<i32>();
    let probs = |row: usize| {
        let list = lists.value(row);
        let probs = list
            .as_struct()
            .column(1)
            .as_primitive::<Float64Type>()
            .values()
            .to_vec();
        let labels = list.as_struct().column(0).as_string::<i32>();
        let labels: Vec<String> = labels.iter().map(|l| l.unwrap().to_string()).collect();
        (labels, probs)
    };
    let (labels, unseen) = probs(0);
    assert_eq!(labels, ["eatery", "deli", "café", "bar"]);
    assert!((unseen.iter().sum::<f64>() - 1.0).abs() < 1e-12 && unseen != probs(1).1);
    // What an unseen category says is what the numbers alone say.
    let c = coefficients(&fitted);
    let width = c.len() / 4;
    let table = fitted.model.describe("WEIGHTS", &Options::default()).unwrap().unwrap();
    let weight = |name: &str, class: &str| {
        let row = (0..table.num_rows())
            .find(|i| {
                table.column(0).as_string::<i32>().value(*i) == name
                    && table
                        .column_by_name("class_label")
                        .unwrap()
                        .as_string::<i32>()
                        .value(*i)
                        == class
            })
            .unwrap();
        table.column(1).as_primitive::<Float64Type>().value(row)
    };
    let sum = |class: &str| weight("__INTERCEPT__", class) + 11.0 * weight("x", class) + 0.5 * weight("y", class);
    let sums: Vec<f64> = labels.iter().map(|l| sum(l).exp()).collect();
    let total: f64 = sums.iter().sum();
    assert!(sums.iter().zip(&unseen).all(|(s, p)| (s / total - p).abs() < 1e-10));
    assert_eq!((width, table.num_rows()), (7, 4 * 4));
}

#[test]
fn separated_classes_end_finite_and_say_so() {
    let x: ArrayRef = Arc::new(Float64Array::from_iter_values((0..60).map(f64::from)));
    let far: ArrayRef = Arc::new(Int64Array::from_iter_values((0..60).map(|i| i / 20)));
    let of = |kind: &ArrayRef, extra: Option<ArrayRef>, named: &[(&str, Value)]| {
        let mut columns = vec![("kind", Arc::clone(kind)), ("x", Arc::clone(&x))];
        columns.extend(extra.map(|e| ("extra", e)));
        let fitted = fit_on(&rows(columns, 17), &[&[label()], named].concat(), 2).unwrap();
        assert!(
            coefficients(&fitted).iter().all(|c| c.abs() < 1e3),
            "{:?}",
            coefficients(&fitted)
        );
        fitted.info.notices
    };
    assert_eq!(
        of(&far, None, &[]),
        ["the features separate the classes perfectly; only the penalty l2 = 1 keeps the coefficients finite"]
    );
    assert_eq!(
        of(&far, None, &[number("l2", 0.0)]),
        [
            "the features separate the classes perfectly, which leaves no finite optimum; a penalty of l2 = 0.001 was used"
        ]
    );
    assert_eq!(
        of(&far, None, &[number("l2", 0.0), number("l1", 0.5)]),
        ["the features separate the classes perfectly; only the penalty l1 = 0.5 keeps the coefficients finite"]
    );
    // A category that one class alone has.
    let near: ArrayRef = Arc::new(Int64Array::from_iter_values((0..60).map(|i| i * 7 % 20 / 7)));
    let group = (0..60).map(|i| if i * 7 % 20 > 17 { "g" } else { "h" });
    assert_eq!(
        of(
            &near,
            Some(Arc::new(StringArray::from_iter_values(group))),
            &[number("l2", 0.0), number("max_iterations", 60.0)]
        ),
        ["the features separate some rows perfectly, which leaves no finite optimum; a penalty of l2 = 0.001 was used"]
    );
    // A column that says nothing new.
    let twice: ArrayRef = Arc::new(Float64Array::from_iter_values((0..60).map(|i| 5.0 - f64::from(i))));
    assert_eq!(
        of(&near, Some(twice), &[number("l2", 0.0)]),
        ["constant or a linear combination of other columns: 'extra'; their coefficients are 0"]
    );
}

#[test]
fn labels_of_any_type_and_models_that_come_back_to_the_bit() {
    let columns = visits(0..400);
    let kinds = columns[0].1.as_string::<i32>();
    let code = |k: &str| ["bar", "café", "deli", "eatery"].iter().position(|n| *n == k).unwrap() as i64;
    let decimals: Decimal128Array = kinds.iter().map(|k| k.map(|k| i128::from(code(k)) * 50)).collect();
    let labels: Vec<ArrayRef> = vec![
        Arc::clone(&columns[0].1),
        Arc::new(kinds.iter().map(|k| k.map(code)).collect::<Int64Array>()),
        Arc::new(
            kinds
                .iter()
                .map(|k| k.map(|k| code(k) as f64 - 1.5))
                .collect::<Float64Array>(),
        ),
        Arc::new(decimals.with_precision_and_scale(6, 2).unwrap()),
    ];
    let mut first = None;
    for kind in labels {
        let mut table = columns.clone();
        table[0].1 = Arc::clone(&kind);
        let fitted = fit_on(&rows(table.clone(), 97), &[label(), number("l1", 0.5)], 2).unwrap();
        let found = coefficients(&fitted);
        assert_eq!(first.get_or_insert(found.clone()), &found);
        assert_eq!(fitted.model.predict_fields()[0].data_type(), kind.data_type());
        assert_eq!(fitted.model.kind(), "logistic_reg of 4 classes");
        assert!(!fitted.model.takes_threshold());

        let artefact = Artefact {
            name: "m".into(),
            features: fitted.model.feature_columns().to_vec(),
            options: Options::default(),
            parts: fitted.model.parts().unwrap(),
        };
        let loaded = LogisticRegression.load(&artefact).unwrap();
        let (columns, options) = (features(&table), Options::default());
        let predicted = fitted.model.predict_columns(&columns, &options).unwrap();
        assert_eq!(predicted, loaded.predict_columns(&columns, &options).unwrap());
        for (field, column) in fitted.model.predict_fields().iter().zip(&predicted) {
            assert_eq!(field.data_type(), column.data_type());
        }
        assert_eq!(loaded.parts().unwrap().settings, artefact.parts.settings);
        assert_eq!(loaded.parts().unwrap().tables, artefact.parts.tables);
        let mut torn = artefact;
        for (_, table) in torn.parts.tables.iter_mut().filter(|(name, _)| name == "coefficients") {
            *table = table.slice(0, 5);
        }
        let told = LogisticRegression.load(&torn).unwrap_err().to_string();
        assert!(told.contains("its coefficients do not fit its features and classes"));
    }
}

#[test]
fn class_weights() {
    let input = rows(visits(0..600), 97);
    let equal = coefficients(&fit_on(&input, &[label()], 2).unwrap());
    let balanced = coefficients(&fit_on(&input, &[label(), ("auto_class_weights", Value::Bool(true))], 2).unwrap());
    let kinds = visits(0..600);
    let kinds = kinds[0].1.as_string::<i32>();
    let names = ["bar", "café", "deli", "eatery"];
    let counts = names.map(|name| kinds.iter().flatten().filter(|k| *k == name).count());
    let total: usize = counts.iter().sum();
    let given = names
        .iter()
        .zip(counts)
        .map(|(name, n)| (name.to_string(), Value::Float(total as f64 / (4.0 * n as f64))));
    let by_hand = [label(), ("class_weights", Value::Struct(given.collect()))];
    let by_hand = coefficients(&fit_on(&input, &by_hand, 2).unwrap());
    assert!(balanced.iter().zip(&by_hand).all(|(a, b)| (a - b).abs() < 1e-12));
    assert!(balanced.iter().zip(&equal).any(|(a, b)| (a - b).abs() > 0.05));
    let unknown = [
        label(),
        (
            "class_weights",
            Value::Struct([("pub".to_string(), Value::Float(2.0))].into()),
        ),
    ];
    assert_eq!(
        fit_on(&input, &unknown, 2).unwrap_err().to_string(),
        "LOGISTIC_REG: option 'class_weights' names 'pub', which is no value of label 'kind'; it has 'bar', 'café', 'deli' and 'eatery'"
    );
}

#[test]
fn too_many_classes_and_a_positive_one_are_refused() {
    let of = |classes: i64, named: &[(&str, Value)]| {
        let x: ArrayRef = Arc::new(Float64Array::from_iter_values((0..900).map(|i| f64::from(i * 13 % 17))));
        let kind: ArrayRef = Arc::new(Int64Array::from_iter_values((0..900).map(|i| i % classes)));
        fit_on(
            &rows(vec![("kind", kind), ("x", x)], 100),
            &[&[label()], named].concat(),
            1,
        )
    };
    assert_eq!(
        of(51, &[]).unwrap_err().to_string(),
        "LOGISTIC_REG: label 'kind' has 51 values ('0', '1', '2', '3' and '4' among others), and a model tells 50 apart at most; put the rare ones \
         together with CASE, or use linear_reg if it is an amount"
    );
    assert!(
        of(800, &[])
            .unwrap_err()
            .to_string()
            .contains("has at least 250 values")
    );
    assert!(
        of(3, &[("positive", Value::Int(1))])
            .unwrap_err()
            .to_string()
            .contains("label 'kind' has 3 values; leave it out")
    );
    let fitted = of(50, &[]).unwrap();
    assert_eq!(coefficients(&fitted).len(), 100);
    assert!(fitted.model.verb_fields().is_empty());
    let columns: Vec<ArrayRef> = vec![Arc::new(Float64Array::from(vec![1.0]))];
    let told = fitted.model.verb_columns(&columns).unwrap_err().to_string();
    assert!(
        told.contains(
            "label 'kind' has 50: '0', '1', '2', '3', '4' and 45 more; train a model with ML.TRAIN and use ML.PREDICT"
        ),
        "{told}"
    );
    assert_eq!(fitted.model.assess_fields("CONFUSION_MATRIX").unwrap().len(), 51);
    assert_eq!(
        fitted.model.assess_fields("CONFUSION_MATRIX").unwrap()[1].data_type(),
        &DataType::Int64
    );
    assert!(fitted.model.assess_fields("ROC_CURVE").is_none());
    assert!(
        fitted
            .model
            .describe("ADVANCED_WEIGHTS", &Options::default())
            .unwrap()
            .is_none()
    );
}

fn floats(array: &ArrayRef) -> Vec<f64> {
    array.as_primitive::<Float64Type>().values().to_vec()
}

/// What ML.EXPLAIN_PREDICT says of rows: the predicted label, its probability, the attributions in a row's list, the baseline and the
/// prediction.
fn explained(model: &dyn crate::models::Model, columns: &[ArrayRef]) -> Vec<(String, f64, Vec<f64>, f64, f64)> {
    let fields = model.row_fields("EXPLAIN_PREDICT").unwrap();
    let answer = model
        .row_columns("EXPLAIN_PREDICT", columns, &Options::default())
        .unwrap();
    assert_eq!(fields.len(), answer.len());
    for (field, column) in fields.iter().zip(&answer) {
        assert_eq!(field.data_type(), column.data_type(), "{}", field.name());
    }
    assert!(floats(&answer[5]).iter().all(|e| *e == 0.0));
    let labels = answer[0].as_string::<i32>();
    (0..labels.len())
        .map(|row| {
            let list = answer[2].as_list::<i32>().value(row);
            let attributions = floats(list.as_struct().column(1));
            let at = |column: usize| floats(&answer[column])[row];
            (labels.value(row).to_string(), at(1), attributions, at(3), at(4))
        })
        .collect()
}

#[test]
fn explanations_add_up_and_know_no_parametrisation() {
    let input = visits(0..600);
    let table = rows(input.clone(), 64);
    for named in [
        vec![number("l2", 0.0)],
        vec![number("l2", 2.0)],
        vec![number("l2", 0.0), number("l1", 3.0)],
    ] {
        let fitted = fit_on(&table, &[&named[..], &[label()]].concat(), 2).unwrap();
        let columns = features(&input);
        let predicted = fitted.model.predict_columns(&columns, &Options::default()).unwrap();
        let said = predicted[0].as_string::<i32>();
        let classes = ["eatery", "deli", "café", "bar"];
        // Logarithms of probabilities beside their mean, whatever the coefficients are.
        let logarithms: Vec<Vec<f64>> = (0..600)
            .map(|row| {
                let list = predicted[1].as_list::<i32>().value(row);
                let all: Vec<f64> = floats(list.as_struct().column(1)).into_iter().map(f64::ln).collect();
                let mean = all.iter().sum::<f64>() / 4.0;
                all.into_iter().map(|l| l - mean).collect()
            })
            .collect();
        let learned: Vec<usize> = (0..600).filter(|i| i % 29 != 7).collect();
        for (row, (name, probability, attributions, baseline, prediction)) in
            explained(fitted.model.as_ref(), &columns).into_iter().enumerate()
        {
            assert_eq!(name, said.value(row));
            let class = classes.iter().position(|c| *c == name).unwrap();
            let list = predicted[1].as_list::<i32>().value(row);
            assert!((probability - floats(list.as_struct().column(1))[class]).abs() < 1e-12);
            assert!((prediction - logarithms[row][class]).abs() < 1e-9);
            let mean = learned.iter().map(|i| logarithms[*i][class]).sum::<f64>() / learned.len() as f64;
            assert!((baseline - mean).abs() < 1e-9);
            assert!((baseline + attributions.iter().sum::<f64>() - prediction).abs() < 1e-9);
            assert!(attributions.windows(2).all(|w| w[0].abs() >= w[1].abs()));
        }
    }
}

#[test]
fn all_classes_are_explained_together_and_each() {
    let input = visits(0..600);
    let fitted = fit_on(&rows(input.clone(), 64), &[label()], 2).unwrap();
    let each = [("class_level_explain".to_string(), Value::Bool(true))].into();
    let spec = crate::models::DESCRIPTIONS
        .iter()
        .find(|d| d.word == "GLOBAL_EXPLAIN")
        .unwrap();
    let each = Options::parse("test", spec.options, each).unwrap();
    let all = fitted
        .model
        .describe("GLOBAL_EXPLAIN", &Options::default())
        .unwrap()
        .unwrap();
    let of_class = fitted.model.describe("GLOBAL_EXPLAIN", &each).unwrap().unwrap();
    assert_eq!((all.num_rows(), of_class.num_rows()), (3, 12));
    assert_eq!(of_class.schema().field(0).name(), "kind");
    let (names, values) = (of_class.column(1).as_string::<i32>(), floats(of_class.column(2)));
    for (name, mean) in all.column(0).as_string::<i32>().iter().zip(floats(all.column(1))) {
        let of_name = (0..12).filter(|i| Some(names.value(*i)) == name).map(|i| values[i]);
        assert!((of_name.sum::<f64>() / 4.0 - mean).abs() < 1e-12 && mean > 0.0);
    }
    let parts = fitted.model.parts().unwrap();
    let artefact = Artefact {
        name: "m".into(),
        features: fitted.model.feature_columns().to_vec(),
        options: Options::default(),
        parts,
    };
    let loaded = LogisticRegression.load(&artefact).unwrap();
    assert_eq!(loaded.describe("GLOBAL_EXPLAIN", &each).unwrap().unwrap(), of_class);
    let columns = features(&input);
    assert_eq!(
        explained(loaded.as_ref(), &columns),
        explained(fitted.model.as_ref(), &columns)
    );
    let mut old = artefact;
    old.parts.tables.retain(|(name, _)| name != "attributions");
    let told = LogisticRegression
        .load(&old)
        .unwrap()
        .describe("GLOBAL_EXPLAIN", &each)
        .unwrap_err();
    assert!(told.to_string().contains("train it again"));
}

/// The sums of errors times columns, which are 0 where nothing is penalised: numbers, then each part (NULL is one), by class.
fn moments(fitted: &Fitted, input: &[(&'static str, ArrayRef)]) -> Vec<f64> {
    let predicted = fitted
        .model
        .predict_columns(&features(input), &Options::default())
        .unwrap();
    let (kinds, parts) = (input[0].1.as_string::<i32>(), input[3].1.as_string::<i32>());
    let (x, y) = (input[1].1.as_primitive::<Float64Type>(), floats(&input[2].1));
    let known: Vec<f64> = x.iter().flatten().collect();
    let mean = known.iter().sum::<f64>() / known.len() as f64;
    let mut sums = vec![0.0; 24];
    for row in (0..kinds.len()).filter(|row| kinds.is_valid(*row)) {
        let list = predicted[1].as_list::<i32>().value(row);
        let part = if parts.is_null(row) {
            3
        } else {
            ["north", "south", "west"]
                .iter()
                .position(|p| *p == parts.value(row))
                .unwrap()
        };
        for (class, (name, p)) in ["eatery", "deli", "café", "bar"]
            .iter()
            .zip(floats(list.as_struct().column(1)))
            .enumerate()
        {
            let error = p - f64::from(kinds.value(row) == *name);
            let x = if x.is_null(row) { mean } else { x.value(row) };
            sums[class] += error * x;
            sums[4 + class] += error * y[row];
            sums[8 + 4 * part + class] += error;
        }
    }
    sums
}

#[test]
fn without_an_intercept_and_with_dummies() {
    let input = visits(0..600);
    let table = rows(input.clone(), 64);
    let free = number("l2", 0.0);
    let none = ("fit_intercept", Value::Bool(false));
    let dummy = ("category_encoding_method", Value::Text("dummy_encoding".into()));
    let plain = fit_on(&table, &[label(), free.clone()], 2).unwrap();
    let probabilities = |fitted: &Fitted| -> Vec<f64> {
        let predicted = fitted
            .model
            .predict_columns(&features(&input), &Options::default())
            .unwrap();
        floats(predicted[1].as_list::<i32>().values().as_struct().column(1))
    };
    let wanted = probabilities(&plain);
    assert!(moments(&plain, &input).iter().all(|m| m.abs() < 1e-5));
    for named in [vec![none.clone()], vec![dummy.clone()]] {
        let fitted = fit_on(&table, &[&[label(), free.clone()], &named[..]].concat(), 2).unwrap();
        let found = probabilities(&fitted);
        assert!(
            found.iter().zip(&wanted).all(|(f, w)| (f - w).abs() < 1e-8),
            "{named:?}"
        );
        assert!(fitted.info.notices.is_empty(), "{:?}", fitted.info.notices);
    }
    // With neither, the optimum over what is left: the most frequent part's rows alone are missed.
    let fitted = fit_on(&table, &[label(), free, none, dummy], 2).unwrap();
    let missed: Vec<f64> = moments(&fitted, &input);
    let part = (0..4)
        .filter(|part| missed[8 + 4 * part..12 + 4 * part].iter().any(|m| m.abs() > 1e-3))
        .count();
    assert!(missed[..8].iter().all(|m| m.abs() < 1e-5) && part == 1, "{missed:?}");
    let zeros = coefficients(&fitted)
        .chunks(7)
        .filter(|of_class| of_class[0] == 0.0)
        .count();
    assert_eq!(zeros, 4);
}
