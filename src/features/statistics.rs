//! What `ML.FEATURE_INFO` tells of the columns that a model was trained on.

use datafusion::arrow::array::{Array, ArrayRef};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::features::counts::{CategoryCounts, NumberStats};
use crate::features::lists::ListStats;
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
    /// How many elements an array of numbers has, or how many indices there are up to the greatest.
    #[serde(default)]
    pub dimension: Option<u64>,
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
    // Medians take all values at once; where there is no memory for that it is left out.
    let numbers = columns.iter().filter(|c| c.kind == FeatureKind::Number).count();
    let bytes = rows.row_count() * size_of::<f64>() * numbers;
    let with_median = context.memory.take(bytes, "the medians of the features").is_ok();
    let mut columns = columns
        .iter()
        .map(|column| {
            let at = column_index("ML.FEATURE_INFO", &schema, &column.name)?;
            Ok(ColumnStatistics::new(column, at, with_median))
        })
        .collect::<Result<Vec<_>>>()?;
    // Batches outside: reading one may cost more than looking at it.
    for index in 0..rows.batch_count() {
        context.check_cancelled()?;
        let batch = rows.batch(index)?;
        context
            .compute
            .pool
            .install(|| columns.par_iter_mut().try_for_each(|c| c.add(batch.column(c.at))))?;
    }
    Ok(columns.into_iter().map(ColumnStatistics::finish).collect())
}

/// What is seen of one column.
struct ColumnStatistics<'a> {
    column: &'a FeatureColumn,
    /// Its place in the rows.
    at: usize,
    found: FeatureStatistics,
    numbers: NumberStats,
    categories: CategoryCounts,
    /// Integers that identify are no categories; the model counts them itself.
    counted: bool,
    lists: ListStats,
    /// All numbers, for the median, if there is memory for them.
    values: Option<Vec<f64>>,
}

impl<'a> ColumnStatistics<'a> {
    fn new(column: &'a FeatureColumn, at: usize, with_median: bool) -> Self {
        Self {
            column,
            at,
            found: FeatureStatistics {
                name: column.name.clone(),
                ..FeatureStatistics::default()
            },
            numbers: NumberStats::default(),
            categories: CategoryCounts::default(),
            counted: true,
            lists: ListStats::new(column.kind),
            values: with_median.then(Vec::new),
        }
    }

    fn add(&mut self, array: &ArrayRef) -> Result<()> {
        match self.column.kind {
            FeatureKind::Number => {
                let reader = NumberReader::new(array, self.column)?;
                self.numbers.add(&reader, array.len());
                self.found.null_count += reader.null_count(array.len()) as u64;
                if let Some(values) = &mut self.values {
                    let mut buffer = [0.0; CHUNK];
                    for start in (0..array.len()).step_by(CHUNK) {
                        let read = &mut buffer[..CHUNK.min(array.len() - start)];
                        reader.read(start, read);
                        values.extend(read.iter().copied().filter(|v| !v.is_nan()));
                    }
                }
            }
            FeatureKind::Timestamp => self.found.null_count += array.logical_null_count() as u64,
            FeatureKind::Category | FeatureKind::Identifier => match CategoryReader::new(array, self.column) {
                Ok(mut reader) => self.categories.add(&mut reader, array.len()),
                Err(_) => self.counted = false,
            },
            FeatureKind::Numbers | FeatureKind::Categories | FeatureKind::Sparse => {
                self.lists.add(array, self.column)?
            }
        }
        Ok(())
    }

    fn finish(self) -> FeatureStatistics {
        let mut found = self.found;
        if self.numbers.count > 0 {
            let (low, high) = self.numbers.range();
            let (mean, deviation) = self.numbers.mean_and_deviation(true);
            (found.min, found.max) = (Some(low), Some(high));
            (found.mean, found.deviation) = (Some(mean), Some(deviation));
        }
        let mut values = self.values.unwrap_or_default();
        if let Some(middle) = values.len().checked_sub(1).map(|last| last / 2) {
            found.median = Some(*values.select_nth_unstable_by(middle, f64::total_cmp).1);
        }
        if matches!(self.column.kind, FeatureKind::Category | FeatureKind::Identifier) && self.counted {
            found.null_count = self.categories.null_count();
            found.category_count = Some(self.categories.categories().len() as u64);
        }
        match self.column.kind {
            FeatureKind::Numbers | FeatureKind::Categories | FeatureKind::Sparse => self.lists.tell(&mut found),
            _ => {}
        }
        found
    }
}
