//! A fitted factorization: scores of pairs, and rankings.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::{ArrayRef, Float64Array, RecordBatch, UInt32Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use rayon::prelude::*;

use super::NAME;
use super::ease;
use super::interactions::{Ids, Interactions, UNKNOWN};
use crate::error::{Error, Result};
use crate::kernels::compute::Compute;
use crate::kernels::topk::{Catalogue, PackedItems, Query, Ranker, Ranking, Selector, dot_f32, mask, topk_f32};
use crate::models::{
    FeatureColumn, FeatureKind, Given, Model, PairOptions, Pairs, Parts, RecommendContext, Recommendations,
    Recommender, Rows, field,
};
use crate::options::Options;

/// Users that a thread scores at a time by `ease`.
const USER_BLOCK: usize = 16;
/// Users that are ranked at once by similarity: enough to keep the threads busy, few enough to cancel soon.
const USERS_AT_ONCE: usize = 2048;

/// A fit is judged by the rankings of so many of its users at most, so that this takes a small share of its time.
const USERS_OF_A_JUDGEMENT: usize = 10_000;

/// Factors of users and items, row-major. With [`Ratings`] the last of them is 1 for a user and the bias for an item.
pub(super) struct Factors {
    pub(super) count: usize,
    pub(super) users: Vec<f32>,
    pub(super) items: Vec<f32>,
    /// What explicit feedback adds.
    pub(super) ratings: Option<Ratings>,
    /// Laid out for ranking when that is first asked for.
    packed: OnceLock<PackedItems>,
}

/// What makes a rating of a product of factors.
pub(super) struct Ratings {
    /// The mean of all ratings.
    pub(super) mean: f64,
    pub(super) user_biases: Vec<f32>,
}

impl Factors {
    pub(super) fn new(count: usize, users: Vec<f32>, items: Vec<f32>, ratings: Option<Ratings>) -> Self {
        Self {
            count,
            users,
            items,
            ratings,
            packed: OnceLock::new(),
        }
    }

    fn dot(&self, user: usize, item: usize) -> f32 {
        dot_f32(
            &self.users[user * self.count..(user + 1) * self.count],
            &self.items[item * self.count..(item + 1) * self.count],
        )
    }
}

/// What gives a pair its score.
pub(super) enum Scorer {
    Factors(Factors),
    /// Weights between items, items × items, row-major.
    Similarity(Vec<f32>),
}

/// The rating column of the training rows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RatingColumn {
    /// Its name, "rating" if there was none.
    pub(super) name: String,
    /// Whether there was one.
    pub(super) given: bool,
}

/// A fitted factorization.
pub(super) struct FactorizationModel {
    pub(super) users: Ids,
    pub(super) items: Ids,
    pub(super) rating: RatingColumn,
    features: Vec<FeatureColumn>,
    pub(super) seen: Interactions,
    /// How many users each item has.
    pub(super) popularity: Vec<u32>,
    /// The items in the order in which an unknown user gets them.
    popular: Vec<u32>,
    pub(super) scorer: Scorer,
    /// [`FactorizationModel::seen`] the other way round, when that is first asked for.
    owners: OnceLock<Interactions>,
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
    pub(super) fn new(users: Ids, items: Ids, rating: RatingColumn, seen: Interactions, scorer: Scorer) -> Self {
        let popularity = seen.popularity();
        let features = [&users.field, &items.field]
            .map(|f| FeatureColumn {
                name: f.name().clone(),
                data_type: f.data_type().to_string(),
                kind: FeatureKind::Identifier,
            })
            .to_vec();
        let mut model = Self {
            popular: (0..items.len() as u32).collect(),
            users,
            items,
            rating,
            features,
            seen,
            popularity,
            scorer,
            owners: OnceLock::new(),
        };
        let mut popular = std::mem::take(&mut model.popular);
        popular.sort_by(|a, b| model.popular_score(*b).total_cmp(&model.popular_score(*a)));
        model.popular = popular;
        model
    }

    /// The parts of ratings, if they are what is predicted.
    pub(super) fn ratings(&self) -> Option<&Ratings> {
        match &self.scorer {
            Scorer::Factors(f) => f.ratings.as_ref(),
            Scorer::Similarity(_) => None,
        }
    }

    /// What an item's rating differs from a mean one; 0 for implicit feedback.
    pub(super) fn item_bias(&self, item: u32) -> f64 {
        match &self.scorer {
            Scorer::Factors(f) if f.ratings.is_some() => f64::from(f.items[(item as usize + 1) * f.count - 1]),
            _ => 0.0,
        }
    }

    /// What a user's rating differs from a mean one; 0 for implicit feedback.
    pub(super) fn user_bias(&self, user: u32) -> f64 {
        self.ratings().map_or(0.0, |r| f64::from(r.user_biases[user as usize]))
    }

    /// The score of an item for an unknown user: its rating by the bias alone, or how many users have it.
    fn popular_score(&self, item: u32) -> f64 {
        match self.ratings() {
            Some(ratings) => ratings.mean + self.item_bias(item),
            None => f64::from(self.popularity[item as usize]),
        }
    }

    /// What is added to a product of factors of a user, the same for all items.
    fn offset(&self, user: u32) -> f64 {
        self.ratings().map_or(0.0, |r| r.mean + self.user_bias(user))
    }

    /// The score of a known user and item, as a ranking has it.
    fn pair_score(&self, user: u32, item: u32) -> f64 {
        let (u, i) = (user as usize, item as usize);
        let score = match &self.scorer {
            Scorer::Factors(f) => f.dot(u, i),
            Scorer::Similarity(weights) => ease::score(weights, self.items.len(), self.seen.of(u), item),
        };
        // No minus zero, as in rankings.
        f64::from(score + 0.0) + self.offset(user)
    }

    /// The score of any pair; none for implicit feedback where one of them is unknown.
    pub(super) fn any_score(&self, user: u32, item: u32) -> Option<f64> {
        if user != UNKNOWN && item != UNKNOWN {
            return Some(self.pair_score(user, item));
        }
        let ratings = self.ratings()?;
        let bias = |code: u32, of: &dyn Fn(u32) -> f64| if code == UNKNOWN { 0.0 } else { of(code) };
        Some(ratings.mean + bias(user, &|u| self.user_bias(u)) + bias(item, &|i| self.item_bias(i)))
    }

    /// The scores of a known user and all items.
    pub(super) fn item_scores(&self, user: u32, scores: &mut Vec<f32>) {
        scores.clear();
        match &self.scorer {
            Scorer::Factors(f) => scores.extend((0..self.items.len()).map(|item| f.dot(user as usize, item) + 0.0)),
            Scorer::Similarity(weights) => {
                scores.resize(self.items.len(), 0.0);
                ease::scores(weights, self.seen.of(user as usize), scores);
            }
        }
    }

    /// The codes of the users and items of pairs.
    pub(super) fn codes(&self, columns: &[ArrayRef]) -> Result<(Vec<u32>, Vec<u32>)> {
        match columns {
            [users, items] => Ok((self.users.codes(users, "user")?, self.items.codes(items, "item")?)),
            _ => Err(Error::request(format!(
                "the model scores pairs of '{}' and '{}', so it needs 2 columns, not {}",
                self.users.field.name(),
                self.items.field.name(),
                columns.len()
            ))),
        }
    }

    fn pair_scores(&self, columns: &[ArrayRef]) -> Result<ArrayRef> {
        let (users, items) = self.codes(columns)?;
        let scores: Float64Array = users.iter().zip(&items).map(|(u, i)| self.any_score(*u, *i)).collect();
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
                scores.extend(popular.iter().map(|item| self.popular_score(*item)));
            } else if let Some(range) = ranked.next().map(|o| o[0]..o[1]) {
                let offset = self.offset(code);
                items.extend_from_slice(&ranking.items[range.clone()]);
                scores.extend(ranking.scores[range].iter().map(|s| f64::from(*s) + offset));
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
}

/// Pairs that are complete but for the other side's values.
struct Coded {
    rows: Vec<u32>,
    codes: Vec<u32>,
    scores: Vec<Option<f64>>,
}

impl Coded {
    fn new() -> Self {
        Self {
            rows: vec![],
            codes: vec![],
            scores: vec![],
        }
    }

    fn push(&mut self, row: usize, code: u32, score: Option<f64>) {
        self.rows.push(row as u32);
        self.codes.push(code);
        self.scores.push(score);
    }

    fn finish(self, values: &ArrayRef) -> Result<Pairs> {
        Ok(Pairs {
            rows: UInt32Array::from(self.rows),
            partners: take(values, &UInt32Array::from(self.codes), None)?,
            scores: Float64Array::from(self.scores),
        })
    }
}

/// Whether the ascending `codes` have `code`.
fn has(codes: &[u32], code: u32) -> bool {
    codes.binary_search(&code).is_ok()
}

/// The pairs that [`Recommender::pairs`] asks for.
impl FactorizationModel {
    fn best_items(&self, users: &ArrayRef, n: usize, exclude_seen: bool) -> Result<Pairs> {
        let cancel = AtomicBool::new(false);
        let context = RecommendContext {
            pool: None,
            cancel: &cancel,
        };
        let ranked = self.recommend(users, n, exclude_seen, &context)?;
        let codes = self.users.codes(users, "user")?;
        let (mut rows, mut scores) = (vec![], Vec::with_capacity(ranked.scores.len()));
        for (row, (bounds, code)) in ranked.offsets.windows(2).zip(codes).enumerate() {
            // A number of users is no confidence.
            let says = code != UNKNOWN || self.ratings().is_some();
            rows.extend(std::iter::repeat_n(row as u32, bounds[1] - bounds[0]));
            scores.extend(ranked.scores[bounds[0]..bounds[1]].iter().map(|s| says.then_some(*s)));
        }
        Ok(Pairs {
            rows: UInt32Array::from(rows),
            partners: ranked.items,
            scores: Float64Array::from(scores),
        })
    }

    fn all_items(&self, users: &ArrayRef, exclude_seen: bool) -> Result<Pairs> {
        let (mut pairs, mut scores) = (Coded::new(), vec![]);
        for (row, user) in self.users.codes(users, "user")?.into_iter().enumerate() {
            if user == UNKNOWN {
                (0..self.items.len() as u32).for_each(|item| pairs.push(row, item, self.any_score(UNKNOWN, item)));
                continue;
            }
            self.item_scores(user, &mut scores);
            let (seen, offset) = (self.seen.of(user as usize), self.offset(user));
            for (item, score) in (0u32..).zip(&scores) {
                if !(exclude_seen && has(seen, item)) {
                    pairs.push(row, item, Some(f64::from(*score) + offset));
                }
            }
        }
        pairs.finish(&self.items.values)
    }

    fn users_of(&self, items: &ArrayRef, options: PairOptions) -> Result<Pairs> {
        let mut pairs = Coded::new();
        for (row, item) in self.items.codes(items, "item")?.into_iter().enumerate() {
            let owners = match options.exclude_seen && item != UNKNOWN {
                true => self.owners.get_or_init(|| self.seen.transposed().0).of(item as usize),
                false => &[],
            };
            let users = (0..self.users.len() as u32).filter(|user| !has(owners, *user));
            let mut scored: Vec<(u32, Option<f64>)> = users.map(|user| (user, self.any_score(user, item))).collect();
            if let Some(n) = options.top_k {
                let value = |score: Option<f64>| score.unwrap_or(f64::NEG_INFINITY);
                let better = |a: &(u32, Option<f64>), b: &(u32, Option<f64>)| {
                    value(b.1).total_cmp(&value(a.1)).then(a.0.cmp(&b.0))
                };
                if n < scored.len() {
                    scored.select_nth_unstable_by(n, better);
                    scored.truncate(n);
                }
                scored.sort_unstable_by(better);
            }
            scored
                .into_iter()
                .for_each(|(user, score)| pairs.push(row, user, score));
        }
        pairs.finish(&self.users.values)
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
        let what = if self.ratings().is_some() { "" } else { "_confidence" };
        vec![field(
            format!("predicted_{}{what}", self.rating.name),
            DataType::Float64,
        )]
    }

    fn predict_columns(&self, columns: &[ArrayRef], _options: &Options) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.pair_scores(columns)?])
    }

    fn parts(&self) -> Result<Parts> {
        self.to_parts()
    }

    fn describe(&self, word: &str, options: &Options) -> Result<Option<RecordBatch>> {
        self.table(word, options)
    }

    fn label(&self) -> Option<&str> {
        self.rating.given.then_some(self.rating.name.as_str())
    }

    fn assess_fields(&self, word: &str) -> Option<Vec<FieldRef>> {
        self.metric_fields(word)
    }

    fn assess(&self, word: &str, rows: &dyn Rows, _options: &Options, stop: &dyn Fn() -> bool) -> Result<RecordBatch> {
        self.metrics(word, rows, None, stop)
    }

    fn judge(&self, rows: &dyn Rows, stop: &dyn Fn() -> bool) -> Result<Option<RecordBatch>> {
        self.metrics("EVALUATE", rows, Some(USERS_OF_A_JUDGEMENT), stop)
            .map(Some)
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

    fn items(&self) -> ArrayRef {
        Arc::clone(&self.items.values)
    }

    fn pairs(&self, given: Given, ids: &ArrayRef, options: PairOptions) -> Result<Pairs> {
        match (given, options.top_k) {
            (Given::User, Some(n)) => self.best_items(ids, n, options.exclude_seen),
            (Given::User, None) => self.all_items(ids, options.exclude_seen),
            (Given::Item, _) => self.users_of(ids, options),
        }
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
