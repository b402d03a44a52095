//! `FROM ML.PREDICT('model', (query), …)` and its like: each streams, as a projection over the query.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, StructArray};
use datafusion::arrow::datatypes::{DataType, FieldRef, Fields};
use datafusion::common::Result as DataFusionResult;
use datafusion::functions::core;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility, lit,
};
use datafusion::prelude::ident;

use super::RelationFunction;
use super::describe::describe;
use super::inputs::{ModelInputs, model_options};
use super::scalar::{as_expected, same_model};
use super::trials::{self, TRIAL_ID};
use crate::error::{Error, Result, list};
use crate::models::{ROW_FUNCTIONS, RowFunction};
use crate::options::Options;
use crate::sql::arguments::Arguments;
use crate::sql::help::{Form, Topic};
use crate::sql::relation::{PlanContext, check_new_columns};
use crate::store::LoadedModel;

/// A function of [`ROW_FUNCTIONS`].
pub(crate) struct Rowwise(pub &'static RowFunction);

impl RelationFunction for Rowwise {
    fn name(&self) -> &'static str {
        self.0.function
    }

    fn plan(&self, mut arguments: Arguments, context: &mut PlanContext<'_>) -> Result<LogicalPlan> {
        let RowFunction { word, function, .. } = self.0;
        let trial = trials::take(&mut arguments)?;
        if arguments.positional_count() == 1 && *word == "GENERATE_EMBEDDING" {
            let name = arguments.one_model()?;
            let loaded = context.session.trial_model(&context.settings, &name, trial)?;
            let options = Options::parse(function, &[], arguments.named)?;
            return describe(&name, &loaded, word, function, &options);
        }
        let (name, input) = arguments.model_and_query()?;
        let loaded = context.session.trial_model(&context.settings, &name, trial)?;
        let Some(added) = loaded.model.row_fields(word) else {
            let others = ROW_FUNCTIONS
                .iter()
                .filter(|f| loaded.model.row_fields(f.word).is_some());
            let others: Vec<&str> = others.map(|f| f.function).collect();
            return Err(Error::request(format!(
                "{function} says nothing of model '{name}', which is a {}; of rows of such a model there are {}",
                loaded.model.kind(),
                list(others, 10)
            )));
        };
        let options = model_options(function, self.0.options, arguments.named, &name, &loaded)?;
        let inputs = ModelInputs::of(function, &loaded, input, context)?;
        check_new_columns(function, &inputs.columns, &added)?;
        answer_rows(word, &loaded, inputs, &added, &options)
    }

    fn topics(&self) -> Vec<Topic> {
        let about = self.0;
        let options = match about.options.first() {
            None => String::new(),
            Some(o) if o.default.is_empty() => format!(", {} => …", o.name),
            Some(o) => format!(" [, {} => {}]", o.name, o.default),
        };
        vec![Topic {
            name: about.function.into(),
            form: Form::Model,
            syntax: format!("FROM {}('model', (query){options})", about.function),
            summary: about.summary.into(),
            options: [about.options, &[TRIAL_ID]].concat(),
            example: about.example.into(),
        }]
    }
}

/// The columns `added` that a function of [`ROW_FUNCTIONS`] gives of rows, then the rows' own.
///
/// # Errors
/// DataFusion refuses.
pub(crate) fn answer_rows(
    word: &'static str,
    loaded: &Arc<LoadedModel>,
    inputs: ModelInputs,
    added: &[FieldRef],
    options: &Options,
) -> Result<LogicalPlan> {
    let call = ScalarUDF::from(RowUdf {
        loaded: Arc::clone(loaded),
        word,
        options: options.clone(),
        fields: Fields::from(added.to_vec()),
        signature: Signature::variadic_any(Volatility::Stable),
    })
    .call(inputs.features.clone());
    let answer = "__answer";
    let columns = 0..inputs.columns.fields().len();
    // The query's columns keep their qualifiers: an optimizer rule that moves field accesses would otherwise meet them
    // under two names.
    let inner: Vec<Expr> = std::iter::once(call.alias(answer))
        .chain(columns.clone().map(|i| inputs.column(i)))
        .collect();
    let field = ScalarUDF::from(AnswerField {
        signature: Signature::any(2, Volatility::Immutable),
    });
    let outer: Vec<Expr> = added
        .iter()
        .map(|f| field.call(vec![ident(answer), lit(f.name().as_str())]).alias(f.name()))
        .chain(columns.map(|i| inputs.column(i)))
        .collect();
    Ok(LogicalPlanBuilder::from(inputs.plan)
        .project(inner)?
        .project(outer)?
        .alias(word.to_lowercase())?
        .build()?)
}

/// A field of a struct, as `get_field` takes it. But optimizer rules move that one towards the tables, with the model's call
/// in its place: it would be made once for each field, and below columns that the query renames.
#[derive(Debug, PartialEq, Eq, Hash)]
struct AnswerField {
    signature: Signature,
}

impl ScalarUDFImpl for AnswerField {
    fn name(&self) -> &'static str {
        "ml_field"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> DataFusionResult<DataType> {
        core::get_field().return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DataFusionResult<FieldRef> {
        core::get_field().return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        core::get_field().invoke_with_args(args)
    }
}

/// All columns that a model adds to a row, as a struct.
#[derive(Debug)]
struct RowUdf {
    loaded: Arc<LoadedModel>,
    word: &'static str,
    options: Options,
    fields: Fields,
    signature: Signature,
}

impl PartialEq for RowUdf {
    fn eq(&self, other: &Self) -> bool {
        same_model(&self.loaded, &other.loaded) && self.word == other.word && self.options == other.options
    }
}

impl Eq for RowUdf {}

impl Hash for RowUdf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.loaded.manifest.name, self.loaded.manifest.version, self.word).hash(state);
    }
}

impl ScalarUDFImpl for RowUdf {
    fn name(&self) -> &'static str {
        "ml_row"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Struct(self.fields.clone()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let columns = args
            .args
            .iter()
            .zip(self.loaded.model.feature_columns())
            .map(|(a, column)| Ok(as_expected(a.to_array(args.number_rows)?, column)))
            .collect::<DataFusionResult<Vec<ArrayRef>>>()?;
        let answer = self.loaded.model.row_columns(self.word, &columns, &self.options)?;
        Ok(ColumnarValue::Array(Arc::new(StructArray::try_new(
            self.fields.clone(),
            answer,
            None,
        )?)))
    }
}
