// Gives wasi-libc's <sys/un.h> the whole struct sockaddr_un.
#ifndef _WASM_INTERP_SYS_UN_H
#define _WASM_INTERP_SYS_UN_H

#include <__wasm_interp_musl.h>
#include <string.h>

#define __wasilibc_unmodified_upstream
#include_next <sys/un.h>
#undef __wasilibc_unmodified_upstream

#endif
