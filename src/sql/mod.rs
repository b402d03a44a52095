//! The SQL surface: names, the relation planner, functions, tables. Knows plans, and no algorithm.

mod arguments;
mod catalog;
pub mod dialect;
mod faults;
pub(crate) mod functions;
mod google;
pub mod help;
mod relation;
mod respell;
mod run;
mod statement;
mod transform;

#[cfg(feature = "shell")]
pub(crate) use self::faults::pointed;
pub use self::run::sql;
#[cfg(feature = "shell")]
pub(crate) use self::run::{plan_sql, read, run};
#[cfg(feature = "shell")]
pub(crate) use self::statement::{Statement, Variables};

use std::sync::Arc;

use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};
use datafusion::prelude::SessionContext;

use self::functions::recommend::RecommendFunction;
use self::functions::scalar::ScalarVerb;
use self::functions::window::{OverDecides, SegmentName, SegmentWindow};
use self::relation::FunctionPlanner;
use crate::error::Result;
use crate::models::MODELS;
use crate::session::Session;
use crate::settings::Settings;

/// Registers everything on a context; a second call changes nothing.
pub(crate) fn register(ctx: &SessionContext) -> Result<()> {
    if Session::of(ctx).is_some() {
        return Ok(());
    }
    let session = Arc::new(Session::new(ctx));
    catalog::register(ctx, &session)?;
    {
        let state = ctx.state_ref();
        let mut state = state.write();
        let config = state.config_mut();
        if config.options().extensions.get::<Settings>().is_none() {
            config.options_mut().extensions.insert(Settings::default());
        }
        config.set_extension(Arc::clone(&session));
    }
    ctx.register_relation_planner(Arc::new(FunctionPlanner {
        session: Arc::clone(&session),
    }))?;
    let window = Arc::new(WindowUDF::from(SegmentWindow::new(Arc::clone(&session))));
    for model_type in MODELS.iter().filter(|m| !m.verb_fields().is_empty()) {
        let scalar = ScalarUDF::from(ScalarVerb::new(Arc::clone(&session), *model_type));
        if scalar.name() == window.name() {
            let planner = OverDecides {
                scalar: Arc::new(scalar),
                window: Arc::clone(&window),
            };
            ctx.state_ref().write().register_expr_planner(Arc::new(planner))?;
            ctx.register_udaf(AggregateUDF::from(SegmentName::new()));
        } else {
            ctx.register_udf(scalar);
        }
    }
    ctx.register_udf(ScalarUDF::from(RecommendFunction::new(session)));
    functions::feature::register(ctx)?;
    google::register(ctx)?;
    Ok(())
}
