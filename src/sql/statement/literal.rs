//! GoogleSQL's quoted things, as DataFusion writes them.

use super::source::{Span, SyntaxError, quote, quote_identifier};

/// A string or bytes literal of GoogleSQL as SQL: `'…'` or `X'…'`.
///
/// # Errors
/// It has an escape that GoogleSQL does not know.
pub(super) fn string_sql(literal: &str, span: Span) -> Result<String, SyntaxError> {
    let (prefix, body) = match literal.find(['\'', '"']) {
        Some(at) => literal.split_at(at),
        None => ("", literal),
    };
    let width = if body.starts_with("'''") || body.starts_with("\"\"\"") {
        3
    } else {
        1
    };
    let inner = body.get(width..body.len().saturating_sub(width)).unwrap_or_default();
    let is = |letter: char| prefix.chars().any(|c| c.eq_ignore_ascii_case(&letter));
    let bytes: Vec<u8> = if is('r') {
        inner.as_bytes().to_vec()
    } else {
        unescape(inner, is('b'), span)?
    };
    if is('b') {
        let digits: String = bytes.iter().map(|b| format!("{b:02X}")).collect();
        return Ok(format!("X'{digits}'"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(quote(&text)),
        Err(_) => Err(SyntaxError::new(span, "this string is no UTF-8; write b'…' for bytes")),
    }
}

/// The text of a quoted identifier, without its quotes.
pub(super) fn identifier(quoted: &str, span: Span) -> Result<String, SyntaxError> {
    let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    if quoted.starts_with('"') {
        return Ok(inner.replace("\"\"", "\""));
    }
    String::from_utf8(unescape(inner, false, span)?)
        .map_err(|_| SyntaxError::new(span, format!("{quoted} is no UTF-8; write the name without escapes")))
}

/// The parts of a name in back-quotes: `` `project.dataset.table` `` is three.
pub(super) fn parts(name: &str) -> Vec<&str> {
    // A project of a domain, `example.com:project`, has dots of its own.
    let project = name.find(':').unwrap_or(0);
    match name[project..].find('.') {
        Some(dot) => std::iter::once(&name[..project + dot])
            .chain(name[project + dot + 1..].split('.'))
            .collect(),
        None => vec![name],
    }
}

/// A name in back-quotes as identifiers in double quotes, part by part.
pub(super) fn identifiers_sql(quoted: &str, span: Span) -> Result<String, SyntaxError> {
    let name = identifier(quoted, span)?;
    Ok(parts(&name)
        .into_iter()
        .map(quote_identifier)
        .collect::<Vec<_>>()
        .join("."))
}

fn unescape(inner: &str, bytes: bool, span: Span) -> Result<Vec<u8>, SyntaxError> {
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let letter = rest.chars().next().unwrap_or('\\');
        let unknown = || {
            SyntaxError::new(
                span,
                format!("GoogleSQL knows no escape '\\{letter}'; write \\\\ for a backslash, or r'…' for a raw string"),
            )
        };
        let digits = |from: usize, count: usize, radix: u32| {
            rest.get(from..from + count)
                .filter(|d| d.chars().all(|c| c.is_digit(radix)))
                .and_then(|d| u32::from_str_radix(d, radix).ok())
        };
        let (code, length) = match letter {
            'a' => (7, 1),
            'b' => (8, 1),
            'f' => (12, 1),
            'n' => (10, 1),
            'r' => (13, 1),
            't' => (9, 1),
            'v' => (11, 1),
            '\\' | '?' | '"' | '\'' | '`' => (letter as u32, 1),
            'x' | 'X' => (digits(1, 2, 16).ok_or_else(unknown)?, 3),
            'u' if !bytes => (digits(1, 4, 16).ok_or_else(unknown)?, 5),
            'U' if !bytes => (digits(1, 8, 16).ok_or_else(unknown)?, 9),
            '0'..='3' => (digits(0, 3, 8).ok_or_else(unknown)?, 3),
            _ => return Err(unknown()),
        };
        match u8::try_from(code) {
            Ok(byte) if bytes => out.push(byte),
            _ => {
                let c = char::from_u32(code).ok_or_else(unknown)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(out)
}
