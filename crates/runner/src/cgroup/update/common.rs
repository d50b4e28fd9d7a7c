//! Limits whose files are alike on both versions.
#![forbid(unsafe_code)]

use oci_spec::runtime::{LinuxCpu, LinuxPids, LinuxResources};

use super::change::{LimitChange, UpdateStep, set};

/// -1 stands for no limit.
pub(super) fn or_max(limit: i64) -> String {
    if limit < 0 {
        "max".to_owned()
    } else {
        limit.to_string()
    }
}

pub(super) fn pids(resources: &LinuxResources) -> Option<UpdateStep> {
    let limit = set(resources.pids().as_ref().map(LinuxPids::limit))?;
    Some(vec![LimitChange::new("pids.max", or_max(limit))])
}

/// `end`: what the names of the files end with.
pub(super) fn huge_pages(
    resources: &LinuxResources,
    end: &str,
) -> impl Iterator<Item = UpdateStep> {
    resources
        .hugepage_limits()
        .iter()
        .flatten()
        .map(move |huge| {
            let file = |part: &str| format!("hugetlb.{}{part}.{end}", huge.page_size());
            vec![
                LimitChange::new(file(""), huge.limit()),
                LimitChange::new(file(".rsvd"), huge.limit()).or_skip(),
            ]
        })
}

/// The sets of processors and of memory nodes.
pub(super) fn sets(cpu: &LinuxCpu) -> UpdateStep {
    let sets = [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())];
    let given = sets.into_iter().filter_map(|(file, set)| {
        let set = set.as_deref().filter(|set| !set.is_empty())?;
        Some(LimitChange::new(file, set))
    });
    given.collect()
}
