//! The names of a layer's entries as a tree: what a layer itself has laid is not hidden by its whiteouts.
//!
//! Made by [`super::unpack`] for each layer. It answers in the time that a path is long, whatever the layer holds.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path};

use crate::limits::MAX_ENTRIES;

/// A name in the tree; the first one is the root directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NameId(usize);

/// The names of one layer.
#[derive(Debug)]
pub(crate) struct LayerNames {
    nodes: Vec<NameNode>,
    most: usize,
}

#[derive(Debug, Default)]
struct NameNode {
    children: HashMap<OsString, usize>,
    /// The layer has an entry here or beneath it.
    is_own: bool,
    /// An opaque whiteout has removed all that lower layers have beneath it.
    is_opaque: bool,
}

impl Default for LayerNames {
    fn default() -> Self {
        Self::with_most(MAX_ENTRIES)
    }
}

impl LayerNames {
    fn with_most(most: usize) -> Self {
        Self {
            nodes: vec![NameNode::default()],
            most,
        }
    }

    /// Adds an entry of the layer.
    pub(crate) fn add(&mut self, path: &Path) -> io::Result<()> {
        let mut at = 0;
        self.nodes[at].is_own = true;
        for name in names(path) {
            at = self.child_or_new(at, name)?;
            self.nodes[at].is_own = true;
        }
        Ok(())
    }

    /// Notes that what lower layers have beneath `directory` is hidden. Whether it still was there: neither this
    /// directory nor one above it was made opaque before.
    pub(crate) fn make_opaque(&mut self, directory: &Path) -> io::Result<bool> {
        let mut at = 0;
        for name in names(directory) {
            if self.nodes[at].is_opaque {
                return Ok(false);
            }
            at = self.child_or_new(at, name)?;
        }
        Ok(!std::mem::replace(&mut self.nodes[at].is_opaque, true))
    }

    /// What the layer has at this path or beneath it.
    pub(crate) fn own(&self, path: &Path) -> Option<NameId> {
        names(path).try_fold(NameId(0), |at, name| self.own_child(at, name))
    }

    /// The same for a name in a directory.
    pub(crate) fn own_child(&self, directory: NameId, name: &OsStr) -> Option<NameId> {
        let child = *self.nodes[directory.0].children.get(name)?;
        self.nodes[child].is_own.then_some(NameId(child))
    }

    /// Whether an opaque whiteout names this directory.
    pub(crate) fn is_opaque(&self, directory: NameId) -> bool {
        self.nodes[directory.0].is_opaque
    }

    fn child_or_new(&mut self, directory: usize, name: &OsStr) -> io::Result<usize> {
        if let Some(&child) = self.nodes[directory].children.get(name) {
            return Ok(child);
        }
        let new = self.nodes.len();
        if new > self.most {
            return Err(io::Error::other(format!(
                "the layer names more than {} files and directories; make a smaller one",
                self.most
            )));
        }
        self.nodes.push(NameNode::default());
        self.nodes[directory].children.insert(name.to_owned(), new);
        Ok(new)
    }
}

fn names(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_protects_itself_and_the_directories_above_it() {
        let mut names = LayerNames::default();
        names.add(Path::new("/a/b/c")).unwrap();
        for (path, own) in [("/", true), ("/a", true), ("/a/b/c", true), ("/a/c", false)] {
            assert_eq!(names.own(Path::new(path)).is_some(), own, "{path}");
        }
        // An opaque whiteout is no file.
        assert!(names.make_opaque(Path::new("/lower")).unwrap());
        assert_eq!(names.own(Path::new("/lower")), None);
    }

    #[test]
    fn directory_is_made_opaque_once_and_with_all_beneath_it() {
        let mut names = LayerNames::default();
        for (path, first) in [
            ("/a/b", true),
            ("/a/b", false),
            ("/a", true),
            ("/a/c/d", false),
        ] {
            assert_eq!(names.make_opaque(Path::new(path)).unwrap(), first, "{path}");
        }
        assert!(names.make_opaque(Path::new("/")).unwrap());
        assert!(!names.make_opaque(Path::new("/x")).unwrap());
    }

    #[test]
    fn number_of_names_has_a_limit() {
        let mut names = LayerNames::with_most(3);
        names.add(Path::new("/a/b/c")).unwrap();
        names.add(Path::new("/a/b")).unwrap();
        let error = names.add(Path::new("/d")).unwrap_err().to_string();
        assert!(
            error.contains("more than 3 files and directories"),
            "{error}"
        );
    }
}
