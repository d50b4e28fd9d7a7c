//! Prepares the spec's mounts as the host's root, before the container's namespaces are made.
//!
//! A bind mount is opened here, as a tree that is attached nowhere yet: a process in the container's
//! user namespace might not reach its source, and may not map its owners.
#![forbid(unsafe_code)]

use std::{
    fs::File,
    io::Error,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use oci_spec::runtime::{LinuxIdMapping, Mount};
use rustix::mount::MountPropagationFlags;

use super::{
    attributes, detached,
    error::SpecMountError,
    options::{Depth, MountOptions, Propagation},
};
use crate::user_namespace;

/// A mount of the spec that only has to be attached.
#[derive(Debug)]
pub(crate) struct PreparedMount {
    /// As the spec has it.
    pub(crate) destination: PathBuf,
    pub(crate) source: PreparedSource,
    pub(crate) options: MountOptions,
}

/// What is mounted.
#[derive(Debug)]
pub(crate) enum PreparedSource {
    /// A copy of a mount of the host, with its options.
    Tree { from: PathBuf, tree: OwnedFd },
    /// The container's own cgroup.
    Cgroup,
    /// A new file system.
    New { kind: String, from: Option<PathBuf> },
}

impl PreparedMount {
    /// What a message calls it.
    pub(crate) fn name(&self) -> String {
        match &self.source {
            PreparedSource::Tree { from, .. } => from.display().to_string(),
            PreparedSource::Cgroup => "the cgroup file system".to_owned(),
            PreparedSource::New { kind, .. } => format!("a file system of type {kind:?}"),
        }
    }

    /// The error for a step that failed.
    pub(super) fn failed<E: Into<Error>>(
        &self,
        act: impl Into<String>,
    ) -> impl FnOnce(E) -> SpecMountError {
        failed(self.name(), &self.destination, act.into())
    }

    /// The error for a mount that is not possible.
    pub(super) fn refused(&self, why: &str) -> SpecMountError {
        refused(&self.destination, why)
    }
}

fn failed<E: Into<Error>>(
    what: String,
    destination: &Path,
    act: String,
) -> impl FnOnce(E) -> SpecMountError + use<E> {
    let destination = destination.to_owned();
    move |source| SpecMountError::Failed {
        what,
        destination,
        act,
        source: source.into(),
    }
}

fn refused(destination: &Path, why: &str) -> SpecMountError {
    SpecMountError::Refused {
        destination: destination.to_owned(),
        why: why.to_owned(),
    }
}

/// What the preparation has to know of the container.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MountContext<'a> {
    /// Where relative sources begin.
    pub(crate) bundle: &'a Path,
    /// The `rootfsPropagation`.
    pub(crate) propagation: Option<Propagation>,
    /// The user namespace that the container gets or joins.
    pub(crate) user_namespace: Option<&'a File>,
}

/// The mappings of users and of groups that a mount has of its own.
type IdMappings<'a> = (&'a [LinuxIdMapping], &'a [LinuxIdMapping]);

/// Prepares `mount`.
pub(crate) fn prepare(
    mount: &Mount,
    context: MountContext<'_>,
) -> Result<PreparedMount, SpecMountError> {
    let options = MountOptions::parse(mount.options().as_deref().unwrap_or_default());
    let destination = mount.destination().clone();
    let kind = mount.typ().as_deref().unwrap_or_default();
    let refused = |why: &str| Err(refused(&destination, why));
    let mappings = id_mappings(mount)?;
    // The options decide before the type, as with runc; the type alone is older than that.
    let depth = options.bind.or((kind == "bind").then_some(Depth::Shallow));
    let source = match depth {
        Some(depth) => bind(mount, depth, &options, mappings, context)?,
        None if mappings.is_some() || options.mapped.is_some() => {
            return refused("only a bind mount can map owners; drop idmap, or bind a directory");
        }
        None if options.remount => {
            return refused(
                "remount would change a mount that exists already; give the options to that mount",
            );
        }
        None => match kind {
            "" => return refused("it has no type; name one, or the option bind"),
            "cgroup" => PreparedSource::Cgroup,
            kind => PreparedSource::New {
                kind: kind.to_owned(),
                from: mount.source().clone(),
            },
        },
    };
    Ok(PreparedMount {
        destination,
        source,
        options,
    })
}

fn id_mappings(mount: &Mount) -> Result<Option<IdMappings<'_>>, SpecMountError> {
    match (mount.uid_mappings(), mount.gid_mappings()) {
        (None, None) => Ok(None),
        (Some(users), Some(groups)) if !users.is_empty() && !groups.is_empty() => {
            Ok(Some((users, groups)))
        }
        _ => {
            let why = "it has mappings of users or of groups; give it both";
            Err(refused(mount.destination(), why))
        }
    }
}

/// Opens the source of a bind mount and gives the copy its options.
fn bind(
    mount: &Mount,
    depth: Depth,
    options: &MountOptions,
    mappings: Option<IdMappings<'_>>,
    context: MountContext<'_>,
) -> Result<PreparedSource, SpecMountError> {
    let destination = mount.destination();
    let from = mount
        .source()
        .as_ref()
        .filter(|source| !source.as_os_str().is_empty())
        .ok_or_else(|| refused(destination, "it is a bind mount without a source; name one"))?;
    let from = context.bundle.join(from);
    let failed = |act: &str| failed(from.display().to_string(), destination, act.to_owned());
    let tree = detached::copy_at(&from, depth).map_err(failed("open it"))?;
    attributes::propagate(&tree, initial(context.propagation))
        .map_err(failed("keep its mounts apart"))?;
    attributes::change(&tree, options.attributes, Depth::Shallow)
        .map_err(failed("set its options"))?;
    attributes::change(&tree, options.recursive, Depth::Recursive)
        .map_err(failed("set its recursive options"))?;
    if mappings.is_some() || options.mapped.is_some() {
        let own = mappings
            .map(|(users, groups)| user_namespace::create(users, groups))
            .transpose()?;
        let namespace = own.as_ref().or(context.user_namespace).ok_or_else(|| {
            let why = "idmap needs mappings of the mount's own, or a container with a user \
                       namespace";
            refused(destination, why)
        })?;
        let depth = options.mapped.unwrap_or(Depth::Shallow);
        attributes::map_owners(&tree, namespace, depth).map_err(|error| {
            if error.raw_os_error() == Some(libc::EINVAL) {
                let why = "the kernel cannot map the owners of this file system, or of one that is \
                           mounted below it (of a tmpfs only since Linux 6.3); bind a directory of \
                           another file system";
                return refused(destination, why);
            }
            failed("map its owners")(error)
        })?;
    }
    Ok(PreparedSource::Tree { from, tree })
}

/// The propagation of every mount before its own options count: that of the root, and mounts of the
/// host come in but none go out if the spec says nothing.
pub(crate) fn initial(root: Option<Propagation>) -> Propagation {
    let to = root.map_or(MountPropagationFlags::DOWNSTREAM, |root| root.to);
    Propagation {
        // The root has to be bound first, so it becomes unbindable at the end.
        to: if to == MountPropagationFlags::UNBINDABLE {
            MountPropagationFlags::DOWNSTREAM
        } else {
            to
        },
        depth: Depth::Recursive,
    }
}
