//! `FROM t, UNNEST(array) AS x`, where x is an element.
//!
//! For DataFusion x would be a table, so that it is written `AS x(x)`. Nor does DataFusion take a column of another table of
//! the same FROM there: then the table itself is written with a row for each element,
//! `FROM (SELECT *, unnest(array) AS x FROM t AS t) AS t`.

use std::ops::Range;

use super::lexer::Kind;
use super::path::Path;
use super::rewrite::Rewriter;
use super::source::SyntaxError;

/// Words that begin a clause of a query.
const CLAUSES: &[&str] = &[
    "SELECT", "FROM", "JOIN", "WHERE", "ON", "GROUP", "HAVING", "QUALIFY", "ORDER", "LIMIT",
];

/// What may follow a table, and is no alias of it.
const AFTER_TABLE: &[&str] = &[
    "AS",
    "WITH",
    "WHERE",
    "JOIN",
    "LEFT",
    "RIGHT",
    "FULL",
    "INNER",
    "CROSS",
    "NATURAL",
    "ON",
    "USING",
    "GROUP",
    "HAVING",
    "QUALIFY",
    "WINDOW",
    "ORDER",
    "LIMIT",
    "UNION",
    "INTERSECT",
    "EXCEPT",
    "TABLESAMPLE",
    "FOR",
    "PIVOT",
    "UNPIVOT",
];

/// A call of UNNEST with a name for the elements.
struct Unnest {
    /// What is in its brackets.
    array: Range<usize>,
    /// The token that names an element.
    name: usize,
}

impl Rewriter<'_> {
    /// The token that names what ends before `i`, with or without AS.
    fn alias(&self, i: usize, end: usize) -> Option<usize> {
        let t = self.tokens;
        let word = t.skip(i, end);
        let name = if t.is_word(word, "AS") {
            t.skip(word + 1, end)
        } else {
            word
        };
        let is_name = match t.kind(name) {
            Some(Kind::Quoted) => true,
            Some(Kind::Word) => !t.is_any_word(name, AFTER_TABLE),
            _ => false,
        };
        (is_name && name < end).then_some(name)
    }

    /// The call whose bracket opens at `open`, if its elements have a name and nothing but a name.
    fn named_unnest(&self, open: usize, end: usize) -> Option<Unnest> {
        let t = self.tokens;
        let close = t.partner(open).filter(|c| t.is_symbol(open, "(") && *c < end)?;
        let name = self.alias(close + 1, end)?;
        let after = t.skip(name + 1, end);
        let more = t.is_symbol(after, "(") || t.is_word(after, "WITH");
        (!more).then_some(Unnest {
            array: open + 1..close,
            name,
        })
    }

    /// An UNNEST whose bracket opens at `open`, in FROM and on its own; the token after it.
    pub(super) fn unnest(&mut self, open: usize, end: usize) -> Result<Option<usize>, SyntaxError> {
        let t = self.tokens;
        let clause = (0..open)
            .rev()
            .find(|w| t.parent(*w) == t.parent(open) && t.is_any_word(*w, CLAUSES));
        if !clause.is_some_and(|w| t.is_any_word(w, &["FROM", "JOIN"])) {
            return Ok(None);
        }
        let Some(Unnest { array, name }) = self.named_unnest(open, end) else {
            return Ok(None);
        };
        let close = array.end;
        self.out.put("UNNEST(", t.span(open).start);
        self.range(array)?;
        self.range(close..name + 1)?;
        self.out.put("(", t.span(name).start);
        self.range(name..name + 1)?;
        self.out.put(")", t.span(name).start);
        Ok(Some(name + 1))
    }

    /// Whether an array names a column, and not only functions and constants.
    fn has_column(&self, array: &Range<usize>) -> bool {
        let t = self.tokens;
        let is_column = |i: usize| match t.kind(i) {
            Some(Kind::Quoted) => true,
            Some(Kind::Word) => {
                let next = t.skip(i + 1, array.end);
                let called = t.is_symbol(next, "(") || t.is_symbol(next, "<") || t.kind(next) == Some(Kind::Text);
                !called
                    && !t.is_any_word(
                        i,
                        &[
                            "NULL", "TRUE", "FALSE", "AS", "INTERVAL", "DAY", "WEEK", "MONTH", "QUARTER", "YEAR",
                        ],
                    )
            }
            _ => false,
        };
        !t.is_any_word(t.skip(array.start, array.end), &["SELECT", "WITH"]) && array.clone().any(is_column)
    }

    /// The table after the FROM at `i`, if arrays of it are unnested beside it; the token after them.
    pub(super) fn unnested_table(&mut self, i: usize, end: usize) -> Result<Option<usize>, SyntaxError> {
        let t = self.tokens;
        let start = t.skip(i + 1, end);
        if !t.is_word(i, "FROM") || !matches!(t.kind(start), Some(Kind::Word | Kind::Quoted)) {
            return Ok(None);
        }
        let Ok(Some((path, next))) = Path::read(t, start..end) else {
            return Ok(None);
        };
        let alias = self.alias(next, end);
        let mut after = alias.map_or(next, |a| a + 1);
        let mut found = vec![];
        loop {
            let mut word = t.skip(after, end);
            if t.is_symbol(word, ",") {
                word = t.skip(word + 1, end);
            } else if t.is_word(word, "CROSS") && t.is_word(t.skip(word + 1, end), "JOIN") {
                word = t.skip(t.skip(word + 1, end) + 1, end);
            } else {
                break;
            }
            let Some(unnest) = Some(word)
                .filter(|w| t.is_word(*w, "UNNEST"))
                .and_then(|w| self.named_unnest(t.skip(w + 1, end), end))
            else {
                break;
            };
            if !self.has_column(&unnest.array) {
                break;
            }
            after = unnest.name + 1;
            found.push(unnest);
        }
        if found.is_empty() {
            return Ok(None);
        }
        let at = path.span.start;
        self.plain(i..start);
        for Unnest { array, name } in found.iter().rev() {
            self.out.put("(SELECT *, unnest(", at);
            self.operand(array.clone())?;
            self.out.put(") AS ", at);
            self.range(*name..*name + 1)?;
            self.out.put(" FROM ", at);
        }
        self.out.put(&path.sql(), at);
        for closing in std::iter::once(" AS ").chain(found.iter().map(|_| ") AS ")) {
            self.out.put(closing, at);
            match alias {
                Some(name) => self.range(name..name + 1)?,
                None => self.out.put(&path.last_sql(), at),
            }
        }
        Ok(Some(after))
    }
}
