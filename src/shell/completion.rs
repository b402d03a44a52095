//! What a word may become: a pure function of the line and of what the session knows, so that it is tested without a
//! terminal.

use super::lexer::{Kind, Token, significant, tokens};

/// Keywords that are offered and coloured.
#[rustfmt::skip]
pub(super) const KEYWORDS: &[&str] = &[
    "ALL", "ANALYZE", "AND", "ANTI", "ARRAY", "AS", "ASC", "BETWEEN", "BIGINT", "BOOLEAN", "BY", "CASE", "CAST",
    "COLUMN", "COLUMNS", "COPY", "CREATE", "CROSS", "CURRENT", "DATE", "DECIMAL", "DELETE", "DESC", "DESCRIBE",
    "DISTINCT", "DOUBLE", "DROP", "ELSE", "END", "EXCEPT", "EXECUTE", "EXISTS", "EXPLAIN", "EXTERNAL", "EXTRACT",
    "FALSE", "FILTER", "FIRST", "FOLLOWING", "FOR", "FROM", "FULL", "FUNCTION", "GROUP", "GROUPING", "HAVING", "IF",
    "ILIKE", "IN", "INNER", "INSERT", "INTEGER", "INTERSECT", "INTERVAL", "INTO", "IS", "JOIN", "LAST", "LATERAL",
    "LEFT", "LIKE", "LIMIT", "LOCATION", "NATURAL", "NOT", "NULL", "NULLS", "OFFSET", "ON", "OPTIONS", "OR", "ORDER",
    "OUTER", "OVER", "PARTITION", "PARTITIONED", "PRECEDING", "PREPARE", "QUALIFY", "RANGE", "RECURSIVE", "REPLACE",
    "RESET", "RIGHT", "ROLLUP", "ROW", "ROWS", "SCHEMA", "SELECT", "SEMI", "SET", "SETS", "SHOW", "STORED", "STRUCT",
    "TABLE", "TABLES", "THEN", "TIMESTAMP", "TO", "TRUE", "UNBOUNDED", "UNION", "UNNEST", "UPDATE", "USING", "VALUES",
    "VARCHAR", "VIEW", "WHEN", "WHERE", "WINDOW", "WITH",
];

/// The shell's own commands.
pub(super) const COMMANDS: &[&str] = &["\\?", "\\d", "\\format", "\\h", "\\q", "\\timing"];

/// Words after which a relation follows.
const BEFORE_RELATIONS: &[&str] = &["FROM", "JOIN", "INTO", "UPDATE", "TABLE", "DESCRIBE"];

/// A table and its columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// As it is written in FROM: `orders`, `ml.models`.
    pub(super) name: String,
    pub(super) columns: Vec<String>,
}

/// A function over a query or a model, and the options it takes by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Verb {
    /// In capitals: `KMEANS_SEGMENT`, `ML.TRAIN`.
    pub(super) name: String,
    pub(super) options: Vec<String>,
}

/// What the session knows.
#[derive(Debug, Clone, Default)]
pub(super) struct Catalogue {
    pub(super) tables: Vec<Table>,
    pub(super) functions: Vec<String>,
    pub(super) verbs: Vec<Verb>,
    pub(super) models: Vec<String>,
    pub(super) settings: Vec<String>,
}

/// Where the word begins that ends at byte `pos` of `line`, and what it may become, the likeliest first.
pub(super) fn complete(catalogue: &Catalogue, line: &str, pos: usize) -> (usize, Vec<String>) {
    let Some(before) = line.get(..pos) else {
        return (pos, vec![]);
    };
    if before.starts_with('\\') {
        return complete_command(catalogue, before);
    }
    let all = tokens(before);
    let last = all.last().copied();
    match last {
        Some(t) if t.kind == Kind::Comment && (!t.closed || t.of(before).starts_with("--")) => return (pos, vec![]),
        Some(t) if t.kind == Kind::Text && !t.closed => {
            let start = t.start + 1;
            return (start, complete_text(catalogue, before, t, &before[start..]));
        }
        Some(t) if t.kind == Kind::Quoted && !t.closed => return (pos, vec![]),
        _ => {}
    }
    let word = last.filter(|t| t.kind == Kind::Word);
    let (start, prefix) = word.map_or((pos, ""), |t| (t.start, t.of(before)));
    let earlier: Vec<Token> = significant(&before[..start]);
    let candidates = Candidates::new(prefix);
    let found = if let Some(owner) = owner(&earlier, before) {
        after_dot(catalogue, line, &owner, candidates)
    } else {
        anywhere(catalogue, line, before, &earlier, candidates)
    };
    (start, found)
}

/// Collects words that begin with the prefix, in the case of the prefix where the word's own does not matter.
struct Candidates<'a> {
    prefix: &'a str,
    found: Vec<String>,
}

impl<'a> Candidates<'a> {
    fn new(prefix: &'a str) -> Self {
        Self { prefix, found: vec![] }
    }

    fn fits(&self, word: &str) -> bool {
        word.len() >= self.prefix.len()
            && word.is_char_boundary(self.prefix.len())
            && word[..self.prefix.len()].to_lowercase() == self.prefix.to_lowercase()
    }

    fn push(&mut self, word: String) {
        if !self.found.contains(&word) {
            self.found.push(word);
        }
    }

    /// Identifiers keep their case, and get quotes where they need them.
    fn identifiers<'w>(&mut self, words: impl IntoIterator<Item = &'w str>) {
        for word in words {
            if self.fits(word) {
                self.push(identifier(word));
            }
        }
    }

    /// Words in any case: small where the prefix is, capitals otherwise.
    fn words<'w>(&mut self, words: impl IntoIterator<Item = &'w str>, suffix: &str) {
        let small = self.prefix.chars().any(char::is_lowercase) && !self.prefix.chars().any(char::is_uppercase);
        for word in words {
            if self.fits(word) {
                let word = if small {
                    word.to_lowercase()
                } else {
                    word.to_uppercase()
                };
                self.push(format!("{word}{suffix}"));
            }
        }
    }
}

fn identifier(name: &str) -> String {
    let plain = name
        .chars()
        .enumerate()
        .all(|(i, c)| c == '_' || (c.is_alphanumeric() && !c.is_uppercase() && (i > 0 || !c.is_numeric())));
    // A schema and a table have their dot outside the quotes already.
    if plain || name.contains('.') || name.contains('"') {
        name.to_string()
    } else {
        format!("\"{name}\"")
    }
}

/// The identifiers before a dot that the word follows.
fn owner(earlier: &[Token], text: &str) -> Option<String> {
    match earlier {
        [.., name, dot] if dot.of(text) == "." && matches!(name.kind, Kind::Word | Kind::Quoted) => {
            Some(name.of(text).trim_matches(['"', '`']).to_string())
        }
        _ => None,
    }
}

fn after_dot(catalogue: &Catalogue, line: &str, owner: &str, mut candidates: Candidates<'_>) -> Vec<String> {
    let table = relations(line)
        .into_iter()
        .find(|(alias, table)| alias.eq_ignore_ascii_case(owner) || table.eq_ignore_ascii_case(owner))
        .map_or_else(|| owner.to_string(), |(_, table)| table);
    if let Some(table) = catalogue.tables.iter().find(|t| t.name.eq_ignore_ascii_case(&table)) {
        candidates.identifiers(table.columns.iter().map(String::as_str));
    }
    let member = |name: &'_ str| -> Option<String> {
        let (schema, rest) = name.split_once('.')?;
        schema.eq_ignore_ascii_case(owner).then(|| rest.to_string())
    };
    let tables: Vec<String> = catalogue.tables.iter().filter_map(|t| member(&t.name)).collect();
    candidates.identifiers(tables.iter().map(String::as_str));
    let verbs: Vec<String> = catalogue.verbs.iter().filter_map(|v| member(&v.name)).collect();
    candidates.words(verbs.iter().map(String::as_str), "(");
    let settings: Vec<String> = catalogue.settings.iter().filter_map(|s| member(s)).collect();
    if first_word(line) == "SET" {
        candidates.identifiers(settings.iter().map(String::as_str));
    }
    candidates.found
}

fn first_word(line: &str) -> String {
    significant(line)
        .first()
        .map(|t| t.of(line).to_uppercase())
        .unwrap_or_default()
}

fn anywhere(
    catalogue: &Catalogue,
    line: &str,
    before: &str,
    earlier: &[Token],
    mut candidates: Candidates<'_>,
) -> Vec<String> {
    let previous = earlier.last().map(|t| t.of(before).to_uppercase()).unwrap_or_default();
    let tables = || catalogue.tables.iter().map(|t| t.name.as_str());
    let verbs = || catalogue.verbs.iter().map(|v| v.name.as_str());
    if BEFORE_RELATIONS.contains(&previous.as_str()) {
        candidates.identifiers(tables());
        candidates.words(verbs(), "(");
        candidates.words(["LATERAL", "UNNEST", "VALUES", "IF", "EXISTS"], "");
        return candidates.found;
    }
    if previous == "SET" {
        candidates.identifiers(catalogue.settings.iter().map(String::as_str));
        return candidates.found;
    }
    if let Some(verb) = open_call(earlier, before).and_then(|call| {
        catalogue
            .verbs
            .iter()
            .find(|v| v.name.eq_ignore_ascii_case(&call.name) && call.argument > 0)
    }) {
        let options: Vec<String> = verb.options.iter().map(|o| format!("{o} => ")).collect();
        for option in options {
            if candidates.fits(&option) {
                candidates.push(option);
            }
        }
    }
    let named: Vec<String> = relations(line).into_iter().map(|(_, table)| table).collect();
    let mentioned: Vec<&Table> = catalogue
        .tables
        .iter()
        .filter(|t| named.iter().any(|n| n.eq_ignore_ascii_case(&t.name)))
        .collect();
    for table in &mentioned {
        candidates.identifiers(table.columns.iter().map(String::as_str));
    }
    // With nothing typed there would be no end to the list.
    if candidates.prefix.is_empty() {
        return candidates.found;
    }
    if mentioned.is_empty() {
        for table in catalogue.tables.iter().filter(|t| !t.name.contains('.')) {
            candidates.identifiers(table.columns.iter().map(String::as_str));
        }
    }
    candidates.words(KEYWORDS.iter().copied(), "");
    candidates.words(verbs(), "(");
    candidates.words(catalogue.functions.iter().map(String::as_str), "(");
    candidates.identifiers(tables());
    candidates.found
}

/// A name within quotes: a model, where a function takes one.
fn complete_text(catalogue: &Catalogue, before: &str, token: Token, prefix: &str) -> Vec<String> {
    let earlier = significant(&before[..token.start]);
    let takes_model = open_call(&earlier, before).is_some_and(|call| {
        call.argument == 0 && catalogue.verbs.iter().any(|v| v.name.eq_ignore_ascii_case(&call.name))
    });
    if !takes_model {
        return vec![];
    }
    catalogue
        .models
        .iter()
        .filter(|m| m.starts_with(prefix))
        .map(|m| format!("{m}'"))
        .collect()
}

fn complete_command(catalogue: &Catalogue, before: &str) -> (usize, Vec<String>) {
    let Some((command, rest)) = before.split_once(char::is_whitespace) else {
        return (
            0,
            COMMANDS
                .iter()
                .filter(|c| c.starts_with(before))
                .map(|c| (*c).to_string())
                .collect(),
        );
    };
    let prefix = rest.trim_start();
    let start = before.len() - prefix.len();
    let mut candidates = Candidates::new(prefix);
    match command {
        "\\d" => candidates.identifiers(catalogue.tables.iter().map(|t| t.name.as_str())),
        "\\h" => {
            candidates.words(catalogue.verbs.iter().map(|v| v.name.as_str()), "");
            candidates.identifiers(catalogue.settings.iter().map(String::as_str));
        }
        "\\format" => candidates.identifiers(["table", "csv", "json", "ndjson", "markdown"]),
        _ => {}
    }
    (start, candidates.found)
}

struct Call {
    name: String,
    /// How many commas of its own are before the cursor.
    argument: usize,
}

/// The innermost call that is open where the tokens end.
fn open_call(earlier: &[Token], text: &str) -> Option<Call> {
    let (mut depth, mut argument) = (0usize, 0);
    for (i, token) in earlier.iter().enumerate().rev() {
        match token.of(text) {
            ")" | "]" => depth += 1,
            "[" => depth = depth.saturating_sub(1),
            "," if depth == 0 => argument += 1,
            "(" if depth > 0 => depth -= 1,
            "(" => {
                let name = earlier.get(i.checked_sub(1)?)?;
                if name.kind != Kind::Word || KEYWORDS.contains(&name.of(text).to_uppercase().as_str()) {
                    return None;
                }
                let mut full = name.of(text).to_string();
                if i >= 3 && earlier[i - 2].of(text) == "." && earlier[i - 3].kind == Kind::Word {
                    full = format!("{}.{full}", earlier[i - 3].of(text));
                }
                return Some(Call { name: full, argument });
            }
            _ => {}
        }
    }
    None
}

/// The relations that a text names after FROM, JOIN and their like: the alias, or the name itself, and the name.
fn relations(text: &str) -> Vec<(String, String)> {
    let all = significant(text);
    let word = |i: usize| all.get(i).map(|t| t.of(text)).unwrap_or_default();
    let is_name = |i: usize| all.get(i).is_some_and(|t| matches!(t.kind, Kind::Word | Kind::Quoted));
    let is_keyword = |i: usize| KEYWORDS.contains(&word(i).to_uppercase().as_str());
    let plain = |i: usize| word(i).trim_matches(['"', '`']).to_string();
    let mut found = vec![];
    for i in 0..all.len() {
        if !BEFORE_RELATIONS.contains(&word(i).to_uppercase().as_str()) {
            continue;
        }
        let mut at = i + 1;
        // `FROM a x, b AS y`
        while is_name(at) && !is_keyword(at) {
            let mut name = plain(at);
            at += 1;
            while word(at) == "." && is_name(at + 1) {
                name = format!("{name}.{}", plain(at + 1));
                at += 2;
            }
            if word(at).eq_ignore_ascii_case("as") {
                at += 1;
            }
            let mut alias = name.clone();
            if is_name(at) && !is_keyword(at) {
                alias = plain(at);
                at += 1;
            }
            found.push((alias, name));
            if word(at) != "," {
                break;
            }
            at += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue() -> Catalogue {
        let words = |list: &[&str]| list.iter().map(|w| (*w).to_string()).collect::<Vec<_>>();
        let table = |name: &str, columns: &[&str]| Table {
            name: name.into(),
            columns: words(columns),
        };
        Catalogue {
            tables: vec![
                table("customers", &["customer_id", "country", "Sign Up"]),
                table("orders", &["order_id", "customer_id", "total"]),
                table("ml.models", &["name", "version"]),
            ],
            functions: words(&["coalesce", "count", "concat"]),
            verbs: vec![
                Verb {
                    name: "KMEANS_SEGMENT".into(),
                    options: words(&["k", "seed", "starts"]),
                },
                Verb {
                    name: "ML.TRAIN".into(),
                    options: words(&["model_type"]),
                },
            ],
            models: words(&["churn", "segments"]),
            settings: words(&["ml.device", "ml.seed"]),
        }
    }

    /// Completes at `|`.
    fn at(text: &str) -> Vec<String> {
        let pos = text.find('|').expect("a cursor");
        complete(&catalogue(), &text.replace('|', ""), pos).1
    }

    #[test]
    fn keywords_in_the_case_of_what_is_typed() {
        assert_eq!(at("SEL|"), ["SELECT"]);
        assert_eq!(at("sel|"), ["select"]);
        assert_eq!(at("SELECT 1 WHER|"), ["WHERE"]);
    }

    #[test]
    fn tables_after_from() {
        assert_eq!(at("SELECT * FROM or|"), ["orders"]);
        assert_eq!(at("SELECT * FROM customers JOIN o|"), ["orders"]);
        assert_eq!(at("SELECT * FROM ml.|"), ["models", "TRAIN("]);
        assert_eq!(at("SELECT * FROM km|"), ["kmeans_segment("]);
        assert_eq!(at("SELECT * FROM ml.t|"), ["train("]);
        assert!(at("SELECT * FROM |").starts_with(&["customers".into(), "orders".into(), "ml.models".into()]));
    }

    #[test]
    fn columns_of_the_tables_that_are_named() {
        assert_eq!(at("SELECT to| FROM orders")[0], "total");
        assert_eq!(at("SELECT count| FROM orders"), ["count("]);
        assert_eq!(at("SELECT count|"), ["country", "count("]);
        assert_eq!(at("SELECT | FROM orders"), ["order_id", "customer_id", "total"]);
        assert_eq!(at("SELECT sig| FROM customers"), ["\"Sign Up\""]);
    }

    #[test]
    fn columns_after_an_alias() {
        assert_eq!(at("SELECT o.| FROM orders o"), ["order_id", "customer_id", "total"]);
        assert_eq!(at("SELECT c.co| FROM orders AS o, customers c"), ["country"]);
        assert_eq!(at("SELECT orders.t| FROM orders"), ["total"]);
        assert_eq!(at("SELECT m.v| FROM ml.models m"), ["version"]);
    }

    #[test]
    fn options_of_the_open_call() {
        assert_eq!(
            at("SELECT * FROM KMEANS_SEGMENT((SELECT total FROM orders), s|")[..2],
            ["seed => ", "starts => "]
        );
        assert_eq!(at("SELECT * FROM ML.TRAIN('m', (SELECT 1), mo|"), ["model_type => "]);
        assert!(!at("SELECT * FROM KMEANS_SEGMENT((SELECT s|").contains(&"seed => ".to_string()));
    }

    #[test]
    fn models_within_quotes() {
        assert_eq!(at("SELECT KMEANS_SEGMENT('se|"), ["segments'"]);
        assert_eq!(at("SELECT * FROM ml.train('|"), ["churn'", "segments'"]);
        assert!(at("SELECT 'se|").is_empty());
        assert!(at("SELECT * FROM KMEANS_SEGMENT((SELECT 1), k => 'se|").is_empty());
    }

    #[test]
    fn commands_and_their_words() {
        assert_eq!(at("\\ti|"), ["\\timing"]);
        assert_eq!(at("\\d or|"), ["orders"]);
        assert_eq!(at("\\h km|"), ["kmeans_segment"]);
        assert_eq!(at("SET ml.s|"), ["seed"]);
    }

    #[test]
    fn nothing_within_comments() {
        assert!(at("SELECT 1 -- SEL|").is_empty());
        assert!(at("/* SEL|").is_empty());
    }

    #[test]
    fn the_word_begins_where_it_is_replaced() {
        let line = "SELECT cust";
        assert_eq!(complete(&catalogue(), line, line.len()).0, 7);
        assert_eq!(complete(&catalogue(), "é sel", 6).0, 3);
    }
}
