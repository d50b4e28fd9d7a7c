//! Components as guests, in real containers: what differs from modules, and what must not.

// Other tests use the rest of these.
#[allow(dead_code)]
#[path = "support/components.rs"]
mod components;
#[allow(dead_code)]
#[path = "support/guests.rs"]
mod guests;
#[allow(dead_code)]
#[path = "support/mod.rs"]
mod support;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::fs::symlink,
};

use components::container;
use nix::sys::signal::Signal;
use serde_json::json;
use support::{TestContainer, network::in_network, status, wait_until};
use wasm_interp_runner_client::{EXIT_TRAP, RefusalReader, SharedCeiling};
use wasm_interp_test_support::network::granted;
use wasm_interp_wasi::interfaces::NEWEST;
use wasm_interp_workload::GuestKind;

/// Errors of `wasi:filesystem`, as the guests exit with them.
const ACCESS: i32 = 100;
const IS_DIRECTORY: i32 = 114;
const LOOP: i32 = 115;
const NO_ENTRY: i32 = 120;
const NOT_PERMITTED: i32 = 131;
const READ_ONLY: i32 = 133;

#[test]
fn every_exit_code_is_passed_on() {
    for code in [0, 3, 126, 255] {
        let guest = components::hello(code);
        assert_eq!(
            container(&guest).run(),
            (i32::from(code), "hello\n".to_owned())
        );
    }
}

#[test]
fn failure_without_a_code_is_1() {
    for result in [0, 1] {
        assert_eq!(container(&components::returns(result)).run().0, result);
        assert_eq!(container(&components::exits(result)).run().0, result);
    }
}

/// The linker takes an older version for a part of the newest.
#[test]
fn component_for_each_version_of_wasi_0_2_runs() {
    for patch in 0..=NEWEST.patch {
        let version = format!("0.2.{patch}");
        let (code, output) = container(&components::hello_of(&version)).run();
        assert_eq!((code, output.as_str()), (1, "hello\n"), "{version}");
    }
}

#[test]
fn trap_has_its_own_exit_code_and_a_backtrace() {
    let (code, output) = container(&components::trap()).run();
    assert_eq!(code, EXIT_TRAP);
    assert!(output.contains("integer divide by zero"), "{output}");
    assert!(output.contains("inner"), "{output}");
    let (code, output) = container(&components::recursion()).run();
    assert_eq!(code, EXIT_TRAP);
    assert!(output.contains("its stack of 1024 KiB"), "{output}");
}

#[test]
fn component_that_breaks_its_interface_traps_with_the_reason() {
    for (guest, reason) in [
        (
            components::rude(),
            "8 bytes to a stream where it may write 0",
        ),
        (components::hoarder(), "resource table has no free keys"),
    ] {
        let (code, output) = container(&guest).run();
        assert_eq!(code, EXIT_TRAP, "{output}");
        assert!(output.contains(reason), "{output}");
    }
}

#[test]
fn garbage_is_collected_while_a_component_runs() {
    let mut container = container(&components::thrower(50_000));
    container.plan.limits.memory_bytes = Some(32 << 20);
    assert_eq!(container.run(), (0, String::new()));
}

#[test]
fn memory_ceiling_of_a_component_is_that_of_a_module() {
    let mut small = container(&components::hungry());
    small.plan.limits.memory_bytes = Some(32 << 20);
    assert_eq!(small.run().0, 7);
    let mut shared = container(&components::hungry());
    shared.ceiling = Some(SharedCeiling::new(Some(16 << 20)).expect("a page"));
    assert_eq!(shared.run().0, 7);
    assert_eq!(container(&components::hungry()).run().0, 0);
}

/// What it writes is not copied as a whole: the copy would be beside the memory that the ceiling counts.
#[test]
fn component_writes_all_of_its_memory_within_its_limit() {
    const MIB: u64 = 1 << 20;
    let mut filled = container(&components::writer_of_all(100 * 16, true));
    filled.spec["linux"]["resources"] = json!({ "memory": { "limit": 128 * MIB } });
    filled.plan.limits.memory_bytes = Some(112 * MIB);
    assert_eq!(filled.run(), (0, String::new()));
    // More than Wasmtime copies by default.
    let large = container(&components::writer_of_all(160 * 16, false));
    assert_eq!(large.run(), (0, String::new()));
}

/// Nothing of it is copied.
#[test]
fn stream_takes_more_than_a_call_may_copy() {
    let bytes = (8 << 20) + 1;
    let (code, output) = container(&components::writes_what_is_permitted(bytes)).run();
    assert_eq!((code, output.len()), (0, bytes as usize));
}

#[test]
fn call_takes_no_more_than_4_mib() {
    let (code, output) = container(&components::writes_at_once(4 << 20)).run();
    assert_eq!(code, EXIT_TRAP);
    assert!(output.contains("where 4096 are allowed"), "{output}");
    let (code, output) = container(&components::writes_at_once((4 << 20) + 1)).run();
    assert_eq!(code, EXIT_TRAP);
    assert!(output.contains("too much data"), "{output}");
}

#[test]
fn signals_end_a_component_in_a_loop_and_in_a_call() {
    for (signal, code) in [
        (Signal::SIGTERM, 143),
        (Signal::SIGINT, 130),
        (Signal::SIGKILL, 137),
    ] {
        for guest in [
            components::busy(),
            components::repeater(false),
            components::repeater(true),
        ] {
            let mut guest = container(&guest);
            let _open = guest.with_stdin();
            guest.create().expect("create");
            guest.start().expect("start");
            guest.wait_for_output("ready");
            guest.signal(signal);
            assert_eq!(guest.wait(), code);
            guest.delete(false).expect("delete");
            guest.assert_nothing_left();
        }
    }
}

/// Nothing but its own calls has to run for that.
#[test]
fn guest_that_never_waits_sees_its_input() {
    for spins in [false, true] {
        let mut guest = container(&components::repeater(spins));
        let stdin = fs::File::from(guest.with_stdin());
        guest.create().expect("create");
        guest.start().expect("start");
        guest.wait_for_output("ready\n");
        (&stdin).write_all(b"one ").expect("write");
        guest.wait_for_output("ready\none ");
        (&stdin).write_all(b"two").expect("write");
        guest.wait_for_output("ready\none two");
        drop(stdin);
        assert_eq!(guest.wait(), 0, "spins: {spins}");
        guest.delete(false).expect("delete");
        guest.assert_nothing_left();
    }
}

#[test]
fn clock_and_input_are_waited_for_together() {
    let mut silent = container(&components::poller());
    let _open = silent.with_stdin();
    assert_eq!(silent.run().0, 10);
    let mut ended = container(&components::poller());
    drop(ended.with_stdin());
    assert_eq!(ended.run().0, 20);
}

/// The kernel takes no longer list than `RLIMIT_NOFILE`, which is no bound on a component's handles.
#[test]
fn component_waits_by_more_handles_than_files_may_be_open() {
    let mut guest = container(&components::waits_by_many_handles(200));
    guest.spec["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 64, "hard": 64 }]);
    drop(guest.with_stdin());
    assert_eq!(guest.run(), (200, String::new()));
}

#[test]
fn arguments_and_the_working_directory_reach_a_component() {
    let mut guest = container(&components::arguments());
    guest.plan.argv = ["guest", "an argument", "λ"].map(str::to_owned).into();
    guest.plan.cwd = "/data".to_owned();
    assert_eq!(guest.run(), (0, "guest\nan argument\nλ\n/data".to_owned()));
}

/// What becomes of a component that opens this path to read and write it.
fn opened(path: &str, prepare: impl FnOnce(&mut TestContainer)) -> i32 {
    let mut guest = container(&components::opener(path));
    prepare(&mut guest);
    let (code, output) = guest.run();
    assert_eq!(output, "", "{path}");
    code
}

#[test]
fn paths_lead_where_they_lead_in_the_container() {
    let files = |container: &mut TestContainer| {
        let root = container.root();
        fs::write(root.join("data/file"), "content").expect("write");
        symlink("/data/file", root.join("absolute")).expect("link");
        symlink("../../../data/file", root.join("etc/above")).expect("link");
        symlink("/etc/nothing", root.join("dangling")).expect("link");
        symlink("loop", root.join("loop")).expect("link");
    };
    for (path, expected) in [
        ("data/file", 0),
        ("absolute", 0),
        ("etc/above", 0),
        ("etc/../data/file", 0),
        ("../../data/file", 0),
        ("dangling", NO_ENTRY),
        ("loop", LOOP),
        ("/data/file", NOT_PERMITTED),
        ("data", IS_DIRECTORY),
    ] {
        assert_eq!(opened(path, files), expected, "{path}");
    }
}

#[test]
fn rights_are_those_of_the_mount() {
    let file = |container: &mut TestContainer| {
        fs::write(container.root().join("data/file"), "").expect("write");
    };
    assert_eq!(opened("data/file", file), 0);
    let read_only = |container: &mut TestContainer| {
        file(container);
        container.spec["root"]["readonly"] = json!(true);
    };
    assert_eq!(opened("data/file", read_only), READ_ONLY);
    let of_another_user = |container: &mut TestContainer| {
        file(container);
        container.spec["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    };
    assert_eq!(opened("data/file", of_another_user), ACCESS);
}

/// As the tools of languages make them of programs for preview 1.
#[test]
fn module_in_an_adapter_is_a_component() {
    let guest = components::adapted(&guests::hello(0));
    assert_eq!(container(&guest).run(), (0, "hello\n".to_owned()));
}

#[test]
fn component_has_one_thread_and_no_descriptor_of_the_host() {
    for in_memory in [false, true] {
        let mut guest = container(&components::repeater(false));
        if in_memory {
            guest.keep_code_in_memory();
        }
        let _open = guest.with_stdin();
        guest.create().expect("create");
        guest.start().expect("start");
        guest.wait_for_output("ready");
        // Its streams, its code, and its root directory.
        let descriptors = guest.descriptors();
        assert_eq!(descriptors[..3], [0, 1, 2]);
        assert!(descriptors.contains(&5), "{descriptors:?}");
        assert_eq!(descriptors.len(), 5, "{descriptors:?}");
        let pid = guest.pid.expect("created");
        let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
        assert_eq!(status(&text, "Threads"), "1");
        assert_eq!(status(&text, "Seccomp"), "2");
        guest.signal(Signal::SIGTERM);
        assert_eq!(guest.wait(), 143);
        guest.delete(false).expect("delete");
        guest.assert_nothing_left();
    }
}

#[test]
fn code_of_the_other_kind_is_refused_at_create() {
    let mut module = TestContainer::of(&guests::hello(0));
    module.plan.kind = GuestKind::Component;
    let mut component = container(&components::hello(0));
    component.plan.kind = GuestKind::Module;
    for guest in [&mut module, &mut component] {
        let error = guest.create().expect_err("of the other kind").to_string();
        assert!(
            error.contains("cannot load the native code of /usr/bin/guest.wasm"),
            "{error}"
        );
    }
}

/// On the network of the tests, where there is a loopback.
fn on_our_network(guest: &[u8], listen: &str, connect: &str) -> TestContainer {
    let mut guest = container(guest);
    guest.share_our_network();
    guest.plan.network = granted(listen, connect);
    guest
}

#[test]
fn component_connects_where_that_is_granted() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = listener.local_addr().expect("address").port();
    let rule = format!("tcp:127.0.0.1:{port}");
    let mut guest = on_our_network(&components::client(port), "", &rule);
    guest.create().expect("create");
    guest.start().expect("start");
    let (mut connection, _) = listener.accept().expect("accept");
    let mut received = String::new();
    connection
        .read_to_string(&mut received)
        .expect("to its end");
    assert_eq!(received, "ping");
    connection.write_all(b"pong").expect("write");
    assert_eq!(guest.wait(), 0, "{}", guest.output());
    assert_eq!(guest.output(), "pong");
    guest.delete(false).expect("delete");
    guest.assert_nothing_left();
}

#[test]
fn component_is_refused_what_is_not_granted_with_the_annotation_that_it_lacks() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = listener.local_addr().expect("address").port();
    // With no grant at all, no socket is made; with another one, it is.
    for connect in ["", "tcp:127.0.0.1:1"] {
        let (log, end) = RefusalReader::new().expect("a pipe");
        let mut guest = on_our_network(&components::client(port), "", connect);
        guest.refusals = Some(end);
        let (code, output) = guest.run();
        assert_eq!(code, 2, "{output}");
        let line = format!(
            "the guest may not connect to tcp:127.0.0.1:{port}; add \"tcp:localhost:{port}\" to \
             the annotation wasm-interp.io/connect"
        );
        assert!(
            output.starts_with(&format!("wasm-interp: {line}")),
            "{output}"
        );
        let logged = log.read().expect("read").expect("a line");
        assert!(logged.starts_with(&line), "{logged}");
    }
    let (code, output) = on_our_network(&components::server(port), "tcp:1", "").run();
    assert_eq!(code, 2, "{output}");
    assert!(
        output.contains(&format!("may not listen on tcp:0.0.0.0:{port}")),
        "{output}"
    );
}

#[test]
fn component_listens_where_that_is_granted() {
    let free = TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = free.local_addr().expect("address").port();
    drop(free);
    let rule = format!("tcp:{port}");
    let mut guest = on_our_network(&components::server(port), &rule, "");
    guest.create().expect("create");
    guest.start().expect("start");
    guest.wait_for_output("ready");
    let mut connection = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    connection.write_all(b"hello").expect("write");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("to its end");
    assert_eq!(answer, "hello");
    assert_eq!(guest.wait(), 0, "{}", guest.output());
    guest.delete(false).expect("delete");
    guest.assert_nothing_left();
}

#[test]
fn names_are_looked_up_by_our_resolver_under_the_grants() {
    const ACCESS_DENIED: i32 = 201;
    // Without a name server, and without a grant.
    assert_eq!(container(&components::look_up("localhost")).run().0, 127);
    assert_eq!(container(&components::look_up("10.1.2.3")).run().0, 10);
    let mut hosts = container(&components::look_up("db.test"));
    fs::write(hosts.root().join("etc/hosts"), "10.9.8.7 db.test\n").expect("write");
    hosts.plan.network = granted("", "tcp:db.test:5432");
    assert_eq!(hosts.run().0, 10);
    let (code, output) = container(&components::look_up("db.example")).run();
    assert_eq!(code, ACCESS_DENIED, "{output}");
    assert!(output.contains("db.example"), "{output}");
}

/// The reply to a question about the addresses of a name: `address`, for no time.
fn reply_of_a_nameserver(question: &[u8], address: [u8; 4]) -> Vec<u8> {
    // A header of 12 bytes, then the name up to an empty label, the type and the class.
    let name = question[12..].iter().position(|byte| *byte == 0);
    let end = 12 + name.expect("a name") + 1 + 4;
    let (reply, recursive, answers) = (0x80, 0x80, 1);
    let flags = [question[2] | reply, recursive];
    let counts = [0, 1, 0, answers, 0, 0, 0, 0];
    // The name of the question, an address of the Internet, its time, its length.
    let answer = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4];
    [
        &question[..2],
        &flags,
        &counts,
        &question[12..end],
        &answer,
        &address,
    ]
    .concat()
}

/// As of a module: what was granted at connect stays, as a TCP connection does.
#[test]
fn connected_udp_socket_of_a_component_outlives_the_records_of_its_name() {
    in_network(&["10.66.0.1", "10.66.0.53"], || {
        let nameserver = UdpSocket::bind("10.66.0.53:53").expect("bind");
        let peer = UdpSocket::bind("10.66.0.1:99").expect("bind");
        std::thread::spawn(move || {
            let mut question = [0; 512];
            for address in [[10, 66, 0, 1], [10, 66, 0, 2]] {
                let (length, from) = nameserver.recv_from(&mut question).expect("a question");
                let reply = reply_of_a_nameserver(&question[..length], address);
                nameserver.send_to(&reply, from).expect("send");
            }
        });
        // Records are kept for five seconds, however short they are valid.
        let guest = components::sender([10, 66, 0, 1], 99, 6);
        let guest = on_our_network(&guest, "", "udp:db.prod:99");
        let config = "nameserver 10.66.0.53\noptions no-aaaa\n";
        fs::write(guest.root().join("etc/resolv.conf"), config).expect("resolv.conf");
        let (code, output) = guest.run();
        assert_eq!(code, 0, "{output}");
        peer.set_nonblocking(true).expect("nonblocking");
        for _ in 0..2 {
            let mut data = [0; 8];
            let length = peer.recv(&mut data).expect("a datagram");
            assert_eq!(&data[..length], b"ping");
        }
    });
}

#[test]
fn component_is_told_that_no_nameserver_replies_and_so_is_the_operator() {
    const TIMEOUT: i32 = 205;
    in_network(&["10.66.0.1"], || {
        let (log, end) = RefusalReader::new().expect("a pipe");
        let guest = components::sender([10, 66, 0, 1], 99, 0);
        let mut guest = on_our_network(&guest, "", "udp:db.prod:99");
        guest.refusals = Some(end);
        // Nothing listens there: the kernel says so at once.
        let config = "nameserver 10.66.0.1\n";
        fs::write(guest.root().join("etc/resolv.conf"), config).expect("resolv.conf");
        let line = "the guest could not connect to udp:10.66.0.1:99: no nameserver replies about \
                    \"db.prod\", which a rule of wasm-interp.io/connect names; check the \
                    nameservers in the container's /etc/resolv.conf, and that the pod reaches them";
        let (code, output) = guest.run();
        assert_eq!(code, TIMEOUT, "{output}");
        assert_eq!(output, format!("wasm-interp: {line}\n"));
        assert_eq!(
            log.read().expect("read").as_deref(),
            Some(line),
            "the operator's log"
        );
    });
}

#[test]
fn further_process_may_be_a_component() {
    let mut guest = container(&components::repeater(false));
    let _open = guest.with_stdin();
    fs::create_dir_all(guest.root().join("usr/bin")).expect("make");
    fs::write(
        guest.root().join("usr/bin/guest.wasm"),
        components::repeater(false),
    )
    .expect("write");
    guest.create().expect("create");
    guest.start().expect("start");
    guest.wait_for_output("ready");
    let output = tempfile::NamedTempFile::new().expect("a file");
    let process = guest.process_of(&["/usr/bin/guest.wasm"]);
    let (pid, workload) = guest
        .exec(&process, output.as_file())
        .expect("a further process");
    assert!(
        format!("{workload:?}").contains("Component"),
        "{workload:?}"
    );
    // Its standard input is /dev/null.
    assert_eq!(support::wait(nix::unistd::Pid::from_raw(pid)), Some(0));
    wait_until("it has written", || {
        fs::read_to_string(output.path()).expect("output") == "ready\n"
    });
    guest.signal(Signal::SIGKILL);
    assert_eq!(guest.wait(), 137);
    guest.delete(false).expect("delete");
    guest.assert_nothing_left();
}
