//! What a feature function learned over the training rows: stored as JSON, ready to be applied.

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What a feature function learned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "learned", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Learned {
    /// No row had a value.
    Nothing,
    /// `(x - center) / scale`.
    Scale {
        /// What becomes 0.
        #[serde(with = "exact")]
        center: f64,
        /// What becomes 1 beyond the centre; never 0.
        #[serde(with = "exact")]
        scale: f64,
    },
    /// Where buckets begin, ascending: the first begins at −∞.
    Splits {
        /// The lower bounds of all buckets but the first.
        #[serde(with = "exact_list")]
        points: Vec<f64>,
    },
    /// A number that stands for NULL.
    Number {
        /// That number.
        #[serde(with = "exact")]
        value: f64,
    },
    /// A text that stands for NULL.
    Text {
        /// That text.
        value: String,
    },
    /// The categories of an encoder.
    Vocabulary(Vocabulary),
}

impl Learned {
    /// As JSON, numbers to the bit.
    ///
    /// # Errors
    /// Never in practice; JSON may refuse.
    pub fn to_json(&self) -> Result<serde_json::Value> {
        serde_json::to_value(self)
            .map_err(|e| Error::model(format!("what a feature function learned cannot be stored: {e}")))
    }

    /// From what [`Learned::to_json`] gave.
    ///
    /// # Errors
    /// The JSON is not of that form.
    pub fn from_json(value: &serde_json::Value) -> Result<Self> {
        Self::deserialize(value).map_err(|e| {
            Error::model(format!(
                "what a feature function learned cannot be read: {e}; train the model again"
            ))
        })
    }
}

/// The categories that an encoder knows, numbered from 1 in alphabetical (byte) order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Categories", into = "Categories")]
pub struct Vocabulary {
    indices: HashMap<Box<str>, i64>,
    dropped: i64,
}

/// A vocabulary as it is stored.
#[derive(Serialize, Deserialize)]
struct Categories {
    categories: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dropped: Option<String>,
}

impl TryFrom<Categories> for Vocabulary {
    type Error = String;

    fn try_from(stored: Categories) -> Result<Self, String> {
        if !stored.categories.is_sorted_by(|a, b| a < b) {
            return Err("the categories are not in order".into());
        }
        Ok(Self::new(stored.categories, stored.dropped.as_deref()))
    }
}

impl From<Vocabulary> for Categories {
    fn from(vocabulary: Vocabulary) -> Self {
        let dropped = vocabulary.dropped;
        let mut numbered: Vec<(i64, String)> = vocabulary
            .indices
            .into_iter()
            .map(|(text, i)| (i, text.into()))
            .collect();
        numbered.sort_unstable();
        let dropped = numbered
            .iter()
            .find(|(i, _)| *i == dropped)
            .map(|(_, text)| text.clone());
        Self {
            categories: numbered.into_iter().map(|(_, text)| text).collect(),
            dropped,
        }
    }
}

impl Vocabulary {
    /// A vocabulary of distinct categories; `dropped` is the one that dummy encoding leaves out.
    pub fn new(mut categories: Vec<String>, dropped: Option<&str>) -> Self {
        categories.sort_unstable();
        let indices: HashMap<Box<str>, i64> = categories.into_iter().map(String::into_boxed_str).zip(1..).collect();
        let dropped = dropped.and_then(|d| indices.get(d)).copied().unwrap_or(-1);
        Self { indices, dropped }
    }

    /// How many categories there are.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether no category came often enough.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// The category's number from 1; 0 for NULL and for one that is not known.
    pub fn index(&self, category: Option<&str>) -> i64 {
        category.and_then(|c| self.indices.get(c)).copied().unwrap_or(0)
    }

    /// Whether this is the number of the category that dummy encoding leaves out.
    pub fn is_dropped(&self, index: i64) -> bool {
        index == self.dropped
    }
}

/// The shortest text that reads back as the same double; JSON parsers may lose the last bit of a number.
fn print(v: f64) -> String {
    format!("{v:?}")
}

fn parse<E: serde::de::Error>(text: &str) -> Result<f64, E> {
    text.parse().map_err(|_| E::custom(format!("'{text}' is no number")))
}

mod exact {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(v: &f64, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&super::print(*v))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
        super::parse(&String::deserialize(d)?)
    }
}

mod exact_list {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(values: &[f64], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(values.iter().map(|v| super::print(*v)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<f64>, D::Error> {
        Vec::<String>::deserialize(d)?
            .iter()
            .map(|text| super::parse(text))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(learned: &Learned) -> String {
        let text = learned.to_json().unwrap().to_string();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(&Learned::from_json(&value).unwrap(), learned, "{text}");
        text
    }

    #[test]
    fn json_keeps_every_bit() {
        round_trip(&Learned::Nothing);
        let scale = Learned::Scale {
            center: 0.1 + 0.2,
            scale: 5e-324,
        };
        assert_eq!(
            round_trip(&scale),
            r#"{"center":"0.30000000000000004","learned":"scale","scale":"5e-324"}"#
        );
        round_trip(&Learned::Splits {
            points: vec![-1.0 / 3.0, f64::MAX],
        });
        round_trip(&Learned::Text { value: "ß\"".into() });
        round_trip(&Learned::Number { value: -0.1 });
    }

    #[test]
    fn a_vocabulary_is_numbered_from_1_in_byte_order() {
        let vocabulary = Vocabulary::new(vec!["b".into(), "ä".into(), "B".into(), "".into()], Some("b"));
        let of = |text| vocabulary.index(Some(text));
        assert_eq!([of(""), of("B"), of("b"), of("ä"), of("z")], [1, 2, 3, 4, 0]);
        assert_eq!((vocabulary.index(None), vocabulary.len()), (0, 4));
        assert!(vocabulary.is_dropped(3) && !vocabulary.is_dropped(0));
        round_trip(&Learned::Vocabulary(vocabulary));
        round_trip(&Learned::Vocabulary(Vocabulary::new(vec![], None)));
    }

    #[test]
    fn other_json_is_an_error() {
        for text in [
            "{}",
            r#"{"learned":"scale","center":"x","scale":"1"}"#,
            r#"{"learned":"vocabulary","categories":["b","a"]}"#,
        ] {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            let error = Learned::from_json(&value).unwrap_err().to_string();
            assert!(error.contains("train the model again"), "{error}");
        }
    }
}
