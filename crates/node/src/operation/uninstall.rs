//! uninstall: the node is as it was before the first installation.

use std::path::Path;
use std::time::{Duration, Instant};

use wasm_interp_image::{Images, LockedImages};

use super::{Effects, Operation, OperationError, RestartPolicy, releases};
use crate::config_plan::FileChange;
use crate::files;
use crate::host::HostRoot;
use crate::names::{DATA, DEFAULT_CONTAINERD_STATE, IMAGES, STATE};
use crate::policy_file;
use crate::record::NodeRecord;
use crate::report::JobStep;
use crate::report_files;
use crate::usage::{self, RuntimeUsage};

/// How long killed compiles, and shims whose container has ended, may take to end.
const END_LIMIT: Duration = Duration::from_secs(10);

impl Operation<'_> {
    /// Uninstalls the runtime. `force`: also while containers of it run.
    pub(crate) fn uninstall(&mut self, force: bool) -> Result<Effects, OperationError> {
        self.settle()?;
        self.refuse_containers(force)?;
        if self.unused_images()?.is_none() && !force {
            return Err(OperationError::ImagesInUse);
        }
        self.end_compiles()?;
        // That takes a while, and a container may have started meanwhile.
        self.refuse_containers(force)?;
        self.before("plan");
        let record = NodeRecord::load(self.host)?;
        let effects = self.remove_config(&record)?;
        self.before("look-again");
        // A restart takes a while too. Now that containerd does not have the runtime any more, no container starts.
        self.end_compiles()?;
        let usage = RuntimeUsage::find(self.host, &self.containerd_state())?;
        if !usage.containers.is_empty() && !force {
            return Err(OperationError::StartedMeanwhile(usage.containers));
        }
        self.before("clear");
        self.remove_link(&record)?;
        self.before("remove-releases");
        let remaining = releases::remove_all(self.host, &usage, &mut self.steps)?;
        // After everything that can be refused: the node keeps its policy then.
        self.before("remove-policy");
        policy_file::remove(self.host)?;
        self.before("forget");
        // Only one job runs at a time: the clients of earlier ones have read their reports, or were killed.
        report_files::remove_older_than(self.host, Duration::ZERO)?;
        files::remove_all(&self.host.to_write(STATE)?)?;
        if usage.containers.is_empty() {
            self.remove_data()?;
        }
        // With `force`, the containers may keep their release.
        if !remaining.is_empty() && usage.containers.is_empty() {
            return Err(OperationError::StillUsed(remaining));
        }
        Ok(effects)
    }

    /// Removes the store and the images, unless a container of `wasm-interp run` uses one of these.
    fn remove_data(&mut self) -> Result<(), OperationError> {
        // Held meanwhile: a container that starts now waits, and then does not find a part of an image.
        let Some(_locked) = self.unused_images()? else {
            self.step("keep", format!("{IMAGES} is in use"));
            return Ok(());
        };
        files::remove_all(&self.host.to_write(DATA)?)?;
        self.step("remove", DATA);
        Ok(())
    }

    /// The lock of the unpacked images; `None` if a container uses one, or one is being unpacked.
    fn unused_images(&self) -> Result<Option<LockedImages>, OperationError> {
        Ok(Images::beneath(self.host.at(IMAGES)).lock_unused()?)
    }

    /// Removes our table from every file, and restarts containerd.
    fn remove_config(&mut self, record: &NodeRecord) -> Result<Effects, OperationError> {
        let changes = self.removals(record)?;
        let mut effects = Effects {
            changed: !changes.is_empty(),
            restarted: false,
        };
        for change in &changes {
            self.planner().check_removal(change)?;
            self.apply(change, None)?;
            effects.restarted = self.restart == RestartPolicy::Allowed;
        }
        let lists_handler = || matches!(self.containerd.running_shim(), Ok(Some(_)));
        if changes.is_empty() && self.restart == RestartPolicy::Allowed && lists_handler() {
            self.before("restart");
            self.containerd.restart()?;
            self.wait_for_shim(None)?;
            self.step("restart", "containerd runs without the handler");
            effects.restarted = true;
        }
        Ok(effects)
    }

    /// The changes that remove our table: a file that was not changed since gets its original content, any other loses
    /// only our table.
    fn removals(&self, record: &NodeRecord) -> Result<Vec<FileChange>, OperationError> {
        let edited: Vec<_> = record
            .edits
            .iter()
            .map(|edit| (edit.kind, edit.path.as_path()))
            .collect();
        let mut changes = self.planner().plan_removal(&edited)?;
        for change in &mut changes {
            let before = change.before.as_deref();
            if let Some(original) = record.original(self.host, &change.path, before)? {
                change.after = original;
            }
        }
        Ok(changes)
    }

    /// Ends compiles. They run from a release, and would create the store again after it was removed.
    fn end_compiles(&mut self) -> Result<(), OperationError> {
        self.before("end-prewarming");
        self.containerd.stop_prewarming()?;
        let end = Instant::now() + END_LIMIT.min(self.timing.limit);
        loop {
            let usage = RuntimeUsage::find(self.host, &self.containerd_state())?;
            if !usage.containers.is_empty() {
                // A container may wait for the code.
                return Ok(());
            }
            let (mut compiles, mut has_processes) = (Vec::new(), false);
            for release in usage::releases(self.host, &usage)? {
                compiles.extend(usage.users(self.host, &release.folder).compiles);
                has_processes |= !release.pids.is_empty();
            }
            self.containerd.kill(&compiles);
            // A shim ends a moment after its container. Processes that remain are reported later.
            if (compiles.is_empty() && !has_processes) || Instant::now() > end {
                return Ok(());
            }
            std::thread::sleep(self.timing.poll);
        }
    }

    fn refuse_containers(&self, force: bool) -> Result<(), OperationError> {
        let usage = RuntimeUsage::find(self.host, &self.containerd_state())?;
        if !usage.containers.is_empty() && !force {
            return Err(OperationError::InUse(usage.containers));
        }
        Ok(())
    }
}

/// Uninstalls from a node that is not supported, and on which nothing was configured: only a release was copied there.
pub(crate) fn uninstall_without_layout(
    host: &HostRoot,
    force: bool,
    steps: &mut Vec<JobStep>,
) -> Result<Effects, OperationError> {
    let usage = RuntimeUsage::find(host, Path::new(DEFAULT_CONTAINERD_STATE))?;
    if !usage.containers.is_empty() && !force {
        return Err(OperationError::InUse(usage.containers));
    }
    let remaining = releases::remove_all(host, &usage, steps)?;
    policy_file::remove(host)?;
    if !remaining.is_empty() {
        return Err(OperationError::StillUsed(remaining));
    }
    Ok(Effects::default())
}
