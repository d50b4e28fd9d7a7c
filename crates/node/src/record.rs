//! The record of a node: what jobs have changed, and the change that is in progress. It is enough to undo both after a
//! job was killed. Used by `operation`; outlives reboots.
//!
//! A job records a change before it makes it. It removes the entry when containerd runs with the change, or when the old
//! bytes are in place again. The bytes themselves are kept beside the record, named by their hash.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

use crate::files::{self, FileError};
use crate::host::HostRoot;
use crate::names::STATE;
use crate::report::Reverts;
use wasm_interp_containerd_config::{ConfigFileKind, ShimLocation};

/// The record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum NodeRecordError {
    /// It is not a record.
    #[error(
        "cannot read the record {path}: {source}; if its content is lost, remove it and run \
         wasm-interp node install again"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The original bytes of a file are gone.
    #[error(
        "cannot restore {0}: its original bytes are not in {STATE} any more; restore the file by \
         hand, then remove {STATE}"
    )]
    Gone(PathBuf),
    /// See the error.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What jobs have done to this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct NodeRecord {
    /// The file that has our table is the last one. Earlier ones may still have it.
    #[serde(
        default,
        alias = "edit",
        deserialize_with = "one_or_many",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) edits: Vec<EditedFile>,
    /// A change that containerd does not run with yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pending: Option<PendingChange>,
    /// A link to the shim that a job made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) link: Option<PathBuf>,
    /// Set while the link leads to a shim with which no program has run yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) switched: Option<LinkSwitch>,
    /// How often another program changed the file back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reverts: Option<Reverts>,
}

/// A file that has our table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct EditedFile {
    pub(crate) kind: ConfigFileKind,
    /// A path of the host.
    pub(crate) path: PathBuf,
    /// Its content before a job edited it.
    pub(crate) original: SavedBytes,
    /// Hash of what the job wrote.
    pub(crate) after: String,
    /// Whether the job created its folder.
    pub(crate) made_folder: bool,
    /// When the job edited it, in seconds since 1970.
    pub(crate) applied_unix: u64,
}

/// A change that is in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct PendingChange {
    pub(crate) path: PathBuf,
    pub(crate) previous: SavedBytes,
    /// Hash of what is written; `None` if the file is removed.
    pub(crate) after: Option<String>,
    /// The shim that containerd uses for our runtime once it runs with the change.
    pub(crate) wants: Option<ShimLocation>,
    /// The entry that is added to [`NodeRecord::edits`] then.
    pub(crate) edit: Option<EditedFile>,
}

/// The first releases recorded one file.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<EditedFile>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Edits {
        One(EditedFile),
        Many(Vec<EditedFile>),
    }
    Ok(match Edits::deserialize(deserializer)? {
        Edits::One(edit) => vec![edit],
        Edits::Many(edits) => edits,
    })
}

/// A switch of the link to another shim, where the link alone names the shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct LinkSwitch {
    /// The link's target before; `None` if there was no link.
    pub(crate) before: Option<PathBuf>,
}

/// The content of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SavedBytes {
    /// The file did not exist.
    Absent,
    /// The hash that names the kept bytes.
    Bytes(String),
}

impl NodeRecord {
    pub(crate) fn load(host: &HostRoot) -> Result<Self, NodeRecordError> {
        let path = host.at(STATE).join("record.json");
        match files::read(&path)? {
            None => Ok(Self::default()),
            Some(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| NodeRecordError::Format { path, source }),
        }
    }

    pub(crate) fn exists(host: &HostRoot) -> bool {
        host.at(STATE).join("record.json").exists()
    }

    /// What jobs have done to that file.
    pub(crate) fn edit_of(&self, path: &Path) -> Option<&EditedFile> {
        self.edits.iter().find(|edit| edit.path == path)
    }

    /// The original content, if the file is as the last job left it.
    pub(crate) fn original(
        &self,
        host: &HostRoot,
        path: &Path,
        current: Option<&[u8]>,
    ) -> Result<Option<Option<Vec<u8>>>, NodeRecordError> {
        match self.edit_of(path) {
            Some(edit) if current.is_some_and(|bytes| files::sha256(bytes) == edit.after) => {
                Ok(Some(edit.original.bytes(host, path)?))
            }
            _ => Ok(None),
        }
    }

    /// Writes the record, and removes kept bytes that it no longer names.
    pub(crate) fn store(&self, host: &HostRoot) -> Result<(), NodeRecordError> {
        let path = host.to_write(STATE)?.join("record.json");
        let text = serde_json::to_vec_pretty(self).map_err(|source| NodeRecordError::Format {
            path: path.clone(),
            source,
        })?;
        files::write(&path, &text, 0o600)?;
        let pending = self.pending.iter();
        let named: BTreeSet<&str> = pending
            .clone()
            .map(|pending| &pending.previous)
            .chain(pending.filter_map(|pending| Some(&pending.edit.as_ref()?.original)))
            .chain(self.edits.iter().map(|edit| &edit.original))
            .filter_map(|saved| match saved {
                SavedBytes::Bytes(hash) => Some(hash.as_str()),
                SavedBytes::Absent => None,
            })
            .collect();
        let folder = saved_folder(host);
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if !named.contains(&*entry.file_name().to_string_lossy()) {
                files::remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

impl SavedBytes {
    /// Keeps the bytes beside the record.
    pub(crate) fn keep(host: &HostRoot, bytes: Option<&[u8]>) -> Result<Self, NodeRecordError> {
        let Some(bytes) = bytes else {
            return Ok(Self::Absent);
        };
        let hash = files::sha256(bytes);
        let folder = host.to_write(STATE)?.join(SAVED);
        files::write(&folder.join(&hash), bytes, 0o600)?;
        Ok(Self::Bytes(hash))
    }

    /// The bytes that were kept for the file at `path`.
    pub(crate) fn bytes(
        &self,
        host: &HostRoot,
        path: &Path,
    ) -> Result<Option<Vec<u8>>, NodeRecordError> {
        match self {
            Self::Absent => Ok(None),
            Self::Bytes(hash) => match files::read(&saved_folder(host).join(hash))? {
                Some(bytes) => Ok(Some(bytes)),
                None => Err(NodeRecordError::Gone(path.to_owned())),
            },
        }
    }
}

/// The folder of the kept bytes, in the folder of the record.
const SAVED: &str = "saved";

fn saved_folder(host: &HostRoot) -> PathBuf {
    host.at(STATE).join(SAVED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_of_an_earlier_release_is_readable() {
        let edit = r#"{"kind":"drop-in","path":"/a","original":"absent","after":"x",
            "made-folder":true,"applied-unix":1}"#;
        let root = tempfile::tempdir().unwrap();
        let host = HostRoot::new(root.path());
        let path = host.at(STATE).join("record.json");
        let load = |text: String| {
            files::write(&path, text.as_bytes(), 0o600).unwrap();
            NodeRecord::load(&host).unwrap()
        };
        let earlier = load(format!(r#"{{"edit":{edit},"link":"/l"}}"#));
        assert_eq!(earlier.edit_of(Path::new("/a")).unwrap().after, "x");
        assert_eq!(earlier.link, Some("/l".into()));
        assert_eq!(
            load(format!(r#"{{"edits":[{edit}],"link":"/l"}}"#)),
            earlier
        );
        earlier.store(&host).unwrap();
        assert_eq!(NodeRecord::load(&host).unwrap(), earlier);
        assert_eq!(load("{}".into()), NodeRecord::default());
    }
}
