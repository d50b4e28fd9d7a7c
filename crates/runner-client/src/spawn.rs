//! Starts the runner with exactly the descriptors of the table in [`super`], for [`super::Runner`], and any
//! other program with descriptors of its own.
//!
//! This is a leaf file with unsafe code: the only one on the client's side that runs code between fork
//! and exec.
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
    process::{Child, Command, Stdio},
};

use crate::{
    call::Call,
    descriptors::{
        ARTIFACT, BEYOND, CEILING, CONSOLE, HANDOVER, INIT, REFUSALS, REQUEST, RESPONSE, RUNNER,
        TERMINATION_LOG,
    },
    error::RunnerError,
    protocol::Request,
    read_only,
};

/// The path of [`RUNNER`].
const RUNNER_PATH: &str = "/proc/self/fd/7";

/// The descriptors that a call passes besides its request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Passed<'a> {
    pub(super) stdio: Option<[BorrowedFd<'a>; 3]>,
    pub(super) artifact: Option<BorrowedFd<'a>>,
    pub(super) reasons: Option<BorrowedFd<'a>>,
    pub(super) ceiling: Option<BorrowedFd<'a>>,
    pub(super) console: Option<BorrowedFd<'a>>,
    pub(super) init: Option<BorrowedFd<'a>>,
    pub(super) handover: Option<BorrowedFd<'a>>,
    pub(super) refusals: Option<BorrowedFd<'a>>,
}

/// The longest argument that process lists show, and how many of them: the kernel takes no argument of more
/// than 128 KiB, and those of a guest may be longer.
const SHOWN_BYTES: usize = 4096;
const SHOWN_ARGUMENTS: usize = 64;

/// Starts `program`. Process lists show `argv`.
pub(super) fn spawn(
    program: &Path,
    argv: &[String],
    request: &Request<'_>,
    passed: &Passed<'_>,
) -> Result<Call, RunnerError> {
    let request = request_file(request).map_err(RunnerError::Request)?;
    let (response, response_write) = pipe(0).map_err(RunnerError::Request)?;

    let executable = read_only::executable(program).map_err(|source| RunnerError::Spawn {
        program: program.to_owned(),
        source,
    })?;
    let native_code = passed
        .artifact
        .map(read_only::native_code)
        .transpose()
        .map_err(RunnerError::Protect)?;

    let mut command = Command::new(RUNNER_PATH);
    if let Some((name, rest)) = argv.split_first() {
        let rest = rest.iter().take(SHOWN_ARGUMENTS);
        command.arg0(shown(name)).args(rest.map(|arg| shown(arg)));
    }
    command.env_clear();
    end_with_caller(&mut command);
    set_stdio(&mut command, passed.stdio).map_err(RunnerError::Request)?;

    let descriptors = [
        (Some(request.as_fd()), REQUEST),
        (Some(response_write.as_fd()), RESPONSE),
        (native_code.as_ref().map(AsFd::as_fd), ARTIFACT),
        (passed.reasons, TERMINATION_LOG),
        (Some(executable.as_fd()), RUNNER),
        (passed.ceiling, CEILING),
        (passed.console, CONSOLE),
        (passed.init, INIT),
        (passed.handover, HANDOVER),
        (passed.refusals, REFUSALS),
    ];
    let child = spawn_with(command, descriptors).map_err(|source| RunnerError::Spawn {
        program: program.to_owned(),
        source,
    })?;
    Ok(Call {
        child,
        response: File::from(response),
    })
}

/// Starts the command with its standard streams and with each of these descriptors under its number, which is from
/// 3 to 12. It gets no other descriptor.
///
/// # Errors
/// As [`Command::spawn`], and if this process may not open so many descriptors.
pub fn spawn_with<const N: usize>(
    mut command: Command,
    descriptors: [(Option<BorrowedFd<'_>>, RawFd); N],
) -> std::io::Result<Child> {
    let moved = raised(descriptors)?;
    let moves: Vec<_> = moved
        .iter()
        .map(|(source, target)| (source.as_raw_fd(), *target))
        .collect();
    let low = occupy_low()?;
    // SAFETY: the closure runs in the child between fork and exec and makes only system calls that
    // are async-signal-safe, on values made before the fork; it neither allocates nor frees.
    unsafe {
        command.pre_exec(move || {
            // Before the descriptors are moved: the moved copies stay open for the runner.
            close_on_exec_from(REQUEST)?;
            for &(from, to) in &moves {
                if libc::dup2(from, to) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    let spawned = command.spawn();
    drop((low, moved));
    spawned
}

/// Has the kernel kill the runner when the caller dies: what it makes would have no supervisor. The thread that spawns it
/// waits for its end.
fn end_with_caller(command: &mut Command) {
    let caller = std::process::id().cast_signed();
    // SAFETY: the closure runs in the child between fork and exec and makes only system calls that are
    // async-signal-safe; it neither allocates nor frees.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            // It may have died before.
            if libc::getppid() != caller {
                return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
}

/// The argument as process lists show it.
fn shown(argument: &str) -> &str {
    &argument[..argument.floor_char_boundary(SHOWN_BYTES)]
}

fn set_stdio(command: &mut Command, stdio: Option<[BorrowedFd<'_>; 3]>) -> std::io::Result<()> {
    let ends = match stdio {
        Some(ends) => ends.map(|end| end.try_clone_to_owned().map(Stdio::from)),
        None => [Ok(Stdio::null()), Ok(Stdio::null()), Ok(Stdio::null())],
    };
    let [stdin, stdout, stderr] = ends;
    command.stdin(stdin?).stdout(stdout?).stderr(stderr?);
    Ok(())
}

/// Duplicates of the sources that are above every target, so that no dup2 overwrites a source that is not moved
/// yet.
fn raised<const N: usize>(
    moves: [(Option<BorrowedFd<'_>>, RawFd); N],
) -> std::io::Result<Vec<(OwnedFd, RawFd)>> {
    moves
        .into_iter()
        .filter_map(|(source, target)| Some((source?, target)))
        .map(|(source, target)| Ok((duplicate_from(source, BEYOND)?, target)))
        .collect()
}

/// The request as a memory file. Unlike a pipe it takes any size without a second thread.
fn request_file(request: &Request<'_>) -> std::io::Result<File> {
    let name = CString::default();
    // SAFETY: `name` is a valid C string for the length of the call.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor, and nothing else owns it.
    let mut file = unsafe { File::from_raw_fd(fd) };
    file.write_all(&serde_json::to_vec(request)?)?;
    file.rewind()?;
    Ok(file)
}

/// The two ends of a pipe, with `flags` (pipe(2)) besides close-on-exec.
pub(super) fn pipe(flags: libc::c_int) -> std::io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for the two descriptors that the call writes.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), flags | libc::O_CLOEXEC) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: both descriptors are new, and nothing else owns them.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// A close-on-exec duplicate with the lowest free number from `lowest` on.
fn duplicate_from(fd: BorrowedFd<'_>, lowest: RawFd) -> std::io::Result<OwnedFd> {
    // SAFETY: `fd` is open; F_DUPFD_CLOEXEC makes a new descriptor and touches no memory.
    let duplicate = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest) };
    if duplicate < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(duplicate) })
}

/// Occupies the numbers of the table while a child is started. The standard library reports a failed exec
/// through a pipe of its own, whose descriptors must not have the numbers of the child's.
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
    // Before Linux 5.11. All descriptors that this program and the standard library open are
    // close-on-exec anyway. This marks those that a parent process left open.
    for fd in first..4096 {
        // SAFETY: F_SETFD on a descriptor that is not open fails and changes nothing.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}
