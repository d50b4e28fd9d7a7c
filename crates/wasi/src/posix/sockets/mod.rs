//! Functions of sockets, by one file per subject: [`create`], [`ends`] (bind, listen, connect, names),
//! [`messages`], [`options`], [`unix`] (sockets that paths lead to; [`unchanged`] holds these), [`names`] (of hosts).
//!
//! The kernel's sockets, called one by one. What is added is what no part of the kernel can hold for us:
//! - Families, types, options and flags are lists; what is not in them is an error.
//! - Each address is copied from the guest once, checked, and given to the kernel as it was checked.
//! - No ancillary data enters or leaves: no call has room for it, so no descriptor is passed either way.
//! - What no grant asks for has no socket of the kernel's, since the guest's filter refuses the call.
//!
//! Preview 1 has some of them too. The descriptors are those of files, in the one table.

mod create;
mod ends;
mod messages;
mod names;
mod options;
mod unchanged;
mod unix;

use std::sync::Arc;

use rustix::{
    fs::{FileType, OFlags, fcntl_getfl, fstat},
    net::{Shutdown, shutdown},
};

use crate::{
    abi::types,
    descriptors::Description,
    errno::{Errno, Result},
    guest::Guest,
    sockets::{Socket, SocketOrigin},
};

pub(super) use self::create::nonblock;

/// What the kernel answers for a descriptor that is no socket: one that is only a name has no operations at all.
fn no_socket(file: &Description) -> Errno {
    match fcntl_getfl(file) {
        Ok(flags) if !flags.contains(OFlags::PATH) => Errno::Notsock,
        _ => Errno::Badf,
    }
}

impl Guest {
    /// A socket that was made for the guest, by the kernel or in name.
    fn socket(&self, fd: types::Fd) -> Result<(&Arc<Description>, &Socket)> {
        let file = self.descriptors.get(fd)?;
        let Some(socket) = file.as_socket() else {
            return Err(no_socket(file));
        };
        Ok((file, socket))
    }

    /// What is a socket of the kernel's: the guest's own, or a stream of the container. ENOTSOCK for anything else,
    /// before the stream is asked whether it is ready.
    fn socket_or_stream(&self, fd: types::Fd) -> Result<&Arc<Description>> {
        let file = self.descriptors.get(fd)?;
        match file.as_socket().map(|socket| socket.made) {
            // It was refused what it was for.
            Some(SocketOrigin::InName) => Err(Errno::Acces),
            Some(SocketOrigin::ByKernel | SocketOrigin::Pair) => Ok(file),
            None => match FileType::from_raw_mode(fstat(file)?.st_mode) {
                FileType::Socket => Ok(file),
                _ => Err(no_socket(file)),
            },
        }
    }

    pub(crate) fn shut_down(&self, fd: types::Fd, how: types::Sdflags) -> Result<()> {
        use types::Sdflags as F;
        let socket = self.socket_or_stream(fd)?;
        let how = match (how.contains(F::RD), how.contains(F::WR)) {
            (true, true) => Shutdown::Both,
            (true, false) => Shutdown::Read,
            (false, true) => Shutdown::Write,
            (false, false) => return Err(Errno::Inval),
        };
        Ok(shutdown(socket, how)?)
    }
}
