//! The desired state of all nodes, in a ConfigMap: written by the chart and by `uninstall`, watched by `agent`.
//!
//! The chart writes the release's `revision`. `uninstall` writes a request that names the revision that it is for, so an
//! upgrade makes an unfinished request void, and no field has two owners. A rollback restores the revision and with it the
//! request, so a request also has an end time.

use std::time::{SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::ConfigMap;
use serde::{Deserialize, Serialize};

/// Key of the release's revision.
pub(crate) const REVISION: &str = "revision";
/// Key of the [`UninstallRequest`].
pub(crate) const REQUEST: &str = "uninstall";

/// The two steps of an uninstall. No node removes the runtime before every node has released it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UninstallStep {
    /// Remove the label, and report the pods that use the runtime.
    Release,
    /// Remove the runtime.
    Remove,
}

/// One attempt to uninstall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UninstallRequest {
    /// Identifies the attempt.
    pub(crate) id: String,
    pub(crate) revision: String,
    pub(crate) step: UninstallStep,
    /// The request is void from this time, in seconds since 1970. A request without it, from an older hook, is void: an
    /// agent must not uninstall by mistake.
    ///
    /// The hook sets the time by its clock, and each node compares it with its own. A node whose clock is ahead may treat
    /// the request as void too early; it keeps the runtime, and the hook reports that it has not replied. On a node whose
    /// clock is behind, the request is valid for longer.
    #[serde(default)]
    pub(crate) expires_unix: u64,
}

impl UninstallRequest {
    /// The request in the ConfigMap, even if it is void.
    pub(crate) fn of(map: &ConfigMap) -> Result<Option<Self>, DesiredStateError> {
        match value(map, REQUEST).filter(|text| !text.is_empty()) {
            None => Ok(None),
            Some(text) => Ok(Some(serde_json::from_str(text)?)),
        }
    }
}

/// The desired state of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DesiredState {
    Installed,
    Released { request: String, expires_unix: u64 },
    Removed { request: String, expires_unix: u64 },
}

/// The request in the ConfigMap cannot be parsed.
#[derive(Debug, thiserror::Error)]
#[error("cannot parse the key {REQUEST}: {0}; remove that key to keep the runtime installed")]
pub(crate) struct DesiredStateError(#[from] serde_json::Error);

impl DesiredState {
    /// The desired state in the ConfigMap at that time.
    pub(crate) fn of(map: &ConfigMap, now_unix: u64) -> Result<Self, DesiredStateError> {
        let valid = UninstallRequest::of(map)?.filter(|request| {
            value(map, REVISION) == Some(&request.revision) && now_unix < request.expires_unix
        });
        Ok(match valid {
            None => Self::Installed,
            Some(UninstallRequest {
                id: request,
                expires_unix,
                step,
                ..
            }) => match step {
                UninstallStep::Release => Self::Released {
                    request,
                    expires_unix,
                },
                UninstallStep::Remove => Self::Removed {
                    request,
                    expires_unix,
                },
            },
        })
    }

    /// When the desired state changes by itself.
    pub(crate) fn expires_unix(&self) -> Option<u64> {
        match self {
            Self::Installed => None,
            Self::Released { expires_unix, .. } | Self::Removed { expires_unix, .. } => {
                Some(*expires_unix)
            }
        }
    }
}

fn value<'a>(map: &'a ConfigMap, key: &str) -> Option<&'a String> {
    map.data.as_ref()?.get(key)
}

/// The time in seconds since 1970, by the clock of this machine.
pub(crate) fn now_unix() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

#[cfg(test)]
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

    fn request(step: &str, expires: &str) -> String {
        format!(r#"{{"id":"a","revision":"3","step":"{step}"{expires}}}"#)
    }

    const LASTS: &str = r#","expires_unix":100"#;

    #[test]
    fn state_without_a_request_is_installed() {
        assert_eq!(
            DesiredState::of(&ConfigMap::default(), 0).unwrap(),
            DesiredState::Installed
        );
        assert_eq!(
            DesiredState::of(&map("1", None), 0).unwrap(),
            DesiredState::Installed
        );
    }

    #[test]
    fn both_steps_are_parsed() {
        let (id, expires_unix) = ("a".to_owned(), 100);
        let released = DesiredState::of(&map("3", Some(&request("release", LASTS))), 99).unwrap();
        let wanted = DesiredState::Released {
            request: id.clone(),
            expires_unix,
        };
        assert_eq!(released, wanted);
        let removed = DesiredState::of(&map("3", Some(&request("remove", LASTS))), 99).unwrap();
        let wanted = DesiredState::Removed {
            request: id,
            expires_unix,
        };
        assert_eq!(removed, wanted);
    }

    #[test]
    fn upgrade_makes_a_request_void() {
        let request = request("remove", LASTS);
        assert_eq!(
            DesiredState::of(&map("4", Some(&request)), 0).unwrap(),
            DesiredState::Installed
        );
    }

    #[test]
    fn rollback_does_not_revive_an_expired_request() {
        let request = request("remove", LASTS);
        for (revision, now) in [("4", 99), ("3", 100), ("3", 10_000)] {
            let wanted = DesiredState::of(&map(revision, Some(&request)), now).unwrap();
            assert_eq!(wanted, DesiredState::Installed, "{revision} at {now}");
        }
    }

    #[test]
    fn request_without_an_end_is_void() {
        let request = request("remove", "");
        assert_eq!(
            DesiredState::of(&map("3", Some(&request)), 1).unwrap(),
            DesiredState::Installed
        );
    }

    #[test]
    fn invalid_request_is_an_error_with_the_way_out() {
        let error = DesiredState::of(&map("1", Some("remove")), 0)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("cannot parse the key uninstall") && error.contains("remove that key"),
            "{error}"
        );
    }
}
