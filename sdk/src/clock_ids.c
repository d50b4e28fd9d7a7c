// CLOCK_PROCESS_CPUTIME_ID and CLOCK_THREAD_CPUTIME_ID: preview 1 has numbers for them, wasi-libc has no names.
#include "clocks.h"

const struct __clockid _CLOCK_PROCESS_CPUTIME_ID = {2};
const struct __clockid _CLOCK_THREAD_CPUTIME_ID = {3};
