//! Host functions with real sockets, whose other side is the test's.

mod datagrams;
mod entries;
mod fifos;
mod late_mounts;
mod names;

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket as PlainUdpSocket},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    sync::Arc,
    thread::{JoinHandle, sleep, spawn},
    time::{Duration, Instant},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, mknodat, open},
    net::sockopt::{set_socket_linger, set_socket_recv_buffer_size, set_socket_send_buffer_size},
};
use wasm_interp_network::{Network, NetworkRules, parse_connect, parse_listen};
use wasmtime::component::Resource;

use super::{
    bindings::wasi::{
        clocks::monotonic_clock::Host as _,
        io::{
            poll::{Host as _, HostPollable as _},
            streams::{Host as _, HostInputStream, HostOutputStream, StreamError},
        },
        sockets::{
            network::{ErrorCode, Host as _},
            tcp::{HostTcpSocket, ShutdownType},
            udp::{HostIncomingDatagramStream, HostUdpSocket},
        },
    },
    failure::{SocketFailure, StreamFailure},
    guest::ComponentGuest,
    handles::{
        FileHandle, InputStream, OutputHandle, OutputStream, PATIENCE, ReadAt, Slots, SocketFd,
        Source, TcpHandle, TcpSocket, TcpState, UdpSocket, UdpState, Unsent, WriteAt,
    },
};
use crate::{
    LateMounts, ModesBy,
    guest::GuestSettings,
    limits, paths,
    sockets::{Family, Socket, SocketKind, SocketOrigin},
    wait::PIPE_BUF,
};

/// No peer of a test waits longer for a guest that does not get on.
const LONG: Duration = Duration::from_secs(20);

/// What these rules grant. Not that of the tests' support: with it come dependencies by which the tests of this crate would
/// not compile.
fn granted(listen: &str, connect: &str) -> Network {
    let rules = NetworkRules {
        listen: parse_listen(listen).expect(listen),
        connect: parse_connect(connect).expect(connect),
        ..NetworkRules::none()
    };
    Network::new(rules.clone(), rules).expect("within itself")
}

fn guest() -> ComponentGuest {
    guest_with(Network::none())
}

fn guest_with(network: Network) -> ComponentGuest {
    guest_by(network, LateMounts::Impossible)
}

/// Whose root directory is the calling thread's.
fn guest_by(network: Network, late_mounts: LateMounts) -> ComponentGuest {
    let settings = GuestSettings {
        arguments: Vec::new(),
        environment: Vec::new(),
        root: paths::root().expect("the root directory"),
        late_mounts,
        modes_by: ModesBy::of_kernel(),
        network,
        refusals: None,
    };
    ComponentGuest::new(settings, "/".to_owned()).expect("a guest")
}

fn slots() -> Slots {
    Slots::new(limits::SOCKETS)
}

fn socket(fd: impl Into<OwnedFd>) -> Arc<SocketFd> {
    SocketFd::new(fd.into(), slots().take().expect("a slot"))
}

/// A stream to a socket of the guest's that holds less than may be written at once, and the other side.
pub(super) fn small_pair() -> (OutputHandle, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    ours.set_nonblocking(true).expect("not to wait");
    set_socket_send_buffer_size(&ours, limits::STREAM / 8).expect("a small buffer");
    let source = Source::Socket(socket(ours));
    (OutputStream::new(source, WriteAt::Next), theirs)
}

/// Writes until there is no room.
pub(super) fn fill(stream: &OutputStream, left: usize) -> usize {
    let mut written = 0;
    loop {
        match stream.check_write(left).expect("open") {
            0 => return written,
            room => {
                stream
                    .write(&vec![7; room], &*Unsent::new(PATIENCE))
                    .expect("write");
                written += room;
            }
        }
    }
}

/// The guest's end of a connection.
struct Connection {
    socket: Resource<TcpHandle>,
    input: Resource<InputStream>,
    output: Resource<OutputHandle>,
}

fn of_kernel(kind: SocketKind) -> Socket {
    Socket::new(Family::Inet, kind, SocketOrigin::ByKernel)
}

/// A connection of which both ends hold little.
fn connect(guest: &mut ComponentGuest) -> (Connection, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
    set_socket_recv_buffer_size(&listener, 4096).expect("a small buffer");
    let ours = TcpStream::connect(listener.local_addr().expect("an address")).expect("connect");
    let (peer, _) = listener.accept().expect("accept");
    peer.set_read_timeout(Some(LONG)).expect("a time-out");
    ours.set_nonblocking(true).expect("not to wait");
    set_socket_send_buffer_size(&ours, 4096).expect("a small buffer");
    let tcp = TcpSocket::new(
        socket(ours),
        of_kernel(SocketKind::Stream),
        TcpState::Connected,
    );
    let (input, output) = guest.streams(&tcp).expect("streams");
    let socket = guest.push(tcp).expect("a handle");
    let connection = Connection {
        socket,
        input,
        output,
    };
    (connection, peer)
}

fn lend<T: 'static>(handle: &Resource<T>) -> Resource<T> {
    Resource::new_borrow(handle.rep())
}

/// As wasi-libc sends without waiting: it does not come back for what is kept.
fn send(guest: &mut ComponentGuest, output: &Resource<OutputHandle>, length: usize) -> usize {
    let room = HostOutputStream::check_write(guest, lend(output)).expect("open");
    let length = length.min(usize::try_from(room).expect("a size"));
    HostOutputStream::write(guest, lend(output), vec![7; length]).expect("write");
    length
}

fn kept(guest: &ComponentGuest) -> usize {
    limits::KEPT - guest.unsent.room()
}

/// Sends more than both ends hold.
fn send_much(guest: &mut ComponentGuest, output: &Resource<OutputHandle>) -> usize {
    let sent = send(guest, output, 60 * 1024) + send(guest, output, 60 * 1024);
    assert!(kept(guest) > 0, "the kernel has taken {sent} bytes");
    sent
}

/// A directory of the test's.
fn directory(guest: &mut ComponentGuest, path: &Path) -> Resource<FileHandle> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = open(path, flags, Mode::empty()).expect("a directory");
    let handle = FileHandle::new(opened.into(), FileType::Directory, flags, false);
    guest.push(handle).expect("a handle")
}

/// A peer that reads so much, slowly, and answers.
fn answers_after(mut peer: TcpStream, length: usize) -> JoinHandle<TcpStream> {
    spawn(move || {
        let mut left = length;
        let mut buffer = [0; 4096];
        while left > 0 {
            let count = peer.read(&mut buffer).expect("the guest sends all");
            assert!(count > 0, "{left} bytes are missing");
            left -= count;
            sleep(Duration::from_micros(100));
        }
        peer.write_all(b"answer").expect("write");
        peer
    })
}

fn poll_one(guest: &mut ComponentGuest, input: &Resource<InputStream>) {
    let pollable = HostInputStream::subscribe(guest, lend(input)).expect("a pollable");
    assert_eq!(guest.poll(vec![lend(&pollable)]).expect("poll"), [0]);
    guest.table.delete(pollable).expect("there");
}

fn read(guest: &mut ComponentGuest, input: &Resource<InputStream>) -> Vec<u8> {
    HostInputStream::read(guest, lend(input), 100).expect("open")
}

/// How a guest waits for an answer.
type Way = fn(&mut ComponentGuest, &Resource<InputStream>) -> Vec<u8>;

const WAYS: [Way; 4] = [
    |guest, input| {
        poll_one(guest, input);
        read(guest, input)
    },
    |guest, input| {
        let pollable = HostInputStream::subscribe(guest, lend(input)).expect("a pollable");
        guest.block(lend(&pollable)).expect("block");
        read(guest, input)
    },
    // It spins. The linker has each call begin so.
    |guest, input| loop {
        let bytes = read(guest.called(), input);
        if !bytes.is_empty() {
            return bytes;
        }
    },
    |guest, input| {
        let pollable = HostInputStream::subscribe(guest, lend(input)).expect("a pollable");
        while !guest.ready(lend(&pollable)).expect("a pollable") {}
        read(guest, input)
    },
];

#[test]
fn what_is_kept_is_sent_while_the_guest_waits_for_an_answer() {
    for way in WAYS {
        let guest = &mut guest();
        let (connection, peer) = connect(guest);
        let sent = send_much(guest, &connection.output);
        let peer = answers_after(peer, sent);
        assert_eq!(way(guest, &connection.input), b"answer");
        assert_eq!(kept(guest), 0);
        peer.join().expect("the peer");
    }
}

#[test]
fn what_is_kept_is_sent_while_another_stream_is_read_or_written() {
    let guest = &mut guest();
    let (connection, peer) = connect(guest);
    let sent = send_much(guest, &connection.output);
    HostOutputStream::flush(guest, lend(&connection.output)).expect("open");
    let first = answers_after(peer, sent);
    let read = HostInputStream::blocking_read(guest, lend(&connection.input), 100);
    assert_eq!(read.expect("open"), b"answer");
    let peer = first.join().expect("the peer");

    // The other stream is full until the first peer has all, and more.
    let (other, mut slow) = connect(guest);
    let mut of_other = 0;
    while let more @ 1.. = send(guest, &other.output, limits::STREAM) {
        of_other += more;
    }
    let sent = send_much(guest, &connection.output);
    let first = answers_after(peer, sent);
    let slow = spawn(move || {
        first.join().expect("the peer");
        let mut all = vec![0; of_other + 1];
        slow.read_exact(&mut all).expect("the guest sends all");
    });
    let output = lend(&other.output);
    HostOutputStream::blocking_write_and_flush(guest, output, vec![1]).expect("write");
    slow.join().expect("the other peer");
}

#[test]
fn end_comes_after_what_is_kept_while_the_guest_waits() {
    let guest = &mut guest();
    let (connection, mut peer) = connect(guest);
    let sent = send_much(guest, &connection.output);
    let socket = lend(&connection.socket);
    guest.shutdown(socket, ShutdownType::Send).expect("ended");
    let peer = spawn(move || {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).expect("the end");
        assert_eq!(all.len(), sent);
        peer.write_all(b"answer").expect("write");
    });
    poll_one(guest, &connection.input);
    assert_eq!(read(guest, &connection.input), b"answer");
    peer.join().expect("the peer");
}

#[test]
fn dropped_stream_is_sent_while_the_guest_waits() {
    let guest = &mut guest();
    let (connection, peer) = connect(guest);
    let sent = send_much(guest, &connection.output);
    HostOutputStream::drop(guest, connection.output).expect("there");
    let peer = answers_after(peer, sent);
    let read = HostInputStream::blocking_read(guest, connection.input, 100);
    assert_eq!(read.expect("open"), b"answer");
    peer.join().expect("the peer");
}

#[test]
fn what_is_kept_is_sent_while_a_name_is_looked_up() {
    let guest = &mut guest();
    let nameserver = PlainUdpSocket::bind("127.0.0.1:0").expect("bind");
    guest
        .resolver
        .ask_only(nameserver.local_addr().expect("an address"));
    let (connection, peer) = connect(guest);
    let sent = send_much(guest, &connection.output);
    let peer = answers_after(peer, sent);
    let nameserver = spawn(move || {
        let mut question = [0; 512];
        let (length, from) = nameserver.recv_from(&mut question).expect("a question");
        peer.join().expect("the peer");
        // That there is no such name.
        question[2] |= 0x80;
        question[3] |= 3;
        nameserver.send_to(&question[..length], from).expect("send");
    });
    guest.resolver.ask("a.example").expect_err("no such name");
    nameserver.join().expect("the nameserver");
    assert_eq!(kept(guest), 0);
}

/// Waits until nothing is kept, as a guest does that has something else to wait for.
fn go_on(guest: &mut ComponentGuest) {
    let end = Instant::now() + LONG;
    while kept(guest) > 0 && Instant::now() < end {
        let soon = guest.subscribe_duration(10_000_000).expect("a pollable");
        guest.block(lend(&soon)).expect("block");
        guest.table.delete(soon).expect("there");
    }
}

#[test]
fn peer_that_takes_nothing_is_cut_off_and_sees_that() {
    let guest = &mut guest();
    guest.unsent = Unsent::new(Duration::from_millis(100));
    let (connection, mut peer) = connect(guest);
    send_much(guest, &connection.output);
    // As long as the guest has the stream, it says how long it waits.
    let later = guest.subscribe_duration(300_000_000).expect("a pollable");
    guest.block(later).expect("block");
    assert!(kept(guest) > 0);
    HostOutputStream::drop(guest, connection.output).expect("there");
    HostInputStream::drop(guest, connection.input).expect("there");
    HostTcpSocket::drop(guest, connection.socket).expect("there");
    let begun = Instant::now();
    go_on(guest);
    assert_eq!(kept(guest), 0);
    assert!(begun.elapsed() >= Duration::from_millis(100));
    let cut_off = peer.read_to_end(&mut Vec::new()).expect_err("not the end");
    assert_eq!(cut_off.kind(), ErrorKind::ConnectionReset);
}

/// A peer that reads slowly has its time again after each part.
#[test]
fn peer_that_is_slow_is_not_cut_off() {
    let guest = &mut guest();
    guest.unsent = Unsent::new(Duration::from_millis(500));
    let (connection, mut peer) = connect(guest);
    let sent = send_much(guest, &connection.output);
    HostOutputStream::drop(guest, connection.output).expect("there");
    HostInputStream::drop(guest, connection.input).expect("there");
    HostTcpSocket::drop(guest, connection.socket).expect("there");
    let begun = Instant::now();
    let peer = spawn(move || {
        let (mut all, mut part) = (0, [0; 8192]);
        loop {
            match peer.read(&mut part).expect("no reset") {
                0 => return all,
                count => all += count,
            }
            sleep(Duration::from_millis(100));
        }
    });
    go_on(guest);
    assert_eq!(peer.join().expect("the peer"), sent);
    assert!(begun.elapsed() > Duration::from_millis(500));
}

#[test]
fn one_stream_too_many_cuts_off_the_one_that_has_sent_nothing_longest() {
    let unsent = Unsent::new(PATIENCE);
    let mut all: Vec<(OutputHandle, UnixStream)> = Vec::new();
    for number in 0..=limits::LINGERING {
        if number == limits::LINGERING {
            let (first, peer) = &mut all[0];
            let read = peer.read(&mut [0; 16 * 1024]).expect("read");
            assert!(read > 0);
            unsent.settle(&[Arc::clone(first)]);
        }
        let (stream, peer) = small_pair();
        assert!(stream.check_write(limits::KEPT).expect("open") >= 32 * 1024);
        stream
            .write(&vec![7; 32 * 1024], &*Unsent::new(PATIENCE))
            .expect("write");
        unsent.linger(&stream);
        assert!(stream.kept() > 0);
        all.push((stream, peer));
    }
    let lost = all.iter().position(|(stream, _)| stream.kept() == 0);
    assert_eq!(lost, Some(1));
    let lost = all.iter().filter(|(stream, _)| stream.kept() == 0);
    assert_eq!(lost.count(), 1);
}

/// What is lost is not the beginning of something whole, whatever ends the process.
#[test]
fn connection_that_ends_before_all_is_sent_is_reset() {
    let guest = &mut guest();
    let (connection, mut peer) = connect(guest);
    send_much(guest, &connection.output);
    drop(std::mem::replace(guest, self::guest()));
    let cut_off = peer.read_to_end(&mut Vec::new()).expect_err("not the end");
    assert_eq!(cut_off.kind(), ErrorKind::ConnectionReset);

    // And one that has sent all is not.
    let (connection, peer) = connect(guest);
    let sent = send_much(guest, &connection.output);
    let peer = answers_after(peer, sent);
    go_on(guest);
    let mut peer = peer.join().expect("the peer");
    poll_one(guest, &connection.input);
    assert_eq!(read(guest, &connection.input), b"answer");
    drop(std::mem::replace(guest, self::guest()));
    assert_eq!(peer.read(&mut [0]).expect("the end"), 0);
}

/// What `network-error-code` says of the failure of a stream.
fn code_of_stream<T>(
    guest: &mut ComponentGuest,
    result: Result<T, StreamFailure>,
) -> Option<ErrorCode> {
    let failure = result.err().expect("a failure");
    match guest.convert_stream_error(failure).expect("no trap") {
        StreamError::LastOperationFailed(error) => guest.network_error_code(error).expect("there"),
        StreamError::Closed => None,
    }
}

/// A connection of which the guest has some bytes to read, and that was then reset. `before` is what the guest does
/// before that.
fn reset_connection(
    guest: &mut ComponentGuest,
    before: fn(&mut ComponentGuest, &Connection),
) -> Connection {
    let (connection, mut peer) = connect(guest);
    peer.write_all(b"half").expect("write");
    before(guest, &connection);
    set_socket_linger(&peer, Some(Duration::ZERO)).expect("a reset at the close");
    drop(peer);
    connection
}

fn read_is_reset(guest: &mut ComponentGuest, connection: &Connection) {
    assert_eq!(read(guest, &connection.input), b"half");
    for expected in [Some(ErrorCode::ConnectionReset), None, None] {
        let read = HostInputStream::read(guest, lend(&connection.input), 100);
        assert_eq!(code_of_stream(guest, read), expected);
    }
}

fn write_is_reset(guest: &mut ComponentGuest, connection: &Connection) {
    let room = HostOutputStream::check_write(guest, lend(&connection.output));
    if matches!(room, Ok(1..)) {
        let written = HostOutputStream::write(guest, lend(&connection.output), vec![7]);
        assert_eq!(
            code_of_stream(guest, written),
            Some(ErrorCode::ConnectionReset)
        );
    } else {
        // A write of ours has been told.
        assert_eq!(
            code_of_stream(guest, room),
            Some(ErrorCode::ConnectionReset)
        );
    }
    for _ in 0..2 {
        let room = HostOutputStream::check_write(guest, lend(&connection.output));
        assert_eq!(code_of_stream(guest, room), None);
    }
}

/// The kernel says it once, to the first call: whichever that is, both streams say it.
#[test]
fn reset_is_no_end_of_a_connection_and_both_streams_say_it() {
    let guest = &mut guest();
    let connection = reset_connection(guest, |_, _| {});
    read_is_reset(guest, &connection);
    write_is_reset(guest, &connection);

    let connection = reset_connection(guest, |_, _| {});
    write_is_reset(guest, &connection);
    read_is_reset(guest, &connection);

    // The call that the kernel tells is ours: it sends what is kept.
    let connection = reset_connection(guest, |guest, connection| {
        send_much(guest, &connection.output);
    });
    go_on(guest);
    assert_eq!(kept(guest), 0);
    read_is_reset(guest, &connection);
    write_is_reset(guest, &connection);

    // It is ours too: it discards what has arrived.
    let connection = reset_connection(guest, |_, _| {});
    guest
        .shutdown(lend(&connection.socket), ShutdownType::Receive)
        .expect("ended");
    let read = HostInputStream::read(guest, lend(&connection.input), 100);
    assert!(matches!(read, Err(StreamFailure::Closed)), "{read:?}");
    write_is_reset(guest, &connection);
}

/// Of a connection that the peer has ended, a write says no more than that it is closed, and a read that it is at its end.
#[test]
fn end_of_a_connection_is_no_reset() {
    let guest = &mut guest();
    let (connection, mut peer) = connect(guest);
    peer.write_all(b"all").expect("write");
    drop(peer);
    assert_eq!(read(guest, &connection.input), b"all");
    // The peer answers that it is gone.
    assert_eq!(send(guest, &connection.output, 1), 1);
    let room = HostOutputStream::check_write(guest, lend(&connection.output));
    assert!(room.expect("not known yet") > 0);
    let written = HostOutputStream::write(guest, lend(&connection.output), vec![7]);
    assert_eq!(code_of_stream(guest, written), None);
    let read = HostInputStream::read(guest, lend(&connection.input), 100);
    assert_eq!(code_of_stream(guest, read), None);
}

#[test]
fn streams_keep_no_more_than_the_bound_together_and_others_get_on() {
    let unsent = Unsent::new(PATIENCE);
    let stalled: Vec<_> = (0..120)
        .map(|_| {
            let (stream, peer) = small_pair();
            while let room @ 1.. = stream.check_write(unsent.room()).expect("open") {
                stream
                    .write(&vec![7; room], &*Unsent::new(PATIENCE))
                    .expect("write");
                unsent.note(&stream);
            }
            (stream, peer)
        })
        .collect();
    let kept: usize = stalled.iter().map(|(stream, _)| stream.kept()).sum();
    assert!(kept > limits::KEPT - limits::STREAM, "{kept}");
    assert!(kept <= limits::KEPT + stalled.len() * PIPE_BUF, "{kept}");
    let (stream, mut peer) = small_pair();
    let peer = spawn(move || {
        let mut all = vec![0; limits::STREAM];
        peer.read_exact(&mut all).expect("read");
    });
    let mut left = limits::STREAM;
    while left > 0 {
        let room = stream.check_write(unsent.room()).expect("open").min(left);
        if room == 0 {
            stream.wait(&*unsent).expect("room");
            continue;
        }
        stream
            .write(&vec![7; room], &*Unsent::new(PATIENCE))
            .expect("write");
        unsent.note(&stream);
        left -= room;
    }
    stream.blocking_flush(&*unsent).expect("open");
    peer.join().expect("the peer");
}

/// What the guest is told of a failure.
fn code(guest: &mut ComponentGuest, failure: SocketFailure) -> ErrorCode {
    guest.convert_error_code(failure).expect("no trap")
}

/// Peers make connections: they must not take the handles that the guest needs.
#[test]
fn connection_without_a_slot_is_refused_and_stays_for_later() {
    let guest = &mut guest();
    guest.socket_slots = Slots::new(2);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
    listener.set_nonblocking(true).expect("not to wait");
    let address = listener.local_addr().expect("an address");
    let slot = guest.socket_slots.take().expect("a slot");
    let listener = SocketFd::new(listener.into(), slot);
    let kind = of_kernel(SocketKind::Stream);
    let listener = guest.push(TcpSocket::new(listener, kind, TcpState::Listening));
    let listener = listener.expect("a handle");
    let peers: Vec<_> = (0..2)
        .map(|_| TcpStream::connect(address).expect("connect"))
        .collect();
    let (socket, input, output) = guest.accept(lend(&listener)).expect("the first");
    for _ in 0..3 {
        let failure = guest.accept(lend(&listener)).expect_err("one too many");
        assert_eq!(code(guest, failure), ErrorCode::NewSocketLimit);
    }
    // A stream has its socket too.
    HostTcpSocket::drop(guest, socket).expect("there");
    HostInputStream::drop(guest, input).expect("there");
    guest.accept(lend(&listener)).expect_err("one too many");
    HostOutputStream::drop(guest, output).expect("there");
    let (second, ..) = guest.accept(lend(&listener)).expect("the second");
    let remote = HostTcpSocket::remote_address(guest, second).expect("connected");
    let expected = peers[1].local_addr().expect("an address");
    assert_eq!(SocketAddr::from(remote), expected);
}

#[test]
fn connected_datagram_stream_gives_nothing_of_others() {
    let plain = || PlainUdpSocket::bind("127.0.0.1:0").expect("bind");
    let (ours, server, other) = (plain(), plain(), plain());
    let address = |socket: &PlainUdpSocket| socket.local_addr().expect("an address");
    let to = address(&ours);
    let send = |from: &PlainUdpSocket, text: &[u8]| {
        from.send_to(text, to).expect("send");
    };
    ours.set_nonblocking(true).expect("not to wait");
    // These have come before it is connected.
    send(&other, b"forged");
    send(&server, b"first");
    let udp = UdpSocket::new(socket(ours), of_kernel(SocketKind::Datagram));
    *udp.state() = UdpState::Bound(None);
    let rule = format!("udp:{}", address(&server));
    let guest = &mut guest_with(granted("", &rule));
    let handle = guest.push(udp).expect("a handle");
    let streams = HostUdpSocket::stream(guest, handle, Some(address(&server).into()));
    let (incoming, _) = streams.expect("connected");
    send(&server, b"second");
    let mut received = || {
        let all = HostIncomingDatagramStream::receive(guest, lend(&incoming), 10);
        let all = all.expect("open").into_iter().map(|one| one.data);
        all.collect::<Vec<_>>()
    };
    assert_eq!(received(), [b"first".to_vec(), b"second".to_vec()]);
    send(&other, b"refused by the kernel");
    assert!(received().is_empty());
}

#[test]
fn end_of_receiving_closes_the_stream_and_discards_what_has_come() {
    for how in [ShutdownType::Receive, ShutdownType::Both] {
        let guest = &mut guest();
        let (connection, mut peer) = connect(guest);
        let pollable = HostInputStream::subscribe(guest, lend(&connection.input));
        let pollable = pollable.expect("a pollable");
        assert!(!guest.ready(lend(&pollable)).expect("a pollable"));
        peer.write_all(b"not read").expect("write");
        poll_one(guest, &connection.input);
        guest
            .shutdown(lend(&connection.socket), how)
            .expect("ended");
        let read = HostInputStream::read(guest, lend(&connection.input), 100);
        assert!(matches!(read, Err(StreamFailure::Closed)), "{read:?}");
        assert!(guest.ready(pollable).expect("a pollable"));
        // More than once, it has no effect.
        guest
            .shutdown(lend(&connection.socket), how)
            .expect("ended");
        if let ShutdownType::Receive = how {
            assert_eq!(send(guest, &connection.output, 3), 3);
            // The kernel would still give what comes now.
            peer.write_all(b"late").expect("write");
            let read = HostInputStream::read(guest, lend(&connection.input), 100);
            assert!(matches!(read, Err(StreamFailure::Closed)), "{read:?}");
            peer.read_exact(&mut [0; 3]).expect("three bytes");
        } else {
            drop(std::mem::replace(guest, self::guest()));
            // No reset, as of what was not read.
            assert_eq!(peer.read(&mut [0]).expect("the end"), 0);
        }
    }
}

/// A terminal goes on after it has said once that its input is at its end, and so does a FIFO.
#[test]
fn stream_that_has_ended_need_not_be_waited_for() {
    let guest = &mut guest();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("fifo");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
    let open = |flags| open(&path, flags | OFlags::NONBLOCK, Mode::empty()).expect("open");
    let source = Source::Own(Arc::new(open(OFlags::RDONLY)));
    let input = guest.push(InputStream::new(source, ReadAt::Next));
    let input = input.expect("a handle");
    let pollable = HostInputStream::subscribe(guest, lend(&input)).expect("a pollable");
    drop(open(OFlags::WRONLY));
    let read = HostInputStream::read(guest, lend(&input), 1);
    assert!(matches!(read, Err(StreamFailure::Closed)), "{read:?}");
    // Now the kernel has something to wait for again.
    let _writer = open(OFlags::WRONLY);
    assert!(guest.ready(pollable).expect("a pollable"));
    poll_one(guest, &input);
}
