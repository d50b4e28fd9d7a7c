//! The delete action: of a container, of a pod, beside a living server.

use std::{fs, path::Path};

use super::{IDLE, kill};
use crate::harness::{Api, KILL, TestDir, V3, eventually, running};

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
