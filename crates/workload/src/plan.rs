//! The fully resolved form of a container: what the runner does, with nothing left to decide.
//!
//! Made by [`crate::decide()`], printed by `wasm-interp inspect`, read by the runner.

use serde::{Deserialize, Serialize};

/// Version of the [`Plan`] format. A runner refuses a plan of another version.
pub const PLAN_VERSION: u32 = 1;

/// Everything the runner needs to know of a Wasm container beyond the OCI spec it is created from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Format of this document, [`PLAN_VERSION`].
    pub version: u32,
    /// The program that runs.
    pub interpreter: Interpreter,
    /// Arguments of the guest, its own name first.
    pub argv: Vec<String>,
    /// Environment of the guest, in order, without duplicates.
    pub env: Vec<(String, String)>,
    /// Absolute working directory, as the container sees it.
    pub cwd: String,
    /// What the guest may reach, the root filesystem first, then in the order of the spec's mounts.
    pub grants: Vec<Grant>,
    /// What the spec names and a Wasm guest does not get, each with its reason.
    pub withheld: Vec<Withheld>,
    /// The temporary directory that was added because the spec leaves none that is writable. It is
    /// one of the grants too.
    pub tmp: Option<Tmp>,
    /// Where the guest's resources end.
    pub limits: Limits,
}

/// What a container's first process is.
#[derive(Debug)]
pub enum Work<F> {
    /// A Wasm guest: its plan, and its interpreter, open.
    Wasm(Box<Plan>, F),
    /// A native program, which the kernel runs as it would under any runtime.
    Native(Native),
}

/// A native (ELF) program. All that its container is, its OCI spec says; nothing is added to it but
/// a `HOME` and nothing is taken from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Native {
    /// The program, or the interpreter of the script that runs.
    pub interpreter: Interpreter,
    /// Arguments of the program, its own name first, as the spec has them.
    pub argv: Vec<String>,
    /// Environment of the program, in order, without duplicates.
    pub env: Vec<(String, String)>,
    /// Absolute working directory, as the container sees it.
    pub cwd: String,
    /// Whether there is such a directory before the container is made.
    pub cwd_exists: bool,
}

/// The interpreter and how it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interpreter {
    /// Absolute path in the container, symlinks resolved.
    pub path: String,
    /// The rule that found it.
    pub found: Found,
}

/// The rule by which an interpreter was found, in the order in which the rules are tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "by", deny_unknown_fields)]
pub enum Found {
    /// The annotation `wasm-interp.io/interpreter` names it.
    Annotation {
        /// Value of the annotation.
        value: String,
    },
    /// `args[0]` is the path of a Wasm module.
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

/// One thing of the container's file system that the guest may reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Absolute path in the container: symlinks resolved, or, as a second grant of the same files,
    /// the spec's name for it where that passes through a symlink.
    pub path: String,
    /// Directory (a WASI preopen of its own) or file (reached through the directory above it).
    pub kind: GrantKind,
    /// What the mount's options allow.
    pub rights: DirectoryRights,
    /// Where it comes from, for people: `root filesystem`, `bind /srv/data`, `tmpfs`.
    pub source: String,
}

/// Shape of a [`Grant`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GrantKind {
    /// A directory; the guest gets it as a preopen.
    Directory,
    /// A single file mounted over another; no preopen can hold a file, so it is reached through
    /// the directory grant above it, with the rights that the kernel's mount gives it.
    File,
}

/// What a guest may do with a grant. The kernel's mount flags enforce it; WASI repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DirectoryRights {
    /// Open, read and list.
    ReadOnly,
    /// Also write, create and remove.
    ReadWrite,
}

/// Something of the spec that a Wasm guest does not get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withheld {
    /// Where the spec wanted it.
    pub path: String,
    /// Why not, in words for an operator.
    pub reason: String,
    /// How it is kept away.
    pub by: Withholding,
}

/// How [`crate::container_spec`] keeps something from the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "how", deny_unknown_fields)]
pub enum Withholding {
    /// A mount of the spec is left out.
    Unmounted {
        /// Its place among the spec's mounts, from 0.
        mount: usize,
    },
    /// A bind mount brings it along, so it is masked.
    Masked,
    /// A device node is not made.
    NoDevice,
}

/// A tmpfs that the spec does not name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tmp {
    /// Absolute path in the container.
    pub path: String,
    /// Its size in bytes; what it holds counts as the container's memory.
    pub bytes: u64,
}

/// Where the guest's resources end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Ceiling of the guest's linear memory in bytes, below the cgroup's limit so that an
    /// interpreter sees a failed allocation before the kernel kills it. `None`: 4 GiB, Wasm's own.
    pub memory_bytes: Option<u64>,
    /// Stack of the guest in bytes. Deeper recursion traps.
    pub stack_bytes: u64,
}
