//! The parts of a spec that the shim acts on itself. Pure.
#![forbid(unsafe_code)]

use oci_spec::runtime::{LinuxMemory, LinuxNamespaceType, LinuxResources, Process, Spec};

/// Whose pid namespace a container is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PidNamespace {
    /// Its own: the kernel ends all its processes together with the init process.
    Own,
    /// Another container's or the host's: its other processes live on.
    Shared,
}

impl PidNamespace {
    pub(super) fn of(spec: &Spec) -> Self {
        let own = spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.namespaces().as_ref())
            .into_iter()
            .flatten()
            .any(|namespace| {
                namespace.typ() == LinuxNamespaceType::Pid && namespace.path().is_none()
            });
        if own { Self::Own } else { Self::Shared }
    }
}

/// The container's memory limit in bytes.
pub(super) fn memory_limit(spec: &Spec) -> Option<i64> {
    let resources = spec.linux().as_ref()?.resources().as_ref()?;
    resources
        .memory()
        .as_ref()?
        .limit()
        .filter(|&limit| limit > 0)
}

/// What an update of a container does to its memory limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NewMemoryLimit {
    /// In bytes.
    Bytes(u64),
    Removed,
}

impl NewMemoryLimit {
    pub(crate) fn bytes(self) -> Option<u64> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Removed => None,
        }
    }
}

/// The memory limit that an update sets, if it sets one. The runner writes `unified` last, so that it counts.
pub(crate) fn new_memory_limit(resources: &LinuxResources) -> Option<NewMemoryLimit> {
    let classic = resources.memory().as_ref().and_then(LinuxMemory::limit);
    let classic = classic.filter(|&limit| limit != 0).map(|limit| {
        // A negative limit means none.
        u64::try_from(limit).map_or(NewMemoryLimit::Removed, NewMemoryLimit::Bytes)
    });
    let unified = resources.unified().as_ref();
    let unified = unified.and_then(|files| match files.get("memory.max")?.trim() {
        "max" => Some(NewMemoryLimit::Removed),
        // The kernel refuses what is no number.
        text => text.parse().ok().map(NewMemoryLimit::Bytes),
    });
    unified.or(classic)
}

/// Whether the container's process is to have a terminal.
pub(super) fn has_terminal(spec: &Spec) -> bool {
    let process = spec.process().as_ref();
    process.and_then(Process::terminal).unwrap_or_default()
}

/// The columns and rows of the terminal, if the spec names them.
pub(super) fn console_size(spec: &Spec) -> Option<(u16, u16)> {
    let size = spec.process().as_ref()?.console_size()?;
    let size = (
        u16::try_from(size.width()).ok()?,
        u16::try_from(size.height()).ok()?,
    );
    Some(size).filter(|&size| size != (0, 0))
}

/// The SELinux label of the container's process.
pub(super) fn selinux_label(spec: &Spec) -> Option<&str> {
    let label = spec.process().as_ref()?.selinux_label().as_deref();
    label.filter(|label| !label.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &str) -> Spec {
        serde_json::from_str(json).expect("spec")
    }

    #[test]
    fn pid_namespace_is_the_containers_own_if_it_has_no_path() {
        for (namespaces, expected) in [
            (r#"[{"type":"pid"}]"#, PidNamespace::Own),
            (
                r#"[{"type":"pid","path":"/proc/1/ns/pid"}]"#,
                PidNamespace::Shared,
            ),
            (r#"[{"type":"mount"}]"#, PidNamespace::Shared),
        ] {
            let json = format!(r#"{{"ociVersion":"1.0.2","linux":{{"namespaces":{namespaces}}}}}"#);
            assert_eq!(PidNamespace::of(&spec(&json)), expected, "{namespaces}");
        }
        let without = spec(r#"{"ociVersion":"1.0.2"}"#);
        assert_eq!(PidNamespace::of(&without), PidNamespace::Shared);
    }
}
