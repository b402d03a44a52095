// One half-sweep of implicit alternating least squares (see factor.rs): a block of threads solves one row.
//
// A block gathers the factors of its row's entries into shared memory, a panel of 16 or 32 entries at a time, and adds their products to
// the lower triangle of A. Each thread holds a tile of 8 × 8 of it in registers: 64 multiply-adds for four 16-byte loads, where the
// arithmetic and not shared memory is the limit. So the whole triangle lies in registers, up to 256 factors, and entries are gathered
// once. Where there are few tiles, several groups of threads each take a share of the entries, and their tiles are added in order.
//
// The factorization leaves the tiles where they are: a step of Cholesky sends eight columns of the factor through shared memory, as a
// panel of eight entries that is taken away instead of added.
//
// Rows of factors are padded with zeros to `width`, a multiple of 8. `edges` is width / 8, and the edges · (edges + 1) / 2 tiles of the
// lower triangle are numbered column by column, so that whole warps retire as the factorization moves on. Where tiles lie in memory, the
// q-th four numbers (of 16) of tile t are at 4 · (q · tiles + t): neighbouring threads touch neighbouring memory.

// Rows and columns of a tile, and how many times four numbers it has.
#define EDGE 8
#define QUARTERS 16
// A thread gathers the same four columns of some of a panel's entries, its slots; `parts` threads share the columns, so that a panel has
// parts · slots entries, at most PANEL_ENTRIES. Threads of wide blocks have fewer registers, and fewer slots.
#define FEW_SLOTS 4
#define WIDE_SLOTS 2
#define PANEL_ENTRIES 32
// The most threads of a block: the tiles of 256 factors, rounded to whole warps.
#define MOST_THREADS 544
// The most threads of a block of which two or more share a multiprocessor, for up to 176 factors; each may use 128 registers.
#define FEW_THREADS 256
// Rows whose products are added in f32 before the sum goes on in f64.
#define GRAM_ROWS 1024
// Threads of a block that works on single numbers, and how many numbers such a block adds.
#define PLAIN_THREADS 256
#define SUM_COUNT 4096
// What a row gives besides its solution: b·x, or ridge · ‖x‖².
#define WANTED_GAIN 0
#define WANTED_PENALTY 1
// A pivot that lost more than this share of its diagonal to cancellation is not trusted.
#define PIVOT_TOLERANCE 1e-4

// A thread's place.
struct Place {
    uint32_t width;
    uint32_t edges;
    uint32_t tiles;
    uint32_t groups;
    uint32_t parts;
    // Entries of a panel.
    uint32_t entries;
    // Of the thread; a group number of `groups` or more has nothing to add up.
    uint32_t group;
    uint32_t tile;
    // The tile's rows begin at 8 · i, its columns at 8 · j ≤ 8 · i.
    uint32_t i;
    uint32_t j;
};

// What a block has in shared memory.
struct Shared {
    // Two panels; later the tiles of all groups but the first; then eight columns of the factor.
    float* panels;
    // Each part's share of b.
    float* rights;
    // b, which becomes x, and b as it was.
    float* x;
    float* b;
    // The diagonal of A.
    float* diagonal;
    // The factor's tile on the diagonal, the inverse roots of the pivots on its own diagonal.
    float* corner;
    // Of two panels' entries: columns, roots of weights, confidences.
    uint32_t* columns;
    float* roots;
    float* confidences;
    // Whether the row is left to the CPU.
    uint32_t* failed;
};

template <uint32_t SLOTS>
__device__ __forceinline__ Place place_of(uint32_t width, uint32_t groups, uint32_t parts) {
    Place place;
    place.width = width;
    place.edges = width / EDGE;
    place.tiles = place.edges * (place.edges + 1) / 2;
    place.groups = groups;
    place.parts = parts;
    place.entries = parts * SLOTS;
    place.group = threadIdx.x / place.tiles;
    place.tile = threadIdx.x % place.tiles;
    uint32_t rest = place.tile;
    place.j = 0;
    while (rest >= place.edges - place.j) {
        rest -= place.edges - place.j;
        place.j++;
    }
    place.i = place.j + rest;
    return place;
}

// As `shared_bytes` in cuda.rs counts them.
__device__ __forceinline__ Shared carve(unsigned char* arena, const Place& place) {
    const uint32_t panels = 2 * place.entries * place.width;
    const uint32_t joined = (place.groups - 1) * place.tiles * EDGE * EDGE;
    Shared shared;
    shared.panels = (float*)arena;
    shared.rights = shared.panels + (panels > joined ? panels : joined);
    shared.x = shared.rights + place.parts * place.width;
    shared.b = shared.x + place.width;
    shared.diagonal = shared.b + place.width;
    shared.corner = shared.diagonal + place.width;
    shared.columns = (uint32_t*)(shared.corner + EDGE * EDGE);
    shared.roots = (float*)(shared.columns + 2 * PANEL_ENTRIES);
    shared.confidences = shared.roots + 2 * PANEL_ENTRIES;
    shared.failed = (uint32_t*)(shared.confidences + 2 * PANEL_ENTRIES);
    return shared;
}

__device__ __forceinline__ void clear(float (&a)[EDGE][EDGE]) {
#pragma unroll
    for (uint32_t r = 0; r < EDGE; r++)
#pragma unroll
        for (uint32_t c = 0; c < EDGE; c++) a[r][c] = 0.0f;
}

// Adds (or takes away) the products of every `step`-th of `count` entries of a panel. A panel's rows hold the first fours of all eights,
// then the second ones, so that neighbouring tiles read neighbouring 16 bytes.
template <bool SUBTRACT>
__device__ __forceinline__ void update(float (&a)[EDGE][EDGE], const Place& place, const float* panel, uint32_t first, uint32_t step,
                                       uint32_t count) {
    const uint32_t chunks = place.width / 4;
    const float4* line = (const float4*)panel + first * chunks;
    // One entry is enough for the pipelines; more would cost registers, and the code would not fit the instruction cache.
#pragma unroll 1
    for (uint32_t e = first; e < count; e += step, line += step * chunks) {
        const float4 upper = line[place.i], lower = line[place.edges + place.i];
        const float4 left = line[place.j], right = line[place.edges + place.j];
        const float rows[EDGE] = {upper.x, upper.y, upper.z, upper.w, lower.x, lower.y, lower.z, lower.w};
        const float columns[EDGE] = {left.x, left.y, left.z, left.w, right.x, right.y, right.z, right.w};
#pragma unroll
        for (uint32_t r = 0; r < EDGE; r++)
#pragma unroll
            for (uint32_t c = 0; c < EDGE; c++) a[r][c] = fmaf(SUBTRACT ? -rows[r] : rows[r], columns[c], a[r][c]);
    }
}

// Adds entries `begin..end` to the groups' tiles and to the parts' shares of b. LISTED entries have a column and a weight each; the others
// are consecutive rows of `factors`, and leave b alone. While a panel is worked on, the next one's rows travel, and the columns and
// weights of the one after.
template <bool LISTED, uint32_t SLOTS>
__device__ __forceinline__ void accumulate(float (&a)[EDGE][EDGE], float4& right, const Place& place, const Shared& shared,
                                           const float* factors, const uint32_t* columns, const float* weights, float unobserved,
                                           uint64_t begin, uint64_t end) {
    const uint32_t t = threadIdx.x, chunks = place.width / 4;
    const uint32_t part = t / chunks, chunk = t % chunks;
    const uint32_t spot = chunk / 2 + (chunk & 1) * place.edges;
    float4 held[SLOTS];
    uint32_t column = 0;
    float weight = 0.0f;

    const auto look_up = [&](uint64_t panel) {
        if (LISTED && t < place.entries && panel + t < end) {
            column = columns[panel + t];
            weight = weights[panel + t];
        }
    };
    const auto note = [&](uint64_t panel, uint32_t buffer) {
        if (LISTED && t < place.entries && panel + t < end) {
            const uint32_t at = buffer * PANEL_ENTRIES + t;
            shared.columns[at] = column;
            // Both factors of y yᵀ come from one panel, so each takes the root of the weight.
            shared.roots[at] = __fsqrt_rn(weight);
            shared.confidences[at] = weight + unobserved;
        }
    };
    const auto fetch = [&](uint64_t panel, uint32_t buffer) {
#pragma unroll
        for (uint32_t s = 0; s < SLOTS; s++) {
            const uint32_t e = part + s * place.parts;
            if (part < place.parts && panel + e < end) {
                const uint64_t row = LISTED ? shared.columns[buffer * PANEL_ENTRIES + e] : panel + e;
                held[s] = ((const float4*)factors)[row * chunks + chunk];
            }
        }
    };

    look_up(begin);
    note(begin, 0);
    __syncthreads();
    fetch(begin, 0);
    look_up(begin + place.entries);
    uint32_t buffer = 0;
#pragma unroll 1
    for (uint64_t panel = begin; panel < end; panel += place.entries, buffer ^= 1) {
        const uint32_t count = end - panel < place.entries ? (uint32_t)(end - panel) : place.entries;
        float* rows = shared.panels + buffer * place.entries * place.width;
#pragma unroll
        for (uint32_t s = 0; s < SLOTS; s++) {
            const uint32_t e = part + s * place.parts;
            if (part < place.parts && e < count) {
                float4 y = held[s];
                if (LISTED) {
                    const float root = shared.roots[buffer * PANEL_ENTRIES + e];
                    const float confidence = shared.confidences[buffer * PANEL_ENTRIES + e];
                    right.x = fmaf(confidence, y.x, right.x);
                    right.y = fmaf(confidence, y.y, right.y);
                    right.z = fmaf(confidence, y.z, right.z);
                    right.w = fmaf(confidence, y.w, right.w);
                    y = make_float4(root * y.x, root * y.y, root * y.z, root * y.w);
                }
                ((float4*)rows)[e * chunks + spot] = y;
            }
        }
        note(panel + place.entries, buffer ^ 1);
        // One barrier a panel is enough: what is written next is the other panel, which everybody left before this point.
        __syncthreads();
        fetch(panel + place.entries, buffer ^ 1);
        look_up(panel + 2 * place.entries);
        if (place.group < place.groups) update<false>(a, place, rows, place.group, place.groups, count);
    }
    __syncthreads();
}

// The q-th four numbers of a tile.
__device__ __forceinline__ float4 quarter(const float (&a)[EDGE][EDGE], uint32_t q) {
    const uint32_t r = q / 2, c = q % 2 * 4;
    return make_float4(a[r][c], a[r][c + 1], a[r][c + 2], a[r][c + 3]);
}

// Adds the tiles of all groups, in order, to those of the first. There is a barrier in all that comes next before panels are written
// again: in `accumulate`, and in `join_rights`.
__device__ __forceinline__ void join(float (&a)[EDGE][EDGE], const Place& place, const Shared& shared) {
    float4* tiles = (float4*)shared.panels;
    if (place.group > 0 && place.group < place.groups) {
#pragma unroll
        for (uint32_t q = 0; q < QUARTERS; q++)
            tiles[((place.group - 1) * QUARTERS + q) * place.tiles + place.tile] = quarter(a, q);
    }
    __syncthreads();
    if (place.group == 0) {
#pragma unroll 1
        for (uint32_t g = 0; g + 1 < place.groups; g++) {
#pragma unroll
            for (uint32_t q = 0; q < QUARTERS; q++) {
                const float4 v = tiles[(g * QUARTERS + q) * place.tiles + place.tile];
                const uint32_t r = q / 2, c = q % 2 * 4;
                a[r][c] += v.x;
                a[r][c + 1] += v.y;
                a[r][c + 2] += v.z;
                a[r][c + 3] += v.w;
            }
        }
    }
}

// Adds the parts' shares of b, in order; every thread below `width` gets its column's sum.
__device__ __forceinline__ float join_rights(const float4& right, const Place& place, const Shared& shared) {
    const uint32_t t = threadIdx.x, chunks = place.width / 4;
    if (t < place.parts * chunks) ((float4*)shared.rights)[t] = right;
    __syncthreads();
    float sum = 0.0f;
    if (t < place.width) {
        sum = shared.rights[t];
        for (uint32_t p = 1; p < place.parts; p++) sum += shared.rights[p * place.width + t];
    }
    return sum;
}

// YᵀY of one part of the rows, in f64: a block a part.
template <uint32_t SLOTS>
__device__ __forceinline__ void gram(const float* factors, uint64_t rows, uint64_t part_rows, uint32_t width, uint32_t groups,
                                     uint32_t parts, double* partial) {
    DYNAMIC_SHARED(arena);
    const Place place = place_of<SLOTS>(width, groups, parts);
    const Shared shared = carve(arena, place);
    const uint64_t begin = blockIdx.x * part_rows;
    const uint64_t end = begin + part_rows < rows ? begin + part_rows : rows;
    double* total = partial + (size_t)blockIdx.x * place.tiles * EDGE * EDGE;
    for (uint64_t at = begin; at < end; at += GRAM_ROWS) {
        float a[EDGE][EDGE];
        float4 right = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        clear(a);
        accumulate<false, SLOTS>(a, right, place, shared, factors, nullptr, nullptr, 0.0f, at, at + GRAM_ROWS < end ? at + GRAM_ROWS : end);
        join(a, place, shared);
        if (place.group == 0) {
#pragma unroll
            for (uint32_t q = 0; q < QUARTERS; q++) {
                double* to = total + (size_t)4 * (q * place.tiles + place.tile);
#pragma unroll
                for (uint32_t c = 0; c < 4; c++) {
                    const double v = (double)a[q / 2][q % 2 * 4 + c];
                    to[c] = at == begin ? v : add(to[c], v);
                }
            }
        }
    }
}

// A and b of a range of entries, for a row that is too long for one block.
template <uint32_t SLOTS>
__device__ __forceinline__ void part(const uint64_t* ranges, const uint32_t* columns, const float* weights, const float* factors,
                                     float unobserved, uint32_t width, uint32_t groups, uint32_t parts, float* partial) {
    DYNAMIC_SHARED(arena);
    const Place place = place_of<SLOTS>(width, groups, parts);
    const Shared shared = carve(arena, place);
    float a[EDGE][EDGE];
    float4 right = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    clear(a);
    accumulate<true, SLOTS>(a, right, place, shared, factors, columns, weights, unobserved, ranges[2 * (size_t)blockIdx.x],
                     ranges[2 * (size_t)blockIdx.x + 1]);
    join(a, place, shared);
    const float b = join_rights(right, place, shared);
    const uint32_t size = place.tiles * EDGE * EDGE;
    float* to = partial + (size_t)blockIdx.x * (size + width);
    if (place.group == 0) {
#pragma unroll
        for (uint32_t q = 0; q < QUARTERS; q++) ((float4*)to)[q * place.tiles + place.tile] = quarter(a, q);
    }
    if (threadIdx.x < width) to[size + threadIdx.x] = b;
}

// Cholesky of a tile on the diagonal, by one thread, and forward substitution of its part of b. The tile's diagonal becomes the
// inverse roots of the pivots. False if a pivot is not to be trusted.
__device__ __forceinline__ bool factorise_corner(float (&a)[EDGE][EDGE], const float* diagonal, float* corner, float* x) {
    bool trusted = true;
#pragma unroll
    for (uint32_t k = 0; k < EDGE; k++) {
        const float pivot = a[k][k];
        trusted = trusted && pivot > (float)PIVOT_TOLERANCE * diagonal[k] && pivot <= 3.402823466e38f;
        const float inverse = rsqrtf(pivot);
        a[k][k] = inverse;
        float b = x[k];
#pragma unroll
        for (uint32_t q = 0; q < k; q++) b = fmaf(-a[k][q], x[q], b);
        x[k] = b * inverse;
#pragma unroll
        for (uint32_t r = k + 1; r < EDGE; r++) a[r][k] *= inverse;
#pragma unroll
        for (uint32_t c = k + 1; c < EDGE; c++)
#pragma unroll
            for (uint32_t r = c; r < EDGE; r++) a[r][c] = fmaf(-a[r][k], a[c][k], a[r][c]);
    }
#pragma unroll
    for (uint32_t q = 0; q < QUARTERS; q++) ((float4*)corner)[q] = quarter(a, q);
    return trusted;
}

// A tile below the corner: its part of the factor, which goes to the panel too, and what it takes away from b.
__device__ __forceinline__ void factorise_tile(float (&a)[EDGE][EDGE], const Place& place, const Shared& shared) {
#pragma unroll
    for (uint32_t c = 0; c < EDGE; c++) {
        const float4 left = ((const float4*)shared.corner)[2 * c], right = ((const float4*)shared.corner)[2 * c + 1];
        const float row[EDGE] = {left.x, left.y, left.z, left.w, right.x, right.y, right.z, right.w};
#pragma unroll
        for (uint32_t r = 0; r < EDGE; r++) {
            float v = a[r][c];
#pragma unroll
            for (uint32_t q = 0; q < c; q++) v = fmaf(-a[r][q], row[q], v);
            a[r][c] = v * row[c];
        }
    }
    float4* panel = (float4*)shared.panels;
    const uint32_t chunks = place.width / 4;
#pragma unroll
    for (uint32_t q = 0; q < EDGE; q++) {
        panel[q * chunks + place.i] = make_float4(a[0][q], a[1][q], a[2][q], a[3][q]);
        panel[q * chunks + place.edges + place.i] = make_float4(a[4][q], a[5][q], a[6][q], a[7][q]);
    }
#pragma unroll
    for (uint32_t r = 0; r < EDGE; r++) {
        float b = shared.x[EDGE * place.i + r];
#pragma unroll
        for (uint32_t q = 0; q < EDGE; q++) b = fmaf(-a[r][q], shared.x[EDGE * place.j + q], b);
        shared.x[EDGE * place.i + r] = b;
    }
}

// Solves A x = b for the tiles of the first group and b in shared memory, which becomes x. False, for the whole block, if f32 is not
// enough.
__device__ __forceinline__ bool solve(float (&a)[EDGE][EDGE], const Place& place, const Shared& shared) {
    const bool owns = place.group == 0;
#pragma unroll 1
    for (uint32_t k = 0; k < place.edges; k++) {
        if (owns && place.i == k && place.j == k &&
            !factorise_corner(a, shared.diagonal + EDGE * k, shared.corner, shared.x + EDGE * k))
            *shared.failed = 1;
        __syncthreads();
        if (*shared.failed) return false;
        if (owns && place.j == k && place.i > k) factorise_tile(a, place, shared);
        __syncthreads();
        if (owns && place.j > k) update<true>(a, place, shared.panels, 0, 1, EDGE);
    }
#pragma unroll 1
    for (uint32_t k = place.edges; k-- > 0;) {
        if (owns && place.i == k && place.j == k) {
            float* x = shared.x + EDGE * k;
#pragma unroll
            for (uint32_t c = EDGE; c-- > 0;) {
                float v = x[c];
#pragma unroll
                for (uint32_t r = EDGE; r-- > c + 1;) v = fmaf(-a[r][c], x[r], v);
                x[c] = v * a[c][c];
            }
        }
        __syncthreads();
        if (owns && place.i == k && place.j < k) {
#pragma unroll
            for (uint32_t c = 0; c < EDGE; c++) {
                float v = shared.x[EDGE * place.j + c];
#pragma unroll
                for (uint32_t r = EDGE; r-- > 0;) v = fmaf(-a[r][c], shared.x[EDGE * k + r], v);
                shared.x[EDGE * place.j + c] = v;
            }
        }
        __syncthreads();
    }
    const bool infinite = threadIdx.x < place.width && !(fabsf(shared.x[threadIdx.x]) <= 3.402823466e38f);
    return !__syncthreads_or(infinite);
}

// One row: the block's in `order`. The first `heavy` of them were added up in parts.
template <uint32_t SLOTS>
__device__ __forceinline__ void row(const uint32_t* order, uint32_t heavy, const uint32_t* part_begins, const float* partial,
                                    const uint64_t* offsets, const uint32_t* columns, const float* weights, const float* ridges,
                                    const float* factors, const float* base, uint32_t n, uint32_t width, uint32_t groups,
                                    uint32_t parts, float unobserved, uint32_t wanted, float* solution, double* values, uint32_t* marked) {
    DYNAMIC_SHARED(arena);
    const Place place = place_of<SLOTS>(width, groups, parts);
    const Shared shared = carve(arena, place);
    const uint32_t row_number = order[blockIdx.x], t = threadIdx.x;
    if (t == 0) *shared.failed = 0;
    float a[EDGE][EDGE];
    clear(a);
    float b = 0.0f;
    if (blockIdx.x < heavy) {
        const uint32_t begin = part_begins[blockIdx.x], end = part_begins[blockIdx.x + 1];
        const uint32_t size = place.tiles * EDGE * EDGE;
        if (place.group == 0) {
#pragma unroll
            for (uint32_t q = 0; q < QUARTERS; q++) {
                double sums[4] = {0.0, 0.0, 0.0, 0.0};
#pragma unroll 1
                for (uint32_t p = begin; p < end; p++) {
                    const float4 v = ((const float4*)(partial + (size_t)p * (size + width)))[q * place.tiles + place.tile];
                    sums[0] = add(sums[0], (double)v.x);
                    sums[1] = add(sums[1], (double)v.y);
                    sums[2] = add(sums[2], (double)v.z);
                    sums[3] = add(sums[3], (double)v.w);
                }
#pragma unroll
                for (uint32_t c = 0; c < 4; c++) a[q / 2][q % 2 * 4 + c] = (float)sums[c];
            }
        }
        if (t < width) {
            double sum = 0.0;
            for (uint32_t p = begin; p < end; p++) sum = add(sum, (double)partial[(size_t)p * (size + width) + size + t]);
            b = (float)sum;
        }
    } else {
        float4 right = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        accumulate<true, SLOTS>(a, right, place, shared, factors, columns, weights, unobserved, offsets[row_number], offsets[row_number + 1]);
        join(a, place, shared);
        b = join_rights(right, place, shared);
    }
    const float ridge = ridges[row_number];
    if (t < width) {
        shared.x[t] = b;
        shared.b[t] = b;
    }
    if (place.group == 0) {
#pragma unroll
        for (uint32_t q = 0; q < QUARTERS; q++) {
            const float4 v = ((const float4*)base)[q * place.tiles + place.tile];
            const uint32_t r = q / 2, c = q % 2 * 4;
            a[r][c] = v.x + a[r][c];
            a[r][c + 1] = v.y + a[r][c + 1];
            a[r][c + 2] = v.z + a[r][c + 2];
            a[r][c + 3] = v.w + a[r][c + 3];
        }
        if (place.i == place.j) {
#pragma unroll
            for (uint32_t r = 0; r < EDGE; r++) {
                // What is padding solves to 0.
                a[r][r] = EDGE * place.i + r < n ? a[r][r] + ridge : 1.0f;
                shared.diagonal[EDGE * place.i + r] = a[r][r];
            }
        }
    }
    __syncthreads();
    const bool solved = solve(a, place, shared);
    if (!solved) {
        // The CPU takes the row over, in f64.
        if (t == 0) {
            marked[1 + atomicAdd(marked, 1u)] = row_number;
            values[row_number] = 0.0;
        }
        return;
    }
    float4* to = (float4*)(solution + (size_t)row_number * width);
    if (t < width / 4) to[t] = ((const float4*)shared.x)[t];
    if (t < 32) {
        double sum = 0.0;
        for (uint32_t i = t; i < width; i += 32) {
            const double x = (double)shared.x[i];
            sum = add(sum, multiply(x, wanted == WANTED_GAIN ? (double)shared.b[i] : x));
        }
        sum = warp_sum(sum);
        if (t == 0) values[row_number] = wanted == WANTED_GAIN ? sum : multiply((double)ridge, sum);
    }
}

// The three kernels with many threads come twice: with few threads, two blocks can share a multiprocessor's registers.
extern "C" __global__ void __launch_bounds__(FEW_THREADS, 2)
    factor_gram(const float* factors, uint64_t rows, uint64_t part_rows, uint32_t width, uint32_t groups, uint32_t parts,
                double* partial) {
    gram<FEW_SLOTS>(factors, rows, part_rows, width, groups, parts, partial);
}

extern "C" __global__ void __launch_bounds__(MOST_THREADS, 1)
    factor_gram_wide(const float* factors, uint64_t rows, uint64_t part_rows, uint32_t width, uint32_t groups, uint32_t parts,
                     double* partial) {
    gram<WIDE_SLOTS>(factors, rows, part_rows, width, groups, parts, partial);
}

extern "C" __global__ void __launch_bounds__(FEW_THREADS, 2)
    factor_part(const uint64_t* ranges, const uint32_t* columns, const float* weights, const float* factors, float unobserved,
                uint32_t width, uint32_t groups, uint32_t parts, float* partial) {
    part<FEW_SLOTS>(ranges, columns, weights, factors, unobserved, width, groups, parts, partial);
}

extern "C" __global__ void __launch_bounds__(MOST_THREADS, 1)
    factor_part_wide(const uint64_t* ranges, const uint32_t* columns, const float* weights, const float* factors, float unobserved,
                     uint32_t width, uint32_t groups, uint32_t parts, float* partial) {
    part<WIDE_SLOTS>(ranges, columns, weights, factors, unobserved, width, groups, parts, partial);
}

extern "C" __global__ void __launch_bounds__(FEW_THREADS, 2)
    factor_row(const uint32_t* order, uint32_t heavy, const uint32_t* part_begins, const float* partial, const uint64_t* offsets,
               const uint32_t* columns, const float* weights, const float* ridges, const float* factors, const float* base, uint32_t n,
               uint32_t width, uint32_t groups, uint32_t parts, float unobserved, uint32_t wanted, float* solution, double* values,
               uint32_t* marked) {
    row<FEW_SLOTS>(order, heavy, part_begins, partial, offsets, columns, weights, ridges, factors, base, n, width, groups, parts,
                   unobserved, wanted, solution, values, marked);
}

extern "C" __global__ void __launch_bounds__(MOST_THREADS, 1)
    factor_row_wide(const uint32_t* order, uint32_t heavy, const uint32_t* part_begins, const float* partial, const uint64_t* offsets,
                    const uint32_t* columns, const float* weights, const float* ridges, const float* factors, const float* base,
                    uint32_t n, uint32_t width, uint32_t groups, uint32_t parts, float unobserved, uint32_t wanted, float* solution,
                    double* values, uint32_t* marked) {
    row<WIDE_SLOTS>(order, heavy, part_begins, partial, offsets, columns, weights, ridges, factors, base, n, width, groups, parts,
                    unobserved, wanted, solution, values, marked);
}

// Adds the parts of YᵀY, in order, times the unobserved weight: a thread a number.
extern "C" __global__ void factor_base(const double* partial, uint32_t parts, uint32_t count, double weight, double* exact,
                                       float* narrow) {
    const uint32_t at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= count) return;
    double sum = 0.0;
#pragma unroll 8
    for (uint32_t p = 0; p < parts; p++) sum = add(sum, partial[(size_t)p * count + at]);
    sum = multiply(sum, weight);
    exact[at] = sum;
    narrow[at] = (float)sum;
}

// The sums of 4,096 values each, in a fixed order: a block a sum.
extern "C" __global__ void factor_sum(const double* values, uint64_t count, double* sums) {
    DYNAMIC_SHARED(arena);
    double* warps = (double*)arena;
    const uint64_t begin = (uint64_t)blockIdx.x * SUM_COUNT;
    const uint64_t end = begin + SUM_COUNT < count ? begin + SUM_COUNT : count;
    double sum = 0.0;
    for (uint64_t at = begin + threadIdx.x; at < end; at += PLAIN_THREADS) sum = add(sum, values[at]);
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (uint32_t w = 1; w < PLAIN_THREADS / 32; w++) sum = add(sum, warps[w]);
        sums[blockIdx.x] = sum;
    }
}
