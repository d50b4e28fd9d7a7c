//! The job's own process, on the host: from the job to its report. Called by `wasm-interp node`, in
//! the unit or, for what restarts nothing, in a person's shell.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::files;
use crate::host::Host;
use crate::job::{Action, Choice, Job, JobError};
use crate::layout::{self, Layout};
use crate::live::Live;
use crate::prewarm;
use crate::record::Record;
use crate::report::{Outcome, Report, Status, Step};
use crate::work::{Done, Pace, Work, WorkError};

/// Whether containerd may be restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// If need be.
    Allowed,
    /// Not by us: somebody else does it later.
    Never,
}

impl Job {
    /// Does it, in this process, and says what came of it: whatever goes wrong is in the report.
    ///
    /// Waits for other jobs on this host to end, unless it changes nothing that they do.
    #[must_use]
    pub fn run(&self, host: &Host, restart: Restart) -> Report {
        let host = &host.clone().with_base(&self.base);
        if let Action::Prewarm(wish) = &self.action {
            let done = prewarm::run(host, self.distribution, wish);
            return Report {
                ticket: self.ticket.clone(),
                action: self.action.name().to_owned(),
                version: self.version.clone(),
                outcome: done.outcome,
                message: done.message,
                steps: done.steps,
                status: None,
                images: done.images,
            };
        }
        let mut steps = Vec::new();
        let mut status = None;
        let result = self.attempt(host, restart, &mut steps, &mut status);
        let (outcome, message) = match result {
            Ok(Done { changed, restarted }) => (
                Outcome::Done { changed, restarted },
                self.good_news(changed, restart).to_owned(),
            ),
            Err(error) => (error.outcome(), error.to_string()),
        };
        Report {
            ticket: self.ticket.clone(),
            action: self.action.name().to_owned(),
            version: self.version.clone(),
            outcome,
            message,
            steps,
            status,
            images: Vec::new(),
        }
    }

    fn attempt(
        &self,
        host: &Host,
        restart: Restart,
        steps: &mut Vec<Step>,
        status: &mut Option<Status>,
    ) -> Result<Done, WorkError> {
        let layout = layout::find(host, self.distribution)?;
        let live = Live::new(host, &layout);
        let _lock = files::lock(&host.run_dir())?;
        let mut work = work(host, &layout, &live, restart);
        let nothing = Done {
            changed: false,
            restarted: false,
        };
        let result = match self.action {
            Action::Install => work.install(&self.folder),
            Action::Verify => work.verify().map(|()| nothing),
            Action::Uninstall { force } => work.uninstall(force),
            // `run` has seen to prewarming.
            Action::Status | Action::Prewarm(_) => work.is_listed().map(|()| nothing),
        };
        *status = Some(work.status());
        steps.append(&mut work.steps);
        result
    }

    fn good_news(&self, changed: bool, restart: Restart) -> &'static str {
        match (&self.action, changed, restart) {
            (Action::Install, _, Restart::Never) => {
                "the configuration has the runtime: restart containerd, then run wasm-interp node verify"
            }
            (Action::Install, true, _) => {
                "installed: containerd has the handler wasm-interp, and a program ran with it"
            }
            (Action::Install, false, _) => {
                "nothing to change: containerd has the handler wasm-interp, and a program ran with it"
            }
            (Action::Verify, ..) => {
                "containerd has the handler wasm-interp, and a program ran with it"
            }
            (Action::Uninstall { .. }, _, Restart::Never) => {
                "the configuration is without the runtime: restart containerd"
            }
            (Action::Uninstall { .. }, true, _) => {
                "uninstalled: containerd runs without the runtime"
            }
            (Action::Uninstall { .. }, false, _) => "nothing of the runtime was configured",
            (Action::Status | Action::Prewarm(_), ..) => "containerd has the handler wasm-interp",
        }
    }
}

impl Host {
    /// The unit's process: does the job, writes the report for whoever waits. Returns it too.
    ///
    /// # Errors
    /// If the argument is no job, or the report cannot be written.
    pub fn run_unit(&self, argument: &str) -> Result<Report, JobError> {
        let job: Job = serde_json::from_str(argument).map_err(JobError::Decode)?;
        let report = job.run(self, Restart::Allowed);
        self.write_report(&report)?;
        Ok(report)
    }

    /// What systemd runs after the unit's process, however that ended: brings what it left to an
    /// end.
    ///
    /// # Errors
    /// If the node could not be brought back to a running containerd.
    pub fn settle_unit(&self, argument: &str) -> Result<(), SettleError> {
        let job: Job = serde_json::from_str(argument).map_err(JobError::Decode)?;
        // After a job that ended well nothing may be made, least of all what uninstall removed.
        if Record::exists(self) {
            self.settle(job.distribution)?;
        }
        Ok(())
    }

    fn settle(&self, choice: Choice) -> Result<(), WorkError> {
        let layout = layout::find(self, choice)?;
        let live = Live::new(self, &layout);
        let _lock = files::lock(&self.run_dir())?;
        work(self, &layout, &live, Restart::Allowed).settle()
    }
}

/// An interrupted job could not be brought to an end.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// See the error.
    #[error(transparent)]
    Job(#[from] JobError),
    /// See the error.
    #[error(transparent)]
    Work(#[from] WorkError),
}

fn work<'a>(host: &'a Host, layout: &'a Layout, live: &'a Live<'a>, restart: Restart) -> Work<'a> {
    Work {
        host,
        layout,
        daemon: live,
        restart,
        pace: Pace::default(),
        now: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs(),
        watch: &|_| {},
        steps: Vec::new(),
    }
}
