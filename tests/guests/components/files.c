// Files and directories, as WASI 0.2 has them: files FOLDER. One line per fact, the same from a component and from a
// native program. What WASI 0.2 has no words for, such as modes, owners and locks, is not asked.
#include "say.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static void show(const char *path) {
    struct stat status;
    if (lstat(path, &status)) {
        SAY(path, "%s", error_name(errno));
        return;
    }
    const char *kind = S_ISDIR(status.st_mode) ? "folder" : S_ISLNK(status.st_mode) ? "link" : "file";
    if (S_ISREG(status.st_mode)) SAY(path, "%s of %lld bytes, %d links", kind, (long long)status.st_size, (int)status.st_nlink);
    else SAY(path, "%s", kind);
}

static void show_content(const char *path) {
    char bytes[256];
    int fd = open(path, O_RDONLY);
    ssize_t count = fd < 0 ? -1 : read(fd, bytes, sizeof bytes);
    if (count < 0) SAY(path, "%s", error_name(errno));
    else SAY(path, "\"%.*s\"", (int)count, bytes);
    if (fd >= 0) close(fd);
}

static int by_name(const struct dirent **one, const struct dirent **other) {
    return strcmp((*one)->d_name, (*other)->d_name);
}

static void list(const char *path) {
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, by_name);
    MUST(count);
    for (int at = 0; at < count; at++) {
        if (strcmp(entries[at]->d_name, ".") && strcmp(entries[at]->d_name, "..")) SAY(path, "has %s", entries[at]->d_name);
        free(entries[at]);
    }
    free(entries);
}

static void written_and_read(void) {
    int fd = open("file", O_CREAT | O_EXCL | O_RDWR, 0644);
    MUST(fd);
    CALL("write", write(fd, "some text\n", 10));
    CALL("pwrite", pwrite(fd, "S", 1, 0));
    CALL("lseek to the end", lseek(fd, 0, SEEK_END));
    CALL("write", write(fd, "and more\n", 9));
    CALL("lseek to 5", lseek(fd, 5, SEEK_SET));
    char bytes[32] = {0};
    CALL("read", read(fd, bytes, 4), "%.4s", bytes);
    CALL("pread", pread(fd, bytes, 8, 10), "%.8s", bytes);
    CALL("ftruncate", ftruncate(fd, 15));
    CALL("fsync", fsync(fd));
    MUST(close(fd));
    show("file");
    show_content("file");
    fd = open("file", O_WRONLY | O_APPEND);
    MUST(fd);
    CALL("append", write(fd, "!\n", 2));
    MUST(close(fd));
    show_content("file");
    TRY(open("file", O_CREAT | O_EXCL | O_WRONLY, 0644));
    TRY(open("file/inner", O_RDONLY));
    TRY(open("nothing", O_RDONLY));
    TRY(open(".", O_WRONLY));
    fd = open("file", O_RDONLY | O_TRUNC | O_WRONLY);
    MUST(fd = open("file", O_WRONLY | O_TRUNC));
    MUST(close(fd));
    show("file");
}

static void named(void) {
    TRY(mkdir("folder", 0755));
    TRY(mkdir("folder", 0755));
    TRY(mkdir("folder/inner", 0755));
    TRY(rename("file", "folder/moved"));
    show("file");
    show("folder/moved");
    TRY(link("folder/moved", "hard"));
    show("hard");
    TRY(symlink("folder/moved", "soft"));
    show("soft");
    char target[64];
    CALL("readlink", readlink("soft", target, sizeof target), "%.12s", target);
    int fd = open("soft", O_WRONLY);
    MUST(fd);
    CALL("write through the link", write(fd, "by link", 7));
    MUST(close(fd));
    show_content("hard");
    TRY(open("soft", O_RDONLY | O_NOFOLLOW));
    TRY(symlink("round", "round"));
    TRY(open("round", O_RDONLY));
    list(".");
    list("folder");
    TRY(rmdir("folder"));
    TRY(unlink("folder/inner"));
    TRY(rmdir("folder/moved"));
    for (const char *const *name = (const char *[]){"hard", "soft", "round", "folder/moved", NULL}; *name; name++) {
        if (unlink(*name)) SAY(*name, "%s", error_name(errno));
    }
    TRY(rmdir("folder/inner"));
    TRY(rmdir("folder"));
    list(".");
}

int main(int argc, char **argv) {
    if (argc != 2) {
        puts("say files FOLDER");
        return 2;
    }
    MUST(chdir(argv[1]));
    written_and_read();
    named();
    return 0;
}
