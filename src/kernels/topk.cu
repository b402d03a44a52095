// The best items of users, by the product of their factors; the matrix of scores never exists. A block takes a tile of users, whose
// factors stay in shared memory, and walks over the items tile by tile, factor slice by factor slice; a thread has the sums of 8 users
// and 8 items in registers. A score is one chain of fused multiply-adds over the factors in ascending order, as on the CPU: equal to the
// bit, and so are rankings. What passes a user's threshold goes to that user's candidates; when those are full, a warp sorts them, keeps
// the best and raises the threshold. Candidates have a total order, so it does not matter in which order they come.

// Items of a tile: 16 threads with 8 each.
#define ITEM_TILE 128
// Items of a panel, which lie factor by factor: as PackedItems has them.
#define PANEL_ITEMS 16
// Users and items of a thread.
#define THREAD_USERS 8
#define THREAD_ITEMS 8
// The largest block; with 8 users for each 16 threads a tile has half as many users as threads, and a slice a sixteenth as many factors.
#define MAX_THREADS 256
// Factors are padded with zeros to a multiple of this, as far as the product is unrolled.
#define FACTOR_STEP 2
// Bytes of shared memory for each user of a tile besides factors and candidates: threshold, count, two tiles' masks.
#define USER_BYTES 40
#define MERGE_THREADS 128

// A candidate is a number: the greater, the better. Scores in their order, then items, smaller ones first; 0 is none. -0 counts as 0.
__device__ __forceinline__ uint64_t key_of(float score, uint32_t item) {
    const uint32_t bits = __float_as_uint(__fadd_rn(score, 0.0f));
    const uint32_t ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return (uint64_t)ordered << 32 | (uint32_t)~item;
}

__device__ __forceinline__ float score_of(uint64_t key) {
    const uint32_t ordered = (uint32_t)(key >> 32);
    return __uint_as_float(ordered & 0x80000000u ? ordered ^ 0x80000000u : ~ordered);
}

__device__ __forceinline__ void put_greater_first(uint64_t* keys, uint32_t low, uint32_t high) {
    const uint64_t a = keys[low], b = keys[high];
    if (a < b) {
        keys[low] = b;
        keys[high] = a;
    }
}

// Sorts keys in shared memory, the greatest first, by one warp. All exchanges of this bitonic network put the greater one first, so
// that places from `count` to the next power of two, were they there and least, would never change: they are left out.
__device__ __noinline__ void sort_by_warp(uint64_t* keys, uint32_t count, uint32_t lane) {
    for (uint32_t half = 1; half < count; half *= 2) {
        // Sorted runs of `half` become runs of twice that: the second is read backwards.
        const uint32_t pairs = (count + 2 * half - 1) / (2 * half) * half;
#pragma unroll 1
        for (uint32_t i = lane; i < pairs; i += 32) {
            const uint32_t low = (i & ~(half - 1)) * 2 | (i & (half - 1)), high = low ^ (2 * half - 1);
            if (high < count) put_greater_first(keys, low, high);
        }
        __syncwarp();
        for (uint32_t distance = half / 2; distance > 0; distance /= 2) {
#pragma unroll 1
            for (uint32_t i = lane; i < pairs; i += 32) {
                const uint32_t low = (i & ~(distance - 1)) * 2 | (i & (distance - 1)), high = low + distance;
                if (high < count) put_greater_first(keys, low, high);
            }
            __syncwarp();
        }
    }
}

// Which of a tile's items a user may not get, a bit each: those of the user's ascending list, and those beyond the end. Moves the list's
// begin behind the tile.
__device__ __forceinline__ const uint32_t* mark(uint32_t* words, const uint32_t* next, const uint32_t* end, uint32_t first,
                                                uint32_t item_end) {
    for (uint32_t word = 0; word < ITEM_TILE / 32; word++) {
        const uint32_t begin = first + 32 * word;
        words[word] = begin >= item_end ? FULL_WARP : item_end - begin < 32 ? FULL_WARP << (item_end - begin) : 0;
    }
#pragma unroll 1
    for (; next < end; next++) {
        const uint32_t place = *next - first;
        if (place >= ITEM_TILE) break;
        words[place / 32] |= 1u << (place % 32);
    }
    return next;
}

// A thread has two times 4 neighbouring items, half a tile apart.
__device__ __forceinline__ uint32_t item_of(uint32_t first, uint32_t j) { return first + j % 4 + j / 4 * (ITEM_TILE / 2); }

// Keeps the candidates of `bits`, by their scores and the first one's item, as far as there is room; gives back the others.
__device__ __forceinline__ uint32_t append(uint64_t* candidates, uint32_t* count, uint32_t capacity, uint32_t bits,
                                           const float (&scores)[THREAD_ITEMS], uint32_t item) {
    uint32_t at = atomicAdd(count, (uint32_t)__popc(bits));
#pragma unroll
    for (uint32_t j = 0; j < THREAD_ITEMS; j++)
        if (bits >> j & 1) {
            if (at < capacity) {
                candidates[at] = key_of(scores[j], item_of(item, j));
                bits ^= 1u << j;
            }
            at++;
        }
    return bits;
}

// The best `keep` items of each user among part blockIdx.y of the items (part_items each, whole tiles), as keys, the best first, 0 where
// there are fewer: those of rows[i] at (i * parts + part) * keep. `capacity` > `keep` candidates a user.
extern "C" __global__ void __launch_bounds__(MAX_THREADS, 2)
    topk_parts(const float* users, const uint32_t* rows, uint32_t row_count, uint32_t factor_count, const float* panels,
               uint32_t item_count, uint32_t part_items, const uint64_t* mask_offsets, const uint32_t* masked, uint32_t keep,
               uint32_t capacity, uint64_t* keys) {
    DYNAMIC_SHARED(arena);
    const uint32_t threads = blockDim.x, thread = threadIdx.x, lane = thread % 32;
    const uint32_t tile_users = threads / 16 * THREAD_USERS, depth = threads / 16;
    const uint32_t padded = (factor_count + FACTOR_STEP - 1) / FACTOR_STEP * FACTOR_STEP;
    const uint32_t slice_floats = depth * ITEM_TILE;
    uint64_t* candidates = (uint64_t*)arena;                               // tile_users x capacity
    float* factors = (float*)(candidates + (size_t)tile_users * capacity);  // padded x tile_users
    float* slices = factors + (size_t)padded * tile_users;                 // two of depth x ITEM_TILE
    float* threshold = slices + 2 * slice_floats;
    uint32_t* count = (uint32_t*)(threshold + tile_users);
    uint32_t* forbidden = count + tile_users;                              // two of tile_users x ITEM_TILE bits

    const uint32_t first_user = blockIdx.x * tile_users;
    const uint32_t begin = blockIdx.y * part_items;
    const uint32_t end = item_count - begin < part_items ? item_count : begin + part_items;
    const uint32_t tile_count = (end - begin + ITEM_TILE - 1) / ITEM_TILE, slice_count = (padded + depth - 1) / depth;
    const float infinity = __uint_as_float(0x7F800000u);

    // The tile's users, factor by factor: neighbouring threads have neighbouring users.
    {
        const uint32_t user = thread % tile_users;
        const bool there = user < row_count - first_user;
        const float* mine = users + (size_t)(there ? rows[first_user + user] : 0) * factor_count;
#pragma unroll 4
        for (uint32_t k = thread / tile_users; k < padded; k += threads / tile_users)
            factors[(size_t)k * tile_users + user] = there && k < factor_count ? mine[k] : 0.0f;
    }
    // One thread a user walks through its mask. Nothing passes the threshold of a user that is not there.
    const uint32_t* next_masked = nullptr;
    const uint32_t* masked_end = nullptr;
    if (thread < tile_users) {
        const bool there = thread < row_count - first_user;
        threshold[thread] = there ? -infinity : infinity;
        count[thread] = 0;
        if (there && mask_offsets != nullptr) {
            const uint32_t row = rows[first_user + thread];
            next_masked = masked + mask_offsets[row];
            masked_end = masked + mask_offsets[row + 1];
            // The first of this part.
            uint64_t left = masked_end > next_masked ? masked_end - next_masked : 0;
            while (left > 0) {
                const uint64_t half = left / 2;
                if (next_masked[half] < begin) {
                    next_masked += half + 1;
                    left -= half + 1;
                } else {
                    left = half;
                }
            }
        }
        next_masked = mark(forbidden + thread * (ITEM_TILE / 32), next_masked, masked_end, begin, end);
    }

    // Each thread brings two times 16 bytes of a slice; a warp 512 bytes of one factor, 64 from each of 8 panels.
    const uint32_t panel_count = (item_count + PANEL_ITEMS - 1) / PANEL_ITEMS;
    const uint32_t bring_panel = lane / 4, bring_part = lane % 4, bring_factor = thread / 32, bring_step = threads / 32;
    float4 brought[2];
    auto bring = [&](uint32_t first_item, uint32_t first_factor) {
        const uint32_t panel = first_item / PANEL_ITEMS + bring_panel;
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) {
            const uint32_t k = first_factor + bring_factor + i * bring_step;
            brought[i] = make_float4(0, 0, 0, 0);
            if (panel < panel_count && k < factor_count)
                brought[i] = ((const float4*)panels)[((size_t)panel * factor_count + k) * (PANEL_ITEMS / 4) + bring_part];
        }
    };
    auto put = [&](uint32_t slice) {
        float4* to = (float4*)(slices + slice * slice_floats);
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) to[(bring_factor + i * bring_step) * (ITEM_TILE / 4) + lane] = brought[i];
    };

    // This thread's users are 8 neighbours; its items two times 4, so that 16 threads read 256 bytes in a row.
    const uint32_t my_user = thread / 16 * THREAD_USERS, my_item = thread % 16 * 4;
    float sums[THREAD_USERS][THREAD_ITEMS];
    bring(begin, 0);
    put(0);
    __syncthreads();
    uint32_t buffer = 0;
    for (uint32_t tile = 0; tile < tile_count; tile++) {
        const uint32_t first_item = begin + tile * ITEM_TILE;
#pragma unroll
        for (uint32_t i = 0; i < THREAD_USERS; i++)
#pragma unroll
            for (uint32_t j = 0; j < THREAD_ITEMS; j++) sums[i][j] = 0.0f;
        for (uint32_t slice = 0; slice < slice_count; slice++) {
            const bool is_last = slice + 1 == slice_count;
            // The next slice, perhaps the first of the next tile, travels while this one is multiplied.
            const bool has_next = !is_last || tile + 1 < tile_count;
            if (has_next) bring(is_last ? first_item + ITEM_TILE : first_item, is_last ? 0 : (slice + 1) * depth);
            {
                const float4* item = (const float4*)(slices + buffer * slice_floats + my_item);
                const float4* user = (const float4*)(factors + (size_t)slice * depth * tile_users + my_user);
                const uint32_t factors_here = padded - slice * depth < depth ? padded - slice * depth : depth;
                for (uint32_t k = 0; k < factors_here; k += 2)
#pragma unroll
                    for (uint32_t step = 0; step < 2; step++) {
                        const float4 u0 = user[0], u1 = user[1], i0 = item[0], i1 = item[ITEM_TILE / 8];
                        const float u[THREAD_USERS] = {u0.x, u0.y, u0.z, u0.w, u1.x, u1.y, u1.z, u1.w};
                        const float v[THREAD_ITEMS] = {i0.x, i0.y, i0.z, i0.w, i1.x, i1.y, i1.z, i1.w};
#pragma unroll
                        for (uint32_t i = 0; i < THREAD_USERS; i++)
#pragma unroll
                            for (uint32_t j = 0; j < THREAD_ITEMS; j++) sums[i][j] = fmaf(u[i], v[j], sums[i][j]);
                        user += tile_users / 4;
                        item += ITEM_TILE / 4;
                    }
            }
            buffer ^= 1;
            if (has_next) put(buffer);
            if (!is_last) __syncthreads();
        }

        // What passes, one byte of bits for each of this thread's users. Whatever is kept so far is an earlier item, so equal scores
        // come after it; NaN does not pass.
        uint32_t pending[2] = {0, 0};
        const uint32_t* words = forbidden + (tile & 1) * tile_users * (ITEM_TILE / 32) + my_item / 32;
#pragma unroll
        for (uint32_t i = 0; i < THREAD_USERS; i++) {
            const uint32_t user = my_user + i;
            const float least = threshold[user];
            uint32_t bits = 0;
#pragma unroll
            for (uint32_t j = 0; j < THREAD_ITEMS; j++) bits |= (uint32_t)(sums[i][j] > least) << j;
            if (bits) {
                const uint32_t low = words[user * (ITEM_TILE / 32)], high = words[user * (ITEM_TILE / 32) + ITEM_TILE / 64];
                bits &= ~((low >> my_item % 32 & 15) | (high >> my_item % 32 & 15) << 4);
            }
            pending[i / 4] |= bits << i % 4 * 8;
        }
        if (thread < tile_users && tile + 1 < tile_count)
            next_masked = mark(forbidden + (((tile + 1) & 1) * tile_users + thread) * (ITEM_TILE / 32), next_masked, masked_end,
                               first_item + ITEM_TILE, end);
        for (;;) {
            if (pending[0] | pending[1]) {
#pragma unroll
                for (uint32_t i = 0; i < THREAD_USERS; i++) {
                    uint32_t bits = pending[i / 4] >> i % 4 * 8 & 0xFF;
                    if (bits == 0) continue;
                    uint64_t* theirs = candidates + (size_t)(my_user + i) * capacity;
                    // After a sort the threshold is another. Of this tile's items it may have kept a later one of the same score.
                    const float least = threshold[my_user + i];
#pragma unroll
                    for (uint32_t j = 0; j < THREAD_ITEMS; j++) bits &= ~((uint32_t)(sums[i][j] < least) << j);
                    pending[i / 4] &= ~(0xFFu << i % 4 * 8);
                    if (bits)
                        pending[i / 4] |= append(theirs, count + my_user + i, capacity, bits, sums[i], first_item + my_item) << i % 4 * 8;
                }
            }
            // This is the barrier between slices as well.
            if (!__syncthreads_or((pending[0] | pending[1]) != 0)) break;
            // Whoever is half full is sorted along, while other warps sort anyway.
            for (uint32_t user = thread / 32; user < tile_users; user += threads / 32) {
                if (count[user] <= (keep + capacity) / 2) continue;
                uint64_t* theirs = candidates + (size_t)user * capacity;
                sort_by_warp(theirs, min(count[user], capacity), lane);
                __syncwarp();
                if (lane == 0) {
                    count[user] = keep;
                    threshold[user] = score_of(theirs[keep - 1]);
                }
            }
            __syncthreads();
        }
    }

    for (uint32_t user = thread / 32; user < tile_users; user += threads / 32) {
        if (user >= row_count - first_user) break;
        uint64_t* mine = candidates + (size_t)user * capacity;
        const uint32_t found = min(count[user], capacity);
        sort_by_warp(mine, found, lane);
        __syncwarp();
        uint64_t* to = keys + ((size_t)(first_user + user) * gridDim.y + blockIdx.y) * keep;
#pragma unroll 1
        for (uint32_t i = lane; i < keep; i += 32) to[i] = i < found ? mine[i] : 0;
    }
}

// The best `keep` of a user's parts, each of them sorted and filled up with 0: a block a user. A key's place is the number of greater
// ones, and no two keys are equal.
extern "C" __global__ void __launch_bounds__(MERGE_THREADS)
    topk_merge(const uint64_t* parts, uint32_t part_count, uint32_t keep, uint64_t* keys) {
    DYNAMIC_SHARED(arena);
    uint64_t* all = (uint64_t*)arena;  // part_count x keep
    uint32_t* found = (uint32_t*)(all + (size_t)part_count * keep);
    const uint64_t* from = parts + (size_t)blockIdx.x * part_count * keep;
    uint64_t* to = keys + (size_t)blockIdx.x * keep;
    for (uint32_t i = threadIdx.x; i < part_count * keep; i += MERGE_THREADS) all[i] = from[i];
    if (threadIdx.x == 0) *found = 0;
    __syncthreads();
    uint32_t mine = 0;
    for (uint32_t i = threadIdx.x; i < part_count * keep; i += MERGE_THREADS) {
        const uint64_t key = all[i];
        if (key == 0) continue;
        mine++;
        uint32_t place = i % keep;
        for (uint32_t part = 0; part < part_count && place < keep; part++) {
            if (part == i / keep) continue;
            const uint64_t* other = all + (size_t)part * keep;
            uint32_t low = 0, high = keep;
            while (low < high) {
                const uint32_t middle = (low + high) / 2;
                if (other[middle] > key) low = middle + 1;
                else high = middle;
            }
            place += low;
        }
        if (place < keep) to[place] = key;
    }
    if (mine) atomicAdd(found, mine);
    __syncthreads();
    for (uint32_t i = *found + threadIdx.x; i < keep; i += MERGE_THREADS) to[i] = 0;
}
