//! What all agents work towards, as the ConfigMap says it: written by the chart and by `uninstall`, watched by
//! `agent`.
//!
//! The chart writes the release's `revision` there, `uninstall` a request that names the revision it is for. So
//! an upgrade makes a request void that was never carried through, and no field has two owners.

use k8s_openapi::api::core::v1::ConfigMap;
use serde::{Deserialize, Serialize};

/// Key of the release's revision.
pub(crate) const REVISION: &str = "revision";
/// Key of the [`Request`].
pub(crate) const REQUEST: &str = "uninstall";

/// The two steps of an uninstallation: nothing is taken away before every node can let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Step {
    /// Take no new pods; say whether any is left.
    Release,
    /// Take the runtime away.
    Remove,
}

/// One attempt to uninstall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Tells the attempts apart.
    pub(crate) id: String,
    pub(crate) revision: String,
    pub(crate) step: Step,
}

/// What is wanted of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Installed,
    Released { request: String },
    Removed { request: String },
}

/// The ConfigMap's request cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{REQUEST} of the ConfigMap is no request: {0}; remove that key to go on as installed")]
pub(crate) struct WantedError(#[from] serde_json::Error);

impl Wanted {
    /// What the ConfigMap says.
    pub(crate) fn of(map: &ConfigMap) -> Result<Self, WantedError> {
        let value = |key| map.data.as_ref().and_then(|data| data.get(key));
        let Some(text) = value(REQUEST).filter(|text| !text.is_empty()) else {
            return Ok(Self::Installed);
        };
        let request: Request = serde_json::from_str(text)?;
        if value(REVISION) != Some(&request.revision) {
            return Ok(Self::Installed);
        }
        let id = request.id;
        Ok(match request.step {
            Step::Release => Self::Released { request: id },
            Step::Remove => Self::Removed { request: id },
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn map(revision: &str, request: Option<&str>) -> ConfigMap {
        let mut data =
            std::collections::BTreeMap::from([(REVISION.to_owned(), revision.to_owned())]);
        data.extend(request.map(|text| (REQUEST.to_owned(), text.to_owned())));
        ConfigMap {
            data: Some(data),
            ..Default::default()
        }
    }

    #[test]
    fn without_a_request_nodes_are_installed() {
        assert_eq!(
            Wanted::of(&ConfigMap::default()).unwrap(),
            Wanted::Installed
        );
        assert_eq!(Wanted::of(&map("1", None)).unwrap(), Wanted::Installed);
    }

    #[test]
    fn both_steps_are_understood() {
        let request = |step| format!(r#"{{"id":"a","revision":"3","step":"{step}"}}"#);
        let id = || "a".to_owned();
        let released = Wanted::of(&map("3", Some(&request("release")))).unwrap();
        assert_eq!(released, Wanted::Released { request: id() });
        let removed = Wanted::of(&map("3", Some(&request("remove")))).unwrap();
        assert_eq!(removed, Wanted::Removed { request: id() });
    }

    #[test]
    fn an_upgrade_makes_a_request_void() {
        let request = r#"{"id":"a","revision":"3","step":"remove"}"#;
        assert_eq!(
            Wanted::of(&map("4", Some(request))).unwrap(),
            Wanted::Installed
        );
    }

    #[test]
    fn what_is_no_request_is_said() {
        let error = Wanted::of(&map("1", Some("remove")))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no request") && error.contains("remove that key"),
            "{error}"
        );
    }
}
