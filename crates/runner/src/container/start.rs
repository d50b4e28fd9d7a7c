//! `start`: the created container runs.
#![forbid(unsafe_code)]

use std::path::Path;

use libcontainer::container::{Container, ContainerStatus};

use super::{Error, State};
use crate::diagnostics::Diagnostics;

/// Lets the init process go on and runs the poststart hooks.
pub(crate) fn start(id: &str, state: &Path) -> Result<(), Error> {
    let diagnostics = Diagnostics::collect().map_err(Error::Setup)?;
    let failed = |reason| Error::Start {
        id: id.to_owned(),
        reason,
    };
    let mut container =
        Container::load(State(state).container(id)).map_err(|e| failed(diagnostics.explain(&e)))?;
    container
        .refresh_status()
        .map_err(|e| failed(diagnostics.explain(&e)))?;
    match container.status() {
        ContainerStatus::Created => {}
        ContainerStatus::Stopped => {
            return Err(failed("it has already ended; create it anew".to_owned()));
        }
        status => {
            return Err(failed(format!(
                "it is {}; only a created container can be started, and only once",
                status.to_string().to_lowercase()
            )));
        }
    }
    container
        .start()
        .map_err(|e| failed(diagnostics.explain(&e)))
}
