//! The init process: makes the container around itself, then has libcontainer make it the process that
//! the spec describes.
//!
//! Forked by [`super::stage`]. It reports any failure to the runner and ends.
#![forbid(unsafe_code)]

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    rc::Rc,
};

use libcontainer::{
    container::ContainerStatus,
    hooks::run_hooks,
    notify_socket::NotifyListener,
    process::{
        args::{ContainerArgs, ContainerType},
        channel::{InitReceiver, MainSender},
        init::container_init_process,
    },
    syscall::syscall::SyscallType,
};
use nix::unistd::getpid;
use oci_spec::runtime::{Linux, LinuxNamespaceType, Spec};
use rustix::system::{setdomainname, sethostname};
use wasm_interp_runner_client::SessionKeyring;
use wasm_interp_workload::with_causes;

use super::ready::ReadyContainer;
use crate::{
    executor::InitProcess,
    keyring::{self, Searcher},
    report::{Report, Reporter},
    rootfs::{Arrivals, EnteredRootfs, RootAccess, Rootfs, cgroup_mount::OwnCgroup, parameters},
    sys, terminal,
};

/// Where the kernel shows SELinux, if it has it.
const SELINUX: &str = "/sys/fs/selinux";

/// The ends that the init process gets of the channels to the runner.
pub(super) struct InitEnds {
    pub(super) report: Reporter,
    pub(super) sender: MainSender,
    pub(super) answers: InitReceiver,
}

/// Becomes the container's process. Returns an exit code only if that fails.
pub(super) fn run(ready: &mut ReadyContainer<'_>, own: &OwnCgroup, mut ends: InitEnds) -> i32 {
    let Err(reason) = become_init(ready, own, &mut ends);
    // A report that cannot be sent means that the runner has ended.
    let _ = ends.report.report(&Report::Failed(reason));
    1
}

fn become_init(
    ready: &mut ReadyContainer<'_>,
    own: &OwnCgroup,
    ends: &mut InitEnds,
) -> Result<Infallible, String> {
    let highest =
        sys::highest_descriptor().map_err(|e| format!("cannot list the descriptors: {e}"))?;
    let arrivals = make(ready, own, &mut ends.report)?;
    let ReadyContainer {
        request,
        container,
        start,
        root,
        ..
    } = ready;
    container.set_status(ContainerStatus::Created);
    container.set_pid(getpid().as_raw());
    let mut init = request.init.clone();
    init.highest = highest;
    init.state = Some(Rc::new(container.state.clone()));
    init.arrivals = arrivals;
    let step = ProcessStep {
        id: request.id,
        spec: request.spec,
        rootfs: root.clone(),
        cgroup: request.cgroup.path.clone(),
        listener: start.clone(),
        program: init,
    };
    step.run(&mut ends.sender, &mut ends.answers)
}

/// What libcontainer makes of this process, which is in the container.
pub(super) struct ProcessStep<'a> {
    pub(super) id: &'a str,
    pub(super) spec: &'a Spec,
    pub(super) rootfs: PathBuf,
    /// The container's cgroup, which the stage has joined already.
    pub(super) cgroup: PathBuf,
    pub(super) listener: NotifyListener,
    pub(super) program: InitProcess,
}

impl ProcessStep<'_> {
    /// Becomes the process that the spec describes. Returns only a failure.
    pub(super) fn run(
        self,
        sender: &mut MainSender,
        answers: &mut InitReceiver,
    ) -> Result<Infallible, String> {
        // For libcontainer this process joins an existing container, so that it makes no part of the
        // container again.
        let args = ContainerArgs {
            container_type: ContainerType::TenantContainer { exec_notify_fd: -1 },
            syscall: SyscallType::Linux,
            spec: Rc::new(process_spec(self.spec)),
            rootfs: self.rootfs,
            console_socket: None,
            notify_listener: self.listener,
            preserve_fds: 0,
            container: None,
            user_ns_config: None,
            cgroup_config: libcgroups::common::CgroupConfig {
                cgroup_path: self.cgroup,
                systemd_cgroup: false,
                container_name: self.id.to_owned(),
            },
            detached: true,
            executor: Box::new(self.program),
            no_pivot: false,
            stdin: None,
            stdout: None,
            stderr: None,
            as_sibling: false,
            pid_file: None,
        };
        match container_init_process(&args, sender, answers) {
            Ok(()) => Err("its process ended without a program".to_owned()),
            Err(error) => Err(with_causes(&error)),
        }
    }
}

/// The spec without the namespaces, which this process is in already.
fn process_spec(spec: &Spec) -> Spec {
    let mut spec = spec.clone();
    let linux = spec.linux().clone().map(|mut linux: Linux| {
        linux.set_namespaces(None);
        linux.set_uid_mappings(None);
        linux.set_gid_mappings(None);
        linux
    });
    spec.set_linux(linux);
    spec
}

/// Makes the container around this process.
fn make(
    ready: &mut ReadyContainer<'_>,
    own: &OwnCgroup,
    report: &mut Reporter,
) -> Result<Arrivals, String> {
    let text = |error: &dyn std::error::Error| with_causes(error);
    let talk = |error: std::io::Error| format!("cannot report to the runner: {error}");
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Uts};
    for kind in [Uts, Ipc, Network, Cgroup, Mount] {
        ready.namespaces.enter(kind).map_err(|e| text(&e))?;
    }
    let spec = ready.request.spec;
    if ready.namespaces.is_new(Uts) {
        set_names(spec)?;
    }
    if ready.namespaces.is_new(Network) {
        // As runc: in a new network it is down.
        sys::set_loopback_up().map_err(|error| {
            format!("cannot set up the loopback device of the container's network: {error}")
        })?;
    }
    join_keyring(ready)?;

    let linux = spec.linux().as_ref().ok_or("the spec has no linux")?;
    let rootfs = rootfs(ready, linux);
    let assembled = rootfs.assemble(own).map_err(|e| text(&e))?;
    if let Some(parameters) = linux.sysctl() {
        parameters::set(parameters).map_err(|e| text(&e))?;
    }
    report.report(&Report::HooksDue).map_err(talk)?;
    report.wait().map_err(talk)?;
    run_create_hooks(ready)?;
    let EnteredRootfs { arrivals, pty } = rootfs.enter(assembled).map_err(|e| text(&e))?;
    // No process of the container holds the socket.
    let console = ready.request.console.take();
    if let (Some(pty), Some(socket)) = (pty, console) {
        let user = spec
            .process()
            .as_ref()
            .map_or(0, |process| process.user().uid());
        terminal::take(pty, user, &socket)
            .map_err(|e| format!("cannot use a terminal of the container's own: {e}"))?;
    }
    sys::take_null_of_the_container()
        .map_err(|e| format!("cannot open /dev/null of the container: {e}"))?;
    report.report(&Report::ContainerMade).map_err(talk)?;
    report.wait().map_err(talk)?;
    Ok(arrivals)
}

fn rootfs<'a>(ready: &'a ReadyContainer<'_>, linux: &'a Linux) -> Rootfs<'a> {
    let root = ready.request.spec.root().as_ref();
    let read_only = root.and_then(oci_spec::runtime::Root::readonly);
    Rootfs {
        root: &ready.root,
        access: match read_only {
            Some(true) => RootAccess::ReadOnly,
            _ => RootAccess::ReadWrite,
        },
        propagation: ready.propagation,
        mounts: &ready.mounts,
        devices: linux.devices().as_deref().unwrap_or_default(),
        nodes: (ready.request.devices, ready.node_method),
        streams: ready.request.init.streams,
        label: linux
            .mount_label()
            .as_deref()
            .filter(|label| !label.is_empty() && Path::new(SELINUX).exists()),
        read_only_paths: linux.readonly_paths().as_deref().unwrap_or_default(),
        masked_paths: linux.masked_paths().as_deref().unwrap_or_default(),
    }
}

/// Runs the createContainer hooks: in the container's namespaces, and with the host's files.
fn run_create_hooks(ready: &ReadyContainer<'_>) -> Result<(), String> {
    let hooks = ready.request.spec.hooks().as_ref();
    let Some(hooks) = hooks.and_then(|hooks| hooks.create_container().as_ref()) else {
        return Ok(());
    };
    let mut state = ready.container.state.clone();
    state.pid = Some(getpid().as_raw());
    run_hooks(Some(hooks), Some(&state), None, None, None).map_err(|error| {
        let reason = with_causes(&error);
        format!("cannot run the createContainer hook: {reason}")
    })
}

fn set_names(spec: &Spec) -> Result<(), String> {
    let failed = |what: &'static str, name: &str| {
        let name = name.to_owned();
        move |errno| {
            format!(
                "cannot set the {what} {name:?}: {}",
                std::io::Error::from(errno)
            )
        }
    };
    if let Some(name) = spec.hostname() {
        sethostname(name.as_bytes()).map_err(failed("host name", name))?;
    }
    if let Some(name) = spec.domainname() {
        setdomainname(name.as_bytes()).map_err(failed("domain name", name))?;
    }
    Ok(())
}

fn join_keyring(ready: &ReadyContainer<'_>) -> Result<(), String> {
    if ready.request.keyring == SessionKeyring::Callers {
        return Ok(());
    }
    let searcher = if ready.user_namespace.is_some() {
        Searcher::EveryUser
    } else {
        Searcher::Owner
    };
    let name = keyring::name(ready.request.id);
    keyring::join(&name, searcher).map_err(|e| {
        format!(
            "cannot make the session keyring {name}: {e}; if its user has too many keys, raise the \
             sysctls kernel.keys.maxkeys and kernel.keys.maxbytes"
        )
    })
}
