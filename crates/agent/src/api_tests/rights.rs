//! The rights of an agent's service account, under the chart's RBAC rules and admission policy.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::server::{AGENT, CONFIG_MAP, NAMESPACE, NodeReady, TestServer, eventually};
use crate::names::{READY_LABEL, STATE_ANNOTATION};

/// Patches a Node. The error is the API server's message.
async fn patch(client: &Client, node: &str, patch: Value) -> Result<(), String> {
    let nodes: Api<Node> = Api::all(client.clone());
    match nodes
        .patch(node, &PatchParams::default(), &Patch::Merge(patch))
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => Err(status.message),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn agent_may_change_two_keys_of_its_own_node_only() {
    let server = TestServer::fresh().await;
    let (own, other) = (
        server.add_node(NodeReady::True).await,
        server.add_node(NodeReady::True).await,
    );
    let client = server.client_on(&own).await;

    // The admission policy is in force a moment after it was created.
    let foreign = json!({ "metadata": { "labels": { "foreign": "1" } } });
    eventually("the admission policy to refuse a label", async || {
        let is_refused = patch(&client, &own, foreign.clone()).await.is_err();
        if !is_refused {
            let undo = Patch::Merge(json!({ "metadata": { "labels": { "foreign": null } } }));
            let undone = server
                .nodes
                .patch(&own, &PatchParams::default(), &undo)
                .await;
            undone.unwrap();
        }
        is_refused
    })
    .await;

    let ours = |value: Value| {
        let (labels, annotations) = (
            json!({ READY_LABEL: value }),
            json!({ STATE_ANNOTATION: value }),
        );
        json!({ "metadata": { "labels": labels, "annotations": annotations } })
    };
    assert_eq!(patch(&client, &own, ours(json!("true"))).await, Ok(()));
    assert_eq!(patch(&client, &own, ours(json!("false"))).await, Ok(()));
    assert_eq!(patch(&client, &own, ours(json!(null))).await, Ok(()));

    let refused = [
        (&other, ours(json!("true")), "must not change node"),
        (&own, foreign, "another label"),
        (
            &own,
            json!({ "metadata": { "labels": { "zone": "b" } } }),
            "another label",
        ),
        (
            &own,
            json!({ "metadata": { "labels": { "zone": null } } }),
            "another label",
        ),
        (
            &own,
            json!({ "metadata": { "labels": { "wasm-interp.io/ready2": "1" } } }),
            "another label",
        ),
        (
            &own,
            json!({ "metadata": { "annotations": { "note": "c" } } }),
            "another annotation",
        ),
        (
            &own,
            json!({ "metadata": { "annotations": { "note": null } } }),
            "another annotation",
        ),
        (
            &own,
            json!({ "metadata": { "finalizers": ["example.com/never"] } }),
            "finalizers",
        ),
        (
            &own,
            json!({ "spec": { "taints": [{ "key": "k", "effect": "NoExecute" }] } }),
            "taints",
        ),
        (&own, json!({ "spec": { "unschedulable": true } }), "taints"),
    ];
    for (node, change, text) in refused {
        let error = patch(&client, node, change.clone())
            .await
            .expect_err(&change.to_string());
        assert!(error.contains(text), "{change}: {error}");
    }
    // A token that names no node changes none.
    let unbound = server.unbound_client(AGENT).await;
    let error = patch(&unbound, &own, ours(json!("true")))
        .await
        .unwrap_err();
    assert!(error.contains("must not change node"), "{error}");
}

#[tokio::test]
#[ignore = "needs an API server: make test-api"]
async fn agent_has_no_other_rights() {
    let server = TestServer::fresh().await;
    let own = server.add_node(NodeReady::True).await;
    let client = server.client_on(&own).await;
    let (here, all) = (NAMESPACE, ListParams::default());
    let nodes: Api<Node> = Api::all(client.clone());
    let pods: Api<Pod> = Api::namespaced(client.clone(), here);
    let status = Patch::Merge(json!({ "status": { "conditions": [] } }));
    let events: Api<Event> = Api::namespaced(client.clone(), "default");
    let note = Patch::Merge(json!({ "metadata": { "annotations": { "note": "x" } } }));
    let containers = json!([{ "name": "x", "image": "x" }]);
    let new_pod = json!({ "metadata": { "name": "x" }, "spec": { "containers": containers } });
    let new_pod = serde_json::from_value(new_pod).unwrap();
    let refused = [
        ("list nodes", nodes.list(&all).await.err()),
        (
            "delete its node",
            nodes.delete(&own, &DeleteParams::default()).await.err(),
        ),
        (
            "patch its node's status",
            nodes
                .patch_status(&own, &PatchParams::default(), &status)
                .await
                .err(),
        ),
        ("list pods", pods.list(&all).await.err()),
        (
            "create a pod",
            pods.create(&PostParams::default(), &new_pod).await.err(),
        ),
        (
            "list secrets",
            Api::<Secret>::namespaced(client.clone(), here)
                .list(&all)
                .await
                .err(),
        ),
        (
            "list ConfigMaps",
            Api::<ConfigMap>::namespaced(client.clone(), here)
                .list(&all)
                .await
                .err(),
        ),
        (
            "read the Lease of a kubelet",
            Api::<Lease>::namespaced(client.clone(), "kube-node-lease")
                .get(&own)
                .await
                .err(),
        ),
        (
            "create a Lease",
            Api::<Lease>::namespaced(client.clone(), here)
                .create(&PostParams::default(), &Lease::default())
                .await
                .err(),
        ),
        ("list events", events.list(&all).await.err()),
        (
            "change an event",
            events
                .patch("any", &PatchParams::default(), &note)
                .await
                .err(),
        ),
        (
            "change another ConfigMap",
            Api::<ConfigMap>::namespaced(client.clone(), here)
                .patch("other", &PatchParams::default(), &note)
                .await
                .err(),
        ),
        (
            "change its ConfigMap",
            Api::<ConfigMap>::namespaced(client.clone(), here)
                .patch(CONFIG_MAP, &PatchParams::default(), &note)
                .await
                .err(),
        ),
    ];
    for (what, error) in refused {
        let Some(kube::Error::Api(status)) = error else {
            panic!("may {what}: {error:?}")
        };
        assert_eq!(status.code, 403, "{what}: {status:?}");
    }
}
