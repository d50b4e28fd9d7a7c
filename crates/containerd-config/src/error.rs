//! Why a configuration cannot be parsed or edited.

use std::path::PathBuf;

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
