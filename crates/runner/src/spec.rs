//! The OCI spec as libcontainer is to see it, and what is remembered of it for `delete`.
//!
//! Called by `container`. `workload::container_spec` has already decided what the container is;
//! here it is only fitted to libcontainer's ways. Pure, but for reading and writing files.
#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    io::Write,
    path::{Path, PathBuf},
};

use oci_spec::runtime::{
    Capabilities, Linux, LinuxBuilder, LinuxCapabilitiesBuilder, MountBuilder, Process, Spec,
};
use serde::{Deserialize, Serialize};

use crate::cgroup::{self, Driver, Placement, Version};

/// Mount point of the devices.
const DEV: &str = "/dev";

/// Why a spec cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpecError {
    #[error("read the spec {path}: {source}")]
    Read {
        path: PathBuf,
        source: oci_spec::OciSpecError,
    },
    #[error("use the spec {path}: it has no {part}")]
    Missing { path: PathBuf, part: &'static str },
    #[error(transparent)]
    Placement(#[from] cgroup::PlacementError),
    #[error("write {path}: {source}")]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
}

/// What `delete` has to know even if libcontainer's own state is lost or half-written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    /// Where the container's cgroup is.
    pub(crate) cgroup: Placement,
    /// Its directories, once it is made; the way to them from the placement is long.
    pub(crate) directories: Vec<PathBuf>,
}

/// A spec that libcontainer can be given.
#[derive(Debug)]
pub(crate) struct Fitted {
    pub(crate) spec: Spec,
    pub(crate) record: Record,
    /// The working directory, which libcontainer is not told of: see `cwd`.
    pub(crate) cwd: PathBuf,
    /// The AppArmor profile, which libcontainer is not told of either: see `apparmor`.
    pub(crate) profile: Option<String>,
    /// Supplementary groups of the container, as the host numbers them.
    pub(crate) groups: Vec<u32>,
    /// The limit of tasks to set once the container is made, if it is too low to make it in.
    pub(crate) late_pids_limit: Option<i64>,
    /// Files of the cgroup to write once it is there, where systemd makes it.
    pub(crate) unified: HashMap<String, String>,
}

/// What kind of container a spec is fitted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    Guest,
    /// A native program, whose working directory libcontainer can enter or not.
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
    whom: For,
) -> Result<Fitted, SpecError> {
    let path = bundle.join("config.json");
    let missing = |part| SpecError::Missing {
        path: path.clone(),
        part,
    };
    let mut spec = Spec::load(&path).map_err(|source| SpecError::Read {
        path: path.clone(),
        source,
    })?;

    let mut root = spec.root().clone().ok_or_else(|| missing("root"))?;
    root.set_path(bundle.join(root.path()));
    spec.set_root(Some(root));

    let mut process = spec.process().clone().ok_or_else(|| missing("process"))?;
    let cwd = process.cwd().clone();
    let profile = process
        .apparmor_profile()
        .clone()
        .filter(|name| !name.is_empty());
    process.set_apparmor_profile(None);
    let groups = take_groups(&mut process, spec.linux().as_ref());
    spec.set_process(Some(match whom {
        For::Guest | For::Pause => fit_process(process),
        For::Program { enter_cwd } => {
            fit_program(process, enter_cwd).map_err(|source| SpecError::Read {
                path: path.clone(),
                source,
            })?
        }
    }));

    let mut linux = match spec.linux() {
        Some(linux) => linux.clone(),
        None => LinuxBuilder::default()
            .build()
            .map_err(|source| SpecError::Read {
                path: path.clone(),
                source,
            })?,
    };
    let cgroup = cgroup::placement(linux.cgroups_path().as_deref(), id, version)?;
    linux.set_cgroups_path(Some(cgroup.path.clone()));
    let late_pids_limit = defer_pids_limit(&mut linux);
    let unified = match cgroup.driver {
        Driver::Systemd => defer_unified(&mut linux),
        Driver::Cgroupfs => HashMap::new(),
    };
    spec.set_linux(Some(linux));

    if whom != For::Pause {
        own_dev(&mut spec).map_err(|source| SpecError::Read { path, source })?;
    }
    Ok(Fitted {
        spec,
        record: Record {
            cgroup,
            directories: Vec::new(),
        },
        cwd,
        profile,
        groups,
        late_pids_limit,
        unified,
    })
}

fn fit_process(mut process: Process) -> Process {
    drop_what_exec_would(&mut process);

    // No guest and no pause ever runs another program. Besides, libcontainer installs a seccomp
    // filter before it drops privileges only if this is absent, and fails if it is false.
    process.set_no_new_privileges(Some(true));

    // It would fail to enter a directory that is yet to be made.
    process.set_cwd("/".into());

    own_home(&mut process);
    process
}

fn fit_program(mut process: Process, enter_cwd: bool) -> Result<Process, oci_spec::OciSpecError> {
    // As above: false is as good as absent to everybody else.
    if process.no_new_privileges() == Some(false) {
        process.set_no_new_privileges(None);
    }
    // libcontainer enters it with root's rights, as runc does.
    if !enter_cwd {
        process.set_cwd("/".into());
    }
    if process.capabilities().is_none() {
        // libcontainer would leave it all that we have; runc leaves it none.
        let none = || Capabilities::new();
        let capabilities = LinuxCapabilitiesBuilder::default()
            .bounding(none())
            .effective(none())
            .inheritable(none())
            .permitted(none())
            .ambient(none())
            .build()?;
        process.set_capabilities(Some(capabilities));
    }
    own_home(&mut process);
    Ok(process)
}

/// libcontainer looks up a user's home directory where HOME is missing or empty, and the static
/// C library would load whatever the image's nsswitch.conf names for that.
fn own_home(process: &mut Process) {
    let mut env = process.env().clone().unwrap_or_default();
    if !env.iter().any(|e| e.len() > 5 && e.starts_with("HOME=")) {
        env.retain(|e| !e.starts_with("HOME=") && e != "HOME");
        env.push("HOME=/".to_owned());
    }
    process.set_env(Some(env));
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

/// Takes the supplementary groups out of `process` and maps them to the host's, as the user
/// namespace of the spec does (user_namespaces(7)). A group without a mapping cannot be had.
fn take_groups(process: &mut Process, linux: Option<&Linux>) -> Vec<u32> {
    let mut user = process.user().clone();
    let groups = user.additional_gids().clone().unwrap_or_default();
    user.set_additional_gids(None);
    process.set_user(user);
    match linux.and_then(|linux| linux.gid_mappings().as_ref()) {
        None => groups,
        Some(mappings) => groups
            .into_iter()
            .filter_map(|group| {
                mappings.iter().find_map(|mapping| {
                    let offset = group.checked_sub(mapping.container_id())?;
                    (offset < mapping.size()).then_some(mapping.host_id().checked_add(offset)?)
                })
            })
            .collect(),
    }
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

/// See [`cgroup::take_unified`]. A set of processors libcontainer gives systemd in a type that is not
/// understood there (`at` for `ay`).
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
            // What the spec says of a file itself has the last word.
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

/// Without a file system of its own at /dev, devices would be made in the image's.
fn own_dev(spec: &mut Spec) -> Result<(), oci_spec::OciSpecError> {
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    if mounts.iter().any(|m| m.destination() == Path::new(DEV)) {
        return Ok(());
    }
    let options = ["nosuid", "strictatime", "mode=755", "size=64k"];
    let dev = MountBuilder::default()
        .destination(DEV)
        .typ("tmpfs")
        .source("tmpfs")
        .options(options.map(str::to_owned))
        .build()?;
    // Before whatever is mounted beneath it.
    mounts.insert(0, dev);
    spec.set_mounts(Some(mounts));
    Ok(())
}

/// Writes `value` to `path` whole or not at all.
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
