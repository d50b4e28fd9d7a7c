// Names of files: link, rename, unlink, listing. Preview 1 can say these, so they end in wasi-libc's own calls; they
// are here because posix.o and at_fdcwd.o of wasi-libc can only be replaced whole.
#include "internal.h"

#include <dirent.h>
#include <stdio.h>
#include <wasi/libc-nocwd.h>
#include <wasi/libc.h>

int __wasilibc_unlinkat(int dirfd, const char *path) {
    struct at_path at;
    return __posix_at(&at, dirfd, path) ? __wasilibc_nocwd___wasilibc_unlinkat(at.fd, at.path) : -1;
}

int __wasilibc_rmdirat(int dirfd, const char *path) {
    struct at_path at;
    return __posix_at(&at, dirfd, path) ? __wasilibc_nocwd___wasilibc_rmdirat(at.fd, at.path) : -1;
}

int unlink(const char *path) {
    return __wasilibc_unlinkat(AT_FDCWD, path);
}

int rmdir(const char *path) {
    return __wasilibc_rmdirat(AT_FDCWD, path);
}

int remove(const char *path) {
    if (unlink(path) == 0) return 0;
    return errno == EISDIR ? rmdir(path) : -1;
}

int renameat(int from_dirfd, const char *from, int to_dirfd, const char *to) {
    struct at_path old, new;
    if (!__posix_at(&old, from_dirfd, from) || !__posix_at(&new, to_dirfd, to)) return -1;
    return __wasilibc_nocwd_renameat(old.fd, old.path, new.fd, new.path);
}

int rename(const char *from, const char *to) {
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

int __wasilibc_rename_oldat(int from_dirfd, const char *from, const char *to) {
    return renameat(from_dirfd, from, AT_FDCWD, to);
}

int __wasilibc_rename_newat(const char *from, int to_dirfd, const char *to) {
    return renameat(AT_FDCWD, from, to_dirfd, to);
}

int linkat(int from_dirfd, const char *from, int to_dirfd, const char *to, int flags) {
    struct at_path old, new;
    if (!__posix_at(&old, from_dirfd, from) || !__posix_at(&new, to_dirfd, to)) return -1;
    return __wasilibc_nocwd_linkat(old.fd, old.path, new.fd, new.path, flags);
}

int link(const char *from, const char *to) {
    return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int __wasilibc_link(const char *from, const char *to, int flags) {
    return linkat(AT_FDCWD, from, AT_FDCWD, to, flags);
}

int __wasilibc_link_oldat(int from_dirfd, const char *from, const char *to, int flags) {
    return linkat(from_dirfd, from, AT_FDCWD, to, flags);
}

int __wasilibc_link_newat(const char *from, int to_dirfd, const char *to, int flags) {
    return linkat(AT_FDCWD, from, to_dirfd, to, flags);
}

int symlinkat(const char *target, int dirfd, const char *path) {
    struct at_path at;
    return __posix_at(&at, dirfd, path) ? __wasilibc_nocwd_symlinkat(target, at.fd, at.path) : -1;
}

int symlink(const char *target, const char *path) {
    return symlinkat(target, AT_FDCWD, path);
}

ssize_t readlinkat(int dirfd, const char *restrict path, char *restrict buffer, size_t size) {
    struct at_path at;
    return __posix_at(&at, dirfd, path) ? __wasilibc_nocwd_readlinkat(at.fd, at.path, buffer, size) : -1;
}

ssize_t readlink(const char *restrict path, char *restrict buffer, size_t size) {
    return readlinkat(AT_FDCWD, path, buffer, size);
}

DIR *opendirat(int dirfd, const char *path) {
    struct at_path at;
    return __posix_at(&at, dirfd, path) ? __wasilibc_nocwd_opendirat(at.fd, at.path) : NULL;
}

DIR *opendir(const char *path) {
    return opendirat(AT_FDCWD, path);
}

int scandirat(int dirfd, const char *path, struct dirent ***names, int (*filter)(const struct dirent *),
              int (*compare)(const struct dirent **, const struct dirent **)) {
    struct at_path at;
    return __posix_at(&at, dirfd, path) ? __wasilibc_nocwd_scandirat(at.fd, at.path, names, filter, compare) : -1;
}

int scandir(const char *restrict path, struct dirent ***restrict names, int (*filter)(const struct dirent *),
            int (*compare)(const struct dirent **, const struct dirent **)) {
    return scandirat(AT_FDCWD, path, names, filter, compare);
}
