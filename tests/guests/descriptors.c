// Descriptors that share a file, pipes, and pairs of sockets. The argument is a folder to work in.
#include "say.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

static int is_nonblocking(int fd) {
    return (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0;
}

static void copies(void) {
    int fd = open("copied", O_RDWR | O_CREAT | O_TRUNC, 0600);
    MUST(fd);
    MUST(write(fd, "0123456789", 10));
    int copy = dup(fd);
    MUST(copy);
    SAY("dup", "%d", copy - fd);
    MUST(lseek(fd, 4, SEEK_SET));
    SAY("offset of the copy", "%d", (int)lseek(copy, 0, SEEK_CUR));
    MUST(fcntl(fd, F_SETFL, O_NONBLOCK));
    SAY("flags of the copy", "%d", is_nonblocking(copy));
    MUST(close(fd));
    char byte;
    CALL("read of the copy", read(copy, &byte, 1), "%c", byte);
    TRY(dup(fd));
    TRY(dup2(fd, 20));
    TRY(dup2(copy, -1));

    CALL("dup2", dup2(copy, 40));
    SAY("offset", "%d", (int)lseek(40, 0, SEEK_CUR));
    CALL("dup2 of itself", dup2(40, 40));
    TRY(dup2(50, 50));
    int other = open("other", O_RDWR | O_CREAT | O_TRUNC, 0600);
    MUST(other);
    CALL("dup2 over another", dup2(other, 40));
    MUST(write(40, "other", 5));
    SAY("offset", "%d %d", (int)lseek(other, 0, SEEK_CUR), (int)lseek(copy, 0, SEEK_CUR));
    CALL("dup3", dup3(copy, 41, O_CLOEXEC));
    TRY(dup3(41, 41, 0));
    CALL("F_DUPFD", fcntl(copy, F_DUPFD, 60));
    CALL("F_DUPFD_CLOEXEC", fcntl(copy, F_DUPFD_CLOEXEC, 60));
    TRY(fcntl(copy, F_DUPFD, -1));
    TRY(fcntl(99, F_DUPFD, 0));
    for (int used = 60; used < 62; used++) MUST(close(used));
    MUST(close(40));
    MUST(close(41));
    TRY(close(41));

    // The standard output goes into the file, and comes back.
    fflush(stdout);
    int saved = dup(1);
    MUST(saved);
    MUST(dup2(other, 1));
    printf("kept\n");
    fflush(stdout);
    MUST(dup2(saved, 1));
    MUST(close(saved));
    char kept[16];
    CALL("into the file", pread(other, kept, sizeof kept, 5));
    MUST(close(other));
    MUST(close(copy));
    MUST(unlink("copied"));
    MUST(unlink("other"));
}

static void pipes(void) {
    int ends[2];
    TRY(pipe(ends));
    SAY("pipe", "%d %d", is_nonblocking(ends[0]), is_nonblocking(ends[1]));
    TRY(write(ends[0], "x", 1));
    char bytes[64];
    TRY(read(ends[1], bytes, 1));
    TRY(lseek(ends[0], 0, SEEK_CUR));
    struct iovec parts[2] = {{.iov_base = "ab", .iov_len = 2}, {.iov_base = "cde", .iov_len = 3}};
    CALL("writev", writev(ends[1], parts, 2));
    CALL("read", read(ends[0], bytes, 4));
    CALL("read", read(ends[0], bytes, 4));
    struct pollfd waits[2] = {{.fd = ends[0], .events = POLLIN}, {.fd = ends[1], .events = POLLOUT}};
    CALL("poll", poll(waits, 2, 0), "%#x %#x", waits[0].revents, waits[1].revents);
    MUST(close(ends[1]));
    CALL("poll", poll(waits, 1, -1), "%#x", waits[0].revents);
    CALL("read", read(ends[0], bytes, 4));
    MUST(close(ends[0]));

    TRY(pipe2(ends, O_NONBLOCK | O_CLOEXEC));
    SAY("pipe2", "%d %d", is_nonblocking(ends[0]), is_nonblocking(ends[1]));
    TRY(read(ends[0], bytes, 1));
    // What fits is a page's multiple that depends on the system; that it ends is the same.
    size_t written = 0;
    for (ssize_t part; (part = write(ends[1], bytes, sizeof bytes)) > 0;) written += (size_t)part;
    SAY("full", "%s, a multiple of 4096: %d", error_name(errno), written % 4096 == 0);
    waits[0].fd = ends[1];
    waits[0].events = POLLOUT;
    CALL("poll", poll(waits, 1, 0));
    MUST(close(ends[0]));
    CALL("poll", poll(waits, 1, 0), "%#x", waits[0].revents & POLLERR);
    MUST(close(ends[1]));
    TRY(pipe2(ends, O_APPEND));
}

static void pairs(void) {
    int ends[2];
    TRY(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    char bytes[64] = {0};
    CALL("write", write(ends[0], "one", 3));
    CALL("write", write(ends[0], "two", 3));
    CALL("read", read(ends[1], bytes, sizeof bytes - 1), "%s", bytes);
    TRY(shutdown(ends[0], SHUT_WR));
    CALL("read", read(ends[1], bytes, 1));
    CALL("write back", write(ends[1], "back", 4));
    CALL("read", read(ends[0], bytes, sizeof bytes));
    CALL("send", send(ends[0], "x", 1, MSG_NOSIGNAL));
    MUST(close(ends[0]));
    CALL("read", read(ends[1], bytes, 1));
    MUST(close(ends[1]));

    TRY(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, ends));
    SAY("flags", "%d", is_nonblocking(ends[0]));
    CALL("write", write(ends[0], "first", 5));
    CALL("write", write(ends[0], "second", 6));
    CALL("read", read(ends[1], bytes, 3));
    CALL("read", read(ends[1], bytes, sizeof bytes));
    TRY(read(ends[1], bytes, 1));
    // A copy of an end keeps it open.
    int copy = dup(ends[0]);
    MUST(copy);
    MUST(close(ends[0]));
    CALL("write", write(copy, "third", 5));
    CALL("read", read(ends[1], bytes, sizeof bytes));
    MUST(close(copy));
    MUST(close(ends[1]));
}

int main(int argc, char **argv) {
    close_inherited();
    setvbuf(stdout, NULL, _IOLBF, 0);
    MUST(chdir(argc > 1 ? argv[1] : "/tmp"));
    copies();
    pipes();
    pairs();
    return 0;
}
