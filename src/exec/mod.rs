//! Physical operators: fit, and what comes of it; with memory limits, spilling, cancellation, progress and metrics.

mod answer;
mod assess;
mod collect;
mod compare;
mod feature_call;
mod fit;
mod judge;
mod learn;
mod operator;
mod pairs;
mod plan;
mod rank;
mod score;
mod train;
mod transform;
mod trials;

pub(crate) use answer::Answer;
pub(crate) use assess::AssessJob;
pub(crate) use compare::{Candidate, CompareJob};
pub(crate) use feature_call::{FeatureCall, constant, learner};
pub(crate) use fit::{CancelOnDrop, FitJob, megabytes};
pub(crate) use operator::OperationExec;
pub(crate) use pairs::{PairColumn, PairsJob};
pub(crate) use plan::Fit;
pub(crate) use rank::{RankOutput, recommendation_fields};
pub(crate) use score::{OutputColumn, ScoreOutput};
pub(crate) use train::{TrainOutput, training_info_batch, training_info_schema};
pub(crate) use transform::{TransformColumn, TransformJob, settle_with};
pub(crate) use trials::{Hyperparameter, Tuning};
