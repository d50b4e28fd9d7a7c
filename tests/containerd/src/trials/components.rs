//! C and Rust programs as components of WASI 0.2. What WASI 0.2 has words for is the same as in a native program.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use super::c_programs::native;
use super::hostile::beside_a_neighbour;
use super::sockets::{LoopbackNetwork, WEB, Way, granted};
use crate::Outcome;
use crate::guests::{C_PROGRAMS, COMPONENT_IMPORTS};
use crate::lines::difference;
use crate::world::{CtrContainer, World};

const MIB: u64 = 1024 * 1024;

fn component<'world>(world: &'world World, name: &str, arguments: &[&str]) -> CtrContainer<'world> {
    let program = format!("/component/{name}.wasm");
    world
        .container(C_PROGRAMS)
        .arguments(&[&[program.as_str()], arguments].concat())
}

pub(super) fn files_are_those_of_a_native_program(world: &World) -> Outcome {
    // In a mount, and on the container's own file system.
    for place in ["/data", "/tmp"] {
        let print = |container: CtrContainer<'_>| -> Outcome<String> {
            let folder = world.folder("data")?;
            let finished = container.mount(&folder, "/data", "rbind:rw").run()?;
            Ok(finished.expect_code(0)?.stdout)
        };
        let expected = print(native(world, "files", &[place]))?;
        let printed = print(component(world, "files", &[place]))?;
        if let Some(difference) = difference(place, &printed, &expected) {
            return Err(difference.into());
        }
    }
    Ok(())
}

pub(super) fn clocks_sleep_and_random_bytes_are_right(world: &World) -> Outcome {
    component(world, "clocks", &[]).run()?.expect_code(0)?;
    Ok(())
}

pub(super) fn ends_are_success_failure_or_a_trap(world: &World) -> Outcome {
    // The interface that C and Rust end by says no more than whether it went well.
    for (name, arguments, code) in [
        ("ends", ["return", "0"], 0),
        ("ends", ["return", "3"], 1),
        ("ends", ["exit", "0"], 0),
        ("ends", ["exit", "3"], 1),
        ("rust_questions", ["exit", "3"], 1),
    ] {
        component(world, name, &arguments)
            .run()?
            .expect_code(code)?;
    }
    for (name, how, said) in [
        ("ends", "abort", "unreachable"),
        // The stack of C is in its memory, below everything else.
        ("ends", "stack", "out of bounds memory access"),
        ("rust_questions", "panic", "as asked"),
    ] {
        component(world, name, &[how])
            .run()?
            .expect_code(134)?
            .expect_stderr(&[said, &format!("/component/{name}.wasm trapped")])?;
    }
    Ok(())
}

pub(super) fn memory_limit_is_a_failed_allocation(world: &World) -> Outcome {
    component(world, "ends", &["memory"])
        .options(&["--memory-limit", &(64 * MIB).to_string()])
        .run()?
        .expect_code(1)?
        .expect_stdout("refused: ENOMEM after more than 8 MiB\n")?;
    Ok(())
}

pub(super) fn term_ends_a_component_at_once(world: &World) -> Outcome {
    for (signal, code) in [("SIGTERM", 143), ("SIGKILL", 137)] {
        let idle = component(world, "ends", &["idle"]);
        idle.detach()?;
        idle.wait_for_output("ready\n")?;
        idle.end_by(signal, code)?;
    }
    Ok(())
}

pub(super) fn input_is_read_to_its_end(world: &World) -> Outcome {
    component(world, "rust_questions", &["lines"])
        .run_with_stdin(b"one\ntwo\n")?
        .expect_code(0)?
        .expect_stdout("1: one\n2: two\n")?;
    Ok(())
}

/// The guest asks for input again and again, and never waits.
pub(super) fn input_reaches_a_component_that_never_waits(world: &World) -> Outcome {
    let container = component(world, "ends", &["spin"]);
    let mut running = container.run_beside_on_a_terminal()?;
    let mut seen = 0;
    running.wait_for_stdout("ready", &mut seen)?;
    running.write(b"some input\n\x04")?;
    running.wait_for_stdout("read: 11 bytes", &mut seen)?;
    running.finish()?.expect_code(0)?;
    Ok(())
}

pub(super) fn interfaces_that_are_not_offered_are_listed(world: &World) -> Outcome {
    world
        .container(COMPONENT_IMPORTS)
        .run()?
        .expect_failure()?
        .expect_stderr(&[
            "/bin/guest.wasm",
            "wasi:http/types@0.2.4 (interface)",
            "wasi:cli/environment@0.2.99 (a newer version)",
            "wasi:clocks/monotonic-clock@0.3.0 (another WASI)",
        ])?;
    Ok(())
}

pub(super) fn one_poll_loop_serves_a_thousand_connections(world: &World) -> Outcome {
    let network = LoopbackNetwork::new(world)?;
    let places = ["tcp:127.0.0.1:7000", "udp:127.0.0.1:7000"];
    // A component has no handler of signals.
    for (server, client, code) in [
        (component(world, "echo", &places), native as Way, 143),
        (native(world, "echo", &places), component, 0),
        (component(world, "echo", &places), component, 143),
    ] {
        let server = granted(network.join(server), "tcp:7000, udp:7000", "");
        server.detach()?;
        server.wait_for_output("ready")?;
        for (kind, count) in [("tcp", "1000"), ("udp", "20")] {
            let talk = client(world, "talk", &[kind, "127.0.0.1", "7000", count]);
            granted(
                network.join(talk),
                "",
                "tcp:127.0.0.1:7000, udp:127.0.0.1:7000",
            )
            .run()?
            .expect_code(0)?
            .expect_stdout(&format!("heard: {count} of {count}\n"))?;
        }
        server.end_by("SIGTERM", code)?;
    }
    Ok(())
}

/// What the server `answers` sends for each byte.
const ANSWER: usize = 60 * 1024;

/// A client of `answers`, whose kernel keeps little of what is sent to it.
fn small_client() -> Outcome<TcpStream> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    set_socket_recv_buffer_size(&socket, 4096)?;
    connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7000))?;
    let client = TcpStream::from(socket);
    client.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(client)
}

fn read_answer(client: &mut TcpStream) -> Outcome {
    client
        .read_exact(&mut [0; ANSWER])
        .map_err(|error| format!("an answer does not come: {error}").into())
}

/// The server has sent all, as far as it knows.
pub(super) fn answer_arrives_while_its_server_waits_for_the_next_question(
    world: &World,
) -> Outcome {
    let network = LoopbackNetwork::new(world)?;
    for arguments in [&["7000"][..], &["7000", "spin"]] {
        let server = component(world, "answers", arguments);
        let server = granted(network.join(server), "tcp:7000", "");
        server.detach()?;
        server.wait_for_output("ready")?;
        network.inside(|| {
            let mut client = small_client()?;
            for _ in 0..5 {
                client.write_all(b"?")?;
                // The server waits again by then.
                std::thread::sleep(Duration::from_millis(200));
                read_answer(&mut client)?;
            }
            Ok(())
        })?;
        server.end_by("SIGTERM", 143)?;
    }
    Ok(())
}

/// Each of them would have 60 KiB kept for it.
pub(super) fn clients_that_do_not_read_neither_fill_memory_nor_keep_others_waiting(
    world: &World,
) -> Outcome {
    let network = LoopbackNetwork::new(world)?;
    let server = component(world, "answers", &["7000"]);
    let server = granted(network.join(server), "tcp:7000", "")
        .options(&["--memory-limit", &(64 * MIB).to_string()]);
    server.detach()?;
    server.wait_for_output("ready")?;
    network.inside(|| {
        let mut stalled = Vec::new();
        for _ in 0..900 {
            let mut client = small_client()?;
            client.write_all(b"?")?;
            stalled.push(client);
        }
        for _ in 0..3 {
            let mut client = small_client()?;
            client.write_all(b"?")?;
            read_answer(&mut client)?;
        }
        // They have only been slow.
        for client in &mut stalled {
            read_answer(client)?;
        }
        Ok(())
    })?;
    server.end_by("SIGTERM", 143)
}

pub(super) fn a_client_finds_a_server_by_name(world: &World) -> Outcome {
    let network = LoopbackNetwork::new(world)?;
    let server = component(world, "http", &[&format!("tcp:{WEB}:8080")]);
    let server = granted(network.join(server), "tcp:8080", "");
    server.detach()?;
    server.wait_for_output("ready")?;
    let fetch = component(world, "fetch", &["web", "8080", "/"]);
    granted(network.join(fetch), "", "tcp:web:8080")
        .run()?
        .expect_code(0)?
        .expect_stdout("read: HTTP/1.1 200 OK\n")?
        .expect_stdout("read: hello, world\n")?;
    server.end_by("SIGTERM", 143)
}

pub(super) fn what_is_not_granted_is_refused_and_said(world: &World) -> Outcome {
    let network = LoopbackNetwork::new(world)?;
    for (kind, elsewhere) in [("tcp", "tcp:127.0.0.1:7009"), ("udp", "udp:127.0.0.1:7009")] {
        let talk = component(world, "talk", &[kind, "127.0.0.1", "7001", "1"]);
        // Another address is granted.
        granted(network.join(talk), "", elsewhere)
            .run()?
            .expect_code(1)?
            .expect_stdout("EACCES\n")?
            .expect_stderr(&[&format!("{kind}:127.0.0.1:7001"), "wasm-interp.io/connect"])?;
    }
    let http = component(world, "http", &["tcp:127.0.0.1:7001"]);
    granted(network.join(http), "tcp:7009", "")
        .run()?
        .expect_code(1)?
        .expect_stdout("EACCES\n")?
        .expect_stderr(&["tcp:127.0.0.1:7001", "wasm-interp.io/listen"])?;
    // Nothing is granted: the refusal comes with the socket.
    network
        .join(component(world, "talk", &["tcp", "127.0.0.1", "7001", "1"]))
        .run()?
        .expect_code(1)?
        .expect_stdout("EACCES\n")?
        .expect_stderr(&["wasm-interp.io/connect"])?;
    Ok(())
}

pub(super) fn hostile_components_are_refused_and_others_go_on(world: &World) -> Outcome {
    for (how, code, said) in [
        // For files, WASI 0.2 has no error of its own for this.
        ("files", 1, "open: ENOMEM"),
        ("sockets", 1, "socket: EMFILE"),
        ("pollables", 134, "no free keys"),
        ("streams", 134, "no free keys"),
    ] {
        beside_a_neighbour(world, || {
            let attack = component(world, "hostile", &[how]);
            let finished = granted(attack, "", "tcp:127.0.0.1:7001")
                .options(&["--memory-limit", &(64 * MIB).to_string()])
                .run()?
                .expect_code(code)?;
            let all = format!("{}{}", finished.stdout, finished.stderr);
            if all.contains(said) {
                Ok(())
            } else {
                Err(format!("expected {said:?}: {finished}").into())
            }
        })?;
    }
    Ok(())
}

pub(super) fn no_path_of_a_component_leads_out_of_the_container(world: &World) -> Outcome {
    let outside = world.folder("outside")?;
    let secret = outside.join("secret");
    std::fs::write(&secret, "the host's")?;
    beside_a_neighbour(world, || {
        component(
            world,
            "hostile",
            &["outside", &secret.display().to_string()],
        )
        .run()?
        .expect_code(0)?;
        Ok(())
    })
}
