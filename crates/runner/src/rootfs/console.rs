//! A terminal of the container's own: a pseudoterminal of the devpts that its spec mounts. That of the init
//! process is also the container's `/dev/console`.
//!
//! Called by the init process right after it has entered the root file system, and by a further process once it
//! has joined the container. What the image or a volume may have put in place of the devices is refused, as runc
//! refuses it (CVE-2025-52565).
#![forbid(unsafe_code)]

use std::{
    io::Error,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, major, minor, openat2},
    io::Errno,
};

use super::{detached, options::Depth};
use crate::{sys, terminal::Pty};

/// The multiplexer of the container's devpts. A symlink leads there from `/dev/ptmx`.
const MULTIPLEXER: &str = "/dev/pts/ptmx";
const CONSOLE: &str = "/dev/console";
/// `DEVPTS_SUPER_MAGIC` of the kernel's magic.h.
const DEVPTS: u64 = 0x1cd1;
/// The multiplexer's inode and device (mknod_ptmx in the kernel's fs/devpts/inode.c).
const INODE: u64 = 2;
const DEVICE: (u32, u32) = (5, 2);

/// Opens a new pseudoterminal and mounts it on `/dev/console`. `None`: the container has no devpts.
pub(super) fn open_console() -> Result<Option<Pty>, Error> {
    let pty = open()?;
    if let Some(pty) = &pty {
        mount(&pty.slave)?;
    }
    Ok(pty)
}

/// Opens a new pseudoterminal. `None`: the container has no devpts.
pub(crate) fn open() -> Result<Option<Pty>, Error> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let found = openat2(
        CWD,
        MULTIPLEXER,
        flags,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS,
    );
    let master = match found {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        found => found?,
    };
    check(&master)?;
    let slave = sys::open_peer(master.as_fd())?;
    Ok(Some(Pty { master, slave }))
}

fn check(master: &OwnedFd) -> Result<(), Error> {
    let (stat, filesystem) = (fstat(master)?, fstatfs(master)?);
    let device = (major(stat.st_rdev), minor(stat.st_rdev));
    let own = u64::try_from(filesystem.f_type).is_ok_and(|magic| magic == DEVPTS)
        && stat.st_ino == INODE
        && FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && device == DEVICE;
    if own {
        return Ok(());
    }
    Err(Error::other(format!(
        "{MULTIPLEXER} is not the multiplexer of a devpts; mount a new devpts at /dev/pts"
    )))
}

/// Mounts it over whatever `/dev/console` is.
fn mount(slave: &OwnedFd) -> Result<(), Error> {
    let make = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let made = openat2(
        CWD,
        CONSOLE,
        make,
        Mode::from_raw_mode(0o666),
        ResolveFlags::NO_SYMLINKS,
    );
    match made {
        Ok(_) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(failed("make", errno)),
    }
    let handle = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = openat2(
        CWD,
        CONSOLE,
        handle,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS,
    )
    .map_err(|errno| failed("open", errno))?;
    let copy = detached::copy_of(slave, Depth::Shallow)?;
    detached::attach(&copy, &place)
}

fn failed(act: &str, errno: Errno) -> Error {
    let error = Error::from(errno);
    Error::new(error.kind(), format!("cannot {act} {CONSOLE}: {error}"))
}
