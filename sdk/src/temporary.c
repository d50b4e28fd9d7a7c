// Temporary files: mkstemp and its relatives, mkdtemp, tmpfile, tmpnam.
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>

#define ATTEMPTS 100

// Replaces the six X before the last SUFFIX_LEN bytes by random letters and digits. False, with errno, if they are
// not there.
static _Bool randomize(char *template, int suffix_len) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    size_t len = strlen(template);
    if (suffix_len < 0 || len < 6 + (size_t)suffix_len) {
        errno = EINVAL;
        return 0;
    }
    unsigned char random[6];
    if (getentropy(random, sizeof random)) return 0;
    for (int i = 0; i < 6; i++) template[len - suffix_len - 6 + i] = letters[random[i] % (sizeof letters - 1)];
    return 1;
}

static _Bool has_placeholder(const char *template, int suffix_len) {
    size_t len = strlen(template);
    if (suffix_len >= 0 && len >= 6 + (size_t)suffix_len && memcmp(template + len - suffix_len - 6, "XXXXXX", 6) == 0)
        return 1;
    errno = EINVAL;
    return 0;
}

int mkostemps(char *template, int suffix_len, int flags) {
    if (!has_placeholder(template, suffix_len)) return -1;
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        if (!randomize(template, suffix_len)) break;
        int fd = open(template, (flags & ~O_ACCMODE) | O_RDWR | O_CREAT | O_EXCL, 0600);
        if (fd >= 0) return fd;
        if (errno != EEXIST) break;
    }
    memcpy(template + strlen(template) - suffix_len - 6, "XXXXXX", 6);
    return -1;
}

int mkstemps(char *template, int suffix_len) {
    return mkostemps(template, suffix_len, 0);
}

int mkostemp(char *template, int flags) {
    return mkostemps(template, 0, flags);
}

int mkstemp(char *template) {
    return mkostemps(template, 0, 0);
}

char *mkdtemp(char *template) {
    if (!has_placeholder(template, 0)) return NULL;
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        if (!randomize(template, 0)) break;
        if (mkdir(template, 0700) == 0) return template;
        if (errno != EEXIST) break;
    }
    memcpy(template + strlen(template) - 6, "XXXXXX", 6);
    return NULL;
}

FILE *tmpfile(void) {
    char path[] = P_tmpdir "/tmpfile_XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0) return NULL;
    // The name is only needed to make it.
    if (unlink(path)) {
        close(fd);
        return NULL;
    }
    FILE *file = fdopen(fd, "w+");
    if (file == NULL) close(fd);
    return file;
}

char *tmpnam(char *buffer) {
    static char own[L_tmpnam];
    if (buffer == NULL) buffer = own;
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        struct stat stat;
        strcpy(buffer, P_tmpdir "/tmpnam_XXXXXX");
        if (!randomize(buffer, 0)) return NULL;
        if (lstat(buffer, &stat) && errno == ENOENT) return buffer;
    }
    return NULL;
}
