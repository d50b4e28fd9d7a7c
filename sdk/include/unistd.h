// Adds to wasi-libc's <unistd.h> what preview 1 lacks: owners, ids, lockf, alarm, further descriptors of a
// file, pipes.
#include_next <unistd.h>

#ifndef _WASM_INTERP_UNISTD_H
#define _WASM_INTERP_UNISTD_H

#ifdef __cplusplus
extern "C" {
#endif

int chown(const char *, uid_t, gid_t);
int fchown(int, uid_t, gid_t);
int lchown(const char *, uid_t, gid_t);
int fchownat(int, const char *, uid_t, gid_t, int);

uid_t getuid(void);
uid_t geteuid(void);
gid_t getgid(void);
gid_t getegid(void);
int getgroups(int, gid_t[]);
pid_t getppid(void);

int fchdir(int);

unsigned alarm(unsigned);
int pause(void);

int dup(int);
int dup2(int, int);
int dup3(int, int, int);
int pipe(int[2]);
int pipe2(int[2], int);

#if defined(_XOPEN_SOURCE) || defined(_GNU_SOURCE) || defined(_BSD_SOURCE)
#define F_ULOCK 0
#define F_LOCK 1
#define F_TLOCK 2
#define F_TEST 3
int lockf(int, int, off_t);
#endif

// wasi-libc's does not know how many descriptors there may be.
long sysconf(int) __asm__("__posix_sysconf");

#if defined(_GNU_SOURCE) || defined(_BSD_SOURCE) || defined(_DEFAULT_SOURCE)
void closefrom(int);
int getdtablesize(void);
#endif

#ifdef _GNU_SOURCE
#define CLOSE_RANGE_UNSHARE 2
#define CLOSE_RANGE_CLOEXEC 4
int close_range(unsigned, unsigned, int);
int euidaccess(const char *, int);
int eaccess(const char *, int);
#endif

#ifdef __cplusplus
}
#endif

#endif
