// The clocks of the CPU, as wasi-libc represents clocks, and times in nanoseconds.
#ifndef WASM_INTERP_CLOCKS_H
#define WASM_INTERP_CLOCKS_H

#include <stdint.h>
#include <time.h>

// As in wasi-libc: the number of a clock in preview 1.
struct __clockid {
    uint32_t id;
};

// False if it is no time. What is too long to be counted in nanoseconds is -1.
static inline _Bool posix_nanoseconds(const struct timespec *time, int64_t *to) {
    if (time->tv_sec < 0 || time->tv_nsec < 0 || time->tv_nsec >= 1000000000) return 0;
    if (__builtin_mul_overflow(time->tv_sec, (int64_t)1000000000, to) || __builtin_add_overflow(*to, time->tv_nsec, to))
        *to = -1;
    return 1;
}

#endif
