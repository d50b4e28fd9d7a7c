//! What can go wrong with a verb, and the ttrpc code of each error.
//!
//! Used by `service`, `task` and `launch`. The codes are those of containerd's shim for runc, because
//! containerd's CRI plugin and clients act on them. So do they on the words of [`Error::NoTask`],
//! [`Error::NoProcess`], [`Error::State`], [`Error::Frozen`], [`Error::Finished`], [`Error::NoCgroup`] and of the errors of an
//! exec, which are runc's.
#![forbid(unsafe_code)]

use containerd_shim_protos::protobuf;
use containerd_shim_protos::ttrpc::{self, Code};
use wasm_interp_launch::LaunchError;
use wasm_interp_mounts::MountError;
use wasm_interp_runner_client::RunnerError;
use wasm_interp_workload::{ErrorKind, SpecParseError, with_causes};

use crate::bundle::BundleError;
use crate::cgroup::CgroupError;
use crate::info::RUNTIME_NAME;
use crate::io::StdioError;
use crate::options::OptionsError;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("container not created: this shim has no task {id:?}")]
    NoTask { id: String },
    #[error("cannot create task {id:?}: it exists already; delete it or choose another id")]
    Exists { id: String },
    #[error("process does not exist {exec_id:?}: no exec has this id any more; exec it first")]
    NoProcess { exec_id: String },
    #[error("cannot exec in a {state} state")]
    ExecIn { state: &'static str },
    #[error(
        "id {exec_id}: the container has such a process already; delete it or choose another id"
    )]
    ExecExists { exec_id: String },
    #[error("process not created")]
    NotStarted,
    #[error("OCI runtime exec failed: exec failed: unable to start container process: {0}")]
    Exec(#[source] LaunchError),
    #[error(
        "OCI runtime exec failed: exec failed: unable to start container process: cannot use its \
         spec: {0}"
    )]
    ExecSpec(#[source] SpecParseError),
    #[error("cannot run {exec_id:?}: it was killed before its program ran; run it again")]
    ExecKilled { exec_id: String },
    #[error("cannot {verb} a {state} process")]
    State {
        verb: &'static str,
        state: &'static str,
    },
    /// A pause or resumption in the wrong state, in runc's words.
    #[error("{0}")]
    Frozen(&'static str),
    #[error(
        "cannot pause {id:?}: it has no cgroup of its own that could be frozen; give its spec a \
         cgroupsPath other than the shim's cgroup"
    )]
    NoFreezer { id: String },
    #[error("process already finished")]
    Finished,
    #[error("cgroup does not exist")]
    NoCgroup,
    #[error("cannot send signal {signal} to {id:?}: {source}; use a signal from 1 to 64")]
    Signal {
        id: String,
        signal: u32,
        source: std::io::Error,
    },
    #[error("{what} is not supported by {RUNTIME_NAME}; {instead}")]
    Unsupported { what: String, instead: &'static str },
    #[error("cannot create task {id:?}: the client cancelled the request; create it again")]
    Cancelled { id: String },
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error(transparent)]
    Runner(#[from] RunnerError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    Stdio(#[from] StdioError),
    #[error(transparent)]
    Options(#[from] OptionsError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error("cannot open the process {pid} of {id:?}: {source}; look at the limit of open files")]
    Process {
        id: String,
        pid: i32,
        source: std::io::Error,
    },
    #[error(
        "cannot make the pages with the ceiling of the guests' memory: {0}; look at the limits of \
         memory and of open files"
    )]
    Ceiling(#[source] std::io::Error),
    #[error("the container runs 64 guests already; wait until one of them has ended")]
    ManyGuests,
    /// An update in the wrong state, in runc's words.
    #[error("cannot update a stopped container")]
    UpdateStopped,
    #[error("cannot update {id:?}: {source}")]
    Resources { id: String, source: SpecParseError },
    #[error(
        "cannot create {id:?}: its spec and the request do not agree on a terminal \
         (process.terminal); give both the same"
    )]
    Terminal { id: String },
    #[error(
        "cannot end the init process of {id:?}: it does not end after SIGKILL; look at what it \
         waits for in the kernel (/proc/PID/stack)"
    )]
    Unkillable { id: String },
    #[error("cannot encode a response: {0}; report this as a bug")]
    Encode(#[from] protobuf::Error),
    #[error("cannot finish the request: a task of the shim failed: {0}; report this as a bug")]
    Worker(#[from] tokio::task::JoinError),
}

impl Error {
    /// A signal that was not sent. A process that has ended is no error of the signal.
    pub(crate) fn of_signal(id: &str, signal: u32, source: std::io::Error) -> Self {
        if source.raw_os_error() == Some(libc::ESRCH) {
            return Self::Finished;
        }
        Self::Signal {
            id: id.to_owned(),
            signal,
            source,
        }
    }

    /// The code that containerd gets.
    fn code(&self) -> Code {
        match self {
            Error::NoTask { .. } | Error::NoProcess { .. } | Error::Finished | Error::NoCgroup => {
                Code::NOT_FOUND
            }
            Error::Exists { .. } | Error::ExecExists { .. } => Code::ALREADY_EXISTS,
            Error::State { .. } | Error::ExecIn { .. } | Error::NotStarted => {
                Code::FAILED_PRECONDITION
            }
            Error::ExecSpec(_) => Code::INVALID_ARGUMENT,
            Error::Exec(error) => of_launch(error),
            Error::ManyGuests => Code::RESOURCE_EXHAUSTED,
            Error::Unsupported { .. } => Code::UNIMPLEMENTED,
            Error::Signal { .. }
            | Error::Resources { .. }
            | Error::Terminal { .. }
            | Error::Options(_) => Code::INVALID_ARGUMENT,
            Error::Cancelled { .. } | Error::ExecKilled { .. } => Code::CANCELLED,
            Error::Launch(error) => of_launch(error),
            Error::Bundle(BundleError::Spec { .. } | BundleError::Relative(_)) => {
                Code::INVALID_ARGUMENT
            }
            Error::Stdio(error) if error.is_unsupported() => Code::UNIMPLEMENTED,
            Error::Mount(error) if error.is_unsupported() => Code::UNIMPLEMENTED,
            Error::Runner(_)
            | Error::Bundle(_)
            | Error::Mount(_)
            | Error::Stdio(_)
            | Error::Cgroup(_)
            // runc's shim gives these no code of their own.
            | Error::Frozen(_)
            | Error::UpdateStopped
            | Error::Ceiling(_)
            | Error::NoFreezer { .. }
            | Error::Process { .. }
            | Error::Unkillable { .. }
            | Error::Encode(_)
            | Error::Worker(_) => Code::UNKNOWN,
        }
    }
}

fn of_launch(error: &LaunchError) -> Code {
    match error.kind() {
        Some(ErrorKind::InvalidArgument) => Code::INVALID_ARGUMENT,
        Some(ErrorKind::NotFound) => Code::NOT_FOUND,
        Some(ErrorKind::FailedPrecondition) => Code::FAILED_PRECONDITION,
        None => Code::UNKNOWN,
    }
}

impl From<Error> for ttrpc::Error {
    fn from(error: Error) -> Self {
        status(error.code(), &error)
    }
}

/// Why a create failed.
///
/// Its code is never UNIMPLEMENTED. From that, containerd 2.3 and later concludes that the shim has an
/// older version of the API, and creates again (`TaskManager.Create` in its core/runtime/v2).
#[derive(Debug)]
pub(crate) struct CreateError(Error);

impl CreateError {
    /// The code of a create for an error that has the code `of_error` in another verb.
    fn code(of_error: Code) -> Code {
        match of_error {
            Code::UNIMPLEMENTED => Code::FAILED_PRECONDITION,
            other => other,
        }
    }
}

impl<E: Into<Error>> From<E> for CreateError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl From<CreateError> for ttrpc::Error {
    fn from(CreateError(error): CreateError) -> Self {
        status(CreateError::code(error.code()), &error)
    }
}

fn status(code: Code, error: &Error) -> ttrpc::Error {
    let text = match class(code) {
        Some(class) => format!("{}: {class}", with_causes(error)),
        None => with_causes(error),
    };
    ttrpc::Error::RpcStatus(ttrpc::get_status(code, text))
}

/// The words at the end of containerd's own errors with this code (`errdefs`). Clients up to 1.7 add
/// them if they are missing. Later clients leave the text as it is.
fn class(code: Code) -> Option<&'static str> {
    match code {
        Code::NOT_FOUND => Some("not found"),
        Code::ALREADY_EXISTS => Some("already exists"),
        Code::FAILED_PRECONDITION => Some("failed precondition"),
        Code::UNIMPLEMENTED => Some("not implemented"),
        Code::INVALID_ARGUMENT => Some("invalid argument"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use containerd_shim_protos::protobuf::Enum as _;
    use wasm_interp_artifact::ArtifactError;

    use super::*;

    fn status(error: impl Into<ttrpc::Error>) -> (Code, String) {
        match error.into() {
            ttrpc::Error::RpcStatus(status) => (status.code(), status.message().to_owned()),
            other => panic!("not a status: {other}"),
        }
    }

    #[test]
    fn codes_are_those_of_runcs_shim() {
        assert_eq!(
            status(Error::NoTask { id: "x".into() }),
            (
                Code::NOT_FOUND,
                "container not created: this shim has no task \"x\": not found".into()
            )
        );
        assert_eq!(
            status(Error::Finished),
            (
                Code::NOT_FOUND,
                "process already finished: not found".into()
            )
        );
        assert_eq!(
            status(Error::State {
                verb: "delete",
                state: "running"
            }),
            (
                Code::FAILED_PRECONDITION,
                "cannot delete a running process: failed precondition".into()
            )
        );
    }

    #[test]
    fn cause_is_in_the_text_once() {
        let source = || std::io::Error::other("disk on fire");
        let named = Error::Launch(LaunchError::Locate(source()));
        assert_eq!(with_causes(&named).matches("disk on fire").count(), 1);
        let unnamed = Error::Launch(LaunchError::Artifact(ArtifactError::Read {
            name: "python.wasm".into(),
            source: source(),
        }));
        assert_eq!(
            with_causes(&unnamed),
            "cannot read python.wasm: disk on fire; check the file"
        );
    }

    /// ttrpc replaces a response of more than 4 MiB by an error of its own.
    #[test]
    fn text_of_an_error_has_a_limit() {
        let name = "\u{1}".repeat(1 << 20);
        let missing = wasm_interp_workload::PlanError::ProgramNotFound {
            name: name.clone(),
            looked_for: vec![name.clone(), name.clone()],
            search: name,
        };
        let (code, text) = status(Error::Exec(LaunchError::Plan(missing)));
        assert_eq!(code, Code::NOT_FOUND);
        assert!(text.len() < 5000, "{}", text.len());
        assert!(
            text.contains("executable file not found in $PATH"),
            "{text}"
        );
        assert!(text.ends_with(": not found"), "{text}");
    }

    /// From NOT_FOUND, CRI concludes that the task has exited, and drops a resize without an error.
    #[test]
    fn unsupported_verb_is_unimplemented_and_says_what_to_do() {
        let (code, text) = status(Error::Unsupported {
            what: "update".into(),
            instead: "recreate the container",
        });
        assert_eq!(code, Code::UNIMPLEMENTED);
        assert_eq!(
            text,
            "update is not supported by io.containerd.wasm-interp.v1; recreate the container: \
             not implemented"
        );
    }

    /// containerd would create the container a second time.
    #[test]
    fn no_error_of_create_is_unimplemented() {
        for &code in Code::VALUES {
            let of_create = CreateError::code(code);
            assert_ne!(of_create, Code::UNIMPLEMENTED);
            assert!(of_create == code || code == Code::UNIMPLEMENTED, "{code:?}");
        }
        let unsupported = || Error::Unsupported {
            what: "a checkpoint".into(),
            instead: "run it without",
        };
        assert_eq!(status(unsupported()).0, Code::UNIMPLEMENTED);
        assert_eq!(
            status(CreateError::from(unsupported())),
            (
                Code::FAILED_PRECONDITION,
                "a checkpoint is not supported by io.containerd.wasm-interp.v1; run it without: \
                 failed precondition"
                    .to_owned()
            )
        );
    }
}
