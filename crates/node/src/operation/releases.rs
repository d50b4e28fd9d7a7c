//! The removal of releases that are not in use.

use std::path::Path;

use super::Operation;
use super::error::RemainingRelease;
use crate::files::{self, FileError};
use crate::host::HostRoot;
use crate::release;
use crate::report::JobStep;
use crate::usage::{self, RuntimeUsage};

impl Operation<'_> {
    /// Removes other releases than this one that are not in use. The node works already, so a release that cannot be
    /// removed is reported as a step and not as an error.
    pub(super) fn remove_other_releases(&mut self, keep: &Path) {
        let found = RuntimeUsage::find(self.host, &self.containerd_state())
            .and_then(|usage| usage::releases(self.host, &usage));
        let releases = match found {
            Ok(releases) => releases,
            Err(error) => return self.step("keep", format!("all releases: {error}")),
        };
        let unfinished = self.host.to_write(self.host.base()).and_then(|base| {
            release::remove_unfinished_removals(&base)?;
            release::remove_unfinished_copies(&base)
        });
        if let Err(error) = unfinished {
            self.step("keep", error.to_string());
        }
        for release in releases {
            if release.folder == keep {
                continue;
            }
            if release.in_use {
                self.step("keep", format!("{} is in use", release.folder.display()));
                continue;
            }
            let removed = self
                .host
                .to_write(&release.folder)
                .and_then(|folder| release::remove(&folder));
            match removed {
                Ok(()) => self.step("prune", release.folder.display().to_string()),
                Err(error) => self.step("keep", error.to_string()),
            }
        }
    }
}

/// Removes all releases that are not in use. Returns the others.
pub(super) fn remove_all(
    host: &HostRoot,
    usage: &RuntimeUsage,
    steps: &mut Vec<JobStep>,
) -> Result<Vec<RemainingRelease>, FileError> {
    let mut remaining = Vec::new();
    for release in usage::releases(host, usage)? {
        let folder = release.folder;
        let shown = folder.display().to_string();
        if release.in_use {
            steps.push(JobStep::new("keep", &format!("{shown} is in use")));
            let compiles = usage.users(host, &folder).compiles;
            let compiles = compiles.iter().map(|compile| compile.pid);
            remaining.push(RemainingRelease {
                pids: release.pids.into_iter().chain(compiles).collect(),
                folder,
            });
            continue;
        }
        release::remove(&host.to_write(&folder)?)?;
        steps.push(JobStep::new("remove", &shown));
    }
    let base = host.to_write(host.base())?;
    release::remove_unfinished_removals(&base)?;
    release::remove_unfinished_copies(&base)?;
    files::remove_if_empty(&base)?;
    Ok(remaining)
}
