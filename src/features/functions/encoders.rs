//! Encoders: categories to numbers, in the alphabetical order of those that the training rows had often enough.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, Int64Array};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::DataType;

use super::arguments::Arguments;
use super::learned::{Learned, Vocabulary};
use super::learners::{Categories, Learner, learner};
use super::scalers::not_learned;
use super::{FeatureFunction, Planned};
use crate::error::{Error, Result};
use crate::features::columns::{Lists, hot_lists, hot_type, texts};

pub(crate) static LABEL_ENCODER: FeatureFunction = FeatureFunction {
    name: "LABEL_ENCODER",
    summary: "The number of a category, from 1 in alphabetical order; 0 for NULL, for one that the training rows had fewer than \
              frequency_threshold times, and for one beyond the top_k most frequent.",
    syntax: "ML.LABEL_ENCODER(s [, top_k = 32000 [, frequency_threshold = 5]]) OVER ()",
    example: "SELECT f, ML.LABEL_ENCODER(f, 10, 1) OVER () AS code FROM (VALUES ('a'), ('b'), ('b'), (NULL)) AS t(f)",
    is_learned: true,
    column_count: 1,
    required_parameters: 0,
    parameters: 2,
    plan: plan_label,
};

pub(crate) static ONE_HOT_ENCODER: FeatureFunction = FeatureFunction {
    name: "ONE_HOT_ENCODER",
    summary: "A category as a list of one index and its value 1; index 0 is NULL, rare or unknown. With drop 'most_frequent' the most \
              frequent category has the value 0 (dummy encoding).",
    syntax: "ML.ONE_HOT_ENCODER(s [, drop = 'none' | 'most_frequent' [, top_k = 32000 [, frequency_threshold = 5]]]) OVER ()",
    example: "SELECT f, ML.ONE_HOT_ENCODER(f, 'none', 10, 1) OVER () AS hot FROM (VALUES ('a'), ('b'), ('b'), (NULL)) AS t(f)",
    is_learned: true,
    column_count: 1,
    required_parameters: 0,
    parameters: 3,
    plan: plan_one_hot,
};

pub(crate) static MULTI_HOT_ENCODER: FeatureFunction = FeatureFunction {
    name: "MULTI_HOT_ENCODER",
    summary: "An array of categories as a list of indices, each once and with the value 1; index 0 is NULL, rare or unknown. A category's \
              frequency is in how many rows it is.",
    syntax: "ML.MULTI_HOT_ENCODER(array [, top_k = 32000 [, frequency_threshold = 5]]) OVER ()",
    example: "SELECT f, ML.MULTI_HOT_ENCODER(f, 10, 1) OVER () AS hot FROM (VALUES (['a', 'b']), (['b', 'c', 'c'])) AS t(f)",
    is_learned: true,
    column_count: 1,
    required_parameters: 0,
    parameters: 2,
    plan: plan_multi_hot,
};

/// The most categories that an encoder may number.
const TOP_MOST: i64 = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    Label,
    OneHot,
    MultiHot,
}

#[derive(Debug)]
struct Encoder {
    name: &'static str,
    form: Form,
    top: usize,
    threshold: u64,
    drop_most_frequent: bool,
}

fn plan(arguments: &Arguments<'_>, form: Form, first: usize, drop_most_frequent: bool) -> Result<Box<dyn Planned>> {
    let top = arguments.integer(first, "top_k", 32_000, 1, TOP_MOST)?;
    let threshold = arguments.integer(first + 1, "frequency_threshold", 5, 0, i64::MAX)?;
    Ok(Box::new(Encoder {
        name: arguments.name(),
        form,
        top: usize::try_from(top).unwrap_or(usize::MAX),
        threshold: threshold.unsigned_abs(),
        drop_most_frequent,
    }))
}

fn plan_label(arguments: &Arguments<'_>) -> Result<Box<dyn Planned>> {
    arguments.text_column(0)?;
    plan(arguments, Form::Label, 0, false)
}

fn plan_one_hot(arguments: &Arguments<'_>) -> Result<Box<dyn Planned>> {
    arguments.text_column(0)?;
    let drop = arguments.choice(0, "drop", &[("none", false), ("most_frequent", true)], false)?;
    plan(arguments, Form::OneHot, 1, drop)
}

fn plan_multi_hot(arguments: &Arguments<'_>) -> Result<Box<dyn Planned>> {
    arguments.text_lists(0)?;
    plan(arguments, Form::MultiHot, 0, false)
}

fn value_of(vocabulary: &Vocabulary, index: i64) -> f64 {
    if vocabulary.is_dropped(index) { 0.0 } else { 1.0 }
}

fn multi_hot(column: &ArrayRef, vocabulary: &Vocabulary) -> Result<ArrayRef> {
    let lists = Lists::new(column)?;
    let words = texts(&lists.values)?;
    let (mut indices, mut lengths) = (vec![], Vec::with_capacity(lists.len()));
    // In which row an index was last: rows are from 1.
    let mut last = vec![0usize; vocabulary.len() + 1];
    for row in 0..lists.len() {
        let before = indices.len();
        let mut put = |index: i64| {
            if let Some(seen) = last.get_mut(index as usize)
                && *seen != row + 1
            {
                *seen = row + 1;
                indices.push(index);
            }
        };
        match lists.row(row) {
            None => put(0),
            Some(range) => {
                range.for_each(|i| put(vocabulary.index(words.is_valid(i).then(|| words.value(i)))));
            }
        }
        lengths.push(indices.len() - before);
    }
    if i32::try_from(indices.len()).is_err() {
        return Err(Error::data(format!(
            "ML.{}: a batch of {} elements is too long; set a smaller datafusion.execution.batch_size",
            MULTI_HOT_ENCODER.name,
            indices.len()
        )));
    }
    let values = indices.iter().map(|i| value_of(vocabulary, *i)).collect();
    hot_lists(indices, values, OffsetBuffer::from_lengths(lengths))
}

impl Planned for Encoder {
    fn data_type(&self) -> DataType {
        match self.form {
            Form::Label => DataType::Int64,
            Form::OneHot | Form::MultiHot => hot_type(),
        }
    }

    fn learner(&self) -> Option<Box<dyn Learner>> {
        let (top, threshold, drop) = (self.top, self.threshold, self.drop_most_frequent);
        Some(learner(move |categories: &Categories| {
            Learned::Vocabulary(categories.vocabulary(top, threshold, drop))
        }))
    }

    fn apply(&self, columns: &[ArrayRef], learned: Option<&Learned>) -> Result<ArrayRef> {
        let (Some(column), Some(Learned::Vocabulary(vocabulary))) = (columns.first(), learned) else {
            return Err(not_learned(self.name));
        };
        if self.form == Form::MultiHot {
            return multi_hot(column, vocabulary);
        }
        let words = texts(column)?;
        let indices = words.iter().map(|text| vocabulary.index(text));
        if self.form == Form::Label {
            return Ok(Arc::new(Int64Array::from_iter_values(indices)));
        }
        let indices: Vec<i64> = indices.collect();
        let values = indices.iter().map(|i| value_of(vocabulary, *i)).collect();
        let rows = indices.len();
        hot_lists(indices, values, OffsetBuffer::from_repeated_length(1, rows))
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use datafusion::arrow::array::{LargeListBuilder, ListBuilder, StringBuilder, new_null_array};
    use datafusion::arrow::compute::cast;

    use super::super::Constant;
    use super::super::testing::*;
    use super::*;
    use crate::features::columns::list_of;

    fn nine() -> ArrayRef {
        words([
            None,
            Some("a"),
            Some("b"),
            Some("b"),
            Some("c"),
            Some("c"),
            Some("c"),
            Some("d"),
            Some("d"),
        ])
    }

    fn lists(rows: &[Option<&[Option<&str>]>]) -> ArrayRef {
        let mut out = ListBuilder::new(StringBuilder::new());
        for row in rows {
            out.append_option(row.map(|row| row.iter().copied()));
        }
        Arc::new(out.finish())
    }

    #[test]
    fn published_label_encoder() {
        let values = run(&LABEL_ENCODER, &[nine()], &[Constant::Int(2), Constant::Int(2)]).unwrap();
        assert_eq!(as_ints(&values), [0, 0, 1, 1, 2, 2, 2, 0, 0].map(Some));
    }

    #[test]
    fn one_hot_encoder_of_the_published_rows() {
        // 'c' is the most frequent: it keeps its index and has the value 0.
        let parameters = [text("most_frequent"), Constant::Int(10), Constant::Int(0)];
        let values = as_pairs(&run(&ONE_HOT_ENCODER, &[nine()], &parameters).unwrap());
        let wanted = [
            (0, 1.0),
            (1, 1.0),
            (2, 1.0),
            (2, 1.0),
            (3, 0.0),
            (3, 0.0),
            (3, 0.0),
            (4, 1.0),
            (4, 1.0),
        ];
        assert_eq!(values, wanted.map(|pair| vec![pair]));
        let parameters = [text("none"), Constant::Int(10), Constant::Int(0)];
        let values = as_pairs(&run(&ONE_HOT_ENCODER, &[nine()], &parameters).unwrap());
        assert_eq!(values[4], [(3, 1.0)]);
    }

    #[test]
    fn published_multi_hot_encoder() {
        let column = lists(&[
            Some(&[Some("a"), Some("b"), Some("b"), Some("c"), None]),
            Some(&[Some("c"), Some("c"), Some("d"), Some("d"), None]),
        ]);
        let parameters = [Constant::Int(3), Constant::Int(1)];
        let values = as_pairs(&run(&MULTI_HOT_ENCODER, &[column], &parameters).unwrap());
        assert_eq!(values[0], [(1, 1.0), (2, 1.0), (3, 1.0), (0, 1.0)]);
        assert_eq!(values[1], [(3, 1.0), (0, 1.0)]);
    }

    #[test]
    fn defaults_leave_out_what_is_rare() {
        let column = words(["a", "b", "a", "a", "a", "a", "b"]);
        assert_eq!(
            as_ints(&run(&LABEL_ENCODER, from_ref(&column), &[]).unwrap()),
            [1, 0, 1, 1, 1, 1, 0].map(Some)
        );
        // The most frequent category is dropped only if it is often enough to be known.
        let rare = words(["a", "b", "a"]);
        let values = as_pairs(&run(&ONE_HOT_ENCODER, &[rare], &[text("most_frequent")]).unwrap());
        assert_eq!(values, vec![vec![(0, 1.0)]; 3]);
    }

    #[test]
    fn unseen_categories_and_other_types_of_text() {
        let one = [Constant::Int(10), Constant::Int(1)];
        let new = words([Some("z"), None, Some("b")]);
        for t in [DataType::LargeUtf8, DataType::Utf8View] {
            let new = cast(&new, &t).unwrap();
            let values = predict(&LABEL_ENCODER, &nine(), &[new], &one).unwrap();
            assert_eq!(as_ints(&values), [0, 0, 2].map(Some), "{t}");
        }
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![10, 9, 9]));
        // As texts: '10' is before '9'.
        assert_eq!(
            as_ints(&run(&LABEL_ENCODER, &[numbers], &one).unwrap()),
            [1, 2, 2].map(Some)
        );
    }

    #[test]
    fn null_and_empty_lists() {
        let column = lists(&[None, Some(&[]), Some(&[Some("a")]), Some(&[None, Some("x"), None])]);
        let parameters = [Constant::Int(1), Constant::Int(1)];
        let values = as_pairs(&run(&MULTI_HOT_ENCODER, &[column], &parameters).unwrap());
        assert_eq!(values, [vec![(0, 1.0)], vec![], vec![(1, 1.0)], vec![(0, 1.0)]]);
        let mut large = LargeListBuilder::new(StringBuilder::new());
        large.append_value([Some("q"), Some("a")]);
        let large: ArrayRef = Arc::new(large.finish());
        let values = as_pairs(&run(&MULTI_HOT_ENCODER, &[large], &[Constant::Int(9), Constant::Int(1)]).unwrap());
        assert_eq!(values, [vec![(2, 1.0), (1, 1.0)]]);
        for f in [&LABEL_ENCODER, &ONE_HOT_ENCODER, &MULTI_HOT_ENCODER] {
            let nothing = new_null_array(&DataType::Null, 2);
            assert_eq!(run(f, &[nothing], &[]).unwrap().null_count(), 0, "{}", f.name);
        }
    }

    #[test]
    fn bad_arguments() {
        let error = refusal(&LABEL_ENCODER, &[DataType::Float64], &[]);
        assert!(
            error.contains("argument 1 is Float64, and must be text (CAST(… AS STRING) makes it so)"),
            "{error}"
        );
        let error = refusal(&LABEL_ENCODER, &[DataType::Utf8], &[Constant::Int(0)]);
        assert!(
            error.contains("top_k must be a whole number from 1 to 1000000, not 0"),
            "{error}"
        );
        let error = refusal(
            &LABEL_ENCODER,
            &[DataType::Utf8],
            &[Constant::Int(5), Constant::Float(1.5)],
        );
        assert!(
            error.contains("frequency_threshold must be a whole number of at least 0, not 1.5"),
            "{error}"
        );
        let error = refusal(&ONE_HOT_ENCODER, &[DataType::Utf8], &[Constant::Int(5)]);
        assert!(
            error.contains("drop must be one of 'none' and 'most_frequent', not 5"),
            "{error}"
        );
        let error = refusal(&MULTI_HOT_ENCODER, &[DataType::Utf8], &[]);
        assert!(
            error.contains("argument 1 is Utf8, and must be an array of texts"),
            "{error}"
        );
        let error = refusal(&MULTI_HOT_ENCODER, &[list_of(DataType::Float64)], &[]);
        assert!(error.contains("must be an array of texts"), "{error}");
    }
}
