// Gives wasi-libc's <sys/socket.h> Linux's numbers and structures, and the functions that preview 1 lacks.
#ifndef _WASM_INTERP_SYS_SOCKET_H
#define _WASM_INTERP_SYS_SOCKET_H

#include <__wasm_interp_musl.h>
#include <wasi/version.h>

// What wasi-libc leaves out of musl's header.
#define __wasilibc_unmodified_upstream
#include_next <sys/socket.h>
#undef __wasilibc_unmodified_upstream

// musl has the numbers of 32-bit machines here; the host those of 64-bit ones.
#undef SO_RCVTIMEO
#undef SO_SNDTIMEO
#define SO_RCVTIMEO 20
#define SO_SNDTIMEO 21

#endif
