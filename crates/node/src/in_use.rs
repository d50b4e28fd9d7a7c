//! Who uses a release, or this runtime at all: containers by their bundles, and living processes.
//! Called by the job before anything is taken away. Only reads.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::files::FileError;
use crate::host::Host;
use crate::names::SHIM;
use crate::report::{Container, InstalledRelease};

/// Bundles beneath containerd's state directory: `NAMESPACE/ID`.
const BUNDLES: &str = "io.containerd.runtime.v2.task";
/// In a bundle, since containerd 1.6: the shim that its container was started with.
const SHIM_PATH: &str = "shim-binary-path";

/// What of this runtime is in use.
#[derive(Debug, Default)]
pub(crate) struct InUse {
    pub(crate) containers: Vec<Container>,
    /// Executables that bundles name and that processes run: paths of the host.
    executables: Vec<PathBuf>,
}

impl InUse {
    /// Looks at the bundles beneath `state` and at all processes.
    pub(crate) fn find(host: &Host, state: &Path) -> Result<Self, FileError> {
        let mut found = Self::default();
        let bundles = host.at(state.join(BUNDLES));
        for namespace in list(&bundles)? {
            for bundle in list(&namespace)? {
                found.look_at(&namespace, &bundle);
            }
        }
        found.containers.sort();
        let own = std::process::id().to_string();
        for process in list(&host.at("/proc"))? {
            // Processes end while we look, and kernel threads have no executable. `self` and `thread-self` are this
            // one, which runs from the release that it takes away.
            let name = name(&process);
            if name == own || !name.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            if let Ok(executable) = fs::read_link(process.join("exe")) {
                found.executables.push(executable);
            }
        }
        Ok(found)
    }

    fn look_at(&mut self, namespace: &Path, bundle: &Path) {
        // A bundle that vanishes meanwhile is of no more interest.
        let Ok(shim) = fs::read_to_string(bundle.join(SHIM_PATH)) else {
            return;
        };
        let shim = PathBuf::from(shim.trim());
        if shim.file_name().is_none_or(|name| name != SHIM) {
            return;
        }
        self.executables.push(shim);
        self.containers.push(Container {
            namespace: name(namespace),
            id: name(bundle),
            pod: pod(bundle),
        });
    }

    /// Whether a container or a process uses something in that folder.
    pub(crate) fn uses(&self, folder: &Path) -> bool {
        self.executables
            .iter()
            .any(|executable| executable.starts_with(folder))
    }
}

/// Releases beneath the base.
pub(crate) fn releases(host: &Host, in_use: &InUse) -> Result<Vec<InstalledRelease>, FileError> {
    let mut releases: Vec<_> = list(&host.at(host.base()))?
        .into_iter()
        .filter(|folder| folder.is_dir() && !name(folder).starts_with('.'))
        .map(|folder| host.base().join(name(&folder)))
        .map(|folder| InstalledRelease {
            in_use: in_use.uses(&folder),
            folder,
        })
        .collect();
    releases.sort_by(|one, other| one.folder.cmp(&other.folder));
    Ok(releases)
}

/// What is in a folder; a folder that is not there is empty.
fn list(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Vec::new())
        }
        Err(error) => Err(FileError::new("list", folder)(error)),
    }
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The pod that CRI's annotations name.
fn pod(bundle: &Path) -> Option<String> {
    let spec: Value = serde_json::from_slice(&fs::read(bundle.join("config.json")).ok()?).ok()?;
    let annotation = |key: &str| spec.get("annotations")?.get(key)?.as_str();
    Some(format!(
        "{}/{}",
        annotation("io.kubernetes.cri.sandbox-namespace")?,
        annotation("io.kubernetes.cri.sandbox-name")?
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn bundles_and_processes_count() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path());
        let bundle = |id: &str, shim: &str, spec: &str| {
            let folder = host
                .at("/run/c/io.containerd.runtime.v2.task/k8s.io")
                .join(id);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(SHIM_PATH), shim).unwrap();
            fs::write(folder.join("config.json"), spec).unwrap();
        };
        bundle(
            "a",
            "/opt/wasm-interp/1/containerd-shim-wasm-interp-v1",
            "{}",
        );
        bundle(
            "b",
            "/usr/local/bin/containerd-shim-wasm-interp-v1",
            r#"{"annotations":{"io.kubernetes.cri.sandbox-namespace":"default","io.kubernetes.cri.sandbox-name":"web"}}"#,
        );
        bundle("c", "/usr/bin/containerd-shim-runc-v2", "{}");
        fs::create_dir_all(host.at("/proc/77")).unwrap();
        symlink(
            "/opt/wasm-interp/2/wasm-interp-runner",
            host.at("/proc/77/exe"),
        )
        .unwrap();
        // The job itself, which runs from what it takes away, by each of its names.
        for own in [&std::process::id().to_string(), "self", "thread-self"] {
            let process = host.at("/proc").join(own);
            fs::create_dir_all(&process).unwrap();
            symlink("/opt/wasm-interp/3/wasm-interp", process.join("exe")).unwrap();
        }
        for release in ["1", "2", "3", ".copying-x"] {
            fs::create_dir_all(host.at("/opt/wasm-interp").join(release)).unwrap();
        }
        let found = InUse::find(&host, Path::new("/run/c")).unwrap();
        let shown: Vec<_> = found.containers.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["k8s.io/a", "k8s.io/b (pod default/web)"]);
        let releases = releases(&host, &found).unwrap();
        let used: Vec<_> = releases.iter().map(|release| release.in_use).collect();
        assert_eq!(used, [true, true, false]);
    }
}
