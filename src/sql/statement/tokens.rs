//! The tokens of a text, cut into statements, with each bracket's partner.

use std::collections::HashMap;
use std::ops::Range;

use super::lexer::{Kind, Spelling, Token, token_at};
use super::source::{Span, SyntaxError};

/// The tokens of a text.
#[derive(Debug)]
pub(super) struct Tokens<'a> {
    pub(super) text: &'a str,
    pub(super) all: Vec<Token>,
    /// The other bracket of a pair.
    partner: Vec<Option<usize>>,
    /// The innermost open bracket that a token stands in.
    parent: Vec<Option<usize>>,
    /// The END of each CASE.
    cases: HashMap<usize, usize>,
    /// The tokens of each statement, without the semicolons.
    pub(super) statements: Vec<Range<usize>>,
}

/// Where in a statement the tokens are cut, so that the lists of OPTIONS are read as GoogleSQL in any dialect.
#[derive(Debug, Default)]
struct Place {
    /// The first words, in upper case.
    head: Vec<String>,
    /// AS was seen: the rest is a query.
    in_query: bool,
    /// The bracket of OPTIONS that is open.
    options: Option<usize>,
}

impl Place {
    fn word(&mut self, word: &str) {
        if self.head.len() < 8 {
            self.head.push(word.to_uppercase());
        }
        self.in_query |= word.eq_ignore_ascii_case("as");
    }

    /// Whether the statement is one whose OPTIONS are ours.
    fn is_of_model(&self) -> bool {
        let mut words = self.head.iter().map(String::as_str).peekable();
        while words
            .next_if(|w| matches!(*w, "EXPLAIN" | "ANALYZE" | "VERBOSE"))
            .is_some()
        {}
        match words.next() {
            Some("CREATE") => match words.next() {
                Some("OR") => words.next() == Some("REPLACE") && words.next() == Some("MODEL"),
                word => word == Some("MODEL"),
            },
            Some("ALTER" | "EXPORT") => words.next() == Some("MODEL"),
            _ => false,
        }
    }
}

impl<'a> Tokens<'a> {
    /// Every token of `text`.
    pub(super) fn new(text: &'a str, spelling: Spelling) -> Self {
        let mut tokens = Self {
            text,
            all: vec![],
            partner: vec![],
            parent: vec![],
            cases: HashMap::new(),
            statements: vec![],
        };
        let mut open: Vec<usize> = vec![];
        let mut place = Place::default();
        let (mut begin, mut at) = (0, 0);
        while at < text.len() {
            let here = match place.options {
                Some(_) => Spelling::Google,
                None => spelling,
            };
            let token = token_at(text, at, here);
            at = token.end;
            let i = tokens.all.len();
            tokens.all.push(token);
            tokens.partner.push(None);
            tokens.parent.push(open.last().copied());
            match (token.kind, tokens.of(i)) {
                (Kind::Word, word) if open.is_empty() => place.word(word),
                (Kind::Symbol, "(" | "[" | "{") => {
                    let before = tokens.before(i);
                    if open.is_empty()
                        && !place.in_query
                        && before.is_some_and(|b| tokens.is_word(b, "OPTIONS"))
                        && place.is_of_model()
                    {
                        place.options = Some(i);
                    }
                    open.push(i);
                }
                (Kind::Symbol, close @ (")" | "]" | "}")) => {
                    let fits = |o: usize| matches!((tokens.of(o), close), ("(", ")") | ("[", "]") | ("{", "}"));
                    if let Some(o) = open.pop_if(|o| fits(*o)) {
                        tokens.partner[o] = Some(i);
                        tokens.partner[i] = Some(o);
                        tokens.parent[i] = tokens.parent[o];
                        if place.options == Some(o) {
                            place.options = None;
                        }
                    }
                }
                (Kind::Symbol, ";") if open.is_empty() => {
                    tokens.statements.push(begin..i);
                    begin = i + 1;
                    place = Place::default();
                }
                _ => {}
            }
        }
        tokens.statements.push(begin..tokens.all.len());
        tokens.pair_cases();
        tokens
    }

    /// Finds the END of each CASE, in the same brackets.
    fn pair_cases(&mut self) {
        let mut open: Vec<usize> = vec![];
        for i in 0..self.all.len() {
            if self.is_symbol(i, ";") {
                open.clear();
            } else if self.is_word(i, "CASE") {
                open.push(i);
            } else if self.is_word(i, "END") {
                // One that its bracket closed before is left open.
                while let Some(case) = open.pop() {
                    if self.parent(case) == self.parent(i) {
                        self.cases.insert(case, i);
                        break;
                    }
                }
            }
        }
    }

    /// The END of the CASE at `i`.
    pub(super) fn end_of_case(&self, i: usize) -> Option<usize> {
        self.cases.get(&i).copied()
    }

    /// A token's own text.
    pub(super) fn of(&self, i: usize) -> &'a str {
        self.all.get(i).map_or("", |t| &self.text[t.start..t.end])
    }

    /// Where a token is; past the last one, the end of the text.
    pub(super) fn span(&self, i: usize) -> Span {
        match self.all.get(i) {
            Some(t) => Span::new(t.start, t.end),
            None => Span::new(self.text.len(), self.text.len()),
        }
    }

    /// From the first to the last token of a range.
    pub(super) fn span_of(&self, range: &Range<usize>) -> Span {
        let start = self.span(range.start).start;
        match range.end.checked_sub(1) {
            Some(last) if last >= range.start => Span::new(start, self.span(last).end),
            _ => Span::new(start, start),
        }
    }

    pub(super) fn kind(&self, i: usize) -> Option<Kind> {
        self.all.get(i).map(|t| t.kind)
    }

    pub(super) fn is_word(&self, i: usize, word: &str) -> bool {
        self.kind(i) == Some(Kind::Word) && self.of(i).eq_ignore_ascii_case(word)
    }

    pub(super) fn is_any_word(&self, i: usize, words: &[&str]) -> bool {
        words.iter().any(|w| self.is_word(i, w))
    }

    pub(super) fn is_symbol(&self, i: usize, symbol: &str) -> bool {
        self.kind(i) == Some(Kind::Symbol) && self.of(i) == symbol
    }

    /// The first token at or after `i`, and before `end`, that is neither space nor comment; else `end`.
    pub(super) fn skip(&self, i: usize, end: usize) -> usize {
        (i..end.min(self.all.len()))
            .find(|t| self.all[*t].is_significant())
            .unwrap_or(end)
    }

    /// The last token before `i` that is neither space nor comment.
    pub(super) fn before(&self, i: usize) -> Option<usize> {
        self.all[..i.min(self.all.len())]
            .iter()
            .rposition(|t| t.is_significant())
    }

    /// The other bracket of a pair.
    pub(super) fn partner(&self, i: usize) -> Option<usize> {
        self.partner.get(i).copied().flatten()
    }

    /// The innermost open bracket that a token stands in.
    pub(super) fn parent(&self, i: usize) -> Option<usize> {
        self.parent.get(i).copied().flatten()
    }

    /// The closing bracket of one that opens at `i`.
    ///
    /// # Errors
    /// It is never closed.
    pub(super) fn close_of(&self, i: usize) -> Result<usize, SyntaxError> {
        self.partner(i).ok_or_else(|| {
            let close = match self.of(i) {
                "[" => "]",
                "{" => "}",
                _ => ")",
            };
            SyntaxError::new(
                self.span(i),
                format!("this '{}' is never closed; end it with '{close}'", self.of(i)),
            )
        })
    }

    /// A range without the spaces and comments at both its ends.
    pub(super) fn trim(&self, range: Range<usize>) -> Range<usize> {
        let start = self.skip(range.start, range.end);
        let last = (start..range.end).rev().find(|t| self.all[*t].is_significant());
        start..last.map_or(start, |l| l + 1)
    }

    /// The pieces of a range between the commas that stand in none of its brackets, untrimmed. None for an empty range.
    pub(super) fn between_commas(&self, range: Range<usize>) -> Vec<Range<usize>> {
        if self.trim(range.clone()).is_empty() {
            return vec![];
        }
        let mut found = vec![];
        let (mut from, mut i) = (range.start, range.start);
        while i < range.end {
            if self.is_symbol(i, ",") {
                found.push(from..i);
                from = i + 1;
            }
            i = match self.after_types(i, range.end) {
                Some(open) => open,
                None => self.partner(i).filter(|p| *p > i).unwrap_or(i) + 1,
            };
        }
        found.push(from..range.end);
        found
    }

    /// The bracket after the types of `ARRAY<…>[` or `STRUCT<…>(`, if the word of one stands at `i`.
    pub(super) fn after_types(&self, i: usize, end: usize) -> Option<usize> {
        let angle = self.skip(i + 1, end);
        if !self.is_any_word(i, &["ARRAY", "STRUCT"]) || !self.is_symbol(angle, "<") {
            return None;
        }
        let mut depth = 0usize;
        for at in angle..end {
            match (self.kind(at), self.of(at)) {
                (Some(Kind::Symbol), "<") => depth += 1,
                (Some(Kind::Symbol), ">") => depth = depth.saturating_sub(1),
                (Some(Kind::Symbol), "," | "(" | ")") => {}
                (Some(Kind::Symbol | Kind::Text), _) => return None,
                _ => {}
            }
            if depth == 0 {
                let open = self.skip(at + 1, end);
                return (self.is_symbol(open, "[") || self.is_symbol(open, "(")).then_some(open);
            }
        }
        None
    }

    /// The last word `word` of a range that stands in none of its brackets.
    pub(super) fn last_word(&self, range: &Range<usize>, word: &str) -> Option<usize> {
        let mut found = None;
        let mut i = range.start;
        while i < range.end {
            if self.is_word(i, word) {
                found = Some(i);
            }
            i = self.partner(i).filter(|p| *p > i).unwrap_or(i) + 1;
        }
        found
    }

    /// That every quote and bracket of a range is closed.
    ///
    /// # Errors
    /// One is not.
    pub(super) fn check_closed(&self, range: &Range<usize>) -> Result<(), SyntaxError> {
        for i in range.clone() {
            let what = match self.all[i].kind {
                _ if self.all[i].closed => None,
                Kind::Comment => Some(("comment", "*/")),
                Kind::Quoted => Some(("quoted name", &self.of(i)[..1])),
                _ => Some(("string", self.closing_quote(i))),
            };
            if let Some((what, end)) = what {
                let start = self.all[i].start;
                let span = Span::new(start, self.all[i].end.min(start + self.line_length(start)));
                let message = format!("this {what} is never closed; end it with {end}");
                return Err(SyntaxError::new(span, message));
            }
        }
        for i in range.clone() {
            if self.kind(i) == Some(Kind::Symbol) && self.partner(i).is_none() {
                match self.of(i) {
                    "(" | "[" | "{" => self.close_of(i).map(|_| ())?,
                    close @ (")" | "]" | "}") => {
                        let message = format!("this '{close}' closes nothing; remove it, or open its bracket");
                        return Err(SyntaxError::new(self.span(i), message));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn closing_quote(&self, i: usize) -> &'a str {
        let text = self.of(i);
        match text.find(['\'', '"']) {
            Some(at) => {
                let quote = &text[at..=at];
                match text.get(at..at + 3) {
                    Some(three) if three == quote.repeat(3) => three,
                    _ => quote,
                }
            }
            None => "its tag",
        }
    }

    fn line_length(&self, start: usize) -> usize {
        let rest = &self.text[start..];
        rest.find('\n').unwrap_or(rest.len())
    }
}
