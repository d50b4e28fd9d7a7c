// Adds to wasi-libc's <sys/stat.h> what preview 1 lacks: the umask and FIFOs.
#include_next <sys/stat.h>

#ifndef _WASM_INTERP_SYS_STAT_H
#define _WASM_INTERP_SYS_STAT_H

#ifdef __cplusplus
extern "C" {
#endif

mode_t umask(mode_t);
int mkfifo(const char *, mode_t);
int mkfifoat(int, const char *, mode_t);
#if defined(_GNU_SOURCE) || defined(_BSD_SOURCE)
int lchmod(const char *, mode_t);
#endif

#ifdef __cplusplus
}
#endif

#endif
