//! Starts the runner with exactly the descriptors of the table in [`super`], used by
//! [`super::Runner`] alone.
//!
//! A leaf: the one place on the caller's side that runs code between fork and exec.
#![allow(unsafe_code)]

use std::{
    ffi::CString,
    fs::File,
    io::{Seek, Write},
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::{Command, Stdio},
};

use super::{Call, Request, RunnerError};

/// The descriptor that carries the request.
const REQUEST: RawFd = 3;
/// The descriptor that carries the answer.
const ANSWER: RawFd = 4;
/// The descriptor that carries the artifact.
const ARTIFACT: RawFd = 5;
/// The first descriptor that the runner must not see.
const BEYOND: RawFd = 6;

/// Starts `program` showing `argv` in process lists.
pub(super) fn spawn(
    program: &Path,
    argv: &[String],
    request: &Request<'_>,
    artifact: Option<BorrowedFd<'_>>,
    stdio: Option<[BorrowedFd<'_>; 3]>,
) -> Result<Call, RunnerError> {
    let request = request_file(request).map_err(RunnerError::Request)?;
    let (answer, answer_write) = pipe().map_err(RunnerError::Request)?;
    let artifact = artifact
        .map(|fd| fd.try_clone_to_owned())
        .transpose()
        .map_err(RunnerError::Request)?;

    let mut command = Command::new(program);
    if let Some((name, rest)) = argv.split_first() {
        command.arg0(name).args(rest);
    }
    command.env_clear();
    for (slot, place) in [Command::stdin, Command::stdout, Command::stderr]
        .into_iter()
        .enumerate()
    {
        let end = match stdio {
            Some(ends) => Stdio::from(
                ends[slot]
                    .try_clone_to_owned()
                    .map_err(RunnerError::Request)?,
            ),
            None => Stdio::null(),
        };
        place(&mut command, end);
    }

    // All sources above every target, so that no dup2 overwrites one that is still to be moved.
    let request = high(&request.into()).map_err(RunnerError::Request)?;
    let answer_write = high(&answer_write).map_err(RunnerError::Request)?;
    let artifact = artifact
        .as_ref()
        .map(high)
        .transpose()
        .map_err(RunnerError::Request)?;
    let moves = [
        Some((request.as_raw_fd(), REQUEST)),
        Some((answer_write.as_raw_fd(), ANSWER)),
        artifact.as_ref().map(|fd| (fd.as_raw_fd(), ARTIFACT)),
    ];
    let first_closed = if artifact.is_some() { BEYOND } else { ARTIFACT };
    let low = occupy_low().map_err(RunnerError::Request)?;

    // SAFETY: the closure runs in the child between fork and exec and makes only system calls that
    // are async-signal-safe, on values copied into it before the fork; it does not allocate.
    unsafe {
        command.pre_exec(move || {
            for (from, to) in moves.into_iter().flatten() {
                if libc::dup2(from, to) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            close_on_exec_from(first_closed)
        });
    }
    let spawned = command.spawn();
    drop(low);
    let child = spawned.map_err(|source| RunnerError::Spawn {
        program: program.to_owned(),
        source,
    })?;
    Ok(Call {
        child,
        answer: File::from(answer),
    })
}

/// The request as a file in memory: unlike a pipe it takes any size without a second thread.
fn request_file(request: &Request<'_>) -> std::io::Result<File> {
    let name = CString::default();
    // SAFETY: `name` is a valid C string for the length of the call.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    let mut file = unsafe { File::from_raw_fd(fd) };
    file.write_all(&serde_json::to_vec(request)?)?;
    file.rewind()?;
    Ok(file)
}

fn pipe() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for the two descriptors that the call writes.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: both descriptors are new and owned by nobody else.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// A close-on-exec duplicate that lies beyond all targets.
fn high(fd: &OwnedFd) -> std::io::Result<OwnedFd> {
    duplicate_from(fd, BEYOND)
}

fn duplicate_from(fd: &OwnedFd, lowest: RawFd) -> std::io::Result<OwnedFd> {
    // SAFETY: `fd` is open; F_DUPFD_CLOEXEC makes a new descriptor and touches no memory.
    let duplicate = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest) };
    if duplicate < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(duplicate) })
}

/// Occupies the numbers 3 to 5 while a child is made: the standard library reports a failed exec
/// through a pipe of its own, which must not lie where the child's descriptors go.
fn occupy_low() -> std::io::Result<Vec<OwnedFd>> {
    let null = OwnedFd::from(File::open("/dev/null")?);
    let mut low = Vec::new();
    loop {
        let fd = duplicate_from(&null, REQUEST)?;
        if fd.as_raw_fd() >= BEYOND {
            break;
        }
        low.push(fd);
    }
    if (REQUEST..BEYOND).contains(&null.as_raw_fd()) {
        low.push(null);
    }
    Ok(low)
}

/// Marks all descriptors from `first` on close-on-exec. Async-signal-safe.
fn close_on_exec_from(first: RawFd) -> std::io::Result<()> {
    // SAFETY: close_range with this flag changes descriptor flags only.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if done == 0 {
        return Ok(());
    }
    // Before Linux 5.11. Everything that we and the standard library open is close-on-exec
    // anyway; this catches what a parent left to us.
    for fd in first..4096 {
        // SAFETY: F_SETFD on a descriptor that is not open fails and changes nothing.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}
