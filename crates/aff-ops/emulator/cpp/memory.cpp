#include "memory.h"

#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

namespace {
constexpr unsigned char FILL = 0xFF; // NaN as f32, f64, f16 and bf16
size_t page() { return size_t(sysconf(_SC_PAGESIZE)); }
size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }
} // namespace

extern "C" Memory* aff_memory_new(size_t bytes) {
    const size_t body = round_up(bytes + 1, page()), all = body + 2 * page();
    void* region = mmap(nullptr, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (region == MAP_FAILED) return nullptr;
    auto* start = static_cast<unsigned char*>(region);
    std::memset(start + page(), FILL, body);
    mprotect(start, page(), PROT_NONE);
    mprotect(start + page() + body, page(), PROT_NONE);
    return new Memory{start, start + page() + body - round_up(bytes, 16), all, bytes};
}
extern "C" unsigned char* aff_memory_data(Memory* memory) { return memory->data; }
extern "C" void aff_memory_free(Memory* memory) {
    munmap(memory->region, memory->region_bytes);
    delete memory;
}
void Memory::protect(bool writable) const {
    mprotect(region + page(), region_bytes - 2 * page(), writable ? PROT_READ | PROT_WRITE : PROT_READ);
}
bool Memory::intact() const {
    for (const unsigned char* p = region + page(); p < data; ++p) if (*p != FILL) return false;
    for (const unsigned char* p = data + bytes; p < region + region_bytes - page(); ++p) if (*p != FILL) return false;
    return true;
}
bool Memory::describe(const void* address, std::string& text) const {
    auto* at = static_cast<const unsigned char*>(address);
    if (at < region || at >= region + region_bytes) return false;
    if (at < data) text = std::to_string(data - at) + " bytes before its start";
    else if (at >= data + bytes) text = std::to_string(at - data - bytes) + " bytes past its end";
    else text = "a write to what it may only read, byte " + std::to_string(at - data);
    return true;
}
