//! Opens files that a container's process holds open and that no container may write: the runner's
//! executable and the native code. Each is opened through a detached read-only mount (decision 0011).
//! Called by [`super::spawn`].
#![forbid(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{CWD, FlockOperation, Mode, OFlags, SealFlags, fcntl_get_seals, flock, open},
    io::Errno,
    mount::{OpenTreeFlags, open_tree},
};
use wasm_interp_mounts::{Depth, set_attributes};

/// With these seals the kernel refuses every later write to a memory file, through any descriptor.
const IMMUTABLE: SealFlags = SealFlags::WRITE
    .union(SealFlags::GROW)
    .union(SealFlags::SHRINK)
    .union(SealFlags::SEAL);

/// Opens the file at `path` for execution.
pub(super) fn executable(path: &Path) -> io::Result<OwnedFd> {
    through_own_mount(CWD, path, OpenTreeFlags::empty())
}

/// Opens the native code in `file` for mapping, with a shared lock that shows the store that it is in
/// use.
///
/// Sealed memory needs no read-only mount, and has no mount that could be cloned.
pub(super) fn native_code(file: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    if is_immutable(file)? {
        return file.try_clone_to_owned();
    }
    let place = through_own_mount(file, Path::new(""), OpenTreeFlags::AT_EMPTY_PATH)?;
    let place = format!("/proc/self/fd/{}", place.as_raw_fd());
    let code = open(place, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    // A lock belongs to an open file description, and this is a different one from the caller's.
    flock(&code, FlockOperation::NonBlockingLockShared)?;
    Ok(code)
}

fn is_immutable(file: BorrowedFd<'_>) -> io::Result<bool> {
    match fcntl_get_seals(file) {
        Ok(seals) => Ok(seals.contains(IMMUTABLE)),
        // It is not a memory file.
        Err(Errno::INVAL) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn through_own_mount(
    directory: BorrowedFd<'_>,
    path: &Path,
    flags: OpenTreeFlags,
) -> io::Result<OwnedFd> {
    let flags = flags | OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(directory, path, flags)?;
    let read_only = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    set_attributes(mount.as_fd(), Depth::Shallow, read_only)?;
    Ok(mount)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use rustix::fs::{MemfdFlags, fcntl_add_seals, memfd_create};

    use super::*;

    fn writable(fd: &OwnedFd) -> io::Result<()> {
        let again = format!("/proc/self/fd/{}", fd.as_raw_fd());
        fs::File::options().write(true).open(again)?.write_all(b"x")
    }

    #[test]
    fn native_code_cannot_be_written_and_is_locked_for_as_long_as_it_is_open() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("code");
        fs::write(&path, "code").expect("write");
        let file = fs::File::open(&path).expect("open");
        let code = native_code(file.as_fd()).expect("protect");
        drop(file);
        let error = writable(&code).expect_err("read-only");
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
        let eviction = fs::File::open(&path).expect("open");
        eviction.try_lock().expect_err("it is used");
        drop(code);
        eviction.try_lock().expect("it is free");
        fs::write(&path, "the file itself").expect("is writable as before");
    }

    #[test]
    fn memory_with_native_code_has_to_be_sealed() {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = memfd_create("code", flags).expect("memory");
        native_code(memory.as_fd()).expect_err("it can be written");
        fcntl_add_seals(&memory, IMMUTABLE).expect("seal");
        let code = native_code(memory.as_fd()).expect("immutable");
        let error = writable(&code).expect_err("sealed");
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }
}
