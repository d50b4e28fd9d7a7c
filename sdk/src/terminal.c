// Terminals: the size and the settings of a standard stream, and ioctl, in place of ioctl.o of wasi-libc.
#include "internal.h"

#include <stdarg.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <wasi/api.h>

// The kernel's number of control characters; the rest of NCCS is unused.
enum { CC = 19 };

int tcgetattr(int fd, struct termios *termios) {
    struct v1_termios now;
    if (posix_result(RESTARTED(__posix_v1_tcgetattr(fd, &now)))) return -1;
    *termios = (struct termios){
        .c_iflag = now.iflag,
        .c_oflag = now.oflag,
        .c_cflag = now.cflag,
        .c_lflag = now.lflag,
        .c_line = now.line,
        .__c_ispeed = now.cflag & CBAUD,
        .__c_ospeed = now.cflag & CBAUD,
    };
    memcpy(termios->c_cc, now.cc, CC);
    return 0;
}

static int set(int fd, uint32_t action, const struct termios *termios) {
    struct v1_termios new = {
        .iflag = termios->c_iflag,
        .oflag = termios->c_oflag,
        .cflag = termios->c_cflag,
        .lflag = termios->c_lflag,
        .line = termios->c_line,
    };
    memcpy(new.cc, termios->c_cc, CC);
    return posix_result(RESTARTED(__posix_v1_tcsetattr(fd, action, &new)));
}

int tcsetattr(int fd, int action, const struct termios *termios) {
    switch (action) {
    case TCSANOW: return set(fd, V1_TERMIOS_NOW, termios);
    case TCSADRAIN: return set(fd, V1_TERMIOS_DRAIN, termios);
    case TCSAFLUSH: return set(fd, V1_TERMIOS_FLUSH, termios);
    default: errno = EINVAL; return -1;
    }
}

// Sets what is set already, which waits for output to be sent.
int tcdrain(int fd) {
    struct termios now;
    return tcgetattr(fd, &now) ? -1 : set(fd, V1_TERMIOS_DRAIN, &now);
}

// Input goes with TCSAFLUSH. Output is with the terminal as soon as a write returns.
int tcflush(int fd, int queue) {
    struct termios now;
    if (queue != TCIFLUSH && queue != TCOFLUSH && queue != TCIOFLUSH) {
        errno = EINVAL;
        return -1;
    }
    if (tcgetattr(fd, &now)) return -1;
    if (queue != TCIFLUSH) {
        errno = ENOTSUP;
        return -1;
    }
    return set(fd, V1_TERMIOS_FLUSH, &now);
}

int tcflow(int fd, int action) {
    struct termios now;
    if (tcgetattr(fd, &now)) return -1;
    errno = action < TCOOFF || action > TCION ? EINVAL : ENOTSUP;
    return -1;
}

// A pseudoterminal has no line to break, so what is left is to wait for output, as on Linux.
int tcsendbreak(int fd, int duration) {
    (void)duration;
    return tcdrain(fd);
}

void cfmakeraw(struct termios *termios) {
    termios->c_iflag &= ~(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    termios->c_oflag &= ~OPOST;
    termios->c_lflag &= ~(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
    termios->c_cflag &= ~(CSIZE | PARENB);
    termios->c_cflag |= CS8;
    termios->c_cc[VMIN] = 1;
    termios->c_cc[VTIME] = 0;
}

speed_t cfgetospeed(const struct termios *termios) {
    return termios->c_cflag & CBAUD;
}

speed_t cfgetispeed(const struct termios *termios) {
    return cfgetospeed(termios);
}

int cfsetospeed(struct termios *termios, speed_t speed) {
    if (speed & ~CBAUD) {
        errno = EINVAL;
        return -1;
    }
    termios->c_cflag = (termios->c_cflag & ~CBAUD) | speed;
    return 0;
}

// 0 is the speed of output.
int cfsetispeed(struct termios *termios, speed_t speed) {
    return speed ? cfsetospeed(termios, speed) : 0;
}

int cfsetspeed(struct termios *termios, speed_t speed) {
    return cfsetospeed(termios, speed);
}

int tcgetwinsize(int fd, struct winsize *size) {
    struct v1_winsize now;
    if (posix_result(__posix_v1_tcgetwinsize(fd, &now))) return -1;
    *size = (struct winsize){now.row, now.col, now.xpixel, now.ypixel};
    return 0;
}

// How many bytes can be read, as poll_oneoff says.
static int readable(int fd, int *bytes) {
    __wasi_subscription_t wanted[2] = {
        {.userdata = 0, .u.tag = __WASI_EVENTTYPE_FD_READ, .u.u.fd_read.file_descriptor = fd},
        {.userdata = 1, .u.tag = __WASI_EVENTTYPE_CLOCK, .u.u.clock = {.id = __WASI_CLOCKID_MONOTONIC}},
    };
    __wasi_event_t events[2];
    __wasi_size_t count;
    if (posix_result(__wasi_poll_oneoff(wanted, events, 2, &count))) return -1;
    *bytes = 0;
    for (__wasi_size_t i = 0; i < count; i++) {
        if (events[i].userdata != 0) continue;
        if (events[i].error) return posix_result(events[i].error);
        *bytes = events[i].fd_readwrite.nbytes;
    }
    return 0;
}

static int set_nonblocking(int fd, _Bool nonblocking) {
    __wasi_fdstat_t status;
    if (posix_result(__wasi_fd_fdstat_get(fd, &status))) return -1;
    __wasi_fdflags_t flags = status.fs_flags & ~__WASI_FDFLAGS_NONBLOCK;
    if (nonblocking) flags |= __WASI_FDFLAGS_NONBLOCK;
    return posix_result(__wasi_fd_fdstat_set_flags(fd, flags));
}

int ioctl(int fd, int request, ...) {
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    switch (request) {
    case FIONREAD: return readable(fd, argument);
    case FIONBIO: return set_nonblocking(fd, *(int *)argument != 0);
    case TIOCGWINSZ: return tcgetwinsize(fd, argument);
    default: errno = ENOTTY; return -1;
    }
}
