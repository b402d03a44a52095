//! The feature functions in expressions: `ML.BUCKETIZE(age, [18, 65])`, and with OVER those that learn from the rows of a window:
//! `ML.STANDARD_SCALER(income) OVER ()`.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, Result as DataFusionResult, ScalarValue};
use datafusion::execution::FunctionRegistry;
use datafusion::functions::core::named_struct;
use datafusion::logical_expr::expr::{WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawAggregateExpr, RawWindowExpr};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature, Volatility, WindowFunctionDefinition, lit,
};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::expressions::Literal;
use datafusion::prelude::SessionContext;

use crate::error::{Error, Result};
use crate::exec::{FeatureCall, constant, learner};
use crate::features::functions::{FEATURE_FUNCTIONS, FeatureFunction, Learner, feature_function};
use crate::models::field;
use crate::sql::help::{Form, Topic};

/// What stands first among the arguments of a call in TRANSFORM, with its number.
const MARK: &str = "__transform#";

/// The first argument of call `number` of an expression of TRANSFORM: it learns from the training rows.
pub(crate) fn mark(number: usize) -> String {
    format!("{MARK}{number}")
}

/// The feature function of a name such as `ML.BUCKETIZE`, in any case.
fn find(name: &str) -> Option<&'static FeatureFunction> {
    let (schema, word) = name.split_once('.')?;
    feature_function(word).filter(|_| schema.eq_ignore_ascii_case("ml"))
}

/// Whether a function of this name learns from rows.
pub(crate) fn is_learned(name: &str) -> bool {
    find(name).is_some_and(|f| f.is_learned)
}

/// Whether there is a feature function of this word.
pub(crate) fn is_feature_function(word: &str) -> bool {
    feature_function(word).is_some()
}

/// Registers all feature functions.
///
/// # Errors
/// The context takes no planner.
pub(crate) fn register(ctx: &SessionContext) -> Result<()> {
    for function in FEATURE_FUNCTIONS {
        // DataFusion takes a name of two parts as it is written.
        let (upper, lower) = (
            format!("ML.{}", function.name),
            format!("ml.{}", function.name.to_lowercase()),
        );
        ctx.register_udaf(AggregateUDF::from(FeatureName {
            name: upper,
            aliases: vec![lower],
            signature: Signature::variadic_any(Volatility::Immutable),
        }));
    }
    ctx.state_ref()
        .write()
        .register_expr_planner(Arc::new(FeaturePlanner))?;
    Ok(())
}

/// Their help.
pub(crate) fn topics() -> Vec<Topic> {
    FEATURE_FUNCTIONS
        .iter()
        .map(|f| Topic {
            name: format!("ML.{}", f.name),
            form: if f.is_learned { Form::Window } else { Form::Scalar },
            syntax: f.syntax.into(),
            summary: f.summary.into(),
            options: vec![],
            example: f.example.into(),
        })
        .collect()
}

/// Stands for a feature function's name in expressions, and is replaced by [`FeaturePlanner`] before anything is planned: DataFusion
/// takes a registered scalar function without looking at OVER.
#[derive(Debug, PartialEq, Eq, Hash)]
struct FeatureName {
    name: String,
    aliases: Vec<String>,
    signature: Signature,
}

impl AggregateUDFImpl for FeatureName {
    fn name(&self) -> &str {
        &self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Null)
    }

    fn accumulator(&self, _args: AccumulatorArgs) -> DataFusionResult<Box<dyn Accumulator>> {
        Err(Error::request(format!(
            "{} is no aggregate; call it in SQL, where the session's planner tells its forms apart",
            self.name
        ))
        .into())
    }
}

/// Puts the functions in the place of their names.
#[derive(Debug)]
struct FeaturePlanner;

impl ExprPlanner for FeaturePlanner {
    fn plan_aggregate(&self, expr: RawAggregateExpr) -> DataFusionResult<PlannerResult<RawAggregateExpr>> {
        let Some(function) = find(expr.func.name()) else {
            return Ok(PlannerResult::Original(expr));
        };
        let name = function.name;
        if expr.distinct || expr.filter.is_some() || !expr.order_by.is_empty() {
            return Err(Error::request(format!(
                "ML.{name} is no aggregate: it takes no DISTINCT, FILTER or ORDER BY"
            ))
            .into());
        }
        let mut args = prepared(expr.args)?;
        if !function.is_learned {
            return Ok(PlannerResult::Planned(
                FeatureCall::stateless(function).into_udf().call(args),
            ));
        }
        let number = args.first().and_then(|first| match first {
            Expr::Literal(scalar, _) => scalar.try_as_str().flatten()?.strip_prefix(MARK)?.parse().ok(),
            _ => None,
        });
        match number {
            Some(number) => {
                args.remove(0);
                Ok(PlannerResult::Planned(
                    FeatureCall::to_learn(function, number).into_udf().call(args),
                ))
            }
            None => Err(Error::request(format!("ML.{name} learns from all rows; write ML.{name}(…) OVER ()")).into()),
        }
    }

    fn plan_window(&self, expr: RawWindowExpr) -> DataFusionResult<PlannerResult<RawWindowExpr>> {
        let Some(function) = find(expr.func_def.name()) else {
            return Ok(PlannerResult::Original(expr));
        };
        let name = function.name;
        if !function.is_learned {
            return Err(Error::request(format!("ML.{name} looks at one row at a time; write it without OVER")).into());
        }
        if expr.distinct || expr.filter.is_some() || !expr.order_by.is_empty() {
            return Err(Error::request(format!(
                "ML.{name} learns from whole windows: it takes no DISTINCT, FILTER or ORDER BY; write OVER () or OVER (PARTITION BY …)"
            ))
            .into());
        }
        let args = prepared(expr.args)?;
        let learn = AggregateUDF::from(LearnFunction {
            name: format!("learn_{}", name.to_lowercase()),
            function: name,
            signature: Signature::variadic_any(Volatility::Immutable),
        });
        let params = WindowFunctionParams {
            args: args.clone(),
            partition_by: expr.partition_by,
            order_by: vec![],
            window_frame: expr.window_frame,
            filter: None,
            null_treatment: None,
            distinct: false,
        };
        let learned = Expr::WindowFunction(Box::new(WindowFunction {
            fun: WindowFunctionDefinition::AggregateUDF(Arc::new(learn)),
            params,
        }));
        let all = std::iter::once(learned).chain(args).collect();
        Ok(PlannerResult::Planned(
            FeatureCall::of_argument(function).into_udf().call(all),
        ))
    }
}

/// Arguments with their constants worked out, and the fields of structs named as their columns are.
fn prepared(args: Vec<Expr>) -> DataFusionResult<Vec<Expr>> {
    let simplifier = ExprSimplifier::new(SimplifyContext::default());
    args.into_iter()
        .map(|arg| {
            if !arg.any_column_refs() && !arg.is_volatile() && !contains_aggregate(&arg)? {
                let coerced = simplifier.coerce(arg, &DFSchema::empty())?;
                return simplifier.simplify(coerced);
            }
            Ok(named_fields(arg))
        })
        .collect()
}

fn contains_aggregate(expr: &Expr) -> DataFusionResult<bool> {
    expr.exists(|e| Ok(matches!(e, Expr::AggregateFunction(_) | Expr::WindowFunction(_))))
}

/// `STRUCT(a, b)` as `named_struct('a', a, 'b', b)`: BigQuery's structs take the names of their columns.
fn named_fields(expr: Expr) -> Expr {
    let Expr::ScalarFunction(call) = &expr else {
        return expr;
    };
    let own_name = |place: usize, value: &Expr| match value {
        Expr::Column(c) => c.name.clone(),
        Expr::Alias(a) => a.name.clone(),
        _ => format!("f{}", place + 1),
    };
    let plain = |value: &Expr| match value {
        Expr::Alias(a) => a.expr.as_ref().clone(),
        other => other.clone(),
    };
    let fields: Vec<Expr> = match call.func.name() {
        "struct" => call
            .args
            .iter()
            .enumerate()
            .flat_map(|(i, value)| [lit(own_name(i, value)), plain(value)])
            .collect(),
        // As soon as one field is named, DataFusion names the others by their places.
        "named_struct" => call
            .args
            .chunks_exact(2)
            .enumerate()
            .flat_map(|(i, pair)| {
                let by_place = lit(format!("c{i}"));
                let name = if pair[0] == by_place {
                    lit(own_name(i, &pair[1]))
                } else {
                    pair[0].clone()
                };
                [name, plain(&pair[1])]
            })
            .collect(),
        _ => return expr,
    };
    named_struct().call(fields)
}

/// What a feature function learns from the rows of a window, as JSON; the same in every row.
#[derive(Debug)]
struct LearnFunction {
    name: String,
    function: &'static str,
    signature: Signature,
}

impl PartialEq for LearnFunction {
    fn eq(&self, other: &Self) -> bool {
        self.function == other.function
    }
}

impl Eq for LearnFunction {}

impl Hash for LearnFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.hash(state);
    }
}

impl LearnFunction {
    fn found(&self) -> Result<&'static FeatureFunction> {
        feature_function(self.function)
            .ok_or_else(|| Error::request(format!("there is no function ML.{}", self.function)))
    }
}

/// A dictionary: a window repeats its value in every row.
fn json_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

impl AggregateUDFImpl for LearnFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DataFusionResult<DataType> {
        Ok(json_type())
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DataFusionResult<Vec<datafusion::arrow::datatypes::FieldRef>> {
        Ok(vec![field(format!("{}[state]", args.name), DataType::Binary)])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DataFusionResult<Box<dyn Accumulator>> {
        let types: Vec<DataType> = args.expr_fields.iter().map(|f| f.data_type().clone()).collect();
        let constants: Vec<_> = args
            .exprs
            .iter()
            .map(|e| e.downcast_ref::<Literal>().and_then(|l| constant(l.value())))
            .collect();
        let learner = learner(self.found()?, &types, &constants)?;
        Ok(Box::new(LearnAccumulator { learner }))
    }
}

#[derive(Debug)]
struct LearnAccumulator {
    learner: Box<dyn Learner>,
}

impl Accumulator for LearnAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        match values.first() {
            Some(column) => Ok(self.learner.update(column)?),
            None => Ok(()),
        }
    }

    fn evaluate(&mut self) -> DataFusionResult<ScalarValue> {
        let text = self.learner.finish().to_json()?.to_string();
        Ok(ScalarValue::Dictionary(
            Box::new(DataType::Int32),
            Box::new(ScalarValue::from(text)),
        ))
    }

    fn size(&self) -> usize {
        self.learner.size()
    }

    fn state(&mut self) -> DataFusionResult<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Binary(Some(self.learner.state()))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DataFusionResult<()> {
        let Some(column) = states.first() else {
            return Ok(());
        };
        let states = cast(column, &DataType::Binary)?;
        for state in states.as_binary::<i32>().iter().flatten() {
            self.learner.merge(state)?;
        }
        Ok(())
    }
}
