//! containerd's configuration as text: its version, its imports, and our table in it. Pure: reads and writes no file, and
//! knows neither a node nor a running containerd. Called by the installer (`crates/node`). It is a crate of its own so
//! that what edits the files of others is fuzzed without the installer's D-Bus and gRPC.
//!
//! Files are edited by structure, never by substring, and only the lines of our table are written: everything else stays
//! byte for byte, also line ends. Templates of k3s are not TOML: see [`template`].
#![forbid(unsafe_code)]

mod dump;
mod edit;
mod error;
mod imports;
mod lines;
mod runtime;
pub mod template;
mod version;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use dump::ConfigDump;
use edit::{drop_in_without_runtime, without_runtime};

pub use edit::{configured, drop_in, version, with_runtime};
pub use error::ConfigError;
pub use imports::{absolute, folders, replacing};
pub use runtime::{HANDLER, RUNTIME_TYPE, ShimLocation};
pub use version::ConfigVersion;

/// The kind of a file that has our table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigFileKind {
    /// A whole configuration.
    Main,
    /// A file of our own, to which an administrator may have added.
    DropIn,
    /// A Go template.
    Template,
}

impl ConfigFileKind {
    /// The text without our table: `None` if it does not have it, `Some(None)` if the file is removed, because nothing
    /// else is in it.
    ///
    /// # Errors
    /// If the text is not TOML.
    pub fn without_runtime(
        self,
        path: &Path,
        text: &str,
    ) -> Result<Option<Option<String>>, ConfigError> {
        Ok(match self {
            Self::Main => without_runtime(path, text)?.map(Some),
            Self::DropIn => drop_in_without_runtime(path, text)?,
            Self::Template if template::has_runtime(text) => {
                let rest = template::without_runtime(text);
                Some((!template::is_plain(&rest)).then_some(rest))
            }
            Self::Template => None,
        })
    }
}

/// The text of a file; that of a missing file is empty.
///
/// # Errors
/// If it is not UTF-8.
pub fn text(path: &Path, bytes: Option<&[u8]>) -> Result<String, ConfigError> {
    String::from_utf8(bytes.unwrap_or_default().to_vec())
        .map_err(|_| ConfigError::Encoding(path.to_owned()))
}
