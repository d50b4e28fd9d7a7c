//! What an agent says about its node: the annotation, written by `agent`, read by people and by `uninstall`.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Node;
use serde::{Deserialize, Serialize};

use crate::names::{READY_LABEL, STATE_ANNOTATION};

/// How far a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// Nothing of this release has been tried yet.
    Preparing,
    /// Others restart their containerd; it is not this node's turn.
    Waiting,
    /// A job runs on the node.
    Installing,
    /// It runs Wasm pods.
    Ready,
    /// It does not, and the message says why.
    Failed,
    /// No new Wasm pod is scheduled here and none is left: it may be uninstalled.
    Released,
    /// It is being uninstalled.
    Uninstalling,
    /// It cannot be uninstalled: pods use the runtime.
    InUse,
}

/// The annotation's value, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    /// Version of the agent's release.
    pub(crate) release: String,
    pub(crate) message: String,
    /// The attempt to uninstall that the phase is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<String>,
    /// What still uses the runtime, as `NAMESPACE/NAME` of a pod where there is one.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) users: BTreeSet<String>,
}

impl State {
    pub(crate) fn new(phase: Phase, message: impl Into<String>) -> Self {
        Self {
            phase,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            message: message.into(),
            request: None,
            users: BTreeSet::new(),
        }
    }

    /// As an answer to that attempt to uninstall.
    pub(crate) fn answering(mut self, request: &str) -> Self {
        self.request = Some(request.to_owned());
        self
    }

    pub(crate) fn used_by(mut self, users: BTreeSet<String>) -> Self {
        self.users = users;
        self
    }

    /// What the node's annotation says; `None` if it has none. One that cannot be read is of another release,
    /// and still means that something is there.
    pub(crate) fn of(node: &Node) -> Option<Self> {
        let text = node.metadata.annotations.as_ref()?.get(STATE_ANNOTATION)?;
        Some(serde_json::from_str(text).unwrap_or_else(|error| {
            let mut state = Self::new(
                Phase::Failed,
                format!("the annotation cannot be read: {error}"),
            );
            state.release.clear();
            state
        }))
    }
}

/// Whether the node carries the label.
pub(crate) fn is_labelled(node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    labels.is_some_and(|labels| labels.get(READY_LABEL).is_some_and(|value| value == "true"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn node(annotation: Option<&str>) -> Node {
        let mut node = Node::default();
        node.metadata.annotations =
            annotation.map(|text| [(STATE_ANNOTATION.to_owned(), text.to_owned())].into());
        node
    }

    #[test]
    fn what_is_written_is_read() {
        let users = ["shop/worker-1".to_owned()].into();
        let state = State::new(Phase::InUse, "pods use it")
            .answering("a1")
            .used_by(users);
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(State::of(&node(Some(&text))), Some(state));
    }

    #[test]
    fn a_node_without_the_annotation_has_no_state() {
        assert_eq!(State::of(&node(None)), None);
        assert_eq!(State::of(&Node::default()), None);
    }

    #[test]
    fn a_foreign_annotation_still_means_that_something_is_there() {
        let state = State::of(&node(Some("{\"phase\":\"Dancing\"}"))).unwrap();
        assert_eq!(state.phase, Phase::Failed);
        assert!(state.message.contains("Dancing"), "{}", state.message);
    }
}
