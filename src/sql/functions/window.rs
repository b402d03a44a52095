//! The window form of `KMEANS_SEGMENT`: `KMEANS_SEGMENT(4, recency, frequency) OVER (PARTITION BY region)`, and what tells it
//! from the scalar form.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::logical_expr::expr::{WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::function::{AccumulatorArgs, PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawAggregateExpr, RawWindowExpr};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, Expr, PartitionEvaluator, ScalarUDF, Signature, Volatility,
    WindowFunctionDefinition, WindowUDF, WindowUDFImpl,
};
use datafusion::physical_expr::expressions::Literal;

use crate::error::{Error, Result};
use crate::exec::megabytes;
use crate::models::{FEATURE_TYPES, FeatureKind, FitContext, ModelType, UnlimitedMemory, field, kmeans};
use crate::options::{Options, Value};
use crate::session::Session;

const VERB: &str = "KMEANS_SEGMENT";
const SYNTAX: &str = "KMEANS_SEGMENT(4, recency, frequency) OVER (PARTITION BY region)";

/// Segments within each partition of a window.
#[derive(Debug)]
pub(crate) struct SegmentWindow {
    session: Arc<Session>,
    signature: Signature,
}

impl SegmentWindow {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self {
            session,
            signature: Signature::variadic_any(Volatility::Immutable),
        }
    }
}

/// Stands for the name `kmeans_segment` in expressions, and is replaced by [`OverDecides`] before anything is planned.
///
/// DataFusion 55 takes a registered scalar function without looking at OVER, so a name that is both a scalar and a window
/// function has to be registered as neither.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct SegmentName {
    signature: Signature,
}

impl SegmentName {
    pub(crate) fn new() -> Self {
        Self {
            signature: Signature::variadic_any(Volatility::Stable),
        }
    }
}

fn unreplaced() -> Error {
    Error::request(format!(
        "{VERB} is no aggregate; call it in SQL, where the session's planner tells its forms apart"
    ))
}

impl AggregateUDFImpl for SegmentName {
    fn name(&self) -> &'static str {
        "kmeans_segment"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Int64)
    }

    fn accumulator(&self, _args: AccumulatorArgs) -> DataFusionResult<Box<dyn Accumulator>> {
        Err(unreplaced().into())
    }
}

/// With OVER, `kmeans_segment` is the window function; without, the scalar one.
#[derive(Debug)]
pub(crate) struct OverDecides {
    pub scalar: Arc<ScalarUDF>,
    pub window: Arc<WindowUDF>,
}

impl ExprPlanner for OverDecides {
    fn plan_aggregate(&self, expr: RawAggregateExpr) -> DataFusionResult<PlannerResult<RawAggregateExpr>> {
        if expr.func.name() != self.window.name() {
            return Ok(PlannerResult::Original(expr));
        }
        if expr.distinct || expr.filter.is_some() || !expr.order_by.is_empty() {
            return Err(Error::request(format!(
                "{VERB} is no aggregate: it takes no DISTINCT, FILTER or ORDER BY"
            ))
            .into());
        }
        Ok(PlannerResult::Planned(self.scalar.call(expr.args)))
    }

    fn plan_window(&self, expr: RawWindowExpr) -> DataFusionResult<PlannerResult<RawWindowExpr>> {
        if expr.func_def.name() != self.window.name() {
            return Ok(PlannerResult::Original(expr));
        }
        if expr.distinct || expr.filter.is_some() {
            return Err(Error::request(format!("{VERB} with OVER takes neither DISTINCT nor FILTER")).into());
        }
        let params = WindowFunctionParams {
            args: expr.args,
            partition_by: expr.partition_by,
            order_by: expr.order_by,
            window_frame: expr.window_frame,
            filter: None,
            null_treatment: expr.null_treatment,
            distinct: false,
        };
        let fun = WindowFunctionDefinition::WindowUDF(Arc::clone(&self.window));
        Ok(PlannerResult::Planned(Expr::WindowFunction(Box::new(WindowFunction {
            fun,
            params,
        }))))
    }
}

impl PartialEq for SegmentWindow {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for SegmentWindow {}

impl std::hash::Hash for SegmentWindow {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        VERB.hash(state);
    }
}

/// The columns as a query would name them; an expression without a name of its own gets one.
fn schema_of(fields: &[FieldRef]) -> Schema {
    Schema::new(
        fields
            .iter()
            .enumerate()
            .map(|(i, f)| Field::new(format!("{}#{}", f.name(), i + 1), f.data_type().clone(), true))
            .collect::<Vec<_>>(),
    )
}

impl WindowUDFImpl for SegmentWindow {
    fn name(&self) -> &'static str {
        "kmeans_segment"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn field(&self, args: WindowUDFFieldArgs) -> DataFusionResult<FieldRef> {
        let fields = args.input_fields();
        if fields.len() < 2 || !fields[0].data_type().is_integer() {
            return Err(Error::request(format!(
                "{VERB} with OVER takes the number of segments and then the features: {SYNTAX}"
            ))
            .into());
        }
        let schema = schema_of(&fields[1..]);
        kmeans::KMeans.roles(&schema, &Options::default().with("k", Value::Int(1)))?;
        for (f, given) in schema.fields().iter().zip(&fields[1..]) {
            if FeatureKind::of(f.data_type()).is_none() {
                return Err(Error::request(format!(
                    "{VERB}: column '{}' of type {} cannot be a feature; cast it to {FEATURE_TYPES}",
                    given.name(),
                    given.data_type()
                ))
                .into());
            }
        }
        Ok(field(args.name(), DataType::Int64))
    }

    fn partition_evaluator(&self, args: PartitionEvaluatorArgs) -> DataFusionResult<Box<dyn PartitionEvaluator>> {
        let k = args
            .input_exprs()
            .first()
            .and_then(|e| e.downcast_ref::<Literal>())
            .map(|l| l.value().clone());
        let k = match k.map(|s| s.cast_to(&DataType::Int64)) {
            Some(Ok(ScalarValue::Int64(Some(k)))) => Value::Int(k),
            Some(Ok(_)) => Value::Null,
            _ => {
                return Err(Error::request(format!(
                    "{VERB} with OVER: the number of segments is a constant: {SYNTAX}"
                ))
                .into());
            }
        };
        let options = Options::parse(VERB, kmeans::KMeans.options(), vec![("k".into(), k)])?;
        let schema = schema_of(&args.input_fields()[1..]);
        Ok(Box::new(SegmentEvaluator {
            session: Arc::clone(&self.session),
            options,
            names: schema.fields().iter().map(|f| f.name().clone()).collect(),
        }))
    }
}

#[derive(Debug)]
struct SegmentEvaluator {
    session: Arc<Session>,
    options: Options,
    names: Vec<String>,
}

impl PartitionEvaluator for SegmentEvaluator {
    fn evaluate_all(&mut self, values: &[ArrayRef], num_rows: usize) -> DataFusionResult<ArrayRef> {
        Ok(self.segments(&values[1..], num_rows)?)
    }
}

impl SegmentEvaluator {
    fn segments(&self, features: &[ArrayRef], row_count: usize) -> Result<ArrayRef> {
        // DataFusion holds a window's rows without accounting for them, so what the fit adds, and what it stands on, is
        // asked for here.
        let bytes = features.iter().map(|a| a.get_array_memory_size()).sum::<usize>() * 2;
        let reservation = MemoryConsumer::new("datafusion-ml window").register(&self.session.runtime().memory_pool);
        reservation.try_grow(bytes).map_err(|e| {
            Error::memory(format!(
                "{VERB} with OVER: a window of {row_count} rows needs {}, more than the memory limit leaves; use the relation \
                 form, FROM {VERB}((SELECT …), k => …), which spills, or raise the limit",
                megabytes(bytes)
            ))
            .with_source(e)
        })?;
        let settings = self.session.settings();
        let threads = match settings.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            n => n,
        };
        let pool = self.session.pool(threads)?;
        let cancel = AtomicBool::new(false);
        let observer = self.session.observer();
        let compute = Session::compute(&pool, &cancel, &settings);
        let context = FitContext {
            compute: &compute,
            seed: settings.seed,
            observer: observer.as_ref(),
            memory: &UnlimitedMemory,
            start: None,
        };
        let fitted = kmeans::fit_arrays(features, &self.names, &self.options, &context);
        compute.notices().iter().for_each(|notice| observer.notice(notice));
        observer.finished();
        fitted?.model.score(features)
    }
}
