//! Variables of a script: `DECLARE x INT64 DEFAULT 3; SET x = 4;`. Later statements get the value in the name's place.

use std::collections::BTreeMap;
use std::ops::Range;

use super::bigquery::{is_function_from, type_name};
use super::lexer::Kind;
use super::rewrite::Rewriter;
use super::source::SyntaxError;
use super::tokens::Tokens;

/// A value may become so long, for `SET x = CONCAT(x, x)` doubles it each time.
const MAX_VALUE_BYTES: usize = 1 << 20;

/// The variables that were declared so far, by name in lower case.
#[derive(Debug, Default)]
pub(crate) struct Variables {
    declared: BTreeMap<String, Variable>,
}

#[derive(Debug)]
struct Variable {
    /// DataFusion's name of its type, if one was declared.
    sql_type: Option<String>,
    /// Its value, as SQL.
    value: String,
}

impl Variables {
    /// Takes a statement if it is DECLARE, or SET of a variable that was declared; says whether it was.
    pub(super) fn take(&mut self, tokens: &Tokens<'_>, range: &Range<usize>) -> Result<bool, SyntaxError> {
        let first = tokens.skip(range.start, range.end);
        if tokens.is_word(first, "DECLARE") {
            self.declare(tokens, first..range.end)?;
            return Ok(true);
        }
        if tokens.is_word(first, "SET") {
            return self.set(tokens, first..range.end);
        }
        Ok(false)
    }

    fn declare(&mut self, tokens: &Tokens<'_>, range: Range<usize>) -> Result<(), SyntaxError> {
        let mut names = vec![];
        let mut i = range.start;
        loop {
            i = tokens.skip(i + 1, range.end);
            if tokens.kind(i) != Some(Kind::Word) || i >= range.end {
                return Err(SyntaxError::new(
                    tokens.span(i.min(range.end - 1)),
                    "DECLARE names no variable here; write DECLARE name INT64 DEFAULT 3",
                ));
            }
            names.push(tokens.of(i).to_lowercase());
            i = tokens.skip(i + 1, range.end);
            if !tokens.is_symbol(i, ",") {
                break;
            }
        }
        let default = tokens.last_word(&(i..range.end), "DEFAULT").unwrap_or(range.end);
        let types = tokens.trim(i..default);
        let sql_type = (!types.is_empty()).then(|| sql_type(tokens, types.clone()));
        let value = if default < range.end {
            self.value(tokens, default, range.end)?
        } else if types.is_empty() {
            return Err(SyntaxError::new(
                tokens.span_of(&tokens.trim(range)),
                "DECLARE gives neither a type nor a value; write DECLARE name INT64 DEFAULT 3",
            ));
        } else {
            "NULL".into()
        };
        for name in names {
            let (sql_type, value) = (sql_type.clone(), value.clone());
            self.declared.insert(name, Variable { sql_type, value });
        }
        Ok(())
    }

    fn set(&mut self, tokens: &Tokens<'_>, range: Range<usize>) -> Result<bool, SyntaxError> {
        let name = tokens.skip(range.start + 1, range.end);
        if tokens.is_symbol(name, "(") && !self.declared.is_empty() {
            return Err(SyntaxError::new(
                tokens.span(name),
                "SET takes one variable at a time; write SET a = 1; SET b = 2",
            ));
        }
        let key = tokens.of(name).to_lowercase();
        if tokens.kind(name) != Some(Kind::Word) || !self.declared.contains_key(&key) {
            return Ok(false);
        }
        let equals = tokens.skip(name + 1, range.end);
        if !tokens.is_symbol(equals, "=") {
            return Err(SyntaxError::new(
                tokens.span(name),
                format!("SET gives '{key}' no value; write SET {key} = 3"),
            ));
        }
        let value = self.value(tokens, equals, range.end)?;
        if let Some(variable) = self.declared.get_mut(&key) {
            variable.value = value;
        }
        Ok(true)
    }

    /// The expression after token `after`, with the variables of before in it.
    fn value(&self, tokens: &Tokens<'_>, after: usize, end: usize) -> Result<String, SyntaxError> {
        let range = tokens.trim(after + 1..end);
        if range.is_empty() {
            return Err(SyntaxError::new(
                tokens.span(after),
                format!("no value follows '{}'; write one", tokens.of(after)),
            ));
        }
        let span = tokens.span_of(&range);
        let value = Rewriter::new(tokens, true, self).sql(range)?.text;
        if value.len() > MAX_VALUE_BYTES {
            return Err(SyntaxError::new(
                span,
                format!(
                    "this value is longer than {MAX_VALUE_BYTES} bytes once its variables are put in; use a table for it"
                ),
            ));
        }
        Ok(value)
    }

    /// What takes the place of the word at `i`, if it is a variable and stands where one can.
    pub(super) fn value_at(&self, tokens: &Tokens<'_>, i: usize) -> Option<String> {
        if self.declared.is_empty() {
            return None;
        }
        let variable = self.declared.get(&tokens.of(i).to_lowercase())?;
        (stands_for_value(tokens, i) && !is_element(tokens, i)).then(|| variable.sql())
    }
}

impl Variable {
    fn sql(&self) -> String {
        match &self.sql_type {
            Some(sql_type) if !is_literal_of(&self.value, sql_type) => format!("(CAST({} AS {sql_type}))", self.value),
            _ => format!("({})", self.value),
        }
    }
}

/// Whether a value needs no cast to be of a type.
fn is_literal_of(value: &str, sql_type: &str) -> bool {
    let number = value.strip_prefix('-').unwrap_or(value);
    let digits = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit());
    match sql_type {
        "BIGINT" => digits,
        "DOUBLE" => {
            !digits && number.starts_with(|c: char| c.is_ascii_digit() || c == '.') && number.parse::<f64>().is_ok()
        }
        "VARCHAR" => {
            value.len() > 1 && value.starts_with('\'') && !value[1..value.len() - 1].replace("''", "").contains('\'')
        }
        "BOOLEAN" => value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false"),
        _ => false,
    }
}

/// Whether the statement of the word at `i` calls the elements of an array so, which hides a variable of that name.
fn is_element(tokens: &Tokens<'_>, i: usize) -> bool {
    let statement = tokens.statements.iter().find(|range| range.contains(&i));
    let Some(statement) = statement.cloned() else {
        return false;
    };
    let end = statement.end;
    statement.into_iter().filter(|w| tokens.is_word(*w, "UNNEST")).any(|w| {
        let Some(close) = tokens.partner(tokens.skip(w + 1, end)) else {
            return false;
        };
        let next = tokens.skip(close + 1, end);
        let name = if tokens.is_word(next, "AS") {
            tokens.skip(next + 1, end)
        } else {
            next
        };
        name < end && tokens.of(name).eq_ignore_ascii_case(tokens.of(i))
    })
}

/// Whether the word at `i` can be a value, and is no alias, field, table, function or name of an argument.
fn stands_for_value(tokens: &Tokens<'_>, i: usize) -> bool {
    let end = tokens.all.len();
    let next = tokens.skip(i + 1, end);
    let names_argument = tokens.is_symbol(next, "=") && tokens.is_symbol(next + 1, ">");
    if tokens.is_symbol(next, ".") || tokens.is_symbol(next, "(") || names_argument {
        return false;
    }
    let in_except = tokens
        .parent(i)
        .and_then(|p| tokens.before(p))
        .is_some_and(|w| tokens.is_word(w, "EXCEPT"));
    let Some(before) = tokens.before(i).filter(|_| !in_except) else {
        return false;
    };
    match tokens.kind(before) {
        Some(Kind::Word) if tokens.is_word(before, "FROM") => is_function_from(tokens, before),
        Some(Kind::Word) => !tokens.is_any_word(
            before,
            &[
                "AS", "JOIN", "INTO", "TABLE", "MODEL", "UPDATE", "VIEW", "WITH", "WINDOW",
            ],
        ),
        Some(Kind::Symbol) => !matches!(tokens.of(before), "." | ")" | "]"),
        _ => false,
    }
}

fn sql_type(tokens: &Tokens<'_>, range: Range<usize>) -> String {
    let mut text = String::new();
    for i in range.clone() {
        let with_size = tokens.is_symbol(tokens.skip(i + 1, range.end), "(");
        match type_name(tokens.of(i), with_size) {
            Some(name) => text.push_str(name),
            None => text.push_str(tokens.of(i)),
        }
    }
    text
}
