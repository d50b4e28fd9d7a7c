// Adds to wasi-libc's <time.h> CPU clocks and time zones, and gives clock() the unit that XSI says.
#include_next <time.h>

#ifndef _WASM_INTERP_TIME_H
#define _WASM_INTERP_TIME_H

#undef CLOCKS_PER_SEC
#define CLOCKS_PER_SEC ((clock_t)1000000)

#ifdef __cplusplus
extern "C" {
#endif

extern const struct __clockid _CLOCK_PROCESS_CPUTIME_ID;
extern const struct __clockid _CLOCK_THREAD_CPUTIME_ID;
#define CLOCK_PROCESS_CPUTIME_ID (&_CLOCK_PROCESS_CPUTIME_ID)
#define CLOCK_THREAD_CPUTIME_ID (&_CLOCK_THREAD_CPUTIME_ID)

void tzset(void);
extern char *tzname[2];
extern long timezone;
extern int daylight;

#ifdef __cplusplus
}
#endif

#endif
