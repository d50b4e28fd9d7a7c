// gethostname and uname, with the name of the container's host. wasi-libc knows none.
#include "internal.h"

#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

int gethostname(char *name, size_t size) {
    size_t length;
    // The host writes all of the name or nothing.
    if (posix_result(__posix_v1_gethostname(name, size, &length))) return -1;
    if (length < size) {
        name[length] = 0;
        return 0;
    }
    errno = ENAMETOOLONG;
    return -1;
}

int uname(struct utsname *names) {
    // The rest is what wasi-libc says.
    *names = (struct utsname){
        .sysname = "wasi", .release = "0.0.0", .version = "0.0.0", .machine = "wasm32", .domainname = "(none)"};
    return gethostname(names->nodename, sizeof names->nodename);
}
