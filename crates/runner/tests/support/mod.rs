//! Containers for the tests: a bundle in a temporary directory, a guest in WAT, the real runner.
//!
//! The test process is a subreaper, as the shim is, and so gets the exit status of every container
//! that it makes.

pub(crate) mod cgroups;
mod guard;
pub(crate) mod network;
mod programs;
mod terminal;

use std::{
    fs,
    io::Write,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use nix::{
    fcntl::OFlag,
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, pipe2},
};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::process::{PidfdFlags, pidfd_open};
use serde_json::{Value, json};
use tempfile::TempDir;
use wasm_interp_runner_client::{
    Creation, Execution, GuestPlace, InitRef, InitRuns, Lifetime, Runner, RunnerError,
    SessionKeyring, SharedCeiling, Workload,
};
use wasm_interp_test_support::executables;
use wasm_interp_workload::{
    FoundBy, Grant, GrantKind, GuestKind, GuestLimits, Interpreter, MountAccess, NativePlan,
    Network, PLAN_VERSION, Plan, exec_spec,
};

use self::{
    cgroups::{PARENTS, parent},
    programs::busybox,
};
pub(crate) use self::{
    cgroups::{cgroups_named, remove_parents},
    programs::runner,
    terminal::TestTerminal,
};

/// Far more than anything takes on a busy machine: what has not happened by then never does.
const PATIENCE: Duration = Duration::from_secs(180);

/// Whether a container is removed if the test process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterKill {
    Remove,
    /// For a test of what happens to it otherwise.
    Leave,
}

/// A container on its way from bundle to exit.
pub(crate) struct TestContainer {
    pub(crate) id: String,
    pub(crate) spec: Value,
    pub(crate) plan: Plan,
    pub(crate) lifetime: Lifetime,
    pub(crate) after_kill: AfterKill,
    directory: TempDir,
    artifact: Option<fs::File>,
    native: Option<NativePlan>,
    runner: Runner,
    /// Its termination log.
    pub(crate) reasons: Option<fs::File>,
    /// Where the guest's process writes what it refuses the guest.
    pub(crate) refusals: Option<OwnedFd>,
    /// What the guest's memory may come to, while it runs.
    pub(crate) ceiling: Option<SharedCeiling>,
    pub(crate) keyring: SessionKeyring,
    /// In place of its streams.
    pub(crate) terminal: Option<TestTerminal>,
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) pid: Option<i32>,
    /// Parts of its spec that it does not get.
    pub(crate) warnings: Vec<String>,
    output: PathBuf,
}

impl TestContainer {
    /// A container whose guest is this WAT.
    pub(crate) fn of(guest: &str) -> Self {
        let wasm = wat::parse_str(guest).expect("the guest's WAT");
        let code = wasm_interp_compiler::compile(&wasm).expect("compile the guest");
        Self::of_code(&code)
    }

    /// The same for a guest that the compiler would refuse.
    pub(crate) fn of_unchecked(guest: &str) -> Self {
        let wasm = wat::parse_str(guest).expect("the guest's WAT");
        let engine = wasm_interp_artifact::load::engine(1 << 20).expect("engine");
        Self::of_code(&engine.precompile_module(&wasm).expect("compile the guest"))
    }

    /// A container whose guest is this native code, as a store would hand it out.
    pub(crate) fn of_code(code: &[u8]) -> Self {
        let mut container = Self::pause();
        let path = container.artifact_path();
        fs::write(&path, code).expect("write the artifact");
        container.artifact = Some(fs::File::open(path).expect("open the artifact"));
        container
    }

    /// Where the native code of its guest is, for others to open.
    pub(crate) fn artifact_path(&self) -> PathBuf {
        self.directory.path().join("artifact")
    }

    /// Has its native code in sealed memory instead, as where there is no store.
    pub(crate) fn keep_code_in_memory(&mut self) {
        self.keep_code_in_writable_memory();
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        let memory = self.artifact.as_ref().expect("just made");
        fcntl_add_seals(memory, seals).expect("seal");
    }

    /// Has its native code in memory that can be written, which no store hands out.
    pub(crate) fn keep_code_in_writable_memory(&mut self) {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = memfd_create("wasm-interp-code", flags).expect("memory");
        let code = fs::read(self.artifact_path()).expect("read the artifact");
        let mut memory = fs::File::from(memory);
        memory.write_all(&code).expect("copy the artifact");
        self.artifact = Some(memory);
    }

    /// Closes its native code, as a shim does once it has created the container.
    pub(crate) fn give_up_artifact(&mut self) {
        self.artifact = None;
    }

    pub(crate) fn output_path(&self) -> &Path {
        &self.output
    }

    /// A container whose first process is busybox, with this command line.
    pub(crate) fn native(args: &[&str]) -> Self {
        let mut container = Self::pause();
        let bin = container.root().join("bin");
        fs::create_dir(&bin).expect("make bin");
        for name in ["busybox", "sh"] {
            executables::copy(&busybox(), &bin.join(name));
        }
        for sub in ["proc", "sys"] {
            fs::create_dir(container.root().join(sub)).expect("make the root filesystem");
        }
        let proc = json!({ "destination": "/proc", "type": "proc", "source": "proc" });
        let mounts = container.spec["mounts"].as_array_mut().expect("mounts");
        mounts.insert(0, proc);
        container.native = Some(NativePlan {
            interpreter: Interpreter {
                path: "/bin/busybox".into(),
                found: FoundBy::ExactPath,
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
    pub(crate) fn program(&mut self) -> &mut NativePlan {
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
            // All of one length: containers are found by their ids, of which none may be the beginning of another.
            "runner-test-{}-{:05}",
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
            after_kill: AfterKill::Remove,
            output: directory.path().join("output"),
            id,
            directory,
            artifact: None,
            native: None,
            runner: runner(),
            reasons: None,
            refusals: None,
            ceiling: None,
            terminal: None,
            keyring: SessionKeyring::Own,
            stdin: None,
            pid: None,
            warnings: Vec::new(),
        }
    }

    /// The name of the cgroups above its own, which no other container uses.
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

    /// Mounts what containerd mounts for terminals.
    pub(crate) fn with_devpts(&mut self) {
        let mounts = self.spec["mounts"].as_array_mut().expect("mounts");
        mounts.push(
            json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "mode=755", "size=65536k"] }),
        );
        mounts.push(
            json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] }),
        );
    }

    /// Gives it a terminal.
    pub(crate) fn on_a_terminal(&mut self) {
        self.spec["process"]["terminal"] = json!(true);
        self.terminal = Some(TestTerminal::open());
    }

    pub(crate) fn terminal(&mut self) -> &mut TestTerminal {
        self.terminal.as_mut().expect("it has a terminal")
    }

    /// Gives it a pipe for its standard input and returns the writing end.
    pub(crate) fn with_stdin(&mut self) -> OwnedFd {
        // The guard must not inherit the writing end: the reader would see no end of the stream.
        let (read, write) = pipe2(OFlag::O_CLOEXEC).expect("pipe");
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
        if self.after_kill == AfterKill::Remove {
            guard::watch(&self.id, &self.state(), self.directory.path());
        }
        let _parents_stay = PARENTS.read().unwrap_or_else(PoisonError::into_inner);
        let created = self.runner.clone().with_lifetime(self.lifetime).create(
            &Creation {
                id: &self.id,
                bundle: &bundle,
                state: &self.state(),
                workload: &workload,
                artifact: self.artifact.as_ref().map(AsFd::as_fd),
                reasons: self.reasons.as_ref().map(AsFd::as_fd),
                keyring: self.keyring,
                ceiling: self.ceiling.as_ref().map(AsFd::as_fd),
                console: self.terminal.as_ref().map(TestTerminal::socket),
                refusals: self.refusals.as_ref().map(AsFd::as_fd),
                stdio: match &self.terminal {
                    Some(terminal) => [terminal.slave(); 3],
                    None => [stdin.as_fd(), output.as_fd(), output.as_fd()],
                },
            },
            &mut |_| (),
        )?;
        self.pid = Some(created.pid);
        self.warnings = created.warnings;
        Ok(created.pid)
    }

    /// The process spec of a further process with these arguments: that of the init process otherwise.
    pub(crate) fn process_of(&self, args: &[&str]) -> Value {
        let mut process = self.spec["process"].clone();
        process["args"] = json!(args);
        process["env"] = json!(["HOME=/", "PATH=/bin"]);
        process
    }

    /// Runs a further process in it, whose output goes to this file. `Workload` says what it was planned to
    /// be.
    pub(crate) fn exec(
        &self,
        process: &Value,
        output: &fs::File,
    ) -> Result<(i32, Workload), RunnerError> {
        let null = fs::File::open("/dev/null").expect("null");
        self.exec_with(
            process,
            [null.as_fd(), output.as_fd(), output.as_fd()],
            None,
            None,
        )
    }

    /// Runs a further process in it on this terminal.
    pub(crate) fn exec_on(
        &self,
        process: &Value,
        terminal: &TestTerminal,
    ) -> Result<i32, RunnerError> {
        let socket = Some(terminal.socket());
        let (pid, _) = self.exec_with(process, [terminal.slave(); 3], socket, None)?;
        Ok(pid)
    }

    /// Runs a further process in it, with everything that the runner's client may pass.
    pub(crate) fn exec_with(
        &self,
        process: &Value,
        stdio: [BorrowedFd<'_>; 3],
        console: Option<BorrowedFd<'_>>,
        place: Option<&GuestPlace>,
    ) -> Result<(i32, Workload), RunnerError> {
        let config = self.spec.to_string();
        let (spec, _) = exec_spec(config.as_bytes(), process.to_string().as_bytes())
            .expect("the spec of a process");
        let pidfd = pidfd_open(
            rustix::process::Pid::from_raw(self.pid.expect("created")).expect("a number"),
            PidfdFlags::empty(),
        )
        .expect("pidfd");
        let init = InitRef {
            pid: self.pid.expect("created"),
            pidfd: pidfd.as_fd(),
        };
        let no_policy = self.directory.path().join("no policy");
        let planned = self
            .runner
            .plan(&self.id, &spec, &no_policy, init, &mut |_| ())?;
        let is_guest = matches!(planned.workload, Workload::Wasm { .. });
        assert_eq!(planned.module.is_some(), is_guest);
        let made = self.runner.exec(
            &Execution {
                id: &self.id,
                bundle: &self.directory.path().join("bundle"),
                state: &self.state(),
                spec: &spec,
                workload: &planned.workload,
                artifact: self.artifact.as_ref().map(AsFd::as_fd).filter(|_| is_guest),
                init,
                init_runs: match self.artifact {
                    Some(_) => InitRuns::Guest,
                    None => InitRuns::Other,
                },
                place,
                keyring: self.keyring,
                console,
                refusals: self.refusals.as_ref().map(AsFd::as_fd),
                stdio,
            },
            &mut |_| (),
        )?;
        Ok((made.pid, planned.workload))
    }

    pub(crate) fn start(&self) -> Result<(), RunnerError> {
        runner().start(&self.id, &self.state(), &mut |_| ())
    }

    /// Gives it new limits, as `linux.resources` of a spec has them.
    pub(crate) fn update(&self, resources: Value) -> Result<(), RunnerError> {
        let resources = serde_json::from_value(resources).expect("resources");
        runner().update(&self.id, &self.state(), &resources, &mut |_| ())
    }

    pub(crate) fn delete(&self, force: bool) -> Result<Vec<String>, RunnerError> {
        runner().delete(&self.id, &self.state(), force, &mut |_| ())
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

    /// The open descriptors of its first process.
    pub(crate) fn descriptors(&self) -> Vec<i32> {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.process())).expect("descriptors");
        let mut numbers: Vec<_> = entries
            .map(|entry| entry.expect("entry").file_name())
            .map(|name| name.to_str().and_then(|n| n.parse().ok()).expect("number"))
            .collect();
        numbers.sort_unstable();
        numbers
    }

    /// Waits until its first process holds no more than so many descriptors.
    pub(crate) fn wait_for_descriptors(&self, most: usize) {
        wait_until(&format!("at most {most} descriptors are open"), || {
            self.descriptors().len() <= most
        });
    }

    /// Waits until its first process sleeps and has ceased to open and close descriptors: what it waits for is its start.
    pub(crate) fn wait_until_settled(&self) {
        let stat = format!("/proc/{}/stat", self.process());
        let sleeps = || {
            let stat = fs::read_to_string(&stat).expect("stat");
            // The name before it may hold anything.
            stat.rsplit_once(") ").expect("state").1.starts_with('S')
        };
        wait_until("the first process waits for its start", || {
            let before = self.descriptors();
            sleeps() && self.descriptors() == before && sleeps()
        });
    }

    /// Waits until the guest has written this.
    pub(crate) fn wait_for_output(&self, text: &str) {
        wait_until(&format!("it has written {text:?}"), || {
            self.output().contains(text)
        });
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

impl Drop for TestContainer {
    /// A failed test leaves nothing either.
    fn drop(&mut self) {
        let _ = runner().delete(&self.id, &self.state(), true, &mut |_| ());
        if let Some(pid) = self.pid {
            let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
        }
        remove_parents(&self.id);
        if self.after_kill == AfterKill::Remove {
            guard::forget(&self.id);
        }
    }
}

/// Waits until `is_done`, but not for ever.
pub(crate) fn wait_until(what: &str, is_done: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_done() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
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

/// The memory in KiB that a process shares with no other, without what the loader writes into the
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

pub(crate) fn grant(path: &str, kind: GrantKind, access: MountAccess) -> Grant {
    Grant {
        path: path.into(),
        kind,
        access,
        source: "test".into(),
    }
}

fn plan() -> Plan {
    Plan {
        version: PLAN_VERSION,
        interpreter: Interpreter {
            path: "/usr/bin/guest.wasm".into(),
            found: FoundBy::ExactPath,
        },
        kind: GuestKind::Module,
        argv: vec!["guest".into(), "argument".into()],
        env: vec![("KEY".into(), "value".into())],
        cwd: "/".into(),
        grants: vec![grant("/", GrantKind::Directory, MountAccess::Writable)],
        network: Network::none(),
        withheld: vec![],
        tmp: None,
        limits: GuestLimits {
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

/// The value of a line of /proc/PID/status.
pub(crate) fn status<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .unwrap_or_else(|| panic!("no {name} in {text}"))
        .trim()
}
