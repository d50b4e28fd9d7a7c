//! Everything that can go wrong with a verb, and the one map from that to a ttrpc code.
//!
//! Used by `service`, `task` and `launch`. The codes are those that containerd's own shim for
//! runc answers with; CRI and clients act on them.
#![forbid(unsafe_code)]

use containerd_shim_protos::protobuf;
use containerd_shim_protos::ttrpc::{self, Code};
use wasm_interp_artifact::ArtifactError;
use wasm_interp_runner::client::RunnerError;
use wasm_interp_snapshot::MountError;
use wasm_interp_workload::{ErrorKind, PlanError, PolicyError, with_causes};

use crate::bundle::BundleError;
use crate::cgroup::CgroupError;
use crate::stdio::StdioError;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("container not created: this shim has no task {id:?}")]
    NoTask { id: String },
    #[error("task {id:?} exists already: delete it first or choose another id")]
    Exists { id: String },
    #[error(
        "process does not exist {exec_id:?}: a container of this runtime has its init process only"
    )]
    NoProcess { exec_id: String },
    #[error("cannot {verb} a {state} process")]
    State {
        verb: &'static str,
        state: &'static str,
    },
    #[error("process already finished")]
    Finished,
    #[error("cannot send signal {signal} to {id:?}: {source}")]
    Signal {
        id: String,
        signal: u32,
        source: std::io::Error,
    },
    #[error("{what} is not supported by {}: {instead}", crate::RUNTIME_NAME)]
    Unsupported { what: String, instead: &'static str },
    #[error("create of {id:?} was given up by the one who asked; nothing of it is left")]
    Abandoned { id: String },
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error(transparent)]
    Runner(#[from] RunnerError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    Stdio(#[from] StdioError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error("{act} process {pid} of {id:?}: {source}")]
    Process {
        act: &'static str,
        id: String,
        pid: i32,
        source: std::io::Error,
    },
    #[error("find the program that compiles: /proc/self/exe cannot be read: {0}")]
    Locate(#[source] std::io::Error),
    #[error("process of {id:?} did not end after SIGKILL: see whether it hangs in the kernel")]
    Unkillable { id: String },
    #[error("encode an answer: {0}")]
    Encode(#[from] protobuf::Error),
    #[error("a worker of the shim ended without a result: {0}")]
    Worker(#[from] tokio::task::JoinError),
}

impl Error {
    /// What containerd is told.
    fn code(&self) -> Code {
        match self {
            Error::NoTask { .. } | Error::NoProcess { .. } | Error::Finished => Code::NOT_FOUND,
            Error::Exists { .. } => Code::ALREADY_EXISTS,
            Error::State { .. } => Code::FAILED_PRECONDITION,
            Error::Unsupported { .. } => Code::UNIMPLEMENTED,
            Error::Signal { .. } => Code::INVALID_ARGUMENT,
            Error::Abandoned { .. } => Code::CANCELLED,
            Error::Plan(error) => match error.kind() {
                ErrorKind::InvalidArgument => Code::INVALID_ARGUMENT,
                ErrorKind::NotFound => Code::NOT_FOUND,
                ErrorKind::Unimplemented => Code::UNIMPLEMENTED,
                ErrorKind::FailedPrecondition => Code::FAILED_PRECONDITION,
            },
            Error::Bundle(BundleError::Spec { .. } | BundleError::Relative(_)) => {
                Code::INVALID_ARGUMENT
            }
            Error::Artifact(error) if error.refusal().is_some() => Code::INVALID_ARGUMENT,
            Error::Stdio(error) if error.is_unsupported() => Code::UNIMPLEMENTED,
            Error::Mount(error) if error.is_unsupported() => Code::UNIMPLEMENTED,
            Error::Policy(_)
            | Error::Artifact(_)
            | Error::Runner(_)
            | Error::Bundle(_)
            | Error::Mount(_)
            | Error::Stdio(_)
            | Error::Cgroup(_)
            | Error::Process { .. }
            | Error::Locate(_)
            | Error::Unkillable { .. }
            | Error::Encode(_)
            | Error::Worker(_) => Code::UNKNOWN,
        }
    }
}

impl From<Error> for ttrpc::Error {
    fn from(error: Error) -> Self {
        let code = error.code();
        let text = match class(code) {
            Some(class) => format!("{}: {class}", with_causes(&error)),
            None => with_causes(&error),
        };
        ttrpc::Error::RpcStatus(ttrpc::get_status(code, text))
    }
}

/// The words that containerd's own errors of this kind end with (`errdefs`). Its clients up to 1.7
/// add them by themselves if they are missing; later ones leave the text as it is.
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
    use super::*;

    fn status(error: Error) -> (Code, String) {
        match ttrpc::Error::from(error) {
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
    fn causes_are_told_once() {
        let source = || std::io::Error::other("disk on fire");
        let named = Error::Locate(source());
        assert_eq!(with_causes(&named).matches("disk on fire").count(), 1);
        let unnamed = Error::Artifact(ArtifactError::Read {
            name: "python.wasm".into(),
            source: source(),
        });
        assert_eq!(
            with_causes(&unnamed),
            "cannot read python.wasm: disk on fire"
        );
    }

    /// CRI takes NOT_FOUND for "the task exited" and drops a resize without a word.
    #[test]
    fn what_is_not_supported_is_unimplemented_in_words() {
        let (code, text) = status(Error::Unsupported {
            what: "update".into(),
            instead: "recreate the container",
        });
        assert_eq!(code, Code::UNIMPLEMENTED);
        assert_eq!(
            text,
            "update is not supported by io.containerd.wasm-interp.v1: recreate the container: \
             not implemented"
        );
    }
}
