//! The agent's requests to Kubernetes' API: its node, the ConfigMap, and events. Called by `agent` and `uninstall`; decides
//! nothing.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Node, ObjectReference};
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Config, Resource};
use serde_json::{Value, json};
use tracing::warn;
use wasm_interp_workload::{shortened, with_causes};

use crate::names::{CONTROLLER, READY_LABEL, STATE_ANNOTATION};
use crate::node_state::{NodeState, Phase};

/// The limit of a request, which usually takes milliseconds.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// The longest note of an event, in bytes.
const LONGEST_NOTE: usize = 1024;

/// There is no client for the API server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("cannot find the API server; run this in a pod with a service account")]
    Incluster(#[from] kube::config::InClusterError),
    #[error("cannot make a client for the API server: {0}; check the service account of this pod")]
    Client(#[source] Box<kube::Error>),
}

/// A client for the service account of this pod.
pub(crate) fn client() -> Result<Client, ClientError> {
    let config = Config::incluster()?;
    Client::try_from(config).map_err(|error| ClientError::Client(Box::new(error)))
}

/// A request to the API server failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KubeApiError {
    #[error("cannot {act}")]
    Api {
        act: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error(
        "cannot {act}: the API server did not reply within {} s; check that this pod reaches it",
        REQUEST_LIMIT.as_secs()
    )]
    TimedOut { act: String },
}

/// Makes a request within the limit. `act` completes "cannot …" in the error.
pub(crate) async fn request<T>(
    act: impl Into<String>,
    response: impl Future<Output = kube::Result<T>>,
) -> Result<T, KubeApiError> {
    match tokio::time::timeout(REQUEST_LIMIT, response).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(KubeApiError::Api {
            act: act.into(),
            source: Box::new(source),
        }),
        Err(_) => Err(KubeApiError::TimedOut { act: act.into() }),
    }
}

/// The change of the label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LabelChange {
    Set,
    Remove,
    Keep,
}

/// The API's objects that the agent of one node uses.
pub(crate) struct KubeApi {
    nodes: Api<Node>,
    node: String,
    maps: Api<ConfigMap>,
    map: String,
    client: Client,
    reporter: Reporter,
}

impl KubeApi {
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
    pub(crate) async fn node(&self) -> Result<Node, KubeApiError> {
        request(
            format!("read node {}", self.node),
            self.nodes.get(&self.node),
        )
        .await
    }

    /// The ConfigMap as it is now; `None` while the release is being created or deleted.
    pub(crate) async fn config_map(&self) -> Result<Option<ConfigMap>, KubeApiError> {
        request(
            format!("read ConfigMap {}", self.map),
            self.maps.get_opt(&self.map),
        )
        .await
    }

    /// Writes the state and the label if they change, and an event if the phase changes.
    pub(crate) async fn report_state(
        &self,
        node: &Node,
        state: &NodeState,
        label: LabelChange,
    ) -> Result<(), KubeApiError> {
        let before = NodeState::of(node);
        let labelled = crate::node_state::is_labelled(node);
        let mut metadata = json!({});
        match label {
            LabelChange::Set if !labelled => metadata["labels"] = json!({ READY_LABEL: "true" }),
            LabelChange::Remove if labelled => metadata["labels"] = json!({ READY_LABEL: null }),
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
            self.publish_event(
                node,
                kind,
                &format!("WasmInterp{:?}", state.phase),
                &state.message,
            )
            .await;
        }
        Ok(())
    }

    /// Removes the label and the annotation: the node has nothing of ours any more.
    pub(crate) async fn clear_state(&self, node: &Node, message: &str) -> Result<(), KubeApiError> {
        self.patch(json!({
            "labels": { READY_LABEL: null },
            "annotations": { STATE_ANNOTATION: null },
        }))
        .await?;
        self.publish_event(node, EventType::Normal, "WasmInterpUninstalled", message)
            .await;
        Ok(())
    }

    async fn patch(&self, metadata: Value) -> Result<(), KubeApiError> {
        if metadata.as_object().is_none_or(serde_json::Map::is_empty) {
            return Ok(());
        }
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        let parameters = PatchParams {
            field_manager: Some(CONTROLLER.to_owned()),
            ..PatchParams::default()
        };
        let act = format!("label and annotate node {}", self.node);
        request(
            act,
            self.nodes.patch_metadata(&self.node, &parameters, &patch),
        )
        .await?;
        Ok(())
    }

    /// Writes an event. A failure is only logged: events are for people.
    pub(crate) async fn publish_event(
        &self,
        node: &Node,
        kind: EventType,
        reason: &str,
        note: &str,
    ) {
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
        // A new recorder for each event. One recorder would patch an event that it has published before, and the agent does
        // not have the right to patch events.
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        if let Err(error) = request(act, recorder.publish(&event, &regarding)).await {
            warn!("{}", with_causes(&error));
        }
    }
}
