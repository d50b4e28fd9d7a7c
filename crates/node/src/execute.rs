//! The job's side: does the job and reports. Runs in the job's unit, or, for a job that restarts nothing, in the process
//! of the client.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::containerd::HostContainerd;
use crate::distribution::DistributionChoice;
use crate::files::FileError;
use crate::host::HostRoot;
use crate::job::{JobAction, NodeJob};
use crate::layout::{self, LayoutError, NodeLayout};
use crate::lock;
use crate::operation::{
    Effects, Operation, OperationError, RestartPolicy, RestartTiming, is_linked,
    status_without_layout, uninstall_without_layout,
};
use crate::policy_file;
use crate::prewarm;
use crate::record::NodeRecord;
use crate::report::{JobOutcome, JobReport, JobResult};
use crate::report_files::{self, ReportError};

/// The job's process cannot do or report its job.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// The argument is not a job.
    #[error(
        "cannot parse the argument of the job's unit: {0}; start the job by wasm-interp node, \
         not by its unit"
    )]
    Decode(#[source] serde_json::Error),
    /// See the error.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// See the error.
    #[error(transparent)]
    Operation(#[from] OperationError),
    /// See the error.
    #[error(transparent)]
    File(#[from] FileError),
}

impl NodeJob {
    /// Does the job in this process. The report has every failure.
    ///
    /// Waits until other jobs on this host have ended, except to prewarm.
    #[must_use]
    pub fn run(&self, host: &HostRoot, restart: RestartPolicy) -> JobReport {
        let host = &host.clone().with_base(&self.base);
        let result = match &self.action {
            JobAction::Prewarm(request) => prewarm::run(host, self.distribution, request),
            _ => self.operate(host, restart),
        };
        result.into_report(&self.id, self.action.name(), &self.version)
    }

    /// Does an action that changes or inspects the node, under the lock of all jobs.
    fn operate(&self, host: &HostRoot, restart: RestartPolicy) -> JobResult {
        let (mut steps, mut status, mut policy_error) = (Vec::new(), None, None);
        let mut attempt = || -> Result<Effects, OperationError> {
            let layout = match layout::find(host, self.distribution) {
                Err(error) if !matches!(error, LayoutError::File(_)) && !is_configured(host) => {
                    let _lock = lock::acquire(&host.run_dir())?;
                    let effects = match self.action {
                        JobAction::Uninstall { force } => {
                            uninstall_without_layout(host, force, &mut steps)
                        }
                        _ => Err(error.into()),
                    };
                    status = Some(status_without_layout(host));
                    return effects;
                }
                layout => layout?,
            };
            let containerd = HostContainerd::new(host, &layout);
            let _lock = lock::acquire(&host.run_dir())?;
            let policy = policy_file::apply(host, &self.policy);
            policy_error = policy.err().map(|error| error.to_string());
            let mut operation = new_operation(host, &layout, &containerd, restart);
            let effects = self.run_action(&mut operation);
            status = Some(operation.status());
            steps = operation.steps;
            effects
        };
        let (outcome, message) = match attempt() {
            Ok(effects) => {
                let Effects { changed, restarted } = effects;
                let message = self.success_message(restart, changed).to_owned();
                (JobOutcome::Done { changed, restarted }, message)
            }
            Err(error) => (error.outcome(), error.to_string()),
        };
        JobResult {
            steps,
            status,
            policy_error,
            ..JobResult::new(outcome, message)
        }
    }

    fn run_action(&self, operation: &mut Operation<'_>) -> Result<Effects, OperationError> {
        match &self.action {
            JobAction::Install => operation.install(&self.folder),
            JobAction::Verify => operation.verify().map(|()| Effects::default()),
            JobAction::Uninstall { force } => operation.uninstall(*force),
            JobAction::Status | JobAction::Prewarm(_) => {
                operation.check_handler().map(|()| Effects::default())
            }
        }
    }

    fn success_message(&self, restart: RestartPolicy, changed: bool) -> &'static str {
        match (&self.action, restart, changed) {
            (JobAction::Install, RestartPolicy::Never, _) => {
                "the configuration has the runtime: restart containerd, then run wasm-interp node \
                 verify"
            }
            (JobAction::Install, RestartPolicy::Allowed, true) => {
                "installed: containerd has the handler wasm-interp, and a program ran with it"
            }
            (JobAction::Install, RestartPolicy::Allowed, false) => {
                "nothing to change: containerd has the handler wasm-interp, and a program ran \
                 with it"
            }
            (JobAction::Verify, ..) => {
                "containerd has the handler wasm-interp, and a program ran with it"
            }
            (JobAction::Uninstall { .. }, RestartPolicy::Never, _) => {
                "the configuration does not have the runtime any more: restart containerd"
            }
            (JobAction::Uninstall { .. }, RestartPolicy::Allowed, true) => {
                "uninstalled: containerd runs without the runtime"
            }
            (JobAction::Uninstall { .. }, RestartPolicy::Allowed, false) => {
                "the runtime was not configured"
            }
            (JobAction::Status | JobAction::Prewarm(_), ..) => {
                "containerd has the handler wasm-interp"
            }
        }
    }
}

impl HostRoot {
    /// The unit's process: does the job and writes its report, which it also returns.
    ///
    /// # Errors
    /// If the argument is not a job, or the report cannot be written.
    pub fn run_unit(&self, argument: &str) -> Result<JobReport, ExecuteError> {
        let job: NodeJob = serde_json::from_str(argument).map_err(ExecuteError::Decode)?;
        let report = job.run(self, RestartPolicy::Allowed);
        report_files::write(self, &report)?;
        Ok(report)
    }

    /// systemd runs this after the unit's process, even if that was killed. It completes or undoes what the job left.
    ///
    /// # Errors
    /// If containerd does not run with the old configuration either.
    pub fn settle_unit(&self, argument: &str) -> Result<(), ExecuteError> {
        let job: NodeJob = serde_json::from_str(argument).map_err(ExecuteError::Decode)?;
        // Without a record there is nothing to settle. In particular, it must not create what an uninstall removed.
        if NodeRecord::exists(self) {
            self.settle(job.distribution)?;
        }
        Ok(())
    }

    fn settle(&self, choice: DistributionChoice) -> Result<(), ExecuteError> {
        let layout = layout::find(self, choice).map_err(OperationError::from)?;
        let containerd = HostContainerd::new(self, &layout);
        let _lock = lock::acquire(&self.run_dir())?;
        let restart = RestartPolicy::Allowed;
        Ok(new_operation(self, &layout, &containerd, restart).settle()?)
    }
}

/// Whether a job has changed this node, as far as its files tell.
fn is_configured(host: &HostRoot) -> bool {
    NodeRecord::exists(host) || is_linked(host)
}

fn new_operation<'a>(
    host: &'a HostRoot,
    layout: &'a NodeLayout,
    containerd: &'a HostContainerd<'a>,
    restart: RestartPolicy,
) -> Operation<'a> {
    Operation {
        host,
        layout,
        containerd,
        restart,
        timing: RestartTiming::default(),
        now_unix: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs(),
        before_step: &|_| {},
        steps: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use wasm_interp_containerd::CALL_LIMIT;

    use super::*;

    #[test]
    fn slow_servers_and_their_jobs_have_enough_time() {
        let layouts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/layouts");
        for (name, wanted) in [
            ("k3s", 300),
            ("rke2", 300),
            ("kubeadm", 120),
            ("microk8s", 120),
        ] {
            let host = HostRoot::new(layouts.join(name).join("before"));
            let layout = layout::find(&host, DistributionChoice::Auto).unwrap();
            let limit = HostContainerd::new(&host, &layout).restart_limit();
            assert_eq!(limit, Duration::from_secs(wanted), "{name}");
            // A test of the release, a restart that fails, the restart back, and queries between.
            let all = 2 * (limit + RestartTiming::default().limit) + 3 * CALL_LIMIT;
            assert!(JobAction::Install.limit() >= all, "{name}");
        }
    }
}
