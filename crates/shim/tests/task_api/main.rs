//! The shim's executable over ttrpc, without containerd: forms of start, verbs, errors, events, removal.

// Other tests use the rest of it.
#[allow(dead_code)]
#[path = "../harness/mod.rs"]
mod harness;

mod delete_action;
mod start;
mod verbs;

use std::{fs, io::Write, time::Duration};

use containerd_shim_protos::{api, ttrpc::Code};

use harness::{
    Api, Containerd, KILL, TestCgroup, TestDir, V3, ended, eventually, open_files, open_stdin,
    read_to_end, running,
};

/// Runs until TERM, and exits with 143 then.
const IDLE: &str = "trap 'exit 143' TERM; while :; do sleep 0.02; done";

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

/// The container then ends by itself, so the termination log stays empty. The kernel may not take the shell for what it kills.
#[tokio::test]
async fn each_out_of_memory_kill_is_published_while_the_container_runs() {
    let cgroup = TestCgroup::of_mib(17);
    let dir = TestDir::new();
    let containerd = Containerd::listen(&dir).await;
    let victim = format!("(echo 1000 >/proc/self/oom_score_adj; {OUT_OF_MEMORY})\nread line\n");
    let script = format!("echo -1000 >/proc/self/oom_score_adj\n{victim}{victim}exit 0");
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
        // Or the kernel would have to kill the shell, for the next subshell.
        eventually("the killed subshell gives its memory back", || {
            cgroup.usage() < 8 << 20
        })
        .await;
        client.write_all(b"go on\n").expect("write");
    }
    assert_eq!(api.wait("a").await, Ok(0));
    eventually("the exit is told", || {
        containerd
            .topics()
            .last()
            .is_some_and(|last| last == "exit")
    })
    .await;
    let mut topics = containerd.topics();
    // The kernel may kill more than one process for a subshell.
    assert!(topics.iter().filter(|topic| *topic == "oom").count() >= 2);
    topics.dedup();
    assert_eq!(topics, ["create", "start", "oom", "exit"]);
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

/// A volume may never answer. Other containers of the pod go on meanwhile.
#[tokio::test]
async fn create_that_hangs_is_ended_when_it_is_cancelled_and_holds_nothing_up() {
    let dir = TestDir::new();
    let sandbox = dir.bundle("pod", Some("pod"), IDLE);
    let hanging = dir.bundle("c", Some("pod"), IDLE);
    // It stays, so that the runner never ends by itself.
    fs::write(hanging.join("slow"), "").expect("write");
    let address = dir.address("pod");
    assert_eq!(dir.address("c"), address);
    let api = Api::connect(&address, V3).await;
    let shim = api.connect_pids("pod").await.shim_pid;
    api.create(&sandbox, "pod").await.expect("create");
    api.start("pod").await.expect("start");
    let create = {
        let api = api.clone();
        tokio::spawn(async move { api.create(&hanging, "c").await })
    };
    eventually("the runner is called", || dir.calls("c") == ["create"]).await;
    let script = "sleep 0.05 & exit 3";
    api.add_exec("pod", "e", script).await.expect("exec");
    api.start_exec("pod", "e").await.expect("start");
    assert_eq!(api.wait_exec("pod", "e").await, Ok(3));
    api.delete_exec("pod", "e").await.expect("delete");
    // What it left behind is the shim's child, running or not, until it is reaped.
    eventually("only the init process and the runner are left", || {
        children(shim) == 2
    })
    .await;
    // In this way containerd cancels a creation.
    let (code, _) = api.delete("c").await.expect_err("it is not created");
    assert_eq!(code, Code::NOT_FOUND);
    let (_, words) = create.await.expect("join").expect_err("cancelled");
    assert!(words.contains("cancelled"), "{words}");
    assert_eq!(dir.calls("c"), ["create", "delete"]);
    assert!(!dir.path("c").join("runner").exists());
    eventually("the runner is reaped", || children(shim) == 1).await;
    api.end("pod").await;
    ended(&address, shim).await;
}

/// How many children the process has, zombies too.
fn children(pid: u32) -> usize {
    let parent = |entry: fs::DirEntry| {
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // Behind the name, which may hold anything: the state, then the parent.
        let (_, rest) = stat.rsplit_once(") ")?;
        rest.split(' ').nth(1)?.parse::<u32>().ok()
    };
    let processes = fs::read_dir("/proc").expect("/proc");
    let processes = processes.filter_map(|entry| parent(entry.expect("entry")));
    processes.filter(|&parent| parent == pid).count()
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
