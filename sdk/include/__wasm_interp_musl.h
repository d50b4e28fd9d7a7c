// To be included before __wasilibc_unmodified_upstream is defined, which shows what wasi-libc's headers have of musl and
// hide: the structures that wasi-libc has in files of its own are then not defined a second time.
#ifndef _WASM_INTERP_MUSL_H
#define _WASM_INTERP_MUSL_H

#include <features.h>

#include <__struct_iovec.h>
#include <__struct_timespec.h>
#include <__struct_timeval.h>
#define __DEFINED_struct_iovec
#define __DEFINED_struct_timespec
#define __DEFINED_struct_timeval

#endif
