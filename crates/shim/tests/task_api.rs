//! The shim's executable over ttrpc, without containerd: forms of start, verbs, errors, events, removal.

// Other tests use the rest of it.
#[allow(dead_code)]
mod harness;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use containerd_shim_protos::api;
use containerd_shim_protos::bootstrap_api::BootstrapResult;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::empty::Empty;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::ttrpc::Code;

use harness::{
    Api, Containerd, KILL, Screen, StartForm, TERM, TestCgroup, TestDir, V2, V3, ended, eventually,
    open_files, open_stdin, read_to_end, running,
};

/// Runs until TERM, and exits with 143 then.
const IDLE: &str = "trap 'exit 143' TERM; while :; do sleep 0.02; done";

fn address_of(answer: &[u8], form: StartForm) -> String {
    match form {
        StartForm::Address => String::from_utf8(answer.to_vec()).expect("utf-8"),
        StartForm::Json => {
            let answer: serde_json::Value = serde_json::from_slice(answer).expect("json");
            assert_eq!(answer["version"], 2);
            assert_eq!(answer["protocol"], "ttrpc");
            answer["address"].as_str().expect("address").to_owned()
        }
        StartForm::Bootstrap => {
            let answer = BootstrapResult::parse_from_bytes(answer).expect("protobuf");
            assert_eq!((answer.version, answer.protocol.as_str()), (3, "ttrpc"));
            answer.address
        }
    }
}

#[tokio::test]
async fn each_form_of_start_leads_to_both_versions_of_the_api() {
    for form in [StartForm::Address, StartForm::Json, StartForm::Bootstrap] {
        let dir = TestDir::new();
        let bundle = dir.bundle("a", None, IDLE);
        let address = address_of(&dir.start("a", form), form);
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

/// containerd kills `start` when its client gives up, and then knows of no server.
#[tokio::test]
async fn server_whose_start_dies_before_its_response_ends() {
    let dir = TestDir::new();
    let bundle = dir.bundle("a", None, IDLE);
    let (mut start, _output) = dir.start_without_response("a");
    let file = bundle.join("address");
    eventually("the address is written", || file.exists()).await;
    let address = fs::read_to_string(&file).expect("read");
    let pid = Api::connect(&address, V3).await.connect_pids("a").await;
    assert!(running(pid.shim_pid));
    start.kill().expect("kill");
    start.wait().expect("wait");
    ended(&address, pid.shim_pid).await;
}

#[tokio::test]
async fn container_lives_under_both_versions_of_the_api() {
    for service in [V2, V3] {
        let dir = TestDir::new();
        let containerd = Containerd::listen(&dir).await;
        let bundle = dir.bundle("a", None, IDLE);
        let address = dir.address("a");
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
        // Signal 0 only checks that the process exists.
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
        assert_eq!(dir.calls("a"), ["create", "start", "delete"]);
        containerd
            .expect(&["create", "start", "exit", "delete"])
            .await;

        let shim = api.connect_pids("a").await.shim_pid;
        api.shutdown("a").await;
        ended(&address, shim).await;
        containerd.stop().await;
    }
}

/// The fake runner responds to `start` a tenth of a second after the guest has ended.
#[tokio::test]
async fn guest_that_ends_before_the_response_to_start_has_all_events_in_order() {
    let dir = TestDir::new();
    let containerd = Containerd::listen(&dir).await;
    let bundle = dir.bundle("a", None, "exit 7");
    let address = dir.address("a");
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
async fn delete_kills_a_task_that_was_never_started() {
    let dir = TestDir::new();
    let containerd = Containerd::listen(&dir).await;
    let bundle = dir.bundle("a", None, IDLE);
    let api = Api::connect(&dir.address("a"), V3).await;
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
    let component = dir.bundle("component", None, IDLE);
    dir.make_a_component("component");
    let api = Api::connect(&dir.address("a"), V3).await;
    for (bundle, request, said) in [
        (
            &bundle,
            api::CreateTaskRequest {
                checkpoint: "/checkpoint".to_owned(),
                ..Default::default()
            },
            "create from a checkpoint is not supported",
        ),
        (
            &bundle,
            api::CreateTaskRequest {
                stdout: "npipe:////./pipe/log".to_owned(),
                ..Default::default()
            },
            "stdout \"npipe:////./pipe/log\" is not supported",
        ),
        (
            &bundle,
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
        (
            &component,
            api::CreateTaskRequest::default(),
            "cannot run the program: \"/app.wasm\" is a WebAssembly component",
        ),
    ] {
        let (code, words) = api.create_with(bundle, "a", request).await.expect_err(said);
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

/// Fills its memory until the kernel kills it.
const OUT_OF_MEMORY: &str = "x=$(head -c 64M /dev/zero | tr '\\0' x)";

#[tokio::test]
async fn out_of_memory_kill_is_published_and_noted_before_the_exit() {
    let cgroup = TestCgroup::of_mib(16);
    let dir = TestDir::new();
    let containerd = Containerd::listen(&dir).await;
    // The shell itself is killed, not a subshell.
    let bundle = dir.bundle("a", None, "x=x; while :; do x=$x$x; done");
    let log = dir.termination_log("a");
    cgroup.hold(&bundle);
    let api = Api::connect(&dir.address("a"), V3).await;
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

/// The container then ends by itself, so the termination log stays empty.
#[tokio::test]
async fn each_out_of_memory_kill_is_published_while_the_container_runs() {
    let cgroup = TestCgroup::of_mib(17);
    let dir = TestDir::new();
    let containerd = Containerd::listen(&dir).await;
    let script = format!("({OUT_OF_MEMORY})\nread line\n({OUT_OF_MEMORY})\nread line\nexit 0");
    let bundle = dir.bundle("a", None, &script);
    let log = dir.termination_log("a");
    cgroup.hold(&bundle);
    let stdin = dir.fifo("in");
    let api = Api::connect(&dir.address("a"), V3).await;
    let request = api::CreateTaskRequest {
        stdin: stdin.display().to_string(),
        ..Default::default()
    };
    api.create_with(&bundle, "a", request)
        .await
        .expect("create");
    api.start("a").await.expect("start");
    let mut client = open_stdin(&stdin);
    for published in [3, 4] {
        eventually("the kill is published", || {
            containerd.topics().len() >= published
        })
        .await;
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
async fn reason_of_a_failed_create_is_noted_in_the_termination_log() {
    let dir = TestDir::new();
    let bundle = dir.bundle("a", None, IDLE);
    let log = dir.termination_log("a");
    fs::write(bundle.join("refuse"), "").expect("write");
    let api = Api::connect(&dir.address("a"), V3).await;
    api.create(&bundle, "a").await.expect_err("refused");
    assert_eq!(
        fs::read_to_string(log).expect("read"),
        "wasm-interp: mount /x: no such file or directory\n"
    );
    api.shutdown("a").await;
}

#[tokio::test]
async fn failed_create_is_undone_and_reported_to_the_client_and_on_stderr() {
    let dir = TestDir::new();
    let containerd = Containerd::listen(&dir).await;
    let bundle = dir.bundle("a", None, IDLE);
    fs::write(bundle.join("refuse"), "").expect("write");
    let stderr = dir.fifo("err");
    let reported = read_to_end(stderr.clone());
    let api = Api::connect(&dir.address("a"), V3).await;
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
        reported.join().expect("join"),
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

/// The kubelet cancels a create after two minutes.
#[tokio::test]
async fn cancelled_create_is_undone() {
    let dir = TestDir::new();
    let bundle = dir.bundle("a", None, IDLE);
    fs::write(bundle.join("slow"), "").expect("write");
    let address = dir.address("a");
    let api = Api::connect(&address, V3).await;
    let shim = api.connect_pids("a").await.shim_pid;
    // Its only handle moves into the task, so the abort closes its connection.
    let client = Api::connect(&address, V3).await;
    let create = {
        let bundle = bundle.clone();
        tokio::spawn(async move { client.create(&bundle, "a").await })
    };
    eventually("the runner is called", || dir.calls("a") == ["create"]).await;
    let connected = open_files(shim, "socket:");
    create.abort();
    drop(create.await);
    eventually("the shim has lost its client", || {
        open_files(shim, "socket:") < connected
    })
    .await;
    fs::remove_file(bundle.join("slow")).expect("remove");
    eventually("the create is undone", || {
        dir.calls("a").contains(&"delete".to_owned())
    })
    .await;
    eventually("its files are removed", || !bundle.join("runner").exists()).await;
    let (code, _) = api.state("a").await.expect_err("there is no such task");
    assert_eq!(code, Code::NOT_FOUND);
    api.shutdown("a").await;
    ended(&address, shim).await;
}

#[tokio::test]
async fn pod_has_one_server_until_its_last_container_is_deleted() {
    let dir = TestDir::new();
    let sandbox = dir.bundle("pod", Some("pod"), IDLE);
    let container = dir.bundle("c", Some("pod"), IDLE);
    let address = dir.address("pod");
    assert_eq!(dir.address("c"), address);
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
    // containerd calls this after every container. The server and its socket stay.
    dir.delete_action("c");
    tokio::time::sleep(Duration::from_millis(100)).await;
    api.state("pod").await.expect("still served");
    assert_eq!(dir.address("c"), address);
    api.delete("pod").await.expect("delete");
    api.shutdown("pod").await;
    ended(&address, shim).await;
}

/// The bundle of a pod's first container may be removed before other containers start.
#[tokio::test]
async fn server_leaves_the_bundle_that_it_was_started_in() {
    let dir = TestDir::new();
    dir.bundle("first", Some("pod"), IDLE);
    let address = dir.address("first");
    let api = Api::connect(&address, V3).await;
    let pid = api.connect_pids("first").await.shim_pid;
    let cwd = fs::read_link(format!("/proc/{pid}/cwd")).expect("cwd");
    assert_eq!(cwd, Path::new("/"));
    api.shutdown("first").await;
    ended(&address, pid).await;
}

#[tokio::test]
async fn delete_action_removes_the_container_of_a_killed_server() {
    let dir = TestDir::new();
    let bundle = dir.bundle("a", None, IDLE);
    let address = dir.address("a");
    let api = Api::connect(&address, V3).await;
    let pid = api.create(&bundle, "a").await.expect("create");
    api.start("a").await.expect("start");
    let shim = api.connect_pids("a").await.shim_pid;
    kill(shim);
    eventually("the server is dead", || !running(shim)).await;
    assert!(running(pid));
    let answer = dir.delete_action("a");
    assert_eq!((answer.pid, answer.exit_status), (pid, 137));
    assert!(answer.exited_at.is_some());
    eventually("the container is dead", || !running(pid)).await;
    assert!(!bundle.join("runner").exists());
    assert!(!Path::new(address.trim_start_matches("unix://")).exists());
    // A second call has nothing to do.
    dir.delete_action("a");
}

/// A sandbox and two members of its pod under one server, as containerd 2.3 creates them: it calls
/// `start` only for the sandbox, and names the sandbox in the bundles of the members.
async fn pod(dir: &TestDir) -> (Api, [u32; 3]) {
    let bundles = [
        dir.bundle("pod", Some("pod"), IDLE),
        dir.bundle("annotated", Some("pod"), IDLE),
        dir.bundle("named", None, IDLE),
    ];
    fs::write(bundles[2].join("sandbox"), "pod").expect("write");
    let api = Api::connect(&dir.address("pod"), V3).await;
    let mut pids = [0; 3];
    for (pid, (bundle, id)) in pids.iter_mut().zip(bundles.iter().zip(POD)) {
        *pid = api.create(bundle, id).await.expect("create");
        api.start(id).await.expect("start");
    }
    (api, pids)
}

const POD: [&str; 3] = ["pod", "annotated", "named"];

async fn kill_the_server(api: &Api) {
    let shim = api.connect_pids("pod").await.shim_pid;
    kill(shim);
    eventually("the server is dead", || !running(shim)).await;
}

/// containerd 2.3 calls the action only for the sandbox.
#[tokio::test]
async fn delete_action_of_a_sandbox_removes_its_pod() {
    let dir = TestDir::new();
    let (api, pids) = pod(&dir).await;
    let other = dir.bundle("other", Some("other"), IDLE);
    let others = Api::connect(&dir.address("other"), V3).await;
    let bystander = others.create(&other, "other").await.expect("create");
    let broken = dir.path("broken");
    fs::create_dir_all(broken.join("runner")).expect("mkdir");
    fs::write(broken.join("config.json"), "{").expect("write");

    kill_the_server(&api).await;
    assert!(pids.iter().all(|&pid| running(pid)));
    let answer = dir.delete_action("pod");
    assert_eq!((answer.pid, answer.exit_status), (pids[0], 137));
    for (id, pid) in POD.into_iter().zip(pids) {
        eventually(&format!("{id} is dead"), || !running(pid)).await;
        assert!(!dir.path(id).join("runner").exists(), "{id}");
    }
    assert!(running(bystander));
    others.delete("other").await.expect("delete");
    others.shutdown("other").await;
}

/// containerd also calls the action after an orderly deletion, when other containers of the pod still
/// run.
#[tokio::test]
async fn delete_action_of_a_sandbox_leaves_containers_with_a_living_server() {
    let dir = TestDir::new();
    let (api, pids) = pod(&dir).await;
    let shim = api.connect_pids("pod").await.shim_pid;
    api.kill("pod", KILL).await.expect("kill");
    assert_eq!(api.wait("pod").await, Ok(137));
    api.delete("pod").await.expect("delete");
    dir.delete_action("pod");
    for (id, pid) in POD.into_iter().zip(pids).skip(1) {
        assert!(running(pid), "{id}");
        api.state(id).await.expect("still served");
        api.kill(id, KILL).await.expect("kill");
        assert_eq!(api.wait(id).await, Ok(137));
        api.delete(id).await.expect("delete");
    }
    api.shutdown("pod").await;
    eventually("the server ends", || !running(shim)).await;
}

/// containerd 2.4 calls the action for each container of the pod, and so does every version for a shim of
/// version 2.
#[tokio::test]
async fn delete_actions_of_a_pod_may_run_at_the_same_time() {
    let dir = TestDir::new();
    let (api, pids) = pod(&dir).await;
    kill_the_server(&api).await;
    std::thread::scope(|scope| {
        for id in POD.into_iter().chain(POD) {
            let dir = &dir;
            // It panics if the action fails.
            scope.spawn(move || dir.delete_action(id));
        }
    });
    for (id, pid) in POD.into_iter().zip(pids) {
        eventually(&format!("{id} is dead"), || !running(pid)).await;
        assert!(!dir.path(id).join("runner").exists(), "{id}");
    }
}

/// As when containerd restarts.
#[tokio::test]
async fn events_wait_for_containerd_and_verbs_do_not() {
    let dir = TestDir::new();
    let bundle = dir.bundle("a", None, "exit 0");
    let api = Api::connect(&dir.address("a"), V3).await;
    let verbs = async {
        api.create(&bundle, "a").await.expect("create");
        api.start("a").await.expect("start");
        assert_eq!(api.wait("a").await, Ok(0));
        api.delete("a").await.expect("delete");
    };
    // No containerd listens before they are done, so a verb that waits for it never ends.
    tokio::time::timeout(Duration::from_secs(300), verbs)
        .await
        .expect("no verb waits for containerd");
    let containerd = Containerd::listen(&dir).await;
    containerd
        .expect(&["create", "start", "exit", "delete"])
        .await;
    api.shutdown("a").await;
    containerd.stop().await;
}

#[test]
fn version_and_info_name_the_api_and_the_runtime() {
    let dir = TestDir::new();
    let run = |flag: &str| {
        std::process::Command::new(dir.shim())
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
