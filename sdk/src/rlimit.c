// Limits of the process, which nothing here can change.
#include "internal.h"

#include <sys/resource.h>

// Where the linker has put the stack.
extern char __stack_low, __stack_high;

int getrlimit(int resource, struct rlimit *limit) {
    struct v1_rlimit rlimit;
    if (posix_result(__posix_v1_getrlimit(resource, &rlimit))) return -1;
    // The process has another stack than the program.
    if (resource == RLIMIT_STACK) rlimit.cur = rlimit.max = &__stack_high - &__stack_low;
    *limit = (struct rlimit){.rlim_cur = rlimit.cur, .rlim_max = rlimit.max};
    return 0;
}

int getdtablesize(void) {
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) ? -1 : (int)limit.rlim_cur;
}

long wasi_libc_sysconf(int) __asm__("sysconf");

long sysconf(int name) {
    return name == _SC_OPEN_MAX ? getdtablesize() : wasi_libc_sysconf(name);
}

// Sets what is set already; anything else is EPERM, where Linux would allow to lower a limit.
int setrlimit(int resource, const struct rlimit *limit) {
    struct rlimit now;
    if (getrlimit(resource, &now)) return -1;
    if (limit->rlim_cur > limit->rlim_max) {
        errno = EINVAL;
        return -1;
    }
    if (limit->rlim_cur == now.rlim_cur && limit->rlim_max == now.rlim_max) return 0;
    errno = EPERM;
    return -1;
}
