// Addresses as text: inet_pton and inet_ntop. They take the place of wasi-libc's, which know its numbers of families.
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

// Exactly four decimal numbers, without leading zeros.
static int parse_v4(const char *text, unsigned char address[4]) {
    for (int at = 0; at < 4; at++) {
        unsigned value = 0;
        int digits = 0;
        for (; *text >= '0' && *text <= '9'; text++, digits++) {
            if (digits == 3 || (digits > 0 && value == 0)) return 0;
            value = value * 10 + (unsigned)(*text - '0');
        }
        if (digits == 0 || value > 255) return 0;
        address[at] = (unsigned char)value;
        if (*text != (at < 3 ? '.' : 0)) return 0;
        text++;
    }
    return 1;
}

static int hex_digit(char character) {
    if (character >= '0' && character <= '9') return character - '0';
    if (character >= 'a' && character <= 'f') return character - 'a' + 10;
    if (character >= 'A' && character <= 'F') return character - 'A' + 10;
    return -1;
}

static int parse_v6(const char *text, unsigned char address[16]) {
    unsigned char groups[16];
    // How many bytes are read, and how many of them stand before "::".
    int length = 0, gap = -1;
    if (*text == ':' && *++text != ':') return 0;
    while (*text) {
        if (*text == ':') {
            if (gap >= 0) return 0;
            gap = length;
            text++;
            continue;
        }
        if (length == 16) return 0;
        const char *start = text;
        unsigned value = 0;
        int digits = 0;
        for (int digit; (digit = hex_digit(*text)) >= 0; text++, digits++) {
            if (digits == 4) return 0;
            value = value << 4 | (unsigned)digit;
        }
        if (*text == '.') {
            if (length > 12 || !parse_v4(start, groups + length)) return 0;
            length += 4;
            break;
        }
        if (digits == 0 || (*text && *text != ':')) return 0;
        groups[length++] = (unsigned char)(value >> 8);
        groups[length++] = (unsigned char)value;
        // A colon has to be followed by something; a second one is looked at above.
        if (*text == ':' && *++text == 0) return 0;
    }
    if (gap < 0 ? length != 16 : length == 16) return 0;
    if (gap < 0) gap = length;
    memset(address, 0, 16);
    memcpy(address, groups, (size_t)gap);
    memcpy(address + 16 - (length - gap), groups + gap, (size_t)(length - gap));
    return 1;
}

int inet_pton(int family, const char *restrict text, void *restrict address) {
    unsigned char parsed[16];
    if (family == AF_INET) {
        if (!parse_v4(text, parsed)) return 0;
        memcpy(address, parsed, 4);
        return 1;
    }
    if (family == AF_INET6) {
        if (!parse_v6(text, parsed)) return 0;
        memcpy(address, parsed, 16);
        return 1;
    }
    errno = EAFNOSUPPORT;
    return -1;
}

static void print_v6(const unsigned char *address, char *text) {
    unsigned groups[8];
    for (int at = 0; at < 8; at++) groups[at] = (unsigned)address[2 * at] << 8 | address[2 * at + 1];
    // The longest run of zeros, the first of several; a single zero is no run.
    int start = -1, longest = 1;
    for (int at = 0; at < 8; at++) {
        int run = 0;
        while (at + run < 8 && groups[at + run] == 0) run++;
        if (run > longest) {
            start = at;
            longest = run;
        }
    }
    // An IPv4 address in its last four bytes is written as one.
    int v4 = start == 0 && (longest == 6 || (longest == 5 && groups[5] == 0xffff));
    for (int at = 0; at < 8; at++) {
        if (at == start) {
            text += sprintf(text, "::");
            at += longest - 1;
            continue;
        }
        if (at > 0 && at != start + longest) *text++ = ':';
        if (v4 && at == 6) {
            sprintf(text, "%u.%u.%u.%u", address[12], address[13], address[14], address[15]);
            return;
        }
        text += sprintf(text, "%x", groups[at]);
    }
}

const char *inet_ntop(int family, const void *restrict address, char *restrict buffer, socklen_t size) {
    const unsigned char *bytes = address;
    char text[INET6_ADDRSTRLEN];
    if (family == AF_INET) {
        sprintf(text, "%u.%u.%u.%u", bytes[0], bytes[1], bytes[2], bytes[3]);
    } else if (family == AF_INET6) {
        print_v6(bytes, text);
    } else {
        errno = EAFNOSUPPORT;
        return NULL;
    }
    if (strlen(text) >= size) {
        errno = ENOSPC;
        return NULL;
    }
    return strcpy(buffer, text);
}
