//! How good a fitted model is: on rows that were held out, on folds, or on its own rows.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use datafusion::arrow::compute::{and, cast};
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::arrow::util::display::array_value_to_string;

use super::learn::{Learning, Split, every};
use crate::error::{Error, ErrorKind, Result, list};
use crate::metrics::spread::mean;
use crate::models::split::{SelectedRows, folds};
use crate::models::{ASSESSMENTS, Evaluation, Model, Rows};
use crate::options::Options;

/// Beyond so many rows, none of them held out, only what `ML.EVALUATE` tells is found out after a fit.
const MOST_JUDGED: usize = 100_000;

/// Held-out rows that judge nothing, because no row that was learned from has their label.
///
/// The model gives such a label no probability at all: counted as wrong, one such row would make `log_loss` infinite and a class of its
/// own in every mean over classes. Left out in silence, the metrics would flatter the model, which is wrong about each of these rows. So
/// they are left out, and a notice says how many there were.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Strangers {
    row_count: usize,
    labels: BTreeSet<String>,
}

impl Strangers {
    /// What the user is told of them; none if there are none. `label` is the name of the label.
    pub(super) fn notice(&self, label: &str) -> Option<String> {
        let rows = match self.row_count {
            0 => return None,
            1 => "1 row that was to judge the model is".to_string(),
            n => format!("{n} rows that were to judge the model are"),
        };
        Some(format!(
            "{rows} left out of the judgement, because no row that was learned from has the same '{label}' ({}); the metrics are of the \
             other rows",
            list(&self.labels, 20)
        ))
    }

    /// Which rows of a batch judge the model; `marks` are those that are to.
    fn sort_out(&mut self, model: &dyn Model, labels: &ArrayRef, marks: &BooleanArray) -> Result<BooleanArray> {
        let Some(known) = model.known_labels(labels)? else {
            return Ok(marks.clone());
        };
        for row in (0..marks.len()).filter(|row| marks.value(*row) && !known.value(*row)) {
            self.row_count += 1;
            self.labels.insert(array_value_to_string(labels, row)?);
        }
        Ok(and(marks, &known)?)
    }
}

impl Learning<'_> {
    /// Says something of a fit, once.
    pub(super) fn tell_notice(&self, notices: &mut Vec<String>, notice: Option<String>) {
        if let Some(notice) = notice
            && !notices.contains(&notice)
        {
            self.context.observer.notice(&notice);
            notices.push(notice);
        }
    }

    /// What the functions beside `ML.EVALUATE` tell of the rows that judge a model, unless those are all of many rows.
    pub(super) fn judgements(
        &self,
        model: &dyn Model,
        split: &Split<'_>,
    ) -> Result<BTreeMap<String, Vec<Vec<Option<String>>>>> {
        let mut found = BTreeMap::new();
        let held_out = split.judges();
        if held_out.is_none() && split.seen.row_count() > MOST_JUDGED {
            return Ok(found);
        }
        let judged_by = judged_rows(model, split.seen, held_out, &mut Strangers::default())?;
        let stop = || self.context.compute.is_cancelled();
        for word in ASSESSMENTS.iter().map(|a| a.word).filter(|w| *w != "EVALUATE") {
            if model.assess_fields(word).is_none() {
                continue;
            }
            match model.assess(word, &judged_by, &Options::default(), &stop) {
                Ok(answer) => {
                    let columns = answer.columns().iter().map(texts).collect::<Result<Vec<_>>>()?;
                    found.insert(word.to_string(), columns);
                }
                // Such as a curve of rows of one class.
                Err(e) if e.kind() == ErrorKind::Data || e.kind() == ErrorKind::Request => {}
                Err(e) => return Err(e),
            }
        }
        Ok(found)
    }

    /// How good models of the other folds are on each of `count` folds.
    ///
    /// # Errors
    /// As a fit; a fold without a row that could judge.
    pub(super) fn cross_validate(
        &self,
        seen: &dyn Rows,
        options: &Options,
        count: usize,
        strangers: &mut Strangers,
    ) -> Result<Vec<Evaluation>> {
        self.over_folds(seen, options, count, strangers, &mut |_| {})
    }

    /// As [`Learning::cross_validate`], and shows each model.
    pub(super) fn over_folds(
        &self,
        seen: &dyn Rows,
        options: &Options,
        count: usize,
        strangers: &mut Strangers,
        show: &mut dyn FnMut(&dyn Model),
    ) -> Result<Vec<Evaluation>> {
        let mut found = vec![];
        for (at, fold) in folds(seen, count)?.iter().enumerate() {
            let split = Split::held_out(seen, fold);
            let fitted = self.with_budget(|context| self.fit(&split, options, context))?;
            show(fitted.model.as_ref());
            let evaluation = self
                .judgement(fitted.model.as_ref(), seen, Some(fold), strangers)?
                .ok_or_else(|| {
                    Error::data(format!(
                        "fold {} of {count} has no row that could judge a {}; take fewer folds or more rows",
                        at + 1,
                        self.job.model_type.name()
                    ))
                })?;
            found.push(evaluation);
        }
        Ok(found)
    }

    /// As [`Learning::judgement`]; rows that cannot judge, such as held-out ones without a label, do not undo a fit.
    pub(super) fn judge(
        &self,
        model: &dyn Model,
        rows: &dyn Rows,
        held_out: Option<&[BooleanArray]>,
        strangers: &mut Strangers,
    ) -> Result<Option<Evaluation>> {
        match self.judgement(model, rows, held_out, strangers) {
            Err(e) if e.kind() == ErrorKind::Data => Ok(None),
            other => other,
        }
    }

    /// How good a model is on the rows that are marked, or on all of them; none for models that are not judged, and where no row can judge.
    pub(super) fn judgement(
        &self,
        model: &dyn Model,
        rows: &dyn Rows,
        held_out: Option<&[BooleanArray]>,
        strangers: &mut Strangers,
    ) -> Result<Option<Evaluation>> {
        let Some(fields) = model.assess_fields("EVALUATE") else {
            return Ok(None);
        };
        let judged_by = judged_rows(model, rows, held_out, strangers)?;
        if judged_by.row_count() == 0 {
            return Ok(None);
        }
        let stop = || self.context.compute.is_cancelled();
        let of_rows = self.job.tuning.is_some() || self.job.folds.is_some();
        let answer = if of_rows {
            model
                .assess("EVALUATE", &judged_by, &Options::default(), &stop)
                .map(Some)
        } else {
            model.judge(&judged_by, &stop)
        };
        let Some(answer) = answer? else {
            return Ok(None);
        };
        let metric = |i: usize| {
            let column = answer.column(i).as_primitive_opt::<Float64Type>()?;
            column.is_valid(0).then(|| column.value(0))
        };
        Ok(Some(Evaluation {
            row_count: judged_by.row_count() as u64,
            held_out: held_out.is_some(),
            metrics: (0..fields.len()).map(metric).collect(),
        }))
    }
}

/// The rows that are marked and that the model knows the label of, or all rows, with the columns that a model is judged by.
fn judged_rows<'a>(
    model: &dyn Model,
    rows: &'a dyn Rows,
    held_out: Option<&[BooleanArray]>,
    strangers: &mut Strangers,
) -> Result<SelectedRows<'a>> {
    let schema = rows.schema();
    let place = |name: &str| crate::models::column_index("ML.TRAIN", &schema, name);
    let columns = model
        .feature_columns()
        .iter()
        .map(|c| c.name.as_str())
        .chain(model.label())
        .map(place)
        .collect::<Result<Vec<_>>>()?;
    let (Some(marks), Some(label)) = (held_out, model.label()) else {
        return SelectedRows::new(rows, held_out, true, columns);
    };
    let label = place(label)?;
    let marks = marks
        .iter()
        .enumerate()
        .map(|(index, marks)| strangers.sort_out(model, rows.batch(index)?.column(label), marks))
        .collect::<Result<Vec<_>>>()?;
    SelectedRows::new(rows, Some(&marks), true, columns)
}

/// The values of a column as texts, from which a cast gives them back.
fn texts(column: &ArrayRef) -> Result<Vec<Option<String>>> {
    let texts = cast(column, &DataType::Utf8)?;
    Ok(texts.as_string::<i32>().iter().map(|t| t.map(str::to_string)).collect())
}

/// The mean of each metric over folds; one that a fold does not define is left out of it.
pub(super) fn mean_of(folds: &[Evaluation]) -> Option<Evaluation> {
    let width = folds.first()?.metrics.len();
    let mean_of_metric = |i: usize| {
        let known: Vec<f64> = folds
            .iter()
            .filter_map(|f| f.metrics.get(i).copied().flatten())
            .collect();
        mean(&known)
    };
    Some(Evaluation {
        row_count: folds.iter().map(|f| f.row_count).sum(),
        held_out: true,
        metrics: (0..width).map(mean_of_metric).collect(),
    })
}

/// The rows that are not marked, all columns.
pub(super) fn without<'a>(rows: &'a dyn Rows, marks: Option<&[BooleanArray]>) -> Result<SelectedRows<'a>> {
    SelectedRows::new(rows, marks, false, every(rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_many_rows_were_left_out_is_said() {
        let strangers = |row_count, labels: &[&str]| Strangers {
            row_count,
            labels: labels.iter().map(|l| (*l).to_string()).collect(),
        };
        assert_eq!(strangers(0, &[]).notice("kind"), None);
        let one = strangers(1, &["a"]).notice("kind").unwrap();
        assert!(
            one.starts_with("1 row that was to judge the model is left out") && one.contains("the same 'kind' ('a')"),
            "{one}"
        );
        let more = strangers(3, &["b", "a"]).notice("kind").unwrap();
        assert!(
            more.starts_with("3 rows that were to judge the model are left out") && more.contains("('a' and 'b')"),
            "{more}"
        );
    }
}
