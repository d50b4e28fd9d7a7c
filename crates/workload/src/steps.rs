//! The steps of a path, for a walk that looks at each name itself: of a plan's view, and of the image unpacker.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::{Component, Path};

/// The most symlinks that a walk follows, as in the kernel (path_resolution(7)).
pub const MAX_LINKS: usize = 40;

/// One step of a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WalkStep {
    /// To the root directory.
    Root,
    /// To the directory above.
    Up,
    /// To a name in the directory.
    Down(OsString),
}

/// Adds the steps of `path` to those that are ahead, of which the next one is the last.
pub fn push_steps(ahead: &mut Vec<WalkStep>, path: &Path) {
    ahead.extend(path.components().rev().filter_map(|part| match part {
        Component::RootDir => Some(WalkStep::Root),
        Component::ParentDir => Some(WalkStep::Up),
        Component::Normal(name) => Some(WalkStep::Down(name.to_owned())),
        Component::CurDir | Component::Prefix(_) => None,
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_a_link_come_before_those_that_were_ahead() {
        let down = |name: &str| WalkStep::Down(name.into());
        let mut ahead = Vec::new();
        push_steps(&mut ahead, Path::new("/a"));
        push_steps(&mut ahead, Path::new("./b/../c"));
        ahead.reverse();
        let expected = [
            down("b"),
            WalkStep::Up,
            down("c"),
            WalkStep::Root,
            down("a"),
        ];
        assert_eq!(ahead, expected);
    }
}
