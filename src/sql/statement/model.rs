//! The model statements, and how they are written as functions.

use super::options::{ModelOption, OptionValue};
use super::path::ModelRef;
use super::source::{Builder, Span, Sql, quote};

/// `CREATE [OR REPLACE] MODEL [IF NOT EXISTS] model [TRANSFORM (…)] [OPTIONS (…)] AS query`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateModel {
    /// The model.
    pub model: ModelRef,
    /// Whether OR REPLACE stands there.
    pub or_replace: bool,
    /// Whether IF NOT EXISTS stands there.
    pub if_not_exists: bool,
    /// The select list of TRANSFORM.
    pub transform: Option<Sql>,
    /// The options, in the order in which they were written.
    pub options: Vec<ModelOption>,
    /// The query to learn from, without brackets round it.
    pub query: Sql,
    /// The whole statement.
    pub span: Span,
}

impl CreateModel {
    /// An option by its name, in any case.
    pub fn option(&self, name: &str) -> Option<&ModelOption> {
        self.options.iter().find(|o| o.name.eq_ignore_ascii_case(name))
    }

    /// `SELECT * FROM ML.TRAIN('model', (query), model_type => …, option => value, …)`.
    /// `defaults` are options that the statement does not give, with their SQL.
    pub fn function_form(&self, defaults: &[(&str, &str)]) -> Sql {
        let mut out = Builder::new("");
        self.write(&mut out, defaults);
        out.finish(self.span)
    }

    pub(super) fn write(&self, out: &mut Builder<'_>, defaults: &[(&str, &str)]) {
        let name = quote(&self.model.text());
        out.put(&format!("SELECT * FROM ML.TRAIN({name}, ("), self.model.span.start);
        out.append(&self.query);
        out.put(")", self.query.span.end);
        // The model's type comes first, as a reader looks for it.
        let (types, others): (Vec<_>, Vec<_>) = self
            .options
            .iter()
            .partition(|o| o.name.eq_ignore_ascii_case("model_type"));
        for option in types.into_iter().chain(others) {
            out.put(&format!(", {} => ", option.name), option.name_span.start);
            out.put(&option.value.sql(), option.value_span.start);
        }
        if let Some(transform) = &self.transform {
            out.put(
                &format!(", transform => {}", quote(&transform.text)),
                transform.span.start,
            );
        }
        for (name, value) in defaults {
            out.put(&format!(", {name} => {value}"), self.span.start);
        }
        out.put(")", self.span.end);
    }
}

/// `DROP MODEL [IF EXISTS] model`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropModel {
    /// The model.
    pub model: ModelRef,
    /// Whether IF EXISTS stands there.
    pub if_exists: bool,
    /// The whole statement.
    pub span: Span,
}

/// `ALTER MODEL [IF EXISTS] model SET OPTIONS (…)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterModel {
    /// The model.
    pub model: ModelRef,
    /// Whether IF EXISTS stands there.
    pub if_exists: bool,
    /// The options to set.
    pub options: Vec<ModelOption>,
    /// The whole statement.
    pub span: Span,
}

/// `EXPORT MODEL model OPTIONS (uri = '…')`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportModel {
    /// The model.
    pub model: ModelRef,
    /// Where to.
    pub uri: String,
    /// Every option, the URI too.
    pub options: Vec<ModelOption>,
    /// The whole statement.
    pub span: Span,
}

/// `SHOW MODELS [LIKE 'pattern']`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShowModels {
    /// The pattern that names are to match.
    pub like: Option<String>,
    /// The whole statement.
    pub span: Span,
}

impl ShowModels {
    /// A query of `ml.models`.
    pub fn function_form(&self) -> Sql {
        let mut out = Builder::new("");
        out.put("SELECT * FROM ml.models", self.span.start);
        if let Some(pattern) = &self.like {
            // The store keeps names in lower case.
            let pattern = quote(&pattern.to_lowercase());
            out.put(&format!(" WHERE name LIKE {pattern}"), self.span.start);
        }
        out.put(" ORDER BY name, version", self.span.start);
        out.finish(self.span)
    }
}

/// `DESCRIBE MODEL model` or `DESC MODEL model`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeModel {
    /// The model.
    pub model: ModelRef,
    /// The whole statement.
    pub span: Span,
}

/// The string that an option is set to.
pub(super) fn text_of<'o>(options: &'o [ModelOption], name: &str) -> Option<(&'o ModelOption, Option<String>)> {
    let option = options.iter().find(|o| o.name.eq_ignore_ascii_case(name))?;
    Some((option, OptionValue::text(&option.value)))
}
