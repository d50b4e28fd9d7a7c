// flock, record locks and the rest of fcntl. Takes the place of fcntl.o of wasi-libc.
#include "internal.h"

#include <stdarg.h>
#include <sys/file.h>
#include <wasi/api.h>

NUMBERS_START_AT_3

int flock(int fd, int operation) {
    uint32_t kind;
    switch (operation & ~LOCK_NB) {
    case LOCK_SH: kind = V1_SHARED; break;
    case LOCK_EX: kind = V1_EXCLUSIVE; break;
    case LOCK_UN: kind = V1_UNLOCK; break;
    default: errno = EINVAL; return -1;
    }
    return posix_result(RESTARTED(__posix_v1_flock(fd, kind, operation & LOCK_NB ? V1_NONBLOCK : 0)));
}

static int to_v1(const struct flock *from, struct v1_lock *to) {
    *to = (struct v1_lock){.start = from->l_start, .len = from->l_len};
    switch (from->l_type) {
    case F_RDLCK: to->type = V1_LOCK_READ; break;
    case F_WRLCK: to->type = V1_LOCK_WRITE; break;
    case F_UNLCK: to->type = V1_LOCK_UNLOCK; break;
    default: errno = EINVAL; return -1;
    }
    switch (from->l_whence) {
    case SEEK_SET: to->whence = V1_WHENCE_SET; break;
    case SEEK_CUR: to->whence = V1_WHENCE_CUR; break;
    case SEEK_END: to->whence = V1_WHENCE_END; break;
    default: errno = EINVAL; return -1;
    }
    return 0;
}

static int get_lock(int fd, uint32_t owner, struct flock *lock) {
    struct v1_lock wanted, found;
    if (to_v1(lock, &wanted)) return -1;
    if (posix_result(__posix_v1_fcntl_getlk(fd, owner, &wanted, &found))) return -1;
    if (found.type == V1_LOCK_UNLOCK) {
        lock->l_type = F_UNLCK;
        return 0;
    }
    *lock = (struct flock){
        .l_type = found.type == V1_LOCK_READ ? F_RDLCK : F_WRLCK,
        .l_whence = SEEK_SET,
        .l_start = found.start,
        .l_len = found.len,
        .l_pid = (pid_t)found.pid,
    };
    return 0;
}

static int set_lock(int fd, uint32_t owner, const struct flock *lock, uint32_t flags) {
    struct v1_lock wanted;
    if (to_v1(lock, &wanted)) return -1;
    return posix_result(RESTARTED(__posix_v1_fcntl_setlk(fd, owner, &wanted, flags)));
}

// There is no exec: whether a descriptor would survive one has one answer.
static int descriptor_flags(int fd) {
    __wasi_fdstat_t status;
    return posix_result(__wasi_fd_fdstat_get(fd, &status)) ? -1 : FD_CLOEXEC;
}

static int status_flags(int fd) {
    __wasi_fdstat_t status;
    if (posix_result(__wasi_fd_fdstat_get(fd, &status))) return -1;
    _Bool reads = status.fs_rights_base & (__WASI_RIGHTS_FD_READ | __WASI_RIGHTS_FD_READDIR);
    _Bool writes = status.fs_rights_base & __WASI_RIGHTS_FD_WRITE;
    int access = reads && writes ? O_RDWR : reads ? O_RDONLY : writes ? O_WRONLY : O_SEARCH;
    return status.fs_flags | access;
}

// There is no exec, so F_DUPFD_CLOEXEC is the same.
static int copy_from(int fd, int lowest) {
    int copy;
    if (lowest < 0) {
        errno = EINVAL;
        return -1;
    }
    return posix_result(__posix_v1_dup(fd, lowest, &copy)) ? -1 : copy;
}

int fcntl(int fd, int command, ...) {
    va_list arguments;
    va_start(arguments, command);
    int result;
    switch (command) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC: result = copy_from(fd, va_arg(arguments, int)); break;
    case F_GETFD: result = descriptor_flags(fd); break;
    case F_SETFD: result = descriptor_flags(fd) < 0 ? -1 : 0; break;
    case F_GETFL: result = status_flags(fd); break;
    case F_SETFL: result = posix_result(__wasi_fd_fdstat_set_flags(fd, va_arg(arguments, int) & 0xfff)); break;
    case F_GETLK: result = get_lock(fd, V1_OF_PROCESS, va_arg(arguments, struct flock *)); break;
    case F_SETLK: result = set_lock(fd, V1_OF_PROCESS, va_arg(arguments, struct flock *), V1_NONBLOCK); break;
    case F_SETLKW: result = set_lock(fd, V1_OF_PROCESS, va_arg(arguments, struct flock *), 0); break;
    case F_OFD_GETLK: result = get_lock(fd, V1_OF_DESCRIPTION, va_arg(arguments, struct flock *)); break;
    case F_OFD_SETLK: result = set_lock(fd, V1_OF_DESCRIPTION, va_arg(arguments, struct flock *), V1_NONBLOCK); break;
    case F_OFD_SETLKW: result = set_lock(fd, V1_OF_DESCRIPTION, va_arg(arguments, struct flock *), 0); break;
    default:
        errno = EINVAL;
        result = -1;
    }
    va_end(arguments);
    return result;
}

int lockf(int fd, int command, off_t size) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_len = size};
    switch (command) {
    case F_TEST:
        if (get_lock(fd, V1_OF_PROCESS, &lock)) return -1;
        if (lock.l_type == F_UNLCK) return 0;
        errno = EACCES;
        return -1;
    case F_ULOCK: lock.l_type = F_UNLCK; return set_lock(fd, V1_OF_PROCESS, &lock, V1_NONBLOCK);
    case F_TLOCK: return set_lock(fd, V1_OF_PROCESS, &lock, V1_NONBLOCK);
    case F_LOCK: return set_lock(fd, V1_OF_PROCESS, &lock, 0);
    default: errno = EINVAL; return -1;
    }
}
