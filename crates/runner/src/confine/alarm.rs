//! What is said on the container's standard error and in its termination log when the filter refuses a
//! system call, or when our own code panics. Then the process ends, as by SIGSYS or SIGABRT.
//!
//! Set by [`super::Fence::close`]. The handler cannot be replaced: the filter refuses that call too.
//! A panic must not abort, which takes calls that no guest needs.
#![allow(unsafe_code)]

use std::{
    fmt::Write as _,
    mem::MaybeUninit,
    os::fd::RawFd,
    sync::atomic::{AtomicI32, Ordering},
};

use wasm_interp_runner_client::EXIT_TRAP;

use crate::sys;

/// Where the reason is noted besides standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notes {
    Nowhere,
    /// In this open file, if it is still empty.
    File(RawFd),
}

const NO_FILE: RawFd = -1;
static FILE: AtomicI32 = AtomicI32::new(NO_FILE);

/// `SYS_SECCOMP`: the code of a SIGSYS that a filter has sent: kill(2) sends others.
const BY_FILTER: libc::c_int = 1;

/// The end of `siginfo_t` that SIGSYS has (sigaction(2)).
#[repr(C)]
struct Refused {
    signal: libc::c_int,
    errno: libc::c_int,
    code: libc::c_int,
    address: *const libc::c_void,
    call: libc::c_int,
}

/// A line of text that needs no allocator.
struct TextLine {
    bytes: [u8; 320],
    length: usize,
}

impl std::fmt::Write for TextLine {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.length + text.len();
        let place = self.bytes.get_mut(self.length..end);
        place
            .ok_or(std::fmt::Error)?
            .copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

fn line(call: libc::c_int) -> TextLine {
    let mut line = TextLine {
        bytes: [0; 320],
        length: 0,
    };
    // It fits, as the test holds.
    let _ = writeln!(
        line,
        "wasm-interp: the guest's process was ended at system call {call}, which no guest needs: \
         either the image has attacked its sandbox, or wasm-interp has a defect; report it with \
         this line"
    );
    line
}

extern "C" fn refuse(signal: libc::c_int, info: *const Refused, _: *mut libc::c_void) {
    // SAFETY: for SA_SIGINFO the kernel passes a `siginfo_t`, which is larger than `Refused`, lies
    // there until the handler returns, and begins with these fields for SIGSYS on 64-bit machines.
    let (code, call) = unsafe { ((*info).code, (*info).call) };
    // Any other one was sent to the process, which then has asked for nothing.
    if code == BY_FILTER {
        let line = line(call);
        say(&line.bytes[..line.length]);
    }
    sys::exit_now(128 + signal)
}

fn say(text: &[u8]) {
    write(sys::STDERR, text);
    let file = FILE.load(Ordering::Relaxed);
    if file != NO_FILE && is_empty(file) {
        write(file, text);
    }
}

fn write(fd: RawFd, text: &[u8]) {
    // SAFETY: `text` is valid for reads of its length. A descriptor that takes nothing leaves nothing
    // else to do.
    unsafe { libc::write(fd, text.as_ptr().cast(), text.len()) };
}

fn is_empty(fd: RawFd) -> bool {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `stat` is valid for writes; it is read only after the kernel has filled it.
    unsafe { libc::fstat(fd, stat.as_mut_ptr()) == 0 && stat.assume_init().st_size == 0 }
}

/// From here on a refused call ends the process by `refuse`, and a panic in words too.
pub(super) fn set(notes: Notes) -> std::io::Result<()> {
    let file = match notes {
        Notes::Nowhere => NO_FILE,
        Notes::File(fd) => fd,
    };
    FILE.store(file, Ordering::Relaxed);
    std::panic::set_hook(Box::new(|panic| {
        say(format!("wasm-interp: the runner has a defect; report it: {panic}\n").as_bytes());
        sys::exit_now(EXIT_TRAP)
    }));
    // SAFETY: zeroed is a valid sigaction; the handler takes the three arguments of SA_SIGINFO and
    // makes only calls that are async-signal-safe; the pointers are to a local.
    let set = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let handler: extern "C" fn(libc::c_int, *const Refused, *mut libc::c_void) = refuse;
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut())
    };
    if set == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_of_every_number_is_whole() {
        for call in [0, libc::c_int::MIN, libc::c_int::MAX] {
            let line = line(call);
            let text = std::str::from_utf8(&line.bytes[..line.length]).expect("text");
            assert!(text.contains(&format!("system call {call},")), "{text}");
            assert!(text.ends_with("with this line\n"), "{text}");
        }
    }

    /// In a process of its own, which is this test once more.
    #[test]
    fn panic_is_told_and_ends_the_process() {
        const CHILD: &str = "WASM_INTERP_TEST_PANICS";
        if std::env::var_os(CHILD).is_some() {
            set(Notes::Nowhere).expect("set");
            panic!("on purpose");
        }
        let test = "confine::alarm::tests::panic_is_told_and_ends_the_process";
        let program = std::env::current_exe().expect("this program");
        let ended = std::process::Command::new(program)
            .args(["--exact", test, "--nocapture"])
            .env(CHILD, "yes")
            .output()
            .expect("run this test");
        assert_eq!(ended.status.code(), Some(EXIT_TRAP));
        let told = String::from_utf8_lossy(&ended.stderr);
        assert!(told.contains("the runner has a defect"), "{told}");
        assert!(told.contains("on purpose"), "{told}");
    }

    #[test]
    fn number_lies_where_the_c_library_has_it() {
        // `si_call_addr` follows the three words and their padding, `si_syscall` follows it.
        assert_eq!(std::mem::offset_of!(Refused, address), 16);
        assert_eq!(std::mem::offset_of!(Refused, call), 24);
        assert!(size_of::<Refused>() <= size_of::<libc::siginfo_t>());
    }
}
