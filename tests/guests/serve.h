// One poll loop that serves connections of TCP and Unix sockets and answers datagrams, until TERM comes. What is said
// on a connection is the program's.
//
// After TERM nothing new is accepted; connections on which an answer is due get it, and then the loop ends. WASI 0.2 has
// no signals, no pipes and no Unix sockets: TERM ends a component at once.
#ifndef SERVE_H
#define SERVE_H

#include "say.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>
#ifndef __wasip2__
#include <signal.h>
#include <sys/un.h>
#endif

enum { ROOM = 8192, MOST = 2048 };

struct connection {
    char in[ROOM];
    size_t in_len;
    char out[ROOM];
    size_t out_start;
    size_t out_len;
    // Nothing more is read; it is closed when all is sent.
    _Bool ends;
};

struct service {
    // Takes what it can from `in` and puts answers into `out`. Called when either has changed.
    void (*answer)(struct connection *connection);
    // Whether a connection has something to wait for after TERM.
    _Bool (*busy)(const struct connection *connection);
    unsigned accepted;
    unsigned datagrams;
};

enum role { WAKE, LISTENER, DATAGRAMS, CONNECTION };

static struct pollfd polled[MOST];
static enum role roles[MOST];
static struct connection *connections[MOST];
static nfds_t polled_count;

static void watch(int fd, enum role role, struct connection *connection) {
    MUST(fcntl(fd, F_SETFL, O_NONBLOCK));
    roles[polled_count] = role;
    connections[polled_count] = connection;
    polled[polled_count++] = (struct pollfd){.fd = fd, .events = POLLIN};
}

static void forget(nfds_t at) {
    MUST(close(polled[at].fd));
    free(connections[at]);
    polled_count--;
    polled[at] = polled[polled_count];
    roles[at] = roles[polled_count];
    connections[at] = connections[polled_count];
}

#ifndef __wasip2__
static int wake_pipe[2];

static void on_term(int signal) {
    (void)signal;
    int before = errno;
    // A full pipe wakes the loop too.
    if (write(wake_pipe[1], "", 1) < 0 && errno != EAGAIN) abort();
    errno = before;
}

static void wake_on_term(void) {
    MUST(pipe(wake_pipe));
    MUST(fcntl(wake_pipe[1], F_SETFL, O_NONBLOCK));
    watch(wake_pipe[0], WAKE, NULL);
    struct sigaction action = {.sa_handler = on_term};
    MUST(sigaction(SIGTERM, &action, NULL));
}

static void listen_on_unix(const char *path) {
    int fd;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    MUST(fd = socket(AF_UNIX, SOCK_STREAM, 0));
    MUST(bind(fd, (struct sockaddr *)&address, sizeof address));
    MUST(listen(fd, 1024));
    watch(fd, LISTENER, NULL);
}
#endif

// tcp:ADDRESS:PORT, udp:ADDRESS:PORT or unix:PATH; the port is what is behind the last colon.
static void listen_on(const char *what) {
    int fd, on = 1;
#ifndef __wasip2__
    if (strncmp(what, "unix:", 5) == 0) {
        listen_on_unix(what + 5);
        return;
    }
#endif
    char host[64];
    const char *colon = strrchr(what, ':');
    int type = strncmp(what, "udp:", 4) == 0 ? SOCK_DGRAM : SOCK_STREAM;
    if (colon == NULL || colon < what + 4) {
        printf("cannot listen on %s: say tcp:ADDRESS:PORT, udp:ADDRESS:PORT or unix:PATH\n", what);
        exit(2);
    }
    snprintf(host, sizeof host, "%.*s", (int)(colon - what - 4), what + 4);
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((in_port_t)atoi(colon + 1))};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = v4.sin_port};
    _Bool is_v4 = inet_pton(AF_INET, host, &v4.sin_addr) == 1;
    if (!is_v4 && inet_pton(AF_INET6, host, &v6.sin6_addr) != 1) {
        printf("no address: %s\n", host);
        exit(2);
    }
    MUST(fd = socket(is_v4 ? AF_INET : AF_INET6, type, 0));
    if (type == SOCK_STREAM) MUST(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    MUST(is_v4 ? bind(fd, (struct sockaddr *)&v4, sizeof v4) : bind(fd, (struct sockaddr *)&v6, sizeof v6));
    if (type == SOCK_STREAM) MUST(listen(fd, 1024));
    watch(fd, type == SOCK_STREAM ? LISTENER : DATAGRAMS, NULL);
}

static void accept_all(int listener, struct service *service) {
    for (int fd; polled_count < MOST && (fd = accept(listener, NULL, NULL)) >= 0; service->accepted++) {
        int on = 1;
        // Which a Unix socket does not have.
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct connection *connection = calloc(1, sizeof *connection);
        if (connection == NULL) {
            puts("out of memory");
            exit(1);
        }
        watch(fd, CONNECTION, connection);
    }
}

static void answer_datagrams(int fd, struct service *service) {
    char bytes[2048];
    struct sockaddr_storage from;
    socklen_t size = sizeof from;
    for (ssize_t count; (count = recvfrom(fd, bytes, sizeof bytes, 0, (struct sockaddr *)&from, &size)) >= 0;) {
        if (sendto(fd, bytes, (size_t)count, 0, (struct sockaddr *)&from, size) == count) service->datagrams++;
        size = sizeof from;
    }
}

// False if the connection is over.
static _Bool go_on(int fd, struct connection *connection, struct service *service, int happened) {
    if (happened & (POLLIN | POLLHUP | POLLERR) && !connection->ends && connection->in_len < ROOM) {
        ssize_t count = recv(fd, connection->in + connection->in_len, ROOM - connection->in_len, 0);
        if (count == 0) connection->ends = 1;
        else if (count > 0) connection->in_len += (size_t)count;
        else if (errno != EAGAIN) return 0;
    }
    while (1) {
        service->answer(connection);
        if (connection->out_len == 0) return !connection->ends;
        ssize_t sent = send(fd, connection->out + connection->out_start, connection->out_len, MSG_NOSIGNAL);
        if (sent < 0) return errno == EAGAIN;
        connection->out_start += (size_t)sent;
        connection->out_len -= (size_t)sent;
        if (connection->out_len == 0) connection->out_start = 0;
    }
}

static void serve(struct service *service, char **places) {
    setvbuf(stdout, NULL, _IOLBF, 0);
#ifndef __wasip2__
    wake_on_term();
#endif
    for (; *places; places++) listen_on(*places);
    puts("ready");
    _Bool ending = 0;
    while (1) {
        for (nfds_t at = 0; at < polled_count; at++) {
            struct connection *connection = connections[at];
            if (connection == NULL) continue;
            polled[at].events = (short)((connection->ends || connection->in_len == ROOM ? 0 : POLLIN) |
                                        (connection->out_len ? POLLOUT : 0));
        }
        if (poll(polled, polled_count, -1) < 0) {
            if (errno == EINTR) continue;
            MUST(-1);
        }
        // From the last one on: one that is forgotten is replaced by one that was looked at.
        for (nfds_t at = polled_count; at-- > 0;) {
            int happened = polled[at].revents;
            if (happened == 0) continue;
            switch (roles[at]) {
            case WAKE: ending = 1; break;
            case LISTENER: accept_all(polled[at].fd, service); break;
            case DATAGRAMS: answer_datagrams(polled[at].fd, service); break;
            case CONNECTION:
                if (!go_on(polled[at].fd, connections[at], service, happened)) forget(at);
            }
        }
        if (!ending) continue;
        for (nfds_t at = polled_count; at-- > 0;) {
            if (roles[at] != CONNECTION) forget(at);
            else if (!service->busy(connections[at]) && connections[at]->out_len == 0) forget(at);
        }
        if (polled_count == 0) break;
    }
    SAY("served", "%u connections, %u datagrams", service->accepted, service->datagrams);
}

#endif
