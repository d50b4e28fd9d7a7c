// Modes, owners, times and the umask, in a folder that the first argument names. With a second argument: what becomes
// of set-id bits, which a guest may not set.
#include "say.h"

#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>

static void mode_of(const char *path) {
    struct stat stat;
    MUST(lstat(path, &stat));
    SAY(path, "mode %o uid %u gid %u nlink %u size %lld", (unsigned)stat.st_mode, (unsigned)stat.st_uid,
        (unsigned)stat.st_gid, (unsigned)stat.st_nlink, S_ISREG(stat.st_mode) ? (long long)stat.st_size : 0LL);
}

static void times_of(const char *path) {
    struct stat stat;
    MUST(lstat(path, &stat));
    SAY(path, "atime %lld.%09ld mtime %lld.%09ld", (long long)stat.st_atim.tv_sec, (long)stat.st_atim.tv_nsec,
        (long long)stat.st_mtim.tv_sec, (long)stat.st_mtim.tv_nsec);
}

static void modes(void) {
    SAY("umask", "%o", (unsigned)umask(0));
    SAY("umask", "%o", (unsigned)umask(0));
    MUST(close(open("all", O_CREAT | O_WRONLY | O_TRUNC, 0666)));
    MUST(close(open("executable", O_CREAT | O_WRONLY | O_EXCL, 0755)));
    MUST(mkdir("public", 01777));
    umask(027);
    MUST(close(open("masked", O_CREAT | O_RDWR, 0666)));
    MUST(mkdir("masked-folder", 0777));
    MUST(mkfifo("fifo", 0666));
    FILE *file = fopen("by-stdio", "w");
    fputs("twelve bytes", file);
    fclose(file);
    MUST(close(creat("by-creat", 0640)));
    char name[] = "temporary-XXXXXX", folder[] = "temporary-folder-XXXXXX";
    int fd = mkstemp(name);
    MUST(fd);
    struct stat stat;
    MUST(fstat(fd, &stat));
    SAY("mkstemp", "%o, name replaced: %d", (unsigned)stat.st_mode, strstr(name, "XXXXXX") == NULL);
    MUST(close(fd));
    MUST(unlink(name));
    SAY("mkdtemp", "%d", mkdtemp(folder) != NULL);
    MUST(lstat(folder, &stat));
    SAY("mkdtemp", "%o", (unsigned)stat.st_mode);
    MUST(rmdir(folder));
    MUST(symlink("all", "link"));
    MUST(link("all", "second"));
    for (const char **path = (const char *[]){"all", "executable", "public", "masked", "masked-folder", "fifo",
                                              "by-stdio", "by-creat", "link", NULL};
         *path; path++)
        mode_of(*path);
    // An existing file keeps its mode.
    MUST(close(open("executable", O_CREAT | O_WRONLY, 0600)));
    mode_of("executable");
    // O_RDONLY is 0 on other systems.
    MUST(close(open("by-zero", O_CREAT, 0444)));
    mode_of("by-zero");
}

// By AT_SYMLINK_NOFOLLOW: Linux keeps no mode of a link, and has that of anything else changed.
static void modes_of_names(void) {
    TRY(fchmodat(AT_FDCWD, "link", 0600, AT_SYMLINK_NOFOLLOW));
    TRY(lchmod("link", 0600));
    mode_of("link");
    mode_of("all");
    MUST(symlink("nowhere", "dangling"));
    TRY(fchmodat(AT_FDCWD, "dangling", 0600, AT_SYMLINK_NOFOLLOW));
    TRY(fchmodat(AT_FDCWD, "dangling", 0600, 0));
    TRY(fchmodat(AT_FDCWD, "all", 0664, AT_SYMLINK_NOFOLLOW));
    mode_of("all");
    TRY(lchmod("all", 0640));
    mode_of("all");
    // A mode without a right is changed all the same.
    TRY(fchmodat(AT_FDCWD, "masked", 0200, AT_SYMLINK_NOFOLLOW));
    mode_of("masked");
    TRY(fchmodat(AT_FDCWD, "masked", 0, AT_SYMLINK_NOFOLLOW));
    TRY(fchmodat(AT_FDCWD, "fifo", 0606, AT_SYMLINK_NOFOLLOW));
    mode_of("fifo");
    TRY(fchmodat(AT_FDCWD, "masked-folder", 0710, AT_SYMLINK_NOFOLLOW));
    mode_of("masked-folder");
    // A slash after a link is its target.
    MUST(symlink("masked-folder", "to-folder"));
    TRY(fchmodat(AT_FDCWD, "to-folder/", 0750, AT_SYMLINK_NOFOLLOW));
    mode_of("masked-folder");
    TRY(fchmodat(AT_FDCWD, "to-folder/missing", 0750, AT_SYMLINK_NOFOLLOW));
    int folder = open("masked-folder", O_RDONLY | O_DIRECTORY);
    MUST(folder);
    TRY(fchmodat(folder, "../all", 0604, AT_SYMLINK_NOFOLLOW));
    mode_of("all");
    MUST(close(folder));
    TRY(fchmodat(AT_FDCWD, "missing", 0600, AT_SYMLINK_NOFOLLOW));
    TRY(fchmodat(AT_FDCWD, "all/beneath", 0600, AT_SYMLINK_NOFOLLOW));
    TRY(fchmodat(AT_FDCWD, "", 0600, AT_SYMLINK_NOFOLLOW));
}

static void changes(void) {
    TRY(chmod("all", 0604));
    mode_of("all");
    int fd = open("executable", O_RDONLY);
    MUST(fd);
    TRY(fchmod(fd, 0500));
    MUST(close(fd));
    mode_of("executable");
    TRY(fchmodat(AT_FDCWD, "masked", 0, 0));
    mode_of("masked");
    TRY(chmod("link", 0620));
    mode_of("all");
    TRY(chmod("public", 01755));
    mode_of("public");
    TRY(chmod("missing", 0600));
    TRY(chmod("all/beneath", 0600));
    TRY(chmod("", 0600));
    TRY(fchmod(99, 0600));
    modes_of_names();
    TRY(chown("all", (uid_t)-1, (gid_t)-1));
    TRY(chown("all", getuid(), getgid()));
    TRY(lchown("link", getuid(), getgid()));
    TRY(chown("missing", 0, 0));
    TRY(fchownat(AT_FDCWD, "link", getuid(), (gid_t)-1, AT_SYMLINK_NOFOLLOW));
    fd = open("by-stdio", O_RDONLY);
    MUST(fd);
    TRY(fchown(fd, getuid(), getgid()));
    MUST(close(fd));
    // Allowed to root alone.
    TRY(chown("by-creat", 7, 8));
    mode_of("by-creat");
}

static void times(void) {
    struct timespec old[2] = {{.tv_sec = -86400, .tv_nsec = 250000000}, {.tv_sec = -1, .tv_nsec = 999999999}};
    TRY(utimensat(AT_FDCWD, "all", old, 0));
    times_of("all");
    struct timespec omit[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 5000000000, .tv_nsec = 1}};
    TRY(utimensat(AT_FDCWD, "all", omit, 0));
    times_of("all");
    struct timespec link_times[2] = {{.tv_sec = 1}, {.tv_sec = 2}};
    TRY(utimensat(AT_FDCWD, "link", link_times, AT_SYMLINK_NOFOLLOW));
    times_of("link");
    times_of("all");
    struct timespec wrong[2] = {{.tv_nsec = 1000000000}, {.tv_nsec = 0}};
    TRY(utimensat(AT_FDCWD, "all", wrong, 0));
    int fd = open("by-stdio", O_RDONLY);
    MUST(fd);
    TRY(futimens(fd, old));
    times_of("by-stdio");
    MUST(close(fd));
    struct timeval legacy[2] = {{.tv_sec = -3, .tv_usec = 500000}, {.tv_sec = 3}};
    TRY(utimes("by-stdio", legacy));
    times_of("by-stdio");
    TRY(lutimes("link", legacy));
    times_of("link");
    struct utimbuf whole = {.actime = -7, .modtime = 7};
    TRY(utime("by-stdio", &whole));
    times_of("by-stdio");
    TRY(utimensat(AT_FDCWD, "by-stdio", NULL, 0));
    struct stat stat;
    MUST(lstat("by-stdio", &stat));
    struct timespec now;
    MUST(clock_gettime(CLOCK_REALTIME, &now));
    SAY("by-stdio", "now: %d", llabs((long long)now.tv_sec - (long long)stat.st_mtim.tv_sec) < 60);
    TRY(utimensat(AT_FDCWD, "missing", NULL, 0));
}

static void access_and_space(void) {
    TRY(access("all", F_OK));
    TRY(access("all", R_OK | W_OK));
    TRY(access("executable", X_OK));
    TRY(access("masked-folder", R_OK | W_OK | X_OK));
    TRY(access("missing", F_OK));
    TRY(access("all/beneath", F_OK));
    TRY(access("all", 8));
    TRY(faccessat(AT_FDCWD, "link", R_OK, AT_SYMLINK_NOFOLLOW));
    TRY(eaccess("all", R_OK));
    struct statvfs system;
    MUST(statvfs(".", &system));
    SAY("statvfs", "frsize %lu bsize %lu namemax %lu blocks %llu", (unsigned long)system.f_frsize,
        (unsigned long)system.f_bsize, (unsigned long)system.f_namemax, (unsigned long long)system.f_blocks);
    // How many files there may be changes with the free space on some file systems.
    SAY("statvfs", "free of all: %d, of files: %d", system.f_bavail <= system.f_bfree && system.f_bfree <= system.f_blocks,
        system.f_ffree <= system.f_files);
    int fd = open("all", O_RDONLY);
    MUST(fd);
    struct statvfs open_system;
    MUST(fstatvfs(fd, &open_system));
    SAY("fstatvfs", "same: %d", open_system.f_blocks == system.f_blocks && open_system.f_fsid == system.f_fsid);
    MUST(close(fd));
    TRY(statvfs("missing", &system));
}

static void blocks(void) {
    int fd = open("sparse", O_CREAT | O_RDWR, 0600);
    MUST(fd);
    MUST(ftruncate(fd, 5LL << 30));
    struct stat stat;
    MUST(fstat(fd, &stat));
    SAY("sparse", "size %lld blocks %lld blksize %ld", (long long)stat.st_size, (long long)stat.st_blocks,
        (long)stat.st_blksize);
    MUST(close(fd));
    MUST(unlink("sparse"));
    MUST(lstat("/dev/null", &stat));
    SAY("/dev/null", "character device %d rdev %llx", S_ISCHR(stat.st_mode), (unsigned long long)stat.st_rdev);
    MUST(lstat("fifo", &stat));
    SAY("fifo", "S_ISFIFO %d S_ISSOCK %d", S_ISFIFO(stat.st_mode), S_ISSOCK(stat.st_mode));
}

static void set_id(void) {
    MUST(close(open("file", O_CREAT | O_WRONLY, 0755)));
    MUST(mkdir("folder", 04777));
    mode_of("folder");
    TRY(chmod("file", 04755));
    TRY(chmod("file", 02755));
    TRY(chmod("folder", 02755));
    int fd = open("file", O_RDONLY);
    MUST(fd);
    TRY(fchmod(fd, 06755));
    MUST(close(fd));
    TRY(open("new", O_CREAT | O_WRONLY, 04755));
    TRY(access("new", F_OK));
    TRY(mkfifo("new", 02644));
    TRY(access("new", F_OK));
    TRY(chmod("file", 01711));
    mode_of("file");
    // The container's streams are not the guest's alone.
    TRY(fchmod(1, 0666));
    TRY(fchown(1, getuid(), getgid()));
    TRY(futimens(1, NULL));
}

int main(int argc, char **argv) {
    MUST(argc >= 2 ? 0 : -1);
    MUST(chdir(argv[1]));
    if (argc == 3) {
        umask(022);
        set_id();
        return 0;
    }
    modes();
    changes();
    times();
    access_and_space();
    blocks();
    return 0;
}
