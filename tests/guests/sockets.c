// Sockets of one process that talks to itself over loopback and over Unix sockets in the folder that it is given.
#include "say.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static void say_option(const char *name, int fd, int level, int option) {
    int value = -1;
    socklen_t size = sizeof value;
    if (getsockopt(fd, level, option, &value, &size)) SAY(name, "%s", error_name(errno));
    else SAY(name, "%d, %u bytes", value, (unsigned)size);
}

static int set(int fd, int level, int option, int value) {
    return setsockopt(fd, level, option, &value, sizeof value);
}

// Ports differ from run to run; whether there is one does not.
static void say_address(const char *name, const struct sockaddr_storage *address, socklen_t size) {
    char text[INET6_ADDRSTRLEN];
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const void *)address;
        SAY(name, "IPv4 %s, a port: %d, %u bytes", inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text),
            v4->sin_port != 0, (unsigned)size);
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const void *)address;
        SAY(name, "IPv6 %s, a port: %d, %u bytes", inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text),
            v6->sin6_port != 0, (unsigned)size);
    } else if (address->ss_family == AF_UNIX) {
        const struct sockaddr_un *local = (const void *)address;
        int named = size > offsetof(struct sockaddr_un, sun_path);
        const char *last = named ? strrchr(local->sun_path, '/') : NULL;
        // Where the working directory is text of the library, what the kernel knows is the whole path.
        SAY(name, "Unix %s", last ? last + 1 : named ? local->sun_path : "without a name");
    } else {
        SAY(name, "no address, %u bytes", (unsigned)size);
    }
}

static void say_ends(int fd) {
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    memset(&address, 0, sizeof address);
    if (getsockname(fd, (struct sockaddr *)&address, &size)) SAY("getsockname", "%s", error_name(errno));
    else say_address("getsockname", &address, size);
    size = sizeof address;
    memset(&address, 0, sizeof address);
    if (getpeername(fd, (struct sockaddr *)&address, &size)) SAY("getpeername", "%s", error_name(errno));
    else say_address("getpeername", &address, size);
}

// The whole path, for one that was bound by a whole path.
static void say_paths(const char *name, int fd) {
    struct sockaddr_un local, peer;
    memset(&local, 0, sizeof local);
    memset(&peer, 0, sizeof peer);
    socklen_t size = sizeof local, peer_size = sizeof peer;
    TRY(getsockname(fd, (struct sockaddr *)&local, &size));
    TRY(getpeername(fd, (struct sockaddr *)&peer, &peer_size));
    SAY(name, "%s, %u bytes; peer %s, %u bytes", local.sun_path, (unsigned)size, peer.sun_path, (unsigned)peer_size);
}

static socklen_t loopback(int family, struct sockaddr_storage *address) {
    memset(address, 0, sizeof *address);
    if (family == AF_INET) {
        struct sockaddr_in *v4 = (void *)address;
        v4->sin_family = AF_INET;
        v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return sizeof *v4;
    }
    struct sockaddr_in6 *v6 = (void *)address;
    v6->sin6_family = AF_INET6;
    v6->sin6_addr = in6addr_loopback;
    return sizeof *v6;
}

static socklen_t unix_address(const char *path, struct sockaddr_storage *address) {
    memset(address, 0, sizeof *address);
    struct sockaddr_un *local = (void *)address;
    local->sun_family = AF_UNIX;
    strcpy(local->sun_path, path);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1);
}

// What two connected ends of a stream do.
static void talk(int one, int other) {
    char bytes[64] = {0};
    CALL("send", send(one, "hello", 5, 0));
    CALL("recv, peeking", recv(other, bytes, sizeof bytes, MSG_PEEK));
    CALL("recv of a part", recv(other, bytes, 2, 0));
    struct pollfd waits = {.fd = other, .events = POLLIN | POLLOUT};
    CALL("poll", poll(&waits, 1, -1), "%#x", waits.revents);
    CALL("recv of the rest", recv(other, bytes, sizeof bytes, MSG_DONTWAIT), "%.3s", bytes);
    TRY(recv(other, bytes, sizeof bytes, MSG_DONTWAIT));
    struct iovec parts[2] = {{.iov_base = "one", .iov_len = 3}, {.iov_base = "+two", .iov_len = 4}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    CALL("sendmsg", sendmsg(other, &message, MSG_NOSIGNAL));
    char first[4] = {0}, second[16] = {0};
    struct iovec places[2] = {{.iov_base = first, .iov_len = 3}, {.iov_base = second, .iov_len = 15}};
    struct msghdr received = {.msg_iov = places, .msg_iovlen = 2};
    CALL("recvmsg", recvmsg(one, &received, 0), "%s %s %#x", first, second, received.msg_flags);

    // As long as a socket that waits for so long has something to wait for, it returns with what there is.
    struct timeval soon = {.tv_usec = 20000}, kept;
    socklen_t size = sizeof kept;
    TRY(setsockopt(one, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon));
    TRY(getsockopt(one, SOL_SOCKET, SO_RCVTIMEO, &kept, &size));
    SAY("SO_RCVTIMEO", "%d.%06d %d", (int)kept.tv_sec, (int)kept.tv_usec, size == sizeof kept);
    CALL("recv in vain", recv(one, bytes, 1, 0));
    CALL("read in vain", read(one, bytes, 1));
    // From here on it waits for as long as it takes.
    soon = (struct timeval){0};
    TRY(setsockopt(one, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon));

    fd_set reads, writes;
    FD_ZERO(&reads);
    FD_ZERO(&writes);
    FD_SET(one, &reads);
    FD_SET(other, &reads);
    FD_SET(other, &writes);
    struct timeval at_once = {0};
    MUST(send(one, "again", 5, 0));
    await(other, POLLIN);
    int above = (one > other ? one : other) + 1;
    CALL("select", select(above, &reads, &writes, NULL, &at_once), "%d %d %d", FD_ISSET(one, &reads),
         FD_ISSET(other, &reads), FD_ISSET(other, &writes));
    CALL("recv, waiting for all", recv(other, bytes, 5, MSG_WAITALL));

    TRY(shutdown(one, SHUT_WR));
    CALL("recv", recv(other, bytes, 1, 0));
    CALL("send", send(one, "x", 1, MSG_NOSIGNAL));
    CALL("send the other way", send(other, "x", 1, 0));
    CALL("recv", recv(one, bytes, 1, 0));
    waits = (struct pollfd){.fd = other, .events = POLLIN | POLLRDHUP};
    CALL("poll", poll(&waits, 1, -1), "%#x", waits.revents);
}

static void streams(int family) {
    struct sockaddr_storage address;
    socklen_t size = loopback(family, &address);
    int listener = socket(family, SOCK_STREAM, 0);
    MUST(listener);
    TRY(set(listener, SOL_SOCKET, SO_REUSEADDR, 1));
    if (family == AF_INET6) TRY(set(listener, IPPROTO_IPV6, IPV6_V6ONLY, 1));
    MUST(bind(listener, (struct sockaddr *)&address, size));
    TRY(bind(listener, (struct sockaddr *)&address, size));
    say_option("SO_ACCEPTCONN", listener, SOL_SOCKET, SO_ACCEPTCONN);
    MUST(listen(listener, 16));
    say_option("SO_ACCEPTCONN", listener, SOL_SOCKET, SO_ACCEPTCONN);
    say_ends(listener);
    size = sizeof address;
    MUST(getsockname(listener, (struct sockaddr *)&address, &size));

    int client = socket(family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
    MUST(client);
    char byte;
    TRY(recv(client, &byte, 1, 0));
    TRY(send(client, "x", 1, MSG_NOSIGNAL));
    say_ends(client);
    TRY(connect(client, (struct sockaddr *)&address, size));
    TRY(connect(client, (struct sockaddr *)&address, size));
    struct sockaddr_storage peer;
    socklen_t peer_size = sizeof peer;
    int served = accept4(listener, (struct sockaddr *)&peer, &peer_size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    MUST(served);
    say_address("accept4", &peer, peer_size);
    SAY("nonblocking", "%d", (fcntl(served, F_GETFL) & O_NONBLOCK) != 0);
    MUST(fcntl(served, F_SETFL, 0));
    say_ends(client);

    say_option("SO_TYPE", client, SOL_SOCKET, SO_TYPE);
    say_option("SO_DOMAIN", client, SOL_SOCKET, SO_DOMAIN);
    say_option("SO_PROTOCOL", client, SOL_SOCKET, SO_PROTOCOL);
    say_option("SO_ERROR", client, SOL_SOCKET, SO_ERROR);
    TRY(set(client, IPPROTO_TCP, TCP_NODELAY, 1));
    say_option("TCP_NODELAY", client, IPPROTO_TCP, TCP_NODELAY);
    TRY(set(client, SOL_SOCKET, SO_KEEPALIVE, 1));
    TRY(set(client, IPPROTO_TCP, TCP_KEEPIDLE, 30));
    TRY(set(client, IPPROTO_TCP, TCP_KEEPINTVL, 5));
    TRY(set(client, IPPROTO_TCP, TCP_KEEPCNT, 4));
    say_option("TCP_KEEPIDLE", client, IPPROTO_TCP, TCP_KEEPIDLE);
    TRY(set(client, SOL_SOCKET, SO_SNDBUF, 20000));
    say_option("SO_SNDBUF", client, SOL_SOCKET, SO_SNDBUF);
    TRY(set(client, SOL_SOCKET, 9999, 1));
    struct linger linger = {.l_onoff = 1, .l_linger = 7};
    TRY(setsockopt(client, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    linger = (struct linger){0};
    size = sizeof linger;
    TRY(getsockopt(client, SOL_SOCKET, SO_LINGER, &linger, &size));
    SAY("SO_LINGER", "%d %d %u", linger.l_onoff, linger.l_linger, (unsigned)size);
    linger.l_onoff = 0;
    TRY(setsockopt(client, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));

    talk(client, served);
    MUST(close(client));
    MUST(close(served));
    TRY(accept4(listener, NULL, NULL, 0x10));
    MUST(fcntl(listener, F_SETFL, O_NONBLOCK));
    TRY(accept(listener, NULL, NULL));

    // A connection in progress: its end is said by poll and SO_ERROR.
    client = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    MUST(client);
    size = sizeof address;
    int connected = connect(client, (struct sockaddr *)&address, size);
    SAY("connect", "%d", connected == 0 || errno == EINPROGRESS);
    struct pollfd waits = {.fd = client, .events = POLLOUT};
    CALL("poll", poll(&waits, 1, -1), "%#x", waits.revents);
    say_option("SO_ERROR", client, SOL_SOCKET, SO_ERROR);
    MUST(close(client));
    MUST(close(listener));

    client = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    MUST(client);
    connected = connect(client, (struct sockaddr *)&address, size);
    SAY("connect where no one listens", "%d", connected == -1 && (errno == EINPROGRESS || errno == ECONNREFUSED));
    if (errno == EINPROGRESS) {
        waits = (struct pollfd){.fd = client, .events = POLLOUT};
        MUST(poll(&waits, 1, -1));
        int error = 0;
        size = sizeof error;
        MUST(getsockopt(client, SOL_SOCKET, SO_ERROR, &error, &size));
        errno = error;
    }
    SAY("refused", "%s", error_name(errno));
    MUST(close(client));
}

static void datagrams(int family) {
    struct sockaddr_storage address, from;
    socklen_t size = loopback(family, &address);
    int one = socket(family, SOCK_DGRAM, 0), other = socket(family, SOCK_DGRAM, 0);
    MUST(one);
    MUST(other);
    MUST(bind(one, (struct sockaddr *)&address, size));
    size = sizeof address;
    MUST(getsockname(one, (struct sockaddr *)&address, &size));
    TRY(send(other, "x", 1, 0));
    CALL("sendto", sendto(other, "a datagram", 10, 0, (struct sockaddr *)&address, size));
    CALL("sendto", sendto(other, "", 0, 0, (struct sockaddr *)&address, size));
    char bytes[64];
    socklen_t from_size = sizeof from;
    CALL("recvfrom", recvfrom(one, bytes, 4, 0, (struct sockaddr *)&from, &from_size));
    say_address("from", &from, from_size);
    CALL("recvfrom", recvfrom(one, bytes, sizeof bytes, 0, NULL, NULL));
    // Back to where it came from.
    CALL("sendto", sendto(one, "an answer", 9, 0, (struct sockaddr *)&from, from_size));
    TRY(connect(other, (struct sockaddr *)&address, size));
    say_ends(other);
    char part[4];
    struct iovec place = {.iov_base = part, .iov_len = sizeof part};
    struct msghdr message = {
        .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &place, .msg_iovlen = 1};
    CALL("recvmsg", recvmsg(other, &message, 0), "cut off: %d", (message.msg_flags & MSG_TRUNC) != 0);
    say_address("from", &from, message.msg_namelen);
    CALL("send", send(other, "connected", 9, 0));
    CALL("recv", recv(one, bytes, sizeof bytes, MSG_TRUNC));
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    TRY(connect(other, &none, sizeof none));
    TRY(getpeername(other, (struct sockaddr *)&from, &from_size));
    TRY(listen(one, 1));
    TRY(recv(one, bytes, sizeof bytes, MSG_DONTWAIT));
    MUST(close(one));
    MUST(close(other));
}

static void unix_sockets(const char *folder) {
    struct sockaddr_storage address, from;
    char path[100];
    snprintf(path, sizeof path, "%s/stream.sock", folder);
    socklen_t size = unix_address(path, &address);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    MUST(listener);
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    MUST(client);
    TRY(connect(client, (struct sockaddr *)&address, size));
    TRY(bind(listener, (struct sockaddr *)&address, size));
    TRY(connect(client, (struct sockaddr *)&address, size));
    TRY(listen(listener, 8));
    TRY(connect(client, (struct sockaddr *)&address, size));
    socklen_t from_size = sizeof from;
    int served = accept(listener, (struct sockaddr *)&from, &from_size);
    MUST(served);
    say_address("accept", &from, from_size);
    say_ends(client);
    say_ends(served);
    say_paths("listener", listener);
    say_paths("client", client);
    say_paths("served", served);
    talk(client, served);
    MUST(close(client));
    MUST(close(served));
    int second = socket(AF_UNIX, SOCK_STREAM, 0);
    MUST(second);
    TRY(bind(second, (struct sockaddr *)&address, size));
    MUST(close(second));
    MUST(close(listener));
    client = socket(AF_UNIX, SOCK_STREAM, 0);
    MUST(client);
    TRY(connect(client, (struct sockaddr *)&address, size));
    MUST(close(client));
    MUST(unlink("stream.sock"));

    // One that has room for a single connection, and what waits for it.
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    MUST(listener);
    size = unix_address("full.sock", &address);
    MUST(bind(listener, (struct sockaddr *)&address, size));
    MUST(listen(listener, 0));
    client = socket(AF_UNIX, SOCK_STREAM, 0);
    MUST(client);
    TRY(connect(client, (struct sockaddr *)&address, size));
    second = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    MUST(second);
    TRY(connect(second, (struct sockaddr *)&address, size));
    MUST(fcntl(second, F_SETFL, 0));
    struct timeval soon = {.tv_usec = 30000};
    MUST(setsockopt(second, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof soon));
    TRY(connect(second, (struct sockaddr *)&address, size));
    SAY("flags", "%d", (fcntl(second, F_GETFL) & O_NONBLOCK) != 0);
    MUST(served = accept(listener, NULL, NULL));
    TRY(connect(second, (struct sockaddr *)&address, size));
    MUST(close(served));
    MUST(close(second));
    MUST(close(client));
    MUST(close(listener));
    MUST(unlink("full.sock"));

    int one = socket(AF_UNIX, SOCK_DGRAM, 0), other = socket(AF_UNIX, SOCK_DGRAM, 0);
    MUST(one);
    MUST(other);
    size = unix_address("one.sock", &address);
    TRY(bind(one, (struct sockaddr *)&address, size));
    struct sockaddr_storage back;
    socklen_t back_size = unix_address("other.sock", &back);
    TRY(bind(other, (struct sockaddr *)&back, back_size));
    CALL("sendto", sendto(other, "hello", 5, 0, (struct sockaddr *)&address, size));
    char bytes[64];
    from_size = sizeof from;
    CALL("recvfrom", recvfrom(one, bytes, sizeof bytes, 0, (struct sockaddr *)&from, &from_size));
    say_address("from", &from, from_size);
    CALL("sendto", sendto(one, "back", 4, 0, (struct sockaddr *)&from, from_size));
    CALL("recv", recv(other, bytes, sizeof bytes, 0));
    MUST(close(one));
    MUST(close(other));
    MUST(unlink("one.sock"));
    MUST(unlink("other.sock"));
}

static void errors(void) {
    int file = open("file", O_RDWR | O_CREAT, 0600);
    MUST(file);
    TRY(listen(file, 1));
    TRY(accept(file, NULL, NULL));
    TRY(shutdown(file, SHUT_RD));
    TRY(shutdown(file, 9));
    TRY(shutdown(99, 9));
    char byte;
    TRY(recv(file, &byte, 1, 0));
    TRY(send(99, "x", 1, 0));
    TRY(getsockname(99, NULL, NULL));
    TRY(socket(99, SOCK_STREAM, 0));
    TRY(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
    TRY(socket(AF_INET, SOCK_STREAM | 0x10, 0));
    int ends[2];
    TRY(socketpair(AF_INET, SOCK_STREAM, 0, ends));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    MUST(fd);
    TRY(shutdown(fd, 9));
    TRY(shutdown(fd, SHUT_RD));
    struct sockaddr_storage address;
    loopback(AF_INET, &address);
    TRY(bind(fd, (struct sockaddr *)&address, 4));
    TRY(lseek(fd, 0, SEEK_CUR));
    struct pollfd waits[3] = {{.fd = 99, .events = POLLIN}, {.fd = file, .events = POLLIN}, {.fd = -1, .revents = 7}};
    CALL("poll", poll(waits, 3, -1), "%#x %#x %#x", waits[0].revents, waits[1].revents, waits[2].revents);
    CALL("poll of nothing", poll(NULL, 0, 1));
    fd_set set;
    FD_ZERO(&set);
    // Linux does not look beyond its table of descriptors, which has room for 64 at least.
    FD_SET(40, &set);
    struct timeval at_once = {0};
    TRY(select(41, &set, NULL, NULL, &at_once));
    CALL("select of nothing", select(0, NULL, NULL, NULL, &at_once));
    MUST(close(fd));
    MUST(close(file));
    MUST(unlink("file"));
}

int main(int argc, char **argv) {
    close_inherited();
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *folder = argc > 1 ? argv[1] : "/tmp";
    MUST(chdir(folder));
    puts("# TCP, IPv4");
    streams(AF_INET);
    puts("# TCP, IPv6");
    streams(AF_INET6);
    puts("# UDP, IPv4");
    datagrams(AF_INET);
    puts("# UDP, IPv6");
    datagrams(AF_INET6);
    puts("# Unix");
    unix_sockets(folder);
    puts("# Errors");
    errors();
    return 0;
}
