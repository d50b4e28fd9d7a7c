//! Why a function of WASI 0.2 does not return what it is for: the kernel's errors, and a few more of the interfaces.
#![forbid(unsafe_code)]

use rustix::io::Errno as Kernel;
use wasmtime::component::ResourceTableError;

use crate::errno::Errno;

/// `wasi:io/error`: why a stream's operation has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoError(pub(super) Kernel);

/// Of a stream.
#[derive(Debug)]
pub enum StreamFailure {
    /// There is no more.
    Closed,
    /// The kernel refuses.
    Failed(Kernel),
    /// The guest breaks the interface's contract, and ends.
    Trap(wasmtime::Error),
}

/// Of `wasi:filesystem`.
#[derive(Debug)]
pub enum FileFailure {
    /// The kernel refuses.
    Failed(Kernel),
    /// As of a stream.
    Trap(wasmtime::Error),
}

/// Of `wasi:sockets`.
#[derive(Debug)]
pub enum SocketFailure {
    /// The kernel refuses, or a grant is missing.
    Failed(Errno),
    /// The socket is not in a state for it.
    WrongState,
    /// What is to be finished was not started.
    NotInProgress,
    /// A name could not be looked up.
    Name(Errno),
    /// As of a stream.
    Trap(wasmtime::Error),
}

pub(super) type StreamResult<T> = Result<T, StreamFailure>;
pub(super) type FileResult<T> = Result<T, FileFailure>;
pub(super) type SocketResult<T> = Result<T, SocketFailure>;

/// A handle that is none, or one too many: as in Wasmtime's own implementation, a trap.
macro_rules! traps {
    ($($failure:ident),*) => {
        $(impl From<ResourceTableError> for $failure {
            fn from(error: ResourceTableError) -> Self {
                Self::Trap(error.into())
            }
        }
        impl From<wasmtime::Error> for $failure {
            fn from(error: wasmtime::Error) -> Self {
                Self::Trap(error)
            }
        })*
    };
}
traps!(StreamFailure, FileFailure, SocketFailure);

impl From<Kernel> for FileFailure {
    fn from(error: Kernel) -> Self {
        Self::Failed(error)
    }
}

impl From<Kernel> for SocketFailure {
    fn from(error: Kernel) -> Self {
        Self::Failed(error.into())
    }
}

/// What `crate::sockets` says, which both kinds of guests get.
impl From<Errno> for SocketFailure {
    fn from(error: Errno) -> Self {
        Self::Failed(error)
    }
}
