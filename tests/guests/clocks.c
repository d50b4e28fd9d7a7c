// CPU time: of a second of work, and of a second asleep. Says what is right, and ends with 1 if anything is not.
#include "say.h"

#include <sys/resource.h>
#include <sys/times.h>
#include <time.h>
#include <unistd.h>

static double cpu(clockid_t clock) {
    struct timespec time;
    MUST(clock_gettime(clock, &time));
    return time.tv_sec + time.tv_nsec / 1e9;
}

static double by_clock(void) {
    return (double)clock() / CLOCKS_PER_SEC;
}

static double by_times(void) {
    struct tms tms;
    times(&tms);
    return (double)(tms.tms_utime + tms.tms_stime) / sysconf(_SC_CLK_TCK);
}

static double by_rusage(void) {
    struct rusage usage;
    MUST(getrusage(RUSAGE_SELF, &usage));
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static double by_process(void) {
    return cpu(CLOCK_PROCESS_CPUTIME_ID);
}

static double by_thread(void) {
    return cpu(CLOCK_THREAD_CPUTIME_ID);
}

static const struct {
    const char *name;
    double (*read)(void);
} clocks[] = {{"clock", by_clock},
              {"times", by_times},
              {"getrusage", by_rusage},
              {"CLOCK_PROCESS_CPUTIME_ID", by_process},
              {"CLOCK_THREAD_CPUTIME_ID", by_thread}};
enum { CLOCKS = sizeof clocks / sizeof *clocks };

int main(void) {
    double begin[CLOCKS], worked[CLOCKS], slept[CLOCKS];
    for (int i = 0; i < CLOCKS; i++) begin[i] = clocks[i].read();
    // Until the process itself has worked for a second: on a busy machine that takes longer.
    volatile unsigned long counter = 0;
    struct timespec started, now;
    clock_gettime(CLOCK_MONOTONIC, &started);
    do {
        for (int i = 0; i < 1000000; i++) counter++;
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (by_process() - begin[3] < 1 && now.tv_sec - started.tv_sec < 150);
    for (int i = 0; i < CLOCKS; i++) worked[i] = clocks[i].read();
    sleep(1);
    for (int i = 0; i < CLOCKS; i++) slept[i] = clocks[i].read();
    int wrong = 0;
    for (int i = 0; i < CLOCKS; i++) {
        double busy = worked[i] - begin[i], asleep = slept[i] - worked[i];
        int right = busy > 0.8 && busy < 3 && asleep >= 0 && asleep < 0.3;
        if (right) SAY(clocks[i].name, "about 1 s of work, about 0 asleep");
        else SAY(clocks[i].name, "busy %.3f asleep %.3f", busy, asleep);
        wrong |= !right;
    }
    double wall = now.tv_sec - started.tv_sec + (now.tv_nsec - started.tv_nsec) / 1e9;
    SAY("no more than the time of day", "%d", worked[3] - begin[3] <= wall + 0.1);
    struct rusage usage;
    MUST(getrusage(RUSAGE_SELF, &usage));
    SAY("memory was used", "%d", usage.ru_maxrss > 0);
    TRY(getrusage(77, &usage));
    return wrong;
}
