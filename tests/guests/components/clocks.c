// Clocks, sleep and random bytes. Says what is right, and ends with 1 if anything is not.
#include "say.h"

#include <time.h>
#include <unistd.h>

static long long nanoseconds(clockid_t clock) {
    struct timespec time;
    MUST(clock_gettime(clock, &time));
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int main(void) {
    long long before = nanoseconds(CLOCK_MONOTONIC), day = nanoseconds(CLOCK_REALTIME);
    struct timespec nap = {.tv_nsec = 50000000};
    MUST(nanosleep(&nap, NULL));
    int slept = nanoseconds(CLOCK_MONOTONIC) - before >= nap.tv_nsec;
    SAY("a sleep takes its time", "%d", slept);
    // 2026-01-01 and 2100-01-01.
    int sane = day > 1767225600LL * 1000000000 && day < 4102444800LL * 1000000000;
    SAY("it is a time of day of this century", "%d", sane);
    struct timespec resolution;
    MUST(clock_getres(CLOCK_MONOTONIC, &resolution));
    int fine = resolution.tv_sec == 0 && resolution.tv_nsec > 0;
    SAY("the clock has a resolution", "%d", fine);
    unsigned char bytes[32] = {0}, more[32] = {0};
    MUST(getentropy(bytes, sizeof bytes));
    MUST(getentropy(more, sizeof more));
    int differ = memcmp(bytes, more, sizeof bytes) != 0;
    SAY("random bytes differ", "%d", differ);
    return !(slept && sane && fine && differ);
}
