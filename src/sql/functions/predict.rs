//! `FROM ML.PREDICT('model', (query), …)`: streams, as a projection over the query.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, StructArray};
use datafusion::arrow::datatypes::{DataType, Fields};
use datafusion::common::Result as DataFusionResult;
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::prelude::ident;

use super::RelationFunction;
use super::scalar::{as_expected, match_columns, same_model};
use crate::error::Result;
use crate::options::Options;
use crate::sql::arguments::Arguments;
use crate::sql::help::{Form, Topic};
use crate::sql::relation::{PlanContext, check_new_columns, columns_of};
use crate::store::LoadedModel;

const NAME: &str = "ML.PREDICT";

/// `ML.PREDICT`.
pub(crate) struct Predict;

impl RelationFunction for Predict {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, mut arguments: Arguments, context: &PlanContext) -> Result<LogicalPlan> {
        let (name, input) = arguments.model_and_query()?;
        let loaded = context.session.model(&context.settings, &name)?;
        let options = Options::parse(NAME, loaded.model.predict_options(), arguments.named)?;
        let columns = columns_of(NAME, &input)?;
        let given: Vec<_> = columns
            .fields()
            .iter()
            .map(|f| (f.name().clone(), Some(f.data_type().clone())))
            .collect();
        let used = match_columns(NAME, &loaded.manifest.name, loaded.model.feature_columns(), &given)?;
        let added = loaded.model.predict_fields();
        check_new_columns(NAME, &columns, &added)?;
        let function = PredictFunction {
            loaded,
            options,
            fields: Fields::from(added.clone()),
            signature: Signature::variadic_any(Volatility::Stable),
        };
        let column = |i: usize| Expr::Column(input.schema().qualified_field(i).into());
        let call = ScalarUDF::from(function).call(used.into_iter().map(column).collect());
        let predicted = "__predicted";
        // The query's columns keep their qualifiers: an optimizer rule that moves field accesses would otherwise meet them
        // under two names.
        let inner: Vec<Expr> = std::iter::once(call.alias(predicted))
            .chain((0..columns.fields().len()).map(column))
            .collect();
        let outer: Vec<Expr> = added
            .iter()
            .map(|f| get_field(ident(predicted), f.name().as_str()).alias(f.name()))
            .chain((0..columns.fields().len()).map(column))
            .collect();
        Ok(LogicalPlanBuilder::from(input)
            .project(inner)?
            .project(outer)?
            .alias("predict")?
            .build()?)
    }

    fn topics(&self) -> Vec<Topic> {
        vec![Topic {
            name: NAME.into(),
            form: Form::Model,
            syntax: "FROM ML.PREDICT('model', (query) [, threshold => 0.5])".into(),
            summary:
                "What a stored model says of each row of a query: BigQuery ML's columns for its type, then the query's."
                    .into(),
            options: vec![],
            example: "SELECT * FROM ML.PREDICT('churn', (SELECT * FROM customers), threshold => 0.3)".into(),
        }]
    }
}

/// All predicted columns of a row, as a struct.
#[derive(Debug)]
struct PredictFunction {
    loaded: Arc<LoadedModel>,
    options: Options,
    fields: Fields,
    signature: Signature,
}

impl PartialEq for PredictFunction {
    fn eq(&self, other: &Self) -> bool {
        same_model(&self.loaded, &other.loaded) && self.options == other.options
    }
}

impl Eq for PredictFunction {}

impl Hash for PredictFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.loaded.manifest.name, self.loaded.manifest.version).hash(state);
    }
}

impl ScalarUDFImpl for PredictFunction {
    fn name(&self) -> &'static str {
        "ml_predict"
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
        let predicted = self.loaded.model.predict_columns(&columns, &self.options)?;
        Ok(ColumnarValue::Array(Arc::new(StructArray::try_new(
            self.fields.clone(),
            predicted,
            None,
        )?)))
    }
}
