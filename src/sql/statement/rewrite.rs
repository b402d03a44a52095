//! Walks over the tokens of a piece of SQL and writes it out again: the forms with MODEL and TABLE in any dialect, and
//! what [`super::bigquery`] knows where the dialect is BigQuery's.

use std::ops::Range;

use super::lexer::Kind;
use super::literal::{identifier, identifiers_sql, string_sql};
use super::path::Path;
use super::script::Variables;
use super::source::{Builder, Span, Sql, SyntaxError, quote};
use super::tokens::Tokens;
use crate::sql::functions::feature::is_feature_function;

/// The functions beside `ML.…` that take TABLE.
const VERBS: &[&str] = &["KMEANS_SEGMENT", "CHURN_SCORE", "RECOMMEND"];

/// Calls within calls are followed so deep, so that no text exhausts the stack.
const MAX_DEPTH: usize = 60;

/// So long may a rewritten statement become.
const MAX_BYTES: usize = 64 << 20;

/// Writes a piece of SQL out again.
pub(super) struct Rewriter<'a> {
    pub(super) tokens: &'a Tokens<'a>,
    /// Whether the dialect is BigQuery's.
    pub(super) bigquery: bool,
    /// Whether only constants can stand here, so that what is in double quotes is a string.
    pub(super) constants: bool,
    pub(super) variables: &'a Variables,
    pub(super) out: Builder<'a>,
    depth: usize,
}

impl<'a> Rewriter<'a> {
    pub(super) fn new(tokens: &'a Tokens<'a>, bigquery: bool, variables: &'a Variables) -> Self {
        Self {
            tokens,
            bigquery,
            constants: false,
            variables,
            out: Builder::new(tokens.text),
            depth: 0,
        }
    }

    /// The rewritten text of a range.
    pub(super) fn sql(mut self, range: Range<usize>) -> Result<Sql, SyntaxError> {
        let span = self.tokens.span_of(&range);
        self.range(range)?;
        Ok(self.out.finish(span))
    }

    /// Writes out the tokens of a range.
    pub(super) fn range(&mut self, range: Range<usize>) -> Result<(), SyntaxError> {
        if self.depth > MAX_DEPTH || self.out.len() > MAX_BYTES {
            return Err(SyntaxError::new(
                self.tokens.span_of(&range),
                format!(
                    "the calls here are nested more than {MAX_DEPTH} deep, or too long; use WITH and several steps"
                ),
            ));
        }
        self.depth += 1;
        let mut i = range.start;
        while i < range.end {
            let next = match self.model_call(i, range.end)? {
                None if self.bigquery => self.spelling(i, range.end)?,
                next => next,
            };
            i = match next {
                Some(next) => next,
                None => {
                    self.token(i)?;
                    i + 1
                }
            };
        }
        self.depth -= 1;
        Ok(())
    }

    /// Writes out one argument or operand: trimmed, unless a comment stands at its ends.
    pub(super) fn operand(&mut self, range: Range<usize>) -> Result<(), SyntaxError> {
        let trimmed = self.tokens.trim(range.clone());
        let comments = |mut side: Range<usize>| side.any(|i| self.tokens.kind(i) == Some(Kind::Comment));
        if comments(range.start..trimmed.start) || comments(trimmed.end..range.end) {
            self.range(range)
        } else {
            self.range(trimmed)
        }
    }

    /// Writes out a query that is to stand in brackets as an argument, where DataFusion's parser takes only what begins
    /// with SELECT or WITH.
    pub(super) fn query(&mut self, range: Range<usize>) -> Result<(), SyntaxError> {
        let (t, start) = (self.tokens, self.tokens.span(range.start).start);
        let end = t.span_of(&range).end;
        if t.is_any_word(range.start, &["SELECT", "WITH"]) {
            return self.range(range);
        }
        self.out.put("SELECT * FROM (", start);
        self.range(range)?;
        self.out.put(")", end);
        Ok(())
    }

    /// Writes out one token.
    fn token(&mut self, i: usize) -> Result<(), SyntaxError> {
        let (text, span) = (self.tokens.of(i), self.tokens.span(i));
        let replaced = match self.tokens.kind(i) {
            Some(Kind::Text) if self.bigquery => Some(string_sql(text, span)?),
            Some(Kind::Quoted) if self.bigquery => Some(identifiers_sql(text, span)?),
            Some(Kind::Quoted) if self.constants && text.starts_with('"') => Some(quote(&identifier(text, span)?)),
            Some(Kind::Comment) if self.bigquery && text.starts_with('#') => Some(format!("--{}", &text[1..])),
            // There comments do not nest, here they do.
            Some(Kind::Comment) if self.bigquery && text.starts_with("/*") && text[2..].contains("/*") => {
                Some(format!("/*{}", text[2..].replace("/*", "/ *")))
            }
            Some(Kind::Number) if self.bigquery && text.len() > 2 && text[..2].eq_ignore_ascii_case("0x") => {
                i64::from_str_radix(&text[2..], 16).ok().map(|v| v.to_string())
            }
            // DataFusion looks for a function of two words as it is written.
            Some(Kind::Word) if self.names_feature_function(i) => Some(text.to_uppercase()),
            Some(Kind::Word) if self.bigquery => self.variables.value_at(self.tokens, i),
            _ => None,
        };
        match replaced {
            Some(new) if new != text => self.out.put(&new, span.start),
            _ => self.out.copy(span),
        }
        Ok(())
    }

    /// Whether the word at `i` is one of the two before the bracket of `ML.BUCKETIZE(…)` or its like.
    fn names_feature_function(&self, i: usize) -> bool {
        let t = self.tokens;
        let end = t.all.len();
        let before = t.before(i);
        let (schema, word) = match before.filter(|dot| t.is_symbol(*dot, ".")) {
            Some(dot) => (t.before(dot), i),
            None => (Some(i), t.skip(t.skip(i + 1, end) + 1, end)),
        };
        schema.is_some_and(|s| {
            t.is_word(s, "ML") && t.is_symbol(t.skip(s + 1, end), ".") && t.skip(t.skip(s + 1, end) + 1, end) == word
        }) && is_feature_function(t.of(word))
            && t.is_symbol(t.skip(word + 1, end), "(")
    }

    /// A call of `ML.…` or of a verb with MODEL or TABLE among its arguments; the token after it.
    fn model_call(&mut self, i: usize, end: usize) -> Result<Option<usize>, SyntaxError> {
        let t = self.tokens;
        if t.kind(i) != Some(Kind::Word) || t.before(i).is_some_and(|b| t.is_symbol(b, ".")) {
            return Ok(None);
        }
        let is_verb = t.is_any_word(i, VERBS);
        let open = if is_verb {
            t.skip(i + 1, end)
        } else if t.is_word(i, "ML") {
            let dot = t.skip(i + 1, end);
            let function = t.skip(dot + 1, end);
            if !t.is_symbol(dot, ".") || t.kind(function) != Some(Kind::Word) {
                return Ok(None);
            }
            t.skip(function + 1, end)
        } else {
            return Ok(None);
        };
        if open >= end || !t.is_symbol(open, "(") {
            return Ok(None);
        }
        let first = t.skip(open + 1, end);
        if t.partner(open).is_none() && self.names(first, end) {
            t.close_of(open)?;
        }
        let Some(close) = t.partner(open).filter(|c| *c < end) else {
            return Ok(None);
        };
        let arguments = t.between_commas(open + 1..close);
        if !arguments.iter().any(|a| self.names(t.skip(a.start, a.end), a.end)) {
            return Ok(None);
        }
        self.out.copy(Span::new(t.span(i).start, t.span(open).end));
        for (at, argument) in arguments.into_iter().enumerate() {
            if at > 0 {
                self.out.copy(t.span(argument.start - 1));
            }
            let trimmed = t.trim(argument.clone());
            self.space(argument.start..trimmed.start)?;
            self.argument(trimmed.clone(), is_verb)?;
            self.space(trimmed.end..argument.end)?;
        }
        self.out.copy(t.span(close));
        Ok(Some(close + 1))
    }

    /// Spaces and comments between arguments.
    fn space(&mut self, range: Range<usize>) -> Result<(), SyntaxError> {
        range.into_iter().try_for_each(|i| self.token(i))
    }

    /// Whether MODEL or TABLE stands at `i` with a name after it, and is no name itself.
    fn names(&self, i: usize, end: usize) -> bool {
        let t = self.tokens;
        let name = t.skip(i + 1, end);
        t.is_any_word(i, &["MODEL", "TABLE"])
            && name > i + 1
            && name < end
            && !matches!(t.kind(name), None | Some(Kind::Symbol))
    }

    fn argument(&mut self, range: Range<usize>, is_verb: bool) -> Result<(), SyntaxError> {
        let t = self.tokens;
        if range.is_empty() {
            return Err(SyntaxError::new(
                t.span(range.start),
                "an argument is missing here; remove the comma, or write the argument",
            ));
        }
        if self.names(range.start, range.end) {
            let is_model = t.is_word(range.start, "MODEL");
            let at = t.span(range.start).start;
            let name = t.skip(range.start + 1, range.end);
            let Some((path, next)) = Path::read(t, name..range.end)? else {
                return self.range(range);
            };
            let rest = t.skip(next, range.end);
            if rest < range.end {
                return Err(SyntaxError::new(
                    t.span(rest),
                    format!(
                        "'{}' stands after the name of a {}; end the argument with a comma or a bracket",
                        t.of(rest),
                        if is_model { "model" } else { "table" }
                    ),
                ));
            }
            if is_model {
                self.out.put(&quote(&path.model()?.text()), at);
                return Ok(());
            }
            self.out.put("(SELECT * FROM ", at);
            if !self.bigquery && path.is_generic() {
                self.out.copy(path.span);
            } else {
                self.out.put(&path.sql(), path.span.start);
            }
            self.out.put(")", path.span.end);
            return Ok(());
        }
        if t.is_any_word(range.start, &["SELECT", "WITH"]) {
            return Err(SyntaxError::new(
                t.span(range.start),
                format!(
                    "a query as an argument stands in brackets; write ({} …)",
                    t.of(range.start)
                ),
            ));
        }
        let open = t.skip(range.start + 1, range.end);
        if !is_verb
            && t.is_word(range.start, "STRUCT")
            && t.is_symbol(open, "(")
            && t.partner(open) == Some(range.end - 1)
        {
            return self.named_values(open);
        }
        let inner = t.skip(range.start + 1, range.end);
        let is_query = t.is_symbol(range.start, "(") && t.partner(range.start) == Some(range.end - 1);
        // `((SELECT …) UNION ALL (SELECT …))`
        if is_query
            && t.is_symbol(inner, "(")
            && t.partner(inner)
                .is_some_and(|c| t.skip(c + 1, range.end) + 1 < range.end)
        {
            self.out.copy(t.span(range.start));
            self.query(t.trim(range.start + 1..range.end - 1))?;
            self.out.copy(t.span(range.end - 1));
            return Ok(());
        }
        self.range(range)
    }

    /// `STRUCT(0.3 AS threshold)` as `threshold => 0.3`.
    fn named_values(&mut self, open: usize) -> Result<(), SyntaxError> {
        let t = self.tokens;
        let close = t.close_of(open)?;
        for (at, field) in t.between_commas(open + 1..close).into_iter().enumerate() {
            let field = t.trim(field);
            let named = t.last_word(&field, "AS").and_then(|word| {
                let name = t.skip(word + 1, field.end);
                let is_name = matches!(t.kind(name), Some(Kind::Word | Kind::Quoted)) && name + 1 == field.end;
                is_name.then_some((word, name))
            });
            let Some((word, name)) = named else {
                let span = t.span_of(&field);
                return Err(SyntaxError::new(
                    span,
                    format!(
                        "'{}' has no name in this STRUCT; write it with one, as in STRUCT(0.3 AS threshold)",
                        &t.text[span.start..span.end]
                    ),
                ));
            };
            if at > 0 {
                self.out.put(", ", t.span(field.start).start);
            }
            self.token_as_name(name)?;
            self.out.put(" => ", t.span(word).start);
            let outer = std::mem::replace(&mut self.constants, true);
            self.range(t.trim(field.start..word))?;
            self.constants = outer;
        }
        Ok(())
    }

    fn token_as_name(&mut self, i: usize) -> Result<(), SyntaxError> {
        let (text, span) = (self.tokens.of(i), self.tokens.span(i));
        if self.tokens.kind(i) == Some(Kind::Quoted) {
            self.out.put(&identifiers_sql(text, span)?, span.start);
        } else {
            self.out.copy(span);
        }
        Ok(())
    }
}
