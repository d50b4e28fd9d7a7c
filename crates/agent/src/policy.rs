//! The node's policy file, where the chart has a policy. Called by `host`.
//!
//! Only a file that this module wrote is ever changed or removed: the hashes of what it wrote lie in a record
//! beside it. A policy that the node's administrator wrote is theirs.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasm_interp_workload::{Policy, PolicyError};

/// Where the shim reads it: a path of the host.
pub(crate) const FILE: &str = "/etc/wasm-interp/policy.json";
/// Beside it, what of it is ours.
pub(crate) const RECORD: &str = "/etc/wasm-interp/.policy-sha256";
/// What either is called until it is whole.
const UNFINISHED: &str = ".policy-unfinished-";

/// Why the policy is not on the node.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PolicyFileError {
    #[error("cannot {act} {path:?}")]
    File {
        act: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the chart's policy cannot be used")]
    Policy(#[from] PolicyError),
    #[error(
        "the node has a policy of its own in {FILE}, which the chart does not overwrite: \
         remove that file, or leave the chart's value policy empty"
    )]
    Foreign,
}

/// The file and its record, both paths from here.
pub(crate) struct PolicyFile {
    pub(crate) file: PathBuf,
    pub(crate) record: PathBuf,
}

impl PolicyFile {
    /// Makes the file what the chart wants, which is a file from here; with `None`, no file of ours is left.
    pub(crate) fn settle(&self, wanted: Option<&Path>) -> Result<(), PolicyFileError> {
        self.forget_unfinished()?;
        let there = read(&self.file)?;
        let record = read(&self.record)?.unwrap_or_default();
        let record = String::from_utf8_lossy(&record).into_owned();
        let is_ours = |bytes: &[u8]| record.lines().any(|line| line == hash(bytes));
        let Some(wanted) = wanted else {
            if there.as_deref().is_some_and(is_ours) {
                remove(&self.file)?;
            }
            return remove(&self.record);
        };
        // As the shim would refuse it, but here, before a container does.
        Policy::load(wanted)?;
        let wanted = read(wanted)?.unwrap_or_default();
        match there {
            // The administrator's own, and what is wanted: both are content, and it stays theirs.
            Some(there) if !is_ours(&there) && there == wanted => return Ok(()),
            Some(there) if !is_ours(&there) => return Err(PolicyFileError::Foreign),
            _ => {}
        }
        // Both are ours while either may be there: this may be killed between any two lines.
        write(
            &self.record,
            format!("{record}\n{}", hash(&wanted)).as_bytes(),
        )?;
        write(&self.file, &wanted)?;
        write(&self.record, hash(&wanted).as_bytes())
    }

    /// Removes what a write has left that was killed.
    fn forget_unfinished(&self) -> Result<(), PolicyFileError> {
        let folder = self.file.parent().unwrap_or(Path::new("/"));
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PolicyFileError {
    move |source| PolicyFileError::File {
        act,
        path: path.to_owned(),
        source,
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, PolicyFileError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), PolicyFileError> {
    let write = || {
        let folder = path.parent().unwrap_or(Path::new("/"));
        let mut file = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(failed("write", path))
}

fn remove(path: &Path) -> Result<(), PolicyFileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    struct Node {
        folder: tempfile::TempDir,
        policy: PolicyFile,
    }

    fn node() -> Node {
        let folder = tempfile::tempdir().unwrap();
        let at = |name| folder.path().join(name);
        let policy = PolicyFile {
            file: at("policy.json"),
            record: at("record"),
        };
        Node { folder, policy }
    }

    impl Node {
        fn settle(&self, text: &str) -> Result<(), PolicyFileError> {
            let chart = self.folder.path().join("chart.json");
            fs::write(&chart, text).unwrap();
            self.policy.settle(Some(&chart))
        }

        fn holds(&self) -> Option<String> {
            read(&self.policy.file)
                .unwrap()
                .map(|bytes| String::from_utf8(bytes).unwrap())
        }
    }

    const SMALL: &str = r#"{"stack_bytes": 1048576}"#;
    const LARGE: &str = r#"{"stack_bytes": 8388608}"#;

    #[test]
    fn a_policy_comes_changes_and_goes() {
        let node = node();
        for text in [SMALL, SMALL, LARGE] {
            node.settle(text).unwrap();
            assert_eq!(node.holds().as_deref(), Some(text));
        }
        node.policy.settle(None).unwrap();
        assert_eq!(node.holds(), None);
        assert!(!node.policy.record.exists());
        node.policy.settle(None).unwrap();
    }

    #[test]
    fn what_a_killed_write_left_goes() {
        let node = node();
        let left = node.folder.path().join(".policy-unfinished-x");
        for settle in [
            |node: &Node| node.settle(SMALL),
            |node: &Node| node.policy.settle(None),
        ] {
            fs::write(&left, "half").unwrap();
            settle(&node).unwrap();
            assert!(!left.exists());
        }
    }

    #[test]
    fn the_administrators_own_policy_is_left_alone() {
        let node = node();
        fs::write(&node.policy.file, LARGE).unwrap();
        let error = node.settle(SMALL).unwrap_err();
        assert!(matches!(error, PolicyFileError::Foreign), "{error}");
        node.settle(LARGE).unwrap();
        node.policy.settle(None).unwrap();
        assert_eq!(node.holds().as_deref(), Some(LARGE));
    }

    #[test]
    fn one_that_was_changed_by_hand_is_the_administrators() {
        let node = node();
        node.settle(SMALL).unwrap();
        fs::write(&node.policy.file, LARGE).unwrap();
        node.policy.settle(None).unwrap();
        assert_eq!(node.holds().as_deref(), Some(LARGE));
    }

    #[test]
    fn killed_between_record_and_file_it_goes_on() {
        let node = node();
        node.settle(SMALL).unwrap();
        let both = format!("{}\n{}", hash(SMALL.as_bytes()), hash(LARGE.as_bytes()));
        fs::write(&node.policy.record, both).unwrap();
        node.settle(LARGE).unwrap();
        assert_eq!(node.holds().as_deref(), Some(LARGE));
    }

    #[test]
    fn what_the_shim_would_refuse_does_not_reach_the_node() {
        let node = node();
        let error = node.settle(r#"{"stack_bytes": 1}"#).unwrap_err();
        let text = wasm_interp_workload::with_causes(&error).to_string();
        assert!(text.contains("512 KiB"), "{text}");
        assert_eq!(node.holds(), None);
    }
}
