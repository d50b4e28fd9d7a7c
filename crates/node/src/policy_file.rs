//! The node's policy file, as far as the chart manages it. Called by the job; does not read what a policy says.
//!
//! A job changes or removes only a file that a job wrote: the hashes of what jobs wrote are in a record beside the
//! file. A policy that the node's administrator wrote is the administrator's.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};
use crate::host::HostRoot;

/// The folder of the policy file. Nothing else of ours is in it.
const FOLDER: &str = "/etc/wasm-interp";
/// Where the shim reads the policy.
const FILE: &str = "/etc/wasm-interp/policy.json";
/// The SHA-256 of each text that a job wrote, one per line.
const RECORD: &str = "/etc/wasm-interp/.policy-sha256";

/// What a job does to the node's policy file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyChange {
    /// Leave it as it is.
    #[default]
    Keep,
    /// Write this text, unless the administrator wrote the file.
    Write(String),
    /// Remove the file if a job wrote it.
    Remove,
}

/// The policy file is not what was requested.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PolicyFileError {
    /// The administrator wrote another policy.
    #[error(
        "cannot write {FILE}: the node has a policy of its own there, which the chart does not \
         overwrite; remove that file, or leave the chart's value policy empty"
    )]
    Foreign,
    /// See the error.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Makes the change. May be killed between any two steps: the next call completes it.
pub(crate) fn apply(host: &HostRoot, change: &PolicyChange) -> Result<(), PolicyFileError> {
    match change {
        PolicyChange::Keep => Ok(()),
        PolicyChange::Write(text) => write(host, text.as_bytes()),
        PolicyChange::Remove => Ok(remove(host)?),
    }
}

fn write(host: &HostRoot, text: &[u8]) -> Result<(), PolicyFileError> {
    let (file, record) = (host.to_write(FILE)?, host.to_write(RECORD)?);
    let ours = written_hashes(&record)?;
    let wanted = files::sha256(text);
    if let Some(current) = files::read(&file)? {
        let current = files::sha256(&current);
        let is_ours = ours.contains(&current);
        if current == wanted {
            // The administrator's own file with the same content stays the administrator's.
            if is_ours && ours.len() > 1 {
                files::write(&record, wanted.as_bytes(), 0o644)?;
            }
            return Ok(());
        }
        if !is_ours {
            return Err(PolicyFileError::Foreign);
        }
    }
    // While either text may be in the file, both are recorded as ours.
    let both = format!("{}\n{wanted}", ours.join("\n"));
    files::write(&record, both.as_bytes(), 0o644)?;
    files::write(&file, text, 0o644)?;
    files::write(&record, wanted.as_bytes(), 0o644)?;
    Ok(())
}

/// Removes the file if a job wrote it, the record, and the folder if it is empty then.
pub(crate) fn remove(host: &HostRoot) -> Result<(), FileError> {
    let folder = host.to_write(FOLDER)?;
    let (file, record) = (host.to_write(FILE)?, host.to_write(RECORD)?);
    files::remove_unfinished(&folder)?;
    let ours = written_hashes(&record)?;
    if let Some(current) = files::read(&file)?
        && ours.contains(&files::sha256(&current))
    {
        files::remove(&file)?;
    }
    files::remove(&record)?;
    files::remove_if_empty(&folder)
}

fn written_hashes(record: &Path) -> Result<Vec<String>, FileError> {
    let bytes = files::read(record)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().filter(|line| !line.is_empty());
    Ok(lines.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct TestNode {
        _root: tempfile::TempDir,
        host: HostRoot,
    }

    impl TestNode {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let host = HostRoot::new(root.path());
            Self { _root: root, host }
        }

        fn write(&self, text: &str) -> Result<(), PolicyFileError> {
            apply(&self.host, &PolicyChange::Write(text.to_owned()))
        }

        fn remove(&self) {
            apply(&self.host, &PolicyChange::Remove).unwrap();
        }

        /// As the administrator edits the file.
        fn edit(&self, text: &str) {
            let file = self.host.at(FILE);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }

        fn policy(&self) -> Option<String> {
            let bytes = files::read(&self.host.at(FILE)).unwrap();
            bytes.map(|bytes| String::from_utf8(bytes).unwrap())
        }
    }

    const SMALL: &str = r#"{"stack_bytes": 1048576}"#;
    const LARGE: &str = r#"{"stack_bytes": 8388608}"#;

    #[test]
    fn policy_is_written_changed_and_removed() {
        let node = TestNode::new();
        for text in [SMALL, SMALL, LARGE] {
            node.write(text).unwrap();
            assert_eq!(node.policy().as_deref(), Some(text));
        }
        apply(&node.host, &PolicyChange::Keep).unwrap();
        assert_eq!(node.policy().as_deref(), Some(LARGE));
        node.remove();
        assert!(!node.host.at(FOLDER).exists());
        node.remove();
    }

    #[test]
    fn unchanged_policy_is_not_written_again() {
        use std::os::unix::fs::MetadataExt;
        let node = TestNode::new();
        let inodes = || [FILE, RECORD].map(|file| fs::metadata(node.host.at(file)).unwrap().ino());
        node.write(SMALL).unwrap();
        let before = inodes();
        node.write(SMALL).unwrap();
        assert_eq!(inodes(), before);
    }

    #[test]
    fn administrators_policy_is_left_alone() {
        let node = TestNode::new();
        node.edit(LARGE);
        let error = node.write(SMALL).unwrap_err();
        assert!(matches!(error, PolicyFileError::Foreign), "{error}");
        node.write(LARGE).unwrap();
        node.remove();
        assert_eq!(node.policy().as_deref(), Some(LARGE));
    }

    #[test]
    fn policy_edited_by_hand_is_the_administrators() {
        let node = TestNode::new();
        node.write(SMALL).unwrap();
        node.edit(LARGE);
        assert!(node.write(SMALL).is_err());
        node.remove();
        assert_eq!(node.policy().as_deref(), Some(LARGE));
    }

    #[test]
    fn write_killed_after_the_record_is_completed() {
        let node = TestNode::new();
        node.write(SMALL).unwrap();
        let both = [SMALL, LARGE].map(|text| files::sha256(text.as_bytes()));
        for current in [SMALL, LARGE] {
            fs::write(node.host.at(RECORD), both.join("\n")).unwrap();
            node.edit(current);
            node.write(LARGE).unwrap();
            assert_eq!(node.policy().as_deref(), Some(LARGE));
            let record = fs::read_to_string(node.host.at(RECORD)).unwrap();
            assert_eq!(record, both[1]);
        }
    }

    #[test]
    fn removal_leaves_other_files_of_the_folder() {
        let node = TestNode::new();
        node.write(SMALL).unwrap();
        let other = node.host.at(FOLDER).join("notes");
        fs::write(&other, "").unwrap();
        node.remove();
        assert_eq!(node.policy(), None);
        assert!(other.exists());
    }
}
