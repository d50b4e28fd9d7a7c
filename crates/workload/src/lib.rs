//! What a container asks for, decided before anything runs.
//!
//! [`decide`] turns an OCI runtime spec, the node's [`Policy`] and a read-only [`View`] of the
//! container's files into [`Work`]. For a Wasm guest that is a [`Plan`]: which interpreter runs, with
//! which arguments, environment and working directory, which directories it is granted and with
//! which rights, and where its limits lie. For a [`Native`] program it is next to nothing, because
//! its spec says all. [`container_spec`] then says what is left of the OCI spec for the container
//! runtime.
//!
//! Nothing here knows Wasmtime, containerd or libcontainer, and nothing here has an effect: the
//! same inputs give the same plan, which is what the golden tests hold.
//!
//! Read in this order: `request` (what is asked), `resolve` (what is decided), `program` (how the
//! interpreter is found), `grants`
//! (what may be reached), `view` (what may be looked at), `container` (what is handed on).
#![forbid(unsafe_code)]

mod causes;
mod container;
mod error;
mod explain;
#[cfg(test)]
mod golden;
mod grants;
mod interpreters;
mod kind;
mod magic;
mod mounts;
mod plan;
mod policy;
mod program;
mod request;
mod resolve;
mod shebang;
mod view;

use oci_spec::runtime::Spec;

pub use causes::{shortened, with_causes};
pub use container::{container_spec, native_spec, sandbox_spec};
pub use error::{ErrorKind, PlanError};
pub use explain::{explain, explain_native};
pub use interpreters::{InterpretersError, Module, interpreters};
pub use kind::{Kind, kind};
pub use plan::{
    DirectoryRights, Found, Grant, GrantKind, Interpreter, Limits, Native, PLAN_VERSION, Plan, Tmp,
    Withheld, Withholding, Work,
};
pub use policy::{MemoryPolicy, NativePolicy, Policy, PolicyError, policy_file};
pub use view::{
    Content, FileKind, KernelFs, MountPoint, Refusal, Resolved, RootfsView, View, ViewError,
};

/// The annotation that names the interpreter: an absolute path in the container.
pub const INTERPRETER_ANNOTATION: &str = "wasm-interp.io/interpreter";

/// Decides what the container that `spec` describes does, and opens its interpreter if that is Wasm:
/// that very file is what is to be identified, compiled and run, whatever its path leads to later.
///
/// # Errors
/// If the spec makes no sense, asks for what this version cannot do or this node does not allow, or
/// names what `view` does not hold; [`PlanError::kind`] tells these apart.
pub fn decide<V: View>(spec: &Spec, policy: &Policy, view: &V) -> Result<Work<V::File>, PlanError> {
    request::Request::parse(spec)?.resolve(policy, view)
}
