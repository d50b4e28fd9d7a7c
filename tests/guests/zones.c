// Time zones: for each TZ of the arguments, local times around its changes, and back by mktime.
#include "say.h"

#include <stdint.h>
#include <time.h>

static void show(time_t time) {
    struct tm tm;
    char text[100];
    if (localtime_r(&time, &tm) == NULL) {
        SAY("localtime_r", "%lld %s", (long long)time, strerror(errno));
        return;
    }
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S %Z %z", &tm);
    struct tm again = tm;
    SAY("local", "%lld = %s dst %d, mktime %lld", (long long)time, text, tm.tm_isdst, (long long)mktime(&again));
}

// What mktime makes of a time of day with each tm_isdst up to one.
static void from_local(int most_dst, int year, int month, int day, int hour, int minute) {
    for (int dst = -1; dst <= most_dst; dst++) {
        struct tm tm = {.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day, .tm_hour = hour,
                        .tm_min = minute, .tm_isdst = dst};
        time_t time = mktime(&tm);
        SAY("mktime", "%d-%d-%d %d:%d dst %d = %lld, %d:%d dst %d", year, month, day, hour, minute, dst,
            (long long)time, tm.tm_hour, tm.tm_min, tm.tm_isdst);
    }
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        // "-" stands for no TZ at all.
        if (strcmp(argv[i], "-") == 0) unsetenv("TZ");
        else setenv("TZ", argv[i], 1);
        tzset();
        SAY(argv[i], "tzname %s %s timezone %ld daylight %d", tzname[0], tzname[1], timezone, daylight);
        // glibc has no rules before 1970, only files.
        for (time_t time = strchr(argv[i], ',') ? 1 : -3000000000; time < 7000000000; time += 86400 * 97 + 3607) show(time);
        // Every hour of the days around this year's changes, in the north and in the south.
        for (time_t time = 1774400000; time < 1775400000; time += 3600) show(time);
        for (time_t time = 1792800000; time < 1793900000; time += 3600) show(time);
        for (time_t time = 2200000000; time < 2210000000; time += 86400) show(time);
        // Daylight saving means nothing where there is none.
        time_t january = 1768478400, july = 1784116800;
        int dst = localtime(&january)->tm_isdst + localtime(&july)->tm_isdst;
        from_local(dst, 2026, 1, 15, 12, 0);
        from_local(dst, 2026, 7, 15, 12, 0);
        from_local(0, 1969, 12, 31, 23, 59);
        from_local(0, 2040, 2, 30, 25, 61);
    }
    return 0;
}
