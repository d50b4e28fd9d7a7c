//! What a guest with a grant of sockets reaches, and what it reaches once it has escaped.

use wasm_interp_runner_client::RefusalReader;

use super::{assert_ends, bytes, escaped, guests, returned};
use crate::payload::{Argument, Call, artifact_of, call, text};
use wasm_interp_test_support::network::granted;

use crate::support::TestContainer;

#[test]
fn guest_makes_the_sockets_that_it_is_granted() {
    let mut container = TestContainer::of(&guests::granted_sockets());
    container.plan.network = granted("tcp:8080, udp:*, unix:/tmp/*", "unix:/tmp/*");
    assert_eq!(container.run(), (0, String::new()));
}

/// The resolver asks a socket which address can be reached, if the guest may have one.
#[test]
fn guest_looks_up_localhost_whatever_it_is_granted() {
    for (listen, connect) in [
        ("", ""),
        ("unix:/tmp/*", ""),
        ("tcp:8080", ""),
        ("", "udp:*:53"),
        ("", "dns"),
    ] {
        let mut container = TestContainer::of(&guests::look_up());
        container.plan.network = granted(listen, connect);
        assert_eq!(container.run(), (0, String::new()), "{listen} {connect}");
    }
}

#[test]
fn guest_without_a_grant_is_told_which_one_it_lacks() {
    let (log, end) = RefusalReader::new().expect("a pipe");
    let mut container = TestContainer::of(&guests::granted_sockets());
    container.refusals = Some(end);
    let (code, output) = container.run();
    // The third call binds.
    assert_eq!(code, 3, "{output}");
    let line = "the guest may not listen on unix:/tmp/of-the-guest.sock; add \
                \"unix:/tmp/of-the-guest.sock\" to the annotation wasm-interp.io/listen \
                (wasm-interp run: --listen)";
    assert!(
        output.starts_with(&format!("wasm-interp: {line}")),
        "{output}"
    );
    let logged = log.read().expect("read").expect("a line");
    assert!(logged.starts_with(line), "{logged}");
    assert_eq!(
        log.read().expect("its end"),
        None,
        "no other process has the pipe"
    );
}

/// What a grant adds for a guest that has escaped: sockets of its families and types, and no more.
#[test]
fn escaped_guest_with_sockets_makes_those_of_its_grant_alone() {
    let socket = |family: i32, kind: i32| {
        let kind = kind | libc::SOCK_CLOEXEC;
        vec![family.into(), kind.into(), 0.into()]
    };
    let (internet, unix) = (granted("tcp:80", ""), granted("unix:/tmp/*", ""));
    let option =
        |level: i32, option: i32| vec![0.into(), level.into(), option.into(), bytes(8), 8.into()];
    for (name, granted, number, arguments) in [
        (
            "unix",
            &internet,
            libc::SYS_socket,
            socket(libc::AF_UNIX, 1),
        ),
        (
            "internet",
            &unix,
            libc::SYS_socket,
            socket(libc::AF_INET, 1),
        ),
        ("raw", &internet, libc::SYS_socket, socket(libc::AF_INET, 3)),
        (
            "netlink",
            &internet,
            libc::SYS_socket,
            socket(libc::AF_NETLINK, 2),
        ),
        (
            "packet",
            &internet,
            libc::SYS_socket,
            socket(libc::AF_PACKET, 2),
        ),
        ("vsock", &unix, libc::SYS_socket, socket(libc::AF_VSOCK, 1)),
        ("alg", &unix, libc::SYS_socket, socket(libc::AF_ALG, 1)),
        (
            "multipath",
            &internet,
            libc::SYS_socket,
            vec![
                libc::AF_INET.into(),
                (libc::SOCK_STREAM | libc::SOCK_CLOEXEC).into(),
                libc::IPPROTO_MPTCP.into(),
            ],
        ),
        (
            "device",
            &internet,
            libc::SYS_setsockopt,
            option(libc::SOL_SOCKET, libc::SO_BINDTODEVICE),
        ),
        (
            "filter",
            &internet,
            libc::SYS_setsockopt,
            option(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER),
        ),
        (
            "tls",
            &internet,
            libc::SYS_setsockopt,
            option(libc::IPPROTO_TCP, libc::TCP_ULP),
        ),
        (
            "group",
            &internet,
            libc::SYS_setsockopt,
            option(libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP),
        ),
        (
            "credentials",
            &unix,
            libc::SYS_getsockopt,
            option(libc::SOL_SOCKET, libc::SO_PEERCRED),
        ),
        (
            "sendto with an address",
            &internet,
            libc::SYS_sendto,
            vec![0.into(), bytes(8), 8.into(), 0.into(), bytes(16), 16.into()],
        ),
        (
            "a pair, whose function its module does not import",
            &unix,
            libc::SYS_socketpair,
            socket(libc::AF_UNIX, 1),
        ),
        (
            "recvfrom",
            &internet,
            libc::SYS_recvfrom,
            vec![0.into(), bytes(8), 8.into()],
        ),
        (
            "sendmmsg",
            &internet,
            libc::SYS_sendmmsg,
            vec![0.into(), bytes(64), 1.into()],
        ),
        (
            "fast open",
            &internet,
            libc::SYS_sendmsg,
            vec![0.into(), bytes(56), libc::MSG_FASTOPEN.into()],
        ),
        (
            "errors of others",
            &internet,
            libc::SYS_recvmsg,
            vec![0.into(), bytes(56), libc::MSG_ERRQUEUE.into()],
        ),
        ("fchdir", &internet, libc::SYS_fchdir, vec![0.into()]),
        ("chdir", &unix, libc::SYS_chdir, vec![text("/tmp")]),
        ("epoll", &internet, libc::SYS_epoll_create1, vec![0.into()]),
    ] {
        let mut container = escaped(&[call(number, &arguments)]);
        container.plan.network = granted.clone();
        assert_ends(name, number, container);
    }
}

/// What it adds for a guest that has escaped that its module makes pairs of sockets.
#[test]
fn escaped_guest_with_pairs_sends_to_their_other_ends_alone() {
    const IMPORT: &str = r#"(import "wasm_interp_posix_v1" "socketpair"
        (func (param i32 i32 i32 i32 i32 i32) (result i32)))"#;
    let of = |calls: &[Call]| TestContainer::of_code(&artifact_of(IMPORT, calls));
    let pair = |family: i32, kind: i32| {
        let kind = kind | libc::SOCK_CLOEXEC;
        vec![family.into(), kind.into(), 0.into(), bytes(8)]
    };
    let made = returned(of(&[
        call(
            libc::SYS_socketpair,
            &pair(libc::AF_UNIX, libc::SOCK_STREAM),
        ),
        call(libc::SYS_socketpair, &pair(libc::AF_UNIX, libc::SOCK_DGRAM)),
        call(libc::SYS_sendmsg, &[0.into(), bytes(56)]),
        call(libc::SYS_accept4, &[0.into()]),
    ]));
    // The kernel gets to see the first two, and their room is code, which it does not write to.
    let (seen, refused) = (i64::from(-libc::EFAULT), i64::from(-libc::ENOTSOCK));
    assert_eq!(made, [seen, seen, refused, refused]);
    let to = |family: i32| {
        let mut address = vec![0; 16];
        address[..2].copy_from_slice(&(family as u16).to_ne_bytes());
        Argument::Bytes(address)
    };
    let socket = |family: i32| vec![family.into(), (1 | libc::SOCK_CLOEXEC).into(), 0.into()];
    for (name, number, arguments) in [
        ("unix", libc::SYS_socket, socket(libc::AF_UNIX)),
        ("internet", libc::SYS_socket, socket(libc::AF_INET)),
        ("pair", libc::SYS_socketpair, pair(libc::AF_INET, 1)),
        ("packets", libc::SYS_socketpair, pair(libc::AF_UNIX, 5)),
        (
            "to a path",
            libc::SYS_sendto,
            vec![
                0.into(),
                bytes(8),
                8.into(),
                0.into(),
                to(libc::AF_UNIX),
                16.into(),
            ],
        ),
        (
            "connect",
            libc::SYS_connect,
            vec![0.into(), to(libc::AF_UNIX), 16.into()],
        ),
        (
            "bind",
            libc::SYS_bind,
            vec![0.into(), to(libc::AF_UNIX), 16.into()],
        ),
        ("listen", libc::SYS_listen, vec![0.into(), 1.into()]),
        (
            "credentials",
            libc::SYS_getsockopt,
            vec![
                0.into(),
                libc::SOL_SOCKET.into(),
                libc::SO_PEERCRED.into(),
                bytes(16),
                bytes(4),
            ],
        ),
    ] {
        assert_ends(name, number, of(&[call(number, &arguments)]));
    }
}

/// Where the kernel has Landlock's ports. An address is the host functions' alone.
#[test]
fn escaped_guest_binds_and_connects_no_other_tcp_port() {
    let address = |port: u16| {
        let family = libc::AF_INET as u16;
        let host = [127, 0, 0, 1];
        let parts = [
            &family.to_ne_bytes()[..],
            &port.to_be_bytes(),
            &host,
            &[0; 8],
        ];
        Argument::Bytes(parts.concat())
    };
    let to = |number: i64, port: u16| {
        [
            call(
                libc::SYS_socket,
                &[
                    libc::AF_INET.into(),
                    (libc::SOCK_STREAM | libc::SOCK_CLOEXEC).into(),
                    0.into(),
                ],
            ),
            call(number, &[Argument::Previous, address(port), 16.into()]),
        ]
    };
    let calls: Vec<_> = [
        to(libc::SYS_bind, 8080),
        to(libc::SYS_bind, 8081),
        to(libc::SYS_connect, 5432),
        to(libc::SYS_connect, 5433),
    ]
    .concat();
    let mut container = escaped(&calls);
    container.plan.network = granted("tcp:8080", "tcp:localhost:5432");
    let results = returned(container);
    let refused = i64::from(-libc::EACCES);
    assert_ne!(results[1], refused, "{results:?}");
    assert_ne!(results[5], refused, "{results:?}");
    if landlock_abi() >= 4 {
        assert_eq!((results[3], results[7]), (refused, refused), "{results:?}");
    }
}

#[allow(unsafe_code)]
fn landlock_abi() -> i64 {
    // SAFETY: with this flag (LANDLOCK_CREATE_RULESET_VERSION) the call takes no structure.
    unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0,
            1,
        )
    }
}
