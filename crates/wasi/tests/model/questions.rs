//! What the test suite of WASI asks of preview 1 (github.com/WebAssembly/wasi-testsuite, its C and
//! Rust tests of November 2026), asked in our own words. Each function names the tests whose questions
//! it asks, and gives the answer of Linux.
//!
//! Where the suite demands that a path stays beneath the descriptor that it starts from, the answer
//! here is another one: a guest's root directory is the container's, which the kernel confines. These
//! are in [`CONFINEMENT`], one by one.
#![forbid(unsafe_code)]

use super::guest::GuestSide;
use super::kernel::ROOT;
use super::operation::{Access, Cookie, Name, Operation, open, status, times};
use super::outcome::{Outcome, Stat, Status, Time};
use super::trampoline::Value;

mod errno {
    pub(super) const BADF: u16 = 8;
    pub(super) const EXIST: u16 = 20;
    pub(super) const FAULT: u16 = 21;
    pub(super) const INVAL: u16 = 28;
    pub(super) const ISDIR: u16 = 31;
    pub(super) const LOOP: u16 = 32;
    pub(super) const NOENT: u16 = 44;
    pub(super) const NOTDIR: u16 = 54;
    pub(super) const NOTEMPTY: u16 = 55;
    pub(super) const NOTSOCK: u16 = 57;
    pub(super) const PERM: u16 = 63;
}

mod kind {
    pub(super) const DIRECTORY: u8 = 3;
    pub(super) const FILE: u8 = 4;
    pub(super) const LINK: u8 = 7;
}

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

fn path(text: &str) -> Name {
    Name(text.as_bytes().to_vec())
}

fn opening(at: u32, name: &str, flags: u16, access: Access) -> Operation {
    Operation::Open {
        at,
        follow: true,
        path: path(name),
        flags,
        access,
        status: 0,
    }
}

fn opened(guest: &mut GuestSide, operation: &Operation) -> u32 {
    match guest.run(operation) {
        Outcome::Number(fd) => u32::try_from(fd).expect("a descriptor"),
        outcome => panic!("{operation:?}: {outcome:?}"),
    }
}

/// A new file with content, open for both.
fn file(guest: &mut GuestSide, name: &str, sizes: &[u32]) -> u32 {
    let create = opening(ROOT, name, open::CREATE | open::TRUNCATE, Access::ReadWrite);
    let fd = opened(guest, &create);
    let sizes = sizes.to_vec();
    guest.run(&Operation::Write { fd, sizes, fill: 1 });
    fd
}

fn directory(guest: &mut GuestSide, name: &str) -> u32 {
    done(
        guest,
        &Operation::MakeDirectory {
            at: ROOT,
            path: path(name),
        },
    );
    opened(guest, &opening(ROOT, name, open::DIRECTORY, Access::Read))
}

#[track_caller]
fn answers(guest: &mut GuestSide, operation: &Operation, expected: &Outcome) {
    let outcome = guest.run(operation);
    assert_eq!(&outcome, expected, "{operation:?}");
}

#[track_caller]
fn done(guest: &mut GuestSide, operation: &Operation) {
    answers(guest, operation, &Outcome::Done);
}

#[track_caller]
fn fails(guest: &mut GuestSide, operation: &Operation, errno: u16) {
    answers(guest, operation, &Outcome::Failed(errno));
}

#[track_caller]
fn stat(guest: &mut GuestSide, name: &str, follow: bool) -> Stat {
    let operation = Operation::StatAt {
        at: ROOT,
        follow,
        path: path(name),
    };
    match guest.run(&operation) {
        Outcome::Stat(stat) => stat,
        outcome => panic!("{operation:?}: {outcome:?}"),
    }
}

fn link(guest: &mut GuestSide, target: &str, name: &str) {
    let (target, path) = (path(target), path(name));
    done(
        guest,
        &Operation::Symlink {
            target,
            at: ROOT,
            path,
        },
    );
}

fn missing(guest: &mut GuestSide, name: &str) {
    fails(guest, &opening(ROOT, name, 0, Access::Read), errno::NOENT);
}

fn random_bytes(guest: &mut GuestSide) {
    const PLACE: u32 = 0x1_0000;
    let length = 1 << 20;
    assert_eq!(
        guest.call_raw("random_get", &[PLACE.into(), length.into()]),
        0
    );
    let bytes = guest.memory(PLACE, length);
    assert!(
        bytes
            .chunks(4096)
            .all(|part| part.iter().any(|&byte| byte != 0))
    );
    assert_eq!(
        guest.call_raw("random_get", &[PLACE.into(), 0_u32.into()]),
        0
    );
    assert_eq!(
        guest.call_raw("random_get", &[PLACE.into(), u32::MAX.into()]),
        errno::FAULT
    );
}

fn clocks(guest: &mut GuestSide) {
    const RESULT: u32 = 64;
    let time = |guest: &mut GuestSide, clock: u32| {
        let all = [clock.into(), 1_u64.into(), RESULT.into()];
        assert_eq!(guest.call_raw("clock_time_get", &all), 0);
        guest.memory_u64(RESULT)
    };
    for clock in [0, 1] {
        let before = time(guest, clock);
        assert!(before > 0 && time(guest, clock) >= before);
        assert_eq!(
            guest.call_raw("clock_res_get", &[clock.into(), RESULT.into()]),
            0
        );
        assert!((1..1_000_000_000).contains(&guest.memory_u64(RESULT)));
    }
    let unknown = [100_u32.into(), RESULT.into()];
    assert_eq!(guest.call_raw("clock_res_get", &unknown), errno::INVAL);
}

fn closed_root(guest: &mut GuestSide) {
    let above = opened(guest, &opening(ROOT, ".", open::DIRECTORY, Access::Read));
    done(guest, &Operation::Close { fd: ROOT });
    fails(guest, &Operation::Close { fd: ROOT }, errno::BADF);
    missing_from(guest, above);
    // The number is free again.
    let again = opening(above, ".", open::DIRECTORY, Access::Read);
    answers(guest, &again, &Outcome::Number(ROOT.into()));
}

fn missing_from(guest: &mut GuestSide, at: u32) {
    fails(
        guest,
        &opening(at, "nothing", 0, Access::Read),
        errno::NOENT,
    );
}

fn removed_while_open(guest: &mut GuestSide) {
    let fd = file(guest, "file", &[5]);
    done(
        guest,
        &Operation::Unlink {
            at: ROOT,
            path: path("file"),
        },
    );
    missing(guest, "file");
    let size = match guest.run(&Operation::Stat { fd }) {
        Outcome::Stat(stat) => (stat.size, stat.links),
        outcome => panic!("{outcome:?}"),
    };
    assert_eq!(size, (5, 0));
    let at = directory(guest, "directory");
    done(
        guest,
        &Operation::RemoveDirectory {
            at: ROOT,
            path: path("directory"),
        },
    );
    fails(
        guest,
        &opening(at, "new", open::CREATE, Access::Write),
        errno::NOENT,
    );
    let all = Operation::List {
        fd: at,
        size: 4096,
        cookie: Cookie::Start,
    };
    answers(guest, &all, &Outcome::Entries(Vec::new(), false));
}

fn links(guest: &mut GuestSide) {
    link(guest, "target", "link");
    missing(guest, "link");
    let unfollowed = |flags| Operation::Open {
        at: ROOT,
        follow: false,
        path: path("link"),
        flags,
        access: Access::Read,
        status: 0,
    };
    fails(guest, &unfollowed(0), errno::LOOP);
    fails(guest, &unfollowed(open::DIRECTORY), errno::NOTDIR);
    let exclusive = opening(ROOT, "link", open::CREATE | open::EXCLUSIVE, Access::Write);
    fails(guest, &exclusive, errno::EXIST);
    // A file is made where a link leads that leads nowhere.
    opened(guest, &opening(ROOT, "link", open::CREATE, Access::Write));
    assert_eq!(stat(guest, "target", false).kind, kind::FILE);
    let again = Operation::Symlink {
        target: path("other"),
        at: ROOT,
        path: path("link"),
    };
    fails(guest, &again, errno::EXIST);
}

fn link_to_itself(guest: &mut GuestSide) {
    link(guest, "link", "link");
    fails(guest, &opening(ROOT, "link", 0, Access::Read), errno::LOOP);
    done(
        guest,
        &Operation::Unlink {
            at: ROOT,
            path: path("link"),
        },
    );
}

fn stat_of_links(guest: &mut GuestSide) {
    file(guest, "file", &[7]);
    link(guest, "file", "link");
    let of_link = stat(guest, "link", false);
    assert_eq!(
        (of_link.kind, of_link.size, of_link.links),
        (kind::LINK, 4, 1)
    );
    let of_file = stat(guest, "link", true);
    assert_eq!((of_file.kind, of_file.size), (kind::FILE, 7));
    assert_ne!(of_file.id, of_link.id);
}

fn files_calls_on_directories(guest: &mut GuestSide) {
    let fd = directory(guest, "directory");
    let sizes = || vec![4];
    fails(guest, &Operation::Read { fd, sizes: sizes() }, errno::ISDIR);
    fails(
        guest,
        &Operation::ReadAt {
            fd,
            sizes: sizes(),
            offset: 0,
        },
        errno::ISDIR,
    );
    fails(
        guest,
        &Operation::Write {
            fd,
            sizes: sizes(),
            fill: 0,
        },
        errno::BADF,
    );
    let write = Operation::WriteAt {
        fd,
        sizes: sizes(),
        fill: 0,
        offset: 0,
    };
    fails(guest, &write, errno::BADF);
    fails(
        guest,
        &Operation::Allocate {
            fd,
            offset: 0,
            length: 1,
        },
        errno::BADF,
    );
    fails(guest, &Operation::Truncate { fd, size: 0 }, errno::INVAL);
    // Directories are written to disk as files are.
    done(guest, &Operation::Sync { fd });
    done(guest, &Operation::SyncData { fd });
    let create = opening(ROOT, "directory", 0, Access::Write);
    fails(guest, &create, errno::ISDIR);
    let as_file = opening(
        ROOT,
        "directory",
        open::CREATE | open::DIRECTORY,
        Access::Read,
    );
    fails(guest, &as_file, errno::INVAL);
}

/// The suite asks for EBADF of a seek; Linux has seekdir(3) by it.
fn seek_in_directory(guest: &mut GuestSide) {
    let fd = directory(guest, "directory");
    answers(
        guest,
        &Operation::Seek {
            fd,
            offset: 0,
            whence: 0,
        },
        &Outcome::Number(0),
    );
    answers(guest, &Operation::Tell { fd }, &Outcome::Number(0));
    let status = Status {
        kind: kind::DIRECTORY,
        flags: 0,
        readable: true,
        writable: false,
    };
    answers(guest, &Operation::Status { fd }, &Outcome::Status(status));
}

fn advise_and_allocate(guest: &mut GuestSide) {
    let fd = file(guest, "file", &[10]);
    for advice in 0..6 {
        done(
            guest,
            &Operation::Advise {
                fd,
                offset: 0,
                length: 100,
                advice,
            },
        );
    }
    assert_eq!(guest.call_raw("fd_advise", &advice(fd, 9)), errno::INVAL);
    done(
        guest,
        &Operation::Allocate {
            fd,
            offset: 0,
            length: 5,
        },
    );
    assert_eq!(stat(guest, "file", true).size, 10);
    done(
        guest,
        &Operation::Allocate {
            fd,
            offset: 100,
            length: 100,
        },
    );
    assert_eq!(stat(guest, "file", true).size, 200);
    fails(
        guest,
        &Operation::Allocate {
            fd,
            offset: 0,
            length: 0,
        },
        errno::INVAL,
    );
}

fn advice(fd: u32, advice: u32) -> [Value; 4] {
    [fd.into(), 0_u64.into(), 0_u64.into(), advice.into()]
}

fn set_times(guest: &mut GuestSide) {
    let fd = file(guest, "file", &[]);
    let set = |access, modification, flags| Operation::SetTimes {
        fd,
        access,
        modification,
        flags,
    };
    done(
        guest,
        &set(5, 7_000_000_001, times::ACCESS | times::MODIFICATION),
    );
    let now = stat(guest, "file", true);
    assert_eq!(
        (now.access, now.modification),
        (Time::Set(5), Time::Set(7_000_000_001))
    );
    // What is not named stays.
    done(guest, &set(1, 1, times::MODIFICATION_NOW));
    let now = stat(guest, "file", true);
    assert_eq!((now.access, now.modification), (Time::Set(5), Time::Now));
    fails(
        guest,
        &set(1, 1, times::ACCESS | times::ACCESS_NOW),
        errno::INVAL,
    );
    fails(
        guest,
        &set(1, 1, times::MODIFICATION | times::MODIFICATION_NOW),
        errno::INVAL,
    );
    link(guest, "file", "link");
    let of_link = |follow, time| Operation::SetTimesAt {
        at: ROOT,
        follow,
        path: path("link"),
        access: time,
        modification: time,
        flags: times::ACCESS | times::MODIFICATION,
    };
    done(guest, &of_link(false, 11));
    done(guest, &of_link(true, 13));
    assert_eq!(stat(guest, "link", false).modification, Time::Set(11));
    assert_eq!(stat(guest, "file", false).modification, Time::Set(13));
}

fn flags_of_descriptors(guest: &mut GuestSide) {
    let fd = file(guest, "file", &[4]);
    let has = |guest: &mut GuestSide, flags| {
        let status = Status {
            kind: kind::FILE,
            flags,
            readable: true,
            writable: true,
        };
        answers(guest, &Operation::Status { fd }, &Outcome::Status(status));
    };
    has(guest, 0);
    let both = status::APPEND | status::NONBLOCK;
    done(guest, &Operation::SetStatus { fd, status: both });
    has(guest, both);
    answers(
        guest,
        &Operation::Seek {
            fd,
            offset: 0,
            whence: 0,
        },
        &Outcome::Number(0),
    );
    let write = Operation::Write {
        fd,
        sizes: vec![4],
        fill: 2,
    };
    answers(guest, &write, &Outcome::Number(4));
    assert_eq!(stat(guest, "file", true).size, 8);
    done(guest, &Operation::SetStatus { fd, status: 0 });
    has(guest, 0);
}

fn names(outcome: Outcome) -> Vec<String> {
    let Outcome::Entries(entries, _) = outcome else {
        panic!("{outcome:?}");
    };
    let text = |name: Vec<u8>| String::from_utf8(name).expect("text");
    entries
        .into_iter()
        .map(|entry| text(entry.name.0))
        .collect()
}

fn list_directory(guest: &mut GuestSide) {
    let fd = directory(guest, "directory");
    let all = |cookie| Operation::List {
        fd,
        size: 4096,
        cookie,
    };
    let mut empty = names(guest.run(&all(Cookie::Start)));
    empty.sort();
    assert_eq!(empty, [".", ".."]);
    for n in 0..100 {
        file(guest, &format!("directory/{n:03}"), &[]);
    }
    // A buffer that is too small for all is filled, and the listing goes on behind its last whole entry.
    let mut found = Vec::new();
    let mut cookie = Cookie::Start;
    loop {
        let outcome = guest.run(&Operation::List {
            fd,
            size: 100,
            cookie,
        });
        cookie = Cookie::Next;
        let Outcome::Entries(entries, full) = outcome else {
            panic!("{outcome:?}");
        };
        let whole = entries
            .iter()
            .filter(|entry| entry.name.0.len() == entry.length as usize);
        found.extend(whole.map(|entry| entry.name.0.clone()));
        if !full {
            break;
        }
    }
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 102);
    let not = file(guest, "file", &[]);
    let of_file = Operation::List {
        fd: not,
        size: 100,
        cookie: Cookie::Start,
    };
    fails(guest, &of_file, errno::NOTDIR);
}

fn read_and_write_at(guest: &mut GuestSide) {
    let fd = file(guest, "file", &[]);
    let write = |offset| Operation::WriteAt {
        fd,
        sizes: vec![3, 4],
        fill: 9,
        offset,
    };
    answers(guest, &write(10), &Outcome::Number(7));
    answers(guest, &Operation::Tell { fd }, &Outcome::Number(0));
    assert_eq!(stat(guest, "file", true).size, 17);
    let read = |offset, size| Operation::ReadAt {
        fd,
        sizes: vec![size],
        offset,
    };
    let expected = super::operation::pattern(9, &[3, 4]).concat();
    answers(guest, &read(10, 100), &Outcome::Data(Name(expected)));
    answers(guest, &read(17, 100), &Outcome::Data(Name(Vec::new())));
    answers(guest, &read(0, 10), &Outcome::Data(Name(vec![0; 10])));
    fails(guest, &read(u64::MAX, 1), errno::INVAL);
    fails(guest, &write(1 << 63), errno::INVAL);
}

/// The suite asks for ENOTSUP or for POSIX; Linux appends, as pwrite(2) says under BUGS.
fn write_at_with_append(guest: &mut GuestSide) {
    let fd = file(guest, "file", &[4]);
    done(
        guest,
        &Operation::SetStatus {
            fd,
            status: status::APPEND,
        },
    );
    let write = Operation::WriteAt {
        fd,
        sizes: vec![2],
        fill: 0,
        offset: 0,
    };
    answers(guest, &write, &Outcome::Number(2));
    assert_eq!(stat(guest, "file", true).size, 6);
}

fn seek_and_tell(guest: &mut GuestSide) {
    let fd = file(guest, "file", &[100]);
    let seek = |offset, whence| Operation::Seek { fd, offset, whence };
    answers(guest, &Operation::Tell { fd }, &Outcome::Number(100));
    answers(guest, &seek(-50, 1), &Outcome::Number(50));
    answers(guest, &seek(-100, 2), &Outcome::Number(0));
    answers(guest, &seek(1000, 0), &Outcome::Number(1000));
    answers(
        guest,
        &Operation::Read { fd, sizes: vec![1] },
        &Outcome::Data(Name(Vec::new())),
    );
    fails(guest, &seek(-2000, 1), errno::INVAL);
    fails(guest, &seek(-1, 0), errno::INVAL);
    answers(guest, &Operation::Tell { fd }, &Outcome::Number(1000));
    let unknown = [fd.into(), 0_u64.into(), 9_u32.into(), 64_u32.into()];
    assert_eq!(guest.call_raw("fd_seek", &unknown), errno::INVAL);
}

fn truncate(guest: &mut GuestSide) {
    let fd = file(guest, "file", &[10]);
    done(guest, &Operation::Truncate { fd, size: 4 });
    assert_eq!(stat(guest, "file", true).size, 4);
    done(guest, &Operation::Truncate { fd, size: 1000 });
    assert_eq!(stat(guest, "file", true).size, 1000);
    fails(
        guest,
        &Operation::Truncate { fd, size: 1 << 63 },
        errno::INVAL,
    );
    let reader = opened(guest, &opening(ROOT, "file", 0, Access::Read));
    fails(
        guest,
        &Operation::Truncate {
            fd: reader,
            size: 0,
        },
        errno::INVAL,
    );
    opened(guest, &opening(ROOT, "file", open::TRUNCATE, Access::Write));
    assert_eq!(stat(guest, "file", true).size, 0);
}

fn write_then_read(guest: &mut GuestSide) {
    let writer = file(guest, "file", &[]);
    let reader = opened(guest, &opening(ROOT, "file", 0, Access::Read));
    let write = Operation::Write {
        fd: writer,
        sizes: vec![1],
        fill: 3,
    };
    answers(guest, &write, &Outcome::Number(1));
    let read = Operation::Read {
        fd: reader,
        sizes: vec![4],
    };
    let expected = super::operation::pattern(3, &[1]).concat();
    answers(guest, &read, &Outcome::Data(Name(expected)));
    fails(
        guest,
        &Operation::Write {
            fd: reader,
            sizes: vec![1],
            fill: 0,
        },
        errno::BADF,
    );
}

fn streams(guest: &mut GuestSide) {
    for fd in 0..3 {
        assert!(matches!(
            guest.run(&Operation::Status { fd }),
            Outcome::Status(_)
        ));
        assert!(matches!(
            guest.run(&Operation::Stat { fd }),
            Outcome::Stat(_)
        ));
    }
    // A terminal is a character device without a position.
    let fd = file(guest, "file", &[]);
    let kind = match guest.run(&Operation::Status { fd }) {
        Outcome::Status(status) => status.kind,
        outcome => panic!("{outcome:?}"),
    };
    assert_eq!(kind, self::kind::FILE);
}

fn renumber(guest: &mut GuestSide) {
    let first = file(guest, "first", &[1]);
    let second = file(guest, "second", &[2]);
    done(
        guest,
        &Operation::Renumber {
            fd: first,
            to: second,
        },
    );
    fails(guest, &Operation::Stat { fd: first }, errno::BADF);
    match guest.run(&Operation::Stat { fd: second }) {
        Outcome::Stat(stat) => assert_eq!(stat.size, 1),
        outcome => panic!("{outcome:?}"),
    }
    fails(
        guest,
        &Operation::Renumber { fd: second, to: 99 },
        errno::BADF,
    );
    fails(
        guest,
        &Operation::Renumber { fd: 99, to: second },
        errno::BADF,
    );
    done(
        guest,
        &Operation::Renumber {
            fd: second,
            to: second,
        },
    );
    // The root directory's number may be another file's.
    done(
        guest,
        &Operation::Renumber {
            fd: second,
            to: ROOT,
        },
    );
    fails(
        guest,
        &opening(ROOT, "first", 0, Access::Read),
        errno::NOTDIR,
    );
}

fn stat_of_paths(guest: &mut GuestSide) {
    let fd = file(guest, "file", &[3]);
    directory(guest, "directory");
    let of_file = stat(guest, "file", true);
    assert_eq!(
        (of_file.kind, of_file.links, of_file.size),
        (kind::FILE, 1, 3)
    );
    answers(
        guest,
        &Operation::Stat { fd },
        &Outcome::Stat(of_file.clone()),
    );
    let of_directory = stat(guest, "directory", true);
    assert_eq!(of_directory.kind, kind::DIRECTORY);
    assert_eq!(of_directory.id.device, of_file.id.device);
    assert_ne!(of_directory.id.inode, of_file.id.inode);
    let nothing = Operation::StatAt {
        at: ROOT,
        follow: true,
        path: path("nothing"),
    };
    fails(guest, &nothing, errno::NOENT);
}

fn hard_links(guest: &mut GuestSide) {
    file(guest, "file", &[3]);
    link(guest, "file", "link");
    let at = directory(guest, "directory");
    let to = |from: &str, follow, to_at, to: &str| Operation::Link {
        from_at: ROOT,
        follow,
        from: path(from),
        to_at,
        to: path(to),
    };
    done(guest, &to("file", false, at, "same"));
    let same = stat(guest, "directory/same", false);
    assert_eq!((same.id, same.links), (stat(guest, "file", false).id, 2));
    fails(guest, &to("file", false, at, "same"), errno::EXIST);
    fails(guest, &to("nothing", false, ROOT, "new"), errno::NOENT);
    fails(guest, &to("directory", false, ROOT, "new"), errno::PERM);
    fails(guest, &to("file", false, ROOT, "new/"), errno::NOENT);
    // A link itself has a further name too.
    done(guest, &to("link", false, ROOT, "link-too"));
    assert_eq!(stat(guest, "link-too", false).kind, kind::LINK);
    done(guest, &to("link", true, ROOT, "file-too"));
    assert_eq!(stat(guest, "file-too", false).kind, kind::FILE);
}

fn create_and_missing(guest: &mut GuestSide) {
    missing(guest, "file");
    file(guest, "file", &[1]);
    let exclusive = opening(ROOT, "file", open::CREATE | open::EXCLUSIVE, Access::Write);
    fails(guest, &exclusive, errno::EXIST);
    missing(guest, "");
    missing(guest, "nowhere/file");
}

fn path_from_a_file(guest: &mut GuestSide) {
    let at = file(guest, "file", &[]);
    fails(guest, &opening(at, "file", 0, Access::Read), errno::NOTDIR);
    fails(guest, &opening(1000, "file", 0, Access::Read), errno::BADF);
}

fn open_root(guest: &mut GuestSide) {
    for name in [".", "./", ".."] {
        let root = opened(guest, &opening(ROOT, name, open::DIRECTORY, Access::Read));
        let of = |guest: &mut GuestSide, fd| match guest.run(&Operation::Stat { fd }) {
            Outcome::Stat(stat) => stat.id,
            outcome => panic!("{outcome:?}"),
        };
        assert_eq!(of(guest, root), of(guest, ROOT), "{name}");
    }
    fails(guest, &opening(ROOT, ".", 0, Access::Write), errno::ISDIR);
    fails(
        guest,
        &opening(ROOT, "/", open::DIRECTORY, Access::Read),
        errno::PERM,
    );
}

fn access_modes(guest: &mut GuestSide) {
    file(guest, "file", &[8]);
    for (access, reads, writes) in [
        (Access::Read, true, false),
        (Access::Write, false, true),
        (Access::ReadWrite, true, true),
        (Access::Name, false, false),
    ] {
        let fd = opened(guest, &opening(ROOT, "file", 0, access));
        let read = guest.run(&Operation::Read { fd, sizes: vec![2] });
        assert_eq!(read != Outcome::Failed(errno::BADF), reads, "{access:?}");
        let write = guest.run(&Operation::Write {
            fd,
            sizes: vec![2],
            fill: 0,
        });
        assert_eq!(write != Outcome::Failed(errno::BADF), writes, "{access:?}");
    }
}

fn moving(from: &str, to: &str) -> Operation {
    Operation::Rename {
        from_at: ROOT,
        from: path(from),
        to_at: ROOT,
        to: path(to),
    }
}

fn rename(guest: &mut GuestSide) {
    file(guest, "file", &[3]);
    file(guest, "other", &[5]);
    directory(guest, "directory");
    directory(guest, "empty");
    file(guest, "directory/file", &[]);
    done(guest, &moving("file", "other"));
    missing(guest, "file");
    assert_eq!(stat(guest, "other", true).size, 3);
    fails(guest, &moving("other", "directory"), errno::ISDIR);
    fails(guest, &moving("directory", "other"), errno::NOTDIR);
    fails(guest, &moving("empty", "directory"), errno::NOTEMPTY);
    fails(
        guest,
        &moving("directory", "directory/inside"),
        errno::INVAL,
    );
    done(guest, &moving("directory", "empty"));
    assert_eq!(stat(guest, "empty/file", true).kind, kind::FILE);
    fails(guest, &moving("nothing", "new"), errno::NOENT);
    done(guest, &moving("other", "other"));
}

fn trailing_slashes(guest: &mut GuestSide) {
    let at = ROOT;
    file(guest, "file", &[]);
    directory(guest, "directory");
    fails(guest, &moving("file/", "new"), errno::NOTDIR);
    fails(guest, &moving("file", "new/"), errno::NOTDIR);
    done(guest, &moving("directory/", "moved/"));
    done(guest, &moving("moved", "directory/"));
    fails(
        guest,
        &Operation::Unlink {
            at,
            path: path("file/"),
        },
        errno::NOTDIR,
    );
    fails(
        guest,
        &Operation::Unlink {
            at,
            path: path("directory/"),
        },
        errno::ISDIR,
    );
    fails(
        guest,
        &Operation::RemoveDirectory {
            at,
            path: path("file/"),
        },
        errno::NOTDIR,
    );
    let symlink = |name: &str| Operation::Symlink {
        target: path("target"),
        at,
        path: path(name),
    };
    fails(guest, &symlink("new/"), errno::NOENT);
    fails(guest, &symlink("file/"), errno::EXIST);
    fails(guest, &symlink("directory/"), errno::EXIST);
    fails(guest, &opening(at, "file/", 0, Access::Read), errno::NOTDIR);
    fails(
        guest,
        &opening(at, "new/", open::CREATE, Access::Write),
        errno::ISDIR,
    );
    done(
        guest,
        &Operation::MakeDirectory {
            at,
            path: path("made/"),
        },
    );
    done(
        guest,
        &Operation::RemoveDirectory {
            at,
            path: path("directory/"),
        },
    );
}

fn poll(guest: &mut GuestSide) {
    const SUBSCRIPTION: u32 = 64;
    const EVENT: u32 = 128;
    const COUNT: u32 = 192;
    let fd = file(guest, "file", &[9]);
    let poll = |guest: &mut GuestSide, count: u32| {
        let all = [
            SUBSCRIPTION.into(),
            EVENT.into(),
            count.into(),
            COUNT.into(),
        ];
        guest.call_raw("poll_oneoff", &all)
    };
    assert_eq!(poll(guest, 0), errno::INVAL);
    // Userdata, then a kind: 0 is a clock, 1 is reading, 2 is writing.
    let subscription = |kind: u8, fields: &[u8]| {
        let mut bytes = vec![0; 48];
        bytes[0] = 42;
        bytes[8] = kind;
        bytes[16..16 + fields.len()].copy_from_slice(fields);
        bytes
    };
    for (kind, number) in [(1, fd), (2, fd), (1, 1000)] {
        guest.fill(SUBSCRIPTION, &subscription(kind, &number.to_le_bytes()));
        assert_eq!(poll(guest, 1), 0);
        assert_eq!(guest.memory(COUNT, 4), [1, 0, 0, 0]);
        let event = guest.memory(EVENT, 32);
        let error = u16::from_le_bytes([event[8], event[9]]);
        assert_eq!(event[0], 42);
        assert_eq!(event[10], kind);
        assert_eq!(error, if number == fd { 0 } else { errno::BADF });
    }
    // The monotonic clock, a microsecond from now.
    let clock = [&1_u64.to_le_bytes()[..], &1000_u64.to_le_bytes()].concat();
    guest.fill(SUBSCRIPTION, &subscription(0, &clock));
    assert_eq!(poll(guest, 1), 0);
    assert_eq!(guest.memory(EVENT, 11)[8..], [0, 0, 0]);
}

fn read_link(guest: &mut GuestSide) {
    link(guest, "target", "link");
    file(guest, "file", &[]);
    let read = |name: &str, size| Operation::ReadLink {
        at: ROOT,
        path: path(name),
        size,
    };
    answers(guest, &read("link", 100), &Outcome::Data(path("target")));
    // As readlink(2): what does not fit is cut off.
    answers(guest, &read("link", 4), &Outcome::Data(path("targ")));
    fails(guest, &read("file", 100), errno::INVAL);
    fails(guest, &read("nothing", 100), errno::NOENT);
}

fn remove_full_directory(guest: &mut GuestSide) {
    let at = ROOT;
    directory(guest, "directory");
    directory(guest, "directory/inside");
    let remove = |name: &str| Operation::RemoveDirectory {
        at,
        path: path(name),
    };
    fails(guest, &remove("directory"), errno::NOTEMPTY);
    done(guest, &remove("directory/inside"));
    done(guest, &remove("directory"));
    fails(guest, &remove("directory"), errno::NOENT);
}

fn yield_processor(guest: &mut GuestSide) {
    assert_eq!(guest.call_raw("sched_yield", &[]), 0);
}

fn shutdown_of_no_socket(guest: &mut GuestSide) {
    let fd = file(guest, "file", &[]);
    for (fd, expected) in [
        (fd, errno::NOTSOCK),
        (ROOT, errno::NOTSOCK),
        (1000, errno::BADF),
    ] {
        let answer = guest.call_raw("sock_shutdown", &[fd.into(), 1_u32.into()]);
        // A descriptor that is only a name has no operations at all.
        let expected = if fd == ROOT { errno::BADF } else { expected };
        assert_eq!(answer, expected, "{fd}");
    }
}

fn arguments(guest: &mut GuestSide) {
    for function in ["args", "environ"] {
        let sizes = [64_u32.into(), 68_u32.into()];
        assert_eq!(guest.call_raw(&format!("{function}_sizes_get"), &sizes), 0);
        assert_eq!(guest.memory(64, 8), [0; 8]);
        let lists = [128_u32.into(), 256_u32.into()];
        assert_eq!(guest.call_raw(&format!("{function}_get"), &lists), 0);
    }
}

fn above_the_start(guest: &mut GuestSide) {
    file(guest, "file", &[3]);
    directory(guest, "directory");
    let nested = directory(guest, "directory/nested");
    opened(guest, &opening(nested, "../../file", 0, Access::Read));
    // Above the root directory is the root directory.
    opened(guest, &opening(nested, "../../../../file", 0, Access::Read));
    opened(
        guest,
        &opening(ROOT, "directory/nested/../../../../file", 0, Access::Read),
    );
    fails(guest, &opening(ROOT, "/file", 0, Access::Read), errno::PERM);
    fails(
        guest,
        &opening(ROOT, "file\0", 0, Access::Read),
        errno::INVAL,
    );
}

fn absolute_link(guest: &mut GuestSide) {
    file(guest, "file", &[3]);
    directory(guest, "directory");
    link(guest, "/file", "directory/absolute");
    let at = opened(
        guest,
        &opening(ROOT, "directory", open::DIRECTORY, Access::Read),
    );
    opened(guest, &opening(at, "absolute", 0, Access::Read));
    assert_eq!(stat(guest, "directory/absolute", true).size, 3);
}

fn rights_are_not_kept(guest: &mut GuestSide) {
    let fd = file(guest, "file", &[3]);
    let none = [fd.into(), 0_u64.into(), 0_u64.into()];
    guest.call_raw("fd_fdstat_set_rights", &none);
    let write = Operation::Write {
        fd,
        sizes: vec![1],
        fill: 0,
    };
    answers(guest, &write, &Outcome::Number(1));
}
