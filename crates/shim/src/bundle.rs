//! The bundle: the paths in it, and the parts of its `config.json` that the shim reads.
//!
//! Called by `bootstrap`, `launch`, `task` and `cleanup`. It does not know what is done with the files.
//!
//! | path | made by | is |
//! |---|---|---|
//! | `config.json` | containerd | the OCI spec |
//! | `rootfs/` | containerd; the shim mounts on it | the container's root |
//! | `log` | containerd | FIFO of the shim's log |
//! | `sandbox` | containerd ≥ 2.0 | id of the sandbox whose server the container uses, if that speaks version 3 |
//! | `address` | `start` | the address of the server's socket |
//! | `init.pid` | `launch` | pid of the init process, for `delete` and for tools that know runc's |
//! | `runner/bundle/config.json` | the pipeline | the spec as the runner gets it |
//! | `runner/state/` | the runner | libcontainer's state |
//!
//! The shim writes to nothing outside, so containerd removes everything with the bundle.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use wasm_interp_workload::{SpecWarning, parse_spec};

use crate::socket::Address;

/// Containers with the same value of an annotation share a server. The first annotation that is there
/// counts: that of groups in containerd's shim for runc, then CRI's for the containers of a pod.
const GROUP_ANNOTATIONS: [&str; 2] = [
    "io.containerd.runc.v2.group",
    "io.kubernetes.cri.sandbox-id",
];

const ADDRESS: &str = "address";
const CONFIG: &str = "config.json";
const SANDBOX: &str = "sandbox";

/// The bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    #[error("cannot {act} {path}: {source}; look at its permissions and at the space of the disk")]
    File {
        act: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot use the spec {path}: {detail}")]
    Spec { path: PathBuf, detail: String },
    #[error("cannot use the bundle {0:?}: the path is not absolute; give an absolute path")]
    Relative(String),
}

/// One container's bundle.
#[derive(Clone, Debug)]
pub(crate) struct Bundle {
    path: PathBuf,
}

impl Bundle {
    pub(crate) fn new(path: &str) -> Result<Self, BundleError> {
        if !path.starts_with('/') {
            return Err(BundleError::Relative(path.to_owned()));
        }
        Ok(Self { path: path.into() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path.join("rootfs")
    }

    /// The directory of everything that the shim and the runner keep.
    pub(crate) fn runner(&self) -> PathBuf {
        self.path.join("runner")
    }

    /// libcontainer's state.
    pub(crate) fn state(&self) -> PathBuf {
        self.runner().join("state")
    }

    /// The bundle that the runner is given.
    pub(crate) fn private(&self) -> PathBuf {
        self.runner().join("bundle")
    }

    /// The spec as containerd wrote it, and warnings of what the container does not get of it.
    pub(crate) fn spec(&self) -> Result<(Spec, Vec<SpecWarning>), BundleError> {
        let path = self.path.join(CONFIG);
        let text = fs::read(&path).map_err(failed("read", &path))?;
        parse_spec(&text).map_err(|error| BundleError::Spec {
            path,
            detail: error.to_string(),
        })
    }

    /// The text of the spec as containerd wrote it.
    pub(crate) fn config(&self) -> Result<Vec<u8>, BundleError> {
        let path = self.path.join(CONFIG);
        fs::read(&path).map_err(failed("read", &path))
    }

    /// The directory that `root.path` of the spec names. A relative path begins at the bundle.
    pub(crate) fn root_of(&self, spec: &Spec) -> PathBuf {
        match spec.root() {
            Some(root) => self.path.join(root.path()),
            None => self.rootfs(),
        }
    }

    pub(crate) fn write_pid(&self, pid: i32) -> Result<(), BundleError> {
        write_atomically(&self.path, "init.pid", pid.to_string().as_bytes())
    }

    /// Pid of the init process, if one was created.
    pub(crate) fn pid(&self) -> Option<i32> {
        fs::read_to_string(self.path.join("init.pid"))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// Address of the container's server, as `start` printed it.
    pub(crate) fn address(&self) -> Option<Address> {
        Address::parse(&fs::read_to_string(self.path.join(ADDRESS)).ok()?)
    }

    /// The other bundles in this one's folder, with their ids, for which this runtime has begun to
    /// create a container. A bundle that containerd is removing is left out. Reads no file of them.
    pub(crate) fn siblings(&self) -> Result<Vec<(String, Self)>, BundleError> {
        let Some(folder) = self.path.parent() else {
            return Ok(Vec::new());
        };
        let mut siblings = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed("list", folder))? {
            let entry = entry.map_err(failed("list", folder))?;
            let path = entry.path();
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            // containerd renames a bundle to a name with a dot before it removes it.
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if path == self.path || name.starts_with('.') || !is_folder {
                continue;
            }
            let bundle = Self { path };
            if bundle.runner().is_dir() {
                siblings.push((name, bundle));
            }
        }
        Ok(siblings)
    }

    /// Whether the container `own`, which has this bundle, uses the server of the container `id`.
    pub(crate) fn uses_server_of(&self, id: &str, own: &str) -> Result<bool, BundleError> {
        let read = |name| {
            let path = self.path.join(name);
            match fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                text => text.map(Some).map_err(failed("read", &path)),
            }
        };
        if read(SANDBOX)?.is_some_and(|sandbox| sandbox == id.as_bytes()) {
            return Ok(true);
        }
        let Some(config) = read(CONFIG)? else {
            return Ok(false);
        };
        Ok(group_of(&config, own).map_err(not_json(&self.path.join(CONFIG)))? == id)
    }

    /// Removes everything that the shim and the runner keep. It succeeds if nothing is there.
    pub(crate) fn remove_own(&self) -> Result<(), BundleError> {
        let path = self.runner();
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// The group whose server the container `id` uses: that of its annotations, or else its own. Reads
/// `config.json` in the working directory, which containerd sets to the bundle.
pub(crate) fn group(id: &str) -> Result<String, BundleError> {
    let path = Path::new(CONFIG);
    let text = fs::read(path).map_err(failed("read", path))?;
    group_of(&text, id).map_err(not_json(path))
}

fn not_json(path: &Path) -> impl FnOnce(serde_json::Error) -> BundleError {
    move |error| BundleError::Spec {
        path: path.to_owned(),
        detail: format!("it is not JSON: {error}; correct it"),
    }
}

fn group_of(config: &[u8], id: &str) -> Result<String, serde_json::Error> {
    /// The rest of the spec is not parsed, because every start waits for this.
    #[derive(serde::Deserialize)]
    struct Annotated {
        // A value may have any type here. The create reports values of wrong types.
        #[serde(default)]
        annotations: Option<HashMap<String, serde_json::Value>>,
    }
    let spec: Annotated = serde_json::from_slice(config)?;
    let annotations = spec.annotations.unwrap_or_default();
    Ok(GROUP_ANNOTATIONS
        .iter()
        .find_map(|key| annotations.get(*key)?.as_str())
        .filter(|group| !group.is_empty())
        .unwrap_or(id)
        .to_owned())
}

/// Writes the server's address into the working directory, the bundle.
pub(crate) fn write_address(address: &str) -> Result<(), BundleError> {
    write_atomically(Path::new("."), ADDRESS, address.as_bytes())
}

fn write_atomically(dir: &Path, name: &str, content: &[u8]) -> Result<(), BundleError> {
    let path = dir.join(name);
    let temporary = dir.join(format!(".{name}"));
    write(&temporary, content)?;
    fs::rename(&temporary, &path).map_err(failed("rename into", &path))
}

fn write(path: &Path, content: &[u8]) -> Result<(), BundleError> {
    File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content))
        .map_err(failed("write", path))
}

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BundleError {
    move |source| BundleError::File {
        act,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_is_that_of_runcs_annotation_or_the_pods_or_the_containers_own() {
        let group = |config: &str| group_of(config.as_bytes(), "own").expect("parse");
        assert_eq!(group(r#"{"ociVersion":"1.0.2"}"#), "own");
        assert_eq!(group(r#"{"annotations":null}"#), "own");
        assert_eq!(group(r#"{"annotations":{"a":1,"b":null}}"#), "own");
        assert_eq!(
            group(r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"pod"}}"#),
            "pod"
        );
        assert_eq!(
            group(
                r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"pod",
                    "io.containerd.runc.v2.group":"g"}}"#
            ),
            "g"
        );
    }

    #[test]
    fn members_of_a_sandbox_are_known_by_annotation_or_by_containerds_file() {
        let folder = tempfile::tempdir().expect("tempdir");
        let make = |id: &str, group: &str, begun: bool| {
            let path = folder.path().join(id);
            fs::create_dir_all(path.join(if begun { "runner" } else { "rootfs" })).expect("mkdir");
            let config =
                format!(r#"{{"annotations":{{"io.kubernetes.cri.sandbox-id":"{group}"}}}}"#);
            fs::write(path.join(CONFIG), config).expect("write");
            path
        };
        let pod = make("pod", "pod", true);
        make("annotated", "pod", true);
        // Another runtime's, or a container whose creation has hardly begun.
        make("not-begun", "pod", false);
        make("of-another-pod", "other", true);
        make(".removed", "pod", true);
        fs::remove_file(make("named", "", true).join(CONFIG)).expect("remove");
        fs::write(folder.path().join("named").join(SANDBOX), "pod").expect("write");
        std::os::unix::fs::symlink(&pod, folder.path().join("link")).expect("link");

        let pod = Bundle::new(pod.to_str().expect("utf-8")).expect("absolute");
        let mut found = pod.siblings().expect("list");
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        let ids: Vec<_> = found.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["annotated", "named", "of-another-pod"]);
        assert_eq!(found[0].1.path(), folder.path().join("annotated"));
        let uses = |(id, bundle): &(String, Bundle)| bundle.uses_server_of("pod", id);
        let members: Vec<_> = found.iter().map(|one| uses(one).expect("read")).collect();
        assert_eq!(members, [true, true, false]);
    }

    #[test]
    fn written_files_are_found_and_removed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let bundle = Bundle::new(dir.path().to_str().expect("utf-8")).expect("absolute");
        assert_eq!(bundle.pid(), None);
        bundle.write_pid(42).expect("write");
        assert_eq!(bundle.pid(), Some(42));
        fs::create_dir_all(bundle.private()).expect("the runner's bundle");
        bundle.remove_own().expect("remove");
        bundle.remove_own().expect("remove twice");
        assert!(!bundle.runner().exists());
        assert!(matches!(
            Bundle::new("relative"),
            Err(BundleError::Relative(_))
        ));
    }
}
