//! The inherited descriptors: the request, the response, and what came with the request.
//!
//! Used by `main`, which passes them to the verbs. The table is in
//! `wasm_interp_runner_client`.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{FromRawFd, OwnedFd, RawFd},
    process::ExitCode,
};

use wasm_interp_runner_client::{
    Request, Response,
    descriptors::{
        ARTIFACT, CEILING, CONSOLE, HANDOVER, INIT, REFUSALS, REQUEST, RESPONSE, RUNNER,
        TERMINATION_LOG,
    },
};

/// The caller did not keep to the protocol.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error(
        "descriptor {0} is not open: only the shim and `wasm-interp run` can start this program; \
         use `wasm-interp run` by hand"
    )]
    NotInherited(RawFd),
    #[error("cannot read the request: {0}")]
    Read(#[source] std::io::Error),
    #[error("cannot parse the request: {0}; install all executables from one release")]
    Parse(#[source] serde_json::Error),
}

/// The request, the response, and the descriptors that came with them.
pub(crate) struct Channel {
    request: File,
    response: File,
    passed: PassedFds,
}

/// The descriptors that a caller passes for a container. Taken before this process opens a file, which
/// could otherwise get the same number.
#[derive(Debug, Default)]
pub(crate) struct PassedFds {
    artifact: Option<File>,
    /// The termination log, if the container has one.
    pub(crate) reasons: Option<File>,
    init: Option<File>,
    handover: Option<File>,
    /// The ceiling of the guest's memory, if it may change.
    pub(crate) ceiling: Option<File>,
    /// If the streams are a terminal: where the master of one of the container's own goes.
    pub(crate) console: Option<File>,
    /// Where the caller reads what a guest is refused, if it has a log.
    pub(crate) refusals: Option<OwnedFd>,
}

impl PassedFds {
    /// The artifact of a Wasm container.
    pub(crate) fn artifact(&mut self) -> Result<File, WireError> {
        self.artifact
            .take()
            .ok_or(WireError::NotInherited(ARTIFACT))
    }

    /// The pidfd of a running container's init process.
    pub(crate) fn init(&mut self) -> Result<File, WireError> {
        self.init.take().ok_or(WireError::NotInherited(INIT))
    }

    /// The socket by which the interpreter of a further process is handed over.
    pub(crate) fn handover(&mut self) -> Result<File, WireError> {
        self.handover
            .take()
            .ok_or(WireError::NotInherited(HANDOVER))
    }
}

impl Channel {
    /// Takes over the descriptors that the caller has passed.
    pub(crate) fn inherited() -> Result<Self, WireError> {
        drop(inherited(RUNNER));
        Ok(Self {
            request: inherited(REQUEST)?,
            response: inherited(RESPONSE)?,
            passed: PassedFds {
                artifact: inherited(ARTIFACT).ok(),
                reasons: inherited(TERMINATION_LOG).ok(),
                init: inherited(INIT).ok(),
                handover: inherited(HANDOVER).ok(),
                ceiling: inherited(CEILING).ok(),
                console: inherited(CONSOLE).ok(),
                refusals: inherited(REFUSALS).ok().map(OwnedFd::from),
            },
        })
    }

    /// The descriptors that came besides the request. Empty at the second call.
    pub(crate) fn passed(&mut self) -> PassedFds {
        std::mem::take(&mut self.passed)
    }

    /// Reads the request.
    pub(crate) fn request(&mut self) -> Result<Request<'static>, WireError> {
        let mut text = Vec::new();
        self.request
            .read_to_end(&mut text)
            .map_err(WireError::Read)?;
        serde_json::from_slice(&text).map_err(WireError::Parse)
    }

    /// Sends the response. The exit code tells a caller that reads only the code of a failure.
    pub(crate) fn respond(mut self, response: &Response) -> ExitCode {
        let failed = matches!(response, Response::Failed { .. });
        let mut line = match serde_json::to_vec(response) {
            Ok(line) => line,
            Err(error) => {
                eprintln!("wasm-interp-runner: cannot write the response: {error}");
                return ExitCode::from(2);
            }
        };
        line.push(b'\n');
        if let Err(error) = self.response.write_all(&line) {
            eprintln!("wasm-interp-runner: cannot write the response: {error}");
            return ExitCode::from(2);
        }
        ExitCode::from(u8::from(failed))
    }
}

fn inherited(fd: RawFd) -> Result<File, WireError> {
    // SAFETY: F_SETFD on a descriptor that is not open fails and changes nothing.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(WireError::NotInherited(fd));
    }
    // SAFETY: the descriptor is open, and by the contract with the caller it is ours alone. Each
    // of them is taken at most once: `inherited` is called by `Channel::inherited` alone, which
    // runs once in the life of this process.
    Ok(unsafe { File::from_raw_fd(fd) })
}
