//! Results as text: tables for people, the other formats for programs, batch by batch as they come.

use std::io::Write;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use datafusion::arrow::csv;
use datafusion::arrow::datatypes::{DataType, Field, Float16Type, Float32Type, Float64Type, Schema, SchemaRef};
use datafusion::arrow::json;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::Result;

use super::arguments::Format;

/// How many rows of Markdown are looked at for the columns' widths.
const ROWS_FOR_WIDTHS: usize = 1000;

/// What the table format may take up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// How many rows are shown; 0 means all.
    pub(super) max_rows: usize,
    /// The terminal's width in columns, if there is one.
    pub(super) width: Option<usize>,
}

/// Takes a result's batches and prints them.
pub(super) trait Sink {
    /// Takes the next rows.
    ///
    /// # Errors
    /// They cannot be written.
    fn write(&mut self, batch: &RecordBatch) -> Result<()>;

    /// Prints what is left.
    ///
    /// # Errors
    /// It cannot be written.
    fn finish(&mut self) -> Result<()>;
}

/// The sink of a format for results of this schema.
pub(super) fn sink<'a>(
    format: Format,
    schema: &SchemaRef,
    limits: Limits,
    out: impl Write + 'a,
) -> Result<Box<dyn Sink + 'a>> {
    Ok(match format {
        Format::Table => Box::new(Table {
            grid: Grid::new(schema, "NULL"),
            limits,
            more: 0,
            out,
        }),
        Format::Markdown => Box::new(Markdown {
            grid: Grid::new(schema, "NULL"),
            widths: None,
            out,
        }),
        Format::Csv => {
            let mut writer = csv::WriterBuilder::new().with_header(true).build(out);
            // So that a result without rows still has its header.
            writer.write(&flat(&RecordBatch::new_empty(Arc::clone(schema)))?)?;
            Box::new(Csv { writer })
        }
        Format::Json => Box::new(Json {
            writer: json_writer().build(out),
        }),
        Format::Ndjson => Box::new(Ndjson {
            writer: json_writer().build(out),
        }),
    })
}

fn json_writer() -> json::WriterBuilder {
    json::WriterBuilder::new().with_explicit_nulls(true)
}

struct Csv<W: Write> {
    writer: csv::Writer<W>,
}

impl<W: Write> Sink for Csv<W> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        Ok(self.writer.write(&flat(batch)?)?)
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

struct Json<W: Write> {
    writer: json::Writer<W, json::writer::JsonArray>,
}

impl<W: Write> Sink for Json<W> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        Ok(self.writer.write(batch)?)
    }

    fn finish(&mut self) -> Result<()> {
        self.writer.finish()?;
        self.writer.get_mut().write_all(b"\n")?;
        Ok(())
    }
}

struct Ndjson<W: Write> {
    writer: json::Writer<W, json::writer::LineDelimited>,
}

impl<W: Write> Sink for Ndjson<W> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        Ok(self.writer.write(batch)?)
    }

    fn finish(&mut self) -> Result<()> {
        Ok(self.writer.finish()?)
    }
}

/// The batch with its lists, structs and maps as JSON text: CSV has no form for them.
fn flat(batch: &RecordBatch) -> Result<RecordBatch> {
    if !batch.schema().fields().iter().any(|f| f.data_type().is_nested()) {
        return Ok(batch.clone());
    }
    let mut fields = vec![];
    let mut columns: Vec<ArrayRef> = vec![];
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if field.data_type().is_nested() {
            fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
            columns.push(Arc::new(as_json(column)?));
        } else {
            fields.push(Arc::clone(field));
            columns.push(Arc::clone(column));
        }
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Each value of a column as JSON text; NULL where it is NULL.
fn as_json(column: &ArrayRef) -> Result<StringArray> {
    let schema = Arc::new(Schema::new(vec![Field::new("v", column.data_type().clone(), true)]));
    let mut writer: json::LineDelimitedWriter<Vec<u8>> = json_writer().build(vec![]);
    writer.write(&RecordBatch::try_new(schema, vec![Arc::clone(column)])?)?;
    writer.finish()?;
    let lines = String::from_utf8_lossy(writer.get_ref()).into_owned();
    let value = |line: &str| {
        line.strip_prefix("{\"v\":")
            .and_then(|l| l.strip_suffix('}'))
            .map(str::to_string)
    };
    Ok(lines
        .lines()
        .enumerate()
        .map(|(row, line)| if column.is_null(row) { None } else { value(line) })
        .collect())
}

/// Cells as text.
struct Grid {
    names: Vec<String>,
    /// Numbers stand to the right.
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
    null: &'static str,
}

impl Grid {
    fn new(schema: &SchemaRef, null: &'static str) -> Self {
        Self {
            names: schema.fields().iter().map(|f| f.name().clone()).collect(),
            right: schema.fields().iter().map(|f| f.data_type().is_numeric()).collect(),
            rows: vec![],
            null,
        }
    }

    fn add(&mut self, batch: &RecordBatch, row_count: usize) -> Result<()> {
        let first = self.rows.len();
        self.rows.resize_with(first + row_count, Vec::new);
        for column in batch.columns() {
            let cells = cells(column, self.null, row_count)?;
            for (row, cell) in self.rows[first..].iter_mut().zip(cells) {
                row.push(cell);
            }
        }
        Ok(())
    }

    fn widths(&self, cell_width: impl Fn(&str) -> usize) -> Vec<usize> {
        let mut widths: Vec<usize> = self.names.iter().map(|n| cell_width(n)).collect();
        for row in &self.rows {
            for (w, cell) in widths.iter_mut().zip(row) {
                *w = (*w).max(cell_width(cell));
            }
        }
        widths
    }
}

/// The first `row_count` values of a column, for people to read.
fn cells(column: &ArrayRef, null: &str, row_count: usize) -> Result<Vec<String>> {
    let float = |row: usize| match column.data_type() {
        DataType::Float16 => f64::from(column.as_primitive::<Float16Type>().value(row)),
        DataType::Float32 => f64::from(column.as_primitive::<Float32Type>().value(row)),
        _ => column.as_primitive::<Float64Type>().value(row),
    };
    if column.data_type().is_floating() {
        return Ok((0..row_count)
            .map(|i| {
                if column.is_null(i) {
                    null.into()
                } else {
                    number(float(i))
                }
            })
            .collect());
    }
    let options = FormatOptions::new()
        .with_null(null)
        .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
        .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f%:z"));
    let formatter = ArrayFormatter::try_new(column.as_ref(), &options)?;
    Ok((0..row_count)
        .map(|row| printable(&formatter.value(row).to_string()))
        .collect())
}

/// Without the control characters that would upset a terminal; lines stay lines.
fn printable(text: &str) -> String {
    if text.chars().all(|c| !c.is_control()) {
        return text.to_string();
    }
    text.chars()
        .filter(|c| *c != '\r')
        .flat_map(|c| match c {
            '\n' => vec!['\n'],
            '\t' => vec![' '; 4],
            c if c.is_control() => vec!['\u{fffd}'],
            c => vec![c],
        })
        .collect()
}

/// A number with six significant digits, and two decimals at least, as far as it has them.
pub(super) fn number(x: f64) -> String {
    if !x.is_finite() {
        return if x.is_nan() {
            "NaN".into()
        } else if x > 0.0 {
            "inf".into()
        } else {
            "-inf".into()
        };
    }
    let magnitude = x.abs();
    if magnitude != 0.0 && !(1e-5..1e15).contains(&magnitude) {
        let text = format!("{x:.5e}");
        return match text.split_once('e') {
            Some((digits, exponent)) if digits.contains('.') => {
                format!("{}e{exponent}", digits.trim_end_matches('0').trim_end_matches('.'))
            }
            _ => text,
        };
    }
    let exponent = if magnitude == 0.0 {
        0
    } else {
        magnitude.log10().floor() as i32
    };
    let decimals = (5 - exponent).max(2) as usize;
    let text = format!("{x:.decimals$}");
    let text = text.trim_end_matches('0');
    match text.strip_suffix('.') {
        Some("-0") => "0.0".into(),
        Some(whole) => format!("{whole}.0"),
        None => text.to_string(),
    }
}

struct Table<W: Write> {
    grid: Grid,
    limits: Limits,
    /// Rows beyond those that are shown.
    more: usize,
    out: W,
}

impl<W: Write> Sink for Table<W> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let room = match self.limits.max_rows {
            0 => usize::MAX,
            max => max.saturating_sub(self.grid.rows.len()),
        };
        let shown = batch.num_rows().min(room);
        self.more += batch.num_rows() - shown;
        self.grid.add(batch, shown)
    }

    fn finish(&mut self) -> Result<()> {
        let widest_line = |cell: &str| cell.lines().map(width).max().unwrap_or(0);
        let mut widths = self.grid.widths(widest_line);
        // A plan is read as a whole; other long texts are cut to what the terminal can show.
        let is_plan = self.grid.names.iter().any(|n| n == "plan");
        let mut cut = false;
        if let Some(available) = self.limits.width.filter(|_| !is_plan) {
            cut = shrink(&mut widths, &self.grid.right, available);
        }
        let rule = |left: &str, middle: &str, right: &str| {
            let parts: Vec<String> = widths.iter().map(|w| "─".repeat(w + 2)).collect();
            format!("{left}{}{right}\n", parts.join(middle))
        };
        let out = &mut self.out;
        out.write_all(rule("┌", "┬", "┐").as_bytes())?;
        write_row(out, &self.grid.names, &widths, &self.grid.right)?;
        out.write_all(rule("├", "┼", "┤").as_bytes())?;
        for row in &self.grid.rows {
            write_row(out, row, &widths, &self.grid.right)?;
        }
        out.write_all(rule("└", "┴", "┘").as_bytes())?;
        if self.more > 0 {
            writeln!(
                out,
                "… and {} more rows (--max-rows 0 shows all)",
                thousands(self.more as u64)
            )?;
        }
        if cut {
            writeln!(
                out,
                "… marks text that was cut to the terminal's width (--format csv shows all)"
            )?;
        }
        Ok(())
    }
}

/// One row of a table: as many lines as its longest cell has.
fn write_row(out: &mut impl Write, cells: &[String], widths: &[usize], right: &[bool]) -> Result<()> {
    let lines: Vec<Vec<&str>> = cells.iter().map(|c| c.lines().collect()).collect();
    let height = lines.iter().map(Vec::len).max().unwrap_or(0).max(1);
    for i in 0..height {
        let mut line = String::from("│");
        for ((cell, w), right) in lines.iter().zip(widths).zip(right) {
            let text = fit(cell.get(i).copied().unwrap_or(""), *w);
            let padding = " ".repeat(w.saturating_sub(width(&text)));
            let (before, after) = if *right {
                (padding.as_str(), "")
            } else {
                ("", padding.as_str())
            };
            line.push_str(&format!(" {before}{text}{after} │"));
        }
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Narrows the widest text columns until the table fits, or cannot be narrowed any more; whether any was.
fn shrink(widths: &mut [usize], right: &[bool], available: usize) -> bool {
    const NARROWEST: usize = 12;
    let mut total: usize = widths.iter().map(|w| w + 3).sum::<usize>() + 1;
    let mut cut = false;
    while total > available {
        let widest = (0..widths.len())
            .filter(|i| !right[*i] && widths[*i] > NARROWEST)
            .max_by_key(|i| widths[*i]);
        let Some(i) = widest else { break };
        widths[i] -= 1;
        total -= 1;
        cut = true;
    }
    cut
}

/// The text, cut with an ellipsis if it is wider than `max`.
fn fit(text: &str, max: usize) -> String {
    if width(text) <= max {
        return text.to_string();
    }
    let mut cut = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += char_width(c);
        if used >= max {
            break;
        }
        cut.push(c);
    }
    cut.push('…');
    cut
}

struct Markdown<W: Write> {
    grid: Grid,
    /// Known once the header is written.
    widths: Option<Vec<usize>>,
    out: W,
}

impl<W: Write> Markdown<W> {
    fn flush(&mut self) -> Result<()> {
        let right = &self.grid.right;
        let line = |cells: &[String], widths: &[usize]| {
            let mut line = String::from("|");
            for ((cell, w), right) in cells.iter().zip(widths).zip(right) {
                let padding = " ".repeat(w.saturating_sub(width(cell)));
                let (before, after) = if *right {
                    (padding.as_str(), "")
                } else {
                    ("", padding.as_str())
                };
                line.push_str(&format!(" {before}{cell}{after} |"));
            }
            line.push('\n');
            line
        };
        let widths = match &self.widths {
            Some(widths) => widths.clone(),
            None => {
                for name in &mut self.grid.names {
                    *name = escaped(name);
                }
                let widths: Vec<usize> = self.grid.widths(width).into_iter().map(|w| w.max(3)).collect();
                self.out.write_all(line(&self.grid.names, &widths).as_bytes())?;
                let rules: Vec<String> = widths
                    .iter()
                    .zip(right)
                    .map(|(w, right)| {
                        if *right {
                            format!("{}:", "-".repeat(w - 1))
                        } else {
                            "-".repeat(*w)
                        }
                    })
                    .collect();
                self.out.write_all(line(&rules, &widths).as_bytes())?;
                widths
            }
        };
        for row in &self.grid.rows {
            self.out.write_all(line(row, &widths).as_bytes())?;
        }
        self.grid.rows.clear();
        self.widths = Some(widths);
        Ok(())
    }
}

/// A cell as Markdown can hold it.
fn escaped(cell: &str) -> String {
    cell.replace('\\', "\\\\").replace('|', "\\|").replace('\n', "<br>")
}

impl<W: Write> Sink for Markdown<W> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let first = self.grid.rows.len();
        self.grid.add(batch, batch.num_rows())?;
        for row in &mut self.grid.rows[first..] {
            for cell in row {
                *cell = escaped(cell);
            }
        }
        if self.widths.is_some() || self.grid.rows.len() >= ROWS_FOR_WIDTHS {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn finish(&mut self) -> Result<()> {
        self.flush()
    }
}

/// How many columns of a terminal a text takes.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// How many columns of a terminal a character takes: two for East Asian scripts and emoji, none for what combines with
/// the character before it.
pub(super) fn char_width(c: char) -> usize {
    match c as u32 {
        0x0300..=0x036F | 0x200B..=0x200F | 0x20D0..=0x20FF | 0xFE00..=0xFE0F | 0xFE20..=0xFE2F => 0,
        0x1100..=0x115F
        | 0x2E80..=0x303E
        | 0x3041..=0x33FF
        | 0x3400..=0x4DBF
        | 0x4E00..=0x9FFF
        | 0xA000..=0xA4CF
        | 0xAC00..=0xD7A3
        | 0xF900..=0xFAFF
        | 0xFE30..=0xFE6F
        | 0xFF00..=0xFF60
        | 0xFFE0..=0xFFE6
        | 0x1F300..=0x1F64F
        | 0x1F680..=0x1F6FF
        | 0x1F900..=0x1F9FF
        | 0x20000..=0x3FFFD => 2,
        _ => 1,
    }
}

/// `1,234,567`.
pub(super) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{Float64Array, Int64Array, ListArray};
    use datafusion::arrow::datatypes::Int64Type;

    fn batch() -> RecordBatch {
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1), None]), None]);
        RecordBatch::try_from_iter_with_nullable(vec![
            ("n", Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef, true),
            (
                "x",
                Arc::new(Float64Array::from(vec![Some(0.1 + 0.2), Some(2.0)])),
                true,
            ),
            (
                "name",
                Arc::new(StringArray::from(vec![Some("a|b"), Some("two\nlines")])),
                true,
            ),
            ("items", Arc::new(list), true),
        ])
        .expect("a batch")
    }

    fn printed(format: Format, limits: Limits, batches: &[RecordBatch]) -> String {
        let mut out = vec![];
        {
            let mut sink = sink(format, &batch().schema(), limits, &mut out).expect("a sink");
            for b in batches {
                sink.write(b).expect("written");
            }
            sink.finish().expect("finished");
        }
        String::from_utf8(out).expect("text")
    }

    const LIMITS: Limits = Limits {
        max_rows: 100,
        width: None,
    };

    #[test]
    fn csv_is_exact_and_writes_lists_as_json() {
        assert_eq!(
            printed(Format::Csv, LIMITS, &[batch()]),
            "n,x,name,items\n1,0.30000000000000004,a|b,\"[1,null]\"\n,2.0,\"two\nlines\",\n"
        );
        assert_eq!(printed(Format::Csv, LIMITS, &[]), "n,x,name,items\n");
    }

    #[test]
    fn json_and_ndjson() {
        assert_eq!(
            printed(Format::Ndjson, LIMITS, &[batch()]),
            "{\"n\":1,\"x\":0.30000000000000004,\"name\":\"a|b\",\"items\":[1,null]}\n\
             {\"n\":null,\"x\":2.0,\"name\":\"two\\nlines\",\"items\":null}\n"
        );
        assert_eq!(printed(Format::Json, LIMITS, &[]), "[]\n");
        let json = printed(Format::Json, LIMITS, &[batch(), batch()]);
        let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(value.as_array().map(Vec::len), Some(4));
    }

    #[test]
    fn tables_align_and_say_what_they_left_out() {
        assert_eq!(
            printed(
                Format::Table,
                Limits {
                    max_rows: 2,
                    width: None
                },
                &[batch(), batch()]
            ),
            "\
┌──────┬─────┬───────┬───────────┐
│    n │   x │ name  │ items     │
├──────┼─────┼───────┼───────────┤
│    1 │ 0.3 │ a|b   │ [1, NULL] │
│ NULL │ 2.0 │ two   │ NULL      │
│      │     │ lines │           │
└──────┴─────┴───────┴───────────┘
… and 2 more rows (--max-rows 0 shows all)
"
        );
    }

    #[test]
    fn markdown_escapes() {
        let text = printed(Format::Markdown, LIMITS, &[batch()]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "|    n |   x | name         | items     |");
        assert_eq!(lines[1], "| ---: | --: | ------------ | --------- |");
        assert_eq!(lines[2], "|    1 | 0.3 | a\\|b         | [1, NULL] |");
        assert_eq!(lines[3], "| NULL | 2.0 | two<br>lines | NULL      |");
    }

    #[test]
    fn long_texts_are_cut_to_the_terminal() {
        let long = RecordBatch::try_from_iter(vec![(
            "name",
            Arc::new(StringArray::from(vec!["abcdefghijklmnopqrstuvwxyz"])) as ArrayRef,
        )])
        .expect("a batch");
        let mut out = vec![];
        {
            let limits = Limits {
                max_rows: 0,
                width: Some(24),
            };
            let mut sink = sink(Format::Table, &long.schema(), limits, &mut out).expect("a sink");
            sink.write(&long).expect("written");
            sink.finish().expect("finished");
        }
        let text = String::from_utf8(out).expect("text");
        assert!(text.contains("│ abcdefghijklmnopqrs… │"), "{text}");
    }

    #[test]
    fn numbers() {
        let cases = [
            (0.0, "0.0"),
            (-0.0, "0.0"),
            (3.0, "3.0"),
            (0.1 + 0.2, "0.3"),
            (1.0 / 3.0, "0.333333"),
            (1234.5678, "1234.57"),
            (1_234_567.891, "1234567.89"),
            (0.000123456789, "0.000123457"),
            (1.23456789e-7, "1.23457e-7"),
            (1e20, "1e20"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (x, text) in cases {
            assert_eq!(number(x), text);
        }
    }

    #[test]
    fn widths() {
        assert_eq!(width("abc"), 3);
        assert_eq!(width("日本"), 4);
        assert_eq!(width("e\u{301}"), 1);
        assert_eq!(thousands(1_234_567), "1,234,567");
    }
}
