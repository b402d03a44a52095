//! `RECOMMEND`: fits and ranks `FROM RECOMMEND((query), …)`, ranks by a model `FROM RECOMMEND('model', (users))`, and the
//! scalar `RECOMMEND('model', customer_id, 10)`.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, Float64Array, Int64Array, ListArray, StructArray};
use datafusion::arrow::buffer::{OffsetBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::catalog::Session as CatalogSession;
use datafusion::common::{NullHandling, Result as DataFusionResult, ScalarValue, UnnestOptions};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::ident;

use super::RelationFunction;
use super::scalar::{literal_text, model_of_verb, same_model};
use super::verb::{project, renumber, used_columns};
use crate::error::{Error, Result};
use crate::exec::{Fit, FitJob, OperationExec, RankOutput, recommendation_fields};
use crate::models::{ModelType, RecommendContext, Recommender, Roles, column_index, field};
use crate::options::{OptionKind, OptionSpec, Options};
use crate::session::Session;
use crate::sql::arguments::Arguments;
use crate::sql::functions::table::{OverQuery, scan_of};
use crate::sql::help::{Form, Topic};
use crate::sql::relation::{PlanContext, columns_of, keep_columns};
use crate::store::LoadedModel;

const NAME: &str = "RECOMMEND";
const MAX_ITEMS: i64 = 10_000;

const N: OptionSpec = OptionSpec {
    name: "n",
    aliases: &["top_k"],
    kind: OptionKind::Int { min: 1, max: MAX_ITEMS },
    default: "10",
    help: "How many items for each user.",
};

const EXCLUDE_SEEN: OptionSpec = OptionSpec {
    name: "exclude_seen",
    aliases: &[],
    kind: OptionKind::Bool,
    default: "true",
    help: "Whether what a user already has is left out.",
};

const RANKING: &[OptionSpec] = &[N, EXCLUDE_SEEN];

/// `RECOMMEND` in FROM.
pub(crate) struct Recommend(pub &'static dyn ModelType);

impl Recommend {
    fn fit_options(&self) -> Vec<OptionSpec> {
        self.0.options().iter().chain(RANKING).copied().collect()
    }

    fn plan_fit(&self, mut arguments: Arguments, context: &mut PlanContext<'_>) -> Result<LogicalPlan> {
        let input = arguments.one_query()?;
        let options = Options::parse(NAME, &self.fit_options(), arguments.named)?;
        let columns = columns_of(NAME, &input)?;
        let roles = self.0.roles(&columns, &options)?;
        let (Some(user), Some(item)) = (roles.user, roles.item) else {
            return Err(Error::request(format!("{NAME} needs a user and an item column")));
        };
        let fields = recommendation_fields(&unpacked(columns.field(user)), &unpacked(columns.field(item)));
        let relation = RankRelation {
            session: Arc::clone(&context.session),
            model_type: self.0,
            options,
            roles,
            input,
            columns,
            schema: unique(fields)?,
        };
        scan_of(NAME, relation)
    }

    /// Streams: a list for each user, unnested.
    fn plan_model(&self, mut arguments: Arguments, context: &mut PlanContext<'_>) -> Result<LogicalPlan> {
        let (name, input) = arguments.model_and_query()?;
        let options = Options::parse(NAME, RANKING, arguments.named)?;
        let loaded = model_of_verb(&context.session, &context.settings, NAME, &name)?;
        let recommender = recommender(&loaded)?;
        let columns = columns_of(NAME, &input)?;
        let user_field = recommender.user_field();
        let user = match column_index(NAME, &columns, user_field.name()) {
            Ok(i) => i,
            Err(_) if columns.fields().len() == 1 => 0,
            Err(e) => return Err(e),
        };
        check_user(NAME, columns.field(user), recommender)?;
        let function = RecommendFunction {
            session: Arc::clone(&context.session),
            bound: Some(Bound {
                loaded: Arc::clone(&loaded),
                n: Some(options.int("n", 10) as usize),
                exclude_seen: options.bool("exclude_seen", true),
                with_rank: true,
            }),
            signature: Signature::variadic_any(Volatility::Stable),
        };
        let [_, item, rank, score] = &unique_fields(recommendation_fields(
            &Arc::new(columns.field(user).clone()),
            &recommender.item_field(),
        ))?[..] else {
            return Err(Error::request("a ranking has four columns"));
        };
        let ranked = "__ranked";
        let user_expr = Expr::Column(input.schema().qualified_field(user).into());
        let call = ScalarUDF::from(function).call(vec![user_expr.clone()]);
        let plan = LogicalPlanBuilder::from(input)
            .project(vec![user_expr.clone(), call.alias(ranked)])?
            .unnest_column_with_options(
                datafusion::common::Column::from_name(ranked),
                UnnestOptions {
                    null_handling: NullHandling::Drop,
                    recursions: vec![],
                },
            )?
            .project(vec![
                user_expr,
                get_field(ident(ranked), "item").alias(item.name()),
                get_field(ident(ranked), "rank").alias(rank.name()),
                get_field(ident(ranked), "score").alias(score.name()),
            ])?
            .alias(NAME.to_lowercase())?
            .build()?;
        Ok(plan)
    }
}

impl RelationFunction for Recommend {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, arguments: Arguments, context: &mut PlanContext<'_>) -> Result<LogicalPlan> {
        if arguments.starts_with_constant() {
            self.plan_model(arguments, context)
        } else {
            self.plan_fit(arguments, context)
        }
    }

    fn topics(&self) -> Vec<Topic> {
        let mut fit = Topic::of_verb(self.0, Form::Relation);
        fit.options = self.fit_options();
        vec![
            fit,
            Topic {
                name: NAME.into(),
                form: Form::Model,
                syntax: "FROM RECOMMEND('model', (query of users), n => 10)".into(),
                summary:
                    "The best items of a stored model for each user of a query: user, item, rank, score. An unknown \
                          user gets the popular items."
                        .into(),
                options: RANKING.to_vec(),
                example: "SELECT * FROM RECOMMEND('taste', (SELECT customer_id FROM customers), n => 5)".into(),
            },
            Topic {
                name: NAME.into(),
                form: Form::Scalar,
                syntax: "RECOMMEND('model', user, n [, exclude_seen])".into(),
                summary:
                    "The best items of a stored model for a user, as LIST<STRUCT<item, score>>. An unknown user gets \
                          the popular items."
                        .into(),
                options: vec![],
                example: "SELECT customer_id, RECOMMEND('taste', customer_id, 5) FROM customers".into(),
            },
        ]
    }
}

/// A field whose dictionary, if it is one, is unpacked, as rankings give it.
fn unpacked(field: &Field) -> FieldRef {
    match field.data_type() {
        DataType::Dictionary(_, value) => Arc::new(field.clone().with_data_type(value.as_ref().clone())),
        _ => Arc::new(field.clone()),
    }
}

fn unique_fields(fields: Vec<FieldRef>) -> Result<Vec<FieldRef>> {
    for (i, f) in fields.iter().enumerate() {
        if fields[..i].iter().any(|g| g.name() == f.name()) {
            return Err(Error::request(format!(
                "{NAME} gives the columns user, item, 'rank' and 'score', and two of them would be called '{}'; rename the query's with AS",
                f.name()
            )));
        }
    }
    Ok(fields)
}

fn unique(fields: Vec<FieldRef>) -> Result<SchemaRef> {
    Ok(Arc::new(Schema::new(unique_fields(fields)?)))
}

fn recommender(loaded: &LoadedModel) -> Result<&dyn Recommender> {
    loaded.model.recommender().ok_or_else(|| {
        Error::request(format!(
            "model '{}' of type {} ranks no items",
            loaded.manifest.name,
            loaded.model.model_type()
        ))
    })
}

/// Numbers go with numbers and text with text.
fn check_user(function: &str, given: &Field, recommender: &dyn Recommender) -> Result<()> {
    let is_integer = |t: &DataType| match t {
        DataType::Dictionary(_, v) => v.is_integer(),
        t => t.is_integer(),
    };
    let expected = recommender.user_field();
    if given.data_type() != &DataType::Null && is_integer(given.data_type()) != is_integer(expected.data_type()) {
        return Err(Error::request(format!(
            "{function}: the user column '{}' is of type {}, and the model's users ('{}') are of type {}; cast it",
            given.name(),
            given.data_type(),
            expected.name(),
            expected.data_type()
        )));
    }
    Ok(())
}

/// The relation that fits: holds the input's plan.
#[derive(Debug)]
struct RankRelation {
    session: Arc<Session>,
    model_type: &'static dyn ModelType,
    options: Options,
    roles: Roles,
    input: LogicalPlan,
    columns: SchemaRef,
    schema: SchemaRef,
}

#[async_trait]
impl OverQuery for RankRelation {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    async fn plan(&self, state: &dyn CatalogSession, wanted: &[usize]) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let kept = used_columns(&self.roles);
        let input = state
            .create_physical_plan(&keep_columns(self.input.clone(), &kept)?)
            .await?;
        let job = FitJob {
            session: Arc::clone(&self.session),
            model_type: self.model_type,
            options: self.options.clone(),
            roles: renumber(&self.roles, &kept),
            schema: project(&self.columns, &kept),
            split: None,
            transform: None,
            folds: None,
            tuning: None,
            judge: false,
            start: None,
            notices: vec![],
        };
        let schema = project(&self.schema, wanted);
        let output = RankOutput {
            item_count: self.options.int("n", 10) as usize,
            exclude_seen: self.options.bool("exclude_seen", true),
            columns: wanted.to_vec(),
        };
        Ok(Arc::new(OperationExec::new(
            input,
            Arc::new(Fit::new(job, Arc::new(output), schema)),
        )))
    }
}

/// The scalar form, and what the relation over a model is made of.
#[derive(Debug)]
pub(crate) struct RecommendFunction {
    session: Arc<Session>,
    bound: Option<Bound>,
    signature: Signature,
}

#[derive(Debug, Clone)]
struct Bound {
    loaded: Arc<LoadedModel>,
    /// How many items; none: the argument after the user says so.
    n: Option<usize>,
    exclude_seen: bool,
    with_rank: bool,
}

impl RecommendFunction {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self {
            session,
            bound: None,
            signature: Signature::variadic_any(Volatility::Stable),
        }
    }

    /// The model and the number of items that literal arguments name.
    fn bind(&self, literals: &[Option<&ScalarValue>], user: Option<&Field>) -> Result<Bound> {
        if !(3..=4).contains(&literals.len()) {
            return Err(Error::request(format!(
                "{NAME} as a scalar function takes a model, a user and a number of items: {NAME}('model', customer_id, 10)"
            )));
        }
        let name = literal_text(NAME, literals[0])?;
        let loaded = model_of_verb(&self.session, &self.session.settings(), NAME, name)?;
        if let Some(user) = user {
            check_user(NAME, user, recommender(&loaded)?)?;
        }
        let n = literals[2].and_then(|s| s.cast_to(&DataType::Int64).ok());
        let n = match n {
            Some(ScalarValue::Int64(Some(n))) if (1..=MAX_ITEMS).contains(&n) => n as usize,
            _ => {
                return Err(Error::request(format!(
                    "{NAME}: the number of items is a constant from 1 to {MAX_ITEMS}"
                )));
            }
        };
        let exclude_seen = match literals.get(3) {
            None => true,
            Some(Some(ScalarValue::Boolean(Some(v)))) => *v,
            Some(_) => {
                return Err(Error::request(format!(
                    "{NAME}: exclude_seen is the constant true or false"
                )));
            }
        };
        Ok(Bound {
            loaded,
            n: Some(n),
            exclude_seen,
            with_rank: false,
        })
    }
}

impl PartialEq for RecommendFunction {
    fn eq(&self, other: &Self) -> bool {
        match (&self.bound, &other.bound) {
            (None, None) => true,
            (Some(a), Some(b)) => {
                same_model(&a.loaded, &b.loaded)
                    && (a.n, a.exclude_seen, a.with_rank) == (b.n, b.exclude_seen, b.with_rank)
            }
            _ => false,
        }
    }
}

impl Eq for RecommendFunction {}

impl Hash for RecommendFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        if let Some(b) = &self.bound {
            (
                &b.loaded.manifest.name,
                b.loaded.manifest.version,
                b.n,
                b.exclude_seen,
                b.with_rank,
            )
                .hash(state);
        }
    }
}

fn entry_fields(item: &DataType, with_rank: bool) -> Fields {
    let mut fields = vec![field("item", item.clone())];
    if with_rank {
        fields.push(field("rank", DataType::Int64));
    }
    fields.push(field("score", DataType::Float64));
    Fields::from(fields)
}

fn list_type(bound: &Bound) -> Result<DataType> {
    let item = recommender(&bound.loaded)?.item_field();
    let entry = DataType::Struct(entry_fields(item.data_type(), bound.with_rank));
    Ok(DataType::List(Arc::new(Field::new("item", entry, true))))
}

impl ScalarUDFImpl for RecommendFunction {
    fn name(&self) -> &'static str {
        "recommend"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DataFusionResult<DataType> {
        Err(Error::request(format!("{NAME} needs its arguments to know its type")).into())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        let bound = match &self.bound {
            Some(bound) => bound.clone(),
            None => self.bind(args.scalar_arguments, args.arg_fields.get(1).map(AsRef::as_ref))?,
        };
        Ok(field(self.name(), list_type(&bound)?))
    }

    fn simplify(&self, args: Vec<Expr>, _info: &SimplifyContext) -> DataFusionResult<ExprSimplifyResult> {
        if self.bound.is_some() || args.len() < 3 {
            return Ok(ExprSimplifyResult::Original(args));
        }
        // From here on the query means this version of the model, whatever is trained meanwhile.
        let literals: Vec<Option<&ScalarValue>> = args
            .iter()
            .map(|a| match a {
                Expr::Literal(s, _) => Some(s),
                _ => None,
            })
            .collect();
        let bound = self.bind(&literals, None)?;
        let function = Self {
            session: Arc::clone(&self.session),
            bound: Some(bound),
            signature: Signature::variadic_any(Volatility::Stable),
        };
        Ok(ExprSimplifyResult::Simplified(ScalarUDF::from(function).call(args)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        // A relation's call has the user alone; a scalar call has the model's name before it.
        let position = usize::from(args.args.len() > 1);
        let bound = match &self.bound {
            Some(bound) => bound.clone(),
            None => {
                let literals: Vec<Option<&ScalarValue>> = args
                    .args
                    .iter()
                    .map(|a| match a {
                        ColumnarValue::Scalar(s) => Some(s),
                        ColumnarValue::Array(_) => None,
                    })
                    .collect();
                self.bind(&literals, None)?
            }
        };
        let users = args.args[position].to_array(args.number_rows)?;
        Ok(ColumnarValue::Array(Arc::new(ranked_lists(&bound, &users)?)))
    }
}

fn ranked_lists(bound: &Bound, users: &ArrayRef) -> Result<ListArray> {
    let recommender = recommender(&bound.loaded)?;
    let cancel = AtomicBool::new(false);
    let context = RecommendContext {
        pool: None,
        cancel: &cancel,
    };
    let ranked = recommender.recommend(users, bound.n.unwrap_or(10), bound.exclude_seen, &context)?;
    let fields = entry_fields(ranked.items.data_type(), bound.with_rank);
    let mut columns = vec![Arc::clone(&ranked.items)];
    if bound.with_rank {
        let ranks = ranked.offsets.windows(2).flat_map(|w| 1..=(w[1] - w[0]) as i64);
        columns.push(Arc::new(Int64Array::from_iter_values(ranks)));
    }
    columns.push(Arc::new(Float64Array::from(ranked.scores)));
    let offsets = ranked
        .offsets
        .iter()
        .map(|o| i32::try_from(*o))
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|_| {
            Error::data(format!(
                "{NAME}: too many items in one batch; ask for fewer with a smaller n"
            ))
        })?;
    let entries = StructArray::try_new(fields.clone(), columns, None)?;
    let entry = Arc::new(Field::new("item", DataType::Struct(fields), true));
    Ok(ListArray::try_new(
        entry,
        OffsetBuffer::new(ScalarBuffer::from(offsets)),
        Arc::new(entries),
        None,
    )?)
}
