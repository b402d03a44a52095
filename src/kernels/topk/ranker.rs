//! Rankings of many users, on the threads or on a card.

use super::cuda::OnCard;
use super::{PackedItems, Query, Ranking, topk_f32};
use crate::compute::{Compute, Estimate};

/// What notices call the kernel.
const NAME: &str = "ranking";

/// Users to ask for at a time where threads rank them: enough to keep them busy, few enough to cancel soon.
const HOST_BATCH: usize = 2048;

/// What is ranked: user and item factors and what each user may not get.
#[derive(Debug, Clone, Copy)]
pub struct Catalogue<'a> {
    /// All user factors: users × factors, row-major.
    pub users: &'a [f32],
    /// The items to choose from.
    pub items: &'a PackedItems,
    /// The items that each user may not get, as (offsets, items): those of row `r` are `items[offsets[r]..offsets[r + 1]]`, ascending.
    pub masked: Option<(&'a [usize], &'a [u32])>,
}

/// Rankings of many users, batch by batch, wherever that is served.
#[derive(Debug)]
pub struct Ranker<'a> {
    catalogue: Catalogue<'a>,
    n: usize,
    compute: &'a Compute<'a>,
    card: Option<OnCard>,
}

impl<'a> Ranker<'a> {
    /// `n` items a user at most. `expected_users`: how many users will be asked for in all, which decides whether a card is worth it.
    pub fn new(catalogue: Catalogue<'a>, n: usize, expected_users: usize, compute: &'a Compute<'a>) -> Self {
        let keep = n.min(catalogue.items.count);
        let card = if keep == 0 || expected_users == 0 || catalogue.users.is_empty() {
            None
        } else {
            compute.serve(NAME, estimate(&catalogue, keep, expected_users), |queue| {
                OnCard::new(&catalogue, keep, expected_users, queue)
            })
        };
        Self {
            catalogue,
            n,
            compute,
            card,
        }
    }

    /// The best items of these users (rows of [`Catalogue::users`]), exactly as [`topk_f32`] ranks them. Once the work is cancelled, the
    /// remaining users get nothing.
    ///
    /// # Panics
    /// There is no such row, or [`Catalogue::masked`] does not fit the users.
    pub fn rank(&mut self, rows: &[u32]) -> Ranking {
        if let Some(card) = &self.card {
            match card.rank(&self.catalogue, rows, self.compute) {
                Ok(ranking) => return ranking,
                Err(declined) => {
                    self.compute.declined(NAME, &declined);
                    self.card = None;
                }
            }
        }
        let query = Query {
            users: self.catalogue.users,
            rows,
            items: self.catalogue.items,
            masked: self.catalogue.masked,
            n: self.n,
        };
        topk_f32(&query, Some(self.compute.pool), self.compute.cancel)
    }

    /// How many users to ask for at a time: few on the host, many on a card.
    pub fn batch_len(&self) -> usize {
        self.card.as_ref().map_or(HOST_BATCH, OnCard::batch_len)
    }
}

/// What the rankings of so many users cost on a thread and on a card.
fn estimate(catalogue: &Catalogue<'_>, keep: usize, users: usize) -> Estimate {
    let (users, all) = (users as f64, catalogue.users.len() as f64);
    let products = users * catalogue.items.panels.len() as f64;
    let scores = users * catalogue.items.count as f64;
    let masks = catalogue
        .masked
        .map_or(0.0, |(offsets, items)| (8 * offsets.len() + 4 * items.len()) as f64);
    let share = (users * catalogue.items.factor_count as f64 / all).min(1.0);
    Estimate {
        // Measured with AVX2: 0.055 ns a product, and 1 ns to select from a score.
        thread_ms: products * 5.5e-8 + scores * 1e-6,
        // 5 T products a second; two launches and a copy for each batch.
        card_ms: products / 5e9 + (users / 1e4).ceil() * 0.05,
        moved_bytes: 4.0 * catalogue.items.panels.len() as f64
            + share * (4.0 * all + masks)
            + users * (8 * keep + 4) as f64,
    }
}
