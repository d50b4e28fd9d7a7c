//! One job from both sides: how the asker starts it and waits for its report, and what its process
//! runs. The two share [`Job`], as one argument, and the report's file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};
use crate::host::Host;
use crate::names::{COMMAND, KUBERNETES, PREWARM_UNIT, UNIT};
use crate::release::Placed;
use crate::report::{Report, Step};
use crate::systemd::{self, Systemd, SystemdError, Transient};

/// A job may take this long: two restarts of containerd, of k3s and RKE2 with all that they start, and
/// programs that run through it.
const LIMIT: Duration = Duration::from_secs(900);
/// And this long the one that pulls images and compiles …
const PREWARM_LIMIT: Duration = Duration::from_secs(7800);
/// … which works so long at most: the rest is for its report, which waits while another job runs.
pub(crate) const PREWARM_WORK: Duration = PREWARM_LIMIT.saturating_sub(LIMIT.saturating_mul(2));
/// Between two looks for the report.
const POLL: Duration = Duration::from_millis(100);
/// Between two questions for the unit: each is several connections to the host's first process.
const ASK: Duration = Duration::from_secs(2);
/// Answers without a unit, and no report, before the job counts as lost. A unit may end between the
/// look for its report and the question for it.
const LOST_AFTER: u32 = 2;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Configure containerd for the release, restart it if need be, and verify.
    Install,
    /// Check that the runtime works, changing nothing.
    Verify,
    /// Take everything away, if no container of this runtime runs.
    Uninstall {
        /// Take it away from under running containers.
        #[serde(default)]
        force: bool,
    },
    /// Say what holds.
    Status,
    /// Compile the interpreters of images before anybody starts one.
    Prewarm(Prewarm),
}

/// What to prewarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Prewarm {
    /// Names of images, as pods have them.
    pub images: Vec<String>,
    /// containerd's namespace in which they are looked for; into [`KUBERNETES`] they are pulled too.
    pub namespace: String,
    /// containerd's socket, if not the one of the node's layout.
    #[serde(default)]
    pub socket: Option<PathBuf>,
}

impl Prewarm {
    /// These images, for pods.
    #[must_use]
    pub fn new(images: Vec<String>) -> Self {
        Self {
            images,
            namespace: KUBERNETES.to_owned(),
            socket: None,
        }
    }
}

impl Action {
    /// As the command line and reports name it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Verify => "verify",
            Self::Uninstall { .. } => "uninstall",
            Self::Status => "status",
            Self::Prewarm(_) => "prewarm",
        }
    }

    /// What the unit of such a job is about.
    fn description(&self) -> String {
        match self {
            Self::Prewarm(_) => "wasm-interp: compile the interpreters of images".to_owned(),
            _ => format!("wasm-interp: {} the container runtime", self.name()),
        }
    }

    /// The unit that it runs as. Those that change the node share one, so that only one of them runs.
    fn unit(&self) -> &'static str {
        match self {
            Self::Prewarm(_) => PREWARM_UNIT,
            _ => UNIT,
        }
    }

    /// The longest that such a job may take.
    #[must_use]
    pub fn limit(&self) -> Duration {
        match self {
            Self::Prewarm(_) => PREWARM_LIMIT,
            _ => LIMIT,
        }
    }
}

/// How a node's containerd is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    /// A containerd of its own, configured in `/etc/containerd`: Debian, Ubuntu, kubeadm, kind, EKS,
    /// AKS, GKE on Ubuntu.
    Containerd,
    /// k3s.
    K3s,
    /// RKE2.
    Rke2,
    /// k0s.
    K0s,
    /// MicroK8s.
    MicroK8s,
}

/// Which layout to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// Find out.
    #[default]
    Auto,
    /// This one.
    #[serde(untagged)]
    Named(Distribution),
}

/// One job, as its process is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Job {
    pub(crate) ticket: String,
    pub(crate) action: Action,
    #[serde(default)]
    pub(crate) distribution: Choice,
    pub(crate) base: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) version: String,
}

/// A job that was started.
#[derive(Clone, Debug)]
pub struct Ticket {
    id: String,
    unit: &'static str,
}

/// A job did not run, or its report is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Another job runs on this node.
    #[error("another job of {0} runs on this node: wait for it, see systemctl status {0}")]
    Busy(&'static str),
    /// There is no systemd.
    #[error(
        "this node has no systemd at {socket}: run {command} node {action} --no-restart on the node \
         as root and restart containerd yourself{}",
        verify(command, action)
    )]
    NoSystemd {
        /// Where its socket was looked for.
        socket: PathBuf,
        /// The command line to use instead.
        command: PathBuf,
        /// What was to be done.
        action: &'static str,
    },
    /// See the error.
    #[error(transparent)]
    Systemd(#[from] SystemdError),
    /// See the error.
    #[error(transparent)]
    File(#[from] FileError),
    /// The unit ended without a report.
    #[error("the job ended without a report: see journalctl -u {0} on the node")]
    Lost(&'static str),
    /// It takes too long.
    #[error(
        "the job did not report within {} s; it goes on: see journalctl -fu {unit} on the node",
        .after.as_secs()
    )]
    Slow {
        /// Its unit.
        unit: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// The report is not one.
    #[error("the report {path} cannot be read: {source}")]
    Report {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The argument is not a job.
    #[error("the argument of the job's unit is not a job: {0}")]
    Decode(#[source] serde_json::Error),
    /// The job cannot be told what to do.
    #[error("cannot write the job down: {0}")]
    Encode(#[source] serde_json::Error),
}

/// What is installed by hand is to be seen at work.
fn verify(command: &Path, action: &str) -> String {
    if action == Action::Install.name() {
        format!(", then run {} node verify", command.display())
    } else {
        String::new()
    }
}

impl Job {
    /// That action, with that release, on a layout that is found out.
    #[must_use]
    pub fn new(action: Action, release: &Placed) -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let base = release
            .folder
            .parent()
            .map_or_else(PathBuf::new, Into::into);
        Self {
            ticket: format!("{:x}-{:x}", since.as_nanos(), std::process::id()),
            action,
            distribution: Choice::Auto,
            base,
            folder: release.folder.clone(),
            version: release.version.clone(),
        }
    }

    /// On that layout.
    #[must_use]
    pub fn on(mut self, distribution: Choice) -> Self {
        self.distribution = distribution;
        self
    }
}

impl Host {
    /// Starts the job as a unit of the host's systemd.
    ///
    /// # Errors
    /// [`JobError::Busy`] while another one runs, [`JobError::NoSystemd`] if there is no socket.
    pub fn start(&self, job: &Job) -> Result<Ticket, JobError> {
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
            // It leaves nothing that needs an end.
            Action::Prewarm(_) => None,
            // An uninstallation removes what it runs from; then nothing is left to be settled.
            _ => {
                let if_there = ["/bin/sh", "-c", r#"[ ! -x "$0" ] || exec "$0" "$@""#];
                let mut command = if_there.map(str::to_owned).to_vec();
                command.extend(words("__settle"));
                Some(command)
            }
        };
        let name = job.action.unit();
        let unit = Transient {
            unit: name,
            description: &job.action.description(),
            command: words("__job"),
            afterwards,
            limit: job.action.limit(),
        };
        match Systemd::new(self.systemd()).start_transient(&unit) {
            Ok(()) => Ok(Ticket {
                id: job.ticket.clone(),
                unit: name,
            }),
            Err(error) if systemd::is_busy(&error) => Err(JobError::Busy(name)),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for the job's report and takes it.
    ///
    /// # Errors
    /// [`JobError::Lost`] if its process ended without one (it was killed, or could not start),
    /// [`JobError::Slow`] after `limit`.
    pub fn wait(&self, ticket: &Ticket, limit: Duration) -> Result<Report, JobError> {
        let path = self.report_file(&ticket.id);
        let systemd = Systemd::new(self.systemd());
        let until = Instant::now() + limit;
        let mut next_question = Instant::now() + ASK;
        let mut answers_without_unit = 0;
        loop {
            if let Some(bytes) = files::read(&path)? {
                let mut report: Report =
                    serde_json::from_slice(&bytes).map_err(|source| JobError::Report {
                        path: path.clone(),
                        source,
                    })?;
                // What came of the job is known, whatever becomes of the files.
                let cleared =
                    files::remove(&path).and_then(|()| files::forget_lock(&self.run_dir()));
                if let Err(error) = cleared {
                    report.steps.push(Step::new("keep", &error.to_string()));
                }
                return Ok(report);
            }
            if answers_without_unit >= LOST_AFTER {
                return Err(JobError::Lost(ticket.unit));
            }
            if Instant::now() >= next_question {
                // systemd may be busy re-executing itself; the report is what counts.
                match systemd.state(ticket.unit) {
                    Ok(state) if state.is_down() => answers_without_unit += 1,
                    _ => answers_without_unit = 0,
                }
                next_question = Instant::now() + ASK;
            }
            if Instant::now() > until {
                return Err(JobError::Slow {
                    unit: ticket.unit,
                    after: limit,
                });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Where the report of that job is, from here.
    fn report_file(&self, ticket: &str) -> PathBuf {
        self.run_dir().join(format!("report-{ticket}.json"))
    }

    /// Writes the report for the asker, and clears away those that nobody fetched.
    pub(crate) fn write_report(&self, report: &Report) -> Result<(), JobError> {
        const KEPT: Duration = Duration::from_secs(3600);
        // Who takes another report must not take the folder away under this one.
        let _lock = files::lock(&self.run_dir())?;
        self.forget_reports(KEPT)?;
        let text = serde_json::to_vec_pretty(report).map_err(JobError::Encode)?;
        Ok(files::write(
            &self.report_file(&report.ticket),
            &text,
            0o600,
        )?)
    }

    /// Removes reports that nobody has fetched for so long: who asked was killed.
    pub(crate) fn forget_reports(&self, kept: Duration) -> Result<(), FileError> {
        let folder = self.run_dir();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(FileError::new("list", &folder))?,
        };
        for entry in entries.flatten() {
            let is_old = entry
                .metadata()
                .and_then(|data| data.modified())
                .is_ok_and(|at| at.elapsed().is_ok_and(|age| age >= kept));
            if is_old && entry.file_name().to_string_lossy().starts_with("report-") {
                files::remove(&entry.path())?;
            }
        }
        // Of who was killed while it wrote one.
        files::forget_unfinished(&folder)?;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use nix::mount::{MsFlags, mount};

    use super::*;
    use crate::mounts_of_its_own;
    use crate::report::Outcome;

    #[test]
    fn a_report_that_cannot_be_removed_is_a_report() {
        // A mount point cannot be removed, also not by root.
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path());
        let report = Report {
            ticket: "1".into(),
            action: "install".into(),
            version: "1".into(),
            outcome: Outcome::Refused,
            message: "no".into(),
            steps: Vec::new(),
            status: None,
            images: Vec::new(),
        };
        host.write_report(&report).unwrap();
        let path = host.report_file("1");
        let ticket = Ticket {
            id: "1".into(),
            unit: UNIT,
        };
        mounts_of_its_own(|| {
            let none: Option<&str> = None;
            mount(Some(&path), &path, none, MsFlags::MS_BIND, none).unwrap();
            let taken = host.wait(&ticket, Duration::ZERO).unwrap();
            assert_eq!(taken.outcome, report.outcome);
            assert_eq!(taken.steps.len(), 1, "{:?}", taken.steps);
        });
        assert_eq!(host.wait(&ticket, Duration::ZERO).unwrap(), report);
        assert!(!host.run_dir().exists());
    }
}
