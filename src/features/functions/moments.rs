//! Mean, deviation and range of numbers, in sums of twice a double's precision: which rows came first cannot be told from the result.

use datafusion::arrow::array::{Array, Float64Array};

use super::state::{Reader, Writer};
use crate::error::Result;

/// A number as the unevaluated sum of two doubles, some 106 bits (Dekker, 1971).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Double {
    high: f64,
    low: f64,
}

/// `a + b` and what its rounding lost (Knuth).
fn two_sum(a: f64, b: f64) -> Double {
    let high = a + b;
    let c = high - a;
    let low = (a - (high - c)) + (b - c);
    Double { high, low }
}

/// [`two_sum`] where `a` is the larger.
fn quick_two_sum(a: f64, b: f64) -> Double {
    let high = a + b;
    Double {
        high,
        low: b - (high - a),
    }
}

/// The upper half of a double's bits, and the rest (Veltkamp).
fn split(a: f64) -> (f64, f64) {
    let c = 134_217_729.0 * a;
    let high = c - (c - a);
    (high, a - high)
}

/// `a · b` and what its rounding lost.
fn two_product(a: f64, b: f64) -> Double {
    let high = a * b;
    let ((ah, al), (bh, bl)) = (split(a), split(b));
    let low = ((ah * bh - high) + ah * bl + al * bh) + al * bl;
    Double { high, low }
}

impl Double {
    fn plus(self, other: Self) -> Self {
        let s = two_sum(self.high, other.high);
        let t = two_sum(self.low, other.low);
        let s = quick_two_sum(s.high, s.low + t.high);
        quick_two_sum(s.high, s.low + t.low)
    }

    fn minus(self, other: Self) -> Self {
        self.plus(Self {
            high: -other.high,
            low: -other.low,
        })
    }

    fn times(self, other: Self) -> Self {
        let p = two_product(self.high, other.high);
        quick_two_sum(p.high, p.low + (self.high * other.low + self.low * other.high))
    }

    fn times_f64(self, other: f64) -> Self {
        self.times(Self { high: other, low: 0.0 })
    }

    fn over_f64(self, d: f64) -> Self {
        let first = self.high / d;
        let rest = self.minus(two_product(first, d));
        let second = rest.high / d;
        let rest = rest.minus(two_product(second, d));
        quick_two_sum(first, second).plus(Self {
            high: rest.high / d,
            low: 0.0,
        })
    }
}

/// Count, sums and range of the finite values; NULL, NaN and infinities are left out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Moments {
    pub(crate) count: u64,
    /// What all values are taken relative to, so that numbers far from zero keep their digits: the first that came.
    shift: f64,
    sum: Double,
    squares: Double,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Moments {
    /// Adds the rows of a column.
    pub(crate) fn add(&mut self, column: &Float64Array) {
        match column.nulls() {
            Some(nulls) => nulls.valid_indices().for_each(|i| self.add_value(column.value(i))),
            None => column.values().iter().for_each(|v| self.add_value(*v)),
        }
    }

    fn add_value(&mut self, v: f64) {
        if !v.is_finite() {
            return;
        }
        if self.count == 0 {
            (self.shift, self.low, self.high) = (v, v, v);
        }
        self.count += 1;
        self.low = self.low.min(v);
        self.high = self.high.max(v);
        let d = two_sum(v, -self.shift);
        self.sum = self.sum.plus(d);
        self.squares = self.squares.plus(d.times(d));
    }

    /// Adds what other rows gave.
    pub(crate) fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = other.clone();
            return;
        }
        // Σ(v − s) = Σ(v − t) + n·(t − s), and the same for the squares.
        let n = other.count as f64;
        let d = two_sum(other.shift, -self.shift);
        let moved = d.times(d).times_f64(n).plus(d.times(other.sum).times_f64(2.0));
        self.sum = self.sum.plus(other.sum).plus(d.times_f64(n));
        self.squares = self.squares.plus(other.squares).plus(moved);
        self.count += other.count;
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
    }

    /// The mean; 0 where there are no values.
    pub(crate) fn mean(&self) -> f64 {
        if self.count == 0 || self.low == self.high {
            return self.low;
        }
        let shift = Double {
            high: self.shift,
            low: 0.0,
        };
        let mean = shift.plus(self.sum.over_f64(self.count as f64)).high;
        if mean.is_finite() {
            mean.clamp(self.low, self.high)
        } else {
            // The sum of values near the largest double is out of range.
            self.low / 2.0 + self.high / 2.0
        }
    }

    /// The standard deviation, over `count − 1` if `sample`, else over `count`; 0 where all values are the same.
    pub(crate) fn deviation(&self, sample: bool) -> f64 {
        if self.count < 2 || self.low == self.high {
            return 0.0;
        }
        let n = self.count as f64;
        let squares = self.squares.minus(self.sum.times(self.sum).over_f64(n));
        let variance = squares.over_f64(if sample { n - 1.0 } else { n }).high;
        let deviation = variance.sqrt();
        if deviation.is_finite() && deviation > 0.0 {
            deviation
        } else {
            // Values so large or so small that their squares are not to be had.
            (self.high / 2.0 - self.low / 2.0).max(f64::MIN_POSITIVE)
        }
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.integer(self.count);
        let (sum, squares) = (self.sum, self.squares);
        for v in [
            self.shift,
            sum.high,
            sum.low,
            squares.high,
            squares.low,
            self.low,
            self.high,
        ] {
            out.number(v);
        }
    }

    pub(crate) fn read(state: &mut Reader<'_>) -> Result<Self> {
        let count = state.integer()?;
        let shift = state.number()?;
        let mut double = || {
            Ok::<_, crate::error::Error>(Double {
                high: state.number()?,
                low: state.number()?,
            })
        };
        let (sum, squares, range) = (double()?, double()?, double()?);
        Ok(Self {
            count,
            shift,
            sum,
            squares,
            low: range.high,
            high: range.low,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(values: &[f64]) -> Moments {
        let mut moments = Moments::default();
        moments.add(&Float64Array::from(values.to_vec()));
        moments
    }

    fn results(m: &Moments) -> [u64; 3] {
        [m.mean(), m.deviation(false), m.deviation(true)].map(f64::to_bits)
    }

    #[test]
    fn order_and_batches_do_not_show_in_a_single_bit() {
        let values: Vec<f64> = (0..5_000u32)
            .map(|i| f64::from(i.wrapping_mul(2_654_435_761)) / 1e7 - 200.0)
            .chain([1e9, -3e-7])
            .collect();
        let mut back = values.clone();
        back.reverse();
        let mut parts = Moments::default();
        for part in back.chunks(37) {
            let mut out = Writer::default();
            moments(part).write(&mut out);
            parts.merge(&Moments::read(&mut Reader(&out.0)).unwrap());
        }
        assert_eq!(results(&moments(&values)), results(&moments(&back)));
        assert_eq!(results(&moments(&values)), results(&parts));
    }

    #[test]
    fn digits_stay_far_from_zero() {
        let values: Vec<f64> = (0..10_000).map(|i| 1.7e9 + f64::from(i % 100)).collect();
        let m = moments(&values);
        assert_eq!(m.mean(), 1.7e9 + 49.5);
        assert_eq!(m.deviation(false), (9_999.0f64 / 12.0).sqrt());
    }

    #[test]
    fn odd_values_stay_finite() {
        let m = moments(&[f64::NAN, f64::INFINITY, 1.0, 2.0]);
        assert_eq!((m.count, m.mean(), m.deviation(false)), (2, 1.5, 0.5));
        assert_eq!((moments(&[]).mean(), moments(&[]).deviation(true)), (0.0, 0.0));
        assert_eq!((moments(&[3.5]).mean(), moments(&[3.5]).deviation(true)), (3.5, 0.0));
        for values in [[f64::MAX, -f64::MAX], [f64::MAX, f64::MAX / 2.0], [5e-324, 0.0]] {
            let m = moments(&values);
            assert!(
                m.mean().is_finite() && m.deviation(false).is_finite() && m.deviation(false) > 0.0,
                "{values:?}"
            );
        }
    }

    #[test]
    fn a_broken_state_is_an_error() {
        let mut out = Writer::default();
        moments(&[1.0]).write(&mut out);
        assert!(Moments::read(&mut Reader(&out.0[..20])).is_err());
    }
}
