//! The bundle: where in it everything lies, and the parts of its `config.json` that concern us.
//!
//! Called by `start`, `launch`, `task` and `cleanup`. Does not know what is done with the files.
//!
//! | path | by | is |
//! |---|---|---|
//! | `config.json` | containerd | the OCI spec |
//! | `rootfs/` | containerd makes, we mount | the container's root |
//! | `log` | containerd | FIFO of the shim's log |
//! | `address` | `start` | the server's socket |
//! | `init.pid` | `launch` | pid of the init process, for `delete` and for tools that know runc's |
//! | `runner/bundle/config.json` | `launch` | the spec as the runner gets it |
//! | `runner/state/` | the runner | libcontainer's state |
//!
//! All of ours lies inside, so that containerd's removal of the bundle leaves nothing.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use crate::socket::Address;

/// Annotations that put containers into one server, in the order in which they count. The first
/// is what runc's shim calls a group, the second what CRI sets on every container of a pod.
const GROUP_ANNOTATIONS: [&str; 2] = [
    "io.containerd.runc.v2.group",
    "io.kubernetes.cri.sandbox-id",
];

const ADDRESS: &str = "address";
const CONFIG: &str = "config.json";

/// A file of the bundle cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    #[error("{act} {path}: {source}")]
    File {
        act: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{path} is not an OCI runtime spec: {detail}")]
    Spec { path: PathBuf, detail: String },
    #[error("bundle path {0:?} is not absolute: containerd gives the bundle as an absolute path")]
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

    /// All that the runner and we keep.
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

    /// The spec as containerd wrote it.
    pub(crate) fn spec(&self) -> Result<Spec, BundleError> {
        let path = self.path.join(CONFIG);
        let text = fs::read(&path).map_err(failed("read", &path))?;
        serde_json::from_slice(&text).map_err(|error| BundleError::Spec {
            path,
            detail: error.to_string(),
        })
    }

    /// The directory that `root.path` means. OCI: relative to the bundle.
    pub(crate) fn root_of(&self, spec: &Spec) -> PathBuf {
        match spec.root() {
            Some(root) => self.path.join(root.path()),
            None => self.rootfs(),
        }
    }

    /// Writes the spec for the runner and makes room for its state.
    pub(crate) fn write_private(&self, spec: &Spec) -> Result<(), BundleError> {
        let dir = self.private();
        for dir in [&dir, &self.state()] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(failed("make directory", dir))?;
        }
        let path = dir.join(CONFIG);
        let text = serde_json::to_vec(spec).map_err(|error| BundleError::Spec {
            path: path.clone(),
            detail: error.to_string(),
        })?;
        write(&path, &text)
    }

    pub(crate) fn write_pid(&self, pid: i32) -> Result<(), BundleError> {
        write_atomically(&self.path, "init.pid", pid.to_string().as_bytes())
    }

    /// Pid of the init process, if there ever was one.
    pub(crate) fn pid(&self) -> Option<i32> {
        fs::read_to_string(self.path.join("init.pid"))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// Address of the server that `start` answered with.
    pub(crate) fn address(&self) -> Option<Address> {
        Address::written(&fs::read_to_string(self.path.join(ADDRESS)).ok()?)
    }

    /// Removes all that we made. What is not there is removed.
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

/// The group whose server this container uses: by annotation, else its own. Reads `config.json`
/// of the working directory, which containerd sets to the bundle.
pub(crate) fn group(id: &str) -> Result<String, BundleError> {
    let path = Path::new(CONFIG);
    let text = fs::read(path).map_err(failed("read", path))?;
    group_of(&text, id).map_err(|error| BundleError::Spec {
        path: path.to_owned(),
        detail: error.to_string(),
    })
}

fn group_of(config: &[u8], id: &str) -> Result<String, serde_json::Error> {
    /// No more of the spec than is asked: this is on the way of every start.
    #[derive(serde::Deserialize)]
    struct Annotated {
        #[serde(default)]
        annotations: Option<HashMap<String, String>>,
    }
    let spec: Annotated = serde_json::from_slice(config)?;
    let annotations = spec.annotations.unwrap_or_default();
    Ok(GROUP_ANNOTATIONS
        .iter()
        .find_map(|key| annotations.get(*key))
        .filter(|group| !group.is_empty())
        .map_or_else(|| id.to_owned(), Clone::clone))
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
    fn a_pod_is_a_group_and_runcs_annotation_wins() {
        let group = |config: &str| group_of(config.as_bytes(), "own").expect("parse");
        assert_eq!(group(r#"{"ociVersion":"1.0.2"}"#), "own");
        assert_eq!(group(r#"{"annotations":null}"#), "own");
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
    fn what_is_written_is_found_and_removed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let bundle = Bundle::new(dir.path().to_str().expect("utf-8")).expect("absolute");
        assert_eq!(bundle.pid(), None);
        bundle.write_pid(42).expect("write");
        assert_eq!(bundle.pid(), Some(42));
        bundle.write_private(&Spec::default()).expect("write");
        assert!(bundle.private().join(CONFIG).is_file());
        bundle.remove_own().expect("remove");
        bundle.remove_own().expect("remove twice");
        assert!(!bundle.runner().exists());
        assert!(matches!(
            Bundle::new("relative"),
            Err(BundleError::Relative(_))
        ));
    }
}
