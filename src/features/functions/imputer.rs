//! `ML.IMPUTER`: something in the place of NULL.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, Float64Array, StringBuilder};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;

use super::arguments::Arguments;
use super::learned::Learned;
use super::learners::{Categories, Learner, Values, learner, quantile};
use super::moments::Moments;
use super::scalers::not_learned;
use super::{FeatureFunction, Planned};
use crate::error::Result;
use crate::features::columns::{is_number, is_text, numbers, texts};

pub(crate) static IMPUTER: FeatureFunction = FeatureFunction {
    name: "IMPUTER",
    summary: "Puts the mean, the median or the most frequent value of the training rows in the place of NULL; text takes 'most_frequent' only.",
    syntax: "ML.IMPUTER(x, 'mean' | 'median' | 'most_frequent') OVER ()",
    example: "SELECT f, ML.IMPUTER(f, 'mean') OVER () AS filled FROM (VALUES (1), (NULL), (4)) AS t(f)",
    is_learned: true,
    column_count: 1,
    required_parameters: 1,
    parameters: 1,
    plan,
};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Strategy {
    Mean,
    Median,
    MostFrequent,
}

const STRATEGIES: &[(&str, Strategy)] = &[
    ("mean", Strategy::Mean),
    ("median", Strategy::Median),
    ("most_frequent", Strategy::MostFrequent),
];

#[derive(Debug)]
struct Imputer {
    strategy: Strategy,
    of_text: bool,
}

fn plan(arguments: &Arguments<'_>) -> Result<Box<dyn Planned>> {
    let column = arguments.column(0);
    let strategy = arguments.choice(0, "strategy", STRATEGIES, Strategy::Mean)?;
    let of_text = !is_number(column);
    if of_text && !is_text(column) {
        return Err(arguments.error(format!("argument 1 is {column}, and must be a number or text")));
    }
    if of_text && strategy != Strategy::MostFrequent {
        let given = arguments.required(0, "strategy")?;
        return Err(arguments.wrong("strategy", given, "'most_frequent' for text"));
    }
    Ok(Box::new(Imputer { strategy, of_text }))
}

fn number(value: Option<f64>) -> Learned {
    value.map_or(Learned::Nothing, |value| Learned::Number { value })
}

/// The value that occurs most often, the least of them.
fn mode(sorted: &[f64]) -> Option<f64> {
    let runs = sorted.chunk_by(|a, b| a == b);
    // `max_by_key` takes the last of equals, which in reverse is the least.
    runs.rev()
        .max_by_key(|run| run.len())
        .and_then(|run| run.first())
        .copied()
}

impl Planned for Imputer {
    fn data_type(&self) -> DataType {
        if self.of_text {
            DataType::Utf8
        } else {
            DataType::Float64
        }
    }

    fn learner(&self) -> Option<Box<dyn Learner>> {
        Some(match (self.strategy, self.of_text) {
            (_, true) => learner(|categories: &Categories| match categories.most_frequent() {
                Some(text) => Learned::Text { value: text.into() },
                None => Learned::Nothing,
            }),
            (Strategy::Mean, _) => learner(|m: &Moments| number((m.count > 0).then(|| m.mean()))),
            (Strategy::Median, _) => learner(|values: &Values| number(quantile(&values.sorted(), 1, 2))),
            (Strategy::MostFrequent, _) => learner(|values: &Values| number(mode(&values.sorted()))),
        })
    }

    fn apply(&self, columns: &[ArrayRef], learned: Option<&Learned>) -> Result<ArrayRef> {
        let (Some(column), Some(learned)) = (columns.first(), learned) else {
            return Err(not_learned(IMPUTER.name));
        };
        match learned {
            Learned::Nothing => Ok(cast(column, &self.data_type())?),
            Learned::Number { value } if !self.of_text => {
                let filled = numbers(column)?
                    .iter()
                    .map(|v| v.unwrap_or(*value))
                    .collect::<Vec<f64>>();
                Ok(Arc::new(Float64Array::from(filled)))
            }
            Learned::Text { value } if self.of_text => {
                let mut filled = StringBuilder::with_capacity(column.len(), column.len() * 8);
                texts(column)?
                    .iter()
                    .for_each(|text| filled.append_value(text.unwrap_or(value)));
                Ok(Arc::new(filled.finish()))
            }
            _ => Err(not_learned(IMPUTER.name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Constant;
    use super::super::testing::*;
    use super::*;

    const NULL: Option<f64> = None;

    fn fill(values: &[Option<f64>], strategy: &str) -> Option<f64> {
        let column = doubles([NULL].into_iter().chain(values.iter().copied()));
        let filled = as_doubles(&run(&IMPUTER, &[column], &[text(strategy)]).unwrap());
        assert!(
            filled[1..]
                .iter()
                .zip(values)
                .all(|(a, b)| b.is_none() || a.map(f64::to_bits) == b.map(f64::to_bits))
        );
        filled[0]
    }

    #[test]
    fn published_examples() {
        let nine = [-3.0, -3.0, -3.0, 1.0, 2.0, 3.0, 4.0, 5.0].map(Some);
        assert_eq!(fill(&nine, "mean"), Some(0.75));
        let column = words([
            None,
            None,
            None,
            None,
            Some("a"),
            Some("a"),
            Some("b"),
            Some("b"),
            Some("c"),
            Some("c"),
            Some("c"),
        ]);
        let filled = run(&IMPUTER, &[column], &[text("most_frequent")]).unwrap();
        assert_eq!(
            as_words(&filled),
            ["c", "c", "c", "c", "a", "a", "b", "b", "c", "c", "c"].map(Some)
        );
    }

    #[test]
    fn the_median_is_the_lower_one_and_ties_go_to_the_least() {
        assert_eq!(fill(&[1.0, 2.0, 3.0, 10.0].map(Some), "median"), Some(2.0));
        assert_eq!(fill(&[5.0, 1.0, 3.0].map(Some), "MEDIAN"), Some(3.0));
        assert_eq!(fill(&[5.0, 1.0, 5.0, 1.0, 3.0].map(Some), "most_frequent"), Some(1.0));
        let column = words([Some("b"), None, Some("a")]);
        let filled = run(&IMPUTER, &[column], &[text("most_frequent")]).unwrap();
        assert_eq!(as_words(&filled), ["b", "a", "a"].map(Some));
    }

    #[test]
    fn nothing_to_learn_from_leaves_null() {
        for strategy in ["mean", "median", "most_frequent"] {
            assert_eq!(fill(&[NULL, NULL], strategy), None, "{strategy}");
            // NaN is a value and stays; it teaches nothing.
            assert_eq!(fill(&[Some(f64::NAN), Some(2.0)], strategy), Some(2.0), "{strategy}");
        }
        let column = words([None::<&str>, None]);
        assert_eq!(
            as_words(&run(&IMPUTER, &[column], &[text("most_frequent")]).unwrap()),
            [None, None]
        );
    }

    #[test]
    fn bad_arguments() {
        let error = refusal(&IMPUTER, &[DataType::Utf8], &[text("mean")]);
        assert!(
            error.contains("strategy must be 'most_frequent' for text, not 'mean'"),
            "{error}"
        );
        let error = refusal(&IMPUTER, &[DataType::Int64], &[text("mode")]);
        assert!(
            error.contains("strategy must be one of 'mean', 'median' and 'most_frequent', not 'mode'"),
            "{error}"
        );
        let error = refusal(&IMPUTER, &[DataType::Boolean], &[text("mean")]);
        assert!(
            error.contains("argument 1 is Boolean, and must be a number or text"),
            "{error}"
        );
        let error = refusal(&IMPUTER, &[DataType::Int64], &[]);
        assert!(error.contains("takes 2 arguments, not 1"), "{error}");
        let error = refusal(&IMPUTER, &[DataType::Int64], &[Constant::Null]);
        assert!(error.contains("not NULL"), "{error}");
    }
}
