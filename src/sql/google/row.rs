//! `TO_JSON_STRING(t)`: a whole row of a table as one value.
//!
//! It is written `TO_JSON_STRING(t.*)` for DataFusion, which keeps the wildcard as an argument; before the plan is analysed
//! it becomes a struct of the table's columns.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, Result as DataFusionResult};
use datafusion::functions::core::expr_fn::named_struct;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{Expr, lit};

use crate::error::Error;

/// Puts a struct in place of the wildcard.
#[derive(Debug)]
pub(super) struct MakeRow;

impl FunctionRewrite for MakeRow {
    fn name(&self) -> &str {
        "google_row"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> DataFusionResult<Transformed<Expr>> {
        let Expr::ScalarFunction(mut function) = expr else {
            return Ok(Transformed::no(expr));
        };
        if function.func.name() != "to_json_string" {
            return Ok(Transformed::no(Expr::ScalarFunction(function)));
        }
        #[expect(
            deprecated,
            reason = "an argument is the one place where DataFusion's SQL has wildcards"
        )]
        let Some(Expr::Wildcard {
            qualifier: Some(table), ..
        }) = function.args.first()
        else {
            return Ok(Transformed::no(Expr::ScalarFunction(function)));
        };
        let of_table = schema
            .iter()
            .filter(|(qualifier, _)| qualifier.is_some_and(|q| q.table() == table.table()));
        let fields: Vec<Expr> = of_table
            .flat_map(|(qualifier, field)| {
                let column = Column::new(qualifier.cloned(), field.name());
                [lit(field.name()), Expr::Column(column)]
            })
            .collect();
        if fields.is_empty() {
            let message = format!("there is no table {table} whose rows TO_JSON_STRING could print; name one of FROM");
            return Err(Error::request(message).into());
        }
        function.args[0] = named_struct(fields);
        Ok(Transformed::yes(Expr::ScalarFunction(function)))
    }
}
