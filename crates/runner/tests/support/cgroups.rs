//! The cgroups of the tests' containers.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

/// Written to while the parents of cgroups are removed: libcontainer does not make a cgroup whose parent
/// vanishes meanwhile.
pub(super) static PARENTS: RwLock<()> = RwLock::new(());

/// Removes the cgroups above that of the container. The runner leaves them, as every runtime does: its
/// caller has named them. On version 2 the slices are systemd's, which removes them once they are empty.
pub(crate) fn remove_parents(id: &str) {
    let _no_test_creates_one = PARENTS.write().unwrap_or_else(PoisonError::into_inner);
    let hierarchies: Vec<PathBuf> = if unified() {
        vec!["/sys/fs/cgroup".into()]
    } else {
        fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect()
    };
    let parent = parent(id);
    for hierarchy in hierarchies {
        for directory in [
            format!("{parent}.slice/{parent}-pod1.slice"),
            format!("{parent}.slice"),
            parent.clone(),
            // Made by a test where no systemd is; where it is, it is never empty.
            "system.slice".to_owned(),
        ] {
            let _ = fs::remove_dir(hierarchy.join(directory));
        }
    }
}

pub(super) fn parent(id: &str) -> String {
    id.replace('-', "")
}

/// Whether this machine has the unified hierarchy.
pub(crate) fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// What a file of a container's cgroup says, whichever hierarchy has it.
pub(crate) fn cgroup_file(id: &str, file: &str) -> Option<String> {
    cgroups_named(id)
        .into_iter()
        .find_map(|cgroup| fs::read_to_string(cgroup.join(file)).ok())
        .map(|text| text.trim().to_owned())
}

/// Every directory in the host's cgroup hierarchies whose path holds `name`.
pub(crate) fn cgroups_named(name: &str) -> Vec<PathBuf> {
    fn walk(directory: &Path, name: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if !entry.file_type().is_ok_and(|t| t.is_dir()) {
                continue;
            }
            if entry.file_name().to_string_lossy().contains(name) {
                found.push(path);
            } else {
                walk(&path, name, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), name, &mut found);
    found
}
