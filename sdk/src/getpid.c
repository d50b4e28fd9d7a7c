// In place of wasi-emulated-getpid.
#include "internal.h"

pid_t getpid(void) {
    uint32_t pid;
    // It cannot fail.
    posix_result(__posix_v1_getpid(&pid));
    return pid;
}

pid_t getppid(void) {
    uint32_t pid;
    // Nor can this.
    posix_result(__posix_v1_getppid(&pid));
    return pid;
}
