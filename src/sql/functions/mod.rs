//! The SQL functions: one file each, named as SQL calls it; the verbs share [`verb`].

pub(crate) mod assess;
pub(crate) mod compare;
pub(crate) mod describe;
pub(crate) mod feature;
pub(crate) mod feature_info;
pub(crate) mod inputs;
pub(crate) mod pairs;
pub(crate) mod recommend;
pub(crate) mod rows;
pub(crate) mod scalar;
pub(crate) mod source;
pub(crate) mod table;
pub(crate) mod train;
pub(crate) mod training_info;
pub(crate) mod transform;
pub(crate) mod trial_info;
pub(crate) mod trials;
pub(crate) mod tuning;
pub(crate) mod verb;
pub(crate) mod window;

use std::sync::LazyLock;

use datafusion::logical_expr::LogicalPlan;

use super::arguments::Arguments;
use super::help::Topic;
use super::relation::PlanContext;
use crate::error::Result;
use crate::models::{ASSESSMENTS, DESCRIPTIONS, ROW_FUNCTIONS, factorization, kmeans, logistic};

/// A function that stands in FROM.
pub(crate) trait RelationFunction: Send + Sync {
    /// Its name, as help and errors write it.
    fn name(&self) -> &'static str;
    /// The plan of a call.
    fn plan(&self, arguments: Arguments, context: &mut PlanContext<'_>) -> Result<LogicalPlan>;
    /// Its help: one topic for each form.
    fn topics(&self) -> Vec<Topic>;
}

/// Every function that stands in FROM, in the order in which help lists them.
pub(crate) static RELATION_FUNCTIONS: LazyLock<Vec<Box<dyn RelationFunction>>> = LazyLock::new(|| {
    let mut all: Vec<Box<dyn RelationFunction>> = vec![
        Box::new(verb::Verb(&kmeans::KMeans)),
        Box::new(verb::Verb(&logistic::LogisticRegression)),
        Box::new(recommend::Recommend(&factorization::Factorization)),
        Box::new(train::Train),
        Box::new(compare::Compare),
    ];
    for about in ROW_FUNCTIONS {
        all.push(Box::new(rows::Rowwise(about)));
    }
    all.push(Box::new(pairs::Recommendations));
    all.push(Box::new(transform::TransformFunction));
    all.push(Box::new(training_info::TrainingInfoFunction));
    all.push(Box::new(feature_info::FeatureInfo));
    all.push(Box::new(trial_info::TrialInfo));
    for about in ASSESSMENTS {
        all.push(Box::new(assess::Assess(about)));
    }
    for about in DESCRIPTIONS {
        all.push(Box::new(describe::Describe(about)));
    }
    all
});
