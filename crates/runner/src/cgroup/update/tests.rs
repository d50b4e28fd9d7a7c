//! What an update writes, in folders in place of cgroups. The kernel's part is in `tests/cgroups.rs`.

use std::path::Path;

use serde_json::{Value, json};

use super::*;

/// A folder with these files, and what they hold.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("write");
    }
    folder
}

fn updated(
    folder: &Path,
    version: Version,
    resources: &Value,
) -> Result<UpdatedCgroup, UpdateError> {
    let resources = serde_json::from_value(resources.clone()).expect("resources");
    update(&[folder.to_owned()], version, &resources)
}

/// The files that hold something, sorted.
fn content(folder: &Path) -> Vec<(String, String)> {
    let mut found: Vec<_> = fs::read_dir(folder)
        .expect("list")
        .map(|entry| {
            let path = entry.expect("entry").path();
            let name = path
                .file_name()
                .expect("name")
                .to_string_lossy()
                .into_owned();
            (name, fs::read_to_string(path).expect("read"))
        })
        .filter(|(_, text)| !text.is_empty())
        .collect();
    found.sort();
    found
}

fn everything() -> Value {
    json!({
        "memory": {"limit": 4096, "swap": 12288, "reservation": 1024, "swappiness": 7},
        "cpu": {
            "shares": 2048, "quota": 2000, "period": 10000, "burst": 500, "idle": 1,
            "cpus": "0-1", "mems": "0",
        },
        "pids": {"limit": 9},
        "blockIO": {
            "weight": 510,
            "weightDevice": [{"major": 8, "minor": 0, "weight": 300}],
            "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 20}],
        },
        "hugepageLimits": [{"pageSize": "2MB", "limit": 2097152}],
    })
}

#[test]
fn every_limit_has_its_file_on_version_1() {
    let names = [
        "memory.limit_in_bytes",
        "memory.memsw.limit_in_bytes",
        "memory.soft_limit_in_bytes",
        "memory.swappiness",
        "cpu.shares",
        "cpu.cfs_period_us",
        "cpu.cfs_quota_us",
        "cpu.cfs_burst_us",
        "cpu.idle",
        "cpuset.cpus",
        "cpuset.mems",
        "pids.max",
        "blkio.weight",
        "blkio.weight_device",
        "blkio.throttle.read_bps_device",
        "blkio.throttle.write_iops_device",
        "hugetlb.2MB.limit_in_bytes",
        "hugetlb.2MB.rsvd.limit_in_bytes",
    ];
    let folder = folder(&names.map(|name| (name, "")));
    updated(folder.path(), Version::V1, &everything()).expect("update");
    let expected = [
        ("blkio.throttle.read_bps_device", "8:0 1000"),
        ("blkio.throttle.write_iops_device", "8:16 20"),
        ("blkio.weight", "510"),
        ("blkio.weight_device", "8:0 300"),
        ("cpu.cfs_burst_us", "500"),
        ("cpu.cfs_period_us", "10000"),
        ("cpu.cfs_quota_us", "2000"),
        ("cpu.idle", "1"),
        ("cpu.shares", "2048"),
        ("cpuset.cpus", "0-1"),
        ("cpuset.mems", "0"),
        ("hugetlb.2MB.limit_in_bytes", "2097152"),
        ("hugetlb.2MB.rsvd.limit_in_bytes", "2097152"),
        ("memory.limit_in_bytes", "4096"),
        ("memory.memsw.limit_in_bytes", "12288"),
        ("memory.soft_limit_in_bytes", "1024"),
        ("memory.swappiness", "7"),
        ("pids.max", "9"),
    ];
    let expected = expected.map(|(name, text)| (name.to_owned(), text.to_owned()));
    assert_eq!(content(folder.path()), expected);
}

#[test]
fn every_limit_has_its_file_on_version_2() {
    let names = [
        "memory.max",
        "memory.swap.max",
        "memory.low",
        "memory.high",
        "cpu.weight",
        "cpu.max",
        "cpu.max.burst",
        "cpu.idle",
        "cpuset.cpus",
        "cpuset.mems",
        "pids.max",
        "io.weight",
        "io.max",
        "hugetlb.2MB.max",
        "rdma.max",
    ];
    let folder = folder(&names.map(|name| (name, "")));
    let mut resources = everything();
    // One line per file: the kernel adds the second to the first, a folder does not.
    resources["blockIO"]["throttleWriteIOPSDevice"] = json!([]);
    resources["unified"] = json!({"memory.high": "3072"});
    resources["rdma"] = json!({"mlx5_0": {"hcaHandles": 3}});
    updated(folder.path(), Version::V2, &resources).expect("update");
    let expected = [
        ("cpu.idle", "1"),
        ("cpu.max", "2000 10000"),
        ("cpu.max.burst", "500"),
        ("cpu.weight", "174"),
        ("cpuset.cpus", "0-1"),
        ("cpuset.mems", "0"),
        ("hugetlb.2MB.max", "2097152"),
        ("io.max", "8:0 rbps=1000"),
        ("io.weight", "5051"),
        ("memory.high", "3072"),
        ("memory.low", "1024"),
        ("memory.max", "4096"),
        ("memory.swap.max", "8192"),
        ("pids.max", "9"),
        ("rdma.max", "mlx5_0 hca_handle=3"),
    ];
    let expected = expected.map(|(name, text)| (name.to_owned(), text.to_owned()));
    assert_eq!(content(folder.path()), expected);
}

#[test]
fn missing_or_zero_leaves_a_limit_and_minus_one_removes_it() {
    let folder = folder(&[
        ("memory.max", "4096\n"),
        ("cpu.max", "2000 10000\n"),
        ("pids.max", "9\n"),
    ]);
    let zero = json!({
        "memory": {"limit": 0, "swap": 0}, "cpu": {"quota": 0, "cpus": ""}, "pids": {"limit": 0},
    });
    for resources in [json!({}), zero] {
        let before = content(folder.path());
        updated(folder.path(), Version::V2, &resources).expect("update");
        assert_eq!(content(folder.path()), before);
    }
    // What the kernel's file would have after the write, a folder's has with the rest of the old text.
    for (resources, file, written) in [
        (json!({"memory": {"limit": -1}}), "memory.max", "max"),
        (json!({"cpu": {"quota": -1}}), "cpu.max", "max 10000"),
        (json!({"cpu": {"quota": 7000}}), "cpu.max", "7000 10000"),
        (json!({"pids": {"limit": -1}}), "pids.max", "max"),
    ] {
        updated(folder.path(), Version::V2, &resources).expect("update");
        let text = fs::read_to_string(folder.path().join(file)).expect("read");
        assert!(text.starts_with(written), "{file}: {text}");
        fs::write(folder.path().join("cpu.max"), "2000 10000\n").expect("write");
    }
}

#[test]
fn update_that_fails_gives_back_the_old_values() {
    let folder = folder(&[
        ("pids.max", "10\n"),
        ("memory.max", "4096\n"),
        ("io.max", "8:16 rbps=1 wbps=max riops=max wiops=max\n"),
    ]);
    let resources = json!({
        "pids": {"limit": 20},
        "memory": {"limit": 8192},
        "hugepageLimits": [{"pageSize": "1GB", "limit": 0}],
    });
    let before = content(folder.path());
    let error = updated(folder.path(), Version::V2, &resources).expect_err("no hugetlb");
    assert!(
        error.to_string().contains("no file hugetlb.1GB.max"),
        "{error}"
    );
    assert_eq!(content(folder.path()), before);

    let throttled = |rate| {
        let line = LimitChange::new("io.max", rate).keyed("rbps=max wbps=max riops=max wiops=max");
        old(
            &fs::read_to_string(folder.path().join("io.max")).expect("read"),
            &line,
        )
        .value
    };
    let whole = "8:16 rbps=1 wbps=max riops=max wiops=max";
    assert_eq!(throttled("8:16 rbps=5"), whole);
    assert_eq!(
        throttled("8:0 rbps=5"),
        whole.replace("8:16 rbps=1", "8:0 rbps=max")
    );
}

#[test]
fn values_that_cannot_be_are_refused_before_anything_is_written() {
    let folder = folder(&[
        ("memory.max", ""),
        ("memory.swap.max", ""),
        ("memory.current", "9000\n"),
    ]);
    for (version, resources, words) in [
        (
            Version::V1,
            json!({"unified": {"memory.max": "1"}}),
            "cgroup v2",
        ),
        (
            Version::V1,
            json!({"memory": {"swappiness": 101}}),
            "0 to 100",
        ),
        (
            Version::V2,
            json!({"memory": {"swap": 4096}}),
            "give memory.limit too",
        ),
        (
            Version::V2,
            json!({"memory": {"limit": 4096, "swap": 1024}}),
            "below memory.limit",
        ),
        (
            Version::V2,
            json!({"unified": {"../x": "1"}}),
            "no file of a cgroup",
        ),
        (
            Version::V2,
            json!({"cpu": {"realtimePeriod": 1000}}),
            "real-time",
        ),
        (
            Version::V2,
            json!({"memory": {"limit": 8192, "checkBeforeUpdate": true}}),
            "the container uses 9000",
        ),
    ] {
        let error = updated(folder.path(), version, &resources).expect_err(words);
        assert!(error.to_string().contains(words), "{error}");
    }
    let written = content(folder.path());
    assert_eq!(written.len(), 1, "{written:?}");
}

#[test]
fn shares_become_weights_as_under_runc() {
    for (shares, weight) in [(1, 1), (2, 1), (1024, 100), (512, 59), (262_144, 10_000)] {
        assert_eq!(v2::weight_of_shares(shares), weight, "{shares}");
    }
}
