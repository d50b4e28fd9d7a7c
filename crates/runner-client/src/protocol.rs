//! What the runner and its callers send each other.

use std::{borrow::Cow, fs::File, os::unix::fs::MetadataExt, path::Path};

use oci_spec::runtime::{LinuxResources, Spec};
use serde::{Deserialize, Serialize};
use wasm_interp_workload::{NativePlan, Plan};

/// A request to the runner. Borrowed by the caller, owned by the runner.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verb", deny_unknown_fields)]
pub enum Request<'a> {
    /// Create the container up to the point where it waits for `start`.
    Create {
        /// Container id.
        id: Cow<'a, str>,
        /// OCI bundle: `config.json` (already fit for libcontainer) and the mounted rootfs.
        bundle: Cow<'a, Path>,
        /// Directory for libcontainer's state of this container.
        state: Cow<'a, Path>,
        /// What the container runs.
        workload: Cow<'a, Workload>,
        /// The lifetime of the container.
        lifetime: Lifetime,
        /// The session keyring of its processes.
        keyring: SessionKeyring,
    },
    /// Let the created container run.
    Start {
        /// Container id.
        id: Cow<'a, str>,
        /// The state directory that `create` was called with.
        state: Cow<'a, Path>,
    },
    /// Give the container's cgroup new limits.
    Update {
        /// Container id.
        id: Cow<'a, str>,
        /// The state directory that `create` was called with.
        state: Cow<'a, Path>,
        /// The limits; those that are missing or 0 stay as they are.
        resources: Box<LinuxResources>,
    },
    /// Remove the container's cgroup and state; with `force`, kill it first. It succeeds if the
    /// container does not exist.
    Delete {
        /// Container id.
        id: Cow<'a, str>,
        /// The state directory that `create` was called with.
        state: Cow<'a, Path>,
        /// Kill the processes that still run.
        force: bool,
    },
    /// Decide what a further process of a running container runs. Only this process looks at the
    /// container's files: it can be killed if a volume does not answer.
    Plan {
        /// Container id.
        id: Cow<'a, str>,
        /// The spec of the process (`wasm_interp_workload::exec_spec`).
        spec: Cow<'a, Spec>,
        /// The node's policy file.
        policy: Cow<'a, Path>,
        /// The container's init process; descriptor 10 is its pidfd.
        init: i32,
    },
    /// Make a further process in a running container. It runs at once.
    Exec {
        /// Container id.
        id: Cow<'a, str>,
        /// containerd's bundle of the container.
        bundle: Cow<'a, Path>,
        /// The state directory that `create` was called with.
        state: Cow<'a, Path>,
        /// The spec of the process.
        spec: Cow<'a, Spec>,
        /// What `plan` decided.
        workload: Cow<'a, Workload>,
        /// The container's init process; descriptor 10 is its pidfd.
        init: i32,
        /// What the init process is.
        init_runs: InitRuns,
        /// The place of a guest in the ceiling of the container, if descriptor 8 is one.
        place: u32,
        /// The session keyring that the container was created with.
        keyring: SessionKeyring,
    },
}

impl Request<'_> {
    /// The verb, for messages.
    pub(crate) fn verb(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Start { .. } => "start",
            Self::Update { .. } => "update",
            Self::Delete { .. } => "delete",
            Self::Plan { .. } => "plan a process of",
            Self::Exec { .. } => "run a process in",
        }
    }
}

/// The lifetime of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lifetime {
    /// Until it ends by itself; it may outlive its caller.
    Own,
    /// From `start` on, until its caller ends, for whatever reason.
    Callers,
}

/// The session keyring (session-keyring(7)) of a container's processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionKeyring {
    /// A new one.
    #[default]
    Own,
    /// That of the runner's caller, with the keys in it.
    Callers,
}

/// What the init process of a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InitRuns {
    /// A Wasm guest.
    Guest,
    /// A native program, or the process that holds a pod's namespaces.
    Other,
}

/// Which file a module was read from, and which state of it: for the question whether another open file
/// is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleStamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl ModuleStamp {
    /// That of an open file.
    ///
    /// # Errors
    /// If the file system does not answer.
    pub fn of(file: &File) -> std::io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// What a process of a container does. The init process does it once it is started.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Workload {
    /// Run a Wasm guest; its artifact is descriptor 5.
    Wasm {
        /// The plan.
        plan: Box<Plan>,
    },
    /// Become a native program.
    Native {
        /// The program.
        native: Box<NativePlan>,
    },
    /// The pod sandbox: wait for a signal and reap orphans.
    Pause,
}

/// A response of the runner.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer", deny_unknown_fields)]
pub enum Response {
    /// The container waits for `start`.
    Created {
        /// Its init process, in the caller's pid namespace.
        pid: i32,
        /// Warnings for people: parts of the spec that the container does not get.
        warnings: Vec<String>,
    },
    /// The container runs.
    Started,
    /// The container has the new limits.
    Updated,
    /// The container is removed.
    Deleted {
        /// Warnings for people: failures that did not prevent the removal.
        warnings: Vec<String>,
    },
    /// What a further process runs. The interpreter of a guest came by the socket.
    Planned {
        /// What it runs.
        workload: Workload,
        /// The file of its module, if it is a guest.
        module: Option<ModuleStamp>,
    },
    /// The process runs.
    Running {
        /// Its number in the caller's pid namespace.
        pid: i32,
        /// Warnings for people: parts of its spec that it does not get.
        warnings: Vec<String>,
    },
    /// The request failed, and the runner has removed what it had made.
    Failed {
        /// Act, object, cause and way out, for people.
        reason: String,
    },
}
