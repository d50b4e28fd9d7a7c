//! Containers for the tests: a bundle in a temporary directory, a guest in WAT, the real runner.
//!
//! The test process is a subreaper, as the shim is, and so gets the exit status of every container
//! that it makes.

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, pipe},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use wasm_interp_runner::client::{Creation, Lifetime, Runner, RunnerError, Workload};
use wasm_interp_workload::{
    DirectoryRights, Found, Grant, GrantKind, Interpreter, Limits, Native, PLAN_VERSION, Plan,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Written to while the parents of cgroups are removed: libcontainer does not make a cgroup whose parent
/// vanishes meanwhile.
static PARENTS: RwLock<()> = RwLock::new(());

/// A container on its way from bundle to exit.
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) spec: Value,
    pub(crate) plan: Plan,
    pub(crate) lifetime: Lifetime,
    directory: TempDir,
    artifact: Option<fs::File>,
    native: Option<Native>,
    runner: Runner,
    /// Where the reason of its end is to be noted.
    pub(crate) reasons: Option<fs::File>,
    stdin: Option<OwnedFd>,
    pub(crate) pid: Option<i32>,
    output: PathBuf,
}

impl Container {
    /// A container whose guest is this WAT.
    pub(crate) fn of(guest: &str) -> Self {
        let wasm = wat::parse_str(guest).expect("the guest's WAT");
        let code = wasm_interp_artifact::compile::compile(&wasm).expect("compile the guest");
        Self::of_code(&code)
    }

    /// The same for a guest that the compiler would refuse.
    pub(crate) fn of_unchecked(guest: &str) -> Self {
        let wasm = wat::parse_str(guest).expect("the guest's WAT");
        let engine = wasm_interp_artifact::load::engine(1 << 20).expect("engine");
        Self::of_code(&engine.precompile_module(&wasm).expect("compile the guest"))
    }

    fn of_code(code: &[u8]) -> Self {
        let mut container = Self::pause();
        let path = container.directory.path().join("artifact");
        fs::write(&path, code).expect("write the artifact");
        container.artifact = Some(fs::File::open(path).expect("open the artifact"));
        container
    }

    /// A container whose first process is busybox, with this command line.
    pub(crate) fn native(args: &[&str]) -> Self {
        let mut container = Self::pause();
        let bin = container.root().join("bin");
        fs::create_dir(&bin).expect("make bin");
        for name in ["busybox", "sh"] {
            fs::copy(busybox(), bin.join(name)).expect("copy busybox");
        }
        for sub in ["proc", "sys"] {
            fs::create_dir(container.root().join(sub)).expect("make the root filesystem");
        }
        let proc = json!({ "destination": "/proc", "type": "proc", "source": "proc" });
        let mounts = container.spec["mounts"].as_array_mut().expect("mounts");
        mounts.insert(0, proc);
        container.native = Some(Native {
            interpreter: Interpreter {
                path: "/bin/busybox".into(),
                found: Found::ExactPath,
            },
            argv: args.iter().map(|&arg| arg.to_owned()).collect(),
            env: [("HOME", "/"), ("PATH", "/bin")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            cwd: "/".into(),
            cwd_exists: true,
        });
        container
    }

    /// What a native container runs.
    pub(crate) fn program(&mut self) -> &mut Native {
        self.native.as_mut().expect("a native container")
    }

    /// Has another runner make it.
    pub(crate) fn made_by(&mut self, runner: &Path) {
        self.runner = Runner::new(runner);
    }

    /// A pod sandbox.
    pub(crate) fn pause() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        nix::sys::prctl::set_child_subreaper(true).expect("become a subreaper");
        let id = format!(
            "runner-test-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let directory = tempfile::tempdir().expect("temporary directory");
        let root = directory.path().join("bundle/rootfs");
        for sub in ["dev", "tmp", "etc", "data"] {
            fs::create_dir_all(root.join(sub)).expect("make the root filesystem");
        }
        Self {
            spec: spec(&id),
            plan: plan(),
            lifetime: Lifetime::Own,
            output: directory.path().join("output"),
            id,
            directory,
            artifact: None,
            native: None,
            runner: runner(),
            reasons: None,
            stdin: None,
            pid: None,
        }
    }

    /// Name of its own for what lies above its cgroup.
    pub(crate) fn parent(&self) -> String {
        parent(&self.id)
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("bundle/rootfs")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.directory.path().join("bundle/runner")
    }

    pub(crate) fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Gives it a pipe for its standard input and returns the writing end.
    pub(crate) fn with_stdin(&mut self) -> OwnedFd {
        let (read, write) = pipe().expect("pipe");
        self.stdin = Some(read);
        write
    }

    pub(crate) fn create(&mut self) -> Result<i32, RunnerError> {
        let bundle = self.directory.path().join("bundle");
        fs::write(bundle.join("config.json"), self.spec.to_string()).expect("write the spec");
        let null = fs::File::open("/dev/null").expect("null");
        let output = fs::File::create(&self.output).expect("output");
        let stdin = self.stdin.take().unwrap_or_else(|| null.into());
        let workload = match (&self.artifact, &self.native) {
            (Some(_), _) => Workload::Wasm {
                plan: Box::new(self.plan.clone()),
            },
            (None, Some(native)) => Workload::Native {
                native: Box::new(native.clone()),
            },
            (None, None) => Workload::Pause,
        };
        let _parents_stay = PARENTS.read().unwrap_or_else(PoisonError::into_inner);
        let pid = self
            .runner
            .clone()
            .with_lifetime(self.lifetime)
            .create(&Creation {
                id: &self.id,
                bundle: &bundle,
                state: &self.state(),
                workload: &workload,
                artifact: self.artifact.as_ref().map(AsFd::as_fd),
                reasons: self.reasons.as_ref().map(AsFd::as_fd),
                stdio: [stdin.as_fd(), output.as_fd(), output.as_fd()],
            })?;
        self.pid = Some(pid);
        Ok(pid)
    }

    pub(crate) fn start(&self) -> Result<(), RunnerError> {
        runner().start(&self.id, &self.state())
    }

    pub(crate) fn delete(&self, force: bool) -> Result<Vec<String>, RunnerError> {
        runner().delete(&self.id, &self.state(), force)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.process(), signal).expect("signal the container");
    }

    pub(crate) fn process(&self) -> Pid {
        Pid::from_raw(self.pid.expect("created"))
    }

    /// Waits for the end of the container: its exit code, or 128 + the signal that killed it.
    pub(crate) fn wait(&self) -> i32 {
        wait(self.process())
            .unwrap_or_else(|| panic!("{} does not end:\n{}", self.id, self.output()))
    }

    /// Waits until the guest has written this.
    pub(crate) fn wait_for_output(&self, text: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.output().contains(text) {
            assert!(Instant::now() < end, "no {text:?} in {:?}", self.output());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// From create to delete: exit code and output.
    pub(crate) fn run(mut self) -> (i32, String) {
        self.create().expect("create");
        self.start().expect("start");
        let code = self.wait();
        self.delete(false).expect("delete");
        self.assert_nothing_left();
        (code, self.output())
    }

    /// No state, no cgroup, no mount.
    pub(crate) fn assert_nothing_left(&self) {
        assert!(!self.state().exists(), "state is left");
        assert_eq!(cgroups_named(&self.id), Vec::<PathBuf>::new());
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let directory = self.directory.path().display().to_string();
        assert!(!mounts.contains(&directory), "a mount is left");
    }
}

impl Drop for Container {
    /// Even a failed test leaves nothing.
    fn drop(&mut self) {
        let _ = runner().delete(&self.id, &self.state(), true);
        if let Some(pid) = self.pid {
            let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
        }
        remove_parents(&self.id);
    }
}

/// Removes what lies above the cgroup of the container: like any runtime, the runner leaves that to
/// whoever named it. On version 2 the slices are systemd's, which removes them once they are empty.
pub(crate) fn remove_parents(id: &str) {
    let _nobody_makes_one = PARENTS.write().unwrap_or_else(PoisonError::into_inner);
    let hierarchies: Vec<PathBuf> = if unified() {
        vec!["/sys/fs/cgroup".into()]
    } else {
        fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect()
    };
    let parent = parent(id);
    for hierarchy in hierarchies {
        for directory in [
            format!("{parent}.slice/{parent}-pod1.slice"),
            format!("{parent}.slice"),
            parent.clone(),
            // Made by a test where no systemd is; where it is, it is never empty.
            "system.slice".to_owned(),
        ] {
            let _ = fs::remove_dir(hierarchy.join(directory));
        }
    }
}

fn parent(id: &str) -> String {
    id.replace('-', "")
}

/// What `scripts/bootstrap busybox` has unpacked, or the environment names.
fn busybox() -> PathBuf {
    let cache = || {
        std::env::var_os("XDG_CACHE_HOME").map_or_else(
            || PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".cache"),
            PathBuf::from,
        )
    };
    let path = std::env::var_os("WASM_INTERP_TEST_BUSYBOX").map_or_else(
        || cache().join("wasm-interp/busybox/bin/busybox"),
        PathBuf::from,
    );
    assert!(
        path.exists(),
        "no {}: run scripts/bootstrap busybox",
        path.display()
    );
    path
}

pub(crate) fn runner() -> Runner {
    Runner::new(env!("CARGO_BIN_EXE_wasm-interp-runner"))
}

/// Waits for the end of a child: its exit code, or 128 + the signal that killed it; `None` if it
/// does not come.
pub(crate) fn wait(child: Pid) -> Option<i32> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)).expect("wait") {
            WaitStatus::Exited(_, code) => return Some(code),
            WaitStatus::Signaled(_, signal, _) => return Some(128 + signal as i32),
            _ => std::thread::sleep(Duration::from_millis(2)),
        }
    }
    None
}

/// The memory in KiB that a process shares with nobody, beyond what the loader writes into the
/// program's own pages: that is megabytes in a test's build and next to nothing in a release.
pub(crate) fn own_memory(pid: i32) -> u64 {
    let program = fs::read_link(format!("/proc/{pid}/exe")).expect("exe");
    let program = program.display().to_string();
    let mut counts = false;
    let mut kib = 0;
    for line in fs::read_to_string(format!("/proc/{pid}/smaps"))
        .expect("smaps")
        .lines()
    {
        let first = line.split_whitespace().next().unwrap_or_default();
        if let Some(size) = line.strip_prefix("Private_Dirty:") {
            let size: u64 = size
                .trim()
                .trim_end_matches(" kB")
                .parse()
                .expect("a number of KiB");
            kib += if counts { size } else { 0 };
        } else if !first.ends_with(':') {
            // The first line of a mapping, which ends with its file's path.
            counts = !line.ends_with(&program);
        }
    }
    kib
}

/// Whether this machine has the unified hierarchy.
pub(crate) fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// What a file of a container's cgroup says, whichever hierarchy has it.
pub(crate) fn cgroup_file(id: &str, file: &str) -> Option<String> {
    cgroups_named(id)
        .into_iter()
        .find_map(|cgroup| fs::read_to_string(cgroup.join(file)).ok())
        .map(|text| text.trim().to_owned())
}

/// Every directory in the host's cgroup hierarchies whose path holds `name`.
pub(crate) fn cgroups_named(name: &str) -> Vec<PathBuf> {
    fn walk(directory: &Path, name: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if !entry.file_type().is_ok_and(|t| t.is_dir()) {
                continue;
            }
            if entry.file_name().to_string_lossy().contains(name) {
                found.push(path);
            } else {
                walk(&path, name, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), name, &mut found);
    found
}

pub(crate) fn grant(path: &str, kind: GrantKind, rights: DirectoryRights) -> Grant {
    Grant {
        path: path.into(),
        kind,
        rights,
        source: "test".into(),
    }
}

fn plan() -> Plan {
    Plan {
        version: PLAN_VERSION,
        interpreter: Interpreter {
            path: "/usr/bin/guest.wasm".into(),
            found: Found::ExactPath,
        },
        argv: vec!["guest".into(), "argument".into()],
        env: vec![("KEY".into(), "value".into())],
        cwd: "/".into(),
        grants: vec![grant("/", GrantKind::Directory, DirectoryRights::ReadWrite)],
        withheld: vec![],
        tmp: None,
        limits: Limits {
            memory_bytes: None,
            stack_bytes: 1 << 20,
        },
    }
}

fn spec(id: &str) -> Value {
    json!({
        "ociVersion": "1.1.0",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["guest"],
            "env": ["HOME=/"],
            "cwd": "/",
            "capabilities": { "bounding": [], "effective": [], "permitted": [], "inheritable": [] },
        },
        "root": { "path": "rootfs" },
        "hostname": "test",
        "mounts": [{
            "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        }],
        "linux": {
            "cgroupsPath": format!("/{}/{id}", parent(id)),
            "namespaces": [
                { "type": "pid" }, { "type": "ipc" }, { "type": "uts" },
                { "type": "mount" }, { "type": "network" },
            ],
        },
    })
}
