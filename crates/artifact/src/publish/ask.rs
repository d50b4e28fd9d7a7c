//! Starts a publisher and waits for its word. In the asker's process: nothing here may matter to
//! the compile once the job is sent.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::wire::{self, Destination, Job, Report};
use crate::failure::{ArtifactError, Failure};
use crate::key::Key;
use crate::store::lock::KeyLock;
use crate::store::{Stage, StoreConfig, dir::StoreDir};

/// How often the asker looks up from waiting, in milliseconds.
const TICK: u16 = 100;

/// What is asked for.
pub(crate) struct Question<'a> {
    pub(crate) key: &'a Key,
    pub(crate) name: &'a str,
    pub(crate) wasm: &'a File,
    pub(crate) compiler: &'a Path,
    pub(crate) config: StoreConfig,
}

/// Where the code is to go.
pub(crate) enum Target<'a> {
    Store(&'a StoreDir, KeyLock),
    Memory { reason: String },
}

/// Where the code is.
pub(crate) enum Answer {
    Published {
        seconds: f64,
    },
    InMemory {
        file: File,
        seconds: f64,
        reason: String,
    },
}

/// Has a module compiled; `tick` is told how it goes.
pub(crate) fn ask(
    question: &Question<'_>,
    target: Target<'_>,
    tick: &mut dyn FnMut(Stage),
) -> Result<Answer, ArtifactError> {
    let start = |source| ArtifactError::Start {
        name: question.name.to_owned(),
        compiler: question.compiler.to_owned(),
        source,
    };
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .map_err(|error| start(error.into()))?;
    let child = Command::new(question.compiler)
        .arg("__publish")
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(start)?;

    let (store, lock) = match target {
        Target::Store(dir, lock) => (
            Destination::Store {
                path: dir.path().to_owned(),
            },
            Some(lock),
        ),
        Target::Memory { reason } => (Destination::Memory { reason }, None),
    };
    let job = Job {
        key: question.key.clone(),
        name: question.name.to_owned(),
        config: question.config,
        store,
    };
    let mut descriptors = vec![question.wasm.as_raw_fd()];
    descriptors.extend(lock.as_ref().map(|lock| lock.file().as_raw_fd()));
    let sent = wire::send(ours.as_fd(), &job, &descriptors);
    // The publisher has its own copy: from here on the lock is as long as the compile.
    drop(lock);
    let answer = sent.and_then(|()| wait(ours.as_fd(), tick));
    drop(ours);
    let how = reap(child);
    let lost = |how| ArtifactError::Lost {
        name: question.name.to_owned(),
        compiler: question.compiler.to_owned(),
        how,
    };
    let failed = |failure| ArtifactError::Compile {
        name: question.name.to_owned(),
        failure,
    };
    match answer {
        Ok(Some((Report::Published { seconds }, _))) => Ok(Answer::Published { seconds }),
        Ok(Some((Report::InMemory { seconds, reason }, Some(file)))) => Ok(Answer::InMemory {
            file,
            seconds,
            reason,
        }),
        Ok(Some((Report::Failed { failure }, _))) => Err(failed(failure)),
        Ok(Some(_)) => Err(lost("its last word makes no sense".to_owned())),
        Ok(None) => Err(lost(how)),
        Err(error) => Err(failed(Failure::system(
            "cannot talk to the compiler",
            &error,
        ))),
    }
}

/// Waits for the last word.
fn wait(
    socket: std::os::fd::BorrowedFd<'_>,
    tick: &mut dyn FnMut(Stage),
) -> io::Result<Option<(Report, Option<File>)>> {
    let mut stage = Stage::Queued;
    loop {
        tick(stage);
        let mut sources = [PollFd::new(socket, PollFlags::POLLIN)];
        match poll(&mut sources, PollTimeout::from(TICK)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
            other => other?,
        };
        match wire::receive(socket)? {
            Some((Report::Compiling, _)) => stage = Stage::Compiling,
            Some((report, descriptors)) => {
                return Ok(Some((
                    report,
                    descriptors.into_iter().next().map(File::from),
                )));
            }
            None => return Ok(None),
        }
    }
}

/// Ends the child's existence in the process table. Where somebody else in this process reaps all
/// children, the status is theirs.
fn reap(mut child: Child) -> String {
    match child.wait() {
        Ok(status) => status.to_string(),
        Err(_) => "its exit status is not known".to_owned(),
    }
}
