// Reading /etc/passwd and /etc/group: what pwd.c and grp.c share.
#ifndef WASM_INTERP_ACCOUNTS_H
#define WASM_INTERP_ACCOUNTS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

// The next line of FILE without its line feed, in a buffer as for getline; NULL at the end, with errno 0, or with an
// error.
char *__accounts_line(FILE *file, char **line, size_t *size);

// Cuts LINE at its colons into COUNT fields. False if it has another number of them.
_Bool __accounts_fields(char *line, char **fields, size_t count);

// Reads a decimal id. False if the text is none.
_Bool __accounts_id(const char *text, uint32_t *id);

#endif
