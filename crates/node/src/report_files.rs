//! The reports in their folder on the host: a job writes one, the client takes it. Called by `execute`, `client` and
//! `operation`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::files::{self, FileError};
use crate::host::HostRoot;
use crate::lock;
use crate::report::{JobReport, JobStep};

/// How long a report is kept whose client does not read it.
const KEPT: Duration = Duration::from_secs(3600);

/// A report cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// See the error.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not a report.
    #[error("cannot read the report {path}: {source}; run the command again")]
    Decode {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// It cannot be encoded.
    #[error("cannot encode the report: {0}; report this")]
    Encode(#[source] serde_json::Error),
}

fn path(host: &HostRoot, job_id: &str) -> PathBuf {
    host.run_dir().join(format!("report-{job_id}.json"))
}

/// Writes the report for the client, and removes old ones.
pub(crate) fn write(host: &HostRoot, report: &JobReport) -> Result<(), ReportError> {
    // A client that takes another report must not remove the folder meanwhile.
    let _lock = lock::acquire(&host.run_dir())?;
    remove_older_than(host, KEPT)?;
    let text = serde_json::to_vec_pretty(report).map_err(ReportError::Encode)?;
    Ok(files::write(&path(host, &report.job_id), &text, 0o600)?)
}

/// Reads and removes the report; `None` if it is not there yet.
pub(crate) fn take(host: &HostRoot, job_id: &str) -> Result<Option<JobReport>, ReportError> {
    let path = path(host, job_id);
    let Some(bytes) = files::read(&path)? else {
        return Ok(None);
    };
    let mut report: JobReport =
        serde_json::from_slice(&bytes).map_err(|source| ReportError::Decode {
            path: path.clone(),
            source,
        })?;
    // The outcome of the job is known, even if the file stays.
    if let Err(error) = remove(&path, &host.run_dir()) {
        report.steps.push(JobStep::new("keep", &error.to_string()));
    }
    Ok(Some(report))
}

fn remove(report: &Path, folder: &Path) -> Result<(), FileError> {
    files::remove(report)?;
    lock::remove_if_unused(folder)
}

/// Removes reports of that age: their clients were killed. The caller holds the lock.
pub(crate) fn remove_older_than(host: &HostRoot, age: Duration) -> Result<(), FileError> {
    let folder = host.run_dir();
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(FileError::new("list", &folder))?,
    };
    for entry in entries.flatten() {
        let is_old = entry
            .metadata()
            .and_then(|data| data.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|elapsed| elapsed >= age));
        if is_old && entry.file_name().to_string_lossy().starts_with("report-") {
            files::remove(&entry.path())?;
        }
    }
    files::remove_unfinished(&folder)
}

#[cfg(test)]
mod tests {
    use nix::mount::{MsFlags, mount};

    use super::*;
    use crate::report::{JobOutcome, JobResult};
    use crate::test_mounts::in_own_namespace;

    #[test]
    fn report_that_cannot_be_removed_is_read() {
        // A mount point cannot be removed, not even by root.
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let host = HostRoot::new(root.path());
        let result = JobResult::new(JobOutcome::Refused, "no".into());
        let report = result.into_report("1", "install", "1");
        assert_eq!(take(&host, "1").unwrap(), None);
        write(&host, &report).unwrap();
        let path = path(&host, "1");
        in_own_namespace(|| {
            let none: Option<&str> = None;
            mount(Some(&path), &path, none, MsFlags::MS_BIND, none).unwrap();
            let taken = take(&host, "1").unwrap().unwrap();
            assert_eq!(taken.outcome, report.outcome);
            assert_eq!(taken.steps.len(), 1, "{:?}", taken.steps);
        });
        assert_eq!(take(&host, "1").unwrap(), Some(report));
        assert!(!host.run_dir().exists());
    }
}
