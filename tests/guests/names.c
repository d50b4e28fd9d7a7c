// Names, numbers and texts of addresses. The arguments are names to look up; some are in every image of the tests.
#include "say.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

static const char *outcome(int error) {
    switch (error) {
    case 0: return "ok";
    case EAI_NONAME: return "EAI_NONAME";
    case EAI_AGAIN: return "EAI_AGAIN";
    case EAI_FAIL: return "EAI_FAIL";
    case EAI_BADFLAGS: return "EAI_BADFLAGS";
    case EAI_FAMILY: return "EAI_FAMILY";
    case EAI_SOCKTYPE: return "EAI_SOCKTYPE";
    case EAI_SERVICE: return "EAI_SERVICE";
    case EAI_OVERFLOW: return "EAI_OVERFLOW";
    case EAI_SYSTEM: return error_name(errno);
    default: return "another error";
    }
}

static void look_up(const char *name, const char *service, int flags, int family, int type) {
    struct addrinfo hints = {.ai_flags = flags, .ai_family = family, .ai_socktype = type}, *list;
    int error = getaddrinfo(name, service, &hints, &list);
    printf("getaddrinfo %s %s %#x %d %d: %s", name ? name : "NULL", service ? service : "NULL", (unsigned)flags, family,
           type, outcome(error));
    if (error == 0) {
        for (struct addrinfo *entry = list; entry; entry = entry->ai_next) {
            char host[NI_MAXHOST], port[NI_MAXSERV];
            if (getnameinfo(entry->ai_addr, entry->ai_addrlen, host, sizeof host, port, sizeof port,
                            NI_NUMERICHOST | NI_NUMERICSERV))
                exit(1);
            printf(", %s %s %d %d", host, port, entry->ai_socktype, entry->ai_protocol);
        }
        freeaddrinfo(list);
    }
    putchar('\n');
}

static void to_bytes(int family, const char *text) {
    unsigned char bytes[16] = {0};
    char back[INET6_ADDRSTRLEN];
    int result = inet_pton(family, text, bytes);
    printf("inet_pton %s: %d", text, result);
    if (result == 1) printf(" %s", inet_ntop(family, bytes, back, sizeof back));
    putchar('\n');
}

static void to_text(const char *address, socklen_t host_size, int flags) {
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(8080)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(8080)};
    int is_v4 = inet_pton(AF_INET, address, &v4.sin_addr) == 1;
    if (!is_v4) inet_pton(AF_INET6, address, &v6.sin6_addr);
    char host[NI_MAXHOST] = "", port[NI_MAXSERV] = "";
    struct sockaddr *any = is_v4 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
    int error = getnameinfo(any, is_v4 ? sizeof v4 : sizeof v6, host, host_size, port, sizeof port, flags);
    SAY("getnameinfo", "%s %s %s %s", address, outcome(error), error ? "" : host, error ? "" : port);
}

int main(int argc, char **argv) {
    static const char *const v4[] = {"127.0.0.1", "1.2.3", "1.2.3.256", "01.2.3.4", "1.2.3.4 ", "", "0.0.0.0", "1..2.3",
                                     "255.255.255.255", "1.2.3.4.5"};
    static const char *const v6[] = {"::", "::1", "1::", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7::",
                                     "::2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8:9", "1::2::3", ":1", "1:", "12345::",
                                     "::ffff:1.2.3.4", "::1.2.3.4", "1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:7:1.2.3.4",
                                     "fe80::ABCD", "0:0:1:0:0:0:1:0", "1:0:0:2:0:0:3:4", "::g", ":::", "1:0:2:3:4:5:6:7",
                                     "::ffff:0:0", "::1:0", "2001:db8::0:1"};
    for (size_t at = 0; at < sizeof v4 / sizeof *v4; at++) to_bytes(AF_INET, v4[at]);
    for (size_t at = 0; at < sizeof v6 / sizeof *v6; at++) to_bytes(AF_INET6, v6[at]);
    char small[8];
    struct in_addr any = {.s_addr = htonl(0x7f000001)};
    CALL("inet_ntop", inet_ntop(AF_INET, &any, small, sizeof small) ? 0 : -1);
    CALL("inet_ntop", inet_ntop(99, &any, small, sizeof small) ? 0 : -1);
    CALL("inet_aton", inet_aton("127.1", &any), "%s", inet_ntoa(any));

    look_up("127.0.0.1", "80", 0, AF_UNSPEC, SOCK_STREAM);
    look_up("127.0.0.1", "80", 0, AF_UNSPEC, SOCK_DGRAM);
    look_up("::1", NULL, 0, AF_UNSPEC, SOCK_STREAM);
    look_up("10.1", "0", AI_NUMERICHOST, AF_INET, SOCK_STREAM);
    look_up("1.2.3.4", "9", AI_V4MAPPED, AF_INET6, SOCK_STREAM);
    look_up(NULL, "80", AI_PASSIVE, AF_INET, SOCK_STREAM);
    look_up(NULL, "80", 0, AF_INET, SOCK_STREAM);
    look_up(NULL, "80", AI_PASSIVE, AF_INET6, SOCK_STREAM);
    look_up(NULL, "80", 0, AF_INET6, SOCK_DGRAM);
    look_up(NULL, NULL, 0, AF_UNSPEC, SOCK_STREAM);
    look_up("localhost.", "x", AI_NUMERICSERV, AF_UNSPEC, SOCK_STREAM);
    look_up("no address", "80", AI_NUMERICHOST, AF_UNSPEC, SOCK_STREAM);
    look_up(NULL, "80", AI_CANONNAME, AF_UNSPEC, SOCK_STREAM);
    look_up("127.0.0.1", "80", 0, 99, SOCK_STREAM);
    look_up("127.0.0.1", "test-service", 0, AF_INET, SOCK_STREAM);
    look_up("127.0.0.1", "an-alias", 0, AF_INET, SOCK_STREAM);
    look_up("127.0.0.1", "test-service", 0, AF_INET, SOCK_DGRAM);
    for (int at = 1; at < argc; at++) {
        look_up(argv[at], "7", 0, AF_INET, SOCK_STREAM);
        look_up(argv[at], "7", 0, AF_INET6, SOCK_STREAM);
        struct hostent *host = gethostbyname(argv[at]);
        if (host == NULL) {
            SAY("gethostbyname", "none %s", h_errno == HOST_NOT_FOUND ? "HOST_NOT_FOUND" : "another error");
            continue;
        }
        SAY("gethostbyname", "%s, length %d, %s", host->h_name, host->h_length,
            inet_ntoa(*(struct in_addr *)host->h_addr));
    }

    to_text("10.9.8.7", NI_MAXHOST, NI_NUMERICHOST | NI_NUMERICSERV);
    to_text("10.9.8.7", 8, NI_NUMERICHOST);
    to_text("10.9.8.7", NI_MAXHOST, NI_NUMERICHOST);
    to_text("fd00::7", NI_MAXHOST, NI_NUMERICHOST | NI_NUMERICSERV);
    to_text("10.9.8.7", NI_MAXHOST, NI_NUMERICHOST | NI_NAMEREQD);

    struct servent *service = getservbyname("test-service", "tcp");
    if (service) SAY("getservbyname", "%s %d %s", service->s_name, ntohs((uint16_t)service->s_port), service->s_proto);
    service = getservbyport(htons(8080), NULL);
    if (service) SAY("getservbyport", "%s %s", service->s_name, service->s_aliases[0]);
    SAY("getservbyname", "%d", getservbyname("no-service", "tcp") == NULL);
    struct protoent *protocol = getprotobyname("tcp");
    if (protocol) SAY("getprotobyname", "%s %d", protocol->p_name, protocol->p_proto);
    return 0;
}
