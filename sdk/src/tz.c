// The time zone of the process: TZ, a zone file or a rule, and what localtime, mktime and strftime of wasi-libc ask
// of it. Takes the place of __tz.o of wasi-libc, which knows only UTC.
#include "tz.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const char __utc[] = "UTC";

long timezone;
int daylight;
char *tzname[2] = {(char *)__utc, (char *)__utc};

static const struct tz_type utc = {.name = __utc};

static struct tz_zone zone;
// The TZ that `zone` is for; NULL before the first use.
static char *current;
// What `current` is if TZ is not set.
static char unset[] = "";

// Loads the zone that a name stands for beneath a folder of zone files.
static _Bool load_beneath(const char *folder, const char *name) {
    char path[PATH_MAX];
    int len = snprintf(path, sizeof path, "%s/%s", folder, name);
    return len > 0 && (size_t)len < sizeof path && __tz_load(path, &zone);
}

static _Bool load_named(const char *name) {
    if (*name == '/') return __tz_load(name, &zone);
    const char *folder = getenv("TZDIR");
    return load_beneath(folder != NULL && *folder != 0 ? folder : "/usr/share/zoneinfo", name);
}

// As on Linux: without TZ, /etc/localtime; a zone file comes before a rule of the same text; what is neither is UTC.
static void load(const char *tz) {
    __tz_free(&zone);
    if (tz == NULL) {
        __tz_load("/etc/localtime", &zone);
        return;
    }
    if (*tz == ':') tz++;
    if (*tz == 0 || load_named(tz)) return;
    zone.has_rule = __tz_parse_rule(tz, &zone.rule);
}

static struct tz_local zone_at(int64_t time) {
    if (zone.types_len != 0) return __tz_at(&zone, time);
    if (zone.has_rule) return __tz_rule_at(&zone.rule, time);
    return (struct tz_local){&utc, 0};
}

// tzname, timezone and daylight: of the rule, or the last of each kind that the file has.
static void publish(void) {
    const struct tz_type *standard = NULL, *dst = NULL;
    if (zone.has_rule) {
        standard = &zone.rule.standard;
        dst = zone.rule.has_dst ? &zone.rule.dst : NULL;
    }
    for (size_t i = zone.transitions_len; i-- > 0 && (standard == NULL || dst == NULL);) {
        const struct tz_type *type = &zone.types[zone.transitions[i].type];
        if (type->dst && dst == NULL) dst = type;
        if (!type->dst && standard == NULL) standard = type;
    }
    if (standard == NULL) standard = zone.types_len != 0 ? &zone.types[0] : &utc;
    timezone = -standard->offset;
    daylight = dst != NULL;
    tzname[0] = (char *)standard->name;
    tzname[1] = (char *)(dst != NULL ? dst : standard)->name;
}

void tzset(void) {
    const char *tz = getenv("TZ");
    if (current != NULL && (tz == NULL ? current == unset : current != unset && strcmp(tz, current) == 0)) return;
    int before = errno;
    if (current != unset) free(current);
    current = tz == NULL ? unset : strdup(tz);
    load(tz);
    publish();
    errno = before;
}

// The time of day `time` of a local clock as a moment's kind of time. Where the clock is put forward, a time that it
// leaves out counts by the kind before; where it is put back, the first of the two is meant.
static struct tz_local zone_at_local(int64_t time) {
    struct tz_local before = zone_at(time - 86400), after = zone_at(time + 86400);
    const struct tz_local candidates[] = {before, after};
    for (size_t i = 0; i < 2; i++) {
        struct tz_local found = zone_at(time - candidates[i].type->offset);
        if (found.type->offset == candidates[i].type->offset) return found;
    }
    return before;
}

void __secs_to_zone(long long time, int local, int *isdst, int *offset, long *opposite, const char **name) {
    tzset();
    struct tz_local found = local ? zone_at_local(time) : zone_at(time);
    *isdst = found.type->dst;
    *offset = found.type->offset;
    if (opposite != NULL) *opposite = found.opposite;
    *name = found.type->name;
}

// A struct tm may be the program's own, with anything in it.
const char *__tm_to_tzname(const struct tm *tm) {
    const char *name = tm->__tm_zone;
    if (name == __utc || __tz_is_name(name)) return name;
    return "";
}
