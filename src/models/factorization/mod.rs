//! Implicit factorization: who had what, learned from what people did rather than from what they said.
//!
//! Two methods. `als` gives every user and item a vector of factors whose product is near 1 where the user had the item and
//! near 0 elsewhere, each pair weighted by a confidence (Hu, Koren and Volinsky 2008), with the frequency-scaled
//! regularisation and the weight of unobserved pairs of Rendle, Krichene, Zhang and Koren ("Revisiting the Performance of
//! iALS on Item Recommendation Benchmarks", 2021). The objective, which the training information gives divided by the number of
//! observed pairs:
//!
//! ```text
//! Σ_ui c_ui (p_ui − x_u·y_i)² + λ Σ_u (n_u + α₀·I)^ν ‖x_u‖² + λ Σ_i (n_i + α₀·U)^ν ‖y_i‖²
//! c_ui = α₀ + α·rating_ui and p_ui = 1 for an observed pair; c_ui = α₀ and p_ui = 0 for any other
//! ```
//!
//! with `U` users, `I` items, and `n` the number of pairs of a user or item. `α₀ = 1` and `ν = 0` is the model of 2008.
//!
//! `ease` is a closed-form item-item model (Steck 2019) for smaller catalogues; it looks at whether a user had an item, not at
//! how much.

mod als;
mod ease;
mod interactions;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, Float64Array, Int64Array, RecordBatch, UInt32Array,
};
use datafusion::arrow::compute::{cast, take};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Schema, UInt32Type};
use rayon::prelude::*;
use serde_json::json;

use self::als::Als;
use self::interactions::{IdKind, Ids, Interactions, UNKNOWN, value_type};
use super::{
    Artefact, FeatureColumn, FeatureKind, FitContext, Fitted, Model, ModelType, Parts, RecommendContext,
    Recommendations, Recommender, Roles, Rows, SEED, TrainingInfo, column_index, field,
};
use crate::error::{Error, Result};
use crate::kernels::compute::Compute;
use crate::kernels::topk::{Catalogue, PackedItems, Query, Ranker, Ranking, Selector, dot_f32, mask, topk_f32};
use crate::options::{OptionKind, OptionSpec, Options};

const NAME: &str = "matrix_factorization";
const VERB: &str = "RECOMMEND";

const FACTORS: i64 = 64;
const ITERATIONS: i64 = 15;
const ALS_L2: f64 = 0.007;
const EASE_L2: f64 = 500.0;

/// Users that a thread scores at a time by `ease`.
const USER_BLOCK: usize = 16;
/// Users that are ranked at once by similarity: enough to keep the threads busy, few enough to cancel soon.
const USERS_AT_ONCE: usize = 2048;

static OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "user",
        aliases: &["user_col"],
        kind: OptionKind::Column,
        default: "",
        help: "The column that says who: integers or text.",
    },
    OptionSpec {
        name: "item",
        aliases: &["item_col"],
        kind: OptionKind::Column,
        default: "",
        help: "The column that says what: integers or text.",
    },
    OptionSpec {
        name: "rating",
        aliases: &["rating_col"],
        kind: OptionKind::Column,
        default: "every row counts 1",
        help: "How much: ratings of the same user and item are added up; NULL, NaN, infinite and those not above 0 are dropped.",
    },
    OptionSpec {
        name: "method",
        aliases: &[],
        kind: OptionKind::Choice(&["als", "ease"]),
        default: "'als'",
        help: "'als' learns factors of users and items; 'ease' weights between items, for at most 20,000 of them, from whether a \
               user had an item, not from how much.",
    },
    OptionSpec {
        name: "factors",
        aliases: &["num_factors"],
        kind: OptionKind::Int { min: 1, max: 1024 },
        default: "64",
        help: "How many factors a user and an item have.",
    },
    OptionSpec {
        name: "iterations",
        aliases: &["max_iterations"],
        kind: OptionKind::Int { min: 1, max: 10_000 },
        default: "15",
        help: "How many times users and items are solved.",
    },
    OptionSpec {
        name: "alpha",
        aliases: &["wals_alpha"],
        kind: OptionKind::Float { min: 0.0, max: 1e12 },
        default: "1 / the mean rating",
        help: "An observed pair has the confidence unobserved_weight + alpha × rating.",
    },
    OptionSpec {
        name: "unobserved_weight",
        aliases: &[],
        kind: OptionKind::Float { min: 0.0, max: 1e12 },
        default: "20 × the share of pairs that are observed, at most 1",
        help: "The confidence of a pair that was not observed.",
    },
    OptionSpec {
        name: "l2",
        aliases: &["l2_reg"],
        kind: OptionKind::Float { min: 0.0, max: 1e12 },
        default: "0.007 for 'als', 500 for 'ease'",
        help: "Regularisation. For 'als' it is multiplied by (pairs of the user or item + unobserved_weight × all it could have) ^ \
               frequency_exponent.",
    },
    OptionSpec {
        name: "frequency_exponent",
        aliases: &[],
        kind: OptionKind::Float { min: 0.0, max: 2.0 },
        default: "1",
        help: "How much more the regularisation of frequent users and items is; 0 is the same for all.",
    },
    OptionSpec {
        name: "feedback_type",
        aliases: &[],
        kind: OptionKind::Choice(&["implicit", "explicit"]),
        default: "'implicit'",
        help: "Only 'implicit' is available: ratings say how sure it is that the user wants the item.",
    },
    SEED,
];

/// The options that mean nothing to `ease`.
const ALS_ONLY: [&str; 5] = [
    "factors",
    "iterations",
    "alpha",
    "unobserved_weight",
    "frequency_exponent",
];

/// Implicit factorization; see the module's documentation.
#[derive(Debug, Clone, Copy)]
pub struct Factorization;

impl ModelType for Factorization {
    fn name(&self) -> &'static str {
        NAME
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["als", "implicit"]
    }

    fn verb(&self) -> &'static str {
        VERB
    }

    fn summary(&self) -> &'static str {
        "Learns from who had what, and ranks for a user the items that they do not have yet: confidence-weighted alternating least \
         squares (Hu et al. 2008, Rendle et al. 2021), or EASE (Steck 2019). An unknown user gets the popular items, those that \
         most users had, with the number of those users as score; an item that nobody rated never appears."
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn roles(&self, schema: &Schema, options: &Options) -> Result<Roles> {
        Method::read(options, 0)?;
        if options.text("feedback_type") == Some("explicit") {
            return Err(Error::request(format!(
                "{VERB}: feedback_type 'explicit' is not available, this version learns from implicit feedback only; \
                 write feedback_type => 'implicit' or leave it out"
            )));
        }
        let user = id_column(schema, options, "user")?;
        let item = id_column(schema, options, "item")?;
        if user == item {
            return Err(Error::request(format!(
                "{VERB}: column '{}' is the user and the item at once; name another column for one of them",
                schema.field(user).name()
            )));
        }
        let rating = match options.text("rating") {
            Some(name) => Some(rating_column(schema, name, user, item)?),
            None => None,
        };
        Ok(Roles {
            user: Some(user),
            item: Some(item),
            rating,
            ..Roles::default()
        })
    }

    fn fit(&self, rows: &dyn Rows, roles: &Roles, options: &Options, context: &FitContext<'_>) -> Result<Fitted> {
        let method = Method::read(options, context.seed)?;
        context
            .observer
            .started(method.name(), rows.row_count(), method.passes());
        let learned = interactions::read(VERB, rows, roles, context)?;
        for notice in &learned.notices {
            context.observer.notice(notice);
        }
        let (scorer, passes) = match &method {
            Method::Als(als) => {
                let (users, items, passes) = als::fit(als, &learned.interactions, &learned.ratings, context)?;
                (Scorer::Factors(Factors::new(als.factors, users, items)), passes)
            }
            Method::Ease { l2 } => {
                let item_count = learned.items.len();
                if item_count > ease::MOST_ITEMS {
                    return Err(Error::data(format!(
                        "{VERB}: method 'ease' takes at most {} items and these rows have {item_count}; use method => 'als'",
                        ease::MOST_ITEMS
                    )));
                }
                let (weights, pass) = ease::fit(*l2, &learned.interactions, context)?;
                (Scorer::Similarity(weights), vec![pass])
            }
        };
        let rating = roles
            .rating
            .map_or("rating".into(), |i| rows.schema().field(i).name().clone());
        let info = TrainingInfo {
            passes,
            notices: learned.notices,
            row_count: learned.row_count,
            ..TrainingInfo::default()
        };
        let model = FactorizationModel::new(learned.users, learned.items, rating, learned.interactions, scorer);
        Ok(Fitted {
            model: Arc::new(model),
            info,
            row_scores: None,
        })
    }

    fn load(&self, artefact: &Artefact) -> Result<Arc<dyn Model>> {
        Ok(Arc::new(FactorizationModel::from_artefact(artefact)?))
    }
}

/// The method and its checked options.
enum Method {
    Als(Als),
    Ease { l2: f64 },
}

impl Method {
    /// The options as they were given, or their defaults; `seed` is that of the session.
    fn read(options: &Options, seed: u64) -> Result<Self> {
        if options.text("method") == Some("ease") {
            if let Some(name) = ALS_ONLY.iter().find(|name| options.get(name).is_some()) {
                return Err(Error::request(format!(
                    "{VERB}: option '{name}' means nothing to method 'ease'; leave it out or write method => 'als'"
                )));
            }
            let l2 = options.float("l2", EASE_L2);
            if l2 <= 0.0 {
                return Err(Error::request(format!(
                    "{VERB}: method 'ease' needs an l2 above 0; 500 is the default"
                )));
            }
            return Ok(Method::Ease { l2 });
        }
        let given = |name: &str| options.get(name).and_then(crate::options::Value::as_f64);
        if given("alpha") == Some(0.0) && given("unobserved_weight") == Some(0.0) {
            return Err(Error::request(format!(
                "{VERB}: with alpha and unobserved_weight both 0 no pair has any weight; give one of them above 0"
            )));
        }
        Ok(Method::Als(Als {
            factors: options.int("factors", FACTORS) as usize,
            iterations: options.int("iterations", ITERATIONS) as usize,
            alpha: given("alpha"),
            l2: options.float("l2", ALS_L2),
            frequency_exponent: options.float("frequency_exponent", 1.0),
            unobserved_weight: given("unobserved_weight"),
            seed: u64::try_from(options.int("seed", -1)).unwrap_or(seed),
        }))
    }

    fn name(&self) -> &'static str {
        match self {
            Method::Als(_) => "implicit factorization",
            Method::Ease { .. } => "EASE",
        }
    }

    fn passes(&self) -> usize {
        match self {
            Method::Als(als) => als.iterations,
            Method::Ease { .. } => 1,
        }
    }
}

/// The column that option `part` names, which must be able to identify something.
fn id_column(schema: &Schema, options: &Options, part: &str) -> Result<usize> {
    let name = options
        .text(part)
        .ok_or_else(|| Error::request(format!("{VERB} needs the option '{part}'; write {part} => 'a column'")))?;
    let index = column_index(VERB, schema, name)?;
    let data_type = schema.field(index).data_type();
    if IdKind::of(data_type).is_none() {
        return Err(Error::request(format!(
            "{VERB}: the {part} column '{name}' is of type {data_type}; cast it to an integer or text, such as CAST({name} AS BIGINT)"
        )));
    }
    Ok(index)
}

fn rating_column(schema: &Schema, name: &str, user: usize, item: usize) -> Result<usize> {
    let index = column_index(VERB, schema, name)?;
    for (other, part) in [(user, "user"), (item, "item")] {
        if index == other {
            return Err(Error::request(format!(
                "{VERB}: column '{name}' is the {part} and the rating at once; name another rating or leave it out"
            )));
        }
    }
    let data_type = schema.field(index).data_type();
    let value = value_type(data_type);
    if !value.is_numeric() && value != DataType::Boolean && value != DataType::Null {
        return Err(Error::request(format!(
            "{VERB}: the rating column '{name}' is of type {data_type}; it must be a number, such as a quantity or a number of visits"
        )));
    }
    Ok(index)
}

/// Factors of users and items, row-major.
struct Factors {
    count: usize,
    users: Vec<f32>,
    items: Vec<f32>,
    /// Laid out for ranking when that is first asked for.
    packed: OnceLock<PackedItems>,
}

impl Factors {
    fn new(count: usize, users: Vec<f32>, items: Vec<f32>) -> Self {
        Self {
            count,
            users,
            items,
            packed: OnceLock::new(),
        }
    }
}

/// What gives a pair its score.
enum Scorer {
    Factors(Factors),
    /// Weights between items, items × items, row-major.
    Similarity(Vec<f32>),
}

/// A fitted factorization.
struct FactorizationModel {
    users: Ids,
    items: Ids,
    /// The name of the rating column, "rating" if there was none.
    rating: String,
    features: Vec<FeatureColumn>,
    seen: Interactions,
    /// How many users each item has.
    popularity: Vec<u32>,
    /// The items, most users first.
    popular: Vec<u32>,
    scorer: Scorer,
}

impl fmt::Debug for FactorizationModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FactorizationModel")
            .field("user", &self.users.field.name())
            .field("user_count", &self.users.len())
            .field("item", &self.items.field.name())
            .field("item_count", &self.items.len())
            .field("pair_count", &self.seen.items.len())
            .finish_non_exhaustive()
    }
}

impl FactorizationModel {
    fn new(users: Ids, items: Ids, rating: String, seen: Interactions, scorer: Scorer) -> Self {
        let popularity = seen.popularity();
        let mut popular: Vec<u32> = (0..items.len() as u32).collect();
        popular.sort_by_key(|item| std::cmp::Reverse(popularity[*item as usize]));
        let features = [&users.field, &items.field]
            .map(|f| FeatureColumn {
                name: f.name().clone(),
                data_type: f.data_type().to_string(),
                kind: FeatureKind::Identifier,
            })
            .to_vec();
        Self {
            users,
            items,
            rating,
            features,
            seen,
            popularity,
            popular,
            scorer,
        }
    }

    /// The score of a known user and item, as a ranking has it.
    fn pair_score(&self, user: u32, item: u32) -> f64 {
        let (u, i) = (user as usize, item as usize);
        let score = match &self.scorer {
            Scorer::Factors(f) => dot_f32(
                &f.users[u * f.count..(u + 1) * f.count],
                &f.items[i * f.count..(i + 1) * f.count],
            ),
            Scorer::Similarity(weights) => ease::score(weights, self.items.len(), self.seen.of(u), item),
        };
        // No minus zero, as in rankings.
        f64::from(score + 0.0)
    }

    /// The scores of pairs of users and items; NULL where one is unknown.
    fn pair_scores(&self, columns: &[ArrayRef]) -> Result<ArrayRef> {
        let [users, items] = columns else {
            return Err(Error::request(format!(
                "the model scores pairs of '{}' and '{}', so it needs 2 columns, not {}",
                self.users.field.name(),
                self.items.field.name(),
                columns.len()
            )));
        };
        let (users, items) = (self.users.codes(users, "user")?, self.items.codes(items, "item")?);
        let scores: Float64Array = users
            .iter()
            .zip(&items)
            .map(|(u, i)| (*u != UNKNOWN && *i != UNKNOWN).then(|| self.pair_score(*u, *i)))
            .collect();
        Ok(Arc::new(scores))
    }

    /// The best items of known users, by their codes.
    fn rank(&self, users: &[u32], n: usize, exclude_seen: bool, context: &RecommendContext<'_>) -> Ranking {
        match &self.scorer {
            Scorer::Factors(f) => {
                let Catalogue {
                    users: factors,
                    items,
                    masked,
                } = self.catalogue(f, exclude_seen);
                let query = Query {
                    users: factors,
                    rows: users,
                    items,
                    masked,
                    n,
                };
                topk_f32(&query, context.pool, context.cancel)
            }
            Scorer::Similarity(weights) => {
                let block = |users: &[u32]| self.rank_block(weights, users, n, exclude_seen, context.cancel);
                let ranked: Vec<Vec<Vec<(f32, u32)>>> = match context.pool {
                    Some(pool) if users.len() > USER_BLOCK => {
                        pool.install(|| users.par_chunks(USER_BLOCK).map(block).collect())
                    }
                    _ => users.chunks(USER_BLOCK).map(block).collect(),
                };
                Ranking::concat(ranked.into_iter().flatten())
            }
        }
    }

    fn catalogue<'a>(&'a self, factors: &'a Factors, exclude_seen: bool) -> Catalogue<'a> {
        Catalogue {
            users: &factors.users,
            items: factors
                .packed
                .get_or_init(|| PackedItems::new(&factors.items, factors.count)),
            masked: exclude_seen.then_some((&self.seen.offsets[..], &self.seen.items[..])),
        }
    }

    /// The recommendations of users, the known ones as `rank` ranks their codes, the others the popular items.
    fn recommend_by(
        &self,
        users: &ArrayRef,
        n: usize,
        cancel: &AtomicBool,
        rank: &mut dyn FnMut(&[u32]) -> Ranking,
    ) -> Result<Recommendations> {
        let codes = self.users.codes(users, "user")?;
        let known: Vec<u32> = codes.iter().copied().filter(|code| *code != UNKNOWN).collect();
        let ranking = rank(&known);
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::cancelled());
        }
        let popular = &self.popular[..n.min(self.popular.len())];
        let unknown = codes.len() - known.len();
        let row_count = ranking.items.len() + unknown * popular.len();
        let (mut offsets, mut items, mut scores) = (
            Vec::with_capacity(codes.len() + 1),
            Vec::with_capacity(row_count),
            Vec::with_capacity(row_count),
        );
        offsets.push(0);
        let mut ranked = ranking.offsets.windows(2);
        for code in codes {
            if code == UNKNOWN {
                items.extend_from_slice(popular);
                scores.extend(popular.iter().map(|item| f64::from(self.popularity[*item as usize])));
            } else if let Some(range) = ranked.next().map(|o| o[0]..o[1]) {
                items.extend_from_slice(&ranking.items[range.clone()]);
                scores.extend(ranking.scores[range].iter().map(|s| f64::from(*s)));
            }
            offsets.push(items.len());
        }
        let items = take(&self.items.values, &UInt32Array::from(items), None)?;
        Ok(Recommendations { offsets, items, scores })
    }

    fn rank_block(
        &self,
        weights: &[f32],
        users: &[u32],
        n: usize,
        exclude_seen: bool,
        cancel: &AtomicBool,
    ) -> Vec<Vec<(f32, u32)>> {
        let mut scores = vec![0f32; self.items.len()];
        let mut rank = |user: &u32| {
            if cancel.load(Ordering::Relaxed) {
                return vec![];
            }
            let seen = self.seen.of(*user as usize);
            ease::scores(weights, seen, &mut scores);
            if exclude_seen {
                mask(0, &mut scores, seen);
            }
            let mut selector = Selector::new(n.min(scores.len()));
            selector.offer(0, &scores);
            selector.finish()
        };
        users.iter().map(&mut rank).collect()
    }

    fn from_artefact(artefact: &Artefact) -> Result<Self> {
        let method: String = artefact.setting("method")?;
        let rating: String = artefact.setting("rating")?;
        let [user, item] = &artefact.features[..] else {
            return Err(artefact.corrupt("it has other columns than a user and an item"));
        };
        let (user_table, item_table) = (artefact.table("users")?, artefact.table("items")?);
        let users = read_ids(artefact, user, user_table, "user")?;
        let items = read_ids(artefact, item, item_table, "item")?;
        let seen = read_interactions(artefact, users.len(), items.len())?;
        let scorer = match method.as_str() {
            "als" => {
                let (user_width, user_factors) = read_vectors(artefact, user_table, "factors")?;
                let (item_width, item_factors) = read_vectors(artefact, item_table, "factors")?;
                if user_width != item_width {
                    return Err(artefact.corrupt("its users and items have different numbers of factors"));
                }
                Scorer::Factors(Factors::new(user_width, user_factors, item_factors))
            }
            "ease" => {
                let table = artefact.table("similarity")?;
                let (width, weights) = read_vectors(artefact, table, "weights")?;
                if width != items.len() || table.num_rows() != items.len() {
                    return Err(artefact.corrupt("its part 'similarity' does not fit its items"));
                }
                Scorer::Similarity(weights)
            }
            other => return Err(artefact.corrupt(format!("its method '{other}' is none"))),
        };
        Ok(Self::new(users, items, rating, seen, scorer))
    }
}

impl Model for FactorizationModel {
    fn model_type(&self) -> &'static str {
        NAME
    }

    fn feature_columns(&self) -> &[FeatureColumn] {
        &self.features
    }

    /// The score of a pair; the relation form ranks items by way of [`Model::recommender`].
    fn verb_fields(&self) -> Vec<FieldRef> {
        vec![field("score", DataType::Float64)]
    }

    fn verb_columns(&self, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.pair_scores(columns)?])
    }

    fn predict_fields(&self) -> Vec<FieldRef> {
        vec![field(
            format!("predicted_{}_confidence", self.rating),
            DataType::Float64,
        )]
    }

    fn predict_columns(&self, columns: &[ArrayRef], _options: &Options) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.pair_scores(columns)?])
    }

    fn parts(&self) -> Result<Parts> {
        let user_popularity = self.seen.offsets.windows(2).map(|o| (o[1] - o[0]) as i64);
        let item_popularity = self.popularity.iter().map(|p| i64::from(*p));
        let mut user_columns = id_columns(&self.users, Int64Array::from_iter_values(user_popularity));
        let mut item_columns = id_columns(&self.items, Int64Array::from_iter_values(item_popularity));
        let mut settings = serde_json::Map::new();
        settings.insert("rating".into(), json!(self.rating));
        let mut similarity = None;
        match &self.scorer {
            Scorer::Factors(f) => {
                settings.insert("method".into(), json!("als"));
                user_columns.push(("factors", vectors(f.count, &f.users)?));
                item_columns.push(("factors", vectors(f.count, &f.items)?));
            }
            Scorer::Similarity(weights) => {
                settings.insert("method".into(), json!("ease"));
                similarity = Some(RecordBatch::try_from_iter([(
                    "weights",
                    vectors(self.items.len(), weights)?,
                )])?);
            }
        }
        let user_of_pair = (0..self.seen.user_count())
            .flat_map(|u| std::iter::repeat_n(u as u32, self.seen.offsets[u + 1] - self.seen.offsets[u]));
        let pairs: [(&str, ArrayRef); 2] = [
            ("user", Arc::new(UInt32Array::from_iter_values(user_of_pair))),
            ("item", Arc::new(UInt32Array::from(self.seen.items.clone()))),
        ];
        let mut tables = vec![
            ("users".to_string(), RecordBatch::try_from_iter(user_columns)?),
            ("items".to_string(), RecordBatch::try_from_iter(item_columns)?),
            ("interactions".to_string(), RecordBatch::try_from_iter(pairs)?),
        ];
        tables.extend(similarity.map(|table| ("similarity".to_string(), table)));
        Ok(Parts { tables, settings })
    }

    fn recommender(&self) -> Option<&dyn Recommender> {
        Some(self)
    }
}

impl Recommender for FactorizationModel {
    fn user_field(&self) -> FieldRef {
        Arc::clone(&self.users.field)
    }

    fn item_field(&self) -> FieldRef {
        Arc::clone(&self.items.field)
    }

    fn users(&self) -> ArrayRef {
        Arc::clone(&self.users.values)
    }

    fn recommend(
        &self,
        users: &ArrayRef,
        n: usize,
        exclude_seen: bool,
        context: &RecommendContext<'_>,
    ) -> Result<Recommendations> {
        self.recommend_by(users, n, context.cancel, &mut |known| {
            self.rank(known, n, exclude_seen, context)
        })
    }

    fn recommend_all(
        &self,
        users: &ArrayRef,
        n: usize,
        exclude_seen: bool,
        compute: &Compute<'_>,
        each: &mut dyn FnMut(ArrayRef, Recommendations) -> Result<bool>,
    ) -> Result<()> {
        let context = RecommendContext {
            pool: Some(compute.pool),
            cancel: compute.cancel,
        };
        let mut ranker = match &self.scorer {
            Scorer::Factors(f) => Some(Ranker::new(self.catalogue(f, exclude_seen), n, users.len(), compute)),
            Scorer::Similarity(_) => None,
        };
        let step = ranker.as_ref().map_or(USERS_AT_ONCE, Ranker::batch_len).max(1);
        for begin in (0..users.len()).step_by(step) {
            let some = users.slice(begin, step.min(users.len() - begin));
            let ranked = self.recommend_by(&some, n, compute.cancel, &mut |known| match &mut ranker {
                Some(ranker) => ranker.rank(known),
                None => self.rank(known, n, exclude_seen, &context),
            })?;
            if !each(some, ranked)? {
                break;
            }
        }
        Ok(())
    }
}

/// The columns of the part "users" or "items" that both methods have.
fn id_columns(ids: &Ids, popularity: Int64Array) -> Vec<(&'static str, ArrayRef)> {
    vec![("id", Arc::clone(&ids.values)), ("popularity", Arc::new(popularity))]
}

/// Row-major vectors of `width` numbers as a column of lists.
fn vectors(width: usize, values: &[f32]) -> Result<ArrayRef> {
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let values = Arc::new(Float32Array::from(values.to_vec()));
    Ok(Arc::new(FixedSizeListArray::try_new(item, width as i32, values, None)?))
}

/// The numbers of a column of [`vectors`], and how many each row has.
fn read_vectors(artefact: &Artefact, table: &RecordBatch, name: &str) -> Result<(usize, Vec<f32>)> {
    let unfit = || artefact.corrupt(format!("its column '{name}' is no column of vectors"));
    let lists = table
        .column_by_name(name)
        .and_then(|c| c.as_fixed_size_list_opt())
        .ok_or_else(unfit)?;
    let width = usize::try_from(lists.value_length()).map_err(|_| unfit())?;
    if width == 0 || lists.null_count() > 0 {
        return Err(unfit());
    }
    let numbers = lists.values().as_primitive_opt::<Float32Type>().ok_or_else(unfit)?;
    if numbers.null_count() > 0 || numbers.len() != lists.len() * width {
        return Err(unfit());
    }
    Ok((width, numbers.values().to_vec()))
}

fn read_ids(artefact: &Artefact, feature: &FeatureColumn, table: &RecordBatch, part: &str) -> Result<Ids> {
    let unfit = || artefact.corrupt(format!("its {part}s are no ascending list of integers or text"));
    // Parquet may give text back in another of its types than it was stored in.
    let data_type: DataType = feature.data_type.parse().map_err(|_| unfit())?;
    let column = table.column_by_name("id").ok_or_else(unfit)?;
    if IdKind::of(&data_type).is_none() || IdKind::of(column.data_type()).is_none() || column.is_empty() {
        return Err(unfit());
    }
    let column = cast(column, &data_type)?;
    Ids::new(&feature.name, &column, part)?.ok_or_else(unfit)
}

fn read_interactions(artefact: &Artefact, user_count: usize, item_count: usize) -> Result<Interactions> {
    let unfit = || artefact.corrupt("its part 'interactions' does not fit its users and items");
    let table = artefact.table("interactions")?;
    let column = |name: &str| -> Result<UInt32Array> {
        let column = table.column_by_name(name).ok_or_else(unfit)?;
        let column = column.as_primitive_opt::<UInt32Type>().ok_or_else(unfit)?;
        if column.null_count() > 0 {
            Err(unfit())
        } else {
            Ok(column.clone())
        }
    };
    let (users, items) = (column("user")?, column("item")?);
    let mut offsets = vec![0usize; user_count + 1];
    let mut last = None;
    for pair in users.values().iter().copied().zip(items.values().iter().copied()) {
        if pair.0 as usize >= user_count || pair.1 as usize >= item_count || last.is_some_and(|last| last >= pair) {
            return Err(unfit());
        }
        offsets[pair.0 as usize + 1] += 1;
        last = Some(pair);
    }
    for user in 0..user_count {
        offsets[user + 1] += offsets[user];
    }
    Ok(Interactions {
        item_count,
        offsets,
        items: items.values().to_vec(),
    })
}

#[cfg(test)]
mod tests;
