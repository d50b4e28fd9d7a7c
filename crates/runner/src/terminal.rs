//! The terminal of a container's process.
//!
//! Its master is the caller's. The caller passes the slave of a pseudoterminal of the host as the three streams,
//! and a socket. If the container has a devpts of its own, a native program gets a pseudoterminal of that, whose
//! master goes back through the socket ([`take`]). In both cases the process makes it its
//! controlling terminal ([`control`]) once it leads a session.
//!
//! Called by `init` and `executor`. `rootfs` opens the pseudoterminal.
#![forbid(unsafe_code)]

use std::{
    fs::File,
    io::Error,
    os::fd::{AsFd, OwnedFd},
};

use nix::unistd::{Uid, dup2_stderr, dup2_stdin, dup2_stdout, fchown};
use rustix::termios::{tcgetwinsize, tcsetwinsize};
use wasm_interp_runner_client::hand_over;

use crate::sys;

/// Both ends of a pseudoterminal.
#[derive(Debug)]
pub(crate) struct Pty {
    /// The end on which is typed.
    pub(crate) master: OwnedFd,
    /// The end of the container's process.
    pub(crate) slave: OwnedFd,
}

/// What the standard streams of a process are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Streams {
    /// What the caller has passed, which may be anything.
    Separate,
    /// One terminal.
    Terminal,
}

impl Streams {
    /// `console`: where the master of one of the container's own goes, which a caller passes with a terminal.
    pub(crate) fn of(console: Option<&File>) -> Self {
        match console {
            Some(_) => Self::Terminal,
            None => Self::Separate,
        }
    }
}

/// Makes `pty`, a terminal of the container, this process's streams in place of the host's, whose size it gets.
/// Gives it to the user `owner`, and its master to the caller through `socket`.
pub(crate) fn take(pty: Pty, owner: u32, socket: &OwnedFd) -> Result<(), Error> {
    let Pty { master, slave } = pty;
    let hosts = sys::standard(sys::STDIN);
    tcsetwinsize(slave.as_fd(), tcgetwinsize(hosts)?)?;
    // As runc: the program may open its terminal by name.
    fchown(&slave, Some(Uid::from_raw(owner)), None)?;
    dup2_stdin(&slave)?;
    dup2_stdout(&slave)?;
    dup2_stderr(&slave)?;
    hand_over(socket, &master)
}

/// Makes the terminal that is the standard input the controlling one: its keys send signals to this process.
pub(crate) fn control() -> Result<(), Error> {
    sys::control_terminal(sys::standard(sys::STDIN))
}
