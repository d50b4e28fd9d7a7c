// Further descriptors of an open file, and pipes.
#include "internal.h"

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
