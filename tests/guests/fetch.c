// An HTTP client: fetch HOST PORT PATH. HOST is a name or an address.
#include "say.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc != 4) {
        puts("say fetch HOST PORT PATH");
        return 2;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    int error = getaddrinfo(argv[1], argv[2], &hints, &list);
    if (error) {
        SAY("look-up", "%s", error == EAI_SYSTEM ? error_name(errno) : gai_strerror(error));
        return 1;
    }
    int fd = -1;
    for (struct addrinfo *place = list; place && fd < 0; place = place->ai_next) {
        fd = socket(place->ai_family, place->ai_socktype, place->ai_protocol);
        MUST(fd);
        if (connect(fd, place->ai_addr, place->ai_addrlen) == 0) break;
        SAY("connect", "%s", error_name(errno));
        MUST(close(fd));
        fd = -1;
    }
    freeaddrinfo(list);
    if (fd < 0) return 1;
    // As stdio would have it.
    FILE *connection = fdopen(fd, "r+");
    if (connection == NULL) {
        puts("no stream");
        return 1;
    }
    fprintf(connection, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", argv[3], argv[1]);
    fflush(connection);
    char line[1024];
    while (fgets(line, sizeof line, connection)) {
        line[strcspn(line, "\r\n")] = 0;
        SAY("read", "%s", line);
    }
    fclose(connection);
    return 0;
}
