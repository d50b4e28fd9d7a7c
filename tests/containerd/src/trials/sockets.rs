//! C programs that talk to each other: servers and clients in containers that share a network namespace of the
//! trial's own, whose only interface is the loopback. Each runs under our runtime and under runc.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns};

use super::c_programs::{guest, native, same};
use crate::Outcome;
use crate::command::{Running, wait_for};
use crate::guests::C_PROGRAMS;
use crate::world::{CtrContainer, World};

/// An address that is no loopback's, of the loopback: as in `/etc/hosts` of the image, `web.test`.
pub(super) const WEB: &str = "10.99.0.1";

/// A network namespace with a loopback, held by a process until it is dropped. What is sent to 10.255.0.0/16 is
/// never answered.
pub(super) struct LoopbackNetwork {
    holder: Option<Running>,
    pid: u32,
}

impl LoopbackNetwork {
    pub(super) fn new(world: &World) -> Outcome<Self> {
        let busybox = world.busybox().display();
        // Until the kernel has looked for duplicates (`IFA_F_TENTATIVE`), the address cannot be used.
        let settled =
            format!("while {busybox} grep -q '^fd00.* c0 ' /proc/net/if_inet6; do :; done");
        let script = format!(
            "{busybox} ip link set lo up && {busybox} ip addr add {WEB}/32 dev lo && \
             {busybox} ip addr add fd00:99::1/128 dev lo && {settled} && \
             {busybox} ip route add 10.255.0.0/16 dev lo && echo $$ && \
             exec {busybox} sleep 100000"
        );
        let mut command = Command::new(world.busybox());
        command
            .args(["unshare", "-n", "--"])
            .arg(world.busybox())
            .args(["sh", "-c", &script])
            // So that it is known as the run's, should it be left behind.
            .env("WASM_INTERP_TEST_RUN", world.name());
        let holder = Running::start(command, None)?;
        let pid = wait_for("a network namespace", || {
            Ok(holder.stdout()?.trim().parse().ok())
        })?;
        Ok(Self {
            holder: Some(holder),
            pid,
        })
    }

    pub(super) fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.pid)
    }

    /// As `--with-ns` takes it.
    fn namespace(&self) -> String {
        format!("network:{}", self.path())
    }

    pub(super) fn join<'world>(&self, container: CtrContainer<'world>) -> CtrContainer<'world> {
        container.options(&["--with-ns", &self.namespace()])
    }

    /// Runs `act` in a thread in the namespace.
    pub(super) fn inside<T: Send>(&self, act: impl FnOnce() -> Outcome<T> + Send) -> Outcome<T> {
        let network = File::open(self.path())?;
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&network, CloneFlags::CLONE_NEWNET)?;
                act()
            });
            inside.join().map_err(|_| "a thread panicked")?
        })
    }

    /// `program` of this machine in the namespace.
    pub(super) fn command(&self, world: &World, program: &Path) -> Command {
        let mut command = Command::new(world.busybox());
        command.args(["nsenter", &format!("--net={}", self.path()), "--"]);
        command.arg(program);
        command
    }
}

impl Drop for LoopbackNetwork {
    fn drop(&mut self) {
        // What is left is found at the end of the run.
        self.holder.take().map(Running::end);
    }
}

pub(super) fn granted<'world>(
    container: CtrContainer<'world>,
    listen: &str,
    connect: &str,
) -> CtrContainer<'world> {
    let rules = [("listen", listen), ("connect", connect)];
    rules
        .iter()
        .filter(|(_, rule)| !rule.is_empty())
        .fold(container, |container, (key, rule)| {
            container.options(&["--annotation", &format!("wasm-interp.io/{key}={rule}")])
        })
}

/// A way to run a program.
pub(super) type Way = for<'world> fn(&'world World, &str, &[&str]) -> CtrContainer<'world>;
const WAYS: [Way; 2] = [guest, native];

pub(super) fn descriptors_are_shared_as_by_the_kernel(world: &World) -> Outcome {
    same(world, "descriptors", &["/data"], &[])
}

pub(super) fn sockets_are_the_kernels(world: &World) -> Outcome {
    let network = LoopbackNetwork::new(world)?;
    let options = [
        "--with-ns",
        &network.namespace(),
        "--annotation",
        "wasm-interp.io/network=pod",
        "--annotation",
        "wasm-interp.io/listen=unix:/data/*",
        "--annotation",
        "wasm-interp.io/connect=unix:/data/*",
    ];
    same(world, "sockets", &["/data"], &options)
}

pub(super) fn names_are_looked_up_in_the_containers_files(world: &World) -> Outcome {
    let network = LoopbackNetwork::new(world)?;
    same(
        world,
        "names",
        &["localhost", "web.test"],
        &["--with-ns", &network.namespace()],
    )
}

/// Where [`echo`] listens.
const PLACES: [&str; 3] = [
    "tcp:127.0.0.1:7000",
    "udp:127.0.0.1:7000",
    "unix:/data/echo.sock",
];

/// A server that is running, and a client's run to its end.
fn echo(world: &World, network: &LoopbackNetwork, server: Way, client: Way) -> Outcome {
    let folder = world.folder("data")?;
    let server = granted(
        network.join(server(world, "echo", &PLACES)),
        "tcp:7000, udp:7000, unix:/data/echo.sock",
        "",
    )
    .mount(&folder, "/data", "rbind:rw");
    server.detach()?;
    server.wait_for_output("ready")?;
    for (words, count) in [
        (&["tcp", "127.0.0.1", "7000"][..], 1000),
        (&["udp", "127.0.0.1", "7000"], 20),
        (&["unix", "/data/echo.sock"], 50),
    ] {
        let count_word = count.to_string();
        let arguments = [words, &[&count_word]].concat();
        granted(
            network.join(client(world, "talk", &arguments)),
            "",
            "tcp:127.0.0.1:7000, udp:127.0.0.1:7000, unix:/data/*",
        )
        .mount(&folder, "/data", "rbind:rw")
        .run()?
        .expect_code(0)?
        .expect_stdout(&format!("heard: {count} of {count}\n"))?;
    }
    server.end_by("SIGTERM", 0)?;
    let output = server.output()?;
    if !output.ends_with("served: 1050 connections, 20 datagrams\n") {
        return Err(format!("the server printed:\n{output}").into());
    }
    Ok(())
}

pub(super) fn one_poll_loop_serves_a_thousand_connections_of_all_kinds(world: &World) -> Outcome {
    let network = LoopbackNetwork::new(world)?;
    echo(world, &network, native, native)?;
    echo(world, &network, guest, native)?;
    echo(world, &network, native, guest)?;
    echo(world, &network, guest, guest)
}

pub(super) fn a_client_finds_a_server_by_name(world: &World) -> Outcome {
    let network = LoopbackNetwork::new(world)?;
    let place = format!("tcp:{WEB}:8080");
    for server in WAYS {
        let server = granted(
            network.join(server(world, "http", &[&place])),
            "tcp:8080",
            "",
        );
        server.detach()?;
        server.wait_for_output("ready")?;
        let fetched = WAYS.map(|client| {
            granted(
                network.join(client(world, "fetch", &["web", "http-alt", "/"])),
                "",
                "tcp:web:8080",
            )
            .run()?
            .expect_code(0)
        });
        for finished in fetched {
            finished?
                .expect_stdout("read: HTTP/1.1 200 OK\n")?
                .expect_stdout("read: hello, world\n")?;
        }
        server.remove()?;
    }
    Ok(())
}

pub(super) fn term_ends_a_server_after_its_answers(world: &World) -> Outcome {
    let network = LoopbackNetwork::new(world)?;
    for server in WAYS {
        let server = granted(
            network.join(server(world, "http", &["tcp:127.0.0.1:8080"])),
            "tcp:8080",
            "",
        );
        server.detach()?;
        server.wait_for_output("ready")?;
        let mut client = network
            .command(world, world.busybox())
            .args(["nc", "127.0.0.1", "8080"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut input = client.stdin.take().ok_or("no standard input")?;
        let mut output = client.stdout.take().ok_or("no standard output")?;
        // A whole request and half of another arrive at once.
        input.write_all(b"GET / HTTP/1.1\r\n\r\nGET /healthz HTTP/1.1\r\n")?;
        let mut first = [0; 12];
        output.read_exact(&mut first)?;
        server.signal("SIGTERM")?;
        // It listens no more, and has not ended either.
        wait_for("the server to stop listening", || {
            let sockets = network
                .command(world, world.busybox())
                .args(["cat", "/proc/net/tcp"])
                .output()?;
            let sockets = String::from_utf8_lossy(&sockets.stdout).into_owned();
            let listens = sockets.lines().any(|line| line.contains(" 0A "));
            Ok((!listens).then_some(()))
        })?;
        input.write_all(b"\r\n")?;
        let mut rest = String::new();
        output.read_to_string(&mut rest)?;
        drop(input);
        client.wait()?;
        if !rest.ends_with("\r\n\r\nok\n") {
            return Err(format!("the last answer is {rest:?}").into());
        }
        server.wait_for_status("STOPPED")?;
        server.delete_expecting(0)?;
    }
    Ok(())
}

pub(super) fn what_is_not_granted_is_refused_and_said(world: &World) -> Outcome {
    let network = LoopbackNetwork::new(world)?;
    network
        .join(guest(world, "talk", &["tcp", "127.0.0.1", "7001", "1"]))
        .run()?
        .expect_code(1)?
        .expect_stdout("connect: EACCES\n")?
        .expect_stderr(&["tcp:127.0.0.1:7001", "wasm-interp.io/connect"])?;
    network
        .join(guest(world, "http", &["tcp:127.0.0.1:7001"]))
        .run()?
        .expect_code(1)?
        .expect_stdout("EACCES\n")?
        .expect_stderr(&["tcp:127.0.0.1:7001", "wasm-interp.io/listen"])?;
    Ok(())
}

/// Of the init process and of a further one, with their names.
pub(super) fn operator_finds_refusals_in_containerds_log(world: &World) -> Outcome {
    let network = LoopbackNetwork::new(world)?;
    // The image of C programs has no other guest that waits.
    let server = granted(
        network.join(guest(world, "http", &["tcp:127.0.0.1:8080"])),
        "tcp:8080",
        "",
    );
    server.detach()?;
    server.wait_for_output("ready")?;
    let talk = ["/wasm/talk.wasm", "tcp", "127.0.0.1", "7003", "1"];
    server
        .task(&["exec", "--exec-id", "refused"], &talk)?
        .expect_code(1)?
        .expect_stderr(&["tcp:127.0.0.1:7003"])?;
    let alone = network.join(guest(world, "talk", &["tcp", "127.0.0.1", "7002", "1"]));
    alone.detach()?;
    alone.wait_for_status("STOPPED")?;
    for (container, exec, port) in [(&alone, "", 7002), (&server, " exec_id=\"refused\"", 7003)] {
        let id = &container.id;
        let words = [
            "level=warning".to_owned(),
            format!("id=\"{id}\"{exec} namespace="),
            format!("refusal=\"the guest may not connect to tcp:127.0.0.1:{port}; add"),
            "wasm-interp.io/connect".to_owned(),
        ];
        wait_for("the refusal in containerd's log", || {
            let log = world.daemon().log();
            let found = log
                .lines()
                .any(|line| words.iter().all(|word| line.contains(word)));
            Ok(found.then_some(()))
        })?;
    }
    alone.remove()?;
    server.remove()
}

pub(super) fn the_command_line_grants_sockets(world: &World) -> Outcome {
    let network = LoopbackNetwork::new(world)?;
    world.with_files(C_PROGRAMS, |rootfs| {
        let program = world.wasm_interp_command(&[]);
        let run = |rules: &[&str], words: &[&str]| {
            let mut command = network.command(world, Path::new(program.get_program()));
            command.arg("run").args(rules).arg(rootfs).arg("--");
            command.args(words);
            for (name, value) in program.get_envs() {
                value.map(|value| command.env(name, value));
            }
            Running::start(command, None)
        };
        let server = run(
            &["--listen", "tcp:8081"],
            &["/wasm/http.wasm", &format!("tcp:{WEB}:8081")],
        )?;
        let asked = (|| -> Outcome {
            wait_for("the server to be ready", || {
                Ok(server.stdout()?.contains("ready").then_some(()))
            })?;
            run(
                &["--connect", &format!("tcp:{WEB}:8081")],
                &["/wasm/fetch.wasm", WEB, "8081", "/healthz"],
            )?
            .finish()?
            .expect_code(0)?
            .expect_stdout("read: ok\n")?;
            run(&[], &["/wasm/fetch.wasm", WEB, "8081", "/healthz"])?
                .finish()?
                .expect_code(1)?
                .expect_stdout("connect: EACCES\n")?
                .expect_stderr(&["tcp:10.99.0.1:8081", "wasm-interp.io/connect"])?;
            Ok(())
        })();
        server.signal(nix::sys::signal::Signal::SIGTERM)?;
        let ended = server.finish()?;
        asked?;
        ended.expect_code(0)?.expect_stdout("served: 1")?;

        // One loop over every kind of socket, and a Unix socket on a folder that two containers share.
        let folder = world.folder("data")?;
        let mount = format!("src={},dst=/data", folder.display());
        let listen = "tcp:7000, udp:7000, unix:/data/echo.sock";
        let server = run(
            &["--mount", &mount, "--listen", listen],
            &[&["/wasm/echo.wasm"], &PLACES[..]].concat(),
        )?;
        let asked = (|| -> Outcome {
            wait_for("the server to be ready", || {
                Ok(server.stdout()?.contains("ready").then_some(()))
            })?;
            let connect = "tcp:127.0.0.1:7000, udp:127.0.0.1:7000, unix:/data/*";
            for (words, count) in [
                (&["tcp", "127.0.0.1", "7000"][..], "100"),
                (&["udp", "127.0.0.1", "7000"], "20"),
                (&["unix", "/data/echo.sock"], "50"),
            ] {
                run(
                    &["--mount", &mount, "--connect", connect],
                    &[&["/wasm/talk.wasm"], words, &[count]].concat(),
                )?
                .finish()?
                .expect_code(0)?
                .expect_stdout(&format!("heard: {count} of {count}\n"))?;
            }
            Ok(())
        })();
        server.signal(nix::sys::signal::Signal::SIGTERM)?;
        let ended = server.finish()?;
        asked?;
        ended
            .expect_code(0)?
            .expect_stdout("served: 150 connections, 20 datagrams\n")?;
        Ok(())
    })
}
