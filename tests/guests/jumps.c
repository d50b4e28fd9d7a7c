// Jumps: longjmp again and again, out of handlers of signals too, with and without their mask.
#include "say.h"

#include <setjmp.h>
#include <signal.h>

static jmp_buf plain;
static sigjmp_buf with_mask;

__attribute__((noinline)) static void jump(int value) {
    longjmp(plain, value);
}

// Each exception takes memory that only a garbage collection gives back.
static void again_and_again(void) {
    volatile long jumps = 0;
    for (volatile int i = 0; i < 200000; i = i + 1) {
        int value = setjmp(plain);
        if (value == 0) jump(i % 7 + 1);
        else jumps += value;
    }
    SAY("the sum of all jumps", "%ld", jumps);
}

static const char *masked(int signal) {
    sigset_t mask;
    MUST(sigprocmask(SIG_BLOCK, NULL, &mask));
    return sigismember(&mask, signal) ? "masked" : "not masked";
}

static void leave(int signal) {
    siglongjmp(with_mask, signal);
}

static void out_of_handlers(void) {
    struct sigaction action = {.sa_handler = leave};
    MUST(sigaction(SIGUSR1, &action, NULL));
    for (volatile int saves = 1; saves >= 0; saves = saves - 1) {
        volatile int times = 0;
        int value = sigsetjmp(with_mask, saves);
        if (value == 0) raise(SIGUSR1);
        times = times + 1;
        SAY(saves ? "out of a handler, with the mask" : "without the mask", "%d, USR1 is %s", value == SIGUSR1, masked(SIGUSR1));
    }
}

static void past_a_change(void) {
    sigset_t term, none;
    sigemptyset(&none);
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    MUST(sigprocmask(SIG_SETMASK, &none, NULL));
    int value = sigsetjmp(with_mask, 1);
    if (value == 0) {
        MUST(sigprocmask(SIG_BLOCK, &term, NULL));
        SAY("before the jump", "TERM is %s", masked(SIGTERM));
        siglongjmp(with_mask, 0);
    }
    SAY("after the jump", "%d, TERM is %s", value, masked(SIGTERM));
}

int main(void) {
    again_and_again();
    out_of_handlers();
    past_a_change();
    return 0;
}
