//! Calls of `wasi:sockets`, and of what has no handle.

use wasm_interp_wasi::p2::fuzzing::wasi::cli::{
    environment, terminal_stderr, terminal_stdin, terminal_stdout,
};
use wasm_interp_wasi::p2::fuzzing::wasi::random::{insecure, insecure_seed, random};
use wasm_interp_wasi::p2::fuzzing::wasi::sockets::ip_name_lookup::{
    Host as _, HostResolveAddressStream,
};
use wasm_interp_wasi::p2::fuzzing::wasi::sockets::tcp::HostTcpSocket;
use wasm_interp_wasi::p2::fuzzing::wasi::sockets::udp::{
    HostIncomingDatagramStream, HostOutgoingDatagramStream, HostUdpSocket, OutgoingDatagram,
};

use super::calls::{OtherCall, TcpCall, UdpCall};
use super::values::Address;
use super::{Component, instance_network, preopens, tcp_create_socket, udp_create_socket};
use crate::hosts;

/// More random bytes at once are a trap.
const RANDOM: u64 = 64 << 20;
/// What the other side of a connection takes at once.
const MOST_TAKEN: u64 = 64 << 10;
/// The datagrams of one call.
const DATAGRAMS: u64 = 16;

impl Component {
    pub(super) fn call_tcp(&mut self, pick: u8, call: &TcpCall) -> Option<()> {
        let guest = &mut self.guest;
        if let TcpCall::Create(family) = call {
            let socket = tcp_create_socket::Host::create_tcp_socket(guest, family.family());
            let socket = self.socket(socket)?;
            self.handles.tcp.put(socket);
            return Some(());
        }
        let handle = || self.handles.tcp.lend(pick);
        let socket = handle()?;
        match call {
            TcpCall::Create(_) => {}
            TcpCall::StartBind(network, address) => {
                let network = self.handles.networks.lend(*network)?;
                let bound = HostTcpSocket::start_bind(guest, socket, network, address.get());
                self.socket(bound)?;
            }
            TcpCall::FinishBind => {
                let bound = HostTcpSocket::finish_bind(guest, socket);
                self.socket(bound)?;
            }
            TcpCall::StartConnect(network, address) => {
                let network = self.handles.networks.lend(*network)?;
                let connects = guest.start_connect(socket, network, address.get());
                self.socket(connects)?;
            }
            TcpCall::FinishConnect => {
                let streams = guest.finish_connect(socket);
                let (input, output) = self.socket(streams)?;
                self.handles.inputs.put(input);
                self.handles.outputs.put(output);
            }
            TcpCall::StartListen => {
                let listens = guest.start_listen(socket);
                self.socket(listens)?;
            }
            TcpCall::FinishListen => {
                let listens = guest.finish_listen(socket);
                self.socket(listens)?;
            }
            TcpCall::Accept => {
                let accepted = guest.accept(socket);
                let (socket, input, output) = self.socket(accepted)?;
                self.handles.tcp.put(socket);
                self.handles.inputs.put(input);
                self.handles.outputs.put(output);
            }
            TcpCall::LocalAddress => {
                let address = HostTcpSocket::local_address(guest, socket);
                self.socket(address)?;
            }
            TcpCall::RemoteAddress => {
                let address = HostTcpSocket::remote_address(guest, socket);
                self.socket(address)?;
            }
            TcpCall::IsListening => {
                let listens = guest.is_listening(socket);
                self.plain(listens)?;
            }
            TcpCall::Family => {
                let family = HostTcpSocket::address_family(guest, socket);
                self.plain(family)?;
            }
            TcpCall::SetBacklog(backlog) => {
                let set = guest.set_listen_backlog_size(socket, backlog.0);
                self.socket(set)?;
            }
            TcpCall::KeepAlive => {
                let enabled = guest.keep_alive_enabled(socket);
                let idle = guest.keep_alive_idle_time(handle()?);
                let interval = guest.keep_alive_interval(handle()?);
                let count = guest.keep_alive_count(handle()?);
                self.socket(enabled)?;
                self.socket(idle)?;
                self.socket(interval)?;
                self.socket(count)?;
            }
            TcpCall::SetKeepAlive(enabled, idle, interval, count) => {
                let enabled = guest.set_keep_alive_enabled(socket, *enabled);
                let idle = guest.set_keep_alive_idle_time(handle()?, idle.0);
                let interval = guest.set_keep_alive_interval(handle()?, interval.0);
                let count = guest.set_keep_alive_count(handle()?, *count);
                self.socket(enabled)?;
                self.socket(idle)?;
                self.socket(interval)?;
                self.socket(count)?;
            }
            TcpCall::SetHops(hops) => {
                let set = guest.set_hop_limit(socket, *hops);
                self.socket(set)?;
            }
            TcpCall::SetBuffers(receive, send) => {
                let receive = HostTcpSocket::set_receive_buffer_size(guest, socket, receive.0);
                let send = HostTcpSocket::set_send_buffer_size(guest, handle()?, send.0);
                self.socket(receive)?;
                self.socket(send)?;
            }
            TcpCall::Sizes => {
                let hops = guest.hop_limit(socket);
                let receive = HostTcpSocket::receive_buffer_size(guest, handle()?);
                let send = HostTcpSocket::send_buffer_size(guest, handle()?);
                assert!(self.socket(hops)? > 0);
                assert!(self.socket(receive)? > 0);
                assert!(self.socket(send)? > 0);
            }
            TcpCall::Subscribe => {
                let pollable = HostTcpSocket::subscribe(guest, socket);
                let pollable = self.plain(pollable)?;
                self.handles.pollables.put(pollable);
            }
            TcpCall::Shutdown(how) => {
                let shut = guest.shutdown(socket, how.shutdown());
                self.socket(shut)?;
            }
        }
        Some(())
    }

    pub(super) fn call_udp(&mut self, pick: u8, call: &UdpCall) -> Option<()> {
        let guest = &mut self.guest;
        let socket = || self.handles.udp.lend(pick);
        match call {
            UdpCall::Create(family) => {
                let socket = udp_create_socket::Host::create_udp_socket(guest, family.family());
                let socket = self.socket(socket)?;
                self.handles.udp.put(socket);
            }
            UdpCall::StartBind(network, address) => {
                let network = self.handles.networks.lend(*network)?;
                let bound = HostUdpSocket::start_bind(guest, socket()?, network, address.get());
                self.socket(bound)?;
            }
            UdpCall::FinishBind => {
                let bound = HostUdpSocket::finish_bind(guest, socket()?);
                self.socket(bound)?;
            }
            UdpCall::Stream(remote) => {
                let streams = guest.stream(socket()?, remote.map(Address::get));
                let (incoming, outgoing) = self.socket(streams)?;
                self.handles.incoming.put(incoming);
                self.handles.outgoing.put(outgoing);
            }
            UdpCall::LocalAddress => {
                let address = HostUdpSocket::local_address(guest, socket()?);
                self.socket(address)?;
            }
            UdpCall::RemoteAddress => {
                let address = HostUdpSocket::remote_address(guest, socket()?);
                self.socket(address)?;
            }
            UdpCall::Family => {
                let family = HostUdpSocket::address_family(guest, socket()?);
                self.plain(family)?;
            }
            UdpCall::SetHops(hops) => {
                let set = guest.set_unicast_hop_limit(socket()?, *hops);
                self.socket(set)?;
            }
            UdpCall::SetBuffers(receive, send) => {
                let receive = HostUdpSocket::set_receive_buffer_size(guest, socket()?, receive.0);
                let send = HostUdpSocket::set_send_buffer_size(guest, socket()?, send.0);
                self.socket(receive)?;
                self.socket(send)?;
            }
            UdpCall::Sizes => {
                let hops = guest.unicast_hop_limit(socket()?);
                let receive = HostUdpSocket::receive_buffer_size(guest, socket()?);
                let send = HostUdpSocket::send_buffer_size(guest, socket()?);
                assert!(self.socket(hops)? > 0);
                assert!(self.socket(receive)? > 0);
                assert!(self.socket(send)? > 0);
            }
            UdpCall::Subscribe => {
                let pollable = HostUdpSocket::subscribe(guest, socket()?);
                let pollable = self.plain(pollable)?;
                self.handles.pollables.put(pollable);
            }
            UdpCall::Receive(most) => {
                let received = guest.receive(self.handles.incoming.lend(pick)?, most.0);
                let count = self.socket(received)?.len() as u64;
                assert!(count <= most.0.min(DATAGRAMS), "{count} of {most:?}");
            }
            UdpCall::CheckSend => {
                let permit = guest.check_send(self.handles.outgoing.lend(pick)?);
                assert!(self.socket(permit)? <= DATAGRAMS);
            }
            UdpCall::Send(asks, datagrams) => {
                if *asks || !self.rude {
                    let permit = guest.check_send(self.handles.outgoing.lend(pick)?);
                    let permit = self.socket(permit)?;
                    if datagrams.len() as u64 > permit {
                        return None;
                    }
                }
                let datagram = |(length, to): &(u8, Option<Address>)| OutgoingDatagram {
                    data: vec![b'x'; usize::from(*length)],
                    remote_address: to.map(Address::get),
                };
                let all: Vec<_> = datagrams.iter().map(datagram).collect();
                let outgoing = self.handles.outgoing.lend(pick)?;
                let sent = HostOutgoingDatagramStream::send(&mut self.guest, outgoing, all);
                assert!(self.socket(sent)? <= datagrams.len() as u64);
            }
            UdpCall::SubscribeIncoming => {
                let incoming = self.handles.incoming.lend(pick)?;
                let pollable = HostIncomingDatagramStream::subscribe(guest, incoming);
                let pollable = self.plain(pollable)?;
                self.handles.pollables.put(pollable);
            }
            UdpCall::SubscribeOutgoing => {
                let outgoing = self.handles.outgoing.lend(pick)?;
                let pollable = HostOutgoingDatagramStream::subscribe(guest, outgoing);
                let pollable = self.plain(pollable)?;
                self.handles.pollables.put(pollable);
            }
        }
        Some(())
    }

    pub(super) fn call_other(&mut self, call: &OtherCall) -> Option<()> {
        let guest = &mut self.guest;
        match call {
            OtherCall::Roots => {
                let roots = preopens::Host::get_directories(guest);
                for (root, _) in self.plain(roots)? {
                    self.handles.files.put(root);
                }
            }
            OtherCall::Network => {
                let network = instance_network::Host::instance_network(guest);
                let network = self.plain(network)?;
                self.handles.networks.put(network);
            }
            OtherCall::Environment => {
                let variables = environment::Host::get_environment(guest);
                let arguments = environment::Host::get_arguments(guest);
                let directory = environment::Host::initial_cwd(guest);
                let variable = ("NAME".to_owned(), "value".to_owned());
                assert_eq!(self.plain(variables)?, [variable]);
                assert_eq!(self.plain(arguments)?, ["guest", "argument"]);
                assert_eq!(self.plain(directory)??, "/a");
            }
            OtherCall::Terminals => {
                let input = terminal_stdin::Host::get_terminal_stdin(guest);
                let output = terminal_stdout::Host::get_terminal_stdout(guest);
                let error = terminal_stderr::Host::get_terminal_stderr(guest);
                self.plain(input)?;
                self.plain(output)?;
                self.plain(error)?;
            }
            OtherCall::Random(length) => {
                // What is allowed and long takes long.
                let length = match length.0 {
                    long @ 70_000..=RANDOM => long % 70_000,
                    length if self.rude => length,
                    length => length % 70_000,
                };
                let bytes = random::Host::get_random_bytes(guest, length);
                let number = random::Host::get_random_u64(guest);
                let seed = insecure_seed::Host::insecure_seed(guest);
                let insecure = insecure::Host::get_insecure_random_bytes(guest, length.min(64));
                let other = insecure::Host::get_insecure_random_u64(guest);
                self.plain(number)?;
                self.plain(seed)?;
                self.plain(other)?;
                assert_eq!(self.plain(insecure)?.len() as u64, length.min(64));
                assert_eq!(self.plain(bytes)?.len() as u64, length);
            }
            OtherCall::Resolve(network, name) => {
                let network = self.handles.networks.lend(*network)?;
                let found = guest.resolve_addresses(network, name.0.to_owned());
                let found = self.socket(found)?;
                self.handles.found.put(found);
            }
            OtherCall::NextAddress(pick) => {
                let next = guest.resolve_next_address(self.handles.found.lend(*pick)?);
                self.socket(next)??;
            }
            OtherCall::OthersTake(most) => hosts::take(most.0.min(MOST_TAKEN) as usize),
            OtherCall::SubscribeAddresses(pick) => {
                let found = self.handles.found.lend(*pick)?;
                let pollable = HostResolveAddressStream::subscribe(guest, found);
                let pollable = self.plain(pollable)?;
                self.handles.pollables.put(pollable);
            }
        }
        Some(())
    }
}
