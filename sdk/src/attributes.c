// Changing modes, owners and times.
#include "internal.h"

#include <sys/time.h>
#include <utime.h>

int fchmodat(int dirfd, const char *path, mode_t mode, int flags) {
    struct at_path at;
    if (!__posix_at(&at, dirfd, path)) return -1;
    return posix_result(__posix_v1_fchmodat(at.fd, follow_unless(flags, AT_SYMLINK_NOFOLLOW), at.path, at.len, mode));
}

int chmod(const char *path, mode_t mode) {
    return fchmodat(AT_FDCWD, path, mode, 0);
}

int lchmod(const char *path, mode_t mode) {
    return fchmodat(AT_FDCWD, path, mode, AT_SYMLINK_NOFOLLOW);
}

int fchmod(int fd, mode_t mode) {
    return posix_result(__posix_v1_fchmod(fd, mode));
}

int fchownat(int dirfd, const char *path, uid_t uid, gid_t gid, int flags) {
    struct at_path at;
    if (!__posix_at(&at, dirfd, path)) return -1;
    uint16_t error =
        __posix_v1_fchownat(at.fd, follow_unless(flags, AT_SYMLINK_NOFOLLOW), at.path, at.len, uid, gid);
    return posix_result(error);
}

int chown(const char *path, uid_t uid, gid_t gid) {
    return fchownat(AT_FDCWD, path, uid, gid, 0);
}

int lchown(const char *path, uid_t uid, gid_t gid) {
    return fchownat(AT_FDCWD, path, uid, gid, AT_SYMLINK_NOFOLLOW);
}

int fchown(int fd, uid_t uid, gid_t gid) {
    return posix_result(__posix_v1_fchown(fd, uid, gid));
}

// Which of the two times are set, and whether to the present. Nanoseconds that are none pass unchanged: the kernel
// refuses them.
static uint32_t changes(const struct timespec times[2]) {
    if (times == NULL) return V1_ATIM_NOW | V1_MTIM_NOW;
    uint32_t flags = 0;
    if (times[0].tv_nsec == UTIME_NOW) flags |= V1_ATIM_NOW;
    else if (times[0].tv_nsec != UTIME_OMIT) flags |= V1_ATIM;
    if (times[1].tv_nsec == UTIME_NOW) flags |= V1_MTIM_NOW;
    else if (times[1].tv_nsec != UTIME_OMIT) flags |= V1_MTIM;
    return flags;
}

static const struct timespec unused[2];

int utimensat(int dirfd, const char *path, const struct timespec times[2], int flags) {
    uint32_t which = changes(times);
    if (times == NULL) times = unused;
    struct at_path at;
    if (!__posix_at(&at, dirfd, path)) return -1;
    return posix_result(__posix_v1_utimensat(at.fd, follow_unless(flags, AT_SYMLINK_NOFOLLOW), at.path, at.len,
                                             times[0].tv_sec, times[0].tv_nsec, times[1].tv_sec, times[1].tv_nsec,
                                             which));
}

int futimens(int fd, const struct timespec times[2]) {
    uint32_t which = changes(times);
    if (times == NULL) times = unused;
    return posix_result(__posix_v1_futimens(fd, times[0].tv_sec, times[0].tv_nsec, times[1].tv_sec, times[1].tv_nsec,
                                            which));
}

int __wasilibc_utimens(const char *path, const struct timespec times[2], int flags) {
    return utimensat(AT_FDCWD, path, times, flags);
}

// False, with errno, if the microseconds are none.
static _Bool from_timeval(const struct timeval from[2], struct timespec to[2]) {
    for (int i = 0; i < 2; i++) {
        if (from[i].tv_usec < 0 || from[i].tv_usec > 999999) {
            errno = EINVAL;
            return 0;
        }
        to[i] = (struct timespec){.tv_sec = from[i].tv_sec, .tv_nsec = from[i].tv_usec * 1000};
    }
    return 1;
}

int utimes(const char *path, const struct timeval times[2]) {
    struct timespec exact[2];
    if (times == NULL) return utimensat(AT_FDCWD, path, NULL, 0);
    return from_timeval(times, exact) ? utimensat(AT_FDCWD, path, exact, 0) : -1;
}

int lutimes(const char *path, const struct timeval times[2]) {
    struct timespec exact[2];
    if (times == NULL) return utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW);
    return from_timeval(times, exact) ? utimensat(AT_FDCWD, path, exact, AT_SYMLINK_NOFOLLOW) : -1;
}

int futimes(int fd, const struct timeval times[2]) {
    struct timespec exact[2];
    if (times == NULL) return futimens(fd, NULL);
    return from_timeval(times, exact) ? futimens(fd, exact) : -1;
}

int utime(const char *path, const struct utimbuf *times) {
    if (times == NULL) return utimensat(AT_FDCWD, path, NULL, 0);
    struct timespec exact[2] = {{.tv_sec = times->actime}, {.tv_sec = times->modtime}};
    return utimensat(AT_FDCWD, path, exact, 0);
}
