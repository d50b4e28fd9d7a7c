// The smallest program: as a module, as a component and natively. With the word idle among its arguments it stays.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    puts("hello");
    fflush(stdout);
    while (argc > 1 && strstr(argv[1], "idle")) sleep(3600);
    return 0;
}
