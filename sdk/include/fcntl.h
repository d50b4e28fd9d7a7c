// Adds to wasi-libc's <fcntl.h> what preview 1 lacks: record locks, further descriptors of a file.
#include_next <fcntl.h>

#ifndef _WASM_INTERP_FCNTL_H
#define _WASM_INTERP_FCNTL_H

#define F_DUPFD 0
#define F_DUPFD_CLOEXEC 1030

#define F_GETLK 5
#define F_SETLK 6
#define F_SETLKW 7
#define F_OFD_GETLK 36
#define F_OFD_SETLK 37
#define F_OFD_SETLKW 38

#define F_RDLCK 0
#define F_WRLCK 1
#define F_UNLCK 2

#endif
