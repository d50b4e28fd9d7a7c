//! Memory that holds a module or its native code during a compile: a memfd that is sealed once it is
//! written, so that its content cannot change any more.
#![forbid(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::error::CompileFailure;

/// How long the kernel may hold pages of memory that is to be sealed.
const PAGES_HELD: Duration = Duration::from_secs(30);
const PAGES_PAUSE: Duration = Duration::from_millis(5);

/// Whether the content is mapped executable later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Executable {
    Yes,
    No,
}

/// Empty memory that can be written and sealed.
pub(super) fn create(name: &str, executable: Executable) -> Result<File, CompileFailure> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // A node may forbid executable mappings of memory that does not ask for them.
    let execution = MFdFlags::from_bits_retain(match executable {
        Executable::Yes => libc::MFD_EXEC,
        Executable::No => libc::MFD_NOEXEC_SEAL,
    });
    let created = match memfd_create(name, flags | execution) {
        // Linux before 6.3 does not know these two flags.
        Err(Errno::EINVAL) => memfd_create(name, flags),
        created => created,
    };
    created
        .map(File::from)
        .map_err(|error| CompileFailure::system("cannot create memory for a compile", &error))
}

/// Seals the content, and returns a descriptor that can only read it.
pub(super) fn seal(file: &File) -> Result<File, CompileFailure> {
    let act = "cannot seal the memory of a compile";
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_SEAL;
    let until = Instant::now() + PAGES_HELD;
    loop {
        match fcntl(file, FcntlArg::F_ADD_SEALS(seals)) {
            Ok(_) => break,
            // No other process has this memory. The kernel itself may hold a page for a moment, and
            // waits only 0.3 s (`memfd_wait_for_pins`, mm/memfd.c).
            Err(Errno::EBUSY) if Instant::now() < until => std::thread::sleep(PAGES_PAUSE),
            Err(error) => return Err(CompileFailure::system(act, &error)),
        }
    }
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .map_err(|error| CompileFailure::system(act, &error))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::FileExt as _;

    use rustix::pipe::{SpliceFlags, splice};

    use super::*;

    #[test]
    fn sealed_memory_cannot_be_written_through_any_descriptor() {
        let memory = create("test", Executable::Yes).unwrap();
        memory.write_all_at(b"code", 0).unwrap();
        let sealed = seal(&memory).unwrap();
        assert!(memory.write_at(b"x", 0).is_err());
        assert!(sealed.set_len(0).is_err());
    }

    /// The kernel holds pages for a moment when it migrates or inspects them.
    #[test]
    fn a_held_page_only_delays_the_seal() {
        let memory = create("test", Executable::Yes).unwrap();
        memory.write_all_at(&[1; 4096], 0).unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let none = SpliceFlags::empty();
        let held = splice(&memory, Some(&mut 0), &writer, None, 4096, none);
        assert_eq!(held, Ok(4096));
        let refused = fcntl(&memory, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE));
        assert_eq!(refused, Err(Errno::EBUSY), "the pipe holds the page");
        std::thread::scope(|scope| {
            let sealed = scope.spawn(|| seal(&memory));
            // Longer than the kernel waits by itself.
            std::thread::sleep(Duration::from_secs(1));
            assert!(!sealed.is_finished());
            reader.read_exact(&mut [0; 4096]).unwrap();
            sealed.join().unwrap().unwrap();
        });
        assert!(memory.write_at(b"x", 0).is_err());
    }
}
