//! The layout of a node: its containerd, containerd's configuration, and containerd's service. Found by reading; the first
//! step of each job. Does not know the content of a configuration.

mod unit;

use std::fs;
use std::path::{Path, PathBuf};

use crate::distribution::{Distribution, DistributionChoice};
use crate::files::{self, FileError};
use crate::host::HostRoot;
use crate::record::NodeRecord;

/// The containerd of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeLayout {
    pub(crate) distribution: Distribution,
    /// The configuration file that containerd is started with.
    pub(crate) main: PathBuf,
    pub(crate) main_file: MainFile,
    pub(crate) location: ConfigLocation,
    /// The executable.
    pub(crate) binary: PathBuf,
    /// The units that run it. The first that is active is restarted.
    pub(crate) units: &'static [&'static str],
    /// Its state directory; `None` if the configuration names it.
    pub(crate) state: Option<PathBuf>,
    /// Its socket; `None` if the configuration names it.
    pub(crate) socket: Option<PathBuf>,
}

/// Whether containerd can run without its main configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MainFile {
    /// It can: containerd then runs with its defaults.
    Optional,
    /// The distribution writes the file when it starts. If it is missing or empty, the distribution has not started yet.
    WrittenAtStart,
}

/// The file in which a runtime is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConfigLocation {
    /// The main file, or a file in a folder that it imports.
    Main,
    /// The template of the main file. The version of the main file decides which.
    Template { v2: PathBuf, v3: PathBuf },
    /// A file in a folder that the distribution merges into another file. The distribution then restarts containerd.
    Merged { folder: PathBuf, into: PathBuf },
}

/// The node's layout is not supported.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// Bottlerocket.
    #[error(
        "cannot use this node: it runs Bottlerocket, whose root is read-only and which allows no \
         other container runtimes; use nodes with Amazon Linux 2023 or Ubuntu, and keep the \
         installer off these nodes with a node selector"
    )]
    Bottlerocket,
    /// Container-Optimized OS.
    #[error(
        "cannot use this node: it runs Container-Optimized OS, which forbids to execute files in \
         /opt and /var, and writes a new containerd configuration at boot; use a node pool with \
         the image type ubuntu_containerd, and keep the installer off these nodes with a node \
         selector"
    )]
    ContainerOptimizedOs,
    /// No containerd.
    #[error(
        "cannot find containerd on this node: there is no k3s, RKE2, k0s or MicroK8s, no unit \
         containerd.service, and neither /usr/bin/containerd nor /usr/local/bin/containerd; start \
         containerd once, or name the layout with --distribution"
    )]
    NotFound,
    /// Several.
    #[error("cannot choose between {} on this node; name one with --distribution", names(.0))]
    Ambiguous(Vec<Distribution>),
    /// The unit of a distribution is there, but not its data directory.
    #[error(
        "cannot use this node: it has {unit} but not {missing}; start it once if it never ran, \
         or, if another containerd is meant, name its layout with --distribution; another data \
         directory (--data-dir) is not supported"
    )]
    Elsewhere {
        /// The distribution's unit.
        unit: &'static str,
        /// The file or folder that the distribution should have.
        missing: PathBuf,
    },
    /// The named layout does not fit.
    #[error(
        "cannot use the layout {}: {missing} does not exist; name another with --distribution",
        .distribution.name()
    )]
    NotThis {
        /// The layout that was named.
        distribution: Distribution,
        /// The file that it needs.
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

const K3S_UNITS: &[&str] = &["k3s.service", "k3s-agent.service"];
const RKE2_UNITS: &[&str] = &["rke2-server.service", "rke2-agent.service"];
const K0S_UNITS: &[&str] = &["k0sworker.service", "k0scontroller.service"];
/// First line of a configuration that k0s manages.
const K0S_MANAGED: &str = "# k0s_managed=true";

/// Finds the node's layout.
pub(crate) fn find(host: &HostRoot, choice: DistributionChoice) -> Result<NodeLayout, LayoutError> {
    refuse_systems(host)?;
    let distribution = match choice {
        DistributionChoice::Named(distribution) => distribution,
        DistributionChoice::Auto => detect(host)?,
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
        Distribution::MicroK8s => NodeLayout {
            distribution,
            main: "/var/snap/microk8s/current/args/containerd-template.toml".into(),
            main_file: MainFile::WrittenAtStart,
            location: ConfigLocation::Main,
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

/// Refuses systems that cannot work in any configuration.
fn refuse_systems(host: &HostRoot) -> Result<(), LayoutError> {
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

fn detect(host: &HostRoot) -> Result<Distribution, LayoutError> {
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
    // The containerd of the distribution is in another place, and a containerd beside it would be the wrong one. A node
    // that is installed already has to stay usable: it can be uninstalled.
    let elsewhere = signs.iter().find_map(|(_, sign, units)| {
        let unit = units.iter().find(|unit| unit::exists(host, unit))?;
        (!exists(host, Path::new(sign))).then_some((unit, sign))
    });
    if let Some((unit, missing)) = elsewhere
        && !NodeRecord::exists(host)
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
        // If there is also a containerd of its own, that is Docker's.
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
) -> NodeLayout {
    let folder = Path::new(data).join("agent/etc/containerd");
    NodeLayout {
        distribution,
        main: folder.join("config.toml"),
        main_file: MainFile::WrittenAtStart,
        location: ConfigLocation::Template {
            v2: folder.join("config.toml.tmpl"),
            v3: folder.join("config-v3.toml.tmpl"),
        },
        binary: Path::new(data).join(binary),
        units,
        state: Some("/run/k3s/containerd".into()),
        socket: Some("/run/k3s/containerd/containerd.sock".into()),
    }
}

fn k0s(host: &HostRoot) -> Result<NodeLayout, LayoutError> {
    let main = PathBuf::from("/etc/k0s/containerd.toml");
    let managed = match files::read(&host.at(&main))? {
        Some(text) => text.starts_with(K0S_MANAGED.as_bytes()),
        None => true,
    };
    let (main_file, location) = if managed {
        let folder = "/etc/k0s/containerd.d".into();
        let into = "/run/k0s/containerd-cri.toml".into();
        (
            MainFile::WrittenAtStart,
            ConfigLocation::Merged { folder, into },
        )
    } else {
        (MainFile::Optional, ConfigLocation::Main)
    };
    Ok(NodeLayout {
        distribution: Distribution::K0s,
        main,
        main_file,
        location,
        binary: "/var/lib/k0s/bin/containerd".into(),
        units: K0S_UNITS,
        state: Some("/run/k0s/containerd".into()),
        socket: Some("/run/k0s/containerd.sock".into()),
    })
}

/// A containerd with a service of its own. The command of the service names the executable and the file.
fn plain(host: &HostRoot) -> Result<Option<NodeLayout>, LayoutError> {
    let started = unit::command(host, "containerd.service")?.unwrap_or_default();
    let binary = started
        .first()
        .map(PathBuf::from)
        .into_iter()
        .chain(["/usr/bin/containerd", "/usr/local/bin/containerd"].map(PathBuf::from))
        .find(|binary| binary.is_absolute() && exists(host, binary));
    let main = unit::flag(&started, &["--config", "-c"])
        .map_or_else(|| "/etc/containerd/config.toml".into(), PathBuf::from);
    Ok(binary.map(|binary| NodeLayout {
        distribution: Distribution::Containerd,
        main,
        main_file: MainFile::Optional,
        location: ConfigLocation::Main,
        binary,
        units: &["containerd.service"],
        state: unit::flag(&started, &["--state"]).map(PathBuf::from),
        socket: unit::flag(&started, &["--address", "-a"]).map(PathBuf::from),
    }))
}

/// Whether a file with that path exists. A link counts even if its target does not exist from here: the target is a path
/// of the host.
fn exists(host: &HostRoot, path: &Path) -> bool {
    fs::symlink_metadata(host.at(path)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn distribution_in_another_directory_is_not_mistaken_for_the_containerd_beside_it() {
        let units = [K3S_UNITS, RKE2_UNITS, K0S_UNITS].concat();
        for (unit, folder) in units.iter().zip(unit::FOLDERS.iter().cycle()) {
            let root = tempfile::tempdir().unwrap();
            let host = HostRoot::new(root.path());
            let write = |path: &Path| {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
            };
            write(&host.at("/usr/bin/containerd"));
            assert!(find(&host, DistributionChoice::Auto).is_ok());
            let path = host.at(Path::new(folder).join(unit));
            write(&path);
            let said = find(&host, DistributionChoice::Auto)
                .unwrap_err()
                .to_string();
            assert!(
                said.starts_with(&format!(
                    "cannot use this node: it has {unit} but not /var/lib/"
                )),
                "{said}"
            );
            // The layout was named, or the unit is masked.
            assert!(find(&host, DistributionChoice::Named(Distribution::Containerd)).is_ok());
            fs::remove_file(&path).unwrap();
            symlink("/dev/null", &path).unwrap();
            assert!(
                find(&host, DistributionChoice::Auto).is_ok(),
                "{unit} is masked"
            );
        }
    }
}
