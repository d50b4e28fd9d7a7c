//! How the runner is invoked: its verbs, descriptors and answers, seen from the caller's side.
//!
//! Each call is one short process. It speaks through inherited descriptors, never through files
//! that a container could reach:
//!
//! | descriptor | direction | content |
//! |---|---|---|
//! | 0, 1, 2 | – | the container's stdio (`create`); `/dev/null` otherwise |
//! | 3 | in | [`Request`] as JSON, to end of file |
//! | 4 | out | [`Answer`] as JSON, to end of file |
//! | 5 | in | the artifact (`create` of a Wasm container) |

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wasm_interp_workload::Plan;

/// What the runner is asked to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verb", deny_unknown_fields)]
pub enum Request {
    /// Create the container up to the point where it waits for `start`.
    Create {
        /// Container id.
        id: String,
        /// OCI bundle: `config.json` (already fit for libcontainer) and the mounted rootfs.
        bundle: PathBuf,
        /// Directory for libcontainer's state of this container.
        state: PathBuf,
        /// What to run inside.
        workload: Workload,
    },
    /// Let the created container run.
    Start {
        /// Container id.
        id: String,
        /// As given to `create`.
        state: PathBuf,
    },
    /// Remove the container's cgroup and state; with `force`, kill it first. Deleting what is not
    /// there succeeds.
    Delete {
        /// Container id.
        id: String,
        /// As given to `create`.
        state: PathBuf,
        /// Kill what still runs.
        force: bool,
    },
}

/// What the container's init process does once started.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Workload {
    /// Run a Wasm guest; its artifact is descriptor 5.
    Wasm {
        /// The plan to follow.
        plan: Box<Plan>,
    },
    /// The pod sandbox: wait for a signal and reap orphans.
    Pause,
}

/// What the runner answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer", deny_unknown_fields)]
pub enum Answer {
    /// The container waits for `start`.
    Created {
        /// Its init process, in the caller's pid namespace.
        pid: i32,
    },
    /// Done.
    Done,
    /// Nothing was left behind; the reason, fit for a person.
    Failed {
        /// Act, object, cause and way out.
        reason: String,
    },
}
