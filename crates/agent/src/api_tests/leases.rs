//! The Leases that limit how many nodes restart containerd at the same time.

use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::json;

use super::fake_node::{FakeJobs, Health, HeldJobs};
use super::server::{Checks, LEASE, NodeReady, TestServer, eventually};
use crate::node_state::Phase;

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn nodes_restart_containerd_one_after_another() {
    let server = TestServer::fresh().await;
    // Both agents use one fake node, which counts the installations that run at the same time. The second agent must not
    // check the node again while it waits.
    let node = FakeJobs::new(|script| script.held = HeldJobs::Changes);
    let start = async || {
        let name = server.add_node(NodeReady::True).await;
        server
            .start_on(name, node.clone(), Checks::AfterChanges, &[])
            .await
    };
    let first = start().await;
    server.until_phase(&first.name, Phase::Installing).await;
    let second = start().await;
    server.until_phase(&second.name, Phase::Waiting).await;
    // The second agent must install too, and not find the first one's result.
    node.with(|script| {
        script.held = HeldJobs::None;
        script.health = Health::NotInstalled;
    });
    server.until_ready(&first.name).await;
    server.until_ready(&second.name).await;
    let counts = node.with(|script| (script.installs, script.most_running_installs));
    assert_eq!(counts, (2, 1));
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn agent_that_cannot_read_its_node_releases_its_lease() {
    let server = TestServer::fresh().await;
    let other = json!({ "spec": { "holderIdentity": "another" } });
    server.patch_lease(other).await;
    // The agent waits for the Lease, and reads nothing else meanwhile.
    let name = server.add_node(NodeReady::True).await;
    let agent = server
        .start_on(name, FakeJobs::default(), Checks::AfterChanges, &[])
        .await;
    server.until_phase(&agent.name, Phase::Waiting).await;
    server
        .nodes
        .delete(&agent.name, &DeleteParams::default())
        .await
        .unwrap();
    let free = server.patch_lease(json!({ "spec": null })).await;
    eventually("the Lease to be acquired and released", async || {
        let lease = server.leases().get(LEASE).await.unwrap();
        let holder = lease.spec.as_ref();
        let holder = holder.and_then(|spec| spec.holder_identity.as_ref());
        holder.is_none() && lease.resource_version() != free.resource_version()
    })
    .await;
}
