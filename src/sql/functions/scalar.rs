//! The scalar form of a verb: `CHURN_SCORE('model', tenure, plan, …)`, its columns matched by name.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, new_null_array};
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::{Error, Result, list};
use crate::features::lists::type_of;
use crate::models::{FeatureColumn, FeatureKind, ModelType, field, model_type};
use crate::session::Session;
use crate::settings::Settings;
use crate::store::LoadedModel;

/// A verb over a stored model.
#[derive(Debug)]
pub(crate) struct ScalarVerb {
    session: Arc<Session>,
    model_type: &'static dyn ModelType,
    name: String,
    bound: Option<Bound>,
    signature: Signature,
}

/// A model, and which argument each of its columns is.
#[derive(Debug, Clone)]
struct Bound {
    loaded: Arc<LoadedModel>,
    arguments: Vec<usize>,
}

/// Loads a model that is to serve `verb`.
///
/// # Errors
/// There is none of that name, or it is of another kind (with the verb that it serves).
pub(crate) fn model_of_verb(
    session: &Session,
    settings: &Settings,
    verb: &str,
    name: &str,
) -> Result<Arc<LoadedModel>> {
    let loaded = session.model(settings, name)?;
    let kind = model_type(loaded.model.model_type())?;
    if kind.verb() != verb {
        return Err(Error::request(format!(
            "model '{}' is a {} model, which {verb} cannot use; use {} with it",
            loaded.manifest.name,
            kind.name(),
            kind.verb()
        )));
    }
    if loaded.manifest.training.transform.is_some() {
        return Err(Error::request(format!(
            "model '{0}' was trained with TRANSFORM, which {verb} does not apply; use ML.PREDICT('{0}', (SELECT …))",
            loaded.manifest.name
        )));
    }
    Ok(loaded)
}

/// Whether two queries mean the same version of the same model.
pub(crate) fn same_model(a: &Arc<LoadedModel>, b: &Arc<LoadedModel>) -> bool {
    Arc::ptr_eq(a, b)
}

/// The model's name in a call's first argument.
pub(crate) fn literal_text<'a>(verb: &str, argument: Option<&'a ScalarValue>) -> Result<&'a str> {
    argument.and_then(|s| s.try_as_str()).flatten().ok_or_else(|| {
        Error::request(format!(
            "{verb} as a scalar function takes the name of a stored model as its first argument, a constant 'string'; to fit \
             and score in one go write FROM {verb}((SELECT …), …)"
        ))
    })
}

/// Which of the arguments named `given` each of a model's columns is.
///
/// # Errors
/// A column is missing, one is not the model's, or one is of another kind.
pub(crate) fn match_columns(
    function: &str,
    model: &str,
    expected: &[FeatureColumn],
    given: &[(String, Option<DataType>)],
) -> Result<Vec<usize>> {
    let names = || list(expected.iter().map(|c| c.name.as_str()), 40);
    let mut arguments = vec![];
    for column in expected {
        let found = given
            .iter()
            .position(|(n, _)| n == &column.name)
            .or_else(|| given.iter().position(|(n, _)| n.eq_ignore_ascii_case(&column.name)));
        let Some(i) = found else {
            return Err(Error::request(format!(
                "{function}: model '{model}' expects the columns {}, and '{}' is missing; give a column of that name (with AS in \
                 a subquery, if need be)",
                names(),
                column.name
            )));
        };
        if let Some(data_type) = &given[i].1 {
            check_kind(function, model, column, data_type)?;
        }
        arguments.push(i);
    }
    Ok(arguments)
}

fn check_kind(function: &str, model: &str, column: &FeatureColumn, given: &DataType) -> Result<()> {
    let fits = match (column.kind, FeatureKind::of(given)) {
        _ if given == &DataType::Null => true,
        (FeatureKind::Identifier, Some(FeatureKind::Number | FeatureKind::Category)) => true,
        (a, Some(b)) => a == b,
        (_, None) => false,
    };
    if fits {
        return Ok(());
    }
    Err(Error::request(format!(
        "{function}: model '{model}' learned column '{}' as {}, and it is given as {given}; cast it",
        column.name, column.data_type
    )))
}

/// A column in a type that the model reads: one of NULLs alone takes the type of training.
pub(crate) fn as_expected(array: ArrayRef, column: &FeatureColumn) -> ArrayRef {
    if array.data_type() != &DataType::Null {
        return array;
    }
    let data_type = type_of(column.kind).unwrap_or_else(|| {
        column.data_type.parse().unwrap_or(match column.kind {
            FeatureKind::Number => DataType::Float64,
            _ => DataType::Utf8,
        })
    });
    new_null_array(&data_type, array.len())
}

/// The name that an expression's column goes by.
fn column_name(e: &Expr) -> Option<&str> {
    match e {
        Expr::Column(c) => Some(&c.name),
        Expr::Alias(a) => Some(&a.name),
        Expr::Cast(c) => column_name(&c.expr),
        Expr::TryCast(c) => column_name(&c.expr),
        _ => None,
    }
}

impl ScalarVerb {
    pub(crate) fn new(session: Arc<Session>, model_type: &'static dyn ModelType) -> Self {
        Self {
            session,
            model_type,
            name: model_type.verb().to_lowercase(),
            bound: None,
            signature: Signature::variadic_any(Volatility::Stable),
        }
    }

    fn bind(&self, model: &str, given: &[(String, Option<DataType>)]) -> Result<Bound> {
        let verb = self.model_type.verb();
        let loaded = model_of_verb(&self.session, &self.session.settings(), verb, model)?;
        if loaded.model.verb_fields().is_empty() {
            return Err(Error::request(format!(
                "model '{}' is a {}, which {verb} cannot use; use ML.PREDICT with it",
                loaded.manifest.name,
                loaded.model.kind()
            )));
        }
        let expected = loaded.model.feature_columns();
        let arguments = match_columns(verb, &loaded.manifest.name, expected, given)?;
        if let Some((extra, _)) = given
            .iter()
            .enumerate()
            .find(|(i, _)| !arguments.contains(i))
            .map(|(_, g)| g)
        {
            return Err(Error::request(format!(
                "{verb}: '{extra}' is no column of model '{}', which expects {}",
                loaded.manifest.name,
                list(expected.iter().map(|c| c.name.as_str()), 40)
            )));
        }
        // The model's name stands before them.
        let arguments = arguments.into_iter().map(|i| i + 1).collect();
        Ok(Bound { loaded, arguments })
    }

    fn bind_fields(&self, model: Option<&ScalarValue>, fields: &[FieldRef]) -> Result<Bound> {
        let model = literal_text(self.model_type.verb(), model)?;
        let given: Vec<_> = fields
            .iter()
            .skip(1)
            .map(|f| (f.name().clone(), Some(f.data_type().clone())))
            .collect();
        self.bind(model, &given)
    }
}

impl PartialEq for ScalarVerb {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && match (&self.bound, &other.bound) {
                (None, None) => true,
                (Some(a), Some(b)) => same_model(&a.loaded, &b.loaded) && a.arguments == b.arguments,
                _ => false,
            }
    }
}

impl Eq for ScalarVerb {}

impl Hash for ScalarVerb {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        if let Some(b) = &self.bound {
            (&b.loaded.manifest.name, b.loaded.manifest.version, &b.arguments).hash(state);
        }
    }
}

impl ScalarUDFImpl for ScalarVerb {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DataFusionResult<DataType> {
        let first = self.model_type.verb_fields().first().map(|f| f.data_type().clone());
        first.ok_or_else(|| Error::request(format!("{} has no scalar form", self.model_type.verb())).into())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        let bound = match &self.bound {
            Some(bound) => bound.clone(),
            None => self.bind_fields(args.scalar_arguments.first().copied().flatten(), args.arg_fields)?,
        };
        let first = bound.loaded.model.verb_fields().swap_remove(0);
        Ok(field(&self.name, first.data_type().clone()))
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> DataFusionResult<ExprSimplifyResult> {
        if self.bound.is_some() {
            return Ok(ExprSimplifyResult::Original(args));
        }
        let (Some(Expr::Literal(model, _)), Some(given)) = (
            args.first(),
            args.iter()
                .skip(1)
                .map(|a| column_name(a).map(|n| (n.to_string(), info.get_data_type(a).ok())))
                .collect::<Option<Vec<_>>>(),
        ) else {
            return Ok(ExprSimplifyResult::Original(args));
        };
        // From here on the query means this version of the model, whatever is trained meanwhile.
        let bound = self.bind(literal_text(self.model_type.verb(), Some(model))?, &given)?;
        let function = Self {
            session: Arc::clone(&self.session),
            model_type: self.model_type,
            name: self.name.clone(),
            bound: Some(bound),
            signature: self.signature.clone(),
        };
        Ok(ExprSimplifyResult::Simplified(ScalarUDF::from(function).call(args)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let bound = match &self.bound {
            Some(bound) => bound.clone(),
            None => {
                let model = match args.args.first() {
                    Some(ColumnarValue::Scalar(s)) => Some(s),
                    _ => None,
                };
                self.bind_fields(model, &args.arg_fields)?
            }
        };
        let columns = bound
            .arguments
            .iter()
            .zip(bound.loaded.model.feature_columns())
            .map(|(i, column)| Ok(as_expected(args.args[*i].to_array(args.number_rows)?, column)))
            .collect::<DataFusionResult<Vec<_>>>()?;
        Ok(ColumnarValue::Array(bound.loaded.model.score(&columns)?))
    }
}
