//! The confined compiler: a process of its own that gives up everything before it looks at the
//! module. Started by the publisher as `wasm-interp __compile-confined`, with the module on
//! descriptor 0, the native code wanted on descriptor 1 and a [`Failure`] as JSON on descriptor 2.
//! It must not know where any of them leads.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid};

use crate::failure::Failure;

/// `nobody`, by its number: no user database is read.
const NOBODY: u32 = 65534;
/// The score at which the kernel's OOM killer prefers a process most.
const FIRST_TO_GO: &str = "1000";
/// Nothing that is compiled is larger.
const LARGEST_CODE: u64 = 4 << 30;

/// What the compiler may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of private memory.
    pub memory: u64,
    /// Seconds of CPU time, all threads together.
    pub cpu_seconds: u64,
}

/// Compiles descriptor 0 to descriptor 1. The whole life of the process.
#[must_use]
pub fn main(limits: Limits) -> ExitCode {
    let result = confine(limits)
        .map_err(|error| Failure::system("cannot confine the compiler", &error))
        .and_then(|()| work());
    let Err(failure) = result else {
        return ExitCode::SUCCESS;
    };
    // If nobody listens any more there is nobody to tell.
    if let Ok(text) = serde_json::to_vec(&failure) {
        let _ = io::stderr().write_all(&text);
    }
    ExitCode::FAILURE
}

fn work() -> Result<(), Failure> {
    let read = |error: &io::Error| Failure::system("cannot read the module", error);
    let wasm = whole(&stdin().map_err(|error| read(&error))?).map_err(|error| read(&error))?;
    let code = super::compile(&wasm)?;
    let out = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    out.and_then(|mut out| out.write_all(&code))
        .map_err(|error| Failure::system("cannot write the native code", &error))
}

fn stdin() -> io::Result<File> {
    io::stdin().as_fd().try_clone_to_owned().map(File::from)
}

fn whole(mut file: &File) -> io::Result<Vec<u8>> {
    // Not the metadata: asking for those is a system call that could ask about any path.
    let length = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Gives up, in this order: surviving the publisher, other descriptors, resources, the user,
/// gaining anything back, system calls.
fn confine(limits: Limits) -> io::Result<()> {
    prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    close_others()?;
    resources(limits)?;
    // The shim is all but exempt from the OOM killer, as containerd is, and this process inherits
    // that. Where memory is short a compile goes first: it can be done again.
    std::fs::write("/proc/self/oom_score_adj", FIRST_TO_GO)?;
    if Uid::effective().is_root() {
        nix::unistd::setgroups(&[])?;
        let (gid, uid) = (Gid::from_raw(NOBODY), Uid::from_raw(NOBODY));
        nix::unistd::setresgid(gid, gid, gid)?;
        // Leaving root empties every capability set.
        nix::unistd::setresuid(uid, uid, uid)?;
        // A change of user forgets it.
        prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    }
    prctl::set_dumpable(false)?;
    prctl::set_no_new_privs()?;
    super::seccomp::install()
}

fn resources(limits: Limits) -> io::Result<()> {
    let limit = |resource, value| setrlimit(resource, value, value);
    // Private writable memory rather than address space: allocators and thread stacks reserve
    // much that they never touch, the more the more cores there are.
    limit(Resource::RLIMIT_DATA, limits.memory)?;
    limit(Resource::RLIMIT_FSIZE, LARGEST_CODE)?;
    limit(Resource::RLIMIT_CORE, 0)?;
    limit(Resource::RLIMIT_NOFILE, 16)?;
    limit(Resource::RLIMIT_CPU, limits.cpu_seconds)?;
    Ok(())
}

fn close_others() -> io::Result<()> {
    // SAFETY: nothing in this process owns a descriptor above stderr yet (`main` has just begun),
    // so none that somebody still uses is closed.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    // Before Linux 5.9 there is no such call; all descriptors of ours are close-on-exec anyway.
    if error.raw_os_error() == Some(libc::ENOSYS) {
        Ok(())
    } else {
        Err(error)
    }
}
