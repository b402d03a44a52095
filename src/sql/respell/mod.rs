//! GoogleSQL as DataFusion plans it: what is to be known of tables and types for that, once `statement` has respelled the text.
//!
//! | file | what it is for |
//! |---|---|
//! | `tables` | tables by the last parts of their names, in any case |
//! | `names` | columns in any case; aliases as they are written |
//! | `definitions` | `CREATE TABLE`, `VIEW` and `SCHEMA` |
//! | `select`, `unnamed` | what a SELECT says in fewer words; names of columns that have none |
//! | `structs`, `fields` | names of struct fields; `s.*` |
//! | `array_queries`, `elements`, `joined` | queries over arrays and their elements; arrays of tables further on in FROM |
//! | `sample` | `TABLESAMPLE` |

mod array_queries;
mod definitions;
mod elements;
mod fields;
mod joined;
mod names;
mod sample;
mod select;
mod structs;
mod tables;
mod unnamed;

use datafusion::common::DataFusionError;
use datafusion::common::config::Dialect;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::Tokenizer;

use self::array_queries::ElementQueries;
use self::definitions::{Definitions, make_places};
use self::fields::expand_structs;
use self::names::Aliases;
pub(super) use self::names::Names;
use self::sample::Samples;
use self::select::{Namer, visit};
use self::structs::FieldNames;
use self::tables::Tables;
use self::unnamed::name_columns;
use crate::error::Result;

/// The plan of a statement in the generic dialect that means what it does in BigQuery's.
///
/// # Errors
/// It cannot be read or planned.
pub(super) async fn plan(
    ctx: &SessionContext,
    mut state: SessionState,
    sql: &str,
) -> Result<LogicalPlan, DataFusionError> {
    // There NULL is less than every value, which is DataFusion's choice only where it is told so.
    let ordering = &mut state.config_mut().options_mut().sql_parser.default_null_ordering;
    if ordering == "nulls_max" {
        *ordering = "nulls_min".into();
    }
    let recursion_limit = state.config_options().sql_parser.recursion_limit.get();
    let mut statement = state.sql_to_statement(sql, &Dialect::Generic)?;
    let tables = Tables::of(ctx, &statement).await;
    tables.apply(&mut statement);
    let mut names = Names::of(ctx, &statement).await;
    let aliases = Aliases::of(&statement);
    loop {
        let mut tokens = Tokenizer::new(&GenericDialect {}, sql)
            .tokenize_with_location()
            .map_err(|e| DataFusionError::SQL(Box::new(e.into()), None))?;
        if names.respell(&mut tokens) {
            let mut parser = DFParserBuilder::new(tokens)
                .with_dialect(&GenericDialect {})
                .with_recursion_limit(recursion_limit)
                .build()?;
            statement = parser.parse_statement()?;
            tables.apply(&mut statement);
        }
        let mut written = statement.clone();
        expand_structs(&state, &mut written, &|probe| drop(respell(probe, &names))).await;
        let definitions = respell(&mut written, &names)?;
        // A name that was looked for in vain may be one that only planning makes.
        match state.statement_to_plan(written).await {
            Err(error) if names.learn(&error) => {}
            Err(error) => return Err(tables.explain(error)),
            Ok(mut plan) => {
                definitions.tell(ctx);
                make_places(ctx, &mut plan)?;
                return match aliases {
                    Some(aliases) => aliases.restore(plan),
                    None => Ok(plan),
                };
            }
        }
    }
}

/// Writes a statement of GoogleSQL, as it was parsed, as DataFusion has it; what is to be told of that.
fn respell(statement: &mut Statement, names: &Names) -> Result<Definitions> {
    let (mut definitions, mut samples) = (Definitions::default(), Samples::default());
    visit(statement, &mut definitions);
    visit(statement, &mut samples);
    if let Some(fault) = samples.fault {
        return Err(fault);
    }
    visit(statement, &mut FieldNames);
    let mut elements = ElementQueries::new(names, statement);
    visit(statement, &mut elements);
    visit(statement, &mut Namer::new(names));
    name_columns(statement);
    Ok(definitions)
}
