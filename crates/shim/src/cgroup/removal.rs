//! Removes the cgroup of a container whose bundle has vanished: the runner's record of it was in there.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::error::{CgroupError, is_gone};
use super::location::Cgroup;
use super::members::cgroups_in;

/// How often a directory is tried: a killed process leaves its cgroup some time after the signal.
const ROUNDS: u32 = 500;
const PAUSE: Duration = Duration::from_millis(10);

impl Cgroup {
    /// Removes it with all cgroups in it, and kills what is left there. It succeeds if it does not exist.
    pub(crate) fn remove(&self) -> Result<(), CgroupError> {
        self.kill_all()?;
        match self {
            Cgroup::V2(path) => remove_tree(path),
            Cgroup::V1(controllers) => controllers.values().try_for_each(|path| remove_tree(path)),
        }
    }
}

fn remove_tree(directory: &Path) -> Result<(), CgroupError> {
    let mut inside = vec![directory.to_owned()];
    let mut found: Vec<PathBuf> = Vec::new();
    while let Some(directory) = inside.pop() {
        match cgroups_in(&directory) {
            Err(error) if is_gone(&error) => continue,
            cgroups => inside.extend(cgroups.map_err(CgroupError::read(&directory))?),
        }
        found.push(directory);
    }
    // The innermost first.
    found.iter().rev().try_for_each(|path| remove_one(path))
}

fn remove_one(directory: &Path) -> Result<(), CgroupError> {
    let mut rounds = 0;
    loop {
        match fs::remove_dir(directory) {
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && rounds < ROUNDS => {
                rounds += 1;
                thread::sleep(PAUSE);
            }
            removed => return removed.map_err(CgroupError::remove(directory)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_inside_are_removed_first_and_a_missing_one_is_no_error() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("container");
        for inside in ["a/b", "c"] {
            fs::create_dir_all(path.join(inside)).expect("create");
        }
        remove_tree(&path).expect("remove");
        assert!(!path.exists());
        remove_tree(&path).expect("remove again");
    }
}
