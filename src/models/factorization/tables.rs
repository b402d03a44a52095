//! What a factorization is made of, as tables: `ML.WEIGHTS`, `ML.GENERATE_EMBEDDING`.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::{cast, concat};
use datafusion::arrow::datatypes::{DataType, Field, Fields};

use super::VERB;
use super::interactions::Ids;
use super::model::{FactorizationModel, Factors, Scorer};
use crate::error::{Error, Result};
use crate::options::Options;

/// The `feature` of the row of the mean rating, spelled as BigQuery ML gives it: its scripts compare with that.
const GLOBAL: &str = "global__INTERCEPT__";

impl FactorizationModel {
    /// The table of a function; none for those that say nothing of the model.
    ///
    /// # Errors
    /// Arrow refuses, or an option that means nothing here.
    pub(super) fn table(&self, word: &str, options: &Options) -> Result<Option<RecordBatch>> {
        let Scorer::Factors(factors) = &self.scorer else {
            return Ok(None);
        };
        match word {
            "WEIGHTS" if options.bool("standardize", false) => Err(Error::request(format!(
                "ML.WEIGHTS: 'standardize' means nothing to a model of {VERB}; leave it out"
            ))),
            "WEIGHTS" => self.weights(factors).map(Some),
            "GENERATE_EMBEDDING" => self.embeddings(factors).map(Some),
            _ => Ok(None),
        }
    }

    /// A row for each user, each item, and the mean rating: processed_input, feature, factor_weights, intercept.
    fn weights(&self, factors: &Factors) -> Result<RecordBatch> {
        let width = self.width(factors);
        let numbers: Vec<f64> = rows(factors)
            .flat_map(|row| row[..width].iter().map(|v| f64::from(*v)))
            .collect();
        let row_count = self.users.len() + self.items.len();
        let ids = (0..row_count).flat_map(|_| 1..=width as i64);
        let fields = Fields::from(vec![
            Field::new("factor", DataType::Int64, true),
            Field::new("weight", DataType::Float64, true),
        ]);
        let entries: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(ids)),
            Arc::new(Float64Array::from(numbers)),
        ];
        let entries = StructArray::try_new(fields.clone(), entries, None)?;
        let lengths = std::iter::repeat_n(width, row_count).chain([0]);
        let lists = ListArray::try_new(
            Arc::new(Field::new("item", DataType::Struct(fields), true)),
            OffsetBuffer::from_lengths(lengths),
            Arc::new(entries),
            Some(NullBuffer::from_iter((0..=row_count).map(|row| row < row_count))),
        )?;
        let mean = self.ratings().map_or(0.0, |r| r.mean);
        let intercepts: Float64Array = self.intercepts().chain([mean]).map(Some).collect();
        let names: StringArray = self.inputs().map(Some).chain([None]).collect();
        let global: ArrayRef = Arc::new(StringArray::from(vec![GLOBAL]));
        Ok(RecordBatch::try_from_iter_with_nullable([
            ("processed_input", Arc::new(names) as ArrayRef, true),
            ("feature", concat(&[&self.features_as_text()?, &global])?, true),
            ("factor_weights", Arc::new(lists), true),
            ("intercept", Arc::new(intercepts), true),
        ])?)
    }

    /// A row for each user and item: its factors, and its intercept after them, as a list.
    fn embeddings(&self, factors: &Factors) -> Result<RecordBatch> {
        let width = self.width(factors);
        let numbers = rows(factors).zip(self.intercepts()).flat_map(|(row, intercept)| {
            let weights = row[..width].iter().map(|v| f64::from(*v));
            weights.chain([intercept])
        });
        let numbers = Float64Array::from_iter_values(numbers);
        let row_count = self.users.len() + self.items.len();
        let lists = ListArray::try_new(
            Arc::new(Field::new("item", DataType::Float64, true)),
            OffsetBuffer::from_lengths(std::iter::repeat_n(width + 1, row_count)),
            Arc::new(numbers),
            None,
        )?;
        let status = StringArray::from_iter_values(std::iter::repeat_n("", row_count));
        let names = StringArray::from_iter_values(self.inputs());
        Ok(RecordBatch::try_from_iter_with_nullable([
            ("ml_generate_embedding_result", Arc::new(lists) as ArrayRef, true),
            ("ml_generate_embedding_status", Arc::new(status), true),
            ("processed_input", Arc::new(names), true),
            ("feature", self.features_as_text()?, true),
        ])?)
    }

    /// How many of a row's numbers are factors.
    fn width(&self, factors: &Factors) -> usize {
        factors.count - usize::from(factors.ratings.is_some())
    }

    /// The column of each user and item.
    fn inputs(&self) -> impl Iterator<Item = &str> {
        let user = std::iter::repeat_n(self.users.field.name().as_str(), self.users.len());
        user.chain(std::iter::repeat_n(self.items.field.name().as_str(), self.items.len()))
    }

    /// The bias of each user and item.
    fn intercepts(&self) -> impl Iterator<Item = f64> {
        let users = (0..self.users.len() as u32).map(|user| self.user_bias(user));
        users.chain((0..self.items.len() as u32).map(|item| self.item_bias(item)))
    }

    /// Each user and item as text.
    fn features_as_text(&self) -> Result<ArrayRef> {
        let text = |ids: &Ids| cast(&ids.values, &DataType::Utf8);
        Ok(concat(&[&text(&self.users)?, &text(&self.items)?])?)
    }
}

/// The numbers of each user and item.
fn rows(factors: &Factors) -> impl Iterator<Item = &[f32]> {
    let count = factors.count.max(1);
    factors
        .users
        .chunks_exact(count)
        .chain(factors.items.chunks_exact(count))
}
