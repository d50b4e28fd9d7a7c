//! The functions of the interfaces, for [`ComponentGuest`](super::ComponentGuest): a file per interface or group of them.

mod cli;
mod clocks;
mod filesystem;
mod poll;
mod random;
mod sockets;
mod streams;

pub(super) use self::filesystem::write_file;
