//! A trained logistic regression of more than two classes: probabilities by the softmax of a linear predictor for each class.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, ListArray, RecordBatch, StructArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};

use crate::error::{Error, Result, list};
use crate::metrics::multiclass::{ConfusionMatrix, Multiclass, highest};
use crate::models::attribution::explained_fields;
use crate::models::labels::{Labels, MAX_CLASSES};
use crate::models::predictor::LinearPredictor;
use crate::models::{Artefact, FeatureColumn, Model, Parts, Rows, field};
use crate::options::Options;

/// The columns of `ML.PREDICT` for these classes.
pub(super) fn predicted_fields(labels: &Labels) -> Vec<FieldRef> {
    let data_type = labels.values.data_type();
    vec![
        field(format!("predicted_{}", labels.name), data_type.clone()),
        field(
            format!("predicted_{}_probs", labels.name),
            DataType::List(list_item(data_type)),
        ),
    ]
}

fn list_item(label_type: &DataType) -> FieldRef {
    let fields = vec![
        Field::new("label", label_type.clone(), true),
        Field::new("prob", DataType::Float64, true),
    ];
    Arc::new(Field::new("item", DataType::Struct(Fields::from(fields)), true))
}

/// Labels and probabilities as a list of `classes` structs for each row.
pub(super) fn class_lists(classes: usize, labels: ArrayRef, probs: ArrayRef, row_count: usize) -> Result<ArrayRef> {
    let item = list_item(labels.data_type());
    let fields = match item.data_type() {
        DataType::Struct(fields) => fields.clone(),
        _ => Fields::empty(),
    };
    let structs = StructArray::try_new(fields, vec![labels, probs], None)?;
    let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(classes, row_count));
    Ok(Arc::new(ListArray::try_new(item, offsets, Arc::new(structs), None)?))
}

/// The columns of a confusion matrix for predicted labels, as BigQuery ML names them: what cannot begin a name gets an underscore. Labels
/// that would have the same name are numbered.
pub(super) fn confusion_columns(labels: &[String]) -> Vec<String> {
    let mut names: Vec<String> = vec!["expected_label".into()];
    for label in labels {
        let mut name: String = label
            .chars()
            .map(|c| if c.is_alphanumeric() { c } else { '_' })
            .collect();
        if !name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            name.insert(0, '_');
        }
        let plain = name.clone();
        for number in 2.. {
            if !names.contains(&name) {
                break;
            }
            name = format!("{plain}_{number}");
        }
        names.push(name);
    }
    names.split_off(1)
}

/// A trained logistic regression of more than two classes.
#[derive(Debug)]
pub(super) struct MulticlassModel {
    /// The linear predictor of each class, in the order of the labels.
    predictors: Vec<LinearPredictor>,
    labels: Labels,
    l1: f64,
    l2: f64,
}

impl MulticlassModel {
    /// A model of as many predictors, of one encoder, as there are labels; the penalties are those that were used in the end.
    pub(super) fn new(predictors: Vec<LinearPredictor>, labels: Labels, (l1, l2): (f64, f64)) -> Self {
        Self {
            predictors,
            labels,
            l1,
            l2,
        }
    }

    /// Reads a model back.
    pub(super) fn from_artefact(artefact: &Artefact, labels: Labels) -> Result<Self> {
        let predictors = LinearPredictor::several_from_artefact(artefact, labels.count())?;
        let penalties = (artefact.setting("l1")?, artefact.setting("l2")?);
        Ok(Self::new(predictors, labels, penalties))
    }

    /// For each class, the probability of each row.
    fn probabilities(&self, columns: &[ArrayRef]) -> Result<Vec<Vec<f64>>> {
        let mut sums = LinearPredictor::sums_of(&self.predictors, columns)?;
        let row_count = sums.first().map_or(0, Vec::len);
        for row in 0..row_count {
            let most = sums.iter().map(|s| s[row]).fold(f64::NEG_INFINITY, f64::max);
            let mut total = 0.0;
            for sums in &mut sums {
                sums[row] = (sums[row] - most).exp();
                total += sums[row];
            }
            sums.iter_mut().for_each(|sums| sums[row] /= total);
        }
        Ok(sums)
    }

    /// Every row that has a label: for each class its probability, and the row's class. The rows are the features in the model's order,
    /// then the label.
    fn judged(&self, word: &str, rows: &dyn Rows, stop: &dyn Fn() -> bool) -> Result<(Vec<Vec<f64>>, Vec<usize>)> {
        let mut probabilities = vec![vec![]; self.labels.count()];
        let mut classes = vec![];
        let feature_count = self.feature_columns().len();
        for index in 0..rows.batch_count() {
            if stop() {
                return Err(Error::cancelled());
            }
            let batch = rows.batch(index)?;
            let all = self.probabilities(&batch.columns()[..feature_count])?;
            let labels = self
                .labels
                .classes_of(&format!("ML.{word}"), batch.column(feature_count))?;
            for (kept, all) in probabilities.iter_mut().zip(&all) {
                let labelled = labels.iter().zip(all).filter(|(label, _)| label.is_some());
                kept.extend(labelled.map(|(_, p)| *p));
            }
            classes.extend(labels.into_iter().flatten());
        }
        if classes.is_empty() {
            return Err(Error::data(format!(
                "ML.{word}: label '{}' is NULL in every row; at least one row needs one to judge the model by",
                self.labels.name
            )));
        }
        Ok((probabilities, classes))
    }
}

/// The class of the largest probability of each row.
fn predicted(probabilities: &[Vec<f64>]) -> Vec<usize> {
    let row_count = probabilities.first().map_or(0, Vec::len);
    let mut of_row = vec![0.0; probabilities.len()];
    (0..row_count)
        .map(|row| {
            for (p, of_class) in of_row.iter_mut().zip(probabilities) {
                *p = of_class[row];
            }
            highest(&of_row)
        })
        .collect()
}

impl Model for MulticlassModel {
    fn model_type(&self) -> &'static str {
        "logistic_reg"
    }

    fn kind(&self) -> String {
        format!("logistic_reg of {} classes", self.labels.count())
    }

    fn feature_columns(&self) -> &[FeatureColumn] {
        self.predictors.first().map_or(&[], LinearPredictor::feature_columns)
    }

    fn verb_fields(&self) -> Vec<FieldRef> {
        vec![]
    }

    fn verb_columns(&self, _columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        Err(Error::request(format!(
            "CHURN_SCORE gives the probability of one of two classes, and label '{}' has {}: {}; train a model with ML.TRAIN and use ML.PREDICT, \
             or make the label a condition",
            self.labels.name,
            self.labels.count(),
            list(self.labels.texts()?, 5)
        )))
    }

    fn predict_fields(&self) -> Vec<FieldRef> {
        predicted_fields(&self.labels)
    }

    fn predict_columns(&self, columns: &[ArrayRef], _options: &Options) -> Result<Vec<ArrayRef>> {
        let probabilities = self.probabilities(columns)?;
        let row_count = probabilities.first().map_or(0, Vec::len);
        let classes = self.labels.count();
        let said = self
            .labels
            .column(predicted(&probabilities).into_iter().map(|class| class as u32))?;
        // The highest label first, as for two classes: a class has the same place in every row.
        let order = || (0..classes).rev();
        let labels = self
            .labels
            .column((0..row_count).flat_map(|_| order().map(|class| class as u32)))?;
        let of_row = |row: usize| probabilities.iter().rev().map(move |of_class| of_class[row]);
        let probs = Float64Array::from_iter_values((0..row_count).flat_map(of_row));
        Ok(vec![said, class_lists(classes, labels, Arc::new(probs), row_count)?])
    }

    fn row_fields(&self, word: &str) -> Option<Vec<FieldRef>> {
        let mut fields = self.predict_fields();
        match word {
            "PREDICT" => {}
            "EXPLAIN_PREDICT" => {
                fields[1] = field("probability", DataType::Float64);
                fields.extend(explained_fields());
            }
            _ => return None,
        }
        Some(fields)
    }

    fn row_columns(&self, word: &str, columns: &[ArrayRef], options: &Options) -> Result<Vec<ArrayRef>> {
        if word != "EXPLAIN_PREDICT" {
            return self.predict_columns(columns, options);
        }
        let probabilities = self.probabilities(columns)?;
        let classes = predicted(&probabilities);
        let of_label = classes
            .iter()
            .enumerate()
            .map(|(row, class)| probabilities[*class][row]);
        let mut answer: Vec<ArrayRef> = vec![
            self.labels.column(classes.iter().map(|class| *class as u32))?,
            Arc::new(Float64Array::from_iter_values(of_label)),
        ];
        let top = options.int("top_k_features", 5) as usize;
        answer.extend(LinearPredictor::class_explanation(
            &self.predictors,
            columns,
            &classes,
            top,
        )?);
        Ok(answer)
    }

    fn label(&self) -> Option<&str> {
        Some(&self.labels.name)
    }

    fn known_labels(&self, labels: &ArrayRef) -> Result<Option<BooleanArray>> {
        self.labels.known(labels).map(Some)
    }

    fn assess_fields(&self, word: &str) -> Option<Vec<FieldRef>> {
        match word {
            "EVALUATE" => Some(
                ["precision", "recall", "accuracy", "f1_score", "log_loss", "roc_auc"]
                    .map(|name| field(name, DataType::Float64))
                    .to_vec(),
            ),
            "CONFUSION_MATRIX" => {
                let mut fields = vec![field("expected_label", self.labels.values.data_type().clone())];
                let texts = self.labels.texts().ok()?;
                fields.extend(
                    confusion_columns(&texts)
                        .into_iter()
                        .map(|name| field(name, DataType::Int64)),
                );
                Some(fields)
            }
            _ => None,
        }
    }

    fn assess(&self, word: &str, rows: &dyn Rows, _options: &Options, stop: &dyn Fn() -> bool) -> Result<RecordBatch> {
        let Some(fields) = self.assess_fields(word) else {
            return Err(Error::request(format!("ML.{word} says nothing of a {}", self.kind())));
        };
        let (probabilities, classes) = self.judged(word, rows, stop)?;
        let columns: Vec<ArrayRef> = if word == "EVALUATE" {
            let m = Multiclass::of(&probabilities, &classes);
            [
                m.map(|m| m.precision),
                m.map(|m| m.recall),
                m.map(|m| m.accuracy),
                m.map(|m| m.f1_score),
                m.map(|m| m.log_loss),
                m.and_then(|m| m.roc_auc),
            ]
            .map(|v| -> ArrayRef { Arc::new(Float64Array::from(vec![v])) })
            .to_vec()
        } else {
            let mut matrix = ConfusionMatrix::new(self.labels.count());
            for (expected, said) in classes.iter().zip(predicted(&probabilities)) {
                matrix.add(*expected, said);
            }
            let expected: Vec<usize> = (0..self.labels.count()).filter(|k| matrix.expected(*k) > 0).collect();
            let mut columns = vec![self.labels.column(expected.iter().map(|k| *k as u32))?];
            for said in 0..self.labels.count() {
                let counts = expected.iter().map(|k| matrix.count(*k, said) as i64);
                columns.push(Arc::new(Int64Array::from_iter_values(counts)));
            }
            columns
        };
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }

    fn describe(&self, word: &str, options: &Options) -> Result<Option<RecordBatch>> {
        match word {
            "WEIGHTS" => {
                let standardize = options.bool("standardize", false);
                LinearPredictor::class_weight_table(&self.predictors, &self.labels.texts()?, standardize).map(Some)
            }
            "GLOBAL_EXPLAIN" if options.bool("class_level_explain", false) => {
                let explanation = |p: &LinearPredictor| p.global_explanation();
                let tables = self.predictors.iter().map(explanation).collect::<Result<Vec<_>>>()?;
                self.labels.by_class(&tables).map(Some)
            }
            "GLOBAL_EXPLAIN" => LinearPredictor::global_explanation_of(&self.predictors).map(Some),
            _ => Ok(None),
        }
    }

    fn parts(&self) -> Result<Parts> {
        let mut parts = Parts {
            tables: LinearPredictor::tables_of(&self.predictors)?,
            ..Parts::default()
        };
        self.labels.store(&mut parts)?;
        parts.settings.insert("l1".into(), self.l1.into());
        parts.settings.insert("l2".into(), self.l2.into());
        Ok(parts)
    }
}

/// How many classes a model may have fits a label's code.
const _: () = assert!(MAX_CLASSES < u8::MAX as usize);
