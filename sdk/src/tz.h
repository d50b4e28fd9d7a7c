// Time zones: what the files about them share. A zone is a rule (a POSIX TZ string), or the transitions of a zone
// file followed by one.
#ifndef WASM_INTERP_TZ_H
#define WASM_INTERP_TZ_H

#include <stddef.h>
#include <stdint.h>

// One kind of local time, for example CEST.
struct tz_type {
    // Seconds east of UTC.
    int32_t offset;
    _Bool dst;
    const char *name;
};

// A day of a year and a time of that day, at which a kind of time begins.
struct tz_date {
    enum { TZ_JULIAN, TZ_DAY, TZ_MONTH } kind;
    int month;
    int week;
    int day;
    int32_t time;
};

// A POSIX TZ string.
struct tz_rule {
    struct tz_type standard;
    // Only if has_dst.
    struct tz_type dst;
    struct tz_date begin;
    struct tz_date end;
    _Bool has_dst;
};

struct tz_transition {
    int64_t at;
    uint8_t type;
};

struct tz_zone {
    struct tz_transition *transitions;
    size_t transitions_len;
    struct tz_type *types;
    size_t types_len;
    _Bool has_rule;
    struct tz_rule rule;
};

// The kind of time at a moment, and the offset of the other kind (standard or daylight saving) next to it.
struct tz_local {
    const struct tz_type *type;
    int32_t opposite;
};

// A copy of NAME that is never freed; equal names share one. NULL without memory.
const char *__tz_name(const char *name, size_t len);
// Whether NAME is such a copy.
_Bool __tz_is_name(const char *name);

// Reads TEXT, which ends at a 0 or a line feed. False if it is no POSIX TZ string.
_Bool __tz_parse_rule(const char *text, struct tz_rule *rule);
struct tz_local __tz_rule_at(const struct tz_rule *rule, int64_t time);

// Reads a zone file (RFC 9636). False if there is none, or if it is damaged.
_Bool __tz_load(const char *path, struct tz_zone *zone);
void __tz_free(struct tz_zone *zone);
struct tz_local __tz_at(const struct tz_zone *zone, int64_t time);

#endif
