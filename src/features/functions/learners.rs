//! Learners: what is kept of the training rows, batch by batch, until a function can say what it learned.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, StringViewArray};
use hashbrown::HashMap;

use super::learned::{Learned, Vocabulary};
use super::moments::Moments;
use super::state::{Reader, Writer};
use crate::error::Result;
use crate::features::columns::{Lists, numbers, texts};

/// Looks at the training rows, in any order and on any number of threads; the result does not tell which.
pub trait Learner: fmt::Debug + Send + Sync {
    /// Adds the rows of a batch.
    ///
    /// # Errors
    /// The column is not of the type that was planned.
    fn update(&mut self, column: &ArrayRef) -> Result<()>;

    /// What has been seen so far, for [`Learner::merge`].
    fn state(&self) -> Vec<u8>;

    /// Adds what another learner of the same function has seen.
    ///
    /// # Errors
    /// The bytes are not the state of such a learner.
    fn merge(&mut self, state: &[u8]) -> Result<()>;

    /// What the rows so far teach.
    fn finish(&self) -> Learned;

    /// About how many bytes it holds.
    fn size(&self) -> usize;
}

/// What a learner keeps of the rows.
pub(crate) trait Summary: Default + fmt::Debug + Send + Sync {
    fn add(&mut self, column: &ArrayRef) -> Result<()>;
    fn write(&self, out: &mut Writer);
    fn merge(&mut self, state: &mut Reader<'_>) -> Result<()>;
    fn size(&self) -> usize;
}

/// A summary, and what is made of it in the end.
struct SummaryLearner<S> {
    summary: S,
    finish: Arc<dyn Fn(&S) -> Learned + Send + Sync>,
}

impl<S: fmt::Debug> fmt::Debug for SummaryLearner<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.summary.fmt(f)
    }
}

impl<S: Summary> Learner for SummaryLearner<S> {
    fn update(&mut self, column: &ArrayRef) -> Result<()> {
        self.summary.add(column)
    }

    fn state(&self) -> Vec<u8> {
        let mut out = Writer::default();
        self.summary.write(&mut out);
        out.0
    }

    fn merge(&mut self, state: &[u8]) -> Result<()> {
        self.summary.merge(&mut Reader(state))
    }

    fn finish(&self) -> Learned {
        (self.finish)(&self.summary)
    }

    fn size(&self) -> usize {
        self.summary.size()
    }
}

/// A learner that makes something of a summary.
pub(crate) fn learner<S: Summary + 'static>(
    finish: impl Fn(&S) -> Learned + Send + Sync + 'static,
) -> Box<dyn Learner> {
    Box::new(SummaryLearner {
        summary: S::default(),
        finish: Arc::new(finish),
    })
}

impl Summary for Moments {
    fn add(&mut self, column: &ArrayRef) -> Result<()> {
        self.add(&numbers(column)?);
        Ok(())
    }

    fn write(&self, out: &mut Writer) {
        self.write(out);
    }

    fn merge(&mut self, state: &mut Reader<'_>) -> Result<()> {
        self.merge(&Self::read(state)?);
        Ok(())
    }

    fn size(&self) -> usize {
        size_of::<Self>()
    }
}

/// Every finite value, for exact quantiles: 8 bytes a row.
#[derive(Debug, Default)]
pub(crate) struct Values(Vec<f64>);

impl Summary for Values {
    fn add(&mut self, column: &ArrayRef) -> Result<()> {
        // −0 and 0 are the same value.
        let values = numbers(column)?;
        self.0
            .extend(values.iter().flatten().filter(|v| v.is_finite()).map(|v| v + 0.0));
        Ok(())
    }

    fn write(&self, out: &mut Writer) {
        self.0.iter().for_each(|v| out.number(*v));
    }

    fn merge(&mut self, state: &mut Reader<'_>) -> Result<()> {
        while !state.is_empty() {
            self.0.push(state.number()?);
        }
        Ok(())
    }

    fn size(&self) -> usize {
        self.0.capacity() * size_of::<f64>()
    }
}

impl Values {
    /// The values, ascending.
    pub(crate) fn sorted(&self) -> Vec<f64> {
        let mut values = self.0.clone();
        values.sort_unstable_by(f64::total_cmp);
        values
    }
}

/// The smallest of the sorted values that at least the share `numerator / denominator` of them do not exceed: nearest rank.
pub(crate) fn quantile(sorted: &[f64], numerator: u64, denominator: u64) -> Option<f64> {
    let rank = (sorted.len() as u128 * u128::from(numerator)).div_ceil(u128::from(denominator.max(1)));
    sorted.get(rank.max(1) as usize - 1).copied()
}

/// In how many rows each category occurs. NULL is none.
#[derive(Debug, Default)]
pub(crate) struct Categories {
    /// How many rows, and the last of them: a category counts once a row, however often the row's list holds it.
    counts: HashMap<Box<str>, (u64, u64)>,
    rows: u64,
    bytes: usize,
}

impl Categories {
    fn count(&mut self, text: &str, times: u64) {
        match self.counts.get_mut(text) {
            Some((count, last)) => {
                if *last != self.rows {
                    (*count, *last) = (*count + times, self.rows);
                }
            }
            None => {
                self.counts.insert(text.into(), (times, self.rows));
                self.bytes += text.len() + 40;
            }
        }
    }

    fn add_texts(&mut self, texts: &StringViewArray) {
        for text in texts {
            self.rows += 1;
            if let Some(text) = text {
                self.count(text, 1);
            }
        }
    }

    fn add_lists(&mut self, lists: &Lists) -> Result<()> {
        let texts = texts(&lists.values)?;
        for row in 0..lists.len() {
            self.rows += 1;
            for i in lists.row(row).into_iter().flatten().filter(|i| texts.is_valid(*i)) {
                self.count(texts.value(i), 1);
            }
        }
        Ok(())
    }

    /// The categories that occur often enough, the most frequent first, equals alphabetically.
    fn ranked(&self, threshold: u64) -> Vec<(&str, u64)> {
        let mut ranked: Vec<(&str, u64)> = self
            .counts
            .iter()
            .map(|(text, (count, _))| (&**text, *count))
            .filter(|(_, count)| *count >= threshold)
            .collect();
        ranked.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        ranked
    }

    /// The most frequent category, the first of them in the alphabet.
    pub(crate) fn most_frequent(&self) -> Option<&str> {
        self.counts
            .iter()
            .max_by(|(a, (m, _)), (b, (n, _))| m.cmp(n).then(b.cmp(a)))
            .map(|(text, _)| &**text)
    }

    /// The `top` most frequent of the categories that occur at least `threshold` times.
    pub(crate) fn vocabulary(&self, top: usize, threshold: u64, drop_most_frequent: bool) -> Vocabulary {
        let mut ranked = self.ranked(threshold);
        ranked.truncate(top);
        let dropped = ranked.first().map(|(text, _)| *text).filter(|_| drop_most_frequent);
        Vocabulary::new(ranked.iter().map(|(text, _)| (*text).to_string()).collect(), dropped)
    }
}

impl Summary for Categories {
    fn add(&mut self, column: &ArrayRef) -> Result<()> {
        if column.data_type().is_nested() {
            return self.add_lists(&Lists::new(column)?);
        }
        self.add_texts(&texts(column)?);
        Ok(())
    }

    fn write(&self, out: &mut Writer) {
        for (text, (count, _)) in &self.counts {
            out.text(text);
            out.integer(*count);
        }
    }

    fn merge(&mut self, state: &mut Reader<'_>) -> Result<()> {
        self.rows += 1;
        while !state.is_empty() {
            let text = state.text()?;
            self.count(text, state.integer()?);
        }
        Ok(())
    }

    fn size(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_the_nearest_rank() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0];
        let of = |n, d| quantile(&values, n, d).unwrap();
        assert_eq!(
            [of(1, 3), of(2, 3), of(1, 2), of(0, 4), of(4, 4)],
            [2.0, 4.0, 3.0, 1.0, 5.0]
        );
        assert_eq!(quantile(&[1.0, 2.0], 1, 2), Some(1.0));
        assert_eq!(quantile(&[], 1, 2), None);
    }

    #[test]
    fn equals_are_ranked_alphabetically() {
        let mut categories = Categories::default();
        categories.add_texts(&StringViewArray::from(vec![
            Some("b"),
            Some("a"),
            None,
            Some("c"),
            Some("c"),
        ]));
        assert_eq!(categories.ranked(0), [("c", 2), ("a", 1), ("b", 1)]);
        assert_eq!(categories.most_frequent(), Some("c"));
        categories.add_texts(&StringViewArray::from(vec![Some("b")]));
        assert_eq!(categories.most_frequent(), Some("b"));
    }

    #[test]
    fn a_broken_state_is_an_error() {
        let mut categories = Categories::default();
        assert!(categories.merge(&mut Reader(&[9, 0, 0, 0, 0, 0, 0, 0, b'x'])).is_err());
        assert!(Values::default().merge(&mut Reader(&[1, 2, 3])).is_err());
    }
}
