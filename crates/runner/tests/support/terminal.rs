//! A terminal on which a test types. A leaf with unsafe code.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io::{Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::{
    io::{FdFlags, fcntl_setfd},
    termios::{Winsize, tcsetwinsize},
};
use wasm_interp_runner_client::receive;

/// A pseudoterminal of the host, and the socket for the master of the container's own.
pub(crate) struct TestTerminal {
    master: File,
    slave: OwnedFd,
    ours: UnixStream,
    runners: UnixStream,
}

impl TestTerminal {
    pub(crate) fn open() -> Self {
        let mut ends = [0; 2];
        let null = std::ptr::null_mut();
        // SAFETY: the call writes two numbers, and reads no attributes.
        let opened = unsafe {
            libc::openpty(
                &raw mut ends[0],
                &raw mut ends[1],
                null,
                null.cast(),
                null.cast(),
            )
        };
        assert_eq!(opened, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: both descriptors are new, and nothing else owns them.
        let [master, slave] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        for end in [&master, &slave] {
            fcntl_setfd(end, FdFlags::CLOEXEC).expect("close it in other containers");
        }
        let (ours, runners) = UnixStream::pair().expect("sockets");
        Self {
            master: master.into(),
            slave,
            ours,
            runners,
        }
    }

    pub(crate) fn slave(&self) -> BorrowedFd<'_> {
        self.slave.as_fd()
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.runners.as_fd()
    }

    /// To be called after the create: takes the container's own terminal, if it has one. Returns whether it does.
    pub(crate) fn take_over(&mut self) -> bool {
        let Ok(master) = receive(&self.ours) else {
            return false;
        };
        self.master = master;
        true
    }

    pub(crate) fn resize(&self, ws_row: u16, ws_col: u16) {
        let size = Winsize {
            ws_row,
            ws_col,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.master, size).expect("resize");
    }

    pub(crate) fn type_keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("type");
    }

    /// What is shown, up to `text`.
    pub(crate) fn shown(&mut self, text: &str) -> String {
        let mut all = String::new();
        let mut is_hung_up = false;
        while !all.contains(text) {
            let mut buffer = [0; 256];
            match self.master.read(&mut buffer) {
                Ok(length) if length > 0 => {
                    all.push_str(&String::from_utf8_lossy(&buffer[..length]));
                    is_hung_up = false;
                }
                // It may say so although something was written just before: the next read gets that.
                Err(error) if error.raw_os_error() == Some(libc::EIO) && !is_hung_up => {
                    is_hung_up = true;
                }
                ended => panic!("no {text:?} is shown ({ended:?}), but:\n{all}"),
            }
        }
        all
    }
}
