//! What a guest's handles stand for. Knows neither the guest nor the interfaces' types: the functions are in
//! [`functions`](super::functions).

pub(in crate::p2) mod address;
mod files;
mod input;
mod markers;
mod output;
mod pollable;
mod source;
mod tcp;
mod udp;

pub(in crate::p2) use self::{
    files::opened,
    input::ReadAt,
    output::{OutputStream, WriteAt, drain},
    pollable::{Patience, known, monotonic, wait},
    source::{Source, is_ready},
    tcp::{TcpSocket, TcpState, not_connected},
    udp::{DATAGRAM, UdpSocket, UdpState},
};
pub use self::{
    files::{DirectoryEntries, FileHandle},
    input::InputStream,
    markers::{FoundAddresses, InputTerminal, NetworkHandle, OutputTerminal},
    output::OutputHandle,
    pollable::Pollable,
    tcp::TcpHandle,
    udp::{IncomingDatagrams, OutgoingDatagrams, UdpHandle},
};
