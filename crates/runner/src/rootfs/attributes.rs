//! What is changed of a mount of the container, as attributes of mount_setattr(2).
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};

use rustix::mount::{MountAttrFlags, MountPropagationFlags};
use wasm_interp_mounts::set_attributes;

use super::options::{AttributeChange, Depth, Propagation};

/// Sets and clears attributes of the mount that `mount` is.
pub(crate) fn change(
    mount: impl AsFd,
    change: AttributeChange,
    depth: Depth,
) -> std::io::Result<()> {
    if change.is_empty() {
        return Ok(());
    }
    set_attributes(
        mount.as_fd(),
        depth,
        libc::mount_attr {
            attr_set: change.set.bits().into(),
            attr_clr: change.clear.bits().into(),
            propagation: 0,
            userns_fd: 0,
        },
    )
}

/// Changes how mounts and unmounts spread from and to it.
pub(crate) fn propagate(mount: impl AsFd, propagation: Propagation) -> std::io::Result<()> {
    let kinds = MountPropagationFlags::SHARED
        | MountPropagationFlags::PRIVATE
        | MountPropagationFlags::DOWNSTREAM
        | MountPropagationFlags::UNBINDABLE;
    set_attributes(
        mount.as_fd(),
        propagation.depth,
        libc::mount_attr {
            attr_set: 0,
            attr_clr: 0,
            propagation: (propagation.to & kinds).bits().into(),
            userns_fd: 0,
        },
    )
}

/// Shows owners of files as the user namespace `namespace` maps them. The mount must not be attached
/// yet.
pub(crate) fn map_owners(
    mount: impl AsFd,
    namespace: impl AsFd,
    depth: Depth,
) -> std::io::Result<()> {
    let namespace = u64::try_from(namespace.as_fd().as_raw_fd()).map_err(std::io::Error::other)?;
    set_attributes(
        mount.as_fd(),
        depth,
        libc::mount_attr {
            attr_set: MountAttrFlags::MOUNT_ATTR_IDMAP.bits().into(),
            attr_clr: 0,
            propagation: 0,
            userns_fd: namespace,
        },
    )
}
