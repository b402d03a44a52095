//! What models of a number share: the label's numbers, and how good predictions of them are.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, FieldRef, Float64Type, Schema};

use crate::error::{Error, Result};
use crate::metrics::regression::Regression;
use crate::models::{FitContext, Roles, Rows, column_index, feature_roles, field};
use crate::options::{OptionKind, OptionSpec, Options};

/// The option that names the label.
pub(super) const LABEL: OptionSpec = OptionSpec {
    name: "label",
    aliases: &["input_label_cols", "labels", "label_col"],
    kind: OptionKind::Column,
    default: "",
    help: "The number to predict; rows where it is NULL are left out.",
};

fn no_label(verb: &str) -> Error {
    Error::request(format!(
        "{verb} needs the option 'label', the name of a column; write label => …"
    ))
}

/// The label, which must be a number, and the features.
///
/// # Errors
/// No such label, one that is no number, or no feature.
pub(super) fn roles(verb: &str, schema: &Schema, options: &Options) -> Result<Roles> {
    let name = options.text("label").ok_or_else(|| no_label(verb))?;
    let label = column_index(verb, schema, name)?;
    let data_type = schema.field(label).data_type();
    if !data_type.is_numeric() {
        return Err(Error::request(format!(
            "{verb}: column '{name}' of type {data_type} cannot be a label; it takes a number (for classes use logistic_reg)"
        )));
    }
    let features = feature_roles(verb, schema, options, &[(label, "label")])?;
    Ok(Roles {
        features,
        label: Some(label),
        ..Roles::default()
    })
}

/// The label of each row and how much it counts.
pub(super) struct Targets {
    /// The label's name.
    pub(super) name: String,
    /// 0 for a row without a label.
    pub(super) values: Vec<f64>,
    /// 1, or 0 for a row without a label.
    pub(super) weights: Vec<f64>,
}

impl Targets {
    /// Reads the label of all rows.
    ///
    /// # Errors
    /// No row with a label, too little memory, or cancellation.
    pub(super) fn read(verb: &str, rows: &dyn Rows, roles: &Roles, context: &FitContext<'_>) -> Result<Self> {
        let label = roles.label.ok_or_else(|| no_label(verb))?;
        context.memory.take(24 * rows.row_count(), "the labels")?;
        let mut targets = Self {
            name: rows.schema().field(label).name().clone(),
            values: Vec::with_capacity(rows.row_count()),
            weights: Vec::with_capacity(rows.row_count()),
        };
        for index in 0..rows.batch_count() {
            context.check_cancelled()?;
            for value in label_values(rows.batch(index)?.column(label))? {
                targets.values.push(value.unwrap_or(0.0));
                targets.weights.push(if value.is_some() { 1.0 } else { 0.0 });
            }
        }
        if targets.count() == 0.0 {
            return Err(Error::data(format!(
                "{verb}: label '{}' is NULL in every row; at least one row needs one to learn from",
                targets.name
            )));
        }
        Ok(targets)
    }

    /// How many rows count.
    pub(super) fn count(&self) -> f64 {
        self.weights.iter().sum()
    }

    /// The mean label.
    pub(super) fn mean(&self) -> f64 {
        self.values.iter().sum::<f64>() / self.count().max(1.0)
    }
}

/// A label's numbers; NULL, NaN and infinity are none.
fn label_values(column: &ArrayRef) -> Result<Vec<Option<f64>>> {
    let numbers = cast(column, &DataType::Float64)?;
    let numbers = numbers.as_primitive::<Float64Type>();
    Ok(numbers.iter().map(|v| v.filter(|v| v.is_finite())).collect())
}

/// The columns of `ML.EVALUATE`.
pub(super) fn evaluation_fields() -> Vec<FieldRef> {
    [
        "mean_absolute_error",
        "mean_squared_error",
        "mean_squared_log_error",
        "median_absolute_error",
        "r2_score",
        "explained_variance",
    ]
    .map(|name| field(name, DataType::Float64))
    .to_vec()
}

/// `ML.EVALUATE` of rows: `feature_count` columns that `predict` takes, then the label.
///
/// # Errors
/// No row with a label, or cancellation.
pub(super) fn evaluate(
    label: &str,
    feature_count: usize,
    predict: &dyn Fn(&[ArrayRef]) -> Result<Vec<f64>>,
    rows: &dyn Rows,
    stop: &dyn Fn() -> bool,
) -> Result<RecordBatch> {
    let (mut labels, mut predictions) = (vec![], vec![]);
    for index in 0..rows.batch_count() {
        if stop() {
            return Err(Error::cancelled());
        }
        let batch = rows.batch(index)?;
        let predicted = predict(&batch.columns()[..feature_count])?;
        for (label, prediction) in label_values(batch.column(feature_count))?.into_iter().zip(predicted) {
            if let Some(label) = label {
                labels.push(label);
                predictions.push(prediction);
            }
        }
    }
    let Some(m) = Regression::of(&labels, &predictions) else {
        return Err(Error::data(format!(
            "ML.EVALUATE: label '{label}' is NULL in every row; at least one row needs one to judge the model by"
        )));
    };
    let columns = [
        Some(m.mean_absolute_error),
        Some(m.mean_squared_error),
        m.mean_squared_log_error,
        Some(m.median_absolute_error),
        m.r2_score,
        m.explained_variance,
    ]
    .map(|v| -> ArrayRef { Arc::new(Float64Array::from(vec![v])) });
    Ok(RecordBatch::try_new(
        Arc::new(Schema::new(evaluation_fields())),
        columns.to_vec(),
    )?)
}
