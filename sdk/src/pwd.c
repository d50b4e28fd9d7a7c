// The users of /etc/passwd.
#include "accounts.h"

#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

// Makes a user of a line, whose text it points into. False if it is none.
static _Bool parse(char *line, struct passwd *user) {
    char *fields[7];
    uint32_t uid, gid;
    if (!__accounts_fields(line, fields, 7) || !__accounts_id(fields[2], &uid) || !__accounts_id(fields[3], &gid))
        return 0;
    *user = (struct passwd){
        .pw_name = fields[0],
        .pw_passwd = fields[1],
        .pw_uid = uid,
        .pw_gid = gid,
        .pw_gecos = fields[4],
        .pw_dir = fields[5],
        .pw_shell = fields[6],
    };
    return 1;
}

// The first user of that name, or with NULL of that id: 1 if there is one, 0 if not, -1 with errno.
static int find(const char *name, uid_t uid, struct passwd *user, char **line, size_t *size) {
    FILE *file = fopen("/etc/passwd", "re");
    // No file, no users.
    if (file == NULL) return errno == ENOENT || errno == ENOTDIR ? 0 : -1;
    int found = 0;
    while (!found && __accounts_line(file, line, size))
        found = parse(*line, user) && (name != NULL ? strcmp(user->pw_name, name) == 0 : user->pw_uid == uid);
    if (!found && errno != 0) found = -1;
    int error = errno;
    fclose(file);
    errno = error;
    return found;
}

static char *own_line;
static size_t own_size;
static struct passwd own_user;

struct passwd *getpwnam(const char *name) {
    return find(name, 0, &own_user, &own_line, &own_size) == 1 ? &own_user : NULL;
}

struct passwd *getpwuid(uid_t uid) {
    return find(NULL, uid, &own_user, &own_line, &own_size) == 1 ? &own_user : NULL;
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

static int find_r(const char *name, uid_t uid, struct passwd *user, char *buffer, size_t size,
                  struct passwd **result) {
    char *line = NULL;
    size_t line_size = 0;
    struct passwd found;
    *result = NULL;
    int error = 0;
    switch (find(name, uid, &found, &line, &line_size)) {
    case -1: error = errno; break;
    case 1:
        *user = found;
        if ((user->pw_name = move(found.pw_name, &buffer, &size)) &&
            (user->pw_passwd = move(found.pw_passwd, &buffer, &size)) &&
            (user->pw_gecos = move(found.pw_gecos, &buffer, &size)) &&
            (user->pw_dir = move(found.pw_dir, &buffer, &size)) &&
            (user->pw_shell = move(found.pw_shell, &buffer, &size)))
            *result = user;
        else
            error = ERANGE;
    }
    free(line);
    return error;
}

int getpwnam_r(const char *name, struct passwd *user, char *buffer, size_t size, struct passwd **result) {
    return find_r(name, 0, user, buffer, size, result);
}

int getpwuid_r(uid_t uid, struct passwd *user, char *buffer, size_t size, struct passwd **result) {
    return find_r(NULL, uid, user, buffer, size, result);
}

static FILE *listed;

void setpwent(void) {
    endpwent();
}

void endpwent(void) {
    if (listed != NULL) fclose(listed);
    listed = NULL;
}

struct passwd *getpwent(void) {
    if (listed == NULL) listed = fopen("/etc/passwd", "re");
    if (listed == NULL) return NULL;
    while (__accounts_line(listed, &own_line, &own_size))
        if (parse(own_line, &own_user)) return &own_user;
    return NULL;
}
