//! The view of the golden tests: files from a JSON description, layered by the same code as real
//! files.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use serde::Deserialize;

use super::layers::{Layers, Tree, TreeEntry, mounts_of};
use super::{
    HostNetwork, KernelFs, MountContent, MountPoint, MountRefusal, Resolved, View, ViewError,
};
use crate::mounts::{self, MountSource};

/// `image.json`: the root filesystem, and the content of the sources of bind mounts.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FakeImage {
    files: BTreeMap<PathBuf, FakeEntry>,
    sources: BTreeMap<PathBuf, HostFile>,
    /// Whether the network namespace of the spec is the node's.
    host_network: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FakeEntry {
    Wasm,
    Component,
    Native,
    Precompiled,
    Directory,
    Fifo,
    Text(String),
    Symlink(PathBuf),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum HostFile {
    /// Files beneath it; the names of kernel file systems stand for mounts of those.
    Directory {
        #[serde(default)]
        files: BTreeMap<PathBuf, FakeEntry>,
        #[serde(default)]
        brings: BTreeMap<PathBuf, String>,
    },
    File(FakeEntry),
    Kernel(String),
    Device,
    Socket,
}

pub(crate) struct FakeView {
    layers: Layers<FakeTree>,
    mounts: Vec<MountPoint>,
    network: HostNetwork,
}

/// More entries than any view may look up: an image decides neither how long a look-up takes nor how many
/// there are.
const MOST_LOOK_UPS: u32 = 140_000;

struct FakeTree {
    /// Nodes by their path from the tree's root. A tree whose only node is at "" is a file.
    nodes: BTreeMap<PathBuf, FakeEntry>,
    look_ups: Cell<u32>,
}

impl FakeView {
    pub(crate) fn new(image: &FakeImage, spec: &Spec) -> Result<Self, ViewError> {
        let mut layers = Layers::new(FakeTree::new(&image.files));
        let mut points = Vec::new();
        for mount in mounts_of(spec)? {
            let path = layers.mount_point(&mounts::destination(mount))?;
            let mut brings = Vec::new();
            let (content, tree) = match mounts::source(mount) {
                MountSource::Memory | MountSource::Other(_) => (MountContent::Directory, None),
                MountSource::Kernel(fs) => (MountContent::Refused(MountRefusal::Kernel(fs)), None),
                MountSource::Bind { host, .. } => match image.sources.get(host) {
                    None => {
                        return Err(ViewError::BindSource {
                            host: host.to_owned(),
                            destination: path,
                            source: io::Error::from_raw_os_error(2),
                        });
                    }
                    Some(HostFile::Directory {
                        files,
                        brings: kernel,
                    }) => {
                        brings.extend(kernel.iter().map(|(at, fs)| (path.join(at), kernel_fs(fs))));
                        (MountContent::Directory, Some(FakeTree::new(files)))
                    }
                    Some(HostFile::File(node)) => (
                        MountContent::File,
                        Some(FakeTree::new(&[(PathBuf::new(), node.clone())].into())),
                    ),
                    Some(HostFile::Kernel(fs)) => (
                        MountContent::Refused(MountRefusal::Kernel(kernel_fs(fs))),
                        None,
                    ),
                    Some(HostFile::Device) => (MountContent::Refused(MountRefusal::Device), None),
                    Some(HostFile::Socket) => (MountContent::Refused(MountRefusal::Socket), None),
                },
            };
            if !matches!(content, MountContent::Refused(_)) {
                layers.mount(path.clone(), tree)?;
            }
            for (at, _) in &brings {
                layers.mount(at.clone(), None)?;
            }
            points.push(MountPoint {
                path,
                content,
                brings,
            });
        }
        Ok(Self {
            layers,
            mounts: points,
            network: if image.host_network {
                HostNetwork::Shared
            } else {
                HostNetwork::Separate
            },
        })
    }
}

fn kernel_fs(name: &str) -> KernelFs {
    KernelFs::from_type(name).expect("image.json names a kernel file system")
}

impl View for FakeView {
    type File = Cursor<Vec<u8>>;

    fn resolve(&self, path: &Path) -> Result<Resolved, ViewError> {
        self.layers.resolve(path)
    }

    fn open(&self, path: &Path) -> Result<Self::File, ViewError> {
        self.layers.open(path)
    }

    fn names(&self, path: &Path, most: usize) -> Result<Vec<OsString>, ViewError> {
        self.layers.names(path, most)
    }

    fn mounts(&self) -> &[MountPoint] {
        &self.mounts
    }

    fn network(&self) -> Result<HostNetwork, ViewError> {
        Ok(self.network)
    }
}

impl FakeTree {
    fn new(files: &BTreeMap<PathBuf, FakeEntry>) -> Self {
        let relative = |path: &PathBuf| path.strip_prefix("/").unwrap_or(path).to_owned();
        Self {
            nodes: files
                .iter()
                .map(|(path, node)| (relative(path), node.clone()))
                .collect(),
            look_ups: Cell::default(),
        }
    }
}

impl Tree for FakeTree {
    type File = Cursor<Vec<u8>>;

    fn entry(&self, path: &Path) -> io::Result<TreeEntry> {
        self.look_ups.set(self.look_ups.get() + 1);
        assert!(
            self.look_ups.get() <= MOST_LOOK_UPS,
            "{path:?}: look-ups have a bound"
        );
        Ok(match self.nodes.get(path) {
            Some(FakeEntry::Directory) => TreeEntry::Directory,
            Some(FakeEntry::Fifo) => TreeEntry::Other,
            Some(FakeEntry::Symlink(target)) => TreeEntry::Link(target.clone()),
            Some(_) => TreeEntry::Regular,
            None if path.as_os_str().is_empty() => TreeEntry::Directory,
            None if self.nodes.keys().any(|known| known.starts_with(path)) => TreeEntry::Directory,
            None => TreeEntry::Missing,
        })
    }

    fn open(&self, path: &Path) -> io::Result<Option<Self::File>> {
        let bytes: &[u8] = match self.nodes.get(path) {
            Some(FakeEntry::Wasm) => b"\0asm\x01\0\0\0",
            Some(FakeEntry::Component) => b"\0asm\x0d\0\x01\0",
            Some(FakeEntry::Native) => b"\x7fELF\x02\x01\x01\0",
            Some(FakeEntry::Precompiled) => b"\x7fELF\x02\x01\x01\xc8",
            Some(FakeEntry::Text(text)) => text.as_bytes(),
            _ => return Ok(None),
        };
        Ok(Some(Cursor::new(bytes.to_vec())))
    }

    fn names(&self, path: &Path, most: usize) -> io::Result<Vec<OsString>> {
        let beneath = self
            .nodes
            .keys()
            .filter_map(|known| known.strip_prefix(path).ok());
        let names: BTreeSet<_> = beneath
            .filter_map(|beneath| Some(beneath.iter().next()?.to_owned()))
            .collect();
        Ok(names.into_iter().take(most).collect())
    }
}
