//! A stack of their own for libFuzzer's signal handlers. Without one, a target whose recursion does not end
//! dies without a word and without its input. It is made before libFuzzer starts, which keeps the flag.

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

const BYTES: usize = 1 << 20;

#[used]
#[unsafe(link_section = ".init_array")]
static INSTALL: extern "C" fn() = install;

extern "C" fn install() {
    let stack = libc::stack_t {
        ss_sp: Box::leak(vec![0_u8; BYTES].into_boxed_slice())
            .as_mut_ptr()
            .cast(),
        ss_flags: 0,
        ss_size: BYTES,
    };
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::SA_ONSTACK, SigSet::empty());
    // SAFETY: the stack is leaked, so it lives as long as the process, and the action is the default one.
    let installed = unsafe {
        libc::sigaltstack(&raw const stack, std::ptr::null_mut()) == 0
            && sigaction(Signal::SIGSEGV, &default).is_ok()
    };
    assert!(installed, "sigaltstack(2) and sigaction(2) cannot fail so");
}
