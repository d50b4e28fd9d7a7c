//! Unix sockets by their paths: finding what a path names, and binding or connecting to just that.
//!
//! A grant names a path without symlinks. So a guest's path is resolved here, directory by directory, and
//! what is asked of the grants is where it really leads. The kernel has no call that binds or connects
//! relative to a directory. What it does with a path of ours must not depend on names that another container
//! swaps meanwhile, so [`Unchanged`] holds the directories in which the kernel looks names up:
//!
//! - connect(2) follows a symlink that its last name is. It is called from within the directory (this process
//!   has one thread), which is held. Where a listener has no room, the kernel would look the name up again after
//!   a wait, so the wait is done here, and each try begins with the path.
//! - bind(2) does not follow its last name. It is called with the whole path, which is what others are told,
//!   and all directories above the last are held. Where they change all the time, or the path is too long, a
//!   stream socket is bound from within the directory, and others are told its last name.
//! - For a datagram there is no after: `docs/internals/security.md` names this.
#![forbid(unsafe_code)]

use std::{
    ffi::CString,
    iter,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{Timespec, poll},
    fs::{
        AtFlags, FileType, Mode, OFlags, Stat, chownat, fcntl_getfl, fcntl_setfl, fstat,
        readlinkat, statat,
    },
    net::{Shutdown, shutdown},
    process::fchdir,
};

use super::unchanged::Unchanged;
use crate::{
    errno::{Errno, Result},
    guest::Guest,
    limits,
    paths::Follow,
    sockets::{Socket, SocketKind, address::KernelAddress, inet::made, sys},
    transfer::timeout,
    wait::once,
};

/// Between tries to connect to a listener that has no room: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(16));

/// Where a path leads: a name, and the directories on the way to it.
struct SocketPlace {
    /// Beneath the root directory. The last one has the name.
    steps: Vec<PathStep>,
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
        copy_up(self.at(&place));
        let bind = |address: &KernelAddress| Ok(sys::bind(fd, address)?);
        match (socket.kind, self.hold_above(&place)) {
            (SocketKind::Stream, Err(Errno::Connaborted | Errno::Nametoolong)) => {
                let name = short(place.name.as_bytes())?;
                self.within(&place, || bind(&name))?;
            }
            (_, held) => bind_by_path(fd, &place, &held?, bind)?,
        }
        socket.state().path = Some(path.to_vec());
        Ok(())
    }

    /// Holds the directories in which the kernel looks up names of the whole path, but for the last name. ECONNABORTED
    /// if the path does not lead to `place` any more, or the new name would itself change one of them.
    fn hold_above<'a>(&'a self, place: &'a SocketPlace) -> Result<Unchanged<'a>> {
        short(&place.path)?;
        let held = Unchanged::since_now(self.above(place))?;
        let again = self.walk(&place.path, Follow::No)?;
        let identity = |directory| Ok::<_, Errno>(identity(&fstat(directory)?));
        let wanted = identity(self.at(place))?;
        for above in self.above(place) {
            if identity(above)? == wanted {
                return Err(Errno::Connaborted);
            }
        }
        if again.path == place.path && identity(self.at(&again))? == wanted {
            Ok(held)
        } else {
            Err(Errno::Connaborted)
        }
    }

    fn above<'a>(&'a self, place: &'a SocketPlace) -> impl Iterator<Item = BorrowedFd<'a>> {
        let beneath = place.steps.iter().map(|step| step.directory.as_fd());
        iter::once(self.paths.root())
            .chain(beneath)
            .take(place.steps.len())
    }

    /// connect(2), which waits for a listener that has no room as long as SO_SNDTIMEO says.
    pub(super) fn connect_unix(
        &self,
        fd: BorrowedFd<'_>,
        socket: &Socket,
        path: &[u8],
    ) -> Result<()> {
        let flags = fcntl_getfl(fd)?;
        let started = Instant::now();
        let mut pause = PAUSES.0;
        loop {
            let tried = self.try_to_connect(fd, socket, path, flags);
            if tried != Err(Errno::Again) || flags.contains(OFlags::NONBLOCK) {
                return tried;
            }
            let limit = timeout(fd, libc::SO_SNDTIMEO)?;
            if limit.is_some_and(|limit| started.elapsed() >= limit) {
                return tried;
            }
            let timeout = Timespec::try_from(pause).map_err(|_| Errno::Inval)?;
            once(|| poll(&mut [], Some(&timeout)))?;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    fn try_to_connect(
        &self,
        fd: BorrowedFd<'_>,
        socket: &Socket,
        path: &[u8],
        flags: OFlags,
    ) -> Result<()> {
        let place = self.walk(path, Follow::Yes)?;
        self.grants.connect_unix(&place.path)?;
        made(socket)?;
        fcntl_setfl(fd, flags | OFlags::NONBLOCK)?;
        let answer = self.connect_at(fd, &place, |address| Ok(sys::connect(fd, address)?));
        fcntl_setfl(fd, flags)?;
        answer
    }

    /// Calls `connect` with the address that leads to `place` from where it is called. Ends what it has connected if a
    /// name in the directory has changed meanwhile.
    fn connect_at(
        &self,
        fd: BorrowedFd<'_>,
        place: &SocketPlace,
        connect: impl FnOnce(&KernelAddress) -> Result<()>,
    ) -> Result<()> {
        let name = short(place.name.as_bytes())?;
        let proven = self.within(place, || {
            let held = Unchanged::since_now([self.at(place)])?;
            if !self.is_socket(place)? {
                return Err(Errno::Connrefused);
            }
            connect(&name)?;
            Ok(held.until_now())
        })?;
        end_unless(proven, fd)
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
            .steps
            .last()
            .map_or(self.paths.root(), |step| step.directory.as_fd())
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

fn place(steps: Vec<PathStep>, name: CString) -> SocketPlace {
    let mut path = Vec::new();
    for part in steps
        .iter()
        .map(|step| &step.name[..])
        .chain([name.as_bytes()])
    {
        path.push(b'/');
        path.extend_from_slice(part);
    }
    SocketPlace { steps, name, path }
}

/// Has an overlay make a directory of its lower layers in the upper one, as the first new name in it would. That
/// changes the directory above, and must not look like a neighbour's change there.
///
/// Sets no owner, which any user may do. Where nothing can be changed, bind(2) says so.
fn copy_up(directory: BorrowedFd<'_>) {
    let _ = chownat(directory, c"", None, None, AtFlags::EMPTY_PATH);
}

/// Calls `bind` with the whole path, while the directories above are held.
fn bind_by_path(
    fd: BorrowedFd<'_>,
    place: &SocketPlace,
    held: &Unchanged<'_>,
    bind: impl FnOnce(&KernelAddress) -> Result<()>,
) -> Result<()> {
    bind(&short(&place.path)?)?;
    end_unless(held.until_now(), fd)
}

/// Ends a socket that may be elsewhere than it was granted to be.
fn end_unless(proven: bool, fd: BorrowedFd<'_>) -> Result<()> {
    if proven {
        return Ok(());
    }
    shutdown(fd, Shutdown::Both)?;
    Err(Errno::Connaborted)
}

/// As an address for the kernel.
fn short(name: &[u8]) -> Result<KernelAddress> {
    KernelAddress::unix(name).ok_or(Errno::Nametoolong)
}

#[allow(clippy::unnecessary_cast)] // Numbers of devices and files differ between machines.
fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev as u64, stat.st_ino as u64)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::{
            ffi::OsStrExt as _,
            fs::symlink,
            net::{UnixDatagram, UnixListener},
        },
        path::Path,
    };

    use rustix::net::{AddressFamily, SocketType, socket};
    use wasm_interp_network::Network;

    use super::*;
    use crate::{GuestSettings, LateMounts, ModesBy, paths};

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

    fn guest() -> Guest {
        Guest::new(GuestSettings {
            arguments: Vec::new(),
            environment: Vec::new(),
            root: paths::root().expect("the root directory"),
            late_mounts: LateMounts::Impossible,
            modes_by: ModesBy::of_kernel(),
            network: Network::none(),
            refusals: None,
        })
        .expect("a guest")
    }

    /// A neighbour leads the bind astray, and puts back what was there, with a socket of its own.
    #[test]
    fn socket_that_is_not_where_it_was_bound_to_is_ended() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        for name in ["granted", "elsewhere"] {
            fs::create_dir(at(name)).expect(name);
        }
        let guest = guest();
        let bound = |path: &Path, astray: bool| {
            let fd = socket(AddressFamily::UNIX, SocketType::DGRAM, None).expect("a socket");
            let place = guest
                .walk(path.as_os_str().as_bytes(), Follow::No)
                .expect("a place");
            let held = guest.hold_above(&place).expect("held");
            let answer = bind_by_path(fd.as_fd(), &place, &held, |address| {
                if astray {
                    fs::rename(at("granted"), at("aside")).expect("rename");
                    symlink("elsewhere", at("granted")).expect("a link");
                }
                sys::bind(fd.as_fd(), address)?;
                if astray {
                    fs::remove_file(at("granted")).expect("remove");
                    fs::rename(at("aside"), at("granted")).expect("rename");
                    UnixDatagram::bind(path).expect("a socket of the neighbour's");
                }
                Ok(())
            });
            (fd, answer)
        };
        let (_fd, answer) = bound(&at("granted/a"), true);
        assert_eq!(answer, Err(Errno::Connaborted));
        let sender = UnixDatagram::unbound().expect("a socket");
        let sent = sender.send_to(b"x", at("elsewhere/a"));
        let error = sent.expect_err("it receives nothing").raw_os_error();
        assert_eq!(error, Some(libc::EPIPE));

        let (_fd, answer) = bound(&at("granted/b"), false);
        assert_eq!(answer, Ok(()));
        assert_eq!(sender.send_to(b"x", at("granted/b")).ok(), Some(1));
    }

    /// A neighbour puts a link where the socket was, and the socket back.
    #[test]
    fn connection_that_a_link_has_led_elsewhere_is_ended() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let granted = UnixListener::bind(at("granted")).expect("bind");
        fs::create_dir(at("own")).expect("a directory");
        let secret = UnixListener::bind(at("own/secret")).expect("bind");
        let guest = guest();
        let path = at("granted");
        let place = guest
            .walk(path.as_os_str().as_bytes(), Follow::Yes)
            .expect("a place");
        let connected = |astray: bool| {
            let fd = socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
            let answer = guest.connect_at(fd.as_fd(), &place, |address| {
                if astray {
                    fs::rename(&path, at("aside")).expect("rename");
                    symlink("own/secret", &path).expect("a link");
                }
                sys::connect(fd.as_fd(), address)?;
                if astray {
                    fs::rename(at("aside"), &path).expect("rename");
                }
                Ok(())
            });
            (fd, answer)
        };
        let (fd, answer) = connected(true);
        assert_eq!(answer, Err(Errno::Connaborted));
        secret
            .accept()
            .expect("the kernel had made that connection");
        let sent = rustix::net::send(&fd, b"x", rustix::net::SendFlags::NOSIGNAL);
        assert_eq!(sent, Err(rustix::io::Errno::PIPE));
        assert_eq!(connected(false).1, Ok(()));
        granted.accept().expect("accept");
    }

    #[test]
    fn place_in_the_root_directory_has_no_directory_above() {
        let place = place(Vec::new(), c"a".to_owned());
        assert_eq!(place.path, b"/a");
        assert_eq!(guest().above(&place).count(), 0);
    }
}
