//! Pods as a client of the API sees them change, each change with the moment at which it came: the times
//! in the objects themselves are whole seconds.

use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};

use crate::Outcome;
use crate::command::LIVENESS;
use crate::world::{PodNamespace, TestCluster};

/// What was seen of a pod.
pub(super) enum PodEvent {
    /// It is so now.
    Is(Box<Pod>),
    /// It is gone; this was the last of it.
    Gone(Box<Pod>),
}

/// A watch on all pods of a namespace.
pub(super) struct Watch(Receiver<(Instant, PodEvent)>);

impl Watch {
    pub(super) fn start(world: &TestCluster, namespace: &PodNamespace<'_>) -> Self {
        let (sender, receiver) = channel();
        let events = watcher(namespace.api::<Pod>(), watcher::Config::default());
        world.spawn(async move {
            let mut events = events.default_backoff().boxed();
            while let Some(event) = events.next().await {
                let now = Instant::now();
                let change = match event {
                    Ok(Event::Apply(pod) | Event::InitApply(pod)) => PodEvent::Is(Box::new(pod)),
                    Ok(Event::Delete(pod)) => PodEvent::Gone(Box::new(pod)),
                    Ok(Event::Init | Event::InitDone) => continue,
                    Err(error) => {
                        eprintln!("the watch on pods goes on after: {error}");
                        continue;
                    }
                };
                if sender.send((now, change)).is_err() {
                    break;
                }
            }
        });
        Self(receiver)
    }

    /// Looks at changes until `ask` has an answer; returns it and when the change came.
    pub(super) fn until<T>(
        &self,
        what: &str,
        mut ask: impl FnMut(&PodEvent) -> Outcome<Option<T>>,
    ) -> Outcome<(Instant, T)> {
        loop {
            let (at, change) = self
                .0
                .recv_timeout(LIVENESS)
                .map_err(|_| format!("waited in vain for {what}"))?;
            if let Some(answer) = ask(&change)? {
                return Ok((at, answer));
            }
        }
    }
}
