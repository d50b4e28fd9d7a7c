//! Descriptors: their content, position, flags and end.

use super::{
    super::{
        guest::GuestSide,
        kernel::ROOT,
        operation::{Access, Cookie, Name, Operation, open, status},
        outcome::{Outcome, Status},
        trampoline::Value,
    },
    asking::{
        answers, directory, done, errno, fails, file, kind, missing, opened, opening, path, stat,
    },
};

pub(super) fn closed_root(guest: &mut GuestSide) {
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

pub(super) fn removed_while_open(guest: &mut GuestSide) {
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

pub(super) fn files_calls_on_directories(guest: &mut GuestSide) {
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

pub(super) fn advise_and_allocate(guest: &mut GuestSide) {
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

pub(super) fn flags_of_descriptors(guest: &mut GuestSide) {
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

pub(super) fn read_and_write_at(guest: &mut GuestSide) {
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
    let expected = super::super::operation::pattern(9, &[3, 4]).concat();
    answers(guest, &read(10, 100), &Outcome::Data(Name(expected)));
    answers(guest, &read(17, 100), &Outcome::Data(Name(Vec::new())));
    answers(guest, &read(0, 10), &Outcome::Data(Name(vec![0; 10])));
    fails(guest, &read(u64::MAX, 1), errno::INVAL);
    fails(guest, &write(1 << 63), errno::INVAL);
}

/// The suite asks for ENOTSUP or for POSIX; Linux appends, as pwrite(2) says under BUGS.
pub(super) fn write_at_with_append(guest: &mut GuestSide) {
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

pub(super) fn seek_and_tell(guest: &mut GuestSide) {
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

pub(super) fn truncate(guest: &mut GuestSide) {
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

pub(super) fn write_then_read(guest: &mut GuestSide) {
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
    let expected = super::super::operation::pattern(3, &[1]).concat();
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

pub(super) fn streams(guest: &mut GuestSide) {
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

pub(super) fn renumber(guest: &mut GuestSide) {
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
