// Memory of an emulated GPU: between pages that nobody may touch, so that an access past an end is caught when it happens.
#pragma once
#include <cstddef>
#include <string>

struct Memory {
    unsigned char* region; // a forbidden page, pages, a forbidden page
    unsigned char* data;   // ends within 15 bytes of the last forbidden page, on a multiple of 16
    size_t region_bytes, bytes;

    void protect(bool writable) const;
    // Whether the bytes beside the data are as they were made.
    bool intact() const;
    // How far outside the data an address is, if it is in the region: "4 bytes past the end".
    bool describe(const void* address, std::string& text) const;
};

extern "C" Memory* aff_memory_new(size_t bytes);
extern "C" unsigned char* aff_memory_data(Memory*);
extern "C" void aff_memory_free(Memory*);
