//! `SAFE.f(…)`: NULL in place of an error, for any scalar function.
//!
//! It is written `google_safe(f(…))` for DataFusion, and becomes a function around `f` before the plan is analysed: that one
//! evaluates a batch with `f`, and row by row if `f` fails. Only the errors of `f` itself are NULL, not those of its
//! arguments, as there.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, new_null_array};
use datafusion::arrow::compute::concat;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, DataFusionError, Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::expr::{ScalarFunction, TryCast};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use super::function::{BASE, Kind, Spec, returns_first};
use crate::error::Error;

/// The name of the function that marks what is to be safe.
const MARK: &str = "google_safe";

pub(super) const ALL: &[Spec] = &[Spec {
    title: "SAFE",
    name: MARK,
    syntax: "SAFE.function(…)",
    summary: "A scalar function that gives NULL where it would give an error.",
    example: "SELECT SAFE.SUBSTR('foo', 0, -2)",
    takes: &[Kind::Any],
    returns: returns_first,
    eval: |call| Ok(Arc::clone(&call.arrays[0])),
    ..BASE
}];

/// Puts [`Safe`] in place of the mark.
#[derive(Debug)]
pub(super) struct MakeSafe;

impl FunctionRewrite for MakeSafe {
    fn name(&self) -> &str {
        MARK
    }

    fn rewrite(&self, expr: Expr, _: &DFSchema, _: &ConfigOptions) -> DataFusionResult<Transformed<Expr>> {
        let inner = match expr {
            Expr::ScalarFunction(ScalarFunction { func, mut args }) if func.name() == MARK && args.len() == 1 => {
                args.swap_remove(0)
            }
            other => return Ok(Transformed::no(other)),
        };
        Ok(Transformed::yes(match inner {
            Expr::ScalarFunction(ScalarFunction { func, args }) => {
                let safe = ScalarUDF::from(Safe { inner: func });
                Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(safe), args))
            }
            Expr::Cast(cast) => Expr::TryCast(TryCast {
                expr: cast.expr,
                field: cast.field,
            }),
            // These are no functions for DataFusion, and do not fail: operators stand for SAFE_DIVIDE and parts of dates.
            other @ (Expr::Case(_) | Expr::Literal(..) | Expr::Column(_) | Expr::TryCast(_) | Expr::BinaryExpr(_)) => {
                other
            }
            other => {
                let message = format!("SAFE stands before a scalar function, and {other} is none; leave it out");
                return Err(Error::request(message).into());
            }
        }))
    }
}

/// A scalar function whose errors are NULL.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Safe {
    inner: Arc<ScalarUDF>,
}

impl Safe {
    /// NULL for an error of the values; other errors are ours.
    fn null_for(error: DataFusionError, to: &DataType) -> DataFusionResult<ScalarValue> {
        match error.find_root() {
            DataFusionError::Internal(_)
            | DataFusionError::NotImplemented(_)
            | DataFusionError::ResourcesExhausted(_) => Err(error),
            _ => ScalarValue::try_from(to),
        }
    }

    fn row_by_row(&self, args: &ScalarFunctionArgs) -> DataFusionResult<ArrayRef> {
        let to = args.return_field.data_type();
        let rows: Vec<ArrayRef> = (0..args.number_rows)
            .map(|row| {
                let of_row = |value: &ColumnarValue| match value {
                    ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(row, 1)),
                    scalar @ ColumnarValue::Scalar(_) => scalar.clone(),
                };
                let one = ScalarFunctionArgs {
                    args: args.args.iter().map(of_row).collect(),
                    number_rows: 1,
                    ..args.clone()
                };
                match self.inner.invoke_with_args(one) {
                    Ok(value) => value.into_array(1),
                    Err(error) => Self::null_for(error, to)?.to_array(),
                }
            })
            .collect::<DataFusionResult<_>>()?;
        if rows.is_empty() {
            return Ok(new_null_array(to, 0));
        }
        let rows: Vec<&dyn Array> = rows.iter().map(AsRef::as_ref).collect();
        Ok(concat(&rows)?)
    }
}

impl ScalarUDFImpl for Safe {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn schema_name(&self, args: &[Expr]) -> DataFusionResult<String> {
        Ok(format!("SAFE.{}", self.inner.schema_name(args)?))
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn coerce_types(&self, given: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        self.inner.coerce_types(given)
    }

    fn return_type(&self, given: &[DataType]) -> DataFusionResult<DataType> {
        self.inner.return_type(given)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DataFusionResult<FieldRef> {
        let field = self.inner.return_field_from_args(args)?;
        Ok(Arc::new(Field::clone(&field).with_nullable(true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let error = match self.inner.invoke_with_args(args.clone()) {
            Ok(values) => return Ok(values),
            Err(error) => error,
        };
        let null = Self::null_for(error, args.return_field.data_type())?;
        if constant {
            return Ok(ColumnarValue::Scalar(null));
        }
        self.row_by_row(&args).map(ColumnarValue::Array)
    }
}
