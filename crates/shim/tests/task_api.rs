//! The real binary over ttrpc, without containerd: start forms, verbs, words, events, clean-up.

mod harness;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use containerd_shim_protos::api;
use containerd_shim_protos::bootstrap_api::BootstrapResult;
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::empty::Empty;
use containerd_shim_protos::ttrpc::Code;

use harness::{
    Api, Containerd, Form, Tight, V2, V3, World, ended, eventually, fifo, read_to_end, running,
};

const TERM: u32 = 15;
const KILL: u32 = 9;

/// Waits for TERM and says so.
const IDLE: &str = "trap 'exit 143' TERM; while :; do sleep 0.02; done";

fn address_of(answer: &[u8], form: Form) -> String {
    match form {
        Form::Address => String::from_utf8(answer.to_vec()).expect("utf-8"),
        Form::Json => {
            let answer: serde_json::Value = serde_json::from_slice(answer).expect("json");
            assert_eq!(answer["version"], 2);
            assert_eq!(answer["protocol"], "ttrpc");
            answer["address"].as_str().expect("address").to_owned()
        }
        Form::Bootstrap => {
            let answer = BootstrapResult::parse_from_bytes(answer).expect("protobuf");
            assert_eq!((answer.version, answer.protocol.as_str()), (3, "ttrpc"));
            answer.address
        }
    }
}

#[tokio::test]
async fn every_form_of_start_leads_to_both_versions_of_the_api() {
    for form in [Form::Address, Form::Json, Form::Bootstrap] {
        let world = World::new();
        let bundle = world.bundle("a", None, IDLE);
        let address = address_of(&world.start("a", form), form);
        assert_eq!(
            fs::read_to_string(bundle.join("address")).expect("containerd 1.x reads it"),
            address
        );
        let pid = Api::connect(&address, V2).await.connect_pids("a").await;
        let v3 = Api::connect(&address, V3).await;
        assert_eq!(pid, v3.connect_pids("a").await);
        assert_eq!(pid.task_pid, 0);
        v3.shutdown("a").await;
        ended(&address, pid.shim_pid).await;
    }
}

#[tokio::test]
async fn a_life_under_either_version() {
    for service in [V2, V3] {
        let world = World::new();
        let containerd = Containerd::listen(&world).await;
        let bundle = world.bundle("a", None, IDLE);
        let address = world.address("a");
        let api = Api::connect(&address, service).await;

        let pid = api.create(&bundle, "a").await.expect("create");
        let state = api.state("a").await.expect("state");
        assert_eq!(state.status.enum_value(), Ok(api::Status::CREATED));
        assert_eq!((state.pid, state.id.as_str()), (pid, "a"));
        assert_eq!(
            fs::read_to_string(bundle.join("init.pid")).expect("init.pid"),
            pid.to_string()
        );

        assert_eq!(api.start("a").await.expect("start"), pid);
        let state = api.state("a").await.expect("state");
        assert_eq!(state.status.enum_value(), Ok(api::Status::RUNNING));
        assert_eq!(api.connect_pids("a").await.task_pid, pid);

        let waiter = api.clone();
        let wait = tokio::spawn(async move { waiter.wait("a").await });
        // Nothing to see of a signal 0 but that the process is there.
        api.kill("a", 0).await.expect("signal 0");
        eventually("the guest's trap is set", || catches(pid, TERM)).await;
        api.kill("a", TERM).await.expect("kill");
        assert_eq!(wait.await.expect("join"), Ok(143));

        let state = api.state("a").await.expect("state");
        assert_eq!(state.status.enum_value(), Ok(api::Status::STOPPED));
        assert_eq!(state.exit_status, 143);
        assert_eq!(api.wait("a").await, Ok(143));
        let deleted = api.delete("a").await.expect("delete");
        assert_eq!((deleted.pid, deleted.exit_status), (pid, 143));
        assert!(!bundle.join("runner").exists());
        assert_eq!(world.calls("a"), ["create", "start", "delete"]);
        containerd
            .expect(&["create", "start", "exit", "delete"])
            .await;

        let shim = api.connect_pids("a").await.shim_pid;
        api.shutdown("a").await;
        ended(&address, shim).await;
        containerd.stop().await;
    }
}

/// The fake runner answers `start` a tenth of a second after the guest has ended.
#[tokio::test]
async fn a_guest_that_ends_before_the_answer_to_start() {
    let world = World::new();
    let containerd = Containerd::listen(&world).await;
    let bundle = world.bundle("a", None, "exit 7");
    let address = world.address("a");
    let api = Api::connect(&address, V3).await;
    api.create(&bundle, "a").await.expect("create");
    api.start("a").await.expect("start");
    assert_eq!(api.wait("a").await, Ok(7));
    api.delete("a").await.expect("delete");
    containerd
        .expect(&["create", "start", "exit", "delete"])
        .await;
    api.shutdown("a").await;
    containerd.stop().await;
}

#[tokio::test]
async fn a_task_that_was_never_started_is_killed_by_its_deletion() {
    let world = World::new();
    let containerd = Containerd::listen(&world).await;
    let bundle = world.bundle("a", None, IDLE);
    let api = Api::connect(&world.address("a"), V3).await;
    let pid = api.create(&bundle, "a").await.expect("create");
    let deleted = api.delete("a").await.expect("delete");
    assert_eq!(deleted.exit_status, 137);
    assert!(!running(pid));
    containerd.expect(&["create", "exit", "delete"]).await;
    // The id is free again.
    let pid = api.create(&bundle, "a").await.expect("create again");
    api.kill("a", KILL).await.expect("kill before start");
    assert_eq!(api.wait("a").await, Ok(137));
    assert!(!running(pid));
    api.delete("a").await.expect("delete");
    api.shutdown("a").await;
    containerd.stop().await;
}

#[tokio::test]
async fn refusals_have_runcs_codes() {
    let world = World::new();
    let bundle = world.bundle("a", None, IDLE);
    let api = Api::connect(&world.address("a"), V3).await;

    let unknown = (
        Code::NOT_FOUND,
        "container not created: this shim has no task \"a\": not found".to_owned(),
    );
    assert_eq!(api.start("a").await, Err(unknown.clone()));
    assert_eq!(api.state("a").await.err(), Some(unknown.clone()));
    assert_eq!(api.kill("a", TERM).await.err(), Some(unknown.clone()));
    assert_eq!(api.wait("a").await, Err(unknown.clone()));
    assert_eq!(api.delete("a").await.err(), Some(unknown));

    api.create(&bundle, "a").await.expect("create");
    let (code, _) = api.create(&bundle, "a").await.expect_err("twice");
    assert_eq!(code, Code::ALREADY_EXISTS);
    api.start("a").await.expect("start");
    assert_eq!(
        api.start("a").await,
        Err((
            Code::FAILED_PRECONDITION,
            "cannot start a running process: failed precondition".to_owned()
        ))
    );
    assert_eq!(
        api.delete("a").await.err(),
        Some((
            Code::FAILED_PRECONDITION,
            "cannot delete a running process: failed precondition".to_owned()
        ))
    );
    let (code, words) = api.kill("a", 999).await.expect_err("no such signal");
    assert_eq!(code, Code::INVALID_ARGUMENT);
    assert!(words.contains("signal 999"), "{words}");
    let exec = api::StateRequest {
        id: "a".to_owned(),
        exec_id: "e".to_owned(),
        ..Default::default()
    };
    let (code, words) = api
        .call::<api::StateResponse>("State", &exec)
        .await
        .expect_err("no exec processes");
    assert_eq!(code, Code::NOT_FOUND);
    assert!(words.starts_with("process does not exist"), "{words}");

    api.kill("a", KILL).await.expect("kill");
    assert_eq!(api.wait("a").await, Ok(137));
    assert_eq!(
        api.kill("a", TERM).await.err(),
        Some((
            Code::NOT_FOUND,
            "process already finished: not found".to_owned()
        ))
    );
    assert_eq!(
        api.start("a").await,
        Err((
            Code::FAILED_PRECONDITION,
            "cannot start a stopped process: failed precondition".to_owned()
        ))
    );
    api.delete("a").await.expect("delete");
    api.shutdown("a").await;
}

/// Never NOT_FOUND: CRI would take that for a task that has exited.
#[tokio::test]
async fn what_is_not_supported_says_so() {
    let world = World::new();
    let bundle = world.bundle("a", None, IDLE);
    let api = Api::connect(&world.address("a"), V3).await;
    for method in [
        "Exec",
        "Pause",
        "Resume",
        "Checkpoint",
        "Update",
        "ResizePty",
    ] {
        let (code, words) = api
            .call::<Empty>(method, &Empty::new())
            .await
            .expect_err(method);
        assert_eq!(code, Code::UNIMPLEMENTED, "{method}");
        assert!(
            words.contains("is not supported by io.containerd.wasm-interp.v1: "),
            "{method}: {words}"
        );
    }
    for (request, said) in [
        (
            api::CreateTaskRequest {
                terminal: true,
                ..Default::default()
            },
            "a terminal is not supported",
        ),
        (
            api::CreateTaskRequest {
                checkpoint: "/checkpoint".to_owned(),
                ..Default::default()
            },
            "create from a checkpoint is not supported",
        ),
        (
            api::CreateTaskRequest {
                stdout: "binary:///usr/bin/logger".to_owned(),
                ..Default::default()
            },
            "stdout \"binary:///usr/bin/logger\" is not supported",
        ),
    ] {
        let (code, words) = api
            .create_with(&bundle, "a", request)
            .await
            .expect_err(said);
        assert_eq!(code, Code::UNIMPLEMENTED, "{said}");
        assert!(words.starts_with(said), "{words}");
    }
    api.shutdown("a").await;
}

#[tokio::test]
async fn stdio_goes_through_containerds_fifos_and_close_io_ends_stdin() {
    let world = World::new();
    let bundle = world.bundle("a", None, "cat; echo done >&2");
    let [stdin, stdout, stderr] = ["in", "out", "err"].map(|name| {
        let path = world.path(name);
        fifo(&path);
        path
    });
    let (out, err) = (read_to_end(stdout.clone()), read_to_end(stderr.clone()));
    let api = Api::connect(&world.address("a"), V3).await;
    let request = api::CreateTaskRequest {
        stdin: stdin.display().to_string(),
        stdout: stdout.display().to_string(),
        stderr: stderr.display().to_string(),
        ..Default::default()
    };
    api.create_with(&bundle, "a", request)
        .await
        .expect("create");
    api.start("a").await.expect("start");
    // Later than the time in which an early client is looked for.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let mut client = fs::File::options()
        .write(true)
        .open(&stdin)
        .expect("open stdin");
    client.write_all(b"hello\n").expect("write");
    drop(client);
    // A client that left is no end: it may be a containerd that restarts.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let state = api.state("a").await.expect("state");
    assert_eq!(state.status.enum_value(), Ok(api::Status::RUNNING));
    let close = api::CloseIORequest {
        id: "a".to_owned(),
        stdin: true,
        ..Default::default()
    };
    let _: Empty = api.call("CloseIO", &close).await.expect("closeIO");
    assert_eq!(api.wait("a").await, Ok(0));
    api.delete("a").await.expect("delete");
    assert_eq!(out.join().expect("join"), "hello\n");
    assert_eq!(err.join().expect("join"), "done\n");
    api.shutdown("a").await;
}

/// Fills its memory until the kernel ends it.
const HUNGRY: &str = "x=$(head -c 64M /dev/zero | tr '\\0' x)";

#[tokio::test]
async fn an_out_of_memory_kill_is_told_and_noted_before_the_exit() {
    let cgroup = Tight::of_mib(16);
    let world = World::new();
    let containerd = Containerd::listen(&world).await;
    // In the shell itself, and not in a subshell.
    let bundle = world.bundle("a", None, "x=x; while :; do x=$x$x; done");
    let log = world.termination_log("a");
    fs::write(bundle.join("cgroup"), cgroup.path()).expect("write");
    let api = Api::connect(&world.address("a"), V3).await;
    api.create(&bundle, "a").await.expect("create");
    api.start("a").await.expect("start");
    assert_eq!(api.wait("a").await, Ok(137));
    containerd.expect(&["create", "start", "oom", "exit"]).await;
    let noted = fs::read_to_string(log).expect("read");
    assert!(
        noted.starts_with("wasm-interp: killed by the kernel's OOM killer"),
        "{noted}"
    );
    api.delete("a").await.expect("delete");
    api.shutdown("a").await;
    containerd.stop().await;
}

/// The event does not wait for the end of the container, and its end is its own.
#[tokio::test]
async fn each_out_of_memory_kill_is_told_while_the_container_runs() {
    let cgroup = Tight::of_mib(17);
    let world = World::new();
    let containerd = Containerd::listen(&world).await;
    let script = format!("({HUNGRY})\nread line\n({HUNGRY})\nread line\nexit 0");
    let bundle = world.bundle("a", None, &script);
    let log = world.termination_log("a");
    fs::write(bundle.join("cgroup"), cgroup.path()).expect("write");
    let stdin = world.path("in");
    fifo(&stdin);
    let api = Api::connect(&world.address("a"), V3).await;
    let request = api::CreateTaskRequest {
        stdin: stdin.display().to_string(),
        ..Default::default()
    };
    api.create_with(&bundle, "a", request)
        .await
        .expect("create");
    api.start("a").await.expect("start");
    let mut client = fs::File::options()
        .write(true)
        .open(&stdin)
        .expect("open stdin");
    for told in [3, 4] {
        eventually("the kill is told", || containerd.topics().len() >= told).await;
        let state = api.state("a").await.expect("state");
        assert_eq!(state.status.enum_value(), Ok(api::Status::RUNNING));
        client.write_all(b"go on\n").expect("write");
    }
    assert_eq!(api.wait("a").await, Ok(0));
    containerd
        .expect(&["create", "start", "oom", "oom", "exit"])
        .await;
    assert_eq!(fs::read_to_string(log).expect("read"), "");
    api.delete("a").await.expect("delete");
    api.shutdown("a").await;
    containerd.stop().await;
}

#[tokio::test]
async fn the_reason_of_a_failed_create_is_noted() {
    let world = World::new();
    let bundle = world.bundle("a", None, IDLE);
    let log = world.termination_log("a");
    fs::write(bundle.join("refuse"), "").expect("write");
    let api = Api::connect(&world.address("a"), V3).await;
    api.create(&bundle, "a").await.expect_err("refused");
    assert_eq!(
        fs::read_to_string(log).expect("read"),
        "wasm-interp: mount /x: no such file or directory\n"
    );
    api.shutdown("a").await;
}

#[tokio::test]
async fn a_refused_create_is_undone_and_told_twice() {
    let world = World::new();
    let containerd = Containerd::listen(&world).await;
    let bundle = world.bundle("a", None, IDLE);
    fs::write(bundle.join("refuse"), "").expect("write");
    let stderr = world.path("err");
    fifo(&stderr);
    let told = read_to_end(stderr.clone());
    let api = Api::connect(&world.address("a"), V3).await;
    let request = api::CreateTaskRequest {
        stderr: stderr.display().to_string(),
        ..Default::default()
    };
    let (_, words) = api
        .create_with(&bundle, "a", request)
        .await
        .expect_err("refused");
    assert_eq!(words, "mount /x: no such file or directory");
    assert_eq!(
        told.join().expect("join"),
        "wasm-interp: mount /x: no such file or directory\n"
    );
    assert!(!bundle.join("runner").exists());
    fs::remove_file(bundle.join("refuse")).expect("remove");
    api.create(&bundle, "a").await.expect("the id is free");
    api.delete("a").await.expect("delete");
    containerd.expect(&["create", "exit", "delete"]).await;
    api.shutdown("a").await;
    containerd.stop().await;
}

/// A kubelet gives up after two minutes. What it asked for must not run unowned.
#[tokio::test]
async fn a_create_nobody_waits_for_is_undone() {
    let world = World::new();
    let bundle = world.bundle("a", None, IDLE);
    fs::write(bundle.join("slow"), "").expect("write");
    let address = world.address("a");
    let shim = Api::connect(&address, V3)
        .await
        .connect_pids("a")
        .await
        .shim_pid;
    // Another process, since a client of ours would outlive its connection.
    let asker = Api::connect(&address, V3).await;
    let asked = {
        let bundle = bundle.clone();
        tokio::spawn(async move { asker.create(&bundle, "a").await })
    };
    eventually("the runner is called", || world.calls("a") == ["create"]).await;
    asked.abort();
    drop(asked.await);
    eventually("the create is undone", || {
        world.calls("a").contains(&"delete".to_owned())
    })
    .await;
    let api = Api::connect(&address, V3).await;
    eventually("its files are removed", || !bundle.join("runner").exists()).await;
    let (code, _) = api.state("a").await.expect_err("there is no such task");
    assert_eq!(code, Code::NOT_FOUND);
    api.shutdown("a").await;
    ended(&address, shim).await;
}

#[tokio::test]
async fn a_pod_has_one_server_until_its_last_container_goes() {
    let world = World::new();
    let sandbox = world.bundle("pod", Some("pod"), IDLE);
    let container = world.bundle("c", Some("pod"), IDLE);
    let address = world.address("pod");
    assert_eq!(world.address("c"), address);
    assert_eq!(
        fs::read_to_string(container.join("address")).expect("address"),
        address
    );
    let api = Api::connect(&address, V3).await;
    let shim = api.connect_pids("pod").await.shim_pid;
    api.create(&sandbox, "pod").await.expect("create");
    api.create(&container, "c").await.expect("create");
    api.delete("c").await.expect("delete");
    api.shutdown("c").await;
    // containerd calls this after every container; the server and its socket stay.
    world.delete_action("c");
    tokio::time::sleep(Duration::from_millis(100)).await;
    api.state("pod").await.expect("still served");
    assert_eq!(world.address("c"), address);
    api.delete("pod").await.expect("delete");
    api.shutdown("pod").await;
    ended(&address, shim).await;
}

/// Others of the pod are started when the bundle of its first container has long been removed.
#[tokio::test]
async fn the_server_stands_in_nobodys_bundle() {
    let world = World::new();
    world.bundle("first", Some("pod"), IDLE);
    let address = world.address("first");
    let api = Api::connect(&address, V3).await;
    let pid = api.connect_pids("first").await.shim_pid;
    let cwd = fs::read_link(format!("/proc/{pid}/cwd")).expect("cwd");
    assert_eq!(cwd, Path::new("/"));
    api.shutdown("first").await;
    ended(&address, pid).await;
}

#[tokio::test]
async fn the_delete_action_cleans_up_after_a_killed_server() {
    let world = World::new();
    let bundle = world.bundle("a", None, IDLE);
    let address = world.address("a");
    let api = Api::connect(&address, V3).await;
    let pid = api.create(&bundle, "a").await.expect("create");
    api.start("a").await.expect("start");
    let shim = api.connect_pids("a").await.shim_pid;
    kill(shim);
    eventually("the server is dead", || !running(shim)).await;
    assert!(running(pid));
    let answer = world.delete_action("a");
    assert_eq!((answer.pid, answer.exit_status), (pid, 137));
    assert!(answer.exited_at.is_some());
    eventually("the container is dead", || !running(pid)).await;
    assert!(!bundle.join("runner").exists());
    assert!(!Path::new(address.trim_start_matches("unix://")).exists());
    // Once more changes nothing.
    world.delete_action("a");
}

/// containerd restarts: verbs do not wait for it, and it gets all events in order afterwards.
#[tokio::test]
async fn events_wait_for_containerd_and_verbs_do_not() {
    let world = World::new();
    let bundle = world.bundle("a", None, "exit 0");
    let api = Api::connect(&world.address("a"), V3).await;
    let verbs = async {
        api.create(&bundle, "a").await.expect("create");
        api.start("a").await.expect("start");
        assert_eq!(api.wait("a").await, Ok(0));
        api.delete("a").await.expect("delete");
    };
    // Nobody listens before they are done: one that waited would wait for ever, on an emulated processor too.
    tokio::time::timeout(Duration::from_secs(300), verbs)
        .await
        .expect("no verb waits for containerd");
    let containerd = Containerd::listen(&world).await;
    containerd
        .expect(&["create", "start", "exit", "delete"])
        .await;
    api.shutdown("a").await;
    containerd.stop().await;
}

#[test]
fn version_and_description() {
    let world = World::new();
    let run = |flag: &str| {
        std::process::Command::new(world.shim())
            .arg(flag)
            .stdin(std::process::Stdio::null())
            .output()
            .expect("run")
            .stdout
    };
    assert!(
        String::from_utf8(run("-v"))
            .expect("text")
            .contains("v2, v3")
    );
    let info =
        containerd_shim_protos::types::introspection::RuntimeInfo::parse_from_bytes(&run("-info"))
            .expect("protobuf");
    assert_eq!(info.name, "io.containerd.wasm-interp.v1");
}

/// Whether the process has a handler for that signal (`SigCgt` of proc_pid_status(5)).
fn catches(pid: u32, signal: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = u64::from_str_radix(mask.expect("SigCgt").trim(), 16).expect("hexadecimal");
    mask & (1 << (signal - 1)) != 0
}

fn kill(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("kill");
}
