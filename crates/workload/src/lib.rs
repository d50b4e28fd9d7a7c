//! What a container asks for, decided before anything runs.
//!
//! [`plan`] turns an OCI runtime spec, the node's [`Policy`] and a read-only [`View`] of the
//! container's files into a [`Plan`]: which interpreter runs, with which arguments, environment
//! and working directory, which directories it is granted and with which rights, and where its
//! limits lie. [`container_spec`] then says what is left of the OCI spec for the container runtime.
//!
//! Nothing here knows Wasmtime, containerd or libcontainer, and nothing here has an effect: the
//! same inputs give the same plan, which is what the golden tests hold.
#![forbid(unsafe_code)]

mod plan;

pub use plan::{
    DirectoryRights, Found, Grant, GrantKind, Interpreter, Limits, Plan, Withheld, PLAN_VERSION,
};
