//! The spec's mount of type `cgroup`: the container's own cgroup in each hierarchy.
//!
//! Called by the module above. The process that joined the container's cgroup has noted where that is,
//! while it still saw the host's whole tree.
#![forbid(unsafe_code)]

use std::{
    io::{Error, ErrorKind},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::{fs::symlinkat, io::Errno, mount::MountAttrFlags};

use super::{
    attributes, detached,
    error::SpecMountError,
    mounts::{Mounter, beneath},
    options::{Depth, MountOptions},
    sources::{PreparedMount, PreparedSource},
};
use crate::{
    cgroup::{Membership, Version},
    container_root::Symlinks,
};

/// The container's cgroup as the host sees it.
#[derive(Debug)]
pub(crate) struct OwnCgroup {
    pub(crate) version: Version,
    /// In each hierarchy.
    pub(crate) memberships: Vec<Membership>,
    /// Whether the container gets a cgroup namespace, in which its own cgroup is the root.
    pub(crate) namespace: bool,
}

/// Mounts what the host's cgroup version has. Returns the mount that has to become read-only later.
pub(super) fn mount(
    mounter: &Mounter<'_>,
    own: &OwnCgroup,
    mount: &PreparedMount,
) -> Result<Option<OwnedFd>, SpecMountError> {
    match own.version {
        Version::V1 => mount_hierarchies(mounter, own, mount),
        Version::V2 => mount_unified(mounter, own, mount).map(|()| None),
    }
}

/// Version 2: a new mount, or a copy of the host's where the kernel does not allow a new one.
fn mount_unified(
    mounter: &Mounter<'_>,
    own: &OwnCgroup,
    mount: &PreparedMount,
) -> Result<(), SpecMountError> {
    let place = mounter.place(mount, true)?;
    let new = match detached::new_filesystem("cgroup2", None, &mount.options, None) {
        Err(error) if is_forbidden(&error) => {
            let mut memberships = own.memberships.iter();
            let unified = memberships
                .find(|membership| membership.version == Version::V2)
                .ok_or_else(|| {
                    let why = Error::other("the host has not mounted it; mount it there");
                    mount.failed("find the container's cgroup")(why)
                })?;
            copy(&unified.directory, &mount.options)
        }
        new => new,
    };
    let new = new.map_err(mount.failed("make it"))?;
    detached::attach(&new, &place.handle).map_err(mount.failed("attach it"))
}

/// By its kind: an error with a text of the file system has no number.
fn is_forbidden(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::ResourceBusy
    )
}

/// Version 1: a tmpfs with a directory for each hierarchy, of the same name as the host's.
fn mount_hierarchies(
    mounter: &Mounter<'_>,
    own: &OwnCgroup,
    mount: &PreparedMount,
) -> Result<Option<OwnedFd>, SpecMountError> {
    let frame = PreparedMount {
        destination: mount.destination.clone(),
        source: PreparedSource::New {
            kind: "tmpfs".to_owned(),
            from: None,
        },
        options: frame_options(&mount.options),
    };
    let read_only_later = mounter.make(&frame, "tmpfs", None)?;
    let hierarchies = own.memberships.iter();
    for membership in hierarchies.filter(|membership| membership.version == Version::V1) {
        if let Some(name) = membership.name() {
            mount_hierarchy(mounter, own, mount, membership, name)?;
        }
    }
    Ok(read_only_later)
}

fn frame_options(options: &MountOptions) -> MountOptions {
    let mut frame = parsed(&["nosuid", "noexec", "nodev", "mode=755"]);
    frame.propagation.clone_from(&options.propagation);
    copy_read_only(options, &mut frame);
    frame
}

fn mount_hierarchy(
    mounter: &Mounter<'_>,
    own: &OwnCgroup,
    mount: &PreparedMount,
    membership: &Membership,
    name: &str,
) -> Result<(), SpecMountError> {
    let failed = |act: &str| mount.failed::<Error>(format!("{act} the hierarchy {name}"));
    let hierarchy = if own.namespace {
        let mut options = parsed(&["nosuid", "noexec", "nodev"]);
        copy_read_only(&mount.options, &mut options);
        options.data.push(membership.controllers.clone());
        detached::new_filesystem("cgroup", None, &options, None)
    } else {
        copy(&membership.directory, &mount.options)
    }
    .map_err(failed("open"))?;
    let destination = beneath(&mount.destination, name);
    let place = mounter
        .root
        .make_directories(&destination, Symlinks::Refused)
        .map_err(|error| failed("make a place for")(error.errno.into()))?;
    detached::attach(&hierarchy, &place).map_err(failed("attach"))?;
    // Programs look for each controller by its own name.
    for controller in name.split(',').filter(|controller| *controller != name) {
        let link = beneath(&mount.destination, controller);
        let linked = mounter
            .root
            .make_parent(&link)
            .and_then(|(directory, link)| symlinkat(Path::new(name), &directory, link));
        match linked {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed("link")(errno.into())),
        }
    }
    Ok(())
}

fn parsed(options: &[&str]) -> MountOptions {
    let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
    MountOptions::parse(&options)
}

fn copy_read_only(from: &MountOptions, to: &mut MountOptions) {
    if from.is_read_only() {
        to.attributes.set |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
}

/// A copy of the host's mount, of the directory of the cgroup.
fn copy(directory: &Path, options: &MountOptions) -> std::io::Result<OwnedFd> {
    let copy = detached::copy_at(directory, Depth::Recursive)?;
    attributes::change(&copy, options.attributes, Depth::Shallow)?;
    attributes::change(&copy, options.recursive, Depth::Recursive)?;
    Ok(copy)
}
