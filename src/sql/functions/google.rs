//! Functions of GoogleSQL that BigQuery ML's scripts use and DataFusion lacks.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};

use crate::sql::help::{Form, Topic};

/// `FARM_FINGERPRINT(text)`: FarmHash's Fingerprint64 as a signed number, to the bit as BigQuery has it. Scripts split their rows by it.
pub(crate) fn farm_fingerprint() -> ScalarUDF {
    let hash = |args: &[ColumnarValue]| -> DataFusionResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(args)?;
        let texts = arrays[0].as_string::<i32>();
        let hashes: Int64Array = texts
            .iter()
            .map(|text| text.map(|t| farmhash::fingerprint64(t.as_bytes()).cast_signed()))
            .collect();
        Ok(ColumnarValue::Array(Arc::new(hashes) as ArrayRef))
    };
    create_udf(
        "farm_fingerprint",
        vec![DataType::Utf8],
        DataType::Int64,
        Volatility::Immutable,
        Arc::new(hash),
    )
}

/// Their help.
pub(crate) fn topics() -> Vec<Topic> {
    vec![Topic {
        name: "FARM_FINGERPRINT".into(),
        form: Form::Scalar,
        syntax: "FARM_FINGERPRINT(text)".into(),
        summary: "FarmHash's 64-bit fingerprint of a text, as BigQuery has it: the same everywhere, for splitting rows by chance that \
                  repeats."
            .into(),
        options: vec![],
        example: "SELECT * FROM customers WHERE abs(FARM_FINGERPRINT(CAST(customer_id AS VARCHAR))) % 10 < 8".into(),
    }]
}
