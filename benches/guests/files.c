// Prints how long a listing of the directory MANY takes, or ROUNDS × stat, open, read and close of DATA:
// files list MANY, files open DATA ROUNDS. Times are seconds.
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static long list(const char *path) {
    DIR *directory = opendir(path);
    if (!directory)
        fail(path);
    long entries = 0;
    while (readdir(directory))
        entries++;
    closedir(directory);
    return entries;
}

static long use(const char *path, long rounds) {
    long bytes = 0;
    for (long round = 0; round < rounds; round++) {
        struct stat stat_;
        char buffer[100];
        int file = -1;
        if (stat(path, &stat_) || (file = open(path, O_RDONLY)) < 0)
            fail(path);
        bytes += read(file, buffer, sizeof buffer);
        close(file);
    }
    return bytes;
}

int main(int argc, char **argv) {
    if (argc < 3 || (strcmp(argv[1], "list") && argc < 4)) {
        fprintf(stderr, "usage: files list MANY | files open DATA ROUNDS\n");
        return 2;
    }
    double began = now();
    long count = strcmp(argv[1], "list") ? use(argv[2], atol(argv[3])) : list(argv[2]);
    printf("took %.6f for %ld\n", now() - began, count);
    return 0;
}
