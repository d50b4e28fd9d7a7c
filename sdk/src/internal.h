// What the files of this library share: the imports of wasm_interp_posix_v1, and how a path is passed to them.
//
// The interface is crates/wasi/witx/posix.witx; each function here is one of its functions, each struct one of its
// records. Results come through the last pointer, the return value is WASI's errno, which is wasi-libc's.
#ifndef WASM_INTERP_INTERNAL_H
#define WASM_INTERP_INTERNAL_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <wasm-interp/signals.h>

#define POSIX_V1(name, ...) \
    __attribute__((__import_module__("wasm_interp_posix_v1"), __import_name__(#name))) uint16_t __posix_v1_##name(__VA_ARGS__)

// Runs the handlers of signals that are pending and not masked. True if each of them has SA_RESTART. Set with the first
// handler, before which no signal is pending: programs that handle none have no code for it.
extern _Bool (*__posix_run_handlers)(void);

// RESTARTED(CALL): the error of a call of an import, with the handlers run before and after it. If they have interrupted
// it and all of them have SA_RESTART, the call is made again.
#define RESTARTED(call) RESTARTED_UNLESS(0, call)

#define RESTARTED_UNLESS(timed, call)                                                                       \
    __extension__({                                                                                         \
        uint16_t error_;                                                                                    \
        do {                                                                                                \
            if (wasm_interp_signal_is_pending()) __posix_run_handlers();                                    \
            error_ = (call);                                                                                \
        } while (wasm_interp_signal_is_pending() && __posix_run_handlers() && error_ == EINTR && !(timed)); \
        error_;                                                                                             \
    })

// Whether a socket has SO_RCVTIMEO or SO_SNDTIMEO set. Set with the first such option: other programs have no code for it.
extern _Bool (*__posix_has_timeout)(int fd, int option);

// The same for calls that read from FD, or write to it, which may be a socket: with a time-out, Linux does not make them
// again (signal(7)).
#define RESTARTED_READ(call) RESTARTED_UNLESS(HAS_TIMEOUT(V1_RCVTIMEO), call)
#define RESTARTED_WRITE(call) RESTARTED_UNLESS(HAS_TIMEOUT(V1_SNDTIMEO), call)
#define HAS_TIMEOUT(option) (__posix_has_timeout && __posix_has_timeout((int)fd, option))

// INTERRUPTIBLE(CALL): the same for calls that POSIX never makes again by itself: poll, select, sleep.
#define INTERRUPTIBLE(call)                                          \
    __extension__({                                                  \
        if (wasm_interp_signal_is_pending()) __posix_run_handlers(); \
        uint16_t error_ = (call);                                    \
        if (wasm_interp_signal_is_pending()) __posix_run_handlers(); \
        error_;                                                      \
    })

struct v1_timespec {
    int64_t sec;
    uint32_t nsec;
};
_Static_assert(sizeof(struct v1_timespec) == 16, "as in posix.witx");

struct v1_stat {
    uint64_t dev;
    uint64_t ino;
    uint64_t nlink;
    uint32_t mode;
    uint32_t uid;
    uint32_t gid;
    uint32_t blksize;
    uint64_t rdev;
    uint64_t size;
    uint64_t blocks;
    struct v1_timespec atim;
    struct v1_timespec mtim;
    struct v1_timespec ctim;
};
_Static_assert(sizeof(struct v1_stat) == 112, "as in posix.witx");

struct v1_statvfs {
    uint64_t bsize;
    uint64_t frsize;
    uint64_t blocks;
    uint64_t bfree;
    uint64_t bavail;
    uint64_t files;
    uint64_t ffree;
    uint64_t favail;
    uint64_t fsid;
    uint64_t flag;
    uint64_t namemax;
};
_Static_assert(sizeof(struct v1_statvfs) == 88, "as in posix.witx");

struct v1_lock {
    int64_t start;
    int64_t len;
    uint32_t pid;
    uint8_t type;
    uint8_t whence;
};
_Static_assert(sizeof(struct v1_lock) == 24, "as in posix.witx");

struct v1_rlimit {
    uint64_t cur;
    uint64_t max;
};
_Static_assert(sizeof(struct v1_rlimit) == 16, "as in posix.witx");

struct v1_rusage {
    struct v1_timespec utime;
    struct v1_timespec stime;
    uint64_t maxrss;
    uint64_t minflt;
    uint64_t majflt;
    uint64_t inblock;
    uint64_t oublock;
    uint64_t nvcsw;
    uint64_t nivcsw;
};
_Static_assert(sizeof(struct v1_rusage) == 88, "as in posix.witx");

struct v1_itimer {
    uint64_t interval;
    uint64_t value;
};
_Static_assert(sizeof(struct v1_itimer) == 16, "as in posix.witx");

struct v1_winsize {
    uint16_t row;
    uint16_t col;
    uint16_t xpixel;
    uint16_t ypixel;
};
_Static_assert(sizeof(struct v1_winsize) == 8, "as in posix.witx");

struct v1_termios {
    uint32_t iflag;
    uint32_t oflag;
    uint32_t cflag;
    uint32_t lflag;
    uint8_t line;
    uint8_t cc[19];
};
_Static_assert(sizeof(struct v1_termios) == 36, "as in posix.witx");

enum { V1_SIGNAL_DEFAULT, V1_SIGNAL_IGNORE, V1_SIGNAL_CATCH };
enum { V1_TERMIOS_NOW, V1_TERMIOS_DRAIN, V1_TERMIOS_FLUSH };
// An iovec and a pollfd are passed as C has them.
_Static_assert(sizeof(struct iovec) == 8, "as preview 1's iovec");
_Static_assert(sizeof(struct pollfd) == 8, "as in posix.witx");

// How long an address in the answer of getaddrinfo is, and how many there are at most.
enum { V1_FOUND_SIZE = 32, V1_FOUND_MOST = 64 };
enum { V1_ADDRCONFIG = 1, V1_NUMERICHOST = 2 };
// Preview 1's flag of a descriptor.
enum { V1_FD_NONBLOCK = 4 };
// Options of sockets.
enum { V1_RCVTIMEO = 20, V1_SNDTIMEO = 21 };

enum { V1_READ_ONLY, V1_WRITE_ONLY, V1_READ_WRITE, V1_SEARCH };
enum { V1_SYMLINK_FOLLOW = 1 };
enum { V1_EXECUTE = 1, V1_WRITE = 2, V1_READ = 4 };
enum { V1_EFFECTIVE = 1 };
enum { V1_SHARED, V1_EXCLUSIVE, V1_UNLOCK };
enum { V1_NONBLOCK = 1 };
enum { V1_LOCK_READ, V1_LOCK_WRITE, V1_LOCK_UNLOCK };
enum { V1_OF_PROCESS, V1_OF_DESCRIPTION };
enum { V1_WHENCE_SET, V1_WHENCE_CUR, V1_WHENCE_END };
enum { V1_WHO_PROCESS, V1_WHO_CHILDREN, V1_WHO_THREAD };
enum { V1_ATIM = 1, V1_ATIM_NOW = 2, V1_MTIM = 4, V1_MTIM_NOW = 8 };

POSIX_V1(openat, int fd, uint32_t dirflags, const char *path, size_t path_len, uint32_t access, uint32_t oflags,
         uint32_t fdflags, uint32_t mode, int *opened);
POSIX_V1(mkdirat, int fd, const char *path, size_t path_len, uint32_t mode);
POSIX_V1(mkfifoat, int fd, const char *path, size_t path_len, uint32_t mode);
POSIX_V1(fstat, int fd, struct v1_stat *stat);
POSIX_V1(fstatat, int fd, uint32_t flags, const char *path, size_t path_len, struct v1_stat *stat);
POSIX_V1(fchmod, int fd, uint32_t mode);
POSIX_V1(fchmodat, int fd, uint32_t flags, const char *path, size_t path_len, uint32_t mode);
POSIX_V1(fchown, int fd, uint32_t uid, uint32_t gid);
POSIX_V1(fchownat, int fd, uint32_t flags, const char *path, size_t path_len, uint32_t uid, uint32_t gid);
POSIX_V1(futimens, int fd, int64_t atim_sec, uint32_t atim_nsec, int64_t mtim_sec, uint32_t mtim_nsec, uint32_t flags);
POSIX_V1(utimensat, int fd, uint32_t flags, const char *path, size_t path_len, int64_t atim_sec, uint32_t atim_nsec,
         int64_t mtim_sec, uint32_t mtim_nsec, uint32_t fst_flags);
POSIX_V1(faccessat, int fd, uint32_t flags, const char *path, size_t path_len, uint32_t access, uint32_t access_flags);
POSIX_V1(fstatvfs, int fd, struct v1_statvfs *statvfs);
POSIX_V1(statvfsat, int fd, const char *path, size_t path_len, struct v1_statvfs *statvfs);
POSIX_V1(umask, uint32_t mask, uint32_t *before);
POSIX_V1(flock, int fd, uint32_t operation, uint32_t flags);
POSIX_V1(fcntl_getlk, int fd, uint32_t owner, const struct v1_lock *lock, struct v1_lock *found);
POSIX_V1(fcntl_setlk, int fd, uint32_t owner, const struct v1_lock *lock, uint32_t flags);
POSIX_V1(getuid, uint32_t *uid);
POSIX_V1(geteuid, uint32_t *uid);
POSIX_V1(getgid, uint32_t *gid);
POSIX_V1(getegid, uint32_t *gid);
POSIX_V1(getgroups, uint32_t *groups, size_t groups_len, size_t *count);
POSIX_V1(getpid, uint32_t *pid);
POSIX_V1(getppid, uint32_t *pid);
POSIX_V1(gethostname, char *name, size_t name_size, size_t *name_len);
POSIX_V1(getrlimit, uint32_t resource, struct v1_rlimit *rlimit);
POSIX_V1(getrusage, uint32_t who, struct v1_rusage *rusage);
POSIX_V1(signal_register, volatile uint32_t *pending, volatile uint32_t *mask);
POSIX_V1(signal_action, uint32_t signal, uint32_t disposition);
POSIX_V1(signal_take, uint32_t set, uint32_t *taken);
POSIX_V1(raise, uint32_t signal);
POSIX_V1(sigsuspend, void);
POSIX_V1(sigtimedwait, uint32_t set, int64_t timeout, uint8_t *signal);
POSIX_V1(setitimer, uint64_t interval, uint64_t value, struct v1_itimer *before);
POSIX_V1(getitimer, struct v1_itimer *timer);
POSIX_V1(tcgetwinsize, int fd, struct v1_winsize *size);
POSIX_V1(tcgetattr, int fd, struct v1_termios *termios);
POSIX_V1(tcsetattr, int fd, uint32_t action, const struct v1_termios *termios);

POSIX_V1(socket, uint32_t family, uint32_t type, uint32_t protocol, uint32_t fdflags, int *made);
POSIX_V1(socketpair, uint32_t family, uint32_t type, uint32_t protocol, uint32_t fdflags, int *one, int *other);
POSIX_V1(pipe, uint32_t fdflags, int *reads, int *writes);
POSIX_V1(dup, int fd, int from, int *copy);
POSIX_V1(dup2, int fd, int to);
POSIX_V1(close_range, unsigned first, unsigned last);
POSIX_V1(release_preopen, void);
POSIX_V1(bind, int fd, const void *address, size_t address_len);
POSIX_V1(listen, int fd, uint32_t backlog);
POSIX_V1(accept4, int fd, uint32_t fdflags, void *address, size_t address_len, int *accepted, size_t *whole_len);
POSIX_V1(connect, int fd, const void *address, size_t address_len);
POSIX_V1(getsockname, int fd, void *address, size_t address_len, size_t *whole_len);
POSIX_V1(getpeername, int fd, void *address, size_t address_len, size_t *whole_len);
POSIX_V1(getsockopt, int fd, uint32_t level, uint32_t option, void *value, size_t value_len, size_t *len);
POSIX_V1(setsockopt, int fd, uint32_t level, uint32_t option, const void *value, size_t value_len);
POSIX_V1(sendmsg, int fd, const struct iovec *parts, size_t parts_len, uint32_t flags, const void *address,
         size_t address_len, size_t *sent);
POSIX_V1(recvmsg, int fd, const struct iovec *parts, size_t parts_len, uint32_t flags, void *address,
         size_t address_len, size_t *received, uint32_t *received_flags, size_t *whole_len);
POSIX_V1(poll, struct pollfd *fds, size_t fds_len, int64_t timeout, size_t *ready);
POSIX_V1(getaddrinfo, const char *name, size_t name_len, uint32_t family, uint32_t flags, void *addresses,
         size_t addresses_len, char *canonical, size_t canonical_size, size_t *count, size_t *canonical_len);
POSIX_V1(getnameinfo, const void *address, size_t address_len, char *name, size_t name_size, size_t *name_len);

// The number by which paths start at the root directory: of no open file, so that a program may close and replace all.
#define V1_ROOT 0x7fffffff

// Once for all who call it.
void __posix_release_preopen(void);

// In each file whose functions make descriptors. Preview 1 has the root directory open as 3, the number that a native
// program's first file gets: it is free before main.
#define NUMBERS_START_AT_3                                            \
    __attribute__((constructor(101))) static void start_at_3(void) { \
        __posix_release_preopen();                                    \
    }

// A path as the imports take it: relative to a descriptor.
struct at_path {
    int fd;
    const char *path;
    size_t len;
    char joined[PATH_MAX];
};

// at_path AT DIRFD PATH: what PATH means relative to DIRFD, which may be AT_FDCWD. False, with errno, if it is too long.
// A struct at_path holds its own text: it may be used beside others.
_Bool __posix_at(struct at_path *at, int dirfd, const char *path);

// The result of a POSIX function: sets errno unless ERROR is 0.
static inline int posix_result(uint16_t error) {
    if (error == 0) return 0;
    errno = error;
    return -1;
}

static inline uint32_t follow_unless(int flags, int nofollow) {
    return flags & nofollow ? 0 : V1_SYMLINK_FOLLOW;
}

#endif
