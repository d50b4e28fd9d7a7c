// Locks. Without arguments: what one process can see of its own locks, in /tmp. `hold KIND FILE`: takes a lock, says
// so, and keeps it until it is ended. `try KIND FILE`: says whether it gets one. `wait KIND FILE`: waits for it.
#include "say.h"

#include <fcntl.h>
#include <stdint.h>
#include <sys/file.h>
#include <unistd.h>

static int record(int fd, int command, short type, off_t start, off_t len) {
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    return fcntl(fd, command, &lock);
}

static int take(const char *kind, int fd, int wait) {
    if (strcmp(kind, "flock") == 0) return flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB));
    if (strcmp(kind, "record") == 0) return record(fd, wait ? F_SETLKW : F_SETLK, F_WRLCK, 10, 10);
    if (strcmp(kind, "lockf") == 0) return lockf(fd, wait ? F_LOCK : F_TLOCK, 0);
    return record(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, F_WRLCK, 10, 10);
}

static void alone(void) {
    char name[] = "/tmp/locks-XXXXXX";
    int first = mkstemp(name);
    MUST(first);
    int second = open(name, O_RDWR);
    MUST(second);

    TRY(flock(first, LOCK_SH));
    TRY(flock(second, LOCK_SH | LOCK_NB));
    TRY(flock(second, LOCK_EX | LOCK_NB));
    TRY(flock(first, LOCK_UN));
    TRY(flock(second, LOCK_EX | LOCK_NB));
    TRY(flock(first, LOCK_SH | LOCK_NB));
    TRY(flock(second, LOCK_UN));
    TRY(flock(first, 0));
    TRY(flock(99, LOCK_SH));

    // A process is not in its own way.
    TRY(record(first, F_SETLK, F_WRLCK, 0, 10));
    TRY(record(second, F_SETLK, F_WRLCK, 5, 10));
    struct flock found = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    TRY(fcntl(second, F_GETLK, &found));
    SAY("F_GETLK", "free: %d", found.l_type == F_UNLCK);
    // A description is.
    TRY(record(first, F_SETLK, F_UNLCK, 0, 0));
    TRY(record(first, F_OFD_SETLK, F_RDLCK, 0, 10));
    TRY(record(second, F_OFD_SETLK, F_WRLCK, 9, 1));
    TRY(record(second, F_OFD_SETLK, F_WRLCK, 10, 1));
    found = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 3};
    TRY(fcntl(second, F_OFD_GETLK, &found));
    SAY("F_OFD_GETLK", "read: %d, start %lld, length %lld, pid %d", found.l_type == F_RDLCK, (long long)found.l_start,
        (long long)found.l_len, (int)found.l_pid);
    TRY(record(first, F_SETLK, 7, 0, 0));
    TRY(record(first, F_SETLK, F_WRLCK, -1, 0));
    TRY(record(99, F_SETLK, F_WRLCK, 0, 0));
    int reads = open(name, O_RDONLY);
    MUST(reads);
    TRY(record(reads, F_SETLK, F_WRLCK, 20, 1));
    TRY(lockf(first, F_TEST, 0));
    TRY(fcntl(99, F_GETFD));
    SAY("F_GETFL", "%d", (fcntl(reads, F_GETFL) & O_ACCMODE) == O_RDONLY);
    SAY("F_GETFL", "%d", (fcntl(first, F_GETFL) & O_ACCMODE) == O_RDWR);
    TRY(fcntl(first, F_SETFL, O_APPEND));
    SAY("F_GETFL", "%d", (fcntl(first, F_GETFL) & O_APPEND) != 0);
    MUST(unlink(name));
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc < 4) {
        alone();
        return 0;
    }
    int fd = open(argv[3], O_RDWR | O_CREAT, 0666);
    MUST(fd);
    if (strcmp(argv[1], "try") == 0) {
        SAY("try", "%s", take(argv[2], fd, 0) ? error_name(errno) : "locked");
        return 0;
    }
    if (strcmp(argv[1], "wait") == 0) puts("waiting");
    MUST(take(argv[2], fd, 1));
    puts("locked");
    if (strcmp(argv[1], "hold") == 0)
        while (1) sleep(1000);
    return 0;
}
