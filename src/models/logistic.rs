//! Logistic regression: the probability of one of two classes, by iteratively reweighted least squares. Stored models of more classes are
//! fitted in [`super::multinomial`].
//!
//! The fit minimises the summed log loss plus ½ · l2 · ‖β‖² + l1 · ‖β‖₁ over standardised numbers and one-hot categories, the intercept
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

use datafusion::arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, FieldRef, Schema};
use rayon::prelude::*;

use crate::error::{Error, Result, list};
use crate::features::encode::{Encoder, EncoderOptions, Scaling, mix};
use crate::features::values::CHUNK;
use crate::kernels::gram::{self, LogisticPass, design_width, linear_predictor_f64, pass_bytes, sigmoid_f64};
use crate::metrics::classification::{Confusion, log_loss, roc_auc};
use crate::models::attribution::{Attributions, explained_fields};
use crate::models::design::{CATEGORY_ENCODING, Coding, Design, FIT_INTERCEPT};
use crate::models::labels::{Labels, MAX_CLASSES, NO_LABEL, can_be_label, class_weights};
use crate::models::multiclass::{MulticlassModel, class_lists, confusion_columns, predicted_fields};
use crate::models::normal_equations::{Penalty, encoder_names, redundancy};
use crate::models::predictor::LinearPredictor;
use crate::models::{
    Artefact, FEATURES, FeatureColumn, FitContext, Fitted, ID, L1, Model, ModelType, Parts, Pass, Roles, Rows, SEED,
    TrainingInfo, column_index, feature_roles, field, multinomial,
};
use crate::options::{OptionKind, OptionSpec, Options, Value};

/// The penalty that takes over where the data alone have no finite optimum.
pub(super) const SEPARATION_L2: f64 = 1e-3;
/// Redundant columns are only looked for in designs to this width where a penalty makes the fit unique anyway.
pub(super) const MAX_CHECKED_WIDTH: usize = 2_000;
/// Passes that a fit takes, more or less, for weighing devices.
pub(super) const EXPECTED_PASSES: usize = 7;
/// Standard errors take the inverse of a matrix of this width at most.
const MAX_ERRORS_WIDTH: usize = 512;

/// Logistic regression as a model type; see the [module](self).
#[derive(Debug, Clone, Copy)]
pub struct LogisticRegression;

static OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "label",
        aliases: &["input_label_cols", "labels", "label_col"],
        kind: OptionKind::Column,
        default: "",
        help: "The column to predict, of two values, or of up to 50 in a stored model; rows where it is NULL are scored but not learned from.",
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
    L1,
    FIT_INTERCEPT,
    CATEGORY_ENCODING,
    OptionSpec {
        name: "class_weights",
        aliases: &["class_weight"],
        kind: OptionKind::Any("'balanced', or a weight for each label such as {'Yes': 2.0, 'No': 1.0}"),
        default: "1 each",
        help: "How much a row of each class counts; 'balanced' makes all classes count the same.",
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
         row comes from a model that did not see it. A stored model may have up to 50 classes."
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
            l1: options.float("l1", 0.0),
            l2: options.float("l2", 1.0),
            coding: Coding::of(options),
            max_iterations: options.int("max_iterations", 25) as usize,
            tolerance: options.float("tolerance", 1e-8),
        };
        context
            .observer
            .started("logistic regression", rows.row_count(), settings.max_iterations);
        let wanted = options.int("folds", 5) as usize;
        // A verb gives the score of one class. Models of more have no other use than to be stored, and those are not cross-fitted.
        let (verb, most) = if wanted == 0 {
            ("LOGISTIC_REG", MAX_CLASSES)
        } else {
            (verb, 2)
        };
        let (labels, mut classes) = Labels::read(verb, rows, label, most, context)?;
        let positive = positive_class(verb, &labels, options.get("positive"))?;
        if positive == 0 {
            // The solver's class 1 is the positive one.
            classes.iter_mut().filter(|c| **c <= 1).for_each(|c| *c = 1 - *c);
        }
        let mut counts = vec![0; labels.count()];
        for class in &classes {
            if let Some(count) = counts.get_mut(usize::from(*class)) {
                *count += 1;
            }
        }
        if positive == 0 {
            counts.reverse();
        }
        let class_weights = labels.weights(verb, options, &counts)?;
        let encoding = EncoderOptions {
            scaling: Scaling::PopulationDeviation,
            center: true,
            max_categories: 1_000,
        };
        let (encoder, mut notices) = Encoder::learn(rows, &roles.features, &encoding, context)?;
        let encoder = settings.coding.encoder(encoder);
        let block = encoder.encode_rows::<f64>(rows, &roles.features, context)?;
        if labels.count() > 2 {
            let data = multinomial::Data {
                block: &block,
                classes: &classes,
                class_weights: &class_weights,
            };
            return multinomial::fit(&data, encoder, labels, &settings, notices, context);
        }
        let weights = [class_weights[1 - positive], class_weights[positive]];
        let width = design_width(&block);
        let matrix_bytes = pass_bytes(block.row_count, width) + 3 * width * width * size_of::<f64>();
        context.memory.take(matrix_bytes, "the Gram matrix of the features")?;

        // Each fold begins near its end.
        let expected_passes = EXPECTED_PASSES + if wanted >= 2 { 3 * wanted } else { 0 };
        let mut sums = gram::Rows::new(&block, &classes, expected_passes, context.compute);
        let design = Design::new(settings.coding, &block, &|row| classes[row] != NO_LABEL);
        let problem = Problem {
            rows: &sums,
            design: &design,
            weights,
            left_out: None,
        };
        let mut info = TrainingInfo {
            row_count: counts.iter().sum::<usize>() as u64,
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
                        design: &design,
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
        let learned_from = |row: usize| classes[row] != NO_LABEL;
        let attributions = Attributions::of((&encoder, None), &block, &full.coefficients, &learned_from, context);
        let model = LogisticModel {
            predictor: LinearPredictor::new(Arc::new(encoder), full.coefficients, full.standard_errors)
                .explained(Some(attributions)),
            labels,
            positive,
            l1: settings.l1,
            l2: full.l2,
        };
        Ok(Fitted {
            model: Arc::new(model),
            info,
            row_scores,
        })
    }

    fn load(&self, artefact: &Artefact) -> Result<Arc<dyn Model>> {
        let labels = Labels::from_artefact(artefact)?;
        if labels.count() > 2 {
            return Ok(Arc::new(MulticlassModel::from_artefact(artefact, labels)?));
        }
        let positive: usize = artefact.setting("positive")?;
        if positive > 1 {
            return Err(artefact.corrupt("its positive class is none of two"));
        }
        Ok(Arc::new(LogisticModel {
            predictor: LinearPredictor::from_artefact(artefact)?,
            labels,
            positive,
            l1: artefact.optional("l1")?.unwrap_or(0.0),
            l2: artefact.setting("l2")?,
        }))
    }
}

/// Which of a label's values is the positive class: that which the option names, or the higher one.
fn positive_class(verb: &str, labels: &Labels, wanted: Option<&Value>) -> Result<usize> {
    let Some(wanted) = wanted else { return Ok(1) };
    if labels.count() > 2 {
        return Err(Error::data(format!(
            "{verb}: option 'positive' chooses one of two classes, and label '{}' has {} values; leave it out",
            labels.name,
            labels.count()
        )));
    }
    let texts = labels.texts()?;
    labels.find(wanted)?.ok_or_else(|| {
        Error::data(format!(
            "{verb}: option 'positive' is {wanted}, which is no value of label '{}'; it has {}",
            labels.name,
            list(texts, 2)
        ))
    })
}

/// Options of the solvers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) l1: f64,
    pub(super) l2: f64,
    pub(super) coding: Coding,
    /// The most Newton steps.
    pub(super) max_iterations: usize,
    /// The step that moves no coefficient by more than this is the last.
    pub(super) tolerance: f64,
}

/// Rows to be fitted.
#[derive(Clone, Copy)]
struct Problem<'a> {
    /// The rows, with their classes: 1 for the positive one, 0 for the other, [`NO_LABEL`] for rows to leave out.
    rows: &'a gram::Rows<'a>,
    /// Its columns.
    design: &'a Design,
    /// The weights of the classes 0 and 1.
    weights: [f64; 2],
    /// The fold to leave out.
    left_out: Option<u8>,
}

/// What a fit came to.
struct Solution {
    /// One for each column of the design.
    coefficients: Vec<f64>,
    standard_errors: Option<Vec<Option<f64>>>,
    /// The penalty that was used.
    l2: f64,
    converged: bool,
    /// Columns that say nothing that columns before them do not.
    redundant: Vec<usize>,
    separation: Separation,
}

/// Whether the features tell the classes apart without error, so that larger coefficients are always better ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Separation {
    None,
    /// Coefficients ran away, the loss did not: some rows are separated.
    Partial,
    /// Every row is on its class's side.
    Perfect,
}

impl Separation {
    /// What the user should know of it, where a penalty of `l2` was used in the end.
    pub(super) fn notice(self, settings: &Settings, l2: f64) -> Option<String> {
        let raised = l2 != settings.l2;
        let keeps = if settings.l1 > 0.0 {
            format!("l1 = {}", settings.l1)
        } else {
            format!("l2 = {l2}")
        };
        match self {
            Separation::Perfect if raised => Some(format!(
                "the features separate the classes perfectly, which leaves no finite optimum; a penalty of l2 = {l2} was used"
            )),
            Separation::Partial if raised => Some(format!(
                "the features separate some rows perfectly, which leaves no finite optimum; a penalty of l2 = {l2} was used"
            )),
            Separation::Perfect => Some(format!(
                "the features separate the classes perfectly; only the penalty {keeps} keeps the coefficients finite"
            )),
            _ => None,
        }
    }
}

/// What the user should know of a fit that ended too early.
pub(super) fn not_converged(settings: &Settings) -> String {
    format!(
        "the fit had not converged when it ended; raise max_iterations ({}) or l2",
        settings.max_iterations
    )
}

impl Problem<'_> {
    fn pass(&self, coefficients: &[f64]) -> Result<LogisticPass> {
        Ok(self.rows.logistic(coefficients, self.weights, self.left_out)?)
    }

    /// Whether larger coefficients of the same proportions would be better ones for every row. Without an intercept they turn about 0.
    fn separates(&self, pass: &LogisticPass) -> bool {
        pass.lowest_one > pass.highest_zero
            && (self.design.has_intercept() || pass.lowest_one > 0.0 && pass.highest_zero < 0.0)
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
        if settings.l1 == 0.0 && solution.separation != Separation::None && solution.l2 < SEPARATION_L2 {
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
        if self.design.has_intercept() && counts[0] > 0.0 && counts[1] > 0.0 {
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
        let constraints = self.design.constraints(&pass.gram);
        let Settings { l1, l2, .. } = *settings;
        // Whether anything else than the penalties decides between equal solutions.
        let free = l1 == 0.0 && l2 == 0.0;
        let mut redundant = vec![];
        // Fits that start from another's coefficients have had this said.
        if free || start.is_none() && width <= MAX_CHECKED_WIDTH {
            redundant = self.design.redundant(&pass.gram, &constraints);
        }
        let dropped: &[usize] = if free { &redundant } else { &[] };
        let penalty = Penalty {
            l1,
            l2,
            intercept: self.rows.block().number_count,
            constraints: if free { &constraints } else { &[] },
            active: self.design.active(dropped),
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
            let Some(step) = penalty.step(&pass.gram, &coefficients, &|| context.compute.is_cancelled()) else {
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
            if free && self.separates(&pass) {
                separation = Separation::Perfect;
                break;
            }
            if l1 == 0.0 && l2 < SEPARATION_L2 && iteration >= 19 && share * size > 0.3 && fall < 1e-3 * objective.abs()
            {
                separation = Separation::Partial;
                break;
            }
        }
        if passes.len() == first_pass {
            tell(passes, &pass, &mut clock);
        }
        if separation == Separation::None && self.separates(&pass) {
            separation = Separation::Perfect;
        }
        // A penalty's bias is no error that they could tell of.
        let plain = free && self.weights == [1.0; 2] && start.is_none() && width <= MAX_ERRORS_WIDTH;
        let standard_errors = if plain && converged {
            penalty.standard_errors(&pass.gram)
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
        let mut notices: Vec<String> = redundancy(&self.redundant, &encoder_names(encoder), (settings.l1, settings.l2))
            .into_iter()
            .collect();
        notices.extend(self.separation.notice(settings, self.l2));
        if !self.converged {
            notices.push(not_converged(settings));
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
    /// The two values of the label.
    labels: Labels,
    /// Which of them is the positive class.
    positive: usize,
    l1: f64,
    l2: f64,
}

impl LogisticModel {
    /// The probability of the positive class.
    fn probabilities(&self, columns: &[ArrayRef]) -> Result<Vec<f64>> {
        let mut sums = self.predictor.sums(columns)?;
        sigmoid_f64(&mut sums);
        Ok(sums)
    }
}

/// The thresholds of `ML.ROC_CURVE`: those that were asked for, or the percentiles of the probabilities (nearest rank), so that at each
/// of them some row is taken for positive.
fn roc_thresholds(options: &Options, probabilities: &[f64]) -> Result<Vec<f64>> {
    let Some(given) = options.get("thresholds") else {
        let mut sorted = probabilities.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        let mut percentiles: Vec<f64> = (0..=100)
            .filter_map(|i| sorted.get((last * i + 50) / 100).copied())
            .collect();
        percentiles.dedup();
        return Ok(percentiles);
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
            let classes = self
                .labels
                .classes_of(&format!("ML.{word}"), batch.column(feature_count))?;
            for (class, probability) in classes.into_iter().zip(all) {
                if let Some(class) = class {
                    probabilities.push(probability);
                    positive.push(class == self.positive);
                }
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
        predicted_fields(&self.labels)
    }

    fn predict_columns(&self, columns: &[ArrayRef], options: &Options) -> Result<Vec<ArrayRef>> {
        let threshold = options.float("threshold", 0.5);
        let probabilities = self.probabilities(columns)?;
        let (positive, negative) = (self.positive as u32, 1 - self.positive as u32);
        let predicted = self.labels.column(
            probabilities
                .iter()
                .map(|p| if *p >= threshold { positive } else { negative }),
        )?;
        // The higher label first.
        let labels = self.labels.column(probabilities.iter().flat_map(|_| [1, 0]))?;
        let both = |p: &f64| if positive == 1 { [*p, 1.0 - p] } else { [1.0 - p, *p] };
        let probs = Float64Array::from_iter_values(probabilities.iter().flat_map(both));
        let lists = class_lists(2, labels, Arc::new(probs), probabilities.len())?;
        Ok(vec![predicted, lists])
    }

    fn takes_threshold(&self) -> bool {
        true
    }

    fn row_fields(&self, word: &str) -> Option<Vec<FieldRef>> {
        match word {
            "PREDICT" => Some(self.predict_fields()),
            "EXPLAIN_PREDICT" => {
                let mut fields = self.predict_fields();
                fields[1] = field("probability", DataType::Float64);
                fields.extend(explained_fields());
                Some(fields)
            }
            _ => None,
        }
    }

    fn row_columns(&self, word: &str, columns: &[ArrayRef], options: &Options) -> Result<Vec<ArrayRef>> {
        let mut answer = self.predict_columns(columns, options)?;
        if word == "EXPLAIN_PREDICT" {
            let (threshold, top) = (
                options.float("threshold", 0.5),
                options.int("top_k_features", 5) as usize,
            );
            let sums = self.predictor.sums(columns)?;
            // Of the label that is predicted.
            let of_label = |p: f64| if p >= threshold { p } else { 1.0 - p };
            let probabilities = self.probabilities(columns)?.into_iter().map(of_label);
            answer[1] = Arc::new(Float64Array::from_iter_values(probabilities));
            answer.extend(self.predictor.explanation(columns, sums, top)?);
        }
        Ok(answer)
    }

    fn label(&self) -> Option<&str> {
        Some(&self.labels.name)
    }

    fn known_labels(&self, labels: &ArrayRef) -> Result<Option<BooleanArray>> {
        self.labels.known(labels).map(Some)
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
                fields.extend(
                    confusion_columns(&self.labels.texts().ok()?)
                        .iter()
                        .map(|name| count(name)),
                );
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
                let class = |label: usize| usize::from(label == self.positive);
                let expected: Vec<usize> = (0..2).filter(|l| of_class[class(*l)].iter().sum::<u64>() > 0).collect();
                let mut columns = vec![self.labels.column(expected.iter().map(|l| *l as u32))?];
                for predicted in 0..2 {
                    let column = expected.iter().map(|l| of_class[class(*l)][class(predicted)]);
                    columns.push(counts(column.collect()));
                }
                columns
            }
            "ROC_CURVE" => {
                let thresholds = roc_thresholds(options, &probabilities)?;
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
            "ADVANCED_WEIGHTS" if options.text("distribution") == Some("t") => Err(Error::request(
                "ML.ADVANCED_WEIGHTS: option 'distribution' takes 't' of a linear_reg alone; leave it out",
            )),
            "ADVANCED_WEIGHTS" => self.predictor.advanced_weight_table(standardize, None).map(Some),
            "GLOBAL_EXPLAIN" => {
                let all = self.predictor.global_explanation()?;
                if !options.bool("class_level_explain", false) {
                    return Ok(Some(all));
                }
                // What moves the odds of one class moves those of the other as far.
                self.labels.by_class(&[all.clone(), all]).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn parts(&self) -> Result<Parts> {
        let mut parts = Parts {
            tables: self.predictor.to_tables()?,
            ..Parts::default()
        };
        self.labels.store(&mut parts)?;
        parts.settings.insert("positive".into(), self.positive.into());
        parts.settings.insert("l1".into(), self.l1.into());
        parts.settings.insert("l2".into(), self.l2.into());
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;
    use std::sync::atomic::AtomicBool;

    use datafusion::arrow::array::{Array, AsArray, BooleanArray, DictionaryArray, StringArray, StringViewArray};
    use datafusion::arrow::datatypes::{Float64Type, Int8Type};
    use datafusion::arrow::util::display::array_value_to_string;

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
            start: None,
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
        assert!(column(&fitted, "standard_error").iter().all(Option::is_none));
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
    fn sparse_coefficients_are_scikit_learns() {
        let input = rows(customers(0..40), 7);
        let label = ("label", text("churned"));
        let sparse = |l1: f64, l2: f64| {
            let named = [
                label.clone(),
                ("l1_reg", Value::Float(l1)),
                ("l2_reg", Value::Float(l2)),
            ];
            fit_on(&input, &named, 2).unwrap()
        };
        let fitted = sparse(0.5, 0.2);
        let wanted = [
            -0.051_384_542_071_510_94,
            0.513_382_061_575_353_4,
            -0.138_597_977_160_297_3,
            0.459_922_001_615_065_5,
            0.0,
            0.0,
        ];
        let found = column(&fitted, "coefficient");
        assert_close(&found, &wanted, 1e-7);
        assert_eq!(found[4..], [Some(0.0); 2]);
        assert!(column(&fitted, "standard_error").iter().all(Option::is_none));
        assert!(fitted.info.notices.is_empty(), "{:?}", fitted.info.notices);
        assert_eq!(fitted.row_scores.map(|s| s.len()), Some(40));
        let found = column(&sparse(2.0, 0.5), "coefficient");
        assert_close(&found[..2], &[0.103_024_454_579_911_33, 0.347_418_291_345_287], 1e-7);
        assert_eq!(found[2..], [Some(0.0); 4]);
        // With enough of it, only the odds of the classes are left.
        let found = column(&sparse(100.0, 0.0), "coefficient");
        assert_close(&found, &[(21.0f64 / 19.0).ln(), 0.0, 0.0, 0.0, 0.0, 0.0], 1e-9);
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
    fn without_an_intercept_and_with_dummies() {
        let input = customers(0..40);
        let scored = |named: &[(&str, Value)]| {
            let free = [
                ("label", text("churned")),
                ("l2", Value::Int(0)),
                ("folds", Value::Int(0)),
            ];
            let fitted = fit_on(&rows(input.clone(), 7), &[&free[..], named].concat(), 2).unwrap();
            assert!(fitted.info.notices.is_empty(), "{:?}", fitted.info.notices);
            let scores = fitted.model.score(&feature_arrays(&input)).unwrap();
            (scores.as_primitive::<Float64Type>().values().to_vec(), fitted)
        };
        let none = ("fit_intercept", Value::Bool(false));
        let dummy = ("category_encoding_method", text("dummy_encoding"));
        let (wanted, _) = scored(&[]);
        let (found, fitted) = scored(from_ref(&none));
        assert!(found.iter().zip(&wanted).all(|(f, w)| (f - w).abs() < 1e-9));
        assert_eq!(column(&fitted, "coefficient")[0], Some(0.0));
        assert_eq!(
            column(&fitted, "standard_error").iter().filter(|e| e.is_none()).count(),
            1
        );
        let (found, fitted) = scored(from_ref(&dummy));
        assert!(found.iter().zip(&wanted).all(|(f, w)| (f - w).abs() < 1e-9));
        // 'basic' has a row more than the others.
        assert_eq!(column(&fitted, "coefficient")[3], Some(0.0));
        assert_eq!(column(&fitted, "standard_error")[3], None);
        assert!(column(&fitted, "standard_error")[0].is_some());
        // With neither: the errors are orthogonal to the numbers as they are and to the other plans, and not to 'basic'.
        let (found, _) = scored(&[none, dummy]);
        let churned = input[0].1.as_string_view();
        let plans = input[3].1.as_string::<i32>();
        let moment = |of: &dyn Fn(usize) -> f64| -> f64 {
            let error = |i: usize| found[i] - f64::from(u8::from(churned.value(i) == "Yes"));
            (0..40).map(|i| error(i) * of(i)).sum()
        };
        for x in [1, 2] {
            let values = input[x].1.as_primitive::<Float64Type>();
            assert!(moment(&|i| values.value(i)).abs() < 1e-6);
        }
        let of_plan = |plan: &str| moment(&|i| f64::from(u8::from(plans.value(i) == plan)));
        assert!(of_plan("plus").abs() < 1e-6 && of_plan("pro").abs() < 1e-6 && of_plan("basic").abs() > 1e-3);
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
            start: None,
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

            let options = Options::default();
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
