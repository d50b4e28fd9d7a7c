// What the test suite of WASI asks of preview 1 (github.com/WebAssembly/wasi-testsuite, November 2026), as far as C has words
// for it: each function names the suite's tests whose questions it asks. In the folder of the first argument. The other words
// "one" and "two" are for `arguments`.
#include "say.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define ASK(question) (printf("-- %s\n", #question), question(), forget())
// For a call that returns an error's number.
#define ANSWER(call)                                                   \
    do {                                                               \
        int answer = (call);                                           \
        SAY(#call, "%s", answer ? error_name(answer) : "ok");          \
    } while (0)
#define NUMBER(call)                                                   \
    do {                                                               \
        errno = 0;                                                     \
        long long number = (call);                                     \
        if (number == -1) SAY(#call, "%s", error_name(errno));         \
        else SAY(#call, "%lld", number);                               \
    } while (0)

// Removes everything that a question has made.
static void forget(void) {
    DIR *directory = opendir(".");
    MUST(directory ? 0 : -1);
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        if (unlink(entry->d_name) && rmdir(entry->d_name)) {
            MUST(chdir(entry->d_name));
            forget();
            MUST(chdir(".."));
            MUST(rmdir(entry->d_name));
        }
    }
    closedir(directory);
}

// A new file of so many bytes, open for both.
static int file(const char *name, size_t size) {
    int fd = open(name, O_CREAT | O_TRUNC | O_RDWR, 0644);
    MUST(fd);
    for (size_t i = 0; i < size; i++) MUST(write(fd, "x", 1));
    return fd;
}

static void made(const char *name, size_t size) { MUST(close(file(name, size))); }

static int opened(const char *name, int flags) {
    int fd = open(name, flags);
    MUST(fd);
    return fd;
}

static const char *kind(mode_t mode) {
    return S_ISREG(mode) ? "file" : S_ISDIR(mode) ? "directory" : S_ISLNK(mode) ? "link" : "other";
}

static void size_of(const char *name) {
    struct stat stat;
    if (lstat(name, &stat)) SAY(name, "%s", error_name(errno));
    else if (S_ISDIR(stat.st_mode)) SAY(name, "directory");
    else SAY(name, "%s of %lld bytes, %u links", kind(stat.st_mode), (long long)stat.st_size, (unsigned)stat.st_nlink);
}

// big_random_buf, random_get
static void random_bytes(void) {
    static unsigned char bytes[1 << 16];
    for (size_t at = 0; at < sizeof bytes; at += 256) MUST(getentropy(bytes + at, 256));
    int quiet = 0;
    for (size_t at = 0; at < sizeof bytes; at += 64) {
        int any = 0;
        for (size_t i = 0; i < 64; i++) any |= bytes[at + i];
        quiet += !any;
    }
    SAY("parts without a random byte", "%d", quiet);
    TRY(getentropy(bytes, 0));
    TRY(getentropy(bytes, 257));
}

// clock_time_get, clock_getres, clock_gettime, monotonic_clock
static void clocks(void) {
    for (int monotonic = 0; monotonic < 2; monotonic++) {
        clockid_t clock = monotonic ? CLOCK_MONOTONIC : CLOCK_REALTIME;
        struct timespec first, second, resolution;
        MUST(clock_gettime(clock, &first));
        MUST(clock_gettime(clock, &second));
        MUST(clock_getres(clock, &resolution));
        // The machine may set the time of day back meanwhile.
        int later = !monotonic || second.tv_sec > first.tv_sec ||
                    (second.tv_sec == first.tv_sec && second.tv_nsec >= first.tv_nsec);
        SAY("clock", "%s, with a resolution: %d", later ? "goes on" : "goes back",
            resolution.tv_sec == 0 && resolution.tv_nsec > 0);
    }
}

// dangling_fd
static void removed_while_open(void) {
    int fd = file("file", 5);
    TRY(unlink("file"));
    TRY(open("file", O_RDONLY));
    struct stat stat;
    MUST(fstat(fd, &stat));
    SAY("removed", "%lld bytes, %u links", (long long)stat.st_size, (unsigned)stat.st_nlink);
    MUST(close(fd));
    MUST(mkdir("directory", 0755));
    int at = opened("directory", O_RDONLY | O_DIRECTORY);
    TRY(rmdir("directory"));
    TRY(openat(at, "new", O_CREAT | O_WRONLY, 0644));
    DIR *directory = fdopendir(at);
    MUST(directory ? 0 : -1);
    int entries = 0;
    while (readdir(directory)) entries++;
    SAY("entries of what is removed", "%d", entries);
    closedir(directory);
}

// dangling_symlink, nofollow_errors, symlink_create
static void links(void) {
    MUST(symlink("target", "link"));
    TRY(open("link", O_RDONLY));
    TRY(open("link", O_RDONLY | O_NOFOLLOW));
    TRY(open("link", O_RDONLY | O_NOFOLLOW | O_DIRECTORY));
    TRY(open("link", O_CREAT | O_EXCL | O_WRONLY, 0644));
    int fd = open("link", O_CREAT | O_WRONLY, 0644);
    MUST(fd);
    MUST(close(fd));
    size_of("target");
    TRY(symlink("other", "link"));
    TRY(symlink("", "empty"));
}

// symlink_loop
static void link_to_itself(void) {
    MUST(symlink("link", "link"));
    TRY(open("link", O_RDONLY));
    TRY(open("link/file", O_CREAT | O_WRONLY, 0644));
    TRY(unlink("link"));
}

// symlink_filestat, lstat
static void stat_of_links(void) {
    made("file", 7);
    MUST(symlink("file", "link"));
    struct stat of_link, of_file;
    MUST(lstat("link", &of_link));
    MUST(stat("link", &of_file));
    SAY("lstat", "%s, %lld", kind(of_link.st_mode), (long long)of_link.st_size);
    SAY("stat", "%s, %lld", kind(of_file.st_mode), (long long)of_file.st_size);
    SAY("are different files", "%d", of_link.st_ino != of_file.st_ino);
}

// dir_fd_op_failures
static void files_calls_on_directories(void) {
    char byte = 0;
    MUST(mkdir("directory", 0755));
    int fd = opened("directory", O_RDONLY | O_DIRECTORY);
    TRY(read(fd, &byte, 1));
    TRY(pread(fd, &byte, 1, 0));
    TRY(write(fd, &byte, 1));
    TRY(pwrite(fd, &byte, 1, 0));
    ANSWER(posix_fallocate(fd, 0, 1));
    TRY(ftruncate(fd, 0));
    TRY(fsync(fd));
    TRY(fdatasync(fd));
    TRY(open("directory", O_WRONLY));
    TRY(open("directory", O_RDWR));
    TRY(truncate("directory", 0));
    MUST(close(fd));
}

// directory_seek
static void seek_in_directory(void) {
    MUST(mkdir("directory", 0755));
    int fd = opened("directory", O_RDONLY | O_DIRECTORY);
    NUMBER(lseek(fd, 0, SEEK_SET));
    NUMBER(lseek(fd, 0, SEEK_CUR));
    MUST(close(fd));
}

// fd_advise, file_allocate, posix_fallocate
static void advise_and_allocate(void) {
    int fd = file("file", 10);
    ANSWER(posix_fadvise(fd, 0, 100, POSIX_FADV_NORMAL));
    ANSWER(posix_fadvise(fd, 0, 100, POSIX_FADV_SEQUENTIAL));
    ANSWER(posix_fadvise(fd, 0, 100, POSIX_FADV_RANDOM));
    ANSWER(posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED));
    ANSWER(posix_fadvise(fd, 0, 100, POSIX_FADV_DONTNEED));
    ANSWER(posix_fadvise(fd, 0, 100, POSIX_FADV_NOREUSE));
    ANSWER(posix_fadvise(fd, 0, 0, 99));
    ANSWER(posix_fallocate(fd, 0, 5));
    size_of("file");
    ANSWER(posix_fallocate(fd, 100, 100));
    size_of("file");
    ANSWER(posix_fallocate(fd, 0, 0));
    ANSWER(posix_fallocate(fd, -1, 10));
    ANSWER(posix_fallocate(1000, 0, 1));
    MUST(close(fd));
}

static void times_of(const char *name) {
    struct stat stat;
    MUST(lstat(name, &stat));
    // Following a link changes its access time.
    if (!S_ISLNK(stat.st_mode)) SAY("access", "%lld.%09ld", (long long)stat.st_atim.tv_sec, (long)stat.st_atim.tv_nsec);
    SAY(name, "%lld.%09ld", (long long)stat.st_mtim.tv_sec, (long)stat.st_mtim.tv_nsec);
}

// fd_filestat_set, fstflags_validate, path_filestat, futimens, utimensat
static void set_times(void) {
    int fd = file("file", 0);
    TRY(futimens(fd, (struct timespec[]){{5, 0}, {7, 1}}));
    times_of("file");
    TRY(futimens(fd, (struct timespec[]){{1, 0}, {0, UTIME_OMIT}}));
    times_of("file");
    TRY(futimens(fd, (struct timespec[]){{0, UTIME_OMIT}, {0, UTIME_OMIT}}));
    times_of("file");
    TRY(futimens(fd, (struct timespec[]){{1, 1000000000}, {1, 0}}));
    TRY(futimens(fd, (struct timespec[]){{1, -5}, {1, 0}}));
    MUST(symlink("file", "link"));
    TRY(utimensat(AT_FDCWD, "link", (struct timespec[]){{11, 0}, {11, 0}}, AT_SYMLINK_NOFOLLOW));
    TRY(utimensat(AT_FDCWD, "link", (struct timespec[]){{13, 0}, {13, 0}}, 0));
    times_of("link");
    times_of("file");
    TRY(utimensat(AT_FDCWD, "nothing", (struct timespec[]){{13, 0}, {13, 0}}, 0));
    MUST(close(fd));
}

static void flags_of(int fd) {
    int flags = fcntl(fd, F_GETFL);
    MUST(flags);
    int mode = flags & O_ACCMODE;
    SAY("flags", "%s%s%s", mode == O_RDONLY ? "read" : mode == O_WRONLY ? "write" : "both",
        flags & O_APPEND ? " append" : "", flags & O_NONBLOCK ? " nonblock" : "");
}

// fd_flags_set, path_open_nonblock, fcntl
static void flags_of_descriptors(void) {
    int fd = file("file", 4);
    flags_of(fd);
    TRY(fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK));
    flags_of(fd);
    NUMBER(lseek(fd, 0, SEEK_SET));
    NUMBER(write(fd, "four", 4));
    size_of("file");
    TRY(fcntl(fd, F_SETFL, 0));
    flags_of(fd);
    MUST(close(fd));
    for (const int *how = (const int[]){O_RDONLY, O_WRONLY | O_NONBLOCK, O_RDWR | O_APPEND, -1}; *how != -1; how++) {
        fd = opened("file", *how);
        flags_of(fd);
        MUST(close(fd));
    }
    TRY(fcntl(fd, F_GETFL));
    TRY(fcntl(1000, F_SETFL, 0));
}

static int compare(const void *one, const void *other) { return strcmp(one, other); }

// fd_readdir, fdopendir-with-access
static void list_directory(void) {
    MUST(mkdir("directory", 0755));
    char name[32], names[128][8];
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "directory/%03d", i);
        made(name, 0);
    }
    DIR *directory = opendir("directory");
    MUST(directory ? 0 : -1);
    for (int pass = 0; pass < 2; pass++) {
        int count = 0, differ = 0;
        for (struct dirent *entry; count < 128 && (entry = readdir(directory)); count++)
            snprintf(names[count], sizeof *names, "%.7s", entry->d_name);
        qsort(names, count, sizeof *names, compare);
        for (int i = 1; i < count; i++) differ += strcmp(names[i - 1], names[i]) != 0;
        SAY("entries", "%d, %d of them different from the one before, from %s to %s", count, differ, names[0],
            names[count - 1]);
        rewinddir(directory);
    }
    closedir(directory);
    errno = 0;
    SAY("opendir", "%s", opendir("directory/000") ? "ok" : error_name(errno));
    int fd = opened("directory/000", O_RDONLY);
    errno = 0;
    SAY("fdopendir", "%s", fdopendir(fd) ? "ok" : error_name(errno));
    MUST(close(fd));
}

// file_pread_pwrite, pread-with-access, pwrite-with-access
static void read_and_write_at(void) {
    char buffer[32] = "";
    int fd = file("file", 0);
    NUMBER(pwrite(fd, "threefour", 9, 10));
    NUMBER(lseek(fd, 0, SEEK_CUR));
    size_of("file");
    NUMBER(pread(fd, buffer, sizeof buffer, 10));
    SAY("read", "%.9s", buffer);
    NUMBER(pread(fd, buffer, sizeof buffer, 19));
    NUMBER(pread(fd, buffer, 10, 0));
    SAY("a hole reads as", "%d", buffer[0]);
    NUMBER(pread(fd, buffer, 1, -1));
    NUMBER(pwrite(fd, "x", 1, -1));
    struct iovec parts[] = {{buffer, 2}, {buffer + 2, 0}, {buffer + 4, 3}};
    NUMBER(preadv(fd, parts, 3, 10));
    SAY("read in parts", "%.2s %.3s", buffer, buffer + 4);
    NUMBER(pwritev(fd, parts, 3, 0));
    MUST(close(fd));
    fd = opened("file", O_RDONLY);
    NUMBER(pwrite(fd, "x", 1, 0));
    MUST(close(fd));
    fd = opened("file", O_WRONLY);
    NUMBER(pread(fd, buffer, 1, 0));
    MUST(close(fd));
}

// pwrite-with-append: Linux appends, as pwrite(2) says under BUGS.
static void write_at_with_append(void) {
    made("file", 4);
    int fd = opened("file", O_WRONLY | O_APPEND);
    NUMBER(pwrite(fd, "ab", 2, 0));
    NUMBER(write(fd, "c", 1));
    size_of("file");
    MUST(close(fd));
}

// file_seek_tell, lseek
static void seek_and_tell(void) {
    char byte;
    int fd = file("file", 100);
    NUMBER(lseek(fd, 0, SEEK_CUR));
    NUMBER(lseek(fd, -50, SEEK_CUR));
    NUMBER(lseek(fd, -100, SEEK_END));
    NUMBER(lseek(fd, 1000, SEEK_SET));
    NUMBER(read(fd, &byte, 1));
    NUMBER(lseek(fd, -2000, SEEK_CUR));
    NUMBER(lseek(fd, -1, SEEK_SET));
    NUMBER(lseek(fd, 0, SEEK_CUR));
    NUMBER(lseek(fd, 0, 99));
    NUMBER(lseek(1000, 0, SEEK_SET));
    MUST(close(fd));
}

// file_truncation, truncation_rights, ftruncate
static void cut(void) {
    int fd = file("file", 10);
    TRY(ftruncate(fd, 4));
    size_of("file");
    TRY(ftruncate(fd, 1000));
    size_of("file");
    TRY(ftruncate(fd, -1));
    MUST(close(fd));
    fd = opened("file", O_RDONLY);
    TRY(ftruncate(fd, 0));
    MUST(close(fd));
    TRY(truncate("file", 7));
    TRY(truncate("nothing", 7));
    size_of("file");
    MUST(close(opened("file", O_WRONLY | O_TRUNC)));
    size_of("file");
}

// file_unbuffered_write, fopen-with-access
static void write_then_read(void) {
    char text[16];
    FILE *writer = fopen("file", "w"), *reader = fopen("file", "r");
    MUST(writer && reader ? 0 : -1);
    SAY("fputs", "%d", fputs("text\n", writer) >= 0 && fflush(writer) == 0);
    SAY("fgets", "%s", fgets(text, sizeof text, reader) ? text : "nothing");
    errno = 0;
    SAY("a reader writes", "%d", fputc('x', reader));
    fclose(reader);
    SAY("append", "%d", fclose(writer) == 0 && (writer = fopen("file", "a")) && fputs("more", writer) >= 0);
    SAY("ftell", "%ld", ftell(writer));
    fclose(writer);
    size_of("file");
    errno = 0;
    SAY("fopen", "%s", fopen("nothing", "r") ? "ok" : error_name(errno));
    SAY("fopen", "%s", fopen("file", "wx") ? "ok" : error_name(errno));
}

// isatty, stdio
static void streams(void) {
    struct stat stat;
    for (int fd = 0; fd < 3; fd++) SAY("a stream is open", "%d", fstat(fd, &stat) == 0);
    int fd = file("file", 0);
    errno = 0;
    int is = isatty(fd);
    SAY("isatty", "%d %s", is, error_name(errno));
    errno = 0;
    is = isatty(1000);
    SAY("isatty", "%d %s", is, error_name(errno));
    MUST(close(fd));
    TRY(close(fd));
}

// path_exists, stat-dev-ino
static void stat_of_paths(void) {
    int fd = file("file", 3);
    MUST(mkdir("directory", 0755));
    struct stat by_path, by_descriptor, of_directory;
    MUST(stat("file", &by_path));
    MUST(fstat(fd, &by_descriptor));
    MUST(stat("directory", &of_directory));
    SAY("same file", "%d", by_path.st_dev == by_descriptor.st_dev && by_path.st_ino == by_descriptor.st_ino);
    SAY("on the same file system", "%d", by_path.st_dev == of_directory.st_dev);
    SAY("another file", "%d", by_path.st_ino != of_directory.st_ino);
    TRY(stat("nothing", &by_path));
    TRY(stat("file/nothing", &by_path));
    TRY(stat("file/", &by_path));
    TRY(fstat(1000, &by_path));
    MUST(close(fd));
}

// path_link
static void hard_links(void) {
    made("file", 3);
    MUST(symlink("file", "link"));
    MUST(mkdir("directory", 0755));
    TRY(link("file", "directory/same"));
    size_of("directory/same");
    TRY(link("file", "directory/same"));
    TRY(link("nothing", "new"));
    TRY(link("directory", "new"));
    TRY(link("file", "new/"));
    TRY(link("file/", "new"));
    TRY(linkat(AT_FDCWD, "link", AT_FDCWD, "link-too", 0));
    size_of("link-too");
    TRY(linkat(AT_FDCWD, "link", AT_FDCWD, "file-too", AT_SYMLINK_FOLLOW));
    size_of("file-too");
}

// path_open_create_existing, path_open_missing, path_open_dirfd_not_dir
static void create_and_missing(void) {
    TRY(open("file", O_RDONLY));
    int fd = file("file", 1);
    TRY(open("file", O_CREAT | O_EXCL | O_WRONLY, 0644));
    TRY(open("", O_RDONLY));
    TRY(open("nowhere/file", O_CREAT | O_WRONLY, 0644));
    TRY(openat(fd, "file", O_RDONLY));
    TRY(openat(1000, "file", O_RDONLY));
    MUST(close(fd));
}

// path_open_preopen, interesting_paths: above the root directory is the root directory.
static void open_root(void) {
    struct stat root, other;
    MUST(stat("/", &root));
    for (const char **path = (const char *[]){"/", "/.", "/..", "//", "/tmp/..", "/../../..", "../../../../../..", NULL};
         *path; path++) {
        MUST(stat(*path, &other));
        SAY(*path, "%d", other.st_ino == root.st_ino && other.st_dev == root.st_dev);
    }
    TRY(open("/", O_WRONLY));
    TRY(open(".", O_RDWR));
    TRY(unlink("/"));
    TRY(mkdir("/", 0755));
}

// path_open_read_write
static void access_modes(void) {
    char byte = 0;
    made("file", 8);
    for (const int *how = (const int[]){O_RDONLY, O_WRONLY, O_RDWR, -1}; *how != -1; how++) {
        int fd = opened("file", *how);
        NUMBER(read(fd, &byte, 1));
        NUMBER(write(fd, &byte, 1));
        MUST(close(fd));
    }
}

// path_rename
static void renames(void) {
    made("file", 3);
    made("other", 5);
    MUST(mkdir("directory", 0755));
    MUST(mkdir("empty", 0755));
    made("directory/file", 0);
    TRY(rename("file", "other"));
    size_of("file");
    size_of("other");
    TRY(rename("other", "directory"));
    TRY(rename("directory", "other"));
    TRY(rename("empty", "directory"));
    TRY(rename("directory", "directory/inside"));
    TRY(rename("directory", "empty"));
    size_of("empty/file");
    TRY(rename("nothing", "new"));
    TRY(rename("other", "other"));
}

// path_rename_dir_trailing_slashes, path_rename_file_trailing_slashes, path_symlink_trailing_slashes,
// remove_directory_trailing_slashes, unlink_file_trailing_slashes
static void trailing_slashes(void) {
    made("file", 0);
    MUST(mkdir("directory", 0755));
    TRY(rename("file/", "new"));
    TRY(rename("file", "new/"));
    TRY(rename("directory/", "moved/"));
    TRY(rename("moved", "directory/"));
    TRY(unlink("file/"));
    TRY(unlink("directory/"));
    TRY(unlink("directory"));
    TRY(rmdir("file/"));
    TRY(rmdir("file"));
    TRY(symlink("target", "new/"));
    TRY(symlink("target", "file/"));
    TRY(symlink("target", "directory/"));
    TRY(open("file/", O_RDONLY));
    TRY(open("new/", O_CREAT | O_WRONLY, 0644));
    TRY(mkdir("made/", 0755));
    TRY(rmdir("directory/"));
    TRY(rmdir("made/."));
}

// readlink
static void read_link(void) {
    char target[100];
    MUST(symlink("target", "link"));
    made("file", 0);
    NUMBER(readlink("link", target, sizeof target));
    NUMBER(readlink("link", target, 4));
    NUMBER(readlink("file", target, sizeof target));
    NUMBER(readlink("nothing", target, sizeof target));
}

// remove_nonempty_directory
static void remove_full_directory(void) {
    MUST(mkdir("directory", 0755));
    MUST(mkdir("directory/inside", 0755));
    TRY(rmdir("directory"));
    TRY(rmdir("directory/inside"));
    TRY(mkdir("directory", 0755));
    TRY(rmdir("directory"));
    TRY(rmdir("directory"));
}

// interesting_paths, symlink_create, path_symlink: where the suite demands that a path stays beneath its descriptor,
// Linux follows it.
static void paths_above_the_start(void) {
    made("file", 3);
    MUST(mkdir("directory", 0755));
    MUST(mkdir("directory/nested", 0755));
    char absolute[256];
    MUST(getcwd(absolute, sizeof absolute - 8) ? 0 : -1);
    strcat(absolute, "/file");
    MUST(symlink(absolute, "directory/absolute"));
    int nested = opened("directory/nested", O_RDONLY | O_DIRECTORY);
    struct stat stat;
    TRY(fstatat(nested, "../../file", &stat, 0));
    TRY(fstatat(nested, "..//.././directory/nested/.", &stat, 0));
    TRY(fstatat(nested, "../absolute", &stat, 0));
    SAY("through an absolute link", "%lld", (long long)stat.st_size);
    TRY(fstatat(nested, absolute, &stat, 0));
    TRY(fstatat(nested, "", &stat, 0));
    TRY(fstatat(nested, "../nested/../../file/..", &stat, 0));
    MUST(close(nested));
}

// args_get, args_sizes_get, environ_get, environ_sizes_get
static int argument_count;
static char **argument_words;
static void arguments(void) {
    for (int i = 2; i < argument_count; i++) SAY("argument", "%s", argument_words[i]);
    SAY("ends with", "%s", argument_words[argument_count] ? "more" : "NULL");
    SAY("NOTHING", "%s", getenv("NOTHING") ? "set" : "not set");
    SAY("ASKED", "%s", getenv("ASKED") ? getenv("ASKED") : "not set");
}

int main(int argc, char **argv) {
    argument_count = argc;
    argument_words = argv;
    MUST(argc > 1 ? 0 : -1);
    MUST(chdir(argv[1]));
    MUST(mkdir("questions", 0755));
    MUST(chdir("questions"));
    umask(022);
    ASK(random_bytes);
    ASK(clocks);
    ASK(removed_while_open);
    ASK(links);
    ASK(link_to_itself);
    ASK(stat_of_links);
    ASK(files_calls_on_directories);
    ASK(seek_in_directory);
    ASK(advise_and_allocate);
    ASK(set_times);
    ASK(flags_of_descriptors);
    ASK(list_directory);
    ASK(read_and_write_at);
    ASK(write_at_with_append);
    ASK(seek_and_tell);
    ASK(cut);
    ASK(write_then_read);
    ASK(streams);
    ASK(stat_of_paths);
    ASK(hard_links);
    ASK(create_and_missing);
    ASK(open_root);
    ASK(access_modes);
    ASK(renames);
    ASK(trailing_slashes);
    ASK(read_link);
    ASK(remove_full_directory);
    ASK(paths_above_the_start);
    ASK(arguments);
    SAY("sched_yield", "%d", sched_yield());
    MUST(chdir(".."));
    TRY(rmdir("questions"));
    return 0;
}
