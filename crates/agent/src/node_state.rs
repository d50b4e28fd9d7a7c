//! The agent's annotation on its node: written by `agent`, read by people and by `uninstall`.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Node;
use serde::{Deserialize, Serialize};

use crate::names::{READY_LABEL, STATE_ANNOTATION};

/// The phase of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// The agent has not started a job of this release yet.
    Preparing,
    /// Other nodes restart their containerd first.
    Waiting,
    /// A job installs the runtime.
    Installing,
    /// The node runs Wasm pods.
    Ready,
    /// The node does not run Wasm pods. The message says why.
    Failed,
    /// No Wasm pod is on the node, and none is scheduled there any more: the runtime may be removed.
    Released,
    /// A job removes the runtime.
    Uninstalling,
    /// The runtime cannot be removed because pods use it.
    InUse,
}

/// The annotation's value, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeState {
    pub(crate) phase: Phase,
    /// Version of the agent's release.
    pub(crate) release: String,
    pub(crate) message: String,
    /// The attempt to uninstall to which this is the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<String>,
    /// The users of the runtime: `NAMESPACE/NAME` of each pod.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) users: BTreeSet<String>,
}

impl NodeState {
    pub(crate) fn new(phase: Phase, message: impl Into<String>) -> Self {
        Self {
            phase,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            message: message.into(),
            request: None,
            users: BTreeSet::new(),
        }
    }

    /// As the reply to that attempt to uninstall.
    pub(crate) fn replying_to(mut self, request: &str) -> Self {
        self.request = Some(request.to_owned());
        self
    }

    pub(crate) fn used_by(mut self, users: BTreeSet<String>) -> Self {
        self.users = users;
        self
    }

    /// The state in the node's annotation; `None` if the node does not have the annotation. An annotation of another
    /// release that cannot be parsed still means that the node has files of ours.
    pub(crate) fn of(node: &Node) -> Option<Self> {
        let text = node.metadata.annotations.as_ref()?.get(STATE_ANNOTATION)?;
        Some(serde_json::from_str(text).unwrap_or_else(|error| {
            let message = format!("cannot parse the annotation {STATE_ANNOTATION}: {error}");
            let mut state = Self::new(Phase::Failed, message);
            state.release.clear();
            state
        }))
    }
}

/// Whether the node has the label.
pub(crate) fn is_labelled(node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    labels.is_some_and(|labels| labels.get(READY_LABEL).is_some_and(|value| value == "true"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(annotation: Option<&str>) -> Node {
        let mut node = Node::default();
        node.metadata.annotations =
            annotation.map(|text| [(STATE_ANNOTATION.to_owned(), text.to_owned())].into());
        node
    }

    #[test]
    fn annotation_is_read_as_it_was_written() {
        let users = ["shop/worker-1".to_owned()].into();
        let state = NodeState::new(Phase::InUse, "pods use it")
            .replying_to("a1")
            .used_by(users);
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(NodeState::of(&node(Some(&text))), Some(state));
    }

    #[test]
    fn node_without_the_annotation_has_no_state() {
        assert_eq!(NodeState::of(&node(None)), None);
        assert_eq!(NodeState::of(&Node::default()), None);
    }

    #[test]
    fn annotation_that_cannot_be_parsed_is_a_failed_state() {
        let state = NodeState::of(&node(Some("{\"phase\":\"Dancing\"}"))).unwrap();
        assert_eq!(state.phase, Phase::Failed);
        assert!(state.message.contains("Dancing"), "{}", state.message);
    }
}
