// Adds to wasi-libc's <stdlib.h> temporary files.
#include_next <stdlib.h>

#ifndef _WASM_INTERP_STDLIB_H
#define _WASM_INTERP_STDLIB_H

#ifdef __cplusplus
extern "C" {
#endif

int mkstemp(char *);
char *mkdtemp(char *);
#if defined(_GNU_SOURCE) || defined(_BSD_SOURCE)
int mkostemp(char *, int);
int mkstemps(char *, int);
int mkostemps(char *, int, int);
#endif

#ifdef __cplusplus
}
#endif

#endif
