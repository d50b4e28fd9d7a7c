// Sets of signals.
#include "internal.h"

#include <signal.h>

static _Bool valid(int signal) {
    if (signal >= 1 && signal < _NSIG) return 1;
    errno = EINVAL;
    return 0;
}

static unsigned long bit(int signal) {
    return 1UL << (signal - 1) % 32;
}

int sigemptyset(sigset_t *set) {
    *set = (sigset_t){{0, 0}};
    return 0;
}

int sigfillset(sigset_t *set) {
    *set = (sigset_t){{~0UL, ~0UL}};
    return 0;
}

int sigaddset(sigset_t *set, int signal) {
    if (!valid(signal)) return -1;
    set->__bits[(signal - 1) / 32] |= bit(signal);
    return 0;
}

int sigdelset(sigset_t *set, int signal) {
    if (!valid(signal)) return -1;
    set->__bits[(signal - 1) / 32] &= ~bit(signal);
    return 0;
}

int sigismember(const sigset_t *set, int signal) {
    if (!valid(signal)) return -1;
    return (set->__bits[(signal - 1) / 32] & bit(signal)) != 0;
}

int sigisemptyset(const sigset_t *set) {
    return (set->__bits[0] | set->__bits[1]) == 0;
}

int sigorset(sigset_t *to, const sigset_t *left, const sigset_t *right) {
    for (int i = 0; i < 2; i++) to->__bits[i] = left->__bits[i] | right->__bits[i];
    return 0;
}

int sigandset(sigset_t *to, const sigset_t *left, const sigset_t *right) {
    for (int i = 0; i < 2; i++) to->__bits[i] = left->__bits[i] & right->__bits[i];
    return 0;
}
