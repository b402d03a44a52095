// Runs CUDA kernels on the CPU, so that tests can check a .cu file's logic with nothing but g++.
//
// A generated wrapper includes this header, then the very source that is compiled for the GPU, then
// lists its kernels:
//
//     #include "emulator.h"
//     #include "kernels.cu"
//     EMULATOR_BEGIN
//     EMULATOR_KERNEL(some_kernel)
//     EMULATOR_END
//
// and is built with: c++ -std=c++17 -O2 -fPIC -shared -ffp-contract=off -mfma (-mfma only where the
// CPU has it; fma() is correctly rounded without it too, only slow). Contraction has to be off, or
// a*b+c would be fused behind the back of code that asks for two roundings.
//
// The threads of a block are fibers in one OS thread, and blocks run one after another. A fiber runs
// until its next barrier or warp collective; the ready fiber that comes first in the launch's order
// goes next, so a warp runs ahead as far as it can. A kernel that lacks a barrier therefore gives
// different results under different orders, and one that cannot go on is reported, not hung.
#pragma once

// Standard headers come first: they use names such as __noinline__ that are macros further down.
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cstdarg>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#if !defined(__x86_64__) || !defined(__ELF__)
#define EMULATOR_UCONTEXT 1
#endif
#ifdef EMULATOR_UCONTEXT
#include <ucontext.h>
#endif

#define EMULATED 1
#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)
#define __shared__ static_shared_memory_is_not_emulated_use_DYNAMIC_SHARED
#define DYNAMIC_SHARED(name) unsigned char* name = ::emulator::machine->arena

// ---- Built-in types and variables ----

#define EMULATOR_VECTOR2(name, type) \
    struct alignas(2 * sizeof(type)) name { type x, y; }; \
    static inline name make_##name(type x, type y) { return {x, y}; }
#define EMULATOR_VECTOR4(name, type) \
    struct alignas(16) name { type x, y, z, w; }; \
    static inline name make_##name(type x, type y, type z, type w) { return {x, y, z, w}; }
EMULATOR_VECTOR2(int2, int)
EMULATOR_VECTOR2(uint2, unsigned)
EMULATOR_VECTOR2(float2, float)
EMULATOR_VECTOR2(double2, double)
EMULATOR_VECTOR4(int4, int)
EMULATOR_VECTOR4(uint4, unsigned)
EMULATOR_VECTOR4(float4, float)

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x = 1, y = 1, z = 1; };

// Everything is static or in an unnamed namespace: libraries of several kernels are loaded into one
// process, and the loader would merge inline variables across them.
static thread_local uint3 threadIdx, blockIdx;
static thread_local dim3 blockDim, gridDim;
static constexpr int warpSize = 32;

// ---- Fibers, barriers and collectives ----

#ifndef EMULATOR_UCONTEXT
// Saves the callee-saved registers on this stack, its top in *save, and goes on with stack `load`.
extern "C" __attribute__((visibility("hidden"))) void emulator_switch(void** save, void* load);
asm(R"(
    .pushsection .text
    .p2align 4
    .type emulator_switch, @function
emulator_switch:
    pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
    ret
    .size emulator_switch, .-emulator_switch
    .popsection
)");
#endif

namespace emulator {
namespace {

constexpr unsigned max_threads = 1024;
constexpr size_t stack_bytes = 64 * 1024;
// An odd number of cache lines between stacks, or all stack tops would fall into one cache set.
constexpr size_t stack_stride = stack_bytes + 3 * 64;
constexpr size_t stack_spare = 4096;   // under the lowest stack
constexpr size_t guard_bytes = 4096;  // on either side of shared memory
constexpr unsigned char guard_byte = 0xA5;
constexpr uint64_t stack_mark = 0x5AFE57AC5AFE57ACull;  // at the far end of every stack

// What a fiber waits for. The block barriers come before the warp collectives.
enum Wait : unsigned {
    running, returned, sync, sync_or, sync_and, sync_count,
    warp_sync, shuffle, shuffle_xor, shuffle_down, shuffle_up, ballot, any, all, match_any,
    reduce_add, reduce_min_int, reduce_max_int, reduce_min_unsigned, reduce_max_unsigned, wait_kinds
};
constexpr const char* wait_names[wait_kinds] = {
    "running", "returned", "__syncthreads", "__syncthreads_or", "__syncthreads_and",
    "__syncthreads_count", "__syncwarp", "__shfl_sync", "__shfl_xor_sync", "__shfl_down_sync",
    "__shfl_up_sync", "__ballot_sync", "__any_sync", "__all_sync", "__match_any_sync",
    "__reduce_add_sync", "__reduce_min_sync (int)", "__reduce_max_sync (int)",
    "__reduce_min_sync (unsigned)", "__reduce_max_sync (unsigned)"};

#ifdef EMULATOR_UCONTEXT
using Context = ucontext_t;
inline void switch_context(Context& from, Context& to) { swapcontext(&from, &to); }
#else
using Context = void*;
inline void switch_context(Context& from, Context& to) { emulator_switch(&from, to); }
#endif

struct Fiber {
    Context context;
    unsigned rank;    // place in the order of resumption
    Wait wait;
    int line;         // of the barrier or collective
    unsigned mask;    // of the collective
    unsigned source;  // the lane a shuffle reads
    uint64_t value;   // what the lane brings to the collective, then what it gets from it
};

// A fixed generator (splitmix64): shuffled orders are the same everywhere.
struct Random {
    uint64_t state;
    uint64_t next() {
        uint64_t z = state += 0x9E3779B97F4A7C15ull;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
        return z ^ (z >> 31);
    }
};

// Lists 0..count-1 ascending (order 0), descending (1), or shuffled by order and salt.
template <class T>
void arrange(std::vector<T>& list, size_t count, unsigned order, uint64_t salt) {
    list.resize(count);
    for (size_t i = 0; i < count; i++) list[i] = T(order == 1 ? count - 1 - i : i);
    Random random{(uint64_t(order) << 32) ^ salt};
    for (size_t i = count; order > 1 && i > 1; i--) std::swap(list[i - 1], list[random.next() % i]);
}

using Body = void (*)(void** arguments);
struct Kernel { const char* name; Body body; };

void fiber_main();

// One OS thread's emulated device: the block that it runs, and the memory that it reuses.
struct Machine {
    unsigned char* arena;
    const char* name;
    Body body;
    void** arguments;
    unsigned threads, order;
    char* error;
    unsigned error_length;
    bool failed;

    Context scheduler;
    std::vector<Fiber> fibers;
    std::vector<unsigned> by_rank;        // thread of each rank
    uint64_t ready[max_threads / 64];     // bit per rank
    unsigned in_collective[max_threads / 32];  // per warp, the lanes that wait in a collective
    unsigned current, exited;
    unsigned at_barrier, barrier_true;    // threads at the block barrier, true predicates among them
    Wait barrier_kind;
    int barrier_line;

    std::unique_ptr<unsigned char[]> stacks;
    size_t stack_count = 0;
    std::vector<unsigned char> memory;

    // The lowest stack starts past some spare room, so that a small overrun is reported, not a crash.
    unsigned char* stack(unsigned thread) {
        uintptr_t lowest = (uintptr_t(stacks.get()) + stack_spare) & ~uintptr_t(63);
        return (unsigned char*)lowest + thread * stack_stride;
    }

    __attribute__((format(printf, 2, 3))) void report(const char* format, ...) {
        failed = true;
        if (!error || !error_length) return;
        int used = snprintf(error, error_length, "%s, block (%u, %u), order %u: ", name, blockIdx.x,
                            blockIdx.y, order);
        if (used < 0 || unsigned(used) >= error_length) return;
        va_list values;
        va_start(values, format);
        vsnprintf(error + used, error_length - used, format, values);
        va_end(values);
    }

    void suspend() { switch_context(fibers[current].context, scheduler); }

    // After an error no fiber is ever resumed: all are abandoned with what is on their stacks.
    [[noreturn]] void abandon() {
        suspend();
        __builtin_trap();
    }

    void make_ready(Fiber& fiber) {
        fiber.wait = running;
        ready[fiber.rank / 64] |= uint64_t(1) << (fiber.rank % 64);
    }

    void release_barrier_if_complete() {
        if (!at_barrier || at_barrier + exited != threads) return;
        uint64_t result = barrier_kind == sync_or    ? barrier_true != 0
                          : barrier_kind == sync_and ? barrier_true == at_barrier
                                                     : barrier_true;
        at_barrier = 0;
        for (Fiber& fiber : fibers) {
            if (fiber.wait == returned) continue;
            fiber.value = result;
            make_ready(fiber);
        }
    }

    int barrier(Wait kind, bool predicate, int line) {
        if (!at_barrier) {
            barrier_kind = kind;
            barrier_line = line;
            barrier_true = 0;
        } else if (barrier_kind != kind || barrier_line != line) {
            report("divergent barrier: %u threads wait at %s (line %d) when thread %u reaches %s (line %d)",
                   at_barrier, wait_names[barrier_kind], barrier_line, current, wait_names[kind], line);
            abandon();
        }
        fibers[current].wait = kind;
        fibers[current].line = line;
        at_barrier++;
        barrier_true += predicate;
        release_barrier_if_complete();
        suspend();
        return int(fibers[current].value);
    }

    // The lanes of the current warp that the launch has: the last warp may be a partial one.
    unsigned lanes() const {
        unsigned count = threads - (current & ~31u);
        return count >= 32 ? ~0u : (1u << count) - 1;
    }

    uint64_t collective(Wait kind, unsigned mask, uint64_t value, unsigned source, int line) {
        Fiber& self = fibers[current];
        unsigned lane = current % 32;
        mask &= lanes();
        if (!(mask >> lane & 1)) {
            report("thread %u is not in the mask 0x%08x of its %s (line %d)", current, mask,
                   wait_names[kind], line);
            abandon();
        }
        self.wait = kind;
        self.line = line;
        self.mask = mask;
        self.source = source;
        self.value = value;
        unsigned& waiting = in_collective[current / 32];
        waiting |= 1u << lane;
        if ((waiting & mask) == mask) complete_collective(&fibers[current & ~31u], kind, mask, waiting);
        suspend();
        return self.value;
    }

    void complete_collective(Fiber* warp, Wait kind, unsigned mask, unsigned& waiting) {
        for (unsigned rest = mask; rest; rest &= rest - 1) {
            const Fiber& lane = warp[__builtin_ctz(rest)];
            if (lane.wait != kind || lane.mask != mask) return;  // that lane waits for something else
        }
        uint64_t values[32] = {}, first = warp[__builtin_ctz(mask)].value, reduced = first;
        unsigned votes = 0;
        for (unsigned rest = mask; rest; rest &= rest - 1) {
            unsigned lane = __builtin_ctz(rest);
            uint64_t value = values[lane] = warp[lane].value;
            votes |= unsigned(value != 0) << lane;
            bool less = kind == reduce_min_int || kind == reduce_max_int
                            ? int32_t(value) < int32_t(reduced) : value < reduced;
            if (kind == reduce_add) reduced = rest == mask ? value : uint32_t(reduced + value);
            else if (less == (kind == reduce_min_int || kind == reduce_min_unsigned)) reduced = value;
        }
        for (unsigned rest = mask; rest; rest &= rest - 1) {
            unsigned lane = __builtin_ctz(rest);
            Fiber& fiber = warp[lane];
            uint64_t result = 0;
            switch (kind) {
                case shuffle: case shuffle_xor: case shuffle_down: case shuffle_up:
                    // What a lane outside the mask would give is undefined: a NaN shows its use.
                    result = mask >> fiber.source & 1 ? values[fiber.source] : ~uint64_t(0);
                    break;
                case ballot: result = votes; break;
                case any: result = votes != 0; break;
                case all: result = votes == mask; break;
                case match_any:
                    for (unsigned i = 0; i < 32; i++)
                        result |= uint64_t((mask >> i & 1) && values[i] == values[lane]) << i;
                    break;
                default: result = reduced; break;
            }
            fiber.value = result;
            make_ready(fiber);
        }
        waiting &= ~mask;
    }

    void prepare_fiber(unsigned thread) {
        Fiber& fiber = fibers[thread];
        unsigned char* low = stack(thread);
#ifdef EMULATOR_UCONTEXT
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = low + 64;  // past the mark
        fiber.context.uc_stack.ss_size = stack_bytes - 64;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, fiber_main, 0);
#else
        // What emulator_switch pops: six registers, then its return address. The slot above stands
        // for fiber_main's own return address, which puts the stack at the ABI's alignment.
        void** top = (void**)(low + stack_bytes) - 8;
        memset(top, 0, 8 * sizeof *top);
        top[6] = (void*)fiber_main;
        fiber.context = top;
#endif
        make_ready(fiber);
    }

    int next_ready() const {
        for (unsigned word = 0; word < (threads + 63) / 64; word++)
            if (ready[word]) return int(word * 64 + __builtin_ctzll(ready[word]));
        return -1;
    }

    void report_deadlock() {
        char text[400] = "";
        size_t used = 0;
        for (unsigned kind = returned; kind < wait_kinds; kind++) {
            unsigned count = 0;
            int line = 0;
            for (const Fiber& fiber : fibers)
                if (fiber.wait == kind && !count++) line = fiber.line;
            if (!count || used >= sizeof text) continue;
            used += snprintf(text + used, sizeof text - used, "%s%u %s%s", used ? ", " : "", count,
                             kind == returned ? "" : "at ", wait_names[kind]);
            if (kind != returned && used < sizeof text)
                used += snprintf(text + used, sizeof text - used, " (line %d)", line);
        }
        report("deadlock, of %u threads: %s", threads, text);
    }

    static bool intact(const unsigned char* guard) {
        return guard[0] == guard_byte && !memcmp(guard, guard + 1, guard_bytes - 1);
    }

    void run_block(unsigned shared_bytes, uint64_t block) {
        memset(arena, 0xFF, shared_bytes);
        memset(ready, 0, sizeof ready);
        memset(in_collective, 0, sizeof in_collective);
        exited = at_barrier = 0;
        arrange(by_rank, threads, order, block + 1);
        for (unsigned rank = 0; rank < threads; rank++) fibers[by_rank[rank]].rank = rank;
        for (unsigned thread = 0; thread < threads; thread++) prepare_fiber(thread);
        while (!failed && exited < threads) {
            int rank = next_ready();
            if (rank < 0) return report_deadlock();
            ready[rank / 64] &= ~(uint64_t(1) << (rank % 64));
            current = by_rank[rank];
            threadIdx.x = current;
            switch_context(scheduler, fibers[current].context);
        }
        if (failed) return;
        if (!intact(arena - guard_bytes)) return report("shared memory underrun: written before its start");
        if (!intact(arena + shared_bytes))
            return report("shared memory overrun: written behind its %u bytes", shared_bytes);
        for (unsigned thread = 0; thread < threads; thread++)
            if (memcmp(stack(thread), &stack_mark, sizeof stack_mark))
                return report("stack overrun: thread %u needs more than %zu bytes", thread, stack_bytes);
    }

    void reserve(unsigned shared_bytes) {
        fibers.assign(threads, Fiber());
        if (stack_count < threads) {  // pages that no fiber touches are never committed
            stacks.reset(new unsigned char[threads * stack_stride + stack_spare]);
            stack_count = threads;
        }
        // Marked at every launch: one that failed may have damaged the marks.
        for (unsigned thread = 0; thread < threads; thread++)
            memcpy(stack(thread), &stack_mark, sizeof stack_mark);
        memory.assign(shared_bytes + 2 * guard_bytes + 128, guard_byte);
        arena = (unsigned char*)((uintptr_t(memory.data()) + guard_bytes + 127) & ~uintptr_t(127));
    }
};

// A plain pointer: a thread_local object with a destructor would be checked at every access.
thread_local Machine* machine = nullptr;

void fiber_main() {
    machine->body(machine->arguments);
    machine->fibers[machine->current].wait = returned;
    machine->exited++;
    machine->release_barrier_if_complete();
    machine->abandon();
}

template <class... Types, size_t... I>
inline void apply(void (*kernel)(Types...), void** arguments, std::index_sequence<I...>) {
    (void)arguments;
    kernel(*static_cast<Types*>(arguments[I])...);
}
template <class... Types>
inline void apply(void (*kernel)(Types...), void** arguments) {
    apply(kernel, arguments, std::index_sequence_for<Types...>());
}
template <auto kernel>
void call(void** arguments) { apply(kernel, arguments); }

inline int launch(const Kernel* kernels, const char* name, unsigned grid_x, unsigned grid_y,
                  unsigned threads, unsigned shared_bytes, void** arguments, unsigned order,
                  char* error, unsigned error_length) {
    if (error && error_length) *error = 0;
    while (kernels->name && strcmp(kernels->name, name)) kernels++;
    if (!kernels->name || !grid_x || !grid_y || !threads || threads > max_threads) {
        if (error)
            snprintf(error, error_length, "%s: %s", name,
                     kernels->name ? "impossible launch size" : "unknown kernel");
        return 1;
    }
    static thread_local Machine storage;
    Machine& m = *(machine = &storage);
    m.name = name;
    m.body = kernels->body;
    m.arguments = arguments;
    m.threads = threads;
    m.order = order;
    m.error = error;
    m.error_length = error_length;
    m.failed = false;
    m.reserve(shared_bytes);
    gridDim = {grid_x, grid_y, 1};
    blockDim = {threads, 1, 1};
    threadIdx = {0, 0, 0};
    std::vector<uint64_t> blocks;
    arrange(blocks, size_t(grid_x) * grid_y, order, 0);
    for (size_t i = 0; i < blocks.size() && !m.failed; i++) {
        blockIdx = {unsigned(blocks[i] % grid_x), unsigned(blocks[i] / grid_x), 0};
        m.run_block(shared_bytes, blocks[i]);
    }
    return m.failed;
}

template <class To, class From>
inline To bits(From value) {
    static_assert(sizeof(To) == sizeof(From), "different sizes");
    To result;
    memcpy(&result, &value, sizeof result);
    return result;
}

template <class T>
inline T shuffled(Wait kind, unsigned mask, T value, unsigned source, int line) {
    static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "32- or 64-bit only");
    uint64_t word = 0;
    memcpy(&word, &value, sizeof value);
    word = machine->collective(kind, mask, word, source, line);
    memcpy(&value, &word, sizeof value);
    return value;
}

inline unsigned lane() { return threadIdx.x % 32; }

// The conversions saturate, and NaN becomes the lowest value, as on the GPU.
inline long long round_to_integer(double value) {
    if (!(value >= -0x1p63)) return LLONG_MIN;
    return value >= 0x1p63 ? LLONG_MAX : llrint(value);
}

template <class T> struct Same { using type = T; };  // keeps an argument out of deduction
template <class T, class... Allowed>
constexpr bool one_of = (std::is_same_v<T, Allowed> || ...);

}  // namespace
}  // namespace emulator

#define EMULATOR_BEGIN \
    extern "C" __attribute__((visibility("default"))) int emulator_launch( \
        const char* kernel, unsigned grid_x, unsigned grid_y, unsigned threads, unsigned shared_bytes, \
        void** arguments, unsigned order, char* error, unsigned error_length) { \
        static const ::emulator::Kernel kernels[] = {
#define EMULATOR_KERNEL(...) {#__VA_ARGS__, &::emulator::call<__VA_ARGS__>},
#define EMULATOR_END \
        {nullptr, nullptr}}; \
        return ::emulator::launch(kernels, kernel, grid_x, grid_y, threads, shared_bytes, arguments, \
                                  order, error, error_length); \
    }

// ---- Barriers and warp collectives as kernels call them; `line` is never passed by hand ----

#define EMULATOR_LINE int line = __builtin_LINE()
#define EMULATOR_BARRIER(name, kind) \
    static inline int name(int predicate, EMULATOR_LINE) { \
        return ::emulator::machine->barrier(::emulator::kind, predicate != 0, line); \
    }
EMULATOR_BARRIER(__syncthreads_or, sync_or)
EMULATOR_BARRIER(__syncthreads_and, sync_and)
EMULATOR_BARRIER(__syncthreads_count, sync_count)
static inline void __syncthreads(EMULATOR_LINE) { emulator::machine->barrier(emulator::sync, false, line); }

#define EMULATOR_COLLECTIVE(type, name, kind, argument, word) \
    static inline type name(unsigned mask, argument value, EMULATOR_LINE) { \
        return type(::emulator::machine->collective(::emulator::kind, mask, word, 0, line)); \
    }
EMULATOR_COLLECTIVE(unsigned, __ballot_sync, ballot, int, value != 0)
EMULATOR_COLLECTIVE(int, __any_sync, any, int, value != 0)
EMULATOR_COLLECTIVE(int, __all_sync, all, int, value != 0)
EMULATOR_COLLECTIVE(int, __reduce_add_sync, reduce_add, int, unsigned(value))
EMULATOR_COLLECTIVE(unsigned, __reduce_add_sync, reduce_add, unsigned, value)
EMULATOR_COLLECTIVE(int, __reduce_min_sync, reduce_min_int, int, unsigned(value))
EMULATOR_COLLECTIVE(unsigned, __reduce_min_sync, reduce_min_unsigned, unsigned, value)
EMULATOR_COLLECTIVE(int, __reduce_max_sync, reduce_max_int, int, unsigned(value))
EMULATOR_COLLECTIVE(unsigned, __reduce_max_sync, reduce_max_unsigned, unsigned, value)

static inline void __syncwarp(unsigned mask = ~0u, EMULATOR_LINE) {
    emulator::machine->collective(emulator::warp_sync, mask, 0, 0, line);
}
template <class T>
static inline unsigned __match_any_sync(unsigned mask, T value, EMULATOR_LINE) {
    static_assert(sizeof(T) == 4, "32-bit only");
    uint64_t word = emulator::bits<uint32_t>(value);
    return unsigned(emulator::machine->collective(emulator::match_any, mask, word, 0, line));
}

// A shuffle works within segments of `width` lanes; a lane whose source lies outside keeps its value.
template <class T>
static inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, EMULATOR_LINE) {
    unsigned low = emulator::lane() & ~(width - 1u);
    return emulator::shuffled(emulator::shuffle, mask, value, low | (source & (width - 1u)), line);
}
template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, EMULATOR_LINE) {
    unsigned own = emulator::lane(), source = own ^ (lanes & 31);
    if (source > (own | (width - 1u))) source = own;
    return emulator::shuffled(emulator::shuffle_xor, mask, value, source, line);
}
template <class T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, EMULATOR_LINE) {
    unsigned own = emulator::lane(), source = own + (delta & 31);
    if (source > (own | (width - 1u))) source = own;
    return emulator::shuffled(emulator::shuffle_down, mask, value, source, line);
}
template <class T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, EMULATOR_LINE) {
    unsigned own = emulator::lane(), source = own - (delta & 31);
    if (int(source) < int(own & ~(width - 1u))) source = own;
    return emulator::shuffled(emulator::shuffle_up, mask, value, source, line);
}

// All lanes that have not returned, as if a warp never diverged without need.
static inline unsigned __activemask() {
    const emulator::Machine& m = *emulator::machine;
    unsigned live = m.lanes();
    for (unsigned lane = 0; lane < 32; lane++)
        if ((live >> lane & 1) && m.fibers[(m.current & ~31u) + lane].wait == emulator::returned)
            live &= ~(1u << lane);
    return live;
}
static inline void __threadfence() {}
static inline void __threadfence_block() {}

// ---- Atomics: fibers share one OS thread and never switch inside, so plain accesses are atomic ----

#define EMULATOR_ATOMIC(name, result, ...) \
    template <class T> \
    static inline T name(T* address, typename ::emulator::Same<T>::type value) { \
        static_assert(::emulator::one_of<T, __VA_ARGS__>, "the GPU has no such " #name); \
        T old = *address; \
        *address = result; \
        return old; \
    }
EMULATOR_ATOMIC(atomicAdd, old + value, int, unsigned, unsigned long long, float, double)
EMULATOR_ATOMIC(atomicMax, value > old ? value : old, int, unsigned, unsigned long long)
EMULATOR_ATOMIC(atomicMin, value < old ? value : old, int, unsigned, unsigned long long)
EMULATOR_ATOMIC(atomicOr, old | value, int, unsigned, unsigned long long)
EMULATOR_ATOMIC(atomicExch, value, int, unsigned, unsigned long long, float)
template <class T>
static inline T atomicCAS(T* address, typename emulator::Same<T>::type expected,
                          typename emulator::Same<T>::type value) {
    static_assert(emulator::one_of<T, int, unsigned, unsigned long long>, "the GPU has no such atomicCAS");
    T old = *address;
    if (old == expected) *address = value;
    return old;
}

// ---- Arithmetic; the rest (fmaf, sqrt, exp, log1p, ldexp, ...) is math.h's own ----

using std::isfinite;
using std::isinf;
using std::isnan;

#define EMULATOR_MATH(type, name, ...) static inline type name { return __VA_ARGS__; }
EMULATOR_MATH(float, __fadd_rn(float a, float b), a + b)
EMULATOR_MATH(float, __fsub_rn(float a, float b), a - b)
EMULATOR_MATH(float, __fmul_rn(float a, float b), a * b)
EMULATOR_MATH(float, __fdiv_rn(float a, float b), a / b)
EMULATOR_MATH(float, __fmaf_rn(float a, float b, float c), fmaf(a, b, c))
EMULATOR_MATH(float, __fsqrt_rn(float a), sqrtf(a))
EMULATOR_MATH(float, rsqrtf(float a), float(1 / sqrt(double(a))))
EMULATOR_MATH(double, __dadd_rn(double a, double b), a + b)
EMULATOR_MATH(double, __dsub_rn(double a, double b), a - b)
EMULATOR_MATH(double, __dmul_rn(double a, double b), a * b)
EMULATOR_MATH(double, __ddiv_rn(double a, double b), a / b)
EMULATOR_MATH(double, __fma_rn(double a, double b, double c), fma(a, b, c))
EMULATOR_MATH(double, __dsqrt_rn(double a), sqrt(a))
EMULATOR_MATH(int, __float_as_int(float a), emulator::bits<int>(a))
EMULATOR_MATH(unsigned, __float_as_uint(float a), emulator::bits<unsigned>(a))
EMULATOR_MATH(float, __int_as_float(int a), emulator::bits<float>(a))
EMULATOR_MATH(float, __uint_as_float(unsigned a), emulator::bits<float>(a))
EMULATOR_MATH(long long, __double_as_longlong(double a), emulator::bits<long long>(a))
EMULATOR_MATH(double, __longlong_as_double(long long a), emulator::bits<double>(a))
EMULATOR_MATH(long long, __double2ll_rn(double a), emulator::round_to_integer(a))
EMULATOR_MATH(long long, __float2ll_rn(float a), emulator::round_to_integer(a))
EMULATOR_MATH(double, __ll2double_rn(long long a), double(a))
EMULATOR_MATH(int, __popc(unsigned a), __builtin_popcount(a))
EMULATOR_MATH(int, __popcll(unsigned long long a), __builtin_popcountll(a))
EMULATOR_MATH(int, __clz(int a), a ? __builtin_clz(a) : 32)
EMULATOR_MATH(int, __clzll(long long a), a ? __builtin_clzll(a) : 64)
EMULATOR_MATH(int, __ffs(int a), __builtin_ffs(a))

template <class T>
static inline T __ldg(const T* address) { return *address; }

// As CUDA's overloads: mixed types promote, and of a number and a NaN the number is taken.
template <class A, class B>
static inline auto min(A a, B b) -> decltype(a + b) {
    using T = decltype(a + b);
    if constexpr (std::is_floating_point_v<T>) return T(b) != T(b) || T(a) < T(b) ? T(a) : T(b);
    else return T(b) < T(a) ? T(b) : T(a);
}
template <class A, class B>
static inline auto max(A a, B b) -> decltype(a + b) {
    using T = decltype(a + b);
    if constexpr (std::is_floating_point_v<T>) return T(b) != T(b) || T(a) > T(b) ? T(a) : T(b);
    else return T(b) > T(a) ? T(b) : T(a);
}
