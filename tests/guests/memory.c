// Copies, fills and comparisons: every size to beyond those that the library treats by themselves, at many distances and
// with sources that overlap, beside the same byte by byte.
#include "say.h"

#include <stdint.h>

enum { SIZES = 300, ROOM = 1024, START = 400 };

// What the compiler knows nothing of, or it would do without a call.
static void *(*volatile copy)(void *, const void *, size_t) = memcpy;
static void *(*volatile move)(void *, const void *, size_t) = memmove;
static void *(*volatile fill)(void *, int, size_t) = memset;
static int (*volatile compare)(const void *, const void *, size_t) = memcmp;

static unsigned char got[ROOM];
// Written byte by byte: of a loop that the compiler may see through it would make the call that is tested.
static volatile unsigned char expected[ROOM];

static void begin(void) {
    for (int i = 0; i < ROOM; i++) got[i] = expected[i] = (unsigned char)(i * 31 + i / 256);
}

static int same(void) {
    for (int i = 0; i < ROOM; i++)
        if (got[i] != expected[i]) return 0;
    return 1;
}

static void copies(void) {
    long wrong = 0, all = 0;
    for (int size = 0; size < SIZES; size++)
        for (int distance = -300; distance <= 300; distance += (size < 140 ? 1 : 7)) {
            unsigned char *from = got + START, *to = from + distance;
            int apart = distance >= size || distance <= -size;
            begin();
            void *answer = (apart ? copy : move)(to, from, (size_t)size);
            volatile unsigned char *t = expected + START + distance, *f = expected + START;
            if (distance < 0)
                for (int i = 0; i < size; i++) t[i] = f[i];
            else
                for (int i = size; i-- > 0;) t[i] = f[i];
            all++;
            wrong += answer != to || !same();
        }
    SAY("copies", "%ld, wrong %ld", all, wrong);
}

static void fills(void) {
    long wrong = 0;
    for (int size = 0; size < SIZES; size++)
        for (int start = 0; start < 17; start++) {
            int byte = size * 7 + start - 900;
            begin();
            void *answer = fill(got + START + start, byte, (size_t)size);
            for (int i = 0; i < size; i++) expected[START + start + i] = (unsigned char)byte;
            wrong += answer != got + START + start || !same();
        }
    SAY("fills", "wrong %ld", wrong);
}

static int sign(int number) { return (number > 0) - (number < 0); }

static void comparisons(void) {
    static const unsigned char pairs[][2] = {{0, 1}, {127, 128}, {1, 255}};
    long wrong = 0;
    for (int size = 0; size < 60; size++)
        for (int place = 0; place <= size; place++)
            for (int pair = 0; pair < 3; pair++) {
                begin();
                unsigned char *left = got + 1, *right = got + 504;
                for (int i = 0; i < size; i++) left[i] = right[i];
                if (place < size) {
                    left[place] = pairs[pair][0];
                    right[place] = pairs[pair][1];
                    // What comes after the first difference says the opposite.
                    for (int i = place + 1; i < size; i++) left[i] = 255, right[i] = 0;
                }
                int order = place < size ? -1 : 0;
                wrong += sign(compare(left, right, (size_t)size)) != order;
                wrong += sign(compare(right, left, (size_t)size)) != -order;
            }
    SAY("comparisons", "wrong %ld", wrong);
}

int main(void) {
    copies();
    fills();
    comparisons();
    return 0;
}
