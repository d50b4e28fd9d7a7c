//! Making files with a mode of the guest's: open, mkdir, mkfifo. The kernel takes the umask off.
#![forbid(unsafe_code)]

use rustix::fs::{FileType, Mode, mkdirat, mknodat};
use wiggle::{GuestMemory, GuestPtr};

use crate::modes::without_set_id;
use crate::{abi::types, errno::Result, files::Open, guest::Guest, paths};

/// What preview 1 calls an access mode.
fn rights(access: types::Accessmode) -> types::Rights {
    use types::{Accessmode as A, Rights as R};
    match access {
        A::ReadOnly => R::FD_READ,
        A::WriteOnly => R::FD_WRITE,
        A::ReadWrite => R::FD_READ | R::FD_WRITE,
        A::Search => R::empty(),
    }
}

impl Guest {
    pub(super) fn open_new(
        &mut self,
        memory: &GuestMemory<'_>,
        (directory, lookup, path): (types::Fd, types::Lookupflags, GuestPtr<str>),
        access: types::Accessmode,
        oflags: types::Oflags,
        fdflags: types::Fdflags,
        mode: types::Mode,
    ) -> Result<types::Fd> {
        let open = Open {
            lookup,
            oflags,
            rights: rights(access),
            fdflags,
        };
        let mode = if oflags.contains(types::Oflags::CREAT) {
            without_set_id(mode)
        } else {
            Ok(Mode::empty())
        };
        self.open_with_mode(memory, directory, path, &open, mode)
    }

    pub(super) fn make_directory_with_mode(
        &self,
        memory: &GuestMemory<'_>,
        directory: types::Fd,
        path: GuestPtr<str>,
        mode: types::Mode,
    ) -> Result<()> {
        let path = paths::argument(memory, path)?;
        let place = self.place(directory, &path)?;
        // As mkdir(2), which ignores set-id bits.
        let mode = Mode::from_raw_mode(mode & 0o1777);
        Ok(mkdirat(&place, place.name(), mode)?)
    }

    pub(super) fn make_fifo(
        &self,
        memory: &GuestMemory<'_>,
        directory: types::Fd,
        path: GuestPtr<str>,
        mode: types::Mode,
    ) -> Result<()> {
        let path = paths::argument(memory, path)?;
        self.descriptors.directory(directory)?;
        let mode = without_set_id(mode)?;
        let place = self.place(directory, &path)?;
        Ok(mknodat(&place, place.name(), FileType::Fifo, mode, 0)?)
    }
}
