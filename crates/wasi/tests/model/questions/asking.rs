//! How a question is asked, and an answer compared.

use super::super::{
    guest::GuestSide,
    kernel::ROOT,
    operation::{Access, Name, Operation, open},
    outcome::{Outcome, Stat},
};

pub(super) mod errno {
    pub(in super::super) const BADF: u16 = 8;
    pub(in super::super) const EXIST: u16 = 20;
    pub(in super::super) const FAULT: u16 = 21;
    pub(in super::super) const INVAL: u16 = 28;
    pub(in super::super) const ISDIR: u16 = 31;
    pub(in super::super) const LOOP: u16 = 32;
    pub(in super::super) const NOENT: u16 = 44;
    pub(in super::super) const NOTDIR: u16 = 54;
    pub(in super::super) const NOTEMPTY: u16 = 55;
    pub(in super::super) const NOTSOCK: u16 = 57;
    pub(in super::super) const PERM: u16 = 63;
}

pub(super) mod kind {
    pub(in super::super) const DIRECTORY: u8 = 3;
    pub(in super::super) const FILE: u8 = 4;
    pub(in super::super) const LINK: u8 = 7;
}

pub(super) fn path(text: &str) -> Name {
    Name(text.as_bytes().to_vec())
}

pub(super) fn opening(at: u32, name: &str, flags: u16, access: Access) -> Operation {
    Operation::Open {
        at,
        follow: true,
        path: path(name),
        flags,
        access,
        status: 0,
    }
}

pub(super) fn opened(guest: &mut GuestSide, operation: &Operation) -> u32 {
    match guest.run(operation) {
        Outcome::Number(fd) => u32::try_from(fd).expect("a descriptor"),
        outcome => panic!("{operation:?}: {outcome:?}"),
    }
}

/// A new file with content, open for both.
pub(super) fn file(guest: &mut GuestSide, name: &str, sizes: &[u32]) -> u32 {
    let create = opening(ROOT, name, open::CREATE | open::TRUNCATE, Access::ReadWrite);
    let fd = opened(guest, &create);
    let sizes = sizes.to_vec();
    guest.run(&Operation::Write { fd, sizes, fill: 1 });
    fd
}

pub(super) fn directory(guest: &mut GuestSide, name: &str) -> u32 {
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
pub(super) fn answers(guest: &mut GuestSide, operation: &Operation, expected: &Outcome) {
    let outcome = guest.run(operation);
    assert_eq!(&outcome, expected, "{operation:?}");
}

#[track_caller]
pub(super) fn done(guest: &mut GuestSide, operation: &Operation) {
    answers(guest, operation, &Outcome::Done);
}

#[track_caller]
pub(super) fn fails(guest: &mut GuestSide, operation: &Operation, errno: u16) {
    answers(guest, operation, &Outcome::Failed(errno));
}

#[track_caller]
pub(super) fn stat(guest: &mut GuestSide, name: &str, follow: bool) -> Stat {
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

pub(super) fn link(guest: &mut GuestSide, target: &str, name: &str) {
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

pub(super) fn missing(guest: &mut GuestSide, name: &str) {
    fails(guest, &opening(ROOT, name, 0, Access::Read), errno::NOENT);
}
