//! Two properties of a file that need raw system calls. Only the stamp calls it.
#![allow(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

/// The kernel's own name of an inode: opaque, but equal for equal inodes, with the generation that
/// tells a reused inode number from its predecessor (`name_to_handle_at(2)`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Handle {
    pub(super) kind: i32,
    pub(super) bytes: Vec<u8>,
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}:{}", self.kind, hex::encode(&self.bytes))
    }
}

/// `MAX_HANDLE_SZ`.
const MAX_HANDLE: usize = 128;
/// Linux 6.5: a handle that identifies and need not be opened again, which overlayfs also has.
const AT_HANDLE_FID: libc::c_int = 0x200;
/// `F_SETSIG` of the generic and the arm64 and x86 headers alike; the libc crate lacks it.
const F_SETSIG: libc::c_int = 10;

#[repr(C, align(8))]
struct RawHandle {
    handle_bytes: libc::c_uint,
    handle_type: libc::c_int,
    f_handle: [u8; MAX_HANDLE],
}

/// The handle of an open file; `None` if the file system or the kernel has none.
pub(super) fn handle_of(file: &File) -> io::Result<Option<Handle>> {
    for flags in [libc::AT_EMPTY_PATH | AT_HANDLE_FID, libc::AT_EMPTY_PATH] {
        let mut raw = RawHandle {
            handle_bytes: MAX_HANDLE as libc::c_uint,
            handle_type: 0,
            f_handle: [0; MAX_HANDLE],
        };
        let mut mount: libc::c_int = 0;
        // SAFETY: the descriptor is open for the length of the call, the path is an empty C string,
        // `raw` has the layout of `struct file_handle` with `handle_bytes` of room after its head,
        // and `mount` is an int; the kernel writes nowhere else.
        let result = unsafe {
            libc::syscall(
                libc::SYS_name_to_handle_at,
                file.as_raw_fd(),
                c"".as_ptr(),
                &raw mut raw,
                &raw mut mount,
                flags,
            )
        };
        if result == 0 {
            let length = (raw.handle_bytes as usize).min(MAX_HANDLE);
            let bytes = raw.f_handle[..length].to_vec();
            return Ok(Some(Handle {
                kind: raw.handle_type,
                bytes,
            }));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // An older kernel does not know the flag; the plain call may still serve.
            Some(libc::EINVAL) => {}
            // This file system, kernel or sandbox has no handles.
            Some(libc::EOPNOTSUPP | libc::EOVERFLOW | libc::ENOSYS | libc::EPERM) => {
                return Ok(None);
            }
            _ => return Err(error),
        }
    }
    Ok(None)
}

/// Whether a process may have the file open for writing or mapped writable. A page that is already
/// dirty in such a mapping can change without a change of the inode's times.
///
/// The function briefly takes a read lease, which the kernel grants only if no process has the file so
/// (`fcntl(2)`). If the kernel grants none, the result is true.
pub(crate) fn has_writer(file: &File) -> bool {
    let fd = file.as_raw_fd();
    // A writer that opens the file in that instant makes the kernel signal this process. SIGURG is
    // ignored by default, while the default signal, SIGIO, would end the process.
    // SAFETY: fcntl with integer arguments on an open descriptor touches none of this process's memory.
    let granted = unsafe {
        libc::fcntl(fd, F_SETSIG, libc::SIGURG) == 0
            && libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) == 0
    };
    if granted {
        // SAFETY: as above. It cannot fail on a lease just taken, and dropping the file ends it too.
        unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) };
    }
    !granted
}
