//! Rankings of many users, batch by batch.

use super::{PackedItems, Query, Ranking, topk_f32};
use crate::compute::Compute;

/// What is ranked: user and item factors, and what each user may not get. As the fields of [`Query`] of the same names.
#[derive(Debug, Clone, Copy)]
pub struct Catalogue<'a> {
    /// All user factors: users × factors, row-major.
    pub users: &'a [f32],
    /// The items to choose from.
    pub items: &'a PackedItems,
    /// The items that each user may not get, as (offsets, items).
    pub masked: Option<(&'a [usize], &'a [u32])>,
}

/// Users that are ranked at once on threads: enough to keep them busy, few enough to cancel soon.
const USERS_AT_ONCE: usize = 2048;

/// Rankings of many users, batch by batch, wherever that is served.
#[derive(Debug)]
pub struct Ranker<'a> {
    catalogue: Catalogue<'a>,
    n: usize,
    compute: &'a Compute<'a>,
}

impl<'a> Ranker<'a> {
    /// The `n` best of a catalogue. `expected_users`: how many users will be asked for in all, for the estimate.
    pub fn new(catalogue: Catalogue<'a>, n: usize, _expected_users: usize, compute: &'a Compute<'a>) -> Self {
        Self { catalogue, n, compute }
    }

    /// The best items of these users (rows of [`Catalogue::users`]), exactly as [`topk_f32`] ranks them.
    pub fn rank(&mut self, rows: &[u32]) -> Ranking {
        let Catalogue { users, items, masked } = self.catalogue;
        let query = Query {
            users,
            rows,
            items,
            masked,
            n: self.n,
        };
        topk_f32(&query, Some(self.compute.pool), self.compute.cancel)
    }

    /// How many users to ask for at a time.
    pub fn batch_len(&self) -> usize {
        USERS_AT_ONCE
    }
}
