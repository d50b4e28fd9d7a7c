// Gives wasi-libc's <netinet/in.h> Linux's structures.
#ifndef _WASM_INTERP_NETINET_IN_H
#define _WASM_INTERP_NETINET_IN_H

#include <__wasm_interp_musl.h>
#include <inttypes.h>
#include <sys/socket.h>

#define __wasilibc_unmodified_upstream
#include_next <netinet/in.h>
#undef __wasilibc_unmodified_upstream

#endif
