//! `a / b`, which GoogleSQL divides as FLOAT64 even if both are whole, as a call of `google_divide`.
//!
//! `*` and `/` bind more closely than all other operators but signs, and from left to right. So what is to be found is a
//! row of operands with `*` and `/` between them: `a * b / c / d` is `google_divide(google_divide(a * b, c), d)`.

use std::ops::Range;

use super::lexer::Kind;
use super::rewrite::Rewriter;
use super::source::SyntaxError;
use super::tokens::Tokens;

/// GoogleSQL's reserved words that no operand begins with, though an operand in brackets may follow them.
const NO_OPERAND: &[&str] = &[
    "ALL",
    "AND",
    "ANY",
    "AS",
    "ASC",
    "AT",
    "BETWEEN",
    "BY",
    "COLLATE",
    "CREATE",
    "CROSS",
    "DEFAULT",
    "DEFINE",
    "DESC",
    "DISTINCT",
    "ELSE",
    "END",
    "ESCAPE",
    "EXCEPT",
    "EXCLUDE",
    "FETCH",
    "FOLLOWING",
    "FOR",
    "FROM",
    "FULL",
    "GROUP",
    "GROUPS",
    "HAVING",
    "IGNORE",
    "IN",
    "INNER",
    "INTERSECT",
    "INTERVAL",
    "INTO",
    "IS",
    "JOIN",
    "LATERAL",
    "LIKE",
    "LIMIT",
    "MERGE",
    "NATURAL",
    "NO",
    "NOT",
    "NULLS",
    "OF",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "PRECEDING",
    "QUALIFY",
    "RANGE",
    "RECURSIVE",
    "RESPECT",
    "ROLLUP",
    "ROWS",
    "SELECT",
    "SET",
    "SOME",
    "TABLESAMPLE",
    "THEN",
    "TO",
    "UNBOUNDED",
    "UNION",
    "USING",
    "VALUES",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
    "WITHIN",
];

/// GoogleSQL's reserved words that an operand begins with, or is.
const OPERANDS: &[&str] = &[
    "ARRAY", "CASE", "CAST", "EXISTS", "EXTRACT", "FALSE", "IF", "LEFT", "NULL", "RIGHT", "STRUCT", "TRUE", "TRY_CAST",
    "UNNEST",
];

/// Whether a word without quotes is no name in GoogleSQL.
pub(crate) fn is_reserved(word: &str) -> bool {
    let is = |known: &&str| known.eq_ignore_ascii_case(word);
    NO_OPERAND.iter().any(is) || OPERANDS.iter().any(is)
}

/// Types whose name may stand before a string.
const LITERALS: &[&str] = &[
    "DATE",
    "DATETIME",
    "TIMESTAMP",
    "TIME",
    "NUMERIC",
    "BIGNUMERIC",
    "DECIMAL",
    "BIGDECIMAL",
    "JSON",
];

/// The token after the operand that begins at `i`.
fn operand(t: &Tokens<'_>, i: usize, end: usize) -> Option<usize> {
    let mut at = i;
    while ["-", "+", "~"].iter().any(|sign| t.is_symbol(at, sign)) {
        at = t.skip(at + 1, end);
    }
    if at >= end {
        return None;
    }
    let next = t.skip(at + 1, end);
    let mut named = false;
    let mut after = match (t.kind(at)?, t.of(at)) {
        (Kind::Number | Kind::Text, _) | (Kind::Symbol, "?") => at + 1,
        (Kind::Symbol, "(" | "[") => t.partner(at)? + 1,
        (Kind::Word, _) if t.is_word(at, "CASE") => t.end_of_case(at)? + 1,
        (Kind::Word, _) if t.is_any_word(at, LITERALS) && t.kind(next) == Some(Kind::Text) && next < end => next + 1,
        (Kind::Word, _) if t.is_any_word(at, NO_OPERAND) => return None,
        (Kind::Word, _) if t.is_any_word(at, &["LEFT", "RIGHT"]) && !t.is_symbol(next, "(") => return None,
        (Kind::Word | Kind::Quoted, _) => {
            named = true;
            // `ARRAY<STRING>[…]` is read to its bracket.
            t.after_types(at, end).unwrap_or(at + 1)
        }
        _ => return None,
    };
    loop {
        let next = t.skip(after, end);
        let close = t.partner(next).filter(|c| *c > next && *c < end);
        after = match (t.of(next), close) {
            _ if next >= end || after > end => break,
            (".", _) if t.kind(next) == Some(Kind::Symbol) => {
                let name = t.skip(next + 1, end);
                if name >= end || !matches!(t.kind(name), Some(Kind::Word | Kind::Quoted)) {
                    break;
                }
                named = true;
                name + 1
            }
            ("(", Some(close)) if named => {
                named = false;
                close + 1
            }
            ("[", Some(close)) => {
                named = false;
                close + 1
            }
            _ if t.is_word(next, "OVER") && t.before(next).is_some_and(|b| t.is_symbol(b, ")")) => {
                let window = t.skip(next + 1, end);
                match t.partner(window).filter(|c| *c > window) {
                    Some(close) => close + 1,
                    None => window + 1,
                }
            }
            _ => break,
        };
    }
    (after <= end).then_some(after)
}

impl Rewriter<'_> {
    /// Writes out the operands with `*` and `/` between them that begin at `i`, if there is a `/`; the token after them.
    pub(super) fn quotient(&mut self, i: usize, end: usize) -> Result<Option<usize>, SyntaxError> {
        let t = self.tokens;
        let continues = t.before(i).is_some_and(|b| t.is_symbol(b, "."));
        let signed = ["-", "+", "~"].iter().any(|sign| t.is_symbol(i, sign));
        if self.constants || continues || signed {
            return Ok(None);
        }
        let Some(mut after) = operand(t, i, end) else {
            return Ok(None);
        };
        let first = i..after;
        let mut operands: Vec<Range<usize>> = vec![first];
        let mut operators = vec![];
        loop {
            let operator = t.skip(after, end);
            if operator >= end || !(t.is_symbol(operator, "*") || t.is_symbol(operator, "/")) {
                break;
            }
            let start = t.skip(operator + 1, end);
            let Some(next) = operand(t, start, end) else { break };
            operands.push(start..next);
            operators.push(operator);
            after = next;
        }
        // What follows the last `/` stays as it is.
        let Some(last) = operators.iter().rposition(|o| t.is_symbol(*o, "/")) else {
            return Ok(None);
        };
        let quotients = operators.iter().filter(|o| t.is_symbol(**o, "/")).count();
        self.out.put(&"google_divide(".repeat(quotients), t.span(i).start);
        self.range(operands[0].clone())?;
        for (operator, pair) in operators.iter().zip(operands.windows(2)).take(last + 1) {
            let at = t.span(*operator).start;
            if t.is_symbol(*operator, "/") {
                self.out.put(", ", at);
                self.operand(operator + 1..pair[1].end)?;
                self.out.put(")", at);
            } else {
                self.range(pair[0].end..pair[1].end)?;
            }
        }
        Ok(Some(operands[last + 1].end))
    }
}
