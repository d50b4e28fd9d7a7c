// Terminals: whether standard input is one, its size and settings.
#include "say.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static volatile sig_atomic_t resized;

static void resize(int signal) {
    (void)signal;
    resized = 1;
}

static void size(void) {
    struct winsize size;
    if (ioctl(0, TIOCGWINSZ, &size)) SAY("size", "%s", error_name(errno));
    else SAY("size", "%d %d", size.ws_row, size.ws_col);
}

int main(int count, char **words) {
    SAY("isatty", "%d %d", isatty(0), isatty(1));
    size();
    struct termios old, raw, now;
    TRY(tcgetattr(0, &old));
    TRY(tcgetattr(1, &now));
    TRY(ioctl(0, 0x9999, &now));
    TRY(tcflush(0, TCIFLUSH));
    TRY(tcsendbreak(0, 0));
    if (!isatty(0)) return 0;
    SAY("modes", "%o %o %o %o", old.c_iflag, old.c_oflag, old.c_cflag, old.c_lflag);
    SAY("characters", "%d %d %d %d", old.c_cc[VINTR], old.c_cc[VEOF], old.c_cc[VMIN], old.c_cc[VERASE]);
    SAY("speed", "%o %o", cfgetispeed(&old), cfgetospeed(&old));
    raw = old;
    cfmakeraw(&raw);
    TRY(tcsetattr(0, TCSAFLUSH, &raw));
    MUST(tcgetattr(0, &now));
    SAY("raw", "%d %d", (now.c_lflag & (ECHO | ICANON)) == 0, now.c_cc[VMIN]);
    SAY("ready", "%s", "for a key");
    fflush(stdout);
    // Without a new line: in raw mode each byte comes by itself.
    char key = 0;
    if (read(0, &key, 1) == 1) SAY("key", "%c", key);
    TRY(tcdrain(0));
    TRY(tcflush(0, 99));
    TRY(tcflow(0, 99));
    TRY(tcsetattr(0, TCSADRAIN, &old));
    TRY(tcsetattr(0, 99, &old));
    MUST(tcgetattr(0, &now));
    SAY("again", "%d", now.c_lflag == old.c_lflag);
    if (count > 1 && !strcmp(words[1], "resize")) {
        struct sigaction action = {.sa_handler = resize};
        MUST(sigaction(SIGWINCH, &action, NULL));
        sigset_t set, old;
        sigemptyset(&set);
        sigaddset(&set, SIGWINCH);
        // One that comes before the wait ends it too.
        MUST(sigprocmask(SIG_BLOCK, &set, &old));
        SAY("ready", "%s", "for a size");
        fflush(stdout);
        while (!resized) sigsuspend(&old);
        size();
    }
    return 0;
}
