//! What all agents work towards, as the ConfigMap says it: written by the chart and by `uninstall`, watched by
//! `agent`.
//!
//! The chart writes the release's `revision` there, `uninstall` a request that names the revision it is for. So
//! an upgrade makes a request void that was never carried through, and no field has two owners. A rollback brings
//! the revision back, and the request with it: therefore a request also has an end.

use std::time::{SystemTime, UNIX_EPOCH};

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
    /// From then on it is no request, in seconds since 1970. One without it is of an older hook, and void: nothing is
    /// taken away that might not be meant.
    ///
    /// The hook's clock is compared with each node's. A node whose clock is ahead may take the request for void too
    /// early, and then keeps the runtime or installs it again: the hook names it as one that has not answered. A
    /// node whose clock is behind honours a request that was left for that much longer.
    #[serde(default)]
    pub(crate) expires_unix: u64,
}

impl Request {
    /// What the ConfigMap holds, whether or not it is for the ConfigMap's revision and still asked.
    pub(crate) fn of(map: &ConfigMap) -> Result<Option<Self>, WantedError> {
        match value(map, REQUEST).filter(|text| !text.is_empty()) {
            None => Ok(None),
            Some(text) => Ok(Some(serde_json::from_str(text)?)),
        }
    }
}

/// What is wanted of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Installed,
    Released { request: String, expires_unix: u64 },
    Removed { request: String, expires_unix: u64 },
}

/// The ConfigMap's request cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{REQUEST} of the ConfigMap is no request: {0}; remove that key to go on as installed")]
pub(crate) struct WantedError(#[from] serde_json::Error);

impl Wanted {
    /// What the ConfigMap says at that time.
    pub(crate) fn of(map: &ConfigMap, now_unix: u64) -> Result<Self, WantedError> {
        let asked = Request::of(map)?.filter(|request| {
            value(map, REVISION) == Some(&request.revision) && now_unix < request.expires_unix
        });
        Ok(match asked {
            None => Self::Installed,
            Some(Request {
                id: request,
                expires_unix,
                step,
                ..
            }) => match step {
                Step::Release => Self::Released {
                    request,
                    expires_unix,
                },
                Step::Remove => Self::Removed {
                    request,
                    expires_unix,
                },
            },
        })
    }

    /// When it changes by itself.
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

/// Seconds since 1970, by this machine's clock.
pub(crate) fn now_unix() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
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

    fn request(step: &str, expires: &str) -> String {
        format!(r#"{{"id":"a","revision":"3","step":"{step}"{expires}}}"#)
    }

    const LASTS: &str = r#","expires_unix":100"#;

    #[test]
    fn without_a_request_nodes_are_installed() {
        assert_eq!(
            Wanted::of(&ConfigMap::default(), 0).unwrap(),
            Wanted::Installed
        );
        assert_eq!(Wanted::of(&map("1", None), 0).unwrap(), Wanted::Installed);
    }

    #[test]
    fn both_steps_are_understood() {
        let (id, expires_unix) = ("a".to_owned(), 100);
        let released = Wanted::of(&map("3", Some(&request("release", LASTS))), 99).unwrap();
        let wanted = Wanted::Released {
            request: id.clone(),
            expires_unix,
        };
        assert_eq!(released, wanted);
        let removed = Wanted::of(&map("3", Some(&request("remove", LASTS))), 99).unwrap();
        let wanted = Wanted::Removed {
            request: id,
            expires_unix,
        };
        assert_eq!(removed, wanted);
    }

    #[test]
    fn an_upgrade_makes_a_request_void() {
        let request = request("remove", LASTS);
        assert_eq!(
            Wanted::of(&map("4", Some(&request)), 0).unwrap(),
            Wanted::Installed
        );
    }

    #[test]
    fn a_rollback_does_not_bring_an_old_request_back() {
        let request = request("remove", LASTS);
        for (revision, now) in [("4", 99), ("3", 100), ("3", 10_000)] {
            let wanted = Wanted::of(&map(revision, Some(&request)), now).unwrap();
            assert_eq!(wanted, Wanted::Installed, "{revision} at {now}");
        }
    }

    #[test]
    fn a_request_without_an_end_is_void() {
        let request = request("remove", "");
        assert_eq!(
            Wanted::of(&map("3", Some(&request)), 1).unwrap(),
            Wanted::Installed
        );
    }

    #[test]
    fn what_is_no_request_is_said() {
        let error = Wanted::of(&map("1", Some("remove")), 0)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no request") && error.contains("remove that key"),
            "{error}"
        );
    }
}
