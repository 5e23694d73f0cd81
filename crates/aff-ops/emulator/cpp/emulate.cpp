#include "emulate.h"

#include <csetjmp>
#include <csignal>
#include <sys/mman.h>
#include <unistd.h>

namespace emulate {
thread_local Block* here = nullptr;

#ifndef AFF_UCONTEXT
extern "C" void aff_switch(void** save, void* load);
asm(R"(.text
.globl aff_switch
aff_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
)");
#endif

namespace {
// Stacks of fibers, each above a forbidden page: what overflows is caught.
struct Stacks {
    static constexpr size_t BYTES = 64 << 10;
    unsigned char* start = nullptr;
    size_t count = 0, guard = size_t(sysconf(_SC_PAGESIZE));
    void reserve(size_t wanted) {
        if (wanted <= count) return;
        if (start) munmap(start, count * (BYTES + guard));
        void* region = mmap(nullptr, wanted * (BYTES + guard), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
        if (region == MAP_FAILED) throw Failure{"no memory for the stacks of a block"};
        start = static_cast<unsigned char*>(region);
        count = wanted;
        for (size_t i = 0; i < count; ++i) mprotect(start + i * (BYTES + guard), guard, PROT_NONE);
    }
    unsigned char* of(size_t i) { return start + i * (BYTES + guard) + guard; }
    ~Stacks() { if (start) munmap(start, count * (BYTES + guard)); }
};
thread_local Stacks stacks;
thread_local sigjmp_buf* on_fault = nullptr;
thread_local const void* fault_address = nullptr;
struct sigaction before[2];

void fault(int signal, siginfo_t* info, void* context) {
    if (on_fault) {
        fault_address = info->si_addr;
        siglongjmp(*on_fault, 1);
    }
    // Not ours.
    struct sigaction& old = before[signal == SIGBUS];
    if (old.sa_flags & SA_SIGINFO) old.sa_sigaction(signal, info, context);
    else if (old.sa_handler != SIG_DFL && old.sa_handler != SIG_IGN) old.sa_handler(signal);
    else { sigaction(signal, &old, nullptr); raise(signal); }
}
void catch_faults() {
    static const bool once = [] {
        struct sigaction action{};
        action.sa_sigaction = fault;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        sigaction(SIGSEGV, &action, &before[0]);
        sigaction(SIGBUS, &action, &before[1]);
        return true;
    }();
    (void)once;
}

void enter() {
    here->body(here->call);
    here->current->done = true;
    for (;;) yield();
}
void prepare(Fiber& fiber, unsigned char* stack) {
#ifdef AFF_UCONTEXT
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stack;
    fiber.context.uc_stack.ss_size = Stacks::BYTES;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, enter, 0);
#else
    void** top = reinterpret_cast<void**>(stack + Stacks::BYTES);
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(enter);
    for (int r = 0; r < 6; ++r) *--top = nullptr;
    fiber.context = top;
#endif
}
void resume(Block& b, Fiber& fiber) {
    b.current = &fiber;
#ifdef AFF_UCONTEXT
    swapcontext(&b.scheduler, &fiber.context);
#else
    aff_switch(&b.scheduler, fiber.context);
#endif
}
void run_block(Block& b, std::mt19937& random) {
    const unsigned threads = b.block.x;
    b.fibers.assign(threads, Fiber{});
    b.warps.assign((threads + WARP - 1) / WARP, Warp{});
    b.shared.assign(SHARED_BYTES, 0xFF);
    b.shared_at.clear();
    b.shared_used = 0;
    b.arrived = 0;
    b.generation = 0;
    std::vector<unsigned> order(threads);
    for (unsigned i = 0; i < threads; ++i) {
        Fiber& f = b.fibers[i];
        f.thread = {i, 0, 0};
        f.warp = i / WARP;
        f.lane = i % WARP;
        b.warps[f.warp].live |= 1u << f.lane;
        prepare(f, stacks.of(i));
        order[i] = i;
    }
    for (unsigned left = threads; left > 0;) {
        std::shuffle(order.begin(), order.end(), random);
        bool moved = false;
        for (unsigned i : order) {
            Fiber& f = b.fibers[i];
            if (f.done || (f.gate && *f.gate == f.seen)) continue;
            moved = true;
            resume(b, f);
            if (f.done) --left;
        }
        if (!b.failure.empty()) throw Failure{b.failure};
        if (!moved) {
            for (Fiber& f : b.fibers)
                if (!f.done) throw Failure{std::string("threads wait for others that have ended: ") + f.waits};
        }
    }
}
} // namespace

void yield() {
#ifdef AFF_UCONTEXT
    swapcontext(&here->current->context, &here->scheduler);
#else
    aff_switch(&here->current->context, here->scheduler);
#endif
}
void fail(std::string text) {
    if (here->failure.empty()) here->failure = std::move(text);
    here->current->done = true;
    here->current->gate = nullptr;
    for (;;) yield();
}
void wait(const uint64_t& gate, uint64_t seen, const char* site) {
    Fiber& f = *here->current;
    f.gate = &gate;
    f.seen = seen;
    f.waits = site;
    while (gate == seen) yield();
    f.gate = nullptr;
    f.waits = nullptr;
}
void sync_block(const char* site) {
    Block& b = *here;
    if (b.arrived == 0) b.site = site;
    else if (std::strcmp(b.site, site)) fail(std::string("threads of a block at different barriers: ") + b.site + " and " + site);
    const uint64_t seen = b.generation;
    if (++b.arrived == b.fibers.size()) { b.arrived = 0; ++b.generation; return; }
    wait(b.generation, seen, site);
}
std::map<std::string, Kernel>& kernels() {
    static std::map<std::string, Kernel> all;
    return all;
}

// Runs all blocks, one after another in an order of the seed; throws what went wrong.
void run(Block& b, unsigned seed) {
    catch_faults();
    stacks.reserve(b.block.x);
    std::mt19937 random(seed);
    std::vector<dim3> order;
    for (unsigned z = 0; z < b.grid.z; ++z)
        for (unsigned y = 0; y < b.grid.y; ++y)
            for (unsigned x = 0; x < b.grid.x; ++x) order.push_back({x, y, z});
    std::shuffle(order.begin(), order.end(), random);
    sigjmp_buf place;
    here = &b;
    struct Leave { ~Leave() { here = nullptr; on_fault = nullptr; } } leave;
    if (sigsetjmp(place, 1)) throw Failure{""};
    on_fault = &place;
    for (const dim3& index : order) {
        b.index = index;
        run_block(b, random);
    }
}

struct Argument { const Memory* memory; int writes; void* value; size_t bytes; };

static void launch(const char* name, const unsigned* grid, unsigned threads, const Argument* arguments, size_t count, unsigned seed) {
    const auto found = kernels().find(name);
    if (found == kernels().end()) throw Failure{"there is no such kernel"};
    const Kernel& kernel = found->second;
    if (threads != kernel.threads)
        throw Failure{"blocks of " + std::to_string(threads) + " threads; it is written for " + std::to_string(kernel.threads)};
    if (count != kernel.parameters.size())
        throw Failure{std::to_string(count) + " arguments; it takes " + std::to_string(kernel.parameters.size())};
    std::vector<void*> data(count), pointers(count);
    for (size_t i = 0; i < count; ++i) {
        const Argument& given = arguments[i];
        const Parameter& taken = kernel.parameters[i];
        const std::string which = "argument " + std::to_string(i) + " ";
        if (bool(given.memory) != taken.pointer) throw Failure{which + "is memory and should be a value, or the other way round"};
        if (given.memory && bool(given.writes) != taken.writes) throw Failure{which + "is read and should be written, or the other way round"};
        if (!given.memory && given.bytes != taken.bytes)
            throw Failure{which + "has " + std::to_string(given.bytes) + " bytes; it takes " + std::to_string(taken.bytes)};
        data[i] = given.memory ? given.memory->data : nullptr;
        pointers[i] = given.memory ? static_cast<void*>(&data[i]) : given.value;
    }
    struct Call { const Kernel* kernel; void** arguments; } call{&kernel, pointers.data()};
    Block b;
    b.grid = {grid[0], grid[1], grid[2]};
    b.block = {threads, 1, 1};
    b.call = &call;
    b.body = [](void* context) {
        auto& call = *static_cast<Call*>(context);
        call.kernel->call(call.kernel->function, call.arguments);
    };
    for (size_t i = 0; i < count; ++i) if (arguments[i].memory) arguments[i].memory->protect(arguments[i].writes);
    struct Restore {
        const Argument* arguments; size_t count;
        ~Restore() { for (size_t i = 0; i < count; ++i) if (arguments[i].memory) arguments[i].memory->protect(true); }
    } restore{arguments, count};
    fault_address = nullptr;
    try {
        run(b, seed);
    } catch (Failure& failure) {
        if (!failure.text.empty()) throw;
        std::string text = "an access outside of all memory, or a stack that is too deep";
        for (size_t i = 0; i < count; ++i)
            if (arguments[i].memory && arguments[i].memory->describe(fault_address, text)) { text = "argument " + std::to_string(i) + ": " + text; break; }
        throw Failure{text};
    }
    for (size_t i = 0; i < count; ++i)
        if (arguments[i].memory && !arguments[i].memory->intact())
            throw Failure{"argument " + std::to_string(i) + ": a write beside its memory"};
}
} // namespace emulate

extern "C" int aff_emulated_launch(const char* name, const unsigned* grid, unsigned threads, const emulate::Argument* arguments,
                                   size_t count, unsigned seed, char* error, size_t capacity) {
    try {
        emulate::launch(name, grid, threads, arguments, count, seed);
    } catch (const emulate::Failure& failure) {
        std::snprintf(error, capacity, "%s", failure.text.c_str());
        return 1;
    }
    return 0;
}
