//! What calls are made with.

use std::net::SocketAddr;

use arbitrary::{Arbitrary, Result, Unstructured};
use wasm_interp_wasi::p2::fuzzing::wasi::clocks::wall_clock::Datetime;
use wasm_interp_wasi::p2::fuzzing::wasi::filesystem::types::{
    Advice, DescriptorFlags, NewTimestamp, OpenFlags, PathFlags,
};
use wasm_interp_wasi::p2::fuzzing::wasi::sockets::network::{IpAddressFamily, IpSocketAddress};
use wasm_interp_wasi::p2::fuzzing::wasi::sockets::tcp::ShutdownType;

use crate::hosts::{ADDRESSES, NAMES};

pub(super) const FAMILIES: [IpAddressFamily; 2] = [IpAddressFamily::Ipv4, IpAddressFamily::Ipv6];

const PATHS: &[&str] = &[
    "",
    ".",
    "..",
    "a",
    "a/b",
    "a/../..",
    "file",
    "file/",
    "pipe",
    "link",
    "absolute",
    "loop",
    "../../outside/secret",
    "absolute/",
    "/file",
    "new",
    "a/new",
    "z\0z",
    "é",
    "/../outside/secret",
    "kernel",
    "kernel/",
    "kernel/secret",
    "kernel/new",
    "a/../kernel/secret",
    "to-kernel",
];

/// A path, or what a link shall hold.
#[derive(Clone, Copy, Debug)]
pub struct Path(pub(super) &'static str);

impl<'a> Arbitrary<'a> for Path {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self(input.choose(PATHS)?))
    }
}

/// A name of a host.
#[derive(Clone, Copy, Debug)]
pub struct Name(pub(super) &'static str);

impl<'a> Arbitrary<'a> for Name {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self(input.choose(NAMES)?))
    }
}

/// A length or a place, mostly one that makes sense.
#[derive(Clone, Copy, Debug)]
pub struct Number(pub(super) u64);

/// The most that is written at once. What all calls of an input write fits into the pipe, which takes all before a call returns.
pub(super) const WRITTEN: u64 = 40_000;

impl Number {
    /// For what is made that long.
    pub(super) fn bytes(self) -> Vec<u8> {
        vec![b'x'; self.0.min(WRITTEN) as usize]
    }
}

impl<'a> Arbitrary<'a> for Number {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self(match input.int_in_range(0..=9)? {
            0..=4 => input.int_in_range(0..=64)?,
            5 | 6 => input.int_in_range(0..=70_000)?,
            7 => *input.choose(&[4096, 4097, 1 << 20, (1 << 20) + 1])?,
            8 => !u64::from(input.arbitrary::<u8>()?),
            _ => input.arbitrary()?,
        }))
    }
}

/// Where a socket shall be.
#[derive(Clone, Copy, Debug)]
pub struct Address(SocketAddr);

impl Address {
    pub(super) fn get(self) -> IpSocketAddress {
        self.0.into()
    }
}

impl<'a> Arbitrary<'a> for Address {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        let text = input.choose(ADDRESSES)?;
        Ok(Self(text.parse().expect(text)))
    }
}

/// A value of an enumeration or a set of flags, by number.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub struct Choice(u8);

impl Choice {
    pub(super) const FIRST: Self = Self(0);
    /// Of a descriptor.
    pub(super) const READ_AND_WRITE: Self = Self(2);

    fn of<T: Copy>(self, values: &[T]) -> T {
        values[usize::from(self.0) % values.len()]
    }

    pub(super) fn follow(self) -> PathFlags {
        self.of(&[PathFlags::empty(), PathFlags::SYMLINK_FOLLOW])
    }

    pub(super) fn open(self) -> OpenFlags {
        use OpenFlags as F;
        self.of(&[
            F::empty(),
            F::CREATE,
            F::CREATE | F::TRUNCATE,
            F::CREATE | F::EXCLUSIVE,
            F::TRUNCATE,
            F::DIRECTORY,
            F::DIRECTORY | F::CREATE,
        ])
    }

    pub(super) fn descriptor(self) -> DescriptorFlags {
        use DescriptorFlags as F;
        self.of(&[
            F::READ,
            F::WRITE,
            F::READ | F::WRITE,
            F::empty(),
            F::READ | F::MUTATE_DIRECTORY,
            F::WRITE | F::FILE_INTEGRITY_SYNC,
            F::READ | F::WRITE | F::DATA_INTEGRITY_SYNC,
            F::READ | F::REQUESTED_WRITE_SYNC,
        ])
    }

    pub(super) fn advice(self) -> Advice {
        self.of(&[
            Advice::Normal,
            Advice::Sequential,
            Advice::Random,
            Advice::WillNeed,
            Advice::DontNeed,
            Advice::NoReuse,
        ])
    }

    pub(super) fn family(self) -> IpAddressFamily {
        self.of(&FAMILIES)
    }

    pub(super) fn shutdown(self) -> ShutdownType {
        self.of(&[
            ShutdownType::Receive,
            ShutdownType::Send,
            ShutdownType::Both,
        ])
    }
}

/// A time to set.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub enum Time {
    Same,
    Now,
    At(u64, u32),
    Early(u32),
}

impl Time {
    pub(super) fn get(self) -> NewTimestamp {
        let at = |seconds, nanoseconds| {
            NewTimestamp::Timestamp(Datetime {
                seconds,
                nanoseconds,
            })
        };
        match self {
            Self::Same => NewTimestamp::NoChange,
            Self::Now => NewTimestamp::Now,
            Self::At(seconds, nanoseconds) => at(seconds, nanoseconds),
            Self::Early(seconds) => at(seconds.into(), 5),
        }
    }
}
