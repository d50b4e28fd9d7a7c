//! The host functions of sockets, with any numbers, addresses, options and lengths, in any order, in a network
//! namespace with a loopback only: what the guest's grants do not name is never reached.
#![no_main]

use std::fs;
use std::io::Read as _;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixListener};

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use wasm_interp_fuzz::host::{
    MEMORY, SOCKET_FUNCTIONS, call, guest_with, in_guarded_memory, put, root_as_streams,
};
use wasm_interp_fuzz::hosts::{
    self, ADDRESSES, GRANTS, NAMES, network, reached_as_granted, resolver_files,
};
use wasm_interp_fuzz::{contained, planted};
use wasm_interp_wasi::LateMounts;

/// Where things lie in the guest's memory.
const ADDRESSES_AT: usize = 0x100;
const SLOT: usize = 64;
const NAMES_AT: usize = 0x1000;
const VECTORS: u32 = 0x1800;
const POLLED: u32 = 0x1900;
const VALUES: u32 = 0x1a00;
const RESULTS: u32 = 0x1b00;
const ROOM: u32 = 0x1c00;
const DATA: u32 = 0x2000;

const PATHS: &[&str] = &[
    "/run/own/granted",
    "/run/own/datagrams",
    "/run/own/new",
    "/run/own/link",
    "/run/own/up/secret",
    "/run/own/../secret",
    "/run/secret",
    "/run/secret-datagrams",
    "",
    "\0abstract",
];

/// Level and option: those of the list, and others.
const OPTIONS: &[(u64, u64)] = &[
    (1, 2),
    (1, 3),
    (1, 4),
    (1, 7),
    (1, 8),
    (1, 9),
    (1, 13),
    (1, 15),
    (1, 20),
    (1, 21),
    (1, 39),
    (6, 1),
    (6, 4),
    (6, 18),
    (41, 26),
    (1, 25),
    (1, 17),
    (6, 30),
    (0, 1),
];

#[derive(Debug)]
struct Input {
    grants: usize,
    patches: Vec<(u16, u32)>,
    calls: Vec<Call>,
}

#[derive(Debug)]
struct Call {
    function: &'static str,
    arguments: Vec<u64>,
}

const MORE: &[(&str, &str)] = &[
    ("fd_close", "f"),
    ("fd_read", "fvr"),
    ("fd_write", "fvr"),
    ("fd_fdstat_get", "fr"),
    ("sock_accept", "fNr"),
    ("sock_recv", "fvsrr"),
    ("sock_send", "fvsr"),
    ("sock_shutdown", "fs"),
];

fn slots() -> usize {
    // The last one has no family.
    ADDRESSES.len() + PATHS.len() + 1
}

/// An address of the list, as the interface has it.
fn address(slot: usize) -> Vec<u8> {
    if let Some(text) = ADDRESSES.get(slot) {
        let address: SocketAddr = text.parse().expect(text);
        let port = address.port().to_be_bytes();
        return match address {
            SocketAddr::V4(v4) => {
                [&2u16.to_ne_bytes(), &port, &v4.ip().octets()[..], &[0; 8]].concat()
            }
            SocketAddr::V6(v6) => [
                &10u16.to_ne_bytes(),
                &port,
                &[0; 4][..],
                &v6.ip().octets(),
                &[0; 4],
            ]
            .concat(),
        };
    }
    match PATHS.get(slot - ADDRESSES.len()) {
        Some(path) => [&1u16.to_ne_bytes(), path.as_bytes()].concat(),
        None => vec![0; 16],
    }
}

/// Arguments of the kinds that a function has, and now and then anything else.
fn arguments(input: &mut Unstructured<'_>, shape: &str) -> Result<Vec<u64>> {
    let mut values: Vec<u64> = Vec::new();
    for kind in shape.chars() {
        // Whether it would block is for the guest to say; here no call does.
        if kind == 'N' {
            values.push(4);
            continue;
        }
        if input.ratio(1, 16)? {
            values.push(match input.int_in_range(0..=2)? {
                0 => input.arbitrary()?,
                1 => input.int_in_range(0..=MEMORY as u64)?,
                _ => !u64::from(input.arbitrary::<u8>()?),
            });
            continue;
        }
        match kind {
            // The first is the root directory, as the three streams are.
            'f' => values.push(input.int_in_range(3..=12)?),
            's' => values.push(input.int_in_range(0..=4)?),
            'a' => {
                let slot = input.choose_index(slots())?;
                values.push((ADDRESSES_AT + SLOT * slot) as u64);
                values.push(address(slot).len() as u64);
            }
            'A' => values.extend([u64::from(ROOM), input.int_in_range(0..=128)?]),
            'd' => values.extend([u64::from(DATA), input.int_in_range(0..=1024)?]),
            'v' => values.extend([u64::from(VECTORS), input.int_in_range(0..=4)?]),
            'F' => values.push(*input.choose(&[1, 2, 2, 10, 0, 16])?),
            'K' => values.push(*input.choose(&[1, 2, 1, 2, 3, 5])?),
            'P' => values.push(*input.choose(&[0, 0, 0, 6, 17, 132])?),
            'M' => values.push(*input.choose(&[0, 0, 2, 0x20, 0x40, 0x100, 0x4000, 0x2000])?),
            'O' => {
                let (level, option) = *input.choose(OPTIONS)?;
                values.extend([level, option]);
            }
            'V' => values.extend([u64::from(VALUES), input.int_in_range(0..=20)?]),
            'n' => {
                let n = input.choose_index(NAMES.len())?;
                values.push((NAMES_AT + SLOT * n) as u64);
                values.push(NAMES[n].len() as u64);
            }
            'W' => values.extend([u64::from(POLLED), input.int_in_range(0..=8)?]),
            'T' => values.push(input.int_in_range(0..=100_000)?),
            _ => values.push(u64::from(RESULTS) + 8 * input.int_in_range(0..=16)?),
        }
    }
    values.resize(10, 0);
    Ok(values)
}

impl<'a> Arbitrary<'a> for Input {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        let grants = input.choose_index(GRANTS.len())?;
        let patches = input.int_in_range(0..=2)?;
        let calls = input.int_in_range(1..=24)?;
        let functions = SOCKET_FUNCTIONS.len() + MORE.len();
        Ok(Self {
            grants,
            patches: (0..patches)
                .map(|_| input.arbitrary())
                .collect::<Result<_>>()?,
            calls: (0..calls)
                .map(|_| {
                    let n = input.choose_index(functions)?;
                    let (function, shape) = *SOCKET_FUNCTIONS
                        .get(n)
                        .unwrap_or_else(|| &MORE[n - SOCKET_FUNCTIONS.len()]);
                    Ok(Call {
                        function,
                        arguments: arguments(input, shape)?,
                    })
                })
                .collect::<Result<_>>()?,
        })
    }
}

fn fill(memory: &mut [u8], input: &Input) {
    for slot in 0..slots() {
        put(memory, ADDRESSES_AT + SLOT * slot, &address(slot));
    }
    for (n, name) in NAMES.iter().enumerate() {
        put(memory, NAMES_AT + SLOT * n, name.as_bytes());
    }
    for n in 0..4u32 {
        let vector = [(DATA + 64 * n).to_le_bytes(), (20 * n).to_le_bytes()].concat();
        put(memory, (VECTORS + 8 * n) as usize, &vector);
    }
    for n in 0..8u32 {
        // POLLIN and POLLOUT.
        let entry = [(3 + n).to_le_bytes(), [5, 0, 0, 0]].concat();
        put(memory, (POLLED + 8 * n) as usize, &entry);
    }
    put(memory, VALUES as usize, &[1, 0, 0, 0]);
    for (at, word) in &input.patches {
        put(memory, usize::from(*at), &word.to_le_bytes());
    }
}

/// Whether a call would wait: for a time, or at the close of a socket.
fn waits(one: &Call) -> bool {
    let arguments = &one.arguments;
    match one.function {
        "poll" => arguments[2] > 1_000_000,
        "setsockopt" => arguments[1] as u32 == 1 && arguments[2] as u32 == 13,
        _ => false,
    }
}

/// Calls the functions.
fn calls(input: &Input, memory: &mut [u8]) {
    fill(memory, input);
    let mut guest = guest_with(LateMounts::Impossible, network(input.grants));
    root_as_streams(&mut guest);
    // A socket of each kind, from descriptor 4 on, where the grants allow them.
    for (family, kind) in [(2, 1), (2, 2), (10, 1), (10, 2), (1, 1), (1, 2)] {
        let arguments = [family, kind, 0, 4, u64::from(RESULTS)];
        call(&mut guest, memory, "socket", &arguments);
    }
    for one in &input.calls {
        if !waits(one) {
            call(&mut guest, memory, one.function, &one.arguments);
        }
    }
}

/// Sockets of others in the guest's files: the first two may be granted.
struct Paths {
    streams: [UnixListener; 2],
    datagrams: [UnixDatagram; 2],
}

fn paths() -> Paths {
    let files = contained::files();
    fs::create_dir_all(files.join("run/own")).expect("a directory");
    resolver_files();
    symlink("../secret", files.join("run/own/link")).expect("a link");
    symlink("..", files.join("run/own/up")).expect("a link");
    let paths = Paths {
        streams: ["run/own/granted", "run/secret"]
            .map(|path| UnixListener::bind(files.join(path)).expect(path)),
        datagrams: ["run/own/datagrams", "run/secret-datagrams"]
            .map(|path| UnixDatagram::bind(files.join(path)).expect(path)),
    };
    for one in &paths.streams {
        one.set_nonblocking(true).expect("a flag");
    }
    for one in &paths.datagrams {
        one.set_nonblocking(true).expect("a flag");
    }
    paths
}

fuzz_target!(|input: Input| {
    hosts::make();
    contained::reset();
    let paths = paths();
    contained::run(|| in_guarded_memory(|memory| calls(&input, memory)));
    let counts = reached_as_granted(input.grants);
    for (at, stream) in paths.streams.iter().enumerate() {
        while let Ok((mut connection, _)) = stream.accept() {
            connection.set_nonblocking(false).expect("a flag");
            let mut bytes = Vec::new();
            connection.read_to_end(&mut bytes).expect("read");
            assert!(at == 0 && input.grants == 1, "a Unix socket was reached");
        }
    }
    for (at, socket) in paths.datagrams.iter().enumerate() {
        let mut buffer = [0; 16];
        while socket.recv(&mut buffer).is_ok() {
            assert!(at == 0 && input.grants == 1, "a Unix socket was reached");
        }
    }
    planted(counts[0].0 > 0);
});
