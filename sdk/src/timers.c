// alarm and the timer of setitimer that sends SIGALRM.
#include "internal.h"

#include <signal.h>
#include <sys/time.h>

#define SECOND 1000000000ULL

static struct timeval to_timeval(uint64_t nanoseconds) {
    // A timer that is set is never 0.
    uint64_t microseconds = (nanoseconds + 999) / 1000;
    return (struct timeval){microseconds / 1000000, microseconds % 1000000};
}

static _Bool from_timeval(const struct timeval *time, uint64_t *nanoseconds) {
    if (time->tv_sec < 0 || time->tv_usec < 0 || time->tv_usec >= 1000000 || time->tv_sec > INT64_MAX / 1000000000 - 1) {
        errno = EINVAL;
        return 0;
    }
    *nanoseconds = time->tv_sec * SECOND + time->tv_usec * 1000;
    return 1;
}

// The words have to be registered, or the host does not know what to do about SIGALRM. Unmasking nothing does it.
static _Bool ready(void) {
    sigset_t none = {{0, 0}};
    return sigprocmask(SIG_BLOCK, &none, NULL) == 0;
}

int getitimer(int which, struct itimerval *timer) {
    struct v1_itimer now;
    if (which != ITIMER_REAL) {
        errno = EINVAL;
        return -1;
    }
    if (posix_result(__posix_v1_getitimer(&now))) return -1;
    *timer = (struct itimerval){to_timeval(now.interval), to_timeval(now.value)};
    return 0;
}

int setitimer(int which, const struct itimerval *restrict new, struct itimerval *restrict old) {
    uint64_t interval, value;
    struct v1_itimer before;
    if (which != ITIMER_REAL) {
        errno = EINVAL;
        return -1;
    }
    if (!from_timeval(&new->it_interval, &interval) || !from_timeval(&new->it_value, &value)) return -1;
    if (!ready() || posix_result(RESTARTED(__posix_v1_setitimer(interval, value, &before)))) return -1;
    if (old) *old = (struct itimerval){to_timeval(before.interval), to_timeval(before.value)};
    return 0;
}

unsigned alarm(unsigned seconds) {
    struct v1_itimer before;
    if (!ready() || RESTARTED(__posix_v1_setitimer(0, seconds * SECOND, &before))) return 0;
    // As Linux: to the nearest second, but never 0 for one that is set.
    uint64_t left = (before.value + SECOND / 2) / SECOND;
    return left == 0 && before.value != 0 ? 1 : left;
}
