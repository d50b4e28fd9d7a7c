//! File trees laid over one another, and the walk through them: the part of the view that is the
//! same for a real root filesystem and for the fake of the tests. It decides what hides what and
//! how symlinks are followed; it opens nothing itself.

use std::ffi::OsString;
use std::io::{self, Read, Seek};
use std::path::{Component, Path, PathBuf};

use super::{FileKind, Resolved, ViewError};

/// As many symlinks as the kernel follows, path_resolution(7).
const MAX_LINKS: usize = 40;

/// One file tree. Paths are relative to its root, free of symlinks, and empty for the root itself.
pub(crate) trait Tree {
    type File: Read + Seek;

    /// What is at `path`; the last component is not followed.
    fn entry(&self, path: &Path) -> io::Result<Entry>;

    /// Opens the regular file at `path`; `None` if it is none, or none any more.
    fn open(&self, path: &Path) -> io::Result<Option<Self::File>>;

    /// At most `most` names of the directory at `path`, in any order.
    fn names(&self, path: &Path, most: usize) -> io::Result<Vec<OsString>>;
}

/// What a name in a [`Tree`] stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Missing,
    Directory,
    Regular,
    Other,
    Link(PathBuf),
}

/// Trees over one another, the root filesystem first.
pub(crate) struct Layers<T> {
    layers: Vec<Layer<T>>,
}

struct Layer<T> {
    at: PathBuf,
    /// `None`: an empty directory.
    tree: Option<T>,
}

/// What the walk does with a component that is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Fails,
    /// The runtime makes the directories above a mount, so the walk goes on by name.
    WillBeMade,
}

impl<T: Tree> Layers<T> {
    pub(crate) fn new(root: T) -> Self {
        Self {
            layers: vec![Layer {
                at: PathBuf::from("/"),
                tree: Some(root),
            }],
        }
    }

    /// Lays `tree` over `at`, which [`Layers::mount_point`] gave.
    pub(crate) fn mount(&mut self, at: PathBuf, tree: Option<T>) {
        self.layers.push(Layer { at, tree });
    }

    /// Where a mount with this destination lands; never on the root itself. What is mounted there
    /// would stand for the image, unseen by all that has been checked of that.
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
        // Components still to go, the next one last.
        let mut ahead = Vec::new();
        push(&mut ahead, path);
        while let Some(step) = ahead.pop() {
            let name = match step {
                Step::Root => {
                    at = PathBuf::from("/");
                    kind = FileKind::Directory;
                    continue;
                }
                // Only directories are walked through, so the parent is the real one.
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
                Entry::Directory => at = next,
                Entry::Regular => (at, kind) = (next, FileKind::Regular),
                Entry::Other => (at, kind) = (next, FileKind::Other),
                Entry::Missing if missing == Missing::WillBeMade => at = next,
                Entry::Missing => {
                    return Err(ViewError::NotFound {
                        path: path.to_owned(),
                    });
                }
                Entry::Link(target) => {
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

    /// What is at `path`, which is free of symlinks above its last component.
    fn entry(&self, path: &Path) -> io::Result<Entry> {
        let (index, layer, beneath) = self.cover(path);
        let entry = match &layer.tree {
            Some(tree) => tree.entry(beneath)?,
            None if beneath.as_os_str().is_empty() => Entry::Directory,
            None => Entry::Missing,
        };
        // The directories above a mount exist because the mount does.
        let above_mount = || {
            self.layers[index + 1..]
                .iter()
                .any(|layer| layer.at != path && layer.at.starts_with(path))
        };
        Ok(if entry == Entry::Missing && above_mount() {
            Entry::Directory
        } else {
            entry
        })
    }

    /// The layer that `path` is in, and the path within it: the last one that lies over `path`,
    /// since a later mount hides what earlier ones put at or beneath its place.
    fn cover<'a>(&'a self, path: &'a Path) -> (usize, &'a Layer<T>, &'a Path) {
        let layers = self.layers.iter().enumerate().rev();
        let covering = layers
            .filter_map(|(index, layer)| Some((index, layer, path.strip_prefix(&layer.at).ok()?)))
            .next();
        // Paths are absolute and the first layer lies at "/", so there always is one.
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
