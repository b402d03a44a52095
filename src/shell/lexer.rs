//! Just enough of SQL's spelling to split statements, colour a line and complete a word. It never fails: what is not
//! closed is marked so.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// White space.
    Space,
    /// `-- …` or `/* … */`.
    Comment,
    /// A keyword or a plain identifier.
    Word,
    /// An identifier in double quotes or back-quotes.
    Quoted,
    /// A string: `'…'`, `E'…'` or `$tag$…$tag$`.
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
    /// The token's own text.
    pub(super) fn of<'a>(&self, text: &'a str) -> &'a str {
        &text[self.start..self.end]
    }

    fn is_significant(self) -> bool {
        !matches!(self.kind, Kind::Space | Kind::Comment)
    }
}

/// Every token of `text`, white space and comments too.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut found: Vec<Token> = vec![];
    let mut at = 0;
    while at < text.len() {
        let token = token_at(text, at, found.last().copied());
        at = token.end;
        found.push(token);
    }
    found
}

/// The tokens that mean something to a parser.
pub(super) fn significant(text: &str) -> Vec<Token> {
    tokens(text).into_iter().filter(|t| t.is_significant()).collect()
}

fn is_word_start(c: char) -> bool {
    c.is_alphabetic() || matches!(c, '_' | '#' | '@')
}

fn is_word_part(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '#' | '@' | '$')
}

fn token_at(text: &str, start: usize, previous: Option<Token>) -> Token {
    let rest = &text[start..];
    let first = rest.chars().next().unwrap_or(' ');
    let run = |accept: fn(char) -> bool| start + rest.find(|c| !accept(c)).unwrap_or(rest.len());
    let token = |kind, end, closed| Token {
        kind,
        start,
        end,
        closed,
    };
    if first.is_whitespace() {
        return token(Kind::Space, run(char::is_whitespace), true);
    }
    if rest.starts_with("--") {
        return token(Kind::Comment, start + rest.find('\n').unwrap_or(rest.len()), true);
    }
    if rest.starts_with("/*") {
        let (length, closed) = block_comment(rest);
        return token(Kind::Comment, start + length, closed);
    }
    if is_word_start(first) {
        return token(Kind::Word, run(is_word_part), true);
    }
    if first.is_ascii_digit() {
        return token(Kind::Number, start + number_length(rest), true);
    }
    match first {
        '\'' => {
            let escapes = previous.is_some_and(|p| p.kind == Kind::Word && p.of(text).eq_ignore_ascii_case("e"));
            let (length, closed) = quoted(rest, '\'', escapes);
            token(Kind::Text, start + length, closed)
        }
        '"' | '`' => {
            let (length, closed) = quoted(rest, first, false);
            token(Kind::Quoted, start + length, closed)
        }
        '$' => match dollar_quoted(rest) {
            Some((length, closed)) => token(Kind::Text, start + length, closed),
            None => token(Kind::Symbol, start + 1, true),
        },
        _ => token(Kind::Symbol, start + first.len_utf8(), true),
    }
}

/// Length and whether it is closed; block comments nest.
fn block_comment(rest: &str) -> (usize, bool) {
    let bytes = rest.as_bytes();
    let (mut depth, mut at) = (0usize, 0);
    while at + 1 < bytes.len() {
        match (bytes[at], bytes[at + 1]) {
            (b'/', b'*') => {
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

fn number_length(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let digits = |from: usize| from + bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut end = digits(0);
    if bytes.get(end) == Some(&b'.') && bytes.get(end + 1) != Some(&b'.') {
        end = digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits((end + 1 + sign).min(bytes.len()));
        if exponent > end + 1 + sign {
            end = exponent;
        }
    }
    end
}

fn quoted(rest: &str, quote: char, backslash_escapes: bool) -> (usize, bool) {
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && backslash_escapes {
            chars.next();
        } else if c == quote {
            // A doubled quote stands for one of itself.
            if chars.peek().is_some_and(|(_, next)| *next == quote) {
                chars.next();
            } else {
                return (at + c.len_utf8(), true);
            }
        }
    }
    (rest.len(), false)
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

/// A statement of a script, or a command line that begins with a backslash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Statement<'a> {
    /// The comments and white space before it.
    pub(super) lead: &'a str,
    /// The statement from its first word, without the semicolon.
    pub(super) text: &'a str,
    /// Where `text` begins in the script, in bytes.
    pub(super) offset: usize,
    /// Whether its end was seen: a semicolon, or the end of a command's line.
    pub(super) ended: bool,
}

impl Statement<'_> {
    /// Whether it is a command of the shell (`\d`) and no SQL.
    pub(super) fn is_command(&self) -> bool {
        self.text.starts_with('\\')
    }
}

/// The statements of a script, in order; empty ones are left out. A semicolon within quotes or comments ends nothing.
pub(super) fn statements(script: &str) -> Vec<Statement<'_>> {
    let mut found = vec![];
    let (mut at, mut lead_from) = (0, 0);
    let mut begin: Option<usize> = None;
    let mut previous = None;
    while at < script.len() {
        if begin.is_none() && script[at..].starts_with('\\') {
            let end = at + script[at..].find('\n').unwrap_or(script.len() - at);
            found.push(Statement {
                lead: &script[lead_from..at],
                text: script[at..end].trim_end().trim_end_matches(';').trim_end(),
                offset: at,
                ended: true,
            });
            (at, lead_from, previous) = (end, end, None);
            continue;
        }
        let token = token_at(script, at, previous);
        if token.kind == Kind::Symbol && token.of(script) == ";" {
            if let Some(from) = begin.take() {
                let text = script[from..token.start].trim_end();
                found.push(Statement {
                    lead: &script[lead_from..from],
                    text,
                    offset: from,
                    ended: true,
                });
            }
            lead_from = token.end;
        } else if token.is_significant() && begin.is_none() {
            begin = Some(token.start);
        }
        at = token.end;
        previous = Some(token);
    }
    if let Some(from) = begin {
        found.push(Statement {
            lead: &script[lead_from..from],
            text: script[from..].trim_end(),
            offset: from,
            ended: false,
        });
    }
    found
}

/// Whether a typed text can be run: nothing is open, and its last statement has its semicolon.
pub(super) fn is_complete(text: &str) -> bool {
    match statements(text).last() {
        Some(last) => last.ended,
        None => tokens(text).last().is_none_or(|t| t.closed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(script: &str) -> Vec<&str> {
        statements(script).into_iter().map(|s| s.text).collect()
    }

    #[test]
    fn semicolons_within_quotes_and_comments_end_nothing() {
        assert_eq!(texts("SELECT ';'; SELECT 2"), ["SELECT ';'", "SELECT 2"]);
        assert_eq!(texts("SELECT 'it''s; so'; x"), ["SELECT 'it''s; so'", "x"]);
        assert_eq!(texts(r#"SELECT "a;b""c;"; x"#), [r#"SELECT "a;b""c;""#, "x"]);
        assert_eq!(
            texts("SELECT 1 -- one; two\n, 2; x"),
            ["SELECT 1 -- one; two\n, 2", "x"]
        );
        assert_eq!(
            texts("SELECT /* ; /* ; */ ; */ 1; x"),
            ["SELECT /* ; /* ; */ ; */ 1", "x"]
        );
        assert_eq!(
            texts("SELECT $$;'$$; SELECT $a$;$$;$a$; x"),
            ["SELECT $$;'$$", "SELECT $a$;$$;$a$", "x"]
        );
        assert_eq!(texts(r"SELECT E'\';'; x"), [r"SELECT E'\';'", "x"]);
        assert_eq!(texts(r"SELECT '\'; x"), [r"SELECT '\'", "x"]);
        assert_eq!(texts("SELECT $1; x"), ["SELECT $1", "x"]);
    }

    #[test]
    fn empty_statements_are_left_out() {
        assert!(texts("").is_empty());
        assert!(texts(" ; ;\n-- nothing\n;").is_empty());
        assert_eq!(texts(";;SELECT 1;;"), ["SELECT 1"]);
    }

    #[test]
    fn leads_and_offsets_point_into_the_script() {
        let script = "-- # One\n-- prose\nSELECT 1;\n\n-- two\nSELECT 2;";
        let found = statements(script);
        assert_eq!(found[0].lead, "-- # One\n-- prose\n");
        assert_eq!(found[1].lead, "\n\n-- two\n");
        assert_eq!(&script[found[1].offset..], "SELECT 2;");
    }

    #[test]
    fn commands_end_with_their_line() {
        let found = statements("\\d it's\nSELECT 1;\n\\h KMEANS;\n");
        assert_eq!(
            found.iter().map(|s| s.text).collect::<Vec<_>>(),
            ["\\d it's", "SELECT 1", "\\h KMEANS"]
        );
        assert!(found[0].is_command() && found[0].ended && !found[1].is_command());
    }

    #[test]
    fn completeness_needs_the_semicolon() {
        assert!(is_complete(""));
        assert!(is_complete("-- only a comment"));
        assert!(is_complete("SELECT 1;"));
        assert!(is_complete("SELECT 1; -- done"));
        assert!(is_complete("\\d"));
        assert!(!is_complete("SELECT 1"));
        assert!(!is_complete("SELECT 1; SELECT 2"));
        assert!(!is_complete("SELECT ';"));
        assert!(!is_complete("/* ;"));
        assert!(!is_complete("SELECT $$ ;"));
    }

    #[test]
    fn numbers_words_and_symbols() {
        let kinds = |text: &str| {
            tokens(text)
                .iter()
                .map(|t| (t.kind, t.of(text).to_string()))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            kinds("a1=1.5e-3"),
            [
                (Kind::Word, "a1".into()),
                (Kind::Symbol, "=".into()),
                (Kind::Number, "1.5e-3".into())
            ]
        );
        assert_eq!(kinds("1e"), [(Kind::Number, "1".into()), (Kind::Word, "e".into())]);
        assert_eq!(kinds("é'ü"), [(Kind::Word, "é".into()), (Kind::Text, "'ü".into())]);
    }
}
