// gethostbyname and its relatives: the older face of getaddrinfo, with one result at a time.
#include "internal.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>

int h_errno;

static struct {
    struct hostent entry;
    char name[NI_MAXHOST];
    char *aliases[1];
    char *list[V1_FOUND_MOST + 1];
    unsigned char addresses[V1_FOUND_MOST][sizeof(struct in6_addr)];
} found;

static struct hostent *failed(int error) {
    switch (error) {
    case EAI_NONAME: h_errno = HOST_NOT_FOUND; break;
    case EAI_NODATA:
    case EAI_ADDRFAMILY: h_errno = NO_DATA; break;
    case EAI_AGAIN: h_errno = TRY_AGAIN; break;
    default: h_errno = NO_RECOVERY;
    }
    return NULL;
}

static void add(size_t at, const void *address) {
    memcpy(found.addresses[at], address, (size_t)found.entry.h_length);
    found.list[at] = (char *)found.addresses[at];
    found.list[at + 1] = NULL;
}

static void begin(int family) {
    found.entry = (struct hostent){
        .h_name = found.name,
        .h_aliases = found.aliases,
        .h_addrtype = family,
        .h_length = family == AF_INET ? sizeof(struct in_addr) : sizeof(struct in6_addr),
        .h_addr_list = found.list,
    };
}

struct hostent *gethostbyname2(const char *name, int family) {
    struct addrinfo hints = {.ai_flags = AI_CANONNAME, .ai_family = family, .ai_socktype = SOCK_STREAM}, *list;
    if (family != AF_INET && family != AF_INET6) return failed(EAI_FAMILY);
    int error = getaddrinfo(name, NULL, &hints, &list);
    if (error) return failed(error);
    begin(family);
    snprintf(found.name, sizeof found.name, "%s", list->ai_canonname);
    size_t count = 0;
    for (struct addrinfo *entry = list; entry && count < V1_FOUND_MOST; entry = entry->ai_next, count++) {
        if (family == AF_INET) add(count, &((struct sockaddr_in *)entry->ai_addr)->sin_addr);
        else add(count, &((struct sockaddr_in6 *)entry->ai_addr)->sin6_addr);
    }
    freeaddrinfo(list);
    return &found.entry;
}

struct hostent *gethostbyname(const char *name) {
    return gethostbyname2(name, AF_INET);
}

struct hostent *gethostbyaddr(const void *address, socklen_t len, int family) {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } whole = {0};
    socklen_t size;
    if (family == AF_INET && len == sizeof whole.v4.sin_addr) {
        memcpy(&whole.v4.sin_addr, address, len);
        size = sizeof whole.v4;
    } else if (family == AF_INET6 && len == sizeof whole.v6.sin6_addr) {
        memcpy(&whole.v6.sin6_addr, address, len);
        size = sizeof whole.v6;
    } else {
        return failed(EAI_FAMILY);
    }
    whole.any.sa_family = (sa_family_t)family;
    char name[NI_MAXHOST];
    int error = getnameinfo(&whole.any, size, name, sizeof name, NULL, 0, NI_NAMEREQD);
    if (error) return failed(error);
    begin(family);
    strcpy(found.name, name);
    add(0, address);
    return &found.entry;
}

const char *hstrerror(int error) {
    switch (error) {
    case 0: return "no error";
    case HOST_NOT_FOUND: return "unknown host";
    case TRY_AGAIN: return "no nameserver answered; try again later";
    case NO_RECOVERY: return "the name cannot be looked up";
    case NO_DATA: return "no address of this name";
    default: return "unknown error";
    }
}

void herror(const char *prefix) {
    if (prefix && *prefix) fprintf(stderr, "%s: ", prefix);
    fprintf(stderr, "%s\n", hstrerror(h_errno));
}
