//! Tokens, in two spellings: DataFusion's generic dialect and GoogleSQL. Nothing is lost: the tokens of a text, white space
//! and comments too, joined again are the text. It never fails: what is not closed is marked so.

/// How a text is spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// DataFusion's generic dialect.
    Generic,
    /// GoogleSQL, as BigQuery writes it.
    Google,
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// White space.
    Space,
    /// `-- …` or `/* … */`, and in GoogleSQL `# …`.
    Comment,
    /// A keyword or a plain identifier.
    Word,
    /// An identifier in back-quotes or, in the generic spelling, in double quotes.
    Quoted,
    /// A string or bytes, with its prefix.
    Text,
    /// A number.
    Number,
    /// Any other character.
    Symbol,
}

/// A piece of the text, from byte `start` to byte `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
    /// False for a quote or comment that the text ends within.
    pub(super) closed: bool,
}

impl Token {
    pub(super) fn is_significant(self) -> bool {
        !matches!(self.kind, Kind::Space | Kind::Comment)
    }
}

/// The token that begins at byte `start`, which must be before the text's end.
pub(super) fn token_at(text: &str, start: usize, spelling: Spelling) -> Token {
    let rest = &text[start..];
    let first = rest.chars().next().unwrap_or(' ');
    let token = |kind, length: usize, closed| Token {
        kind,
        start,
        end: start + length,
        closed,
    };
    let run = |accept: fn(char) -> bool| rest.find(|c| !accept(c)).unwrap_or(rest.len());
    if first.is_whitespace() {
        return token(Kind::Space, run(char::is_whitespace), true);
    }
    if rest.starts_with("--") || (first == '#' && spelling == Spelling::Google) {
        return token(Kind::Comment, rest.find('\n').unwrap_or(rest.len()), true);
    }
    if rest.starts_with("/*") {
        let (length, closed) = block_comment(rest, spelling);
        return token(Kind::Comment, length, closed);
    }
    if let Some((length, closed)) = string(rest, spelling) {
        return token(Kind::Text, length, closed);
    }
    if spelling == Spelling::Generic && (rest.starts_with("#-") || rest.starts_with("//")) {
        // One operator, after which `-` and `*` begin no comment.
        return token(Kind::Symbol, 2, true);
    }
    if is_word_start(first, spelling) {
        // The first character may be one that only begins words.
        let begin = sigil_length(rest, first, spelling);
        let length = rest[begin..]
            .find(|c| !is_word_part(c, spelling))
            .unwrap_or(rest.len() - begin);
        return token(Kind::Word, begin + length, true);
    }
    if first.is_ascii_digit() || (first == '.' && begins_fraction(text, start)) {
        return token(Kind::Number, number_length(rest), true);
    }
    match first {
        '`' if spelling == Spelling::Google => {
            let (length, closed) = escaped(rest, 0, "`", true);
            token(Kind::Quoted, length, closed)
        }
        '"' | '`' => {
            let (length, closed) = doubled(rest, 0, first);
            token(Kind::Quoted, length, closed)
        }
        _ => token(Kind::Symbol, first.len_utf8(), true),
    }
}

fn is_word_start(c: char, spelling: Spelling) -> bool {
    c.is_alphabetic() || c == '_' || c == '@' || (c == '#' && spelling == Spelling::Generic)
}

/// How long what begins a word is. DataFusion's tokenizer takes whatever follows `#` and `@` for a part of the name, with
/// these exceptions; a semicolon or quote there ends or begins nothing.
fn sigil_length(rest: &str, first: char, spelling: Spelling) -> usize {
    let own = first.len_utf8();
    let (length, apart) = match first {
        _ if spelling == Spelling::Google => return own,
        '@' if rest.starts_with("@@") => (2, " "),
        '@' => (1, " >?'\"`"),
        '#' => (1, " ->"),
        _ => return own,
    };
    match rest[length..].chars().next() {
        Some(c) if !apart.contains(c) => length + c.len_utf8(),
        _ => length,
    }
}

fn is_word_part(c: char, spelling: Spelling) -> bool {
    c.is_alphanumeric() || c == '_' || (spelling == Spelling::Generic && matches!(c, '#' | '@' | '$'))
}

/// Whether a dot is the first character of a number such as `.5`, and does not part two names.
fn begins_fraction(text: &str, dot: usize) -> bool {
    let before = text[..dot].chars().next_back();
    text[dot + 1..].starts_with(|c: char| c.is_ascii_digit())
        && !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '`' | '"' | ')' | ']'))
}

fn number_length(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let digits = |from: usize| {
        let tail = bytes.get(from..).unwrap_or_default();
        from + tail.iter().take_while(|b| b.is_ascii_digit()).count()
    };
    if bytes.len() > 2 && bytes[0] == b'0' && matches!(bytes[1], b'x' | b'X') && bytes[2].is_ascii_hexdigit() {
        return 2 + bytes[2..].iter().take_while(|b| b.is_ascii_hexdigit()).count();
    }
    let mut end = digits(0);
    if bytes.get(end) == Some(&b'.') {
        end = digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        if exponent > end + 1 + sign {
            end = exponent;
        }
    }
    end
}

/// Length and whether it is closed; block comments nest in the generic spelling only.
fn block_comment(rest: &str, spelling: Spelling) -> (usize, bool) {
    let bytes = rest.as_bytes();
    let (mut depth, mut at) = (1usize, 2);
    while at + 1 < bytes.len() {
        match (bytes[at], bytes[at + 1]) {
            (b'/', b'*') if spelling == Spelling::Generic => {
                depth += 1;
                at += 2;
            }
            (b'*', b'/') => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return (at, true);
                }
            }
            _ => at += 1,
        }
    }
    (rest.len(), false)
}

/// The length of the string that `rest` begins with, its prefix included, and whether it is closed.
fn string(rest: &str, spelling: Spelling) -> Option<(usize, bool)> {
    match spelling {
        Spelling::Google => google_string(rest),
        Spelling::Generic => generic_string(rest),
    }
}

fn google_string(rest: &str) -> Option<(usize, bool)> {
    let prefix = rest
        .find(|c: char| !matches!(c, 'r' | 'R' | 'b' | 'B'))
        .filter(|length| *length <= 2)?;
    if prefix == 2 && rest[..1].eq_ignore_ascii_case(&rest[1..2]) {
        return None;
    }
    let body = &rest[prefix..];
    for triple in ["'''", "\"\"\""] {
        if body.starts_with(triple) {
            return Some(escaped(rest, prefix, triple, false));
        }
    }
    match body.chars().next() {
        Some('\'') => Some(escaped(rest, prefix, "'", true)),
        Some('"') => Some(escaped(rest, prefix, "\"", true)),
        _ => None,
    }
}

fn generic_string(rest: &str) -> Option<(usize, bool)> {
    let starts = |prefix: &str| {
        rest.get(..prefix.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
    };
    if rest.starts_with('\'') {
        return Some(doubled(rest, 0, '\''));
    }
    if starts("e'") {
        return Some(escaped(rest, 1, "'", false)).map(|found| redoubled(rest, found));
    }
    for (prefix, quote) in [("b'", '\''), ("b\"", '"'), ("n'", '\''), ("x'", '\''), ("u&'", '\'')] {
        if starts(prefix) {
            return Some(doubled(rest, prefix.len() - 1, quote));
        }
    }
    for quote in ['\'', '"'] {
        if starts(&format!("r{quote}")) {
            return Some(raw(rest, quote));
        }
    }
    for prefix in ["q'", "nq'"] {
        if starts(prefix) {
            return Some(delimited(rest, prefix.len()));
        }
    }
    if rest.starts_with('$') {
        return dollar_quoted(rest);
    }
    None
}

/// To the closing `quote`, over whatever a backslash stands before. On one line only, if so asked.
fn escaped(rest: &str, prefix: usize, quote: &str, one_line: bool) -> (usize, bool) {
    let mut at = prefix + quote.len();
    while let Some(c) = rest[at..].chars().next() {
        if rest[at..].starts_with(quote) {
            return (at + quote.len(), true);
        }
        if c == '\n' && one_line {
            return (at, false);
        }
        at += c.len_utf8();
        if c == '\\' {
            at += rest[at..].chars().next().map_or(0, char::len_utf8);
        }
    }
    (rest.len(), false)
}

/// A quote that follows the closing one of `E'…'` at once is one of the string, which goes on.
fn redoubled(rest: &str, mut found: (usize, bool)) -> (usize, bool) {
    while found.1 && rest[found.0..].starts_with('\'') {
        found = escaped(rest, found.0, "'", false);
    }
    found
}

/// To the closing `quote`; a doubled one stands for one of itself.
fn doubled(rest: &str, prefix: usize, quote: char) -> (usize, bool) {
    let mut at = prefix + quote.len_utf8();
    while let Some(found) = rest[at..].find(quote) {
        at += found + quote.len_utf8();
        if !rest[at..].starts_with(quote) {
            return (at, true);
        }
        at += quote.len_utf8();
    }
    (rest.len(), false)
}

/// The generic spelling's `r'…'`, whose quotes may be three.
fn raw(rest: &str, quote: char) -> (usize, bool) {
    let triple: String = std::iter::repeat_n(quote, 3).collect();
    if rest[1..].starts_with(&triple) {
        return match rest[4..].find(&triple) {
            Some(at) => (4 + at + 3, true),
            None => (rest.len(), false),
        };
    }
    if rest[2..].starts_with(quote) {
        return (3, true);
    }
    doubled(rest, 1, quote)
}

/// `q'[…]'`.
fn delimited(rest: &str, open: usize) -> (usize, bool) {
    let Some(first) = rest[open..].chars().next() else {
        return (rest.len(), false);
    };
    let last = match first {
        '[' => ']',
        '{' => '}',
        '<' => '>',
        '(' => ')',
        other => other,
    };
    let body = open + first.len_utf8();
    let end = format!("{last}'");
    match rest[body..].find(&end) {
        Some(at) => (body + at + end.len(), true),
        None => (rest.len(), false),
    }
}

/// `$$…$$` or `$tag$…$tag$`; none for a lone `$` or a placeholder such as `$1`.
fn dollar_quoted(rest: &str) -> Option<(usize, bool)> {
    let tag = 1 + rest[1..]
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(rest.len() - 1);
    if !rest[tag..].starts_with('$') {
        return None;
    }
    let delimiter = &rest[..=tag];
    let body = delimiter.len();
    Some(match rest[body..].find(delimiter) {
        Some(at) => (body + at + delimiter.len(), true),
        None => (rest.len(), false),
    })
}
