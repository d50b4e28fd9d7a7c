//! Why a container could not be confined to its devices. Used by the modules around it.

/// The container's cgroup could not be given its device rules.
#[derive(Debug, thiserror::Error)]
#[error("cannot confine the container to its devices: cannot {act}: {source}")]
pub(crate) struct DevicesError {
    pub(super) act: String,
    pub(super) source: std::io::Error,
}
