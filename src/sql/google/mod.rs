//! Functions of GoogleSQL that BigQuery ML's scripts use and DataFusion lacks, or has with another meaning.
//!
//! Those of the latter kind are registered under a name with `google_` before it, so that no statement of DataFusion's own
//! changes; [`super::statement`] writes that name where the dialect is BigQuery's. One list, [`functions`], is what
//! registration, the help and the tests walk.
//!
//! | file | what it has |
//! |---|---|
//! | `function` | what all functions share |
//! | `print`, `text`, `printf` | values as texts and JSON, texts, FORMAT |
//! | `bytes`, `json`, `row` | hashes and bytes as texts, pieces of JSON, whole rows |
//! | `parts`, `dates`, `times`, `epoch`, `formats` | the calendar, its functions, times of day, dates as numbers and as texts |
//! | `arrays`, `geography`, `maths` | arrays, points, arithmetic |
//! | `elements` | subqueries over the elements of an array |
//! | `aggregates`, `percentile` | APPROX_QUANTILES and its like, PERCENTILE_DISC |
//! | `safe` | `SAFE.f(…)` |

mod aggregates;
mod arrays;
mod bytes;
mod dates;
mod elements;
mod epoch;
mod formats;
mod function;
mod geography;
mod json;
mod maths;
mod parts;
mod percentile;
mod print;
mod printf;
mod row;
mod safe;
#[cfg(test)]
mod tests;
mod text;
mod times;

use std::sync::Arc;

use datafusion::common::Result as DataFusionResult;
use datafusion::execution::FunctionRegistry;
use datafusion::prelude::SessionContext;

pub(super) use elements::over_elements;

use super::help::{Form, Topic};

/// Every scalar function, in the order in which help lists them.
fn functions() -> impl Iterator<Item = &'static function::Spec> {
    [
        print::ALL,
        text::ALL,
        bytes::ALL,
        json::ALL,
        printf::ALL,
        dates::ALL,
        times::ALL,
        epoch::ALL,
        formats::ALL,
        arrays::ALL,
        elements::ALL,
        geography::ALL,
        maths::ALL,
        safe::ALL,
    ]
    .into_iter()
    .flatten()
}

/// Registers them on a context. Whoever has one of a name already keeps it.
pub(super) fn register(ctx: &SessionContext) -> DataFusionResult<()> {
    for function in functions().filter(|f| ctx.udf(f.name).is_err()) {
        ctx.register_udf(function.udf());
    }
    for function in elements::aggregates().filter(|f| ctx.udf(f.name()).is_err()) {
        ctx.register_udf(function);
    }
    for function in aggregates::ALL.iter().filter(|f| ctx.udaf(f.name).is_err()) {
        ctx.register_udaf(function.udaf());
    }
    if ctx.udaf(percentile::NAME).is_err() {
        ctx.register_udaf(percentile::udaf());
    }
    let state = ctx.state_ref();
    let mut state = state.write();
    state.register_function_rewrite(Arc::new(row::MakeRow))?;
    state.register_function_rewrite(Arc::new(safe::MakeSafe))
}

/// Their help.
pub(super) fn topics() -> Vec<Topic> {
    let topic = |title: &str, name: &str, syntax: &str, summary: &str, example: &str| {
        let other = if title.eq_ignore_ascii_case(name) {
            String::new()
        } else {
            format!(" So in BigQuery's dialect; elsewhere it is {}.", name.to_uppercase())
        };
        Topic {
            name: title.into(),
            form: Form::Google,
            syntax: syntax.into(),
            summary: format!("{summary}{other}"),
            options: vec![],
            example: example.into(),
        }
    };
    let scalars = functions().map(|f| topic(f.title, f.name, f.syntax, f.summary, f.example));
    let aggregates = aggregates::ALL
        .iter()
        .map(|f| topic(f.title, f.name, f.syntax, f.summary, f.example));
    let percentile = topic(
        "PERCENTILE_DISC",
        percentile::NAME,
        percentile::SYNTAX,
        percentile::SUMMARY,
        percentile::EXAMPLE,
    );
    scalars.chain(aggregates).chain([percentile]).collect()
}
