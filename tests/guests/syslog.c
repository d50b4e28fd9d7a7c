// The system log: what arrives at /dev/log.
#include "say.h"

#include <ctype.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

static int log_fd;

// Digits of the time and of the process differ: all after the priority are shown as 0.
static void arrived(const char *name) {
    char line[2048];
    ssize_t length = recv(log_fd, line, sizeof line - 1, MSG_DONTWAIT);
    if (length == -1) {
        SAY(name, "%s", error_name(errno));
        return;
    }
    line[length] = 0;
    char *rest = strchr(line, '>');
    // "<13>Nov 27 00:00:00 "
    if (rest && strlen(rest) > 17) memcpy(rest + 1, "Mmm dd hh:mm:ss", 15);
    for (char *digit = strchr(line, '['); digit && *digit && *digit != ']'; digit++)
        if (isdigit((unsigned char)*digit)) *digit = '0';
    SAY(name, "%s", line);
}

int main(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
    log_fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    MUST(log_fd);
    MUST(bind(log_fd, (struct sockaddr *)&address, sizeof address));

    openlog("guest", LOG_PID, LOG_DAEMON);
    errno = ENOENT;
    syslog(LOG_WARNING, "disk %d: %m", 7);
    arrived("warning");
    syslog(LOG_LOCAL7 | LOG_ERR, "to another");
    arrived("facility");
    SAY("mask", "%x", (unsigned)setlogmask(LOG_UPTO(LOG_ERR)));
    syslog(LOG_INFO, "not for the log");
    arrived("masked");
    SAY("mask", "%x", (unsigned)setlogmask(0));
    closelog();
    openlog("again", LOG_NDELAY, LOG_USER);
    syslog(LOG_CRIT, "%s", "opened again");
    arrived("again");
    closelog();
    MUST(close(log_fd));
    MUST(unlink("/dev/log"));
    syslog(LOG_CRIT, "to no one");
    SAY("ends", "%s", "well");
    return 0;
}
