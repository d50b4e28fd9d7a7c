//! The Leases that limit how many nodes restart containerd at the same time. The chart makes as many as nodes may. `agent`
//! holds one during each job that may restart containerd.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use crate::kube_api::{KubeApiError, request};

/// A Lease that its holder has not renewed for this long is free. It is longer than the restart of an agent's pod, whose
/// job continues on the node meanwhile.
const EXPIRES: Duration = Duration::from_secs(120);
const RENEW: Duration = Duration::from_secs(20);

/// The Leases, as one node sees them.
pub(crate) struct RestartLeases {
    api: Api<Lease>,
    names: Vec<String>,
    node: String,
    /// The version of each Lease, and when this process first saw that version. The clocks of other nodes do not count.
    seen: HashMap<String, (Option<String>, Instant)>,
}

/// A Lease that this node holds, until [`HeldLease::release`]. After a drop it is not renewed any more, and expires.
pub(crate) struct HeldLease {
    api: Api<Lease>,
    name: String,
    node: String,
    renewing: JoinHandle<()>,
}

impl RestartLeases {
    pub(crate) fn new(client: Client, namespace: &str, names: &[String], node: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            names: names.to_vec(),
            node: node.to_owned(),
            seen: HashMap::new(),
        }
    }

    /// Acquires a Lease, if one is free, or if this node held one before the agent restarted.
    pub(crate) async fn try_acquire(&mut self) -> Result<Option<HeldLease>, KubeApiError> {
        let mut free = None;
        for name in &self.names {
            let lease = request(format!("read Lease {name}"), self.api.get(name)).await?;
            let seen = (lease.resource_version(), Instant::now());
            let first = self
                .seen
                .entry(name.clone())
                .or_insert_with(|| seen.clone());
            if first.0 != seen.0 {
                *first = seen;
            }
            match lease_holder(lease.spec.as_ref(), &self.node, first.1.elapsed()) {
                LeaseHolder::ThisNode => {
                    free = Some(lease);
                    break;
                }
                LeaseHolder::None => {
                    free.get_or_insert(lease);
                }
                LeaseHolder::OtherNode => {}
            }
        }
        let Some(lease) = free else { return Ok(None) };
        let name = lease.name_any();
        let held = held_by(&self.node, lease);
        match self.api.replace(&name, &PostParams::default(), &held).await {
            Ok(_) => Ok(Some(HeldLease {
                renewing: tokio::spawn(renew(self.api.clone(), name.clone(), self.node.clone())),
                api: self.api.clone(),
                name,
                node: self.node.clone(),
            })),
            // Another node was faster.
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(None),
            Err(source) => Err(KubeApiError::Api {
                act: format!("acquire Lease {name}"),
                source: Box::new(source),
            }),
        }
    }
}

impl HeldLease {
    /// Releases the Lease for the next node. If that fails, the Lease expires.
    pub(crate) async fn release(mut self) {
        self.renewing.abort();
        let _ = (&mut self.renewing).await;
        let released = async {
            let mut lease = self.api.get(&self.name).await?;
            if holder(lease.spec.as_ref()) == Some(&self.node) {
                lease.spec = Some(LeaseSpec::default());
                self.api
                    .replace(&self.name, &PostParams::default(), &lease)
                    .await?;
            }
            Ok(())
        };
        if let Err(error) = request(format!("release Lease {}", self.name), released).await {
            warn!("{}", wasm_interp_workload::with_causes(&error));
        }
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

async fn renew(api: Api<Lease>, name: String, node: String) {
    loop {
        tokio::time::sleep(RENEW).await;
        let renewed = async {
            let lease = api.get(&name).await?;
            if holder(lease.spec.as_ref()) == Some(&node) {
                api.replace(&name, &PostParams::default(), &held_by(&node, lease))
                    .await?;
            }
            Ok(())
        };
        match request(format!("renew Lease {name}"), renewed).await {
            Ok(()) => debug!("renewed Lease {name}"),
            // A control plane on this node does not answer while containerd restarts.
            Err(error) => warn!("{}", wasm_interp_workload::with_causes(&error)),
        }
    }
}

fn held_by(node: &str, mut lease: Lease) -> Lease {
    let now = MicroTime(Timestamp::now());
    let acquired = lease
        .spec
        .filter(|spec| spec.holder_identity.as_deref() == Some(node));
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(node.to_owned()),
        lease_duration_seconds: i32::try_from(EXPIRES.as_secs()).ok(),
        acquire_time: acquired
            .and_then(|spec| spec.acquire_time)
            .or_else(|| Some(now.clone())),
        renew_time: Some(now),
        ..LeaseSpec::default()
    });
    lease
}

#[derive(Debug, PartialEq, Eq)]
enum LeaseHolder {
    ThisNode,
    None,
    OtherNode,
}

fn holder(spec: Option<&LeaseSpec>) -> Option<&str> {
    spec?
        .holder_identity
        .as_deref()
        .filter(|name| !name.is_empty())
}

/// The holder of a Lease that has not changed for that time.
fn lease_holder(spec: Option<&LeaseSpec>, node: &str, unchanged: Duration) -> LeaseHolder {
    match holder(spec) {
        None => LeaseHolder::None,
        Some(name) if name == node => LeaseHolder::ThisNode,
        Some(_) if unchanged > EXPIRES => LeaseHolder::None,
        Some(_) => LeaseHolder::OtherNode,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(holder: &str) -> Option<LeaseSpec> {
        held_by(holder, Lease::default()).spec
    }

    #[test]
    fn lease_without_renewal_is_free() {
        let short = Duration::from_secs(1);
        assert_eq!(lease_holder(None, "a", short), LeaseHolder::None);
        assert_eq!(
            lease_holder(Some(&LeaseSpec::default()), "a", short),
            LeaseHolder::None
        );
        assert_eq!(
            lease_holder(spec("").as_ref(), "a", short),
            LeaseHolder::None
        );
        assert_eq!(
            lease_holder(spec("a").as_ref(), "a", short),
            LeaseHolder::ThisNode
        );
        assert_eq!(
            lease_holder(spec("b").as_ref(), "a", short),
            LeaseHolder::OtherNode
        );
        assert_eq!(
            lease_holder(spec("b").as_ref(), "a", EXPIRES + short),
            LeaseHolder::None
        );
    }

    #[tokio::test]
    async fn dropped_lease_is_not_renewed() {
        let nowhere = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let renewing = tokio::spawn(std::future::pending());
        let watched = renewing.abort_handle();
        drop(HeldLease {
            api: Api::default_namespaced(Client::try_from(nowhere).unwrap()),
            name: "restart-0".to_owned(),
            node: "a".to_owned(),
            renewing,
        });
        tokio::task::yield_now().await;
        assert!(watched.is_finished());
    }

    #[test]
    fn renewal_keeps_the_time_of_acquisition() {
        let first = held_by("a", Lease::default());
        let again = held_by("a", first.clone());
        let other = held_by("b", first.clone());
        let acquired = |lease: &Lease| lease.spec.clone().and_then(|spec| spec.acquire_time);
        assert_eq!(acquired(&again), acquired(&first));
        assert!(acquired(&other) >= acquired(&first) && other.spec != first.spec);
    }
}
