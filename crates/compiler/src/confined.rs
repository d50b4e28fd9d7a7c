//! The confined compiler: a process of its own that gives up every privilege before it reads the
//! module. The publisher starts it with the module on descriptor 0; it writes the native code to
//! descriptor 1, or a [`CompileFailure`] as JSON to descriptor 2. It must not know the files behind
//! these descriptors.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid};

use wasm_interp_artifact::{CompileFailure, CompilerLimits};

/// The user and group that own no files (the kernel's default overflowuid and overflowgid). A number, so
/// that no user database is read.
const OVERFLOW_ID: u32 = 65534;
/// The kernel's OOM killer prefers a process with this score to every other.
const MAX_OOM_SCORE_ADJ: &str = "1000";
/// Bytes of native code that a compile may write.
const MAX_CODE: u64 = 4 << 30;

/// Compiles descriptor 0 to descriptor 1, until the process exits.
#[must_use]
pub fn main(limits: CompilerLimits) -> ExitCode {
    let result = confine(limits)
        .map_err(|error| CompileFailure::system("cannot confine the compiler", &error))
        .and_then(|()| compile());
    let Err(failure) = result else {
        return ExitCode::SUCCESS;
    };
    // If the publisher is gone, no process reads the failure.
    if let Ok(text) = serde_json::to_vec(&failure) {
        let _ = io::stderr().write_all(&text);
    }
    ExitCode::FAILURE
}

fn compile() -> Result<(), CompileFailure> {
    let read = |error: &io::Error| CompileFailure::system("cannot read the module", error);
    let wasm = read_whole(&stdin().map_err(|error| read(&error))?).map_err(|error| read(&error))?;
    let code = crate::precompile::compile(&wasm)?;
    let out = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    out.and_then(|mut out| out.write_all(&code))
        .map_err(|error| CompileFailure::system("cannot write the native code", &error))
}

fn stdin() -> io::Result<File> {
    io::stdin().as_fd().try_clone_to_owned().map(File::from)
}

fn read_whole(mut file: &File) -> io::Result<Vec<u8>> {
    // Not from the metadata: the system call for it takes any path, so the filter refuses it.
    let length = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Confines this process, in this order: it dies with the publisher, closes other descriptors, limits its
/// resources, leaves root, cannot regain privileges, and filters its system calls.
fn confine(limits: CompilerLimits) -> io::Result<()> {
    prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    close_others()?;
    resources(limits)?;
    // The shim is almost exempt from the OOM killer, as containerd is, and this process inherits that.
    // When memory is short the kernel should kill a compile first, because it can be repeated.
    std::fs::write("/proc/self/oom_score_adj", MAX_OOM_SCORE_ADJ)?;
    if Uid::effective().is_root() {
        nix::unistd::setgroups(&[])?;
        let (gid, uid) = (Gid::from_raw(OVERFLOW_ID), Uid::from_raw(OVERFLOW_ID));
        nix::unistd::setresgid(gid, gid, gid)?;
        // The change from root clears every capability set.
        nix::unistd::setresuid(uid, uid, uid)?;
        // The change of user clears the signal.
        prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    }
    prctl::set_dumpable(false)?;
    prctl::set_no_new_privs()?;
    crate::seccomp::install()
}

fn resources(limits: CompilerLimits) -> io::Result<()> {
    let limit = |resource, value| setrlimit(resource, value, value);
    // This limits private writable memory rather than address space: allocators and thread stacks reserve
    // much memory that they never touch.
    limit(Resource::RLIMIT_DATA, limits.memory_bytes)?;
    limit(Resource::RLIMIT_FSIZE, MAX_CODE)?;
    limit(Resource::RLIMIT_CORE, 0)?;
    limit(Resource::RLIMIT_NOFILE, 16)?;
    limit(Resource::RLIMIT_CPU, limits.cpu_seconds)?;
    Ok(())
}

fn close_others() -> io::Result<()> {
    // SAFETY: nothing in this process owns a descriptor above stderr yet (`main` has just begun), so no
    // descriptor that is still used is closed.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    // Linux before 5.9 lacks this call. All descriptors of this program are close-on-exec anyway.
    if error.raw_os_error() == Some(libc::ENOSYS) {
        Ok(())
    } else {
        Err(error)
    }
}
