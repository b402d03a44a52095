//! `OPTIONS (key = value, …)`, which is GoogleSQL in any dialect, and its values as SQL for DataFusion.

use std::ops::Range;

use super::lexer::Kind;
use super::literal::{identifier, string_sql};
use super::rewrite::Rewriter;
use super::script::Variables;
use super::source::{Span, SyntaxError, quote};
use super::tokens::Tokens;

/// An option of a model statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelOption {
    /// Its name, as written.
    pub name: String,
    /// What it is set to.
    pub value: OptionValue,
    /// Where the name stands.
    pub name_span: Span,
    /// Where the value stands.
    pub value_span: Span,
}

/// What an option is set to. All SQL is spelled as DataFusion spells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OptionValue {
    /// A constant, as SQL.
    Constant(String),
    /// `HPARAM_RANGE(low, high)`: a search between two constants.
    Range {
        /// The lower bound.
        low: String,
        /// The upper bound.
        high: String,
    },
    /// `HPARAM_CANDIDATES([…])`: a search among constants.
    Candidates(Vec<String>),
}

impl OptionValue {
    /// The value as the function forms write it.
    pub fn sql(&self) -> String {
        match self {
            OptionValue::Constant(sql) => sql.clone(),
            OptionValue::Range { low, high } => format!("HPARAM_RANGE({low}, {high})"),
            OptionValue::Candidates(values) => format!("HPARAM_CANDIDATES([{}])", values.join(", ")),
        }
    }

    /// The string, if it is one.
    pub fn text(&self) -> Option<String> {
        match self {
            OptionValue::Constant(sql) => {
                let inner = sql.strip_prefix('\'')?.strip_suffix('\'')?;
                let text = inner.replace("''", "'");
                (quote(&text) == *sql).then_some(text)
            }
            _ => None,
        }
    }
}

/// The options between the bracket at `open` and its partner.
pub(super) fn parse(tokens: &Tokens<'_>, open: usize, variables: &Variables) -> Result<Vec<ModelOption>, SyntaxError> {
    let close = tokens.close_of(open)?;
    let mut options: Vec<ModelOption> = vec![];
    let mut given = tokens.between_commas(open + 1..close);
    // A comma after the last option is common, and harmless.
    given.pop_if(|last| tokens.trim(last.clone()).is_empty());
    for range in given {
        let option = option(tokens, tokens.trim(range), variables)?;
        if options.iter().any(|o| o.name.eq_ignore_ascii_case(&option.name)) {
            return Err(SyntaxError::new(
                option.name_span,
                format!("the option '{}' is given twice; give it once", option.name),
            ));
        }
        options.push(option);
    }
    Ok(options)
}

fn option(tokens: &Tokens<'_>, range: Range<usize>, variables: &Variables) -> Result<ModelOption, SyntaxError> {
    let key = range.start;
    let name_span = tokens.span(key);
    let name = match tokens.kind(key) {
        _ if range.is_empty() => {
            return Err(SyntaxError::new(
                name_span,
                "an option is missing before this comma; remove the comma, or write name = value",
            ));
        }
        Some(Kind::Word) => tokens.of(key).to_string(),
        Some(Kind::Quoted) => identifier(tokens.of(key), name_span)?,
        _ => {
            return Err(SyntaxError::new(
                name_span,
                format!("'{}' is no name of an option; write name = value", tokens.of(key)),
            ));
        }
    };
    if !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return Err(SyntaxError::new(
            name_span,
            format!("'{name}' is no name of an option; use letters, digits and _"),
        ));
    }
    let equals = tokens.skip(key + 1, range.end);
    let arrow = tokens.is_symbol(equals, "=") && tokens.is_symbol(equals + 1, ">");
    if arrow || !tokens.is_symbol(equals, "=") {
        let span = if equals < range.end {
            tokens.span(equals)
        } else {
            name_span
        };
        let found = if arrow { "=>" } else { tokens.of(equals) };
        let message = if equals >= range.end {
            format!("the option '{name}' has no value; write {name} = value")
        } else {
            format!(
                "'=' is missing between the option '{name}' and its value, where '{found}' stands; write {name} = value"
            )
        };
        return Err(SyntaxError::new(span, message));
    }
    let range = tokens.trim(equals + 1..range.end);
    if range.is_empty() {
        return Err(SyntaxError::new(
            tokens.span(equals),
            format!("the option '{name}' has no value; write {name} = value"),
        ));
    }
    if let Some(word) = forgotten_comma(tokens, &range) {
        return Err(SyntaxError::new(
            tokens.span(word),
            format!(
                "a comma is missing before '{}'; write one between two options",
                tokens.of(word)
            ),
        ));
    }
    let value_span = tokens.span_of(&range);
    Ok(ModelOption {
        name,
        value: Values {
            tokens,
            variables,
            depth: 0,
        }
        .option(range)?,
        name_span,
        value_span,
    })
}

/// The word that begins a second option in what should be a value: `'kmeans' num_clusters = 3`.
fn forgotten_comma(tokens: &Tokens<'_>, range: &Range<usize>) -> Option<usize> {
    (range.start + 1..range.end).find(|word| {
        let next = tokens.skip(word + 1, range.end);
        let ends_value = tokens.before(*word).filter(|b| *b >= range.start).is_some_and(|b| {
            matches!(tokens.kind(b), Some(Kind::Text | Kind::Number))
                || tokens.is_symbol(b, "]")
                || tokens.is_symbol(b, ")")
                || tokens.is_any_word(b, &["TRUE", "FALSE", "NULL"])
        });
        let is_assigned = tokens.is_symbol(next, "=") && !tokens.is_symbol(next + 1, ">") && next < range.end;
        tokens.kind(*word) == Some(Kind::Word) && ends_value && is_assigned
    })
}

/// Reads values.
struct Values<'a> {
    tokens: &'a Tokens<'a>,
    variables: &'a Variables,
    depth: usize,
}

impl Values<'_> {
    fn option(&mut self, range: Range<usize>) -> Result<OptionValue, SyntaxError> {
        let t = self.tokens;
        let span = t.span_of(&range);
        let Some(inner) = self.call(&range) else {
            return Ok(OptionValue::Constant(self.value(range)?));
        };
        if t.is_word(range.start, "HPARAM_RANGE") {
            let mut bounds = self.list(inner)?.into_iter();
            return match (bounds.next(), bounds.next(), bounds.next()) {
                (Some(low), Some(high), None) => Ok(OptionValue::Range { low, high }),
                _ => Err(SyntaxError::new(
                    span,
                    "HPARAM_RANGE takes two bounds; write HPARAM_RANGE(0.1, 1.0)",
                )),
            };
        }
        if t.is_word(range.start, "HPARAM_CANDIDATES") {
            let inner = t.trim(inner);
            let values = match self.brackets(&inner) {
                Some(inner) => self.list(inner)?,
                None => vec![],
            };
            if values.is_empty() {
                return Err(SyntaxError::new(
                    span,
                    "HPARAM_CANDIDATES takes a list of values; write HPARAM_CANDIDATES([1, 2, 4])",
                ));
            }
            return Ok(OptionValue::Candidates(values));
        }
        Ok(OptionValue::Constant(self.value(range)?))
    }

    /// What is between the brackets of `NAME(…)`, if the range is such a call.
    fn call(&self, range: &Range<usize>) -> Option<Range<usize>> {
        let t = self.tokens;
        let open = t.skip(range.start + 1, range.end);
        let whole = t.kind(range.start) == Some(Kind::Word) && t.is_symbol(open, "(");
        (whole && t.partner(open) == Some(range.end - 1)).then(|| open + 1..range.end - 1)
    }

    /// What is between the brackets of `[…]`, `ARRAY[…]` or `ARRAY<…>[…]`, if the range is such a list.
    fn brackets(&self, range: &Range<usize>) -> Option<Range<usize>> {
        let t = self.tokens;
        let open = if t.is_word(range.start, "ARRAY") {
            self.after_types(range)
        } else {
            range.start
        };
        (t.is_symbol(open, "[") && t.partner(open) == Some(range.end.checked_sub(1)?)).then(|| open + 1..range.end - 1)
    }

    /// The token after the word at the begin of a range and its types.
    fn after_types(&self, range: &Range<usize>) -> usize {
        let t = self.tokens;
        t.after_types(range.start, range.end)
            .unwrap_or_else(|| t.skip(range.start + 1, range.end))
    }

    fn list(&mut self, inner: Range<usize>) -> Result<Vec<String>, SyntaxError> {
        let t = self.tokens;
        t.between_commas(inner)
            .into_iter()
            .map(|item| self.value(t.trim(item)))
            .collect()
    }

    /// A value as SQL.
    fn value(&mut self, range: Range<usize>) -> Result<String, SyntaxError> {
        let t = self.tokens;
        let span = t.span_of(&range);
        if range.is_empty() {
            return Err(SyntaxError::new(
                t.span(range.start),
                "a value is missing here; remove the comma, or write the value",
            ));
        }
        self.depth += 1;
        if self.depth > 40 {
            return Err(SyntaxError::new(
                span,
                "this value is nested more than 40 deep; write it flat",
            ));
        }
        let sql = self.shape(range, span)?;
        self.depth -= 1;
        Ok(sql)
    }

    fn shape(&mut self, range: Range<usize>, span: Span) -> Result<String, SyntaxError> {
        let t = self.tokens;
        let first = range.start;
        if range.len() == 1 {
            match t.kind(first) {
                Some(Kind::Text) => return string_sql(t.of(first), span),
                Some(Kind::Number) => return Ok(number(t.of(first))),
                _ => {}
            }
        }
        if t.is_symbol(first, "-") || t.is_symbol(first, "+") {
            let digits = t.skip(first + 1, range.end);
            if digits + 1 == range.end && t.kind(digits) == Some(Kind::Number) {
                let sign = if t.is_symbol(first, "-") { "-" } else { "" };
                return Ok(format!("{sign}{}", number(t.of(digits))));
            }
        }
        if let Some(inner) = self.brackets(&range) {
            return Ok(format!("[{}]", self.list(inner)?.join(", ")));
        }
        if t.is_word(first, "STRUCT") {
            let open = self.after_types(&range);
            if t.is_symbol(open, "(") && t.partner(open) == Some(range.end - 1) {
                return self.fields(open + 1..range.end - 1, span);
            }
        }
        if t.is_symbol(first, "(") && t.partner(first) == Some(range.end - 1) {
            let inner = first + 1..range.end - 1;
            return match t.between_commas(inner.clone()).len() {
                1 => self.value(t.trim(inner)),
                _ => self.fields(inner, span),
            };
        }
        if t.is_any_word(first, &["HPARAM_RANGE", "HPARAM_CANDIDATES"]) {
            return Err(SyntaxError::new(
                span,
                format!(
                    "{} is no part of another value; give it as the option's whole value",
                    t.of(first)
                ),
            ));
        }
        Ok(Rewriter::new(t, true, self.variables).sql(range)?.text)
    }

    /// `STRUCT(…)` as `struct(…)`, or as `named_struct(…)` where fields have names.
    fn fields(&mut self, inner: Range<usize>, span: Span) -> Result<String, SyntaxError> {
        let t = self.tokens;
        let mut fields: Vec<(Option<String>, String)> = vec![];
        for field in t.between_commas(inner) {
            let field = t.trim(field);
            let word = t.last_word(&field, "AS");
            let name = match word {
                Some(word) => {
                    let name = t.trim(word + 1..field.end);
                    match t.kind(name.start) {
                        Some(Kind::Word) if name.len() == 1 => Some(t.of(name.start).to_string()),
                        Some(Kind::Quoted) if name.len() == 1 => {
                            Some(identifier(t.of(name.start), t.span(name.start))?)
                        }
                        _ => {
                            return Err(SyntaxError::new(
                                t.span(word),
                                "one name follows AS in a STRUCT; write STRUCT('a' AS label, 0.2 AS weight)",
                            ));
                        }
                    }
                }
                None => None,
            };
            let value = self.value(t.trim(field.start..word.unwrap_or(field.end)))?;
            fields.push((name, value));
        }
        if fields.is_empty() {
            return Err(SyntaxError::new(
                span,
                "this STRUCT has no fields; write them in its brackets, as in STRUCT('a', 0.2)",
            ));
        }
        if fields.iter().all(|(name, _)| name.is_none()) {
            let values: Vec<String> = fields.into_iter().map(|(_, value)| value).collect();
            return Ok(format!("struct({})", values.join(", ")));
        }
        let pairs: Vec<String> = fields
            .into_iter()
            .enumerate()
            .map(|(i, (name, value))| format!("{}, {value}", quote(&name.unwrap_or(format!("c{i}")))))
            .collect();
        Ok(format!("named_struct({})", pairs.join(", ")))
    }
}

/// A number with a digit on both sides of its dot.
fn number(text: &str) -> String {
    if let Some(value) = text
        .strip_prefix("0x")
        .or_else(|| text.strip_prefix("0X"))
        .and_then(|digits| i64::from_str_radix(digits, 16).ok())
    {
        return value.to_string();
    }
    let text = if text.starts_with('.') {
        format!("0{text}")
    } else {
        text.to_string()
    };
    match text.find('.') {
        Some(dot) if !text[dot + 1..].starts_with(|c: char| c.is_ascii_digit()) => {
            format!("{}.0{}", &text[..dot], &text[dot + 1..])
        }
        _ => text,
    }
}
