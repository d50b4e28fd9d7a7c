//! One loop over many connections, and where the numbers of descriptors end.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use wasm_interp_wasi::errno::Errno;

use super::{AF_INET, AF_INET6, AF_UNIX, DATAGRAM, NONBLOCK, STREAM, network, with_network};
use crate::support::{BUFFER, OUT, ROOT};

#[test]
fn poll_waits_for_files_sockets_and_time_together() {
    with_network(network("tcp:8080", "udp:10.0.0.1:9"), |guest| {
        let number = |fd: u32| i32::try_from(fd).expect("small");
        let listener = guest.listener(AF_INET, "127.0.0.1:8080");
        let udp = guest.socket(AF_INET, DATAGRAM, 0).expect("a socket");
        let (read, write) = guest.pair("pipe", &[0]).expect("a pipe");
        let file = guest.create("f");
        let all = [
            (number(listener), 1),
            (number(udp), 1),
            (number(read), 1),
            (-1, 1),
        ];
        assert_eq!(guest.poll(&all, 0), Ok((0, vec![0; 4])));
        assert_eq!(
            guest.poll(&all, 1_000_000),
            Ok((0, vec![0; 4])),
            "its time is up"
        );
        assert_eq!(guest.poll(&[], 1_000_000), Ok((0, vec![])));
        let client = TcpStream::connect("127.0.0.1:8080").expect("connect");
        assert_eq!(guest.poll(&all, -1), Ok((1, vec![1, 0, 0, 0])));
        guest.put_out(write, b"x").expect("write");
        let more = [
            all[0],
            all[1],
            all[2],
            (number(file), 5),
            (77, 1),
            (number(write), 4),
        ];
        assert_eq!(guest.poll(&more, -1), Ok((5, vec![1, 0, 1, 5, 0x20, 4])));
        // One that is only a name cannot be waited for, as by poll(2).
        let root = i32::try_from(ROOT).expect("small");
        assert_eq!(guest.poll(&[(root, 1)], -1), Ok((1, vec![0x20])));
        guest.accept(listener, 0).expect("accept");
        guest.close(write).expect("close");
        guest.read(read, 8).expect("read");
        assert_eq!(guest.poll(&[all[2]], -1), Ok((1, vec![0x10])), "POLLHUP");
        drop(client);
        let many = vec![(-1, 1); 1 << 16];
        assert_eq!(guest.poll(&many, 0).expect("poll").0, 0);
        let beyond = [BUFFER.into(), (1 << 16) + 1, 0, OUT.into()];
        assert_eq!(guest.call("poll", &beyond), Err(Errno::Inval));
    });
}

#[test]
fn thousand_connections_are_served_by_one_loop() {
    const CONNECTIONS: u16 = 1000;
    with_network(network("tcp:8080", ""), |guest| {
        let listener = guest.listener(AF_INET, "127.0.0.1:8080");
        let mut clients = Vec::new();
        let mut list = vec![(i32::try_from(listener).expect("small"), 1)];
        for _ in 0..CONNECTIONS {
            clients.push(TcpStream::connect("127.0.0.1:8080").expect("connect"));
            let (ready, _) = guest.poll(&list[..1], -1).expect("poll");
            assert_eq!(ready, 1);
            let (connection, _) = guest.accept(listener, NONBLOCK).expect("accept");
            list.push((i32::try_from(connection).expect("small"), 1));
        }
        for (index, client) in clients.iter_mut().enumerate() {
            client.write_all(&index.to_le_bytes()).expect("write");
        }
        let mut served = 0;
        while served < usize::from(CONNECTIONS) {
            let (_, revents) = guest.poll(&list, -1).expect("poll");
            for (index, _) in revents.iter().enumerate().filter(|(_, one)| **one != 0) {
                let fd = u32::try_from(list[index].0).expect("a number");
                let data = guest.receive(fd, 64, 0).expect("receive").0;
                guest.send(fd, &data, 0, b"").expect("send");
                served += 1;
            }
        }
        for (index, client) in clients.iter_mut().enumerate() {
            let mut answer = [0; size_of::<usize>()];
            client.read_exact(&mut answer).expect("read");
            assert_eq!(usize::from_le_bytes(answer), index);
        }
    });
}

#[test]
fn no_connection_is_lost_where_no_number_is_free() {
    with_network(network("tcp:8080", ""), |guest| {
        let listener = guest.listener(AF_INET, "127.0.0.1:8080");
        let mut client = TcpStream::connect("127.0.0.1:8080").expect("connect");
        let mut numbers = Vec::new();
        let full = loop {
            match guest.call("dup", &[listener.into(), 0, OUT.into()]) {
                Ok(()) => numbers.push(guest.u32(OUT)),
                Err(error) => break error,
            }
        };
        assert_eq!(full, Errno::Mfile);
        assert_eq!(guest.accept(listener, 0).err(), Some(Errno::Mfile));
        let outside = [
            listener.into(),
            0,
            u64::from(u32::MAX) - 9,
            128,
            OUT.into(),
            OUT.into(),
        ];
        guest.close(numbers[0]).expect("close");
        assert_eq!(guest.call("accept4", &outside), Err(Errno::Fault));
        let (connection, _) = guest.accept(listener, 0).expect("accept");
        guest.send(connection, b"here", 0, b"").expect("send");
        let mut text = [0; 4];
        client.read_exact(&mut text).expect("read");
        assert_eq!(&text, b"here");
    });
}

/// As many as there is room for, of each kind, and connections that nothing accepts.
#[test]
fn sockets_end_where_the_numbers_of_descriptors_do() {
    let granted = network(
        "tcp:8080, unix:/run/*",
        "tcp:localhost:8080, udp:*:9, unix:/run/*",
    );
    with_network(granted, |guest| {
        let listener = guest.listener(AF_INET, "127.0.0.1:8080");
        // All numbers but 200.
        let mut taken = Vec::new();
        while guest.call("dup", &[listener.into(), 0, OUT.into()]) == Ok(()) {
            taken.push(guest.u32(OUT));
        }
        for fd in taken.split_off(taken.len() - 200) {
            guest.close(fd).expect("close");
        }
        for (family, kind) in [(AF_INET, STREAM), (AF_INET6, DATAGRAM), (AF_UNIX, STREAM)] {
            let mut numbers = Vec::new();
            let full = loop {
                match guest.socket(family, kind, NONBLOCK) {
                    Ok(fd) => numbers.push(fd),
                    Err(error) => break error,
                }
                if kind == STREAM && family == AF_INET {
                    let fd = *numbers.last().expect("it was made");
                    let answer = guest.connect(fd, "127.0.0.1:8080");
                    assert!(
                        matches!(answer, Ok(()) | Err(Errno::Inprogress)),
                        "{answer:?}"
                    );
                }
            };
            assert_eq!(full, Errno::Mfile);
            assert_eq!(guest.pair("pipe", &[0]), Err(Errno::Mfile));
            assert_eq!(numbers.len(), 200);
            for fd in numbers {
                guest.close(fd).expect("close");
            }
        }
        let first = guest.accept(listener, 0).expect("what was made is there");
        guest.close(first.0).expect("close");
        assert!(guest.pair("pipe", &[0]).is_ok());
    });
}
