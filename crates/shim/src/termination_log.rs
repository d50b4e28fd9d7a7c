//! The termination log: the file in which Kubernetes looks for the reason of a container's end.
//!
//! Called by `launch` and `task`. The kubelet makes an empty file for each container and mounts it
//! (`terminationMessagePath`); `kubectl describe` shows what is in it under every
//! `terminationMessagePolicy`. A guest may write to it; where it did not, the reason goes there of an
//! end that was not its own choice: the runner notes traps, the shim what a killed process cannot.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};
use wasm_interp_runner::reason;

/// What containerd's CRI says of the pod and of the container's place in it.
const POD_UID: &str = "io.kubernetes.cri.sandbox-uid";
const CONTAINER_NAME: &str = "io.kubernetes.cri.container-name";

#[derive(Debug, thiserror::Error)]
pub(crate) enum TerminationLogError {
    #[error("open the termination log {path}: {source}")]
    Open { path: PathBuf, source: io::Error },
    #[error("write the termination log: {0}")]
    Write(#[source] io::Error),
}

/// The open termination log of one container.
#[derive(Debug)]
pub(crate) struct TerminationLog(File);

impl TerminationLog {
    /// Opens the one that the kubelet has mounted, if it has.
    pub(crate) fn of(spec: &Spec) -> Result<Option<Self>, TerminationLogError> {
        let mounts = spec.mounts().as_deref().unwrap_or_default();
        mounts
            .iter()
            .find_map(|mount| host_file(mount, spec))
            .map(Self::open)
            .transpose()
    }

    /// Never through a symlink, and never anything but a file.
    fn open(path: &Path) -> Result<Self, TerminationLogError> {
        let opened = File::options()
            .append(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
            .and_then(|file| {
                if file.metadata()?.is_file() {
                    Ok(Self(file))
                } else {
                    Err(io::Error::other("it is not a regular file"))
                }
            });
        opened.map_err(|source| TerminationLogError::Open {
            path: path.to_owned(),
            source,
        })
    }

    /// Writes `reason`, unless there is something already.
    pub(crate) fn note(&self, reason: &str) -> Result<(), TerminationLogError> {
        reason::note(&self.0, &format!("wasm-interp: {reason}\n"))
            .map_err(TerminationLogError::Write)
    }
}

impl AsFd for TerminationLog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The source of the kubelet's mount: `…/pods/UID/containers/NAME/FILE`, wherever its root
/// directory is (`makeMounts` in pkg/kubelet/kuberuntime/kuberuntime_container.go). The destination
/// is the pod's to choose, and so is a hostPath: neither leads to another pod's file.
fn host_file<'a>(mount: &'a Mount, spec: &Spec) -> Option<&'a Path> {
    let source = mount
        .source()
        .as_deref()
        .filter(|path| path.is_absolute())?;
    let mut names = source.iter().rev().map(|name| name.to_str());
    let (_file, name, containers) = (names.next()?, names.next()?, names.next()?);
    let (uid, pods) = (names.next()?, names.next()?);
    let annotations = spec.annotations().as_ref();
    let is = |said: Option<&str>, key| {
        annotations
            .and_then(|annotations| annotations.get(key))
            .is_none_or(|value| said == Some(value))
    };
    let kubelets = containers == Some("containers") && pods == Some("pods");
    (kubelets && is(uid, POD_UID) && is(name, CONTAINER_NAME)).then_some(source)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn spec(source: &Path) -> Spec {
        let source = source.display();
        serde_json::from_str(&format!(
            r#"{{"ociVersion":"1.0.2","mounts":[
                {{"destination":"/etc/hosts","source":"/var/lib/kubelet/pods/u/etc-hosts","type":"bind"}},
                {{"destination":"/x","source":"{source}","type":"bind"}}]}}"#
        ))
        .expect("spec")
    }

    fn place(name: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("tempdir");
        let folder = dir.path().join("pods/u/containers/main");
        fs::create_dir_all(&folder).expect("folder");
        let file = folder.join(name);
        (dir, file)
    }

    #[test]
    fn an_empty_log_gets_the_first_reason_and_no_more_than_the_kubelet_reads() {
        let (_dir, file) = place("0badcafe");
        fs::write(&file, "").expect("file");
        let log = TerminationLog::of(&spec(&file))
            .expect("open")
            .expect("found");
        log.note(&"reason".repeat(1000)).expect("note");
        log.note("another").expect("note");
        let text = fs::read_to_string(&file).expect("read");
        assert_eq!(text.len(), reason::MAX);
        assert!(text.starts_with("wasm-interp: reasonreason"));
    }

    #[test]
    fn what_the_guest_wrote_stays() {
        let (_dir, file) = place("0badcafe");
        fs::write(&file, "mine").expect("file");
        let log = TerminationLog::of(&spec(&file))
            .expect("open")
            .expect("found");
        log.note("reason").expect("note");
        assert_eq!(fs::read_to_string(&file).expect("read"), "mine");
    }

    #[test]
    fn neither_a_symlink_nor_a_fifo_is_opened() {
        let (dir, file) = place("link");
        let secret = dir.path().join("secret");
        fs::write(&secret, "").expect("file");
        symlink(&secret, &file).expect("symlink");
        assert!(TerminationLog::of(&spec(&file)).is_err());
        let fifo = file.with_file_name("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("fifo");
        assert!(TerminationLog::of(&spec(&fifo)).is_err());
    }

    #[test]
    fn another_pods_or_containers_log_is_none() {
        for (uid, name, found) in [
            ("u", "main", true),
            ("v", "main", false),
            ("u", "sidecar", false),
        ] {
            let mut spec = spec(Path::new("/srv/kubelet/pods/u/containers/main/0badcafe"));
            let annotations = [(POD_UID, uid), (CONTAINER_NAME, name)];
            let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned()));
            spec.set_annotations(Some(annotations.into()));
            let mounts = spec.mounts().as_deref().expect("mounts");
            let log = mounts.iter().find_map(|mount| host_file(mount, &spec));
            assert_eq!(log.is_some(), found, "{uid} {name}");
        }
    }

    #[test]
    fn other_files_of_a_pod_are_none() {
        for source in [
            "/var/lib/kubelet/pods/u/etc-hosts",
            "/var/lib/kubelet/pods/u/volumes/kubernetes.io~secret/s",
            "pods/u/containers/main/0badcafe",
        ] {
            assert!(
                TerminationLog::of(&spec(Path::new(source)))
                    .expect("none")
                    .is_none()
            );
        }
    }
}
