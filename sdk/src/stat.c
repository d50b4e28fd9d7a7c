// stat, access and statvfs in all their forms, with owner, mode and signed times.
#include "internal.h"

#include <sys/statvfs.h>

static struct timespec time_of(struct v1_timespec time) {
    return (struct timespec){.tv_sec = time.sec, .tv_nsec = time.nsec};
}

static int stat_result(uint16_t error, const struct v1_stat *from, struct stat *to) {
    if (error != 0) return posix_result(error);
    *to = (struct stat){
        .st_dev = from->dev,
        .st_ino = from->ino,
        .st_nlink = from->nlink,
        .st_mode = from->mode,
        .st_uid = from->uid,
        .st_gid = from->gid,
        .st_rdev = from->rdev,
        .st_size = from->size,
        .st_blksize = from->blksize,
        .st_blocks = from->blocks,
        .st_atim = time_of(from->atim),
        .st_mtim = time_of(from->mtim),
        .st_ctim = time_of(from->ctim),
    };
    return 0;
}

int fstatat(int dirfd, const char *restrict path, struct stat *restrict buffer, int flags) {
    struct at_path at;
    struct v1_stat stat;
    if (!__posix_at(&at, dirfd, path)) return -1;
    uint16_t error = __posix_v1_fstatat(at.fd, follow_unless(flags, AT_SYMLINK_NOFOLLOW), at.path, at.len, &stat);
    return stat_result(error, &stat, buffer);
}

int stat(const char *restrict path, struct stat *restrict buffer) {
    return fstatat(AT_FDCWD, path, buffer, 0);
}

int lstat(const char *restrict path, struct stat *restrict buffer) {
    return fstatat(AT_FDCWD, path, buffer, AT_SYMLINK_NOFOLLOW);
}

int fstat(int fd, struct stat *buffer) {
    struct v1_stat stat;
    uint16_t error = __posix_v1_fstat(fd, &stat);
    return stat_result(error, &stat, buffer);
}

int __wasilibc_stat(const char *restrict path, struct stat *restrict buffer, int flags) {
    return fstatat(AT_FDCWD, path, buffer, flags);
}

static int access_at(int dirfd, const char *path, int mode, int flags, uint32_t ids) {
    if (mode & ~(R_OK | W_OK | X_OK)) {
        errno = EINVAL;
        return -1;
    }
    uint32_t access = (mode & R_OK ? V1_READ : 0) | (mode & W_OK ? V1_WRITE : 0) | (mode & X_OK ? V1_EXECUTE : 0);
    struct at_path at;
    if (!__posix_at(&at, dirfd, path)) return -1;
    return posix_result(
        __posix_v1_faccessat(at.fd, follow_unless(flags, AT_SYMLINK_NOFOLLOW), at.path, at.len, access, ids));
}

// AT_EACCESS is 0 in wasi-libc: a program cannot ask for it. The two kinds of ids are the same here.
int faccessat(int dirfd, const char *path, int mode, int flags) {
    return access_at(dirfd, path, mode, flags, 0);
}

int access(const char *path, int mode) {
    return access_at(AT_FDCWD, path, mode, 0, 0);
}

int __wasilibc_access(const char *path, int mode, int flags) {
    return access_at(AT_FDCWD, path, mode, flags, 0);
}

int euidaccess(const char *path, int mode) {
    return access_at(AT_FDCWD, path, mode, 0, V1_EFFECTIVE);
}

int eaccess(const char *path, int mode) {
    return euidaccess(path, mode);
}

static int statvfs_result(uint16_t error, const struct v1_statvfs *from, struct statvfs *to) {
    if (error != 0) return posix_result(error);
    *to = (struct statvfs){
        .f_bsize = from->bsize,
        .f_frsize = from->frsize,
        .f_blocks = from->blocks,
        .f_bfree = from->bfree,
        .f_bavail = from->bavail,
        .f_files = from->files,
        .f_ffree = from->ffree,
        .f_favail = from->favail,
        .f_fsid = from->fsid,
        .f_flag = from->flag,
        .f_namemax = from->namemax,
    };
    return 0;
}

int statvfs(const char *restrict path, struct statvfs *restrict buffer) {
    struct at_path at;
    struct v1_statvfs statvfs;
    if (!__posix_at(&at, AT_FDCWD, path)) return -1;
    uint16_t error = __posix_v1_statvfsat(at.fd, at.path, at.len, &statvfs);
    return statvfs_result(error, &statvfs, buffer);
}

int fstatvfs(int fd, struct statvfs *buffer) {
    struct v1_statvfs statvfs;
    uint16_t error = __posix_v1_fstatvfs(fd, &statvfs);
    return statvfs_result(error, &statvfs, buffer);
}
