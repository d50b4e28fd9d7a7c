//! The `delete` action: removes what is left of a container whose server is gone.
//!
//! Called by containerd after every lost connection to a shim, which includes the orderly end of
//! one: mostly there is nothing to do, and that must be quick. The server of a pod may still live
//! and serve other containers; its socket is none of ours then.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::SystemTime;

use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::{self, Message as _, MessageField};
use wasm_interp_runner::client::Runner;
use wasm_interp_workload::with_causes;

use crate::args::Flags;
use crate::bundle::{Bundle, BundleError};
use crate::clock;
use crate::error::Error;
use crate::launch::{self, End};

/// What is said of a container whose own exit nobody saw: it has been killed.
const KILLED: u32 = 128 + libc::SIGKILL.unsigned_abs();

#[derive(Debug, thiserror::Error)]
pub(crate) enum CleanupError {
    #[error("find the bundle: {0}")]
    WorkingDirectory(#[source] io::Error),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("clean up after {id:?}: {reason}")]
    Remove { id: String, reason: String },
    #[error("encode the answer to delete: {0}")]
    Encode(#[from] protobuf::Error),
    #[error("answer containerd: {0}")]
    Answer(#[source] io::Error),
}

/// Cleans up and answers.
pub(crate) fn run(flags: &Flags) -> Result<(), CleanupError> {
    let bundle = bundle(flags)?;
    let failed = |error: &Error| CleanupError::Remove {
        id: flags.id.clone(),
        reason: with_causes(error),
    };
    let pid = bundle.pid();
    let runner = Runner::beside_current_exe().map_err(|error| failed(&error.into()))?;
    let warnings =
        launch::remove(&runner, &flags.id, &bundle, End::Force).map_err(|error| failed(&error))?;
    // containerd logs what we say on stderr as a warning.
    for warning in warnings {
        eprintln!("{warning}");
    }
    if let Some(address) = bundle.address().filter(|address| !address.answers())
        && let Err(error) = address.remove()
    {
        eprintln!("{error}");
    }
    let answer = DeleteResponse {
        pid: pid.unwrap_or(0).unsigned_abs(),
        exit_status: KILLED,
        exited_at: MessageField::some(clock::timestamp(SystemTime::now())),
        ..DeleteResponse::default()
    };
    io::stdout()
        .write_all(&answer.write_to_bytes()?)
        .map_err(CleanupError::Answer)
}

/// `-bundle`, else the working directory: the container's own bundle, or a sibling of it.
fn bundle(flags: &Flags) -> Result<Bundle, CleanupError> {
    let path = if flags.bundle.is_empty() {
        let current = std::env::current_dir().map_err(CleanupError::WorkingDirectory)?;
        match current.parent() {
            Some(parent) => parent.join(&flags.id),
            None => current,
        }
    } else {
        PathBuf::from(&flags.bundle)
    };
    Ok(Bundle::new(&path.to_string_lossy())?)
}
