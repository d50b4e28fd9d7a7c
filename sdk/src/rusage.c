// getrusage and times: CPU time and other resources, in place of wasi-emulated-process-clocks.
#include "internal.h"

#include <sys/resource.h>
#include <sys/times.h>
#include <time.h>

static struct timeval timeval_of(struct v1_timespec time) {
    return (struct timeval){.tv_sec = time.sec, .tv_usec = time.nsec / 1000};
}

// A long has 32 bits here.
static long clamped(uint64_t count) {
    return count > LONG_MAX ? LONG_MAX : (long)count;
}

int getrusage(int who, struct rusage *usage) {
    uint32_t whose;
    switch (who) {
    case RUSAGE_SELF: whose = V1_WHO_PROCESS; break;
    case RUSAGE_CHILDREN: whose = V1_WHO_CHILDREN; break;
    case RUSAGE_THREAD: whose = V1_WHO_THREAD; break;
    default: errno = EINVAL; return -1;
    }
    struct v1_rusage rusage;
    if (posix_result(__posix_v1_getrusage(whose, &rusage))) return -1;
    *usage = (struct rusage){
        .ru_utime = timeval_of(rusage.utime),
        .ru_stime = timeval_of(rusage.stime),
        .ru_maxrss = clamped(rusage.maxrss),
        .ru_minflt = clamped(rusage.minflt),
        .ru_majflt = clamped(rusage.majflt),
        .ru_inblock = clamped(rusage.inblock),
        .ru_oublock = clamped(rusage.oublock),
        .ru_nvcsw = clamped(rusage.nvcsw),
        .ru_nivcsw = clamped(rusage.nivcsw),
    };
    return 0;
}

static clock_t ticks(int64_t sec, uint32_t nsec) {
    long per_second = sysconf(_SC_CLK_TCK);
    return sec * per_second + nsec / (1000000000 / per_second);
}

clock_t times(struct tms *buffer) {
    struct v1_rusage self, children;
    struct timespec now;
    if (posix_result(__posix_v1_getrusage(V1_WHO_PROCESS, &self))) return (clock_t)-1;
    if (posix_result(__posix_v1_getrusage(V1_WHO_CHILDREN, &children))) return (clock_t)-1;
    if (clock_gettime(CLOCK_MONOTONIC, &now)) return (clock_t)-1;
    // NULL is allowed on Linux.
    if (buffer != NULL) {
        *buffer = (struct tms){
            .tms_utime = ticks(self.utime.sec, self.utime.nsec),
            .tms_stime = ticks(self.stime.sec, self.stime.nsec),
            .tms_cutime = ticks(children.utime.sec, children.utime.nsec),
            .tms_cstime = ticks(children.stime.sec, children.stime.nsec),
        };
    }
    return ticks(now.tv_sec, now.tv_nsec);
}
