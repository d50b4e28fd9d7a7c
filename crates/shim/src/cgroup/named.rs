//! Moves a process into a cgroup that exists and is named by its path in the tree, as the option `ShimCgroup`
//! names it.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::error::CgroupError;
use super::location::mount_points;

/// Moves the process into the cgroup in each hierarchy that has it. Fails if none has.
pub(crate) fn add_to_named(path: &str, pid: u32) -> Result<(), CgroupError> {
    add(&mount_points()?, path, pid)
}

fn add(hierarchies: &[PathBuf], path: &str, pid: u32) -> Result<(), CgroupError> {
    let unknown = || CgroupError::Unknown {
        path: path.to_owned(),
    };
    let below: PathBuf = Path::new(path)
        .components()
        .filter(|part| !matches!(part, Component::RootDir | Component::CurDir))
        .map(|part| match part {
            Component::Normal(name) => Ok(name),
            // It would be another tree's.
            _ => Err(unknown()),
        })
        .collect::<Result<_, _>>()?;
    let files = hierarchies
        .iter()
        .map(|point| point.join(&below).join("cgroup.procs"));
    let files: Vec<_> = files.filter(|file| file.exists()).collect();
    if files.is_empty() {
        return Err(unknown());
    }
    for file in files {
        fs::write(&file, pid.to_string()).map_err(CgroupError::write(file))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_is_moved_in_each_hierarchy_that_has_the_cgroup() {
        let folder = tempfile::tempdir().expect("folder");
        let hierarchies = ["cpu", "memory", "systemd"].map(|name| folder.path().join(name));
        for hierarchy in &hierarchies[..2] {
            fs::create_dir_all(hierarchy.join("shims")).expect("make");
            fs::write(hierarchy.join("shims/cgroup.procs"), "").expect("write");
        }
        add(&hierarchies, "/shims", 42).expect("move");
        for hierarchy in &hierarchies[..2] {
            let text = fs::read_to_string(hierarchy.join("shims/cgroup.procs"));
            assert_eq!(text.expect("read"), "42");
        }
        for path in ["/other", "../shims"] {
            let error = add(&hierarchies, path, 42)
                .expect_err("there is none")
                .to_string();
            assert!(error.contains(path), "{error}");
        }
    }
}
