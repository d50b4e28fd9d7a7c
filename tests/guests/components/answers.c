// A server in one poll loop that answers each byte on a connection with 60 KiB: answers PORT [spin].
//
// It sends without waiting, as much as it may, and then waits for the next byte: what it has sent it does not look
// after. With spin it never waits. The kernel keeps little for a connection, so much is left to the host.
#include "say.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ANSWER = 60 * 1024, MOST = 1000 };

static struct pollfd polled[MOST];
// How much of its answers a connection has not been sent.
static size_t left[MOST];
static nfds_t count;
static char bytes[ANSWER];

static void watch(int fd) {
    int small = 4096;
    MUST(fcntl(fd, F_SETFL, O_NONBLOCK));
    MUST(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small));
    left[count] = 0;
    polled[count++] = (struct pollfd){.fd = fd};
}

// False if the connection is over.
static _Bool go_on(nfds_t at) {
    char byte;
    ssize_t got = recv(polled[at].fd, &byte, 1, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN)) return 0;
    if (got == 1) left[at] += ANSWER;
    while (left[at] > 0) {
        ssize_t sent = send(polled[at].fd, bytes, left[at] < ANSWER ? left[at] : ANSWER, MSG_NOSIGNAL);
        if (sent < 0) return errno == EAGAIN;
        left[at] -= (size_t)sent;
    }
    return 1;
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc < 2) {
        puts("say answers PORT [spin]");
        return 2;
    }
    _Bool spins = argc > 2 && strcmp(argv[2], "spin") == 0;
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons((in_port_t)atoi(argv[1]))};
    int listener, fd;
    MUST(listener = socket(AF_INET, SOCK_STREAM, 0));
    MUST(bind(listener, (struct sockaddr *)&place, sizeof place));
    MUST(listen(listener, MOST));
    watch(listener);
    puts("ready");
    while (1) {
        for (nfds_t at = 0; at < count; at++) polled[at].events = (short)(POLLIN | (left[at] > 0 ? POLLOUT : 0));
        if (!spins) MUST(poll(polled, count, -1));
        while (count < MOST && (fd = accept(listener, NULL, NULL)) >= 0) watch(fd);
        for (nfds_t at = count - 1; at > 0; at--) {
            if ((!spins && !polled[at].revents) || go_on(at)) continue;
            MUST(close(polled[at].fd));
            count--;
            polled[at] = polled[count];
            left[at] = left[count];
        }
    }
}
