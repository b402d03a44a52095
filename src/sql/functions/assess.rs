//! `FROM ML.EVALUATE('model', (query))`, `ML.CONFUSION_MATRIX(…)`, `ML.ROC_CURVE(…)`: how good a stored model is.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, Float64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::Session as CatalogSession;
use datafusion::common::Result as DataFusionResult;
use datafusion::datasource::{MemTable, TableProvider, TableType};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;

use super::RelationFunction;
use super::scalar::match_columns;
use crate::error::{Error, Result, list};
use crate::exec::{AssessExec, AssessJob};
use crate::models::{ASSESSMENTS, Assessment, column_index};
use crate::options::{OptionSpec, Options};
use crate::sql::arguments::Arguments;
use crate::sql::help::{Form, Topic};
use crate::sql::relation::{PlanContext, columns_of, keep_columns, scan};

/// A function of [`ASSESSMENTS`].
pub(crate) struct Assess(pub &'static Assessment);

impl RelationFunction for Assess {
    fn name(&self) -> &'static str {
        self.0.function
    }

    fn plan(&self, mut arguments: Arguments, context: &PlanContext) -> Result<LogicalPlan> {
        let Assessment {
            word,
            function,
            options,
            ..
        } = self.0;
        if *word == "EVALUATE" && arguments.positional_count() == 1 {
            return own_evaluation(arguments, context);
        }
        let (name, input) = arguments.model_and_query()?;
        let loaded = context.session.model(&context.settings, &name)?;
        let model = &loaded.model;
        let Some(fields) = model.assess_fields(word) else {
            let others = ASSESSMENTS.iter().filter(|a| model.assess_fields(a.word).is_some());
            let others: Vec<&str> = others.map(|a| a.function).collect();
            let hint = if others.is_empty() {
                "nothing of this kind does yet".into()
            } else {
                let does = if others.len() == 1 { "does" } else { "do" };
                format!("{} {does}", list(others, 10))
            };
            return Err(Error::request(format!(
                "{function} says nothing of model '{name}', which is a {}; {hint}",
                model.kind()
            )));
        };
        let takes = |o: &&OptionSpec| o.name != "threshold" || model.takes_threshold();
        let taken: Vec<OptionSpec> = options.iter().filter(takes).cloned().collect();
        let options = Options::parse(function, &taken, arguments.named)?;
        let columns = columns_of(function, &input)?;
        let given: Vec<_> = columns
            .fields()
            .iter()
            .map(|f| (f.name().clone(), Some(f.data_type().clone())))
            .collect();
        let mut used = match_columns(function, &loaded.manifest.name, model.feature_columns(), &given)?;
        if let Some(label) = model.label() {
            used.push(column_index(function, &columns, label)?);
        }
        let expected = model.feature_columns().iter().map(|c| c.data_type.parse().ok());
        let kept: Vec<_> = used
            .iter()
            .zip(expected.chain([None]))
            .map(|(i, expected)| match (columns.field(*i).clone(), expected) {
                // A column of NULLs alone takes the type of training.
                (field, Some(data_type)) if field.data_type() == &DataType::Null => field.with_data_type(data_type),
                (field, _) => field,
            })
            .collect();
        let job = AssessJob {
            word,
            options,
            columns: Arc::new(Schema::new(kept)),
            schema: Arc::new(Schema::new(fields)),
            kept: None,
            loaded,
        };
        let table = AssessTable {
            input: keep_columns(input, &used)?,
            job,
        };
        scan(function, Arc::new(table))
    }

    fn topics(&self) -> Vec<Topic> {
        let about = self.0;
        vec![Topic {
            name: about.function.into(),
            form: Form::Model,
            syntax: format!("FROM {}('model', (query) [, option => value])", about.function),
            summary: about.summary.into(),
            options: about.options.to_vec(),
            example: about.example.into(),
        }]
    }
}

/// `ML.EVALUATE('model')`: what was found out when the model was trained.
fn own_evaluation(mut arguments: Arguments, context: &PlanContext) -> Result<LogicalPlan> {
    let function = arguments.function;
    let name = arguments.one_model()?;
    Options::parse(function, [], arguments.named)?;
    let loaded = context.session.model(&context.settings, &name)?;
    let known = loaded.manifest.training.evaluation.as_ref().map(|e| e.metrics.clone());
    let fields = loaded.model.assess_fields("EVALUATE").unwrap_or_default();
    match known.or_else(|| loaded.model.own_metrics()) {
        Some(metrics) if metrics.len() == fields.len() && !fields.is_empty() => {
            let columns: Vec<ArrayRef> = metrics
                .into_iter()
                .map(|m| Arc::new(Float64Array::from(vec![m])) as ArrayRef)
                .collect();
            let schema = Arc::new(Schema::new(fields));
            let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
            scan(function, Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
        }
        _ => Err(Error::request(format!(
            "{function}: nothing is stored of how good model '{name}' is; say by which rows to judge it: {function}('{name}', (SELECT …))"
        ))),
    }
}

#[derive(Debug)]
struct AssessTable {
    input: LogicalPlan,
    job: AssessJob,
}

#[async_trait]
impl TableProvider for AssessTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.job.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn CatalogSession,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let input = state.create_physical_plan(&self.input).await?;
        let mut job = self.job.clone();
        if let Some(kept) = projection {
            job.schema = Arc::new(job.schema.project(kept)?);
            job.kept = Some(kept.clone());
        }
        Ok(Arc::new(AssessExec::new(input, job)))
    }
}
