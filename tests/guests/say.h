// How the C programs of the tests report: one line per fact, the same from a guest and from a native program.
//
// Each program is run both ways, and the test compares what it prints.
#ifndef SAY_H
#define SAY_H

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Prints a line of a name and a formatted value.
#define SAY(name, ...) (printf("%s: ", name), printf(__VA_ARGS__), putchar('\n'))

// The name of an error that differs in number between systems.
static inline const char *error_name(int error) {
    static const struct {
        int number;
        const char *name;
    } names[] = {
        {EACCES, "EACCES"}, {EAGAIN, "EAGAIN"},   {EBADF, "EBADF"},     {EEXIST, "EEXIST"}, {EINVAL, "EINVAL"},
        {EISDIR, "EISDIR"}, {ELOOP, "ELOOP"},     {ENOENT, "ENOENT"},   {ENOTDIR, "ENOTDIR"}, {ENOTSUP, "ENOTSUP"},
        {EPERM, "EPERM"},   {ERANGE, "ERANGE"},   {EROFS, "EROFS"},     {ENOTEMPTY, "ENOTEMPTY"}, {ENXIO, "ENXIO"},
        {EDEADLK, "EDEADLK"}, {ENAMETOOLONG, "ENAMETOOLONG"}, {EXDEV, "EXDEV"}, {ESPIPE, "ESPIPE"}, {EFBIG, "EFBIG"},
        {EBUSY, "EBUSY"},   {EIO, "EIO"},         {ENOTTY, "ENOTTY"},   {EINTR, "EINTR"},   {EPIPE, "EPIPE"}, {ESRCH, "ESRCH"},
        {ENOTSOCK, "ENOTSOCK"}, {ENOTCONN, "ENOTCONN"}, {EISCONN, "EISCONN"},
        {EINPROGRESS, "EINPROGRESS"}, {EALREADY, "EALREADY"}, {ECONNREFUSED, "ECONNREFUSED"},
        {ECONNRESET, "ECONNRESET"}, {EADDRINUSE, "EADDRINUSE"}, {EADDRNOTAVAIL, "EADDRNOTAVAIL"},
        {EAFNOSUPPORT, "EAFNOSUPPORT"}, {EDESTADDRREQ, "EDESTADDRREQ"}, {EMSGSIZE, "EMSGSIZE"},
        {ENOPROTOOPT, "ENOPROTOOPT"}, {EPROTONOSUPPORT, "EPROTONOSUPPORT"}, {EPROTOTYPE, "EPROTOTYPE"},
        {EMFILE, "EMFILE"}, {ETIMEDOUT, "ETIMEDOUT"}, {ENOSPC, "ENOSPC"}, {ENOMEM, "ENOMEM"},
        {ENODEV, "ENODEV"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].number == error) return names[i].name;
    return strerror(error);
}

// Prints what a call returned, the error of a call that failed, and then what it left: arguments are evaluated in the
// compiler's own order, so a call must not stand among them.
#define CALL(name, call, ...)                                          \
    do {                                                               \
        errno = 0;                                                     \
        long result = (long)(call);                                    \
        int error = errno;                                             \
        printf("%s: %ld", name, result);                               \
        if (result == -1) printf(" %s", error_name(error));            \
        printf(" " __VA_ARGS__);                                       \
        putchar('\n');                                                 \
    } while (0)

// Prints how a call that returns -1 on failure went.
#define TRY(call)                                                      \
    do {                                                               \
        errno = 0;                                                     \
        if ((call) == -1) SAY(#call, "%s", error_name(errno));         \
        else SAY(#call, "ok");                                         \
    } while (0)

// Ends the program if a step fails that the others need.
#define MUST(call)                                                     \
    do {                                                               \
        if ((call) == -1) {                                            \
            printf("%s failed: %s\n", #call, error_name(errno));       \
            exit(1);                                                   \
        }                                                              \
    } while (0)

// Waits until a descriptor is ready for this. What was sent over loopback arrives a moment later on a busy machine, so
// a question that does not wait has one answer only behind this.
static inline void await(int fd, short events) {
    struct pollfd waits = {.fd = fd, .events = events};
    MUST(poll(&waits, 1, -1));
}

// Closes what a native program has inherited from whatever runs the test: a guest has these numbers free.
static inline void close_inherited(void) {
#ifndef __wasm__
    for (int fd = 3; fd < 256; fd++) close(fd);
#endif
}

#endif
