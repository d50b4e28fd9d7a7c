#include "memory.h"

OURS("memcmp") int memcmp(const void *left, const void *right, size_t size) {
    const unsigned char *l = left, *r = right;
    for (; size >= 8; l += 8, r += 8, size -= 8) {
        uint64_t a = load64(l), b = load64(r);
        // The first byte that differs decides: it is the lowest in memory.
        if (a != b) return __builtin_bswap64(a) < __builtin_bswap64(b) ? -1 : 1;
    }
    if (size >= 4) {
        uint32_t a = load32(l), b = load32(r);
        if (a != b) return __builtin_bswap32(a) < __builtin_bswap32(b) ? -1 : 1;
        l += 4, r += 4, size -= 4;
    }
    for (; size > 0; l++, r++, size--)
        if (*l != *r) return *l - *r;
    return 0;
}
