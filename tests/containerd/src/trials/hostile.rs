//! Guests that attack what runs them (`tests/hostile`). Each gets a documented answer, and the
//! container beside it goes on.

use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use nix::sys::signal::Signal;
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with,
};

use super::c_programs::guest;
use super::sockets::{LoopbackNetwork, WEB, granted};
use crate::Outcome;
use crate::command::{Finished, wait_for};
use crate::hostile::{MODULES, image};
use crate::world::{CtrContainer, World};

/// Preview 1's numbers of errors.
const MFILE: i32 = 33;
const NOENT: &str = "44";
const PERM: &str = "63";

const MIB: u64 = 1024 * 1024;

/// Runs `attack` beside a container that has to go on after it: the same process, still printing,
/// with the file that it was given.
pub(super) fn beside_a_neighbour(world: &World, attack: impl FnOnce() -> Outcome) -> Outcome {
    let folder = world.folder("neighbour")?;
    fs::write(folder.join("file"), "the neighbour's")?;
    let neighbour = world
        .container(&image("neighbour"))
        .mount(&folder, "/data", "rbind:rw");
    neighbour.detach()?;
    neighbour.wait_for_output("tick\n")?;
    let pid = neighbour.pid()?;

    attack()?;

    let before = neighbour.output()?.len();
    wait_for("the neighbour to go on", || {
        Ok((neighbour.output()?.len() > before).then_some(()))
    })?;
    if neighbour.pid()? != pid {
        return Err("the neighbour has another process than before".into());
    }
    let files: Vec<_> = fs::read_dir(&folder)?.collect();
    if files.len() != 1 || fs::read_to_string(folder.join("file"))? != "the neighbour's" {
        return Err(format!("the neighbour's files have changed: {files:?}").into());
    }
    neighbour.remove()
}

/// A guest with a memory limit, run beside a neighbour.
fn attack(world: &World, guest: &str) -> Outcome<Finished> {
    let mut finished = None;
    beside_a_neighbour(world, || {
        let limit = (64 * MIB).to_string();
        let container = world
            .container(&image(guest))
            .options(&["--memory-limit", &limit]);
        finished = Some(container.run()?);
        Ok(())
    })?;
    finished.ok_or_else(|| "the attack did not run".into())
}

pub(super) fn no_path_leads_out_of_the_container(world: &World) -> Outcome {
    let outside = world.folder("outside")?;
    let marker = outside.join("marker");
    fs::write(&marker, "the host's")?;
    let links = world.folder("links")?;
    fs::write(links.join("there"), "the guest's")?;
    for (name, target) in [
        ("absolute", marker.as_path()),
        ("up", Path::new("../../../../../../..")),
        ("root", Path::new("/proc/1/root")),
        ("self", Path::new("/proc/self/exe")),
        // The guest's own descriptor, which is not open.
        ("fd", Path::new("/proc/self/fd/9")),
    ] {
        symlink(target, links.join(name))?;
    }
    let host = marker.display();
    let new = outside.join("new").display().to_string();
    let above = "../".repeat(30);
    let paths = [
        ("data/there".to_owned(), "00"),
        (format!("{above}{host}"), NOENT),
        (format!("data/../..{host}"), NOENT),
        (format!("data/up{host}"), NOENT),
        ("data/absolute".to_owned(), NOENT),
        (format!("data/root{host}"), NOENT),
        ("data/self".to_owned(), NOENT),
        ("data/fd".to_owned(), NOENT),
        (format!("proc/1/root{host}"), NOENT),
        ("proc/self/exe".to_owned(), NOENT),
        ("sys/kernel/uevent_helper".to_owned(), NOENT),
        ("dev/fd/5".to_owned(), NOENT),
        ("dev/mem".to_owned(), NOENT),
        ("run/containerd/containerd.sock".to_owned(), NOENT),
        (format!("+{above}{new}"), NOENT),
        (format!("+data/up{new}"), NOENT),
        ("+data/absolute".to_owned(), NOENT),
        // Preview 1's paths are relative to a descriptor.
        (host.to_string(), PERM),
        (format!("+{new}"), PERM),
    ];
    beside_a_neighbour(world, || {
        let arguments: Vec<&str> = paths.iter().map(|(path, _)| path.as_str()).collect();
        let finished = world
            .container(&image("paths"))
            .mount(&links, "/data", "rbind:rw")
            .arguments(&[&["/bin/guest.wasm"], &arguments[..]].concat())
            .run()?
            .expect_code(0)?;
        let answers: Vec<&str> = finished.stdout.lines().collect();
        let expected: Vec<&str> = paths.iter().map(|(_, answer)| *answer).collect();
        if answers != expected {
            return Err(format!("{paths:#?} were answered {answers:?}").into());
        }
        Ok(())
    })?;
    if fs::read_to_string(&marker)? != "the host's" || fs::read_dir(&outside)?.count() != 1 {
        return Err("a guest has changed what lies outside its container".into());
    }
    Ok(())
}

pub(super) fn open_files_end_with_an_error_and_come_back(world: &World) -> Outcome {
    attack(world, "descriptors")?.expect_code(MFILE)?;
    Ok(())
}

pub(super) fn memory_ends_at_the_limit(world: &World) -> Outcome {
    attack(world, "memory")?.expect_code(0)?;
    Ok(())
}

pub(super) fn tables_end_at_the_limit(world: &World) -> Outcome {
    attack(world, "tables")?.expect_code(0)?;
    Ok(())
}

pub(super) fn endless_recursion_is_a_trap(world: &World) -> Outcome {
    attack(world, "stack")?
        .expect_code(134)?
        .expect_stderr(&["used up its stack"])?;
    Ok(())
}

pub(super) fn lengths_and_pointers_out_of_memory_are_errors(world: &World) -> Outcome {
    attack(world, "numbers")?.expect_code(0)?;
    Ok(())
}

/// Guards against a shim that buffers what nothing reads.
pub(super) fn output_waits_for_a_slow_reader(world: &World) -> Outcome {
    flood(world, || world.container(&image("flood")))?;
    flood(world, || component(world, "flood"))
}

fn flood<'world>(
    world: &'world World,
    container: impl FnOnce() -> CtrContainer<'world>,
) -> Outcome {
    beside_a_neighbour(world, || {
        let container = container();
        let reader = container.run_beside()?;
        wait_for("the first output", || {
            Ok((reader.written()? > 0).then_some(()))
        })?;
        let shim = container.shim()?;
        let before = resident(shim)?;
        reader.signal(Signal::SIGSTOP)?;
        let guest = container.pid()?;
        let mut last = None;
        wait_for("the guest to wait for its reader", || {
            let now = cpu_time(guest)?;
            Ok((last.replace(now) == Some(now)).then_some(()))
        })?;
        let grown = resident(shim)?.saturating_sub(before);
        reader.signal(Signal::SIGCONT)?;
        let finished = reader.finish()?.expect_code(0)?;
        if grown > 8 * MIB {
            return Err(format!("the shim has grown by {grown} bytes").into());
        }
        let written = finished.stdout.len() as u64;
        if written != 256 * MIB {
            return Err(format!("{written} bytes of output have arrived").into());
        }
        Ok(())
    })
}

/// An address as the guest `network` takes it: the bytes of a sockaddr.
fn sockaddr(address: &str) -> String {
    let address: SocketAddr = address.parse().expect("an address");
    let port = address.port().to_be_bytes();
    match address.ip() {
        IpAddr::V4(ip) => hex::encode([&[2, 0], &port[..], &ip.octets(), &[0; 8]].concat()),
        IpAddr::V6(ip) => {
            hex::encode([&[10, 0], &port[..], &[0; 4], &ip.octets(), &[0; 4]].concat())
        }
    }
}

fn unix(path: &str) -> String {
    hex::encode([&[1, 0], path.as_bytes(), &[0]].concat())
}

/// Makes a socket in `directory`, whose path may be longer than a socket's.
fn listener(directory: &Path, name: &str) -> Outcome<UnixListener> {
    let directory = fs::File::open(directory)?;
    let path = format!("/proc/self/fd/{}/{name}", directory.as_raw_fd());
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Names that mean special addresses, mapped addresses, symlinks to other sockets, abstract names, ports
/// that the kernel chooses: nothing but what a rule says.
pub(super) fn no_address_beyond_the_rules_is_reached(world: &World) -> Outcome {
    const REFUSED: &str = "02";
    let data = world.folder("sockets")?;
    for name in ["own", "other"] {
        fs::create_dir(data.join(name))?;
    }
    let own = listener(&data.join("own"), "real")?;
    let other = listener(&data.join("other"), "admin")?;
    symlink("../other/admin", data.join("own/link"))?;
    symlink("../other", data.join("own/up"))?;
    let etc = world.folder("etc")?;
    fs::write(
        etc.join("hosts"),
        "127.0.0.1 evil\n::1 evil\n0.0.0.0 evil\n169.254.169.254 evil\n169.254.0.1 evil\n\
         ::ffff:169.254.169.254 evil\nfd00:ec2::254 evil\n64:ff9b::a9fe:a9fe evil\n\
         224.0.0.1 evil\n10.2.0.1 evil\n",
    )?;
    let granted = [
        format!("c{}", sockaddr("10.2.0.1:80")),
        format!("c{}", sockaddr("[::ffff:10.2.0.1]:80")),
        format!("c{}", sockaddr("10.1.2.3:443")),
        format!("m{}", sockaddr("10.1.2.3:53")),
        format!("d{}", sockaddr("10.1.2.3:53")),
        format!("l{}", sockaddr("0.0.0.0:8080")),
        format!("u{}", sockaddr("0.0.0.0:5353")),
        format!("u{}", sockaddr("0.0.0.0:0")),
        format!("c{}", unix("/data/own/real")),
        format!("l{}", unix("/data/own/new")),
    ];
    let refused = [
        format!("c{}", sockaddr("127.0.0.1:80")),
        format!("c{}", sockaddr("127.1.2.3:80")),
        format!("c{}", sockaddr("0.0.0.0:80")),
        format!("c{}", sockaddr("[::]:80")),
        format!("c{}", sockaddr("[::1]:80")),
        format!("c{}", sockaddr("[::ffff:127.0.0.1]:80")),
        format!("c{}", sockaddr("[::ffff:0.0.0.0]:80")),
        format!("c{}", sockaddr("169.254.169.254:80")),
        format!("c{}", sockaddr("169.254.0.1:80")),
        format!("c{}", sockaddr("[::ffff:169.254.169.254]:80")),
        format!("c{}", sockaddr("[fd00:ec2::254]:80")),
        format!("c{}", sockaddr("[64:ff9b::a9fe:a9fe]:80")),
        format!("c{}", sockaddr("224.0.0.1:80")),
        format!("c{}", sockaddr("10.2.0.1:81")),
        format!("c{}", sockaddr("10.2.0.2:80")),
        format!("c{}", sockaddr("10.1.2.3:444")),
        format!("c{}", sockaddr("[::ffff:10.2.0.2]:443")),
        format!("m{}", sockaddr("10.2.0.1:53")),
        format!("m{}", sockaddr("[::ffff:10.2.0.1]:53")),
        format!("m{}", sockaddr("10.1.2.3:54")),
        format!("d{}", sockaddr("10.2.0.1:80")),
        format!("l{}", sockaddr("0.0.0.0:8081")),
        format!("l{}", sockaddr("0.0.0.0:0")),
        format!("l{}", sockaddr("127.0.0.1:5353")),
        format!("u{}", sockaddr("0.0.0.0:5354")),
        format!("c{}", unix("/data/other/admin")),
        format!("c{}", unix("/data/own/link")),
        format!("c{}", unix("/data/own/up/admin")),
        format!("c{}", unix("/data/own/../other/admin")),
        format!("m{}", unix("/data/own/link")),
        format!("l{}", unix("/data/other/new")),
        format!("l{}", unix("/data/own/up/new")),
        // An abstract name, and one that the kernel would choose.
        format!("c{}", unix("\0name")),
        format!("l{}", unix("\0name")),
        format!("l{}", hex::encode([1, 0])),
    ];
    let all: Vec<&str> = granted.iter().chain(&refused).map(String::as_str).collect();
    beside_a_neighbour(world, || {
        let finished = world
            .container(&image("network"))
            .mount(&data, "/data", "rbind:rw")
            .mount(&etc.join("hosts"), "/etc/hosts", "rbind:ro")
            .options(&[
                "--annotation",
                "wasm-interp.io/listen=tcp:8080, udp:5353, unix:/data/own/*",
                "--annotation",
                "wasm-interp.io/connect=tcp:evil:80, tcp:10.1.0.0/16:443, udp:10.1.0.0/16:53, \
                 unix:/data/own/*",
            ])
            .arguments(&[&["/bin/guest.wasm"], &all[..]].concat())
            .run()?
            .expect_code(0)?
            .expect_stderr(&[
                "tcp:169.254.169.254:80",
                "add \"tcp:localhost:80\" to the annotation wasm-interp.io/connect",
                "add \"tcp:8081\" to the annotation wasm-interp.io/listen",
                "add \"unix:/data/other/admin\" to the annotation wasm-interp.io/connect",
            ])?;
        let answers: Vec<&str> = finished.stdout.lines().collect();
        if answers.len() != all.len() {
            return Err(format!("{} answers to {} attempts", answers.len(), all.len()).into());
        }
        for (index, (attempt, answer)) in all.iter().zip(&answers).enumerate() {
            if (*answer == REFUSED) != (index >= granted.len()) {
                return Err(format!("attempt {index}, {attempt}, was answered {answer}").into());
            }
        }
        Ok(())
    })?;
    own.accept()?;
    match other.accept() {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        other => return Err(format!("a socket that no rule names was reached: {other:?}").into()),
    }
    for name in ["own/new", "other/new"] {
        let is_there = data.join(name).exists();
        if is_there != (name == "own/new") {
            return Err(format!("{name}: {is_there}").into());
        }
    }
    Ok(())
}

/// A symlink takes the place of a granted socket, and goes again, while a guest connects and writes.
pub(super) fn no_byte_reaches_a_socket_that_is_swapped_in(world: &World) -> Outcome {
    let data = world.folder("swapped")?;
    for name in ["own", "other"] {
        fs::create_dir(data.join(name))?;
    }
    let _own = listener(&data.join("other"), "granted")?;
    let other = listener(&data.join("other"), "admin")?;
    fs::hard_link(data.join("other/granted"), data.join("own/socket"))?;
    let attempts = vec![format!("w{}", unix("/data/own/socket")); 100];
    let attempts: Vec<&str> = attempts.iter().map(String::as_str).collect();
    let ended = AtomicBool::new(false);
    let swaps = AtomicUsize::new(0);
    let swap = || -> io::Result<()> {
        while !ended.load(Ordering::Relaxed) {
            symlink("../other/admin", data.join("own/next"))?;
            fs::rename(data.join("own/next"), data.join("own/socket"))?;
            fs::hard_link(data.join("other/granted"), data.join("own/next"))?;
            fs::rename(data.join("own/next"), data.join("own/socket"))?;
            swaps.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    let attack = || {
        beside_a_neighbour(world, || {
            world
                .container(&image("network"))
                .mount(&data, "/data", "rbind:rw")
                .options(&["--annotation", "wasm-interp.io/connect=unix:/data/own/*"])
                .arguments(&[&["/bin/guest.wasm"], &attempts[..]].concat())
                .run()?
                .expect_code(0)?;
            Ok(())
        })
    };
    let (attacked, swapped) = thread::scope(|scope| {
        let swapping = scope.spawn(swap);
        let attacked = attack();
        ended.store(true, Ordering::Relaxed);
        (attacked, swapping.join().expect("no panic"))
    });
    attacked?;
    swapped?;
    if swaps.load(Ordering::Relaxed) == 0 {
        return Err("nothing was swapped".into());
    }
    while let Ok((mut connection, _)) = other.accept() {
        let mut bytes = Vec::new();
        connection.set_nonblocking(false)?;
        connection.read_to_end(&mut bytes)?;
        if !bytes.is_empty() {
            return Err("a byte has reached a socket that no rule names".into());
        }
    }
    Ok(())
}

/// Each on its way to an address that does not answer.
pub(super) fn sockets_end_with_an_error_and_come_back(world: &World) -> Outcome {
    let network = LoopbackNetwork::new(world)?;
    beside_a_neighbour(world, || {
        network
            .join(world.container(&image("sockets")))
            .options(&[
                "--annotation",
                "wasm-interp.io/connect=tcp:10.255.0.0/16:80",
            ])
            .run()?
            .expect_code(MFILE)?;
        Ok(())
    })
}

/// What they hold is memory of the kernel's, which counts as the container's: up to its last descriptor the guest would
/// hold three times its limit.
pub(super) fn full_pairs_of_sockets_end_at_the_limit(world: &World) -> Outcome {
    const KILLED: i32 = 137;
    attack(world, "pairs")?.expect_code(KILLED)?;
    Ok(())
}

/// Connections of which only the first packet comes, from addresses that do not answer, and connections on which
/// nothing is said.
pub(super) fn half_open_connections_keep_no_one_out(world: &World) -> Outcome {
    const PORT: u16 = 8080;
    /// More than the server's backlog.
    const HALF_OPEN: u16 = 3000;
    const SILENT: usize = 500;
    let network = LoopbackNetwork::new(world)?;
    let place = format!("tcp:{WEB}:{PORT}");
    let server = granted(
        network.join(guest(world, "http", &[&place])),
        "tcp:8080",
        "",
    );
    server.detach()?;
    server.wait_for_output("ready")?;
    let flooded = network.inside(|| -> Outcome<Vec<TcpStream>> {
        let raw = socket_with(
            AddressFamily::INET,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(ipproto::RAW),
        )?;
        let to: SocketAddrV4 = format!("{WEB}:{PORT}").parse()?;
        for number in 0..HALF_OPEN {
            let from = Ipv4Addr::new(10, 255, (number >> 8) as u8, number as u8);
            let packet = first_packet(SocketAddrV4::new(from, 40_000), to);
            sendto(&raw, &packet, SendFlags::empty(), &to)?;
        }
        // The kernel has them as connections that are being made: state 3.
        let text = fs::read_to_string("/proc/thread-self/net/tcp")?;
        let is_half_open = |line: &&str| line.split_whitespace().nth(3) == Some("03");
        if text.lines().filter(is_half_open).count() == 0 {
            return Err(format!("no connection is half open:\n{text}").into());
        }
        let silent = (0..SILENT).map(|_| Ok(TcpStream::connect(to)?));
        silent.collect()
    })?;
    let fetched = granted(
        network.join(guest(world, "fetch", &[WEB, "8080", "/healthz"])),
        "",
        "tcp:10.99.0.1:8080",
    )
    .run()?;
    drop(flooded);
    fetched.expect_code(0)?.expect_stdout("read: ok\n")?;
    server.remove()
}

/// The first packet of a connection, with its IP header.
fn first_packet(from: SocketAddrV4, to: SocketAddrV4) -> Vec<u8> {
    const TCP: u8 = 6;
    const SYN: u8 = 2;
    let sum = |parts: &[&[u8]]| {
        let bytes = parts.concat();
        let words = bytes
            .chunks(2)
            .map(|two| u32::from(two[0]) << 8 | u32::from(two[1]));
        let sum: u32 = words.sum();
        let sum = (sum >> 16) + (sum & 0xffff);
        !((sum + (sum >> 16)) as u16)
    };
    let (source, destination) = (from.ip().octets(), to.ip().octets());
    let mut segment = vec![0; 20];
    segment[..2].copy_from_slice(&from.port().to_be_bytes());
    segment[2..4].copy_from_slice(&to.port().to_be_bytes());
    segment[12..16].copy_from_slice(&[5 << 4, SYN, 0xff, 0xff]);
    let pseudo = [&source[..], &destination, &[0, TCP, 0, 20]].concat();
    let checksum = sum(&[&pseudo, &segment]);
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    // The kernel fills in the length and the checksum of this header.
    let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, TCP, 0, 0];
    packet.extend(source);
    packet.extend(destination);
    packet.extend(segment);
    packet
}

/// Bytes of memory that a process has.
fn resident(pid: i32) -> Outcome<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages = text.split(' ').nth(1).ok_or("no size in statm")?;
    Ok(pages.parse::<u64>()? * 4096)
}

/// Clock ticks that a process has computed.
fn cpu_time(pid: i32) -> Outcome<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything.
    let (_, fields) = text.rsplit_once(") ").ok_or("no name in stat")?;
    let mut times = fields.split(' ').skip(11);
    let mut next = || -> Outcome<u64> { Ok(times.next().ok_or("no time in stat")?.parse()?) };
    Ok(next()? + next()?)
}

pub(super) fn hostile_modules_are_refused_in_words(world: &World) -> Outcome {
    let run = |module: &str| -> Outcome<Finished> {
        let limit = (64 * MIB).to_string();
        let program = format!("/bin/{module}.wasm");
        world
            .container(MODULES)
            .options(&["--memory-limit", &limit])
            .arguments(&[&program])
            .run()
    };
    beside_a_neighbour(world, || {
        for module in [
            "component-as-module",
            "component-cut-off",
            "component-of-another-layer",
            "cut-off",
            "far-section",
            "endless-number",
            "many-functions",
            "many-locals",
        ] {
            let path = format!("/bin/{module}.wasm");
            run(module)?
                .expect_failure()?
                .expect_stderr(&[&path, "not a valid"])?;
        }
        run("component-foreign")?
            .expect_failure()?
            .expect_stderr(&[
                "imports what no grant offers",
                "wasi:http/types@0.2.0 (interface)",
            ])?;
        run("component-newer")?.expect_failure()?.expect_stderr(&[
            "imports what no grant offers",
            "wasi:cli/environment@0.2.99 (a newer version)",
        ])?;
        for (module, reason) in [
            ("component-deep", "nested more than 100 deep"),
            ("component-huge-type", "type size exceeds the limit"),
            ("component-wide", "components count exceeds limit"),
        ] {
            run(module)?
                .expect_failure()?
                .expect_stderr(&["not a valid WebAssembly component", reason])?;
        }
        run("component-library")?
            .expect_failure()?
            .expect_stderr(&["exports no wasi:cli/run"])?;
        for module in ["component-huge-memory", "huge-memory", "huge-table"] {
            run(module)?.expect_code(125)?.expect_stderr(&[
                "could not be started",
                "resources.limits.memory",
                "raise the limit",
            ])?;
        }
        run("far-data")?
            .expect_code(134)?
            .expect_stderr(&["out of bounds"])?;
        // Unusual, but valid.
        run("deep-nesting")?.expect_code(0)?;
        Ok(())
    })
}

/// One of the hostile components.
fn component<'world>(world: &'world World, name: &str) -> CtrContainer<'world> {
    let program = format!("/bin/component-{name}.wasm");
    world.container(MODULES).arguments(&[&program])
}

/// They break the rules between a component and its host, or take what there is.
pub(super) fn components_that_break_the_rules_trap(world: &World) -> Outcome {
    for (name, code, reason) in [
        ("memories", 0, ""),
        ("tables", 0, ""),
        ("resources", 134, "handle limit exceeded"),
        ("foreign-handle", 134, "unknown handle index"),
        ("dropped-twice", 134, "unknown handle index"),
        ("far-list", 134, "beyond end of memory"),
        ("far-text", 134, "out of bounds of memory"),
        ("inner-call", 134, "cannot leave component instance"),
    ] {
        beside_a_neighbour(world, || {
            let limit = (64 * MIB).to_string();
            component(world, name)
                .options(&["--memory-limit", &limit])
                .run()?
                .expect_code(code)?
                .expect_stderr(&[reason])?;
            Ok(())
        })?;
    }
    Ok(())
}

pub(super) fn component_that_never_waits_keeps_no_one_out(world: &World) -> Outcome {
    let spinning = component(world, "spin");
    spinning.detach()?;
    spinning.wait_for_output("ready\n")?;
    beside_a_neighbour(world, || {
        component(world, "tables").run()?.expect_code(0)?;
        Ok(())
    })?;
    spinning.end_by("SIGTERM", 143)
}

pub(super) fn a_file_without_end_is_no_module(world: &World) -> Outcome {
    let folder = world.folder("endless")?;
    let file = fs::File::create(folder.join("module.wasm"))?;
    std::io::Write::write_all(&mut &file, b"\0asm\x01\0\0\0")?;
    file.set_len(1 << 40)?;
    beside_a_neighbour(world, || {
        world
            .container(MODULES)
            .mount(&folder, "/data", "rbind:ro")
            .arguments(&["/data/module.wasm"])
            .run()?
            .expect_failure()?
            .expect_stderr(&["/data/module.wasm", "compiles modules of up to"])?;
        Ok(())
    })
}
