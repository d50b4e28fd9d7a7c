//! Options of sockets: a list, and how their values look.
#![forbid(unsafe_code)]

use std::os::fd::AsFd as _;

use rustix::io::Errno as Kernel;
use wiggle::{GuestMemory, GuestPtr};

use crate::{
    abi::types,
    errno::{Errno, Result},
    guest::Guest,
    memory,
    sockets::{SocketOrigin, sys},
};

/// How the value of an option looks to a guest: as to any program of a 64-bit Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A number.
    Number,
    /// `SO_ERROR`, an error number of the guest's interface.
    Error,
    /// `struct linger`, two numbers.
    Linger,
    /// `struct timeval`, two numbers of 64 bits.
    Time,
}

/// Whether a guest may change an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Get,
    GetAndSet,
}

const NUMBER: usize = 4;
const LARGEST: usize = 16;

impl Form {
    fn size(self) -> usize {
        match self {
            Self::Number | Self::Error => NUMBER,
            Self::Linger => 8,
            Self::Time => LARGEST,
        }
    }
}

/// The list: each option, how its value looks, and whether it can be changed.
fn known(level: i32, option: i32) -> Option<(Form, Access)> {
    use libc::{
        IPPROTO_IPV6, IPPROTO_TCP, IPV6_V6ONLY, SO_ACCEPTCONN, SO_DOMAIN, SO_ERROR, SO_KEEPALIVE,
        SO_LINGER, SO_PROTOCOL, SO_RCVBUF, SO_RCVTIMEO, SO_REUSEADDR, SO_REUSEPORT, SO_SNDBUF,
        SO_SNDTIMEO, SO_TYPE, SOL_SOCKET, TCP_KEEPCNT, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_NODELAY,
        TCP_USER_TIMEOUT,
    };
    Some(match (level, option) {
        (SOL_SOCKET, SO_REUSEADDR | SO_REUSEPORT | SO_KEEPALIVE | SO_SNDBUF | SO_RCVBUF)
        | (
            IPPROTO_TCP,
            TCP_NODELAY | TCP_KEEPIDLE | TCP_KEEPINTVL | TCP_KEEPCNT | TCP_USER_TIMEOUT,
        )
        | (IPPROTO_IPV6, IPV6_V6ONLY) => (Form::Number, Access::GetAndSet),
        (SOL_SOCKET, SO_LINGER) => (Form::Linger, Access::GetAndSet),
        (SOL_SOCKET, SO_RCVTIMEO | SO_SNDTIMEO) => (Form::Time, Access::GetAndSet),
        (SOL_SOCKET, SO_TYPE | SO_ACCEPTCONN | SO_PROTOCOL | SO_DOMAIN) => {
            (Form::Number, Access::Get)
        }
        (SOL_SOCKET, SO_ERROR) => (Form::Error, Access::Get),
        _ => return None,
    })
}

/// Level and option as the kernel has them, and what is known of them.
fn listed(level: u32, option: u32) -> Result<(i32, i32, Form, Access)> {
    let level = i32::try_from(level).map_err(|_| Errno::Noprotoopt)?;
    let option = i32::try_from(option).map_err(|_| Errno::Noprotoopt)?;
    let (form, access) = known(level, option).ok_or(Errno::Noprotoopt)?;
    Ok((level, option, form, access))
}

impl Guest {
    pub(crate) fn option(
        &self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        (level, option): (u32, u32),
        room: GuestPtr<[u8]>,
    ) -> Result<types::Size> {
        let (level, option, form, _) = listed(level, option)?;
        let file = self.socket_or_stream(fd)?;
        let mut value = [0; LARGEST];
        let value = &mut value[..form.size()];
        let length = sys::option(file.as_ref().as_fd(), level, option, value)?;
        let value = &mut value[..length.min(form.size())];
        if form == Form::Error {
            let number = i32::from_ne_bytes((&*value).try_into().map_err(|_| Errno::Io)?);
            let error = match number {
                0 => Errno::Success,
                number => Errno::from(Kernel::from_raw_os_error(number)),
            };
            value.copy_from_slice(&u32::from(u16::from(error)).to_ne_bytes());
        }
        // As Linux, which cuts a value off.
        let room = memory::slice_mut(memory, room)?;
        let written = room.len().min(value.len());
        room[..written].copy_from_slice(&value[..written]);
        types::Size::try_from(written).map_err(|_| Errno::Overflow)
    }

    pub(crate) fn set_option(
        &self,
        memory: &GuestMemory<'_>,
        fd: types::Fd,
        (level, option): (u32, u32),
        value: GuestPtr<[u8]>,
    ) -> Result<()> {
        let (level, option, form, access) = listed(level, option)?;
        if access == Access::Get {
            return Err(Errno::Noprotoopt);
        }
        let file = self.descriptors.get(fd)?;
        let value = memory::slice(memory, value)?;
        let value = value.get(..form.size()).ok_or(Errno::Inval)?;
        match file.as_socket().map(|socket| socket.made) {
            // So that a program comes to what it has no grant for, which is then named.
            Some(SocketOrigin::InName) => Ok(()),
            Some(SocketOrigin::ByKernel | SocketOrigin::Pair) => Ok(sys::set_option(
                file.as_ref().as_fd(),
                level,
                option,
                value,
            )?),
            // What a stream of the container does, others share.
            None => Err(Errno::Notsock),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_lead_elsewhere_are_not_in_the_list() {
        for (level, option) in [
            (libc::SOL_SOCKET, libc::SO_BINDTODEVICE),
            (libc::SOL_SOCKET, libc::SO_MARK),
            (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER),
            (libc::SOL_SOCKET, libc::SO_ATTACH_BPF),
            (libc::SOL_SOCKET, libc::SO_PASSCRED),
            (libc::SOL_SOCKET, libc::SO_PEERCRED),
            (libc::SOL_SOCKET, libc::SO_BROADCAST),
            (libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT),
            (libc::IPPROTO_TCP, libc::TCP_ULP),
            (libc::IPPROTO_TCP, libc::TCP_REPAIR),
            (libc::IPPROTO_IP, libc::IP_TRANSPARENT),
            (libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP),
            (libc::IPPROTO_IPV6, libc::IPV6_ADDRFORM),
        ] {
            assert_eq!(known(level, option), None, "{level} {option}");
        }
        let negative = listed(u32::MAX, 2);
        assert_eq!(negative.err(), Some(Errno::Noprotoopt));
    }

    #[test]
    fn what_a_socket_is_cannot_be_changed() {
        for option in [
            libc::SO_TYPE,
            libc::SO_ERROR,
            libc::SO_DOMAIN,
            libc::SO_PROTOCOL,
        ] {
            let known = known(libc::SOL_SOCKET, option);
            assert_eq!(known.map(|(_, access)| access), Some(Access::Get));
        }
    }
}
