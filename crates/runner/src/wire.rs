//! The inherited descriptors 3 to 7: the request, the answer, the artifact, the reasons and the
//! runner itself.
//!
//! Used by `main`, which hands artifact and reasons to `container::create`. The table is in
//! `wasm_interp_runner::client`.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{FromRawFd, RawFd},
    process::ExitCode,
};

use wasm_interp_runner::client::{Answer, Request};

/// Descriptor of the request.
const REQUEST: RawFd = 3;
/// Descriptor of the answer; the container's init process has to close it.
pub(crate) const ANSWER: RawFd = 4;
/// Descriptor of the artifact, which stays open in the container.
pub(crate) const ARTIFACT: RawFd = 5;
/// Descriptor of the file for reasons, which stays open in the container too.
pub(crate) const REASONS: RawFd = 6;
/// Descriptor by which this program was executed, of no further use.
const PROGRAM: RawFd = 7;

/// The caller did not speak as a caller does.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error(
        "descriptor {0} is not open: this program is started by the shim and by `wasm-interp run`, \
         use the latter to run something by hand"
    )]
    NotInherited(RawFd),
    #[error("read the request: {0}")]
    Read(#[source] std::io::Error),
    #[error(
        "understand the request ({0}): the executables of wasm-interp are of different versions"
    )]
    Parse(#[source] serde_json::Error),
}

/// The two ends of a conversation with the caller, and what came with it.
pub(crate) struct Channel {
    request: File,
    answer: File,
    gifts: Gifts,
}

/// What a caller passes on for a container. Taken before this process opens anything itself, whose
/// number could be the same.
#[derive(Debug, Default)]
pub(crate) struct Gifts {
    artifact: Option<File>,
    /// For the reason of the guest's end, if the caller wants to have it noted.
    pub(crate) reasons: Option<File>,
}

impl Gifts {
    /// The artifact of a Wasm container.
    pub(crate) fn artifact(&mut self) -> Result<File, WireError> {
        self.artifact
            .take()
            .ok_or(WireError::NotInherited(ARTIFACT))
    }
}

impl Channel {
    /// Takes over the descriptors that the caller has passed.
    pub(crate) fn inherited() -> Result<Self, WireError> {
        drop(inherited(PROGRAM));
        Ok(Self {
            request: inherited(REQUEST)?,
            answer: inherited(ANSWER)?,
            gifts: Gifts {
                artifact: inherited(ARTIFACT).ok(),
                reasons: inherited(REASONS).ok(),
            },
        })
    }

    /// What came besides the request, once.
    pub(crate) fn gifts(&mut self) -> Gifts {
        std::mem::take(&mut self.gifts)
    }

    /// Reads what is asked.
    pub(crate) fn request(&mut self) -> Result<Request<'static>, WireError> {
        let mut text = Vec::new();
        self.request
            .read_to_end(&mut text)
            .map_err(WireError::Read)?;
        serde_json::from_slice(&text).map_err(WireError::Parse)
    }

    /// Says how it went. The exit code repeats it for those who only look there.
    pub(crate) fn answer(mut self, answer: &Answer) -> ExitCode {
        let failed = matches!(answer, Answer::Failed { .. });
        let mut line = match serde_json::to_vec(answer) {
            Ok(line) => line,
            Err(error) => {
                eprintln!("wasm-interp-runner: write the answer: {error}");
                return ExitCode::from(2);
            }
        };
        line.push(b'\n');
        if let Err(error) = self.answer.write_all(&line) {
            eprintln!("wasm-interp-runner: write the answer: {error}");
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
    // of the five is taken at most once: `inherited` is called by `Channel::inherited` alone, which
    // runs once in the life of this process.
    Ok(unsafe { File::from_raw_fd(fd) })
}
