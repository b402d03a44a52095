//! Rankings on cards for tests against rankings on threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Catalogue, PackedItems, Query, Ranker, Ranking, topk_f32};
use crate::compute::Compute;
use crate::cpu::has_avx2_fma;
use crate::device::Preference;
use crate::device::testing::{HostDriver, cards, offer_of, twin};

const MEMORY: usize = 1 << 30;

/// Which items users may not get.
#[derive(Debug, Clone, Copy)]
enum Masks {
    None,
    Some,
    All,
}

struct Data {
    users: Vec<f32>,
    items: PackedItems,
    offsets: Vec<usize>,
    masked: Vec<u32>,
    with_masks: bool,
}

impl Data {
    /// Some items are equal to others, some users are all zeros.
    fn new(factors: usize, items: usize, users: usize, masks: Masks) -> Self {
        let mut state = 88_172_645_463_325_252u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        let mut user_factors: Vec<f32> = (0..users * factors).map(|_| next()).collect();
        let mut item_factors: Vec<f32> = (0..items * factors).map(|_| next()).collect();
        for (i, user) in user_factors.chunks_exact_mut(factors).enumerate() {
            if i % 11 == 7 {
                user.fill(if i % 2 == 0 { 0.0 } else { -0.0 });
            }
        }
        for i in (5..items).step_by(3) {
            item_factors.copy_within((i - 5) * factors..(i - 4) * factors, i * factors);
        }
        let (mut offsets, mut masked) = (vec![0], vec![]);
        for user in 0..users {
            masked.extend((0..items as u32).filter(|item| match masks {
                Masks::None => false,
                Masks::Some => (item * 31 + user as u32 * 17) % 5 < 2,
                Masks::All => user % 3 > 0 || *item == 0,
            }));
            offsets.push(masked.len());
        }
        Self {
            users: user_factors,
            items: PackedItems::new(&item_factors, factors),
            offsets,
            masked,
            with_masks: !matches!(masks, Masks::None),
        }
    }

    fn catalogue(&self) -> Catalogue<'_> {
        Catalogue {
            users: &self.users,
            items: &self.items,
            masked: self.with_masks.then_some((&self.offsets[..], &self.masked[..])),
        }
    }

    fn user_count(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Backwards, and some again.
    fn rows(&self) -> Vec<u32> {
        let all = (0..self.user_count() as u32).rev();
        all.chain([0, 0, self.user_count() as u32 - 1]).collect()
    }

    fn on_host(&self, rows: &[u32], n: usize) -> Ranking {
        let query = Query {
            users: &self.users,
            rows,
            items: &self.items,
            masked: self.catalogue().masked,
            n,
        };
        topk_f32(&query, None, &AtomicBool::new(false))
    }

    fn on_card(&self, driver: &Arc<HostDriver>, rows: &[u32], n: usize, limit: usize) -> Found {
        let (pool, cancel, offer) = (pool(), AtomicBool::new(false), offer_of(driver));
        let compute = Compute::with_card(&pool, &cancel, Preference::Cuda, &offer, limit);
        let mut ranker = Ranker::new(self.catalogue(), n, rows.len(), &compute);
        let ranking = ranker.rank(rows);
        // A ranker serves more than once.
        assert_eq!(ranker.rank(rows), ranking);
        Found {
            ranking,
            batch_len: ranker.batch_len(),
            notices: compute.notices(),
            served: compute.was_served(),
        }
    }
}

struct Found {
    ranking: Ranking,
    batch_len: usize,
    notices: Vec<String>,
    served: bool,
}

fn pool() -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap()
}

/// To the bit where the threads multiply and add at once, as a card does.
fn assert_same(card: &Ranking, host: &Ranking, what: &str) {
    if has_avx2_fma() || cfg!(target_arch = "aarch64") {
        assert_eq!(card.offsets, host.offsets, "{what}");
        assert_eq!(card.items, host.items, "{what}");
        let bits = |ranking: &Ranking| ranking.scores.iter().map(|s| s.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(card), bits(host), "{what}");
        return;
    }
    // Items may change places with others that are as good.
    assert_eq!(card.offsets, host.offsets, "{what}");
    for (a, b) in card.scores.iter().zip(&host.scores) {
        assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{what}: {a} {b}");
    }
}

fn check(factors: usize, items: usize, users: usize, n: usize, masks: Masks) {
    let data = Data::new(factors, items, users, masks);
    let rows = data.rows();
    let host = data.on_host(&rows, n);
    let mut first = None;
    for (name, driver) in cards(MEMORY) {
        let what = format!("{name}: {factors} factors, {items} items, {users} users, {n} of them, {masks:?}");
        let found = data.on_card(&driver, &rows, n, MEMORY);
        assert!(found.notices.is_empty(), "{what}: {:?}", found.notices);
        assert_eq!(found.served, n > 0, "{what}");
        assert_same(&found.ranking, &host, &what);
        // The twin and the source agree on any machine.
        assert_eq!(
            found.ranking,
            *first.get_or_insert_with(|| found.ranking.clone()),
            "{what}"
        );
    }
}

#[test]
fn a_card_ranks_as_the_threads_do() {
    let (keeps, masks) = ([20, 1, 128, 3, 0], [Masks::Some, Masks::None, Masks::All]);
    let mut turn = 0;
    for factors in [1, 7, 20, 64, 100] {
        for items in [1, 5, 63, 64, 65, 1100] {
            for users in [1, 3, 101] {
                check(factors, items, users, keeps[turn % 5], masks[turn / 2 % 3]);
                turn += 1;
            }
        }
    }
}

#[test]
fn however_much_is_kept_and_masked() {
    for n in [1, 3, 20, 47, 100, 128] {
        for masks in [Masks::None, Masks::Some, Masks::All] {
            check(8, 1100, 10, n, masks);
        }
    }
}

#[test]
fn blocks_of_every_size_and_several_of_them() {
    // 32, 64, 128 and 256 threads; the last with blocks that are not full.
    for users in [10, 25, 50, 300] {
        check(10, 300, users, 20, Masks::Some);
    }
    // Factors that leave room for small tiles only.
    check(1024, 130, 40, 5, Masks::Some);
    check(511, 260, 70, 128, Masks::None);
}

#[test]
fn better_and_better_items_fill_the_candidates_again_and_again() {
    for (step, n) in [(1.0f32, 20), (-1.0, 20), (0.0, 20), (1.0, 128)] {
        let items: Vec<f32> = (0..1500).map(|i| i as f32 * step).collect();
        let data = Data {
            users: vec![1.0; 30],
            items: PackedItems::new(&items, 1),
            offsets: (0..=30).collect(),
            masked: (0..30).map(|i| i * 50).collect(),
            with_masks: true,
        };
        let host = data.on_host(&data.rows(), n);
        for (name, driver) in cards(MEMORY) {
            let found = data.on_card(&driver, &data.rows(), n, MEMORY);
            assert_same(&found.ranking, &host, &format!("{name}: {step} {n}"));
        }
    }
}

#[test]
fn what_is_no_number_is_never_kept_and_zeros_are_equal() {
    let infinity = f32::INFINITY;
    // Scores of user 0: ∞, −∞, NaN, 0, −0, 1, the least; of user 1, all 0 times those: NaN wherever there is an infinity. Of user 2,
    // products too small for a float, which are −0 for some items and 0 for others.
    // A first factor of 0 puts the others last, where nothing that a card pads with can change the sign of a zero.
    let items = [infinity, -infinity, f32::NAN, 0.0, -0.0, 1e-30, f32::MIN, -1e-30];
    let data = Data {
        users: vec![0.0, 1.0, 0.0, 0.0, 0.0, -1e-30],
        items: PackedItems::new(&items.map(|item| [0.0, item]).concat(), 2),
        offsets: vec![0; 4],
        masked: vec![],
        with_masks: false,
    };
    let rows = [0, 1, 2];
    let host = data.on_host(&rows, 8);
    assert_eq!(host.items, [0, 5, 3, 4, 7, 6, 3, 4, 5, 6, 7, 1, 6, 3, 4, 5, 7]);
    for (name, driver) in cards(MEMORY) {
        assert_same(&data.on_card(&driver, &rows, 8, MEMORY).ranking, &host, name);
    }
}

#[test]
fn users_that_do_not_fit_travel_with_each_batch() {
    let data = Data::new(64, 200, 3000, Masks::Some);
    let rows = data.rows();
    let host = data.on_host(&rows, 20);
    // Users and masks are 1.7 MB, items 53 kB.
    let found = data.on_card(&twin(MEMORY), &rows, 20, 800_000);
    assert!(found.served && found.notices.is_empty(), "{:?}", found.notices);
    assert!(found.batch_len < 600);
    assert_same(&found.ranking, &host, "travelling");
    // A batch in the middle fails: the threads begin anew.
    let driver = twin(MEMORY);
    driver.faults.launch.store(4, Ordering::Relaxed);
    let found = data.on_card(&driver, &rows, 20, 800_000);
    assert!(found.notices.len() == 1 && found.notices[0].contains("the launch failed"));
    assert_same(&found.ranking, &host, "after a failure");
    // Few of many users travel even where all would fit.
    for (name, driver) in cards(MEMORY) {
        let found = data.on_card(&driver, &rows[1000..1040], 20, MEMORY);
        assert!(found.served && found.notices.is_empty(), "{:?}", found.notices);
        assert_same(&found.ranking, &data.on_host(&rows[1000..1040], 20), name);
    }
}

#[test]
fn whatever_fails_the_threads_go_on() {
    let data = Data::new(20, 1100, 30, Masks::Some);
    let rows = data.rows();
    let host = data.on_host(&rows, 10);
    let check = |arm: &dyn Fn(&HostDriver), limit: usize, expected: &str| {
        let driver = twin(MEMORY);
        arm(&driver);
        let found = data.on_card(&driver, &rows, 10, limit);
        assert!(
            found.notices.len() == 1 && found.notices[0].contains(expected),
            "{:?}",
            found.notices
        );
        assert!(found.notices[0].starts_with("ranking runs on the CPU: "));
        assert_eq!(found.batch_len, 2048);
        assert_same(&found.ranking, &host, expected);
    };
    check(
        &|d| d.faults.load.store(1, Ordering::Relaxed),
        MEMORY,
        "cannot be loaded",
    );
    for n in 1..=7 {
        check(
            &|d| d.faults.allocation.store(n, Ordering::Relaxed),
            MEMORY,
            "no memory left",
        );
    }
    // The second launch is the merge of the parts, the third and fourth those of the second ranking.
    for n in 1..=4 {
        check(
            &|d| d.faults.launch.store(n, Ordering::Relaxed),
            MEMORY,
            "the launch failed",
        );
    }
    check(&|_| (), 10_000, "leave no room for users");
}

#[test]
fn more_items_than_a_card_keeps_are_declined() {
    let data = Data::new(3, 200, 5, Masks::None);
    let found = data.on_card(&twin(MEMORY), &data.rows(), 129, MEMORY);
    assert!(!found.served && found.notices[0].contains("129 items are asked for each user"));
    assert_same(&found.ranking, &data.on_host(&data.rows(), 129), "many");
    // All of a short catalogue are not many.
    let data = Data::new(3, 100, 5, Masks::None);
    let found = data.on_card(&twin(MEMORY), &data.rows(), 5000, MEMORY);
    assert!(found.served && found.notices.is_empty());
    assert_same(&found.ranking, &data.on_host(&data.rows(), 5000), "all");
}

#[test]
fn users_get_nothing_once_it_is_cancelled() {
    let data = Data::new(5, 50, 9, Masks::None);
    let (pool, cancel, offer) = (pool(), AtomicBool::new(false), offer_of(&twin(MEMORY)));
    let compute = Compute::with_card(&pool, &cancel, Preference::Cuda, &offer, MEMORY);
    let mut ranker = Ranker::new(data.catalogue(), 4, 9, &compute);
    assert!(ranker.batch_len() > 100);
    assert_eq!(ranker.rank(&[]), Ranking::concat([]));
    cancel.store(true, Ordering::Relaxed);
    assert_eq!(ranker.rank(&[1, 2]).offsets, [0, 0, 0]);
}

#[test]
fn without_a_card_the_threads_rank() {
    let data = Data::new(5, 50, 9, Masks::Some);
    let (pool, cancel) = (pool(), AtomicBool::new(false));
    let compute = Compute::cpu(&pool, &cancel);
    let mut ranker = Ranker::new(data.catalogue(), 4, 9, &compute);
    assert_eq!(ranker.rank(&[3, 8]), data.on_host(&[3, 8], 4));
    assert_eq!(ranker.batch_len(), 2048);
}
