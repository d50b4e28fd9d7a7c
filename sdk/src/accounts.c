#include "accounts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

char *__accounts_line(FILE *file, char **line, size_t *size) {
    errno = 0;
    ssize_t len = getline(line, size, file);
    if (len < 0) {
        if (feof(file)) errno = 0;
        return NULL;
    }
    if (len > 0 && (*line)[len - 1] == '\n') (*line)[len - 1] = 0;
    return *line;
}

_Bool __accounts_fields(char *line, char **fields, size_t count) {
    for (size_t i = 0; i < count; i++) {
        fields[i] = line;
        char *colon = strchr(line, ':');
        if ((colon == NULL) != (i + 1 == count)) return 0;
        if (colon != NULL) {
            *colon = 0;
            line = colon + 1;
        }
    }
    return 1;
}

_Bool __accounts_id(const char *text, uint32_t *id) {
    if (*text < '0' || *text > '9') return 0;
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (*end != 0 || value > UINT32_MAX) return 0;
    *id = value;
    return 1;
}
