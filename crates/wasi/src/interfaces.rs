//! What a component may import, as data: the interfaces of WASI 0.2, with their functions. The compiler's check uses it; the
//! host functions are made from the WIT files, and a test compares both.
//!
//! Needs neither Wasmtime nor an operating system.
#![forbid(unsafe_code)]

use std::fmt;

/// A version of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WitVersion {
    /// Changes with an incompatible standard.
    pub major: u32,
    /// The same, as long as the major version is 0.
    pub minor: u32,
    /// Changes with additions.
    pub patch: u32,
}

/// The newest version of each interface that is offered. Each older one of the same minor version is a part of it.
pub const NEWEST: WitVersion = WitVersion {
    major: 0,
    minor: 2,
    patch: 12,
};

impl WitVersion {
    /// Three numbers. Neither WASI 0.2 nor a program for it has a pre-release: those were before 0.2.0.
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('.').map(str::parse);
        let mut next = || numbers.next()?.ok();
        let (major, minor, patch) = (next()?, next()?, next()?);
        numbers.next().is_none().then_some(Self {
            major,
            minor,
            patch,
        })
    }

    /// Whether it is of the standard that is offered, if perhaps newer.
    #[must_use]
    pub fn is_compatible(self) -> bool {
        (self.major, self.minor) == (NEWEST.major, NEWEST.minor)
    }
}

impl fmt::Display for WitVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The name of an import or export: `wasi:cli/run@0.2.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceName<'a> {
    /// Package and interface.
    pub interface: &'a str,
    /// What is behind the `@`, if it is three numbers.
    pub version: Option<WitVersion>,
}

impl<'a> InterfaceName<'a> {
    /// `None` for a name that is no interface's.
    #[must_use]
    pub fn parse(name: &'a str) -> Option<Self> {
        let (interface, version) = match name.split_once('@') {
            Some((interface, version)) => (interface, WitVersion::parse(version)),
            None => (name, None),
        };
        interface
            .contains(['/'])
            .then_some(Self { interface, version })
    }
}

/// An interface that is offered.
#[derive(Clone, Copy, Debug)]
pub struct Interface {
    /// Package and interface, without a version.
    pub name: &'static str,
    /// Its functions, by their names in a component.
    pub functions: &'static [&'static str],
}

/// The interface of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Interface> {
    INTERFACES.iter().find(|one| one.name == name)
}

/// All that a component may import.
pub const INTERFACES: &[Interface] = &[
    Interface {
        name: "wasi:cli/environment",
        functions: &["get-environment", "get-arguments", "initial-cwd"],
    },
    Interface {
        name: "wasi:cli/exit",
        functions: &["exit", "exit-with-code"],
    },
    Interface {
        name: "wasi:cli/stdin",
        functions: &["get-stdin"],
    },
    Interface {
        name: "wasi:cli/stdout",
        functions: &["get-stdout"],
    },
    Interface {
        name: "wasi:cli/stderr",
        functions: &["get-stderr"],
    },
    Interface {
        name: "wasi:cli/terminal-input",
        functions: &[],
    },
    Interface {
        name: "wasi:cli/terminal-output",
        functions: &[],
    },
    Interface {
        name: "wasi:cli/terminal-stdin",
        functions: &["get-terminal-stdin"],
    },
    Interface {
        name: "wasi:cli/terminal-stdout",
        functions: &["get-terminal-stdout"],
    },
    Interface {
        name: "wasi:cli/terminal-stderr",
        functions: &["get-terminal-stderr"],
    },
    Interface {
        name: "wasi:clocks/monotonic-clock",
        functions: &[
            "now",
            "resolution",
            "subscribe-instant",
            "subscribe-duration",
        ],
    },
    Interface {
        name: "wasi:clocks/wall-clock",
        functions: &["now", "resolution"],
    },
    Interface {
        name: "wasi:filesystem/types",
        functions: &[
            "[method]descriptor.read-via-stream",
            "[method]descriptor.write-via-stream",
            "[method]descriptor.append-via-stream",
            "[method]descriptor.advise",
            "[method]descriptor.sync-data",
            "[method]descriptor.get-flags",
            "[method]descriptor.get-type",
            "[method]descriptor.set-size",
            "[method]descriptor.set-times",
            "[method]descriptor.read",
            "[method]descriptor.write",
            "[method]descriptor.read-directory",
            "[method]descriptor.sync",
            "[method]descriptor.create-directory-at",
            "[method]descriptor.stat",
            "[method]descriptor.stat-at",
            "[method]descriptor.set-times-at",
            "[method]descriptor.link-at",
            "[method]descriptor.open-at",
            "[method]descriptor.readlink-at",
            "[method]descriptor.remove-directory-at",
            "[method]descriptor.rename-at",
            "[method]descriptor.symlink-at",
            "[method]descriptor.unlink-file-at",
            "[method]descriptor.is-same-object",
            "[method]descriptor.metadata-hash",
            "[method]descriptor.metadata-hash-at",
            "[method]directory-entry-stream.read-directory-entry",
            "filesystem-error-code",
        ],
    },
    Interface {
        name: "wasi:filesystem/preopens",
        functions: &["get-directories"],
    },
    Interface {
        name: "wasi:io/error",
        functions: &["[method]error.to-debug-string"],
    },
    Interface {
        name: "wasi:io/poll",
        functions: &["[method]pollable.ready", "[method]pollable.block", "poll"],
    },
    Interface {
        name: "wasi:io/streams",
        functions: &[
            "[method]input-stream.read",
            "[method]input-stream.blocking-read",
            "[method]input-stream.skip",
            "[method]input-stream.blocking-skip",
            "[method]input-stream.subscribe",
            "[method]output-stream.check-write",
            "[method]output-stream.write",
            "[method]output-stream.blocking-write-and-flush",
            "[method]output-stream.flush",
            "[method]output-stream.blocking-flush",
            "[method]output-stream.subscribe",
            "[method]output-stream.write-zeroes",
            "[method]output-stream.blocking-write-zeroes-and-flush",
            "[method]output-stream.splice",
            "[method]output-stream.blocking-splice",
        ],
    },
    Interface {
        name: "wasi:random/insecure-seed",
        functions: &["insecure-seed"],
    },
    Interface {
        name: "wasi:random/insecure",
        functions: &["get-insecure-random-bytes", "get-insecure-random-u64"],
    },
    Interface {
        name: "wasi:random/random",
        functions: &["get-random-bytes", "get-random-u64"],
    },
    Interface {
        name: "wasi:sockets/network",
        functions: &["network-error-code"],
    },
    Interface {
        name: "wasi:sockets/instance-network",
        functions: &["instance-network"],
    },
    Interface {
        name: "wasi:sockets/ip-name-lookup",
        functions: &[
            "[method]resolve-address-stream.resolve-next-address",
            "[method]resolve-address-stream.subscribe",
            "resolve-addresses",
        ],
    },
    Interface {
        name: "wasi:sockets/tcp",
        functions: &[
            "[method]tcp-socket.start-bind",
            "[method]tcp-socket.finish-bind",
            "[method]tcp-socket.start-connect",
            "[method]tcp-socket.finish-connect",
            "[method]tcp-socket.start-listen",
            "[method]tcp-socket.finish-listen",
            "[method]tcp-socket.accept",
            "[method]tcp-socket.local-address",
            "[method]tcp-socket.remote-address",
            "[method]tcp-socket.is-listening",
            "[method]tcp-socket.address-family",
            "[method]tcp-socket.set-listen-backlog-size",
            "[method]tcp-socket.keep-alive-enabled",
            "[method]tcp-socket.set-keep-alive-enabled",
            "[method]tcp-socket.keep-alive-idle-time",
            "[method]tcp-socket.set-keep-alive-idle-time",
            "[method]tcp-socket.keep-alive-interval",
            "[method]tcp-socket.set-keep-alive-interval",
            "[method]tcp-socket.keep-alive-count",
            "[method]tcp-socket.set-keep-alive-count",
            "[method]tcp-socket.hop-limit",
            "[method]tcp-socket.set-hop-limit",
            "[method]tcp-socket.receive-buffer-size",
            "[method]tcp-socket.set-receive-buffer-size",
            "[method]tcp-socket.send-buffer-size",
            "[method]tcp-socket.set-send-buffer-size",
            "[method]tcp-socket.subscribe",
            "[method]tcp-socket.shutdown",
        ],
    },
    Interface {
        name: "wasi:sockets/tcp-create-socket",
        functions: &["create-tcp-socket"],
    },
    Interface {
        name: "wasi:sockets/udp",
        functions: &[
            "[method]udp-socket.start-bind",
            "[method]udp-socket.finish-bind",
            "[method]udp-socket.stream",
            "[method]udp-socket.local-address",
            "[method]udp-socket.remote-address",
            "[method]udp-socket.address-family",
            "[method]udp-socket.unicast-hop-limit",
            "[method]udp-socket.set-unicast-hop-limit",
            "[method]udp-socket.receive-buffer-size",
            "[method]udp-socket.set-receive-buffer-size",
            "[method]udp-socket.send-buffer-size",
            "[method]udp-socket.set-send-buffer-size",
            "[method]udp-socket.subscribe",
            "[method]incoming-datagram-stream.receive",
            "[method]incoming-datagram-stream.subscribe",
            "[method]outgoing-datagram-stream.check-send",
            "[method]outgoing-datagram-stream.send",
            "[method]outgoing-datagram-stream.subscribe",
        ],
    },
    Interface {
        name: "wasi:sockets/udp-create-socket",
        functions: &["create-udp-socket"],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_at_their_version() {
        let version = |text| InterfaceName::parse(text).expect(text).version;
        let parsed = InterfaceName::parse("wasi:cli/run@0.2.3").expect("a name");
        assert_eq!(parsed.interface, "wasi:cli/run");
        assert_eq!(
            parsed.version.map(|v| v.to_string()).as_deref(),
            Some("0.2.3")
        );
        for none in [
            "a:b/c@0.2.0-rc-2023-12-05",
            "a:b/c@0.2",
            "a:b/c@",
            "a:b/c@0.2.0.1",
            "a:b/c",
        ] {
            assert_eq!(version(none), None, "{none}");
        }
        assert_eq!(InterfaceName::parse("print"), None);
    }

    #[test]
    fn only_the_same_minor_version_is_compatible() {
        for (text, compatible, newer) in [
            ("0.2.0", true, false),
            ("0.2.12", true, false),
            ("0.2.13", true, true),
            ("0.3.0", false, true),
            ("1.2.0", false, true),
        ] {
            let version = WitVersion::parse(text).expect(text);
            assert_eq!(
                (version.is_compatible(), version > NEWEST),
                (compatible, newer),
                "{text}"
            );
        }
    }
}
