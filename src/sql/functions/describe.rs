//! `FROM ML.CENTROIDS('model')`, `ML.WEIGHTS('model')` and their like: what a stored model is made of.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::LogicalPlan;

use super::RelationFunction;
use super::trials::{self, TRIAL_IDS};
use crate::error::{Error, Result, list};
use crate::models::{DESCRIPTIONS, Description};
use crate::options::Options;
use crate::sql::arguments::Arguments;
use crate::sql::help::{Form, Topic};
use crate::sql::relation::{PlanContext, scan};
use crate::store::LoadedModel;

/// A function of [`DESCRIPTIONS`].
pub(crate) struct Describe(pub &'static Description);

impl RelationFunction for Describe {
    fn name(&self) -> &'static str {
        self.0.function
    }

    fn plan(&self, mut arguments: Arguments, context: &mut PlanContext<'_>) -> Result<LogicalPlan> {
        let Description {
            word,
            function,
            options,
            ..
        } = self.0;
        let trial = trials::take(&mut arguments)?;
        let name = arguments.one_model()?;
        let options = Options::parse(function, *options, arguments.named)?;
        let tables = trials::models(&name, trial, context)?
            .into_iter()
            .map(|loaded| {
                let table = table(&name, &loaded, word, function, &options)?;
                Ok((loaded, table))
            })
            .collect::<Result<Vec<_>>>()?;
        let batch = trials::stacked(tables)?;
        scan(
            function,
            Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?),
        )
    }

    fn topics(&self) -> Vec<Topic> {
        let about = self.0;
        vec![Topic {
            name: about.function.into(),
            form: Form::Model,
            syntax: format!("FROM {}('model' [, option => value])", about.function),
            summary: about.summary.into(),
            options: [about.options, &[TRIAL_IDS]].concat(),
            example: about.example.into(),
        }]
    }
}

/// What `function` gives of a model, as a relation.
///
/// # Errors
/// It says nothing of models of this type.
pub(crate) fn describe(
    name: &str,
    loaded: &LoadedModel,
    word: &str,
    function: &str,
    options: &Options,
) -> Result<LogicalPlan> {
    let batch = table(name, loaded, word, function, options)?;
    scan(
        function,
        Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?),
    )
}

/// What `function` gives of a model.
///
/// # Errors
/// It says nothing of models of this type.
fn table(name: &str, loaded: &LoadedModel, word: &str, function: &str, options: &Options) -> Result<RecordBatch> {
    let Some(batch) = loaded.model.describe(word, options)? else {
        let mut others = vec![];
        for other in DESCRIPTIONS {
            let given = Options::parse(other.function, other.options, vec![])?;
            if loaded.model.describe(other.word, &given)?.is_some() {
                others.push(other.function);
            }
        }
        others.push("ML.TRAINING_INFO");
        return Err(Error::request(format!(
            "{function} says nothing of model '{name}', which is a {}; of such a model there are {}",
            loaded.model.kind(),
            list(others, 10)
        )));
    };
    Ok(batch)
}
