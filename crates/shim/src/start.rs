//! The `start` action: answers with the address of this container's server.
//!
//! The socket is made here and handed to the server as its standard input. It listens before the
//! server has even been loaded, so containerd's connection waits in the backlog and nobody polls:
//! the answer costs one exec.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::args::Flags;
use crate::bootstrap::{self, BootstrapError, Environment, StartRequest};
use crate::bundle::{self, BundleError};
use crate::socket::{Address, Made, SocketError};

/// As containerd's own shims bound it.
const MAX_INPUT: u64 = 10 << 20;

/// Score at which the kernel's OOM killer prefers a process most.
const OOM_SCORE_MAX: i32 = 1000;

#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("read bootstrap parameters from stdin: {0}")]
    Input(#[source] io::Error),
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("write {path}: {source}")]
    Write {
        path: &'static str,
        source: io::Error,
    },
    #[error("start the shim's server: {0}")]
    Spawn(#[source] io::Error),
    #[error("answer containerd: {0}")]
    Answer(#[source] io::Error),
}

/// Starts a server, or finds the one of this container's group, and prints its address.
pub(crate) fn run(flags: &Flags) -> Result<(), StartError> {
    let request = bootstrap::parse(&read_input()?, flags, Environment::current())?;
    let group = bundle::group(&request.id)?;
    let address = Address::new(
        &request.socket_dir,
        &request.grpc_address,
        &request.namespace,
        &group,
    );
    let made = address.listen()?;
    if let Err(error) = announce_and_spawn(&request, &address, made) {
        // Nothing is served there: leave nothing behind.
        if !address.answers() {
            address.remove()?;
        }
        return Err(error);
    }
    let answer = bootstrap::encode(address.as_str(), request.reply)?;
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(&answer)
        .and_then(|()| stdout.flush())
        .map_err(StartError::Answer)
}

fn announce_and_spawn(
    request: &StartRequest,
    address: &Address,
    made: Made,
) -> Result<(), StartError> {
    // containerd 1.x finds the server again by this file after a restart; `delete` finds the
    // socket by it.
    bundle::write_address(address.as_str())?;
    match made {
        Made::Served => Ok(()),
        Made::Listener(listener) => spawn(request, address, listener.into()),
    }
}

fn spawn(request: &StartRequest, address: &Address, listener: OwnedFd) -> Result<(), StartError> {
    // The server should die before containerd does. It inherits the score from here.
    raise_oom_score()?;
    // By this link an upgrade of the executable in between does not matter.
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
        // containerd reads our output to its end: the server must not hold it.
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if request.debug {
        command.arg("-debug");
    }
    command.spawn().map_err(StartError::Spawn)?;
    Ok(())
}

fn read_input() -> Result<Vec<u8>, StartError> {
    let stdin = io::stdin();
    let mut input = Vec::new();
    // Started by hand, nothing is piped in.
    if !stdin.is_terminal() {
        stdin
            .lock()
            .take(MAX_INPUT)
            .read_to_end(&mut input)
            .map_err(StartError::Input)?;
    }
    Ok(input)
}

/// One more than containerd's own.
fn raise_oom_score() -> Result<(), StartError> {
    const OWN: &str = "/proc/self/oom_score_adj";
    let parent = format!("/proc/{}/oom_score_adj", nix::unistd::getppid());
    let score = fs::read_to_string(parent)
        .ok()
        .and_then(|text| text.trim().parse::<i32>().ok());
    // A parent that is gone has no score to stay above.
    let Some(score) = score else { return Ok(()) };
    fs::write(OWN, (score + 1).min(OOM_SCORE_MAX).to_string())
        .map_err(|source| StartError::Write { path: OWN, source })
}
