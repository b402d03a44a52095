//! `topk.cu` in Rust: the same scores, and what is the best of them. How a card gets there leaves no trace in the result.

use crate::device::driver::Launch;
use crate::device::testing::Reader;

const ITEM_TILE: usize = 128;
const PANEL_ITEMS: usize = 16;

/// Runs the twin of a kernel.
///
/// # Safety
/// The arguments are those of the kernel, their addresses those of whole buffers in the process's memory.
pub(crate) unsafe fn run(launch: &Launch<'_>) -> Result<(), String> {
    let mut args = Reader::new(launch.args);
    // SAFETY: the caller's promise.
    unsafe {
        match launch.kernel {
            "topk_parts" => parts(&mut args, launch),
            "topk_merge" => merge(&mut args, launch.grid.0 as usize),
            other => return Err(format!("no twin of {other}")),
        }
    }
    args.finish()
}

/// A number that is greater the better the candidate is: by score, equal ones by item, the first one best.
fn key_of(score: f32, item: u32) -> u64 {
    let bits = (score + 0.0).to_bits();
    let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(ordered) << 32 | u64::from(!item)
}

/// The greatest keys first, and 0 where there are fewer than places.
fn put_best(mut keys: Vec<u64>, to: &mut [u64]) {
    keys.sort_unstable_by(|a, b| b.cmp(a));
    for (i, place) in to.iter_mut().enumerate() {
        *place = keys.get(i).copied().unwrap_or(0);
    }
}

unsafe fn parts(args: &mut Reader<'_>, launch: &Launch<'_>) {
    let users = args.pointer();
    let rows = args.pointer();
    let row_count = args.u32() as usize;
    let factor_count = args.u32() as usize;
    let panels = args.pointer();
    let item_count = args.u32() as usize;
    let part_items = args.u32() as usize;
    let mask_offsets = args.pointer();
    let masked = args.pointer();
    let keep = args.u32() as usize;
    let capacity = args.u32() as usize;
    debug_assert!(capacity > keep && part_items.is_multiple_of(ITEM_TILE));
    let part_count = launch.grid.1 as usize;
    // SAFETY: the caller's promise: whole panels, and for every row that is asked for its factors and its masks.
    unsafe {
        let keys: &mut [u64] = args.slice_mut(row_count * part_count * keep);
        let rows: &[u32] = Reader::slice_at(rows, row_count);
        let panels: &[f32] = Reader::slice_at(panels, item_count.next_multiple_of(PANEL_ITEMS) * factor_count);
        for (i, of_row) in keys.chunks_exact_mut(part_count * keep).enumerate() {
            let row = rows[i] as usize;
            let user: &[f32] = Reader::slice_at(users + (row * factor_count * 4) as u64, factor_count);
            let masked: &[u32] = if mask_offsets == 0 {
                &[]
            } else {
                let bounds: &[u64] = Reader::slice_at(mask_offsets + row as u64 * 8, 2);
                Reader::slice_at(masked + bounds[0] * 4, (bounds[1] - bounds[0]) as usize)
            };
            for (part, to) in of_row.chunks_exact_mut(keep).enumerate() {
                let of_part = part * part_items..((part + 1) * part_items).min(item_count);
                let candidates = of_part.filter_map(|item| {
                    let factors = panels[item / PANEL_ITEMS * PANEL_ITEMS * factor_count + item % PANEL_ITEMS..]
                        .iter()
                        .step_by(PANEL_ITEMS);
                    let score = user.iter().zip(factors).fold(0f32, |sum, (u, v)| u.mul_add(*v, sum));
                    let passes = score > f32::NEG_INFINITY && masked.binary_search(&(item as u32)).is_err();
                    passes.then(|| key_of(score, item as u32))
                });
                put_best(candidates.collect(), to);
            }
        }
    }
}

unsafe fn merge(args: &mut Reader<'_>, row_count: usize) {
    let parts = args.pointer();
    let part_count = args.u32() as usize;
    let keep = args.u32() as usize;
    // SAFETY: the caller's promise.
    unsafe {
        let parts: &[u64] = Reader::slice_at(parts, row_count * part_count * keep);
        let keys: &mut [u64] = args.slice_mut(row_count * keep);
        for (from, to) in parts.chunks_exact(part_count * keep).zip(keys.chunks_exact_mut(keep)) {
            put_best(from.iter().copied().filter(|key| *key != 0).collect(), to);
        }
    }
}
