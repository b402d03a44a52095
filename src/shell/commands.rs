//! The shell's own commands: what begins with a backslash.

use std::sync::Arc;

use clap::ValueEnum;
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::datatypes::Field;
use datafusion::common::{DFSchema, TableReference, plan_datafusion_err};
use datafusion::error::Result;
use datafusion::sql::sqlparser::ast::Ident;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::arguments::Format;
use super::failure::sentence;
use super::run::{Shell, Stop};
use super::session::say;
use crate::error::nearest;
use crate::sql::help::{Form, Topic, find, topics};

const HELP: &str = "\
\\d            the tables
\\d NAME       the columns of a table
\\h            what there is help on
\\h NAME       help on a function or setting
\\format NAME  how results are printed: table, csv, json, ndjson or markdown
\\timing       tells the time of each statement, or stops telling it
\\q            leaves (so does Ctrl-D)
\\?            this list

A statement ends with a semicolon and may run over several lines. Tab completes, Ctrl-R searches the history, Ctrl-C
stops a running statement or clears what is typed.
";

impl Shell {
    /// Runs a command, from its backslash on.
    pub(super) async fn command(&mut self, line: &str) -> std::result::Result<(), Stop> {
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let result = match (name, rest) {
            ("\\q" | "\\quit" | "\\exit", _) => return Err(Stop::Quit),
            ("\\?" | "\\help", _) => self.print_text(HELP),
            ("\\d" | "\\dt", "") => self.list_tables().await,
            ("\\d", table) => self.describe(table).await,
            ("\\h", "") => self.list_help(),
            ("\\h", topic) => self.help(topic),
            ("\\timing", "" | "on" | "off") => {
                self.timing = match rest {
                    "on" => true,
                    "off" => false,
                    _ => !self.timing,
                };
                say(if self.timing { "timing is on" } else { "timing is off" });
                Ok(())
            }
            ("\\format", format) => match Format::from_str(format, true) {
                Ok(format) => {
                    self.format = format;
                    Ok(())
                }
                Err(_) => Err(plan_datafusion_err!(
                    "\\format takes table, csv, json, ndjson or markdown, not '{format}'"
                )),
            },
            (other, _) => {
                let hint = nearest(other, super::completion::COMMANDS.iter().copied())
                    .map_or_else(|| "\\? lists them".to_string(), |near| format!("did you mean {near}?"));
                Err(plan_datafusion_err!("there is no command '{other}'; {hint}"))
            }
        };
        match result {
            Ok(()) => Ok(()),
            Err(_) if self.output.is_unread() => Err(Stop::Unread),
            Err(e) => {
                say(format_args!("error: {}", sentence(&e)));
                Err(Stop::Failed)
            }
        }
    }

    /// The tables that can be queried, as they are written in FROM, with their kinds.
    pub(super) fn tables(&self) -> Vec<String> {
        let state = self.ctx.state();
        let options = &state.config_options().catalog;
        let mut tables = vec![];
        for catalog_name in state.catalog_list().catalog_names() {
            let Some(catalog) = state.catalog_list().catalog(&catalog_name) else {
                continue;
            };
            for schema_name in catalog.schema_names() {
                let Some(schema) = catalog.schema(&schema_name) else {
                    continue;
                };
                if schema_name == "information_schema" {
                    continue;
                }
                for table in schema.table_names() {
                    tables.push(if catalog_name != options.default_catalog {
                        format!("{}.{}.{}", quoted(&catalog_name), quoted(&schema_name), quoted(&table))
                    } else if schema_name != options.default_schema {
                        format!("{}.{}", quoted(&schema_name), quoted(&table))
                    } else {
                        quoted(&table)
                    });
                }
            }
        }
        // The lake's own first.
        tables.sort_by_key(|t| (t.contains('.'), t.clone()));
        tables
    }

    async fn list_tables(&self) -> Result<()> {
        let mut columns = vec![];
        let tables = self.tables();
        for table in &tables {
            columns.push(match self.schema_of(table).await {
                Ok(schema) => {
                    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
                    names.join(", ")
                }
                Err(e) => format!("cannot be read: {}", sentence(&e)),
            });
        }
        self.print(&text_batch(vec![("table", tables), ("columns", columns)])?)
    }

    /// The columns of a table, of a view or of files.
    pub(super) async fn schema_of(&self, table: &str) -> Result<DFSchema> {
        let parts: Option<Vec<Ident>> = Parser::new(&GenericDialect {})
            .try_with_sql(table)
            .and_then(|mut p| p.parse_object_name(false))
            .ok()
            .map(|name| name.0.into_iter().filter_map(|part| part.as_ident().cloned()).collect());
        let part = |ident: &Ident| match ident.quote_style {
            Some(_) => ident.value.clone(),
            None => ident.value.to_lowercase(),
        };
        let reference = match parts.as_deref() {
            Some([table]) => TableReference::bare(part(table)),
            Some([schema, table]) => TableReference::partial(part(schema), part(table)),
            Some([catalog, schema, table]) => TableReference::full(part(catalog), part(schema), part(table)),
            // A path.
            _ => TableReference::bare(table.trim_matches('\'').to_string()),
        };
        Ok(self.ctx.table(reference).await?.schema().clone())
    }

    async fn describe(&self, table: &str) -> Result<()> {
        let table = table.trim_end_matches(';').trim();
        let path = table.trim_matches('\'');
        let schema = match self.schema_of(table).await {
            Ok(schema) => schema,
            Err(e) if path.contains(['/', '.']) => {
                let whole = TableReference::bare(path.to_string());
                match self.ctx.table(whole).await {
                    Ok(frame) => frame.schema().clone(),
                    Err(_) => return Err(e),
                }
            }
            Err(_) => {
                let tables = self.tables();
                let hint = nearest(table, tables.iter().map(String::as_str))
                    .map_or_else(|| "\\d lists them".to_string(), |near| format!("did you mean {near}?"));
                return Err(plan_datafusion_err!("there is no table '{table}'; {hint}"));
            }
        };
        let of = |f: fn(&Field) -> String| -> Vec<String> { schema.fields().iter().map(|x| f(x)).collect() };
        self.print(&text_batch(vec![
            ("column", of(|f| f.name().clone())),
            ("type", of(|f| f.data_type().to_string())),
            (
                "nullable",
                of(|f| if f.is_nullable() { "yes".into() } else { "no".into() }),
            ),
        ])?)
    }

    fn list_help(&self) -> Result<()> {
        let mut topics: Vec<Topic> = topics();
        topics.sort_by_key(|t| t.form == Form::Setting);
        self.print(&text_batch(vec![
            ("name", topics.iter().map(|t| t.name.clone()).collect()),
            ("where", topics.iter().map(|t| t.form.word().to_string()).collect()),
            ("syntax", topics.iter().map(|t| t.syntax.clone()).collect()),
        ])?)
    }

    fn help(&self, name: &str) -> Result<()> {
        let name = name.trim_end_matches([';', '(']).trim();
        for topic in find(name)? {
            self.print_text(&format!(
                "{} ({})\n\n  {}\n\n{}\n",
                topic.name,
                topic.form.word(),
                topic.syntax,
                topic.summary
            ))?;
            if !topic.options.is_empty() {
                self.print_text("\nOptions:\n")?;
                for option in &topic.options {
                    let names: Vec<&str> = std::iter::once(option.name)
                        .chain(option.aliases.iter().copied())
                        .collect();
                    let default = match option.default {
                        "" => "required".to_string(),
                        default => format!("default: {default}"),
                    };
                    self.print_text(&format!(
                        "  {}\n      {} It takes {} ({default}).\n",
                        names.join(", "),
                        option.help,
                        option.kind.describe()
                    ))?;
                }
            }
            self.print_text(&format!("\nExample:\n  {};\n\n", topic.example))?;
        }
        Ok(())
    }
}

/// A name as FROM needs it.
fn quoted(name: &str) -> String {
    let plain = name
        .chars()
        .enumerate()
        .all(|(i, c)| c == '_' || (c.is_alphanumeric() && !c.is_uppercase() && (i > 0 || !c.is_numeric())));
    if plain {
        name.to_string()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

fn text_batch(columns: Vec<(&str, Vec<String>)>) -> Result<RecordBatch> {
    let columns = columns.into_iter().map(|(name, values)| {
        let array: ArrayRef = Arc::new(StringArray::from(values));
        (name, array)
    });
    Ok(RecordBatch::try_from_iter(columns)?)
}
