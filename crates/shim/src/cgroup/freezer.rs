//! Freezes and thaws all processes in a cgroup.
//!
//! Version 1: `freezer.state` (the kernel's cgroup-v1/freezer-subsystem documentation). Where processes are
//! born while it freezes, it can stay FREEZING, and has to be asked again. Version 2: `cgroup.freeze`, and
//! `cgroup.events` says when all are frozen.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::error::{CgroupError, is_gone};
use super::flat_file::flat_value;
use super::location::Cgroup;

/// How long all processes may take to freeze. One that waits for a dead network mount does not.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(1);
/// After so many attempts version 1 is thawed for a moment: so a process in vfork(2), which waits for its
/// child, can go on.
const ATTEMPTS: u32 = 50;
const THAWED_FOR: Duration = Duration::from_millis(10);

/// The files of one freezer.
enum Freezer {
    V1 { state: PathBuf },
    V2 { freeze: PathBuf, events: PathBuf },
}

impl Cgroup {
    /// Freezes every process. If that fails, none stays frozen.
    pub(crate) fn freeze(&self) -> Result<(), CgroupError> {
        let freezer = self.freezer().ok_or(CgroupError::NoFreezer)?;
        let frozen = freezer.freeze();
        if frozen.is_err() {
            freezer.thaw()?;
        }
        frozen
    }

    /// Lets every process go on. Succeeds if there is no freezer.
    pub(crate) fn thaw(&self) -> Result<(), CgroupError> {
        self.freezer().map_or(Ok(()), |freezer| freezer.thaw())
    }

    fn freezer(&self) -> Option<Freezer> {
        match self {
            Self::V1(controllers) => Some(Freezer::V1 {
                state: controllers.get("freezer")?.join("freezer.state"),
            }),
            Self::V2(path) => Some(Freezer::V2 {
                freeze: path.join("cgroup.freeze"),
                events: path.join("cgroup.events"),
            }),
        }
    }
}

impl Freezer {
    fn freeze(&self) -> Result<(), CgroupError> {
        let end = Instant::now() + PATIENCE;
        let mut attempts = 0;
        loop {
            self.ask()?;
            if self.is_frozen()? {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(CgroupError::Unfrozen {
                    path: self.file().to_owned(),
                });
            }
            attempts += 1;
            match self {
                Self::V1 { .. } if attempts % ATTEMPTS == 0 => {
                    self.thaw()?;
                    thread::sleep(THAWED_FOR);
                }
                Self::V1 { .. } | Self::V2 { .. } => thread::sleep(PAUSE),
            }
        }
    }

    fn ask(&self) -> Result<(), CgroupError> {
        match self {
            Self::V1 { state } => write(state, "FROZEN"),
            Self::V2 { freeze, .. } => write(freeze, "1"),
        }
    }

    fn is_frozen(&self) -> Result<bool, CgroupError> {
        let file = match self {
            Self::V1 { state } => state,
            Self::V2 { events, .. } => events,
        };
        let text = fs::read_to_string(file).map_err(CgroupError::read(file))?;
        Ok(match self {
            Self::V1 { .. } => text.trim() == "FROZEN",
            Self::V2 { .. } => flat_value(&text, "frozen") == Some(1),
        })
    }

    fn thaw(&self) -> Result<(), CgroupError> {
        let thawed = match self {
            Self::V1 { state } => write(state, "THAWED"),
            Self::V2 { freeze, .. } => write(freeze, "0"),
        };
        match thawed {
            // The cgroup is removed, so no process is left in it.
            Err(CgroupError::Write { source, .. }) if is_gone(&source) => Ok(()),
            thawed => thawed,
        }
    }

    fn file(&self) -> &Path {
        match self {
            Self::V1 { state } => state,
            Self::V2 { freeze, .. } => freeze,
        }
    }
}

/// Never makes the file: it exists, or the cgroup is gone.
fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    use std::io::Write;
    fs::File::options()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(value.as_bytes()))
        .map_err(CgroupError::write(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder in place of a cgroup keeps what is written, so the kernel's part is played by the test.
    #[test]
    fn v2_is_frozen_when_its_events_say_so() {
        let folder = tempfile::tempdir().expect("folder");
        let file = |name: &str| folder.path().join(name);
        fs::write(file("cgroup.freeze"), "0\n").expect("write");
        fs::write(file("cgroup.events"), "populated 1\nfrozen 0\n").expect("write");
        let cgroup = Cgroup::V2(folder.path().to_owned());
        thread::scope(|scope| {
            let freezing = scope.spawn(|| cgroup.freeze());
            while fs::read_to_string(file("cgroup.freeze")).expect("read") != "1\n" {
                thread::yield_now();
            }
            assert!(!freezing.is_finished(), "its processes still run");
            fs::write(file("cgroup.events.new"), "populated 1\nfrozen 1\n").expect("write");
            fs::rename(file("cgroup.events.new"), file("cgroup.events")).expect("rename");
            freezing.join().expect("join").expect("frozen");
        });
        cgroup.thaw().expect("thaw");
        let text = fs::read_to_string(file("cgroup.freeze")).expect("read");
        assert_eq!(text, "0\n");
    }

    #[test]
    fn failed_freeze_thaws_and_a_removed_cgroup_is_thawed() {
        let folder = tempfile::tempdir().expect("folder");
        let freeze = folder.path().join("cgroup.freeze");
        fs::write(&freeze, "0\n").expect("write");
        let cgroup = Cgroup::V2(folder.path().to_owned());
        // There is no cgroup.events.
        let error = cgroup.freeze().expect_err("cannot be known");
        assert!(error.to_string().contains("cgroup.events"), "{error}");
        assert_eq!(fs::read_to_string(&freeze).expect("read"), "0\n");
        fs::remove_file(&freeze).expect("remove");
        cgroup.thaw().expect("nothing is left");
        let without = Cgroup::V1(std::collections::BTreeMap::new());
        let error = without.freeze().expect_err("no freezer").to_string();
        assert!(error.contains("freezer"), "{error}");
    }
}
