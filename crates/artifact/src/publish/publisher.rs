//! The publisher: a detached process that has one module compiled and puts the result where it
//! belongs. It holds the key's lock and owns the entry while it works; it never parses the module,
//! and believes nothing that the confined compiler says but that it failed.
#![forbid(unsafe_code)]

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::wire::{self, Destination, Job, Report};
use crate::failure::Failure;
use crate::key::Digest;
use crate::known;
use crate::store::dir::{Folder, StoreDir, TEMPORARY};
use crate::store::entry::{self, Record};
use crate::store::evict;
use crate::store::lock::{KeyLock, Slot};

/// How often a free place is looked for.
const RETRY: Duration = Duration::from_millis(20);
/// How much of what the compiler says is kept: any failure that it can tell (`compile::check` bounds
/// the longest), and less than a message to the asker may have.
const WORDS: usize = 48 << 10;
/// More threads than this make a compile hardly faster, and its memory ever larger.
const THREADS: usize = 8;

/// Does the job that comes over descriptor 0. The whole life of the process.
#[must_use]
pub fn main() -> ExitCode {
    // Out of the asker's process group and session, so that what ends those does not end this.
    // It fails only for a process group leader, which is detached already.
    let _ = nix::unistd::setsid();
    let stdin = io::stdin();
    let socket = stdin.as_fd();
    let (job, descriptors) = match wire::receive::<Job>(socket) {
        Ok(Some(received)) => received,
        // Nobody asks.
        Ok(None) => return ExitCode::FAILURE,
        Err(error) => {
            let failure = Failure::system("cannot understand what is to be compiled", &error);
            return tell(socket, &Report::Failed { failure }, None);
        }
    };
    let mut descriptors = descriptors.into_iter().map(File::from);
    let (wasm, lock) = (
        descriptors.next(),
        descriptors.next().map(KeyLock::received),
    );
    let Some(wasm) = wasm else {
        let failure = Failure::system("cannot compile", &"no module came with the job");
        return tell(socket, &Report::Failed { failure }, None);
    };
    let mut compiling = || {
        tell(socket, &Report::Compiling, None);
    };
    match publish(&job, &wasm, lock, &mut compiling) {
        Ok(Done::Published { seconds, dir }) => {
            let told = tell(socket, &Report::Published { seconds }, None);
            tidy(&dir, &job);
            told
        }
        Ok(Done::InMemory {
            seconds,
            reason,
            code,
        }) => tell(socket, &Report::InMemory { seconds, reason }, Some(&code)),
        Err(failure) => tell(socket, &Report::Failed { failure }, None),
    }
}

/// Whoever asked may be gone; the work was not for them alone.
fn tell(socket: std::os::fd::BorrowedFd<'_>, report: &Report, code: Option<&File>) -> ExitCode {
    let descriptors: Vec<_> = code.iter().map(|file| file.as_raw_fd()).collect();
    match wire::send(socket, report, &descriptors) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

enum Done {
    Published {
        seconds: f64,
        dir: StoreDir,
    },
    InMemory {
        seconds: f64,
        reason: String,
        code: File,
    },
}

fn publish(
    job: &Job,
    wasm: &File,
    lock: Option<KeyLock>,
    compiling: &mut dyn FnMut(),
) -> Result<Done, Failure> {
    let store = match (&job.store, lock) {
        (Destination::Store { path }, Some(lock)) => StoreDir::open(path)
            .map(|dir| (dir, lock))
            .map_err(|reason| reason.to_string()),
        (Destination::Store { .. }, None) => Err("the lock of the entry did not arrive".to_owned()),
        (Destination::Memory { reason }, _) => Err(reason.clone()),
    };
    if let Ok((dir, _)) = &store
        && let Err(error) = evict::sweep(dir, Some(&job.key))
    {
        log::debug!("cannot sweep the cache: {error}");
    }
    let made = make(
        job,
        wasm,
        store.as_ref().ok().map(|(dir, _)| dir),
        compiling,
    );
    let (code, took) = match (made, &store) {
        (Ok(made), _) => made,
        (Err(failure), Ok((_, lock))) => {
            // Those who wait for this compile fail as it failed instead of trying in turn.
            if let Err(error) = lock.leave_failure(&failure) {
                log::debug!("those who wait will try themselves: {error}");
            }
            return Err(failure);
        }
        (Err(failure), Err(_)) => return Err(failure),
    };
    let seconds = took.as_secs_f64();
    let kept = store.and_then(|(dir, lock)| match keep(job, &code, took, &dir) {
        Ok(()) => {
            lock.retire(&dir, &job.key);
            Ok(dir)
        }
        Err(unkept) => {
            dir.remove_quietly(Folder::Entries, &temporary(job));
            Err(format!(
                "cache directory {}: {unkept}",
                dir.path().display()
            ))
        }
    });
    Ok(match kept {
        Ok(dir) => Done::Published { seconds, dir },
        Err(reason) => Done::InMemory {
            seconds,
            reason,
            code,
        },
    })
}

/// Compiles into sealed memory, when it is this job's turn.
fn make(
    job: &Job,
    wasm: &File,
    dir: Option<&StoreDir>,
    compiling: &mut dyn FnMut(),
) -> Result<(File, Duration), Failure> {
    let _turn = turn(job, dir)
        .map_err(|error| Failure::system("cannot wait for a turn to compile", &error))?;
    let module = snapshot(job, wasm)?;
    compiling();
    let begun = Instant::now();
    let code = memory("wasm-interp-code", true)?;
    compile(job, &module, &code)?;
    sound(&code)?;
    Ok((seal(&code)?, begun.elapsed()))
}

/// The right to compile, given back when dropped.
enum Turn {
    Slot { _slot: Slot },
    Alone { _executable: File },
}

fn turn(job: &Job, dir: Option<&StoreDir>) -> io::Result<Turn> {
    if let Some(dir) = dir {
        match wait_for(|| Slot::try_take(dir, job.config.compile_slots)) {
            Ok(slot) => return Ok(Turn::Slot { _slot: slot }),
            Err(error) => log::debug!("no slots in {}: {error}", dir.path().display()),
        }
    }
    // Without a store there is one place on the node: this executable, which is always there.
    let executable = File::open("/proc/self/exe")?;
    wait_for(|| match executable.try_lock() {
        Ok(()) => Ok(Some(())),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    })?;
    Ok(Turn::Alone {
        _executable: executable,
    })
}

/// Why native code is not kept.
#[derive(Debug, thiserror::Error)]
enum Unkept {
    #[error("cannot write to it: {0}")]
    Disk(#[from] io::Error),
    #[error("{bytes} bytes of native code are more than it may hold ({max_bytes} bytes)")]
    TooLarge { bytes: u64, max_bytes: u64 },
    #[error("cannot write the entry's record: {0}")]
    Record(#[from] serde_json::Error),
}

fn temporary(job: &Job) -> String {
    format!("{}{TEMPORARY}", entry::code_name(&job.key))
}

/// Makes the code an entry of the store: whole, durable, and vouched for by its record.
fn keep(job: &Job, made: &File, took: Duration, dir: &StoreDir) -> Result<(), Unkept> {
    let (bytes, max_bytes) = (made.metadata()?.len(), job.config.max_bytes);
    if bytes > max_bytes {
        return Err(Unkept::TooLarge { bytes, max_bytes });
    }
    let (code, record) = (entry::code_name(&job.key), entry::record_name(&job.key));
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    dir.remove_quietly(Folder::Entries, &temporary(job));
    let mut file = dir.file(Folder::Entries, &temporary(job), flags)?;
    let digest = Digest::while_reading(made, |chunk| file.write_all(chunk))?;
    file.sync_all()?;
    // The only descriptor that could write.
    drop(file);
    // First the code, then the record that vouches for it: without the record it is nothing.
    dir.remove_quietly(Folder::Entries, &record);
    dir.rename(Folder::Entries, &temporary(job), &code)?;
    let words = serde_json::to_vec(&Record::new(&job.key, digest, bytes, &job.name, took))?;
    dir.replace(Folder::Entries, &record, &words)?;
    dir.sync(Folder::Entries)?;
    known::vouch(
        &dir.file(Folder::Entries, &code, OFlag::O_RDONLY)?,
        dir,
        digest,
    );
    Ok(())
}

fn wait_for<T>(mut attempt: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
    loop {
        if let Some(value) = attempt()? {
            return Ok(value);
        }
        std::thread::sleep(RETRY);
    }
}

/// Copies the module where nobody can change it, and makes sure that it is the one that was asked
/// for: what is compiled is what is hashed.
fn snapshot(job: &Job, wasm: &File) -> Result<File, Failure> {
    let copy = memory("wasm-interp-module", false)?;
    let mut writer = &copy;
    let digest = Digest::while_reading(wasm, |chunk| writer.write_all(chunk))
        .map_err(|error| Failure::system("cannot read the module", &error))?;
    if digest != job.key.wasm() {
        return Err(Failure::Changed);
    }
    seal(&copy)
}

fn memory(name: &str, executable: bool) -> Result<File, Failure> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // The code is mapped executable; a node may forbid that for memory that does not ask for it.
    let wanted = if executable {
        libc::MFD_EXEC
    } else {
        libc::MFD_NOEXEC_SEAL
    };
    let wanted = MFdFlags::from_bits_retain(wanted);
    let made = match memfd_create(name, flags | wanted) {
        // Linux before 6.3 does not know the distinction.
        Err(Errno::EINVAL) => memfd_create(name, flags),
        made => made,
    };
    made.map(File::from)
        .map_err(|error| Failure::system("cannot get memory for a compile", &error))
}

/// How long the kernel may take to let go of pages of a memory that is to be sealed.
const PAGES_HELD: Duration = Duration::from_secs(30);
const PAGES_PAUSE: Duration = Duration::from_millis(5);

/// The same content, for ever, through a descriptor that reads.
fn seal(file: &File) -> Result<File, Failure> {
    let act = "cannot seal memory of a compile";
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_SEAL;
    let until = Instant::now() + PAGES_HELD;
    loop {
        match fcntl(file, FcntlArg::F_ADD_SEALS(seals)) {
            Ok(_) => break,
            // Nobody else has it; the kernel itself may look at a page just now, and then waits for 0.3 s only
            // (`memfd_wait_for_pins`, mm/memfd.c).
            Err(Errno::EBUSY) if Instant::now() < until => std::thread::sleep(PAGES_PAUSE),
            Err(error) => return Err(Failure::system(act, &error)),
        }
    }
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .map_err(|error| Failure::system(act, &error))
}

/// The length of what the compiler wrote, if it looks like what it should have written.
fn sound(code: &File) -> Result<u64, Failure> {
    let mut magic = [0; 4];
    let length = code.metadata().map(|metadata| metadata.len());
    match (code.read_exact_at(&mut magic, 0), length) {
        (Ok(()), Ok(length)) if magic == *b"\x7fELF" => Ok(length),
        _ => Err(Failure::Crashed {
            how: "it said that it was done but wrote no native code".to_owned(),
        }),
    }
}

/// Runs the confined compiler.
fn compile(job: &Job, module: &File, code: &File) -> Result<(), Failure> {
    let start = |error: &dyn std::fmt::Display| {
        Failure::system("cannot start the confined compiler", error)
    };
    let rewind = |mut file: &File| file.rewind();
    rewind(module).map_err(|error| start(&error))?;
    // The compiler's child is process 1 of a world without network, message queues, or others.
    // Without the right to that (a developer's machine) the other fences stand.
    let apart = CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWPID;
    match unshare(apart) {
        Ok(()) | Err(nix::errno::Errno::EPERM) => {}
        Err(error) => return Err(start(&error)),
    }
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(THREADS);
    let cpu_seconds = job
        .config
        .compile_seconds
        .saturating_mul(threads as u64)
        .saturating_add(1);
    let fd = |file: &File| file.as_fd().try_clone_to_owned().map(Stdio::from);
    let child = Command::new("/proc/self/exe")
        .arg("__compile-confined")
        .arg(format!("--memory={}", job.config.compile_memory_bytes))
        .arg(format!("--cpu-seconds={cpu_seconds}"))
        .env_clear()
        .env("RAYON_NUM_THREADS", threads.to_string())
        .current_dir("/")
        .stdin(fd(module).map_err(|error| start(&error))?)
        .stdout(fd(code).map_err(|error| start(&error))?)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| start(&error))?;
    let limit = Duration::from_secs(job.config.compile_seconds);
    match supervise(child, limit).map_err(|error| start(&error))? {
        Ended::InTime { status, .. } if status.success() => Ok(()),
        Ended::InTime { status, words } => Err(explain(job, status, &words)),
        Ended::Late => Err(Failure::TimeLimit {
            seconds: job.config.compile_seconds,
        }),
    }
}

enum Ended {
    InTime { status: ExitStatus, words: Vec<u8> },
    Late,
}

/// Waits for the compiler and keeps what it says, until the limit.
fn supervise(mut child: Child, limit: Duration) -> io::Result<Ended> {
    let deadline = Instant::now() + limit;
    let mut words = Vec::new();
    let mut stderr = child.stderr.take();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            child.kill()?;
            child.wait()?;
            return Ok(Ended::Late);
        }
        let Some(pipe) = &mut stderr else {
            // Its last descriptor is closed: it is ending.
            match child.try_wait()? {
                Some(status) => return Ok(Ended::InTime { status, words }),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
            continue;
        };
        if !readable(pipe, left)? {
            continue;
        }
        let mut chunk = [0; 4096];
        let read = pipe.read(&mut chunk)?;
        let room = WORDS.saturating_sub(words.len());
        words.extend(&chunk[..read.min(room)]);
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
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What a compiler that failed meant.
fn explain(job: &Job, status: ExitStatus, words: &[u8]) -> Failure {
    if let Ok(failure) = serde_json::from_slice(words) {
        return failure;
    }
    let words = String::from_utf8_lossy(words);
    // What Rust's allocator says before it aborts.
    if words.contains("memory allocation of") {
        return Failure::MemoryLimit {
            bytes: job.config.compile_memory_bytes,
        };
    }
    let status = match status.signal() {
        Some(signal) => format!("signal {signal}"),
        None => status.to_string(),
    };
    let words = words.trim();
    let how = if words.is_empty() {
        status
    } else {
        format!("{status}: {words}")
    };
    Failure::Crashed { how }
}

/// Makes room for the next one.
fn tidy(dir: &StoreDir, job: &Job) {
    if let Err(error) = evict::evict(dir, job.config.max_bytes, Some(&job.key)) {
        log::debug!("cannot keep the cache within its size: {error}");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rustix::pipe::{SpliceFlags, splice};

    use super::*;
    use crate::key::Key;
    use crate::store::StoreConfig;

    fn job(wasm: &[u8]) -> Job {
        Job {
            key: Key::of(Digest::of_bytes(wasm)),
            name: "a.wasm".to_owned(),
            config: StoreConfig::default(),
            store: Destination::Memory {
                reason: String::new(),
            },
        }
    }

    #[test]
    fn a_module_that_changed_since_it_was_asked_for_is_not_compiled() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"two", 0).unwrap();
        assert_eq!(snapshot(&job(b"one"), &file).unwrap_err(), Failure::Changed);
        let copy = snapshot(&job(b"two"), &file).unwrap();
        file.write_all_at(b"new", 0).unwrap();
        assert_eq!(Digest::of_file(&copy).unwrap(), Digest::of_bytes(b"two"));
    }

    #[test]
    fn what_is_sealed_cannot_be_written_through_any_descriptor() {
        let made = memory("test", true).unwrap();
        made.write_all_at(b"code", 0).unwrap();
        let sealed = seal(&made).unwrap();
        assert!(made.write_at(b"x", 0).is_err());
        assert!(sealed.set_len(0).is_err());
    }

    /// As it is for a moment where the kernel migrates or looks at pages.
    #[test]
    fn a_page_that_is_held_for_a_while_delays_the_seal_only() {
        let made = memory("test", true).unwrap();
        made.write_all_at(&[1; 4096], 0).unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let none = SpliceFlags::empty();
        let held = splice(&made, Some(&mut 0), &writer, None, 4096, none);
        assert_eq!(held, Ok(4096));
        let refused = fcntl(&made, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE));
        assert_eq!(refused, Err(Errno::EBUSY), "the pipe holds the page");
        std::thread::scope(|scope| {
            let sealed = scope.spawn(|| seal(&made));
            // Longer than the kernel waits by itself.
            std::thread::sleep(Duration::from_secs(1));
            assert!(!sealed.is_finished());
            reader.read_exact(&mut [0; 4096]).unwrap();
            sealed.join().unwrap().unwrap();
        });
        assert!(made.write_at(b"x", 0).is_err());
    }

    #[test]
    fn a_compiler_that_fails_is_explained() {
        let job = job(b"");
        let killed = ExitStatus::from_raw(9);
        let memory = explain(&job, killed, b"memory allocation of 64 bytes failed");
        assert!(matches!(memory, Failure::MemoryLimit { .. }));
        let crashed = explain(&job, killed, b" panicked \n");
        assert_eq!(
            crashed,
            Failure::Crashed {
                how: "signal 9: panicked".to_owned()
            }
        );
        let words = serde_json::to_vec(&Failure::Changed).unwrap();
        assert_eq!(explain(&job, killed, &words), Failure::Changed);
    }
}
