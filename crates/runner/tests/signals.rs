//! Guests that handle signals, and guests on a terminal, in real containers: as root.
//!
//! Holds that no signal is lost, that a guest without a handler ends as one without the library, and
//! that C programs behave as the native ones of the same source.

#[allow(dead_code)]
#[path = "support/guests.rs"]
mod guests;
// Other tests use the rest of it.
#[allow(dead_code)]
#[path = "support/mod.rs"]
mod support;

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::UdpSocket,
    os::{
        fd::{AsFd, AsRawFd},
        unix::process::ExitStatusExt as _,
    },
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::Signal,
        stat::{Mode, SFlag, mknod},
    },
};
use rustix::fs::{FlockOperation, flock};
use support::{TestContainer, TestTerminal, network::in_network, wait_until};
use wasm_interp_network::Network;
use wasm_interp_test_support::{guest_programs, lines::assert_same, network::granted};

/// A module that handles signals by the interface itself, without a C library. It says `ready` once it
/// catches USR1 and TERM. `body` goes on from there, after `declarations`.
fn module(declarations: &str, body: &str) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasm_interp_posix_v1" "openat"
    (func $openat (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasm_interp_posix_v1" "flock" (func $flock (param i32 i32 i32) (result i32)))
  (import "wasm_interp_posix_v1" "fcntl_setlk"
    (func $setlk (param i32 i32 i32 i32) (result i32)))
  (import "wasm_interp_posix_v1" "signal_register" (func $register (param i32 i32) (result i32)))
  (import "wasm_interp_posix_v1" "signal_action" (func $action (param i32 i32) (result i32)))
  (import "wasm_interp_posix_v1" "signal_take" (func $take (param i32 i32) (result i32)))
  (import "wasm_interp_posix_v1" "sigsuspend" (func $suspend (result i32)))
  (import "wasm_interp_posix_v1" "sigtimedwait"
    (func $wait (param i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "ready\n")
  (data (i32.const 120) "data/acks")
  (data (i32.const 140) "data/never")
  (data (i32.const 160) "data/quiet")
  (data (i32.const 180) "data/full")
  (data (i32.const 200) "data/lock")
  ;; pending is at 16, mask at 20, what was taken at 24, an opened descriptor at 28.
  (func $check (param $errno i32) (if (local.get $errno) (then (call $exit (i32.const 90)))))
  ;; Opens a name for reading and writing, so that no FIFO waits for another.
  (func $open (param $at i32) (param $length i32) (result i32)
    (call $check (call $openat (i32.const 3) (i32.const 1) (local.get $at) (local.get $length)
      (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 28)))
    (i32.load (i32.const 28)))
  (func $say (param $fd i32) (param $length i32)
    (i32.store (i32.const 0) (i32.const 100))
    (i32.store (i32.const 4) (local.get $length))
    (call $check (call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
  {declarations}
  (func (export "_start") (local $fd i32) (local $acks i32) (local $left i32) (local $errno i32)
    (call $check (call $register (i32.const 16) (i32.const 20)))
    (call $check (call $action (i32.const 10) (i32.const 2)))
    (call $check (call $action (i32.const 15) (i32.const 2)))
    {body}))"#
    )
}

/// Each way in which a guest may block, with what it opens for it.
const WAYS: [(&str, &str, &str); 8] = [
    (
        "the opening of a FIFO",
        "(i32.const 0)",
        "(call $openat (i32.const 3) (i32.const 1) (i32.const 140) (i32.const 10)
           (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 28))",
    ),
    (
        "a read of a FIFO",
        "(call $open (i32.const 160) (i32.const 10))",
        "(call $read (local.get $fd) (i32.const 40) (i32.const 1) (i32.const 8))",
    ),
    (
        "a read of standard input",
        "(i32.const 0)",
        "(call $read (i32.const 0) (i32.const 40) (i32.const 1) (i32.const 8))",
    ),
    (
        "a write to a full FIFO",
        "(call $open (i32.const 180) (i32.const 9))",
        "(call $write (local.get $fd) (i32.const 40) (i32.const 1) (i32.const 8))",
    ),
    (
        "a poll",
        "(i32.const 0)",
        "(call $poll (i32.const 1000) (i32.const 1100) (i32.const 1) (i32.const 8))",
    ),
    (
        "a lock of a file",
        "(call $open (i32.const 200) (i32.const 9))",
        "(call $flock (local.get $fd) (i32.const 1) (i32.const 0))",
    ),
    (
        "a record lock",
        "(call $open (i32.const 200) (i32.const 9))",
        "(call $setlk (local.get $fd) (i32.const 1) (i32.const 1200) (i32.const 0))",
    ),
    ("sigsuspend", "(i32.const 0)", "(call $suspend)"),
];

/// Says through a FIFO that it is about to block, and blocks, so many times. Each time the call has to
/// end with EINTR, and the signal to be pending.
fn racer(open: &str, call: &str, tries: u32) -> String {
    module(
        "",
        &format!(
            r#"(local.set $acks (call $open (i32.const 120) (i32.const 9)))
    (local.set $fd {open})
    ;; One byte to read and write; an hour of the monotonic clock; a lock of the whole file.
    (i32.store (i32.const 40) (i32.const 48))
    (i32.store (i32.const 44) (i32.const 1))
    (i32.store (i32.const 1016) (i32.const 1))
    (i64.store (i32.const 1024) (i64.const 3600000000000))
    (i32.store8 (i32.const 1220) (i32.const 1))
    (local.set $left (i32.const {tries}))
    (loop $again
      (call $say (local.get $acks) (i32.const 1))
      (local.set $errno {call})
      (if (i32.ne (local.get $errno) (i32.const 27))
        (then (call $exit (i32.add (i32.const 100) (local.get $errno)))))
      (call $check (call $take (i32.const -1) (i32.const 24)))
      (if (i32.ne (i32.load (i32.const 24)) (i32.const 0x200)) (then (call $exit (i32.const 91))))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $again (local.get $left)))
    (call $exit (i32.const 0))"#
        ),
    )
}

fn fifo(path: &Path) -> File {
    mknod(path, SFlag::S_IFIFO, Mode::from_bits_truncate(0o600), 0).expect("mkfifo");
    File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("open")
}

/// How often each way is tried: `make test-signals` does it 100,000 times.
fn tries() -> u32 {
    std::env::var("WASM_INTERP_SIGNAL_TRIES").map_or(1_000, |text| text.parse().expect("a number"))
}

#[test]
fn signal_right_before_a_blocking_call_is_not_lost() {
    let tries = tries();
    for (way, open, call) in WAYS {
        let mut container = TestContainer::of(&racer(open, call, tries));
        let data = container.root().join("data");
        let mut acks = fifo(&data.join("acks"));
        let _quiet = fifo(&data.join("quiet"));
        let full = fifo(&data.join("full"));
        rustix::io::ioctl_fionbio(&full, true).expect("nonblocking");
        while (&full).write(&[0; 4096]).is_ok() {}
        rustix::io::ioctl_fionbio(&full, false).expect("blocking");
        mknod(
            &data.join("never"),
            SFlag::S_IFIFO,
            Mode::from_bits_truncate(0o600),
            0,
        )
        .expect("mkfifo");
        let lock = File::create(data.join("lock")).expect("lock");
        flock(&lock, FlockOperation::LockExclusive).expect("lock");
        lock_records(&lock);
        let _stdin = container.with_stdin();
        container.create().expect("create");
        container.start().expect("start");
        // Some signals come before the call, some while it is made, some once it has blocked.
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        for done in 0..tries {
            let mut fds = [PollFd::new(acks.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut fds, PollTimeout::from(60_000_u16)).expect("poll");
            assert_eq!(ready, 1, "{way}: a signal was lost after {done} tries");
            acks.read_exact(&mut [0]).expect("an acknowledgement");
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            for _ in 0..random % 4096 {
                std::hint::spin_loop();
            }
            container.signal(Signal::SIGUSR1);
        }
        assert_eq!(container.wait(), 0, "{way}: {}", container.output());
    }
}

#[allow(unsafe_code)]
fn lock_records(file: &File) {
    // SAFETY: zeroed is a valid flock, which the kernel reads.
    let locked = unsafe {
        let mut lock: libc::flock = std::mem::zeroed();
        lock.l_type = libc::F_WRLCK as libc::c_short;
        libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock)
    };
    assert_eq!(locked, 0);
}

fn started(wat: &str) -> TestContainer {
    let mut container = TestContainer::of(wat);
    container.create().expect("create");
    container.start().expect("start");
    container.wait_for_output("ready");
    container
}

const READY: &str = "(call $say (i32.const 1) (i32.const 6))";

#[test]
fn guest_that_computes_sees_a_signal_in_its_word() {
    // In memory that has grown since the word was registered.
    let body = format!(
        "{READY} (drop (memory.grow (i32.const 500)))
         (loop $on (br_if $on (i32.eqz (i32.load (i32.const 16)))))
         (call $exit (i32.add (i32.const 1) (i32.eq (i32.load (i32.const 16)) (i32.const 0x4000))))"
    );
    let container = started(&module("", &body));
    container.signal(Signal::SIGTERM);
    assert_eq!(container.wait(), 2);
}

/// Its caller gives it some time to end, and resolv.conf gives nameservers more than that.
#[test]
fn guest_that_waits_for_a_nameserver_hears_a_signal_within_a_second() {
    const TIMED_OUT: i32 = 100 + 73;
    let socket = r#"
  (import "wasm_interp_posix_v1" "socket" (func $socket (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasm_interp_posix_v1" "connect" (func $connect (param i32 i32 i32) (result i32)))
  (memory"#;
    // Port 80 of 10.66.0.1, in a stream socket of IPv4.
    let address = r#"(data (i32.const 300) "\02\00\00\50\0a\42\00\01")"#;
    let body = format!(
        "(call $check
           (call $socket (i32.const 2) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 28)))
         {READY}
         (call $exit (i32.add (i32.const 100)
           (call $connect (i32.load (i32.const 28)) (i32.const 300) (i32.const 16))))"
    );
    let guest = module(address, &body).replacen("(memory", socket, 1);
    in_network(&["10.66.0.53"], move || {
        let nameserver = UdpSocket::bind("10.66.0.53:53").expect("bind");
        let mut container = TestContainer::of(&guest);
        container.share_our_network();
        container.plan.network = granted("", "tcp:a.prod:80, tcp:b.prod:80, tcp:c.prod:80");
        let config = "nameserver 10.66.0.53\noptions timeout:30 attempts:5\n";
        fs::write(container.root().join("etc/resolv.conf"), config).expect("resolv.conf");
        container.create().expect("create");
        container.start().expect("start");
        nameserver.recv(&mut [0; 512]).expect("a question");
        let started = Instant::now();
        container.signal(Signal::SIGTERM);
        assert_eq!(container.wait(), TIMED_OUT, "{}", container.output());
        // On a busy machine too; a single time-out is 30 seconds.
        let waited = started.elapsed();
        assert!(waited < Duration::from_secs(20), "{waited:?}");
        assert!(container.output().contains("\"a.prod\""), "which name");
    });
}

#[test]
fn guest_without_a_handler_for_a_signal_ends_at_once_computing_or_blocked() {
    let computing = format!("{READY} (loop $on (br $on))");
    let blocked = format!("{READY} (loop $on (drop (call $suspend)) (br $on))");
    for body in [&computing, &blocked] {
        for (signal, code) in [
            (Signal::SIGINT, 130),
            (Signal::SIGHUP, 129),
            (Signal::SIGQUIT, 131),
            (Signal::SIGKILL, 137),
        ] {
            let container = started(&module("", body));
            container.signal(signal);
            assert_eq!(container.wait(), code, "{signal} {body}");
        }
    }
}

/// As the first process of a pid namespace, to which Linux gives no signal of a default action; and in
/// the host's pid namespace.
#[test]
fn default_actions_of_user_signals_are_those_of_linux() {
    let body = format!("{READY} (loop $on (drop (call $suspend)) (br $on))");
    for signal in [Signal::SIGUSR2, Signal::SIGALRM] {
        let container = started(&module("", &body));
        container.signal(signal);
        container.signal(Signal::SIGWINCH);
        container.signal(Signal::SIGPIPE);
        container.signal(Signal::SIGURG);
        container.signal(Signal::SIGINT);
        assert_eq!(container.wait(), 130, "{signal}");

        let mut shared = TestContainer::of(&module("", &body));
        let namespaces = shared.spec["linux"]["namespaces"].as_array_mut();
        namespaces
            .expect("namespaces")
            .retain(|one| one["type"] != "pid");
        shared.create().expect("create");
        shared.start().expect("start");
        shared.wait_for_output("ready");
        shared.signal(signal);
        assert_eq!(shared.wait(), 128 + signal as i32);
    }
}

/// Only a filter's SIGSYS tells of a refused system call.
#[test]
fn signal_that_filters_send_is_no_refused_call_if_a_process_sends_it() {
    let mut container = TestContainer::of(&module("", &format!("{READY} (loop $on (br $on))")));
    container.reasons = Some(tempfile::tempfile().expect("a termination log"));
    container.create().expect("create");
    container.start().expect("start");
    container.wait_for_output("ready");
    container.signal(Signal::SIGSYS);
    assert_eq!(container.wait(), 159);
    assert_eq!(container.output(), "ready\n");
    let noted = container.reasons.as_ref().map(File::metadata);
    assert_eq!(noted.expect("the log").expect("metadata").len(), 0);
}

#[test]
fn guest_that_never_looks_at_its_word_is_ended_by_kill() {
    let container = started(&module("", &format!("{READY} (loop $on (br $on))")));
    container.signal(Signal::SIGTERM);
    container.signal(Signal::SIGTERM);
    container.signal(Signal::SIGKILL);
    assert_eq!(container.wait(), 137);
}

/// Its mask is a plain store, and the signal waits in the word; `sigtimedwait` takes it all the same.
#[test]
fn masked_signal_waits_and_ends_no_call() {
    let body = format!(
        "(i32.store (i32.const 20) (i32.const 0x200)) {READY}
         (call $check (call $wait (i32.const 0x200) (i64.const -1) (i32.const 24)))
         (call $exit (i32.load8_u (i32.const 24)))"
    );
    let container = started(&module("", &body));
    container.signal(Signal::SIGUSR1);
    assert_eq!(container.wait(), 10);

    let body = format!(
        "(i32.store (i32.const 20) (i32.const 0x200)) {READY}
         (i32.store (i32.const 40) (i32.const 48))
         (i32.store (i32.const 44) (i32.const 1))
         (loop $on (br_if $on (i32.eqz (i32.load (i32.const 16)))))
         (call $check (call $read (i32.const 0) (i32.const 40) (i32.const 1) (i32.const 8)))
         (call $exit (i32.load8_u (i32.const 48)))"
    );
    let mut container = TestContainer::of(&module("", &body));
    let mut stdin = File::from(container.with_stdin());
    container.create().expect("create");
    container.start().expect("start");
    container.wait_for_output("ready");
    container.signal(Signal::SIGUSR1);
    stdin.write_all(b"*").expect("write");
    assert_eq!(container.wait(), 42);
}

/// Its bytes are more than a pipe holds, so it waits for a reader in the middle.
#[test]
fn masked_signal_cuts_no_write_short() {
    let body = format!(
        "(i32.store (i32.const 20) (i32.const 0x200)) {READY}
         (i32.store (i32.const 40) (i32.const 1024))
         (i32.store (i32.const 44) (i32.const 60000))
         (i64.store (i32.const 48) (i64.load (i32.const 40)))
         (i64.store (i32.const 56) (i64.load (i32.const 40)))
         (call $check (call $write (i32.const 0) (i32.const 40) (i32.const 3) (i32.const 8)))
         (call $exit (i32.ne (i32.load (i32.const 8)) (i32.const 180000)))"
    );
    let folder = tempfile::tempdir().expect("folder");
    let mut reader = fifo(&folder.path().join("fifo"));
    let mut container = TestContainer::of(&module("", &body));
    container.stdin = Some(reader.try_clone().expect("a copy").into());
    container.create().expect("create");
    container.start().expect("start");
    let of_process = |file: &str| {
        let path = format!("/proc/{}/{file}", container.process());
        // Without the process there is nothing to wait for.
        fs::read_to_string(path).unwrap_or_default()
    };
    let waits = format!("{} ", libc::SYS_writev);
    wait_until("it waits for a reader", || {
        of_process("syscall").starts_with(&waits)
    });
    container.signal(Signal::SIGUSR1);
    wait_until("the signal has come", || {
        !of_process("status").contains("ShdPnd:\t0000000000000200")
    });
    // It ends with the test, as it holds the other end too.
    std::thread::spawn(move || while reader.read(&mut [0; 4096]).is_ok() {});
    assert_eq!(container.wait(), 0, "{}", container.output());
}

#[test]
fn words_that_are_not_in_memory_are_refused() {
    const FAULT: i32 = 21;
    const INVAL: i32 = 28;
    for (pending, mask, errno) in [
        (65_536, 20, FAULT),
        (16, 65_536, FAULT),
        (-4, 20, FAULT),
        (65_534, 20, INVAL),
        (17, 20, INVAL),
        (16, 22, INVAL),
        (65_532, 0, 0),
    ] {
        let body =
            format!("(call $exit (call $register (i32.const {pending}) (i32.const {mask})))");
        let (code, output) = TestContainer::of(&module("", &body)).run();
        assert_eq!((code, output.as_str()), (errno, ""), "{pending} {mask}");
    }
}

#[test]
fn profile_that_refuses_timers_is_a_failed_start_with_the_way_out() {
    for refused in ["timer_create", "timer_settime"] {
        let mut container = TestContainer::of(&module("", READY));
        container.spec["linux"]["seccomp"] = serde_json::json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": [refused], "action": "SCMP_ACT_ERRNO" }],
        });
        let (code, output) = container.run();
        assert_eq!(code, 125, "{output}");
        for words in ["cannot handle signals", refused, "allow timer_create and"] {
            assert!(output.contains(words), "{output}");
        }
    }
}

/// What signals do to a guest whose module knows none.
#[test]
fn guest_without_the_library_gets_no_eintr() {
    let mut container = TestContainer::of(&guests::reader());
    let mut stdin = File::from(container.with_stdin());
    container.create().expect("create");
    container.start().expect("start");
    container.wait_for_output("ready");
    for signal in [
        Signal::SIGUSR1,
        Signal::SIGALRM,
        Signal::SIGWINCH,
        Signal::SIGURG,
    ] {
        container.signal(signal);
    }
    stdin.write_all(b"12345").expect("write");
    assert_eq!(container.wait(), 5);
}

/// The native code of one, which is compiled once per test: the compiler of a test's build is slow.
fn compiled(programs: &Path, name: &str) -> Vec<u8> {
    let module = fs::read(programs.join(format!("{name}.wasm"))).expect("a module");
    wasm_interp_compiler::compile(&module).expect("compile the guest")
}

fn c_program(code: &[u8], arguments: &[&str]) -> TestContainer {
    let mut container = TestContainer::of_code(code);
    let words = ["program"].into_iter().chain(arguments.iter().copied());
    container.plan.argv = words.map(str::to_owned).collect();
    container
}

/// Unix sockets in `/data`.
fn own_sockets() -> Network {
    granted("unix:/data/*", "unix:/data/*")
}

#[test]
fn c_program_handles_signals_as_a_native_one() {
    let programs = guest_programs();
    let folder = tempfile::tempdir().expect("folder");
    // As a container starts it, and not with what this process's caller has ignored.
    let native = Command::new("env")
        .arg("--default-signal")
        .arg(programs.join("signals"))
        .arg(folder.path())
        .output()
        .expect("run");
    assert!(native.status.success(), "{native:?}");
    let mut guest = c_program(&compiled(&programs, "signals"), &["/data"]);
    guest.plan.network = own_sockets();
    let (code, output) = guest.run();
    assert_eq!(code, 0, "{output}");
    let native = String::from_utf8(native.stdout).expect("text");
    assert_same("signals", &output, &native);
}

#[test]
fn c_program_ends_by_its_handler_of_term() {
    let code = compiled(&guest_programs(), "signals");
    let run = |verb: &[&str]| {
        let mut container = c_program(&code, verb);
        let stdin = container.with_stdin();
        container.create().expect("create");
        container.start().expect("start");
        container.wait_for_output("ready");
        (container, stdin)
    };
    let (graceful, _stdin) = run(&["graceful"]);
    graceful.signal(Signal::SIGTERM);
    assert_eq!(graceful.wait(), 7);
    assert_eq!(graceful.output(), "ready\ngoodbye\n");

    // Blocked in stdio, and in a loop that looks at the word.
    for verb in ["reader", "busy"] {
        let (container, _stdin) = run(&[verb]);
        container.signal(Signal::SIGTERM);
        assert_eq!(container.wait(), 3, "{verb}");
        assert_eq!(container.output(), "ready\ngot 15\n", "{verb}");
    }

    // A signal whose handler restarts: the line is whole.
    let (reader, stdin) = run(&["reader"]);
    let mut stdin = File::from(stdin);
    stdin.write_all(b"half ").expect("write");
    reader.signal(Signal::SIGWINCH);
    stdin.write_all(b"a line\n").expect("write");
    drop(stdin);
    assert_eq!(reader.wait(), 0);
    let output = reader.output();
    assert!(output.contains("line: 12 bytes, "), "{output}");

    let (deaf, _stdin) = run(&["deaf"]);
    deaf.signal(Signal::SIGTERM);
    deaf.signal(Signal::SIGKILL);
    assert_eq!(deaf.wait(), 137);

    for verb in [&["default"][..], &["default", "computing"]] {
        let (container, _stdin) = run(verb);
        container.signal(Signal::SIGTERM);
        assert_eq!(container.wait(), 143, "{verb:?}");
    }
}

fn terminal_of_24_by_80() -> TestTerminal {
    let terminal = TestTerminal::open();
    terminal.resize(24, 80);
    terminal
}

#[test]
fn c_program_on_a_terminal_behaves_as_a_native_one() {
    let programs = guest_programs();
    let mut terminal = terminal_of_24_by_80();
    let output = tempfile::NamedTempFile::new().expect("output");
    let mut native = Command::new(programs.join("terminal"))
        .stdin(terminal.slave().try_clone_to_owned().expect("a copy"))
        .stdout(output.reopen().expect("output"))
        .spawn()
        .expect("run");
    let printed = || fs::read_to_string(output.path()).expect("output");
    wait_until("the native program is ready", || {
        printed().contains("for a key")
    });
    terminal.type_keys("k");
    let ended = native.wait().expect("an end");
    assert!(ended.success(), "{ended} {:?}", ended.signal());

    let code = compiled(&programs, "terminal");
    let mut terminal = terminal_of_24_by_80();
    let mut guest = c_program(&code, &[]);
    guest.stdin = Some(terminal.slave().try_clone_to_owned().expect("a copy"));
    guest.create().expect("create");
    guest.start().expect("start");
    guest.wait_for_output("for a key");
    terminal.type_keys("k");
    assert_eq!(guest.wait(), 0, "{}", guest.output());
    assert_same("terminal", &guest.output(), &printed());
    assert!(printed().contains("size: 24 80"), "{}", printed());
    assert!(printed().contains("key: k"), "{}", printed());

    // Standard input is /dev/null, and output a file.
    let native = Command::new(programs.join("terminal"))
        .stdin(Stdio::null())
        .output()
        .expect("run");
    let (code, output) = c_program(&code, &[]).run();
    assert_eq!(code, 0, "{output}");
    let native = String::from_utf8(native.stdout).expect("text");
    assert_same("terminal, without one", &output, &native);
}

#[test]
fn c_program_learns_that_its_terminal_has_another_size() {
    let mut terminal = terminal_of_24_by_80();
    let mut guest = c_program(&compiled(&guest_programs(), "terminal"), &["resize"]);
    guest.stdin = Some(terminal.slave().try_clone_to_owned().expect("a copy"));
    guest.create().expect("create");
    guest.start().expect("start");
    guest.wait_for_output("for a key");
    terminal.type_keys("k");
    guest.wait_for_output("for a size");
    terminal.resize(50, 132);
    // As the kernel does for processes that the terminal controls.
    guest.signal(Signal::SIGWINCH);
    assert_eq!(guest.wait(), 0, "{}", guest.output());
    assert!(
        guest.output().ends_with("size: 50 132\n"),
        "{}",
        guest.output()
    );
}
