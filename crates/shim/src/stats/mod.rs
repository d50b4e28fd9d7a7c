//! A container's resource usage, in the message that containerd expects for the cgroup's version.
//!
//! Called by `service`. Reads the files of a [`Cgroup`]. A value whose file does not exist is 0, and a
//! message of which no file exists is absent, as in containerd's shim for runc. It knows no task.
#![forbid(unsafe_code)]

mod files;
mod v1;
mod v2;

use containerd_shim_protos::protobuf;
use containerd_shim_protos::protobuf::well_known_types::any::Any;

use self::files::Dir;
use crate::cgroup::Cgroup;
use crate::typeurl::any;

/// Metrics of the cgroup as a typed message.
pub(crate) fn collect(cgroup: &Cgroup) -> protobuf::Result<Any> {
    match cgroup {
        Cgroup::V1(controllers) => {
            let dir = |name: &str| controllers.get(name).map(|path| Dir(path));
            any(&v1::metrics(&v1::Controllers {
                pids: dir("pids"),
                cpuacct: dir("cpuacct"),
                cpu: dir("cpu"),
                memory: dir("memory"),
                blkio: dir("blkio"),
                hugetlb: dir("hugetlb"),
            }))
        }
        Cgroup::V2(path) => any(&v2::metrics(&Dir(path))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;

    use containerd_shim_protos::cgroups::metrics as v1;
    use containerd_shim_protos::cgroups_v2::metrics as v2;
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
        assert!(metrics.blkio.is_none(), "it has no such controller");
    }

    #[test]
    fn v1_counts_io_by_device_and_huge_pages_by_size() {
        let dir = tempfile::tempdir().expect("tempdir");
        write(
            dir.path(),
            &[
                (
                    "blkio.throttle.io_serviced",
                    "8:0 Read 4\n8:0 Write 5\n8:0 Total 9\nTotal 9\n",
                ),
                (
                    "blkio.throttle.io_service_bytes",
                    "259:1 Read 4096\nTotal 4096\n",
                ),
                ("hugetlb.2MB.usage_in_bytes", "2097152\n"),
                ("hugetlb.2MB.max_usage_in_bytes", "4194304\n"),
                ("hugetlb.2MB.failcnt", "3\n"),
                ("hugetlb.2MB.rsvd.usage_in_bytes", "0\n"),
            ],
        );
        let metrics = |names: &[&str]| {
            let controllers = names
                .iter()
                .map(|name| ((*name).to_owned(), dir.path().to_owned()));
            let any = collect(&Cgroup::V1(controllers.collect())).expect("encode");
            v1::Metrics::parse_from_bytes(&any.value).expect("decode")
        };
        let found = metrics(&["blkio", "hugetlb"]);
        let serviced: Vec<_> = found.blkio.io_serviced_recursive.iter().collect();
        let of = |entry: &v1::BlkIOEntry| (entry.major, entry.minor, entry.op.clone(), entry.value);
        assert_eq!(serviced.len(), 3, "the line of all devices is left out");
        assert_eq!(of(serviced[1]), (8, 0, "Write".to_owned(), 5));
        let bytes = &found.blkio.io_service_bytes_recursive[0];
        assert_eq!(of(bytes), (259, 1, "Read".to_owned(), 4096));
        assert_eq!(found.hugetlb.len(), 1);
        let huge = &found.hugetlb[0];
        assert_eq!(
            (huge.pagesize.as_str(), huge.usage, huge.max, huge.failcnt),
            ("2MB", 2_097_152, 4_194_304, 3)
        );

        // A scheduler's own counters come first, if it has any.
        write(
            dir.path(),
            &[
                ("blkio.io_serviced_recursive", "8:0 Read 7\nTotal 7\n"),
                ("blkio.sectors_recursive", "8:0 64\n"),
            ],
        );
        let found = metrics(&["blkio"]);
        assert_eq!(found.blkio.io_serviced_recursive[0].value, 7);
        let sectors = &found.blkio.sectors_recursive[0];
        assert_eq!(of(sectors), (8, 0, String::new(), 64));
        write(
            dir.path(),
            &[
                ("blkio.io_serviced_recursive", ""),
                ("blkio.sectors_recursive", ""),
            ],
        );
        let found = metrics(&["blkio"]);
        assert_eq!(found.blkio.io_serviced_recursive.len(), 3);
    }

    #[test]
    fn v2_counts_in_microseconds_and_no_limit_is_the_largest_number() {
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
        assert!(
            metrics.memory.psi.is_none(),
            "the kernel does not measure it"
        );
    }

    #[test]
    fn v2_has_io_huge_pages_rdma_and_pressure() {
        let dir = tempfile::tempdir().expect("tempdir");
        let pressure = "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\n\
                        full avg10=0.50 avg60=0.00 avg300=0.00 total=7\n";
        write(
            dir.path(),
            &[
                ("pids.max", "max\n"),
                (
                    "io.stat",
                    "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0\n8:0 \n",
                ),
                ("io.pressure", pressure),
                ("cpu.pressure", pressure),
                (
                    "memory.pressure",
                    "some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n",
                ),
                ("hugetlb.1GB.current", "1073741824\n"),
                ("hugetlb.1GB.max", "max\n"),
                ("hugetlb.1GB.events", "max 4\n"),
                ("hugetlb.1GB.rsvd.current", "0\n"),
                ("rdma.current", "mlx4_0 hca_handle=2 hca_object=2000\n"),
                ("rdma.max", "mlx4_0 hca_handle=3 hca_object=max\n"),
            ],
        );
        let any = collect(&Cgroup::V2(dir.path().to_owned())).expect("encode");
        let metrics = v2::Metrics::parse_from_bytes(&any.value).expect("decode");
        assert_eq!(metrics.pids.limit, u64::MAX);
        let io = &metrics.io.usage[0];
        assert_eq!((io.major, io.minor), (8, 16));
        assert_eq!((io.rbytes, io.wbytes), (1_459_200, 314_773_504));
        assert_eq!((io.rios, io.wios), (192, 353));
        assert_eq!(metrics.io.usage.len(), 2);
        assert!((metrics.io.psi.some.avg10 - 1.5).abs() < 1e-9);
        assert_eq!(metrics.cpu.psi.full.total, 7);
        assert_eq!(metrics.memory.psi.some.total, 5);
        assert!(metrics.memory.psi.full.is_none());
        let huge = &metrics.hugetlb[0];
        assert_eq!((huge.pagesize.as_str(), huge.current), ("1GB", 1 << 30));
        assert_eq!((huge.max, huge.failcnt), (u64::MAX, 4));
        assert_eq!(metrics.hugetlb.len(), 1);
        let (current, limit) = (&metrics.rdma.current[0], &metrics.rdma.limit[0]);
        assert_eq!(
            (current.device.as_str(), current.hca_handles),
            ("mlx4_0", 2)
        );
        assert_eq!((limit.hca_handles, limit.hca_objects), (3, u32::MAX));
        assert!(metrics.memory_events.is_none(), "there is no such file");
    }
}
