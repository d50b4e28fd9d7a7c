//! The start action and the servers that it leaves: forms, versions, the end of a pod's server.

use std::{fs, path::Path, time::Duration};

use containerd_shim_protos::{api, bootstrap_api::BootstrapResult, protobuf::Message};

use super::{IDLE, catches};
use crate::harness::{
    Api, Containerd, StartForm, TERM, TestDir, V2, V3, ended, eventually, running,
};

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
