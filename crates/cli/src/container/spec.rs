//! Makes the OCI spec of a container from a directory, and changes specs. The defaults are those of
//! containerd, without what a Wasm guest does not need.

use std::path::Path;

use oci_spec::runtime::{
    Linux, LinuxCapabilities, LinuxNamespace, LinuxNamespaceType, Mount, Process, Root, Spec,
};
use wasm_interp_workload::CRI_CONTAINER_NAME;

/// Namespaces of the container: it shares none with the host.
const NAMESPACES: [LinuxNamespaceType; 5] = [
    LinuxNamespaceType::Pid,
    LinuxNamespaceType::Ipc,
    LinuxNamespaceType::Uts,
    LinuxNamespaceType::Mount,
    LinuxNamespaceType::Network,
];

/// Paths of /proc and /sys that reveal or change the state of the node.
const MASKED: [&str; 9] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The default spec of a root filesystem.
pub(super) fn of_rootfs() -> Spec {
    let none = LinuxCapabilities::default;
    let mut capabilities = none();
    capabilities
        .set_bounding(Some(Default::default()))
        .set_effective(Some(Default::default()))
        .set_inheritable(Some(Default::default()))
        .set_permitted(Some(Default::default()))
        .set_ambient(Some(Default::default()));
    let mut process = Process::default();
    process
        .set_terminal(Some(false))
        .set_args(None)
        .set_env(None)
        .set_cwd("/".into())
        .set_capabilities(Some(capabilities))
        .set_rlimits(None)
        .set_no_new_privileges(Some(true));
    let namespaces = NAMESPACES.map(|typ| {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(typ);
        namespace
    });
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces.to_vec()))
        .set_resources(None)
        .set_masked_paths(None)
        .set_readonly_paths(None);
    let mut root = Root::default();
    root.set_readonly(Some(false));
    let mut spec = Spec::default();
    spec.set_root(Some(root))
        .set_process(Some(process))
        .set_mounts(Some(vec![
            tmpfs(
                "/dev",
                &["nosuid", "strictatime", "mode=755", "size=65536k"],
            ),
            tmpfs(
                "/dev/shm",
                &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
            ),
        ]))
        .set_hostname(Some("wasm-interp".to_owned()))
        .set_linux(Some(linux));
    spec
}

/// Adds what a native program needs besides [`of_rootfs`]: the kernel's file systems, with the same
/// paths masked as in containerd.
pub(crate) fn add_kernel_file_systems(spec: &mut Spec) {
    let mut mounts = vec![
        mount("proc", "/proc", &["nosuid", "noexec", "nodev"]),
        mount("sysfs", "/sys", &["nosuid", "noexec", "nodev", "ro"]),
    ];
    mounts.extend(spec.mounts().clone().unwrap_or_default());
    spec.set_mounts(Some(mounts));
    let paths = |paths: &[&str]| Some(paths.iter().map(|&path| path.to_owned()).collect());
    let mut linux = spec.linux().clone().unwrap_or_default();
    linux.set_masked_paths(paths(&MASKED));
    linux.set_readonly_paths(paths(&READ_ONLY));
    spec.set_linux(Some(linux));
}

fn tmpfs(destination: &str, options: &[&str]) -> Mount {
    mount("tmpfs", destination, options)
}

pub(super) fn mount(typ: &str, destination: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(destination.into())
        .set_typ(Some(typ.to_owned()))
        .set_source(Some(typ.into()))
        .set_options(Some(
            options.iter().map(|&option| option.to_owned()).collect(),
        ));
    mount
}

/// Sets an annotation, also where the spec has a value for this container of a pod alone.
pub(super) fn annotate(spec: &mut Spec, key: &str, value: &str) {
    let mut annotations = spec.annotations().clone().unwrap_or_default();
    if let Some(container) = annotations.get(CRI_CONTAINER_NAME) {
        annotations.remove(&format!("{key}.{container}"));
    }
    annotations.insert(key.to_owned(), value.to_owned());
    spec.set_annotations(Some(annotations));
}

/// Tells the container the type of its terminal, unless its environment has one.
pub(crate) fn set_terminal_type(spec: &mut Spec, term: &str) {
    let mut process = spec.process().clone().unwrap_or_default();
    let mut env = process.env().clone().unwrap_or_default();
    if !env.iter().any(|variable| variable.starts_with("TERM=")) {
        env.push(format!("TERM={term}"));
    }
    process.set_env(Some(env));
    spec.set_process(Some(process));
}

/// Sets the root filesystem to an absolute path, because the spec moves to another bundle.
pub(super) fn set_root(spec: &mut Spec, rootfs: &Path, read_only: bool) {
    let mut root = spec.root().clone().unwrap_or_default();
    root.set_path(rootfs.to_owned());
    if read_only {
        root.set_readonly(Some(true));
    }
    spec.set_root(Some(root));
}

/// Puts the container into a new cgroup directly beneath the root, so that no other cgroup changes.
pub(crate) fn set_cgroup(spec: &mut Spec, id: &str) {
    let mut linux = spec.linux().clone().unwrap_or_default();
    linux.set_cgroups_path(Some(format!("/{id}").into()));
    spec.set_linux(Some(linux));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_type_of_the_environment_goes_before_the_callers() {
        let env_with = |env: Option<&[&str]>| {
            let env = env.map(|env| env.iter().map(|&entry| entry.to_owned()).collect());
            let mut process = Process::default();
            process.set_env(env);
            let mut spec = of_rootfs();
            spec.set_process(Some(process));
            set_terminal_type(&mut spec, "tmux");
            spec.process().clone().unwrap().env().clone().unwrap()
        };
        assert_eq!(env_with(None), ["TERM=tmux"]);
        let named = ["PATH=/bin", "TERMINFO=/x"];
        assert_eq!(
            env_with(Some(&named)),
            ["PATH=/bin", "TERMINFO=/x", "TERM=tmux"]
        );
        assert_eq!(env_with(Some(&["TERM=xterm"])), ["TERM=xterm"]);
        assert_eq!(env_with(Some(&["TERM="])), ["TERM="]);
    }
}
