//! Logistic regression: the probability of one of two classes, by iteratively reweighted least squares.
//!
//! The fit minimises the summed log loss plus ½ · l2 · ‖β‖² over standardised numbers and one-hot categories, the intercept
//! free (scikit-learn's `C` is 1 / l2), by Newton's method with exact solves: every pass is one mergeable aggregate, the
//! weighted Gram matrix of [`crate::kernels::gram`]. (McCullagh & Nelder, *Generalized Linear Models*, 1989.)
//!
//! One-hot columns of one feature always add up to the intercept. With l2 = 0 the fit asks for the solution in which the
//! coefficients of each feature's categories add up to 0; it predicts as any other does.
//!
//! The verb's relation form is cross-fitted: a labelled row gets the score of a model that did not see it. Means, deviations
//! and categories are learned once, from all rows: they do not look at the label.

use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, ListArray, RecordBatch, Scalar, StructArray, UInt32Array,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::kernels::cmp::eq;
use datafusion::arrow::compute::{cast, concat, take};
use datafusion::arrow::datatypes::{
    DataType, Decimal32Type, Decimal64Type, Decimal128Type, Field, FieldRef, Fields, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, Schema, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use datafusion::arrow::util::display::array_value_to_string;
use rayon::prelude::*;

use crate::error::{Error, Result, list};
use crate::features::encode::{Encoder, EncoderOptions, Scaling, mix, table_column};
use crate::features::values::CHUNK;
use crate::kernels::gram::{self, LogisticPass, design_width, linear_predictor_f64, pass_bytes, sigmoid_f64};
use crate::metrics::classification::{Confusion, log_loss, roc_auc};
use crate::models::normal_equations::{Penalty, constraints, elimination_order, redundancy, redundant_columns};
use crate::models::predictor::LinearPredictor;
use crate::models::{
    Artefact, FEATURES, FeatureColumn, FitContext, Fitted, ID, Model, ModelType, Parts, Pass, Roles, Rows, SEED,
    TrainingInfo, column_index, feature_roles, field,
};
use crate::options::{OptionKind, OptionSpec, Options, Value};

/// The penalty that takes over where the data alone have no finite optimum.
const SEPARATION_L2: f64 = 1e-3;
/// Redundant columns are only looked for in designs to this width where a penalty makes the fit unique anyway.
const MAX_CHECKED_WIDTH: usize = 2_000;
/// Passes that a fit takes, more or less, for weighing devices.
const EXPECTED_PASSES: usize = 7;
/// Standard errors take the inverse of a matrix of this width at most.
const MAX_ERRORS_WIDTH: usize = 512;
/// The class of a row whose label is NULL.
const NO_LABEL: u8 = u8::MAX;
/// How many values of a label are told apart, to name them.
const MAX_VALUES: usize = 6;

/// Logistic regression as a model type; see the [module](self).
#[derive(Debug, Clone, Copy)]
pub struct LogisticRegression;

static OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "label",
        aliases: &["input_label_cols", "labels", "label_col"],
        kind: OptionKind::Column,
        default: "",
        help: "The column to predict, of two values; rows where it is NULL are scored but not learned from.",
    },
    OptionSpec {
        name: "method",
        aliases: &[],
        kind: OptionKind::Choice(&["logistic"]),
        default: "'logistic'",
        help: "The model behind the score.",
    },
    ID,
    FEATURES,
    OptionSpec {
        name: "positive",
        aliases: &[],
        kind: OptionKind::Any("a value of the label"),
        default: "the higher of the two",
        help: "The label's value whose probability is the score.",
    },
    OptionSpec {
        name: "l2",
        aliases: &["l2_reg"],
        kind: OptionKind::Float {
            min: 0.0,
            max: f64::MAX,
        },
        default: "1.0",
        help: "Penalty ½·l2·‖β‖² on the coefficients of standardised numbers and categories, beside the summed log loss.",
    },
    OptionSpec {
        name: "class_weights",
        aliases: &["class_weight"],
        kind: OptionKind::Any("'balanced', or a weight for each label such as {'Yes': 2.0, 'No': 1.0}"),
        default: "1 each",
        help: "How much a row of each class counts; 'balanced' makes both classes count the same.",
    },
    OptionSpec {
        name: "auto_class_weights",
        aliases: &[],
        kind: OptionKind::Bool,
        default: "false",
        help: "The same as class_weights => 'balanced'.",
    },
    OptionSpec {
        name: "folds",
        aliases: &[],
        kind: OptionKind::Int { min: 0, max: 100 },
        default: "5",
        help: "How many models score the labelled rows, each those that it did not see; 0: the full model scores all.",
    },
    OptionSpec {
        name: "max_iterations",
        aliases: &[],
        kind: OptionKind::Int { min: 1, max: 10_000 },
        default: "25",
        help: "The most Newton steps.",
    },
    OptionSpec {
        name: "tolerance",
        aliases: &[],
        kind: OptionKind::Float { min: 0.0, max: 1.0 },
        default: "1e-8",
        help: "The fit ends with the step that moves no coefficient by more than this.",
    },
    SEED,
];

impl ModelType for LogisticRegression {
    fn name(&self) -> &'static str {
        "logistic_reg"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["logistic", "logistic_regression"]
    }

    fn verb(&self) -> &'static str {
        "CHURN_SCORE"
    }

    fn summary(&self) -> &'static str {
        "The probability of one of two classes by logistic regression, fitted with Newton's method; the score of a labelled \
         row comes from a model that did not see it."
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn verb_fields(&self) -> Vec<FieldRef> {
        vec![field("churn_score", DataType::Float64)]
    }

    fn stored_fit_options(&self, options: &Options) -> Options {
        // Cross-fitting gives scores of the training rows, which nobody reads when a model is stored.
        options.clone().with("folds", Value::Int(0))
    }

    fn statement_defaults(&self) -> &'static [(&'static str, &'static str)] {
        &[("l2", "0"), ("label", "'label'")]
    }

    fn roles(&self, schema: &Schema, options: &Options) -> Result<Roles> {
        let verb = self.verb();
        let Some(name) = options.text("label") else {
            return Err(Error::request(format!(
                "{verb} needs the option 'label', the name of a column; write label => …"
            )));
        };
        let label = column_index(verb, schema, name)?;
        let data_type = schema.field(label).data_type();
        if !can_be_label(data_type) {
            return Err(Error::request(format!(
                "{verb}: column '{name}' of type {data_type} cannot be a label; it takes text, booleans or numbers of two values"
            )));
        }
        if options.int("folds", 5) == 1 {
            return Err(Error::request(format!(
                "{verb}: option 'folds' takes a whole number from 2 to 100, or 0 for none, not 1"
            )));
        }
        class_weights(verb, options)?;
        if let Some(value @ (Value::List(_) | Value::Struct(_))) = options.get("positive") {
            return Err(Error::request(format!(
                "{verb}: option 'positive' takes a value of the label, not {}",
                value.kind_name()
            )));
        }
        let features = feature_roles(verb, schema, options, &[(label, "label")])?;
        Ok(Roles {
            features,
            label: Some(label),
            ..Roles::default()
        })
    }

    fn fit(&self, rows: &dyn Rows, roles: &Roles, options: &Options, context: &FitContext<'_>) -> Result<Fitted> {
        let verb = self.verb();
        let Some(label) = roles.label else {
            return Err(Error::request(format!(
                "{verb} needs the option 'label', the name of a column; write label => …"
            )));
        };
        if rows.row_count() == 0 {
            return Err(Error::data(format!(
                "{verb}: the query gives no rows; there is nothing to learn from"
            )));
        }
        let settings = Settings {
            l2: options.float("l2", 1.0),
            max_iterations: options.int("max_iterations", 25) as usize,
            tolerance: options.float("tolerance", 1e-8),
        };
        context
            .observer
            .started("logistic regression", rows.row_count(), settings.max_iterations);
        let (labels, classes) = Labels::read(verb, rows, label, options.get("positive"), context)?;
        let counts = [0, 1].map(|class| classes.iter().filter(|c| **c == class).count());
        let weights = match class_weights(verb, options)? {
            ClassWeights::Equal => [1.0; 2],
            ClassWeights::Balanced => counts.map(|n| (counts[0] + counts[1]) as f64 / (2.0 * n as f64)),
            ClassWeights::Given(given) => labels.weights(verb, &given)?,
        };
        let encoding = EncoderOptions {
            scaling: Scaling::PopulationDeviation,
            center: true,
            max_categories: 1_000,
        };
        let (encoder, mut notices) = Encoder::learn(rows, &roles.features, &encoding, context)?;
        let block = encoder.encode_rows::<f64>(rows, &roles.features, context)?;
        let width = design_width(&block);
        let matrix_bytes = pass_bytes(block.row_count, width) + 3 * width * width * size_of::<f64>();
        context.memory.take(matrix_bytes, "the Gram matrix of the features")?;

        let wanted = options.int("folds", 5) as usize;
        // Each fold begins near its end.
        let expected_passes = EXPECTED_PASSES + if wanted >= 2 { 3 * wanted } else { 0 };
        let mut sums = gram::Rows::new(&block, &classes, expected_passes, context.compute);
        let problem = Problem {
            rows: &sums,
            weights,
            left_out: None,
        };
        let mut info = TrainingInfo {
            row_count: (counts[0] + counts[1]) as u64,
            ..TrainingInfo::default()
        };
        let full = problem.fit(&settings, None, 0, context, &mut info.passes)?;
        notices.extend(full.notices(&settings, &encoder));

        let mut row_scores = None;
        let folds;
        if wanted >= 2 {
            let hashes = encoder.row_hashes(rows, &roles.features, mix(context.seed, 0xF01D), context)?;
            context.memory.take(block.row_count * 17, "the folds")?;
            row_scores = match assign_folds(&classes, &hashes, wanted, context) {
                None => {
                    notices.push(format!(
                        "label '{}' has only one distinct row of a class, so that no model without it can score it; all rows \
                         have the score of the model fitted on all of them",
                        labels.name
                    ));
                    None
                }
                Some((found, count)) => {
                    folds = found;
                    sums.set_folds(&folds);
                    let problem = Problem {
                        rows: &sums,
                        weights,
                        left_out: None,
                    };
                    if count < wanted {
                        notices.push(format!(
                            "a class has only {count} distinct rows; {count} folds were used instead of {wanted}"
                        ));
                    }
                    Some(cross_fitted_scores(
                        &problem,
                        &full,
                        &settings,
                        (&folds, count),
                        context,
                    )?)
                }
            };
        }
        for notice in &notices {
            context.observer.notice(notice);
        }
        info.notices = notices;
        let model = LogisticModel {
            predictor: LinearPredictor::new(encoder, full.coefficients, full.standard_errors),
            labels,
            l2: full.l2,
        };
        Ok(Fitted {
            model: Arc::new(model),
            info,
            row_scores,
        })
    }

    fn load(&self, artefact: &Artefact) -> Result<Arc<dyn Model>> {
        let predictor = LinearPredictor::from_artefact(artefact)?;
        let labels = Labels::from_artefact(artefact)?;
        let l2 = artefact.setting("l2")?;
        Ok(Arc::new(LogisticModel { predictor, labels, l2 }))
    }
}

/// How much each class counts.
enum ClassWeights {
    Equal,
    Balanced,
    Given(Vec<(Value, f64)>),
}

/// The class weights that the options ask for.
fn class_weights(verb: &str, options: &Options) -> Result<ClassWeights> {
    let auto = options.bool("auto_class_weights", false);
    let refuse = || {
        Err(Error::request(format!(
            "{verb}: option 'class_weights' takes 'balanced', or a positive weight for each label such as {{'Yes': 2.0, 'No': 1.0}}"
        )))
    };
    let Some(value) = options.get("class_weights") else {
        return Ok(if auto {
            ClassWeights::Balanced
        } else {
            ClassWeights::Equal
        });
    };
    if auto {
        return Err(Error::request(format!(
            "{verb}: options 'class_weights' and 'auto_class_weights' are both given; give one of them"
        )));
    }
    let mut given = vec![];
    match value {
        Value::Text(word) if word.eq_ignore_ascii_case("balanced") => return Ok(ClassWeights::Balanced),
        Value::Struct(weights) => {
            given.extend(
                weights
                    .iter()
                    .map(|(label, weight)| (Value::Text(label.clone()), weight.as_f64())),
            );
        }
        // BigQuery ML's form: [STRUCT('Yes', 2.0), …]; the fields stand in the order of their names.
        Value::List(items) => {
            for item in items {
                match item {
                    Value::Struct(pair) if pair.len() == 2 => {
                        let mut fields = pair.values();
                        if let (Some(label), Some(weight)) = (fields.next(), fields.next()) {
                            given.push((label.clone(), weight.as_f64()));
                        }
                    }
                    Value::Struct(pairs) => {
                        given.extend(
                            pairs
                                .iter()
                                .map(|(label, weight)| (Value::Text(label.clone()), weight.as_f64())),
                        );
                    }
                    Value::List(pair) => match &pair[..] {
                        [label, weight] => given.push((label.clone(), weight.as_f64())),
                        _ => return refuse(),
                    },
                    _ => return refuse(),
                }
            }
        }
        _ => return refuse(),
    }
    let checked: Option<Vec<(Value, f64)>> = given
        .into_iter()
        .map(|(label, weight)| weight.filter(|w| w.is_finite() && *w > 0.0).map(|w| (label, w)))
        .collect();
    match checked {
        Some(weights) if !weights.is_empty() => Ok(ClassWeights::Given(weights)),
        _ => refuse(),
    }
}

fn can_be_label(data_type: &DataType) -> bool {
    match data_type {
        DataType::Boolean | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, value) => !matches!(value.as_ref(), DataType::Dictionary(_, _)) && can_be_label(value),
        t => t.is_numeric(),
    }
}

/// A label's value, to be compared: those of one column are all of one kind.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
enum LabelValue {
    Bool(bool),
    /// A whole number, or a decimal without its point.
    Int(i128),
    Float(f64),
    Text(String),
}

/// The label's values in a batch, each with a row that has it, and the index of each row's value.
struct BatchLabels {
    values: Vec<(LabelValue, usize)>,
    rows: Vec<u8>,
}

/// Tells values apart, at most [`MAX_VALUES`] of them; rows with others count as the last.
fn tell_apart<T>(
    row_count: usize,
    get: impl Fn(usize) -> Option<T>,
    same: impl Fn(&T, &LabelValue) -> bool,
    own: impl Fn(T) -> LabelValue,
) -> BatchLabels {
    let mut values: Vec<(LabelValue, usize)> = vec![];
    let rows = (0..row_count)
        .map(|row| {
            let Some(value) = get(row) else { return NO_LABEL };
            let index = values.iter().position(|(v, _)| same(&value, v)).unwrap_or_else(|| {
                if values.len() < MAX_VALUES {
                    values.push((own(value), row));
                }
                values.len() - 1
            });
            index as u8
        })
        .collect();
    BatchLabels { values, rows }
}

/// The column with dictionaries unpacked.
fn plain_label(array: &ArrayRef) -> Result<ArrayRef> {
    Ok(match array.data_type() {
        DataType::Dictionary(_, value) => cast(array, value)?,
        _ => Arc::clone(array),
    })
}

fn batch_labels(array: &ArrayRef) -> Result<BatchLabels> {
    let n = array.len();
    macro_rules! integers {
        ($type:ty) => {{
            let array = array.as_primitive::<$type>();
            let get = |row| array.is_valid(row).then(|| i128::from(array.value(row)));
            tell_apart(n, get, |v, known| *known == LabelValue::Int(*v), LabelValue::Int)
        }};
    }
    macro_rules! texts {
        ($array:expr) => {{
            let array = $array;
            let get = |row| array.is_valid(row).then(|| array.value(row));
            let same = |v: &&str, known: &LabelValue| matches!(known, LabelValue::Text(t) if t == v);
            tell_apart(n, get, same, |v| LabelValue::Text(v.to_string()))
        }};
    }
    Ok(match array.data_type() {
        DataType::Boolean => {
            let array = array.as_boolean();
            let get = |row| array.is_valid(row).then(|| array.value(row));
            tell_apart(n, get, |v, known| *known == LabelValue::Bool(*v), LabelValue::Bool)
        }
        DataType::Utf8 => texts!(array.as_string::<i32>()),
        DataType::LargeUtf8 => texts!(array.as_string::<i64>()),
        DataType::Utf8View => texts!(array.as_string_view()),
        DataType::Int8 => integers!(Int8Type),
        DataType::Int16 => integers!(Int16Type),
        DataType::Int32 => integers!(Int32Type),
        DataType::Int64 => integers!(Int64Type),
        DataType::UInt8 => integers!(UInt8Type),
        DataType::UInt16 => integers!(UInt16Type),
        DataType::UInt32 => integers!(UInt32Type),
        DataType::UInt64 => integers!(UInt64Type),
        DataType::Decimal32(_, _) => integers!(Decimal32Type),
        DataType::Decimal64(_, _) => integers!(Decimal64Type),
        DataType::Decimal128(_, _) => {
            let array = array.as_primitive::<Decimal128Type>();
            let get = |row| array.is_valid(row).then(|| array.value(row));
            tell_apart(n, get, |v, known| *known == LabelValue::Int(*v), LabelValue::Int)
        }
        _ => {
            let array = cast(array, &DataType::Float64)?;
            let array = array.as_primitive::<Float64Type>();
            // Adding 0 makes -0 and 0 one; a NaN or infinity is no label.
            let get = |row| {
                array
                    .is_valid(row)
                    .then(|| array.value(row) + 0.0)
                    .filter(|v| v.is_finite())
            };
            tell_apart(n, get, |v, known| *known == LabelValue::Float(*v), LabelValue::Float)
        }
    })
}

/// The two values of a label.
#[derive(Debug, Clone)]
struct Labels {
    /// The label column's name.
    name: String,
    /// The two values in the column's type (dictionaries unpacked), the lower first.
    values: ArrayRef,
    /// Which of them is the positive class.
    positive: usize,
}

impl Labels {
    /// Reads the label of every row: the two values, and each row's class, 1 for the positive one, [`NO_LABEL`] for NULL.
    fn read(
        verb: &str,
        rows: &dyn Rows,
        column: usize,
        positive: Option<&Value>,
        context: &FitContext<'_>,
    ) -> Result<(Self, Vec<u8>)> {
        let name = rows.schema().field(column).name().clone();
        context.memory.take(2 * rows.row_count(), "the labels")?;
        let of_batch = |index: usize| -> Result<(BatchLabels, Vec<ArrayRef>)> {
            context.check_cancelled()?;
            let array = plain_label(rows.batch(index)?.column(column))?;
            let labels = batch_labels(&array)?;
            // A copy of the value: a slice would hold on to the whole column.
            let owned = |(_, row): &(LabelValue, usize)| take(&array, &UInt32Array::from(vec![*row as u32]), None);
            let arrays = labels
                .values
                .iter()
                .map(owned)
                .collect::<std::result::Result<Vec<_>, _>>()?;
            Ok((labels, arrays))
        };
        let batches: Vec<Result<(BatchLabels, Vec<ArrayRef>)>> = context
            .compute
            .pool
            .install(|| (0..rows.batch_count()).into_par_iter().map(of_batch).collect());
        let mut values: Vec<(LabelValue, ArrayRef)> = vec![];
        let mut batch_rows = vec![];
        for batch in batches {
            let (batch, arrays) = batch?;
            let mut here = vec![];
            for ((value, _), array) in batch.values.into_iter().zip(arrays) {
                let known = values.iter().position(|(v, _)| *v == value);
                here.push(known.unwrap_or(values.len()));
                if known.is_none() {
                    values.push((value, array));
                }
            }
            batch_rows.push((batch.rows, here));
        }
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|a, b| {
            values[*a]
                .0
                .partial_cmp(&values[*b].0)
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        let arrays: Vec<&dyn Array> = order.iter().map(|i| values[*i].1.as_ref()).collect();
        let texts = |n: usize| {
            arrays
                .iter()
                .take(n)
                .map(|a| Ok(array_value_to_string(*a, 0)?))
                .collect::<Result<Vec<_>>>()
        };
        match arrays.len() {
            0 => {
                return Err(Error::data(format!(
                    "{verb}: label '{name}' is NULL in every row; at least two rows need one to learn from"
                )));
            }
            1 => {
                return Err(Error::data(format!(
                    "{verb}: label '{name}' has only the value {}; two are needed to learn from",
                    list(texts(1)?, 1)
                )));
            }
            2 => {}
            n => {
                let more = if n >= MAX_VALUES { " among others" } else { "" };
                return Err(Error::data(format!(
                    "{verb}: label '{name}' has more than two values ({}{more}); make it a condition, such as {name} = {} AS {name}",
                    list(texts(MAX_VALUES - 1)?, MAX_VALUES),
                    list(texts(1)?, 1)
                )));
            }
        }
        let values_column = match concat(&arrays)? {
            // Views would hold on to the text of whole batches.
            views if views.data_type() == &DataType::Utf8View => Arc::new(views.as_string_view().gc()) as ArrayRef,
            other => other,
        };
        let mut labels = Self {
            name,
            values: values_column,
            positive: 1,
        };
        if let Some(positive) = positive {
            let texts = labels.texts()?;
            labels.positive = labels.find(positive)?.ok_or_else(|| {
                Error::data(format!(
                    "{verb}: option 'positive' is {positive}, which is no value of label '{}'; it has {}",
                    labels.name,
                    list(texts, 2)
                ))
            })?;
        }
        let mut classes = Vec::with_capacity(rows.row_count());
        for (codes, here) in batch_rows {
            let class = |value: usize| u8::from(order[labels.positive] == value);
            let of_code: Vec<u8> = here.into_iter().map(class).collect();
            classes.extend(
                codes
                    .into_iter()
                    .map(|c| of_code.get(usize::from(c)).copied().unwrap_or(NO_LABEL)),
            );
        }
        Ok((labels, classes))
    }

    /// Both values as text.
    fn texts(&self) -> Result<Vec<String>> {
        (0..2).map(|i| Ok(array_value_to_string(&self.values, i)?)).collect()
    }

    /// Which of the two values a constant means: as it is written, or as a number or boolean of the same value.
    fn find(&self, value: &Value) -> Result<Option<usize>> {
        let texts = self.texts()?;
        let wanted = match value {
            Value::Text(t) => t.clone(),
            other => other.to_string(),
        };
        let exact = texts.iter().position(|t| *t == wanted);
        let loose = || {
            texts
                .iter()
                .position(|t| match (t.parse::<f64>(), wanted.parse::<f64>()) {
                    (Ok(a), Ok(b)) => a == b,
                    _ => self.values.data_type() == &DataType::Boolean && t.eq_ignore_ascii_case(&wanted),
                })
        };
        Ok(exact.or_else(loose))
    }

    /// Given weights by class.
    fn weights(&self, verb: &str, given: &[(Value, f64)]) -> Result<[f64; 2]> {
        let mut weights = [1.0; 2];
        for (label, weight) in given {
            let Some(index) = self.find(label)? else {
                return Err(Error::data(format!(
                    "{verb}: option 'class_weights' names {label}, which is no value of label '{}'; it has {}",
                    self.name,
                    list(self.texts()?, 2)
                )));
            };
            weights[usize::from(index == self.positive)] = *weight;
        }
        Ok(weights)
    }

    fn from_artefact(artefact: &Artefact) -> Result<Self> {
        let name: String = artefact.setting("label")?;
        let type_name: String = artefact.setting("label_type")?;
        let data_type: DataType = type_name
            .parse()
            .map_err(|_| artefact.corrupt(format!("its label's type '{type_name}' is unknown")))?;
        let positive: usize = artefact.setting("positive")?;
        let values = table_column(artefact, artefact.table("labels")?, "label", &data_type)?;
        if values.len() != 2 || positive > 1 || values.null_count() > 0 {
            return Err(artefact.corrupt("its label has not two values"));
        }
        Ok(Self { name, values, positive })
    }
}

/// Options of the solver.
#[derive(Debug, Clone, Copy)]
struct Settings {
    l2: f64,
    max_iterations: usize,
    tolerance: f64,
}

/// Rows to be fitted.
#[derive(Clone, Copy)]
struct Problem<'a> {
    /// The rows, with their classes: 1 for the positive one, 0 for the other, [`NO_LABEL`] for rows to leave out.
    rows: &'a gram::Rows<'a>,
    /// The weights of the classes 0 and 1.
    weights: [f64; 2],
    /// The fold to leave out.
    left_out: Option<u8>,
}

/// What a fit came to.
struct Solution {
    /// One for each column of the design.
    coefficients: Vec<f64>,
    standard_errors: Option<Vec<f64>>,
    /// The penalty that was used.
    l2: f64,
    converged: bool,
    /// Columns that say nothing that columns before them do not.
    redundant: Vec<usize>,
    separation: Separation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Separation {
    None,
    /// Coefficients ran away, the loss did not: some rows are separated.
    Partial,
    /// Every row of class 1 is above every row of class 0.
    Perfect,
}

impl Problem<'_> {
    fn pass(&self, coefficients: &[f64]) -> Result<LogisticPass> {
        Ok(self.rows.logistic(coefficients, self.weights, self.left_out)?)
    }

    /// Fits with the penalty asked for, and again with a small one where that has no finite optimum.
    fn fit(
        &self,
        settings: &Settings,
        start: Option<&[f64]>,
        run: i64,
        context: &FitContext<'_>,
        passes: &mut Vec<Pass>,
    ) -> Result<Solution> {
        let mut solution = self.newton(settings, start, run, context, passes)?;
        if solution.separation != Separation::None && solution.l2 < SEPARATION_L2 {
            let separation = solution.separation;
            let settings = Settings {
                l2: SEPARATION_L2,
                ..*settings
            };
            solution = self.newton(&settings, None, run, context, passes)?;
            solution.separation = separation;
        }
        Ok(solution)
    }

    /// The coefficients of a model without features: the log odds of the classes.
    fn intercept_only(&self) -> Vec<f64> {
        let mut counts = [0.0; 2];
        for (row, class) in self.rows.labels().iter().enumerate() {
            if *class <= 1
                && self
                    .rows
                    .folds()
                    .zip(self.left_out)
                    .is_none_or(|(folds, out)| folds[row] != out)
            {
                counts[usize::from(*class)] += self.weights[usize::from(*class)];
            }
        }
        let mut coefficients = vec![0.0; design_width(self.rows.block())];
        if counts[0] > 0.0 && counts[1] > 0.0 {
            coefficients[self.rows.block().number_count] = (counts[1] / counts[0]).ln();
        }
        coefficients
    }

    fn newton(
        &self,
        settings: &Settings,
        start: Option<&[f64]>,
        run: i64,
        context: &FitContext<'_>,
        passes: &mut Vec<Pass>,
    ) -> Result<Solution> {
        let width = design_width(self.rows.block());
        let mut clock = Instant::now();
        let mut coefficients = start.map_or_else(|| self.intercept_only(), <[f64]>::to_vec);
        let mut pass = self.pass(&coefficients)?;
        let constraints = constraints(self.rows.block(), &pass.gram);
        let l2 = settings.l2;
        let mut redundant = vec![];
        // Fits that start from another's coefficients have had this said.
        if l2 == 0.0 || start.is_none() && width <= MAX_CHECKED_WIDTH {
            redundant = redundant_columns(&pass.gram, self.rows.block().number_count, &constraints);
        }
        let dropped: &[usize] = if l2 == 0.0 { &redundant } else { &[] };
        let penalty = Penalty {
            l2,
            intercept: self.rows.block().number_count,
            constraints: if l2 == 0.0 { &constraints } else { &[] },
            active: elimination_order(width, self.rows.block().number_count, dropped),
        };
        if dropped.iter().any(|i| coefficients[*i] != 0.0) {
            dropped.iter().for_each(|i| coefficients[*i] = 0.0);
            pass = self.pass(&coefficients)?;
        }
        let mut objective = pass.loss + penalty.value(&coefficients);
        let (mut converged, mut separation) = (false, Separation::None);
        let first_pass = passes.len();
        let tell = |passes: &mut Vec<Pass>, pass: &LogisticPass, clock: &mut Instant| {
            let told = Pass {
                training_run: run,
                iteration: passes.len() as i64,
                loss: Some(pass.loss / pass.weight.max(f64::MIN_POSITIVE)),
                duration_ms: clock.elapsed().as_secs_f64() * 1e3,
                clusters: vec![],
            };
            context.observer.pass(&told);
            passes.push(told);
            *clock = Instant::now();
        };
        for iteration in 0..settings.max_iterations {
            context.check_cancelled()?;
            let Some(step) = penalty.step(&pass.gram, &coefficients) else {
                separation = Separation::Partial;
                break;
            };
            let size = step.iter().fold(0.0f64, |m, s| m.max(s.abs()));
            if size <= settings.tolerance {
                coefficients.iter_mut().zip(&step).for_each(|(c, s)| *c -= s);
                converged = true;
                break;
            }
            // The whole step, or a half, a quarter … of it if the loss would rise.
            let mut share = 1.0;
            let better = loop {
                let next: Vec<f64> = coefficients.iter().zip(&step).map(|(c, s)| c - share * s).collect();
                let next_pass = self.pass(&next)?;
                let next_objective = next_pass.loss + penalty.value(&next);
                // So near the end, rounding decides which of the two is smaller, and the whole step is right.
                if size < 1e-5 || next_objective <= objective + 1e-13 * (1.0 + objective.abs()) {
                    break Some((next, next_pass, next_objective));
                }
                share /= 2.0;
                if share < 1e-4 {
                    break None;
                }
            };
            let Some((next, next_pass, next_objective)) = better else {
                // No step in this direction lowers the loss any more: this is as near as rounding lets it come.
                converged = size < 1e-4;
                break;
            };
            let fall = objective - next_objective;
            (coefficients, pass, objective) = (next, next_pass, next_objective);
            tell(passes, &pass, &mut clock);
            if l2 == 0.0 && pass.lowest_one > pass.highest_zero {
                separation = Separation::Perfect;
                break;
            }
            if l2 < SEPARATION_L2 && iteration >= 19 && share * size > 0.3 && fall < 1e-3 * objective.abs() {
                separation = Separation::Partial;
                break;
            }
        }
        if passes.len() == first_pass {
            tell(passes, &pass, &mut clock);
        }
        if separation == Separation::None && pass.lowest_one > pass.highest_zero {
            separation = Separation::Perfect;
        }
        let plain = self.weights == [1.0; 2] && start.is_none() && width <= MAX_ERRORS_WIDTH;
        let standard_errors = if plain && converged {
            penalty.standard_errors(&pass.gram, width)
        } else {
            None
        };
        Ok(Solution {
            coefficients,
            standard_errors,
            l2,
            converged,
            redundant,
            separation,
        })
    }
}

impl Solution {
    /// What the user should know of the fit.
    fn notices(&self, settings: &Settings, encoder: &Encoder) -> Vec<String> {
        let mut notices: Vec<String> = redundancy(&self.redundant, encoder, settings.l2).into_iter().collect();
        let raised = self.l2 != settings.l2;
        match self.separation {
            Separation::Perfect if raised => notices.push(format!(
                "the features separate the classes perfectly, which leaves no finite optimum; a penalty of l2 = {} was used",
                self.l2
            )),
            Separation::Partial if raised => notices.push(format!(
                "the features separate some rows perfectly, which leaves no finite optimum; a penalty of l2 = {} was used",
                self.l2
            )),
            Separation::Perfect => notices.push(format!(
                "the features separate the classes perfectly; only the penalty l2 = {} keeps the coefficients finite",
                self.l2
            )),
            _ => {}
        }
        if !self.converged {
            notices.push(format!(
                "the fit had not converged when it ended; raise max_iterations ({}) or l2",
                settings.max_iterations
            ));
        }
        notices
    }
}

/// Deals the labelled rows of each class out to folds, in the order of their hashes, and says how many folds there are: at most
/// `wanted`, and so few that every class is in two of them. None where that cannot be.
///
/// Copies of a row share a fold as long as they are few: then it does not matter how they are ordered. Where many rows are copies
/// (more than a tenth of all, or more than `wanted` of one), to keep them together would leave nothing of their kind to
/// learn from, and the copies are dealt out one by one.
fn assign_folds(classes: &[u8], hashes: &[u64], wanted: usize, context: &FitContext<'_>) -> Option<(Vec<u8>, usize)> {
    let of_class = |class: u8| {
        let mut rows: Vec<(u64, usize)> = (0..classes.len())
            .filter(|r| classes[*r] == class)
            .map(|r| (hashes[r], r))
            .collect();
        context.compute.pool.install(|| rows.par_sort_unstable());
        rows
    };
    let rows = [of_class(0), of_class(1)];
    let copies: usize = rows
        .iter()
        .flat_map(|rows| rows.chunk_by(|a, b| a.0 == b.0))
        .map(<[_]>::len)
        .filter(|count| *count > 1)
        .sum();
    let labelled = rows[0].len() + rows[1].len();
    let stays_together = |count: usize| count <= wanted && copies * 10 <= labelled;
    let unit_count = |rows: &Vec<(u64, usize)>| -> usize {
        rows.chunk_by(|a, b| a.0 == b.0)
            .map(|run| if stays_together(run.len()) { 1 } else { run.len() })
            .sum()
    };
    let count = wanted.min(unit_count(&rows[0])).min(unit_count(&rows[1]));
    if count < 2 {
        return None;
    }
    let mut folds = vec![NO_LABEL; classes.len()];
    let mut unit = 0;
    for rows in &rows {
        for run in rows.chunk_by(|a, b| a.0 == b.0) {
            let together = stays_together(run.len());
            for (_, row) in run {
                folds[*row] = (unit % count) as u8;
                unit += usize::from(!together);
            }
            unit += usize::from(together);
        }
    }
    Some((folds, count))
}

/// The probability of the positive class for every row: for labelled ones by a model fitted without the row's fold, for the
/// others by the full model.
fn cross_fitted_scores(
    problem: &Problem<'_>,
    full: &Solution,
    settings: &Settings,
    (folds, count): (&[u8], usize),
    context: &FitContext<'_>,
) -> Result<Vec<f64>> {
    let settings = Settings {
        l2: full.l2,
        ..*settings
    };
    let mut models = vec![];
    for fold in 0..count {
        let problem = Problem {
            left_out: Some(fold as u8),
            ..*problem
        };
        let solution = problem.fit(
            &settings,
            Some(&full.coefficients),
            fold as i64 + 1,
            context,
            &mut vec![],
        )?;
        models.push(solution.coefficients);
    }
    let mut scores = vec![0.0; problem.rows.block().row_count];
    context.memory.take(scores.len() * size_of::<f64>(), "the scores")?;
    context.compute.pool.install(|| {
        scores.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, scores)| {
            for (i, score) in scores.iter_mut().enumerate() {
                let row = chunk * CHUNK + i;
                let model = models.get(usize::from(folds[row])).unwrap_or(&full.coefficients);
                *score = linear_predictor_f64(problem.rows.block(), model, row);
            }
            sigmoid_f64(scores);
        });
    });
    Ok(scores)
}

/// A trained logistic regression.
#[derive(Debug)]
struct LogisticModel {
    /// The log odds of the positive class.
    predictor: LinearPredictor,
    labels: Labels,
    l2: f64,
}

impl LogisticModel {
    /// The probability of the positive class.
    fn probabilities(&self, columns: &[ArrayRef]) -> Result<Vec<f64>> {
        let mut sums = self.predictor.sums(columns)?;
        sigmoid_f64(&mut sums);
        Ok(sums)
    }

    /// The label of each of these positions among the two values.
    fn label_column(&self, positions: impl Iterator<Item = u32>) -> Result<ArrayRef> {
        Ok(take(
            &self.labels.values,
            &UInt32Array::from_iter_values(positions),
            None,
        )?)
    }

    fn probability_fields(&self) -> Fields {
        Fields::from(vec![
            Field::new("label", self.labels.values.data_type().clone(), true),
            Field::new("prob", DataType::Float64, true),
        ])
    }
}

/// The column of a confusion matrix for a predicted label, as BigQuery ML names it: what cannot begin a name gets an underscore.
fn confusion_column(label: &str) -> String {
    let clean: String = label
        .chars()
        .map(|c| if c.is_alphanumeric() { c } else { '_' })
        .collect();
    match clean.chars().next() {
        Some(first) if first.is_alphabetic() || first == '_' => clean,
        _ => format!("_{clean}"),
    }
}

/// The thresholds of `ML.ROC_CURVE`: those that were asked for, or every hundredth.
fn roc_thresholds(options: &Options) -> Result<Vec<f64>> {
    let Some(given) = options.get("thresholds") else {
        return Ok((0..=100).map(|i| f64::from(i) / 100.0).collect());
    };
    let numbers = match given {
        Value::List(values) if !values.is_empty() => values.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>(),
        _ => None,
    };
    match numbers {
        Some(numbers) if numbers.iter().all(|t| (0.0..=1.0).contains(t)) => Ok(numbers),
        _ => Err(Error::request(format!(
            "ML.ROC_CURVE: option 'thresholds' takes a list of numbers from 0 to 1, not {given}"
        ))),
    }
}

impl LogisticModel {
    /// The probability of each row that has a label, and whether its label is the positive one. The rows are the features in the
    /// model's order, then the label.
    fn judged(&self, word: &str, rows: &dyn Rows, stop: &dyn Fn() -> bool) -> Result<(Vec<f64>, Vec<bool>)> {
        let (mut probabilities, mut positive) = (vec![], vec![]);
        let feature_count = self.feature_columns().len();
        for index in 0..rows.batch_count() {
            if stop() {
                return Err(Error::cancelled());
            }
            let batch = rows.batch(index)?;
            let all = self.probabilities(&batch.columns()[..feature_count])?;
            let labels = cast(
                &plain_label(batch.column(feature_count))?,
                self.labels.values.data_type(),
            )?;
            let is = |position: usize| eq(&labels, &Scalar::new(self.labels.values.slice(position, 1)));
            let (yes, no) = (is(self.labels.positive)?, is(1 - self.labels.positive)?);
            for (row, probability) in all.into_iter().enumerate() {
                if labels.is_null(row) {
                    continue;
                }
                if !yes.value(row) && !no.value(row) {
                    return Err(Error::data(format!(
                        "ML.{word}: label '{}' is '{}' in a row, and the model knows {}; leave such rows out",
                        self.labels.name,
                        array_value_to_string(&labels, row)?,
                        list(self.labels.texts()?, 2)
                    )));
                }
                probabilities.push(probability);
                positive.push(yes.value(row));
            }
        }
        if probabilities.is_empty() {
            return Err(Error::data(format!(
                "ML.{word}: label '{}' is NULL in every row; at least one row needs one to judge the model by",
                self.labels.name
            )));
        }
        Ok((probabilities, positive))
    }
}

impl Model for LogisticModel {
    fn model_type(&self) -> &'static str {
        "logistic_reg"
    }

    fn feature_columns(&self) -> &[FeatureColumn] {
        self.predictor.feature_columns()
    }

    fn verb_fields(&self) -> Vec<FieldRef> {
        LogisticRegression.verb_fields()
    }

    fn verb_columns(&self, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        Ok(vec![Arc::new(Float64Array::from(self.probabilities(columns)?))])
    }

    fn predict_fields(&self) -> Vec<FieldRef> {
        let name = &self.labels.name;
        let item = Field::new("item", DataType::Struct(self.probability_fields()), true);
        vec![
            field(format!("predicted_{name}"), self.labels.values.data_type().clone()),
            field(format!("predicted_{name}_probs"), DataType::List(Arc::new(item))),
        ]
    }

    fn predict_columns(&self, columns: &[ArrayRef], options: &Options) -> Result<Vec<ArrayRef>> {
        let threshold = options.float("threshold", 0.5);
        let probabilities = self.probabilities(columns)?;
        let (positive, negative) = (self.labels.positive as u32, 1 - self.labels.positive as u32);
        let predicted = self.label_column(
            probabilities
                .iter()
                .map(|p| if *p >= threshold { positive } else { negative }),
        )?;
        // The higher label first.
        let labels = self.label_column(probabilities.iter().flat_map(|_| [1, 0]))?;
        let both = |p: &f64| if positive == 1 { [*p, 1.0 - p] } else { [1.0 - p, *p] };
        let probs = Float64Array::from_iter_values(probabilities.iter().flat_map(both));
        let fields = self.probability_fields();
        let item = Arc::new(Field::new("item", DataType::Struct(fields.clone()), true));
        let structs = StructArray::try_new(fields, vec![labels, Arc::new(probs)], None)?;
        let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(2, probabilities.len()));
        let lists = ListArray::try_new(item, offsets, Arc::new(structs), None)?;
        Ok(vec![predicted, Arc::new(lists)])
    }

    fn takes_threshold(&self) -> bool {
        true
    }

    fn label(&self) -> Option<&str> {
        Some(&self.labels.name)
    }

    fn assess_fields(&self, word: &str) -> Option<Vec<FieldRef>> {
        let float = |name: &str| field(name, DataType::Float64);
        let count = |name: &str| field(name, DataType::Int64);
        Some(match word {
            "EVALUATE" => ["precision", "recall", "accuracy", "f1_score", "log_loss", "roc_auc"]
                .map(float)
                .to_vec(),
            "CONFUSION_MATRIX" => {
                let mut fields = vec![field("expected_label", self.labels.values.data_type().clone())];
                fields.extend(self.labels.texts().ok()?.iter().map(|t| count(&confusion_column(t))));
                fields
            }
            "ROC_CURVE" => {
                let mut fields = ["threshold", "recall", "false_positive_rate"].map(float).to_vec();
                fields.extend(["true_positives", "false_positives", "true_negatives", "false_negatives"].map(count));
                fields
            }
            _ => return None,
        })
    }

    fn assess(&self, word: &str, rows: &dyn Rows, options: &Options, stop: &dyn Fn() -> bool) -> Result<RecordBatch> {
        let (probabilities, positive) = self.judged(word, rows, stop)?;
        let threshold = options.float("threshold", 0.5);
        let at = |threshold| Confusion::at(threshold, &probabilities, &positive);
        let floats = |values: Vec<f64>| -> ArrayRef { Arc::new(Float64Array::from(values)) };
        let counts = |values: Vec<u64>| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(values.into_iter().map(|v| v as i64)))
        };
        let columns: Vec<ArrayRef> = match word {
            "EVALUATE" => {
                let c = at(threshold);
                let loss = log_loss(&probabilities, &positive);
                vec![
                    floats(vec![c.precision()]),
                    floats(vec![c.recall()]),
                    floats(vec![c.accuracy()]),
                    floats(vec![c.f1_score()]),
                    Arc::new(Float64Array::from(vec![loss])),
                    // Without rows of both classes there is none.
                    Arc::new(Float64Array::from(vec![roc_auc(&probabilities, &positive)])),
                ]
            }
            "CONFUSION_MATRIX" => {
                let c = at(threshold);
                // By expected and predicted class, the positive one last; then in the order of the labels.
                let of_class = [
                    [c.true_negatives, c.false_positives],
                    [c.false_negatives, c.true_positives],
                ];
                let class = |label: usize| usize::from(label == self.labels.positive);
                let expected: Vec<usize> = (0..2).filter(|l| of_class[class(*l)].iter().sum::<u64>() > 0).collect();
                let mut columns = vec![self.label_column(expected.iter().map(|l| *l as u32))?];
                for predicted in 0..2 {
                    let column = expected.iter().map(|l| of_class[class(*l)][class(predicted)]);
                    columns.push(counts(column.collect()));
                }
                columns
            }
            "ROC_CURVE" => {
                let thresholds = roc_thresholds(options)?;
                let all: Vec<Confusion> = thresholds.iter().map(|t| at(*t)).collect();
                let rate = |c: &Confusion| {
                    let negatives = c.false_positives + c.true_negatives;
                    if negatives == 0 {
                        0.0
                    } else {
                        c.false_positives as f64 / negatives as f64
                    }
                };
                vec![
                    floats(thresholds),
                    floats(all.iter().map(Confusion::recall).collect()),
                    floats(all.iter().map(rate).collect()),
                    counts(all.iter().map(|c| c.true_positives).collect()),
                    counts(all.iter().map(|c| c.false_positives).collect()),
                    counts(all.iter().map(|c| c.true_negatives).collect()),
                    counts(all.iter().map(|c| c.false_negatives).collect()),
                ]
            }
            _ => {
                return Err(Error::request(format!(
                    "ML.{word} says nothing of a logistic regression"
                )));
            }
        };
        let fields = self.assess_fields(word).unwrap_or_default();
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }

    fn describe(&self, word: &str, options: &Options) -> Result<Option<RecordBatch>> {
        let standardize = options.bool("standardize", false);
        match word {
            "WEIGHTS" => self.predictor.weight_table(standardize).map(Some),
            "ADVANCED_WEIGHTS" => self.predictor.advanced_weight_table(standardize).map(Some),
            _ => Ok(None),
        }
    }

    fn parts(&self) -> Result<Parts> {
        let values = &self.labels.values;
        let labels = RecordBatch::try_new(
            Arc::new(Schema::new(vec![Field::new("label", values.data_type().clone(), true)])),
            vec![Arc::clone(values)],
        )?;
        let mut parts = Parts {
            tables: self.predictor.to_tables()?,
            ..Parts::default()
        };
        parts.tables.push(("labels".into(), labels));
        parts.settings.insert("label".into(), self.labels.name.clone().into());
        parts
            .settings
            .insert("label_type".into(), values.data_type().to_string().into());
        parts.settings.insert("positive".into(), self.labels.positive.into());
        parts.settings.insert("l2".into(), self.l2.into());
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;
    use std::sync::atomic::AtomicBool;

    use datafusion::arrow::array::{BooleanArray, DictionaryArray, StringArray, StringViewArray};

    use super::*;
    use crate::kernels::compute::Compute;
    use crate::models::{MemoryRows, Silent, UnlimitedMemory};

    fn rows(columns: Vec<(&str, ArrayRef)>, batch_rows: usize) -> MemoryRows {
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap();
        let starts = (0..batch.num_rows()).step_by(batch_rows);
        let batches = starts
            .map(|s| batch.slice(s, batch_rows.min(batch.num_rows() - s)))
            .collect();
        MemoryRows::new(batch.schema(), batches)
    }

    fn options(named: &[(&str, Value)]) -> Result<Options> {
        let named = named.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
        Options::parse("CHURN_SCORE", OPTIONS, named)
    }

    fn fit_on(rows: &MemoryRows, named: &[(&str, Value)], threads: usize) -> Result<Fitted> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let cancel = AtomicBool::new(false);
        let context = FitContext {
            compute: &Compute::cpu(&pool, &cancel),
            seed: 42,
            observer: &Silent,
            memory: &UnlimitedMemory,
        };
        let options = options(named)?;
        let roles = LogisticRegression.roles(&rows.schema(), &options)?;
        LogisticRegression.fit(rows, &roles, &options, &context)
    }

    fn text(word: &str) -> Value {
        Value::Text(word.into())
    }

    fn message<T>(result: Result<T>) -> String {
        result.err().unwrap().to_string()
    }

    /// Forty customers; the same numbers as in the golden values, which scikit-learn computed.
    fn customers(order: impl Iterator<Item = usize> + Clone) -> Vec<(&'static str, ArrayRef)> {
        let x1 = |i: usize| ((i * 7) % 11) as f64;
        let y = move |i: usize| if x1(i) > 8.0 || (i * 29) % 10 < 4 { "Yes" } else { "No" };
        let plan = |i: usize| ["basic", "plus", "pro"][(i * 5) % 3];
        vec![
            (
                "churned",
                Arc::new(StringViewArray::from_iter_values(order.clone().map(y))),
            ),
            ("x1", Arc::new(Float64Array::from_iter_values(order.clone().map(x1)))),
            (
                "x2",
                Arc::new(Float64Array::from_iter_values(
                    order.clone().map(|i| ((i * 13) % 17) as f64 / 4.0),
                )),
            ),
            ("plan", Arc::new(StringArray::from_iter_values(order.map(plan)))),
        ]
    }

    fn column(fitted: &Fitted, name: &str) -> Vec<Option<f64>> {
        let parts = fitted.model.parts().unwrap();
        let (_, table) = parts.tables.iter().find(|(n, _)| n == "coefficients").unwrap();
        table
            .column_by_name(name)
            .unwrap()
            .as_primitive::<Float64Type>()
            .iter()
            .collect()
    }

    fn assert_close(got: &[Option<f64>], wanted: &[f64], tolerance: f64) {
        assert_eq!(got.len(), wanted.len());
        for (g, w) in got.iter().zip(wanted) {
            assert!((g.unwrap() - w).abs() < tolerance, "{got:?} is not {wanted:?}");
        }
    }

    fn feature_arrays(columns: &[(&str, ArrayRef)]) -> Vec<ArrayRef> {
        columns[1..].iter().map(|(_, a)| Arc::clone(a)).collect()
    }

    #[test]
    fn coefficients_are_scikit_learns() {
        let input = rows(customers(0..40), 7);
        let label = ("label", text("churned"));
        let fitted = fit_on(&input, from_ref(&label), 2).unwrap();
        let wanted = [
            0.101_312_837_318_033_21,
            0.526_448_056_704_238,
            -0.179_494_661_542_941_47,
            0.379_064_931_894_050_66,
            -0.149_080_410_624_529_84,
            -0.229_984_521_269_520_46,
        ];
        assert_close(&column(&fitted, "coefficient"), &wanted, 1e-9);
        let errors = [
            0.665_664_119_185_856_7,
            0.322_810_436_136_421_46,
            0.314_226_430_684_040_44,
            0.705_607_800_246_448_8,
            0.706_473_676_225_254_8,
            0.707_257_225_493_312_9,
        ];
        assert_close(&column(&fitted, "standard_error"), &errors, 1e-7);
        assert!(fitted.info.notices.is_empty(), "{:?}", fitted.info.notices);
        assert!(fitted.info.passes.len() < 8 && fitted.info.passes[0].loss.unwrap() < 0.7);

        let balanced = [
            0.002_628_187_949_209_601_7,
            0.532_997_986_264_861_1,
            -0.173_085_070_186_515_75,
            0.375_097_366_056_652_5,
            -0.142_461_531_127_640_2,
            -0.232_635_834_929_012_1,
        ];
        let weights = Value::List(vec![
            Value::Struct(
                [
                    ("c0".to_string(), text("Yes")),
                    ("c1".to_string(), Value::Float(40.0 / 42.0)),
                ]
                .into(),
            ),
            Value::Struct(
                [
                    ("c0".to_string(), text("No")),
                    ("c1".to_string(), Value::Float(40.0 / 38.0)),
                ]
                .into(),
            ),
        ]);
        for option in [
            ("class_weights", text("balanced")),
            ("auto_class_weights", Value::Bool(true)),
            ("class_weights", weights),
        ] {
            let fitted = fit_on(&input, &[label.clone(), option], 1).unwrap();
            assert_close(&column(&fitted, "coefficient"), &balanced, 1e-9);
        }
    }

    #[test]
    fn without_a_penalty_categories_add_up_to_nothing() {
        let named = [("label", text("churned")), ("l2_reg", Value::Int(0))];
        let fitted = fit_on(&rows(customers(0..40), 40), &named, 1).unwrap();
        let wanted = [
            0.102_805_109_539_456_93,
            0.594_057_790_184_796,
            -0.206_689_860_643_163_28,
            0.510_430_150_285_632_3,
            -0.192_593_985_678_531_06,
            -0.317_836_164_607_101_3,
        ];
        assert_close(&column(&fitted, "coefficient"), &wanted, 1e-9);
        let errors = [
            0.336_442_578_772_669_14,
            0.349_559_758_441_303_5,
            0.335_952_068_607_468_07,
            0.477_146_564_168_695_9,
            0.475_460_669_507_198_2,
            0.479_683_636_691_905_1,
        ];
        assert_close(&column(&fitted, "standard_error"), &errors, 1e-7);
        assert!(fitted.info.notices.is_empty(), "{:?}", fitted.info.notices);
    }

    #[test]
    fn order_partitions_and_threads_do_not_show() {
        let label = ("label", text("churned"));
        let one = fit_on(&rows(customers(0..2_000), 2_000), from_ref(&label), 1).unwrap();
        let wanted: Vec<f64> = column(&one, "coefficient").into_iter().flatten().collect();
        let seven = fit_on(&rows(customers(0..2_000), 289), from_ref(&label), 7).unwrap();
        assert_eq!(column(&one, "coefficient"), column(&seven, "coefficient"));
        assert_eq!(one.row_scores, seven.row_scores);
        let shuffled = (0..2_000).map(|i| (i * 777 + 5) % 2_000);
        let shuffled = fit_on(&rows(customers(shuffled), 100), &[label], 2).unwrap();
        assert_close(&column(&shuffled, "coefficient"), &wanted, 1e-9);
    }

    #[test]
    fn folds_do_not_depend_on_order_and_hold_each_class() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let cancel = AtomicBool::new(false);
        let context = FitContext {
            compute: &Compute::cpu(&pool, &cancel),
            seed: 1,
            observer: &Silent,
            memory: &UnlimitedMemory,
        };
        let hashes: Vec<u64> = (0..1_000u64)
            .map(|i| mix(3, i / 2 * u64::from(i < 60) + i * u64::from(i >= 60)))
            .collect();
        let classes: Vec<u8> = (0..1_000)
            .map(|i| {
                if i % 50 > 45 {
                    NO_LABEL
                } else {
                    u8::from(i / 2 % 4 == 0)
                }
            })
            .collect();
        let (folds, count) = assign_folds(&classes, &hashes, 5, &context).unwrap();
        assert_eq!(count, 5);
        for class in 0..2 {
            let of_class: Vec<u8> = (0..1_000).filter(|i| classes[*i] == class).map(|i| folds[i]).collect();
            for fold in 0..5 {
                let share = of_class.iter().filter(|f| **f == fold).count() as f64 / of_class.len() as f64;
                assert!((share - 0.2).abs() < 0.03, "class {class}, fold {fold}: {share}");
            }
        }
        // Copies share a fold, and NULL labels have none.
        assert!((0..30).all(|i| classes[2 * i] != classes[2 * i + 1] || folds[2 * i] == folds[2 * i + 1]));
        assert!((0..1_000).all(|i| (classes[i] == NO_LABEL) == (folds[i] == NO_LABEL)));
        let order: Vec<usize> = (0..1_000).map(|i| (i * 777 + 1) % 1_000).collect();
        let shuffled = assign_folds(
            &order.iter().map(|i| classes[*i]).collect::<Vec<_>>(),
            &order.iter().map(|i| hashes[*i]).collect::<Vec<_>>(),
            5,
            &context,
        )
        .unwrap();
        assert!(order.iter().enumerate().all(|(at, i)| shuffled.0[at] == folds[*i]));
        // Where almost all rows are copies they are dealt out; a class of one row has no fold without it.
        let (folds, _) = assign_folds(&[[0; 50], [1; 50]].concat(), &[9; 100], 5, &context).unwrap();
        assert!((0..5).all(|fold| folds.iter().filter(|f| **f == fold).count() == 20));
        assert!(assign_folds(&[0, 0, 0, 1], &[1, 2, 3, 4], 5, &context).is_none());
        assert_eq!(
            assign_folds(&[0, 0, 0, 1, 1], &[1, 2, 3, 4, 5], 5, &context).unwrap().1,
            2
        );
    }

    #[test]
    fn labelled_rows_are_scored_by_models_that_did_not_see_them() {
        let mut columns = customers(0..400);
        let labels = columns[0]
            .1
            .as_string_view()
            .iter()
            .enumerate()
            .map(|(i, v)| if i < 5 { None } else { v });
        columns[0].1 = Arc::new(labels.collect::<StringViewArray>());
        let fitted = fit_on(&rows(columns.clone(), 64), &[("label", text("churned"))], 2).unwrap();
        let full = fitted.model.score(&feature_arrays(&columns)).unwrap();
        let full = full.as_primitive::<Float64Type>().values();
        let scores = fitted.row_scores.as_ref().unwrap();
        assert!((0..5).all(|i| (scores[i] - full[i]).abs() < 1e-12));
        assert!((5..400).all(|i| scores[i] != full[i] && (scores[i] - full[i]).abs() < 0.2));
        assert_eq!(fitted.info.row_count, 395);
        let none = fit_on(
            &rows(columns, 64),
            &[("label", text("churned")), ("folds", Value::Int(0))],
            2,
        )
        .unwrap();
        assert!(none.row_scores.is_none());
    }

    #[test]
    fn labels_of_any_type() {
        let x: ArrayRef = Arc::new(Float64Array::from_iter_values((0..30).map(f64::from)));
        let yes = |i: usize| i.is_multiple_of(3) || i > 20;
        let labels: Vec<ArrayRef> = vec![
            Arc::new(BooleanArray::from((0..30).map(yes).collect::<Vec<_>>())),
            Arc::new(Int64Array::from_iter_values(
                (0..30).map(|i| if yes(i) { 10 } else { 9 }),
            )),
            Arc::new(Float64Array::from_iter_values(
                (0..30).map(|i| if yes(i) { 0.0 } else { -1.5 }),
            )),
            Arc::new(StringArray::from_iter_values(
                (0..30).map(|i| if yes(i) { "b" } else { "a" }),
            )),
            Arc::new(
                (0..30)
                    .map(|i| Some(if yes(i) { "b" } else { "B" }))
                    .collect::<DictionaryArray<Int8Type>>(),
            ),
        ];
        let mut first = None;
        for label in labels {
            let input = rows(vec![("x", Arc::clone(&x)), ("y", label)], 11);
            let fitted = fit_on(&input, &[("label", text("Y"))], 1).unwrap();
            let coefficients = column(&fitted, "coefficient");
            assert_eq!(first.get_or_insert(coefficients.clone()), &coefficients);
            assert!(coefficients[1].unwrap() > 0.0);

            let options = Options::parse("ML.PREDICT", crate::models::ROW_FUNCTIONS[0].options, vec![]).unwrap();
            let predicted = fitted.model.predict_columns(&[Arc::clone(&x)], &options).unwrap();
            let fields = fitted.model.predict_fields();
            assert_eq!(
                (fields[0].name().as_str(), fields[1].name().as_str()),
                ("predicted_y", "predicted_y_probs")
            );
            for (field, column) in fields.iter().zip(&predicted) {
                assert_eq!(field.data_type(), column.data_type());
            }
            let first_row = predicted[1].as_list::<i32>().value(29);
            let probabilities = first_row
                .as_struct()
                .column(1)
                .as_primitive::<Float64Type>()
                .values()
                .to_vec();
            assert!(probabilities[0] > 0.5 && (probabilities[0] + probabilities[1] - 1.0).abs() < 1e-15);
            assert_eq!(
                array_value_to_string(&predicted[0], 29).unwrap(),
                array_value_to_string(first_row.as_struct().column(0), 0).unwrap()
            );
        }
        let label: ArrayRef = Arc::new(Int64Array::from_iter_values(
            (0..30).map(|i| if yes(i) { 1 } else { 0 }),
        ));
        let input = rows(vec![("x", x), ("y", label)], 30);
        let fitted = fit_on(&input, &[("label", text("y")), ("positive", text("0"))], 1).unwrap();
        let turned = column(&fitted, "coefficient")[1].unwrap();
        assert!((turned + first.unwrap()[1].unwrap()).abs() < 1e-12);
        assert_eq!(
            message(fit_on(&input, &[("label", text("y")), ("positive", text("yes"))], 1)),
            "CHURN_SCORE: option 'positive' is 'yes', which is no value of label 'y'; it has '0' and '1'"
        );
    }

    #[test]
    fn separable_and_collinear_data_end_finite_and_say_so() {
        let x: ArrayRef = Arc::new(Float64Array::from_iter_values((0..40).map(f64::from)));
        let twice: ArrayRef = Arc::new(Float64Array::from_iter_values(
            (0..40).map(|i| f64::from(i) * 2.0 - 7.0),
        ));
        let y: ArrayRef = Arc::new(BooleanArray::from((0..40).map(|i| i > 17).collect::<Vec<_>>()));
        let noisy: ArrayRef = Arc::new(BooleanArray::from((0..40).map(|i| i * 7 % 20 > 8).collect::<Vec<_>>()));
        let group: ArrayRef = Arc::new(StringArray::from_iter_values(
            (0..40).map(|i| if i * 7 % 20 > 17 { "g" } else { "h" }),
        ));
        let label = ("label", text("y"));
        let free = ("l2", Value::Int(0));
        let notices = |columns: Vec<(&str, &ArrayRef)>, named: &[(&str, Value)]| {
            let input = rows(columns.into_iter().map(|(n, a)| (n, Arc::clone(a))).collect(), 9);
            let fitted = fit_on(&input, named, 1).unwrap();
            let coefficients: Vec<f64> = column(&fitted, "coefficient").into_iter().flatten().collect();
            assert!(coefficients.iter().all(|c| c.abs() < 1e3), "{coefficients:?}");
            if let Some(scores) = fitted.row_scores {
                assert!(scores.iter().all(|s| (0.0..=1.0).contains(s)));
            }
            (fitted.info.notices, coefficients)
        };
        let (said, _) = notices(vec![("x", &x), ("y", &y)], from_ref(&label));
        assert_eq!(
            said,
            ["the features separate the classes perfectly; only the penalty l2 = 1 keeps the coefficients finite"]
        );
        let (said, _) = notices(vec![("x", &x), ("y", &y)], &[label.clone(), free.clone()]);
        assert_eq!(
            said,
            [
                "the features separate the classes perfectly, which leaves no finite optimum; a penalty of l2 = 0.001 was used"
            ]
        );
        let (said, _) = notices(
            vec![("x", &x), ("g", &group), ("y", &noisy)],
            &[label.clone(), free.clone(), ("max_iterations", Value::Int(60))],
        );
        assert_eq!(
            said,
            [
                "the features separate some rows perfectly, which leaves no finite optimum; a penalty of l2 = 0.001 was used"
            ]
        );
        let (said, coefficients) = notices(
            vec![("x", &x), ("z", &twice), ("y", &noisy)],
            &[label.clone(), free.clone()],
        );
        assert_eq!(
            said,
            ["constant or a linear combination of other columns: 'z'; their coefficients are 0"]
        );
        assert_eq!(coefficients[2], 0.0);
        let (_, alone) = notices(vec![("x", &x), ("y", &noisy)], &[label.clone(), free]);
        assert!((alone[1] - coefficients[1]).abs() < 1e-9);
        let (said, coefficients) = notices(vec![("x", &x), ("z", &twice), ("y", &noisy)], &[label]);
        assert_eq!(
            said,
            ["constant or a linear combination of other columns: 'z'; the penalty l2 = 1 shares the effect among them"]
        );
        assert!((coefficients[1] - coefficients[2]).abs() < 1e-9);
    }

    #[test]
    fn few_rows_have_fewer_folds() {
        let x: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0, 4.0, 2.5]));
        let of = |y: Vec<Option<bool>>| {
            let y: ArrayRef = Arc::new(BooleanArray::from(y));
            fit_on(
                &rows(vec![("x", Arc::clone(&x)), ("y", y)], 9),
                &[("label", text("y"))],
                1,
            )
            .unwrap()
        };
        let fitted = of(vec![Some(true), Some(true), Some(false), Some(false), Some(true)]);
        assert!(fitted.row_scores.is_some());
        assert!(
            fitted
                .info
                .notices
                .iter()
                .any(|n| n.contains("2 folds were used instead of 5")),
            "{:?}",
            fitted.info
        );
        let fitted = of(vec![Some(true), None, Some(false), Some(false), Some(false)]);
        assert!(fitted.row_scores.is_none());
        assert!(
            fitted
                .info
                .notices
                .iter()
                .any(|n| n.contains("only one distinct row of a class"))
        );
    }

    #[test]
    fn models_come_back_to_the_bit() {
        let mut columns = customers(0..200);
        let plan = columns[3]
            .1
            .as_string::<i32>()
            .iter()
            .enumerate()
            .map(|(i, p)| if i % 9 == 0 { None } else { p });
        columns[3].1 = Arc::new(plan.collect::<StringArray>());
        let input = rows(columns.clone(), 32);
        let fitted = fit_on(&input, &[("label", text("churned")), ("positive", text("No"))], 2).unwrap();
        let artefact = Artefact {
            name: "m".into(),
            features: fitted.model.feature_columns().to_vec(),
            options: Options::default(),
            parts: fitted.model.parts().unwrap(),
        };
        let loaded = LogisticRegression.load(&artefact).unwrap();
        let features = feature_arrays(&columns);
        assert_eq!(
            &fitted.model.score(&features).unwrap(),
            &loaded.score(&features).unwrap()
        );
        let options = Options::default();
        assert_eq!(
            fitted.model.predict_columns(&features, &options).unwrap(),
            loaded.predict_columns(&features, &options).unwrap()
        );
        let mut torn = artefact.clone();
        torn.parts.tables.retain(|(name, _)| name != "coefficients");
        assert!(message(LogisticRegression.load(&torn)).contains("its part 'coefficients' is missing"));
        let mut torn = artefact;
        for (_, table) in torn.parts.tables.iter_mut().filter(|(name, _)| name == "coefficients") {
            *table = table.slice(0, 2);
        }
        assert!(message(LogisticRegression.load(&torn)).contains("its coefficients do not fit its features"));
    }

    #[test]
    fn bad_requests_are_told_when_planning() {
        let input = rows(customers(0..40), 40);
        let plan = |named: &[(&str, Value)]| {
            message(options(named).and_then(|o| LogisticRegression.roles(&input.schema(), &o)))
        };
        let label = ("label", text("churned"));
        assert_eq!(
            plan(&[]),
            "CHURN_SCORE needs the option 'label', the name of a column; write label => …"
        );
        assert!(plan(&[("label", text("churn"))]).contains("did you mean 'churned'?"));
        assert!(
            plan(&[label.clone(), ("features", Value::List(vec![text("churned")]))])
                .contains("is the label and a feature at once")
        );
        assert!(plan(&[label.clone(), ("folds", Value::Int(1))]).contains("from 2 to 100, or 0 for none, not 1"));
        assert!(
            plan(&[label.clone(), ("class_weights", text("even"))]).contains("takes 'balanced', or a positive weight")
        );
        assert!(plan(&[label.clone(), ("positive", Value::List(vec![]))]).contains("not a list"));
        assert!(plan(&[label, ("method", text("logistics"))]).contains("did you mean 'logistic'?"));
        let times = datafusion::arrow::array::TimestampSecondArray::from(vec![1, 2]);
        let schema = rows(
            vec![("t", Arc::new(times)), ("x", Arc::new(Int64Array::from(vec![1, 2])))],
            9,
        )
        .schema();
        let named = options(&[("label", text("t"))]).unwrap();
        assert!(message(LogisticRegression.roles(&schema, &named)).contains("cannot be a label"));
    }

    #[test]
    fn bad_labels_are_named() {
        let x: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
        let of = |y: Vec<Option<&str>>| {
            let y: ArrayRef = Arc::new(StringArray::from(y));
            message(fit_on(
                &rows(vec![("x", Arc::clone(&x)), ("plan", y)], 1),
                &[("label", text("plan"))],
                1,
            ))
        };
        assert_eq!(
            of(vec![None; 4]),
            "CHURN_SCORE: label 'plan' is NULL in every row; at least two rows need one to learn from"
        );
        assert_eq!(
            of(vec![Some("a"), None, Some("a"), Some("a")]),
            "CHURN_SCORE: label 'plan' has only the value 'a'; two are needed to learn from"
        );
        assert_eq!(
            of(vec![Some("c"), None, Some("b"), Some("a")]),
            "CHURN_SCORE: label 'plan' has more than two values ('a', 'b' and 'c'); make it a condition, such as plan = 'a' AS plan"
        );
        let empty = rows(
            vec![
                ("x", Arc::new(Int64Array::from(Vec::<i64>::new()))),
                ("y", Arc::new(BooleanArray::from(Vec::<bool>::new()))),
            ],
            9,
        );
        assert!(message(fit_on(&empty, &[("label", text("y"))], 1)).contains("nothing to learn from"));
    }
}
