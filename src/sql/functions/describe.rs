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

/// A function of [`DESCRIPTIONS`], by its place there.
pub(crate) struct Describe(pub usize);

impl Describe {
    fn description(&self) -> &'static Description {
        &DESCRIPTIONS[self.0]
    }
}

impl RelationFunction for Describe {
    fn name(&self) -> &'static str {
        self.description().function
    }

    fn plan(&self, mut arguments: Arguments, context: &PlanContext) -> Result<LogicalPlan> {
        let Description {
            word,
            function,
            options,
            ..
        } = self.description();
        let name = arguments.one_model()?;
        let options = Options::parse(function, *options, arguments.named)?;
        let loaded = context.session.model(&context.settings, &name)?;
        let Some(batch) = loaded.model.describe(word, &options)? else {
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
                loaded.model.model_type(),
                list(others, 10)
            )));
        };
        scan(
            function,
            Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?),
        )
    }

    fn topics(&self) -> Vec<Topic> {
        let about = self.description();
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
