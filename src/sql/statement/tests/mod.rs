//! Scripts, and the exact text that becomes of them.

mod bigquery;
mod errors;
mod functions;
mod model;
mod script;
mod text;

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::*;

/// The statements of a text that can be read.
fn read(text: &str, bigquery: bool) -> Vec<Statement> {
    match parse(text, bigquery) {
        Ok(found) => found,
        Err(e) => panic!("{e}\n{}", caret(text, e.span)),
    }
}

/// The form of a statement that DataFusion runs; its parser must take it.
fn form(statement: &Statement) -> String {
    let sql = match statement {
        Statement::Plain(sql) => sql.clone(),
        Statement::CreateModel(s) => s.function_form(&[]),
        Statement::ShowModels(s) => s.function_form(),
        other => return format!("{other:?}"),
    };
    if let Err(e) = Parser::parse_sql(&GenericDialect, &sql.text) {
        panic!("{e}\n{}", sql.text);
    }
    sql.text
}

/// The form of the only statement of a text, in DataFusion's dialect.
fn generic(text: &str) -> String {
    let found = read(text, false);
    assert_eq!(found.len(), 1, "{found:?}");
    form(&found[0])
}

/// The form of the only statement of a text, in BigQuery's dialect.
fn google(text: &str) -> String {
    let found = read(text, true);
    assert_eq!(found.len(), 1, "{found:?}");
    form(&found[0])
}

/// Every form of a script in BigQuery's dialect.
fn script(text: &str) -> Vec<String> {
    read(text, true).iter().map(|s| form(s).trim().to_string()).collect()
}

/// The error of a text, with the place that it shows.
fn fails(text: &str, bigquery: bool) -> (String, String) {
    match parse(text, bigquery) {
        Ok(found) => panic!("{found:?}"),
        Err(e) => (
            e.message,
            text.get(e.span.start..e.span.end).unwrap_or_default().to_string(),
        ),
    }
}

fn create(text: &str, bigquery: bool) -> CreateModel {
    match read(text, bigquery).remove(0) {
        Statement::CreateModel(s) => s,
        other => panic!("{other:?}"),
    }
}
