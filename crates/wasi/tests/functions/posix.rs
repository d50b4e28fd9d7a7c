//! `wasm_interp_posix_v1`: layouts, refusals, and what a mount that arrives later leaves out of reach.
//! What the functions do is held to native programs by `tests/containerd`.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::mount::{MountFlags, mount};
use wasm_interp_wasi::{LateMounts, ModesBy, abi::types, errno::Errno};

use crate::support::{BUFFER, Caller, MEMORY, OUT, Opening, ROOT, enter, in_tree, with_guest};

const FOLLOW: u64 = 1;
const WRITE_ONLY: u64 = 1;
const CREAT: u64 = 1;
const EXECUTE_WRITE_READ: u64 = 7;

/// A function whose first arguments are a descriptor and a path, and perhaps flags between them.
struct PathFunction {
    name: &'static str,
    flags: bool,
    rest: &'static [u64],
}

const fn plain(name: &'static str, rest: &'static [u64]) -> PathFunction {
    let flags = false;
    PathFunction { name, flags, rest }
}

const fn flagged(name: &'static str, rest: &'static [u64]) -> PathFunction {
    let flags = true;
    PathFunction { name, flags, rest }
}

const OUT64: u64 = OUT as u64;

const PATH_FUNCTIONS: &[PathFunction] = &[
    flagged("faccessat", &[0, 0]),
    flagged("fchmodat", &[0o600]),
    flagged("fchownat", &[0, 0]),
    flagged("fstatat", &[OUT64]),
    flagged("openat", &[0, 0, 0, 0, OUT64]),
    // To the present: a change of nothing looks at no path.
    flagged("utimensat", &[0, 0, 0, 0, 0b10]),
    plain("mkdirat", &[0o700]),
    plain("mkfifoat", &[0o600]),
    plain("statvfsat", &[OUT64]),
];

impl PathFunction {
    fn call(&self, guest: &mut Caller, path: &str) -> Result<(), Errno> {
        let [path, length] = guest.put(path);
        self.at(guest, path, length)
    }

    fn at(&self, guest: &mut Caller, path: u64, length: u64) -> Result<(), Errno> {
        let start = if self.flags {
            vec![ROOT.into(), FOLLOW, path, length]
        } else {
            vec![ROOT.into(), path, length]
        };
        guest.call(self.name, &[&start, self.rest].concat())
    }
}

#[test]
fn stat_is_laid_out_as_the_witx_says() {
    with_guest(|guest| {
        fs::write("/f", "four").expect("a file");
        fs::set_permissions("/f", fs::Permissions::from_mode(0o640)).expect("mode");
        std::os::unix::fs::chown("/f", Some(7), Some(8)).expect("owner");
        let [path, length] = guest.put("f");
        let times = [FOLLOW, path, length, (-5i64) as u64, 6, 7, 8, 0b101];
        guest
            .call("utimensat", &[&[ROOT.into()], &times[..]].concat())
            .expect("times");
        let [path, length] = guest.put("f");
        guest
            .call("fstatat", &[ROOT.into(), 0, path, length, BUFFER.into()])
            .expect("stat");
        let kernel = fs::metadata("/f").expect("metadata");
        assert_eq!(guest.u64(BUFFER), kernel.dev());
        assert_eq!(guest.u64(BUFFER + 8), kernel.ino());
        assert_eq!(guest.u64(BUFFER + 16), 1);
        assert_eq!(guest.u32(BUFFER + 24), 0o100_640);
        assert_eq!(guest.u32(BUFFER + 28), 7);
        assert_eq!(guest.u32(BUFFER + 32), 8);
        assert_eq!(u64::from(guest.u32(BUFFER + 36)), kernel.blksize());
        assert_eq!(guest.u64(BUFFER + 40), 0);
        assert_eq!(guest.u64(BUFFER + 48), 4);
        assert_eq!(guest.u64(BUFFER + 56), kernel.blocks());
        assert_eq!(guest.u64(BUFFER + 64).cast_signed(), -5);
        assert_eq!(guest.u32(BUFFER + 72), 6);
        assert_eq!(guest.u64(BUFFER + 80), 7);
        assert_eq!(guest.u32(BUFFER + 88), 8);
        assert_eq!(guest.u64(BUFFER + 96).cast_signed(), kernel.ctime());
        assert_eq!((kernel.atime(), kernel.atime_nsec()), (-5, 6));
    });
}

#[test]
fn new_files_have_the_mode_less_the_umask() {
    with_guest(|guest| {
        guest.call("umask", &[0o027, OUT.into()]).expect("umask");
        let before = guest.u32(OUT);
        let [path, length] = guest.put("file");
        let open = [0, path, length, WRITE_ONLY, CREAT, 0, 0o666, OUT.into()];
        guest
            .call("openat", &[&[ROOT.into()], &open[..]].concat())
            .expect("open");
        plain("mkdirat", &[0o1777])
            .call(guest, "folder")
            .expect("mkdir");
        plain("mkfifoat", &[0o622])
            .call(guest, "fifo")
            .expect("mkfifo");
        for (path, mode) in [("/file", 0o640), ("/folder", 0o1750), ("/fifo", 0o600)] {
            let kernel = fs::symlink_metadata(path).expect(path);
            assert_eq!(kernel.mode() & 0o7777, mode, "{path}");
        }
        assert!(fs::metadata("/fifo").expect("fifo").file_type().is_fifo());
        guest
            .call("umask", &[before.into(), OUT.into()])
            .expect("umask");
        assert_eq!(guest.u32(OUT), 0o027);
    });
}

#[test]
fn set_id_bits_are_eperm_and_leave_no_file() {
    with_guest(|guest| {
        fs::write("/f", "").expect("a file");
        for mode in [0o4755u64, 0o2755, 0o6000] {
            let [path, length] = guest.put("new");
            let open = [0, path, length, WRITE_ONLY, CREAT, 0, mode, OUT.into()];
            let answer = guest.call("openat", &[&[ROOT.into()], &open[..]].concat());
            assert_eq!(answer, Err(Errno::Perm));
            let [path, length] = guest.put("new");
            let answer = guest.call("mkfifoat", &[ROOT.into(), path, length, mode]);
            assert_eq!(answer, Err(Errno::Perm));
            assert!(fs::symlink_metadata("/new").is_err());
            let [path, length] = guest.put("f");
            let answer = guest.call("fchmodat", &[ROOT.into(), FOLLOW, path, length, mode]);
            assert_eq!(answer, Err(Errno::Perm));
            let fd = guest.open(&Opening::read("f")).expect("open");
            assert_eq!(guest.call("fchmod", &[fd.into(), mode]), Err(Errno::Perm));
            assert_eq!(fs::metadata("/f").expect("f").mode() & 0o6000, 0);
        }
    });
}

#[test]
fn streams_keep_their_attributes() {
    with_guest(|guest| {
        for fd in 0..3 {
            assert_eq!(guest.call("fchmod", &[fd, 0o600]), Err(Errno::Perm));
            assert_eq!(guest.call("fchown", &[fd, 1, 1]), Err(Errno::Perm));
            let answer = guest.call("futimens", &[fd, 0, 0, 0, 0, 0b1010]);
            assert_eq!(answer, Err(Errno::Perm));
        }
    });
}

#[test]
fn paths_that_begin_with_a_slash_are_eperm() {
    with_guest(|guest| {
        for function in PATH_FUNCTIONS {
            let answer = function.call(guest, "/dev/null");
            assert_eq!(answer, Err(Errno::Perm), "{}", function.name);
        }
    });
}

#[test]
fn addresses_outside_of_memory_are_efault_here_too() {
    with_guest(|guest| {
        let beyond = u64::from(MEMORY) - 1;
        for function in PATH_FUNCTIONS {
            let answer = function.at(guest, beyond, 2);
            assert_eq!(answer, Err(Errno::Fault), "{}", function.name);
        }
        let file = u64::from(guest.create("f"));
        for (name, arguments) in [
            ("fstat", vec![file, beyond]),
            ("fstatvfs", vec![file, beyond]),
            ("fcntl_getlk", vec![file, 0, beyond, OUT.into()]),
            ("fcntl_setlk", vec![file, 0, beyond, 1]),
            ("getrusage", vec![0, beyond]),
            ("getuid", vec![beyond]),
            ("umask", vec![0o22, beyond]),
        ] {
            let answer = guest.call(name, &arguments);
            assert_eq!(answer, Err(Errno::Fault), "{name}");
        }
    });
}

#[test]
fn unknown_choices_are_einval() {
    with_guest(|guest| {
        let file = u64::from(guest.create("f"));
        let [path, length] = guest.put("f");
        let root = u64::from(ROOT);
        guest.write(BUFFER, &[0; 24]);
        for (name, arguments) in [
            ("flock", vec![file, 3, 0]),
            ("flock", vec![file, 0, 2]),
            ("fcntl_setlk", vec![file, 2, BUFFER.into(), 1]),
            ("getrusage", vec![3, OUT.into()]),
            ("faccessat", vec![root, 2, path, length, 0, 0]),
            ("faccessat", vec![root, 0, path, length, 8, 0]),
            ("faccessat", vec![root, 0, path, length, 0, 2]),
            (
                "openat",
                vec![root, 0, path, length, 4, 0, 0, 0, OUT.into()],
            ),
            ("futimens", vec![file, 0, 0, 0, 0, 0b11]),
            ("futimens", vec![file, 0, 1_000_000_000, 0, 0, 1]),
        ] {
            let answer = guest.call(name, &arguments);
            assert_eq!(answer, Err(Errno::Inval), "{name} {arguments:?}");
        }
        // The kind of a lock that is none.
        guest.write(BUFFER + 20, &[3]);
        let answer = guest.call("fcntl_setlk", &[file, 0, BUFFER.into(), 1]);
        assert_eq!(answer, Err(Errno::Inval));
    });
}

/// By each call that changes modes, and with both ways to resolve paths.
#[test]
fn the_mode_of_a_link_is_enotsup_and_its_target_untouched() {
    const CHECKED: LateMounts = LateMounts::Checked(|_| false);
    let mut calls = vec![ModesBy::Fchmodat];
    if ModesBy::of_kernel() == ModesBy::Fchmodat2 {
        calls.push(ModesBy::Fchmodat2);
    }
    for modes_by in calls {
        for late_mounts in [LateMounts::Impossible, CHECKED] {
            in_tree(move |tree| {
                enter(tree);
                let mut guest = Caller::with_modes_by(late_mounts, modes_by);
                modes_of_links(&mut guest);
            });
        }
    }
}

fn modes_of_links(guest: &mut Caller) {
    fn change(guest: &mut Caller, lookup: u64, path: &str, mode: u64) -> Result<(), Errno> {
        let [path, length] = guest.put(path);
        guest.call("fchmodat", &[ROOT.into(), lookup, path, length, mode])
    }
    let mode = |path: &str| fs::metadata(path).expect(path).mode() & 0o7777;
    fs::write("/f", "").expect("a file");
    fs::set_permissions("/f", fs::Permissions::from_mode(0o600)).expect("mode");
    fs::create_dir("/folder").expect("a folder");
    for (target, link) in [("f", "/link"), ("missing", "/dangling"), ("folder", "/to")] {
        symlink(target, link).expect("a link");
    }
    for link in ["link", "dangling", "to"] {
        assert_eq!(change(guest, 0, link, 0o644), Err(Errno::Notsup), "{link}");
    }
    assert_eq!(mode("/f"), 0o600);
    // What is no link, whatever its mode lets be opened; and a link with a slash, which is its target.
    for (path, mode_of, new) in [
        ("f", "/f", 0o000),
        ("f", "/f", 0o644),
        ("folder", "/folder", 0o1711),
        ("to/", "/folder", 0o750),
        ("to/../f", "/f", 0o640),
    ] {
        change(guest, 0, path, new).unwrap_or_else(|error| panic!("{path}: {error:?}"));
        assert_eq!(u64::from(mode(mode_of)), new, "{path}");
    }
    change(guest, FOLLOW, "link", 0o604).expect("its target");
    assert_eq!(mode("/f"), 0o604);
    for (path, error) in [("missing", Errno::Noent), ("f/beneath", Errno::Notdir)] {
        for lookup in [0, FOLLOW] {
            assert_eq!(change(guest, lookup, path, 0o644), Err(error), "{path}");
        }
    }
}

/// Whether or not another process puts a link in its place meanwhile: of a link that is not followed, the
/// target keeps its mode.
#[test]
fn file_that_becomes_a_link_keeps_the_mode_of_its_target() {
    if ModesBy::of_kernel() != ModesBy::Fchmodat2 {
        eprintln!("this kernel has no fchmodat2, without which a link may be followed");
        return;
    }
    in_tree(|tree| {
        enter(tree);
        fs::write("/target", "").expect("a file");
        fs::set_permissions("/target", fs::Permissions::from_mode(0o600)).expect("mode");
        let ended = Arc::new(AtomicBool::new(false));
        // It has the root directory of this thread.
        let swaps = std::thread::spawn({
            let ended = Arc::clone(&ended);
            move || {
                while !ended.load(Ordering::Relaxed) {
                    fs::write("/new", "").expect("a file");
                    fs::rename("/new", "/name").expect("a file in its place");
                    symlink("target", "/new").expect("a link");
                    fs::rename("/new", "/name").expect("a link in its place");
                }
            }
        });
        let mut guest = Caller::new(LateMounts::Impossible);
        let (mut files, mut links) = (0, 0);
        while files < 2000 || links < 2000 {
            let [path, length] = guest.put("name");
            match guest.call("fchmodat", &[ROOT.into(), 0, path, length, 0o644]) {
                Ok(()) => files += 1,
                Err(Errno::Notsup) => links += 1,
                // Before the first one is there.
                Err(error) => assert_eq!((error, files, links), (Errno::Noent, 0, 0)),
            }
        }
        ended.store(true, Ordering::Relaxed);
        swaps.join().expect("the swaps");
        let mode = fs::metadata("/target").expect("the target").mode();
        assert_eq!(mode & 0o777, 0o600);
    });
}

#[test]
fn every_path_is_checked_where_mounts_may_arrive() {
    const PROC: u32 = 0x9fa0;
    in_tree(|tree| {
        for name in ["proc", "files"] {
            fs::create_dir(tree.join(name)).expect(name);
        }
        symlink("proc/sys/kernel/hostname", tree.join("link")).expect("a link");
        symlink("files", tree.join("to-files")).expect("a link");
        enter(tree);
        let mut guest = Caller::new(LateMounts::Checked(|magic| magic == PROC));
        mount("proc", "/proc", "proc", MountFlags::empty(), None).expect("proc");
        for function in PATH_FUNCTIONS {
            for path in ["proc/new", "proc/sys/kernel/hostname", "link", "proc/"] {
                // Making what is there already is an error of its own.
                if function.name.starts_with("mk") && path != "proc/new" {
                    continue;
                }
                // An empty change of owner or times would do nothing anywhere.
                let answer = function.call(&mut guest, path);
                let refused = Errno::Acces;
                let missing = path == "proc/new" && answer == Err(Errno::Noent);
                assert!(
                    answer == Err(refused) || missing,
                    "{} {path}: {answer:?}",
                    function.name
                );
            }
        }
        // And all of them work elsewhere.
        for function in PATH_FUNCTIONS {
            let path = if function.name.starts_with("mk") {
                format!("to-files/{}", function.name)
            } else {
                "to-files".to_owned()
            };
            assert_eq!(
                function.call(&mut guest, &path),
                Ok(()),
                "{}",
                function.name
            );
        }
        rustix::mount::unmount("/proc", rustix::mount::UnmountFlags::DETACH).expect("unmount");
    });
}

#[test]
fn access_is_that_of_the_files_mode() {
    with_guest(|guest| {
        fs::write("/f", "").expect("a file");
        let [path, length] = guest.put("f");
        let root = u64::from(ROOT);
        // Root may read and write, and execute if anyone may.
        let all = [root, FOLLOW, path, length, EXECUTE_WRITE_READ, 0];
        assert_eq!(guest.call("faccessat", &all), Err(Errno::Acces));
        fs::set_permissions("/f", fs::Permissions::from_mode(0o001)).expect("mode");
        let [path, length] = guest.put("f");
        for flags in [0, 1] {
            let all = [root, FOLLOW, path, length, EXECUTE_WRITE_READ, flags];
            guest.call("faccessat", &all).expect("access");
        }
    });
}

#[test]
fn ids_are_those_of_the_process() {
    with_guest(|guest| {
        for name in ["getuid", "geteuid", "getgid", "getegid"] {
            guest.call(name, &[OUT.into()]).expect(name);
            assert_eq!(guest.u32(OUT), 0);
        }
        guest.call("getpid", &[OUT.into()]).expect("getpid");
        assert_eq!(guest.u32(OUT), std::process::id());
        guest.call("getppid", &[OUT.into()]).expect("getppid");
        let parent = rustix::process::Pid::as_raw(rustix::process::getppid());
        assert_eq!(guest.u32(OUT), parent.cast_unsigned());
        let groups = rustix::process::getgroups().expect("groups");
        guest
            .call("getgroups", &[BUFFER.into(), 0, OUT.into()])
            .expect("count");
        assert_eq!(guest.u32(OUT) as usize, groups.len());
        guest
            .call("getgroups", &[BUFFER.into(), 1 << 16, OUT.into()])
            .expect("groups");
        for (index, group) in (0..).zip(&groups) {
            assert_eq!(guest.u32(BUFFER + 4 * index), group.as_raw());
        }
    });
}

#[test]
fn name_of_the_host_is_that_of_its_namespace() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUTS).expect("a namespace");
    nix::unistd::sethostname("the-guests-host").expect("a name");
    with_guest(|guest| {
        let name = |guest: &mut Caller, room: u64| {
            let arguments = [BUFFER.into(), room, OUT.into()];
            guest.call("gethostname", &arguments).expect("gethostname");
            guest.u32(OUT)
        };
        assert_eq!(name(guest, 0), 15);
        assert_eq!(name(guest, 64), 15);
        assert_eq!(guest.bytes(BUFFER, 15), b"the-guests-host");
    });
}

#[test]
fn limits_are_those_of_the_process() {
    use rustix::process::{Resource, getrlimit};
    with_guest(|guest| {
        for (number, resource) in [
            (0, Resource::Cpu),
            (3, Resource::Stack),
            (7, Resource::Nofile),
            (15, Resource::Rttime),
        ] {
            guest
                .call("getrlimit", &[number, OUT.into()])
                .expect("a limit");
            let limit = getrlimit(resource);
            for (place, value) in [(OUT, limit.current), (OUT + 8, limit.maximum)] {
                assert_eq!(guest.u64(place), value.unwrap_or(u64::MAX), "{resource:?}");
            }
        }
        let unknown = guest.call("getrlimit", &[16, OUT.into()]);
        assert_eq!(unknown, Err(Errno::Inval));
    });
}

/// By which a path starts at the root directory, as the witx says.
const ROOT_NUMBER: u64 = i32::MAX as u64;

/// What each function with a path answers that starts at `fd`, where `/missing` is not.
fn answers_of_path_functions(
    guest: &mut Caller,
    fd: u64,
) -> Vec<(&'static str, Result<(), Errno>)> {
    let [path, length] = [u64::from(BUFFER), 9];
    guest.write(BUFFER, b"missing/a");
    let mut answers: Vec<_> = PATH_FUNCTIONS
        .iter()
        .map(|function| {
            let flags: &[u64] = if function.flags { &[FOLLOW] } else { &[] };
            let arguments = [&[fd], flags, &[path, length], function.rest].concat();
            (function.name, guest.call(function.name, &arguments))
        })
        .collect();
    let of_preview1: &[(&str, &[u64])] = &[
        ("path_create_directory", &[fd, path, length]),
        ("path_filestat_get", &[fd, 0, path, length, OUT64]),
        ("path_filestat_set_times", &[fd, 0, path, length, 0, 0, 2]),
        ("path_link", &[fd, 0, path, length, fd, path, length]),
        ("path_open", &[fd, 0, path, length, 0, 2, 0, 0, OUT64]),
        ("path_readlink", &[fd, path, length, OUT64, 8, OUT64 + 16]),
        ("path_remove_directory", &[fd, path, length]),
        ("path_rename", &[fd, path, length, fd, path, length]),
        ("path_symlink", &[path, length, fd, path, length]),
        ("path_unlink_file", &[fd, path, length]),
    ];
    for (name, arguments) in of_preview1 {
        answers.push((name, guest.call(name, arguments)));
    }
    answers
}

fn all(answers: &[(&'static str, Result<(), Errno>)], expected: Errno) {
    for (name, answer) in answers {
        assert_eq!(*answer, Err(expected), "{name}");
    }
}

#[test]
fn paths_start_at_the_root_whatever_is_open() {
    with_guest(|guest| {
        for root in [ROOT.into(), ROOT_NUMBER] {
            all(&answers_of_path_functions(guest, root), Errno::Noent);
        }
        guest.call("release_preopen", &[]).expect("released");
        guest
            .call("release_preopen", &[])
            .expect("released already");
        all(&answers_of_path_functions(guest, ROOT.into()), Errno::Badf);
        all(&answers_of_path_functions(guest, ROOT_NUMBER), Errno::Noent);
        // The first that is opened has its number, and is no directory.
        let mut opening = Opening::read(b"f");
        opening.from = u32::try_from(ROOT_NUMBER).expect("32 bits");
        opening.oflags = types::Oflags::CREAT;
        assert_eq!(guest.open(&opening), Ok(3));
        all(&answers_of_path_functions(guest, 3), Errno::Notdir);
        let prestat = guest.call("fd_prestat_get", &[3, OUT64]);
        assert_eq!(prestat, Err(Errno::Badf));
        guest
            .call("close_range", &[0, u32::MAX.into()])
            .expect("closed");
        all(&answers_of_path_functions(guest, ROOT_NUMBER), Errno::Noent);
        assert_eq!(guest.open(&opening), Ok(0));
    });
}

#[test]
fn number_of_the_root_is_no_descriptor() {
    with_guest(|guest| {
        let number = ROOT_NUMBER;
        let calls: &[(&str, &[u64])] = &[
            ("fd_close", &[number]),
            ("fd_fdstat_get", &[number, OUT64]),
            ("fd_filestat_get", &[number, OUT64]),
            ("fd_prestat_get", &[number, OUT64]),
            ("fd_readdir", &[number, OUT64, 64, 0, OUT64]),
            ("fd_renumber", &[number, 1]),
            ("fd_renumber", &[1, number]),
            ("fd_sync", &[number]),
            ("fstat", &[number, OUT64]),
            ("fstatvfs", &[number, OUT64]),
            ("fchmod", &[number, 0o700]),
            ("dup", &[number, 0, OUT64]),
            ("dup2", &[number, 1]),
            ("dup2", &[1, number]),
        ];
        for (name, arguments) in calls {
            assert_eq!(guest.call(name, arguments), Err(Errno::Badf), "{name}");
        }
        assert_eq!(guest.call("dup", &[1, number, OUT64]), Err(Errno::Inval));
        all(&answers_of_path_functions(guest, number), Errno::Noent);
    });
}

#[test]
fn record_locks_of_the_process_end_with_any_number_of_their_file() {
    with_guest(|guest| {
        let other = guest.create("f");
        // Each way to free a number, of two that share an open file.
        for way in ["fd_close", "dup2", "close_range"] {
            let file = guest.create("f");
            guest
                .call("dup", &[file.into(), 0, OUT.into()])
                .expect("dup");
            let copy = guest.u32(OUT);
            // From the start to the end, for writing.
            let lock = [&[0_u8; 20][..], &[1, 0, 0, 0]].concat();
            let [whole, _] = guest.put(&lock);
            guest
                .call("fcntl_setlk", &[file.into(), 0, whole, 1])
                .expect("a lock");
            let kind = |guest: &mut Caller| {
                let [whole, _] = guest.put(&lock);
                guest
                    .call("fcntl_getlk", &[other.into(), 1, whole, BUFFER.into()])
                    .expect("getlk");
                guest.u8(BUFFER + 20)
            };
            assert_eq!(kind(guest), 1, "{way}: a writer's");
            let copy = u64::from(copy);
            let freed = match way {
                "dup2" => guest.call(way, &[0, copy]),
                way => guest.call(way, &[copy, copy]),
            };
            freed.expect(way);
            assert_eq!(kind(guest), 2, "{way}: none");
            guest.close(file).expect("close");
        }
    });
}
