//! Features that are lists, read as numbers: an array of numbers has one for each position; an array of categories one for each category, 1
//! where the row has it (multi-hot); an array of (index, value), as the encoders of `ML.ONE_HOT_ENCODER` and `ML.MULTI_HOT_ENCODER` give, one
//! for each index.
//!
//! Where every row of training has one index alone with the value 1, it is a category like any other, which takes far less room.

use std::ops::Range;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::DataType;
use hashbrown::HashMap;

use crate::error::{Error, Result};
use crate::features::FeatureStatistics;
use crate::features::columns::{Lists, hot_type, integers, list_of};
use crate::features::counts::{CategoryCounts, NumberStats};
use crate::features::encode::{Lookup, Meaning};
use crate::features::values::{CHUNK, CategoryReader, NumberReader, misfit};
use crate::models::{FeatureColumn, FeatureKind};

/// How many elements the array of a row may have to be a feature.
const MOST_ELEMENTS: usize = 10_000;

/// The kind of feature that a list of such items is, if it can be one.
pub(crate) fn list_kind(item: &DataType) -> Option<FeatureKind> {
    match item {
        DataType::Struct(fields) => match fields.as_ref() {
            [index, value] if index.data_type().is_integer() && value.data_type().is_numeric() => {
                Some(FeatureKind::Sparse)
            }
            _ => None,
        },
        other => match FeatureKind::of(other)? {
            FeatureKind::Number => Some(FeatureKind::Numbers),
            FeatureKind::Category => Some(FeatureKind::Categories),
            _ => None,
        },
    }
}

/// The elements of a column of lists.
#[derive(Debug)]
enum Elements {
    /// None in any row.
    None,
    Numbers {
        lists: Lists,
        /// NaN where NULL, NaN or infinite.
        values: Vec<f64>,
    },
    Categories {
        lists: Lists,
        reader: Box<CategoryReader>,
    },
    Sparse {
        lists: Lists,
        /// `None` where NULL.
        indices: Vec<Option<i64>>,
        values: Vec<f64>,
    },
}

fn numbers_of(array: &ArrayRef) -> Result<Vec<f64>> {
    let mut values = vec![0.0; array.len()];
    NumberReader::of(array)?.read(0, &mut values);
    Ok(values)
}

impl Elements {
    fn new(array: &ArrayRef, feature: &FeatureColumn) -> Result<Self> {
        if array.data_type() == &DataType::Null {
            return Ok(Self::None);
        }
        if FeatureKind::of(array.data_type()) != Some(feature.kind) {
            return Err(misfit(array, feature));
        }
        let lists = Lists::new(array)?;
        Ok(match feature.kind {
            FeatureKind::Numbers => Self::Numbers {
                values: numbers_of(&lists.values)?,
                lists,
            },
            FeatureKind::Categories => Self::Categories {
                reader: Box::new(CategoryReader::new(&lists.values, &item_of(feature))?),
                lists,
            },
            FeatureKind::Sparse => {
                let items = lists.values.as_struct();
                let ([index, value], nulls) = (
                    [items.column(0), items.column(1)].map(Clone::clone),
                    items.nulls().cloned(),
                );
                let mut indices: Vec<Option<i64>> = integers(&index)?.iter().collect();
                if let Some(nulls) = nulls {
                    for (row, index) in indices.iter_mut().enumerate() {
                        if nulls.is_null(row) {
                            *index = None;
                        }
                    }
                }
                Self::Sparse {
                    indices,
                    values: numbers_of(&value)?,
                    lists,
                }
            }
            _ => return Err(misfit(array, feature)),
        })
    }

    fn lists(&self) -> Option<&Lists> {
        match self {
            Self::None => None,
            Self::Numbers { lists, .. } | Self::Categories { lists, .. } | Self::Sparse { lists, .. } => Some(lists),
        }
    }

    /// Where the elements of a row are; none of NULL.
    fn row(&self, row: usize) -> Range<usize> {
        self.lists().and_then(|lists| lists.row(row)).unwrap_or(0..0)
    }

    /// From where to where the elements of rows are.
    fn span(&self, rows: Range<usize>) -> Range<usize> {
        let filled = rows.map(|row| self.row(row)).filter(|range| !range.is_empty());
        filled
            .reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))
            .unwrap_or(0..0)
    }
}

/// The feature that an element alone would be.
fn item_of(feature: &FeatureColumn) -> FeatureColumn {
    FeatureColumn {
        kind: FeatureKind::Category,
        ..feature.clone()
    }
}

/// The type of a column of this kind whose rows are all NULL.
pub(crate) fn type_of(kind: FeatureKind) -> Option<DataType> {
    match kind {
        FeatureKind::Numbers => Some(list_of(DataType::Float64)),
        FeatureKind::Categories => Some(list_of(DataType::Utf8)),
        FeatureKind::Sparse => Some(hot_type()),
        _ => None,
    }
}

/// What was seen of a column of lists.
#[derive(Debug)]
pub(crate) enum ListStats {
    Numbers(PositionStats),
    Categories { counts: CategoryCounts, null_count: u64 },
    Sparse(IndexCounts),
}

/// Moments of each position of arrays of numbers.
#[derive(Debug, Default)]
pub(crate) struct PositionStats {
    pub(crate) positions: Vec<NumberStats>,
    pub(crate) null_count: u64,
    /// How few and how many elements an array has; none without any.
    pub(crate) lengths: Option<(usize, usize)>,
}

/// How often each index occurs in arrays of (index, value).
#[derive(Debug, Default)]
pub(crate) struct IndexCounts {
    pub(crate) counts: HashMap<i64, u64>,
    pub(crate) null_count: u64,
    /// Rows that are not one index with the value 1.
    pub(crate) not_one: u64,
}

impl IndexCounts {
    /// Whether every row is NULL or one index with the value 1.
    pub(crate) fn is_one_hot(&self) -> bool {
        self.not_one == 0 && !self.counts.is_empty()
    }
}

impl ListStats {
    /// Of a kind that is a list.
    pub(crate) fn new(kind: FeatureKind) -> Self {
        match kind {
            FeatureKind::Categories => Self::Categories {
                counts: CategoryCounts::default(),
                null_count: 0,
            },
            FeatureKind::Sparse => Self::Sparse(IndexCounts::default()),
            _ => Self::Numbers(PositionStats::default()),
        }
    }

    /// Adds the rows of a column.
    ///
    /// # Errors
    /// The column is of another kind, or an array is too long.
    pub(crate) fn add(&mut self, array: &ArrayRef, feature: &FeatureColumn) -> Result<()> {
        let nulls = array.logical_null_count() as u64;
        let mut elements = Elements::new(array, feature)?;
        match (self, &mut elements) {
            (Self::Numbers(stats), Elements::None) => stats.null_count += nulls,
            (Self::Categories { null_count, .. }, Elements::None) => *null_count += nulls,
            (Self::Sparse(counts), Elements::None) => counts.null_count += nulls,
            (Self::Numbers(stats), Elements::Numbers { lists, values }) => {
                stats.null_count += nulls;
                stats.add(lists, values, feature)?;
            }
            (Self::Categories { counts, null_count }, Elements::Categories { lists, reader }) => {
                *null_count += nulls;
                for range in (0..lists.len()).filter_map(|row| lists.row(row)) {
                    counts.add_range(reader, range);
                }
            }
            (Self::Sparse(counts), Elements::Sparse { lists, indices, values }) => {
                counts.null_count += nulls;
                for range in (0..lists.len()).filter_map(|row| lists.row(row)) {
                    let is_one = range.len() == 1 && indices[range.start].is_some() && values[range.start] == 1.0;
                    counts.not_one += u64::from(!is_one);
                    for index in indices[range].iter().flatten() {
                        *counts.counts.entry(*index).or_insert(0) += 1;
                    }
                }
            }
            _ => return Err(misfit(array, feature)),
        }
        Ok(())
    }

    /// Adds what was seen of other rows.
    pub(crate) fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::Numbers(a), Self::Numbers(b)) => {
                a.null_count += b.null_count;
                a.lengths = match (a.lengths, b.lengths) {
                    (Some((low, high)), Some((l, h))) => Some((low.min(l), high.max(h))),
                    (one, other) => one.or(other),
                };
                if a.positions.len() < b.positions.len() {
                    a.positions.resize_with(b.positions.len(), NumberStats::default);
                }
                a.positions.iter_mut().zip(&b.positions).for_each(|(a, b)| a.merge(b));
            }
            (
                Self::Categories { counts, null_count },
                Self::Categories {
                    counts: c,
                    null_count: n,
                },
            ) => {
                *null_count += n;
                counts.merge(c);
            }
            (Self::Sparse(a), Self::Sparse(b)) => {
                a.null_count += b.null_count;
                a.not_one += b.not_one;
                for (index, count) in b.counts {
                    *a.counts.entry(index).or_insert(0) += count;
                }
            }
            _ => {}
        }
    }

    /// Adds it to what is told of a feature.
    pub(crate) fn tell(self, found: &mut FeatureStatistics) {
        match self {
            Self::Numbers(stats) => {
                found.null_count = stats.null_count;
                found.dimension = Some(stats.positions.len() as u64);
            }
            Self::Categories { counts, null_count } => {
                found.null_count = null_count;
                found.category_count = Some(counts.categories().len() as u64);
            }
            Self::Sparse(counts) => {
                found.null_count = counts.null_count;
                found.category_count = Some(counts.counts.len() as u64);
                found.dimension = counts
                    .counts
                    .keys()
                    .max()
                    .map(|greatest| (greatest.saturating_add(1)).max(0) as u64);
            }
        }
    }

    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Numbers(stats) => stats.positions.len() * size_of::<NumberStats>(),
            Self::Categories { counts, .. } => counts.bytes,
            Self::Sparse(counts) => counts.counts.len() * 24,
        }
    }
}

impl PositionStats {
    fn add(&mut self, lists: &Lists, values: &[f64], feature: &FeatureColumn) -> Result<()> {
        let nulls = lists.values.nulls();
        let mut column = vec![];
        for start in (0..lists.len()).step_by(CHUNK) {
            let rows = start..(start + CHUNK).min(lists.len());
            let ranges: Vec<Range<usize>> = rows.filter_map(|row| lists.row(row)).collect();
            let longest = ranges.iter().map(Range::len).max().unwrap_or(0);
            if longest > MOST_ELEMENTS {
                return Err(Error::data(format!(
                    "column '{}' has an array of {longest} elements, and a feature takes {MOST_ELEMENTS} at most; leave the column out or cut \
                     the arrays",
                    feature.name
                )));
            }
            for range in &ranges {
                let (low, high) = self.lengths.unwrap_or((range.len(), range.len()));
                self.lengths = Some((low.min(range.len()), high.max(range.len())));
            }
            if self.positions.len() < longest {
                self.positions.resize_with(longest, NumberStats::default);
            }
            for (position, stats) in self.positions.iter_mut().enumerate().take(longest) {
                column.clear();
                for range in ranges.iter().filter(|r| r.len() > position) {
                    let at = range.start + position;
                    column.push(values[at]);
                    let is_null = nulls.is_some_and(|n| n.is_null(at));
                    stats.not_finite += u64::from(values[at].is_nan() && !is_null);
                }
                stats.add_values(&column);
            }
        }
        Ok(())
    }
}

/// A feature whose elements are numbers of the row.
#[derive(Debug, Clone)]
pub(crate) struct ListColumn {
    /// Which of the feature columns it is.
    pub(crate) source: usize,
    width: usize,
    /// From an element to its number; beyond the last for what has none.
    lookup: Lookup,
}

impl ListColumn {
    /// Of the elements in the order of their numbers.
    pub(crate) fn new<'a>(
        source: usize,
        kind: Option<FeatureKind>,
        elements: impl Iterator<Item = &'a str> + Clone,
    ) -> Self {
        let width = elements.clone().count();
        let meaning = match kind {
            Some(FeatureKind::Categories) => Meaning::Value,
            _ => Meaning::Index,
        };
        Self {
            source,
            width,
            lookup: Lookup::new(elements, meaning, width as u32, width as u32),
        }
    }
}

/// A column of lists, read as so many numbers a row.
#[derive(Debug)]
pub(crate) struct ListReader<'a> {
    elements: Elements,
    /// What an element is that a row does not have.
    missing: f64,
    column: &'a ListColumn,
    /// The rows that `values` holds.
    rows: Range<usize>,
    /// Number by number, each of [`CHUNK`] rows.
    values: Vec<f64>,
    codes: Vec<u32>,
}

impl<'a> ListReader<'a> {
    /// # Errors
    /// The column is of another kind than the feature.
    pub(crate) fn new(array: &ArrayRef, feature: &FeatureColumn, column: &'a ListColumn) -> Result<Self> {
        Ok(Self {
            elements: Elements::new(array, feature)?,
            missing: if feature.kind == FeatureKind::Numbers {
                f64::NAN
            } else {
                0.0
            },
            column,
            rows: 0..0,
            values: vec![],
            codes: vec![],
        })
    }

    /// Rows `start..start + out.len()` (at most [`CHUNK`]) of one of the numbers; NaN where an array of numbers has none.
    pub(crate) fn read(&mut self, number: usize, start: usize, out: &mut [f64]) {
        let rows = start..start + out.len();
        if self.rows != rows {
            self.fill(rows.clone());
            self.rows = rows;
        }
        let from = number * CHUNK;
        out.copy_from_slice(&self.values[from..from + out.len()]);
    }

    fn fill(&mut self, rows: Range<usize>) {
        let ListColumn { width, lookup, .. } = self.column;
        self.values.clear();
        self.values.resize(width * CHUNK, self.missing);
        let span = self.elements.span(rows.clone());
        if let Elements::Categories { reader, .. } = &mut self.elements {
            self.codes.resize(span.len(), 0);
            reader.read(span.start, &mut self.codes, |category| lookup.code(category));
        }
        for (at, row) in rows.enumerate() {
            let range = self.elements.row(row);
            match &self.elements {
                Elements::None => {}
                Elements::Numbers { values, .. } => {
                    for (number, value) in values[range].iter().enumerate().take(*width) {
                        self.values[number * CHUNK + at] = *value;
                    }
                }
                Elements::Categories { .. } => {
                    let codes = self.codes.iter().skip(range.start.saturating_sub(span.start));
                    for number in codes.take(range.len()).map(|c| *c as usize).filter(|n| n < width) {
                        self.values[number * CHUNK + at] = 1.0;
                    }
                }
                Elements::Sparse { indices, values, .. } => {
                    for (index, value) in indices[range.clone()].iter().zip(&values[range]) {
                        let number = index.map_or(*width, |index| lookup.of_index(index) as usize);
                        if number < *width && !value.is_nan() {
                            self.values[number * CHUNK + at] += value;
                        }
                    }
                }
            }
        }
    }
}

/// A column of lists of one index each, read as codes.
#[derive(Debug)]
pub(crate) struct OneHotReader {
    elements: Elements,
}

impl OneHotReader {
    /// # Errors
    /// The column is of another kind than the feature, or a row has several indices.
    pub(crate) fn new(array: &ArrayRef, feature: &FeatureColumn) -> Result<Self> {
        let elements = Elements::new(array, feature)?;
        if let Some(count) = (0..array.len()).map(|row| elements.row(row).len()).find(|len| *len > 1) {
            return Err(Error::data(format!(
                "an array of column '{}' has {count} elements, and each had one in training; encode it as there, with ML.ONE_HOT_ENCODER",
                feature.name
            )));
        }
        Ok(Self { elements })
    }

    /// The codes of rows `start..start + out.len()`.
    pub(crate) fn read(&self, start: usize, out: &mut [u32], lookup: &Lookup) {
        for (row, out) in (start..).zip(out) {
            *out = lookup.null;
            if let Elements::Sparse { indices, values, .. } = &self.elements
                && let Some(at) = self.elements.row(row).next()
            {
                *out = match indices[at] {
                    Some(index) if values[at] == 1.0 => lookup.of_index(index),
                    _ => lookup.unseen,
                };
            }
        }
    }
}
