// POSIX TZ strings, for example CET-1CEST,M3.5.0,M10.5.0/3: reading them, and which kind of time they give.
#include "tz.h"

#include <stdlib.h>
#include <string.h>

#define DAY 86400

struct name {
    struct name *next;
    char text[];
};

static struct name *names;

const char *__tz_name(const char *text, size_t len) {
    struct name *name;
    for (name = names; name != NULL; name = name->next)
        if (strlen(name->text) == len && memcmp(name->text, text, len) == 0) return name->text;
    name = malloc(sizeof *name + len + 1);
    if (name == NULL) return NULL;
    memcpy(name->text, text, len);
    name->text[len] = 0;
    name->next = names;
    names = name;
    return name->text;
}

_Bool __tz_is_name(const char *text) {
    for (struct name *name = names; name != NULL; name = name->next)
        if (name->text == text) return 1;
    return 0;
}

static _Bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static _Bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// Each of these reads one part at *AT and moves *AT behind it. False if it is not there.

static _Bool read_name(const char **at, const char **name) {
    const char *begin = *at;
    if (*begin == '<') {
        const char *end = ++begin;
        while (is_letter(*end) || is_digit(*end) || *end == '+' || *end == '-') end++;
        if (*end != '>' || end - begin < 3) return 0;
        *at = end + 1;
        return (*name = __tz_name(begin, end - begin)) != NULL;
    }
    while (is_letter(**at)) ++*at;
    return *at - begin >= 3 && (*name = __tz_name(begin, *at - begin)) != NULL;
}

static _Bool read_number(const char **at, int most, int *number) {
    if (!is_digit(**at)) return 0;
    for (*number = 0; is_digit(**at); ++*at) {
        *number = *number * 10 + (**at - '0');
        if (*number > most) return 0;
    }
    return 1;
}

// [+-]hh[:mm[:ss]], in seconds.
static _Bool read_time(const char **at, int most_hours, int32_t *time) {
    int sign = **at == '-' ? -1 : 1;
    if (**at == '-' || **at == '+') ++*at;
    int hours, minutes = 0, seconds = 0;
    if (!read_number(at, most_hours, &hours)) return 0;
    if (**at == ':') {
        ++*at;
        if (!read_number(at, 59, &minutes)) return 0;
        if (**at == ':') {
            ++*at;
            if (!read_number(at, 59, &seconds)) return 0;
        }
    }
    *time = sign * (hours * 3600 + minutes * 60 + seconds);
    return 1;
}

// ,date[/time]
static _Bool read_date(const char **at, struct tz_date *date) {
    if (*(*at)++ != ',') return 0;
    date->time = 2 * 3600;
    if (**at == 'M') {
        ++*at;
        date->kind = TZ_MONTH;
        if (!read_number(at, 12, &date->month) || *(*at)++ != '.') return 0;
        if (!read_number(at, 5, &date->week) || *(*at)++ != '.') return 0;
        if (!read_number(at, 6, &date->day) || date->month == 0 || date->week == 0) return 0;
    } else if (**at == 'J') {
        ++*at;
        date->kind = TZ_JULIAN;
        if (!read_number(at, 365, &date->day) || date->day == 0) return 0;
    } else {
        date->kind = TZ_DAY;
        if (!read_number(at, 365, &date->day)) return 0;
    }
    if (**at != '/') return 1;
    ++*at;
    // RFC 9636 allows a week in both directions.
    return read_time(at, 167, &date->time);
}

_Bool __tz_parse_rule(const char *text, struct tz_rule *rule) {
    const char *at = text;
    int32_t west;
    *rule = (struct tz_rule){0};
    if (!read_name(&at, &rule->standard.name) || !read_time(&at, 24, &west)) return 0;
    rule->standard.offset = -west;
    if (*at == 0 || *at == '\n') return 1;

    rule->has_dst = 1;
    rule->dst.dst = 1;
    if (!read_name(&at, &rule->dst.name)) return 0;
    rule->dst.offset = rule->standard.offset + 3600;
    if (*at == '-' || *at == '+' || is_digit(*at)) {
        if (!read_time(&at, 24, &west)) return 0;
        rule->dst.offset = -west;
    }
    // The dates that POSIX leaves open are those of the United States, as elsewhere.
    const char *dates = *at == 0 || *at == '\n' ? ",M3.2.0,M11.1.0" : at;
    return read_date(&dates, &rule->begin) && read_date(&dates, &rule->end) && (*dates == 0 || *dates == '\n');
}

static _Bool is_leap(int64_t year) {
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

// Days from 1970-01-01 to the first day of a year.
static int64_t days_before_year(int64_t year) {
    int64_t before = year - 1;
    // Division towards minus infinity, so that it holds before the year 1 too.
    int64_t by4 = before >= 0 ? before / 4 : -((3 - before) / 4);
    int64_t by100 = before >= 0 ? before / 100 : -((99 - before) / 100);
    int64_t by400 = before >= 0 ? before / 400 : -((399 - before) / 400);
    return before * 365 + by4 - by100 + by400 - 719162;
}

static int64_t year_of(int64_t time) {
    int64_t days = time >= 0 ? time / DAY : -((DAY - 1 - time) / DAY);
    // At most one year off: 400 years have 146097 days.
    int64_t year = 1970 + (days >= 0 ? days * 400 / 146097 : -((146096 - days * 400) / 146097));
    while (days_before_year(year) > days) year--;
    while (days_before_year(year + 1) <= days) year++;
    return year;
}

// When a date is in a year: seconds since 1970 of that place's clock.
static int64_t moment(const struct tz_date *date, int64_t year) {
    static const short before_month[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365};
    int64_t first = days_before_year(year);
    int leap = is_leap(year);
    int64_t days = first;
    switch (date->kind) {
    case TZ_DAY: days += date->day; break;
    // February 29 has no number.
    case TZ_JULIAN: days += date->day - 1 + (leap && date->day >= 60); break;
    case TZ_MONTH: {
        int begin = before_month[date->month - 1] + (leap && date->month > 2);
        int end = before_month[date->month] + (leap && date->month >= 2);
        // 1970-01-01 was a Thursday.
        int weekday = (int)(((first + begin + 4) % 7 + 7) % 7);
        int day = begin + (date->day - weekday + 7) % 7 + (date->week - 1) * 7;
        days += day >= end ? day - 7 : day;
    }
    }
    return days * DAY + date->time;
}

struct tz_local __tz_rule_at(const struct tz_rule *rule, int64_t time) {
    if (!rule->has_dst) return (struct tz_local){&rule->standard, rule->standard.offset};
    int64_t year = year_of(time + rule->standard.offset);
    int64_t begin = moment(&rule->begin, year) - rule->standard.offset;
    int64_t end = moment(&rule->end, year) - rule->dst.offset;
    // In the south, it is standard time in the middle of the year.
    _Bool dst = begin < end ? begin <= time && time < end : time < end || begin <= time;
    if (dst) return (struct tz_local){&rule->dst, rule->standard.offset};
    return (struct tz_local){&rule->standard, rule->dst.offset};
}
