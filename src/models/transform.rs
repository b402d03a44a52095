//! What TRANSFORM stores in a model: how a query's columns become its features.

use serde::{Deserialize, Serialize};

/// The select list of TRANSFORM, item by item, with what was learned of the training rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Transform {
    /// The items, in the order of the list.
    pub items: Vec<TransformItem>,
}

/// One column that TRANSFORM makes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TransformItem {
    /// The column's name.
    pub name: String,
    /// The expression that gives it, as SQL of DataFusion.
    pub expression: String,
    /// What each of the expression's learned calls learned, in the order of their numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learned: Vec<serde_json::Value>,
}
