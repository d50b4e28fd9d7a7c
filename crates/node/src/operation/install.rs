//! install: containerd uses the shim of the release, and a program runs with it.

use std::path::Path;

use super::{Effects, Operation, OperationError, RestartPolicy};
use crate::config_plan::ConfigPlan;
use crate::names::SHIM;
use crate::report::Reverts;
use wasm_interp_containerd_config::ShimLocation;

/// An installation that may restart containerd.
struct PlannedInstall<'a> {
    /// The release's folder.
    folder: &'a Path,
    plan: &'a ConfigPlan,
    effects: Effects,
    reverts: Option<Reverts>,
}

impl Operation<'_> {
    /// Installs the release in that folder, a path of the host.
    pub(crate) fn install(&mut self, folder: &Path) -> Result<Effects, OperationError> {
        self.settle()?;
        let shim = folder.join(SHIM);
        let reverts = self.check_reverts()?;
        self.before("plan");
        let plan = self.planner().plan_install(&shim)?;
        let planned = format!("{} for {}", plan.change.path.display(), shim.display());
        self.step("plan", planned);
        self.check_link(&shim)?;
        if self.restart == RestartPolicy::Never {
            return self.install_without_restart(&plan, &shim);
        }
        let running = self
            .containerd
            .running_shim()
            .map_err(OperationError::NotRunning)?;
        let changed = !plan.change.is_none();
        let effects = Effects {
            changed,
            restarted: changed || running.as_ref() != Some(&plan.shim),
        };
        let install = PlannedInstall {
            folder,
            plan: &plan,
            effects,
            reverts,
        };
        match plan.shim {
            ShimLocation::Path(_) => self.install_by_path(&install)?,
            ShimLocation::Link => self.install_by_link(&install)?,
        }
        self.leave_earlier_files(&plan.change.path);
        self.before("prune");
        self.remove_other_releases(folder);
        Ok(effects)
    }

    fn install_without_restart(
        &mut self,
        plan: &ConfigPlan,
        shim: &Path,
    ) -> Result<Effects, OperationError> {
        let changed = !plan.change.is_none();
        if changed {
            self.apply(&plan.change, Some(&plan.shim))?;
        }
        self.link(shim)?;
        self.leave_earlier_files(&plan.change.path);
        Ok(Effects {
            changed,
            restarted: false,
        })
    }

    /// Our table names the path of the shim.
    fn install_by_path(&mut self, install: &PlannedInstall<'_>) -> Result<(), OperationError> {
        if install.effects.restarted {
            // Before anything is changed: a release that does not work here must not cost a restart.
            self.test_release(install.folder, &install.plan.shim)?;
        }
        self.take_config(install)?;
        // Only now: an installation that is rolled back leaves no link. containerd 1.6 always looks on its PATH, and 2.x
        // when it starts again under running containers (docs/internals/decisions/0017).
        self.link(&install.folder.join(SHIM))?;
        self.verify()
    }

    /// containerd finds the shim by the link alone, so the link switches the release.
    fn install_by_link(&mut self, install: &PlannedInstall<'_>) -> Result<(), OperationError> {
        let PlannedInstall { folder, plan, .. } = *install;
        let shim = folder.join(SHIM);
        let before = self.link_target();
        if before.as_ref() != Some(&shim) {
            if before.is_some() {
                // Before the link is switched: a release that does not work here must not replace the one before. At a
                // first installation it is tested by the link only: a containerd that does not know `runtime_path` in
                // its configuration may not know it in its API.
                self.test_release(folder, &ShimLocation::Path(shim.clone()))?;
            }
            self.switch_link(&shim)?;
            if let Err(error) = self.test_release(folder, &plan.shim) {
                self.switch_link_back()?;
                return Err(error);
            }
        }
        if let Err(error) = self.take_config(install) {
            self.switch_link_back()?;
            return Err(error);
        }
        self.link(&shim)?;
        if let Err(error) = self.verify() {
            return Err(match self.switch_link_back()? {
                Some(before) => OperationError::SwitchedBack {
                    folder: folder.to_owned(),
                    before,
                    reason: error.to_string(),
                },
                None => error,
            });
        }
        self.confirm_link()
    }

    /// Makes containerd run with the configuration of the plan.
    fn take_config(&mut self, install: &PlannedInstall<'_>) -> Result<(), OperationError> {
        let wanted = Some(&install.plan.shim);
        if install.effects.changed {
            self.record_reverts(install.reverts.clone())?;
            self.apply(&install.plan.change, wanted)?;
        } else if install.effects.restarted {
            // The file has our table, but the running containerd does not: a job was killed before the restart, or
            // another program changed the file back and then restored it.
            self.before("restart");
            self.containerd.restart()?;
            self.wait_for_shim(wanted)?;
            let detail = "containerd runs with the configuration that the file had already";
            self.step("restart", detail);
        }
        Ok(())
    }
}
