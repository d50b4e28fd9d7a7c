// Ways to end, and what does not: ends HOW [NUMBER].
//
//     return NUMBER    from main          exit NUMBER    by exit(3)
//     abort            by abort(3)        stack          recursion without an end
//     memory           says how many MiB malloc gives before it refuses, and ends with 3
//     idle             says ready, and sleeps
//     spin             says ready, and asks standard input without ever waiting, until it ends
#include "say.h"

#include <unistd.h>

// Never: the compiler must not know.
static volatile int enough;

static int recurse(int value) {
    volatile char room[4096];
    room[0] = (char)value;
    return enough ? value : recurse(value + 1) + room[0];
}

// So that memory is taken although it is never read.
static char *volatile newest;

static int take_memory(void) {
    int taken = 0;
    for (; (newest = malloc(1 << 20)); taken++) memset(newest, 1, 1 << 20);
    SAY("refused", "%s after %s", error_name(errno), taken > 8 ? "more than 8 MiB" : "no more than 8 MiB");
    return 3;
}

// Never waits for input: the host has to find the time to fetch it.
static int spin(void) {
    puts("ready");
    fflush(stdout);
    char bytes[256];
    size_t total = 0;
    ssize_t count = 1;
    while (count > 0) {
        struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
        int ready = poll(&input, 1, 0);
        MUST(ready);
        if (ready == 0) continue;
        MUST(count = read(STDIN_FILENO, bytes, sizeof bytes));
        total += (size_t)count;
    }
    SAY("read", "%zu bytes", total);
    return 0;
}

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "";
    int number = argc > 2 ? atoi(argv[2]) : 0;
    if (strcmp(how, "return") == 0) return number;
    if (strcmp(how, "exit") == 0) exit(number);
    if (strcmp(how, "abort") == 0) abort();
    if (strcmp(how, "stack") == 0) return recurse(0);
    if (strcmp(how, "memory") == 0) return take_memory();
    if (strcmp(how, "spin") == 0) return spin();
    if (strcmp(how, "idle") == 0) {
        puts("ready");
        fflush(stdout);
        for (;;) sleep(3600);
    }
    puts("say ends return|exit|abort|stack|memory|idle|spin");
    return 2;
}
