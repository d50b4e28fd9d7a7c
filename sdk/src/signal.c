// Handlers, masks and waiting: <signal.h> in place of wasi-emulated-signal, whose signals come from the program alone.
//
// The host sets bits in a word; the handlers run here, when a function of libc is called or returns. See
// docs/internals/decisions, "Signals reach a guest as bits in its memory".
#include "clocks.h"
#include "internal.h"

#include <signal.h>
#include <time.h>

// Signals from 1 to 31. The others exist in sets alone.
#define SIGNALS 32

static struct sigaction actions[SIGNALS];
static unsigned handled; // how many handlers have run
static _Bool registered;

static _Bool run_handlers(void);

// Registers the words, once. False, with errno, if the host has no signals.
static _Bool ready(void) {
    if (registered) return 1;
    if (posix_result(__posix_v1_signal_register(&__wasm_interp_signals.pending, &__wasm_interp_signals.mask))) return 0;
    registered = 1;
    __posix_run_handlers = run_handlers;
    return 1;
}

static uint32_t bit(int signal) {
    return (uint32_t)1 << (signal - 1);
}

static _Bool valid(int signal) {
    if (signal >= 1 && signal < SIGNALS) return 1;
    errno = EINVAL;
    return 0;
}

// What can be masked of a set.
static uint32_t maskable(const sigset_t *set) {
    return (uint32_t)set->__bits[0] & ~(bit(SIGKILL) | bit(SIGSTOP));
}

// Addresses of these say what is done about a signal: on Wasm a small number may be the address of a function.
void __SIG_IGN(int signal) {
    (void)signal;
}

_Noreturn void __SIG_ERR(int signal) {
    (void)signal;
    __builtin_trap();
}

// Calls a handler with its signals masked.
static void handle(int signal, const struct sigaction *action) {
    uint32_t before = __wasm_interp_signals.mask;
    uint32_t own = action->sa_flags & SA_NODEFER ? 0 : bit(signal);
    __wasm_interp_signals.mask = before | maskable(&action->sa_mask) | own;
    int error = errno;
    if (action->sa_flags & SA_SIGINFO) {
        siginfo_t info = {.si_signo = signal, .si_code = SI_USER};
        action->sa_sigaction(signal, &info, NULL);
    } else {
        action->sa_handler(signal);
    }
    errno = error;
    __wasm_interp_signals.mask = before;
    handled++;
}

// The default action of a signal that was masked when it came.
static void act_by_default(int signal) {
    // Returns only where that is to ignore it.
    (void)__posix_v1_raise(signal);
}

static _Bool run_handlers(void) {
    _Bool restart = 1;
    uint32_t ready;
    while ((ready = __wasm_interp_signals.pending & ~__wasm_interp_signals.mask)) {
        int signal = __builtin_ctz(ready) + 1;
        uint32_t taken;
        // It cannot fail.
        if (__posix_v1_signal_take(bit(signal), &taken) || !taken) continue;
        struct sigaction action = actions[signal];
        if (action.sa_handler == SIG_IGN) continue;
        if (action.sa_handler == SIG_DFL) {
            act_by_default(signal);
            continue;
        }
        if (action.sa_flags & SA_RESETHAND) {
            actions[signal].sa_handler = SIG_DFL;
            (void)__posix_v1_signal_action(signal, V1_SIGNAL_DEFAULT);
        }
        if (!(action.sa_flags & SA_RESTART)) restart = 0;
        handle(signal, &action);
    }
    return restart;
}

void wasm_interp_run_signal_handlers(void) {
    if (wasm_interp_signal_is_pending()) run_handlers();
}

int sigaction(int signal, const struct sigaction *restrict new, struct sigaction *restrict old) {
    if (!valid(signal)) return -1;
    if (new && (signal == SIGKILL || signal == SIGSTOP)) {
        errno = EINVAL;
        return -1;
    }
    struct sigaction before = actions[signal];
    if (new) {
        if (!ready()) return -1;
        uint32_t disposition = new->sa_handler == SIG_DFL   ? V1_SIGNAL_DEFAULT
                               : new->sa_handler == SIG_IGN ? V1_SIGNAL_IGNORE
                                                            : V1_SIGNAL_CATCH;
        actions[signal] = *new;
        if (posix_result(__posix_v1_signal_action(signal, disposition))) {
            actions[signal] = before;
            return -1;
        }
        uint32_t taken;
        // To ignore a signal drops one that is pending.
        if (disposition == V1_SIGNAL_IGNORE) (void)__posix_v1_signal_take(bit(signal), &taken);
    }
    if (old) *old = before;
    return 0;
}

static void (*set_handler(int signal, void (*handler)(int), int flags))(int) {
    struct sigaction new = {.sa_handler = handler, .sa_flags = flags}, old;
    return sigaction(signal, &new, &old) ? SIG_ERR : old.sa_handler;
}

void (*signal(int signal, void (*handler)(int)))(int) {
    return set_handler(signal, handler, SA_RESTART);
}

void (*bsd_signal(int signal, void (*handler)(int)))(int) {
    return set_handler(signal, handler, SA_RESTART);
}

void (*__sysv_signal(int signal, void (*handler)(int)))(int) {
    return set_handler(signal, handler, SA_RESETHAND | SA_NODEFER);
}

int siginterrupt(int signal, int interrupts) {
    struct sigaction action;
    if (sigaction(signal, NULL, &action)) return -1;
    if (interrupts) action.sa_flags &= ~SA_RESTART;
    else action.sa_flags |= SA_RESTART;
    return sigaction(signal, &action, NULL);
}

int raise(int signal) {
    if (!valid(signal) || !ready()) return -1;
    if (posix_result(__posix_v1_raise(signal))) return -1;
    wasm_interp_run_signal_handlers();
    return 0;
}

// There are no other processes that a guest can reach.
int kill(pid_t pid, int signal) {
    if (signal != 0 && !valid(signal)) return -1;
    if (pid != 0 && pid != getpid()) {
        errno = ESRCH;
        return -1;
    }
    return signal == 0 ? 0 : raise(signal);
}

int sigprocmask(int how, const sigset_t *restrict set, sigset_t *restrict old) {
    uint32_t before = __wasm_interp_signals.mask, mask;
    if (set) {
        switch (how) {
        case SIG_BLOCK: mask = before | maskable(set); break;
        case SIG_UNBLOCK: mask = before & ~maskable(set); break;
        case SIG_SETMASK: mask = maskable(set); break;
        default: errno = EINVAL; return -1;
        }
        if (!ready()) return -1;
        __wasm_interp_signals.mask = mask;
        wasm_interp_run_signal_handlers();
    }
    if (old) *old = (sigset_t){{before, 0}};
    return 0;
}

int pthread_sigmask(int how, const sigset_t *restrict set, sigset_t *restrict old) {
    int error = errno;
    int result = sigprocmask(how, set, old) ? errno : 0;
    errno = error;
    return result;
}

int sigpending(sigset_t *set) {
    *set = (sigset_t){{__wasm_interp_signals.pending & __wasm_interp_signals.mask, 0}};
    return 0;
}

// Waits until a handler has run.
static int wait_for_handler(void) {
    unsigned before = handled;
    for (;;) {
        wasm_interp_run_signal_handlers();
        if (handled != before) {
            errno = EINTR;
            return -1;
        }
        uint16_t error = __posix_v1_sigsuspend();
        if (error != EINTR) return posix_result(error);
    }
}

int sigsuspend(const sigset_t *set) {
    if (!ready()) return -1;
    uint32_t before = __wasm_interp_signals.mask;
    __wasm_interp_signals.mask = maskable(set);
    int result = wait_for_handler();
    __wasm_interp_signals.mask = before;
    wasm_interp_run_signal_handlers();
    return result;
}

int pause(void) {
    if (!ready()) return -1;
    return wait_for_handler();
}

int sigtimedwait(const sigset_t *restrict set, siginfo_t *restrict info, const struct timespec *restrict timeout) {
    if (!ready()) return -1;
    int64_t nanoseconds = -1;
    // A time-out that nothing outlives is for ever.
    if (timeout && !posix_nanoseconds(timeout, &nanoseconds)) {
        errno = EINVAL;
        return -1;
    }
    uint8_t signal;
    if (posix_result(INTERRUPTIBLE(__posix_v1_sigtimedwait(maskable(set), nanoseconds, &signal)))) return -1;
    if (info) *info = (siginfo_t){.si_signo = signal, .si_code = SI_USER};
    return signal;
}

int sigwaitinfo(const sigset_t *restrict set, siginfo_t *restrict info) {
    return sigtimedwait(set, info, NULL);
}

int sigwait(const sigset_t *restrict set, int *restrict signal) {
    int error = errno, result;
    do result = sigwaitinfo(set, NULL);
    while (result < 0 && errno == EINTR);
    int failure = result < 0 ? errno : 0;
    errno = error;
    if (!failure) *signal = result;
    return failure;
}
