//! How the runner is invoked: its verbs, descriptors and answers, seen from the caller's side.
//!
//! The shim and `wasm-interp run` call [`Runner`]; the runner itself reads [`Request`] and writes
//! [`Answer`]. Nothing here knows libcontainer or Wasmtime.
//!
//! Each call is one short process. It speaks through inherited descriptors, never through files
//! that a container could reach:
//!
//! | descriptor | direction | content |
//! |---|---|---|
//! | 0, 1, 2 | – | the container's stdio (`create`); `/dev/null` otherwise |
//! | 3 | in | [`Request`] as JSON, to end of file |
//! | 4 | out | [`Answer`] as one line of JSON |
//! | 5 | in | the artifact (`create` of a Wasm container) |
//! | 6 | out | the reason of an end that the guest did not choose (`create`, where it is wanted) |
//! | 7 | – | the runner itself, in a mount of its own that is read-only |
//!
//! The last is what is executed. A container may get at the executable of its init process
//! (`/proc/PID/exe`, CVE-2019-5736); that must not be the file that the next container is made with.
//!
//! The container's init process is a child of the runner; when the runner has answered and ended,
//! it belongs to the nearest subreaper above, which therefore has to be the caller
//! (`PR_SET_CHILD_SUBREAPER`) if it wants the exit status.

mod spawn;

use std::{
    borrow::Cow,
    io::{BufRead, BufReader, Read},
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    process::{Child, ExitStatus},
};

use serde::{Deserialize, Serialize};
use wasm_interp_workload::{Native, Plan};

use self::spawn::Passed;

/// Exit code of a container whose guest trapped: what an abort of a native program gives, and what
/// `wasmtime run` answers.
pub const EXIT_TRAP: i32 = 134;
/// Exit code of a container that was created and then could not be started.
pub const EXIT_START_FAILED: i32 = 125;

/// File name of the runner, which lives beside whoever calls it.
pub const PROGRAM: &str = "wasm-interp-runner";
/// An answer is one line and no longer than this; a runner that writes more is broken.
const ANSWER_MAX: u64 = 64 * 1024;

/// What the runner is asked to do. Borrowed by the caller, owned by the runner.
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
        /// What to run inside.
        workload: Cow<'a, Workload>,
        /// How long it may live.
        lifetime: Lifetime,
    },
    /// Let the created container run.
    Start {
        /// Container id.
        id: Cow<'a, str>,
        /// As given to `create`.
        state: Cow<'a, Path>,
    },
    /// Remove the container's cgroup and state; with `force`, kill it first. Deleting what is not
    /// there succeeds.
    Delete {
        /// Container id.
        id: Cow<'a, str>,
        /// As given to `create`.
        state: Cow<'a, Path>,
        /// Kill what still runs.
        force: bool,
    },
}

impl Request<'_> {
    /// The verb, as messages name it.
    fn verb(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Start { .. } => "start",
            Self::Delete { .. } => "delete",
        }
    }
}

/// How long a container may live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lifetime {
    /// As long as it likes, also beyond the life of its caller.
    Own,
    /// From `start` on no longer than its caller, however that ends.
    Callers,
}

/// What the container's init process does once started.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Workload {
    /// Run a Wasm guest; its artifact is descriptor 5.
    Wasm {
        /// The plan to follow.
        plan: Box<Plan>,
    },
    /// Become a native program.
    Native {
        /// The program.
        native: Box<Native>,
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
    /// It runs.
    Started,
    /// Nothing of it is left.
    Deleted {
        /// What went wrong on the way without keeping it, each fit for a person.
        warnings: Vec<String>,
    },
    /// Nothing was left behind; the reason, fit for a person.
    Failed {
        /// Act, object, cause and way out.
        reason: String,
    },
}

/// What went wrong with a call of the runner.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunnerError {
    /// Nobody knows where we are installed.
    #[error(
        "find {PROGRAM} beside this program: /proc/self/exe cannot be read; is /proc mounted here"
    )]
    Locate(#[source] std::io::Error),
    /// The runner could not be made to run.
    #[error("start {program}: {source}; the executables of wasm-interp have to lie in one folder")]
    Spawn {
        /// The program that was tried.
        program: PathBuf,
        /// Why it did not start.
        source: std::io::Error,
    },
    /// The request could not be handed over.
    #[error("hand the request over to the runner: {0}")]
    Request(#[source] std::io::Error),
    /// The runner ended without a word.
    #[error(
        "the runner ended without an answer to {verb} ({status}): see the log of the host's kernel for an out-of-memory kill"
    )]
    Died {
        /// What was asked.
        verb: &'static str,
        /// How it ended.
        status: ExitStatus,
    },
    /// The runner said something that no runner of this version says.
    #[error(
        "the runner's answer to {verb} cannot be read ({detail}): the executables of wasm-interp are of different versions"
    )]
    Garbled {
        /// What was asked.
        verb: &'static str,
        /// What is wrong with the answer.
        detail: String,
    },
    /// The runner tried and failed; it left nothing behind.
    #[error("{reason}")]
    Failed {
        /// The runner's own words.
        reason: String,
    },
}

/// Calls the runner. Every method blocks until the runner has ended (milliseconds).
#[derive(Clone, Debug)]
pub struct Runner {
    program: PathBuf,
    lifetime: Lifetime,
}

impl Runner {
    /// The runner at this path.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            lifetime: Lifetime::Own,
        }
    }

    /// The same, making containers that live this long; [`Lifetime::Own`] without this.
    ///
    /// For [`Lifetime::Callers`] the caller has to be their subreaper.
    #[must_use]
    pub fn with_lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// The runner that lies in the folder of the calling program.
    ///
    /// # Errors
    /// [`RunnerError::Locate`] if the caller's own path cannot be found out.
    pub fn beside_current_exe() -> Result<Self, RunnerError> {
        let own = std::env::current_exe().map_err(RunnerError::Locate)?;
        Ok(Self::new(own.with_file_name(PROGRAM)))
    }

    /// Creates the container and returns the pid of its init process, which waits for
    /// [`Runner::start`].
    ///
    /// # Errors
    /// [`RunnerError::Failed`] with the reason if the container could not be created; nothing of
    /// it is left then.
    pub fn create(&self, creation: &Creation<'_>) -> Result<i32, RunnerError> {
        let request = Request::Create {
            id: creation.id.into(),
            bundle: creation.bundle.into(),
            state: creation.state.into(),
            workload: Cow::Borrowed(creation.workload),
            lifetime: self.lifetime,
        };
        // The guest's own command line, so that `ps` on the host shows what runs. The runner
        // itself takes no arguments.
        let pause = ["pause".to_owned()];
        let shown = match creation.workload {
            Workload::Wasm { plan } => plan.argv.as_slice(),
            Workload::Native { native } => native.argv.as_slice(),
            Workload::Pause => pause.as_slice(),
        };
        let passed = Passed {
            stdio: Some(creation.stdio),
            artifact: creation.artifact,
            reasons: creation.reasons,
        };
        match self.call(shown, &request, &passed)? {
            Answer::Created { pid } => Ok(pid),
            other => Err(unexpected(&request, &other)),
        }
    }

    /// Lets the created container run.
    ///
    /// # Errors
    /// [`RunnerError::Failed`] with the reason, for instance if it was started before.
    pub fn start(&self, id: &str, state: &Path) -> Result<(), RunnerError> {
        let request = Request::Start {
            id: id.into(),
            state: state.into(),
        };
        match self.call(&own_name(&request, id), &request, &Passed::default())? {
            Answer::Started => Ok(()),
            other => Err(unexpected(&request, &other)),
        }
    }

    /// Removes the container's cgroup and state, with `force` also what still runs in it. Deleting
    /// what is not there succeeds. Returns what went wrong without keeping it (poststop hooks).
    ///
    /// # Errors
    /// [`RunnerError::Failed`] with the reason, for instance if it still runs and `force` is off.
    pub fn delete(&self, id: &str, state: &Path, force: bool) -> Result<Vec<String>, RunnerError> {
        let request = Request::Delete {
            id: id.into(),
            state: state.into(),
            force,
        };
        match self.call(&own_name(&request, id), &request, &Passed::default())? {
            Answer::Deleted { warnings } => Ok(warnings),
            other => Err(unexpected(&request, &other)),
        }
    }

    /// Runs the runner to its end, showing `argv` in process lists.
    fn call(
        &self,
        argv: &[String],
        request: &Request<'_>,
        passed: &Passed<'_>,
    ) -> Result<Answer, RunnerError> {
        spawn::spawn(&self.program, argv, request, passed)?.finish(request.verb())
    }
}

/// A container to create.
#[derive(Clone, Copy, Debug)]
pub struct Creation<'a> {
    /// Container id.
    pub id: &'a str,
    /// OCI bundle: `config.json` (already fit for libcontainer) and the mounted rootfs.
    pub bundle: &'a Path,
    /// Directory for libcontainer's state of this container, made by the call.
    pub state: &'a Path,
    /// What to run inside.
    pub workload: &'a Workload,
    /// Native code of the plan's interpreter, for [`Workload::Wasm`].
    pub artifact: Option<BorrowedFd<'a>>,
    /// A file for the reason of an end that the guest did not choose, open for writing. Nothing is
    /// written to one that already holds something.
    pub reasons: Option<BorrowedFd<'a>>,
    /// Standard input, output and error of the container.
    pub stdio: [BorrowedFd<'a>; 3],
}

fn own_name(request: &Request<'_>, id: &str) -> [String; 3] {
    [PROGRAM, request.verb(), id].map(str::to_owned)
}

/// A runner at work.
#[derive(Debug)]
struct Call {
    child: Child,
    answer: std::fs::File,
}

impl Call {
    /// Blocks until the runner has ended, waiting for its pid only.
    fn finish(mut self, verb: &'static str) -> Result<Answer, RunnerError> {
        // One line, not to end of file: on a kill of the runner others may still hold the pipe.
        let mut line = Vec::new();
        let read = BufReader::new(self.answer.take(ANSWER_MAX)).read_until(b'\n', &mut line);
        let status = self.child.wait().map_err(RunnerError::Request)?;
        let garbled = |detail: String| RunnerError::Garbled { verb, detail };
        read.map_err(|e| garbled(e.to_string()))?;
        if line.is_empty() {
            return Err(RunnerError::Died { verb, status });
        }
        match serde_json::from_slice(&line).map_err(|e| garbled(e.to_string()))? {
            Answer::Failed { reason } => Err(RunnerError::Failed { reason }),
            answer => Ok(answer),
        }
    }
}

fn unexpected(request: &Request<'_>, answer: &Answer) -> RunnerError {
    let detail = match answer {
        Answer::Created { .. } => "created",
        Answer::Started => "started",
        Answer::Deleted { .. } => "deleted",
        Answer::Failed { .. } => "failed",
    };
    RunnerError::Garbled {
        verb: request.verb(),
        detail: format!("unexpected answer {detail}"),
    }
}
