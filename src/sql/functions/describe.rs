//! `FROM ML.CENTROIDS('model')`, `ML.WEIGHTS('model')` and their like: what a stored model is made of.

use std::sync::Arc;

use datafusion::datasource::MemTable;
use datafusion::logical_expr::LogicalPlan;

use super::RelationFunction;
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
        let name = arguments.one_model()?;
        let options = Options::parse(function, *options, arguments.named)?;
        let loaded = context.session.model(&context.settings, &name)?;
        describe(&name, &loaded, word, function, &options)
    }

    fn topics(&self) -> Vec<Topic> {
        let about = self.0;
        let options = if about.options.is_empty() {
            ""
        } else {
            " [, option => value]"
        };
        vec![Topic {
            name: about.function.into(),
            form: Form::Model,
            syntax: format!("FROM {}('model'{options})", about.function),
            summary: about.summary.into(),
            options: about.options.to_vec(),
            example: about.example.into(),
        }]
    }
}

/// What `function` gives of a model.
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
    scan(
        function,
        Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?),
    )
}
