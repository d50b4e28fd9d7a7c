//! Removes a container. Called by [`super::Launcher`] and by `cleanup`.
#![forbid(unsafe_code)]

use wasm_interp_mounts::unmount_all;
use wasm_interp_runner_client::Runner;

use crate::bundle::Bundle;
use crate::error::Error;
use crate::reaper::Reaper;

/// What happens to processes of the container that still run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// The removal fails.
    OfEnded,
    /// They are killed.
    Forced,
}

/// Removes a container's processes, cgroup, state, mounts and files. It succeeds if they do not exist.
/// If one step fails, the others are still tried, and the first error is returned. Returns warnings. `reaper` is
/// that of this process, if it has one.
pub(crate) fn remove(
    runner: &Runner,
    id: &str,
    bundle: &Bundle,
    removal: Removal,
    reaper: Option<&Reaper>,
) -> Result<Vec<String>, Error> {
    // Without a state no runner has created a container, and there is no need to start one.
    let removed = if bundle.state().exists() {
        let mut call = reaper.map(Reaper::runner_call);
        let mut spawned = |pid| {
            if let Some(call) = &mut call {
                call.spawned(pid);
            }
        };
        let force = removal == Removal::Forced;
        runner
            .delete(id, &bundle.state(), force, &mut spawned)
            .map_err(Error::from)
    } else {
        Ok(Vec::new())
    };
    let unmounted = unmount_all(&bundle.rootfs()).map_err(Error::from);
    let warnings = removed?;
    unmounted?;
    bundle.remove_own()?;
    Ok(warnings)
}
