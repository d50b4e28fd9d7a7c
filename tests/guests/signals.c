// Signals: handlers, masks, waiting, alarms, and what a handler does to a call that blocks. Arguments: a folder to write
// in, or one of the verbs at the end, which a test watches from outside.
#include "say.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#ifdef __wasm__
#include <wasm-interp/signals.h>
#endif

static volatile sig_atomic_t counts[32];
static volatile sig_atomic_t last, depth, deepest, wake = -1;

static void count(int signal) {
    counts[signal]++;
    last = signal;
    if (++depth > deepest) deepest = depth;
    // What a restarted read then finds.
    if (wake >= 0 && write(wake, "x", 1) != 1) counts[0]++;
    depth--;
}

static void raise_again(int signal) {
    if (++depth > deepest) deepest = depth;
    if (++counts[signal] < 3) raise(signal);
    depth--;
}

static void inform(int signal, siginfo_t *info, void *context) {
    (void)context;
    counts[signal]++;
    last = info->si_signo;
}

static void handle(int signal, void (*handler)(int), int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    MUST(sigaction(signal, &action, NULL));
}

static void milliseconds(long value, long interval) {
    struct itimerval timer = {{0, interval * 1000}, {0, value * 1000}};
    MUST(setitimer(ITIMER_REAL, &timer, NULL));
}

static const char *action_name(int signal) {
    struct sigaction action;
    if (sigaction(signal, NULL, &action)) return error_name(errno);
    return action.sa_handler == SIG_DFL ? "default" : action.sa_handler == SIG_IGN ? "ignore" : "handler";
}

static void handlers(void) {
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGPIPE, SIGALRM};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        int signal = numbers[i];
        SAY("before", "%d %s %s", signal, strsignal(signal), action_name(signal));
        handle(signal, count, 0);
        MUST(raise(signal));
        SAY("raised", "%d count %d %s", (int)last, (int)counts[signal], action_name(signal));
        MUST(kill(getpid(), signal));
        SAY("killed", "%d count %d", (int)last, (int)counts[signal]);
        handle(signal, SIG_IGN, 0);
        MUST(raise(signal));
        SAY("ignored", "count %d %s", (int)counts[signal], action_name(signal));
        handle(signal, SIG_DFL, 0);
    }
    struct sigaction action = {.sa_handler = count};
    TRY(sigaction(SIGKILL, &action, NULL));
    TRY(sigaction(SIGSTOP, &action, NULL));
    TRY(sigaction(0, &action, NULL));
    TRY(kill(getpid(), 0));
    // A number that no process has, whatever else runs.
    TRY(kill(INT_MAX, 0));
    SAY("signal", "%s", signal(SIGUSR1, count) == SIG_DFL ? "was default" : "?");
    SAY("signal", "%s", signal(SIGUSR1, SIG_IGN) == count ? "was ours" : "?");
    SAY("signal", "%s", signal(SIGUSR1, SIG_DFL) == SIG_IGN ? "was ignored" : "?");
    SAY("winch by default", "%d", raise(SIGWINCH));
    SAY("chld by default", "%d", raise(SIGCHLD));

    handle(SIGUSR1, count, SA_RESETHAND);
    MUST(raise(SIGUSR1));
    SAY("once", "count %d %s", (int)counts[SIGUSR1], action_name(SIGUSR1));

    counts[SIGUSR1] = deepest = 0;
    handle(SIGUSR1, raise_again, 0);
    MUST(raise(SIGUSR1));
    SAY("raised in its handler", "count %d depth %d", (int)counts[SIGUSR1], (int)deepest);
    counts[SIGUSR1] = deepest = 0;
    handle(SIGUSR1, raise_again, SA_NODEFER);
    MUST(raise(SIGUSR1));
    SAY("the same without deferring", "count %d depth %d", (int)counts[SIGUSR1], (int)deepest);

    struct sigaction informed = {.sa_sigaction = inform, .sa_flags = SA_SIGINFO};
    MUST(sigaction(SIGUSR2, &informed, NULL));
    MUST(raise(SIGUSR2));
    SAY("siginfo", "%d", (int)last);
}

static void masks(void) {
    sigset_t set, old, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGTERM);
    SAY("members", "%d %d %d", sigismember(&set, SIGUSR1), sigismember(&set, SIGUSR2), sigismember(&set, SIGTERM));
    TRY(sigaddset(&set, 65));
    handle(SIGUSR1, count, 0);
    handle(SIGTERM, SIG_DFL, 0);
    counts[SIGUSR1] = 0;
    MUST(sigprocmask(SIG_BLOCK, &set, &old));
    SAY("mask before", "%d", sigismember(&old, SIGUSR1));
    MUST(raise(SIGUSR1));
    MUST(raise(SIGUSR1));
    // Its default action waits too.
    MUST(raise(SIGTERM));
    MUST(sigpending(&pending));
    SAY("masked", "count %d pending %d %d", (int)counts[SIGUSR1], sigismember(&pending, SIGUSR1),
        sigismember(&pending, SIGTERM));
    // To ignore it drops it.
    handle(SIGTERM, SIG_IGN, 0);
    MUST(sigpending(&pending));
    SAY("dropped", "%d", sigismember(&pending, SIGTERM));
    sigdelset(&set, SIGTERM);
    MUST(sigprocmask(SIG_UNBLOCK, &set, NULL));
    SAY("unmasked", "count %d", (int)counts[SIGUSR1]);
    MUST(sigprocmask(SIG_SETMASK, &old, NULL));
    TRY(sigprocmask(77, &set, NULL));

    // A handler's own mask: the second signal waits for the end of the first handler.
    struct sigaction action = {.sa_handler = raise_again};
    sigemptyset(&action.sa_mask);
    counts[SIGUSR2] = deepest = 0;
    MUST(sigaction(SIGUSR2, &action, NULL));
    MUST(raise(SIGUSR2));
    SAY("deferred", "count %d depth %d", (int)counts[SIGUSR2], (int)deepest);
}

static void waiting(void) {
    sigset_t set, none;
    sigemptyset(&none);
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    handle(SIGALRM, count, 0);
    counts[SIGALRM] = 0;
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
    milliseconds(20, 0);
    TRY(sigsuspend(&none));
    SAY("suspended", "count %d", (int)counts[SIGALRM]);
    milliseconds(20, 0);
    int signal = 0;
    SAY("sigwait", "%d", sigwait(&set, &signal));
    SAY("signal", "%d count %d", signal, (int)counts[SIGALRM]);
    struct timespec tick = {0, 10000000};
    TRY(sigtimedwait(&set, NULL, &tick));
    milliseconds(20, 0);
    siginfo_t info;
    SAY("sigwaitinfo", "%d", sigwaitinfo(&set, &info));
    SAY("info", "%d", info.si_signo);
    MUST(sigprocmask(SIG_UNBLOCK, &set, NULL));
    milliseconds(20, 20);
    TRY(pause());
    milliseconds(0, 0);
    milliseconds(10, 10);
    int seen = counts[SIGALRM];
    while (counts[SIGALRM] < seen + 4) pause();
    milliseconds(0, 0);
    SAY("repeated", "%s", "often");
    SAY("alarm", "%u", alarm(100));
    unsigned left = alarm(0);
    SAY("alarm left", "%s", left > 50 && left <= 100 ? "most of it" : "?");
    SAY("alarm", "%u", alarm(0));
    struct itimerval timer;
    MUST(getitimer(ITIMER_REAL, &timer));
    SAY("unset", "%ld %ld", (long)timer.it_value.tv_sec, (long)timer.it_value.tv_usec);
}

// A signal that is pending under the mask of the wait ends it, also one that takes no time.
static void masks_of_waits(void) {
    sigset_t set, none;
    sigemptyset(&none);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    handle(SIGUSR1, count, 0);
    counts[SIGUSR1] = 0;
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
    struct timespec no_time = {0, 0};
    TRY(ppoll(NULL, 0, &no_time, &none));
    MUST(raise(SIGUSR1));
    TRY(ppoll(NULL, 0, &no_time, &set));
    TRY(ppoll(NULL, 0, &no_time, &none));
    SAY("ppoll", "count %d", (int)counts[SIGUSR1]);
    MUST(raise(SIGUSR1));
    TRY(pselect(0, NULL, NULL, NULL, &no_time, &none));
    SAY("pselect", "count %d", (int)counts[SIGUSR1]);
    TRY(ppoll(NULL, 0, &no_time, &none));
    MUST(sigprocmask(SIG_UNBLOCK, &set, NULL));
}

// A FIFO with both ends open, so that it neither ends nor blocks when it is opened.
static int fifo(const char *name) {
    MUST(mkfifo(name, 0600));
    int fd = open(name, O_RDWR);
    MUST(fd);
    return fd;
}

static void interrupted(int flags) {
    handle(SIGALRM, count, flags);
    const char *how = flags & SA_RESTART ? "restarts" : "interrupts";
    int fd = fifo("fifo"), quiet = fifo("quiet");
    char byte = '-';

    // Again and again: one that comes before the call has begun would be of no use.
    wake = flags & SA_RESTART ? fd : -1;
    milliseconds(20, 20);
    errno = 0;
    ssize_t length = read(fd, &byte, 1);
    SAY("read", "%s: %d %c %s", how, (int)length, byte, length < 0 ? error_name(errno) : "");
    wake = -1;

    struct pollfd wanted = {.fd = quiet, .events = POLLIN};
    TRY(poll(&wanted, 1, 60000));
    struct timespec hour = {3600, 0}, left = {0, 0};
    TRY(nanosleep(&hour, &left));
    SAY("nanosleep", "%s: %d", how, left.tv_sec > 3000 && left.tv_sec < 3600);
    unsigned rest = sleep(3600);
    SAY("sleep", "%s: %s", how, rest > 3000 && rest <= 3600 ? "an hour left" : "?");
    unlink("fifo");
    unlink("quiet");

    if (!(flags & SA_RESTART)) {
        // No process has the other end.
        MUST(mkfifo("lonely", 0600));
        TRY(open("lonely", O_RDONLY));
        TRY(open("lonely", O_WRONLY));
        unlink("lonely");
        int held = open("lock", O_RDWR | O_CREAT, 0600), second = open("lock", O_RDWR);
        MUST(flock(held, LOCK_EX));
        TRY(flock(second, LOCK_EX));
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        MUST(flock(held, LOCK_UN));
        MUST(fcntl(held, F_OFD_SETLK, &lock));
        TRY(fcntl(second, F_OFD_SETLKW, &lock));
        close(held);
        close(second);
    }
    milliseconds(0, 0);
    close(fd);
    close(quiet);
}

static void stdio(void) {
    // A handler in the middle of buffered output, and a write that is longer than a pipe: nothing is lost.
    handle(SIGALRM, count, SA_RESTART);
    counts[SIGALRM] = 0;
    milliseconds(1, 1);
    FILE *file = fopen("numbers", "w");
    long sum = 0, read_sum = 0, value;
    for (long i = 0; i < 200000; i++) {
        fprintf(file, "%ld\n", i);
        sum += i;
    }
    fclose(file);
    file = fopen("numbers", "r");
    while (fscanf(file, "%ld", &value) == 1) read_sum += value;
    milliseconds(0, 0);
    fclose(file);
    SAY("numbers", "%s, handlers ran: %d", sum == read_sum ? "all" : "lost", counts[SIGALRM] > 0);
}

static void broken_pipe(void) {
    MUST(mkfifo("broken", 0600));
    int reader = open("broken", O_RDONLY | O_NONBLOCK), writer = open("broken", O_WRONLY);
    MUST(reader);
    MUST(writer);
    handle(SIGPIPE, count, 0);
    counts[SIGPIPE] = 0;
    close(reader);
    TRY(write(writer, "x", 1));
    SAY("handled", "count %d", (int)counts[SIGPIPE]);
    handle(SIGPIPE, SIG_IGN, 0);
    TRY(write(writer, "x", 1));
    SAY("ignored", "count %d", (int)counts[SIGPIPE]);
    close(writer);

    // Of sockets a stream has the signal, and once; a datagram has none.
    handle(SIGPIPE, count, 0);
    for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++) {
        int pair[2];
        MUST(socketpair(AF_UNIX, type, 0, pair));
        MUST(shutdown(pair[0], SHUT_WR));
        counts[SIGPIPE] = 0;
        TRY(send(pair[0], "x", 1, 0));
        SAY("sent", "type %d, count %d", type, (int)counts[SIGPIPE]);
        TRY(send(pair[0], "x", 1, MSG_NOSIGNAL));
        SAY("sent without it", "type %d, count %d", type, (int)counts[SIGPIPE]);
        close(pair[0]);
        close(pair[1]);
    }
}

static int silent = -1;

static void give_in(int signal) {
    count(signal);
    // For a call that is made again and again.
    if (counts[SIGALRM] % 100 == 0 && write(silent, "x", 1) != 1) counts[0]++;
}

// A socket with a time-out: with a handler that has SA_RESTART too, its calls are not made again.
static void timed(void) {
    int pair[2];
    char byte;
    struct timeval minute = {60, 0};
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    silent = pair[1];
    MUST(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &minute, sizeof minute));
    handle(SIGALRM, give_in, SA_RESTART);
    counts[SIGALRM] = 0;
    milliseconds(20, 20);
    TRY(recv(pair[0], &byte, 1, 0));
    TRY(read(pair[0], &byte, 1));
    // Without one, they are.
    struct timeval for_ever = {0, 0};
    MUST(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &for_ever, sizeof for_ever));
    TRY(recv(pair[0], &byte, 1, 0));
    milliseconds(0, 0);
    close(pair[0]);
    close(pair[1]);
}

static int crowded = -1;

static void make_room(int signal) {
    count(signal);
    if (counts[SIGALRM] == 3) MUST(accept(crowded, NULL, NULL));
}

// One that waits for a listener without room, while signals come.
static void connection(const char *folder, int flags) {
    const char *how = flags & SA_RESTART ? "restarts" : "interrupts";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/crowded", folder);
    MUST(crowded = socket(AF_UNIX, SOCK_STREAM, 0));
    MUST(bind(crowded, (struct sockaddr *)&address, sizeof address));
    MUST(listen(crowded, 0));
    int first = socket(AF_UNIX, SOCK_STREAM, 0), second = socket(AF_UNIX, SOCK_STREAM, 0);
    MUST(connect(first, (struct sockaddr *)&address, sizeof address));
    handle(SIGALRM, make_room, flags);
    counts[SIGALRM] = 0;
    milliseconds(20, 20);
    int connected = connect(second, (struct sockaddr *)&address, sizeof address);
    SAY("connect", "%s: %d %s", how, connected, connected < 0 ? error_name(errno) : "");
    milliseconds(0, 0);
    close(first);
    close(second);
    close(crowded);
    unlink(address.sun_path);
}

static void finish(int signal) {
    // Not by stdio, which the signal may have interrupted.
    char text[] = {'g', 'o', 't', ' ', '0' + signal / 10, '0' + signal % 10, '\n'};
    _exit(write(1, text, sizeof text) == sizeof text ? 3 : 4);
}

static void ready(void) {
    puts("ready");
    fflush(stdout);
}

int main(int count_of_words, char **words) {
    const char *verb = count_of_words > 1 ? words[1] : "/";
    if (!strcmp(verb, "graceful")) {
        // TERM ends a wait, and the program says goodbye.
        handle(SIGTERM, count, 0);
        sigset_t set, old;
        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        // One that comes before the wait ends it too.
        MUST(sigprocmask(SIG_BLOCK, &set, &old));
        ready();
        while (!counts[SIGTERM]) sigsuspend(&old);
        puts("goodbye");
        return 7;
    }
    if (!strcmp(verb, "reader")) {
        handle(SIGTERM, finish, 0);
        handle(SIGWINCH, count, SA_RESTART);
        ready();
        char line[100];
        while (fgets(line, sizeof line, stdin)) SAY("line", "%d bytes, %d sizes", (int)strlen(line), (int)counts[SIGWINCH]);
        return 0;
    }
    if (!strcmp(verb, "busy")) {
        // Computes without a call: an interpreter's loop.
        handle(SIGTERM, finish, 0);
        ready();
#ifdef __wasm__
        // What a look before the loop has seen is not what those in it see.
        if (wasm_interp_signal_is_pending()) wasm_interp_run_signal_handlers();
#endif
        for (;;) {
#ifdef __wasm__
            if (wasm_interp_signal_is_pending()) wasm_interp_run_signal_handlers();
#endif
        }
    }
    if (!strcmp(verb, "deaf")) {
        handle(SIGTERM, finish, 0);
        ready();
        for (volatile unsigned i = 0;; i++) {}
    }
    if (!strcmp(verb, "default")) {
        // It handles another signal alone.
        handle(SIGUSR1, count, 0);
        ready();
        if (count_of_words > 2)
            for (volatile unsigned i = 0;; i++) {}
        for (;;) pause();
    }
    MUST(chdir(verb));
    handlers();
    masks();
    waiting();
    masks_of_waits();
    interrupted(0);
    interrupted(SA_RESTART);
    stdio();
    broken_pipe();
    timed();
    connection(verb, 0);
    connection(verb, SA_RESTART);
    return 0;
}
