//! Version 1: one directory per controller, times in nanoseconds.
//!
//! There is nothing of rdma: the runner makes no cgroup in that hierarchy, so the numbers would be
//! those of containerd's.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;

use containerd_shim_protos::cgroups::metrics as v1;
use containerd_shim_protos::protobuf::MessageField;

use super::files::{Dir, device};
use crate::cgroup::flat_value;

/// A tick of `cpuacct.stat` (USER_HZ): 100 per second on every architecture that containerd runs on.
const NANOS_PER_TICK: u64 = 10_000_000;
const PARTITIONS: &str = "/proc/partitions";

/// The directories of the controllers that are mounted.
pub(super) struct Controllers<'a> {
    pub(super) pids: Option<Dir<'a>>,
    pub(super) cpuacct: Option<Dir<'a>>,
    pub(super) cpu: Option<Dir<'a>>,
    pub(super) memory: Option<Dir<'a>>,
    pub(super) blkio: Option<Dir<'a>>,
    pub(super) hugetlb: Option<Dir<'a>>,
}

pub(super) fn metrics(controllers: &Controllers<'_>) -> v1::Metrics {
    let Controllers {
        pids,
        cpuacct,
        cpu,
        memory,
        blkio,
        hugetlb,
    } = controllers;
    let mut metrics = v1::Metrics::new();
    if let Some(dir) = pids {
        metrics.pids = MessageField::some(v1::PidsStat {
            current: dir.number("pids.current"),
            // In this message 0 means no limit.
            limit: Some(dir.number("pids.max"))
                .filter(|&limit| limit != u64::MAX)
                .unwrap_or(0),
            ..Default::default()
        });
    }
    if cpuacct.is_some() || cpu.is_some() {
        let usage = cpuacct.as_ref().map(|dir| {
            let stat = dir.text("cpuacct.stat");
            let ticks = |key| flat_value(&stat, key).unwrap_or(0) * NANOS_PER_TICK;
            v1::CPUUsage {
                total: dir.number("cpuacct.usage"),
                user: ticks("user"),
                kernel: ticks("system"),
                per_cpu: dir
                    .text("cpuacct.usage_percpu")
                    .split_whitespace()
                    .filter_map(|number| number.parse().ok())
                    .collect(),
                ..Default::default()
            }
        });
        let throttling = cpu.as_ref().map(|dir| {
            let stat = dir.text("cpu.stat");
            v1::Throttle {
                periods: flat_value(&stat, "nr_periods").unwrap_or(0),
                throttled_periods: flat_value(&stat, "nr_throttled").unwrap_or(0),
                throttled_time: flat_value(&stat, "throttled_time").unwrap_or(0),
                ..Default::default()
            }
        });
        metrics.cpu = MessageField::some(v1::CPUStat {
            usage: usage.into(),
            throttling: throttling.into(),
            ..Default::default()
        });
    }
    if let Some(dir) = memory {
        metrics.memory = MessageField::some(memory_stat(dir));
        let control = dir.text("memory.oom_control");
        let value = |key| flat_value(&control, key).unwrap_or(0);
        metrics.memory_oom_control = MessageField::some(v1::MemoryOomControl {
            oom_kill_disable: value("oom_kill_disable"),
            under_oom: value("under_oom"),
            oom_kill: value("oom_kill"),
            ..Default::default()
        });
    }
    metrics.blkio = blkio.as_ref().map(io).into();
    metrics.hugetlb = hugetlb.as_ref().map_or(Vec::new(), huge_pages);
    metrics
}

fn huge_pages(dir: &Dir<'_>) -> Vec<v1::HugetlbStat> {
    let sizes = dir.huge_page_sizes("usage_in_bytes").into_iter();
    sizes
        .map(|pagesize| {
            let number = |file: &str| dir.number(&format!("hugetlb.{pagesize}.{file}"));
            v1::HugetlbStat {
                usage: number("usage_in_bytes"),
                max: number("max_usage_in_bytes"),
                failcnt: number("failcnt"),
                pagesize,
                ..Default::default()
            }
        })
        .collect()
}

/// The counters of the device's scheduler, or those of throttling if it has none.
fn io(dir: &Dir<'_>) -> v1::BlkIOStat {
    let devices = partitions(&fs::read_to_string(PARTITIONS).unwrap_or_default());
    let entries = |file: &str| io_entries(&dir.text(&format!("blkio.{file}")), &devices);
    let counted = v1::BlkIOStat {
        io_service_bytes_recursive: entries("io_service_bytes_recursive"),
        io_serviced_recursive: entries("io_serviced_recursive"),
        io_queued_recursive: entries("io_queued_recursive"),
        io_service_time_recursive: entries("io_service_time_recursive"),
        io_wait_time_recursive: entries("io_wait_time_recursive"),
        io_merged_recursive: entries("io_merged_recursive"),
        io_time_recursive: entries("time_recursive"),
        sectors_recursive: entries("sectors_recursive"),
        ..Default::default()
    };
    if counted != v1::BlkIOStat::default() {
        return counted;
    }
    v1::BlkIOStat {
        io_serviced_recursive: entries("throttle.io_serviced"),
        io_service_bytes_recursive: entries("throttle.io_service_bytes"),
        ..Default::default()
    }
}

/// Lines of `8:0 Read 4096` or `8:0 64`. The sums over all devices are left out.
fn io_entries(text: &str, devices: &BTreeMap<(u64, u64), String>) -> Vec<v1::BlkIOEntry> {
    let entries = text.lines().filter_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let (number, op, value) = match words[..] {
            [number, op, value] => (number, op, value),
            [number, value] => (number, "", value),
            _ => return None,
        };
        let (major, minor) = device(number)?;
        Some(v1::BlkIOEntry {
            op: op.to_owned(),
            device: devices.get(&(major, minor)).cloned().unwrap_or_default(),
            major,
            minor,
            value: value.parse().ok()?,
            ..Default::default()
        })
    });
    entries.collect()
}

/// The names of block devices (proc_partitions(5)): `8 0 1048576 sda`.
fn partitions(text: &str) -> BTreeMap<(u64, u64), String> {
    let mut devices = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        if let [major, minor, _, name] = words[..]
            && let (Ok(major), Ok(minor)) = (major.parse(), minor.parse())
        {
            devices
                .entry((major, minor))
                .or_insert_with(|| format!("/dev/{name}"));
        }
    }
    devices
}

fn memory_stat(dir: &Dir<'_>) -> v1::MemoryStat {
    let stat = dir.text("memory.stat");
    let value = |key: &str| flat_value(&stat, key).unwrap_or(0);
    let entry = |module: &str| {
        MessageField::some(v1::MemoryEntry {
            limit: dir.number(&format!("memory{module}.limit_in_bytes")),
            usage: dir.number(&format!("memory{module}.usage_in_bytes")),
            max: dir.number(&format!("memory{module}.max_usage_in_bytes")),
            failcnt: dir.number(&format!("memory{module}.failcnt")),
            ..Default::default()
        })
    };
    v1::MemoryStat {
        cache: value("cache"),
        rss: value("rss"),
        rss_huge: value("rss_huge"),
        mapped_file: value("mapped_file"),
        dirty: value("dirty"),
        writeback: value("writeback"),
        pg_pg_in: value("pgpgin"),
        pg_pg_out: value("pgpgout"),
        pg_fault: value("pgfault"),
        pg_maj_fault: value("pgmajfault"),
        inactive_anon: value("inactive_anon"),
        active_anon: value("active_anon"),
        inactive_file: value("inactive_file"),
        active_file: value("active_file"),
        unevictable: value("unevictable"),
        hierarchical_memory_limit: value("hierarchical_memory_limit"),
        hierarchical_swap_limit: value("hierarchical_memsw_limit"),
        total_cache: value("total_cache"),
        total_rss: value("total_rss"),
        total_rss_huge: value("total_rss_huge"),
        total_mapped_file: value("total_mapped_file"),
        total_dirty: value("total_dirty"),
        total_writeback: value("total_writeback"),
        total_pg_pg_in: value("total_pgpgin"),
        total_pg_pg_out: value("total_pgpgout"),
        total_pg_fault: value("total_pgfault"),
        total_pg_maj_fault: value("total_pgmajfault"),
        total_inactive_anon: value("total_inactive_anon"),
        total_active_anon: value("total_active_anon"),
        total_inactive_file: value("total_inactive_file"),
        total_active_file: value("total_active_file"),
        total_unevictable: value("total_unevictable"),
        usage: entry(""),
        swap: entry(".memsw"),
        kernel: entry(".kmem"),
        kernel_tcp: entry(".kmem.tcp"),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_name_of_a_device_counts() {
        let text = "major minor  #blocks  name\n\n   8        0    1024 sda\n   8  0  1 again\n";
        let devices = partitions(text);
        assert_eq!(
            devices.into_iter().collect::<Vec<_>>(),
            [((8, 0), "/dev/sda".to_owned())]
        );
    }
}
