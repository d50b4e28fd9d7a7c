//! The job that compiles the interpreters of the chart's images: when to start it, and its result. Called by `agent`. A
//! node is ready without it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::oneshot::{Receiver, channel, error::TryRecvError};
use wasm_interp_node::{JobAction, PrewarmRequest};
use wasm_interp_workload::{shortened, with_causes};

use crate::backoff::Backoff;
use crate::node_jobs::{FinishedJob, NodeJobError, NodeJobs};

/// The longest failure in the node's annotation, in bytes.
const LONGEST_FAILURE: usize = 1500;

/// The result of the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PrewarmResult {
    Done(String),
    Failed(String),
}

/// The images of the chart, and the state of their job.
pub(crate) struct PrewarmTask {
    images: Vec<String>,
    state: PrewarmState,
    retry_pause: Duration,
    backoff: Backoff,
    failure: Option<String>,
}

enum PrewarmState {
    /// To be started after the pause.
    Waiting,
    Running(Receiver<Result<FinishedJob, NodeJobError>>),
    Done,
}

impl PrewarmTask {
    /// A job that fails is started again after `retry_pause`, then after longer pauses.
    pub(crate) fn new(images: Vec<String>, retry_pause: Duration) -> Self {
        Self {
            images,
            state: PrewarmState::Waiting,
            retry_pause,
            backoff: Backoff::new(retry_pause),
            failure: None,
        }
    }

    /// Starts from the beginning: an uninstall has removed the native code.
    pub(crate) fn restart(&mut self) {
        *self = Self::new(std::mem::take(&mut self.images), self.retry_pause);
    }

    /// Why some interpreters are not compiled, if the last job failed.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Starts the job if it is due, and does not wait for it; `ended` is notified when it ends. Returns the result if the
    /// job has ended since the last call.
    pub(crate) fn poll(
        &mut self,
        jobs: &Arc<impl NodeJobs>,
        ended: &Arc<Notify>,
    ) -> Option<PrewarmResult> {
        match &mut self.state {
            PrewarmState::Waiting if self.images.is_empty() => None,
            PrewarmState::Waiting if !self.backoff.remaining().is_zero() => None,
            PrewarmState::Waiting => {
                self.state = PrewarmState::Running(start(&self.images, jobs, ended));
                None
            }
            PrewarmState::Running(result) => match result.try_recv() {
                Ok(result) => self.finish(result),
                Err(TryRecvError::Empty) => None,
                // The thread has panicked and printed why.
                Err(TryRecvError::Closed) => {
                    self.wait(self.retry_pause);
                    None
                }
            },
            PrewarmState::Done => None,
        }
    }

    fn finish(&mut self, result: Result<FinishedJob, NodeJobError>) -> Option<PrewarmResult> {
        let message = match result {
            Ok(FinishedJob { report, .. }) if report.succeeded() => {
                self.state = PrewarmState::Done;
                self.failure = None;
                return Some(PrewarmResult::Done(report.message));
            }
            Ok(FinishedJob { report, .. }) => report.message,
            // The job of an earlier agent runs, perhaps with other images.
            Err(error) if error.is_busy() => {
                self.wait(self.retry_pause);
                return None;
            }
            Err(error) => format!("cannot prewarm: {}", with_causes(&error)),
        };
        let pause = self.backoff.count_failure();
        self.wait(pause);
        let message = shortened(&message, LONGEST_FAILURE);
        self.failure = Some(message.clone());
        Some(PrewarmResult::Failed(message))
    }

    fn wait(&mut self, pause: Duration) {
        self.state = PrewarmState::Waiting;
        self.backoff.pause(pause);
    }
}

fn start(
    images: &[String],
    jobs: &Arc<impl NodeJobs>,
    ended: &Arc<Notify>,
) -> Receiver<Result<FinishedJob, NodeJobError>> {
    let action = JobAction::Prewarm(PrewarmRequest::new(images.to_vec()));
    let (jobs, ended) = (jobs.clone(), ended.clone());
    let (sender, result) = channel();
    tokio::task::spawn_blocking(move || {
        // Nothing receives the result if the runtime was uninstalled meanwhile.
        let _ = sender.send(jobs.run(action));
        ended.notify_one();
    });
    result
}
