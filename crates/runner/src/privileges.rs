//! The privileges of the init process: limits, the seccomp filter and capabilities, set before anything of
//! the image runs, in an order in which no step prevents the next.
//!
//! Prepared by `container::create` outside, where an error names its field and nothing is to be undone;
//! applied by `executor` inside. libcontainer gets none of these parts of the spec.
#![forbid(unsafe_code)]

use std::{os::fd::RawFd, path::Path};

use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::thread::CapabilitySet;
use wasm_interp_network::NetworkNeeds;
use wasm_interp_wasi::ModesBy;
use wasm_interp_workload::cut_capabilities;

use crate::{
    capabilities::{CapabilitySource, GrantedCapabilities},
    confine::{CallGroup, Fence, Notes, RefusedByProfile},
    limits::{LimitError, ResourceLimits},
    seccomp::{Filter, SeccompError},
};

/// Why the privileges of a spec cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrivilegesError {
    #[error(transparent)]
    Limit(#[from] LimitError),
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    #[error(transparent)]
    Fence(#[from] RefusedByProfile),
    #[error("cannot read the capabilities of this process: {0}")]
    Capabilities(#[from] rustix::io::Errno),
}

/// Whether a process can gain privileges that it gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NewPrivileges {
    /// By executing a program that has them. Then only a privileged process may install a filter.
    Possible,
    /// `noNewPrivileges`: never. Then any process may install a filter.
    Never,
}

/// Whose privileges are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// A Wasm guest's process: it gets no more than a guest can use, and a fence of its own.
    Guest,
    /// A native program, or what holds a pod's namespaces: as its spec says.
    Other,
    /// A native program in the container of a guest. It mounts nothing there: the guest's paths would lead to it.
    BesideGuest,
}

/// The privileges of a container's init process.
#[derive(Debug)]
pub(crate) struct Privileges {
    limits: ResourceLimits,
    capabilities: GrantedCapabilities,
    filter: Option<Filter>,
    new: NewPrivileges,
    /// A guest's.
    fence: Option<Fence>,
}

impl Privileges {
    /// Takes them out of `spec`. Returns a warning for each one that the container does not get.
    pub(crate) fn take(
        spec: &mut Spec,
        id: &str,
        bundle: &Path,
        holder: Holder,
    ) -> Result<(Self, Vec<String>), PrivilegesError> {
        let mut warnings = Vec::new();
        let mut process = spec.process().clone().unwrap_or_default();
        let limits = ResourceLimits::raise(process.rlimits().as_deref().unwrap_or_default())?;
        process.set_rlimits(None);
        if let (Holder::Guest, Some(mut wanted)) = (holder, process.capabilities().clone()) {
            // `inspect` names those that are cut.
            cut_capabilities(&mut wanted);
            process.set_capabilities(Some(wanted));
        }
        let (mut capabilities, missing) =
            GrantedCapabilities::new(process.capabilities().as_ref(), source(spec))?;
        warnings.extend(missing);
        if holder == Holder::BesideGuest && capabilities.give_up(CapabilitySet::SYS_ADMIN) {
            warnings.push(
                "process.capabilities: CAP_SYS_ADMIN cannot be given in the container of a Wasm \
                 guest, where nothing may be mounted later; the program runs without it"
                    .to_owned(),
            );
        }
        process.set_capabilities(None);
        let new = match process.no_new_privileges() {
            Some(true) => NewPrivileges::Never,
            Some(false) | None => NewPrivileges::Possible,
        };
        spec.set_process(Some(process));

        let mut filter = None;
        if let Some(mut linux) = spec.linux().clone() {
            if let Some(profile) = linux.seccomp() {
                let annotations = spec.annotations().clone().unwrap_or_default();
                let (made, skipped) = Filter::of(profile, id, bundle, &annotations)?;
                warnings.extend(skipped);
                filter = Some(made);
            }
            linux.set_seccomp(None);
            spec.set_linux(Some(linux));
        }
        let fence = match holder {
            Holder::Guest => {
                let (fence, absent) = Fence::behind(filter.as_ref())?;
                warnings.extend(absent);
                Some(fence)
            }
            Holder::Other | Holder::BesideGuest => None,
        };
        let privileges = Self {
            limits,
            capabilities,
            filter,
            new,
            fence,
        };
        Ok((privileges, warnings))
    }

    /// Descriptors that are needed until [`Self::reduce`].
    pub(crate) fn descriptors(&self) -> Option<RawFd> {
        self.filter.as_ref().and_then(Filter::descriptor)
    }

    /// Drops every privilege that the rest of the preparation does not need.
    pub(crate) fn reduce(&self) -> Result<(), String> {
        self.limits
            .set()
            .map_err(|e| format!("cannot set process.rlimits: {e}"))?;
        if let Some(filter) = &self.filter {
            filter
                .prepare()
                .map_err(|e| format!("cannot prepare the filter of linux.seccomp: {e}"))?;
        }
        match self.new {
            NewPrivileges::Possible => self.install()?,
            NewPrivileges::Never => {}
        }
        self.capabilities
            .enter()
            .map_err(|e| format!("cannot set process.capabilities: {e}"))
    }

    /// The last step. If possible the filter is installed here, so that it need not allow what went before.
    pub(crate) fn seal(&self) -> Result<(), String> {
        match self.new {
            NewPrivileges::Possible => Ok(()),
            NewPrivileges::Never => self.install(),
        }
    }

    /// The call by which a guest has to change modes.
    pub(crate) fn modes_by(&self) -> ModesBy {
        // Without a fence no guest runs.
        self.fence.map_or(ModesBy::Fchmodat, Fence::modes_by)
    }

    /// The very last step before a guest runs, when it needs nothing more of the host.
    pub(crate) fn close_fence(
        &self,
        notes: Notes,
        calls: &[CallGroup],
        network: &NetworkNeeds,
    ) -> Result<(), String> {
        self.fence
            .map_or(Ok(()), |fence| fence.close(notes, calls, network))
    }

    fn install(&self) -> Result<(), String> {
        self.filter.as_ref().map_or(Ok(()), |filter| {
            filter
                .install()
                .map_err(|e| format!("cannot install the filter of linux.seccomp: {e}"))
        })
    }
}

fn source(spec: &Spec) -> CapabilitySource {
    let linux = spec.linux().as_ref();
    let mut namespaces = linux
        .and_then(|linux| linux.namespaces().as_ref())
        .into_iter()
        .flatten();
    if namespaces.any(|namespace| namespace.typ() == LinuxNamespaceType::User) {
        CapabilitySource::UserNamespace
    } else {
        CapabilitySource::ThisProcess
    }
}
