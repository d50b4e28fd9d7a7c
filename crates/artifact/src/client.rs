//! Starts a publisher and waits for its result, in the process of the caller. The compile goes on
//! without this process once the request is sent.
#![forbid(unsafe_code)]

use std::env;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use wasm_interp_policy::CachePolicy;

use crate::error::{ArtifactError, CompileFailure};
use crate::key::Key;
use crate::protocol::{self, Destination, PublishRequest, PublishResponse, WhenFull};
use crate::spawn::{Spawn, Spawned};
use crate::stages::CompilerStage;
use crate::store::dir::StoreDir;
use crate::store::lock::KeyLock;

/// How often a waiting caller gets the stage, in milliseconds.
const TICK: u16 = 100;

/// The file name of the executable that compiles. It is in the folder of every other executable of
/// its release.
const COMPILER: &str = "wasm-interp-compiler";

/// Path of the compiler of this release: beside the executable of this process.
///
/// # Errors
/// If `/proc/self/exe` cannot be read.
pub fn compiler_beside_current_exe() -> io::Result<PathBuf> {
    Ok(env::current_exe()?.with_file_name(COMPILER))
}

/// The module to compile.
#[derive(Clone, Copy, Debug)]
pub struct CodeRequest<'a> {
    /// The open module.
    pub wasm: &'a File,
    /// The name of the module in errors and logs.
    pub name: &'a str,
    /// The executable that compiles.
    pub compiler: &'a Path,
    /// Bounds of the cache and of the compile.
    pub policy: CachePolicy,
}

/// The stage of a compile that a caller waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompileStage {
    /// Another process compiles the same module.
    Waiting,
    /// Other compiles have taken all slots.
    Queued,
    /// The compiler runs.
    Compiling,
}

/// Where the publisher should put the code.
pub(crate) enum Output<'a> {
    Store(&'a StoreDir, KeyLock),
    Memory { reason: String },
}

/// Where the publisher has put the code.
pub(crate) enum CompiledCode {
    Published {
        seconds: f64,
    },
    InMemory {
        file: File,
        seconds: f64,
        reason: String,
    },
}

/// Compiles a module with a publisher. Calls `on_stage` while it waits.
pub(crate) fn compile(
    request: &CodeRequest<'_>,
    key: &Key,
    spawn: &dyn Spawn,
    output: Output<'_>,
    on_stage: &mut dyn FnMut(CompileStage),
) -> Result<CompiledCode, ArtifactError> {
    let not_started = |source| ArtifactError::Start {
        name: request.name.to_owned(),
        compiler: request.compiler.to_owned(),
        source,
    };
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|error| not_started(error.into()))?;
    let mut publisher = Command::new(request.compiler);
    publisher
        .args(CompilerStage::Publish.arguments())
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = spawn.spawn(&mut publisher).map_err(not_started)?;
    // The command holds the publisher's end of the socket.
    drop(publisher);

    let (destination, lock) = match output {
        Output::Store(dir, lock) => {
            let path = dir.path().to_owned();
            (Destination::Store { path }, Some(lock))
        }
        Output::Memory { reason } => (Destination::Memory { reason }, None),
    };
    let message = PublishRequest {
        key: key.clone(),
        name: request.name.to_owned(),
        policy: request.policy,
        destination,
        log_level: log::max_level(),
    };
    let mut descriptors = vec![request.wasm.as_fd()];
    descriptors.extend(lock.as_ref().map(|lock| lock.file().as_fd()));
    let sent = protocol::send(ours.as_fd(), &message, &descriptors, WhenFull::Wait);
    // The publisher has its own copy, so the lock lasts as long as the compile.
    drop(lock);
    let result = sent.and_then(|()| wait(ours.as_fd(), request.name, on_stage));
    drop(ours);
    let status = reap(child);
    let no_response = |how| ArtifactError::NoResponse {
        name: request.name.to_owned(),
        compiler: request.compiler.to_owned(),
        how,
    };
    let failed = |failure| ArtifactError::Compile {
        name: request.name.to_owned(),
        failure,
    };
    match result {
        Ok(Some((PublishResponse::Published { seconds }, _))) => {
            Ok(CompiledCode::Published { seconds })
        }
        Ok(Some((PublishResponse::InMemory { seconds, reason }, Some(file)))) => {
            Ok(CompiledCode::InMemory {
                file,
                seconds,
                reason,
            })
        }
        Ok(Some((PublishResponse::Failed { failure }, _))) => Err(failed(failure)),
        Ok(Some(_)) => Err(no_response("its result came without the code".to_owned())),
        Ok(None) => Err(no_response(status)),
        Err(error) => Err(failed(CompileFailure::system(
            "cannot exchange messages with the compiler",
            &error,
        ))),
    }
}

/// Waits for the publisher's last message, and writes its log lines to the log of this process.
fn wait(
    socket: BorrowedFd<'_>,
    module: &str,
    on_stage: &mut dyn FnMut(CompileStage),
) -> io::Result<Option<(PublishResponse, Option<File>)>> {
    let mut stage = CompileStage::Queued;
    loop {
        on_stage(stage);
        let mut sources = [PollFd::new(socket, PollFlags::POLLIN)];
        match poll(&mut sources, PollTimeout::from(TICK)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
            other => other?,
        };
        match protocol::receive(socket)? {
            Some((PublishResponse::Compiling, _)) => stage = CompileStage::Compiling,
            Some((PublishResponse::Log { level, message }, _)) => {
                log::log!(level, module; "{message}");
            }
            Some((response, descriptors)) => {
                let code = descriptors.into_iter().next().map(File::from);
                return Ok(Some((response, code)));
            }
            None => return Ok(None),
        }
    }
}

/// Waits until the child ends, and describes how it ended.
fn reap(child: Box<dyn Spawned>) -> String {
    match child.wait() {
        Ok(status) => status.to_string(),
        Err(error) => format!("its exit status is not known: {error}"),
    }
}
