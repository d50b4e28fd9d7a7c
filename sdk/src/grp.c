// The groups of /etc/group.
#define _GNU_SOURCE
#include "accounts.h"

#include <errno.h>
#include <grp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// A group, and what it points into.
struct entry {
    struct group group;
    char *line;
    size_t size;
    char **members;
};

// Makes a group of the entry's line: 1, 0 if it is none, -1 with errno.
static int parse(struct entry *entry) {
    char *fields[4];
    uint32_t gid;
    if (!__accounts_fields(entry->line, fields, 4) || !__accounts_id(fields[2], &gid)) return 0;
    size_t count = 1;
    for (const char *at = fields[3]; *at; at++) count += *at == ',';
    char **members = realloc(entry->members, (count + 1) * sizeof *members);
    if (members == NULL) return -1;
    entry->members = members;
    for (char *at = fields[3]; *at;) {
        *members++ = at;
        at = strchrnul(at, ',');
        if (*at) *at++ = 0;
    }
    *members = NULL;
    entry->group = (struct group){.gr_name = fields[0], .gr_passwd = fields[1], .gr_gid = gid, .gr_mem = entry->members};
    return 1;
}

// The first group of that name, or with NULL of that id: 1 if there is one, 0 if not, -1 with errno.
static int find(const char *name, gid_t gid, struct entry *entry) {
    FILE *file = fopen("/etc/group", "re");
    // No file, no groups.
    if (file == NULL) return errno == ENOENT || errno == ENOTDIR ? 0 : -1;
    int found = 0;
    while (found == 0 && __accounts_line(file, &entry->line, &entry->size)) {
        found = parse(entry);
        if (found == 1 && (name != NULL ? strcmp(entry->group.gr_name, name) != 0 : entry->group.gr_gid != gid))
            found = 0;
    }
    if (found == 0 && errno != 0) found = -1;
    int error = errno;
    fclose(file);
    errno = error;
    return found;
}

static struct entry own;

struct group *getgrnam(const char *name) {
    return find(name, 0, &own) == 1 ? &own.group : NULL;
}

struct group *getgrgid(gid_t gid) {
    return find(NULL, gid, &own) == 1 ? &own.group : NULL;
}

// Moves a text into the caller's buffer. NULL if it does not fit.
static char *move(const char *text, char **buffer, size_t *size) {
    size_t len = strlen(text) + 1;
    if (len > *size) return NULL;
    char *moved = memcpy(*buffer, text, len);
    *buffer += len;
    *size -= len;
    return moved;
}

// Copies a group into the caller's buffer. False if it does not fit.
static _Bool copy(const struct group *from, struct group *to, char *buffer, size_t size) {
    size_t padding = -(uintptr_t)buffer % _Alignof(char *), count = 0;
    while (from->gr_mem[count]) count++;
    size_t list = padding + (count + 1) * sizeof(char *);
    if (list > size) return 0;
    to->gr_gid = from->gr_gid;
    to->gr_mem = (char **)(buffer + padding);
    buffer += list;
    size -= list;
    for (size_t i = 0; i < count; i++)
        if (!(to->gr_mem[i] = move(from->gr_mem[i], &buffer, &size))) return 0;
    to->gr_mem[count] = NULL;
    return (to->gr_name = move(from->gr_name, &buffer, &size)) &&
           (to->gr_passwd = move(from->gr_passwd, &buffer, &size));
}

static int find_r(const char *name, gid_t gid, struct group *group, char *buffer, size_t size, struct group **result) {
    struct entry entry = {0};
    *result = NULL;
    int error = 0;
    switch (find(name, gid, &entry)) {
    case -1: error = errno; break;
    case 1:
        if (copy(&entry.group, group, buffer, size)) *result = group;
        else error = ERANGE;
    }
    free(entry.line);
    free(entry.members);
    return error;
}

int getgrnam_r(const char *name, struct group *group, char *buffer, size_t size, struct group **result) {
    return find_r(name, 0, group, buffer, size, result);
}

int getgrgid_r(gid_t gid, struct group *group, char *buffer, size_t size, struct group **result) {
    return find_r(NULL, gid, group, buffer, size, result);
}

static FILE *listed;

void setgrent(void) {
    endgrent();
}

void endgrent(void) {
    if (listed != NULL) fclose(listed);
    listed = NULL;
}

struct group *getgrent(void) {
    if (listed == NULL) listed = fopen("/etc/group", "re");
    if (listed == NULL) return NULL;
    while (__accounts_line(listed, &own.line, &own.size))
        if (parse(&own) == 1) return &own.group;
    return NULL;
}
