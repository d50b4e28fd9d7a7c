// getaddrinfo and getnameinfo. Names of hosts are looked up by the host functions; numbers, services and the lists are
// made here.
#include "internal.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define FLAGS (AI_PASSIVE | AI_CANONNAME | AI_NUMERICHOST | AI_V4MAPPED | AI_ALL | AI_ADDRCONFIG | AI_NUMERICSERV)

struct service {
    int type;
    int protocol;
    in_port_t port;
};

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    char place[V1_FOUND_SIZE];
};
_Static_assert(sizeof(union address) == V1_FOUND_SIZE, "as in posix.witx");

struct addresses {
    size_t count;
    char canonical[NI_MAXHOST];
    union address list[2 * V1_FOUND_MOST];
};

static int lookup_error(uint16_t error) {
    switch (error) {
    case ENOENT: return EAI_NONAME;
    case ENOMSG: return EAI_NODATA;
    case EAGAIN: return EAI_AGAIN;
    case EIO: return EAI_FAIL;
    case ENOMEM: return EAI_MEMORY;
    default: errno = error; return EAI_SYSTEM;
    }
}

// The ways to use a service: for each type and protocol that HINTS leave. A negative number is an error.
static int services_of(const char *name, const struct addrinfo *hints, struct service found[2]) {
    static const struct {
        int type;
        int protocol;
        const char *name;
    } ways[2] = {{SOCK_STREAM, IPPROTO_TCP, "tcp"}, {SOCK_DGRAM, IPPROTO_UDP, "udp"}};
    int count = 0, fits = 0;
    unsigned long number = 0;
    char *end = NULL;
    if (name && *name >= '0' && *name <= '9') {
        number = strtoul(name, &end, 10);
        if (*end == 0 && number > 65535) return EAI_SERVICE;
    }
    _Bool is_number = name == NULL || (end && *end == 0);
    if (!is_number && hints->ai_flags & AI_NUMERICSERV) return EAI_NONAME;
    for (int way = 0; way < 2; way++) {
        if (hints->ai_socktype && hints->ai_socktype != ways[way].type) continue;
        if (hints->ai_protocol && hints->ai_protocol != ways[way].protocol) continue;
        fits++;
        found[count] = (struct service){ways[way].type, ways[way].protocol, htons((uint16_t)number)};
        if (!is_number) {
            const struct servent *known = getservbyname(name, ways[way].name);
            if (known == NULL) continue;
            found[count].port = (in_port_t)known->s_port;
        }
        count++;
    }
    if (!fits) return EAI_SOCKTYPE;
    return count ? count : EAI_SERVICE;
}

static void add_v4(struct addresses *to, in_addr_t address, int family) {
    union address *entry = &to->list[to->count++];
    memset(entry, 0, sizeof *entry);
    if (family == AF_INET6) {
        entry->v6.sin6_family = AF_INET6;
        unsigned char *bytes = entry->v6.sin6_addr.s6_addr;
        bytes[10] = bytes[11] = 0xff;
        memcpy(bytes + 12, &address, sizeof address);
        return;
    }
    entry->v4.sin_family = AF_INET;
    entry->v4.sin_addr.s_addr = address;
}

static void add_v6(struct addresses *to, const struct in6_addr *address, uint32_t scope) {
    union address *entry = &to->list[to->count++];
    memset(entry, 0, sizeof *entry);
    entry->v6.sin6_family = AF_INET6;
    entry->v6.sin6_addr = *address;
    entry->v6.sin6_scope_id = scope;
}

// The address that NAME is in text. 1: it is none.
static int numeric(const char *name, const struct addrinfo *hints, struct addresses *to) {
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_aton(name, &v4)) {
        if (hints->ai_family != AF_INET6) add_v4(to, v4.s_addr, AF_INET);
        else if (hints->ai_flags & AI_V4MAPPED) add_v4(to, v4.s_addr, AF_INET6);
        else return EAI_ADDRFAMILY;
        return 0;
    }
    char plain[INET6_ADDRSTRLEN];
    const char *scope = strchr(name, '%');
    size_t length = scope ? (size_t)(scope - name) : strlen(name);
    if (length >= sizeof plain) return 1;
    memcpy(plain, name, length);
    plain[length] = 0;
    if (inet_pton(AF_INET6, plain, &v6) != 1) return 1;
    if (hints->ai_family == AF_INET) return EAI_ADDRFAMILY;
    char *end = NULL;
    unsigned long index = scope ? strtoul(scope + 1, &end, 10) : 0;
    // Names of interfaces are not known here.
    if (scope && (end == scope + 1 || *end)) return EAI_NONAME;
    add_v6(to, &v6, (uint32_t)index);
    return 0;
}

static int look_up_family(const char *name, int family, int flags, struct addresses *to) {
    size_t count, canonical_len;
    uint16_t error;
    uint32_t v1_flags = flags & AI_ADDRCONFIG ? V1_ADDRCONFIG : 0;
    union address *first = &to->list[to->count];
    // POSIX has no look-up that a signal ends.
    do error = RESTARTED(__posix_v1_getaddrinfo(name, strlen(name), (uint32_t)family, v1_flags, first,
                                                V1_FOUND_MOST * sizeof *first, to->canonical, sizeof to->canonical - 1,
                                                &count, &canonical_len));
    while (error == EINTR);
    if (error) return lookup_error(error);
    to->canonical[canonical_len < sizeof to->canonical ? canonical_len : 0] = 0;
    to->count += count < V1_FOUND_MOST ? count : V1_FOUND_MOST;
    return 0;
}

static int look_up(const char *name, const struct addrinfo *hints, struct addresses *to) {
    int flags = hints->ai_flags;
    int error = look_up_family(name, hints->ai_family, flags, to);
    if (hints->ai_family != AF_INET6 || !(flags & AI_V4MAPPED)) return error;
    if (error ? error != EAI_NODATA : !(flags & AI_ALL)) return error;
    size_t before = to->count;
    int mapped = look_up_family(name, AF_INET, flags, to);
    // With addresses of the wanted family it is no error that there are no others.
    if (mapped) return error == 0 && mapped == EAI_NODATA ? 0 : mapped;
    size_t end = to->count;
    to->count = before;
    for (size_t at = before; at < end; at++) add_v4(to, to->list[at].v4.sin_addr.s_addr, AF_INET6);
    return 0;
}

static int addresses_of(const char *name, const struct addrinfo *hints, struct addresses *to) {
    if (name == NULL) {
        in_addr_t v4 = htonl(hints->ai_flags & AI_PASSIVE ? INADDR_ANY : INADDR_LOOPBACK);
        if (hints->ai_family != AF_INET6) add_v4(to, v4, AF_INET);
        if (hints->ai_family != AF_INET)
            add_v6(to, hints->ai_flags & AI_PASSIVE ? &in6addr_any : &in6addr_loopback, 0);
        return 0;
    }
    int found = numeric(name, hints, to);
    if (found != 1) return found;
    if (hints->ai_flags & AI_NUMERICHOST || *name == 0) return EAI_NONAME;
    return look_up(name, hints, to);
}

static struct addrinfo *entry_of(const union address *address, const struct service *service) {
    struct {
        struct addrinfo info;
        union address address;
    } *entry = calloc(1, sizeof *entry);
    if (entry == NULL) return NULL;
    _Bool v6 = address->any.sa_family == AF_INET6;
    entry->address = *address;
    if (v6) entry->address.v6.sin6_port = service->port;
    else entry->address.v4.sin_port = service->port;
    entry->info = (struct addrinfo){
        .ai_family = address->any.sa_family,
        .ai_socktype = service->type,
        .ai_protocol = service->protocol,
        .ai_addrlen = v6 ? sizeof entry->address.v6 : sizeof entry->address.v4,
        .ai_addr = &entry->address.any,
    };
    return &entry->info;
}

int getaddrinfo(const char *restrict name, const char *restrict service, const struct addrinfo *restrict hints,
                struct addrinfo **restrict result) {
    static const struct addrinfo any = {.ai_flags = AI_V4MAPPED | AI_ADDRCONFIG};
    if (hints == NULL) hints = &any;
    if (name == NULL && service == NULL) return EAI_NONAME;
    if (hints->ai_flags & ~FLAGS || (name == NULL && hints->ai_flags & AI_CANONNAME)) return EAI_BADFLAGS;
    if (hints->ai_family != AF_UNSPEC && hints->ai_family != AF_INET && hints->ai_family != AF_INET6) return EAI_FAMILY;
    struct service services[2];
    int ways = services_of(service, hints, services);
    if (ways < 0) return ways;
    struct addresses *found = calloc(1, sizeof *found);
    if (found == NULL) return EAI_MEMORY;
    int error = addresses_of(name, hints, found);
    if (error == 0 && found->count == 0) error = EAI_NODATA;
    struct addrinfo *list = NULL, **end = &list;
    for (size_t at = 0; error == 0 && at < found->count; at++)
        for (int way = 0; error == 0 && way < ways; way++) {
            *end = entry_of(&found->list[at], &services[way]);
            if (*end) end = &(*end)->ai_next;
            else error = EAI_MEMORY;
        }
    if (error == 0 && hints->ai_flags & AI_CANONNAME) {
        list->ai_canonname = strdup(*found->canonical ? found->canonical : name);
        if (list->ai_canonname == NULL) error = EAI_MEMORY;
    }
    free(found);
    if (error) {
        freeaddrinfo(list);
        return error;
    }
    *result = list;
    return 0;
}

void freeaddrinfo(struct addrinfo *list) {
    while (list) {
        struct addrinfo *next = list->ai_next;
        free(list->ai_canonname);
        free(list);
        list = next;
    }
}

static int put(char *to, size_t size, const char *text) {
    if (strlen(text) >= size) return EAI_OVERFLOW;
    strcpy(to, text);
    return 0;
}

static int name_of(const struct sockaddr *address, socklen_t len, char *to, size_t size, int flags) {
    char name[NI_MAXHOST];
    if (!(flags & NI_NUMERICHOST)) {
        size_t name_len;
        uint16_t error;
        do error = RESTARTED(__posix_v1_getnameinfo(address, len, name, sizeof name - 1, &name_len));
        while (error == EINTR);
        if (error == 0 && name_len < sizeof name) {
            name[name_len] = 0;
            return put(to, size, name);
        }
        if (error == 0) return EAI_OVERFLOW;
        // What has no name is said in numbers; so is what may not be asked for.
        if (flags & NI_NAMEREQD) return lookup_error(error);
    } else if (flags & NI_NAMEREQD) {
        return EAI_NONAME;
    }
    if (address->sa_family == AF_INET) {
        inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, name, sizeof name);
    } else {
        const struct sockaddr_in6 *v6 = (const void *)address;
        inet_ntop(AF_INET6, &v6->sin6_addr, name, sizeof name);
        if (v6->sin6_scope_id) sprintf(name + strlen(name), "%%%u", (unsigned)v6->sin6_scope_id);
    }
    return put(to, size, name);
}

static int service_of(const struct sockaddr *address, char *to, size_t size, int flags) {
    in_port_t port = address->sa_family == AF_INET ? ((const struct sockaddr_in *)address)->sin_port
                                                   : ((const struct sockaddr_in6 *)address)->sin6_port;
    if (!(flags & NI_NUMERICSERV)) {
        const struct servent *known = getservbyport(port, flags & NI_DGRAM ? "udp" : "tcp");
        if (known) return put(to, size, known->s_name);
    }
    char number[8];
    sprintf(number, "%u", (unsigned)ntohs(port));
    return put(to, size, number);
}

int getnameinfo(const struct sockaddr *restrict address, socklen_t len, char *restrict name, socklen_t name_size,
                char *restrict service, socklen_t service_size, int flags) {
    if (len < sizeof address->sa_family) return EAI_FAMILY;
    if (address->sa_family == AF_INET ? len < sizeof(struct sockaddr_in)
                                      : address->sa_family != AF_INET6 || len < sizeof(struct sockaddr_in6))
        return EAI_FAMILY;
    int error = 0;
    if (name && name_size) error = name_of(address, len, name, name_size, flags);
    if (error == 0 && service && service_size) error = service_of(address, service, service_size, flags);
    return error;
}

const char *gai_strerror(int error) {
    switch (error) {
    case 0: return "no error";
    case EAI_BADFLAGS: return "bad flags";
    case EAI_NONAME: return "name or service not known";
    case EAI_AGAIN: return "no nameserver answered; try again later";
    case EAI_FAIL: return "the nameserver answered with a failure";
    case EAI_NODATA: return "no address of this name";
    case EAI_FAMILY: return "address family not supported";
    case EAI_SOCKTYPE: return "type of socket not supported";
    case EAI_SERVICE: return "no such service for this type of socket";
    case EAI_ADDRFAMILY: return "no address of this family for this name";
    case EAI_MEMORY: return "out of memory";
    case EAI_SYSTEM: return "system error";
    case EAI_OVERFLOW: return "result too long for its buffer";
    default: return "unknown error";
    }
}
