//! Functions of texts.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListBuilder, StringArray, StringBuilder,
};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result as DataFusionResult;
use regex::Regex;

use super::function::{BASE, Call, Kind, Spec, returns_bool, returns_int, returns_texts};
use super::print::string;

const PATTERN: Spec = Spec {
    takes: &[Kind::Text, Kind::Text],
    least: 2,
    ..BASE
};

pub(super) const ALL: &[Spec] = &[
    Spec {
        title: "FARM_FINGERPRINT",
        name: "farm_fingerprint",
        syntax: "FARM_FINGERPRINT(text)",
        summary: "FarmHash's 64-bit fingerprint of a text, as BigQuery has it: the same everywhere, for splitting rows by chance that repeats.",
        example: "SELECT MOD(ABS(FARM_FINGERPRINT(CAST(42 AS STRING))), 10) < 8",
        takes: &[Kind::Any],
        unify: Some(|_, given| {
            let bytes = |t: &DataType| t.is_binary() || t.is_string() || *t == DataType::Null;
            Ok(given
                .iter()
                .map(|t| if bytes(t) { DataType::Binary } else { t.clone() })
                .collect())
        }),
        returns: returns_int,
        eval: fingerprint,
        ..BASE
    },
    Spec {
        title: "CONCAT",
        name: "google_concat",
        syntax: "CONCAT(value, …)",
        summary: "Texts one after another; NULL if one of them is. Other values are printed as CAST(… AS STRING) prints them.",
        example: "SELECT CONCAT('T.P.', ' ', 'Bar')",
        takes: &[Kind::Any],
        repeats: true,
        eval: concat,
        ..BASE
    },
    Spec {
        title: "SUBSTR",
        name: "google_substr",
        syntax: "SUBSTR(text, position [, length])",
        summary: "A piece of a text, from a position that is counted from 1, or from the end if it is below 0.",
        example: "SELECT SUBSTR('apple', -3, 2)",
        takes: &[Kind::Text, Kind::Int, Kind::Int],
        least: 2,
        eval: substr,
        ..BASE
    },
    Spec {
        title: "CONTAINS_SUBSTR",
        name: "contains_substr",
        syntax: "CONTAINS_SUBSTR(value, text)",
        summary: "Whether a value contains a text, in any case of its letters.",
        example: "SELECT CONTAINS_SUBSTR('the blue house', 'Blue House')",
        takes: &[Kind::Any, Kind::Text],
        least: 2,
        returns: returns_bool,
        eval: contains,
        ..BASE
    },
    Spec {
        title: "REGEXP_CONTAINS",
        name: "regexp_contains",
        syntax: "REGEXP_CONTAINS(text, regexp)",
        summary: "Whether a regular expression matches a part of a text.",
        example: "SELECT REGEXP_CONTAINS('foo@example.com', r'@[a-z]+\\.com$')",
        returns: returns_bool,
        eval: |call| {
            let mut patterns = Patterns::default();
            call.map::<_, BooleanArray>(|row| Ok(Some(patterns.of(call, row)?.is_match(call.text(0).value(row)))))
        },
        ..PATTERN
    },
    Spec {
        title: "REGEXP_EXTRACT",
        name: "regexp_extract",
        syntax: "REGEXP_EXTRACT(text, regexp [, position [, occurrence]])",
        summary: "What a regular expression matches first in a text, or its group if it has one; NULL if it matches nothing.",
        example: "SELECT REGEXP_EXTRACT('foo@example.com', r'^([a-z]+)@')",
        takes: &[Kind::Text, Kind::Text, Kind::Int, Kind::Int],
        eval: extract,
        ..PATTERN
    },
    Spec {
        title: "REGEXP_EXTRACT_ALL",
        name: "regexp_extract_all",
        syntax: "REGEXP_EXTRACT_ALL(text, regexp)",
        summary: "All that a regular expression matches in a text, or its group if it has one, as an array.",
        example: "SELECT REGEXP_EXTRACT_ALL('Try `f(x)` or `g(x)`', '`(.+?)`')",
        returns: returns_texts,
        eval: extract_all,
        ..PATTERN
    },
    Spec {
        title: "REGEXP_REPLACE",
        name: "google_regexp_replace",
        syntax: "REGEXP_REPLACE(text, regexp, replacement)",
        summary: r"All matches of a regular expression replaced; \1 to \9 in the replacement are its groups, \0 the match.",
        example: "SELECT REGEXP_REPLACE('# Heading', r'^# ([a-zA-Z ]+)$', r'<h1>\\1</h1>')",
        takes: &[Kind::Text, Kind::Text, Kind::Text],
        least: 3,
        eval: replace,
        ..PATTERN
    },
    Spec {
        title: "INSTR",
        name: "google_instr",
        syntax: "INSTR(text, piece [, position [, occurrence]])",
        summary: "Where a piece is found in a text, counted from 1, or 0; a position below 0 searches from there to the front.",
        example: "SELECT INSTR('helloooo', 'oo', -1, 1)",
        takes: &[Kind::Text, Kind::Text, Kind::Int, Kind::Int],
        least: 2,
        returns: returns_int,
        eval: instr,
        ..BASE
    },
    Spec {
        title: "INITCAP",
        name: "google_initcap",
        syntax: "INITCAP(text [, delimiters])",
        summary: "A text whose words begin with capitals and go on in small letters; words are what stands between delimiters.",
        example: "SELECT INITCAP('it\\'s a Test-case')",
        takes: &[Kind::Text, Kind::Text],
        eval: initcap,
        ..BASE
    },
    Spec {
        title: "SOUNDEX",
        name: "soundex",
        syntax: "SOUNDEX(text)",
        summary: "How a word sounds: a letter and three digits.",
        example: "SELECT SOUNDEX('Ashcraft')",
        takes: &[Kind::Text],
        eval: |call| call.map::<_, StringArray>(|row| Ok(Some(soundex(call.text(0).value(row))))),
        ..BASE
    },
];

/// An argument's values as texts.
pub(super) fn printed(call: &Call<'_>, i: usize) -> DataFusionResult<StringArray> {
    let one = Call {
        title: call.title,
        rows: call.rows,
        arrays: &call.arrays[i..=i],
        returns: &DataType::Utf8,
    };
    Ok(string(&one)?.as_string::<i32>().clone())
}

fn fingerprint(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    if let Some(bytes) = call.arrays[0].as_binary_opt::<i32>() {
        return call.map::<_, Int64Array>(|row| Ok(Some(farmhash::fingerprint64(bytes.value(row)).cast_signed())));
    }
    let texts = printed(call, 0)?;
    call.map::<_, Int64Array>(|row| Ok(Some(farmhash::fingerprint64(texts.value(row).as_bytes()).cast_signed())))
}

fn concat(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    let texts: Vec<StringArray> = (0..call.len())
        .map(|i| printed(call, i))
        .collect::<DataFusionResult<_>>()?;
    call.map::<_, StringArray>(|row| Ok(Some(texts.iter().map(|t| t.value(row)).collect::<String>())))
}

fn substr(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    call.map::<_, StringArray>(|row| {
        let (text, position) = (call.text(0).value(row), call.int(1).value(row));
        let length = if call.len() > 2 {
            call.int(2).value(row)
        } else {
            i64::MAX
        };
        let length = usize::try_from(length).map_err(|_| {
            call.wrong(format!(
                "a length of {length} is below 0; write SAFE.SUBSTR(…) for NULL"
            ))
        })?;
        // Before the text's begin is its begin.
        let skipped = match usize::try_from(position) {
            Ok(position) => position.saturating_sub(1),
            Err(_) => {
                let from_end = usize::try_from(position.unsigned_abs()).unwrap_or(usize::MAX);
                text.chars().count().saturating_sub(from_end)
            }
        };
        Ok(Some(text.chars().skip(skipped).take(length).collect::<String>()))
    })
}

fn contains(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    let texts = match call.arrays[0].data_type() {
        DataType::List(_) | DataType::Struct(_) => {
            return Err(
                call.wrong("it searches no arrays or structs here; write CONTAINS_SUBSTR(TO_JSON_STRING(value), text)")
            );
        }
        _ => printed(call, 0)?,
    };
    call.map::<_, BooleanArray>(|row| {
        Ok(Some(
            texts
                .value(row)
                .to_lowercase()
                .contains(&call.text(1).value(row).to_lowercase()),
        ))
    })
}

/// The regular expression of the row before, which is mostly that of every row.
#[derive(Default)]
struct Patterns(Option<(String, Regex)>);

impl Patterns {
    fn of(&mut self, call: &Call<'_>, row: usize) -> DataFusionResult<&Regex> {
        let pattern = call.text(1).value(row);
        let last = self.0.take().filter(|(known, _)| known == pattern);
        let (_, regex) = self.0.insert(match last {
            Some(last) => last,
            None => {
                let regex = Regex::new(pattern).map_err(|e| {
                    let reason = e.to_string();
                    let reason = reason
                        .lines()
                        .last()
                        .unwrap_or_default()
                        .trim_start_matches("error: ")
                        .to_string();
                    call.wrong(format!(
                        "'{pattern}' is no regular expression: {reason}; write it as RE2 takes it"
                    ))
                })?;
                (pattern.to_string(), regex)
            }
        });
        Ok(regex)
    }
}

/// The group that is extracted: the only one, or the whole match.
fn group(call: &Call<'_>, regex: &Regex) -> DataFusionResult<usize> {
    match regex.captures_len() {
        1 => Ok(0),
        2 => Ok(1),
        _ => Err(call.wrong(format!(
            "'{regex}' has more than one group; write (?:…) for those that are not to be extracted"
        ))),
    }
}

fn extract(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    let mut patterns = Patterns::default();
    let number = |i: usize, row: usize| {
        let given = if call.len() > i { call.int(i).value(row) } else { 1 };
        let fits = usize::try_from(given).ok().filter(|n| *n > 0);
        fits.ok_or_else(|| call.wrong(format!("positions and occurrences are counted from 1, not {given}")))
    };
    call.map::<_, StringArray>(|row| {
        let text = call.text(0).value(row);
        let (position, occurrence) = (number(2, row)?, number(3, row)?);
        let regex = patterns.of(call, row)?;
        let group = group(call, regex)?;
        let start = match text
            .char_indices()
            .map(|(at, _)| at)
            .chain([text.len()])
            .nth(position - 1)
        {
            Some(start) => start,
            None => return Ok(None),
        };
        let found = regex.captures_iter(&text[start..]).nth(occurrence - 1);
        Ok(found.and_then(|f| f.get(group).map(|m| m.as_str().to_string())))
    })
}

fn extract_all(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    let mut patterns = Patterns::default();
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in 0..call.rows {
        if call.has_null(row) {
            lists.append_null();
            continue;
        }
        let regex = patterns.of(call, row)?;
        let group = group(call, regex)?;
        for found in regex.captures_iter(call.text(0).value(row)) {
            lists.values().append_value(found.get(group).map_or("", |m| m.as_str()));
        }
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}

fn replace(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    let mut patterns = Patterns::default();
    call.map::<_, StringArray>(|row| {
        let replacement = call.text(2).value(row);
        let mut template = String::with_capacity(replacement.len());
        let mut chars = replacement.chars();
        while let Some(c) = chars.next() {
            match c {
                '$' => template.push_str("$$"),
                '\\' => match chars.next() {
                    Some(digit) if digit.is_ascii_digit() => template.push_str(&format!("${{{digit}}}")),
                    Some('\\') => template.push('\\'),
                    _ => return Err(call.wrong(format!(
                        r"in '{replacement}' a backslash has neither a digit nor a backslash after it; write \\ for one"
                    ))),
                },
                c => template.push(c),
            }
        }
        let regex = patterns.of(call, row)?;
        Ok(Some(
            regex
                .replace_all(call.text(0).value(row), template.as_str())
                .into_owned(),
        ))
    })
}

fn instr(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    call.map::<_, Int64Array>(|row| {
        let (text, piece): (Vec<char>, Vec<char>) = (
            call.text(0).value(row).chars().collect(),
            call.text(1).value(row).chars().collect(),
        );
        let number = |i: usize| if call.len() > i { call.int(i).value(row) } else { 1 };
        let (position, occurrence) = (number(2), number(3));
        if position == 0 || occurrence < 1 {
            return Err(call.wrong("positions are counted from 1 or from -1, and occurrences from 1"));
        }
        if piece.is_empty() {
            return Ok(Some(0));
        }
        let length = i64::try_from(text.len()).unwrap_or(i64::MAX);
        let is_at = |start: &usize| text.get(*start..).is_some_and(|rest| rest.starts_with(&piece));
        let nth = usize::try_from(occurrence - 1).unwrap_or(usize::MAX);
        let found = match usize::try_from(position) {
            Ok(position) => (position - 1..text.len()).filter(is_at).nth(nth),
            Err(_) => {
                let last = usize::try_from(length.saturating_add(position).saturating_add(1)).unwrap_or(0);
                (0..last).rev().filter(is_at).nth(nth)
            }
        };
        Ok(Some(found.and_then(|at| i64::try_from(at + 1).ok()).unwrap_or(0)))
    })
}

/// What stands between words, beside white space, where nothing else is said.
const DELIMITERS: &str = "[](){}/|<>!?@\"^#$&~_,.:;*%+-";

fn initcap(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    call.map::<_, StringArray>(|row| {
        let given = (call.len() > 1).then(|| call.text(1).value(row));
        let ends = |c: char| match given {
            Some(delimiters) => delimiters.contains(c),
            None => c.is_whitespace() || DELIMITERS.contains(c),
        };
        let mut out = String::new();
        let mut begins = true;
        for c in call.text(0).value(row).chars() {
            if begins {
                out.extend(c.to_uppercase());
            } else {
                out.extend(c.to_lowercase());
            }
            begins = ends(c);
        }
        Ok(Some(out))
    })
}

/// The Soundex code of a word: letters that sound alike have the same digit, and are told once where they meet.
fn soundex(word: &str) -> String {
    let digit = |c: char| match c {
        'B' | 'F' | 'P' | 'V' => Some('1'),
        'C' | 'G' | 'J' | 'K' | 'Q' | 'S' | 'X' | 'Z' => Some('2'),
        'D' | 'T' => Some('3'),
        'L' => Some('4'),
        'M' | 'N' => Some('5'),
        'R' => Some('6'),
        _ => None,
    };
    let mut letters = word
        .chars()
        .filter(char::is_ascii_alphabetic)
        .map(|c| c.to_ascii_uppercase());
    let Some(first) = letters.next() else {
        return String::new();
    };
    let mut code = String::from(first);
    let mut last = digit(first);
    for letter in letters {
        let own = digit(letter);
        if own.is_some() && own != last && code.len() < 4 {
            code.extend(own);
        }
        // H and W do not part letters that sound alike, as vowels do.
        if !matches!(letter, 'H' | 'W') {
            last = own;
        }
    }
    format!("{code:0<4}")
}
