//! Feature columns read chunk by chunk, as numbers and codes.

use datafusion::arrow::array::ArrayRef;

use super::Encoder;
use crate::error::{Error, Result, list};
use crate::features::lists::{ListReader, OneHotReader};
use crate::features::time_parts::{TimePart, parts_of};
use crate::features::values::{CHUNK, CategoryReader, NULL_SECONDS, NumberReader};
use crate::models::FeatureKind;

impl Encoder {
    /// Reads feature columns chunk by chunk.
    ///
    /// # Errors
    /// A column that is missing or of another kind than in training.
    pub(crate) fn reader(&self, columns: &[ArrayRef]) -> Result<Reader<'_>> {
        if columns.len() != self.features.len() {
            return Err(Error::request(format!(
                "the model takes {} features ({}), not {}",
                self.features.len(),
                list(self.features.iter().map(|f| &f.name), 20),
                columns.len()
            )));
        }
        let number = |source: usize| NumberReader::new(&columns[source], &self.features[source]);
        let lists = self
            .lists
            .iter()
            .map(|l| ListReader::new(&columns[l.source], &self.features[l.source], l))
            .collect::<Result<Vec<_>>>()?;
        let mut numbers = vec![];
        for column in &self.numbers {
            numbers.push(match column.element {
                None => NumberSource::Column(number(column.source)?),
                // Elements of a list stand in a row.
                Some(_) => match numbers.last() {
                    Some(NumberSource::Element { list, at }) if self.lists[*list].source == column.source => {
                        NumberSource::Element {
                            list: *list,
                            at: at + 1,
                        }
                    }
                    _ => NumberSource::Element {
                        list: self.lists.iter().position(|l| l.source == column.source).unwrap_or(0),
                        at: 0,
                    },
                },
            });
        }
        let mut groups: Vec<CodeGroup> = vec![];
        for (index, code) in self.codes.iter().enumerate() {
            match groups.last_mut() {
                Some(CodeGroup::Parts { codes, source, .. }) if code.part.is_some() && *source == code.source => {
                    codes.end = index + 1;
                }
                _ if code.part.is_some() => groups.push(CodeGroup::Parts {
                    codes: index..index + 1,
                    source: code.source,
                    reader: number(code.source)?,
                }),
                _ if self.features[code.source].kind == FeatureKind::Sparse => groups.push(CodeGroup::OneHot {
                    index,
                    reader: OneHotReader::new(&columns[code.source], &self.features[code.source])?,
                }),
                _ => groups.push(CodeGroup::Category {
                    index,
                    reader: CategoryReader::new(&columns[code.source], &self.features[code.source])?,
                }),
            }
        }
        Ok(Reader {
            encoder: self,
            numbers,
            lists,
            groups,
        })
    }
}

/// Code columns that are read together.
#[derive(Debug)]
enum CodeGroup {
    /// A column of categories.
    Category { index: usize, reader: CategoryReader },
    /// A column of lists of one index.
    OneHot { index: usize, reader: OneHotReader },
    /// The parts of a timestamp.
    Parts {
        codes: std::ops::Range<usize>,
        source: usize,
        reader: NumberReader,
    },
}

/// Feature columns, read chunk by chunk of at most [`CHUNK`] rows.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    encoder: &'a Encoder,
    numbers: Vec<NumberSource>,
    lists: Vec<ListReader<'a>>,
    groups: Vec<CodeGroup>,
}

/// Where a number comes from.
#[derive(Debug)]
enum NumberSource {
    Column(NumberReader),
    /// One of the elements of one of the lists.
    Element {
        list: usize,
        at: usize,
    },
}

impl Reader<'_> {
    /// Rows `start..start + out.len()` of number `j`, as they are: neither shifted nor scaled, NaN where missing.
    pub(crate) fn numbers(&mut self, j: usize, start: usize, out: &mut [f64]) {
        match &self.numbers[j] {
            NumberSource::Column(reader) => reader.read(start, out),
            NumberSource::Element { list, at } => self.lists[*list].read(*at, start, out),
        }
    }

    /// Gives `each` the codes of rows `start..start + len` (at most [`CHUNK`]), code column by code column.
    pub(crate) fn codes(&mut self, start: usize, len: usize, mut each: impl FnMut(usize, &[u32])) {
        let lookups = &self.encoder.lookups;
        let mut buffer = [0u32; CHUNK];
        for group in &mut self.groups {
            match group {
                CodeGroup::Category { index, reader } => {
                    let lookup = &lookups[*index];
                    reader.read(start, &mut buffer[..len], |category| lookup.code(category));
                    each(*index, &buffer[..len]);
                }
                CodeGroup::OneHot { index, reader } => {
                    reader.read(start, &mut buffer[..len], &lookups[*index]);
                    each(*index, &buffer[..len]);
                }
                CodeGroup::Parts { codes, reader, .. } => {
                    let mut seconds = [0i64; CHUNK];
                    let mut parts = [[0i64; 7]; CHUNK];
                    reader.read_seconds(start, &mut seconds[..len]);
                    for (parts, second) in parts.iter_mut().zip(&seconds[..len]) {
                        *parts = if *second == NULL_SECONDS {
                            [0; 7]
                        } else {
                            parts_of(*second)
                        };
                    }
                    for index in codes.clone() {
                        let (column, lookup) = (&self.encoder.codes[index], &lookups[index]);
                        let part = column.part.unwrap_or(TimePart::Year);
                        for ((code, parts), second) in buffer.iter_mut().zip(&parts[..len]).zip(&seconds[..len]) {
                            *code = if *second == NULL_SECONDS {
                                lookup.null
                            } else {
                                lookup.of_part(part, parts[part.index()])
                            };
                        }
                        each(index, &buffer[..len]);
                    }
                }
            }
        }
    }
}
