// The old name of <poll.h>, without wasi-libc's warning about it.
#include <poll.h>
