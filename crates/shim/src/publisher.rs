//! Sends task events to containerd, in the order in which they were published.
//!
//! Called by `task`. There is one queue and one sender. If containerd is down or restarts, the sender
//! keeps the event at the head of the queue and connects again. No verb waits for it. It does not
//! know what an event means.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use containerd_shim_protos::protobuf::{MessageField, MessageFull};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim_async::{Client, EventsClient};
use containerd_shim_protos::topics;
use containerd_shim_protos::ttrpc::{self, Code};
use containerd_shim_protos::{events::task as message, ttrpc::context};
use log::{debug, error, warn};
use tokio::sync::Notify;

use crate::clock;
use crate::typeurl::any;

/// How many events wait while containerd is down. Of more, the oldest is dropped.
const QUEUE_MAX: usize = 2048;
/// How long containerd may take for one event.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(1);

/// An event of containerd's task table.
pub(crate) trait Event: MessageFull {
    /// The topic it is published under.
    const TOPIC: &'static str;
}

impl Event for message::TaskCreate {
    const TOPIC: &'static str = topics::TASK_CREATE_EVENT_TOPIC;
}
impl Event for message::TaskStart {
    const TOPIC: &'static str = topics::TASK_START_EVENT_TOPIC;
}
impl Event for message::TaskExecAdded {
    const TOPIC: &'static str = topics::TASK_EXEC_ADDED_EVENT_TOPIC;
}
impl Event for message::TaskExecStarted {
    const TOPIC: &'static str = topics::TASK_EXEC_STARTED_EVENT_TOPIC;
}
impl Event for message::TaskOOM {
    const TOPIC: &'static str = topics::TASK_OOM_EVENT_TOPIC;
}
impl Event for message::TaskPaused {
    const TOPIC: &'static str = topics::TASK_PAUSED_EVENT_TOPIC;
}
impl Event for message::TaskResumed {
    const TOPIC: &'static str = topics::TASK_RESUMED_EVENT_TOPIC;
}
impl Event for message::TaskExit {
    const TOPIC: &'static str = topics::TASK_EXIT_EVENT_TOPIC;
}
impl Event for message::TaskDelete {
    const TOPIC: &'static str = topics::TASK_DELETE_EVENT_TOPIC;
}

/// Publishes the events of one containerd namespace.
#[derive(Clone)]
pub(crate) struct Publisher {
    namespace: Arc<str>,
    queue: Arc<EventQueue>,
}

#[derive(Default)]
struct EventQueue {
    events: Mutex<VecDeque<Envelope>>,
    /// An event was queued.
    filled: Notify,
    /// The last event was sent.
    drained: Notify,
}

impl Publisher {
    /// Starts the sender. It connects when there is something to send.
    pub(crate) fn new(namespace: &str, address: &str) -> Self {
        let queue = Arc::new(EventQueue::default());
        // containerd gives a path, or the same with a scheme.
        let path = address.strip_prefix("unix://").unwrap_or(address);
        tokio::spawn(send(Arc::clone(&queue), format!("unix://{path}")));
        Self {
            namespace: namespace.into(),
            queue,
        }
    }

    /// Queues an event.
    pub(crate) fn publish<E: Event>(&self, event: &E) {
        match any(event) {
            Ok(any) => self.queue.push(Envelope {
                timestamp: MessageField::some(clock::timestamp(SystemTime::now())),
                namespace: self.namespace.to_string(),
                topic: E::TOPIC.to_owned(),
                event: MessageField::some(any),
                ..Envelope::default()
            }),
            Err(error) => {
                error!(topic = E::TOPIC, error:%; "cannot encode an event; report this as a bug");
            }
        }
    }

    /// Waits until all events are sent, but not longer than `longest`.
    pub(crate) async fn drain(&self, longest: Duration) {
        let sent = async {
            loop {
                let drained = self.queue.drained.notified();
                if self.queue.is_empty() {
                    return;
                }
                drained.await;
            }
        };
        if tokio::time::timeout(longest, sent).await.is_err() {
            warn!(
                events = self.queue.lock().len();
                "cannot send the last events: containerd does not take them; they are lost"
            );
        }
    }
}

impl EventQueue {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Envelope>> {
        // A panic cannot leave the queue half changed.
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: Envelope) {
        let mut events = self.lock();
        if events.len() == QUEUE_MAX
            && let Some(lost) = events.pop_front()
        {
            warn!(
                topic = lost.topic.as_str();
                "cannot keep an event: too many wait for containerd; it is lost"
            );
        }
        events.push_back(event);
        drop(events);
        self.filled.notify_one();
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    async fn head(&self) -> Envelope {
        loop {
            if let Some(event) = self.lock().front() {
                return event.clone();
            }
            self.filled.notified().await;
        }
    }

    fn pop(&self, sent: &Envelope) {
        let mut events = self.lock();
        // The queue may have dropped the head meanwhile.
        if events.front() == Some(sent) {
            events.pop_front();
        }
        if events.is_empty() {
            self.drained.notify_waiters();
        }
    }
}

async fn send(queue: Arc<EventQueue>, address: String) {
    let mut client = None;
    let mut pause = FIRST_RETRY;
    loop {
        let event = queue.head().await;
        match forward(&mut client, &address, &event).await {
            Ok(()) => {
                debug!(topic = event.topic.as_str(); "event sent");
                queue.pop(&event);
                pause = FIRST_RETRY;
            }
            Err(SendError::Refused(error)) => {
                error!(
                    topic = event.topic.as_str(), error:%;
                    "cannot send an event: containerd refuses it; it is lost"
                );
                queue.pop(&event);
            }
            Err(SendError::Unreachable(error)) => {
                if pause == FIRST_RETRY {
                    warn!(
                        topic = event.topic.as_str(), error:%;
                        "cannot send an event: containerd does not respond; it is sent later"
                    );
                }
                client = None;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LAST_RETRY);
            }
        }
    }
}

enum SendError {
    /// containerd responded with an error. To send the event again would not help.
    Refused(String),
    /// containerd did not respond.
    Unreachable(String),
}

async fn forward(
    client: &mut Option<EventsClient>,
    address: &str,
    event: &Envelope,
) -> Result<(), SendError> {
    let unreachable = |error: ttrpc::Error| SendError::Unreachable(error.to_string());
    let client = match client {
        Some(client) => client,
        None => {
            let connection = Client::connect(address).await.map_err(unreachable)?;
            client.insert(EventsClient::new(connection))
        }
    };
    let request = ForwardRequest {
        envelope: MessageField::some(event.clone()),
        ..ForwardRequest::default()
    };
    let timeout = i64::try_from(SEND_TIMEOUT.as_nanos()).unwrap_or(i64::MAX);
    match client
        .forward(context::with_timeout(timeout), &request)
        .await
    {
        Ok(_) => Ok(()),
        Err(ttrpc::Error::RpcStatus(status))
            if !matches!(
                status.code(),
                Code::DEADLINE_EXCEEDED | Code::UNAVAILABLE | Code::CANCELLED
            ) =>
        {
            Err(SendError::Refused(status.message().to_owned()))
        }
        Err(error) => Err(unreachable(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(pid: u32) -> message::TaskStart {
        message::TaskStart {
            pid,
            ..message::TaskStart::default()
        }
    }

    #[test]
    fn full_queue_drops_the_oldest_event() {
        let queue = EventQueue::default();
        for n in 0..=QUEUE_MAX {
            queue.push(Envelope {
                topic: n.to_string(),
                ..Envelope::default()
            });
        }
        let events = queue.lock();
        assert_eq!(events.len(), QUEUE_MAX);
        assert_eq!(events.front().expect("full").topic, "1");
    }

    #[tokio::test]
    async fn drain_ends_without_a_containerd() {
        let publisher = Publisher::new("n", "/nonexistent/containerd.sock.ttrpc");
        publisher.publish(&start(1));
        publisher.drain(Duration::from_millis(120)).await;
        assert!(!publisher.queue.is_empty());
    }
}
