//! An encoder as tables of an artefact.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, UInt32Array, new_null_array,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Schema, UInt32Type};

use super::{CodeColumn, Encoder, NumberColumn};
use crate::error::Result;
use crate::features::time_parts::TimePart;
use crate::models::Artefact;

impl Encoder {
    /// The tables `numbers` and `categories` that [`Encoder::from_artefact`] reads back.
    ///
    /// # Errors
    /// Arrow refuses.
    pub fn to_tables(&self) -> Result<Vec<(String, RecordBatch)>> {
        let numbers = RecordBatch::try_new(
            Arc::new(Schema::new(vec![
                Field::new("feature", DataType::Utf8, false),
                Field::new("source", DataType::UInt32, false),
                Field::new("mean", DataType::Float64, false),
                Field::new("scale", DataType::Float64, false),
                Field::new("shift", DataType::Float64, false),
                Field::new("element", DataType::Utf8, true),
            ])),
            vec![
                Arc::new(StringArray::from_iter_values(self.numbers.iter().map(|n| &n.name))),
                Arc::new(UInt32Array::from_iter_values(
                    self.numbers.iter().map(|n| n.source as u32),
                )),
                Arc::new(Float64Array::from_iter_values(self.numbers.iter().map(|n| n.mean))),
                Arc::new(Float64Array::from_iter_values(self.numbers.iter().map(|n| n.scale))),
                Arc::new(Float64Array::from_iter_values(self.numbers.iter().map(|n| n.shift))),
                Arc::new(self.numbers.iter().map(|n| n.element.as_ref()).collect::<StringArray>()),
            ],
        )?;
        let all: Vec<(&CodeColumn, u32, u32)> = self
            .codes
            .iter()
            .zip(0u32..)
            .flat_map(|(c, j)| (0..c.level_count()).map(move |code| (c, j, code)))
            .collect();
        let codes = || all.iter().copied();
        let meaning = |column: &CodeColumn, code: u32| match code {
            c if Some(c) == column.null_code => "null",
            c if Some(c) == column.other_code => "other",
            _ => "category",
        };
        let categories = RecordBatch::try_new(
            Arc::new(Schema::new(vec![
                Field::new("position", DataType::UInt32, false),
                Field::new("feature", DataType::Utf8, false),
                Field::new("source", DataType::UInt32, false),
                Field::new("part", DataType::Utf8, true),
                Field::new("code", DataType::UInt32, false),
                Field::new("meaning", DataType::Utf8, false),
                Field::new("category", DataType::Utf8, true),
            ])),
            vec![
                Arc::new(UInt32Array::from_iter_values(codes().map(|(_, j, _)| j))),
                Arc::new(StringArray::from_iter_values(codes().map(|(c, _, _)| &c.name))),
                Arc::new(UInt32Array::from_iter_values(codes().map(|(c, _, _)| c.source as u32))),
                Arc::new(
                    codes()
                        .map(|(c, _, _)| c.part.map(TimePart::prefix))
                        .collect::<StringArray>(),
                ),
                Arc::new(UInt32Array::from_iter_values(codes().map(|(_, _, code)| code))),
                Arc::new(StringArray::from_iter_values(
                    codes().map(|(c, _, code)| meaning(c, code)),
                )),
                Arc::new(
                    codes()
                        .map(|(c, _, code)| c.categories.get(code as usize))
                        .collect::<StringArray>(),
                ),
            ],
        )?;
        Ok(vec![("numbers".into(), numbers), ("categories".into(), categories)])
    }

    /// The encoder that [`Encoder::to_tables`] wrote.
    ///
    /// # Errors
    /// The tables are missing or do not fit each other or the features.
    pub fn from_artefact(artefact: &Artefact) -> Result<Encoder> {
        let table = artefact.table("numbers")?;
        let text = |name: &str| table_column(artefact, table, name, &DataType::Utf8);
        let double = |name: &str| table_column(artefact, table, name, &DataType::Float64);
        let (name, source) = (
            text("feature")?,
            table_column(artefact, table, "source", &DataType::UInt32)?,
        );
        let (mean, scale, shift) = (double("mean")?, double("scale")?, double("shift")?);
        let (name, source) = (name.as_string::<i32>(), source.as_primitive::<UInt32Type>());
        let [mean, scale, shift] = [&mean, &scale, &shift].map(|a| a.as_primitive::<Float64Type>());
        // Models that were stored before there were lists have no such column.
        let element = match table.column_by_name("element") {
            Some(_) => text("element")?,
            None => new_null_array(&DataType::Utf8, table.num_rows()),
        };
        let element = element.as_string::<i32>();
        let numbers: Vec<NumberColumn> = (0..table.num_rows())
            .map(|i| NumberColumn {
                source: source.value(i) as usize,
                name: name.value(i).to_string(),
                mean: mean.value(i),
                scale: scale.value(i),
                shift: shift.value(i),
                element: element.is_valid(i).then(|| element.value(i).to_string()),
            })
            .collect();

        let table = artefact.table("categories")?;
        let text = |name: &str| table_column(artefact, table, name, &DataType::Utf8);
        let integer = |name: &str| table_column(artefact, table, name, &DataType::UInt32);
        let (position, source, code) = (integer("position")?, integer("source")?, integer("code")?);
        let [position, source, code] = [&position, &source, &code].map(|a| a.as_primitive::<UInt32Type>());
        let (name, part, meaning, category) = (text("feature")?, text("part")?, text("meaning")?, text("category")?);
        let [name, part, meaning, category] = [&name, &part, &meaning, &category].map(|a| a.as_string::<i32>());
        let mut codes: Vec<CodeColumn> = vec![];
        for i in 0..table.num_rows() {
            if position.value(i) as usize == codes.len() {
                codes.push(CodeColumn {
                    source: source.value(i) as usize,
                    name: name.value(i).to_string(),
                    categories: vec![],
                    null_code: None,
                    other_code: None,
                    part: if part.is_null(i) {
                        None
                    } else {
                        TimePart::of_prefix(part.value(i))
                    },
                });
            }
            let in_order = position.value(i) as usize + 1 == codes.len();
            let Some(column) = codes
                .last_mut()
                .filter(|c| in_order && c.level_count() == code.value(i))
            else {
                return Err(artefact.corrupt("its categories are out of order"));
            };
            match meaning.value(i) {
                "null" => column.null_code = Some(code.value(i)),
                "other" => column.other_code = Some(code.value(i)),
                _ => column.categories.push(category.value(i).to_string()),
            }
        }

        let sources = numbers.iter().map(|n| n.source).chain(codes.iter().map(|c| c.source));
        if sources.into_iter().any(|s| s >= artefact.features.len()) || numbers.is_empty() && codes.is_empty() {
            return Err(artefact.corrupt("its tables do not fit its features"));
        }
        Ok(Self::new(artefact.features.clone(), numbers, codes))
    }
}

/// Column `name` of a stored table as `data_type`, without NULLs where its values are read.
///
/// # Errors
/// There is none, or it is of another type.
pub(crate) fn table_column(
    artefact: &Artefact,
    table: &RecordBatch,
    name: &str,
    data_type: &DataType,
) -> Result<ArrayRef> {
    let column = table
        .column_by_name(name)
        .ok_or_else(|| artefact.corrupt(format!("a column '{name}' is missing")))?;
    cast(column, data_type).map_err(|e| {
        artefact
            .corrupt(format!("its column '{name}' cannot be read"))
            .with_source(e)
    })
}
