//! The termination log: the file in which Kubernetes looks for the reason of a container's end.
//!
//! The kubelet creates an empty file for each container and mounts it (`terminationMessagePath`).
//! `kubectl describe` shows its content under every `terminationMessagePolicy`. The program may write
//! to it. If it has not, the runner writes the reason of a trap, and the shim that of a failed create
//! or start and of an out-of-memory kill.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};
use wasm_interp_runner_client::termination_message;
use wasm_interp_workload::CRI_CONTAINER_NAME;

/// The pod's UID, set by containerd's CRI plugin.
const POD_UID: &str = "io.kubernetes.cri.sandbox-uid";

#[derive(Debug, thiserror::Error)]
pub(crate) enum TerminationLogError {
    #[error("cannot open the termination log {path}: {source}; look at what mounts it")]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot write the termination log: {0}; look at the space of the kubelet's disk")]
    Write(#[source] io::Error),
}

/// The open termination log of one container.
#[derive(Debug)]
pub(crate) struct TerminationLog(File);

impl TerminationLog {
    /// Opens the termination log that the kubelet has mounted, if there is one.
    pub(crate) fn of(spec: &Spec) -> Result<Option<Self>, TerminationLogError> {
        let mounts = spec.mounts().as_deref().unwrap_or_default();
        mounts
            .iter()
            .find_map(|mount| host_file(mount, spec))
            .map(Self::open)
            .transpose()
    }

    /// Opens a regular file, and never follows a symlink.
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

    /// Writes `reason`, unless the file has content.
    pub(crate) fn note(&self, reason: &str) -> Result<(), TerminationLogError> {
        termination_message::note(&self.0, &format!("wasm-interp: {reason}\n"))
            .map_err(TerminationLogError::Write)
    }
}

impl AsFd for TerminationLog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The source of the kubelet's mount: `…/pods/UID/containers/NAME/FILE` below any root directory
/// (`makeMounts` in pkg/kubelet/kuberuntime/kuberuntime_container.go). The pod can choose a mount's
/// destination and the source of a hostPath, so UID and NAME have to be those of the container.
fn host_file<'a>(mount: &'a Mount, spec: &Spec) -> Option<&'a Path> {
    let source = mount
        .source()
        .as_deref()
        .filter(|path| path.is_absolute())?;
    let mut names = source.iter().rev().map(|name| name.to_str());
    let (_file, name, containers) = (names.next()?, names.next()?, names.next()?);
    let (uid, pods) = (names.next()?, names.next()?);
    let annotations = spec.annotations().as_ref();
    let matches = |found: Option<&str>, key| {
        annotations
            .and_then(|annotations| annotations.get(key))
            .is_none_or(|value| found == Some(value))
    };
    let kubelets = containers == Some("containers") && pods == Some("pods");
    (kubelets && matches(uid, POD_UID) && matches(name, CRI_CONTAINER_NAME)).then_some(source)
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
                {{"destination":"/etc/hosts","source":"/var/lib/kubelet/pods/u/etc-hosts",
                  "type":"bind"}},
                {{"destination":"/x","source":"{source}","type":"bind"}}]}}"#
        ))
        .expect("spec")
    }

    /// The path of a file `name` where the kubelet puts termination logs.
    fn path_of(name: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("tempdir");
        let folder = dir.path().join("pods/u/containers/main");
        fs::create_dir_all(&folder).expect("folder");
        let file = folder.join(name);
        (dir, file)
    }

    /// The content of a termination log after each of `reasons` is noted.
    fn noted(content: &str, reasons: &[&str]) -> String {
        let (_dir, file) = path_of("0badcafe");
        fs::write(&file, content).expect("file");
        let log = TerminationLog::of(&spec(&file)).expect("open");
        let log = log.expect("found");
        for reason in reasons {
            log.note(reason).expect("note");
        }
        fs::read_to_string(&file).expect("read")
    }

    #[test]
    fn empty_log_gets_the_first_reason_cut_to_what_the_kubelet_reads() {
        let text = noted("", &[&"reason".repeat(1000), "another"]);
        assert_eq!(text.len(), termination_message::MAX);
        assert!(text.starts_with("wasm-interp: reasonreason"));
    }

    #[test]
    fn text_of_the_program_is_not_overwritten() {
        assert_eq!(noted("mine", &["reason"]), "mine");
    }

    #[test]
    fn symlinks_and_fifos_are_not_opened() {
        let (dir, file) = path_of("link");
        let secret = dir.path().join("secret");
        fs::write(&secret, "").expect("file");
        symlink(&secret, &file).expect("symlink");
        assert!(TerminationLog::of(&spec(&file)).is_err());
        let fifo = file.with_file_name("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("fifo");
        assert!(TerminationLog::of(&spec(&fifo)).is_err());
    }

    #[test]
    fn log_of_another_pod_or_container_is_not_used() {
        for (uid, name, found) in [
            ("u", "main", true),
            ("v", "main", false),
            ("u", "sidecar", false),
        ] {
            let mut spec = spec(Path::new("/srv/kubelet/pods/u/containers/main/0badcafe"));
            let annotations = [(POD_UID, uid), (CRI_CONTAINER_NAME, name)];
            let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned()));
            spec.set_annotations(Some(annotations.into()));
            let mounts = spec.mounts().as_deref().expect("mounts");
            let log = mounts.iter().find_map(|mount| host_file(mount, &spec));
            assert_eq!(log.is_some(), found, "{uid} {name}");
        }
    }

    #[test]
    fn other_files_of_a_pod_are_not_used() {
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
