//! From a create request to a container that waits for its start.
//!
//! Called by `service` on a thread that may block. The way of the data:
//! mounts → spec → plan → native code → the runner → an init process. Whatever fails, all that was
//! done is undone.
#![forbid(unsafe_code)]

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use containerd_shim_protos::api::Mount;
use log::{debug, info, warn};
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use wasm_interp_artifact::{Artifact, Origin, Progress, Store, StoreConfig, cache_dir};
use wasm_interp_runner::client::{Creation, Runner, Workload};
use wasm_interp_snapshot::{mount_all, unmount_all};
use wasm_interp_workload::{self as workload, Kind, Plan, Policy, RootfsView, Work, with_causes};

use crate::bundle::Bundle;
use crate::cgroup::{self, Cgroup};
use crate::error::Error;
use crate::exits::{Exits, Hold, Init};
use crate::stdio::{Held, Names, Stdio};
use crate::termination_log::TerminationLog;

/// The program that compiles, beside ours.
const COMPILER: &str = "wasm-interp";

/// What all containers of this shim have in common.
pub(crate) struct Launcher {
    namespace: String,
    runner: Runner,
    exits: Exits,
    compiler: PathBuf,
    store: OnceLock<Store>,
}

/// One create request.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) id: String,
    pub(crate) bundle: Bundle,
    pub(crate) rootfs: Vec<Mount>,
    pub(crate) names: Names,
}

/// A created container.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) init: Init,
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) held: Held,
    pub(crate) termination_log: Option<TerminationLog>,
    /// Its memory limit in bytes.
    pub(crate) memory_limit: Option<i64>,
    /// Whether the kernel ends all its processes with the first one.
    pub(crate) pid_namespace: PidNamespace,
}

/// A container as the runner left it.
struct Made {
    init: Init,
    cgroup: Option<Cgroup>,
    termination_log: Option<TerminationLog>,
    memory_limit: Option<i64>,
    pid_namespace: PidNamespace,
}

/// Whose process numbers a container has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PidNamespace {
    /// Its own: with the init process all others die.
    Own,
    /// Another container's or the host's: others live on.
    Shared,
}

impl Launcher {
    pub(crate) fn new(namespace: &str, exits: Exits) -> Result<Self, Error> {
        let own = std::env::current_exe().map_err(Error::Locate)?;
        Ok(Self {
            namespace: namespace.to_owned(),
            runner: Runner::beside_current_exe()?,
            exits,
            compiler: own.with_file_name(COMPILER),
            store: OnceLock::new(),
        })
    }

    /// Creates the container. Gives up before it exists if `abandoned` becomes true meanwhile;
    /// compiling goes on by itself and serves the next one.
    pub(crate) fn create(&self, wish: &Wish, abandoned: &AtomicBool) -> Result<Launched, Error> {
        // First of all, so that a failure of any other step finds its reader.
        let stdio = Stdio::open(&wish.names)?;
        match self.create_or_leave_traces(wish, &stdio, abandoned) {
            Ok(made) => Ok(Launched {
                init: made.init,
                cgroup: made.cgroup,
                held: stdio.into_held(),
                termination_log: made.termination_log,
                memory_limit: made.memory_limit,
                pid_namespace: made.pid_namespace,
            }),
            Err(error) => {
                self.undo(wish);
                let reason = with_causes(&error);
                stdio.report(&reason);
                self.note_failure(wish, &reason);
                Err(error)
            }
        }
    }

    /// Lets the created container run.
    pub(crate) fn start(&self, id: &str, bundle: &Bundle) -> Result<(), Error> {
        let _hold = self.exits.hold();
        Ok(step(id, "runner start", || {
            self.runner.start(id, &bundle.state())
        })?)
    }

    /// Removes a container and all that belongs to it, alive or dead.
    pub(crate) fn remove(&self, id: &str, bundle: &Bundle, end: End) -> Result<(), Error> {
        let _hold = self.exits.hold();
        let warnings = step(id, "delete", || remove(&self.runner, id, bundle, end))?;
        for warning in warnings {
            warn!(id, namespace = self.namespace.as_str(), warning = warning.as_str(); "removed, but");
        }
        Ok(())
    }

    fn create_or_leave_traces(
        &self,
        wish: &Wish,
        stdio: &Stdio,
        abandoned: &AtomicBool,
    ) -> Result<Made, Error> {
        let began = Instant::now();
        cgroup::expect_move();
        step(&wish.id, "mount", || {
            let mounts: Vec<_> = wish.rootfs.iter().map(described).collect();
            mount_all(&mounts, &wish.bundle.rootfs())
        })?;
        let spec = wish.bundle.spec()?;
        let root = wish.bundle.root_of(&spec);
        let (mut container, work, artifact) = match workload::kind(&spec) {
            Kind::Sandbox => (workload::sandbox_spec(&spec), Workload::Pause, None),
            Kind::Container => match decide(wish, &spec, &root)? {
                Work::Native(native) => {
                    let container = workload::native_spec(&spec, &native);
                    let native = Box::new(native);
                    (container, Workload::Native { native }, None)
                }
                Work::Wasm(plan, interpreter) => {
                    let artifact = self.compiled(wish, &plan, &interpreter)?;
                    let container = workload::container_spec(&spec, &plan);
                    (container, Workload::Wasm { plan }, Some(artifact))
                }
            },
        };
        if abandoned.load(Ordering::Acquire) {
            return Err(Error::Abandoned {
                id: wish.id.clone(),
            });
        }
        absolute_root(&mut container, &root);
        wish.bundle.write_private(&container)?;
        let termination_log = self.termination_log(&wish.id, &spec);
        let hold = self.exits.hold();
        let pid = step(&wish.id, "runner create", || {
            self.runner.create(&Creation {
                id: &wish.id,
                bundle: &wish.bundle.private(),
                state: &wish.bundle.state(),
                workload: &work,
                artifact: artifact.as_ref().map(|artifact| artifact.file.as_fd()),
                reasons: termination_log.as_ref().map(AsFd::as_fd),
                stdio: stdio.guest(),
            })
        })?;
        let made = self.adopt(wish, &hold, pid, &spec, termination_log)?;
        self.tell_of_selinux(&wish.id, &spec);
        self.tell(wish, pid, &work, artifact.as_ref(), began.elapsed());
        Ok(made)
    }

    /// libcontainer sets no label (its 0.7). A container is not refused for that: nodes with SELinux
    /// would run none.
    fn tell_of_selinux(&self, id: &str, spec: &Spec) {
        let label = spec
            .process()
            .as_ref()
            .and_then(|p| p.selinux_label().as_deref());
        if let Some(label) = label.filter(|label| !label.is_empty()) {
            let namespace = self.namespace.as_str();
            warn!(id, namespace, label; "runs without the SELinux label of its spec: labels are not supported");
        }
    }

    fn tell(
        &self,
        wish: &Wish,
        pid: i32,
        work: &Workload,
        artifact: Option<&Artifact>,
        took: Duration,
    ) {
        let (id, namespace) = (wish.id.as_str(), self.namespace.as_str());
        let seconds = took.as_secs_f64();
        match artifact {
            None => {
                let what = match work {
                    Workload::Native { .. } => "native program",
                    Workload::Pause | Workload::Wasm { .. } => "sandbox",
                };
                info!(id, namespace, pid, seconds; "created a {what}");
            }
            Some(Artifact { key, origin, .. }) => {
                let origin = match origin {
                    Origin::Cached => "cached",
                    Origin::Compiled { .. } => "compiled",
                    Origin::Uncached { .. } => "uncached",
                };
                info!(id, namespace, pid, key:%, origin, seconds; "created");
            }
        }
    }

    /// Why there is no container.
    fn note_failure(&self, wish: &Wish, reason: &str) {
        // A spec that cannot be read is the reason itself.
        let log = wish.bundle.spec().ok();
        if let Some(log) = log.and_then(|spec| self.termination_log(&wish.id, &spec))
            && let Err(error) = log.note(reason)
        {
            warn!(id = wish.id.as_str(), error:%; "cannot note why it was not created");
        }
    }

    /// A pod runs without one too.
    fn termination_log(&self, id: &str, spec: &Spec) -> Option<TerminationLog> {
        TerminationLog::of(spec).unwrap_or_else(|error| {
            let namespace = self.namespace.as_str();
            warn!(id, namespace, error:%; "the reason of its end will not be noted");
            None
        })
    }

    /// Takes over an init process from its runner.
    fn adopt(
        &self,
        wish: &Wish,
        hold: &Hold,
        pid: i32,
        spec: &Spec,
        termination_log: Option<TerminationLog>,
    ) -> Result<Made, Error> {
        let init = self
            .exits
            .claim(hold, pid)
            .map_err(|source| Error::Process {
                act: "get hold of",
                id: wish.id.clone(),
                pid,
                source,
            })?;
        let adopted = Cgroup::of(pid).map_err(Error::from).and_then(|cgroup| {
            wish.bundle.write_pid(pid)?;
            Ok(cgroup)
        });
        match adopted {
            Ok(cgroup) => Ok(Made {
                init,
                cgroup,
                termination_log,
                memory_limit: memory_limit(spec),
                pid_namespace: pid_namespace(spec),
            }),
            Err(error) => {
                self.discard(wish, &init);
                Err(error)
            }
        }
    }

    /// Undoes a create that succeeded but that nobody waits for any more.
    pub(crate) fn abandon(&self, wish: &Wish, launched: &Launched) {
        self.discard(wish, &launched.init);
        self.undo(wish);
    }

    fn discard(&self, wish: &Wish, init: &Init) {
        if let Err(error) = init.signal(libc::SIGKILL) {
            // It may have ended by itself.
            info!(id = wish.id.as_str(), error:%; "cannot kill an abandoned init process");
        }
        init.exited_blocking();
    }

    fn undo(&self, wish: &Wish) {
        // The error that leads here is the one to tell; this one is for the log.
        if let Err(error) = self.remove(&wish.id, &wish.bundle, End::Force) {
            warn!(
                id = wish.id.as_str(), namespace = self.namespace.as_str(), error:%;
                "cannot remove all of a container that was not created"
            );
        }
    }

    fn compiled(&self, wish: &Wish, plan: &Plan, interpreter: &File) -> Result<Artifact, Error> {
        let store = self
            .store
            .get_or_init(|| Store::open(&cache_dir(), StoreConfig::default()));
        let name = plan.interpreter.path.as_str();
        // The store waits for what it starts, by pid.
        let _hold = self.exits.hold();
        let mut told = None;
        let mut on_progress = |progress: Progress| {
            // It says so several times a second.
            if told.replace(progress.stage) != Some(progress.stage) {
                info!(
                    id = wish.id.as_str(), namespace = self.namespace.as_str(), module = name,
                    stage:? = progress.stage;
                    "no native code in the cache yet"
                );
            }
        };
        let artifact = step(&wish.id, "native code", || {
            store.get(interpreter, name, &self.compiler, &mut on_progress)
        })?;
        if let Origin::Uncached { reason, .. } = &artifact.origin {
            warn!(
                id = wish.id.as_str(), namespace = self.namespace.as_str(), module = name,
                reason:%;
                "native code cannot be cached: every start compiles it again"
            );
        }
        Ok(artifact)
    }
}

/// What the container runs.
fn decide(wish: &Wish, spec: &Spec, root: &Path) -> Result<Work<File>, Error> {
    let policy = Policy::load(&workload::policy_file())?;
    Ok(step(&wish.id, "plan", || {
        let view = RootfsView::new(root, spec)?;
        workload::decide(spec, &policy, &view)
    })?)
}

/// Does one step of a container's way and logs how long it took; `make bench` adds them up.
fn step<T>(id: &str, step: &str, act: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = act();
    debug!(id, step, milliseconds = began.elapsed().as_secs_f64() * 1e3; "step done");
    done
}

/// Whether a container may still run when it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It has ended; if not, that is an error.
    Ended,
    /// Kill what runs.
    Force,
}

/// Removes a container's processes, cgroup, state, mounts and files. What is not there is removed.
/// All is tried; the first error is told. Returns what is worth a warning.
pub(crate) fn remove(
    runner: &Runner,
    id: &str,
    bundle: &Bundle,
    end: End,
) -> Result<Vec<String>, Error> {
    // Without a state there never was a runner, and a process less to start.
    let removed = if bundle.state().exists() {
        runner
            .delete(id, &bundle.state(), end == End::Force)
            .map_err(Error::from)
    } else {
        Ok(Vec::new())
    };
    let unmounted = unmount_all(&bundle.rootfs()).map_err(Error::from);
    let warnings = removed?;
    unmounted?;
    bundle.remove_own()?;
    Ok(warnings)
}

fn described(mount: &Mount) -> wasm_interp_snapshot::Mount {
    wasm_interp_snapshot::Mount {
        kind: mount.type_.clone(),
        source: mount.source.clone(),
        target: mount.target.clone(),
        options: mount.options.clone(),
    }
}

/// The runner's bundle is not containerd's: a relative root would mean another directory there.
fn absolute_root(spec: &mut Spec, path: &Path) {
    let mut root = spec.root().clone().unwrap_or_default();
    root.set_path(path.to_owned());
    spec.set_root(Some(root));
}

fn memory_limit(spec: &Spec) -> Option<i64> {
    let resources = spec.linux().as_ref()?.resources().as_ref()?;
    resources
        .memory()
        .as_ref()?
        .limit()
        .filter(|&limit| limit > 0)
}

fn pid_namespace(spec: &Spec) -> PidNamespace {
    let own = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.namespaces().as_ref())
        .into_iter()
        .flatten()
        .any(|namespace| namespace.typ() == LinuxNamespaceType::Pid && namespace.path().is_none());
    if own {
        PidNamespace::Own
    } else {
        PidNamespace::Shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &str) -> Spec {
        serde_json::from_str(json).expect("spec")
    }

    #[test]
    fn a_pid_namespace_with_a_path_is_somebody_elses() {
        for (namespaces, expected) in [
            (r#"[{"type":"pid"}]"#, PidNamespace::Own),
            (
                r#"[{"type":"pid","path":"/proc/1/ns/pid"}]"#,
                PidNamespace::Shared,
            ),
            (r#"[{"type":"mount"}]"#, PidNamespace::Shared),
        ] {
            let json = format!(r#"{{"ociVersion":"1.0.2","linux":{{"namespaces":{namespaces}}}}}"#);
            assert_eq!(pid_namespace(&spec(&json)), expected, "{namespaces}");
        }
        assert_eq!(
            pid_namespace(&spec(r#"{"ociVersion":"1.0.2"}"#)),
            PidNamespace::Shared
        );
    }

    #[test]
    fn the_root_keeps_its_rights_and_gets_its_place() {
        let mut spec = spec(r#"{"ociVersion":"1.0.2","root":{"path":"rootfs","readonly":true}}"#);
        absolute_root(&mut spec, Path::new("/b/rootfs"));
        let root = spec.root().as_ref().expect("root");
        assert_eq!(root.path(), Path::new("/b/rootfs"));
        assert_eq!(root.readonly(), Some(true));
    }
}
