//! Decides what a container does, before anything runs.
//!
//! [`decide`] turns an OCI runtime spec, the node's [`Policy`] and a read-only [`View`] of the
//! container's files into [`Planned`]. For a Wasm guest that is a [`Plan`]: which interpreter runs, with
//! which arguments, environment and working directory, which mounts it may reach, and what its limits
//! are. A [`NativePlan`] adds little, because the spec of a native
//! program says nearly everything. [`container_spec()`] then makes the spec for the container runtime.
//!
//! Nothing here knows Wasmtime, containerd or libcontainer, and nothing here has side effects: the
//! same inputs give the same plan. The golden tests check this.
//!
//! Read in this order: `spec` (parses the text), `request` (what the spec requests), `resolve` (the
//! decisions), `program` (finds the interpreter), `grants` (what the guest may reach), `view` (reads the
//! container's files), `container_spec` (the spec for the runtime), `exec` (a further process).
#![forbid(unsafe_code)]

mod annotations;
mod causes;
mod container_kind;
mod container_spec;
mod dev;
mod error;
mod error_kind;
mod exec;
mod explain;
#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(test)]
mod golden;
mod grants;
mod mounts;
mod plan;
mod program;
mod request;
mod resolve;
mod spec;
mod view;

use oci_spec::runtime::{LinuxDevice, Spec};

pub use annotations::{CRI_CONTAINER_NAME, INTERPRETER_ANNOTATION};
pub use causes::{printable, shortened, with_causes};
pub use container_kind::{ContainerKind, container_kind};
pub use container_spec::{container_spec, native_spec, sandbox_spec, with_home};
pub use dev::{DevMountError, check_dev};
pub use error::PlanError;
pub use error_kind::ErrorKind;
pub use exec::{ExecPlanError, decide_exec, exec_spec};
pub use explain::{explain, explain_native, explain_network, explain_network_rules};
pub use grants::{GUEST_CAPABILITIES, cut_capabilities};
pub use plan::{
    FoundBy, Grant, GrantKind, GuestLimits, Interpreter, MountAccess, NativePlan, PLAN_VERSION,
    Plan, Planned, Tmp, Withheld, Withholding,
};
pub use program::{DEFAULT_PATH, ImageModule, ImageModulesError, modules_in_image};
pub use spec::{SpecParseError, SpecWarning, parse_resources, parse_spec};
pub use view::{
    FileKind, HostNetwork, KernelFs, MountContent, MountPoint, MountRefusal, Resolved, RootfsView,
    View, ViewError, mount_places, open_root,
};
pub use wasm_interp_network::{CONNECT_ANNOTATION, LISTEN_ANNOTATION, NETWORK_ANNOTATION, Network};
pub use wasm_interp_policy::{
    CachePolicy, GuestNetworkPolicy, MemoryPolicy, NativePolicy, ParseSizeError, Policy,
    PolicyError, parse_size, policy_file,
};

/// Decides what the container that `spec` describes does. If its interpreter is Wasm, this opens it, and
/// callers identify, compile and run that open file: its path may lead to another file later.
///
/// # Errors
/// If the spec is invalid, requests what this version or this node does not allow, or names a file that
/// `view` does not have. [`PlanError::kind`] tells these apart.
pub fn decide<V: View>(
    spec: &Spec,
    policy: &Policy,
    view: &V,
) -> Result<Planned<V::File>, PlanError> {
    let planned = request::ContainerRequest::parse(spec)?.resolve(policy, view)?;
    let mounts = spec.mounts().iter().flatten().zip(view.mounts());
    match &planned {
        // Only what the guest gets counts: other mounts and devices are not made.
        Planned::Wasm(..) => check_dev(
            mounts
                .filter(|(_, point)| !matches!(point.content, MountContent::Refused(_)))
                .map(|(mount, point)| (mount, point.path.as_path())),
            &[],
        ),
        Planned::Native(_) => check_dev(
            mounts.map(|(mount, point)| (mount, point.path.as_path())),
            devices(spec),
        ),
    }?;
    Ok(planned)
}

/// What a guest with the annotations of `spec` gets of the network, and what of the node's default it does not get.
///
/// # Errors
/// If an annotation cannot be read, or asks for more than `policy` allows.
pub fn network_of(
    spec: &Spec,
    policy: &Policy,
    host: HostNetwork,
) -> Result<(Network, Vec<Withheld>), PlanError> {
    grants::NetworkRequest::parse(&annotations::Annotations::of(spec))?
        .resolve(&policy.network, host)
}

/// `linux.devices`.
#[must_use]
pub fn devices(spec: &Spec) -> &[LinuxDevice] {
    let linux = spec.linux().as_ref();
    linux
        .and_then(|linux| linux.devices().as_deref())
        .unwrap_or_default()
}
