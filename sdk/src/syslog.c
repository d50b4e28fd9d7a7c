// The system log: datagrams to the socket /dev/log of the container, in the form of RFC 3164. Needs a grant to connect to
// that path, and something that listens there; without these, messages are lost, as on Linux.
#include "internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>

static const char *name;
static int options;
static int facility = LOG_USER;
static int mask = LOG_UPTO(LOG_DEBUG);
static int log_fd = -1;

static void connect_log(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = _PATH_LOG};
    log_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (log_fd != -1 && connect(log_fd, (struct sockaddr *)&address, sizeof address)) closelog();
}

void closelog(void) {
    int error = errno;
    if (log_fd != -1) close(log_fd);
    log_fd = -1;
    errno = error;
}

void openlog(const char *ident, int option, int facilities) {
    int error = errno;
    name = ident;
    options = option;
    if (facilities & LOG_FACMASK) facility = facilities & LOG_FACMASK;
    if (option & LOG_NDELAY && log_fd == -1) connect_log();
    errno = error;
}

int setlogmask(int new) {
    int old = mask;
    if (new != 0) mask = new;
    return old;
}

static void send_line(const char *line, size_t length) {
    for (int attempt = 0; attempt < 2; attempt++) {
        if (log_fd == -1) connect_log();
        if (log_fd == -1) break;
        if (send(log_fd, line, length, 0) != -1) return;
        // The log may have been started again.
        closelog();
    }
    int console = options & LOG_CONS ? open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC) : -1;
    if (console == -1) return;
    dprintf(console, "%.*s\r\n", (int)length, line);
    close(console);
}

void vsyslog(int priority, const char *format, va_list arguments) {
    int error = errno;
    if (!(mask & LOG_MASK(LOG_PRI(priority)))) return;
    if (!(priority & LOG_FACMASK)) priority |= facility;

    char stamp[16] = "", pid[16] = "";
    time_t now = time(NULL);
    struct tm local;
    if (localtime_r(&now, &local)) strftime(stamp, sizeof stamp, "%b %e %T", &local);
    if (options & LOG_PID) snprintf(pid, sizeof pid, "[%d]", (int)getpid());
    const char *tag = name ? name : "";
    const char *colon = *tag || *pid ? ": " : "";

    char *message = NULL, *line = NULL;
    // For %m.
    errno = error;
    int head = 0, length = -1;
    if (vasprintf(&message, format, arguments) != -1)
        length = asprintf(&line, "<%d>%s %n%s%s%s%s", priority, stamp, &head, tag, pid, colon, message);
    else
        message = NULL;
    if (length != -1) {
        send_line(line, (size_t)length);
        if (options & LOG_PERROR) {
            _Bool ended = length > 0 && line[length - 1] == '\n';
            dprintf(STDERR_FILENO, "%s%s", line + head, ended ? "" : "\n");
        }
        free(line);
    }
    free(message);
    errno = error;
}

void syslog(int priority, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsyslog(priority, format, arguments);
    va_end(arguments);
}
