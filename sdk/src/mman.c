// Mappings: of zeros, and of files as private copies. In place of wasi-emulated-mman.
//
// POSIX leaves open whether a private mapping shows what is written to the file later, so a copy is one. Memory of
// this machine has no protection: what may not be written is not kept from being written.
#include "internal.h"

#include <stdlib.h>
#include <sys/mman.h>

// What programs may take for a page's size: Linux's smallest. sysconf says the machine's, which is a multiple of it.
enum { PAGE = 4096 };

struct mapping {
    struct mapping *next;
    char *start;
    size_t length;
};
static struct mapping *mappings;

// In whole pages; 0 if there is no such length.
static size_t rounded(size_t length) {
    return length > SIZE_MAX - PAGE + 1 ? 0 : (length + PAGE - 1) / PAGE * PAGE;
}

// The rest of the last page of a file, and what is beyond its end, stays zero.
static int copy(int fd, char *to, size_t length, off_t from) {
    int flags = fcntl(fd, F_GETFL);
    if (flags == -1) return -1;
    if ((flags & O_ACCMODE) == O_WRONLY) {
        errno = EACCES;
        return -1;
    }
    while (length > 0) {
        ssize_t count = pread(fd, to, length, from);
        if (count == -1 && errno == EINTR) continue;
        if (count == -1) {
            if (errno == ESPIPE || errno == EISDIR) errno = ENODEV;
            return -1;
        }
        if (count == 0) break;
        to += count;
        from += count;
        length -= (size_t)count;
    }
    return 0;
}

void *mmap(void *hint, size_t length, int prot, int flags, int fd, off_t offset) {
    (void)hint;
    int kind = flags & MAP_TYPE;
    _Bool anonymous = flags & MAP_ANONYMOUS;
    if (length == 0 || offset < 0 || offset % PAGE != 0 || (kind != MAP_PRIVATE && kind != MAP_SHARED)) {
        errno = EINVAL;
        return MAP_FAILED;
    }
    // No other process could share memory with this one.
    if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) || prot & PROT_EXEC || (kind == MAP_SHARED && !anonymous)) {
        errno = ENOTSUP;
        return MAP_FAILED;
    }
    size_t whole = rounded(length);
    struct mapping *mapping = malloc(sizeof *mapping);
    char *start = whole && mapping ? aligned_alloc(PAGE, whole) : NULL;
    if (start == NULL) {
        free(mapping);
        errno = ENOMEM;
        return MAP_FAILED;
    }
    memset(start, 0, whole);
    if (!anonymous && copy(fd, start, length, offset)) {
        int error = errno;
        free(start);
        free(mapping);
        errno = error;
        return MAP_FAILED;
    }
    *mapping = (struct mapping){.next = mappings, .start = start, .length = whole};
    mappings = mapping;
    return start;
}

// The link to the first mapping that has memory in common with the range; to NULL if there is none.
static struct mapping **find(const char *start, size_t length) {
    struct mapping **link = &mappings;
    while (*link && (start >= (*link)->start + (*link)->length || (*link)->start >= start + length))
        link = &(*link)->next;
    return link;
}

// A mapping goes as a whole.
int munmap(void *start, size_t length) {
    size_t whole = rounded(length);
    if (whole == 0 || (uintptr_t)start % PAGE != 0) {
        errno = EINVAL;
        return -1;
    }
    struct mapping **link = find(start, whole);
    struct mapping *mapping = *link;
    if (mapping == NULL) return 0;
    if (mapping->start != start || mapping->length != whole) {
        errno = ENOTSUP;
        return -1;
    }
    *link = mapping->next;
    free(mapping->start);
    free(mapping);
    return 0;
}

// No mapping has changes that a file should get.
int msync(void *start, size_t length, int flags) {
    _Bool both = (flags & MS_ASYNC) && (flags & MS_SYNC);
    if (flags & ~(MS_ASYNC | MS_SYNC | MS_INVALIDATE) || both || (uintptr_t)start % PAGE != 0) {
        errno = EINVAL;
        return -1;
    }
    if (length > 0 && *find(start, length) == NULL) {
        errno = ENOMEM;
        return -1;
    }
    return 0;
}
