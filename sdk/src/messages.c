// Sending and receiving. Takes the place of send.o and recv.o of wasi-libc.
#include "internal.h"

#include <sys/socket.h>

#include "sockets.h"

static ssize_t send_parts(int fd, const struct iovec *parts, size_t count, int flags, const void *address, size_t len) {
    size_t sent;
    uint16_t error = RESTARTED_WRITE(__posix_v1_sendmsg(fd, parts, count, (uint32_t)flags, address, len, &sent));
    return posix_result(error) ? -1 : (ssize_t)sent;
}

ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *address, socklen_t len) {
    struct iovec part = {.iov_base = (void *)data, .iov_len = size};
    if (address == NULL) return send_parts(fd, &part, 1, flags, NULL, 0);
    struct v1_address to;
    if (!__posix_address(&to, address, len)) return -1;
    return send_parts(fd, &part, 1, flags, to.bytes, to.len);
}

ssize_t send(int fd, const void *data, size_t size, int flags) {
    struct iovec part = {.iov_base = (void *)data, .iov_len = size};
    return send_parts(fd, &part, 1, flags, NULL, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    // No descriptor leaves this process.
    if (message->msg_control != NULL && message->msg_controllen != 0) {
        errno = ENOTSUP;
        return -1;
    }
    if (message->msg_iovlen < 0) {
        errno = EMSGSIZE;
        return -1;
    }
    size_t count = (size_t)message->msg_iovlen;
    if (message->msg_name == NULL) return send_parts(fd, message->msg_iov, count, flags, NULL, 0);
    struct v1_address to;
    if (!__posix_address(&to, message->msg_name, message->msg_namelen)) return -1;
    return send_parts(fd, message->msg_iov, count, flags, to.bytes, to.len);
}

static ssize_t receive_parts(int fd, const struct iovec *parts, size_t count, int flags, void *address, size_t *len,
                             uint32_t *received_flags) {
    size_t received;
    uint16_t error =
        RESTARTED_READ(__posix_v1_recvmsg(fd, parts, count, (uint32_t)flags, address, *len, &received, received_flags, len));
    return posix_result(error) ? -1 : (ssize_t)received;
}

ssize_t recvfrom(int fd, void *restrict data, size_t size, int flags, struct sockaddr *restrict address,
                 socklen_t *restrict len) {
    struct iovec part = {.iov_base = data, .iov_len = size};
    size_t whole = address ? *len : 0;
    uint32_t received_flags;
    ssize_t received = receive_parts(fd, &part, 1, flags, address, &whole, &received_flags);
    if (received >= 0 && address) *len = whole;
    return received;
}

ssize_t recv(int fd, void *data, size_t size, int flags) {
    return recvfrom(fd, data, size, flags, NULL, NULL);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
    if (message->msg_iovlen < 0) {
        errno = EMSGSIZE;
        return -1;
    }
    // Which would say that a descriptor that comes in is closed by an exec: none comes in, and there is none.
    flags &= ~MSG_CMSG_CLOEXEC;
    size_t whole = message->msg_name ? message->msg_namelen : 0;
    uint32_t received_flags;
    ssize_t received = receive_parts(fd, message->msg_iov, (size_t)message->msg_iovlen, flags, message->msg_name, &whole,
                                     &received_flags);
    if (received < 0) return -1;
    if (message->msg_name) message->msg_namelen = whole;
    message->msg_controllen = 0;
    message->msg_flags = (int)received_flags;
    return received;
}
