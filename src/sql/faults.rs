//! Errors that know where in the user's text the fault is.

use datafusion::common::{DataFusionError, Diagnostic, Location, Span as Lines};
use datafusion::sql::sqlparser::parser::ParserError;

use super::statement::{Span, Sql, SyntaxError, caret};
use crate::error::Error;

/// A fault in a text as an error with its place.
pub(crate) fn pointed(text: &str, error: &SyntaxError) -> DataFusionError {
    at(&error.message, text, error.span)
}

/// An error whose place, if it has one, is in a rewritten statement, with the place in the text that the user wrote.
pub(crate) fn placed(error: DataFusionError, sql: &Sql, text: &str) -> DataFusionError {
    if sql.is_verbatim() {
        return error;
    }
    let there = |message: &str, line: usize, column: usize| {
        let start = sql.origin_of_line(line, column);
        at(message, text, Span::new(start, start + 1))
    };
    match error {
        DataFusionError::Diagnostic(diagnostic, inner) => match diagnostic.span {
            Some(span) if span.start.line > 0 => {
                let message = match inner.find_root() {
                    DataFusionError::Plan(sentence) => sentence.clone(),
                    other => other.strip_backtrace(),
                };
                there(&message, span.start.line as usize, span.start.column as usize)
            }
            _ => placed(*inner, sql, text),
        },
        DataFusionError::SQL(parser, backtrace) => {
            let message = match parser.as_ref() {
                ParserError::TokenizerError(m) | ParserError::ParserError(m) => m.clone(),
                ParserError::RecursionLimitExceeded => return DataFusionError::SQL(parser, backtrace),
            };
            let place = message.rsplit_once(" at Line: ").and_then(|(before, place)| {
                let (line, column) = place.split_once(", Column: ")?;
                Some((before, line.trim().parse().ok()?, column.trim().parse().ok()?))
            });
            match place {
                Some((before, line, column)) => there(before, line, column),
                None => DataFusionError::SQL(parser, backtrace),
            }
        }
        other => other,
    }
}

/// An error that [`pointed`] or [`placed`] gave as one sentence, and the line of the text with a caret under the fault.
pub(crate) fn shown(error: DataFusionError, text: &str) -> DataFusionError {
    match error {
        DataFusionError::Diagnostic(diagnostic, inner) => match diagnostic.span {
            Some(lines) => {
                let span = Span::new(byte_of(text, lines.start), byte_of(text, lines.end));
                Error::request(format!("{}\n{}", diagnostic.message, caret(text, span))).into()
            }
            None => *inner,
        },
        other => other,
    }
}

fn at(message: &str, text: &str, span: Span) -> DataFusionError {
    let lines = Lines::new(location_of(text, span.start), location_of(text, span.end));
    DataFusionError::from(Error::request(message)).with_diagnostic(Diagnostic::new_error(message, Some(lines)))
}

/// The line and column, both from 1, of a byte of a text.
fn location_of(text: &str, at: usize) -> Location {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Location {
        line: before.matches('\n').count() as u64 + 1,
        column: before[line_start..].chars().count() as u64 + 1,
    }
}

fn byte_of(text: &str, location: Location) -> usize {
    let lines = text
        .split_inclusive('\n')
        .take(location.line.saturating_sub(1) as usize);
    let line_start: usize = lines.map(str::len).sum();
    let columns = location.column.saturating_sub(1) as usize;
    text[line_start..]
        .char_indices()
        .nth(columns)
        .map_or(text.len(), |(at, _)| line_start + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_locations_are_inverse() {
        let text = "SELECT 'ä'\n  FROM t\n\nWHERE";
        for (at, _) in text.char_indices() {
            assert_eq!(byte_of(text, location_of(text, at)), at);
        }
        assert_eq!(byte_of(text, location_of(text, 999)), text.len());
        // Within a letter of two bytes: where it begins.
        assert_eq!(location_of(text, 9), location_of(text, 8));
    }
}
