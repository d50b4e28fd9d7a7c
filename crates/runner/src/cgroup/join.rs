//! Puts a further process into the cgroup of a running container. Called by `init::join`.
#![forbid(unsafe_code)]

use std::{
    fs,
    io::{Error, ErrorKind, Result},
    path::{Path, PathBuf},
};

/// Moves this process into each of the container's `own` directories. On version 2 a cgroup that has
/// cgroups inside takes no process, and the kernel answers EBUSY: then into that of the init process, which is
/// one of `inits`.
pub(crate) fn join(own: &[PathBuf], inits: &[PathBuf]) -> Result<()> {
    let mut joined = false;
    for directory in own {
        let moved = match enter(directory) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                let inside = inits.iter().find(|init| init.starts_with(directory));
                inside.map_or(Err(error), |init| enter(init))
            }
            moved => moved,
        };
        match moved {
            // Nothing was made there for the container.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                let text = format!("{}: {error}", directory.display());
                return Err(Error::new(error.kind(), text));
            }
            Ok(()) => joined = true,
        }
    }
    if joined || own.is_empty() {
        Ok(())
    } else {
        Err(Error::other("it does not exist any more"))
    }
}

fn enter(directory: &Path) -> Result<()> {
    // 0 is this process.
    fs::write(directory.join("cgroup.procs"), "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_joins_each_directory_that_exists_and_at_least_one() {
        let above = tempfile::tempdir().expect("directory");
        let [there, gone] = ["there", "gone"].map(|name| above.path().join(name));
        fs::create_dir(&there).expect("make");
        join(&[there.clone(), gone.clone()], &[]).expect("join");
        assert_eq!(
            fs::read_to_string(there.join("cgroup.procs")).expect("read"),
            "0"
        );
        join(&[gone], &[]).expect_err("no cgroup is left");
        join(&[], &[]).expect("the container never had one");
    }
}
