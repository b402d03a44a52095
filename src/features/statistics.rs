//! What `ML.FEATURE_INFO` tells of the columns that a model was trained on.

use std::sync::Arc;

use datafusion::arrow::array::Array;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::features::counts::{CategoryCounts, NumberStats};
use crate::features::values::{CHUNK, CategoryReader, NumberReader};
use crate::models::{FeatureColumn, FeatureKind, FitContext, Rows, column_index};

/// The training rows of one feature column, in its own units.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FeatureStatistics {
    /// The column's name.
    pub name: String,
    /// A number's least value; as the other moments none for what is no number.
    pub min: Option<f64>,
    /// A number's greatest value.
    pub max: Option<f64>,
    /// A number's mean.
    pub mean: Option<f64>,
    /// A number's median; of an even count the lower of the middle two.
    pub median: Option<f64>,
    /// A number's sample deviation.
    pub deviation: Option<f64>,
    /// How many distinct values there are that are not NULL, of what is no number.
    pub category_count: Option<u64>,
    /// How many rows are NULL.
    pub null_count: u64,
}

/// The statistics of these columns of `rows`, matched by name.
///
/// # Errors
/// A column is missing, a batch cannot be read, or the query was cancelled.
pub(crate) fn of_rows(
    rows: &dyn Rows,
    columns: &[FeatureColumn],
    context: &FitContext<'_>,
) -> Result<Vec<FeatureStatistics>> {
    let schema = rows.schema();
    // A median takes all values of a column at once; where there is no memory for that it is left out.
    let bytes = rows.row_count() * size_of::<f64>() * context.compute.pool.current_num_threads();
    let with_median = context.memory.take(bytes, "the medians of the features").is_ok();
    let of_column = |column: &FeatureColumn| -> Result<FeatureStatistics> {
        let at = column_index("ML.FEATURE_INFO", &schema, &column.name)?;
        let arrays = (0..rows.batch_count()).map(|index| {
            context.check_cancelled()?;
            Ok::<_, Error>(Arc::clone(rows.batch(index)?.column(at)))
        });
        let mut found = FeatureStatistics {
            name: column.name.clone(),
            ..FeatureStatistics::default()
        };
        match column.kind {
            FeatureKind::Number => {
                let (mut stats, mut values) = (NumberStats::default(), vec![]);
                for array in arrays {
                    let array = array?;
                    let reader = NumberReader::new(&array, column)?;
                    stats.add(&reader, array.len());
                    found.null_count += reader.null_count(array.len()) as u64;
                    let mut buffer = [0.0; CHUNK];
                    for start in (0..array.len()).step_by(CHUNK).filter(|_| with_median) {
                        let read = &mut buffer[..CHUNK.min(array.len() - start)];
                        reader.read(start, read);
                        values.extend(read.iter().copied().filter(|v| !v.is_nan()));
                    }
                }
                if stats.count > 0 {
                    let (low, high) = stats.range();
                    let (mean, deviation) = stats.mean_and_deviation(true);
                    (found.min, found.max) = (Some(low), Some(high));
                    (found.mean, found.deviation) = (Some(mean), Some(deviation));
                }
                if let Some(middle) = values.len().checked_sub(1).map(|last| last / 2) {
                    found.median = Some(*values.select_nth_unstable_by(middle, f64::total_cmp).1);
                }
            }
            FeatureKind::Timestamp => {
                for array in arrays {
                    found.null_count += array?.logical_null_count() as u64;
                }
            }
            FeatureKind::Category | FeatureKind::Identifier => {
                let mut counts = CategoryCounts::default();
                for array in arrays {
                    let array = array?;
                    match CategoryReader::new(&array, column) {
                        Ok(mut reader) => counts.add(&mut reader, array.len()),
                        // Identifiers may be integers, which are no categories; the model counts them itself.
                        Err(_) => return Ok(found),
                    }
                }
                found.null_count = counts.null_count();
                found.category_count = Some(counts.categories().len() as u64);
            }
        }
        Ok(found)
    };
    context
        .compute
        .pool
        .install(|| columns.par_iter().map(of_column).collect())
}
