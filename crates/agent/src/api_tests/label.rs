//! When a node has the label: at installation, when its runtime breaks, and during an upgrade.

use std::path::PathBuf;

use kube::ResourceExt;
use wasm_interp_node::InstalledRelease;

use super::fake_node::{
    ConfiguredRelease, FakeJobs, Health, HeldJobs, InstallEnd, ROLLED_BACK, Reports, pod,
};
use super::server::{Checks, NodeReady, TestServer, eventually, phase};
use crate::desired_state::now_unix;
use crate::node_state::{NodeState, Phase, is_labelled};

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn node_gets_its_label_only_when_the_runtime_works() {
    let server = TestServer::fresh().await;
    let node = FakeJobs::new(|script| script.install = InstallEnd::RollsBack);
    let agent = server.start(node.clone()).await;
    let failed = server.until_phase(&agent.name, Phase::Failed).await;
    assert!(!is_labelled(&failed));
    let message = NodeState::of(&failed).unwrap().message;
    assert!(message.contains(ROLLED_BACK), "{message}");

    // The fault is repaired, and a change of the ConfigMap ends the pause.
    node.with(|script| script.install = InstallEnd::Succeeds);
    server.trigger_checks().await;
    let ready = server.until_ready(&agent.name).await;
    assert_eq!(ready.labels()["zone"], "a", "other labels stay");
    let lease = server.patch_lease(serde_json::json!({})).await;
    let holder = lease.spec.and_then(|spec| spec.holder_identity);
    assert_eq!(holder, None, "the Lease is released");
    let events = server.events(&agent.name).await;
    for reason in [
        "WasmInterpPreparing",
        "WasmInterpInstalling",
        "WasmInterpFailed",
        "WasmInterpReady",
    ] {
        assert!(
            events.iter().any(|event| event == reason),
            "{reason} in {events:?}"
        );
    }
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn node_that_breaks_loses_its_label_and_is_repaired() {
    let server = TestServer::fresh().await;
    let node = FakeJobs::default();
    let agent = server.start(node.clone()).await;
    server.until_ready(&agent.name).await;
    node.with(|script| {
        script.health = Health::NotListed;
        script.held = HeldJobs::Changes;
    });
    server.until_unlabelled(&agent.name).await;
    node.with(|script| script.held = HeldJobs::None);
    server.until_ready(&agent.name).await;
    assert_eq!(node.with(|script| script.installs), 2);
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn listed_handler_that_runs_nothing_keeps_no_label() {
    let server = TestServer::fresh().await;
    let node = FakeJobs::default();
    let agent = server.start(node.clone()).await;
    server.until_ready(&agent.name).await;
    node.with(|script| {
        script.health = Health::RunsNothing;
        script.install = InstallEnd::RollsBack;
    });
    server
        .until(&agent.name, "failed without label", |node| {
            !is_labelled(node) && phase(node) == Some(Phase::Failed)
        })
        .await;
    // Nor does the node get the label while pods prevent an uninstall.
    node.with(|script| script.containers = vec![pod("shop/worker-1")]);
    server.request("one", "release", now_unix() + 600).await;
    let in_use = server.until_phase(&agent.name, Phase::InUse).await;
    assert!(!is_labelled(&in_use));
    node.with(|script| {
        script.containers.clear();
        script.install = InstallEnd::Succeeds;
    });
    server.withdraw_request().await;
    server.until_ready(&agent.name).await;
    // The agent creates a new event each time, and changes none.
    let events = server.events(&agent.name).await;
    let ready = events.iter().filter(|event| *event == "WasmInterpReady");
    assert_eq!(ready.count(), 2, "{events:?}");
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn policy_that_cannot_be_written_does_not_hide_a_broken_runtime() {
    let server = TestServer::fresh().await;
    let node = FakeJobs::default();
    let agent = server.start(node.clone()).await;
    server.until_ready(&agent.name).await;
    node.with(|script| script.policy_error = Some("the node has a policy of its own"));
    let failed = server.until_phase(&agent.name, Phase::Failed).await;
    assert!(is_labelled(&failed), "the runtime works as before");
    node.with(|script| script.health = Health::RunsNothing);
    server.trigger_checks().await;
    server.until_unlabelled(&agent.name).await;
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn unknown_health_keeps_label_for_three_checks() {
    let server = TestServer::fresh().await;
    let node = FakeJobs::default();
    let name = server.add_node(NodeReady::True).await;
    let agent = server
        .start_on(name, node.clone(), Checks::AfterChanges, &[])
        .await;
    server.until_ready(&agent.name).await;
    let before = node.with(|script| {
        script.reports = Reports::AreLost;
        script.verifies
    });
    let checks = || node.with(|script| script.verifies) - before;
    eventually("the label to be removed", async || {
        server.trigger_checks().await;
        let checks = checks();
        let is_labelled = is_labelled(&server.node(&agent.name).await);
        assert!(!is_labelled || checks <= 4, "labelled after check {checks}");
        !is_labelled
    })
    .await;
    assert!(checks() >= 4, "the label is removed too early");
    node.with(|script| script.reports = Reports::Arrive);
    server.trigger_checks().await;
    server.until_ready(&agent.name).await;
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn failed_upgrade_keeps_the_label_only_if_the_older_release_works() {
    let server = TestServer::fresh().await;
    for install in [InstallEnd::RollsBack, InstallEnd::RollsBackBroken] {
        let node = FakeJobs::new(|script| {
            script.health = Health::Works;
            script.release = ConfiguredRelease::Older;
            script.install = install;
        });
        let name = server.add_labelled_node().await;
        let agent = server
            .start_on(name, node.clone(), Checks::EverySecond, &[])
            .await;
        let failed = server
            .until(&agent.name, "failed", |node| {
                NodeState::of(node).is_some_and(|state| state.message.contains(ROLLED_BACK))
            })
            .await;
        assert_eq!(is_labelled(&failed), install == InstallEnd::RollsBack);
        // The node is checked also during the pause before the next attempt.
        node.with(|script| script.health = Health::RunsNothing);
        server.until_unlabelled(&agent.name).await;
        assert_eq!(node.with(|script| script.installs), 1);
    }
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn older_release_serves_during_an_upgrade() {
    let server = TestServer::fresh().await;
    let node = FakeJobs::new(|script| {
        script.health = Health::Works;
        script.release = ConfiguredRelease::Older;
        script.held = HeldJobs::Changes;
    });
    let name = server.add_labelled_node().await;
    let agent = server
        .start_on(name, node.clone(), Checks::EverySecond, &[])
        .await;
    let installing = server.until_phase(&agent.name, Phase::Installing).await;
    assert!(is_labelled(&installing), "pods are still scheduled");
    node.with(|script| script.held = HeldJobs::None);
    server.until_ready(&agent.name).await;
    let end = node.with(|script| (script.installs, script.release));
    assert_eq!(end, (1, ConfiguredRelease::Own));
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn older_release_is_removed_once_it_is_not_in_use() {
    let older = |in_use| InstalledRelease {
        folder: PathBuf::from("/opt/wasm-interp/1"),
        in_use,
        pids: Vec::new(),
    };
    let server = TestServer::fresh().await;
    let node = FakeJobs::new(|script| script.other_releases = vec![older(true)]);
    let agent = server.start(node.clone()).await;
    server.until_ready(&agent.name).await;
    let before = node.with(|script| (script.installs, script.other_releases.len()));
    assert_eq!(before, (1, 1));
    node.with(|script| script.other_releases = vec![older(false)]);
    eventually("the older release to be removed", async || {
        node.with(|script| script.other_releases.is_empty())
    })
    .await;
    server.until_ready(&agent.name).await;
    assert_eq!(node.with(|script| script.installs), 2, "and no third time");
}
