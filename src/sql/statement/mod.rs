//! The statements of BigQuery ML, read from the text before DataFusion sees it.
//!
//! [`parse_after`] cuts a text into statements. The model statements come back as structs, `CREATE MODEL` and `SHOW MODELS` with
//! a form that DataFusion runs; all others come back as SQL, in which `ML.PREDICT(MODEL m, TABLE t)` is written with the
//! arguments that functions take here. Where the dialect is BigQuery's, the rest of its spelling is written as DataFusion's
//! *generic* dialect has it: what comes back is to be parsed with that one. Everything else stays as it was, byte for byte.
//!
//! | file | what it is for |
//! |---|---|
//! | `source` | positions, errors, and text that knows where it is from |
//! | `lexer`, `tokens` | tokens, brackets, statements |
//! | `literal`, `path` | strings, identifiers and names of models |
//! | `parser`, `options`, `model` | the model statements |
//! | `rewrite` | the forms with MODEL and TABLE, in any statement |
//! | `bigquery`, `calls`, `quotient`, `unnest`, `typed`, `script` | GoogleSQL's spelling, its functions, division, arrays in FROM, arrays of typed structs, and its variables |
//! | `refused` | what of GoogleSQL is not taken, and what to write instead |

mod bigquery;
mod calls;
mod lexer;
mod literal;
mod model;
mod options;
mod parser;
mod path;
mod quotient;
mod refused;
mod rewrite;
mod script;
mod source;
#[cfg(test)]
mod tests;
mod tokens;
mod typed;
mod unnest;

pub use model::{AlterModel, CreateModel, DescribeModel, DropModel, ExportModel, ShowModels};

pub use path::ModelRef;
pub(crate) use quotient::is_reserved;
pub(crate) use script::Variables;
pub use source::{Span, Sql, SyntaxError, caret};

use lexer::Spelling;
use parser::Parser;
use rewrite::Rewriter;
use tokens::Tokens;

/// A statement of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Statement {
    /// SQL for DataFusion.
    Plain(Sql),
    /// `CREATE MODEL`.
    CreateModel(CreateModel),
    /// `DROP MODEL`.
    DropModel(DropModel),
    /// `ALTER MODEL`.
    AlterModel(AlterModel),
    /// `EXPORT MODEL`.
    ExportModel(ExportModel),
    /// `SHOW MODELS`.
    ShowModels(ShowModels),
    /// `DESCRIBE MODEL`.
    DescribeModel(DescribeModel),
}

/// As [`parse_after`] of a text that is the first.
#[cfg(test)]
pub(crate) fn parse(text: &str, bigquery: bool) -> Result<Vec<Statement>, SyntaxError> {
    parse_after(text, bigquery, &mut Variables::default())
}

/// The statements of a text, in order; empty ones are left out. `bigquery` says that the text is spelled as BigQuery
/// spells it, as the setting `datafusion.sql_parser.dialect` does. It sees and sets the `variables` of texts before it.
///
/// # Errors
/// A model statement, or in BigQuery's spelling any statement, cannot be read; what was declared before the fault stays.
pub(crate) fn parse_after(
    text: &str,
    bigquery: bool,
    variables: &mut Variables,
) -> Result<Vec<Statement>, SyntaxError> {
    let spelling = if bigquery { Spelling::Google } else { Spelling::Generic };
    let tokens = Tokens::new(text, spelling);
    let mut found = vec![];
    for range in tokens.statements.clone() {
        if tokens.trim(range.clone()).is_empty() {
            // Only a comment can be there, and one that is never closed hides what follows it.
            if bigquery {
                tokens.check_closed(&range)?;
            }
            continue;
        }
        if bigquery {
            tokens.check_closed(&range)?;
            refused::check(&tokens, &range)?;
            if variables.take(&tokens, &range)? {
                continue;
            }
        }
        let statement = match Parser::new(&tokens, range.clone(), bigquery, variables).statement()? {
            Some(statement) => statement,
            None => Statement::Plain(Rewriter::new(&tokens, bigquery, variables).sql(range)?),
        };
        found.push(statement);
    }
    Ok(found)
}
