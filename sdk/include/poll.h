// Gives wasi-libc's <poll.h> Linux's events.
#ifndef _WASM_INTERP_POLL_H
#define _WASM_INTERP_POLL_H

#include <__wasm_interp_musl.h>

#define __wasilibc_unmodified_upstream
#include_next <poll.h>
#undef __wasilibc_unmodified_upstream

#endif
