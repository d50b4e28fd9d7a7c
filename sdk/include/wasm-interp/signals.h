// For interpreters: the words in which the host announces signals, to be looked at between calls.
//
// The functions of libc run the handlers of signals when they are called and when they return. A program that computes
// for long without a call looks at the word itself, where it looks for other events:
//
//     if (wasm_interp_signal_is_pending()) wasm_interp_run_signal_handlers();
//
// That costs two loads and an increment. The words stay 0 until the program calls sigaction, signal or sigprocmask.
#ifndef _WASM_INTERP_SIGNALS_H
#define _WASM_INTERP_SIGNALS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct wasm_interp_signals {
    volatile uint32_t pending; // signal n is bit n - 1; the host sets it at any time
    volatile uint32_t mask;    // sigprocmask writes it
    volatile uint32_t looks;   // how often they were looked at
};
extern struct wasm_interp_signals __wasm_interp_signals;

static inline int wasm_interp_signal_is_pending(void) {
    // Modules know no volatile loads: behind a load of the same word with no store between, the node's compiler takes
    // the value that it has. This is a store, and never one of the value that is there.
    __wasm_interp_signals.looks = __wasm_interp_signals.looks + 1;
    return (__wasm_interp_signals.pending & ~__wasm_interp_signals.mask) != 0;
}

// Runs the handlers of all signals that are pending and not masked.
void wasm_interp_run_signal_handlers(void);

#ifdef __cplusplus
}
#endif

#endif
