// Load for benches/net and benches/apps: load KIND PORT CONNECTIONS SECONDS [PATH HOST]. KIND is echo or http.
//
// Opens the connections to 127.0.0.1 and keeps one request under way on each. After a tenth of the time it counts and
// measures. Prints one line: requests a second, and the median and the 99th percentile of microseconds per request.
// A server that says `Connection: close` gets its next request by a new connection, whose opening is part of the
// request. A connection that fails, or ends in the middle of an answer, is an error of the whole run.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char http_request[512];
static const char echo_request[] = "................................................................";

struct connection {
    int fd, closed;
    size_t heard;
    int64_t began;
    char answer[32768];
};

static struct sockaddr_in address = {.sin_family = AF_INET};
static const char *request;
static size_t request_size;
static int is_http, epoll;

static void fail(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void open_connection(struct connection *connection) {
    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on)) fail("setsockopt");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
    connection->fd = fd;
}

static void ask(struct connection *connection) {
    connection->heard = 0;
    connection->began = now();
    if (connection->closed) {
        close(connection->fd);
        open_connection(connection);
        connection->closed = 0;
    }
    // A request is far smaller than what a socket takes.
    if (send(connection->fd, request, request_size, MSG_NOSIGNAL) != (ssize_t)request_size) fail("send");
}

// The length of the whole answer, or 0 if that is not known yet.
static size_t answer_size(struct connection *connection) {
    if (!is_http) return request_size;
    connection->answer[connection->heard] = 0;
    char *end = strstr(connection->answer, "\r\n\r\n");
    if (end == NULL) return 0;
    // Only the head is looked through.
    end[2] = 0;
    const char *length = strcasestr(connection->answer, "\r\nContent-Length: ");
    if (length == NULL || strncmp(connection->answer, "HTTP/1.1 200 ", 13) != 0) {
        errno = EBADMSG;
        fail("answer");
    }
    connection->closed = strcasestr(connection->answer, "\r\nConnection: close\r\n") != NULL;
    end[2] = '\r';
    return (size_t)(end + 4 - connection->answer) + strtoul(length + 18, NULL, 10);
}

static int compare(const void *one, const void *other) {
    uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;
    return (a > b) - (a < b);
}

int main(int argc, char **argv) {
    if (argc != 5 && argc != 7) {
        fprintf(stderr, "say load echo|http PORT CONNECTIONS SECONDS [PATH HOST]\n");
        return 2;
    }
    const char *path = argc == 7 ? argv[5] : "/", *host = argc == 7 ? argv[6] : "localhost";
    snprintf(http_request, sizeof http_request, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host);
    is_http = strcmp(argv[1], "http") == 0;
    request = is_http ? http_request : echo_request;
    request_size = strlen(request);
    address.sin_port = htons((uint16_t)atoi(argv[2]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    size_t count = (size_t)atoi(argv[3]);
    int64_t seconds = atoi(argv[4]);
    struct connection *connections = calloc(count, sizeof *connections);
    size_t room = 1 << 24, measured = 0;
    uint32_t *times = malloc(room * sizeof *times);
    epoll = epoll_create1(0);
    if (connections == NULL || times == NULL || epoll < 0) fail("start");
    for (size_t at = 0; at < count; at++) open_connection(&connections[at]);
    for (size_t at = 0; at < count; at++) ask(&connections[at]);
    int64_t counted_from = now() + seconds * 100000000, end = counted_from + seconds * 900000000;
    int64_t time = 0;
    while (time < end) {
        struct epoll_event events[256];
        int ready = epoll_wait(epoll, events, 256, 10000);
        if (ready == 0) errno = ETIMEDOUT;
        if (ready <= 0) fail("epoll_wait");
        for (int at = 0; at < ready; at++) {
            struct connection *connection = events[at].data.ptr;
            size_t left = sizeof connection->answer - 1 - connection->heard;
            ssize_t heard = recv(connection->fd, connection->answer + connection->heard, left, 0);
            if (heard == 0) errno = ECONNRESET;
            if (heard <= 0) fail("recv");
            connection->heard += (size_t)heard;
            size_t wanted = answer_size(connection);
            if (wanted == 0 || connection->heard < wanted) continue;
            time = now();
            if (connection->began >= counted_from && time < end && measured < room)
                times[measured++] = (uint32_t)((time - connection->began) / 1000);
            ask(connection);
        }
    }
    if (measured == 0) {
        fprintf(stderr, "load: no answer in %s s\n", argv[4]);
        return 1;
    }
    qsort(times, measured, sizeof *times, compare);
    printf("%.1f %u %u\n", (double)measured / ((double)seconds * 0.9), times[measured / 2], times[measured * 99 / 100]);
    return 0;
}
