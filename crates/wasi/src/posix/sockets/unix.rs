//! Unix sockets by their paths: finding what a path names, and binding or connecting to just that.
//!
//! A grant names a path without symlinks. So a guest's path is resolved here, directory by directory, and
//! what is asked of the grants is where it really leads. The kernel has no call that binds or connects
//! relative to a directory, so the last step is made from within it: this process has one thread.
//!
//! bind(2) does not follow a symlink that its last name is. connect(2) does, and another container that
//! may write to the directory could put one there after the name was looked at. Such a change shows in
//! the directory's change time, which only the kernel sets: if it is another one after the connection
//! was made, the connection is ended before the guest can use it. Times have the resolution of a clock
//! tick, so a directory that has changed just now is let rest first. For a datagram there is no after:
//! `docs/internals/security.md` names this.
#![forbid(unsafe_code)]

use std::{
    ffi::CString,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use nix::time::{ClockId, clock_gettime};
use rustix::{
    event::{Timespec, poll},
    fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, readlinkat, statat},
    net::{Shutdown, shutdown},
    process::fchdir,
};

use super::ends::made;
use crate::{
    errno::{Errno, Result},
    guest::Guest,
    limits,
    paths::Follow,
    sockets::{Socket, SocketKind, address::KernelAddress, sys},
    wait::{interruptible, once},
};

/// Longer than a tick of any kernel's clock.
const TICK: i64 = 20_000_000;
/// How often a directory is let rest.
const RESTS: usize = 10;

/// Where a path leads: a name, and the directory that it is in.
struct SocketPlace {
    /// `None`: the root directory.
    directory: Option<OwnedFd>,
    name: CString,
    /// Absolute, without symlinks.
    path: Vec<u8>,
}

/// A directory on the way, and its name.
struct PathStep {
    directory: OwnedFd,
    name: Vec<u8>,
}

impl Guest {
    pub(super) fn bind_unix(&self, fd: BorrowedFd<'_>, socket: &Socket, path: &[u8]) -> Result<()> {
        let place = self.walk(path, Follow::No)?;
        self.grants.listen_unix(&place.path)?;
        made(socket)?;
        match socket.kind {
            SocketKind::Stream => {
                let name = short(place.name.as_bytes())?;
                self.within(&place, || Ok(sys::bind(fd, &name)?))?;
            }
            // Who receives a datagram answers to the path that its sender was bound by.
            SocketKind::Datagram => {
                sys::bind(fd, &short(&place.path)?)?;
                self.check_bound(fd, &place)?;
            }
        }
        socket.state().path = Some(place.path);
        Ok(())
    }

    /// Ends a socket that was bound elsewhere, as directories on the way were replaced meanwhile, or may
    /// have been.
    fn check_bound(&self, fd: BorrowedFd<'_>, place: &SocketPlace) -> Result<()> {
        if self.is_bound_at(place) == Ok(true) {
            return Ok(());
        }
        shutdown(fd, Shutdown::Both)?;
        Err(Errno::Connaborted)
    }

    fn is_bound_at(&self, place: &SocketPlace) -> Result<bool> {
        let again = self.walk(&place.path, Follow::No)?;
        let (now, then) = (fstat(self.at(&again))?, fstat(self.at(place))?);
        let same = again.path == place.path && identity(&now) == identity(&then);
        Ok(same && self.is_socket(place)?)
    }

    pub(super) fn connect_unix(
        &self,
        fd: BorrowedFd<'_>,
        socket: &Socket,
        path: &[u8],
    ) -> Result<()> {
        let place = self.walk(path, Follow::Yes)?;
        self.grants.connect_unix(&place.path)?;
        made(socket)?;
        let name = short(place.name.as_bytes())?;
        let before = self.rested(&place)?;
        if !self.is_socket(&place)? {
            return Err(Errno::Connrefused);
        }
        // Unlike one of the Internet, this connection is not made behind an interrupted call.
        self.within(&place, || Ok(interruptible(|| sys::connect(fd, &name))?))?;
        if fstat(self.at(&place)).is_ok_and(|now| changed(&now) == before) {
            return Ok(());
        }
        shutdown(fd, Shutdown::Both)?;
        Err(Errno::Connaborted)
    }

    /// Sends to the socket at `path`: calls `send` with its address, where that leads to it.
    pub(super) fn at_unix_socket<T>(
        &self,
        socket: &Socket,
        path: &[u8],
        send: impl FnOnce(&KernelAddress) -> Result<T>,
    ) -> Result<T> {
        let place = self.walk(path, Follow::Yes)?;
        self.grants.connect_unix(&place.path)?;
        made(socket)?;
        let name = short(place.name.as_bytes())?;
        if !self.is_socket(&place)? {
            return Err(Errno::Connrefused);
        }
        self.within(&place, || send(&name))
    }

    fn at<'a>(&'a self, place: &'a SocketPlace) -> BorrowedFd<'a> {
        place
            .directory
            .as_ref()
            .map_or(self.paths.root(), |directory| directory.as_fd())
    }

    fn is_socket(&self, place: &SocketPlace) -> Result<bool> {
        let stat = statat(self.at(place), &place.name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Socket)
    }

    /// Makes a call from within a directory. All paths of others start at a descriptor.
    fn within<T>(&self, place: &SocketPlace, call: impl FnOnce() -> Result<T>) -> Result<T> {
        fchdir(self.at(place))?;
        let answer = call();
        // So that the directory is not kept in use. What was done is done where that fails.
        let _ = fchdir(self.paths.root());
        answer
    }

    /// The change time of the directory, once a further change would show in it.
    fn rested(&self, place: &SocketPlace) -> Result<(i64, i64)> {
        for _ in 0..RESTS {
            let (seconds, nanoseconds) = changed(&fstat(self.at(place))?);
            let now = clock_gettime(ClockId::CLOCK_REALTIME)?;
            let age = (now.tv_sec() - seconds)
                .saturating_mul(1_000_000_000)
                .saturating_add(now.tv_nsec() - nanoseconds);
            // A time to come is none that a change would get now.
            if !(0..TICK).contains(&age) {
                return Ok((seconds, nanoseconds));
            }
            let pause = Timespec {
                tv_sec: 0,
                tv_nsec: TICK,
            };
            once(|| poll(&mut [], Some(&pause)))?;
        }
        Err(Errno::Connaborted)
    }

    /// Resolves a path without its last name, which is followed if it is a symlink and `last` says so.
    fn walk(&self, path: &[u8], last: Follow) -> Result<SocketPlace> {
        if path.ends_with(b"/") {
            return Err(Errno::Notdir);
        }
        let mut rest = reversed(path);
        let mut steps: Vec<PathStep> = Vec::new();
        let mut links = 0;
        while let Some(part) = rest.pop() {
            match &part[..] {
                b"." => continue,
                b".." => {
                    steps.pop();
                    continue;
                }
                _ => {}
            }
            let name = CString::new(part).map_err(|_| Errno::Inval)?;
            if rest.is_empty() && last == Follow::No {
                return Ok(place(steps, name));
            }
            let from = steps
                .last()
                .map_or(self.paths.root(), |step| step.directory.as_fd());
            let found =
                self.paths
                    .open(from, &name, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
            match FileType::from_raw_mode(fstat(&found)?.st_mode) {
                FileType::Symlink => {
                    links += 1;
                    if links > limits::LINKS {
                        return Err(Errno::Loop);
                    }
                    let target = readlinkat(&found, c"", Vec::new())?.into_bytes();
                    if target.starts_with(b"/") {
                        steps.clear();
                    }
                    rest.extend(reversed(&target));
                }
                _ if rest.is_empty() => return Ok(place(steps, name)),
                FileType::Directory => steps.push(PathStep {
                    directory: found,
                    name: name.into_bytes(),
                }),
                _ => return Err(Errno::Notdir),
            }
        }
        // It ends at a directory.
        Err(Errno::Isdir)
    }
}

/// The names of a path, the first one last.
fn reversed(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|&byte| byte == b'/')
        .filter(|part| !part.is_empty())
        .map(<[u8]>::to_vec)
        .rev()
        .collect()
}

fn place(mut steps: Vec<PathStep>, name: CString) -> SocketPlace {
    let mut path = Vec::new();
    for part in steps
        .iter()
        .map(|step| &step.name[..])
        .chain([name.as_bytes()])
    {
        path.push(b'/');
        path.extend_from_slice(part);
    }
    SocketPlace {
        directory: steps.pop().map(|step| step.directory),
        name,
        path,
    }
}

/// As an address for the kernel, from within the directory.
fn short(name: &[u8]) -> Result<KernelAddress> {
    KernelAddress::unix(name).ok_or(Errno::Nametoolong)
}

#[allow(clippy::unnecessary_cast)] // Numbers of devices and files differ between machines.
fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev as u64, stat.st_ino as u64)
}

#[allow(clippy::unnecessary_cast)]
fn changed(stat: &Stat) -> (i64, i64) {
    (stat.st_ctime as i64, stat.st_ctime_nsec as i64)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use wasm_interp_network::Network;

    use super::*;
    use crate::{GuestSettings, LateMounts, paths};

    #[test]
    fn names_are_taken_from_the_first_on() {
        let mut names = reversed(b"//run/./db/../a");
        let mut taken = Vec::new();
        while let Some(name) = names.pop() {
            taken.push(String::from_utf8(name).expect("text"));
        }
        assert_eq!(taken, ["run", ".", "db", "..", "a"]);
        assert!(reversed(b"/").is_empty());
    }

    /// As where a neighbour has led the bind astray, and has put back what was there.
    #[test]
    fn datagram_socket_that_is_not_where_it_was_bound_to_is_ended() {
        let directory = tempfile::tempdir().expect("a directory");
        let bytes = |name| {
            directory
                .path()
                .join(name)
                .into_os_string()
                .into_encoded_bytes()
        };
        let guest = Guest::new(GuestSettings {
            arguments: Vec::new(),
            environment: Vec::new(),
            root: paths::root().expect("the root directory"),
            late_mounts: LateMounts::Impossible,
            network: Network::none(),
            refusals: None,
        })
        .expect("a guest");
        let elsewhere = directory.path().join("elsewhere");
        let socket = UnixDatagram::bind(&elsewhere).expect("bind");
        let place = guest.walk(&bytes("wanted"), Follow::No).expect("a place");
        let checked = guest.check_bound(socket.as_fd(), &place);
        assert_eq!(checked, Err(Errno::Connaborted));
        let sender = UnixDatagram::unbound().expect("a socket");
        let sent = sender.send_to(b"x", &elsewhere);
        let error = sent.expect_err("it receives nothing").raw_os_error();
        assert_eq!(error, Some(libc::EPIPE));

        let place = guest
            .walk(&bytes("elsewhere"), Follow::No)
            .expect("a place");
        let second = UnixDatagram::unbound().expect("a socket");
        assert_eq!(guest.check_bound(second.as_fd(), &place), Ok(()));
    }

    #[test]
    fn place_in_the_root_directory_has_no_other() {
        let place = place(Vec::new(), c"a".to_owned());
        assert_eq!(place.path, b"/a");
        assert!(place.directory.is_none());
    }
}
