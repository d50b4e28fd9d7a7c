//! The few things that the agent reads and writes in Kubernetes: its node, the ConfigMap, events. Called by
//! `agent`; decides nothing.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Node, ObjectReference};
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource};
use serde_json::{Value, json};
use tracing::warn;
use wasm_interp_workload::{shortened, with_causes};

use crate::names::{CONTROLLER, READY_LABEL, STATE_ANNOTATION};
use crate::state::{Phase, State};

/// An answer takes milliseconds; an API server under load some seconds.
const ANSWER: Duration = Duration::from_secs(30);
/// As much as an event's note holds, in bytes.
const LONGEST_NOTE: usize = 1024;

/// Kubernetes did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    #[error("cannot {act}")]
    Api {
        act: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("cannot {act}: the API server did not answer within {} s", ANSWER.as_secs())]
    Slow { act: String },
}

/// Waits for an answer of the API server, but not for ever. `act` is the error's text.
pub(crate) async fn ask<T>(
    act: impl Into<String>,
    answer: impl Future<Output = kube::Result<T>>,
) -> Result<T, ClusterError> {
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(ClusterError::Api {
            act: act.into(),
            source: Box::new(source),
        }),
        Err(_) => Err(ClusterError::Slow { act: act.into() }),
    }
}

/// What becomes of the label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    Set,
    Remove,
    Keep,
}

/// One node's view of the cluster.
pub(crate) struct Cluster {
    nodes: Api<Node>,
    node: String,
    maps: Api<ConfigMap>,
    map: String,
    client: Client,
    reporter: Reporter,
}

impl Cluster {
    pub(crate) fn new(
        client: &Client,
        node: &str,
        namespace: &str,
        map: &str,
        pod: Option<String>,
    ) -> Self {
        let reporter = Reporter {
            controller: CONTROLLER.to_owned(),
            instance: Some(pod.unwrap_or_else(|| node.to_owned())),
        };
        Self {
            nodes: Api::all(client.clone()),
            node: node.to_owned(),
            maps: Api::namespaced(client.clone(), namespace),
            map: map.to_owned(),
            client: client.clone(),
            reporter,
        }
    }

    /// The node as it is now.
    pub(crate) async fn node(&self) -> Result<Node, ClusterError> {
        ask(
            format!("read node {}", self.node),
            self.nodes.get(&self.node),
        )
        .await
    }

    /// The ConfigMap as it is now; `None` while the release is being made or deleted.
    pub(crate) async fn map(&self) -> Result<Option<ConfigMap>, ClusterError> {
        ask(
            format!("read ConfigMap {}", self.map),
            self.maps.get_opt(&self.map),
        )
        .await
    }

    /// Writes what is not so yet, and an event if the phase is another.
    pub(crate) async fn say(
        &self,
        node: &Node,
        state: &State,
        label: Label,
    ) -> Result<(), ClusterError> {
        let before = State::of(node);
        let labelled = crate::state::is_labelled(node);
        let mut metadata = json!({});
        match label {
            Label::Set if !labelled => metadata["labels"] = json!({ READY_LABEL: "true" }),
            Label::Remove if labelled => metadata["labels"] = json!({ READY_LABEL: null }),
            _ => {}
        }
        if before.as_ref() != Some(state) {
            metadata["annotations"] = json!({ STATE_ANNOTATION: json!(state).to_string() });
        }
        self.patch(metadata).await?;
        let phase = before.map(|before| before.phase);
        if phase != Some(state.phase) {
            let kind = match state.phase {
                Phase::Failed | Phase::InUse => EventType::Warning,
                _ => EventType::Normal,
            };
            self.publish(
                node,
                kind,
                &format!("WasmInterp{:?}", state.phase),
                &state.message,
            )
            .await;
        }
        Ok(())
    }

    /// Takes label and annotation away: nothing of ours is on the node any more.
    pub(crate) async fn forget(&self, node: &Node, message: &str) -> Result<(), ClusterError> {
        self.patch(json!({
            "labels": { READY_LABEL: null },
            "annotations": { STATE_ANNOTATION: null },
        }))
        .await?;
        self.publish(node, EventType::Normal, "WasmInterpUninstalled", message)
            .await;
        Ok(())
    }

    async fn patch(&self, metadata: Value) -> Result<(), ClusterError> {
        if metadata.as_object().is_none_or(serde_json::Map::is_empty) {
            return Ok(());
        }
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        let parameters = PatchParams {
            field_manager: Some(CONTROLLER.to_owned()),
            ..PatchParams::default()
        };
        let act = format!("label and annotate node {}", self.node);
        ask(
            act,
            self.nodes.patch_metadata(&self.node, &parameters, &patch),
        )
        .await?;
        Ok(())
    }

    /// An event is for people: that it cannot be written stops nothing.
    pub(crate) async fn publish(&self, node: &Node, kind: EventType, reason: &str, note: &str) {
        let regarding = ObjectReference {
            namespace: None,
            ..node.object_ref(&())
        };
        let event = Event {
            type_: kind,
            reason: reason.to_owned(),
            note: Some(shortened(note, LONGEST_NOTE)),
            action: "Provision".to_owned(),
            secondary: None,
        };
        let act = format!("write the event {reason}");
        // One for each event: it patches what it has published before, which is a right that nobody needs for as few
        // events as these.
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        if let Err(error) = ask(act, recorder.publish(&event, &regarding)).await {
            warn!("{}", with_causes(&error));
        }
    }
}
