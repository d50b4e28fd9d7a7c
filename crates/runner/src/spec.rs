//! The OCI spec as the runner uses it, and the record that `delete` needs.
//!
//! Called by `container`. `workload::container_spec` has already decided what the container is;
//! here it is only fitted to libcontainer. It has no side effects but reading and writing files.
#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    io::Write,
    path::{Path, PathBuf},
};

use oci_spec::runtime::{Linux, LinuxBuilder, MountBuilder, Process, Spec};
use serde::{Deserialize, Serialize};
use wasm_interp_workload::{
    DevMountError, SpecParseError, SpecWarning, ViewError, check_dev, devices, mount_places,
    parse_spec, with_home,
};

use crate::cgroup::{self, Driver, Placement, Version};

/// Mount point of the devices.
const DEV: &str = "/dev";

/// A spec that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpecError {
    #[error("cannot read the spec {path}: {source}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot use the spec {path}: {source}")]
    Parse {
        path: PathBuf,
        source: SpecParseError,
    },
    #[error("cannot complete the spec {path}: {source}")]
    Build {
        path: PathBuf,
        source: oci_spec::OciSpecError,
    },
    #[error("cannot use the spec {path}: it has no {part}; add it")]
    Missing { path: PathBuf, part: &'static str },
    #[error(transparent)]
    CgroupVersion(#[from] cgroup::VersionError),
    #[error(transparent)]
    Placement(#[from] cgroup::PlacementError),
    #[error(transparent)]
    Mounts(#[from] ViewError),
    #[error(transparent)]
    Dev(#[from] DevMountError),
    #[error("cannot write {path}: {source}")]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
}

/// What `delete` needs, even if libcontainer's own state is lost or incomplete.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RemovalRecord {
    /// Where the container's cgroup is.
    pub(crate) cgroup: Placement,
    /// Its directories, the only ones in which anything is killed or removed.
    pub(crate) directories: Vec<PathBuf>,
}

/// A spec without what libcontainer cannot do, and what was taken out of it.
#[derive(Debug)]
pub(crate) struct FittedSpec {
    pub(crate) spec: Spec,
    /// Parts of it that the container does not get.
    pub(crate) warnings: Vec<SpecWarning>,
    pub(crate) record: RemovalRecord,
    /// The working directory, see `cwd`.
    pub(crate) cwd: PathBuf,
    /// The AppArmor profile, see `apparmor`.
    pub(crate) profile: Option<String>,
    /// Supplementary groups of the container, as the container numbers them.
    pub(crate) groups: Vec<u32>,
    /// The limit of tasks, if it is too low to create the container under it. It is set afterwards.
    pub(crate) late_pids_limit: Option<i64>,
    /// Files to write in a cgroup that systemd makes.
    pub(crate) unified: HashMap<String, String>,
}

/// The spec of a further process, fitted for libcontainer's process step.
#[derive(Debug)]
pub(crate) struct FittedProcess {
    pub(crate) spec: Spec,
    /// The AppArmor profile, see `apparmor`.
    pub(crate) profile: Option<String>,
    /// Supplementary groups, as the container numbers them.
    pub(crate) groups: Vec<u32>,
}

/// What kind of process a spec is fitted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InitKind {
    Guest,
    /// A native program. `enter_cwd`: its working directory exists, so that libcontainer can enter it.
    Program {
        enter_cwd: bool,
    },
    Pause,
}

/// Reads `bundle`'s spec and fits it.
pub(crate) fn fit(
    bundle: &Path,
    id: &str,
    version: Version,
    kind: InitKind,
) -> Result<FittedSpec, SpecError> {
    let path = bundle.join("config.json");
    let (mut spec, warnings) = read(&path)?;
    let missing = |part| SpecError::Missing {
        path: path.clone(),
        part,
    };
    let mut root = spec.root().clone().ok_or_else(|| missing("root"))?;
    let root_path = bundle.join(root.path());
    root.set_path(root_path.clone());
    spec.set_root(Some(root));

    let process = spec.process().clone().ok_or_else(|| missing("process"))?;
    let cwd = process.cwd().clone();
    let (process, profile, groups) = fit_own(process, kind);
    spec.set_process(Some(process));

    let unbuilt = |source| SpecError::Build {
        path: path.clone(),
        source,
    };
    let mut linux = match spec.linux() {
        Some(linux) => linux.clone(),
        None => LinuxBuilder::default().build().map_err(unbuilt)?,
    };
    let cgroup = cgroup::placement(linux.cgroups_path().as_deref(), id, version)?;
    let record = RemovalRecord {
        directories: cgroup.directories(version)?,
        cgroup,
    };
    linux.set_cgroups_path(Some(record.cgroup.path.clone()));
    let late_pids_limit = defer_pids_limit(&mut linux);
    let unified = match record.cgroup.driver {
        Driver::Systemd => defer_unified(&mut linux),
        Driver::Cgroupfs => HashMap::new(),
    };
    spec.set_linux(Some(linux));

    let places = resolve_mounts(&mut spec, &root_path)?;
    if kind != InitKind::Pause && !places.iter().any(|place| place == Path::new(DEV)) {
        own_dev(&mut spec).map_err(unbuilt)?;
    }
    Ok(FittedSpec {
        spec,
        warnings,
        record,
        cwd,
        profile,
        groups,
        late_pids_limit,
        unified,
    })
}

/// Fits the spec of a further process of a container. What concerns the container as a whole is left out: it
/// is made already.
pub(crate) fn fit_exec(mut spec: Spec, kind: InitKind) -> Result<FittedProcess, SpecError> {
    let missing = |part| SpecError::Missing {
        path: "of the process".into(),
        part,
    };
    let process = spec.process().clone().ok_or_else(|| missing("process"))?;
    let (process, profile, groups) = fit_own(process, kind);
    spec.set_process(Some(process));
    let mut linux = spec.linux().clone().ok_or_else(|| missing("linux"))?;
    linux
        .set_resources(None)
        .set_net_devices(None)
        .set_intel_rdt(None);
    spec.set_linux(Some(linux)).set_hooks(None);
    Ok(FittedProcess {
        spec,
        profile,
        groups,
    })
}

fn read(path: &Path) -> Result<(Spec, Vec<SpecWarning>), SpecError> {
    let text = std::fs::read(path).map_err(|source| SpecError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse_spec(&text).map_err(|source| SpecError::Parse {
        path: path.to_owned(),
        source,
    })
}

/// Fits what concerns the process alone. Takes its AppArmor profile and its groups from it.
fn fit_own(mut process: Process, kind: InitKind) -> (Process, Option<String>, Vec<u32>) {
    let profile = process
        .apparmor_profile()
        .clone()
        .filter(|name| !name.is_empty());
    process.set_apparmor_profile(None);
    let groups = take_groups(&mut process);
    let process = match kind {
        InitKind::Guest | InitKind::Pause => fit_process(process),
        InitKind::Program { enter_cwd } => fit_program(process, enter_cwd),
    };
    (process, profile, groups)
}

fn fit_process(mut process: Process) -> Process {
    drop_what_exec_would(&mut process);

    // Neither a guest nor the pause process executes another program.
    process.set_no_new_privileges(Some(true));

    // libcontainer could not enter it: it is made later.
    process.set_cwd("/".into());

    own_home(&mut process);
    process
}

fn fit_program(mut process: Process, enter_cwd: bool) -> Process {
    // libcontainer enters it with root's rights, as runc does.
    if !enter_cwd {
        process.set_cwd("/".into());
    }
    own_home(&mut process);
    process
}

/// libcontainer looks up a user's home directory if HOME is missing or empty, and for that the static C
/// library would load what the image's nsswitch.conf names.
fn own_home(process: &mut Process) {
    let env = process.env().clone().unwrap_or_default();
    process.set_env(Some(with_home(env)));
}

/// What execve(2) does with the capabilities of a user other than root, for a guest that never
/// calls it: only the ambient ones stay (capabilities(7)).
fn drop_what_exec_would(process: &mut Process) {
    if process.user().uid() == 0 {
        return;
    }
    let Some(mut capabilities) = process.capabilities().clone() else {
        return;
    };
    let ambient = capabilities.ambient().clone().unwrap_or_default();
    capabilities.set_effective(Some(ambient.clone()));
    capabilities.set_permitted(Some(ambient.clone()));
    capabilities.set_inheritable(Some(ambient));
    process.set_capabilities(Some(capabilities));
}

/// Takes the supplementary groups out of `process`.
fn take_groups(process: &mut Process) -> Vec<u32> {
    let mut user = process.user().clone();
    let groups = user.additional_gids().clone().unwrap_or_default();
    user.set_additional_gids(None);
    process.set_user(user);
    groups
}

/// libcontainer makes the init process from within the cgroup, where it is the second task for a
/// moment: a limit of one has to wait until the first is gone.
fn defer_pids_limit(linux: &mut oci_spec::runtime::Linux) -> Option<i64> {
    let mut resources = linux.resources().clone()?;
    let mut pids = (*resources.pids())?;
    let limit = pids.limit();
    if limit != 1 {
        return None;
    }
    pids.set_limit(2);
    resources.set_pids(Some(pids));
    linux.set_resources(Some(resources));
    Some(limit)
}

/// See [`cgroup::take_unified`]. Sets of processors too: libcontainer passes them to systemd in a wrong type
/// (`at` for `ay`).
fn defer_unified(linux: &mut Linux) -> HashMap<String, String> {
    let Some(mut resources) = linux.resources().clone() else {
        return HashMap::new();
    };
    let mut unified = resources.unified().clone().unwrap_or_default();
    let mut taken = cgroup::take_unified(&mut unified);
    resources.set_unified(Some(unified));
    if let Some(mut cpu) = resources.cpu().clone() {
        let sets = [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())];
        for (file, set) in sets {
            // A value for the file itself takes precedence.
            if let Some(set) = set.clone().filter(|set| !set.is_empty()) {
                taken.entry(file.to_owned()).or_insert(set);
            }
        }
        cpu.set_cpus(None);
        cpu.set_mems(None);
        resources.set_cpu(Some(cpu));
    }
    linux.set_resources(Some(resources));
    taken
}

/// Finds the place of each mount, checks what is mounted on /dev, and replaces each destination by its place,
/// which symlinks of the image may have changed. Returns the places.
///
/// The destination stays for proc and sysfs: a symlink is refused there, because the paths to mask lie at the
/// destination that the spec names.
fn resolve_mounts(spec: &mut Spec, root: &Path) -> Result<Vec<PathBuf>, SpecError> {
    let places = mount_places(root, spec)?;
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    let placed = mounts.iter().zip(places.iter().map(PathBuf::as_path));
    check_dev(placed, devices(spec))?;
    for (mount, place) in mounts.iter_mut().zip(&places) {
        if !matches!(mount.typ().as_deref(), Some("proc" | "sysfs")) {
            mount.set_destination(place.clone());
        }
    }
    spec.set_mounts(Some(mounts));
    Ok(places)
}

/// Without a file system of its own at /dev, devices would be made in the image's.
fn own_dev(spec: &mut Spec) -> Result<(), oci_spec::OciSpecError> {
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    let options = ["nosuid", "strictatime", "mode=755", "size=64k"];
    let dev = MountBuilder::default()
        .destination(DEV)
        .typ("tmpfs")
        .source("tmpfs")
        .options(options.map(str::to_owned))
        .build()?;
    // Before every mount beneath it.
    mounts.insert(0, dev);
    spec.set_mounts(Some(mounts));
    Ok(())
}

/// Writes `value` to `path` completely or not at all.
pub(crate) fn write(path: &Path, value: &impl Serialize) -> Result<(), SpecError> {
    let written = || -> std::io::Result<()> {
        let temporary = path.with_extension("new");
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        std::fs::rename(&temporary, path)
    };
    written().map_err(|source| SpecError::Write {
        path: path.to_owned(),
        source,
    })
}
