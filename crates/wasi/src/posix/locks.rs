//! flock(2) and record locks: the kernel's, so they hold between containers that share a volume. What
//! waits is in the kernel, and ends with the process.
#![forbid(unsafe_code)]

use nix::fcntl::{FcntlArg, fcntl};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno as Kernel,
};

use crate::{abi::types, errno::Result, guest::Guest, wait::interruptible};

/// A record lock in the kernel's words.
fn kernel(lock: &types::Lock) -> libc::flock {
    libc::flock {
        l_type: match lock.type_ {
            types::LockType::Read => libc::F_RDLCK,
            types::LockType::Write => libc::F_WRLCK,
            types::LockType::Unlock => libc::F_UNLCK,
        } as libc::c_short,
        l_whence: match lock.whence {
            types::Whence::Set => libc::SEEK_SET,
            types::Whence::Cur => libc::SEEK_CUR,
            types::Whence::End => libc::SEEK_END,
        } as libc::c_short,
        l_start: lock.start,
        l_len: lock.len,
        // The kernel wants 0 for locks of a description.
        l_pid: 0,
    }
}

/// What the kernel has found, which it describes from the start of the file.
fn found(lock: &libc::flock) -> types::Lock {
    types::Lock {
        start: lock.l_start,
        len: lock.l_len,
        // -1: a lock of a description has no process.
        pid: lock.l_pid.cast_unsigned(),
        type_: match libc::c_int::from(lock.l_type) {
            libc::F_RDLCK => types::LockType::Read,
            libc::F_WRLCK => types::LockType::Write,
            _ => types::LockType::Unlock,
        },
        whence: types::Whence::Set,
    }
}

impl Guest {
    pub(super) fn lock_file(
        &self,
        fd: types::Fd,
        operation: types::FlockOperation,
        flags: types::Lockflags,
    ) -> Result<()> {
        use types::FlockOperation as O;
        let nonblocking = flags.contains(types::Lockflags::NONBLOCK);
        let operation = match (operation, nonblocking) {
            (O::Shared, false) => FlockOperation::LockShared,
            (O::Shared, true) => FlockOperation::NonBlockingLockShared,
            (O::Exclusive, false) => FlockOperation::LockExclusive,
            (O::Exclusive, true) => FlockOperation::NonBlockingLockExclusive,
            (O::Unlock, _) => FlockOperation::Unlock,
        };
        let file = self.descriptors.get(fd)?;
        Ok(interruptible(|| flock(file, operation))?)
    }

    pub(super) fn find_record_lock(
        &self,
        fd: types::Fd,
        owner: types::LockOwner,
        lock: &types::Lock,
    ) -> Result<types::Lock> {
        let file = self.descriptors.get(fd)?;
        let mut looked_for = kernel(lock);
        fcntl(
            file,
            match owner {
                types::LockOwner::Process => FcntlArg::F_GETLK(&mut looked_for),
                types::LockOwner::Description => FcntlArg::F_OFD_GETLK(&mut looked_for),
            },
        )?;
        Ok(found(&looked_for))
    }

    pub(super) fn set_record_lock(
        &self,
        fd: types::Fd,
        owner: types::LockOwner,
        lock: &types::Lock,
        flags: types::Lockflags,
    ) -> Result<()> {
        use types::LockOwner as O;
        let file = self.descriptors.get(fd)?;
        if owner == O::Process {
            self.descriptors.note_locks();
        }
        let lock = kernel(lock);
        let nonblocking = flags.contains(types::Lockflags::NONBLOCK);
        Ok(interruptible(|| {
            let argument = match (owner, nonblocking) {
                (O::Process, true) => FcntlArg::F_SETLK(&lock),
                (O::Process, false) => FcntlArg::F_SETLKW(&lock),
                (O::Description, true) => FcntlArg::F_OFD_SETLK(&lock),
                (O::Description, false) => FcntlArg::F_OFD_SETLKW(&lock),
            };
            fcntl(file, argument)
                .map(drop)
                .map_err(|error| Kernel::from_raw_os_error(error as i32))
        })?)
    }
}
