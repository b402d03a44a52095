// What every CUDA source begins with. Compiled by NVRTC for a card, or by a C++ compiler for the tests' emulator.
#ifndef EMULATED
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
typedef int int32_t;
typedef long long int64_t;
// One name for the whole program: every kernel sees the block's own memory through it.
extern __shared__ __align__(16) unsigned char dynamic_shared_memory[];
#define DYNAMIC_SHARED(arena) unsigned char* arena = dynamic_shared_memory
#endif

#define FULL_WARP 0xFFFFFFFFu

// Products and sums in f64, each rounded on its own, as Rust rounds them.
__device__ __forceinline__ double multiply(double a, double b) { return __dmul_rn(a, b); }
__device__ __forceinline__ double add(double a, double b) { return __dadd_rn(a, b); }
__device__ __forceinline__ double subtract(double a, double b) { return __dsub_rn(a, b); }

// The sum of a warp's values, in the same order whenever it runs; every lane gets it.
__device__ __forceinline__ double warp_sum(double value) {
    for (int offset = 16; offset > 0; offset >>= 1) value = add(value, __shfl_xor_sync(FULL_WARP, value, offset));
    return value;
}
