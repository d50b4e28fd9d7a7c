//! Pairs of sockets, pipes, and descriptors that are duplicated or passed.

use std::{
    fs,
    io::IoSlice,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::{UnixDatagram, UnixListener, UnixStream},
    },
    path::Path,
};

use rustix::fs::AtFlags;
use wasm_interp_network::Network;
use wasm_interp_wasi::{LateMounts, errno::Errno};

use super::{AF_INET, AF_UNIX, DATAGRAM, NONBLOCK, STREAM, bytes, network, with_network};
use crate::support::{BUFFER, Caller, OUT, enter, in_tree};

#[test]
fn descriptors_are_passed_neither_way() {
    in_tree(|tree| {
        let descriptors = fs::File::open("/proc/self/fd").expect("/proc/self/fd");
        enter(tree);
        fs::create_dir("/run").expect("/run");
        let granted = network("unix:/run/*", "");
        let mut guest = Caller::with_network(LateMounts::Impossible, granted, None);
        let listener = guest.listener(AF_UNIX, "/run/a");
        let client = UnixStream::connect("/run/a").expect("connect");
        let (connection, _) = guest.accept(listener, 0).expect("accept");
        let passed: OwnedFd = fs::File::create("/passed").expect("a file").into();
        assert_eq!(numbers_of(&descriptors, "/passed"), 1);
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
        let fds = [passed.as_fd()];
        assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&fds)));
        let flags = rustix::net::SendFlags::empty();
        rustix::net::sendmsg(&client, &[IoSlice::new(b"x")], &mut control, flags).expect("send");
        drop(passed);
        let (data, flags, _) = guest.receive(connection, 8, 0).expect("receive");
        assert_eq!((&data[..], flags), (&b"x"[..], 8), "MSG_CTRUNC");
        assert_eq!(numbers_of(&descriptors, "/passed"), 0);
    });
}

/// How many descriptors of this process are of that file, by its open `/proc/self/fd`.
fn numbers_of(descriptors: &fs::File, path: &str) -> usize {
    let wanted = rustix::fs::stat(path).expect(path);
    let numbers = rustix::fs::Dir::read_from(descriptors).expect("the list");
    numbers
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| {
            // Other threads close theirs meanwhile.
            let found = rustix::fs::statat(descriptors, entry.file_name(), AtFlags::empty());
            found.is_ok_and(|found| (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino))
        })
        .count()
}

#[test]
fn pairs_and_pipes_lead_from_one_end_to_the_other() {
    with_network(Network::none(), |guest| {
        let (one, other) = guest
            .pair("socketpair", &[AF_UNIX, STREAM, 0, 0])
            .expect("a pair");
        guest.put_out(one, b"there").expect("write");
        assert_eq!(guest.read(other, 16).as_deref(), Ok(&b"there"[..]));
        guest.send(other, b"back", 0, b"").expect("send");
        assert_eq!(guest.receive(one, 16, 0).expect("receive").0, b"back");
        let (one, other) = guest
            .pair("socketpair", &[AF_UNIX, DATAGRAM, 0, NONBLOCK])
            .expect("a pair");
        guest.send(one, b"1", 0, b"").expect("send");
        guest.send(one, b"2", 0, b"").expect("send");
        assert_eq!(guest.receive(other, 16, 0).expect("receive").0, b"1");
        assert_eq!(guest.receive(other, 16, 0).expect("receive").0, b"2");
        assert_eq!(guest.receive(other, 16, 0).err(), Some(Errno::Again));
        assert_eq!(
            guest.pair("socketpair", &[AF_INET, STREAM, 0, 0]),
            Err(Errno::Notsup)
        );
        assert_eq!(
            guest.pair("socketpair", &[AF_UNIX, 5, 0, 0]),
            Err(Errno::Protonosupport)
        );

        let (read, write) = guest.pair("pipe", &[NONBLOCK]).expect("a pipe");
        assert_eq!(guest.read(read, 4).err(), Some(Errno::Again));
        guest.put_out(write, b"in").expect("write");
        assert_eq!(guest.read(read, 4).as_deref(), Ok(&b"in"[..]));
        guest.close(write).expect("close");
        assert_eq!(guest.read(read, 4).as_deref(), Ok(&b""[..]));
        assert_eq!(guest.option(read, 1, 3, 4).err(), Some(Errno::Notsock));
    });
}

/// The kernel's answers, but for what would take an address.
#[test]
fn ends_of_a_pair_are_sockets_that_lead_nowhere_else() {
    with_network(Network::none(), |guest| {
        let elsewhere = UnixDatagram::bind("/run/elsewhere").expect("bind");
        let listener = UnixListener::bind("/run/listener").expect("bind");
        for kind in [STREAM, DATAGRAM] {
            let (one, other) = guest
                .pair("socketpair", &[AF_UNIX, kind, 0, 0])
                .expect("a pair");
            for fd in [one, other] {
                assert_eq!(guest.name("getsockname", fd).as_deref(), Ok(""));
                assert_eq!(guest.name("getpeername", fd).as_deref(), Ok(""));
                let of_kind = u32::try_from(kind).expect("small").to_le_bytes();
                assert_eq!(guest.option(fd, 1, 3, 4).as_deref(), Ok(&of_kind[..]));
                for path in ["/run/elsewhere", "/run/listener"] {
                    assert_eq!(guest.connect(fd, path), Err(Errno::Acces));
                    assert_eq!(guest.send(fd, b"x", 0, &bytes(path)), Err(Errno::Acces));
                }
                assert_eq!(guest.bind(fd, "/run/own"), Err(Errno::Acces));
                assert_eq!(guest.connect(fd, "10.0.0.1:80"), Err(Errno::Afnosupport));
                let undone = guest.with_address("connect", fd, &[0; 16]);
                assert!(
                    matches!(undone, Err(Errno::Notsup | Errno::Afnosupport)),
                    "{undone:?}"
                );
                let (listen, accept) = (guest.listen(fd), guest.accept(fd, 0));
                let expected = if kind == STREAM {
                    Errno::Inval
                } else {
                    Errno::Notsup
                };
                assert_eq!((listen, accept), (Err(expected), Err(expected)));
            }
            // Several buffers are one message.
            guest.write(BUFFER, b"onetwothree");
            let [list, count] = guest.vectors(&[(BUFFER, 3), (BUFFER + 3, 3), (BUFFER + 6, 5)]);
            let arguments = [one.into(), list, count, 0x40, 0, 0, OUT.into()];
            assert_eq!(guest.call("sendmsg", &arguments), Ok(()));
            assert_eq!(guest.u32(OUT), 11);
            let (data, flags, _) = guest.receive(other, 64, 2).expect("peek");
            assert_eq!((&data[..], flags), (&b"onetwothree"[..], 0));
            assert_eq!(
                guest.receive(other, 64, 0).expect("receive").0,
                b"onetwothree"
            );
            let half = guest.call("sock_shutdown", &[one.into(), 2]);
            assert_eq!(half, Ok(()));
            assert_eq!(guest.send(one, b"x", 0x4000, b""), Err(Errno::Pipe));
            let end = guest.receive(other, 8, 0x40).map(|one| one.0);
            assert_eq!(
                end,
                if kind == STREAM {
                    Ok(Vec::new())
                } else {
                    Err(Errno::Again)
                }
            );
        }
        // More than a message, or than a pair holds.
        for (kind, expected) in [(STREAM, None), (DATAGRAM, Some(Errno::Msgsize))] {
            let (one, _other) = guest
                .pair("socketpair", &[AF_UNIX, kind, 0, NONBLOCK])
                .expect("a pair");
            let [list, count] = guest.vectors(&[(0, 1 << 20), (0, 1 << 20)]);
            let arguments = [one.into(), list, count, 0x4000, 0, 0, OUT.into()];
            assert_eq!(guest.call("sendmsg", &arguments).err(), expected);
        }
        drop((elsewhere, listener));
        assert!(!Path::new("/run/own").exists());
    });
}

#[test]
fn further_numbers_share_an_open_file() {
    with_network(Network::none(), |guest| {
        let file = guest.create("f");
        let mut dup = |fd: u32, from: u64| {
            guest.call("dup", &[fd.into(), from, OUT.into()])?;
            Ok(guest.u32(OUT))
        };
        assert_eq!(dup(file, 0), Ok(5));
        assert_eq!(dup(file, 20), Ok(20));
        assert_eq!(dup(file, 20), Ok(21));
        assert_eq!(dup(99, 0), Err(Errno::Badf));
        assert_eq!(dup(file, 1 << 30), Err(Errno::Inval));
        let mut dup2 = |fd: u32, to: u64| guest.call("dup2", &[fd.into(), to]);
        assert_eq!(dup2(file, 40), Ok(()));
        assert_eq!(dup2(file, file.into()), Ok(()));
        assert_eq!(dup2(99, 40), Err(Errno::Badf));
        assert_eq!(dup2(99, 99), Err(Errno::Badf));
        assert_eq!(dup2(file, 1 << 30), Err(Errno::Badf));
        // Standard output leads to the file now.
        assert_eq!(dup2(file, 1), Ok(()));
        guest.put_out(1, b"one ").expect("write");
        guest.put_out(40, b"two ").expect("write");
        guest.close(file).expect("close");
        guest.put_out(20, b"three").expect("write");
        assert_eq!(fs::read("/f").expect("read"), b"one two three");
    });
}
