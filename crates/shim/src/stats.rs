//! A container's resource usage, in the message that containerd expects for the cgroup version.
//!
//! Called by `service`. Reads the files of a [`Cgroup`]; a file that the kernel does not have
//! counts as nothing, as in containerd's own shim.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use containerd_shim_protos::cgroups::metrics as v1;
use containerd_shim_protos::cgroups_v2::metrics as v2;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{self, MessageField};

use crate::cgroup::{Cgroup, flat_value};
use crate::events::any;

/// USER_HZ: what `cpuacct.stat` counts in, 100 a second on every architecture containerd runs on.
const NANOS_PER_TICK: u64 = 10_000_000;

/// Metrics of the cgroup as a typed message.
pub(crate) fn collect(cgroup: &Cgroup) -> protobuf::Result<Any> {
    match cgroup {
        Cgroup::V1(controllers) => {
            let dir = |name: &str| controllers.get(name).map(|path| Dir(path));
            any(&metrics_v1(
                dir("pids").as_ref(),
                dir("cpuacct").as_ref(),
                dir("cpu").as_ref(),
                dir("memory").as_ref(),
            ))
        }
        Cgroup::V2(path) => any(&metrics_v2(&Dir(path))),
    }
}

struct Dir<'a>(&'a Path);

impl Dir<'_> {
    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap_or_default()
    }

    /// A single number; `max` is the largest.
    fn number(&self, file: &str) -> u64 {
        match self.text(file).trim() {
            "max" => u64::MAX,
            text => text.parse().unwrap_or(0),
        }
    }

    /// A limit of the pids controller: containerd says 0 for none.
    fn pids_limit(&self) -> u64 {
        Some(self.number("pids.max"))
            .filter(|&limit| limit != u64::MAX)
            .unwrap_or(0)
    }
}

fn metrics_v1(
    pids: Option<&Dir<'_>>,
    cpuacct: Option<&Dir<'_>>,
    cpu: Option<&Dir<'_>>,
    memory: Option<&Dir<'_>>,
) -> v1::Metrics {
    let mut metrics = v1::Metrics::new();
    if let Some(dir) = pids {
        metrics.pids = MessageField::some(v1::PidsStat {
            current: dir.number("pids.current"),
            limit: dir.pids_limit(),
            ..Default::default()
        });
    }
    if cpuacct.is_some() || cpu.is_some() {
        let usage = cpuacct.map(|dir| {
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
        let throttling = cpu.map(|dir| {
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
        metrics.memory = MessageField::some(memory_v1(dir));
        let control = dir.text("memory.oom_control");
        let value = |key| flat_value(&control, key).unwrap_or(0);
        metrics.memory_oom_control = MessageField::some(v1::MemoryOomControl {
            oom_kill_disable: value("oom_kill_disable"),
            under_oom: value("under_oom"),
            oom_kill: value("oom_kill"),
            ..Default::default()
        });
    }
    metrics
}

fn memory_v1(dir: &Dir<'_>) -> v1::MemoryStat {
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

fn metrics_v2(dir: &Dir<'_>) -> v2::Metrics {
    let cpu = dir.text("cpu.stat");
    let cpu = |key| flat_value(&cpu, key).unwrap_or(0);
    let stat = dir.text("memory.stat");
    let memory = |key| flat_value(&stat, key).unwrap_or(0);
    let events = dir.text("memory.events");
    let events = |key| flat_value(&events, key).unwrap_or(0);
    v2::Metrics {
        pids: MessageField::some(v2::PidsStat {
            current: dir.number("pids.current"),
            limit: dir.pids_limit(),
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
            ..Default::default()
        }),
        memory_events: MessageField::some(v2::MemoryEvents {
            low: events("low"),
            high: events("high"),
            max: events("max"),
            oom: events("oom"),
            oom_kill: events("oom_kill"),
            oom_group_kill: events("oom_group_kill"),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use containerd_shim_protos::protobuf::Message as _;

    use super::*;

    fn write(dir: &Path, files: &[(&str, &str)]) {
        for (name, content) in files {
            fs::write(dir.join(name), content).expect("write");
        }
    }

    #[test]
    fn v1_counts_in_nanoseconds_and_bytes() {
        let dir = tempfile::tempdir().expect("tempdir");
        write(
            dir.path(),
            &[
                ("pids.current", "3\n"),
                ("pids.max", "max\n"),
                ("cpuacct.usage", "123456789\n"),
                ("cpuacct.stat", "user 7\nsystem 5\n"),
                ("cpuacct.usage_percpu", "100 23 \n"),
                (
                    "cpu.stat",
                    "nr_periods 9\nnr_throttled 2\nthrottled_time 77\n",
                ),
                ("memory.stat", "cache 4096\ntotal_inactive_file 512\n"),
                ("memory.usage_in_bytes", "8192\n"),
                ("memory.limit_in_bytes", "1048576\n"),
                (
                    "memory.oom_control",
                    "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
                ),
            ],
        );
        let controllers: BTreeMap<_, _> = ["pids", "cpu", "cpuacct", "memory"]
            .map(|name| (name.to_owned(), dir.path().to_owned()))
            .into();
        let any = collect(&Cgroup::V1(controllers)).expect("encode");
        assert_eq!(any.type_url, "io.containerd.cgroups.v1.Metrics");
        let metrics = v1::Metrics::parse_from_bytes(&any.value).expect("decode");
        assert_eq!((metrics.pids.current, metrics.pids.limit), (3, 0));
        assert_eq!(metrics.cpu.usage.total, 123_456_789);
        assert_eq!(metrics.cpu.usage.user, 70_000_000);
        assert_eq!(metrics.cpu.usage.per_cpu, [100, 23]);
        assert_eq!(metrics.cpu.throttling.throttled_time, 77);
        assert_eq!(metrics.memory.usage.usage, 8192);
        assert_eq!(metrics.memory.usage.limit, 1 << 20);
        assert_eq!(metrics.memory.total_inactive_file, 512);
        assert_eq!(metrics.memory_oom_control.oom_kill, 1);
    }

    #[test]
    fn v2_counts_in_microseconds_and_knows_no_limit() {
        let dir = tempfile::tempdir().expect("tempdir");
        write(
            dir.path(),
            &[
                ("pids.current", "1\n"),
                ("pids.max", "20\n"),
                ("cpu.stat", "usage_usec 55\nuser_usec 50\nsystem_usec 5\n"),
                ("memory.stat", "anon 1\ninactive_file 2\n"),
                ("memory.current", "4096\n"),
                ("memory.max", "max\n"),
                ("memory.events", "low 0\noom_kill 2\n"),
            ],
        );
        let any = collect(&Cgroup::V2(dir.path().to_owned())).expect("encode");
        assert_eq!(any.type_url, "io.containerd.cgroups.v2.Metrics");
        let metrics = v2::Metrics::parse_from_bytes(&any.value).expect("decode");
        assert_eq!((metrics.pids.current, metrics.pids.limit), (1, 20));
        assert_eq!(metrics.cpu.usage_usec, 55);
        assert_eq!(metrics.memory.usage, 4096);
        assert_eq!(metrics.memory.usage_limit, u64::MAX);
        assert_eq!(metrics.memory_events.oom_kill, 2);
    }
}
