//! What is learned from the training rows, as statistics that merge: moments of numbers, counts of categories.

use hashbrown::HashMap;

use crate::features::time_parts::{iso_date, parts_of};
use crate::features::values::{CHUNK, Category, CategoryReader, NULL_SECONDS, NumberReader};

/// Count, mean, sum of squared deviations and range of a number, merged as Chan, Golub and LeVeque do (1979).
#[derive(Debug, Clone, Default)]
pub(crate) struct NumberStats {
    /// Finite values.
    pub(crate) count: u64,
    /// NaN and infinite values.
    pub(crate) not_finite: u64,
    mean: f64,
    squares: f64,
    low: f64,
    high: f64,
}

/// Sums that run side by side, so that the processor's vector instructions fit.
const LANES: usize = 8;

struct Lanes {
    first: f64,
    count: [u64; LANES],
    sum: [f64; LANES],
    low: [f64; LANES],
    high: [f64; LANES],
}

impl Lanes {
    #[inline(always)]
    fn add(&mut self, values: &[f64]) {
        for (l, v) in values.iter().copied().enumerate().take(LANES) {
            // Comparisons with NaN are false: it changes nothing.
            let present = !v.is_nan();
            self.count[l] += u64::from(present);
            self.sum[l] += if present { v - self.first } else { 0.0 };
            self.low[l] = if v < self.low[l] { v } else { self.low[l] };
            self.high[l] = if v > self.high[l] { v } else { self.high[l] };
        }
    }
}

impl NumberStats {
    /// Adds the rows of a column.
    pub(crate) fn add(&mut self, reader: &NumberReader, row_count: usize) {
        let mut buffer = [0.0; CHUNK];
        let before = self.count;
        for start in (0..row_count).step_by(CHUNK) {
            let values = &mut buffer[..CHUNK.min(row_count - start)];
            reader.read(start, values);
            self.add_values(values);
        }
        let missing = row_count as u64 - (self.count - before);
        self.not_finite += missing.saturating_sub(reader.null_count(row_count) as u64);
    }

    /// Adds a few values; NaN is none.
    pub(crate) fn add_values(&mut self, values: &[f64]) {
        self.merge(&Self::of_values(values));
    }

    /// Statistics of a few values; NaN is no value. Two passes over what the cache still holds, so that numbers far from zero
    /// (epoch seconds) keep their digits.
    fn of_values(values: &[f64]) -> Self {
        let Some(first) = values.iter().copied().find(|v| !v.is_nan()) else {
            return Self::default();
        };
        let mut sums = Lanes {
            first,
            count: [0; LANES],
            sum: [0.0; LANES],
            low: [first; LANES],
            high: [first; LANES],
        };
        let chunks = values.chunks_exact(LANES);
        let mut rest = [f64::NAN; LANES];
        rest[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
        for chunk in chunks.chain(std::iter::once(&rest[..])) {
            sums.add(chunk);
        }
        let count: u64 = sums.count.iter().sum();
        let mean = first + sums.sum.iter().sum::<f64>() / count as f64;
        let mut squares = [0.0; LANES];
        let chunks = values.chunks_exact(LANES);
        for chunk in chunks.chain(std::iter::once(&rest[..])) {
            for (sum, v) in squares.iter_mut().zip(chunk) {
                let d = if v.is_nan() { 0.0 } else { v - mean };
                *sum += d * d;
            }
        }
        let squares: f64 = squares.iter().sum();
        let (low, high) = (sums.low, sums.high);
        let low = low.into_iter().fold(first, f64::min);
        let high = high.into_iter().fold(first, f64::max);
        Self {
            count,
            not_finite: 0,
            mean,
            squares,
            low,
            high,
        }
    }

    /// Adds the statistics of other rows.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.not_finite += other.not_finite;
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = Self {
                not_finite: self.not_finite,
                ..other.clone()
            };
            return;
        }
        let (a, b) = (self.count as f64, other.count as f64);
        let delta = other.mean - self.mean;
        self.mean += delta * (b / (a + b));
        self.squares += other.squares + delta * delta * (a * b / (a + b));
        self.count += other.count;
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
    }

    /// The least and the greatest value.
    pub(crate) fn range(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// The mean and the deviation (with `count - 1` below if `sample`, else with `count`), rounded so that the order of the
    /// additions cannot be told from them; the deviation is 0 where all values are the same. Finite for any finite values.
    pub(crate) fn mean_and_deviation(&self, sample: bool) -> (f64, f64) {
        if self.low == self.high {
            return (self.low, 0.0);
        }
        let below = if sample { self.count - 1 } else { self.count } as f64;
        let mut deviation = (self.squares / below).sqrt();
        if !deviation.is_finite() || deviation <= 0.0 {
            // Values so large or so small that their squares are not to be had.
            deviation = self.high / 2.0 - self.low / 2.0;
        }
        let deviation = if deviation > 0.0 {
            round_to_bits(deviation, 40)
        } else {
            f64::MIN_POSITIVE
        };
        let mean = if self.mean.is_finite() {
            self.mean
        } else {
            self.low / 2.0 + self.high / 2.0
        };
        // 40 significant bits of the larger of the two: a mean near zero is no more exact than the values are. A mean much larger
        // than the deviation keeps a few more, or the shift would be felt.
        let unit = (exponent(deviation) - 39).max(exponent(mean) - 44);
        (round_to_unit(mean, unit), deviation)
    }
}

fn exponent(x: f64) -> i32 {
    ((x.to_bits() >> 52) & 0x7ff) as i32 - 1023
}

/// `x` rounded to so many significant bits.
fn round_to_bits(x: f64, bits: i32) -> f64 {
    round_to_unit(x, exponent(x) + 1 - bits)
}

/// `x` rounded to a multiple of 2^`power`; unchanged where that is out of range.
fn round_to_unit(x: f64, power: i32) -> f64 {
    let unit = 2f64.powi(power);
    let rounded = (x / unit).round() * unit;
    if unit.is_normal() && rounded.is_finite() {
        rounded
    } else {
        x
    }
}

/// How often each category occurs.
#[derive(Debug)]
pub(crate) struct CategoryCounts {
    /// Index of each category in `counts`; index 0 is NULL.
    texts: HashMap<Box<str>, u32>,
    days: HashMap<i64, u32>,
    bools: [Option<u32>; 2],
    counts: Vec<u64>,
    /// About how many bytes the categories take.
    pub(crate) bytes: usize,
}

impl Default for CategoryCounts {
    fn default() -> Self {
        Self {
            texts: HashMap::new(),
            days: HashMap::new(),
            bools: [None; 2],
            counts: vec![0],
            bytes: 0,
        }
    }
}

impl CategoryCounts {
    /// The index of a category, a new one if need be.
    fn index(&mut self, category: Category<'_>) -> u32 {
        let next = self.counts.len() as u32;
        let index = match category {
            Category::Null => 0,
            Category::Text(text) => match self.texts.get(text) {
                Some(index) => *index,
                None => {
                    self.texts.insert(text.into(), next);
                    self.bytes += text.len() + 56;
                    next
                }
            },
            Category::Day(day) => *self.days.entry(day).or_insert(next),
            Category::Bool(value) => *self.bools[usize::from(value)].get_or_insert(next),
        };
        if index == next {
            self.counts.push(0);
            self.bytes += 16;
        }
        index
    }

    /// Adds the rows of a column.
    pub(crate) fn add(&mut self, reader: &mut CategoryReader, row_count: usize) {
        self.add_range(reader, 0..row_count);
    }

    /// Adds some rows of a column.
    pub(crate) fn add_range(&mut self, reader: &mut CategoryReader, rows: std::ops::Range<usize>) {
        let mut buffer = [0u32; CHUNK];
        for start in rows.clone().step_by(CHUNK) {
            let indices = &mut buffer[..CHUNK.min(rows.end - start)];
            reader.read(start, indices, |category| self.index(category));
            for index in indices {
                self.counts[*index as usize] += 1;
            }
        }
    }

    /// Adds the counts of other rows.
    pub(crate) fn merge(&mut self, mut other: Self) {
        if self.counts.len() < other.counts.len() {
            std::mem::swap(self, &mut other);
        }
        let counts = other.counts;
        self.counts[0] += counts[0];
        for (text, index) in other.texts {
            let here = self.index(Category::Text(&text));
            self.counts[here as usize] += counts[index as usize];
        }
        for (day, index) in other.days {
            let here = self.index(Category::Day(day));
            self.counts[here as usize] += counts[index as usize];
        }
        for (value, index) in [(false, other.bools[0]), (true, other.bools[1])] {
            if let Some(index) = index {
                let here = self.index(Category::Bool(value));
                self.counts[here as usize] += counts[index as usize];
            }
        }
    }

    /// How many rows are NULL.
    pub(crate) fn null_count(&self) -> u64 {
        self.counts[0]
    }

    /// Every category that occurs, as text, with its count; in no order.
    pub(crate) fn categories(self) -> Vec<(String, u64)> {
        let counts = self.counts;
        let occurs = |(text, index): (String, u32)| {
            let count = counts[index as usize];
            (count > 0).then_some((text, count))
        };
        let bools = [("false", self.bools[0]), ("true", self.bools[1])];
        self.texts
            .into_iter()
            .map(|(text, index)| (String::from(text), index))
            .chain(self.days.into_iter().map(|(day, index)| (iso_date(day), index)))
            .chain(
                bools
                    .into_iter()
                    .filter_map(|(text, index)| Some((text.to_string(), index?))),
            )
            .filter_map(occurs)
            .collect()
    }
}

/// How often each value of each part of a timestamp occurs.
#[derive(Debug, Clone)]
pub(crate) struct PartCounts {
    /// Days of the month to weeks of the year: small numbers.
    small: [[u64; 64]; 6],
    years: HashMap<i64, u64>,
    /// Rows that are NULL.
    pub(crate) null_count: u64,
}

impl Default for PartCounts {
    fn default() -> Self {
        Self {
            small: [[0; 64]; 6],
            years: HashMap::new(),
            null_count: 0,
        }
    }
}

impl PartCounts {
    /// Adds the rows of a column of timestamps.
    pub(crate) fn add(&mut self, reader: &NumberReader, row_count: usize) {
        let mut buffer = [0i64; CHUNK];
        for start in (0..row_count).step_by(CHUNK) {
            let seconds = &mut buffer[..CHUNK.min(row_count - start)];
            reader.read_seconds(start, seconds);
            for second in seconds {
                if *second == NULL_SECONDS {
                    self.null_count += 1;
                    continue;
                }
                let parts = parts_of(*second);
                for (counts, value) in self.small.iter_mut().zip(parts) {
                    counts[value as usize & 63] += 1;
                }
                *self.years.entry(parts[6]).or_insert(0) += 1;
            }
        }
    }

    /// Adds the counts of other rows.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (a, b) in self.small.iter_mut().flatten().zip(other.small.iter().flatten()) {
            *a += b;
        }
        for (year, count) in &other.years {
            *self.years.entry(*year).or_insert(0) += count;
        }
        self.null_count += other.null_count;
    }

    /// The values of part `index` that occur, ascending, with their counts.
    pub(crate) fn values(&self, index: usize) -> Vec<(i64, u64)> {
        match self.small.get(index) {
            Some(counts) => (0i64..)
                .zip(counts.iter().copied())
                .filter(|(_, count)| *count > 0)
                .collect(),
            None => {
                let mut years: Vec<(i64, u64)> = self.years.iter().map(|(y, c)| (*y, *c)).collect();
                years.sort_unstable();
                years
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Float64Array};

    use super::*;

    fn stats(values: &[f64]) -> NumberStats {
        let array: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
        let mut stats = NumberStats::default();
        stats.add(&NumberReader::of(&array).unwrap(), values.len());
        stats
    }

    #[test]
    fn moments_keep_their_digits_far_from_zero() {
        let values: Vec<f64> = (0..10_000).map(|i| 1.7e9 + f64::from(i % 100)).collect();
        let (mean, deviation) = stats(&values).mean_and_deviation(false);
        assert!((mean - 1.7e9 - 49.5).abs() < 1e-3, "{mean}");
        assert!((deviation - (9_999.0f64 / 12.0).sqrt()).abs() < 1e-9, "{deviation}");
    }

    #[test]
    fn order_and_partition_do_not_show() {
        let values: Vec<f64> = (0..5_000u32)
            .map(|i| f64::from(i.wrapping_mul(2_654_435_761)) / 1e7 - 200.0)
            .collect();
        let mut back = values.clone();
        back.reverse();
        let mut parts = NumberStats::default();
        for part in values.chunks(37) {
            parts.merge(&stats(part));
        }
        assert_eq!(
            stats(&values).mean_and_deviation(true),
            stats(&back).mean_and_deviation(true)
        );
        assert_eq!(stats(&values).mean_and_deviation(true), parts.mean_and_deviation(true));
    }

    #[test]
    fn odd_values_stay_finite() {
        assert_eq!(stats(&[3.0, 3.0]).mean_and_deviation(true), (3.0, 0.0));
        assert_eq!(stats(&[1e15]).mean_and_deviation(true), (1e15, 0.0));
        let odd = stats(&[f64::NAN, f64::INFINITY, 1.0, 2.0]);
        assert_eq!((odd.count, odd.not_finite), (2, 2));
        for values in [[f64::MAX, -f64::MAX], [f64::MAX, f64::MAX / 2.0], [5e-324, 0.0]] {
            let (mean, deviation) = stats(&values).mean_and_deviation(false);
            assert!(
                mean.is_finite() && deviation.is_finite() && deviation > 0.0,
                "{values:?}: {mean} {deviation}"
            );
        }
    }
}
