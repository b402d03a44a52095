//! Help: one source for `ml.functions`, `ml.options`, the shell's `\h` and the README's reference.

use super::functions::RELATION_FUNCTIONS;
use crate::error::{Error, Result, list, nearest};
use crate::models::{MODELS, ModelType};
use crate::options::OptionSpec;
use crate::settings::SETTINGS;

/// Where a function stands in a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// In FROM, over a query that it fits.
    Relation,
    /// In FROM, over a stored model.
    Model,
    /// In an expression.
    Scalar,
    /// In an expression with OVER.
    Window,
    /// In an expression: a function of GoogleSQL.
    Google,
    /// A statement of its own, in the shell and through [`crate::sql`].
    Statement,
    /// The option `model_type` of CREATE MODEL and ML.TRAIN.
    ModelType,
    /// After SET.
    Setting,
}

impl Form {
    /// The word for it in `ml.functions`.
    pub fn word(self) -> &'static str {
        match self {
            Form::Relation => "relation",
            Form::Model => "relation over a model",
            Form::Scalar => "scalar",
            Form::Window => "window",
            Form::Google => "GoogleSQL",
            Form::Statement => "statement",
            Form::ModelType => "model type",
            Form::Setting => "setting",
        }
    }
}

/// The help for one form of one function.
#[derive(Debug, Clone)]
pub struct Topic {
    /// The function, such as `KMEANS_SEGMENT`.
    pub name: String,
    /// Where it stands.
    pub form: Form,
    /// How it is written.
    pub syntax: String,
    /// What it does.
    pub summary: String,
    /// Its options.
    pub options: Vec<OptionSpec>,
    /// A statement that works as it stands, given the tables.
    pub example: String,
}

impl Topic {
    /// The help of a model type's verb in one of its forms.
    pub(crate) fn of_verb(model_type: &dyn ModelType, form: Form) -> Self {
        let verb = model_type.verb();
        let (syntax, example) = match (verb, form) {
            ("KMEANS_SEGMENT", Form::Relation) => (
                "FROM KMEANS_SEGMENT((query), k => 4, option => value, …)",
                "SELECT * FROM KMEANS_SEGMENT((SELECT * FROM rfm), k => 4, id => 'customer_id')",
            ),
            ("KMEANS_SEGMENT", Form::Window) => (
                "KMEANS_SEGMENT(k, feature, …) OVER (PARTITION BY …)",
                "SELECT customer_id, KMEANS_SEGMENT(4, recency, frequency) OVER (PARTITION BY region) FROM rfm",
            ),
            ("KMEANS_SEGMENT", _) => (
                "KMEANS_SEGMENT('model', feature, …)",
                "SELECT customer_id, KMEANS_SEGMENT('segments', recency, frequency, monetary) FROM rfm",
            ),
            ("CHURN_SCORE", Form::Relation) => (
                "FROM CHURN_SCORE((query), label => 'churned', option => value, …)",
                "SELECT * FROM CHURN_SCORE((SELECT * FROM customers), label => 'churned', id => 'customer_id')",
            ),
            ("CHURN_SCORE", _) => (
                "CHURN_SCORE('model', feature, …)",
                "SELECT customer_id, CHURN_SCORE('churn', tenure, plan) FROM customers",
            ),
            _ => (
                "FROM RECOMMEND((query), user => 'customer_id', item => 'product_id', rating => 'quantity', n => 10, …)",
                "SELECT * FROM RECOMMEND((SELECT * FROM order_items), user => 'customer_id', item => 'product_id', n => 10)",
            ),
        };
        let summary = match form {
            Form::Scalar => format!(
                "{verb} by a stored model, its columns matched by name. 'model@1' is an earlier version. What it is trained with: \
                 ML.TRAIN('model', (query), model_type => '{}', …).",
                model_type.name()
            ),
            Form::Window => {
                "Segments within each partition of a window: the number of segments, then the features.".into()
            }
            _ => model_type.summary().into(),
        };
        let options = if form == Form::Relation {
            model_type.verb_options().to_vec()
        } else {
            vec![]
        };
        Self {
            name: verb.into(),
            form,
            syntax: syntax.into(),
            summary,
            options,
            example: example.into(),
        }
    }
}

impl Topic {
    /// The help of a model type: what it is and its options.
    fn of_model_type(model_type: &dyn ModelType) -> Self {
        let name = model_type.name();
        let takes = |option: &str| model_type.options().iter().any(|o| o.name == option);
        let (transform, more, query) = if model_type.needs_transform() {
            (
                "TRANSFORM (ML.STANDARD_SCALER(recency) OVER () AS recency) ",
                "",
                "SELECT * FROM rfm",
            )
        } else if takes("label") {
            ("", ", input_label_cols = ['churned']", "SELECT * FROM customers")
        } else if takes("user") {
            (
                "",
                ", user_col = 'customer_id', item_col = 'product_id'",
                "SELECT customer_id, product_id FROM order_items",
            )
        } else {
            ("", "", "SELECT * FROM rfm")
        };
        let mut summary = model_type.summary().to_string();
        let defaults: Vec<String> = model_type
            .statement_defaults()
            .iter()
            .map(|(option, value)| format!("{option} = {value}"))
            .collect();
        if !defaults.is_empty() {
            summary += &format!(" Defaults of CREATE MODEL: {}.", defaults.join(", "));
        }
        if !model_type.aliases().is_empty() {
            summary += &format!(" Also called {}.", list(model_type.aliases(), 9));
        }
        Self {
            name: name.into(),
            form: Form::ModelType,
            syntax: format!("CREATE MODEL name OPTIONS (model_type = '{name}', option = value, …) AS query"),
            summary,
            options: model_type.options().to_vec(),
            example: format!(
                "CREATE OR REPLACE MODEL {name} {transform}OPTIONS (model_type = '{name}'{more}) AS {query}"
            ),
        }
    }
}

/// Every topic: functions, then settings.
pub fn topics() -> Vec<Topic> {
    let mut out: Vec<Topic> = RELATION_FUNCTIONS.iter().flat_map(|f| f.topics()).collect();
    for model_type in MODELS.iter().filter(|m| !m.verb_fields().is_empty()) {
        out.push(Topic::of_verb(*model_type, Form::Scalar));
    }
    out.push(Topic::of_verb(&crate::models::kmeans::KMeans, Form::Window));
    out.extend(super::functions::feature::topics());
    out.extend(super::google::topics());
    out.extend(super::run::topics());
    out.extend(MODELS.iter().map(|m| Topic::of_model_type(*m)));
    out.extend(SETTINGS.iter().map(|s| Topic {
        name: s.name.into(),
        form: Form::Setting,
        syntax: format!("SET {} = …", s.name),
        summary: format!("{} It takes {}; the default is {}.", s.help, s.accepts, s.default),
        options: vec![],
        example: format!("SET {} = {}", s.name, s.default.split(' ').next().unwrap_or_default()),
    }));
    out
}

/// The topics of a name, in any case.
///
/// # Errors
/// There is none (with the nearest name).
pub fn find(name: &str) -> Result<Vec<Topic>> {
    let all = topics();
    let found: Vec<Topic> = all
        .iter()
        .filter(|t| t.name.eq_ignore_ascii_case(name.trim()))
        .cloned()
        .collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let mut names: Vec<&str> = all.iter().map(|t| t.name.as_str()).collect();
    names.dedup();
    let hint = match nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("there is help on {}", list(names, 40)),
    };
    Err(Error::request(format!("there is no help on '{name}'; {hint}")))
}

/// The README's reference, in Markdown.
pub fn markdown() -> String {
    let mut out = String::new();
    for topic in topics()
        .iter()
        .filter(|t| !matches!(t.form, Form::Setting | Form::Google))
    {
        out += &format!(
            "#### {} ({})\n\n```sql\n{}\n```\n\n{}\n\n",
            topic.name,
            topic.form.word(),
            topic.syntax,
            topic.summary
        );
        let verb = MODELS
            .iter()
            .find(|m| topic.form == Form::ModelType && m.name() == topic.name)
            .and_then(|m| {
                topics()
                    .into_iter()
                    .find(|t| t.form == Form::Relation && t.name == m.verb())
            });
        if let Some(verb) = verb {
            out += &format!("Its options are those of {}, beside those of ML.TRAIN.\n\n", verb.name);
        } else if !topic.options.is_empty() {
            out += "| option | takes | default | meaning |\n|---|---|---|---|\n";
            for o in &topic.options {
                let names: Vec<String> = std::iter::once(o.name)
                    .chain(o.aliases.iter().copied())
                    .map(|n| format!("`{n}`"))
                    .collect();
                let default = if o.default.is_empty() { "required" } else { o.default };
                let cell = |s: &str| s.replace('|', "\\|");
                out += &format!(
                    "| {} | {} | {} | {} |\n",
                    names.join(", "),
                    cell(&o.kind.describe()),
                    cell(default),
                    cell(o.help)
                );
            }
            out.push('\n');
        }
        out += &format!("```sql\n{}\n```\n\n", topic.example);
    }
    let cell = |s: &str| s.replace('|', "\\|");
    out += "#### Functions of GoogleSQL\n\n| function | meaning |\n|---|---|\n";
    for topic in topics().iter().filter(|t| t.form == Form::Google) {
        out += &format!("| `{}` | {} |\n", cell(&topic.syntax), cell(&topic.summary));
    }
    out += "\n#### Settings\n\n| setting | takes | default | meaning |\n|---|---|---|---|\n";
    for s in SETTINGS {
        out += &format!("| `{}` | {} | {} | {} |\n", s.name, s.accepts, s.default, s.help);
    }
    out
}
