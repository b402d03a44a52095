//! Which rows are learned from and which judge the model: BigQuery ML's ways of splitting the rows of a query.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::{SortOptions, cast, concat, filter_record_batch, or, sort_to_indices};
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
               that repeats; those where data_split_col is true or NULL; the last ones along data_split_col. A search of options holds two \
               parts out: its trials are compared by one, and ML.EVALUATE tells how good they are on the other, the test; automatically a \
               tenth each.",
    },
    OptionSpec {
        name: "data_split_eval_fraction",
        aliases: &[],
        kind: OptionKind::Float { min: 0.0, max: 0.99 },
        default: "0.2 (0.1 in a search, where data_split_test_fraction is not given either)",
        help: "The share of the rows that 'random' and 'seq' hold out.",
    },
    OptionSpec {
        name: "data_split_test_fraction",
        aliases: &[],
        kind: OptionKind::Float { min: 0.0, max: 0.99 },
        default: "0 (0.1 where data_split_eval_fraction is not given either)",
        help: "The share of the rows that 'random' and 'seq' keep for the test in a search of options: 'seq' takes them before those of \
               data_split_eval_fraction. Taken and without effect where no option is searched.",
    },
    OptionSpec {
        name: "data_split_col",
        aliases: &[],
        kind: OptionKind::Column,
        default: "none",
        help: "The column that 'custom' (a boolean, or in a search a text that is 'TRAIN', 'EVAL' or 'TEST') and 'seq' split by; it is no \
               feature.",
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

/// Where options are searched, 'auto_split' holds out such a share for each judgement.
const SEARCH_SHARE: f64 = 0.1;

/// The texts by which a column says what a row is for.
const PARTS: [&str; 3] = ["TRAIN", "EVAL", "TEST"];

/// How many of the rows are held out, as shares of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shares {
    /// By which a model is judged, or the trials of a search are compared.
    pub eval: f64,
    /// Which are kept for the test.
    pub test: f64,
}

/// How rows are split.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Split {
    /// By BigQuery ML's rule.
    Auto,
    /// By its rule for a search of options.
    AutoSearch,
    /// Those shares, by a hash of the rows' content.
    Random(Shares),
    /// Where that column is true or NULL.
    Custom(usize),
    /// As that column says: `TRAIN`, `EVAL` or `TEST`.
    Named(usize),
    /// Those shares, the last ones along a column.
    Sequential(Shares, usize),
}

/// The rows that teach nothing: which rows of each batch, or none.
#[derive(Debug, Default, PartialEq)]
pub struct HeldOut {
    /// Those that judge a model, or that the trials of a search are compared by.
    pub eval: Option<Vec<BooleanArray>>,
    /// Those that are kept for the test.
    pub test: Option<Vec<BooleanArray>>,
}

impl HeldOut {
    fn new(eval: Vec<BooleanArray>, test: Vec<BooleanArray>) -> Self {
        let some = |masks: Vec<BooleanArray>| masks.iter().any(|m| m.true_count() > 0).then_some(masks);
        Self {
            eval: some(eval),
            test: some(test),
        }
    }

    /// Both.
    ///
    /// # Errors
    /// Arrow refuses.
    pub fn all(&self) -> Result<Option<Vec<BooleanArray>>> {
        Ok(match (&self.eval, &self.test) {
            (Some(eval), Some(test)) => Some(
                eval.iter()
                    .zip(test)
                    .map(|(a, b)| Ok(or(a, b)?))
                    .collect::<Result<_>>()?,
            ),
            (one, other) => one.as_ref().or(other.as_ref()).cloned(),
        })
    }
}

impl Split {
    /// What the options say of these columns, where options of the model are searched or not; none for no split.
    ///
    /// # Errors
    /// The column is missing, not there, or of a type that the method does not take; the shares leave nothing to learn from.
    pub fn of(function: &str, options: &Options, searched: bool, columns: &SchemaRef) -> Result<Option<Self>> {
        let method = options.text("data_split_method").unwrap_or("no_split");
        let shares = Shares::of(function, options, searched)?;
        let column = || match options.text("data_split_col") {
            Some(name) => column_index(function, columns, name),
            None => Err(Error::request(format!(
                "{function}: data_split_method '{method}' needs the option 'data_split_col', the name of a column"
            ))),
        };
        Ok(match method {
            "auto_split" if searched => Some(Split::AutoSearch),
            "auto_split" => Some(Split::Auto),
            "random" => Some(Split::Random(shares)),
            "custom" => {
                let column = column()?;
                let field = columns.field(column);
                match field.data_type() {
                    DataType::Boolean => Some(Split::Custom(column)),
                    t if searched && is_text(t) => Some(Split::Named(column)),
                    t => {
                        let more = if searched {
                            ", or the texts 'TRAIN', 'EVAL' and 'TEST'"
                        } else {
                            ""
                        };
                        return Err(Error::request(format!(
                            "{function}: column '{}' of type {t} cannot be the data_split_col of 'custom'; it takes a boolean{more}",
                            field.name()
                        )));
                    }
                }
            }
            "seq" => Some(Split::Sequential(shares, column()?)),
            _ => None,
        })
    }

    /// The column that it looks at.
    pub fn column(&self) -> Option<usize> {
        match self {
            Split::Custom(column) | Split::Named(column) | Split::Sequential(_, column) => Some(*column),
            _ => None,
        }
    }

    /// The same split, its column at another place.
    #[must_use]
    pub fn at(self, place: impl Fn(usize) -> usize) -> Self {
        match self {
            Split::Custom(column) => Split::Custom(place(column)),
            Split::Named(column) => Split::Named(place(column)),
            Split::Sequential(shares, column) => Split::Sequential(shares, place(column)),
            other => other,
        }
    }

    /// Which rows are held out.
    ///
    /// # Errors
    /// A spilled batch cannot be read, a column's type has no order, or a text is none of those that say what a row is for.
    pub fn held_out(&self, rows: &dyn Rows) -> Result<HeldOut> {
        let count = rows.row_count();
        match self {
            Split::Custom(column) => {
                let eval = (0..rows.batch_count())
                    .map(|index| {
                        let batch = rows.batch(index)?;
                        let marks = batch.column(*column).as_boolean();
                        Ok((0..marks.len())
                            .map(|i| Some(marks.is_null(i) || marks.value(i)))
                            .collect())
                    })
                    .collect::<Result<Vec<BooleanArray>>>()?;
                Ok(HeldOut::new(eval, vec![]))
            }
            Split::Named(column) => named(rows, *column),
            Split::Sequential(shares, column) => {
                let columns = (0..rows.batch_count())
                    .map(|index| Ok(Arc::clone(rows.batch(index)?.column(*column))))
                    .collect::<Result<Vec<ArrayRef>>>()?;
                let all: Vec<&dyn Array> = columns.iter().map(AsRef::as_ref).collect();
                let order = SortOptions {
                    descending: false,
                    nulls_first: true,
                };
                let sorted = sort_to_indices(&concat(&all)?, Some(order), None)?;
                let (eval, test) = shares.counts(count);
                let mut last = sorted.values().iter().rev().map(|row| *row as usize);
                let mut marks = |wanted: usize| {
                    let mut marks = vec![false; count];
                    last.by_ref().take(wanted).for_each(|row| marks[row] = true);
                    cut(&marks, rows)
                };
                Ok(HeldOut::new(marks(eval), marks(test)))
            }
            Split::Auto | Split::AutoSearch if count < FEW_ROWS => Ok(HeldOut::default()),
            Split::Auto if count > MANY_ROWS => by_hash(rows, (MOST_HELD_OUT, 0)),
            Split::Auto => by_hash(rows, Shares { eval: 0.2, test: 0.0 }.counts(count)),
            Split::AutoSearch => by_hash(rows, Shares::SEARCH.counts(count)),
            Split::Random(shares) => by_hash(rows, shares.counts(count)),
        }
    }
}

impl Shares {
    const SEARCH: Self = Self {
        eval: SEARCH_SHARE,
        test: SEARCH_SHARE,
    };

    fn of(function: &str, options: &Options, searched: bool) -> Result<Self> {
        let given = |name: &str| options.get(name).is_some();
        if searched && !given("data_split_eval_fraction") && !given("data_split_test_fraction") {
            return Ok(Self::SEARCH);
        }
        let shares = Self {
            eval: options.float("data_split_eval_fraction", 0.2),
            test: if searched {
                options.float("data_split_test_fraction", 0.0)
            } else {
                0.0
            },
        };
        if shares.eval + shares.test > 0.99 {
            return Err(Error::request(format!(
                "{function}: data_split_eval_fraction and data_split_test_fraction are {} together, which leaves nothing to learn from; give \
                 less",
                shares.eval + shares.test
            )));
        }
        Ok(shares)
    }

    /// Of so many rows, how many judge and how many are kept for the test.
    fn counts(self, count: usize) -> (usize, usize) {
        let eval = (count as f64 * self.eval).round() as usize;
        let test = (count as f64 * self.test).round() as usize;
        (eval.min(count), test.min(count - eval.min(count)))
    }
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, value) => is_text(value),
        other => other.is_string(),
    }
}

/// What a column says that each row is for.
fn named(rows: &dyn Rows, column: usize) -> Result<HeldOut> {
    let [mut eval, mut test] = [vec![], vec![]];
    for index in 0..rows.batch_count() {
        let texts = cast(rows.batch(index)?.column(column), &DataType::Utf8)?;
        let texts = texts.as_string::<i32>();
        let part = |text: Option<&str>| {
            PARTS
                .iter()
                .position(|p| text.is_some_and(|t| t.eq_ignore_ascii_case(p)))
        };
        if let Some(other) = texts.iter().find(|text| part(*text).is_none()) {
            return Err(Error::data(format!(
                "column '{}' is {} in a row, and as the data_split_col of a search it says of each row 'TRAIN', 'EVAL' or 'TEST'",
                rows.schema().field(column).name(),
                other.map_or("NULL".into(), |text| format!("'{text}'"))
            )));
        }
        let marks = |wanted: usize| texts.iter().map(|text| Some(part(text) == Some(wanted))).collect();
        eval.push(marks(1));
        test.push(marks(2));
    }
    Ok(HeldOut::new(eval, test))
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

/// The rows with the lowest hashes of their content, the same whatever the order of the rows: the first `wanted` judge, the next are kept
/// for the test.
fn by_hash(rows: &dyn Rows, wanted: (usize, usize)) -> Result<HeldOut> {
    let hashes = content_hashes(rows)?;
    let mut sorted = hashes.clone();
    sorted.sort_unstable();
    let limit = |wanted: usize| sorted[..wanted.min(sorted.len())].last();
    let (eval, both) = (limit(wanted.0), limit(wanted.0 + wanted.1));
    let judges = |hash: &u64| eval.is_some_and(|limit| hash <= limit);
    let eval: Vec<bool> = hashes.iter().map(judges).collect();
    let test: Vec<bool> = hashes
        .iter()
        .map(|h| !judges(h) && both.is_some_and(|limit| h <= limit))
        .collect();
    Ok(HeldOut::new(cut(&eval, rows), cut(&test, rows)))
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

    fn shares(eval: f64, test: f64) -> Shares {
        Shares { eval, test }
    }

    fn random(eval: f64) -> Split {
        Split::Random(shares(eval, 0.0))
    }

    /// The numbers of the rows that are held out, sorted.
    fn held(split: Split, rows: &MemoryRows) -> Vec<i64> {
        numbers(split.held_out(rows).unwrap().all().unwrap(), rows)
    }

    /// The numbers of the rows that are marked, sorted.
    fn numbers(marks: Option<Vec<BooleanArray>>, rows: &MemoryRows) -> Vec<i64> {
        let Some(marks) = marks else {
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
        let some = held(random(0.3), &rows(0..1000));
        assert_eq!(some.len(), 300);
        assert_eq!(some, held(random(0.3), &rows((0..1000).rev())));
        // By chance, not by the order.
        assert!(some[0] < 20 && some[299] > 980);
        assert!(held(random(0.0), &rows(0..1000)).is_empty());
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
            let marks = random(fraction).held_out(&rows).unwrap().eval.unwrap();
            near(&marks[0], &format!("{fraction}"));
        }
        let all = folds(&rows, 10).unwrap();
        all.iter().for_each(|fold| near(&fold[0], "a fold"));
        assert_eq!(all.iter().map(|f| f[0].true_count()).sum::<usize>(), count as usize);
    }

    #[test]
    fn copies_of_a_row_are_not_all_held_out() {
        let few = rows((0..1000).map(|n| n % 4));
        let marks = random(0.2).held_out(&few).unwrap().eval.unwrap();
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
        let last = held(Split::Sequential(shares(0.25, 0.0), 0), &rows((0..40).rev()));
        assert_eq!(last, (30..40).collect::<Vec<i64>>());
    }

    #[test]
    fn a_search_keeps_rows_for_a_test() {
        let all = rows(0..1000);
        let parts = |split: Split| {
            let parts = split.held_out(&all).unwrap();
            (numbers(parts.eval, &all), numbers(parts.test, &all))
        };
        let (eval, test) = parts(Split::AutoSearch);
        assert_eq!((eval.len(), test.len()), (100, 100));
        assert!(eval.iter().all(|n| !test.contains(n)));
        // The rows that judge are those that judge without a test.
        assert_eq!(eval, held(random(0.1), &all));
        assert_eq!(held(Split::AutoSearch, &rows(0..499)), Vec::<i64>::new());
        let (eval, test) = parts(Split::Sequential(shares(0.2, 0.1), 0));
        assert_eq!(
            (eval, test),
            ((800..1000).collect::<Vec<i64>>(), (700..800).collect::<Vec<i64>>())
        );
    }

    #[test]
    fn a_text_says_what_each_row_is_for() {
        let of = |texts: Vec<Option<&str>>| {
            let columns: Vec<(&str, ArrayRef)> = vec![
                ("n", Arc::new(Int64Array::from_iter_values(0..texts.len() as i64))),
                ("part", Arc::new(StringArray::from(texts))),
            ];
            let batch =
                RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
            MemoryRows::new(batch.schema(), vec![batch])
        };
        let all = of(vec![
            Some("TRAIN"),
            Some("test"),
            Some("EVAL"),
            Some("Train"),
            Some("TEST"),
        ]);
        let parts = Split::Named(1).held_out(&all).unwrap();
        assert_eq!(
            (numbers(parts.eval, &all), numbers(parts.test, &all)),
            (vec![2], vec![1, 4])
        );
        for (text, shown) in [(Some("VALIDATE"), "'VALIDATE'"), (None, "NULL")] {
            let error = Split::Named(1)
                .held_out(&of(vec![Some("TRAIN"), text]))
                .unwrap_err()
                .to_string();
            assert!(error.contains(&format!("column 'part' is {shown} in a row")), "{error}");
        }
    }

    #[test]
    fn shares_leave_something_to_learn_from() {
        let schema = rows(0..4).schema();
        let of = |named: &[(&str, f64)], searched: bool| {
            let mut named: Vec<_> = named
                .iter()
                .map(|(k, v)| ((*k).to_string(), crate::options::Value::Float(*v)))
                .collect();
            named.push(("data_split_method".into(), crate::options::Value::Text("random".into())));
            Split::of(
                "ML.TRAIN",
                &Options::parse("ML.TRAIN", SPLIT_OPTIONS, named).unwrap(),
                searched,
                &schema,
            )
        };
        let (eval, test) = ("data_split_eval_fraction", "data_split_test_fraction");
        assert_eq!(of(&[], true).unwrap(), Some(Split::Random(shares(0.1, 0.1))));
        assert_eq!(of(&[], false).unwrap(), Some(random(0.2)));
        assert_eq!(of(&[(eval, 0.3)], true).unwrap(), Some(random(0.3)));
        assert_eq!(
            of(&[(eval, 0.3), (test, 0.2)], true).unwrap(),
            Some(Split::Random(shares(0.3, 0.2)))
        );
        assert_eq!(of(&[(eval, 0.3), (test, 0.2)], false).unwrap(), Some(random(0.3)));
        let error = of(&[(eval, 0.5), (test, 0.5)], true).unwrap_err().to_string();
        assert!(error.contains("leaves nothing to learn from"), "{error}");
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
                false,
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
