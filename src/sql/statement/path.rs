//! Names of one to three parts, as BigQuery writes them: `` `my-project.ds`.m ``, `my-project.ds.m`, `m@3`.

use std::ops::Range;

use super::literal::{identifier, parts};
use super::source::{Span, SyntaxError, quote_identifier};
use super::tokens::Tokens;

/// A model that a statement names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRef {
    /// The parts of the name, as written and unquoted, joined by dots.
    pub name: String,
    /// What stands after `@`.
    pub version: Option<String>,
    /// Where it is named.
    pub span: Span,
}

impl ModelRef {
    /// The name as the function forms take it: `name` or `name@version`.
    pub fn text(&self) -> String {
        match &self.version {
            Some(version) => format!("{}@{version}", self.name),
            None => self.name.clone(),
        }
    }
}

/// A name of parts.
#[derive(Debug)]
pub(super) struct Path {
    parts: Vec<Part>,
    version: Option<String>,
    pub(super) span: Span,
}

#[derive(Debug)]
struct Part {
    text: String,
    quoted: bool,
}

impl Part {
    /// Whether SQL takes it without quotes, and would fold it to lower case.
    fn is_plain(&self) -> bool {
        !self.quoted && !self.text.contains('-') && !self.text.starts_with(|c: char| c.is_ascii_digit())
    }
}

impl Path {
    /// The last part, as SQL for DataFusion.
    pub(super) fn last_sql(&self) -> String {
        match self.parts.last() {
            Some(part) if part.is_plain() => part.text.clone(),
            Some(part) => quote_identifier(&part.text),
            None => String::new(),
        }
    }

    /// The name that begins at token `i`, and the token after it. None if no name begins there.
    ///
    /// Names are read character by character: a dash or a leading digit makes several tokens of one part.
    pub(super) fn read(tokens: &Tokens<'_>, range: Range<usize>) -> Result<Option<(Self, usize)>, SyntaxError> {
        let text = tokens.text;
        let start = tokens.span(range.start).start;
        let limit = tokens.span_of(&range).end;
        let mut path = Self {
            parts: vec![],
            version: None,
            span: Span::new(start, start),
        };
        if range.is_empty() {
            return Ok(None);
        }
        let mut at = start;
        loop {
            let rest = &text[at..limit];
            let length = match rest.chars().next() {
                Some('`' | '"' | '\'') => match tokens.all.binary_search_by_key(&at, |t| t.start) {
                    Ok(i) if tokens.all[i].closed => path.quoted(tokens.of(i), tokens.span(i))?,
                    _ => 0,
                },
                _ => path.bare(rest),
            };
            if length == 0 {
                if path.parts.is_empty() {
                    return Ok(None);
                }
                let after = Span::new(at, (at + 1).min(text.len()));
                return Err(SyntaxError::new(
                    after,
                    format!("'{}' ends with a dot; write the rest of the name", &text[start..at]),
                ));
            }
            at += length;
            if !text[at..limit].starts_with('.') {
                break;
            }
            at += 1;
        }
        if let Some(rest) = text[at..limit].strip_prefix('@') {
            let length = rest
                .find(|c: char| !(c.is_alphanumeric() || c == '_'))
                .unwrap_or(rest.len());
            path.version = Some(rest[..length].to_string());
            at += 1 + length;
        }
        path.span.end = at;
        let next = range.clone().find(|i| tokens.span(*i).start >= at).unwrap_or(range.end);
        Ok(Some((path, next)))
    }

    /// Takes a part without quotes off the front of `rest`; its length.
    fn bare(&mut self, rest: &str) -> usize {
        let mut length = 0;
        let mut chars = rest.chars().peekable();
        while let Some(c) = chars.next() {
            let goes_on = c.is_alphanumeric()
                || c == '_'
                || c == '$'
                || (c == '-' && length > 0 && chars.peek().is_some_and(|n| n.is_alphanumeric() || *n == '_'));
            if !goes_on {
                break;
            }
            length += c.len_utf8();
        }
        if length > 0 {
            self.parts.push(Part {
                text: rest[..length].to_string(),
                quoted: false,
            });
        }
        length
    }

    /// Takes a quoted token: one part, or, in back-quotes, as many as its dots make. Its length.
    fn quoted(&mut self, token: &str, span: Span) -> Result<usize, SyntaxError> {
        let mut add = |text: &str| {
            self.parts.push(Part {
                text: text.to_string(),
                quoted: true,
            });
        };
        if token.starts_with('`') {
            let mut name = identifier(token, span)?;
            if let Some(at) = name.rfind('@') {
                self.version = Some(name[at + 1..].to_string());
                name.truncate(at);
            }
            parts(&name).into_iter().for_each(add);
        } else {
            // A string, or a name in double quotes; which of the two depends on the dialect and makes no difference.
            add(&token[1..token.len() - 1]);
        }
        Ok(token.len())
    }

    /// The name as SQL for FROM.
    pub(super) fn sql(&self) -> String {
        let parts: Vec<String> = self
            .parts
            .iter()
            .map(|p| {
                if p.is_plain() {
                    p.text.clone()
                } else {
                    quote_identifier(&p.text)
                }
            })
            .collect();
        parts.join(".")
    }

    /// Whether the generic dialect takes it as written.
    pub(super) fn is_generic(&self) -> bool {
        self.parts.iter().all(|p| p.quoted || p.is_plain())
    }

    /// Whether it is a dashed name that no expression could be.
    pub(super) fn is_dashed_table(&self) -> bool {
        self.parts.len() > 1 && self.parts.iter().any(|p| !p.quoted && p.text.contains('-'))
    }

    /// The name as that of a model.
    ///
    /// # Errors
    /// It has more than three parts, or an empty one.
    pub(super) fn model(self) -> Result<ModelRef, SyntaxError> {
        let names: Vec<&str> = self.parts.iter().map(|p| p.text.as_str()).collect();
        let name = names.join(".");
        if names.len() > 3 {
            return Err(SyntaxError::new(
                self.span,
                format!(
                    "the model's name '{name}' has {} parts; write at most three, project.dataset.model",
                    names.len()
                ),
            ));
        }
        if names.iter().any(|n| n.trim().is_empty()) {
            return Err(SyntaxError::new(
                self.span,
                format!("a part of the model's name '{name}' is empty; write project.dataset.model, or only model"),
            ));
        }
        if self.version.as_deref().is_some_and(str::is_empty) {
            return Err(SyntaxError::new(
                self.span,
                format!("no version follows '{name}@'; write {name}@1, or only {name}"),
            ));
        }
        Ok(ModelRef {
            name,
            version: self.version,
            span: self.span,
        })
    }
}
