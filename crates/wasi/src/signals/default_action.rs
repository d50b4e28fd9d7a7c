//! What signals do by default.
#![forbid(unsafe_code)]

/// What a signal does that the guest does nothing about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DefaultAction {
    End,
    /// As Linux has it, where a process that is the first of its pid namespace does not get it.
    EndUnlessFirst,
    Ignore,
    /// A container is stopped by its runtime, not by itself.
    Stop,
}

pub(super) fn default_action(signal: i32) -> DefaultAction {
    match signal {
        libc::SIGCHLD | libc::SIGCONT | libc::SIGURG | libc::SIGWINCH | libc::SIGPIPE => {
            DefaultAction::Ignore
        }
        libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => DefaultAction::Stop,
        libc::SIGUSR1 | libc::SIGUSR2 | libc::SIGALRM => DefaultAction::EndUnlessFirst,
        _ => DefaultAction::End,
    }
}
