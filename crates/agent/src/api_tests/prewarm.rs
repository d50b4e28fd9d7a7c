//! Prewarming, which does not delay or change the readiness of a node.

use k8s_openapi::api::core::v1::Node;

use super::fake_node::{FakeJobs, HeldJobs, PrewarmEnd};
use super::server::{Checks, Hook, NodeReady, TestServer, eventually, phase};
use crate::node_state::{NodeState, Phase, is_labelled};

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn node_is_ready_before_prewarming_and_after_its_failure() {
    let server = TestServer::fresh().await;
    let node = FakeJobs::new(|script| {
        script.held = HeldJobs::Prewarming;
        script.prewarm = PrewarmEnd::Fails("cannot prewarm 1 of 2 images: b: no such image");
    });
    let name = server.add_node(NodeReady::True).await;
    let images = ["--prewarm", "a", "--prewarm", "b"];
    let agent = server
        .start_on(name, node.clone(), Checks::EverySecond, &images)
        .await;
    server.until_ready(&agent.name).await;
    let message = |node: &Node| NodeState::of(node).unwrap().message;

    node.with(|script| script.held = HeldJobs::None);
    let reports_failure = |node: &Node| message(node).contains("b: no such image");
    let reported = server
        .until(&agent.name, "reporting the failure", reports_failure)
        .await;
    assert!(is_labelled(&reported), "the failure removes no label");
    assert_eq!(phase(&reported), Some(Phase::Ready));

    // The agent tries again until prewarming succeeds.
    node.with(|script| script.prewarm = PrewarmEnd::Succeeds);
    let succeeded = server
        .until(&agent.name, "without failure", |node| {
            !reports_failure(node)
        })
        .await;
    assert_eq!(message(&succeeded), "runs Wasm pods");
    let attempts = node.with(|script| script.prewarmed.clone());
    assert!(attempts.len() > 1 && attempts.iter().all(|images| images == &["a", "b"]));
    let events = server.events(&agent.name).await;
    for reason in ["WasmInterpPrewarmFailed", "WasmInterpPrewarmed"] {
        assert!(
            events.iter().any(|event| event == reason),
            "{reason} in {events:?}"
        );
    }

    // An uninstall removes the native code, so the images are prewarmed again.
    server.uninstall(Hook::new("one")).await.unwrap();
    server.withdraw_request().await;
    server.until_ready(&agent.name).await;
    eventually("the images to be prewarmed again", async || {
        node.with(|script| script.prewarmed.len()) > attempts.len()
    })
    .await;
}
