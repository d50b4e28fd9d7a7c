//! Why the container's init process could not be made. Used by the modules around it.

use std::io::Error;

use wasm_interp_workload::with_causes;

use crate::{
    namespaces::NamespaceError, rootfs::error::SpecMountError, user_namespace::UserNamespaceError,
};

/// The init process could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    #[error("cannot use the spec: {0}")]
    Spec(String),
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error(transparent)]
    UserNamespace(#[from] UserNamespaceError),
    #[error(transparent)]
    Mount(#[from] SpecMountError),
    #[error("cannot {act}: {source}")]
    Io { act: String, source: Error },
    #[error("cannot run the {kind} hook: {reason}")]
    Hook { kind: &'static str, reason: String },
    #[error("{0}")]
    Failed(String),
    #[error(
        "its init process ended before it was ready; look for an out-of-memory kill in the log of \
         the host's kernel"
    )]
    Ended,
}

pub(super) fn failed(act: impl Into<String>) -> impl FnOnce(Error) -> InitError {
    let act = act.into();
    move |source| InitError::Io { act, source }
}

pub(super) fn of_libcontainer(error: &dyn std::error::Error) -> InitError {
    InitError::Failed(with_causes(error))
}
