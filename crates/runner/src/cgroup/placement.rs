//! Where in the cgroup tree a container belongs, from the form of the spec's `cgroupsPath`.
//!
//! Called by `spec`, and by `container` with the placement that `spec` recorded. Knows the naming rules of systemd
//! and of runc (`libcontainer/cgroups/systemd`).
#![forbid(unsafe_code)]

use std::path::{Component, Path, PathBuf};

use libcgroups::common::{
    AnyCgroupManager, CgroupConfig, ControllerOpt, CreateCgroupSetupError, create_cgroup_manager,
};
use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

use super::{
    hierarchies::{directories, expected_directories, mounts},
    version::Version,
};

/// Where a container's cgroup is and what makes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Placement {
    /// What libcontainer is given as `cgroupsPath`.
    pub(crate) path: PathBuf,
    /// What makes it.
    pub(crate) driver: Driver,
}

/// What libcgroups is told of limits.
pub(crate) fn controller_options(resources: &LinuxResources) -> ControllerOpt<'_> {
    ControllerOpt {
        resources,
        disable_oom_killer: false,
        oom_score_adj: None,
        freezer_state: None,
    }
}

/// What makes a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Driver {
    /// The runner, by `mkdir`.
    Cgroupfs,
    /// systemd, as a transient scope, on a request over D-Bus.
    Systemd,
}

/// A `cgroupsPath` that names no cgroup.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum PlacementError {
    #[error("cannot place the container in cgroup {path:?}: {why}; correct linux.cgroupsPath")]
    Invalid { path: String, why: &'static str },
    #[error(
        "cannot place the container in cgroup {path:?}: cannot read /proc/self/mountinfo: {why}"
    )]
    Mounts { path: PathBuf, why: String },
}

impl Placement {
    /// What libcgroups has for the cgroup of the container `id`.
    pub(crate) fn manager(&self, id: &str) -> Result<AnyCgroupManager, CreateCgroupSetupError> {
        create_cgroup_manager(CgroupConfig {
            cgroup_path: self.path.clone(),
            systemd_cgroup: self.driver == Driver::Systemd,
            container_name: id.to_owned(),
        })
    }

    /// The directory beneath the top of a hierarchy.
    fn relative(&self) -> PathBuf {
        let text = self.path.to_str().unwrap_or_default();
        let parts: Vec<&str> = text.split(':').collect();
        let directory = match (self.driver, parts.as_slice()) {
            (Driver::Systemd, &[slice, prefix, name]) => expand_slice(slice)
                .unwrap_or_default()
                .join(unit(prefix, name)),
            _ => self.path.clone(),
        };
        directory
            .components()
            .filter(|component| matches!(component, Component::Normal(_)))
            .collect()
    }

    /// The container's directories: where libcgroups or systemd will make them.
    pub(crate) fn directories(&self, version: Version) -> Result<Vec<PathBuf>, PlacementError> {
        let mounts = match version {
            Version::V1 => mounts().map_err(|e| PlacementError::Mounts {
                path: self.path.clone(),
                why: e.to_string(),
            })?,
            Version::V2 => Vec::new(),
        };
        Ok(expected_directories(&self.relative(), version, &mounts))
    }

    /// Where systemd has really put process `pid`: its own top is not everywhere the top of the hierarchy.
    pub(crate) fn add_systemds(&self, pid: i32, own: &mut Vec<PathBuf>) -> std::io::Result<()> {
        if self.driver == Driver::Systemd {
            own.extend(self.own(directories(pid)?));
            own.sort();
            own.dedup();
        }
        Ok(())
    }

    /// Those of `directories` that can be this container's. Earlier releases recorded containerd's too.
    pub(crate) fn own(&self, directories: Vec<PathBuf>) -> Vec<PathBuf> {
        let relative = self.relative();
        let mut own = directories;
        own.retain(|directory| directory.ends_with(&relative));
        own
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
    use wasm_interp_mounts::mountinfo;

    use super::*;

    fn placed(path: &str, version: Version) -> (String, Driver) {
        let placement = placement(Some(Path::new(path)), "id", version).expect(path);
        (placement.path.display().to_string(), placement.driver)
    }

    #[test]
    fn each_form_of_cgroups_path_has_its_path_and_driver_on_each_version() {
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
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0a_1.slice/\
                 cri-containerd-c0ffee.scope",
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
    fn container_without_a_cgroups_path_gets_a_cgroup_named_after_it() {
        for path in [None, Some(Path::new(""))] {
            let placement = placement(path, "id", Version::V1).expect("default");
            assert_eq!(placement.path, Path::new("/wasm-interp-id"));
        }
    }

    /// A host of version 1 with systemd, where a shim is in containerd's unit. libcgroups knows neither of the
    /// last three hierarchies.
    #[test]
    fn hierarchies_that_libcgroups_does_not_manage_hold_no_directory_of_the_container() {
        let mounts = "\
31 30 0:27 / /sys/fs/cgroup/unified rw shared:5 - cgroup2 cgroup2 rw
36 30 0:32 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
37 30 0:33 / /sys/fs/cgroup/pids rw shared:10 - cgroup cgroup rw,pids
38 30 0:34 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr,name=systemd
39 30 0:35 / /sys/fs/cgroup/rdma rw shared:12 - cgroup cgroup rw,rdma
40 30 0:36 / /sys/fs/cgroup/misc rw shared:13 - cgroup cgroup rw,misc
41 30 0:33 / /elsewhere/pids rw shared:10 - cgroup cgroup rw,pids
";
        let mounts = mountinfo::parse(mounts.as_bytes());
        let placement = placement(Some(Path::new("/default/x")), "id", Version::V1).expect("place");
        assert_eq!(
            expected_directories(&placement.relative(), Version::V1, &mounts),
            [
                PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/default/x"),
                PathBuf::from("/sys/fs/cgroup/pids/default/x"),
            ]
        );
    }

    #[test]
    fn on_version_2_the_container_has_one_directory() {
        for (path, expected) in [
            ("/default/x", "/sys/fs/cgroup/default/x"),
            (
                "a-b.slice:p:x",
                "/sys/fs/cgroup/a.slice/a-b.slice/p-x.scope",
            ),
            ("a.slice::own.slice", "/sys/fs/cgroup/a.slice/own.slice"),
        ] {
            let placement = placement(Some(Path::new(path)), "id", Version::V2).expect(path);
            let directories = expected_directories(&placement.relative(), Version::V2, &[]);
            assert_eq!(directories, [PathBuf::from(expected)], "{path}");
        }
    }

    #[test]
    fn recorded_directories_of_containerd_are_not_used() {
        let placement = placement(Some(Path::new("/default/x")), "id", Version::V1).expect("place");
        let recorded = [
            "/sys/fs/cgroup/pids/default/x",
            "/sys/fs/cgroup/systemd/system.slice/containerd.service",
            "/sys/fs/cgroup/unified/system.slice/containerd.service",
        ];
        assert_eq!(
            placement.own(recorded.map(PathBuf::from).into()),
            [PathBuf::from("/sys/fs/cgroup/pids/default/x")]
        );
    }

    /// Holds the table of mount points to the library's own.
    #[test]
    fn expected_directories_are_those_that_libcgroups_makes() {
        if Version::of_host().expect("cgroups") == Version::V2 {
            return;
        }
        let mut expected: Vec<_> = libcgroups::v1::util::list_supported_mount_points()
            .expect("mount points")
            .into_values()
            .map(|point| point.join("default/x"))
            .collect();
        expected.sort();
        expected.dedup();
        let placement = placement(Some(Path::new("/default/x")), "id", Version::V1).expect("place");
        assert_eq!(
            placement.directories(Version::V1).expect("mounts"),
            expected
        );
    }

    /// libcontainer would make `-x.scope` of it.
    #[test]
    fn a_scope_without_a_prefix_is_refused_on_version_2() {
        let error = placement(Some(Path::new("a.slice::x")), "id", Version::V2).expect_err("x");
        assert!(error.to_string().contains("slice:prefix:name"), "{error}");
    }

    #[test]
    fn cgroups_path_without_a_place_is_refused() {
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
