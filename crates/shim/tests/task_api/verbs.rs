//! Verbs of a task: refusals, pause, update, kill, stdio, terminals.

use std::{fs, io::Write, time::Duration};

use containerd_shim_protos::{
    api,
    protobuf::{
        Message, MessageField,
        well_known_types::{any::Any, empty::Empty},
    },
    ttrpc::Code,
};

use super::{IDLE, catches};
use crate::harness::{
    Api, Containerd, KILL, Screen, TERM, TestCgroup, TestDir, V3, eventually, open_files,
    open_stdin, read_to_end,
};

#[tokio::test]
async fn refused_requests_get_the_codes_and_words_of_runcs_shim() {
    let dir = TestDir::new();
    let bundle = dir.bundle("a", None, IDLE);
    let api = Api::connect(&dir.address("a"), V3).await;

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

/// From NOT_FOUND, CRI would conclude that the task has exited.
#[tokio::test]
async fn unsupported_verbs_are_unimplemented() {
    let dir = TestDir::new();
    dir.bundle("a", None, IDLE);
    let api = Api::connect(&dir.address("a"), V3).await;
    let (code, words) = api
        .call::<Empty>("Checkpoint", &Empty::new())
        .await
        .expect_err("not supported");
    assert_eq!(code, Code::UNIMPLEMENTED);
    assert!(
        words.contains("is not supported by io.containerd.wasm-interp.v1; "),
        "{words}"
    );
    api.shutdown("a").await;
}

/// Writes each line that it reads to a file.
const ECHO: &str = "while read line; do echo $line >>\"$1/lines\"; done";

#[tokio::test]
async fn paused_container_does_nothing_until_it_is_resumed() {
    let cgroup = TestCgroup::with_freezer("pause");
    let dir = TestDir::new();
    let containerd = Containerd::listen(&dir).await;
    let bundle = dir.bundle(
        "a",
        None,
        &ECHO.replace("$1", &dir.path("").display().to_string()),
    );
    cgroup.hold(&bundle);
    let stdin = dir.fifo("in");
    let api = Api::connect(&dir.address("a"), V3).await;
    let frozen = |words: &str| Err((Code::UNKNOWN, words.to_owned()));
    let request = api::CreateTaskRequest {
        stdin: stdin.display().to_string(),
        ..Default::default()
    };
    api.create_with(&bundle, "a", request)
        .await
        .expect("create");
    for (verb, words) in [
        ("Pause", "cannot pause task in created state"),
        ("Resume", "cannot resume task in created state"),
    ] {
        assert_eq!(api.verb(verb, "a").await, frozen(words));
    }
    api.start("a").await.expect("start");
    assert_eq!(
        api.verb("Resume", "a").await,
        frozen("cannot resume a running process")
    );
    let mut client = open_stdin(&stdin);
    let lines = || fs::read_to_string(dir.path("lines")).unwrap_or_default();

    for number in 1..=2 {
        api.verb("Pause", "a").await.expect("pause");
        assert!(cgroup.is_frozen());
        let state = api.state("a").await.expect("state");
        assert_eq!(state.status.enum_value(), Ok(api::Status::PAUSED));
        writeln!(client, "line {number}").expect("write");
        assert_eq!(
            api.verb("Pause", "a").await,
            frozen("cannot pause a paused container")
        );
        let (_, words) = api.delete("a").await.expect_err("it is not stopped");
        assert!(
            words.starts_with("cannot delete a paused process"),
            "{words}"
        );
        assert!(!lines().contains(&format!("line {number}")));
        api.verb("Resume", "a").await.expect("resume");
        assert!(!cgroup.is_frozen());
        let state = api.state("a").await.expect("state");
        assert_eq!(state.status.enum_value(), Ok(api::Status::RUNNING));
        eventually("it goes on", || lines().contains(&format!("line {number}"))).await;
    }
    api.kill("a", KILL).await.expect("kill");
    assert_eq!(api.wait("a").await, Ok(137));
    for (verb, words) in [
        ("Pause", "cannot pause a stopped container"),
        ("Resume", "cannot resume a stopped container"),
    ] {
        assert_eq!(api.verb(verb, "a").await, frozen(words));
    }
    api.delete("a").await.expect("delete");
    containerd
        .expect(&[
            "create", "start", "paused", "resumed", "paused", "resumed", "exit", "delete",
        ])
        .await;
    api.shutdown("a").await;
    containerd.stop().await;
}

fn update_of(id: &str, resources: &str) -> api::UpdateTaskRequest {
    api::UpdateTaskRequest {
        id: id.to_owned(),
        resources: MessageField::some(Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".to_owned(),
            value: resources.as_bytes().to_vec(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// From NOT_FOUND, CRI would conclude that the task has exited, and drop a resize without an error.
#[tokio::test]
async fn update_reaches_the_runner_and_no_failure_of_it_is_not_found() {
    let dir = TestDir::new();
    let bundle = dir.bundle("a", None, IDLE);
    let api = Api::connect(&dir.address("a"), V3).await;
    let update = async |resources: &str| {
        let updated: Result<Empty, _> = api.call("Update", &update_of("a", resources)).await;
        updated.map(drop)
    };
    let (code, _) = update("{}").await.expect_err("no such task");
    assert_eq!(code, Code::NOT_FOUND);
    api.create(&bundle, "a").await.expect("create");
    let resources = r#"{"memory":{"limit":4096},"cpu":{"shares":2},"devices":null,"later":1}"#;
    update(resources).await.expect("before the start");
    let request = fs::read_to_string(bundle.join("updated")).expect("the runner's request");
    let request: serde_json::Value = serde_json::from_str(&request).expect("json");
    assert_eq!(request["resources"]["memory"]["limit"], 4096);
    assert_eq!(request["resources"]["cpu"]["shares"], 2);
    api.start("a").await.expect("start");
    update(resources).await.expect("while it runs");

    fs::write(bundle.join("refuse"), "").expect("write");
    assert_eq!(
        update(resources).await,
        Err((
            Code::UNKNOWN,
            "cannot write \"1\" to /memory.max".to_owned()
        ))
    );
    fs::remove_file(bundle.join("refuse")).expect("remove");
    for (wrong, words) in [
        ("", "it is not JSON"),
        (
            r#"{"memory":{"limit":"much"}}"#,
            "linux.resources.memory.limit",
        ),
    ] {
        let (code, said) = update(wrong).await.expect_err(words);
        assert_eq!(code, Code::INVALID_ARGUMENT);
        assert!(said.contains(words), "{said}");
    }
    api.kill("a", KILL).await.expect("kill");
    assert_eq!(api.wait("a").await, Ok(137));
    assert_eq!(
        update(resources).await,
        Err((
            Code::UNKNOWN,
            "cannot update a stopped container".to_owned()
        ))
    );
    api.delete("a").await.expect("delete");
    assert_eq!(
        dir.calls("a"),
        ["create", "update", "start", "update", "update", "delete"]
    );
    api.shutdown("a").await;
}

/// On version 1 of cgroups a frozen process does not even end by SIGKILL.
#[tokio::test]
async fn kill_ends_a_paused_container_and_other_signals_wait_for_its_resumption() {
    let cgroup = TestCgroup::with_freezer("kill");
    let dir = TestDir::new();
    let containerd = Containerd::listen(&dir).await;
    let bundle = dir.bundle("a", None, IDLE);
    cgroup.hold(&bundle);
    let api = Api::connect(&dir.address("a"), V3).await;
    for all in [false, true] {
        api.create(&bundle, "a").await.expect("create");
        api.start("a").await.expect("start");
        api.verb("Pause", "a").await.expect("pause");
        let kill = api::KillRequest {
            id: "a".to_owned(),
            signal: KILL,
            all,
            ..Default::default()
        };
        let _: Empty = api.call("Kill", &kill).await.expect("kill");
        assert_eq!(api.wait("a").await, Ok(137));
        api.delete("a").await.expect("delete");
    }
    let pid = api.create(&bundle, "a").await.expect("create");
    api.start("a").await.expect("start");
    eventually("the guest's trap is set", || catches(pid, TERM)).await;
    api.verb("Pause", "a").await.expect("pause");
    api.kill("a", TERM).await.expect("kill");
    assert!(cgroup.is_frozen());
    let state = api.state("a").await.expect("state");
    assert_eq!(state.status.enum_value(), Ok(api::Status::PAUSED));
    api.verb("Resume", "a").await.expect("resume");
    assert_eq!(api.wait("a").await, Ok(143));
    api.delete("a").await.expect("delete");
    containerd
        .expect(&[
            "create", "start", "paused", "exit", "delete", "create", "start", "paused", "exit",
            "delete", "create", "start", "paused", "resumed", "exit", "delete",
        ])
        .await;
    api.shutdown("a").await;
    containerd.stop().await;
}

/// The fake runner leaves the container in the shim's own cgroup.
#[tokio::test]
async fn container_in_the_shims_cgroup_cannot_be_paused() {
    let dir = TestDir::new();
    let bundle = dir.bundle("a", None, IDLE);
    let api = Api::connect(&dir.address("a"), V3).await;
    api.create(&bundle, "a").await.expect("create");
    api.start("a").await.expect("start");
    let (code, words) = api.verb("Pause", "a").await.expect_err("no cgroup");
    assert_eq!(code, Code::UNKNOWN);
    assert!(words.contains("no cgroup of its own"), "{words}");
    let state = api.state("a").await.expect("state");
    assert_eq!(state.status.enum_value(), Ok(api::Status::RUNNING));
    api.end("a").await;
}

/// From UNIMPLEMENTED, containerd 2.3 and later concludes that the shim has an older version of the API,
/// and creates again.
#[tokio::test]
async fn unsupported_create_is_a_failed_precondition() {
    let dir = TestDir::new();
    let bundle = dir.bundle("a", None, IDLE);
    let api = Api::connect(&dir.address("a"), V3).await;
    for (request, said) in [
        (
            api::CreateTaskRequest {
                checkpoint: "/checkpoint".to_owned(),
                ..Default::default()
            },
            "create from a checkpoint is not supported",
        ),
        (
            api::CreateTaskRequest {
                stdout: "npipe:////./pipe/log".to_owned(),
                ..Default::default()
            },
            "stdout \"npipe:////./pipe/log\" is not supported",
        ),
        (
            api::CreateTaskRequest {
                rootfs: vec![containerd_shim_protos::types::mount::Mount {
                    type_: "ext4".to_owned(),
                    source: "/image".to_owned(),
                    options: vec!["loop".to_owned()],
                    ..Default::default()
                }],
                ..Default::default()
            },
            "cannot mount with option \"loop\" of the snapshotter: it is not supported",
        ),
    ] {
        let (code, words) = api
            .create_with(&bundle, "a", request)
            .await
            .expect_err(said);
        assert_eq!(code, Code::FAILED_PRECONDITION, "{said}");
        assert!(words.starts_with(said), "{words}");
        assert!(words.ends_with(": failed precondition"), "{words}");
    }
    api.shutdown("a").await;
}

#[tokio::test]
async fn terminal_is_between_the_clients_and_the_process() {
    let dir = TestDir::new();
    let containerd = Containerd::listen(&dir).await;
    let script = "stty size; read line; echo got $line; read line; stty size; cat; echo end";
    let bundle = dir.bundle("a", None, script);
    let [stdin, stdout] = ["in", "out"].map(|name| dir.fifo(name));
    let request = || api::CreateTaskRequest {
        stdin: stdin.display().to_string(),
        stdout: stdout.display().to_string(),
        terminal: true,
        ..Default::default()
    };
    let api = Api::connect(&dir.address("a"), V3).await;
    let (code, words) = api
        .create_with(&bundle, "a", request())
        .await
        .expect_err("differ");
    assert_eq!(code, Code::INVALID_ARGUMENT);
    assert!(words.contains("do not agree on a terminal"), "{words}");
    dir.change_spec("a", |spec| {
        spec["process"]["terminal"] = true.into();
        spec["process"]["consoleSize"] = serde_json::json!({"height": 40, "width": 100});
    });
    let mut screen = Screen::open(&stdout);
    api.create_with(&bundle, "a", request())
        .await
        .expect("create");
    let state = api.state("a").await.expect("state");
    assert!(state.terminal && state.stderr.is_empty());
    api.start("a").await.expect("start");
    screen.shows("40 100\r\n").await;
    let open = || open_stdin(&stdin);
    open().write_all(b"a line\n").expect("type");
    screen.shows("got a line\r\n").await;
    // That client has gone, and hangs nothing up.
    let resize = api::ResizePtyRequest {
        id: "a".to_owned(),
        width: 91,
        height: 37,
        ..Default::default()
    };
    let _: Empty = api.call("ResizePty", &resize).await.expect("resize");
    let mut client = open();
    client.write_all(b"\n").expect("type");
    screen.shows("37 91\r\n").await;
    client.write_all(b"copied\n").expect("type");
    screen.shows("copied\r\ncopied\r\n").await;
    // ctrl-D at the beginning of a line: the end of the input.
    client.write_all(b"\x04").expect("type");
    assert_eq!(api.wait("a").await, Ok(0));
    api.delete("a").await.expect("delete");
    screen.shows("end\r\n").await;
    containerd
        .expect(&["create", "start", "exit", "delete"])
        .await;
    api.shutdown("a").await;
    containerd.stop().await;
}

/// `containerd.runc.v1.Options`, as containerd's configuration gives them.
#[tokio::test]
async fn fifos_belong_to_the_owner_that_the_options_name() {
    use containerd_shim_protos::shim::oci::Options;
    use std::os::unix::fs::MetadataExt;
    let dir = TestDir::new();
    let bundle = dir.bundle("a", None, "exit 0");
    let stdout = dir.fifo("out");
    let options = Options {
        io_uid: 1234,
        io_gid: 4321,
        systemd_cgroup: true,
        binary_name: "another".to_owned(),
        ..Default::default()
    };
    let request = api::CreateTaskRequest {
        stdout: stdout.display().to_string(),
        options: MessageField::some(Any {
            type_url: "containerd.runc.v1.Options".to_owned(),
            value: options.write_to_bytes().expect("encode"),
            ..Default::default()
        }),
        ..Default::default()
    };
    let api = Api::connect(&dir.address("a"), V3).await;
    api.create_with(&bundle, "a", request)
        .await
        .expect("create");
    let owner = fs::metadata(&stdout).expect("the FIFO");
    assert_eq!((owner.uid(), owner.gid()), (1234, 4321));
    api.delete("a").await.expect("delete");
    api.shutdown("a").await;
}

/// As with runc's shim.
#[tokio::test]
async fn resize_without_a_terminal_succeeds_and_stats_without_a_cgroup_are_not_found() {
    let dir = TestDir::new();
    let bundle = dir.bundle("a", None, IDLE);
    let api = Api::connect(&dir.address("a"), V3).await;
    let resize = |id: &str, exec_id: &str| api::ResizePtyRequest {
        id: id.to_owned(),
        exec_id: exec_id.to_owned(),
        width: 80,
        height: 25,
        ..Default::default()
    };
    let (code, words) = api
        .call::<Empty>("ResizePty", &resize("a", ""))
        .await
        .expect_err("no task yet");
    assert_eq!(code, Code::NOT_FOUND, "{words}");
    api.create(&bundle, "a").await.expect("create");
    api.call::<Empty>("ResizePty", &resize("a", ""))
        .await
        .expect("done");
    let (code, words) = api
        .call::<Empty>("ResizePty", &resize("a", "e"))
        .await
        .expect_err("no exec process");
    assert_eq!(code, Code::NOT_FOUND);
    assert!(words.starts_with("process does not exist"), "{words}");

    // The fake runner leaves the container in the shim's own cgroup.
    let request = api::StatsRequest {
        id: "a".to_owned(),
        ..Default::default()
    };
    let stats = api.call::<api::StatsResponse>("Stats", &request).await;
    assert_eq!(
        stats.err(),
        Some((
            Code::NOT_FOUND,
            "cgroup does not exist: not found".to_owned()
        ))
    );
    api.delete("a").await.expect("delete");
    api.shutdown("a").await;
}

#[tokio::test]
async fn stdio_goes_through_containerds_fifos_and_close_io_ends_stdin() {
    let dir = TestDir::new();
    let bundle = dir.bundle("a", None, "cat; echo done >&2");
    let [stdin, stdout, stderr] = ["in", "out", "err"].map(|name| dir.fifo(name));
    let (out, err) = (read_to_end(stdout.clone()), read_to_end(stderr.clone()));
    let api = Api::connect(&dir.address("a"), V3).await;
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
    // The end of an early client would close stdin.
    let shim = api.connect_pids("a").await.shim_pid;
    eventually("the shim watches stdin no more", || {
        open_files(shim, "anon_inode:inotify") == 0
    })
    .await;
    let mut client = open_stdin(&stdin);
    client.write_all(b"hello\n").expect("write");
    drop(client);
    // The end of this client does not close stdin: it may be a containerd that restarts.
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
