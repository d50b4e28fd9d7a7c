//! The view of a real root filesystem with the spec's mounts laid over it.
//!
//! Every access goes through `openat2` beneath an open directory and refuses symlinks, because
//! [`super::layers`] follows them itself. A file is first opened with `O_PATH`. It is opened for
//! reading only if it is a regular file: to open a FIFO would block, and to open a device may have
//! side effects.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstat, major, minor};
use nix::sys::statfs::fstatfs;
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};
use rustix::fs::FileType;
use wasm_interp_mounts::mountinfo::{self, MountInfo};

use super::layers::{Layers, Tree, TreeEntry, mounts_of};
use super::{HostNetwork, MountContent, MountPoint, MountRefusal, Resolved, View, ViewError};
use crate::mounts::{self, BindDepth, KernelFs, MountSource};

/// The files of a container whose root filesystem is mounted on the host but whose other mounts are
/// not made yet.
pub struct RootfsView {
    layers: Layers<HostTree>,
    mounts: Vec<MountPoint>,
    network: NetworkNamespace,
}

/// The network namespace that a spec asks for.
enum NetworkNamespace {
    /// None: the container stays in that of its runtime.
    Inherited,
    /// A new one.
    New,
    /// An existing one. A container of a pod has its sandbox's, which is the node's with `hostNetwork`.
    At(PathBuf),
}

impl NetworkNamespace {
    fn of(spec: &Spec) -> Self {
        let linux = spec.linux().as_ref();
        let namespaces = linux.and_then(|linux| linux.namespaces().as_deref());
        let network = namespaces
            .unwrap_or_default()
            .iter()
            .find(|namespace| namespace.typ() == LinuxNamespaceType::Network);
        match network.map(LinuxNamespace::path) {
            None => Self::Inherited,
            Some(None) => Self::New,
            Some(Some(path)) => Self::At(path.clone()),
        }
    }

    fn is_nodes(&self) -> Result<HostNetwork, ViewError> {
        const OWN: &str = "/proc/self/ns/net";
        let path = match self {
            Self::Inherited => return Ok(HostNetwork::Shared),
            Self::New => return Ok(HostNetwork::Separate),
            Self::At(path) => path,
        };
        // ioctl_ns(2): two descriptors of one namespace have the same device and inode.
        let identity = |path: &Path| {
            let found = fs::metadata(path).map_err(|source| ViewError::Network {
                path: path.to_owned(),
                source,
            })?;
            Ok((found.dev(), found.ino()))
        };
        Ok(if identity(path)? == identity(Path::new(OWN))? {
            HostNetwork::Shared
        } else {
            HostNetwork::Separate
        })
    }
}

impl RootfsView {
    /// A view of the root filesystem at `rootfs` with the mounts of `spec` over it.
    ///
    /// # Errors
    /// If the root filesystem or the source of a bind mount cannot be opened.
    pub fn new(rootfs: &Path, spec: &Spec) -> Result<Self, ViewError> {
        Self::with_root(Layers::new(HostTree::root(rootfs)?), spec)
    }

    /// The same for an open root directory (`O_PATH` is enough), for example `/proc/PID/root` of a container.
    ///
    /// # Errors
    /// If the source of a bind mount cannot be opened.
    pub fn beneath(root: OwnedFd, spec: &Spec) -> Result<Self, ViewError> {
        Self::beneath_until(root, spec, Arc::default())
    }

    /// The same; it ends, and each look-up in it fails, once `cancelled` is true.
    ///
    /// # Errors
    /// As [`RootfsView::beneath`], and [`ViewError::Cancelled`].
    pub fn beneath_until(
        root: OwnedFd,
        spec: &Spec,
        cancelled: Arc<AtomicBool>,
    ) -> Result<Self, ViewError> {
        let depth = BindDepth::Recursive;
        let layers = Layers::new(HostTree { root, depth });
        Self::with_root(layers.cancelled_by(cancelled), spec)
    }

    fn with_root(layers: Layers<HostTree>, spec: &Spec) -> Result<Self, ViewError> {
        let mut view = Self {
            layers,
            mounts: Vec::new(),
            network: NetworkNamespace::of(spec),
        };
        let mut table = None;
        for mount in mounts_of(spec)? {
            let path = view.layers.mount_point(&mounts::destination(mount))?;
            let mut brings = Vec::new();
            let content = match mounts::source(mount) {
                MountSource::Bind { host, depth } => {
                    let tree = bind(host, depth, &path)?;
                    let content = tree.content().map_err(|source| ViewError::BindSource {
                        host: host.to_owned(),
                        destination: path.clone(),
                        source,
                    })?;
                    if content == MountContent::Directory && depth == BindDepth::Recursive {
                        brings = brought(&tree, &path, &mut table)?;
                    }
                    if !matches!(content, MountContent::Refused(_)) {
                        view.layers.mount(path.clone(), Some(tree))?;
                    }
                    for (at, _) in &brings {
                        // The runtime will mask it.
                        view.layers.mount(at.clone(), None)?;
                    }
                    content
                }
                MountSource::Memory | MountSource::Other(_) => {
                    view.layers.mount(path.clone(), None)?;
                    MountContent::Directory
                }
                // The runtime will not mount it, so it hides nothing of the root filesystem.
                MountSource::Kernel(fs) => MountContent::Refused(MountRefusal::Kernel(fs)),
            };
            view.mounts.push(MountPoint {
                path,
                content,
                brings,
            });
        }
        Ok(view)
    }
}

impl View for RootfsView {
    type File = File;

    fn resolve(&self, path: &Path) -> Result<Resolved, ViewError> {
        self.layers.resolve(path)
    }

    fn open(&self, path: &Path) -> Result<File, ViewError> {
        self.layers.open(path)
    }

    fn names(&self, path: &Path, most: usize) -> Result<Vec<OsString>, ViewError> {
        self.layers.names(path, most)
    }

    fn mounts(&self) -> &[MountPoint] {
        &self.mounts
    }

    fn network(&self) -> Result<HostNetwork, ViewError> {
        self.network.is_nodes()
    }
}

/// Opens a root filesystem for [`RootfsView::beneath`].
///
/// # Errors
/// If it is not a directory, or cannot be opened.
pub fn open_root(path: &Path) -> Result<OwnedFd, ViewError> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).map_err(|errno| ViewError::Root {
        path: path.to_owned(),
        source: errno.into(),
    })
}

/// The path that each mount of `spec` covers once all of them are made in order on the root filesystem
/// at `rootfs`: its destination without symlinks, `.` and `..`.
///
/// The content of a mount by type (`ext4`) is not known before it is made. Its symlinks then decide
/// where a mount beneath it goes.
///
/// # Errors
/// If the root filesystem or the source of a bind mount cannot be opened, or a mount would cover the
/// root.
pub fn mount_places(rootfs: &Path, spec: &Spec) -> Result<Vec<PathBuf>, ViewError> {
    let mut layers = Layers::new(HostTree::root(rootfs)?);
    let places = mounts_of(spec)?.iter().map(|mount| {
        let place = layers.mount_point(&mounts::destination(mount))?;
        let tree = match mounts::source(mount) {
            MountSource::Bind { host, depth } => Some(bind(host, depth, &place)?),
            MountSource::Memory | MountSource::Kernel(_) | MountSource::Other(_) => None,
        };
        layers.mount(place.clone(), tree)?;
        Ok(place)
    });
    places.collect()
}

fn bind(host: &Path, depth: BindDepth, destination: &Path) -> Result<HostTree, ViewError> {
    let (host, destination) = (host.to_owned(), destination.to_owned());
    if host.is_relative() {
        return Err(ViewError::RelativeSource { host, destination });
    }
    HostTree::open(&host, depth).map_err(|source| ViewError::BindSource {
        host,
        destination,
        source,
    })
}

/// A file or directory of the host, held open.
struct HostTree {
    root: OwnedFd,
    depth: BindDepth,
}

impl HostTree {
    /// A root filesystem.
    fn root(path: &Path) -> Result<Self, ViewError> {
        let (root, depth) = (open_root(path)?, BindDepth::Recursive);
        Ok(Self { root, depth })
    }

    /// Opens `path` as the kernel does for a mount: it follows symlinks of the host.
    fn open(path: &Path, depth: BindDepth) -> io::Result<Self> {
        let root = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(Self { root, depth })
    }

    fn content(&self) -> io::Result<MountContent> {
        if let Some(fs) = KernelFs::from_magic(fs_magic(&self.root)?) {
            return Ok(MountContent::Refused(MountRefusal::Kernel(fs)));
        }
        let stat = fstat(&self.root)?;
        Ok(match file_type(&stat) {
            FileType::Directory => MountContent::Directory,
            FileType::Socket => MountContent::Refused(MountRefusal::Socket),
            FileType::BlockDevice => MountContent::Refused(MountRefusal::Device),
            FileType::CharacterDevice if !is_common_device(&stat) => {
                MountContent::Refused(MountRefusal::Device)
            }
            _ => MountContent::File,
        })
    }

    /// Opens a name beneath the root without following symlinks; `None` if it does not exist.
    fn name(&self, path: &Path) -> io::Result<Option<OwnedFd>> {
        if path.as_os_str().is_empty() {
            return self.root.try_clone().map(Some);
        }
        let mut resolve = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        if self.depth == BindDepth::Shallow {
            resolve |= ResolveFlag::RESOLVE_NO_XDEV;
        }
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat2(
            &self.root,
            path,
            OpenHow::new().flags(flags).resolve(resolve),
        ) {
            Ok(name) => Ok(Some(name)),
            // EXDEV: a mount that a non-recursive bind leaves out. The container sees an empty directory there.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ENAMETOOLONG | Errno::EXDEV) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Tree for HostTree {
    type File = File;

    fn entry(&self, path: &Path) -> io::Result<TreeEntry> {
        let Some(name) = self.name(path)? else {
            return Ok(TreeEntry::Missing);
        };
        Ok(match file_type(&fstat(&name)?) {
            FileType::Directory => TreeEntry::Directory,
            FileType::RegularFile => TreeEntry::Regular,
            FileType::Symlink => TreeEntry::Link(readlinkat(&name, "")?.into()),
            _ => TreeEntry::Other,
        })
    }

    fn open(&self, path: &Path) -> io::Result<Option<File>> {
        let Some(name) = self.name(path)? else {
            return Ok(None);
        };
        if file_type(&fstat(&name)?) != FileType::RegularFile {
            return Ok(None);
        }
        // A running container may have such file systems, and to read /proc/kmsg as root waits, and takes
        // what it reads from others.
        if KernelFs::from_magic(fs_magic(&name)?).is_some() {
            return Ok(None);
        }
        // This opens the descriptor again, not the path, so it is the file that was checked.
        File::open(descriptor_path(&name)).map(Some)
    }

    fn names(&self, path: &Path, most: usize) -> io::Result<Vec<OsString>> {
        let Some(name) = self.name(path)? else {
            return Ok(Vec::new());
        };
        fs::read_dir(descriptor_path(&name))?
            .take(most)
            .map(|entry| Ok(entry?.file_name()))
            .collect()
    }
}

fn descriptor_path(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn file_type(stat: &FileStat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// null, zero, full, random and urandom (Documentation/admin-guide/devices.txt of Linux).
fn is_common_device(stat: &FileStat) -> bool {
    major(stat.st_rdev) == 1 && matches!(minor(stat.st_rdev), 3 | 5 | 7 | 8 | 9)
}

/// The magic numbers have 32 bits; the width of the field depends on the architecture.
fn fs_magic(fd: &OwnedFd) -> io::Result<u32> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok(fstatfs(fd)?.filesystem_type().0 as u32)
}

/// The kernel's own file systems that are mounted beneath `tree`, as paths beneath `destination`.
/// `table` caches the node's mounts once they have been read.
fn brought(
    tree: &HostTree,
    destination: &Path,
    table: &mut Option<Vec<(PathBuf, KernelFs)>>,
) -> Result<Vec<(PathBuf, KernelFs)>, ViewError> {
    let failed = |path: &Path, source| ViewError::MountTable {
        path: path.to_owned(),
        source,
    };
    let link = descriptor_path(&tree.root);
    let source = fs::read_link(&link).map_err(|error| failed(&link, error))?;
    let table = match table {
        Some(table) => table,
        None => {
            let path = Path::new("/proc/self/mountinfo");
            let mounts = mountinfo::read(path).map_err(|error| failed(path, error))?;
            table.insert(kernel_mounts(mounts).collect())
        }
    };
    let beneath = table.iter().filter_map(|(at, fs)| {
        let beneath = at.strip_prefix(&source).ok()?;
        (!beneath.as_os_str().is_empty()).then(|| (destination.join(beneath), *fs))
    });
    Ok(beneath.collect())
}

/// Mount points of the kernel's own file systems.
fn kernel_mounts(mounts: Vec<MountInfo>) -> impl Iterator<Item = (PathBuf, KernelFs)> {
    mounts
        .into_iter()
        .filter_map(|mount| Some((mount.mount_point, KernelFs::from_type(&mount.fs_type)?)))
}

#[cfg(test)]
mod tests;
