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
mod in_image;
mod mounts;
mod plan;
mod program;
mod request;
mod resolve;
mod spec;
mod steps;
mod view;

pub use annotations::{CRI_CONTAINER_NAME, INTERPRETER_ANNOTATION};
pub use causes::{printable, printable_json, shortened, with_causes};
pub use container_kind::{ContainerKind, container_kind};
pub use container_spec::{container_spec, native_spec, sandbox_spec, with_home};
pub use dev::{DevMountError, check_dev, devices};
pub use error::PlanError;
pub use error_kind::ErrorKind;
pub use exec::{ExecPlanError, decide_exec, exec_spec};
pub use explain::{explain, explain_native, explain_network, explain_network_rules};
pub use grants::{GUEST_CAPABILITIES, cut_capabilities};
pub use in_image::{ImageModule, ImageModulesError, modules_in_image};
pub use plan::{
    FoundBy, Grant, GrantKind, GuestKind, GuestLimits, Interpreter, MountAccess, NativePlan,
    PLAN_VERSION, Plan, Planned, Tmp, Withheld, Withholding,
};
pub use program::DEFAULT_PATH;
pub use resolve::{decide, network_of};
pub use spec::{SpecParseError, SpecWarning, parse_resources, parse_spec};
pub use steps::{MAX_LINKS, WalkStep, push_steps};
pub use view::{
    FileKind, HostNetwork, KernelFs, MountContent, MountPoint, MountRefusal, Resolved, RootfsView,
    View, ViewError, mount_places, open_root,
};
pub use wasm_interp_network::{CONNECT_ANNOTATION, LISTEN_ANNOTATION, NETWORK_ANNOTATION, Network};
pub use wasm_interp_policy::{
    CachePolicy, GuestNetworkPolicy, MemoryPolicy, NativePolicy, ParseSizeError, Policy,
    PolicyError, parse_size, policy_file,
};
