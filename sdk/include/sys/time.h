// Adds to wasi-libc's <sys/time.h> the legacy ways to set times, and the timer of SIGALRM.
#include_next <sys/time.h>

#ifndef _WASM_INTERP_SYS_TIME_H
#define _WASM_INTERP_SYS_TIME_H

#ifdef __cplusplus
extern "C" {
#endif

// The other timers of setitimer do not exist here.
#define ITIMER_REAL 0

struct itimerval {
    struct timeval it_interval;
    struct timeval it_value;
};

int getitimer(int, struct itimerval *);
int setitimer(int, const struct itimerval *__restrict, struct itimerval *__restrict);

#if defined(_GNU_SOURCE) || defined(_BSD_SOURCE)
int futimes(int, const struct timeval[2]);
int lutimes(const char *, const struct timeval[2]);
#endif

#ifdef __cplusplus
}
#endif

#endif
