// Zone files (RFC 9636): reading them, and which kind of time they give.
#include "tz.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER 44
// The largest of tzdata has 4 KiB.
#define MOST_BYTES (1 << 20)

static uint32_t be32(const unsigned char *at) {
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static int64_t be64(const unsigned char *at) {
    return (int64_t)((uint64_t)be32(at) << 32 | be32(at + 4));
}

// The six counts of a header, and where what they count lies in its block.
struct block {
    uint32_t utc_len, standard_len, leaps_len, times_len, types_len, names_len;
    size_t time_size;
    size_t size;
};

// False if there is no header or less than it announces.
static _Bool read_block(const unsigned char *at, size_t size, size_t time_size, struct block *block) {
    if (size < HEADER || memcmp(at, "TZif", 4) != 0) return 0;
    *block = (struct block){
        .utc_len = be32(at + 20),
        .standard_len = be32(at + 24),
        .leaps_len = be32(at + 28),
        .times_len = be32(at + 32),
        .types_len = be32(at + 36),
        .names_len = be32(at + 40),
        .time_size = time_size,
    };
    // 64 bits cannot overflow by these.
    uint64_t needed = HEADER + (uint64_t)block->times_len * (time_size + 1) + (uint64_t)block->types_len * 6 +
                      block->names_len + (uint64_t)block->leaps_len * (time_size + 4) + block->standard_len +
                      block->utc_len;
    if (needed > size) return 0;
    block->size = needed;
    return 1;
}

static _Bool read_types(const unsigned char *types, const unsigned char *names, const struct block *block,
                        struct tz_zone *zone) {
    zone->types = calloc(block->types_len, sizeof *zone->types);
    if (zone->types == NULL) return 0;
    zone->types_len = block->types_len;
    for (size_t i = 0; i < block->types_len; i++, types += 6) {
        size_t name = types[5];
        if (name >= block->names_len) return 0;
        size_t len = strnlen((const char *)names + name, block->names_len - name);
        if (len == block->names_len - name) return 0;
        zone->types[i] = (struct tz_type){
            .offset = (int32_t)be32(types),
            .dst = types[4] != 0,
            .name = __tz_name((const char *)names + name, len),
        };
        // Beyond a day it is no offset.
        if (zone->types[i].offset < -93600 || zone->types[i].offset > 93600 || zone->types[i].name == NULL) return 0;
    }
    return 1;
}

static _Bool read_transitions(const unsigned char *at, const struct block *block, struct tz_zone *zone) {
    const unsigned char *indexes = at + (size_t)block->times_len * block->time_size;
    zone->transitions = calloc(block->times_len ? block->times_len : 1, sizeof *zone->transitions);
    if (zone->transitions == NULL) return 0;
    zone->transitions_len = block->times_len;
    for (size_t i = 0; i < block->times_len; i++, at += block->time_size) {
        int64_t time = block->time_size == 8 ? be64(at) : (int32_t)be32(at);
        if (indexes[i] >= block->types_len) return 0;
        if (i > 0 && time <= zone->transitions[i - 1].at) return 0;
        zone->transitions[i] = (struct tz_transition){.at = time, .type = indexes[i]};
    }
    return 1;
}

static _Bool read_zone(const unsigned char *at, size_t size, struct tz_zone *zone) {
    struct block block;
    if (!read_block(at, size, 4, &block)) return 0;
    _Bool wide = at[4] >= '2';
    if (wide) {
        at += block.size;
        size -= block.size;
        if (!read_block(at, size, 8, &block)) return 0;
    }
    if (block.types_len == 0 || block.types_len > 256) return 0;
    const unsigned char *times = at + HEADER;
    const unsigned char *types = times + (size_t)block.times_len * (block.time_size + 1);
    const unsigned char *names = types + (size_t)block.types_len * 6;
    if (!read_types(types, names, &block, zone) || !read_transitions(times, &block, zone)) return 0;
    if (!wide) return 1;
    // The rule for all times after the last transition: a line, which may be empty.
    const unsigned char *footer = at + block.size;
    size -= block.size;
    if (size < 2 || footer[0] != '\n' || memchr(footer + 1, '\n', size - 1) == NULL) return 0;
    if (footer[1] == '\n') return 1;
    zone->has_rule = __tz_parse_rule((const char *)footer + 1, &zone->rule);
    return zone->has_rule;
}

// The whole of a regular file in a new buffer; NULL if that cannot be had.
static unsigned char *read_file(const char *path, size_t *size) {
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    if (fd < 0) return NULL;
    unsigned char *buffer = NULL;
    struct stat stat;
    if (fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode) && stat.st_size > 0 && stat.st_size <= MOST_BYTES)
        buffer = malloc(stat.st_size);
    *size = 0;
    while (buffer != NULL && *size < (size_t)stat.st_size) {
        ssize_t count = read(fd, buffer + *size, stat.st_size - *size);
        if (count <= 0) {
            free(buffer);
            buffer = NULL;
            break;
        }
        *size += count;
    }
    close(fd);
    return buffer;
}

_Bool __tz_load(const char *path, struct tz_zone *zone) {
    size_t size;
    *zone = (struct tz_zone){0};
    unsigned char *file = read_file(path, &size);
    if (file == NULL) return 0;
    _Bool read = read_zone(file, size, zone);
    free(file);
    if (!read) __tz_free(zone);
    return read;
}

void __tz_free(struct tz_zone *zone) {
    free(zone->transitions);
    free(zone->types);
    *zone = (struct tz_zone){0};
}

// The offset of the nearest kind of time that is daylight saving if TYPE is not, looking back from a transition first.
static int32_t opposite(const struct tz_zone *zone, size_t transition, const struct tz_type *type) {
    for (size_t i = transition; i-- > 0;)
        if (zone->types[zone->transitions[i].type].dst != type->dst) return zone->types[zone->transitions[i].type].offset;
    for (size_t i = transition; i < zone->transitions_len; i++)
        if (zone->types[zone->transitions[i].type].dst != type->dst) return zone->types[zone->transitions[i].type].offset;
    return type->offset;
}

struct tz_local __tz_at(const struct tz_zone *zone, int64_t time) {
    // How many transitions are not later than TIME.
    size_t low = 0, high = zone->transitions_len;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (zone->transitions[middle].at <= time) low = middle + 1;
        else high = middle;
    }
    if (low == zone->transitions_len && zone->has_rule) return __tz_rule_at(&zone->rule, time);
    const struct tz_type *type = &zone->types[low == 0 ? 0 : zone->transitions[low - 1].type];
    return (struct tz_local){type, opposite(zone, low, type)};
}
