//! The C and Rust programs of `tests/guests`, as guests of this crate alone: each prints the same as the
//! native program of the same source, in a tree like its own. `tests/containerd` runs them in containers
//! too, and alone those that measure their own process.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read as _, Seek as _},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex, OnceLock, mpsc},
};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use wasm_interp_network::{Network, NetworkRules, parse_connect, parse_listen, parse_mode};
use wasm_interp_test_support::{executables, guest_programs, lines::assert_same};
use wasm_interp_wasi::{
    Guest, GuestSettings, LateMounts, ModesBy, abi::types::Fd, add_to_linker,
    descriptors::Description, paths,
};
use wasmtime::{Engine, Linker, Module, Store};

use crate::{
    sockets::own_network,
    support::{enter, in_tree, run, without_guests},
};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
                      app:x:1000:1000:An app,,,:/home/app:/bin/false\n\
                      # no user\nbroken:x:many:1:::\nlast:*:4294967294:1::/:";
const GROUP: &str = "root:x:0:\nstaff:x:50:app,root\napp:x:1000:app\n";
const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n10.99.0.1 web.test web # the tests' own\n\
                     fd00:99::1 web.test\n";
const SERVICES: &str = "# name port/protocol aliases\ntest-service\t7070/tcp an-alias\n\
                        test-service\t7071/udp\nhttp-alt 8080/tcp web-cache # more\n";

/// Fills the tree with what the programs look for.
fn furnish(tree: &Path, programs: &Path) {
    for folder in ["data", "tmp", "start", "etc", "proc", "usr", "usr/share"] {
        fs::create_dir(tree.join(folder)).expect(folder);
    }
    fs::write(tree.join("start/here-first"), "").expect("a file");
    fs::write(tree.join("etc/passwd"), PASSWD).expect("passwd");
    for (name, text) in [
        ("group", GROUP),
        ("hosts", HOSTS),
        ("services", SERVICES),
        ("protocols", "tcp 6 TCP\n"),
    ] {
        fs::write(tree.join("etc").join(name), text).expect(name);
    }
    let copied = run(Command::new("cp")
        .arg("-r")
        .arg(programs.join("zoneinfo"))
        .arg(tree.join("usr/share")));
    assert!(copied.status.success());
}

/// What a native program prints whose root directory is `tree`.
fn native(tree: &Path, program: &Path, directory: &str, arguments: &[&str]) -> String {
    // Static, so it is all that has to be there.
    let alone = without_guests();
    executables::copy(program, &tree.join("program"));
    drop(alone);
    // Where glibc looks for a file that it has open. A guest has none.
    let proc = tree.join("proc");
    mount("proc", &proc, "proc", MountFlags::empty(), None).expect("proc");
    let ended = run(Command::new("unshare")
        .arg(format!("--root={}", tree.display()))
        .arg(format!("--wd={directory}"))
        .arg("/program")
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped()));
    assert!(ended.status.success(), "{ended:?}");
    unmount(&proc, UnmountFlags::DETACH).expect("unmount");
    fs::remove_file(tree.join("program")).expect("remove");
    String::from_utf8(ended.stdout).expect("text")
}

/// A program, compiled for guests: once, whichever test is first.
fn module(programs: &Path, name: &'static str) -> Module {
    static MODULES: Mutex<BTreeMap<&str, Arc<OnceLock<Module>>>> = Mutex::new(BTreeMap::new());
    let module = Arc::clone(MODULES.lock().expect("no panic").entry(name).or_default());
    let compile = || {
        let wasm = fs::read(programs.join(format!("{name}.wasm"))).expect(name);
        Module::new(&Engine::default(), wasm).expect("compiled")
    };
    module.get_or_init(compile).clone()
}

/// What a guest prints whose root directory is that of this thread.
fn guest(module: &Module, directory: &str, arguments: &[&str], network: Network) -> String {
    let words = ["program"].into_iter().chain(arguments.iter().copied());
    let settings = GuestSettings {
        arguments: words.map(|word| word.as_bytes().to_vec()).collect(),
        environment: vec![(b"PWD".to_vec(), directory.as_bytes().to_vec())],
        root: paths::root().expect("the root directory"),
        late_mounts: LateMounts::Impossible,
        modes_by: ModesBy::of_kernel(),
        network,
        refusals: None,
    };
    let mut guest = Guest::new(settings).expect("a guest");
    let mut output = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open("/output")
        .expect("a file");
    fs::remove_file("/output").expect("remove");
    let stdout = Description::new(output.try_clone().expect("a copy").into());
    guest
        .descriptors
        .replace(Fd::from(1), Arc::new(stdout))
        .expect("standard output");
    let mut linker = Linker::new(module.engine());
    add_to_linker(&mut linker, |guest| guest).expect("linked");
    let mut store = Store::new(module.engine(), guest);
    let instance = linker.instantiate(&mut store, module).expect("started");
    let start = instance.get_typed_func::<(), ()>(&mut store, "_start");
    start.expect("_start").call(&mut store, ()).expect("an end");
    let mut text = String::new();
    output.rewind().expect("rewind");
    output.read_to_string(&mut text).expect("text");
    text
}

/// Runs a program natively and as a guest, each in a tree of its own, and compares what they print.
fn same(name: &'static str, directory: &'static str, arguments: &'static [&'static str]) {
    same_with(&Network::none(), name, directory, arguments, |text| text);
}

/// [`same`] of a program that is granted `network`, in a network with a loopback alone. What `compared` makes of both
/// texts is compared.
fn same_with(
    network: &Network,
    name: &'static str,
    directory: &'static str,
    arguments: &'static [&'static str],
    compared: impl Fn(String) -> String,
) {
    let programs = guest_programs();
    let (sender, printed) = mpsc::channel();
    for native_run in [true, false] {
        let (sender, programs, network) = (sender.clone(), programs.clone(), network.clone());
        in_tree(move |tree| {
            own_network(&[]);
            furnish(tree, &programs);
            let text = if native_run {
                native(tree, &programs.join(name), directory, arguments)
            } else {
                let module = module(&programs, name);
                enter(tree);
                guest(&module, directory, arguments, network)
            };
            sender.send(text).expect("the test waits");
        });
    }
    let [native, guest] = [(); 2].map(|()| compared(printed.try_recv().expect("two runs")));
    assert_same(name, &guest, &native);
}

#[test]
fn attributes_of_files_are_those_of_a_native_program() {
    same("attributes", "/", &["/data"]);
}

#[test]
fn paths_mean_what_they_mean_to_a_native_program() {
    same("paths", "/start", &["/data"]);
}

#[test]
fn questions_of_the_wasi_suite_have_the_answers_of_a_native_program() {
    same("questions", "/", &["/data", "one", "two"]);
}

#[test]
fn questions_of_rust_have_the_answers_of_a_native_program() {
    const FILES: &[&str] = &["files", "/data", "one", "two"];
    same("rust_questions", "/", FILES);
    // The plain C library has no modes.
    same_with(
        &Network::none(),
        "rust_questions_plain",
        "/",
        FILES,
        |text| text.replace("read-only: true", "read-only: false"),
    );
}

#[test]
fn rust_program_starts_in_its_working_directory() {
    same("rust_questions", "/start", &["directory", "/data"]);
}

const RUST_WITH_THE_SDK: [&str; 15] = [
    "/start",
    "ENOTSUP",
    "Unsupported",
    "Unsupported",
    "Unsupported",
    "Unsupported",
    "ok",
    "Unsupported",
    "/start/file",
    "Unsupported",
    "true",
    "ENOENT",
    "ENOENT",
    "ENOENT",
    "ok",
];
const RUST_ALONE: [&str; 15] = [
    "/",
    "ENOTSUP",
    "Unsupported",
    "Unsupported",
    "Unsupported",
    "Unsupported",
    "Function not implemented (os error 52)",
    "Unsupported",
    "/file",
    "Unsupported",
    "true",
    "ENOENT",
    "ENOENT",
    "ENOENT",
    "ok",
];

/// As `docs/use/rust-programs.md` has them.
#[test]
fn limits_of_rust_are_those_of_the_documentation() {
    for (name, expected) in [
        ("rust_questions", RUST_WITH_THE_SDK),
        ("rust_questions_plain", RUST_ALONE),
    ] {
        let programs = guest_programs();
        let module = module(&programs, name);
        let (sender, printed) = mpsc::channel();
        in_tree(move |tree| {
            furnish(tree, &programs);
            enter(tree);
            let text = guest(&module, "/start", &["limits"], Network::none());
            sender.send(text).expect("the test waits");
        });
        let printed = printed.recv().expect("a text");
        let answers: Vec<&str> = printed
            .lines()
            .filter_map(|line| line.rsplit_once(": ").map(|(_, answer)| answer))
            .collect();
        assert_eq!(answers, expected, "{name}: {printed}");
    }
}

#[test]
fn locks_are_those_of_a_native_program() {
    same("locks", "/", &[]);
}

#[test]
fn local_time_is_that_of_a_native_program() {
    const ZONES: &[&str] = &[
        "JST-9",
        "<+0330>-3:30",
        "CET-1CEST,M3.5.0,M10.5.0/3",
        "AEST-10AEDT,M10.1.0,M4.1.0/3",
        "XXX4YYY,J60/0,300/25",
        "Africa/Casablanca",
        "America/New_York",
        "America/Sao_Paulo",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",
        ":Europe/Berlin",
        "Europe/Dublin",
        "-",
    ];
    same("zones", "/", ZONES);
}

#[test]
fn users_and_groups_are_those_of_a_native_program() {
    // The numbers of two processes.
    same_with(&Network::none(), "identity", "/", &[], |text| {
        let lines = text.split_inclusive('\n');
        lines.filter(|line| !line.starts_with("getp")).collect()
    });
}

/// Unix sockets in `/data`, and what `mode` says of the rest.
fn sockets_in_data(mode: &str) -> Network {
    let rules = NetworkRules {
        mode: parse_mode(mode).expect(mode),
        listen: parse_listen("unix:/data/*").expect("a rule"),
        connect: parse_connect("unix:/data/*").expect("a rule"),
    };
    Network::new(rules.clone(), rules).expect("within itself")
}

#[test]
fn descriptors_pipes_and_pairs_are_those_of_a_native_program() {
    same_with(
        &sockets_in_data("none"),
        "descriptors",
        "/",
        &["/data"],
        |text| text,
    );
}

#[test]
fn sockets_are_those_of_a_native_program() {
    same_with(
        &sockets_in_data("pod"),
        "sockets",
        "/",
        &["/data"],
        |text| text,
    );
}

#[test]
fn names_and_addresses_are_those_of_a_native_program() {
    same("names", "/", &["localhost", "web.test"]);
}
