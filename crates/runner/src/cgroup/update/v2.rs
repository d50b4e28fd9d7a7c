//! Limits as files of version 2 (the kernel's cgroup-v2 documentation). The numbers of a spec are those of
//! version 1, and are converted as runc converts them.
#![forbid(unsafe_code)]

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::{
    change::{CgroupFiles, LimitChange, UpdateError, UpdateStep, device, set},
    common::{huge_pages, or_max, pids, sets},
};

const CPU_MAX: &str = "cpu.max";
/// The kernel's period, in microseconds.
const PERIOD: u64 = 100_000;

pub(super) fn steps(
    resources: &LinuxResources,
    files: &CgroupFiles<'_>,
) -> Result<Vec<UpdateStep>, UpdateError> {
    let mut steps = Vec::new();
    steps.extend(pids(resources));
    if let Some(memory) = resources.memory() {
        steps.push(memory_changes(memory, files)?);
    }
    if let Some(io) = resources.block_io() {
        steps.push(io_changes(io, files));
    }
    if let Some(cpu) = resources.cpu() {
        steps.extend(cpu_steps(cpu, files)?);
    }
    steps.extend(huge_pages(resources, "max"));
    for (name, limit) in resources.rdma().iter().flatten() {
        let words = [
            ("hca_handle", limit.hca_handles()),
            ("hca_object", limit.hca_objects()),
        ];
        let words = words
            .into_iter()
            .filter_map(|(key, value)| Some(format!(" {key}={}", value?)));
        let line = format!("{name}{}", words.collect::<String>());
        steps.push(vec![
            LimitChange::new("rdma.max", line).keyed("hca_handle=max hca_object=max"),
        ]);
    }
    for (file, value) in resources.unified().iter().flatten() {
        if file.contains('/') {
            return Err(UpdateError::Value(format!(
                "linux.resources.unified: {file:?} is no file of a cgroup; remove the slash"
            )));
        }
        // Files with a line per device take one line at a time.
        let lines = value.lines().map(|line| {
            let change = LimitChange::new(file, line);
            match file.as_str() {
                _ if !line.contains(':') => change,
                "io.max" => change.keyed(UNLIMITED_IO),
                _ => change.keyed("default"),
            }
        });
        steps.extend(lines.map(|change| vec![change]));
    }
    Ok(steps)
}

fn memory_changes(
    memory: &LinuxMemory,
    files: &CgroupFiles<'_>,
) -> Result<UpdateStep, UpdateError> {
    let limit = set(memory.limit());
    let mut changes = Vec::new();
    if let Some(swap) = swap(limit, set(memory.swap()))? {
        let change = LimitChange::new("memory.swap.max", or_max(swap));
        // Without swap in the kernel there is no need to limit it to nothing.
        changes.push(if swap <= 0 { change.or_skip() } else { change });
    }
    if let Some(limit) = limit {
        if memory.check_before_update() == Some(true) && limit > 0 {
            refuse_used(limit, files)?;
        }
        changes.push(LimitChange::new("memory.max", or_max(limit)));
    }
    if let Some(reservation) = set(memory.reservation()) {
        changes.push(LimitChange::new("memory.low", or_max(reservation)));
    }
    Ok(changes)
}

/// Below what is used, the kernel would kill.
fn refuse_used(limit: i64, files: &CgroupFiles<'_>) -> Result<(), UpdateError> {
    let used: Option<i64> = files
        .read("memory.current")?
        .and_then(|text| text.trim().parse().ok());
    match used.filter(|used| limit <= *used) {
        Some(used) => Err(UpdateError::Value(format!(
            "the memory limit of {limit} bytes is too low: the container uses {used}; ask for \
             more, or wait until it uses less"
        ))),
        None => Ok(()),
    }
}

/// The spec limits memory and swap together, version 2 swap alone.
fn swap(limit: Option<i64>, both: Option<i64>) -> Result<Option<i64>, UpdateError> {
    let refused = |why: &str| {
        Err(UpdateError::Value(format!(
            "linux.resources.memory.swap: {why}"
        )))
    };
    match (limit, both) {
        (Some(-1), None) => Ok(Some(-1)),
        (_, None) => Ok(None),
        (_, Some(-1)) => Ok(Some(-1)),
        (Some(-1), Some(both)) => Ok(Some(both)),
        (None, Some(_)) => refused("it limits memory and swap together; give memory.limit too"),
        (Some(limit), Some(both)) if both < limit => {
            refused("it is below memory.limit, and both count; raise it")
        }
        (Some(limit), Some(both)) => Ok(Some(both - limit)),
    }
}

fn cpu_steps(cpu: &LinuxCpu, files: &CgroupFiles<'_>) -> Result<Vec<UpdateStep>, UpdateError> {
    let mut steps: Vec<UpdateStep> = Vec::new();
    steps.push(
        cpu.idle()
            .map(|value| LimitChange::new("cpu.idle", value))
            .into_iter()
            .collect(),
    );
    if let Some(shares) = set(cpu.shares()) {
        steps.push(vec![LimitChange::new(
            "cpu.weight",
            weight_of_shares(shares),
        )]);
    }
    let burst = cpu.burst();
    let burst = burst.map(|value| LimitChange::new("cpu.max.burst", value).or_skip());
    let limit = bandwidth(cpu, files)?.map(|value| LimitChange::new(CPU_MAX, value));
    steps.push(burst.into_iter().chain(limit).collect());
    if set(cpu.realtime_period()).is_some() || set(cpu.realtime_runtime()).is_some() {
        return Err(UpdateError::Value(
            "linux.resources.cpu: version 2 of cgroups cannot limit real-time processes; leave out \
             realtimePeriod and realtimeRuntime"
                .to_owned(),
        ));
    }
    steps.push(sets(cpu));
    Ok(steps)
}

/// The value of `cpu.max`. What of it the update leaves out stays as it is.
pub(in crate::cgroup) fn bandwidth(
    cpu: &LinuxCpu,
    files: &CgroupFiles<'_>,
) -> Result<Option<String>, UpdateError> {
    let (quota, period) = (set(cpu.quota()), set(cpu.period()));
    if quota.is_none() && period.is_none() {
        return Ok(None);
    }
    let present = match (quota, period) {
        (Some(_), Some(_)) => String::new(),
        _ => files.read(CPU_MAX)?.unwrap_or_default(),
    };
    let mut present = present.split_whitespace();
    let (present_quota, present_period) = (present.next(), present.next());
    let quota = match quota {
        Some(quota) => or_max(quota),
        None => present_quota.unwrap_or("max").to_owned(),
    };
    let period = period
        .or_else(|| present_period.and_then(|period| period.parse().ok()))
        .unwrap_or(PERIOD);
    Ok(Some(format!("{quota} {period}")))
}

/// Shares from 2 to 262144 with 1024 as the default, as weights from 1 to 10000 with 100 as the default.
pub(super) fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        3..262_144 => {
            #[expect(clippy::cast_precision_loss, reason = "below 2^18")]
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "from 1 to 10000"
            )]
            let weight = 10_f64.powf(exponent).ceil() as u64;
            weight
        }
        _ => 10_000,
    }
}

const UNLIMITED_IO: &str = "rbps=max wbps=max riops=max wiops=max";

fn io_changes(io: &LinuxBlockIo, files: &CgroupFiles<'_>) -> UpdateStep {
    const BFQ: &str = "io.bfq.weight";
    let bfq = files.find(BFQ).is_some();
    let mut changes = Vec::new();
    changes.extend(set(io.weight()).map(|weight| {
        if bfq {
            LimitChange::new(BFQ, weight)
        } else {
            // From 10..1000 to 1..10000.
            let weight = 1 + u64::from(weight.saturating_sub(10)) * 9999 / 990;
            LimitChange::new("io.weight", weight)
        }
    }));
    for one in io.weight_device().iter().flatten().filter(|_| bfq) {
        let line = |weight| format!("{} {weight}", device(one.major(), one.minor()));
        let weight = set(one.weight()).map(line);
        changes.extend(weight.map(|line| LimitChange::new(BFQ, line).keyed("default")));
    }
    for (key, limits) in [
        ("rbps", io.throttle_read_bps_device()),
        ("wbps", io.throttle_write_bps_device()),
        ("riops", io.throttle_read_iops_device()),
        ("wiops", io.throttle_write_iops_device()),
    ] {
        for one in limits.iter().flatten() {
            let rate = match one.rate() {
                0 => "max".to_owned(),
                rate => rate.to_string(),
            };
            let line = format!("{} {key}={rate}", device(one.major(), one.minor()));
            changes.push(LimitChange::new("io.max", line).keyed(UNLIMITED_IO));
        }
    }
    changes
}
