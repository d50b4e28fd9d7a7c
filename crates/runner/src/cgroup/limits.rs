//! Limits of a container's cgroup that neither libcgroups nor systemd sets, or that have to wait until the
//! init process is in it.
//!
//! Called by `spec` and `container::create`.
#![forbid(unsafe_code)]

use std::{collections::HashMap, path::PathBuf};

use super::hierarchies::directory;

/// Sets the limit of tasks of the container's cgroup, in which process `pid` is.
pub(crate) fn limit_pids(pid: i32, own: &[PathBuf], limit: i64) -> std::io::Result<()> {
    let directory = directory(pid, own, "pids")?;
    let value = if limit > 0 {
        limit.to_string()
    } else {
        "max".to_owned()
    };
    std::fs::write(directory.join("pids.max"), value)
}

/// Takes the files out of `unified` (runtime spec, "Unified") that libcontainer cannot have systemd set
/// correctly: systemd has no property for most files, has another unit for a quota, and does not know `max`.
/// The caller [writes](write_unified) them once the cgroup exists.
pub(crate) fn take_unified(unified: &mut HashMap<String, String>) -> HashMap<String, String> {
    const PROPERTIES: [&str; 5] = [
        "memory.min",
        "memory.low",
        "memory.high",
        "memory.max",
        "pids.max",
    ];
    let number = |value: &str| value.parse::<u64>().is_ok();
    unified
        .extract_if(|file, value| !PROPERTIES.contains(&file.as_str()) || !number(value))
        .collect()
}

/// Writes files of the container's cgroup, in which process `pid` is, on version 2.
pub(crate) fn write_unified(
    pid: i32,
    own: &[PathBuf],
    files: &HashMap<String, String>,
) -> std::io::Result<()> {
    let directory = directory(pid, own, "memory")?;
    files.iter().try_for_each(|(file, value)| {
        if file.contains('/') {
            return Err(std::io::Error::other(format!(
                "linux.resources.unified: {file:?} is no file of a cgroup; remove the slash"
            )));
        }
        let path = directory.join(file);
        std::fs::write(&path, value).map_err(|error| {
            let act = format!("cannot write {value:?} to {}: {error}", path.display());
            std::io::Error::new(error.kind(), act)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_sets_only_the_files_that_it_sets_correctly() {
        let files = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
            pairs.iter().map(|&(k, v)| (k.into(), v.into())).collect()
        };
        let mut unified = files(&[
            ("memory.max", "4096"),
            ("memory.high", "max"),
            ("memory.oom.group", "1"),
            ("cpu.max", "5000 10000"),
        ]);
        let taken = take_unified(&mut unified);
        assert_eq!(unified, files(&[("memory.max", "4096")]));
        assert_eq!(taken.len(), 3);
    }
}
