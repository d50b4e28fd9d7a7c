// Ids of the process.
#include "internal.h"

uid_t getuid(void) {
    uint32_t id;
    // None of these four can fail.
    posix_result(__posix_v1_getuid(&id));
    return id;
}

uid_t geteuid(void) {
    uint32_t id;
    posix_result(__posix_v1_geteuid(&id));
    return id;
}

gid_t getgid(void) {
    uint32_t id;
    posix_result(__posix_v1_getgid(&id));
    return id;
}

gid_t getegid(void) {
    uint32_t id;
    posix_result(__posix_v1_getegid(&id));
    return id;
}

int getgroups(int size, gid_t groups[]) {
    size_t count;
    if (size < 0) {
        errno = EINVAL;
        return -1;
    }
    return posix_result(__posix_v1_getgroups(groups, size, &count)) ? -1 : (int)count;
}
