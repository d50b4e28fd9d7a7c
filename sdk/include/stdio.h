// Adds to wasi-libc's <stdio.h> temporary files, which it declares as not to be had.
#ifndef _WASM_INTERP_STDIO_H
#define tmpfile __wasm_interp_no_tmpfile
#define tmpnam __wasm_interp_no_tmpnam
#include_next <stdio.h>
#undef tmpfile
#undef tmpnam
#define _WASM_INTERP_STDIO_H

#define L_tmpnam 20
#define TMP_MAX 10000
#define P_tmpdir "/tmp"

#ifdef __cplusplus
extern "C" {
#endif

FILE *tmpfile(void);
char *tmpnam(char *);

#ifdef __cplusplus
}
#endif

#else
// <stdio.h> may be asked for parts of itself.
#include_next <stdio.h>
#endif
