// Sleeping, with what is left after a signal: in place of clock_nanosleep.o, nanosleep.o, sleep.o and usleep.o of
// wasi-libc, which do not say.
#include "clocks.h"
#include "internal.h"

#include <wasi/api.h>

#define SECOND 1000000000LL

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *wanted, struct timespec *left) {
    int64_t duration;
    if (flags & ~TIMER_ABSTIME || !posix_nanoseconds(wanted, &duration)) return EINVAL;
    if (duration < 0) duration = INT64_MAX;
    _Bool absolute = flags & TIMER_ABSTIME;
    int64_t start = now();
    __wasi_subscription_t subscription = {
        .u.tag = __WASI_EVENTTYPE_CLOCK,
        .u.u.clock = {
            .id = clock->id,
            .timeout = duration,
            .flags = absolute ? __WASI_SUBCLOCKFLAGS_SUBSCRIPTION_CLOCK_ABSTIME : 0,
        },
    };
    __wasi_event_t event;
    __wasi_size_t count;
    int error = __wasi_poll_oneoff(&subscription, &event, 1, &count);
    if (error == EINTR && left && !absolute) {
        int64_t rest = duration - (now() - start);
        if (rest < 0) rest = 0;
        *left = (struct timespec){rest / SECOND, rest % SECOND};
    }
    return error ? error : event.error;
}

__typeof__(clock_nanosleep) __clock_nanosleep __attribute__((__weak__, __alias__("clock_nanosleep")));

int nanosleep(const struct timespec *wanted, struct timespec *left) {
    return posix_result(clock_nanosleep(CLOCK_REALTIME, 0, wanted, left));
}

int usleep(unsigned microseconds) {
    struct timespec time = {microseconds / 1000000, microseconds % 1000000 * 1000};
    return nanosleep(&time, NULL);
}

unsigned sleep(unsigned seconds) {
    struct timespec time = {seconds, 0};
    int error = errno;
    if (!nanosleep(&time, &time)) return 0;
    errno = error;
    // Rounded, as glibc does.
    return time.tv_sec + (time.tv_nsec >= 500000000);
}
