//! What a guest's handles stand for. Knows neither the guest nor the interfaces' types: the functions are in
//! [`functions`](super::functions).

pub(in crate::p2) mod address;
mod entries;
mod files;
mod input;
mod markers;
mod output;
mod pollable;
mod slots;
mod socket;
mod source;
mod tcp;
mod udp;
mod unsent;

pub use self::{
    entries::DirectoryEntries,
    files::FileHandle,
    input::InputStream,
    markers::{FoundAddresses, InputTerminal, NetworkHandle, OutputTerminal},
    output::OutputHandle,
    pollable::Pollable,
    tcp::TcpHandle,
    udp::{IncomingDatagrams, OutgoingDatagrams, UdpHandle},
};
pub(in crate::p2) use self::{
    files::opened,
    input::ReadAt,
    output::{OutputStream, WriteAt},
    pollable::{Patience, known, monotonic, wait},
    slots::Slots,
    socket::SocketFd,
    source::{Source, is_ready},
    tcp::{TcpSocket, TcpState, not_connected},
    udp::{DATAGRAM, UdpSocket, UdpState},
    unsent::{PATIENCE, Unsent},
};
