//! Unix sockets: grants by path, waiting connections, directories that change, names of the ends.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::{
        fs::{FileExt as _, symlink},
        net::{UnixDatagram, UnixListener, UnixStream},
    },
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
    unistd::{Pid, getpid, gettid},
};
use rustix::mount::{MountFlags, mount};
use wasm_interp_wasi::{
    LateMounts,
    errno::{Errno, Result},
};

use super::{
    AF_INET, AF_UNIX, DATAGRAM, NONBLOCK, STREAM, SYS_PPOLL, bytes, network, with_network,
};
use crate::support::{Caller, enter, in_tree};

#[test]
fn unix_sockets_are_where_the_grant_says() {
    let granted = network("unix:/run/app/*", "unix:/run/app/*, unix:/run/db.sock");
    with_network(granted, |guest| {
        fs::create_dir("/run/app").expect("a directory");
        fs::create_dir("/run/other").expect("a directory");
        let fd = guest.socket(AF_UNIX, STREAM, 0).expect("a socket");
        assert_eq!(guest.bind(fd, "/run/other/a"), Err(Errno::Acces));
        assert_eq!(guest.bind(fd, "/run/app/../other/a"), Err(Errno::Acces));
        assert_eq!(guest.bind(fd, "/run/nowhere/a"), Err(Errno::Noent));
        guest.bind(fd, "/run/app/../app//a").expect("bind");
        guest.listen(fd).expect("listen");
        let name = guest.name("getsockname", fd);
        assert_eq!(name.as_deref(), Ok("/run/app/../app//a"));
        let mut client = UnixStream::connect("/run/app/a").expect("connect");
        let (connection, peer) = guest.accept(fd, 0).expect("accept");
        assert_eq!(peer, "");
        client.write_all(b"x").expect("write");
        assert_eq!(guest.receive(connection, 8, 0).expect("receive").0, b"x");
        let again = guest.socket(AF_UNIX, STREAM, 0).expect("a socket");
        assert_eq!(guest.bind(again, "/run/app/a"), Err(Errno::Addrinuse));

        let _elsewhere = UnixListener::bind("/run/other/secret").expect("bind");
        let database = UnixListener::bind("/run/db.sock").expect("bind");
        symlink("/run/other/secret", "/run/app/link").expect("a link");
        symlink("../db.sock", "/run/app/to-db").expect("a link");
        symlink("/run/other", "/run/app/directory").expect("a link");
        symlink("/run", "/var-run").expect("a link");
        fs::write("/run/app/file", "").expect("a file");
        for (path, expected) in [
            ("/run/other/secret", Err(Errno::Acces)),
            ("/run/app/link", Err(Errno::Acces)),
            ("/run/app/directory/secret", Err(Errno::Acces)),
            ("/run/app/to-db", Ok(())),
            ("/var-run/db.sock", Ok(())),
            ("/run/app/file", Err(Errno::Connrefused)),
            ("/run/app/none", Err(Errno::Noent)),
            ("/run/app/a/", Err(Errno::Notdir)),
            ("/run/app/a/b", Err(Errno::Notdir)),
            ("/run/app", Err(Errno::Acces)),
            ("/", Err(Errno::Notdir)),
        ] {
            let fd = guest.socket(AF_UNIX, STREAM, 0).expect("a socket");
            assert_eq!(guest.connect(fd, path), expected, "{path}");
        }
        drop(database);
        for name in [&b"\x01\0\0abstract"[..], &[1, 0, 0]] {
            let fd = guest.socket(AF_UNIX, STREAM, 0).expect("a socket");
            assert_eq!(guest.with_address("bind", fd, name), Err(Errno::Acces));
            assert_eq!(guest.with_address("connect", fd, name), Err(Errno::Acces));
        }
        let fd = guest.socket(AF_UNIX, STREAM, 0).expect("a socket");
        assert_eq!(
            guest.with_address("bind", fd, &[1, 0]),
            Err(Errno::Acces),
            "no name"
        );
    });
}

/// As of an image's own directories: the first change in one makes it in the upper layer too, which changes the
/// directory above.
#[test]
fn sockets_are_bound_in_directories_that_an_overlay_has_not_copied_yet() {
    in_tree(|tree| {
        enter(tree);
        for directory in [
            "/lower/run/stream",
            "/lower/run/datagram",
            "/upper",
            "/work",
            "/root",
        ] {
            fs::create_dir_all(directory).expect(directory);
        }
        let layers = c"lowerdir=/lower,upperdir=/upper,workdir=/work";
        mount("overlay", "/root", "overlay", MountFlags::empty(), layers).expect("an overlay");
        let granted = network("unix:/root/run/*/s", "");
        let mut guest = Caller::with_network(LateMounts::Impossible, granted, None);
        for (kind, path) in [
            (STREAM, "/root/run/stream/s"),
            (DATAGRAM, "/root/run/datagram/s"),
        ] {
            let fd = guest.socket(AF_UNIX, kind, 0).expect("a socket");
            assert_eq!(guest.bind(fd, path), Ok(()), "{path}");
        }
    });
}

#[test]
fn unix_datagrams_carry_the_path_of_their_sender() {
    with_network(network("unix:/run/*", "unix:/run/*"), |guest| {
        let server = UnixDatagram::bind("/run/server").expect("bind");
        let fd = guest.socket(AF_UNIX, DATAGRAM, 0).expect("a socket");
        guest.bind(fd, "/run/client").expect("bind");
        assert_eq!(guest.send(fd, b"question", 0, &bytes("/run/server")), Ok(8));
        let mut buffer = [0; 16];
        let (length, sender) = server.recv_from(&mut buffer).expect("receive");
        assert_eq!(&buffer[..length], b"question");
        assert_eq!(sender.as_pathname(), Some(Path::new("/run/client")));
        server.send_to(b"answer", "/run/client").expect("send");
        let (data, _, sender) = guest.receive(fd, 16, 0).expect("receive");
        assert_eq!((&data[..], &sender[..]), (&b"answer"[..], "/run/server"));
        let long = format!("/run/{}", "x".repeat(120));
        let fd = guest.socket(AF_UNIX, DATAGRAM, 0).expect("a socket");
        assert_eq!(guest.bind(fd, &long), Err(Errno::Nametoolong));
    });
}

/// Waits until the thread sleeps whose `/proc/…/syscall` this is.
fn wait_for_sleep(waits: &fs::File) {
    let sleeps = format!("{SYS_PPOLL} ");
    let mut text = [0; 16];
    loop {
        let length = waits.read_at(&mut text, 0).expect("read");
        if text[..length].starts_with(sleeps.as_bytes()) {
            return;
        }
        std::thread::yield_now();
    }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note_interruption(_: i32) {
    INTERRUPTED.store(true, Ordering::SeqCst);
}
/// Has SIGUSR2 interrupt a call, and do nothing else.
#[allow(unsafe_code)]
fn interrupt_by_signal() {
    let handler = SigHandler::Handler(note_interruption);
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler stores to an atomic value and does nothing else.
    unsafe { sigaction(Signal::SIGUSR2, &action) }.expect("sigaction");
}

#[allow(unsafe_code)]
fn interrupt(thread: Pid) {
    let (process, thread) = (getpid().as_raw(), thread.as_raw());
    // SAFETY: the call takes numbers alone.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR2) };
    assert_eq!(sent, 0);
}

/// By a signal that is none of the guest's.
#[test]
fn interrupted_connection_to_a_unix_socket_is_made_all_the_same() {
    in_tree(|tree| {
        let this_thread = gettid();
        let thread = format!("/proc/self/task/{this_thread}/syscall");
        let waits = fs::File::open(&thread).expect(&thread);
        interrupt_by_signal();
        enter(tree);
        let listener = UnixListener::bind("/a").expect("bind");
        rustix::net::listen(&listener, 0).expect("listen");
        let _first = UnixStream::connect("/a").expect("the one that there is room for");
        let neighbour = std::thread::spawn(move || {
            wait_for_sleep(&waits);
            interrupt(this_thread);
            while !INTERRUPTED.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            drop(listener.accept().expect("accept"));
            listener
        });
        let granted = network("", "unix:/a");
        let mut guest = Caller::with_network(LateMounts::Impossible, granted, None);
        let fd = guest.socket(AF_UNIX, STREAM, 0).expect("a socket");
        let answer = guest.connect(fd, "/a");
        let listener = neighbour.join().expect("the neighbour");
        assert_eq!(answer, Ok(()));
        assert_eq!(guest.send(fd, b"x", 0x4000, b""), Ok(1));
        let (mut accepted, _) = listener.accept().expect("accept");
        accepted.read_exact(&mut [0]).expect("read");
    });
}

/// Makes `call` while signals come to this thread that are none of the guest's, as those that it masks. Each would begin
/// the time of a socket again: the call must not outlast them.
fn while_interrupted<T>(call: impl FnOnce() -> T) -> T {
    /// Many more than come within the time.
    const INTERRUPTIONS: u32 = 2000;
    let this_thread = gettid();
    let ended = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&ended);
    let neighbour = std::thread::spawn(move || {
        for _ in 0..INTERRUPTIONS {
            if seen.load(Ordering::SeqCst) {
                return true;
            }
            interrupt(this_thread);
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    });
    let outcome = call();
    ended.store(true, Ordering::SeqCst);
    assert!(
        neighbour.join().expect("the neighbour"),
        "it outlasted them"
    );
    outcome
}

fn half_a_second() -> Vec<u8> {
    [&0_u64.to_ne_bytes()[..], &500_000_u64.to_ne_bytes()].concat()
}

#[test]
fn interruptions_do_not_prolong_the_time_of_a_socket() {
    in_tree(|tree| {
        interrupt_by_signal();
        enter(tree);
        let mut guest = Caller::new(LateMounts::Impossible);
        let (end, _other) = guest
            .pair("socketpair", &[AF_UNIX, STREAM, 0, 0])
            .expect("a pair");
        guest
            .set_option(end, 1, 20, &half_a_second())
            .expect("SO_RCVTIMEO");
        let received = while_interrupted(|| guest.receive(end, 8, 0));
        assert_eq!(received, Err(Errno::Again));
    });
}

#[test]
fn interruptions_do_not_prolong_the_time_of_a_connection() {
    with_network(network("", "tcp:127.0.0.1:80"), |guest| {
        interrupt_by_signal();
        let listener = TcpListener::bind("127.0.0.1:80").expect("bind");
        rustix::net::listen(&listener, 0).expect("listen");
        let _first = TcpStream::connect("127.0.0.1:80").expect("the one that there is room for");
        let fd = guest.socket(AF_INET, STREAM, 0).expect("a socket");
        guest
            .set_option(fd, 1, 21, &half_a_second())
            .expect("SO_SNDTIMEO");
        let connected = while_interrupted(|| guest.connect(fd, "127.0.0.1:80"));
        assert_eq!(connected, Err(Errno::Inprogress));
    });
}

/// A guest that may connect to what is in `/run/shared`, and waits for a listener there that has room for one
/// connection alone. Meanwhile a neighbour acts, and then makes room.
fn connect_that_waits<T: Send + 'static>(
    neighbour: impl FnOnce() -> T + Send + 'static,
    test: impl FnOnce(&mut Caller, u32, Result<()>, T) + Send + 'static,
) {
    in_tree(|tree| {
        // What this thread waits in, as the kernel says.
        let thread = format!("/proc/self/task/{}/syscall", gettid());
        let waits = fs::File::open(&thread).expect(&thread);
        enter(tree);
        fs::create_dir_all("/run/shared").expect("a directory");
        let granted = UnixListener::bind("/run/shared/a").expect("bind");
        rustix::net::listen(&granted, 0).expect("listen");
        let _first = UnixStream::connect("/run/shared/a").expect("the one that there is room for");
        let neighbour = std::thread::spawn(move || {
            wait_for_sleep(&waits);
            let acted = neighbour();
            drop(granted.accept().expect("accept"));
            (granted, acted)
        });
        let granted = network("", "unix:/run/shared/*");
        let mut guest = Caller::with_network(LateMounts::Impossible, granted, None);
        let fd = guest.socket(AF_UNIX, STREAM, 0).expect("a socket");
        let answer = guest.connect(fd, "/run/shared/a");
        let (_listener, acted) = neighbour.join().expect("the neighbour");
        test(&mut guest, fd, answer, acted);
    });
}

/// Another container, which may write to the directory, puts a link there.
#[test]
fn link_that_replaces_a_socket_leads_nowhere() {
    let replace = || {
        let secret = UnixListener::bind("/run/secret").expect("bind");
        symlink("/run/secret", "/run/link").expect("a link");
        fs::rename("/run/link", "/run/shared/a").expect("replace");
        secret
    };
    connect_that_waits(replace, |guest, fd, answer, secret| {
        assert_eq!(answer, Err(Errno::Acces));
        assert_eq!(guest.send(fd, b"x", 0x4000, b""), Err(Errno::Notconn));
        secret.set_nonblocking(true).expect("set");
        let reached = secret.accept().expect_err("nothing has come");
        assert_eq!(reached.kind(), std::io::ErrorKind::WouldBlock);
    });
}

#[test]
fn connection_that_waits_is_made_though_the_directory_changes() {
    let change = || fs::write("/run/shared/b", "").expect("a file");
    connect_that_waits(change, |guest, fd, answer, ()| {
        assert_eq!(answer, Ok(()));
        assert_eq!(guest.send(fd, b"x", 0x4000, b""), Ok(1));
        // One that does not want to wait does not.
        let other = guest.socket(AF_UNIX, STREAM, NONBLOCK).expect("a socket");
        assert_eq!(guest.connect(other, "/run/shared/a"), Err(Errno::Again));
    });
}

#[test]
fn connection_waits_as_long_as_its_socket_says() {
    with_network(network("", "unix:/run/*"), |guest| {
        let listener = UnixListener::bind("/run/a").expect("bind");
        rustix::net::listen(&listener, 0).expect("listen");
        let _first = UnixStream::connect("/run/a").expect("the one that there is room for");
        let fd = guest.socket(AF_UNIX, STREAM, 0).expect("a socket");
        let time = [0u64.to_ne_bytes(), 50_000u64.to_ne_bytes()].concat();
        guest.set_option(fd, 1, 21, &time).expect("SO_SNDTIMEO");
        let started = Instant::now();
        assert_eq!(guest.connect(fd, "/run/a"), Err(Errno::Again));
        assert!(started.elapsed() >= Duration::from_millis(50));
        drop(listener.accept().expect("accept"));
        guest.connect(fd, "/run/a").expect("connect");
    });
}

/// A neighbour makes and removes files all the time. A connection may fail where one comes right beside it; others are made, of
/// a busy machine fewer.
#[test]
fn sockets_in_a_directory_that_changes_all_the_time_are_reached() {
    with_network(network("", "unix:/run/*"), |guest| {
        let listener = UnixListener::bind("/run/a").expect("bind");
        let ended = Arc::new(AtomicBool::new(false));
        let neighbour = std::thread::spawn({
            let ended = Arc::clone(&ended);
            move || {
                while !ended.load(Ordering::SeqCst) {
                    fs::write("/run/changes", "").expect("a file");
                    fs::remove_file("/run/changes").expect("remove");
                    std::thread::sleep(Duration::from_millis(3));
                }
            }
        });
        let mut reached = 0;
        let deadline = Instant::now() + Duration::from_secs(300);
        while reached < 10 && Instant::now() < deadline {
            let fd = guest.socket(AF_UNIX, STREAM, 0).expect("a socket");
            match guest.connect(fd, "/run/a") {
                Ok(()) => {
                    reached += 1;
                    listener.accept().expect("accept");
                }
                Err(error) => assert_eq!(error, Errno::Connaborted),
            }
            guest.close(fd).expect("close");
        }
        ended.store(true, Ordering::SeqCst);
        neighbour.join().expect("the neighbour");
        assert_eq!(reached, 10);
    });
}

#[test]
fn ends_of_unix_connections_have_the_path_that_was_bound() {
    with_network(network("unix:*", "unix:*"), |guest| {
        fs::create_dir("/run/inner").expect("a directory");
        symlink("/run", "/var-run").expect("a link");
        for (bound, plain) in [("/run/a", "/run/a"), ("/var-run/inner/../b", "/run/b")] {
            let listener = guest.listener(AF_UNIX, bound);
            // Others are told where that leads.
            let native = UnixStream::connect(plain).expect("connect");
            let peer = native.peer_addr().expect("an address");
            assert_eq!(peer.as_pathname(), Some(Path::new(plain)));
            let client = guest.socket(AF_UNIX, STREAM, 0).expect("a socket");
            guest.connect(client, plain).expect("connect");
            assert_eq!(guest.name("getpeername", client).as_deref(), Ok(plain));
            for _ in 0..2 {
                let (accepted, _) = guest.accept(listener, 0).expect("accept");
                assert_eq!(guest.name("getsockname", accepted).as_deref(), Ok(bound));
                assert_eq!(guest.name("getpeername", accepted).as_deref(), Ok(""));
            }
            assert_eq!(guest.name("getsockname", listener).as_deref(), Ok(bound));
        }
        // A client may have a name too.
        let listener = guest.listener(AF_UNIX, "/run/c");
        let client = guest.socket(AF_UNIX, STREAM, 0).expect("a socket");
        guest.bind(client, "/run/client").expect("bind");
        guest.connect(client, "/run/c").expect("connect");
        let (accepted, peer) = guest.accept(listener, 0).expect("accept");
        assert_eq!(peer, "/run/client");
        assert_eq!(
            guest.name("getpeername", accepted).as_deref(),
            Ok("/run/client")
        );
        assert_eq!(guest.name("getpeername", client).as_deref(), Ok("/run/c"));
        // Longer than what the kernel has room for, as paths from a working directory may become.
        let long = format!("/run/{}/d", "x".repeat(120));
        fs::create_dir(Path::new(&long).parent().expect("above")).expect("a directory");
        let listener = guest.listener(AF_UNIX, &long);
        let client = guest.socket(AF_UNIX, STREAM, 0).expect("a socket");
        guest.connect(client, &long).expect("connect");
        assert_eq!(guest.name("getpeername", client).as_deref(), Ok("d"));
        let (accepted, _) = guest.accept(listener, 0).expect("accept");
        assert_eq!(guest.name("getsockname", accepted).as_ref(), Ok(&long));
    });
}
