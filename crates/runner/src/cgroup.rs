//! Where in the cgroup tree a container belongs, from the form of the spec's `cgroupsPath`.
//!
//! Called by `spec` and `container`. [`placement`] is pure; the rest looks at the host. Knows the naming rules of systemd and of runc (`libcontainer/cgroups/systemd`), not
//! Wasmtime.
#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    path::{Component, Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

/// How long systemd may take to remove a cgroup.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which cgroup interface the host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// One hierarchy a controller (also the hybrid form, whose controllers are on version 1).
    V1,
    /// The unified hierarchy.
    V2,
}

/// Where a container's cgroup is and who makes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Placement {
    /// What libcontainer is given as `cgroupsPath`.
    pub(crate) path: PathBuf,
    /// Who makes it.
    pub(crate) driver: Driver,
}

/// Who makes a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Driver {
    /// We, by `mkdir`.
    Cgroupfs,
    /// systemd, as a transient scope, asked over D-Bus.
    Systemd,
}

/// A `cgroupsPath` that names no place.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum PlacementError {
    #[error("place the container in cgroup {path:?}: {why}")]
    Invalid { path: String, why: &'static str },
    #[error("find out the version of the host's cgroups at /sys/fs/cgroup: {0}")]
    Version(String),
}

impl Version {
    /// Asks the host.
    pub(crate) fn of_host() -> Result<Self, PlacementError> {
        use libcgroups::common::{CgroupSetup, get_cgroup_setup};
        match get_cgroup_setup() {
            Ok(CgroupSetup::Unified) => Ok(Self::V2),
            Ok(CgroupSetup::Legacy | CgroupSetup::Hybrid) => Ok(Self::V1),
            Err(error) => Err(PlacementError::Version(error.to_string())),
        }
    }
}

/// Where the container `id` goes if its spec says `cgroups_path`.
///
/// The form decides the driver, as it does for runc and crun: `slice:prefix:name` is a systemd
/// scope, everything else a path below the root of each hierarchy. On version 1 the scope's
/// directory is made without systemd, where systemd would make it: libcontainer's systemd driver
/// is for version 2 only and takes the form for a directory name there.
pub(crate) fn placement(
    cgroups_path: Option<&Path>,
    id: &str,
    version: Version,
) -> Result<Placement, PlacementError> {
    let cgroupfs = |path| Placement {
        path,
        driver: Driver::Cgroupfs,
    };
    let Some(path) = cgroups_path.filter(|p| !p.as_os_str().is_empty()) else {
        return Ok(cgroupfs(Path::new("/").join(format!("wasm-interp-{id}"))));
    };
    let invalid = |why| PlacementError::Invalid {
        path: path.display().to_string(),
        why,
    };
    let text = path.to_str().ok_or_else(|| invalid("it is not UTF-8"))?;
    let parts: Vec<&str> = text.split(':').collect();
    if let [slice, prefix, name] = parts[..] {
        if name.is_empty() {
            return Err(invalid("the name of the scope is empty"));
        }
        if [slice, prefix, name].iter().any(|part| part.contains('/')) {
            return Err(invalid("a part of slice:prefix:name holds a slash"));
        }
        let directory = expand_slice(slice)
            .map_err(invalid)?
            .join(unit(prefix, name));
        return Ok(match version {
            Version::V1 => cgroupfs(directory),
            Version::V2 => Placement {
                path: scope(slice, prefix, name).map_err(invalid)?,
                driver: Driver::Systemd,
            },
        });
    }
    let mut absolute = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => absolute.push(name),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(invalid("it climbs out of the tree with .."));
            }
        }
    }
    if absolute == Path::new("/") {
        return Err(invalid(
            "it is the root of the tree, which belongs to the host",
        ));
    }
    Ok(cgroupfs(absolute))
}

/// Sets the limit of tasks of the cgroup in which process `pid` is.
pub(crate) fn limit_pids(pid: i32, limit: i64) -> std::io::Result<()> {
    let directory = directory(pid, "pids")?;
    let value = if limit > 0 {
        limit.to_string()
    } else {
        "max".to_owned()
    };
    std::fs::write(directory.join("pids.max"), value)
}

/// Takes out of `unified` (runtime spec, "Unified") what libcontainer would not have systemd do, or not
/// do right: systemd has no property for most files, a quota is counted in another unit there, and a
/// `max` is not understood. The caller [writes](write_unified) it once the cgroup is there.
pub(crate) fn take_unified(unified: &mut HashMap<String, String>) -> HashMap<String, String> {
    const PROPERTIES: [&str; 5] = [
        "memory.min",
        "memory.low",
        "memory.high",
        "memory.max",
        "pids.max",
    ];
    let number = |value: &str| value.parse::<u64>().is_ok();
    unified
        .extract_if(|file, value| !PROPERTIES.contains(&file.as_str()) || !number(value))
        .collect()
}

/// Writes files of the cgroup in which process `pid` is, on version 2.
pub(crate) fn write_unified(pid: i32, files: &HashMap<String, String>) -> std::io::Result<()> {
    let directory = directory(pid, "memory")?;
    files.iter().try_for_each(|(file, value)| {
        if file.contains('/') {
            return Err(std::io::Error::other(format!(
                "{file:?} is no file of a cgroup"
            )));
        }
        let path = directory.join(file);
        std::fs::write(&path, value).map_err(|error| {
            let act = format!("write {value:?} to {}: {error}", path.display());
            std::io::Error::new(error.kind(), act)
        })
    })
}

/// Waits until systemd has removed `directories`, which it does after it has answered; whether it has.
pub(crate) fn wait_until_gone(directories: &[PathBuf]) -> bool {
    let end = Instant::now() + PATIENCE;
    while directories.iter().any(|directory| directory.exists()) {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

/// The directory of process `pid`'s cgroup in the hierarchy that has `controller`.
pub(crate) fn directory(pid: i32, controller: &str) -> std::io::Result<PathBuf> {
    let (memberships, mounts) = whereabouts(pid)?;
    directory_in(&memberships, &mounts, controller).ok_or_else(|| {
        std::io::Error::other(format!(
            "find the {controller} cgroup of process {pid} among the host's mounts"
        ))
    })
}

/// The directories of process `pid`'s cgroup in all hierarchies in which it is not at the top.
pub(crate) fn directories(pid: i32) -> std::io::Result<Vec<PathBuf>> {
    let (memberships, mounts) = whereabouts(pid)?;
    Ok(directories_in(&memberships, &mounts))
}

/// cgroups(7)'s `/proc/PID/cgroup` and proc(5)'s `mountinfo`.
fn whereabouts(pid: i32) -> std::io::Result<(String, String)> {
    Ok((
        std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?,
        std::fs::read_to_string("/proc/self/mountinfo")?,
    ))
}

fn directory_in(memberships: &str, mounts: &str, controller: &str) -> Option<PathBuf> {
    hierarchies(mounts)
        .find(|h| h.version == Version::V1 && h.has(controller))
        .or_else(|| hierarchies(mounts).find(|h| h.version == Version::V2))?
        .place(memberships)
}

fn directories_in(memberships: &str, mounts: &str) -> Vec<PathBuf> {
    let mut directories: Vec<_> = hierarchies(mounts)
        .filter_map(|h| {
            h.place(memberships)
                .filter(|place| place != Path::new(h.point))
        })
        .collect();
    directories.sort();
    directories.dedup();
    directories
}

/// A hierarchy and where it is mounted.
struct Hierarchy<'a> {
    version: Version,
    /// On version 1 its controllers are among these.
    options: &'a str,
    /// The directory of the hierarchy that is mounted: in a container not always its top.
    root: &'a str,
    point: &'a str,
}

fn hierarchies(mounts: &str) -> impl Iterator<Item = Hierarchy<'_>> {
    mounts.lines().filter_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, point) = (place.next()?, place.next()?);
        let mut kind = kind.split(' ');
        let version = match kind.next()? {
            "cgroup" => Version::V1,
            "cgroup2" => Version::V2,
            _ => return None,
        };
        let options = kind.nth(1).unwrap_or_default();
        Some(Hierarchy {
            version,
            options,
            root,
            point,
        })
    })
}

impl Hierarchy<'_> {
    fn has(&self, controller: &str) -> bool {
        self.options.split(',').any(|option| option == controller)
    }

    /// Where a process with these memberships is.
    fn place(&self, memberships: &str) -> Option<PathBuf> {
        let path = memberships.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let here = match self.version {
                Version::V1 => controllers.split(',').any(|c| self.has(c)),
                Version::V2 => controllers.is_empty(),
            };
            here.then_some(path)
        })?;
        let below = Path::new(path)
            .strip_prefix(self.root)
            .unwrap_or(Path::new(path));
        let below = below.strip_prefix("/").unwrap_or(below);
        Some(Path::new(self.point).join(below))
    }
}

/// The directory of a slice: `a-b.slice` lies at `/a.slice/a-b.slice` (systemd.slice(5)).
fn expand_slice(slice: &str) -> Result<PathBuf, &'static str> {
    // As runc: a scope without a slice belongs to the system.
    let slice = if slice.is_empty() {
        "system.slice"
    } else {
        slice
    };
    let name = slice
        .strip_suffix(".slice")
        .ok_or("its slice does not end in .slice")?;
    let mut directory = PathBuf::from("/");
    if name == "-" {
        return Ok(directory);
    }
    let mut prefix = String::new();
    for part in name.split('-') {
        if part.is_empty() {
            return Err("its slice has an empty part between dashes");
        }
        directory.push(format!("{prefix}{part}.slice"));
        prefix.push_str(part);
        prefix.push('-');
    }
    Ok(directory)
}

/// The form as libcontainer understands it, which names each scope `prefix-name.scope`, also where
/// the prefix is empty and the unit is `name.scope`.
fn scope(slice: &str, prefix: &str, name: &str) -> Result<PathBuf, &'static str> {
    let (prefix, name) = if prefix.is_empty() && !name.ends_with(".slice") {
        name.split_once('-')
            .filter(|(prefix, name)| !prefix.is_empty() && !name.is_empty())
            .ok_or("its scope has no prefix: name it slice:prefix:name")?
    } else {
        (prefix, name)
    };
    Ok(format!("{slice}:{prefix}:{name}").into())
}

/// The name of the unit, as runc and systemd's users of it build it.
fn unit(prefix: &str, name: &str) -> String {
    if name.ends_with(".slice") {
        name.to_owned()
    } else if prefix.is_empty() {
        format!("{name}.scope")
    } else {
        format!("{prefix}-{name}.scope")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(path: &str, version: Version) -> (String, Driver) {
        let placement = placement(Some(Path::new(path)), "id", version).expect(path);
        (placement.path.display().to_string(), placement.driver)
    }

    #[test]
    fn each_form_on_each_version() {
        use Driver::{Cgroupfs, Systemd};
        use Version::{V1, V2};
        for (path, version, expected, driver) in [
            ("/default/hello", V1, "/default/hello", Cgroupfs),
            ("/default/hello", V2, "/default/hello", Cgroupfs),
            ("default/hello", V1, "/default/hello", Cgroupfs),
            (
                "/kubepods/burstable/podA/b",
                V2,
                "/kubepods/burstable/podA/b",
                Cgroupfs,
            ),
            ("/a/./b//c", V1, "/a/b/c", Cgroupfs),
            (
                "kubepods-burstable-pod0a_1.slice:cri-containerd:c0ffee",
                V1,
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0a_1.slice/cri-containerd-c0ffee.scope",
                Cgroupfs,
            ),
            (
                "kubepods-burstable-pod0a_1.slice:cri-containerd:c0ffee",
                V2,
                "kubepods-burstable-pod0a_1.slice:cri-containerd:c0ffee",
                Systemd,
            ),
            (
                "system.slice:docker:x",
                V1,
                "/system.slice/docker-x.scope",
                Cgroupfs,
            ),
            (":docker:x", V1, "/system.slice/docker-x.scope", Cgroupfs),
            ("-.slice:p:x", V1, "/p-x.scope", Cgroupfs),
            ("system.slice::x", V1, "/system.slice/x.scope", Cgroupfs),
            ("a.slice:p:own.slice", V1, "/a.slice/own.slice", Cgroupfs),
            ("a.slice::x-y-z", V2, "a.slice:x:y-z", Systemd),
            ("a.slice::own.slice", V2, "a.slice::own.slice", Systemd),
        ] {
            assert_eq!(
                placed(path, version),
                (expected.to_owned(), driver),
                "{path}"
            );
        }
    }

    #[test]
    fn systemd_is_left_what_it_does_right() {
        let files = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
            pairs.iter().map(|&(k, v)| (k.into(), v.into())).collect()
        };
        let mut unified = files(&[
            ("memory.max", "4096"),
            ("memory.high", "max"),
            ("memory.oom.group", "1"),
            ("cpu.max", "5000 10000"),
        ]);
        let taken = take_unified(&mut unified);
        assert_eq!(unified, files(&[("memory.max", "4096")]));
        assert_eq!(taken.len(), 3);
    }

    #[test]
    fn without_a_path_a_container_has_a_cgroup_of_its_own() {
        for path in [None, Some(Path::new(""))] {
            let placement = placement(path, "id", Version::V1).expect("default");
            assert_eq!(placement.path, Path::new("/wasm-interp-id"));
        }
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
            assert_eq!(
                directory_in(memberships, MOUNTS, controller),
                Some(PathBuf::from(expected))
            );
        }
    }

    #[test]
    fn all_directories_are_found_but_the_tops() {
        let memberships = "5:pids:/docker/abc/x\n4:cpu,cpuacct:/y\n0::/\n";
        assert_eq!(
            directories_in(memberships, MOUNTS),
            [
                PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/y"),
                PathBuf::from("/sys/fs/cgroup/pids/x")
            ]
        );
    }

    #[test]
    fn the_directory_is_found_in_the_unified_hierarchy() {
        let mounts = "31 30 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
        assert_eq!(
            directory_in("0::/a/b\n", mounts, "pids"),
            Some(PathBuf::from("/sys/fs/cgroup/a/b"))
        );
    }

    /// libcontainer would make `-x.scope` of it.
    #[test]
    fn a_scope_without_a_prefix_is_refused_on_version_2() {
        let error = placement(Some(Path::new("a.slice::x")), "id", Version::V2).expect_err("x");
        assert!(error.to_string().contains("slice:prefix:name"), "{error}");
    }

    #[test]
    fn what_names_no_place_is_refused() {
        for (path, why) in [
            ("/", "root of the tree"),
            ("/a/../../b", "climbs out"),
            ("kubepods:p:x", ".slice"),
            ("a--b.slice:p:x", "empty part"),
            ("-a.slice:p:x", "empty part"),
            (".slice:p:x", "empty part"),
            ("a.slice:p:", "name of the scope"),
            ("a.slice:p/../q:x", "slash"),
        ] {
            for version in [Version::V1, Version::V2] {
                let error = placement(Some(Path::new(path)), "id", version).expect_err(path);
                assert!(error.to_string().contains(why), "{path}: {error}");
            }
        }
    }
}
