//! Version 2: one directory, times in microseconds.
#![forbid(unsafe_code)]

use containerd_shim_protos::cgroups_v2::metrics as v2;
use containerd_shim_protos::protobuf::MessageField;

use super::files::{Dir, device, number};
use crate::cgroup::flat_value;

pub(super) fn metrics(dir: &Dir<'_>) -> v2::Metrics {
    let cpu = dir.text("cpu.stat");
    let cpu = |key| flat_value(&cpu, key).unwrap_or(0);
    let stat = dir.text("memory.stat");
    let memory = |key| flat_value(&stat, key).unwrap_or(0);
    v2::Metrics {
        pids: MessageField::some(v2::PidsStat {
            current: dir.number("pids.current"),
            limit: dir.number("pids.max"),
            ..Default::default()
        }),
        cpu: MessageField::some(v2::CPUStat {
            usage_usec: cpu("usage_usec"),
            user_usec: cpu("user_usec"),
            system_usec: cpu("system_usec"),
            nr_periods: cpu("nr_periods"),
            nr_throttled: cpu("nr_throttled"),
            throttled_usec: cpu("throttled_usec"),
            nr_bursts: cpu("nr_bursts"),
            burst_usec: cpu("burst_usec"),
            psi: pressure(dir, "cpu.pressure"),
            ..Default::default()
        }),
        memory: MessageField::some(v2::MemoryStat {
            anon: memory("anon"),
            file: memory("file"),
            kernel_stack: memory("kernel_stack"),
            slab: memory("slab"),
            sock: memory("sock"),
            shmem: memory("shmem"),
            file_mapped: memory("file_mapped"),
            file_dirty: memory("file_dirty"),
            file_writeback: memory("file_writeback"),
            anon_thp: memory("anon_thp"),
            inactive_anon: memory("inactive_anon"),
            active_anon: memory("active_anon"),
            inactive_file: memory("inactive_file"),
            active_file: memory("active_file"),
            unevictable: memory("unevictable"),
            slab_reclaimable: memory("slab_reclaimable"),
            slab_unreclaimable: memory("slab_unreclaimable"),
            pgfault: memory("pgfault"),
            pgmajfault: memory("pgmajfault"),
            workingset_refault: memory("workingset_refault"),
            workingset_activate: memory("workingset_activate"),
            workingset_nodereclaim: memory("workingset_nodereclaim"),
            pgrefill: memory("pgrefill"),
            pgscan: memory("pgscan"),
            pgsteal: memory("pgsteal"),
            pgactivate: memory("pgactivate"),
            pgdeactivate: memory("pgdeactivate"),
            pglazyfree: memory("pglazyfree"),
            pglazyfreed: memory("pglazyfreed"),
            thp_fault_alloc: memory("thp_fault_alloc"),
            thp_collapse_alloc: memory("thp_collapse_alloc"),
            usage: dir.number("memory.current"),
            usage_limit: dir.number("memory.max"),
            swap_usage: dir.number("memory.swap.current"),
            swap_limit: dir.number("memory.swap.max"),
            max_usage: dir.number("memory.peak"),
            swap_max_usage: dir.number("memory.swap.peak"),
            psi: pressure(dir, "memory.pressure"),
            ..Default::default()
        }),
        memory_events: dir
            .existing("memory.events")
            .map(|text| events(&text))
            .into(),
        io: MessageField::some(v2::IOStat {
            usage: io_entries(&dir.text("io.stat")),
            psi: pressure(dir, "io.pressure"),
            ..Default::default()
        }),
        hugetlb: huge_pages(dir),
        rdma: MessageField::some(v2::RdmaStat {
            current: rdma_entries(&dir.text("rdma.current")),
            limit: rdma_entries(&dir.text("rdma.max")),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn events(text: &str) -> v2::MemoryEvents {
    let value = |key| flat_value(text, key).unwrap_or(0);
    v2::MemoryEvents {
        low: value("low"),
        high: value("high"),
        max: value("max"),
        oom: value("oom"),
        oom_kill: value("oom_kill"),
        oom_group_kill: value("oom_group_kill"),
        ..Default::default()
    }
}

fn huge_pages(dir: &Dir<'_>) -> Vec<v2::HugeTlbStat> {
    let sizes = dir.huge_page_sizes("current").into_iter();
    sizes
        .map(|pagesize| v2::HugeTlbStat {
            current: dir.number(&format!("hugetlb.{pagesize}.current")),
            max: dir.number(&format!("hugetlb.{pagesize}.max")),
            failcnt: dir.value(&format!("hugetlb.{pagesize}.events"), "max"),
            pagesize,
            ..Default::default()
        })
        .collect()
}

/// Lines of `8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`.
fn io_entries(text: &str) -> Vec<v2::IOEntry> {
    let entries = text.lines().filter_map(|line| {
        let (name, values) = line.split_once(' ')?;
        let (major, minor) = device(name)?;
        let value = |key| keyed(values, key).map_or(0, number);
        Some(v2::IOEntry {
            major,
            minor,
            rbytes: value("rbytes"),
            wbytes: value("wbytes"),
            rios: value("rios"),
            wios: value("wios"),
            ..Default::default()
        })
    });
    entries.collect()
}

/// Lines of `mlx4_0 hca_handle=2 hca_object=max`.
fn rdma_entries(text: &str) -> Vec<v2::RdmaEntry> {
    let entries = text.lines().filter_map(|line| {
        let (device, values) = line.split_once(' ')?;
        let value = |key| {
            let number = keyed(values, key).map_or(0, number);
            u32::try_from(number).unwrap_or(u32::MAX)
        };
        Some(v2::RdmaEntry {
            device: device.to_owned(),
            hca_handles: value("hca_handle"),
            hca_objects: value("hca_object"),
            ..Default::default()
        })
    });
    entries.collect()
}

/// Lines of `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` and of `full`, in microseconds (the kernel's
/// psi documentation). Absent if the kernel does not measure pressure.
fn pressure(dir: &Dir<'_>, file: &str) -> MessageField<v2::PSIStats> {
    let text = dir.text(file);
    let line = |kind: &str| {
        let values = text.lines().find_map(|line| line.strip_prefix(kind))?;
        let average = |key| {
            keyed(values, key)
                .and_then(|text| text.parse().ok())
                .unwrap_or(0.0)
        };
        Some(v2::PSIData {
            avg10: average("avg10"),
            avg60: average("avg60"),
            avg300: average("avg300"),
            total: keyed(values, "total").map_or(0, number),
            ..Default::default()
        })
    };
    let stats = v2::PSIStats {
        some: line("some ").into(),
        full: line("full ").into(),
        ..Default::default()
    };
    Some(stats)
        .filter(|stats| stats.some.is_some() || stats.full.is_some())
        .into()
}

/// The value of a key in `key=value` words.
fn keyed<'a>(words: &'a str, key: &str) -> Option<&'a str> {
    words.split_whitespace().find_map(|word| {
        let (name, value) = word.split_once('=')?;
        (name == key).then_some(value)
    })
}
