//! What a filter answers to a system call, found by reading its program as the kernel does.
//!
//! Asked by `confine` for the calls that a guest cannot do without: a profile may end the process for
//! a call, so that nothing can be tried.
#![forbid(unsafe_code)]

use libc::{c_long, sock_filter};

use super::steps::{ABOVE, AND, AT_LEAST, BITS, EQUAL, JUMP, LOAD, RETURN, THIS_ARCHITECTURE};

/// A system call that might be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) name: &'static str,
    number: u32,
    architecture: u32,
    arguments: [u64; 6],
}

impl Question {
    /// About a call of this architecture.
    pub(crate) fn of(name: &'static str, number: c_long, arguments: [u64; 6]) -> Self {
        Self {
            name,
            // Every number of a system call is small and positive.
            number: u32::try_from(number).unwrap_or(u32::MAX),
            architecture: THIS_ARCHITECTURE,
            arguments,
        }
    }

    /// About a call of another one.
    #[cfg(test)]
    pub(crate) fn on(mut self, architecture: u32) -> Self {
        self.architecture = architecture;
        self
    }

    /// The word of `struct seccomp_data` at this offset.
    fn word(&self, offset: u32) -> Option<u32> {
        let index = usize::try_from(offset / 4).ok()?;
        match index {
            0 => Some(self.number),
            1 => Some(self.architecture),
            // The place of the call in the program.
            2 | 3 => Some(0),
            _ => {
                let argument = *self.arguments.get((index - 4) / 2)?;
                // The low half first, on either architecture.
                Some(if index % 2 == 0 {
                    argument as u32
                } else {
                    (argument >> 32) as u32
                })
            }
        }
    }

    /// What `program` answers; `None` if it has a step that no filter of seccomp has.
    pub(crate) fn answer(&self, program: &[sock_filter]) -> Option<u32> {
        let mut accumulator = 0;
        let mut at = 0;
        // It only jumps forwards.
        loop {
            let step = program.get(at)?;
            let jump = |holds: bool| usize::from(if holds { step.jt } else { step.jf });
            at += 1;
            match step.code {
                LOAD => accumulator = self.word(step.k)?,
                AND => accumulator &= step.k,
                JUMP => at += usize::try_from(step.k).ok()?,
                EQUAL => at += jump(accumulator == step.k),
                ABOVE => at += jump(accumulator > step.k),
                AT_LEAST => at += jump(accumulator >= step.k),
                BITS => at += jump(accumulator & step.k != 0),
                RETURN => return Some(step.k),
                _ => return None,
            }
        }
    }
}
