//! uninstall: as if it had never been there.

use std::path::Path;
use std::time::Duration;

use super::install::LINK;
use super::{Done, Restart, Work, WorkError};
use crate::files;
use crate::in_use::{self, InUse};
use crate::names::STATE;
use crate::plan::Change;
use crate::record::Record;
use crate::release;

/// All that the runtime keeps on the node: native code, and this crate's record.
const KEPT: &str = "/var/lib/wasm-interp";
/// Of the node's policy, which its administrator or the agent wrote and removes.
const POLICY_FOLDER: &str = "/etc/wasm-interp";

impl Work<'_> {
    pub(crate) fn uninstall(&mut self, force: bool) -> Result<Done, WorkError> {
        self.settle()?;
        self.in_use(force)?;
        // What fills the store meanwhile would make it anew behind us, and run from a release.
        self.before("end-prewarming");
        self.daemon.end_prewarming()?;
        // That takes a while, in which a container may have been started.
        let in_use = self.in_use(force)?;
        self.before("plan");
        let record = Record::load(self.host)?;
        let changes = self.removals(&record)?;
        let mut done = Done {
            changed: !changes.is_empty(),
            restarted: false,
        };
        for change in &changes {
            self.node().check_removal(change)?;
            self.apply(change, None)?;
            done.restarted = self.restart == Restart::Allowed;
        }
        let lists_it = || {
            self.daemon
                .running()
                .is_ok_and(|running| running.runtime.is_some())
        };
        if changes.is_empty() && self.restart == Restart::Allowed && lists_it() {
            self.before("restart");
            self.daemon.restart()?;
            self.wait_for(None)?;
            self.step("restart", "containerd runs without the handler");
            done.restarted = true;
        }
        self.before("clear");
        // Also without a record.
        let link = self
            .host
            .at(record.link.as_deref().unwrap_or(Path::new(LINK)));
        if std::fs::read_link(&link).is_ok_and(|target| target.starts_with(self.host.base())) {
            files::remove(&link)?;
        }
        self.before("remove-releases");
        for release in in_use::releases(self.host, &in_use)? {
            if release.in_use {
                self.step(
                    "keep",
                    format!(
                        "{} is in use: uninstall again later",
                        release.folder.display()
                    ),
                );
                continue;
            }
            files::remove_all(&self.host.at(&release.folder))?;
            self.step("remove", release.folder.display().to_string());
        }
        release::forget_copies(&self.host.at(self.host.base()))?;
        files::remove_if_empty(&self.host.at(self.host.base()))?;
        files::remove_if_empty(&self.host.at(POLICY_FOLDER))?;
        self.before("forget");
        // Jobs run one after another: those of earlier ones are fetched by now, or never.
        self.host.forget_reports(Duration::ZERO)?;
        files::remove_all(&self.host.at(STATE))?;
        if in_use.containers.is_empty() {
            files::remove_all(&self.host.at(KEPT))?;
            self.step("remove", KEPT);
        }
        Ok(done)
    }

    /// What is in use; refused if containers run, unless that is forced.
    fn in_use(&self, force: bool) -> Result<InUse, WorkError> {
        let in_use = InUse::find(self.host, &self.state())?;
        if !in_use.containers.is_empty() && !force {
            return Err(WorkError::InUse(in_use.containers));
        }
        Ok(in_use)
    }

    /// Changes after which nothing of ours is configured: the old bytes where nobody has touched the
    /// file since, everything but our table elsewhere.
    fn removals(&self, record: &Record) -> Result<Vec<Change>, WorkError> {
        let mut changes = self.node().plan_removal(&record.edits)?;
        for change in &mut changes {
            let before = change.before.as_deref();
            if let Some(original) = record.original(self.host, &change.path, before)? {
                change.after = original;
            }
        }
        Ok(changes)
    }
}
