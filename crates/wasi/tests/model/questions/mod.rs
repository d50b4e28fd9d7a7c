//! What the test suite of WASI asks of preview 1 (github.com/WebAssembly/wasi-testsuite, its C and
//! Rust tests of November 2026), asked in our own words. Each function names the tests whose questions
//! it asks, and gives the answer of Linux.
//!
//! Where the suite demands that a path stays beneath the descriptor that it starts from, the answer
//! here is another one: a guest's root directory is the container's, which the kernel confines. These
//! are in [`CONFINEMENT`], one by one.
#![forbid(unsafe_code)]

mod asking;
mod descriptors;
mod paths;
mod process;

use descriptors::{
    advise_and_allocate, closed_root, files_calls_on_directories, flags_of_descriptors,
    read_and_write_at, removed_while_open, renumber, seek_and_tell, streams, truncate,
    write_at_with_append, write_then_read,
};
use paths::{
    above_the_start, absolute_link, access_modes, create_and_missing, hard_links, link_to_itself,
    links, list_directory, open_root, path_from_a_file, read_link, remove_full_directory, rename,
    seek_in_directory, set_times, stat_of_links, stat_of_paths, trailing_slashes,
};
use process::{
    arguments, clocks, poll, random_bytes, rights_are_not_kept, shutdown_of_no_socket,
    yield_processor,
};

use super::guest::GuestSide;

/// A question of the suite: the names of its tests, and what asks it.
pub(crate) type Question = (&'static str, fn(&mut GuestSide));

/// What is answered as the suite demands.
pub(crate) const ALL: &[Question] = &[
    ("big_random_buf, random_get", random_bytes),
    ("clock_time_get, clock_getres, clock_gettime", clocks),
    ("close_preopen", closed_root),
    ("dangling_fd", removed_while_open),
    ("dangling_symlink, nofollow_errors, symlink_create", links),
    ("symlink_loop", link_to_itself),
    ("symlink_filestat", stat_of_links),
    ("dir_fd_op_failures", files_calls_on_directories),
    ("directory_seek", seek_in_directory),
    ("fd_advise, file_allocate", advise_and_allocate),
    (
        "fd_filestat_set, fstflags_validate, path_filestat",
        set_times,
    ),
    ("fd_flags_set, path_open_nonblock", flags_of_descriptors),
    ("fd_readdir, fdopendir-with-access", list_directory),
    (
        "file_pread_pwrite, pread-with-access, pwrite-with-access",
        read_and_write_at,
    ),
    ("pwrite-with-append", write_at_with_append),
    ("file_seek_tell, lseek", seek_and_tell),
    ("file_truncation, truncation_rights", truncate),
    ("file_unbuffered_write, fopen-with-access", write_then_read),
    ("isatty, stdio", streams),
    ("overwrite_preopen, renumber", renumber),
    ("path_exists, stat-dev-ino", stat_of_paths),
    ("path_link", hard_links),
    (
        "path_open_create_existing, path_open_missing",
        create_and_missing,
    ),
    ("path_open_dirfd_not_dir", path_from_a_file),
    ("path_open_preopen", open_root),
    ("path_open_read_write", access_modes),
    ("path_rename", rename),
    (
        "path_rename_dir_trailing_slashes, path_rename_file_trailing_slashes, \
         path_symlink_trailing_slashes, remove_directory_trailing_slashes, \
         unlink_file_trailing_slashes",
        trailing_slashes,
    ),
    ("poll_oneoff_stdio", poll),
    ("readlink", read_link),
    ("remove_nonempty_directory", remove_full_directory),
    ("sched_yield", yield_processor),
    (
        "sock_shutdown-invalid_fd, sock_shutdown-not_sock",
        shutdown_of_no_socket,
    ),
    (
        "args_get, args_sizes_get, environ_get, environ_sizes_get",
        arguments,
    ),
];

/// What is answered as Linux does, where the suite demands confinement or preview 1's rights. With
/// the reason.
pub(crate) const CONFINEMENT: &[Question] = &[
    // "..", from a directory, is its parent: the root directory is where the kernel ends it.
    (
        "interesting_paths: dir/nested/../../.. is refused",
        above_the_start,
    ),
    // A link's target is resolved when it is used, from the container's root.
    (
        "symlink_create, path_symlink: an absolute target is refused",
        absolute_link,
    ),
    // Rights are not kept: mounts and the user decide what may be done.
    (
        "fd_fdstat_set_rights, fopen-with-no-access: rights are taken away",
        rights_are_not_kept,
    ),
];
