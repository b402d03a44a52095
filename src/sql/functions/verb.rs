//! The relation form of a verb that scores rows: `FROM KMEANS_SEGMENT((query), k => 4)`.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::Session as CatalogSession;
use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;

use super::RelationFunction;
use crate::error::Result;
use crate::exec::{Fit, FitJob, OperationExec, OutputColumn, ScoreOutput};
use crate::models::{ModelType, Roles};
use crate::options::Options;
use crate::session::Session;
use crate::sql::arguments::Arguments;
use crate::sql::functions::table::{OverQuery, scan_of};
use crate::sql::help::{Form, Topic};
use crate::sql::relation::{PlanContext, check_new_columns, columns_of, keep_columns};

/// The verb of a model type that scores rows.
pub(crate) struct Verb(pub &'static dyn ModelType);

impl RelationFunction for Verb {
    fn name(&self) -> &'static str {
        self.0.verb()
    }

    fn plan(&self, mut arguments: Arguments, context: &mut PlanContext<'_>) -> Result<LogicalPlan> {
        let verb = self.name();
        let input = arguments.one_query()?;
        let options = Options::parse(verb, self.0.verb_options(), arguments.named)?;
        let columns = columns_of(verb, &input)?;
        let roles = self.0.roles(&columns, &options)?;
        let added = self.0.verb_fields();
        check_new_columns(verb, &columns, &added)?;
        let schema = Arc::new(Schema::new(
            columns.fields().iter().chain(&added).cloned().collect::<Vec<_>>(),
        ));
        let relation = FitRelation {
            session: Arc::clone(&context.session),
            model_type: self.0,
            options,
            roles,
            input,
            columns,
            schema,
        };
        scan_of(verb, relation)
    }

    fn topics(&self) -> Vec<Topic> {
        vec![Topic::of_verb(self.0, Form::Relation)]
    }
}

/// The roles of columns once only `kept` of them are left.
pub(crate) fn renumber(roles: &Roles, kept: &[usize]) -> Roles {
    let at = |i: usize| kept.iter().position(|k| *k == i).unwrap_or(i);
    Roles {
        features: roles.features.iter().map(|i| at(*i)).collect(),
        label: roles.label.map(at),
        user: roles.user.map(at),
        item: roles.item.map(at),
        rating: roles.rating.map(at),
        start: roles.start.map(at),
    }
}

/// The columns that play a part.
pub(crate) fn used_columns(roles: &Roles) -> Vec<usize> {
    let mut used: Vec<usize> = roles
        .features
        .iter()
        .copied()
        .chain(
            [roles.label, roles.user, roles.item, roles.rating, roles.start]
                .into_iter()
                .flatten(),
        )
        .collect();
    used.sort_unstable();
    used.dedup();
    used
}

/// Only the columns `kept` of a schema.
pub(crate) fn project(schema: &Schema, kept: &[usize]) -> SchemaRef {
    Arc::new(Schema::new(
        kept.iter()
            .map(|i| Arc::clone(&schema.fields()[*i]))
            .collect::<Vec<_>>(),
    ))
}

/// The relation: holds the input's plan, which is planned physically when the relation is scanned.
#[derive(Debug)]
struct FitRelation {
    session: Arc<Session>,
    model_type: &'static dyn ModelType,
    options: Options,
    roles: Roles,
    input: LogicalPlan,
    columns: SchemaRef,
    schema: SchemaRef,
}

#[async_trait]
impl OverQuery for FitRelation {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    async fn plan(&self, state: &dyn CatalogSession, wanted: &[usize]) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let width = self.columns.fields().len();
        let mut kept = used_columns(&self.roles);
        kept.extend(wanted.iter().copied().filter(|i| *i < width));
        kept.sort_unstable();
        kept.dedup();
        let columns = wanted
            .iter()
            .map(|i| match kept.iter().position(|k| k == i) {
                Some(at) => OutputColumn::Input(at),
                None => OutputColumn::Verb(i - width),
            })
            .collect();
        let input = state
            .create_physical_plan(&keep_columns(self.input.clone(), &kept)?)
            .await?;
        let job = FitJob {
            session: Arc::clone(&self.session),
            model_type: self.model_type,
            options: self.options.clone(),
            roles: renumber(&self.roles, &kept),
            schema: project(&self.columns, &kept),
            split: None,
            transform: None,
            folds: None,
            tuning: None,
            judge: false,
            start: None,
            notices: vec![],
        };
        let schema = project(&self.schema, wanted);
        Ok(Arc::new(OperationExec::new(
            input,
            Arc::new(Fit::new(job, Arc::new(ScoreOutput { columns }), schema)),
        )))
    }
}
