//! `FROM ML.TRAINING_INFO('model')`: the passes and notices of a stored model.

use std::sync::Arc;

use datafusion::datasource::MemTable;
use datafusion::logical_expr::LogicalPlan;

use super::RelationFunction;
use super::trials::{self, TRIAL_IDS};
use crate::error::Result;
use crate::exec::training_info_batch;
use crate::options::Options;
use crate::sql::arguments::Arguments;
use crate::sql::help::{Form, Topic};
use crate::sql::relation::{PlanContext, scan};

const NAME: &str = "ML.TRAINING_INFO";

/// `ML.TRAINING_INFO`.
pub(crate) struct TrainingInfoFunction;

impl RelationFunction for TrainingInfoFunction {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, mut arguments: Arguments, context: &mut PlanContext<'_>) -> Result<LogicalPlan> {
        let trial = trials::take(&mut arguments)?;
        let name = arguments.one_model()?;
        Options::parse(NAME, [], arguments.named)?;
        let tables = trials::models(&name, trial, context)?
            .into_iter()
            .map(|loaded| {
                let batch = training_info_batch(&loaded.manifest.training)?;
                Ok((loaded, batch))
            })
            .collect::<Result<Vec<_>>>()?;
        let batch = trials::stacked(tables)?;
        scan(NAME, Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
    }

    fn topics(&self) -> Vec<Topic> {
        vec![Topic {
            name: NAME.into(),
            form: Form::Model,
            syntax: "FROM ML.TRAINING_INFO('model' [, trial_id => 3])".into(),
            summary: "A row for each pass of a stored model's training; notices stand in the last row. Of a model whose options were searched: of each trial.".into(),
            options: vec![TRIAL_IDS],
            example: "SELECT iteration, loss, notice FROM ML.TRAINING_INFO('segments')".into(),
        }]
    }
}
