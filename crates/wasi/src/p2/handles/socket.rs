//! The descriptor of a socket.
#![forbid(unsafe_code)]

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

/// A socket, as long as one of its handles or streams is there.
#[derive(Debug)]
pub struct SocketFd {
    fd: OwnedFd,
}

impl SocketFd {
    pub(in crate::p2) fn new(fd: OwnedFd) -> Arc<Self> {
        Arc::new(Self { fd })
    }
}

impl AsFd for SocketFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
