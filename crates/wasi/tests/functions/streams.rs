//! The container's streams, by their numbers and by their names.

use std::{fs, os::unix::fs::symlink};

use wasm_interp_wasi::{abi::types, errno::Errno};

use crate::support::{Opening, with_guest};

#[test]
fn names_of_streams_mean_the_guests_descriptors() {
    with_guest(|guest| {
        fs::create_dir_all("/var/log/app").expect("a directory");
        symlink("/dev/stdout", "/var/log/out.log").expect("a link");
        symlink("../out.log", "/var/log/app/second.log").expect("a link");
        symlink("/proc/self/fd/2", "/var/log/err.log").expect("a link");
        symlink("/dev/fd/2", "/var/log/err2.log").expect("a link");
        symlink("/proc/1/fd/1", "/var/log/one.log").expect("a link");
        symlink("log", "/var/logs").expect("a link");
        for (path, stream) in [
            ("dev/stdin", 0),
            ("dev/stdout", 1),
            ("dev/stderr", 2),
            ("dev/fd/0", 0),
            ("dev/fd/2", 2),
            ("var/log/out.log", 1),
            ("var/log/app/second.log", 1),
            ("var/logs/../logs/out.log", 1),
            ("var/log/err.log", 2),
            ("var/log/err2.log", 2),
            ("var/log/one.log", 1),
        ] {
            // Others may write to the stream meanwhile.
            let by_number = guest.stat_open(stream).expect("fstat");
            let by_name = guest.stat(path, true).expect(path);
            let identity = (by_number.dev, by_number.ino, by_number.filetype);
            let found = (by_name.dev, by_name.ino, by_name.filetype);
            assert_eq!(found, identity, "{path}");
        }
        let link = guest.stat("dev/stdout", false).expect("lstat");
        assert_eq!(link.filetype, types::Filetype::SymbolicLink);
    });
}

#[test]
fn opening_a_name_gives_the_same_open_file_and_empties_nothing() {
    with_guest(|guest| {
        let fd = guest.create("f");
        guest.put_out(fd, b"kept").expect("write");
        symlink(format!("/dev/fd/{fd}"), "/log").expect("a link");
        let mut open = Opening::write("log");
        open.oflags = types::Oflags::CREAT | types::Oflags::TRUNC;
        let second = guest.open(&open).expect("open");
        assert_ne!(second, fd);
        guest.put_out(second, b"+more").expect("write");
        assert_eq!(fs::read("/f").expect("read"), b"kept+more");
        guest.close(fd).expect("close");
        assert_eq!(guest.put_out(second, b"!"), Ok(1), "the file stays open");
        assert_eq!(guest.open(&open), Err(Errno::Noent), "the number is closed");
        assert_eq!(guest.stat("log", true), Err(Errno::Noent));
    });
}

#[test]
fn a_name_can_only_be_opened_for_what_the_stream_is_open_for() {
    with_guest(|guest| {
        fs::write("/f", "").expect("f");
        let fd = guest.open(&Opening::read("f")).expect("open");
        let path = format!("dev/fd/{fd}");
        assert_eq!(guest.open(&Opening::write(&path)), Err(Errno::Acces));
        assert_eq!(guest.open(&Opening::directory(&path)), Err(Errno::Notdir));
        assert!(guest.open(&Opening::read(&path)).is_ok());
        let mut nofollow = Opening::read("dev/stdin");
        nofollow.lookup = types::Lookupflags::empty();
        assert_eq!(guest.open(&nofollow), Err(Errno::Loop));
    });
}

#[test]
fn what_is_missing_stays_missing() {
    with_guest(|guest| {
        symlink("/dev/stdout2", "/dangling").expect("a link");
        symlink("loop", "/loop").expect("a link");
        symlink("/dev/fd/x", "/letter").expect("a link");
        for (path, error) in [
            ("nothing", Errno::Noent),
            ("dangling", Errno::Noent),
            ("letter", Errno::Noent),
            ("dev/fd/77", Errno::Noent),
            ("dev/fd/1/x", Errno::Noent),
            ("dev/fd", Errno::Noent),
            ("loop", Errno::Loop),
            ("proc/self/fd/1", Errno::Noent),
        ] {
            let answer = guest.stat(path, true).map(drop);
            // A path that spells it out means the stream, though nothing is there.
            let expected = if path.starts_with("proc") {
                Ok(())
            } else {
                Err(error)
            };
            assert_eq!(answer, expected, "{path}");
        }
    });
}

#[test]
fn o_nonblock_of_a_stream_is_the_guests_alone() {
    with_guest(|guest| {
        let before = rustix::fs::fcntl_getfl(std::io::stdin()).expect("flags");
        guest
            .call("fd_fdstat_set_flags", &[0, 4])
            .expect("O_NONBLOCK");
        let (_, flags, _) = guest.fdstat(0).expect("fdstat");
        assert!(flags.contains(types::Fdflags::NONBLOCK));
        assert_eq!(
            rustix::fs::fcntl_getfl(std::io::stdin()).expect("flags"),
            before
        );
        guest
            .call("fd_fdstat_set_flags", &[0, 0])
            .expect("no flags");
        let (_, flags, _) = guest.fdstat(0).expect("fdstat");
        assert!(!flags.contains(types::Fdflags::NONBLOCK));
    });
}

#[test]
fn a_closed_stream_is_only_the_guests() {
    with_guest(|guest| {
        guest.close(1).expect("close");
        assert_eq!(guest.put_out(1, b"x"), Err(Errno::Badf));
        assert!(rustix::io::fcntl_getfd(std::io::stdout()).is_ok());
        assert_eq!(guest.create("f"), 1, "the lowest free number");
        guest.call("fd_renumber", &[1, 2]).expect("renumber");
        guest.put_out(2, b"to the file").expect("write");
        assert_eq!(fs::read("/f").expect("read"), b"to the file");
        let unopened = guest.call("fd_renumber", &[2, 50]);
        assert_eq!(unopened, Err(Errno::Badf));
    });
}

#[test]
fn times_of_a_stream_belong_to_all_who_share_it() {
    with_guest(|guest| {
        let now = types::Fstflags::ATIM_NOW | types::Fstflags::MTIM_NOW;
        for stream in 0..3 {
            let arguments = [stream, 0, 0, now.bits().into()];
            let answer = guest.call("fd_filestat_set_times", &arguments);
            assert_eq!(answer, Err(Errno::Perm), "{stream}");
            let arguments = [stream, 0, 0, 0, 0, now.bits().into()];
            assert_eq!(
                guest.call("futimens", &arguments),
                Err(Errno::Perm),
                "{stream}"
            );
        }
    });
}
