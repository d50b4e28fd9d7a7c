//! Sockets, pipes and their grants, in a network namespace that a test makes for itself.

mod connections;
mod grants;
mod many;
mod pairs;
mod unix;

use std::{fs, net::SocketAddr, process::Command};

use nix::sched::{CloneFlags, unshare};
use wasm_interp_network::Network;
pub(crate) use wasm_interp_test_support::network::granted as network;
use wasm_interp_wasi::{LateMounts, errno::Result};

use crate::support::{BUFFER, Caller, OUT, enter, in_tree, run};

const AF_UNIX: u64 = 1;
const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
const STREAM: u64 = 1;
const DATAGRAM: u64 = 2;
const NONBLOCK: u64 = 4;
/// ppoll(2), as the kernel numbers it.
#[cfg(target_arch = "x86_64")]
const SYS_PPOLL: u32 = 271;
#[cfg(not(target_arch = "x86_64"))]
const SYS_PPOLL: u32 = 73;
/// Where an address is received, beside the data.
const ADDRESS: u32 = BUFFER - 256;

/// Gives this thread a network of its own with a loopback, and more addresses of it.
pub(crate) fn own_network(addresses: &[&str]) {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
    let ip = |arguments: &[&str]| {
        let done = run(Command::new("ip").args(arguments));
        assert!(done.status.success(), "ip {arguments:?}");
    };
    ip(&["link", "set", "lo", "up"]);
    for address in addresses {
        // Without a moment in which the kernel looks for duplicates and the address cannot be used.
        let now: &[&str] = if address.contains(':') {
            &["nodad"]
        } else {
            &[]
        };
        ip(&[&["address", "add", address, "dev", "lo"], now].concat());
    }
}

/// Runs `test` with a guest in a tree and a network of their own.
fn with_network(network: Network, test: impl FnOnce(&mut Caller) + Send + 'static) {
    in_tree(move |tree| {
        own_network(&["10.0.0.1/32", "10.0.0.2/32", "fd00::1/128"]);
        enter(tree);
        fs::create_dir("/run").expect("/run");
        test(&mut Caller::with_network(
            LateMounts::Impossible,
            network,
            None,
        ));
    });
}

/// An address in the form of the interface.
fn bytes(address: &str) -> Vec<u8> {
    if address.starts_with('/') {
        return [&1u16.to_ne_bytes(), address.as_bytes(), &[0]].concat();
    }
    let address: SocketAddr = address.parse().expect(address);
    let port = address.port().to_be_bytes();
    match address {
        SocketAddr::V4(v4) => [&2u16.to_ne_bytes(), &port, &v4.ip().octets()[..], &[0; 8]].concat(),
        SocketAddr::V6(v6) => [
            &10u16.to_ne_bytes(),
            &port,
            &[0; 4][..],
            &v6.ip().octets(),
            &v6.scope_id().to_ne_bytes(),
        ]
        .concat(),
    }
}

/// As `bytes`, the other way round.
fn parsed(bytes: &[u8]) -> String {
    let port = || u16::from_be_bytes([bytes[2], bytes[3]]);
    match bytes {
        [] => String::new(),
        [1, 0, path @ ..] => String::from_utf8_lossy(path)
            .trim_end_matches('\0')
            .to_owned(),
        [2, 0, ..] => {
            let ip: [u8; 4] = bytes[4..8].try_into().expect("4");
            SocketAddr::from((ip, port())).to_string()
        }
        [10, 0, ..] => {
            let ip: [u8; 16] = bytes[8..24].try_into().expect("16");
            SocketAddr::from((ip, port())).to_string()
        }
        other => panic!("{other:?}"),
    }
}

impl Caller {
    fn socket(&mut self, family: u64, kind: u64, flags: u64) -> Result<u32> {
        self.call("socket", &[family, kind, 0, flags, OUT.into()])?;
        Ok(self.u32(OUT))
    }

    fn with_address(&mut self, name: &str, fd: u32, address: &[u8]) -> Result<()> {
        let [address, length] = self.put(address);
        self.call(name, &[fd.into(), address, length])
    }

    fn bind(&mut self, fd: u32, address: &str) -> Result<()> {
        self.with_address("bind", fd, &bytes(address))
    }

    fn connect(&mut self, fd: u32, address: &str) -> Result<()> {
        self.with_address("connect", fd, &bytes(address))
    }

    fn listen(&mut self, fd: u32) -> Result<()> {
        self.call("listen", &[fd.into(), 16])
    }

    /// A listening socket of the guest's.
    fn listener(&mut self, family: u64, address: &str) -> u32 {
        let fd = self.socket(family, STREAM, 0).expect("a socket");
        self.set_option(fd, 1, 2, &[1, 0, 0, 0])
            .expect("SO_REUSEADDR");
        self.bind(fd, address).expect("bind");
        self.listen(fd).expect("listen");
        fd
    }

    fn accept(&mut self, fd: u32, flags: u64) -> Result<(u32, String)> {
        let room = [ADDRESS.into(), 128, OUT.into(), u64::from(OUT) + 8];
        let arguments = [&[fd.into(), flags][..], &room].concat();
        self.call("accept4", &arguments)?;
        let peer = self.bytes(ADDRESS, self.u32(OUT + 8));
        Ok((self.u32(OUT), parsed(&peer)))
    }

    fn name(&mut self, function: &str, fd: u32) -> Result<String> {
        self.call(function, &[fd.into(), ADDRESS.into(), 200, OUT.into()])?;
        Ok(parsed(&self.bytes(ADDRESS, self.u32(OUT))))
    }

    fn send(&mut self, fd: u32, data: &[u8], flags: u64, to: &[u8]) -> Result<u32> {
        self.write(BUFFER, data);
        let length = u32::try_from(data.len()).expect("a length");
        let [list, count] = self.vectors(&[(BUFFER, length)]);
        let [to, to_length] = self.put(to);
        self.call(
            "sendmsg",
            &[fd.into(), list, count, flags, to, to_length, OUT.into()],
        )?;
        Ok(self.u32(OUT))
    }

    /// Data, flags and sender.
    fn receive(&mut self, fd: u32, room: u32, flags: u64) -> Result<(Vec<u8>, u32, String)> {
        let [list, count] = self.vectors(&[(BUFFER, room)]);
        let out = u64::from(OUT);
        self.call(
            "recvmsg",
            &[
                fd.into(),
                list,
                count,
                flags,
                ADDRESS.into(),
                128,
                out,
                out + 8,
                out + 16,
            ],
        )?;
        let data = self.bytes(BUFFER, self.u32(OUT).min(room));
        let sender = self.bytes(ADDRESS, self.u32(OUT + 16));
        Ok((data, self.u32(OUT + 8), parsed(&sender)))
    }

    fn option(&mut self, fd: u32, level: u64, option: u64, size: u32) -> Result<Vec<u8>> {
        let out = u64::from(OUT);
        let room = [BUFFER.into(), size.into(), out];
        self.call(
            "getsockopt",
            &[&[fd.into(), level, option][..], &room].concat(),
        )?;
        Ok(self.bytes(BUFFER, self.u32(OUT)))
    }

    fn set_option(&mut self, fd: u32, level: u64, option: u64, value: &[u8]) -> Result<()> {
        let [value, length] = self.put(value);
        self.call("setsockopt", &[fd.into(), level, option, value, length])
    }

    /// `revents` of each, and how many are not 0.
    fn poll(&mut self, list: &[(i32, u16)], timeout: i64) -> Result<(u32, Vec<u16>)> {
        let entries: Vec<u8> = list
            .iter()
            .flat_map(|(fd, events)| {
                [&fd.to_le_bytes()[..], &events.to_le_bytes(), &[0xff; 2]].concat()
            })
            .collect();
        self.write(BUFFER, &entries);
        let arguments = [
            BUFFER.into(),
            list.len() as u64,
            timeout.cast_unsigned(),
            OUT.into(),
        ];
        self.call("poll", &arguments)?;
        let count = u32::try_from(list.len()).expect("a count");
        let revents = (0..count).map(|index| self.u16(BUFFER + 8 * index + 6));
        Ok((self.u32(OUT), revents.collect()))
    }

    fn pair(&mut self, function: &str, arguments: &[u64]) -> Result<(u32, u32)> {
        let out = u64::from(OUT);
        self.call(function, &[arguments, &[out, out + 8]].concat())?;
        Ok((self.u32(OUT), self.u32(OUT + 8)))
    }
}
