//! What preview 1 says of a descriptor: its type, its flags, and rights.
#![forbid(unsafe_code)]

use rustix::{
    fs::{FileType, OFlags, fcntl_getfl, fstat},
    termios::isatty,
};

use crate::{abi::types, descriptors::Description, errno::Result, stat};

/// Flags and rights of a descriptor. The rights say how it was opened, which is what the C library
/// makes of them; the mounts and the kernel enforce what may be done.
pub(crate) fn fdstat(file: &Description) -> Result<types::Fdstat> {
    let (mode, open) = if file.is_preopen() {
        // The C library asks at each open of a path. The answer never changes.
        (FileType::Directory.as_raw_mode(), OFlags::PATH)
    } else {
        (fstat(file)?.st_mode, fcntl_getfl(file)?)
    };
    let fs_filetype = stat::filetype_of(file, mode);
    let directory = fs_filetype == types::Filetype::Directory;
    Ok(types::Fdstat {
        fs_filetype,
        fs_flags: fdflags(file, open),
        fs_rights_base: rights(file, fs_filetype, open),
        fs_rights_inheriting: if directory {
            types::Rights::all()
        } else {
            types::Rights::empty()
        },
    })
}

fn fdflags(file: &Description, open: OFlags) -> types::Fdflags {
    use types::Fdflags as F;
    let nonblocking = file
        .stream_is_nonblocking()
        .unwrap_or(open.contains(OFlags::NONBLOCK));
    let mut flags = F::empty();
    flags.set(F::APPEND, open.contains(OFlags::APPEND));
    flags.set(F::NONBLOCK, nonblocking);
    flags.set(F::DSYNC, open.contains(OFlags::DSYNC));
    flags.set(F::SYNC | F::RSYNC, open.contains(OFlags::SYNC));
    flags
}

fn rights(file: &Description, kind: types::Filetype, open: OFlags) -> types::Rights {
    use types::{Filetype, Rights as R};
    let reads = R::FD_READ | R::FD_READDIR;
    let writes = R::FD_WRITE | R::FD_ALLOCATE | R::FD_FILESTAT_SET_SIZE | R::FD_DATASYNC;
    let mut rights = R::all() - reads - writes;
    match open & OFlags::ACCMODE {
        // Only a name, but a directory can be listed by it.
        _ if open.contains(OFlags::PATH) => {
            rights.set(R::FD_READDIR, kind == Filetype::Directory);
        }
        OFlags::WRONLY => rights |= writes,
        OFlags::RDWR => rights |= reads | writes,
        _ => rights |= reads,
    }
    // The C library tells a terminal from other character devices by their lack.
    let no_position = match kind {
        Filetype::SocketStream | Filetype::SocketDgram => true,
        Filetype::CharacterDevice => isatty(file),
        _ => false,
    };
    if no_position {
        rights -= R::FD_SEEK | R::FD_TELL;
    }
    if kind != Filetype::Directory {
        rights -= R::FD_READDIR;
    }
    rights
}
