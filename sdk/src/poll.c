// poll and select, over files and sockets together. Takes the place of poll.o, select.o and pselect.o of wasi-libc, which
// see no socket that is not a stream of the container, and wait for a file as for nothing.
#include "clocks.h"
#include "internal.h"

#include <signal.h>
#include <sys/select.h>
#include <time.h>

static int wait_for(struct pollfd *fds, size_t count, int64_t nanoseconds) {
    size_t ready;
    return posix_result(INTERRUPTIBLE(__posix_v1_poll(fds, count, nanoseconds, &ready))) ? -1 : (int)ready;
}

// With other signals masked while it waits. Handlers run after the wait alone: a signal that is pending under MASK has to
// end it.
static int wait_with_mask(struct pollfd *fds, size_t count, int64_t nanoseconds, const sigset_t *mask) {
    if (mask == NULL) return wait_for(fds, count, nanoseconds);
    const uint32_t never = 1u << (SIGKILL - 1) | 1u << (SIGSTOP - 1);
    uint32_t before = __wasm_interp_signals.mask;
    size_t ready;
    __wasm_interp_signals.mask = (uint32_t)mask->__bits[0] & ~never;
    uint16_t error = __posix_v1_poll(fds, count, nanoseconds, &ready);
    if (wasm_interp_signal_is_pending()) {
        // Nothing waits for no time: but the signal was there, and the caller has to learn that its handler has run.
        if (error == 0 && ready == 0) error = EINTR;
        __posix_run_handlers();
    }
    __wasm_interp_signals.mask = before;
    if (wasm_interp_signal_is_pending()) __posix_run_handlers();
    return posix_result(error) ? -1 : (int)ready;
}

// False, with errno, if it is no time. A time-out that nothing outlives is for ever.
static _Bool nanoseconds_of(const struct timespec *timeout, int64_t *nanoseconds) {
    *nanoseconds = -1;
    if (timeout == NULL || posix_nanoseconds(timeout, nanoseconds)) return 1;
    errno = EINVAL;
    return 0;
}

int poll(struct pollfd *fds, nfds_t count, int milliseconds) {
    return wait_for(fds, count, milliseconds < 0 ? -1 : (int64_t)milliseconds * 1000000);
}

int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask) {
    int64_t nanoseconds;
    if (!nanoseconds_of(timeout, &nanoseconds)) return -1;
    return wait_with_mask(fds, count, nanoseconds, mask);
}

static int select_for(int count, fd_set *reads, fd_set *writes, fd_set *exceptions, int64_t nanoseconds,
                      const sigset_t *mask) {
    if (count < 0 || count > FD_SETSIZE) {
        errno = EINVAL;
        return -1;
    }
    struct pollfd fds[FD_SETSIZE];
    size_t waits = 0;
    for (int fd = 0; fd < count; fd++) {
        short events = 0;
        if (reads && FD_ISSET(fd, reads)) events |= POLLIN | POLLRDNORM | POLLRDBAND;
        if (writes && FD_ISSET(fd, writes)) events |= POLLOUT | POLLWRNORM | POLLWRBAND;
        if (exceptions && FD_ISSET(fd, exceptions)) events |= POLLPRI;
        if (events) fds[waits++] = (struct pollfd){.fd = fd, .events = events};
    }
    if (wait_with_mask(fds, waits, nanoseconds, mask) < 0) return -1;
    for (size_t at = 0; at < waits; at++)
        if (fds[at].revents & POLLNVAL) {
            errno = EBADF;
            return -1;
        }
    if (reads) FD_ZERO(reads);
    if (writes) FD_ZERO(writes);
    if (exceptions) FD_ZERO(exceptions);
    int ready = 0;
    for (size_t at = 0; at < waits; at++) {
        int fd = fds[at].fd, asked = fds[at].events, happened = fds[at].revents;
        if (asked & POLLIN && happened & (POLLIN | POLLRDNORM | POLLRDBAND | POLLHUP | POLLERR)) {
            FD_SET(fd, reads);
            ready++;
        }
        if (asked & POLLOUT && happened & (POLLOUT | POLLWRNORM | POLLWRBAND | POLLERR)) {
            FD_SET(fd, writes);
            ready++;
        }
        if (asked & POLLPRI && happened & POLLPRI) {
            FD_SET(fd, exceptions);
            ready++;
        }
    }
    return ready;
}

int select(int count, fd_set *restrict reads, fd_set *restrict writes, fd_set *restrict exceptions,
           struct timeval *restrict timeout) {
    struct timespec time;
    int64_t nanoseconds;
    if (timeout) {
        if (timeout->tv_sec < 0 || timeout->tv_usec < 0) {
            errno = EINVAL;
            return -1;
        }
        // As on Linux, microseconds may be more than a second.
        time.tv_sec = timeout->tv_sec + timeout->tv_usec / 1000000;
        time.tv_nsec = (long)(timeout->tv_usec % 1000000) * 1000;
    }
    if (!nanoseconds_of(timeout ? &time : NULL, &nanoseconds)) return -1;
    return select_for(count, reads, writes, exceptions, nanoseconds, NULL);
}

int pselect(int count, fd_set *restrict reads, fd_set *restrict writes, fd_set *restrict exceptions,
            const struct timespec *restrict timeout, const sigset_t *restrict mask) {
    int64_t nanoseconds;
    if (!nanoseconds_of(timeout, &nanoseconds)) return -1;
    return select_for(count, reads, writes, exceptions, nanoseconds, mask);
}
