//! mount_setattr(2), which neither rustix nor nix offers. Called by the runner for a container's mounts, and
//! by its client for the mounts that the runner's own files are opened through.
//!
//! This is a leaf file with unsafe code, for this system call.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Whether the mounts beneath are meant too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Only the mount itself.
    Shallow,
    /// Those beneath it too.
    Recursive,
}

/// Changes the attributes of the mount that `mount` is: a descriptor of its root.
///
/// # Errors
/// The kernel's.
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    depth: Depth,
    attributes: libc::mount_attr,
) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH
        | match depth {
            Depth::Shallow => 0,
            Depth::Recursive => libc::AT_RECURSIVE,
        };
    // SAFETY: the path is a C string, and `attributes` is valid for reads of its size; both outlive the
    // call, which keeps neither.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
