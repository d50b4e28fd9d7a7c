//! containerd's configuration as text: which version it speaks, what it imports, and our table in
//! it. Pure. Called by `plan`; does not know where files lie.
//!
//! Files are edited by structure, never by substring; comments and formatting of everything that is
//! not ours stay byte for byte. Templates of k3s are no TOML: see [`template`].

mod dump;
mod edit;
mod imports;
pub(crate) mod template;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use dump::Dump;
pub(crate) use edit::{
    configured, drop_in, drop_in_without_runtime, version, with_runtime, without_runtime,
};
pub(crate) use imports::{absolute, folders, replacing};

/// A configuration cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is no TOML.
    #[error("{path} is not TOML: {source}")]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml_edit::TomlError>,
    },
    /// What `containerd config dump` printed is no TOML.
    #[error("what containerd config dump printed for {path} is not TOML: {source}")]
    Dump {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml_edit::de::Error>,
    },
    /// A default of containerd's cannot be written.
    #[error("containerd's default runtime {name:?} cannot be written as TOML: {source}")]
    Default {
        /// The runtime.
        name: String,
        /// Why.
        source: Box<toml_edit::ser::Error>,
    },
    /// It is not one of the versions that this knows.
    #[error(
        "{path} has configuration version {found}: 2, 3 and 4 can be edited; write it anew with \
         containerd config migrate"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// Something else than a table is in the way.
    #[error(
        "{path} has {key:?} as something else than a table: correct it, containerd does not read it either"
    )]
    NotATable {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// It is not UTF-8.
    #[error("{0} is not UTF-8, so it is not TOML")]
    Encoding(PathBuf),
}

/// Version of a configuration file: it says where runtimes are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// Since containerd 1.3.
    V2,
    /// Since 2.0.
    V3,
    /// Since 2.3 or so; runtimes are where version 3 has them.
    V4,
}

impl Version {
    pub(crate) fn of(number: i64) -> Option<Self> {
        match number {
            2 => Some(Self::V2),
            3 => Some(Self::V3),
            4 => Some(Self::V4),
            _ => None,
        }
    }

    pub(crate) fn number(self) -> i64 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
            Self::V4 => 4,
        }
    }

    /// The plugin that lists runtimes.
    pub(crate) fn plugin(self) -> &'static str {
        match self {
            Self::V2 => "io.containerd.grpc.v1.cri",
            Self::V3 | Self::V4 => "io.containerd.cri.v1.runtime",
        }
    }
}

/// How containerd finds the shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Shim {
    /// By its path in our table.
    Path(PathBuf),
    /// By the runtime's type, on containerd's `PATH`.
    Link,
}

/// The file's text; absent is empty.
pub(crate) fn text(path: &Path, bytes: Option<&[u8]>) -> Result<String, ConfigError> {
    String::from_utf8(bytes.unwrap_or_default().to_vec())
        .map_err(|_| ConfigError::Encoding(path.to_owned()))
}
