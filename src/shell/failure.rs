//! Errors as the shell shows them: one sentence, and a caret under the fault where its place is known.

use datafusion::arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;

use super::lexer::Statement;
use crate::error::nearest;

/// Where a statement stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Script<'a> {
    /// The file's name; none for what was typed or given with `-c`.
    pub(super) name: Option<&'a str>,
    /// All of it.
    pub(super) text: &'a str,
}

/// The error in one sentence, without the wrappers that say which layer passed it on.
pub(super) fn sentence(error: &DataFusionError) -> String {
    match error {
        DataFusionError::SQL(parser, _) => match parser.as_ref() {
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => {
                without_place(message).to_string()
            }
            ParserError::RecursionLimitExceeded => {
                "the statement is nested too deeply; SET datafusion.sql_parser.recursion_limit to allow more".into()
            }
        },
        DataFusionError::Diagnostic(_, inner) | DataFusionError::Context(_, inner) => sentence(inner),
        DataFusionError::Shared(inner) => sentence(inner),
        DataFusionError::Collection(errors) => {
            let mut sentences: Vec<String> = vec![];
            for e in errors.iter().map(sentence) {
                if !sentences.contains(&e) {
                    sentences.push(e);
                }
            }
            sentences.join("; ")
        }
        DataFusionError::External(inner) => match inner.downcast_ref::<DataFusionError>() {
            Some(inner) => sentence(inner),
            None => inner.to_string(),
        },
        DataFusionError::ArrowError(inner, _) => match inner.as_ref() {
            ArrowError::ExternalError(inner) => match inner.downcast_ref::<DataFusionError>() {
                Some(inner) => sentence(inner),
                None => inner.to_string(),
            },
            other => other.to_string(),
        },
        DataFusionError::Internal(message) => format!("DataFusion failed inside: {message}"),
        DataFusionError::NotImplemented(message) => format!("not supported: {message}"),
        DataFusionError::ExecutionJoin(e) if e.is_panic() => {
            "the query failed inside; this is a bug of dfml or of DataFusion".into()
        }
        other => other.message().into_owned(),
    }
}

/// sqlparser ends its messages with ` at Line: 1, Column: 15`; the caret says that better.
fn without_place(message: &str) -> &str {
    match message.rfind(" at Line: ") {
        Some(at) if place_in(message).is_some() => message[..at].trim_end(),
        _ => message,
    }
}

/// The line and column, both from 1, that end a message of sqlparser's.
fn place_in(message: &str) -> Option<(usize, usize)> {
    let rest = &message[message.rfind(" at Line: ")? + " at Line: ".len()..];
    let (line, column) = rest.split_once(", Column: ")?;
    Some((line.trim().parse().ok()?, column.trim().parse().ok()?)).filter(|(line, _)| *line > 0)
}

/// The first place that an error names: line and column within the statement, both from 1, and how many characters it
/// spans, where known.
fn place(error: &DataFusionError) -> Option<(usize, usize, usize)> {
    match error {
        DataFusionError::SQL(parser, _) => match parser.as_ref() {
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => {
                place_in(message).map(|(line, column)| (line, column, 1))
            }
            ParserError::RecursionLimitExceeded => None,
        },
        DataFusionError::Diagnostic(diagnostic, inner) => match diagnostic.span {
            Some(span) if span.start.line > 0 => {
                let length = if span.end.line == span.start.line {
                    span.end.column.saturating_sub(span.start.column)
                } else {
                    1
                };
                Some((
                    span.start.line as usize,
                    span.start.column as usize,
                    (length as usize).max(1),
                ))
            }
            _ => place(inner),
        },
        DataFusionError::Context(_, inner) => place(inner),
        DataFusionError::Shared(inner) => place(inner),
        DataFusionError::Collection(errors) => errors.iter().find_map(place),
        _ => None,
    }
}

/// The lines to print for an error of a statement.
pub(super) fn report(
    error: &DataFusionError,
    script: Script<'_>,
    statement: &Statement<'_>,
    tables: &[String],
) -> String {
    let sentence = sentence(error);
    let mut lines = format!("error: {}", missing_table(&sentence, tables).unwrap_or(sentence));
    let Some((line, column, length)) = place(error) else {
        if let Some(name) = script.name {
            lines.push_str(&format!(
                "\n  in {name}, line {}",
                line_of(script.text, statement.offset)
            ));
        }
        return lines;
    };
    let first_line = line_of(script.text, statement.offset);
    let line_start = script.text[..statement.offset].rfind('\n').map_or(0, |at| at + 1);
    let column = match line {
        1 => column + script.text[line_start..statement.offset].chars().count(),
        _ => column,
    };
    let number = first_line + line - 1;
    let source = script.text.lines().nth(number - 1).unwrap_or_default();
    let head = match script.name {
        Some(name) => format!("  {name}:{number}: "),
        None if script.text.trim_end().contains('\n') => format!("  line {number}: "),
        None => "  ".to_string(),
    };
    // The part around the fault, where a line is too long to look at.
    let characters: Vec<char> = source.chars().collect();
    let from = if column > 100 { column - 60 } else { 0 };
    let shown: String = characters
        .iter()
        .skip(from)
        .take(160)
        .map(|c| if *c == '\t' { ' ' } else { *c })
        .collect();
    let width = |c: &char| super::output::char_width(*c);
    let before: usize = characters.iter().take(column - 1).skip(from).map(width).sum();
    let under = length.min(characters.len().saturating_sub(column - 1)).max(1);
    lines.push_str(&format!(
        "\n{head}{shown}\n{}{}",
        " ".repeat(super::output::width(&head) + before),
        "^".repeat(under)
    ));
    lines
}

/// `table 'datafusion.public.custmers' not found` in the words of the shell, with the table that may be meant.
fn missing_table(sentence: &str, tables: &[String]) -> Option<String> {
    let full = sentence.strip_prefix("table '")?.strip_suffix("' not found")?;
    let name = full
        .strip_prefix("datafusion.public.")
        .or_else(|| full.strip_prefix("datafusion."))
        .unwrap_or(full);
    Some(match nearest(name, tables.iter().map(String::as_str)) {
        Some(near) => format!("there is no table '{name}'; did you mean {near}?"),
        None => format!("there is no table '{name}'; \\d lists those that there are"),
    })
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text[..offset].matches('\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::lexer::statements;

    fn parser_error(message: &str) -> DataFusionError {
        DataFusionError::SQL(Box::new(ParserError::ParserError(message.into())), None)
    }

    #[test]
    fn the_caret_stands_under_the_fault() {
        let text = "SELECT 1;\n  SELECT 2 FORM t;";
        let error = parser_error("Expected: end of statement, found: FORM at Line: 1, Column: 10");
        let script = Script {
            name: Some("a.sql"),
            text,
        };
        assert_eq!(
            report(&error, script, &statements(text)[1], &[]),
            "error: Expected: end of statement, found: FORM\n  a.sql:2:   SELECT 2 FORM t;\n                      ^"
        );
    }

    #[test]
    fn later_lines_of_a_statement() {
        let text = "SELECT 1,\n2 3";
        let error = parser_error("Expected: end of statement, found: 3 at Line: 2, Column: 3");
        let shown = report(&error, Script { name: None, text }, &statements(text)[0], &[]);
        assert_eq!(
            shown,
            "error: Expected: end of statement, found: 3\n  line 2: 2 3\n            ^"
        );
    }

    #[test]
    fn a_missing_table_has_its_nearest() {
        let error = DataFusionError::Plan("table 'datafusion.public.order' not found".into());
        let script = Script {
            name: None,
            text: "SELECT * FROM order",
        };
        let shown = report(&error, script, &statements(script.text)[0], &["orders".into()]);
        assert_eq!(shown, "error: there is no table 'order'; did you mean orders?");
    }

    #[test]
    fn wrappers_are_taken_off() {
        let inner = DataFusionError::Plan("column 'a' is missing".into());
        let wrapped =
            DataFusionError::Context("optimizer".into(), Box::new(DataFusionError::External(Box::new(inner))));
        assert_eq!(sentence(&wrapped), "column 'a' is missing");
        assert_eq!(
            sentence(&parser_error("Expected: x, found: EOF")),
            "Expected: x, found: EOF"
        );
    }
}
