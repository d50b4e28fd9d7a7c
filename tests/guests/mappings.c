// mmap: memory, and files as private copies.
#include "say.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

static char *map(const char *name, size_t length, int prot, int flags, int fd, off_t offset) {
    errno = 0;
    char *start = mmap(NULL, length, prot, flags, fd, offset);
    if (start == MAP_FAILED) {
        SAY(name, "%s", error_name(errno));
        return NULL;
    }
    SAY(name, "%s", (size_t)start % 4096 ? "between pages" : "ok");
    return start;
}

static int all_zero(const char *from, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (from[i]) return 0;
    return 1;
}

int main(int count, char **words) {
    if (count < 2) return 2;
    MUST(chdir(words[1]));
    const int both = PROT_READ | PROT_WRITE;
    const size_t length = 70000;

    char *one = map("private", length, both, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *two = map("shared", length, both, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!one || !two) return 1;
    SAY("zero", "%d %d", all_zero(one, length), all_zero(two, length));
    memset(one, 1, length);
    SAY("apart", "%d", all_zero(two, length));
    TRY(msync(two, length, MS_SYNC));
    TRY(msync(two, length, MS_SYNC | MS_ASYNC));
    TRY(msync(two + 1, length, MS_SYNC));
    TRY(munmap(one, length));
    // As Linux has it: where nothing is, nothing is to do.
    TRY(munmap(one, length));
    TRY(munmap(two, 0));
    TRY(munmap(two + 1, length));
    SAY("left", "%d", all_zero(two, length));
    TRY(munmap(two, length));

    int fd = open("mapped", O_CREAT | O_TRUNC | O_RDWR, 0600);
    MUST(fd);
    char block[5000];
    memset(block, 'a', sizeof block);
    for (int i = 0; i < 2; i++) MUST(write(fd, block, sizeof block));
    char *copy = map("file", 10000, both, MAP_PRIVATE, fd, 0);
    char *part = map("its end", 2000, PROT_READ, MAP_PRIVATE, fd, 8192);
    if (!copy || !part) return 1;
    SAY("bytes", "%c%c %c%c", copy[0], copy[9999], part[0], part[1807]);
    // To the end of its last page.
    SAY("beyond the end", "%d %d", all_zero(copy + 10000, 12288 - 10000), all_zero(part + 1808, 4096 - 1808));
    copy[0] = 'b';
    char first = 0;
    MUST(pread(fd, &first, 1, 0));
    SAY("file", "%c", first);
    TRY(close(fd));
    SAY("still there", "%c%c", copy[0], part[0]);
    TRY(munmap(copy, 10000));
    TRY(munmap(part, 2000));

    fd = open("mapped", O_WRONLY);
    MUST(fd);
    map("for writing only", 100, PROT_READ, MAP_PRIVATE, fd, 0);
    TRY(close(fd));
    map("closed", 100, PROT_READ, MAP_PRIVATE, fd, 0);
    fd = open(".", O_RDONLY);
    MUST(fd);
    map("folder", 100, PROT_READ, MAP_PRIVATE, fd, 0);
    TRY(close(fd));
    map("nothing", 0, both, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    map("neither", 100, both, MAP_ANONYMOUS, -1, 0);
    map("too much", (size_t)-4096, both, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return 0;
}
