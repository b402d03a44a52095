//! Positions: spans of the text that was given, errors that point into it, and rewritten text that knows where it is from.

use std::fmt;

/// A piece of the original text, from byte `start` to byte `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last one.
    pub end: usize,
}

impl Span {
    /// From `start` to `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }
}

/// What is wrong with a text, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// One sentence that names the thing at fault and what to do instead.
    pub message: String,
    /// Where the fault is, in the text that was given.
    pub span: Span,
}

impl SyntaxError {
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            span,
        }
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SyntaxError {}

/// The line that `span` begins in, and a line with `^^^` under the fault.
pub fn caret(text: &str, span: Span) -> String {
    let start = floor(text, span.start);
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let end = floor(text, span.end).clamp(start, line_end);
    // A tab takes as much room under the line as in it.
    let pad: String = text[line_start..start]
        .chars()
        .map(|c| if c == '\t' { '\t' } else { ' ' })
        .collect();
    let width = text[start..end].trim_end().chars().count().max(1);
    let line = text[line_start..line_end].trim_end();
    format!("{line}\n{pad}{}", "^".repeat(width))
}

/// The nearest boundary of characters at or before a byte.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// SQL for DataFusion, and where each of its bytes is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sql {
    /// The statement, spelled as DataFusion's generic dialect spells it.
    pub text: String,
    /// What it was made from, in the text that was given.
    pub span: Span,
    pieces: Vec<Piece>,
}

/// A run of bytes of a rewritten text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    /// Where it begins in the rewritten text.
    at: usize,
    /// Where it is from.
    origin: usize,
    /// Whether it is the original's own bytes, and no replacement for what stands at `origin`.
    copied: bool,
}

impl Sql {
    /// Whether the text is the original's, byte for byte.
    pub fn is_verbatim(&self) -> bool {
        match self.pieces.as_slice() {
            [] => true,
            [one] => one.copied,
            _ => false,
        }
    }

    /// The byte of the original text that byte `at` of this one is from, or that it replaces.
    pub fn origin(&self, at: usize) -> usize {
        let after = self.pieces.partition_point(|p| p.at <= at);
        match after.checked_sub(1).map(|i| self.pieces[i]) {
            Some(piece) if piece.copied => (piece.origin + at - piece.at).min(self.span.end.max(piece.origin)),
            Some(piece) => piece.origin,
            None => self.span.start,
        }
    }

    /// The byte of the original text that a parser's line and column, both from 1, stand for.
    pub fn origin_of_line(&self, line: usize, column: usize) -> usize {
        let line_start: usize = self
            .text
            .split_inclusive('\n')
            .take(line.saturating_sub(1))
            .map(str::len)
            .sum();
        let within = self.text[line_start..]
            .char_indices()
            .nth(column.saturating_sub(1))
            .map_or(self.text.len() - line_start, |(at, _)| at);
        self.origin(line_start + within)
    }
}

/// Writes a rewritten text.
#[derive(Debug)]
pub(super) struct Builder<'a> {
    source: &'a str,
    text: String,
    pieces: Vec<Piece>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(source: &'a str) -> Self {
        Self {
            source,
            text: String::new(),
            pieces: vec![],
        }
    }

    /// The original's own bytes.
    pub(super) fn copy(&mut self, span: Span) {
        if span.start >= span.end {
            return;
        }
        let at = self.text.len();
        let goes_on = self
            .pieces
            .last()
            .is_some_and(|p| p.copied && p.origin + (at - p.at) == span.start);
        if !goes_on {
            self.pieces.push(Piece {
                at,
                origin: span.start,
                copied: true,
            });
        }
        self.text.push_str(&self.source[span.start..span.end]);
    }

    /// A text of ours, in place of what stands at `origin`.
    pub(super) fn put(&mut self, text: &str, origin: usize) {
        if text.is_empty() {
            return;
        }
        self.pieces.push(Piece {
            at: self.text.len(),
            origin,
            copied: false,
        });
        self.text.push_str(text);
    }

    /// A rewritten text with its own origins.
    pub(super) fn append(&mut self, sql: &Sql) {
        let base = self.text.len();
        self.pieces
            .extend(sql.pieces.iter().map(|p| Piece { at: base + p.at, ..*p }));
        self.text.push_str(&sql.text);
    }

    /// How long the text is so far.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn finish(self, span: Span) -> Sql {
        Sql {
            text: self.text,
            span,
            pieces: self.pieces,
        }
    }
}

/// A string as SQL writes it.
pub(super) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// An identifier in double quotes.
pub(super) fn quote_identifier(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// The word among `known` that `word` was most likely meant to be: at most two slips away.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let word = word.to_uppercase();
    known
        .iter()
        .map(|k| (slips(&word, k), *k))
        .filter(|(slips, k)| *slips <= 2 && *slips * 2 < k.len())
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, k)| k)
}

/// How many letters were left out, added, changed or swapped with their neighbour.
fn slips(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(40).collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}
