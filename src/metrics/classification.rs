//! Metrics of two-class predictions. Labels are `true` for the positive class.

/// The area under the receiver operating characteristic: the probability that a positive row scores above a negative one, ties
/// counting half (the Mann–Whitney statistic). None without rows of both classes or where a score is NaN.
pub fn roc_auc(scores: &[f64], labels: &[bool]) -> Option<f64> {
    if scores.iter().any(|s| s.is_nan()) {
        return None;
    }
    let mut rows: Vec<(f64, bool)> = scores.iter().copied().zip(labels.iter().copied()).collect();
    rows.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let positives = rows.iter().filter(|r| r.1).count() as f64;
    let negatives = rows.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    // Twice the number of pairs in which the positive row is above, so that a tie counts a whole number.
    let (mut twice_above, mut negatives_below) = (0.0, 0.0);
    for ties in rows.chunk_by(|a, b| a.0 == b.0) {
        let tied_positives = ties.iter().filter(|r| r.1).count() as f64;
        let tied_negatives = ties.len() as f64 - tied_positives;
        twice_above += tied_positives * (2.0 * negatives_below + tied_negatives);
        negatives_below += tied_negatives;
    }
    Some(twice_above / (2.0 * positives * negatives))
}

/// The mean of −ln(probability of the true class), natural logarithm; probabilities are kept 10⁻¹⁵ from 0 and 1, as scikit-learn
/// once did and others do, so that one certain error does not make it infinite. None without rows.
pub fn log_loss(probabilities: &[f64], labels: &[bool]) -> Option<f64> {
    let losses = probabilities.iter().zip(labels).map(|(p, positive)| {
        let p = p.clamp(1e-15, 1.0 - 1e-15);
        if *positive { -p.ln() } else { -(-p).ln_1p() }
    });
    let (sum, count) = losses.fold((0.0, 0u64), |(sum, count), loss| (sum + loss, count + 1));
    (count > 0).then(|| sum / count as f64)
}

/// How often predictions and labels met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Confusion {
    /// Positive and predicted so.
    pub true_positives: u64,
    /// Negative but predicted positive.
    pub false_positives: u64,
    /// Negative and predicted so.
    pub true_negatives: u64,
    /// Positive but predicted negative.
    pub false_negatives: u64,
}

impl Confusion {
    /// Counts rows: those with a probability of at least `threshold` are predicted positive.
    pub fn at(threshold: f64, probabilities: &[f64], labels: &[bool]) -> Self {
        let mut counts = Self::default();
        for (p, positive) in probabilities.iter().zip(labels) {
            *match (*p >= threshold, *positive) {
                (true, true) => &mut counts.true_positives,
                (true, false) => &mut counts.false_positives,
                (false, false) => &mut counts.true_negatives,
                (false, true) => &mut counts.false_negatives,
            } += 1;
        }
        counts
    }

    /// The share of rows predicted right; 0 without rows.
    pub fn accuracy(&self) -> f64 {
        let right = self.true_positives + self.true_negatives;
        ratio(right, right + self.false_positives + self.false_negatives)
    }

    /// The share of rows predicted positive that are; 0 without such rows.
    pub fn precision(&self) -> f64 {
        ratio(self.true_positives, self.true_positives + self.false_positives)
    }

    /// The share of positive rows that were predicted so; 0 without such rows.
    pub fn recall(&self) -> f64 {
        ratio(self.true_positives, self.true_positives + self.false_negatives)
    }

    /// The harmonic mean of precision and recall; 0 where both are.
    pub fn f1_score(&self) -> f64 {
        ratio(
            2 * self.true_positives,
            2 * self.true_positives + self.false_positives + self.false_negatives,
        )
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auc_counts_ties_half() {
        assert_eq!(roc_auc(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]), Some(0.75));
        assert_eq!(roc_auc(&[0.5; 4], &[false, true, false, true]), Some(0.5));
        assert_eq!(roc_auc(&[0.1, 0.2, 0.2, 0.3], &[false, false, true, true]), Some(0.875));
        assert_eq!(roc_auc(&[0.0, -0.0], &[false, true]), Some(0.5));
        assert_eq!(roc_auc(&[0.1, 0.2], &[true, true]), None);
        assert_eq!(roc_auc(&[f64::NAN, 0.2], &[true, false]), None);
    }

    #[test]
    fn log_loss_is_finite() {
        let loss = log_loss(&[0.9, 0.2], &[true, false]).unwrap();
        assert!((loss - (-(0.9f64.ln()) - 0.8f64.ln()) / 2.0).abs() < 1e-15);
        assert!(log_loss(&[0.0, 1.0], &[true, false]).unwrap() < 40.0);
        assert_eq!(log_loss(&[], &[]), None);
    }

    #[test]
    fn confusion() {
        let c = Confusion::at(0.5, &[0.9, 0.5, 0.4, 0.1], &[true, false, true, false]);
        assert_eq!(
            c,
            Confusion {
                true_positives: 1,
                false_positives: 1,
                true_negatives: 1,
                false_negatives: 1
            }
        );
        assert_eq!(
            (c.accuracy(), c.precision(), c.recall(), c.f1_score()),
            (0.5, 0.5, 0.5, 0.5)
        );
        assert_eq!(Confusion::default().precision(), 0.0);
    }
}
