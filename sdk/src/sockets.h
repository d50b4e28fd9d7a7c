// How the address of a socket is passed to the imports.
#ifndef WASM_INTERP_SOCKETS_H
#define WASM_INTERP_SOCKETS_H

#include <limits.h>
#include <sys/socket.h>

struct v1_address {
    const void *bytes;
    size_t len;
    // The text of a relative path of a Unix socket, made absolute.
    char absolute[sizeof(sa_family_t) + 1 + PATH_MAX];
};

// What FROM means: the path of a Unix socket may be relative to the working directory. False, with errno, if it is too
// long.
_Bool __posix_address(struct v1_address *to, const struct sockaddr *from, socklen_t len);

#endif
