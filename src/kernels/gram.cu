// Weighted Gram matrices in f64. A block of threads takes a range of rows, panel by panel: the panel's design (numbers, intercept,
// categories) is written out in shared memory alone, then each thread adds up a tile of 4 x 4 of the lower triangle in registers, over
// its slice of the panel's rows. Slices, and then blocks, are added in a fixed order, so that sums repeat to the bit.

// Rows of a panel: one for each lane of a warp.
#define PANEL_ROWS 32
#define GRAM_THREADS 256
#define REDUCE_THREADS 256
// Columns and rows of a tile.
#define TILE 4
// Numbers behind the matrix and the vector: loss, weight, highest predictor of class 0, lowest of class 1.
#define SCALARS 4
// What is summed.
#define JOB_WEIGHTED 0
#define JOB_LOGISTIC 1

struct Columns {
    uint32_t number_count;
    uint32_t code_count;
    // Numbers, intercept, categories.
    uint32_t width;
    // The same, rounded up to whole tiles.
    uint32_t stride;
    const uint32_t* levels;
    // Where each code column's categories begin.
    const uint32_t* offsets;
};

__device__ __forceinline__ double minimum(double a, double b) { return b < a ? b : a; }
__device__ __forceinline__ double maximum(double a, double b) { return a < b ? b : a; }

// The tile's row and column among tiles, for the tiles of the lower triangle row by row.
__device__ __forceinline__ void place_of_tile(uint32_t tile, uint32_t* row, uint32_t* column) {
    uint32_t i = (uint32_t)((__dsqrt_rn(8.0 * tile + 1.0) - 1.0) * 0.5);
    // The root is rounded.
    while ((uint64_t)(i + 1) * (i + 2) / 2 <= tile) i++;
    while ((uint64_t)i * (i + 1) / 2 > tile) i--;
    *row = i;
    *column = tile - i * (i + 1) / 2;
}

// Sums over the rows of one block, blockIdx.x + first_block of all, into its partial result: tiles of the matrix, the vector, scalars.
// blockIdx.y says which tiles; `slices` threads share a tile where there are fewer tiles than threads.
extern "C" __global__ void __launch_bounds__(GRAM_THREADS)
    gram_sums(uint64_t row_count, uint32_t number_count, uint32_t code_count, uint32_t width, uint32_t tile_count, uint32_t slices,
              uint64_t block_rows, uint32_t first_block, uint32_t job, const double* numbers, const uint32_t* codes,
              const uint32_t* levels, const uint32_t* offsets, const double* weights, const double* targets, const uint8_t* labels,
              const uint8_t* folds, uint32_t left_out, const double* coefficients, double weight_zero, double weight_one,
              double* partials) {
    DYNAMIC_SHARED(arena);
    const Columns columns = {number_count, code_count, width, (width + TILE - 1) / TILE * TILE, levels, offsets};
    double* x = (double*)arena;                            // PANEL_ROWS x stride
    double* weight = x + (size_t)PANEL_ROWS * columns.stride;  // of each row of the panel
    double* residual = weight + PANEL_ROWS;
    double* loss = residual + PANEL_ROWS;
    double* total = loss + PANEL_ROWS;
    double* high = total + PANEL_ROWS;
    double* low = high + PANEL_ROWS;
    double* beta = low + PANEL_ROWS;                       // stride

    const uint32_t thread = threadIdx.x, lane = thread & 31;
    const uint32_t first_tile = blockIdx.y * GRAM_THREADS;
    const uint32_t my_tile = slices > 1 ? thread % tile_count : first_tile + thread;
    const uint32_t my_slice = slices > 1 ? thread / tile_count : 0;
    const bool has_tile = my_tile < tile_count && my_slice < slices;
    uint32_t tile_row = 0, tile_column = 0;
    if (has_tile) place_of_tile(my_tile, &tile_row, &tile_column);
    double sums[TILE][TILE];
#pragma unroll
    for (int i = 0; i < TILE; i++)
#pragma unroll
        for (int j = 0; j < TILE; j++) sums[i][j] = 0;
    const double infinity = __longlong_as_double(0x7FF0000000000000ll);
    double all_loss = 0, all_weight = 0, highest = -infinity, lowest = infinity;
    if (job == JOB_LOGISTIC)
        for (uint32_t j = thread; j < columns.stride; j += GRAM_THREADS) beta[j] = j < width ? coefficients[j] : 0.0;

    const uint64_t begin = (uint64_t)blockIdx.x * block_rows;
    const uint64_t end = begin + block_rows < row_count ? begin + block_rows : row_count;
    double* partial = partials + (size_t)(first_block + blockIdx.x) * ((size_t)tile_count * TILE * TILE + width + SCALARS);
    double* vector = partial + (size_t)tile_count * TILE * TILE;
    // The vector's sums stay in global memory: one thread a column, and only the first group of tiles has them.
    if (blockIdx.y == 0)
        for (uint32_t j = thread; j < width; j += GRAM_THREADS) vector[j] = 0;

    for (uint64_t first = begin; first < end; first += PANEL_ROWS) {
        const uint32_t count = end - first < PANEL_ROWS ? (uint32_t)(end - first) : PANEL_ROWS;
        __syncthreads();
        // The numbers, which lie in one piece; whatever else is 0 at first.
        for (uint32_t i = thread; i < count * number_count; i += GRAM_THREADS)
            x[(size_t)(i / number_count) * columns.stride + i % number_count] = numbers[first * number_count + i];
        const uint32_t others = columns.stride - number_count;
        for (uint32_t i = thread; i < count * others; i += GRAM_THREADS) {
            const uint32_t column = number_count + i % others;
            x[(size_t)(i / others) * columns.stride + column] = column == number_count ? 1.0 : 0.0;
        }
        __syncthreads();
        for (uint32_t i = thread; i < count * code_count; i += GRAM_THREADS) {
            const uint32_t row = i / code_count, column = i % code_count;
            const uint32_t code = codes[(first + row) * code_count + column];
            if (code < levels[column]) x[(size_t)row * columns.stride + offsets[column] + code] = 1.0;
        }
        __syncthreads();
        // Eight lanes a row; all 256 threads have one of 32 rows.
        {
            const uint32_t row = thread / 8, part = thread % 8;
            const bool valid = row < count;
            double w = 0, r = 0, l = 0, t = 0, h = -infinity, o = infinity;
            if (job == JOB_LOGISTIC) {
                double eta = 0;
                if (valid)
                    for (uint32_t j = part; j < columns.stride; j += 8) eta = fma(x[(size_t)row * columns.stride + j], beta[j], eta);
                eta = add(eta, __shfl_xor_sync(FULL_WARP, eta, 4));
                eta = add(eta, __shfl_xor_sync(FULL_WARP, eta, 1));
                eta = add(eta, __shfl_xor_sync(FULL_WARP, eta, 2));
                const uint32_t label = valid ? labels[first + row] : 2;
                if (label <= 1 && (folds == nullptr || folds[first + row] != left_out)) {
                    const double e = exp(-fabs(eta));
                    const double q = __ddiv_rn(1.0, add(1.0, e)), other = multiply(e, q);
                    t = label ? weight_one : weight_zero;
                    w = multiply(t, multiply(other, q));
                    l = multiply(t, add(maximum(label ? -eta : eta, 0.0), log1p(e)));
                    if (label) {
                        r = multiply(-t, eta >= 0 ? other : q);
                        o = eta;
                    } else {
                        r = multiply(t, eta >= 0 ? q : other);
                        h = eta;
                    }
                }
            } else if (valid) {
                w = t = weights ? weights[first + row] : 1.0;
                r = targets ? multiply(w, targets[first + row]) : 0.0;
            }
            if (part == 0) {
                weight[row] = w;
                residual[row] = r;
                loss[row] = l;
                total[row] = t;
                high[row] = h;
                low[row] = o;
            }
        }
        __syncthreads();
        if (has_tile)
            for (uint32_t row = my_slice; row < count; row += slices) {
                const double w = weight[row];
                const double2* left = (const double2*)(x + (size_t)row * columns.stride + tile_row * TILE);
                const double2* right = (const double2*)(x + (size_t)row * columns.stride + tile_column * TILE);
                const double2 l0 = left[0], l1 = left[1], r0 = right[0], r1 = right[1];
                const double a[TILE] = {multiply(w, l0.x), multiply(w, l0.y), multiply(w, l1.x), multiply(w, l1.y)};
                const double b[TILE] = {r0.x, r0.y, r1.x, r1.y};
#pragma unroll
                for (int i = 0; i < TILE; i++)
#pragma unroll
                    for (int j = 0; j < TILE; j++) sums[i][j] = fma(a[i], b[j], sums[i][j]);
            }
        if (blockIdx.y == 0) {
            for (uint32_t j = thread; j < width; j += GRAM_THREADS) {
                double sum = vector[j];
                for (uint32_t row = 0; row < count; row++) sum = fma(residual[row], x[(size_t)row * columns.stride + j], sum);
                vector[j] = sum;
            }
            if (thread < 32) {
                // Rows beyond the last count nothing.
                all_loss = add(all_loss, warp_sum(loss[lane]));
                all_weight = add(all_weight, warp_sum(total[lane]));
                highest = maximum(highest, high[lane]);
                lowest = minimum(lowest, low[lane]);
            }
        }
    }

    if (slices == 1) {
        if (has_tile)
#pragma unroll
            for (int i = 0; i < TILE; i++)
#pragma unroll
                for (int j = 0; j < TILE; j++) partial[(size_t)my_tile * TILE * TILE + i * TILE + j] = sums[i][j];
    } else {
        double* shared = (double*)arena;
        for (uint32_t slice = 0; slice < slices; slice++) {
            __syncthreads();
            if (has_tile && my_slice == slice)
#pragma unroll
                for (int i = 0; i < TILE; i++)
#pragma unroll
                    for (int j = 0; j < TILE; j++) {
                        double* cell = shared + (size_t)my_tile * TILE * TILE + i * TILE + j;
                        *cell = slice == 0 ? sums[i][j] : add(*cell, sums[i][j]);
                    }
        }
        __syncthreads();
        for (uint32_t i = thread; i < tile_count * TILE * TILE; i += GRAM_THREADS) partial[i] = shared[i];
    }
    if (blockIdx.y == 0 && thread < 32) {
        for (int offset = 16; offset > 0; offset >>= 1) {
            highest = maximum(highest, __shfl_xor_sync(FULL_WARP, highest, offset));
            lowest = minimum(lowest, __shfl_xor_sync(FULL_WARP, lowest, offset));
        }
        if (lane == 0) {
            double* scalars = vector + width;
            scalars[0] = all_loss;
            scalars[1] = all_weight;
            scalars[2] = highest;
            scalars[3] = lowest;
        }
    }
}

// The blocks' partial results, added in order: a thread takes one of their numbers. Of the last two the largest and the least.
extern "C" __global__ void gram_reduce(uint32_t block_count, uint64_t number_count, const double* partials, double* totals) {
    const uint64_t at = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= number_count) return;
    const uint64_t from_end = number_count - at;
    double sum = partials[at];
    for (uint32_t block = 1; block < block_count; block++) {
        const double v = partials[(size_t)block * number_count + at];
        sum = from_end == 1 ? minimum(sum, v) : from_end == 2 ? maximum(sum, v) : add(sum, v);
    }
    totals[at] = sum;
}
