// The mask of signals in the buffer of sigsetjmp. <setjmp.h> itself wants the compiler's options for exceptions, which
// only programs that jump are compiled with: so the fields of its buffer come by their addresses.
#include <wasm-interp/signals.h>

struct __jmp_buf_tag;

struct __jmp_buf_tag *__wasm_interp_keep_mask(struct __jmp_buf_tag *buffer, unsigned long *saves, unsigned long *mask, int wanted) {
    *saves = wanted != 0;
    *mask = __wasm_interp_signals.mask;
    return buffer;
}

struct __jmp_buf_tag *__wasm_interp_bring_mask(struct __jmp_buf_tag *buffer, const unsigned long *saves, const unsigned long *mask) {
    if (*saves) __wasm_interp_signals.mask = *mask;
    return buffer;
}
