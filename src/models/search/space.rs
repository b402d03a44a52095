//! The space that is searched: what each hyperparameter may be, and its place between 0 and 1.

use rand::Rng;
use rand_pcg::Pcg64Mcg;

/// What one hyperparameter may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Domain {
    /// A number from `low` to `high`, both included. Bounds that are not finite, or `high` below `low`, leave `low` as the one value.
    Range {
        /// The least value.
        low: f64,
        /// The greatest value.
        high: f64,
        /// Whole numbers only: those between the bounds.
        integer: bool,
        /// By the logarithm: each factor of ten gets the same share. Where `low` is 0, 0 is a value beside the logarithm's scale, which
        /// then starts at a millionth of `high` (at 1 for whole numbers). A range with a `low` below 0 is searched without it.
        log: bool,
    },
    /// One of so many values without an order; the point holds the value's index, from 0.
    Candidates(usize),
}

/// Where a range by the logarithm starts, as a share of its `high`, when its `low` is 0.
const SMALLEST: f64 = 1e-6;
/// The share of such a range that 0 itself gets.
const ZERO_SHARE: f64 = 1.0 / 16.0;

/// One hyperparameter's values, laid out between 0 and 1.
#[derive(Debug, Clone, Copy)]
enum Axis {
    /// Always this value.
    Fixed(f64),
    /// Any number between the bounds; `zero` is the share of the axis, at its start, that stands for 0.
    Real { low: f64, high: f64, log: bool, zero: f64 },
    /// Whole numbers; the axis runs from half below the least to half above the greatest, so that the ends get their full share.
    Integer { low: f64, high: f64, log: bool },
    /// Indices, in equal shares, without an order.
    Index(usize),
}

impl Axis {
    fn new(domain: Domain) -> Self {
        match domain {
            Domain::Candidates(count) => Axis::Index(count),
            Domain::Range {
                low,
                high,
                integer,
                log,
            } => {
                let (low, high) = if integer {
                    (low.ceil(), high.floor())
                } else {
                    (low, high)
                };
                // Not `high <= low`: a NaN makes one value too.
                let varies = low.is_finite() && high.is_finite() && high > low;
                let log = log && low >= 0.0;
                match (varies, integer) {
                    (false, _) => Axis::Fixed(low),
                    (true, true) => Axis::Integer { low, high, log },
                    (true, false) => Axis::Real {
                        low,
                        high,
                        log,
                        zero: if log && low == 0.0 { ZERO_SHARE } else { 0.0 },
                    },
                }
            }
        }
    }

    /// How many values there are; none for more than can be counted.
    fn count(&self) -> Option<u64> {
        match self {
            Axis::Fixed(_) => Some(1),
            Axis::Index(count) => Some(*count as u64),
            // Beyond 2⁵³ whole numbers have gaps, so that counting them means nothing.
            Axis::Integer { low, high, .. } if high - low < 9e15 => Some((high - low) as u64 + 1),
            Axis::Integer { .. } | Axis::Real { .. } => None,
        }
    }

    /// The scale's ends; logarithms where the axis goes by them.
    fn ends(&self) -> (f64, f64) {
        match *self {
            Axis::Real {
                low, high, log: true, ..
            } => (if low > 0.0 { low } else { high * SMALLEST }.ln(), high.ln()),
            Axis::Real { low, high, .. } => (low, high),
            // 1 runs from ½ to 1½, a factor of 3; 0 gets as much, below it.
            Axis::Integer { low, high, log: true } => {
                (if low > 0.0 { low - 0.5 } else { 0.5 / 3.0 }.ln(), (high + 0.5).ln())
            }
            Axis::Integer { low, high, .. } => (low - 0.5, high + 0.5),
            Axis::Index(count) => (0.0, count as f64),
            Axis::Fixed(value) => (value, value),
        }
    }

    /// The value at a place between 0 and 1.
    fn value(&self, place: f64) -> f64 {
        let (start, end) = self.ends();
        // Written so that bounds of opposite signs near the greatest number do not overflow.
        let at = |share: f64| start * (1.0 - share) + end * share;
        match *self {
            Axis::Fixed(value) => value,
            Axis::Index(count) => at(place).floor().min(count.saturating_sub(1) as f64),
            Axis::Integer { low, high, log } => {
                let exact = if log { at(place).exp() } else { at(place) };
                // `+ 0.0` makes a rounded −0.0 the same 0 as any other.
                exact.round().clamp(low, high) + 0.0
            }
            Axis::Real { zero, .. } if place < zero => 0.0,
            // A logarithm's exponential may miss the ends by a digit.
            Axis::Real { low, .. } if place <= 0.0 => low,
            Axis::Real { high, .. } if place >= 1.0 => high,
            Axis::Real { low, high, log, zero } => {
                let exact = at((place - zero) / (1.0 - zero));
                (if log { exact.exp() } else { exact }).clamp(low, high)
            }
        }
    }

    /// The place of a value: of a cell's middle, for whole numbers. Values from outside the range are at its ends.
    fn place(&self, value: f64) -> f64 {
        let (start, end) = self.ends();
        let share = |at: f64| ((at - start) / (end - start)).clamp(0.0, 1.0);
        match *self {
            Axis::Fixed(_) => 0.0,
            Axis::Index(_) => value,
            Axis::Integer { log: true, .. } => {
                share((value.max(0.0) + 0.5).ln() / 2.0 + (value - 0.5).max(0.5 / 3.0).ln() / 2.0)
            }
            Axis::Integer { .. } => share(value),
            Axis::Real { zero, .. } if zero > 0.0 && value <= 0.0 => 0.0,
            Axis::Real { log, zero, .. } => zero + (1.0 - zero) * share(if log { value.ln() } else { value }),
        }
    }

    /// So many different values from one end to the other, evenly along the axis. `levels` must not exceed [`Axis::count`].
    fn ladder(&self, levels: usize) -> Vec<f64> {
        let step = |i: usize| {
            if levels > 1 {
                i as f64 / (levels - 1) as f64
            } else {
                0.5
            }
        };
        match *self {
            Axis::Fixed(value) => vec![value],
            Axis::Index(count) => (0..count).map(|i| i as f64).collect(),
            Axis::Real { .. } => (0..levels).map(|i| self.value(step(i))).collect(),
            Axis::Integer { low, high, log } => {
                let mut values: Vec<f64> = Vec::with_capacity(levels);
                for i in 0..levels {
                    // Between the ends themselves, not the cells' borders; small numbers by the logarithm round to the same one, so each
                    // is kept above the one before and leaves room for those after it.
                    let exact = if log && low > 0.0 {
                        (low.ln() + (high.ln() - low.ln()) * step(i)).exp()
                    } else if log {
                        (high + 1.0).powf(step(i)) - 1.0
                    } else {
                        low + (high - low) * step(i)
                    };
                    let least = values.last().map_or(low, |last| last + 1.0);
                    values.push(exact.round().max(least).min(high - (levels - 1 - i) as f64));
                }
                values
            }
        }
    }
}

/// All hyperparameters' values together.
#[derive(Debug, Clone)]
pub(super) struct Space {
    axes: Vec<Axis>,
}

impl Space {
    pub(super) fn new(domains: &[Domain]) -> Self {
        Space {
            axes: domains.iter().map(|&domain| Axis::new(domain)).collect(),
        }
    }

    /// How many hyperparameters there are.
    pub(super) fn width(&self) -> usize {
        self.axes.len()
    }

    /// How many hyperparameters have more than one value.
    pub(super) fn varying(&self) -> usize {
        self.axes.iter().filter(|axis| axis.count() != Some(1)).count()
    }

    /// How many points there are; none for more than can be counted.
    pub(super) fn count(&self) -> Option<u64> {
        if self.axes.iter().any(|axis| axis.count() == Some(0)) {
            return Some(0);
        }
        self.axes
            .iter()
            .try_fold(1u64, |product, axis| product.checked_mul(axis.count()?))
    }

    /// How many values a hyperparameter has; none for more than can be counted.
    pub(super) fn values(&self, axis: usize) -> Option<u64> {
        self.axes.get(axis).and_then(Axis::count)
    }

    /// Whether a hyperparameter's values have no order.
    pub(super) fn unordered(&self, axis: usize) -> bool {
        matches!(self.axes.get(axis), Some(Axis::Index(_)))
    }

    /// See [`Axis::ladder`].
    pub(super) fn ladder(&self, axis: usize, levels: usize) -> Vec<f64> {
        self.axes.get(axis).map_or_else(Vec::new, |axis| axis.ladder(levels))
    }

    /// The point at these places, each between 0 and 1.
    pub(super) fn point(&self, places: impl IntoIterator<Item = f64>) -> Vec<f64> {
        self.axes
            .iter()
            .zip(places)
            .map(|(axis, place)| axis.value(place))
            .collect()
    }

    /// Where a point's values are: between 0 and 1, but the index itself where there is no order.
    pub(super) fn places(&self, point: &[f64]) -> Vec<f64> {
        self.axes
            .iter()
            .zip(point)
            .map(|(axis, &value)| axis.place(value))
            .collect()
    }

    /// A point by chance.
    pub(super) fn draw(&self, rng: &mut Pcg64Mcg) -> Vec<f64> {
        self.axes.iter().map(|axis| axis.value(rng.random())).collect()
    }

    /// A point near another: each value but about `1 − rate` of them moves, by `reach` of the axis or so.
    pub(super) fn near(&self, point: &[f64], reach: f64, rate: f64, rng: &mut Pcg64Mcg) -> Vec<f64> {
        let moved = |(axis, &value): (&Axis, &f64)| {
            // Drawn whether used or not, so that one axis's draws do not shift another's.
            let (chance, free, offset): (f64, f64, f64) = (rng.random(), rng.random(), bell(rng));
            match axis {
                _ if chance >= rate => value,
                Axis::Fixed(value) => *value,
                Axis::Index(_) => axis.value(free),
                _ => axis.value((axis.place(value) + reach * offset).clamp(0.0, 1.0)),
            }
        };
        self.axes.iter().zip(point).map(moved).collect()
    }

    /// The point of that number in counting order, for a space that can be counted.
    pub(super) fn numbered(&self, mut number: u64) -> Vec<f64> {
        let digit = |axis: &Axis| {
            let count = axis.count().unwrap_or(1).max(1);
            let digit = (number % count) as f64;
            number /= count;
            match axis {
                Axis::Fixed(value) => *value,
                Axis::Integer { low, .. } => low + digit,
                _ => digit,
            }
        };
        self.axes.iter().map(digit).collect()
    }
}

/// Roughly normal with a standard deviation of 1, without a tail: the sum of three uniform numbers.
fn bell(rng: &mut Pcg64Mcg) -> f64 {
    2.0 * ((0..3).map(|_| rng.random::<f64>()).sum::<f64>() - 1.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(low: f64, high: f64, integer: bool, log: bool) -> Axis {
        Axis::new(Domain::Range {
            low,
            high,
            integer,
            log,
        })
    }

    #[test]
    fn values_and_places_agree() {
        for axis in [
            range(-3.0, 9.0, false, false),
            range(1e-4, 10.0, false, true),
            range(0.0, 20.0, false, true),
            range(-3.0, 9.0, true, false),
            range(1.0, 500.0, true, true),
            range(0.0, 500.0, true, true),
        ] {
            for i in 0..=1000 {
                let value = axis.value(f64::from(i) / 1000.0);
                let again = axis.value(axis.place(value));
                assert!(
                    (again - value).abs() <= 1e-9 * value.abs().max(1e-6),
                    "{axis:?}: {value} became {again}"
                );
            }
        }
    }

    #[test]
    fn ends_are_reached_and_never_passed() {
        for (low, high) in [(1e-4, 10.0), (0.0, 20.0), (3.0, 7.0), (0.1, 0.3)] {
            for log in [false, true] {
                let axis = range(low, high, false, log);
                assert_eq!(axis.value(0.0), low);
                assert_eq!(axis.value(1.0), high);
            }
        }
        let wide = range(-f64::MAX, f64::MAX, false, false);
        assert!((0..=10).all(|i| wide.value(f64::from(i) / 10.0).is_finite()));
    }

    #[test]
    fn whole_numbers_get_equal_shares() {
        let axis = range(2.0, 5.0, true, false);
        let mut shares = [0; 6];
        (0..4000).for_each(|i| shares[axis.value((f64::from(i) + 0.5) / 4000.0) as usize] += 1);
        assert_eq!(shares, [0, 0, 1000, 1000, 1000, 1000]);
    }

    #[test]
    fn zero_has_its_share_of_a_log_range() {
        let axis = range(0.0, 20.0, false, true);
        let values: Vec<f64> = (0..1600).map(|i| axis.value((f64::from(i) + 0.5) / 1600.0)).collect();
        assert_eq!(values.iter().filter(|&&v| v == 0.0).count(), 100);
        let least = values.iter().copied().filter(|&v| v > 0.0).fold(f64::MAX, f64::min);
        assert!((2e-5..2.1e-5).contains(&least), "{least}");
        // One of the six powers of ten has a sixth of the rest.
        assert_eq!(values.iter().filter(|&&v| (0.02..0.2).contains(&v)).count(), 250);
        let whole = range(0.0, 9.0, true, true);
        assert_eq!(whole.value(0.0), 0.0);
        assert_eq!(whole.value(1.0), 9.0);
    }

    #[test]
    fn ladders_are_distinct_and_reach_both_ends() {
        assert_eq!(range(0.0, 1.0, false, false).ladder(3), [0.0, 0.5, 1.0]);
        assert_eq!(range(1.0, 4.0, true, true).ladder(4), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(range(1.0, 1000.0, true, true).ladder(4), [1.0, 10.0, 100.0, 1000.0]);
        assert_eq!(range(0.0, 7.0, true, true).ladder(4), [0.0, 1.0, 3.0, 7.0]);
        for levels in 2..=40 {
            let ladder = range(0.0, 40.0, true, true).ladder(levels);
            assert!(ladder.windows(2).all(|w| w[0] < w[1]), "{ladder:?}");
            assert_eq!((ladder[0], ladder[levels - 1]), (0.0, 40.0));
        }
    }

    #[test]
    fn impossible_bounds_leave_one_value() {
        assert_eq!(range(5.0, 1.0, false, true).count(), Some(1));
        assert_eq!(range(2.0, f64::INFINITY, false, false).value(0.7), 2.0);
        assert_eq!(range(3.0, f64::NAN, true, false).count(), Some(1));
        assert_eq!(range(-1.0, 1.0, false, true).value(0.5), 0.0);
    }
}
