//! Layers of file trees, and path resolution through them. The view of a real root filesystem and the
//! tests' fake share this code. It decides which layer hides which and how symlinks are followed; it
//! opens no file itself.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, Read, Seek};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use oci_spec::runtime::{Mount, Spec};

use super::{FileKind, Resolved, ViewError};
use crate::mounts::PATH_MAX;
use crate::steps::{MAX_LINKS, WalkStep, push_steps};

/// The most work that all look-ups in one view may cost together. Names of an image lead the walk, and it runs
/// as root outside the pod's cgroup, so an image must not decide how long it takes. The kernel looks up each
/// component of a path that it is given, and an entry costs so many units. The budget is enough for more than
/// 100,000 entries of usual depth, and spent within a second or two.
const MAX_WORK: u64 = 4 << 20;

/// What an entry costs besides the components of its path: the system calls.
const ENTRY_WORK: u64 = 32;

/// The most mounts of a spec. Kubernetes makes a few dozen; each one is compared with the others.
const MAX_MOUNTS: usize = 4096;

/// The mounts of `spec`, which are not too many.
pub(super) fn mounts_of(spec: &Spec) -> Result<&[Mount], ViewError> {
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    if mounts.len() > MAX_MOUNTS {
        return Err(ViewError::TooManyMounts {
            count: mounts.len(),
            most: MAX_MOUNTS,
        });
    }
    Ok(mounts)
}

/// One file tree. Paths are relative to its root, free of symlinks, and empty for the root itself.
pub(crate) trait Tree {
    type File: Read + Seek;

    /// The node at `path`. A symlink in the last component is not followed.
    fn entry(&self, path: &Path) -> io::Result<TreeEntry>;

    /// Opens the regular file at `path`; `None` if there is no regular file (any more).
    fn open(&self, path: &Path) -> io::Result<Option<Self::File>>;

    /// At most `most` names of the directory at `path`, in any order.
    fn names(&self, path: &Path, most: usize) -> io::Result<Vec<OsString>>;
}

/// What a name in a [`Tree`] refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TreeEntry {
    Missing,
    Directory,
    Regular,
    Other,
    Link(PathBuf),
}

/// Layered trees, the root filesystem first.
pub(crate) struct Layers<T> {
    layers: Vec<TreeLayer<T>>,
    /// The last layer that is laid over exactly this path.
    at: HashMap<PathBuf, usize>,
    /// The last layer that is laid over something beneath this path.
    beneath: HashMap<PathBuf, usize>,
    /// What is left of [`MAX_WORK`].
    work_left: Cell<u64>,
    cancelled: Arc<AtomicBool>,
}

struct TreeLayer<T> {
    at: PathBuf,
    /// `None`: an empty directory.
    tree: Option<T>,
}

/// How the walk treats a component that does not exist.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Fails,
    /// The walk goes on by name, because the runtime makes the directories above a mount.
    WillBeMade,
}

/// Where a walk ended.
struct Found {
    resolved: Resolved,
    /// The layer that covers it.
    layer: usize,
}

impl<T: Tree> Layers<T> {
    pub(crate) fn new(root: T) -> Self {
        Self {
            layers: vec![TreeLayer {
                at: PathBuf::from("/"),
                tree: Some(root),
            }],
            at: HashMap::new(),
            beneath: HashMap::new(),
            work_left: Cell::new(MAX_WORK),
            cancelled: Arc::default(),
        }
    }

    /// The same; every look-up fails once `cancelled` is true.
    pub(crate) fn cancelled_by(self, cancelled: Arc<AtomicBool>) -> Self {
        Self { cancelled, ..self }
    }

    /// Lays `tree` over `at`, which [`Layers::mount_point`] gave.
    pub(crate) fn mount(&mut self, at: PathBuf, tree: Option<T>) -> Result<(), ViewError> {
        self.work(ENTRY_WORK + at.components().count() as u64, &at)?;
        let index = self.layers.len();
        for above in at.ancestors().skip(1) {
            self.beneath.insert(above.to_owned(), index);
        }
        self.at.insert(at.clone(), index);
        self.layers.push(TreeLayer { at, tree });
        Ok(())
    }

    /// The path that a mount with this destination covers. The root is an error: a mount there would
    /// replace the image that was checked.
    pub(crate) fn mount_point(&self, destination: &Path) -> Result<PathBuf, ViewError> {
        check_length(destination, destination)?;
        let path = self.walk(destination, Missing::WillBeMade)?.resolved.path;
        if path == Path::new("/") {
            return Err(ViewError::MountOverRoot {
                destination: destination.to_owned(),
            });
        }
        Ok(path)
    }

    pub(crate) fn resolve(&self, path: &Path) -> Result<Resolved, ViewError> {
        Ok(self.walk(path, Missing::Fails)?.resolved)
    }

    pub(crate) fn open(&self, path: &Path) -> Result<T::File, ViewError> {
        let Found { resolved, layer } = self.walk(path, Missing::Fails)?;
        let not_regular = || ViewError::NotRegular {
            path: path.to_owned(),
        };
        if resolved.kind != FileKind::Regular {
            return Err(not_regular());
        }
        let (tree, beneath) = self.within(layer, &resolved.path);
        let opened = tree.map(|tree| tree.open(beneath)).transpose();
        opened
            .map_err(|source| ViewError::Io {
                path: path.to_owned(),
                source,
            })?
            .flatten()
            .ok_or_else(not_regular)
    }

    pub(crate) fn names(&self, path: &Path, most: usize) -> Result<Vec<OsString>, ViewError> {
        let Found { resolved, layer } = self.walk(path, Missing::Fails)?;
        if resolved.kind != FileKind::Directory {
            return Err(ViewError::NotFound {
                path: path.to_owned(),
            });
        }
        let (Some(tree), beneath) = self.within(layer, &resolved.path) else {
            return Ok(Vec::new());
        };
        let mut names = tree.names(beneath, most).map_err(|source| ViewError::Io {
            path: path.to_owned(),
            source,
        })?;
        names.sort();
        Ok(names)
    }

    fn walk(&self, path: &Path, missing: Missing) -> Result<Found, ViewError> {
        let mut at = PathBuf::from("/");
        // The layers that cover the directories down to `at`, from the root.
        let mut covering = vec![0];
        let mut kind = FileKind::Directory;
        let mut detour = false;
        let mut links = 0;
        // The components that are left, the next one last.
        let mut ahead = Vec::new();
        push_steps(&mut ahead, path);
        self.work(ENTRY_WORK + ahead.len() as u64, path)?;
        while let Some(step) = ahead.pop() {
            let name = match step {
                WalkStep::Root => {
                    at = PathBuf::from("/");
                    covering.truncate(1);
                    kind = FileKind::Directory;
                    continue;
                }
                // The walk enters only directories, so this is the real parent.
                WalkStep::Up if kind == FileKind::Directory => {
                    at.pop();
                    covering.truncate(covering.len().saturating_sub(1).max(1));
                    continue;
                }
                WalkStep::Down(name) if kind == FileKind::Directory => name,
                WalkStep::Up | WalkStep::Down(_) => {
                    return Err(ViewError::NotFound {
                        path: path.to_owned(),
                    });
                }
            };
            let next = at.join(&name);
            self.work(ENTRY_WORK + covering.len() as u64, path)?;
            if missing == Missing::WillBeMade {
                check_length(&next, path)?;
            }
            let layer = self.layer(&covering, &next);
            let entry = self.entry(layer, &next).map_err(|source| ViewError::Io {
                path: path.to_owned(),
                source,
            })?;
            kind = match entry {
                TreeEntry::Directory => FileKind::Directory,
                TreeEntry::Regular => FileKind::Regular,
                TreeEntry::Other => FileKind::Other,
                TreeEntry::Missing if missing == Missing::WillBeMade => FileKind::Directory,
                TreeEntry::Missing => {
                    return Err(ViewError::NotFound {
                        path: path.to_owned(),
                    });
                }
                TreeEntry::Link(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(ViewError::Loop {
                            path: path.to_owned(),
                        });
                    }
                    detour |= target.is_absolute()
                        || target.components().any(|part| part == Component::ParentDir);
                    let before = ahead.len();
                    push_steps(&mut ahead, &target);
                    self.work((ahead.len() - before) as u64, path)?;
                    continue;
                }
            };
            at = next;
            covering.push(layer);
        }
        Ok(Found {
            layer: covering.last().copied().unwrap_or_default(),
            resolved: Resolved {
                path: at,
                kind,
                detour,
            },
        })
    }

    /// Takes `cost` from what is left of [`MAX_WORK`] for a look-up of `path`.
    fn work(&self, cost: u64, path: &Path) -> Result<(), ViewError> {
        if self.cancelled.load(Ordering::Acquire) {
            return Err(ViewError::Cancelled);
        }
        let left = self.work_left.get().checked_sub(cost);
        self.work_left.set(left.unwrap_or_default());
        match left {
            Some(_) => Ok(()),
            None => Err(ViewError::TooMuchWork {
                path: path.to_owned(),
            }),
        }
    }

    /// The layer of `path`, in a directory that the last of `covering` covers. The last layer that covers `path`
    /// counts, because a later mount hides earlier mounts at or beneath its path.
    fn layer(&self, covering: &[usize], path: &Path) -> usize {
        let above = covering.last().copied().unwrap_or_default();
        self.at.get(path).map_or(above, |&own| above.max(own))
    }

    /// The node at `path`, which has no symlinks above its last component, in the layer that covers it.
    fn entry(&self, layer: usize, path: &Path) -> io::Result<TreeEntry> {
        let entry = match self.within(layer, path) {
            (Some(tree), beneath) => tree.entry(beneath)?,
            (None, beneath) if beneath.as_os_str().is_empty() => TreeEntry::Directory,
            (None, _) => TreeEntry::Missing,
        };
        // The directories above a mount exist because the mount does.
        let above_mount = || self.beneath.get(path).is_some_and(|&mount| mount > layer);
        Ok(if entry == TreeEntry::Missing && above_mount() {
            TreeEntry::Directory
        } else {
            entry
        })
    }

    /// The tree of a layer that covers `path`, and the path within it.
    fn within<'a>(&'a self, layer: usize, path: &'a Path) -> (Option<&'a T>, &'a Path) {
        let TreeLayer { at, tree } = &self.layers[layer];
        // A layer covers only what is beneath its path.
        (tree.as_ref(), path.strip_prefix(at).unwrap_or(path))
    }
}

/// Refuses a path of a mount that the kernel does not take. What is missing beneath it would be looked up, name by
/// name, as if it would be made.
fn check_length(path: &Path, destination: &Path) -> Result<(), ViewError> {
    if path.as_os_str().len() >= PATH_MAX {
        return Err(ViewError::LongDestination {
            destination: destination.to_owned(),
        });
    }
    Ok(())
}
