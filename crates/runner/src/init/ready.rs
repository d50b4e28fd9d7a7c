//! Everything that the new processes need, opened and looked up by the host's root before the first fork.
//!
//! Called by the module above.
#![forbid(unsafe_code)]

use std::{
    fs::File,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use libcontainer::{
    config::YoukiConfig,
    container::{Container, ContainerStatus},
    notify_socket::{NOTIFY_FILE, NotifyListener},
    syscall::syscall::create_syscall,
    utils::{is_in_new_userns, validate_spec_for_net_devices},
    validator::Validator,
};
use oci_spec::runtime::{Linux, LinuxNamespaceType, LinuxTimeOffset, Spec};
use wasm_interp_runner_client::SessionKeyring;
use wasm_interp_workload::with_causes;

use super::error::{InitError, failed, of_libcontainer};
use crate::{
    cgroup::{Driver, Placement, Version},
    executor::InitProcess,
    namespaces::Namespaces,
    rootfs::{
        nodes::{DeviceSet, NodeMethod},
        options::{self, Propagation},
        sources::{self, MountContext, PreparedMount},
    },
    user_namespace,
};

/// A container that is to be made.
pub(crate) struct NewContainer<'a> {
    pub(crate) id: &'a str,
    /// The fitted spec, whose root is absolute.
    pub(crate) spec: &'a Spec,
    /// containerd's bundle. Relative sources of mounts begin there. Hooks get it, because the spec in it is
    /// complete.
    pub(crate) bundle: &'a Path,
    /// libcontainer's own directory of the container, which is empty.
    pub(crate) state: &'a Path,
    pub(crate) cgroup: &'a Placement,
    pub(crate) version: Version,
    pub(crate) devices: DeviceSet,
    pub(crate) init: InitProcess,
    /// If its streams are a terminal: where the master of one of the container's own goes.
    pub(crate) console: Option<OwnedFd>,
    pub(crate) keyring: SessionKeyring,
}

/// The container with everything that the new processes need. They get it by fork.
pub(super) struct ReadyContainer<'a> {
    pub(super) request: NewContainer<'a>,
    pub(super) root: PathBuf,
    pub(super) namespaces: Namespaces,
    /// The user namespace of the container, if it is not the runner's.
    pub(super) user_namespace: Option<File>,
    /// Sets the clocks of a new time namespace.
    pub(super) time_offsets: Option<String>,
    pub(super) mounts: Vec<PreparedMount>,
    pub(super) propagation: Option<Propagation>,
    pub(super) node_method: NodeMethod,
    pub(super) container: Container,
    pub(super) start: NotifyListener,
}

impl<'a> ReadyContainer<'a> {
    pub(super) fn new(request: NewContainer<'a>) -> Result<Self, InitError> {
        let spec = request.spec;
        check(spec)?;
        let missing = |what: &str| InitError::Spec(format!("it has no {what}"));
        let linux = spec.linux().as_ref().ok_or_else(|| missing("linux"))?;
        let root = spec.root().as_ref().ok_or_else(|| missing("root"))?.path();
        let root = root.canonicalize().map_err(failed(format!(
            "find the root file system {}",
            root.display()
        )))?;
        let namespaces = Namespaces::open(linux.namespaces().as_deref().unwrap_or_default())?;
        if !namespaces.has(LinuxNamespaceType::Mount) {
            return Err(InitError::Spec(
                "it names no mount namespace, so its mounts would be the host's; name one"
                    .to_owned(),
            ));
        }
        let user_namespace = user_namespace(linux, &namespaces)?;
        let propagation = propagation(linux)?;
        let context = MountContext {
            bundle: request.bundle,
            propagation,
            user_namespace: user_namespace.as_ref(),
        };
        let mounts = spec.mounts().iter().flatten();
        let mounts = mounts
            .map(|mount| sources::prepare(mount, context))
            .collect::<Result<_, _>>()?;
        let inherited = is_in_new_userns().map_err(failed("read the mappings of this process"))?;
        let node_method = if user_namespace.is_some() || inherited {
            NodeMethod::Bind
        } else {
            NodeMethod::Mknod
        };
        let (container, start) = state(&request)?;
        Ok(Self {
            root,
            time_offsets: time_offsets(linux, &namespaces),
            namespaces,
            user_namespace,
            mounts,
            propagation,
            node_method,
            container,
            start,
            request,
        })
    }
}

/// Checks what libcontainer checks of a spec, and the version, which it does not check.
fn check(spec: &Spec) -> Result<(), InitError> {
    let invalid = |error: &dyn std::error::Error| InitError::Spec(with_causes(error));
    if !spec.version().starts_with("1.") {
        return Err(InitError::Spec(format!(
            "its version is {:?}, and only 1.x is supported; use a spec of version 1",
            spec.version()
        )));
    }
    Validator::validate_spec(spec).map_err(|e| invalid(&e))?;
    validate_spec_for_net_devices(spec, &*create_syscall()).map_err(|e| invalid(&e))
}

/// The user namespace that the container gets, new with the mappings of the spec, or joins.
fn user_namespace(linux: &Linux, namespaces: &Namespaces) -> Result<Option<File>, InitError> {
    if !namespaces.is_new(LinuxNamespaceType::User) {
        return namespaces
            .existing(LinuxNamespaceType::User)
            .map(File::try_clone)
            .transpose()
            .map_err(failed("keep the user namespace open"));
    }
    let users = linux.uid_mappings().as_deref().unwrap_or_default();
    let groups = linux.gid_mappings().as_deref().unwrap_or_default();
    if users.is_empty() || groups.is_empty() {
        return Err(InitError::Spec(
            "it names a user namespace without mappings of users and of groups; give it both"
                .to_owned(),
        ));
    }
    Ok(Some(user_namespace::create(users, groups)?))
}

fn propagation(linux: &Linux) -> Result<Option<Propagation>, InitError> {
    match linux.rootfs_propagation().as_deref() {
        None | Some("") => Ok(None),
        Some(name) => options::propagation(name).map(Some).ok_or_else(|| {
            InitError::Spec(format!(
                "its rootfsPropagation {name:?} is unknown; use private, slave, shared or \
                 unbindable, or one of them with an r before it"
            ))
        }),
    }
}

/// Saves libcontainer's state of the container, where `start` and `delete` look for it.
fn state(request: &NewContainer<'_>) -> Result<(Container, NotifyListener), InitError> {
    let error = |error: &dyn std::error::Error| of_libcontainer(error);
    let mut container = Container::new(
        request.id,
        ContainerStatus::Creating,
        None,
        request.bundle,
        request.state,
    )
    .map_err(|e| error(&e))?;
    container
        .set_annotations(request.spec.annotations().clone())
        .set_systemd(request.cgroup.driver == Driver::Systemd);
    container.save().map_err(|e| error(&e))?;
    YoukiConfig::from_spec(request.spec, request.id)
        .and_then(|config| config.save(request.state))
        .map_err(|e| error(&e))?;
    let start = NotifyListener::new(&request.state.join(NOTIFY_FILE)).map_err(|e| error(&e))?;
    Ok((container, start))
}

/// The clocks of a new time namespace, as `/proc/PID/timens_offsets` takes them
/// (time_namespaces(7)).
fn time_offsets(linux: &Linux, namespaces: &Namespaces) -> Option<String> {
    let offsets = linux.time_offsets().as_ref()?;
    if offsets.is_empty() || !namespaces.is_new(LinuxNamespaceType::Time) {
        return None;
    }
    let line = |(clock, offset): (&String, &LinuxTimeOffset)| {
        let (seconds, nanoseconds) = (offset.secs(), offset.nanosecs());
        format!(
            "{clock} {} {}\n",
            seconds.unwrap_or_default(),
            nanoseconds.unwrap_or_default()
        )
    };
    Some(offsets.iter().map(line).collect())
}
