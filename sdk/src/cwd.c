// The working directory: getcwd, chdir, fchdir, and the meaning of every path.
//
// Preview 1 has no working directory, so it is a text here, always absolute and without symbolic links. A container
// starts in the directory that PWD names: entered before main, by the constructor below, which is linked into
// every program that uses a path. Takes the place of chdir.o and getcwd.o of wasi-libc.
#include "internal.h"

#include <dirent.h>
#include <stdlib.h>

NUMBERS_START_AT_3

static char root[] = "/";
char *__wasilibc_cwd = root;

_Bool __posix_at(struct at_path *at, int dirfd, const char *path) {
    at->fd = dirfd;
    at->path = path;
    at->len = strlen(path);
    if (*path == '/') {
        at->fd = V1_ROOT;
        while (*at->path == '/') at->path++;
        at->len -= at->path - path;
        if (at->len == 0) {
            at->path = ".";
            at->len = 1;
        }
        return 1;
    }
    // The host's number of the root directory is no descriptor of the program's.
    if (dirfd == V1_ROOT) {
        errno = EBADF;
        return 0;
    }
    if (dirfd != AT_FDCWD) return 1;
    at->fd = V1_ROOT;
    const char *cwd = __wasilibc_cwd + 1;
    // An empty path is no path, wherever it is relative to.
    if (*cwd == 0 || *path == 0) return 1;
    size_t cwd_len = strlen(cwd);
    if (cwd_len + 1 + at->len >= sizeof at->joined) {
        errno = ENAMETOOLONG;
        return 0;
    }
    memcpy(at->joined, cwd, cwd_len);
    at->joined[cwd_len] = '/';
    memcpy(at->joined + cwd_len + 1, path, at->len + 1);
    at->path = at->joined;
    at->len += cwd_len + 1;
    return 1;
}

int chdir(const char *path) {
    char *target = realpath(path, NULL);
    if (target == NULL) return -1;
    // To be looked up in, it has to be a directory, and one that may be searched.
    struct at_path at;
    struct v1_stat stat;
    int result = -1;
    if (!__posix_at(&at, AT_FDCWD, target)) goto done;
    char inside[PATH_MAX];
    if (at.len + 3 > sizeof inside) {
        errno = ENAMETOOLONG;
        goto done;
    }
    memcpy(inside, at.path, at.len);
    memcpy(inside + at.len, "/.", 3);
    result = posix_result(__posix_v1_fstatat(at.fd, V1_SYMLINK_FOLLOW, inside, at.len + 2, &stat));
    if (result == 0) {
        if (__wasilibc_cwd != root) free(__wasilibc_cwd);
        __wasilibc_cwd = target;
        return 0;
    }
done:
    free(target);
    return result;
}

// The entry of the directory PARENT that is CHILD, as "/name" in front of PATH, which begins at *START.
static _Bool prepend(int parent, const struct stat *child, char *path, size_t *start) {
    DIR *directory = fdopendir(parent);
    if (directory == NULL) {
        int error = errno;
        close(parent);
        errno = error;
        return 0;
    }
    _Bool found = 0;
    errno = 0;
    for (struct dirent *entry; !found && (entry = readdir(directory));) {
        struct stat stat;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        // Of what is mounted on an entry, the listing has another number.
        if (fstatat(parent, entry->d_name, &stat, AT_SYMLINK_NOFOLLOW)) continue;
        found = stat.st_dev == child->st_dev && stat.st_ino == child->st_ino;
        size_t length = strlen(entry->d_name);
        if (found && *start < length + 1) {
            errno = ENAMETOOLONG;
            found = 0;
            break;
        }
        if (found) {
            *start -= length;
            memcpy(path + *start, entry->d_name, length);
            path[--*start] = '/';
        } else {
            // An entry that has vanished is not the one.
            errno = 0;
        }
    }
    // It is in no directory any more.
    int error = errno ? errno : ENOENT;
    closedir(directory);
    if (!found) errno = error;
    return found;
}

// As the working directory is a text, the path of FD is found by going up, as the first getcwd of Unix did.
int fchdir(int fd) {
    struct stat child, parent;
    // AT_FDCWD is no descriptor here.
    if (fd < 0) {
        errno = EBADF;
        return -1;
    }
    if (fstatat(fd, ".", &child, 0)) return -1;
    char path[PATH_MAX];
    size_t start = sizeof path - 1;
    path[start] = 0;
    char up[PATH_MAX] = "..";
    for (size_t length = 2;; length += 3) {
        if (fstatat(fd, up, &parent, 0)) return -1;
        // The root directory is its own parent.
        if (parent.st_dev == child.st_dev && parent.st_ino == child.st_ino) break;
        int opened = openat(fd, up, O_RDONLY | O_DIRECTORY);
        if (opened == -1 || !prepend(opened, &child, path, &start)) return -1;
        if (length + 4 > sizeof up) {
            errno = ENAMETOOLONG;
            return -1;
        }
        memcpy(up + length, "/..", 4);
        child = parent;
    }
    return chdir(path[start] ? path + start : "/");
}

char *getcwd(char *buffer, size_t size) {
    size_t needed = strlen(__wasilibc_cwd) + 1;
    if (buffer == NULL) {
        // As on Linux, size 0 means: as much as it takes.
        if (size == 0) size = needed;
        if (size < needed) {
            errno = ERANGE;
            return NULL;
        }
        buffer = malloc(size);
        if (buffer == NULL) return NULL;
    } else if (size == 0) {
        errno = EINVAL;
        return NULL;
    } else if (size < needed) {
        errno = ERANGE;
        return NULL;
    }
    return memcpy(buffer, __wasilibc_cwd, needed);
}

// What wasi-libc's own functions call to learn what a path means.
int __wasilibc_find_relpath_alloc(const char *path, const char **prefix, char **relative, size_t *relative_size,
                                  int can_realloc) {
    struct at_path at;
    if (!__posix_at(&at, AT_FDCWD, path)) return -1;
    if (*relative_size < at.len + 1) {
        if (!can_realloc) {
            // Rust's standard library makes its room larger at this error, and at no other.
            errno = ENOMEM;
            return -1;
        }
        char *larger = realloc(*relative, at.len + 1);
        if (larger == NULL) return -1;
        *relative = larger;
        *relative_size = at.len + 1;
    }
    memcpy(*relative, at.path, at.len);
    (*relative)[at.len] = 0;
    *prefix = "";
    return at.fd;
}

__attribute__((constructor(101))) static void enter_pwd(void) {
    const char *pwd = getenv("PWD");
    if (pwd == NULL || *pwd != '/' || pwd[1] == 0) return;
    int before = errno;
    // As in any container, a directory that its user may not enter is no reason not to start.
    (void)chdir(pwd);
    errno = before;
}
