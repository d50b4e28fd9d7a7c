//! The view of a real root filesystem with the spec's mounts laid over it.
//!
//! Every look goes through `openat2` beneath an open directory, with symlinks refused because
//! [`super::layers`] follows them itself. A file is first opened as a mere name (`O_PATH`), and
//! for reading only once it has shown itself to be a regular file: opening a FIFO would wait, and
//! opening a device may act.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, major, minor};
use nix::sys::statfs::fstatfs;
use oci_spec::runtime::Spec;

use super::layers::{Entry, Layers, Tree};
use super::{Content, MountPoint, Refusal, Resolved, View, ViewError};
use crate::mounts::{self, BindDepth, KernelFs, Source};

/// The files of a container whose root filesystem is mounted on the host and whose other mounts
/// are not made yet.
pub struct RootfsView {
    layers: Layers<HostTree>,
    mounts: Vec<MountPoint>,
}

impl RootfsView {
    /// Looks at the root filesystem at `rootfs` with the mounts of `spec` over it.
    ///
    /// # Errors
    /// If the root filesystem or the source of a bind mount cannot be opened.
    pub fn new(rootfs: &Path, spec: &Spec) -> Result<Self, ViewError> {
        let root =
            HostTree::open(rootfs, BindDepth::Recursive).map_err(|source| ViewError::Root {
                path: rootfs.to_owned(),
                source,
            })?;
        let mut view = Self {
            layers: Layers::new(root),
            mounts: Vec::new(),
        };
        let mut table = None;
        for mount in spec.mounts().as_deref().unwrap_or_default() {
            let path = view.layers.mount_point(&mounts::destination(mount))?;
            let mut brings = Vec::new();
            let content = match mounts::source(mount) {
                Source::Bind { host, depth } => {
                    let tree = bind(host, depth, &path)?;
                    let content = tree.content().map_err(|source| ViewError::BindSource {
                        host: host.to_owned(),
                        destination: path.clone(),
                        source,
                    })?;
                    if content == Content::Directory && depth == BindDepth::Recursive {
                        brings = brought(&tree, &path, &mut table)?;
                    }
                    if !matches!(content, Content::Refused(_)) {
                        view.layers.mount(path.clone(), Some(tree));
                    }
                    for (at, _) in &brings {
                        // It will be masked.
                        view.layers.mount(at.clone(), None);
                    }
                    content
                }
                Source::Memory | Source::Other(_) => {
                    view.layers.mount(path.clone(), None);
                    Content::Directory
                }
                // It will not be mounted, so nothing lies over the root filesystem there.
                Source::Kernel(fs) => Content::Refused(Refusal::Kernel(fs)),
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
    /// Opens `path` as the kernel would for a mount: symlinks of the host are followed.
    fn open(path: &Path, depth: BindDepth) -> io::Result<Self> {
        let root = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(Self { root, depth })
    }

    fn content(&self) -> io::Result<Content> {
        if let Some(fs) = KernelFs::from_magic(fs_magic(&self.root)?) {
            return Ok(Content::Refused(Refusal::Kernel(fs)));
        }
        let stat = fstat(&self.root)?;
        Ok(match file_type(&stat) {
            SFlag::S_IFDIR => Content::Directory,
            SFlag::S_IFSOCK => Content::Refused(Refusal::Socket),
            SFlag::S_IFBLK => Content::Refused(Refusal::Device),
            SFlag::S_IFCHR if !is_common_device(&stat) => Content::Refused(Refusal::Device),
            _ => Content::File,
        })
    }

    /// A name beneath the root, not followed; `None` if it is not there.
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
            // A mount that a shallow bind leaves behind (EXDEV) is an empty directory at best.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ENAMETOOLONG | Errno::EXDEV) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Tree for HostTree {
    type File = File;

    fn entry(&self, path: &Path) -> io::Result<Entry> {
        let Some(name) = self.name(path)? else {
            return Ok(Entry::Missing);
        };
        Ok(match file_type(&fstat(&name)?) {
            SFlag::S_IFDIR => Entry::Directory,
            SFlag::S_IFREG => Entry::Regular,
            SFlag::S_IFLNK => Entry::Link(readlinkat(&name, "")?.into()),
            _ => Entry::Other,
        })
    }

    fn open(&self, path: &Path) -> io::Result<Option<File>> {
        let Some(name) = self.name(path)? else {
            return Ok(None);
        };
        if file_type(&fstat(&name)?) != SFlag::S_IFREG {
            return Ok(None);
        }
        // The descriptor, not the path, is opened again: it is the file that was looked at.
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

fn file_type(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// null, zero, full, random and urandom (Documentation/admin-guide/devices.txt of Linux).
fn is_common_device(stat: &FileStat) -> bool {
    major(stat.st_rdev) == 1 && matches!(minor(stat.st_rdev), 3 | 5 | 7 | 8 | 9)
}

/// The magic numbers have 32 bits whatever the width of the field.
fn fs_magic(fd: &OwnedFd) -> io::Result<u32> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok(fstatfs(fd)?.filesystem_type().0 as u32)
}

/// The kernel's own file systems mounted beneath `tree`, by their place beneath `destination`.
/// `table` holds the node's, once they have been read.
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
            let mountinfo = Path::new("/proc/self/mountinfo");
            let text = fs::read(mountinfo).map_err(|error| failed(mountinfo, error))?;
            table.insert(kernel_mounts(&text).collect())
        }
    };
    let beneath = table.iter().filter_map(|(at, fs)| {
        let beneath = at.strip_prefix(&source).ok()?;
        (!beneath.as_os_str().is_empty()).then(|| (destination.join(beneath), *fs))
    });
    Ok(beneath.collect())
}

/// Mount points of the kernel's own file systems in the text of `/proc/PID/mountinfo`, proc(5).
fn kernel_mounts(mountinfo: &[u8]) -> impl Iterator<Item = (PathBuf, KernelFs)> {
    mountinfo.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let at = fields.nth(4)?;
        let typ = fields.skip_while(|field| *field != b"-").nth(1)?;
        let fs = KernelFs::from_type(str::from_utf8(typ).ok()?)?;
        Some((unescape(at), fs))
    })
}

/// Undoes the octal escapes (`\040`) of mountinfo.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|_| first == b'\\')
            .and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(byte) => (bytes.push(byte), rest = &tail[3..]),
            None => (bytes.push(first), rest = tail),
        };
    }
    PathBuf::from(std::ffi::OsStr::from_bytes(&bytes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
