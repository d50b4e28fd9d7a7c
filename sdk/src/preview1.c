// The functions of preview 1 as wasi-libc calls them, in place of __wasilibc_real.o of wasi-libc: each runs the handlers
// of signals that have come, before and after the call. So every function of libc does, stdio's too.
#include "internal.h"

#include <wasi/api.h>

// IMPORT(NAME, PARAMETERS): an import of preview 1.
#define IMPORT(name, ...) \
    __attribute__((__import_module__("wasi_snapshot_preview1"), __import_name__(#name))) uint16_t import_##name(__VA_ARGS__)

// DEFINE(HOW, NAME, PARAMETERS, ARGUMENTS OF THE IMPORT)
#define DEFINE(how, name, parameters, arguments) \
    __wasi_errno_t __wasi_##name parameters { return how(import_##name arguments); }

IMPORT(args_get, uint8_t **argv, uint8_t *argv_buf);
DEFINE(RESTARTED, args_get, (uint8_t **argv, uint8_t *argv_buf), (argv, argv_buf))

IMPORT(args_sizes_get, __wasi_size_t *result, __wasi_size_t *second);
DEFINE(RESTARTED, args_sizes_get, (__wasi_size_t *result, __wasi_size_t *second), (result, second))

IMPORT(environ_get, uint8_t **environ, uint8_t *environ_buf);
DEFINE(RESTARTED, environ_get, (uint8_t **environ, uint8_t *environ_buf), (environ, environ_buf))

IMPORT(environ_sizes_get, __wasi_size_t *result, __wasi_size_t *second);
DEFINE(RESTARTED, environ_sizes_get, (__wasi_size_t *result, __wasi_size_t *second), (result, second))

IMPORT(clock_res_get, __wasi_clockid_t id, __wasi_timestamp_t *result);
DEFINE(RESTARTED, clock_res_get, (__wasi_clockid_t id, __wasi_timestamp_t *result), (id, result))

IMPORT(clock_time_get, __wasi_clockid_t id, __wasi_timestamp_t precision, __wasi_timestamp_t *result);
DEFINE(RESTARTED, clock_time_get, (__wasi_clockid_t id, __wasi_timestamp_t precision, __wasi_timestamp_t *result),
       (id, precision, result))

IMPORT(fd_advise, __wasi_fd_t fd, __wasi_filesize_t offset, __wasi_filesize_t len, __wasi_advice_t advice);
DEFINE(RESTARTED, fd_advise, (__wasi_fd_t fd, __wasi_filesize_t offset, __wasi_filesize_t len,
       __wasi_advice_t advice), (fd, offset, len, advice))

IMPORT(fd_allocate, __wasi_fd_t fd, __wasi_filesize_t offset, __wasi_filesize_t len);
DEFINE(RESTARTED, fd_allocate, (__wasi_fd_t fd, __wasi_filesize_t offset, __wasi_filesize_t len), (fd, offset, len))

IMPORT(fd_close, __wasi_fd_t fd);
DEFINE(RESTARTED, fd_close, (__wasi_fd_t fd), (fd))

IMPORT(fd_datasync, __wasi_fd_t fd);
DEFINE(RESTARTED, fd_datasync, (__wasi_fd_t fd), (fd))

IMPORT(fd_fdstat_get, __wasi_fd_t fd, __wasi_fdstat_t *result);
DEFINE(RESTARTED, fd_fdstat_get, (__wasi_fd_t fd, __wasi_fdstat_t *result), (fd, result))

IMPORT(fd_fdstat_set_flags, __wasi_fd_t fd, __wasi_fdflags_t flags);
DEFINE(RESTARTED, fd_fdstat_set_flags, (__wasi_fd_t fd, __wasi_fdflags_t flags), (fd, flags))

IMPORT(fd_fdstat_set_rights, __wasi_fd_t fd, __wasi_rights_t fs_rights_base, __wasi_rights_t fs_rights_inheriting);
DEFINE(RESTARTED, fd_fdstat_set_rights, (__wasi_fd_t fd, __wasi_rights_t fs_rights_base,
       __wasi_rights_t fs_rights_inheriting), (fd, fs_rights_base, fs_rights_inheriting))

IMPORT(fd_filestat_get, __wasi_fd_t fd, __wasi_filestat_t *result);
DEFINE(RESTARTED, fd_filestat_get, (__wasi_fd_t fd, __wasi_filestat_t *result), (fd, result))

IMPORT(fd_filestat_set_size, __wasi_fd_t fd, __wasi_filesize_t size);
DEFINE(RESTARTED, fd_filestat_set_size, (__wasi_fd_t fd, __wasi_filesize_t size), (fd, size))

IMPORT(fd_filestat_set_times, __wasi_fd_t fd, __wasi_timestamp_t atim, __wasi_timestamp_t mtim,
       __wasi_fstflags_t fst_flags);
DEFINE(RESTARTED, fd_filestat_set_times, (__wasi_fd_t fd, __wasi_timestamp_t atim, __wasi_timestamp_t mtim,
       __wasi_fstflags_t fst_flags), (fd, atim, mtim, fst_flags))

IMPORT(fd_pread, __wasi_fd_t fd, const __wasi_iovec_t *iovs, size_t iovs_len, __wasi_filesize_t offset,
       __wasi_size_t *result);
DEFINE(RESTARTED, fd_pread, (__wasi_fd_t fd, const __wasi_iovec_t *iovs, size_t iovs_len, __wasi_filesize_t offset,
       __wasi_size_t *result), (fd, iovs, iovs_len, offset, result))

IMPORT(fd_prestat_get, __wasi_fd_t fd, __wasi_prestat_t *result);
DEFINE(RESTARTED, fd_prestat_get, (__wasi_fd_t fd, __wasi_prestat_t *result), (fd, result))

IMPORT(fd_prestat_dir_name, __wasi_fd_t fd, uint8_t *path, __wasi_size_t path_len);
DEFINE(RESTARTED, fd_prestat_dir_name, (__wasi_fd_t fd, uint8_t *path, __wasi_size_t path_len), (fd, path, path_len))

IMPORT(fd_pwrite, __wasi_fd_t fd, const __wasi_ciovec_t *iovs, size_t iovs_len, __wasi_filesize_t offset,
       __wasi_size_t *result);
DEFINE(RESTARTED, fd_pwrite, (__wasi_fd_t fd, const __wasi_ciovec_t *iovs, size_t iovs_len, __wasi_filesize_t offset,
       __wasi_size_t *result), (fd, iovs, iovs_len, offset, result))

IMPORT(fd_read, __wasi_fd_t fd, const __wasi_iovec_t *iovs, size_t iovs_len, __wasi_size_t *result);
DEFINE(RESTARTED_READ, fd_read, (__wasi_fd_t fd, const __wasi_iovec_t *iovs, size_t iovs_len, __wasi_size_t *result), (fd,
       iovs, iovs_len, result))

IMPORT(fd_readdir, __wasi_fd_t fd, uint8_t *buf, __wasi_size_t buf_len, __wasi_dircookie_t cookie,
       __wasi_size_t *result);
DEFINE(RESTARTED, fd_readdir, (__wasi_fd_t fd, uint8_t *buf, __wasi_size_t buf_len, __wasi_dircookie_t cookie,
       __wasi_size_t *result), (fd, buf, buf_len, cookie, result))

IMPORT(fd_renumber, __wasi_fd_t fd, __wasi_fd_t to);
DEFINE(RESTARTED, fd_renumber, (__wasi_fd_t fd, __wasi_fd_t to), (fd, to))

IMPORT(fd_seek, __wasi_fd_t fd, __wasi_filedelta_t offset, __wasi_whence_t whence, __wasi_filesize_t *result);
DEFINE(RESTARTED, fd_seek, (__wasi_fd_t fd, __wasi_filedelta_t offset, __wasi_whence_t whence,
       __wasi_filesize_t *result), (fd, offset, whence, result))

IMPORT(fd_sync, __wasi_fd_t fd);
DEFINE(RESTARTED, fd_sync, (__wasi_fd_t fd), (fd))

IMPORT(fd_tell, __wasi_fd_t fd, __wasi_filesize_t *result);
DEFINE(RESTARTED, fd_tell, (__wasi_fd_t fd, __wasi_filesize_t *result), (fd, result))

IMPORT(fd_write, __wasi_fd_t fd, const __wasi_ciovec_t *iovs, size_t iovs_len, __wasi_size_t *result);
DEFINE(RESTARTED_WRITE, fd_write, (__wasi_fd_t fd, const __wasi_ciovec_t *iovs, size_t iovs_len, __wasi_size_t *result),
       (fd, iovs, iovs_len, result))

IMPORT(path_create_directory, __wasi_fd_t fd, const char *path, size_t path_len);
DEFINE(RESTARTED, path_create_directory, (__wasi_fd_t fd, const char *path), (fd, path, strlen(path)))

IMPORT(path_filestat_get, __wasi_fd_t fd, __wasi_lookupflags_t flags, const char *path, size_t path_len,
       __wasi_filestat_t *result);
DEFINE(RESTARTED, path_filestat_get, (__wasi_fd_t fd, __wasi_lookupflags_t flags, const char *path,
       __wasi_filestat_t *result), (fd, flags, path, strlen(path), result))

IMPORT(path_filestat_set_times, __wasi_fd_t fd, __wasi_lookupflags_t flags, const char *path, size_t path_len,
       __wasi_timestamp_t atim, __wasi_timestamp_t mtim, __wasi_fstflags_t fst_flags);
DEFINE(RESTARTED, path_filestat_set_times, (__wasi_fd_t fd, __wasi_lookupflags_t flags, const char *path,
       __wasi_timestamp_t atim, __wasi_timestamp_t mtim, __wasi_fstflags_t fst_flags), (fd, flags, path,
       strlen(path), atim, mtim, fst_flags))

IMPORT(path_link, __wasi_fd_t old_fd, __wasi_lookupflags_t old_flags, const char *old_path, size_t old_path_len,
       __wasi_fd_t new_fd, const char *new_path, size_t new_path_len);
DEFINE(RESTARTED, path_link, (__wasi_fd_t old_fd, __wasi_lookupflags_t old_flags, const char *old_path,
       __wasi_fd_t new_fd, const char *new_path), (old_fd, old_flags, old_path, strlen(old_path), new_fd, new_path,
       strlen(new_path)))

IMPORT(path_open, __wasi_fd_t fd, __wasi_lookupflags_t dirflags, const char *path, size_t path_len,
       __wasi_oflags_t oflags, __wasi_rights_t fs_rights_base, __wasi_rights_t fs_rights_inheriting,
       __wasi_fdflags_t fdflags, __wasi_fd_t *result);
DEFINE(RESTARTED, path_open, (__wasi_fd_t fd, __wasi_lookupflags_t dirflags, const char *path,
       __wasi_oflags_t oflags, __wasi_rights_t fs_rights_base, __wasi_rights_t fs_rights_inheriting,
       __wasi_fdflags_t fdflags, __wasi_fd_t *result), (fd, dirflags, path, strlen(path), oflags, fs_rights_base,
       fs_rights_inheriting, fdflags, result))

IMPORT(path_readlink, __wasi_fd_t fd, const char *path, size_t path_len, uint8_t *buf, __wasi_size_t buf_len,
       __wasi_size_t *result);
DEFINE(RESTARTED, path_readlink, (__wasi_fd_t fd, const char *path, uint8_t *buf, __wasi_size_t buf_len,
       __wasi_size_t *result), (fd, path, strlen(path), buf, buf_len, result))

IMPORT(path_remove_directory, __wasi_fd_t fd, const char *path, size_t path_len);
DEFINE(RESTARTED, path_remove_directory, (__wasi_fd_t fd, const char *path), (fd, path, strlen(path)))

IMPORT(path_rename, __wasi_fd_t fd, const char *old_path, size_t old_path_len, __wasi_fd_t new_fd,
       const char *new_path, size_t new_path_len);
DEFINE(RESTARTED, path_rename, (__wasi_fd_t fd, const char *old_path, __wasi_fd_t new_fd, const char *new_path), (fd,
       old_path, strlen(old_path), new_fd, new_path, strlen(new_path)))

IMPORT(path_symlink, const char *old_path, size_t old_path_len, __wasi_fd_t fd, const char *new_path,
       size_t new_path_len);
DEFINE(RESTARTED, path_symlink, (const char *old_path, __wasi_fd_t fd, const char *new_path), (old_path,
       strlen(old_path), fd, new_path, strlen(new_path)))

IMPORT(path_unlink_file, __wasi_fd_t fd, const char *path, size_t path_len);
DEFINE(RESTARTED, path_unlink_file, (__wasi_fd_t fd, const char *path), (fd, path, strlen(path)))

IMPORT(poll_oneoff, const __wasi_subscription_t *in, __wasi_event_t *out, __wasi_size_t nsubscriptions,
       __wasi_size_t *result);
DEFINE(INTERRUPTIBLE, poll_oneoff, (const __wasi_subscription_t *in, __wasi_event_t *out,
       __wasi_size_t nsubscriptions, __wasi_size_t *result), (in, out, nsubscriptions, result))

IMPORT(sched_yield, void);
DEFINE(RESTARTED, sched_yield, (void), ())

IMPORT(random_get, uint8_t *buf, __wasi_size_t buf_len);
DEFINE(RESTARTED, random_get, (uint8_t *buf, __wasi_size_t buf_len), (buf, buf_len))

IMPORT(sock_accept, __wasi_fd_t fd, __wasi_fdflags_t flags, __wasi_fd_t *result);
DEFINE(RESTARTED_READ, sock_accept, (__wasi_fd_t fd, __wasi_fdflags_t flags, __wasi_fd_t *result), (fd, flags, result))

IMPORT(sock_recv, __wasi_fd_t fd, const __wasi_iovec_t *ri_data, size_t ri_data_len, __wasi_riflags_t ri_flags,
       __wasi_size_t *result, __wasi_roflags_t *second);
DEFINE(RESTARTED_READ, sock_recv, (__wasi_fd_t fd, const __wasi_iovec_t *ri_data, size_t ri_data_len,
       __wasi_riflags_t ri_flags, __wasi_size_t *result, __wasi_roflags_t *second), (fd, ri_data, ri_data_len,
       ri_flags, result, second))

IMPORT(sock_send, __wasi_fd_t fd, const __wasi_ciovec_t *si_data, size_t si_data_len, __wasi_siflags_t si_flags,
       __wasi_size_t *result);
DEFINE(RESTARTED_WRITE, sock_send, (__wasi_fd_t fd, const __wasi_ciovec_t *si_data, size_t si_data_len,
       __wasi_siflags_t si_flags, __wasi_size_t *result), (fd, si_data, si_data_len, si_flags, result))

IMPORT(sock_shutdown, __wasi_fd_t fd, __wasi_sdflags_t how);
DEFINE(RESTARTED, sock_shutdown, (__wasi_fd_t fd, __wasi_sdflags_t how), (fd, how))

__attribute__((__import_module__("wasi_snapshot_preview1"), __import_name__("proc_exit"), __noreturn__)) void
import_proc_exit(__wasi_exitcode_t code);

_Noreturn void __wasi_proc_exit(__wasi_exitcode_t code) {
    import_proc_exit(code);
}
