// A client of echo: opens COUNT connections at once, sends a message on each and reads it back.
//
//     talk tcp HOST PORT COUNT     talk udp HOST PORT COUNT     talk unix PATH COUNT
//
// HOST is a name or an address. With names it says which address it took.
#include "say.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#ifndef __wasip2__
#include <sys/un.h>
#endif

enum { MOST = 2048, LENGTH = 64 };

static struct pollfd polled[MOST];
// How much of its message a connection has sent and read back.
static size_t sent[MOST], heard[MOST];

static void message(size_t number, char text[LENGTH]) {
    memset(text, '.', LENGTH);
    snprintf(text, LENGTH, "message %zu of one of many", number);
}

// One step of a connection. Ends the program if it fails.
static void step(size_t at, int datagrams) {
    char text[LENGTH], bytes[LENGTH];
    message(at, text);
    if (sent[at] < LENGTH) {
        // No datagram makes a SIGPIPE, and wasi-libc for WASI 0.2 sends none with flags.
        int flags = datagrams ? 0 : MSG_NOSIGNAL;
        ssize_t count = send(polled[at].fd, text + sent[at], LENGTH - sent[at], flags);
        if (count < 0 && errno == EAGAIN) return;
        MUST(count);
        sent[at] += (size_t)count;
        if (sent[at] == LENGTH) polled[at].events = POLLIN;
        return;
    }
    ssize_t count = recv(polled[at].fd, bytes, LENGTH - heard[at], 0);
    if (count < 0 && errno == EAGAIN) return;
    MUST(count);
    if (count == 0 || memcmp(bytes, text + heard[at], (size_t)count) != 0 || (datagrams && count != LENGTH)) {
        printf("connection %zu: another answer, %d bytes\n", at, (int)count);
        exit(1);
    }
    heard[at] += (size_t)count;
    // No more is expected: it is closed after all others have been heard.
    if (heard[at] == LENGTH) polled[at].events = 0;
}

// Where a Unix socket is: WASI 0.2 has none.
static struct addrinfo *unix_place(const char *name) {
#ifdef __wasip2__
    printf("no Unix sockets: %s\n", name);
    exit(2);
#else
    static struct sockaddr_un path = {.sun_family = AF_UNIX};
    static struct addrinfo place = {
        .ai_family = AF_UNIX, .ai_socktype = SOCK_STREAM, .ai_addr = (void *)&path, .ai_addrlen = sizeof path};
    snprintf(path.sun_path, sizeof path.sun_path, "%s", name);
    return &place;
#endif
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    int local = argc == 4 && strcmp(argv[1], "unix") == 0;
    if (!local && argc != 5) {
        puts("say talk tcp HOST PORT COUNT, talk udp HOST PORT COUNT or talk unix PATH COUNT");
        return 2;
    }
    int datagrams = strcmp(argv[1], "udp") == 0;
    size_t count = (size_t)atoi(argv[argc - 1]);
    struct addrinfo *place;
    if (local) {
        place = unix_place(argv[2]);
    } else {
        struct addrinfo hints = {.ai_socktype = datagrams ? SOCK_DGRAM : SOCK_STREAM};
        int error = getaddrinfo(argv[2], argv[3], &hints, &place);
        if (error) {
            SAY("look-up", "%s", error == EAI_SYSTEM ? error_name(errno) : gai_strerror(error));
            return 1;
        }
        char address[INET6_ADDRSTRLEN];
        const void *bytes = &((struct sockaddr_in *)place->ai_addr)->sin_addr;
        if (place->ai_family == AF_INET6) bytes = &((struct sockaddr_in6 *)place->ai_addr)->sin6_addr;
        if (!inet_ntop(place->ai_family, bytes, address, sizeof address)) return 1;
        SAY("address", "%s", address);
    }
    for (size_t at = 0; at < count; at++) {
        // Not what the look-up says: wasi-libc for WASI 0.2 names streams alone.
        int fd = socket(place->ai_family, datagrams ? SOCK_DGRAM : SOCK_STREAM, 0);
        MUST(fd);
        // A Unix socket's connection is made at once or not at all.
        if (!local) MUST(fcntl(fd, F_SETFL, O_NONBLOCK));
        if (connect(fd, place->ai_addr, place->ai_addrlen) && errno != EINPROGRESS) {
            SAY("connect", "%s", error_name(errno));
            return 1;
        }
        if (local) MUST(fcntl(fd, F_SETFL, O_NONBLOCK));
        polled[at] = (struct pollfd){.fd = fd, .events = POLLOUT};
    }
    for (size_t done = 0; done < count;) {
        MUST(poll(polled, count, -1));
        done = 0;
        for (size_t at = 0; at < count; at++) {
            if (polled[at].revents & POLLERR) {
                int error = 0;
                socklen_t size = sizeof error;
                MUST(getsockopt(polled[at].fd, SOL_SOCKET, SO_ERROR, &error, &size));
                SAY("connect", "%s", error_name(error));
                return 1;
            }
            if (polled[at].revents && polled[at].events) step(at, datagrams);
            done += heard[at] == LENGTH;
        }
    }
    SAY("heard", "%zu of %zu", count, count);
    return 0;
}
