//! The task events that containerd demands, in their order.
//!
//! Called by `task`. One queue, one sender: what is published first arrives first. containerd may
//! be down or restarting; the sender then keeps the event at the head of the queue, connects anew
//! and goes on, while no verb waits for it.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{self, MessageField, MessageFull};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim_async::{Client, EventsClient};
use containerd_shim_protos::topics;
use containerd_shim_protos::ttrpc::{self, Code};
use containerd_shim_protos::{events::task as message, ttrpc::context};
use log::{debug, error, warn};
use tokio::sync::Notify;

use crate::clock;

/// How many events wait for a containerd that is down; then the oldest goes.
const QUEUE: usize = 2048;
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
impl Event for message::TaskOOM {
    const TOPIC: &'static str = topics::TASK_OOM_EVENT_TOPIC;
}
impl Event for message::TaskExit {
    const TOPIC: &'static str = topics::TASK_EXIT_EVENT_TOPIC;
}
impl Event for message::TaskDelete {
    const TOPIC: &'static str = topics::TASK_DELETE_EVENT_TOPIC;
}

/// Queue of the events of one containerd namespace.
#[derive(Clone)]
pub(crate) struct Publisher {
    namespace: Arc<str>,
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    events: Mutex<VecDeque<Envelope>>,
    /// Something was queued.
    filled: Notify,
    /// The last one was sent.
    drained: Notify,
}

impl Publisher {
    /// Starts the sender. It connects when there is something to send.
    pub(crate) fn new(namespace: &str, address: &str) -> Self {
        let queue = Arc::new(Queue::default());
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
            Err(error) => error!(topic = E::TOPIC, error:%; "cannot encode an event"),
        }
    }

    /// Waits until all is sent, but not for ever: containerd may be gone for good.
    pub(crate) async fn drain(&self, patience: Duration) {
        let sent = async {
            loop {
                let drained = self.queue.drained.notified();
                if self.queue.is_empty() {
                    return;
                }
                drained.await;
            }
        };
        if tokio::time::timeout(patience, sent).await.is_err() {
            warn!(left = self.queue.lock().len(); "containerd did not take the last events");
        }
    }
}

/// A message with its type, as containerd's typeurl writes it: the bare name.
pub(crate) fn any<M: MessageFull>(message: &M) -> protobuf::Result<Any> {
    Ok(Any {
        type_url: M::descriptor().full_name().to_owned(),
        value: message.write_to_bytes()?,
        ..Any::default()
    })
}

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Envelope>> {
        // A queue is whole between any two of its calls.
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: Envelope) {
        let mut events = self.lock();
        if events.len() == QUEUE
            && let Some(lost) = events.pop_front()
        {
            warn!(topic = lost.topic.as_str(); "containerd is down for long: an event is lost");
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
        // The head may have been pushed out meanwhile.
        if events.front() == Some(sent) {
            events.pop_front();
        }
        if events.is_empty() {
            self.drained.notify_waiters();
        }
    }
}

async fn send(queue: Arc<Queue>, address: String) {
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
            Err(Failure::Refused(error)) => {
                error!(topic = event.topic.as_str(), error:%; "containerd refuses an event");
                queue.pop(&event);
            }
            Err(Failure::Unreachable(error)) => {
                if pause == FIRST_RETRY {
                    warn!(topic = event.topic.as_str(), error:%; "containerd is not there, event waits");
                }
                client = None;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LAST_RETRY);
            }
        }
    }
}

enum Failure {
    /// containerd said no: the same again would not help.
    Refused(String),
    /// containerd said nothing.
    Unreachable(String),
}

async fn forward(
    client: &mut Option<EventsClient>,
    address: &str,
    event: &Envelope,
) -> Result<(), Failure> {
    let unreachable = |error: ttrpc::Error| Failure::Unreachable(error.to_string());
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
            Err(Failure::Refused(status.message().to_owned()))
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
    fn the_type_is_the_bare_name() {
        let any = any(&start(1)).expect("encode");
        assert_eq!(any.type_url, "containerd.events.TaskStart");
    }

    #[test]
    fn a_full_queue_loses_the_oldest() {
        let queue = Queue::default();
        for n in 0..=QUEUE {
            queue.push(Envelope {
                topic: n.to_string(),
                ..Envelope::default()
            });
        }
        let events = queue.lock();
        assert_eq!(events.len(), QUEUE);
        assert_eq!(events.front().expect("full").topic, "1");
    }

    #[tokio::test]
    async fn draining_gives_up_when_containerd_is_gone() {
        let publisher = Publisher::new("n", "/nonexistent/containerd.sock.ttrpc");
        publisher.publish(&start(1));
        publisher.drain(Duration::from_millis(120)).await;
        assert!(!publisher.queue.is_empty());
    }
}
