// A component that attacks what runs it: hostile HOW.
//
//     files        opens files without an end           pollables    makes timers and drops none
//     sockets      makes sockets without an end         streams      opens streams of a file and drops none
//     outside      looks for files outside of the container's root: files of the host must not be there
//
// The first four end by themselves if they are refused: they say so, and end with 3.
#include "say.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wasi/wasip2.h>

static int refused(const char *what) {
    SAY(what, "%s", error_name(errno));
    return 3;
}

static int files(void) {
    while (open("/etc/hosts", O_RDONLY) >= 0) continue;
    return refused("open");
}

static int sockets(void) {
    while (socket(AF_INET, SOCK_STREAM, 0) >= 0) continue;
    return refused("socket");
}

static int pollables(void) {
    for (;;) monotonic_clock_subscribe_duration(3600000000000);
}

static int streams(void) {
    filesystem_preopens_list_tuple2_own_descriptor_string_t roots;
    filesystem_preopens_get_directories(&roots);
    filesystem_borrow_descriptor_t root = filesystem_borrow_descriptor(roots.ptr[0].f0);
    wasip2_string_t path;
    wasip2_string_set(&path, "etc/hosts");
    filesystem_own_descriptor_t file;
    filesystem_error_code_t error;
    if (!filesystem_method_descriptor_open_at(root, 0, &path, 0, FILESYSTEM_DESCRIPTOR_FLAGS_READ, &file, &error)) return 1;
    for (streams_own_input_stream_t stream;;) {
        if (!filesystem_method_descriptor_read_via_stream(filesystem_borrow_descriptor(file), 0, &stream, &error)) return 3;
    }
}

static int outside(const char *secret) {
    char path[4096];
    const char *const ways[] = {"", "/..", "/../../../../../../../..", "/proc/self/root", "/proc/1/root", "/dev/fd/3/.."};
    for (size_t at = 0; at < sizeof ways / sizeof *ways; at++) {
        snprintf(path, sizeof path, "%s%s", ways[at], secret);
        int fd = open(path, O_RDONLY);
        SAY(ways[at], "%s", fd < 0 ? error_name(errno) : "the host's file");
        if (fd >= 0) return 1;
    }
    return 0;
}

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "";
    puts("ready");
    fflush(stdout);
    if (strcmp(how, "files") == 0) return files();
    if (strcmp(how, "sockets") == 0) return sockets();
    if (strcmp(how, "pollables") == 0) return pollables();
    if (strcmp(how, "streams") == 0) return streams();
    if (strcmp(how, "outside") == 0 && argc > 2) return outside(argv[2]);
    puts("say hostile files|sockets|pollables|streams|outside");
    return 2;
}
