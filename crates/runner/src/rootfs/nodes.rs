//! The devices and links of a container's /dev.
//!
//! Called by the init process once its mounts are there. Each path is resolved beneath the
//! container's root, and what is there is opened without following a symlink before anything is done
//! with it: another container that shares the directory may replace it at any time, and until
//! pivot_root(2) a symlink would lead into the host's root.
#![forbid(unsafe_code)]

use std::{
    ffi::OsStr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use rustix::{
    fs::{
        AtFlags, Dev, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, makedev, mknodat, openat,
        symlinkat, unlinkat,
    },
    io::Errno,
    process::umask,
};

use super::{detached, options::Depth};
use crate::container_root::ContainerRoot;

/// A node or link that cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make {path} in the container: {source}")]
pub(crate) struct NodeError {
    path: PathBuf,
    source: std::io::Error,
}

/// What a container finds in /dev besides the devices of its spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceSet {
    /// The five devices that every program may have, and the links to its streams.
    Guest,
    /// The terminal of its own too, and the other links that programs expect.
    Program,
}

/// How device nodes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeMethod {
    Mknod,
    /// A user namespace may not make devices: the host's are mounted.
    Bind,
}

/// Character devices of major number 1, by minor number.
const COMMON: [(&str, u32, u32); 5] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
];
const TERMINAL: (&str, u32, u32) = ("/dev/tty", 5, 0);

const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// A node to be made.
struct DeviceNode<'a> {
    path: &'a Path,
    kind: FileType,
    device: Dev,
    mode: Mode,
    owner: (u32, u32),
}

/// Makes the devices of `set` and the spec's `devices`.
pub(crate) fn make(
    root: &ContainerRoot,
    devices: &[LinuxDevice],
    set: DeviceSet,
    method: NodeMethod,
) -> Result<(), NodeError> {
    let own = |path: &str| {
        devices
            .iter()
            .any(|device| device.path() == Path::new(path))
    };
    let common = COMMON
        .iter()
        .chain((set == DeviceSet::Program).then_some(&TERMINAL))
        .filter(|(path, ..)| !own(path))
        .map(|&(path, major, minor)| DeviceNode {
            path: Path::new(path),
            kind: FileType::CharacterDevice,
            device: makedev(major, minor),
            mode: Mode::from_raw_mode(0o666),
            owner: (0, 0),
        });
    for node in common.chain(devices.iter().filter_map(node)) {
        node.make(root, method).map_err(|source| NodeError {
            path: node.path.to_owned(),
            source,
        })?;
    }
    // A guest has no /proc that they lead to; its host functions know what they mean.
    links(root, set)
}

/// The node of a device of the spec. `None` for the terminal multiplexer, which is a link, and for a device
/// without a path, which the spec names only for its cgroup rule.
fn node(device: &LinuxDevice) -> Option<DeviceNode<'_>> {
    let path = device.path();
    if path.as_os_str().is_empty() || path == Path::new("/dev/ptmx") {
        return None;
    }
    let number = |number: i64| u32::try_from(number).unwrap_or_default();
    Some(DeviceNode {
        path,
        kind: match device.typ() {
            LinuxDeviceType::B => FileType::BlockDevice,
            LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
            LinuxDeviceType::P => FileType::Fifo,
            // It stands for all devices in a rule.
            LinuxDeviceType::A => return None,
        },
        device: makedev(number(device.major()), number(device.minor())),
        mode: Mode::from_raw_mode(device.file_mode().unwrap_or(0o666) & 0o7777),
        owner: (
            device.uid().unwrap_or_default(),
            device.gid().unwrap_or_default(),
        ),
    })
}

impl DeviceNode<'_> {
    fn make(&self, root: &ContainerRoot, method: NodeMethod) -> std::io::Result<()> {
        let (directory, name) = root.make_parent(self.path)?;
        if method == NodeMethod::Bind && self.kind != FileType::Fifo {
            return self.bind(&directory, name);
        }
        // The mode is complete from the start, so that it need not be changed afterwards.
        let mask = umask(Mode::empty());
        let made = mknodat(&directory, name, self.kind, self.mode, self.device);
        umask(mask);
        match made {
            Ok(()) => self.give(&directory, name),
            // The image or a mount has it already.
            Err(Errno::EXIST) => Ok(()),
            Err(Errno::PERM) if self.kind != FileType::Fifo => self.bind(&directory, name),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Gives the node that was just made to its owner.
    fn give(&self, directory: &OwnedFd, name: &OsStr) -> std::io::Result<()> {
        let node = look(directory, name)?;
        let stat = fstat(&node)?;
        let same = FileType::from_raw_mode(stat.st_mode) == self.kind
            && (self.kind == FileType::Fifo || stat.st_rdev == self.device);
        if !same {
            return Err(replaced());
        }
        let (owner, group) = (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1));
        Ok(chownat(
            &node,
            "",
            Some(owner),
            Some(group),
            AtFlags::EMPTY_PATH,
        )?)
    }

    /// Mounts the host's device of the same path.
    fn bind(&self, directory: &OwnedFd, name: &OsStr) -> std::io::Result<()> {
        match mknodat(directory, name, FileType::RegularFile, Mode::empty(), 0) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let place = look(directory, name)?;
        if FileType::from_raw_mode(fstat(&place)?.st_mode) == FileType::Symlink {
            return Err(Errno::LOOP.into());
        }
        let device = detached::copy_at(self.path, Depth::Shallow)?;
        detached::attach(&device, &place)
    }
}

/// What lies at `name` itself, without opening a device or waiting for a FIFO.
fn look(directory: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(directory, name, flags, Mode::empty())
}

fn replaced() -> std::io::Error {
    std::io::Error::other(
        "another process replaced it while it was made; share no directory for devices with other \
         containers",
    )
}

fn links(root: &ContainerRoot, set: DeviceSet) -> Result<(), NodeError> {
    let failed = |path: &str| {
        let path = PathBuf::from(path);
        move |errno: Errno| NodeError {
            path,
            source: errno.into(),
        }
    };
    // Not every architecture has it.
    let core = Path::new("/proc/kcore")
        .exists()
        .then_some(("/proc/kcore", "/dev/core"))
        .filter(|_| set == DeviceSet::Program);
    for (target, path) in LINKS.into_iter().chain(core) {
        match link(root, target, path) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(path)(errno)),
        }
    }
    if set == DeviceSet::Guest {
        return Ok(());
    }
    let multiplexer = "/dev/ptmx";
    let (directory, name) = root
        .make_parent(Path::new(multiplexer))
        .map_err(failed(multiplexer))?;
    match unlinkat(&directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(failed(multiplexer)(errno)),
    }
    link(root, "pts/ptmx", multiplexer).map_err(failed(multiplexer))
}

fn link(root: &ContainerRoot, target: &str, path: &str) -> Result<(), Errno> {
    let (directory, name) = root.make_parent(Path::new(path))?;
    symlinkat(target, &directory, name)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
    };

    use super::*;

    fn null(path: &str) -> DeviceNode<'_> {
        DeviceNode {
            path: Path::new(path),
            kind: FileType::CharacterDevice,
            device: makedev(1, 3),
            mode: Mode::from_raw_mode(0o662),
            owner: (12, 34),
        }
    }

    #[test]
    fn node_has_its_mode_and_owner_whatever_the_umask() {
        let directory = tempfile::tempdir().expect("directory");
        let root = ContainerRoot::open(directory.path()).expect("open");
        null("/dev/null")
            .make(&root, NodeMethod::Mknod)
            .expect("make");
        let made = fs::symlink_metadata(directory.path().join("dev/null")).expect("the node");
        assert!(made.file_type().is_char_device());
        assert_eq!(made.mode() & 0o7777, 0o662);
        assert_eq!((made.uid(), made.gid()), (12, 34));
    }

    /// Another container may do this between mknod(2) and the rest.
    #[test]
    fn symlink_in_place_of_a_new_node_is_refused_and_its_target_untouched() {
        let directory = tempfile::tempdir().expect("directory");
        let secret = directory.path().join("secret");
        fs::write(&secret, "").expect("write");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("chmod");
        symlink(&secret, directory.path().join("null")).expect("link");
        let root = ContainerRoot::open(directory.path()).expect("open");
        let node = null("/null");
        let (parent, name) = root.make_parent(node.path).expect("parent");
        node.give(&parent, name).expect_err("a symlink");
        node.bind(&parent, name).expect_err("a symlink");
        let kept = fs::metadata(&secret).expect("the target");
        assert_eq!((kept.mode() & 0o7777, kept.uid()), (0o600, 0));
    }

    #[test]
    fn another_device_in_place_of_a_new_node_is_refused() {
        let directory = tempfile::tempdir().expect("directory");
        let root = ContainerRoot::open(directory.path()).expect("open");
        let other = DeviceNode {
            device: makedev(1, 5),
            ..null("/null")
        };
        other.make(&root, NodeMethod::Mknod).expect("make");
        let node = null("/null");
        let (parent, name) = root.make_parent(node.path).expect("parent");
        node.give(&parent, name).expect_err("another device");
    }
}
