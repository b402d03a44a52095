//! Calls of functions that GoogleSQL writes in another way than DataFusion, or means another function by: renamed,
//! with a part of a date or an interval among the arguments, or with words between them.

use std::ops::Range;

use super::lexer::Kind;
use super::rewrite::Rewriter;
use super::source::{SyntaxError, quote};

/// Words that may end an argument list as a part of a date.
const DATE_PARTS: &[&str] = &[
    "MICROSECOND",
    "MILLISECOND",
    "SECOND",
    "MINUTE",
    "HOUR",
    "DAY",
    "DAYOFWEEK",
    "DAYOFYEAR",
    "WEEK",
    "ISOWEEK",
    "MONTH",
    "QUARTER",
    "YEAR",
    "ISOYEAR",
];

/// Functions whose last arguments may be a part of a date, or an interval.
const DATE_FUNCTIONS: &[&str] = &[
    "DATE_DIFF",
    "DATETIME_DIFF",
    "TIMESTAMP_DIFF",
    "TIME_DIFF",
    "DATE_TRUNC",
    "DATETIME_TRUNC",
    "TIMESTAMP_TRUNC",
    "TIME_TRUNC",
    "LAST_DAY",
    "DATE_ADD",
    "DATE_SUB",
    "DATETIME_ADD",
    "DATETIME_SUB",
    "TIMESTAMP_ADD",
    "TIMESTAMP_SUB",
    "TIME_ADD",
    "TIME_SUB",
    "GENERATE_DATE_ARRAY",
    "GENERATE_TIMESTAMP_ARRAY",
];

/// Functions that DataFusion calls by another name, and those that it has with another meaning.
const RENAMED: &[(&str, &str)] = &[
    ("ARRAY_CONCAT", "google_array_concat"),
    ("ARRAY_LENGTH", "google_array_length"),
    ("BYTE_LENGTH", "octet_length"),
    ("CEILING", "ceil"),
    ("CONCAT", "google_concat"),
    ("DATE", "google_date"),
    ("DATETIME", "google_datetime"),
    ("EDIT_DISTANCE", "levenshtein"),
    ("EUCLIDEAN_DISTANCE", "array_distance"),
    ("FORMAT", "google_format"),
    ("GENERATE_UUID", "uuid"),
    ("GREATEST", "google_greatest"),
    ("INITCAP", "google_initcap"),
    ("INSTR", "google_instr"),
    ("LEAST", "google_least"),
    ("LN", "google_ln"),
    ("LOG", "google_log"),
    ("LOG10", "google_log10"),
    ("LOGICAL_AND", "bool_and"),
    ("LOGICAL_OR", "bool_or"),
    ("MD5", "google_md5"),
    ("POW", "google_pow"),
    ("POWER", "google_pow"),
    ("REGEXP_REPLACE", "google_regexp_replace"),
    ("REGEXP_SUBSTR", "regexp_extract"),
    ("SHA256", "google_sha256"),
    ("SHA512", "google_sha512"),
    ("SQRT", "google_sqrt"),
    ("STRING", "google_string"),
    ("SUBSTR", "google_substr"),
    ("SUBSTRING", "google_substr"),
    ("TIME", "google_time"),
    ("TIMESTAMP", "google_timestamp"),
    ("TO_HEX", "google_to_hex"),
    ("UNICODE", "ascii"),
    ("VARIANCE", "var_samp"),
];

impl Rewriter<'_> {
    /// Writes out the call whose name stands at `i`, if GoogleSQL has its own way with it; the token after it.
    pub(super) fn call(&mut self, i: usize, end: usize) -> Result<Option<usize>, SyntaxError> {
        let t = self.tokens;
        let open = t.skip(i + 1, end);
        let Some(close) = t.partner(open).filter(|c| t.is_symbol(open, "(") && *c < end) else {
            return Ok(None);
        };
        let word = t.of(i).to_uppercase();
        let written = match word.as_str() {
            "CAST" | "SAFE_CAST" => self.cast(i, open, close)?,
            "EXTRACT" => self.extract(i, open, close)?,
            "IF" => self.condition(i, open, close, end)?,
            "COUNTIF" => self.count(i, open, close, end)?,
            "APPROX_COUNT_DISTINCT" => self.count_distinct(i, open, close)?,
            "STRING_AGG" => self.string_agg(open, close)?,
            "ARRAY_AGG" => self.array_agg(open, close)?,
            "TO_JSON_STRING" => self.row_as_json(i, open, close)?,
            "CURRENT_DATE" | "CURRENT_DATETIME" | "CURRENT_TIME" => self.current(i, open, close)?,
            "PERCENTILE_CONT" | "PERCENTILE_DISC" => self.percentile(i, open, close)?,
            "MAX_BY" | "MIN_BY" => self.first_by(i, open, close)?,
            "ANY_VALUE" => self.any_value(i, open, close)?,
            "ARRAY_CONCAT_AGG" => self.concat_agg(i, open, close)?,
            "MOD" => self.pair(i, open, close, ["((", ") % (", "))"])?,
            "SAFE_DIVIDE" => {
                let words = ["(CAST((", ") AS DOUBLE) / nullif(CAST((", ") AS DOUBLE), 0))"];
                self.pair(i, open, close, words)?
            }
            word if DATE_FUNCTIONS.contains(&word) => self.date_function(i, open, close)?,
            word => match RENAMED.iter().find(|(known, _)| *known == word) {
                Some((_, name)) => self.renamed(i, open, close, name)?,
                None => false,
            },
        };
        Ok(written.then_some(close + 1))
    }

    /// `SAFE.f(…)` as `google_safe(f(…))`.
    pub(super) fn safe_call(&mut self, i: usize, dot: usize, end: usize) -> Result<Option<usize>, SyntaxError> {
        let t = self.tokens;
        let function = t.skip(dot + 1, end);
        let open = t.skip(function + 1, end);
        let Some(close) = t.partner(open).filter(|c| *c < end && t.is_symbol(open, "(")) else {
            return Ok(None);
        };
        if t.kind(function) != Some(Kind::Word) {
            return Ok(None);
        }
        if t.is_word(function, "MOD") {
            self.pair(i, open, close, ["((", ") % nullif(", ", 0))"])?;
            return Ok(Some(close + 1));
        }
        self.out.put("google_safe(", t.span(i).start);
        if self.call(function, end)?.is_none() {
            self.plain(function..open + 1);
            self.range(open + 1..close)?;
            self.plain(close..close + 1);
        }
        self.out.put(")", t.span(close).end);
        Ok(Some(close + 1))
    }

    /// A call under DataFusion's name.
    fn renamed(&mut self, i: usize, open: usize, close: usize, name: &str) -> Result<bool, SyntaxError> {
        let t = self.tokens;
        let arguments = t.trim(open + 1..close);
        // `STRING(10)` is a type, and `SUBSTRING(x FROM 2)` is in other words.
        let is_size = arguments.len() == 1 && t.kind(arguments.start) == Some(Kind::Number) && self.is_type(i);
        if is_size || t.last_word(&arguments, "FROM").is_some() {
            return Ok(false);
        }
        self.out.put(name, t.span(i).start);
        self.plain(i + 1..open + 1);
        self.range(open + 1..close)?;
        self.plain(close..close + 1);
        Ok(true)
    }

    /// Whether a word is the name of a type with a size, as in the definition of a column.
    fn is_type(&self, i: usize) -> bool {
        self.tokens.is_any_word(i, &["STRING", "DATETIME", "TIMESTAMP", "TIME"])
    }

    /// `CURRENT_DATE(zone)` and its like; CURRENT_DATETIME without a zone too.
    fn current(&mut self, i: usize, open: usize, close: usize) -> Result<bool, SyntaxError> {
        let t = self.tokens;
        let zone = t.trim(open + 1..close);
        if zone.is_empty() && !t.is_word(i, "CURRENT_DATETIME") {
            return Ok(false);
        }
        let name = t.of(i).to_lowercase().replace("current_", "google_");
        self.out.put(&format!("{name}(now()"), t.span(i).start);
        if !zone.is_empty() {
            self.out.put(", ", t.span(open).start);
            self.range(zone)?;
        }
        self.out.put(")", t.span(close).start);
        Ok(true)
    }

    /// `PERCENTILE_CONT(x, 0.5 IGNORE NULLS)`, which leaves NULLs out in any case.
    fn percentile(&mut self, i: usize, open: usize, close: usize) -> Result<bool, SyntaxError> {
        let t = self.tokens;
        let inside = open + 1..close;
        if let Some(word) = t.last_word(&inside, "RESPECT") {
            let message = format!("{} leaves NULLs out here; write it without RESPECT NULLS", t.of(i));
            return Err(SyntaxError::new(t.span(word), message));
        }
        let Some(word) = t.last_word(&inside, "IGNORE") else {
            return Ok(false);
        };
        self.plain(i..open + 1);
        self.operand(open + 1..word)?;
        self.plain(close..close + 1);
        Ok(true)
    }

    /// `MAX_BY(x, y)`: the x where y is greatest, of the rows in which y is not NULL.
    fn first_by(&mut self, i: usize, open: usize, close: usize) -> Result<bool, SyntaxError> {
        let t = self.tokens;
        let arguments = t.between_commas(open + 1..close);
        let [value, by] = arguments.as_slice() else {
            return Ok(false);
        };
        self.extreme(i, close, [value.clone(), by.clone()], t.is_word(i, "MAX_BY"))
    }

    fn extreme(
        &mut self,
        i: usize,
        close: usize,
        [value, by]: [Range<usize>; 2],
        greatest: bool,
    ) -> Result<bool, SyntaxError> {
        let (at, end) = (self.tokens.span(i).start, self.tokens.span(close).start);
        self.out.put("first_value(", at);
        self.operand(value)?;
        self.out.put(" ORDER BY ", end);
        self.operand(by.clone())?;
        let direction = if greatest { " DESC" } else { "" };
        self.out.put(&format!("{direction}) FILTER (WHERE ("), end);
        self.operand(by)?;
        self.out.put(") IS NOT NULL)", end);
        Ok(true)
    }

    /// `ANY_VALUE(x HAVING MAX y)`.
    fn any_value(&mut self, i: usize, open: usize, close: usize) -> Result<bool, SyntaxError> {
        let t = self.tokens;
        let Some(having) = t.last_word(&(open + 1..close), "HAVING") else {
            return Ok(false);
        };
        let bound = t.skip(having + 1, close);
        if !t.is_any_word(bound, &["MAX", "MIN"]) {
            return Ok(false);
        }
        let greatest = t.is_word(bound, "MAX");
        self.extreme(i, close, [open + 1..having, bound + 1..close], greatest)
    }

    /// `ARRAY_CONCAT_AGG(x)`: the elements of all arrays that are not NULL.
    fn concat_agg(&mut self, i: usize, open: usize, close: usize) -> Result<bool, SyntaxError> {
        let t = self.tokens;
        let order = t.last_word(&(open + 1..close), "ORDER").unwrap_or(close);
        if t.last_word(&(open + 1..close), "LIMIT").is_some() {
            return Ok(false);
        }
        self.out.put("flatten(ARRAY_AGG(", t.span(i).start);
        self.operand(open + 1..order)?;
        self.out.put(" IGNORE NULLS ", t.span(order).start);
        self.range(order..close)?;
        self.out.put("))", t.span(close).start);
        Ok(true)
    }

    /// `APPROX_COUNT_DISTINCT(x)`, exactly.
    fn count_distinct(&mut self, i: usize, open: usize, close: usize) -> Result<bool, SyntaxError> {
        self.out.put("COUNT(DISTINCT ", self.tokens.span(i).start);
        self.range(open + 1..close)?;
        self.plain(close..close + 1);
        Ok(true)
    }

    /// `STRING_AGG(x ORDER BY y)`, whose separator is a comma.
    fn string_agg(&mut self, open: usize, close: usize) -> Result<bool, SyntaxError> {
        let t = self.tokens;
        let order = t.last_word(&(open + 1..close), "ORDER").unwrap_or(close);
        if let Some(limit) = t.last_word(&(open + 1..close), "LIMIT") {
            return self.first_strings(open, limit, close);
        }
        if t.between_commas(open + 1..order).len() != 1 {
            return Ok(false);
        }
        let value = t.trim(open + 1..order);
        self.out.put("STRING_AGG(", t.span(open).start);
        self.range(value)?;
        self.out.put(", ','", t.span(order).start);
        if order < close {
            self.out.put(" ", t.span(order).start);
        }
        self.range(order..close)?;
        self.plain(close..close + 1);
        Ok(true)
    }

    /// `STRING_AGG(x, separator ORDER BY y LIMIT n)`, of a slice of all.
    fn first_strings(&mut self, open: usize, limit: usize, close: usize) -> Result<bool, SyntaxError> {
        let t = self.tokens;
        let order = t.last_word(&(open + 1..limit), "ORDER").unwrap_or(limit);
        let arguments = t.between_commas(open + 1..order);
        let (value, separator) = match arguments.as_slice() {
            [value] => (value.clone(), None),
            [value, separator] => (value.clone(), Some(separator.clone())),
            _ => return Ok(false),
        };
        let end = t.span(close).start;
        self.out
            .put("array_to_string(array_slice(ARRAY_AGG(", t.span(open).start);
        self.operand(value)?;
        self.out.put(" IGNORE NULLS ", end);
        self.operand(order..limit)?;
        self.out.put("), 1, ", end);
        self.operand(limit + 1..close)?;
        self.out.put("), ", end);
        match separator {
            Some(separator) => self.operand(separator)?,
            None => self.out.put("','", end),
        }
        self.out.put(")", end);
        Ok(true)
    }

    /// `ARRAY_AGG(x ORDER BY y LIMIT n)`, as a slice of all.
    fn array_agg(&mut self, open: usize, close: usize) -> Result<bool, SyntaxError> {
        let t = self.tokens;
        let Some(limit) = t.last_word(&(open + 1..close), "LIMIT") else {
            return Ok(false);
        };
        self.out.put("array_slice(ARRAY_AGG(", t.span(open).start);
        self.operand(open + 1..limit)?;
        self.out.put("), 1, ", t.span(limit).start);
        self.operand(limit + 1..close)?;
        self.plain(close..close + 1);
        Ok(true)
    }

    /// `TO_JSON_STRING(t)` of a whole row of t, which DataFusion knows as `t.*`.
    fn row_as_json(&mut self, i: usize, open: usize, close: usize) -> Result<bool, SyntaxError> {
        let t = self.tokens;
        let arguments = t.between_commas(open + 1..close);
        let Some(argument) = arguments.first().map(|a| t.trim(a.clone())) else {
            return Ok(false);
        };
        let row = argument.start;
        let Some(statement) = t.statements.iter().find(|s| s.contains(&i)) else {
            return Ok(false);
        };
        if argument.len() != 1
            || t.kind(row) != Some(Kind::Word)
            || !statement.clone().any(|at| self.is_table(at, t.of(row)))
        {
            return Ok(false);
        }
        self.plain(i..row + 1);
        self.out.put(".*", t.span(row).end);
        self.range(row + 1..close)?;
        self.plain(close..close + 1);
        Ok(true)
    }

    /// Whether the word at `at` names a table, or a query in FROM, so.
    fn is_table(&self, at: usize, name: &str) -> bool {
        let t = self.tokens;
        if !t.is_word(at, name) {
            return false;
        }
        let mut before = t.before(at);
        if before.is_some_and(|b| t.is_word(b, "AS")) {
            before = before.and_then(|b| t.before(b));
        }
        if before.is_some_and(|b| t.is_any_word(b, &["FROM", "JOIN"])) {
            return true;
        }
        // `(SELECT …) AS t`, but not `UNNEST(…) AS t` or a column.
        if let Some(open) = before.filter(|b| t.is_symbol(*b, ")")).and_then(|b| t.partner(b)) {
            return t.before(open).is_some_and(|b| t.is_any_word(b, &["FROM", "JOIN"]));
        }
        let mut table = before.filter(|b| matches!(t.kind(*b), Some(Kind::Word | Kind::Quoted)));
        while let Some(dot) = table.and_then(|b| t.before(b)).filter(|d| t.is_symbol(*d, ".")) {
            table = t.before(dot);
        }
        table
            .and_then(|b| t.before(b))
            .is_some_and(|b| t.is_any_word(b, &["FROM", "JOIN"]))
    }

    /// The part of a date that an argument is, in capitals.
    fn date_part(&self, range: &Range<usize>) -> Option<String> {
        let t = self.tokens;
        let range = t.trim(range.clone());
        let bracket = t.skip(range.start + 1, range.end);
        let is_part = t.is_any_word(range.start, DATE_PARTS)
            && (range.len() == 1 || (t.is_word(range.start, "WEEK") && t.is_symbol(bracket, "(")));
        let words: String = range.map(|i| t.of(i).trim()).collect();
        is_part.then(|| words.to_uppercase())
    }

    /// Parts of dates among the arguments as strings, and intervals as a number and a part.
    fn date_function(&mut self, i: usize, open: usize, close: usize) -> Result<bool, SyntaxError> {
        let t = self.tokens;
        let arguments = t.between_commas(open + 1..close);
        let is_interval = |range: &Range<usize>| {
            let range = t.trim(range.clone());
            t.is_word(range.start, "INTERVAL") && range.len() > 2 && t.is_any_word(range.end - 1, DATE_PARTS)
        };
        if !arguments
            .iter()
            .skip(1)
            .any(|a| is_interval(a) || self.date_part(a).is_some())
        {
            return Ok(false);
        }
        if t.is_word(i, "DATE_TRUNC") {
            self.out.put("google_date_trunc", t.span(i).start);
            self.plain(i + 1..open + 1);
        } else {
            self.plain(i..open + 1);
        }
        for (at, argument) in arguments.iter().enumerate() {
            if at > 0 {
                self.plain(argument.start - 1..argument.start);
            }
            let trimmed = t.trim(argument.clone());
            let part = self.date_part(argument).filter(|_| at > 0);
            if let Some(part) = part {
                self.range(argument.start..trimmed.start)?;
                self.out.put(&quote(&part), t.span(trimmed.start).start);
                self.range(trimmed.end..argument.end)?;
            } else if at > 0 && is_interval(argument) {
                let part = trimmed.end - 1;
                self.range(argument.start..trimmed.start)?;
                self.operand(trimmed.start + 1..part)?;
                let words = format!(", {}", quote(&t.of(part).to_uppercase()));
                self.out.put(&words, t.span(part).start);
                self.range(trimmed.end..argument.end)?;
            } else {
                self.range(argument.clone())?;
            }
        }
        self.plain(close..close + 1);
        Ok(true)
    }

    /// Parts of dates that DataFusion counts in another way, or does not know.
    fn extract(&mut self, i: usize, open: usize, close: usize) -> Result<bool, SyntaxError> {
        let t = self.tokens;
        let start = t.skip(open + 1, close);
        let Some(from) = (start..close).find(|f| t.is_word(*f, "FROM") && t.parent(*f) == Some(open)) else {
            return Ok(false);
        };
        let part = match self.date_part(&(start..from)) {
            Some(part) => part,
            None => t.of(start).to_uppercase(),
        };
        let (value, zone) = match t.last_word(&(from + 1..close), "AT") {
            Some(at) if t.is_word(t.skip(at + 1, close), "TIME") => {
                let zone = t.skip(t.skip(at + 1, close) + 1, close);
                (from + 1..at, Some(zone + 1..close))
            }
            _ => (from + 1..close, None),
        };
        let at = t.span(i).start;
        let named = match part.as_str() {
            "DATE" | "TIME" | "DATETIME" if zone.is_some() => Some(format!("google_{}(", part.to_lowercase())),
            "DATETIME" => Some("google_datetime(".into()),
            "ISOYEAR" | "MILLISECOND" | "MICROSECOND" => Some("google_extract(".into()),
            word if zone.is_some() || word.starts_with("WEEK(") => Some("google_extract(".into()),
            _ => None,
        };
        if let Some(name) = named {
            self.out.put(&name, at);
            self.operand(value)?;
            if name == "google_extract(" {
                self.out.put(&format!(", {}", quote(&part)), t.span(start).start);
            }
            if let Some(zone) = zone {
                self.out.put(", ", t.span(zone.start).start);
                self.operand(zone)?;
            }
            self.plain(close..close + 1);
            return Ok(true);
        }
        let pieces: &[&str] = match part.as_str() {
            "DAYOFWEEK" => &["(CAST(date_part('dow', ", ") AS BIGINT) + 1)"],
            "DAYOFYEAR" => &["CAST(date_part('doy', ", ") AS BIGINT)"],
            "ISOWEEK" => &["CAST(date_part('week', ", ") AS BIGINT)"],
            // The days before the first Sunday are in week 0.
            "WEEK" => &[
                "((CAST(date_part('doy', ",
                ") AS BIGINT) + 6 - CAST(date_part('dow', ",
                ") AS BIGINT)) / 7)",
            ],
            "DATE" => &["CAST(", " AS DATE)"],
            "TIME" => &["CAST(", " AS TIME)"],
            _ => return Ok(false),
        };
        for (n, piece) in pieces.iter().enumerate() {
            if n > 0 {
                self.operand(value.clone())?;
            }
            self.out.put(piece, at);
        }
        Ok(true)
    }
}
