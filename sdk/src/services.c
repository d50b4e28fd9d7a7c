// Services of the image's /etc/services, and the few protocols that sockets have.
#include "internal.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_ALIASES = 16 };
static const char spaces[] = " \t\n";

static struct {
    struct servent entry;
    char line[512];
    char *aliases[MOST_ALIASES + 1];
} service;

// Reads a line as "NAME PORT/PROTOCOL ALIAS …". False if it is none.
static _Bool parse(void) {
    char *rest, *slash;
    service.line[strcspn(service.line, "#")] = 0;
    char *name = strtok_r(service.line, spaces, &rest);
    char *port = strtok_r(NULL, spaces, &rest);
    if (port == NULL || (slash = strchr(port, '/')) == NULL) return 0;
    char *end;
    unsigned long number = strtoul(port, &end, 10);
    if (end != slash || end == port || number > 65535) return 0;
    size_t count = 0;
    for (char *alias; count < MOST_ALIASES && (alias = strtok_r(NULL, spaces, &rest)); count++)
        service.aliases[count] = alias;
    service.aliases[count] = NULL;
    service.entry = (struct servent){
        .s_name = name, .s_aliases = service.aliases, .s_port = htons((uint16_t)number), .s_proto = slash + 1};
    return 1;
}

static _Bool is_named(const char *name) {
    if (strcmp(service.entry.s_name, name) == 0) return 1;
    for (char **alias = service.aliases; *alias; alias++)
        if (strcmp(*alias, name) == 0) return 1;
    return 0;
}

// The first service of NAME, or of PORT if NAME is NULL.
static struct servent *find(const char *name, int port, const char *protocol) {
    FILE *file = fopen("/etc/services", "re");
    if (file == NULL) return NULL;
    struct servent *found = NULL;
    while (!found && fgets(service.line, sizeof service.line, file)) {
        if (!parse() || (protocol && strcmp(service.entry.s_proto, protocol))) continue;
        if (name ? is_named(name) : service.entry.s_port == port) found = &service.entry;
    }
    fclose(file);
    return found;
}

struct servent *getservbyname(const char *name, const char *protocol) {
    return find(name, 0, protocol);
}

struct servent *getservbyport(int port, const char *protocol) {
    return find(NULL, port, protocol);
}

static char *no_aliases[1];
static const struct protoent protocols[] = {
    {"ip", no_aliases, 0},   {"icmp", no_aliases, 1},  {"tcp", no_aliases, 6},
    {"udp", no_aliases, 17}, {"ipv6", no_aliases, 41}, {"ipv6-icmp", no_aliases, 58},
};

struct protoent *getprotobyname(const char *name) {
    for (size_t at = 0; at < sizeof protocols / sizeof *protocols; at++)
        if (strcmp(protocols[at].p_name, name) == 0) return (struct protoent *)&protocols[at];
    return NULL;
}

struct protoent *getprotobynumber(int number) {
    for (size_t at = 0; at < sizeof protocols / sizeof *protocols; at++)
        if (protocols[at].p_proto == number) return (struct protoent *)&protocols[at];
    return NULL;
}
