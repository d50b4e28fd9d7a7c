//! The namespaces of a container: existing ones, which are joined, and new ones.
//!
//! Called by `init`: opened by the host's root before anything is made, entered by the processes on
//! their way to the container's init process. The user namespace is `user_namespace`'s, but for
//! joining one.
#![forbid(unsafe_code)]

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns, unshare},
};
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};

/// Not among nix's flags.
const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);

/// A namespace that cannot be joined or made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NamespaceError {
    #[error("cannot open the {kind} namespace {path}: {source}")]
    Open {
        kind: LinuxNamespaceType,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the spec names the {0} namespace twice; name it once")]
    Twice(LinuxNamespaceType),
    #[error("cannot join the {kind} namespace {path}: {source}")]
    Join {
        kind: LinuxNamespaceType,
        path: PathBuf,
        source: Errno,
    },
    #[error(
        "cannot make a new {kind} namespace: {source}; see if the kernel has them and if a limit \
         in /proc/sys/user is reached, or drop the namespace from the spec"
    )]
    Make {
        kind: LinuxNamespaceType,
        source: Errno,
    },
}

/// The namespaces of a spec.
#[derive(Debug)]
pub(crate) struct Namespaces {
    all: Vec<SpecNamespace>,
}

#[derive(Debug)]
struct SpecNamespace {
    kind: LinuxNamespaceType,
    /// `None`: a new one.
    existing: Option<(PathBuf, File)>,
    entered: bool,
}

/// What to do if the kernel forbids to join a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfForbidden {
    /// Skip it: it may belong to the user namespace that comes next.
    Skip,
    /// Fail.
    Fail,
}

impl Namespaces {
    /// Opens those that exist.
    pub(crate) fn open(spec: &[LinuxNamespace]) -> Result<Self, NamespaceError> {
        let mut all: Vec<SpecNamespace> = Vec::new();
        for namespace in spec {
            let kind = namespace.typ();
            if all.iter().any(|other| other.kind == kind) {
                return Err(NamespaceError::Twice(kind));
            }
            let path = namespace
                .path()
                .as_deref()
                .filter(|path| !path.as_os_str().is_empty());
            let existing = path.map(|path| open(kind, path)).transpose()?;
            all.push(SpecNamespace {
                kind,
                existing,
                entered: false,
            });
        }
        Ok(Self { all })
    }

    /// Whether the container has one of this kind that is not the runtime's.
    pub(crate) fn has(&self, kind: LinuxNamespaceType) -> bool {
        self.all.iter().any(|namespace| namespace.kind == kind)
    }

    /// Whether it gets a new one of this kind.
    pub(crate) fn is_new(&self, kind: LinuxNamespaceType) -> bool {
        self.all
            .iter()
            .any(|namespace| namespace.kind == kind && namespace.existing.is_none())
    }

    /// The existing one of this kind that it joins.
    pub(crate) fn existing(&self, kind: LinuxNamespaceType) -> Option<&File> {
        self.all
            .iter()
            .find(|namespace| namespace.kind == kind)
            .and_then(|namespace| namespace.existing.as_ref())
            .map(|(_, file)| file)
    }

    /// Joins each that exists, but for the user namespace and the mount namespace.
    pub(crate) fn join(&mut self, forbidden: IfForbidden) -> Result<(), NamespaceError> {
        use LinuxNamespaceType::{Mount, User};
        for namespace in &mut self.all {
            if !matches!(namespace.kind, User | Mount) {
                namespace.join(forbidden)?;
            }
        }
        Ok(())
    }

    /// Joins the one of this kind, or makes it, if the spec names one and it is not entered yet.
    pub(crate) fn enter(&mut self, kind: LinuxNamespaceType) -> Result<(), NamespaceError> {
        let Some(namespace) = self.all.iter_mut().find(|other| other.kind == kind) else {
            return Ok(());
        };
        if namespace.existing.is_some() {
            return namespace.join(IfForbidden::Fail);
        }
        unshare(flag(kind)).map_err(|source| NamespaceError::Make { kind, source })?;
        namespace.entered = true;
        Ok(())
    }
}

impl SpecNamespace {
    fn join(&mut self, forbidden: IfForbidden) -> Result<(), NamespaceError> {
        let Some((path, file)) = self.existing.as_ref().filter(|_| !self.entered) else {
            return Ok(());
        };
        match setns(file, flag(self.kind)) {
            Ok(()) => self.entered = true,
            Err(Errno::EPERM) if forbidden == IfForbidden::Skip => {}
            Err(source) => {
                return Err(NamespaceError::Join {
                    kind: self.kind,
                    path: path.clone(),
                    source,
                });
            }
        }
        Ok(())
    }
}

fn open(kind: LinuxNamespaceType, path: &Path) -> Result<(PathBuf, File), NamespaceError> {
    match File::open(path) {
        Ok(file) => Ok((path.to_owned(), file)),
        Err(source) => Err(NamespaceError::Open {
            kind,
            path: path.to_owned(),
            source,
        }),
    }
}

fn flag(kind: LinuxNamespaceType) -> CloneFlags {
    match kind {
        LinuxNamespaceType::Mount => CloneFlags::CLONE_NEWNS,
        LinuxNamespaceType::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        LinuxNamespaceType::Uts => CloneFlags::CLONE_NEWUTS,
        LinuxNamespaceType::Ipc => CloneFlags::CLONE_NEWIPC,
        LinuxNamespaceType::User => CloneFlags::CLONE_NEWUSER,
        LinuxNamespaceType::Pid => CloneFlags::CLONE_NEWPID,
        LinuxNamespaceType::Network => CloneFlags::CLONE_NEWNET,
        LinuxNamespaceType::Time => CLONE_NEWTIME,
    }
}
