// What copies, fills and comparisons by words share. WebAssembly reads and writes words at any address.
//
// Most are of a few bytes: names, keys, texts. For these WebAssembly's own instructions (memory.copy, memory.fill) are slow:
// the engine calls a function of the host for each. So wasm-interp.cfg has the compiler call these functions, which have the
// instructions for more than 128 bytes. A file for each, because a program may define one of its own.
#ifndef WASM_INTERP_MEMORY_H
#define WASM_INTERP_MEMORY_H

#include <stdint.h>
#include <string.h>
#include <wasm_simd128.h>

// Without no_builtin the compiler would see what a function does, and call it.
#define OURS(...) __attribute__((no_builtin(__VA_ARGS__), target("simd128,bulk-memory,bulk-memory-opt")))

static inline uint64_t load64(const unsigned char *from) {
    uint64_t word;
    __builtin_memcpy(&word, from, 8);
    return word;
}

static inline uint32_t load32(const unsigned char *from) {
    uint32_t word;
    __builtin_memcpy(&word, from, 4);
    return word;
}

static inline void store64(unsigned char *to, uint64_t word) { __builtin_memcpy(to, &word, 8); }
static inline void store32(unsigned char *to, uint32_t word) { __builtin_memcpy(to, &word, 4); }

// Everything is read before anything is written, as memmove has it. The last words may overlap those before them.
OURS("memcpy", "memmove") static inline void *copy_bytes(void *to, const void *from, size_t size) {
    unsigned char *t = to, *last = t + size;
    const unsigned char *f = from, *end = f + size;
    if (size <= 16) {
        if (size >= 8) {
            uint64_t a = load64(f), b = load64(end - 8);
            store64(t, a);
            store64(last - 8, b);
        } else if (size >= 4) {
            uint32_t a = load32(f), b = load32(end - 4);
            store32(t, a);
            store32(last - 4, b);
        } else if (size > 0) {
            unsigned char a = f[0], b = f[size / 2], c = end[-1];
            t[0] = a;
            t[size / 2] = b;
            last[-1] = c;
        }
    } else if (size <= 32) {
        v128_t a = wasm_v128_load(f), b = wasm_v128_load(end - 16);
        wasm_v128_store(t, a);
        wasm_v128_store(last - 16, b);
    } else if (size <= 64) {
        v128_t a = wasm_v128_load(f), b = wasm_v128_load(f + 16);
        v128_t c = wasm_v128_load(end - 32), d = wasm_v128_load(end - 16);
        wasm_v128_store(t, a);
        wasm_v128_store(t + 16, b);
        wasm_v128_store(last - 32, c);
        wasm_v128_store(last - 16, d);
    } else if (size <= 128) {
        v128_t a = wasm_v128_load(f), b = wasm_v128_load(f + 16), c = wasm_v128_load(f + 32), d = wasm_v128_load(f + 48);
        v128_t e = wasm_v128_load(end - 64), g = wasm_v128_load(end - 48);
        v128_t h = wasm_v128_load(end - 32), i = wasm_v128_load(end - 16);
        wasm_v128_store(t, a);
        wasm_v128_store(t + 16, b);
        wasm_v128_store(t + 32, c);
        wasm_v128_store(t + 48, d);
        wasm_v128_store(last - 64, e);
        wasm_v128_store(last - 48, g);
        wasm_v128_store(last - 32, h);
        wasm_v128_store(last - 16, i);
    } else {
        __builtin_memmove(to, from, size);
    }
    return to;
}

#endif
