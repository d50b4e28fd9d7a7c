//! uninstall: as if it had never been there.

use std::path::Path;
use std::time::{Duration, Instant};

use super::install::{DEFAULT_STATE, LINK};
use super::{Done, Kept, Restart, Work, WorkError};
use crate::files::{self, FileError};
use crate::host::Host;
use crate::in_use::{self, InUse};
use crate::names::STATE;
use crate::plan::Change;
use crate::record::Record;
use crate::release;
use crate::report::Step;

/// All that the runtime keeps on the node: native code, and this crate's record.
const KEPT: &str = "/var/lib/wasm-interp";
/// How long killed compiles and shims without a container may take to be gone.
const LAST_PROCESSES: Duration = Duration::from_secs(10);
/// Of the node's policy, which its administrator or the agent wrote and removes.
const POLICY_FOLDER: &str = "/etc/wasm-interp";

impl Work<'_> {
    pub(crate) fn uninstall(&mut self, force: bool) -> Result<Done, WorkError> {
        self.settle()?;
        self.in_use(force)?;
        self.end_publishers()?;
        // That takes a while, in which a container may have been started.
        self.in_use(force)?;
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
        self.before("look-again");
        // So does a restart. Now that containerd knows the runtime no longer, nothing new comes.
        self.end_publishers()?;
        let in_use = InUse::find(self.host, &self.state())?;
        if !in_use.containers.is_empty() && !force {
            return Err(WorkError::StartedMeanwhile(in_use.containers));
        }
        self.before("clear");
        // Also without a record, and one that was never put into its place.
        let link = record.link.as_deref().unwrap_or(Path::new(LINK));
        let link = self.host.link_to_write(link)?;
        for link in [link.with_extension("new"), link] {
            if std::fs::read_link(&link).is_ok_and(|target| target.starts_with(self.host.base())) {
                files::remove(&link)?;
            }
        }
        self.before("remove-releases");
        let kept = self.remove_releases(&in_use)?;
        files::remove_if_empty(&self.host.to_write(POLICY_FOLDER)?)?;
        self.before("forget");
        // Jobs run one after another: those of earlier ones are fetched by now, or never.
        self.host.forget_reports(Duration::ZERO)?;
        files::remove_all(&self.host.to_write(STATE)?)?;
        if in_use.containers.is_empty() {
            files::remove_all(&self.host.to_write(KEPT)?)?;
            self.step("remove", KEPT);
        }
        match kept.first() {
            // Containers that run on were to be left.
            Some(_) if in_use.containers.is_empty() => Err(WorkError::Kept(kept)),
            _ => Ok(done),
        }
    }

    /// Removes what no job has ever configured: releases that were brought to a node which cannot be served.
    pub(crate) fn uninstall_unconfigured(
        host: &Host,
        force: bool,
        steps: &mut Vec<Step>,
    ) -> Result<Done, WorkError> {
        let in_use = InUse::find(host, Path::new(DEFAULT_STATE))?;
        if !in_use.containers.is_empty() && !force {
            return Err(WorkError::InUse(in_use.containers));
        }
        let kept = remove_releases(host, &in_use, steps)?;
        if !kept.is_empty() {
            return Err(WorkError::Kept(kept));
        }
        Ok(Done {
            changed: false,
            restarted: false,
        })
    }

    fn remove_releases(&mut self, in_use: &InUse) -> Result<Vec<Kept>, WorkError> {
        Ok(remove_releases(self.host, in_use, &mut self.steps)?)
    }

    /// Ends what fills the store for nobody: it would make it anew behind us, and runs from a release.
    fn end_publishers(&mut self) -> Result<(), WorkError> {
        self.before("end-prewarming");
        self.daemon.end_prewarming()?;
        let until = Instant::now() + LAST_PROCESSES.min(self.pace.up);
        loop {
            let in_use = InUse::find(self.host, &self.state())?;
            if !in_use.containers.is_empty() {
                // One of them may wait for what is compiled.
                return Ok(());
            }
            let (mut publishers, mut used) = (Vec::new(), false);
            for release in in_use::releases(self.host, &in_use)? {
                publishers.extend(in_use.users(self.host, &release.folder).publishers);
                used |= !release.pids.is_empty();
            }
            self.daemon.kill(&publishers);
            // A shim ends a moment after its container. Who is left then is told.
            if (publishers.is_empty() && !used) || Instant::now() > until {
                return Ok(());
            }
            std::thread::sleep(self.pace.poll);
        }
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

/// Removes the releases that nobody uses; returns the others.
fn remove_releases(
    host: &Host,
    in_use: &InUse,
    steps: &mut Vec<Step>,
) -> Result<Vec<Kept>, FileError> {
    let mut kept = Vec::new();
    for release in in_use::releases(host, in_use)? {
        let folder = release.folder;
        let shown = folder.display().to_string();
        if release.in_use {
            steps.push(Step::new("keep", &format!("{shown} is in use")));
            let publishers = in_use.users(host, &folder).publishers;
            let stuck = publishers.iter().map(|publisher| publisher.pid);
            kept.push(Kept {
                pids: release.pids.into_iter().chain(stuck).collect(),
                folder,
            });
            continue;
        }
        release::remove(&host.to_write(&folder)?)?;
        steps.push(Step::new("remove", &shown));
    }
    let base = host.to_write(host.base())?;
    release::forget_removed(&base)?;
    release::forget_copies(&base)?;
    files::remove_if_empty(&base)?;
    Ok(kept)
}
