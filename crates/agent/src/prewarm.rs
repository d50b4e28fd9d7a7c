//! The images whose interpreters a node shall have compiled before anybody asks: when to see to it, and what came
//! of it. Called by `agent`; a node is ready without it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::oneshot::{Receiver, channel, error::TryRecvError};
use wasm_interp_node::{Action, Prewarm};
use wasm_interp_workload::{shortened, with_causes};

use crate::backoff::pause_after;
use crate::host::{HostError, Ran, Runtime};

/// As much of what failed as a node's annotation should hold.
const LONGEST: usize = 1500;

/// What came of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    Done(String),
    Failed(String),
}

/// The list, and how far it is.
pub(crate) struct Prewarming {
    images: Vec<String>,
    state: State,
    /// How often in a row it has failed.
    failures: u32,
    complaint: Option<String>,
}

enum State {
    Due(Instant),
    Running(Receiver<Result<Ran, HostError>>),
    Done,
}

impl Prewarming {
    pub(crate) fn new(images: Vec<String>) -> Self {
        Self {
            images,
            state: State::Due(Instant::now()),
            failures: 0,
            complaint: None,
        }
    }

    /// From the beginning: what was compiled is taken away.
    pub(crate) fn forget(&mut self) {
        *self = Self::new(std::mem::take(&mut self.images));
    }

    /// Why not all is compiled, if it has been tried.
    pub(crate) fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    /// Begins if it is time, and waits for nothing; `ended` is told when there is something to look at. Returns
    /// what has come of it since the last look. What fails is tried again at the first look after `pause`, then
    /// ever more seldom.
    pub(crate) fn look(
        &mut self,
        runtime: &Arc<impl Runtime>,
        ended: &Arc<Notify>,
        pause: Duration,
    ) -> Option<News> {
        match &mut self.state {
            State::Due(at) if !self.images.is_empty() && Instant::now() >= *at => {
                let action = Action::Prewarm(Prewarm::new(self.images.clone()));
                let (runtime, ended) = (runtime.clone(), ended.clone());
                let (tell, told) = channel();
                tokio::task::spawn_blocking(move || {
                    // Nobody listens any more if the runtime was taken away meanwhile.
                    let _ = tell.send(runtime.run(action));
                    ended.notify_one();
                });
                self.state = State::Running(told);
                None
            }
            State::Running(told) => match told.try_recv() {
                Ok(ran) => self.came_of(ran, pause),
                Err(TryRecvError::Empty) => None,
                // Its thread panicked, and has said so.
                Err(TryRecvError::Closed) => {
                    self.state = State::Due(Instant::now() + pause);
                    None
                }
            },
            State::Due(_) | State::Done => None,
        }
    }

    fn came_of(&mut self, ran: Result<Ran, HostError>, pause: Duration) -> Option<News> {
        let message = match ran {
            Ok(Ran { report, .. }) if report.holds() => {
                self.state = State::Done;
                self.complaint = None;
                return Some(News::Done(report.message));
            }
            Ok(Ran { report, .. }) => report.message,
            // Of an agent before this one, with another list perhaps.
            Err(error) if error.is_busy() => {
                self.state = State::Due(Instant::now() + pause);
                return None;
            }
            Err(error) => format!("cannot prewarm: {}", with_causes(&error)),
        };
        self.failures = self.failures.saturating_add(1);
        self.state = State::Due(Instant::now() + pause_after(self.failures, pause));
        let message = shortened(&message, LONGEST);
        self.complaint = Some(message.clone());
        Some(News::Failed(message))
    }
}
