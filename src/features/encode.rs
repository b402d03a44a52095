//! The encoder: what was learned of the feature columns, and rows encoded by it.
//!
//! Numbers are standardised, NULL becomes the mean; text, booleans and dates become codes, NULL a category of its own; a
//! timestamp becomes epoch seconds and codes of its parts: BigQuery ML's automatic preprocessing.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, UInt32Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Schema, UInt32Type};
use hashbrown::HashMap;
use rayon::prelude::*;

use crate::error::{Error, Result, list};
use crate::features::counts::{CategoryCounts, NumberStats, PartCounts};
use crate::features::time_parts::{TimePart, parse_iso_date, parts_of};
use crate::features::values::{CHUNK, Category, CategoryReader, NULL_SECONDS, NumberReader};
use crate::kernels::block::Block;
use crate::models::{Artefact, FeatureColumn, FeatureKind, FitContext, Rows, feature_columns};

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
}

impl NumberColumn {
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

    /// What a category of the training rows is called that is not among the codes.
    fn unseen(&self) -> u32 {
        self.other_code.unwrap_or(self.level_count())
    }
}

/// From a category to its code.
#[derive(Debug, Clone)]
struct Lookup {
    null: u32,
    unseen: u32,
    texts: HashMap<Box<str>, u32>,
    days: HashMap<i64, u32>,
    bools: [u32; 2],
    /// Parts of a timestamp: codes by value.
    small: [u32; 64],
}

impl Lookup {
    fn new(column: &CodeColumn) -> Self {
        let unseen = column.unseen();
        let null = column.null_code.unwrap_or(column.level_count());
        let mut lookup = Self {
            null,
            unseen,
            texts: HashMap::new(),
            days: HashMap::new(),
            bools: [unseen; 2],
            small: [unseen; 64],
        };
        for (category, code) in column.categories.iter().zip(0..) {
            if let Some(part) = column.part {
                match category.parse::<i64>() {
                    Ok(value) if part == TimePart::Year => {
                        lookup.days.insert(value, code);
                    }
                    Ok(value @ 0..64) => lookup.small[value as usize] = code,
                    _ => {}
                }
                continue;
            }
            match category.as_str() {
                "false" => lookup.bools[0] = code,
                "true" => lookup.bools[1] = code,
                text => {
                    if let Some(day) = parse_iso_date(text) {
                        lookup.days.insert(day, code);
                    }
                }
            }
            lookup.texts.insert(category.as_str().into(), code);
        }
        lookup
    }

    fn code(&self, category: Category<'_>) -> u32 {
        match category {
            Category::Null => self.null,
            Category::Text(text) => self.texts.get(text).copied().unwrap_or(self.unseen),
            Category::Bool(value) => self.bools[usize::from(value)],
            Category::Day(day) => self.days.get(&day).copied().unwrap_or(self.unseen),
        }
    }
}

/// What was learned of the feature columns: means, deviations and categories.
#[derive(Debug, Clone)]
pub struct Encoder {
    features: Vec<FeatureColumn>,
    numbers: Vec<NumberColumn>,
    codes: Vec<CodeColumn>,
    lookups: Vec<Lookup>,
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
}

impl ColumnStats {
    fn new(kind: FeatureKind) -> Self {
        match kind {
            FeatureKind::Number => ColumnStats::Number(NumberStats::default()),
            FeatureKind::Timestamp => ColumnStats::Timestamp(NumberStats::default(), Box::default()),
            FeatureKind::Category | FeatureKind::Identifier => ColumnStats::Category(CategoryCounts::default()),
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
            _ => {}
        }
    }

    fn bytes(&self) -> usize {
        match self {
            ColumnStats::Category(counts) => counts.bytes,
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
        let lookups = codes.iter().map(Lookup::new).collect();
        Self {
            features,
            numbers,
            codes,
            lookups,
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
        let mut notices = vec![];
        let (mut numbers, mut codes) = (vec![], vec![]);
        for (source, (feature, stats)) in columns.iter().zip(stats).enumerate() {
            let name = &feature.name;
            if let ColumnStats::Number(stats) | ColumnStats::Timestamp(stats, _) = &stats {
                match stats.not_finite {
                    0 => {}
                    1 => notices.push(format!(
                        "1 infinite or NaN value of column '{name}' was treated as NULL"
                    )),
                    n => notices.push(format!(
                        "{n} infinite or NaN values of column '{name}' were treated as NULL"
                    )),
                }
                if stats.count == 0 {
                    notices.push(format!("column '{name}' is NULL in every row and was left out"));
                    continue;
                }
                let (mean, deviation) = stats.mean_and_deviation(options.scaling == Scaling::SampleDeviation);
                let scaled = options.scaling != Scaling::None;
                numbers.push(NumberColumn {
                    source,
                    name: name.clone(),
                    mean,
                    scale: if scaled && deviation > 0.0 { deviation } else { 1.0 },
                    shift: if scaled || options.center { mean } else { 0.0 },
                });
            }
            match stats {
                ColumnStats::Number(_) => {}
                ColumnStats::Category(counts) => {
                    let null_count = counts.null_count();
                    let categories = counts.categories();
                    if categories.is_empty() {
                        notices.push(format!("column '{name}' is NULL in every row and was left out"));
                        continue;
                    }
                    if categories.len() > options.max_categories {
                        notices.push(format!(
                            "column '{name}' has {} distinct values; the {} most frequent were kept and the others count as one",
                            with_commas(categories.len()),
                            with_commas(options.max_categories)
                        ));
                    }
                    let kept = most_frequent(categories, options.max_categories);
                    codes.push(code_column((source, name.clone(), None), kept, null_count));
                }
                ColumnStats::Timestamp(_, parts) => {
                    for part in TimePart::ALL {
                        let (kept, has_other) = most_frequent(parts.values(part.index()), options.max_categories);
                        let kept: Vec<String> = kept.iter().map(i64::to_string).collect();
                        let name = format!("{}{name}", part.prefix());
                        codes.push(code_column(
                            (source, name, Some(part)),
                            (kept, has_other),
                            parts.null_count,
                        ));
                    }
                }
            }
        }
        if numbers.is_empty() && codes.is_empty() {
            return Err(Error::data(format!(
                "every feature is NULL in every row ({}); at least one needs values to learn from",
                list(columns.iter().map(|c| &c.name), 5)
            )));
        }
        Ok((Self::new(columns, numbers, codes), notices))
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

    /// Reads feature columns chunk by chunk.
    ///
    /// # Errors
    /// A column that is missing or of another kind than in training.
    pub(crate) fn reader(&self, columns: &[ArrayRef]) -> Result<Reader<'_>> {
        if columns.len() != self.features.len() {
            return Err(Error::request(format!(
                "the model takes {} features ({}), not {}",
                self.features.len(),
                list(self.features.iter().map(|f| &f.name), 20),
                columns.len()
            )));
        }
        let number = |source: usize| NumberReader::new(&columns[source], &self.features[source]);
        let numbers = self
            .numbers
            .iter()
            .map(|n| number(n.source))
            .collect::<Result<Vec<_>>>()?;
        let mut groups: Vec<CodeGroup> = vec![];
        for (index, code) in self.codes.iter().enumerate() {
            match groups.last_mut() {
                Some(CodeGroup::Parts { codes, source, .. }) if code.part.is_some() && *source == code.source => {
                    codes.end = index + 1;
                }
                _ if code.part.is_some() => groups.push(CodeGroup::Parts {
                    codes: index..index + 1,
                    source: code.source,
                    reader: number(code.source)?,
                }),
                _ => groups.push(CodeGroup::Category {
                    index,
                    reader: CategoryReader::new(&columns[code.source], &self.features[code.source])?,
                }),
            }
        }
        Ok(Reader {
            encoder: self,
            numbers,
            groups,
        })
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

    /// The tables `numbers` and `categories` that [`Encoder::from_artefact`] reads back.
    ///
    /// # Errors
    /// Arrow refuses.
    pub fn to_tables(&self) -> Result<Vec<(String, RecordBatch)>> {
        let numbers = RecordBatch::try_new(
            Arc::new(Schema::new(vec![
                Field::new("feature", DataType::Utf8, false),
                Field::new("source", DataType::UInt32, false),
                Field::new("mean", DataType::Float64, false),
                Field::new("scale", DataType::Float64, false),
                Field::new("shift", DataType::Float64, false),
            ])),
            vec![
                Arc::new(StringArray::from_iter_values(self.numbers.iter().map(|n| &n.name))),
                Arc::new(UInt32Array::from_iter_values(
                    self.numbers.iter().map(|n| n.source as u32),
                )),
                Arc::new(Float64Array::from_iter_values(self.numbers.iter().map(|n| n.mean))),
                Arc::new(Float64Array::from_iter_values(self.numbers.iter().map(|n| n.scale))),
                Arc::new(Float64Array::from_iter_values(self.numbers.iter().map(|n| n.shift))),
            ],
        )?;
        let all: Vec<(&CodeColumn, u32, u32)> = self
            .codes
            .iter()
            .zip(0u32..)
            .flat_map(|(c, j)| (0..c.level_count()).map(move |code| (c, j, code)))
            .collect();
        let codes = || all.iter().copied();
        let meaning = |column: &CodeColumn, code: u32| match code {
            c if Some(c) == column.null_code => "null",
            c if Some(c) == column.other_code => "other",
            _ => "category",
        };
        let categories = RecordBatch::try_new(
            Arc::new(Schema::new(vec![
                Field::new("position", DataType::UInt32, false),
                Field::new("feature", DataType::Utf8, false),
                Field::new("source", DataType::UInt32, false),
                Field::new("part", DataType::Utf8, true),
                Field::new("code", DataType::UInt32, false),
                Field::new("meaning", DataType::Utf8, false),
                Field::new("category", DataType::Utf8, true),
            ])),
            vec![
                Arc::new(UInt32Array::from_iter_values(codes().map(|(_, j, _)| j))),
                Arc::new(StringArray::from_iter_values(codes().map(|(c, _, _)| &c.name))),
                Arc::new(UInt32Array::from_iter_values(codes().map(|(c, _, _)| c.source as u32))),
                Arc::new(
                    codes()
                        .map(|(c, _, _)| c.part.map(TimePart::prefix))
                        .collect::<StringArray>(),
                ),
                Arc::new(UInt32Array::from_iter_values(codes().map(|(_, _, code)| code))),
                Arc::new(StringArray::from_iter_values(
                    codes().map(|(c, _, code)| meaning(c, code)),
                )),
                Arc::new(
                    codes()
                        .map(|(c, _, code)| c.categories.get(code as usize))
                        .collect::<StringArray>(),
                ),
            ],
        )?;
        Ok(vec![("numbers".into(), numbers), ("categories".into(), categories)])
    }

    /// The encoder that [`Encoder::to_tables`] wrote.
    ///
    /// # Errors
    /// The tables are missing or do not fit each other or the features.
    pub fn from_artefact(artefact: &Artefact) -> Result<Encoder> {
        let table = artefact.table("numbers")?;
        let text = |name: &str| table_column(artefact, table, name, &DataType::Utf8);
        let double = |name: &str| table_column(artefact, table, name, &DataType::Float64);
        let (name, source) = (
            text("feature")?,
            table_column(artefact, table, "source", &DataType::UInt32)?,
        );
        let (mean, scale, shift) = (double("mean")?, double("scale")?, double("shift")?);
        let (name, source) = (name.as_string::<i32>(), source.as_primitive::<UInt32Type>());
        let [mean, scale, shift] = [&mean, &scale, &shift].map(|a| a.as_primitive::<Float64Type>());
        let numbers: Vec<NumberColumn> = (0..table.num_rows())
            .map(|i| NumberColumn {
                source: source.value(i) as usize,
                name: name.value(i).to_string(),
                mean: mean.value(i),
                scale: scale.value(i),
                shift: shift.value(i),
            })
            .collect();

        let table = artefact.table("categories")?;
        let text = |name: &str| table_column(artefact, table, name, &DataType::Utf8);
        let integer = |name: &str| table_column(artefact, table, name, &DataType::UInt32);
        let (position, source, code) = (integer("position")?, integer("source")?, integer("code")?);
        let [position, source, code] = [&position, &source, &code].map(|a| a.as_primitive::<UInt32Type>());
        let (name, part, meaning, category) = (text("feature")?, text("part")?, text("meaning")?, text("category")?);
        let [name, part, meaning, category] = [&name, &part, &meaning, &category].map(|a| a.as_string::<i32>());
        let mut codes: Vec<CodeColumn> = vec![];
        for i in 0..table.num_rows() {
            if position.value(i) as usize == codes.len() {
                codes.push(CodeColumn {
                    source: source.value(i) as usize,
                    name: name.value(i).to_string(),
                    categories: vec![],
                    null_code: None,
                    other_code: None,
                    part: if part.is_null(i) {
                        None
                    } else {
                        TimePart::of_prefix(part.value(i))
                    },
                });
            }
            let in_order = position.value(i) as usize + 1 == codes.len();
            let Some(column) = codes
                .last_mut()
                .filter(|c| in_order && c.level_count() == code.value(i))
            else {
                return Err(artefact.corrupt("its categories are out of order"));
            };
            match meaning.value(i) {
                "null" => column.null_code = Some(code.value(i)),
                "other" => column.other_code = Some(code.value(i)),
                _ => column.categories.push(category.value(i).to_string()),
            }
        }

        let sources = numbers.iter().map(|n| n.source).chain(codes.iter().map(|c| c.source));
        if sources.into_iter().any(|s| s >= artefact.features.len()) || numbers.is_empty() && codes.is_empty() {
            return Err(artefact.corrupt("its tables do not fit its features"));
        }
        Ok(Self::new(artefact.features.clone(), numbers, codes))
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

/// Column `name` of a stored table as `data_type`, without NULLs where its values are read.
///
/// # Errors
/// There is none, or it is of another type.
pub(crate) fn table_column(
    artefact: &Artefact,
    table: &RecordBatch,
    name: &str,
    data_type: &DataType,
) -> Result<ArrayRef> {
    let column = table
        .column_by_name(name)
        .ok_or_else(|| artefact.corrupt(format!("a column '{name}' is missing")))?;
    cast(column, data_type).map_err(|e| {
        artefact
            .corrupt(format!("its column '{name}' cannot be read"))
            .with_source(e)
    })
}

/// Mixes a value into a hash (the folded product of wyhash).
#[inline]
pub(crate) fn mix(hash: u64, value: u64) -> u64 {
    let product = u128::from(hash ^ value ^ 0xA076_1D64_78BD_642F) * u128::from(value ^ 0xE703_7ED1_A0B4_28DB);
    hash.rotate_left(23) ^ (product as u64) ^ ((product >> 64) as u64)
}

/// Code columns that are read together.
#[derive(Debug)]
enum CodeGroup {
    /// A column of categories.
    Category { index: usize, reader: CategoryReader },
    /// The parts of a timestamp.
    Parts {
        codes: std::ops::Range<usize>,
        source: usize,
        reader: NumberReader,
    },
}

/// Feature columns, read chunk by chunk of at most [`CHUNK`] rows.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    encoder: &'a Encoder,
    numbers: Vec<NumberReader>,
    groups: Vec<CodeGroup>,
}

impl Reader<'_> {
    /// Rows `start..start + out.len()` of number `j`, as they are: neither shifted nor scaled, NaN where missing.
    pub(crate) fn numbers(&self, j: usize, start: usize, out: &mut [f64]) {
        self.numbers[j].read(start, out);
    }

    /// Gives `each` the codes of rows `start..start + len` (at most [`CHUNK`]), code column by code column.
    pub(crate) fn codes(&mut self, start: usize, len: usize, mut each: impl FnMut(usize, &[u32])) {
        let lookups = &self.encoder.lookups;
        let mut buffer = [0u32; CHUNK];
        for group in &mut self.groups {
            match group {
                CodeGroup::Category { index, reader } => {
                    let lookup = &lookups[*index];
                    reader.read(start, &mut buffer[..len], |category| lookup.code(category));
                    each(*index, &buffer[..len]);
                }
                CodeGroup::Parts { codes, reader, .. } => {
                    let mut seconds = [0i64; CHUNK];
                    let mut parts = [[0i64; 7]; CHUNK];
                    reader.read_seconds(start, &mut seconds[..len]);
                    for (parts, second) in parts.iter_mut().zip(&seconds[..len]) {
                        *parts = if *second == NULL_SECONDS {
                            [0; 7]
                        } else {
                            parts_of(*second)
                        };
                    }
                    for index in codes.clone() {
                        let (column, lookup) = (&self.encoder.codes[index], &lookups[index]);
                        let part = column.part.unwrap_or(TimePart::Year);
                        for ((code, parts), second) in buffer.iter_mut().zip(&parts[..len]).zip(&seconds[..len]) {
                            let value = parts[part.index()];
                            *code = match part {
                                _ if *second == NULL_SECONDS => lookup.null,
                                TimePart::Year => lookup.days.get(&value).copied().unwrap_or(lookup.unseen),
                                _ => lookup.small[value as usize & 63],
                            };
                        }
                        each(index, &buffer[..len]);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use datafusion::arrow::array::{
        BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Int32Array, Int64Array,
        LargeStringArray, StringViewArray, TimestampMicrosecondArray, TimestampNanosecondArray, UInt8Array,
    };
    use datafusion::arrow::datatypes::Int8Type;

    use super::*;
    use crate::kernels::compute::Compute;
    use crate::models::{MemoryRows, Parts, Silent, UnlimitedMemory};
    use crate::options::Options;

    const STANDARD: EncoderOptions = EncoderOptions {
        scaling: Scaling::PopulationDeviation,
        center: true,
        max_categories: 1_000,
    };

    fn rows(columns: Vec<(&str, ArrayRef)>, batch_rows: usize) -> MemoryRows {
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap();
        let starts = (0..batch.num_rows()).step_by(batch_rows);
        let batches = starts
            .map(|s| batch.slice(s, batch_rows.min(batch.num_rows() - s)))
            .collect();
        MemoryRows::new(batch.schema(), batches)
    }

    fn learn(
        rows: &MemoryRows,
        options: &EncoderOptions,
        threads: usize,
    ) -> Result<(Encoder, Vec<String>, Block<f64>)> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let cancel = AtomicBool::new(false);
        let context = FitContext {
            compute: &Compute::cpu(&pool, &cancel),
            seed: 1,
            observer: &Silent,
            memory: &UnlimitedMemory,
        };
        let features: Vec<usize> = (0..rows.schema().fields().len()).collect();
        let (encoder, notices) = Encoder::learn(rows, &features, options, &context)?;
        let block = encoder.encode_rows(rows, &features, &context)?;
        let hashes = encoder.row_hashes(rows, &features, 1, &context)?;
        assert_eq!(hashes.len(), block.row_count);
        Ok((encoder, notices, block))
    }

    fn reload(encoder: &Encoder) -> Result<Encoder> {
        Encoder::from_artefact(&Artefact {
            name: "m".into(),
            features: encoder.feature_columns().to_vec(),
            options: Options::default(),
            parts: Parts {
                tables: encoder.to_tables()?,
                ..Parts::default()
            },
        })
    }

    #[test]
    fn numbers_of_every_type_are_standardised() {
        let wanted = [-1.224_744_871_391_589, 0.0, 1.224_744_871_391_589, 0.0];
        let float32: ArrayRef = Arc::new(Float32Array::from(vec![
            Some(1.0),
            Some(2.0),
            Some(3.0),
            Some(f32::NAN),
        ]));
        let int64: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(2), Some(3), None]));
        let small: ArrayRef = Arc::new(UInt8Array::from(vec![Some(1), Some(2), Some(3), None]));
        let decimal = Decimal128Array::from(vec![Some(100), Some(200), Some(300), None]);
        let decimal: ArrayRef = Arc::new(decimal.with_precision_and_scale(10, 2).unwrap());
        let keys = datafusion::arrow::array::Int8Array::from(vec![Some(0), Some(1), Some(2), None]);
        let dictionary: ArrayRef = Arc::new(DictionaryArray::<Int8Type>::new(
            keys,
            Arc::new(Int32Array::from(vec![1, 2, 3])),
        ));
        let half = cast(&int64, &DataType::Float16).unwrap();
        let columns = vec![
            ("f", float32),
            ("i", int64),
            ("u", small),
            ("d", decimal),
            ("k", dictionary),
            ("h", half),
        ];
        let (encoder, notices, block) = learn(&rows(columns, 3), &STANDARD, 2).unwrap();
        assert_eq!(notices, ["1 infinite or NaN value of column 'f' was treated as NULL"]);
        assert_eq!(encoder.numbers().len(), 6);
        for (row, wanted) in wanted.iter().enumerate() {
            for x in block.row_numbers(row) {
                assert!((x - wanted).abs() < 1e-11, "row {row}: {x}");
            }
        }
        assert_eq!(reload(&encoder).unwrap(), encoder);
    }

    #[test]
    fn scaling_can_be_left_out() {
        let x: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), Some(5.0), None]));
        let input = rows(vec![("x", x)], 2);
        let options = EncoderOptions {
            scaling: Scaling::None,
            center: false,
            max_categories: 9,
        };
        assert_eq!(learn(&input, &options, 1).unwrap().2.numbers, [1.0, 5.0, 3.0]);
        assert_eq!(
            learn(
                &input,
                &EncoderOptions {
                    center: true,
                    ..options
                },
                1
            )
            .unwrap()
            .2
            .numbers,
            [-2.0, 2.0, 0.0]
        );
        let sample = EncoderOptions {
            scaling: Scaling::SampleDeviation,
            ..options
        };
        let (encoder, _, _) = learn(&input, &sample, 1).unwrap();
        assert!((encoder.numbers()[0].scale - 8f64.sqrt()).abs() < 1e-11);
    }

    #[test]
    fn categories_of_every_type_have_codes() {
        let texts = [
            Some("b"),
            None,
            Some("a"),
            Some("a value too long for a view"),
            Some("b"),
        ];
        let plain: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
        let large: ArrayRef = Arc::new(LargeStringArray::from(texts.to_vec()));
        let view: ArrayRef = Arc::new(StringViewArray::from(texts.to_vec()));
        let dictionary: ArrayRef = Arc::new(texts.into_iter().collect::<DictionaryArray<Int8Type>>());
        let flags: ArrayRef = Arc::new(BooleanArray::from(vec![
            Some(true),
            None,
            Some(false),
            Some(true),
            Some(true),
        ]));
        let days: ArrayRef = Arc::new(Date32Array::from(vec![Some(0), None, Some(19_782), Some(0), Some(-1)]));
        let milliseconds = cast(&days, &DataType::Date64).unwrap();
        let columns = vec![
            ("s", plain.clone()),
            ("l", large),
            ("v", view.clone()),
            ("k", dictionary.clone()),
            ("f", flags),
            ("d", days),
            ("m", milliseconds),
        ];
        for (batch_rows, threads) in [(5, 1), (2, 3)] {
            let (encoder, notices, block) = learn(&rows(columns.clone(), batch_rows), &STANDARD, threads).unwrap();
            assert!(notices.is_empty());
            assert_eq!(encoder.levels(), [4, 4, 4, 4, 3, 4, 4]);
            assert_eq!(encoder.codes()[4].categories, ["false", "true"]);
            assert_eq!(
                encoder.codes()[5].categories,
                ["1969-12-31", "1970-01-01", "2024-02-29"]
            );
            assert_eq!(encoder.codes()[5].category(3), Some("_null_filler"));
            let wanted = [
                [2, 2, 2, 2, 1, 1, 1],
                [3, 3, 3, 3, 2, 3, 3],
                [0, 0, 0, 0, 0, 2, 2],
                [1, 1, 1, 1, 1, 1, 1],
                [2, 2, 2, 2, 1, 0, 0],
            ];
            for (row, wanted) in wanted.iter().enumerate() {
                assert_eq!(block.row_codes(row), wanted);
            }
            assert_eq!(reload(&encoder).unwrap(), encoder);
        }
        // Any of the text types serves at scoring, and what was never seen has the code beyond the last.
        let (encoder, _, _) = learn(&rows(vec![("s", plain)], 9), &STANDARD, 1).unwrap();
        for array in [view, dictionary] {
            assert_eq!(encoder.encode::<f32>(&[array]).unwrap().codes, [2, 3, 0, 1, 2]);
        }
        let unseen: ArrayRef = Arc::new(StringViewArray::from(vec!["zzz"]));
        assert_eq!(encoder.encode::<f32>(&[unseen]).unwrap().codes, [4]);
        let nothing = datafusion::arrow::array::new_null_array(&DataType::Null, 2);
        assert_eq!(encoder.encode::<f32>(&[nothing]).unwrap().codes, [3, 3]);
        let wrong: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        assert_eq!(
            encoder.encode::<f32>(&[wrong]).unwrap_err().to_string(),
            "feature 's' was Utf8 in training, text, a boolean or a date, and is Int64 here; cast it"
        );
    }

    #[test]
    fn timestamps_are_seconds_and_parts() {
        let seconds = [Some(1_709_251_199), None, Some(-1)];
        let microseconds: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter(
            seconds.map(|s: Option<i64>| s.map(|s| s * 1_000_000 + 7)),
        ));
        let nanoseconds: ArrayRef = Arc::new(
            TimestampNanosecondArray::from_iter(seconds.map(|s: Option<i64>| s.map(|s| s * 1_000_000_000)))
                .with_timezone("+02:00"),
        );
        let options = EncoderOptions {
            scaling: Scaling::None,
            center: false,
            max_categories: 1_000,
        };
        let (encoder, _, block) = learn(&rows(vec![("t", microseconds), ("z", nanoseconds)], 2), &options, 1).unwrap();
        assert!((block.numbers[0] - 1_709_251_199.000_007).abs() < 1e-6);
        assert_eq!(block.numbers[5], -1.0);
        let names: Vec<&str> = encoder.codes().iter().take(7).map(|c| c.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "_TS_DOM_t",
                "_TS_DOW_t",
                "_TS_MOY_t",
                "_TS_HOD_t",
                "_TS_MOH_t",
                "_TS_WOY_t",
                "_TS_YEAR_t"
            ]
        );
        assert_eq!(encoder.codes()[5].categories, ["8", "52"]);
        assert_eq!(encoder.codes()[6].categories, ["1969", "2024"]);
        assert_eq!(block.row_codes(0), [0, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1]);
        assert_eq!(block.row_codes(1), [2, 2, 2, 1, 1, 2, 2, 2, 2, 2, 1, 1, 2, 2]);
        assert_eq!(reload(&encoder).unwrap(), encoder);
    }

    #[test]
    fn too_many_categories_leave_the_most_frequent() {
        let names: Vec<String> = (0..2_600)
            .map(|i| format!("name {:04}", i % 1_300))
            .chain(["name 0700".into()])
            .collect();
        let array: ArrayRef = Arc::new(StringViewArray::from_iter_values(&names));
        let (encoder, notices, block) = learn(&rows(vec![("n", array)], 100), &STANDARD, 3).unwrap();
        assert_eq!(
            notices,
            ["column 'n' has 1,300 distinct values; the 1,000 most frequent were kept and the others count as one"]
        );
        let column = &encoder.codes()[0];
        assert_eq!(
            (column.level_count(), column.other_code, column.null_code),
            (1_001, Some(1_000), None)
        );
        assert_eq!(column.categories.last().map(String::as_str), Some("name 0999"));
        assert_eq!(
            (block.codes[999], block.codes[1_000], block.codes[1_299]),
            (999, 1_000, 1_000)
        );
        assert_eq!(reload(&encoder).unwrap(), encoder);
    }

    #[test]
    fn columns_of_nulls_are_left_out() {
        let nulls: ArrayRef = Arc::new(Float64Array::from(vec![None, Some(f64::INFINITY)]));
        let blanks: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>, None]));
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![None, None]));
        let x: ArrayRef = Arc::new(Int64Array::from(vec![4, 4]));
        let all = vec![("a", nulls), ("b", blanks), ("t", times)];
        assert_eq!(
            learn(&rows(all.clone(), 9), &STANDARD, 1).unwrap_err().to_string(),
            "every feature is NULL in every row ('a', 'b' and 't'); at least one needs values to learn from"
        );
        let mut some = all;
        some.push(("x", x));
        let (encoder, notices, block) = learn(&rows(some, 9), &STANDARD, 1).unwrap();
        assert_eq!(notices.len(), 4);
        assert_eq!((encoder.numbers().len(), encoder.codes().len()), (1, 0));
        assert_eq!((encoder.numbers()[0].source, encoder.numbers()[0].scale), (3, 1.0));
        assert_eq!(block.numbers, [0.0, 0.0]);
    }

    #[test]
    fn order_and_threads_do_not_show() {
        let x: Vec<Option<f64>> = (0..3_000u32)
            .map(|i| (i % 11 > 0).then(|| f64::from(i.wrapping_mul(2_654_435_761)) * 1e-3 + 1e6))
            .collect();
        let mut back = x.clone();
        back.reverse();
        let of = |x: Vec<Option<f64>>, batch_rows, threads| {
            let array: ArrayRef = Arc::new(Float64Array::from(x));
            learn(&rows(vec![("x", array)], batch_rows), &STANDARD, threads)
                .unwrap()
                .0
        };
        let one = of(x.clone(), 3_000, 1);
        assert_eq!(one, of(x, 77, 7));
        assert_eq!(one, of(back, 501, 2));
    }
}
