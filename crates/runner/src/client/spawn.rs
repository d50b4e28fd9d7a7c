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
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
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
/// The descriptor that carries the reason of an end.
const REASONS: RawFd = 6;
/// The descriptor of the runner's own executable.
const PROGRAM: RawFd = 7;
const PROGRAM_PATH: &str = "/proc/self/fd/7";
/// The first descriptor that the runner never sees.
const BEYOND: RawFd = 8;

/// What a call passes on besides its request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Passed<'a> {
    pub(super) stdio: Option<[BorrowedFd<'a>; 3]>,
    pub(super) artifact: Option<BorrowedFd<'a>>,
    pub(super) reasons: Option<BorrowedFd<'a>>,
}

/// Starts `program` showing `argv` in process lists.
pub(super) fn spawn(
    program: &Path,
    argv: &[String],
    request: &Request<'_>,
    passed: &Passed<'_>,
) -> Result<Call, RunnerError> {
    let request = request_file(request).map_err(RunnerError::Request)?;
    let (answer, answer_write) = pipe().map_err(RunnerError::Request)?;

    let sealed = sealed(program).map_err(|source| RunnerError::Spawn {
        program: program.to_owned(),
        source,
    })?;

    let mut command = Command::new(PROGRAM_PATH);
    if let Some((name, rest)) = argv.split_first() {
        command.arg0(name).args(rest);
    }
    command.env_clear();
    for (slot, place) in [Command::stdin, Command::stdout, Command::stderr]
        .into_iter()
        .enumerate()
    {
        let end = match passed.stdio {
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
    let moved = [
        (Some(request.as_fd()), REQUEST),
        (Some(answer_write.as_fd()), ANSWER),
        (passed.artifact, ARTIFACT),
        (passed.reasons, REASONS),
        (Some(sealed.as_fd()), PROGRAM),
    ]
    .into_iter()
    .filter_map(|(source, target)| Some((high(source?), target)))
    .map(|(source, target)| Ok((source?, target)))
    .collect::<std::io::Result<Vec<_>>>()
    .map_err(RunnerError::Request)?;
    let mut moves = [None; 5];
    for (slot, (source, target)) in moves.iter_mut().zip(&moved) {
        *slot = Some((source.as_raw_fd(), *target));
    }
    let low = occupy_low().map_err(RunnerError::Request)?;

    // SAFETY: the closure runs in the child between fork and exec and makes only system calls that
    // are async-signal-safe, on values copied into it before the fork; it does not allocate.
    unsafe {
        command.pre_exec(move || {
            // Before the moves, whose copies are open for the runner.
            close_on_exec_from(REQUEST)?;
            for (from, to) in moves.into_iter().flatten() {
                if libc::dup2(from, to) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    let spawned = command.spawn();
    drop((low, moved));
    let child = spawned.map_err(|source| RunnerError::Spawn {
        program: program.to_owned(),
        source,
    })?;
    Ok(Call {
        child,
        answer: File::from(answer),
    })
}

/// `program` in a mount of its own that nobody else sees and that cannot be written through, not even
/// by root: whoever gets hold of a process's executable gets hold of it there.
fn sealed(program: &Path) -> std::io::Result<OwnedFd> {
    let path = CString::new(program.as_os_str().as_encoded_bytes())?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: `path` is a valid C string for the length of the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    let fd = RawFd::try_from(fd).map_err(std::io::Error::other)?;
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    let sealed = unsafe { OwnedFd::from_raw_fd(fd) };
    let read_only = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is a valid C string, and the attributes are as long as is said.
    let set = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            sealed.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const read_only,
            size_of::<libc::mount_attr>(),
        )
    };
    if set < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(sealed)
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
fn high(fd: BorrowedFd<'_>) -> std::io::Result<OwnedFd> {
    duplicate_from(fd, BEYOND)
}

fn duplicate_from(fd: BorrowedFd<'_>, lowest: RawFd) -> std::io::Result<OwnedFd> {
    // SAFETY: `fd` is open; F_DUPFD_CLOEXEC makes a new descriptor and touches no memory.
    let duplicate = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest) };
    if duplicate < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(duplicate) })
}

/// Occupies the numbers 3 to 7 while a child is made: the standard library reports a failed exec
/// through a pipe of its own, which must not lie where the child's descriptors go.
fn occupy_low() -> std::io::Result<Vec<OwnedFd>> {
    let null = OwnedFd::from(File::open("/dev/null")?);
    let mut low = Vec::new();
    loop {
        let fd = duplicate_from(null.as_fd(), REQUEST)?;
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
