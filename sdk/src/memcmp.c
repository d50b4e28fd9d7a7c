// memcmp by words: wasi-libc's compares one byte at a time, and interpreters compare names, keys and texts all the time.
// WebAssembly reads words at any address.
#include <stdint.h>
#include <string.h>

// Or the compiler may see what it does, and call it.
__attribute__((no_builtin("memcmp"))) int memcmp(const void *left, const void *right, size_t size) {
    const unsigned char *l = left, *r = right;
    for (; size >= 8; l += 8, r += 8, size -= 8) {
        uint64_t a, b;
        __builtin_memcpy(&a, l, 8);
        __builtin_memcpy(&b, r, 8);
        // The first byte that differs decides: it is the lowest in memory.
        if (a != b) return __builtin_bswap64(a) < __builtin_bswap64(b) ? -1 : 1;
    }
    if (size >= 4) {
        uint32_t a, b;
        __builtin_memcpy(&a, l, 4);
        __builtin_memcpy(&b, r, 4);
        if (a != b) return __builtin_bswap32(a) < __builtin_bswap32(b) ? -1 : 1;
        l += 4, r += 4, size -= 4;
    }
    for (; size > 0; l++, r++, size--)
        if (*l != *r) return *l - *r;
    return 0;
}
