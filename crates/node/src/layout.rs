//! How a node is laid out: where its containerd, that one's configuration and its service are. Found
//! by reading; called by the job first of all. Does not know what is written there.

mod unit;

use std::fs;
use std::path::{Path, PathBuf};

use crate::files::{self, FileError};
use crate::host::Host;
use crate::job::{Choice, Distribution};
use crate::record::Record;

/// One node's containerd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) distribution: Distribution,
    /// What containerd is started with.
    pub(crate) main: PathBuf,
    pub(crate) place: Place,
    /// containerd itself.
    pub(crate) binary: PathBuf,
    /// Whose restart restarts it: the first that is active.
    pub(crate) units: &'static [&'static str],
    /// Bundles are beneath it; `None` where the configuration says so.
    pub(crate) state: Option<PathBuf>,
    /// Its socket; `None` where the configuration says so.
    pub(crate) socket: Option<PathBuf>,
}

/// Where a runtime is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the main file, or in a folder that it imports.
    Main,
    /// In a template that gives the main file: by the version of what it gave last.
    Template { v2: PathBuf, v3: PathBuf },
    /// In a folder that the distribution itself merges into another file, and then restarts
    /// containerd.
    Merged { folder: PathBuf, into: PathBuf },
}

/// The node's layout is not one that can be served.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// Bottlerocket.
    #[error(
        "this node runs Bottlerocket, whose root is read-only and which takes no other container \
         runtimes: use nodes with Amazon Linux 2023 or Ubuntu, and keep the installer off these with \
         a node selector"
    )]
    Bottlerocket,
    /// Container-Optimized OS.
    #[error(
        "this node runs Container-Optimized OS, which mounts /opt and /var so that nothing on them \
         can be executed, and writes its containerd configuration anew at boot: use a node pool with \
         the image type ubuntu_containerd, and keep the installer off these nodes with a node selector"
    )]
    ContainerOptimizedOs,
    /// No containerd.
    #[error(
        "found no containerd on this node: looked for k3s, RKE2, k0s, MicroK8s, a unit \
         containerd.service, /usr/bin/containerd and /usr/local/bin/containerd; start it once, or name \
         the layout with --distribution"
    )]
    NotFound,
    /// Several.
    #[error("found {} on this node: name the one to use with --distribution", names(.0))]
    Ambiguous(Vec<Distribution>),
    /// A distribution that keeps its things somewhere else, or has not begun.
    #[error(
        "this node has {unit} but not {missing}: start it once if it never ran; a data directory of its \
         own (--data-dir) cannot be served; if another containerd is the one to configure, name its \
         layout with --distribution"
    )]
    Elsewhere {
        /// The distribution's unit.
        unit: &'static str,
        /// What the distribution would have.
        missing: PathBuf,
    },
    /// Not the one that was named.
    #[error("this node is not laid out as {}: {missing} is missing", .distribution.name())]
    NotThis {
        /// What was asked for.
        distribution: Distribution,
        /// What it would have.
        missing: PathBuf,
    },
    /// See the error.
    #[error(transparent)]
    File(#[from] FileError),
}

fn names(found: &[Distribution]) -> String {
    let names: Vec<_> = found.iter().map(|one| one.name()).collect();
    names.join(" and ")
}

impl Distribution {
    /// As `--distribution` takes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::K3s => "k3s",
            Self::Rke2 => "rke2",
            Self::K0s => "k0s",
            Self::MicroK8s => "microk8s",
        }
    }
}

const K3S_UNITS: &[&str] = &["k3s.service", "k3s-agent.service"];
const RKE2_UNITS: &[&str] = &["rke2-server.service", "rke2-agent.service"];
const K0S_UNITS: &[&str] = &["k0sworker.service", "k0scontroller.service"];
/// First line of a configuration that k0s looks after.
const K0S_MANAGED: &str = "# k0s_managed=true";

/// Finds the node's layout.
pub(crate) fn find(host: &Host, choice: Choice) -> Result<Layout, LayoutError> {
    refuse_systems(host)?;
    let distribution = match choice {
        Choice::Named(distribution) => distribution,
        Choice::Auto => detect(host)?,
    };
    let layout = match distribution {
        Distribution::K3s => rancher(
            distribution,
            "/var/lib/rancher/k3s",
            "data/current/bin/containerd",
            K3S_UNITS,
        ),
        Distribution::Rke2 => rancher(
            distribution,
            "/var/lib/rancher/rke2",
            "bin/containerd",
            RKE2_UNITS,
        ),
        Distribution::K0s => k0s(host)?,
        Distribution::MicroK8s => Layout {
            distribution,
            main: "/var/snap/microk8s/current/args/containerd-template.toml".into(),
            place: Place::Main,
            binary: "/snap/microk8s/current/bin/containerd".into(),
            units: &["snap.microk8s.daemon-containerd.service"],
            state: Some("/var/snap/microk8s/common/run/containerd".into()),
            socket: Some("/var/snap/microk8s/common/run/containerd.sock".into()),
        },
        Distribution::Containerd => plain(host)?.ok_or(LayoutError::NotFound)?,
    };
    if !exists(host, &layout.binary) {
        return Err(LayoutError::NotThis {
            distribution,
            missing: layout.binary,
        });
    }
    Ok(layout)
}

/// Systems on which it cannot work, however they are configured.
fn refuse_systems(host: &Host) -> Result<(), LayoutError> {
    for file in ["/etc/os-release", "/usr/lib/os-release"] {
        let Some(bytes) = files::read(&host.at(file))? else {
            continue;
        };
        let text = String::from_utf8_lossy(&bytes);
        let id = text.lines().find_map(|line| line.strip_prefix("ID="));
        return match id.map(|id| id.trim_matches(['"', '\''])) {
            Some("bottlerocket") => Err(LayoutError::Bottlerocket),
            Some("cos") => Err(LayoutError::ContainerOptimizedOs),
            _ => Ok(()),
        };
    }
    Ok(())
}

fn detect(host: &Host) -> Result<Distribution, LayoutError> {
    let signs: [(_, _, &[_]); 4] = [
        (
            Distribution::K3s,
            "/var/lib/rancher/k3s/agent/etc/containerd",
            K3S_UNITS,
        ),
        (
            Distribution::Rke2,
            "/var/lib/rancher/rke2/agent/etc/containerd",
            RKE2_UNITS,
        ),
        (Distribution::K0s, "/var/lib/k0s/bin/containerd", K0S_UNITS),
        (
            Distribution::MicroK8s,
            "/var/snap/microk8s/current/args/containerd-template.toml",
            &[],
        ),
    ];
    // Its containerd is not where it is looked for; the one beside it would be the wrong one. A node that was
    // provisioned all the same must not be stuck with that.
    let elsewhere = signs.iter().find_map(|(_, sign, units)| {
        let unit = units.iter().find(|unit| unit::exists(host, unit))?;
        (!exists(host, Path::new(sign))).then_some((unit, sign))
    });
    if let Some((unit, missing)) = elsewhere
        && !Record::exists(host)
    {
        return Err(LayoutError::Elsewhere {
            unit,
            missing: missing.into(),
        });
    }
    let found: Vec<_> = signs
        .into_iter()
        .filter(|(_, sign, _)| exists(host, Path::new(sign)))
        .map(|(distribution, ..)| distribution)
        .collect();
    match found[..] {
        // A Kubernetes with a containerd of its own goes before one beside it, which is Docker's.
        [one] => Ok(one),
        [] => Ok(Distribution::Containerd),
        _ => Err(LayoutError::Ambiguous(found)),
    }
}

fn rancher(
    distribution: Distribution,
    data: &str,
    binary: &str,
    units: &'static [&'static str],
) -> Layout {
    let folder = Path::new(data).join("agent/etc/containerd");
    Layout {
        distribution,
        main: folder.join("config.toml"),
        place: Place::Template {
            v2: folder.join("config.toml.tmpl"),
            v3: folder.join("config-v3.toml.tmpl"),
        },
        binary: Path::new(data).join(binary),
        units,
        state: Some("/run/k3s/containerd".into()),
        socket: Some("/run/k3s/containerd/containerd.sock".into()),
    }
}

fn k0s(host: &Host) -> Result<Layout, LayoutError> {
    let main = PathBuf::from("/etc/k0s/containerd.toml");
    let managed = match files::read(&host.at(&main))? {
        Some(text) => text.starts_with(K0S_MANAGED.as_bytes()),
        None => true,
    };
    let place = if managed {
        Place::Merged {
            folder: "/etc/k0s/containerd.d".into(),
            into: "/run/k0s/containerd-cri.toml".into(),
        }
    } else {
        Place::Main
    };
    Ok(Layout {
        distribution: Distribution::K0s,
        main,
        place,
        binary: "/var/lib/k0s/bin/containerd".into(),
        units: K0S_UNITS,
        state: Some("/run/k0s/containerd".into()),
        socket: Some("/run/k0s/containerd.sock".into()),
    })
}

/// A containerd of its own. How it is started says which one and with which file.
fn plain(host: &Host) -> Result<Option<Layout>, LayoutError> {
    let started = unit::command(host, "containerd.service")?.unwrap_or_default();
    let binary = started
        .first()
        .map(PathBuf::from)
        .into_iter()
        .chain(["/usr/bin/containerd", "/usr/local/bin/containerd"].map(PathBuf::from))
        .find(|binary| binary.is_absolute() && exists(host, binary));
    let main = unit::flag(&started, &["--config", "-c"])
        .map_or_else(|| "/etc/containerd/config.toml".into(), PathBuf::from);
    Ok(binary.map(|binary| Layout {
        distribution: Distribution::Containerd,
        main,
        place: Place::Main,
        binary,
        units: &["containerd.service"],
        state: unit::flag(&started, &["--state"]).map(PathBuf::from),
        socket: unit::flag(&started, &["--address", "-a"]).map(PathBuf::from),
    }))
}

/// Whether something of that name is there. A link counts though it may lead nowhere from here: its
/// target is meant for the host's own processes.
fn exists(host: &Host, path: &Path) -> bool {
    fs::symlink_metadata(host.at(path)).is_ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_distribution_elsewhere_is_not_taken_for_the_containerd_beside_it() {
        let units = [K3S_UNITS, RKE2_UNITS, K0S_UNITS].concat();
        for (unit, folder) in units.iter().zip(unit::FOLDERS.iter().cycle()) {
            let root = tempfile::tempdir().unwrap();
            let host = Host::new(root.path());
            let write = |path: &Path| {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
            };
            write(&host.at("/usr/bin/containerd"));
            assert!(find(&host, Choice::Auto).is_ok());
            let path = host.at(Path::new(folder).join(unit));
            write(&path);
            let said = find(&host, Choice::Auto).unwrap_err().to_string();
            assert!(
                said.starts_with(&format!("this node has {unit} but not /var/lib/")),
                "{said}"
            );
            // It was named, or its unit is out of use.
            assert!(find(&host, Choice::Named(Distribution::Containerd)).is_ok());
            fs::remove_file(&path).unwrap();
            symlink("/dev/null", &path).unwrap();
            assert!(find(&host, Choice::Auto).is_ok(), "{unit} is masked");
        }
    }
}
