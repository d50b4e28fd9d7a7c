//! Pipes, and further numbers for open files.
#![forbid(unsafe_code)]

use std::sync::Arc;

use rustix::pipe::{PipeFlags, pipe_with};

use super::sockets::nonblock;
use crate::{
    abi::types,
    descriptors::Description,
    errno::{Errno, Result},
    guest::Guest,
};

impl Guest {
    pub(super) fn make_pipe(&mut self, flags: types::Fdflags) -> Result<(types::Fd, types::Fd)> {
        let mut kernel = PipeFlags::CLOEXEC;
        kernel.set(PipeFlags::NONBLOCK, nonblock(flags)?);
        let (read, write) = pipe_with(kernel)?;
        self.descriptors
            .insert_both(Description::new(read), Description::new(write))
    }

    pub(super) fn duplicate(&mut self, fd: types::Fd, from: types::Fd) -> Result<types::Fd> {
        let file = Arc::clone(self.descriptors.get(fd)?);
        let from = u32::from(from) as usize;
        if !self.descriptors.may_have(from) {
            return Err(Errno::Inval);
        }
        self.descriptors.share(file, from)
    }

    pub(super) fn duplicate_to(&mut self, fd: types::Fd, to: types::Fd) -> Result<()> {
        let file = Arc::clone(self.descriptors.get(fd)?);
        if fd == to {
            return Ok(());
        }
        self.descriptors.replace(to, file)
    }
}
