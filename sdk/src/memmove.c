#include "memory.h"

OURS("memcpy", "memmove") void *memmove(void *to, const void *from, size_t size) { return copy_bytes(to, from, size); }
