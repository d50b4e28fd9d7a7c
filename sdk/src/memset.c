#include "memory.h"

OURS("memset") void *memset(void *to, int byte, size_t size) {
    unsigned char *t = to, *last = t + size;
    if (size <= 16) {
        uint64_t word = (unsigned char)byte * UINT64_C(0x0101010101010101);
        if (size >= 8) {
            store64(t, word);
            store64(last - 8, word);
        } else if (size >= 4) {
            store32(t, (uint32_t)word);
            store32(last - 4, (uint32_t)word);
        } else if (size > 0) {
            t[0] = t[size / 2] = last[-1] = (unsigned char)byte;
        }
    } else if (size <= 128) {
        v128_t words = wasm_i8x16_splat((int8_t)byte);
        for (; t < last - 16; t += 16) wasm_v128_store(t, words);
        wasm_v128_store(last - 16, words);
    } else {
        __builtin_memset(to, byte, size);
    }
    return to;
}
