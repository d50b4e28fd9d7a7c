//! Containers for the tests: a bundle in a temporary directory, a guest in WAT, the real runner.
//!
//! The test process is a subreaper, as the shim is, and so gets the exit status of every container
//! that it makes.

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
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
use wasm_interp_runner::client::{Runner, RunnerError, Workload};
use wasm_interp_workload::{
    DirectoryRights, Found, Grant, GrantKind, Interpreter, Limits, PLAN_VERSION, Plan,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A container on its way from bundle to exit.
pub struct Container {
    pub id: String,
    pub spec: Value,
    pub plan: Plan,
    directory: TempDir,
    artifact: Option<fs::File>,
    stdin: Option<OwnedFd>,
    pub pid: Option<i32>,
    output: PathBuf,
}

impl Container {
    /// A container whose guest is this WAT.
    pub fn of(guest: &str) -> Self {
        let mut container = Self::pause();
        let wasm = wat::parse_str(guest).expect("the guest's WAT");
        let code = wasm_interp_artifact::compile::compile(&wasm).expect("compile the guest");
        let path = container.directory.path().join("artifact");
        fs::write(&path, code).expect("write the artifact");
        container.artifact = Some(fs::File::open(path).expect("open the artifact"));
        container
    }

    /// A pod sandbox.
    pub fn pause() -> Self {
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
            output: directory.path().join("output"),
            id,
            directory,
            artifact: None,
            stdin: None,
            pid: None,
        }
    }

    pub fn root(&self) -> PathBuf {
        self.directory.path().join("bundle/rootfs")
    }

    pub fn state(&self) -> PathBuf {
        self.directory.path().join("bundle/runner")
    }

    pub fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Gives it a pipe for its standard input and returns the writing end.
    pub fn with_stdin(&mut self) -> OwnedFd {
        let (read, write) = pipe().expect("pipe");
        self.stdin = Some(read);
        write
    }

    pub fn create(&mut self) -> Result<i32, RunnerError> {
        let bundle = self.directory.path().join("bundle");
        fs::write(bundle.join("config.json"), self.spec.to_string()).expect("write the spec");
        let null = fs::File::open("/dev/null").expect("null");
        let output = fs::File::create(&self.output).expect("output");
        let stdin = self.stdin.take().unwrap_or_else(|| null.into());
        let workload = match self.artifact {
            Some(_) => Workload::Wasm {
                plan: Box::new(self.plan.clone()),
            },
            None => Workload::Pause,
        };
        let pid = runner().create(
            &self.id,
            &bundle,
            &self.state(),
            &workload,
            self.artifact.as_ref().map(AsFd::as_fd),
            [stdin.as_fd(), output.as_fd(), output.as_fd()],
        )?;
        self.pid = Some(pid);
        Ok(pid)
    }

    pub fn start(&self) -> Result<(), RunnerError> {
        runner().start(&self.id, &self.state())
    }

    pub fn delete(&self, force: bool) -> Result<(), RunnerError> {
        runner().delete(&self.id, &self.state(), force)
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.process(), signal).expect("signal the container");
    }

    pub fn process(&self) -> Pid {
        Pid::from_raw(self.pid.expect("created"))
    }

    /// Waits for the end of the container: its exit code, or 128 + the signal that killed it.
    pub fn wait(&self) -> i32 {
        let end = Instant::now() + PATIENCE;
        loop {
            match waitpid(self.process(), Some(WaitPidFlag::WNOHANG)).expect("wait") {
                WaitStatus::Exited(_, code) => return code,
                WaitStatus::Signaled(_, signal, _) => return 128 + signal as i32,
                _ if Instant::now() > end => panic!("{} does not end:\n{}", self.id, self.output()),
                _ => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// Waits until the guest has written this.
    pub fn wait_for_output(&self, text: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.output().contains(text) {
            assert!(Instant::now() < end, "no {text:?} in {:?}", self.output());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// From create to delete: exit code and output.
    pub fn run(mut self) -> (i32, String) {
        self.create().expect("create");
        self.start().expect("start");
        let code = self.wait();
        self.delete(false).expect("delete");
        self.assert_nothing_left();
        (code, self.output())
    }

    /// No state, no cgroup, no mount.
    pub fn assert_nothing_left(&self) {
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
        // Like any runtime, the runner leaves the parents of a cgroup to whoever named them.
        for hierarchy in fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
        {
            for parent in [
                "runnertest.slice/runnertest-pod1.slice",
                "runnertest.slice",
                "runner-test",
            ] {
                // Fails as long as another test's container is in there.
                let _ = fs::remove_dir(hierarchy.path().join(parent));
            }
        }
    }
}

pub fn runner() -> Runner {
    Runner::new(env!("CARGO_BIN_EXE_wasm-interp-runner"))
}

/// Every directory in the host's cgroup hierarchies whose path holds `name`.
pub fn cgroups_named(name: &str) -> Vec<PathBuf> {
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

pub fn grant(path: &str, kind: GrantKind, rights: DirectoryRights) -> Grant {
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
            "cgroupsPath": format!("/runner-test/{id}"),
            "namespaces": [
                { "type": "pid" }, { "type": "ipc" }, { "type": "uts" },
                { "type": "mount" }, { "type": "network" },
            ],
        },
    })
}
