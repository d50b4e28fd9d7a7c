//! Why a call of the runner failed.

use std::{path::PathBuf, process::ExitStatus};

/// File name of the runner. It is in the folder of the program that calls it.
pub const PROGRAM: &str = "wasm-interp-runner";
/// Why a call of the runner failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunnerError {
    /// The path of the calling program is unknown.
    #[error("cannot find {PROGRAM} beside this program: cannot read /proc/self/exe; mount /proc")]
    Locate(#[source] std::io::Error),
    /// The runner could not be started.
    #[error("cannot start {program}: {source}; install all executables of a release in one folder")]
    Spawn {
        /// The program that was tried.
        program: PathBuf,
        /// Why it did not start.
        source: std::io::Error,
    },
    /// The native code could not be protected from writes by the container.
    #[error(
        "cannot protect the native code from being changed by a container: {0}; run as root with \
         CAP_SYS_ADMIN on Linux 5.12 or later"
    )]
    Protect(#[source] std::io::Error),
    /// The request could not be sent.
    #[error("cannot send the request to the runner: {0}")]
    Request(#[source] std::io::Error),
    /// The runner ended without a response.
    #[error(
        "cannot {verb} the container: the runner ended without a response ({status}); look for an \
         out-of-memory kill in the log of the host's kernel"
    )]
    Died {
        /// The verb of the request.
        verb: &'static str,
        /// How it ended.
        status: ExitStatus,
    },
    /// The runner did not hand the interpreter over.
    #[error(
        "cannot receive the interpreter of a process from the runner: {0}; install all executables \
         from one release"
    )]
    Handover(#[source] std::io::Error),
    /// The response is not one of this version.
    #[error(
        "cannot {verb} the container: the runner's response is not valid ({detail}); install all \
         executables from one release"
    )]
    Garbled {
        /// The verb of the request.
        verb: &'static str,
        /// What is wrong with the response.
        detail: String,
    },
    /// The request failed, and the runner has removed what it had made.
    #[error("{reason}")]
    Failed {
        /// The runner's error.
        reason: String,
    },
}
