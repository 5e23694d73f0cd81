// Runs CUDA kernels on the CPU. The threads of a block are fibers of one thread of the system, switched at barriers and at what
// warps do together. It is stricter than a GPU: shared memory and outputs start as NaN, threads run in an order shuffled by a seed,
// and it is an error, with its place, if a thread misses a barrier or a collective, leaves its memory, or writes to an input.
//
// It does not show weak memory order, nor anything asynchronous: kernels keep to barriers, shuffles and ballots.
#pragma once
// How fibers are switched: by a few instructions, or where those are not written, by the system.
#if !defined(__x86_64__) || defined(__APPLE__)
#define AFF_UCONTEXT
#if defined(__APPLE__)
#define _XOPEN_SOURCE 700
#define _DARWIN_C_SOURCE
#endif
#endif
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "memory.h"

#ifdef AFF_UCONTEXT
#include <ucontext.h>
#endif

#define __device__
#define __forceinline__ inline
struct alignas(8) uint2 { uint32_t x, y; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct dim3 { unsigned x = 1, y = 1, z = 1; };

namespace emulate {
constexpr int WARP = 32;
constexpr size_t PAYLOAD = 16, SHARED_BYTES = 48 << 10;

#ifdef AFF_UCONTEXT
using Context = ucontext_t;
#else
using Context = void*;
#endif

struct Fiber {
    Context context{};
    dim3 thread;
    int warp = 0, lane = 0;
    bool done = false;
    const char* waits = nullptr;    // where
    const uint64_t* gate = nullptr; // the generation that is waited for
    uint64_t seen = 0;
};
struct Warp {
    uint32_t live = 0, arrived = 0;
    uint64_t generation = 0;
    const char* site = nullptr;
    unsigned char payload[2][WARP][PAYLOAD];
};
struct Failure { std::string text; };

struct Block {
    dim3 grid, block, index;
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    std::vector<unsigned char> shared;
    size_t shared_used = 0;
    std::map<std::string, size_t> shared_at;
    unsigned arrived = 0;
    uint64_t generation = 0;
    const char* site = nullptr;
    Context scheduler{};
    Fiber* current = nullptr;
    void (*body)(void*) = nullptr;
    void* call = nullptr;
    std::string failure;
};
extern thread_local Block* here;

void yield();
[[noreturn]] void fail(std::string text);
void wait(const uint64_t& gate, uint64_t seen, const char* site);
void sync_block(const char* site);
void run(Block& block, unsigned seed);

// All lanes of the warp bring a payload; returns what each brought.
template <class T> const unsigned char (*collect(const T& payload, const char* site))[PAYLOAD] {
    static_assert(sizeof(T) <= PAYLOAD);
    Fiber& f = *here->current;
    Warp& w = here->warps[f.warp];
    if (w.arrived == 0) w.site = site;
    else if (std::strcmp(w.site, site)) fail(std::string("lanes of a warp in different collectives: ") + w.site + " and " + site);
    const uint64_t seen = w.generation;
    auto* slots = w.payload[seen & 1];
    std::memcpy(slots[f.lane], &payload, sizeof(T));
    w.arrived |= 1u << f.lane;
    if (w.arrived == w.live) { w.arrived = 0; ++w.generation; }
    else wait(w.generation, seen, site);
    return slots;
}
template <class T> T read(const unsigned char (*slots)[PAYLOAD], int lane) {
    T value;
    std::memcpy(&value, slots[lane], sizeof(T));
    return value;
}
template <class T, class F> T shuffle(T value, F source, const char* site) {
    const int lane = here->current->lane;
    return read<T>(collect(value, site), source(lane));
}
template <class T> T& shared(const char* site) {
    Block& b = *here;
    auto [at, fresh] = b.shared_at.try_emplace(site, 0);
    if (fresh) {
        at->second = b.shared_used = (b.shared_used + 15) / 16 * 16;
        b.shared_used += sizeof(T);
        if (b.shared_used > b.shared.size()) fail("more shared memory than a block has");
    }
    return *reinterpret_cast<T*>(b.shared.data() + at->second);
}

struct Parameter { bool pointer, writes; size_t bytes; };
struct Kernel {
    unsigned threads;
    std::vector<Parameter> parameters;
    void (*function)();
    void (*call)(void (*)(), void**);
};
std::map<std::string, Kernel>& kernels();

template <class... A> Kernel describe(void (*function)(A...), unsigned threads) {
    Kernel kernel{threads, {}, reinterpret_cast<void (*)()>(function), nullptr};
    (kernel.parameters.push_back({std::is_pointer_v<A>, !std::is_const_v<std::remove_pointer_t<A>>, sizeof(A)}), ...);
    kernel.call = [](void (*function)(), void** arguments) {
        [&]<size_t... I>(std::index_sequence<I...>) {
            reinterpret_cast<void (*)(A...)>(function)(*static_cast<A*>(arguments[I])...);
        }(std::index_sequence_for<A...>{});
    };
    return kernel;
}
struct Registration {
    Registration(const char* name, Kernel kernel) { kernels().emplace(name, std::move(kernel)); }
};
} // namespace emulate

#define AFF_STRING2(x) #x
#define AFF_STRING(x) AFF_STRING2(x)
#define AFF_SITE __FILE__ ":" AFF_STRING(__LINE__)
#define AFF_KERNEL(threads, name, ...)                                                          \
    extern "C" void name(__VA_ARGS__);                                                          \
    static const emulate::Registration register_##name{#name, emulate::describe(name, threads)}; \
    extern "C" void name(__VA_ARGS__)
// Arguments are expanded before they are pasted.
#define KERNEL(threads, name, ...) AFF_KERNEL(threads, name, __VA_ARGS__)
#define CHECK_ALIGNMENT(at, type)                     \
    if (reinterpret_cast<uintptr_t>(at) % sizeof(type)) \
    emulate::fail("an access of " + std::to_string(sizeof(type)) + " bytes that are not aligned to that")
#define SHARED(type, name) auto& name = emulate::shared<type>(AFF_SITE)

#define threadIdx (emulate::here->current->thread)
#define blockIdx (emulate::here->index)
#define blockDim (emulate::here->block)
#define gridDim (emulate::here->grid)
#define __syncthreads() emulate::sync_block(AFF_SITE)
#define __shfl_sync(mask, value, source) emulate::shuffle(value, [&](int) { return (source) & 31; }, AFF_SITE)
#define __shfl_xor_sync(mask, value, bits) emulate::shuffle(value, [&](int lane) { return lane ^ (bits); }, AFF_SITE)
#define __shfl_up_sync(mask, value, delta) \
    emulate::shuffle(value, [&](int lane) { return lane < int(delta) ? lane : lane - int(delta); }, AFF_SITE)

inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline uint32_t atomicAdd(uint32_t* at, uint32_t value) { const uint32_t old = *at; *at += value; return old; }
inline unsigned long long atomicAdd(unsigned long long* at, unsigned long long value) {
    const unsigned long long old = *at;
    *at += value;
    return old;
}
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
using std::max;
using std::min;
