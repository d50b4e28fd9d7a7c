// Prints what the container gives this program: who it is, where it is, which modes its files get, what time it is.
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what) {
    fprintf(stderr, "posix: cannot %s: %s\n", what, strerror(errno));
    exit(1);
}

int main(void) {
    char cwd[4096];
    struct passwd *user = getpwuid(getuid());
    if (getcwd(cwd, sizeof cwd) == NULL) fail("read the working directory");
    printf("user %u (%s), group %u, process %d, in %s\n", getuid(), user ? user->pw_name : "no name", getgid(),
           getpid(), cwd);

    mode_t mask = umask(0);
    umask(mask);
    char name[] = "/tmp/posix-XXXXXX";
    int fd = mkstemp(name);
    struct stat stat;
    if (fd < 0 || fstat(fd, &stat)) fail("make a temporary file");
    printf("umask %03o, a temporary file has mode %03o and belongs to %u:%u\n", mask, stat.st_mode & 07777,
           stat.st_uid, stat.st_gid);

    struct timespec moon[2] = {{.tv_sec = -14182940}, {.tv_sec = -14182940}};
    if (chmod(name, 0644) || futimens(fd, moon) || fstat(fd, &stat)) fail("change the file");
    char text[100];
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S %Z", localtime(&stat.st_mtim.tv_sec));
    printf("now it has mode %03o, and was changed at %s\n", stat.st_mode & 07777, text);

    struct statvfs space;
    if (flock(fd, LOCK_EX | LOCK_NB) || fstatvfs(fd, &space)) fail("lock the file");
    printf("it is locked, on a file system with names of up to %lu bytes\n", space.f_namemax);
    if (unlink(name)) fail("remove the file");

    time_t now = time(NULL);
    strftime(text, sizeof text, "%H:%M:%S %Z (UTC%z)", localtime(&now));
    printf("it is %s, after %ld ms of CPU time\n", text, (long)(clock() / (CLOCKS_PER_SEC / 1000)));
    return 0;
}
