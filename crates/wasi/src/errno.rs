//! The one table from the kernel's error numbers to preview 1's.
#![forbid(unsafe_code)]

use rustix::io::Errno as Kernel;
use wiggle::GuestError as Invalid;

pub use crate::abi::types::Errno;

/// What a host function answers.
pub type Result<T> = std::result::Result<T, Errno>;

macro_rules! table {
    ($($kernel:ident => $preview1:ident,)*) => {
        impl From<Kernel> for Errno {
            fn from(error: Kernel) -> Self {
                match error {
                    $(Kernel::$kernel => Self::$preview1,)*
                    // What preview 1 has no word for, and no caller can act on.
                    _ => Self::Io,
                }
            }
        }

        #[cfg(test)]
        const TABLE: &[(Kernel, Errno)] = &[$((Kernel::$kernel, Errno::$preview1)),*];
    };
}

table! {
    TOOBIG => TooBig,
    ACCESS => Acces,
    ADDRINUSE => Addrinuse,
    ADDRNOTAVAIL => Addrnotavail,
    AFNOSUPPORT => Afnosupport,
    AGAIN => Again,
    ALREADY => Already,
    BADF => Badf,
    BADMSG => Badmsg,
    BUSY => Busy,
    CANCELED => Canceled,
    CHILD => Child,
    CONNABORTED => Connaborted,
    CONNREFUSED => Connrefused,
    CONNRESET => Connreset,
    DEADLK => Deadlk,
    DESTADDRREQ => Destaddrreq,
    DOM => Dom,
    DQUOT => Dquot,
    EXIST => Exist,
    FAULT => Fault,
    FBIG => Fbig,
    HOSTUNREACH => Hostunreach,
    IDRM => Idrm,
    ILSEQ => Ilseq,
    INPROGRESS => Inprogress,
    INTR => Intr,
    INVAL => Inval,
    IO => Io,
    ISCONN => Isconn,
    ISDIR => Isdir,
    LOOP => Loop,
    MFILE => Mfile,
    MLINK => Mlink,
    MSGSIZE => Msgsize,
    MULTIHOP => Multihop,
    NAMETOOLONG => Nametoolong,
    NETDOWN => Netdown,
    NETRESET => Netreset,
    NETUNREACH => Netunreach,
    NFILE => Nfile,
    NOBUFS => Nobufs,
    NODEV => Nodev,
    NOENT => Noent,
    NOEXEC => Noexec,
    NOLCK => Nolck,
    NOLINK => Nolink,
    NOMEM => Nomem,
    NOMSG => Nomsg,
    NOPROTOOPT => Noprotoopt,
    NOSPC => Nospc,
    NOSYS => Nosys,
    NOTCONN => Notconn,
    NOTDIR => Notdir,
    NOTEMPTY => Notempty,
    NOTRECOVERABLE => Notrecoverable,
    NOTSOCK => Notsock,
    OPNOTSUPP => Notsup,
    NOTTY => Notty,
    NXIO => Nxio,
    OVERFLOW => Overflow,
    OWNERDEAD => Ownerdead,
    PERM => Perm,
    PIPE => Pipe,
    PROTO => Proto,
    PROTONOSUPPORT => Protonosupport,
    PROTOTYPE => Prototype,
    RANGE => Range,
    ROFS => Rofs,
    SPIPE => Spipe,
    SRCH => Srch,
    STALE => Stale,
    TIMEDOUT => Timedout,
    TXTBSY => Txtbsy,
    XDEV => Xdev,
    // Preview 1 lacks these; the nearest that POSIX has.
    HOSTDOWN => Hostunreach,
    NONET => Netunreach,
    NOTBLK => Inval,
    NOMEDIUM => Nxio,
    PFNOSUPPORT => Afnosupport,
    SHUTDOWN => Pipe,
    SOCKTNOSUPPORT => Protonosupport,
    TOOMANYREFS => Mlink,
    USERS => Nfile,
    // A directory that is encrypted, and its key is not there.
    NOKEY => Acces,
    KEYEXPIRED => Acces,
    KEYREVOKED => Acces,
    KEYREJECTED => Acces,
    // The image's file system no longer follows its format.
    UCLEAN => Io,
}

impl From<nix::errno::Errno> for Errno {
    fn from(error: nix::errno::Errno) -> Self {
        Kernel::from_raw_os_error(error as i32).into()
    }
}

/// What the guest passed is not what the interface asks for.
impl From<Invalid> for Errno {
    fn from(error: Invalid) -> Self {
        match error {
            Invalid::PtrOverflow | Invalid::PtrOutOfBounds(_) | Invalid::PtrNotAligned(..) => {
                Self::Fault
            }
            Invalid::InvalidFlagValue(_)
            | Invalid::InvalidEnumValue(_)
            | Invalid::SliceLengthsDiffer => Self::Inval,
            Invalid::InvalidUtf8(_) => Self::Ilseq,
            Invalid::TryFromIntError(_) => Self::Inval,
            Invalid::InFunc { err, .. } => (*err).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_preview_1_with_a_kernel_number_is_in_the_table() {
        // From success to notcapable, which no kernel says.
        let missing: Vec<_> = (1..=75u16)
            .map(|number| Errno::try_from(number).expect("an error of preview 1"))
            .filter(|error| !TABLE.iter().any(|(_, one)| one == error))
            .collect();
        assert_eq!(missing, []);
    }

    #[test]
    fn errors_keep_their_names() {
        for (kernel, errno) in TABLE {
            assert_eq!(Errno::from(*kernel), *errno);
        }
        assert_eq!(
            Errno::from(Kernel::from_raw_os_error(libc::ENOTSUP)),
            Errno::Notsup
        );
        assert_eq!(
            Errno::from(Kernel::from_raw_os_error(libc::EWOULDBLOCK)),
            Errno::Again
        );
        assert_eq!(
            Errno::from(Kernel::from_raw_os_error(libc::EBFONT)),
            Errno::Io
        );
    }
}
