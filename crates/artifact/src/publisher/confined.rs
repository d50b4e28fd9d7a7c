//! Starts the confined compiler, waits for it within the time limit, and interprets how it ended.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use wasm_interp_policy::CachePolicy;

use crate::error::CompileFailure;
use crate::stages::{CompilerLimits, CompilerStage};

/// How many bytes of the compiler's stderr are kept. Every failure that it reports is shorter (its module
/// `check` limits it), and this many bytes fit into a message to the client.
const MAX_STDERR: usize = 48 << 10;
/// More threads hardly make a compile faster, but they need more memory.
const MAX_THREADS: usize = 8;

/// Compiles `module` into `code`.
pub(super) fn compile(
    policy: &CachePolicy,
    module: &File,
    code: &File,
) -> Result<(), CompileFailure> {
    let not_started = |error: &dyn std::fmt::Display| {
        CompileFailure::system("cannot start the confined compiler", error)
    };
    let rewind = |mut file: &File| file.rewind();
    rewind(module).map_err(|error| not_started(&error))?;
    // The child is process 1 of namespaces without network, message queues or other processes. On a
    // developer's machine without the privilege for that, the other restrictions still hold.
    let namespaces = CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWPID;
    match unshare(namespaces) {
        Ok(()) | Err(Errno::EPERM) => {}
        Err(error) => return Err(not_started(&error)),
    }
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(MAX_THREADS);
    let limits = CompilerLimits {
        memory_bytes: policy.compile_memory_bytes,
        cpu_seconds: policy
            .compile_seconds
            .saturating_mul(threads as u64)
            .saturating_add(1),
    };
    let stdio = |file: &File| file.as_fd().try_clone_to_owned().map(Stdio::from);
    let child = Command::new("/proc/self/exe")
        .args(CompilerStage::CompileConfined(limits).arguments())
        .env_clear()
        .env("RAYON_NUM_THREADS", threads.to_string())
        .current_dir("/")
        .stdin(stdio(module).map_err(|error| not_started(&error))?)
        .stdout(stdio(code).map_err(|error| not_started(&error))?)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| not_started(&error))?;
    let limit = Duration::from_secs(policy.compile_seconds);
    match supervise(child, limit).map_err(|error| not_started(&error))? {
        CompilerExit::InTime { status, .. } if status.success() => Ok(()),
        CompilerExit::InTime { status, stderr } => Err(interpret(policy, status, &stderr)),
        CompilerExit::Killed => Err(CompileFailure::TimeLimit {
            seconds: policy.compile_seconds,
        }),
    }
}

/// How the confined compiler ended.
enum CompilerExit {
    InTime {
        status: ExitStatus,
        stderr: Vec<u8>,
    },
    /// The time limit ended it.
    Killed,
}

/// Waits for the compiler until the limit, and keeps its stderr.
fn supervise(mut child: Child, limit: Duration) -> io::Result<CompilerExit> {
    let deadline = Instant::now() + limit;
    let mut kept = Vec::new();
    let mut stderr = child.stderr.take();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            child.kill()?;
            child.wait()?;
            return Ok(CompilerExit::Killed);
        }
        let Some(pipe) = &mut stderr else {
            // The compiler has closed its last descriptor, so it is ending.
            match child.try_wait()? {
                Some(status) => {
                    return Ok(CompilerExit::InTime {
                        status,
                        stderr: kept,
                    });
                }
                None => std::thread::sleep(Duration::from_millis(1)),
            }
            continue;
        };
        if !readable(pipe, left)? {
            continue;
        }
        let mut chunk = [0; 4096];
        let read = pipe.read(&mut chunk)?;
        let room = MAX_STDERR.saturating_sub(kept.len());
        kept.extend(&chunk[..read.min(room)]);
        if read == 0 {
            stderr = None;
        }
    }
}

fn readable(source: &impl AsFd, within: Duration) -> io::Result<bool> {
    let milliseconds = u16::try_from(within.as_millis() + 1).unwrap_or(u16::MAX);
    let mut sources = [PollFd::new(source.as_fd(), PollFlags::POLLIN)];
    match poll(&mut sources, PollTimeout::from(milliseconds)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Why a compiler failed, from its exit status and its stderr.
fn interpret(policy: &CachePolicy, status: ExitStatus, stderr: &[u8]) -> CompileFailure {
    if let Ok(failure) = serde_json::from_slice(stderr) {
        return failure;
    }
    let text = String::from_utf8_lossy(stderr);
    // Rust's allocator writes this before it aborts.
    if text.contains("memory allocation of") {
        return CompileFailure::MemoryLimit {
            bytes: policy.compile_memory_bytes,
        };
    }
    let status = match status.signal() {
        Some(signal) => format!("signal {signal}"),
        None => status.to_string(),
    };
    let text = text.trim();
    let how = if text.is_empty() {
        status
    } else {
        format!("{status}: {text}")
    };
    CompileFailure::Crashed { how }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_status_and_stderr_tell_why_the_compiler_failed() {
        let policy = CachePolicy::default();
        let killed = ExitStatus::from_raw(9);
        let memory = interpret(&policy, killed, b"memory allocation of 64 bytes failed");
        assert!(matches!(memory, CompileFailure::MemoryLimit { .. }));
        let crashed = interpret(&policy, killed, b" panicked \n");
        assert_eq!(
            crashed,
            CompileFailure::Crashed {
                how: "signal 9: panicked".to_owned()
            }
        );
        let reported = serde_json::to_vec(&CompileFailure::Changed).unwrap();
        assert_eq!(
            interpret(&policy, killed, &reported),
            CompileFailure::Changed
        );
    }
}
