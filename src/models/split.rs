//! Which rows are learned from and which judge the model: BigQuery ML's ways of splitting the rows of a query.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::{SortOptions, cast, concat, filter_record_batch, sort_to_indices};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::row::{RowConverter, SortField};
use hashbrown::HashMap;

use crate::error::{Error, Result};
use crate::models::{Rows, column_index};
use crate::options::{OptionKind, OptionSpec, Options};

/// The options of a split, as `ML.TRAIN` takes them for every model type that predicts a label.
pub static SPLIT_OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "data_split_method",
        aliases: &[],
        kind: OptionKind::Choice(&["no_split", "auto_split", "random", "custom", "seq"]),
        default: "'no_split' ('auto_split' in CREATE MODEL)",
        help: "Which rows are held out to judge the model: none; automatically none below 500 rows, a fifth to 50,000, else 10,000; by chance \
               that repeats; those where data_split_col is true or NULL; the last ones along data_split_col.",
    },
    OptionSpec {
        name: "data_split_eval_fraction",
        aliases: &[],
        kind: OptionKind::Float { min: 0.0, max: 0.99 },
        default: "0.2",
        help: "The share of the rows that 'random' and 'seq' hold out.",
    },
    OptionSpec {
        name: "data_split_col",
        aliases: &[],
        kind: OptionKind::Column,
        default: "none",
        help: "The column that 'custom' (a boolean) and 'seq' split by; it is no feature.",
    },
    OptionSpec {
        name: "cross_validate",
        aliases: &[],
        kind: OptionKind::Int { min: 2, max: 100 },
        default: "none",
        help: "In how many folds to judge: each by a model of the others' rows; ML.EVALUATE('model') tells all, their mean and deviation. \
               The model itself learns from all rows.",
    },
];

/// Below so many rows 'auto_split' holds none out.
const FEW_ROWS: usize = 500;
/// To so many it holds a fifth out, beyond them [`MOST_HELD_OUT`].
const MANY_ROWS: usize = 50_000;
const MOST_HELD_OUT: usize = 10_000;

/// How rows are split.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Split {
    /// By BigQuery ML's rule.
    Auto,
    /// That share, by a hash of the rows' content.
    Random(f64),
    /// Where that column is true or NULL.
    Custom(usize),
    /// That share, the last ones along a column.
    Sequential(f64, usize),
}

impl Split {
    /// What the options say of these columns; none for no split.
    ///
    /// # Errors
    /// The column is missing, not there, or of a type that the method does not take.
    pub fn of(function: &str, options: &Options, columns: &SchemaRef) -> Result<Option<Self>> {
        let method = options.text("data_split_method").unwrap_or("no_split");
        let fraction = options.float("data_split_eval_fraction", 0.2);
        let column = || match options.text("data_split_col") {
            Some(name) => column_index(function, columns, name),
            None => Err(Error::request(format!(
                "{function}: data_split_method '{method}' needs the option 'data_split_col', the name of a column"
            ))),
        };
        Ok(match method {
            "auto_split" => Some(Split::Auto),
            "random" => Some(Split::Random(fraction)),
            "custom" => {
                let column = column()?;
                let field = columns.field(column);
                if field.data_type() != &DataType::Boolean {
                    return Err(Error::request(format!(
                        "{function}: column '{}' of type {} cannot be the data_split_col of 'custom'; it takes a boolean",
                        field.name(),
                        field.data_type()
                    )));
                }
                Some(Split::Custom(column))
            }
            "seq" => Some(Split::Sequential(fraction, column()?)),
            _ => None,
        })
    }

    /// The column that it looks at.
    pub fn column(&self) -> Option<usize> {
        match self {
            Split::Custom(column) | Split::Sequential(_, column) => Some(*column),
            _ => None,
        }
    }

    /// The same split, its column at another place.
    #[must_use]
    pub fn at(self, place: impl Fn(usize) -> usize) -> Self {
        match self {
            Split::Custom(column) => Split::Custom(place(column)),
            Split::Sequential(fraction, column) => Split::Sequential(fraction, place(column)),
            other => other,
        }
    }

    /// For each batch, which rows are held out; none if no row is.
    ///
    /// # Errors
    /// A spilled batch cannot be read, or a column's type has no order.
    pub fn held_out(&self, rows: &dyn Rows) -> Result<Option<Vec<BooleanArray>>> {
        let count = rows.row_count();
        let share = |fraction: f64| (count as f64 * fraction).round() as usize;
        let masks = match self {
            Split::Custom(column) => (0..rows.batch_count())
                .map(|index| {
                    let batch = rows.batch(index)?;
                    let marks = batch.column(*column).as_boolean();
                    Ok((0..marks.len())
                        .map(|i| Some(marks.is_null(i) || marks.value(i)))
                        .collect())
                })
                .collect::<Result<Vec<BooleanArray>>>()?,
            Split::Sequential(fraction, column) => {
                let columns = (0..rows.batch_count())
                    .map(|index| Ok(Arc::clone(rows.batch(index)?.column(*column))))
                    .collect::<Result<Vec<ArrayRef>>>()?;
                let all: Vec<&dyn Array> = columns.iter().map(AsRef::as_ref).collect();
                let order = SortOptions {
                    descending: false,
                    nulls_first: true,
                };
                let sorted = sort_to_indices(&concat(&all)?, Some(order), None)?;
                let mut marks = vec![false; count];
                sorted.values()[count - share(*fraction)..]
                    .iter()
                    .for_each(|row| marks[*row as usize] = true);
                cut(&marks, rows)
            }
            Split::Auto if count < FEW_ROWS => return Ok(None),
            Split::Auto if count > MANY_ROWS => by_hash(rows, MOST_HELD_OUT)?,
            Split::Auto => by_hash(rows, share(0.2))?,
            Split::Random(fraction) => by_hash(rows, share(*fraction))?,
        };
        Ok(masks.iter().any(|m| m.true_count() > 0).then_some(masks))
    }
}

/// Marks of all rows as masks of the batches.
fn cut(marks: &[bool], rows: &dyn Rows) -> Vec<BooleanArray> {
    let mut at = 0;
    (0..rows.batch_count())
        .map(|index| {
            let begin = at;
            at += rows.batch_rows(index);
            BooleanArray::from(marks[begin..at].to_vec())
        })
        .collect()
}

/// For each of `count` folds, which rows of each batch are in it: by a hash of their content, so that the
/// order of the rows does not show. Folds are as large as the hashes fall.
///
/// # Errors
/// A spilled batch cannot be read.
pub fn folds(rows: &dyn Rows, count: usize) -> Result<Vec<Vec<BooleanArray>>> {
    let hashes = content_hashes(rows)?;
    Ok((0..count as u64)
        .map(|fold| {
            let marks: Vec<bool> = hashes
                .iter()
                .map(|h| scrambled(h ^ 0xF01D) % count as u64 == fold)
                .collect();
            cut(&marks, rows)
        })
        .collect())
}

/// The rows with the lowest hashes of their content, `wanted` of them: the same whatever the order of the rows.
fn by_hash(rows: &dyn Rows, wanted: usize) -> Result<Vec<BooleanArray>> {
    let hashes = content_hashes(rows)?;
    let mut sorted = hashes.clone();
    sorted.sort_unstable();
    let limit = wanted.checked_sub(1).map(|last| sorted[last.min(sorted.len() - 1)]);
    let marks: Vec<bool> = hashes.iter().map(|h| limit.is_some_and(|limit| *h <= limit)).collect();
    Ok(cut(&marks, rows))
}

/// A number whose every bit depends on every bit of `x`, half and half (the finalizer of SplitMix64: Steele, Lea & Flood, *Fast splittable
/// pseudorandom number generators*, 2014). Rows are taken by whether their hashes are low, so that no column, such as the label, may show in
/// the high bits.
fn scrambled(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// A hash of each row's content.
fn content_hashes(rows: &dyn Rows) -> Result<Vec<u64>> {
    let schema = rows.schema();
    let plain = |t: &DataType| match t {
        DataType::Dictionary(_, value) => value.as_ref().clone(),
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        other => other.clone(),
    };
    let types: Vec<DataType> = schema.fields().iter().map(|f| plain(f.data_type())).collect();
    let converter = RowConverter::new(types.iter().cloned().map(SortField::new).collect())?;
    let mut hashes = Vec::with_capacity(rows.row_count());
    for index in 0..rows.batch_count() {
        let batch = rows.batch(index)?;
        let columns = batch
            .columns()
            .iter()
            .zip(&types)
            .map(|(c, t)| Ok(cast(c, t)?))
            .collect::<Result<Vec<_>>>()?;
        for row in &converter.convert_columns(&columns)? {
            let pieces = row.as_ref().chunks(8).map(|piece| {
                let mut bytes = [0; 8];
                bytes[..piece.len()].copy_from_slice(piece);
                u64::from_le_bytes(bytes)
            });
            hashes.push(pieces.fold(row.as_ref().len() as u64, |hash, piece| {
                scrambled(hash ^ piece.wrapping_mul(0xD6E8_FEB8_6659_FD93))
            }));
        }
    }
    // Copies of a row are told apart, or all of a kind would be held out together; which is which does not matter.
    let mut seen: HashMap<u64, u64> = HashMap::new();
    for hash in &mut hashes {
        let copies = seen.entry(*hash).or_default();
        let copy = *copies;
        *copies += 1;
        if copy > 0 {
            *hash = scrambled(*hash ^ scrambled(copy));
        }
    }
    Ok(hashes)
}

/// Rows of another, those that a mask marks or those that it does not, with some of the columns.
pub struct SelectedRows<'a> {
    rows: &'a dyn Rows,
    /// Which rows of each batch are in; all without.
    masks: Option<Vec<BooleanArray>>,
    columns: Vec<usize>,
    schema: SchemaRef,
}

impl<'a> SelectedRows<'a> {
    /// The rows that are marked (`marked`), or all others; all rows without marks.
    ///
    /// # Errors
    /// Arrow refuses.
    pub fn new(rows: &'a dyn Rows, marks: Option<&[BooleanArray]>, marked: bool, columns: Vec<usize>) -> Result<Self> {
        let flip = |mask: &BooleanArray| -> Result<BooleanArray> {
            if marked {
                Ok(mask.clone())
            } else {
                Ok(datafusion::arrow::compute::not(mask)?)
            }
        };
        Ok(Self {
            masks: marks.map(|m| m.iter().map(flip).collect::<Result<_>>()).transpose()?,
            schema: Arc::new(rows.schema().project(&columns)?),
            rows,
            columns,
        })
    }
}

impl Rows for SelectedRows<'_> {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
    fn batch_count(&self) -> usize {
        self.rows.batch_count()
    }
    fn batch_rows(&self, index: usize) -> usize {
        match &self.masks {
            Some(masks) => masks[index].true_count(),
            None => self.rows.batch_rows(index),
        }
    }
    fn batch(&self, index: usize) -> Result<RecordBatch> {
        let batch = self.rows.batch(index)?.project(&self.columns)?;
        Ok(match &self.masks {
            Some(masks) => filter_record_batch(&batch, &masks[index])?,
            None => batch,
        })
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, StringArray};

    use super::*;
    use crate::models::MemoryRows;

    /// `count` rows in two batches: a number, a text, a boolean with NULLs.
    fn rows(numbers: impl Iterator<Item = i64>) -> MemoryRows {
        let numbers: Vec<i64> = numbers.collect();
        let text: StringArray = numbers.iter().map(|n| (n % 3 != 0).then(|| format!("t{n}"))).collect();
        let marks: BooleanArray = numbers.iter().map(|n| (n % 5 != 0).then_some(n % 4 == 0)).collect();
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("n", Arc::new(Int64Array::from(numbers)) as ArrayRef, true),
            ("t", Arc::new(text) as ArrayRef, true),
            ("held", Arc::new(marks) as ArrayRef, true),
        ])
        .unwrap();
        let half = batch.num_rows() / 2;
        let batches = vec![batch.slice(0, half), batch.slice(half, batch.num_rows() - half)];
        MemoryRows::new(batch.schema(), batches)
    }

    /// The numbers of the rows that are held out, sorted.
    fn held(split: Split, rows: &MemoryRows) -> Vec<i64> {
        let Some(marks) = split.held_out(rows).unwrap() else {
            return vec![];
        };
        let all = SelectedRows::new(rows, Some(&marks), true, vec![0]).unwrap();
        let rest = SelectedRows::new(rows, Some(&marks), false, vec![0]).unwrap();
        assert_eq!(all.row_count() + rest.row_count(), rows.row_count());
        let mut found: Vec<i64> = (0..all.batch_count())
            .flat_map(|i| {
                let batch = all.batch(i).unwrap();
                assert_eq!(batch.num_rows(), all.batch_rows(i));
                let numbers = batch
                    .column(0)
                    .as_primitive::<datafusion::arrow::datatypes::Int64Type>();
                numbers.values().to_vec()
            })
            .collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn automatic_splits_go_by_the_number_of_rows() {
        for (count, expected) in [(499, 0), (500, 100), (5_000, 1_000), (50_001, 10_000)] {
            assert_eq!(held(Split::Auto, &rows(0..count)).len(), expected, "{count}");
        }
    }

    #[test]
    fn chance_repeats_whatever_the_order_of_the_rows() {
        let some = held(Split::Random(0.3), &rows(0..1000));
        assert_eq!(some.len(), 300);
        assert_eq!(some, held(Split::Random(0.3), &rows((0..1000).rev())));
        // By chance, not by the order.
        assert!(some[0] < 20 && some[299] > 980);
        assert!(held(Split::Random(0.0), &rows(0..1000)).is_empty());
    }

    #[test]
    fn what_is_held_out_is_like_the_rest() {
        // Three columns that a weak hash would tell apart: a small number, a text of two values, a boolean.
        let count = 6_000i64;
        let label: StringArray = (0..count).map(|n| Some(if n % 5 < 2 { "yes" } else { "no" })).collect();
        let batch = RecordBatch::try_from_iter_with_nullable([
            (
                "n",
                Arc::new(Int64Array::from_iter_values((0..count).map(|n| n * 13 % 72))) as ArrayRef,
                true,
            ),
            (
                "m",
                Arc::new(Int64Array::from_iter_values((0..count).map(|n| n * 7 % 611))) as ArrayRef,
                true,
            ),
            (
                "b",
                Arc::new(BooleanArray::from_iter((0..count).map(|n| Some(n % 3 == 0)))) as ArrayRef,
                true,
            ),
            ("label", Arc::new(label) as ArrayRef, true),
        ])
        .unwrap();
        let rows = MemoryRows::new(batch.schema(), vec![batch]);
        let labels = rows.batch(0).unwrap().column(3).clone();
        let labels = labels.as_string::<i32>();
        let share = |marks: &BooleanArray| {
            let held: Vec<&str> = (0..marks.len())
                .filter(|i| marks.value(*i))
                .map(|i| labels.value(i))
                .collect();
            let yes = held.iter().filter(|l| **l == "yes").count() as f64;
            (yes / held.len() as f64, held.len() as f64)
        };
        let near = |marks: &BooleanArray, what: &str| {
            let (share, held) = share(marks);
            // Four standard errors.
            assert!(
                (share - 0.4).abs() < 4.0 * (0.24 / held).sqrt(),
                "{what}: {share} of {held}"
            );
        };
        for fraction in [0.02, 0.05, 0.1, 0.2, 0.5, 0.9] {
            let marks = Split::Random(fraction).held_out(&rows).unwrap().unwrap();
            near(&marks[0], &format!("{fraction}"));
        }
        let all = folds(&rows, 10).unwrap();
        all.iter().for_each(|fold| near(&fold[0], "a fold"));
        assert_eq!(all.iter().map(|f| f[0].true_count()).sum::<usize>(), count as usize);
    }

    #[test]
    fn copies_of_a_row_are_not_all_held_out() {
        let few = rows((0..1000).map(|n| n % 4));
        let marks = Split::Random(0.2).held_out(&few).unwrap().unwrap();
        assert_eq!(marks.iter().map(BooleanArray::true_count).sum::<usize>(), 200);
        let learned_from = SelectedRows::new(&few, Some(&marks), false, vec![0]).unwrap();
        let mut left = [0; 4];
        for index in 0..learned_from.batch_count() {
            let batch = learned_from.batch(index).unwrap();
            let numbers = batch
                .column(0)
                .as_primitive::<datafusion::arrow::datatypes::Int64Type>();
            numbers.values().iter().for_each(|n| left[*n as usize] += 1);
        }
        assert!(left.iter().all(|n| (160..240).contains(n)), "{left:?}");
    }

    #[test]
    fn columns_say_which_rows() {
        let custom = held(Split::Custom(2), &rows(0..40));
        let expected: Vec<i64> = (0..40).filter(|n| n % 5 == 0 || n % 4 == 0).collect();
        assert_eq!(custom, expected);
        let last = held(Split::Sequential(0.25, 0), &rows((0..40).rev()));
        assert_eq!(last, (30..40).collect::<Vec<i64>>());
    }

    #[test]
    fn a_split_needs_its_column() {
        let schema = rows(0..4).schema();
        let of = |named: &[(&str, &str)]| {
            let named = named
                .iter()
                .map(|(k, v)| ((*k).to_string(), crate::options::Value::Text((*v).into())))
                .collect();
            Split::of(
                "ML.TRAIN",
                &Options::parse("ML.TRAIN", SPLIT_OPTIONS, named).unwrap(),
                &schema,
            )
        };
        assert_eq!(of(&[]).unwrap(), None);
        assert_eq!(of(&[("data_split_method", "AUTO_SPLIT")]).unwrap(), Some(Split::Auto));
        let error = of(&[("data_split_method", "seq")]).unwrap_err().to_string();
        assert!(error.contains("needs the option 'data_split_col'"), "{error}");
        let error = of(&[("data_split_method", "custom"), ("data_split_col", "n")])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("column 'n' of type Int64 cannot be the data_split_col of 'custom'"),
            "{error}"
        );
    }
}
