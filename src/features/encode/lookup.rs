//! From a category to its code.

use hashbrown::HashMap;

use crate::features::time_parts::{TimePart, parse_iso_date};
use crate::features::values::Category;

/// From a category to its code.
#[derive(Debug, Clone)]
pub(crate) struct Lookup {
    pub(crate) null: u32,
    pub(crate) unseen: u32,
    texts: HashMap<Box<str>, u32>,
    /// Days, years, and the indices of encoded categories.
    integers: HashMap<i64, u32>,
    bools: [u32; 2],
    /// Parts of a timestamp: codes by value.
    small: [u32; 64],
}

/// What categories stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Text, booleans or dates.
    Value,
    /// Values of this part of a timestamp.
    Part(TimePart),
    /// Whole numbers.
    Index,
}

impl Lookup {
    /// Of categories whose codes are their places; `null` and `unseen` are those of NULL and of what is none of them.
    pub(crate) fn new<'a>(
        categories: impl IntoIterator<Item = &'a str>,
        meaning: Meaning,
        null: u32,
        unseen: u32,
    ) -> Self {
        let mut lookup = Self {
            null,
            unseen,
            texts: HashMap::new(),
            integers: HashMap::new(),
            bools: [unseen; 2],
            small: [unseen; 64],
        };
        for (category, code) in categories.into_iter().zip(0..) {
            if meaning != Meaning::Value {
                match category.parse::<i64>() {
                    Ok(value) if matches!(meaning, Meaning::Index | Meaning::Part(TimePart::Year)) => {
                        lookup.integers.insert(value, code);
                    }
                    Ok(value @ 0..64) => lookup.small[value as usize] = code,
                    _ => {}
                }
                continue;
            }
            match category {
                "false" => lookup.bools[0] = code,
                "true" => lookup.bools[1] = code,
                text => {
                    if let Some(day) = parse_iso_date(text) {
                        lookup.integers.insert(day, code);
                    }
                }
            }
            lookup.texts.insert(category.into(), code);
        }
        lookup
    }

    /// The code of a text, a boolean or a date.
    pub(crate) fn code(&self, category: Category<'_>) -> u32 {
        match category {
            Category::Null => self.null,
            Category::Text(text) => self.texts.get(text).copied().unwrap_or(self.unseen),
            Category::Bool(value) => self.bools[usize::from(value)],
            Category::Day(day) => self.of_index(day),
        }
    }

    /// The code of a value of a part of a timestamp.
    pub(crate) fn of_part(&self, part: TimePart, value: i64) -> u32 {
        match part {
            TimePart::Year => self.of_index(value),
            _ => self.small[value as usize & 63],
        }
    }

    /// The code of a whole number.
    pub(crate) fn of_index(&self, index: i64) -> u32 {
        self.integers.get(&index).copied().unwrap_or(self.unseen)
    }
}
