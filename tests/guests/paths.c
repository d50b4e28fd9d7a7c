// Paths and the working directory: PWD, chdir, getcwd, realpath, links and `..`, in the folder of the first argument.
#include "say.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

static void here(void) {
    char buffer[PATH_MAX];
    SAY("getcwd", "%s", getcwd(buffer, sizeof buffer) ? buffer : error_name(errno));
}

static void is_there(const char *path) {
    struct stat stat;
    errno = 0;
    SAY(path, "%s", lstat(path, &stat) ? error_name(errno) : "there");
}

int main(int argc, char **argv) {
    // The container's working directory, before anything was called.
    here();
    is_there("here-first");
    MUST(argc == 2 ? 0 : -1);
    MUST(chdir(argv[1]));
    MUST(mkdir("a", 0755));
    MUST(mkdir("a/b", 0755));
    MUST(mkdir("closed", 0755));
    MUST(symlink("a/b", "link"));
    MUST(symlink("/", "root"));
    MUST(close(open("a/file", O_CREAT | O_WRONLY, 0644)));

    TRY(chdir("a/b"));
    here();
    is_there("../file");
    is_there("../../link");
    TRY(chdir(".."));
    here();
    TRY(chdir("../link"));
    here();
    is_there("../file");
    TRY(chdir("file"));
    TRY(chdir("missing"));
    TRY(chdir(""));
    here();
    TRY(chdir("../file"));
    is_there("");
    is_there(".");
    is_there("../file/");
    is_there("../file/.");
    is_there("../../root/etc/../dev/null");
    is_there("../../../../../../../../dev/null");
    TRY(chdir("/"));
    here();
    is_there("dev/null");
    is_there("//dev///null");
    TRY(chdir(argv[1]));
    TRY(chmod("closed", 0));
    if (geteuid() != 0) TRY(chdir("closed"));

    char small[2];
    errno = 0;
    SAY("getcwd", "%s", getcwd(small, sizeof small) ? "fits" : error_name(errno));
    errno = 0;
    SAY("getcwd", "%s", getcwd(small, 0) ? "fits" : error_name(errno));
    char *allocated = getcwd(NULL, 0);
    SAY("getcwd", "%s", allocated);
    free(allocated);
    char resolved[PATH_MAX];
    SAY("realpath", "%s", realpath("link/../file", resolved) ? resolved : error_name(errno));

    int dirfd = open("a", O_RDONLY | O_DIRECTORY);
    MUST(dirfd);
    int inner = open("a/b", O_RDONLY | O_DIRECTORY), file = open("a/file", O_RDONLY);
    MUST(inner);
    MUST(file);
    TRY(fchdir(inner));
    here();
    is_there("../file");
    MUST(rename("../../a", "../../elsewhere"));
    TRY(fchdir(dirfd));
    here();
    MUST(rename("../elsewhere", "../a"));
    TRY(fchdir(file));
    TRY(fchdir(1000));
    TRY(fchdir(AT_FDCWD));
    int dev = open("/dev", O_RDONLY | O_DIRECTORY), slash = open("/", O_RDONLY | O_DIRECTORY);
    TRY(fchdir(slash));
    here();
    if (dev != -1) {
        TRY(fchdir(dev));
        here();
        MUST(close(dev));
    }
    MUST(chdir(argv[1]));
    MUST(close(slash));
    MUST(close(inner));
    MUST(close(file));
    struct stat stat;
    TRY(fstatat(dirfd, "file", &stat, 0));
    TRY(fstatat(dirfd, "../link", &stat, AT_SYMLINK_NOFOLLOW));
    SAY("link", "%o", (unsigned)stat.st_mode);
    TRY(mkdirat(dirfd, "made", 0700));
    TRY(renameat(dirfd, "made", AT_FDCWD, "moved"));
    TRY(linkat(dirfd, "file", AT_FDCWD, "a/b/second", 0));
    TRY(symlinkat("file", dirfd, "symbolic"));
    TRY(unlinkat(dirfd, "symbolic", 0));
    TRY(unlinkat(AT_FDCWD, "moved", AT_REMOVEDIR));
    TRY(openat(dirfd, "file", O_RDONLY | O_DIRECTORY));
    TRY(open("link", O_RDONLY | O_NOFOLLOW));
    MUST(close(dirfd));
    TRY(remove("a/b/second"));
    TRY(remove("a"));
    TRY(remove("a/b"));
    TRY(rename("a/file", "missing/file"));

    DIR *directory = opendir("a");
    int entries = 0, known = 0;
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        entries++;
        known += entry->d_type != DT_UNKNOWN && entry->d_ino != 0;
    }
    SAY("readdir", "%d entries, %d with type and inode", entries, known);
    closedir(directory);

    char longest[PATH_MAX + 2];
    memset(longest, 'x', PATH_MAX);
    longest[PATH_MAX] = 0;
    TRY(lstat(longest, &stat));
    return 0;
}
