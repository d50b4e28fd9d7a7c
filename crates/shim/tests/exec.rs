//! The Task API's verbs with an exec id, without containerd: further processes of a container.

// Other tests use the rest of it.
#[allow(dead_code)]
mod harness;

use std::fs;
use std::io::Write;

use containerd_shim_protos::api;
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::empty::Empty;
use containerd_shim_protos::shim::oci::ProcessDetails;
use containerd_shim_protos::ttrpc::Code;

use harness::{
    Api, Containerd, KILL, Screen, TERM, TestCgroup, TestDir, V2, V3, eventually, open_stdin,
    process_spec, read_to_end, running,
};

/// Runs until a signal ends it.
const IDLE: &str = "while :; do sleep 0.02; done";

fn refused(code: Code, words: &str) -> (Code, String) {
    let class = match code {
        Code::NOT_FOUND => "not found",
        Code::ALREADY_EXISTS => "already exists",
        _ => "failed precondition",
    };
    (code, format!("{words}: {class}"))
}

#[tokio::test]
async fn exec_lives_under_both_versions_of_the_api() {
    for service in [V2, V3] {
        let dir = TestDir::new();
        let containerd = Containerd::listen(&dir).await;
        let bundle = dir.bundle("a", None, IDLE);
        let api = Api::connect(&dir.address("a"), service).await;
        api.create(&bundle, "a").await.expect("create");
        api.start("a").await.expect("start");

        api.add_exec("a", "e", "exit 7").await.expect("exec");
        let state = api.exec_state("a", "e").await.expect("state");
        assert_eq!(state.status.enum_value(), Ok(api::Status::CREATED));
        assert_eq!(
            (state.pid, state.id.as_str(), state.exec_id.as_str()),
            (0, "e", "e")
        );
        let pid = api.start_exec("a", "e").await.expect("start");
        assert_eq!(api.wait_exec("a", "e").await, Ok(7));
        assert_eq!(api.wait_exec("a", "e").await, Ok(7), "also after the exit");
        let state = api.exec_state("a", "e").await.expect("state");
        assert_eq!(state.status.enum_value(), Ok(api::Status::STOPPED));
        assert_eq!((state.pid, state.exit_status), (pid, 7));
        let deleted = api.delete_exec("a", "e").await.expect("delete");
        assert_eq!((deleted.pid, deleted.exit_status), (pid, 7));
        assert_eq!(
            api.exec_state("a", "e").await.expect_err("it is gone").0,
            Code::NOT_FOUND
        );
        // The id is free, and the container runs on.
        api.add_exec("a", "e", "exit 0").await.expect("exec");
        assert_eq!(dir.calls("a"), ["create", "start", "exec"]);
        api.kill("a", KILL).await.expect("kill");
        api.wait("a").await.expect("wait");
        api.delete("a").await.expect("delete");
        let events = [
            "create",
            "start",
            "exec-added",
            "exec-started",
            "exit",
            "exec-added",
            "exit",
            "delete",
        ];
        containerd.expect(&events).await;
        assert_eq!(containerd.exits(), ["e", "a"]);
        api.shutdown("a").await;
        containerd.stop().await;
    }
}

#[tokio::test]
async fn stdio_of_an_exec_goes_through_its_own_fifos_and_close_io_ends_its_stdin() {
    let dir = TestDir::new();
    let bundle = dir.bundle("a", None, IDLE);
    let [stdin, stdout, stderr] = ["in", "out", "err"].map(|name| dir.fifo(name));
    let (out, err) = (read_to_end(stdout.clone()), read_to_end(stderr.clone()));
    let api = Api::connect(&dir.address("a"), V3).await;
    api.create(&bundle, "a").await.expect("create");
    api.start("a").await.expect("start");
    let request = api::ExecProcessRequest {
        stdin: stdin.display().to_string(),
        stdout: stdout.display().to_string(),
        stderr: stderr.display().to_string(),
        ..Default::default()
    };
    api.add_exec_with("a", "e", "cat; echo done >&2", request)
        .await
        .expect("exec");
    api.start_exec("a", "e").await.expect("start");
    let mut client = open_stdin(&stdin);
    client.write_all(b"hello\n").expect("write");
    let close = api::CloseIORequest {
        id: "a".to_owned(),
        exec_id: "e".to_owned(),
        stdin: true,
        ..Default::default()
    };
    let _: Empty = api.call("CloseIO", &close).await.expect("closeIO");
    drop(client);
    assert_eq!(api.wait_exec("a", "e").await, Ok(0));
    api.delete_exec("a", "e").await.expect("delete");
    assert_eq!(out.join().expect("join"), "hello\n");
    assert_eq!(err.join().expect("join"), "done\n");
    api.delete("a").await.expect_err("it runs");
    api.end("a").await;
}

#[tokio::test]
async fn terminal_of_an_exec_is_between_its_clients_and_the_process() {
    let dir = TestDir::new();
    let containerd = Containerd::listen(&dir).await;
    let bundle = dir.bundle("a", None, IDLE);
    let script =
        "stty size; read line; echo got $line; read line; stty size; cat; echo end; exit 4";
    let [stdin, stdout] = ["in", "out"].map(|name| dir.fifo(name));
    let api = Api::connect(&dir.address("a"), V3).await;
    api.create(&bundle, "a").await.expect("create");
    api.start("a").await.expect("start");
    let request = api::ExecProcessRequest {
        stdin: stdin.display().to_string(),
        stdout: stdout.display().to_string(),
        terminal: true,
        spec: process_spec(&serde_json::json!({
            "user": {"uid": 0, "gid": 0}, "cwd": "/", "consoleSize": {"height": 40, "width": 100},
            "args": ["run", script],
        })),
        ..Default::default()
    };
    let mut screen = Screen::open(&stdout);
    api.request_exec("a", "e", request).await.expect("exec");
    let state = api.exec_state("a", "e").await.expect("state");
    assert!(state.terminal && state.stderr.is_empty());
    let resize = api::ResizePtyRequest {
        id: "a".to_owned(),
        exec_id: "e".to_owned(),
        width: 91,
        height: 37,
        ..Default::default()
    };
    // Without a process it changes nothing, as under runc's shim.
    let _: Empty = api.call("ResizePty", &resize).await.expect("resize");
    api.start_exec("a", "e").await.expect("start");
    screen.shows("40 100\r\n").await;
    let open = || open_stdin(&stdin);
    open().write_all(b"a line\n").expect("type");
    screen.shows("got a line\r\n").await;
    // That client has gone, and hangs nothing up.
    let _: Empty = api.call("ResizePty", &resize).await.expect("resize");
    let mut client = open();
    client.write_all(b"\n").expect("type");
    screen.shows("37 91\r\n").await;
    client.write_all(b"copied\n").expect("type");
    screen.shows("copied\r\ncopied\r\n").await;
    // ctrl-D at the beginning of a line: the end of the input.
    client.write_all(b"\x04").expect("type");
    assert_eq!(api.wait_exec("a", "e").await, Ok(4));
    api.delete_exec("a", "e").await.expect("delete");
    screen.shows("end\r\n").await;
    let events = ["create", "start", "exec-added", "exec-started", "exit"];
    containerd.expect(&events).await;
    api.end("a").await;
    containerd.stop().await;
}

/// `closeIO` and the end of the last client hang a terminal up, as under runc's shim.
#[tokio::test]
async fn close_io_of_an_exec_hangs_its_terminal_up_when_the_last_client_leaves() {
    let dir = TestDir::new();
    let bundle = dir.bundle("a", None, IDLE);
    let [stdin, stdout] = ["in", "out"].map(|name| dir.fifo(name));
    let api = Api::connect(&dir.address("a"), V3).await;
    api.create(&bundle, "a").await.expect("create");
    api.start("a").await.expect("start");
    let request = api::ExecProcessRequest {
        stdin: stdin.display().to_string(),
        stdout: stdout.display().to_string(),
        terminal: true,
        ..Default::default()
    };
    let shown = read_to_end(stdout.clone());
    // The end of its input is what a terminal that was hung up answers.
    api.add_exec_with("a", "e", "read line; cat; exit 6", request)
        .await
        .expect("exec");
    api.start_exec("a", "e").await.expect("start");
    let mut client = open_stdin(&stdin);
    let close = api::CloseIORequest {
        id: "a".to_owned(),
        exec_id: "e".to_owned(),
        stdin: true,
        ..Default::default()
    };
    let _: Empty = api.call("CloseIO", &close).await.expect("closeIO");
    client.write_all(b"typed\n").expect("this client is there");
    drop(client);
    assert_eq!(api.wait_exec("a", "e").await, Ok(6));
    api.delete_exec("a", "e").await.expect("delete");
    shown.join().expect("the shim has closed its end");
    api.end("a").await;
}

#[tokio::test]
async fn refused_requests_for_an_exec_get_the_codes_and_words_of_runcs_shim() {
    let dir = TestDir::new();
    let bundle = dir.bundle("a", None, IDLE);
    let api = Api::connect(&dir.address("a"), V3).await;
    let (code, _) = api.add_exec("a", "e", IDLE).await.expect_err("no task");
    assert_eq!(code, Code::NOT_FOUND);
    api.create(&bundle, "a").await.expect("create");
    // A created container takes one, as under runc.
    api.add_exec("a", "early", IDLE).await.expect("exec");
    api.start_exec("a", "early").await.expect("start");
    api.start("a").await.expect("start");

    let (code, words) = api.start_exec("a", "no").await.expect_err("not added");
    assert_eq!(code, Code::NOT_FOUND);
    assert!(words.starts_with("process does not exist"), "{words}");
    api.add_exec("a", "e", IDLE).await.expect("exec");
    let (code, words) = api.add_exec("a", "e", IDLE).await.expect_err("twice");
    assert_eq!(code, Code::ALREADY_EXISTS);
    assert!(words.starts_with("id e"), "{words}");
    assert_eq!(
        api.kill_exec("a", "e", TERM).await.err(),
        Some(refused(Code::FAILED_PRECONDITION, "process not created"))
    );
    api.start_exec("a", "e").await.expect("start");
    assert_eq!(
        api.start_exec("a", "e").await.err(),
        Some(refused(
            Code::FAILED_PRECONDITION,
            "cannot start a running process"
        ))
    );
    assert_eq!(
        api.delete_exec("a", "e").await.err(),
        Some(refused(
            Code::FAILED_PRECONDITION,
            "cannot delete a running process"
        ))
    );
    api.kill_exec("a", "e", KILL).await.expect("kill");
    assert_eq!(api.wait_exec("a", "e").await, Ok(137));
    assert_eq!(
        api.kill_exec("a", "e", KILL).await.err(),
        Some(refused(Code::NOT_FOUND, "process already finished"))
    );

    api.kill("a", KILL).await.expect("kill");
    api.wait("a").await.expect("wait");
    for late in ["late", "later"] {
        assert_eq!(
            api.add_exec("a", late, IDLE).await.err(),
            Some(refused(
                Code::FAILED_PRECONDITION,
                "cannot exec in a stopped state"
            ))
        );
    }
    api.delete("a").await.expect("delete");
    api.shutdown("a").await;
}

/// containerd's client kills with `all` before it deletes by force.
#[tokio::test]
async fn kill_of_an_exec_reaches_no_other_process() {
    let dir = TestDir::new();
    let bundle = dir.bundle("a", None, IDLE);
    let api = Api::connect(&dir.address("a"), V3).await;
    let init = api.create(&bundle, "a").await.expect("create");
    api.start("a").await.expect("start");
    let mut pids = Vec::new();
    for exec_id in ["one", "two"] {
        api.add_exec("a", exec_id, IDLE).await.expect("exec");
        pids.push(api.start_exec("a", exec_id).await.expect("start"));
    }
    api.kill_exec("a", "one", TERM).await.expect("kill");
    assert_eq!(api.wait_exec("a", "one").await, Ok(143));
    assert!(!running(pids[0]));
    assert!(running(pids[1]) && running(init));
    api.end("a").await;
}

/// The fake container has no pid namespace in which the kernel would end them.
#[tokio::test]
async fn exit_of_the_init_process_is_told_after_those_of_its_execs_which_it_ends() {
    let dir = TestDir::new();
    let containerd = Containerd::listen(&dir).await;
    let bundle = dir.bundle("a", None, IDLE);
    let api = Api::connect(&dir.address("a"), V3).await;
    api.create(&bundle, "a").await.expect("create");
    api.start("a").await.expect("start");
    let mut pids = Vec::new();
    for exec_id in ["one", "two", "three"] {
        api.add_exec("a", exec_id, IDLE).await.expect("exec");
        pids.push(api.start_exec("a", exec_id).await.expect("start"));
    }
    api.kill("a", KILL).await.expect("kill");
    assert_eq!(api.wait("a").await, Ok(137));
    for exec_id in ["one", "two", "three"] {
        assert_eq!(api.wait_exec("a", exec_id).await, Ok(137));
    }
    eventually("all exits are told", || containerd.exits().len() == 4).await;
    assert_eq!(containerd.exits().last().expect("four"), "a");
    assert!(!pids.into_iter().any(running));
    api.delete("a").await.expect("delete");
    api.shutdown("a").await;
    containerd.stop().await;
}

/// The words are what Docker makes 127 of.
#[tokio::test]
async fn exec_that_cannot_start_says_why_in_runcs_words_and_can_be_deleted() {
    let dir = TestDir::new();
    let containerd = Containerd::listen(&dir).await;
    let bundle = dir.bundle("a", None, IDLE);
    let api = Api::connect(&dir.address("a"), V3).await;
    api.create(&bundle, "a").await.expect("create");
    api.start("a").await.expect("start");
    api.add_exec("a", "e", "missing").await.expect("exec");
    let waiter = api.clone();
    let wait = tokio::spawn(async move { waiter.wait_exec("a", "e").await });
    let (code, words) = api.start_exec("a", "e").await.expect_err("missing");
    assert_eq!(code, Code::UNKNOWN);
    assert_eq!(
        words,
        "OCI runtime exec failed: exec failed: unable to start container process: exec: \"x\": \
         executable file not found in $PATH"
    );
    assert_eq!(wait.await.expect("join"), Ok(255));
    api.delete_exec("a", "e").await.expect("delete");
    api.kill("a", KILL).await.expect("kill");
    api.wait("a").await.expect("wait");
    // It was never started, so no exit of it is told.
    containerd
        .expect(&["create", "start", "exec-added", "exit"])
        .await;
    assert_eq!(containerd.exits(), ["a"]);
    api.delete("a").await.expect("delete");
    api.shutdown("a").await;
    containerd.stop().await;
}

/// runc's shim answers a signal when the start has ended. Here it is kept for the process.
#[tokio::test]
async fn signal_that_comes_while_an_exec_is_started_is_not_lost() {
    let dir = TestDir::new();
    let bundle = dir.bundle("a", None, IDLE);
    let api = Api::connect(&dir.address("a"), V3).await;
    api.create(&bundle, "a").await.expect("create");
    api.start("a").await.expect("start");
    let wait = bundle.join("wait");
    fs::write(&wait, "").expect("write");
    api.add_exec("a", "e", IDLE).await.expect("exec");
    let start = {
        let api = api.clone();
        tokio::spawn(async move { api.start_exec("a", "e").await })
    };
    eventually("the runner works on it", || bundle.join("waits").exists()).await;
    api.kill_exec("a", "e", TERM).await.expect("kill");
    fs::remove_file(wait).expect("remove");
    start.await.expect("join").expect("start");
    assert_eq!(api.wait_exec("a", "e").await, Ok(143));
    api.delete_exec("a", "e").await.expect("delete");
    api.end("a").await;
}

/// As a kubelet does after the time-out of a probe.
#[tokio::test]
async fn exec_whose_start_hangs_is_killed_and_holds_nothing_up() {
    let dir = TestDir::new();
    let bundle = dir.bundle("a", None, IDLE);
    let api = Api::connect(&dir.address("a"), V3).await;
    api.create(&bundle, "a").await.expect("create");
    api.start("a").await.expect("start");
    for exec_id in ["one", "two"] {
        api.add_exec("a", exec_id, "hangs").await.expect("exec");
    }
    let starts = ["one", "two"].map(|exec_id| {
        let api = api.clone();
        tokio::spawn(async move { api.start_exec("a", exec_id).await })
    });
    // Others go on meanwhile.
    api.add_exec("a", "quick", "exit 3").await.expect("exec");
    api.start_exec("a", "quick").await.expect("start");
    assert_eq!(api.wait_exec("a", "quick").await, Ok(3));
    let [one, two] = starts;
    loop {
        match api.kill_exec("a", "one", KILL).await {
            Ok(_) => break,
            // The request to start it has not arrived.
            Err((Code::FAILED_PRECONDITION, _)) => tokio::task::yield_now().await,
            Err(error) => panic!("{error:?}"),
        }
    }
    let (code, words) = one.await.expect("join").expect_err("killed");
    assert_eq!(code, Code::CANCELLED, "{words}");
    assert_eq!(api.wait_exec("a", "one").await, Ok(137));
    api.delete_exec("a", "one").await.expect("delete");
    // The end of the container ends the other.
    api.kill("a", KILL).await.expect("kill");
    assert_eq!(api.wait("a").await, Ok(137));
    two.await.expect("join").expect_err("killed");
    api.delete("a").await.expect("delete");
    api.shutdown("a").await;
}

#[tokio::test]
async fn many_execs_run_at_once_and_each_has_its_own_status() {
    let dir = TestDir::new();
    let bundle = dir.bundle("a", None, IDLE);
    let api = Api::connect(&dir.address("a"), V3).await;
    api.create(&bundle, "a").await.expect("create");
    api.start("a").await.expect("start");
    let execs = (0..30).map(|number| {
        let api = api.clone();
        tokio::spawn(async move {
            let exec_id = format!("e{number}");
            let script = format!("exit {number}");
            api.add_exec("a", &exec_id, &script).await.expect("exec");
            api.start_exec("a", &exec_id).await.expect("start");
            let status = api.wait_exec("a", &exec_id).await;
            api.delete_exec("a", &exec_id).await.expect("delete");
            status
        })
    });
    let execs: Vec<_> = execs.collect();
    for (number, exec) in (0..).zip(execs) {
        assert_eq!(exec.await.expect("join"), Ok(number));
    }
    api.end("a").await;
}

#[tokio::test]
async fn pids_name_the_execs() {
    let cgroup = TestCgroup::of_mib(64);
    let dir = TestDir::new();
    let bundle = dir.bundle("a", None, "read line");
    cgroup.hold(&bundle);
    let stdin = dir.fifo("in");
    let api = Api::connect(&dir.address("a"), V3).await;
    let request = api::CreateTaskRequest {
        stdin: stdin.display().to_string(),
        ..Default::default()
    };
    let init = api
        .create_with(&bundle, "a", request)
        .await
        .expect("create");
    api.start("a").await.expect("start");
    let request = api::ExecProcessRequest {
        stdin: stdin.display().to_string(),
        ..Default::default()
    };
    api.add_exec_with("a", "e", "read line", request)
        .await
        .expect("exec");
    let exec = api.start_exec("a", "e").await.expect("start");
    let request = api::PidsRequest {
        id: "a".to_owned(),
        ..Default::default()
    };
    let answer: api::PidsResponse = api.call("Pids", &request).await.expect("pids");
    let of = |pid| answer.processes.iter().find(|process| process.pid == pid);
    assert!(of(init).expect("the init process").info.is_none());
    let info = of(exec).expect("the exec").info.clone();
    let info = info.into_option().expect("details");
    assert_eq!(info.type_url, "containerd.runc.v1.ProcessDetails");
    let details = ProcessDetails::parse_from_bytes(&info.value).expect("decode");
    assert_eq!(details.exec_id, "e");
    api.end("a").await;
}

/// An exit and its status do not wait for the end of the output.
#[tokio::test]
async fn grandchild_that_holds_stdout_does_not_hold_the_exit_of_an_exec() {
    let dir = TestDir::new();
    let bundle = dir.bundle("a", None, IDLE);
    let [stdout, hold] = ["out", "hold"].map(|name| dir.fifo(name));
    let out = read_to_end(stdout.clone());
    let api = Api::connect(&dir.address("a"), V3).await;
    api.create(&bundle, "a").await.expect("create");
    api.start("a").await.expect("start");
    let request = api::ExecProcessRequest {
        stdout: stdout.display().to_string(),
        ..Default::default()
    };
    let script = format!("read line <{} & echo said", hold.display());
    api.add_exec_with("a", "e", &script, request)
        .await
        .expect("exec");
    api.start_exec("a", "e").await.expect("start");
    assert_eq!(api.wait_exec("a", "e").await, Ok(0));
    api.delete_exec("a", "e").await.expect("delete");
    assert!(!out.is_finished());
    fs::write(&hold, "go\n").expect("end the grandchild");
    assert_eq!(out.join().expect("join"), "said\n");
    api.end("a").await;
}
