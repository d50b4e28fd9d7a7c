// Lets wasi-libc's <sys/mman.h> be included. mmap, munmap and msync are ours, for memory and copies of files.
#ifndef _WASM_INTERP_SYS_MMAN_H
#define _WASM_INTERP_SYS_MMAN_H

#ifndef _WASI_EMULATED_MMAN
#define _WASI_EMULATED_MMAN
#endif

#include_next <sys/mman.h>

#endif
