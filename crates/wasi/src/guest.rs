//! The context of one guest: all that its host functions work on.
#![forbid(unsafe_code)]

use std::{ffi::CString, os::fd::OwnedFd, sync::Arc};

use rustix::{
    fs::{FileType, fstat},
    process::{Resource, getrlimit},
};
use wasm_interp_network::Network;
use wasmtime::Memory;

use crate::{
    clocks::Resolutions,
    descriptors::Table,
    errno::{Errno, Result},
    ids::GuestIds,
    limits,
    modes::ModesBy,
    paths::{LateMounts, Paths},
    signals::Registration,
    sockets::{self, NetworkGrants, Resolver},
    sys::{self, Standard},
};

/// What a guest is made from.
#[derive(Debug)]
pub struct GuestSettings {
    /// Arguments, the program's own name first.
    pub arguments: Vec<Vec<u8>>,
    /// Variables of the environment, in order.
    pub environment: Vec<(Vec<u8>, Vec<u8>)>,
    /// The root directory of this process, opened with `O_PATH`.
    pub root: OwnedFd,
    /// Whether file systems can be mounted beneath it while the guest runs.
    pub late_mounts: LateMounts,
    /// How it changes modes.
    pub modes_by: ModesBy,
    /// What it may reach of the network.
    pub network: Network,
    /// Where refusals are written besides standard error, for the operator: one write for each and at most one
    /// per second, without a line's end. An open file that does not block.
    pub refusals: Option<Arc<OwnedFd>>,
}

/// What a guest cannot be made from.
#[derive(Debug, PartialEq, Eq)]
pub enum GuestError {
    /// An argument or variable has a zero byte, which ends a string for the guest.
    Nul(Vec<u8>),
    /// A stream is a directory: paths could begin there, and lead out of the container.
    Directory(Standard),
}

impl std::fmt::Display for GuestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nul(text) => write!(
                f,
                "pass {:?} to the guest: it has a zero byte; remove it",
                String::from_utf8_lossy(text)
            ),
            Self::Directory(stream) => write!(
                f,
                "pass {stream} to the guest: it is a directory, from which paths could lead out of \
                 the container; pass a file, a pipe or a terminal"
            ),
        }
    }
}

impl std::error::Error for GuestError {}

/// The context of one guest: of one instance, whose memory its functions read and write.
#[derive(Debug)]
pub struct Guest {
    pub(crate) arguments: Vec<CString>,
    pub(crate) environment: Vec<CString>,
    /// The guest's descriptors. A host function of another namespace shares them.
    pub descriptors: Table,
    /// How its paths are resolved. A host function of another namespace resolves them by it too.
    pub paths: Paths,
    pub(crate) modes_by: ModesBy,
    pub(crate) ids: GuestIds,
    pub(crate) resolutions: Resolutions,
    pub(crate) grants: NetworkGrants,
    pub(crate) resolver: Resolver,
    /// The memory that the instance exports, once a function has looked for it.
    pub(crate) memory: Option<Memory>,
    /// Whether that memory stays at its address as long as the instance lives.
    pub(crate) memory_stays: bool,
    pub(crate) signals: Registration,
}

impl Guest {
    /// Makes the context of a guest in this process.
    ///
    /// # Errors
    /// If an argument or a variable has a zero byte, or a stream is a directory.
    pub fn new(settings: GuestSettings) -> std::result::Result<Self, GuestError> {
        let GuestSettings {
            arguments,
            environment,
            root,
            late_mounts,
            modes_by,
            network,
            refusals,
        } = settings;
        check_streams()?;
        let variables = environment
            .into_iter()
            .map(|(name, value)| [&name[..], b"=", &value].concat());
        let limit = getrlimit(Resource::Nofile).current;
        let limit = limit.map_or(limits::DESCRIPTORS, |limit| {
            usize::try_from(limit).unwrap_or(limits::DESCRIPTORS)
        });
        let root = Arc::new(root);
        let paths = Paths::new(Arc::clone(&root), late_mounts);
        let (grants, resolver) = sockets::of_guest(network, refusals, &paths);
        Ok(Self {
            arguments: strings(arguments.into_iter())?,
            environment: strings(variables)?,
            descriptors: Table::new(root, limit),
            ids: GuestIds::of_this_process(),
            resolutions: Resolutions::of_kernel(),
            grants,
            resolver,
            paths,
            modes_by,
            memory: None,
            memory_stays: false,
            signals: Registration::default(),
        })
    }

    /// The size of a list of strings for the guest: its length, and its bytes with final zeros.
    pub(crate) fn sizes(strings: &[CString]) -> Result<(u32, u32)> {
        let bytes = strings.iter().map(|one| one.as_bytes_with_nul().len());
        let count = u32::try_from(strings.len());
        let bytes = u32::try_from(bytes.sum::<usize>());
        match (count, bytes) {
            (Ok(count), Ok(bytes)) => Ok((count, bytes)),
            _ => Err(Errno::Overflow),
        }
    }
}

/// One that is not known is no directory: a descriptor that is closed, or one that a profile hides.
pub(crate) fn check_streams() -> std::result::Result<(), GuestError> {
    for stream in Standard::ALL {
        let is_directory = fstat(sys::standard(stream))
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
        if is_directory {
            return Err(GuestError::Directory(stream));
        }
    }
    Ok(())
}

fn strings(list: impl Iterator<Item = Vec<u8>>) -> std::result::Result<Vec<CString>, GuestError> {
    list.map(|text| CString::new(text).map_err(|error| GuestError::Nul(error.into_vec())))
        .collect()
}
