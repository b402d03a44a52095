//! Powers and products of encoded numbers: the columns of a polynomial.
//!
//! They are of numbers as they are encoded, so standardised where the encoder does that: a power of a number that is far from 0 is nearly a
//! multiple of the number. The seconds of a timestamp stay as they are.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::features::Encoder;
use crate::features::encode::{Real, with_commas};
use crate::kernels::block::Block;
use crate::models::{FeatureKind, FitContext};
use crate::options::{OptionKind, OptionSpec, Options};

/// The option `degree`.
pub(super) const DEGREE: OptionSpec = OptionSpec {
    name: "degree",
    aliases: &[],
    kind: OptionKind::Int { min: 1, max: 5 },
    default: "2",
    help: "The highest power of a number, and with interactions the most numbers in a product.",
};

/// The option `interactions`.
pub(super) const INTERACTIONS: OptionSpec = OptionSpec {
    name: "interactions",
    aliases: &[],
    kind: OptionKind::Bool,
    default: "true",
    help: "Whether there are products of different numbers, or powers of each alone.",
};

/// No more columns than this are listed, whatever the memory.
const MAX_TERMS: u128 = 20_000;

/// Rows that a thread expands at a time.
const CHUNK: usize = 1024;

/// Which powers and products there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expansion {
    /// The most numbers in a product.
    pub(super) degree: usize,
    /// Whether they may be different ones.
    pub(super) interactions: bool,
}

/// A product of numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    /// The term that is this one without its last number; none for a number alone.
    before: Option<usize>,
    /// The last number.
    number: usize,
}

/// The terms of a polynomial, numbers first, then by how many numbers are multiplied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    terms: Vec<Term>,
}

impl Expansion {
    /// What the options ask for.
    pub(super) fn of(options: &Options) -> Self {
        Self {
            degree: options.int("degree", 2).max(1) as usize,
            interactions: options.bool("interactions", true),
        }
    }

    /// How many terms so many numbers have.
    fn count(&self, numbers: usize) -> u128 {
        let numbers = numbers as u128;
        if !self.interactions {
            return numbers.saturating_mul(self.degree as u128);
        }
        // Choices of at most `degree` numbers, repeated ones too, but for none.
        let choices = (1..=self.degree as u128).fold(1u128, |all, k| all.saturating_mul(numbers + k) / k);
        choices - 1
    }

    /// The terms of an encoder's numbers. `verb` begins messages.
    ///
    /// # Errors
    /// Too many.
    pub(super) fn terms(&self, verb: &str, encoder: &Encoder) -> Result<Terms> {
        let numbers = encoder.numbers();
        let kind = |source: usize| encoder.feature_columns().get(source).map(|f| f.kind);
        let expands: Vec<usize> = (0..numbers.len())
            .filter(|j| kind(numbers[*j].source) == Some(FeatureKind::Number))
            .collect();
        let count = self.count(expands.len());
        if count > MAX_TERMS {
            return Err(Error::request(format!(
                "{verb}: degree {} of {} numbers makes {} columns, and a fit takes {} at most; write a lower degree, interactions => false, \
                 or fewer features",
                self.degree,
                expands.len(),
                with_commas(usize::try_from(count).unwrap_or(usize::MAX)),
                with_commas(MAX_TERMS as usize)
            )));
        }
        let alone = |number: usize| Term { before: None, number };
        let mut terms: Vec<Term> = (0..numbers.len()).map(alone).collect();
        let mut last: Vec<usize> = expands.clone();
        for _ in 1..self.degree {
            let begin = terms.len();
            for before in last {
                let number = terms[before].number;
                // Numbers that do not descend, so that each product comes once.
                for next in expands
                    .iter()
                    .filter(|next| **next == number || self.interactions && **next > number)
                {
                    terms.push(Term {
                        before: Some(before),
                        number: *next,
                    });
                }
            }
            last = (begin..terms.len()).collect();
        }
        Ok(Terms { terms })
    }
}

impl Terms {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.terms.len()
    }

    /// The values of all terms, given those of a row's numbers. Bounded, so that none is infinite.
    pub(super) fn values(&self, numbers: &[f64], values: &mut [f64]) {
        for (t, term) in self.terms.iter().enumerate() {
            let number = numbers[term.number];
            values[t] = match term.before {
                Some(before) => f64::from_f64(values[before] * number),
                None => number,
            };
        }
    }

    /// The numbers of a term, ascending.
    pub(super) fn numbers(&self, term: usize) -> Vec<usize> {
        let mut numbers = vec![];
        let mut at = Some(term);
        while let Some(term) = at {
            numbers.push(self.terms[term].number);
            at = self.terms[term].before;
        }
        numbers.reverse();
        numbers
    }

    /// The place of each term by its numbers.
    pub(super) fn places(&self) -> BTreeMap<Vec<usize>, usize> {
        (0..self.count()).map(|t| (self.numbers(t), t)).collect()
    }

    /// The terms as people write them, such as `a^2*b`.
    pub(super) fn names(&self, encoder: &Encoder) -> Vec<String> {
        let of_run = |run: &[usize]| {
            let number = &encoder.numbers()[run[0]];
            let name = number.name.as_str();
            match run.len() {
                1 => name.to_string(),
                power => format!("{name}^{power}"),
            }
        };
        (0..self.count())
            .map(|t| {
                let numbers = self.numbers(t);
                let factors: Vec<String> = numbers.chunk_by(|a, b| a == b).map(of_run).collect();
                factors.join("*")
            })
            .collect()
    }

    /// The block with terms in the place of numbers.
    pub(super) fn expand(&self, block: Block<f64>) -> Block<f64> {
        let mut numbers = vec![0.0; block.row_count * self.count()];
        self.fill(&block.numbers, block.number_count, &mut numbers);
        Block {
            number_count: self.count(),
            numbers,
            ..block
        }
    }

    /// The same of all training rows.
    ///
    /// # Errors
    /// Too little memory.
    pub(super) fn expand_rows(&self, block: Block<f64>, context: &FitContext<'_>) -> Result<Block<f64>> {
        let (from, to) = (block.number_count, self.count());
        let bytes = block.row_count.saturating_mul(to).saturating_mul(size_of::<f64>());
        context.memory.take(bytes, "the powers and products of the numbers")?;
        let mut numbers = vec![0.0; block.row_count * to];
        context.compute.pool.install(|| {
            numbers
                .par_chunks_mut((CHUNK * to).max(1))
                .zip(block.numbers.par_chunks((CHUNK * from).max(1)))
                .for_each(|(values, numbers)| self.fill(numbers, from, values));
        });
        Ok(Block {
            number_count: to,
            numbers,
            ..block
        })
    }

    /// Writes the terms of rows of so many numbers.
    fn fill(&self, rows: &[f64], number_count: usize, values: &mut [f64]) {
        let values = values.chunks_exact_mut(self.count().max(1));
        for (values, numbers) in values.zip(rows.chunks_exact(number_count.max(1))) {
            self.values(numbers, values);
        }
    }
}
