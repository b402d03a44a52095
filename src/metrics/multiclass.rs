//! Metrics of predictions of many classes, macro-averaged: each class counts the same, however many rows it has.

use super::classification::roc_auc;

/// What `ML.EVALUATE` tells of a classifier of many classes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Multiclass {
    /// The mean of the classes' precision, 0 for a class that was never predicted. The mean is over the classes that have rows or were
    /// predicted, as for recall and f1.
    pub precision: f64,
    /// The mean of the classes' recall.
    pub recall: f64,
    /// The share of rows predicted right.
    pub accuracy: f64,
    /// The mean of the classes' f1: not the f1 of the means.
    pub f1_score: f64,
    /// The mean, over the classes with rows, of the mean −ln(probability of the class) of their rows. Probabilities are kept 10⁻¹⁵
    /// from 0.
    pub log_loss: f64,
    /// The mean of the areas under the curves of each class against the others, over the classes for which there is one; none if there is
    /// none.
    pub roc_auc: Option<f64>,
}

/// Rows by expected and predicted class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfusionMatrix {
    classes: usize,
    counts: Vec<u64>,
}

impl ConfusionMatrix {
    /// Nothing counted yet, of so many classes.
    pub fn new(classes: usize) -> Self {
        Self {
            classes,
            counts: vec![0; classes * classes],
        }
    }

    /// Counts a row; classes are below the number of classes.
    pub fn add(&mut self, expected: usize, predicted: usize) {
        self.counts[expected * self.classes + predicted] += 1;
    }

    /// How many rows of class `expected` were predicted to be of class `predicted`.
    pub fn count(&self, expected: usize, predicted: usize) -> u64 {
        self.counts[expected * self.classes + predicted]
    }

    /// How many rows are of class `expected`.
    pub fn expected(&self, expected: usize) -> u64 {
        (0..self.classes).map(|predicted| self.count(expected, predicted)).sum()
    }

    /// How many rows were predicted to be of class `predicted`.
    pub fn predicted(&self, predicted: usize) -> u64 {
        (0..self.classes).map(|expected| self.count(expected, predicted)).sum()
    }
}

/// The class of the largest number; of equal ones, the last.
pub fn highest(probabilities: &[f64]) -> usize {
    let mut best = 0;
    for (class, p) in probabilities.iter().enumerate() {
        if *p >= probabilities[best] {
            best = class;
        }
    }
    best
}

impl Multiclass {
    /// Compares predictions with labels: for each class the rows' probabilities, and the class of each row. None without rows.
    pub fn of(probabilities: &[Vec<f64>], labels: &[usize]) -> Option<Self> {
        let classes = probabilities.len();
        if labels.is_empty() || classes == 0 {
            return None;
        }
        let mut matrix = ConfusionMatrix::new(classes);
        let mut losses = vec![0.0; classes];
        let mut of_row = vec![0.0; classes];
        for (row, label) in labels.iter().enumerate() {
            for (p, of_class) in of_row.iter_mut().zip(probabilities) {
                *p = of_class[row];
            }
            matrix.add(*label, highest(&of_row));
            losses[*label] -= of_row[*label].max(1e-15).ln();
        }
        let with_rows: Vec<usize> = (0..classes).filter(|k| matrix.expected(*k) > 0).collect();
        let seen: Vec<usize> = (0..classes)
            .filter(|k| matrix.expected(*k) + matrix.predicted(*k) > 0)
            .collect();
        let right = |k: usize| matrix.count(k, k) as f64;
        let ratio = |part: f64, whole: u64| if whole == 0 { 0.0 } else { part / whole as f64 };
        let areas: Vec<f64> = with_rows
            .iter()
            .filter_map(|k| roc_auc(&probabilities[*k], &labels.iter().map(|l| l == k).collect::<Vec<_>>()))
            .collect();
        Some(Self {
            precision: mean(seen.iter().map(|k| ratio(right(*k), matrix.predicted(*k)))),
            recall: mean(seen.iter().map(|k| ratio(right(*k), matrix.expected(*k)))),
            accuracy: (0..classes).map(right).sum::<f64>() / labels.len() as f64,
            f1_score: mean(
                seen.iter()
                    .map(|k| ratio(2.0 * right(*k), matrix.expected(*k) + matrix.predicted(*k))),
            ),
            log_loss: mean(with_rows.iter().map(|k| losses[*k] / matrix.expected(*k) as f64)),
            roc_auc: (!areas.is_empty()).then(|| mean(areas.iter().copied())),
        })
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_counts_the_same() {
        // Three rows of class 0, one of class 1, one of class 2; class 2 is never predicted, class 3 neither has rows nor is predicted.
        let probabilities = [
            vec![0.7, 0.6, 0.2, 0.3, 0.5],
            vec![0.2, 0.3, 0.7, 0.6, 0.3],
            vec![0.1, 0.1, 0.1, 0.1, 0.2],
            vec![0.0; 5],
        ];
        let m = Multiclass::of(&probabilities, &[0, 0, 0, 1, 2]).unwrap();
        assert!((m.precision - (2.0 / 3.0 + 0.5 + 0.0) / 3.0).abs() < 1e-15);
        assert!((m.recall - (2.0 / 3.0 + 1.0 + 0.0) / 3.0).abs() < 1e-15);
        assert!((m.f1_score - (4.0 / 6.0 + 2.0 / 3.0 + 0.0) / 3.0).abs() < 1e-15);
        assert_eq!(m.accuracy, 0.6);
        let loss = (-(0.7f64.ln() + 0.6f64.ln() + 0.2f64.ln()) / 3.0 - 0.6f64.ln() - 0.2f64.ln()) / 3.0;
        assert!((m.log_loss - loss).abs() < 1e-15);
        // Class 0: of 6 pairs, 0.7 and 0.6 win both, 0.2 none. Class 1: 0.6 wins three of four. Class 2: all four.
        assert!((m.roc_auc.unwrap() - (4.0 / 6.0 + 0.75 + 1.0) / 3.0).abs() < 1e-15);
    }

    #[test]
    fn ends() {
        assert_eq!(Multiclass::of(&[vec![], vec![]], &[]), None);
        // Certain and wrong is dear, but finite; one class alone has no curve.
        let m = Multiclass::of(&[vec![0.0], vec![1.0]], &[0]).unwrap();
        assert!(m.log_loss < 40.0 && m.roc_auc.is_none() && m.recall == 0.0);
        assert_eq!(highest(&[0.2, 0.4, 0.4, 0.0]), 2);
    }
}
