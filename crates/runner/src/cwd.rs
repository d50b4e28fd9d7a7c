//! Makes the working directory that a spec names and its image lacks, as runc does: an image's
//! WORKDIR need not exist.
//!
//! Called by `container::create`. libcontainer enters the directory without making it, and has no
//! step in between to make it in. So it is given `/` to enter (no guest can tell: WASI has no
//! working directory), and the directory is made from outside.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use oci_spec::runtime::Spec;

use crate::container_root::{ContainerRoot, MakeDirectoriesError, Symlinks};

/// A working directory could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the working directory {cwd}: {path}: {source}; name one that can be made")]
pub(crate) struct CwdError {
    cwd: PathBuf,
    path: PathBuf,
    source: Errno,
}

/// Makes `cwd` where it will lie on a root file system that the container gets read-only: once the
/// container stands it is too late.
pub(crate) fn make_before(spec: &Spec, cwd: &Path) -> Result<(), CwdError> {
    let Some(root) = spec
        .root()
        .as_ref()
        .filter(|root| root.readonly() == Some(true))
    else {
        return Ok(());
    };
    let mounted = spec
        .mounts()
        .iter()
        .flatten()
        .any(|mount| cwd.starts_with(mount.destination()));
    if mounted {
        return Ok(());
    }
    let root = ContainerRoot::open(root.path());
    make(&root.map_err(unopened(cwd))?, cwd)
}

/// Makes `cwd` in the container that `init` is in, with its mounts.
pub(crate) fn make_inside(init: i32, cwd: &Path) -> Result<(), CwdError> {
    if cwd == Path::new("/") {
        return Ok(());
    }
    let root = ContainerRoot::of_process(init);
    make(&root.map_err(unopened(cwd))?, cwd)
}

fn make(root: &ContainerRoot, cwd: &Path) -> Result<(), CwdError> {
    root.make_directories(cwd, Symlinks::Followed)
        .map(drop)
        .map_err(failed(cwd))
}

fn unopened(cwd: &Path) -> impl FnOnce(rustix::io::Errno) -> CwdError {
    let failed = failed(cwd);
    move |errno| {
        failed(MakeDirectoriesError {
            part: "/".into(),
            errno,
        })
    }
}

fn failed(cwd: &Path) -> impl FnOnce(MakeDirectoriesError) -> CwdError {
    let cwd = cwd.to_owned();
    move |error| CwdError {
        cwd,
        path: error.part,
        source: Errno::from_raw(error.errno.raw_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;

    fn made(root: &Path, cwd: &str) -> Result<(), Errno> {
        let root = ContainerRoot::open(root).expect("the root");
        make(&root, Path::new(cwd)).map_err(|e| e.source)
    }

    #[test]
    fn missing_directories_are_made_and_existing_ones_stay_as_they_are() {
        let root = tempfile::tempdir().expect("root");
        let there = root.path().join("srv");
        fs::create_dir(&there).expect("make");
        fs::set_permissions(&there, fs::Permissions::from_mode(0o700)).expect("chmod");
        assert_eq!(made(root.path(), "/srv/a/b"), Ok(()));
        assert_eq!(made(root.path(), "/srv/a/b"), Ok(()));
        assert_eq!(made(root.path(), "/"), Ok(()));
        assert!(root.path().join("srv/a/b").is_dir());
        let mode = fs::metadata(&there).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn links_do_not_lead_out() {
        let outside = tempfile::tempdir().expect("outside");
        let root = tempfile::tempdir().expect("root");
        let target = outside.path().strip_prefix("/").expect("absolute");
        symlink(outside.path(), root.path().join("absolute")).expect("link");
        let climbing = Path::new("../../../../../..").join(target);
        symlink(climbing, root.path().join("climbing")).expect("link");
        // Both name a directory beneath the root that is not there.
        assert_eq!(made(root.path(), "/absolute/made"), Err(Errno::ENOENT));
        assert_eq!(made(root.path(), "/climbing/made"), Err(Errno::ENOENT));
        fs::create_dir_all(root.path().join(target)).expect("make");
        assert_eq!(made(root.path(), "/absolute/made"), Ok(()));
        assert_eq!(made(root.path(), "/climbing/too"), Ok(()));
        assert!(root.path().join(target).join("made").is_dir());
        assert!(root.path().join(target).join("too").is_dir());
        assert_eq!(fs::read_dir(outside.path()).expect("read").count(), 0);
    }

    #[test]
    fn dot_dot_in_a_working_directory_does_not_leave_the_root() {
        let above = tempfile::tempdir().expect("directory");
        let root = above.path().join("root");
        fs::create_dir(&root).expect("make");
        assert_eq!(made(&root, "/../a/../../b"), Ok(()));
        assert!(root.join("b").is_dir());
        assert!(!above.path().join("b").exists());
    }

    #[test]
    fn error_names_the_file_that_is_in_the_way_of_a_directory() {
        let root = tempfile::tempdir().expect("root");
        fs::write(root.path().join("file"), "").expect("write");
        let inside = ContainerRoot::open(root.path()).expect("the root");
        let error = make(&inside, Path::new("/file/a")).expect_err("a file is in the way");
        assert_eq!(
            error.to_string(),
            "cannot make the working directory /file/a: /file: ENOTDIR: Not a directory; name one \
             that can be made"
        );
    }
}
