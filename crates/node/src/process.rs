//! The job's own process, on the host: from the job to its report. Called by `wasm-interp node`, in
//! the unit or, for what restarts nothing, in a person's shell.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::files;
use crate::host::Host;
use crate::job::{Action, Choice, Job, JobError};
use crate::layout::{self, Layout, LayoutError};
use crate::live::Live;
use crate::prewarm;
use crate::record::Record;
use crate::report::{Outcome, Report, Step};
use crate::work::{Done, LINK, Pace, Work, WorkError};

/// Whether containerd may be restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// If need be.
    Allowed,
    /// Not by us: somebody else does it later.
    Never,
}

/// What a job has done that only looks.
const NOTHING: Done = Done {
    changed: false,
    restarted: false,
};

impl Job {
    /// Does it, in this process, and says what came of it: whatever goes wrong is in the report.
    ///
    /// Waits for other jobs on this host to end, unless it changes nothing that they do.
    #[must_use]
    pub fn run(&self, host: &Host, restart: Restart) -> Report {
        let host = &host.clone().with_base(&self.base);
        match &self.action {
            Action::Prewarm(wish) => {
                let done = prewarm::run(host, self.distribution, wish);
                Report {
                    images: done.images,
                    ..self.report(done.outcome, done.message, done.steps)
                }
            }
            Action::Install => self.work(
                host,
                restart,
                |work| work.install(&self.folder),
                |changed| match (restart, changed) {
                    (Restart::Never, _) => {
                        "the configuration has the runtime: restart containerd, then run wasm-interp node verify"
                    }
                    (Restart::Allowed, true) => {
                        "installed: containerd has the handler wasm-interp, and a program ran with it"
                    }
                    (Restart::Allowed, false) => {
                        "nothing to change: containerd has the handler wasm-interp, and a program ran with it"
                    }
                },
            ),
            Action::Verify => self.work(
                host,
                restart,
                |work| work.verify().map(|()| NOTHING),
                |_| "containerd has the handler wasm-interp, and a program ran with it",
            ),
            Action::Uninstall { force } => self.work(
                host,
                restart,
                |work| work.uninstall(*force),
                |changed| match (restart, changed) {
                    (Restart::Never, _) => {
                        "the configuration is without the runtime: restart containerd"
                    }
                    (Restart::Allowed, true) => "uninstalled: containerd runs without the runtime",
                    (Restart::Allowed, false) => "nothing of the runtime was configured",
                },
            ),
            Action::Status => self.work(
                host,
                restart,
                |work| work.is_listed().map(|()| NOTHING),
                |_| "containerd has the handler wasm-interp",
            ),
        }
    }

    /// Does it when no other job works on the node. `good_news` is told whether anything changed.
    fn work(
        &self,
        host: &Host,
        restart: Restart,
        act: impl FnOnce(&mut Work<'_>) -> Result<Done, WorkError>,
        good_news: impl FnOnce(bool) -> &'static str,
    ) -> Report {
        let (mut steps, mut status) = (Vec::new(), None);
        let attempt = || {
            let layout = match layout::find(host, self.distribution) {
                Err(error) if !matches!(error, LayoutError::File(_)) && !is_configured(host) => {
                    let _lock = files::lock(&host.run_dir())?;
                    let result = match self.action {
                        Action::Uninstall { force } => {
                            Work::uninstall_unconfigured(host, force, &mut steps)
                        }
                        _ => Err(error.into()),
                    };
                    status = Some(Work::status_unconfigured(host));
                    return result;
                }
                layout => layout?,
            };
            let live = Live::new(host, &layout);
            let _lock = files::lock(&host.run_dir())?;
            let mut work = work(host, &layout, &live, restart);
            let result = act(&mut work);
            status = Some(work.status());
            steps = work.steps;
            result
        };
        let (outcome, message) = match attempt() {
            Ok(Done { changed, restarted }) => (
                Outcome::Done { changed, restarted },
                good_news(changed).to_owned(),
            ),
            Err(error) => (error.outcome(), error.to_string()),
        };
        Report {
            status,
            ..self.report(outcome, message, steps)
        }
    }

    fn report(&self, outcome: Outcome, message: String, steps: Vec<Step>) -> Report {
        Report {
            ticket: self.ticket.clone(),
            action: self.action.name().to_owned(),
            version: self.version.clone(),
            outcome,
            message,
            steps,
            status: None,
            images: Vec::new(),
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

/// Whether any job has changed this node, as far as its files tell.
fn is_configured(host: &Host) -> bool {
    let link = std::fs::read_link(host.at(LINK));
    Record::exists(host) || link.is_ok_and(|target| target.starts_with(host.base()))
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
