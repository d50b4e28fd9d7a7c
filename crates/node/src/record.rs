//! What was changed on the node, and what is being changed: enough to take it back, whenever whoever
//! changed it is killed. Called by the job; outlives reboots.
//!
//! A change is written down before it is made, and struck out when containerd has confirmed it or
//! the old bytes are back. The bytes themselves are kept beside the record by their hash.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

use crate::config::Shim;
use crate::files::{self, FileError};
use crate::host::Host;
use crate::names::STATE;
use crate::plan::Kind;
use crate::report::Reverts;

/// The record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is not a record.
    #[error(
        "{path} cannot be understood: {source}; if it is lost, remove it and run install again"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// Bytes that it names are gone.
    #[error("the bytes of {0} from before are gone: restore the file by hand, then remove {STATE}")]
    Gone(PathBuf),
    /// See the error.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What was done to this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Record {
    /// The file that holds our table, last, and those before it that may hold it still.
    #[serde(
        default,
        alias = "edit",
        deserialize_with = "one_or_many",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) edits: Vec<Edit>,
    /// A change that containerd has not confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pending: Option<Pending>,
    /// A link to the shim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) link: Option<PathBuf>,
    /// The link leads to a shim that has not proved itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) switched: Option<Switched>,
    /// How often the file was changed back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reverts: Option<Reverts>,
}

/// A file that holds our table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Edit {
    pub(crate) kind: Kind,
    /// A path of the host.
    pub(crate) path: PathBuf,
    /// What it held before there was anything of ours in it.
    pub(crate) original: Saved,
    /// Hash of what we wrote.
    pub(crate) after: String,
    /// Whether we made the folder that it is in.
    pub(crate) made_folder: bool,
    /// When: seconds since 1970.
    pub(crate) applied_unix: u64,
}

/// A change on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Pending {
    pub(crate) path: PathBuf,
    pub(crate) previous: Saved,
    /// Hash of what is written, `None` if the file is removed.
    pub(crate) after: Option<String>,
    /// What containerd says of our runtime once it has taken it in.
    pub(crate) wants: Option<Shim>,
    /// The record's last edit once it is confirmed.
    pub(crate) edit: Option<Edit>,
}

/// Earlier releases knew one place alone.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Edit>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Edits {
        One(Edit),
        Many(Vec<Edit>),
    }
    Ok(match Edits::deserialize(deserializer)? {
        Edits::One(edit) => vec![edit],
        Edits::Many(edits) => edits,
    })
}

/// The link as the only one that names the shim, switched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Switched {
    /// Where it led; `None` if there was none.
    pub(crate) before: Option<PathBuf>,
}

/// Bytes of a file that may have been absent: their hash, by which they are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Saved {
    Absent,
    Bytes(String),
}

impl Record {
    pub(crate) fn load(host: &Host) -> Result<Self, RecordError> {
        let path = host.at(STATE).join("record.json");
        match files::read(&path)? {
            None => Ok(Self::default()),
            Some(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| RecordError::Format { path, source }),
        }
    }

    pub(crate) fn exists(host: &Host) -> bool {
        host.at(STATE).join("record.json").exists()
    }

    /// What was done to that file.
    pub(crate) fn edit_of(&self, path: &Path) -> Option<&Edit> {
        self.edits.iter().find(|edit| edit.path == path)
    }

    /// The bytes from before there was anything of ours, if the file is as we left it.
    pub(crate) fn original(
        &self,
        host: &Host,
        path: &Path,
        current: Option<&[u8]>,
    ) -> Result<Option<Option<Vec<u8>>>, RecordError> {
        match self.edit_of(path) {
            Some(edit) if current.is_some_and(|bytes| files::sha256(bytes) == edit.after) => {
                Ok(Some(edit.original.bytes(host, path)?))
            }
            _ => Ok(None),
        }
    }

    /// Writes the record, and forgets bytes that it does not name any more.
    pub(crate) fn store(&self, host: &Host) -> Result<(), RecordError> {
        let path = host.to_write(STATE)?.join("record.json");
        let text = serde_json::to_vec_pretty(self).map_err(|source| RecordError::Format {
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
                Saved::Bytes(hash) => Some(hash.as_str()),
                Saved::Absent => None,
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

impl Saved {
    /// Keeps the bytes.
    pub(crate) fn keep(host: &Host, bytes: Option<&[u8]>) -> Result<Self, RecordError> {
        let Some(bytes) = bytes else {
            return Ok(Self::Absent);
        };
        let hash = files::sha256(bytes);
        let folder = host.to_write(STATE)?.join(SAVED);
        files::write(&folder.join(&hash), bytes, 0o600)?;
        Ok(Self::Bytes(hash))
    }

    /// The bytes that were kept for the file at `path`.
    pub(crate) fn bytes(&self, host: &Host, path: &Path) -> Result<Option<Vec<u8>>, RecordError> {
        match self {
            Self::Absent => Ok(None),
            Self::Bytes(hash) => match files::read(&saved_folder(host).join(hash))? {
                Some(bytes) => Ok(Some(bytes)),
                None => Err(RecordError::Gone(path.to_owned())),
            },
        }
    }
}

/// In the folder of the record, the bytes by their hashes.
const SAVED: &str = "saved";

fn saved_folder(host: &Host) -> PathBuf {
    host.at(STATE).join(SAVED)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_record_of_an_earlier_release_is_understood() {
        let edit = r#"{"kind":"drop-in","path":"/a","original":"absent","after":"x","made-folder":true,"applied-unix":1}"#;
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path());
        let path = host.at(STATE).join("record.json");
        let load = |text: String| {
            files::write(&path, text.as_bytes(), 0o600).unwrap();
            Record::load(&host).unwrap()
        };
        let earlier = load(format!(r#"{{"edit":{edit},"link":"/l"}}"#));
        assert_eq!(earlier.edit_of(Path::new("/a")).unwrap().after, "x");
        assert_eq!(earlier.link, Some("/l".into()));
        assert_eq!(
            load(format!(r#"{{"edits":[{edit}],"link":"/l"}}"#)),
            earlier
        );
        earlier.store(&host).unwrap();
        assert_eq!(Record::load(&host).unwrap(), earlier);
        assert_eq!(load("{}".into()), Record::default());
    }
}
