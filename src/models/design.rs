//! Which columns of the design `[numbers…, 1, categories…]` take part in a fit, by the options `fit_intercept` and
//! `category_encoding_method`, and what decides between equal solutions.
//!
//! One-hot columns of all categories add up to the intercept. Where no penalty decides, the coefficients of a feature's categories are held
//! to a sum of 0, which changes no prediction. Without an intercept the categories of the first column of categories stand for it and are
//! free. Dummy columns leave a category of each column out, so that nothing is left to decide.

use std::ops::Range;

use crate::features::Encoder;
use crate::kernels::block::Block;
use crate::kernels::gram::{Gram, design_width};
use crate::models::normal_equations::{SumToZero, redundant_columns, sum_to_zero};
use crate::options::{OptionKind, OptionSpec, Options};

/// The option `fit_intercept` of linear models.
pub(super) const FIT_INTERCEPT: OptionSpec = OptionSpec {
    name: "fit_intercept",
    aliases: &[],
    kind: OptionKind::Bool,
    default: "true",
    help: "Whether there is an intercept. Without one numbers are scaled but not centred, so that 0 stays 0; ML.WEIGHTS shows it as 0.",
};

const DUMMY: &str = "dummy_encoding";

/// The option `category_encoding_method` of linear models.
pub(super) const CATEGORY_ENCODING: OptionSpec = OptionSpec {
    name: "category_encoding_method",
    aliases: &["category_encoding"],
    kind: OptionKind::Choice(&["one_hot_encoding", DUMMY]),
    default: "'one_hot_encoding'",
    help: "Whether every category has a weight, or ('dummy_encoding') the most frequent one of a column has weight 0 and the others' are beside it.",
};

/// How columns become a design.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Coding {
    intercept: bool,
    dummy: bool,
}

impl Coding {
    /// What the options ask for.
    pub(super) fn of(options: &Options) -> Self {
        Self {
            intercept: options.bool("fit_intercept", true),
            dummy: options.text("category_encoding_method") == Some(DUMMY),
        }
    }

    /// Whether there is an intercept.
    pub(super) fn intercept(&self) -> bool {
        self.intercept
    }

    /// The encoder that such a fit takes: what has no intercept must not be moved.
    pub(super) fn encoder(&self, encoder: Encoder) -> Encoder {
        if self.intercept { encoder } else { encoder.uncentred() }
    }
}

/// The columns of a design and those that take part.
#[derive(Debug)]
pub(super) struct Design {
    coding: Coding,
    width: usize,
    /// The intercept's place.
    intercept: usize,
    /// The code columns' places.
    groups: Vec<Range<usize>>,
    /// The columns whose coefficients are 0 because the options say so.
    excluded: Vec<usize>,
}

impl Design {
    /// The design of a block, learned from the rows for which `counts` is true.
    pub(super) fn new(coding: Coding, block: &Block<f64>, counts: &dyn Fn(usize) -> bool) -> Self {
        let offsets = block.code_offsets();
        let groups: Vec<Range<usize>> = offsets
            .iter()
            .zip(&block.levels)
            .map(|(o, l)| o + 1..o + 1 + *l as usize)
            .collect();
        let mut excluded = vec![];
        if !coding.intercept {
            excluded.push(block.number_count);
        }
        if coding.dummy {
            let mut frequencies = vec![0u64; design_width(block)];
            for row in (0..block.row_count).filter(|row| counts(*row)) {
                for ((code, levels), group) in block.row_codes(row).iter().zip(&block.levels).zip(&groups) {
                    if code < levels {
                        frequencies[group.start + *code as usize] += 1;
                    }
                }
            }
            // Of equals the first, which is the smaller category.
            let most_frequent = |group: &Range<usize>| group.clone().rev().max_by_key(|i| frequencies[*i]);
            excluded.extend(groups.iter().filter_map(most_frequent));
        }
        Self {
            coding,
            width: design_width(block),
            intercept: block.number_count,
            groups,
            excluded,
        }
    }

    /// Whether the intercept takes part.
    pub(super) fn has_intercept(&self) -> bool {
        self.coding.intercept
    }

    /// For each feature of categories that has too many columns, that its coefficients add up to 0. `gram` is of the design.
    pub(super) fn constraints(&self, gram: &Gram) -> Vec<SumToZero> {
        if self.coding.dummy {
            return vec![];
        }
        let free = usize::from(!self.coding.intercept);
        sum_to_zero(self.groups.iter().skip(free).cloned(), self.intercept, gram)
    }

    /// The columns that say nothing that columns before them do not, but for those that take no part anyway.
    pub(super) fn redundant(&self, gram: &Gram, constraints: &[SumToZero]) -> Vec<usize> {
        redundant_columns(gram, &self.active(&[]), constraints)
    }

    /// The columns that take part but for `dropped`, in the order in which they are eliminated: the intercept first, so that it is never
    /// the one that is found redundant.
    pub(super) fn active(&self, dropped: &[usize]) -> Vec<usize> {
        std::iter::once(self.intercept)
            .chain((0..self.width).filter(|i| *i != self.intercept))
            .filter(|i| !self.excluded.contains(i) && !dropped.contains(i))
            .collect()
    }
}
