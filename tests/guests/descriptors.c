// Descriptors that share a file, pipes, pairs of sockets, and which numbers they have. The argument is a folder to work
// in.
#include "say.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
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

static const char *working_directory(void) {
    static char path[4096];
    return getcwd(path, sizeof path) ? path : error_name(errno);
}

// That paths mean what they did, whatever the numbers stand for.
static void paths_work(const char *when) {
    struct stat by_path, by_name;
    MUST(mkdir("made", 0700));
    int fd = open("made/file", O_RDWR | O_CREAT | O_EXCL, 0600);
    SAY(when, "the next number is %d", fd);
    MUST(fd);
    char path[4200];
    snprintf(path, sizeof path, "%s/made/file", working_directory());
    TRY(stat(path, &by_path));
    MUST(fstat(fd, &by_name));
    SAY("the same", "%d", by_path.st_ino == by_name.st_ino);
    MUST(close(fd));
    TRY(rename("made/file", "made/other"));
    TRY(link("made/other", "made/third"));
    TRY(symlink("third", "made/link"));
    TRY(access("made/link", R_OK));
    CALL("readlink", readlink("made/link", path, sizeof path));
    TRY(chmod("made/other", 0400));
    TRY(truncate("made/third", 3));
    DIR *listed = opendir("made");
    int entries = 0;
    while (listed && readdir(listed)) entries++;
    SAY("entries", "%d", entries);
    if (listed) closedir(listed);
    TRY(chdir("made"));
    TRY(unlink("link"));
    TRY(unlink("other"));
    TRY(unlink("third"));
    int here = open(".", O_RDONLY | O_DIRECTORY);
    MUST(here);
    TRY(chdir("/"));
    TRY(fchdir(here));
    MUST(close(here));
    TRY(chdir(".."));
    TRY(rmdir("made"));
    TRY(access("made", F_OK));
}

// Daemons close all that they may have inherited. Each number can be closed, and can be replaced.
static void numbers(void) {
    paths_work("at first");
    TRY(close(3));
    TRY(fcntl(3, F_GETFD));
    TRY(dup(3));
    TRY(openat(3, "made", O_RDONLY));
    struct rlimit limit;
    MUST(getrlimit(RLIMIT_NOFILE, &limit));
    SAY("as many as there may be", "%d %d", (rlim_t)sysconf(_SC_OPEN_MAX) == limit.rlim_cur,
        (rlim_t)getdtablesize() == limit.rlim_cur);
    SAY("another value", "%ld", sysconf(_SC_CHILD_MAX + 100000));
    for (int fd = 3; fd < sysconf(_SC_OPEN_MAX); fd++) close(fd);
    paths_work("all closed");
    closefrom(3);
    paths_work("all closed at once");
    TRY(close_range(3, ~0U, 0));
    TRY(close_range(4, 3, 0));
    TRY(close_range(3, 4, 64));

    int ends[2];
    TRY(pipe(ends));
    SAY("pipe", "%d %d", ends[0], ends[1]);
    int pair[2];
    TRY(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    SAY("socketpair", "%d %d", pair[0], pair[1]);
    // A pipe's end under the number that was something else's, and the other way round.
    CALL("dup2", dup2(pair[0], 3));
    CALL("dup2", dup2(pair[1], 10));
    MUST(close(pair[0]));
    MUST(close(pair[1]));
    paths_work("replaced");
    MUST(write(10, "x", 1));
    await(3, POLLIN);
    fd_set reads;
    FD_ZERO(&reads);
    FD_SET(3, &reads);
    FD_SET(10, &reads);
    struct timeval at_once = {0};
    CALL("select", select(11, &reads, NULL, NULL, &at_once), "%d %d", FD_ISSET(3, &reads), FD_ISSET(10, &reads));
    CALL("F_DUPFD from 3", fcntl(10, F_DUPFD, 3));
    CALL("F_DUPFD from 9", fcntl(10, F_DUPFD, 9));
    TRY(close_range(5, 9, 0));
    TRY(fcntl(5, F_GETFD));
    CALL("the one above stays", write(10, "x", 1));
    closefrom(4);
    TRY(fcntl(10, F_GETFD));
    TRY(close(3));

    // No number leads anywhere else.
    TRY(close(0x7fffffff));
    TRY(openat(0x7fffffff, "made", O_RDONLY));
    TRY(fcntl(0x7fffffff, F_GETFD));
    TRY(dup2(1, 0x7fffffff));
    TRY(access("/dev/null", F_OK));
    TRY(faccessat(0x7fffffff, "/dev/null", F_OK, 0));

    // The standard streams too.
    fflush(stdout);
    int kept[3];
    for (int fd = 0; fd < 3; fd++) MUST(kept[fd] = fcntl(fd, F_DUPFD, 20));
    for (int fd = 0; fd < 3; fd++) close(fd);
    int first = open("first", O_RDWR | O_CREAT, 0600), second = open("first", O_RDWR), third = dup(first);
    int fourth = open("first", O_RDWR);
    if (write(third, "text", 4) != 4) first = -1;
    for (int fd = 0; fd < 3; fd++) dup2(kept[fd], fd);
    closefrom(fourth);
    SAY("instead of the streams", "%d %d %d, and %d", first, second, third, fourth);
    struct stat status;
    MUST(stat("first", &status));
    SAY("written", "%d", (int)status.st_size);
    MUST(unlink("first"));
}

int main(int argc, char **argv) {
    close_inherited();
    setvbuf(stdout, NULL, _IOLBF, 0);
    MUST(chdir(argc > 1 ? argv[1] : "/tmp"));
    copies();
    pipes();
    pairs();
    numbers();
    return 0;
}
