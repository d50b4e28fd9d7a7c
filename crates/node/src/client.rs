//! The client's side of a job: starts it as a unit of the host's systemd, and waits for its report. Called by
//! `wasm-interp node` and the agent.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::host::HostRoot;
use crate::job::{JobAction, NodeJob};
use crate::names::COMMAND;
use crate::report::JobReport;
use crate::report_files::{self, ReportError};
use crate::systemd::{self, Systemd, SystemdError, TransientUnit};

/// Interval between two looks for the report.
const POLL: Duration = Duration::from_millis(100);
/// Interval between two queries of the unit's state. Each makes several connections to systemd.
const STATE_POLL: Duration = Duration::from_secs(2);
/// The job is lost after this many queries in a row that find no unit, while there is no report. A unit may end between
/// the look for its report and the query of its state.
const LOST_AFTER: u32 = 2;

/// A job that was started.
#[derive(Clone, Debug)]
pub struct StartedJob {
    id: String,
    unit: &'static str,
}

/// A job cannot be started, or its report cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Another job runs on this node.
    #[error(
        "cannot start the job: another job of {0} runs on this node; wait for it, see systemctl \
         status {0}"
    )]
    Busy(&'static str),
    /// There is no systemd.
    #[error(
        "cannot start the job: this node has no systemd at {socket}; run {command} node {action} \
         --no-restart on the node as root and restart containerd yourself{}",
        verify(command, action)
    )]
    NoSystemd {
        /// The socket.
        socket: PathBuf,
        /// The command line to use instead.
        command: PathBuf,
        /// Its action.
        action: &'static str,
    },
    /// The unit ended without a report.
    #[error(
        "cannot tell the job's result: it ended without a report; see journalctl -u {0} on the node"
    )]
    Lost(&'static str),
    /// The job takes too long.
    #[error(
        "cannot tell the job's result: it did not report within {} s; it continues, see \
         journalctl -fu {unit} on the node",
        .after.as_secs()
    )]
    TimedOut {
        /// Its unit.
        unit: &'static str,
        /// The limit.
        after: Duration,
    },
    /// The job cannot be encoded.
    #[error("cannot encode the job: {0}; report this")]
    Encode(#[source] serde_json::Error),
    /// See the error.
    #[error(transparent)]
    Systemd(#[from] SystemdError),
    /// See the error.
    #[error(transparent)]
    Report(#[from] ReportError),
}

/// After an installation without a restart, the user has to verify.
fn verify(command: &Path, action: &str) -> String {
    if action == JobAction::Install.name() {
        format!(", then run {} node verify", command.display())
    } else {
        String::new()
    }
}

impl HostRoot {
    /// Starts the job as a unit of the host's systemd.
    ///
    /// # Errors
    /// [`JobError::Busy`] while another one runs, [`JobError::NoSystemd`] if there is no socket.
    pub fn start(&self, job: &NodeJob) -> Result<StartedJob, JobError> {
        let command = job.folder.join(COMMAND);
        if !self.systemd().exists() {
            return Err(JobError::NoSystemd {
                socket: self.systemd().to_owned(),
                command,
                action: job.action.name(),
            });
        }
        let argument = serde_json::to_string(job).map_err(JobError::Encode)?;
        let words = |verb: &str| {
            let words = [&command.to_string_lossy(), "node", verb, &argument];
            words.map(str::to_owned).to_vec()
        };
        let afterwards = match job.action {
            // It leaves nothing to settle.
            JobAction::Prewarm(_) => None,
            // An uninstall removes the executable that would settle, and then there is nothing to settle.
            _ => {
                let if_exists = ["/bin/sh", "-c", r#"[ ! -x "$0" ] || exec "$0" "$@""#];
                let mut command = if_exists.map(str::to_owned).to_vec();
                command.extend(words("__settle"));
                Some(command)
            }
        };
        let unit = job.action.unit();
        let transient = TransientUnit {
            unit,
            description: &job.action.description(),
            command: words("__job"),
            afterwards,
            limit: job.action.limit(),
        };
        match Systemd::new(self.systemd()).start_transient(&transient) {
            Ok(()) => Ok(StartedJob {
                id: job.id.clone(),
                unit,
            }),
            Err(error) if systemd::is_busy(&error) => Err(JobError::Busy(unit)),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for the job's report and removes it from the host.
    ///
    /// # Errors
    /// [`JobError::Lost`] if the job ended without one (it was killed, or could not start), [`JobError::TimedOut`]
    /// after `limit`.
    pub fn wait(&self, job: &StartedJob, limit: Duration) -> Result<JobReport, JobError> {
        let systemd = Systemd::new(self.systemd());
        let end = Instant::now() + limit;
        let mut next_query = Instant::now() + STATE_POLL;
        let mut queries_without_unit = 0;
        loop {
            if let Some(report) = report_files::take(self, &job.id)? {
                return Ok(report);
            }
            if queries_without_unit >= LOST_AFTER {
                return Err(JobError::Lost(job.unit));
            }
            if Instant::now() >= next_query {
                // systemd may not answer while it executes itself again. Only the report counts.
                match systemd.state(job.unit) {
                    Ok(state) if state.is_down() => queries_without_unit += 1,
                    _ => queries_without_unit = 0,
                }
                next_query = Instant::now() + STATE_POLL;
            }
            if Instant::now() > end {
                return Err(JobError::TimedOut {
                    unit: job.unit,
                    after: limit,
                });
            }
            std::thread::sleep(POLL);
        }
    }
}
