//! Metrics of predicted numbers, by BigQuery ML's names.

/// What `ML.EVALUATE` tells of a regression.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Regression {
    /// The mean of |y − ŷ|.
    pub mean_absolute_error: f64,
    /// The mean of (y − ŷ)².
    pub mean_squared_error: f64,
    /// The mean of (ln(1 + y) − ln(1 + ŷ))²; none where a number is −1 or less.
    pub mean_squared_log_error: Option<f64>,
    /// The lower median of |y − ŷ|: of an even number of rows the lower of the middle two, as BigQuery ML has it.
    pub median_absolute_error: f64,
    /// 1 − Σ(y − ŷ)² / Σ(y − mean)²; none where the label is constant.
    pub r2_score: Option<f64>,
    /// 1 − variance(y − ŷ) / variance(y); none where the label is constant.
    pub explained_variance: Option<f64>,
}

impl Regression {
    /// The metrics of predictions; none without rows.
    pub fn of(labels: &[f64], predictions: &[f64]) -> Option<Self> {
        let n = labels.len() as f64;
        if labels.is_empty() {
            return None;
        }
        let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / n;
        let errors: Vec<f64> = labels.iter().zip(predictions).map(|(y, p)| y - p).collect();
        let mut absolute: Vec<f64> = errors.iter().map(|e| e.abs()).collect();
        let mean_squared_error = mean(&mut errors.iter().map(|e| e * e));
        let (label_mean, error_mean) = (mean(&mut labels.iter().copied()), mean(&mut errors.iter().copied()));
        let spread = mean(&mut labels.iter().map(|y| (y - label_mean).powi(2)));
        let error_spread = mean(&mut errors.iter().map(|e| (e - error_mean).powi(2)));
        let share = |part: f64| (spread > 0.0).then(|| 1.0 - part / spread);
        let has_logs = labels.iter().chain(predictions).all(|v| *v > -1.0);
        let logs = || {
            mean(
                &mut labels
                    .iter()
                    .zip(predictions)
                    .map(|(y, p)| (y.ln_1p() - p.ln_1p()).powi(2)),
            )
        };
        let mean_absolute_error = mean(&mut absolute.iter().copied());
        let middle = (absolute.len() - 1) / 2;
        let (_, median, _) = absolute.select_nth_unstable_by(middle, f64::total_cmp);
        Some(Self {
            mean_absolute_error,
            mean_squared_error,
            mean_squared_log_error: has_logs.then(logs),
            median_absolute_error: *median,
            r2_score: share(mean_squared_error),
            explained_variance: share(error_spread),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_scikit_learn_says() {
        // The example of scikit-learn's documentation of each: y = [3, −0.5, 2, 7], ŷ = [2.5, 0, 2, 8].
        let m = Regression::of(&[3.0, -0.5, 2.0, 7.0], &[2.5, 0.0, 2.0, 8.0]).unwrap();
        assert_eq!(
            (m.mean_absolute_error, m.mean_squared_error, m.median_absolute_error),
            (0.5, 0.375, 0.5)
        );
        assert!((m.r2_score.unwrap() - 0.948_608_137).abs() < 1e-9);
        assert!((m.explained_variance.unwrap() - 0.957_173_447).abs() < 1e-9);
        let m = Regression::of(&[3.0, 5.0, 2.5, 7.0], &[2.5, 5.0, 4.0, 8.0]).unwrap();
        assert!((m.mean_squared_log_error.unwrap() - 0.039_730_122).abs() < 1e-9);
    }

    #[test]
    fn the_median_is_the_lower_one() {
        let m = Regression::of(&[0.0; 4], &[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!((m.median_absolute_error, m.r2_score), (2.0, None));
        assert_eq!(Regression::of(&[0.0], &[-2.0]).unwrap().mean_squared_log_error, None);
        assert_eq!(Regression::of(&[], &[]), None);
    }
}
