//! Why a mount of the spec cannot be made. Used by the modules around it.

use std::{io::Error, path::PathBuf};

use crate::user_namespace::UserNamespaceError;

/// A mount of the spec that cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpecMountError {
    #[error("cannot mount {what} on {destination}: cannot {act}: {source}")]
    Failed {
        what: String,
        destination: PathBuf,
        act: String,
        source: Error,
    },
    #[error("cannot make the mount on {destination}: {why}")]
    Refused { destination: PathBuf, why: String },
    #[error(transparent)]
    UserNamespace(#[from] UserNamespaceError),
}
