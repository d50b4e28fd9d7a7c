// Adds to wasi-libc's <sys/ioctl.h> the size of a terminal.
#include_next <sys/ioctl.h>

#ifndef _WASM_INTERP_SYS_IOCTL_H
#define _WASM_INTERP_SYS_IOCTL_H

#define __NEED_struct_winsize
#include <bits/alltypes.h>

#define TIOCGWINSZ 0x5413

#endif
