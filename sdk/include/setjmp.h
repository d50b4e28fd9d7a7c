// Adds to wasi-libc's <setjmp.h> what it declares and lacks: jumps that bring back the mask of signals.
#include_next <setjmp.h>

#ifndef _WASM_INTERP_SETJMP_H
#define _WASM_INTERP_SETJMP_H

#if defined(_POSIX_SOURCE) || defined(_POSIX_C_SOURCE) || defined(_XOPEN_SOURCE) || defined(_GNU_SOURCE) || defined(_BSD_SOURCE)

#ifdef __cplusplus
extern "C" {
#endif

struct __jmp_buf_tag *__wasm_interp_keep_mask(struct __jmp_buf_tag *, unsigned long *, unsigned long *, int);
struct __jmp_buf_tag *__wasm_interp_bring_mask(struct __jmp_buf_tag *, const unsigned long *, const unsigned long *);

// The compiler makes of setjmp what it is where it is called, so this cannot be a function.
#define sigsetjmp(buffer, saves) setjmp(__wasm_interp_kept((buffer), (saves)))
#define siglongjmp(buffer, value) longjmp(__wasm_interp_brought(buffer), (value))

static inline struct __jmp_buf_tag *__wasm_interp_kept(struct __jmp_buf_tag *__buffer, int __saves) {
    return __wasm_interp_keep_mask(__buffer, &__buffer->__fl, __buffer->__ss, __saves);
}

static inline struct __jmp_buf_tag *__wasm_interp_brought(struct __jmp_buf_tag *__buffer) {
    return __wasm_interp_bring_mask(__buffer, &__buffer->__fl, __buffer->__ss);
}

#ifdef __cplusplus
}
#endif

#endif

#endif
