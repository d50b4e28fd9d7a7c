//! Finds the cgroup of a process: what `/proc/PID/cgroup` says, in the hierarchies that are mounted.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use wasm_interp_mounts::mountinfo::{self, MountInfo};

use super::error::CgroupError;

const MOUNTINFO: &str = "/proc/self/mountinfo";
const OWN_CGROUP: &str = "/proc/self/cgroup";
/// The controllers of version 1 in whose hierarchies the runner makes a container's cgroup. In other
/// hierarchies (`name=systemd`, rdma, misc) the container's processes stay in a cgroup of containerd.
const MANAGED: [&str; 12] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
];

/// A container's cgroup, never the shim's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cgroup {
    /// One directory for each controller that the runner manages (`memory`, `cpuacct`, …).
    V1(BTreeMap<String, PathBuf>),
    /// The one directory.
    V2(PathBuf),
}

impl Cgroup {
    /// The cgroup of a process. `None` if the process is in the shim's cgroup: then a signal to all
    /// members would reach the shim.
    pub(crate) fn of(pid: i32) -> Result<Option<Self>, CgroupError> {
        let theirs = read(format!("/proc/{pid}/cgroup"))?;
        let ours = read(OWN_CGROUP)?;
        Ok(locate(&theirs, &ours, &MountedHierarchies::mounted()?))
    }
}

/// A cgroup directory of this process, in the first hierarchy that is mounted.
pub(super) fn own_directory() -> Result<Option<PathBuf>, CgroupError> {
    let ours = read(OWN_CGROUP)?;
    Ok(first_directory(&ours, &MountedHierarchies::mounted()?))
}

/// Where each cgroup hierarchy is mounted.
pub(super) fn mount_points() -> Result<Vec<PathBuf>, CgroupError> {
    let table = mountinfo::read(Path::new(MOUNTINFO)).map_err(CgroupError::read(MOUNTINFO))?;
    let cgroups = |mount: &MountInfo| matches!(mount.fs_type.as_str(), "cgroup" | "cgroup2");
    let mounts = table.into_iter().filter(cgroups);
    let mut points: Vec<_> = mounts.map(|mount| mount.mount_point).collect();
    points.sort();
    points.dedup();
    Ok(points)
}

fn read(path: impl AsRef<Path>) -> Result<String, CgroupError> {
    fs::read_to_string(&path).map_err(CgroupError::read(path.as_ref()))
}

fn first_directory(memberships: &str, hierarchies: &MountedHierarchies) -> Option<PathBuf> {
    let mut lines = memberships.lines();
    lines.find_map(|line| hierarchies.directory(line))
}

/// Tells of a process whether it is in a cgroup, by what `/proc/PID/cgroup` says.
pub(super) struct Memberships {
    hierarchies: MountedHierarchies,
}

impl Memberships {
    pub(super) fn of_mounted() -> Result<Self, CgroupError> {
        Ok(Self {
            hierarchies: MountedHierarchies::mounted()?,
        })
    }

    /// Whether the process is in the cgroup of this directory, or beneath it. If not, it may be one all the same: the
    /// kernel says of a process whose first thread has ended that it is at the top of each hierarchy of version 1.
    pub(super) fn is_surely_in(&self, pid: i32, directory: &Path) -> bool {
        // A process that has ended is none any more.
        read(format!("/proc/{pid}/cgroup")).is_ok_and(|memberships| {
            let mut lines = memberships.lines();
            lines.any(|line| {
                let own = self.hierarchies.directory(line);
                own.is_some_and(|own| own.starts_with(directory))
            })
        })
    }
}

/// The controllers and the path of a line of `/proc/PID/cgroup`: `4:cpu,cpuacct:/path`,
/// `1:name=systemd:/path` or `0::/path`.
fn membership(line: &str) -> Option<(&str, &str)> {
    let mut fields = line.splitn(3, ':').skip(1);
    Some((fields.next()?, fields.next()?))
}

/// Where cgroup hierarchies are mounted: by controller (version 1), and the unified one (version 2).
#[derive(Debug, Default, PartialEq, Eq)]
struct MountedHierarchies {
    v1: BTreeMap<String, MountedHierarchy>,
    v2: Option<MountedHierarchy>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct MountedHierarchy {
    /// The part of the hierarchy that is mounted.
    root: PathBuf,
    mount_point: PathBuf,
}

impl MountedHierarchies {
    fn mounted() -> Result<Self, CgroupError> {
        let table = mountinfo::read(Path::new(MOUNTINFO)).map_err(CgroupError::read(MOUNTINFO))?;
        Ok(Self::of(table))
    }

    /// The directory of a line of `/proc/PID/cgroup`.
    fn directory(&self, line: &str) -> Option<PathBuf> {
        let (names, path) = membership(line)?;
        let hierarchy = match names.split(',').next()? {
            "" => self.v2.as_ref(),
            name => self.v1.get(name),
        };
        hierarchy?.directory(path)
    }

    fn of(table: Vec<MountInfo>) -> Self {
        let mut hierarchies = Self::default();
        for mount in visible(table) {
            let hierarchy = MountedHierarchy {
                root: mount.root,
                mount_point: mount.mount_point,
            };
            match mount.fs_type.as_str() {
                "cgroup2" => {
                    hierarchies.v2.get_or_insert(hierarchy);
                }
                "cgroup" => {
                    let options = mount.super_options.into_iter();
                    for controller in options.filter(|o| !matches!(o.as_str(), "rw" | "ro")) {
                        hierarchies
                            .v1
                            .entry(controller)
                            .or_insert_with(|| hierarchy.clone());
                    }
                }
                _ => {}
            }
        }
        hierarchies
    }
}

/// The mounts of cgroups without those that a later mount hides, as where a container has a part of the host's
/// hierarchies mounted over them.
fn visible(table: Vec<MountInfo>) -> Vec<MountInfo> {
    let mut found: Vec<MountInfo> = Vec::new();
    for mount in table {
        found.retain(|earlier| earlier.mount_point != mount.mount_point);
        if matches!(mount.fs_type.as_str(), "cgroup" | "cgroup2") {
            found.push(mount);
        }
    }
    found
}

impl MountedHierarchy {
    fn directory(&self, cgroup: &str) -> Option<PathBuf> {
        let inside = Path::new(cgroup).strip_prefix(&self.root).ok()?;
        Some(self.mount_point.join(inside))
    }
}

/// Compares `/proc/PID/cgroup` of a process with that of this one.
fn locate(theirs: &str, ours: &str, hierarchies: &MountedHierarchies) -> Option<Cgroup> {
    let ours: Vec<&str> = ours.lines().collect();
    let mut unified = None;
    let mut controllers = BTreeMap::new();
    for line in theirs.lines().filter(|line| !ours.contains(line)) {
        let Some((names, path)) = membership(line).filter(|(_, path)| *path != "/") else {
            continue;
        };
        if names.is_empty() {
            unified = hierarchies.v2.as_ref().and_then(|v2| v2.directory(path));
            continue;
        }
        for name in names.split(',').filter(|name| MANAGED.contains(name)) {
            if let Some(path) = hierarchies.v1.get(name).and_then(|v1| v1.directory(path)) {
                controllers.insert(name.to_owned(), path);
            }
        }
    }
    if !controllers.is_empty() {
        Some(Cgroup::V1(controllers))
    } else if MANAGED
        .iter()
        .any(|name| hierarchies.v1.contains_key(*name))
    {
        // If version 1 is mounted too, the unified hierarchy is systemd's.
        None
    } else {
        unified.map(Cgroup::V2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
30 24 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw
31 24 0:27 / /sys/fs/cgroup/memory rw,nosuid shared:10 - cgroup cgroup rw,memory
32 24 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:11 - cgroup cgroup rw,cpu,cpuacct
33 24 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
";
    const V2: &str =
        "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn hierarchies(mountinfo: &str) -> MountedHierarchies {
        MountedHierarchies::of(mountinfo::parse(mountinfo.as_bytes()))
    }

    #[test]
    fn v1_has_a_directory_for_each_controller() {
        let theirs = "3:memory:/k8s/a\n2:cpu,cpuacct:/k8s/a\n1:name=systemd:/k8s/a\n0::/\n";
        let ours = "3:memory:/\n2:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n";
        let Some(Cgroup::V1(found)) = locate(theirs, ours, &hierarchies(V1)) else {
            panic!("v1 expected");
        };
        assert_eq!(found["memory"], Path::new("/sys/fs/cgroup/memory/k8s/a"));
        assert_eq!(
            found["cpuacct"],
            Path::new("/sys/fs/cgroup/cpu,cpuacct/k8s/a")
        );
        assert!(!found.contains_key("name=systemd"));
    }

    /// In other hierarchies the init process stays where the runner was, which need not be where the
    /// shim is. A signal to all members would reach all of containerd's unit.
    #[test]
    fn hierarchies_that_the_runner_does_not_manage_are_not_the_containers() {
        let hierarchies = hierarchies(&format!(
            "{V1}34 24 0:30 / /sys/fs/cgroup/rdma rw - cgroup cgroup rw,rdma\n"
        ));
        let unit = "/system.slice/containerd.service";
        let foreign = format!("9:rdma:{unit}\n1:name=systemd:{unit}\n0::{unit}\n");
        let ours = "9:rdma:/\n3:memory:/\n1:name=systemd:/shims\n0::/shims\n";
        let shared = format!("3:memory:/\n{foreign}");
        assert_eq!(locate(&shared, ours, &hierarchies), None);
        let own = format!("3:memory:/k8s/a\n{foreign}");
        let Some(Cgroup::V1(found)) = locate(&own, ours, &hierarchies) else {
            panic!("v1 expected");
        };
        assert_eq!(
            found,
            BTreeMap::from([("memory".into(), "/sys/fs/cgroup/memory/k8s/a".into())])
        );
    }

    #[test]
    fn v2_has_one_directory() {
        assert_eq!(
            locate(
                "0::/k8s.slice/a.scope\n",
                "0::/system.slice\n",
                &hierarchies(V2)
            ),
            Some(Cgroup::V2("/sys/fs/cgroup/k8s.slice/a.scope".into()))
        );
    }

    /// A kill of all members would kill the shim.
    #[test]
    fn cgroup_of_the_shim_is_not_the_containers() {
        let ours = "3:memory:/shims\n2:cpu,cpuacct:/shims\n0::/\n";
        assert_eq!(locate(ours, ours, &hierarchies(V1)), None);
        assert_eq!(locate("0::/\n", "0::/x\n", &hierarchies(V2)), None);
        assert_eq!(locate("0::/x\n", "0::/x\n", &hierarchies(V2)), None);
    }

    #[test]
    fn mount_of_a_part_of_the_hierarchy_leads_only_to_that_part() {
        let hierarchies =
            hierarchies("30 24 0:26 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        assert_eq!(
            locate("0::/docker/x/pod\n", "0::/docker/x\n", &hierarchies),
            Some(Cgroup::V2("/sys/fs/cgroup/pod".into()))
        );
        assert_eq!(
            locate("0::/elsewhere\n", "0::/docker/x\n", &hierarchies),
            None
        );
    }

    /// A container's view of the host's hierarchies, with its own part mounted over each.
    #[test]
    fn mount_that_a_later_one_hides_does_not_count() {
        let found = hierarchies(
            "31 24 0:27 /../.. /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             44 31 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             45 24 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
             46 45 0:50 / /sys/fs/cgroup/unified rw - tmpfs tmpfs rw\n",
        );
        assert_eq!(
            locate("3:memory:/k8s/a\n", "3:memory:/\n", &found),
            Some(Cgroup::V1(BTreeMap::from([(
                "memory".into(),
                "/sys/fs/cgroup/memory/k8s/a".into()
            )])))
        );
        assert_eq!(found.v2, None);
    }

    #[test]
    fn process_is_surely_in_its_own_cgroup_and_in_those_above_it() {
        let own = std::process::id().cast_signed();
        let directory = own_directory().expect("read").expect("a cgroup");
        let memberships = Memberships::of_mounted().expect("read");
        assert!(memberships.is_surely_in(own, &directory));
        assert!(memberships.is_surely_in(own, directory.parent().expect("the hierarchies")));
        assert!(!memberships.is_surely_in(own, &directory.join("inside")));
        let memberships = Memberships {
            hierarchies: hierarchies("30 24 0:26 / /nowhere rw - cgroup2 cgroup2 rw\n"),
        };
        assert!(!memberships.is_surely_in(own, &directory));
    }

    #[test]
    fn own_directory_is_that_of_the_first_mounted_hierarchy() {
        let ours = "9:rdma:/\n3:memory:/shims\n0::/\n";
        assert_eq!(
            first_directory(ours, &hierarchies(V1)),
            Some("/sys/fs/cgroup/memory/shims".into())
        );
        assert_eq!(
            first_directory("0::/system.slice\n", &hierarchies(V2)),
            Some("/sys/fs/cgroup/system.slice".into())
        );
        assert_eq!(first_directory(ours, &MountedHierarchies::default()), None);
    }
}
