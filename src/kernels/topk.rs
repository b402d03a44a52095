//! Top-k: the best items of each user, by the product of their factors.
//!
//! Scores are computed in blocks (48 users × 512 items, in tiles of 6 × 16 in registers) and selected from at once; the
//! score matrix never exists. A score is one chain of multiply-adds over the factors in their order, wherever it stands in a
//! tile, so that a user's scores depend on nobody else of the batch, and [`dot_f32`] gives the very same number.

pub mod cuda;
mod ranker;
#[cfg(test)]
mod tests_card;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod twin;

use std::cmp::Ordering;
use std::sync::atomic::{AtomicBool, Ordering as Atomic};

use rayon::prelude::*;

pub use self::ranker::{Catalogue, Ranker};
use crate::cpu::has_avx2_fma;

/// Items of a panel: two AVX2 registers.
const PANEL: usize = 16;
/// Users of a tile: 6 × 16 sums are 12 of AVX2's 16 registers.
const TILE_USERS: usize = 6;
/// Users that a thread takes at a time.
const USER_BLOCK: usize = 48;
/// Items scored before selection: at 64 factors 128 KiB, which stay in the second-level cache for all users of a block.
const ITEM_BLOCK: usize = 512;

/// Fused multiply-add is part of the target, so that `mul_add` is one instruction without asking at run time.
const BASE_FMA: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

/// Item factors, laid out for [`topk_f32`]: panels of 16 items, factor by factor.
#[derive(Debug, Clone)]
pub struct PackedItems {
    count: usize,
    factor_count: usize,
    panels: Vec<f32>,
}

impl PackedItems {
    /// Lays out `items`: items × `factor_count`, row-major.
    pub fn new(items: &[f32], factor_count: usize) -> Self {
        let n = factor_count.max(1);
        let count = items.len() / n;
        let mut panels = vec![0f32; count.div_ceil(PANEL) * PANEL * n];
        for (panel, rows) in panels.chunks_exact_mut(PANEL * n).zip(items.chunks(PANEL * n)) {
            for (i, row) in rows.chunks_exact(n).enumerate() {
                for (k, v) in row.iter().enumerate() {
                    panel[k * PANEL + i] = *v;
                }
            }
        }
        Self {
            count,
            factor_count: n,
            panels,
        }
    }
}

/// Whose best items are asked for, and which items they may not be.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// All user factors: users × factors, row-major.
    pub users: &'a [f32],
    /// The rows of [`Query::users`] that are asked for, in any order.
    pub rows: &'a [u32],
    /// The items to choose from.
    pub items: &'a PackedItems,
    /// The items that each row of [`Query::users`] may not get, as (offsets, items): those of row `r` are
    /// `items[offsets[r]..offsets[r + 1]]`, ascending.
    pub masked: Option<(&'a [usize], &'a [u32])>,
    /// How many items each gets at most.
    pub n: usize,
}

/// The best items of each user asked for: those of user `i` are at `offsets[i]..offsets[i + 1]`, best first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ranking {
    /// Where each user's items begin and end: users + 1 numbers.
    pub offsets: Vec<usize>,
    /// The items.
    pub items: Vec<u32>,
    /// Their scores.
    pub scores: Vec<f32>,
}

impl Ranking {
    /// The rankings of single users, one after another.
    pub fn concat(users: impl IntoIterator<Item = Vec<(f32, u32)>>) -> Self {
        let mut all = Self {
            offsets: vec![0],
            items: vec![],
            scores: vec![],
        };
        for ranked in users {
            all.items.extend(ranked.iter().map(|(_, item)| *item));
            all.scores.extend(ranked.iter().map(|(score, _)| *score));
            all.offsets.push(all.items.len());
        }
        all
    }
}

/// Keeps the `n` best of scores that come in blocks of ascending items: higher scores first, equal ones by item.
#[derive(Debug, Clone)]
pub struct Selector {
    n: usize,
    /// Only a score above this can still be among the best.
    threshold: f32,
    kept: Vec<(f32, u32)>,
}

impl Selector {
    /// Keeps `n`.
    pub fn new(n: usize) -> Self {
        Self {
            n,
            threshold: if n == 0 { f32::INFINITY } else { f32::NEG_INFINITY },
            kept: vec![],
        }
    }

    fn better(a: &(f32, u32), b: &(f32, u32)) -> Ordering {
        b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
    }

    /// Takes the scores of items `first..first + scores.len()`, all after those that it took before. A score of −∞ or NaN
    /// is never kept.
    pub fn offer(&mut self, first: u32, scores: &[f32]) {
        for (b, block) in scores.chunks(PANEL).enumerate() {
            let threshold = self.threshold;
            // Most blocks have nothing to offer: one branch for 16 scores.
            if !block.iter().fold(false, |any, s| any | (*s > threshold)) {
                continue;
            }
            for (i, score) in block.iter().enumerate() {
                if *score > self.threshold {
                    // −0 and 0 are equal, and ties go by item.
                    self.kept.push((*score + 0.0, first + (b * PANEL + i) as u32));
                }
            }
            if self.kept.len() >= self.n + self.n.max(128) {
                self.trim();
            }
        }
    }

    /// Drops what is not among the best so far. A later item of the same score as the last one kept comes after it.
    fn trim(&mut self) {
        if self.kept.len() > self.n {
            self.kept.select_nth_unstable_by(self.n, Self::better);
            self.kept.truncate(self.n);
        }
        if self.kept.len() == self.n {
            self.threshold = self.kept.iter().map(|(score, _)| *score).fold(f32::INFINITY, f32::min);
        }
    }

    /// The (score, item) pairs kept, best first.
    pub fn finish(mut self) -> Vec<(f32, u32)> {
        self.trim();
        self.kept.sort_unstable_by(Self::better);
        self.kept
    }
}

/// Sets the scores of `masked` items (ascending) among `first..first + scores.len()` to −∞; gives the masked items after those.
pub fn mask<'a>(first: u32, scores: &mut [f32], masked: &'a [u32]) -> &'a [u32] {
    let end = first as usize + scores.len();
    let within = masked.partition_point(|item| (*item as usize) < end);
    let begin = masked[..within].partition_point(|item| *item < first);
    for item in &masked[begin..within] {
        scores[(*item - first) as usize] = f32::NEG_INFINITY;
    }
    &masked[within..]
}

/// The `n` best items of each user asked for, those masked left out: highest score first, equal scores by item. On the
/// caller's thread alone without a pool. Once `cancel` is set, the remaining users get nothing.
pub fn topk_f32(query: &Query<'_>, pool: Option<&rayon::ThreadPool>, cancel: &AtomicBool) -> Ranking {
    let fma = has_avx2_fma();
    let block = |rows: &[u32]| {
        if cancel.load(Atomic::Relaxed) {
            vec![vec![]; rows.len()]
        } else {
            rank_block(query, rows, fma)
        }
    };
    let ranked: Vec<Vec<Vec<(f32, u32)>>> = match pool {
        Some(pool) if query.rows.len() > USER_BLOCK => {
            pool.install(|| query.rows.par_chunks(USER_BLOCK).map(block).collect())
        }
        _ => query.rows.chunks(USER_BLOCK).map(block).collect(),
    };
    Ranking::concat(ranked.into_iter().flatten())
}

/// The score of a user and an item, as [`topk_f32`] computes it to the bit.
pub fn dot_f32(user: &[f32], item: &[f32]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if has_avx2_fma() {
        // SAFETY: AVX2 and FMA were found.
        return unsafe { avx2::dot(user, item) };
    }
    dot_with::<BASE_FMA>(user, item)
}

#[inline(always)]
fn dot_with<const FMA: bool>(user: &[f32], item: &[f32]) -> f32 {
    let mut sum = 0f32;
    for (u, i) in user.iter().zip(item) {
        // Without the instruction, `mul_add` is a slow function of the C library.
        sum = if FMA { u.mul_add(*i, sum) } else { sum + u * i };
    }
    sum
}

/// Ranks the items for at most [`USER_BLOCK`] users.
fn rank_block(query: &Query<'_>, rows: &[u32], fma: bool) -> Vec<Vec<(f32, u32)>> {
    let (n, items) = (query.items.factor_count, query.items);
    let keep = query.n.min(items.count);
    let mut selectors = vec![Selector::new(keep); rows.len()];
    let mut masked: Vec<&[u32]> = rows
        .iter()
        .map(|row| match query.masked {
            Some((offsets, items)) => &items[offsets[*row as usize]..offsets[*row as usize + 1]],
            None => &[],
        })
        .collect();
    let mut scores = vec![0f32; TILE_USERS * ITEM_BLOCK];
    for first in (0..items.count).step_by(ITEM_BLOCK) {
        let count = ITEM_BLOCK.min(items.count - first);
        let panels = &items.panels[first * n..(first + count).next_multiple_of(PANEL) * n];
        for (tile, users) in rows.chunks(TILE_USERS).enumerate() {
            // A short tile repeats its last user.
            let factors: [&[f32]; TILE_USERS] = std::array::from_fn(|u| {
                let row = users[u.min(users.len() - 1)] as usize;
                &query.users[row * n..(row + 1) * n]
            });
            for (p, panel) in panels.chunks_exact(PANEL * n).enumerate() {
                score_tile(&factors, panel, &mut scores[p * PANEL..], fma);
            }
            for u in 0..users.len() {
                let at = tile * TILE_USERS + u;
                let scores = &mut scores[u * ITEM_BLOCK..u * ITEM_BLOCK + count];
                masked[at] = mask(first as u32, scores, masked[at]);
                selectors[at].offer(first as u32, scores);
            }
        }
    }
    selectors.into_iter().map(Selector::finish).collect()
}

/// The scores of a panel's 16 items for 6 users: those of user `u` from `u · ITEM_BLOCK` on.
fn score_tile(users: &[&[f32]; TILE_USERS], panel: &[f32], scores: &mut [f32], fma: bool) {
    #[cfg(target_arch = "x86_64")]
    if fma {
        // SAFETY: `fma` is true only where AVX2 and FMA were found.
        return unsafe { avx2::score_tile(users, panel, scores) };
    }
    let _ = fma;
    for (u, user) in users.iter().enumerate() {
        let mut sums = [0f32; PANEL];
        for (x, items) in user.iter().zip(panel.chunks_exact(PANEL)) {
            for (sum, item) in sums.iter_mut().zip(items) {
                *sum = if BASE_FMA {
                    x.mul_add(*item, *sum)
                } else {
                    *sum + x * item
                };
            }
        }
        scores[u * ITEM_BLOCK..u * ITEM_BLOCK + PANEL].copy_from_slice(&sums);
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    };

    use super::{ITEM_BLOCK, PANEL, TILE_USERS, dot_with};

    /// # Safety
    /// The machine has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn dot(user: &[f32], item: &[f32]) -> f32 {
        dot_with::<true>(user, item)
    }

    /// # Safety
    /// The machine has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn score_tile(users: &[&[f32]; TILE_USERS], panel: &[f32], scores: &mut [f32]) {
        let n = panel.len() / PANEL;
        assert!(users.iter().all(|u| u.len() >= n) && scores.len() >= (TILE_USERS - 1) * ITEM_BLOCK + PANEL);
        let users: [*const f32; TILE_USERS] = users.map(<[f32]>::as_ptr);
        let mut sums = [[_mm256_setzero_ps(); 2]; TILE_USERS];
        for k in 0..n {
            // SAFETY: `k < n`, and the assertion above.
            unsafe {
                let items = panel.as_ptr().add(k * PANEL);
                let (low, high) = (_mm256_loadu_ps(items), _mm256_loadu_ps(items.add(8)));
                for (user, sum) in users.iter().zip(sums.iter_mut()) {
                    let x = _mm256_broadcast_ss(&*user.add(k));
                    *sum = [_mm256_fmadd_ps(x, low, sum[0]), _mm256_fmadd_ps(x, high, sum[1])];
                }
            }
        }
        for (u, sum) in sums.iter().enumerate() {
            // SAFETY: the assertion above.
            unsafe {
                let to = scores.as_mut_ptr().add(u * ITEM_BLOCK);
                _mm256_storeu_ps(to, sum[0]);
                _mm256_storeu_ps(to.add(8), sum[1]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(count: usize, seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        (0..count)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                ((state >> 40) as f32 / (1u64 << 23) as f32) - 1.0
            })
            .collect()
    }

    /// Each user's best by sorting all scores.
    fn naive(query: &Query<'_>, items: &[f32]) -> Vec<Vec<(f32, u32)>> {
        let n = query.items.factor_count;
        let mut all = vec![];
        for row in query.rows {
            let row = *row as usize;
            let masked = query.masked.map_or(&[][..], |(o, m)| &m[o[row]..o[row + 1]]);
            let mut ranked: Vec<(f32, u32)> = items
                .chunks_exact(n)
                .enumerate()
                .map(|(i, item)| (dot_f32(&query.users[row * n..(row + 1) * n], item), i as u32))
                .filter(|(_, i)| !masked.contains(i))
                .collect();
            ranked.sort_by(Selector::better);
            ranked.truncate(query.n);
            all.push(ranked);
        }
        all
    }

    #[test]
    fn the_same_as_sorting_everything() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        for (n, item_count, user_count) in [(1, 5, 3), (7, 16, 6), (8, 17, 7), (20, 513, 50), (64, 1100, 101)] {
            let (users, items) = (noise(user_count * n, 1), noise(item_count * n, 2));
            let packed = PackedItems::new(&items, n);
            let mut offsets = vec![0];
            let mut masked = vec![];
            for u in 0..user_count {
                masked.extend((0..item_count as u32).filter(|i| (i * 31 + u as u32 * 17).is_multiple_of(5)));
                offsets.push(masked.len());
            }
            let rows: Vec<u32> = (0..user_count as u32).rev().chain([0, 0, 1]).collect();
            for keep in [0, 1, 3, 20, 5000] {
                for masked in [None, Some((&offsets[..], &masked[..]))] {
                    let query = Query {
                        users: &users,
                        rows: &rows,
                        items: &packed,
                        masked,
                        n: keep,
                    };
                    let expected = Ranking::concat(naive(&query, &items));
                    for pool in [None, Some(&pool)] {
                        assert_eq!(
                            topk_f32(&query, pool, &AtomicBool::new(false)),
                            expected,
                            "{n} {item_count} {keep}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn ties_go_by_item() {
        let items = vec![1.0f32; 700];
        let packed = PackedItems::new(&items, 1);
        let query = Query {
            users: &[2.0, -0.0],
            rows: &[0, 1],
            items: &packed,
            masked: Some((&[0, 2, 2], &[0, 2])),
            n: 3,
        };
        let ranking = topk_f32(&query, None, &AtomicBool::new(false));
        assert_eq!(ranking.items, [1, 3, 4, 0, 1, 2]);
        assert_eq!(ranking.offsets, [0, 3, 6]);
    }

    #[test]
    fn the_batch_changes_nothing() {
        let (users, items) = (noise(90 * 33, 5), noise(600 * 33, 6));
        let packed = PackedItems::new(&items, 33);
        let rows: Vec<u32> = (0..90).collect();
        let all = topk_f32(
            &Query {
                users: &users,
                rows: &rows,
                items: &packed,
                masked: None,
                n: 9,
            },
            None,
            &AtomicBool::new(false),
        );
        for row in [0u32, 41, 47, 48, 89] {
            let one = topk_f32(
                &Query {
                    users: &users,
                    rows: &[row],
                    items: &packed,
                    masked: None,
                    n: 9,
                },
                None,
                &AtomicBool::new(false),
            );
            let range = all.offsets[row as usize]..all.offsets[row as usize + 1];
            assert_eq!(
                (&one.items[..], &one.scores[..]),
                (&all.items[range.clone()], &all.scores[range])
            );
        }
    }
}
