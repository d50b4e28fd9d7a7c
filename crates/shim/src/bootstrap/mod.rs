//! The `start` action: prints the address of this container's server. Called by `main`.
//!
//! It makes the socket and passes it to the server as standard input. The socket listens before
//! the server is loaded, so containerd's connection waits in the backlog, and a start costs one
//! exec and no polling. It knows no task.
//!
//! If this action is killed before its response (by containerd, when its client gives up), containerd knows of no server, and
//! no client connects: the server ends by itself.
#![forbid(unsafe_code)]

mod request;
mod response;

use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use self::request::{BootstrapRequest, Environment, RequestError};
use self::response::ResponseError;
use crate::args::Flags;
use crate::bundle::{self, BundleError};
use crate::cgroup::{self, CgroupError};
use crate::socket::{Address, Listening, SocketError};

/// The same limit as in containerd's shims.
const MAX_INPUT: u64 = 10 << 20;

/// The highest score: the kernel's OOM killer takes this process first.
const OOM_SCORE_MAX: i32 = 1000;

#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("cannot read bootstrap parameters from stdin: {0}; redirect stdin from /dev/null")]
    Input(#[source] io::Error),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Response(#[from] ResponseError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("cannot write {path}: {source}; run containerd as root")]
    Write {
        path: &'static str,
        source: io::Error,
    },
    #[error("option ShimCgroup: {0}")]
    Cgroup(#[from] CgroupError),
    #[error("cannot start the shim's server: {0}; look at the limits of processes and memory")]
    Spawn(#[source] io::Error),
    #[error("cannot write the response to stdout: {0}; containerd reads it: look in its log")]
    Respond(#[source] io::Error),
}

/// Prints the address of the server of this container's group. Starts one if there is none.
pub(crate) fn run(flags: &Flags) -> Result<(), StartError> {
    let request = request::parse(&read_input()?, flags, Environment::current())?;
    let group = bundle::group(&request.id)?;
    let address = Address::new(
        &request.socket_dir,
        &request.grpc_address,
        &request.namespace,
        &group,
    );
    let listening = address.listen()?;
    let spawned = announce_and_spawn(&request, &address, listening);
    if spawned.is_err() && !address.is_served() {
        address.remove()?;
    }
    spawned?;
    let response = response::encode(address.as_str(), request.response)?;
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(&response)
        .and_then(|()| stdout.flush())
        .map_err(StartError::Respond)
}

fn announce_and_spawn(
    request: &BootstrapRequest,
    address: &Address,
    listening: Listening,
) -> Result<(), StartError> {
    // By this file, containerd 1.x finds the server after a restart, and the delete action finds
    // the socket.
    bundle::write_address(address.as_str())?;
    match listening {
        Listening::Served => Ok(()),
        Listening::Listener(listener) => spawn(request, address, listener.into()),
    }
}

fn spawn(
    request: &BootstrapRequest,
    address: &Address,
    listener: OwnedFd,
) -> Result<(), StartError> {
    // Out of memory, the kernel should end the server before containerd. It inherits the score.
    raise_oom_score()?;
    // This link leads to the running executable, even if an upgrade has replaced its file.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0(std::env::args_os().next().unwrap_or_default())
        .args(["-namespace", &request.namespace])
        .args(["-id", &request.id])
        .args(["-address", &request.grpc_address])
        .args(["-socket", address.as_str()])
        .env("TTRPC_ADDRESS", &request.ttrpc_address)
        .process_group(0)
        .stdin(Stdio::from(listener))
        // containerd reads our output to its end, so the server must not hold it open.
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if request.debug {
        command.arg("-debug");
    }
    let mut server = command.spawn().map_err(StartError::Spawn)?;
    if let Some(path) = &request.shim_cgroup
        && let Err(error) = cgroup::add_to_named(path, server.id())
    {
        // No one knows of it yet.
        server.kill().map_err(StartError::Spawn)?;
        return Err(error.into());
    }
    Ok(())
}

fn read_input() -> Result<Vec<u8>, StartError> {
    let stdin = io::stdin();
    let mut input = Vec::new();
    // On a terminal this would wait for a person.
    if !stdin.is_terminal() {
        stdin
            .lock()
            .take(MAX_INPUT)
            .read_to_end(&mut input)
            .map_err(StartError::Input)?;
    }
    Ok(input)
}

/// Sets the score to one more than containerd's.
fn raise_oom_score() -> Result<(), StartError> {
    const OWN: &str = "/proc/self/oom_score_adj";
    let parent = format!("/proc/{}/oom_score_adj", nix::unistd::getppid());
    let score = fs::read_to_string(parent)
        .ok()
        .and_then(|text| text.trim().parse::<i32>().ok());
    // The parent has ended: there is no score to compare with.
    let Some(score) = score else { return Ok(()) };
    fs::write(OWN, (score + 1).min(OOM_SCORE_MAX).to_string())
        .map_err(|source| StartError::Write { path: OWN, source })
}
