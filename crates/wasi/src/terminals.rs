//! Terminals: the size and the settings of a stream that is one.
//!
//! Only the container's streams can be terminals: a guest finds no other device of that kind. So only
//! for them is the kernel asked. What may be asked at all is the allow-list of the filter.
#![forbid(unsafe_code)]

use std::os::fd::AsFd as _;

use rustix::termios::tcgetwinsize;
use wiggle::{GuestMemory, GuestPtr};

use crate::{
    abi::types,
    descriptors::Description,
    errno::{Errno, Result},
    guest::Guest,
    memory,
    sys::{self, SettingsTake, TERMINAL_SETTINGS},
};

const LENGTH: u32 = TERMINAL_SETTINGS as u32;

impl Guest {
    fn terminal(&self, fd: types::Fd) -> Result<&Description> {
        let file = self.descriptors.get(fd)?;
        if file.is_stream() {
            Ok(file)
        } else {
            Err(Errno::Notty)
        }
    }

    pub(crate) fn window_size(&self, fd: types::Fd) -> Result<types::Winsize> {
        let size = tcgetwinsize(self.terminal(fd)?)?;
        Ok(types::Winsize {
            row: size.ws_row,
            col: size.ws_col,
            xpixel: size.ws_xpixel,
            ypixel: size.ws_ypixel,
        })
    }

    pub(crate) fn terminal_settings(
        &self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        to: GuestPtr<u8>,
    ) -> Result<()> {
        let settings = sys::terminal_settings(self.terminal(fd)?.as_fd())?;
        memory.copy_from_slice(&settings, to.as_array(LENGTH))?;
        Ok(())
    }

    pub(crate) fn set_terminal(
        &self,
        memory: &GuestMemory<'_>,
        fd: types::Fd,
        action: types::TermiosAction,
        from: GuestPtr<u8>,
    ) -> Result<()> {
        let file = self.terminal(fd)?.as_fd();
        let mut settings = [0; TERMINAL_SETTINGS];
        settings.copy_from_slice(memory::slice(memory, from.as_array(LENGTH))?);
        let take = match action {
            types::TermiosAction::Now => SettingsTake::Now,
            types::TermiosAction::Drain => SettingsTake::AfterOutput,
            types::TermiosAction::Flush => SettingsTake::AfterOutputDroppingInput,
        };
        // It waits for output to be sent.
        Ok(crate::wait::interruptible(|| {
            sys::set_terminal(file, take, &settings)
        })?)
    }
}
