// The k-means pass. Rows lie in tiles, so that a warp's loads of one column of its 32·R rows are one piece of memory; a thread
// holds R rows in registers and scores all centroids, which lie in shared memory, against them. As on the CPU the scores, in f32, are
// a filter: a row whose two best are too close is decided in f64, by the warp together, with the CPU's own rule and roundings. So a
// label is the same on every device.
//
// Sums follow the rows that change their label, in 64-bit fixed point: integers add up to the same whatever the order, so that
// atomics repeat to the bit, and after a few passes hardly a row changes.

// A row without a label.
#define UNASSIGNED 65535
// Threads of a block that scores rows, and of the one block that makes the next centroids.
#define PASS_THREADS 128
#define UPDATE_THREADS 512
// Threads, and so rows at a time, of a block that sums distances.
#define INERTIA_THREADS 256
// The least share by which a centroid must be nearer (see assign.rs), in units of 1e-9.
#define TIE_NANO 200

// Places in `control`.
#define DONE 0
#define CHANGED 1
#define PASS 2
// What DONE says.
#define GOING_ON 0
#define DONE_UNCHANGED 1
#define DONE_CONVERGED 2
#define DONE_EMPTY 3
// Numbers of a pass in `records`: rows that changed, shift, loss.
#define RECORD 3
// Places in `bound`, see `Bound` in assign.rs.
#define BOUND_GAMMA 0
#define BOUND_FAR 1
#define BOUND_BASE 2
#define BOUND_SLOPE 3
#define BOUND_TIE_SQUARE 4
#define BOUND_TIE_NORM 5
#define BOUND_CODES 6

// What every kernel knows of the rows and centroids.
struct Shape {
    uint64_t row_count;
    uint32_t number_count;
    uint32_t code_count;
    uint32_t k;
    // Numbers and, after them, the categories.
    uint32_t width;
    // Rows of a lane; a tile has 32 times as many.
    uint32_t lane_rows;
    uint32_t cosine;
};

// One code column: its categories, where they begin among the columns, and where its table begins.
struct Column {
    uint32_t levels;
    uint32_t offset;
    uint64_t table;
};

// Where the columns of one row lie: every `step` numbers from `numbers` on.
struct Row {
    const float* numbers;
    const uint32_t* codes;
    uint32_t step;
};

__device__ __forceinline__ Row row_at(const Shape& shape, const float* tiles, const uint32_t* codes, uint64_t row) {
    const uint32_t step = 32 * shape.lane_rows;
    const uint64_t tile = row / step, place = row % step;
    return {tiles + tile * step * shape.number_count + place, codes + tile * step * shape.code_count + place, step};
}

// Σx² and the categories seen, in the order of the CPU's square_of_row.
__device__ double square_of_row(const Shape& shape, const Column* columns, const Row& row) {
    double sums[4] = {0, 0, 0, 0}, rest = 0;
    const uint32_t whole = shape.number_count / 4 * 4;
    for (uint32_t i = whole; i < shape.number_count; i++) {
        const double x = row.numbers[(size_t)i * row.step];
        rest = add(rest, multiply(x, x));
    }
    for (uint32_t i = 0; i < whole; i += 4)
        for (uint32_t lane = 0; lane < 4; lane++) {
            const double x = row.numbers[(size_t)(i + lane) * row.step];
            sums[lane] = add(sums[lane], multiply(x, x));
        }
    uint32_t seen = 0;
    for (uint32_t c = 0; c < shape.code_count; c++) seen += row.codes[(size_t)c * row.step] < columns[c].levels;
    return add(add(add(add(sums[0], sums[1]), add(sums[2], sums[3])), rest), (double)seen);
}

// One over the row's length under the cosine distance, 0 where it has none; 1 otherwise.
__device__ double scale_of_row(const Shape& shape, const Column* columns, const Row& row) {
    if (!shape.cosine) return 1.0;
    const double square = square_of_row(shape, columns, row);
    return square > 0.0 ? __ddiv_rn(1.0, __dsqrt_rn(square)) : 0.0;
}

// The squared distance of a row to centroid j, as the CPU's Centroids::measure.
__device__ double measure(const Shape& shape, const Column* columns, const Row& row, double scale, const double* centroids,
                          const double* code_squares, const uint32_t* zero, uint32_t j) {
    if (shape.cosine && (scale == 0.0 || zero[j])) return 1.0;
    const double* c = centroids + (size_t)j * shape.width;
    double sums[4] = {0, 0, 0, 0}, rest = 0;
    const uint32_t whole = shape.number_count / 4 * 4;
    for (uint32_t i = whole; i < shape.number_count; i++) {
        const double t = subtract(multiply((double)row.numbers[(size_t)i * row.step], scale), c[i]);
        rest = add(rest, multiply(t, t));
    }
    for (uint32_t i = 0; i < whole; i += 4)
        for (uint32_t lane = 0; lane < 4; lane++) {
            const double t = subtract(multiply((double)row.numbers[(size_t)(i + lane) * row.step], scale), c[i + lane]);
            sums[lane] = add(sums[lane], multiply(t, t));
        }
    double sum = add(add(add(sums[0], sums[1]), add(sums[2], sums[3])), rest);
    for (uint32_t column = 0; column < shape.code_count; column++) {
        sum = add(sum, code_squares[(size_t)column * shape.k + j]);
        const uint32_t code = row.codes[(size_t)column * row.step];
        if (code < columns[column].levels)
            sum = add(sum, multiply(scale, subtract(scale, multiply(2.0, c[columns[column].offset + code]))));
    }
    if (shape.cosine) sum = multiply(0.5, sum);
    return sum > 0.0 ? sum : 0.0;
}

// The rule that labels obey, by a whole warp for one row: the lowest index that no later one undercuts by more than a tie. Each lane
// measures one centroid in 32.
__device__ __noinline__ uint32_t nearest_in_f64(const Shape& shape, const Column* columns, const float* tiles, const uint32_t* codes,
                                                uint64_t row_number, const double* centroids, const double* code_squares,
                                                const uint32_t* zero) {
    const Row row = row_at(shape, tiles, codes, row_number);
    const double scale = scale_of_row(shape, columns, row);
    const double length = shape.cosine ? 1.0 : __dsqrt_rn(square_of_row(shape, columns, row));
    const double tie = TIE_NANO * 1e-9;
    const double infinity = __longlong_as_double(0x7FF0000000000000ll);
    double limit = infinity;
    uint32_t index = 0;
    for (uint32_t first = 0; first < shape.k; first += 32) {
        const uint32_t j = first + (threadIdx.x & 31);
        const double square =
            j < shape.k ? measure(shape, columns, row, scale, centroids, code_squares, zero, j) : infinity;
        uint32_t nearer = __ballot_sync(FULL_WARP, square < limit);
        while (nearer) {
            const uint32_t lane = __ffs(nearer) - 1;
            nearer &= nearer - 1;
            const double candidate = __shfl_sync(FULL_WARP, square, lane);
            if (candidate < limit) {
                const double distance = __dsqrt_rn(candidate);
                double less = subtract(distance, multiply(tie, add(length, distance)));
                if (!(less > 0.0)) less = 0.0;
                limit = multiply(less, less);
                index = first + lane;
            }
        }
    }
    return index;
}

// Adds `value` to a fixed-point sum.
__device__ __forceinline__ void add_fixed(int64_t* sum, int64_t value) {
    atomicAdd((unsigned long long*)sum, (unsigned long long)value);
}

// Takes a row from the sums of cluster `from`, unless that is UNASSIGNED, and gives it to cluster `to`. `counts` lie behind the sums.
__device__ __noinline__ void move_row(const Shape& shape, const Column* columns, const float* tiles, const uint32_t* codes,
                                      uint64_t row_number, const double* scales, int64_t* sums, uint32_t from, uint32_t to) {
    const Row row = row_at(shape, tiles, codes, row_number);
    const double scale = scale_of_row(shape, columns, row);
    int64_t* counts = sums + (size_t)shape.k * shape.width;
    int64_t* into = sums + (size_t)to * shape.width;
    int64_t* out_of = sums + (size_t)from * shape.width;
    const bool leaves = from != UNASSIGNED;
    for (uint32_t i = 0; i < shape.number_count; i++) {
        const double x = multiply((double)row.numbers[(size_t)i * row.step], scale);
        const int64_t fixed = __double2ll_rn(multiply(x, scales[i]));
        add_fixed(into + i, fixed);
        if (leaves) add_fixed(out_of + i, -fixed);
    }
    const int64_t one = __double2ll_rn(multiply(scale, scales[shape.number_count]));
    for (uint32_t c = 0; c < shape.code_count; c++) {
        const uint32_t code = row.codes[(size_t)c * row.step];
        if (code >= columns[c].levels) continue;
        add_fixed(into + columns[c].offset + code, one);
        if (leaves) add_fixed(out_of + columns[c].offset + code, -one);
    }
    add_fixed(counts + to, 1);
    if (leaves) add_fixed(counts + from, -1);
}

// Whether the best of two scores is the nearest for certain: Bound::certain.
__device__ __forceinline__ bool is_certain(const float* bound, float best, float second, float square) {
    const float infinity = __int_as_float(0x7F800000);
    square = __fadd_rn(square, bound[BOUND_CODES]);
    const float norm = __fsqrt_rn(square);
    const float near_base = __fadd_rn(bound[BOUND_BASE], __fmul_rn(bound[BOUND_SLOPE], norm));
    const float near_far = __fmul_rn(bound[BOUND_FAR], square);
    const float near = near_far < near_base ? near_far : near_base;
    const float scores = __fadd_rn(fabsf(best), fabsf(second));
    const float error = __fmul_rn(bound[BOUND_GAMMA], __fadd_rn(__fmul_rn(2.0f, near), __fmul_rn(5.0f, scores)));
    const float tie = __fadd_rn(__fmul_rn(bound[BOUND_TIE_SQUARE], __fadd_rn(fabsf(second), square)),
                                __fmul_rn(bound[BOUND_TIE_NORM], norm));
    if (second == infinity) return fabsf(best) < infinity;
    return __fsub_rn(second, best) > __fadd_rn(error, tie);
}

// Rows of `numbers` (row-major, 4 bytes each) into tiles, from row 0 of both; rows beyond the last are filled with zeros.
// `extremes`, if given, gets the largest |x| of each column as the bits of a float. A warp takes one column of one tile.
extern "C" __global__ void assign_pack(const uint32_t* numbers, uint64_t row_count, uint32_t column_count, uint32_t lane_rows,
                                       uint32_t* tiles, uint32_t* extremes) {
    const uint32_t lane = threadIdx.x & 31;
    const uint64_t step = 32 * lane_rows;
    const uint64_t lines = (row_count + step - 1) / step * column_count;
    const uint64_t warps = (uint64_t)gridDim.x * (blockDim.x / 32);
    for (uint64_t line = (uint64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32; line < lines; line += warps) {
        const uint64_t first = line / column_count * step;
        const uint32_t column = line % column_count;
        uint32_t largest = 0;
        for (uint32_t i = lane; i < step; i += 32) {
            const uint64_t row = first + i;
            const uint32_t bits = row < row_count ? numbers[row * column_count + column] : 0;
            tiles[line * step + i] = bits;
            // Without the sign, floats are ordered as their bits are.
            largest = max(largest, bits & 0x7FFFFFFFu);
        }
        if (extremes) {
            largest = __reduce_max_sync(FULL_WARP, largest);
            if (lane == 0) atomicMax(extremes + column, largest);
        }
    }
}

// Everything that a pass reads and writes.
struct Pass {
    const float* tiles;
    const uint32_t* codes;
    const Column* columns;
    const double* centroids;
    const double* code_squares;
    const uint32_t* zero;
    const float* packed;
    const float* bias;
    const float* tables;
    const float* bound;
    const double* scales;
    uint16_t* labels;
    int64_t* sums;
    uint32_t* control;
    // Centroids that lie in shared memory at a time, and whether a block's sums do.
    uint32_t chunk;
    uint32_t shared_sums;
};

// Copies centroids first..first+count and what their scores begin with to shared memory.
__device__ __forceinline__ void load_chunk(const Pass& pass, uint32_t stride, uint32_t first, uint32_t count, float* packed, float* bias) {
    for (uint32_t i = threadIdx.x; i < count * stride; i += blockDim.x) packed[i] = pass.packed[(size_t)first * stride + i];
    for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) bias[i] = pass.bias[first + i];
}

// What a thread knows of one of its rows after some centroids.
struct Best {
    float best;
    float second;
    uint32_t index;
};

__device__ __forceinline__ void offer(Best& b, float score, uint32_t j) {
    const bool closer = score < b.best;
    const float larger = closer ? b.best : score;
    b.second = larger < b.second ? larger : b.second;
    b.index = closer ? j : b.index;
    b.best = closer ? score : b.best;
}

// Scores of up to `columns` columns, that of centroid j of the table as a code has it.
__device__ __forceinline__ float code_score(const Shape& shape, const Pass& pass, const uint32_t* codes, uint32_t step, uint32_t j) {
    float sum = 0;
    for (uint32_t c = 0; c < shape.code_count; c++) {
        const uint32_t code = codes[(size_t)c * step];
        sum = __fadd_rn(sum, pass.tables[pass.columns[c].table + (size_t)code * shape.k + j]);
    }
    return sum;
}

// Gives the warp's rows their labels, each lane R of them, and moves those that change.
template <int R>
__device__ __forceinline__ uint32_t settle(const Shape& shape, const Pass& pass, uint64_t tile, const Best (&best)[R],
                                           const float (&square)[R], int64_t* sums) {
    const uint32_t lane = threadIdx.x & 31;
    uint32_t changed = 0;
#pragma unroll
    for (int r = 0; r < R; r++) {
        const uint64_t row = tile * 32 * R + lane * R + r;
        const bool valid = row < shape.row_count;
        uint32_t label = best[r].index;
        uint32_t unsure =
            __ballot_sync(FULL_WARP, valid && !is_certain(pass.bound, best[r].best, best[r].second, square[r]));
        while (unsure) {
            const uint32_t other = __ffs(unsure) - 1;
            unsure &= unsure - 1;
            const uint32_t found = nearest_in_f64(shape, pass.columns, pass.tiles, pass.codes, tile * 32 * R + other * R + r,
                                                  pass.centroids, pass.code_squares, pass.zero);
            if (lane == other) label = found;
        }
        if (!valid) continue;
        const uint32_t old = pass.labels[row];
        if (label != old) {
            changed++;
            move_row(shape, pass.columns, pass.tiles, pass.codes, row, pass.scales, sums, old, label);
            pass.labels[row] = (uint16_t)label;
        }
    }
    return changed;
}

// A pass over rows of at most D numbers, R rows a thread.
template <int D, int R>
__device__ __forceinline__ void assign_rows(const Shape& shape, const Pass& pass) {
    if (pass.control[DONE] != GOING_ON) return;
    DYNAMIC_SHARED(arena);
    const uint32_t cells = shape.k * (shape.width + 1);
    int64_t* shared_sums = (int64_t*)arena;
    float* packed = (float*)(arena + (pass.shared_sums ? ((size_t)cells * 8 + 15) / 16 * 16 : 0));
    float* bias = packed + (size_t)pass.chunk * D;
    int64_t* sums = pass.shared_sums ? shared_sums : pass.sums;
    if (pass.shared_sums)
        for (uint32_t i = threadIdx.x; i < cells; i += blockDim.x) shared_sums[i] = 0;
    const bool all_at_once = pass.chunk >= shape.k;
    if (all_at_once) load_chunk(pass, D, 0, shape.k, packed, bias);
    __syncthreads();

    const uint32_t lane = threadIdx.x & 31, warps = PASS_THREADS / 32;
    const uint64_t tiles = (shape.row_count + 32 * R - 1) / (32 * R);
    uint32_t changed = 0;
    // The same number of rounds for all warps of a block: they wait for each other where centroids come in chunks.
    for (uint64_t base = (uint64_t)blockIdx.x * warps; base < tiles; base += (uint64_t)gridDim.x * warps) {
        const uint64_t tile = base + threadIdx.x / 32;
        const bool valid = tile < tiles;
        float x[D][R];
        float square[R];
        Best best[R];
#pragma unroll
        for (int r = 0; r < R; r++) {
            square[r] = 0;
            best[r] = {__int_as_float(0x7F800000), __int_as_float(0x7F800000), 0};
        }
        const float* from = pass.tiles + tile * 32 * R * shape.number_count + lane * R;
#pragma unroll
        for (int d = 0; d < D; d++) {
            float v[R];
            if (valid && d < shape.number_count) {
                // One load of 4·R bytes.
                if (R == 4) {
                    const float4 four = *(const float4*)(from + (size_t)d * 32 * R);
                    v[0] = four.x, v[1 % R] = four.y, v[2 % R] = four.z, v[3 % R] = four.w;
                } else {
                    const float2 two = *(const float2*)(from + (size_t)d * 32 * R);
                    v[0] = two.x, v[1 % R] = two.y;
                }
            } else {
#pragma unroll
                for (int r = 0; r < R; r++) v[r] = 0;
            }
#pragma unroll
            for (int r = 0; r < R; r++) {
                x[d][r] = v[r];
                square[r] = fmaf(v[r], v[r], square[r]);
            }
        }
        const uint32_t* codes = pass.codes + tile * 32 * R * shape.code_count + lane * R;
        for (uint32_t first = 0; first < shape.k; first += pass.chunk) {
            const uint32_t count = min(pass.chunk, shape.k - first);
            if (!all_at_once) {
                __syncthreads();
                load_chunk(pass, D, first, count, packed, bias);
                __syncthreads();
            }
            if (!valid) continue;
            for (uint32_t j = 0; j < count; j++) {
                float score[R];
                const float begin = bias[j];
#pragma unroll
                for (int r = 0; r < R; r++) {
                    score[r] = begin;
                    if (shape.code_count) score[r] = __fadd_rn(begin, code_score(shape, pass, codes + r, 32 * R, first + j));
                }
                const float4* c = (const float4*)(packed + (size_t)j * D);
#pragma unroll
                for (int d = 0; d < D / 4; d++) {
                    const float4 four = c[d];
#pragma unroll
                    for (int r = 0; r < R; r++) {
                        score[r] = fmaf(four.x, x[4 * d][r], score[r]);
                        score[r] = fmaf(four.y, x[4 * d + 1][r], score[r]);
                        score[r] = fmaf(four.z, x[4 * d + 2][r], score[r]);
                        score[r] = fmaf(four.w, x[4 * d + 3][r], score[r]);
                    }
                }
#pragma unroll
                for (int r = 0; r < R; r++) offer(best[r], score[r], first + j);
            }
        }
        if (valid) changed += settle<R>(shape, pass, tile, best, square, sums);
    }
    if (changed) atomicAdd(pass.control + CHANGED, changed);
    if (pass.shared_sums) {
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < cells; i += blockDim.x)
            if (shared_sums[i] != 0) add_fixed(pass.sums + i, shared_sums[i]);
    }
}

// A pass over rows of any number of columns, one row a thread: eight centroids at a time, the row's numbers read again for each eight
// from the cache.
__device__ __forceinline__ void assign_wide_rows(const Shape& shape, const Pass& pass) {
    if (pass.control[DONE] != GOING_ON) return;
    const uint32_t lane = threadIdx.x & 31, warps = PASS_THREADS / 32;
    const uint64_t tiles = (shape.row_count + 31) / 32;
    const uint32_t stride = (shape.number_count + 3) / 4 * 4;
    uint32_t changed = 0;
    for (uint64_t tile = (uint64_t)blockIdx.x * warps + threadIdx.x / 32; tile < tiles; tile += (uint64_t)gridDim.x * warps) {
        const float* from = pass.tiles + tile * 32 * shape.number_count + lane;
        const uint32_t* codes = pass.codes + tile * 32 * shape.code_count + lane;
        float square[1] = {0};
        Best best[1] = {{__int_as_float(0x7F800000), __int_as_float(0x7F800000), 0}};
        for (uint32_t d = 0; d < shape.number_count; d++) {
            const float x = from[(size_t)d * 32];
            square[0] = fmaf(x, x, square[0]);
        }
        for (uint32_t first = 0; first < shape.k; first += 8) {
            float score[8];
#pragma unroll
            for (int j = 0; j < 8; j++) {
                // Repeats the last centroid, which is not offered again.
                const uint32_t centroid = min(first + j, shape.k - 1);
                score[j] = pass.bias[centroid];
                if (shape.code_count) score[j] = __fadd_rn(score[j], code_score(shape, pass, codes, 32, centroid));
            }
            for (uint32_t d = 0; d < shape.number_count; d++) {
                const float x = from[(size_t)d * 32];
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    const uint32_t centroid = min(first + j, shape.k - 1);
                    score[j] = fmaf(__ldg(pass.packed + (size_t)centroid * stride + d), x, score[j]);
                }
            }
#pragma unroll
            for (int j = 0; j < 8; j++)
                if (first + j < shape.k) offer(best[0], score[j], first + j);
        }
        changed += settle<1>(shape, pass, tile, best, square, pass.sums);
    }
    if (changed) atomicAdd(pass.control + CHANGED, changed);
}

#define PASS_PARAMETERS                                                                                                          \
    uint64_t row_count, uint32_t number_count, uint32_t code_count, uint32_t k, uint32_t width, uint32_t lane_rows,            \
        uint32_t cosine, const float *tiles, const uint32_t *codes, const Column *columns, const double *centroids,           \
        const double *code_squares, const uint32_t *zero, const float *packed, const float *bias, const float *tables,        \
        const float *bound, const double *scales, uint16_t *labels, int64_t *sums, uint32_t *control, uint32_t chunk,         \
        uint32_t shared_sums
#define PASS_ARGUMENTS                                                                                                           \
    const Shape shape = {row_count, number_count, code_count, k, width, lane_rows, cosine};                                    \
    const Pass pass = {tiles, codes,  columns, centroids, code_squares, zero, packed, bias,                                    \
                       tables, bound, scales,  labels,    sums,         control, chunk, shared_sums}
#define PASS_KERNEL(name, D, R)                                                                                                  \
    extern "C" __global__ void __launch_bounds__(PASS_THREADS) name(PASS_PARAMETERS) {                                         \
        PASS_ARGUMENTS;                                                                                                          \
        assign_rows<D, R>(shape, pass);                                                                                          \
    }

PASS_KERNEL(assign_pass_4, 4, 4)
PASS_KERNEL(assign_pass_8, 8, 4)
PASS_KERNEL(assign_pass_16, 16, 4)
PASS_KERNEL(assign_pass_24, 24, 2)
PASS_KERNEL(assign_pass_32, 32, 2)
PASS_KERNEL(assign_pass_48, 48, 2)
PASS_KERNEL(assign_pass_64, 64, 2)

extern "C" __global__ void __launch_bounds__(PASS_THREADS) assign_pass_wide(PASS_PARAMETERS) {
    PASS_ARGUMENTS;
    assign_wide_rows(shape, pass);
}

// Sums from scratch, by the labels that the rows have. The sums must be zero before.
extern "C" __global__ void assign_sums(uint64_t row_count, uint32_t number_count, uint32_t code_count, uint32_t k, uint32_t width,
                                       uint32_t lane_rows, uint32_t cosine, const float* tiles, const uint32_t* codes,
                                       const Column* columns, const double* scales, const uint16_t* labels, int64_t* sums) {
    const Shape shape = {row_count, number_count, code_count, k, width, lane_rows, cosine};
    const uint64_t threads = (uint64_t)gridDim.x * blockDim.x;
    for (uint64_t row = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x; row < row_count; row += threads)
        move_row(shape, columns, tiles, codes, row, scales, sums, UNASSIGNED, labels[row]);
}

// The next centroids from the sums, whether it is over, and everything that the next pass needs of the centroids. One block; a warp
// takes a cluster. With `prepare_only` the centroids are taken as they are. Empty clusters end the loop, so that the host can
// give them a row, unless `keep_empty`: then they keep their centroids.
extern "C" __global__ void __launch_bounds__(UPDATE_THREADS)
    assign_update(uint64_t row_count, uint32_t number_count, uint32_t code_count, uint32_t k, uint32_t width, uint32_t stride,
                  uint32_t cosine, uint32_t prepare_only, uint32_t keep_empty, double total_square, double tolerance,
                  const Column* columns, const double* scales, const int64_t* sums, double* centroids, double* code_squares,
                  uint32_t* zero, float* packed, float* bias, float* tables, float* bound, uint32_t* control, double* records) {
    DYNAMIC_SHARED(arena);
    double* of_warp = (double*)arena;  // Two numbers a warp.
    const uint32_t lane = threadIdx.x & 31, warp = threadIdx.x / 32, warps = UPDATE_THREADS / 32;
    const int64_t* counts = sums + (size_t)k * width;
    if (control[DONE] != GOING_ON) return;
    if (!prepare_only) {
        const uint32_t changed = control[CHANGED];
        bool empty = false;
        for (uint32_t j = threadIdx.x; j < k; j += UPDATE_THREADS) empty |= counts[j] == 0;
        // Also the point up to which everybody has read what thread 0 writes next.
        if (__syncthreads_or(empty) && !keep_empty) {
            if (threadIdx.x == 0) control[DONE] = DONE_EMPTY;
            return;
        }
        double shift = 0, explained = 0;
        for (uint32_t j = warp; j < k; j += warps) {
            double* c = centroids + (size_t)j * width;
            const int64_t* sum = sums + (size_t)j * width;
            const double rows = (double)counts[j];
            double length = 0;
            if (cosine) {
                double square = 0;
                for (uint32_t i = lane; i < width; i += 32) {
                    const double s = __ddiv_rn((double)sum[i], scales[min(i, number_count)]);
                    square = add(square, multiply(s, s));
                }
                length = __dsqrt_rn(warp_sum(square));
            }
            // Rows that cancel out leave nothing but rounding.
            const bool moves = cosine ? length > multiply(1e-9, rows) : rows > 0;
            double dot = 0;
            for (uint32_t i = lane; i < width; i += 32) {
                const double s = __ddiv_rn((double)sum[i], scales[min(i, number_count)]);
                const double old = c[i];
                const double mean = moves ? __ddiv_rn(s, cosine ? length : rows) : old;
                const double difference = subtract(mean, old);
                shift = add(shift, multiply(difference, difference));
                // What the clusters explain of the rows' squares: n·|c|², or c·Σx under the cosine distance.
                dot = add(dot, cosine ? multiply(mean, s) : multiply(rows, multiply(mean, mean)));
                if (changed) c[i] = mean;
            }
            explained = add(explained, dot);
        }
        shift = warp_sum(shift);
        explained = warp_sum(explained);
        if (lane == 0) {
            of_warp[2 * warp] = shift;
            of_warp[2 * warp + 1] = explained;
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            shift = explained = 0;
            for (uint32_t w = 0; w < warps; w++) {
                shift = add(shift, of_warp[2 * w]);
                explained = add(explained, of_warp[2 * w + 1]);
            }
            const double loss = __ddiv_rn(subtract(total_square, explained), (double)row_count);
            double* record = records + (size_t)RECORD * control[PASS];
            record[0] = changed;
            record[1] = shift;
            record[2] = loss > 0.0 ? loss : 0.0;
            control[PASS] += 1;
            control[CHANGED] = 0;
            if (changed == 0) control[DONE] = DONE_UNCHANGED;
            else if (shift <= tolerance) control[DONE] = DONE_CONVERGED;
        }
        __syncthreads();
    }

    double largest = 0;
    for (uint32_t j = warp; j < k; j += warps) {
        const double* c = centroids + (size_t)j * width;
        double square = 0;
        for (uint32_t i = lane; i < stride; i += 32) {
            const double v = i < number_count ? c[i] : 0.0;
            packed[(size_t)j * stride + i] = (float)multiply(-2.0, v);
            square = add(square, multiply(v, v));
        }
        square = warp_sum(square);
        if (lane == 0) bias[j] = cosine ? 0.0f : (float)square;
        for (uint32_t column = 0; column < code_count; column++) {
            const Column at = columns[column];
            // In order, by every lane alike: the CPU's label rule has this sum to the bit.
            double of_codes = 0;
            for (uint32_t code = 0; code < at.levels; code++) {
                const double v = c[at.offset + code];
                of_codes = add(of_codes, multiply(v, v));
            }
            const double base = cosine ? 0.0 : of_codes;
            for (uint32_t code = lane; code <= at.levels; code += 32) {
                const double v = code < at.levels ? c[at.offset + code] : 0.0;
                tables[at.table + (size_t)code * k + j] = (float)subtract(base, multiply(2.0, v));
            }
            if (lane == 0) code_squares[(size_t)column * k + j] = of_codes;
            square = add(square, of_codes);
        }
        if (lane == 0) zero[j] = square == 0.0;
        largest = fmax(largest, square);
    }
    __syncthreads();
    if (lane == 0) of_warp[warp] = largest;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (uint32_t w = 0; w < warps; w++) largest = fmax(largest, of_warp[w]);
        const double tie = TIE_NANO * 1e-9;
        const double steps = (double)(number_count + code_count + 8);
        bound[BOUND_GAMMA] = (float)(steps * 5.960464477539063e-8 * 1.01);
        bound[BOUND_FAR] = cosine ? 3.402823466e38f : 15.0f;
        bound[BOUND_BASE] = cosine ? 0.0f : (float)largest;
        bound[BOUND_SLOPE] = (float)(2.0 * __dsqrt_rn(largest) * 1.001);
        bound[BOUND_TIE_SQUARE] = cosine ? 0.0f : (float)(4.4 * tie);
        bound[BOUND_TIE_NORM] = cosine ? (float)(15.0 * tie) : 0.0f;
        bound[BOUND_CODES] = (float)code_count;
    }
}

// For each cluster, the sum of its rows' squared distances to its centroid: a partial result for each block, which takes
// `block_rows` rows. Cluster by cluster in the order of the rows, so that sums repeat to the bit.
extern "C" __global__ void __launch_bounds__(INERTIA_THREADS)
    assign_inertia(uint64_t row_count, uint32_t number_count, uint32_t code_count, uint32_t k, uint32_t width, uint32_t lane_rows,
                   uint32_t cosine, uint64_t block_rows, const float* tiles, const uint32_t* codes, const Column* columns,
                   const double* centroids, const double* code_squares, const uint32_t* zero, const uint16_t* labels,
                   double* partials) {
    const Shape shape = {row_count, number_count, code_count, k, width, lane_rows, cosine};
    DYNAMIC_SHARED(arena);
    double* squares = (double*)arena;
    uint32_t* clusters = (uint32_t*)(squares + INERTIA_THREADS);
    double* mine = partials + (size_t)blockIdx.x * k;
    for (uint32_t j = threadIdx.x; j < k; j += INERTIA_THREADS) mine[j] = 0;
    const uint64_t begin = (uint64_t)blockIdx.x * block_rows;
    const uint64_t end = begin + block_rows < row_count ? begin + block_rows : row_count;
    for (uint64_t first = begin; first < end; first += INERTIA_THREADS) {
        const uint64_t number = first + threadIdx.x;
        __syncthreads();
        if (number < end) {
            const Row row = row_at(shape, tiles, codes, number);
            const uint32_t label = labels[number];
            clusters[threadIdx.x] = label;
            squares[threadIdx.x] = measure(shape, columns, row, scale_of_row(shape, columns, row), centroids, code_squares, zero, label);
        }
        __syncthreads();
        const uint32_t count = end - first < INERTIA_THREADS ? (uint32_t)(end - first) : INERTIA_THREADS;
        for (uint32_t j = threadIdx.x; j < k; j += INERTIA_THREADS) {
            double sum = mine[j];
            for (uint32_t i = 0; i < count; i++)
                if (clusters[i] == j) sum = add(sum, squares[i]);
            mine[j] = sum;
        }
    }
}
