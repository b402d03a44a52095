//! The encoder: what was learned of the feature columns, and rows encoded by it.
//!
//! Numbers are standardised, NULL becomes the mean; text, booleans and dates become codes, NULL a category of its own; a
//! timestamp becomes epoch seconds and codes of its parts; a list becomes a number for each of its elements: BigQuery ML's automatic
//! preprocessing.

mod lookup;
mod reader;
mod stored;

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef};
use rayon::prelude::*;

pub(crate) use self::lookup::{Lookup, Meaning};
pub(crate) use self::stored::table_column;
use crate::error::{Error, Result, list};
use crate::features::counts::{CategoryCounts, NumberStats, PartCounts};
use crate::features::lists::{IndexCounts, ListColumn, ListStats, PositionStats};
use crate::features::time_parts::TimePart;
use crate::features::values::{CHUNK, CategoryReader, NumberReader};
use crate::kernels::block::Block;
use crate::models::{FeatureColumn, FeatureKind, FitContext, Rows, feature_columns};

/// Into how many ranges the batches are cut to be learned from side by side; fixed, so that the result does not depend on the
/// number of threads.
const MAX_RANGES: usize = 64;

/// A number that a block can hold: `f32` or `f64`.
pub trait Real: Copy + Send + Sync + Default + 'static {
    /// The nearest of these numbers, kept so far from the largest that its square is finite.
    fn from_f64(x: f64) -> Self;
    /// The number.
    fn to_f64(self) -> f64;
}

impl Real for f32 {
    #[inline]
    fn from_f64(x: f64) -> Self {
        x.clamp(-1e18, 1e18) as f32
    }
    #[inline]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    #[inline]
    fn from_f64(x: f64) -> Self {
        x.clamp(-1e150, 1e150)
    }
    #[inline]
    fn to_f64(self) -> f64 {
        self
    }
}

/// By what numbers are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scaling {
    /// By nothing.
    None,
    /// By the sample deviation (n − 1), as k-means in BigQuery ML.
    SampleDeviation,
    /// By the population deviation (n), as scikit-learn's `StandardScaler`.
    PopulationDeviation,
}

/// How columns are to be encoded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EncoderOptions {
    /// By what numbers are divided.
    pub scaling: Scaling,
    /// Whether the mean is subtracted even without scaling.
    pub center: bool,
    /// How many categories a column may have; of more, the most frequent are kept and the others count as one.
    pub max_categories: usize,
}

/// A number of the encoded rows.
#[derive(Debug, Clone, PartialEq)]
pub struct NumberColumn {
    /// Which of the feature columns it comes from.
    pub source: usize,
    /// The column's name.
    pub name: String,
    /// The mean, which stands for NULL, NaN and infinity.
    pub mean: f64,
    /// What is divided by; 1 for a constant.
    pub scale: f64,
    /// What is subtracted before: the mean, or 0.
    pub shift: f64,
    /// Which element of a list it is: its position from 0, its category or its index. None of what is no list.
    pub element: Option<String>,
}

impl NumberColumn {
    /// What the column is called: elements of a list by the list and the element.
    pub fn full_name(&self) -> String {
        match &self.element {
            Some(element) => format!("{}[{element}]", self.name),
            None => self.name.clone(),
        }
    }

    /// What stands for NULL in encoded rows.
    pub fn imputed(&self) -> f64 {
        (self.mean - self.shift) / self.scale
    }
}

/// A code of the encoded rows.
#[derive(Debug, Clone, PartialEq)]
pub struct CodeColumn {
    /// Which of the feature columns it comes from.
    pub source: usize,
    /// The column's name, for a part of a timestamp with BigQuery ML's prefix (`_TS_DOW_…`).
    pub name: String,
    /// The categories, ascending (parts of a timestamp as numbers, all else as text); a category's index is its code.
    pub categories: Vec<String>,
    /// The code of NULL, if the training rows had any.
    pub null_code: Option<u32>,
    /// The code of all categories that were not kept, if there were any.
    pub other_code: Option<u32>,
    /// Which part of a timestamp it is.
    pub part: Option<TimePart>,
}

impl CodeColumn {
    /// How many codes there are.
    pub fn level_count(&self) -> u32 {
        self.categories.len() as u32 + u32::from(self.null_code.is_some()) + u32::from(self.other_code.is_some())
    }

    /// The category of a code as results name it: `_null_filler` for NULL, `_other` for those that were not kept.
    pub fn category(&self, code: u32) -> Option<&str> {
        match code {
            c if Some(c) == self.null_code => Some("_null_filler"),
            c if Some(c) == self.other_code => Some("_other"),
            c => self.categories.get(c as usize).map(String::as_str),
        }
    }

    /// From a category to its code, of a feature of this kind.
    fn lookup(&self, kind: Option<FeatureKind>) -> Lookup {
        let meaning = match self.part {
            Some(part) => Meaning::Part(part),
            None if kind == Some(FeatureKind::Sparse) => Meaning::Index,
            None => Meaning::Value,
        };
        let beyond = self.level_count();
        Lookup::new(
            self.categories.iter().map(String::as_str),
            meaning,
            self.null_code.unwrap_or(beyond),
            self.other_code.unwrap_or(beyond),
        )
    }
}

/// What was learned of the feature columns: means, deviations and categories.
#[derive(Debug, Clone)]
pub struct Encoder {
    features: Vec<FeatureColumn>,
    numbers: Vec<NumberColumn>,
    codes: Vec<CodeColumn>,
    lookups: Vec<Lookup>,
    /// The features whose elements are numbers.
    lists: Vec<ListColumn>,
}

impl PartialEq for Encoder {
    fn eq(&self, other: &Self) -> bool {
        self.features == other.features && self.numbers == other.numbers && self.codes == other.codes
    }
}

/// Statistics of one feature column.
enum ColumnStats {
    Number(NumberStats),
    Category(CategoryCounts),
    Timestamp(NumberStats, Box<PartCounts>),
    List(ListStats),
}

impl ColumnStats {
    fn new(kind: FeatureKind) -> Self {
        match kind {
            FeatureKind::Number => ColumnStats::Number(NumberStats::default()),
            FeatureKind::Timestamp => ColumnStats::Timestamp(NumberStats::default(), Box::default()),
            FeatureKind::Category | FeatureKind::Identifier => ColumnStats::Category(CategoryCounts::default()),
            FeatureKind::Numbers | FeatureKind::Categories | FeatureKind::Sparse => {
                ColumnStats::List(ListStats::new(kind))
            }
        }
    }

    fn add(&mut self, array: &ArrayRef, feature: &FeatureColumn) -> Result<()> {
        match self {
            ColumnStats::Number(stats) => stats.add(&NumberReader::new(array, feature)?, array.len()),
            ColumnStats::Category(counts) => counts.add(&mut CategoryReader::new(array, feature)?, array.len()),
            ColumnStats::Timestamp(stats, parts) => {
                let reader = NumberReader::new(array, feature)?;
                stats.add(&reader, array.len());
                parts.add(&reader, array.len());
            }
            ColumnStats::List(lists) => lists.add(array, feature)?,
        }
        Ok(())
    }

    fn merge(&mut self, other: Self) {
        match (self, other) {
            (ColumnStats::Number(a), ColumnStats::Number(b)) => a.merge(&b),
            (ColumnStats::Category(a), ColumnStats::Category(b)) => a.merge(b),
            (ColumnStats::Timestamp(a, a_parts), ColumnStats::Timestamp(b, b_parts)) => {
                a.merge(&b);
                a_parts.merge(&b_parts);
            }
            (ColumnStats::List(a), ColumnStats::List(b)) => a.merge(b),
            _ => {}
        }
    }

    fn bytes(&self) -> usize {
        match self {
            ColumnStats::Category(counts) => counts.bytes,
            ColumnStats::List(lists) => lists.bytes(),
            _ => 0,
        }
    }
}

/// The most frequent `max` (ties: the smaller first) of these categories, ascending, and whether any were left.
fn most_frequent<T: Ord>(mut categories: Vec<(T, u64)>, max: usize) -> (Vec<T>, bool) {
    let too_many = categories.len() > max;
    if too_many {
        categories.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        categories.truncate(max);
    }
    let mut kept: Vec<T> = categories.into_iter().map(|(category, _)| category).collect();
    kept.sort_unstable();
    (kept, too_many)
}

fn code_column(
    (source, name, part): (usize, String, Option<TimePart>),
    (categories, has_other): (Vec<String>, bool),
    null_count: u64,
) -> CodeColumn {
    let kept = categories.len() as u32;
    let null_code = (null_count > 0).then_some(kept);
    let other_code = has_other.then_some(kept + u32::from(null_count > 0));
    CodeColumn {
        source,
        name,
        categories,
        null_code,
        other_code,
        part,
    }
}

/// What statistics become.
struct Found<'a> {
    options: &'a EncoderOptions,
    numbers: Vec<NumberColumn>,
    codes: Vec<CodeColumn>,
    notices: Vec<String>,
}

impl Found<'_> {
    fn column(&mut self, source: usize, name: &str, stats: ColumnStats) {
        match stats {
            ColumnStats::Number(stats) => {
                self.number(source, name, &stats, None);
            }
            ColumnStats::Category(counts) => {
                let null_count = counts.null_count();
                self.categories(source, name, counts.categories(), null_count);
            }
            ColumnStats::Timestamp(stats, parts) => {
                if self.number(source, name, &stats, None) {
                    self.parts(source, name, &parts);
                }
            }
            ColumnStats::List(ListStats::Numbers(stats)) => self.positions(source, name, &stats),
            ColumnStats::List(ListStats::Categories { counts, .. }) => {
                let (kept, _) = self.kept(name, counts.categories(), "were left out");
                self.elements(source, name, kept);
            }
            ColumnStats::List(ListStats::Sparse(counts)) => self.indices(source, name, counts),
        }
    }

    fn left_out(&mut self, name: &str) {
        self.notices
            .push(format!("column '{name}' is NULL in every row and was left out"));
    }

    fn not_finite(&mut self, name: &str, count: u64) {
        match count {
            0 => {}
            1 => self.notices.push(format!(
                "1 infinite or NaN value of column '{name}' was treated as NULL"
            )),
            n => self.notices.push(format!(
                "{n} infinite or NaN values of column '{name}' were treated as NULL"
            )),
        }
    }

    /// Whether the column has numbers at all.
    fn number(&mut self, source: usize, name: &str, stats: &NumberStats, element: Option<String>) -> bool {
        if element.is_none() {
            self.not_finite(name, stats.not_finite);
        }
        if stats.count == 0 && element.is_none() {
            self.left_out(name);
            return false;
        }
        let (mean, deviation) = match stats.count {
            0 => (0.0, 0.0),
            _ => stats.mean_and_deviation(self.options.scaling == Scaling::SampleDeviation),
        };
        let scaled = self.options.scaling != Scaling::None;
        self.numbers.push(NumberColumn {
            source,
            name: name.into(),
            mean,
            scale: if scaled && deviation > 0.0 { deviation } else { 1.0 },
            shift: if scaled || self.options.center { mean } else { 0.0 },
            element,
        });
        true
    }

    /// The categories that are kept, ascending, and whether others are not; `fate` is what happens to those.
    fn kept<T: Ord>(&mut self, name: &str, categories: Vec<(T, u64)>, fate: &str) -> (Vec<T>, bool) {
        let max = self.options.max_categories;
        if categories.len() > max {
            self.notices.push(format!(
                "column '{name}' has {} distinct values; the {} most frequent were kept and the others {fate}",
                with_commas(categories.len()),
                with_commas(max)
            ));
        }
        most_frequent(categories, max)
    }

    fn categories(&mut self, source: usize, name: &str, categories: Vec<(String, u64)>, null_count: u64) {
        if categories.is_empty() {
            return self.left_out(name);
        }
        let kept = self.kept(name, categories, "count as one");
        self.codes
            .push(code_column((source, name.into(), None), kept, null_count));
    }

    fn parts(&mut self, source: usize, name: &str, parts: &PartCounts) {
        for part in TimePart::ALL {
            let (kept, has_other) = most_frequent(parts.values(part.index()), self.options.max_categories);
            let kept: Vec<String> = kept.iter().map(i64::to_string).collect();
            let name = format!("{}{name}", part.prefix());
            self.codes.push(code_column(
                (source, name, Some(part)),
                (kept, has_other),
                parts.null_count,
            ));
        }
    }

    /// The positions of arrays of numbers.
    fn positions(&mut self, source: usize, name: &str, stats: &PositionStats) {
        self.not_finite(name, stats.positions.iter().map(|s| s.not_finite).sum());
        if stats.positions.iter().all(|s| s.count == 0) {
            return self.left_out(name);
        }
        if let Some((low, high)) = stats.lengths.filter(|(low, high)| low < high) {
            self.notices.push(format!(
                "column '{name}' has arrays of {low} to {high} elements; where one is missing it counts as NULL"
            ));
        }
        for (position, stats) in stats.positions.iter().enumerate() {
            self.number(source, name, stats, Some(position.to_string()));
        }
    }

    /// What a row's array may have: numbers that are 1 where it has it, not scaled, as categories are not.
    fn elements(&mut self, source: usize, name: &str, elements: Vec<String>) {
        if elements.is_empty() {
            return self.left_out(name);
        }
        self.numbers.extend(elements.into_iter().map(|element| NumberColumn {
            source,
            name: name.into(),
            mean: 0.0,
            scale: 1.0,
            shift: 0.0,
            element: Some(element),
        }));
    }

    /// The indices of arrays of (index, value).
    fn indices(&mut self, source: usize, name: &str, counts: IndexCounts) {
        let (is_one_hot, null_count) = (counts.is_one_hot(), counts.null_count);
        let fate = if is_one_hot { "count as one" } else { "were left out" };
        let (kept, has_other) = self.kept(name, counts.counts.into_iter().collect(), fate);
        let kept: Vec<String> = kept.iter().map(i64::to_string).collect();
        if is_one_hot {
            self.codes
                .push(code_column((source, name.into(), None), (kept, has_other), null_count));
        } else {
            self.elements(source, name, kept);
        }
    }
}

/// A number as people read it: 12,345.
pub(crate) fn with_commas(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

impl Encoder {
    fn new(features: Vec<FeatureColumn>, numbers: Vec<NumberColumn>, codes: Vec<CodeColumn>) -> Self {
        let kind = |source: usize| features.get(source).map(|f| f.kind);
        let lookups = codes.iter().map(|c| c.lookup(kind(c.source))).collect();
        let is_element = |n: &NumberColumn| n.element.is_some();
        let lists = numbers
            .chunk_by(|a, b| is_element(a) == is_element(b) && a.source == b.source)
            .filter(|run| is_element(&run[0]));
        let lists = lists
            .map(|run| {
                let elements = run.iter().filter_map(|n| n.element.as_deref());
                ListColumn::new(run[0].source, kind(run[0].source), elements)
            })
            .collect();
        Self {
            features,
            numbers,
            codes,
            lookups,
            lists,
        }
    }

    /// Learns means, deviations and categories of the columns `features` in one mergeable pass, and says what the user should
    /// know of it, a sentence each.
    ///
    /// Means and deviations are rounded to about 40 significant bits: neither threads, partitions nor the order of the rows show.
    ///
    /// # Errors
    /// No row, every feature NULL in every row, too little memory for the categories, or cancellation.
    pub fn learn(
        rows: &dyn Rows,
        features: &[usize],
        options: &EncoderOptions,
        context: &FitContext<'_>,
    ) -> Result<(Encoder, Vec<String>)> {
        if rows.row_count() == 0 {
            return Err(Error::data("the query returned no row; there is nothing to learn from"));
        }
        let columns = feature_columns(&rows.schema(), features);
        if columns.len() != features.len() {
            return Err(Error::request(
                "a feature is neither number, boolean, text, date nor timestamp; cast it",
            ));
        }
        let stats = Self::statistics(rows, features, &columns, context)?;
        let mut found = Found {
            options,
            numbers: vec![],
            codes: vec![],
            notices: vec![],
        };
        for (source, (feature, stats)) in columns.iter().zip(stats).enumerate() {
            found.column(source, &feature.name, stats);
        }
        if found.numbers.is_empty() && found.codes.is_empty() {
            return Err(Error::data(format!(
                "every feature is NULL in every row ({}); at least one needs values to learn from",
                list(columns.iter().map(|c| &c.name), 5)
            )));
        }
        Ok((Self::new(columns, found.numbers, found.codes), found.notices))
    }

    /// The same encoder with numbers that are scaled as before but not moved.
    pub fn uncentred(mut self) -> Self {
        self.numbers.iter_mut().for_each(|number| number.shift = 0.0);
        self
    }

    /// The statistics of every column, merged in the order of the rows.
    fn statistics(
        rows: &dyn Rows,
        features: &[usize],
        columns: &[FeatureColumn],
        context: &FitContext<'_>,
    ) -> Result<Vec<ColumnStats>> {
        let batches = rows.batch_count();
        let ranges = batches.min(MAX_RANGES);
        let of_range = |range: usize| -> Result<Vec<ColumnStats>> {
            let mut stats: Vec<ColumnStats> = columns.iter().map(|c| ColumnStats::new(c.kind)).collect();
            let mut taken = 0;
            for index in range * batches / ranges..(range + 1) * batches / ranges {
                context.check_cancelled()?;
                let batch = rows.batch(index)?;
                for ((stats, column), feature) in stats.iter_mut().zip(features).zip(columns) {
                    stats.add(batch.column(*column), feature)?;
                }
                let bytes: usize = stats.iter().map(ColumnStats::bytes).sum();
                if bytes > taken + (1 << 20) {
                    context.memory.take(bytes - taken, "the categories of the features")?;
                    taken = bytes;
                }
            }
            Ok(stats)
        };
        let parts: Vec<Result<Vec<ColumnStats>>> = context
            .compute
            .pool
            .install(|| (0..ranges).into_par_iter().map(of_range).collect());
        let mut merged: Vec<ColumnStats> = columns.iter().map(|c| ColumnStats::new(c.kind)).collect();
        for part in parts {
            for (merged, part) in merged.iter_mut().zip(part?) {
                merged.merge(part);
            }
        }
        Ok(merged)
    }

    /// The columns that it encodes, in the order in which it takes them.
    pub fn feature_columns(&self) -> &[FeatureColumn] {
        &self.features
    }

    /// The numbers of an encoded row.
    pub fn numbers(&self) -> &[NumberColumn] {
        &self.numbers
    }

    /// The codes of an encoded row.
    pub fn codes(&self) -> &[CodeColumn] {
        &self.codes
    }

    /// How many categories each code column has.
    pub fn levels(&self) -> Vec<u32> {
        self.codes.iter().map(CodeColumn::level_count).collect()
    }

    /// Encodes columns (one array for each feature column, of any type of the same kind) into a block:
    /// `(x - shift) / scale` in f64, then narrowed.
    ///
    /// # Errors
    /// A column of another kind than in training.
    pub fn encode<T: Real>(&self, columns: &[ArrayRef]) -> Result<Block<T>> {
        let row_count = columns.first().map_or(0, |c| c.len());
        let mut block = self.empty_block(row_count);
        self.encode_into(columns, row_count, &mut block.numbers, &mut block.codes)?;
        Ok(block)
    }

    fn empty_block<T: Real>(&self, row_count: usize) -> Block<T> {
        Block {
            row_count,
            number_count: self.numbers.len(),
            numbers: vec![T::default(); row_count * self.numbers.len()],
            code_count: self.codes.len(),
            codes: vec![0; row_count * self.codes.len()],
            levels: self.levels(),
        }
    }

    fn encode_into<T: Real>(
        &self,
        columns: &[ArrayRef],
        row_count: usize,
        numbers: &mut [T],
        codes: &mut [u32],
    ) -> Result<()> {
        let mut reader = self.reader(columns)?;
        let (number_count, code_count) = (self.numbers.len(), self.codes.len());
        let mut buffer = [0.0; CHUNK];
        for start in (0..row_count).step_by(CHUNK) {
            let values = &mut buffer[..CHUNK.min(row_count - start)];
            let end = start + values.len();
            for (j, number) in self.numbers.iter().enumerate() {
                reader.numbers(j, start, values);
                let (shift, scale, imputed) = (number.shift, number.scale, number.imputed());
                for v in values.iter_mut() {
                    *v = if v.is_nan() { imputed } else { (*v - shift) / scale };
                }
                let out = &mut numbers[start * number_count + j..end * number_count];
                for (o, v) in out.iter_mut().step_by(number_count).zip(values.iter()) {
                    *o = T::from_f64(*v);
                }
            }
            if code_count > 0 {
                let out = &mut codes[start * code_count..end * code_count];
                reader.codes(start, end - start, |j, column| {
                    for (o, code) in out[j..].iter_mut().step_by(code_count).zip(column) {
                        *o = *code;
                    }
                });
            }
        }
        Ok(())
    }

    /// Encodes all rows, batches side by side, into one block: rows in the order of `rows`.
    ///
    /// # Errors
    /// Too little memory for the block, a batch that cannot be read, or cancellation.
    pub fn encode_rows<T: Real>(
        &self,
        rows: &dyn Rows,
        features: &[usize],
        context: &FitContext<'_>,
    ) -> Result<Block<T>> {
        let row_count = rows.row_count();
        let bytes = row_count * (self.numbers.len() * size_of::<T>() + self.codes.len() * size_of::<u32>());
        context.memory.take(bytes, "the encoded rows")?;
        let mut block = self.empty_block(row_count);
        let mut jobs = vec![];
        let (mut numbers, mut codes) = (block.numbers.as_mut_slice(), block.codes.as_mut_slice());
        for index in 0..rows.batch_count() {
            let batch_rows = rows.batch_rows(index);
            let (number_part, number_rest) = numbers.split_at_mut(batch_rows * self.numbers.len());
            let (code_part, code_rest) = codes.split_at_mut(batch_rows * self.codes.len());
            jobs.push((index, number_part, code_part));
            (numbers, codes) = (number_rest, code_rest);
        }
        context.compute.pool.install(|| {
            jobs.into_par_iter().try_for_each(|(index, numbers, codes)| {
                context.check_cancelled()?;
                let (columns, batch_rows) = columns_of(rows, index, features)?;
                self.encode_into(&columns, batch_rows, numbers, codes)
            })
        })?;
        Ok(block)
    }

    /// A hash of what the encoder reads of each row: raw numbers and categories, NULL alike. Rows of the same content have the
    /// same hash wherever they stand.
    ///
    /// # Errors
    /// Too little memory, a batch that cannot be read, or cancellation.
    pub fn row_hashes(
        &self,
        rows: &dyn Rows,
        features: &[usize],
        seed: u64,
        context: &FitContext<'_>,
    ) -> Result<Vec<u64>> {
        let row_count = rows.row_count();
        context
            .memory
            .take(row_count * size_of::<u64>(), "the hashes of the rows")?;
        let mut hashes = vec![mix(seed, 0x9E37_79B9_7F4A_7C15); row_count];
        let mut jobs = vec![];
        let mut rest = hashes.as_mut_slice();
        for index in 0..rows.batch_count() {
            let (part, after) = rest.split_at_mut(rows.batch_rows(index));
            jobs.push((index, part));
            rest = after;
        }
        context.compute.pool.install(|| {
            jobs.into_par_iter().try_for_each(|(index, hashes)| {
                context.check_cancelled()?;
                let (columns, batch_rows) = columns_of(rows, index, features)?;
                let mut reader = self.reader(&columns)?;
                let mut buffer = [0.0; CHUNK];
                for start in (0..batch_rows).step_by(CHUNK) {
                    let values = &mut buffer[..CHUNK.min(batch_rows - start)];
                    let hashes = &mut hashes[start..start + values.len()];
                    for j in 0..self.numbers.len() {
                        reader.numbers(j, start, values);
                        for (hash, v) in hashes.iter_mut().zip(values.iter()) {
                            // Adding 0 makes -0 and 0 one; any NaN stands for NULL.
                            *hash = mix(*hash, if v.is_nan() { 1 } else { (v + 0.0).to_bits() });
                        }
                    }
                    reader.codes(start, hashes.len(), |_, codes| {
                        for (hash, code) in hashes.iter_mut().zip(codes) {
                            *hash = mix(*hash, u64::from(*code));
                        }
                    });
                }
                Ok::<(), Error>(())
            })
        })?;
        Ok(hashes)
    }
}

/// The feature columns of a batch, and how many rows it has.
fn columns_of(rows: &dyn Rows, index: usize, features: &[usize]) -> Result<(Vec<ArrayRef>, usize)> {
    let batch = rows.batch(index)?;
    if batch.num_rows() != rows.batch_rows(index) {
        return Err(Error::data(format!(
            "batch {index} changed between two passes; the query cannot be read twice"
        )));
    }
    Ok((
        features.iter().map(|f| Arc::clone(batch.column(*f))).collect(),
        batch.num_rows(),
    ))
}

/// Mixes a value into a hash (the folded product of wyhash).
#[inline]
pub(crate) fn mix(hash: u64, value: u64) -> u64 {
    let product = u128::from(hash ^ value ^ 0xA076_1D64_78BD_642F) * u128::from(value ^ 0xE703_7ED1_A0B4_28DB);
    hash.rotate_left(23) ^ (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests;
