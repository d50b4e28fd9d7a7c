//! The host's cgroup hierarchies: where each is mounted, and the directories of a process or a container
//! in them.
//!
//! Called by the modules around it, and through [`super`] by `devices`, `init` and `container::delete`. Reads
//! the host's /proc. Does not know how a spec names a cgroup.
//!
//! A process is in a cgroup of every hierarchy. Where libcgroups did not put it (`name=systemd`, rdma, misc), it
//! stays in containerd's, which must never be written to, emptied or removed.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use libcgroups::common::DEFAULT_CGROUP_ROOT;
use wasm_interp_mounts::mountinfo::{self, MountInfo};

use super::version::Version;

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// The controllers that libcgroups knows on version 1, each with the names of the mount points at which it looks
/// (`libcgroups::v1::util::get_subsystem_mount_point`).
const CONTROLLERS: [(&str, &[&str]); 12] = [
    ("cpu", &["cpu,cpuacct", "cpu"]),
    ("cpuacct", &["cpu,cpuacct", "cpuacct"]),
    ("cpuset", &["cpuset"]),
    ("devices", &["devices"]),
    ("hugetlb", &["hugetlb"]),
    ("memory", &["memory"]),
    ("pids", &["pids"]),
    ("perf_event", &["perf_event"]),
    ("blkio", &["blkio"]),
    (
        "net_prio",
        &["net_cls,net_prio", "net_prio,net_cls", "net_prio"],
    ),
    (
        "net_cls",
        &["net_cls,net_prio", "net_prio,net_cls", "net_cls"],
    ),
    ("freezer", &["freezer"]),
];

/// The mount table of this process.
pub(super) fn mounts() -> std::io::Result<Vec<MountInfo>> {
    mountinfo::read(Path::new(MOUNTINFO))
}

/// The directories that libcgroups or systemd makes for a container whose cgroup is `relative` to the top of
/// each hierarchy.
pub(super) fn expected_directories(
    relative: &Path,
    version: Version,
    mounts: &[MountInfo],
) -> Vec<PathBuf> {
    let mut directories: Vec<_> = match version {
        Version::V2 => vec![Path::new(DEFAULT_CGROUP_ROOT).join(relative)],
        Version::V1 => CONTROLLERS
            .iter()
            .filter_map(|(_, points)| {
                hierarchies(mounts).find(|h| {
                    h.version == Version::V1 && points.iter().any(|point| h.point.ends_with(point))
                })
            })
            .map(|h| h.point.join(relative))
            .collect(),
    };
    directories.sort();
    directories.dedup();
    directories
}

/// The directory of process `pid`'s cgroup in the hierarchy that has `controller`. It has to be one of the
/// container's `own`: a limit in containerd's cgroup would apply to the whole node.
pub(crate) fn directory(pid: i32, own: &[PathBuf], controller: &str) -> std::io::Result<PathBuf> {
    let (memberships, mounts) = whereabouts(pid)?;
    directory_in(&memberships, &mounts, own, controller).ok_or_else(|| {
        std::io::Error::other(format!(
            "process {pid} is in no {controller} cgroup of the container's own; mount that \
             hierarchy at /sys/fs/cgroup/{controller}"
        ))
    })
}

/// The directories of process `pid`'s cgroup in all hierarchies in which it is not at the top.
pub(crate) fn directories(pid: i32) -> std::io::Result<Vec<PathBuf>> {
    let (memberships, mounts) = whereabouts(pid)?;
    Ok(directories_in(&memberships, &mounts))
}

/// A process's cgroup in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    /// The interface that the hierarchy has.
    pub(crate) version: Version,
    /// The kernel's name of the hierarchy: its controllers or its name, empty on version 2.
    pub(crate) controllers: String,
    /// The cgroup's directory on the host.
    pub(crate) directory: PathBuf,
    /// Where the hierarchy is mounted.
    point: PathBuf,
}

impl Membership {
    /// The name of the directory at which the host has mounted the hierarchy.
    pub(crate) fn name(&self) -> Option<&str> {
        self.point.file_name()?.to_str()
    }
}

/// Process `pid`'s cgroup in every hierarchy of the host that is mounted at /sys/fs/cgroup or in that
/// directory.
pub(crate) fn memberships(pid: i32) -> std::io::Result<Vec<Membership>> {
    let (memberships, mounts) = whereabouts(pid)?;
    Ok(memberships_in(&memberships, &mounts))
}

fn memberships_in(memberships: &str, mounts: &[MountInfo]) -> Vec<Membership> {
    let top = Path::new("/sys/fs/cgroup");
    let mut found: Vec<Membership> = Vec::new();
    for hierarchy in hierarchies(mounts) {
        let point = hierarchy.point;
        if point != top && point.parent() != Some(top) {
            continue;
        }
        let Some((controllers, directory)) = hierarchy.membership(memberships) else {
            continue;
        };
        // A hierarchy may be mounted twice.
        if !found.iter().any(|other| {
            (other.version, other.controllers.as_str()) == (hierarchy.version, controllers)
        }) {
            found.push(Membership {
                version: hierarchy.version,
                controllers: controllers.to_owned(),
                directory,
                point: point.to_owned(),
            });
        }
    }
    found
}

/// cgroups(7)'s `/proc/PID/cgroup` and proc(5)'s `mountinfo`. A container that makes cgroups inside its own names them
/// with any bytes. None of ours has such a name, so it only must not hide the other lines.
fn whereabouts(pid: i32) -> std::io::Result<(String, Vec<MountInfo>)> {
    let memberships = std::fs::read(format!("/proc/{pid}/cgroup"))?;
    let memberships = String::from_utf8_lossy(&memberships).into_owned();
    Ok((memberships, mounts()?))
}

fn directory_in(
    memberships: &str,
    mounts: &[MountInfo],
    own: &[PathBuf],
    controller: &str,
) -> Option<PathBuf> {
    hierarchies(mounts)
        .filter(|h| h.version == Version::V2 || h.has(controller))
        .filter_map(|h| h.place(memberships))
        .find(|place| own.contains(place))
}

fn directories_in(memberships: &str, mounts: &[MountInfo]) -> Vec<PathBuf> {
    let mut directories: Vec<_> = hierarchies(mounts)
        .filter_map(|h| h.place(memberships).filter(|place| place != h.point))
        .collect();
    directories.sort();
    directories.dedup();
    directories
}

/// A hierarchy and where it is mounted.
struct Hierarchy<'a> {
    version: Version,
    /// Options of the mount. On version 1 they name the controllers.
    options: &'a [String],
    /// The directory of the hierarchy that is mounted: in a container not always its top.
    root: &'a Path,
    point: &'a Path,
}

fn hierarchies(mounts: &[MountInfo]) -> impl Iterator<Item = Hierarchy<'_>> {
    mounts.iter().filter_map(|mount| {
        let version = match mount.fs_type.as_str() {
            "cgroup" => Version::V1,
            "cgroup2" => Version::V2,
            _ => return None,
        };
        Some(Hierarchy {
            version,
            options: &mount.super_options,
            root: &mount.root,
            point: &mount.mount_point,
        })
    })
}

impl Hierarchy<'_> {
    fn has(&self, controller: &str) -> bool {
        self.options.iter().any(|option| option == controller)
    }

    /// Where a process with these memberships is.
    fn place(&self, memberships: &str) -> Option<PathBuf> {
        self.membership(memberships).map(|(_, place)| place)
    }

    /// The same, with the kernel's name of the hierarchy.
    fn membership<'m>(&self, memberships: &'m str) -> Option<(&'m str, PathBuf)> {
        let (controllers, path) = memberships.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let here = match self.version {
                Version::V1 => controllers.split(',').any(|c| self.has(c)),
                Version::V2 => controllers.is_empty(),
            };
            here.then_some((controllers, path))
        })?;
        // A cgroup outside the part that is mounted has no directory here.
        let below = Path::new(path).strip_prefix(self.root).ok()?;
        Some((controllers, self.point.join(below)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Vec<MountInfo> {
        mountinfo::parse(text.as_bytes())
    }

    const MOUNTS: &str = "\
30 25 0:26 / /sys/fs/cgroup rw,nosuid - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:5 - cgroup2 cgroup2 rw
36 30 0:32 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
37 30 0:33 /docker/abc /sys/fs/cgroup/pids rw shared:10 - cgroup cgroup rw,pids
";

    #[test]
    fn the_directory_is_found_in_the_hierarchy_of_its_controller() {
        let memberships = "5:pids:/docker/abc/x\n4:cpu,cpuacct:/y\n0::/z\n";
        for (controller, expected) in [
            ("cpuacct", "/sys/fs/cgroup/cpu,cpuacct/y"),
            ("pids", "/sys/fs/cgroup/pids/x"),
        ] {
            let expected = PathBuf::from(expected);
            let own = [expected.clone()];
            assert_eq!(
                directory_in(memberships, &table(MOUNTS), &own, controller),
                Some(expected)
            );
            // Nothing is written to a cgroup that is not the container's.
            assert_eq!(
                directory_in(memberships, &table(MOUNTS), &[], controller),
                None
            );
        }
    }

    #[test]
    fn directories_of_a_process_leave_out_the_top_of_each_hierarchy() {
        let memberships = "5:pids:/docker/abc/x\n4:cpu,cpuacct:/y\n0::/\n";
        assert_eq!(
            directories_in(memberships, &table(MOUNTS)),
            [
                PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/y"),
                PathBuf::from("/sys/fs/cgroup/pids/x")
            ]
        );
    }

    #[test]
    fn memberships_have_the_kernels_controllers_and_the_hosts_directory_name() {
        let memberships = "5:pids:/docker/abc/x\n4:cpu,cpuacct:/y\n0::/z\n";
        let found = memberships_in(memberships, &table(MOUNTS));
        let found: Vec<_> = found
            .iter()
            .map(|m| {
                (
                    m.version,
                    m.controllers.as_str(),
                    m.name(),
                    m.directory.to_str(),
                )
            })
            .collect();
        let at = |path| Some(path);
        assert_eq!(
            found,
            [
                (
                    Version::V2,
                    "",
                    Some("unified"),
                    at("/sys/fs/cgroup/unified/z")
                ),
                (
                    Version::V1,
                    "cpu,cpuacct",
                    Some("cpu,cpuacct"),
                    at("/sys/fs/cgroup/cpu,cpuacct/y")
                ),
                (
                    Version::V1,
                    "pids",
                    Some("pids"),
                    at("/sys/fs/cgroup/pids/x")
                ),
            ]
        );
    }

    #[test]
    fn the_directory_is_found_in_the_unified_hierarchy() {
        let mounts = "31 30 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
        assert_eq!(
            directory_in(
                "0::/a/b\n",
                &table(mounts),
                &["/sys/fs/cgroup/a/b".into()],
                "pids"
            ),
            Some(PathBuf::from("/sys/fs/cgroup/a/b"))
        );
    }
}
