//! The plan of a container: what the runner does, fully resolved.
//!
//! Made by [`crate::decide()`], printed by `wasm-interp inspect`, read by the runner.

use serde::{Deserialize, Serialize};
use wasm_interp_network::Network;

/// Version of the [`Plan`] format. A runner refuses a plan of another version.
pub const PLAN_VERSION: u32 = 4;

/// Everything that the runner needs to know of a Wasm container besides its OCI spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Format of this document, [`PLAN_VERSION`].
    pub version: u32,
    /// The program that runs.
    pub interpreter: Interpreter,
    /// What kind of WebAssembly it is.
    pub kind: GuestKind,
    /// Arguments of the guest, its own name first.
    pub argv: Vec<String>,
    /// Environment of the guest, in order, without duplicates.
    pub env: Vec<(String, String)>,
    /// Absolute working directory, as the container sees it.
    pub cwd: String,
    /// What the guest may reach: the root filesystem, then the mounts in the order of the spec.
    pub grants: Vec<Grant>,
    /// What the guest may reach of the network.
    pub network: Network,
    /// What the spec names and the Wasm guest does not get, with reasons.
    pub withheld: Vec<Withheld>,
    /// The temporary directory that was added because the container has no writable one. It is also
    /// one of the grants.
    pub tmp: Option<Tmp>,
    /// The limits of the guest's resources.
    pub limits: GuestLimits,
}

/// The program of a container's init process.
#[derive(Debug)]
pub enum Planned<F> {
    /// A Wasm guest: its plan, and its interpreter, open.
    Wasm(Box<Plan>, F),
    /// A native program. The kernel runs it as under any other runtime.
    Native(NativePlan),
}

/// A native (ELF) program. Its container is what its OCI spec says, with a `HOME` added and nothing
/// removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NativePlan {
    /// The program, or the interpreter of the script that runs.
    pub interpreter: Interpreter,
    /// Arguments of the program, its own name first, as the spec has them.
    pub argv: Vec<String>,
    /// Environment of the program, in order, without duplicates.
    pub env: Vec<(String, String)>,
    /// Absolute working directory, as the container sees it.
    pub cwd: String,
    /// Whether this directory exists before the container is made.
    pub cwd_exists: bool,
}

/// The kind of a guest's WebAssembly, as the layer field of its binary says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestKind {
    /// A core module: a command of WASI preview 1.
    Module,
    /// A component: a command of WASI 0.2.
    Component,
}

/// The interpreter and how it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interpreter {
    /// Absolute path in the container, symlinks resolved.
    pub path: String,
    /// The rule that found it.
    pub found: FoundBy,
}

/// The rule that found an interpreter. The variants are in the order in which the rules are tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "by", deny_unknown_fields)]
pub enum FoundBy {
    /// The annotation `wasm-interp.io/interpreter` names it.
    Annotation {
        /// Value of the annotation.
        value: String,
    },
    /// `args[0]` is the path of a Wasm program.
    ExactPath,
    /// `args[0]` is a bare name found on the image's `PATH`.
    SearchPath {
        /// The name that was looked up.
        name: String,
    },
    /// `args[0]` is a script whose first line names it.
    Shebang {
        /// The script, absolute.
        script: String,
        /// The first line, without `#!`.
        line: String,
    },
    /// `args[0]` is a script whose extension belongs to it.
    Extension {
        /// The script, absolute.
        script: String,
        /// The extension, without the dot.
        extension: String,
    },
}

/// A mount that the guest may reach: the root filesystem, or one of the spec's that holds files.
///
/// The mount itself is the grant. The kernel holds its rights, by every path that leads to it; this is
/// what the operator is told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Absolute path in the container, without symlinks.
    pub path: String,
    /// What is mounted there.
    pub kind: GrantKind,
    /// What the mount's options allow.
    pub access: MountAccess,
    /// Its source, for people: `root filesystem`, `bind /srv/data`, `tmpfs`.
    pub source: String,
}

/// Shape of a [`Grant`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GrantKind {
    /// A directory, with all that is in it.
    Directory,
    /// A file that is mounted over another.
    File,
    /// A Unix socket that is mounted over a file.
    Socket,
}

/// What the flags of a mount allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountAccess {
    /// Open, read and list, also in what is mounted beneath.
    ReadOnly,
    /// Also write, create and remove, as far as the rights of the files go.
    Writable,
}

/// A part of the spec that a Wasm guest does not get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withheld {
    /// Its path in the spec.
    pub path: String,
    /// Why not, in words for an operator.
    pub reason: String,
    /// How it is withheld.
    pub by: Withholding,
}

/// How [`crate::container_spec()`] withholds something from the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "how", deny_unknown_fields)]
pub enum Withholding {
    /// A mount of the spec is left out.
    Unmounted {
        /// Its index in the spec's mounts, from 0.
        mount: usize,
    },
    /// It comes with a recursive bind mount, so it is masked.
    Masked,
    /// A device node is not made.
    NoDevice,
    /// They are in no set of the guest's process.
    Capabilities,
    /// It is no part of [`Plan::network`].
    Network,
}

/// A tmpfs that the plan adds to the spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tmp {
    /// Absolute path in the container.
    pub path: String,
    /// Its size in bytes. Its content counts as the container's memory.
    pub bytes: u64,
}

/// The limits of the guest's resources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestLimits {
    /// Limit of the guest's linear memory in bytes. It is below the cgroup's limit, so that an
    /// interpreter sees a failed allocation before the kernel kills it. `None`: 4 GiB, Wasm's own limit.
    pub memory_bytes: Option<u64>,
    /// Stack of the guest in bytes. Deeper recursion traps.
    pub stack_bytes: u64,
}
