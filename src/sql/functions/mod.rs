//! The SQL functions: one file each, named as SQL calls it; the verbs share [`verb`].

pub(crate) mod assess;
pub(crate) mod describe;
pub(crate) mod google;
pub(crate) mod predict;
pub(crate) mod recommend;
pub(crate) mod scalar;
pub(crate) mod train;
pub(crate) mod training_info;
pub(crate) mod verb;
pub(crate) mod window;

use datafusion::logical_expr::LogicalPlan;

use super::arguments::Arguments;
use super::help::Topic;
use super::relation::PlanContext;
use crate::error::Result;
use crate::models::{factorization, kmeans, logistic};

/// A function that stands in FROM.
pub(crate) trait RelationFunction: Sync {
    /// Its name, as help and errors write it.
    fn name(&self) -> &'static str;
    /// The plan of a call.
    fn plan(&self, arguments: Arguments, context: &PlanContext) -> Result<LogicalPlan>;
    /// Its help: one topic for each form.
    fn topics(&self) -> Vec<Topic>;
}

/// Every function that stands in FROM, in the order in which help lists them.
pub(crate) static RELATION_FUNCTIONS: &[&dyn RelationFunction] = &[
    &verb::Verb(&kmeans::KMeans),
    &verb::Verb(&logistic::LogisticRegression),
    &recommend::Recommend(&factorization::Factorization),
    &train::Train,
    &predict::Predict,
    &training_info::TrainingInfoFunction,
    &assess::Assess(0),
    &assess::Assess(1),
    &assess::Assess(2),
    &describe::Describe(0),
    &describe::Describe(1),
    &describe::Describe(2),
];
