//! TRANSFORM inside a fit: learns what its calls learn from the training rows, and gives the rows that they make.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::{cast, is_null, nullif};
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{ColumnarValue, Expr, ExprSchemable};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};

use super::feature_call::FeatureCall;
use crate::error::{Error, Result};
use crate::models::Rows;
use crate::models::transform::Transform;

/// A column of TRANSFORM as it is planned over a query's columns.
#[derive(Debug, Clone)]
pub(crate) struct TransformColumn {
    /// The column's name.
    pub name: String,
    /// Which item of the list it comes from; a struct gives several columns.
    pub item: usize,
    /// The expression; its learned calls are open.
    pub expr: Expr,
}

/// A select list that is to be learned and applied.
#[derive(Debug, Clone)]
pub(crate) struct TransformJob {
    /// The list as it will be stored.
    pub list: Transform,
    /// Its columns, in the order of `schema`.
    pub columns: Vec<TransformColumn>,
    /// The query's columns.
    pub input: Arc<DFSchema>,
    /// The columns that it makes.
    pub schema: SchemaRef,
}

/// What a call learned: by its item and its number there.
type Learned = HashMap<(usize, usize), serde_json::Value>;

impl TransformJob {
    /// A job whose `schema` is that of its columns.
    ///
    /// # Errors
    /// A column has no type over the query's columns.
    pub(crate) fn new(list: Transform, columns: Vec<TransformColumn>, input: DFSchema) -> Result<Self> {
        let fields = columns
            .iter()
            .map(|c| Ok(Field::new(&c.name, c.expr.get_type(&input)?, true)))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            list,
            columns,
            input: Arc::new(input),
            schema: Arc::new(Schema::new(fields)),
        })
    }

    /// Learns from rows; the list with what was learned, to be stored, and the expressions with it put in.
    ///
    /// # Errors
    /// A call refuses its values, an expression fails, a batch cannot be read, or the query was cancelled.
    pub(crate) fn learn(&self, rows: &dyn Rows, stop: &dyn Fn() -> bool) -> Result<(Transform, Vec<Expr>)> {
        let mut learned = Learned::new();
        // Calls stand within calls: each round learns those whose arguments are settled.
        loop {
            let mut open: Vec<((usize, usize), FeatureCall, Vec<Expr>)> = vec![];
            for column in &self.columns {
                let settled = settle(&column.expr, column.item, &learned)?;
                settled.apply(|e| {
                    if let Some((call, arguments)) = FeatureCall::of(e)
                        && let Some(number) = call.open()
                        && !arguments.iter().any(has_open)
                        && !open.iter().any(|(key, ..)| *key == (column.item, number))
                    {
                        open.push(((column.item, number), call.clone(), arguments.to_vec()));
                    }
                    Ok(TreeNodeRecursion::Continue)
                })?;
            }
            if open.is_empty() {
                break;
            }
            for (key, value) in self.learn_calls(&open, rows, stop)? {
                learned.insert(key, value);
            }
        }
        let mut list = self.list.clone();
        for (item, entry) in list.items.iter_mut().enumerate() {
            let numbers = learned.keys().filter(|(i, _)| *i == item).count();
            entry.learned = (0..numbers)
                .map(|n| learned.get(&(item, n)).cloned().unwrap_or_default())
                .collect();
        }
        let exprs = self
            .columns
            .iter()
            .map(|c| settle(&c.expr, c.item, &learned))
            .collect::<Result<Vec<_>>>()?;
        Ok((list, exprs))
    }

    fn learn_calls(
        &self,
        open: &[((usize, usize), FeatureCall, Vec<Expr>)],
        rows: &dyn Rows,
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<((usize, usize), serde_json::Value)>> {
        let mut learners = vec![];
        for (_, call, arguments) in open {
            let values = physical(&arguments[..1], &self.input)?;
            let types = arguments.iter().map(|a| Ok(a.get_type(self.input.as_ref())?));
            let learner = call.learner(&types.collect::<Result<Vec<_>>>()?, arguments)?;
            learners.push((values, learner));
        }
        for index in 0..rows.batch_count() {
            if stop() {
                return Err(Error::cancelled());
            }
            let batch = rows.batch(index)?;
            for (values, learner) in &mut learners {
                for column in evaluate(values, &batch)? {
                    learner.update(&column)?;
                }
            }
        }
        open.iter()
            .zip(learners)
            .map(|((key, ..), (_, learner))| Ok((*key, learner.finish().to_json()?)))
            .collect()
    }

    /// The rows that settled expressions make of `rows`.
    ///
    /// # Errors
    /// DataFusion cannot plan one.
    pub(crate) fn rows<'a>(&self, exprs: &[Expr], rows: &'a dyn Rows) -> Result<TransformedRows<'a>> {
        let (mut distinct, mut taken) = (vec![], vec![]);
        for expr in exprs {
            let (whole, fields) = whole_of(expr);
            let at = distinct.iter().position(|d| d == whole).unwrap_or(distinct.len());
            if at == distinct.len() {
                distinct.push(whole.clone());
            }
            taken.push((at, fields));
        }
        Ok(TransformedRows {
            rows,
            exprs: physical(&distinct, &self.input)?,
            taken,
            schema: Arc::clone(&self.schema),
        })
    }
}

/// The expression whose struct an expression takes a field of, and the fields, outermost first.
fn whole_of(expr: &Expr) -> (&Expr, Vec<String>) {
    if let Expr::ScalarFunction(call) = expr
        && call.func.name() == "get_field"
        && let [whole, Expr::Literal(name, _)] = call.args.as_slice()
        && let Some(Some(name)) = name.try_as_str()
    {
        let (whole, mut fields) = whole_of(whole);
        fields.push(name.to_string());
        return (whole, fields);
    }
    (expr, vec![])
}

/// A field of a struct, NULL where the struct is.
fn field_of(array: &ArrayRef, field: &str) -> Result<ArrayRef> {
    let array = array.as_struct();
    let column = array.column_by_name(field).ok_or_else(|| {
        Error::request(format!(
            "TRANSFORM made a struct without the field '{field}', which it had before"
        ))
    })?;
    Ok(nullif(column, &is_null(array)?)?)
}

/// An expression with what its item's calls learned put in, as far as it is known.
fn settle(expr: &Expr, item: usize, learned: &Learned) -> Result<Expr> {
    settle_with(expr, &|number| learned.get(&(item, number)))
}

/// An expression with what its calls learned put in, as far as it is known.
///
/// # Errors
/// What was learned cannot be read.
pub(crate) fn settle_with<'a>(expr: &Expr, learned: &dyn Fn(usize) -> Option<&'a serde_json::Value>) -> Result<Expr> {
    let settled = expr.clone().transform_up(|e| {
        let Some((call, arguments)) = FeatureCall::of(&e) else {
            return Ok(Transformed::no(e));
        };
        let Some(value) = call.open().and_then(learned) else {
            return Ok(Transformed::no(e));
        };
        let settled = call.settled(value).map_err(DataFusionError::from)?;
        Ok(Transformed::yes(settled.into_udf().call(arguments.to_vec())))
    })?;
    Ok(settled.data)
}

/// Whether a call within an expression has not learned yet.
fn has_open(expr: &Expr) -> bool {
    expr.exists(|e| Ok(FeatureCall::of(e).is_some_and(|(call, _)| call.open().is_some())))
        .unwrap_or(false)
}

/// Expressions ready to be evaluated over batches of these columns.
fn physical(exprs: &[Expr], input: &DFSchema) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
    let context = SimplifyContext::builder()
        .with_schema(Arc::new(input.clone()))
        .with_current_time()
        .build();
    let simplifier = ExprSimplifier::new(context);
    let (properties, planning) = (ExecutionProps::new(), PhysicalPlanningContext::default());
    exprs
        .iter()
        .map(|e| {
            let e = simplifier.simplify(simplifier.coerce(e.clone(), input)?)?;
            Ok(create_physical_expr(&e, input, &properties, &planning)?)
        })
        .collect()
}

fn evaluate(exprs: &[Arc<dyn PhysicalExpr>], batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
    exprs
        .iter()
        .map(|e| match e.evaluate(batch)? {
            ColumnarValue::Array(array) => Ok(array),
            ColumnarValue::Scalar(value) => Ok(value.to_array_of_size(batch.num_rows())?),
        })
        .collect()
}

/// Rows of a query as TRANSFORM makes them, batch by batch.
pub(crate) struct TransformedRows<'a> {
    rows: &'a dyn Rows,
    /// Each evaluated once for a batch, however many columns its struct gives.
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    /// For each column, which of them it comes from, and the field of it, and of that.
    taken: Vec<(usize, Vec<String>)>,
    schema: SchemaRef,
}

impl Rows for TransformedRows<'_> {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
    fn batch_count(&self) -> usize {
        self.rows.batch_count()
    }
    fn batch_rows(&self, index: usize) -> usize {
        self.rows.batch_rows(index)
    }
    fn batch(&self, index: usize) -> Result<RecordBatch> {
        let batch = self.rows.batch(index)?;
        let evaluated = evaluate(&self.exprs, &batch)?;
        let columns = self
            .taken
            .iter()
            .zip(self.schema.fields())
            .map(|((at, path), field)| {
                let column = path
                    .iter()
                    .try_fold(Arc::clone(&evaluated[*at]), |column, name| field_of(&column, name))?;
                Ok(cast(&column, field.data_type())?)
            })
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.schema),
            columns,
            &options,
        )?)
    }
}
