// Further descriptors of an open file, pipes, and closing many.
#include "internal.h"

NUMBERS_START_AT_3

void __posix_release_preopen(void) {
    static _Bool released;
    if (!released && __posix_v1_release_preopen()) __builtin_trap();
    released = 1;
}

int dup(int fd) {
    int copy;
    return posix_result(__posix_v1_dup(fd, 0, &copy)) ? -1 : copy;
}

int dup2(int fd, int to) {
    return posix_result(__posix_v1_dup2(fd, to)) ? -1 : to;
}

int dup3(int fd, int to, int flags) {
    // O_CLOEXEC is 0 here.
    if (fd == to || flags != O_CLOEXEC) {
        errno = EINVAL;
        return -1;
    }
    return dup2(fd, to);
}

int pipe2(int ends[2], int flags) {
    if (flags & ~(O_NONBLOCK | O_CLOEXEC)) {
        errno = EINVAL;
        return -1;
    }
    int reads, writes;
    if (posix_result(__posix_v1_pipe(flags & O_NONBLOCK ? V1_FD_NONBLOCK : 0, &reads, &writes))) return -1;
    ends[0] = reads;
    ends[1] = writes;
    return 0;
}

int pipe(int ends[2]) {
    return pipe2(ends, 0);
}

int close_range(unsigned first, unsigned last, int flags) {
    if (flags < 0 || flags & ~(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC)) {
        errno = EINVAL;
        return -1;
    }
    // There is no exec to close them at.
    if (flags & CLOSE_RANGE_CLOEXEC && first <= last) return 0;
    return posix_result(__posix_v1_close_range(first, last));
}

void closefrom(int first) {
    (void)close_range(first < 0 ? 0 : (unsigned)first, ~0U, 0);
}
