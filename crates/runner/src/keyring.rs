//! Gives a container a session keyring of its own, so that it finds no key of the process that started
//! containerd.
//!
//! Called by `init` in the new process, once it is in its user namespace. A leaf: keyctl(2) is in
//! neither rustix nor nix.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_long, c_ulong},
    io::{Error, ErrorKind},
};

/// Who may search the keyring besides its possessor, by a bit of keyctl_setperm(3). As runc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Searcher {
    /// Its owner: `KEY_USR_SEARCH`.
    Owner,
    /// Every user: `KEY_OTH_SEARCH`. In a user namespace the owner is another user for the kernel.
    EveryUser,
}

impl Searcher {
    fn permission(self) -> c_ulong {
        match self {
            Self::Owner => 0x0008_0000,
            Self::EveryUser => 0x0000_0008,
        }
    }
}

/// The name of the session keyring of the container `id`, under which runc makes it too.
pub(crate) fn name(id: &str) -> String {
    format!("_ses.{id}")
}

/// Makes the keyring of this name the session keyring of this process, and who may search it; a kernel
/// without keyrings is no error.
pub(crate) fn join(name: &str, searcher: Searcher) -> std::io::Result<()> {
    let Some(keyring) = join_session(name)? else {
        return Ok(());
    };
    let permissions = permissions(keyring)? | searcher.permission();
    keyctl(libc::KEYCTL_SETPERM, keyring, permissions, 0).map(drop)
}

/// Makes the keyring that [`join`] has made the session keyring of this process too.
pub(crate) fn join_existing(name: &str) -> std::io::Result<()> {
    join_session(name).map(drop)
}

/// `None`: the kernel has no keyrings.
fn join_session(name: &str) -> std::io::Result<Option<c_ulong>> {
    let name = CString::new(name).map_err(Error::other)?;
    match keyctl(libc::KEYCTL_JOIN_SESSION_KEYRING, pointer(&name), 0, 0) {
        Ok(keyring) => Ok(Some(keyring as c_ulong)),
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The permissions of a key: the fourth field of `type;uid;gid;perm;description`.
fn permissions(key: c_ulong) -> std::io::Result<c_ulong> {
    let mut text = vec![0u8; 256];
    let length = text.len() as c_ulong;
    let needed = keyctl(
        libc::KEYCTL_DESCRIBE,
        key,
        text.as_mut_ptr() as c_ulong,
        length,
    )?;
    text.truncate(usize::try_from(needed).map_err(Error::other)?);
    let field = text.split(|&byte| byte == b';').nth(3);
    field
        .and_then(|field| std::str::from_utf8(field).ok())
        .and_then(|field| c_ulong::from_str_radix(field, 16).ok())
        .ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidData,
                "the key's description has no permissions",
            )
        })
}

fn pointer(text: &CStr) -> c_ulong {
    text.as_ptr() as c_ulong
}

fn keyctl(
    operation: u32,
    first: c_ulong,
    second: c_ulong,
    third: c_ulong,
) -> std::io::Result<c_long> {
    // SAFETY: of the operations above JOIN_SESSION_KEYRING reads a C string, which its caller holds,
    // and DESCRIBE writes at most as many bytes as it is told, to a buffer of that size. SETPERM
    // touches no memory. Arguments that an operation does not take are ignored.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, operation, first, second, third) };
    if result < 0 {
        Err(Error::last_os_error())
    } else {
        Ok(result)
    }
}
