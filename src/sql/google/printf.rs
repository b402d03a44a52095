//! `FORMAT('%s of %d', …)`.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::Result as DataFusionResult;

use super::function::{BASE, Call, Kind, Spec, returns_text};
use super::print::general;
use super::text::printed;

pub(super) const ALL: &[Spec] = &[Spec {
    title: "FORMAT",
    name: "google_format",
    syntax: "FORMAT(format, value, …)",
    summary: "A text with values in it, by C's elements %d %i %u %o %x %X %e %E %f %F %g %G %s, and %t for any value as text, %T for it as a literal.",
    example: "SELECT FORMAT('%s has %d items, %.2f%% of all', 'Ann', 5, 12.5)",
    takes: &[Kind::Text, Kind::Any],
    repeats: true,
    returns: returns_text,
    eval: format,
    ..BASE
}];

/// The values of an argument, as the elements want them.
enum Values {
    Whole(Int64Array),
    Float(Float64Array),
    /// Texts, and what stands before their quotes as a literal.
    Text(StringArray, &'static str),
    /// Values whose text is their literal.
    Plain(StringArray),
}

impl Values {
    fn of(call: &Call<'_>, i: usize) -> DataFusionResult<Self> {
        let given = &call.arrays[i];
        Ok(match given.data_type() {
            t if t.is_integer() => Values::Whole(cast(given, &DataType::Int64)?.as_primitive::<Int64Type>().clone()),
            t if t.is_floating() => {
                Values::Float(cast(given, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
            }
            DataType::Date32 | DataType::Date64 => Values::Text(printed(call, i)?, "DATE "),
            DataType::Timestamp(..) => Values::Text(printed(call, i)?, "TIMESTAMP "),
            DataType::Time32(_) | DataType::Time64(_) => Values::Text(printed(call, i)?, "TIME "),
            t if t.is_string() => Values::Text(printed(call, i)?, ""),
            t if t.is_decimal() => {
                Values::Float(cast(given, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
            }
            _ => Values::Plain(printed(call, i)?),
        })
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Values::Whole(v) => v.is_null(row),
            Values::Float(v) => v.is_null(row),
            Values::Text(v, _) | Values::Plain(v) => v.is_null(row),
        }
    }
}

/// An element such as `%-08.3f`.
#[derive(Debug, Default)]
struct Element {
    left: bool,
    plus: bool,
    space: bool,
    sharp: bool,
    zeros: bool,
    grouped: bool,
    width: usize,
    precision: Option<usize>,
    letter: char,
}

/// So wide may one element be.
const MOST: i64 = 10_000;

fn format(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    let values: Vec<Values> = (1..call.len())
        .map(|i| Values::of(call, i))
        .collect::<DataFusionResult<_>>()?;
    let texts: StringArray = (0..call.rows)
        .map(|row| {
            if call.text(0).is_null(row) {
                Ok(None)
            } else {
                one(call, &values, row)
            }
        })
        .collect::<DataFusionResult<_>>()?;
    Ok(std::sync::Arc::new(texts))
}

fn one(call: &Call<'_>, values: &[Values], row: usize) -> DataFusionResult<Option<String>> {
    let pattern = call.text(0).value(row);
    let mut out = String::new();
    let mut rest = pattern;
    let mut values = values.iter();
    let mut next = || {
        values.next().ok_or_else(|| {
            call.wrong(format!(
                "'{pattern}' has more elements than there are values; add a value"
            ))
        })
    };
    while let Some(at) = rest.find('%') {
        out += &rest[..at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let mut element = Element::default();
        let mut chars = rest.chars().peekable();
        while let Some(flag) = chars.next_if(|c| "-+ #0'".contains(*c)) {
            match flag {
                '-' => element.left = true,
                '+' => element.plus = true,
                ' ' => element.space = true,
                '#' => element.sharp = true,
                '0' => element.zeros = true,
                _ => element.grouped = true,
            }
        }
        let mut is_null = false;
        let mut number = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| -> DataFusionResult<Option<i64>> {
            if chars.next_if_eq(&'*').is_some() {
                return match next()? {
                    Values::Whole(v) if v.is_valid(row) => Ok(Some(v.value(row))),
                    Values::Whole(_) => {
                        is_null = true;
                        Ok(None)
                    }
                    _ => Err(call.wrong(format!("the * in '{pattern}' takes a whole number"))),
                };
            }
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            Ok(if digits.is_empty() {
                None
            } else {
                Some(digits.parse().unwrap_or(i64::MAX))
            })
        };
        let width = number(&mut chars)?.unwrap_or(0);
        element.left |= width < 0;
        let precision = match chars.next_if_eq(&'.') {
            Some(_) => Some(number(&mut chars)?.unwrap_or(0)),
            None => None,
        };
        if width.saturating_abs().max(precision.unwrap_or(0)) > MOST {
            return Err(call.wrong(format!("'{pattern}' asks for more than {MOST} characters; use less")));
        }
        element.width = usize::try_from(width.unsigned_abs()).unwrap_or(0);
        element.precision = precision.and_then(|p| usize::try_from(p).ok());
        element.letter = chars.next().unwrap_or(' ');
        rest = chars.as_str_rest(rest);
        let value = next()?;
        if is_null || (value.is_null(row) && !matches!(element.letter, 't' | 'T')) {
            return Ok(None);
        }
        let text = element.print(value, row);
        out += &text.ok_or_else(|| {
            call.wrong(format!(
                "the element %{} in '{pattern}' does not fit its value; write %t for any value",
                element.letter
            ))
        })?;
    }
    if values.next().is_some() {
        return Err(call.wrong(format!("'{pattern}' has fewer elements than there are values; add %t")));
    }
    Ok(Some(out + rest))
}

/// What a peekable iterator has not given yet.
trait Rest {
    fn as_str_rest<'a>(&self, whole: &'a str) -> &'a str;
}

impl Rest for std::iter::Peekable<std::str::Chars<'_>> {
    fn as_str_rest<'a>(&self, whole: &'a str) -> &'a str {
        let left: usize = self.clone().map(char::len_utf8).sum();
        &whole[whole.len() - left..]
    }
}

impl Element {
    /// A value as this element prints it; none if it cannot.
    fn print(&self, value: &Values, row: usize) -> Option<String> {
        if value.is_null(row) {
            return Some(self.padded("", "NULL"));
        }
        match (self.letter, value) {
            ('d' | 'i' | 'u' | 'o' | 'x' | 'X', Values::Whole(v)) => {
                let number = v.value(row);
                let size = number.unsigned_abs();
                let digits = match (self.letter, self.sharp) {
                    ('o', false) => format!("{size:o}"),
                    ('o', true) => format!("0{size:o}"),
                    ('x', false) => format!("{size:x}"),
                    ('x', true) => format!("{size:#x}"),
                    ('X', false) => format!("{size:X}"),
                    ('X', true) => format!("0X{size:X}"),
                    _ => size.to_string(),
                };
                let digits = format!("{digits:0>width$}", width = self.precision.unwrap_or(1));
                Some(self.padded(self.sign(number < 0), &self.grouped(&digits)))
            }
            ('f' | 'F' | 'e' | 'E' | 'g' | 'G', Values::Float(_) | Values::Whole(_)) => {
                #[expect(clippy::cast_precision_loss)]
                let number = match value {
                    Values::Float(v) => v.value(row),
                    Values::Whole(v) => v.value(row) as f64,
                    _ => return None,
                };
                let (size, places) = (number.abs(), self.precision.unwrap_or(6));
                let digits = match self.letter {
                    _ if !size.is_finite() => general(size, 6),
                    'f' | 'F' => format!("{size:.places$}"),
                    'e' | 'E' => {
                        let text = format!("{size:.places$e}");
                        let (mantissa, exponent) = text.split_once('e')?;
                        let exponent: i32 = exponent.parse().ok()?;
                        format!(
                            "{mantissa}e{}{:02}",
                            if exponent < 0 { '-' } else { '+' },
                            exponent.abs()
                        )
                    }
                    _ => general(size, places),
                };
                let digits = if self.letter.is_uppercase() {
                    digits.to_uppercase()
                } else {
                    digits
                };
                Some(self.padded(
                    self.sign(number.is_sign_negative() && !number.is_nan()),
                    &self.grouped(&digits),
                ))
            }
            ('s', Values::Text(v, "")) => {
                let text: String = v
                    .value(row)
                    .chars()
                    .take(self.precision.unwrap_or(usize::MAX))
                    .collect();
                Some(self.padded("", &text))
            }
            ('t' | 'T', Values::Whole(v)) => Some(self.padded("", &v.value(row).to_string())),
            ('t' | 'T', Values::Float(v)) => {
                let text = super::print::float(v.value(row));
                let whole = text.chars().all(|c| c.is_ascii_digit() || c == '-');
                Some(self.padded("", &if whole { text + ".0" } else { text }))
            }
            ('t', Values::Text(v, _)) | ('t' | 'T', Values::Plain(v)) => Some(self.padded("", v.value(row))),
            ('T', Values::Text(v, before)) => {
                let text = v
                    .value(row)
                    .replace('\\', "\\\\")
                    .replace('"', "\\\"")
                    .replace('\n', "\\n");
                Some(self.padded("", &format!("{before}\"{text}\"")))
            }
            _ => None,
        }
    }

    fn sign(&self, negative: bool) -> &'static str {
        match (negative, self.plus, self.space) {
            (true, _, _) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        }
    }

    /// Digits in groups of three, if so asked.
    fn grouped(&self, digits: &str) -> String {
        let whole = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        if !self.grouped {
            return digits.to_string();
        }
        let mut out = String::new();
        for (i, digit) in digits[..whole].chars().enumerate() {
            if i > 0 && (whole - i) % 3 == 0 {
                out.push(',');
            }
            out.push(digit);
        }
        out + &digits[whole..]
    }

    fn padded(&self, sign: &str, text: &str) -> String {
        let missing = self.width.saturating_sub(sign.len() + text.chars().count());
        let numeric = !matches!(self.letter, 's' | 't' | 'T');
        match (self.left, self.zeros && numeric) {
            (true, _) => format!("{sign}{text}{}", " ".repeat(missing)),
            (_, true) => format!("{sign}{}{text}", "0".repeat(missing)),
            _ => format!("{}{sign}{text}", " ".repeat(missing)),
        }
    }
}
