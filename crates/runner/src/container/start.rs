//! `start`: lets the created container run.
#![forbid(unsafe_code)]

use std::path::Path;

use libcontainer::container::{Container, ContainerStatus};

use super::{StateDirectory, VerbError};
use crate::diagnostics::Diagnostics;

/// Lets the init process go on and runs the poststart hooks.
pub(crate) fn start(id: &str, state: &Path) -> Result<(), VerbError> {
    let diagnostics = Diagnostics::collect().map_err(VerbError::Setup)?;
    let failed = |reason| VerbError::Start {
        id: id.to_owned(),
        reason,
    };
    let mut container = Container::load(StateDirectory(state).container(id))
        .map_err(|e| failed(diagnostics.explain(&e)))?;
    container
        .refresh_status()
        .map_err(|e| failed(diagnostics.explain(&e)))?;
    match container.status() {
        ContainerStatus::Created => {}
        ContainerStatus::Stopped => {
            return Err(failed(
                "it has already ended; delete it and create it again".to_owned(),
            ));
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
