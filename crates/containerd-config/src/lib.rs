//! containerd's configuration as text: its version, its imports, and our table in it. Pure: reads and writes no file, and
//! knows neither a node nor a running containerd. Called by the installer (`crates/node`). It is a crate of its own so
//! that what edits the files of others is fuzzed without the installer's D-Bus and gRPC.
//!
//! Files are edited by structure, never by substring, and only the lines of our table are written: everything else stays
//! byte for byte, also line ends. Templates of k3s are not TOML: see [`template`].
#![forbid(unsafe_code)]

mod dump;
mod edit;
mod imports;
mod lines;
pub mod template;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use dump::ConfigDump;
use edit::{drop_in_without_runtime, without_runtime};

pub use edit::{configured, drop_in, version, with_runtime};
pub use imports::{absolute, folders, replacing};

/// The runtime's name in containerd's configuration, and the `handler` of a RuntimeClass.
pub const HANDLER: &str = "wasm-interp";
/// The runtime's type in containerd. containerd makes the file name of the shim from it.
pub const RUNTIME_TYPE: &str = "io.containerd.wasm-interp.v1";

/// The annotations of pods and containers that reach the shim.
const ANNOTATIONS: &str = "wasm-interp.io/*";

/// A configuration cannot be parsed or edited.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is not TOML.
    #[error(
        "cannot parse {path} as TOML: {source}; correct the file, which containerd cannot read \
         either"
    )]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml_edit::TomlError>,
    },
    /// The output of `containerd config dump` is not TOML.
    #[error(
        "cannot parse the output of containerd config dump for {path} as TOML: {source}; run \
         containerd config dump to see it"
    )]
    Dump {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml_edit::de::Error>,
    },
    /// A default of containerd cannot be written.
    #[error(
        "cannot write containerd's default runtime {name:?} as TOML: {source}; list that runtime \
         in the file, then install again"
    )]
    Default {
        /// The runtime.
        name: String,
        /// Why.
        source: Box<toml_edit::ser::Error>,
    },
    /// It has an unknown version.
    #[error(
        "cannot edit {path}: it has configuration version {found}, not 2, 3 or 4; convert it with \
         containerd config migrate"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: String,
    },
    /// A value is where a table has to be.
    #[error(
        "cannot edit {path}: {key:?} is not a table; correct the file, which containerd cannot \
         read either"
    )]
    NotATable {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// It is not UTF-8.
    #[error("cannot parse {0} as TOML: it is not UTF-8; correct the file")]
    Encoding(PathBuf),
}

/// The version of a configuration file, which decides where the runtimes are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigVersion {
    /// Since containerd 1.3.
    V2,
    /// Since 2.0.
    V3,
    /// Since 2.3 or so; the runtimes are in the same place as in version 3.
    V4,
}

impl ConfigVersion {
    /// The version with that number, if it is supported.
    #[must_use]
    pub fn of(number: i64) -> Option<Self> {
        match number {
            2 => Some(Self::V2),
            3 => Some(Self::V3),
            4 => Some(Self::V4),
            _ => None,
        }
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> i64 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
            Self::V4 => 4,
        }
    }

    /// The plugin that lists runtimes.
    #[must_use]
    pub fn plugin(self) -> &'static str {
        match self {
            Self::V2 => "io.containerd.grpc.v1.cri",
            Self::V3 | Self::V4 => "io.containerd.cri.v1.runtime",
        }
    }
}

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

/// How containerd finds the shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShimLocation {
    /// By the path in our table.
    Path(PathBuf),
    /// By the runtime's type, on containerd's PATH, where our link is.
    Link,
}

/// The text of a file; that of a missing file is empty.
///
/// # Errors
/// If it is not UTF-8.
pub fn text(path: &Path, bytes: Option<&[u8]>) -> Result<String, ConfigError> {
    String::from_utf8(bytes.unwrap_or_default().to_vec())
        .map_err(|_| ConfigError::Encoding(path.to_owned()))
}
