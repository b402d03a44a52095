//! What GoogleSQL spells in another way than DataFusion: casts, array indexes, tables, IF, COUNTIF.

use std::ops::Range;

use super::lexer::Kind;
use super::literal::identifier;
use super::path::Path;
use super::quotient::is_reserved;
use super::rewrite::Rewriter;
use super::source::{Span, SyntaxError, quote, quote_identifier};
use super::tokens::Tokens;

/// Words before the name of a table.
const BEFORE_TABLE: &[&str] = &["FROM", "JOIN", "INTO", "TABLE", "UPDATE", "VIEW", "EXISTS"];

/// What may follow a select list.
const AFTER_SELECT_LIST: &[&str] = &["FROM", "UNION", "INTERSECT", "EXCEPT", "WHERE", "ORDER", "LIMIT"];

/// DataFusion's name of a type of BigQuery; none if it is the same.
pub(super) fn type_name(word: &str, with_size: bool) -> Option<&'static str> {
    Some(match word.to_uppercase().as_str() {
        "STRING" => "VARCHAR",
        "INT64" | "INT" | "INTEGER" | "SMALLINT" | "TINYINT" | "BYTEINT" => "BIGINT",
        "FLOAT64" => "DOUBLE",
        "BOOL" => "BOOLEAN",
        "BYTES" => "BYTEA",
        "NUMERIC" | "DECIMAL" | "BIGNUMERIC" | "BIGDECIMAL" if with_size => "DECIMAL",
        "NUMERIC" | "DECIMAL" => "DECIMAL(38, 9)",
        "BIGNUMERIC" | "BIGDECIMAL" => "DECIMAL(76, 38)",
        "DATETIME" => "TIMESTAMP",
        _ => return None,
    })
}

/// Whether the FROM at `i` is one of `EXTRACT(… FROM x)`, `TRIM(… FROM x)` or `IS DISTINCT FROM x`, before a value.
pub(super) fn is_function_from(tokens: &Tokens<'_>, i: usize) -> bool {
    let of_function = tokens
        .parent(i)
        .and_then(|open| tokens.before(open))
        .is_some_and(|f| tokens.is_any_word(f, &["EXTRACT", "TRIM", "SUBSTRING", "OVERLAY"]));
    of_function || tokens.before(i).is_some_and(|b| tokens.is_word(b, "DISTINCT"))
}

impl Rewriter<'_> {
    /// Writes out what begins at `i`, if GoogleSQL spells it in its own way; the token after it.
    pub(super) fn spelling(&mut self, i: usize, end: usize) -> Result<Option<usize>, SyntaxError> {
        let t = self.tokens;
        if let Some(next) = self.quotient(i, end)? {
            return Ok(Some(next));
        }
        match (t.kind(i), t.of(i)) {
            (Some(Kind::Symbol), ",") => return Ok(self.trailing_comma(i, end)),
            (Some(Kind::Symbol), "[") => return self.index(i),
            (Some(Kind::Symbol), ".") => return self.field(i, end),
            (Some(Kind::Word), _) => {}
            _ => return Ok(None),
        }
        if t.before(i).is_some_and(|b| t.is_symbol(b, ".")) {
            return Ok(None);
        }
        if t.is_any_word(i, BEFORE_TABLE) && !is_function_from(t, i) {
            return match self.unnested_table(i, end)? {
                None => self.dashed_table(i, end),
                next => Ok(next),
            };
        }
        let next = t.skip(i + 1, end);
        if t.is_word(i, "SELECT") && t.is_word(next, "AS") {
            return self.value_table(i, next, end);
        }
        if t.is_word(i, "SAFE") && t.is_symbol(next, ".") {
            return self.safe_call(i, next, end);
        }
        if t.is_word(i, "ARRAY") && t.is_symbol(next, "<") {
            if let Some(after) = self.typed_structs(i, end)? {
                return Ok(Some(after));
            }
            // DataFusion writes the list without its type.
            return Ok(t.after_types(i, end).filter(|open| t.is_symbol(*open, "[")));
        }
        if t.is_word(i, "DATETIME") && t.kind(next) == Some(Kind::Text) && next < end {
            self.out.put("TIMESTAMP", t.span(i).start);
            return Ok(Some(i + 1));
        }
        // DataFusion takes these bare words for a function or a clause.
        let is_taken = (t.is_any_word(i, &["USER", "TOP"]) || self.is_place(i)) && !t.is_symbol(next, "(");
        if is_taken && self.variables.value_at(t, i).is_none() {
            self.out
                .put(&quote_identifier(&t.of(i).to_lowercase()), t.span(i).start);
            return Ok(Some(i + 1));
        }
        let bare = t.is_word(i, "CURRENT_DATETIME") && !t.is_symbol(next, "(");
        if bare && !t.before(i).is_some_and(|b| t.is_word(b, "AS")) {
            self.out.put("google_datetime(now())", t.span(i).start);
            return Ok(Some(i + 1));
        }
        if t.is_word(i, "UNNEST") && t.is_symbol(next, "(") {
            return self.unnest(next, end);
        }
        self.call(i, end)
    }

    /// `SELECT AS STRUCT a, b`: one column, a struct, where the query is a value; in FROM the columns themselves.
    fn value_table(&mut self, i: usize, word: usize, end: usize) -> Result<Option<usize>, SyntaxError> {
        let t = self.tokens;
        let mode = t.skip(word + 1, end);
        if !t.is_any_word(mode, &["STRUCT", "VALUE"]) || t.is_symbol(t.skip(mode + 1, end), "(") {
            return Ok(None);
        }
        self.out.copy(t.span(i));
        let before = t.parent(i).and_then(|open| t.before(open));
        let of_rows = before.is_none_or(|b| t.is_any_word(b, &["FROM", "JOIN", "AS", "IN"]));
        if of_rows || t.is_word(mode, "VALUE") {
            return Ok(Some(mode + 1));
        }
        let list_end = (mode..end)
            .find(|f| t.parent(*f) == t.parent(i) && t.is_any_word(*f, AFTER_SELECT_LIST))
            .unwrap_or(end);
        self.out.put(" STRUCT(", t.span(mode).start);
        for (at, item) in t.between_commas(mode + 1..list_end).into_iter().enumerate() {
            let item = t.trim(item);
            if item.is_empty() {
                continue;
            }
            let start = t.span(item.start).start;
            self.out.put(if at > 0 { ", " } else { "" }, start);
            self.range(item.clone())?;
            let last = item.end - 1;
            let is_path = t.last_word(&item, "AS").is_none()
                && matches!(t.kind(last), Some(Kind::Word | Kind::Quoted))
                && (item.len() == 1 || t.before(last).is_some_and(|b| t.is_symbol(b, ".")));
            if is_path {
                self.out.put(" AS ", start);
                self.range(last..item.end)?;
            }
        }
        self.out.put(") ", t.span(list_end).start);
        Ok(Some(list_end))
    }

    /// Whether the OFFSET at `i` is the column that WITH OFFSET makes, and not the clause after LIMIT.
    fn is_place(&self, i: usize) -> bool {
        let t = self.tokens;
        let before = t.before(i);
        let clause = || {
            let words = [
                "SELECT", "FROM", "WHERE", "GROUP", "HAVING", "QUALIFY", "WINDOW", "ORDER", "LIMIT",
            ];
            (0..i)
                .rev()
                .find(|w| t.parent(*w) == t.parent(i) && t.is_any_word(*w, &words))
        };
        t.is_word(i, "OFFSET")
            && !before.is_some_and(|b| t.is_word(b, "WITH"))
            && !clause().is_some_and(|w| t.is_word(w, "LIMIT"))
    }

    /// The comma that GoogleSQL allows after the last expression of a select list is left out.
    fn trailing_comma(&mut self, i: usize, end: usize) -> Option<usize> {
        let t = self.tokens;
        let next = t.skip(i + 1, end);
        let in_select = match t.parent(i) {
            None => true,
            Some(open) => t.is_any_word(t.skip(open + 1, end), &["SELECT", "WITH"]),
        };
        let last = next >= end || t.is_symbol(next, ")") || t.is_any_word(next, AFTER_SELECT_LIST);
        (in_select && last).then_some(i + 1)
    }

    /// `[OFFSET(i)]`, `[i]` and their like, as an index from 1.
    fn index(&mut self, i: usize) -> Result<Option<usize>, SyntaxError> {
        let t = self.tokens;
        let Some(close) = t.partner(i) else { return Ok(None) };
        let word = t.skip(i + 1, close);
        let open = t.skip(word + 1, close);
        let from_zero = t.is_any_word(word, &["OFFSET", "SAFE_OFFSET"]);
        if !from_zero && !t.is_any_word(word, &["ORDINAL", "SAFE_ORDINAL"]) || !t.is_symbol(open, "(") {
            return self.plain_index(i, close);
        }
        let Some(inner) = t.partner(open).filter(|c| t.skip(*c + 1, close) == close) else {
            return Ok(None);
        };
        let position = t.trim(open + 1..inner);
        let at = t.span(word).start;
        self.out.copy(t.span(i));
        match t.of(position.start).parse::<u32>() {
            Ok(n) if from_zero && position.len() == 1 => self.out.put(&(u64::from(n) + 1).to_string(), at),
            _ if from_zero => {
                let brackets = position.len() > 1;
                self.out.put(if brackets { "(" } else { "" }, at);
                self.range(position)?;
                self.out.put(if brackets { ") + 1" } else { " + 1" }, at);
            }
            _ => self.range(position)?,
        }
        self.out.copy(t.span(close));
        Ok(Some(close + 1))
    }

    /// `array[i]`, which counts from 0 as OFFSET does. What is no index, an array or the name of a field, stays.
    fn plain_index(&mut self, i: usize, close: usize) -> Result<Option<usize>, SyntaxError> {
        let t = self.tokens;
        let of_value = t.before(i).is_some_and(|b| match t.kind(b) {
            Some(Kind::Quoted) => true,
            Some(Kind::Word) => !is_reserved(t.of(b)),
            _ => t.is_symbol(b, "]") || t.is_symbol(b, ")"),
        });
        let position = t.trim(i + 1..close);
        if !of_value || t.between_commas(position.clone()).len() != 1 || t.kind(position.start) == Some(Kind::Text) {
            return Ok(None);
        }
        let at = t.span(i).start;
        self.out.copy(t.span(i));
        match t.of(position.start).parse::<u32>() {
            Ok(n) if position.len() == 1 => self.out.put(&(u64::from(n) + 1).to_string(), at),
            _ => {
                self.out.put("(", at);
                self.range(position)?;
                self.out.put(") + 1", at);
            }
        }
        self.out.copy(t.span(close));
        Ok(Some(close + 1))
    }

    /// A field of what brackets give, `probs[OFFSET(0)].prob`, which DataFusion writes `probs[1]['prob']`.
    fn field(&mut self, i: usize, end: usize) -> Result<Option<usize>, SyntaxError> {
        let t = self.tokens;
        let name = t.skip(i + 1, end);
        let of_brackets = t.before(i).is_some_and(|b| t.is_symbol(b, "]") || t.is_symbol(b, ")"));
        if !of_brackets || name >= end || t.is_symbol(t.skip(name + 1, end), "(") {
            return Ok(None);
        }
        let field = match t.kind(name) {
            Some(Kind::Word) => t.of(name).to_string(),
            Some(Kind::Quoted) => identifier(t.of(name), t.span(name))?,
            _ => return Ok(None),
        };
        self.out.put(&format!("[{}]", quote(&field)), t.span(i).start);
        Ok(Some(name + 1))
    }

    /// A table whose project is dashed, as BigQuery takes it without quotes.
    fn dashed_table(&mut self, i: usize, end: usize) -> Result<Option<usize>, SyntaxError> {
        let t = self.tokens;
        let name = t.skip(i + 1, end);
        if t.kind(name) != Some(Kind::Word) || !t.is_symbol(name + 1, "-") {
            return Ok(None);
        }
        match Path::read(t, name..end)? {
            Some((path, next)) if path.is_dashed_table() => {
                self.out.copy(Span::new(t.span(i).start, path.span.start));
                self.out.put(&path.sql(), path.span.start);
                Ok(Some(next))
            }
            _ => Ok(None),
        }
    }

    pub(super) fn cast(&mut self, i: usize, open: usize, close: usize) -> Result<bool, SyntaxError> {
        let t = self.tokens;
        let Some(word) = t.last_word(&(open + 1..close), "AS") else {
            return Ok(false);
        };
        let to = t.trim(word + 1..close);
        let printed = match type_name(t.of(to.start), false) {
            Some("VARCHAR") if to.len() == 1 => Some("google_string("),
            Some("BIGINT") if to.len() == 1 => Some("google_int64("),
            _ => None,
        };
        if let Some(function) = printed {
            let safe = t.is_word(i, "SAFE_CAST");
            self.out.put(if safe { "google_safe(" } else { "" }, t.span(i).start);
            self.out.put(function, t.span(i).start);
            self.operand(open + 1..word)?;
            self.out.put(if safe { "))" } else { ")" }, t.span(close).start);
            return Ok(true);
        }
        if t.is_word(i, "SAFE_CAST") {
            self.out.put("TRY_CAST", t.span(i).start);
        } else {
            self.out.copy(t.span(i));
        }
        self.plain(i + 1..open + 1);
        self.range(open + 1..word)?;
        self.out.copy(t.span(word));
        self.types(word + 1..close)?;
        self.out.copy(t.span(close));
        Ok(true)
    }

    /// The names of types in a range.
    fn types(&mut self, range: Range<usize>) -> Result<(), SyntaxError> {
        let t = self.tokens;
        for i in range.clone() {
            if t.is_word(i, "FORMAT") {
                return self.range(i..range.end);
            }
            let with_size = t.is_symbol(t.skip(i + 1, range.end), "(");
            match type_name(t.of(i), with_size) {
                Some(name) if t.kind(i) == Some(Kind::Word) => self.out.put(name, t.span(i).start),
                _ => self.range(i..i + 1)?,
            }
        }
        Ok(())
    }

    /// `IF(c, a, b)`.
    pub(super) fn condition(&mut self, i: usize, open: usize, close: usize, end: usize) -> Result<bool, SyntaxError> {
        let t = self.tokens;
        let arguments = t.between_commas(open + 1..close);
        let [test, yes, no] = arguments.as_slice() else {
            return Ok(false);
        };
        let next = t.skip(close + 1, end);
        let accessed = t.is_symbol(next, "[") || t.is_symbol(next, ".");
        let words = [("CASE WHEN ", test), (" THEN ", yes), (" ELSE ", no)];
        self.out.put(if accessed { "(" } else { "" }, t.span(i).start);
        for (word, argument) in words {
            let at = if argument == test {
                i
            } else {
                argument.start.saturating_sub(1)
            };
            self.out.put(word, t.span(at).start);
            self.operand(argument.clone())?;
        }
        self.out
            .put(if accessed { " END)" } else { " END" }, t.span(close).start);
        Ok(true)
    }

    /// A function of two arguments that is an operator here, with the words before, between and behind them.
    pub(super) fn pair(&mut self, i: usize, open: usize, close: usize, words: [&str; 3]) -> Result<bool, SyntaxError> {
        let t = self.tokens;
        let arguments = t.between_commas(open + 1..close);
        let [left, right] = arguments.as_slice() else {
            return Ok(false);
        };
        self.out.put(words[0], t.span(i).start);
        self.operand(left.clone())?;
        self.out.put(words[1], t.span(right.start.saturating_sub(1)).start);
        self.operand(right.clone())?;
        self.out.put(words[2], t.span(close).start);
        Ok(true)
    }

    /// `COUNTIF(c)`.
    pub(super) fn count(&mut self, i: usize, open: usize, close: usize, end: usize) -> Result<bool, SyntaxError> {
        let t = self.tokens;
        if t.between_commas(open + 1..close).len() != 1 || t.is_word(t.skip(open + 1, close), "DISTINCT") {
            return Ok(false);
        }
        let (before, after) = if t.is_word(t.skip(close + 1, end), "OVER") {
            ("COUNT(CASE WHEN ", " THEN 1 END)")
        } else {
            ("COUNT(*) FILTER (WHERE ", ")")
        };
        self.out.put(before, t.span(i).start);
        self.operand(open + 1..close)?;
        self.out.put(after, t.span(close).start);
        Ok(true)
    }

    /// Tokens as they are.
    pub(super) fn plain(&mut self, range: Range<usize>) {
        for i in range {
            self.out.copy(self.tokens.span(i));
        }
    }
}
