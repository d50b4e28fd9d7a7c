// Sockets, but for messages and names. Takes the place of accept-wasip1.o, getsockopt.o and shutdown.o of wasi-libc.
#include "internal.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <wasi/api.h>

#include "sockets.h"

NUMBERS_START_AT_3

// What of a socket's type is an option. There is no exec: whether a socket would survive one means nothing. False, with
// errno, if there is no such type or no such family.
static _Bool split_type(int family, int type, uint32_t *plain, uint32_t *fdflags) {
    *plain = (uint32_t)type & ~(uint32_t)(SOCK_NONBLOCK | SOCK_CLOEXEC);
    *fdflags = type & SOCK_NONBLOCK ? V1_FD_NONBLOCK : 0;
    if (*plain > 0xf) {
        errno = EINVAL;
        return 0;
    }
    if (family < 0 || family > UINT16_MAX) {
        errno = EAFNOSUPPORT;
        return 0;
    }
    return 1;
}

_Bool __posix_address(struct v1_address *to, const struct sockaddr *from, socklen_t len) {
    to->bytes = from;
    to->len = len;
    if (len <= sizeof from->sa_family || from->sa_family != AF_UNIX) return 1;
    const char *path = ((const struct sockaddr_un *)from)->sun_path;
    size_t path_len = strnlen(path, len - sizeof from->sa_family);
    if (path_len == 0 || *path == '/') return 1;
    char text[sizeof((struct sockaddr_un *)0)->sun_path + 1];
    if (path_len >= sizeof text) {
        errno = EINVAL;
        return 0;
    }
    memcpy(text, path, path_len);
    text[path_len] = 0;
    struct at_path at;
    if (!__posix_at(&at, AT_FDCWD, text)) return 0;
    // The root is where at_path starts from, and its text is shorter than PATH_MAX.
    memcpy(to->absolute, &from->sa_family, sizeof from->sa_family);
    to->absolute[sizeof from->sa_family] = '/';
    memcpy(to->absolute + sizeof from->sa_family + 1, at.path, at.len);
    to->bytes = to->absolute;
    to->len = sizeof from->sa_family + 1 + at.len;
    return 1;
}

int socket(int family, int type, int protocol) {
    uint32_t plain, fdflags;
    int made;
    if (!split_type(family, type, &plain, &fdflags)) return -1;
    return posix_result(__posix_v1_socket((uint32_t)family, plain, (uint32_t)protocol, fdflags, &made)) ? -1 : made;
}

int socketpair(int family, int type, int protocol, int pair[2]) {
    uint32_t plain, fdflags;
    int one, other;
    if (!split_type(family, type, &plain, &fdflags)) return -1;
    uint16_t error = __posix_v1_socketpair((uint32_t)family, plain, (uint32_t)protocol, fdflags, &one, &other);
    if (posix_result(error)) return -1;
    pair[0] = one;
    pair[1] = other;
    return 0;
}

int bind(int fd, const struct sockaddr *address, socklen_t len) {
    struct v1_address to;
    if (!__posix_address(&to, address, len)) return -1;
    return posix_result(__posix_v1_bind(fd, to.bytes, to.len));
}

int listen(int fd, int backlog) {
    // As on Linux, what is less than nothing is a lot.
    return posix_result(__posix_v1_listen(fd, (uint32_t)backlog));
}

int connect(int fd, const struct sockaddr *address, socklen_t len) {
    struct v1_address to;
    if (!__posix_address(&to, address, len)) return -1;
    // Made again, it goes on with the connection that it has begun.
    return posix_result(RESTARTED_WRITE(__posix_v1_connect(fd, to.bytes, to.len)));
}

int accept4(int fd, struct sockaddr *restrict address, socklen_t *restrict len, int flags) {
    if (flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) {
        errno = EINVAL;
        return -1;
    }
    uint32_t fdflags = flags & SOCK_NONBLOCK ? V1_FD_NONBLOCK : 0;
    size_t room = address ? *len : 0, whole;
    int accepted;
    if (posix_result(RESTARTED_READ(__posix_v1_accept4(fd, fdflags, address, room, &accepted, &whole)))) return -1;
    if (address) *len = whole;
    return accepted;
}

int accept(int fd, struct sockaddr *restrict address, socklen_t *restrict len) {
    return accept4(fd, address, len, 0);
}

int getsockname(int fd, struct sockaddr *restrict address, socklen_t *restrict len) {
    size_t whole;
    if (posix_result(__posix_v1_getsockname(fd, address, len ? *len : 0, &whole))) return -1;
    if (len) *len = whole;
    return 0;
}

int getpeername(int fd, struct sockaddr *restrict address, socklen_t *restrict len) {
    size_t whole;
    if (posix_result(__posix_v1_getpeername(fd, address, len ? *len : 0, &whole))) return -1;
    if (len) *len = whole;
    return 0;
}

int getsockopt(int fd, int level, int option, void *restrict value, socklen_t *restrict len) {
    size_t whole;
    if (posix_result(__posix_v1_getsockopt(fd, (uint32_t)level, (uint32_t)option, value, *len, &whole))) return -1;
    *len = whole;
    return 0;
}

_Static_assert(V1_RCVTIMEO == SO_RCVTIMEO && V1_SNDTIMEO == SO_SNDTIMEO, "as in <sys/socket.h>");

static _Bool has_timeout(int fd, int option) {
    struct timeval time;
    size_t len;
    // What is no socket has none.
    if (__posix_v1_getsockopt(fd, SOL_SOCKET, (uint32_t)option, &time, sizeof time, &len)) return 0;
    return time.tv_sec || time.tv_usec;
}

int setsockopt(int fd, int level, int option, const void *value, socklen_t len) {
    if (level == SOL_SOCKET && (option == SO_RCVTIMEO || option == SO_SNDTIMEO)) __posix_has_timeout = has_timeout;
    return posix_result(__posix_v1_setsockopt(fd, (uint32_t)level, (uint32_t)option, value, len));
}

int shutdown(int fd, int how) {
    __wasi_sdflags_t flags;
    switch (how) {
    case SHUT_RD: flags = __WASI_SDFLAGS_RD; break;
    case SHUT_WR: flags = __WASI_SDFLAGS_WR; break;
    case SHUT_RDWR: flags = __WASI_SDFLAGS_RD | __WASI_SDFLAGS_WR; break;
    default: {
        // What is no socket is so whatever is wanted of it.
        int type;
        socklen_t len = sizeof type;
        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len)) return -1;
        errno = EINVAL;
        return -1;
    }
    }
    return posix_result(__wasi_sock_shutdown(fd, flags));
}
