// Opening and creating with a mode: open, openat, mkdir, mkfifo. Part of what takes the place of posix.o, at_fdcwd.o
// and openat.o of wasi-libc, whose open ignores the mode.
#include "internal.h"

#include <stdarg.h>
#include <wasi/libc-nocwd.h>
#include <wasi/libc.h>

// The lowest 12 bits of wasi-libc's flags are preview 1's fdflags, the next 12 its oflags.
#define FDFLAGS(flags) ((uint32_t)(flags)&0xfff)
#define OFLAGS(flags) ((uint32_t)(flags) >> 12 & 0xfff)

// PATH is relative to the descriptor FD, or to the root directory by its number.
static int open_from(int fd, const char *path, size_t len, int flags, mode_t mode) {
    uint32_t access;
    switch (flags & O_ACCMODE) {
    // On other systems O_RDONLY is 0, and programs rely on it.
    case 0:
    case O_RDONLY: access = V1_READ_ONLY; break;
    case O_WRONLY: access = V1_WRITE_ONLY; break;
    case O_RDWR: access = V1_READ_WRITE; break;
    case O_SEARCH:
    case O_EXEC: access = V1_SEARCH; break;
    default: errno = EINVAL; return -1;
    }
    int opened;
    uint16_t error = RESTARTED(__posix_v1_openat(fd, follow_unless(flags, O_NOFOLLOW), path, len, access, OFLAGS(flags),
                                                 FDFLAGS(flags), flags & O_CREAT ? mode : 0, &opened));
    return posix_result(error) ? -1 : opened;
}

static int open_at(int dirfd, const char *path, int flags, mode_t mode) {
    struct at_path at;
    return __posix_at(&at, dirfd, path) ? open_from(at.fd, at.path, at.len, flags, mode) : -1;
}

static mode_t mode_of(int flags, va_list arguments) {
    return flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
}

int open(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return open_at(AT_FDCWD, path, flags, mode);
}

int openat(int dirfd, const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return open_at(dirfd, path, flags, mode);
}

// What opendir and scandir of wasi-libc call. Its own asks first what may be done with the directory, and the root
// directory has no descriptor that could be asked.
int __wasilibc_nocwd_openat_nomode(int fd, const char *path, int flags) {
    return open_from(fd, path, strlen(path), flags, 0666);
}

// What fopen, truncate and the like of wasi-libc call.
int __wasilibc_open_nomode(const char *path, int flags) {
    return open_at(AT_FDCWD, path, flags, 0666);
}

int mkdirat(int dirfd, const char *path, mode_t mode) {
    struct at_path at;
    if (!__posix_at(&at, dirfd, path)) return -1;
    return posix_result(__posix_v1_mkdirat(at.fd, at.path, at.len, mode));
}

int mkdir(const char *path, mode_t mode) {
    return mkdirat(AT_FDCWD, path, mode);
}

int mkfifoat(int dirfd, const char *path, mode_t mode) {
    struct at_path at;
    if (!__posix_at(&at, dirfd, path)) return -1;
    return posix_result(__posix_v1_mkfifoat(at.fd, at.path, at.len, mode));
}

int mkfifo(const char *path, mode_t mode) {
    return mkfifoat(AT_FDCWD, path, mode);
}
