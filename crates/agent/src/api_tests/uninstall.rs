//! The uninstall hook, and what agents do for its request.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use super::fake_node::{FakeJobs, Health, HeldJobs, NodeScript, UninstallEnd, pod};
use super::server::{CONFIG_MAP, Hook, NodeReady, Proxy, TestServer, eventually, phase};
use crate::desired_state::now_unix;
use crate::node_state::{Phase, is_labelled};
use crate::uninstall::UninstallError;

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn uninstall_leaves_nothing_on_any_node() {
    let server = TestServer::fresh().await;
    let agents = [
        server.start(FakeJobs::default()).await,
        server.start(FakeJobs::default()).await,
    ];
    for agent in &agents {
        server.until_ready(&agent.name).await;
    }
    // The hook does not wait for a node without the annotation.
    server.add_node(NodeReady::Unknown).await;
    server.uninstall(Hook::new("one")).await.unwrap();
    for agent in &agents {
        let node = server.node(&agent.name).await;
        let labels = BTreeMap::from([("zone".into(), "a".into())]);
        assert_eq!(node.labels(), &labels);
        let annotations = BTreeMap::from([("note".into(), "b".into())]);
        assert_eq!(node.annotations(), &annotations);
        let health = agent.node.with(|script| script.health);
        assert_eq!(health, Health::NotInstalled);
    }
    // A user without Helm has time to delete the release.
    let request = server.value("uninstall").await.unwrap();
    let request: Value = serde_json::from_str(&request).unwrap();
    assert!(request["expires_unix"].as_u64().unwrap() > now_unix() + 3000);
    // Agents do not install again while Helm deletes the release, the ConfigMap before the agents.
    let map = server.maps().get(CONFIG_MAP).await.unwrap();
    let deletion = DeleteParams::default();
    server.maps().delete(CONFIG_MAP, &deletion).await.unwrap();
    for agent in &agents {
        agent.rounds.until_another().await;
        assert_eq!(phase(&server.node(&agent.name).await), None);
    }
    // A second installation creates the ConfigMap again, with the first revision.
    let mut again = map;
    again.metadata = kube::core::ObjectMeta {
        name: Some(CONFIG_MAP.into()),
        labels: again.metadata.labels,
        annotations: again.metadata.annotations,
        ..Default::default()
    };
    again.data = Some(BTreeMap::from([("revision".into(), "1".into())]));
    server
        .maps()
        .create(&PostParams::default(), &again)
        .await
        .unwrap();
    for agent in &agents {
        server.until_ready(&agent.name).await;
    }
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn pod_on_one_node_stops_the_uninstall_on_all() {
    let server = TestServer::fresh().await;
    let free = server.start(FakeJobs::default()).await;
    let used = server.start(FakeJobs::default()).await;
    for agent in [&free, &used] {
        server.until_ready(&agent.name).await;
    }
    used.node
        .with(|script| script.containers = vec![pod("shop/worker-1"), pod("shop/worker-2")]);
    let error = server.uninstall(Hook::new("one")).await.unwrap_err();
    let error = error.to_string();
    let refusal = format!("node {}: in use by shop/worker-1, shop/worker-2", used.name);
    assert!(error.contains(&refusal), "{error}");
    assert!(!error.contains(&free.name), "{error}");
    // Both nodes are as before, and no job has changed them.
    for agent in [&free, &used] {
        server.until_ready(&agent.name).await;
        let node = agent.node.with(|script| (script.installs, script.health));
        assert_eq!(node, (1, Health::Works));
    }
    used.node.with(|script| script.containers.clear());
    server.uninstall(Hook::new("two")).await.unwrap();
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn refused_removal_gives_the_label_back_only_if_runtime_and_policy_are_right() {
    struct Case {
        prepare: fn(&mut NodeScript),
        end: Phase,
        labelled: bool,
    }
    let cases = [
        Case {
            prepare: |script| script.late_containers = vec![pod("shop/worker-1")],
            end: Phase::InUse,
            labelled: true,
        },
        Case {
            prepare: |script| {
                script.late_containers = vec![pod("shop/worker-1")];
                script.policy_error = Some("the node has a policy of its own");
            },
            end: Phase::InUse,
            labelled: false,
        },
        Case {
            prepare: |script| script.uninstall = UninstallEnd::Fails,
            end: Phase::Failed,
            labelled: false,
        },
    ];
    let server = TestServer::fresh().await;
    for case in cases {
        let agent = server.start(FakeJobs::default()).await;
        server.until_ready(&agent.name).await;
        agent.node.with(case.prepare);
        // Without a hook, the request stays until the test withdraws it.
        server.request("one", "remove", now_unix() + 600).await;
        let node = server
            .until(&agent.name, "replying", |node| {
                let state = crate::node_state::NodeState::of(node);
                state.is_some_and(|state| {
                    state.phase == case.end && state.request.as_deref() == Some("one")
                })
            })
            .await;
        assert_eq!(is_labelled(&node), case.labelled, "{:?}", case.end);
        server.withdraw_request().await;
    }
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn unreachable_node_is_named_or_skipped() {
    let server = TestServer::fresh().await;
    let agent = server.start(FakeJobs::default()).await;
    server.until_ready(&agent.name).await;
    agent.stop();
    server.set_ready(&agent.name, NodeReady::Unknown).await;
    let short = Hook::new("one").with_timeout(1);
    let error = server.uninstall(short).await.unwrap_err().to_string();
    assert!(
        error.contains(&agent.name) && error.contains("uninstall.skipUnreachable"),
        "{error}"
    );
    assert_eq!(server.value("uninstall").await, None, "it is withdrawn");
    let skipping = Hook::new("two").skipping_unreachable();
    server.uninstall(skipping).await.unwrap();
    let skipped = server.node(&agent.name).await;
    assert!(is_labelled(&skipped), "a skipped node is not changed");
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn restart_of_the_api_server_does_not_end_an_uninstall() {
    let server = TestServer::fresh().await;
    let agent = server.start(FakeJobs::default()).await;
    server.until_ready(&agent.name).await;
    let mut proxy = Proxy::open().await;
    agent.node.with(|script| script.held = HeldJobs::Changes);
    let hook = server.start_hook(Hook::new("one"), Some(&proxy)).await;
    server.until_phase(&agent.name, Phase::Uninstalling).await;
    proxy.close().await;
    hook.rounds.until_another().await;
    assert!(!hook.is_finished(), "{:?}", hook.end().await);
    proxy.reopen().await;
    agent.node.with(|script| script.held = HeldJobs::None);
    hook.end().await.unwrap();
    assert_eq!(phase(&server.node(&agent.name).await), None);
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn request_is_withdrawn_once_the_api_server_replies_again() {
    let server = TestServer::fresh().await;
    let agent = server.start(FakeJobs::default()).await;
    server.until_ready(&agent.name).await;
    agent.node.with(|script| script.held = HeldJobs::Changes);
    let mut proxy = Proxy::open().await;
    let limit = Duration::from_secs(8);
    let began = Instant::now();
    let hook = Hook::new("one").with_timeout(limit.as_secs());
    let hook = server.start_hook(hook, Some(&proxy)).await;
    server.until_phase(&agent.name, Phase::Uninstalling).await;
    proxy.close().await;
    // The time limit of the attempt ends before the API server replies again.
    eventually("the end of the attempt's time limit", async || {
        began.elapsed() > limit
    })
    .await;
    hook.rounds.until_another().await;
    assert!(server.value("uninstall").await.is_some());
    proxy.reopen().await;
    let error = hook.end().await.unwrap_err();
    assert!(matches!(error, UninstallError::KubeApi(_)), "{error}");
    assert_eq!(server.value("uninstall").await, None);
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn attempt_withdraws_only_its_own_request() {
    let server = TestServer::fresh().await;
    let agent = server.start(FakeJobs::default()).await;
    server.until_ready(&agent.name).await;
    agent.stop();
    // Longer than a test waits: it ends because of the second request.
    let first = Hook::new("first").with_timeout(3600);
    let first = server.start_hook(first, None).await;
    server.until_requested("first").await;
    // Helm gave up on the first attempt, and the user tried again.
    server.request("second", "release", now_unix() + 600).await;
    let error = first.end().await.unwrap_err().to_string();
    assert!(error.contains("another attempt, second"), "{error}");
    server.until_requested("second").await;

    // An attempt ends too if its request is withdrawn, or if an upgrade makes it void.
    for (change, why) in [
        (json!({ "uninstall": null }), "it was withdrawn"),
        (json!({ "revision": "other" }), "made it void"),
    ] {
        let before = server.value("revision").await;
        let hook = server.start_hook(Hook::new("third"), None).await;
        server.until_requested("third").await;
        server.patch_map(json!({ "data": change })).await;
        let error = hook.end().await.unwrap_err().to_string();
        server
            .patch_map(json!({ "data": { "revision": before } }))
            .await;
        assert!(error.contains(why), "{error}");
        assert_eq!(server.value("uninstall").await, None);
    }
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn request_expires_and_a_rollback_does_not_revive_it() {
    let server = TestServer::fresh().await;
    let agent = server.start(FakeJobs::default()).await;
    server.until_ready(&agent.name).await;
    server.request("killed", "release", now_unix() + 8).await;
    server.until_unlabelled(&agent.name).await;
    server.until_ready(&agent.name).await;

    // The hook was killed during the second step. Then the release was upgraded and rolled back.
    server.request("killed", "remove", now_unix() - 1).await;
    let before = server.value("revision").await;
    for revision in [Some("upgraded".to_owned()), before] {
        server
            .patch_map(json!({ "data": { "revision": revision } }))
            .await;
        agent.rounds.until_another().await;
        let node = server.node(&agent.name).await;
        assert!(is_labelled(&node) && phase(&node) == Some(Phase::Ready));
    }
    let end = agent.node.with(|script| (script.installs, script.health));
    assert_eq!(end, (1, Health::Works));
}
