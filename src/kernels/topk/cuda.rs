//! Top-k on a card: the host's side of `topk.cu`.
//!
//! The items go there once. So do users and masks where most of the users are asked for and they fit; else those of the users asked for
//! travel with each batch. Results are the same to the bit however the work is cut.

use super::{Catalogue, PANEL, Ranking};
use crate::compute::{Compute, Declined};
use crate::device::driver::{Arg, Card, DriverError, Launch};
use crate::device::memory::{Buffer, Queue};
use crate::device::sources::Source;

const ITEM_TILE: usize = 128;
const THREAD_USERS: usize = 8;
const THREAD_ITEMS: usize = 8;
const MAX_THREADS: usize = 256;
const FACTOR_STEP: usize = 2;
const USER_BYTES: usize = 40;
const MERGE_THREADS: usize = 128;

/// Items that a user gets at most: more candidates would leave room for too few users in a block.
const MAX_KEEP: usize = 128;
/// Parts that the items are cut into where there are few users.
const MAX_PARTS: usize = 64;
/// Candidates that a user may have at a time, of which a choice is made. A little less than a power of two leaves room for the rest.
const CAPACITIES: [usize; 6] = [48, 60, 92, 124, 188, 252];

/// `topk.cu`.
pub static SOURCE: Source = Source {
    name: "topk",
    text: include_str!("../topk.cu"),
    kernels: &["topk_parts", "topk_merge"],
    ptx: include_str!("../topk.ptx"),
    constants: &[
        ("ITEM_TILE", ITEM_TILE as f64),
        ("PANEL_ITEMS", PANEL as f64),
        ("THREAD_USERS", THREAD_USERS as f64),
        ("THREAD_ITEMS", THREAD_ITEMS as f64),
        ("MAX_THREADS", MAX_THREADS as f64),
        ("FACTOR_STEP", FACTOR_STEP as f64),
        ("USER_BYTES", USER_BYTES as f64),
        ("MERGE_THREADS", MERGE_THREADS as f64),
    ],
};

/// A catalogue on a card.
#[derive(Debug)]
pub(super) struct OnCard {
    factor_count: usize,
    item_count: usize,
    user_count: usize,
    keep: usize,
    /// Users of a launch at most.
    batch_len: usize,
    /// Bytes that the keys of a launch may take, and users and masks that travel with it.
    batch_bytes: usize,
    panels: Buffer<f32>,
    /// All users with their masks, if they are here.
    residents: Option<Users>,
    /// Dropped last: it waits for the work.
    queue: Queue,
}

/// Users on the card.
#[derive(Debug)]
struct Users {
    factors: Buffer<f32>,
    /// Offsets and items.
    masks: Option<(Buffer<u64>, Buffer<u32>)>,
}

/// How a block works.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tile {
    threads: usize,
    users: usize,
    /// Candidates that each user may have.
    capacity: usize,
    shared_bytes: usize,
    /// Blocks that a multiprocessor has room for.
    at_once: usize,
}

impl Tile {
    /// The best block for so many users; none where not even the smallest has room.
    fn of(card: &Card, factor_count: usize, keep: usize, row_count: usize) -> Option<Self> {
        let mut best: Option<(f64, Self)> = None;
        let enough = |capacity: &&usize| **capacity >= keep + 16.max(keep / 2);
        for threads in [MAX_THREADS, 128, 64, 32] {
            let users = threads / 16 * THREAD_USERS;
            // Half a tile of nobody: the next smaller one serves as well.
            if threads > 32 && row_count <= users / 2 {
                continue;
            }
            for capacity in CAPACITIES.iter().filter(enough).take(2).copied() {
                let of_user = 8 * capacity + 4 * factor_count.next_multiple_of(FACTOR_STEP) + USER_BYTES;
                let shared_bytes = users * of_user + 2 * (threads / 16) * ITEM_TILE * 4;
                if shared_bytes > card.shared_bytes as usize {
                    continue;
                }
                // Each block costs 1 KiB besides, and a thread 128 of 65,536 registers.
                let at_once = ((card.shared_bytes as usize + 1024) / (shared_bytes + 1024)).clamp(1, 512 / threads);
                // More threads hide more waiting; larger tiles read the items less often.
                let worth = (at_once * threads * users) as f64 / (users + 32) as f64;
                if best.is_none_or(|(most, _)| worth >= most) {
                    let tile = Self {
                        threads,
                        users,
                        capacity,
                        shared_bytes,
                        at_once,
                    };
                    best = Some((worth, tile));
                }
            }
        }
        best.map(|(_, tile)| tile)
    }

    /// Blocks that run at a time.
    fn slots(&self, card: &Card) -> usize {
        self.at_once * card.multiprocessor_count.max(1) as usize
    }
}

impl OnCard {
    /// Uploads items, and users if so many of them will be asked for that it is worth it.
    ///
    /// # Errors
    /// The card declines.
    pub(super) fn new(
        catalogue: &Catalogue<'_>,
        keep: usize,
        expected_users: usize,
        queue: Queue,
    ) -> Result<Self, Declined> {
        let items = catalogue.items;
        if keep > MAX_KEEP {
            return Err(Declined::Unsupported(format!(
                "{keep} items are asked for each user, and the card keeps at most {MAX_KEEP}"
            )));
        }
        if items.count > i32::MAX as usize {
            return Err(Declined::Unsupported(format!(
                "{} items are more than the card can count",
                items.count
            )));
        }
        let Some(tile) = Tile::of(queue.card(), items.factor_count, keep, usize::MAX) else {
            return Err(Declined::Unsupported(format!(
                "the factors of a few users, {} each, do not fit the card's shared memory",
                items.factor_count
            )));
        };
        // Buffers may be an eighth larger than what is in them.
        let of_items = items.panels.len() * 4 / 8 * 9;
        let left = queue.bytes_left().saturating_sub(of_items);
        // A whole number of blocks for each multiprocessor; keys, and those of the parts.
        let batch_len = (left / 4 / (4 + 16 * keep)).min(tile.slots(queue.card()) * tile.users);
        if batch_len == 0 {
            return Err(Declined::Unsupported(format!(
                "the items' factors, {:.1} MB, leave no room for users in the card's memory",
                of_items as f64 / 1e6
            )));
        }
        let (user_count, of_users) = user_bytes(catalogue)?;
        queue.load(&SOURCE)?;
        let panels = queue.uploaded(&items.panels)?;
        let residents = if of_users / 8 * 9 <= left / 2 && expected_users >= user_count / 2 {
            let masks = match catalogue.masked {
                Some((offsets, masked)) => {
                    let offsets: Vec<u64> = offsets.iter().map(|offset| *offset as u64).collect();
                    Some((queue.uploaded(&offsets)?, queue.uploaded(masked)?))
                }
                None => None,
            };
            Some(Users {
                factors: queue.uploaded(catalogue.users)?,
                masks,
            })
        } else {
            None
        };
        Ok(Self {
            factor_count: items.factor_count,
            item_count: items.count,
            user_count,
            keep,
            batch_len,
            batch_bytes: left / 4,
            panels,
            residents,
            queue,
        })
    }

    /// Users of a launch.
    pub(super) fn batch_len(&self) -> usize {
        self.batch_len
    }

    /// The best items of these rows of the catalogue, which is the one that [`OnCard::new`] was given. Once the work is cancelled, the
    /// remaining users get nothing.
    ///
    /// # Errors
    /// The card failed.
    pub(super) fn rank(
        &self,
        catalogue: &Catalogue<'_>,
        rows: &[u32],
        compute: &Compute<'_>,
    ) -> Result<Ranking, Declined> {
        if rows.iter().any(|row| *row as usize >= self.user_count) {
            return Err(Declined::Unsupported("a user is asked for who is not there".into()));
        }
        let mut ranking = Ranking::concat([]);
        ranking.items.reserve(rows.len() * self.keep);
        ranking.scores.reserve(rows.len() * self.keep);
        let mut rest = rows;
        while !rest.is_empty() && !compute.is_cancelled() {
            let keys = match &self.residents {
                Some(users) => {
                    let (batch, others) = rest.split_at(self.batch_len.min(rest.len()));
                    rest = others;
                    self.launch(users, batch)?
                }
                None => {
                    let (batch, others) = rest.split_at(self.travellers(catalogue, rest));
                    rest = others;
                    let users = self.bring(catalogue, batch)?;
                    self.launch(&users, &(0..batch.len() as u32).collect::<Vec<_>>())?
                }
            };
            for of_user in keys.chunks_exact(self.keep) {
                for key in of_user.iter().take_while(|key| **key != 0) {
                    let (score, item) = decode(*key);
                    ranking.items.push(item);
                    ranking.scores.push(score);
                }
                ranking.offsets.push(ranking.items.len());
            }
        }
        ranking.offsets.resize(rows.len() + 1, ranking.items.len());
        Ok(ranking)
    }

    /// How many of these users travel in the next batch: at least one.
    fn travellers(&self, catalogue: &Catalogue<'_>, rows: &[u32]) -> usize {
        let mut bytes = 0;
        let fit = rows.iter().take(self.batch_len).take_while(|row| {
            bytes += 4 * self.factor_count + 8 + 4 * masked_of(catalogue, **row).len();
            bytes / 8 * 9 <= self.batch_bytes
        });
        fit.count().max(1)
    }

    /// Uploads these users, one after another.
    fn bring(&self, catalogue: &Catalogue<'_>, rows: &[u32]) -> Result<Users, DriverError> {
        let n = self.factor_count;
        let mut factors = Vec::with_capacity(rows.len() * n);
        for row in rows {
            factors.extend_from_slice(&catalogue.users[*row as usize * n..(*row as usize + 1) * n]);
        }
        let masks = match catalogue.masked {
            Some(_) => {
                let (mut offsets, mut masked) = (vec![0u64], vec![]);
                for row in rows {
                    masked.extend_from_slice(masked_of(catalogue, *row));
                    offsets.push(masked.len() as u64);
                }
                Some((self.queue.uploaded(&offsets)?, self.queue.uploaded(&masked)?))
            }
            None => None,
        };
        Ok(Users {
            factors: self.queue.uploaded(&factors)?,
            masks,
        })
    }

    /// The keys of these rows of `users`, `keep` each.
    fn launch(&self, users: &Users, rows: &[u32]) -> Result<Vec<u64>, Declined> {
        let card = self.queue.card();
        let tile = Tile::of(card, self.factor_count, self.keep, rows.len())
            .ok_or_else(|| Declined::Unsupported("the users' factors do not fit the card's shared memory".into()))?;
        let (user_tiles, item_tiles) = (rows.len().div_ceil(tile.users), self.item_count.div_ceil(ITEM_TILE));
        // Few users leave multiprocessors idle, unless several blocks share a user's items.
        let in_memory = self.batch_bytes / (rows.len() * self.keep * 8);
        let parts = (tile.slots(card) / user_tiles)
            .min(item_tiles / 2)
            .min(in_memory)
            .clamp(1, MAX_PARTS);
        let part_tiles = item_tiles.div_ceil(parts);
        let parts = item_tiles.div_ceil(part_tiles);
        let on_card = self.queue.uploaded(rows)?;
        let mut keys = self.queue.buffer::<u64>(rows.len() * parts * self.keep)?;
        let (offsets, masked) = match &users.masks {
            Some((offsets, masked)) => (offsets.arg(), masked.arg()),
            None => (Arg::Pointer(0), Arg::Pointer(0)),
        };
        // SAFETY: the parameters of topk_parts: rows are rows of `users`, whose offsets end within `masked`; every part has items; there
        // are `keep` keys for each part of each row, and as many bytes of shared memory as Tile counts.
        unsafe {
            self.queue.launch(&Launch {
                source: &SOURCE,
                kernel: "topk_parts",
                grid: (user_tiles as u32, parts as u32),
                threads: tile.threads as u32,
                shared_bytes: tile.shared_bytes as u32,
                args: &[
                    users.factors.arg(),
                    on_card.arg(),
                    Arg::U32(rows.len() as u32),
                    Arg::U32(self.factor_count as u32),
                    self.panels.arg(),
                    Arg::U32(self.item_count as u32),
                    Arg::U32((part_tiles * ITEM_TILE) as u32),
                    offsets,
                    masked,
                    Arg::U32(self.keep as u32),
                    Arg::U32(tile.capacity as u32),
                    keys.arg(),
                ],
            })?;
        }
        if parts > 1 {
            let merged = self.queue.buffer::<u64>(rows.len() * self.keep)?;
            // SAFETY: the parameters of topk_merge: `keep` keys for each part of each row, `keep` for each row, and shared memory for one
            // row's parts and a number.
            unsafe {
                self.queue.launch(&Launch {
                    source: &SOURCE,
                    kernel: "topk_merge",
                    grid: (rows.len() as u32, 1),
                    threads: MERGE_THREADS as u32,
                    shared_bytes: (parts * self.keep * 8 + 16) as u32,
                    args: &[
                        keys.arg(),
                        Arg::U32(parts as u32),
                        Arg::U32(self.keep as u32),
                        merged.arg(),
                    ],
                })?;
            }
            keys = merged;
        }
        let mut found = vec![0u64; rows.len() * self.keep];
        self.queue.download(&keys, 0, &mut found)?;
        Ok(found)
    }
}

/// The items that a user may not get.
fn masked_of<'a>(catalogue: &Catalogue<'a>, row: u32) -> &'a [u32] {
    match catalogue.masked {
        Some((offsets, items)) => &items[offsets[row as usize]..offsets[row as usize + 1]],
        None => &[],
    }
}

/// How many users there are, and the bytes of their factors and masks.
fn user_bytes(catalogue: &Catalogue<'_>) -> Result<(usize, usize), Declined> {
    let with_factors = catalogue.users.len() / catalogue.items.factor_count;
    let Some((offsets, masked)) = catalogue.masked else {
        return Ok((with_factors, catalogue.users.len() * 4));
    };
    // A kernel would read whatever lies there.
    if offsets.windows(2).any(|o| o[0] > o[1]) || offsets.last().is_some_and(|end| *end > masked.len()) {
        return Err(Declined::Unsupported(
            "the offsets of the users' masks do not fit".into(),
        ));
    }
    let user_count = with_factors.min(offsets.len().saturating_sub(1));
    Ok((
        user_count,
        catalogue.users.len() * 4 + offsets.len() * 8 + masked.len() * 4,
    ))
}

/// The score and the item of a key of `topk.cu`.
fn decode(key: u64) -> (f32, u32) {
    let ordered = (key >> 32) as u32;
    let bits = if ordered >> 31 == 1 {
        ordered ^ (1 << 31)
    } else {
        !ordered
    };
    (f32::from_bits(bits), !(key as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(shared_kib: u32) -> Card {
        Card {
            ordinal: 0,
            name: String::new(),
            architecture: 80,
            memory_bytes: 1 << 30,
            multiprocessor_count: 100,
            shared_bytes: shared_kib << 10,
            memory_bytes_per_second: 0.0,
        }
    }

    #[test]
    fn blocks_fill_the_card_and_fit() {
        let h100 = |factors, keep, rows| Tile::of(&card(227), factors, keep, rows).unwrap();
        let a100 = |factors, keep, rows| Tile::of(&card(163), factors, keep, rows).unwrap();
        // Two blocks of 128 users, three of 64.
        let common = h100(64, 20, 10_000);
        assert_eq!((common.users, common.capacity, common.at_once), (128, 60, 2));
        let wider = h100(128, 20, 10_000);
        assert_eq!((wider.users, wider.at_once), (64, 3));
        let smaller = a100(64, 20, 10_000);
        assert_eq!((smaller.users, smaller.capacity, smaller.at_once), (64, 48, 3));
        // Few users need no large tile.
        assert_eq!(h100(64, 20, 1).threads, 32);
        assert_eq!(h100(64, 20, 17).threads, 64);
        for factors in [1, 2, 64, 100, 256, 512, 1024] {
            for keep in 1..=MAX_KEEP {
                for rows in [1, 40, 10_000] {
                    for (card, tile) in [(227, h100(factors, keep, rows)), (163, a100(factors, keep, rows))] {
                        assert!(tile.shared_bytes <= card << 10 && tile.capacity > keep && tile.at_once > 0);
                        assert!(tile.users / 2 < rows || tile.threads == 32);
                    }
                }
            }
        }
        assert_eq!(Tile::of(&card(48), 1024, 20, 10_000), None);
    }
}
