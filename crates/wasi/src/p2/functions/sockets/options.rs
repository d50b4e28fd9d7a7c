//! Options of sockets that both transports have, or that have a form of their own in the interface.
#![forbid(unsafe_code)]

use std::{os::fd::AsFd, time::Duration};

use rustix::{io::Errno as Kernel, net::sockopt};

use crate::{errno::Errno, p2::failure::SocketResult, sockets::Family};

/// The most seconds and probes that Linux takes.
const MOST_SECONDS: u64 = i16::MAX as u64;
const MOST_PROBES: u32 = i8::MAX as u32;

pub(super) fn hop_limit(socket: impl AsFd, family: Family) -> SocketResult<u8> {
    match family {
        Family::Inet => {
            let hops = sockopt::ip_ttl(socket)?;
            u8::try_from(hops).map_err(|_| Errno::Notsup.into())
        }
        Family::Inet6 | Family::Unix => Ok(sockopt::ipv6_unicast_hops(socket)?),
    }
}

pub(super) fn set_hop_limit(socket: impl AsFd, family: Family, hops: u8) -> SocketResult<()> {
    if hops == 0 {
        return Err(Errno::Inval.into());
    }
    match family {
        Family::Inet => sockopt::set_ip_ttl(socket, hops.into())?,
        Family::Inet6 | Family::Unix => sockopt::set_ipv6_unicast_hops(socket, Some(hops))?,
    }
    Ok(())
}

/// Linux tells twice what a program has asked for: it counts what it needs itself.
fn asked(size: usize) -> u64 {
    size as u64 / 2
}

fn size(bytes: u64) -> SocketResult<usize> {
    if bytes == 0 {
        return Err(Errno::Inval.into());
    }
    // As for Linux, a size is a wish.
    let most = i32::MAX.unsigned_abs() as usize;
    Ok(usize::try_from(bytes).map_or(most, |bytes| bytes.min(most)))
}

pub(super) fn receive_buffer(socket: impl AsFd) -> SocketResult<u64> {
    Ok(asked(sockopt::socket_recv_buffer_size(socket)?))
}

pub(super) fn set_receive_buffer(socket: impl AsFd, bytes: u64) -> SocketResult<()> {
    let set = sockopt::set_socket_recv_buffer_size(socket, size(bytes)?);
    wish(set)
}

pub(super) fn send_buffer(socket: impl AsFd) -> SocketResult<u64> {
    Ok(asked(sockopt::socket_send_buffer_size(socket)?))
}

pub(super) fn set_send_buffer(socket: impl AsFd, bytes: u64) -> SocketResult<()> {
    let set = sockopt::set_socket_send_buffer_size(socket, size(bytes)?);
    wish(set)
}

fn wish(set: rustix::io::Result<()>) -> SocketResult<()> {
    match set {
        Err(Kernel::NOBUFS) => Ok(()),
        set => Ok(set?),
    }
}

/// Linux counts these times in seconds.
pub(super) fn seconds(nanoseconds: u64) -> SocketResult<Duration> {
    if nanoseconds == 0 {
        return Err(Errno::Inval.into());
    }
    let seconds = nanoseconds.div_ceil(1_000_000_000);
    Ok(Duration::from_secs(seconds.min(MOST_SECONDS)))
}

pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn probes(count: u32) -> SocketResult<u32> {
    if count == 0 {
        return Err(Errno::Inval.into());
    }
    Ok(count.min(MOST_PROBES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_refused_and_large_numbers_are_the_most_that_linux_takes() {
        assert!(seconds(0).is_err() && probes(0).is_err() && size(0).is_err());
        assert_eq!(seconds(1).expect("a time"), Duration::from_secs(1));
        assert_eq!(
            seconds(1_000_000_001).expect("a time"),
            Duration::from_secs(2)
        );
        assert_eq!(
            seconds(u64::MAX).expect("a time"),
            Duration::from_secs(32767)
        );
        assert_eq!(probes(1000).expect("a count"), 127);
        assert_eq!(size(u64::MAX).expect("a size"), 0x7fff_ffff);
    }
}
