//! `FROM t, UNNEST(array) AS x`, where x is an element.
//!
//! For DataFusion x would be a table, so that it is written `AS x(x)`. Nor does DataFusion take a column of another table of
//! the same FROM there: then the table itself, or the call or query in its place, is written with a row for each element,
//! `FROM (SELECT *, unnest(array) AS x FROM t AS t) AS t`. `WITH OFFSET` is a second array, of the places, that is unnested
//! beside the first.

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

/// The name of places where none is given.
const OFFSET: &str = "\"offset\"";

/// A call of UNNEST in FROM.
struct Unnest {
    /// What is in its brackets.
    array: Range<usize>,
    /// The token that names an element.
    name: Option<usize>,
    /// WITH OFFSET is there, and perhaps a token that names the places.
    offset: Option<Option<usize>>,
    /// The token after all of this.
    end: usize,
    /// Whether a row without elements stays, as LEFT JOIN has it.
    keeps_rows: bool,
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

    /// The call whose bracket opens at `open`, unless its columns are named in brackets.
    fn unnest_at(&self, open: usize, end: usize) -> Option<Unnest> {
        let t = self.tokens;
        let close = t.partner(open).filter(|c| t.is_symbol(open, "(") && *c < end)?;
        let name = self.alias(close + 1, end);
        let mut after = name.map_or(close, |n| n) + 1;
        let with = t.skip(after, end);
        if t.is_symbol(with, "(") {
            return None;
        }
        let mut offset = None;
        if t.is_word(with, "WITH") {
            let word = t.skip(with + 1, end);
            if !t.is_word(word, "OFFSET") {
                return None;
            }
            let place = self.alias(word + 1, end);
            after = place.unwrap_or(word) + 1;
            offset = Some(place);
        }
        Some(Unnest {
            array: open + 1..close,
            name,
            offset,
            end: after,
            keeps_rows: false,
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
        let Some(unnest) = self.unnest_at(open, end) else {
            return Ok(None);
        };
        let close = unnest.array.end;
        let at = t.span(close).start;
        if let Some(query) = self.query_in(&unnest) {
            return self.unnest_query(&unnest, query, at).map(Some);
        }
        if unnest.name.or(unnest.offset.map(|_| 0)).is_none() {
            return Ok(None);
        }
        self.out.put("UNNEST(", t.span(open).start);
        self.range(unnest.array.clone())?;
        if unnest.offset.is_some() {
            self.out.put(", ", at);
            self.places(&unnest, at)?;
        }
        match unnest.name {
            Some(name) => self.range(close..name + 1)?,
            None => self.out.put(") AS \"element\"", at),
        }
        self.out.put("(", at);
        self.element_name(&unnest, 0)?;
        if let Some(place) = unnest.offset {
            self.out.put(", ", at);
            self.place_name(place, at)?;
        }
        self.out.put(")", at);
        Ok(Some(unnest.end))
    }

    /// The query whose one value is the array, in its brackets.
    fn query_in(&self, unnest: &Unnest) -> Option<Range<usize>> {
        let t = self.tokens;
        let array = t.trim(unnest.array.clone());
        let whole = t.is_symbol(array.start, "(") && t.partner(array.start) == Some(array.end.checked_sub(1)?);
        let is_query = t.is_any_word(t.skip(array.start + 1, array.end), &["SELECT", "WITH"]);
        (whole && is_query && unnest.offset.is_none()).then_some(array)
    }

    /// `UNNEST((SELECT …))`: the elements of the array that a query gives, by their name or, without one, structs by their fields.
    fn unnest_query(&mut self, unnest: &Unnest, query: Range<usize>, at: usize) -> Result<usize, SyntaxError> {
        let element = unnest.name.is_none();
        self.out
            .put(if element { "(SELECT \"element\".* FROM " } else { "" }, at);
        self.out.put("(SELECT unnest(\"array\") AS ", at);
        self.element_name(unnest, 0)?;
        self.out.put(" FROM ", at);
        self.range(query)?;
        self.out.put(" AS \"arrays\"(\"array\")) AS \"elements\"", at);
        if element {
            self.out.put(") AS \"elements\"", at);
        }
        Ok(unnest.end)
    }

    /// Whether an element is called as the column of `table` that its array is, which it hides then.
    fn hides(&self, unnest: &Unnest, table: Option<&str>) -> bool {
        let t = self.tokens;
        let plain = |i: usize| t.of(i).trim_matches(['`', '"']).to_lowercase();
        let array = t.trim(unnest.array.clone());
        let names: Vec<String> = array.clone().filter(|i| !t.is_symbol(*i, ".")).map(plain).collect();
        let is_path = array
            .clone()
            .all(|i| t.is_symbol(i, ".") || matches!(t.kind(i), Some(Kind::Word | Kind::Quoted)));
        let of_table = match names.as_slice() {
            [_] => true,
            [first, _] => table.is_some_and(|table| table.trim_matches(['`', '"']).eq_ignore_ascii_case(first)),
            _ => false,
        };
        is_path && of_table && unnest.name.map(plain) == names.last().cloned()
    }

    /// The name of an element: what was written, or one of its own.
    fn element_name(&mut self, unnest: &Unnest, number: usize) -> Result<(), SyntaxError> {
        match unnest.name {
            Some(name) => return self.range(name..name + 1),
            None => {
                let at = self.tokens.span(unnest.array.end).start;
                let name = if number == 0 {
                    "\"element\"".into()
                } else {
                    format!("\"element_{}\"", number + 1)
                };
                self.out.put(&name, at);
            }
        }
        Ok(())
    }

    fn place_name(&mut self, place: Option<usize>, at: usize) -> Result<(), SyntaxError> {
        match place {
            Some(name) if !self.tokens.is_word(name, "OFFSET") => self.range(name..name + 1),
            _ => {
                self.out.put(OFFSET, at);
                Ok(())
            }
        }
    }

    /// The places of an array's elements, from 0.
    fn places(&mut self, unnest: &Unnest, at: usize) -> Result<(), SyntaxError> {
        self.out.put("range(0, google_array_length(", at);
        self.operand(unnest.array.clone())?;
        self.out.put("))", at);
        Ok(())
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

    /// The UNNEST that is joined at `i`, and the token after the join.
    fn joined_unnest(&self, i: usize, end: usize) -> Option<(Unnest, usize)> {
        let t = self.tokens;
        let word = t.skip(i, end);
        let next = t.skip(word + 1, end);
        let (call, keeps_rows) = if t.is_symbol(word, ",") {
            (next, false)
        } else if t.is_any_word(word, &["CROSS", "INNER"]) && t.is_word(next, "JOIN") {
            (t.skip(next + 1, end), false)
        } else if t.is_word(word, "LEFT") {
            let join = if t.is_word(next, "OUTER") {
                t.skip(next + 1, end)
            } else {
                next
            };
            (t.skip(join + 1, end), t.is_word(join, "JOIN"))
        } else {
            return None;
        };
        let unnest = Some(call)
            .filter(|c| t.is_word(*c, "UNNEST"))
            .and_then(|c| self.unnest_at(t.skip(c + 1, end), end))
            .filter(|u| self.has_column(&u.array))?;
        let mut after = unnest.end;
        let on = t.skip(after, end);
        if keeps_rows && t.is_word(on, "ON") {
            let condition = t.skip(on + 1, end);
            if !t.is_word(condition, "TRUE") {
                return None;
            }
            after = condition + 1;
        }
        Some((Unnest { keeps_rows, ..unnest }, after))
    }

    /// The table after the FROM at `i`, or the call or query there, if arrays of it are unnested beside it; the token after
    /// them.
    pub(super) fn unnested_table(&mut self, i: usize, end: usize) -> Result<Option<usize>, SyntaxError> {
        let t = self.tokens;
        let start = t.skip(i + 1, end);
        let path = match t.kind(start) {
            Some(Kind::Word | Kind::Quoted) if t.is_word(i, "FROM") && start < end => match Path::read(t, start..end) {
                Ok(Some(found)) => Some(found),
                _ => return Ok(None),
            },
            Some(Kind::Symbol) if t.is_word(i, "FROM") && t.is_symbol(start, "(") => None,
            _ => return Ok(None),
        };
        let open = path.as_ref().map_or(start, |(_, next)| t.skip(*next, end));
        let call_end = t
            .partner(open)
            .filter(|c| t.is_symbol(open, "(") && *c < end)
            .map(|c| c + 1);
        let Some(next) = call_end.or(path.as_ref().map(|(_, next)| *next)) else {
            return Ok(None);
        };
        let alias = self.alias(next, end);
        if path.is_none() && alias.is_none() {
            return Ok(None);
        }
        let mut after = alias.map_or(next, |a| a + 1);
        let mut found = vec![];
        while let Some((unnest, next)) = self.joined_unnest(after, end) {
            after = next;
            found.push(unnest);
        }
        if found.is_empty() {
            return Ok(None);
        }
        let at = t.span(start).start;
        self.plain(i..start);
        let table = match (alias, &path) {
            (Some(name), _) => Some(t.of(name).to_string()),
            (None, Some((path, _))) => Some(path.last_sql().to_string()),
            (None, None) => None,
        };
        for (number, unnest) in found.iter().enumerate().rev() {
            if unnest.name.is_none() {
                // The fields of an element without a name are columns.
                self.out.put("(SELECT * EXCEPT (", at);
                self.element_name(unnest, number)?;
                self.out.put("), ", at);
                self.element_name(unnest, number)?;
                self.out.put(".* FROM ", at);
            }
            if self.hides(unnest, table.as_deref()) {
                self.out.put("(SELECT * EXCEPT (", at);
                self.element_name(unnest, number)?;
                self.out.put("), unnest(", at);
            } else {
                self.out.put("(SELECT *, unnest(", at);
            }
            self.elements(unnest, false, at)?;
            self.out.put(") AS ", at);
            self.element_name(unnest, number)?;
            if let Some(place) = unnest.offset {
                self.out.put(", unnest(", at);
                self.elements(unnest, true, at)?;
                self.out.put(") AS ", at);
                self.place_name(place, at)?;
            }
            self.out.put(" FROM ", at);
        }
        match (&path, call_end) {
            (Some((path, _)), None) => self.out.put(&path.sql(), at),
            _ => self.range(start..next)?,
        }
        let unnamed = found.iter().filter(|u| u.name.is_none()).count();
        let levels = found.len() + unnamed;
        for closing in std::iter::once(" AS ").chain(std::iter::repeat_n(") AS ", levels)) {
            self.out.put(closing, at);
            match (alias, &path) {
                (Some(name), _) => self.range(name..name + 1)?,
                (None, Some((path, _))) => self.out.put(&path.last_sql(), at),
                (None, None) => {}
            }
        }
        Ok(Some(after))
    }

    /// The array of an UNNEST, or that of its places, with one NULL in it where a row without elements stays.
    fn elements(&mut self, unnest: &Unnest, places: bool, at: usize) -> Result<(), SyntaxError> {
        if unnest.keeps_rows {
            self.out.put("CASE WHEN cardinality(", at);
            self.operand(unnest.array.clone())?;
            self.out.put(") > 0 THEN ", at);
        }
        if places {
            self.places(unnest, at)?;
        } else {
            self.operand(unnest.array.clone())?;
        }
        if unnest.keeps_rows {
            self.out.put(" ELSE [NULL] END", at);
        }
        Ok(())
    }
}
