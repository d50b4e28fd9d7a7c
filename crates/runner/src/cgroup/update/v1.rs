//! Limits as files of version 1 (the kernel's cgroup-v1 documentation).
#![forbid(unsafe_code)]

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::{
    change::{CgroupFiles, LimitChange, UpdateError, UpdateStep, device, set},
    common::{huge_pages, pids, sets},
};

pub(super) fn steps(
    resources: &LinuxResources,
    files: &CgroupFiles<'_>,
) -> Result<Vec<UpdateStep>, UpdateError> {
    if resources.unified().as_ref().is_some_and(|u| !u.is_empty()) {
        return Err(UpdateError::Value(
            "linux.resources.unified needs cgroup v2, and this host has version 1; use memory, cpu \
             and the like"
                .to_owned(),
        ));
    }
    let mut steps = Vec::new();
    if let Some(memory) = resources.memory() {
        steps.extend(memory_steps(memory, files)?);
    }
    if let Some(cpu) = resources.cpu() {
        steps.extend(cpu_steps(cpu));
    }
    steps.extend(pids(resources));
    if let Some(io) = resources.block_io() {
        steps.push(io_changes(io, files));
    }
    steps.extend(huge_pages(resources, "limit_in_bytes"));
    Ok(steps)
}

fn memory_steps(
    memory: &LinuxMemory,
    files: &CgroupFiles<'_>,
) -> Result<Vec<UpdateStep>, UpdateError> {
    const LIMIT: &str = "memory.limit_in_bytes";
    const WITH_SWAP: &str = "memory.memsw.limit_in_bytes";
    let limit = set(memory.limit());
    let mut swap = set(memory.swap());
    if limit == Some(-1) && swap.is_none() && files.find(WITH_SWAP).is_some() {
        // The limit of both together holds for memory alone too.
        swap = Some(-1);
    }
    let both = [(LIMIT, limit), (WITH_SWAP, swap)];
    let mut steps = vec![
        both.into_iter()
            .filter_map(|(file, value)| Some(LimitChange::new(file, value?)))
            .collect(),
    ];
    if let Some(reservation) = set(memory.reservation()) {
        steps.push(vec![LimitChange::new(
            "memory.soft_limit_in_bytes",
            reservation,
        )]);
    }
    match memory.swappiness() {
        None => {}
        Some(value @ 0..=100) => steps.push(vec![LimitChange::new("memory.swappiness", value)]),
        Some(value) => {
            return Err(UpdateError::Value(format!(
                "linux.resources.memory.swappiness is {value}; give a number from 0 to 100"
            )));
        }
    }
    Ok(steps)
}

fn cpu_steps(cpu: &LinuxCpu) -> Vec<UpdateStep> {
    let change = |file: &str, value: Option<String>| Some(LimitChange::new(file, value?));
    let text = |value: Option<u64>| set(value).map(|value| value.to_string());
    let signed = |value: Option<i64>| set(value).map(|value| value.to_string());
    vec![
        change("cpu.shares", text(cpu.shares()))
            .into_iter()
            .collect(),
        [
            change("cpu.cfs_period_us", text(cpu.period())),
            change("cpu.cfs_quota_us", signed(cpu.quota())),
            // Kernels before 5.14 have none.
            change(
                "cpu.cfs_burst_us",
                cpu.burst().map(|value| value.to_string()),
            )
            .map(LimitChange::or_skip),
        ]
        .into_iter()
        .flatten()
        .collect(),
        change("cpu.idle", cpu.idle().map(|value| value.to_string()))
            .into_iter()
            .collect(),
        [
            change("cpu.rt_period_us", text(cpu.realtime_period())),
            change("cpu.rt_runtime_us", signed(cpu.realtime_runtime())),
        ]
        .into_iter()
        .flatten()
        .collect(),
        sets(cpu),
    ]
}

fn io_changes(io: &LinuxBlockIo, files: &CgroupFiles<'_>) -> UpdateStep {
    // Which one there is depends on the scheduler.
    let (weight, weight_device) = if files.find("blkio.weight").is_some() {
        ("blkio.weight", "blkio.weight_device")
    } else {
        ("blkio.bfq.weight", "blkio.bfq.weight_device")
    };
    let mut changes = Vec::new();
    changes.extend(set(io.weight()).map(|value| LimitChange::new(weight, value)));
    changes.extend(set(io.leaf_weight()).map(|value| LimitChange::new("blkio.leaf_weight", value)));
    for one in io.weight_device().iter().flatten() {
        let line = |value| format!("{} {value}", device(one.major(), one.minor()));
        let keyed = |file, value| LimitChange::new(file, line(value)).keyed("0");
        changes.extend(set(one.weight()).map(|value| keyed(weight_device, value)));
        let leaf = set(one.leaf_weight());
        changes.extend(leaf.map(|value| keyed("blkio.leaf_weight_device", value)));
    }
    for (file, limits) in throttles(io) {
        for one in limits {
            let line = format!("{} {}", device(one.major(), one.minor()), one.rate());
            changes.push(LimitChange::new(format!("blkio.throttle.{file}"), line).keyed("0"));
        }
    }
    changes
}

fn throttles(io: &LinuxBlockIo) -> [(&'static str, &[LinuxThrottleDevice]); 4] {
    [
        ("read_bps_device", io.throttle_read_bps_device()),
        ("write_bps_device", io.throttle_write_bps_device()),
        ("read_iops_device", io.throttle_read_iops_device()),
        ("write_iops_device", io.throttle_write_iops_device()),
    ]
    .map(|(file, limits)| (file, limits.as_deref().unwrap_or_default()))
}
