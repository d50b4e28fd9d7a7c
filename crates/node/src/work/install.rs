//! install: containerd uses this release's shim, and a program runs with it. verify: the second half.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::{Done, Restart, Work, WorkError};
use crate::config::Shim;
use crate::files::{self, FileError};
use crate::in_use::{self, InUse};
use crate::names::SHIM;
use crate::record::{Record, Switched};
use crate::release;
use crate::report::Reverts;

/// On containerd's PATH everywhere, and writable.
pub(crate) const LINK: &str = "/usr/local/bin/containerd-shim-wasm-interp-v1";
/// containerd's state directory where nothing says another.
pub(super) const DEFAULT_STATE: &str = "/run/containerd";
/// Wait before the second time that a reverted file is written again; doubles each time …
const BACK_OFF: u64 = 60;
/// … up to this.
const BACK_OFF_MOST: u64 = 3600;
/// A file that was left alone for so long starts from nothing.
const FORGIVEN: u64 = 24 * 3600;

impl Work<'_> {
    pub(crate) fn install(&mut self, folder: &Path) -> Result<Done, WorkError> {
        self.settle()?;
        let shim = folder.join(SHIM);
        let reverts = self.reverts()?;
        self.before("plan");
        let plan = self.node().plan_install(&shim)?;
        self.step(
            "plan",
            format!("{} for {}", plan.change.path.display(), shim.display()),
        );
        self.can_link(&shim)?;
        let wants = Some(&plan.shim);
        if self.restart == Restart::Never {
            let changed = !plan.change.is_none();
            if changed {
                self.apply(&plan.change, wants)?;
            }
            self.link(&shim)?;
            self.leave_earlier(&plan.change.path);
            return Ok(Done {
                changed,
                restarted: false,
            });
        }
        let running = self.daemon.running().map_err(WorkError::NotRunning)?;
        let takes_effect = running.runtime.as_ref() == wants;
        let done = Done {
            changed: !plan.change.is_none(),
            restarted: !plan.change.is_none() || !takes_effect,
        };
        let by_link = plan.shim == Shim::Link;
        let linked = self.linked();
        // Before anything is changed: a release that cannot run here must not cost a restart, nor the
        // release before it the link. Where there is neither, it is tried by the link, below: a containerd
        // that does not know runtime_path in its configuration may not know it in its API.
        let switches = by_link && linked.is_some() && linked.as_ref() != Some(&shim);
        if (done.restarted && !by_link) || switches {
            self.try_release(folder, &Shim::Path(shim.clone()))?;
        }
        if by_link && linked.as_ref() != Some(&shim) {
            self.switch_link(&shim)?;
            if let Err(error) = self.try_release(folder, &plan.shim) {
                self.switch_back()?;
                return Err(error);
            }
        }
        if done.changed {
            self.write_reverts(reverts)?;
            if let Err(error) = self.apply(&plan.change, wants) {
                self.switch_back()?;
                return Err(error);
            }
        } else if done.restarted {
            // The file has it and the running containerd does not: killed before the restart, or
            // reverted and written again by somebody else.
            self.before("restart");
            self.daemon.restart()?;
            self.wait_for(wants)?;
            self.step(
                "restart",
                "containerd runs with the configuration that was there",
            );
        }
        // Where containerd has the path, only when that holds: what is rolled back leaves no link.
        self.link(&shim)?;
        if let Err(error) = self.verify() {
            return Err(match self.switch_back()? {
                Some(before) => WorkError::SwitchedBack {
                    folder: folder.to_owned(),
                    before,
                    reason: error.to_string(),
                },
                None => error,
            });
        }
        self.confirm_link()?;
        self.leave_earlier(&plan.change.path);
        self.before("prune");
        self.prune(folder);
        Ok(done)
    }

    fn try_release(&mut self, folder: &Path, shim: &Shim) -> Result<(), WorkError> {
        self.before("try-release");
        self.daemon.trial(shim).map_err(|source| WorkError::Unfit {
            folder: folder.to_owned(),
            source,
        })?;
        self.step("try-release", "the release runs a program on this node");
        Ok(())
    }

    /// The running containerd has the handler.
    pub(crate) fn is_listed(&self) -> Result<(), WorkError> {
        match self.daemon.running()?.runtime {
            Some(_) => Ok(()),
            None => Err(WorkError::NotListed(self.node().configured()?.0)),
        }
    }

    /// The running containerd has the handler, and a program runs with what the handler names.
    pub(crate) fn verify(&mut self) -> Result<(), WorkError> {
        self.before("verify");
        let Some(shim) = self.daemon.running()?.runtime else {
            return Err(WorkError::NotListed(self.node().configured()?.0));
        };
        self.step("handler", "containerd's CRI lists the handler wasm-interp");
        self.daemon.trial(&shim)?;
        self.step("trial", "a program ran through containerd with it");
        Ok(())
    }

    /// Whether our table vanished from the file that we wrote it to, and how often that makes.
    fn reverts(&self) -> Result<Option<Reverts>, WorkError> {
        let record = Record::load(self.host)?;
        let Some(edit) = record.edits.last() else {
            return Ok(None);
        };
        if self.node().configured()?.1.is_some() {
            return Ok(record.reverts);
        }
        // A clock that was ahead then says nothing: as if it were long ago.
        let applied_unix = Some(edit.applied_unix).filter(|&unix| unix <= self.now);
        let applied_unix = applied_unix.unwrap_or_default();
        let alone_for = self.now - applied_unix;
        let before = record.reverts.as_ref().map_or(0, |reverts| reverts.times);
        let times = if alone_for > FORGIVEN { 1 } else { before + 1 };
        let wait = match times {
            1 => 0,
            more => (BACK_OFF << (more - 2).min(10)).min(BACK_OFF_MOST),
        };
        let retry_after_unix = applied_unix + wait;
        if self.now < retry_after_unix {
            return Err(WorkError::Reverted {
                path: edit.path.clone(),
                times,
                since: alone_for,
                wait: retry_after_unix - self.now,
                retry_after_unix,
            });
        }
        Ok(Some(Reverts {
            times,
            last_unix: self.now,
        }))
    }

    fn write_reverts(&self, reverts: Option<Reverts>) -> Result<(), WorkError> {
        let mut record = Record::load(self.host)?;
        if record.reverts != reverts {
            record.reverts = reverts;
            record.store(self.host)?;
        }
        Ok(())
    }

    /// Where the link leads.
    fn linked(&self) -> Option<PathBuf> {
        std::fs::read_link(self.host.at(LINK)).ok()
    }

    /// Puts the shim on containerd's `PATH` where nothing else names it: from then on it is the one that
    /// runs. The way back is written down until [`Self::confirm_link`].
    fn switch_link(&mut self, shim: &Path) -> Result<(), WorkError> {
        let mut record = Record::load(self.host)?;
        if record.switched.is_none() {
            record.switched = Some(Switched {
                before: self.linked(),
            });
            record.store(self.host)?;
        }
        self.link(shim)
    }

    /// The link leads to what works.
    fn confirm_link(&self) -> Result<(), WorkError> {
        let mut record = Record::load(self.host)?;
        if record.switched.take().is_some() {
            record.store(self.host)?;
        }
        Ok(())
    }

    /// Has a link that was switched, and not confirmed, lead to the shim from before; one that is new goes,
    /// unless a table needs it. The shim that it leads to again.
    pub(super) fn switch_back(&mut self) -> Result<Option<PathBuf>, WorkError> {
        let mut record = Record::load(self.host)?;
        let Some(Switched { before }) = record.switched.take() else {
            return Ok(None);
        };
        self.before("switch-back");
        // Without its release it would lead nowhere.
        let before = before.filter(|shim| self.host.at(shim).exists());
        match &before {
            Some(shim) => self.link(shim)?,
            None if record.edits.is_empty() => {
                if self
                    .linked()
                    .is_some_and(|shim| shim.starts_with(self.host.base()))
                {
                    files::remove(&self.host.link_to_write(Path::new(LINK))?)?;
                }
                record.link = None;
            }
            None => {}
        }
        record.store(self.host)?;
        Ok(before)
    }

    /// Puts the shim on containerd's `PATH`, also where the table names its path: 1.6 looks there all
    /// the same, 2.x when it starts again under running containers (decision 0017).
    fn link(&mut self, shim: &Path) -> Result<(), WorkError> {
        let mut record = Record::load(self.host)?;
        let link = PathBuf::from(LINK);
        if record.link.as_ref() != Some(&link) {
            record.link = Some(link.clone());
            record.store(self.host)?;
        }
        self.before("link");
        if self.linked().is_some_and(|target| target == shim) {
            return Ok(());
        }
        let here = self.host.at(&link);
        let new = self.new_link(shim)?;
        std::fs::rename(&new, &here).map_err(FileError::new("link", &here))?;
        self.step("link", link.display().to_string());
        Ok(())
    }

    /// The same link beside its place.
    fn new_link(&self, shim: &Path) -> Result<PathBuf, FileError> {
        let new = self
            .host
            .link_to_write(&Path::new(LINK).with_extension("new"))?;
        files::remove(&new)?;
        symlink(shim, &new).map_err(FileError::new("link", &new))?;
        Ok(new)
    }

    /// Whether the link can be made, while nothing is changed: it is needed once containerd was restarted.
    fn can_link(&self, shim: &Path) -> Result<(), WorkError> {
        self.before("try-link");
        if self.linked().is_some_and(|target| target == shim) {
            return Ok(());
        }
        let made = self.new_link(shim).and_then(|new| files::remove(&new));
        made.map_err(|source| WorkError::NoLink {
            link: LINK.into(),
            source,
        })
    }

    /// Removes folders of other releases that nobody uses. The node works by now: what cannot be removed is
    /// said, and is no reason to install again.
    fn prune(&mut self, keep: &Path) {
        let found = InUse::find(self.host, &self.state())
            .and_then(|in_use| in_use::releases(self.host, &in_use));
        let releases = match found {
            Ok(releases) => releases,
            Err(error) => return self.step("keep", format!("all releases: {error}")),
        };
        if let Err(error) = release::forget_removed(&self.host.at(self.host.base())) {
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

    /// containerd's state directory: a path of the host.
    pub(super) fn state(&self) -> PathBuf {
        // If its configuration cannot be read, the default is where it would be.
        let configured = || self.node().dump().ok()?.state();
        self.layout
            .state
            .clone()
            .or_else(configured)
            .unwrap_or_else(|| DEFAULT_STATE.into())
    }
}
