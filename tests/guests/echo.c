// Sends back what it gets, on all the places that its arguments name, in one poll loop, until TERM.
#include "serve.h"

static void answer(struct connection *connection) {
    if (connection->out_len > 0) return;
    memcpy(connection->out, connection->in, connection->in_len);
    connection->out_len = connection->in_len;
    connection->in_len = 0;
}

static _Bool busy(const struct connection *connection) {
    return connection->in_len > 0;
}

int main(int argc, char **argv) {
    (void)argc;
    struct service service = {.answer = answer, .busy = busy};
    serve(&service, argv + 1);
    return 0;
}
