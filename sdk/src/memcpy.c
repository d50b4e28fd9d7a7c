#include "memory.h"

OURS("memcpy", "memmove") void *memcpy(void *restrict to, const void *restrict from, size_t size) {
    return copy_bytes(to, from, size);
}
