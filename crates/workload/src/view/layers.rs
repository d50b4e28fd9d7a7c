//! Layers of file trees, and path resolution through them. The view of a real root filesystem and the
//! tests' fake share this code. It decides which layer hides which and how symlinks are followed; it
//! opens no file itself.

use std::ffi::OsString;
use std::io::{self, Read, Seek};
use std::path::{Component, Path, PathBuf};

use super::{FileKind, Resolved, ViewError};

/// The most symlinks that are followed, as in the kernel (path_resolution(7)).
const MAX_LINKS: usize = 40;

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

impl<T: Tree> Layers<T> {
    pub(crate) fn new(root: T) -> Self {
        Self {
            layers: vec![TreeLayer {
                at: PathBuf::from("/"),
                tree: Some(root),
            }],
        }
    }

    /// Lays `tree` over `at`, which [`Layers::mount_point`] gave.
    pub(crate) fn mount(&mut self, at: PathBuf, tree: Option<T>) {
        self.layers.push(TreeLayer { at, tree });
    }

    /// The path that a mount with this destination covers. The root is an error: a mount there would
    /// replace the image that was checked.
    pub(crate) fn mount_point(&self, destination: &Path) -> Result<PathBuf, ViewError> {
        let path = self.walk(destination, Missing::WillBeMade)?.path;
        if path == Path::new("/") {
            return Err(ViewError::MountOverRoot {
                destination: destination.to_owned(),
            });
        }
        Ok(path)
    }

    pub(crate) fn resolve(&self, path: &Path) -> Result<Resolved, ViewError> {
        self.walk(path, Missing::Fails)
    }

    pub(crate) fn open(&self, path: &Path) -> Result<T::File, ViewError> {
        let resolved = self.resolve(path)?;
        let not_regular = || ViewError::NotRegular {
            path: path.to_owned(),
        };
        if resolved.kind != FileKind::Regular {
            return Err(not_regular());
        }
        let (_, layer, beneath) = self.cover(&resolved.path);
        let opened = layer
            .tree
            .as_ref()
            .map(|tree| tree.open(beneath))
            .transpose();
        opened
            .map_err(|source| ViewError::Io {
                path: path.to_owned(),
                source,
            })?
            .flatten()
            .ok_or_else(not_regular)
    }

    pub(crate) fn names(&self, path: &Path, most: usize) -> Result<Vec<OsString>, ViewError> {
        let resolved = self.resolve(path)?;
        if resolved.kind != FileKind::Directory {
            return Err(ViewError::NotFound {
                path: path.to_owned(),
            });
        }
        let (_, layer, beneath) = self.cover(&resolved.path);
        let Some(tree) = &layer.tree else {
            return Ok(Vec::new());
        };
        let mut names = tree.names(beneath, most).map_err(|source| ViewError::Io {
            path: path.to_owned(),
            source,
        })?;
        names.sort();
        Ok(names)
    }

    fn walk(&self, path: &Path, missing: Missing) -> Result<Resolved, ViewError> {
        let mut at = PathBuf::from("/");
        let mut kind = FileKind::Directory;
        let mut detour = false;
        let mut links = 0;
        // The components that are left, the next one last.
        let mut ahead = Vec::new();
        push(&mut ahead, path);
        while let Some(step) = ahead.pop() {
            let name = match step {
                Step::Root => {
                    at = PathBuf::from("/");
                    kind = FileKind::Directory;
                    continue;
                }
                // The walk enters only directories, so this is the real parent.
                Step::Up if kind == FileKind::Directory => {
                    at.pop();
                    continue;
                }
                Step::Down(name) if kind == FileKind::Directory => name,
                Step::Up | Step::Down(_) => {
                    return Err(ViewError::NotFound {
                        path: path.to_owned(),
                    });
                }
            };
            let next = at.join(&name);
            let entry = self.entry(&next).map_err(|source| ViewError::Io {
                path: path.to_owned(),
                source,
            })?;
            match entry {
                TreeEntry::Directory => at = next,
                TreeEntry::Regular => (at, kind) = (next, FileKind::Regular),
                TreeEntry::Other => (at, kind) = (next, FileKind::Other),
                TreeEntry::Missing if missing == Missing::WillBeMade => at = next,
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
                    push(&mut ahead, &target);
                }
            }
        }
        Ok(Resolved {
            path: at,
            kind,
            detour,
        })
    }

    /// The node at `path`, which has no symlinks above its last component.
    fn entry(&self, path: &Path) -> io::Result<TreeEntry> {
        let (index, layer, beneath) = self.cover(path);
        let entry = match &layer.tree {
            Some(tree) => tree.entry(beneath)?,
            None if beneath.as_os_str().is_empty() => TreeEntry::Directory,
            None => TreeEntry::Missing,
        };
        // The directories above a mount exist because the mount does.
        let above_mount = || {
            self.layers[index + 1..]
                .iter()
                .any(|layer| layer.at != path && layer.at.starts_with(path))
        };
        Ok(if entry == TreeEntry::Missing && above_mount() {
            TreeEntry::Directory
        } else {
            entry
        })
    }

    /// The layer of `path`, and the path within it. The last layer that covers `path` counts, because a
    /// later mount hides earlier mounts at or beneath its path.
    fn cover<'a>(&'a self, path: &'a Path) -> (usize, &'a TreeLayer<T>, &'a Path) {
        let layers = self.layers.iter().enumerate().rev();
        let covering = layers
            .filter_map(|(index, layer)| Some((index, layer, path.strip_prefix(&layer.at).ok()?)))
            .next();
        // Paths are absolute and the first layer covers "/", so there always is a layer.
        covering.unwrap_or((0, &self.layers[0], path))
    }
}

enum Step {
    Root,
    Up,
    Down(OsString),
}

fn push(ahead: &mut Vec<Step>, path: &Path) {
    ahead.extend(path.components().rev().filter_map(|part| match part {
        Component::RootDir => Some(Step::Root),
        Component::ParentDir => Some(Step::Up),
        Component::Normal(name) => Some(Step::Down(name.to_owned())),
        Component::CurDir | Component::Prefix(_) => None,
    }));
}
