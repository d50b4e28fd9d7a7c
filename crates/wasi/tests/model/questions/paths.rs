//! Paths: links, directories, times, names with a slash at their end, and confinement.

use super::{
    super::{
        guest::GuestSide,
        kernel::ROOT,
        operation::{Access, Cookie, Operation, open, times},
        outcome::{Outcome, Status, Time},
    },
    asking::{
        answers, directory, done, errno, fails, file, kind, link, missing, opened, opening, path,
        stat,
    },
};

pub(super) fn links(guest: &mut GuestSide) {
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

pub(super) fn link_to_itself(guest: &mut GuestSide) {
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

pub(super) fn stat_of_links(guest: &mut GuestSide) {
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

/// The suite asks for EBADF of a seek; Linux has seekdir(3) by it.
pub(super) fn seek_in_directory(guest: &mut GuestSide) {
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

pub(super) fn set_times(guest: &mut GuestSide) {
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

pub(super) fn list_directory(guest: &mut GuestSide) {
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

pub(super) fn stat_of_paths(guest: &mut GuestSide) {
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

pub(super) fn hard_links(guest: &mut GuestSide) {
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

pub(super) fn create_and_missing(guest: &mut GuestSide) {
    missing(guest, "file");
    file(guest, "file", &[1]);
    let exclusive = opening(ROOT, "file", open::CREATE | open::EXCLUSIVE, Access::Write);
    fails(guest, &exclusive, errno::EXIST);
    missing(guest, "");
    missing(guest, "nowhere/file");
}

pub(super) fn path_from_a_file(guest: &mut GuestSide) {
    let at = file(guest, "file", &[]);
    fails(guest, &opening(at, "file", 0, Access::Read), errno::NOTDIR);
    fails(guest, &opening(1000, "file", 0, Access::Read), errno::BADF);
}

pub(super) fn open_root(guest: &mut GuestSide) {
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

pub(super) fn access_modes(guest: &mut GuestSide) {
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

pub(super) fn rename(guest: &mut GuestSide) {
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

pub(super) fn trailing_slashes(guest: &mut GuestSide) {
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

pub(super) fn read_link(guest: &mut GuestSide) {
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

pub(super) fn remove_full_directory(guest: &mut GuestSide) {
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

pub(super) fn above_the_start(guest: &mut GuestSide) {
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

pub(super) fn absolute_link(guest: &mut GuestSide) {
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
