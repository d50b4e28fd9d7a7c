// An HTTP/1.1 server in one poll loop, on the places that its arguments name, until TERM.
#include "serve.h"

#include <strings.h>

static const char *header(const char *head, const char *name) {
    size_t length = strlen(name);
    for (const char *line = head; (line = strstr(line, "\r\n")) && line[2];) {
        line += 2;
        if (strncasecmp(line, name, length) == 0 && line[length] == ':') return line + length + 1;
    }
    return NULL;
}

static void respond(struct connection *connection, const char *status, const char *body) {
    size_t at = connection->out_start + connection->out_len;
    int length = snprintf(connection->out + at, ROOM - at,
                          "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n%s\r\n%s", status,
                          strlen(body), connection->ends ? "Connection: close\r\n" : "", body);
    connection->out_len += (size_t)length;
}

static void answer(struct connection *connection) {
    // One response has to fit behind what is not sent yet.
    while (connection->in_len > 0 && connection->out_start + connection->out_len < ROOM - 512) {
        char *end = memmem(connection->in, connection->in_len, "\r\n\r\n", 4);
        if (end == NULL) {
            if (connection->in_len < ROOM) return;
            connection->ends = 1;
            connection->in_len = 0;
            respond(connection, "431 Request Header Fields Too Large", "too long\n");
            return;
        }
        end[2] = 0;
        const char *option = header(connection->in, "Connection");
        if (option && strcasestr(option, "close")) connection->ends = 1;
        _Bool get = strncmp(connection->in, "GET ", 4) == 0;
        char *path = connection->in + 4;
        if (!get) respond(connection, "405 Method Not Allowed", "only GET\n");
        else if (strncmp(path, "/ ", 2) == 0) respond(connection, "200 OK", "hello, world\n");
        else if (strncmp(path, "/healthz ", 9) == 0) respond(connection, "200 OK", "ok\n");
        else respond(connection, "404 Not Found", "not here\n");
        size_t used = (size_t)(end + 4 - connection->in);
        connection->in_len -= used;
        memmove(connection->in, connection->in + used, connection->in_len);
    }
}

// A request that has begun is answered.
static _Bool busy(const struct connection *connection) {
    return connection->in_len > 0 && !connection->ends;
}

int main(int argc, char **argv) {
    (void)argc;
    struct service service = {.answer = answer, .busy = busy};
    serve(&service, argv + 1);
    return 0;
}
