// The umask, which the kernel keeps and applies.
#include "internal.h"

mode_t umask(mode_t mask) {
    uint32_t before;
    // It cannot fail.
    posix_result(__posix_v1_umask(mask & 0777, &before));
    return before;
}
