//! New limits as properties of a systemd scope, so that they are still there when systemd writes its own
//! again (`systemctl daemon-reload`).
//!
//! Called by `container::update` after the files are written. libcgroups turns a spec's resources into
//! properties; what it gets wrong for a part of them is corrected here before.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use libcgroups::common::CgroupManager;
use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};
use wasm_interp_workload::with_causes;

use super::{
    limits::take_unified,
    placement::{Placement, controller_options},
    update::{CgroupFiles, UpdateError, bandwidth, set},
};

/// Gives the scope of the container `id` the properties for `resources`, whose files in `directories` are
/// written already.
pub(crate) fn set_properties(
    id: &str,
    placement: &Placement,
    directories: &[PathBuf],
    resources: &LinuxResources,
) -> Result<(), UpdateError> {
    let fitted = fit(resources, &CgroupFiles(directories))?;
    placement
        .manager(id)
        .map_err(|e| with_causes(&e))
        .and_then(|manager| {
            manager
                .apply(&controller_options(&fitted))
                .map_err(|e| with_causes(&e))
        })
        .map_err(|reason| {
            UpdateError::Value(format!(
                "systemd does not take the new limits of {}: {reason}",
                placement.path.display()
            ))
        })
}

/// The resources as libcgroups understands them: it takes 0 for a value, and a quota that is missing for none.
fn fit(resources: &LinuxResources, files: &CgroupFiles<'_>) -> Result<LinuxResources, UpdateError> {
    let mut fitted = LinuxResources::default();
    if let Some(memory) = resources.memory() {
        let mut own = LinuxMemory::default();
        own.set_limit(set(memory.limit()));
        own.set_swap(set(memory.swap()));
        own.set_reservation(set(memory.reservation()));
        fitted.set_memory(Some(own));
    }
    if let Some(cpu) = resources.cpu() {
        let shares = set(cpu.shares());
        let limited = bandwidth(cpu, files)?.is_some();
        if shares.is_some() || limited {
            fitted.set_cpu(Some(cpu_with_bandwidth(shares, files)?));
        }
    }
    let pids = resources.pids().filter(|pids| pids.limit() != 0);
    fitted.set_pids(pids);
    fitted.set_block_io(resources.block_io().clone());
    let mut unified = resources.unified().clone().unwrap_or_default();
    take_unified(&mut unified);
    fitted.set_unified(Some(unified));
    Ok(fitted)
}

/// With the bandwidth that the file has by now.
fn cpu_with_bandwidth(
    shares: Option<u64>,
    files: &CgroupFiles<'_>,
) -> Result<LinuxCpu, UpdateError> {
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(shares);
    let text = files.read("cpu.max")?.unwrap_or_default();
    let mut words = text.split_whitespace();
    cpu.set_quota(words.next().and_then(|quota| quota.parse().ok()));
    cpu.set_period(words.next().and_then(|period| period.parse().ok()));
    Ok(cpu)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    #[test]
    fn properties_leave_out_what_is_not_set_and_keep_the_quota() {
        let folder = tempfile::tempdir().expect("folder");
        fs::write(folder.path().join("cpu.max"), "20000 50000\n").expect("write");
        let directories = [folder.path().to_owned()];
        let fitted = |resources| {
            let resources = serde_json::from_value(resources).expect("resources");
            fit(&resources, &CgroupFiles(&directories)).expect("fit")
        };
        let fitted_shares = fitted(json!({
            "cpu": {"shares": 512, "quota": 0, "cpus": "0-1"},
            "memory": {"limit": 4096, "swap": 0, "reservation": 0},
            "pids": {"limit": 0},
            "unified": {"memory.high": "4096", "cpu.weight": "7"},
        }));
        let cpu = fitted_shares.cpu().clone().expect("cpu");
        assert_eq!(
            (cpu.shares(), cpu.quota(), cpu.period(), cpu.cpus().clone()),
            (Some(512), Some(20000), Some(50000), None)
        );
        let memory = (*fitted_shares.memory()).expect("memory");
        assert_eq!(
            (memory.limit(), memory.swap(), memory.reservation()),
            (Some(4096), None, None)
        );
        assert_eq!(*fitted_shares.pids(), None);
        let unified = fitted_shares.unified().clone().expect("unified");
        assert_eq!(unified.keys().collect::<Vec<_>>(), ["memory.high"]);

        let sets_alone = fitted(json!({"cpu": {"cpus": "0"}}));
        assert_eq!(*sets_alone.cpu(), None);
        fs::write(folder.path().join("cpu.max"), "max 100000\n").expect("write");
        let unlimited = fitted(json!({"cpu": {"quota": -1}}));
        let cpu = unlimited.cpu().clone().expect("cpu");
        assert_eq!((cpu.quota(), cpu.period()), (None, Some(100_000)));
    }
}
