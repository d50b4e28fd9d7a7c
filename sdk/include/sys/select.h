// Gives wasi-libc's <sys/select.h> sets that are bits, as elsewhere: adding to its own takes time in proportion to what
// is in them.
#ifndef _WASM_INTERP_SYS_SELECT_H
#define _WASM_INTERP_SYS_SELECT_H

#include <__wasm_interp_musl.h>

#define __wasilibc_unmodified_upstream
#include_next <sys/select.h>
#undef __wasilibc_unmodified_upstream

#endif
