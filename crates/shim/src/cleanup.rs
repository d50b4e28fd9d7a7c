//! The `delete` action: removes what is left of a container whose server is dead. Called by `main`.
//!
//! containerd calls it after every lost connection to a shim, also when the shim has ended in order.
//! So there is mostly nothing to do, and that must be quick. If the pod's server still lives, it
//! serves other containers, and this leaves them and the socket alone.
//!
//! If the server is dead, the pod's other containers have no server either. They are removed too,
//! because containerd 2.3 calls this action only for the sandbox (decision 0023). Other versions call it
//! for each container, so several of these processes may remove one container at the same time. The
//! runner lets them wait for each other.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::path::PathBuf;
use std::thread;
use std::time::SystemTime;

use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::{self, Message as _, MessageField};
use wasm_interp_runner_client::Runner;
use wasm_interp_workload::with_causes;

use crate::args::Flags;
use crate::bundle::{Bundle, BundleError};
use crate::clock;
use crate::error::Error;
use crate::launch::{self, Removal};

/// The exit status of a container whose own is unknown, because it is killed here.
const KILLED: u32 = 128 + libc::SIGKILL.unsigned_abs();

#[derive(Debug, thiserror::Error)]
pub(crate) enum CleanupError {
    #[error("cannot find the bundle: {0}; give -bundle")]
    WorkingDirectory(#[source] io::Error),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("cannot remove container {id:?}: {reason}")]
    Remove { id: String, reason: String },
    #[error("cannot encode the response to delete: {0}; report this as a bug")]
    Encode(#[from] protobuf::Error),
    #[error("cannot write the response to stdout: {0}; containerd reads it: look in its log")]
    Respond(#[source] io::Error),
}

/// Removes the container, and writes the response.
pub(crate) fn run(flags: &Flags) -> Result<(), CleanupError> {
    let bundle = bundle(flags)?;
    let pid = bundle.pid();
    let runner = Runner::beside_current_exe().map_err(|error| failed(&flags.id, &error.into()))?;
    // Listed before the server is probed, so that a later server has made none of them.
    let siblings = bundle.siblings();
    let dead_address = bundle.address().filter(|address| !address.is_served());
    let members = match siblings {
        // Their files are not read, because every delete waits for this.
        _ if dead_address.is_none() => Vec::new(),
        Ok(siblings) => members(siblings, &flags.id, &mut |skipped| eprintln!("{skipped}")),
        Err(error) => {
            eprintln!("{error}");
            Vec::new()
        }
    };
    let removed = thread::scope(|scope| {
        for (id, member) in &members {
            let runner = &runner;
            // At the same time, because containerd waits for five seconds only.
            scope.spawn(move || remove_member(runner, id, member));
        }
        remove(&runner, &flags.id, &bundle)
    });
    removed?;
    if let Some(address) = dead_address
        && let Err(error) = address.remove()
    {
        eprintln!("{error}");
    }
    let response = DeleteResponse {
        pid: pid.unwrap_or(0).unsigned_abs(),
        exit_status: KILLED,
        exited_at: MessageField::some(clock::timestamp(SystemTime::now())),
        ..DeleteResponse::default()
    };
    io::stdout()
        .write_all(&response.write_to_bytes()?)
        .map_err(CleanupError::Respond)
}

/// Those of the bundles whose containers use the server of the container `id`. A bundle that cannot be
/// read does not keep the others. `skip` gets a line about it.
fn members(
    siblings: Vec<(String, Bundle)>,
    id: &str,
    skip: &mut dyn FnMut(String),
) -> Vec<(String, Bundle)> {
    let uses_server = |(own, sibling): &(String, Bundle)| {
        sibling.uses_server_of(id, own).unwrap_or_else(|error| {
            skip(format!(
                "cannot find out which server container {own:?} uses: {error}; the container is \
                 not removed"
            ));
            false
        })
    };
    siblings.into_iter().filter(uses_server).collect()
}

/// Removes a container. containerd logs stderr as a warning.
fn remove(runner: &Runner, id: &str, bundle: &Bundle) -> Result<(), CleanupError> {
    let warnings = launch::remove(runner, id, bundle, Removal::Forced, None)
        .map_err(|error| failed(id, &error))?;
    for warning in warnings {
        eprintln!("{id}: {warning}");
    }
    Ok(())
}

/// Removes another container of the dead server. A failure does not keep the sandbox.
fn remove_member(runner: &Runner, id: &str, bundle: &Bundle) {
    // A new server may have been started for it meanwhile.
    let served = bundle.address().is_some_and(|address| address.is_served());
    if !served && let Err(error) = remove(runner, id, bundle) {
        eprintln!("{error}");
    }
}

fn failed(id: &str, error: &Error) -> CleanupError {
    CleanupError::Remove {
        id: id.to_owned(),
        reason: with_causes(error),
    }
}

/// The container's bundle: `-bundle`, or else the folder with its id beside the working directory,
/// which is a bundle too.
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn sibling_that_cannot_be_read_is_named_and_does_not_keep_the_others() {
        let folder = tempfile::tempdir().expect("tempdir");
        let make = |id: &str, config: &str| {
            let path = folder.path().join(id);
            fs::create_dir_all(path.join("runner")).expect("mkdir");
            fs::write(path.join("config.json"), config).expect("write");
            Bundle::new(path.to_str().expect("utf-8")).expect("absolute")
        };
        let of_the_pod = r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"pod"}}"#;
        let pod = make("pod", of_the_pod);
        make("a", of_the_pod);
        make("broken", "{");
        let odd = make("odd", "").path().join("config.json");
        fs::remove_file(&odd).expect("remove");
        fs::create_dir(&odd).expect("mkdir");
        make("z", of_the_pod);

        let mut skipped = Vec::new();
        let siblings = pod.siblings().expect("list");
        let members = members(siblings, "pod", &mut |line| skipped.push(line));
        let mut ids: Vec<_> = members.iter().map(|(id, _)| id.as_str()).collect();
        ids.sort_unstable();
        assert_eq!(ids, ["a", "z"]);
        skipped.sort();
        assert_eq!(skipped.len(), 2, "{skipped:?}");
        assert!(skipped[0].contains(r#""broken""#), "{skipped:?}");
        assert!(skipped[1].contains(r#""odd""#), "{skipped:?}");
    }
}
