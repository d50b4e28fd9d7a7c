//! How many nodes may restart containerd at once: as many as there are Leases, which the chart makes. Used by
//! `agent` around every job that may restart it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use crate::cluster::{ClusterError, ask};

/// A holder that does not say for this long that it still is one has lost its slot. Longer than an agent's pod
/// takes to come back: its job on the node goes on meanwhile.
const EXPIRES: Duration = Duration::from_secs(120);
const RENEW: Duration = Duration::from_secs(20);

/// The Leases, from one node's sight.
pub(crate) struct Slots {
    api: Api<Lease>,
    names: Vec<String>,
    me: String,
    /// When this process first saw each Lease as it is: clocks of other nodes are not trusted.
    seen: HashMap<String, (Option<String>, Instant)>,
}

/// A slot that is held, until [`Slot::give_back`]. One that is dropped is not renewed any more, and expires.
pub(crate) struct Slot {
    api: Api<Lease>,
    name: String,
    me: String,
    renewing: JoinHandle<()>,
}

impl Slots {
    pub(crate) fn new(client: Client, namespace: &str, names: &[String], me: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            names: names.to_vec(),
            me: me.to_owned(),
            seen: HashMap::new(),
        }
    }

    /// A slot, if one is free. One that this node holds from before a restart of the agent is its own.
    pub(crate) async fn try_take(&mut self) -> Result<Option<Slot>, ClusterError> {
        let mut free = None;
        for name in &self.names {
            let lease = ask(format!("read Lease {name}"), self.api.get(name)).await?;
            let seen = (lease.resource_version(), Instant::now());
            let first = self
                .seen
                .entry(name.clone())
                .or_insert_with(|| seen.clone());
            if first.0 != seen.0 {
                *first = seen;
            }
            match holding(lease.spec.as_ref(), &self.me, first.1.elapsed()) {
                Holding::Mine => {
                    free = Some(lease);
                    break;
                }
                Holding::Free => {
                    free.get_or_insert(lease);
                }
                Holding::Others => {}
            }
        }
        let Some(lease) = free else { return Ok(None) };
        let name = lease.name_any();
        let held = held_by(&self.me, lease);
        match self.api.replace(&name, &PostParams::default(), &held).await {
            Ok(_) => Ok(Some(Slot {
                renewing: tokio::spawn(renew(self.api.clone(), name.clone(), self.me.clone())),
                api: self.api.clone(),
                name,
                me: self.me.clone(),
            })),
            // Another one was faster.
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(None),
            Err(source) => Err(ClusterError::Api {
                act: format!("take Lease {name}"),
                source: Box::new(source),
            }),
        }
    }
}

impl Slot {
    /// Lets the next node have it. What cannot be given back expires.
    pub(crate) async fn give_back(mut self) {
        self.renewing.abort();
        let _ = (&mut self.renewing).await;
        let given = async {
            let mut lease = self.api.get(&self.name).await?;
            if holder(lease.spec.as_ref()) == Some(&self.me) {
                lease.spec = Some(LeaseSpec::default());
                self.api
                    .replace(&self.name, &PostParams::default(), &lease)
                    .await?;
            }
            Ok(())
        };
        if let Err(error) = ask(format!("give Lease {} back", self.name), given).await {
            warn!("{}", wasm_interp_workload::with_causes(&error));
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

async fn renew(api: Api<Lease>, name: String, me: String) {
    loop {
        tokio::time::sleep(RENEW).await;
        let renewed = async {
            let lease = api.get(&name).await?;
            if holder(lease.spec.as_ref()) == Some(&me) {
                api.replace(&name, &PostParams::default(), &held_by(&me, lease))
                    .await?;
            }
            Ok(())
        };
        match ask(format!("renew Lease {name}"), renewed).await {
            Ok(()) => debug!("renewed Lease {name}"),
            // A control plane on this very node answers nothing while containerd restarts.
            Err(error) => warn!("{}", wasm_interp_workload::with_causes(&error)),
        }
    }
}

fn held_by(me: &str, mut lease: Lease) -> Lease {
    let now = MicroTime(Timestamp::now());
    let acquired = lease
        .spec
        .filter(|spec| spec.holder_identity.as_deref() == Some(me));
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(me.to_owned()),
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
enum Holding {
    Mine,
    Free,
    Others,
}

fn holder(spec: Option<&LeaseSpec>) -> Option<&str> {
    spec?
        .holder_identity
        .as_deref()
        .filter(|name| !name.is_empty())
}

/// Whose a Lease is that has not changed for so long.
fn holding(spec: Option<&LeaseSpec>, me: &str, unchanged: Duration) -> Holding {
    match holder(spec) {
        None => Holding::Free,
        Some(name) if name == me => Holding::Mine,
        Some(_) if unchanged > EXPIRES => Holding::Free,
        Some(_) => Holding::Others,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn spec(holder: &str) -> Option<LeaseSpec> {
        held_by(holder, Lease::default()).spec
    }

    #[test]
    fn whose_a_lease_is() {
        let short = Duration::from_secs(1);
        assert_eq!(holding(None, "a", short), Holding::Free);
        assert_eq!(
            holding(Some(&LeaseSpec::default()), "a", short),
            Holding::Free
        );
        assert_eq!(holding(spec("").as_ref(), "a", short), Holding::Free);
        assert_eq!(holding(spec("a").as_ref(), "a", short), Holding::Mine);
        assert_eq!(holding(spec("b").as_ref(), "a", short), Holding::Others);
        assert_eq!(
            holding(spec("b").as_ref(), "a", EXPIRES + short),
            Holding::Free
        );
    }

    #[tokio::test]
    async fn a_slot_that_is_lost_is_not_renewed() {
        let nowhere = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let renewing = tokio::spawn(std::future::pending());
        let watched = renewing.abort_handle();
        drop(Slot {
            api: Api::default_namespaced(Client::try_from(nowhere).unwrap()),
            name: "restart-0".to_owned(),
            me: "a".to_owned(),
            renewing,
        });
        tokio::task::yield_now().await;
        assert!(watched.is_finished());
    }

    #[test]
    fn renewing_keeps_the_time_of_taking_it() {
        let first = held_by("a", Lease::default());
        let again = held_by("a", first.clone());
        let other = held_by("b", first.clone());
        let acquired = |lease: &Lease| lease.spec.clone().and_then(|spec| spec.acquire_time);
        assert_eq!(acquired(&again), acquired(&first));
        assert!(acquired(&other) >= acquired(&first) && other.spec != first.spec);
    }
}
