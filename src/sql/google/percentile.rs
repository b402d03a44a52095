//! PERCENTILE_DISC, an aggregate that is also a window function.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, new_empty_array};
use datafusion::arrow::compute::{SortOptions, concat, filter, is_not_null, sort};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

use super::function::list_of;
use crate::error::Error;

/// The name that it is registered as.
pub(super) const NAME: &str = "percentile_disc";
/// How it is written.
pub(super) const SYNTAX: &str = "PERCENTILE_DISC(value, fraction) OVER ([PARTITION BY …])";
/// What it does.
pub(super) const SUMMARY: &str =
    "The first of the sorted values that a fraction of them, from 0 to 1, does not exceed; NULLs are left out.";
/// A statement that works as it stands.
pub(super) const EXAMPLE: &str =
    "SELECT DISTINCT PERCENTILE_DISC(x, 0.5) OVER () AS median FROM UNNEST(['c', NULL, 'b', 'a']) AS x";

/// The function as DataFusion takes it.
pub(super) fn udaf() -> AggregateUDF {
    AggregateUDF::from(PercentileDisc {
        signature: Signature::user_defined(Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct PercentileDisc {
    signature: Signature,
}

impl AggregateUDFImpl for PercentileDisc {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        match given {
            [value, fraction] if fraction.is_numeric() => Ok(vec![value.clone(), DataType::Float64]),
            _ => Err(Error::request(format!("PERCENTILE_DISC takes a value and a number; write {SYNTAX}")).into()),
        }
    }

    fn return_type(&self, given: &[DataType]) -> DataFusionResult<DataType> {
        Ok(given.first().cloned().unwrap_or(DataType::Null))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> DataFusionResult<Vec<FieldRef>> {
        let value = args
            .input_fields
            .first()
            .map_or(DataType::Null, |f| f.data_type().clone());
        let field = |part: &str, data_type| Arc::new(Field::new(format_state_name(args.name, part), data_type, true));
        Ok(vec![
            field("values", list_of(value)),
            field("fraction", DataType::Float64),
        ])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> DataFusionResult<Box<dyn Accumulator>> {
        let value = args.expr_fields.first();
        Ok(Box::new(Values {
            value: value.map_or(DataType::Null, |f| f.data_type().clone()),
            chunks: vec![],
            fraction: None,
        }))
    }
}

/// Keeps all values but NULLs.
#[derive(Debug)]
struct Values {
    value: DataType,
    chunks: Vec<ArrayRef>,
    fraction: Option<f64>,
}

impl Values {
    fn all(&self) -> DataFusionResult<ArrayRef> {
        let chunks: Vec<&dyn Array> = self.chunks.iter().map(AsRef::as_ref).collect();
        if chunks.is_empty() {
            return Ok(new_empty_array(&self.value));
        }
        Ok(concat(&chunks)?)
    }

    fn learn(&mut self, fractions: &ArrayRef) -> DataFusionResult<()> {
        for fraction in fractions.as_primitive::<Float64Type>().iter().flatten() {
            if !(0.0..=1.0).contains(&fraction) {
                return Err(Error::data(format!(
                    "the fraction of PERCENTILE_DISC is from 0 to 1, not {fraction}; write another"
                ))
                .into());
            }
            #[expect(clippy::float_cmp, reason = "a constant is the same in all rows")]
            if self.fraction.is_some_and(|known| known != fraction) {
                let message = "the fraction of PERCENTILE_DISC has to be the same in all rows; write a constant";
                return Err(Error::data(message).into());
            }
            self.fraction = Some(fraction);
        }
        Ok(())
    }
}

impl Accumulator for Values {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        if let [chunk, fractions] = values {
            self.learn(fractions)?;
            self.chunks.push(filter(chunk, &is_not_null(chunk)?)?);
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DataFusionResult<()> {
        if let [lists, fractions] = states {
            self.learn(fractions)?;
            self.chunks.extend(lists.as_list::<i32>().iter().flatten());
        }
        Ok(())
    }

    fn state(&mut self) -> DataFusionResult<Vec<ScalarValue>> {
        let list = SingleRowListArrayBuilder::new(self.all()?)
            .with_nullable(true)
            .build_list_scalar();
        Ok(vec![list, ScalarValue::Float64(self.fraction)])
    }

    fn evaluate(&mut self) -> DataFusionResult<ScalarValue> {
        let all = self.all()?;
        let Some(fraction) = self.fraction.filter(|_| !all.is_empty()) else {
            return ScalarValue::try_from(&self.value);
        };
        let sorted = sort(&all, Some(SortOptions::default()))?;
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss
        )]
        let rank = (fraction * sorted.len() as f64).ceil() as usize;
        ScalarValue::try_from_array(&sorted, rank.saturating_sub(1).min(sorted.len() - 1))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.chunks.iter().map(|c| c.get_array_memory_size()).sum::<usize>()
    }
}
